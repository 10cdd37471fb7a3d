//! What is decided about baselines, pure: hours of the week, which observations count, and which reference a window has.

use genesis_stats::{Reference, Sketch};
use genesis_storage::ReferenceRecord;

/// Hours of a week.
pub const WEEK: usize = 168;
/// Parts of the day: four, on workdays and on weekends.
pub const PARTS: usize = 8;
/// A time of the week with fewer values than these has no reference of its own.
pub const ENOUGH: u64 = 500;
/// The quantiles that are watched.
pub const QUANTILES: [f64; 3] = [0.5, 0.95, 0.99];
/// As they are written in labels: `quantile` is one that only summaries may have.
pub const PERCENTILES: [&str; 3] = ["50", "95", "99"];
/// Seconds of an hour.
pub const HOUR: i64 = 3_600;
/// Seconds of a window that is judged.
pub const WINDOW: i64 = 300;
/// Nanoseconds of a second.
pub const NANOS: i64 = 1_000_000_000;

/// The hour since 1970 of a time in seconds; of a time before that 0.
pub fn hour_of(seconds: i64) -> u32 {
    u32::try_from(seconds.max(0) / HOUR).unwrap_or(u32::MAX)
}

/// The hour of the week, from Monday 00:00 UTC.
pub fn hour_of_week(hour: u32) -> u8 {
    // 1970 began on a Thursday.
    ((u64::from(hour) + 72) % WEEK as u64) as u8
}

/// The part of the day: six hours each from midnight, those of Saturday and Sunday after those of workdays.
pub fn part_of_day(hour_of_week: u8) -> usize {
    let (day, hour) = (hour_of_week / 24, usize::from(hour_of_week % 24));
    hour / 6 + if day >= 5 { 4 } else { 0 }
}

/// Whether this may be an operation's, or a producer's, name.
pub fn is_name(text: &str, longest: usize) -> bool {
    let ok = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/".contains(&byte);
    (1..=longest).contains(&text.len()) && text.bytes().all(ok)
}

/// What times of the week a reference is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The same hour of the week.
    Hour,
    /// The same part of the day.
    Part,
    /// Any time.
    All,
}

impl Scope {
    /// In words.
    pub fn word(self) -> &'static str {
        match self {
            Self::Hour => "hour of week",
            Self::Part => "part of day",
            Self::All => "all",
        }
    }
}

/// What an operation's values were, by time of the week.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct References {
    /// By hour of the week.
    pub hours: Vec<Option<ReferenceRecord>>,
    /// By part of the day.
    pub parts: Vec<Option<ReferenceRecord>>,
    /// At any time.
    pub all: Option<ReferenceRecord>,
}

/// What a sketch says is usual; `None` without values.
pub fn reference(sketch: &Sketch) -> Option<ReferenceRecord> {
    let count = sketch.count();
    let mut each = [(0.0, 0.0); 3];
    for (of, quantile) in each.iter_mut().zip(QUANTILES) {
        let value = sketch.quantile(quantile)?;
        // Where none was above, half of one may have been: a share of nothing could never be exceeded.
        *of = (value, (sketch.above(value) as f64).max(0.5) / count as f64);
    }
    Some((count, each))
}

impl References {
    /// From the sketches of hours.
    pub fn of<'a>(hours: impl Iterator<Item = (u32, &'a Sketch)>) -> (Self, Sketch) {
        let mut all = Sketch::new();
        let mut of_week = vec![Sketch::new(); WEEK];
        for (hour, sketch) in hours {
            of_week[usize::from(hour_of_week(hour))].merge(sketch);
        }
        let mut parts = vec![Sketch::new(); PARTS];
        for (hour, sketch) in (0..).zip(&of_week) {
            parts[part_of_day(hour)].merge(sketch);
            all.merge(sketch);
        }
        // Values are compared by buckets, so these are as wide as those of the whole.
        of_week.iter_mut().chain(&mut parts).for_each(|it| it.collapse_to(all.level()));
        let enough = |sketch: &Sketch| match sketch.count() >= ENOUGH {
            true => reference(sketch),
            false => None,
        };
        let references = Self {
            hours: of_week.iter().map(enough).collect(),
            parts: parts.iter().map(enough).collect(),
            all: reference(&all),
        };
        (references, all)
    }

    /// The reference of a window at this hour of the week, for each quantile.
    pub fn at(&self, hour_of_week: u8) -> Option<(Scope, [Reference; 3])> {
        let hour = self.hours.get(usize::from(hour_of_week)).copied().flatten();
        let part = self.parts.get(part_of_day(hour_of_week)).copied().flatten();
        let (scope, (n, each)) = match (hour, part, self.all) {
            (Some(hour), _, _) => (Scope::Hour, hour),
            (None, Some(part), _) => (Scope::Part, part),
            (None, None, all) => (Scope::All, all?),
        };
        Some((scope, each.map(|(x0, share)| Reference { x0, share, n })))
    }
}

/// The hours, first and one past the last, of a baseline that is calculated now: those of the window, the one that goes
/// on included, and none that began before `since`.
pub fn hours(now: i64, window: i64, since: Option<i64>) -> (u32, u32) {
    let until = hour_of(now).saturating_add(1);
    let from = until.saturating_sub(u32::try_from(window / HOUR).unwrap_or(u32::MAX));
    let since = since.map_or(0, |since| hour_of(since.saturating_add(HOUR - 1)));
    (from.max(since).min(until), until)
}
