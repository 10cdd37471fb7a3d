//! The drill of a restore: the newest backup of each source is restored into a scratch instance and asked, as far as it
//! can be, by the code that verifies backups. And the rollback of the agent's own state on a copy, by the code that lets
//! an earlier state take the place at a start. Nothing that is in use is touched.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use genesis_storage::{
    BackupLevel, BackupRecord, BackupState, DEFAULT_CACHE_BYTES, DrillOutcome, Options, Store,
};
use jiff::Timestamp;

use super::Backup;
use super::act::{self, Proof, blocking};
use super::component::STATE;
use super::plan::Source;
use super::turnover::{self, Wanted};
use crate::error::{Error, Kind, Result};
use crate::outside::files;
use crate::plan::PlanStep;
use crate::runs::Context;
use crate::runs::drill::{Occasion, Rehearsal, Rehearsed, Scratch, end};
use crate::runs::rollback::Point;

/// Practises restores.
pub struct RestoreDrill(pub Arc<Backup>);

impl RestoreDrill {
    /// The sources that a drill is about, with the newest backup of each that is whole as far as it is known.
    fn newest(&self, name: &str) -> Result<Vec<(Source, Option<BackupRecord>)>> {
        let config = self.0.config.load();
        let sources = config.sources.iter().filter(|it| name.is_empty() || it.name == name);
        let newest = |source: &Source| {
            let whole = self.0.records(Some(&source.name))?.into_iter();
            let whole = whole.filter(|record| record.state == BackupState::Complete);
            Ok((source.clone(), whole.max_by_key(|record| record.started_at)))
        };
        sources.map(newest).collect()
    }
}

#[async_trait]
impl Rehearsal for RestoreDrill {
    fn kind(&self) -> &'static str {
        "restore"
    }

    fn description(&self) -> &'static str {
        "restore the newest backup of each source into a scratch instance, and ask it"
    }

    async fn has(&self, name: &str) -> Result<(), String> {
        if name.is_empty() || self.0.config.load().source(name).is_some() {
            return Ok(());
        }
        Err(format!("no source of backups is called {name:?}"))
    }

    async fn plan(&self, name: &str) -> Result<Vec<PlanStep>> {
        // What a tool has made or deleted by itself since.
        self.0.refresh(name).await;
        let step = |(source, newest): (Source, Option<BackupRecord>)| match newest {
            Some(_) if !restorable(&source) => {
                PlanStep::new("deviate", source.name.clone(), not_restorable(&source))
            }
            Some(record) => PlanStep::new(
                format!("restore to {}", source.deepest(BackupLevel::Queried)),
                record.id,
                format!("the newest backup of {}, into a scratch instance", source.name),
            ),
            None => PlanStep::new("deviate", source.name, "there is no backup of it"),
        };
        Ok(self.newest(name)?.into_iter().map(step).collect())
    }

    async fn rehearse(&self, name: &str, context: &Context) -> Result<Rehearsed> {
        let mut done = Rehearsed::default();
        let clock = &self.0.outside.clock;
        self.0.refresh(name).await;
        for (source, newest) in self.newest(name)? {
            context.safe_point()?;
            let shown = format!("restore {}", source.name);
            let Some(record) = newest else {
                let nothing = "there is no backup to restore from";
                done.step(shown, std::time::Duration::ZERO, DrillOutcome::Failed, nothing);
                continue;
            };
            // That it is listed, or that its tool says that it is right, is not that it was restored.
            if !restorable(&source) {
                let why = format!("backup {}: {}", record.id, not_restorable(&source));
                done.step(shown, std::time::Duration::ZERO, DrillOutcome::Unknown, why);
                continue;
            }
            let level = source.deepest(BackupLevel::Queried);
            done.went_back_to(record.started_at, clock.now());
            let step = context.begin("restore", &source.name).await?;
            let began = clock.monotonic();
            let id = record.id.clone();
            let hands = self.0.hands();
            let proven = self.0.prove(&hands, &source, record, level, context).await;
            let took = clock.monotonic().saturating_sub(began);
            let (outcome, detail) = match proven {
                Ok((_, Proof::Sound(how))) => {
                    (DrillOutcome::Passed, format!("backup {id} passes {level}: {how}"))
                }
                Ok((_, Proof::Unknown(why))) => {
                    (DrillOutcome::Unknown, format!("backup {id}: {why}"))
                }
                Ok((_, Proof::Wrong(why))) => {
                    (DrillOutcome::Failed, format!("backup {id} is broken: {why}"))
                }
                Err(error) if error.kind == Kind::Cancelled => return Err(Error::cancelled()),
                Err(error) => (DrillOutcome::Unknown, format!("backup {id}: {}", error.chain())),
            };
            end(step, outcome, &detail).await?;
            done.step(shown, took, outcome, detail);
        }
        Ok(done)
    }
}

/// Whether the agent can restore a source's backups into a scratch instance.
pub fn restorable(source: &Source) -> bool {
    source.deepest(BackupLevel::Queried) >= BackupLevel::Restored
}

fn not_restorable(source: &Source) -> String {
    format!("not restored, for the agent has no scratch instance for {}", source.tool.name())
}

/// Takes copies of the agent's own state back.
pub struct StateScratch(pub Arc<Backup>);

#[async_trait]
impl Scratch for StateScratch {
    fn has(&self, component: &str) -> bool {
        component == STATE
    }

    fn occasion(&self) -> Result<Occasion> {
        // Without a backup there is nothing to go back to, and people should hear of it.
        Ok(Occasion::Always)
    }

