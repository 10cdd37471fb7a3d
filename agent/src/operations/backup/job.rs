//! The job: whatever is due is backed up, one after the other, each in a run of its own, to which who asks for the same
//! by hand is attached.

use std::sync::Arc;

use async_trait::async_trait;
use genesis_storage::RunState;

use super::{Backup, RUN, plan};
use crate::error::{Error, Result};
use crate::runs::{Context, Report};
use crate::scheduler::Job;
use crate::scheduler::calendar::Schedule;

/// Makes the backups that are due.
pub struct Due(pub Arc<Backup>);

#[async_trait]
impl Job for Due {
    fn name(&self) -> &'static str {
        RUN
    }

    fn description(&self) -> &'static str {
        "backs up every source that is due, and verifies what was made"
    }

    fn schedule(&self) -> Schedule {
        self.0.config.load().wakes()
    }

    async fn run(self: Arc<Self>, context: Context) -> Result<Report> {
        let backup = &self.0;
        let config = backup.config.load_full();
        let (mut made, mut bad) = (Vec::new(), Vec::new());
        for source in &config.sources {
            context.safe_point()?;
            let newest = backup.records(Some(&source.name))?.into_iter();
            let newest = newest.map(|record| record.started_at).max();
            if !plan::due(source, newest, backup.outside.clock.now()) {
                continue;
            }
            let who = (context.actor(), context.reason());
            let started = match backup.run(&source.name, "", who).await {
                Ok(started) => started,
                Err(error) => {
                    bad.push(format!("{}: {}", source.name, error.chain()));
                    continue;
                }
            };
            let ended = tokio::select! {
                ended = backup.runs.wait(&started.id) => ended?,
                () = context.cancelled() => {
                    // It may have ended this moment.
                    let _ = backup.runs.cancel(&started.id, "").await;
                    return Err(Error::cancelled());
                }
            };
            match ended.state {
                RunState::Succeeded => made.push(source.name.clone()),
                _ => bad.push(format!("{}: {}", source.name, ended.summary)),
            }
        }
        if bad.is_empty() {
            return Ok(Report::proven(match made.as_slice() {
                [] => "nothing is due".to_owned(),
                made => format!("backed up and verified: {}", made.join(", ")),
            }));
        }
        let made = if made.is_empty() { "none".to_owned() } else { made.join(", ") };
        Err(Error::unavailable("BACKUP_FAILED", format!("{}; backed up: {made}", bad.join("; "))))
    }
}
