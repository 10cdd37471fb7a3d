//! The emergency of this host and that of its fleet: either of them means emergency. One that was declared here for the
//! fleet's sake ends with the fleet's; one that was declared here as well does not.

use std::sync::atomic::Ordering;

use genesis_storage::{EmergencyRecord, EmergencyRelease, FleetMark, Intent};

use super::flag::Flag;
use super::{DISK, Emergency, blocking, flag, not_durable};
use crate::error::{Error, Result};
use crate::outside::failpoint;

impl Emergency {
    /// How often somebody has wished that an emergency be the fleet's. Whoever looks at the fleet asks first: what is wished
    /// after that the fleet does not know of by what was seen.
    pub fn wishes(&self) -> u64 {
        self.wishes.load(Ordering::SeqCst)
    }

    /// Puts an emergency in force for the fleet's sake, or notes that the one in force is the fleet's too; `wishes`: those
    /// before the fleet was looked at. It is in force when this returns, whatever it returns.
    ///
    /// # Errors
    /// `EMERGENCY_NOT_DURABLE`, `STORAGE_FAILED`.
    pub async fn join_fleet(
        &self,
        by: &str,
        reason: &str,
        epoch: u64,
        wishes: u64,
    ) -> Result<EmergencyRecord> {
        let (by, reason) = (Some(by.to_owned()), reason.to_owned());
        let asked = Flag { epoch: None, since: None, by, reason, fleet: None };
        let declared = self.declare(&asked, self.clock.now());
        let mark = |before: Option<FleetMark>| FleetMark {
            epoch,
            only: declared || before.is_some_and(|mark| mark.only),
            told: self.wishes() == wishes,
        };
        let joining = async {
            let _alone = self.alone.lock().await;
            // One that was released meanwhile is in force again, for the fleet's is.
            let again = self.declare(&asked, self.clock.now());
            let record = self.mark(|before| {
                if again { FleetMark { epoch, only: true, told: true } } else { mark(before) }
            });
            self.secure(&record).await?;
            Ok(record)
        };
        tokio::time::timeout(DISK, joining).await.unwrap_or_else(|_| {
            Err(not_durable(
                "the disk does not answer; the fleet's emergency is in force all the same",
            ))
        })
    }

    /// Notes that the fleet knows of the emergency in force, and by which number; `wishes`: those before the fleet was looked
    /// at, or told.
    ///
    /// # Errors
    /// `NO_EMERGENCY`, `EMERGENCY_NOT_DURABLE`.
    pub async fn note_fleet(&self, epoch: u64, wishes: u64) -> Result<EmergencyRecord> {
        let _alone = self.alone.lock().await;
        self.in_force()?;
        let record = self.mark(|before| FleetMark {
            epoch,
            only: before.is_some_and(|it| it.only),
            told: self.wishes() == wishes,
        });
        self.secure_mark(&record).await?;
        Ok(record)
    }

    /// Wishes that the emergency in force be the fleet's; `only`: it was declared for that alone.
    ///
    /// # Errors
    /// `NO_EMERGENCY`, `EMERGENCY_NOT_DURABLE`.
    pub async fn wish_fleet(&self, only: bool) -> Result<EmergencyRecord> {
        // At once, lest the fleet waits for a disk.
        let epoch = self.in_force()?.epoch;
        // What the fleet knows of may have been released there: it is told anew, and says by itself where it knows.
        let wish = |before: Option<FleetMark>| {
            let mark = before.unwrap_or(FleetMark { epoch, only, told: false });
            FleetMark { told: false, ..mark }
        };
        self.mark(wish);
        // Behind the mark: whoever knows of the wish by its number has seen it.
        self.wishes.fetch_add(1, Ordering::SeqCst);
        let _alone = self.alone.lock().await;
        self.in_force()?;
        let record = self.mark(wish);
        self.secure_mark(&record).await?;
        Ok(record)
    }

    /// Writes an emergency with what the fleet has to do with it.
    async fn secure_mark(&self, record: &EmergencyRecord) -> Result<()> {
        match self.secure(record).await? {
            true => Ok(()),
            false => Err(not_durable(
                "the emergency stands on this host, but that it concerns the whole fleet could be written to neither its file \
                 nor its record: it would not survive a restart; free space on the state folder's disk, then repeat",
            )),
        }
    }

    /// Takes over what the file alone says of the fleet: the record of the same emergency may not have been written since.
    pub(super) async fn take_files_mark(&self) {
        let file = std::sync::Arc::clone(&self.file);
        // What can't be read now is looked at each second.
        let Ok(Some(flag)) = blocking(move || flag::read(&file)).await else { return };
        self.current.send_if_modified(|current| {
            let same = current.as_mut().filter(|it| it.active() && flag.epoch == Some(it.epoch));
            let Some(record) = same else { return false };
            let mark = newer(record.fleet, flag.fleet);
            std::mem::replace(&mut record.fleet, mark) != mark
        });
    }

    /// Marks the one in force; the caller holds the lock, and has seen it in force.
    fn mark(&self, mark: impl FnOnce(Option<FleetMark>) -> FleetMark) -> EmergencyRecord {
        let mut marked = None;
        self.current.send_if_modified(|current| {
            let Some(record) = current.as_mut() else { return false };
            let mark = mark(record.fleet);
            let other = record.fleet != Some(mark);
            record.fleet = Some(mark);
            marked = Some(record.clone());
            other
        });
        // There has been one, and records are never taken away.
        marked.unwrap_or_else(|| EmergencyRecord {
            epoch: 0,
            since: self.clock.now(),
            activated_by: String::new(),
            reason: String::new(),
            release: None,
            fleet: None,
        })
    }

