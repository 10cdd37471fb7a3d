//! The commands, a file for each noun.

mod agent;
mod alerts;
mod backup;
mod backup_list;
mod backup_restore;
mod baseline;
mod breaker;
mod cert;
mod config;
pub(crate) mod context;
mod db;
mod db_care;
mod db_health;
mod db_history;
mod db_items;
mod db_sessions;
mod deps;
mod drill;
mod emergency;
mod emergency_course;
mod experiment;
mod export_file;
mod fleet;
#[doc(hidden)]
pub mod fuzzing;
mod health;
mod health_change;
mod health_check;
mod health_dashboard;
mod health_issue;
mod health_remediation;
mod health_report;
mod incident;
mod incident_close;
mod incident_page;
mod logs;
mod logs_archive;
mod logs_holds;
mod logs_retrieve;
mod matrix;
mod observe;
mod offline;
mod oplog;
mod oplog_export;
mod param;
mod pki;
mod report;
mod report_page;
mod rollback;
mod run;
mod runbook;
mod schedule;
mod send_file;
mod series;
mod support;
mod trades;
mod watching;

use clap::Subcommand;

use crate::Console;
use crate::cli::Global;
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
    /// Name agents, with what secures the way to them: add, choose, list, show and remove contexts.
    #[command(subcommand)]
    Context(context::Verb),
    /// Take a component back to a point where it was known to be good.
    Rollback(rollback::Arguments),
    /// Declare, show and release an emergency: until its release much refuses to start.
    #[command(subcommand)]
    Emergency(emergency::Verb),
    /// Practise emergencies, restores and rollbacks against sandboxes, and see what was practised.
    #[command(subcommand)]
    Drill(drill::Verb),
    /// Check the host, see what mends it by itself and what holds that back, and step in by hand.
    #[command(subcommand)]
    Health(health::Verb),
    /// See what people hear of and by which channels, acknowledge, silence, and try channels.
    #[command(subcommand)]
    Alerts(alerts::Verb),
    /// Show circuit breakers, open and close them by hand.
    #[command(subcommand)]
    Breaker(breaker::Verb),
    /// See who is in the fleet, how hosts stand to it, and in what they differ.
    #[command(subcommand)]
    Fleet(fleet::Verb),
    /// See what people were called about, add to it, write down what came of it, and export it.
    #[command(subcommand)]
    Incident(incident::Verb),
    /// See how a host stands by its objectives, and what was done to mend it, over a month.
    #[command(subcommand)]
    Report(report::Verb),
    /// Read the runbook, which is part of this program.
    #[command(subcommand)]
    Runbook(runbook::Verb),
    /// Rotate, archive, fetch back, verify and clean up logs.
    #[command(subcommand)]
    Logs(logs::Verb),
    /// Optimize databases, see how they are, and who blocks whom.
    #[command(subcommand)]
    Db(db::Verb),
    /// Make, verify and restore backups of the databases and of the agent itself.
    #[command(subcommand)]
    Backup(backup::Verb),
    /// See certificates and when they end, renew them, prove what is served, and take them back.
    #[command(subcommand)]
    Cert(cert::Verb),
    /// See what is usual for each operation and what is not, and say what shall be.
    #[command(subcommand)]
    Baseline(baseline::Verb),
    /// Send the observations of a file, how long calls took, to one agent: what baselines are made of.
    Observe(observe::Arguments),
    /// Calculate correlation matrices, see what they were held against, and roll them out or back.
    #[command(subcommand)]
    Matrix(matrix::Verb),
    /// Try values of a strategy's parameters on a share of its units, see which earns more, and end it.
    #[command(subcommand)]
    Experiment(experiment::Verb),
    /// See and set the parameters of strategies, and take them back.
    #[command(subcommand)]
    Param(param::Verb),
    /// Send the trades of a file, what each earned, to one agent: what experiments are decided by.
    #[command(subcommand)]
    Trades(trades::Verb),
    /// Send the values of a file, such as prices, to one agent, and see how complete series are: what matrices are made of.
    #[command(subcommand)]
    Series(series::Verb),
    /// Hold what applications are built of against what is known to be vulnerable, update it, and take it back.
    #[command(subcommand)]
    Deps(deps::Verb),
    /// Show what secures the agent's TCP listener, and for how long.
    #[command(subcommand)]
    Pki(pki::Verb),
    /// Gather what a bug report needs into one archive, without names, addresses and secrets.
    #[command(subcommand)]
    Support(support::Verb),
    /// Print what makes a shell complete the commands and flags of this program.
    #[command(after_help = offline::COMPLETIONS_EXAMPLES)]
    Completions {
        /// The shell.
        #[arg(value_enum)]
        shell: offline::For,
    },
    /// Write the man pages of this program.
    #[command(after_help = offline::MAN_EXAMPLES)]
    Man(offline::Man),
}

/// The service and the method by which a command changes something.
pub(crate) type Change = (&'static str, &'static str);

