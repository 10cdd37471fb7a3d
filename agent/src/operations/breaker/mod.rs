//! Circuit breakers: services report how their calls went, the agent judges, and the services follow.
//!
//! [`judge`] says whether an operation is left by what is usual for it, [`life`] what a breaker does then. Both are
//! pure. A change is in force in memory at once; whoever follows is told once it is in redb as well, or once that was
//! tried in vain.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use genesis_stats::Usual;
use genesis_storage::{BreakerRecord, BreakerState, Moment, UsualRecord, UsualShare};
use jiff::Timestamp;
use tokio::sync::{Notify, mpsc, watch};

use crate::config::Follower;
use crate::error::{Error, Result, Unmet};
use crate::events::{Bell, Condition, Severity, Source};
use crate::outside::Outside;
use crate::plan::{Plan, demand_reason};
use crate::state::State;

mod act;
pub mod config;
pub mod judge;
pub mod life;
pub mod metrics;
pub mod plan;
pub mod report;
pub mod rpc;
#[cfg(test)]
mod tests;

pub use config::Config;
use judge::{Counts, Judge, SignalView};
use life::{Cause, Probing};
pub use metrics::Metrics;
use plan::word;

/// So many breakers there are at most.
pub const LIMIT: usize = 1_000;
/// One that is closed and of which nobody has reported for so long makes room for a new one.
const SILENT: Duration = Duration::from_secs(86_400);
/// So many changes wait at most for the hook.
const HOOKS_WAITING: usize = 256;
/// Who acts when nobody asked for it.
const ACTOR: &str = "system:breaker";
/// The page of the runbook.
const RUNBOOK: &str = "api-degradation";

/// One breaker in memory.
struct Entry {
    record: BreakerRecord,
    probing: Option<Probing>,
    judge: Judge,
    reported_at: Option<Timestamp>,
    /// When somebody last spoke of it, on the monotonic clock.
    heard: Duration,
    /// When a baseline last judged a minute of it, on the monotonic clock.
    observed: Option<Duration>,
    /// Told to those who follow under this number.
    version: u64,
}

/// A change that is in force and not yet told.
#[derive(Debug, Clone, PartialEq)]
struct Change {
    before: BreakerState,
    record: BreakerRecord,
}

/// What is not in redb yet.
#[derive(Debug, Clone, PartialEq)]
enum Pending {
    Changed(Change),
    Learned(UsualRecord),
    Forgotten(String),
}

#[derive(Default)]
struct Live {
    breakers: BTreeMap<String, Entry>,
    /// Oldest first.
    pending: VecDeque<Pending>,
    /// Changes that nobody was told of yet.
    untold: Vec<Change>,
    version: u64,
}

/// A breaker as people and programs see it.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// Where it is.
    pub record: BreakerRecord,
    /// How long until the first probe.
    pub remaining: Option<Duration>,
    /// The round of probes: its size, how many passed, how many are under way.
    pub round: (u32, u32, u32),
    /// What slow means.
    pub slow_after: Option<Duration>,
    /// What is known of slow calls.
    pub slow: SignalView,
    /// What is known of failed calls.
    pub failed: SignalView,
    /// How many windows are needed to learn what is usual.
    pub needed: usize,
    /// When a report last counted.
    pub reported_at: Option<Timestamp>,
    /// The latest window that is over.
    pub latest: Counts,
}

/// The breakers of this host.
pub struct Breakers {
    state: State,
    outside: Outside,
    config: ArcSwap<Config>,
    metrics: Metrics,
    bell: Bell,
    live: Mutex<Live>,
    /// The latest version that was told.
    told: watch::Sender<u64>,
    /// Something is due before the next look.
    wake: Notify,
    /// One writes at a time, so that changes are recorded in their order.
    writing: tokio::sync::Mutex<()>,
    hooks: mpsc::Sender<Change>,
    waiting_hooks: Mutex<Option<mpsc::Receiver<Change>>>,
}

