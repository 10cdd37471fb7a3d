//! `db`: the verbs, and the list of databases.

use clap::{Args, Subcommand};
use genesis_client::v1::{Care, Database, Engine, ListDatabasesRequest};

use super::{db_care, db_health, db_history, db_sessions};
use crate::connect::Session;
use crate::exit::{Exit, Halt};
use crate::format;
use crate::render::{Answer, Cell, View};

pub(super) const SERVICE: &str = "genesis.v1.DatabaseService";

pub(super) const LIST_COLUMNS: &[&str] =
    &["DATABASE", "ENGINE", "PLACE", "SCHEDULE", "NEXT", "LAST OPTIMIZED", "OUTCOME", "NOTE"];

const LIST_EXAMPLES: &str = "\
Asks no server: `genesisctl db health` does.

Examples:
  genesisctl db list
  genesisctl db list -v --all";

const PREFLIGHT_EXAMPLES: &str = "\
Exits 4 while an item fails, 5 where one is unknown and none fails: unknown is never a pass.

Examples:
  genesisctl db preflight
  genesisctl db preflight --database orders -v";

const OPTIMIZE_EXAMPLES: &str = "\
VACUUM, ANALYZE, rebuilding of bloated indexes, then verification. Outside of its window nothing is done (exit 0),
unless --force is given. What the preflight finds unmet keeps it from starting (exit 4) in any case; an admin with a
--reason may leave items out. The exit code is the run's, as in `genesisctl run watch`.

Examples:
  genesisctl db optimize --plan
  genesisctl db optimize --force --database orders --reason 'the bulk load is done'
  genesisctl db optimize --force --override backup-verified --reason 'the backup host moves today'";

const HEALTH_EXAMPLES: &str = "\
Exits 3 where an item fails, 5 where one is unknown.

Examples:
  genesisctl db health
  genesisctl db health --database orders -o json";

const INDEXES_EXAMPLES: &str = "\
Exits 3 where there is advice. Nothing is changed: the SQL is for you to run; what is commented out has a caution.

Examples:
  genesisctl db indexes
  genesisctl db indexes --database orders --timeout 5m";

const BLOCKERS_EXAMPLES: &str = "\
Whoever is at the root comes first, then, indented, who waits for it. Exits 3 while anybody waits.

Examples:
  genesisctl db blockers
  genesisctl db blockers --database orders -v";

const KILL_EXAMPLES: &str = "\
Needs --reason. Asks at a terminal, showing what would be ended; elsewhere it needs --yes. The query is cancelled
first, and the session terminated only if that did not help. Exits 3 where others still wait for it.

Examples:
  genesisctl db blockers
  genesisctl db kill 4711 --plan
  genesisctl db kill 4711 --database orders --reason 'holds the lock on positions since 09:00'";

const VERIFY_EXAMPLES: &str = "\
Runs each benchmark query 20 times, in transactions that only read; one that seems slower than before is measured up
to twice more. Give slow ones more --timeout. Exits 3 where something fails, 5 where something is unknown.

Examples:
  genesisctl db verify
  genesisctl db verify --database orders --timeout 10m";

const HISTORY_EXAMPLES: &str = "\
With -v each one with its preflight, steps, benchmark queries and verification.

Examples:
  genesisctl db history
  genesisctl db history --database orders --limit 1 -v";

/// Which database is meant.
#[derive(Debug, Clone, Args)]
pub(crate) struct Which {
    /// The database; it may be left out where there is only one.
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    pub(super) database: String,
}

