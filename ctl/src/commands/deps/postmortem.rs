//! `deps postmortem`: the clocks of vulnerabilities that are critical or exploited.

use clap::Subcommand;
use clap::builder::NonEmptyStringValueParser;
use genesis_client::v1::{
    ClosePostmortemRequest, ListVulnerabilityClocksRequest, Truth, VulnerabilityClock,
};

use super::super::incomplete_answer;
use super::{Finding, SERVICE, clock};
use crate::confirm::consent;
use crate::connect::Session;
use crate::exit::{Exit, Halt};
use crate::plan;
use crate::render::{Answer, View};

const LIST_EXAMPLES: &str = "\
MEND and POST-MORTEM say how much of the time that is allowed is left, and how much is used. It counts from when the agent
first saw the vulnerability. IN TIME is whether it was mended in time. -v has when it was, and the notes of those that are
closed.

Exits 3 where one is overdue: not mended in time and still there, or without a post-mortem after its time; 5 where that
can't be told.

Examples:
  genesisctl deps postmortem list
  genesisctl deps postmortem list --project api --closed-too -v";

const CLOSE_EXAMPLES: &str = "\
The vulnerability has to be mended first. ID is any of its names, as in `deps postmortem list`.

Examples:
  genesisctl deps postmortem close CVE-2024-1 --project api --note https://wiki.example.com/pm/17 --plan
  genesisctl deps postmortem close CVE-2024-1 --project api --note https://wiki.example.com/pm/17";

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// List until when each vulnerability is to be mended, and its post-mortem written.
    #[command(after_help = LIST_EXAMPLES)]
    List {
        /// Only this one, as in `deps status`.
        #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
        project: String,
        /// Those whose post-mortem is written, too.
        #[arg(long)]
        closed_too: bool,
    },
    /// Say that the post-mortem of a vulnerability is written, and where.
    #[command(after_help = CLOSE_EXAMPLES)]
    Close {
        #[command(flatten)]
        which: Finding,
        /// Where it is, or what it says.
        #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
        note: String,
    },
}

impl Verb {
    /// The rpc by which it changes something.
    pub(super) fn changes(&self) -> Option<super::super::Change> {
        match self {
            Self::List { .. } => None,
            Self::Close { .. } => Some((SERVICE, "ClosePostmortem")),
        }
    }
}

pub(super) async fn dispatch(verb: &Verb, session: &Session<'_>) -> Result<Exit, Halt> {
    match verb {
        Verb::List { project, closed_too } => list(session, project, *closed_too).await,
        Verb::Close { which, note } => close(session, which, note).await,
    }
}

async fn list(session: &Session<'_>, project: &str, closed_too: bool) -> Result<Exit, Halt> {
    let request = &ListVulnerabilityClocksRequest { project: project.to_owned(), closed_too };
    let verbose = session.global.verbose;
    let columns = clock::columns(verbose);
    session
        .each_in(columns, |client| async move {
            let listed = client
                .call(request.clone(), |c, r| async move {
                    c.dependencies().list_vulnerability_clocks(r).await
                })
                .await?;
            let json = session.json("ListVulnerabilityClocksResponse", &listed)?;
            let view = View {
                columns,
                rows: listed.clocks.iter().map(|one| clock::row(one, verbose)).collect(),
                empty: match closed_too {
                    true => "no vulnerability was critical or exploited yet",
                    false => "no post-mortem is open",
                },
                ..View::default()
            };
            Ok(Answer::new(json, view)
                .exit(Exit::of_conditions(listed.clocks.iter().map(clock::condition))))
        })
        .await
}

async fn close(session: &Session<'_>, which: &Finding, note: &str) -> Result<Exit, Halt> {
    let Finding { id, project } = which;
    let request = ClosePostmortemRequest {
        project: project.clone(),
        id: id.clone(),
        note: note.to_owned(),
        plan_hash: session.plan_hash(),
    };
    if session.global.plan {
        return plan::ask!(session, request, dependencies, plan_close_postmortem);
    }
    let what = format!("close the post-mortem of {id} in {project}");
    consent(session, SERVICE, "ClosePostmortem", &what)?;
    let request = &request;
    session
        .each(|client| async move {
            let response = client
                .call(
                    request.clone(),
                    |c, r| async move { c.dependencies().close_postmortem(r).await },
                )
                .await?;
            let json = session.json("ClosePostmortemResponse", &response)?;
            let clock = response.clock.ok_or_else(|| incomplete_answer("the clock"))?;
            Ok(Answer::new(json, View::line(closed(&clock))))
        })
        .await
}

fn closed(clock: &VulnerabilityClock) -> String {
    let VulnerabilityClock { project, id, package, note, .. } = clock;
    let mended = match clock.in_time() {
        Truth::Pass => "mended in time",
        Truth::Fail => "mended too late",
        Truth::Unknown | Truth::Unspecified => "mended, whether in time is unknown",
    };
    format!("{project}: the post-mortem of {id} in {package} is closed ({mended}): {note}")
}
