//! What a rollback still owes: the deep check and the incident of one that ended when nobody was there to look, and the
//! end of an incident once the host does well.

use std::sync::atomic::Ordering;
use std::time::Duration;

use genesis_storage::{RollbackOutcome, RollbackRecord};

use super::{Aftermath, Dispatcher, lock};
use crate::error::{Error, Result};

/// It is looked so often.
const LOOK: Duration = Duration::from_secs(5);
/// What can't be written is tried again after so long.
const AGAIN: Duration = Duration::from_secs(60);

impl Dispatcher {
    /// Looks after rollbacks for ever. To be begun when the checks can be asked.
    pub async fn serve(self) {
        let mut said = false;
        loop {
            let mut wait = LOOK;
            // Whoever owes something from now on says so anew.
            if self.0.owing.swap(false, Ordering::AcqRel) {
                let looked = self.look_after_all().await;
                if let (Err(error), false) = (&looked, said) {
                    tracing::error!(
                        error = error.chain(),
                        "a rollback can't be looked after; it is tried again"
                    );
                }
                said = looked.is_err();
                if said {
                    wait = AGAIN;
                }
                if looked.unwrap_or(true) {
                    self.0.owing.store(true, Ordering::Release);
                }
            }
            self.0.clock.sleep(wait).await;
        }
    }

    /// Whether anything is left to be looked after.
    pub(super) async fn look_after_all(&self) -> Result<bool> {
        let owed = self.0.state.read(|reading| {
            Ok(reading.rollbacks().list(usize::MAX, |it| {
                // What waits for the next start is looked after then.
                let ended = !matches!(it.outcome, RollbackOutcome::Begun | RollbackOutcome::Staged);
                it.owed && ended
            })?)
        })?;
        let (mut left, mut failed) = (false, None);
        for record in owed {
            // One that can't be looked after keeps no other from being.
            match self.look_after_one(&record.id).await {
                Ok(more) => left |= more,
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(left), Err)
    }

    /// Whether anything is left to be looked after of one.
    async fn look_after_one(&self, id: &str) -> Result<bool> {
        let read = || self.0.state.read(|it| Ok(it.rollbacks().list(1, |known| known.id == id)?));
        let Some(record) = read()?.pop() else { return Ok(false) };
        if lock(&self.0.held).contains(&record.component) {
            return Ok(true);
        }
        // Whoever held it may have seen to it by then.
        let Some(mut record) = read()?.pop().filter(|it| it.owed) else { return Ok(false) };
        if record.health.is_empty() {
            let seen = record.detail.clone();
            let made = self.look_after(&mut record, &seen).await;
            if made.incident.is_empty() {
                let message = made.details.last().cloned().unwrap_or_default();
                return Err(Error::unavailable("STORAGE_FAILED", message));
            }
        } else if self.0.surroundings.is_over(&record).await? {
            record.owed = false;
            self.keep(&record).await?;
        }
        Ok(record.owed)
    }

    /// Has the deep check made and the incident written, and notes what still is to come.
    pub(super) async fn look_after(&self, record: &mut RollbackRecord, seen: &str) -> Aftermath {
        let undo = self.undo(record).await;
        let aftermath = self.0.surroundings.rolled_back(record, seen, &undo).await;
        // What has no incident yet is looked after once more.
        let written = !aftermath.incident.is_empty();
        let health = aftermath.health.filter(|_| written);
        record.health = health.map_or("", |it| it.word()).to_owned();
        record.incident.clone_from(&aftermath.incident);
        // What failed, or is not known, is for people to end.
        let ends = matches!(record.outcome, RollbackOutcome::Done | RollbackOutcome::Staged);
        record.owed = !written || ends && !aftermath.over;
        if record.owed {
            self.0.owing.store(true, Ordering::Release);
        }
        if let Err(error) = self.keep(record).await {
            tracing::warn!(error = error.chain(), "what came after a rollback can't be kept");
        }
        aftermath
    }
}