impl Breakers {
    /// Takes over what the last agent left. [`Breakers::serve`] starts it. `bell` is rung at each change.
    ///
    /// # Errors
    /// `STORAGE_FAILED`.
    pub fn open(
        state: State,
        outside: Outside,
        config: Config,
        metrics: Metrics,
        bell: Bell,
    ) -> Result<Arc<Self>> {
        let (hooks, waiting) = mpsc::channel(HOOKS_WAITING);
        let breakers = Self {
            state,
            outside,
            config: ArcSwap::from_pointee(config),
            metrics,
            bell,
            live: Mutex::default(),
            told: watch::Sender::new(0),
            wake: Notify::new(),
            writing: tokio::sync::Mutex::new(()),
            hooks,
            waiting_hooks: Mutex::new(Some(waiting)),
        };
        breakers.load()?;
        Ok(Arc::new(breakers))
    }

    fn load(&self) -> Result<()> {
        let read = |reading: &genesis_storage::Reading<'_>| {
            Ok((reading.breakers().all()?, reading.breakers().usual()?))
        };
        let (records, learned) = self.state.read(read)?;
        let mut learned: BTreeMap<_, _> =
            learned.into_iter().map(|usual| (usual.name.clone(), usual)).collect();
        let now = self.outside.clock.moment();
        let known = records.iter().map(|record| record.name.clone());
        let names: std::collections::BTreeSet<_> = known.chain(learned.keys().cloned()).collect();
        let mut records: BTreeMap<_, _> =
            records.into_iter().map(|record| (record.name.clone(), record)).collect();
        let mut live = self.live();
        for name in names {
            let usual = learned.remove(&name).unwrap_or_default();
            let record = records.remove(&name).unwrap_or_else(|| life::unused(&name, &now));
            let entry = self.entry(record, &usual, &now);
            self.metrics.is(&name, entry.record.state);
            live.breakers.insert(name, entry);
        }
        Ok(())
    }

    fn entry(&self, record: BreakerRecord, usual: &UsualRecord, now: &Moment) -> Entry {
        let config = self.config.load();
        let known = |usual: Option<UsualShare>| {
            usual.map(|usual| Usual { share: usual.share, phi: usual.phi })
        };
        let rules = config.rules(&record.name);
        let probing = (record.state == BreakerState::HalfOpen)
            .then(|| probing(&config.pace(&record.name), now));
        Entry {
            judge: Judge::new(rules, usual.slow_after, known(usual.slow), known(usual.failed)),
            probing,
            record,
            reported_at: None,
            heard: self.outside.clock.monotonic(),
            observed: None,
            version: 0,
        }
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        // Each change of it is complete in itself, so a panic elsewhere does not spoil it.
        self.live.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The breaker of this name, a new one if need be. Where there are too many, the one that was silent the longest
    /// makes room.
    fn make(&self, live: &mut Live, name: &str, now: &Moment) -> Result<()> {
        let monotonic = self.outside.clock.monotonic();
        if let Some(entry) = live.breakers.get_mut(name) {
            entry.heard = monotonic;
            return Ok(());
        }
        if live.breakers.len() >= LIMIT {
            let idle = live.breakers.values().filter(|entry| {
                entry.record.state == BreakerState::Closed
                    && monotonic.saturating_sub(entry.heard) >= SILENT
            });
            let Some(oldest) = idle.min_by_key(|entry| entry.heard) else {
                let message = format!("there are {LIMIT} breakers already, all of them in use");
                return Err(Error::refused("BREAKERS_FULL", message, Vec::<Unmet>::new()));
            };
            let oldest = oldest.record.name.clone();
            live.breakers.remove(&oldest);
            self.metrics.forget(&oldest);
            live.pending.push_back(Pending::Forgotten(oldest));
        }
        let usual = UsualRecord::default();
        let entry = self.entry(life::unused(name, now), &usual, now);
        self.metrics.is(name, entry.record.state);
        live.breakers.insert(name.to_owned(), entry);
        self.wake.notify_one();
        // Who follows hears what slow means.
        self.tell(live, std::iter::once(name));
        Ok(())
    }

    /// Tells those who follow that these are others now.
    fn tell<'n>(&self, live: &mut Live, names: impl Iterator<Item = &'n str>) {
        live.version = live.version.max(1) + 1;
        for name in names {
            if let Some(entry) = live.breakers.get_mut(name) {
                entry.version = live.version;
            }
        }
        // Sent under the lock, so that the numbers come in order.
        self.told.send_replace(live.version);
    }

    /// Puts a breaker into another state. Who follows is told by [`Breakers::settle`].
    fn turn(&self, live: &mut Live, record: BreakerRecord, now: &Moment) {
        let Some(entry) = live.breakers.get_mut(&record.name) else { return };
        let change = Change { before: entry.record.state, record };
        let record = &change.record;
        entry.probing = (record.state == BreakerState::HalfOpen)
            .then(|| probing(&self.config.load().pace(&record.name), now));
        match record.state {
            BreakerState::Open => entry.judge.calm(),
            BreakerState::Closed if change.before != BreakerState::Closed => {
                entry.judge.watchful();
            }
            BreakerState::Closed | BreakerState::HalfOpen => {}
        }
        self.metrics.is(&record.name, record.state);
        entry.record = record.clone();
        live.pending.push_back(Pending::Changed(change.clone()));
        live.untold.push(change);
    }

    fn view(&self, entry: &Entry, now: &Moment) -> View {
        View {
            remaining: life::remaining(&entry.record, now),
            round: entry.probing.as_ref().map_or((0, 0, 0), Probing::round),
            record: entry.record.clone(),
            slow_after: entry.judge.slow_after(),
            slow: entry.judge.slow.view(),
            failed: entry.judge.failed.view(),
            needed: entry.judge.needed(),
            reported_at: entry.reported_at,
            latest: entry.judge.latest(),
        }
    }

    /// One breaker.
    ///
    /// # Errors
    /// `BREAKER_NOT_FOUND`.
    pub fn get(&self, name: &str) -> Result<View> {
        let now = self.outside.clock.moment();
        let live = self.live();
        live.breakers.get(name).map(|entry| self.view(entry, &now)).ok_or_else(|| absent(name))
    }

    /// All of them, by name.
    pub fn list(&self) -> Vec<View> {
        let now = self.outside.clock.moment();
        self.live().breakers.values().map(|entry| self.view(entry, &now)).collect()
    }

    /// Those of `names` (all, if there are none) that were told after `version`, and what is the latest by now.
    pub fn since(
        &self,
        version: u64,
        names: &std::collections::BTreeSet<String>,
    ) -> (u64, Vec<View>) {
        let now = self.outside.clock.moment();
        let live = self.live();
        let wanted = |entry: &&Entry| {
            (version == 0 || entry.version > version)
                && (names.is_empty() || names.contains(&entry.record.name))
        };
        let views = live.breakers.values().filter(wanted).map(|entry| self.view(entry, &now));
        (live.version.max(1), views.collect())
    }

    /// Follows the number of the latest change that was told.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.told.subscribe()
    }

    /// What opening one by hand would do.
    ///
    /// # Errors
    /// `BREAKER_INVALID`, `DURATION_INVALID`.
    pub fn plan_trip(&self, name: &str, lasts: &str) -> Result<Plan> {
        let (name, lasts) = (plan::named(name)?, plan::lasting(lasts)?);
        let live = self.live();
        Ok(plan::trip(&name, live.breakers.get(&name).map(|entry| &entry.record), lasts))
    }

    /// Opens one by hand.
    ///
    /// # Errors
    /// `BREAKER_INVALID`, `BREAKERS_FULL`, `DURATION_INVALID`, `REASON_MISSING`, `PLAN_CHANGED`; `STORAGE_FAILED`: it is
    /// in force, but not durable yet.
    pub async fn trip(
        &self,
        name: &str,
        lasts: &str,
        plan_hash: &str,
        (by, reason): (&str, &str),
    ) -> Result<View> {
        let (name, lasts) = (plan::named(name)?, plan::lasting(lasts)?);
        demand_reason(reason, "a breaker is opened by hand with a reason")?;
        let now = self.outside.clock.moment();
        {
            let mut live = self.live();
            let known = live.breakers.get(&name).map(|entry| &entry.record);
            plan::trip(&name, known, lasts).accept(plan_hash)?;
            self.make(&mut live, &name, &now)?;
            let Some(entry) = live.breakers.get(&name) else { return Err(absent(&name)) };
            let record = life::forced(&entry.record, lasts, Cause { by, reason }, &now);
            self.turn(&mut live, record, &now);
        }
        self.metrics.tripped("manual");
        self.settle_now().await?;
        self.get(&name)
    }

    /// What closing one by hand would do.
    ///
    /// # Errors
    /// `BREAKER_NOT_FOUND`.
    pub fn plan_reset(&self, name: &str, relearn: bool) -> Result<Plan> {
        let live = self.live();
        let entry = live.breakers.get(name).ok_or_else(|| absent(name))?;
        Ok(plan::reset(&entry.record, relearn))
    }

    /// Closes one by hand, without probes. `true`: it was closed already.
    ///
    /// # Errors
    /// `BREAKER_NOT_FOUND`, `REASON_MISSING`, `PLAN_CHANGED`; `STORAGE_FAILED`: it is in force, but not durable yet.
    pub async fn reset(
        &self,
        name: &str,
        relearn: bool,
        plan_hash: &str,
        (by, reason): (&str, &str),
    ) -> Result<(View, bool)> {
        demand_reason(reason, "a breaker is reset with a reason")?;
        let now = self.outside.clock.moment();
        let was_closed = {
            let mut live = self.live();
            let entry = live.breakers.get_mut(name).ok_or_else(|| absent(name))?;
            plan::reset(&entry.record, relearn).accept(plan_hash)?;
            let was_closed = entry.record.state == BreakerState::Closed;
            let record = life::closed(&entry.record, Cause { by, reason }, true, &now);
            if relearn {
                entry.judge.relearn();
            }
            let usual = learned(entry);
            // What is learned anew is a change of its own, also of one that is closed.
            if !was_closed || relearn {
                self.turn(&mut live, record, &now);
            }
            if relearn {
                live.pending.push_back(Pending::Learned(usual));
            }
            was_closed
        };
        self.settle_now().await?;
        Ok((self.get(name)?, was_closed))
    }
}

