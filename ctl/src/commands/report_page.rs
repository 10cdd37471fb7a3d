//! The reports, for people and as Markdown.

use std::fmt::Write as _;

use genesis_client::v1::{
    GetOperationsReportResponse, GetRemediationReportResponse, RemediationPattern, ReportCount,
    ReportObjective, ReportOffender, ReportPeriod, Truth,
};

use crate::format;
use crate::markdown::{literal, table};
use crate::render::{Cell, Part, View};

const OBJECTIVES: &[&str] = &["OBJECTIVE", "STATE", "VALUE", "COUNTED", "APART", "NOTE"];
const OFFENDERS: &[&str] = &["OBJECTIVE", "WHAT", "BAD", "OF", "DETAIL"];
const PATTERNS: &[&str] = &[
    "CHECK",
    "ACTION",
    "BAD TIMES",
    "CALLED",
    "TRIED",
    "HELPED",
    "IN VAIN",
    "NOT NEEDED",
    "UNKNOWN",
    "BY HAND",
    "TOOK",
];

fn title(what: &str, hostname: &str, period: Option<&ReportPeriod>) -> String {
    let from = period.and_then(|it| it.from.as_ref());
    let until = period.and_then(|it| it.until.as_ref());
    let (from, until) = (format::time(from), format::time(until));
    format!("{what} of {}, {from} to {until}", format::or_none(hostname))
}

/// What limits the whole report.
fn limits(period: Option<&ReportPeriod>) -> Option<String> {
    let period = period.filter(|period| period.data_missing)?;
    let since = format::time(period.data_from.as_ref());
    Some(format!("what it is made of reaches back to {since} only, not to the beginning"))
}

fn state(objective: &ReportObjective) -> &'static str {
    match objective.state() {
        Truth::Pass => "PASS",
        Truth::Fail => "FAIL",
        Truth::Unknown | Truth::Unspecified => "UNKNOWN",
    }
}

fn counts(counts: &[ReportCount]) -> String {
    let some = counts.iter().filter(|it| it.count > 0);
    let some: Vec<_> = some.map(|it| format!("{} {}", it.count, it.name)).collect();
    format::or_none(&some.join(", "))
}

fn value(objective: &ReportObjective) -> String {
    // Two digits: 99.5 % is what matters.
    objective.value.map_or_else(|| "-".to_owned(), |value| format!("{:.2} %", value * 100.0))
}

fn objective_cells(it: &ReportObjective) -> [String; 6] {
    [
        it.target.clone(),
        state(it).to_owned(),
        value(it),
        format!("{} of {}", it.numerator, it.denominator),
        counts(&it.apart),
        format::or_none(&it.note),
    ]
}

fn offender_cells(objective: &ReportObjective, it: &ReportOffender) -> [String; 5] {
    [
        objective.name.clone(),
        it.name.clone(),
        it.bad.to_string(),
        it.all.to_string(),
        format::or_none(&it.detail),
    ]
}

fn pattern_cells(it: &RemediationPattern) -> [String; 11] {
    [
        it.check.clone(),
        format::or_none(&it.action),
        it.episodes.to_string(),
        it.escalated.to_string(),
        it.attempts.to_string(),
        it.succeeded.to_string(),
        it.failed.to_string(),
        it.not_needed.to_string(),
        it.unknown.to_string(),
        it.by_hand.to_string(),
        it.mean.as_ref().map_or_else(|| "-".to_owned(), |mean| format::proto_duration(Some(mean))),
    ]
}

fn rows<const N: usize>(cells: impl Iterator<Item = [String; N]>) -> Vec<Vec<Cell>> {
    cells.map(|row| row.into_iter().map(Cell::from).collect()).collect()
}

fn offenders<'a>(
    objectives: impl Iterator<Item = &'a ReportObjective> + 'a,
) -> impl Iterator<Item = [String; 5]> + 'a {
    objectives.flat_map(|objective| {
        objective.offenders.iter().map(move |it| offender_cells(objective, it))
    })
}

fn shown(parts: impl IntoIterator<Item = Part>) -> Vec<Part> {
    parts.into_iter().filter(|part| !part.rows.is_empty() || !part.lines.is_empty()).collect()
}

/// The four objectives in a line.
pub(super) fn operations_headline(report: &GetOperationsReportResponse) -> String {
    let states: Vec<_> =
        report.objectives.iter().map(|it| format!("{} {}", it.name, state(it))).collect();
    format!("{}: {}", format::or_none(&report.hostname), states.join(", "))
}

