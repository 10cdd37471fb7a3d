//! `deps`: the verbs, and which file carries each out.

mod change;
mod check;
mod clock;
mod data;
mod export;
mod finding;
mod history;
mod ignore;
mod import;
mod known;
mod package;
mod postmortem;
mod project;
mod sarif;
mod scan;
mod status;
mod upload;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use genesis_client::Client;
use genesis_client::v1::{ScanDependenciesRequest, UpdateStrategy};
use jiff::Timestamp;

use crate::connect::Session;
use crate::exit::{Exit, Halt};
use crate::format;

const SERVICE: &str = "genesis.v1.DependencyService";

/// What asks an index takes as long as that does; an agent gives it no more.
const INDEX_LIMIT: Duration = Duration::from_secs(600);

const SCAN_EXAMPLES: &str = "\
Holds what each project has locked against the advisories that were imported; opens no connection to anybody. WHY is the
range that the installed version is in. EXPLOITED is by the KEV catalogue. SEVERITY is by CVSS: UNKNOWN where no vector
says it, which is no better than any other. What is ignored is listed below, with who wants that, why, and until when.

Of several nodes each project has a line; -v has the findings as well.

Exits 3 where a project has findings that are not ignored, 5 where anything could not be judged, since data is stale or
missing, or lines have no version, and where no project is configured: what was not looked at has not passed.

Examples:
  genesisctl deps scan
  genesisctl deps scan --project api -v
  genesisctl deps scan --as-of 2024-05-01 -o json
  genesisctl deps scan --format sarif --out deps.sarif";

const STATUS_EXAMPLES: &str = "\
RELEASE is the generation in service; \"not proven\" where it was not watched for as long as is configured. IN MEMORY is
whether what runs is what is installed, and that what is locked: FAIL says which packages differ and which processes still
run what was replaced. VULNERABLE is as of the last look by the agent itself, without what is ignored. -v has the releases
that can be gone back to.

Exits 3 where IN MEMORY is FAIL: install or restart it. 5 where that is unknown of a project that the agent updates, and
where there is a project and data that a scan goes by is stale, or no advisories were ever imported. The catalogue of
exploited vulnerabilities (kev) and likelihoods (epss) may be missing.

Examples:
  genesisctl deps status
  genesisctl deps status -v --all";

const CHECK_EXAMPLES: &str = "\
Asks the index that the project's own tools are configured for, and changes nothing. Below what would change stands what
only the strategy \"aggressive\" would take, what stays vulnerable, what is not updated, and how old releases have to be.

Strategies: conservative takes patches, moderate what has the same first number (of 0.Y: the same Y), aggressive anything
newer, security only what is vulnerable, to the smallest version that is not.

Exits 0 where that was found out, whatever there is; 5 where it could not be for a project.

Examples:
  genesisctl deps check
  genesisctl deps check --project api --strategy security
  genesisctl deps check --strategy aggressive -o json";

const UPDATE_EXAMPLES: &str = "\
Resolves, holds the result against the advisories, builds a release, tests it, puts it in the place of the one in service,
restarts, and watches. Whatever goes wrong leaves, or brings back, the release that was there. Asks at a terminal, showing
what would be done; elsewhere it needs --yes. The exit code is the run's, as in `genesisctl run watch`.

Examples:
  genesisctl deps update --project api --plan
  genesisctl deps update --project api --strategy security
  genesisctl deps update --project api --strategy moderate --yes --reason 'the new client of the exchange'";

const ROLLBACK_EXAMPLES: &str = "\
Puts an earlier release back in service, and the manifests that belong to it. Without --to it is the one before. Asks at a
terminal, showing what would be done; elsewhere it needs --yes. The exit code is the run's, as in `genesisctl run watch`.

Examples:
  genesisctl deps status -v
  genesisctl deps rollback --project api --plan
  genesisctl deps rollback --project api --to 3 --yes --reason 'orders are slower since'";

const HISTORY_EXAMPLES: &str = "\
GENERATION is the release that was in service, and the one that was made or gone back to. -v has all changes, the last
lines of the tests, the runs, and who wanted it.

Examples:
  genesisctl deps history
  genesisctl deps history --project api --limit 5 -v";