/// What of an operation was learned, to be kept.
fn learned(entry: &Entry) -> UsualRecord {
    let (slow, failed) = entry.judge.learned();
    let kept = |usual: Usual| UsualShare { share: usual.share, phi: usual.phi };
    UsualRecord {
        name: entry.record.name.clone(),
        slow_after: entry.judge.slow_after(),
        slow: slow.map(kept),
        failed: failed.map(kept),
    }
}

/// The numbers of probes begin at the time, so that those of an agent before are none of these.
fn probing(pace: &life::Pace, now: &Moment) -> Probing {
    Probing::new(pace, u64::try_from(now.wall.as_nanosecond()).unwrap_or(1))
}

fn absent(name: &str) -> Error {
    let shown: String = name.chars().take(64).collect();
    let message = format!("there is no breaker {shown:?}; `genesisctl breaker list` shows them");
    Error::not_found("BREAKER_NOT_FOUND", message)
}

#[async_trait]
impl Follower for Breakers {
    async fn follow(&self, config: &crate::config::Config) {
        let before = self.config.swap(Arc::new(config.breaker.clone()));
        let now = &config.breaker;
        let mut live = self.live();
        let mut others = Vec::new();
        for (name, entry) in &mut live.breakers {
            if before.rules(name) != now.rules(name) {
                entry.judge = entry.judge.under(now.rules(name));
                others.push(name.clone());
            }
        }
        self.tell(&mut live, others.iter().map(String::as_str));
        drop(live);
        self.wake.notify_one();
    }
}

#[async_trait]
impl Source for Breakers {
    fn name(&self) -> &'static str {
        "breaker"
    }

    async fn conditions(&self) -> Result<Vec<Condition>> {
        let views = self.list();
        let open = views.iter().filter(|view| view.record.state != BreakerState::Closed);
        Ok(open.map(condition).collect())
    }
}

/// One that opens again soon is the same condition.
fn condition(view: &View) -> Condition {
    let record = &view.record;
    let mut details = vec![format!("by {}: {}", record.by, record.reason)];
    if record.failures > 0 {
        details.push(format!("it did not come back {} time(s)", record.failures));
    }
    if record.state == BreakerState::Open && record.lasts.is_none() {
        details.push("open until `genesisctl breaker reset`".to_owned());
    }
    Condition {
        key: format!("breaker/{}", record.name),
        subject: record.name.clone(),
        severity: Severity::High,
        title: format!("breaker {} is {}", record.name, word(record.state)),
        details,
        runbook: RUNBOOK.to_owned(),
        since: record.since.wall,
        behind: Vec::new(),
    }
}
