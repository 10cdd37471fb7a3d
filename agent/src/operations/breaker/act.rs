//! Changes written, told and handed to the hook, and what is due by the clock.

use std::sync::Arc;
use std::time::Duration;

use genesis_storage::{BreakerState, Intent};
use serde_json::json;
use tokio::sync::mpsc;

use super::judge::Judged;
use super::plan::word;
use super::{ACTOR, Breakers, Change, Live, Pending, learned, life};
use crate::error::{Error, Result};
use crate::outside::hooks;

/// The longest between two looks at the clock.
const LOOK: Duration = Duration::from_millis(250);
/// And while there are no breakers: a new one is heard of at once.
const IDLE: Duration = Duration::from_secs(3_600);
/// A baseline that has judged a minute within so long watches over the latency.
const OBSERVED: Duration = Duration::from_secs(600);
/// So many changes are kept that can't be written.
const PENDING_LIMIT: usize = 4_096;

impl Breakers {
    /// Judges windows that are over, and lets probes through when it is time. Ends never.
    pub async fn serve(self: Arc<Self>) {
        let waiting =
            self.waiting_hooks.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        let running = waiting.map(|waiting| tokio::spawn(run_hooks(Arc::clone(&self), waiting)));
        let _running = running.map(AbortOnDrop);
        loop {
            if self.look() {
                self.settle().await;
            }
            let pause = self.pause();
            tokio::select! {
                () = self.outside.clock.tick(pause) => {}
                () = self.wake.notified() => {}
            }
        }
    }

    fn pause(&self) -> Duration {
        let live = self.live();
        match live.breakers.is_empty() && live.pending.is_empty() {
            true => IDLE,
            false => LOOK.min(self.config.load().window() / 8),
        }
    }

    /// What the clock makes due. `true`: something is to be written.
    pub(super) fn look(&self) -> bool {
        let now = self.outside.clock.moment();
        let monotonic = self.outside.clock.monotonic();
        let mut live = self.live();
        let names: Vec<String> = live.breakers.keys().cloned().collect();
        for name in names {
            let Some(entry) = live.breakers.get_mut(&name) else { continue };
            if entry.observed.is_some_and(|at| monotonic.saturating_sub(at) < OBSERVED) {
                entry.judge.leave_latency();
            }
            let Judged { trip, learned: has_learned } = entry.judge.close(now.wall);
            let usual = has_learned.then(|| learned(entry));
            let (state, half_open) = (entry.record.state, life::half_opened(&entry.record, &now));
            if let Some(usual) = usual {
                live.pending.push_back(Pending::Learned(usual));
            }
            match (trip, half_open) {
                (Some(trip), _) if state == BreakerState::Closed => {
                    self.trip_by_itself(&mut live, &name, trip.word(), &trip.words(), &now);
                }
                (_, Some(record)) => self.turn(&mut live, record, &now),
                _ => {}
            }
        }
        !live.pending.is_empty()
    }

    /// Writes what waits, then tells who follows, also of what could not be written: it is in force.
    pub(super) async fn settle(&self) {
        let written = self.write().await;
        // Said once for each change, not at each try.
        if let Err(error) = &written
            && !self.live().untold.is_empty()
        {
            tracing::error!(
                error = error.chain(),
                "a breaker's change is in force, and could not be made durable yet"
            );
        }
        {
            let mut live = self.live();
            let changes = std::mem::take(&mut live.untold);
            if changes.is_empty() {
                return;
            }
            self.tell(&mut live, changes.iter().map(|change| change.record.name.as_str()));
            changes.iter().for_each(|change| self.hand_to_hook(change));
        }
        self.bell.ring();
    }

    /// [`Breakers::settle`] that says whether all of it is durable.
    pub(super) async fn settle_now(&self) -> Result<()> {
        self.settle().await;
        match self.live().pending.is_empty() {
            true => Ok(()),
            false => Err(Error::unavailable(
                "STORAGE_FAILED",
                "it is in force, and could not be made durable yet; it is tried again soon",
            )),
        }
    }

