//! The emergency flag: what is not declared to go on refuses to start while it is up.
//!
//! It rests in two places, a file beside the database and a row in it. The file comes first, so that a full
//! disk or a broken database can't keep it down; either one alone brings it back after a restart. A file that
//! somebody made by hand counts as well. Only a release takes it down.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use genesis_storage::{EmergencyRecord, Intent};
use jiff::Timestamp;
use tokio::sync::watch;

use crate::error::{Error, Result, Unmet};
use crate::outside::{Clock, failpoint};
use crate::plan::{Plan, PlanStep};
use crate::state::State;

mod flag;
mod fleet;

use flag::Flag;

/// How often the flag file is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// So long whoever declares an emergency waits for a disk. It is in force meanwhile, and written down afterwards.
const DISK: Duration = Duration::from_secs(5);

/// What a kind of job or run does while an emergency is in force.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Stance {
    /// It refuses to start.
    #[default]
    Refuse,
    /// It goes on: without it things would get worse.
    GoOn,
}

/// The emergency flag of this host.
#[derive(Clone)]
pub struct Emergency {
    state: State,
    clock: Arc<dyn Clock>,
    file: Arc<Path>,
    current: watch::Sender<Option<EmergencyRecord>>,
    alone: Arc<tokio::sync::Mutex<()>>,
    /// What could not be written is said once, not with every look.
    said: Arc<AtomicBool>,
    /// How often somebody has wished that an emergency be the whole fleet's.
    wishes: Arc<AtomicU64>,
    /// A number that was used before the first that is known.
    before: u64,
}

impl Emergency {
    /// Takes over what the last agent left: an emergency is in force when either place says so.
    ///
    /// # Errors
    /// `STORAGE_FAILED`.
    pub async fn open(state: State, clock: Arc<dyn Clock>, file: PathBuf) -> Result<Self> {
        let known = state.read(|reading| Ok(reading.emergency().get()?))?;
        let flag = Self {
            state,
            clock,
            file: file.into(),
            current: watch::Sender::new(known),
            alone: Arc::default(),
            said: Arc::default(),
            wishes: Arc::default(),
            before: 0,
        };
        flag.take_files_mark().await;
        // What is wrong with one of its places is no reason not to start: it is in force in memory.
        if let Err(error) = flag.look().await {
            tracing::error!(error = error.chain(), "the emergency could not be settled");
        }
        Ok(flag)
    }

    /// With numbers after `before`, where the one that is known here is not the last that was used.
    #[must_use]
    pub fn numbered_after(self, before: u64) -> Self {
        Self { before, ..self }
    }

    /// The number of an emergency that is declared at `now`, where none is known.
    pub fn number(now: Timestamp) -> u64 {
        flag::epoch(0, now)
    }

    /// The latest emergency, in force or over; `None` before the first.
    pub fn current(&self) -> Option<EmergencyRecord> {
        self.current.borrow().clone()
    }

    /// Whether an emergency is in force.
    pub fn active(&self) -> bool {
        self.current.borrow().as_ref().is_some_and(EmergencyRecord::active)
    }

    /// Refuses what may not start during an emergency.
    ///
    /// # Errors
    /// `EMERGENCY`.
    pub fn check(&self, kind: &str, stance: Stance) -> Result<()> {
        let current = self.current.borrow();
        let Some(record) = current.as_ref().filter(|record| record.active()) else { return Ok(()) };
        if stance == Stance::GoOn {
            return Ok(());
        }
        let message = format!(
            "{kind} waits for the release of emergency {}, which is in force since {:.3} (by {})",
            record.epoch, record.since, record.activated_by
        );
        let unmet = Unmet { code: "EMERGENCY", subject: kind.to_owned(), message: message.clone() };
        Err(Error::refused("EMERGENCY", message, vec![unmet]))
    }

    /// What activation would do.
    pub fn plan_activation(&self) -> Plan {
        let current = self.current();
        match current.filter(EmergencyRecord::active) {
            Some(record) => {
                Plan::new("emergency.activate", &[&record.epoch.to_string()], Vec::new())
            }
            None => {
                let before = self.last_epoch().to_string();
                let step =
                    |action: &str, target: &str, why: &str| PlanStep::new(action, target, why);
                let steps = vec![
                    step(
                        "raise-flag",
                        &self.file.display().to_string(),
                        "survives restarts, and a database that fails",
                    ),
                    step("record", "the emergency", "who, why and since when"),
                ];
                Plan::new("emergency.activate", &[&before], steps)
            }
        }
    }

