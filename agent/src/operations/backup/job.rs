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
        let (mut made, mut unproven, mut bad) = (Vec::new(), Vec::new(), Vec::new());
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
                RunState::Unknown => unproven.push(format!("{}: {}", source.name, ended.summary)),
                _ => bad.push(format!("{}: {}", source.name, ended.summary)),
            }
        }
        came_to(&made, &unproven, &bad)
    }
}

/// What the job has come to: it failed where a backup did, and is not known to have done well where one is not proven.
fn came_to(made: &[String], unproven: &[String], bad: &[String]) -> Result<Report> {
    let good = if made.is_empty() { "none".to_owned() } else { made.join(", ") };
    match (unproven, bad) {
        ([], []) if made.is_empty() => Ok(Report::proven("nothing is due")),
        ([], []) => Ok(Report::proven(format!("backed up and verified: {good}"))),
        (unproven, []) => {
            let why = unproven.join("; ");
            Ok(Report::unknown(format!("not verified: {why}; backed up and verified: {good}")))
        }
        (unproven, bad) => {
            let said: Vec<&str> = bad.iter().chain(unproven).map(String::as_str).collect();
            let message = format!("{}; backed up: {good}", said.join("; "));
            Err(Error::unavailable("BACKUP_FAILED", message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_that_is_not_proven_has_not_failed() {
        let of = |text: &str| [text.to_owned()];
        let (good, odd, bad) = (of("trades"), of("app: no room"), of("agent: gone"));
        let none: [String; 0] = [];
        assert!(came_to(&none, &none, &none).unwrap().proven);
        assert!(came_to(&good, &none, &none).unwrap().proven);
        let unknown = came_to(&good, &odd, &none).unwrap();
        assert!(!unknown.proven && unknown.summary.contains("app: no room"), "{}", unknown.summary);
        let failed = came_to(&good, &odd, &bad).unwrap_err();
        assert_eq!(failed.code, "BACKUP_FAILED");
        assert!(failed.message.contains("agent: gone") && failed.message.contains("app: no room"));
    }
}
