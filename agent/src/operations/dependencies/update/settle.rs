//! After a crash: each update that was going on gets the end that [`plan::AFTER_CRASH`] has for it. The link is put right
//! before anything else begins; a restart that is owed waits for the agent to serve. All of it may be cut off and begun
//! again.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use genesis_storage::{
    ReconciliationRecord, RunRecord, StepRecord, UpdateRecord, UpdateState, Verdict,
};
use rustix::process::Signal;

use super::super::{Dependencies, aside};
use super::plan::{self, Fate};
use super::prepare::{WORK, work_of};
use super::releases::{self, remove};
use super::{ROLLBACK, Target, UPDATE};
use crate::error::Result;
use crate::outside::{files, leftovers, links, trees};
use crate::runs::Reconcile;

/// What was left running gets so long to end.
const PATIENCE: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(50);

impl Dependencies {
    /// Settles what the agent before this one left. What can't be done is said, and tried again: an agent whose releases
    /// are away starts all the same.
    ///
    /// # Errors
    /// `STORAGE_FAILED`.
    pub async fn settle(&self) -> Result<()> {
        let open: Vec<UpdateRecord> = self.state.read(|reading| {
            Ok(reading.dependencies().updates(usize::MAX, |it| !it.state.ended())?)
        })?;
        if open.is_empty() {
            return Ok(());
        }
        self.end_leftovers().await;
        for record in open {
            let id = record.id.clone();
            if let Err(error) = self.settle_one(record).await {
                tracing::error!(
                    run = id,
                    error = error.chain(),
                    "an update that was cut off can't be settled yet"
                );
            }
        }
        Ok(())
    }

    /// Tools of the agent before this one may still write.
    async fn end_leftovers(&self) {
        let mut waited = Duration::ZERO;
        while waited < PATIENCE {
            let home = self.home.clone();
            let left =
                aside(move || Ok(leftovers::end(&home, &|_: &Path| false, Signal::KILL))).await;
            if left.is_ok_and(|left| left == 0) {
                return;
            }
            self.outside.clock.sleep(LOOK).await;
            waited += LOOK;
        }
    }

    async fn settle_one(&self, mut record: UpdateRecord) -> Result<()> {
        let target = match self.target(&record.project) {
            Ok(target) => target,
            Err(error) => {
                let what = format!("{}: look by hand what is in service", error.message);
                return self.settled(&mut record, Verdict::Held, &what).await;
            }
        };
        let link = links::target(&target.deploy.link)
            .map_err(|error| super::failed(&target.deploy.link, error))?;
        let at = releases::at(
            link.as_deref(),
            record.old_target.as_deref(),
            record.new_target.as_deref(),
        );
        let undoing = record.failed_in.is_some();
        let (fate, verdict, what) = plan::after_crash(record.state, undoing, at);
        remove(work_of(&target.deploy, &record.id)).await;
        clear(&target).await;
        match fate {
            Fate::Finish => {
                self.write_manifests(&target, &record, record.to_generation).await?;
                self.succeeded(&target, &mut record).await?;
                self.note_settled(&record, verdict, what);
                return Ok(());
            }
            Fate::Back | Fate::BackAndRestart | Fate::Discard | Fate::DiscardAndRestart => {
                self.manifests_back(&target, &record).await?;
                if matches!(fate, Fate::Back | Fate::BackAndRestart) {
                    let old = record.old_target.clone();
                    let place = target.deploy.link.clone();
                    aside(move || {
                        links::point(&place, old.as_deref().map(Path::new))
                            .map_err(|error| super::failed(&place, error))
                    })
                    .await?;
                }
                let restart = matches!(fate, Fate::BackAndRestart | Fate::DiscardAndRestart);
                record.restart_owed = restart && record.old_target.is_some();
                self.drop_release(&target, &record).await?;
            }
            Fate::Hold => {}
        }
        self.settled(&mut record, verdict, what).await
    }