    /// What a release would do.
    ///
    /// # Errors
    /// `NO_EMERGENCY`.
    pub fn plan_release(&self) -> Result<Plan> {
        let record = self.in_force()?;
        let epoch = record.epoch.to_string();
        let steps = vec![
            PlanStep::new("record", format!("release of emergency {epoch}"), "who and why"),
            PlanStep::new(
                "lower-flag",
                self.file.display().to_string(),
                "what waited may start again",
            ),
        ];
        Ok(Plan::new("emergency.release", &[&epoch], steps))
    }

    /// Declares an emergency; it is durable when this returns. One that is in force stays as it is, is made durable
    /// if it was not, and is returned with `true`.
    ///
    /// # Errors
    /// `PLAN_CHANGED`; `EMERGENCY_NOT_DURABLE` when neither place could be written (it is in force all the
    /// same until the agent stops).
    pub async fn activate(
        &self,
        actor: &str,
        reason: &str,
        plan_hash: &str,
    ) -> Result<(EmergencyRecord, bool)> {
        self.plan_activation().accept(plan_hash)?;
        let now = self.clock.now();
        let asked = Flag {
            epoch: None,
            since: None,
            by: Some(actor.to_owned()),
            reason: reason.to_owned(),
            fleet: None,
        };
        let declare = || self.declare(&asked, now);
        // In force from here on, whatever holds the lock: nothing slips in while the disks are slow.
        let declared = declare();
        let securing = async {
            let _alone = self.alone.lock().await;
            // One that was in force may have been released meanwhile.
            let declared = declare() || declared;
            let record = self.in_force()?;
            self.secure(&record).await?;
            Ok((record, !declared))
        };
        tokio::time::timeout(DISK, securing).await.unwrap_or_else(|_| {
            Err(not_durable("the disk does not answer; the emergency is in force all the same"))
        })
    }

    /// Puts an emergency in force in memory unless one is; whether it did.
    fn declare(&self, asked: &Flag, now: Timestamp) -> bool {
        let by = asked.by.as_deref().unwrap_or("flag file");
        let declared = self.current.send_if_modified(|current| {
            if current.as_ref().is_some_and(EmergencyRecord::active) {
                return false;
            }
            let before = current.as_ref().map_or(self.before, |record| record.epoch);
            // A file that outlived its record (a database that was lost, or restored) is the same emergency still.
            let known = asked.epoch.filter(|epoch| *epoch > before);
            let since = asked.since.filter(|since| known.is_some() && *since <= now);
            *current = Some(EmergencyRecord {
                epoch: known.unwrap_or_else(|| flag::epoch(before, now)),
                since: since.unwrap_or(now),
                activated_by: by.to_owned(),
                reason: asked.reason.clone(),
                release: None,
                fleet: asked.fleet.filter(|_| known.is_some()),
            });
            true
        });
        if declared {
            tracing::error!(by, reason = asked.reason, "EMERGENCY");
        }
        declared
    }

    /// Writes an emergency into those of its two places that lack it; whether one of them has what the fleet has to do with
    /// it, too.
    async fn secure(&self, record: &EmergencyRecord) -> Result<bool> {
        let (file, filing) = (Arc::clone(&self.file), record.clone());
        // What is wrong, if anything, where it stands there all the same.
        let filed = blocking(move || match flag::read(&file) {
            Ok(Some(flag)) if flag.epoch == Some(filing.epoch) => {
                match flag.fleet == filing.fleet {
                    true => Ok(None),
                    // It says what the record says, so that either alone is enough for the fleet, too.
                    false => Ok(flag::write(&file, &filing).err()),
                }
            }
            // Made by hand, it gets the number, so that it stands for this emergency and no other.
            // What can't be replaced, such as a folder, is a flag all the same.
            Ok(Some(_)) => flag::write(&file, &filing).or(Ok(())).map(|()| None),
            Ok(None) | Err(_) => flag::write(&file, &filing).map(|()| None),
        })
        .await;
        failpoint::hit("emergency.filed");
        let stored = match self.state.read(|reading| Ok(reading.emergency().get()?)) {
            Ok(known) if known.as_ref() == Some(record) => Ok(None),
            // The record says that it is over, and its file could not be removed.
            Ok(Some(known)) if known.epoch == record.epoch && !known.active() => {
                let intent =
                    Intent::new(self.clock.now(), "system:recovery", "emergency.release-failed");
                let intent = intent.detail("its flag file can't be removed");
                self.put(record, intent).await.map(|()| None)
            }
            // It stands there already, but for what the fleet has to do with it.
            Ok(Some(known)) if known.epoch == record.epoch && known.active() => {
                Ok(self.store_mark(record).await.err())
            }
            _ => self.store(record, "emergency.activated", record.since).await.map(|()| None),
        };
        let marked = matches!(filed, Ok(None)) || matches!(stored, Ok(None));
        let whole = matches!((&filed, &stored), (Ok(None), Ok(None)));
        if self.said.swap(!whole, Ordering::Relaxed) == whole {
            let file_error = match &filed {
                Ok(None) => "none".to_owned(),
                Ok(Some(error)) | Err(error) => error.to_string(),
            };
            let record_error = match &stored {
                Ok(None) => "none".to_owned(),
                Ok(Some(error)) | Err(error) => error.chain(),
            };
            match whole {
                true => tracing::info!("the emergency is in its file and in its record"),
                false => tracing::error!(
                    file = %self.file.display(), file_error, record_error,
                    "the emergency could not be written to both its places; it is tried again every second"
                ),
            }
        }
        match (filed, stored) {
            (Err(_), Err(error)) => {
                let message = "the emergency is in force, but neither its file nor its record could be written: \
                               it would not survive a restart; free space on the state folder's disk, then repeat";
                Err(not_durable(message).caused_by(error))
            }
            _ => Ok(marked),
        }
    }

