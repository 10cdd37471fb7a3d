//! Backups: each is made beside where it will stand and put there once it is whole, read back, and when asked for
//! restored into a scratch instance that has to answer. A backup that was only made is a hope; the record says how far
//! it is proven, and [`genesis_storage::verified_backup`] which one counts.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use genesis_storage::{
    BackupLevel, BackupRecord, BackupState, Identity, Intent, RunRecord, Verdict, VerifiedBackup,
    WantedBackup, verified_backup,
};
use jiff::Timestamp;
use serde_json::json;
use tokio::sync::RwLock;

use crate::config::Follower;
use crate::emergency::Stance;
use crate::error::{Error, Result};
use crate::events::{Bell, Condition};
use crate::outside::Outside;
use crate::outside::aside::Aside;
use crate::outside::database::Postgres;
use crate::plan::{Plan, PlanStep};
use crate::runs::{Request, Runs, SecondCaller, Started, system_time};
use crate::state::State;

pub mod act;
mod adopt;
mod asked;
pub mod component;
pub mod config;
pub mod job;
mod make;
pub mod metrics;
pub mod plan;
pub mod rehearsal;
mod restore;
pub mod rpc;
pub mod scratch;
pub mod settle;
#[cfg(test)]
mod tests;
mod told;
pub mod tools;
pub mod turned;
pub mod turnover;
mod verify;

use act::Hands;
pub use config::{Config, Database};
use metrics::Metrics;
use plan::{AGENT, Kind, Source, Tool};
pub use settle::{MakeTable, RestoreTable, VerifyTable};

/// The kind of a run that makes a backup, and the job that makes those that are due.
pub const RUN: &str = "backup.run";
/// The kind of a run that verifies one.
pub const VERIFY: &str = "backup.verify";
/// The kind of a run that restores one.
pub const RESTORE: &str = "backup.restore";

/// What people start by hand beside the job, and whether it goes on in an emergency: a backup is what one may need then.
pub const RUN_KINDS: [(&str, Stance); 2] = [(VERIFY, Stance::GoOn), (RESTORE, Stance::GoOn)];

/// So many records are kept, beside those of backups that are there.
const KEPT: usize = 2_000;
/// What a source or a tool was seen to be is asked anew after that time.
const FRESH: Duration = Duration::from_secs(60);
/// A list of a tool that somebody waits for may take so long.
const LIST: Duration = Duration::from_secs(30);

/// The backups of this host.
pub struct Backup {
    state: State,
    outside: Outside,
    runs: Runs,
    config: ArcSwap<Config>,
    home: PathBuf,
    host: Identity,
    metrics: Metrics,
    bell: Bell,
    /// By source: which system it was seen to be and what its tool said, and when on the monotonic clock.
    seen: Mutex<HashMap<String, Seen>>,
    /// By source: held for reading by whoever reads backups of it, for writing by whoever deletes some.
    busy: Mutex<HashMap<String, Arc<RwLock<()>>>>,
    /// What became of the runs that a crash cut off, by run.
    settled: Mutex<HashMap<String, (Verdict, String)>>,
    /// What people should hear of is read aside, so that a disk that hangs keeps nobody waiting.
    asked: Aside<(), Option<Vec<Condition>>>,
}

#[derive(Debug, Clone, Default)]
struct Seen {
    at: Option<Duration>,
    system: Option<String>,
    /// Why its tool's list is not known; empty: it is.
    list: String,
}

