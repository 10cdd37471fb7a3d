//! A check, and how what it measured is judged. Pure.

use std::path::PathBuf;
use std::time::Duration;

use super::life::{Policy, Status};
use super::matrix::{self, Action, Row};
pub use crate::events::Severity;
use crate::outside::hooks::Hook;
use crate::outside::probes::{Outcome, Probe, ProcessRef};
use crate::outside::process::ReopenSignal;

/// How often a check is made by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Whether what is needed answers, and the basic figures.
    Shallow,
    /// What takes longer and changes more slowly.
    Deep,
}

impl Level {
    /// The procedures' pace: 30 s and 5 min.
    pub fn interval(self) -> Duration {
        match self {
            Self::Shallow => Duration::from_secs(30),
            Self::Deep => Duration::from_secs(300),
        }
    }
}

/// Which way a value gets worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Worse {
    /// The more, the worse.
    Above,
    /// The less, the worse.
    Below,
}

/// The limits of a check, in its probe's unit. `crit` is `None` where a check only warns; `clear` is where an
/// issue is over, which is on the good side of `crit`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Which way it gets worse.
    pub worse: Worse,
    /// Beyond it is WARN.
    pub warn: Option<f64>,
    /// Beyond it is CRIT.
    pub crit: Option<f64>,
    /// What is bad stays so until here.
    pub clear: Option<f64>,
}

impl Limits {
    fn beyond(&self, value: f64, limit: Option<f64>) -> bool {
        limit.is_some_and(|limit| match self.worse {
            Worse::Above => value > limit,
            Worse::Below => value < limit,
        })
    }

    /// Judges a value. `bad`: an issue of it is open, so that it is over only at `clear`. What is no number can't
    /// be judged.
    pub fn judge(&self, value: f64, bad: bool) -> Status {
        if value.is_nan() {
            Status::Unknown
        } else if self.beyond(value, self.crit) || (bad && self.beyond(value, self.clear)) {
            Status::Crit
        } else if self.beyond(value, self.warn) {
            Status::Warn
        } else {
            Status::Ok
        }
    }

    /// The limit in words, with the probe's unit.
    pub fn words(&self, unit: &str) -> String {
        let side = match self.worse {
            Worse::Above => "above",
            Worse::Below => "below",
        };
        let number = |limit: f64| match limit {
            limit if limit == f64::MAX => "down".to_owned(),
            limit if unit.is_empty() => format!("{side} {limit}"),
            limit => format!("{side} {limit} {unit}"),
        };
        match (self.crit, self.warn) {
            (Some(crit), _) => number(crit),
            (None, Some(warn)) => format!("warns {}", number(warn)),
            (None, None) => "none".to_owned(),
        }
    }
}

/// The unit of a probe's value.
pub fn unit(probe: &Probe) -> &'static str {
    match probe {
        Probe::DiskBytes { .. }
        | Probe::DiskInodes { .. }
        | Probe::HostMemory
        | Probe::ProcessMemory { .. }
        | Probe::GroupMemory { .. }
        | Probe::Load
        | Probe::DatabasePool { .. }
        | Probe::DatabasePooler { .. } => "%",
        Probe::BackupAge { .. } => "h",
        Probe::Certificate { .. } => "d",
        Probe::Tcp { .. }
        | Probe::Http { .. }
        | Probe::GrpcHealth { .. }
        | Probe::Clock
        | Probe::DatabaseAnswers { .. }
        | Probe::Agent => "ms",
        Probe::Process { .. }
        | Probe::Command { .. }
        | Probe::Scrape { .. }
        | Probe::DatabaseBlocked { .. }
        | Probe::DatabaseDeadlocks { .. }
        | Probe::DatabaseIntegrity { .. }
        | Probe::Sql { .. }
        | Probe::Secrets { .. }
        | Probe::Latency { .. } => "",
    }
}

/// Whether a probe asks a service for an answer: then one that does not come in time is a service that is down,
/// where elsewhere it only can't be told.
pub fn asks_a_service(probe: &Probe) -> bool {
    matches!(
        probe,
        Probe::Tcp { .. }
            | Probe::Http { .. }
            | Probe::GrpcHealth { .. }
            | Probe::DatabaseAnswers { .. }
    )
}

