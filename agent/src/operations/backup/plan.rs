//! What to do about backups: pure. Policy is a table where it can be one.

use std::path::{Path, PathBuf};
use std::time::Duration;

use genesis_storage::{BackupLevel, BackupRecord, BackupState, Verdict};
use jiff::Timestamp;

use crate::error::{Error, Result, Unmet};
use crate::outside::database::Postgres;
use crate::scheduler::calendar::Schedule;

/// The agent's own state, among the sources.
pub const AGENT: &str = "agent";
/// Beside what the last backup took, or the source takes, so much must be free: a fifth.
const MARGIN: u64 = 5;
/// A new source of which nothing is known needs at least that, in bytes.
const LEAST_ROOM: u64 = 16 << 20;

/// By what backups are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// The agent itself.
    Builtin,
    /// pgBackRest.
    PgBackRest,
    /// WAL-G.
    WalG,
    /// What the agent makes, kept by restic.
    Restic,
}

impl Tool {
    /// Each of them.
    pub const ALL: [Self; 4] = [Self::Builtin, Self::PgBackRest, Self::WalG, Self::Restic];

    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Builtin => "builtin",
            Self::PgBackRest => "pgbackrest",
            Self::WalG => "wal-g",
            Self::Restic => "restic",
        }
    }

    /// Reads a name.
    ///
    /// # Errors
    /// The names that are known.
    pub fn parse(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|tool| tool.name() == text);
        found.ok_or_else(|| format!("{text:?} is not one of builtin, pgbackrest, wal-g, restic"))
    }

    /// Whether its own list says which backups there are.
    pub fn lists(self) -> bool {
        self != Self::Builtin
    }
}

/// What a source is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A server of PostgreSQL, whole.
    Postgres(Postgres),
    /// A file of SQLite.
    Sqlite(PathBuf),
    /// The agent's own state.
    Agent,
}

impl Kind {
    /// As its backups' records have it.
    pub fn engine(&self) -> &'static str {
        match self {
            Self::Postgres(_) => "postgres",
            Self::Sqlite(_) => "sqlite",
            Self::Agent => "redb",
        }
    }

    /// What its contents are called within a backup.
    pub fn contents(&self) -> &'static str {
        contents(self.engine())
    }
}

/// What the contents of an engine's backup are called within it.
pub fn contents(engine: &str) -> &'static str {
    match engine {
        "postgres" => "data",
        "sqlite" => "database.sqlite",
        _ => "state.redb",
    }
}

/// A query that a restored backup must answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// Its name.
    pub name: String,
    /// One statement that only reads.
    pub sql: String,
    /// What it must answer; empty: anything.
    pub expect: String,
}

/// A table that a restored backup must hold rows of.
#[derive(Debug, Clone, PartialEq)]
pub struct RowCount {
    /// Its name, with its schema if need be.
    pub table: String,
    /// By this share its rows may differ from those of the live one, 0 to 1; `None`: there is one.
    pub within: Option<f64>,
}

/// What is backed up, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    /// The database's name, or "agent".
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// By what.
    pub tool: Tool,
    /// How a tool is called: the beginning of each of its calls.
    pub command: Vec<String>,
    /// When; `None`: by hand only.
    pub schedule: Option<Schedule>,
    /// So many are kept.
    pub keep: usize,
    /// So deep each is verified when it is made.
    pub level: BackupLevel,
    /// How old a verified one may be.
    pub max_age: Duration,
    /// How deep it must be verified to count.
    pub min_level: BackupLevel,
    /// Asked at level L3.
    pub queries: Vec<Query>,
    /// Counted at level L3.
    pub row_counts: Vec<RowCount>,
    /// How long making one may take, or verifying it.
    pub timeout: Duration,
}

