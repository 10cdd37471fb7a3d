//! What the advisories of a package come to: one finding for each problem, and the nearest version without any.
//!
//! Databases report one problem under several ids. Those of the advisories that affect a version are one finding if
//! they share an id or alias, or are joined by others that do. It is shown by the best known of its ids: that of CVE,
//! then of GHSA, PYSEC and RUSTSEC, then any other; of several, the first in the order of letters.

mod groups;
#[cfg(test)]
mod tests;

use groups::groups;
use serde::{Deserialize, Serialize};

use crate::Ecosystem;
use crate::affected::{Ranges, Verdict};
use crate::epss::Likelihood;
use crate::kev::{Exploited, is_cve};
use crate::osv::{Advisory, Informational};
use crate::severity::{Severity, rate};
use crate::version::Version;

/// An installed or locked package.
#[derive(Debug, Clone, Copy)]
pub struct Package<'a> {
    /// Where it is from.
    pub ecosystem: &'a Ecosystem,
    /// Its name, in any spelling.
    pub name: &'a str,
    /// Its version.
    pub version: &'a str,
}

/// Finds what is known of an id of CVE.
pub type LookUp<'a, T> = &'a dyn Fn(&str) -> Option<T>;

/// How a caller looks up what is known of a problem by its id of CVE. Nothing in place of a look-up means that there is
/// no such data.
#[derive(Clone, Copy, Default)]
pub struct Known<'a> {
    /// In the catalogue of exploited vulnerabilities.
    pub exploited: Option<LookUp<'a, Exploited>>,
    /// In the scores of EPSS.
    pub likelihood: Option<LookUp<'a, Likelihood>>,
}

/// One problem of a package.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// The id to show.
    pub id: String,
    /// All ids and aliases, the one to show first.
    pub ids: Vec<String>,
    /// Where the package is from.
    pub ecosystem: Ecosystem,
    /// The name of the package, normalised.
    pub package: String,
    /// The version that was looked at.
    pub version: String,
    /// What kind of problem it is.
    pub kind: Kind,
    /// False if no advisory could be compared with the version, so that it may be affected or not.
    pub certain: bool,
    /// The ranges that the version is in, or else what stands in the way of telling.
    pub why: Vec<String>,
    /// The smallest version above at which all of the advisories say that it is fixed.
    pub fixed_in: Option<String>,
    /// How bad it is.
    pub severity: Severity,
    /// Whether it is known to be exploited. Nothing without a catalogue, or without an id of CVE to look up.
    pub exploited: Option<bool>,
    /// What the catalogue says of it.
    pub exploitation: Option<Exploited>,
    /// How likely it is to be exploited: the highest of its ids.
    pub likelihood: Option<Likelihood>,
    /// One line.
    pub summary: String,
    /// Where more is found.
    pub references: Vec<String>,
    /// When it was first published, in seconds since 1970.
    pub published: Option<i64>,
}

/// What a finding is about. A problem is a vulnerability if any of its advisories says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A vulnerability.
    Vulnerability,
    /// Safe code can break the rules of memory.
    Unsound,
    /// Nobody looks after it.
    Unmaintained,
    /// Anything else worth knowing.
    Notice,
}

impl Kind {
    fn of(advisory: &Advisory) -> Self {
        match advisory.informational {
            None => Self::Vulnerability,
            Some(Informational::Unsound) => Self::Unsound,
            Some(Informational::Unmaintained) => Self::Unmaintained,
            Some(Informational::Notice) => Self::Notice,
        }
    }
}

/// The findings of a package, in the order of [`sort`]. Advisories of other packages are passed over.
pub fn findings(package: Package<'_>, advisories: &[Advisory], known: Known<'_>) -> Vec<Finding> {
    let name = package.ecosystem.normalise(package.name);
    let read = Version::read(package.ecosystem, package.version);
    let mut concerning = Vec::new();
    for advisory in advisories {
        if advisory.ecosystem != *package.ecosystem || advisory.name != name {
            continue;
        }
        let ranges = Ranges::of(advisory);
        match ranges.verdict(package.version, read.as_ref()) {
            Verdict::NotAffected => {}
            verdict => concerning.push((ranges, verdict)),
        }
    }
    let ids: Vec<_> = concerning.iter().map(|(ranges, _)| all_ids(ranges.advisory())).collect();
    let mut found: Vec<Finding> = groups(&ids)
        .into_iter()
        .map(|group| {
            let mut members: Vec<_> = group.iter().filter_map(|at| concerning.get(*at)).collect();
            members.sort_by_key(|(ranges, _)| preference(&ranges.advisory().id));
            join(package, &name, read.as_ref().ok(), &members, known)
        })
        .collect();
    sort(&mut found);
    found
}

/// Sorts findings: exploited ones first, then by severity from the worst, then by kind, package and id.
pub fn sort(findings: &mut [Finding]) {
    let key = |finding: &Finding| {
        let score = finding.severity.score.unwrap_or(-1.0);
        (finding.exploited != Some(true), std::cmp::Reverse(finding.severity.rating), -score)
    };
    findings.sort_by(|one, other| {
        let (first, second) = (key(one), key(other));
        (first.0, first.1).cmp(&(second.0, second.1)).then(first.2.total_cmp(&second.2)).then_with(
            || {
                (one.kind, &one.package, &one.id, &one.version).cmp(&(
                    other.kind,
                    &other.package,
                    &other.id,
                    &other.version,
                ))
            },
        )
    });
}

