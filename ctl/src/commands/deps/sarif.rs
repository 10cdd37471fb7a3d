//! Findings as SARIF 2.1.0: <https://docs.oasis-open.org/sarif/sarif/v2.1.0/>
//!
//! A run for each project. What could not be judged is a notification of a run that was not successful, so that no reader
//! takes a scan that saw half of it for one without findings.

use std::collections::BTreeMap;

use genesis_client::v1::{
    DataSource, DataState, DependencyFinding, Ignored, ProjectScan, ScanDependenciesResponse,
    ScanVerdict, Unjudged, VulnerabilitySeverity,
};
use genesis_client::{Error, Kind};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::super::agent::CLIENT_VERSION;
use super::finding;
use crate::format;

const SCHEMA: &str =
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";

/// What paths are relative to. By custom it is the root of what was scanned, and readers know it without being told.
const ROOT: &str = "%SRCROOT%";

/// Names how the fingerprints are made; another way of making them gets another name.
const FINGERPRINT: &str = "genesisFinding/v1";

#[derive(Serialize)]
struct Log<'a> {
    #[serde(rename = "$schema")]
    schema: &'static str,
    version: &'static str,
    runs: Vec<Run<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Run<'a> {
    tool: Tool<'a>,
    /// Tells runs apart that a reader gets at once, and knows those of one project again.
    automation_details: AutomationDetails,
    invocations: [Invocation; 1],
    results: Vec<SarifResult<'a>>,
    properties: RunProperties<'a>,
}

#[derive(Serialize)]
struct Tool<'a> {
    driver: Driver<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Driver<'a> {
    name: &'static str,
    version: &'static str,
    semantic_version: &'static str,
    rules: Vec<Rule<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Rule<'a> {
    id: &'a str,
    short_description: Text,
    help: Text,
    #[serde(skip_serializing_if = "Option::is_none")]
    help_uri: Option<&'a str>,
    properties: RuleProperties,
}

#[derive(Serialize)]
struct RuleProperties {
    tags: Vec<&'static str>,
    /// A text, by the custom of the readers that sort by it.
    #[serde(rename = "security-severity", skip_serializing_if = "Option::is_none")]
    security_severity: Option<String>,
}