/// What carries an action out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Means {
    /// Something that the agent knows to do by itself.
    BuiltIn(&'static str),
    /// A command.
    Hook(Hook),
    /// A signal to a service.
    Signal {
        /// Which.
        signal: ReopenSignal,
        /// The file that holds the service's process id.
        pidfile: PathBuf,
    },
    /// A POST to a service.
    Http {
        /// Where.
        url: String,
        /// How long the answer may take.
        timeout: Duration,
    },
}

impl Means {
    /// In words, without arguments, which may be secret.
    pub fn words(&self) -> String {
        match self {
            Self::BuiltIn(name) => format!("built-in {name}"),
            Self::Hook(hook) => {
                format!("command {}", hook.command.first().map_or("", String::as_str))
            }
            Self::Signal { signal, pidfile } => {
                format!("signal {signal:?} to the process of {}", pidfile.display())
            }
            Self::Http { url, .. } => {
                let bare = url.split(['?', '#']).next().unwrap_or_default();
                format!("POST {bare}")
            }
        }
    }
}

/// An action of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deed {
    /// What the matrix says of it; whether it touches trades or destroys may be configured otherwise.
    pub action: Action,
    /// By what.
    pub means: Means,
}

/// A check of this host.
#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    /// Such as "disk:/".
    pub id: String,
    /// Its row of the matrix.
    pub row: &'static Row,
    /// What it looks at.
    pub probe: Probe,
    /// How deep.
    pub level: Level,
    /// How bad it is when it fails.
    pub severity: Severity,
    /// A look takes no longer.
    pub timeout: Duration,
    /// When what it finds counts.
    pub policy: Policy,
    /// The checks that it depends on.
    pub depends_on: Vec<String>,
    /// What is good and bad.
    pub limits: Limits,
    /// What is done by itself.
    pub action: Option<Deed>,
    /// What people can have done.
    pub fallback: Option<Deed>,
    /// The page of the runbook.
    pub runbook: &'static str,
}

impl Check {
    /// The limit in words.
    pub fn limit(&self) -> String {
        self.limits.words(unit(&self.probe))
    }

    /// Its actions, and whether each is taken by itself.
    pub fn deeds(&self) -> impl Iterator<Item = (&Deed, bool)> {
        let by_itself = self.action.iter().map(|deed| (deed, true));
        by_itself.chain(self.fallback.iter().map(|deed| (deed, false)))
    }

    /// The name by which budgets count: one action of one check.
    pub fn budget(&self, action: &Action) -> String {
        format!("{} of {}", action.name, self.id)
    }

    /// Where it is, for actions on a file system.
    pub fn path(&self) -> Option<&PathBuf> {
        match &self.probe {
            Probe::DiskBytes { path } | Probe::DiskInodes { path } => Some(path),
            _ => None,
        }
    }

    /// What it looks at, for whoever carries an action out; empty where that goes without saying.
    pub fn target(&self) -> String {
        match &self.probe {
            Probe::DiskBytes { path } | Probe::DiskInodes { path } => path.display().to_string(),
            Probe::GroupMemory { group } => group.display().to_string(),
            Probe::ProcessMemory { process, .. } | Probe::Process { process } => match process {
                ProcessRef::Pidfile(path) => path.display().to_string(),
                ProcessRef::Name(name) => name.clone(),
            },
            Probe::Tcp { address } | Probe::Certificate { address, .. } => address.clone(),
            Probe::Http { url, .. } | Probe::Scrape { url, .. } => url.clone(),
            Probe::GrpcHealth { target, .. } => target.clone(),
            Probe::HostMemory
            | Probe::Load
            | Probe::Command { .. }
            | Probe::Clock
            | Probe::Secrets { .. }
            | Probe::Agent => String::new(),
            Probe::Latency { operation } => operation.clone(),
            Probe::DatabaseAnswers { database }
            | Probe::DatabasePool { database }
            | Probe::DatabasePooler { database }
            | Probe::DatabaseBlocked { database, .. }
            | Probe::DatabaseDeadlocks { database }
            | Probe::DatabaseIntegrity { database }
            | Probe::Sql { database, .. }
            | Probe::BackupAge { source: database, .. } => database.clone(),
        }
    }

