//! What people should hear of the listener's certificates: their end, before it comes.

use async_trait::async_trait;
use genesis_proto::v1::Condition as Word;

use super::Tls;
use super::rpc::judge;
use crate::error::{Result, Unmet};
use crate::events::{Condition, Severity, Source};

#[async_trait]
impl Source for Tls {
    fn name(&self) -> &'static str {
        "pki"
    }

    async fn conditions(&self) -> Result<Vec<Condition>> {
        let now = self.clock.now();
        let mut found: Vec<(Severity, Unmet)> = Vec::new();
        found.extend(self.fault().map(|fault| (Severity::Critical, fault)));
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