#[derive(Serialize)]
struct AutomationDetails {
    id: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Invocation {
    execution_successful: bool,
    tool_execution_notifications: Vec<Notification>,
}

#[derive(Serialize)]
struct Notification {
    level: &'static str,
    message: Text,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    locations: Vec<Location>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SarifResult<'a> {
    rule_id: &'a str,
    rule_index: usize,
    level: &'static str,
    message: Text,
    locations: Vec<Location>,
    partial_fingerprints: BTreeMap<&'static str, String>,
    /// Also where there are none: left out it would mean that nobody knows.
    suppressions: Vec<Suppression>,
    properties: ResultProperties<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResultProperties<'a> {
    ecosystem: &'a str,
    package: &'a str,
    installed: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    fixed_in: Option<&'a str>,
    severity: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    exploited: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    likelihood: Option<f64>,
    certain: bool,
}

#[derive(Serialize)]
struct Suppression {
    kind: &'static str,
    status: &'static str,
    justification: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Location {
    physical_location: PhysicalLocation,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PhysicalLocation {
    artifact_location: ArtifactLocation,
    #[serde(skip_serializing_if = "Option::is_none")]
    region: Option<Region>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ArtifactLocation {
    uri: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    uri_base_id: Option<&'static str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Region {
    start_line: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RunProperties<'a> {
    project: &'a str,
    root: &'a str,
    verdict: &'static str,
    judged: u32,
    as_of: String,
}

#[derive(Serialize)]
struct Text {
    text: String,
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self { text }
    }
}

/// The file's text.
pub(super) fn text(response: &ScanDependenciesResponse) -> Result<String, Error> {
    let runs = response.projects.iter().map(|scan| run(scan, response)).collect();
    let log = Log { schema: SCHEMA, version: "2.1.0", runs };
    let text = serde_json::to_string_pretty(&log).map_err(|error| {
        let message = format!("can't write the findings as SARIF: {error}");
        Error::new(Kind::Internal, "INTERNAL", "SARIF_FAILED", message, "use -o json meanwhile")
    })?;
    Ok(text + "\n")
}

fn run<'a>(scan: &'a ProjectScan, response: &'a ScanDependenciesResponse) -> Run<'a> {
    let mut rules: Vec<Rule<'a>> = Vec::new();
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    let mut results = Vec::with_capacity(scan.findings.len());
    for found in &scan.findings {
        // One problem may be that of several packages.
        let index = *places.entry(&found.id).or_insert_with(|| {
            rules.push(rule(found));
            rules.len() - 1
        });
        results.push(result(scan, found, index));
    }
    let failed = scan.unjudged.iter().map(|one| notification(scan, one, "error", "was not judged"));
    let managed = "is not taken from an index, so that no advisory is about it";
    let unmanaged = scan.unmanaged.iter().map(|one| notification(scan, one, "note", managed));
    let notifications = failed.chain(unmanaged).chain(response.sources.iter().filter_map(outdated));
    let known = matches!(scan.verdict(), ScanVerdict::Pass | ScanVerdict::Findings);
    Run {
        tool: Tool {
            driver: Driver {
                name: "genesis",
                version: CLIENT_VERSION,
                semantic_version: CLIENT_VERSION,
                rules,
            },
        },
        automation_details: AutomationDetails { id: format!("genesis/deps/{}/", scan.project) },
        invocations: [Invocation {
            execution_successful: known,
            tool_execution_notifications: notifications.collect(),
        }],
        results,
        properties: RunProperties {
            project: &scan.project,
            root: &scan.root,
            verdict: if known {
                format::short_name(scan.verdict().as_str_name(), "SCAN_VERDICT_")
            } else {
                "UNKNOWN"
            },
            judged: scan.judged,
            as_of: format::time(response.as_of.as_ref()),
        },
    }
}

fn rule(found: &DependencyFinding) -> Rule<'_> {
    let summary = match found.summary.as_str() {
        "" => format!("{} of {}", found.id, found.package),
        summary => summary.to_owned(),
    };
    let mut help = summary.clone();
    let others: Vec<_> =
        found.ids.iter().filter(|id| **id != found.id).map(String::as_str).collect();
    for (what, those) in [("Also known as", others.join(", ")), ("See", found.references.join(" "))]
    {
        if !those.is_empty() {
            help += &format!("\n\n{what} {those}");
        }
    }
    if !found.vector.is_empty() {
        help += &format!("\n\nRated {} by {}", finding::severity(found), found.vector);
    }
    let is_address = |text: &&String| {
        let plain = text.bytes().all(|byte| byte.is_ascii_graphic());
        plain && (text.starts_with("https://") || text.starts_with("http://"))
    };
    let kind = if finding::is_informational(found) { "informational" } else { "vulnerability" };
    Rule {
        id: &found.id,
        short_description: summary.into(),
        help: help.into(),
        help_uri: found.references.iter().find(is_address).map(String::as_str),
        properties: RuleProperties {
            tags: vec!["security", "dependency", kind],
            // Readers take 0 for what is none of theirs.
            security_severity: found
                .score
                .filter(|score| *score > 0.0)
                .map(|score| format!("{score:.1}")),
        },
    }
}

fn result<'a>(
    scan: &ProjectScan,
    found: &'a DependencyFinding,
    rule_index: usize,
) -> SarifResult<'a> {
    let exploited = if found.exploited == Some(true) { " It is exploited." } else { "" };
    let summary = if found.summary.is_empty() { "" } else { &found.summary };
    let colon = if summary.is_empty() { "" } else { ": " };
    let verb = if found.certain { "has" } else { "may have" };
    let message = format!(
        "{} {} {verb} {}{colon}{summary}. Why: {}.{exploited} Next: {}.",
        found.package,
        found.installed,
        found.id,
        format::or_none(&found.why),
        finding::next(found)
    );
    SarifResult {
        rule_id: &found.id,
        rule_index,
        level: level(found),
        message: message.into(),
        locations: location(scan, &found.file, found.line).into_iter().collect(),
        partial_fingerprints: BTreeMap::from([(FINGERPRINT, fingerprint(scan, found))]),
        suppressions: found.ignored.iter().map(suppression).collect(),
        properties: ResultProperties {
            ecosystem: &found.ecosystem,
            package: &found.package,
            installed: &found.installed,
            fixed_in: Some(found.fixed_in.as_str()).filter(|version| !version.is_empty()),
            severity: finding::rating(found),
            exploited: found.exploited,
            likelihood: found.likelihood,
            certain: found.certain,
        },
    }
}

fn level(found: &DependencyFinding) -> &'static str {
    use VulnerabilitySeverity as S;
    match found.severity() {
        _ if found.exploited == Some(true) => "error",
        _ if finding::is_informational(found) => "note",
        S::Critical | S::High => "error",
        S::Medium | S::Unknown | S::Unspecified => "warning",
        S::Low | S::None => "note",
    }
}