    /// Ends the emergency that was declared here for the sake of the fleet's of this number, since that is over. Another
    /// one stays in force; `None` then.
    ///
    /// # Errors
    /// `STORAGE_FAILED`, `EMERGENCY_FLAG_STUCK` (it stays in force then).
    pub async fn leave_fleet(
        &self,
        epoch: u64,
        by: &str,
        reason: &str,
    ) -> Result<Option<EmergencyRecord>> {
        let _alone = self.alone.lock().await;
        let current = self.current().filter(EmergencyRecord::active);
        let ours = |mark: FleetMark| mark.only && mark.told && mark.epoch <= epoch;
        let Some(record) = current.filter(|it| it.fleet.is_some_and(ours)) else { return Ok(None) };
        self.end(record, by, reason).await.map(Some)
    }

    /// Ends an emergency; the caller holds the lock.
    pub(super) async fn end(
        &self,
        record: EmergencyRecord,
        by: &str,
        reason: &str,
    ) -> Result<EmergencyRecord> {
        let at = self.clock.now();
        let release = EmergencyRelease { at, by: by.to_owned(), reason: reason.to_owned() };
        let in_force = record.clone();
        let record = EmergencyRecord { release: Some(release), ..record };
        // The record first: a crash in between leaves the file, and with it the emergency, which is the safe
        // side; the file's text names the epoch, and a file of an epoch that was released is swept up.
        self.store(&record, "emergency.released", at).await?;
        failpoint::hit("emergency.release-recorded");
        let file = std::sync::Arc::clone(&self.file);
        if let Err(error) = blocking(move || flag::remove(&file)).await {
            // What could not be recorded either is tried again with the next look.
            let _ = self.secure(&in_force).await;
            let message = format!(
                "{} can't be removed, so the emergency stays in force: remove it by hand, then release again",
                self.file.display()
            );
            return Err(Error::unavailable("EMERGENCY_FLAG_STUCK", message).caused_by(error));
        }
        self.current.send_replace(Some(record.clone()));
        tracing::warn!(epoch = record.epoch, by, reason, "emergency released");
        Ok(record)
    }

    /// Writes a mark into the record of an emergency that is there already.
    pub(super) async fn store_mark(&self, record: &EmergencyRecord) -> Result<()> {
        let detail = record.fleet.map_or_else(
            || "the fleet's emergency is no concern of it any more".to_owned(),
            |mark| {
                let known = if mark.told { "knows of it" } else { "has not been told yet" };
                format!("the fleet {known}, as its emergency {}", mark.epoch)
            },
        );
        let intent = Intent::new(self.clock.now(), "system:fleet", "emergency.fleet")
            .target(format!("emergency {}", record.epoch));
        self.put(record, intent.detail(detail)).await
    }
}

/// Of the marks in an emergency's record and in its file the one that counts where only one of them could be written: one that
/// the fleet has not been told yet. It says by itself where it knows.
fn newer(record: Option<FleetMark>, file: Option<FleetMark>) -> Option<FleetMark> {
    match (record, file) {
        (None, file) => file,
        (Some(record), Some(file)) if record.told && !file.told => Some(file),
        (record, _) => record,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use genesis_storage::{Options, Store};
    use jiff::Timestamp;
    use tokio::sync::watch;

    use super::*;
    use crate::outside::ManualClock;
    use crate::state::State;

    async fn open(folder: &Path) -> Emergency {
        let store = Store::open(&folder.join("state.redb"), Options::default()).unwrap();
        let state = State::new(Arc::new(store), watch::channel(0).1);
        let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
        Emergency::open(state, clock, folder.join("EMERGENCY")).await.unwrap()
    }

    #[test]
    fn what_the_fleet_was_not_told_counts_wherever_it_was_written() {
        let mark = |told| Some(FleetMark { epoch: 7, only: false, told });
        for (record, file, counts) in [
            (None, None, None),
            (None, mark(false), mark(false)),
            (mark(true), None, mark(true)),
            (mark(true), mark(false), mark(false)),
            (mark(false), mark(true), mark(false)),
            (mark(true), mark(true), mark(true)),
        ] {
            assert_eq!(newer(record, file), counts, "{record:?} {file:?}");
        }
    }

    #[tokio::test]
    async fn a_wish_that_only_the_file_has_taken_outlives_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("EMERGENCY");
        let flag = open(folder.path()).await;
        flag.activate("olga", "prices are wrong", "").await.unwrap();
        let before = flag.current().unwrap();
        assert_eq!(before.fleet, None);
        drop(flag);
        // As where the record could not be written any more: its file was.
        let mark = FleetMark { epoch: before.epoch, only: false, told: false };
        flag::write(&file, &EmergencyRecord { fleet: Some(mark), ..before.clone() }).unwrap();
        let flag = open(folder.path()).await;
        assert_eq!(flag.current().unwrap().fleet, Some(mark));
        let stored = flag.state.read(|it| Ok(it.emergency().get()?)).unwrap().unwrap();
        assert_eq!(stored.fleet, Some(mark), "both places have it again");
        // One of another number says nothing of this one.
        drop(flag);
        let other = EmergencyRecord { epoch: before.epoch + 1, fleet: None, ..before };
        flag::write(&file, &other).unwrap();
        assert_eq!(open(folder.path()).await.current().unwrap().fleet, Some(mark));
    }
}