impl Which {
    /// The database in the words of a question.
    pub(super) fn named(&self) -> String {
        match self.database.as_str() {
            "" => "the database".to_owned(),
            name => format!("the database {name}"),
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// List the databases, when each is due, and what came of the last time.
    #[command(after_help = LIST_EXAMPLES)]
    List,
    /// Measure whether optimization could begin now, item by item.
    #[command(after_help = PREFLIGHT_EXAMPLES)]
    Preflight(Which),
    /// Optimize a database if it is due, and wait for the run's end.
    #[command(after_help = OPTIMIZE_EXAMPLES)]
    Optimize(Optimize),
    /// Measure how a database is.
    #[command(after_help = HEALTH_EXAMPLES)]
    Health(Which),
    /// Find indexes that are bloated, unused, duplicate, invalid or missing.
    #[command(after_help = INDEXES_EXAMPLES)]
    Indexes(Which),
    /// Show who waits for whom, and who is at the root.
    #[command(after_help = BLOCKERS_EXAMPLES)]
    Blockers(Which),
    /// End what a session does.
    #[command(after_help = KILL_EXAMPLES)]
    Kill {
        /// The session's process id, as in `db blockers`.
        #[arg(value_parser = clap::value_parser!(i32).range(1..))]
        pid: i32,
        #[command(flatten)]
        which: Which,
    },
    /// Verify a database as after optimization: benchmark queries, indexes, connections, backup.
    #[command(after_help = VERIFY_EXAMPLES)]
    Verify(Which),
    /// List what was done to databases, newest first.
    #[command(after_help = HISTORY_EXAMPLES)]
    History {
        /// Only this database.
        #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
        database: String,
        /// At most this many.
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Optimize {
    #[command(flatten)]
    pub(super) which: Which,
    /// Now, whatever its window says. The preflight counts all the same.
    #[arg(long)]
    pub(super) force: bool,
    /// Items of the preflight that don't count this time, comma-separated or repeated. Needs --reason, and the role
    /// of an admin.
    #[arg(long = "override", value_name = "ITEM", num_args = 1.., value_delimiter = ',')]
    pub(super) overrides: Vec<String>,
    /// Don't wait for the run's end.
    #[arg(long)]
    pub(super) detach: bool,
}

impl Optimize {
    /// The rpc by which it optimizes.
    pub(super) fn method(&self) -> &'static str {
        if self.overrides.is_empty() { "OptimizeDatabase" } else { "OptimizeDatabaseDespite" }
    }
}

impl Verb {
    /// The rpc by which it changes something.
    pub(super) fn changes(&self) -> Option<super::Change> {
        match self {
            Self::Optimize(arguments) => Some((SERVICE, arguments.method())),
            Self::Kill { .. } => Some((SERVICE, "KillSession")),
            Self::List
            | Self::Preflight(_)
            | Self::Health(_)
            | Self::Indexes(_)
            | Self::Blockers(_)
            | Self::Verify(_)
            | Self::History { .. } => None,
        }
    }
}

pub(super) async fn dispatch(verb: &Verb, session: &Session<'_>) -> Result<Exit, Halt> {
    match verb {
        Verb::List => list(session).await,
        Verb::Preflight(which) => db_care::preflight(session, which).await,
        Verb::Optimize(arguments) => db_care::optimize(session, arguments).await,
        Verb::Health(which) => db_health::health(session, which).await,
        Verb::Indexes(which) => db_health::indexes(session, which).await,
        Verb::Blockers(which) => db_sessions::blockers(session, which).await,
        Verb::Kill { pid, which } => db_sessions::kill(session, *pid, which).await,
        Verb::Verify(which) => db_care::verify(session, which).await,
        Verb::History { database, limit } => db_history::show(session, database, *limit).await,
    }
}

pub(super) fn engine(engine: Engine) -> &'static str {
    match engine {
        Engine::Postgres => "PostgreSQL",
        Engine::Sqlite => "SQLite",
        Engine::Unspecified => format::NONE,
    }
}

async fn list(session: &Session<'_>) -> Result<Exit, Halt> {
    session
        .each_in(LIST_COLUMNS, |client| async move {
            let list = client
                .call(ListDatabasesRequest {}, |c, r| async move {
                    c.database().list_databases(r).await
                })
                .await?;
            let json = session.json("ListDatabasesResponse", &list)?;
            let more = session.global.verbose;
            let view = View {
                columns: LIST_COLUMNS,
                rows: list.databases.iter().map(row).collect(),
                tail: list.databases.iter().filter(|_| more).map(circumstances).collect(),
                empty: "no databases are configured",
                ..View::default()
            };
            Ok(Answer::new(json, view))
        })
        .await
}

pub(super) fn row(database: &Database) -> Vec<Cell> {
    let last = database.last.as_ref();
    let ended = last.and_then(|care| care.ended_at.as_ref().or(care.started_at.as_ref()));
    vec![
        Cell::from(database.name.as_str()),
        Cell::from(engine(database.engine())),
        Cell::from(format::or_none(&database.place)),
        Cell::from(if database.schedule.is_empty() { "by hand" } else { &database.schedule }),
        Cell::from(format::time(database.next_at.as_ref())),
        Cell::from(last.map_or_else(|| "never".to_owned(), |_| format::time(ended))),
        last.map_or_else(|| Cell::from(format::NONE), |care| Cell::care_outcome(care.outcome())),
        Cell::from(note(database)),
    ]
}

/// What goes on, or what was found the last time.
fn note(database: &Database) -> String {
    match database.run_id.as_str() {
        "" => database.last.as_ref().map_or_else(String::new, found),
        run => format!("run {run} goes on"),
    }
}

/// The first finding, and how many more there are.
pub(super) fn found(care: &Care) -> String {
    match care.findings.as_slice() {
        [] => String::new(),
        [only] => crate::render::finding(only),
        [first, more @ ..] => {
            format!("{} (and {} more)", crate::render::finding(first), more.len())
        }
    }
}

fn circumstances(database: &Database) -> String {
    let last = match &database.last {
        None => "never optimized".to_owned(),
        Some(care) => format!(
            "last run {} took {} and freed {}",
            format::or_none(&care.run_id),
            format::between(care.started_at.as_ref(), care.ended_at.as_ref()),
            format::bytes(care.bytes_freed)
        ),
    };
    let window = format::proto_duration(database.window.as_ref());
    format!("{}: window {window}, {last}", database.name)
}
