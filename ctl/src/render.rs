//! Everything that is printed. Data goes to standard output from here and from nowhere else.
//!
//! Agents repeat what others wrote: log paths, reasons, error texts. None of it may drive the terminal,
//! so control characters are escaped in all text for people, and in JSON beyond what JSON demands.

mod deps;
mod error_json;
mod matrix;
mod printer;
mod screen;
mod text;

use std::error::Error as _;
use std::fmt::Write as _;

use genesis_client::v1::{
    AttemptOutcome, BackupState, BaselineState, CareOutcome, CertificateState, Condition,
    DrillStanding, ExperimentState, Finding, IncidentState, IssueState, RunState, Severity, Truth,
    VenueState,
};
use genesis_client::{Error, Kind, Node, Violation};
use serde::Serialize;
use serde_json::Value;

use self::error_json::JsonError;
use crate::exit::{Exit, Halt};
use crate::{Console, format};

pub(crate) use printer::{Printer, event};
pub(crate) use screen::{page_lines, screen};
pub(crate) use text::{clean, clean_block, json_safe};

/// Why a cell stands out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    Good,
    Warning,
    Bad,
    Unsure,
    /// Of a picture: the colours of what is written and of what is behind it, of the 256 that terminals have.
    Shade(Option<u8>, Option<u8>),
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

    pub(crate) fn venue_state(state: VenueState, name: &str) -> Self {
        let tone = match state {
            VenueState::Flat | VenueState::Cancelled => Tone::Good,
            VenueState::Cancelling | VenueState::Closing => Tone::Warning,
            VenueState::Unproven => Tone::Bad,
            VenueState::Waiting | VenueState::Unspecified => Tone::Unsure,
        };
        Self { tone, ..Self::from(name) }
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

    pub(crate) fn issue_state(state: IssueState) -> Self {
        use IssueState as S;
        let tone = match state {
            S::Resolved => Tone::Good,
            S::Failing | S::Escalated => Tone::Bad,
            S::Suspect | S::Remediating | S::Verifying | S::Cooldown => Tone::Warning,
            S::Unspecified => Tone::Unsure,
        };
        Self { tone, ..Self::from(format::short_name(state.as_str_name(), "ISSUE_STATE_")) }
    }

    pub(crate) fn attempt_outcome(outcome: AttemptOutcome) -> Self {
        use AttemptOutcome as O;
        let tone = match outcome {
            O::Succeeded => Tone::Good,
            O::Failed => Tone::Bad,
            O::Intent | O::Done => Tone::Warning,
            O::Unknown | O::Unspecified => Tone::Unsure,
            O::NotNeeded | O::DryRun => Tone::Plain,
        };
        Self { tone, ..Self::from(format::short_name(outcome.as_str_name(), "ATTEMPT_OUTCOME_")) }
    }

    pub(crate) fn incident_state(state: IncidentState) -> Self {
        let tone = match state {
            IncidentState::Closed => Tone::Good,
            // Somebody has to write down what came of it.
            IncidentState::Over => Tone::Warning,
            IncidentState::Open => Tone::Bad,
            IncidentState::Unspecified => Tone::Unsure,
        };
        Self { tone, ..Self::from(format::short_name(state.as_str_name(), "INCIDENT_STATE_")) }
    }

    pub(crate) fn drill_standing(standing: DrillStanding) -> Self {
        let tone = match standing {
            DrillStanding::Current => Tone::Good,
            DrillStanding::Due => Tone::Warning,
            DrillStanding::Overdue => Tone::Bad,
            // Nobody waits for it.
            DrillStanding::Unspecified => return Self::from("-"),
            DrillStanding::NotApplicable => return Self::from("N/A"),
        };
        Self { tone, ..Self::from(format::short_name(standing.as_str_name(), "DRILL_STANDING_")) }
    }

    pub(crate) fn severity(severity: Severity) -> Self {
        let tone = match severity {
            Severity::Critical => Tone::Bad,
            Severity::High => Tone::Warning,
            Severity::Medium | Severity::Low | Severity::Unspecified => Tone::Plain,
        };
        Self { tone, ..Self::from(format::severity(severity)) }
    }

    /// What was measured of an item; one that does not count this time is no more than a warning.
    pub(crate) fn truth(truth: Truth, overridden: bool) -> Self {
        let (text, passes) = (format::truth(truth), truth == Truth::Pass);
        if overridden && !passes {
            return Self { tone: Tone::Warning, ..Self::from(format!("{text}, overridden")) };
        }
        let tone = match truth {
            Truth::Pass => Tone::Good,
            Truth::Fail => Tone::Bad,
            Truth::Unknown | Truth::Unspecified => Tone::Unsure,
        };
        Self { tone, ..Self::from(text) }
    }

    pub(crate) fn care_outcome(outcome: CareOutcome) -> Self {
        use CareOutcome as O;
        let tone = match outcome {
            O::Done => Tone::Good,
            O::Failed => Tone::Bad,
            O::Degraded | O::Blocked => Tone::Warning,
            O::Interrupted => Tone::Unsure,
            O::Running | O::Unspecified => Tone::Plain,
        };
        Self { tone, ..Self::from(format::short_name(outcome.as_str_name(), "CARE_OUTCOME_")) }
    }

    pub(crate) fn backup_state(state: BackupState) -> Self {
        use BackupState as S;
        let tone = match state {
            S::Complete => Tone::Good,
            S::Failed | S::Broken => Tone::Bad,
            S::Unspecified => Tone::Unsure,
            S::Running | S::Expired => Tone::Plain,
        };
        Self { tone, ..Self::from(format::short_name(state.as_str_name(), "BACKUP_STATE_")) }
    }

    pub(crate) fn baseline_state(state: BaselineState) -> Self {
        use BaselineState as S;
        let tone = match state {
            S::Usual => Tone::Good,
            S::Degraded => Tone::Bad,
            S::Silent | S::Unspecified => Tone::Unsure,
            S::Learning => Tone::Plain,
        };
        Self { tone, ..Self::from(format::short_name(state.as_str_name(), "BASELINE_STATE_")) }
    }

    pub(crate) fn certificate_state(state: CertificateState) -> Self {
        use CertificateState as S;
        let tone = match state {
            S::Proven => Tone::Good,
            S::Absent | S::DegradedSelfSigned => Tone::Bad,
            S::Backoff => Tone::Warning,
            S::Unspecified => Tone::Unsure,
            S::Ordering | S::Staged | S::Deployed | S::Due => Tone::Plain,
        };
        Self { tone, ..Self::from(format::short_name(state.as_str_name(), "CERTIFICATE_STATE_")) }
    }

    pub(crate) fn experiment_state(state: ExperimentState) -> Self {
        use ExperimentState as S;
        let tone = match state {
            S::Promoted => Tone::Good,
            S::Held | S::RolledBack => Tone::Bad,
            S::Unspecified => Tone::Unsure,
            S::Running | S::Extended | S::NoDifference | S::BelowThreshold => Tone::Plain,
        };
        Self { tone, ..Self::from(format::short_name(state.as_str_name(), "EXPERIMENT_STATE_")) }
    }

    /// One that says something bad, or else something good.
    pub(crate) fn alert(text: impl Into<String>, bad: bool) -> Self {
        let tone = if bad { Tone::Bad } else { Tone::Good };
        Self { tone, ..Self::from(text.into()) }
    }

    fn failure(error: &Error) -> Self {
        Self { tone: Tone::Bad, ..Self::from(format!("({})", failed(error))) }
    }
}

