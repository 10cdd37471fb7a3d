//! The commands, a file for each noun.

mod agent;
mod config;
mod emergency;
mod export_file;
mod logs;
mod logs_archive;
mod logs_retrieve;
mod oplog;
mod oplog_export;
mod pki;
mod rollback;
mod run;
mod schedule;

use clap::Subcommand;

use crate::connect::Session;
use crate::exit::{Exit, Halt};

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show whether the host and its agent are well. Exits 3 on a warning, 5 where something is unknown.
    #[command(after_help = agent::STATUS_EXAMPLES)]
    Status,
    /// Show the versions of this client and of the agents, and how far they are apart.
    #[command(after_help = agent::VERSION_EXAMPLES)]
    Version,
    /// Show the identity and role that the agent sees behind this connection.
    #[command(after_help = agent::WHOAMI_EXAMPLES)]
    Whoami,
    /// List, show, watch and cancel runs: the long operations, whoever started them.
    #[command(subcommand)]
    Run(run::Verb),
    /// List, start, pause and resume the jobs that the agent starts by itself.
    #[command(subcommand)]
    Schedule(schedule::Verb),
    /// Read, verify, export and annotate the operation log: who did what, why, and what came of it.
    #[command(subcommand)]
    Oplog(oplog::Verb),
    /// Show, check and reload the agent's configuration.
    #[command(subcommand)]
    Config(config::Verb),
    /// Declare an emergency, look at it, release it.
    #[command(subcommand)]
    Emergency(emergency::Verb),
    /// Show what secures the agent's port, and until when.
    #[command(subcommand)]
    Pki(pki::Verb),
    /// Take a component back to a point where it was known to be good.
    Rollback(rollback::Arguments),
    /// Rotate, archive, fetch back, verify and clean up logs.
    #[command(subcommand)]
    Logs(logs::Verb),
}

/// Carries the command out.
pub(crate) async fn dispatch(command: &Command, session: &Session<'_>) -> Result<Exit, Halt> {
    match command {
        Command::Status => agent::status(session).await,
        Command::Version => agent::version(session).await,
        Command::Whoami => agent::whoami(session).await,
        Command::Run(verb) => run::dispatch(verb, session).await,
        Command::Schedule(verb) => schedule::dispatch(verb, session).await,
        Command::Oplog(verb) => oplog::dispatch(verb, session).await,
        Command::Config(verb) => config::dispatch(verb, session).await,
        Command::Emergency(verb) => emergency::dispatch(verb, session).await,
        Command::Pki(verb) => pki::dispatch(verb, session).await,
        Command::Rollback(arguments) => rollback::dispatch(arguments, session).await,
        Command::Logs(verb) => logs::dispatch(verb, session).await,
    }
}

/// The agent left something out that it must send.
fn incomplete_answer(what: &str) -> genesis_client::Error {
    genesis_client::Error::new(
        genesis_client::Kind::Internal,
        "INTERNAL",
        "ANSWER_INCOMPLETE",
        format!("the agent answered without {what}"),
        "compare the versions with `genesisctl version`",
    )
}
