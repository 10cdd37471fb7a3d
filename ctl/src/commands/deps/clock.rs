//! The clock of a vulnerability: how much is left, and whether that is over.

use std::time::Duration;

use genesis_client::v1::{ClockState, Condition, Truth, VulnerabilityClock};

use super::finding;
use crate::format;
use crate::render::Cell;

const COLUMNS: &[&str] = &[
    "PROJECT",
    "ID",
    "PACKAGE",
    "SEVERITY",
    "EXPLOITED",
    "STATE",
    "MEND",
    "IN TIME",
    "POST-MORTEM",
    "KNOWN SINCE",
];
const COLUMNS_LONG: &[&str] = &[
    "PROJECT",
    "ID",
    "PACKAGE",
    "SEVERITY",
    "EXPLOITED",
    "STATE",
    "MEND",
    "IN TIME",
    "POST-MORTEM",
    "KNOWN SINCE",
    "MENDED",
    "CLOSED",
    "BY",
    "NOTE",
];

/// The columns of [`row`]. `verbose`: with when it ended, and how.
pub(super) fn columns(verbose: bool) -> &'static [&'static str] {
    if verbose { COLUMNS_LONG } else { COLUMNS }
}

/// How much of an allowed time is used.
#[derive(Debug, Clone, Copy)]
struct Used {
    elapsed: Duration,
    allowed: Duration,
}

impl Used {
    /// Nothing where either is not said.
    fn of(
        elapsed: Option<prost_types::Duration>,
        allowed: Option<prost_types::Duration>,
    ) -> Option<Self> {
        let elapsed = Duration::try_from(elapsed?).ok()?;
        let allowed = Duration::try_from(allowed?).ok()?;
        (!allowed.is_zero()).then_some(Self { elapsed, allowed })
    }

    fn is_over(self) -> bool {
        self.elapsed > self.allowed
    }

    /// Such as "5h left (79 %)", "overdue by 2h (108 %)".
    fn words(self) -> String {
        let Self { elapsed, allowed } = self;
        let percent = elapsed.as_millis() * 100 / allowed.as_millis().max(1);
        match elapsed.checked_sub(allowed).filter(|_| self.is_over()) {
            Some(over) => format!("overdue by {} ({percent} %)", format::duration(over)),
            None => {
                let left = allowed.saturating_sub(elapsed);
                format!("{} left ({percent} %)", format::duration(left))
            }
        }
    }
}

fn mend(clock: &VulnerabilityClock) -> Option<Used> {
    Used::of(clock.elapsed, clock.mend_within)
}

fn postmortem(clock: &VulnerabilityClock) -> Option<Used> {
    Used::of(clock.elapsed, clock.postmortem_within)
}

/// How it stands by what still runs of it: a vulnerability that was mended late is no matter of now.
pub(super) fn condition(clock: &VulnerabilityClock) -> Condition {
    let running = match clock.state() {
        ClockState::Closed => return Condition::Ok,
        ClockState::Unspecified => return Condition::Unknown,
        ClockState::Mended => vec![postmortem(clock)],
        ClockState::Open => vec![mend(clock), postmortem(clock)],
    };
    if running.iter().flatten().any(|used| used.is_over()) {
        return Condition::Critical;
    }
    match running.iter().any(Option::is_none) {
        true => Condition::Unknown,
        false => Condition::Ok,
    }
}

fn left(used: Option<Used>) -> Cell {
    match used {
        None => Cell::from("unknown"),
        Some(used) if used.is_over() => Cell::alert(used.words(), true),
        Some(used) => Cell::from(used.words()),
    }
}

pub(super) fn row(clock: &VulnerabilityClock, verbose: bool) -> Vec<Cell> {
    let state = clock.state();
    let mut cells = vec![
        Cell::from(clock.project.as_str()),
        Cell::from(clock.id.as_str()),
        Cell::from(clock.package.as_str()),
        Cell::vulnerability(clock.severity(), finding::severity_name(clock.severity()).to_owned()),
        Cell::exploited(Some(clock.exploited)),
        Cell::clock_state(state),
        match state {
            ClockState::Mended | ClockState::Closed => Cell::from("done"),
            ClockState::Open | ClockState::Unspecified => left(mend(clock)),
        },
        in_time(clock),
        match state {
            ClockState::Closed => Cell::from("written"),
            _ => left(postmortem(clock)),
        },
        Cell::from(format::time(clock.first_seen_at.as_ref())),
    ];
    if verbose {
        cells.push(Cell::from(format::time(clock.mended_at.as_ref())));
        cells.push(Cell::from(format::time(clock.closed_at.as_ref())));
        cells.push(Cell::from(format::or_none(&clock.closed_by)));
        cells.push(Cell::from(format::or_none(&clock.note)));
    }
    cells
}

/// While it is there that is open, unless it is too late already.
fn in_time(clock: &VulnerabilityClock) -> Cell {
    let late = clock.in_time() == Truth::Fail || mend(clock).is_some_and(Used::is_over);
    match (clock.state(), clock.in_time()) {
        (ClockState::Open, _) if late => Cell::alert("no", true),
        (ClockState::Open, _) => Cell::from("open"),
        (_, Truth::Pass) => Cell::alert("yes", false),
        (_, Truth::Fail) => Cell::alert("no", true),
        (_, Truth::Unknown | Truth::Unspecified) => Cell::truth(Truth::Unknown, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hours(hours: i64) -> Option<prost_types::Duration> {
        Some(prost_types::Duration { seconds: hours * 3600, nanos: 0 })
    }

    fn clock(state: ClockState, elapsed: i64) -> VulnerabilityClock {
        VulnerabilityClock {
            state: state.into(),
            elapsed: hours(elapsed),
            mend_within: hours(24),
            postmortem_within: hours(72),
            ..Default::default()
        }
    }

    #[test]
    fn what_is_left_and_used_is_told_to_the_end() {
        for (elapsed, text) in [
            (0, "1d left (0 %)"),
            (19, "5h left (79 %)"),
            (24, "0ms left (100 %)"),
            (26, "overdue by 2h (108 %)"),
        ] {
            assert_eq!(mend(&clock(ClockState::Open, elapsed)).unwrap().words(), text);
        }
    }

    #[test]
    fn each_clock_counts_as_long_as_it_runs() {
        use ClockState as S;
        for (state, elapsed, condition) in [
            (S::Open, 24, Condition::Ok),
            (S::Open, 25, Condition::Critical),
            // It was mended, in time or not.
            (S::Mended, 25, Condition::Ok),
            (S::Mended, 73, Condition::Critical),
            (S::Closed, 1000, Condition::Ok),
            (S::Unspecified, 1, Condition::Unknown),
        ] {
            assert_eq!(super::condition(&clock(state, elapsed)), condition, "{state:?} {elapsed}");
        }
        let unknown = VulnerabilityClock { elapsed: None, ..clock(S::Open, 1) };
        assert_eq!(super::condition(&unknown), Condition::Unknown);
        let none = VulnerabilityClock { mend_within: hours(0), ..clock(S::Open, 73) };
        assert_eq!(super::condition(&none), Condition::Critical, "the other one is over");
    }
}
