//! pgBackRest, WAL-G and restic: how they are called, and what their lists say. Pure: nothing is run here.

use std::path::Path;

use genesis_storage::{BackupLevel, BackupRecord, BackupState};
use jiff::Timestamp;
use serde::Deserialize;

use super::act::Proof;
use super::plan::{Source, Tool};

/// A backup as its tool lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The tool's own name of it.
    pub place: String,
    /// When it was begun.
    pub started_at: Timestamp,
    /// When it was complete.
    pub ended_at: Option<Timestamp>,
    /// Its size; 0: not said.
    pub bytes: u64,
    /// The system that it is of; empty: not said.
    pub system_identifier: String,
    /// What the tool itself finds wrong with it; empty: nothing.
    pub wrong: String,
}

fn argv(source: &Source, arguments: &[&str]) -> Vec<String> {
    let own = arguments.iter().map(|argument| (*argument).to_owned());
    source.command.iter().cloned().chain(own).collect()
}

/// The call that lists its backups; `None`: the agent's own records are the list.
pub fn list(source: &Source) -> Option<Vec<String>> {
    Some(match source.tool {
        Tool::Builtin => return None,
        Tool::PgBackRest => argv(source, &["info", "--output=json"]),
        Tool::WalG => argv(source, &["backup-list", "--detail", "--json"]),
        Tool::Restic => argv(source, &["snapshots", "--json", "--tag", &source_tag(source)]),
    })
}

/// The call that makes a backup. `staged` is what the agent has made for restic to keep; `data` the server's folder,
/// which WAL-G wants to be told.
pub fn make(source: &Source, staged: &Path, system: &str, data: &str) -> Vec<String> {
    match source.tool {
        Tool::Builtin => Vec::new(),
        Tool::PgBackRest => argv(source, &["backup"]),
        Tool::WalG => argv(source, &["backup-push", data]),
        Tool::Restic => {
            let (own, of) = (source_tag(source), format!("{SYSTEM}{system}"));
            let staged = staged.display().to_string();
            argv(source, &["backup", "--json", "--tag", &own, "--tag", &of, &staged])
        }
    }
}

/// The call that verifies one to L1; `None`: there is none.
pub fn check(source: &Source) -> Option<Vec<String>> {
    match source.tool {
        Tool::Builtin | Tool::WalG => None,
        // Without them it says nothing of what it found, and exits with 0 all the same.
        Tool::PgBackRest => Some(argv(source, &["verify", "--output=text", "--verbose"])),
        Tool::Restic => Some(argv(source, &["check", "--read-data"])),
    }
}

/// The call that writes a backup's contents to `into`, for a server that is to go no further than the backup itself, and
/// has its tablespaces there, too.
pub fn restore_alone(source: &Source, place: &str, into: &Path) -> Vec<String> {
    let mut command = restore(source, place, into);
    if source.tool == Tool::PgBackRest {
        let tablespaces = into.with_file_name("tablespaces");
        command.extend(["--type=immediate", "--target-action=promote"].map(str::to_owned));
        command.push(format!("--tablespace-map-all={}", tablespaces.display()));
    }
    command
}

/// The call that writes a backup's contents to `into`.
pub fn restore(source: &Source, place: &str, into: &Path) -> Vec<String> {
    let into = into.display().to_string();
    match source.tool {
        Tool::Builtin => Vec::new(),
        Tool::PgBackRest => {
            argv(source, &["restore", &format!("--set={place}"), &format!("--pg1-path={into}")])
        }
        Tool::WalG => argv(source, &["backup-fetch", &into, place]),
        Tool::Restic => argv(source, &["restore", place, "--target", &into]),
    }
}

const SYSTEM: &str = "genesis-system=";

fn source_tag(source: &Source) -> String {
    format!("genesis-source={}", source.name)
}

/// What a tool's list says.
///
/// # Errors
/// When it is not understood, in words: then nothing is known.
pub fn parse(tool: Tool, printed: &[u8]) -> Result<Vec<Listed>, String> {
    match tool {
        Tool::Builtin => Ok(Vec::new()),
        Tool::PgBackRest => pgbackrest(printed),
        Tool::WalG => walg(printed),
        Tool::Restic => restic(printed),
    }
    .map_err(|why| format!("the list of {} is not understood: {why}", tool.name()))
}

fn json<T: for<'a> Deserialize<'a>>(printed: &[u8]) -> Result<T, String> {
    serde_json::from_slice(printed).map_err(|error| error.to_string())
}

