//! What lines of CSV and JSON have in common, whatever they say.

use std::borrow::Cow;

use jiff::Timestamp;
use serde_json::value::RawValue;

use crate::format::excerpt;

/// So much of what is wrong is repeated.
pub(crate) const SHOWN: usize = 40;

/// Where in the header `names` stands `name`.
pub(crate) fn place(names: &[Cow<'_, str>], name: &str) -> Result<Option<usize>, String> {
    let mut found = names.iter().enumerate().filter(|(_, one)| *one == name);
    match (found.next(), found.next()) {
        (Some(_), Some(_)) => Err(format!("it names {name} twice")),
        (first, _) => Ok(first.map(|(index, _)| index)),
    }
}

/// Takes the field at `index` out of the line.
pub(crate) fn take<'a>(
    found: &mut [Cow<'a, str>],
    index: usize,
    name: &str,
) -> Result<Cow<'a, str>, String> {
    match found.get_mut(index) {
        Some(field) => Ok(std::mem::take(field)),
        None => Err(format!("it ends before the column {name}")),
    }
}

/// The object that a line of JSON is.
pub(crate) fn object<'a, T: serde::Deserialize<'a>>(line: &'a str) -> Result<T, String> {
    serde_json::from_str(line).map_err(|error| {
        let error = error.to_string();
        // It is one line, as far as the parser knows.
        format!(
            "no JSON object as is wanted: {}",
            error.split(" at line ").next().unwrap_or_default()
        )
    })
}

/// The fields of a line of CSV, without the space around them. One in quotes may hold commas and doubled quotes, but no
/// line end.
pub(crate) fn fields(line: &str) -> Result<Vec<Cow<'_, str>>, String> {
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

/// A number as it is written, a string without its quotes.
pub(crate) fn bare(value: &RawValue) -> Cow<'_, str> {
    let text = value.get();
    match serde_json::from_str(text) {
        Ok(string) if text.starts_with('"') => Cow::<str>::Owned(string),
        _ => Cow::Borrowed(text),
    }
}

/// RFC 3339, or seconds since 1970 to the nanosecond: exactly, since a float has no room for both.
pub(crate) fn unix_nanos(text: &str) -> Result<i64, String> {
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

    proptest! {
        #[test]
        fn quoting_keeps_fields(texts in proptest::collection::vec("[a-z,\" ]{0,8}", 1..5)) {
            let quoted: Vec<_> = texts.iter().map(|one| format!("\"{}\"", one.replace('"', "\"\""))).collect();
            let line = quoted.join(",");
            prop_assert_eq!(fields(&line).unwrap(), texts);
        }
    }
}
