//! What people should hear of databases: care that was held back, or that found or left something.

use async_trait::async_trait;
use genesis_storage::CareOutcome;

use super::{Databases, record::Truth};
use crate::error::Result;
use crate::events::{Condition, Severity, Source};

/// Data may be lost already.
const WORST: [&str; 2] = ["INDEX_CORRUPT", "SQLITE_CORRUPT"];
/// So many findings are told.
const TOLD: usize = 10;

#[async_trait]
impl Source for Databases {
    fn name(&self) -> &'static str {
        "database"
    }

    async fn conditions(&self) -> Result<Vec<Condition>> {
        let mut conditions = Vec::new();
        for instance in &self.config().instances {
            let name = &instance.target.name;
            let Some((record, report)) = self.history(Some(name), 1)?.into_iter().next() else {
                continue;
            };
            let worst = report.findings.iter().any(|it| WORST.contains(&it.code.as_str()));
            let (severity, what) = match record.outcome {
                CareOutcome::Running | CareOutcome::Done => continue,
                _ if worst => (Severity::Critical, "found corrupt data"),
                CareOutcome::Blocked => (Severity::Medium, "was held back"),
                CareOutcome::Degraded => (Severity::Medium, "did not all go well"),
                CareOutcome::Failed => (Severity::High, "failed"),
                CareOutcome::Interrupted => (Severity::Medium, "was cut off"),
            };
            let held = report.preflight.iter().filter(|item| !item.clear()).map(|item| {
                let value = if item.truth == Truth::Unknown { "unknown" } else { &item.value };
                format!("{}: {value}, must be {} {}", item.name, item.limit, item.evidence)
            });
            let found = report
                .findings
                .iter()
                .map(|found| format!("{} {}: {}", found.code, found.subject, found.message));
            let blocked = record.outcome == CareOutcome::Blocked;
            let mut details: Vec<String> =
                if blocked { held.take(TOLD).collect() } else { found.take(TOLD).collect() };
            details.push(format!("genesisctl db history --database {name} -v"));
            conditions.push(Condition {
                key: format!("database/{name}/care"),
                subject: name.clone(),
                severity,
                title: format!("the care of database {name} {what}"),
                details,
                runbook: "database".to_owned(),
                since: record.ended_at.unwrap_or(record.started_at),
                behind: Vec::new(),
            });
        }
        Ok(conditions)
    }
}
