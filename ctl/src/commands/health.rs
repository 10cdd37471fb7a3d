//! `health`: what the checks see, what is done about it, and what holds that back.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use genesis_client::v1::HealthLevel;

use super::health_dashboard::Opened;
use super::{
    health_change, health_check, health_dashboard, health_issue, health_remediation, health_report,
};
use crate::connect::Session;
use crate::exit::{Exit, Halt};
use crate::format;

pub(super) const SERVICE: &str = "genesis.v1.HealthService";

const CHECK_EXAMPLES: &str = "\
Looks now, and waits; the agent's own looks go on at their pace. Exits 3 on a warning or worse, 5 where something
could not be told. A diagnostic takes an operator, writes 8 MiB into the agent's state folder to measure it, and
may need more --timeout.

Examples:
  genesisctl health check
  genesisctl health check --level deep -n web-1:7443,web-2:7443
  genesisctl health check --check disk:/ --check memory
  genesisctl health check --level diagnostic --format markdown --out web-1.md";

const DASHBOARD_EXAMPLES: &str = "\
On a terminal it takes the whole of it, asks each node every --interval, and shows tabs with checks and their trends,
issues, what was done, alerts, runs, certificates, databases, logs, baselines and the operation log: ? lists the keys,
q leaves. Elsewhere, with --once, and as JSON or YAML it is printed once. It changes nothing.

Exits 3 on a warning or worse and in an emergency, 5 where the state is unknown, 7 where nobody answers, 8 where some
nodes are well and others not; of the whole terminal by the last answers, however it is left. Of several nodes, each has
its row.

Examples:
  genesisctl health dashboard
  genesisctl health dashboard --interval 500ms --all
  genesisctl health dashboard --once
  genesisctl health dashboard -v
  genesisctl health dashboard --all --merge
  genesisctl health dashboard --merge -n web-1:7443,web-2:7443 -o jsonl | tail -n 1 | jq .merged";

const EXPLAIN_EXAMPLES: &str = "\
Examples:
  genesisctl health explain disk:/
  genesisctl health explain 'disk:/#3' -v";

const HISTORY_EXAMPLES: &str = "\
Examples:
  genesisctl health history
  genesisctl health history --check disk:/ --limit 200";

const FLAG_EXAMPLES: &str = "\
Needs --reason.

Example:
  genesisctl health flag disk:/ --reason 'grows faster than it is cleaned up'";

const ACK_EXAMPLES: &str = "\
The reason, if given, is kept with the issue.

Example:
  genesisctl health ack disk:/ --reason 'on it'";

const RESUME_EXAMPLES: &str = "\
Example:
  genesisctl health resume disk:/ --reason 'the disk was enlarged'";

const RUN_EXAMPLES: &str = "\
Asks at a terminal, showing what would be done; elsewhere it needs --yes. `health remediation status` lists the
actions. The exit code is the run's, as in `genesisctl run watch`.

Examples:
  genesisctl health run make-room --check disk:/ --plan
  genesisctl health run make-room --check disk:/ --yes --reason 'before the upgrade'
  genesisctl health run reset-connections --despite-trades --reason 'nothing trades, the hook is broken'";

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Make the checks of a level now, or a report of the whole system.
    #[command(after_help = CHECK_EXAMPLES)]
    Check(Check),
    /// Show checks, open issues and incidents, latest attempts, objectives, and what holds remediation back.
    #[command(after_help = DASHBOARD_EXAMPLES)]
    Dashboard {
        /// Print it and leave, also on a terminal.
        #[arg(long)]
        once: bool,
        /// Add the sums over all nodes as a last row, or as a last object {"merged"}.
        #[arg(long)]
        merge: bool,
        /// On the whole terminal: ask each node so often, from 500ms to 60s.
        #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = parse_interval)]
        interval: Duration,
    },
    /// Show one issue: what was tried, why nothing is done now, and what people can do.
    #[command(after_help = EXPLAIN_EXAMPLES)]
    Explain {
        /// The check, for its open or else its latest issue; or CHECK#EPISODE.
        issue: String,
    },
    /// List issues and attempts in order of time, newest first.
    #[command(after_help = HISTORY_EXAMPLES)]
    History {
        /// Only this check.
        #[arg(long, default_value = "", hide_default_value = true)]
        check: String,
        /// At most this many.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
    /// Call people about an open issue: automation stops for it, and an incident is opened.
    #[command(after_help = FLAG_EXAMPLES)]
    Flag {
        /// The check, or CHECK#EPISODE.
        issue: String,
    },
    /// Take notice of an issue that people were called about: automation goes on with the attempts that are left.
    #[command(after_help = ACK_EXAMPLES)]
    Ack {
        /// The check, or CHECK#EPISODE.
        issue: String,
    },
    /// Let an issue's automation go on with a fresh count of attempts.
    #[command(after_help = RESUME_EXAMPLES)]
    Resume {
        /// The check, or CHECK#EPISODE.
        issue: String,
    },
    /// Run an action by hand, whatever its check says, and wait for its end.
    #[command(after_help = RUN_EXAMPLES)]
    Run(Run),
    /// Show, disable and enable what is done automatically.
    #[command(subcommand)]
    Remediation(health_remediation::Verb),
    /// Show and release the brake that too many actions in too short a time have set.
    #[command(subcommand)]
    Brake(health_remediation::Brake),
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// How deep to look; each level includes the ones before it.
    #[arg(long, value_enum, default_value_t = Level::Shallow)]
    level: Level,
    /// Only this check, whatever its level; may be repeated.
    #[arg(long = "check", value_name = "CHECK")]
    pub(super) checks: Vec<String>,
    /// Print the report of a diagnostic as a file of this type.
    #[arg(long, value_enum, value_name = "TYPE")]
    pub(super) format: Option<FileType>,
    /// Write the report into this file. One that exists is replaced only with --yes.
    #[arg(long, value_name = "FILE", requires = "format")]
    pub(super) out: Option<PathBuf>,
}

