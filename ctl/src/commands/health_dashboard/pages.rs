//! The pages that are made of what is known of nodes: the list of them, the overview of one, its health.

use std::rc::Rc;

use genesis_client::v1::{HealthCheck, Incident, Issue};

use super::super::health_check::{self, Tally, worst_first};
use super::super::health_issue::{ATTEMPT_COLUMNS, attempt_row};
use super::app::App;
use super::node::{Base, NodeState, Standing};
use super::section::{More, Row, Section, Shown, TREND};
use super::tab::Tab;
use super::{
    INCIDENT_COLUMNS, ISSUE_COLUMNS, OBJECTIVE_COLUMNS, Summary, incident_row, issue_row, notes,
    objective_row,
};
use crate::format;
use crate::render::{Cell, failed, finding};

/// The row of all nodes together.
pub(super) const MERGED: &str = "merged";

const NODE_COLUMNS: &[&str] = &[
    "NODE",
    "STATE",
    "CHECKS",
    "ISSUES",
    "INCIDENTS",
    "HELD BY",
    "FLEET",
    "REMEDIATIONS 30D",
    "OPERATIONS 30D",
    "NOTE",
];
const NODE_SHOWN: &[Shown] = &[
    ("NODE", 0),
    ("STATE", 0),
    ("CHECKS", 0),
    ("ISSUES", 1),
    ("INCIDENTS", 5),
    (TREND, 4),
    ("HELD BY", 3),
    ("FLEET", 6),
    ("REMEDIATIONS 30D", 8),
    ("OPERATIONS 30D", 7),
    ("NOTE", 0),
];
const CHECK_SHOWN: &[Shown] =
    &[("CHECK", 0), ("STATE", 0), (TREND, 1), ("LIMIT", 3), ("TOOK", 4), ("DETAIL", 0)];
pub(super) const ISSUE_SHOWN: &[Shown] = &[
    ("ISSUE", 0),
    ("STATE", 0),
    ("SEVERITY", 2),
    ("SINCE", 1),
    ("ATTEMPTS", 4),
    ("NOTE", 3),
    ("DETAIL", 0),
];
const INCIDENT_SHOWN: &[Shown] =
    &[("INCIDENT", 2), ("SEVERITY", 0), ("TRIGGER", 3), ("OPENED", 1), ("TITLE", 0)];
const ATTEMPT_SHOWN: &[Shown] =
    &[("AT", 0), ("CHECK", 0), ("WHAT", 0), ("OUTCOME", 0), ("BY", 4), ("DETAIL", 2)];
const OBJECTIVE_SHOWN: &[Shown] = &[
    ("OBJECTIVE", 0),
    ("GOAL", 0),
    ("SUCCESS", 0),
    ("MET", 0),
    ("SUCCEEDED", 1),
    ("FAILED", 1),
    ("NOT COUNTED", 2),
];
const DOMAIN_COLUMNS: &[&str] = &["DOMAIN", "CONDITION", "SUMMARY"];
const DOMAIN_SHOWN: &[Shown] = &[("DOMAIN", 0), ("CONDITION", 0), ("SUMMARY", 0)];

/// What is shown of a node on a tab.
pub(super) fn of_node(node: &NodeState, tab: Tab) -> Vec<Section> {
    match (&node.base, tab) {
        (None, Tab::Overview | Tab::Health) => Vec::new(),
        (Some((base, _)), Tab::Overview) => overview(base),
        (Some((base, _)), Tab::Health) => health(base),
        _ => node.pages.get(&tab).map(|page| page.sections.clone()).unwrap_or_default(),
    }
}

fn overview(base: &Base) -> Vec<Section> {
    let health = &base.health;
    let mut sections = vec![issues(&health.issues), incidents(&health.incidents)];
    // There is nothing to see of what there is not.
    sections.retain(|section| !section.rows.is_empty());
    sections.push(checks(&health.checks));
    sections.push(objectives(base));
    let domains = base.status.domains.iter().map(|domain| {
        let mut summary = vec![domain.summary.clone()];
        summary.extend(domain.findings.iter().map(finding));
        let cells = vec![
            Cell::from(domain.domain.as_str()),
            Cell::condition(domain.condition()),
            Cell::from(summary.join("; ")),
        ];
        Row::new(format!("domain {}", domain.domain), cells, More::Nothing)
    });
    let domains = domains.collect();
    sections.push(Section::new("Domains", (DOMAIN_COLUMNS, DOMAIN_SHOWN), domains, "none"));
    let noted = notes(health, base.fleet.as_ref());
    if let Some(first) = sections.first_mut() {
        first.notes.extend(noted.iter().map(|note| crate::render::clean(note).into_owned()));
    }
    sections
}

fn health(base: &Base) -> Vec<Section> {
    let health = &base.health;
    let attempts = health.attempts.iter().map(|attempt| {
        let key = format!("attempt {}", attempt.id);
        Row::new(key, attempt_row(attempt), More::Attempt(Rc::new(attempt.clone())))
    });
    let attempts = attempts.collect();
    let attempts =
        Section::new("Latest attempts", (ATTEMPT_COLUMNS, ATTEMPT_SHOWN), attempts, "none");
    let issues = issues(&health.issues).notes(notes(health, base.fleet.as_ref()));
    vec![issues, incidents(&health.incidents), checks(&health.checks), attempts]
}

