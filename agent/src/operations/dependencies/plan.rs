//! What is decided of data and findings. Pure.

use std::time::Duration;

use genesis_advisories::finding::{Finding, Kind};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::config::Ignored;
use crate::config::units::human;

/// The name of the source of vulnerabilities that use is made of.
pub const KEV: &str = "kev";
/// And of the likelihoods.
pub const EPSS: &str = "epss";

/// What was imported of an ecosystem, of KEV or of EPSS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// So many records.
    pub records: u64,
    /// The file's name.
    pub file: String,
    /// Its date, in seconds since 1970.
    pub file_at: i64,
    /// The newest date in it.
    pub newest_at: Option<i64>,
    /// When it was imported.
    pub imported_at: i64,
    /// Names its content.
    pub digest: String,
}

/// Whether data is recent enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataState {
    /// It is.
    Checked,
    /// It is not.
    Stale,
    /// There is none.
    NotChecked,
}

/// How old data may be.
#[derive(Debug, Clone, Copy)]
pub struct Ages {
    /// The file.
    pub file: Duration,
    /// Its newest record.
    pub newest: Duration,
}

/// Whether a source says something at a time, and why not.
pub fn judge(source: Option<&Source>, ages: Ages, now: Timestamp) -> (DataState, String) {
    let Some(source) = source else {
        return (DataState::NotChecked, "it was never imported".to_owned());
    };
    let older = |at: i64, most: Duration| {
        now.as_second().saturating_sub(at) > i64::try_from(most.as_secs()).unwrap_or(i64::MAX)
    };
    let day =
        |at: i64| Timestamp::from_second(at).map_or_else(|_| "?".to_owned(), |it| it.to_string());
    if older(source.file_at, ages.file) {
        let why = format!(
            "its file is of {}, and says nothing after {}",
            day(source.file_at),
            human(ages.file)
        );
        return (DataState::Stale, why);
    }
    match source.newest_at {
        Some(newest) if older(newest, ages.newest) => {
            let why = format!("its newest record is of {}: is it still looked after?", day(newest));
            (DataState::Stale, why)
        }
        _ => (DataState::Checked, String::new()),
    }
}

/// Whether records may take the place of what was there.
///
/// # Errors
/// A code and why not.
pub fn accept(
    name: &str,
    before: Option<&Source>,
    records: u64,
) -> Result<(), (&'static str, String)> {
    if records == 0 {
        return Err(("ADVISORIES_FEWER", format!("there is no record of {name} in it")));
    }
    match before {
        Some(before) if records.saturating_mul(2) <= before.records => {
            let message = format!(
                "{records} records of {name} would take the place of {}: half of them or more would be gone. Is the file whole?",
                before.records
            );
            Err(("ADVISORIES_FEWER", message))
        }
        _ => Ok(()),
    }
}

/// The entry by which a finding is ignored at a time.
pub fn ignored<'a>(
    finding: &Finding,
    entries: &'a [Ignored],
    now: Timestamp,
) -> Option<&'a Ignored> {
    let names = |entry: &&Ignored| finding.ids.iter().any(|id| id.eq_ignore_ascii_case(&entry.id));
    entries.iter().filter(names).find(|entry| now < entry.until)
}

/// What a scan came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing was found.
    Pass,
    /// Something was.
    Findings,
    /// Not all could be judged.
    Unknown,
}

/// The verdict of findings, each with whether it is ignored, and of how much could not be judged. That a package is not
/// looked after any more, or can be misused, is worth knowing, and no vulnerability.
pub fn verdict<'a>(
    findings: impl IntoIterator<Item = (&'a Finding, bool)>,
    judged: usize,
    unjudged: usize,
) -> Verdict {
    let (mut found, mut doubtful) = (false, unjudged > 0 || judged == 0);
    for (finding, ignored) in findings {
        if finding.kind == Kind::Vulnerability && !ignored {
            found = true;
            doubtful |= !finding.certain;
        }
    }
    match (doubtful, found) {
        (true, _) => Verdict::Unknown,
        (false, true) => Verdict::Findings,
        (false, false) => Verdict::Pass,
    }
}
