//! What recovery asks of health: what the checks say of a component, and how the host does after a rollback; and the
//! incident that documents it, until the host does well.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use genesis_storage::{IncidentRecord, Intent, RollbackOutcome, RollbackRecord, Trigger};
use jiff::Timestamp;

use crate::error::Result;
use crate::operations::health::Health;
use crate::operations::health::check::Level;
use crate::operations::health::life::Status;
use crate::outside::Clock;
use crate::runs::rollback::choose::Evidence;
use crate::runs::rollback::{Aftermath, Health as Verdict, Stay, Surroundings};
use crate::state::State;

use super::evidence;

/// So long the deep check may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// So much of what it found is told.
const TOLD: usize = 12;
/// So many incidents are kept.
const KEPT: usize = genesis_storage::INCIDENTS_KEPT;
/// So many lines of what was found are kept.
const DETAILS: usize = 100;
/// What the line begins with that says how it is undone.
const UNDO: &str = "to undo it: ";

/// What comes after a rollback.
pub struct AfterRollback {
    /// Who checks.
    health: Arc<Health>,
    /// Where incidents are.
    state: State,
    /// Time.
    clock: Arc<dyn Clock>,
    /// When the deep check of a rollback was begun whose incident goes on, since the host's boot: the wall clock may be
    /// set back by more than it takes the host to do well. What an earlier agent looked after is not here, and all that
    /// is known of the checks is later.
    checked: Mutex<HashMap<String, Duration>>,
}

/// Whether a check looks at a component.
pub(super) fn looks_at(check: &str, component: &str) -> bool {
    let own = check.split_once(':').map_or(check, |(_, own)| own);
    match component.split_once(':') {
        // Such as "connections:orders" at "database:orders".
        Some(("database", name)) => check != own && own == name,
        // Whatever is named as the project, the operation, or the strategy.
        Some(("parameter", name)) => check == component || name.split('.').next() == Some(own),
        Some(("dependencies" | "baseline", name)) => check == component || own == name,
        // And "certificate:api" at itself.
        Some(_) => check == component,
        None => component == "state" && check == "agent",
    }
}

/// The worst of looks, and each that is not well, the worst first. A warning is told and is no reason to call a rollback
/// bad: most were there before it.
fn verdict(looks: &[(String, Status, String)]) -> (Verdict, Vec<String>) {
    let rank = |status: &Status| match status {
        Status::Crit => (0, "CRIT"),
        Status::Unknown => (1, "unknown"),
        Status::Warn => (2, "WARN"),
        Status::Ok => (3, "ok"),
    };
    let mut ill: Vec<_> = looks.iter().filter(|(_, status, _)| rank(status).0 < 3).collect();
    ill.sort_by_key(|(id, status, _)| (rank(status).0, id.clone()));
    let health = match ill.first().map(|(_, status, _)| rank(status).0) {
        Some(0) => Verdict::Bad,
        Some(1) => Verdict::Unknown,
        _ if looks.is_empty() => Verdict::Unknown,
        _ => Verdict::Good,
    };
    let mut told: Vec<String> = ill
        .iter()
        .take(TOLD)
        .map(|(id, status, detail)| format!("{id} {}: {detail}", rank(status).1))
        .collect();
    if ill.len() > TOLD {
        told.push(format!("and {} more", ill.len() - TOLD));
    }
    if told.is_empty() {
        told.push(match looks.len() {
            0 => "there is no check".to_owned(),
            all => format!("{all} checks are ok"),
        });
    }
    (health, told)
}

impl AfterRollback {
    /// What comes after the rollbacks of this host.
    pub fn new(health: Arc<Health>, state: State, clock: Arc<dyn Clock>) -> Self {
        Self { health, state, clock, checked: Mutex::default() }
    }

    fn checked(&self) -> std::sync::MutexGuard<'_, HashMap<String, Duration>> {
        self.checked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn deep_check(&self) -> (Verdict, Vec<String>) {
        let selected = match self.health.selected(Level::Deep, &[]) {
            Ok(selected) => selected,
            Err(error) => return (Verdict::Unknown, vec![error.message]),
        };
        let looks = tokio::time::timeout(PATIENCE, self.health.look_now(&selected)).await;
        let Ok(looks) = looks else {
            let why = format!("the deep check did not end within {} s", PATIENCE.as_secs());
            return (Verdict::Unknown, vec![why]);
        };
        let named = selected.iter().zip(looks);
        let looks: Vec<_> =
            named.map(|(check, look)| (check.id.clone(), look.status, look.detail)).collect();
        verdict(&looks)
    }

