//! How a project is updated: the keys of `[[dependencies.project]]` beside what is scanned.

use std::path::{Path, PathBuf};
use std::time::Duration;

use genesis_advisories::bounds::Strategy;

use crate::config::means;
use crate::config::reader::{Inline, Section};
use crate::outside::hooks::Hook;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// How a project is updated.
#[derive(Debug, Clone, PartialEq)]
pub struct Managed {
    /// By which strategy, where nobody says another one.
    pub strategy: Strategy,
    /// A version is taken when it has been out for so long.
    pub min_release_age: Duration,
    /// The user that tools and tests run as; `None`: the agent's own.
    pub user: Option<String>,
    /// "NAME=value", each, for tools and tests.
    pub environment: Vec<String>,
    /// Whether code of packages may run while they are installed.
    pub source_builds: bool,
    /// Whether tests, and what is built from source, run in a sandbox.
    pub sandbox: bool,
    /// Whether an exploited vulnerability is mended by itself.
    pub mends_exploited: bool,
    /// So many releases are kept.
    pub keep: usize,
    /// A critical vulnerability is to be mended within that.
    pub critical: Duration,
    /// And its post-mortem written within that.
    pub postmortem: Duration,
    /// The test suite.
    pub test: Option<Test>,
    /// Where releases come into service.
    pub deploy: Option<Deploy>,
}

impl Default for Managed {
    /// As a project is that says nothing of it: it can't be updated.
    fn default() -> Self {
        Self {
            strategy: Strategy::Conservative,
            min_release_age: 3 * DAY,
            user: None,
            environment: Vec::new(),
            source_builds: false,
            sandbox: true,
            mends_exploited: true,
            keep: 5,
            critical: DAY,
            postmortem: 3 * DAY,
            test: None,
            deploy: None,
        }
    }
}

/// The test suite of a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Test {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// How long it may take.
    pub timeout: Duration,
}

/// Where releases come into service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deploy {
    /// They are made in here.
    pub releases: PathBuf,
    /// This leads to the one in service.
    pub link: PathBuf,
    /// What makes the service run what the link leads to.
    pub restart: Hook,
    /// Whether it does well.
    pub health: Probe,
    /// It has to do well for so long.
    pub health_for: Duration,
    /// From so long after its restart on.
    pub start_within: Duration,
}

impl Deploy {
    /// What no other project may have: the link, and the folder of releases.
    pub fn places(&self) -> (PathBuf, PathBuf) {
        let plain = |path: &Path| path.components().collect::<PathBuf>();
        (plain(&self.link), plain(&self.releases))
    }
}

/// How one finds out whether a service does well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// It answers a GET of this with 2xx.
    Url(String),
    /// This ends with 0.
    Hook(Hook),
}

/// The names of the strategies.
pub const STRATEGIES: [(&str, Strategy); 4] = [
    ("conservative", Strategy::Conservative),
    ("moderate", Strategy::Moderate),
    ("aggressive", Strategy::Aggressive),
    ("security", Strategy::Security),
];

/// A strategy by its name.
///
/// # Errors
/// The names there are.
pub fn strategy(text: &str) -> Result<Strategy, String> {
    STRATEGIES.iter().find(|(name, _)| *name == text).map(|(_, it)| *it).ok_or_else(|| {
        format!("{text:?} is not one of conservative, moderate, aggressive, security")
    })
}

/// The name of a strategy.
pub fn strategy_name(strategy: Strategy) -> &'static str {
    STRATEGIES.iter().find(|(_, it)| *it == strategy).map_or("", |(name, _)| name)
}

/// Reads the keys of a project that say how it is updated.
pub(super) fn read(entry: &Section<'_>) -> Managed {
    let strategy = entry.parsed(
        "strategy",
        Some("conservative"),
        "How far updates go: \"conservative\" stays within X.Y, \"moderate\" within X, \"aggressive\" takes anything, \"security\" \
         only mends what is vulnerable.",
        strategy,
    );
    let min_release_age = entry.duration(
        "min_release_age",
        "3d",
        Duration::ZERO..=365 * DAY,
        "A version is taken when it has been out for so long: what is malicious is mostly found out by then. The security \
         strategy waits for nothing. Cargo can't be told.",
    );
    let user = entry.text(
        "user",
        Some(""),
        "The user that the project's tools and tests run as. Empty: the agent's own.",
    );
    let environment = entry.list(
        "environment",
        &[],
        false,
        "NAME=value, each, for the project's tools and tests, such as UV_DEFAULT_INDEX=... No secrets: whoever reads the \
         configuration sees them.",
    );
    for text in &environment {
        let named = text.split_once('=').is_some_and(|(name, _)| !name.is_empty());
        if !named || text.contains('\0') {
            entry.problem("environment", format!("{text:?} is not NAME=value"));
        } else if means_password(text) {
            entry.problem(
                "environment",
                "has a password in an address: put it into ~/.netrc of the user",
            );
        }
    }
    let source_builds = entry.flag(
        "source_builds",
        false,
        "Whether code of Python packages may run while they are installed, which it does where there is no wheel.",
    );
    let sandbox = entry.flag(
        "sandbox",
        true,
        "Whether tests, and what cargo builds, run in a sandbox (bubblewrap): no network, everything read-only but a folder of \
         their own.",
    );
    let mends_exploited = entry.parsed(
        "exploited",
        Some("update"),
        "What becomes of a vulnerability that use is made of, by KEV: \"update\" mends it at once by the security strategy, with \
         tests and health window; \"tell\" only tells people.",
        |text| match text {
            "update" => Ok(true),
            "tell" => Ok(false),
            _ => Err(format!("{text:?} is neither \"update\" nor \"tell\"")),
        },
    );
    let keep = entry.parsed("keep", Some("5"), "So many releases are kept, 2 to 100.", |text| {
        text.parse::<usize>()
            .ok()
            .filter(|number| (2..=100).contains(number))
            .ok_or_else(|| format!("{text:?} is not a number from 2 to 100"))
    });
    let (critical, postmortem) = read_times(entry);
    let (test, deploy) = (read_test(entry), read_deploy(entry));
    Managed {
        strategy: strategy.unwrap_or(Strategy::Conservative),
        min_release_age,
        user: Some(user).filter(|user| !user.is_empty()),
        environment,
        source_builds,
        sandbox,
        mends_exploited: mends_exploited.unwrap_or(false),
        keep: keep.unwrap_or(5),
        critical,
        postmortem,
        test,
        deploy,
    }
}

