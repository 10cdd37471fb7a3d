//! Holds what is locked against what is known. Blocking, and no connection is opened.

use std::cell::RefCell;
use std::collections::BTreeMap;

use genesis_advisories::epss::Likelihood;
use genesis_advisories::finding::{self, Finding, Known, Package};
use genesis_advisories::kev::Exploited;
use genesis_advisories::osv::{Advisory, Event};
use genesis_storage::AdvisoriesReading;
use jiff::Timestamp;

use super::config::{Config, Ignored, Project};
use super::locked::{Collected, Locked, Unjudged, collect, is_cargo};
use super::plan::{self, Ages, DataState, EPSS, KEV, Source, Verdict};
use crate::error::{Error, Result};

/// A project has so many findings at most.
const FINDINGS: usize = 10_000;

/// A source as it stands at a time.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceView {
    /// The ecosystem, KEV or EPSS.
    pub name: String,
    /// What was imported.
    pub source: Option<Source>,
    /// Whether that is recent enough.
    pub state: DataState,
    /// Why not.
    pub why: String,
}

/// A finding, and where it comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// What is known.
    pub finding: Finding,
    /// The file that locks the version, below the root.
    pub file: String,
    /// And its line; 0: not known.
    pub line: u32,
    /// By what it is ignored.
    pub ignored: Option<Ignored>,
}

/// What a scan of a project came to.
#[derive(Debug, Clone, PartialEq)]
pub struct ProjectScan {
    /// The project.
    pub project: Project,
    /// In a word.
    pub verdict: Verdict,
    /// What was found, the worst first, what is ignored last.
    pub findings: Vec<Found>,
    /// So many packages were judged.
    pub judged: usize,
    /// What could not be.
    pub unjudged: Vec<Unjudged>,
    /// What no advisory is about.
    pub unmanaged: Vec<Unjudged>,
}

/// The sources as they stand at a time: those that were imported, and those that the projects need.
pub fn sources(
    reading: &AdvisoriesReading<'_>,
    config: &Config,
    now: Timestamp,
) -> Result<Vec<SourceView>> {
    let manifests = || config.projects.iter().flat_map(|it| &it.manifests);
    let wanted = [
        ("PyPI", manifests().any(|it| !is_cargo(it))),
        ("crates.io", manifests().any(|it| is_cargo(it))),
        (KEV, true),
        (EPSS, true),
    ];
    let wanted = wanted.into_iter().filter(|(_, wanted)| *wanted);
    let mut known: BTreeMap<String, Option<Source>> =
        wanted.map(|(name, _)| (name.to_owned(), None)).collect();
    for (name, bytes) in reading.sources()? {
        let source = serde_json::from_slice(&bytes).map_err(|error| unreadable(&name, &error))?;
        known.insert(name, Some(source));
    }
    let ages = Ages { file: config.max_age, newest: config.max_silence };
    let view = |(name, source): (String, Option<Source>)| {
        let (state, why) = plan::judge(source.as_ref(), ages, now);
        SourceView { name, source, state, why }
    };
    Ok(known.into_iter().map(view).collect())
}

fn unreadable(what: &str, error: &serde_json::Error) -> Error {
    let message = format!("what was imported of {what} can't be read: {error}; import it again");
    Error::unavailable("ADVISORIES_UNAVAILABLE", message)
}

/// Scans a project.
///
/// # Errors
/// `ADVISORIES_UNAVAILABLE`, `STORAGE_FAILED`.
pub fn scan(
    reading: &AdvisoriesReading<'_>,
    project: &Project,
    sources: &[SourceView],
    now: Timestamp,
) -> Result<ProjectScan> {
    judge(reading, project, collect(project), sources, now)
}

/// The advisories of a package.
fn advisories(
    reading: &AdvisoriesReading<'_>,
    ecosystem: &str,
    name: &str,
) -> Result<Vec<Advisory>> {
    match reading.package(ecosystem, name)? {
        Some(bytes) => serde_json::from_slice(&bytes).map_err(|error| unreadable(name, &error)),
        None => Ok(Vec::new()),
    }
}

