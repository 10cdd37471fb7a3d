//! `report`: how a host stands by its objectives, and what was done to mend it, over a month.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use genesis_client::v1::{
    GetOperationsReportRequest, GetRemediationReportRequest, ReportObjective, Truth,
};

use super::incident::FileType;
use super::report_page;
use crate::connect::Session;
use crate::exit::{Exit, Halt};
use crate::markdown;
use crate::render::Answer;

const OPERATIONS_EXAMPLES: &str = "\
The objectives: over 99.5 % of operations succeed, over 90 % of automatic remediation helps, under 5 % of updates fail, and
each certificate in service is valid for over 7 days (or 7/90 of its life, if that is less).

Exits 3 where one is not reached, 5 where nothing tells: what nothing tells is never taken for reached.

Examples:
  genesisctl report operations
  genesisctl report operations --month 2026-11 --format markdown --out operations.md";

const REMEDIATION_EXAMPLES: &str = "\
The monthly review. Exits 3 where the objective is not reached (over 90 % helps), 5 where nothing tells.

Examples:
  genesisctl report remediation --month 2026-11
  genesisctl report remediation --format markdown --out remediation.md";

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Show how the host stands by the four objectives, and what is most to blame.
    #[command(after_help = OPERATIONS_EXAMPLES)]
    Operations(About),
    /// Show what was done to mend the host, by check and action, whether it helped, and what stands out.
    #[command(after_help = REMEDIATION_EXAMPLES)]
    Remediation(About),
}

#[derive(Debug, Args)]
pub(crate) struct About {
    /// A month such as 2026-11, in UTC; otherwise the last 30 days, today included.
    #[arg(long, value_name = "MONTH", default_value = "", hide_default_value = true)]
    month: String,
    /// Print it as a file of this type.
    #[arg(long, value_enum, value_name = "TYPE")]
    format: Option<FileType>,
    /// Write it into this file, "-" for standard output. One that exists is replaced only with --yes.
    #[arg(long, value_name = "FILE", requires = "format")]
    out: Option<PathBuf>,
}

pub(super) async fn dispatch(verb: &Verb, session: &Session<'_>) -> Result<Exit, Halt> {
    match verb {
        Verb::Operations(about) => operations(session, about).await,
        Verb::Remediation(about) => remediation(session, about).await,
    }
}

/// Unknown beats what is not reached, as everywhere within one node.
fn exit<'a>(objectives: impl IntoIterator<Item = &'a ReportObjective>) -> Exit {
    objectives.into_iter().fold(Exit::Ok, |worst, objective| match (worst, objective.state()) {
        (Exit::Unknown, _) | (_, Truth::Unknown | Truth::Unspecified) => Exit::Unknown,
        (_, Truth::Fail) => Exit::Findings,
        (worst, Truth::Pass) => worst,
    })
}

async fn operations(session: &Session<'_>, about: &About) -> Result<Exit, Halt> {
    if about.format.is_some() {
        markdown::check(session, "report operations --format", about.out.as_deref())?;
    }
    let request = &GetOperationsReportRequest { month: about.month.clone() };
    session
        .each(|client| async move {
            let sink = markdown::Sink::open(session, about.out.as_deref())?;
            let report = client
                .call(
                    request.clone(),
                    |c, r| async move { c.recovery().get_operations_report(r).await },
                )
                .await?;
            let json = session.json("GetOperationsReportResponse", &report)?;
            let view = match about.format {
                Some(FileType::Markdown) => {
                    let headline = report_page::operations_headline(&report);
                    sink.put(session, report_page::operations_markdown(&report), &headline)?
                }
                None => report_page::operations(&report),
            };
            Ok(Answer::new(json, view).exit(exit(&report.objectives)))
        })
        .await
}

async fn remediation(session: &Session<'_>, about: &About) -> Result<Exit, Halt> {
    if about.format.is_some() {
        markdown::check(session, "report remediation --format", about.out.as_deref())?;
    }
    let request = &GetRemediationReportRequest { month: about.month.clone() };
    session
        .each(|client| async move {
            let sink = markdown::Sink::open(session, about.out.as_deref())?;
            let report = client
                .call(request.clone(), |c, r| async move {
                    c.recovery().get_remediation_report(r).await
                })
                .await?;
            let json = session.json("GetRemediationReportResponse", &report)?;
            let view = match about.format {
                Some(FileType::Markdown) => {
                    let headline = report_page::remediation_headline(&report);
                    sink.put(session, report_page::remediation_markdown(&report), &headline)?
                }
                None => report_page::remediation(&report),
            };
            let exit = report.objective.as_ref().map_or(Exit::Unknown, |it| exit([it]));
            Ok(Answer::new(json, view).exit(exit))
        })
        .await
}
