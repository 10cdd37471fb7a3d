//! `incident`: what people were called about.

use clap::Subcommand;
use genesis_client::v1::{GetIncidentRequest, Incident, ListIncidentsRequest};

use super::incomplete_answer;
use crate::connect::Session;
use crate::exit::{Exit, Halt};
use crate::format;
use crate::render::{Answer, Cell, Part, View};

const COLUMNS: &[&str] =
    &["INCIDENT", "STATE", "SEVERITY", "TRIGGER", "OPENED", "LASTED", "ISSUES", "TITLE"];

const LIST_EXAMPLES: &str = "\
Examples:
  genesisctl incident list
  genesisctl incident list --open --all";

const SHOW_EXAMPLES: &str = "\
Examples:
  genesisctl incident show last
  genesisctl incident show 01J9ZK";

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// List incidents, newest first.
    #[command(after_help = LIST_EXAMPLES)]
    List {
        /// Only those that go on.
        #[arg(long)]
        open: bool,
        /// At most this many.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
    /// Show one incident: what was known, what had been tried, how it ended.
    #[command(after_help = SHOW_EXAMPLES)]
    Show {
        /// The id, its unique beginning of at least four characters, or "last".
        id: String,
    },
}

pub(super) async fn dispatch(verb: &Verb, session: &Session<'_>) -> Result<Exit, Halt> {
    match verb {
        Verb::List { open, limit } => {
            list(session, ListIncidentsRequest { open_only: *open, limit: *limit }).await
        }
        Verb::Show { id } => show(session, &GetIncidentRequest { id: id.clone() }).await,
    }
}

async fn list(session: &Session<'_>, request: ListIncidentsRequest) -> Result<Exit, Halt> {
    session
        .each_in(COLUMNS, |client| async move {
            let list = client
                .call(request, |c, r| async move { c.recovery().list_incidents(r).await })
                .await?;
            let json = session.json("ListIncidentsResponse", &list)?;
            let view = View {
                columns: COLUMNS,
                rows: list.incidents.iter().map(row).collect(),
                empty: if request.open_only { "no incident is open" } else { "no incidents" },
                ..View::default()
            };
            Ok(Answer::new(json, view))
        })
        .await
}

fn row(incident: &Incident) -> Vec<Cell> {
    vec![
        Cell::from(incident.id.as_str()),
        Cell::incident_state(incident.state()),
        Cell::from(format::or_none(&incident.severity)),
        Cell::from(format::or_none(&incident.trigger)),
        Cell::from(format::time(incident.opened_at.as_ref())),
        Cell::number(format::between(incident.opened_at.as_ref(), incident.over_at.as_ref())),
        Cell::from(format::or_none(&incident.issues.join(", "))),
        Cell::from(incident.title.as_str()),
    ]
}

async fn show(session: &Session<'_>, request: &GetIncidentRequest) -> Result<Exit, Halt> {
    session
        .each(|client| async move {
            let response = client
                .call(request.clone(), |c, r| async move { c.recovery().get_incident(r).await })
                .await?;
            let json = session.json("GetIncidentResponse", &response)?;
            let incident = response.incident.ok_or_else(|| incomplete_answer("the incident"))?;
            Ok(Answer::new(json, page(&incident)))
        })
        .await
}

fn page(incident: &Incident) -> View {
    let reason = match incident.reason.as_str() {
        "" => String::new(),
        reason => format!(": {reason}"),
    };
    let mut lead = vec![
        format!(
            "incident {} {}: {}",
            incident.id,
            format::short_name(incident.state().as_str_name(), "INCIDENT_STATE_"),
            incident.title
        ),
        format!(
            "severity {}, trigger {}, opened {} by {}{reason}",
            format::or_none(&incident.severity),
            format::or_none(&incident.trigger),
            format::time(incident.opened_at.as_ref()),
            format::or_none(&incident.opened_by)
        ),
    ];
    if incident.over_at.is_some() {
        lead.push(format!(
            "over {}, after {}: {}",
            format::time(incident.over_at.as_ref()),
            format::between(incident.opened_at.as_ref(), incident.over_at.as_ref()),
            format::or_none(&incident.resolution)
        ));
    }
    let known = Part {
        title: "When it was opened".to_owned(),
        lines: incident.details.clone(),
        ..Part::default()
    };
    let issues =
        incident.issues.iter().map(|issue| format!("`genesisctl health explain '{issue}'`"));
    let runbook = match incident.runbook.as_str() {
        "" => None,
        page => Some(format!("`genesisctl runbook show {page}`")),
    };
    let further = Part {
        title: "Where to look".to_owned(),
        lines: issues.chain(runbook).collect(),
        ..Part::default()
    };
    let parts = [known, further].into_iter().filter(|part| !part.lines.is_empty()).collect();
    View { lead, parts, ..View::default() }
}
