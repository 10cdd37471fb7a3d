//! Sizes, times and durations for people, and their parsing from arguments.

use std::time::Duration;

use genesis_client::v1::{Condition, RunState, Severity, Truth};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// What stands where there is no value.
pub(crate) const NONE: &str = "-";

/// Such as "1.2 MB": powers of ten, one decimal from 1 kB on.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut scaled = bytes as f64 / 1000.0;
    let mut unit = 0;
    // 999.95 would be shown as 1000.0.
    while scaled >= 999.95 && unit < UNITS.len() - 1 {
        scaled /= 1000.0;
        unit += 1;
    }
    format!("{scaled:.1} {}", UNITS[unit])
}

/// Such as "12,345".
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// "1 line", "2 lines".
pub(crate) fn plural(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", count(number), if number == 1 { "" } else { "s" })
}

/// RFC 3339 in UTC, to the millisecond where it has one.
pub(crate) fn time(at: Option<&prost_types::Timestamp>) -> String {
    let Some(at) = at else { return NONE.to_owned() };
    match instant(at) {
        Some(at) => {
            let whole = at.subsec_millisecond() == 0;
            at.strftime(if whole { "%Y-%m-%dT%H:%M:%SZ" } else { "%Y-%m-%dT%H:%M:%S.%3fZ" })
                .to_string()
        }
        None => "out of range".to_owned(),
    }
}

fn instant(at: &prost_types::Timestamp) -> Option<Timestamp> {
    Timestamp::new(at.seconds, at.nanos).ok()
}

/// From one time to another, such as "3d 4h"; nothing when one is missing or they are reversed.
pub(crate) fn between(
    from: Option<&prost_types::Timestamp>,
    until: Option<&prost_types::Timestamp>,
) -> String {
    let length = || {
        let length = instant(until?)?.duration_since(instant(from?)?);
        Duration::try_from(length).ok()
    };
    length().map_or_else(|| NONE.to_owned(), duration)
}

/// A protobuf duration, such as "30d".
pub(crate) fn proto_duration(length: Option<&prost_types::Duration>) -> String {
    let known = length.and_then(|length| Duration::try_from(*length).ok());
    known.map_or_else(|| NONE.to_owned(), duration)
}

/// Its two largest units, such as "3d 4h", "1m 5s", "2.5s", "180ms".
pub(crate) fn duration(length: Duration) -> String {
    let seconds = length.as_secs();
    if seconds == 0 {
        return format!("{}ms", length.as_millis());
    }
    if seconds < 60 {
        let tenths = length.as_millis() / 100;
        return match tenths % 10 {
            0 => format!("{seconds}s"),
            part => format!("{seconds}.{part}s"),
        };
    }
    let (large, small) = match seconds {
        0..3600 => ((seconds / 60, "m"), (seconds % 60, "s")),
        3600..86400 => ((seconds / 3600, "h"), (seconds % 3600 / 60, "m")),
        _ => ((seconds / 86400, "d"), (seconds % 86400 / 3600, "h")),
    };
    match small.0 {
        0 => format!("{}{}", large.0, large.1),
        _ => format!("{}{} {}{}", large.0, large.1, small.0, small.1),
    }
}

/// How long a query takes, finer than [`proto_duration`] below a second: "0.42ms", "12.3ms".
pub(crate) fn latency(length: Option<&prost_types::Duration>) -> String {
    let Some(known) = length.and_then(|length| Duration::try_from(*length).ok()) else {
        return NONE.to_owned();
    };
    let millis = known.as_secs_f64() * 1000.0;
    match millis {
        // 9.996 would be shown as 10.00.
        ..9.995 => format!("{millis:.2}ms"),
        ..999.95 => format!("{millis:.1}ms"),
        _ => duration(known),
    }
}

/// How long calls take, in four significant digits: "820.0ns", "12.35ms", "1.250s".
pub(crate) fn seconds(seconds: f64) -> String {
    const UNITS: [(f64, &str); 3] = [(1e-6, "ns"), (1e-3, "us"), (1.0, "ms")];
    if seconds == 0.0 {
        return "0s".to_owned();
    }
    // What would be shown as 1000 is shown in the next unit.
    let unit = UNITS.iter().find(|(below, _)| seconds.abs() < below * 0.999_95);
    let (scaled, name) = match unit {
        Some((below, name)) => (seconds / below * 1000.0, *name),
        None => (seconds, "s"),
    };
    let decimals = match scaled.abs() {
        ..9.9995 => 3,
        ..99.995 => 2,
        ..999.95 => 1,
        _ => 0,
    };
    format!("{scaled:.decimals$}{name}")
}

/// A gain or loss, such as "+12.00 %".
pub(crate) fn lift(share: f64) -> String {
    let percent = 100.0 * share;
    match percent.abs() {
        // Further decimals of what is so far off say nothing.
        1e6.. => format!("{percent:+.2e} %"),
        _ => format!("{percent:+.2} %"),
    }
}

