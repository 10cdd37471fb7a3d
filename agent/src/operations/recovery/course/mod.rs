//! What becomes of trading in an emergency: no order leaves any more, those that are out are cancelled, and when somebody
//! asks for it every position is closed and proven to be.
//!
//! One task follows the flag. It tells the trading system to halt, and tells it again every few seconds, so that one
//! that was restarted does not trade on; beside that it cancels, closes and looks. What it is about to do is written
//! down first; a disk that does not take it is said, and holds nothing up. After a crash it goes on from the record,
//! or from the flag files, or from what the venues say of orders whose names follow from what they are for.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use genesis_storage::{CoursePhase, CourseRecord, EmergencyRecord};
use jiff::Timestamp;
use tokio::sync::{Notify, watch};

use super::config::Config;
use crate::emergency::Emergency;
use crate::error::{Error, Result, Unmet};
use crate::events::Bell;
use crate::outside::control::Means;
use crate::outside::{Outside, failpoint};
use crate::state::State;

mod approval;
mod ask;
mod decide;
mod file;
mod keep;
mod lease;
#[cfg(test)]
mod tests;
mod venue;
mod venues;

use decide::Due;
use keep::on_disk;
use lease::Lease;
pub use lease::LeaseView;

/// So often a trading system is told again to halt, and looked at.
const LOOK: Duration = Duration::from_secs(5);
/// So long a trading system that is told to halt is waited for before its orders are dealt with.
const PATIENCE: Duration = Duration::from_secs(2);
/// What has failed is tried again after that, and each time later.
const RETRY: Duration = Duration::from_millis(500);
/// But no later than that.
const RETRY_LATEST: Duration = Duration::from_secs(5);

/// The course as it stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Live {
    /// What is written down of it.
    pub record: CourseRecord,
    /// The trading system was told to halt, whatever came of it.
    pub halt_tried: bool,
    /// Why it is not known to be halted now; empty: it is.
    pub halt_trouble: String,
    /// Since when, and why, the venues could not be looked at after they were flat; `None`: they are.
    pub unseen: Option<(Timestamp, String)>,
    /// Why it has not been told yet to go on; empty: it has, or need not be.
    pub resume_trouble: String,
    /// Why the record is not on the disk; empty: it is.
    pub not_durable: String,
}

/// What becomes of trading in an emergency.
pub struct Course {
    state: State,
    outside: Outside,
    config: Config,
    emergency: Emergency,
    bell: Bell,
    /// Says that positions are to be closed, where the record could not be written.
    file: Arc<Path>,
    live: watch::Sender<Live>,
    wake: Notify,
    /// Held while a call to halt is under way, which may arrive after whoever waits for it has left.
    halting: Arc<tokio::sync::Mutex<()>>,
    /// Held while it is decided whether to close, to approve or to release.
    deciding: tokio::sync::Mutex<()>,
    saver: Arc<tokio::sync::Mutex<()>>,
    lease: Lease,
}

impl Course {
    /// Takes over what the last agent left.
    ///
    /// # Errors
    /// `STORAGE_FAILED`.
    pub fn open(
        state: State,
        outside: Outside,
        config: Config,
        emergency: Emergency,
        (bell, file): (Bell, PathBuf),
    ) -> Result<Arc<Self>> {
        let (record, holder) =
            state.read(|reading| Ok((reading.course().get()?, reading.course().lease()?)))?;
        let lease = Lease::new(config.lease, holder, outside.clock.monotonic());
        let live = Live { record: record.unwrap_or_default(), ..Live::default() };
        Ok(Arc::new(Self {
            state,
            outside,
            config,
            emergency,
            bell,
            file: file.into(),
            live: watch::Sender::new(live),
            wake: Notify::new(),
            saver: Arc::default(),
            halting: Arc::default(),
            deciding: tokio::sync::Mutex::default(),
            lease,
        }))
    }

