//! What is read of times: ranges, durations, sizes, and when jobs are due.

use std::time::Duration;

use genesis_agent::config::units::{human, parse_duration, parse_size};
use genesis_agent::operations::logs::segment::DateRange;
use genesis_agent::plan::lasting;
use genesis_agent::scheduler::calendar::Schedule;
use jiff::{SignedDuration, Timestamp};

use super::{NOW, text};

const DAY: Duration = Duration::from_secs(86_400);

/// A range is never empty, and means the same when its ends are written as instants.
pub fn date_ranges(data: &[u8]) {
    let Ok(range) = DateRange::parse(&text(data)) else { return };
    let DateRange { from, until } = range;
    assert!(from < until);
    assert!(range.contains(from) && !range.contains(until));
    assert!(range.covers(from, until - 1) && range.overlaps(from, from));
    let instants = [from, until].map(|at| {
        let at = Timestamp::from_nanosecond(i128::from(at)).expect("it is a time");
        format!("{at:.9}")
    });
    // An end may lie behind the last year that is read, or its zone before the first one.
    let read = |text: &String| ("1678".."2262").contains(&&text[..4]);
    if instants.iter().all(read) {
        assert_eq!(DateRange::parse(&instants.join("..")), Ok(range));
    }
}

/// Sizes and durations mean the same in their smallest unit, and stay within what their readers say.
pub fn durations(data: &[u8]) {
    let text = text(data);
    if let Ok(bytes) = parse_size(&text) {
        assert_eq!(parse_size(&format!("{bytes}B")), Ok(bytes));
    }
    if let Ok(duration) = parse_duration(&text) {
        assert!(duration <= DAY * 366_000);
        assert_eq!(parse_duration(&format!("{}ms", duration.as_millis())), Ok(duration));
        assert!(!human(duration).is_empty());
    }
    if let Ok(lasts) = lasting(&text, 7) {
        assert!(!lasts.is_zero() && lasts <= DAY * 7);
    }
    let typed = genesisctl::fuzzing::argument(&text);
    if let Some(timeout) = typed.timeout {
        assert!((Duration::from_millis(1)..=DAY * 7).contains(&timeout));
        let shown = SignedDuration::try_from(timeout).expect("it is short");
        let again = genesisctl::fuzzing::argument(&format!("{shown:#}"));
        assert_eq!(again.timeout, Some(timeout), "{shown:#}");
    }
    if let Some(instant) = typed.instant {
        let again = genesisctl::fuzzing::argument(&instant.to_string());
        assert_eq!(again.instant, Some(instant), "{instant}");
    }
}

/// A schedule is due again and again, always later, at whole minutes, and each time is the last one at its own moment.
pub fn schedules(data: &[u8]) {
    let text = text(data);
    let Ok(schedule) = Schedule::parse(&text) else { return };
    assert_eq!(schedule.to_string(), text);
    let mut at = Timestamp::from_second(NOW).expect("it is a time");
    for _ in 0..4 {
        let Some(next) = schedule.next_after(at) else { return };
        assert!(next > at, "{text:?} is due at {next}, which is not after {at}");
        assert_eq!(next.as_second() % 60, 0);
        assert_eq!(schedule.last_until(next), Some(next), "{text:?}");
        at = next;
    }
}
