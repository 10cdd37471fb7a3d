//! What a breaker makes of reports, pure: windows of calls, what is usual, and when that is left. Time is an argument.
//!
//! What can't be told is never a trip and never a pass: a window with too few calls waits for the next ones, and as
//! long as it is not known what is usual, only what is gross whatever is usual counts.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use genesis_stats::{Cusum, LEAST_EXPECTED, Usual, exceedance_z, threshold};
use jiff::Timestamp;

/// So many windows are open at a time: the one that goes on, the one before, and those of clocks that are ahead.
const OPEN_WINDOWS: usize = 4;
/// So many reports of one window are told apart.
const REPORTS_OF_A_WINDOW: usize = 4_096;
/// A count beyond this is no count of calls.
pub const COUNT_LIMIT: u64 = 1_000_000_000;
/// With fewer calls a share says little.
const FEW: u64 = 20;
/// So many windows at most are taken together.
const TOGETHER: usize = 60;
/// A limit for slow calls that nobody uses for so many windows makes way for another.
const FORGOTTEN: u32 = 10;
/// A share above this says that the limit is none, not what is usual.
const USUAL_AT_MOST: f64 = 0.5;

/// What reports are judged by.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    /// The length of a window.
    pub window: Duration,
    /// What is usual is learned from so many windows.
    pub learn_from: usize,
    /// A share of failed calls at which it trips whatever is usual.
    pub gross: f64,
    /// See [`Given`].
    pub given: Given,
}

/// What the configuration says is usual.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Given {
    /// A call that takes longer counts as slow.
    pub slow_after: Option<Duration>,
    /// So many are slow by right.
    pub slow: Option<f64>,
    /// So many fail by right.
    pub failed: Option<f64>,
}

/// How calls went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Calls that ended.
    pub calls: u64,
    /// Those that failed.
    pub failed: u64,
    /// Those of which it is known whether they were slow.
    pub timed: u64,
    /// Those that were.
    pub slow: u64,
}

impl Counts {
    fn add(&mut self, other: Self) {
        self.calls = self.calls.saturating_add(other.calls);
        self.failed = self.failed.saturating_add(other.failed);
        self.timed = self.timed.saturating_add(other.timed);
        self.slow = self.slow.saturating_add(other.slow);
    }
}

/// One reporter's window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Report<'a> {
    /// Who reports.
    pub reporter: &'a str,
    /// Which of its reports.
    pub sequence: u64,
    /// When its window began.
    pub start: Timestamp,
    /// Calls, failures, slow ones.
    pub calls: u64,
    /// See [`Counts::failed`].
    pub failed: u64,
    /// See [`Counts::slow`].
    pub slow: u64,
    /// What slow means.
    pub slow_after: Option<Duration>,
}

/// What became of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It counts.
    Counted,
    /// It was there already.
    Duplicate,
    /// Its window is judged.
    Late,
    /// Its window is yet to come.
    Ahead,
    /// There are too many of its window.
    Dropped,
}

/// Why a breaker trips.
#[derive(Debug, Clone, PartialEq)]
pub enum Trip {
    /// Calls failed, so many of so many.
    Gross(u64, u64),
    /// Too many are slow: S, and h.
    Slow(f64, f64),
    /// Too many fail: S, and h.
    Failing(f64, f64),
}

impl Trip {
    /// A word for metrics.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Gross(..) => "gross",
            Self::Slow(..) => "latency",
            Self::Failing(..) => "errors",
        }
    }

    /// In a sentence.
    pub fn words(&self) -> String {
        match self {
            Self::Gross(failed, calls) => format!("{failed} of the last {calls} calls failed"),
            Self::Slow(sum, limit) => {
                format!("more calls than usual are slow: CUSUM {sum:.1} over {limit:.1}")
            }
            Self::Failing(sum, limit) => {
                format!("more calls than usual fail: CUSUM {sum:.1} over {limit:.1}")
            }
        }
    }
}

/// One thing that is judged: slow calls, or failed ones.
#[derive(Debug, Clone, PartialEq)]
pub struct Signal {
    usual: Option<Usual>,
    cusum: Cusum,
    learning: VecDeque<(u64, u64)>,
    /// Windows that are too small to be judged alone.
    together: (u64, u64, usize),
}

/// A signal as people see it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SignalView {
    /// What is usual, once that is known.
    pub usual: Option<Usual>,
    /// S.
    pub sum: f64,
    /// h.
    pub limit: f64,
    /// Windows learned from so far.
    pub learned: usize,
}

impl Signal {
    fn new(usual: Option<Usual>, window: Duration) -> Self {
        let cusum = Cusum::new(usual.map_or(1.0, |usual| usual.phi), threshold(window));
        Self { usual, cusum, learning: VecDeque::new(), together: (0, 0, 0) }
    }

    fn calm(&mut self) {
        self.cusum.reset();
        self.together = (0, 0, 0);
    }

