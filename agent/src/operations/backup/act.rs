//! Makes backups and reads them back; decides nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use genesis_storage::{BackupRecord, DEFAULT_CACHE_BYTES, Store};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::config::Config;
use super::plan::{Kind, Source, Tool};
use super::tools::{self, Listed};
use crate::error::{Error, Result};
use crate::outside::database::postgres::{Limits, Session};
use crate::outside::database::sqlite::{self, Access};
use crate::outside::database::{Postgres, programs};
use crate::outside::hooks::{self, Program, Ran};
use crate::outside::{files, leftovers, trees};
use crate::state::State;

/// A list of backups is no longer, in bytes.
const OUTPUT_LIMIT: usize = 8 << 20;
/// The description of a backup, beside its contents.
pub const DESCRIPTION: &str = "backup.json";

/// So long a copy of a file of SQLite waits for whoever writes to it.
const COPY_BUSY: Duration = Duration::from_secs(5);

/// What everything here works with.
#[derive(Clone)]
pub struct Hands {
    /// What the configuration says.
    pub config: Arc<Config>,
    /// The agent's state folder.
    pub home: PathBuf,
    /// The agent's state.
    pub state: State,
    /// Who the host is.
    pub host_id: String,
}

/// A source as it is now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Live {
    /// Tells it from any other.
    pub system: String,
    /// What it takes; `None`: not known.
    pub bytes: Option<u64>,
    /// Of PostgreSQL: the major version.
    pub major: u32,
    /// Of PostgreSQL: the folder of its data; empty: not said.
    pub data: String,
}

/// What a backup says of itself, so that it can be told what it is without the agent's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// Its id.
    pub id: String,
    /// The source's name.
    pub source: String,
    /// "postgres", "sqlite", "redb".
    pub engine: String,
    /// The system that it is of.
    pub system_identifier: String,
    /// When it was begun.
    pub started_at: Timestamp,
    /// The sha256 of its contents, where those are one file; a folder of PostgreSQL has a manifest.
    pub sha256: String,
    /// The size of its contents.
    pub bytes: u64,
}

/// What came of looking whether a backup is sound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// It is; what was looked at.
    Sound(String),
    /// It is not; what is wrong.
    Wrong(String),
    /// It can't be told; why.
    Unknown(String),
}

#[derive(Deserialize)]
struct Facts {
    system: String,
    major: u32,
    bytes: Option<u64>,
    tablespaces: u32,
    data: Option<String>,
}

/// What a server says of itself. Databases that it may not look into do not count.
const FACTS: &str = "SELECT json_build_object('system', (SELECT system_identifier::text FROM pg_control_system()), \
    'major', current_setting('server_version_num')::int / 10000, \
    'bytes', (SELECT sum(pg_database_size(oid))::bigint FROM pg_database WHERE has_database_privilege(oid, 'CONNECT')), \
    'tablespaces', (SELECT count(*) FROM pg_tablespace WHERE spcname NOT IN ('pg_default', 'pg_global')), \
    'data', (SELECT setting FROM pg_settings WHERE name = 'data_directory'))::text";

impl Hands {
    /// A program with the agent's mark in its environment.
    pub fn program(&self, source: &Source, command: Vec<String>) -> Program {
        let mut environment = match &source.kind {
            Kind::Postgres(target) => programs::environment(target),
            Kind::Sqlite(_) | Kind::Agent => Vec::new(),
        };
        environment.push(leftovers::mark(&self.home));
        Program {
            command,
            environment,
            timeout: source.timeout,
            limit: OUTPUT_LIMIT,
            clean: false,
            owner: None,
            last_word: "KILL",
        }
    }

    /// The path of one of PostgreSQL's programs.
    pub fn postgres(&self, major: u32, name: &str) -> String {
        programs::program(self.config.programs.as_deref(), major, name)
    }

    /// Runs a program to its end, whatever that is.
    ///
    /// # Errors
    /// `HOOK_FAILED`.
    pub async fn run(&self, source: &Source, command: Vec<String>) -> Result<Ran> {
        hooks::run_program(&self.program(source, command)).await
    }

