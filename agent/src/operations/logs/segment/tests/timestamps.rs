//! Timestamps against jiff and serde_json.

use jiff::civil;
use jiff::tz::Offset;
use regex::bytes::Regex;

use super::*;

fn parse(line: impl AsRef<[u8]>) -> Option<i64> {
    TimestampParser::new(&TimestampFormat::Rfc3339).parse(line.as_ref())
}

fn at(text: &str) -> Option<i64> {
    let stamp: jiff::Timestamp = text.parse().unwrap();
    Some(i64::try_from(stamp.as_nanosecond()).unwrap())
}

/// The parts of a timestamp, possible or not.
#[derive(Debug, Clone)]
struct Parts {
    date: (i16, i8, i8),
    time: (i8, i8, i8),
    fraction: String,
    /// As it is written, and the seconds that it means.
    zone: (String, Option<i32>),
    marks: (char, char),
}

impl Parts {
    fn text(&self) -> String {
        let ((year, month, day), (hour, minute, second)) = (self.date, self.time);
        let (separator, point) = self.marks;
        let zone = &self.zone.0;
        let fraction = match self.fraction.as_str() {
            "" => String::new(),
            digits => format!("{point}{digits}"),
        };
        format!(
            "{year:04}-{month:02}-{day:02}{separator}{hour:02}:{minute:02}:{second:02}{fraction}{zone}"
        )
    }

    /// The instant by jiff's calendar.
    fn expected(&self) -> Option<i64> {
        let ((year, month, day), (hour, minute, second)) = (self.date, self.time);
        let nanos = format!("{:0<9}", self.fraction)[..9].parse().unwrap();
        let (second, nanos) = if second == 60 { (59, 999_999_999) } else { (second, nanos) };
        let local = civil::DateTime::new(year, month, day, hour, minute, second, nanos).ok()?;
        let offset = Offset::from_seconds(self.zone.1?).unwrap();
        let stamp = offset.to_timestamp(local).ok()?;
        (1678..=2261).contains(&year).then(|| i64::try_from(stamp.as_nanosecond()).unwrap())
    }
}

fn parts() -> impl Strategy<Value = Parts> {
    let zone = prop_oneof![
        Just((String::new(), Some(0))),
        Just(("Z".to_owned(), Some(0))),
        Just(("z".to_owned(), Some(0))),
        (0..26_i32, 0..62_i32, any::<bool>(), 0..3).prop_map(|(hours, minutes, west, form)| {
            let sign = if west { '-' } else { '+' };
            let (text, minutes) = match form {
                0 => (format!("{sign}{hours:02}:{minutes:02}"), minutes),
                1 => (format!("{sign}{hours:02}{minutes:02}"), minutes),
                _ => (format!("{sign}{hours:02}"), 0),
            };
            let seconds = (hours * 60 + minutes) * 60;
            let possible = hours < 24 && minutes < 60;
            (text, possible.then_some(if west { -seconds } else { seconds }))
        }),
    ];
    let date = (prop_oneof![4 => 1900..2100_i16, 1 => 0..10_000_i16], 0..14_i8, 0..33_i8);
    let time = (0..26_i8, 0..62_i8, 0..63_i8);
    let marks = (prop::sample::select(vec!['T', 't', ' ']), prop::sample::select(vec!['.', ',']));
    (date, time, "[0-9]{0,12}", zone, marks).prop_map(|(date, time, fraction, zone, marks)| Parts {
        date,
        time,
        fraction,
        zone,
        marks,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn it_agrees_with_the_calendar(parts in parts(), tail in "( .*|\\].*|)") {
        let text = parts.text();
        prop_assert_eq!(parse(format!("{text}{tail}")), parts.expected(), "{}", text);
        prop_assert_eq!(parse(format!("[{text}{tail}")), parts.expected(), "[{}", text);
    }

    #[test]
    fn it_agrees_with_jiff_s_parser(parts in parts()) {
        let text = parts.text().replace(',', ".");
        if parts.zone.0.is_empty() || parts.fraction.len() > 9 || parts.time.2 == 60 {
            return Ok(());
        }
        let by_jiff = text.parse::<jiff::Timestamp>().ok();
        if let Some(nanos) = parse(&text) {
            let by_jiff = by_jiff.map(|stamp| stamp.as_nanosecond());
            prop_assert_eq!(by_jiff, Some(i128::from(nanos)), "{}", text);
        } else if (1678..=2261).contains(&parts.date.0) && parts.zone.1.is_some() {
            prop_assert_eq!(by_jiff, None, "{}", text);
        }
    }
}

proptest! {
    /// What was read before has no influence.
    #[test]
    fn its_memory_changes_no_answer(all in prop::collection::vec(parts(), 1..20)) {
        let mut parser = TimestampParser::new(&TimestampFormat::Rfc3339);
        for parts in all {
            let text = parts.text();
            prop_assert_eq!(parser.parse(text.as_bytes()), parse(&text), "{}", text);
        }
    }

    #[test]
    fn no_bytes_panic(
        line in prop::collection::vec(any::<u8>(), 0..80),
        almost in "\\{?\"?ts\"?:? ?\"?[-+0-9:.,TZe]{0,40}\"?",
    ) {
        let pattern = Regex::new("(?s-u)(?P<ts>.*)").unwrap();
        for format in [
            TimestampFormat::Rfc3339,
            TimestampFormat::Json { key: "ts".to_owned() },
            TimestampFormat::Regex(pattern),
        ] {
            let mut parser = TimestampParser::new(&format);
            parser.parse(&line);
            parser.parse(almost.as_bytes());
        }
    }

    /// The key's value at the top level, as a JSON parser sees it.
    #[test]
    fn json_agrees_with_a_parser(fields in prop::collection::vec((key(), value()), 0..6)) {
        let object: serde_json::Map<String, serde_json::Value> = fields.into_iter().collect();
        let expected = object.get("ts").and_then(|value| match value {
            serde_json::Value::String(text) => at_if_whole(text),
            serde_json::Value::Number(number) => number.as_i64().map(|seconds| seconds * SECOND),
            _ => None,
        });
        let line = serde_json::Value::Object(object).to_string();
        prop_assert_eq!(json("ts", &line), expected, "{}", line);
        prop_assert_eq!(json("ts", &format!("host app: {line}\n")), expected, "{}", line);
    }
}

fn key() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["ts", "a", "\"ts\"", "msg", "ts2"]).prop_map(str::to_owned)
}