    fn incident(&self, id: &str) -> Result<Option<IncidentRecord>> {
        Ok(self.state.read(|it| Ok(it.incidents().with_prefix(id, 1)?))?.pop())
    }

    /// Writes an incident as `edit` makes it of what it is by then: what somebody writes meanwhile is not lost.
    async fn write(
        &self,
        id: &str,
        (action, detail): (&str, &str),
        edit: impl FnOnce(Option<IncidentRecord>) -> Option<IncidentRecord> + Send + 'static,
    ) -> Result<Option<IncidentRecord>> {
        let intent = Intent::new(self.clock.now(), "system:agent", action)
            .target(id)
            .outcome(if action == "incident.opened" { Trigger::Rollback.code() } else { "ok" })
            .detail(detail)
            .correlation_id(id);
        let id = id.to_owned();
        self.state
            .write(intent, move |it| {
                let incident = edit(it.incidents().with_prefix(&id, 1)?.pop());
                if let Some(incident) = &incident {
                    it.incidents().put(incident, KEPT)?;
                }
                Ok(incident)
            })
            .await
    }

    /// Opens the incident of a rollback, or goes on with it; whether it is over.
    async fn document(&self, what: &RollbackRecord, told: Told, well: bool) -> Result<bool> {
        let now = self.clock.now();
        let known = self.incident(&what.id)?;
        let incident = documented(known.as_ref(), what, &told, well.then_some(now));
        let action = match (&known, incident.open()) {
            (None, _) => "incident.opened",
            (Some(_), false) => "incident.over",
            (Some(_), true) => "incident.updated",
        };
        let of = what.clone();
        let edit = move |known: Option<IncidentRecord>| {
            Some(documented(known.as_ref(), &of, &told, well.then_some(now)))
        };
        let written = self.write(&what.id, (action, &incident.title), edit).await?;
        Ok(written.is_some_and(|it| !it.open()))
    }
}

/// Whether every check was looked at since, and found well; both times are since the host's boot. Pure.
fn well_since(
    looks: impl Iterator<Item = Option<(Duration, (String, Status, String))>>,
    since: Duration,
) -> bool {
    let later = looks.map(|look| {
        let later = look.filter(|(at, _)| *at > since);
        later.map(|(_, look)| look)
    });
    let later: Option<Vec<_>> = later.collect();
    later.is_some_and(|looks| verdict(&looks).0 == Verdict::Good)
}

/// What is told of a rollback: what was read back, how the host did, in words, and the command that undoes it.
#[derive(Clone)]
struct Told {
    seen: String,
    health: Option<Verdict>,
    found: Vec<String>,
    undo: String,
}

/// How a rollback has gone, in words. A database that runs is left alone.
fn how(what: &RollbackRecord) -> &'static str {
    let beside = what.component.starts_with("database:");
    match what.outcome {
        RollbackOutcome::Done if beside => "was restored beside what runs, which is as it was",
        RollbackOutcome::Done => "was rolled back",
        RollbackOutcome::Staged => "is about to be rolled back, when the agent starts next",
        RollbackOutcome::Failed if beside => "was not restored",
        RollbackOutcome::Failed => "was not rolled back: it is as before",
        RollbackOutcome::Begun | RollbackOutcome::Unknown => {
            "was to be rolled back, and what it is at is not known"
        }
    }
}

