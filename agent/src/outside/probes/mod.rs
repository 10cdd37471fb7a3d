//! What health's checks look at. A probe measures and judges nothing; what it can't measure it says in words,
//! and nobody takes that for good.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use genesis_storage::BackupLevel;

mod certificate;
pub(super) mod channel;
pub mod clock;
mod database;
pub mod disk;
mod grpc;
pub mod memory;
mod net;
mod prober;
pub mod processes;
mod queue;
mod samples;
pub mod secrets;

pub use prober::HostProber;

/// What to look at. The value of `Tcp`, `Http` and `GrpcHealth` is how long the answer took; down is an answer that
/// takes for ever: [`f64::INFINITY`], with the reason in the detail.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Probe {
    /// Percent of a file system's bytes that are free.
    DiskBytes {
        /// Any path on it.
        path: PathBuf,
    },
    /// Percent of a file system's inodes that are free.
    DiskInodes {
        /// Any path on it.
        path: PathBuf,
    },
    /// Percent of the host's memory that is in use.
    HostMemory,
    /// Percent of memory that is resident for a process, or for all of a name together: what they share counts for
    /// each of them.
    ProcessMemory {
        /// Whose.
        process: ProcessRef,
        /// Of how many bytes; `None` for the host's memory.
        of: Option<u64>,
    },
    /// Percent of a control group's limit that is in use.
    GroupMemory {
        /// The folder of the group.
        group: PathBuf,
    },
    /// Milliseconds until a connection stands; the look-up of the name is part of them.
    Tcp {
        /// "host:port".
        address: String,
    },
    /// Milliseconds until the head of the answer is there, over a new connection. Redirections are not followed.
    Http {
        /// "http://..." or "https://...".
        url: String,
        /// The status that is wanted; `None` for any 2xx.
        status: Option<u16>,
    },
    /// Milliseconds until `grpc.health.v1.Health/Check` answers SERVING, over a new connection. A service that the
    /// server does not know is no answer.
    GrpcHealth {
        /// "http://host:port", "https://host:port" or "unix:/path".
        target: String,
        /// The service to ask for; "" for the server as a whole.
        service: String,
        /// PEM file of the authorities that may vouch for the server; `None` for those of the host.
        ca: Option<PathBuf>,
    },
    /// How many live: of a pidfile 0 or 1, of a name any number.
    Process {
        /// Which.
        process: ProcessRef,
    },
    /// Percent of the processors that the load of the last five minutes keeps busy.
    Load,
    /// The number that a command prints as its last line, in the command's own unit; 0 or more.
    Command {
        /// The program and its arguments; no shell is put in between.
        command: Vec<String>,
        /// How long it may take before it is killed.
        timeout: Duration,
    },
    /// The sum of the samples of a metric, in the metric's own unit.
    Scrape {
        /// Where the metrics are, in the text format of Prometheus or OpenMetrics.
        url: String,
        /// `name`, or `name{label="value",...}` for the samples that have all of these labels.
        metric: String,
    },
    /// Milliseconds that the kernel's clock may be wrong by at most; [`f64::INFINITY`] when nobody keeps it right.
    Clock,
    /// How many of the files others than their owner can get at.
    Secrets {
        /// The files; those that are not there do not count.
        files: Vec<PathBuf>,
    },
    /// Milliseconds until a database answers, over a new connection; a server that takes no more connections is there.
    DatabaseAnswers {
        /// Its name in the configuration.
        database: String,
    },
    /// Percent of a PostgreSQL server's slots for connections that are available to ordinary clients.
    DatabasePool {
        /// Its name in the configuration.
        database: String,
    },
    /// Percent that is free of the scarcest pool of the PgBouncer before a database; 0 where clients wait in vain.
    DatabasePooler {
        /// Its name in the configuration.
        database: String,
    },
    /// How many sessions have waited on another one for too long.
    DatabaseBlocked {
        /// Its name in the configuration.
        database: String,
        /// Waiting for less is no matter.
        patience: Duration,
    },
    /// How many deadlocks the server has ended within five minutes.
    DatabaseDeadlocks {
        /// Its name in the configuration.
        database: String,
    },
    /// How many faults a database has: checksums that failed, indexes that are invalid, what a look into some of its
    /// pages finds.
    DatabaseIntegrity {
        /// Its name in the configuration.
        database: String,
    },
    /// The one number that a query answers in a database.
    Sql {
        /// Its name in the configuration.
        database: String,
        /// One statement that only reads.
        sql: String,
    },
    /// Hours since the newest backup that is verified to this level; [`f64::INFINITY`] when there is none. It is in the
    /// agent's own state: [`Prober::measure`] does not answer.
    BackupAge {
        /// A database's name in the configuration, or "agent".
        source: String,
        /// At least.
        level: BackupLevel,
    },
    /// How many operations have left what is usual. The agent knows it by itself: [`Prober::measure`] does not answer.
    Latency {
        /// Which one; empty for all of them.
        operation: String,
    },
    /// Days until the certificate ends that is served somewhere; negative once it has.
    Certificate {
        /// "host:port".
        address: String,
        /// The name that is asked for.
        server_name: String,
    },
    /// The agent itself. Who asks knows it better than anybody who could be asked: [`Prober::measure`] does not
    /// answer.
    Agent,
}

