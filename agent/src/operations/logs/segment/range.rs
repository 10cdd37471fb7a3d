use super::rfc3339::{DAY_SECONDS, NANOS, Rfc3339, YEARS, day_start};

/// Longer texts are refused unread.
const MAX_TEXT: usize = 128;

/// A range of time, in nanoseconds since the epoch, UTC. Never empty when it was parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DateRange {
    /// The first instant of the range.
    pub from: i64,
    /// The first instant behind it.
    pub until: i64,
}

/// Why a text is no range. Each message ends with right examples.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{fault}; write two dates as \"2024-01-01:2024-01-31\" (whole days, UTC), or instants as \
     \"2024-01-01T09:30:00Z..2024-01-01T16:00:00Z\" (the end is not included)"
)]
pub struct RangeError {
    fault: Fault,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Fault {
    #[error("the date range is empty text")]
    Nothing,
    #[error("the date range has {0} characters, and no range has more than {MAX_TEXT}")]
    TooLong(usize),
    #[error("the date range {0:?} lacks its first or its second half")]
    MissingHalf(String),
    #[error("{0:?} is not a date of the calendar (YYYY-MM-DD, years 1678 to 2261)")]
    NoDate(String),
    #[error("{0:?} is neither a date nor an instant with its zone (Z or +hh:mm)")]
    NoInstant(String),
    #[error("one instant, {0:?}, is not a range")]
    OneInstant(String),
    #[error("instants such as {0:?} hold colons, so that two of them are parted by \"..\"")]
    ColonBetweenInstants(String),
    #[error("the date range {0:?} ends before it starts")]
    Reversed(String),
    #[error("the date range {0:?} holds no time at all: its end is not included")]
    Empty(String),
}

impl RangeError {
    /// The code by which programs know this error.
    pub const CODE: &str = "RANGE_INVALID";

    /// [`RangeError::CODE`].
    pub fn code(&self) -> &'static str {
        Self::CODE
    }
}

impl From<Fault> for RangeError {
    fn from(fault: Fault) -> Self {
        Self { fault }
    }
}

impl DateRange {
    /// Reads `A:B` (two dates, both whole days), `A..B` (dates or RFC 3339 instants; an instant at
    /// the end is exclusive, a date at the end is its whole day) or `A` (that whole day), in UTC.
    ///
    /// # Errors
    /// [`RangeError`] for everything else, and for a range that is reversed or empty.
    pub fn parse(text: &str) -> Result<Self, RangeError> {
        if text.is_empty() {
            return Err(Fault::Nothing.into());
        }
        if text.len() > MAX_TEXT {
            return Err(Fault::TooLong(text.chars().count()).into());
        }
        let (from, until) = if let Some((from, until)) = text.split_once("..") {
            halves(text, from, until)?;
            (Bound::read(from)?.start, Bound::read(until)?.end)
        } else if let Ok(bound) = Bound::read(text) {
            if !bound.whole_day {
                return Err(Fault::OneInstant(text.to_owned()).into());
            }
            (bound.start, bound.end)
        } else if let Some((from, until)) = text.split_once(':') {
            if text.contains(['T', 't', ' ']) {
                return Err(Fault::ColonBetweenInstants(text.to_owned()).into());
            }
            halves(text, from, until)?;
            (date(from)?.start, date(until)?.end)
        } else {
            return Err(Fault::NoDate(text.to_owned()).into());
        };
        if until == from {
            return Err(Fault::Empty(text.to_owned()).into());
        }
        if until < from {
            return Err(Fault::Reversed(text.to_owned()).into());
        }
        Ok(Self { from, until })
    }

    /// Whether an instant is in the range.
    pub fn contains(&self, at: i64) -> bool {
        self.from <= at && at < self.until
    }

    /// Whether any instant from `first` to `last`, both included, is in the range.
    pub fn overlaps(&self, first: i64, last: i64) -> bool {
        first < self.until && self.from <= last && self.from < self.until
    }

    /// Whether every instant from `first` to `last`, both included, is in the range.
    pub fn covers(&self, first: i64, last: i64) -> bool {
        self.contains(first) && self.contains(last)
    }
}

/// One half of a range: what it means as a start, and what as an end.
struct Bound {
    start: i64,
    end: i64,
    whole_day: bool,
}

impl Bound {
    fn read(text: &str) -> Result<Self, RangeError> {
        if let Ok(day) = date(text) {
            return Ok(day);
        }
        match Rfc3339::new().read(text.as_bytes()) {
            Some(reading) if reading.zoned && reading.length == text.len() => {
                Ok(Self { start: reading.nanos, end: reading.nanos, whole_day: false })
            }
            _ if text.contains(':') => Err(Fault::NoInstant(text.to_owned()).into()),
            _ => Err(Fault::NoDate(text.to_owned()).into()),
        }
    }
}

fn date(text: &str) -> Result<Bound, RangeError> {
    let seconds = text.as_bytes().try_into().ok().and_then(day_start);
    let start = seconds.ok_or_else(|| Fault::NoDate(text.to_owned()))? * NANOS;
    // The years that are read leave room for one more day.
    debug_assert!(*YEARS.end() < 2262);
    Ok(Bound { start, end: start + DAY_SECONDS * NANOS, whole_day: true })
}

fn halves(text: &str, from: &str, until: &str) -> Result<(), RangeError> {
    if from.is_empty() || until.is_empty() {
        return Err(Fault::MissingHalf(text.to_owned()).into());
    }
    Ok(())
}
