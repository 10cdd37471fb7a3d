//! Just enough of Prometheus' language to see what an expression asks for.

/// Words that may stand where a metric may.
const WORDS: [&str; 27] = [
    "and",
    "or",
    "unless",
    "bool",
    "offset",
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "group_right",
    "sum",
    "min",
    "max",
    "avg",
    "count",
    "stddev",
    "stdvar",
    "topk",
    "bottomk",
    "quantile",
    "count_values",
    "group",
    "inf",
    "nan",
    "atan2",
    "start",
];
/// Those behind which labels stand in parentheses.
const OF_LABELS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];

/// What an expression selects, in its order: each metric with its matchers, without times.
///
/// # Panics
/// When a parenthesis, a brace or a quote is not closed.
pub fn selectors(expression: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = expression;
    while let Some(first) = rest.chars().next() {
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
        if first == '"' || first == '[' {
            rest = &rest[closed(rest)..];
        } else if first.is_ascii_digit() {
            // A number, or a time such as 5m.
            rest = rest.trim_start_matches(|c: char| is_word(c) || c == '.');
        } else if is_word(first) {
            let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            let word = &rest[..end];
            rest = rest[end..].trim_start();
            if OF_LABELS.contains(&word) && rest.starts_with('(') {
                rest = &rest[closed(rest)..];
            } else if rest.starts_with('{') {
                let end = closed(rest);
                found.push(format!("{word}{}", &rest[..end]));
                rest = &rest[end..];
            } else if !rest.starts_with('(') && !WORDS.contains(&word) {
                found.push(word.to_owned());
            }
        } else {
            rest = &rest[first.len_utf8()..];
        }
    }
    found
}

/// Where what `text` begins with is closed: a string, a brace, a bracket or a parenthesis.
fn closed(text: &str) -> usize {
    let mut quoted = false;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' if at == 0 => quoted = true,
            '"' if text.starts_with('"') => return at + 1,
            '"' => quoted = !quoted,
            '}' | ']' | ')' if !quoted => return at + 1,
            _ => {}
        }
    }
    panic!("{text:?} is not closed");
}

/// The name of the metric of a selector.
pub fn name(selector: &str) -> &str {
    selector.split('{').next().unwrap_or(selector)
}