/// The smallest safe version of each package that has a vulnerability, of those that its advisories name; `None`: none of
/// them is.
///
/// # Errors
/// `ADVISORIES_UNAVAILABLE`, `STORAGE_FAILED`.
pub fn safe_versions(
    reading: &AdvisoriesReading<'_>,
    packages: &[Locked],
) -> Result<BTreeMap<(String, String), Option<String>>> {
    let mut found = BTreeMap::new();
    for locked in packages {
        let name = locked.ecosystem.normalise(&locked.name);
        let known = advisories(reading, &locked.ecosystem.to_string(), &name)?;
        let package =
            Package { ecosystem: &locked.ecosystem, name: &name, version: &locked.version };
        let none = Known { exploited: None, likelihood: None };
        let vulnerable = finding::findings(package, &known, none);
        if !vulnerable.iter().any(|it| it.kind == finding::Kind::Vulnerability) {
            continue;
        }
        let events = known.iter().flat_map(|it| it.ranges.iter().flatten());
        let fixes = events.filter_map(|event| match event {
            Event::Fixed(version) => Some(version.as_str()),
            _ => None,
        });
        let fixes: Vec<&str> = fixes.collect();
        let safe = finding::safe_version(package, &fixes, &known);
        found.insert((name, locked.version.clone()), safe);
    }
    Ok(found)
}

/// Holds packages against what is known.
///
/// # Errors
/// `ADVISORIES_UNAVAILABLE`, `STORAGE_FAILED`.
pub fn judge(
    reading: &AdvisoriesReading<'_>,
    project: &Project,
    collected: Collected,
    sources: &[SourceView],
    now: Timestamp,
) -> Result<ProjectScan> {
    let mut unjudged = collected.unjudged;
    let is_known =
        |name: &str| sources.iter().any(|it| it.name == name && it.state != DataState::NotChecked);
    // What can't be looked up ends the scan, once the closures are through.
    let failed: RefCell<Option<Error>> = RefCell::new(None);
    let fail = |error: Error| {
        failed.borrow_mut().get_or_insert(error);
    };
    let exploited = |cve: &str| -> Option<Exploited> {
        let bytes = reading.exploited(cve).map_err(|error| fail(error.into())).ok()??;
        serde_json::from_slice(&bytes).map_err(|error| fail(unreadable(KEV, &error))).ok()
    };
    let likelihood = |cve: &str| -> Option<Likelihood> {
        let found = reading.likelihood(cve).map_err(|error| fail(error.into())).ok()??;
        let (probability, percentile) = (found.0 as f32, found.1 as f32);
        Some(Likelihood { probability, percentile })
    };
    let known = Known {
        exploited: is_known(KEV).then_some(&exploited),
        likelihood: is_known(EPSS).then_some(&likelihood),
    };
    let kev_is_recent = sources.iter().any(|it| it.name == KEV && it.state == DataState::Checked);
    let (mut findings, mut judged) = (Vec::new(), 0);
    let mut lacking = BTreeMap::new();
    for locked in &collected.packages {
        let ecosystem = locked.ecosystem.to_string();
        let source = sources.iter().find(|it| it.name == ecosystem);
        if let Some(source) = source.filter(|it| it.state != DataState::Checked) {
            lacking.insert(format!("advisories of {ecosystem}"), source.why.clone());
        }
        let name = locked.ecosystem.normalise(&locked.name);
        let advisories = advisories(reading, &ecosystem, &name)?;
        judged += 1;
        let package =
            Package { ecosystem: &locked.ecosystem, name: &name, version: &locked.version };
        for mut finding in finding::findings(package, &advisories, known) {
            if findings.len() >= FINDINGS {
                let why = format!("a project has at most {FINDINGS} findings");
                lacking.insert("what is behind them".to_owned(), why);
                break;
            }
            // An old catalogue knows what was exploited, and not what was not.
            finding.exploited = finding.exploited.filter(|is| *is || kev_is_recent);
            let ignored = plan::ignored(&finding, &project.ignored, now).cloned();
            let (file, line) = (locked.file.clone(), locked.line);
            findings.push(Found { finding, file, line, ignored });
        }
    }
    if let Some(error) = failed.into_inner() {
        return Err(error);
    }
    for (what, why) in lacking {
        unjudged.push(Unjudged { what, why, file: String::new(), line: 0 });
    }
    let mut order: Vec<Finding> = findings.iter().map(|it| it.finding.clone()).collect();
    finding::sort(&mut order);
    let key = |it: &Finding| (it.package.clone(), it.version.clone(), it.id.clone());
    let places: BTreeMap<_, usize> = order.iter().map(key).zip(0..).collect();
    findings
        .sort_by_cached_key(|it| (it.ignored.is_some(), places.get(&key(&it.finding)).copied()));
    let each = findings.iter().map(|it| (&it.finding, it.ignored.is_some()));
    let verdict = plan::verdict(each, judged, unjudged.len());
    Ok(ProjectScan {
        project: project.clone(),
        verdict,
        findings,
        judged,
        unjudged,
        unmanaged: collected.unmanaged,
    })
}
