//! `matrix`: the verbs, and which file carries each out.

mod change;
mod export;
mod fleet;
mod grid;
pub(super) mod history;
mod map;
mod merge;
mod merged;
mod page;
mod rollout;
mod show;
mod square;
mod watch;

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use crate::connect::Session;
use crate::exit::{Exit, Halt};

const SERVICE: &str = "genesis.v1.MatrixService";

const UPDATE_EXAMPLES: &str = "\
Happens by itself as well. A calculation that goes on already is attached to. A matrix that is valid is used by a share
of the consumers first, the very first by all at once. One that is not is kept as REJECTED and nothing else changes: its
criteria are shown, and the exit code is 4. Otherwise the exit code is the run's, as in `genesisctl run watch`.

Examples:
  genesisctl matrix update --plan
  genesisctl matrix update --reason 'new series since Monday'
  genesisctl matrix update --carry --reason 'the venue was down on Sunday'";

const SHOW_EXAMPLES: &str = "\
Without --version: the one that is active, or that the consumer is to use. Numbers where they fit the terminal's width,
else a map: red goes together, blue against each other, white neither. Where there are more series than places, each
place is the mean of several, which is said below it. Without colour ($NO_COLOR, no terminal) the map is of tenths.
$COLUMNS is the width where there is no terminal.

--format npy has no names: they stand, in the same order, in the first line of --format csv of the same version.

With --merge the sums of all nodes are put together and the matrix of the whole fleet is calculated from them, as one
agent would: only of pairs whose series one host holds both. Nothing of it is kept. Each node tells how many days and
series came in. Nodes whose buckets are not as long, or two names of one host, are a conflict (exit 9).

Exits 3 where the version is REJECTED.

Examples:
  genesisctl matrix show
  genesisctl matrix show --version 7 --pairs 20
  genesisctl matrix show --consumer pricing-3
  genesisctl matrix show --format csv --out matrix.csv
  genesisctl matrix show --format npy --out matrix.npy
  genesisctl matrix show --all --merge --min-points 500";

const HISTORY_EXAMPLES: &str = "\
* is the version that is active, ~ the one that is being rolled out. DRIFT is how far the pair that moved most did, and
POINTS how many rows the pair with the fewest has. KEPT is what `genesisctl matrix rollback --to` can go back to.

Examples:
  genesisctl matrix history
  genesisctl matrix history --limit 10 -o json";

const FLEET_EXAMPLES: &str = "\
The matrix that is published for the fleet, and each host that publishes or follows, as it said last. Any node of the
fleet knows. Exits 0 where all have it in force, 5 where some do not yet, or are gone, and 3 where all have spoken and
one has REFUSED it or ROLLED_BACK from it. -v has the versions that are kept.

Examples:
  genesisctl matrix fleet
  genesisctl matrix fleet -v
  until genesisctl matrix fleet -q; do sleep 5; done";

const ROLLBACK_EXAMPLES: &str = "\
Needs --reason. Where a rollout goes on it ends, and all consumers use what was active before it; else the version
before the active one becomes active, or the one that is named. To name the one that was left undoes it.

Examples:
  genesisctl matrix rollback --plan
  genesisctl matrix rollback --reason 'hedges are off since the update'
  genesisctl matrix rollback --to 5 --reason 'before the new series'";

const WATCH_EXAMPLES: &str = "\
A line for the matrix that a consumer is to use as it is, then for each change, until it is stopped. A connection that
breaks is made again for about half a minute. -o jsonl has all values.

Examples:
  genesisctl matrix watch
  genesisctl matrix watch --consumer pricing-3 -o jsonl";

const STATUS_EXAMPLES: &str = "\
Without --version: the rollout that goes on, else the last one. Of each arm the outcomes that consumers reported. p_harm
is the p of what speaks for harm, valid however often it is looked at: below alpha the rollout ends by itself.

Exits 3 where a stage is HELD, since the consumers are not split as they should be.

Examples:
  genesisctl matrix rollout status
  genesisctl matrix rollout status --version 7 -o json";

const ADVANCE_EXAMPLES: &str = "\
Needs --reason. After the last stage the matrix is active. It is recorded as forced.

Examples:
  genesisctl matrix rollout advance --plan
  genesisctl matrix rollout advance --reason 'too few outcomes on a holiday'";

const ABORT_EXAMPLES: &str = "\
Needs --reason. All consumers use the active matrix again.

