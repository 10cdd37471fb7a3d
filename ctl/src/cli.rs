//! The command line: what is common to every command.

use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Parser, ValueEnum};
use genesis_client::Node;

use crate::batches::Batches;
use crate::commands::Command;
use crate::format;

/// Operates GENESIS agents: status, health, runs, schedule, operation log, configuration, rollback, logs, databases, certificates, baselines, matrices, experiments, dependencies.
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
Nodes: -n, else those of --context, else $GENESISCTL_NODES, else those of the context ($GENESISCTL_CONTEXT, else
the one of `genesisctl context use`), else the local agent's socket (/run/genesis/agent.sock, then
$XDG_STATE_HOME/genesis/agent.sock or ~/.local/state/genesis/agent.sock).

Exit codes: 0 ok, 1 failed, 2 usage, 3 findings, 4 refused, 5 unknown or incomplete, 6 not allowed,
7 unreachable, 8 some nodes failed, 9 conflict.

Examples:
  genesisctl status
  genesisctl health dashboard
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
    /// The context whose nodes and certificates are used; without it $GENESISCTL_CONTEXT, then the current one.
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// Call every node of the context, whatever $GENESISCTL_NODES says, and every member of the fleet that they are of.
    #[arg(long, global = true, conflicts_with = "nodes")]
    pub(crate) all: bool,
    /// How answers are printed: as they arrive, a row or an object for each node.
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
    /// Give up on a node after this long, such as 30s. Without it, a call has 30s, and what streams or waits
    /// for a run has no limit.
    #[arg(long, global = true, value_name = "DURATION", value_parser = format::parse_timeout)]
    pub(crate) timeout: Option<Duration>,
    /// Why you do this; kept in the operation log.
    #[arg(long, global = true, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(crate) reason: String,
    /// Show what a changing command would do, with the plan's hash, and change nothing.
    #[arg(long, global = true, conflicts_with_all = ["plan_hash", "request_id"])]
    pub(crate) plan: bool,
    /// Carry out only the plan with this hash, on one node; another plan is a conflict (exit 9).
    #[arg(long, global = true, value_name = "HASH", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) plan_hash: Option<String>,
    /// The id (a ULID) of a changing command: the agent answers a repeat under the same id with the first
    /// one's outcome. Without it, each call gets a new one.
    #[arg(long, global = true, value_name = "ULID", value_parser = parse_request_id)]
    pub(crate) request_id: Option<String>,
    /// Go ahead without asking: destroy, change several nodes, replace a file.
    #[arg(long, global = true)]
    pub(crate) yes: bool,
    /// Call at most this many nodes at the same time.
    #[arg(long, global = true, value_name = "N", default_value_t = 64, hide_default_value = true,
        value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) max_parallel: u32,
    /// Call this many nodes, or this share of all, wait for all of them, then call the next: such as 10, or 1,25%,100%
    /// for one, then a quarter, then the rest.
    #[arg(long, global = true, value_name = "SIZES")]
    pub(crate) batch: Option<Batches>,
    /// Between two batches of a change: so long the nodes of the last one must be as well as they were, or no further
    /// node is called; 0s: don't look.
    #[arg(long, global = true, value_name = "DURATION", default_value = "10s", hide_default_value = true,
        value_parser = parse_gate)]
    pub(crate) gate: Duration,
    /// Call no further node once this many have failed; those left get the error NOT_SENT.
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) stop_after_failures: Option<u32>,
    /// Print no notes on standard error, only warnings and errors.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Tell more: identifiers and paths in tables, causes behind errors.
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,
}

fn parse_gate(text: &str) -> Result<Duration, String> {
    match text.trim() {
        "0" | "0s" => Ok(Duration::ZERO),
        text => format::parse_timeout(text),
    }
}

/// How answers are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// One array, an object for each node.
    Json,
    /// An object for each node and line.
    Jsonl,
    /// The objects of json as one YAML sequence.
    Yaml,
}

impl Format {
    /// Whether all objects together are one value, which has an end.
    pub(crate) fn is_one_value(self) -> bool {
        matches!(self, Self::Json | Self::Yaml)
    }
}

fn parse_request_id(text: &str) -> Result<String, String> {
    match text.trim().parse::<ulid::Ulid>() {
        Ok(id) => Ok(id.to_string()),
        Err(_) => Err("write a ULID: 26 characters of Crockford's base 32".to_owned()),
    }
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
        assert_eq!(leaves, 163);
    }
}
