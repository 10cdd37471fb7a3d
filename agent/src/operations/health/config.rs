//! `[health]`, `[[health.check]]`, `[remediation]`: the defaults are the procedures' numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::check::{self, Check, Level, Limits, Means, Severity, Worse, usual_limits, usual_row};
use super::defaults::may_be_built_in;
use super::gates;
use super::life::{LONGEST_COOLDOWN, Policy};
use super::matrix::{self, MATRIX};
use crate::config::named::NamedDatabase;
use crate::config::reader::Section;
use crate::config::units::parse_duration;
use crate::outside::probes::Probe;

mod deeds;
mod probes;

use deeds::read_deeds;
use probes::read_probe;

/// At most so many checks are configured.
const CHECK_LIMIT: usize = 256;
const DAY: Duration = Duration::from_secs(86_400);

/// What the configuration says of health.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Whether the host and the agent are watched without being configured.
    pub defaults: bool,
    /// Critical for so long, and people are called.
    pub escalate_after: Duration,
    /// The configured checks.
    pub checks: Vec<Check>,
    /// Whether anything is done by itself.
    pub remediation: bool,
    /// Everything is planned, and nothing done.
    pub dry_run: bool,
    /// Nothing is done for so long after a start, and after remediation was allowed again.
    pub startup_grace: Duration,
}

