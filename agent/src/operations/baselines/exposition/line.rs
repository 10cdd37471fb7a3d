//! A line, taken apart.

use std::borrow::Cow;

use super::{Dialect, LONGEST_NAME, LONGEST_VALUE, MOST_LABELS};

/// What a line is.
pub(super) enum Line<'a> {
    /// Empty, or a comment.
    Nothing,
    /// The mark of the end.
    End,
    /// What is said of a family.
    Help(&'a str, Cow<'a, str>),
    /// The type of a family.
    Kind(&'a str, &'a str),
    /// The unit of a family.
    Unit(&'a str, &'a str),
    /// A value.
    Sample {
        name: &'a str,
        labels: Vec<(&'a str, Cow<'a, str>)>,
        value: f64,
        timestamp: Option<i64>,
    },
}

/// Times are within so many milliseconds of 1970, some 280,000 years: exact as floats.
const FURTHEST: f64 = 9_007_199_254_740_992.0;

pub(super) fn read(line: &str, dialect: Dialect) -> Result<Line<'_>, &'static str> {
    let line = trim(line);
    match line.strip_prefix('#') {
        Some(comment) => described(comment),
        None if line.is_empty() => Ok(Line::Nothing),
        None => sample(line, dialect),
    }
}

fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

/// The next word, and what comes after it.
fn word(text: &str) -> (&str, &str) {
    let text = trim(text);
    let end = text.find([' ', '\t']).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    (word, trim(rest))
}

fn described(comment: &str) -> Result<Line<'_>, &'static str> {
    let (what, rest) = word(comment);
    if what == "EOF" && rest.is_empty() {
        return Ok(Line::End);
    }
    if !matches!(what, "HELP" | "TYPE" | "UNIT") {
        return Ok(Line::Nothing);
    }
    let (name, rest) = word(rest);
    if !matches!(split_name(name, true), Ok((_, ""))) {
        return Err("it has no name");
    }
    if rest.len() > LONGEST_VALUE {
        return Err("it is too long");
    }
    Ok(match what {
        "HELP" => Line::Help(name, unescaped(rest)),
        "TYPE" => Line::Kind(name, rest),
        _ => Line::Unit(name, rest),
    })
}

fn sample(line: &str, dialect: Dialect) -> Result<Line<'_>, &'static str> {
    let (name, rest) = split_name(line, true)?;
    let mut labels = Vec::new();
    let rest = match trim(rest).strip_prefix('{') {
        Some(inner) => read_labels(inner, &mut labels)?,
        None if rest.starts_with([' ', '\t']) => rest,
        None => return Err("its name is followed by something else than a value"),
    };
    let (value, rest) = word(rest);
    let value: f64 = value.parse().map_err(|_| "its value is no number")?;
    let (time, rest) = if rest.starts_with('#') { ("", rest) } else { word(rest) };
    // What comes after a sharp is an exemplar.
    if !(rest.is_empty() || rest.starts_with('#')) {
        return Err("there is more than a value and a time");
    }
    let timestamp = if time.is_empty() { None } else { Some(milliseconds(time, dialect)?) };
    Ok(Line::Sample { name, labels, value, timestamp })
}

fn milliseconds(time: &str, dialect: Dialect) -> Result<i64, &'static str> {
    const WHY: &str = "its time is none";
    if dialect == Dialect::Prometheus {
        return time.parse().map_err(|_| WHY);
    }
    let seconds: f64 = time.parse().map_err(|_| WHY)?;
    let milliseconds = (seconds * 1e3).round();
    if milliseconds.abs() < FURTHEST { Ok(milliseconds as i64) } else { Err(WHY) }
}

/// The name that a text begins with, and the rest.
fn split_name(text: &str, colons: bool) -> Result<(&str, &str), &'static str> {
    let ok = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || (colons && byte == b':');
    let end = text.bytes().position(|byte| !ok(byte)).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    if name.is_empty() || name.starts_with(|first: char| first.is_ascii_digit()) {
        return Err("it has no name");
    }
    if name.len() > LONGEST_NAME {
        return Err("a name is too long");
    }
    Ok((name, rest))
}

/// The labels from behind the opening brace, and what follows the closing one.
fn read_labels<'a>(
    mut rest: &'a str,
    labels: &mut Vec<(&'a str, Cow<'a, str>)>,
) -> Result<&'a str, &'static str> {
    loop {
        rest = trim(rest);
        if let Some(rest) = rest.strip_prefix('}') {
            return Ok(rest);
        }
        let (name, after) = split_name(rest, false).map_err(|_| "a label has no name")?;
        let after = trim(after).strip_prefix('=').ok_or("a label has no value")?;
        let after = trim(after).strip_prefix('"').ok_or("a label's value is not quoted")?;
        let end = closing_quote(after).ok_or("a label's value does not end")?;
        if end > LONGEST_VALUE {
            return Err("a label's value is too long");
        }
        if labels.len() == MOST_LABELS {
            return Err("there are too many labels");
        }
        if labels.iter().any(|(other, _)| *other == name) {
            return Err("a label is there twice");
        }
        labels.push((name, unescaped(&after[..end])));
        rest = trim(&after[end + 1..]);
        match rest.strip_prefix(',') {
            Some(next) => rest = next,
            None if rest.starts_with('}') => {}
            None => return Err("two labels are not told apart"),
        }
    }
}

/// Where the first quote is that is not escaped.
fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|byte| {
        let closes = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    })
}

/// The text without its escapes. One that there is not stands for itself, as Prometheus has it.
fn unescaped(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(next) = chars.next() {
        if next != '\\' {
            plain.push(next);
            continue;
        }
        match chars.next() {
            Some('n') => plain.push('\n'),
            Some(same @ ('\\' | '"')) => plain.push(same),
            Some(other) => plain.extend(['\\', other]),
            None => plain.push('\\'),
        }
    }
    Cow::Owned(plain)
}
