//! Values in lines of CSV or JSON: what each says, or why it says nothing.

use std::borrow::Cow;
use std::collections::HashSet;

use genesis_client::series::{NAME_LIMIT, is_name};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::super::send_file::NAME_HINT;
use super::super::send_file::text::{SHOWN, bare, fields, object, place, take, unix_nanos};
use crate::format::excerpt;

/// What a line says.
#[derive(Debug, PartialEq)]
pub(super) struct Row<'a> {
    pub(super) unix_nanos: i64,
    /// Of each series, which is empty where the line names none. `None`: it is missing.
    pub(super) values: Vec<(Cow<'a, str>, Option<f64>)>,
}

/// How lines are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Rows {
    /// A value a line.
    Long {
        series: Option<usize>,
        timestamp: usize,
        value: usize,
    },
    /// A column for each series.
    Wide {
        timestamp: usize,
        names: Vec<String>,
    },
    Json,
}

impl Rows {
    /// Those below a header: long where it names a column value or series, else wide. `named`: there is a name for what
    /// has none.
    pub(super) fn of_header(line: &str, named: bool) -> Result<Self, String> {
        let names = fields(line)?;
        let timestamp = place(&names, "timestamp")?.ok_or("it has no column timestamp")?;
        match (place(&names, "series")?, place(&names, "value")?) {
            (None, Some(_)) if !named => {
                Err("it has no column series: add --series NAME".to_owned())
            }
            (Some(_), None) => Err("it has no column value".to_owned()),
            (series, Some(value)) => Ok(Self::Long { series, timestamp, value }),
            (None, None) if named => {
                Err("it names the series itself: leave out --series".to_owned())
            }
            (None, None) => Self::wide(&names, timestamp),
        }
    }

    fn wide(names: &[Cow<'_, str>], timestamp: usize) -> Result<Self, String> {
        let mut series = HashSet::new();
        for (_, name) in names.iter().enumerate().filter(|(index, _)| *index != timestamp) {
            if !is_name(name, NAME_LIMIT) {
                let shown = excerpt(name, SHOWN);
                return Err(format!("the series {shown:?} is not 1 to {NAME_LIMIT} {NAME_HINT}"));
            }
            if !series.insert(name) {
                return Err(format!("it names {name} twice"));
            }
        }
        if series.is_empty() {
            return Err("it names no series".to_owned());
        }
        let names = names.iter().map(|name| name.to_string()).collect();
        Ok(Self::Wide { timestamp, names })
    }

    /// How many values a line has at most.
    pub(super) fn width(&self) -> usize {
        match self {
            Self::Wide { names, .. } => names.len() - 1,
            Self::Long { .. } | Self::Json => 1,
        }
    }

    /// What a line says.
    pub(super) fn parse<'a>(&'a self, line: &'a str) -> Result<Row<'a>, String> {
        match self {
            Self::Long { series, timestamp, value: number } => {
                let mut found = fields(line)?;
                let at = take(&mut found, *timestamp, "timestamp")?;
                let text = take(&mut found, *number, "value")?;
                let series = match series {
                    Some(index) => take(&mut found, *index, "series")?,
                    None => Cow::Borrowed(""),
                };
                row(series, &at, &text)
            }
            Self::Wide { timestamp, names } => parse_wide(line, *timestamp, names),
            Self::Json => parse_json(line),
        }
    }
}

fn parse_wide<'a>(line: &str, timestamp: usize, names: &'a [String]) -> Result<Row<'a>, String> {
    let found = fields(line)?;
    if let Some(lacking) = names.get(found.len()) {
        return Err(format!("it ends before the column {lacking}"));
    }
    if found.len() > names.len() {
        return Err(format!("it has {} fields, and the header {}", found.len(), names.len()));
    }
    let mut values = Vec::with_capacity(names.len());
    for (index, (name, text)) in names.iter().zip(&found).enumerate() {
        if index == timestamp {
            continue;
        }
        let value = value(text).map_err(|why| format!("{why}, in the column {name}"))?;
        values.push((Cow::Borrowed(name.as_str()), value));
    }
    Ok(Row { unix_nanos: unix_nanos(&found[timestamp])?, values })
}

/// A line of JSON. Numbers are taken as they are written.
#[derive(Deserialize)]
struct Json<'a> {
    #[serde(borrow, default)]
    series: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    timestamp: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "even_null")]
    value: Option<&'a RawValue>,
}

/// What is null is missing, and what is not there is forgotten.
fn even_null<'de, D: Deserializer<'de>>(from: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(from).map(Some)
}

fn parse_json(line: &str) -> Result<Row<'_>, String> {
    let found: Json<'_> = object(line)?;
    let at = found.timestamp.ok_or("it has no timestamp")?;
    let text = match found.value.ok_or("it has no value")? {
        null if null.get() == "null" => Cow::Borrowed(""),
        text => bare(text),
    };
    row(found.series.unwrap_or_default(), &bare(at), &text)
}

fn row<'a>(series: Cow<'a, str>, at: &str, text: &str) -> Result<Row<'a>, String> {
    let value = value(text)?;
    Ok(Row { unix_nanos: unix_nanos(at)?, values: vec![(series, value)] })
}