Examples:
  genesisctl matrix rollout abort --plan
  genesisctl matrix rollout abort --reason 'hedges are off on pricing-3'";

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Calculate a matrix anew, and wait for the run's end.
    #[command(after_help = UPDATE_EXAMPLES)]
    Update {
        /// Let pairs without enough points keep their values, instead of having the matrix refused.
        #[arg(long)]
        carry: bool,
        /// Don't wait for the run's end.
        #[arg(long, visible_alias = "no-wait")]
        detach: bool,
    },
    /// Show a matrix: what it was held against, what moved, and the matrix itself as numbers or as a map.
    #[command(after_help = SHOW_EXAMPLES)]
    Show(Show),
    /// List the versions, newest first, and how each fared.
    #[command(after_help = HISTORY_EXAMPLES)]
    History {
        /// At most this many.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
    /// Show the matrix that is published for the whole fleet, and which hosts have it.
    #[command(after_help = FLEET_EXAMPLES)]
    Fleet,
    /// Go back to an earlier version.
    #[command(after_help = ROLLBACK_EXAMPLES)]
    Rollback {
        /// The version to go back to, as in `matrix history`. Without it: the one before.
        #[arg(long, value_name = "VERSION", value_parser = clap::value_parser!(u64).range(1..))]
        to: Option<u64>,
    },
    /// See how a new matrix fares with the consumers that use it, and decide by hand.
    #[command(subcommand)]
    Rollout(Rollout),
    /// Print the matrix that a consumer is to use, then each change.
    #[command(after_help = WATCH_EXAMPLES)]
    Watch {
        /// The consumer, as it reports its outcomes. Without it: the active one.
        #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
        consumer: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Rollout {
    /// Show the stages of a rollout, and what consumers reported in each.
    #[command(after_help = STATUS_EXAMPLES)]
    Status {
        /// That of this version.
        #[arg(long, value_name = "VERSION", value_parser = clap::value_parser!(u64).range(1..))]
        version: Option<u64>,
    },
    /// Go on to the next stage by hand.
    #[command(after_help = ADVANCE_EXAMPLES)]
    Advance,
    /// End the rollout: nobody uses the new matrix any more.
    #[command(after_help = ABORT_EXAMPLES)]
    Abort,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Show {
    /// This version, as in `matrix history`.
    #[arg(long, value_name = "VERSION", value_parser = clap::value_parser!(u64).range(1..))]
    version: Option<u64>,
    /// What this consumer is to use.
    #[arg(long, value_name = "ID", conflicts_with = "version")]
    consumer: Option<String>,
    /// Write the matrix as a file of this type, and nothing else.
    #[arg(long, value_enum)]
    format: Option<FileType>,
    /// The file to write; without it, standard output.
    #[arg(long, value_name = "FILE", requires = "format")]
    out: Option<PathBuf>,
    /// List the pairs that go together most, or against each other, in place of the map; without a number 50.
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "50", conflicts_with = "format",
        value_parser = clap::value_parser!(u32).range(1..))]
    pairs: Option<u32>,
    /// Calculate the matrix of all nodes together from what each has.
    #[arg(long, conflicts_with_all = ["version", "consumer", "format"])]
    merge: bool,
    /// With --merge: a pair needs so many points. Without it: 100.
    #[arg(long, value_name = "N", requires = "merge", value_parser = clap::value_parser!(u32).range(2..))]
    min_points: Option<u32>,
}

/// What a matrix is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FileType {
    /// A square with the names in the first line and the first column.
    Csv,
    /// An array of NumPy.
    Npy,
}

impl Verb {
    /// The rpc by which it changes something.
    pub(super) fn changes(&self) -> Option<super::Change> {
        match self {
            Self::Show(_)
            | Self::History { .. }
            | Self::Fleet
            | Self::Watch { .. }
            | Self::Rollout(Rollout::Status { .. }) => None,
            Self::Update { .. } => Some((SERVICE, "UpdateMatrix")),
            Self::Rollback { .. } => Some((SERVICE, "RollbackMatrix")),
            Self::Rollout(Rollout::Advance) => Some((SERVICE, "AdvanceRollout")),
            Self::Rollout(Rollout::Abort) => Some((SERVICE, "AbortRollout")),
        }
    }
}

pub(super) async fn dispatch(verb: &Verb, session: &Session<'_>) -> Result<Exit, Halt> {
    match verb {
        Verb::Update { carry, detach } => change::update(session, *carry, *detach).await,
        Verb::Show(arguments) => match arguments.format {
            Some(format) => export::export(session, arguments, format).await,
            None if arguments.merge => merged::show(session, arguments).await,
            None => show::show(session, arguments).await,
        },
        Verb::History { limit } => history::history(session, *limit).await,
        Verb::Fleet => fleet::fleet(session).await,
        Verb::Rollback { to } => change::rollback(session, to.unwrap_or_default()).await,
        Verb::Rollout(Rollout::Status { version }) => {
            rollout::status(session, version.unwrap_or_default()).await
        }
        Verb::Rollout(Rollout::Advance) => change::advance(session).await,
        Verb::Rollout(Rollout::Abort) => change::abort(session).await,
        Verb::Watch { consumer } => watch::watch(session, consumer).await,
    }
}