    /// Looks at a source.
    ///
    /// # Errors
    /// `DATABASE_UNREACHABLE`, `DATABASE_FAILED`, `BACKUP_FAILED`.
    pub async fn live(&self, source: &Source) -> Result<Live> {
        match &source.kind {
            Kind::Postgres(target) => {
                let facts = self.facts(target).await.map_err(|error| error.about(&source.name))?;
                let plain = matches!(source.tool, Tool::Builtin | Tool::Restic);
                if plain && facts.tablespaces > 0 {
                    let message = format!(
                        "{} has {} tablespace(s) of its own, which a plain copy does not hold; use pgbackrest or wal-g",
                        source.name, facts.tablespaces
                    );
                    return Err(Error::unavailable("BACKUP_FAILED", message));
                }
                let data = facts.data.unwrap_or_default();
                Ok(Live { system: facts.system, bytes: facts.bytes, major: facts.major, data })
            }
            Kind::Sqlite(path) => {
                let look = || Ok((sqlite::identity(path)?, trees::bytes(path)?));
                let found: std::io::Result<_> = look();
                let (system, bytes) = found.map_err(|error| {
                    let message = format!("database {} can't be looked at", source.name);
                    Error::unavailable("DATABASE_UNREACHABLE", message).caused_by(error)
                })?;
                Ok(Live { system, bytes: Some(bytes), ..Live::default() })
            }
            Kind::Agent => {
                let bytes = Some(self.state.store().file_bytes());
                Ok(Live { system: self.host_id.clone(), bytes, ..Live::default() })
            }
        }
    }

    async fn facts(&self, target: &Postgres) -> Result<Facts, crate::outside::database::Failure> {
        let mut session = Session::open(target, "backup", Limits::LOOK).await?;
        let facts = session.ask(FACTS).await;
        session.close().await;
        facts
    }

    /// Writes a source's contents to `folder`, durably, with their description.
    ///
    /// # Errors
    /// `BACKUP_FAILED` with what the program or the database says.
    pub async fn make(
        &self,
        source: &Source,
        record: &BackupRecord,
        live: &Live,
        folder: &Path,
    ) -> Result<Description> {
        let contents = folder.join(source.kind.contents());
        let made = folder.to_owned();
        blocking(move || files::create_folders(&made))
            .await?
            .map_err(|error| failed("can't make the folder", error))?;
        match &source.kind {
            Kind::Postgres(target) => {
                let label = format!("genesis {}", record.id);
                let mut command = vec![self.postgres(live.major, "pg_basebackup")];
                command.extend(programs::base_backup(target, &contents, &label));
                succeeded(self.run(source, command).await?)?;
            }
            Kind::Sqlite(path) => {
                let opened = sqlite::File::open(path, Access::Read, COPY_BUSY).await;
                let mut file = opened.map_err(|it| it.about(&source.name))?;
                let copied = file.copy_into(&contents).await;
                file.close().await;
                copied.map_err(|it| it.about(&source.name))?;
            }
            Kind::Agent => {
                let (store, to) = (Arc::clone(self.state.store()), contents.clone());
                let copied = blocking(move || store.copy_to(&to, DEFAULT_CACHE_BYTES)).await?;
                copied.map_err(|error| failed("the agent's state can't be copied", error))?;
            }
        }
        let system = match self.system(source, &contents, live.major).await? {
            Some(system) => system,
            None => live.system.clone(),
        };
        let (folder, engine) = (folder.to_owned(), source.kind.engine());
        let record = record.clone();
        let described = blocking(move || {
            let bytes = trees::bytes(&contents)?;
            let one = contents.is_file();
            let description = Description {
                id: record.id,
                source: record.source,
                engine: engine.to_owned(),
                system_identifier: system,
                started_at: record.started_at,
                sha256: if one { files::sha256(&contents)? } else { String::new() },
                bytes,
            };
            let text = serde_json::to_vec_pretty(&description).map_err(std::io::Error::other)?;
            std::fs::write(folder.join(DESCRIPTION), text)?;
            trees::sync(&folder)?;
            Ok(description)
        });
        let described: std::io::Result<_> = described.await?;
        described.map_err(|error| failed("what was written can't be made durable", error))
    }