    /// Ends the emergency.
    ///
    /// # Errors
    /// `NO_EMERGENCY`, `REASON_MISSING`, `PLAN_CHANGED`, `STORAGE_FAILED` (it stays in force then).
    pub async fn release(
        &self,
        actor: &str,
        reason: &str,
        plan_hash: &str,
    ) -> Result<EmergencyRecord> {
        let _alone = self.alone.lock().await;
        self.plan_release()?.accept(plan_hash)?;
        let record = self.in_force()?;
        if reason.trim().is_empty() {
            let message = "an emergency is released with a reason: add --reason TEXT";
            return Err(Error::invalid("REASON_MISSING", message));
        }
        self.end(record, actor, reason).await
    }

    /// Follows the flag.
    pub fn follow(&self) -> watch::Receiver<Option<EmergencyRecord>> {
        self.current.subscribe()
    }

    /// Looks at the flag file for ever.
    pub async fn serve(self) {
        loop {
            self.clock.tick(LOOK).await;
            if let Err(error) = self.look().await {
                tracing::error!(error = error.chain(), "the flag file could not be settled");
            }
        }
    }

    /// Brings the two places together: a file makes an emergency, and an emergency has a file.
    ///
    /// # Errors
    /// `STORAGE_FAILED`.
    pub async fn look(&self) -> Result<()> {
        let _alone = self.alone.lock().await;
        let file = Arc::clone(&self.file);
        let found = match blocking(move || flag::read(&file)).await {
            Ok(found) => found,
            // Neither there nor absent: no reason to declare an emergency, nor to end one.
            Err(error) => {
                if !self.said.swap(true, Ordering::Relaxed) {
                    tracing::error!(%error, file = %self.file.display(), "the flag file can't be looked at");
                }
                return Ok(());
            }
        };
        let current = self.current();
        let active = current.as_ref().filter(|record| record.active());
        match (found, active) {
            (None, None) => Ok(()),
            (_, Some(record)) => {
                // Said where it fails, and tried again with the next look.
                let _ = self.secure(record).await;
                Ok(())
            }
            (Some(flag), None) => {
                if let Some(over) = current.filter(|record| flag.epoch == Some(record.epoch)) {
                    // Released, and cut off before the file was gone.
                    let file = Arc::clone(&self.file);
                    let Err(error) = blocking(move || flag::remove(&file)).await else {
                        return Ok(());
                    };
                    tracing::error!(%error, "a release can't be ended: the flag file can't be removed");
                    let record = EmergencyRecord { release: None, ..over };
                    self.current.send_replace(Some(record.clone()));
                    return self.secure(&record).await.map(drop);
                }
                self.declare(&flag, self.clock.now());
                self.secure(&self.in_force()?).await.map(drop)
            }
        }
    }

    fn in_force(&self) -> Result<EmergencyRecord> {
        self.current().filter(EmergencyRecord::active).ok_or_else(|| {
            Error::conflict("NO_EMERGENCY", "no emergency is in force; there is nothing to release")
        })
    }

    fn last_epoch(&self) -> u64 {
        self.current.borrow().as_ref().map_or(self.before, |record| record.epoch)
    }

    async fn store(&self, record: &EmergencyRecord, action: &str, at: Timestamp) -> Result<()> {
        let (actor, reason) = match &record.release {
            Some(release) => (&release.by, &release.reason),
            None => (&record.activated_by, &record.reason),
        };
        let intent = Intent::new(at, actor.clone(), action)
            .target(format!("emergency {}", record.epoch))
            .reason(reason.clone());
        self.put(record, intent).await
    }

