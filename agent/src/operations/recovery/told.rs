//! What people should hear of recovery: an emergency, at once.

use async_trait::async_trait;

use super::Recovery;
use crate::error::Result;
use crate::events::{Condition, Severity, Source};

#[async_trait]
impl Source for Recovery {
    fn name(&self) -> &'static str {
        "recovery"
    }

    async fn conditions(&self) -> Result<Vec<Condition>> {
        let record = self.emergency.current().filter(|record| record.active());
        let condition = record.map(|record| Condition {
            key: format!("recovery/emergency/{}", record.epoch),
            subject: format!("emergency {}", record.epoch),
            severity: Severity::Critical,
            title: format!(
                "EMERGENCY {} declared by {}: {}",
                record.epoch, record.activated_by, record.reason
            ),
            details: vec![
                "what has not been declared to go on waits for its release".to_owned(),
                "genesisctl emergency release --reason TEXT".to_owned(),
            ],
            runbook: "health".to_owned(),
            since: record.since,
            behind: Vec::new(),
        });
        Ok(condition.into_iter().collect())
    }
}
