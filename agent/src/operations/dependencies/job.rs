//! Imports the configured files when they change.

use std::sync::Arc;

use async_trait::async_trait;
use genesis_storage::{RunState, UpdateState};

use super::Dependencies;
use super::update::{ROLLBACK, ROLLBACK_STRATEGY, UPDATE, unmanaged_why};
use crate::emergency::Stance;
use crate::error::{Error, Result};
use crate::runs::{Context, Report};
use crate::scheduler::Job;
use crate::scheduler::calendar::Schedule;

/// The kind of its runs.
pub const IMPORT: &str = "dependencies.import";

/// The kind of the runs that update everything once a month.
pub const MONTHLY: &str = "dependencies.monthly";

/// What people start by hand beside the jobs, and whether it goes on in an emergency: a deployment does not, and what was
/// in service before is what one may need then.
pub const RUN_KINDS: [(&str, Stance); 2] = [(UPDATE, Stance::Refuse), (ROLLBACK, Stance::GoOn)];

/// Jobs of dependencies.
pub fn jobs(dependencies: &Arc<Dependencies>) -> Vec<Arc<dyn Job>> {
    vec![Arc::new(Import(Arc::clone(dependencies))), Arc::new(Monthly(Arc::clone(dependencies)))]
}

/// Updates what can be updated, one project after the other.
struct Monthly(Arc<Dependencies>);

#[async_trait]
impl Job for Monthly {
    fn name(&self) -> &'static str {
        MONTHLY
    }

    fn description(&self) -> &'static str {
        "updates each project by its own strategy, with tests, health window and rollback"
    }

    fn schedule(&self) -> Schedule {
        self.0.config().schedule.clone()
    }

    async fn run(self: Arc<Self>, context: Context) -> Result<Report> {
        let own = &self.0;
        let config = own.config();
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        for project in config.projects.iter().filter(|it| unmanaged_why(it).is_empty()) {
            context.safe_point()?;
            let newest = own.updates(&project.name, 20)?;
            let newest = newest.iter().find(|it| it.state != UpdateState::Unchanged);
            if newest.is_some_and(|it| it.strategy == ROLLBACK_STRATEGY) {
                // Who went back by hand had a reason.
                good.push(format!("{} was taken back by hand: update it by hand", project.name));
                continue;
            }
            let who = (context.actor(), context.reason());
            let started = match own.update(&project.name, None, ("", false), who).await {
                Ok(started) => started,
                Err(error) => {
                    bad.push(format!("{}: {}", project.name, error.chain()));
                    continue;
                }
            };
            let ended = tokio::select! {
                ended = own.runs.wait(&started.id) => ended?,
                () = context.cancelled() => {
                    // It may have ended this moment.
                    let _ = own.runs.cancel(&started.id, "").await;
                    return Err(Error::cancelled());
                }
            };
            match ended.state {
                RunState::Succeeded => good.push(ended.summary),
                _ => bad.push(format!("{}: {}", project.name, ended.summary)),
            }
        }
        match (bad.is_empty(), good.is_empty()) {
            (true, true) => Ok(Report::proven("no project can be updated")),
            (true, false) => Ok(Report::proven(good.join("; "))),
            (false, _) => {
                let message = format!("{}; done: {}", bad.join("; "), good.join("; "));
                Err(Error::unavailable("DEPENDENCY_UPDATE_FAILED", message))
            }
        }
    }
}

struct Import(Arc<Dependencies>);

#[async_trait]
impl Job for Import {
    fn name(&self) -> &'static str {
        IMPORT
    }

    fn description(&self) -> &'static str {
        "imports the configured files of advisories, of exploited vulnerabilities and of likelihoods when they change"
    }

    fn schedule(&self) -> Schedule {
        Schedule::constant("23 * * * *")
    }

    fn stance(&self) -> Stance {
        Stance::GoOn
    }

    async fn run(self: Arc<Self>, _: Context) -> Result<Report> {
        let Some(imported) = self.0.import_if_changed().await? else {
            return Ok(Report::proven("no file is configured"));
        };
        if imported.is_empty() {
            return Ok(Report::proven("nothing has changed"));
        }
        let each: Vec<String> = imported
            .iter()
            .map(|it| {
                let records = it.source.as_ref().map_or(0, |source| source.records);
                format!("{} ({records})", it.name)
            })
            .collect();
        Ok(Report::proven(format!("imported: {}", each.join(", "))))
    }
}