impl Source {
    /// The deepest level, up to this one, that its backups can be verified to.
    pub fn deepest(&self, level: BackupLevel) -> BackupLevel {
        let possible = BackupLevel::ALL.into_iter().filter(|it| *it <= level);
        let possible = possible.filter(|it| self.possible(*it).is_ok());
        possible.max().unwrap_or(BackupLevel::Recorded)
    }

    /// Whether its backups can be verified to a level.
    ///
    /// # Errors
    /// `LEVEL_NOT_POSSIBLE` with the reason.
    pub fn possible(&self, level: BackupLevel) -> Result<()> {
        let tool = self.tool.name();
        let why = match (self.tool, level) {
            (_, BackupLevel::Recorded) => None,
            (Tool::WalG, _) => {
                Some(format!("{tool} has no check of one backup; L0 is all there is"))
            }
            (_, BackupLevel::Queried) if self.kind == Kind::Agent => {
                Some("the agent's own state is asked nothing beyond L2".to_owned())
            }
            (_, BackupLevel::Queried) if self.queries.is_empty() && self.row_counts.is_empty() => {
                Some("no queries and no row_counts are configured".to_owned())
            }
            _ => None,
        };
        match why {
            None => Ok(()),
            Some(why) => {
                let message =
                    format!("backups of {} can't be verified to {level}: {why}", self.name);
                Err(Error::invalid("LEVEL_NOT_POSSIBLE", message))
            }
        }
    }
}

/// Whether a source is due: since its newest backup was begun, whatever became of it, there was a time of its schedule.
pub fn due(source: &Source, newest: Option<Timestamp>, now: Timestamp) -> bool {
    match (&source.schedule, newest) {
        (None, _) => false,
        (Some(_), None) => true,
        // Begun by a clock that was ahead: wait for ever it shall not.
        (Some(_), Some(newest)) if newest > now => true,
        (Some(schedule), Some(newest)) => schedule.next_after(newest).is_some_and(|at| at <= now),
    }
}

/// How much must be free before a backup is begun, by what the last one took and what the source takes now.
pub fn wanted_room(last: Option<u64>, live: Option<u64>) -> u64 {
    let most = last.unwrap_or(0).max(live.unwrap_or(0));
    most.saturating_add(most / MARGIN).max(LEAST_ROOM)
}

/// Refuses what there is no room for.
///
/// # Errors
/// `BACKUP_NO_ROOM` with the numbers.
pub fn room(free: u64, wanted: u64, folder: &Path) -> Result<()> {
    if free >= wanted {
        return Ok(());
    }
    let message = format!(
        "{free} bytes are free on the disk of {}, a backup needs {wanted}; nothing was begun",
        folder.display()
    );
    let unmet = vec![Unmet {
        code: "BACKUP_NO_ROOM",
        subject: folder.display().to_string(),
        message: message.clone(),
    }];
    Err(Error::refused("BACKUP_NO_ROOM", message, unmet))
}

/// Which backups of a source are over, by what is kept of it. The newest that is verified as deeply as is configured
/// stays, or where there is none the most deeply verified: it may be all that can be relied on.
/// Those of a time that is still to come, made by a clock that was ahead, are left: they say nothing of the others.
pub fn expired(
    records: &[BackupRecord],
    keep: usize,
    level: BackupLevel,
    now: Timestamp,
) -> Vec<String> {
    let there = |record: &&BackupRecord| {
        matches!(record.state, BackupState::Complete | BackupState::Broken)
            && record.started_at <= now
    };
    let mut own: Vec<_> = records.iter().filter(there).collect();
    own.sort_by(|a, b| (b.started_at, &b.id).cmp(&(a.started_at, &a.id)));
    let sound = || own.iter().filter(|record| record.state == BackupState::Complete);
    let verified = sound().find(|record| record.level.is_some_and(|own| own >= level));
    // Of those of one level the newest, which comes first.
    let last = verified.or_else(|| sound().rev().max_by_key(|record| record.level)).copied();
    let mut kept = 0;
    let mut over = Vec::new();
    for record in own {
        // A broken one takes nobody's place, and says what was wrong until one behind it is proven.
        let fits = match record.state {
            BackupState::Broken => last.is_none_or(|last| record.started_at > last.started_at),
            _ => {
                kept += 1;
                kept <= keep
            }
        };
        if !fits && last.is_none_or(|last| last.id != record.id) {
            over.push(record.id.clone());
        }
    }
    over
}

