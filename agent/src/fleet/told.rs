//! What people should hear of the fleet.

use std::time::Duration;

use async_trait::async_trait;
use genesis_proto::v1;

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

    /// A domain of its own where a fleet is configured.
    pub fn domain_status(&self) -> Option<v1::DomainStatus> {
        let standing = self.standing();
        let finding = |code: &str, message: String| v1::Finding {
            code: code.into(),
            subject: self.config.name.clone(),
            message,
        };
        let (mut condition, mut findings) = (v1::Condition::Ok, Vec::new());
        let trouble = self.trouble();
        match standing {
            Standing::Alone => return None,
            Standing::Connected => {}
            Standing::Stale(age) => {
                condition = v1::Condition::Warn;
                let message = format!("etcd was not heard of for {} s: {trouble}", age.as_secs());
                findings.push(finding("FLEET_STALE", message));
            }
            Standing::Lost(age) => {
                condition = v1::Condition::Critical;
                let message = format!(
                    "etcd was not heard of for {} s: {trouble}; an emergency of the fleet does not reach this host",
                    age.as_secs()
                );
                findings.push(finding("FLEET_LOST", message));
            }
        }
        if let Some(why) = self.full() {
            condition = condition.max(v1::Condition::Warn);
            let message =
                format!("etcd takes no changes ({why}): make room there, or raise its quota");
            findings.push(finding("FLEET_FULL", message));
        }
        for twin in self.twins() {
            condition = v1::Condition::Critical;
            let message = format!("{twin} has the identity {} of this host", self.me.host_id);
            findings.push(finding("IDENTITY_TWICE", message));
        }
        if self.emergency_untold() {
            condition = v1::Condition::Critical;
            let message = "the fleet has not been told of this host's emergency yet".to_owned();
            findings.push(finding("FLEET_UNTOLD", message));
        }
        Some(v1::DomainStatus {
            domain: "fleet".into(),
            condition: condition.into(),
            summary: format!("{} in fleet {}", standing.name(), self.config.name),
            findings,
        })
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
            self.clock.sleep(Duration::from_secs(1)).await;
        }
    }
}
