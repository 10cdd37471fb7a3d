//! The dead man's handle: a trading system that has called and then falls silent is told to halt. Nothing is closed by it.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use genesis_storage::{Intent, LeaseRecord};
use jiff::Timestamp;

use super::Course;
use crate::error::{Error, Result, Unmet};

/// So often it is looked at.
const PACE: Duration = Duration::from_millis(250);
const HOLDER: &str = "system:lease";

/// Who has called last, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Held {
    record: LeaseRecord,
    /// On the monotonic clock.
    at: Duration,
    renewed_at: Option<Timestamp>,
    /// It is written down that there is one.
    kept: bool,
}

/// The lease of the trading system.
pub(super) struct Lease {
    /// `None`: no lease is configured.
    lasts: Option<Duration>,
    held: Mutex<Option<Held>>,
    writing: tokio::sync::Mutex<()>,
}

/// The lease as people see it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeaseView {
    /// How long the trading system may be silent; `None`: no lease is configured.
    pub lasts: Option<Duration>,
    /// Who renews it; empty: nobody does.
    pub holder: String,
    /// When it was renewed last; `None`: not since the agent was started.
    pub renewed_at: Option<Timestamp>,
}

impl Lease {
    /// Whoever held it before the agent's restart has its whole time from `now` on.
    pub(super) fn new(lasts: Option<Duration>, before: Option<LeaseRecord>, now: Duration) -> Self {
        let held = before.map(|record| Held { record, at: now, renewed_at: None, kept: true });
        let held = Mutex::new(held.filter(|_| lasts.is_some()));
        Self { lasts, held, writing: tokio::sync::Mutex::default() }
    }

    fn held(&self) -> MutexGuard<'_, Option<Held>> {
        // Each change of it is complete in itself, so a panic elsewhere does not spoil it.
        self.held.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Takes the lease away when there was silence for too long; for how long.
    fn lost(&self, now: Duration) -> Option<(LeaseRecord, Duration)> {
        let lasts = self.lasts?;
        let lost = self.held().take_if(|held| now.saturating_sub(held.at) > lasts)?;
        Some((lost.record, now.saturating_sub(lost.at)))
    }
}

impl Course {
    /// Says that the trading system is well; how long it may be silent from now on.
    ///
    /// # Errors
    /// `LEASE_UNCONFIGURED`; `STORAGE_FAILED` when a new holder can't be written down.
    pub async fn renew(&self, by: &str, give_up: bool) -> Result<Duration> {
        let Some(lasts) = self.lease.lasts else {
            let message = "no lease is configured: set [trading] lease, such as \"10s\", and restart the agent";
            let unmet = Unmet {
                code: "LEASE_UNCONFIGURED",
                subject: "[trading] lease".to_owned(),
                message: message.to_owned(),
            };
            return Err(Error::refused("LEASE_UNCONFIGURED", message, vec![unmet]));
        };
        let (at, now) = (self.outside.clock.monotonic(), self.now());
        let write = {
            let mut held = self.lease.held();
            let kept = held.as_ref().is_some_and(|held| held.kept);
            match give_up {
                false => {
                    let record = LeaseRecord { holder: by.to_owned(), since: now };
                    *held = Some(Held { record, at, renewed_at: Some(now), kept });
                    // Only that there is one is written down: a renewal must cost nothing.
                    !kept
                }
                // Another's is not given up.
                true if held.as_ref().is_some_and(|held| held.record.holder == by) => {
                    held.take().is_some()
                }
                true => false,
            }
        };
        match (write, give_up) {
            (false, _) => {}
            (true, false) => self.keep_lease(by, "trading.lease-taken").await?,
            (true, true) => self.keep_lease(by, "trading.lease-given-up").await?,
        }
        Ok(lasts)
    }

    /// Writes down whether there is a lease, as it is by then: of two that write, the later one does not undo what came
    /// after it.
    async fn keep_lease(&self, by: &str, action: &str) -> Result<()> {
        let _alone = self.lease.writing.lock().await;
        let record = self.lease.held().as_ref().map(|held| held.record.clone());
        let there = record.is_some();
        let intent = Intent::new(self.now(), by, action);
        let put = move |writing: &mut genesis_storage::Writing<'_>| {
            Ok(writing.course().put_lease(record.as_ref())?)
        };
        self.state.write(intent, put).await?;
        if let Some(held) = self.lease.held().as_mut().filter(|_| there) {
            held.kept = true;
        }
        Ok(())
    }

    /// The lease as people see it.
    pub fn lease(&self) -> LeaseView {
        let held = self.lease.held();
        let (holder, renewed_at) = match held.as_ref() {
            Some(held) => (held.record.holder.clone(), held.renewed_at),
            None => (String::new(), None),
        };
        LeaseView { lasts: self.lease.lasts, holder, renewed_at }
    }

    /// Declares an emergency when the trading system has been silent for too long. It has to call again before its
    /// silence counts again.
    pub(super) async fn watch_lease(self: Arc<Self>) {
        let clock = &self.outside.clock;
        let mut before = clock.monotonic();
        loop {
            clock.tick(PACE).await;
            let now = clock.monotonic();
            let slept = now.saturating_sub(std::mem::replace(&mut before, now));
            if slept > PACE * 4 {
                // This process stood still, and renewals may wait to be read: that time does not count.
                if let Some(held) = self.lease.held().as_mut() {
                    held.at = (held.at + slept.saturating_sub(PACE)).min(now);
                }
            }
            // Whoever renews from here on takes a new one.
            let Some((record, silent)) = self.lease.lost(clock.monotonic()) else { continue };
            let seconds = silent.as_secs_f64();
            let reason =
                format!("the trading system ({}) was silent for {seconds:.1} s", record.holder);
            if let Err(error) = self.emergency.activate(HOLDER, &reason, "").await {
                // It is in force in memory; the flag is written again every second.
                tracing::error!(error = error.chain(), "the emergency is not durable");
            }
            if let Err(error) = self.keep_lease(HOLDER, "trading.lease-lost").await {
                tracing::error!(
                    error = error.chain(),
                    "the loss of the lease can't be written down"
                );
            }
        }
    }
}