impl Command {
    /// The rpc by which it changes something, if it does.
    pub(crate) fn changes(&self) -> Option<Change> {
        match self {
            Self::Status
            | Self::Version
            | Self::Whoami
            | Self::Observe(_)
            | Self::Trades(_)
            | Self::Series(_)
            | Self::Pki(_)
            | Self::Report(_)
            | Self::Runbook(_)
            | Self::Support(_)
            | Self::Context(_)
            | Self::Completions { .. }
            | Self::Man(_) => None,
            Self::Run(verb) => verb.changes(),
            Self::Schedule(verb) => verb.changes(),
            Self::Oplog(verb) => verb.changes(),
            Self::Config(verb) => verb.changes(),
            Self::Rollback(arguments) => arguments.changes(),
            Self::Emergency(verb) => verb.changes(),
            Self::Drill(verb) => verb.changes(),
            Self::Health(verb) => verb.changes(),
            Self::Alerts(verb) => verb.changes(),
            Self::Breaker(verb) => verb.changes(),
            Self::Fleet(verb) => verb.changes(),
            Self::Incident(verb) => verb.changes(),
            Self::Logs(verb) => verb.changes(),
            Self::Db(verb) => verb.changes(),
            Self::Backup(verb) => verb.changes(),
            Self::Cert(verb) => verb.changes(),
            Self::Baseline(verb) => verb.changes(),
            Self::Matrix(verb) => verb.changes(),
            Self::Experiment(verb) => verb.changes(),
            Self::Param(verb) => verb.changes(),
            Self::Deps(verb) => verb.changes(),
        }
    }
}

/// Refuses flags for changing commands where nothing is changed, before anything is sent.
pub(crate) fn check_flags(command: &Command, global: &Global) -> Result<(), Halt> {
    if command.changes().is_some() {
        return Ok(());
    }
    // It says what it would read.
    let planned = matches!(command, Command::Logs(logs::Verb::Retrieve(_)));
    for (given, flag) in [
        (global.plan && !planned, "--plan"),
        (global.plan_hash.is_some(), "--plan-hash"),
        (global.request_id.is_some(), "--request-id"),
    ] {
        if given {
            return Err(Halt::Usage(format!(
                "this command changes nothing, and {flag} is for those that do: leave it out"
            )));
        }
    }
    Ok(())
}

/// Whether a command is about every member of the fleet, also without `--all`.
pub(crate) fn asks_every_member(command: &Command) -> bool {
    matches!(command, Command::Fleet(fleet::Verb::Skew))
}

/// Carries a command out that needs no agent; `None` for the others.
pub(crate) fn offline(
    command: &Command,
    global: &Global,
    console: &mut Console,
) -> Option<Result<Exit, Halt>> {
    match command {
        Command::Context(verb) => Some(context::dispatch(verb, global, console)),
        Command::Runbook(verb) => Some(runbook::dispatch(verb, global, console)),
        Command::Completions { shell } => Some(offline::completions(*shell, console)),
        Command::Man(arguments) => Some(offline::man(arguments, global, console)),
        _ => None,
    }
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
        Command::Rollback(arguments) => rollback::dispatch(arguments, session).await,
        Command::Emergency(verb) => emergency::dispatch(verb, session).await,
        Command::Drill(verb) => drill::dispatch(verb, session).await,
        Command::Health(verb) => health::dispatch(verb, session).await,
        Command::Alerts(verb) => alerts::dispatch(verb, session).await,
        Command::Breaker(verb) => breaker::dispatch(verb, session).await,
        Command::Fleet(verb) => fleet::dispatch(verb, session).await,
        Command::Incident(verb) => incident::dispatch(verb, session).await,
        Command::Report(verb) => report::dispatch(verb, session).await,
        Command::Logs(verb) => logs::dispatch(verb, session).await,
        Command::Db(verb) => db::dispatch(verb, session).await,
        Command::Backup(verb) => backup::dispatch(verb, session).await,
        Command::Cert(verb) => cert::dispatch(verb, session).await,
        Command::Baseline(verb) => baseline::dispatch(verb, session).await,
        Command::Observe(arguments) => observe::observe(session, arguments).await,
        Command::Matrix(verb) => matrix::dispatch(verb, session).await,
        Command::Experiment(verb) => experiment::dispatch(verb, session).await,
        Command::Param(verb) => param::dispatch(verb, session).await,
        Command::Trades(verb) => trades::dispatch(verb, session).await,
        Command::Series(verb) => series::dispatch(verb, session).await,
        Command::Deps(verb) => deps::dispatch(verb, session).await,
        Command::Support(verb) => support::dispatch(verb, session).await,
        Command::Pki(verb) => pki::dispatch(verb, session).await,
        Command::Context(_)
        | Command::Runbook(_)
        | Command::Completions { .. }
        | Command::Man(_) => Err(Halt::Failed("this command needs no agent".into())),
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
