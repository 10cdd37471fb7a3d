//! What people should hear of the scheduler: jobs whose last run failed.

use async_trait::async_trait;
use genesis_storage::RunState;

use super::{Scheduler, marked};
use crate::error::Result;
use crate::events::{Condition, Severity, Source};

#[async_trait]
impl Source for Scheduler {
    fn name(&self) -> &'static str {
        "schedule"
    }

    async fn conditions(&self) -> Result<Vec<Condition>> {
        let now = self.clock.now();
        self.state.read(|reading| {
            let mut found = Vec::new();
            for job in self.jobs.iter() {
                let Some(mark) = marked(reading, job.name())? else { continue };
                let failed =
                    matches!(mark.last_state, Some(RunState::Failed | RunState::Interrupted));
                if !failed {
                    continue;
                }
                let name = job.name();
                found.push(Condition {
                    key: format!("schedule/{name}"),
                    subject: name.to_owned(),
                    severity: Severity::Medium,
                    title: format!("the last run of {name} failed"),
                    details: vec![format!("genesisctl run show {}", mark.last_run_id)],
                    runbook: "alerts".to_owned(),
                    since: mark.last_due_at.unwrap_or(now),
                    behind: Vec::new(),
                });
            }
            Ok(found)
        })
    }
}