fn value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::from("2024-01-31T12:00:00Z")),
        Just(serde_json::Value::from("{\"ts\": 5, [ \\ \"")),
        Just(serde_json::Value::from("ts")),
        Just(serde_json::Value::Null),
        (1_000_000_000..2_000_000_000_i64).prop_map(serde_json::Value::from),
    ];
    leaf.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(serde_json::Value::from),
            prop::collection::vec((key(), inner), 0..3)
                .prop_map(|fields| serde_json::Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn at_if_whole(text: &str) -> Option<i64> {
    text.parse::<jiff::Timestamp>().ok().map(|stamp| stamp.as_nanosecond() as i64)
}

fn json(key: &str, line: &str) -> Option<i64> {
    let format = TimestampFormat::Json { key: key.to_owned() };
    TimestampParser::new(&format).parse(line.as_bytes())
}

#[test]
fn what_logs_begin_with() {
    let noon = Some(NOON);
    let half = Some(NOON + SECOND / 2);
    let cases = [
        ("2024-01-31T12:00:00Z INFO x", noon),
        ("[2024-01-31T12:00:00Z] INFO x", noon),
        ("2024-01-31 12:00:00,500 INFO x", half),
        ("2024-01-31t12:00:00.5z", half),
        ("2024-01-31T13:00:00.5+01:00 x", half),
        ("2024-01-31T06:30:00.500-0530 x", half),
        ("2024-01-31 13:00:00+01 x", noon),
        ("2024-01-31 12:00:00 - x", noon),
        ("2024-01-31 12:00:00-x", noon),
        ("2024-01-31 12:00:00. x", noon),
        ("2024-01-31 12:00:00", noon),
        ("2024-01-31T12:00:00.5000000009999999Z", half),
        ("2024-02-30T12:00:00Z", None),
        ("2023-02-29T12:00:00Z", None),
        ("2024-01-31T24:00:00Z", None),
        ("2024-01-31T12:60:00Z", None),
        ("2024-01-31T12:00:61Z", None),
        ("2024-01-31T12:00:00+24:00", None),
        ("2024-01-31T12:00", None),
        ("2024-01-31_12:00:00Z", None),
        (" 2024-01-31T12:00:00Z", None),
        ("[[2024-01-31T12:00:00Z", None),
        ("1677-12-31T12:00:00Z", None),
        ("2262-01-01T12:00:00Z", None),
        ("\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0:00Z", None),
        ("", None),
    ];
    for (line, expected) in cases {
        assert_eq!(parse(line), expected, "{line}");
    }
    assert_eq!(parse("2016-12-31T23:59:60Z"), at("2016-12-31T23:59:59.999999999Z"));
    assert_eq!(parse("1678-01-01T00:00:00+23:59"), at("1677-12-31T00:01:00Z"));
    assert_eq!(parse("2261-12-31T23:59:59.999999999-23:59"), at("2262-01-01T23:58:59.999999999Z"));
}

#[test]
fn what_json_logs_hold() {
    let noon = Some(NOON);
    let cases = [
        (r#"{"ts":"2024-01-31T12:00:00Z","msg":"x"}"#, noon),
        (r#"{ "msg" : "x" , "ts" : "2024-01-31T12:00:00Z" }"#, noon),
        (r#"{"ts":"2024-01-31T14:00:00\u002b02:00"}"#, noon),
        (r#"{"ts":"2024-01-31T13:00:00+01:00[Europe/Paris]"}"#, noon),
        (r#"{"ts":1706702400}"#, noon),
        (r#"{"ts":1706702400000}"#, noon),
        (r#"{"ts":1706702400000000}"#, noon),
        (r#"{"ts":1706702400000000000}"#, noon),
        (r#"{"ts":1706702400.000000000}"#, noon),
        (r#"{"ts":1706702400.123456789}"#, Some(NOON + 123_456_789)),
        (r#"{"ts":1706702400.1234567899999999999999999}"#, Some(NOON + 123_456_789)),
        (r#"{"ts":1706702400123.25}"#, Some(NOON + 123_250_000)),
        (r#"{"ts":1.7067024005e9}"#, Some(NOON + SECOND / 2)),
        (r#"{"ts":17067024005E-1}"#, Some(NOON + SECOND / 2)),
        (r#"{"ts":-1.5}"#, Some(-3 * SECOND / 2)),
        (r#"{"ts":0}"#, Some(0)),
        (r#"{"meta":{"ts":5},"ts":1706702400}"#, noon),
        (r#"{"list":[{"ts":5}],"msg":"\"ts\":7 {","ts":1706702400}"#, noon),
        (r#"{"level":"ts","ts":1706702400}"#, noon),
        (r#"{"meta":{"ts":5}}"#, None),
        (r#"{"ts":null,"a":1}"#, None),
        (r#"{"ts":"soon"}"#, None),
        (r#"{"ts":"2024-01-31 12:00:00 +0200"}"#, None),
        (r#"{"ts":1e400}"#, None),
        (r#"{"ts":1e40}"#, None),
        (r#"{"ts":1706702400x}"#, None),
        (r#"{"ts":99999999999999999999999999999999999999}"#, None),
        (r#"{"ts":"#, None),
        (r#"{"ts":"2024"#, None),
        (r#""ts":1706702400"#, None),
    ];
    for (line, expected) in cases {
        assert_eq!(json("ts", line), expected, "{line}");
    }
    assert_eq!(json("a\"b", r#"{"a\"b":1706702400}"#), noon);
}

#[test]
fn what_patterns_capture() {
    let parse = |pattern: &str, line: &str| {
        let format = TimestampFormat::Regex(Regex::new(pattern).unwrap());
        TimestampParser::new(&format).parse(line.as_bytes())
    };
    let noon = Some(NOON);
    assert_eq!(parse(r"at=(\S+)", "x at=2024-01-31T12:00:00Z y"), noon);
    assert_eq!(parse(r"at=(\S+)", "x at=1706702400.000 y"), noon);
    assert_eq!(parse(r"^(\w+) (?P<ts>\S+)", "host 2024-01-31T12:00:00Z"), noon);
    assert_eq!(parse(r"\d{10}$", "x 1706702400\r\n"), noon);
    assert_eq!(parse(r"at=(\S+)", "x 2024-01-31T12:00:00Z"), None);
    assert_eq!(parse(r"at=(.*)", "at=2024-01-31T12:00:00Z and more"), None);
    assert_eq!(parse(r"a(b)?", "a 1706702400"), None);
    // Not looked for in the depths of a line.
    let deep = format!("{}at=1706702400", " ".repeat(TIMESTAMP_WINDOW));
    assert_eq!(parse(r"at=(\S+)", &deep), None);
}

#[test]
fn formats_describe_themselves() {
    let regex = TimestampFormat::Regex(Regex::new("^x").unwrap());
    assert_eq!(TimestampFormat::Rfc3339.to_string(), "rfc3339");
    assert_eq!(TimestampFormat::Json { key: "ts".to_owned() }.to_string(), "json:ts");
    assert_eq!(regex.to_string(), "regex:^x");
}
