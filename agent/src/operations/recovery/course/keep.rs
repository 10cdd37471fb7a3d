//! How the course is written down: each step with its entry, and no step held up by a disk.

use std::sync::Arc;
use std::time::Duration;

use genesis_storage::{Intent, VenueRecord};
use jiff::Timestamp;

use super::Course;
use crate::emergency::blocking;
use crate::outside::failpoint;

/// So long a write is waited for; then the course goes on without it.
const SAVE: Duration = Duration::from_secs(2);
/// And so long while it has not answered.
const AGAIN: Duration = Duration::from_millis(50);
const HUNG: &str = "the disk does not answer";
const ACTOR: &str = "system:recovery";

impl Course {
    pub(super) fn now(&self) -> Timestamp {
        self.outside.clock.now()
    }

    pub(super) fn edit_venue(&self, name: &str, edit: impl FnOnce(&mut VenueRecord)) {
        self.live.send_modify(|live| edit(live.record.venues.entry(name.to_owned()).or_default()));
    }

    /// Writes the record as it is now, with what is about to be done or was. A disk that does not take it is said, and
    /// nothing waits for it longer than [`SAVE`].
    pub(super) async fn save(&self, action: &str, detail: &str) {
        self.save_as(self.entry(action, detail)).await;
    }

    /// As [`Course::save`], of something that is about to be done: what came of it is an entry of its own.
    pub(super) async fn about_to(&self, action: &str, detail: &str) {
        self.save_as(self.entry(action, detail).outcome("intent")).await;
    }

    /// As [`Course::save`], of something that could not be done, by its code.
    pub(super) async fn fail(&self, action: &str, code: &str, detail: &str) {
        self.save_as(self.entry(action, detail).outcome(code)).await;
    }

    fn entry(&self, action: &str, detail: &str) -> Intent {
        let target = format!("emergency {}", self.live.borrow().record.epoch);
        Intent::new(self.now(), ACTOR, action).target(target).detail(detail)
    }

    pub(super) async fn save_as(&self, intent: Intent) {
        let saver = Arc::clone(&self.saver).lock_owned();
        // A disk that has not answered is not waited for again each time.
        let patience = if self.live.borrow().not_durable == HUNG { AGAIN } else { SAVE };
        let why = match tokio::time::timeout(patience, saver).await {
            _ if failpoint::fails("emergency.course") => "a fault of a test".to_owned(),
            Err(_) => HUNG.to_owned(),
            Ok(alone) => {
                let record = self.live.borrow().record.clone();
                let state = self.state.clone();
                // It goes on when nobody waits any more, and the next one waits for it.
                let writing = tokio::spawn(crate::trace::carry(async move {
                    let _alone = alone;
                    state.write(intent, move |writing| Ok(writing.course().put(&record)?)).await
                }));
                match tokio::time::timeout(patience, writing).await {
                    Ok(Ok(Ok(()))) => String::new(),
                    Ok(Ok(Err(error))) => error.chain(),
                    Ok(Err(error)) => error.to_string(),
                    Err(_) => HUNG.to_owned(),
                }
            }
        };
        if self.live.borrow().not_durable != why {
            if !why.is_empty() {
                tracing::error!(
                    why,
                    "the course of the emergency can't be written down; it goes on"
                );
            }
            self.live.send_modify(|live| live.not_durable = why);
            self.bell.ring();
        }
    }
}

/// Does what waits for a disk, on a thread of its own, and waits no longer than [`SAVE`] for it.
pub(super) async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    let late = || std::io::Error::from(std::io::ErrorKind::TimedOut);
    tokio::time::timeout(SAVE, blocking(work)).await.unwrap_or_else(|_| Err(late()))
}