pub(super) fn operations(report: &GetOperationsReportResponse) -> View {
    let period = report.period.as_ref();
    let mut lead = vec![title("operations", &report.hostname, period)];
    lead.extend(limits(period));
    let objectives = Part {
        title: "Objectives".to_owned(),
        columns: OBJECTIVES,
        rows: rows(report.objectives.iter().map(objective_cells)),
        ..Part::default()
    };
    let worst = Part {
        title: "The worst".to_owned(),
        columns: OFFENDERS,
        rows: rows(offenders(report.objectives.iter())),
        ..Part::default()
    };
    View { lead, parts: shown([objectives, worst]), ..View::default() }
}

pub(super) fn operations_markdown(report: &GetOperationsReportResponse) -> String {
    let period = report.period.as_ref();
    let mut page = head("Operations", &report.hostname, period);
    let _ = writeln!(page, "## Objectives\n");
    let columns = ["objective", "state", "value", "counted", "apart", "note"];
    table(&mut page, columns, report.objectives.iter().map(objective_cells));
    let _ = writeln!(page, "\n## The worst\n");
    let columns = ["objective", "what", "bad", "of", "detail"];
    table(&mut page, columns, offenders(report.objectives.iter()));
    page
}

fn head(what: &str, hostname: &str, period: Option<&ReportPeriod>) -> String {
    let mut page = format!("# {}\n\n", literal(&title(what, hostname, period)));
    if let Some(limits) = limits(period) {
        let _ = writeln!(page, "{}.\n", literal(&limits));
    }
    page
}

/// The objective in a line.
pub(super) fn remediation_headline(report: &GetRemediationReportResponse) -> String {
    let state = report.objective.as_ref().map_or("UNKNOWN", state);
    let (patterns, findings) = (report.patterns.len() as u64, report.findings.len() as u64);
    format!(
        "{}: {state}, {}, {}",
        format::or_none(&report.hostname),
        format::plural(patterns, "pattern"),
        format::plural(findings, "finding")
    )
}

fn incident_lines(report: &GetRemediationReportResponse) -> Vec<String> {
    let mut lines = Vec::new();
    if !report.incidents.is_empty() {
        lines.push(format!("opened in that time: {}", counts(&report.incidents)));
    }
    if report.undocumented > 0 {
        lines.push(format!(
            "over, and not written down yet: {} (`genesisctl incident list`)",
            report.undocumented
        ));
    }
    lines
}

pub(super) fn remediation(report: &GetRemediationReportResponse) -> View {
    let period = report.period.as_ref();
    let mut lead = vec![title("remediation", &report.hostname, period)];
    lead.extend(limits(period));
    let objective = Part {
        title: "Objective".to_owned(),
        columns: OBJECTIVES,
        rows: rows(report.objective.iter().map(objective_cells)),
        ..Part::default()
    };
    let patterns = Part {
        title: "What was done".to_owned(),
        columns: PATTERNS,
        rows: rows(report.patterns.iter().map(pattern_cells)),
        ..Part::default()
    };
    let lines = |title: &str, lines: Vec<String>| Part {
        title: title.to_owned(),
        lines,
        ..Part::default()
    };
    let parts = [
        objective,
        patterns,
        lines("What stands out", report.findings.clone()),
        lines("Incidents", incident_lines(report)),
    ];
    View { lead, parts: shown(parts), ..View::default() }
}

pub(super) fn remediation_markdown(report: &GetRemediationReportResponse) -> String {
    let mut page = head("Remediation", &report.hostname, report.period.as_ref());
    let _ = writeln!(page, "## Objective\n");
    let columns = ["objective", "state", "value", "counted", "apart", "note"];
    table(&mut page, columns, report.objective.iter().map(objective_cells));
    let _ = writeln!(page, "\n## What was done\n");
    let columns = [
        "check",
        "action",
        "bad times",
        "called",
        "tried",
        "helped",
        "in vain",
        "not needed",
        "unknown",
        "by hand",
        "took",
    ];
    table(&mut page, columns, report.patterns.iter().map(pattern_cells));
    for (title, lines) in
        [("What stands out", report.findings.clone()), ("Incidents", incident_lines(report))]
    {
        let _ = writeln!(page, "\n## {title}\n");
        if lines.is_empty() {
            let _ = writeln!(page, "Nothing.");
        }
        for line in lines {
            let _ = writeln!(page, "- {}", literal(&line));
        }
    }
    page
}
