//! What a configured check looks at.

use std::path::PathBuf;
use std::time::Duration;

use genesis_storage::BackupLevel;

use crate::config::named::NamedDatabase;
use crate::config::reader::Section;
use crate::config::units::parse_size;
use crate::outside::probes::{Probe, ProcessRef};

const PROBE_HELP: &str = "What is looked at: disk-bytes, disk-inodes (free %), memory-host, memory-process, memory-cgroup (used %), \
                          tcp, http, grpc-health (ms; down is worse than any), process (how many live), load (% of the processors), \
                          queue-command, queue-scrape, queue-sql (a number), clock (ms), secrets (how many are open to others), agent (ms of a \
                          commit), database-answers (ms; down is worse than any), database-pool, database-pooler (free %), \
                          database-blocked (how many wait), database-deadlocks (how many within 5 minutes), database-integrity \
                          (how many faults), backup-age (hours), certificate (days until the one that is served ends), baseline (how many operations have left what \
                          is usual).";

pub(super) fn read_probe(section: &Section<'_>, databases: &[NamedDatabase]) -> Option<Probe> {
    let kind = section.parsed("probe", None, PROBE_HELP, |text| Ok(text.to_owned()));
    let target = section.text(
        "target",
        Some(""),
        "Of what: a path (disk-*, memory-cgroup), host:port (tcp, certificate), a URL (http, queue-scrape; grpc-health also unix:/path), a pidfile's \
         path or a process name (process, memory-process), an operation (baseline; empty: all of them).",
    );
    let of = section.parsed(
        "of",
        Some(""),
        "memory-process: in percent of this size, such as \"2GiB\". Empty: of the host's memory.",
        |text| if text.is_empty() { Ok(None) } else { parse_size(text).map(Some) },
    );
    let metric = section.text(
        "metric",
        Some(""),
        "queue-scrape: the metric, such as 'queue_depth{queue=\"orders\"}'; what matches is summed.",
    );
    let status = section.parsed(
        "status",
        Some(""),
        "http: the status that is good. Empty: 200 to 299.",
        |text| match text {
            "" => Ok(None),
            text => match text.parse::<u16>() {
                Ok(status @ 100..=599) => Ok(Some(status)),
                _ => Err(format!("{text:?} is no HTTP status")),
            },
        },
    );
    let server_name = section.text(
        "server_name",
        Some(""),
        "certificate: the name that is asked for. Empty: the host of target.",
    );
    let service =
        section.text("service", Some(""), "grpc-health: of which service. Empty: the server.");
    let ca = section.parsed(
        "ca_file",
        Some(""),
        "grpc-health over https: the CA certificates (PEM) to trust.",
        |text| match text {
            "" => Ok(None),
            text if text.starts_with('/') => Ok(Some(PathBuf::from(text))),
            text => Err(format!("{text:?} must be an absolute path")),
        },
    );
    let command = section.list(
        "command",
        &[],
        false,
        "queue-command: the program and its arguments, without a shell; the last line that it prints is the number.",
    );
    let files = section.list(
        "files",
        &[],
        false,
        "secrets: absolute paths of files that only their owner may read.",
    );
    let database = section.text(
        "database",
        Some(""),
        "database-*, queue-sql, backup-age: the name of a [[database.instance]]; for backup-age also \"agent\", its own state.",
    );
    let sql = section.text(
        "sql",
        Some(""),
        "queue-sql: one statement that only reads and answers one number, from 0 on.",
    );
    let patience = section.duration(
        "patience",
        "10s",
        Duration::ZERO..=Duration::from_secs(86_400),
        "database-blocked: who waits for less does not count, and nobody is ended for it.",
    );
    let kind = kind?;
    if kind.starts_with("database-") || matches!(kind.as_str(), "queue-sql" | "backup-age") {
        return of_database(section, &kind, database, (sql, patience), databases);
    }
    let path = || match target.starts_with('/') {
        true => Some(PathBuf::from(&target)),
        false => {
            section.problem("target", format!("must be an absolute path for {kind:?}"));
            None
        }
    };
    let process = || match target.as_str() {
        "" => {
            section.problem("target", format!("must be a pidfile's path or a name for {kind:?}"));
            None
        }
        text if text.starts_with('/') => Some(ProcessRef::Pidfile(text.into())),
        text => Some(ProcessRef::Name(text.to_owned())),
    };
    let url = || match url(&target) {
        Ok(()) => Some(target.clone()),
        Err(why) => {
            section.problem("target", why);
            None
        }
    };
    match kind.as_str() {
        "disk-bytes" => Some(Probe::DiskBytes { path: path()? }),
        "disk-inodes" => Some(Probe::DiskInodes { path: path()? }),
        "memory-host" => Some(Probe::HostMemory),
        "memory-process" => Some(Probe::ProcessMemory { process: process()?, of: of.flatten() }),
        "memory-cgroup" => Some(Probe::GroupMemory { group: path()? }),
        "tcp" | "certificate" => match target.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {
                Some(match (kind.as_str(), server_name.as_str()) {
                    ("tcp", _) => Probe::Tcp { address: target },
                    (_, "") => Probe::Certificate { server_name: host.to_owned(), address: target },
                    _ => Probe::Certificate { address: target, server_name },
                })
            }
            _ => {
                section.problem("target", format!("must be host:port for {kind:?}"));
                None
            }
        },
        "http" => Some(Probe::Http { url: url()?, status: status.flatten() }),
        "grpc-health" => {
            let target = if target.starts_with("unix:/") { target } else { url()? };
            Some(Probe::GrpcHealth { target, service, ca: ca.flatten() })
        }
        "process" => Some(Probe::Process { process: process()? }),
        "load" => Some(Probe::Load),
        "queue-command" if command.is_empty() => {
            section.problem("command", "is needed for \"queue-command\"");
            None
        }
        "queue-command" => Some(Probe::Command { command, timeout: Duration::ZERO }),
        "queue-scrape" if metric.is_empty() => {
            section.problem("metric", "is needed for \"queue-scrape\"");
            None
        }
        "queue-scrape" => Some(Probe::Scrape { url: url()?, metric }),
        "clock" => Some(Probe::Clock),
        "secrets" if files.is_empty() || files.iter().any(|file| !file.starts_with('/')) => {
            section.problem("files", "absolute paths are needed for \"secrets\"");
            None
        }
        "secrets" => Some(Probe::Secrets { files: files.into_iter().map(PathBuf::from).collect() }),
        "agent" => Some(Probe::Agent),
        "baseline" => Some(Probe::Latency { operation: target }),
        other => {
            section.problem(
                "probe",
                format!("{other:?} is not one of those in the reference of [[health.check]]"),
            );
            None
        }
    }
}

