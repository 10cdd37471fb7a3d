//! Batches made ready for the writer, pure: values of series by hour, and outcomes by version.

use super::hours::HOUR;

/// The most values, or outcomes, of a batch.
pub const ROWS: usize = 100_000;
/// The most series, or versions, of a batch.
pub const COLUMNS: usize = 10_000;
/// What lies further ahead, in seconds, is in the future.
pub const AHEAD: i64 = 300;
/// The longest name of a series, and of a consumer, in bytes.
pub const NAME: usize = 64;
const NANOS: i64 = 1_000_000_000;

/// Values of one series.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Column {
    /// Which one.
    pub series: String,
    /// Of when each is, in nanoseconds since 1970.
    pub times: Vec<i64>,
    /// The values.
    pub values: Vec<f64>,
}

/// How a consumer fared with one version.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Fared {
    /// Which version.
    pub version: u64,
    /// When, in nanoseconds since 1970.
    pub times: Vec<i64>,
    /// The more the better.
    pub values: Vec<f64>,
}

/// What a producer sends.
#[derive(Debug, Clone, PartialEq)]
pub enum Sent {
    /// Values of series.
    Values(Vec<Column>),
    /// Outcomes of the matrix.
    Outcomes(Vec<Fared>),
}

/// A batch of a producer.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// Who sends.
    pub producer: String,
    /// Which of its batches.
    pub sequence: u64,
    /// What it has.
    pub sent: Sent,
}

impl Batch {
    /// What its producer is known by: who sends values is another one than who reports outcomes.
    pub fn key(&self) -> String {
        match self.sent {
            Sent::Values(_) => format!("values/{}", self.producer),
            Sent::Outcomes(_) => format!("outcomes/{}", self.producer),
        }
    }
}

/// Between which times values count, in nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Horizon {
    /// From here.
    pub oldest: i64,
    /// To here.
    pub newest: i64,
}

impl Horizon {
    /// Of values from a day on (days since 1970), at a time in seconds since 1970.
    pub fn of(first_day: u32, now: i64) -> Self {
        Self {
            oldest: i64::from(first_day).saturating_mul(24 * HOUR),
            newest: now.saturating_add(AHEAD).saturating_mul(NANOS),
        }
    }
}

/// Whether it may name a series, a producer or a consumer.
pub fn is_name(name: &str) -> bool {
    let ok = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/".contains(&byte);
    (1..=NAME).contains(&name.len()) && name.bytes().all(ok)
}

/// What is wrong with a batch as a whole.
pub fn wrong(batch: &Batch) -> Option<String> {
    let shown = |text: &str| -> String { text.chars().take(NAME).collect() };
    if !is_name(&batch.producer) {
        let name = shown(&batch.producer);
        return Some(format!("{name:?} is no producer; use 1 to 64 of a-z, A-Z, 0-9 and -_.:/"));
    }
    if batch.sequence == 0 {
        return Some("sequences begin with 1".to_owned());
    }
    let lengths: Vec<(String, usize, usize)> = match &batch.sent {
        Sent::Values(columns) => {
            let bad = columns.iter().find(|column| !is_name(&column.series));
            if let Some(bad) = bad {
                let name = shown(&bad.series);
                return Some(format!(
                    "{name:?} is no series; use 1 to 64 of a-z, A-Z, 0-9 and -_.:/"
                ));
            }
            let each = columns.iter();
            each.map(|it| (it.series.clone(), it.times.len(), it.values.len())).collect()
        }
        Sent::Outcomes(columns) => {
            let each = columns.iter();
            each.map(|it| (it.version.to_string(), it.times.len(), it.values.len())).collect()
        }
    };
    if lengths.len() > COLUMNS {
        return Some(format!("{} columns are more than {COLUMNS}", lengths.len()));
    }
    let rows: usize = lengths.iter().map(|(_, times, _)| times).sum();
    if rows > ROWS {
        return Some(format!("{rows} rows are more than {ROWS}"));
    }
    let uneven = lengths.iter().find(|(_, times, values)| times != values);
    uneven.map(|(name, _, _)| format!("the columns of {name} differ in length"))
}

/// What became of values before they reach the writer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Left {
    /// They are no numbers.
    pub missing: u32,
    /// They are too old.
    pub late: u32,
    /// They are none.
    pub rejected: u32,
}

/// A series with values that may count, each with its time in nanoseconds since 1970.
pub type Rows = (String, Vec<(i64, f64)>);

/// Sorts the values of a batch out: those that may count stay, with their times. `prices`: whether a series has prices,
/// which are above 0.
pub fn sift(
    columns: Vec<Column>,
    horizon: Horizon,
    prices: impl Fn(&str) -> bool,
) -> (Vec<Rows>, Left) {
    let mut left = Left::default();
    let mut kept = Vec::with_capacity(columns.len());
    for column in columns {
        let prices = prices(&column.series);
        let mut rows = Vec::with_capacity(column.times.len());
        for (time, value) in column.times.into_iter().zip(column.values) {
            if !value.is_finite() {
                left.missing += 1;
            } else if time > horizon.newest || (prices && value <= 0.0) {
                left.rejected += 1;
            } else if time < horizon.oldest {
                left.late += 1;
            } else {
                rows.push((time, value));
            }
        }
        kept.push((column.series, rows));
    }
    (kept, left)
}
