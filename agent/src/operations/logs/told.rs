//! What people should hear of log archival: whatever keeps a log from being archived.

use async_trait::async_trait;

use super::Logs;
use crate::error::Result;
use crate::events::{Condition, Severity, Source};

#[async_trait]
impl Source for Logs {
    fn name(&self) -> &'static str {
        "logs"
    }

    async fn conditions(&self) -> Result<Vec<Condition>> {
        let now = self.outside.clock.now();
        let mut found = Vec::new();
        // No disk is asked: one that hangs is what people should hear of.
        for view in self.at_a_glance() {
            let log_type = &view.source.log_type;
            found.extend(view.findings.iter().map(|finding| Condition {
                key: format!("logs/{log_type}/{}/{}", finding.code, finding.subject),
                subject: log_type.clone(),
                severity: Severity::Medium,
                title: format!("logs of {log_type}: {}", finding.message),
                details: vec![format!("{}: {}", finding.code, finding.subject)],
                runbook: "logs".to_owned(),
                since: now,
                behind: Vec::new(),
            }));
        }
        Ok(found)
    }
}
