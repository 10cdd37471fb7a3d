//! A circuit breaker for programs: a [`BreakerLayer`] for tower, or [`Breaker::enter`] around any call.
//!
//! With an agent ([`Breaker::follow`]) the breaker is the agent's: it is open when the agent says so, in all programs
//! of the host at once, and half-open lets through only the probes that the agent has granted. How calls went is
//! reported in the background, several times in each of the agent's windows. Neither ever makes a call wait.
//!
//! Without one ([`Breaker::local`]), and while the agent is away, it works by its own counts, with the same life: open
//! for 30 s, then 1, 2, 4 ... probes, then closed; a failed probe opens it for longer. It opens after a number of
//! failures in a row, or at a share of failures, see [`Policy`]. When the agent comes back, what the breaker has opened
//! by itself runs its course first. What a person has opened until a reset stays open while the agent is away.
//!
//! ```no_run
//! # async fn example<S>(service: S) -> Result<(), genesis_client::Error>
//! # where S: tower::Service<String, Response = u16, Error = std::io::Error> {
//! use genesis_client::breaker::{Breaker, BreakerError, Settings};
//! use genesis_client::Options;
//! use tower::{Layer, ServiceExt};
//!
//! let settings = Settings::new("orders-api");
//! let breaker = Breaker::follow("unix:/run/genesis/agent.sock".parse()?, Options::default(), settings);
//! // A call that answers 500 and more has failed, too.
//! let layer = breaker.layer().failing_if(|result: &Result<u16, std::io::Error>| {
//!     result.as_ref().map_or(true, |status| *status >= 500)
//! });
//! match layer.layer(service).oneshot("an order".to_owned()).await {
//!     Ok(status) => assert_eq!(status, 200),
//!     Err(BreakerError::Rejected(rejected)) => eprintln!("try again in {:?}", rejected.retry_after),
//!     Err(BreakerError::Inner(error)) => eprintln!("{error}"),
//! }
//! # Ok(())
//! # }
//! ```

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::{Client, Node, Options, clock};

mod follow;
mod layer;
mod local;
mod report;
#[cfg(test)]
mod tests;

use follow::Followed;
pub use layer::{BreakerError, BreakerFuture, BreakerLayer, BreakerService, Classify, If, IsError};
use local::{Admission, Local, SOON, Totals};
pub use local::{Policy, State};

/// A probe may take so many times as long as a call that counts as slow. Healthy calls are slow now and then; a probe
/// that is would keep the breaker open for nothing.
const PROBE_SLACK: u32 = 2;
/// So many results of probes wait for the agent at most.
const RESULTS: usize = 4_096;

/// What a breaker is for, and how it works.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Of the operation or dependency: 1 to 128 of a-z, A-Z, 0-9 and -_.:/
    pub name: String,
    /// A call that takes longer counts as slow. `None`: what the agent's configuration says; if that is nothing,
    /// latency is not judged.
    pub slow_after: Option<Duration>,
    /// How often it is reported, at most; more often where the agent's windows are short.
    pub report_every: Duration,
    /// What holds without an agent.
    pub policy: Policy,
}

impl Settings {
    /// The defaults for this name: latency as the agent has it, a report every 10 s.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            slow_after: None,
            report_every: Duration::from_secs(10),
            policy: Policy::default(),
        }
    }
}

/// A call was not made, because the breaker is open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the breaker {name} is open{}; try again after {retry_after:?}", by(*by_agent))]
pub struct Rejected {
    /// The breaker's name.
    pub name: Arc<str>,
    /// When it may let a call through again.
    pub retry_after: Duration,
    /// Whether the agent has opened it; otherwise it was its own counts.
    pub by_agent: bool,
}

fn by(agent: bool) -> &'static str {
    if agent { ", says the agent" } else { ", by its own counts" }
}

/// A breaker as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// Whether calls go through.
    pub state: State,
    /// Whether the agent is there; otherwise the breaker works by its own counts.
    pub agent: bool,
    /// Reports that the agent has taken.
    pub reported: u64,
    /// Reports that were given up, because the agent was away for too long or would not take them.
    pub unreported: u64,
}

