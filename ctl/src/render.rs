//! Everything that is printed. Data goes to standard output from here and from nowhere else.
//!
//! Agents repeat what others wrote: log paths, reasons, error texts. None of it may drive the terminal,
//! so control characters are escaped in all text for people, and in JSON beyond what JSON demands.

use std::borrow::Cow;
use std::error::Error as _;
use std::fmt::Write as _;

use comfy_table::{CellAlignment, Color, Table, presets};
use genesis_client::v1::{Condition, Finding, RunState};
use genesis_client::{Error, Kind, Node, Violation};
use serde::Serialize;
use serde_json::Value;

use crate::exit::{Exit, Halt};
use crate::{Console, format};

/// Why a cell stands out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tone {
    Plain,
    Good,
    Warning,
    Bad,
    Unsure,
}

/// One cell of a table.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    text: String,
    tone: Tone,
    right: bool,
}

impl Cell {
    /// A right-aligned one.
    pub(crate) fn number(text: impl Into<String>) -> Self {
        Self { right: true, ..Self::from(text.into()) }
    }

    pub(crate) fn condition(condition: Condition) -> Self {
        let tone = match condition {
            Condition::Ok => Tone::Good,
            Condition::Warn => Tone::Warning,
            Condition::Critical => Tone::Bad,
            Condition::Unknown | Condition::Unspecified => Tone::Unsure,
        };
        Self { tone, ..Self::from(format::condition(condition)) }
    }

    pub(crate) fn run_state(state: RunState) -> Self {
        let tone = match state {
            RunState::Succeeded => Tone::Good,
            RunState::Failed | RunState::Refused => Tone::Bad,
            RunState::Cancelled => Tone::Warning,
            RunState::Interrupted | RunState::Unknown => Tone::Unsure,
            RunState::Running | RunState::Unspecified => Tone::Plain,
        };
        Self { tone, ..Self::from(format::run_state(state)) }
    }

    fn failure(error: &Error) -> Self {
        let what = match error.kind {
            Kind::Unreachable => "unreachable",
            Kind::Unavailable => "unavailable",
            Kind::Unauthenticated | Kind::NotAllowed => "not allowed",
            Kind::Refused => "refused",
            Kind::NotFound => "not found",
            Kind::Conflict => "conflict",
            Kind::Invalid => "invalid",
            Kind::Incomplete => "unknown",
            Kind::Internal => "failed",
        };
        Self { tone: Tone::Bad, ..Self::from(format!("({what})")) }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::from(text.to_owned())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self { text, tone: Tone::Plain, right: false }
    }
}

/// An answer for people: lines, a table, lines, and a text as it is.
#[derive(Debug, Clone, Default)]
pub(crate) struct View {
    pub(crate) lead: Vec<String>,
    pub(crate) columns: &'static [&'static str],
    pub(crate) rows: Vec<Vec<Cell>>,
    pub(crate) tail: Vec<String>,
    pub(crate) text: String,
    /// Said on standard error where there are no rows.
    pub(crate) empty: &'static str,
}

impl View {
    /// Only one line.
    pub(crate) fn line(line: impl Into<String>) -> Self {
        Self { lead: vec![line.into()], ..Self::default() }
    }
}

/// What one node answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) json: Value,
    pub(crate) view: View,
    pub(crate) exit: Exit,
    /// Set where the call was answered and yet did not do what was asked: a run that failed, lines that
    /// are missing.
    pub(crate) error: Option<Error>,
    /// All of it was printed while it came.
    pub(crate) printed: bool,
}

impl Answer {
    pub(crate) fn new(json: Value, view: View) -> Self {
        Self { json, view, exit: Exit::Ok, error: None, printed: false }
    }

    pub(crate) fn exit(self, exit: Exit) -> Self {
        Self { exit, ..self }
    }

    pub(crate) fn error(self, error: Error) -> Self {
        Self { error: Some(error), ..self }
    }
}

/// A node's row.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) node: String,
    pub(crate) result: Result<Answer, Error>,
}