/// Which process.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ProcessRef {
    /// The one whose id this file holds.
    Pidfile(PathBuf),
    /// All of this name, as the kernel keeps it: the first 15 bytes of the program's.
    Name(String),
}

impl fmt::Display for ProcessRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pidfile(path) => write!(f, "of {}", path.display()),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl Probe {
    /// The database that it is about, for databases.
    pub fn database(&self) -> Option<&str> {
        match self {
            Self::DatabaseAnswers { database }
            | Self::DatabasePool { database }
            | Self::DatabasePooler { database }
            | Self::DatabaseBlocked { database, .. }
            | Self::DatabaseDeadlocks { database }
            | Self::DatabaseIntegrity { database }
            | Self::Sql { database, .. }
            | Self::BackupAge { source: database, .. } => Some(database),
            _ => None,
        }
    }
}

/// Short, for people, and without what may be secret: of a command only the program, of a URL neither user nor query.
impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DiskBytes { path } => write!(f, "free bytes of {}", path.display()),
            Self::DiskInodes { path } => write!(f, "free inodes of {}", path.display()),
            Self::HostMemory => f.write_str("memory of the host"),
            Self::ProcessMemory { process, .. } => write!(f, "memory of process {process}"),
            Self::GroupMemory { group } => write!(f, "memory of group {}", group.display()),
            Self::Tcp { address } => write!(f, "tcp {address}"),
            Self::Http { url, .. } => write!(f, "http {}", bare(url)),
            Self::GrpcHealth { target, service, .. } if service.is_empty() => {
                write!(f, "grpc {}", bare(target))
            }
            Self::GrpcHealth { target, service, .. } => {
                write!(f, "grpc {} {service}", bare(target))
            }
            Self::Process { process } => write!(f, "process {process}"),
            Self::Load => f.write_str("load"),
            Self::Command { command, .. } => {
                write!(f, "command {}", command.first().map_or("", String::as_str))
            }
            Self::Scrape { url, metric } => write!(f, "{metric} at {}", bare(url)),
            Self::Clock => f.write_str("clock"),
            Self::Secrets { files } => match files.as_slice() {
                [file] => write!(f, "permissions of {}", file.display()),
                files => write!(f, "permissions of {} files", files.len()),
            },
            Self::DatabaseAnswers { database } => write!(f, "database {database}"),
            Self::DatabasePool { database } => write!(f, "connections of {database}"),
            Self::DatabasePooler { database } => write!(f, "pools before {database}"),
            Self::DatabaseBlocked { database, .. } => write!(f, "blocked sessions of {database}"),
            Self::DatabaseDeadlocks { database } => write!(f, "deadlocks of {database}"),
            Self::DatabaseIntegrity { database } => write!(f, "integrity of {database}"),
            Self::Sql { database, .. } => write!(f, "a query in {database}"),
            Self::BackupAge { source, .. } => write!(f, "backup of {source}"),
            Self::Latency { operation } if operation.is_empty() => f.write_str("latencies"),
            Self::Latency { operation } => write!(f, "latency of {operation}"),
            Self::Certificate { address, server_name } => {
                write!(f, "certificate of {server_name} at {address}")
            }
            Self::Agent => f.write_str("the agent"),
        }
    }
}

