//! What is watched without being configured: this host and the agent itself.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::check::{self, Check, Deed, Level, Means, Severity, usual_limits, usual_row};
use super::config::Config;
use super::life::Policy;
use crate::config::Places;
use crate::outside::probes::Probe;

/// What of this host the built-in checks look at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Watched {
    /// Folders whose file systems must have room; the first on each stands for it.
    pub folders: Vec<PathBuf>,
    /// The folder of the local copies of logs, whose file system room can be made on.
    pub copies: PathBuf,
    /// Files that only their owner may read.
    pub secrets: Vec<PathBuf>,
}

impl Watched {
    /// What a configuration makes of this host.
    pub fn of(config: &crate::config::Config, places: &Places) -> Self {
        let logs = &config.logs;
        let mut folders = vec![PathBuf::from("/"), places.state.clone(), logs.local_dir.clone()];
        folders.extend(logs.archive.folder().cloned());
        for pattern in logs.sources.iter().flat_map(|source| &source.paths) {
            // The folder above the first part that is no plain name.
            let literal = pattern.split(['*', '?', '[']).next().unwrap_or_default();
            folders.extend(Path::new(literal).parent().map(Path::to_owned));
        }
        let mut secrets = vec![places.database()];
        secrets.extend(config.tls.iter().map(|tls| tls.key.clone()));
        secrets.extend(logs.archive.secrets());
        secrets.extend(config.alerts.secrets());
        Self { folders, copies: logs.local_dir.clone(), secrets }
    }
}

/// Whether a built-in check may have this id. Which of those of file systems there are, only the host can say.
pub fn may_be_built_in(id: &str) -> bool {
    matches!(id, "memory" | "load" | "agent" | "clock" | "secrets")
        || id
            .split_once(':')
            .is_some_and(|(kind, rest)| matches!(kind, "disk" | "inodes") && rest.starts_with('/'))
}

/// Every check in force: the configured ones, and the built-in ones that none of those replaces. `device` names the
/// file system of a folder.
pub fn checks(
    config: &Config,
    watched: &Watched,
    device: impl Fn(&Path) -> Option<u64>,
) -> Vec<Check> {
    let mut checks = config.checks.clone();
    if !config.defaults {
        return checks;
    }
    let known: BTreeSet<String> = checks.iter().map(|check| check.id.clone()).collect();
    let built = |id: String, probe: Probe, level: Level, severity: Severity| {
        let row = usual_row(&probe);
        let interval = level.interval();
        Check {
            id,
            row,
            level,
            severity,
            timeout: Duration::from_secs(5),
            policy: Policy {
                interval,
                hold: Duration::ZERO,
                looks: 1,
                clear: Duration::ZERO,
                settle: interval * 2,
                cooldown: Duration::from_secs(60),
                escalate_after: config.escalate_after,
            },
            depends_on: Vec::new(),
            limits: usual_limits(&probe),
            action: None,
            fallback: None,
            runbook: check::runbook(row, &probe),
            probe,
        }
    };
    let mut found = Vec::new();
    let (mut devices, copies) = (BTreeSet::new(), device(&watched.copies));
    for folder in &watched.folders {
        let Some(at) = device(folder) else { continue };
        if !devices.insert(at) {
            continue;
        }
        let shown = folder.display();
        let bytes = Probe::DiskBytes { path: folder.clone() };
        let inodes = Probe::DiskInodes { path: folder.clone() };
        for (id, probe, level, severity) in [
            (format!("disk:{shown}"), bytes, Level::Shallow, Severity::Critical),
            (format!("inodes:{shown}"), inodes, Level::Deep, Severity::High),
        ] {
            let mut check = built(id, probe, level, severity);
            if copies == Some(at) {
                check.policy.looks = 2;
                check.action =
                    Some(Deed { action: check.row.action, means: Means::BuiltIn("make-room") });
            }
            found.push(check);
        }
    }
    let mut memory = built("memory".to_owned(), Probe::HostMemory, Level::Shallow, Severity::High);
    memory.policy.hold = Duration::from_secs(60);
    found.push(memory);
    found.push(built("load".to_owned(), Probe::Load, Level::Shallow, Severity::Low));
    let mut agent = built("agent".to_owned(), Probe::Agent, Level::Shallow, Severity::Critical);
    // Longer than what is critical.
    agent.timeout = Duration::from_secs(15);
    found.push(agent);
    found.push(built("clock".to_owned(), Probe::Clock, Level::Deep, Severity::Medium));
    if !watched.secrets.is_empty() {
        let files = watched.secrets.clone();
        let secrets = Probe::Secrets { files };
        found.push(built("secrets".to_owned(), secrets, Level::Deep, Severity::Medium));
    }
    checks.extend(found.into_iter().filter(|check| !known.contains(&check.id)));
    checks
}
