//! After a crash: what was left running is ended, what was left lying is removed, and each backup that was being made
//! gets the end that [`plan::AFTER_CRASH`] has for it. All of it may be cut off and begun again.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use genesis_storage::{
    BackupLevel, BackupRecord, BackupState, ReconciliationRecord, RunRecord, StepRecord, StepState,
    Verdict,
};
use rustix::process::Signal;

use super::act::{self, blocking};
use super::make::partial_of;
use super::plan::{self, Fate, Tool, World};
use super::{Backup, RESTORE, RUN, VERIFY, lock, restore};
use crate::error::Result;
use crate::outside::{leftovers, trees};
use crate::runs::Reconcile;

/// Who acts here.
const WHO: (&str, &str) = ("system:agent", "after a crash");
/// What was left running gets so long to end by itself.
const PATIENCE: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(50);

impl Backup {
    /// Settles what the agent before this one left. What can't be done is said, and tried at the next start: an agent
    /// whose backup disk is away starts all the same.
    ///
    /// # Errors
    /// `STORAGE_FAILED`.
    pub async fn settle(&self) -> Result<()> {
        self.adopt().await?;
        self.end_leftovers().await;
        let scratch = self.hands().scratch();
        remove_all(&scratch, plan::is_scratch).await;
        for record in self.records(None)? {
            match record.state {
                BackupState::Running => self.settle_one(record).await?,
                BackupState::Expired if self.owns(&record) => {
                    remove(PathBuf::from(&record.place)).await
                }
                _ => {}
            }
        }
        let folder = self.config.load().folder.clone();
        // Another host may keep its own beside them: only what is recorded here was begun here.
        let begun: Vec<String> = self.records(None)?.into_iter().map(|record| record.id).collect();
        let own = |name: &str| {
            plan::is_partial(name) && begun.iter().any(|id| name.starts_with(id.as_str()))
        };
        for source in trees::names(&folder).unwrap_or_default() {
            remove_all(&folder.join(source), own).await;
        }
        Ok(())
    }

    async fn end_leftovers(&self) {
        let (home, scratch) = (self.home.clone(), self.hands().scratch());
        let clock = self.outside.clock.as_ref();
        let mut waited = Duration::ZERO;
        loop {
            let signal = if waited < PATIENCE { Signal::QUIT } else { Signal::KILL };
            let (home, scratch) = (home.clone(), scratch.clone());
            let left = blocking(move || {
                leftovers::end(&home, &|at: &Path| plan::is_scratch_data(&scratch, at), signal)
            });
            let left = left.await;
            match left {
                Ok(0) | Err(_) => return,
                Ok(left) if waited >= PATIENCE * 2 => {
                    tracing::error!(left, "programs of the agent before this one do not end");
                    return;
                }
                Ok(left) => tracing::warn!(left, "ending what the agent before this one left"),
            }
            clock.sleep(LOOK).await;
            waited += LOOK;
        }
    }

    async fn settle_one(&self, mut record: BackupRecord) -> Result<()> {
        let place = PathBuf::from(&record.place);
        let owns = self.owns(&record);
        let description = act::description(&place).ok().filter(|it| owns && it.id == record.id);
        let world = World {
            running: true,
            partial: owns && partial_of(&place).exists(),
            whole: description.is_some(),
            elsewhere: record.tool != Tool::Builtin.name(),
        };
        let (fate, verdict, what) = plan::after_crash(world);
        match (fate, description) {
            (Fate::Leave, _) => {}
            (Fate::Complete, Some(description)) => {
                record.state = BackupState::Complete;
                record.level = Some(BackupLevel::Recorded);
                record.bytes = description.bytes;
                record.system_identifier = description.system_identifier;
                record.detail = what.to_owned();
            }
            (Fate::Complete | Fate::Fail, _) => {
                if owns {
                    remove(partial_of(&place)).await;
                    remove(place).await;
                }
                record.state = BackupState::Failed;
                record.detail = format!("the agent stopped in the middle; {what}");
            }
        }
        record.ended_at = Some(self.outside.clock.now());
        lock(&self.settled).insert(record.run_id.clone(), (verdict, what.to_owned()));
        self.put(&record, "backup.settled", WHO).await
    }
}