/// A URL without user, password, query and fragment: what may be shown.
fn bare(url: &str) -> String {
    let shown = url.split(['?', '#']).next().unwrap_or_default();
    let (scheme, rest) = shown.split_once("://").unwrap_or(("", shown));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit('@').next().unwrap_or_default();
    let separator = if scheme.is_empty() { "" } else { "://" };
    format!("{scheme}{separator}{host}{path}")
}

/// What answers probes; tests put a fake here.
#[async_trait]
pub trait Prober: Send + Sync {
    /// Looks once. It may take as long as what is looked at lets it wait: who asks gives up after its own time.
    async fn measure(&self, probe: &Probe) -> Outcome;
}

/// What a probe measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// In the probe's own unit, which its documentation names.
    pub value: f64,
    /// In words, with the numbers behind the value.
    pub detail: String,
}

/// A measurement, or why there is none.
pub type Outcome = Result<Measured, String>;

/// The text of a small file; a path that was mistaken may lead to one without an end.
fn text(path: &Path, limit: u64) -> Result<String, String> {
    use std::io::Read;

    let mut text = String::new();
    match std::fs::File::open(path).and_then(|file| file.take(limit).read_to_string(&mut text)) {
        Ok(read) if (read as u64) < limit => Ok(text),
        Ok(_) => Err(format!("{} is longer than {}", path.display(), size(limit))),
        Err(error) => Err(format!("can't read {}: {error}", path.display())),
    }
}

/// A size in words, of which three digits count.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 999.5 && unit < UNITS.len() - 1 {
        (value, unit) = (value / 1_000.0, unit + 1);
    }
    let digits = if unit == 0 || value >= 99.95 { 0 } else { 1 };
    format!("{value:.digits$} {}", UNITS[unit])
}

/// `part` of `whole` in percent; nothing of nothing is no measurement.
fn percent(part: u64, whole: u64, what: &str) -> Result<f64, String> {
    if whole == 0 { Err(format!("{what} is 0")) } else { Ok(part as f64 * 100.0 / whole as f64) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_well() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.0 kB"),
            (99_900, "99.9 kB"),
            (999_499, "999 kB"),
            (999_500, "1.0 MB"),
            (u64::MAX, "18446744 TB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn a_probe_is_told_without_its_secrets() {
        let http = |url: &str| Probe::Http { url: url.into(), status: None }.to_string();
        for (url, shown) in [
            ("https://me:pass@host:8443/a/b?token=x#y", "http https://host:8443/a/b"),
            ("http://a@b@host", "http http://host"),
            ("http://host?a@b/c", "http http://host"),
            ("http://host/p@th", "http http://host/p@th"),
            ("user:pass@host/x", "http host/x"),
            ("", "http "),
        ] {
            assert_eq!(http(url), shown);
        }
        let command = vec!["/bin/queue".to_owned(), "--password=x".to_owned()];
        let command = Probe::Command { command, timeout: Duration::ZERO };
        assert_eq!(command.to_string(), "command /bin/queue");
        let grpc = |service: &str| {
            let (target, service) = ("unix:/run/x.sock".to_owned(), service.to_owned());
            Probe::GrpcHealth { target, service, ca: None }.to_string()
        };
        assert_eq!(grpc(""), "grpc unix:/run/x.sock");
        assert_eq!(grpc("a.B"), "grpc unix:/run/x.sock a.B");
        let process = ProcessRef::Pidfile("/run/x.pid".into());
        let memory = Probe::ProcessMemory { process, of: None };
        assert_eq!(memory.to_string(), "memory of process of /run/x.pid");
        let files = vec!["/a".into(), "/b".into()];
        assert_eq!(Probe::Secrets { files }.to_string(), "permissions of 2 files");
    }

    #[test]
    fn a_file_without_an_end_is_not_read() {
        assert_eq!(text(Path::new("/dev/null"), 1), Ok(String::new()));
        let said = text(Path::new("/dev/zero"), 1_000).unwrap_err();
        assert_eq!(said, "/dev/zero is longer than 1.0 kB");
        assert!(text(Path::new("/nowhere"), 1).unwrap_err().contains("can't read /nowhere"));
    }

    #[test]
    fn a_part_of_nothing_is_unknown() {
        assert_eq!(percent(1, 4, "x"), Ok(25.0));
        assert_eq!(percent(0, 0, "the limit"), Err("the limit is 0".to_owned()));
    }
}
