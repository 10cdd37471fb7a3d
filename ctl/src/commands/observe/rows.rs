//! Observations in lines of CSV or JSON: what each says, or why it says nothing.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::send_file::text::{SHOWN, bare, fields, object, place, take, unix_nanos};
use crate::format::excerpt;

/// The longest latency, in seconds.
const LONGEST_SECONDS: f64 = 4_294_967_296.0;

/// One observation.
#[derive(Debug, PartialEq)]
pub(super) struct Row<'a> {
    /// Empty: the line has none.
    pub(super) operation: Cow<'a, str>,
    pub(super) unix_nanos: i64,
    pub(super) seconds: f64,
}

/// How lines are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rows {
    Csv(Columns),
    Json,
}

/// Where in a line of CSV what stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Columns {
    operation: Option<usize>,
    timestamp: usize,
    latency: usize,
    unit: Unit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Seconds,
    Milliseconds,
}

impl Columns {
    /// Those of a header. `operation_needed`: there is no other name for what has none.
    pub(super) fn of_header(line: &str, operation_needed: bool) -> Result<Self, String> {
        let names = fields(line)?;
        let find = |name| place(&names, name);
        let operation = find("operation")?;
        if operation.is_none() && operation_needed {
            return Err("it has no column operation: add --operation NAME".to_owned());
        }
        let timestamp = find("timestamp")?.ok_or("it has no column timestamp")?;
        let (latency, unit) = match (find("latency_ms")?, find("latency_s")?) {
            (Some(latency), None) => (latency, Unit::Milliseconds),
            (None, Some(latency)) => (latency, Unit::Seconds),
            (None, None) => return Err("it has no column latency_ms or latency_s".to_owned()),
            (Some(_), Some(_)) => return Err("it has both latency_ms and latency_s".to_owned()),
        };
        Ok(Self { operation, timestamp, latency, unit })
    }
}

impl Rows {
    /// What a line says.
    pub(super) fn parse(self, line: &str) -> Result<Row<'_>, String> {
        match self {
            Self::Csv(columns) => columns.parse(line),
            Self::Json => parse_json(line),
        }
    }
}

impl Columns {
    fn parse(self, line: &str) -> Result<Row<'_>, String> {
        let mut found = fields(line)?;
        let timestamp = take(&mut found, self.timestamp, "timestamp")?;
        let latency = take(&mut found, self.latency, "latency")?;
        let operation = match self.operation {
            Some(index) => take(&mut found, index, "operation")?,
            None => Cow::Borrowed(""),
        };
        Ok(Row {
            operation,
            unix_nanos: unix_nanos(&timestamp)?,
            seconds: seconds(&latency, self.unit)?,
        })
    }
}

/// A line of JSON. Numbers are taken as they are written.
#[derive(Deserialize)]
struct Json<'a> {
    #[serde(borrow, default)]
    operation: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    timestamp: Option<&'a RawValue>,
    #[serde(borrow, default)]
    latency_ms: Option<&'a RawValue>,
    #[serde(borrow, default)]
    latency_s: Option<&'a RawValue>,
}

fn parse_json(line: &str) -> Result<Row<'_>, String> {
    let row: Json<'_> = object(line)?;
    let (latency, unit) = match (row.latency_ms, row.latency_s) {
        (Some(latency), None) => (latency, Unit::Milliseconds),
        (None, Some(latency)) => (latency, Unit::Seconds),
        (None, None) => return Err("it has no latency_ms or latency_s".to_owned()),
        (Some(_), Some(_)) => return Err("it has both latency_ms and latency_s".to_owned()),
    };
    let timestamp = row.timestamp.ok_or("it has no timestamp")?;
    Ok(Row {
        unix_nanos: unix_nanos(&bare(timestamp))?,
        seconds: seconds(&bare(latency), unit)?,
        operation: row.operation.unwrap_or_default(),
    })
}