    /// What waits is of whoever changed it, and not of whoever writes it.
    async fn write(&self) -> Result<()> {
        crate::trace::apart(self.write_all()).await
    }

    async fn write_all(&self) -> Result<()> {
        let _alone = self.writing.lock().await;
        loop {
            let Some(next) = self.live().pending.front().cloned() else { return Ok(()) };
            let written = match next {
                Pending::Changed(change) => self.record(change).await,
                Pending::Learned(usual) => {
                    let put = move |keeping: &mut genesis_storage::Bookkeeping<'_>| {
                        Ok(keeping.breakers().put_usual(&usual)?)
                    };
                    self.state.bookkeep(put).await
                }
                Pending::Forgotten(name) => {
                    let intent = Intent::new(self.outside.clock.now(), ACTOR, "breaker.forgotten");
                    let intent = intent.target(name.clone()).detail("it was silent for a day");
                    let forget = move |writing: &mut genesis_storage::Writing<'_>| {
                        Ok(writing.breakers().forget(&name).map(drop)?)
                    };
                    self.state.write(intent, forget).await
                }
            };
            let mut live = self.live();
            if let Err(error) = written {
                shorten(&mut live);
                return Err(error);
            }
            live.pending.pop_front();
        }
    }

    async fn record(&self, change: Change) -> Result<()> {
        let Change { before, record } = change;
        let (action, by) = match record.state {
            BreakerState::Open => ("breaker.opened", record.by.clone()),
            BreakerState::HalfOpen => ("breaker.half-opened", ACTOR.to_owned()),
            BreakerState::Closed => ("breaker.closed", record.by.clone()),
        };
        let lasts = match (record.state, record.lasts) {
            (BreakerState::Open, Some(lasts)) => format!(", for {lasts:?}"),
            (BreakerState::Open, None) => ", until it is reset".to_owned(),
            _ => String::new(),
        };
        let detail = format!("was {}, opening {}{lasts}", word(before), record.opening);
        let intent = Intent::new(record.since.wall, by, action)
            .target(record.name.clone())
            .reason(record.reason.clone())
            .detail(detail);
        self.state.write(intent, move |writing| Ok(writing.breakers().put(&record)?)).await
    }

    fn hand_to_hook(&self, change: &Change) {
        if self.config.load().on_change.is_none() {
            return;
        }
        if self.hooks.try_send(change.clone()).is_err() {
            self.metrics.hooked("dropped");
            tracing::error!(
                breaker = change.record.name,
                "too many changes wait for the hook; it does not hear of this one"
            );
        }
    }
}

/// A disk that stays full can't fill the memory: what is superseded goes first.
fn shorten(live: &mut Live) {
    while live.pending.len() > PENDING_LIMIT {
        live.pending.pop_front();
    }
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Runs the hook for each change, one after the other, so that the last one it hears of is how things are.
async fn run_hooks(breakers: Arc<Breakers>, mut waiting: mpsc::Receiver<Change>) {
    while let Some(Change { before, record }) = waiting.recv().await {
        let Some(hook) = breakers.config.load().on_change.clone() else { continue };
        let until = record.lasts.filter(|_| record.state == BreakerState::Open).and_then(|lasts| {
            record.since.wall.checked_add(jiff::SignedDuration::try_from(lasts).ok()?).ok()
        });
        let input = json!({
            "breaker": record.name,
            "state": word(record.state),
            "previous": word(before),
            "since": record.since.wall.to_string(),
            "until": until.map(|until| until.to_string()),
            "by": record.by,
            "reason": record.reason,
            "opening": record.opening,
        });
        let variables =
            [("BREAKER", record.name.clone()), ("BREAKER_STATE", word(record.state).to_owned())];
        match hooks::run(&hook, &input, &variables).await {
            Ok(_) => breakers.metrics.hooked("succeeded"),
            Err(error) => {
                breakers.metrics.hooked("failed");
                tracing::error!(
                    error = error.chain(),
                    breaker = record.name,
                    "the hook of a breaker's change failed"
                );
            }
        }
    }
}
