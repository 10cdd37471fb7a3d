//! Log archival: each configured file is watched, cut when it is big enough, and its segments are led
//! through their life: ACTIVE, DETACHED, SEALED, UPLOADED, VERIFIED, and at last expired.
//!
//! The journal of that life is the table of segments in redb, one durable commit for each step; what a
//! crash leaves is picked up from there by `pipeline`, which asks [`plan`] for the next step from the
//! recorded state and what it sees on disk.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use arc_swap::ArcSwap;
use genesis_storage::{Intent, SegmentRecord, SegmentState, SourceRecord};
use jiff::Timestamp;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::emergency::Stance;
use crate::error::{Error, Result, Unmet};
use crate::outside::{Archive, Outside};
use crate::runs::Runs;
use crate::state::State;

pub mod act;
pub mod config;
mod cut;
mod elsewhere;
pub mod holds;
mod inventory;
pub mod job;
pub mod logrotate;
pub mod make_room;
pub mod metrics;
mod pipeline;
pub mod plan;
pub mod rebuild;
pub mod retrieve;
pub mod rotate;
pub mod rpc;
pub mod segment;
pub mod source;
mod space;
pub mod stall;
pub mod status;
mod take;
#[cfg(test)]
mod tests;
mod told;
pub mod verify;
mod watch;

pub use config::{Config, OWN_TYPE};
use metrics::Metrics;
use pipeline::Half;
pub use source::{Mode, Reopen, Source};

/// What people start by hand here, and whether it goes on in an emergency: a full disk makes one worse.
pub const RUN_KINDS: [(&str, Stance); 3] =
    [(rotate::KIND, Stance::GoOn), (job::CLEANUP, Stance::GoOn), (rebuild::KIND, Stance::GoOn)];

/// So many retrievals and verifications go on at a time; each holds some megabytes.
const READERS: usize = 8;

/// The agent's own log, which can be reopened without a signal.
pub trait OwnLog: Send + Sync {
    /// Opens the file at its path anew.
    fn reopen(&self) -> std::io::Result<()>;
}

/// Who this host is, in names and manifests.
#[derive(Debug, Clone)]
pub struct HostIdentity {
    /// Random, made at first start.
    pub id: String,
    /// The host's name.
    pub name: String,
}

/// Log archival of this host.
pub struct Logs {
    state: State,
    outside: Outside,
    runs: Runs,
    host: HostIdentity,
    own_log: Arc<dyn OwnLog>,
    config: ArcSwap<Config>,
    metrics: Metrics,
    /// Held while a file is cut, so that two cuts of one file can't cross, nor a cut and its recovery.
    cutting: tokio::sync::Mutex<()>,
    /// Held while copies are deleted: retention and clean-up plan anew, one after the other.
    expiring: tokio::sync::Mutex<()>,
    /// Held while one segment's copy is deleted or a hold comes or goes: no hold is too late by a moment.
    deleting: tokio::sync::Mutex<()>,
    /// So many retrievals and verifications at a time.
    readers: Arc<Semaphore>,
    /// Wakes who watches the files.
    reconfigured: Notify,
    /// Wakes each half of the pipeline.
    to_seal: Notify,
    to_ship: Notify,
    /// What is known of segments that other hosts have archived.
    elsewhere: elsewhere::Memory,
    live: Mutex<Live>,
}

/// What is seen, but need not last.
#[derive(Default)]
struct Live {
    /// Size of each watched file.
    active: BTreeMap<(String, PathBuf), u64>,
    /// Why a path is not rotated.
    refused: BTreeMap<(String, PathBuf), Unmet>,
    /// Files that an application writes and leaves by itself: how they were seen, and since when.
    settling: BTreeMap<(String, PathBuf), Settling>,
    /// Files that are due and could not be cut.
    failing: BTreeMap<(String, PathBuf), Failing>,
    /// Segments that wait: why, and until when.
    waiting: HashMap<(String, u64), Waiting>,
    archive: Option<Archive>,
}

/// A file that has not changed for a while.
struct Settling {
    bytes: u64,
    modified_at: i64,
    since: Duration,
}

/// Why a file could not be cut, and when it is tried again.
struct Failing {
    why: Unmet,
    attempt: u32,
    not_before: Duration,
}

/// Why a segment does not move on, and when it is tried again.
#[derive(Debug, Clone)]
struct Waiting {
    why: Unmet,
    attempt: u32,
    since: Duration,
    not_before: Duration,
    /// Reported in the oplog already.
    reported: bool,
    /// When the writer was last told to let go.
    told_at: Option<Duration>,
}

