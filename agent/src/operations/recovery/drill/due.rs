//! The job that does the drills that are due.

use std::sync::Arc;

use async_trait::async_trait;
use genesis_storage::DrillOutcome;

use super::{Drills, JOB, Standing, summary};
use crate::error::{Error, Kind, Result};
use crate::runs::{Context, Report};
use crate::scheduler::Job;
use crate::scheduler::calendar::Schedule;

/// The job that does the drills that are due.
pub struct DueDrills(pub Arc<Drills>);

#[async_trait]
impl Job for DueDrills {
    fn name(&self) -> &'static str {
        JOB
    }

    fn description(&self) -> &'static str {
        "practises what one hopes never to need, against sandboxes"
    }

    fn schedule(&self) -> Schedule {
        self.0.wanted.schedule.clone()
    }

    async fn run(self: Arc<Self>, context: Context) -> Result<Report> {
        let due = self.0.list()?.into_iter();
        let due =
            due.filter(|view| matches!(view.standing, Some(Standing::Due | Standing::Overdue)));
        let (mut said, mut worst) = (Vec::new(), DrillOutcome::Passed);
        for view in due {
            context.safe_point()?;
            let outcome = match self.0.practise(&view.name, &context).await {
                Ok(record) => {
                    said.push(summary(&record));
                    record.outcome
                }
                Err(error) if error.kind == Kind::Cancelled => return Err(error),
                // One that can't be done keeps no other from being done.
                Err(error) => {
                    said.push(format!("{} could not be practised: {}", view.name, error.chain()));
                    DrillOutcome::Unknown
                }
            };
            worst = match (worst, outcome) {
                (DrillOutcome::Failed, _) | (_, DrillOutcome::Failed) => DrillOutcome::Failed,
                (DrillOutcome::Unknown, _) | (_, DrillOutcome::Unknown) => DrillOutcome::Unknown,
                _ => DrillOutcome::Passed,
            };
        }
        let said = if said.is_empty() { "no drill is due".to_owned() } else { said.join("; ") };
        match worst {
            DrillOutcome::Passed => Ok(Report::proven(said)),
            DrillOutcome::Unknown => Ok(Report::unknown(said)),
            DrillOutcome::Failed => Err(Error::unavailable("DRILL_DEVIATED", said)),
        }
    }
}
