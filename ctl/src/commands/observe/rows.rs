//! Observations in lines of CSV or JSON: what each says, or why it says nothing.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::format::excerpt;

/// The longest latency, in seconds.
const LONGEST_SECONDS: f64 = 4_294_967_296.0;
/// So much of what is wrong is repeated.
const SHOWN: usize = 40;

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
        let find = |name: &str| {
            let mut found = names.iter().enumerate().filter(|(_, one)| *one == name);
            match (found.next(), found.next()) {
                (Some(_), Some(_)) => Err(format!("it names {name} twice")),
                (first, _) => Ok(first.map(|(index, _)| index)),
            }
        };
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
        let mut take = |index: usize, name: &str| match found.get_mut(index) {
            Some(field) => Ok(std::mem::take(field)),
            None => Err(format!("it ends before the column {name}")),
        };
        let timestamp = take(self.timestamp, "timestamp")?;
        let latency = take(self.latency, "latency")?;
        let operation = match self.operation {
            Some(index) => take(index, "operation")?,
            None => Cow::Borrowed(""),
        };
        Ok(Row {
            operation,
            unix_nanos: unix_nanos(&timestamp)?,
            seconds: seconds(&latency, self.unit)?,
        })
    }
}

/// The fields of a line of CSV, without the space around them. One in quotes may hold commas and doubled quotes, but no
/// line end.
fn fields(line: &str) -> Result<Vec<Cow<'_, str>>, String> {
    let mut found = Vec::with_capacity(8);
    let mut rest = line;
    loop {
        let Some(quoted) = rest.trim_start().strip_prefix('"') else {
            let (field, more) = match rest.split_once(',') {
                Some((field, more)) => (field, Some(more)),
                None => (rest, None),
            };
            found.push(Cow::Borrowed(field.trim()));
            match more {
                Some(more) => rest = more,
                None => return Ok(found),
            }
            continue;
        };
        let (field, more) = unquoted(quoted)?;
        found.push(field);
        match more.trim_start() {
            "" => return Ok(found),
            more => rest = more.strip_prefix(',').ok_or("there is text behind a quoted field")?,
        }
    }
}

/// What stands before the closing quote, and what behind it.
fn unquoted(text: &str) -> Result<(Cow<'_, str>, &str), String> {
    let open = || "a quoted field does not end".to_owned();
    let (first, mut rest) = text.split_once('"').ok_or_else(open)?;
    let mut field = Cow::Borrowed(first);
    while let Some(more) = rest.strip_prefix('"') {
        let (part, behind) = more.split_once('"').ok_or_else(open)?;
        let field = field.to_mut();
        field.push('"');
        field.push_str(part);
        rest = behind;
    }
    Ok((field, rest))
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
    let row: Json<'_> = serde_json::from_str(line).map_err(|error| {
        let error = error.to_string();
        // It is one line, as far as the parser knows.
        format!(
            "no JSON object as is wanted: {}",
            error.split(" at line ").next().unwrap_or_default()
        )
    })?;
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

/// A number as it is written, a string without its quotes.
fn bare(value: &RawValue) -> Cow<'_, str> {
    let text = value.get();
    match serde_json::from_str(text) {
        Ok(string) if text.starts_with('"') => Cow::<str>::Owned(string),
        _ => Cow::Borrowed(text),
    }
}

/// RFC 3339, or seconds since 1970 to the nanosecond: exactly, since a float has no room for both.
fn unix_nanos(text: &str) -> Result<i64, String> {
    let out_of_range = || {
        let shown = excerpt(text, SHOWN);
        format!("the timestamp {shown} is out of range: it is in seconds since 1970, or RFC 3339")
    };
    if let Some((negative, whole, fraction)) = decimal(text) {
        let seconds: i64 = whole.parse().map_err(|_| out_of_range())?;
        // Finer than a nanosecond is cut off.
        let nanos = fraction.bytes().chain(std::iter::repeat(b'0')).take(9);
        let nanos = nanos.fold(0, |sum, digit| 10 * sum + i64::from(digit - b'0'));
        let all = seconds.checked_mul(1_000_000_000).and_then(|all| all.checked_add(nanos));
        let all = all.ok_or_else(out_of_range)?;
        return Ok(if negative { -all } else { all });
    }
    match text.parse::<Timestamp>() {
        Ok(at) => i64::try_from(at.as_nanosecond()).map_err(|_| out_of_range()),
        Err(_) => {
            let shown = excerpt(text, SHOWN);
            Err(format!("the timestamp {shown:?} is neither RFC 3339 nor seconds since 1970"))
        }
    }
}

/// Sign, digits, and digits behind the point.
fn decimal(text: &str) -> Option<(bool, &str, &str)> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let all_digits =
        |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (all_digits(whole) && all_digits(fraction)).then_some((negative, whole, fraction))
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
    fn timestamps_are_exact_to_the_nanosecond() {
        for (text, nanos) in [
            ("0", 0),
            ("1700000000", 1_700_000_000_000_000_000),
            ("1700000000.123456789", 1_700_000_000_123_456_789),
            ("1700000000.1234567899", 1_700_000_000_123_456_789),
            ("1700000000.5", 1_700_000_000_500_000_000),
            ("-0.000000001", -1),
            ("2023-11-14T22:13:20.123456789Z", 1_700_000_000_123_456_789),
            ("2023-11-14T23:13:20+01:00", 1_700_000_000_000_000_000),
        ] {
            assert_eq!(unix_nanos(text), Ok(nanos), "{text}");
        }
        for text in ["", ".", "1.", ".5", "1e9", "--1", "+1", "soon", "2023-11-14T22:13:20", "1,5"]
        {
            assert!(unix_nanos(text).unwrap_err().contains("neither"), "{text}");
        }
        // Milliseconds are none of both, and too large to be taken for seconds.
        let huge = "9".repeat(30);
        for text in ["1700000000123", "9223372037", "3000-01-01T00:00:00Z", &huge] {
            assert!(unix_nanos(text).unwrap_err().contains("out of range"), "{text}");
        }
    }

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
        fn quoting_keeps_fields(texts in proptest::collection::vec("[a-z,\" ]{0,8}", 1..5)) {
            let quoted: Vec<_> = texts.iter().map(|one| format!("\"{}\"", one.replace('"', "\"\""))).collect();
            let line = quoted.join(",");
            prop_assert_eq!(fields(&line).unwrap(), texts);
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