fn second(second: i64) -> Result<Timestamp, String> {
    Timestamp::from_second(second).map_err(|error| error.to_string())
}

fn instant(text: &str) -> Result<Timestamp, String> {
    text.parse().map_err(|error| format!("{text:?}: {error}"))
}

#[derive(Deserialize)]
struct Stanza {
    db: Vec<Cluster>,
    backup: Vec<Labelled>,
    status: Status,
}

#[derive(Deserialize)]
struct Status {
    code: i64,
    message: String,
}

#[derive(Deserialize)]
struct Cluster {
    id: u64,
    #[serde(rename = "system-id")]
    system_id: u64,
}

#[derive(Deserialize)]
struct Labelled {
    label: String,
    timestamp: Span,
    info: Info,
    database: OfCluster,
    /// Pages whose checksums were wrong.
    error: Option<bool>,
}

#[derive(Deserialize)]
struct Span {
    start: i64,
    stop: i64,
}

#[derive(Deserialize)]
struct Info {
    size: u64,
}

#[derive(Deserialize)]
struct OfCluster {
    id: u64,
}

fn pgbackrest(printed: &[u8]) -> Result<Vec<Listed>, String> {
    let stanzas: Vec<Stanza> = json(printed)?;
    let [stanza] = stanzas.as_slice() else {
        return Err(format!("{} stanzas instead of one: put --stanza into command", stanzas.len()));
    };
    // 2: there is no valid backup yet, which is a list without one.
    if !matches!(stanza.status.code, 0 | 2) {
        return Err(format!("status {}: {}", stanza.status.code, stanza.status.message));
    }
    let listed = stanza.backup.iter().map(|backup| {
        let cluster = stanza.db.iter().find(|cluster| cluster.id == backup.database.id);
        Ok(Listed {
            place: backup.label.clone(),
            started_at: second(backup.timestamp.start)?,
            ended_at: Some(second(backup.timestamp.stop)?),
            bytes: backup.info.size,
            system_identifier: cluster.map(|it| it.system_id.to_string()).unwrap_or_default(),
            wrong: match backup.error {
                Some(true) => "pages with wrong checksums were found while it was made".to_owned(),
                _ => String::new(),
            },
        })
    });
    listed.collect()
}

#[derive(Deserialize)]
struct Base {
    backup_name: String,
    start_time: String,
    finish_time: String,
    #[serde(default)]
    compressed_size: u64,
    #[serde(default)]
    system_identifier: Option<u64>,
}

fn walg(printed: &[u8]) -> Result<Vec<Listed>, String> {
    let found: Vec<Base> = json(printed)?;
    let listed = found.into_iter().map(|base| {
        Ok(Listed {
            started_at: instant(&base.start_time)?,
            ended_at: Some(instant(&base.finish_time)?),
            place: base.backup_name,
            bytes: base.compressed_size,
            system_identifier: base.system_identifier.map(|id| id.to_string()).unwrap_or_default(),
            wrong: String::new(),
        })
    });
    listed.collect()
}

#[derive(Deserialize)]
struct Snapshot {
    id: String,
    time: String,
    #[serde(default)]
    tags: Vec<String>,
}

fn restic(printed: &[u8]) -> Result<Vec<Listed>, String> {
    // An empty repository has the list `null` in some versions.
    let found: Option<Vec<Snapshot>> = json(printed)?;
    let listed = found.unwrap_or_default().into_iter().map(|snapshot| {
        let system = snapshot.tags.iter().find_map(|tag| tag.strip_prefix(SYSTEM));
        let at = instant(&snapshot.time)?;
        Ok(Listed {
            system_identifier: system.unwrap_or_default().to_owned(),
            place: snapshot.id,
            started_at: at,
            ended_at: Some(at),
            bytes: 0,
            wrong: String::new(),
        })
    });
    listed.collect()
}

