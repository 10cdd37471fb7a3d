//! Checks what is archived against what was recorded: manifests, chain, hashes, and every member.

use std::collections::BTreeMap;
use std::sync::Arc;

use genesis_storage::{SegmentRecord, SegmentState};
use tokio::sync::mpsc;

use super::segment::{MAX_MANIFEST_BYTES, Manifest, inflate_member};
use super::{Logs, blocking};
use crate::error::{Error, Result, Unmet};
use crate::outside::Archive;
use crate::runs::Progress;

/// How deep to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depth {
    /// Manifests, chain, presence and size.
    Manifest,
    /// And the hash of each file.
    Hash,
    /// And each member, decompressed.
    Full,
}

/// One part of a verification.
#[derive(Debug)]
pub enum Part {
    /// Something is wrong.
    Finding(Unmet),
    /// How far it is.
    Progress(Progress),
    /// How it ended; last.
    Summary(Summary),
}

/// How a verification ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Segments looked at.
    pub segments: u64,
    /// Their compressed bytes.
    pub compressed_bytes: u64,
    /// Things found wrong.
    pub findings: u64,
    /// Segments that could not be looked at.
    pub unknown: u64,
}

/// What came of one segment.
enum Verdict {
    Sound(Option<Manifest>),
    Wrong(Unmet, Option<Manifest>),
    Unknown(Unmet),
}

impl Logs {
    /// Verifies the archive of one type, or of all when it is empty, and sends what it finds to `to`.
    ///
    /// # Errors
    /// `STORAGE_FAILED`; damage is a finding, not an error.
    pub async fn verify(
        self: Arc<Self>,
        log_type: &str,
        depth: Depth,
        to: mpsc::Sender<Result<Part>>,
    ) -> Result<()> {
        let filter = (!log_type.is_empty()).then_some(log_type);
        let mut segments: Vec<SegmentRecord> = Vec::new();
        self.state.read(|reading| {
            reading.segments().for_each(filter, |segment| {
                if segment.state >= SegmentState::Uploaded {
                    segments.push(segment);
                }
                std::ops::ControlFlow::Continue(())
            })?;
            Ok(())
        })?;
        // The order of the chain: each manifest names the one before it.
        segments.sort_by_key(|segment| (segment.log_type.clone(), segment.chain_index));
        let mut summary = Summary::default();
        let total = segments.len() as u64;
        let mut chain: BTreeMap<String, (u64, String)> = BTreeMap::new();
        for segment in segments {
            let before = chain.insert(
                segment.log_type.clone(),
                (segment.chain_index.unwrap_or(0), segment.manifest_sha256.clone()),
            );
            if segment.state == SegmentState::ArchiveExpired {
                continue;
            }
            summary.segments += 1;
            summary.compressed_bytes += segment.compressed_bytes;
            let (finding, manifest) = match self.look_at(&segment, depth).await {
                Verdict::Sound(manifest) => (None, manifest),
                Verdict::Wrong(unmet, manifest) => {
                    summary.findings += 1;
                    (Some(unmet), manifest)
                }
                Verdict::Unknown(unmet) => {
                    summary.unknown += 1;
                    (Some(unmet), None)
                }
            };
            let broken = manifest.and_then(|manifest| link(&segment, &manifest, before.as_ref()));
            summary.findings += u64::from(broken.is_some());
            for finding in finding.into_iter().chain(broken) {
                if to.send(Ok(Part::Finding(finding))).await.is_err() {
                    return Ok(());
                }
            }
            let progress = Progress {
                done: summary.segments,
                total,
                unit: "segments",
                message: String::new(),
            };
            if to.send(Ok(Part::Progress(progress))).await.is_err() {
                return Ok(());
            }
        }
        // Nobody listening any more is no error.
        let _ = to.send(Ok(Part::Summary(summary))).await;
        Ok(())
    }

