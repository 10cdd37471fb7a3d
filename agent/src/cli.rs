//! The agent's own command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::paper::args::PaperArgs;
use crate::pki::args::PkiArgs;

/// Keeps a trading host healthy.
#[derive(Debug, Parser)]
#[command(name = "genesis-agent", version, about, long_about = None)]
pub struct Cli {
    /// Where the agent works from.
    #[command(flatten)]
    pub places: PlaceArgs,
    /// What to do; without one: run.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub struct PlaceArgs {
    /// Configuration file [default: /etc/genesis/agent.toml, then the user's, then built-in defaults]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Folder for everything that lasts, the socket included [default: /var/lib/genesis for root, else the user's state folder]
    #[arg(long, global = true, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run until SIGTERM (the default)
    Run,
    /// Check a configuration file and report every problem
    CheckConfig {
        /// The file [default: the one that would be loaded]
        file: Option<PathBuf>,
    },
    /// Print a configuration file with every key at its default
    ExampleConfig,
    /// Print [[logs.source]] tables for logrotate's configuration, and what they can't express; exits 3 when something is left out
    ConvertLogrotate {
        /// Files, or folders of them [default: /etc/logrotate.conf and /etc/logrotate.d]
        paths: Vec<PathBuf>,
    },
    /// A self-contained tour: a fast writer, the agent and genesisctl on a temporary folder
    Demo {
        /// Keep the temporary folder
        #[arg(long)]
        keep: bool,
        /// The genesisctl to drive [default: the one beside this program]
        #[arg(long, value_name = "FILE")]
        genesisctl: Option<PathBuf>,
    },
    /// A trading system on paper, for practice and tests: real books of orders and positions, and faults on demand
    PaperVenue(PaperArgs),
    /// A small CA: certificates for agents and clients, for those who have no CA
    Pki(PkiArgs),
    /// Print the script that completes this program's arguments in a shell
    Completions {
        /// The shell
        shell: For,
    },
    /// Print the man page
    Man {
        /// Write a page for each command into this folder instead; those that exist are replaced
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
}

/// The shells that completions are made for.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum For {
    /// GNU Bash
    Bash,
    /// Z shell
    Zsh,
    /// fish
    Fish,
}
