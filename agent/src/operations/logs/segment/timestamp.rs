use std::fmt;

use regex::bytes::{CaptureLocations, Regex};

use super::epoch::{JsonKey, captured};
use super::rfc3339::Rfc3339;

/// How far into a line a timestamp is looked for, in bytes.
pub const TIMESTAMP_WINDOW: usize = 64 << 10;

/// Where the lines of a source carry their timestamps.
#[derive(Debug, Clone)]
pub enum TimestampFormat {
    /// At the start of the line, or behind one `[`: `YYYY-MM-DD`, then `T`, `t` or a space, then
    /// `hh:mm:ss`, a fraction behind `.` or `,`, and a zone as `Z`, `+hh:mm`, `+hhmm` or `+hh`.
    /// Without a zone it is UTC.
    Rfc3339,
    /// In a top-level key of the line's JSON object: a string as in [`TimestampFormat::Rfc3339`],
    /// or a number since the epoch whose magnitude tells seconds (below 10^11), milliseconds (below
    /// 10^14), microseconds (below 10^17) and nanoseconds apart.
    Json {
        /// The key, unescaped.
        key: String,
    },
    /// What the group `ts`, else the first group, else the whole pattern matches: a timestamp as
    /// in [`TimestampFormat::Rfc3339`] or a number as in [`TimestampFormat::Json`].
    Regex(Regex),
}

impl fmt::Display for TimestampFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rfc3339 => f.write_str("rfc3339"),
            Self::Json { key } => write!(f, "json:{key}"),
            Self::Regex(regex) => write!(f, "regex:{regex}"),
        }
    }
}

impl std::str::FromStr for TimestampFormat {
    type Err = String;

    /// What [`TimestampFormat`] displays itself as.
    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.split_once(':')) {
            ("rfc3339", _) => Ok(Self::Rfc3339),
            (_, Some(("json", key))) => Ok(Self::Json { key: key.to_owned() }),
            (_, Some(("regex", pattern))) => regex::bytes::RegexBuilder::new(pattern)
                .size_limit(1 << 20)
                .build()
                .map(Self::Regex)
                .map_err(|error| error.to_string()),
            _ => Err(format!("{text:?} is no format of timestamps")),
        }
    }
}

/// Reads the timestamps of lines. It remembers the last date, and nothing that changes an answer.
#[derive(Debug, Clone)]
pub struct TimestampParser {
    dates: Rfc3339,
    place: Place,
}

#[derive(Debug, Clone)]
enum Place {
    Start,
    Json(Box<JsonKey>),
    Regex { regex: Regex, group: usize, locations: CaptureLocations },
}

impl TimestampParser {
    /// A parser for lines of `format`.
    pub fn new(format: &TimestampFormat) -> Self {
        let place = match format {
            TimestampFormat::Rfc3339 => Place::Start,
            TimestampFormat::Json { key } => Place::Json(Box::new(JsonKey::new(key))),
            TimestampFormat::Regex(regex) => Place::Regex {
                group: regex
                    .capture_names()
                    .position(|name| name == Some("ts"))
                    .unwrap_or_else(|| 1.min(regex.captures_len() - 1)),
                locations: regex.capture_locations(),
                regex: regex.clone(),
            },
        };
        Self { dates: Rfc3339::new(), place }
    }

    /// The timestamp of a line, with or without its line end, in nanoseconds since the epoch, UTC.
    ///
    /// `None` for a line without one, and for what is none: an impossible date or time, or a year
    /// before 1678 or after 2261. A leap second is the last nanosecond of `:59`.
    #[inline]
    pub fn parse(&mut self, line: &[u8]) -> Option<i64> {
        match &mut self.place {
            Place::Start => {
                let line = line.strip_prefix(b"[").unwrap_or(line);
                Some(self.dates.read(line)?.nanos)
            }
            Place::Json(key) => key.read(window(line), &mut self.dates),
            Place::Regex { regex, group, locations } => {
                let line = window(line);
                let line = line.strip_suffix(b"\n").unwrap_or(line);
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                regex.captures_read(locations, line)?;
                let (start, end) = locations.get(*group)?;
                captured(&line[start..end], &mut self.dates)
            }
        }
    }
}

fn window(line: &[u8]) -> &[u8] {
    &line[..line.len().min(TIMESTAMP_WINDOW)]
}
