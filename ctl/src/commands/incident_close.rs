//! `incident close`: what came of an incident is written down. What is not given is asked for at a terminal.

use clap::Args;
use genesis_client::v1::{CloseIncidentRequest, Incident};
use genesis_proto::runbook::{PAGES, page};

use super::incomplete_answer;
use super::rollback::SERVICE;
use crate::confirm::{consent, line};
use crate::connect::Session;
use crate::exit::{Exit, Halt};
use crate::plan;
use crate::render::{Answer, View};

pub(super) const EXAMPLES: &str = "\
At a terminal it asks for what is not given. One whose condition goes on is not closed (exit 4), except one that was
opened by hand, which is over with it. Closing it a second time says by whom it was, and when (exit 9).

Examples:
  genesisctl incident close last
  genesisctl incident close 01J9ZK --resolution 'the switch was replaced' --lesson 'watch its errors' --runbook storm
  genesisctl incident close 01J9ZK --resolution 'a test of the alarm' --no-lesson --no-runbook-change";

#[derive(Debug, Args)]
pub(crate) struct Closing {
    /// As in `incident show`.
    id: String,
    /// How it was resolved.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    resolution: String,
    /// What is to be learned from it.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    lesson: String,
    /// There is nothing to be learned from it.
    #[arg(long, conflicts_with = "lesson")]
    no_lesson: bool,
    /// The runbook page that is to be mended, or was; `runbook list` has them.
    #[arg(long, value_name = "PAGE", default_value = "", hide_default_value = true)]
    runbook: String,
    /// No page of the runbook is to be mended.
    #[arg(long, conflicts_with = "runbook")]
    no_runbook_change: bool,
}

/// The word by which a person says that there is none.
const NONE: &str = "none";

/// What is missing, in flags.
fn missing(closing: &CloseIncidentRequest) -> Vec<&'static str> {
    let lesson = closing.lesson.trim().is_empty() && !closing.no_lesson;
    let runbook = closing.runbook.trim().is_empty() && !closing.no_runbook_change;
    [
        (closing.resolution.trim().is_empty(), "--resolution TEXT"),
        (lesson, "--lesson TEXT (or --no-lesson)"),
        (runbook, "--runbook PAGE (or --no-runbook-change)"),
    ]
    .into_iter()
    .filter_map(|(missing, flag)| missing.then_some(flag))
    .collect()
}

/// Asks for what is missing.
fn asked(session: &Session<'_>, closing: &mut CloseIncidentRequest) -> Result<(), Halt> {
    let ask = |question: &str| match line(session, question) {
        Some(text) if !text.is_empty() => Ok(text),
        _ => Err(Halt::Failed("nothing was typed: the incident was not closed".into())),
    };
    if closing.resolution.trim().is_empty() {
        closing.resolution = ask("How was it resolved? ")?;
    }
    if closing.lesson.trim().is_empty() && !closing.no_lesson {
        let text = ask("What is to be learned from it? (none) ")?;
        match text.eq_ignore_ascii_case(NONE) {
            true => closing.no_lesson = true,
            false => closing.lesson = text,
        }
    }
    if closing.runbook.trim().is_empty() && !closing.no_runbook_change {
        let names: Vec<_> = PAGES.iter().map(|page| page.name).collect();
        session.warn(&format!("the runbook's pages: {}", names.join(", ")));
        let text = ask("Which of them is to be mended? (none) ")?;
        match text.eq_ignore_ascii_case(NONE) {
            true => closing.no_runbook_change = true,
            false => closing.runbook = text,
        }
    }
    Ok(())
}

pub(super) async fn close(session: &Session<'_>, closing: &Closing) -> Result<Exit, Halt> {
    let mut request = CloseIncidentRequest {
        id: closing.id.clone(),
        resolution: closing.resolution.clone(),
        lesson: closing.lesson.clone(),
        no_lesson: closing.no_lesson,
        runbook: closing.runbook.clone(),
        no_runbook_change: closing.no_runbook_change,
        plan_hash: session.plan_hash(),
    };
    let lacks = missing(&request);
    if !lacks.is_empty() && !session.interactive() {
        return Err(Halt::Usage(format!(
            "`incident close` needs {}, and there is no terminal to ask at; nothing was sent",
            lacks.join(", ")
        )));
    }
    asked(session, &mut request)?;
    if session.global.plan {
        return plan::ask!(session, request, recovery, plan_close_incident);
    }
    consent(session, SERVICE, "CloseIncident", "close an incident")?;
    let request = &request;
    session
        .each(|client| async move {
            let response = client
                .call(request.clone(), |c, r| async move { c.recovery().close_incident(r).await })
                .await?;
            let json = session.json("CloseIncidentResponse", &response)?;
            let incident = response.incident.ok_or_else(|| incomplete_answer("the incident"))?;
            Ok(Answer::new(json, closed(&incident)))
        })
        .await
}

fn closed(incident: &Incident) -> View {
    let mut view = View::line(format!("incident {} is closed", incident.id));
    let mend = incident.closure.as_ref().map(|closure| closure.runbook.as_str());
    if let Some(name) = mend.filter(|name| !name.is_empty()) {
        let known = if page(name).is_some() { "" } else { ", which this program does not know" };
        view.lead.push(format!("to be mended: docs/runbook/{name}.md{known}"));
    }
    view
}