impl Config {
    /// Reads the sections.
    pub fn read(root: &Section<'_>, databases: &[NamedDatabase]) -> Self {
        let section = root.table("health");
        let defaults = section.flag(
            "defaults",
            true,
            "Watch this host and the agent without further configuration: file systems of /, the state, the archive and the logs, \
             memory, load, clock, secrets, the agent itself, and each configured database. A configured check of the same id takes the place of a built-in one.",
        );
        let escalate_after = section.duration(
            "escalate_after",
            "15m",
            Duration::from_millis(100)..=7 * DAY,
            "People are called about what has been critical for so long; time when the agent was down counts.",
        );
        let sections = section.tables("check", CHECK_LIMIT);
        let mut checks: Vec<(&Section<'_>, Check)> = Vec::new();
        let mut ids = BTreeSet::new();
        for section in &sections {
            section.entry_header();
            let id = section.parsed("id", None, "Names the check.", id);
            // Also where something else is wrong with it, so that all is said at once.
            if let Some(id) = &id
                && !ids.insert(id.clone())
            {
                section.problem("id", format!("{id:?} is used by another check"));
            }
            let check = read_check(section, id, escalate_after, databases);
            checks.extend(check.map(|check| (section, check)));
        }
        for (section, check) in &checks {
            let known = |name: &&String| {
                ids.contains(name.as_str()) || (defaults && may_be_built_in(name, databases))
            };
            if let Some(name) = check.depends_on.iter().find(|name| !known(name)) {
                let others = ids.iter().filter(|id| **id != check.id);
                let near = others.min_by_key(|id| strsim::damerau_levenshtein(id, name));
                let hint =
                    near.map_or_else(String::new, |near| format!("; the nearest is {near:?}"));
                section.problem("depends_on", format!("there is no check {name:?}{hint}"));
            }
        }
        let checks: Vec<Check> = checks.into_iter().map(|(_, check)| check).collect();
        if let Some(section) = sections.first() {
            let rings: BTreeMap<String, Vec<String>> =
                checks.iter().map(|check| (check.id.clone(), check.depends_on.clone())).collect();
            if let Some(ring) = gates::ring(&rings) {
                let message =
                    format!("the checks {} depend on each other in a ring", ring.join(", "));
                section.problem("depends_on", message);
            }
        }
        for section in sections {
            section.finish();
        }
        section.finish();
        let section = root.table("remediation");
        let config = Self {
            defaults,
            escalate_after,
            checks,
            remediation: section.flag(
                "enabled",
                true,
                "Take actions by itself. `genesisctl health remediation disable` holds them back for a while.",
            ),
            dry_run: section.flag(
                "dry_run",
                false,
                "Plan every action, record what it would do, and do nothing.",
            ),
            startup_grace: section.duration(
                "startup_grace",
                "60s",
                Duration::ZERO..=DAY,
                "Nothing is done for so long after a start, and after remediation was allowed again.",
            ),
        };
        section.finish();
        config
    }
}

fn id(text: &str) -> Result<String, String> {
    let ok = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/".contains(&byte);
    if (1..=128).contains(&text.len()) && text.bytes().all(ok) {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is no id; use 1 to 128 of a-z, A-Z, 0-9 and -_.:/"))
    }
}

fn read_check(
    section: &Section<'_>,
    id: Option<String>,
    escalate_after: Duration,
    databases: &[NamedDatabase],
) -> Option<Check> {
    let probe = read_probe(section, databases);
    let row = section.parsed(
        "row",
        Some(""),
        "Its row of the remediation matrix: connection-pool, memory-leak, disk-space, api-degradation, database-lock, or none. Empty: by \
         its probe.",
        |text| match text {
            "" => Ok(None),
            text => matrix::row(text).map(Some).ok_or_else(|| {
                let names: Vec<&str> = MATRIX.iter().map(|row| row.name).collect();
                format!("{text:?} is not one of {}", names.join(", "))
            }),
        },
    );
    let level = section.parsed(
        "level",
        Some("shallow"),
        "shallow or deep: which looks include it, and how often it is made by default.",
        |text| match text {
            "shallow" => Ok(Level::Shallow),
            "deep" => Ok(Level::Deep),
            _ => Err(format!("{text:?} is neither shallow nor deep")),
        },
    );
    let severity = section.parsed(
        "severity",
        Some("high"),
        "How bad it is when it fails: low, medium, high, or critical.",
        Severity::parse,
    );
    let span = |key, default, help, least: Duration| {
        optional_duration(section, key, default, help, least..=DAY)
    };
    let interval = span(
        "interval",
        "",
        "How often it is made. Empty: 30s for shallow ones, 5m for deep ones.",
        Duration::from_millis(50),
    );
    let timeout = span(
        "timeout",
        "",
        "How long it may take, less than the interval. Empty: 5s, or half of the interval.",
        Duration::from_millis(10),
    );
    let hold = span(
        "for",
        "0s",
        "Bad for so long before it counts. One with an action is looked at twice in any case.",
        Duration::ZERO,
    );
    let clear = span(
        "clear_for",
        "0s",
        "Good for so long, and at two looks, before it is over.",
        Duration::ZERO,
    );
    let settle = span(
        "settle",
        "",
        "So long an action may take to show once it has ended. Empty: two intervals.",
        Duration::from_millis(10),
    );
    let cooldown = span(
        "cooldown",
        "60s",
        "The pause after the first attempt that did not help; it doubles with each, up to an hour.",
        Duration::from_millis(10),
    );
    if cooldown.flatten().is_some_and(|cooldown| cooldown > LONGEST_COOLDOWN) {
        section.problem("cooldown", "must be at most 1h, which is the longest pause");
    }
    let depends_on = section.list(
        "depends_on",
        &[],
        false,
        "Ids of checks that must be well for this one to be, built-in ones included; where one of them fails, only that is acted on.",
    );
    let limits = read_limits(section, probe.as_ref());
    let row = row.flatten().or_else(|| probe.as_ref().map(usual_row));
    let (action, fallback) = read_deeds(section, row.map(|row| (row.action, row.fallback)));
    let (probe, row, level) = (probe?, row?, level?);
    let interval = interval.flatten().unwrap_or_else(|| level.interval());
    let timeout = timeout.flatten().unwrap_or_else(|| (interval / 2).min(Duration::from_secs(5)));
    if timeout >= interval {
        section.problem("timeout", format!("must be less than the interval, {interval:?}"));
    }
    if let Some(Means::BuiltIn(name)) = action.as_ref().map(|deed| &deed.means) {
        let (fits, probes) = match *name {
            "reset-connections" => (matches!(probe, Probe::DatabasePool { .. }), "database-pool"),
            "cancel-query" => (matches!(probe, Probe::DatabaseBlocked { .. }), "database-blocked"),
            _ => (
                matches!(probe, Probe::DiskBytes { .. } | Probe::DiskInodes { .. }),
                "disk-bytes and disk-inodes",
            ),
        };
        if !fits {
            section.problem("action", format!("{name:?} is for the probe {probes}"));
        }
    }
    // One bad look may be anything; and a look later, every other check has had its say.
    let looks = if action.is_some() { 2 } else { 1 };
    let probe = match probe {
        Probe::Command { command, .. } => Probe::Command { command, timeout },
        other => other,
    };
    Some(Check {
        id: id?,
        row,
        level,
        severity: severity?,
        timeout,
        policy: Policy {
            interval,
            hold: hold.flatten().unwrap_or_default(),
            looks,
            clear: clear.flatten().unwrap_or_default(),
            settle: settle.flatten().unwrap_or(interval * 2),
            cooldown: cooldown.flatten().unwrap_or(Duration::from_secs(60)),
            escalate_after,
        },
        depends_on,
        limits: limits?,
        action,
        fallback,
        runbook: check::runbook(row, &probe),
        probe,
    })
}

/// A time span that may be left empty.
#[allow(clippy::option_option)] // None: a problem was reported.
fn optional_duration(
    section: &Section<'_>,
    key: &'static str,
    default: &'static str,
    help: &'static str,
    allowed: std::ops::RangeInclusive<Duration>,
) -> Option<Option<Duration>> {
    section.parsed(key, Some(default), help, |text| match text {
        "" => Ok(None),
        text => match parse_duration(text)? {
            span if allowed.contains(&span) => Ok(Some(span)),
            _ => Err(format!("{text:?} is outside {:?} to {:?}", allowed.start(), allowed.end())),
        },
    })
}

fn read_limits(section: &Section<'_>, probe: Option<&Probe>) -> Option<Limits> {
    let number = |key, help| {
        section.parsed(key, Some(""), help, |text| match text {
            "" => Ok(None),
            text => match text.trim_end_matches('%').trim().parse::<f64>() {
                Ok(number) if number.is_finite() => Ok(Some(number)),
                _ => Err(format!("{text:?} is no number")),
            },
        })
    };
    let warn = number(
        "warn",
        "WARN beyond this value. Empty, as those below: the usual one of its probe.",
    );
    let crit = number("crit", "CRITICAL beyond this value.");
    let clear = number(
        "clear",
        "An issue is over only at this value. Empty: as far from crit as is usual for its probe.",
    );
    let worse = section.parsed(
        "worse",
        Some(""),
        "\"above\" or \"below\": which way the value gets worse. Empty: as usual for its probe.",
        |text| match text {
            "" => Ok(None),
            "above" => Ok(Some(Worse::Above)),
            "below" => Ok(Some(Worse::Below)),
            _ => Err(format!("{text:?} is neither above nor below")),
        },
    );
    let usual = usual_limits(probe?);
    let given = crit?.is_some();
    let worse = worse?.unwrap_or(usual.worse);
    let limits = Limits {
        worse,
        warn: warn?.or(usual.warn.filter(|_| !given)),
        crit: crit?.or(usual.crit),
        clear: clear?.or(match (usual.clear, usual.crit, crit?) {
            // As far from its own limit as the usual ones are from each other.
            (Some(clear), Some(usual), Some(own)) => Some((own + clear - usual).clamp(0.0, 100.0)),
            (clear, _, _) => clear,
        }),
    };
    if limits.crit.is_none() && limits.warn.is_none() {
        section.problem("crit", "this probe has no usual limit: say beyond what it is critical");
    }
    let wrong = |good: Option<f64>| {
        let (Some(good), Some(crit)) = (good, limits.crit) else { return false };
        match worse {
            Worse::Above => good > crit,
            Worse::Below => good < crit,
        }
    };
    for (key, value) in [("warn", limits.warn), ("clear", limits.clear)] {
        if wrong(value) {
            section.problem(key, "lies beyond crit; it must be on the good side of it");
        }
    }
    Some(limits)
}