    async fn settled(&self, record: &mut UpdateRecord, verdict: Verdict, what: &str) -> Result<()> {
        record.failed_in.get_or_insert(record.state);
        record.state = UpdateState::RolledBack;
        record.ended_at = Some(self.outside.clock.now());
        if record.error_code.is_empty() {
            record.error_code = "INTERRUPTED".to_owned();
            record.error = format!("the agent stopped in the middle; {what}");
        }
        self.put_update(record).await?;
        self.note_settled(record, verdict, what);
        Ok(())
    }

    fn note_settled(&self, record: &UpdateRecord, verdict: Verdict, what: &str) {
        lock(&self.settled).insert(record.id.clone(), (verdict, what.to_owned()));
    }

    /// Restarts the services that run what was taken back.
    pub(in super::super) async fn pay_restarts(&self) {
        let owed = |it: &UpdateRecord| it.state.ended() && it.restart_owed;
        let found =
            self.state.read(|reading| Ok(reading.dependencies().updates(usize::MAX, owed)?));
        for mut record in found.unwrap_or_default() {
            let Ok(target) = self.target(&record.project) else { continue };
            match self.pay_restart(&target, &mut record).await {
                Ok(back) if back.well => {
                    tracing::info!(project = record.project, how = back.how, "restarted");
                }
                Ok(back) => tracing::error!(project = record.project, how = back.how, "not well"),
                Err(error) => {
                    tracing::error!(
                        project = record.project,
                        error = error.chain(),
                        "not restarted"
                    );
                }
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Each change is complete in itself, so a panic elsewhere does not spoil it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What was being written beside its place goes.
async fn clear(target: &Target) {
    let Target { project, deploy, .. } = target;
    let releases = deploy.releases.clone();
    for name in trees::names(&releases).unwrap_or_default() {
        if name.starts_with(WORK) {
            remove(releases.join(name)).await;
        }
    }
    let mut folders: Vec<_> = project
        .manifests
        .iter()
        .filter_map(|it| project.root.join(it).parent().map(Path::to_owned))
        .collect();
    folders.dedup();
    for folder in folders {
        for name in trees::names(&folder).unwrap_or_default() {
            if name.starts_with(files::REPLACING) {
                remove(folder.join(name)).await;
            }
        }
    }
    remove(links::prepared(&deploy.link)).await;
}

/// What became of the runs that update, or go back.
pub struct Table {
    /// Whose.
    pub dependencies: Arc<Dependencies>,
    /// Of which kind.
    pub kind: &'static str,
}

impl Table {
    /// One for each kind.
    pub fn each(dependencies: &Arc<Dependencies>) -> Vec<Arc<dyn Reconcile>> {
        let of = |kind| {
            Arc::new(Self { dependencies: Arc::clone(dependencies), kind }) as Arc<dyn Reconcile>
        };
        [UPDATE, ROLLBACK, super::super::job::MONTHLY].map(of).into()
    }
}

#[async_trait]
impl Reconcile for Table {
    fn kind(&self) -> &'static str {
        self.kind
    }

    async fn reconcile(&self, record: &RunRecord, steps: &[StepRecord]) -> ReconciliationRecord {
        if let Some((verdict, detail)) = lock(&self.dependencies.settled).remove(&record.id) {
            return ReconciliationRecord { verdict, detail };
        }
        let known = self
            .dependencies
            .state
            .read(|reading| Ok(reading.dependencies().update(&record.id)?));
        match known {
            Ok(Some(update)) if update.state.ended() => ReconciliationRecord {
                verdict: Verdict::Finished,
                detail: "how it ended is in its record: `genesisctl deps history`".into(),
            },
            Ok(None) if steps.is_empty() => ReconciliationRecord {
                verdict: Verdict::NothingDone,
                detail: "it had begun nothing itself".into(),
            },
            _ => ReconciliationRecord {
                verdict: Verdict::Held,
                detail: "it can't be settled yet, and is tried again: `genesisctl deps history`"
                    .into(),
            },
        }
    }
}
