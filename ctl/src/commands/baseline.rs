//! `baseline`: the verbs, and which file carries each out.

mod calls;
mod change;
mod histogram;
pub(super) mod list;
mod look;
mod merge;
mod page;
mod show;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;

use crate::connect::Session;
use crate::exit::{Exit, Halt};
use crate::format;

const SERVICE: &str = "genesis.v1.BaselineService";

const LIST_EXAMPLES: &str = "\
N is how many calls the baseline was calculated from, WINDOW how long they came; ~ marks a quantile for which they are
too few. Exits 3 where an operation is DEGRADED, 5 where one is SILENT: no window of it could be judged for a quarter of
an hour. One that is LEARNING has no baseline yet, and that is no finding.

Examples:
  genesisctl baseline list
  genesisctl baseline list --degraded --all
  genesisctl baseline list -o json";

const SHOW_EXAMPLES: &str = "\
Without an operation: all, first in a list. Quantiles stand with the bounds between which they lie with 95 % confidence.
z (literal) is the window's quantile in standard deviations of single calls, z (equivalent) what its p stands for. With
--merge the last row, or the last object {\"merged\"}, is of the calls of all nodes together: what one agent would have
that had seen them all. Exits as `genesisctl baseline list` does.

Examples:
  genesisctl baseline show orders.place
  genesisctl baseline show --operation orders.place --generation 3
  genesisctl baseline show orders.place --merge -n web-1:7443,web-2:7443";

const RECALCULATE_EXAMPLES: &str = "\
Happens by itself each week. A calculation that goes on already is attached to. The exit code is the run's, as in
`genesisctl run watch`.

Examples:
  genesisctl baseline recalculate --plan
  genesisctl baseline recalculate --operation orders.place";

const ACCEPT_EXAMPLES: &str = "\
Needs --reason. The baseline is calculated from what came since the episode began, or since the given time, and no later
one looks further back.

Examples:
  genesisctl baseline accept --operation orders.place --plan
  genesisctl baseline accept --operation orders.place --reason 'the venue is further away now'
  genesisctl baseline accept --operation orders.place --since 2024-01-31T03:00:00Z --reason 'since the move'";

const HISTORY_EXAMPLES: &str = "\
Examples:
  genesisctl baseline history
  genesisctl baseline history --operation orders.place --limit 10";

const ANOMALIES_EXAMPLES: &str = "\
Candidates are windows as bad as few usual ones are: some are to be expected each day, and nobody is told of them.

Examples:
  genesisctl baseline anomalies
  genesisctl baseline anomalies --operation orders.place --candidates";

const CALLS_EXAMPLES: &str = "\
Single calls are kept for raw_retention (24h) within raw_quota; those of histograms that came in as such are not. Of
all in the range, the slowest are told first.

Examples:
  genesisctl baseline calls orders.place --last 1h
  genesisctl baseline calls orders.place --from 2024-01-31T03:00:00Z --until 2024-01-31T03:05:00Z --above 100ms
  genesisctl baseline calls orders.place --newest --limit 10";

const EXPORT_EXAMPLES: &str = "\
The text of Prometheus, as the agent has it at /metrics.

Examples:
  genesisctl baseline export --format prometheus
  genesisctl baseline export --format prometheus --operation orders.place --out baselines.prom";

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// List the operations: what is usual for each, and whether it is left.
    #[command(after_help = LIST_EXAMPLES)]
    List {
        /// Only those that have left what is usual.
        #[arg(long)]
        degraded: bool,
    },
    /// Show what is known of an operation: its baseline, the latest windows, what goes on, and all calls by latency.
    #[command(after_help = SHOW_EXAMPLES)]
    Show(Show),
    /// Calculate baselines anew, and wait for the run's end.
    #[command(after_help = RECALCULATE_EXAMPLES)]
    Recalculate {
        #[command(flatten)]
        only: Only,
        /// Don't wait for the run's end.
        #[arg(long, visible_alias = "no-wait")]
        detach: bool,
    },
    /// Take what is now for what is usual, and end the episode.
    #[command(after_help = ACCEPT_EXAMPLES)]
    Accept {
        /// The operation.
        #[arg(long, value_name = "NAME")]
        operation: String,
        /// Since when it is usual: an instant, or a date in UTC. Without it: since the episode began.
        #[arg(long, value_name = "INSTANT", value_parser = format::parse_instant)]
        since: Option<Timestamp>,
    },
    /// List the baselines of the past, newest first.
    #[command(after_help = HISTORY_EXAMPLES)]
    History {
        #[command(flatten)]
        only: Only,
        #[command(flatten)]
        limit: Limit,
    },
    /// List when operations left what is usual, newest first.
    #[command(after_help = ANOMALIES_EXAMPLES)]
    Anomalies {
        #[command(flatten)]
        only: Only,
        /// Also the windows that were candidates.
        #[arg(long)]
        candidates: bool,
        #[command(flatten)]
        limit: Limit,
    },
    /// List single calls of an operation, the slowest first.
    #[command(after_help = CALLS_EXAMPLES)]
    Calls(Calls),
    /// Write the baselines for another program.
    #[command(after_help = EXPORT_EXAMPLES)]
    Export {
        #[command(flatten)]
        only: Only,
        /// For which one.
        #[arg(long, value_enum)]
        format: ExportFormat,
        /// The file to write; without it, standard output.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

/// Which calls are looked for.
#[derive(Debug, Clone, Args)]
pub(crate) struct Calls {
    /// The operation.
    #[arg(value_name = "NAME")]
    operation: String,
    /// Only those that ended within so long before now.
    #[arg(long, value_name = "DURATION", value_parser = format::parse_timeout, conflicts_with_all = ["from", "until"])]
    last: Option<Duration>,
    /// Only those that ended from then on: an instant, or a date in UTC.
    #[arg(long, value_name = "INSTANT", value_parser = format::parse_instant)]
    from: Option<Timestamp>,
    /// Only those that ended before then.
    #[arg(long, value_name = "INSTANT", value_parser = format::parse_instant)]
    until: Option<Timestamp>,
    /// Only those that took longer.
    #[arg(long, value_name = "DURATION", value_parser = format::parse_timeout)]
    above: Option<Duration>,
    /// The newest first, not the slowest.
    #[arg(long)]
    newest: bool,
    #[command(flatten)]
    limit: Limit,
}

/// What an export is written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportFormat {
    /// The text format of Prometheus.
    Prometheus,
}

/// Which operations are looked at.
#[derive(Debug, Clone, Args)]
pub(crate) struct Only {
    /// Only this one.
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    operation: String,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Limit {
    /// At most this many.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Show {
    /// Only this one.
    #[arg(value_name = "NAME", conflicts_with = "operation")]
    name: Option<String>,
    /// Only this one.
    #[arg(long, value_name = "NAME")]
    operation: Option<String>,
    /// The baseline of this generation, as in `baseline history`, of one operation. Without it: the newest.
    #[arg(long, value_name = "GENERATION", value_parser = clap::value_parser!(u32).range(1..))]
    generation: Option<u32>,
    /// Add what the calls of all nodes together come to.
    #[arg(long)]
    merge: bool,
}

impl Show {
    /// The operation that is named; empty: all.
    fn named(&self) -> &str {
        self.name.as_deref().or(self.operation.as_deref()).unwrap_or_default()
    }
}

impl Verb {
    /// The rpc by which it changes something.
    pub(super) fn changes(&self) -> Option<super::Change> {
        match self {
            Self::List { .. }
            | Self::Show(_)
            | Self::History { .. }
            | Self::Anomalies { .. }
            | Self::Calls(_)
            | Self::Export { .. } => None,
            Self::Recalculate { .. } => Some((SERVICE, "RecalculateBaselines")),
            Self::Accept { .. } => Some((SERVICE, "AcceptBaseline")),
        }
    }
}

pub(super) async fn dispatch(verb: &Verb, session: &Session<'_>) -> Result<Exit, Halt> {
    match verb {
        Verb::List { degraded } => list::list(session, *degraded).await,
        Verb::Show(arguments) => show::show(session, arguments).await,
        Verb::Recalculate { only, detach } => {
            change::recalculate(session, &only.operation, *detach).await
        }
        Verb::Accept { operation, since } => change::accept(session, operation, *since).await,
        Verb::History { only, limit } => look::history(session, &only.operation, limit.limit).await,
        Verb::Anomalies { only, candidates, limit } => {
            look::anomalies(session, &only.operation, limit.limit, *candidates).await
        }
        Verb::Calls(arguments) => calls::calls(session, arguments).await,
        Verb::Export { only, format: ExportFormat::Prometheus, out } => {
            look::export(session, &only.operation, out.as_deref()).await
        }
    }
}
