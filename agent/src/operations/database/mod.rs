//! Databases: weekly care that proves itself, and what is known of them in between.
//!
//! [`preflight`] says whether care may begin, [`plan`] what it does, [`care`] and [`act`] do it, [`verify`] says what came
//! of it; `sqlite` is all of that for a file of SQLite. Whatever a rebuild may leave behind is in the [`ledger`] before.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use genesis_storage::{
    CareOutcome, CareRecord, Intent, LedgerRecord, VerifiedBackup, WantedBackup, verified_backup,
};
use jiff::Timestamp;

use crate::config::Follower;
use crate::emergency::Stance;
use crate::error::{Error, Result};
use crate::events::Bell;
use crate::outside::Outside;
use crate::outside::aside::Aside;
use crate::outside::database::facts::Standing;
use crate::runs::Runs;
use crate::state::State;

pub mod act;
pub mod begin;
pub mod blockers;
pub mod care;
pub mod config;
pub mod directory;
pub mod health;
pub mod indexes;
pub mod job;
pub mod kill;
pub mod ledger;
pub mod looks;
mod measure;
pub mod metrics;
pub mod plan;
pub mod preflight;
pub mod record;
pub mod remedies;
pub mod rpc;
pub mod sqlite;
mod sqlite_care;
pub mod survey;
#[cfg(test)]
mod tests;
mod told;
pub mod turn;
mod vacuum;
pub mod verify;
pub mod watch;

pub use config::Config;
use config::Instance;
pub use metrics::Metrics;
use preflight::{Disk, TradesSeen};
use record::Report;
use turn::Turn;

/// The kind of the runs that care for a database.
pub const OPTIMIZE: &str = "database.optimize";
/// The kinds of runs, and whether each starts in an emergency.
pub const RUN_KINDS: [(&str, Stance); 1] = [(OPTIMIZE, Stance::Refuse)];
/// Who acts when nobody asked for it.
const ACTOR: &str = "system:database";
/// So many cares are kept.
const KEPT: usize = 500;
/// So many backups of a source are looked through for a verified one.
const BACKUPS: usize = 1_000;
/// A disk that does not answer for so long can't be seen.
const DISK_PATIENCE: Duration = Duration::from_secs(2);

/// What other rooms know, and do for care.
#[async_trait]
pub trait Neighbours: Send + Sync {
    /// Whether trades are in progress that nothing must disturb, looked at now.
    async fn trades(&self, database: &str) -> TradesSeen;
    /// Takes over what a tool that keeps backups of the database lists, if that was not done a moment ago.
    async fn refresh_backups(&self, database: &str);
    /// Verifies a backup anew; what was verified, or what is wrong.
    async fn reverify(&self, backup: &str) -> Result<String, String>;
    /// Makes a backup of the database and verifies it; what was made, or what went wrong. `run` asks for it.
    async fn back_up(&self, database: &str, run: &str) -> Result<String, String>;
    /// Whether other hosts of a fleet may care for the same databases.
    fn shares(&self) -> bool;
    /// Takes the turn of this host among those of its fleet to care for a database, for this run. Its `identity` is the
    /// same to all hosts, whatever they call it. `None`: there is no fleet, and the lock of the database itself is enough.
    ///
    /// # Errors
    /// Why it can't be had: a conflict where another host has it, a refusal where that can't be told.
    async fn turn(&self, identity: &str, run: &str) -> Result<Option<Box<dyn Turn>>>;
}

/// The databases of this host.
pub struct Databases {
    state: State,
    outside: Outside,
    runs: Runs,
    config: ArcSwap<Config>,
    metrics: Metrics,
    neighbours: Arc<dyn Neighbours>,
    bell: Bell,
    disks: Aside<std::path::PathBuf, Result<Disk, String>>,
}

impl Databases {
    /// The databases of a configuration.
    pub fn new(
        state: State,
        outside: Outside,
        runs: Runs,
        config: Config,
        (metrics, bell): (Metrics, Bell),
        neighbours: Arc<dyn Neighbours>,
    ) -> Self {
        let databases = Self {
            state,
            outside,
            runs,
            config: ArcSwap::from_pointee(config),
            metrics,
            neighbours,
            bell,
            disks: Aside::default(),
        };
        databases.recall();
        databases
    }

    /// Shows what came of the cares that are kept, as far as their databases are configured.
    fn recall(&self) {
        self.config().instances.iter().for_each(|it| self.metrics.know(&it.target.name));
        let kept = self.state.read(|reading| Ok(reading.care().list(None, KEPT)?));
        match kept {
            Ok(records) => {
                let config = self.config();
                let known = |record: &&CareRecord| config.instance(&record.database).is_some();
                self.metrics.recall(records.iter().rev().filter(known));
            }
            Err(error) => {
                tracing::warn!(error = error.chain(), "the cares of before can't be read");
            }
        }
    }

    /// The configuration in force.
    pub fn config(&self) -> Arc<Config> {
        self.config.load_full()
    }

    /// The database of this name; of an empty one the only one there is.
    ///
    /// # Errors
    /// `DATABASE_NOT_FOUND` with those there are.
    pub fn instance(&self, name: &str) -> Result<Instance> {
        let config = self.config();
        match (name, config.instances.as_slice()) {
            ("", [only]) => return Ok(only.clone()),
            ("", _) | (_, []) => {}
            (name, _) => {
                if let Some(instance) = config.instance(name) {
                    return Ok(instance.clone());
                }
            }
        }
        let names: Vec<&str> =
            config.instances.iter().map(|instance| instance.target.name.as_str()).collect();
        let message = match (name, names.as_slice()) {
            (_, []) => "no database is configured: see [[database.instance]]".to_owned(),
            ("", names) => format!("which database? There are: {}", names.join(", ")),
            (name, names) => {
                format!("there is no database {name:?}; there are: {}", names.join(", "))
            }
        };
        Err(Error::not_found("DATABASE_NOT_FOUND", message))
    }