    /// The system that the contents of a backup of PostgreSQL are of; `None` for other engines, whose contents do not
    /// say.
    ///
    /// # Errors
    /// `BACKUP_FAILED` where it can't be read.
    pub async fn system(
        &self,
        source: &Source,
        contents: &Path,
        major: u32,
    ) -> Result<Option<String>> {
        if !matches!(source.kind, Kind::Postgres(_)) {
            return Ok(None);
        }
        let printed = self.control(source, contents, major).await?;
        let system = programs::control(&printed, "Database system identifier");
        let none = || Error::unavailable("BACKUP_FAILED", "pg_controldata names no system");
        system.map(|system| Some(system.to_owned())).ok_or_else(none)
    }

    /// What pg_controldata prints of a folder.
    ///
    /// # Errors
    /// `BACKUP_FAILED`.
    pub async fn control(&self, source: &Source, data: &Path, major: u32) -> Result<String> {
        let command = vec![self.postgres(major, "pg_controldata"), data.display().to_string()];
        let ran = succeeded(self.run(source, command).await?)?;
        Ok(String::from_utf8_lossy(&ran.stdout).into_owned())
    }

    /// What a tool lists; `None`: the agent's own records are the list.
    ///
    /// # Errors
    /// `BACKUP_TOOL_FAILED` when it can't be asked, or its answer is not understood.
    pub async fn list(&self, source: &Source) -> Result<Option<Vec<Listed>>> {
        let Some(command) = tools::list(source) else { return Ok(None) };
        let asked = self.run(source, command).await.map_err(|error| tool_failed(&error.chain()))?;
        if !asked.succeeded {
            return Err(tool_failed(&asked.said));
        }
        tools::parse(source.tool, &asked.stdout).map(Some).map_err(|why| tool_failed(&why))
    }

    /// Has a tool do something.
    ///
    /// # Errors
    /// `BACKUP_TOOL_FAILED` with its last complaint.
    pub async fn tool(&self, source: &Source, command: Vec<String>) -> Result<Ran> {
        match self.run(source, command).await {
            Ok(ran) if ran.succeeded => Ok(ran),
            Ok(ran) => Err(tool_failed(&ran.said)),
            Err(error) => Err(tool_failed(&error.chain())),
        }
    }

    /// Reads every checksum of a backup that stands in a folder.
    pub async fn checksums(&self, source: &Source, folder: &Path, id: &str) -> Proof {
        let description = match description(folder) {
            Ok(description) => description,
            Err(proof) => return proof,
        };
        if description.id != id {
            return Proof::Wrong(format!("it calls itself {}", description.id));
        }
        let contents = folder.join(source.kind.contents());
        match &source.kind {
            Kind::Postgres(_) => {
                self.manifest(source, &contents, &description.system_identifier).await
            }
            Kind::Sqlite(_) | Kind::Agent => {
                if let Err(proof) = same_hash(&contents, &description.sha256).await {
                    return proof;
                }
                if source.kind == Kind::Agent {
                    return Proof::Sound("its sha256 is right".to_owned());
                }
                integrity(&contents).await
            }
        }
    }

    /// Every file of a folder of PostgreSQL against its manifest, and the WAL that it needs.
    pub async fn manifest(&self, source: &Source, data: &Path, made_of: &str) -> Proof {
        let Some(major) = major(data) else {
            return Proof::Wrong("it has no file PG_VERSION".to_owned());
        };
        let system = match self.system(source, data, major).await {
            Ok(system) => system.unwrap_or_default(),
            Err(error) => return uncontrolled(data, &error),
        };
        if system != made_of {
            let why = format!("its files are of system {system}, and it was made of {made_of}");
            return Proof::Wrong(why);
        }
        let program = self.postgres(major, "pg_verifybackup");
        let command = vec![program, "-e".to_owned(), data.display().to_string()];
        match self.run(source, command).await {
            Ok(ran) if ran.succeeded => {
                Proof::Sound("pg_verifybackup found every file and its WAL right".to_owned())
            }
            Ok(ran) if could_not_look(&ran.said) => Proof::Unknown(ran.said),
            Ok(ran) if FOUND.iter().any(|found| ran.said.contains(found)) => Proof::Wrong(ran.said),
            // It was ended, or says what nobody here has heard of.
            Ok(ran) => Proof::Unknown(ran.said),
            Err(error) => Proof::Unknown(error.chain()),
        }
    }
}

