//! `param`: the verbs, and which file carries each out.

mod change;
mod look;

use clap::{Args, Subcommand};

use super::experiment::parse;
use crate::connect::Session;
use crate::exit::{Exit, Halt};

const SERVICE: &str = "genesis.v1.ParameterService";

const LIST_EXAMPLES: &str = "\
Examples:
  genesisctl param list
  genesisctl param list --strategy spread_capture -o json";

const GET_EXAMPLES: &str = "\
With a name only its value is printed, for scripts; exits 1 where there is no such parameter. Without --unit these are
the values in force, whatever is being tried.

Examples:
  genesisctl param get --strategy spread_capture
  genesisctl param get --strategy spread_capture --unit account-7
  threshold=$(genesisctl param get --strategy spread_capture threshold)";

const SET_EXAMPLES: &str = "\
Needs --reason. A parameter that is not known is made. One that is in an experiment can't be set: conclude that first.
With --fleet every host of the fleet uses the value, also those that are away now, once they come back; --expected-version
is the fleet's then.

Examples:
  genesisctl param set --strategy spread_capture threshold=0.002 --plan
  genesisctl param set --strategy spread_capture threshold=0.002 --expected-version 3 --reason 'calmer markets'
  genesisctl param set --fleet --strategy spread_capture threshold=0.002 --reason 'the same everywhere'";

const HISTORY_EXAMPLES: &str = "\
Examples:
  genesisctl param history
  genesisctl param history --strategy spread_capture threshold --limit 10";

const ROLLBACK_EXAMPLES: &str = "\
Needs --reason. The earlier value is set as a new version, so that this can be taken back as well. With --fleet it is the
value that an earlier version on the agent that is asked has.

Examples:
  genesisctl param rollback --strategy spread_capture threshold --plan
  genesisctl param rollback --strategy spread_capture threshold --to 3 --reason 'the new one loses'";

const WATCH_EXAMPLES: &str = "\
A line for each value, then for each that changes, until it is stopped. A connection that breaks is made again for about
half a minute.

Examples:
  genesisctl param watch --strategy spread_capture
  genesisctl param watch --strategy spread_capture --unit account-7 -o jsonl";

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// List the parameters of strategies, with the values in force.
    #[command(after_help = LIST_EXAMPLES)]
    List {
        #[command(flatten)]
        only: Only,
    },
    /// Show what a unit of a strategy is to use now.
    #[command(after_help = GET_EXAMPLES)]
    Get {
        #[command(flatten)]
        of: Whose,
        /// Only this parameter, and of it only the value.
        #[arg(value_parser = parse::parameter)]
        name: Option<String>,
    },
    /// Set a parameter.
    #[command(after_help = SET_EXAMPLES)]
    Set {
        /// The strategy.
        #[arg(long, value_name = "NAME", value_parser = parse::strategy)]
        strategy: String,
        /// The parameter and its value; what stands behind the first = is the value.
        #[arg(value_name = "NAME=VALUE", value_parser = parse::assignment)]
        assignment: (String, String),
        /// Only if this version is in force; otherwise it is a conflict (exit 9).
        #[arg(long, value_name = "VERSION", value_parser = clap::value_parser!(u64).range(1..))]
        expected_version: Option<u64>,
        /// In the whole fleet.
        #[arg(long)]
        fleet: bool,
    },
    /// List the versions of parameters, newest first.
    #[command(after_help = HISTORY_EXAMPLES)]
    History {
        #[command(flatten)]
        only: Only,
        /// Only this parameter.
        #[arg(default_value = "", hide_default_value = true)]
        name: String,
        /// At most this many.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
    /// Take a parameter back to an earlier version.
    #[command(after_help = ROLLBACK_EXAMPLES)]
    Rollback {
        /// The strategy.
        #[arg(long, value_name = "NAME", value_parser = parse::strategy)]
        strategy: String,
        /// The parameter.
        #[arg(value_parser = parse::parameter)]
        name: String,
        /// To this version, as in `param history`. Without it: to the one before that in force.
        #[arg(long, value_name = "VERSION", value_parser = clap::value_parser!(u64).range(1..))]
        to: Option<u64>,
        /// In the whole fleet.
        #[arg(long)]
        fleet: bool,
    },
    /// Print what a unit of a strategy is to use, then each change, until it is stopped.
    #[command(after_help = WATCH_EXAMPLES)]
    Watch {
        #[command(flatten)]
        of: Whose,
    },
}

/// Which parameters are looked at.
#[derive(Debug, Clone, Args)]
pub(crate) struct Only {
    /// Only those of this strategy.
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    strategy: String,
}

/// Whose values are looked at.
#[derive(Debug, Clone, Args)]
pub(crate) struct Whose {
    /// The strategy.
    #[arg(long, value_name = "NAME", value_parser = parse::strategy)]
    strategy: String,
    /// The unit: an account, a session, an order flow. Without it: the values in force.
    #[arg(long, value_name = "UNIT", default_value = "", hide_default_value = true)]
    unit: String,
}

impl Verb {
    /// The rpc by which it changes something.
    pub(super) fn changes(&self) -> Option<super::Change> {
        match self {
            Self::List { .. } | Self::Get { .. } | Self::History { .. } | Self::Watch { .. } => {
                None
            }
            Self::Set { .. } => Some((SERVICE, "SetParameter")),
            Self::Rollback { .. } => Some((SERVICE, "RollbackParameter")),
        }
    }
}

pub(super) async fn dispatch(verb: &Verb, session: &Session<'_>) -> Result<Exit, Halt> {
    match verb {
        Verb::List { only } => look::list(session, &only.strategy).await,
        Verb::Get { of, name } => look::get(session, of, name.as_deref()).await,
        Verb::Set { strategy, assignment, expected_version, fleet } => {
            let expected = expected_version.unwrap_or_default();
            change::set(session, strategy, assignment, (expected, *fleet)).await
        }
        Verb::History { only, name, limit } => {
            look::history(session, &only.strategy, name, *limit).await
        }
        Verb::Rollback { strategy, name, to, fleet } => {
            change::rollback(session, strategy, name, (to.unwrap_or_default(), *fleet)).await
        }
        Verb::Watch { of } => look::watch(session, of).await,
    }
}