/// What must be recorded anew so that the records say what a tool's list says: backups that nobody here has recorded,
/// and those that the tool has no more. `id` makes an id for one that was begun then.
pub fn differences(
    source: &Source,
    records: &[BackupRecord],
    listed: &[Listed],
    mut id: impl FnMut(Timestamp) -> String,
) -> Vec<BackupRecord> {
    let own = || records.iter().filter(|record| record.tool == source.tool.name());
    let mut changed = Vec::new();
    for found in listed {
        let known = own().find(|record| record.place == found.place);
        if let Some(record) = known {
            changed.extend(told_anew(record, found, source.tool));
            continue;
        }
        let (state, detail) = match found.wrong.as_str() {
            "" => (BackupState::Complete, format!("{} lists it", source.tool.name())),
            wrong => (BackupState::Broken, wrong.to_owned()),
        };
        changed.push(BackupRecord {
            id: id(found.started_at),
            source: source.name.clone(),
            engine: source.kind.engine().to_owned(),
            tool: source.tool.name().to_owned(),
            state,
            place: found.place.clone(),
            started_at: found.started_at,
            ended_at: found.ended_at,
            bytes: found.bytes,
            system_identifier: found.system_identifier.clone(),
            level: (state == BackupState::Complete).then_some(BackupLevel::Recorded),
            verified_at: None,
            detail,
            run_id: String::new(),
        });
    }
    let gone = own().filter(|record| {
        matches!(record.state, BackupState::Complete | BackupState::Broken)
            && listed.iter().all(|found| found.place != record.place)
    });
    changed.extend(gone.map(|record| BackupRecord {
        state: BackupState::Expired,
        detail: format!("{} does not list it any more", source.tool.name()),
        ..record.clone()
    }));
    changed
}

/// What its list says that a record does not: a backup that was missing from it is there again, one has gone bad.
fn told_anew(record: &BackupRecord, found: &Listed, tool: Tool) -> Option<BackupRecord> {
    let (state, level, detail) = match (record.state, found.wrong.as_str()) {
        (BackupState::Expired, "") => (
            BackupState::Complete,
            Some(BackupLevel::Recorded),
            format!("{} lists it again", tool.name()),
        ),
        (BackupState::Expired | BackupState::Complete, wrong) if !wrong.is_empty() => {
            (BackupState::Broken, None, wrong.to_owned())
        }
        _ => return None,
    };
    Some(BackupRecord { state, level, verified_at: None, detail, ..record.clone() })
}

/// What a tool's check came to for the backup at `place`. Only what it says is wrong is wrong: that it can't reach what
/// it keeps says nothing of it.
pub fn checked(tool: Tool, place: &str, succeeded: bool, stdout: &[u8], said: &str) -> Proof {
    let printed = String::from_utf8_lossy(stdout);
    match tool {
        Tool::Restic if said.contains("contains errors") => {
            let lines = printed.lines().filter(|line| line.contains("error"));
            let found: Vec<&str> = lines.take(3).collect();
            Proof::Wrong(format!("{said}; {}", found.join("; ")))
        }
        Tool::Restic if succeeded => Proof::Sound("restic found everything right".to_owned()),
        Tool::PgBackRest if succeeded => pgbackrest_verified(place, &printed),
        _ => Proof::Unknown(said.to_owned()),
    }
}

/// What `pgbackrest verify --output=text --verbose` says of a backup. It exits with 0 whatever it found, so that nothing
/// but the line of this very backup proves it.
fn pgbackrest_verified(place: &str, printed: &str) -> Proof {
    let mut lines = printed.lines().map(str::trim);
    let number = |line: &str, what: &str| -> Option<u64> {
        line.split(", ").find_map(|part| part.strip_prefix(what)?.trim().parse().ok())
    };
    for line in lines.clone().filter(|line| line.starts_with("archiveId: ")) {
        let (all, valid) = (number(line, "total WAL checked:"), number(line, "total valid WAL:"));
        if all != valid {
            return Proof::Wrong(format!("WAL in its archive is damaged: {line}"));
        }
    }
    let own = format!("backup: {place}, status: ");
    let Some(status) = lines.find_map(|line| line.strip_prefix(&own)) else {
        let first: Vec<&str> = printed.lines().map(str::trim).take(3).collect();
        return Proof::Unknown(format!("pgBackRest says nothing of it: {}", first.join("; ")));
    };
    let counts = lines.next().unwrap_or_default();
    match status.split(',').next() {
        Some("valid") => Proof::Sound("pgBackRest found every file and the WAL right".to_owned()),
        Some("invalid") => Proof::Wrong(format!("pgBackRest: {status}; {counts}")),
        _ => Proof::Unknown(format!("pgBackRest: {status}")),
    }
}

/// How a server gets the WAL that a backup of pgBackRest needs: what that wrote into the settings of what it restored.
pub fn restore_command(settings: &str) -> Option<String> {
    let lines = settings.lines().rev();
    let value = lines
        .filter_map(|line| line.trim().strip_prefix("restore_command"))
        .next()?
        .trim_start()
        .strip_prefix('=')?
        .trim();
    let quoted = value.strip_prefix('\'')?.strip_suffix('\'')?;
    Some(quoted.replace("''", "'"))
}
