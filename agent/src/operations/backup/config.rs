//! `[backup]` and `[[backup.source]]`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use genesis_storage::BackupLevel;

use super::plan::{AGENT, Kind, Query, RowCount, Source, Tool};
use crate::config::Places;
use crate::config::reader::Section;
use crate::outside::database::{Engine, Target};
use crate::scheduler::calendar::Schedule;

/// At most so many sources are configured.
const SOURCE_LIMIT: usize = 33;
/// At most so many queries has one.
const QUERY_LIMIT: usize = 50;
const HOUR: Duration = Duration::from_secs(3_600);

/// A configured database, as backups see it.
#[derive(Debug, Clone)]
pub struct Database {
    /// Its name, and where it is.
    pub target: Target,
    /// How old a verified backup may be.
    pub max_age: Duration,
    /// How deep it must be verified.
    pub min_level: BackupLevel,
}

/// What the configuration says of backups.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Where they are kept.
    pub folder: PathBuf,
    /// Where scratch instances are made; `None`: a place that fits who the agent is.
    pub scratch: Option<PathBuf>,
    /// When sources without a schedule of their own are due.
    pub schedule: Schedule,
    /// Where PostgreSQL's programs are; `None`: where distributions put them.
    pub programs: Option<PathBuf>,
    /// Who a scratch server runs as, where the agent is root.
    pub run_as: String,
    /// What is backed up.
    pub sources: Vec<Source>,
}

/// What sources without a word of their own have.
#[derive(Clone)]
struct Common {
    schedule: Option<Schedule>,
    keep: usize,
    level: BackupLevel,
    timeout: Duration,
}

/// What one source says of itself.
struct Own {
    enabled: bool,
    tool: Tool,
    command: Vec<String>,
    common: Common,
    max_age: Option<Duration>,
    queries: Vec<Query>,
    row_counts: Vec<RowCount>,
}

impl Config {
    /// Reads the sections; `databases` are those that are configured.
    pub fn read(root: &Section<'_>, places: &Places, databases: &[Database]) -> Self {
        let section = root.table("backup");
        let default = places.state.join("backups");
        let folder = section.parsed(
            "folder",
            Some(&default.display().to_string()),
            "Where built-in backups are kept, one folder for each source. Best on a disk of its own.",
            absolute,
        );
        let scratch = section.parsed(
            "scratch",
            Some(""),
            "Where backups are restored to prove them, and removed again. Empty: \".scratch\" in folder; for an agent that \
             runs as root the state folder's name with \"-scratch\" behind it, since run_as can't enter that one.",
            optional,
        );
        if let (Some(folder), Some(Some(scratch))) = (&folder, &scratch)
            && (folder.starts_with(scratch)
                || (scratch.starts_with(folder) && *scratch != folder.join(".scratch")))
        {
            // What is in the one is removed at each start.
            section.problem("scratch", "must not be where the backups are kept, nor around that");
        }
        let schedule = section.parsed(
            "schedule",
            Some("01:00"),
            "When backups are made, UTC.",
            Schedule::parse,
        );
        let common = Common {
            schedule: schedule.clone(),
            keep: section.parsed("keep", Some("7"), KEEP, keep).unwrap_or(7),
            level: section
                .parsed("level", Some("L1"), LEVEL, BackupLevel::parse)
                .unwrap_or(BackupLevel::Checksums),
            timeout: section.duration("timeout", "6h", HOUR / 60..=HOUR * 240, TIMEOUT),
        };
        let programs = section.parsed(
            "programs",
            Some(""),
            "The folder of PostgreSQL's programs. Empty: that of the server's major version, then PATH.",
            optional,
        );
        let run_as = section.text(
            "run_as",
            Some("postgres"),
            "The user that scratch servers run as, where the agent is root: PostgreSQL refuses to be. Restored folders of \
             PostgreSQL belong to it.",
        );
        let mut own = BTreeMap::new();
        for entry in section.tables("source", SOURCE_LIMIT) {
            entry.entry_header();
            let known = |text: &str| {
                let is = text == AGENT || databases.iter().any(|it| it.target.name == text);
                if is {
                    Ok(text.to_owned())
                } else {
                    Err(format!("{text:?} is neither \"agent\" nor a [[database.instance]]"))
                }
            };
            let help = "A [[database.instance]]'s name, or \"agent\". Every database and the agent's own state are backed up \
                        without being named here.";
            let name = entry.parsed("name", None, help, known);
            let engine = databases.iter().find(|it| Some(&it.target.name) == name.as_ref());
            let read = read_source(&entry, &common, engine.map(|it| &it.target.engine));
            if let (Some(name), Some(read)) = (name, read)
                && own.insert(name, read).is_some()
            {
                entry.problem("name", "is there twice");
            }
            entry.finish();
        }
        // Its backups would be where something else is.
        for database in databases.iter().filter(|it| it.target.name.starts_with('.')) {
            let name = &database.target.name;
            section.problem(
                "",
                format!("database {name:?} can't be backed up: its name begins with a dot"),
            );
        }
        section.finish();
        let mut sources = Vec::new();
        for database in databases {
            let kind = match &database.target.engine {
                Engine::Postgres(postgres) => Kind::Postgres(postgres.clone()),
                Engine::Sqlite(path) => Kind::Sqlite(path.clone()),
            };
            let said = own.remove(&database.target.name);
            let limits = (database.max_age, database.min_level);
            sources.extend(source(&database.target.name, kind, said, &common, limits));
        }
        let said = own.remove(AGENT);
        let limits = (HOUR * 26, BackupLevel::Checksums);
        sources.extend(source(AGENT, Kind::Agent, said, &common, limits));
        Self {
            folder: folder.unwrap_or(default),
            scratch: scratch.flatten(),
            // A problem was reported where it can't be read, and then nothing of this is used.
            schedule: schedule.unwrap_or_else(never),
            programs: programs.flatten(),
            run_as,
            sources,
        }
    }