impl Row {
    pub(crate) fn exit(&self) -> Exit {
        match &self.result {
            Ok(answer) => answer.exit,
            Err(error) => Exit::of_error(error),
        }
    }

    pub(crate) fn error(&self) -> Option<&Error> {
        match &self.result {
            Ok(answer) => answer.error.as_ref(),
            Err(error) => Some(error),
        }
    }

    fn envelope(&self) -> Envelope<'_> {
        let response = self.result.as_ref().ok().map(|answer| &answer.json);
        let error = self.error().map(JsonError::from);
        Envelope { node: &self.node, ok: error.is_none(), error, response }
    }
}

#[derive(Serialize)]
struct Envelope<'a> {
    node: &'a str,
    ok: bool,
    error: Option<JsonError<'a>>,
    response: Option<&'a Value>,
}

#[derive(Serialize)]
struct JsonError<'a> {
    code: &'a str,
    reason: &'a str,
    message: &'a str,
    details: Vec<JsonDetail<'a>>,
    next: &'a str,
}

#[derive(Serialize)]
struct JsonDetail<'a> {
    code: &'a str,
    subject: &'a str,
    message: &'a str,
}

impl<'a> From<&'a Error> for JsonError<'a> {
    fn from(error: &'a Error) -> Self {
        let detail = |violation: &'a Violation| JsonDetail {
            code: &violation.code,
            subject: &violation.subject,
            message: &violation.message,
        };
        Self {
            code: error.code,
            reason: &error.reason,
            message: &error.message,
            details: error.violations.iter().map(detail).collect(),
            next: &error.next,
        }
    }
}

/// A finding in one line.
pub(crate) fn finding(finding: &Finding) -> String {
    match finding.subject.as_str() {
        "" => format!("{}: {}", finding.code, finding.message),
        subject => format!("{} {subject}: {}", finding.code, finding.message),
    }
}

/// All rows as one JSON array.
pub(crate) fn json_array(console: &mut Console, rows: &[Row]) -> Result<(), Halt> {
    let envelopes: Vec<_> = rows.iter().map(Row::envelope).collect();
    let text = serde_json::to_string_pretty(&envelopes).map_err(|error| unprintable(&error))?;
    print(console, &format!("{}\n", json_safe(&text)))
}

/// One row as a line of JSON, at once.
pub(crate) fn json_line(console: &mut Console, row: &Row) -> Result<(), Halt> {
    let text = serde_json::to_string(&row.envelope()).map_err(|error| unprintable(&error))?;
    print(console, &format!("{}\n", json_safe(&text)))?;
    flush(console)
}

/// All rows as text for people. `many`: tell the nodes apart.
pub(crate) fn table(console: &mut Console, rows: &[Row], many: bool) -> Result<(), Halt> {
    let answers = || rows.iter().filter_map(|row| Some((row, row.result.as_ref().ok()?)));
    let line = |node: &str, line: &str| match many {
        true => format!("{}: {}\n", clean(node), clean(line)),
        false => format!("{}\n", clean(line)),
    };
    let mut text = String::new();
    for (row, answer) in answers() {
        text.extend(answer.view.lead.iter().map(|lead| line(&row.node, lead)));
    }
    let columns = answers().map(|(_, answer)| answer.view.columns).find(|c| !c.is_empty());
    let failed = rows.iter().any(|row| row.result.is_err());
    if answers().any(|(_, answer)| !answer.view.rows.is_empty()) || (many && failed) {
        text.push_str(&grid(console, rows, many, columns.unwrap_or(&["STATE"])));
    }
    for (row, answer) in answers() {
        text.extend(answer.view.tail.iter().map(|tail| line(&row.node, tail)));
        if !answer.view.text.is_empty() {
            if many {
                let _ = writeln!(text, "==> {} <==", clean(&row.node));
            }
            let _ = writeln!(text, "{}", clean_block(answer.view.text.trim_end_matches('\n')));
        }
    }
    print(console, &text)
}

