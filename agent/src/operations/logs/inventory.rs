//! What there is of this host's segments in the archive, in the folder of local copies, and beside the logs; and
//! what of it the catalogue does not know.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use genesis_storage::{SegmentRecord, SourceRecord};

use super::segment::{MAX_MANIFEST_BYTES, Manifest};
use super::{Logs, blocking, new_segment, new_source, plan, timestamp};
use crate::error::{Error, Result};
use crate::outside::{Archive, files};

/// So many of the newest manifests are looked at for the end of the chain.
const NEWEST: usize = 8;

/// What the archive, or the folder of local copies, holds of one segment.
#[derive(Debug, Clone, Default)]
pub(super) struct Found {
    pub(super) sequence: u64,
    /// There is a manifest; without one nothing can be known.
    pub(super) manifest: bool,
}

/// Segments by their place in the archive.
pub(super) type Places = BTreeMap<String, Found>;

/// What was learnt of a type from the manifests that were read.
#[derive(Default)]
pub(super) struct Learnt {
    pub(super) next_sequence: u64,
    /// Chain index and sha256 of the newest manifest.
    pub(super) head: Option<(u64, String)>,
    /// Chain index and the time in force at the end, by source path.
    pub(super) ended: BTreeMap<String, (u64, i64)>,
}

impl Learnt {
    pub(super) fn see(&mut self, manifest: &Manifest, sha256: &str) {
        self.next_sequence = self.next_sequence.max(manifest.sequence.saturating_add(1));
        if self.head.as_ref().is_none_or(|(index, _)| *index < manifest.chain_index) {
            self.head = Some((manifest.chain_index, sha256.to_owned()));
        }
        if let Some(at) = manifest.ended_at {
            let known = self.ended.entry(manifest.source_path.clone()).or_default();
            if known.0 <= manifest.chain_index {
                *known = (manifest.chain_index, at);
            }
        }
    }

    pub(super) fn apply(&self, source: &mut SourceRecord) {
        source.next_sequence = source.next_sequence.max(self.next_sequence);
        if let Some((index, sha256)) = self.head.as_ref().filter(|_| source.chain_head.is_empty()) {
            source.next_chain_index = index + 1;
            source.chain_head = sha256.clone();
        }
        for (path, (_, at)) in &self.ended {
            let stream = source.streams.entry(path.clone()).or_default();
            stream.last_at = stream.last_at.or(Some(timestamp(*at)));
        }
    }
}

/// What the catalogue does not know of a type.
#[derive(Default)]
pub(super) struct Missing {
    pub(super) archived: Places,
    pub(super) local: Places,
    pub(super) orphans: Vec<(PathBuf, u64)>,
}

impl Missing {
    pub(super) fn count(&self) -> usize {
        self.archived.len() + self.local.len() + self.orphans.len()
    }
}

impl Logs {
    /// The record of a type that the catalogue does not know yet. Where the archive has segments of this type
    /// and host, numbers and chain go on behind them: the database may have been lost.
    pub(super) async fn first_source(&self, log_type: &str) -> Result<SourceRecord> {
        let mut source = new_source(log_type);
        let listed = match self.archive() {
            Ok(archive) => self.places_in(&archive, log_type).await,
            Err(error) => Err(error),
        };
        let places = match listed {
            Ok(mut places) => places.remove(log_type).unwrap_or_default(),
            Err(error) => {
                // Numbers that nobody has counted up to, so that nothing in the archive has one of them.
                let now = self.outside.clock.now().as_second();
                source.next_sequence = u64::try_from(now).unwrap_or(1).max(1);
                tracing::warn!(
                    log_type,
                    first = source.next_sequence,
                    error = error.chain(),
                    "the archive can't be looked at, so numbering begins with the time"
                );
                return Ok(source);
            }
        };
        let mut learnt = Learnt::default();
        let mut newest: Vec<(&String, &Found)> = places.iter().collect();
        newest.sort_by_key(|(_, found)| std::cmp::Reverse(found.sequence));
        if let Some((_, found)) = newest.first() {
            learnt.next_sequence = found.sequence.saturating_add(1);
        }
        let archive = self.archive()?;
        for (name, _) in newest.into_iter().filter(|(_, found)| found.manifest).take(NEWEST) {
            if let Ok((manifest, sha256)) = read_manifest(&archive, name).await {
                learnt.see(&manifest, &sha256);
            }
        }
        for (_, found) in self.orphans(log_type) {
            learnt.next_sequence = learnt.next_sequence.max(found.saturating_add(1));
        }
        learnt.apply(&mut source);
        Ok(source)
    }

    /// This host's segments in the archive, of one type or all, by type.
    async fn places_in(
        &self,
        archive: &Archive,
        log_type: &str,
    ) -> Result<BTreeMap<String, Places>> {
        let mut found: BTreeMap<String, Places> = BTreeMap::new();
        let prefix = if log_type.is_empty() { String::new() } else { format!("{log_type}/") };
        archive
            .names(&prefix, |name, _| {
                note(&mut found, name, &self.host.name);
                Ok(())
            })
            .await?;
        Ok(found)
    }

    /// This host's sealed segments in the folder of local copies, by type.
    async fn places_here(&self) -> Result<BTreeMap<String, Places>> {
        let (root, host) = (self.config().local_dir.clone(), self.host.name.clone());
        blocking(move || {
            let mut found = BTreeMap::new();
            files::walk(&root, &mut |path| {
                if let Some(name) = path.strip_prefix(&root).ok().and_then(Path::to_str) {
                    note(&mut found, name, &host);
                }
            })
            .map_err(|error| {
                let failed = format!("can't look through {}", root.display());
                Error::unavailable("LOCAL_READ_FAILED", failed).caused_by(error)
            })?;
            Ok(found)
        })
        .await
    }