/// A probability: four decimals, and two digits where it is too small for them.
pub(crate) fn p_value(p: f64) -> String {
    match p {
        0.0 => "0".to_owned(),
        _ if p < 0.000_95 => format!("{p:.1e}"),
        _ => format!("{p:.4}"),
    }
}

/// A number in whatever unit, in five significant digits.
pub(crate) fn figure(number: f64) -> String {
    let size = number.abs();
    if number == 0.0 || !number.is_finite() {
        return number.to_string();
    }
    if !(1e-4..1e9).contains(&size) {
        return format!("{number:.4e}");
    }
    // 9.99996 would be shown as 10.0000.
    let digits = (size * 1.000_005).log10().floor();
    let decimals = (4.0 - digits).clamp(0.0, 8.0) as usize;
    format!("{number:.decimals$}")
}

/// A quantile, such as "p99".
pub(crate) fn quantile(quantile: f64) -> String {
    format!("p{}", (quantile * 100_000.0).round() / 1000.0)
}

/// A statement in one line, cut to `most` characters.
pub(crate) fn excerpt(text: &str, most: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(most) {
        None => line,
        Some(_) => {
            let kept: String = line.chars().take(most.saturating_sub(1)).collect();
            format!("{}…", kept.trim_end())
        }
    }
}

/// "PASS", "FAIL" or "UNKNOWN".
pub(crate) fn truth(truth: Truth) -> &'static str {
    match truth {
        Truth::Pass => "PASS",
        Truth::Fail => "FAIL",
        Truth::Unknown | Truth::Unspecified => "UNKNOWN",
    }
}

/// "OK", "WARN", "CRITICAL" or "UNKNOWN".
pub(crate) fn condition(condition: Condition) -> &'static str {
    match condition {
        Condition::Ok => "OK",
        Condition::Warn => "WARN",
        Condition::Critical => "CRITICAL",
        Condition::Unknown | Condition::Unspecified => "UNKNOWN",
    }
}

/// Such as "HIGH".
pub(crate) fn severity(severity: Severity) -> &'static str {
    short_name(severity.as_str_name(), "SEVERITY_")
}

/// A share, such as "99.49 %": rounded down, so that what misses a goal is not shown to reach it.
pub(crate) fn share(share: f64) -> String {
    // What is binary must not lose a whole decimal to rounding down.
    let hundredths = (share * 10_000.0 + 1e-6).floor() / 100.0;
    match hundredths.fract() == 0.0 {
        true => format!("{hundredths:.0} %"),
        false => format!("{hundredths:.2} %"),
    }
}

/// Such as "SUCCEEDED".
pub(crate) fn run_state(state: RunState) -> &'static str {
    short_name(state.as_str_name(), "RUN_STATE_")
}

