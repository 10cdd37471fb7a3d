//! Segments that other hosts have archived in the same place: found by their names, known by their manifests.
//!
//! Nothing of them is in the catalogue. The archive's list has a type's segments with host, first line and number; when
//! the last line was stands in each manifest, which is read once and remembered, since it never changes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard};

use futures_util::StreamExt;
use genesis_storage::{SegmentRecord, SegmentState};

use super::inventory::{read_manifest, record_of};
use super::rebuild::may_be_named;
use super::segment::{DateRange, TimestampFormat};
use super::{Logs, plan, timestamp};
use crate::error::{Error, Result};

/// So many segments of a type are looked at in one retrieval.
const SEGMENTS: usize = 200_000;
/// So many manifests are read at a time.
const READING: usize = 16;
/// So many segments are remembered.
const REMEMBERED: usize = 20_000;

/// Whose lines are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whose {
    /// This host's.
    Own,
    /// Those of the host with this name.
    Host(String),
    /// Those of every host that has archived here.
    All,
}

impl Whose {
    /// As it is asked for: empty, `*`, or a name.
    pub fn parse(text: &str) -> Self {
        match text {
            "" => Self::Own,
            "*" => Self::All,
            name => Self::Host(plan::host_part(name)),
        }
    }
}

/// What another host has archived of a type within a range.
#[derive(Debug, Default)]
pub(super) struct Elsewhere {
    /// Its segments, by number.
    pub(super) segments: Vec<(SegmentRecord, TimestampFormat)>,
    /// Segments of which nothing is known: their number, their name, and why.
    pub(super) unknown: Vec<(u64, String, Error)>,
    /// The identities of the hosts that have this name.
    pub(super) identities: BTreeSet<String>,
}

/// A segment as its manifest tells of it.
#[derive(Debug, Clone)]
struct Known {
    record: SegmentRecord,
    format: String,
    host_id: String,
}

/// What manifests of other hosts have told.
#[derive(Default)]
pub(super) struct Memory(Mutex<HashMap<String, Known>>);

impl Memory {
    fn held(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        // Each change of it is complete in itself, so a panic elsewhere does not spoil it.
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn get(&self, name: &str) -> Option<Known> {
        self.held().get(name).cloned()
    }

    fn put(&self, name: &str, known: &Known) {
        let mut held = self.held();
        if held.len() >= REMEMBERED
            && let Some(any) = held.keys().next().cloned()
        {
            held.remove(&any);
        }
        held.insert(name.to_owned(), known.clone());
    }
}

/// What can't be trusted of who wrote what: one identity under several names, several under one name.
pub(super) fn doubtful(identities: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let mut names: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut warnings = Vec::new();
    for (name, ids) in identities {
        if ids.len() > 1 {
            let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
            warnings.push(format!("{} hosts have the name {name}: {}", ids.len(), ids.join(", ")));
        }
        for id in ids {
            names.entry(id).or_default().push(name);
        }
    }
    let several = names.into_iter().filter(|(_, names)| names.len() > 1);
    warnings.extend(several.map(|(id, names)| {
        format!(
            "{} have one identity, {id}: a host that was renamed, or a copy of one",
            names.join(" and ")
        )
    }));
    warnings
}

impl Logs {
    /// What others have archived of a type within a range, by host. It reads the manifest of each segment that begins
    /// before the end of the range, once; `gone` says that nobody waits for it any more.
    ///
    /// # Errors
    /// `ARCHIVE_UNAVAILABLE`; `LOG_TYPE_UNKNOWN` where nobody has archived anything of the type; `HOST_UNKNOWN`;
    /// `ARCHIVE_TOO_LARGE`.
    pub(super) async fn elsewhere(
        &self,
        log_type: &str,
        range: DateRange,
        (whose, gone): (&Whose, &(dyn Fn() -> bool + Sync)),
    ) -> Result<BTreeMap<String, Elsewhere>> {
        may_be_named(log_type)?;
        let archive = self.archive()?;
        let own = plan::host_part(&self.host.name);
        // Under the name of this host, what the catalogue does not know: another host has the name, or the database was lost.
        let (ours, _) = self.known(log_type)?;
        let (mut hosts, mut found) = (BTreeSet::new(), BTreeMap::new());
        archive
            .names(&format!("{log_type}/"), |name, _| {
                let (place, manifest) =
                    match (name.strip_suffix(".log.gz"), name.strip_suffix(".manifest.json")) {
                        (Some(place), _) => (place, false),
                        (_, Some(place)) => (place, true),
                        _ => return Ok(()),
                    };
                let Some(of) = plan::parse_any_archive_name(place) else { return Ok(()) };
                if of.log_type != log_type {
                    return Ok(());
                }
                if !hosts.contains(of.host) {
                    hosts.insert(of.host.to_owned());
                }
                let asked = match whose {
                    Whose::Own => false,
                    Whose::Host(name) => name == of.host,
                    Whose::All => true,
                };
                let wanted = asked && (of.host != own || !ours.contains(place));
                // What begins behind the range has nothing in it.
                if wanted && of.first_at < timestamp(range.until) {
                    let entry = found.entry(place.to_owned()).or_insert((of.sequence, false));
                    entry.1 |= manifest;
                }
                if found.len() > SEGMENTS {
                    let message = format!(
                        "more than {SEGMENTS} segments of {log_type} begin before the end of the range: name one host"
                    );
                    return Err(Error::invalid("ARCHIVE_TOO_LARGE", message));
                }
                Ok(())
            })
            .await?;
        // Where only this host has lines of the type, and has archived none yet, there is nothing to add.
        let own_only = match whose {
            Whose::Host(name) => *name == own,
            _ => true,
        } && self.known_type(log_type).is_ok();
        if hosts.is_empty() && !own_only {
            let message =
                format!("nobody has archived anything of {log_type:?} in {}", archive.url());
            return Err(Error::not_found("LOG_TYPE_UNKNOWN", message));
        }
        if let Whose::Host(name) = whose
            && !hosts.contains(name)
            && !own_only
        {
            let hosts: Vec<&str> = hosts.iter().map(String::as_str).take(20).collect();
            let message = format!(
                "no host {name:?} has archived {log_type} in {}; there are: {}",
                archive.url(),
                hosts.join(", ")
            );
            return Err(Error::not_found("HOST_UNKNOWN", message));
        }
        self.told_by_manifests(range, found, gone).await
    }