/// The incident of a rollback as it is to be written: what was there before goes on, and what a person has closed or is
/// over stays so. Pure.
fn documented(
    known: Option<&IncidentRecord>,
    what: &RollbackRecord,
    told: &Told,
    well: Option<Timestamp>,
) -> IncidentRecord {
    let begun = || {
        let at = what.ended_at.unwrap_or(what.at);
        let incident =
            IncidentRecord::new((what.id.clone(), at), Trigger::Rollback, "", what.by.clone());
        IncidentRecord {
            details: vec![format!("from {} to {}", what.from, what.to)],
            reason: what.reason.clone(),
            runbook: "rollback".to_owned(),
            subject: what.component.clone(),
            ..incident
        }
    };
    let mut incident = known.cloned().unwrap_or_else(begun);
    incident.title = format!("{} {}, by {}", what.component, how(what), what.by);
    // Of how it is undone only the latest holds.
    incident.details.retain(|line| !line.starts_with(UNDO));
    let seen = if told.seen.is_empty() { &what.detail } else { &told.seen };
    incident.details.push(format!("read back: {seen}"));
    incident.details.push(match told.health {
        Some(health) => format!("deep check: {}", health.word()),
        None => "deep check: it is made when it has taken effect".to_owned(),
    });
    incident.details.extend(told.found.iter().cloned());
    // However often it could not be kept that this was written.
    let excess = incident.details.len().saturating_sub(DETAILS);
    incident.details.drain(..excess);
    if !told.undo.is_empty() {
        incident.details.push(format!("{UNDO}{}", told.undo));
    }
    if incident.open() {
        // What is back and well is over; people write down what it was about.
        incident.over_at = well;
        incident.severity = if well.is_some() { "medium" } else { "high" }.to_owned();
        if well.is_some() {
            resolved(what).clone_into(&mut incident.resolution);
        }
    }
    incident
}

/// How it ended where it ended well.
fn resolved(what: &RollbackRecord) -> &'static str {
    match what.component.starts_with("database:") {
        true => "it is restored beside what runs, and the host does well",
        false => "it is back, and the host does well",
    }
}

#[async_trait]
impl Surroundings for AfterRollback {
    fn checks(&self, component: &str) -> Option<(Verdict, String)> {
        let looks: Vec<(String, Status, String)> = self
            .health
            .checks()
            .values()
            .filter(|check| looks_at(&check.id, component))
            .filter_map(|check| {
                let look = self.health.check_view(check, None).look?;
                Some((check.id.clone(), look.status, look.detail))
            })
            .collect();
        if looks.is_empty() {
            return None;
        }
        let (health, told) = verdict(&looks);
        Some((health, told.into_iter().next().unwrap_or_default()))
    }

    async fn evidence(&self, component: &str, stays: Vec<Stay>, settled: Duration) -> Evidence {
        let checks = self.health.checks();
        let checks = checks.keys().filter(|id| looks_at(id, component)).cloned().collect();
        evidence::gathered(&self.state, self.clock.now(), (component, checks), (stays, settled))
            .await
    }

    async fn rolled_back(&self, what: &RollbackRecord, seen: &str, undo: &str) -> Aftermath {
        let since = self.clock.moment().since_boot;
        let (health, mut details) = match what.outcome {
            RollbackOutcome::Staged => (None, Vec::new()),
            _ => {
                let (health, found) = self.deep_check().await;
                (Some(health), found)
            }
        };
        let well = what.outcome == RollbackOutcome::Done && health == Some(Verdict::Good);
        let told =
            Told { seen: seen.to_owned(), health, found: details.clone(), undo: undo.to_owned() };
        let (incident, over) = match self.document(what, told, well).await {
            Ok(over) => (what.id.clone(), over),
            Err(error) => {
                let why = error.chain();
                tracing::error!(error = why, "the incident of a rollback can't be opened");
                details.push(format!("no incident could be opened: {why}"));
                (String::new(), false)
            }
        };
        if what.outcome == RollbackOutcome::Done && !over {
            self.checked().insert(what.id.clone(), since);
        }
        Aftermath { health, details, incident, over }
    }

    async fn is_over(&self, what: &RollbackRecord) -> Result<bool> {
        // One that could not be written, or is forgotten, is not gone on with.
        if !self.incident(&what.id)?.is_some_and(|it| it.open()) {
            self.checked().remove(&what.id);
            return Ok(true);
        }
        let selected = self.health.selected(Level::Deep, &[])?;
        let looks = selected.iter().map(|check| {
            let look = self.health.check_view(check, None).look?;
            Some((look.at.since_boot, (check.id.clone(), look.status, look.detail)))
        });
        let since = self.checked().get(&what.id).copied().unwrap_or_default();
        let well = well_since(looks, since);
        if what.outcome != RollbackOutcome::Done || !well {
            return Ok(false);
        }
        let (resolution, now) = (format!("{} by now", resolved(what)), self.clock.now());
        let over = resolution.clone();
        let edit = move |known: Option<IncidentRecord>| {
            let open = known.filter(IncidentRecord::open)?;
            Some(IncidentRecord { over_at: Some(now), resolution: over, ..open })
        };
        self.write(&what.id, ("incident.over", &resolution), edit).await?;
        self.checked().remove(&what.id);
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