    /// When the job looks what is due: at its own time, or where a source has a time of its own, every ten minutes.
    pub fn wakes(&self) -> Schedule {
        let own = |source: &Source| source.schedule.as_ref().is_some_and(|it| *it != self.schedule);
        match self.sources.iter().any(own) {
            true => Schedule::parse("*/10 * * * *").unwrap_or_else(|_| self.schedule.clone()),
            false => self.schedule.clone(),
        }
    }

    /// The source of this name.
    pub fn source(&self, name: &str) -> Option<&Source> {
        self.sources.iter().find(|source| source.name == name)
    }
}

const KEEP: &str =
    "So many backups of a source are kept; the last verified one is kept whatever this says.";
const LEVEL: &str = "So deep each backup is verified when it is made: L0 recorded, L1 checksums, L2 restored and answering, \
                     L3 queried.";
const TIMEOUT: &str = "Making a backup, or verifying one, is given up after that time.";

fn never() -> Schedule {
    Schedule::constant("* * * * *")
}

fn source(
    name: &str,
    kind: Kind,
    said: Option<Own>,
    common: &Common,
    (max_age, min_level): (Duration, BackupLevel),
) -> Option<Source> {
    let said = said.unwrap_or_else(|| Own {
        enabled: true,
        tool: Tool::Builtin,
        command: Vec::new(),
        common: common.clone(),
        max_age: None,
        queries: Vec::new(),
        row_counts: Vec::new(),
    });
    said.enabled.then(|| Source {
        name: name.to_owned(),
        kind,
        tool: said.tool,
        command: said.command,
        schedule: said.common.schedule,
        keep: said.common.keep,
        level: said.common.level,
        max_age: said.max_age.unwrap_or(max_age),
        min_level,
        queries: said.queries,
        row_counts: said.row_counts,
        timeout: said.common.timeout,
    })
}