/// A circuit breaker. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Breaker {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: Arc<str>,
    settings: Settings,
    /// Calls go through without a look at the rest.
    flowing: AtomicBool,
    /// What slow means, in nanoseconds; `u64::MAX`: it is not judged.
    slow_after: AtomicU64,
    calls: AtomicU64,
    failed: AtomicU64,
    slow: AtomicU64,
    rejected: AtomicU64,
    in_a_row: AtomicU32,
    /// When what was counted is to be marked next, in nanoseconds.
    mark_at: AtomicU64,
    gate: Mutex<Gate>,
    /// There is something for the agent that should not wait for the next report.
    hurry: Arc<Notify>,
    reported: AtomicU64,
    unreported: AtomicU64,
    tasks: OnceLock<[AbortHandle; 2]>,
}

/// What is looked at only when something is wrong.
#[derive(Debug)]
struct Gate {
    local: Local,
    agent: Followed,
    /// Probes that the agent has granted, and until when they may begin.
    granted: Vec<(u64, Duration)>,
    /// Calls that would have been probes.
    wanted: u32,
    /// How the agent's probes ended; `None`: they were not made.
    results: Vec<(u64, Option<bool>)>,
    client: Option<Client>,
    /// The agent's windows.
    window: Option<Duration>,
}

/// How a call was let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ticket {
    Ordinary,
    Granted(u64),
    Own(u64),
}

/// A call that was let through. Dropped without [`Entered::finish`] it was given up: it counts as failed if it took
/// longer than a slow call, else not at all.
#[derive(Debug)]
pub struct Entered {
    inner: Arc<Inner>,
    ticket: Ticket,
    began: Duration,
    open: bool,
}