    /// Judges what was measured. `bad`: see [`Limits::judge`].
    pub fn judge(&self, outcome: &Outcome, bad: bool) -> Status {
        match outcome {
            Ok(measured) => self.limits.judge(measured.value, bad),
            Err(_) => Status::Unknown,
        }
    }
}

/// The page of the runbook for a check of this row and probe.
pub fn runbook(row: &Row, probe: &Probe) -> &'static str {
    match probe {
        _ if row.name != "none" => row.runbook,
        Probe::Tcp { .. }
        | Probe::Http { .. }
        | Probe::GrpcHealth { .. }
        | Probe::DatabaseAnswers { .. }
        | Probe::Process { .. } => "service-down",
        Probe::Clock => "clock",
        Probe::Certificate { .. } => "certificates",
        Probe::Secrets { .. } => "secrets",
        _ => row.runbook,
    }
}

/// The row that a probe is on when the configuration names none.
pub fn usual_row(probe: &Probe) -> &'static Row {
    let name = match probe {
        Probe::DiskBytes { .. } | Probe::DiskInodes { .. } => "disk-space",
        Probe::HostMemory | Probe::ProcessMemory { .. } | Probe::GroupMemory { .. } => {
            "memory-leak"
        }
        Probe::DatabasePool { .. } | Probe::DatabasePooler { .. } => "connection-pool",
        Probe::DatabaseBlocked { .. } | Probe::DatabaseDeadlocks { .. } => "database-lock",
        Probe::Latency { .. } => "api-degradation",
        _ => "none",
    };
    // The last row is that of none.
    matrix::row(name).unwrap_or(&matrix::MATRIX[matrix::MATRIX.len() - 1])
}

/// The limits that a probe has when the configuration names none: the procedures' numbers where they have some.
pub fn usual_limits(probe: &Probe) -> Limits {
    let limits = |worse, warn, crit, clear| Limits { worse, warn, crit, clear };
    match probe {
        Probe::DiskBytes { .. } | Probe::DiskInodes { .. } => {
            limits(Worse::Below, Some(15.0), Some(10.0), Some(15.0))
        }
        Probe::HostMemory | Probe::ProcessMemory { .. } | Probe::GroupMemory { .. } => {
            limits(Worse::Above, Some(75.0), Some(85.0), Some(75.0))
        }
        // Down is above any number.
        Probe::Tcp { .. }
        | Probe::Http { .. }
        | Probe::GrpcHealth { .. }
        | Probe::DatabaseAnswers { .. } => limits(Worse::Above, None, Some(f64::MAX), None),
        Probe::DatabasePool { .. } | Probe::DatabasePooler { .. } => {
            limits(Worse::Below, Some(20.0), Some(10.0), Some(20.0))
        }
        Probe::DatabaseBlocked { .. } | Probe::DatabaseIntegrity { .. } | Probe::Latency { .. } => {
            limits(Worse::Above, None, Some(0.0), None)
        }
        // The server itself has ended them; what is left is that they come.
        Probe::DatabaseDeadlocks { .. } => limits(Worse::Above, Some(0.0), None, None),
        Probe::BackupAge { .. } => limits(Worse::Above, None, Some(26.0), None),
        // The objective is more than a week; one of a few days has limits of its own.
        Probe::Certificate { .. } => limits(Worse::Below, Some(7.0), Some(1.0), None),
        Probe::Process { .. } => limits(Worse::Below, None, Some(1.0), None),
        // High load is no fault by itself.
        Probe::Load => limits(Worse::Above, Some(400.0), None, None),
        // Between two corrections by a daemon that polls rarely the estimate grows to a second.
        Probe::Clock => limits(Worse::Above, Some(2_000.0), None, None),
        Probe::Secrets { .. } => limits(Worse::Above, Some(0.0), None, None),
        // A commit that takes ten seconds.
        Probe::Agent => limits(Worse::Above, Some(2_000.0), Some(10_000.0), Some(2_000.0)),
        Probe::Command { .. } | Probe::Scrape { .. } | Probe::Sql { .. } => {
            limits(Worse::Above, None, None, None)
        }
    }
}