/// A source and how it stands.
#[derive(Debug, Clone)]
pub struct View {
    /// As configured.
    pub source: Source,
    /// When it is due next.
    pub next_at: Option<Timestamp>,
    /// The newest that is verified as deeply as is asked for.
    pub newest: Option<BackupRecord>,
    /// Whether that counts.
    pub verified: VerifiedBackup,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each change is complete in itself, so a panic elsewhere does not spoil it.
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Backup {
    /// The backups that the state knows.
    ///
    /// # Errors
    /// `STORAGE_FAILED`.
    pub fn open(
        state: State,
        outside: Outside,
        runs: Runs,
        (config, home): (Config, PathBuf),
        metrics: Metrics,
        bell: Bell,
    ) -> Result<Arc<Self>> {
        let unknown = || Error::internal("STORAGE_NOT_FOUND", "the host has no identity yet");
        let host = state.read(|reading| Ok(reading.identity().get()?))?.ok_or_else(unknown)?;
        Ok(Arc::new(Self {
            state,
            outside,
            runs,
            config: ArcSwap::from_pointee(config),
            home,
            host,
            metrics,
            bell,
            seen: Mutex::default(),
            busy: Mutex::default(),
            settled: Mutex::default(),
            asked: Aside::default(),
        }))
    }

    fn hands(&self) -> Hands {
        Hands {
            config: self.config.load_full(),
            home: self.home.clone(),
            state: self.state.clone(),
            host_id: self.host.host_id.clone(),
        }
    }

    fn new_id(&self, at: Timestamp) -> String {
        ulid::Ulid::from_datetime(system_time(at)).to_string()
    }

    fn busy(&self, source: &str) -> Arc<RwLock<()>> {
        Arc::clone(lock(&self.busy).entry(source.to_owned()).or_default())
    }

    /// The records of a source, or of all.
    fn records(&self, source: Option<&str>) -> Result<Vec<BackupRecord>> {
        self.state.read(|reading| Ok(reading.backups().list(source, usize::MAX)?))
    }

    /// Whether what a record names is the agent's to delete. An agent that was started on a restored state knows the
    /// backups of the one that it was restored from, which may still be at work.
    fn owns(&self, record: &BackupRecord) -> bool {
        let (folder, place) = (self.config.load().folder.clone(), Path::new(&record.place));
        record.tool == Tool::Builtin.name()
            && place.starts_with(folder)
            && place.file_name().is_some_and(|name| *name == *record.id)
    }

    /// Writes a record with its oplog entry.
    async fn put(&self, record: &BackupRecord, action: &str, who: (&str, &str)) -> Result<()> {
        let outcome = match record.state {
            BackupState::Failed => "BACKUP_FAILED",
            BackupState::Broken => "BACKUP_BROKEN",
            _ => "ok",
        };
        let (now, (actor, reason)) = (self.outside.clock.now(), who);
        let intent = Intent::new(now, actor, action)
            .target(format!("{}/{}", record.source, record.id))
            .reason(reason)
            .outcome(outcome)
            .detail(record.detail.clone())
            .correlation_id(record.run_id.clone());
        let record = record.clone();
        self.state.write(intent, move |writing| Ok(writing.backups().put(&record, KEPT)?)).await?;
        self.bell.ring();
        Ok(())
    }

    /// The source of this name; empty: the only one beside the agent.
    fn named(&self, name: &str) -> Result<Source> {
        let config = self.config.load();
        let none = |why: String| Error::not_found("BACKUP_SOURCE_NOT_FOUND", why);
        if name.is_empty() {
            let mut others = config.sources.iter().filter(|source| source.name != AGENT);
            return match (others.next(), others.next()) {
                (Some(one), None) => Ok(one.clone()),
                (None, _) => config
                    .source(AGENT)
                    .cloned()
                    .ok_or_else(|| none("nothing is configured to be backed up".to_owned())),
                _ => Err(none(format!("name one of: {}", names(&config)))),
            };
        }
        let shown: String = name.chars().take(64).collect();
        config.source(name).cloned().ok_or_else(|| {
            none(format!("there is no source {shown:?}; there are: {}", names(&config)))
        })
    }

    /// What a backup was made of, as far as its record or the configuration still says it.
    fn source_of(&self, record: &BackupRecord) -> Source {
        let config = self.config.load();
        let tool = Tool::parse(&record.tool).unwrap_or(Tool::Builtin);
        let configured = config.source(&record.source).cloned();
        if let Some(source) = configured
            && source.tool == tool
            && source.kind.engine() == record.engine
        {
            return source;
        }
        let kind = match record.engine.as_str() {
            "postgres" => Kind::Postgres(Postgres {
                url: format!("postgres:///{}?user=postgres", record.source),
                password_file: None,
                fence: None,
            }),
            "sqlite" => Kind::Sqlite(PathBuf::from("/nonexistent")),
            _ => Kind::Agent,
        };
        Source {
            name: record.source.clone(),
            kind,
            tool,
            command: Vec::new(),
            schedule: None,
            keep: usize::MAX,
            level: BackupLevel::Checksums,
            max_age: Duration::MAX,
            min_level: BackupLevel::Recorded,
            queries: Vec::new(),
            row_counts: Vec::new(),
            timeout: Duration::from_secs(6 * 3_600),
        }
    }

    /// Whether a source has a backup that is verified as deeply as this, not older, and of this system (`None`: which it
    /// is is not known).
    ///
    /// # Errors
    /// `STORAGE_FAILED`.
    pub fn verified(
        &self,
        source: &str,
        level: BackupLevel,
        max_age: Duration,
        system_identifier: Option<&str>,
    ) -> Result<VerifiedBackup> {
        let records = self.records(Some(source))?;
        let wanted = WantedBackup { source, level, max_age, system_identifier };
        Ok(verified_backup(&records, &wanted, self.outside.clock.now()))
    }

    /// Verifies the newest backup of a source anew, as deeply as is configured for it, and waits for that.
    ///
    /// # Errors
    /// Those of [`Backup::verify`].
    pub async fn reverify(
        self: &Arc<Self>,
        source: &str,
        (actor, reason): (&str, &str),
    ) -> Result<RunRecord> {
        let started = self.verify(source, None, "", (actor.to_owned(), reason.to_owned())).await?;
        self.runs.wait(&started.id).await
    }

    /// Waits until a run of backups has ended.
    ///
    /// # Errors
    /// `RUN_NOT_FOUND`.
    pub async fn wait(&self, run: &str) -> Result<RunRecord> {
        self.runs.wait(run).await
    }

    /// Looks at the sources themselves and at the lists of tools, unless that was done a moment ago. What can't be
    /// looked at stays unknown.
    pub async fn refresh(&self, source: &str) {
        let (hands, now) = (self.hands(), self.outside.clock.monotonic());
        let config = self.config.load_full();
        let wanted = config.sources.iter().filter(|it| source.is_empty() || it.name == source);
        let stale = |source: &&Source| {
            let at = lock(&self.seen).get(&source.name).and_then(|seen| seen.at);
            at.is_none_or(|at| now.saturating_sub(at) > FRESH)
        };
        let looks = wanted.filter(stale).map(|source| async {
            let system = hands.live(source).await.ok().map(|live| live.system);
            let list = match tokio::time::timeout(LIST, self.take_list(&hands, source)).await {
                Ok(Ok(())) => String::new(),
                Ok(Err(error)) => error.chain(),
                Err(_) => format!("{} does not list its backups in time", source.tool.name()),
            };
            lock(&self.seen).insert(source.name.clone(), Seen { at: Some(now), system, list });
        });
        futures_util::future::join_all(looks).await;
    }

    /// Takes over what a tool's own list says.
    async fn take_list(&self, hands: &Hands, source: &Source) -> Result<()> {
        let Some(listed) = hands.list(source).await? else { return Ok(()) };
        let records = self.records(Some(&source.name))?;
        for record in tools::differences(source, &records, &listed, |at| self.new_id(at)) {
            self.put(&record, "backup.listed", ("system:backup", "")).await?;
        }
        Ok(())
    }

    /// A source as it stands, by what was last seen of it.
    fn view(&self, source: &Source) -> Result<View> {
        let (now, records) = (self.outside.clock.now(), self.records(Some(&source.name))?);
        let seen = lock(&self.seen).get(&source.name).cloned().unwrap_or_default();
        let wanted = WantedBackup {
            source: &source.name,
            level: source.min_level,
            max_age: source.max_age,
            system_identifier: seen.system.as_deref(),
        };
        let verified = match seen.list.as_str() {
            "" => verified_backup(&records, &wanted, now),
            why => VerifiedBackup::Unknown(why.to_owned()),
        };
        let newest = records.iter().filter(|record| {
            record.state == BackupState::Complete
                && record.level.is_some_and(|level| level >= source.min_level)
        });
        let newest = newest.max_by_key(|record| record.started_at).cloned();
        let next_at = source.schedule.as_ref().and_then(|schedule| schedule.next_after(now));
        Ok(View { source: source.clone(), next_at, newest, verified })
    }

    /// The sources as they stand, and the newest backups.
    ///
    /// # Errors
    /// `BACKUP_SOURCE_NOT_FOUND`, `STORAGE_FAILED`.
    pub fn list(
        &self,
        source: &str,
        limit: usize,
        expired_too: bool,
    ) -> Result<(Vec<View>, Vec<BackupRecord>)> {
        if !source.is_empty() {
            // One that is configured no more may still have backups.
            let known = self.named(source);
            if self.records(Some(source))?.is_empty() {
                known?;
            }
        }
        let config = self.config.load();
        let wanted = config.sources.iter().filter(|it| source.is_empty() || it.name == source);
        let views: Result<Vec<_>> = wanted.map(|source| self.view(source)).collect();
        let mut records = self.records((!source.is_empty()).then_some(source))?;
        records.retain(|record| expired_too || record.state != BackupState::Expired);
        records.sort_by(|a, b| (b.started_at, &b.id).cmp(&(a.started_at, &a.id)));
        records.truncate(limit);
        Ok((views?, records))
    }

    /// What making a backup would do.
    ///
    /// # Errors
    /// `BACKUP_SOURCE_NOT_FOUND`, `EMERGENCY`.
    pub fn plan_run(&self, name: &str) -> Result<Plan> {
        let source = self.named(name)?;
        self.runs.emergency().check(RUN, Stance::Refuse)?;
        if let Some(run) = self.runs.active_with_key(&key(&source.name)) {
            let step = PlanStep::new("attach", run, "it is being backed up already");
            return Ok(Plan::new(RUN, &[&source.name], vec![step]));
        }
        let why = format!("by {}, then verified to {}", source.tool.name(), source.level);
        let mut steps = vec![PlanStep::new("back up", source.name.clone(), why)];
        let mut kept = self.records(Some(&source.name))?;
        kept.retain(|record| self.owns(record));
        if source.tool == Tool::Builtin {
            // One more will be there, and verified.
            let keep = source.keep.saturating_sub(1).max(1);
            let over = plan::expired(&kept, keep, source.level, self.outside.clock.now());
            steps.extend(over.into_iter().map(|id| {
                PlanStep::new(
                    "delete",
                    id,
                    format!("{} are kept, once the new one is verified", source.keep),
                )
            }));
        }
        Ok(Plan::new(RUN, &[source.tool.name()], steps))
    }

    /// Starts making a backup, or attaches to the run that makes one.
    ///
    /// # Errors
    /// Those of [`Backup::plan_run`], `PLAN_CHANGED`, and those of starting a run.
    pub async fn run(
        self: &Arc<Self>,
        name: &str,
        plan_hash: &str,
        (actor, reason): (String, String),
    ) -> Result<Started> {
        let source = self.named(name)?;
        self.plan_run(name)?.accept(plan_hash)?;
        let request = Request {
            kind: RUN,
            actor,
            reason,
            parameters: json!({ "source": source.name }),
            key: key(&source.name),
            second: SecondCaller::Attach,
            stance: Stance::Refuse,
        };
        let own = Arc::clone(self);
        self.runs.start(request, move |context| own.make(source, context)).await
    }
}

fn key(source: &str) -> String {
    format!("{RUN}/{source}")
}

fn names(config: &Config) -> String {
    let names: Vec<&str> = config.sources.iter().map(|source| source.name.as_str()).collect();
    names.join(", ")
}

#[async_trait]
impl Follower for Backup {
    async fn follow(&self, config: &crate::config::Config) {
        lock(&self.seen).clear();
        self.config.store(Arc::new(config.backup.clone()));
        self.bell.ring();
    }
}
