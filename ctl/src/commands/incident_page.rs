//! One incident, for people and as Markdown.

use std::fmt::Write as _;

use genesis_client::Error;
use genesis_client::v1::{
    GetIncidentResponse, Incident, IncidentClosure, IncidentEvent, IncidentTimeline,
};

use super::emergency::contact_lines;
use super::incomplete_answer;
use crate::format;
use crate::markdown::{literal, table};
use crate::render::{Cell, Part, View};

const COLUMNS: &[&str] = &["AT", "WHO", "WHAT", "TO WHAT", "OUTCOME", "TEXT"];

fn state(incident: &Incident) -> &'static str {
    format::short_name(incident.state().as_str_name(), "INCIDENT_STATE_")
}

fn incident_of(response: &GetIncidentResponse) -> Result<&Incident, Error> {
    response.incident.as_ref().ok_or_else(|| incomplete_answer("the incident"))
}

/// How it ended: as the agent saw it, and as a person wrote it down.
fn ending(incident: &Incident) -> Vec<String> {
    let mut lines = Vec::new();
    if incident.over_at.is_some() {
        lines.push(format!(
            "over {}, after {}: {}",
            format::time(incident.over_at.as_ref()),
            format::between(incident.opened_at.as_ref(), incident.over_at.as_ref()),
            format::or_none(&incident.resolution)
        ));
    }
    if let Some(closure) = &incident.closure {
        let (at, by) = (format::time(closure.at.as_ref()), format::or_none(&closure.by));
        lines.push(format!("closed {at} by {by}: {}", closure.resolution));
        lines.push(format!("lesson: {}", lesson(closure)));
        lines.push(format!("runbook page to mend: {}", format::or_none(&closure.runbook)));
    }
    lines
}

fn lesson(closure: &IncidentClosure) -> &str {
    if closure.lesson.is_empty() { "none" } else { &closure.lesson }
}

/// What it leads to: the issues, the page.
fn commands(incident: &Incident) -> Vec<String> {
    let issues =
        incident.issues.iter().map(|issue| format!("`genesisctl health explain '{issue}'`"));
    let runbook = match incident.runbook.as_str() {
        "" => None,
        page => Some(format!("`genesisctl runbook show {page}`")),
    };
    let waits = incident.over_at.is_some() && incident.closure.is_none();
    let close = waits.then(|| {
        format!("`genesisctl incident close {}`: write down what came of it", incident.id)
    });
    issues.chain(runbook).chain(close).collect()
}

fn about_left_out(timeline: &IncidentTimeline) -> Vec<String> {
    let mut lines = Vec::new();
    if timeline.left_out > 0 {
        lines.push(format!(
            "{} more left out, after the first {}: `genesisctl oplog export` has all",
            timeline.left_out, timeline.left_out_after
        ));
    }
    if timeline.read_until.is_some() {
        let until = format::time(timeline.read_until.as_ref());
        lines.push(format!("the operation log was read up to {until} only, since it is so long"));
    }
    lines
}

fn cells(event: &IncidentEvent) -> [String; 6] {
    [
        format::time(event.at.as_ref()),
        event.actor.clone(),
        event.action.clone(),
        format::or_none(&event.target),
        event.outcome.clone(),
        event.text.clone(),
    ]
}

/// For people.
pub(super) fn page(response: &GetIncidentResponse) -> Result<View, Error> {
    let incident = incident_of(response)?;
    let reason = match incident.reason.as_str() {
        "" => String::new(),
        reason => format!(": {reason}"),
    };
    let mut lead = vec![
        format!("incident {} {}: {}", incident.id, state(incident), incident.title),
        format!(
            "severity {}, trigger {}, opened {} by {}{reason}",
            format::or_none(&incident.severity),
            format::or_none(&incident.trigger),
            format::time(incident.opened_at.as_ref()),
            format::or_none(&incident.opened_by)
        ),
    ];
    lead.extend(ending(incident));
    let part = |title: &str, lines: Vec<String>| Part {
        title: title.to_owned(),
        lines,
        ..Part::default()
    };
    let timeline = response.timeline.clone().unwrap_or_default();
    let row = |event: &IncidentEvent| cells(event).into_iter().map(Cell::from).collect();
    let happened = Part {
        title: "What happened".to_owned(),
        columns: COLUMNS,
        rows: timeline.events.iter().map(row).collect(),
        lines: about_left_out(&timeline),
    };
    let parts = [
        part("When it was opened", incident.details.clone()),
        happened,
        part("Where to look", commands(incident)),
        part("Whom to call", contact_lines(response.contacts.as_ref())),
    ];
    let parts = parts.into_iter().filter(|part| !part.lines.is_empty() || !part.rows.is_empty());
    Ok(View { lead, parts: parts.collect(), ..View::default() })
}

