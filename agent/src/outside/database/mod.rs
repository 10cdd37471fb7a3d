//! The databases of this host: where they are, and connections to them. Each connection stands alone: a pool would
//! hand a session's locks and settings to whoever comes next.

use std::fmt;
use std::path::PathBuf;

use crate::error::{Error, Unmet};

pub mod directory;
pub mod facts;
pub mod fence;
pub mod figures;
pub mod integrity;
pub mod passfile;
pub mod pooler;
pub mod postgres;
pub mod programs;
pub mod sessions;
pub mod sqlite;
pub mod upkeep;
pub mod vitals;

/// A configured database.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    /// Its name, by which people and other sections mean it.
    pub name: String,
    /// What it is, and where.
    pub engine: Engine,
}

/// What a database is, and where.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Engine {
    /// A database of a PostgreSQL server.
    Postgres(Postgres),
    /// A file of SQLite.
    Sqlite(PathBuf),
}

impl Engine {
    /// Its name in the configuration.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Postgres(_) => "postgres",
            Self::Sqlite(_) => "sqlite",
        }
    }
}

/// How a PostgreSQL server is reached.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Postgres {
    /// "postgres://user@host:port/database?sslmode=verify-full&sslrootcert=/path"; no password is in it.
    pub url: String,
    /// Passwords in libpq's format; `None`: `PGPASSFILE` or `~/.pgpass`, as libpq has it.
    pub password_file: Option<PathBuf>,
    /// Every session works under it, and is refused once somebody else has taken over.
    pub fence: Option<fence::Fence>,
}

/// Where it is, without what may be secret.
impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Postgres(postgres) => {
                let shown = postgres.url.split('?').next().unwrap_or_default();
                f.write_str(shown)
            }
            Self::Sqlite(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Why a database did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// It can't be reached, or let the connection drop.
    Unreachable(String),
    /// It refused, with its own code ("57014", "55P03") and words.
    Refused {
        /// The code: an SQLSTATE, or SQLite's extended result code.
        code: String,
        /// In its own words.
        message: String,
    },
    /// It answered something that is not understood.
    Odd(String),
    /// Another host of the fleet has taken over.
    Fenced(String),
    /// What keeps out who was overtaken is not there, or not for this role; with the SQL that makes it.
    FenceMissing(String),
    /// Who was overtaken could not be ended.
    FenceBlocked(String),
}

impl Failure {
    /// The database's own code.
    pub fn code(&self) -> &str {
        match self {
            Self::Refused { code, .. } => code,
            _ => "",
        }
    }

    /// A statement was cancelled: its time was over, or somebody asked.
    pub fn cancelled(&self) -> bool {
        self.code() == "57014"
    }

    /// The server takes no more connections of this role.
    pub fn no_slot_left(&self) -> bool {
        self.code() == "53300"
    }

    /// A lock was not to be had in time.
    pub fn lock_timeout(&self) -> bool {
        self.code() == "55P03"
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(why) => write!(f, "can't be reached: {why}"),
            Self::Refused { code, message } => write!(f, "{message} ({code})"),
            Self::Odd(what) => write!(f, "answered oddly: {what}"),
            Self::Fenced(why) | Self::FenceMissing(why) | Self::FenceBlocked(why) => {
                f.write_str(why)
            }
        }
    }
}

impl std::error::Error for Failure {}

impl Failure {
    /// As an error of the agent about this database.
    pub fn about(self, name: &str) -> Error {
        match self {
            Self::Unreachable(why) => Error::unavailable(
                "DATABASE_UNREACHABLE",
                format!("database {name} can't be reached: {why}"),
            ),
            Self::Fenced(why) => Error::conflict("FENCED", format!("database {name}: {why}")),
            Self::FenceMissing(why) => {
                let unmet =
                    Unmet { code: "FENCE_MISSING", subject: name.to_owned(), message: why.clone() };
                Error::refused("FENCE_MISSING", format!("database {name}: {why}"), vec![unmet])
            }
            Self::FenceBlocked(why) => {
                Error::unavailable("FENCE_BLOCKED", format!("database {name}: {why}"))
            }
            full if full.no_slot_left() => Error::unavailable(
                "DATABASE_UNREACHABLE",
                format!("database {name} takes no more connections: {full}"),
            ),
            other => Error::unavailable("DATABASE_FAILED", format!("database {name}: {other}")),
        }
    }
}