fn grid(console: &Console, rows: &[Row], many: bool, columns: &[&str]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let colour = console.colour();
    if colour {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    let node = |text: &str| many.then(|| Cell::from(text));
    let header = node("NODE").into_iter().chain(columns.iter().map(|name| Cell::from(*name)));
    table.set_header(header.map(|cell| paint(&cell, colour)));
    for row in rows {
        let lines = match &row.result {
            Ok(answer) => answer.view.rows.clone(),
            Err(error) if many => vec![vec![Cell::failure(error)]],
            Err(_) => Vec::new(),
        };
        for cells in lines {
            let cells = node(&row.node).into_iter().chain(cells);
            table.add_row(cells.map(|cell| paint(&cell, colour)).collect::<Vec<_>>());
        }
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.lines().fold(String::new(), |mut text, line| {
        text.push_str(line.trim_end());
        text.push('\n');
        text
    })
}

fn paint(cell: &Cell, colour: bool) -> comfy_table::Cell {
    let mut painted = comfy_table::Cell::new(clean(&cell.text));
    if cell.right {
        painted = painted.set_alignment(CellAlignment::Right);
    }
    match cell.tone {
        Tone::Good if colour => painted.fg(Color::Green),
        Tone::Warning if colour => painted.fg(Color::Yellow),
        Tone::Bad if colour => painted.fg(Color::Red),
        Tone::Unsure if colour => painted.fg(Color::Magenta),
        _ => painted,
    }
}

/// One line for people, at once.
pub(crate) fn live_line(console: &mut Console, line: &str) -> Result<(), Halt> {
    print(console, &format!("{}\n", clean(line)))?;
    flush(console)
}

/// Log lines: byte for byte, except on a terminal, which they must not drive.
pub(crate) fn log_lines(console: &mut Console, data: &[u8]) -> Result<(), Halt> {
    if console.stdout_terminal {
        let text = String::from_utf8_lossy(data);
        return print(console, &clean_block(&text));
    }
    console.stdout.write_all(data).map_err(|error| Halt::output(&error))
}

/// A line of JSON of our own making (an exported oplog entry).
pub(crate) fn export_line(console: &mut Console, json: &str) -> Result<(), Halt> {
    print(console, json)
}

/// Help that was asked for.
pub(crate) fn help(console: &mut Console, text: &str) -> Result<(), Halt> {
    print(console, text)?;
    flush(console)
}

/// Hands everything printed so far to the reader.
pub(crate) fn flush(console: &mut Console) -> Result<(), Halt> {
    console.stdout.flush().map_err(|error| Halt::output(&error))
}

fn print(console: &mut Console, text: &str) -> Result<(), Halt> {
    console.stdout.write_all(text.as_bytes()).map_err(|error| Halt::output(&error))
}

/// A failed call, with what to do next. `verbose`: with what caused it.
pub(crate) fn failure(console: &mut Console, node: Option<&Node>, error: &Error, verbose: bool) {
    let mut text = String::from("error");
    if !error.reason.is_empty() {
        let _ = write!(text, "[{}]", error.reason);
    }
    text.push_str(": ");
    if let Some(node) = node.map(ToString::to_string).filter(|node| !error.message.contains(node)) {
        let _ = write!(text, "{node}: ");
    }
    text.push_str(&error.message);
    let mut lines = Vec::new();
    for Violation { code, subject, message } in &error.violations {
        let subject = if subject.is_empty() { String::new() } else { format!("{subject}: ") };
        let code = if code.is_empty() { String::new() } else { format!(" ({code})") };
        lines.push(format!("  - {subject}{message}{code}"));
    }
    if lines.is_empty() {
        let _ = write!(text, ": {}", error.next);
    } else {
        lines.push(format!("  next: {}", error.next));
    }
    if verbose {
        lines.push(format!("  gRPC code: {}", error.code));
        let mut cause = error.source();
        // A chain longer than this is a loop.
        for _ in 0..16 {
            let Some(error) = cause else { break };
            let line = format!("  cause: {error}");
            // Wrappers often repeat what they wrap.
            if lines.last() != Some(&line) {
                lines.push(line);
            }
            cause = error.source();
        }
    }
    stderr_line(console, &text);
    for line in lines {
        stderr_line(console, &line);
    }
}

/// An error that is not a node's.
pub(crate) fn error_line(console: &mut Console, message: &str) {
    stderr_block(console, &format!("error: {message}"));
}

/// A note, a warning: one line.
pub(crate) fn stderr_line(console: &mut Console, line: &str) {
    // Where standard error is gone there is nobody left to tell.
    let _ = writeln!(console.stderr, "{}", clean(line));
}

/// Several lines.
pub(crate) fn stderr_block(console: &mut Console, text: &str) {
    let _ = writeln!(console.stderr, "{}", clean_block(text.trim_end_matches('\n')));
}

/// A question, whose answer follows on the same line.
pub(crate) fn prompt(console: &mut Console, question: &str) {
    let _ = write!(console.stderr, "{}", clean(question));
    let _ = console.stderr.flush();
}

fn unprintable(error: &serde_json::Error) -> Halt {
    Halt::Failed(format!("can't write the answer as JSON: {error}: use -o table"))
}

/// Whether a character could make a terminal do anything but show it: control characters (C1 too, which
/// UTF-8 terminals obey), line separators, and those that reorder text.
fn is_hostile(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// `text` in one line that can't drive a terminal.
pub(crate) fn clean(text: &str) -> Cow<'_, str> {
    escaped(text, is_hostile)
}

/// `text` with its line ends and tabs, and nothing else that could drive a terminal.
pub(crate) fn clean_block(text: &str) -> Cow<'_, str> {
    escaped(text, |c| is_hostile(c) && !matches!(c, '\n' | '\t'))
}

fn escaped(text: &str, hostile: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.chars().any(&hostile) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            c if !hostile(c) => safe.push(c),
            '\n' => safe.push_str("\\n"),
            '\r' => safe.push_str("\\r"),
            '\t' => safe.push_str("\\t"),
            c if u32::from(c) < 0x100 => {
                let _ = write!(safe, "\\x{:02x}", u32::from(c));
            }
            c => {
                let _ = write!(safe, "\\u{{{:x}}}", u32::from(c));
            }
        }
    }
    Cow::Owned(safe)
}