    /// The disk that a server's data is on.
    async fn disk(&self, instance: &Instance, standing: &Standing) -> Result<Disk, String> {
        let folder = match &instance.data_dir {
            Some(folder) => folder.clone(),
            None if !standing.local => {
                return Err("the server is on another host: name a folder on its disk in data_dir"
                    .to_owned());
            }
            None if standing.data_dir.is_empty() => {
                return Err(
                    "this role may not know the data folder: grant it pg_monitor, or set data_dir"
                        .to_owned(),
                );
            }
            None => standing.data_dir.clone().into(),
        };
        self.disk_of(folder).await
    }

    async fn disk_of(&self, folder: std::path::PathBuf) -> Result<Disk, String> {
        let path = folder.clone();
        let look = self.disks.run(&folder, move || {
            let (free, total) = crate::outside::probes::disk::bytes(&path)?;
            Ok(Disk { free, total })
        });
        tokio::select! {
            disk = look => disk?,
            () = self.outside.clock.sleep(DISK_PATIENCE) => {
                Err(format!("the disk of {} does not answer", folder.display()))
            }
        }
    }

    /// The verified backup of a database, of this system.
    fn verified(&self, instance: &Instance, system: Option<&str>) -> Result<VerifiedBackup> {
        let name = &instance.target.name;
        let records =
            self.state.read(|reading| Ok(reading.backups().list(Some(name), BACKUPS)?))?;
        let wanted = WantedBackup {
            source: name,
            level: instance.backup_min_level,
            max_age: instance.backup_max_age,
            system_identifier: system,
        };
        Ok(verified_backup(&records, &wanted, self.outside.clock.now()))
    }

    fn ledger(&self, database: &str) -> Result<Vec<LedgerRecord>> {
        self.state.read(|reading| Ok(reading.care().ledger(database)?))
    }

    fn intent(&self, action: &str, target: &str) -> Intent {
        Intent::new(self.outside.clock.now(), ACTOR, action).target(target)
    }

    /// Writes down what is about to be begun, before it is.
    async fn announce(&self, entry: &LedgerRecord) -> Result<()> {
        let entry = entry.clone();
        let what = format!("{}.{}", entry.index.0, entry.index.1);
        let intent = self
            .intent("database.reindex.intent", &entry.database)
            .outcome("intent")
            .detail(format!("{what}: {} built", entry.built.len()))
            .correlation_id(entry.run_id.clone());
        self.state.write(intent, move |writing| Ok(writing.care().announce(&entry)?)).await
    }

    /// Nothing of it is left.
    async fn settle(&self, entry: &LedgerRecord) -> Result<()> {
        let key = entry.key.clone();
        let intent = self
            .intent("database.reindex.settled", &entry.database)
            .outcome("ok")
            .detail(format!("{}.{}", entry.index.0, entry.index.1))
            .correlation_id(entry.run_id.clone());
        self.state.write(intent, move |writing| Ok(writing.care().settle(&key)?)).await?;
        Ok(())
    }

    /// The cares of a database that are kept, newest first.
    ///
    /// # Errors
    /// `STORAGE_FAILED`.
    pub fn history(
        &self,
        database: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(CareRecord, Report)>> {
        let records = self.state.read(|reading| Ok(reading.care().list(database, limit)?))?;
        Ok(records.into_iter().map(|record| (record.clone(), reported(record))).collect())
    }

    /// Which indexes were rebuilt when, as far as it is known.
    fn rebuilt(&self, database: &str) -> Result<Vec<(String, Timestamp)>> {
        let mut rebuilt = Vec::new();
        for (record, report) in self.history(Some(database), KEPT)? {
            let at = record.ended_at.unwrap_or(record.started_at);
            let done = report.steps.into_iter().filter(|step| {
                step.action == "reindex" && step.outcome == record::StepOutcome::Done
            });
            rebuilt.extend(done.map(|step| (step.target, at)));
        }
        Ok(rebuilt)
    }

    /// Keeps a care.
    async fn keep(&self, record: CareRecord) -> Result<()> {
        let outcome = match record.outcome {
            CareOutcome::Running => "intent",
            CareOutcome::Done => "ok",
            CareOutcome::Degraded => "degraded",
            CareOutcome::Blocked => "blocked",
            CareOutcome::Failed => "failed",
            CareOutcome::Interrupted => "interrupted",
        };
        let intent = Intent::new(self.outside.clock.now(), record.actor.clone(), "database.care")
            .target(record.database.clone())
            .outcome(outcome)
            .correlation_id(record.id.clone());
        // One that was taken out of the configuration meanwhile is measured no more.
        if self.config().instance(&record.database).is_some() {
            self.metrics.cared(&record);
        }
        self.state.write(intent, move |writing| Ok(writing.care().put(&record, KEPT)?)).await?;
        self.bell.ring();
        Ok(())
    }
}

/// What is in a record; of one that an older agent wrote otherwise nothing.
fn reported(record: CareRecord) -> Report {
    serde_json::from_value(record.report).unwrap_or_default()
}

#[async_trait]
impl Follower for Databases {
    async fn follow(&self, config: &crate::config::Config) {
        let before = self.config.swap(Arc::new(config.database.clone()));
        let gone = |name: &str| config.database.instance(name).is_none();
        for instance in before.instances.iter().filter(|it| gone(&it.target.name)) {
            self.metrics.forget(&instance.target.name);
        }
        self.recall();
    }
}
