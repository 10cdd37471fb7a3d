//! `health dashboard`: everything that goes on about health, of one node on a page, of several in rows.

mod answers;
mod app;
mod ask;
mod detail;
mod draw;
mod keys;
mod live;
mod looks;
mod node;
mod pages;
mod samples;
mod section;
mod tab;
mod table;
mod terminal;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::BTreeMap;

use genesis_client::v1::{
    Condition, FleetStanding, GetFleetStatusRequest, GetFleetStatusResponse,
    GetHealthStatusRequest, GetHealthStatusResponse, Incident, Issue, Objective,
};
use genesis_client::{Client, Error};
use serde_json::{Value, json};

use super::health_check::{self, Tally, rank, worst_first};
use super::health_issue::{ATTEMPT_COLUMNS, attempt_row};
use super::health_remediation::hold_line;
use crate::connect::Session;
use crate::exit::{Exit, Halt};
use crate::format;
use crate::render::{Answer, Cell, Part, View};

const COLUMNS: &[&str] = &[
    "STATE",
    "CHECKS",
    "ISSUES",
    "INCIDENTS",
    "HELD BY",
    "FLEET",
    "REMEDIATIONS 30D",
    "OPERATIONS 30D",
];
const OBJECTIVE_COLUMNS: &[&str] =
    &["OBJECTIVE", "GOAL", "SUCCESS", "MET", "SUCCEEDED", "FAILED", "NOT COUNTED"];
const ISSUE_COLUMNS: &[&str] =
    &["ISSUE", "STATE", "SEVERITY", "SINCE", "ATTEMPTS", "NOTE", "DETAIL"];
const INCIDENT_COLUMNS: &[&str] = &["INCIDENT", "SEVERITY", "TRIGGER", "OPENED", "TITLE"];

pub(super) use live::{Opened, open};

pub(super) async fn show(session: &Session<'_>, merge: bool) -> Result<Exit, Halt> {
    let all = RefCell::new(Summary::default());
    let gathered = &all;
    let call = |client: Client| async move {
        let status = client
            .call(
                GetHealthStatusRequest {},
                |c, r| async move { c.health().get_health_status(r).await },
            )
            .await?;
        let json = session.json("GetHealthStatusResponse", &status)?;
        let fleet = fleet(&client).await?;
        let summary = Summary::of(&status, fleet.as_ref());
        let exit = exit(&status, fleet.as_ref());
        let view = match session.many() {
            true => View { columns: COLUMNS, rows: vec![summary.row()], ..View::default() },
            false => page(&status, fleet.as_ref(), session.global.verbose),
        };
        gathered.borrow_mut().add(&summary);
        Ok(Answer::new(json, view).exit(exit))
    };
    let merged = || {
        // Of one node there is nothing to add to its page.
        if !merge || (session.for_people() && !session.many()) {
            return Ok(None);
        }
        let mut all = gathered.borrow().clone();
        all.missing(session.nodes.len());
        let view = View { columns: COLUMNS, rows: vec![all.row()], ..View::default() };
        Ok(Some(Answer::new(all.json(session)?, view)))
    };
    let columns = if session.many() { COLUMNS } else { &[] };
    session.each_merged(columns, call, merged).await
}

/// As in `status`: what is well must still stand still, and what is cut off does not hear of that.
fn exit(status: &GetHealthStatusResponse, fleet: Option<&GetFleetStatusResponse>) -> Exit {
    let emergency = status.emergency.then_some(Condition::Critical);
    let of_fleet = fleet.and_then(stands).map(|(_, condition)| condition);
    Exit::of_conditions([status.condition()].into_iter().chain(emergency).chain(of_fleet))
}

/// How the host stands to its fleet; `None`: its agent is older than fleets are.
async fn fleet(client: &Client) -> Result<Option<GetFleetStatusResponse>, Error> {
    let request = GetFleetStatusRequest {};
    let asked = client.call(request, |c, r| async move { c.fleet().get_fleet_status(r).await });
    match asked.await {
        Ok(status) => Ok(Some(status)),
        Err(error) if error.code == "UNIMPLEMENTED" => Ok(None),
        Err(error) => Err(error),
    }
}