/// The same for a finding whichever line it moves to, and another one for another version: that is looked at anew.
fn fingerprint(scan: &ProjectScan, found: &DependencyFinding) -> String {
    let mut hash = Sha256::new();
    for part in
        [&scan.project, &found.ecosystem, &found.package, &found.installed, &found.id, &found.file]
    {
        hash.update(part);
        hash.update([0]);
    }
    hex::encode(hash.finalize())
}

fn suppression(ignored: &Ignored) -> Suppression {
    let mut justification = match ignored.reason.as_str() {
        "" => "no reason is given".to_owned(),
        reason => reason.to_owned(),
    };
    if !ignored.by.is_empty() {
        justification += &format!(", by {}", ignored.by);
    }
    if let Some(until) = &ignored.until {
        justification += &format!(", until {}", format::time(Some(until)));
    }
    Suppression { kind: "external", status: "accepted", justification }
}

fn notification(
    scan: &ProjectScan,
    one: &Unjudged,
    level: &'static str,
    what: &str,
) -> Notification {
    let named = if one.what.is_empty() { one.file.as_str() } else { one.what.as_str() };
    Notification {
        level,
        message: format!("{named} {what}: {}", one.why).into(),
        locations: location(scan, &one.file, one.line).into_iter().collect(),
    }
}

/// What is said of data that is not recent.
fn outdated(source: &DataSource) -> Option<Notification> {
    let what = match source.state() {
        DataState::Checked => return None,
        DataState::Stale => "is stale",
        DataState::NotChecked | DataState::Unspecified => "was not checked",
    };
    let why = if source.why.is_empty() { "" } else { &source.why };
    let colon = if why.is_empty() { "" } else { ": " };
    let message = format!("the data {} {what}{colon}{why}", source.name).into();
    Some(Notification { level: "warning", message, locations: Vec::new() })
}

/// A file of the project, relative to its root where it is below that.
fn location(scan: &ProjectScan, file: &str, line: u32) -> Option<Location> {
    if file.is_empty() {
        return None;
    }
    let root = scan.root.trim_end_matches('/');
    let below = file.strip_prefix(root).and_then(|rest| rest.strip_prefix('/'));
    let (uri, uri_base_id) = match below.filter(|_| !root.is_empty()) {
        Some(below) => (encoded(below), Some(ROOT)),
        None if file.starts_with('/') => (format!("file://{}", encoded(file)), None),
        None => (encoded(file), Some(ROOT)),
    };
    let region = (line > 0).then_some(Region { start_line: line });
    let artifact_location = ArtifactLocation { uri, uri_base_id };
    Some(Location { physical_location: PhysicalLocation { artifact_location, region } })
}

/// A path as it stands in a URI.
fn encoded(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                text.push(char::from(byte));
            }
            byte => text += &format!("%{byte:02X}"),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_those_of_how_bad_it_is() {
        use VulnerabilitySeverity as S;
        use genesis_client::v1::FindingKind as K;
        for (severity, kind, exploited, expected) in [
            (S::Critical, K::Vulnerability, None, "error"),
            (S::High, K::Vulnerability, Some(false), "error"),
            (S::Medium, K::Vulnerability, None, "warning"),
            (S::Unknown, K::Vulnerability, None, "warning"),
            (S::Unspecified, K::Unspecified, None, "warning"),
            (S::Low, K::Vulnerability, None, "note"),
            (S::None, K::Vulnerability, None, "note"),
            (S::Low, K::Vulnerability, Some(true), "error"),
            (S::Unknown, K::Unmaintained, None, "note"),
            (S::High, K::Unsound, None, "note"),
            (S::Unknown, K::Notice, Some(true), "error"),
        ] {
            let found = DependencyFinding {
                severity: severity.into(),
                kind: kind.into(),
                exploited,
                ..Default::default()
            };
            assert_eq!(level(&found), expected, "{severity:?} {kind:?} {exploited:?}");
        }
    }

    #[test]
    fn files_are_relative_to_the_project_where_they_are_of_it() {
        for (root, file, uri, base) in [
            ("/srv/api", "requirements.txt", "requirements.txt", Some(ROOT)),
            ("/srv/api/", "/srv/api/a b/r.txt", "a%20b/r.txt", Some(ROOT)),
            ("/srv/api", "/srv/api-2/r.txt", "file:///srv/api-2/r.txt", None),
            ("", "/etc/ü.txt", "file:///etc/%C3%BC.txt", None),
        ] {
            let scan = ProjectScan { root: root.into(), ..Default::default() };
            let found = location(&scan, file, 0).unwrap().physical_location;
            let found = (found.artifact_location, found.region);
            assert_eq!((found.0.uri.as_str(), found.0.uri_base_id), (uri, base), "{root} {file}");
            assert!(found.1.is_none());
        }
        assert!(location(&ProjectScan::default(), "", 7).is_none());
    }
}
