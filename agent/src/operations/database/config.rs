//! `[database]` and `[[database.instance]]`: the defaults are the procedures' numbers.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use genesis_storage::BackupLevel;

use crate::config::means;
use crate::config::reader::{Inline, Section, quoted};
use crate::outside::database::{Engine, Postgres, Target, postgres};
use crate::outside::market::TradesProbe;
use crate::scheduler::calendar::Schedule;

/// At most so many databases are configured.
const INSTANCE_LIMIT: usize = 32;
/// At most so many benchmark queries has one.
const BENCH_LIMIT: usize = 20;
const DAY: Duration = Duration::from_secs(86_400);

/// What the configuration says of databases.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// When care is due where a database says nothing else.
    pub schedule: Schedule,
    /// In the order of the text.
    pub instances: Vec<Instance>,
}

impl Config {
    /// The instance of this name.
    pub fn instance(&self, name: &str) -> Option<&Instance> {
        self.instances.iter().find(|instance| instance.target.name == name)
    }

    /// Files that only their owner may read.
    pub fn secrets(&self) -> Vec<PathBuf> {
        let files = self.instances.iter().filter_map(|instance| match &instance.target.engine {
            Engine::Postgres(postgres) => postgres.password_file.clone(),
            Engine::Sqlite(_) => None,
        });
        files.collect()
    }
}

/// A database, and how it is cared for.
#[derive(Debug, Clone, PartialEq)]
pub struct Instance {
    /// Its name, and where it is.
    pub target: Target,
    /// When care is due; `None`: only by hand.
    pub schedule: Option<Schedule>,
    /// So long after that it may go on.
    pub window: Duration,
    /// So many tables are vacuumed at a time.
    pub jobs: u32,
    /// Care begins, and goes on, only with fewer active sessions than that.
    pub max_active: u32,
    /// Care begins, and goes on, only with more than this share of the disk free, 0 to 1.
    pub min_free: f64,
    /// The folder whose disk is meant; `None`: the server's data folder, if it is on this host.
    pub data_dir: Option<PathBuf>,
    /// How old a verified backup may be.
    pub backup_max_age: Duration,
    /// How deep it must be verified.
    pub backup_min_level: BackupLevel,
    /// By what critical trades are told; `None`: they can't be.
    pub trades: Option<TradesProbe>,
    /// So long a statement of ours waits for a lock, and others for us.
    pub lock_timeout: Duration,
    /// Replication may be so far behind.
    pub max_lag: Duration,
    /// Which indexes are rebuilt.
    pub bloat: Bloat,
    /// Measured before and after.
    pub bench: Vec<BenchQuery>,
    /// Sessions of these roles are never ended.
    pub spared_roles: Vec<String>,
    /// The console of a PgBouncer before it.
    pub pgbouncer: Option<Postgres>,
}

/// Which indexes are rebuilt.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bloat {
    /// At least so bloated, 0 to 1.
    pub least: f64,
    /// At least so large, in bytes.
    pub smallest: u64,
    /// At most so large, in bytes.
    pub largest: u64,
    /// Not again for so long.
    pub cooldown: Duration,
    /// At most so many in one run.
    pub most: usize,
}

/// A query that is measured before and after care.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BenchQuery {
    /// Its name.
    pub name: String,
    /// One statement that only reads.
    pub sql: String,
    /// Its 95th percentile stays below.
    pub budget: Duration,
}

impl Config {
    /// Reads the sections.
    pub fn read(root: &Section<'_>) -> Self {
        let section = root.table("database");
        let schedule = section.parsed(
            "schedule",
            Some("Sun 03:00"),
            "When care is due, UTC, where a database says nothing else.",
            Schedule::parse,
        );
        let schedule = schedule.unwrap_or_else(|| Schedule::constant("Sun 03:00"));
        let (mut instances, mut names) = (Vec::new(), BTreeSet::new());
        for entry in section.tables("instance", INSTANCE_LIMIT) {
            entry.entry_header();
            let name = entry.parsed(
                "name",
                None,
                "Names the database, on the command line and in backups.",
                name,
            );
            if let Some(name) = &name
                && !names.insert(name.clone())
            {
                entry.problem("name", format!("{name:?} is used by another database"));
            }
            instances.extend(read_instance(&entry, name, &schedule));
            entry.finish();
        }
        section.finish();
        Self { schedule, instances }
    }
}

fn name(text: &str) -> Result<String, String> {
    let ok = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    match text {
        "agent" => Err("\"agent\" is the agent's own state; choose another name".to_owned()),
        text if (1..=64).contains(&text.len()) && text.bytes().all(ok) => Ok(text.to_owned()),
        text => Err(format!("{text:?} is no name; use 1 to 64 of a-z, A-Z, 0-9 and -_.")),
    }
}

