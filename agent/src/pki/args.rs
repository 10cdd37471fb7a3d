//! The command line of `genesis-agent pki`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::{CRL_DAYS, Reason, Role};

/// `genesis-agent pki`.
#[derive(Debug, Args)]
#[command(
    after_help = "It works offline, on files: no agent is needed. docs/pki.md has the whole way."
)]
pub struct PkiArgs {
    /// The CA's folder [default: pki in the state folder]
    #[arg(long, global = true, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: PkiCommand,
}

/// What to do with the CA.
#[derive(Debug, Subcommand)]
pub enum PkiCommand {
    /// Make a CA for a fleet
    Init {
        /// The fleet's name
        #[arg(long, value_name = "NAME")]
        fleet: String,
        /// How long the CA is valid, in days
        #[arg(long, default_value_t = 3650, value_parser = clap::value_parser!(u32).range(1..=36_500))]
        days: u32,
    },
    /// Issue a certificate for a client or, with --server, for an agent
    Issue(IssueArgs),
    /// Revoke a certificate, and sign a new revocation list
    Revoke {
        /// The name, for every certificate that has it, or a serial number, for one
        #[arg(value_name = "NAME|SERIAL")]
        target: String,
        /// Why
        #[arg(long, value_enum, default_value_t = Reason::Unspecified)]
        reason: Reason,
        /// After so many days the next list is due
        #[arg(long, default_value_t = CRL_DAYS, value_parser = clap::value_parser!(u32).range(1..=36_500))]
        crl_days: u32,
    },
    /// Sign the revocation list anew, before its successor is due
    Crl {
        /// After so many days the next list is due
        #[arg(long, default_value_t = CRL_DAYS, value_parser = clap::value_parser!(u32).range(1..=36_500))]
        crl_days: u32,
    },
    /// Show the CA and its certificates; exits 3 when something is over or close to its end
    List {
        /// The form
        #[arg(short, long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
}

/// What to issue.
#[derive(Debug, Args)]
pub struct IssueArgs {
    /// Whose it is: a person, a program, or the agent's host
    #[arg(long)]
    pub name: String,
    /// What a client may do
    #[arg(long, value_enum, required_unless_present = "server", conflicts_with = "server")]
    pub role: Option<ClientRole>,
    /// Issue for an agent instead of a client
    #[arg(long)]
    pub server: bool,
    /// A further DNS name or address that clients connect to; may be repeated
    #[arg(long, value_name = "DNS|IP", requires = "server", conflicts_with = "role")]
    pub host: Vec<String>,
    /// How long it is valid, in days
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    pub days: u32,
    /// Where to put NAME.pem and NAME.key [default: the current folder]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Also write a context file for genesisctl, with everything in it
    #[arg(long, value_name = "FILE", requires = "node", conflicts_with = "server")]
    pub context: Option<PathBuf>,
    /// The context's name [default: the fleet's]
    #[arg(long, value_name = "NAME", requires = "context")]
    pub context_name: Option<String>,
    /// The context's nodes
    #[arg(long, value_name = "HOST:PORT", num_args = 1.., value_delimiter = ',', requires = "context")]
    pub node: Vec<String>,
    /// Write over files that are there
    #[arg(long)]
    pub replace: bool,
}

/// The roles of clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ClientRole {
    /// Reads.
    Viewer,
    /// Runs operations.
    Operator,
    /// May do everything.
    Admin,
}

impl From<ClientRole> for Role {
    fn from(role: ClientRole) -> Self {
        match role {
            ClientRole::Viewer => Self::Viewer,
            ClientRole::Operator => Self::Operator,
            ClientRole::Admin => Self::Admin,
        }
    }
}

/// How to show the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}