    /// Takes a window in; S and h where they trip. `true`: what is usual has just been learned.
    fn judge(&mut self, above: u64, calls: u64, rules: &Rules) -> (Option<(f64, f64)>, bool) {
        let Some(usual) = self.usual else { return (None, self.learn(above, calls, rules)) };
        let (before, all, windows) = self.together;
        let (above, all, windows) = (before + above, all + calls, windows + 1);
        if (all as f64) * usual.share < LEAST_EXPECTED {
            self.together = if windows < TOGETHER { (above, all, windows) } else { (0, 0, 0) };
            return (None, false);
        }
        self.together = (0, 0, 0);
        let tripped = exceedance_z(above, all, usual.share).is_some_and(|z| self.cusum.observe(z));
        (tripped.then(|| (self.cusum.sum(), self.cusum.limit())), false)
    }

    fn learn(&mut self, above: u64, calls: u64, rules: &Rules) -> bool {
        if calls < FEW {
            return false;
        }
        self.learning.push_back((above, calls));
        if self.learning.len() < rules.learn_from {
            return false;
        }
        let windows = self.learning.make_contiguous();
        match Usual::learn(windows).filter(|usual| usual.share <= USUAL_AT_MOST) {
            Some(usual) => {
                *self = Self::new(Some(usual), rules.window);
                true
            }
            // Sick from the start: the oldest window makes room, until healthy ones have come.
            None => {
                self.learning.pop_front();
                false
            }
        }
    }

    /// As people see it.
    pub fn view(&self) -> SignalView {
        SignalView {
            usual: self.usual,
            sum: self.cusum.sum(),
            limit: self.cusum.limit(),
            learned: self.learning.len(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Default)]
struct Window {
    counts: Counts,
    seen: BTreeSet<(String, u64)>,
}

/// What is made of the reports of one operation.
#[derive(Debug, Clone, PartialEq)]
pub struct Judge {
    rules: Rules,
    slow_after: Option<Duration>,
    /// Windows since somebody used that limit.
    unused: u32,
    open: BTreeMap<i64, Window>,
    /// Windows before this one are judged.
    judged: i64,
    /// The latest windows that are over, newest first.
    recent: VecDeque<Counts>,
    /// Slow calls.
    pub slow: Signal,
    /// Failed calls.
    pub failed: Signal,
}

/// What came of windows that are over.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Judged {
    /// The first reason to trip.
    pub trip: Option<Trip>,
    /// What is usual was learned, or is to be learned anew.
    pub learned: bool,
}

impl Judge {
    /// A judge that knows what was learned of slow calls with this limit, and of failed ones. What the configuration
    /// gives counts before that.
    pub fn new(
        rules: Rules,
        slow_after: Option<Duration>,
        slow: Option<Usual>,
        failed: Option<Usual>,
    ) -> Self {
        let given = |share: Option<f64>| share.map(|share| Usual { share, phi: 1.0 });
        let kept = rules.given.slow_after.is_none() || rules.given.slow_after == slow_after;
        let slow = given(rules.given.slow).or(slow.filter(|_| kept));
        let failed = given(rules.given.failed).or(failed);
        Self {
            slow: Signal::new(slow, rules.window),
            failed: Signal::new(failed, rules.window),
            slow_after: rules.given.slow_after.or(slow_after),
            unused: 0,
            open: BTreeMap::new(),
            judged: i64::MIN,
            recent: VecDeque::new(),
            rules,
        }
    }

    /// The same under other rules; windows that are open are given up, what was learned stays.
    #[must_use]
    pub fn under(&self, rules: Rules) -> Self {
        let learned =
            |signal: &Signal, given: Option<f64>| signal.usual.filter(|_| given.is_none());
        let slow = learned(&self.slow, self.rules.given.slow);
        let failed = learned(&self.failed, self.rules.given.failed);
        Self::new(rules, self.slow_after, slow, failed)
    }

    /// A call that takes longer counts as slow.
    pub fn slow_after(&self) -> Option<Duration> {
        self.slow_after
    }

    /// So many windows are needed to learn what is usual.
    pub fn needed(&self) -> usize {
        self.rules.learn_from
    }

    /// What was learned and not given: of slow calls, of failed ones.
    pub fn learned(&self) -> (Option<Usual>, Option<Usual>) {
        let given = self.rules.given;
        (
            self.slow.usual.filter(|_| given.slow.is_none()),
            self.failed.usual.filter(|_| given.failed.is_none()),
        )
    }

    /// The latest window that is over.
    pub fn latest(&self) -> Counts {
        self.recent.front().copied().unwrap_or_default()
    }

    fn index(&self, at: Timestamp) -> i64 {
        let length = i64::try_from(self.rules.window.as_millis()).unwrap_or(i64::MAX).max(1);
        at.as_millisecond().div_euclid(length)
    }

