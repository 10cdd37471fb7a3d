//! The command line: what is common to every command.

use std::time::Duration;

use clap::{Args, Parser, ValueEnum};
use genesis_client::Node;

use crate::commands::Command;
use crate::format;

/// Operates GENESIS agents: status, runs, schedule, operation log, configuration, rollback, logs.
#[derive(Debug, Parser)]
#[command(name = "genesisctl", version, propagate_version = false, max_term_width = 100)]
#[command(subcommand_required = true, arg_required_else_help = true, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Nodes: -n, else $GENESISCTL_NODES, else the local agent's socket (/run/genesis/agent.sock, then
$XDG_STATE_HOME/genesis/agent.sock or ~/.local/state/genesis/agent.sock).

Exit codes: 0 ok, 1 failed, 2 usage, 3 findings, 4 refused, 5 unknown or incomplete, 6 not allowed,
7 unreachable, 8 some nodes failed, 9 conflict.

Examples:
  genesisctl status
  genesisctl logs rotate --reason 'before the upgrade'
  genesisctl logs retrieve --log-type trading --date-range 2024-01-01:2024-01-31 --out january.log
  genesisctl status -n web-1:7443,web-2:7443 -o json
  genesisctl oplog tail -f";

/// The flags that every command takes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// The agents to talk to: host:port or unix:/path/agent.sock, comma-separated or repeated.
    #[arg(short = 'n', long = "nodes", global = true, value_name = "NODE", value_delimiter = ',')]
    pub(crate) nodes: Vec<Node>,
    /// How answers are printed. json: one array with an object for each node; jsonl: the same objects, each
    /// on its own line, as they arrive.
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
    /// Give up on a node after this long, such as 30s. Without it, a call has 30s, and what streams or waits
    /// for a run has no limit.
    #[arg(long, global = true, value_name = "DURATION", value_parser = format::parse_timeout)]
    pub(crate) timeout: Option<Duration>,
    /// Why you do this; kept in the operation log.
    #[arg(long, global = true, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(crate) reason: String,
    /// The id (a ULID) under which the agent recognises a repeat of what changes something: it is carried out
    /// once within 24 hours.
    #[arg(long, global = true, value_name = "ULID", value_parser = format::parse_request_id)]
    pub(crate) request_id: Option<ulid::Ulid>,
    /// Go ahead without asking: destroy, change several nodes, replace a file.
    #[arg(long, global = true)]
    pub(crate) yes: bool,
    /// Print no notes on standard error, only warnings and errors.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Tell more: identifiers and paths in tables, causes behind errors.
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,
}

/// How answers are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// One array, an object for each node.
    Json,
    /// An object for each node and line, as they arrive.
    Jsonl,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_each_command_explains_itself() {
        let mut root = Cli::command();
        root.clone().debug_assert();
        root.build();
        let mut commands: Vec<(String, clap::Command)> = vec![(String::new(), root)];
        let mut leaves = 0;
        while let Some((path, command)) = commands.pop() {
            let children: Vec<_> = command
                .get_subcommands()
                .filter(|child| child.get_name() != "help")
                .cloned()
                .collect();
            assert!(command.get_about().is_some(), "{path} lacks a description");
            // `rollback` is a command and has one below it.
            if children.is_empty() || path == " rollback" {
                leaves += 1;
                let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.contains("genesisctl"), "{path} lacks an example");
            }
            for child in children {
                commands.push((format!("{path} {}", child.get_name()), child));
            }
        }
        assert_eq!(leaves, 31);
    }
}