/// How deep a look goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Level {
    /// Whether what is needed answers, and the basic figures.
    Shallow,
    /// And what takes longer.
    Deep,
    /// And a report of the whole system.
    Diagnostic,
}

/// The types of file that a report can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FileType {
    /// For tickets and reviews.
    Markdown,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The action, such as make-room.
    pub(super) action: String,
    /// Of this check; may be left out where only one has the action.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(super) check: String,
    /// Run it even while critical trades are in progress, or can't be ruled out. Needs --reason, and the role of
    /// an admin.
    #[arg(long)]
    pub(super) despite_trades: bool,
    /// Don't wait for the run's end.
    #[arg(long)]
    pub(super) detach: bool,
}

impl Run {
    /// The rpc by which it acts.
    pub(super) fn method(&self) -> &'static str {
        if self.despite_trades { "RunActionDespiteTrades" } else { "RunAction" }
    }
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    let bounds = Duration::from_millis(500)..=Duration::from_secs(60);
    let hint = "write a duration from 500ms to 60s";
    format::parse_timeout(text).ok().filter(|it| bounds.contains(it)).ok_or_else(|| hint.to_owned())
}

impl Verb {
    /// The rpc by which it changes something.
    pub(super) fn changes(&self) -> Option<super::Change> {
        match self {
            Self::Check(_)
            | Self::Dashboard { .. }
            | Self::Explain { .. }
            | Self::History { .. } => None,
            Self::Flag { .. } => Some((SERVICE, "FlagIssue")),
            Self::Ack { .. } => Some((SERVICE, "AckIssue")),
            Self::Resume { .. } => Some((SERVICE, "ResumeIssue")),
            Self::Run(arguments) => Some((SERVICE, arguments.method())),
            Self::Remediation(verb) => verb.changes(),
            Self::Brake(verb) => verb.changes(),
        }
    }
}

pub(super) async fn dispatch(verb: &Verb, session: &Session<'_>) -> Result<Exit, Halt> {
    match verb {
        Verb::Check(arguments) => check(session, arguments).await,
        Verb::Dashboard { once, merge, interval } => {
            let (merge, interval) = (*merge, *interval);
            let live = !once && session.for_people() && session.console(|c| c.full_screen());
            match live {
                true => health_dashboard::open(session, Opened { merge, interval }).await,
                false => health_dashboard::show(session, merge).await,
            }
        }
        Verb::Explain { issue } => health_issue::explain(session, issue).await,
        Verb::History { check, limit } => health_issue::history(session, check, *limit).await,
        Verb::Flag { issue } => health_change::flag(session, issue).await,
        Verb::Ack { issue } => health_change::ack(session, issue).await,
        Verb::Resume { issue } => health_change::resume(session, issue).await,
        Verb::Run(arguments) => health_change::run(session, arguments).await,
        Verb::Remediation(verb) => health_remediation::dispatch(verb, session).await,
        Verb::Brake(verb) => health_remediation::dispatch_brake(verb, session).await,
    }
}

async fn check(session: &Session<'_>, arguments: &Check) -> Result<Exit, Halt> {
    let level = match arguments.level {
        Level::Shallow => HealthLevel::Shallow,
        Level::Deep => HealthLevel::Deep,
        Level::Diagnostic if arguments.checks.is_empty() => {
            return health_report::diagnose(session, arguments).await;
        }
        Level::Diagnostic => {
            return Err(Halt::Usage(
                "a diagnostic makes every check: leave --check out, or leave --level out".into(),
            ));
        }
    };
    if arguments.format.is_some() {
        return Err(Halt::Usage(
            "--format is for the report: add --level diagnostic, or leave it out".into(),
        ));
    }
    health_check::check(session, level, &arguments.checks).await
}
