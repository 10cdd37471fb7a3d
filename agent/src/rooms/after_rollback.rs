//! What recovery asks of health: what the checks say of a component, and how the host does after a rollback; and the
//! incident that documents it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use genesis_storage::{IncidentRecord, Intent, RollbackOutcome, RollbackRecord, Trigger};

use crate::operations::health::Health;
use crate::operations::health::check::Level;
use crate::operations::health::life::Status;
use crate::outside::Clock;
use crate::runs::rollback::{Aftermath, Health as Verdict, Surroundings};
use crate::runs::system_time;
use crate::state::State;

/// So long the deep check may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// So much of what it found is told.
const TOLD: usize = 12;
/// So many incidents are kept.
const KEPT: usize = 2_000;

/// What comes after a rollback.
pub struct AfterRollback {
    /// Who checks.
    pub health: Arc<Health>,
    /// Where incidents are.
    pub state: State,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// Whether a check looks at a component.
fn looks_at(check: &str, component: &str) -> bool {
    match component.split_once(':') {
        // Such as "connections:orders" at "database:orders", and "certificate:api" at itself.
        Some(("database", name)) => check.split_once(':').is_some_and(|(_, of)| of == name),
        Some(_) => check == component,
        None => component == "state" && check == "agent",
    }
}

/// The worst of looks, and each that is not well, the worst first.
fn verdict(looks: &[(String, Status, String)]) -> (Verdict, Vec<String>) {
    let rank = |status: &Status| match status {
        Status::Crit => (0, "CRIT"),
        Status::Warn => (1, "WARN"),
        Status::Unknown => (2, "unknown"),
        Status::Ok => (3, "ok"),
    };
    let mut ill: Vec<_> = looks.iter().filter(|(_, status, _)| rank(status).0 < 3).collect();
    ill.sort_by_key(|(id, status, _)| (rank(status).0, id.clone()));
    let health = match ill.first().map(|(_, status, _)| rank(status).0) {
        Some(0 | 1) => Verdict::Bad,
        Some(_) => Verdict::Unknown,
        None if looks.is_empty() => Verdict::Unknown,
        None => Verdict::Good,
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

    /// Opens the incident; its id.
    async fn document(
        &self,
        what: &RollbackRecord,
        (seen, health): (&str, Verdict),
        found: &[String],
    ) -> Result<String, String> {
        let now = self.clock.now();
        let how = match what.outcome {
            RollbackOutcome::Done => "was rolled back",
            RollbackOutcome::Staged => "is about to be rolled back",
            RollbackOutcome::Failed => "was not rolled back: it is as before",
            RollbackOutcome::Begun | RollbackOutcome::Unknown => {
                "was to be rolled back, and what it is at is not known"
            }
        };
        let mut details = vec![format!("from {} to {}", what.from, what.to)];
        let told = if seen.is_empty() { &what.detail } else { seen };
        details.push(format!("read back: {told}"));
        details.push(format!("deep check: {}", health.word()));
        details.extend(found.iter().cloned());
        details.push(format!(
            "to undo it: genesisctl rollback --component {} --to {}",
            what.component, what.from
        ));
        let well = what.outcome == RollbackOutcome::Done && health == Verdict::Good;
        let id = ulid::Ulid::from_datetime(system_time(now)).to_string();
        let title = format!("{} {how}, by {}", what.component, what.by);
        let incident = IncidentRecord {
            // What is back and well is over; people write down what it was about.
            over_at: well.then_some(now),
            details,
            severity: if well { "medium" } else { "high" }.to_owned(),
            reason: what.reason.clone(),
            resolution: if well { "it is back, and the host does well" } else { "" }.to_owned(),
            runbook: "rollback".to_owned(),
            subject: what.component.clone(),
            ..IncidentRecord::new((id, now), Trigger::Rollback, title, what.by.clone())
        };
        let id = incident.id.clone();
        let intent = Intent::new(now, "system:agent", "incident.opened")
            .target(what.component.clone())
            .outcome(Trigger::Rollback.code())
            .detail(incident.title.clone())
            .correlation_id(id.clone());
        let written =
            self.state.write(intent, move |it| Ok(it.incidents().put(&incident, KEPT)?)).await;
        written.map(|()| id).map_err(|error| error.chain())
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

    async fn rolled_back(&self, what: &RollbackRecord, seen: &str) -> Aftermath {
        let (health, mut details) = self.deep_check().await;
        let incident = match self.document(what, (seen, health), &details).await {
            Ok(id) => id,
            Err(why) => {
                tracing::error!(error = why, "the incident of a rollback can't be opened");
                details.push(format!("no incident could be opened: {why}"));
                String::new()
            }
        };
        Aftermath { health, details, incident }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_look_decides_and_what_is_not_known_is_not_good() {
        let look = |id: &str, status| (id.to_owned(), status, "why".to_owned());
        let (ok, unknown) = (look("a", Status::Ok), look("b", Status::Unknown));
        let (warn, crit) = (look("c", Status::Warn), look("d", Status::Crit));
        for (looks, expected, first) in [
            (vec![], Verdict::Unknown, "there is no check"),
            (vec![ok.clone()], Verdict::Good, "1 checks are ok"),
            (vec![ok.clone(), unknown.clone()], Verdict::Unknown, "b unknown: why"),
            (vec![unknown.clone(), warn.clone()], Verdict::Bad, "c WARN: why"),
            (vec![warn, crit, unknown, ok], Verdict::Bad, "d CRIT: why"),
        ] {
            let (health, told) = verdict(&looks);
            assert_eq!((health, told[0].as_str()), (expected, first), "{looks:?}");
        }
    }

    #[test]
    fn checks_are_told_by_their_names() {
        for (check, component, expected) in [
            ("connections:orders", "database:orders", true),
            ("connections:orders2", "database:orders", false),
            ("certificate:api", "certificate:api", true),
            ("agent", "state", true),
            ("agent", "config", false),
        ] {
            assert_eq!(looks_at(check, component), expected, "{check} {component}");
        }
    }
}
