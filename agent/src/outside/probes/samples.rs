//! The text format of metrics, as Prometheus and OpenMetrics have it: so much of it as finds samples by name and labels.

use std::borrow::Cow;

/// Which samples.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Selector<'a> {
    series: Series<'a>,
}

impl<'a> Selector<'a> {
    /// Parses `name` or `name{label="value",...}`; a name of unusual letters is `{"name",label="value",...}`.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(super) fn parse(text: &'a str) -> Result<Self, String> {
        let found = series(text.trim()).filter(|(_, rest)| rest.is_empty());
        match found {
            Some((series, _)) => Ok(Self { series }),
            None => Err(format!("{text:?} is neither a metric's name nor name{{label=\"value\"}}")),
        }
    }

    /// Whether a sample has this name and all of these labels; one it does not have is empty.
    fn takes(&self, sample: &Series<'_>) -> bool {
        let value = |label: &str| sample.labels.iter().find(|(name, _)| name == label);
        self.series.name == sample.name
            && self.series.labels.iter().all(|(label, wanted)| match value(label) {
                Some((_, value)) => value == wanted,
                None => wanted.is_empty(),
            })
    }
}

/// The sum of the samples that `selector` takes, and how many they are.
///
/// # Errors
/// That there is none, or that one has no value, in words.
pub(super) fn sum(text: &str, selector: &Selector<'_>) -> Result<(f64, usize), String> {
    let (mut total, mut count) = (0.0, 0);
    for line in text.lines().map(str::trim_start) {
        // The many others are not worth a closer look.
        if !line.starts_with('{') && !line.starts_with(&*selector.series.name) {
            continue;
        }
        let Some((sample, rest)) = series(line) else { continue };
        if !selector.takes(&sample) {
            continue;
        }
        // Behind the value there may be a time-stamp and an exemplar.
        let value = rest.split_ascii_whitespace().next().unwrap_or_default();
        match value.parse::<f64>() {
            Ok(value) if !value.is_nan() => (total, count) = (total + value, count + 1),
            _ => {
                let value: String = value.chars().take(20).collect();
                return Err(format!("a sample has the value {value:?}"));
            }
        }
    }
    match count {
        0 => Err("no sample has this name and these labels".to_owned()),
        _ if total.is_nan() => Err("the samples have no sum".to_owned()),
        count => Ok((total, count)),
    }
}

/// What names a sample.
#[derive(Debug, PartialEq, Eq)]
struct Series<'a> {
    name: Cow<'a, str>,
    labels: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

/// The series that `text` begins with, and what is behind it.
fn series(text: &str) -> Option<(Series<'_>, &str)> {
    let (bare, rest) = word(text);
    let mut found = Series { name: Cow::Borrowed(bare), labels: Vec::new() };
    // Without labels a blank or nothing is next.
    let Some(mut rest) = blanks(rest).strip_prefix('{') else {
        let ends = rest.is_empty() || rest.starts_with([' ', '\t']);
        return (!bare.is_empty() && ends).then_some((found, blanks(rest)));
    };
    loop {
        rest = blanks(rest);
        if let Some(rest) = rest.strip_prefix('}') {
            return (!found.name.is_empty()).then_some((found, blanks(rest)));
        }
        let (label, quoted, after) = match string(rest) {
            Some((label, after)) => (label, true, blanks(after)),
            None => {
                let (label, after) = word(rest);
                (Cow::Borrowed(label), false, blanks(after))
            }
        };
        rest = match after.strip_prefix('=') {
            Some(after) if !label.is_empty() => {
                let (value, after) = string(blanks(after))?;
                found.labels.push((label, value));
                blanks(after)
            }
            // A name of unusual letters stands among the labels.
            None if quoted && found.name.is_empty() => {
                found.name = label;
                after
            }
            _ => return None,
        };
        match rest.strip_prefix(',') {
            Some(after) => rest = after,
            None if rest.starts_with('}') => {}
            None => return None,
        }
    }
}

/// `text` without the blanks that it begins with.
fn blanks(text: &str) -> &str {
    text.trim_start_matches([' ', '\t'])
}

/// The name that `text` begins with, perhaps none, and what is behind it. A dot is no letter of a name by the book,
/// but some write it.
fn word(text: &str) -> (&str, &str) {
    let letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '.');
    text.split_at(text.find(|c| !letter(c)).unwrap_or(text.len()))
}