fn checks(checks: &[HealthCheck]) -> Section {
    let row = |check: &&HealthCheck| {
        let key = format!("check {}", check.check);
        Row::new(key, health_check::row(check), More::Check(check.check.clone()))
    };
    let rows = worst_first(checks).iter().map(row).collect();
    Section::new("Checks", (health_check::COLUMNS, CHECK_SHOWN), rows, "none")
}

fn issues(issues: &[Issue]) -> Section {
    let row = |issue: &Issue| {
        let key = format!("issue {}", issue.id);
        Row::new(key, issue_row(issue), More::Check(issue.id.clone()))
    };
    let rows = issues.iter().map(row).collect();
    Section::new("Open issues", (ISSUE_COLUMNS, ISSUE_SHOWN), rows, "none")
}

fn incidents(incidents: &[Incident]) -> Section {
    let row = |incident: &Incident| {
        Row::new(format!("incident {}", incident.id), incident_row(incident), More::Nothing)
    };
    let rows = incidents.iter().map(row).collect();
    Section::new("Open incidents", (INCIDENT_COLUMNS, INCIDENT_SHOWN), rows, "none")
}

fn objectives(base: &Base) -> Section {
    let row =
        |one| Row::new(format!("objective {}", objective(one)), objective_row(one), More::Nothing);
    let rows = base.health.objectives.iter().map(row).collect();
    let title = "Objectives of the last 30 days";
    Section::new(title, (OBJECTIVE_COLUMNS, OBJECTIVE_SHOWN), rows, "none")
}

fn objective(one: &genesis_client::v1::Objective) -> &str {
    &one.name
}

/// A row for each node, and with `--merge` one for all of them.
pub(super) fn list(app: &App) -> Vec<Section> {
    let row = |(index, node): (usize, &NodeState)| {
        Row::new(format!("node {}", node.name), cells(app, node), More::Node(index))
    };
    let mut rows: Vec<Row> = app.nodes.iter().enumerate().map(row).collect();
    if app.merge {
        let mut all = Summary::default();
        let fresh = |node: &&NodeState| {
            matches!(node.standing(None, app.limit(), app.now), Standing::Fresh)
        };
        for (base, _) in app.nodes.iter().filter(fresh).filter_map(|node| node.base.as_ref()) {
            all.add(&base.summary());
        }
        all.missing(app.nodes.len());
        let told = format!("of {} that answer", format::plural(all.nodes as u64, "node"));
        let cells = [Cell::from(MERGED)].into_iter().chain(all.row()).chain([Cell::from(told)]);
        rows.push(Row::new(MERGED, cells.collect(), More::Nothing));
    }
    vec![Section::new("Nodes", (NODE_COLUMNS, NODE_SHOWN), rows, "none")]
}

fn cells(app: &App, node: &NodeState) -> Vec<Cell> {
    let base = node.base.as_ref().map(|(base, _)| base);
    let (state, note) = match node.standing(None, app.limit(), app.now) {
        Standing::Awaited => (Some(Cell::unsure("ASKED")), "no answer yet".to_owned()),
        Standing::Fresh => {
            (None, base.map_or_else(String::new, |base| base.status.hostname.clone()))
        }
        Standing::Stale(age) => {
            let was = format::condition(node.condition());
            let told = base.map_or_else(String::new, tally);
            let note = format!("{} old; was {was}: {told}", format::duration(whole(age)));
            (Some(Cell::unsure("STALE")), note)
        }
        Standing::Failed(failure) => {
            let age = whole(app.now.up.saturating_sub(failure.since.up));
            let note = format!("for {}: {}", format::duration(age), failure.error.message);
            (Some(Cell::alert(failed(&failure.error).to_uppercase(), true)), note)
        }
    };
    // What it was is no news of what it is.
    let known = match (state, base) {
        (None, Some(base)) => base.summary().row(),
        (state, _) => {
            let state = state.unwrap_or_else(|| Cell::unsure("ASKED"));
            let others = NODE_COLUMNS[2..NODE_COLUMNS.len() - 1].iter().map(|_| Cell::from("-"));
            [state].into_iter().chain(others).collect()
        }
    };
    let name = [Cell::from(node.name.as_str())];
    name.into_iter().chain(known).chain([Cell::from(note)]).collect()
}

/// Ages change by whole seconds.
pub(super) fn whole(age: std::time::Duration) -> std::time::Duration {
    std::time::Duration::from_secs(age.as_secs())
}

/// The checks of a node in a few words.
pub(super) fn tally(base: &Base) -> String {
    let health = &base.health;
    let mut said = vec![Tally::of(&health.checks).to_string()];
    for (number, noun) in [
        (health.issues.len(), "issue"),
        (health.incidents.len(), "incident"),
        (health.runs_active as usize, "run"),
    ] {
        if number > 0 || noun == "issue" {
            said.push(format::plural(number as u64, noun));
        }
    }
    said.join(" · ")
}
