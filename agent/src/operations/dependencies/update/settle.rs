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
use super::{ROLLBACK, Target, UPDATE, window};
use crate::error::{Error, Result};
use crate::outside::{files, leftovers, links, trees};
use crate::runs::Reconcile;

/// A restart that is owed is tried so often by one agent.
const TRIES: u32 = 3;
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
        if !self.open_updates()?.is_empty() {
            self.end_leftovers().await;
        }
        self.sweep();
        self.settle_open().await
    }

    fn open_updates(&self) -> Result<Vec<UpdateRecord>> {
        let open = |it: &UpdateRecord| !it.state.ended();
        self.state.read(|reading| Ok(reading.dependencies().updates(usize::MAX, open)?))
    }

    /// Settles what has no end and does not go on.
    ///
    /// # Errors
    /// `STORAGE_FAILED`.
    pub(in super::super) async fn settle_open(&self) -> Result<()> {
        for record in self.open_updates()? {
            let _alone = self.settling.lock().await;
            if self.runs.active_with_key(&super::key(&record.project)).is_some() {
                continue;
            }
            // It may have ended since: what a run has written last it has written before it ceased to be active.
            let Some(record) =
                self.state.read(|reading| Ok(reading.dependencies().update(&record.id)?))?
            else {
                continue;
            };
            if record.state.ended() {
                continue;
            }
            let id = record.id.clone();
            if let Err(error) = self.settle_one(record).await {
                let error = error.chain();
                tracing::error!(run = id, error, "an update that was cut off can't be settled yet");
            }
        }
        Ok(())
    }

    /// Whether nothing of a project is still to be taken back; tries it.
    ///
    /// # Errors
    /// `UPDATE_STUCK`.
    pub(super) async fn check_settled(&self, project: &str) -> Result<()> {
        let open = |all: Vec<UpdateRecord>| {
            let own = all.into_iter().find(|it| it.project == project);
            own.filter(|_| self.runs.active_with_key(&super::key(project)).is_none())
        };
        if open(self.open_updates()?).is_none() {
            return Ok(());
        }
        self.settle_open().await?;
        match open(self.open_updates()?) {
            None => Ok(()),
            Some(record) => {
                let message = format!(
                    "update {} of {project} can't be taken back yet: {}; see `genesisctl deps history`",
                    record.id, record.error
                );
                Err(Error::refused("UPDATE_STUCK", message, Vec::new()))
            }
        }
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
                return self.settled(&mut record, (Verdict::Held, UpdateState::Held), &what).await;
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
                let written = self.write_manifests(&target, &record, record.to_generation).await;
                match written {
                    // What somebody else has written is theirs; the release has proven itself all the same.
                    Err(error) if error.code == "MANIFEST_CHANGED" => {
                        tracing::warn!(error = error.chain(), "a manifest is left as it is");
                    }
                    written => written?,
                }
                self.succeeded(&target, &mut record).await?;
                self.metrics.ended(&record);
                self.note_settled(&record, verdict, what);
                return Ok(());
            }
            Fate::BackAndRestart | Fate::Discard | Fate::DiscardAndRestart => {
                if fate == Fate::BackAndRestart {
                    let old = record.old_target.clone();
                    let place = target.deploy.link.clone();
                    aside(move || {
                        links::point(&place, old.as_deref().map(Path::new))
                            .map_err(|error| super::failed(&place, error))
                    })
                    .await?;
                }
                self.manifests_back(&target, &record).await?;
                let restart = matches!(fate, Fate::BackAndRestart | Fate::DiscardAndRestart);
                record.restart_owed = restart && record.old_target.is_some();
                if !record.restart_owed {
                    self.drop_release(&target, &record).await?;
                }
            }
            Fate::Hold => {
                return self.settled(&mut record, (verdict, UpdateState::Held), what).await;
            }
        }
        self.settled(&mut record, (verdict, UpdateState::RolledBack), what).await
    }

    async fn settled(
        &self,
        record: &mut UpdateRecord,
        (verdict, state): (Verdict, UpdateState),
        what: &str,
    ) -> Result<()> {
        record.failed_in.get_or_insert(record.state);
        record.state = state;
        record.ended_at = Some(self.outside.clock.now());
        if record.error_code.is_empty() {
            record.error_code = "INTERRUPTED".to_owned();
            record.error = format!("the agent stopped in the middle; {what}");
        }
        self.put_update(record).await?;
        self.metrics.ended(record);
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
            let _alone = self.settling.lock().await;
            // What goes on restarts it anyway.
            if self.runs.active_with_key(&super::key(&record.project)).is_some() {
                continue;
            }
            let Ok(target) = self.target(&record.project) else { continue };
            let link = links::target(&target.deploy.link).ok().flatten();
            if link.as_deref() != record.old_target.as_deref().map(Path::new) {
                // Something else is in service by now.
                record.restart_owed = false;
                let _ = self.put_update(&record).await;
                continue;
            }
            let tries = {
                let mut tried = lock(&self.tried);
                let tries = tried.entry(record.id.clone()).or_default();
                *tries += 1;
                *tries
            };
            // A hook that fails again and again is not to restart a service for ever: people have heard of it.
            if tries > TRIES {
                continue;
            }
            match self.pay_restart(&target, &mut record).await {
                Ok(back) if back.well => {
                    tracing::info!(project = record.project, how = back.how, "restarted");
                }
                Ok(back) => tracing::error!(project = record.project, how = back.how, "not well"),
                Err(error) => {
                    let error = error.chain();
                    tracing::error!(project = record.project, error, "not restarted");
                }
            }
            if !record.restart_owed {
                // Nothing runs it any more.
                let _ = self.drop_release(&target, &record).await;
            }
        }
    }

    /// Asks services that did not do well after a way back whether they do by now.
    pub(in super::super) async fn ask_the_ill(&self) {
        let ill = |it: &UpdateRecord| it.state.ended() && !it.ill.is_empty();
        let found = self.state.read(|reading| Ok(reading.dependencies().updates(50, ill)?));
        for mut record in found.unwrap_or_default() {
            let Ok(target) = self.target(&record.project) else { continue };
            if window::well(&self.outside, &target.deploy).await {
                record.ill.clear();
                let _ = self.put_update(&record).await;
            }
        }
    }

    /// What plans were made in, by an agent that was killed.
    pub(super) fn sweep(&self) {
        let folder = std::env::temp_dir();
        for name in trees::names(&folder).unwrap_or_default() {
            let number = name.strip_prefix(super::SCRATCH).and_then(|it| it.split('-').next());
            let Some(pid) = number.and_then(|it| it.parse::<u32>().ok()) else { continue };
            if !Path::new(&format!("/proc/{pid}")).exists() {
                let _ = trees::remove(&folder.join(name));
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