/// The string in quotes that `text` begins with, and what is behind it.
fn string(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let text = text.strip_prefix('"')?;
    let mut end = text.find(['"', '\\'])?;
    if text[end..].starts_with('"') {
        return Some((Cow::Borrowed(&text[..end]), &text[end + 1..]));
    }
    let mut value = String::new();
    let mut rest = text;
    loop {
        value.push_str(&rest[..end]);
        rest = &rest[end..];
        if let Some(rest) = rest.strip_prefix('"') {
            return Some((Cow::Owned(value), rest));
        }
        // A backslash: the end was found to be one of the two.
        let mut behind = rest.chars();
        behind.next();
        match behind.next()? {
            'n' => value.push('\n'),
            escaped @ ('"' | '\\') => value.push(escaped),
            // OpenMetrics lets it stand for itself.
            other => value.extend(['\\', other]),
        }
        rest = behind.as_str();
        end = rest.find(['"', '\\'])?;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn total(text: &str, selector: &str) -> Result<(f64, usize), String> {
        sum(text, &Selector::parse(selector)?)
    }

    const TEXT: &str = r#"# HELP queue_depth Waiting.
# TYPE queue_depth gauge
queue_depth{queue="orders",side="buy"} 3
queue_depth{queue="orders",side="sell",} 4.5 1700000000000
 queue_depth { queue = "fills" , side = "buy" }	1e1
queue_depth{queue="a\"b\\c\nd}",side="x"} 7
queue_depth{queue="\d"} 0.5
queue_depth_total 100
queue 1
up 1
gone NaN
most +Inf
least -Inf
broken{a="b" 1
broken{a="b"}
ticks_total{venue="x"} 17 1520879607.789 # {trace_id="up 9"} 0.67 1520879606
lag_seconds_bucket{le="0.1"} 8 # {trace_id="{"} 0.07
{"my.metric",zone="eu west"} 6
{"my.metric","odd label"="1"} 8
dotted.name 2
# EOF
"#;

    #[test]
    fn samples_are_found_by_name_and_labels_and_summed() {
        for (selector, sum, count) in [
            ("up", 1.0, 1),
            ("queue", 1.0, 1),
            ("queue_depth", 25.0, 5),
            (r#"queue_depth{queue="orders"}"#, 7.5, 2),
            (r#" queue_depth{ side="buy", queue="orders", } "#, 3.0, 1),
            (r#"queue_depth{queue="a\"b\\c\nd}"}"#, 7.0, 1),
            (r#"queue_depth{queue="\\d"}"#, 0.5, 1),
            (r#"queue_depth{side=""}"#, 0.5, 1),
            ("queue_depth{}", 25.0, 5),
            ("ticks_total", 17.0, 1),
            (r#"lag_seconds_bucket{le="0.1"}"#, 8.0, 1),
            (r#"{"my.metric"}"#, 14.0, 2),
            (r#"{"my.metric","odd label"="1"}"#, 8.0, 1),
            ("dotted.name", 2.0, 1),
            ("most", f64::INFINITY, 1),
        ] {
            assert_eq!(total(TEXT, selector), Ok((sum, count)), "{selector}");
        }
    }

    #[test]
    fn what_is_not_there_or_no_number_is_unknown() {
        for (selector, why) in [
            ("down", "no sample"),
            (r#"up{a="b"}"#, "no sample"),
            ("gone", "\"NaN\""),
            (r#"broken{a="b"}"#, "\"\""),
            ("", "neither"),
            ("a b", "neither"),
            ("sum(up)", "neither"),
            ("up{a=b}", "neither"),
            (r#"up{a=~"b"}"#, "neither"),
            (r#"up{a="b""#, "neither"),
            (r#"up{a="b\"#, "neither"),
            (r#"up{="b"}"#, "neither"),
            (r#"up{"a"}"#, "neither"),
            ("{}", "neither"),
            (r#"{"a","b"}"#, "neither"),
        ] {
            let error = total(TEXT, selector).unwrap_err();
            assert!(error.contains(why), "{selector}: {error}");
        }
        assert!(total("x +Inf\nx -Inf", "x").unwrap_err().contains("no sum"));
    }

    fn escaped(value: &str) -> String {
        value.replace('\\', r"\\").replace('"', r#"\""#).replace('\n', r"\n")
    }

    proptest! {
        #[test]
        fn nothing_that_a_server_sends_makes_it_panic(
            text in "(x|y|[{}\"\\\\=, #\t\n01.eE+-]|NaN|\\PC){0,40}",
            selector in "(x|[{}\"\\\\=, #\t01]|\\PC){0,12}",
        ) {
            let _ = total(&text, &selector);
            let _ = total(&text, "x");
        }

        #[test]
        fn what_is_written_by_the_book_is_found(
            values in proptest::collection::vec((any::<String>(), -1_000_i32..1_000), 1..6),
            wanted in any::<prop::sample::Index>(),
        ) {
            let line = |(label, value): &(String, i32)| {
                format!("m{{a=\"b\",label=\"{}\"}} {value}\n", escaped(label))
            };
            let text: String = values.iter().map(line).collect();
            let (wanted, _) = &values[wanted.index(values.len())];
            // An empty label is one that is not asked for, here as in the format.
            let expected: i32 = values
                .iter()
                .filter(|(label, _)| label == wanted)
                .map(|(_, value)| value)
                .sum();
            let found = total(&text, &format!("m{{label=\"{}\"}}", escaped(wanted)));
            prop_assert_eq!(found.map(|(sum, _)| sum), Ok(f64::from(expected)));
        }
    }
}
