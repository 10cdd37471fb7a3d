//! What is known of a project without a scan: its release, whether that is what runs, and what the last look found.

use genesis_client::v1::{
    Condition, DependencyProject, DependencyRelease, InstalledDifference, ScanVerdict,
    SeverityCount, StaleProcess, Truth, VulnerabilitySeverity,
};

use super::{finding, ignore, package, project};
use crate::format;
use crate::render::{Cell, Part};

const RELEASE_COLUMNS: &[&str] =
    &["GENERATION", "PACKAGES", "MADE", "IN SERVICE SINCE", "PROVEN", "RUN", "DIGEST", "FOLDER"];

/// How it stands by whether what runs is what is locked. Of one that the agent does not update nobody may be able to tell.
pub(super) fn condition(known: &DependencyProject) -> Condition {
    match known.in_memory() {
        Truth::Pass => Condition::Ok,
        Truth::Fail => Condition::Critical,
        Truth::Unknown | Truth::Unspecified if known.managed => Condition::Unknown,
        Truth::Unknown | Truth::Unspecified => Condition::Ok,
    }
}

/// The cells behind its name.
pub(super) fn cells(known: &DependencyProject) -> Vec<Cell> {
    let in_memory = match (known.in_memory(), known.managed) {
        (Truth::Unspecified, false) => Cell::from(format::NONE),
        (truth, _) => Cell::truth(truth, false),
    };
    vec![
        Cell::from(known.current.as_ref().map_or_else(|| format::NONE.to_owned(), release)),
        in_memory,
        vulnerable(known),
        Cell::from(format::time(known.scanned_at.as_ref())),
        Cell::from(updated(known)),
    ]
}

/// Such as "4", "4, not proven".
fn release(release: &DependencyRelease) -> String {
    match release.proven {
        true => release.generation.to_string(),
        false => format!("{}, not proven", release.generation),
    }
}

/// Such as "1 CRITICAL, 2 HIGH", as of the last look.
fn vulnerable(known: &DependencyProject) -> Cell {
    let mut counts: Vec<_> = known.vulnerabilities.iter().filter(|one| one.count > 0).collect();
    counts.sort_by_key(|one| rank(one.severity()));
    let mut text = counts.iter().map(|one| counted(one)).collect::<Vec<_>>().join(", ");
    match (known.verdict(), text.is_empty()) {
        (ScanVerdict::Unspecified, true) => text.push_str("not looked yet"),
        (ScanVerdict::Unknown, true) => text.push_str("unknown"),
        (ScanVerdict::Unknown | ScanVerdict::Unspecified, false) => text += ", not all was judged",
        (ScanVerdict::Pass | ScanVerdict::Findings, true) => text.push_str("none"),
        (ScanVerdict::Pass | ScanVerdict::Findings, false) => {}
    }
    match counts.first() {
        Some(worst) => Cell::vulnerability(worst.severity(), text),
        None if matches!(known.verdict(), ScanVerdict::Pass | ScanVerdict::Findings) => {
            Cell::alert(text, false)
        }
        None => Cell::vulnerability(VulnerabilitySeverity::Unknown, text),
    }
}

/// As in a scan: what nobody rated may be anything.
fn rank(severity: VulnerabilitySeverity) -> u8 {
    use VulnerabilitySeverity as S;
    match severity {
        S::Critical => 0,
        S::High => 1,
        S::Unknown | S::Unspecified => 2,
        S::Medium => 3,
        S::Low => 4,
        S::None => 5,
    }
}

fn counted(one: &SeverityCount) -> String {
    format!("{} {}", format::count(one.count.into()), finding::severity_name(one.severity()))
}

fn updated(known: &DependencyProject) -> String {
    match (known.running.as_str(), known.managed) {
        ("", true) => package::strategy(known.strategy(), "yes").to_owned(),
        ("", false) => "not managed".to_owned(),
        _ => "goes on".to_owned(),
    }
}

/// What is to be said of it beside its row, if there is anything. `verbose`: with its releases.
pub(super) fn part(known: &DependencyProject, verbose: bool) -> Option<Part> {
    let lines = lines(known, verbose);
    let releases: &[_] = if verbose { &known.releases } else { &[] };
    if lines.is_empty() && releases.is_empty() {
        return None;
    }
    let title = known.name.clone();
    let rows = releases.iter().map(release_row).collect();
    Some(Part { title, columns: RELEASE_COLUMNS, rows, lines })
}

fn lines(known: &DependencyProject, verbose: bool) -> Vec<String> {
    let mut lines = Vec::new();
    if !known.running.is_empty() {
        let run = &known.running;
        lines.push(format!("an update goes on: `genesisctl run watch {run}` follows it"));
    }
    if !known.in_memory_why.is_empty() {
        let truth = format::truth(known.in_memory());
        lines.push(format!("in memory: {truth}: {}", known.in_memory_why));
    }
    for (what, said) in [
        ("differs", known.differences.iter().map(difference).collect::<Vec<_>>()),
        ("stale", known.stale_processes.iter().map(stale).collect()),
        ("ignored", known.ignored.iter().map(ignore::line).collect()),
    ] {
        lines.extend(project::shortened(what, said, verbose));
    }
    if !known.managed && !known.unmanaged_why.is_empty() {
        lines.push(format!("not managed: {}", known.unmanaged_why));
    }
    lines
}

/// Such as "differs: requests is installed as 2.31.0, and locked as 2.32.0".
fn difference(one: &InstalledDifference) -> String {
    let InstalledDifference { package, locked, installed } = one;
    match installed.as_str() {
        "" => format!("differs: {package} is not installed, and locked as {locked}"),
        installed => {
            format!("differs: {package} is installed as {installed}, and locked as {locked}")
        }
    }
}

/// Such as "stale: process 4711 (gunicorn api:app): it maps releases/3/lib/x.so, which is replaced".
fn stale(one: &StaleProcess) -> String {
    let command =
        if one.command.is_empty() { String::new() } else { format!(" ({})", one.command) };
    let why = if one.why.is_empty() { "it runs what was replaced" } else { &one.why };
    format!("stale: process {}{command}: {why}", one.pid)
}

fn release_row(release: &DependencyRelease) -> Vec<Cell> {
    let current = if release.current { " (current)" } else { "" };
    vec![
        Cell::from(format!("{}{current}", release.generation)),
        Cell::number(format::count(release.packages.into())),
        Cell::from(format::time(release.made_at.as_ref())),
        Cell::from(format::time(release.deployed_at.as_ref())),
        Cell::from(if release.proven { "yes" } else { "no" }),
        Cell::from(format::or_none(&release.update_id)),
        Cell::from(format::or_none(&release.digest)),
        Cell::from(format::or_none(&release.folder)),
    ]
}