/// How a call failed, in a word or two.
pub(crate) fn failed(error: &Error) -> &'static str {
    match error.kind {
        _ if error.reason == "NOT_SENT" => "not sent",
        Kind::Unreachable => "unreachable",
        Kind::Unavailable => "unavailable",
        Kind::Unauthenticated | Kind::NotAllowed => "not allowed",
        Kind::Refused => "refused",
        Kind::NotFound => "not found",
        Kind::Conflict => "conflict",
        Kind::Invalid => "invalid",
        Kind::Incomplete => "unknown",
        Kind::Internal => "failed",
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

/// An answer for people: lines, a table, lines, parts with tables of their own, and a text as it is.
#[derive(Debug, Clone, Default)]
pub(crate) struct View {
    pub(crate) lead: Vec<String>,
    pub(crate) columns: &'static [&'static str],
    pub(crate) rows: Vec<Vec<Cell>>,
    pub(crate) tail: Vec<String>,
    pub(crate) parts: Vec<Part>,
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

/// A part of an answer: a title, a table, lines. Rows without columns are a picture: their cells touch.
#[derive(Debug, Clone, Default)]
pub(crate) struct Part {
    pub(crate) title: String,
    pub(crate) columns: &'static [&'static str],
    pub(crate) rows: Vec<Vec<Cell>>,
    pub(crate) lines: Vec<String>,
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
    /// It is no node's, but made of those of all.
    pub(crate) merged: bool,
}

impl Answer {
    pub(crate) fn new(json: Value, view: View) -> Self {
        Self { json, view, exit: Exit::Ok, error: None, printed: false, merged: false }
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
        if let Ok(Answer { json, merged: true, .. }) = &self.result {
            return Envelope::Merged { merged: json };
        }
        let response = self.result.as_ref().ok().map(|answer| &answer.json);
        let error = self.error().map(JsonError::from);
        Envelope::Node { node: &self.node, ok: error.is_none(), error, response }
    }
}

#[derive(Serialize)]
#[serde(untagged)]
enum Envelope<'a> {
    Node { node: &'a str, ok: bool, error: Option<JsonError<'a>>, response: Option<&'a Value> },
    Merged { merged: &'a Value },
}

/// A finding in one line.
pub(crate) fn finding(finding: &Finding) -> String {
    match finding.subject.as_str() {
        "" => format!("{}: {}", finding.code, finding.message),
        subject => format!("{} {subject}: {}", finding.code, finding.message),
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

/// The bytes of a file, as they are. Never to a terminal: whoever calls it has looked.
pub(crate) fn file(console: &mut Console, data: &[u8]) -> Result<(), Halt> {
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
    // A single condition is often all that the message says.
    let more = error.violations.iter().filter(|violation| violation.message != error.message);
    for Violation { code, subject, message } in more {
        let subject = if subject.is_empty() { String::new() } else { format!("{subject}: ") };
        let code = if code.is_empty() { String::new() } else { format!(" ({code})") };
        lines.push(format!("  - {subject}{message}{code}"));
    }
    if lines.is_empty() {
        let _ = write!(text, ": {}", error.next);
    } else {
        lines.push(format!("  next: {}", error.next));
    }
    // Of a defect it is what whoever looks for it needs.
    if let Some(trace) = error.trace_id.as_deref().filter(|_| verbose || error.code == "INTERNAL") {
        lines.push(format!("  trace: {trace}"));
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
