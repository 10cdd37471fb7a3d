//! A breaker's life, pure: CLOSED, OPEN for a time, HALF_OPEN with 1, 2, 4 ... probes, and CLOSED again. Time is an
//! argument.

use std::collections::BTreeMap;
use std::time::Duration;

use genesis_stats::{Progress, Ramp, open_for};
use genesis_storage::{BreakerRecord, BreakerState, Moment};

/// How long a breaker stays open, and how it comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// The first time.
    pub open_for: Duration,
    /// At most, after failures to come back; also so long it must stay closed for these to be forgotten.
    pub open_for_max: Duration,
    /// The rounds of probes.
    pub rounds: u32,
    /// A probe of which nobody said how it went by then was not made.
    pub probe_timeout: Duration,
}

/// Why a breaker changes: who, and what they say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cause<'a> {
    /// Who.
    pub by: &'a str,
    /// Why.
    pub reason: &'a str,
}

/// A breaker that never opened.
pub fn unused(name: &str, now: &Moment) -> BreakerRecord {
    BreakerRecord {
        name: name.to_owned(),
        state: BreakerState::Closed,
        since: now.clone(),
        lasts: None,
        by: String::new(),
        reason: String::new(),
        opening: 0,
        failures: 0,
    }
}

fn changed(record: &BreakerRecord, state: BreakerState, now: &Moment) -> BreakerRecord {
    BreakerRecord { state, since: now.clone(), lasts: None, ..record.clone() }
}

fn caused(record: BreakerRecord, cause: Cause<'_>) -> BreakerRecord {
    BreakerRecord { by: cause.by.to_owned(), reason: cause.reason.to_owned(), ..record }
}

/// The breaker has tripped. Open already, it stays as it is: a time that was set is not drawn out by more of the same.
pub fn tripped(
    record: &BreakerRecord,
    cause: Cause<'_>,
    now: &Moment,
    pace: &Pace,
) -> BreakerRecord {
    let failures = match record.state {
        BreakerState::Open => return record.clone(),
        BreakerState::HalfOpen => record.failures.saturating_add(1),
        // What has just come back and fails again was not well.
        BreakerState::Closed
            if record.opening > 0 && now.since(&record.since) < pace.open_for_max =>
        {
            record.failures.saturating_add(1)
        }
        BreakerState::Closed => 0,
    };
    let opening = record.opening + u64::from(record.state == BreakerState::Closed);
    let lasts = Some(open_for(pace.open_for, pace.open_for_max, failures));
    let open = changed(record, BreakerState::Open, now);
    caused(BreakerRecord { lasts, opening, failures, ..open }, cause)
}

/// Somebody has opened it, for a time or until it is reset, whatever it was.
pub fn forced(
    record: &BreakerRecord,
    lasts: Option<Duration>,
    cause: Cause<'_>,
    now: &Moment,
) -> BreakerRecord {
    let opening = record.opening + u64::from(record.state == BreakerState::Closed);
    let open = changed(record, BreakerState::Open, now);
    caused(BreakerRecord { lasts, opening, ..open }, cause)
}

/// How long until the first probe; `None` where the breaker is not open, or is until it is reset.
pub fn remaining(record: &BreakerRecord, now: &Moment) -> Option<Duration> {
    let lasts = record.lasts.filter(|_| record.state == BreakerState::Open)?;
    Some(lasts.saturating_sub(now.since(&record.since)))
}

/// The breaker once its time is over; `None`: it stays as it is.
pub fn half_opened(record: &BreakerRecord, now: &Moment) -> Option<BreakerRecord> {
    (remaining(record, now) == Some(Duration::ZERO))
        .then(|| changed(record, BreakerState::HalfOpen, now))
}

/// The probes went well, or somebody has reset it. A reset forgets the failures.
pub fn closed(
    record: &BreakerRecord,
    cause: Cause<'_>,
    forget: bool,
    now: &Moment,
) -> BreakerRecord {
    let failures = if forget { 0 } else { record.failures };
    caused(BreakerRecord { failures, ..changed(record, BreakerState::Closed, now) }, cause)
}

/// The probes of a half-open breaker. Lost with the agent: the rounds begin anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probing {
    ramp: Ramp,
    /// What was granted, and until when it counts.
    granted: BTreeMap<u64, Duration>,
    next: u64,
}

/// What came of a probe's result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing: it is not one of ours, or is known already.
    Ignored,
    /// Its round goes on, or the next one begins.
    GoesOn,
    /// All rounds went well: it closes.
    Close,
    /// It failed: the breaker opens again.
    Reopen,
}

/// How a probe ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Well.
    Passed,
    /// Not well.
    Failed,
    /// It was not made, or nobody knows.
    Unknown,
}

impl Probing {
    /// The first round. `first` is the number of the first probe, one that no agent before has used.
    pub fn new(pace: &Pace, first: u64) -> Self {
        Self { ramp: Ramp::new(pace.rounds), granted: BTreeMap::new(), next: first }
    }

    /// Grants as many of `wanted` probes as the round has left. What was granted and is overdue makes room first.
    pub fn grant(&mut self, wanted: u32, now: Duration, pace: &Pace) -> Vec<u64> {
        self.expire(now);
        let count = u64::from(self.ramp.grant(wanted));
        let ids: Vec<u64> = (self.next..self.next.saturating_add(count)).collect();
        self.next = self.next.saturating_add(count);
        self.granted.extend(ids.iter().map(|id| (*id, now.saturating_add(pace.probe_timeout))));
        ids
    }

    /// A probe has ended. One that is overdue or was never granted says nothing: it may be of a round before.
    pub fn settle(&mut self, id: u64, ended: Ended, now: Duration) -> Step {
        self.expire(now);
        if self.granted.remove(&id).is_none() {
            return Step::Ignored;
        }
        match ended {
            Ended::Failed => Step::Reopen,
            Ended::Unknown => {
                self.ramp.give_back();
                Step::GoesOn
            }
            Ended::Passed if self.ramp.pass() == Progress::Done => Step::Close,
            Ended::Passed => Step::GoesOn,
        }
    }

    fn expire(&mut self, now: Duration) {
        let before = self.granted.len();
        self.granted.retain(|_, until| *until > now);
        (self.granted.len()..before).for_each(|_| self.ramp.give_back());
    }

    /// Size of the round, how many of it passed, and how many are under way.
    pub fn round(&self) -> (u32, u32, u32) {
        (self.ramp.size(), self.ramp.passed(), self.ramp.under_way())
    }
}
