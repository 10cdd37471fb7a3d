//! What people should hear of the fleet.

use std::time::Duration;

use async_trait::async_trait;

use super::{Fleet, Standing};
use crate::error::Result;
use crate::events::{Condition, Severity, Source};

/// People are called only when the fleet has not been told of an emergency for so long: the others are waited for that long
/// anyhow.
const UNTOLD: Duration = Duration::from_secs(3);

/// The page of the runbook.
const RUNBOOK: &str = "fleet";

#[async_trait]
impl Source for Fleet {
    fn name(&self) -> &'static str {
        "fleet"
    }

    async fn conditions(&self) -> Result<Vec<Condition>> {
        let standing = self.standing();
        let (since, trouble, twins) = {
            let now = self.now();
            (now.since, now.trouble.clone(), now.twins.clone())
        };
        let condition = |key: &str, severity, title: String, details| Condition {
            key: format!("fleet/{key}"),
            subject: self.config.name.clone(),
            severity,
            title,
            details,
            runbook: RUNBOOK.to_owned(),
            since,
            behind: Vec::new(),
        };
        let mut told = Vec::new();
        if let Standing::Lost(_) = standing {
            told.push(condition(
                "lost",
                Severity::High,
                format!("this host has lost fleet {}: etcd does not answer", self.config.name),
                vec![
                    trouble,
                    "an emergency of the fleet does not reach it, and what only one host may do waits".to_owned(),
                ],
            ));
        }
        if let Some(twin) = twins.first() {
            let names: Vec<String> = twins
                .iter()
                .map(|it| format!("{} at {} since {}", it.host, it.node, it.since))
                .collect();
            told.push(condition(
                "identity",
                Severity::Critical,
                format!("{} and {} have one identity", self.me.host, twin.host),
                vec![format!("{} is also that of {}", self.me.host_id, names.join(", "))],
            ));
        }
        if let Some((wrong, since)) = self.head_wrong() {
            let title = "the operation log is not what the fleet knows of it".to_owned();
            let details = vec![
                wrong,
                "genesisctl oplog verify".to_owned(),
                "genesisctl oplog accept-head --reason ... where an older state was put back on purpose".to_owned(),
            ];
            let about = condition("head", Severity::Critical, title, details);
            told.push(Condition { since, ..about });
        }
        if let Some(why) = self.full() {
            told.push(condition(
                "full",
                Severity::High,
                format!("the etcd of fleet {} takes no changes", self.config.name),
                vec![why, "make room there, or raise its quota".to_owned()],
            ));
        }
        if self.untold_for_long() {
            let record = self.emergency.current();
            let untold = condition(
                "emergency",
                Severity::Critical,
                "the fleet has not been told of the emergency of this host".to_owned(),
                vec!["it is told as soon as etcd answers; tell the others yourself".to_owned()],
            );
            told.push(Condition { since: record.map_or(since, |record| record.since), ..untold });
        }
        Ok(told)
    }
}

impl Fleet {
    /// The emergency in force here is to be the fleet's, which has not been told yet.
    pub fn emergency_untold(&self) -> bool {
        let record = self.emergency.current().filter(|record| record.active());
        record.and_then(|record| record.fleet).is_some_and(|mark| !mark.told)
    }

    /// The same, for longer than telling it takes.
    fn untold_for_long(&self) -> bool {
        let (untold, at) = (self.emergency_untold(), self.clock.monotonic());
        let mut now = self.now();
        now.untold = if untold { now.untold.or(Some(at)) } else { None };
        now.untold.is_some_and(|since| at.saturating_sub(since) >= UNTOLD)
    }

    /// The names of those that live under this host's identity besides it.
    pub fn twins(&self) -> Vec<String> {
        self.now().twins.iter().map(|it| it.host.clone()).collect()
    }

    /// Shows how it stands for ever: in the metrics, and to people when it changes.
    pub async fn watch_standing(self: std::sync::Arc<Self>) {
        let (mut before, mut told) = (None, false);
        loop {
            let standing = self.standing();
            self.metrics.show(standing);
            if before.replace(standing.name()) != Some(standing.name()) {
                self.now().since = self.clock.now();
                self.bell.ring();
                tracing::info!(
                    standing = standing.name(),
                    fleet = self.config.name,
                    "how this host stands to its fleet"
                );
            }
            let untold = self.untold_for_long();
            if std::mem::replace(&mut told, untold) != untold {
                self.bell.ring();
            }
            self.clock.tick(Duration::from_secs(1)).await;
        }
    }
}
