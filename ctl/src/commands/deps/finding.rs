//! One finding in words: how bad it is, where it is, and what to do about it.

use genesis_client::v1::{DependencyFinding, FindingKind, VulnerabilitySeverity};

use crate::format;
use crate::render::Cell;

const COLUMNS: &[&str] =
    &["PACKAGE", "INSTALLED", "FIXED IN", "SEVERITY", "EXPLOITED", "ID", "WHY", "NEXT"];
const COLUMNS_LONG: &[&str] = &[
    "PACKAGE",
    "INSTALLED",
    "FIXED IN",
    "SEVERITY",
    "EXPLOITED",
    "LIKELIHOOD",
    "ID",
    "PUBLISHED",
    "WHY",
    "NEXT",
    "SUMMARY",
    "ALSO KNOWN AS",
    "REFERENCES",
];

/// The columns of [`row`]. `verbose`: with all that is known of it.
pub(super) fn columns(verbose: bool) -> &'static [&'static str] {
    if verbose { COLUMNS_LONG } else { COLUMNS }
}

pub(super) fn row(finding: &DependencyFinding, verbose: bool) -> Vec<Cell> {
    let mut cells = vec![
        Cell::from(finding.package.as_str()),
        Cell::from(finding.installed.as_str()),
        Cell::from(format::or_none(&finding.fixed_in)),
        Cell::vulnerability(finding.severity(), severity(finding)),
        Cell::exploited(finding.exploited),
    ];
    if verbose {
        cells.push(Cell::number(likelihood(finding)));
    }
    cells.push(Cell::from(finding.id.as_str()));
    if verbose {
        cells.push(Cell::from(format::time(finding.published_at.as_ref())));
    }
    cells.push(Cell::from(why(finding)));
    cells.push(Cell::from(next(finding)));
    if verbose {
        let others: Vec<_> =
            finding.ids.iter().filter(|id| **id != finding.id).map(String::as_str).collect();
        cells.push(Cell::from(format::or_none(&finding.summary)));
        cells.push(Cell::from(format::or_none(&others.join(", "))));
        cells.push(Cell::from(format::or_none(&finding.references.join(" "))));
    }
    cells
}

fn likelihood(finding: &DependencyFinding) -> String {
    finding.likelihood.map_or_else(|| format::NONE.to_owned(), format::share)
}

/// Whether it is something else than a vulnerability.
pub(super) fn is_informational(finding: &DependencyFinding) -> bool {
    !matches!(finding.kind(), FindingKind::Vulnerability | FindingKind::Unspecified)
}

/// Such as "HIGH". Nobody rates what is no vulnerability: there it says what it is instead.
pub(super) fn rating(finding: &DependencyFinding) -> &'static str {
    use VulnerabilitySeverity as S;
    match finding.severity() {
        S::Unknown | S::Unspecified if is_informational(finding) => {
            format::short_name(finding.kind().as_str_name(), "FINDING_KIND_")
        }
        severity => severity_name(severity),
    }
}

/// Such as "HIGH". What is not said is unknown.
pub(super) fn severity_name(severity: VulnerabilitySeverity) -> &'static str {
    match severity {
        VulnerabilitySeverity::Unspecified => "UNKNOWN",
        severity => format::short_name(severity.as_str_name(), "VULNERABILITY_SEVERITY_"),
    }
}

/// Such as "HIGH 7.5".
pub(super) fn severity(finding: &DependencyFinding) -> String {
    match finding.score {
        Some(score) => format!("{} {score:.1}", rating(finding)),
        None => rating(finding).to_owned(),
    }
}

/// What matched, or what stands in the way of telling.
pub(super) fn why(finding: &DependencyFinding) -> String {
    match (finding.certain, finding.why.as_str()) {
        (true, why) => format::or_none(why),
        (false, "") => "it may be affected".to_owned(),
        (false, why) => format!("it may be affected: {why}"),
    }
}

/// Such as "requirements.txt:14"; empty where that is not known.
pub(super) fn place(file: &str, line: u32) -> String {
    match (file, line) {
        (file, 0) => file.to_owned(),
        ("", _) => String::new(),
        (file, line) => format!("{file}:{line}"),
    }
}

/// What to do about it.
pub(super) fn next(finding: &DependencyFinding) -> String {
    let what = remedy(finding);
    let what = match finding.certain {
        true => what,
        false => format!("see whether {} is affected; if so, {what}", finding.installed),
    };
    if finding.exploited == Some(true) { format!("at once: {what}") } else { what }
}

fn remedy(finding: &DependencyFinding) -> String {
    let DependencyFinding { package, installed, fixed_in, file, line, .. } = finding;
    let place = place(file, *line);
    let location = if place.is_empty() { place } else { format!(" in {place}") };
    let read = match finding.references.first() {
        Some(reference) => format!(": see {reference}"),
        None => String::new(),
    };
    match (fixed_in.as_str(), finding.kind()) {
        ("", FindingKind::Unmaintained) => {
            format!("look for another package{location}: nobody mends this one{read}")
        }
        ("", FindingKind::Notice) => format!("read what it says{read}"),
        ("", _) => format!("do without it{location}, there is no fixed version yet{read}"),
        // Nobody edits that file by hand. The version is named since a lock may have several of one package.
        (fixed, _) if file.ends_with("Cargo.lock") => {
            format!("run `cargo update -p {package}@{installed} --precise {fixed}` for {file}")
        }
        (fixed, _) => format!("raise it to {fixed}{location}"),
    }
}
