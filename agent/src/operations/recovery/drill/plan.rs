//! When a drill is due. Pure.

use std::time::Duration;

use jiff::Timestamp;

/// A drill is due so long before it is overdue: time to repeat one that failed.
const AHEAD: Duration = Duration::from_secs(14 * 86_400);

/// Whether a drill has to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It was done not long ago, and passed.
    Current,
    /// It has to be done soon.
    Due,
    /// It was not done in time.
    Overdue,
    /// There is nothing yet that it could practise.
    NotApplicable,
}

/// How a drill stands that passed at `passed`, or never since this host was known (`since`).
pub(super) fn standing(
    passed: Option<Timestamp>,
    since: Timestamp,
    every: Duration,
    now: Timestamp,
) -> Standing {
    // What lies ahead was written with a wrong clock, and counts as now.
    let age = |at: Timestamp| Duration::try_from(now.duration_since(at)).unwrap_or_default();
    let waited = age(passed.unwrap_or(since));
    match passed {
        _ if waited > every => Standing::Overdue,
        None => Standing::Due,
        Some(_) if waited > every.saturating_sub(AHEAD) => Standing::Due,
        Some(_) => Standing::Current,
    }
}

/// When it is overdue.
pub(super) fn overdue_at(
    passed: Option<Timestamp>,
    since: Timestamp,
    every: Duration,
) -> Timestamp {
    passed.unwrap_or(since).saturating_add(every).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drill_is_due_before_a_quarter_is_over_and_overdue_after_it() {
        let day = |day: i64| Timestamp::from_second(day * 86_400).unwrap();
        let every = Duration::from_secs(92 * 86_400);
        for (passed, now, expected) in [
            (None, 0, Standing::Due),
            (None, 92, Standing::Due),
            (None, 93, Standing::Overdue),
            (Some(100), 100, Standing::Current),
            (Some(100), 178, Standing::Current),
            (Some(100), 179, Standing::Due),
            (Some(100), 192, Standing::Due),
            (Some(100), 193, Standing::Overdue),
            (Some(100), 50, Standing::Current),
        ] {
            let found = standing(passed.map(day), day(0), every, day(now));
            assert_eq!(found, expected, "{passed:?} {now}");
        }
        assert_eq!(overdue_at(Some(day(100)), day(0), every), day(192));
        assert_eq!(overdue_at(None, day(0), every), day(92));
    }
}