/// The name of that, and what it means; `None`: it is on its own.
fn stands(fleet: &GetFleetStatusResponse) -> Option<(&'static str, Condition)> {
    Some(match fleet.standing() {
        FleetStanding::Alone => return None,
        FleetStanding::Connected => ("CONNECTED", Condition::Ok),
        FleetStanding::Stale => ("STALE", Condition::Warn),
        FleetStanding::Lost => ("LOST", Condition::Critical),
        FleetStanding::Unspecified => ("UNKNOWN", Condition::Unknown),
    })
}

/// What one node or all of them come to.
#[derive(Debug, Clone, Default)]
struct Summary {
    nodes: usize,
    /// That were asked and told nothing.
    unanswered: usize,
    condition: Option<Condition>,
    checks: Tally,
    issues: usize,
    incidents: usize,
    runs_active: u64,
    /// On how many nodes there is an emergency.
    emergency: usize,
    /// On how many nodes nothing but plans is made.
    dry_run: usize,
    /// On how many nodes each of them holds remediation back.
    held: BTreeMap<String, usize>,
    /// How many nodes stand how to their fleet.
    fleet: BTreeMap<&'static str, usize>,
    objectives: BTreeMap<String, Objective>,
}

impl Summary {
    fn of(status: &GetHealthStatusResponse, fleet: Option<&GetFleetStatusResponse>) -> Self {
        let held = status.holds.iter().map(|hold| (hold.code.clone(), 1));
        let objectives = status.objectives.iter().map(|one| (one.name.clone(), one.clone()));
        Self {
            nodes: 1,
            unanswered: 0,
            condition: Some(status.condition()),
            checks: Tally::of(&status.checks),
            issues: status.issues.len(),
            incidents: status.incidents.len(),
            runs_active: u64::from(status.runs_active),
            emergency: usize::from(status.emergency),
            dry_run: usize::from(status.dry_run),
            held: held.collect(),
            fleet: fleet.and_then(stands).map(|(name, _)| (name, 1)).into_iter().collect(),
            objectives: objectives.collect(),
        }
    }

    fn add(&mut self, other: &Self) {
        self.nodes += other.nodes;
        self.worsen(other.condition);
        self.checks.add(&other.checks);
        self.issues += other.issues;
        self.incidents += other.incidents;
        self.runs_active += other.runs_active;
        self.emergency += other.emergency;
        self.dry_run += other.dry_run;
        for (code, nodes) in &other.held {
            *self.held.entry(code.clone()).or_default() += nodes;
        }
        for (name, nodes) in &other.fleet {
            *self.fleet.entry(name).or_default() += nodes;
        }
        for (name, other) in &other.objectives {
            match self.objectives.get_mut(name) {
                Some(objective) => add_objective(objective, other),
                None => {
                    self.objectives.insert(name.clone(), other.clone());
                }
            }
        }
    }

    fn worsen(&mut self, condition: Option<Condition>) {
        let known = self.condition.into_iter().chain(condition);
        self.condition = known.min_by_key(|condition| rank(*condition));
    }

    /// Of `asked` nodes those that told nothing are unknown.
    fn missing(&mut self, asked: usize) {
        self.unanswered = asked.saturating_sub(self.nodes);
        if self.unanswered > 0 {
            self.worsen(Some(Condition::Unknown));
        }
    }

    fn condition(&self) -> Condition {
        self.condition.unwrap_or(Condition::Unknown)
    }