async fn remove_all(folder: &Path, wanted: impl Fn(&str) -> bool) {
    for name in trees::names(folder).unwrap_or_default() {
        if wanted(&name) {
            remove(folder.join(name)).await;
        }
    }
}

async fn remove(path: PathBuf) {
    let shown = path.display().to_string();
    match blocking(move || trees::remove(&path)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!(path = shown, %error, "what was left can't be removed"),
        Err(error) => tracing::error!(path = shown, error = error.chain(), "not removed"),
    }
}

/// What became of the runs that made backups, or started those that do.
pub struct MakeTable(pub Arc<Backup>);

#[async_trait]
impl Reconcile for MakeTable {
    fn kind(&self) -> &'static str {
        RUN
    }

    async fn reconcile(&self, record: &RunRecord, steps: &[StepRecord]) -> ReconciliationRecord {
        if let Some((verdict, detail)) = lock(&self.0.settled).remove(&record.id) {
            return ReconciliationRecord { verdict, detail };
        }
        let known = self.0.records(None).unwrap_or_default();
        match known.iter().any(|backup| backup.run_id == record.id) {
            true => ReconciliationRecord {
                verdict: Verdict::Finished,
                detail:
                    "the backup is recorded; what of it was not verified or deleted is due again"
                        .into(),
            },
            false if steps.is_empty() => ReconciliationRecord {
                verdict: Verdict::NothingDone,
                detail: "it had begun no backup itself".into(),
            },
            false => ReconciliationRecord {
                verdict: Verdict::Held,
                detail: "no backup of it is recorded".into(),
            },
        }
    }
}

/// What became of verifications: they change nothing but a scratch folder, which is gone by now.
pub struct VerifyTable;

#[async_trait]
impl Reconcile for VerifyTable {
    fn kind(&self) -> &'static str {
        VERIFY
    }

    async fn reconcile(&self, _: &RunRecord, steps: &[StepRecord]) -> ReconciliationRecord {
        let scratch = steps.iter().any(|step| step.name == "scratch");
        let (verdict, detail) = match scratch {
            true => (Verdict::Undone, "its scratch instance is ended and removed; verify again"),
            false => (Verdict::NothingDone, "it had only read; verify again"),
        };
        ReconciliationRecord { verdict, detail: detail.into() }
    }
}

/// What became of restorations.
pub struct RestoreTable;

#[async_trait]
impl Reconcile for RestoreTable {
    fn kind(&self) -> &'static str {
        RESTORE
    }

    async fn reconcile(&self, record: &RunRecord, steps: &[StepRecord]) -> ReconciliationRecord {
        let path = |key: &str| PathBuf::from(record.parameters[key].as_str().unwrap_or_default());
        let (staging, into) = (path("staging"), path("into"));
        if restore::is_staging(&staging) {
            remove(staging.clone()).await;
        }
        let put = steps.iter().find(|step| step.name == "put").map(|step| step.state);
        // Empty is how it was before.
        let there = match std::fs::metadata(&into) {
            Ok(facts) if facts.is_dir() => trees::names(&into).is_ok_and(|names| !names.is_empty()),
            Ok(_) => true,
            Err(_) => false,
        };
        let shown = into.display();
        let (verdict, detail) = match (put, there) {
            (Some(StepState::Done | StepState::Intent), true) => {
                (Verdict::Finished, format!("it was verified and stands at {shown} whole"))
            }
            _ if staging.exists() => {
                (Verdict::Held, format!("the copy at {} can't be removed", staging.display()))
            }
            _ if steps.is_empty() => (Verdict::NothingDone, "it had copied nothing".to_owned()),
            _ => (Verdict::Undone, format!("the copy is removed; nothing of it is at {shown}")),
        };
        ReconciliationRecord { verdict, detail }
    }
}
