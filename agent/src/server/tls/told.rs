//! What people should hear of the listener's certificates: their end, before it comes, and files that are no good.

use std::sync::PoisonError;
use std::time::Duration;

use async_trait::async_trait;
use genesis_proto::v1::Condition as Word;

use super::Tls;
use super::rpc::judge;
use crate::error::{Result, Unmet};
use crate::events::{Condition, Severity, Source};

/// Who replaces a certificate and its key does so one after the other. What does not fit together for so long is no moment
/// between the two.
const SWAP: Duration = Duration::from_secs(10);

/// Files that are not in force.
#[derive(Debug, Clone)]
pub(super) struct Fault {
    /// Why not.
    pub(super) unmet: Unmet,
    /// Since when for that reason, by monotonic time.
    pub(super) since: Duration,
}

impl Fault {
    /// Whether people hear of it at `now`, by monotonic time.
    fn is_told(&self, now: Duration) -> bool {
        self.unmet.code != "TLS_KEY_MISMATCH" || now.saturating_sub(self.since) >= SWAP
    }
}

#[async_trait]
impl Source for Tls {
    fn name(&self) -> &'static str {
        "pki"
    }

    async fn conditions(&self) -> Result<Vec<Condition>> {
        let now = self.clock.now();
        let mut found: Vec<(Severity, Unmet)> = Vec::new();
        {
            let fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
            let told = fault.as_ref().filter(|fault| fault.is_told(self.clock.monotonic()));
            found.extend(told.map(|fault| (Severity::Critical, fault.unmet.clone())));
        }
        for item in self.material().iter().flat_map(|material| &material.items) {
            let (word, unmet) = judge(item, self.files().managed.is_some(), now);
            let severity = match word {
                Word::Critical => Severity::Critical,
                _ => Severity::Medium,
            };
            found.extend(unmet.map(|unmet| (severity, unmet)));
        }
        let conditions = found.into_iter().map(|(severity, unmet)| Condition {
            key: format!("pki/{}/{}", unmet.code, unmet.subject),
            subject: unmet.subject,
            severity,
            title: unmet.message,
            details: vec![unmet.code.to_owned(), "genesisctl pki list".to_owned()],
            runbook: "alerts".to_owned(),
            since: now,
            behind: Vec::new(),
        });
        Ok(conditions.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_between_two_files_is_not_told_and_what_stays_is() {
        let seconds = Duration::from_secs;
        for (code, at, told) in [
            ("TLS_KEY_MISMATCH", 100, false),
            ("TLS_KEY_MISMATCH", 109, false),
            ("TLS_KEY_MISMATCH", 110, true),
            // Monotonic time never goes back; if it did, nothing would be told too soon.
            ("TLS_KEY_MISMATCH", 7, false),
            ("TLS_FILE_INVALID", 100, true),
            ("TLS_KEY_OPEN_TO_OTHERS", 100, true),
        ] {
            let unmet = Unmet { code, subject: String::new(), message: String::new() };
            let fault = Fault { unmet, since: seconds(100) };
            assert_eq!(fault.is_told(seconds(at)), told, "{code} {at}");
        }
    }
}