impl Breaker {
    /// A breaker that works by its own counts.
    pub fn local(settings: Settings) -> Self {
        let slow_after = settings.slow_after.map_or(u64::MAX, nanoseconds);
        let gate = Gate {
            local: Local::new(settings.policy),
            agent: Followed::default(),
            granted: Vec::new(),
            wanted: 0,
            results: Vec::new(),
            client: None,
            window: None,
        };
        let inner = Inner {
            name: settings.name.as_str().into(),
            settings,
            flowing: AtomicBool::new(true),
            slow_after: AtomicU64::new(slow_after),
            calls: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            slow: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            in_a_row: AtomicU32::new(0),
            mark_at: AtomicU64::new(0),
            gate: Mutex::new(gate),
            hurry: Arc::default(),
            reported: AtomicU64::new(0),
            unreported: AtomicU64::new(0),
            tasks: OnceLock::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// A breaker that follows the agent at `node`, as soon as and as long as it is there. Its work in the background
    /// ends with the last clone.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn follow(node: Node, options: Options, settings: Settings) -> Self {
        let breaker = Self::local(settings);
        let follower = follow::run(Arc::downgrade(&breaker.inner), node, options);
        let reporter = report::run(Arc::downgrade(&breaker.inner));
        let tasks = [tokio::spawn(follower).abort_handle(), tokio::spawn(reporter).abort_handle()];
        // It is new, so nobody else has set them.
        let _ = breaker.inner.tasks.set(tasks);
        breaker
    }

    /// The layer that puts this breaker before a service; an `Err` of the service is a failure.
    pub fn layer(&self) -> BreakerLayer<IsError> {
        BreakerLayer::new(self.clone())
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// How it is.
    pub fn status(&self) -> Status {
        let gate = self.inner.gate();
        Status {
            state: gate.state(),
            agent: gate.agent.present,
            reported: self.inner.reported.load(Ordering::Relaxed),
            unreported: self.inner.unreported.load(Ordering::Relaxed),
        }
    }

    /// Asks whether a call may be made now. Never waits.
    ///
    /// # Errors
    /// It may not.
    pub fn enter(&self) -> Result<Entered, Rejected> {
        let began = clock::monotonic();
        let ticket = match self.inner.flowing.load(Ordering::Acquire) {
            true => Ticket::Ordinary,
            false => self.inner.admit(began)?,
        };
        Ok(Entered { inner: Arc::clone(&self.inner), ticket, began, open: true })
    }
}

impl Entered {
    /// The call has ended, well or not.
    pub fn finish(mut self, well: bool) {
        self.open = false;
        self.inner.ended(self.ticket, self.began, Some(well));
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        if self.open {
            self.inner.ended(self.ticket, self.began, None);
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.tasks.get().into_iter().flatten().for_each(AbortHandle::abort);
    }
}

fn nanoseconds(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

impl Gate {
    fn state(&self) -> State {
        match self.agent.state {
            State::Closed => self.local.state(),
            state => state,
        }
    }

    /// Whether calls need no look at any of this.
    fn flows(&self) -> bool {
        self.state() == State::Closed
    }
}

impl Inner {
    fn gate(&self) -> MutexGuard<'_, Gate> {
        // Each change of it is complete in itself, so a panic elsewhere does not spoil it.
        self.gate.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Changes what is behind the gate, and says whether calls flow.
    fn change<T>(&self, change: impl FnOnce(&mut Gate) -> T) -> T {
        let mut gate = self.gate();
        let changed = change(&mut gate);
        let flows = gate.flows();
        if flows && !self.flowing.load(Ordering::Relaxed) {
            // Failures of calls that had begun before it opened are done with.
            self.in_a_row.store(0, Ordering::Relaxed);
        }
        self.flowing.store(flows, Ordering::Release);
        changed
    }

    fn admit(&self, now: Duration) -> Result<Ticket, Rejected> {
        let (admission, by_agent) = self.change(|gate| gate.admit(now));
        match admission {
            Ok(ticket) => Ok(ticket),
            Err(retry_after) => {
                self.rejected.fetch_add(1, Ordering::Relaxed);
                if by_agent {
                    self.hurry.notify_one();
                }
                Err(Rejected { name: Arc::clone(&self.name), retry_after, by_agent })
            }
        }
    }

    fn ended(&self, ticket: Ticket, began: Duration, well: Option<bool>) {
        let now = clock::monotonic();
        let took = nanoseconds(now.saturating_sub(began));
        let slow_after = self.slow_after.load(Ordering::Relaxed);
        // Given up on after it had become slow: whoever waited had a reason to stop.
        let well = well.or((took > slow_after).then_some(false));
        let probe = |well: Option<bool>| {
            let in_time = took <= slow_after.saturating_mul(u64::from(PROBE_SLACK));
            well.map(|well| well && in_time)
        };
        match ticket {
            Ticket::Ordinary => {
                let Some(well) = well else { return };
                let before = self.calls.fetch_add(1, Ordering::Relaxed);
                if nanoseconds(now) >= self.mark_at.load(Ordering::Relaxed) {
                    self.mark(before, now);
                }
                if took > slow_after {
                    self.slow.fetch_add(1, Ordering::Relaxed);
                }
                if well {
                    // A write would take the line from the other processors with every call.
                    if self.in_a_row.load(Ordering::Relaxed) != 0 {
                        self.in_a_row.store(0, Ordering::Relaxed);
                    }
                } else {
                    self.has_failed(now);
                }
            }
            Ticket::Own(id) => self.change(|gate| gate.local.settle(id, probe(well), now)),
            Ticket::Granted(id) => {
                let result = (id, probe(well));
                self.change(|gate| {
                    if gate.results.len() < RESULTS {
                        gate.results.push(result);
                    }
                });
                self.hurry.notify_one();
            }
        }
    }

    fn mark(&self, calls: u64, now: Duration) {
        let totals = Totals { calls, failed: self.failed.load(Ordering::Relaxed) };
        let due = self.gate().local.mark(totals, now);
        self.mark_at.store(nanoseconds(due), Ordering::Relaxed);
    }

    fn has_failed(&self, now: Duration) {
        let failed = self.failed.fetch_add(1, Ordering::Relaxed) + 1;
        let in_a_row = self.in_a_row.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let totals = Totals { calls: self.calls.load(Ordering::Relaxed), failed };
        let opened = self.change(|gate| {
            // While the agent is there, it is the judge.
            !gate.agent.present && gate.local.failed(totals, in_a_row, now)
        });
        if opened {
            self.in_a_row.store(0, Ordering::Relaxed);
        }
    }
}

impl Gate {
    /// A ticket, or when to try again; and whether the agent has said so.
    fn admit(&mut self, now: Duration) -> (Result<Ticket, Duration>, bool) {
        match self.agent.state {
            State::Closed => {}
            State::Open => {
                let wait = self.agent.until.map_or(Duration::from_secs(1), |until| {
                    // The agent says when; until it has, soon is soon enough.
                    until.saturating_sub(now).max(SOON)
                });
                return (Err(wait), true);
            }
            State::HalfOpen => {
                while let Some((probe, until)) = self.granted.pop() {
                    if until > now {
                        return (Ok(Ticket::Granted(probe)), true);
                    }
                }
                self.wanted = self.wanted.saturating_add(1);
                return (Err(SOON), true);
            }
        }
        let admission = match self.local.admit(now) {
            Admission::Pass => Ok(Ticket::Ordinary),
            Admission::Probe(probe) => Ok(Ticket::Own(probe)),
            Admission::Reject(wait) => Err(wait),
        };
        (admission, false)
    }
}
