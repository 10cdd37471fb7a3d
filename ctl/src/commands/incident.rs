//! `incident`: what people were called about, what was done, and what came of it.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};
use genesis_client::v1::{
    GetIncidentRequest, Incident, ListIncidentsRequest, NoteIncidentRequest, OpenIncidentRequest,
};

use super::incident_close::{self, Closing};
use super::rollback::SERVICE;
use super::{incident_page, incomplete_answer};
use crate::confirm::consent;
use crate::connect::Session;
use crate::exit::{Exit, Halt};
use crate::format;
use crate::markdown;
use crate::plan;
use crate::render::{Answer, Cell, View};

const COLUMNS: &[&str] =
    &["INCIDENT", "STATE", "SEVERITY", "TRIGGER", "OPENED", "LASTED", "ISSUES", "TITLE"];

const LIST_EXAMPLES: &str = "\
OPEN: its condition goes on. OVER: nobody has written down yet what came of it. CLOSED: somebody has.

Examples:
  genesisctl incident list
  genesisctl incident list --open --all";

const SHOW_EXAMPLES: &str = "\
Examples:
  genesisctl incident show last
  genesisctl incident show 01J9ZK";

const OPEN_EXAMPLES: &str = "\
The agent opens incidents by itself when people are called, for an emergency, and for a rollback. What it did not notice
is opened by hand, so that what is done about it is written down; it goes on until it is closed.

Examples:
  genesisctl incident open --title 'orders of the second venue are late'
  genesisctl incident open --title 'the switch was replaced' --severity low";

const NOTE_EXAMPLES: &str = "\
Examples:
  genesisctl incident note last 'restarted the gateway by hand'
  genesisctl incident note 01J9ZK 'the venue confirms an outage until 04:00'";

const EXPORT_EXAMPLES: &str = "\
Examples:
  genesisctl incident export last --out incident.md
  genesisctl incident export 01J9ZK";

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
    /// Show one incident: what was known, what was done, how it ended, and whom to call.
    #[command(after_help = SHOW_EXAMPLES)]
    Show {
        /// The id, its unique beginning of at least four characters, or "last".
        id: String,
    },
    /// Open an incident by hand.
    #[command(after_help = OPEN_EXAMPLES)]
    Open {
        /// What it is, in a line.
        #[arg(long, value_name = "TEXT")]
        title: String,
        /// How bad it is.
        #[arg(long, value_enum, default_value = "high")]
        severity: Severity,
    },
    /// Add a remark to an incident's timeline: an intervention by hand, something that was seen.
    #[command(after_help = NOTE_EXAMPLES)]
    Note {
        /// As in `incident show`.
        id: String,
        /// The remark, 1 to 4096 bytes.
        text: String,
    },
    /// Write down how an incident was resolved, what is to be learned, and which runbook page is to be mended.
    #[command(after_help = incident_close::EXAMPLES)]
    Close(Closing),
    /// Write an incident out as Markdown, for a post-mortem.
    #[command(after_help = EXPORT_EXAMPLES)]
    Export {
        /// As in `incident show`.
        id: String,
        /// The type of the file.
        #[arg(long, value_enum, value_name = "TYPE", default_value = "markdown")]
        format: FileType,
        /// Write into this file, "-" for standard output. One that exists is replaced only with --yes.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

/// What a page is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FileType {
    Markdown,
}

/// How bad an incident is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Severity {
    Low,
    Medium,
    High,
    Critical,
}