    async fn told_by_manifests(
        &self,
        range: DateRange,
        found: BTreeMap<String, (u64, bool)>,
        gone: &(dyn Fn() -> bool + Sync),
    ) -> Result<BTreeMap<String, Elsewhere>> {
        let mut by_host: BTreeMap<String, Elsewhere> = BTreeMap::new();
        let each = found.into_iter().map(|(name, (sequence, manifest))| async move {
            let known = self.foreign(&name, manifest).await;
            (name, sequence, known)
        });
        let mut each = futures_util::stream::iter(each).buffered(READING);
        let (from, until) = (timestamp(range.from), timestamp(range.until));
        while let Some((name, sequence, known)) = each.next().await {
            if gone() {
                return Err(Error::cancelled());
            }
            let host = plan::parse_any_archive_name(&name).map_or("", |of| of.host).to_owned();
            let entry = by_host.entry(host).or_default();
            let known = match known {
                Ok(known) => known,
                // An archive that does not answer is no gap.
                Err(error) if error.code == "ARCHIVE_UNAVAILABLE" => return Err(error),
                Err(error) => {
                    entry.unknown.push((sequence, name, error));
                    continue;
                }
            };
            entry.identities.insert(known.host_id);
            let (first, last) = (known.record.first_at, known.record.last_at);
            if !first.zip(last).is_some_and(|(first, last)| first < until && last >= from) {
                continue;
            }
            match known.format.parse() {
                Ok(format) => entry.segments.push((known.record, format)),
                Err(why) => {
                    let error = Error::internal("MANIFEST_DAMAGED", why);
                    entry.unknown.push((sequence, name, error));
                }
            }
        }
        for entry in by_host.values_mut() {
            entry.segments.sort_by_key(|(record, _)| record.sequence);
        }
        Ok(by_host)
    }

    async fn foreign(&self, name: &str, manifest: bool) -> Result<Known> {
        if let Some(known) = self.elsewhere.get(name) {
            return Ok(known);
        }
        if !manifest {
            let message = format!("{name}.log.gz has no manifest beside it");
            return Err(Error::not_found("MANIFEST_MISSING", message));
        }
        let (manifest, sha256) = read_manifest(&self.archive()?, name).await?;
        let mut record = record_of(&manifest, sha256, name)?;
        // There is no copy of it here.
        record.state = SegmentState::LocalExpired;
        let known = Known { record, format: manifest.timestamp_format, host_id: manifest.host_id };
        self.elsewhere.put(name, &known);
        Ok(known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_identities_that_do_not_go_together_are_told() {
        let of = |pairs: &[(&str, &[&str])]| {
            let each = pairs.iter().map(|(name, ids)| {
                ((*name).to_owned(), ids.iter().map(|id| (*id).to_owned()).collect())
            });
            doubtful(&each.collect())
        };
        assert!(of(&[("web-1", &["a"]), ("web-2", &["b"]), ("web-3", &[])]).is_empty());
        assert_eq!(of(&[("web-1", &["a", "b"])]), ["2 hosts have the name web-1: a, b"]);
        assert_eq!(
            of(&[("web-1", &["a"]), ("web-2", &["a"])]),
            ["web-1 and web-2 have one identity, a: a host that was renamed, or a copy of one"]
        );
    }
}
