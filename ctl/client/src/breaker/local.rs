//! The breaker by its own counts, pure: what is in force while there is no agent. Time is an argument, on a clock
//! that never goes back.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use genesis_stats::{Progress, Ramp, open_for};

/// When a breaker opens by its own counts, and how it comes back.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Policy {
    /// So many failures in a row open it.
    pub consecutive: u32,
    /// So large a share of failures opens it, ...
    pub ratio: f64,
    /// ... of at least so many calls ...
    pub least: u64,
    /// ... within this time.
    pub window: Duration,
    /// So long it stays open at first; twice as long after each failure to come back.
    pub open_for: Duration,
    /// The longest that it stays open. Closed for as long, failures to come back are forgotten.
    pub open_for_max: Duration,
    /// Rounds of 1, 2, 4 ... probes before it closes.
    pub rounds: u32,
    /// A probe that has not ended by then makes room for another.
    pub probe_timeout: Duration,
}

impl Default for Policy {
    /// Five in a row, or half of at least 20 within 10 s; open for 30 s to 5 min; 1, 2, 4, 8 probes.
    fn default() -> Self {
        Self {
            consecutive: 5,
            ratio: 0.5,
            least: 20,
            window: Duration::from_secs(10),
            open_for: Duration::from_secs(30),
            open_for_max: Duration::from_secs(300),
            rounds: 4,
            probe_timeout: Duration::from_secs(10),
        }
    }
}

/// Whether calls go through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// They do.
    Closed,
    /// They are rejected.
    Open,
    /// Only probes do.
    HalfOpen,
}

/// Calls so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Totals {
    pub(super) calls: u64,
    pub(super) failed: u64,
}

/// What came of asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// Go on.
    Pass,
    /// Go on as this probe.
    Probe(u64),
    /// Not now; perhaps after this time.
    Reject(Duration),
}

/// The window slides in so many steps.
const MARKS: u32 = 10;

/// Where there is no room for a probe, another try may find some after this.
pub(super) const SOON: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) struct Local {
    policy: Policy,
    state: State,
    /// In state open: until when. In state closed: since when, if it was ever open.
    at: Option<Duration>,
    failures: u32,
    ramp: Ramp,
    probes: BTreeMap<u64, Duration>,
    next: u64,
    /// What had been counted at marks within the window, oldest first.
    before: VecDeque<(Duration, Totals)>,
}

impl Local {
    pub(super) fn new(policy: Policy) -> Self {
        Self {
            state: State::Closed,
            at: None,
            failures: 0,
            ramp: Ramp::new(policy.rounds),
            probes: BTreeMap::new(),
            next: 1,
            before: VecDeque::new(),
            policy,
        }
    }

    pub(super) fn state(&self) -> State {
        self.state
    }

    /// When the first probe is let through, in state open.
    pub(super) fn until(&self) -> Option<Duration> {
        self.at.filter(|_| self.state == State::Open)
    }

    /// A call has failed while it was closed; `totals` include it, `in_a_row` counts those without a success between.
    /// `true`: it opens.
    pub(super) fn failed(&mut self, totals: Totals, in_a_row: u32, now: Duration) -> bool {
        if self.state != State::Closed {
            return false;
        }
        let Totals { calls, failed } = totals;
        self.mark(Totals { calls: calls.saturating_sub(1), failed: failed.saturating_sub(1) }, now);
        let base = self.before.front().map_or(totals, |(_, base)| *base);
        let calls = totals.calls.saturating_sub(base.calls);
        let failed = totals.failed.saturating_sub(base.failed);
        let many = calls >= self.policy.least && failed as f64 >= calls as f64 * self.policy.ratio;
        if !many && in_a_row < self.policy.consecutive {
            return false;
        }
        let young = |since: Duration| now.saturating_sub(since) < self.policy.open_for_max;
        self.failures = if self.at.is_some_and(young) { self.failures + 1 } else { 0 };
        self.open(now);
        true
    }

    /// Keeps what was counted before this moment, for each tenth of the window, and says when it is due again.
    pub(super) fn mark(&mut self, before: Totals, now: Duration) -> Duration {
        let oldest = now.saturating_sub(self.policy.window);
        while self.before.front().is_some_and(|(at, _)| *at < oldest) {
            self.before.pop_front();
        }
        let every = self.policy.window / MARKS;
        match self.before.back() {
            Some((at, _)) if now.saturating_sub(*at) < every => at.saturating_add(every),
            _ => {
                self.before.push_back((now, before));
                now.saturating_add(every)
            }
        }
    }

    fn open(&mut self, now: Duration) {
        let Policy { open_for: first, open_for_max, .. } = self.policy;
        self.open_until(now.saturating_add(open_for(first, open_for_max, self.failures)));
    }

    /// Opens it until then.
    pub(super) fn open_until(&mut self, until: Duration) {
        (self.state, self.at) = (State::Open, Some(until));
        self.before.clear();
        self.probes.clear();
    }

    /// Whether a call may go through now.
    pub(super) fn admit(&mut self, now: Duration) -> Admission {
        if let Some(until) = self.until() {
            if now < until {
                return Admission::Reject(until - now);
            }
            self.state = State::HalfOpen;
            self.ramp = Ramp::new(self.policy.rounds);
        }
        if self.state == State::Closed {
            return Admission::Pass;
        }
        let before = self.probes.len();
        self.probes.retain(|_, until| *until > now);
        (self.probes.len()..before).for_each(|_| self.ramp.give_back());
        if self.ramp.grant(1) == 0 {
            return Admission::Reject(SOON);
        }
        let probe = self.next;
        self.next += 1;
        self.probes.insert(probe, now.saturating_add(self.policy.probe_timeout));
        Admission::Probe(probe)
    }

    /// A probe has ended; `None`: it was not made, or nobody knows. One that is overdue says nothing.
    pub(super) fn settle(&mut self, probe: u64, passed: Option<bool>, now: Duration) {
        if self.state != State::HalfOpen || self.probes.remove(&probe).is_none() {
            return;
        }
        match passed {
            None => self.ramp.give_back(),
            Some(false) => {
                self.failures = self.failures.saturating_add(1);
                self.open(now);
            }
            Some(true) => {
                if self.ramp.pass() == Progress::Done {
                    (self.state, self.at) = (State::Closed, Some(now));
                }
            }
        }
    }

    #[cfg(test)]
    pub(super) fn round(&self) -> (u32, u32, u32) {
        (self.ramp.size(), self.ramp.passed(), self.ramp.under_way())
    }
}
