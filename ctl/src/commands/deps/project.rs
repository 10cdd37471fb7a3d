//! What a scan of one project came to.

use genesis_client::v1::{DependencyFinding, ProjectScan, ScanVerdict, Unjudged};

use super::finding;
use crate::exit::Exit;
use crate::format;
use crate::render::{Cell, Part};

/// So many lines are shown of what was not judged, of what is unmanaged, and of what is ignored, without -v.
const LINES: usize = 20;

/// Each rating from the worst to what is none.
const RATINGS: [&str; 9] =
    ["CRITICAL", "HIGH", "UNKNOWN", "MEDIUM", "LOW", "NONE", "UNSOUND", "UNMAINTAINED", "NOTICE"];

/// The verdict's code. One that this program does not know is unknown, as what it was not told has not passed.
pub(super) fn exit(scan: &ProjectScan) -> Exit {
    match scan.verdict() {
        ScanVerdict::Pass => Exit::Ok,
        ScanVerdict::Findings => Exit::Findings,
        ScanVerdict::Unknown | ScanVerdict::Unspecified => Exit::Unknown,
    }
}

/// The code of all projects of one node: unknown beats findings.
pub(super) fn exit_of(projects: &[ProjectScan]) -> Exit {
    let codes: Vec<_> = projects.iter().map(exit).collect();
    let of = |wanted: Exit| codes.contains(&wanted).then_some(wanted);
    of(Exit::Unknown).or_else(|| of(Exit::Findings)).unwrap_or(Exit::Ok)
}

/// Those that somebody wants to hear of.
fn open(scan: &ProjectScan) -> impl Iterator<Item = &DependencyFinding> {
    scan.findings.iter().filter(|finding| finding.ignored.is_none())
}

/// Such as "1 CRITICAL, 2 HIGH".
pub(super) fn by_rating(scan: &ProjectScan) -> String {
    let count = |rating: &str| open(scan).filter(|one| finding::rating(one) == rating).count();
    let counted = RATINGS.iter().map(|rating| (count(rating), rating));
    let there = counted.filter(|(count, _)| *count > 0);
    there
        .map(|(count, rating)| format!("{} {rating}", format::count(count as u64)))
        .collect::<Vec<_>>()
        .join(", ")
}

fn exploited(scan: &ProjectScan) -> u64 {
    open(scan).filter(|finding| finding.exploited == Some(true)).count() as u64
}

fn findings(scan: &ProjectScan) -> String {
    let number = open(scan).count() as u64;
    if number == 0 {
        return "no findings".to_owned();
    }
    let mut text = format!("{}: {}", format::plural(number, "finding"), by_rating(scan));
    match exploited(scan) {
        0 => {}
        exploited => text += &format!("; {} exploited", format::count(exploited)),
    }
    text
}

/// Such as "api in /srv/api: FINDINGS, 61 packages judged, 3 findings: 1 CRITICAL, 2 HIGH; 1 exploited".
fn title(scan: &ProjectScan) -> String {
    let root = if scan.root.is_empty() { String::new() } else { format!(" in {}", scan.root) };
    let mut text = format!(
        "{}{root}: {}, {} judged, {}",
        scan.project,
        verdict(scan),
        format::plural(u64::from(scan.judged), "package"),
        findings(scan)
    );
    match scan.unjudged.len() as u64 {
        0 => {}
        unjudged => text += &format!("; {} not judged", format::count(unjudged)),
    }
    text
}

fn verdict(scan: &ProjectScan) -> &'static str {
    match scan.verdict() {
        ScanVerdict::Unspecified => "UNKNOWN",
        verdict => format::short_name(verdict.as_str_name(), "SCAN_VERDICT_"),
    }
}

/// All that is to be said of it.
pub(super) fn part(scan: &ProjectScan, verbose: bool) -> Part {
    let mut lines = Vec::new();
    let not_judged = scan.unjudged.iter().map(|one| line("not judged", one)).collect();
    let unmanaged = scan.unmanaged.iter().map(|one| line("unmanaged", one)).collect();
    let ignored = scan.findings.iter().filter_map(ignored).collect();
    for (what, said) in [("not judged", not_judged), ("unmanaged", unmanaged), ("ignored", ignored)]
    {
        lines.extend(shortened(what, said, verbose));
    }
    Part {
        title: title(scan),
        columns: finding::columns(verbose),
        rows: open(scan).map(|finding| finding::row(finding, verbose)).collect(),
        lines,
    }
}

pub(super) fn shortened(what: &str, mut said: Vec<String>, verbose: bool) -> Vec<String> {
    // One line more than there may be takes no less room than to say that it is left out.
    if !verbose && said.len() > LINES + 1 {
        let more = said.len() - LINES;
        said.truncate(LINES);
        said.push(format!("{what}: {} more, which -v lists", format::count(more as u64)));
    }
    said
}

/// Such as "not judged: requirements.txt:3 flask>=2: it has no version".
pub(super) fn line(what: &str, one: &Unjudged) -> String {
    let place = finding::place(&one.file, one.line);
    let space = if place.is_empty() || one.what.is_empty() { "" } else { " " };
    // A file that can't be read is what was not judged, and where.
    let named = if place == one.what { place } else { format!("{place}{space}{}", one.what) };
    format!("{what}: {named}: {}", one.why)
}

/// Such as "ignored until 2026-12-01T00:00:00Z by anna: CVE-2024-1 of jinja2 3.1.2, HIGH 7.5: not reachable".
fn ignored(found: &DependencyFinding) -> Option<String> {
    let ignored = found.ignored.as_ref()?;
    let until = match &ignored.until {
        Some(until) => format!(" until {}", format::time(Some(until))),
        None => String::new(),
    };
    let by = if ignored.by.is_empty() { String::new() } else { format!(" by {}", ignored.by) };
    let exploited = if found.exploited == Some(true) { ", exploited" } else { "" };
    Some(format!(
        "ignored{until}{by}: {} of {} {}, {}{exploited}: {}",
        found.id,
        found.package,
        found.installed,
        finding::severity(found),
        match ignored.reason.as_str() {
            "" => "no reason is given",
            reason => reason,
        }
    ))
}

/// A line of it beside those of other nodes.
pub(super) fn row(scan: &ProjectScan, data: &str) -> Vec<Cell> {
    let ignored = scan.findings.iter().filter(|finding| finding.ignored.is_some()).count();
    let worst = open(scan).map(finding::rating);
    let worst = worst.min_by_key(|rating| RATINGS.iter().position(|known| known == rating));
    let number = |number: usize| Cell::number(format::count(number as u64));
    let exploited = exploited(scan);
    vec![
        Cell::from(scan.project.as_str()),
        match scan.verdict() {
            ScanVerdict::Unspecified => Cell::scan_verdict(ScanVerdict::Unknown),
            verdict => Cell::scan_verdict(verdict),
        },
        Cell::number(format::count(u64::from(scan.judged))),
        number(open(scan).count()),
        Cell::from(worst.unwrap_or(format::NONE)),
        Cell::measured(format::count(exploited), exploited > 0),
        number(ignored),
        number(scan.unjudged.len()),
        Cell::from(data),
    ]
}