fn read_source(entry: &Section<'_>, common: &Common, engine: Option<&Engine>) -> Option<Own> {
    let enabled = entry.flag("enabled", true, "false: it is not backed up by the agent.");
    let tool = entry.parsed(
        "tool",
        Some("builtin"),
        "\"builtin\"; \"pgbackrest\" or \"wal-g\" for PostgreSQL; \"restic\" keeps what the agent makes.",
        Tool::parse,
    );
    let command = entry.list(
        "command",
        &[],
        false,
        "How the tool is called: the beginning of each of its calls, such as [\"pgbackrest\", \"--stanza=main\"]. Whoever \
         can list processes sees it, so secrets belong into the tool's own files.",
    );
    if tool.is_some_and(|tool| tool != Tool::Builtin) && command.is_empty() {
        entry.problem("command", "must say how the tool is called");
    }
    let only_postgres = matches!(tool, Some(Tool::PgBackRest | Tool::WalG));
    if only_postgres && !matches!(engine, Some(Engine::Postgres(_))) {
        entry.problem("tool", "is for databases of PostgreSQL only");
    }
    let schedule =
        entry.parsed("schedule", Some(""), "As in [backup]. \"never\": only by hand.", |text| {
            match text {
                "" => Ok(common.schedule.clone()),
                "never" => Ok(None),
                text => Schedule::parse(text).map(Some),
            }
        });
    let kept = entry.parsed("keep", Some(""), "As in [backup].", |text| match text {
        "" => Ok(common.keep),
        text => keep(text),
    });
    let asked = std::cell::Cell::new(None);
    let level = entry.parsed("level", Some(""), "As in [backup].", |text| match text {
        "" => Ok(common.level),
        text => BackupLevel::parse(text).inspect(|level| asked.set(Some(*level))),
    });
    let max_age = entry.parsed(
        "max_age",
        Some(""),
        "How old a verified backup may be before people hear of it. Empty: the database's backup_max_age; 26h for the agent.",
        |text| match text {
            "" => Ok(None),
            text => crate::config::units::parse_duration(text).map(Some),
        },
    );
    let counts = entry.list(
        "row_counts",
        &[],
        false,
        "Tables that must hold rows at level L3: \"trades\", or \"trades 5%\" where the count may differ from the live \
         one's by so much.",
    );
    let row_counts = counts
        .iter()
        .filter_map(|text| row_count(text).map_err(|why| entry.problem("row_counts", why)).ok());
    let row_counts: Vec<RowCount> = row_counts.collect();
    let mut queries = Vec::new();
    for query in entry.tables("query", QUERY_LIMIT) {
        queries.extend(read_query(query));
    }
    // Of [backup] each source takes what it can; what is asked of one by itself must be possible.
    match (asked.get(), tool) {
        (Some(level), Some(Tool::WalG)) if level > BackupLevel::Recorded => {
            entry.problem("level", "WAL-G has no check of one backup; L0 is all there is");
        }
        (Some(BackupLevel::Queried), _) if queries.is_empty() && row_counts.is_empty() => {
            entry.problem(
                "level",
                "L3 asks what is configured: give row_counts, or a [[backup.source.query]]",
            );
        }
        _ => {}
    }
    Some(Own {
        enabled,
        tool: tool?,
        command,
        common: Common { schedule: schedule?, keep: kept?, level: level?, timeout: common.timeout },
        max_age: max_age?,
        queries,
        row_counts,
    })
}

fn read_query(entry: Section<'_>) -> Option<Query> {
    entry.entry_header();
    let name = entry.text("name", None, "Names the query.");
    let sql = entry.parsed(
        "sql",
        None,
        "One statement, asked of the restored backup at level L3. It answers one value.",
        |text| match text.trim().trim_end_matches(';') {
            "" => Err("is empty".to_owned()),
            text if text.contains(';') => {
                Err("must be one statement, without \";\" in it".to_owned())
            }
            text => Ok(text.to_owned()),
        },
    );
    let expect = entry.text("expect", Some(""), "What it must answer, as text. Empty: anything.");
    entry.finish();
    Some(Query { name, sql: sql?, expect })
}

fn row_count(text: &str) -> Result<RowCount, String> {
    let wrong = || format!("{text:?} is no table, nor a table and a share such as \"trades 5%\"");
    let mut words = text.split_whitespace();
    let table = words.next().ok_or_else(wrong)?.to_owned();
    let within = match (words.next(), words.next()) {
        (None, _) => None,
        (Some(share), None) => {
            let number = share.strip_suffix('%').and_then(|number| number.parse::<f64>().ok());
            let number = number.filter(|number| (0.0..=100.0).contains(number));
            Some(number.ok_or_else(wrong)? / 100.0)
        }
        _ => return Err(wrong()),
    };
    Ok(RowCount { table, within })
}

fn keep(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(keep @ 1..=1_000) => Ok(keep),
        _ => Err(format!("{text:?} is not a number from 1 to 1000, as text")),
    }
}

fn absolute(text: &str) -> Result<PathBuf, String> {
    match text.starts_with('/') {
        true => Ok(PathBuf::from(text)),
        false => Err(format!("{text:?} must be an absolute path")),
    }
}

fn optional(text: &str) -> Result<Option<PathBuf>, String> {
    if text.is_empty() { Ok(None) } else { absolute(text).map(Some) }
}