/// JSON text with the characters escaped that JSON allows in strings and terminals obey. Outside of
/// strings JSON has none of them, so the value stays the same.
pub(crate) fn json_safe(json: &str) -> String {
    let mut safe = String::with_capacity(json.len());
    for c in json.chars() {
        if is_hostile(c) && c != '\n' {
            let _ = write!(safe, "\\u{:04x}", u32::from(c));
        } else {
            safe.push(c);
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn control_characters_are_shown_not_obeyed() {
        assert_eq!(clean("plain ünïcode 日本"), "plain ünïcode 日本");
        assert_eq!(
            clean("a\u{1b}[2Jb\r\n\tc\u{7f}\u{9b}31m\u{202e}d"),
            "a\\x1b[2Jb\\r\\n\\tc\\x7f\\x9b31m\\u{202e}d"
        );
        assert_eq!(clean_block("a\n\tb\u{7}\r"), "a\n\tb\\x07\\r");
    }

    proptest! {
        #[test]
        fn nothing_hostile_survives_and_json_keeps_its_value(text in any::<String>()) {
            prop_assert!(!clean(&text).chars().any(is_hostile));
            prop_assert!(!clean_block(&text).chars().any(|c| is_hostile(c) && c != '\n' && c != '\t'));
            let value = serde_json::json!({ "x": text });
            let safe = json_safe(&serde_json::to_string_pretty(&value).unwrap());
            prop_assert!(!safe.chars().any(|c| is_hostile(c) && c != '\n'));
            prop_assert_eq!(serde_json::from_str::<Value>(&safe).unwrap(), value);
        }
    }
}