const IGNORE_EXAMPLES: &str = "\
Needs --reason, and the role of an admin. ID is any name of the finding, as in `deps scan`. A day counts up to its end
(UTC); then it is heard of again. It takes the place of what was said of the finding before.

Examples:
  genesisctl deps ignore CVE-2024-35195 --project api --until 2027-01-31 --reason 'sessions are never shared'
  genesisctl deps ignore CVE-2024-35195 --project api --until 2027-01-31T12:00:00Z --plan";

const UNIGNORE_EXAMPLES: &str = "\
Needs the role of an admin. What the configuration ignores stays ignored.

Example:
  genesisctl deps unignore CVE-2024-35195 --project api";

const IMPORT_EXAMPLES: &str = "\
Without FILE: from the files that are configured on the agent's host. A FILE is here, and is sent to each node: a .zip or
.json of OSV records (such as PyPI's all.zip), the catalogue of exploited vulnerabilities (.json), or likelihoods of EPSS
(.csv, .csv.gz). What is in it is told, then what would be done, before it is done. What is not whole, or has far fewer
records than there were, is refused, and what was there stays in use.

--plan sends a FILE as well, and imports nothing: what nobody imports is gone after an hour. --plan, --plan-hash and
--request-id take one FILE at a time.

Examples:
  genesisctl deps import-advisories --plan
  genesisctl deps import-advisories
  genesisctl deps import-advisories PyPI.zip known_exploited_vulnerabilities.json epss_scores-current.csv.gz";

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// List what is known to be wrong with the packages that projects have locked, and what to do about it.
    #[command(after_help = SCAN_EXAMPLES)]
    Scan(Scan),
    /// Show the projects, whether what runs is what is locked, and how recent the data is that they are held against.
    #[command(after_help = STATUS_EXAMPLES)]
    Status,
    /// List what an update would change, and what it would leave.
    #[command(after_help = CHECK_EXAMPLES)]
    Check {
        /// Only this one, as in `deps status`.
        #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
        project: String,
        /// How much may change. Without it: as the project is configured.
        #[arg(long, value_enum)]
        strategy: Option<Strategy>,
    },
    /// Update what a project is built of, prove it, and wait for the run's end.
    #[command(after_help = UPDATE_EXAMPLES)]
    Update {
        #[command(flatten)]
        which: Which,
        /// How much may change. Without it: as the project is configured.
        #[arg(long, value_enum)]
        strategy: Option<Strategy>,
        /// Don't wait for the run's end.
        #[arg(long)]
        detach: bool,
    },
    /// Put an earlier release back in service, and wait for the run's end.
    #[command(after_help = ROLLBACK_EXAMPLES)]
    Rollback {
        #[command(flatten)]
        which: Which,
        /// The generation, as in `deps status -v`, on one node. Without it: the one before.
        #[arg(long, value_name = "GENERATION", value_parser = clap::value_parser!(u64).range(1..))]
        to: Option<u64>,
        /// Don't wait for the run's end.
        #[arg(long)]
        detach: bool,
    },
    /// List the updates and rollbacks that were tried, newest first.
    #[command(after_help = HISTORY_EXAMPLES)]
    History {
        /// Only this one, as in `deps status`.
        #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
        project: String,
        /// At most this many.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
    /// Hear no more of a finding until some time.
    #[command(after_help = IGNORE_EXAMPLES)]
    Ignore {
        #[command(flatten)]
        which: Finding,
        /// The last day, such as 2027-01-31, or when it ends.
        #[arg(long, value_name = "DATE|TIME", value_parser = ignore::parse_until)]
        until: Timestamp,
    },
    /// Hear of a finding again.
    #[command(after_help = UNIGNORE_EXAMPLES)]
    Unignore(Finding),
    /// See until when critical and exploited vulnerabilities are to be mended, and close their post-mortems.
    #[command(subcommand)]
    Postmortem(postmortem::Verb),
    /// Put newer advisories, exploited vulnerabilities or likelihoods in the place of those that are there.
    #[command(after_help = IMPORT_EXAMPLES)]
    ImportAdvisories {
        /// Files here. Without one: those that are configured on the agent's host.
        #[arg(value_name = "FILE")]
        files: Vec<PathBuf>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Scan {
    /// Only this one, as in `deps status`.
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    project: String,
    /// Judge how old data is, and what is still ignored, as of then.
    #[arg(long, value_name = "INSTANT", value_parser = format::parse_instant)]
    as_of: Option<Timestamp>,
    /// Write the findings as a file of this type, and nothing else.
    #[arg(long, value_enum)]
    format: Option<FileType>,
    /// The file to write; without it, standard output.
    #[arg(long, value_name = "FILE", requires = "format")]
    out: Option<PathBuf>,
}

impl Scan {
    fn request(&self) -> ScanDependenciesRequest {
        let as_of = self.as_of.map(|at| prost_types::Timestamp {
            seconds: at.as_second(),
            nanos: at.subsec_nanosecond(),
        });
        ScanDependenciesRequest { project: self.project.clone(), as_of }
    }
}

/// Which project is meant.
#[derive(Debug, Clone, Args)]
pub(crate) struct Which {
    /// The project, as in `deps status`; it may be left out where there is only one.
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    project: String,
}

impl Which {
    /// The project in the words of a question.
    fn named(&self) -> &str {
        if self.project.is_empty() { "the project" } else { &self.project }
    }
}

/// Which finding of which project is meant.
#[derive(Debug, Clone, Args)]
pub(crate) struct Finding {
    /// Any of its names, such as CVE-2024-35195.
    id: String,
    /// The project, as in `deps status`.
    #[arg(long, value_name = "NAME")]
    project: String,
}

/// How much an update may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Strategy {
    /// Only patches.
    Conservative,
    /// What has the same first number; of 0.Y, the same Y.
    Moderate,
    /// Anything newer.
    Aggressive,
    /// Only what is vulnerable, to the smallest version that is not.
    Security,
}

impl Strategy {
    /// Where none is named, that of the project.
    fn wanted(strategy: Option<Self>) -> UpdateStrategy {
        match strategy {
            None => UpdateStrategy::Unspecified,
            Some(Self::Conservative) => UpdateStrategy::Conservative,
            Some(Self::Moderate) => UpdateStrategy::Moderate,
            Some(Self::Aggressive) => UpdateStrategy::Aggressive,
            Some(Self::Security) => UpdateStrategy::Security,
        }
    }
}

/// What findings are written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FileType {
    /// SARIF 2.1.0, with a run for each project: what code hosts and editors show.
    Sarif,
}

impl Verb {
    /// The rpc by which it changes something.
    pub(super) fn changes(&self) -> Option<super::Change> {
        let method = match self {
            Self::Scan(_) | Self::Status | Self::Check { .. } | Self::History { .. } => {
                return None;
            }
            Self::Update { .. } => "UpdateDependencies",
            Self::Rollback { .. } => "RollBackDependencies",
            Self::Ignore { .. } => "IgnoreFinding",
            Self::Unignore(_) => "UnignoreFinding",
            Self::ImportAdvisories { .. } => "ImportAdvisories",
            Self::Postmortem(verb) => return verb.changes(),
        };
        Some((SERVICE, method))
    }
}

/// The connection for a call that waits for an index.
fn waiting(session: &Session<'_>, client: &Client) -> Client {
    // A call has 30 seconds where nothing is said.
    match session.global.timeout {
        Some(_) => client.clone(),
        None => client.with_timeout(INDEX_LIMIT),
    }
}

pub(super) async fn dispatch(verb: &Verb, session: &Session<'_>) -> Result<Exit, Halt> {
    match verb {
        Verb::Scan(arguments) => match arguments.format {
            Some(FileType::Sarif) => export::export(session, arguments).await,
            None => scan::scan(session, arguments).await,
        },
        Verb::Status => status::status(session).await,
        Verb::Check { project, strategy } => {
            check::check(session, project, Strategy::wanted(*strategy)).await
        }
        Verb::Update { which, strategy, detach } => {
            change::update(session, which, Strategy::wanted(*strategy), *detach).await
        }
        Verb::Rollback { which, to, detach } => {
            change::rollback(session, which, *to, *detach).await
        }
        Verb::History { project, limit } => history::history(session, project, *limit).await,
        Verb::Ignore { which, until } => ignore::ignore(session, which, *until).await,
        Verb::Unignore(which) => ignore::unignore(session, which).await,
        Verb::Postmortem(verb) => postmortem::dispatch(verb, session).await,
        Verb::ImportAdvisories { files } => import::import(session, files).await,
    }
}