/// What is asked of a database, which must be one that is configured.
fn of_database(
    section: &Section<'_>,
    kind: &str,
    database: String,
    (sql, patience): (String, Duration),
    databases: &[NamedDatabase],
) -> Option<Probe> {
    let known = databases.iter().find(|known| known.name == database);
    if kind == "backup-age" && database == "agent" {
        return Some(Probe::BackupAge { source: database, level: BackupLevel::Checksums });
    }
    let Some(known) = known else {
        let near = databases
            .iter()
            .min_by_key(|known| strsim::damerau_levenshtein(&known.name, &database));
        let hint = match near {
            Some(near) => format!("the nearest is {:?}", near.name),
            None => "there is no [[database.instance]]".to_owned(),
        };
        section.problem("database", format!("there is no database {database:?}; {hint}"));
        return None;
    };
    let needs = match kind {
        "database-pool" | "database-blocked" | "database-deadlocks" => known.postgres,
        "database-pooler" => known.pooler,
        _ => true,
    };
    if !needs {
        let what = if kind == "database-pooler" { "has no pgbouncer" } else { "is no PostgreSQL" };
        section.problem("database", format!("{database:?} {what}, which {kind} is about"));
        return None;
    }
    match kind {
        "database-answers" => Some(Probe::DatabaseAnswers { database }),
        "database-pool" => Some(Probe::DatabasePool { database }),
        "database-pooler" => Some(Probe::DatabasePooler { database }),
        "database-blocked" => Some(Probe::DatabaseBlocked { database, patience }),
        "database-deadlocks" => Some(Probe::DatabaseDeadlocks { database }),
        "database-integrity" => Some(Probe::DatabaseIntegrity { database }),
        "backup-age" => Some(Probe::BackupAge { source: database, level: known.backup_level }),
        "queue-sql" if sql.trim().is_empty() => {
            section.problem("sql", "is needed for \"queue-sql\"");
            None
        }
        "queue-sql" => Some(Probe::Sql { database, sql }),
        other => {
            section.problem("probe", format!("{other:?} is not one of those in the reference"));
            None
        }
    }
}

/// A URL without a password in it.
pub(super) fn url(text: &str) -> Result<(), String> {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    let Some(rest) = rest.filter(|rest| !rest.is_empty()) else {
        return Err(format!("{text:?} must begin with http:// or https://"));
    };
    match rest.split('/').next().unwrap_or_default().contains('@') {
        true => Err("must not hold a user or a password".to_owned()),
        false => Ok(()),
    }
}