    /// Takes a report in. `count` false: the breaker is open, so that only its number is remembered.
    pub fn take(&mut self, report: &Report<'_>, count: bool, now: Timestamp) -> Taken {
        let (at, current) = (self.index(report.start), self.index(now));
        if at > current + 1 {
            return Taken::Ahead;
        }
        // One for which there is no room any more is as good as judged.
        if at < self.judged || at < current - 2 {
            return Taken::Late;
        }
        self.adopt(report.slow_after);
        let same = report.slow_after.is_some() && report.slow_after == self.slow_after;
        let window = self.open.entry(at).or_default();
        let id = (report.reporter.to_owned(), report.sequence);
        if window.seen.contains(&id) {
            return Taken::Duplicate;
        }
        if window.seen.len() >= REPORTS_OF_A_WINDOW {
            return Taken::Dropped;
        }
        window.seen.insert(id);
        if count {
            window.counts.add(Counts {
                calls: report.calls,
                failed: report.failed,
                timed: if same { report.calls } else { 0 },
                slow: if same { report.slow } else { 0 },
            });
        }
        if same {
            self.unused = 0;
        }
        Taken::Counted
    }

    /// Whoever comes first says what slow means, unless the configuration does; once nobody uses that any more, it is
    /// another, of which nothing is known.
    fn adopt(&mut self, reported: Option<Duration>) {
        let free = self.rules.given.slow_after.is_none()
            && (self.slow_after.is_none() || self.unused >= FORGOTTEN);
        if !free || reported.is_none() || reported == self.slow_after {
            return;
        }
        let given = self.rules.given.slow.map(|share| Usual { share, phi: 1.0 });
        self.slow = Signal::new(given, self.rules.window);
        (self.slow_after, self.unused) = (reported, 0);
    }

    /// Whether so many of the newest calls failed that it needs no knowledge of what is usual.
    pub fn gross(&self) -> Option<Trip> {
        let (mut calls, mut failed) = (0, 0);
        let open = self.open.values().rev().map(|window| &window.counts);
        for counts in open.chain(&self.recent) {
            (calls, failed) = (calls + counts.calls, failed + counts.failed);
            if calls >= FEW {
                break;
            }
        }
        let gross = calls >= FEW && failed as f64 >= calls as f64 * self.rules.gross;
        gross.then_some(Trip::Gross(failed, calls))
    }

    /// Judges the windows that are over, and a quarter of a window's length to let reports come in.
    pub fn close(&mut self, now: Timestamp) -> Judged {
        let grace = jiff::SignedDuration::try_from(self.rules.window / 4).unwrap_or_default();
        let current = self.index(now.checked_sub(grace).unwrap_or(now));
        let mut judged = Judged::default();
        // Where the wall clock was set back, what lies beyond the room for clocks that are ahead is unknown.
        self.open.retain(|at, _| *at <= current + OPEN_WINDOWS as i64);
        if self.judged > current + OPEN_WINDOWS as i64 {
            self.judged = current;
        }
        while let Some(entry) = self.open.first_entry().filter(|entry| *entry.key() < current) {
            let window = entry.remove();
            self.unused = self.unused.saturating_add(1);
            self.recent.push_front(window.counts);
            self.recent.truncate(10);
            let Counts { calls, failed, timed, slow } = window.counts;
            // Nothing is learned from what is sick beyond doubt.
            let sick = calls > 0 && failed as f64 >= calls as f64 * self.rules.gross;
            if sick {
                continue;
            }
            let (trip, learned) = self.failed.judge(failed, calls, &self.rules);
            let (slow_trip, slow_learned) = self.slow.judge(slow, timed, &self.rules);
            judged.learned |= learned || slow_learned;
            let trip = trip.map(|(sum, limit)| Trip::Failing(sum, limit));
            let slow = slow_trip.map(|(sum, limit)| Trip::Slow(sum, limit));
            judged.trip = judged.trip.or(trip).or(slow);
        }
        self.judged = self.judged.max(current);
        judged
    }

    /// Somebody who knows more watches over the latency: slow calls of the windows that are over next count for nothing.
    pub fn leave_latency(&mut self) {
        self.slow.calm();
        self.open
            .values_mut()
            .for_each(|window| (window.counts.timed, window.counts.slow) = (0, 0));
    }

    /// The breaker opens: what led to it is done with, and reports that come until it is closed count for nothing.
    pub fn calm(&mut self) {
        self.slow.calm();
        self.failed.calm();
        self.recent.clear();
        self.open.values_mut().for_each(|window| window.counts = Counts::default());
    }

    /// The breaker has come back: what has not really mended trips it again sooner.
    pub fn watchful(&mut self) {
        self.calm();
        self.slow.cusum.head_start();
        self.failed.cusum.head_start();
    }

    /// What was learned is forgotten.
    pub fn relearn(&mut self) {
        *self = Self {
            open: std::mem::take(&mut self.open),
            judged: self.judged,
            ..Self::new(self.rules.clone(), self.slow_after, None, None)
        };
    }
}
