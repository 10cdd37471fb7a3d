//! Log archival: each configured file is watched, cut when it is big enough, and its segments are led
//! through their life: ACTIVE, DETACHED, SEALED, UPLOADED, VERIFIED, and at last expired.
//!
//! The journal of that life is the table of segments in redb, one durable commit for each step; what a
//! crash leaves is picked up from there by `pipeline`, which asks [`plan`] for the next step from the
//! recorded state and what it sees on disk.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use arc_swap::ArcSwap;
use genesis_storage::{Intent, SegmentRecord, SegmentState, SourceRecord};
use jiff::Timestamp;
use tokio::sync::Notify;

use crate::error::{Error, Result, Unmet};
use crate::outside::{Archive, Outside, files, hooks, process};
use crate::runs::Runs;
use crate::state::State;

pub mod act;
pub mod config;
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

pub use config::{Config, OWN_TYPE, Reopen, Source};
use metrics::Metrics;

/// How often sizes are looked at.
const POLL: Duration = Duration::from_millis(250);
/// Every so many polls the globs are expanded again.
const EXPAND_EVERY: u32 = 4;
/// A path that is not there stays watched for so many expansions, a minute.
const ABSENT_LIMIT: u32 = 60;
/// At most this many files of one source are watched.
const FILES_LIMIT: usize = 1_000;

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
    /// Segments that wait: why, and until when.
    waiting: HashMap<(String, u64), Waiting>,
    archive: Option<Archive>,
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

    async fn watch(&self) {
        let mut tick = 0_u32;
        let mut paths: Vec<(Arc<Source>, PathBuf)> = Vec::new();
        // How often in a row a path was not there when the globs were expanded.
        let mut absent: BTreeMap<PathBuf, u32> = BTreeMap::new();
        loop {
            if tick.is_multiple_of(EXPAND_EVERY) {
                let found = self.discover();
                // A log that was just renamed away is about to come back; forgetting it would leave it
                // unwatched until the next expansion.
                let gone = paths
                    .into_iter()
                    .filter(|(_, path)| found.iter().all(|(_, known)| known != path));
                let mut missing = BTreeMap::new();
                let mut kept = Vec::new();
                for (source, path) in gone {
                    let times = absent.get(&path).copied().unwrap_or(0) + 1;
                    let current = self.config().source(&source.log_type).cloned();
                    let wanted = current.filter(|source| {
                        source.paths.iter().any(|glob| files::could_match(glob, &path) == Ok(true))
                    });
                    if let Some(current) = wanted.filter(|_| times <= ABSENT_LIMIT) {
                        missing.insert(path.clone(), times);
                        kept.push((Arc::new(current), path));
                    }
                }
                absent = missing;
                paths = found;
                paths.extend(kept);
            }
            tick = tick.wrapping_add(1);
            for (source, path) in self.look(&paths) {
                if let Err(error) = self.cut(&source, &path, "system:logs", "size reached").await {
                    tracing::warn!(path = %path.display(), error = error.chain(), "log not rotated");
                }
            }
            self.outside.clock.sleep(POLL).await;
        }
    }

    /// Expands the globs; a file that two sources match belongs to the first.
    fn discover(&self) -> Vec<(Arc<Source>, PathBuf)> {
        let config = self.config();
        let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
        for source in &config.sources {
            let source = Arc::new(source.clone());
            let matching =
                source.paths.iter().filter_map(|pattern| files::matching(pattern).ok()).flatten();
            for path in matching.filter(|path| !plan::is_ours(path)).take(FILES_LIMIT) {
                if seen.insert(path.clone()) {
                    found.push((Arc::clone(&source), path));
                }
            }
        }
        let keep: BTreeSet<(String, PathBuf)> =
            found.iter().map(|(source, path)| (source.log_type.clone(), path.clone())).collect();
        let mut live = self.live();
        live.active.retain(|key, _| keep.contains(key));
        live.refused.retain(|key, _| keep.contains(key));
        found
    }

    /// Looks at each file and returns those that are big enough to be cut.
    fn look(&self, paths: &[(Arc<Source>, PathBuf)]) -> Vec<(Arc<Source>, PathBuf)> {
        let mut due = Vec::new();
        let mut live = self.live();
        for (source, path) in paths {
            let key = (source.log_type.clone(), path.clone());
            let seen = match files::look(path) {
                Ok(Some(facts)) => plan::admissible(path, &facts).map(|()| facts.bytes),
                Ok(None) => {
                    live.active.remove(&key);
                    live.refused.remove(&key);
                    continue;
                }
                Err(error) => Err(Unmet {
                    code: "LOG_UNREADABLE",
                    subject: path.display().to_string(),
                    message: format!("can't look at {}: {error}", path.display()),
                }),
            };
            match seen {
                Ok(bytes) => {
                    live.refused.remove(&key);
                    live.active.insert(key, bytes);
                    if bytes >= source.rotate_bytes {
                        due.push((Arc::clone(source), path.clone()));
                    }
                }
                Err(unmet) => {
                    live.active.remove(&key);
                    if live.refused.insert(key, unmet.clone()).is_none() {
                        tracing::warn!(code = unmet.code, "{}", unmet.message);
                    }
                }
            }
        }
        due
    }

    /// Cuts one file: announces it, renames it away from its writer, and tells the writer. Returns the
    /// segment's sequence number, or `None` when there is nothing to cut.
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
    ) -> Result<Option<u64>> {
        let _alone = self.cutting.lock().await;
        let facts = files::look(path).map_err(|error| {
            Error::unavailable("LOG_UNREADABLE", format!("can't look at {}", path.display()))
                .caused_by(error)
        })?;
        let Some(facts) = facts else { return Ok(None) };
        let refuse =
            |unmet: Unmet| Error::refused("LOG_NOT_ROTATABLE", unmet.message.clone(), vec![unmet]);
        plan::admissible(path, &facts).map_err(refuse)?;
        if facts.bytes == 0 {
            return Ok(None);
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
        let renamed = blocking(move || act::detach(&from, &to, device, inode)).await;
        if let Err(error) = renamed {
            let (log_type, sequence) = (segment.log_type.clone(), segment.sequence);
            let intent = self
                .intent(actor, "logs.segment.abandoned", reason)
                .target(segment.source_path.clone())
                .outcome(error.code);
            self.state
                .write(intent, move |writing| Ok(writing.segments().delete(&log_type, sequence)?))
                .await?;
            return Err(error);
        }
        self.record_detached(segment.clone()).await?;
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
                let input =
                    serde_json::json!({ "event": "logs.reopen", "log_type": source.log_type });
                let variables = [("LOG_TYPE", source.log_type.clone())];
                hooks::run(hook, &input, &variables).await.map(drop)
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