fn seconds(text: &str, unit: Unit) -> Result<f64, String> {
    let shown = || excerpt(text, SHOWN);
    let number: f64 =
        text.parse().map_err(|_| format!("the latency {:?} is no number", shown()))?;
    let seconds = match unit {
        Unit::Seconds => number,
        Unit::Milliseconds => number / 1000.0,
    };
    if (0.0..=LONGEST_SECONDS).contains(&seconds) {
        return Ok(seconds.abs());
    }
    Err(format!("the latency {} is not from 0 to 2^32 s", shown()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_header_may_have_any_order_and_more() {
        let of = |line| Columns::of_header(line, true);
        let columns = of("host, \"latency_s\",timestamp ,operation").unwrap();
        let row = columns.parse("\"a, \"\"b\"\"\",0.25,7,orders.place,more").unwrap();
        let operation = Cow::Borrowed("orders.place");
        assert_eq!(row, Row { operation, unix_nanos: 7_000_000_000, seconds: 0.25 });
        let columns = Columns::of_header("timestamp,latency_ms", false).unwrap();
        assert_eq!(columns.parse("7,250").unwrap().seconds, 0.25);
        for (line, why) in [
            ("timestamp,latency_ms", "no column operation"),
            ("operation,latency_ms", "no column timestamp"),
            ("operation,timestamp", "no column latency_ms or latency_s"),
            ("operation,timestamp,latency_ms,latency_s", "both"),
            ("operation,timestamp,timestamp,latency_s", "timestamp twice"),
            ("operation,timestamp,\"latency_s", "does not end"),
        ] {
            assert!(of(line).unwrap_err().contains(why), "{line}");
        }
    }

    #[test]
    fn a_bad_line_says_why() {
        let csv = Rows::Csv(Columns::of_header("operation,timestamp,latency_ms", true).unwrap());
        for (rows, line, why) in [
            (csv, "a,1", "ends before the column latency"),
            (csv, "a,1,fast", "\"fast\" is no number"),
            (csv, "a,1,-3", "-3 is not from 0"),
            (csv, "a,1,NaN", "NaN is not from 0"),
            (csv, "a,1,inf", "inf is not from 0"),
            (csv, "a,then,1", "neither RFC 3339"),
            (csv, "\"a\"b,1,1", "behind a quoted field"),
            (Rows::Json, "[1]", "no JSON object"),
            (Rows::Json, "{\"timestamp\":1}", "no latency_ms or latency_s"),
            (Rows::Json, "{\"latency_s\":1}", "no timestamp"),
            (Rows::Json, "{\"timestamp\":1,\"latency_s\":1,\"latency_ms\":1}", "both"),
            (Rows::Json, "{\"timestamp\":true,\"latency_s\":1}", "\"true\" is neither"),
            (Rows::Json, "{\"timestamp\":1,\"latency_s\":1} x", "no JSON object"),
        ] {
            let error = rows.parse(line).unwrap_err();
            assert!(error.contains(why), "{line}: {error}");
        }
        let line = r#"{"x":{},"operation":"aé","timestamp":1700000000.123456789,"latency_ms":"1.5","latency_s":null}"#;
        let row = Rows::Json.parse(line).unwrap();
        assert_eq!((&*row.operation, row.seconds), ("aé", 0.0015));
        assert_eq!(row.unix_nanos, 1_700_000_000_123_456_789);
    }

    proptest! {
        #[test]
        fn no_line_panics(line in "\\PC{0,60}|[-0-9.,\"{}:a-z]{0,40}") {
            let columns = Columns::of_header("operation,timestamp,latency_ms", true).unwrap();
            let _ = (Rows::Csv(columns).parse(&line), Rows::Json.parse(&line));
            let _ = Columns::of_header(&line, false);
        }

        #[test]
        fn each_nanosecond_is_told_from_the_next(nanos in any::<u32>(), seconds in 0u32..4_000_000_000) {
            let nanos = nanos % 1_000_000_000;
            let exact = i64::from(seconds) * 1_000_000_000 + i64::from(nanos);
            prop_assert_eq!(unix_nanos(&format!("{seconds}.{nanos:09}")), Ok(exact));
            let line = format!("{{\"timestamp\":{seconds}.{nanos:09},\"latency_s\":1}}");
            prop_assert_eq!(Rows::Json.parse(&line).unwrap().unix_nanos, exact);
        }
    }
}
