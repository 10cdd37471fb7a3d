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
        self.secure(&record).await?;
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
        self.secure(&record).await?;
        Ok(record)
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