    /// Whether there is a trading system to halt.
    pub fn configured(&self) -> bool {
        self.config.control.is_some()
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Follows it.
    pub fn follow_live(&self) -> watch::Receiver<Live> {
        self.live.subscribe()
    }

    /// The course of the latest emergency as it stands.
    pub fn live(&self) -> Live {
        self.live.borrow().clone()
    }

    /// Follows the flag for ever.
    pub async fn serve(self: Arc<Self>) {
        let lease = tokio::spawn(Arc::clone(&self).watch_lease());
        let mut flag = self.emergency.follow();
        loop {
            let current = flag.borrow_and_update().clone();
            tokio::select! {
                () = self.follow(current) => {}
                changed = flag.changed() => if changed.is_err() { break },
            }
        }
        lease.abort();
    }

    /// Does what one state of the flag asks for; it is dropped when there is another.
    async fn follow(&self, current: Option<EmergencyRecord>) {
        match current {
            Some(record) if record.active() => {
                self.adopt(&record).await;
                match &self.config.control {
                    Some(means) => {
                        tokio::join!(
                            self.keep_halted(means, &record),
                            self.carry_on(means, record.epoch)
                        );
                    }
                    None => self.save("emergency.course", "no trading system is configured").await,
                }
            }
            Some(record) => self.give_back(&record).await,
            None => {}
        }
        std::future::pending().await
    }

    /// Takes an emergency for the present one.
    async fn adopt(&self, emergency: &EmergencyRecord) {
        let path = Arc::clone(&self.file);
        let asked = on_disk(move || Ok(file::read(&path))).await;
        let asked = asked.ok().flatten().filter(|asked| asked.epoch == emergency.epoch);
        let now = self.now();
        self.live.send_modify(|live| {
            live.record = decide::adopted(std::mem::take(&mut live.record), emergency.epoch);
            live.halt_tried = false;
            live.halt_trouble = match live.record.halted_at {
                Some(_) => "it has not been asked since the agent was started".to_owned(),
                None => String::new(),
            };
            live.unseen = (live.record.phase == CoursePhase::Flat)
                .then(|| (now, "not looked at since the agent was started".to_owned()));
            live.resume_trouble = String::new();
            if let (Some(asked), None) = (asked, &live.record.closing) {
                live.record.closing = Some(asked.closing(now));
            }
        });
    }

    /// Has the trading system halt, and hold to it.
    async fn keep_halted(&self, means: &Means, emergency: &EmergencyRecord) {
        let first = !self.live.borrow().record.told;
        self.live.send_modify(|live| live.record.told = true);
        let mut wait = RETRY;
        let mut saving = Some(self.about_to("trading.halt", "new orders are to stop"));
        loop {
            // The flag is what is written down beforehand; nobody waits for another disk before trading is halted.
            let halted = match saving.take() {
                Some(saving) => {
                    let (halted, ()) = tokio::join!(self.halt(means, emergency), saving);
                    failpoint::hit("emergency.halting");
                    halted
                }
                None => self.halt(means, emergency).await,
            };
            let now = self.now();
            let trouble = halted.err().unwrap_or_default();
            let before = self.live.borrow().clone();
            let fresh = trouble.is_empty() && before.record.halted_at.is_none();
            let news = before.halt_trouble != trouble || !before.halt_tried;
            if news && !trouble.is_empty() {
                tracing::error!(why = trouble, "the trading system can't be halted");
            }
            // What it sent before it was halted is to be cancelled as well.
            let again = trouble.is_empty() && before.halt_tried && !before.halt_trouble.is_empty();
            self.live.send_modify(|live| {
                if fresh {
                    live.record.halted_at = Some(now);
                    if live.record.phase == CoursePhase::Halting {
                        live.record.phase = CoursePhase::Halted;
                    }
                }
                live.record.cancelled &= !again;
                live.halt_trouble.clone_from(&trouble);
                live.halt_tried = true;
            });
            if again {
                self.wake.notify_one();
            }
            if fresh || again {
                self.save("trading.halted", "no order leaves any more").await;
            }
            if fresh {
                failpoint::hit("emergency.halted");
            }
            if news || fresh || first {
                self.bell.ring();
            }
            wait = if trouble.is_empty() { LOOK } else { longer(wait) };
            // One that goes wrong again and again is written down once, and no disk puts off the next attempt.
            let lost =
                !trouble.is_empty() && (before.halt_trouble.is_empty() || !before.halt_tried);
            let said = async {
                if lost {
                    self.fail("trading.halt", "TRADING_NOT_HALTED", &trouble).await;
                }
            };
            tokio::join!(self.outside.clock.sleep(wait), said);
        }
    }

    /// Tells the trading system once to halt. Who does not wait for the answer does not take the call back, so whoever
    /// tells it to go on waits for its end.
    async fn halt(&self, means: &Means, emergency: &EmergencyRecord) -> Result<(), String> {
        let under_way = Arc::clone(&self.halting).lock_owned().await;
        let (desk, means) = (Arc::clone(&self.outside.desk), means.clone());
        let (epoch, reason) = (emergency.epoch, emergency.reason.clone());
        let call = tokio::spawn(async move {
            let _under_way = under_way;
            desk.halt(&means, epoch, &reason).await
        });
        call.await.unwrap_or_else(|error| Err(error.to_string()))
    }

    /// Cancels, closes and looks, as it is due.
    async fn carry_on(&self, means: &Means, epoch: u64) {
        // A trading system that does not answer holds up nothing: what is at the venues is dealt with all the same.
        let mut live = self.live.subscribe();
        let tried = live.wait_for(|live| live.halt_tried);
        let _ = tokio::time::timeout(PATIENCE, tried).await;
        let clock = &self.outside.clock;
        loop {
            let due = decide::due(&self.live.borrow().record);
            let turn = async {
                match due {
                    Due::Close => {}
                    Due::Cancel => {
                        let done = self.cancel(means, epoch).await;
                        if !done {
                            self.look(means).await;
                            clock.sleep(LOOK).await;
                        }
                    }
                    Due::Look => {
                        clock.sleep(LOOK).await;
                        self.look(means).await;
                    }
                }
            };
            match due {
                // Whatever comes meanwhile: it ends in its own time.
                Due::Close => self.close(means, epoch).await,
                Due::Cancel | Due::Look => tokio::select! {
                    () = turn => {}
                    () = self.wake.notified() => {}
                },
            }
        }
    }

    /// Lets the trading system send orders again, once the emergency is released.
    async fn give_back(&self, emergency: &EmergencyRecord) {
        let ours = {
            let live = self.live.borrow();
            let record = &live.record;
            record.epoch == emergency.epoch && record.told && record.resumed_at.is_none()
        };
        let path = Arc::clone(&self.file);
        if let Err(error) = on_disk(move || file::remove(&path)).await {
            // It names an epoch that is over: nobody closes by it.
            tracing::warn!(%error, file = %self.file.display(), "it can't be removed");
        }
        let Some(means) = self.config.control.as_ref().filter(|_| ours) else { return };
        let reason = emergency.release.as_ref().map_or("", |release| release.reason.as_str());
        self.about_to("trading.resume", reason).await;
        let mut wait = RETRY;
        // A call to halt that arrived after this one would halt it again.
        let _no_halt = self.halting.lock().await;
        loop {
            match self.outside.desk.resume(means, emergency.epoch, reason).await {
                Ok(()) => break,
                Err(why) => {
                    let before = self.live.borrow().resume_trouble.clone();
                    if before != why {
                        tracing::error!(why, "the trading system can't be told to go on");
                        self.live.send_modify(|live| live.resume_trouble.clone_from(&why));
                        self.bell.ring();
                    }
                    if before.is_empty() {
                        self.fail("trading.resume", "TRADING_NOT_RESUMED", &why).await;
                    }
                    wait = longer(wait);
                    self.outside.clock.sleep(wait).await;
                }
            }
        }
        let now = self.now();
        self.live.send_modify(|live| {
            live.record.resumed_at = Some(now);
            live.resume_trouble = String::new();
        });
        self.save("trading.resumed", "orders may leave again").await;
        self.bell.ring();
        // Forgotten, it would be told to go on again, whoever has halted it since.
        while !self.live.borrow().not_durable.is_empty() {
            self.outside.clock.sleep(LOOK).await;
            self.save("trading.resumed", "written down late").await;
        }
    }
}

/// The next wait after one that was in vain.
fn longer(wait: Duration) -> Duration {
    (wait * 2).min(RETRY_LATEST)
}

/// There is no trading system to close positions by.
fn unconfigured() -> Error {
    let message = "no trading system is configured, so no position can be closed from here: set [trading] control; until \
                   then close them where they are";
    let unmet = Unmet {
        code: "TRADING_UNCONFIGURED",
        subject: "[trading] control".to_owned(),
        message: message.to_owned(),
    };
    Error::refused("TRADING_UNCONFIGURED", message, vec![unmet])
}
