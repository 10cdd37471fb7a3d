//! `backup`: the verbs, and those that make and verify.

use clap::{Args, Subcommand, ValueEnum};
use genesis_client::v1::{BackupLevel, RunBackupRequest, StartedRun, VerifyBackupRequest};

use super::{backup_list, backup_restore, run};
use crate::confirm::consent;
use crate::connect::Session;
use crate::exit::{Exit, Halt};
use crate::plan;

pub(super) const SERVICE: &str = "genesis.v1.BackupService";

const LIST_EXAMPLES: &str = "\
Levels: L0 it was made, L1 its checksums are right, L2 it was restored into a scratch instance that starts and
answers, L3 queries and row counts are right there, too. Exits 3 where a source has no backup that counts, 5 where
that is unknown.

Examples:
  genesisctl backup list
  genesisctl backup list orders --limit 10 -v
  genesisctl backup list --expired -o json";

const RUN_EXAMPLES: &str = "\
A backup of the same source that is being made already is attached to. The exit code is the run's, as in
`genesisctl run watch`.

Examples:
  genesisctl backup run --plan
  genesisctl backup run orders --reason 'before the migration'
  genesisctl backup run agent --detach";

const VERIFY_EXAMPLES: &str = "\
L1 reads every checksum, L2 restores it into a scratch instance that must start and answer, L3 also asks queries and
counts rows there; without --level it is the one configured for its source. The exit code is the run's, as in
`genesisctl run watch`.

Examples:
  genesisctl backup verify orders
  genesisctl backup verify 01J8ZV --level L2";

const RESTORE_EXAMPLES: &str = "\
Needs --reason, the role of an admin, and --confirm with the name of the backup's source; at a terminal that is asked
for. Nothing is restored over what exists: --into is an absolute path on the agent's host where nothing is yet. The
exit code is the run's, as in `genesisctl run watch`.

Examples:
  genesisctl backup restore orders --into /srv/restore/orders --plan
  genesisctl backup restore 01J8ZV --into /srv/restore/orders --confirm orders --reason 'positions of May 3rd'";

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// List what is backed up, whether its backup counts, and the backups, newest first.
    #[command(after_help = LIST_EXAMPLES)]
    List(List),
    /// Make a backup, verify it as deeply as is configured, and wait for the run's end.
    #[command(after_help = RUN_EXAMPLES)]
    Run {
        /// A database's name, or "agent"; it may be left out where there is only one database.
        #[arg(default_value = "", hide_default_value = true)]
        source: String,
        /// Don't wait for the run's end.
        #[arg(long)]
        detach: bool,
    },
    /// Verify a backup anew, and wait for the run's end.
    #[command(after_help = VERIFY_EXAMPLES)]
    Verify {
        /// The id, its unique beginning of at least four characters, or a source's name for its newest.
        backup: String,
        /// How deeply.
        #[arg(long, value_enum, ignore_case = true)]
        level: Option<Level>,
        /// Don't wait for the run's end.
        #[arg(long)]
        detach: bool,
    },
    /// Restore a backup into a place where nothing is yet, and wait for the run's end.
    #[command(after_help = RESTORE_EXAMPLES)]
    Restore(Restore),
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only this one: a database's name, or "agent".
    #[arg(default_value = "", hide_default_value = true)]
    pub(super) source: String,
    /// At most this many backups.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(super) limit: u32,
    /// Those that have expired, too.
    #[arg(long)]
    pub(super) expired: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// The id, its unique beginning of at least four characters, or a source's name for its newest.
    pub(super) backup: String,
    /// An absolute path on the agent's host where nothing is yet: a folder, for SQLite a file.
    #[arg(long, value_name = "PATH")]
    pub(super) into: String,
    /// The name of the backup's source, typed by whoever is sure.
    #[arg(long, value_name = "NAME")]
    pub(super) confirm: Option<String>,
    /// Don't wait for the run's end.
    #[arg(long)]
    pub(super) detach: bool,
}

/// How deeply a backup is verified.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Level {
    /// Every checksum.
    #[value(name = "L1")]
    Checksums,
    /// Restored into a scratch instance that starts and answers.
    #[value(name = "L2")]
    Restored,
    /// And queries and row counts there.
    #[value(name = "L3")]
    Queried,
}

impl From<Level> for BackupLevel {
    fn from(level: Level) -> Self {
        match level {
            Level::Checksums => Self::Checksums,
            Level::Restored => Self::Restored,
            Level::Queried => Self::Queried,
        }
    }
}

impl Verb {
    /// The rpc by which it changes something.
    pub(super) fn changes(&self) -> Option<super::Change> {
        match self {
            Self::List(_) => None,
            Self::Run { .. } => Some((SERVICE, "RunBackup")),
            Self::Verify { .. } => Some((SERVICE, "VerifyBackup")),
            Self::Restore(_) => Some((SERVICE, "RestoreBackup")),
        }
    }
}

pub(super) async fn dispatch(verb: &Verb, session: &Session<'_>) -> Result<Exit, Halt> {
    match verb {
        Verb::List(arguments) => backup_list::show(session, arguments).await,
        Verb::Run { source, detach } => make(session, source, *detach).await,
        Verb::Verify { backup, level, detach } => verify(session, backup, *level, *detach).await,
        Verb::Restore(arguments) => backup_restore::restore(session, arguments).await,
    }
}

async fn make(session: &Session<'_>, source: &str, detach: bool) -> Result<Exit, Halt> {
    let request = RunBackupRequest { source: source.to_owned(), plan_hash: session.plan_hash() };
    if session.global.plan {
        return plan::ask!(session, request, backup, plan_run_backup);
    }
    let what = match source {
        "" => "make a backup".to_owned(),
        source => format!("make a backup of {source}"),
    };
    consent(session, SERVICE, "RunBackup", &what)?;
    let request = &request;
    session
        .each(|client| async move {
            let response = client
                .call(request.clone(), |c, r| async move { c.backup().run_backup(r).await })
                .await?;
            let json = session.json("RunBackupResponse", &response)?;
            let run = StartedRun { run_id: response.run_id, attached: response.attached };
            run::started(session, &client, Some(&run), json, detach).await
        })
        .await
}

async fn verify(
    session: &Session<'_>,
    backup: &str,
    level: Option<Level>,
    detach: bool,
) -> Result<Exit, Halt> {
    let request = VerifyBackupRequest {
        backup: backup.to_owned(),
        level: level.map_or(BackupLevel::Unspecified, BackupLevel::from).into(),
        plan_hash: session.plan_hash(),
    };
    if session.global.plan {
        return plan::ask!(session, request, backup, plan_verify_backup);
    }
    consent(session, SERVICE, "VerifyBackup", &format!("verify the backup {backup}"))?;
    let request = &request;
    session
        .each(|client| async move {
            let response = client
                .call(request.clone(), |c, r| async move { c.backup().verify_backup(r).await })
                .await?;
            let json = session.json("VerifyBackupResponse", &response)?;
            let run = StartedRun { run_id: response.run_id, attached: false };
            run::started(session, &client, Some(&run), json, detach).await
        })
        .await
}
