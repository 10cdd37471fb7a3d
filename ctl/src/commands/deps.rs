//! `deps`: the verbs, and which file carries each out.

mod data;
mod export;
mod finding;
mod import;
mod project;
mod sarif;
mod scan;
mod status;
mod upload;

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use genesis_client::v1::ScanDependenciesRequest;
use jiff::Timestamp;

use crate::connect::Session;
use crate::exit::{Exit, Halt};
use crate::format;

const SERVICE: &str = "genesis.v1.DependencyService";

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
Exits 5 where there is a project and data that a scan goes by is stale, or no advisories were ever imported. The catalogue
of exploited vulnerabilities (kev) and likelihoods (epss) may be missing.

Examples:
  genesisctl deps status
  genesisctl deps status -v --all";

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
    /// Show the projects, and how recent the data is that they are held against.
    #[command(after_help = STATUS_EXAMPLES)]
    Status,
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

/// What findings are written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FileType {
    /// SARIF 2.1.0, with a run for each project: what code hosts and editors show.
    Sarif,
}

impl Verb {
    /// The rpc by which it changes something.
    pub(super) fn changes(&self) -> Option<super::Change> {
        match self {
            Self::Scan(_) | Self::Status => None,
            Self::ImportAdvisories { .. } => Some((SERVICE, "ImportAdvisories")),
        }
    }
}

pub(super) async fn dispatch(verb: &Verb, session: &Session<'_>) -> Result<Exit, Halt> {
    match verb {
        Verb::Scan(arguments) => match arguments.format {
            Some(FileType::Sarif) => export::export(session, arguments).await,
            None => scan::scan(session, arguments).await,
        },
        Verb::Status => status::status(session).await,
        Verb::ImportAdvisories { files } => import::import(session, files).await,
    }
}
