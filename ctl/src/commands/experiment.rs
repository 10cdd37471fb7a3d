//! `experiment`: the verbs, and which file carries each out.

mod change;
mod curve;
mod fleet;
pub(super) mod list;
mod merge;
mod page;
pub(super) mod parse;
mod show;
mod watch;

pub(super) use change::one_agent;

use clap::{Args, Subcommand, ValueEnum};

use crate::connect::Session;
use crate::exit::{Exit, Halt};
use parse::Split;

const SERVICE: &str = "genesis.v1.ExperimentService";

const CREATE_EXAMPLES: &str = "\
The split is control/variant, in percent of the units, to the hundredth. The numbers of the rules stand for what the
procedures say where they are left out. Where several agents are to share an experiment, give each the same --owner (the
host id of the one that decides, as in `genesisctl status -o json`) and the same --seed; in a fleet --fleet does all of
it, and decides by what all hosts count. It takes parameters that are the fleet's (`param set --fleet`).

Examples:
  genesisctl experiment create --strategy spread_capture --param threshold:0.003 --split 80/20
  genesisctl experiment create --strategy spread_capture --param threshold:0.003 --param window:45s --plan
  genesisctl experiment create --strategy spread_capture --param threshold:0.003 --split 99.5/0.5 \\
    --design lan-demets --guarded-rollback --reason 'wider spreads since the move'
  genesisctl experiment create --fleet --strategy spread_capture --param threshold:0.003 --split 80/20";

const LIST_EXAMPLES: &str = "\
N is the trades of control / variant. Exits 3 where an experiment is HELD, since its units are not split as they should
be. One without a look yet is no finding. With --fleet those of the whole fleet: N is that of the last look at all hosts,
HERE what it is called on this host; exits 3 also where one has not begun there.

Examples:
  genesisctl experiment list
  genesisctl experiment list --fleet
  genesisctl experiment list --running --strategy spread_capture
  genesisctl experiment list -o json";

const SHOW_EXAMPLES: &str = "\
Without an id: all that go on. With -v also the rules, and the whole decision table. Intervals are at the confidence of
the rules (95 %).

FLEET_7 is one of the whole fleet: what all hosts have counted, who takes the looks, and how each host is at it. TEST_3 is
what this host has of it. Exits 3 also where a host has not begun it, and 5 where a member has told nothing of it.

With --merge the last row, or the last object {\"merged\"}, is of the trades of all nodes together. What a look says of
many looks (p_seq) is the owner's and is shown as such. Only what has the same definition hash is added up: where
hashes differ it is a conflict (exit 9).

Exits 0 while an experiment goes on, has no look yet, or has ended; 3 where it is HELD.

Examples:
  genesisctl experiment show TEST_3
  genesisctl experiment show --test-id TEST_3 -v
  genesisctl experiment show FLEET_7
  genesisctl experiment show TEST_3 --all --merge";

const CONCLUDE_EXAMPLES: &str = "\
Needs --reason. Promote makes the variant's values current, rollback leaves the control's in force. What the statistics
say at that moment is recorded with it, and that it was forced. One of the fleet is ended with --fleet, on every host; while
etcd can't be reached its variant can be taken back on one host without that.

Examples:
  genesisctl experiment conclude --test-id TEST_3 --action rollback --plan
  genesisctl experiment conclude --test-id TEST_3 --action promote --reason 'as agreed with the desk'
  genesisctl experiment conclude --fleet --test-id FLEET_7 --action rollback --reason 'the desk does not want it'";

const HISTORY_EXAMPLES: &str = "\
HOW says which line of the decision table ended it, or that somebody did.

Examples:
  genesisctl experiment history
  genesisctl experiment history --strategy spread_capture --limit 10";

const WATCH_EXAMPLES: &str = "\
A line for each experiment as it is, then for each change of its state or of the line that holds for it. Of one
experiment it ends when that has ended, of all when it is stopped. A connection that breaks is made again for about
half a minute.

Examples:
  genesisctl experiment watch
  genesisctl experiment watch TEST_3 -o jsonl";

const ASSIGN_EXAMPLES: &str = "\
It is the same at each call and on each host, and nothing is written.

Example:
  genesisctl experiment assign --test-id TEST_3 --unit account-7";

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Begin an experiment: from now on a share of the units get the variant's values.
    #[command(after_help = CREATE_EXAMPLES)]
    Create(Box<Create>),
    /// List the experiments, those that go on first.
    #[command(after_help = LIST_EXAMPLES)]
    List {
        #[command(flatten)]
        only: Only,
        /// Only those that go on.
        #[arg(long)]
        running: bool,
        /// Those of the whole fleet.
        #[arg(long)]
        fleet: bool,
        #[command(flatten)]
        limit: Limit,
    },
    /// Show both arms of an experiment, what the last look found, and which line of the decision table holds, and why.
    #[command(after_help = SHOW_EXAMPLES)]
    Show(Show),
    /// End an experiment by hand.
    #[command(after_help = CONCLUDE_EXAMPLES)]
    Conclude {
        /// The experiment.
        #[arg(long, value_name = "ID")]
        test_id: String,
        /// What is made of it.
        #[arg(long, value_enum)]
        action: Action,
        /// In the whole fleet.
        #[arg(long)]
        fleet: bool,
    },
    /// List the experiments that have ended, and how each did.
    #[command(after_help = HISTORY_EXAMPLES)]
    History {
        #[command(flatten)]
        only: Only,
        #[command(flatten)]
        limit: Limit,
    },
    /// Print the experiments, then each change.
    #[command(after_help = WATCH_EXAMPLES)]
    Watch {
        /// Only this one.
        #[arg(value_name = "ID", default_value = "", hide_default_value = true)]
        id: String,
    },
    /// Show in which arm a unit is.
    #[command(after_help = ASSIGN_EXAMPLES)]
    Assign {
        /// The experiment.
        #[arg(long, value_name = "ID")]
        test_id: String,
        /// The unit: an account, a session, an order flow.
        #[arg(long, value_name = "UNIT")]
        unit: String,
    },
}