    async fn put(&self, record: &EmergencyRecord, intent: Intent) -> Result<()> {
        let record = record.clone();
        self.state.write(intent, move |writing| Ok(writing.emergency().put(&record)?)).await
    }
}

fn not_durable(message: &str) -> Error {
    Error::unavailable("EMERGENCY_NOT_DURABLE", message)
}

/// Runs `work` on a thread of its own, so that it waits for nobody else's.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    #[cfg(test)]
    let work = match crate::outside::tasks::simulated::aside(work) {
        Ok(done) => return done.await,
        Err(work) => work,
    };
    let (sender, outcome) = tokio::sync::oneshot::channel();
    std::thread::Builder::new().name("emergency".into()).spawn(move || {
        // Who asked may have left.
        let _ = sender.send(work());
    })?;
    outcome.await.unwrap_or_else(|error| Err(std::io::Error::other(error)))
}

#[cfg(test)]
mod tests {
    use genesis_storage::{Options, Store};

    use super::*;
    use crate::outside::ManualClock;

    #[tokio::test]
    async fn it_is_in_force_before_the_disk_answers() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("state.redb"), Options::default()).unwrap();
        let state = State::new(Arc::new(store), watch::channel(0).1);
        let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
        let flag = Emergency::open(state, clock, folder.path().join("EMERGENCY")).await.unwrap();
        // A look that waits for a disk holds this.
        let disk = flag.alone.lock().await;
        let declaring = tokio::spawn({
            let flag = flag.clone();
            async move { flag.activate("olga", "prices are wrong", "").await }
        });
        // The other task has nothing to wait for but the lock.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert!(flag.check("storage.compact", Stance::Refuse).is_err());
        assert!(!declaring.is_finished(), "it is not durable yet");
        drop(disk);
        let (record, was_active) = declaring.await.unwrap().unwrap();
        assert_eq!((record.epoch, was_active), (19_700_101_000_000, false));
        assert!(flag.activate("olga", "again", "").await.unwrap().1);
    }

    #[tokio::test]
    async fn the_file_alone_knows_what_the_fleet_has_to_do_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
        let mut states = 0;
        // Each time the file is all that is left, as where a crash, or a disk that is full, kept the record from being written.
        let mut open = || {
            states += 1;
            let file = folder.path().join(format!("{states}.redb"));
            let store = Store::open(&file, Options::default()).unwrap();
            let state = State::new(Arc::new(store), watch::channel(0).1);
            Emergency::open(state, Arc::clone(&clock) as _, folder.path().join("EMERGENCY"))
        };
        let flag = open().await.unwrap();
        flag.activate("olga", "prices are wrong", "").await.unwrap();
        let wished = flag.wish_fleet(true).await.unwrap();
        let mark = wished.fleet.unwrap();
        assert_eq!((mark.only, mark.told), (true, false));
        let flag = open().await.unwrap();
        assert_eq!(flag.current(), Some(wished));
        let noted = flag.note_fleet(9, flag.wishes()).await.unwrap();
        assert_eq!(open().await.unwrap().current(), Some(noted));
        // Of one that was not written by the agent nothing is taken over.
        std::fs::write(folder.path().join("EMERGENCY"), "fleet=9 only told\nreason=x").unwrap();
        assert_eq!(open().await.unwrap().current().unwrap().fleet, None);
    }

    #[tokio::test]
    async fn what_is_wished_after_a_look_at_the_fleet_is_still_to_be_told() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("state.redb"), Options::default()).unwrap();
        let state = State::new(Arc::new(store), watch::channel(0).1);
        let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
        let flag = Emergency::open(state, clock, folder.path().join("EMERGENCY")).await.unwrap();
        // The fleet is looked at, and its emergency is released there before somebody declares one here.
        let looked = flag.wishes();
        flag.activate("olga", "prices are wrong", "").await.unwrap();
        flag.wish_fleet(true).await.unwrap();
        let told = |record: EmergencyRecord| record.fleet.is_some_and(|mark| mark.told);
        assert!(!told(flag.join_fleet("ada", "feed", 9, looked).await.unwrap()));
        assert!(!told(flag.note_fleet(9, looked).await.unwrap()));
        assert!(told(flag.note_fleet(9, flag.wishes()).await.unwrap()));
        assert!(told(flag.join_fleet("ada", "feed", 9, flag.wishes()).await.unwrap()));
    }
}