/// An enum value's name without the part that all of its enum share; "-" for the unspecified.
pub(crate) fn short_name(name: &'static str, shared: &str) -> &'static str {
    match name.strip_prefix(shared).unwrap_or(name) {
        "UNSPECIFIED" => NONE,
        short => short,
    }
}

/// "-" for an empty text.
pub(crate) fn or_none(text: &str) -> String {
    if text.is_empty() { NONE.to_owned() } else { text.to_owned() }
}

/// A time limit as it is typed: "30s", "500ms", "2m", "1h 30m"; from 1 ms to 7 days.
pub(crate) fn parse_timeout(text: &str) -> Result<Duration, String> {
    let hint = "write a duration from 1ms to 7d, such as 30s or 2m";
    let length: jiff::SignedDuration = text.trim().parse().or_else(|_| {
        // Days have no fixed length in calendars, but everybody types them.
        let days = text.trim().strip_suffix('d').and_then(|days| days.parse::<u16>().ok());
        let hours = days.map(|days| jiff::SignedDuration::from_hours(i64::from(days) * 24));
        hours.ok_or_else(|| hint.to_owned())
    })?;
    match Duration::try_from(length) {
        Ok(length)
            if length >= Duration::from_millis(1)
                && length <= Duration::from_secs(7 * 24 * 3600) =>
        {
            Ok(length)
        }
        _ => Err(hint.to_owned()),
    }
}

/// An instant as it is typed: RFC 3339, or a date or date and time in UTC.
pub(crate) fn parse_instant(text: &str) -> Result<Timestamp, String> {
    let hint = "write an instant such as 2024-01-31T03:00:00Z, or a date in UTC such as 2024-01-31";
    let text = text.trim();
    text.parse::<Timestamp>()
        // A date alone parses as its midnight.
        .or_else(|_| text.parse::<DateTime>().and_then(|at| TimeZone::UTC.to_timestamp(at)))
        .map_err(|_| hint.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_counts_and_durations_read_well() {
        for (number, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.0 kB"),
            (999_949, "999.9 kB"),
            (999_950, "1.0 MB"),
            (10_000_000, "10.0 MB"),
            (u64::MAX, "18.4 EB"),
        ] {
            assert_eq!(bytes(number), text);
        }
        assert_eq!(
            [count(0), count(999), count(1_000), count(1_234_567)],
            ["0", "999", "1,000", "1,234,567"]
        );
        for (part, text) in
            [(1.0, "100 %"), (0.995, "99.50 %"), (0.99499, "99.49 %"), (0.9, "90 %"), (0.0, "0 %")]
        {
            assert_eq!(share(part), text);
        }
        assert_eq!((plural(1, "line"), plural(2, "line")), ("1 line".into(), "2 lines".into()));
        for (millis, text) in [
            (0, "0ms"),
            (999, "999ms"),
            (1_000, "1s"),
            (2_550, "2.5s"),
            (65_000, "1m 5s"),
            (3_600_000, "1h"),
            (86_400_000 * 3 + 3_600_000 * 4, "3d 4h"),
            (86_400_000 * 365, "365d"),
        ] {
            assert_eq!(duration(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn latencies_are_fine_and_statements_short() {
        let of = |nanos: i64| {
            let (seconds, nanos) = (nanos / 1_000_000_000, (nanos % 1_000_000_000) as i32);
            latency(Some(&prost_types::Duration { seconds, nanos }))
        };
        for (nanos, text) in [
            (0, "0.00ms"),
            (420_000, "0.42ms"),
            (9_994_000, "9.99ms"),
            (9_996_000, "10.0ms"),
            (999_960_000, "999ms"),
            (1_500_000_000, "1.5s"),
        ] {
            assert_eq!(of(nanos), text);
        }
        assert_eq!(latency(None), "-");
        assert_eq!(excerpt("SELECT 1\n  FROM\tx", 20), "SELECT 1 FROM x");
        assert_eq!(excerpt("SELECT äöü FROM x", 12), "SELECT äöü…");
        assert_eq!(excerpt("SELECT", 6), "SELECT");
    }

    #[test]
    fn latencies_have_four_digits_in_any_unit() {
        for (length, text) in [
            (0.0, "0s"),
            (1.5e-9, "1.500ns"),
            (820e-9, "820.0ns"),
            (999.96e-9, "1.000us"),
            (12.345_6e-3, "12.35ms"),
            (0.009_999_6, "10.00ms"),
            (0.25, "250.0ms"),
            (0.999_96, "1.000s"),
            (1.25, "1.250s"),
            (86_400.0, "86400s"),
        ] {
            assert_eq!(seconds(length), text);
        }
        assert_eq!([0.5, 0.95, 0.99, 0.999].map(quantile), ["p50", "p95", "p99", "p99.9"]);
    }

    #[test]
    fn lifts_probabilities_and_figures_have_the_digits_that_say_something() {
        assert_eq!([0.12, -0.1, 1e7].map(lift), ["+12.00 %", "-10.00 %", "+1.00e9 %"]);
        for (p, text) in [
            (0.0, "0"),
            (1.0, "1.0000"),
            (0.049_96, "0.0500"),
            (0.001, "0.0010"),
            (0.000_94, "9.4e-4"),
            (1.2e-250, "1.2e-250"),
        ] {
            assert_eq!(p_value(p), text);
        }
        for (number, text) in [
            (0.0, "0"),
            (12.345_678, "12.346"),
            (-0.5, "-0.50000"),
            (9.999_96, "10.000"),
            (123_456.7, "123457"),
            (1.5e-7, "1.5000e-7"),
            (-2e12, "-2.0000e12"),
            (f64::INFINITY, "inf"),
        ] {
            assert_eq!(figure(number), text);
        }
    }

    #[test]
    fn times_are_rfc_3339_in_utc() {
        let at = |seconds, nanos| prost_types::Timestamp { seconds, nanos };
        assert_eq!(time(None), "-");
        assert_eq!(time(Some(&at(0, 0))), "1970-01-01T00:00:00Z");
        assert_eq!(time(Some(&at(1, 7_000_000))), "1970-01-01T00:00:01.007Z");
        assert_eq!(time(Some(&at(i64::MAX, 0))), "out of range");
        assert_eq!(between(Some(&at(0, 0)), Some(&at(65, 0))), "1m 5s");
        assert_eq!(between(Some(&at(65, 0)), Some(&at(0, 0))), "-");
    }

    #[test]
    fn timeouts_and_instants_are_parsed() {
        assert_eq!(parse_timeout("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(parse_timeout("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_timeout("1d"), Ok(Duration::from_secs(86400)));
        for text in ["", "0s", "-1s", "8d", "soon", "30", "9999999999h"] {
            assert!(parse_timeout(text).is_err(), "{text:?}");
        }
        for (text, at) in [
            ("2024-01-31", "2024-01-31T00:00:00Z"),
            ("2024-01-31T03:00", "2024-01-31T03:00:00Z"),
            ("2024-01-31T03:00:00+01:00", "2024-01-31T02:00:00Z"),
        ] {
            assert_eq!(parse_instant(text).unwrap().to_string(), at);
        }
        assert!(parse_instant("tomorrow").is_err());
    }
}