    async fn look_at(&self, segment: &SegmentRecord, depth: Depth) -> Verdict {
        let subject = segment.archive_name.clone();
        let unmet = move |code, message: String| Unmet { code, subject: subject.clone(), message };
        let unknown = |error: Error| Verdict::Unknown(unmet(error.code, error.chain()));
        let archive = match self.archive() {
            Ok(archive) => archive,
            Err(error) => return unknown(error),
        };
        let name = format!("{}.manifest.json", segment.archive_name);
        let manifest = match archive.read_small(&name, MAX_MANIFEST_BYTES as u64).await {
            Ok(None) => {
                return Verdict::Wrong(unmet("MANIFEST_MISSING", format!("{name} is gone")), None);
            }
            Ok(Some(bytes))
                if Manifest::sha256_of(&bytes).to_string() != segment.manifest_sha256 =>
            {
                let message = format!("{name} is not the manifest that was recorded");
                return Verdict::Wrong(unmet("MANIFEST_DAMAGED", message), None);
            }
            Ok(Some(bytes)) => match Manifest::from_bytes(&bytes) {
                Ok(manifest) => manifest,
                Err(error) => {
                    return Verdict::Wrong(
                        unmet("MANIFEST_DAMAGED", format!("{name} can't be used: {error}")),
                        None,
                    );
                }
            },
            Err(error) => return unknown(error),
        };
        let name = format!("{}.log.gz", segment.archive_name);
        match archive.size(&name).await {
            Err(error) => return unknown(error),
            Ok(None) => {
                return Verdict::Wrong(
                    unmet("SEGMENT_MISSING", format!("{name} is gone")),
                    Some(manifest),
                );
            }
            Ok(Some(size)) if size != segment.compressed_bytes => {
                let message =
                    format!("{name} has {size} bytes instead of {}", segment.compressed_bytes);
                return Verdict::Wrong(unmet("SEGMENT_DAMAGED", message), Some(manifest));
            }
            Ok(Some(_)) => {}
        }
        if depth >= Depth::Hash {
            match archive.hash(&name).await {
                Err(error) => return unknown(error),
                Ok(Some((_, seen))) if seen == segment.sha256 => {}
                Ok(_) => {
                    let message = format!("{name} does not have the sha256 that was recorded");
                    let at = members_damaged(&archive, &name, &manifest).await;
                    return Verdict::Wrong(
                        unmet("SEGMENT_DAMAGED", format!("{message}{at}")),
                        Some(manifest),
                    );
                }
            }
        }
        if depth >= Depth::Full {
            let at = members_damaged(&archive, &name, &manifest).await;
            if !at.is_empty() {
                return Verdict::Wrong(
                    unmet("SEGMENT_DAMAGED", format!("{name} can't be decompressed{at}")),
                    Some(manifest),
                );
            }
        }
        Verdict::Sound(Some(manifest))
    }
}

/// The members that can't be read back, in words; empty when all can.
async fn members_damaged(archive: &Archive, name: &str, manifest: &Manifest) -> String {
    let mut damaged = Vec::new();
    for (index, member) in manifest.members.iter().enumerate() {
        let sound = match archive
            .read_range(name, member.offset..member.offset + member.compressed_bytes)
            .await
        {
            Ok(bytes) => {
                let member = member.clone();
                blocking(move || Ok(inflate_member(&bytes, &member).is_ok())).await.unwrap_or(false)
            }
            Err(_) => false,
        };
        if !sound {
            damaged.push(format!(
                "{index} (bytes {} to {})",
                member.offset,
                member.offset + member.compressed_bytes
            ));
        }
    }
    match damaged.len() {
        0 => String::new(),
        1..=8 => format!("; damaged members: {}", damaged.join(", ")),
        count => format!("; {count} damaged members, first {}", damaged[0]),
    }
}

/// Whether the manifest names the one before it in the chain as it was recorded.
fn link(
    segment: &SegmentRecord,
    manifest: &Manifest,
    before: Option<&(u64, String)>,
) -> Option<Unmet> {
    let unmet = |message: String| {
        Some(Unmet { code: "CHAIN_BROKEN", subject: segment.archive_name.clone(), message })
    };
    if Some(manifest.chain_index) != segment.chain_index {
        return unmet(format!("it says it is number {} of its chain", manifest.chain_index));
    }
    let previous = manifest.previous.map(|digest| digest.to_string()).unwrap_or_default();
    match before {
        Some((index, sha256)) if index + 1 == manifest.chain_index && *sha256 != previous => {
            unmet("it does not name the manifest before it".into())
        }
        Some((index, _)) if index + 1 != manifest.chain_index => unmet(format!(
            "numbers {} to {} of the chain are not in the catalogue",
            index + 1,
            manifest.chain_index - 1
        )),
        None if manifest.chain_index != 0 => unmet(format!(
            "numbers 0 to {} of the chain are not in the catalogue",
            manifest.chain_index - 1
        )),
        _ => None,
    }
}