/// A post-mortem, and what was written in a line.
pub(super) fn to_markdown(
    response: &GetIncidentResponse,
    node: &str,
) -> Result<(String, String), Error> {
    let incident = incident_of(response)?;
    let mut page =
        format!("# Incident {}: {}\n\n", literal(&incident.id), literal(&incident.title));
    let about = match incident.issues.as_slice() {
        [] => incident.subject.clone(),
        issues => issues.join(", "),
    };
    for (name, fact) in [
        ("agent", node.to_owned()),
        ("state", state(incident).to_owned()),
        ("severity", format::or_none(&incident.severity)),
        ("trigger", format::or_none(&incident.trigger)),
        ("about", format::or_none(&about)),
        ("opened", format::time(incident.opened_at.as_ref())),
        ("opened by", format::or_none(&incident.opened_by)),
        ("reason", format::or_none(&incident.reason)),
        ("over", format::time(incident.over_at.as_ref())),
        ("lasted", format::between(incident.opened_at.as_ref(), incident.over_at.as_ref())),
    ] {
        let _ = writeln!(page, "- {name}: {}", literal(&fact));
    }
    let mut section = |title: &str, lines: &[String], none: &str| {
        let _ = writeln!(page, "\n## {title}\n");
        if lines.is_empty() {
            let _ = writeln!(page, "{none}");
        }
        for line in lines {
            let _ = writeln!(page, "- {}", literal(line));
        }
    };
    section("What was known when it was opened", &incident.details, "Nothing more.");
    let timeline = response.timeline.clone().unwrap_or_default();
    let done: Vec<String> =
        timeline.events.iter().filter(|it| it.is_by_somebody()).map(deed).collect();
    section("What was done by hand", &done, "Nothing is recorded.");
    let ended = match incident.resolution.as_str() {
        "" => Vec::new(),
        text => vec![text.to_owned()],
    };
    section("How it ended", &ended, "It goes on, or nobody saw its end.");
    let closure = incident.closure.as_ref();
    let written =
        |text: Option<&str>| text.filter(|it| !it.is_empty()).map(|it| vec![it.to_owned()]);
    let unwritten = "Not written down yet.";
    let or_none = if closure.is_some() { "None." } else { unwritten };
    let of = |text: Option<&str>| written(text).unwrap_or_default();
    section("Resolution", &of(closure.map(|it| it.resolution.as_str())), unwritten);
    section("Lesson", &of(closure.map(|it| it.lesson.as_str())), or_none);
    section("Runbook page to mend", &of(closure.map(|it| it.runbook.as_str())), or_none);
    if let Some(closure) = closure {
        let (by, at) = (literal(&closure.by), format::time(closure.at.as_ref()));
        let _ = writeln!(page, "\nClosed {at} by {by}.");
    }
    let _ = writeln!(page, "\n## What happened\n");
    table(
        &mut page,
        ["at (UTC)", "who", "what", "to what", "outcome", "text"],
        timeline.events.iter().map(cells),
    );
    for line in about_left_out(&timeline) {
        let _ = writeln!(page, "\n{}", literal(&line));
    }
    let _ = writeln!(page, "\n## Whom to call\n");
    for line in contact_lines(response.contacts.as_ref()) {
        let _ = writeln!(page, "- {}", literal(&line));
    }
    Ok((page, format!("incident {} {}: {}", incident.id, state(incident), incident.title)))
}

fn deed(event: &IncidentEvent) -> String {
    let target = match event.target.as_str() {
        "" => String::new(),
        target => format!(" {target}"),
    };
    let text = match event.text.as_str() {
        "" => String::new(),
        text => format!(": {text}"),
    };
    let (at, actor) = (format::time(event.at.as_ref()), &event.actor);
    format!("{at} {actor} {}{target} ({}){text}", event.action, event.outcome)
}

trait By {
    /// Whether a person did it, and not the agent by itself.
    fn is_by_somebody(&self) -> bool;
}

impl By for IncidentEvent {
    fn is_by_somebody(&self) -> bool {
        !["system:", "schedule", "health"].iter().any(|own| self.actor.starts_with(own))
    }
}