fn read_instance(entry: &Section<'_>, name: Option<String>, usual: &Schedule) -> Option<Instance> {
    let url = entry.parsed(
        "url",
        None,
        "postgres://user@host:5432/database?sslmode=verify-full&sslrootcert=/path (as libpq has it, without a password; \
         ?host=/run/postgresql for a socket), or sqlite:/path/file.db.",
        engine,
    );
    let password_file = optional_path(
        entry,
        "password_file",
        "Passwords in libpq's format (host:port:database:user:password), 0600. Empty: $PGPASSFILE or ~/.pgpass.",
    );
    let schedule = entry.parsed(
        "schedule",
        Some(""),
        "When care is due, UTC. Empty: as in [database]. \"never\": only by hand.",
        |text| match text {
            "" => Ok(Some(usual.clone())),
            "never" => Ok(None),
            text => Schedule::parse(text).map(Some),
        },
    );
    let window = entry.duration(
        "window",
        "30m",
        Duration::from_secs(1)..=DAY,
        "Care ends so long after it was due, or after it was begun by hand; what is left is deferred.",
    );
    let jobs = number(entry, "jobs", "2", 1..=16, "So many tables are vacuumed at a time.");
    let max_active = number(
        entry,
        "max_active",
        "10",
        1..=100_000,
        "Care needs fewer active sessions than that; the agent's own do not count.",
    );
    let min_free =
        percent(entry, "min_free", "20%", "Care needs more than this share of the disk free.");
    let data_dir = optional_path(
        entry,
        "data_dir",
        "The folder whose disk must have room. Empty: that of the server's data, which must be on this host.",
    );
    let backup_max_age = entry.duration(
        "backup_max_age",
        "26h",
        DAY / 24..=365 * DAY,
        "How old a verified backup may be.",
    );
    let backup_min_level = entry.parsed(
        "backup_min_level",
        Some("L1"),
        "How deep it must be verified: L0 recorded, L1 checksums, L2 restored and answering, L3 queried.",
        BackupLevel::parse,
    );
    let trades = read_trades(entry);
    let lock_timeout = entry.duration(
        "lock_timeout",
        "3s",
        Duration::from_millis(10)..=Duration::from_secs(60),
        "So long a statement of the agent waits for a lock, and nobody waits longer for it.",
    );
    let max_lag = entry.duration(
        "max_lag",
        "5m",
        Duration::from_secs(1)..=DAY,
        "Care needs every replica to be less behind.",
    );
    let bloat = Bloat {
        least: percent(entry, "bloat_least", "20%", "An index this bloated, or more, is rebuilt.")
            .unwrap_or(0.2),
        smallest: entry.size(
            "bloat_smallest",
            "16MiB",
            0..1 << 50,
            "Smaller indexes are not rebuilt.",
        ),
        largest: entry.size(
            "bloat_largest",
            "100GiB",
            1..1 << 50,
            "Larger indexes are left to people.",
        ),
        cooldown: entry.duration(
            "bloat_cooldown",
            "10d",
            Duration::ZERO..=365 * DAY,
            "An index is not rebuilt again for so long.",
        ),
        most: number(
            entry,
            "bloat_most",
            "8",
            0..=1_000,
            "At most so many indexes are rebuilt in one run.",
        )
        .unwrap_or(8) as usize,
    };
    let spared_roles =
        entry.list("spared_roles", &[], false, "Sessions of these roles are never ended.");
    let pgbouncer = entry.parsed(
        "pgbouncer",
        Some(""),
        "The console of a PgBouncer before it, such as postgres://stats@127.0.0.1:6432/pgbouncer. Empty: none.",
        |text| match text {
            "" => Ok(None),
            text => postgres::check_url(text).map(|()| Some(text.to_owned())),
        },
    );
    let bench = entry.tables("bench", BENCH_LIMIT).into_iter().filter_map(read_bench).collect();
    let mut engine = url?;
    match &mut engine {
        Engine::Postgres(postgres) => postgres.password_file = password_file.clone(),
        Engine::Sqlite(_) => {
            // At its default it may stand there, as it does in the text in force.
            let given = [
                ("password_file", password_file.is_some()),
                ("pgbouncer", pgbouncer.as_ref().is_some_and(Option::is_some)),
                ("spared_roles", !spared_roles.is_empty()),
            ];
            for (key, _) in given.into_iter().filter(|(_, given)| *given) {
                entry.problem(key, "is for PostgreSQL");
            }
        }
    }
    let pgbouncer = pgbouncer?.map(|url| Postgres { url, password_file, fence: None });
    Some(Instance {
        target: Target { name: name?, engine },
        schedule: schedule?,
        window,
        jobs: jobs?,
        max_active: max_active?,
        min_free: min_free?,
        data_dir,
        backup_max_age,
        backup_min_level: backup_min_level?,
        trades: trades?,
        lock_timeout,
        max_lag,
        bloat,
        bench,
        spared_roles,
        pgbouncer,
    })
}