/// What an experiment tries, and by what it is decided.
#[derive(Debug, Clone, Args)]
pub(crate) struct Create {
    /// The strategy.
    #[arg(long, value_name = "NAME", value_parser = parse::strategy)]
    strategy: String,
    /// A parameter and the value to be tried, such as threshold:0.003; at most 16.
    #[arg(long = "param", value_name = "NAME:VALUE", value_parser = parse::trial, required = true)]
    params: Vec<(String, String)>,
    /// The units' shares of control/variant, in percent.
    #[arg(long, value_name = "C/V", value_parser = parse::split, default_value = "90/10")]
    split: Split,
    /// By what significance is judged.
    #[arg(long, value_enum, default_value_t = Design::Sequential)]
    design: Design,
    /// Below so many trades in either arm the t-test decides nothing. Without it: 100.
    #[arg(long, value_name = "TRADES", value_parser = clap::value_parser!(u64).range(1..))]
    least: Option<u64>,
    /// With so many trades in the smaller arm it ends as no difference. Without it: 500.
    #[arg(long, value_name = "TRADES", value_parser = clap::value_parser!(u64).range(1..))]
    planned: Option<u64>,
    /// What is mixed goes on until there are so many trades. Without it: 1,000.
    #[arg(long, value_name = "TRADES", value_parser = clap::value_parser!(u64).range(1..))]
    most: Option<u64>,
    /// The least lift to be promoted, such as 10% or 0.1. Without it: 10%.
    #[arg(long, value_name = "LIFT", value_parser = parse::gain, allow_hyphen_values = true)]
    promote_lift: Option<f64>,
    /// The lift at which it is rolled back, such as -10% or -0.1. Without it: -10%.
    #[arg(long, value_name = "LIFT", value_parser = parse::loss, allow_hyphen_values = true)]
    rollback_lift: Option<f64>,
    /// The least effect (Cohen's d) to be promoted. Without it: 0.2.
    #[arg(long, value_name = "D", value_parser = parse::effect)]
    least_effect: Option<f64>,
    /// The error that is allowed. Without it: 0.05.
    #[arg(long, value_name = "P", value_parser = parse::alpha)]
    alpha: Option<f64>,
    /// Roll back only with evidence as well, not by the lift alone.
    #[arg(long)]
    guarded_rollback: bool,
    /// By what units are assigned. Without it: the experiment's id.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    seed: String,
    /// The id of the host that takes the looks. Without it: that of the agent that is called.
    #[arg(long, value_name = "NODE-ID", default_value = "", hide_default_value = true)]
    owner: String,
    /// In the whole fleet: every host begins it, and what all of them count decides.
    #[arg(long, conflicts_with = "owner")]
    fleet: bool,
}

/// By what significance is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Design {
    /// Any number of looks at any time.
    Sequential,
    /// One look, once the smaller arm has all its trades: the letter of a t-test.
    Fixed,
    /// Looks spend the error little by little, early ones hardly any.
    LanDemets,
    /// Valid at any number of looks, also beyond what was planned.
    AlwaysValid,
}

/// What somebody makes of an experiment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Action {
    /// The variant's values become current.
    Promote,
    /// The control's values stay.
    Rollback,
}

/// Which experiments are looked at.
#[derive(Debug, Clone, Args)]
pub(crate) struct Only {
    /// Only those of this strategy.
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    strategy: String,
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
    #[arg(value_name = "ID", conflicts_with = "test_id")]
    id: Option<String>,
    /// Only this one.
    #[arg(long, value_name = "ID")]
    test_id: Option<String>,
    /// Add what the trades of all nodes together come to.
    #[arg(long)]
    merge: bool,
    /// As the whole fleet has it, by whatever it is called here; FLEET_7 is shown so by itself.
    #[arg(long, conflicts_with = "merge")]
    fleet: bool,
}

impl Show {
    /// The experiment that is named; empty: all that go on.
    fn named(&self) -> &str {
        self.id.as_deref().or(self.test_id.as_deref()).unwrap_or_default()
    }
}

impl Verb {
    /// The rpc by which it changes something.
    pub(super) fn changes(&self) -> Option<super::Change> {
        match self {
            Self::List { .. }
            | Self::Show(_)
            | Self::History { .. }
            | Self::Watch { .. }
            | Self::Assign { .. } => None,
            Self::Create(_) => Some((SERVICE, "CreateExperiment")),
            Self::Conclude { .. } => Some((SERVICE, "ConcludeExperiment")),
        }
    }
}

pub(super) async fn dispatch(verb: &Verb, session: &Session<'_>) -> Result<Exit, Halt> {
    match verb {
        Verb::Create(arguments) => change::create(session, arguments).await,
        Verb::List { only, running, fleet, limit } => {
            let which = (*running, *fleet);
            list::list(session, &only.strategy, which, limit.limit).await
        }
        Verb::Show(arguments) => show::show(session, arguments).await,
        Verb::Conclude { test_id, action, fleet } => {
            change::conclude(session, test_id, (*action, *fleet)).await
        }
        Verb::History { only, limit } => list::history(session, &only.strategy, limit.limit).await,
        Verb::Watch { id } => watch::watch(session, id).await,
        Verb::Assign { test_id, unit } => show::assign(session, test_id, unit).await,
    }
}