/// By what pg_verifybackup says that something is wrong.
const FOUND: [&str; 6] =
    ["on disk", "has size", "checksum", "manifest", "WAL parsing failed", "system identifier"];

/// A folder of which pg_controldata tells nothing: wrong where its control file is gone.
pub fn uncontrolled(data: &Path, error: &Error) -> Proof {
    match data.join("global/pg_control").try_exists() {
        Ok(false) => Proof::Wrong("it has no file global/pg_control".to_owned()),
        Ok(true) | Err(_) => Proof::Unknown(error.chain()),
    }
}

/// Whether a program says that it could not look, and so found nothing wrong.
pub fn could_not_look(said: &str) -> bool {
    [
        "Permission denied",
        "is needed by",
        "out of memory",
        "Cannot allocate memory",
        "Too many open files",
        "No space left on device",
        "could not create shared memory segment",
        "unrecognized configuration parameter",
        "insufficient parameter settings",
        "incompatible with server",
        "ended by signal",
    ]
    .iter()
    .any(|why| said.contains(why))
}

/// Whether a file is the one that was written.
pub async fn same_hash(path: &Path, sha256: &str) -> Result<(), Proof> {
    let own = path.to_owned();
    let found = match blocking(move || files::sha256(&own)).await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Proof::Wrong(format!("{} is gone", path.display())));
        }
        Ok(Err(error)) => return Err(Proof::Unknown(format!("{}: {error}", path.display()))),
        Err(error) => return Err(Proof::Unknown(error.chain())),
    };
    match found == sha256 {
        true => Ok(()),
        false => Err(Proof::Wrong(format!(
            "the sha256 of {} is {found}, and it was {sha256} when it was made",
            path.display()
        ))),
    }
}

/// What SQLite itself says of a file that nobody writes to.
pub async fn integrity(path: &Path) -> Proof {
    match sqlite::damage(path, Access::Still, true).await {
        Ok(found) if found.is_empty() => {
            Proof::Sound("its sha256 is right, and integrity_check finds nothing".to_owned())
        }
        Ok(found) => Proof::Wrong(format!("integrity_check: {}", found.join("; "))),
        Err(error) => Proof::Unknown(error.to_string()),
    }
}

/// Proves a copy of the agent's state that may be written to.
pub async fn own_state(path: PathBuf) -> Proof {
    match blocking(move || Store::prove(&path, DEFAULT_CACHE_BYTES)).await {
        Ok(Ok(copied)) => Proof::Sound(format!(
            "it opens, with {} rows and {} oplog entries in one chain",
            copied.rows, copied.oplog_entries
        )),
        Ok(Err(error)) => Proof::Wrong(Error::from(error).chain()),
        Err(error) => Proof::Unknown(error.chain()),
    }
}

/// What a backup says of itself.
///
/// # Errors
/// What that proves: nothing, where its disk may only be away.
pub fn description(folder: &Path) -> Result<Description, Proof> {
    let path = folder.join(DESCRIPTION);
    let why = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    match std::fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text).map_err(|error| Proof::Wrong(why(&error))),
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Proof::Unknown(why(&error)))
        }
        Err(error) => Err(match folder.parent().map(Path::try_exists) {
            Some(Ok(true)) => Proof::Wrong(why(&error)),
            _ => Proof::Unknown(format!("{}: is the disk of the backups there?", why(&error))),
        }),
    }
}

/// The major version of a folder of PostgreSQL.
pub fn major(data: &Path) -> Option<u32> {
    programs::major(&std::fs::read_to_string(data.join("PG_VERSION")).ok()?)
}

/// Work on the disk, off the async threads.
///
/// # Errors
/// Only where it broke off.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        Error::internal("BACKUP_FAILED", "work on the disk broke off").caused_by(error)
    })
}

/// The error of a backup that could not be made, or read.
pub fn failed(what: &str, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::unavailable("BACKUP_FAILED", what).caused_by(error)
}

fn tool_failed(why: &str) -> Error {
    Error::unavailable("BACKUP_TOOL_FAILED", why)
}

fn succeeded(ran: Ran) -> Result<Ran> {
    match ran.succeeded {
        true => Ok(ran),
        false => Err(Error::unavailable("BACKUP_FAILED", ran.said)),
    }
}