fn engine(text: &str) -> Result<Engine, String> {
    match text.strip_prefix("sqlite:") {
        Some(path) if path.starts_with('/') && !path.starts_with("//") => {
            Ok(Engine::Sqlite(path.into()))
        }
        Some(path) => Err(format!("{path:?} must be an absolute path, as in sqlite:/var/lib/x.db")),
        None => {
            postgres::check_url(text)?;
            Ok(Engine::Postgres(Postgres {
                url: text.to_owned(),
                password_file: None,
                fence: None,
            }))
        }
    }
}

/// How critical trades are told. `Some(None)`: it is not said.
#[allow(clippy::option_option)] // None: a problem was reported.
fn read_trades(entry: &Section<'_>) -> Option<Option<TradesProbe>> {
    const HELP: &str = "How critical trades in progress are told: { sql = \"SELECT count(*) ...\" } in this database, \
                        { command = [\"argv\", ...], timeout = \"5s\" } (the last line it prints is their number), \
                        { grpc = \"http://127.0.0.1:9000\", timeout = \"2s\", ca_file = \"/path\" } \
                        (genesis.trading.v1.TradingControl), or \"none\" for a database that no trade needs. Empty: it \
                        can't be told, and care waits.";
    match entry.inline("trades_probe", "", HELP) {
        None => Some(None),
        Some(Inline::Text(text)) if text.is_empty() => Some(None),
        Some(Inline::Text(text)) if text == "none" => {
            entry.effective_inline("trades_probe", "\"none\"");
            Some(Some(TradesProbe::Nobody))
        }
        Some(Inline::Text(text)) => {
            entry.problem(
                "trades_probe",
                format!("{text:?} is not \"none\", nor a table with sql, command or grpc"),
            );
            None
        }
        Some(Inline::Table(table)) => {
            let probe = if table.has("command") {
                means::hook(entry, "trades_probe", &table).map(TradesProbe::Command)
            } else if table.has("grpc") {
                means::grpc(entry, "trades_probe", &table, Duration::from_secs(2)).map(
                    |means::Grpc { target, ca, timeout }| TradesProbe::Grpc { target, ca, timeout },
                )
            } else if let Some(sql) = table.quiet_text("sql").filter(|sql| !sql.trim().is_empty()) {
                entry.effective_inline("trades_probe", &format!("{{ sql = {} }}", quoted(&sql)));
                Some(TradesProbe::Sql(sql))
            } else {
                entry.problem("trades_probe", "needs sql, command or grpc");
                None
            };
            table.finish();
            probe.map(Some)
        }
    }
}

fn read_bench(entry: Section<'_>) -> Option<BenchQuery> {
    entry.entry_header();
    let name = entry.parsed("name", None, "Names the query.", name);
    let sql = entry.parsed(
        "sql",
        None,
        "One statement that only reads. It runs 20 times before care and 20 times after (up to 60 where it seems slower), in transactions that can't write.",
        |text| match text.trim().trim_end_matches(';') {
            "" => Err("is empty".to_owned()),
            text if text.contains(';') => Err("must be one statement, without \";\" in it".to_owned()),
            text => Ok(text.to_owned()),
        },
    );
    let budget = entry.duration(
        "budget",
        "1s",
        Duration::from_millis(1)..=Duration::from_secs(60),
        "Its 95th percentile stays below.",
    );
    entry.finish();
    Some(BenchQuery { name: name?, sql: sql?, budget })
}

fn optional_path(entry: &Section<'_>, key: &'static str, help: &'static str) -> Option<PathBuf> {
    let parsed = entry.parsed(key, Some(""), help, |text| match text {
        "" => Ok(None),
        text if text.starts_with('/') => Ok(Some(PathBuf::from(text))),
        text => Err(format!("{text:?} must be an absolute path")),
    });
    parsed.flatten()
}

fn number(
    entry: &Section<'_>,
    key: &'static str,
    default: &'static str,
    allowed: std::ops::RangeInclusive<u32>,
    help: &'static str,
) -> Option<u32> {
    entry.parsed(key, Some(default), help, |text| match text.parse() {
        Ok(number) if allowed.contains(&number) => Ok(number),
        _ => Err(format!(
            "{text:?} is not a number from {} to {}, as text",
            allowed.start(),
            allowed.end()
        )),
    })
}

/// A share, written in percent, from 0 to 1.
fn percent(
    entry: &Section<'_>,
    key: &'static str,
    default: &'static str,
    help: &'static str,
) -> Option<f64> {
    entry.parsed(key, Some(default), help, |text| {
        let number = text.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
        match number {
            Some(number) if (0.0..=100.0).contains(&number) => Ok(number / 100.0),
            _ => Err(format!("{text:?} is no share such as \"20%\"")),
        }
    })
}