/// The smallest version that is not below the installed one and that no advisory affects: the installed one itself if
/// it is safe, else one of `candidates`. Versions before a release, or with a label, only if the installed one is such.
///
/// Only vulnerabilities count: that a crate is unmaintained is true of all its versions. Where an advisory can't be
/// compared with a version, that version is not safe. Nothing if the installed version has no order.
pub fn safe_version(
    package: Package<'_>,
    candidates: &[&str],
    advisories: &[Advisory],
) -> Option<String> {
    let installed = Version::read(package.ecosystem, package.version).ok()?;
    let name = package.ecosystem.normalise(package.name);
    let against: Vec<Ranges<'_>> = advisories
        .iter()
        .filter(|advisory| advisory.ecosystem == *package.ecosystem && advisory.name == name)
        .filter(|advisory| advisory.informational.is_none())
        .map(Ranges::of)
        .collect();
    let mut above: Vec<(Version, &str)> = candidates
        .iter()
        .filter_map(|text| Some((Version::read(package.ecosystem, text).ok()?, *text)))
        .filter(|(version, _)| *version > installed && version.fits(&installed))
        .collect();
    above.sort_by(|(one, _), (other, _)| one.cmp(other));
    let own = std::iter::once((installed, package.version));
    own.chain(above)
        .find(|(version, text)| against.iter().all(|ranges| ranges.clears(text, version)))
        .map(|(_, text)| text.to_owned())
}

/// One finding of the advisories that are about one problem, the best known first.
fn join(
    package: Package<'_>,
    name: &str,
    version: Option<&Version>,
    members: &[&(Ranges<'_>, Verdict)],
    known: Known<'_>,
) -> Finding {
    let advisories = || members.iter().map(|(ranges, _)| ranges.advisory());
    let mut ids: Vec<String> = advisories().flat_map(all_ids).map(str::to_owned).collect();
    ids.sort_by(|one, other| preference(one).cmp(&preference(other)));
    ids.dedup();

    let (mut affected, mut unknown) = (Vec::new(), Vec::new());
    for (_, verdict) in members {
        match verdict {
            Verdict::Affected { why, .. } if !affected.contains(why) => affected.push(why.clone()),
            Verdict::Unknown { why } if !unknown.contains(why) => unknown.push(why.clone()),
            _ => {}
        }
    }
    let certain = !affected.is_empty();
    let fixed_in = version.filter(|_| certain).and_then(|version| fixed_by_all(version, members));

    let cves = || ids.iter().filter(|id| is_cve(id)).map(String::as_str);
    // Of several, the one that was added first.
    let exploitation = known
        .exploited
        .and_then(|look_up| cves().filter_map(look_up).min_by_key(|exploited| exploited.added));
    let exploited =
        (known.exploited.is_some() && cves().next().is_some()).then_some(exploitation.is_some());
    let likelihood = known.likelihood.and_then(|look_up| {
        let all = cves().filter_map(look_up);
        all.max_by(|one, other| one.probability.total_cmp(&other.probability))
    });

    let mut references: Vec<String> = Vec::new();
    for reference in advisories().flat_map(|advisory| &advisory.references) {
        if !references.contains(reference) {
            references.push(reference.clone());
        }
    }
    let summary = advisories().map(|advisory| &advisory.summary).find(|line| !line.is_empty());
    Finding {
        id: ids.first().cloned().unwrap_or_default(),
        ids,
        ecosystem: package.ecosystem.clone(),
        package: name.to_owned(),
        version: package.version.to_owned(),
        kind: advisories().map(Kind::of).min().unwrap_or(Kind::Vulnerability),
        certain,
        why: if certain { affected } else { unknown },
        fixed_in,
        severity: rate(advisories().flat_map(|advisory| &advisory.severity)),
        exploited,
        exploitation,
        likelihood,
        summary: summary.cloned().unwrap_or_default(),
        references,
        published: advisories().filter_map(|advisory| advisory.published).min(),
    }
}

fn fixed_by_all(version: &Version, members: &[&(Ranges<'_>, Verdict)]) -> Option<String> {
    let mut fixes: Vec<&(Version, &str)> =
        members.iter().flat_map(|(ranges, _)| ranges.fixes_above(version)).collect();
    fixes.sort_by(|(one, _), (other, _)| one.cmp(other));
    let clear = |(fix, text): &&&(Version, &str)| {
        members.iter().all(|(ranges, _)| ranges.clears(text, fix))
    };
    fixes.iter().find(clear).map(|(_, text)| (*text).to_owned())
}

fn all_ids(advisory: &Advisory) -> Vec<&str> {
    let own = std::iter::once(&advisory.id);
    own.chain(&advisory.aliases).map(String::as_str).collect()
}

/// Where an id stands among those of one problem.
fn preference(id: &str) -> (u8, &str) {
    let rank = match id.split('-').next() {
        Some("CVE") => 0,
        Some("GHSA") => 1,
        Some("PYSEC") => 2,
        Some("RUSTSEC") => 3,
        _ => 4,
    };
    (rank, id)
}
