//! A record as it is in JSON. Databases write `null` where they have nothing, so that everything may be absent.

use std::borrow::Cow;

use serde::Deserialize;

use super::{Event, Informational, sane};
use crate::text::cut;

#[derive(Deserialize)]
pub(super) struct Raw<'a> {
    pub(super) schema_version: Option<String>,
    #[serde(borrow)]
    pub(super) id: Cow<'a, str>,
    pub(super) modified: Option<String>,
    pub(super) published: Option<String>,
    pub(super) withdrawn: Option<String>,
    pub(super) aliases: Option<Vec<String>>,
    #[serde(borrow)]
    pub(super) summary: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) details: Option<Cow<'a, str>>,
    pub(super) severity: Option<Vec<Severity>>,
    pub(super) affected: Option<Vec<Affected>>,
    pub(super) references: Option<Vec<Reference>>,
}

#[derive(Deserialize)]
pub(super) struct Severity {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) score: String,
}

#[derive(Deserialize)]
pub(super) struct Reference {
    #[serde(rename = "type", default)]
    pub(super) kind: String,
    pub(super) url: String,
}

#[derive(Deserialize)]
pub(super) struct Affected {
    pub(super) package: Option<Package>,
    pub(super) severity: Option<Vec<Severity>>,
    pub(super) ranges: Option<Vec<Range>>,
    pub(super) versions: Option<Vec<String>>,
    pub(super) database_specific: Option<Specific>,
}

#[derive(Deserialize)]
pub(super) struct Package {
    pub(super) ecosystem: String,
    pub(super) name: String,
}

/// What RustSec adds. Other databases may mean something else by these names, so that any value is read.
#[derive(Deserialize, Default)]
pub(super) struct Specific {
    #[serde(default)]
    cvss: serde_json::Value,
    #[serde(default)]
    informational: serde_json::Value,
}

impl Specific {
    pub(super) fn cvss(&self) -> Option<&str> {
        self.cvss.as_str()
    }

    pub(super) fn informational(&self) -> Option<Informational> {
        match self.informational.as_str()? {
            "unsound" => Some(Informational::Unsound),
            "unmaintained" => Some(Informational::Unmaintained),
            "notice" => Some(Informational::Notice),
            // A word of tomorrow makes nothing harmless.
            _ => None,
        }
    }
}

#[derive(Deserialize)]
pub(super) struct Range {
    #[serde(rename = "type")]
    kind: String,
    events: Option<Vec<RawEvent>>,
}

#[derive(Deserialize)]
struct RawEvent {
    introduced: Option<String>,
    fixed: Option<String>,
    last_affected: Option<String>,
    limit: Option<String>,
}

impl Range {
    /// Its events, or nothing if it is one of commits.
    pub(super) fn events(self) -> Result<Option<Vec<Event>>, String> {
        match self.kind.as_str() {
            "GIT" => return Ok(None),
            "ECOSYSTEM" | "SEMVER" => {}
            other => return Err(format!("ranges of type `{}` are not known", cut(other))),
        }
        let events = self.events.unwrap_or_default();
        let events: Vec<Event> =
            events.into_iter().map(RawEvent::read).collect::<Result<_, _>>()?;
        if !events.iter().any(|event| matches!(event, Event::Introduced(_))) {
            return Err("a range does not say where it begins".to_owned());
        }
        Ok(Some(events))
    }
}

impl RawEvent {
    fn read(self) -> Result<Event, String> {
        let (event, version) = match (self.introduced, self.fixed, self.last_affected, self.limit) {
            (Some(version), None, None, None) => (Event::Introduced as fn(_) -> _, version),
            (None, Some(version), None, None) => (Event::Fixed as fn(_) -> _, version),
            (None, None, Some(version), None) => (Event::LastAffected as fn(_) -> _, version),
            (None, None, None, Some(version)) => (Event::Limit as fn(_) -> _, version),
            _ => return Err("an event of a range is not exactly one of the known four".to_owned()),
        };
        sane("a version of a range", &version)?;
        Ok(event(version))
    }
}
