//! What people type as a range of dates.

use super::*;

const DAY: i64 = 86_400 * SECOND;

fn at(text: &str) -> i64 {
    let stamp: jiff::Timestamp = text.parse().unwrap();
    i64::try_from(stamp.as_nanosecond()).unwrap()
}

#[test]
fn right_ranges() {
    let cases = [
        ("2024-01-01:2024-01-31", "2024-01-01T00:00:00Z", "2024-02-01T00:00:00Z"),
        ("2024-02-29:2024-02-29", "2024-02-29T00:00:00Z", "2024-03-01T00:00:00Z"),
        ("2024-12-31", "2024-12-31T00:00:00Z", "2025-01-01T00:00:00Z"),
        ("2024-01-01..2024-01-31", "2024-01-01T00:00:00Z", "2024-02-01T00:00:00Z"),
        ("2024-01-01..2024-01-01", "2024-01-01T00:00:00Z", "2024-01-02T00:00:00Z"),
        (
            "2024-01-01T09:30:00Z..2024-01-01T16:00:00+02:00",
            "2024-01-01T09:30:00Z",
            "2024-01-01T14:00:00Z",
        ),
        ("2024-01-01T09:30:00.5Z..2024-01-02", "2024-01-01T09:30:00.5Z", "2024-01-03T00:00:00Z"),
        (
            "2024-01-01..2024-01-01T00:00:00.000000001Z",
            "2024-01-01T00:00:00Z",
            "2024-01-01T00:00:00.000000001Z",
        ),
        ("1678-01-01:2261-12-31", "1678-01-01T00:00:00Z", "2262-01-01T00:00:00Z"),
    ];
    for (text, from, until) in cases {
        assert_eq!(
            DateRange::parse(text),
            Ok(DateRange { from: at(from), until: at(until) }),
            "{text}"
        );
    }
}

#[test]
fn wrong_ranges_are_refused_with_a_right_example() {
    let long = "2024-01-01:".repeat(100_000);
    let cases = [
        ("", "empty"),
        (long.as_str(), "characters"),
        ("2024-01-01:", "half"),
        (":2024-01-01", "half"),
        ("2024-01-01..", "half"),
        ("..2024-01-01", "half"),
        ("..", "half"),
        (":", "half"),
        ("2024-01-31:2024-01-01", "before it starts"),
        ("2024-01-02..2024-01-01T12:00:00Z", "before it starts"),
        ("2024-01-01T09:00:00Z..2024-01-01T09:00:00Z", "no time at all"),
        ("2024-01-01T09:00:00Z..2024-01-01T10:00:00+01:00", "no time at all"),
        ("2024-01-01T09:00:00Z:2024-01-01T10:00:00Z", "colons"),
        ("2024-01-01:2024-01-01T10:00:00Z", "colons"),
        ("2024-01-01T09:00:00Z", "one instant"),
        ("2024-02-30", "\"2024-02-30\" is not a date"),
        ("2024-01-01:2023-02-29", "\"2023-02-29\" is not a date"),
        ("2024-13-01", "not a date"),
        ("yesterday", "not a date"),
        ("2024-1-1:2024-1-2", "not a date"),
        ("2024-01-01:2024-01-02:2024-01-03", "not a date"),
        ("2024-01-01...2024-01-02", "not a date"),
        (" 2024-01-01", "not a date"),
        ("2024-01-01\0", "not a date"),
        ("２０２４-01-01", "not a date"),
        ("1500-01-01:2024-01-01", "not a date"),
        ("2024-01-01:9999-12-31", "not a date"),
        ("2024-01-01T09:00:00..2024-01-01T10:00:00", "zone"),
        ("2024-01-01T25:00:00Z..2024-01-02", "neither a date nor an instant"),
        ("2024-01-01T09:00:00Zx..2024-01-02", "neither a date nor an instant"),
    ];
    for (text, reason) in cases {
        let error = DateRange::parse(text).unwrap_err();
        let message = error.to_string();
        assert_eq!(error.code(), "RANGE_INVALID");
        assert!(message.contains(reason), "{text:?}: {message}");
        assert!(message.len() < 500, "{message}");
        // The examples of the message are right ones.
        for example in ["2024-01-01:2024-01-31", "2024-01-01T09:30:00Z..2024-01-01T16:00:00Z"] {
            assert!(message.contains(example) && DateRange::parse(example).is_ok());
        }
    }
}

#[test]
fn the_end_is_not_included() {
    let day = DateRange::parse("2024-01-31").unwrap();
    let (from, until) = (day.from, day.until);
    assert_eq!(until - from, DAY);
    assert!(day.contains(from) && day.contains(until - 1));
    assert!(!day.contains(from - 1) && !day.contains(until));
    assert!(day.overlaps(from - 5, from) && day.overlaps(until - 1, until + 5));
    assert!(day.overlaps(from - 5, until + 5) && day.overlaps(from + 5, from + 5));
    assert!(!day.overlaps(from - 5, from - 1) && !day.overlaps(until, until + 5));
    assert!(day.covers(from, until - 1) && !day.covers(from, until));
    let nothing = DateRange { from, until: from };
    assert!(!nothing.contains(from) && !nothing.overlaps(from - 5, until));
}

proptest! {
    #[test]
    fn two_dates_are_what_the_calendar_says(
        from in (1678_i16..2262, 0_i8..14, 0_i8..33),
        until in (1678_i16..2262, 0_i8..14, 0_i8..33),
    ) {
        let day = |(year, month, day)| jiff::civil::Date::new(year, month, day).ok();
        let text = |(year, month, day)| format!("{year:04}-{month:02}-{day:02}");
        let range = DateRange::parse(&format!("{}:{}", text(from), text(until)));
        let expected = match (day(from), day(until)) {
            (Some(from), Some(until)) if from <= until => {
                let start = |date: jiff::civil::Date| {
                    let midnight = date.at(0, 0, 0, 0);
                    let stamp = jiff::tz::Offset::UTC.to_timestamp(midnight).unwrap();
                    i64::try_from(stamp.as_nanosecond()).unwrap()
                };
                Some(DateRange { from: start(from), until: start(until.tomorrow().unwrap()) })
            }
            _ => None,
        };
        prop_assert_eq!(range.ok(), expected);
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,60}", other in "[-0-9:.TZ+]{0,50}") {
        for text in [text, other] {
            if let Ok(range) = DateRange::parse(&text) {
                prop_assert!(range.from < range.until);
            }
        }
    }
}