/// What stands where something is to be restored to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nothing.
    Nothing,
    /// A folder without anything in it.
    EmptyFolder,
    /// Anything else.
    Something,
}

/// Whether a backup may be restored to a place. `live` are folders and files of what runs, each with what it is.
///
/// # Errors
/// `RESTORE_TARGET_INVALID` with the reason.
pub fn target(
    engine: &str,
    into: &Path,
    standing: Standing,
    live: &[(PathBuf, String)],
) -> Result<()> {
    let invalid = |why: String| Err(Error::invalid("RESTORE_TARGET_INVALID", why));
    let shown = into.display();
    let plain = into.components().all(|part| {
        matches!(part, std::path::Component::RootDir | std::path::Component::Normal(_))
    });
    if !into.is_absolute() || !plain || into.parent().is_none() {
        return invalid(format!("{shown} is not an absolute path without \"..\" in it"));
    }
    if let Some((path, what)) = live.iter().find(|(path, _)| into.starts_with(path)) {
        return invalid(format!(
            "{shown} is within {}, {what}; choose another place",
            path.display()
        ));
    }
    match (engine, standing) {
        (_, Standing::Nothing) => Ok(()),
        ("sqlite", Standing::EmptyFolder) => {
            invalid(format!("{shown} is a folder; name the file that is to be made in it"))
        }
        (_, Standing::EmptyFolder) => Ok(()),
        (_, Standing::Something) => invalid(format!(
            "there is something at {shown} already; a backup is restored where nothing is yet"
        )),
    }
}

/// Whether this is the name of a scratch instance's folder: an id. Whatever else somebody keeps beside it is theirs.
pub fn is_scratch(name: &str) -> bool {
    name.len() == 26 && ulid::Ulid::from_string(name).is_ok()
}

/// Whether this is the name of a backup that is being written.
pub fn is_partial(name: &str) -> bool {
    name.strip_suffix(".partial").is_some_and(is_scratch)
}

/// Whether this is where a scratch server works, below the folder of scratch instances.
pub fn is_scratch_data(root: &Path, at: &Path) -> bool {
    let Ok(below) = at.strip_prefix(root) else { return false };
    let parts: Vec<_> = below.iter().map(|part| part.to_string_lossy()).collect();
    matches!(parts.as_slice(), [id, data] if is_scratch(id) && *data == contents("postgres"))
}

/// What a crash left of a backup that was being made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct World {
    /// Its record says that it is being made.
    pub running: bool,
    /// What was being written is there.
    pub partial: bool,
    /// It stands in its place, and its own description says the same.
    pub whole: bool,
    /// A tool makes it, elsewhere.
    pub elsewhere: bool,
}

/// What becomes of such a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Nothing of it is touched.
    Leave,
    /// It is complete: only the word of it was missing.
    Complete,
    /// What is there is removed, and it counts as failed.
    Fail,
}

/// The table of a backup that a crash cut off: what it was at, what becomes of it, what is said of the run.
pub const AFTER_CRASH: [(World, Fate, Verdict, &str); 5] = {
    const fn world(running: bool, partial: bool, whole: bool, elsewhere: bool) -> World {
        World { running, partial, whole, elsewhere }
    }
    [
        (
            world(true, true, false, false),
            Fate::Fail,
            Verdict::Undone,
            "what was written of the backup is removed, and it counts as failed",
        ),
        (
            world(true, false, false, false),
            Fate::Fail,
            Verdict::Undone,
            "nothing of the backup was left, and it counts as failed",
        ),
        (
            world(true, false, true, false),
            Fate::Complete,
            Verdict::Finished,
            "the backup stood in its place and counts as made; verify it",
        ),
        (
            world(true, false, false, true),
            Fate::Fail,
            Verdict::Held,
            "whether the tool finished is not known; its own list will tell",
        ),
        (
            world(false, false, true, false),
            Fate::Leave,
            Verdict::Finished,
            "the backup was made and recorded; what follows it is done by the next run",
        ),
    ]
};