    fn row(&self) -> Vec<Cell> {
        let codes = self.held.iter().map(|(code, nodes)| (code.as_str(), *nodes));
        let all = std::iter::once(("EMERGENCY", self.emergency)).chain(codes);
        let all = all.chain([("dry run", self.dry_run)]).filter(|(_, nodes)| *nodes > 0);
        let counted = |(what, nodes): (&str, usize)| match self.nodes {
            0 | 1 => what.to_owned(),
            all => format!("{what} on {nodes} of {all}"),
        };
        let held: Vec<_> = all.map(counted).collect();
        let fleet: Vec<_> =
            self.fleet.iter().map(|(name, nodes)| counted((*name, *nodes))).collect();
        let cut_off = self.fleet.keys().any(|name| *name != "CONNECTED");
        let fleet = match fleet.is_empty() {
            true => Cell::from(format::NONE),
            false => Cell::alert(fleet.join(", "), cut_off),
        };
        let objective = |name: &str| match self.objectives.get(name) {
            Some(objective) => {
                let counted = objective.succeeded.saturating_add(objective.failed);
                let of =
                    format!("{} of {}", format::count(objective.succeeded), format::count(counted));
                match objective.success {
                    Some(success) => {
                        let text = format!("{} ({of})", format::share(success));
                        Cell::alert(text, success < objective.goal)
                    }
                    None => Cell::from("no data"),
                }
            }
            None => Cell::from("no data"),
        };
        vec![
            Cell::condition(self.condition()),
            Cell::from(self.checks.by_condition()),
            Cell::number(self.issues.to_string()),
            Cell::number(self.incidents.to_string()),
            Cell::from(format::or_none(&held.join(", "))),
            fleet,
            objective("remediations"),
            objective("operations"),
        ]
    }

    fn json(&self, session: &Session<'_>) -> Result<Value, Error> {
        let objectives = self.objectives.values().map(|one| session.json("Objective", one));
        let Tally { ok, warn, critical, unknown } = self.checks;
        Ok(json!({
            "nodes": self.nodes,
            "unanswered": self.unanswered,
            "condition": self.condition().as_str_name(),
            "checks": { "ok": ok, "warn": warn, "critical": critical, "unknown": unknown },
            "issues": self.issues,
            "incidents": self.incidents,
            "runsActive": self.runs_active,
            "emergency": self.emergency,
            "dryRun": self.dry_run,
            "held": self.held,
            "fleet": self.fleet,
            "objectives": objectives.collect::<Result<Vec<_>, _>>()?,
        }))
    }
}

fn add_objective(to: &mut Objective, other: &Objective) {
    for (sum, more) in [
        (&mut to.succeeded, other.succeeded),
        (&mut to.failed, other.failed),
        (&mut to.refused, other.refused),
        (&mut to.cancelled, other.cancelled),
        (&mut to.unknown, other.unknown),
    ] {
        *sum = sum.saturating_add(more);
    }
    to.goal = to.goal.max(other.goal);
    let counted = to.succeeded.saturating_add(to.failed);
    to.success = (counted > 0).then(|| to.succeeded as f64 / counted as f64);
}

fn page(
    status: &GetHealthStatusResponse,
    fleet: Option<&GetFleetStatusResponse>,
    verbose: bool,
) -> View {
    let checks = Tally::of(&status.checks);
    let runs = match status.runs_active {
        0 => String::new(),
        1 => "; 1 run goes on".to_owned(),
        runs => format!("; {runs} runs go on"),
    };
    let mut lead = vec![format!("{}: {checks}{runs}", format::condition(status.condition()))];
    lead.extend(notes(status, fleet));
    let shown = worst_first(&status.checks)
        .into_iter()
        .filter(|check| verbose || check.condition() != Condition::Ok);
    let good = if verbose { 0 } else { checks.ok };
    let good = match (good, checks.all()) {
        (0, 0) => Some("none".to_owned()),
        (0, _) => None,
        (good, all) if good == all => Some(format!("all {} OK", format::count(all))),
        (good, _) => Some(format!("{} more OK", format::count(good))),
    };
    let parts = vec![
        part(
            "Objectives of the last 30 days",
            OBJECTIVE_COLUMNS,
            &status.objectives,
            objective_row,
        ),
        Part {
            title: "Checks".to_owned(),
            columns: health_check::COLUMNS,
            rows: shown.map(health_check::row).collect(),
            lines: good.into_iter().collect(),
        },
        part("Open issues", ISSUE_COLUMNS, &status.issues, issue_row),
        part("Open incidents", INCIDENT_COLUMNS, &status.incidents, incident_row),
        part("Latest attempts", ATTEMPT_COLUMNS, &status.attempts, attempt_row),
    ];
    View { lead, parts, ..View::default() }
}

