//! What is watched without being configured: this host and the agent itself.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use genesis_storage::BackupLevel;

use super::check::{self, Check, Deed, Level, Means, Severity, usual_limits, usual_row};
use super::config::Config;
use super::life::Policy;
use crate::config::Places;
use crate::config::named::NamedDatabase;
use crate::outside::database::Engine;
use crate::outside::probes::Probe;
use crate::pki;

/// Who waits for another session for less is left alone.
const PATIENCE: Duration = Duration::from_secs(10);

/// What of this host the built-in checks look at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Watched {
    /// Folders whose file systems must have room; the first on each stands for it.
    pub folders: Vec<PathBuf>,
    /// The folder of the local copies of logs, whose file system room can be made on.
    pub copies: PathBuf,
    /// Files that only their owner may read.
    pub secrets: Vec<PathBuf>,
    /// The configured databases.
    pub databases: Vec<Database>,
}

/// What of a configured database the built-in checks look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    /// Its name.
    pub name: String,
    /// It is one of PostgreSQL.
    pub postgres: bool,
    /// A PgBouncer is before it.
    pub pooler: bool,
    /// How old a verified backup may be.
    pub backup_max_age: Duration,
    /// How deep it must be verified.
    pub backup_level: BackupLevel,
}

impl Watched {
    /// What a configuration makes of this host.
    pub fn of(config: &crate::config::Config, places: &Places) -> Self {
        let logs = &config.logs;
        let mut folders = vec![PathBuf::from("/"), places.state.clone(), logs.local_dir.clone()];
        folders.extend(logs.archive.folder().cloned());
        for pattern in logs.sources.iter().flat_map(|source| &source.paths) {
            // The folder above the first part that is no plain name.
            let literal = pattern.split(['*', '?', '[']).next().unwrap_or_default();
            folders.extend(Path::new(literal).parent().map(Path::to_owned));
        }
        // A CA is not on every host; what is not there does not count.
        let mut secrets = vec![places.database(), places.pki().join(pki::KEY)];
        secrets.extend(config.tls.iter().map(|tls| tls.key.clone()));
        secrets.extend(config.baselines.otlp_token_file.clone());
        secrets.extend(logs.archive.secrets());
        secrets.extend(config.alerts.secrets());
        secrets.extend(config.database.secrets());
        secrets.extend(config.certificates.secrets());
        secrets.extend(config.fleet.secrets());
        secrets.extend(config.tracing.headers_file.clone());
        let databases = config.database.instances.iter().map(|instance| Database {
            name: instance.target.name.clone(),
            postgres: matches!(instance.target.engine, Engine::Postgres(_)),
            pooler: instance.pgbouncer.is_some(),
            backup_max_age: instance.backup_max_age,
            backup_level: instance.backup_min_level,
        });
        let databases = databases.collect();
        Self { folders, copies: logs.local_dir.clone(), secrets, databases }
    }
}

/// Whether a built-in check may have this id. Which of those of file systems there are, only the host can say.
pub fn may_be_built_in(id: &str, databases: &[NamedDatabase]) -> bool {
    if matches!(id, "memory" | "load" | "agent" | "clock" | "secrets") {
        return true;
    }
    let Some((kind, rest)) = id.split_once(':') else { return false };
    let known = databases.iter().find(|known| known.name == rest);
    match kind {
        "disk" | "inodes" => rest.starts_with('/'),
        "database" | "integrity" | "backup" => known.is_some(),
        "pool" | "locks" | "deadlocks" => known.is_some_and(|known| known.postgres),
        "pooler" => known.is_some_and(|known| known.pooler),
        _ => false,
    }
}

