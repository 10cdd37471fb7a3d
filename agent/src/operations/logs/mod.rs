//! Log archival: each configured file is watched, cut when it is big enough, and its segments are led
//! through their life: ACTIVE, DETACHED, SEALED, UPLOADED, VERIFIED, and at last expired.
//!
//! The journal of that life is the table of segments in redb, one durable commit for each step; what a
//! crash leaves is picked up from there by `pipeline`, which asks [`plan`] for the next step from the
//! recorded state and what it sees on disk.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use arc_swap::ArcSwap;
use genesis_storage::{Intent, SegmentRecord, SegmentState, SourceRecord};
use jiff::Timestamp;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::emergency::Stance;
use crate::error::{Error, Result, Unmet};
use crate::outside::{Archive, Outside, files, hooks, process};
use crate::runs::Runs;
use crate::state::State;

pub mod act;
pub mod config;
pub mod holds;
pub mod job;
pub mod metrics;
mod pipeline;
pub mod plan;
pub mod retrieve;
pub mod rotate;
pub mod rpc;
pub mod segment;
pub mod status;
#[cfg(test)]
mod tests;
pub mod verify;
mod watch;

pub use config::{Config, OWN_TYPE, Reopen, Source};
use metrics::Metrics;

/// What people start by hand here, and whether it goes on in an emergency: a full disk makes one worse.
pub const RUN_KINDS: [(&str, Stance); 2] =
    [(rotate::KIND, Stance::GoOn), (job::CLEANUP, Stance::GoOn)];

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
    /// Wakes the pipeline.
    wake: Notify,
    live: Mutex<Live>,
}