/// What stands in the way of things.
fn notes(status: &GetHealthStatusResponse, fleet: Option<&GetFleetStatusResponse>) -> Vec<String> {
    let mut notes = Vec::new();
    if status.emergency {
        notes.push(
            "EMERGENCY: much waits for its release; see `genesisctl emergency status`".into(),
        );
    }
    if let Some((fleet, (name, _))) = fleet.and_then(|it| Some((it, stands(it)?))) {
        let why = match fleet.trouble.as_str() {
            "" => String::new(),
            why => format!(": {why}; see `genesisctl fleet status`"),
        };
        notes.push(format!("fleet {}: {name}{why}", fleet.fleet));
    }
    notes.extend(status.holds.iter().map(hold_line));
    if status.dry_run {
        notes.push("dry run: every action is planned, and none is carried out".to_owned());
    }
    notes
}

fn part<T>(
    title: &str,
    columns: &'static [&'static str],
    items: &[T],
    row: impl Fn(&T) -> Vec<Cell>,
) -> Part {
    let none = items.is_empty().then(|| "none".to_owned());
    Part {
        title: title.to_owned(),
        columns,
        rows: items.iter().map(row).collect(),
        lines: none.into_iter().collect(),
    }
}

fn objective_row(objective: &Objective) -> Vec<Cell> {
    let (success, met) = match objective.success {
        Some(success) => {
            let met = success >= objective.goal;
            (format::share(success), Cell::alert(if met { "yes" } else { "NO" }, !met))
        }
        None => ("no data".to_owned(), Cell::from(format::NONE)),
    };
    let others = [
        (objective.refused, "refused"),
        (objective.cancelled, "cancelled"),
        (objective.unknown, "unknown"),
    ];
    let there = others.iter().filter(|(count, _)| *count > 0);
    let others: Vec<_> =
        there.map(|(count, what)| format!("{} {what}", format::count(*count))).collect();
    vec![
        Cell::from(objective.name.as_str()),
        Cell::number(format::share(objective.goal)),
        Cell::number(success),
        met,
        Cell::number(format::count(objective.succeeded)),
        Cell::number(format::count(objective.failed)),
        Cell::from(format::or_none(&others.join(", "))),
    ]
}

fn issue_row(issue: &Issue) -> Vec<Cell> {
    let mut note = Vec::new();
    if !issue.suppressed_by.is_empty() {
        note.push(format!("waits for {}", issue.suppressed_by));
    }
    if issue.escalated_at.is_some() {
        let trigger = format::short_name(issue.escalated().as_str_name(), "ESCALATION_TRIGGER_");
        note.push(format!("people were called: {trigger}"));
    }
    if issue.acked_at.is_some() {
        note.push(format!("acked by {}", format::or_none(&issue.acked_by)));
    }
    let denials: Vec<_> = issue.denials.iter().map(|denial| denial.code.as_str()).collect();
    if !denials.is_empty() {
        note.push(format!("held by {}", denials.join(", ")));
    }
    vec![
        Cell::from(issue.id.as_str()),
        Cell::issue_state(issue.state()),
        Cell::severity(issue.severity()),
        Cell::from(format::time(issue.since.as_ref())),
        Cell::number(issue.attempts.to_string()),
        Cell::from(format::or_none(&note.join("; "))),
        Cell::from(issue.detail.as_str()),
    ]
}

fn incident_row(incident: &Incident) -> Vec<Cell> {
    vec![
        Cell::from(incident.id.as_str()),
        Cell::from(format::or_none(&incident.severity)),
        Cell::from(format::or_none(&incident.trigger)),
        Cell::from(format::time(incident.opened_at.as_ref())),
        Cell::from(incident.title.as_str()),
    ]
}