/// Every check in force: the configured ones, and the built-in ones that none of those replaces. `device` names the
/// file system of a folder.
pub fn checks(
    config: &Config,
    watched: &Watched,
    device: impl Fn(&Path) -> Option<u64>,
) -> Vec<Check> {
    let mut checks = config.checks.clone();
    if !config.defaults {
        return checks;
    }
    let known: BTreeSet<String> = checks.iter().map(|check| check.id.clone()).collect();
    let built = |id: String, probe: Probe, level: Level, severity: Severity| {
        let row = usual_row(&probe);
        let interval = level.interval();
        Check {
            id,
            row,
            level,
            severity,
            timeout: Duration::from_secs(5),
            policy: Policy {
                interval,
                hold: Duration::ZERO,
                looks: 1,
                clear: Duration::ZERO,
                settle: interval * 2,
                cooldown: Duration::from_secs(60),
                escalate_after: config.escalate_after,
            },
            depends_on: Vec::new(),
            limits: usual_limits(&probe),
            action: None,
            fallback: None,
            runbook: check::runbook(row, &probe),
            probe,
        }
    };
    let mut found = Vec::new();
    let (mut devices, copies) = (BTreeSet::new(), device(&watched.copies));
    for folder in &watched.folders {
        let Some(at) = device(folder) else { continue };
        if !devices.insert(at) {
            continue;
        }
        let shown = folder.display();
        let bytes = Probe::DiskBytes { path: folder.clone() };
        let inodes = Probe::DiskInodes { path: folder.clone() };
        for (id, probe, level, severity) in [
            (format!("disk:{shown}"), bytes, Level::Shallow, Severity::Critical),
            (format!("inodes:{shown}"), inodes, Level::Deep, Severity::High),
        ] {
            let mut check = built(id, probe, level, severity);
            if copies == Some(at) {
                check.policy.looks = 2;
                check.action =
                    Some(Deed { action: check.row.action, means: Means::BuiltIn("make-room") });
            }
            found.push(check);
        }
    }
    let mut memory = built("memory".to_owned(), Probe::HostMemory, Level::Shallow, Severity::High);
    memory.policy.hold = Duration::from_secs(60);
    found.push(memory);
    found.push(built("load".to_owned(), Probe::Load, Level::Shallow, Severity::Low));
    let mut agent = built("agent".to_owned(), Probe::Agent, Level::Shallow, Severity::Critical);
    // Longer than what is critical.
    agent.timeout = Duration::from_secs(15);
    found.push(agent);
    found.push(built("clock".to_owned(), Probe::Clock, Level::Deep, Severity::Medium));
    if !watched.secrets.is_empty() {
        let files = watched.secrets.clone();
        let secrets = Probe::Secrets { files };
        found.push(built("secrets".to_owned(), secrets, Level::Deep, Severity::Medium));
    }
    for database in &watched.databases {
        found.extend(of_database(database, &built));
    }
    checks.extend(found.into_iter().filter(|check| !known.contains(&check.id)));
    checks
}

/// The checks of a database. All of them need it to answer, and a chain of sessions that wait takes its connections up.
fn of_database(
    database: &Database,
    built: &impl Fn(String, Probe, Level, Severity) -> Check,
) -> Vec<Check> {
    let name = || database.name.clone();
    let id = |kind: &str| format!("{kind}:{}", database.name);
    let armed = |mut check: Check, action: &'static str| {
        check.policy.looks = 2;
        check.action = Some(Deed { action: check.row.action, means: Means::BuiltIn(action) });
        check
    };
    let answers = Probe::DatabaseAnswers { database: name() };
    let answers = built(id("database"), answers, Level::Shallow, Severity::Critical);
    let mut found = Vec::new();
    if database.postgres {
        let probe = Probe::DatabaseBlocked { database: name(), patience: PATIENCE };
        let mut locks = built(id("locks"), probe, Level::Shallow, Severity::High);
        locks.policy.hold = Duration::from_secs(30);
        found.push(armed(locks, "cancel-query"));
        let probe = Probe::DatabasePool { database: name() };
        let mut pool = built(id("pool"), probe, Level::Shallow, Severity::Critical);
        pool.depends_on.push(id("locks"));
        found.push(armed(pool, "reset-connections"));
        let probe = Probe::DatabaseDeadlocks { database: name() };
        found.push(built(id("deadlocks"), probe, Level::Shallow, Severity::Medium));
    }
    if database.pooler {
        let probe = Probe::DatabasePooler { database: name() };
        let mut pooler = built(id("pooler"), probe, Level::Shallow, Severity::High);
        pooler.policy.looks = 2;
        found.push(pooler);
    }
    let probe = Probe::DatabaseIntegrity { database: name() };
    let mut integrity = built(id("integrity"), probe, Level::Deep, Severity::Critical);
    // Reading all of a file takes its time.
    integrity.timeout = integrity.policy.interval / 2;
    found.push(integrity);
    let probe = Probe::BackupAge { source: name(), level: database.backup_level };
    let mut backup = built(id("backup"), probe, Level::Deep, Severity::High);
    backup.limits.crit = Some(database.backup_max_age.as_secs_f64() / 3_600.0);
    found.push(backup);
    for check in &mut found {
        check.depends_on.push(id("database"));
    }
    found.insert(0, answers);
    found
}
