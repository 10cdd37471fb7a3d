//! Reads records of the Open Source Vulnerability format, <https://ossf.github.io/osv-schema/>.
//!
//! A record becomes one [`Advisory`] for each package that it names: what is needed to evaluate and to report it, and
//! nothing else, so that all that concerns a package is found by its name and read in microseconds. Ranges of commits
//! are kept out, and so are listed versions that the ranges cover: the meaning is the same, and most of the size is
//! theirs.

mod raw;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};

use raw::Raw;
use serde::{Deserialize, Serialize};

use crate::affected::Ranges;
use crate::severity::{Scheme, Vector};
use crate::text::{LONGEST, cut, second_or_zero};
use crate::{Ecosystem, Refused};

/// So many references are kept of a record.
const MOST_REFERENCES: usize = 4;
/// The ranges of a package have so many events at most: the fix of one range is looked for in all of them. Those of
/// the databases have fewer than a hundred.
const MOST_EVENTS: usize = 10_000;
/// Listed versions are looked for in the ranges if that takes so many comparisons at most, else they are all kept.
const MOST_COMPARISONS: usize = 10_000_000;

/// One record as read: an advisory for each package, in the order of ecosystems and names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The id of the record, such as `PYSEC-2023-121`.
    pub id: String,
    /// Empty if the record names no package, as some withdrawn ones and those of commits alone do.
    pub advisories: Vec<Advisory>,
}

/// What a record says of one package. Its serialised form is meant to be stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advisory {
    /// The id of the record.
    pub id: String,
    /// Where the package is from.
    #[serde(rename = "e")]
    pub ecosystem: Ecosystem,
    /// The name of the package, normalised.
    #[serde(rename = "n")]
    pub name: String,
    /// Other ids of the same problem, in order, without `id`.
    #[serde(rename = "a", default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// One line: the summary, or else the first line of the details.
    #[serde(rename = "s", default, skip_serializing_if = "String::is_empty")]
    pub summary: String,
    /// When it was published, in seconds since 1970.
    #[serde(rename = "p", default, skip_serializing_if = "Option::is_none")]
    pub published: Option<i64>,
    /// When it was last changed; nothing where the database has no such time, which it writes as the year 1.
    #[serde(rename = "m", default, skip_serializing_if = "Option::is_none")]
    pub modified: Option<i64>,
    /// When it was withdrawn: then it affects nothing.
    #[serde(rename = "w", default, skip_serializing_if = "Option::is_none")]
    pub withdrawn: Option<i64>,
    /// Where more is found: advisories and fixes first, at most 4.
    #[serde(rename = "l", default, skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<String>,
    /// The vectors of the record and of the package.
    #[serde(rename = "c", default, skip_serializing_if = "Vec::is_empty")]
    pub severity: Vec<Vector>,
    /// What it is about if it is no vulnerability.
    #[serde(rename = "k", default, skip_serializing_if = "Option::is_none")]
    pub informational: Option<Informational>,
    /// Ranges of versions, none of commits.
    #[serde(rename = "r", default, skip_serializing_if = "Vec::is_empty")]
    pub ranges: Vec<Vec<Event>>,
    /// Affected versions that are in none of the ranges.
    #[serde(rename = "v", default, skip_serializing_if = "Vec::is_empty")]
    pub versions: Vec<String>,
}

/// Where a range begins or ends. The version `0` is before all others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// Affected from here on.
    #[serde(rename = "i")]
    Introduced(String),
    /// No longer affected from here on.
    #[serde(rename = "f")]
    Fixed(String),
    /// No longer affected above this one.
    #[serde(rename = "a")]
    LastAffected(String),
    /// The range says nothing of this version and of those above; `*` is no limit.
    #[serde(rename = "l")]
    Limit(String),
}

/// What RustSec says of a crate that is not a vulnerability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Informational {
    /// Safe code can break the rules of memory, without a known way to exploit it.
    Unsound,
    /// Nobody looks after it any more.
    Unmaintained,
    /// Anything else worth knowing.
    Notice,
}

/// Reads one record. `place` is what the caller calls it, such as a file name.
///
/// # Errors
///
/// What is no JSON or has values of other types than the schema's, another major version of the schema than 1 (no
/// version is 1.0), an id, name or version that is empty or very long, a time that is none, a range that does not say
/// where it begins or has an event that is none of the known ones or several at once, and more than 10,000 events of a
/// package. The error names the record.
pub fn read(place: &str, json: &[u8]) -> Result<Record, Refused> {
    let raw: Raw<'_> = serde_json::from_slice(json).map_err(|error| named(place, json, &error))?;
    let id = raw.id.clone().into_owned();
    let what = if id.is_empty() { cut(place) } else { cut(&id) };
    build(raw).map(|advisories| Record { id, advisories }).map_err(|text| Refused::new(what, text))
}

/// The error for JSON of another shape, with the id of the record where that can be had.
fn named(place: &str, json: &[u8], error: &serde_json::Error) -> Refused {
    let id = serde_json::from_slice::<serde_json::Value>(json).ok();
    let id = id.as_ref().and_then(|value| value.get("id")?.as_str());
    Refused::new(cut(id.unwrap_or(place)), cut(&error.to_string()))
}