impl Severity {
    fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

impl Verb {
    /// The rpc by which it changes something.
    pub(super) fn changes(&self) -> Option<super::Change> {
        match self {
            Self::List { .. } | Self::Show { .. } | Self::Export { .. } => None,
            Self::Open { .. } => Some((SERVICE, "OpenIncident")),
            Self::Note { .. } => Some((SERVICE, "NoteIncident")),
            Self::Close(_) => Some((SERVICE, "CloseIncident")),
        }
    }
}

pub(super) async fn dispatch(verb: &Verb, session: &Session<'_>) -> Result<Exit, Halt> {
    match verb {
        Verb::List { open, limit } => {
            list(session, ListIncidentsRequest { open_only: *open, limit: *limit }).await
        }
        Verb::Show { id } => show(session, &GetIncidentRequest { id: id.clone() }).await,
        Verb::Open { title, severity } => open(session, title, *severity).await,
        Verb::Note { id, text } => note(session, id, text).await,
        Verb::Close(closing) => incident_close::close(session, closing).await,
        Verb::Export { id, format: FileType::Markdown, out } => {
            export(session, id, out.as_deref()).await
        }
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
    let about = match incident.issues.as_slice() {
        [] => incident.subject.clone(),
        issues => issues.join(", "),
    };
    vec![
        Cell::from(incident.id.as_str()),
        Cell::incident_state(incident.state()),
        Cell::from(format::or_none(&incident.severity)),
        Cell::from(format::or_none(&incident.trigger)),
        Cell::from(format::time(incident.opened_at.as_ref())),
        Cell::number(format::between(incident.opened_at.as_ref(), incident.over_at.as_ref())),
        Cell::from(format::or_none(&about)),
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
            Ok(Answer::new(json, incident_page::page(&response)?))
        })
        .await
}

async fn export(
    session: &Session<'_>,
    id: &str,
    out: Option<&std::path::Path>,
) -> Result<Exit, Halt> {
    markdown::check(session, "incident export", out)?;
    let request = &GetIncidentRequest { id: id.to_owned() };
    session
        .each(|client| async move {
            let sink = markdown::Sink::open(session, out)?;
            let node = client.node().to_string();
            let response = client
                .call(request.clone(), |c, r| async move { c.recovery().get_incident(r).await })
                .await?;
            let json = session.json("GetIncidentResponse", &response)?;
            let (page, headline) = incident_page::to_markdown(&response, &node)?;
            Ok(Answer::new(json, sink.put(session, page, &headline)?))
        })
        .await
}

async fn open(session: &Session<'_>, title: &str, severity: Severity) -> Result<Exit, Halt> {
    let request = OpenIncidentRequest {
        title: title.to_owned(),
        severity: severity.name().to_owned(),
        plan_hash: session.plan_hash(),
    };
    if session.global.plan {
        return plan::ask!(session, request, recovery, plan_open_incident);
    }
    consent(session, SERVICE, "OpenIncident", "open an incident")?;
    let request = &request;
    session
        .each(|client| async move {
            let response = client
                .call(request.clone(), |c, r| async move { c.recovery().open_incident(r).await })
                .await?;
            let json = session.json("OpenIncidentResponse", &response)?;
            let incident = response.incident.ok_or_else(|| incomplete_answer("the incident"))?;
            let id = &incident.id;
            let mut view = View::line(format!("incident {id} is open: {}", incident.title));
            view.lead.push(format!(
                "what you do: `genesisctl incident note {id} TEXT`; at its end: `genesisctl incident close {id}`"
            ));
            Ok(Answer::new(json, view))
        })
        .await
}

async fn note(session: &Session<'_>, id: &str, text: &str) -> Result<Exit, Halt> {
    let request = NoteIncidentRequest {
        id: id.to_owned(),
        text: text.to_owned(),
        plan_hash: session.plan_hash(),
    };
    if session.global.plan {
        return plan::ask!(session, request, recovery, plan_note_incident);
    }
    consent(session, SERVICE, "NoteIncident", "add a remark to an incident")?;
    let request = &request;
    session
        .each(|client| async move {
            let response = client
                .call(request.clone(), |c, r| async move { c.recovery().note_incident(r).await })
                .await?;
            let json = session.json("NoteIncidentResponse", &response)?;
            Ok(Answer::new(json, View::line(format!("noted in incident {}", response.id))))
        })
        .await
}
