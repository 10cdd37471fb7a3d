//! What people should hear of the scheduler: jobs whose last run failed.

use std::sync::Arc;

use async_trait::async_trait;
use genesis_storage::RunState;
use jiff::Timestamp;

use super::{Job, Scheduler, marked};
use crate::error::{Error, Result};
use crate::events::{Condition, Severity, Source};
use crate::state::State;

#[async_trait]
impl Source for Scheduler {
    fn name(&self) -> &'static str {
        "schedule"
    }

    async fn conditions(&self) -> Result<Vec<Condition>> {
        let (state, jobs, now) = (self.state.clone(), Arc::clone(&self.jobs), self.clock.now());
        let found = self.asked.run(&(), move || failed(&state, &jobs, now).ok()).await;
        let untold = || Error::unavailable("STORAGE_FAILED", "the runs of the jobs can't be read");
        found.ok().flatten().ok_or_else(untold)
    }
}

fn failed(state: &State, jobs: &[Arc<dyn Job>], now: Timestamp) -> Result<Vec<Condition>> {
    state.read(|reading| {
        let mut found = Vec::new();
        for job in jobs {
            let name = job.name();
            let Some(mark) = marked(reading, name)? else { continue };
            if !matches!(mark.last_state, Some(RunState::Failed | RunState::Interrupted)) {
                continue;
            }
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