    /// Renamed logs beside the configured ones of a type, with the numbers in their names.
    fn orphans(&self, log_type: &str) -> Vec<(PathBuf, u64)> {
        let config = self.config();
        let Some(source) = config.source(log_type) else { return Vec::new() };
        let mut found = BTreeSet::new();
        for pattern in &source.paths {
            let wide = format!("{pattern}.*{}", plan::DETACHED_SUFFIX);
            let matching = files::matching(&wide).map(|found| found.paths).unwrap_or_default();
            found.extend(
                matching
                    .into_iter()
                    .filter_map(|path| plan::detached_number(&path).map(|number| (path, number))),
            );
        }
        found.into_iter().collect()
    }

    /// What the catalogue has of a type: places and numbers.
    pub(super) fn known(&self, log_type: &str) -> Result<(BTreeSet<String>, BTreeSet<u64>)> {
        let (mut names, mut numbers) = (BTreeSet::new(), BTreeSet::new());
        self.state.read(|reading| {
            reading.segments().for_each(Some(log_type), |segment| {
                numbers.insert(segment.sequence);
                names.insert(segment.archive_name);
                std::ops::ControlFlow::Continue(())
            })?;
            Ok(())
        })?;
        Ok((names, numbers))
    }

    /// The places, and the renamed logs, that the catalogue does not know, by type.
    pub(super) async fn unknown_to_the_catalogue(
        &self,
        log_type: &str,
    ) -> Result<BTreeMap<String, Missing>> {
        let mut missing: BTreeMap<String, Missing> = BTreeMap::new();
        let archived = self.places_in(&self.archive()?, log_type).await?;
        let local = self.places_here().await?;
        for (of, places) in archived {
            missing.entry(of).or_default().archived = places;
        }
        for (of, places) in local {
            let missing = missing.entry(of).or_default();
            missing.local = places;
            missing.local.retain(|name, _| !missing.archived.contains_key(name));
        }
        for source in &self.config().sources {
            let orphans = self.orphans(&source.log_type);
            missing.entry(source.log_type.clone()).or_default().orphans = orphans;
        }
        missing.retain(|of, _| log_type.is_empty() || of == log_type);
        for (of, missing) in &mut missing {
            let (names, numbers) = self.known(of)?;
            missing.archived.retain(|name, _| !names.contains(name));
            // One that is being sealed right now has its number, and no name yet.
            missing
                .local
                .retain(|name, found| !names.contains(name) && !numbers.contains(&found.sequence));
            missing.orphans.retain(|(_, number)| !numbers.contains(number));
        }
        missing.retain(|_, missing| missing.count() > 0);
        Ok(missing)
    }
}

/// Notes a file if it is part of a segment of this host.
fn note(found: &mut BTreeMap<String, Places>, name: &str, hostname: &str) {
    let (place, manifest) =
        match (name.strip_suffix(".log.gz"), name.strip_suffix(".manifest.json")) {
            (Some(place), _) => (place, false),
            (_, Some(place)) => (place, true),
            _ => return,
        };
    if let Some((log_type, sequence)) = plan::parse_archive_name(place, hostname) {
        let places = found.entry(log_type.to_owned()).or_default();
        let entry = places.entry(place.to_owned()).or_default();
        entry.sequence = sequence;
        entry.manifest |= manifest;
    }
}

pub(super) async fn read_manifest(archive: &Archive, name: &str) -> Result<(Manifest, String)> {
    let object = format!("{name}.manifest.json");
    match archive.read_small(&object, MAX_MANIFEST_BYTES as u64).await? {
        Some(bytes) => parse_manifest(&bytes, name),
        None => Err(Error::not_found("MANIFEST_MISSING", format!("{object} is gone"))),
    }
}

pub(super) fn parse_manifest(bytes: &[u8], name: &str) -> Result<(Manifest, String)> {
    let sha256 = Manifest::sha256_of(bytes).to_string();
    let manifest = Manifest::from_bytes(bytes).map_err(|error| {
        Error::internal("MANIFEST_DAMAGED", format!("the manifest of {name} can't be used"))
            .caused_by(error)
    })?;
    Ok((manifest, sha256))
}

/// What the manifest at `name` says of its segment.
///
/// # Errors
/// `MANIFEST_DAMAGED`: it is another one's.
pub(super) fn record_of(manifest: &Manifest, sha256: String, name: &str) -> Result<SegmentRecord> {
    let first = manifest.first_at.map(timestamp).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let place =
        plan::archive_name(&manifest.hostname, &manifest.log_type, first, manifest.sequence);
    if place != name {
        let message = format!("the manifest of {name} is that of {place}");
        return Err(Error::internal("MANIFEST_DAMAGED", message));
    }
    let source_path = manifest.source_path.clone();
    Ok(SegmentRecord {
        detached_path: String::new(),
        initial_at: manifest.initial_at.map(timestamp),
        first_at: manifest.first_at.map(timestamp),
        last_at: manifest.last_at.map(timestamp),
        lines: manifest.lines,
        members: manifest.members.len() as u64,
        plain_bytes: manifest.plain_bytes,
        compressed_bytes: manifest.compressed_bytes,
        sha256: manifest.sha256.to_string(),
        manifest_sha256: sha256,
        chain_index: Some(manifest.chain_index),
        archive_name: name.to_owned(),
        sealed_at: Some(timestamp(manifest.sealed_at)),
        ..new_segment(&manifest.log_type, manifest.sequence, source_path, (0, 0))
    })
}