    async fn go_back(&self, _: &str, to: &Point, folder: &Path) -> Result<String> {
        let (taken, home) = (folder.join("from"), folder.join("home"));
        let made = [taken.clone(), home.clone()];
        blocking(move || made.iter().try_for_each(std::fs::create_dir))
            .await?
            .map_err(|error| act::failed("the copy can't be begun", error))?;
        let store = Arc::clone(self.0.state.store());
        // What is taken from the backup, what it is made into, and what runs.
        let room = super::plan::wanted_room(Some(store.file_bytes().saturating_mul(3)), None);
        let free = files::free_bytes(folder).map_err(|error| act::failed("no disk", error))?;
        super::plan::room(free, room, folder)?;
        let (at, by_way) = (taken.join("copy.redb"), taken.join("contents"));
        let copy = self.0.proven_state(to, at, by_way).await?;
        let wanted = Wanted {
            rollback: ulid::Ulid::nil().to_string(),
            to: to.id.clone(),
            by: "drill".to_owned(),
            reason: "a drill".to_owned(),
        };
        let now = self.0.outside.clock.now();
        blocking(move || turned(&store, &home, &copy, &wanted, now)).await?
    }
}

/// Has the copy of an earlier state take the place of a copy of the one that runs, as it would at a start; what is there
/// then.
fn turned(
    running: &Store,
    home: &Path,
    copy: &Path,
    wanted: &Wanted,
    now: Timestamp,
) -> Result<String> {
    let live = home.join("state.redb");
    running.copy_to(&live, DEFAULT_CACHE_BYTES)?;
    let (runs, earlier) = (shown(&live)?, shown(copy)?);
    turnover::stage(home, copy, wanted)?;
    let turned = turnover::at_start(home, &live, now)?;
    let failed = |why: String| Err(Error::unavailable("STATE_ROLLBACK_FAILED", why));
    let Some(turned) = turned else { return failed("nothing waited to take its place".into()) };
    if !turned.placed {
        return failed(turned.detail);
    }
    if !restored(&live, &wanted.rollback)? {
        return failed(format!("what took the place does not say so: {}", turned.detail));
    }
    let there = shown(&live)?;
    match lost(&runs, &earlier, &there) {
        Some(why) => failed(format!("{why}: {}", turned.detail)),
        None => Ok(format!(
            "{} took the place: the operation log went from entry {} to {}",
            wanted.to, runs.entries, there.entries
        )),
    }
}

/// What did not go forward of the state that runs, as it should have; `None`: all did. Pure. After a loss the earlier one is
/// another host's as far as its number goes, and knows more.
fn lost(runs: &Shown, earlier: &Shown, there: &Shown) -> Option<String> {
    if there.entries <= runs.entries {
        return Some(format!(
            "the operation log went from entry {} to {}",
            runs.entries, there.entries
        ));
    }
    if there.host != runs.host && there.host != earlier.host {
        return Some("the identity of the host was lost".to_owned());
    }
    let kept = match (&runs.emergency, &there.emergency) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(runs), Some(there)) => {
            there.since == runs.since
                && there.active() == runs.active()
                && there.epoch >= runs.epoch
        }
    };
    (!kept).then(|| "the emergency was lost".to_owned())
}

/// Whether the newest entry of a state that nobody uses says that it took the place by this rollback, with all that went
/// forward.
fn restored(path: &Path, rollback: &str) -> Result<bool> {
    let unreadable = |error| act::failed("what took the place can't be opened", error);
    let store = Store::open(path, Options::default()).map_err(unreadable)?;
    store.read(|reading| {
        let newest = reading.oplog().newest(None, 1, |_| true)?.pop();
        Ok::<_, Error>(newest.is_some_and(|it| {
            let entry = it.entry;
            (entry.action.as_str(), entry.correlation_id.as_str(), entry.outcome.as_str())
                == (turnover::RESTORED, rollback, "ok")
        }))
    })
}

/// What must go forward of a state that nobody uses: the newest entry of its operation log, its emergency, whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Shown {
    entries: u64,
    emergency: Option<genesis_storage::EmergencyRecord>,
    host: String,
}

fn shown(path: &Path) -> Result<Shown> {
    let unreadable = |error| act::failed("what took the place can't be opened", error);
    let store = Store::open(path, Options::default()).map_err(unreadable)?;
    store.read(|reading| {
        let host = reading.identity().get()?.map(|it| it.host_id).unwrap_or_default();
        let entries = reading.oplog().head()?.sequence;
        Ok::<_, Error>(Shown { entries, emergency: reading.emergency().get()?, host })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_did_not_go_forward_is_named() {
        let emergency = |epoch: u64, since: i64| {
            Some(genesis_storage::EmergencyRecord {
                epoch,
                since: Timestamp::from_second(since).unwrap(),
                activated_by: "olga".into(),
                reason: "feed".into(),
                release: None,
                fleet: None,
            })
        };
        let state =
            |entries, emergency, host: &str| Shown { entries, emergency, host: host.into() };
        let runs = state(9, emergency(7, 5), "a");
        let earlier = state(3, None, "a");
        for (earlier, there, why) in [
            (&earlier, state(10, emergency(7, 5), "a"), None),
            (
                &earlier,
                state(9, emergency(7, 5), "a"),
                Some("the operation log went from entry 9 to 9"),
            ),
            (&earlier, state(10, emergency(7, 5), "b"), Some("the identity of the host was lost")),
            (&earlier, state(10, None, "a"), Some("the emergency was lost")),
            (&earlier, state(10, emergency(7, 4), "a"), Some("the emergency was lost")),
            (&earlier, state(10, emergency(6, 5), "a"), Some("the emergency was lost")),
            // The state was lost since the backup: it goes on as the host that it was, under a number of its own.
            (&state(30, emergency(7, 4), "old"), state(40, emergency(8, 5), "old"), None),
        ] {
            assert_eq!(lost(&runs, earlier, &there).as_deref(), why, "{there:?}");
        }
    }
}