fn means_password(text: &str) -> bool {
    let Some((_, rest)) = text.split_once("://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    authority.split_once('@').is_some_and(|(user, _)| user.contains(':'))
}

fn read_times(entry: &Section<'_>) -> (Duration, Duration) {
    let sla = entry.table("sla");
    let critical = sla.duration(
        "critical",
        "24h",
        MINUTE..=365 * DAY,
        "A vulnerability that is critical or exploited is to be mended within that. People hear of it at once, and after 50, 80 \
         and 100 percent of it.",
    );
    let postmortem = sla.duration(
        "postmortem",
        "72h",
        MINUTE..=365 * DAY,
        "And its post-mortem written within that, both from when it was first seen.",
    );
    sla.finish();
    (critical, postmortem)
}

fn read_test(entry: &Section<'_>) -> Option<Test> {
    if !entry.has("test") {
        return None;
    }
    let section = entry.table("test");
    let command = section.list(
        "command",
        &[],
        true,
        "The test suite: a program of the release or of the host, and its arguments. It runs in the project's root.",
    );
    let timeout = section.duration(
        "timeout",
        "15m",
        Duration::from_secs(1)..=12 * HOUR,
        "How long it may take.",
    );
    section.finish();
    Some(Test { command, timeout }).filter(|test| !test.command.is_empty())
}

fn read_deploy(entry: &Section<'_>) -> Option<Deploy> {
    if !entry.has("deploy") {
        return None;
    }
    let section = entry.table("deploy");
    let absolute = |text: &str| {
        let path = Path::new(text);
        let plain = path.is_absolute() && path.file_name().is_some();
        plain.then(|| path.to_owned()).ok_or_else(|| format!("{text:?} is not an absolute path"))
    };
    let releases = section.parsed(
        "releases_dir",
        None,
        "The folder that releases are made in, each in one of its own: a virtual environment, or what cargo installs.",
        absolute,
    );
    let link = section.parsed(
        "link",
        None,
        "The symbolic link that leads to the release in service.",
        absolute,
    );
    let health_for = section.duration(
        "health_for",
        "2m",
        Duration::from_secs(1)..=2 * HOUR,
        "A new release has to do well for so long before it counts.",
    );
    let start_within = section.duration(
        "start_within",
        "30s",
        Duration::from_secs(1)..=10 * MINUTE,
        "From so long after its restart on.",
    );
    let restart = match section.inline(
        "restart",
        "",
        "Makes the service run what the link leads to: { command = [\"argv\", ...], timeout = \"30s\" }. It gets JSON on standard \
         input.",
    ) {
        Some(Inline::Table(table)) => {
            let hook = means::hook(&section, "restart", &table);
            table.finish();
            hook
        }
        Some(Inline::Text(_)) => {
            section.problem("restart", "must be a table with a command");
            None
        }
        None => {
            section.problem("restart", "is missing: without it, nothing would run the new release");
            None
        }
    };
    let health = read_probe(&section);
    if let (Some(releases), Some(link)) = (&releases, &link)
        && link.starts_with(releases)
    {
        section.problem("link", "must not be below releases_dir");
    }
    section.finish();
    Some(Deploy {
        releases: releases?,
        link: link?,
        restart: restart?,
        health: health?,
        health_for,
        start_within,
    })
}

fn read_probe(section: &Section<'_>) -> Option<Probe> {
    match section.inline(
        "health",
        "",
        "Whether the service does well: an address that answers with 2xx, or { command = [\"argv\", ...], timeout = \"5s\" } that \
         ends with 0. It is asked every second.",
    ) {
        Some(Inline::Text(url)) if url.starts_with("http://") || url.starts_with("https://") => {
            section.effective_inline("health", &crate::config::reader::quoted(&url));
            Some(Probe::Url(url))
        }
        Some(Inline::Text(_)) => {
            section.problem("health", "must begin with http:// or https://");
            None
        }
        Some(Inline::Table(table)) => {
            let hook = means::hook(section, "health", &table);
            table.finish();
            hook.map(Probe::Hook)
        }
        None => {
            section.problem("health", "is missing: without it, no release could prove itself");
            None
        }
    }
}