fn build(raw: Raw<'_>) -> Result<Vec<Advisory>, String> {
    if let Some(version) = &raw.schema_version
        && version.split('.').next() != Some("1")
    {
        return Err(format!("version `{}` of the schema is not known", cut(version)));
    }
    sane("the id", &raw.id)?;
    let id = raw.id.into_owned();
    let mut aliases = raw.aliases.into_iter().flatten().collect::<Vec<_>>();
    aliases.iter().try_for_each(|alias| sane("an alias", alias))?;
    aliases.retain(|alias| *alias != id);
    aliases.sort();
    aliases.dedup();
    let time = |what: &str, text: Option<&str>| {
        let read = text.map(second_or_zero).transpose().map(Option::flatten);
        read.map_err(|problem| format!("{what}: {problem}"))
    };
    if raw.modified.is_none() {
        return Err("it has no time of modification".to_owned());
    }
    let blank = Advisory {
        id,
        ecosystem: Ecosystem::PyPI,
        name: String::new(),
        aliases,
        summary: summary(&raw.summary.unwrap_or_default(), &raw.details.unwrap_or_default()),
        published: time("published", raw.published.as_deref())?,
        modified: time("modified", raw.modified.as_deref())?,
        withdrawn: time("withdrawn", raw.withdrawn.as_deref())?,
        references: references(raw.references.unwrap_or_default()),
        severity: Vec::new(),
        informational: None,
        ranges: Vec::new(),
        versions: Vec::new(),
    };
    let mut packages: BTreeMap<(Ecosystem, String), Advisory> = BTreeMap::new();
    for affected in raw.affected.unwrap_or_default() {
        let Some(package) = affected.package else { continue };
        sane("the name of a package", &package.name)?;
        sane("an ecosystem", &package.ecosystem)?;
        let ecosystem = Ecosystem::from(package.ecosystem);
        let name = ecosystem.normalise(&package.name);
        let own = packages.entry((ecosystem.clone(), name.clone())).or_insert_with(|| Advisory {
            ecosystem,
            name,
            severity: vectors(raw.severity.as_deref().unwrap_or_default()),
            ..blank.clone()
        });
        own.severity.extend(vectors(affected.severity.as_deref().unwrap_or_default()));
        let specific = affected.database_specific.unwrap_or_default();
        if let Some(vector) = specific.cvss() {
            own.severity.extend(Scheme::of(vector).map(|scheme| Vector::new(scheme, vector)));
        }
        own.informational = own.informational.or(specific.informational());
        for range in affected.ranges.unwrap_or_default() {
            if let Some(events) = range.events()? {
                own.ranges.push(events);
            }
        }
        own.versions.extend(affected.versions.unwrap_or_default());
    }
    packages.into_values().map(tidy).collect()
}

/// Leaves out what is said twice.
fn tidy(mut advisory: Advisory) -> Result<Advisory, String> {
    let mut seen = HashSet::new();
    advisory.severity.retain(|one| seen.insert((one.scheme(), one.text().to_owned())));
    advisory.versions.iter().try_for_each(|version| sane("a version", version))?;
    advisory.versions.sort();
    advisory.versions.dedup();
    let events: usize = advisory.ranges.iter().map(Vec::len).sum();
    if events > MOST_EVENTS {
        return Err(format!("the ranges of {} have more than {MOST_EVENTS} events", advisory.name));
    }
    if (1..=MOST_COMPARISONS).contains(&advisory.versions.len().saturating_mul(events)) {
        let versions = std::mem::take(&mut advisory.versions);
        let ranges = Ranges::of(&advisory);
        let left = versions.into_iter().filter(|version| !ranges.cover(version)).collect();
        advisory.versions = left;
    }
    Ok(advisory)
}

fn sane(what: &str, text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err(format!("{what} is empty"));
    }
    if text.len() > LONGEST || text.chars().any(char::is_control) {
        return Err(format!("{what} is too long or has control characters: `{}`", cut(text)));
    }
    Ok(())
}

fn summary(summary: &str, details: &str) -> String {
    let lines = [summary, details].into_iter().flat_map(str::lines).map(str::trim);
    let line = lines.map(|line| line.trim_start_matches('#').trim_start());
    cut(line.into_iter().find(|line| !line.is_empty()).unwrap_or_default())
}

fn references(mut all: Vec<raw::Reference>) -> Vec<String> {
    all.retain(|one| one.url.len() <= LONGEST && !one.url.chars().any(char::is_control));
    all.sort_by_key(|one| match one.kind.as_str() {
        "ADVISORY" => 0,
        "FIX" => 1,
        "REPORT" | "ARTICLE" => 2,
        "WEB" => 3,
        _ => 4,
    });
    let mut kept: Vec<String> = Vec::new();
    for one in all {
        if kept.len() < MOST_REFERENCES && !kept.contains(&one.url) {
            kept.push(one.url);
        }
    }
    kept
}

/// The vectors of known schemes: other scales, such as a distribution's own words, have no score.
fn vectors(all: &[raw::Severity]) -> Vec<Vector> {
    let known = all.iter().filter_map(|one| {
        let scheme = match one.kind.as_str() {
            "CVSS_V2" => Scheme::V2,
            "CVSS_V3" => Scheme::V3,
            "CVSS_V4" => Scheme::V4,
            _ => return None,
        };
        Some(Vector::new(scheme, &one.score))
    });
    known.collect()
}