/// The row of [`AFTER_CRASH`] for a world; one that no row foresees is held.
pub fn after_crash(world: World) -> (Fate, Verdict, &'static str) {
    // A tool's staging is no backup, whatever is in it.
    let world = World { partial: world.partial && !world.elsewhere && world.running, ..world };
    let world = World { whole: world.whole && !world.partial && !world.elsewhere, ..world };
    let row = AFTER_CRASH.iter().find(|(known, ..)| *known == world);
    match row {
        Some((_, fate, verdict, what)) => (*fate, *verdict, what),
        None if !world.running => {
            (Fate::Leave, Verdict::Finished, "how the backup ended is in its record")
        }
        None => (Fate::Fail, Verdict::Held, "what became of the backup can't be told"),
    }
}

/// A folder's size in words.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{} kB", bytes / 1_000),
        1_000_000..1_000_000_000 => format!("{} MB", bytes / 1_000_000),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

/// Whether a table that was restored holds enough rows.
///
/// # Errors
/// What is wrong, in words.
pub fn rows(count: &RowCount, restored: u64, live: Option<u64>) -> Result<(), String> {
    let table = &count.table;
    match (count.within, live) {
        (None, _) if restored > 0 => Ok(()),
        (None, _) => Err(format!("table {table} has no rows")),
        (Some(_), None) => Err(format!("the live rows of {table} can't be counted")),
        (Some(within), Some(live)) => {
            let apart = live.abs_diff(restored) as f64;
            match apart <= within * live as f64 {
                true => Ok(()),
                false => Err(format!("table {table} has {restored} rows, the live one {live}")),
            }
        }
    }
}

/// An id by itself or by its beginning, a source's name for its newest backup.
///
/// # Errors
/// `BACKUP_NOT_FOUND`.
pub fn find<'a>(records: &'a [BackupRecord], wanted: &str) -> Result<&'a BackupRecord> {
    let none = |why: String| Error::not_found("BACKUP_NOT_FOUND", why);
    let of_source = records.iter().filter(|record| {
        record.source == wanted
            && matches!(record.state, BackupState::Complete | BackupState::Broken)
    });
    if let Some(newest) = of_source.max_by_key(|record| (record.started_at, &record.id)) {
        return Ok(newest);
    }
    let id = wanted.to_ascii_uppercase();
    if id.len() < 4 || id.len() > 26 {
        return Err(none(format!(
            "{wanted:?} is no source with a backup, no backup's id, nor its first four characters or more"
        )));
    }
    let mut found = records.iter().filter(|record| record.id.starts_with(&id));
    match (found.next(), found.next()) {
        (None, _) => Err(none(format!("there is no backup {wanted}"))),
        (Some(one), None) => Ok(one),
        (Some(_), Some(_)) => {
            Err(none(format!("{wanted} is the beginning of several backups' ids")))
        }
    }
}

/// Refuses what is no backup that could be read.
///
/// # Errors
/// `BACKUP_NOT_FOUND` for one that is gone or was never made.
pub fn readable(record: &BackupRecord) -> Result<()> {
    let why = match record.state {
        BackupState::Complete | BackupState::Broken => return Ok(()),
        BackupState::Running => "is still being made",
        BackupState::Failed => "could not be made",
        BackupState::Expired => "has expired and is deleted",
    };
    Err(Error::not_found("BACKUP_NOT_FOUND", format!("backup {} {why}", record.id)))
}