/// What is seen, but need not last.
#[derive(Default)]
struct Live {
    /// Size of each watched file.
    active: BTreeMap<(String, PathBuf), u64>,
    /// Why a path is not rotated.
    refused: BTreeMap<(String, PathBuf), Unmet>,
    /// Files that are due and could not be cut.
    failing: BTreeMap<(String, PathBuf), Failing>,
    /// Segments that wait: why, and until when.
    waiting: HashMap<(String, u64), Waiting>,
    archive: Option<Archive>,
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
            wake: Notify::new(),
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
            archive_url: old.archive_url.clone(),
            archive_dir: old.archive_dir.clone(),
            local_dir: old.local_dir.clone(),
            local_schedule: old.local_schedule.clone(),
            archive_schedule: old.archive_schedule.clone(),
            ..config
        };
        self.config.store(Arc::new(config));
        self.wake.notify_one();
    }

    /// The archive, opened at first need and again after a failure.
    ///
    /// # Errors
    /// `ARCHIVE_UNAVAILABLE`.
    fn archive(&self) -> Result<Archive> {
        if let Some(archive) = &self.live().archive {
            return Ok(archive.clone());
        }
        let archive = Archive::open(&self.config().archive_url)?;
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

    /// Watches sizes and leads segments through their life, for ever.
    pub async fn serve(self: Arc<Self>) {
        let pipeline = Arc::clone(&self);
        tokio::join!(self.watch(), pipeline.pipeline());
    }

    /// Cuts one file: announces it, renames it away from its writer, and tells the writer. Returns the
    /// segment's sequence number, or `None` when the file has fewer than `at_least` bytes.
    ///
    /// # Errors
    /// A refusal with what is in the way, `CUT_FAILED`, `CUT_RACED`, `STORAGE_FAILED`. Nothing was changed
    /// then, but for an announcement that is taken back.
    pub(crate) async fn cut(
        &self,
        source: &Source,
        path: &Path,
        actor: &str,
        reason: &str,
        at_least: u64,
    ) -> Result<Option<u64>> {
        let alone = self.cutting.lock().await;
        let facts = files::look(path).map_err(|error| {
            Error::unavailable("LOG_UNREADABLE", format!("can't look at {}", path.display()))
                .caused_by(error)
        })?;
        let Some(facts) = facts else { return Ok(None) };
        let refuse =
            |unmet: Unmet| Error::refused("LOG_NOT_ROTATABLE", unmet.message.clone(), vec![unmet]);
        plan::admissible(path, &facts).map_err(refuse)?;
        // Somebody else may have cut it since it was looked at.
        if facts.bytes < at_least {
            return Ok(None);
        }
        let folder = path.parent().unwrap_or(Path::new("/"));
        if !files::may_change(folder) {
            let message = format!(
                "the agent may not rename files in {}; give its user write access to that folder",
                folder.display()
            );
            let subject = path.display().to_string();
            return Err(refuse(Unmet { code: "LOG_FOLDER_NOT_WRITABLE", subject, message }));
        }
        if let Reopen::Signal { pidfile, .. } = &source.reopen {
            // Better not cut than cut with nobody to tell.
            process::living(pidfile).map_err(|message| {
                refuse(Unmet {
                    code: "REOPEN_TARGET_MISSING",
                    subject: path.display().to_string(),
                    message,
                })
            })?;
        }
        let (log_type, source_path) = (source.log_type.clone(), path.display().to_string());
        self.settle_announced(&source_path).await?;
        let (device, inode) = (facts.device, facts.inode);
        let segment = self
            .state
            .write(
                self.intent(actor, "logs.segment.cutting", reason).target(source_path.clone()),
                move |writing| {
                    let mut record =
                        writing.sources().get(&log_type)?.unwrap_or_else(|| new_source(&log_type));
                    let segment =
                        new_segment(&log_type, record.next_sequence, source_path, (device, inode));
                    record.next_sequence += 1;
                    writing.sources().put(&record)?;
                    writing.segments().put(&segment)?;
                    Ok(segment)
                },
            )
            .await?;
        let detached = PathBuf::from(&segment.detached_path);
        let (from, to) = (path.to_owned(), detached.clone());
        let mut segment = segment;
        match blocking(move || act::detach(&from, &to, device, inode)).await {
            Ok(act::Detached::AsPlanned) => {}
            Ok(act::Detached::PutBack) => {
                let (log_type, sequence) = (segment.log_type.clone(), segment.sequence);
                let intent = self
                    .intent(actor, "logs.segment.abandoned", reason)
                    .target(segment.source_path.clone())
                    .outcome("CUT_RACED");
                self.state
                    .write(intent, move |writing| {
                        Ok(writing.segments().delete(&log_type, sequence)?)
                    })
                    .await?;
                let message = format!(
                    "{} was replaced by another file at the moment of its rotation",
                    path.display()
                );
                return Err(Error::conflict("CUT_RACED", message));
            }
            // What was taken is a log of the same path all the same, so it is archived like one.
            Ok(act::Detached::Another(device, inode)) => {
                (segment.device, segment.inode) = (device, inode)
            }
            Err(error) => {
                // The world decides whether it happened: taken back, recorded as detached, or held.
                let _ = self.step_alone(&segment).await;
                return Err(error);
            }
        }
        self.record_detached(segment.clone()).await?;
        // The writer may be slow to be told, and others want to cut meanwhile.
        drop(alone);
        if let Err(error) = self.tell_writer(source).await {
            // Nothing is lost: the segment waits until the writer lets go, and the pipeline tells it again.
            tracing::warn!(
                path = segment.source_path,
                error = error.chain(),
                "the writer could not be told to reopen"
            );
        }
        self.live().active.remove(&(source.log_type.clone(), path.to_owned()));
        self.metrics.rotated(&source.log_type);
        self.wake.notify_one();
        Ok(Some(segment.sequence))
    }

    async fn record_detached(&self, mut segment: SegmentRecord) -> Result<()> {
        segment.state = SegmentState::Detached;
        segment.detached_at = Some(self.outside.clock.now());
        self.put_segment(segment, "logs.segment.detached", "").await
    }

    /// Commits a segment's record with its oplog entry.
    async fn put_segment(&self, segment: SegmentRecord, action: &str, detail: &str) -> Result<()> {
        let intent = self
            .intent("system:logs", action, "")
            .target(format!("{}/{}", segment.log_type, segment.sequence))
            .detail(detail);
        self.state.write(intent, move |writing| Ok(writing.segments().put(&segment)?)).await
    }

    async fn tell_writer(&self, source: &Source) -> Result<()> {
        match &source.reopen {
            Reopen::ByItself => Ok(()),
            Reopen::Own => self.own_log.reopen().map_err(|error| {
                Error::unavailable("REOPEN_FAILED", "can't reopen the agent's own log")
                    .caused_by(error)
            }),
            Reopen::Signal { signal, pidfile } => process::signal(pidfile, *signal)
                .map_err(|why| Error::unavailable("REOPEN_FAILED", why)),
            Reopen::Command(hook) => {
                // It may take minutes, and the watch goes on meanwhile. One that fails leaves the writer
                // holding its file, which is seen, reported and told again.
                let (hook, log_type) = (hook.clone(), source.log_type.clone());
                tokio::spawn(async move {
                    let input = serde_json::json!({ "event": "logs.reopen", "log_type": log_type });
                    let variables = [("LOG_TYPE", log_type)];
                    if let Err(error) = hooks::run(&hook, &input, &variables).await {
                        tracing::warn!(error = error.chain(), "the reopen hook failed");
                    }
                });
                Ok(())
            }
        }
    }

    fn intent(&self, actor: &str, action: &str, reason: &str) -> Intent {
        Intent::new(self.outside.clock.now(), actor, action).reason(reason)
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