/// A number; `None`: there is none, and it is said.
fn value(text: &str) -> Result<Option<f64>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let wrong = |what| format!("the value {:?} is {what}", excerpt(text, SHOWN));
    let number: f64 = text.parse().map_err(|_| wrong("no number"))?;
    // Written out, and not as what stands for infinity.
    if number.is_infinite() && text.contains(|one: char| one.is_ascii_digit()) {
        return Err(wrong("too large"));
    }
    Ok(Some(number).filter(|number| number.is_finite()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn long() -> Rows {
        Rows::of_header("series,timestamp,value", false).unwrap()
    }

    fn wide() -> Rows {
        Rows::of_header("timestamp,BTC,ETH", false).unwrap()
    }

    #[test]
    fn the_header_says_whether_lines_are_long_or_wide() {
        let long = Rows::of_header("host, \"value\",timestamp ,series", false).unwrap();
        let row = long.parse("x,0.5,7,BTC,more").unwrap();
        assert_eq!((row.unix_nanos, row.values), (7_000_000_000, vec![("BTC".into(), Some(0.5))]));
        let one = Rows::of_header("timestamp,value", true).unwrap();
        assert_eq!(one.parse("7,1e3").unwrap().values, [("".into(), Some(1_000.0))]);
        let wide = Rows::of_header("\"BTC\",timestamp,ETH", false).unwrap();
        let row = wide.parse("1,7,-2.5").unwrap();
        assert_eq!(row.unix_nanos, 7_000_000_000);
        assert_eq!(row.values, [("BTC".into(), Some(1.0)), ("ETH".into(), Some(-2.5))]);
        assert_eq!((long.width(), one.width(), wide.width()), (1, 1, 2));
        for (line, named, why) in [
            ("series,value", false, "no column timestamp"),
            ("date,BTC,ETH", false, "no column timestamp"),
            ("timestamp,value", false, "no column series: add --series NAME"),
            ("timestamp,series", false, "no column value"),
            ("timestamp,BTC", true, "leave out --series"),
            ("timestamp,BTC,ETH,BTC", false, "it names BTC twice"),
            ("timestamp,BTC,timestamp", false, "timestamp twice"),
            ("timestamp,value,value,series", false, "value twice"),
            ("timestamp,BTC,no name", false, "the series \"no name\" is not 1 to 64"),
            ("timestamp,BTC,", false, "the series \"\" is not 1 to 64"),
            ("timestamp", false, "it names no series"),
        ] {
            let error = Rows::of_header(line, named).unwrap_err();
            assert!(error.contains(why), "{line}: {error}");
        }
    }

    #[test]
    fn what_is_missing_is_no_bad_line() {
        for text in ["", " ", "\"\"", "NaN", "nan", "inf", "-Infinity"] {
            let line = format!("BTC,1,{text}");
            assert_eq!(long().parse(&line).unwrap().values, [("BTC".into(), None)], "{text:?}");
            let line = format!("1,{text},2");
            let values = [("BTC".into(), None), ("ETH".into(), Some(2.0))];
            assert_eq!(wide().parse(&line).unwrap().values, values, "{text:?}");
        }
        for text in ["null", "\"\"", "\"NaN\""] {
            let line = format!("{{\"series\":\"BTC\",\"timestamp\":1,\"value\":{text}}}");
            assert_eq!(Rows::Json.parse(&line).unwrap().values, [("BTC".into(), None)], "{text}");
        }
    }

    #[test]
    fn a_bad_line_says_why() {
        for (rows, line, why) in [
            (long(), "BTC,1", "ends before the column value"),
            (long(), "BTC,1,much", "the value \"much\" is no number"),
            (long(), "BTC,1,1e999", "the value \"1e999\" is too large"),
            (long(), "BTC,then,1", "neither RFC 3339"),
            (wide(), "1,2", "ends before the column ETH"),
            (wide(), "1,2,3,4", "it has 4 fields, and the header 3"),
            (wide(), "1,2,much", "the value \"much\" is no number, in the column ETH"),
            (wide(), ",2,3", "the timestamp \"\" is neither"),
            (wide(), "1,\"2,3", "does not end"),
            (Rows::Json, "[1]", "no JSON object"),
            (Rows::Json, "{\"series\":\"BTC\",\"timestamp\":1}", "no value"),
            (Rows::Json, "{\"series\":\"BTC\",\"value\":1}", "no timestamp"),
            (Rows::Json, "{\"timestamp\":1,\"value\":true}", "\"true\" is no number"),
            (Rows::Json, "{\"timestamp\":1,\"value\":[1]}", "is no number"),
        ] {
            let error = rows.parse(line).unwrap_err();
            assert!(error.contains(why), "{line}: {error}");
        }
        let line =
            r#"{"x":{},"series":"é","timestamp":1700000000.123456789,"value":64250.12345678901}"#;
        let row = Rows::Json.parse(line).unwrap();
        assert_eq!(row.values, [("é".into(), Some(64_250.123_456_789_01))]);
        assert_eq!(row.unix_nanos, 1_700_000_000_123_456_789);
    }

    proptest! {
        #[test]
        fn no_line_panics(line in "\\PC{0,60}|[-0-9.,\"{}:a-z]{0,40}") {
            for rows in [long(), wide(), Rows::Json] {
                let _ = rows.parse(&line);
            }
            let _ = Rows::of_header(&line, false);
            let _ = Rows::of_header(&format!("timestamp,{line}"), true);
        }
    }
}