impl Logs {
    /// Log archival over this configuration; [`Logs::serve`] starts it.
    pub fn new(
        state: State,
        outside: Outside,
        runs: Runs,
        host: HostIdentity,
        own_log: Arc<dyn OwnLog>,
        config: Config,
        metrics: Metrics,
    ) -> Self {
        Self {
            state,
            outside,
            runs,
            host,
            own_log,
            config: ArcSwap::from_pointee(config),
            metrics,
            cutting: tokio::sync::Mutex::new(()),
            expiring: tokio::sync::Mutex::new(()),
            deleting: tokio::sync::Mutex::new(()),
            readers: Arc::new(Semaphore::new(READERS)),
            reconfigured: Notify::new(),
            to_seal: Notify::new(),
            to_ship: Notify::new(),
            elsewhere: elsewhere::Memory::default(),
            live: Mutex::default(),
        }
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        // Each change of it is complete in itself, so a panic elsewhere does not spoil it.
        self.live.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The configuration in force.
    pub fn config(&self) -> Arc<Config> {
        self.config.load_full()
    }

    /// Takes over a new configuration; the archive's address stays until a restart.
    pub fn reconfigure(&self, config: Config) {
        let old = self.config.load_full();
        let config = Config {
            archive: old.archive.clone(),
            local_dir: old.local_dir.clone(),
            local_schedule: old.local_schedule.clone(),
            archive_schedule: old.archive_schedule.clone(),
            ..config
        };
        self.config.store(Arc::new(config));
        self.wake();
    }

    /// The archive, opened at first need and again after a failure.
    ///
    /// # Errors
    /// `ARCHIVE_UNAVAILABLE`.
    fn archive(&self) -> Result<Archive> {
        if let Some(archive) = &self.live().archive {
            return Ok(archive.clone());
        }
        let archive = Archive::open(&self.config().archive)?;
        self.live().archive = Some(archive.clone());
        Ok(archive)
    }

    /// A place among the readers of the archive, given back when it is dropped.
    ///
    /// # Errors
    /// `OVERLOADED` when all are taken.
    fn reader(&self) -> Result<OwnedSemaphorePermit> {
        Arc::clone(&self.readers).try_acquire_owned().map_err(|_| {
            let message = format!("{READERS} retrievals or verifications go on already");
            Error::unavailable("OVERLOADED", message).retry_after(Duration::from_secs(1))
        })
    }

    /// The source of a type.
    ///
    /// # Errors
    /// `LOG_TYPE_UNKNOWN` with the types there are.
    pub fn known_type(&self, log_type: &str) -> Result<()> {
        let config = self.config();
        if config.source(log_type).is_some()
            || self.state.read(|reading| Ok(reading.sources().get(log_type)?))?.is_some()
        {
            return Ok(());
        }
        let known: Vec<&str> =
            config.sources.iter().map(|source| source.log_type.as_str()).collect();
        let message = format!("there is no log type {log_type:?}; there are: {}", known.join(", "));
        Err(Error::not_found("LOG_TYPE_UNKNOWN", message))
    }

    fn wake(&self) {
        self.to_seal.notify_one();
        self.to_ship.notify_one();
    }

    /// Watches sizes and leads segments through their life, for ever.
    pub async fn serve(self: Arc<Self>) {
        // An archive that hangs must not keep logs from being sealed.
        tokio::join!(self.watch(), self.pipeline(Half::Seal), self.pipeline(Half::Ship));
    }

    /// Commits a segment's record with its oplog entry.
    async fn put_segment(&self, segment: SegmentRecord, action: &str, detail: &str) -> Result<()> {
        let intent = self
            .intent("system:logs", action, "")
            .target(format!("{}/{}", segment.log_type, segment.sequence))
            .detail(detail);
        self.state.write(intent, move |writing| Ok(writing.segments().put(&segment)?)).await
    }

    fn intent(&self, actor: &str, action: &str, reason: &str) -> Intent {
        Intent::new(self.outside.clock.now(), actor, action).reason(reason)
    }
}

#[async_trait::async_trait]
impl crate::config::Follower for Logs {
    async fn follow(&self, config: &crate::config::Config) {
        self.reconfigure(config.logs.clone());
        self.reconfigured.notify_one();
    }
}

/// Runs `work` where it may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) => Err(Error::internal("WORK_CUT_OFF", "work on a log was cut off by a defect")
            .caused_by(error)),
    }
}

fn new_source(log_type: &str) -> SourceRecord {
    SourceRecord {
        log_type: log_type.to_owned(),
        next_sequence: 1,
        next_chain_index: 0,
        chain_head: String::new(),
        streams: BTreeMap::new(),
    }
}

/// A segment that is announced and nothing else yet.
fn new_segment(
    log_type: &str,
    sequence: u64,
    source_path: String,
    (device, inode): (u64, u64),
) -> SegmentRecord {
    SegmentRecord {
        log_type: log_type.to_owned(),
        sequence,
        state: SegmentState::Active,
        detached_path: format!("{source_path}.{sequence:08}{}", plan::DETACHED_SUFFIX),
        source_path,
        device,
        inode,
        detached_at: None,
        initial_at: None,
        first_at: None,
        last_at: None,
        lines: 0,
        members: 0,
        plain_bytes: 0,
        compressed_bytes: 0,
        sha256: String::new(),
        manifest_sha256: String::new(),
        chain_index: None,
        archive_name: String::new(),
        sealed_at: None,
        verified_at: None,
        local_expired_at: None,
        archive_expired_at: None,
        waiting: None,
        taken: None,
        upload_id: None,
    }
}

/// Nanoseconds since the epoch; instants beyond the years 1677 to 2262 are held to that range.
fn nanoseconds(at: Timestamp) -> i64 {
    i64::try_from(at.as_nanosecond()).unwrap_or(if at < Timestamp::UNIX_EPOCH {
        i64::MIN
    } else {
        i64::MAX
    })
}

fn timestamp(nanoseconds: i64) -> Timestamp {
    Timestamp::from_nanosecond(nanoseconds.into()).unwrap_or(Timestamp::UNIX_EPOCH)
}
