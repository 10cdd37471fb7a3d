//! What log archival looks like right now.

use std::collections::BTreeMap;
use std::path::PathBuf;

use genesis_storage::SegmentState;
use jiff::Timestamp;

use super::plan::{self, Hindrance};
use super::{Logs, Source};
use crate::error::{Result, Unmet};

/// One source as it is.
#[derive(Debug, Clone)]
pub struct SourceView {
    /// Its configuration.
    pub source: Source,
    /// The files being written, with their sizes in bytes.
    pub active: Vec<(PathBuf, u64)>,
    /// Segments by state.
    pub segments: BTreeMap<SegmentState, u64>,
    /// Plain bytes of what is in the archive.
    pub plain_bytes: u64,
    /// Compressed bytes of what is in the archive.
    pub compressed_bytes: u64,
    /// When a segment was last verified.
    pub last_verified_at: Option<Timestamp>,
    /// Segments of which a step failed and is tried again.
    pub stalled: u64,
    /// Segments that a person must mend.
    pub quarantined: u64,
    /// What is wrong.
    pub findings: Vec<Unmet>,
}

impl Logs {
    /// Every configured source, as far as memory knows it: without its segments.
    pub(super) fn at_a_glance(&self) -> Vec<SourceView> {
        let config = self.config();
        let grace = config.release_grace;
        let now = self.outside.clock.monotonic();
        let live = self.live();
        config
            .sources
            .iter()
            .map(|source| {
                let of = |key: &(String, PathBuf)| key.0 == source.log_type;
                let refused =
                    live.refused.iter().filter(|(key, _)| of(key)).map(|(_, unmet)| unmet.clone());
                let failing = live
                    .failing
                    .iter()
                    .filter(|(key, _)| of(key))
                    .map(|(_, failing)| failing.why.clone());
                let hindered = |wanted| {
                    let waiting = live.waiting.iter().filter(|(key, waiting)| {
                        key.0 == source.log_type && plan::hindrance(waiting.why.code) == wanted
                    });
                    waiting.count() as u64
                };
                let waiting = live.waiting.iter().filter(|(key, waiting)| {
                    let held = plan::hindrance(waiting.why.code) == Hindrance::Waiting;
                    key.0 == source.log_type
                        && (!held || waiting.reported || now.saturating_sub(waiting.since) >= grace)
                });
                SourceView {
                    source: source.clone(),
                    active: live
                        .active
                        .iter()
                        .filter(|(key, _)| of(key))
                        .map(|(key, bytes)| (key.1.clone(), *bytes))
                        .collect(),
                    segments: BTreeMap::new(),
                    plain_bytes: 0,
                    compressed_bytes: 0,
                    last_verified_at: None,
                    stalled: hindered(Hindrance::Stalled),
                    quarantined: hindered(Hindrance::Quarantined),
                    findings: refused
                        .chain(failing)
                        .chain(waiting.map(|(_, waiting)| waiting.why.clone()))
                        .collect(),
                }
            })
            .collect()
    }

    /// Every configured source. Its cost does not depend on how many segments there are.
    ///
    /// # Errors
    /// `STORAGE_FAILED`.
    pub fn status(&self) -> Result<Vec<SourceView>> {
        let mut views = self.at_a_glance();
        self.state.read(|reading| {
            for view in &mut views {
                let log_type = view.source.log_type.clone();
                view.segments = reading.segments().counts(Some(&log_type))?;
                let totals = reading.segments().totals(&log_type)?;
                view.plain_bytes = totals.plain_bytes;
                view.compressed_bytes = totals.compressed_bytes;
                view.last_verified_at = totals.verified_at;
            }
            Ok(())
        })?;
        for view in &views {
            let active = view.active.iter().map(|(_, bytes)| bytes).sum();
            let states: Vec<(&'static str, u64)> = ALL_STATES
                .iter()
                .map(|(state, name)| (*name, view.segments.get(state).copied().unwrap_or(0)))
                .collect();
            let last = view.last_verified_at.map(Timestamp::as_second);
            let hindered = (view.stalled, view.quarantined);
            self.metrics.observe(&view.source.log_type, active, last, &states, hindered);
        }
        Ok(views)
    }
}

/// The states with their names as labels.
const ALL_STATES: [(SegmentState, &str); 7] = [
    (SegmentState::Active, "active"),
    (SegmentState::Detached, "detached"),
    (SegmentState::Sealed, "sealed"),
    (SegmentState::Uploaded, "uploaded"),
    (SegmentState::Verified, "verified"),
    (SegmentState::LocalExpired, "local_expired"),
    (SegmentState::ArchiveExpired, "archive_expired"),
];
