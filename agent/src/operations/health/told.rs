//! What people should hear of health: the incidents, at once; each issue, by how bad its check is; and checks that
//! nobody can tell about.

use std::collections::BTreeMap;

use async_trait::async_trait;
use genesis_storage::{IncidentRecord, IssueRecord};

use super::Health;
use super::intake::confirmed;
use super::life::UNKNOWN_LIMIT;
use super::record::issue_id;
use crate::error::Result;
use crate::events::{Condition, Severity, Source};
use crate::outside::probes::Probe;

/// Something is tried about it by itself, so that nobody is got out of bed before that was in vain.
const TRIED_FIRST: Severity = Severity::High;

#[async_trait]
impl Source for Health {
    fn name(&self) -> &'static str {
        "health"
    }

    async fn conditions(&self) -> Result<Vec<Condition>> {
        let checks = self.checks();
        let (incidents, issues, unknown) = {
            let live = self.live();
            let issues: BTreeMap<String, IssueRecord> = live
                .seen
                .iter()
                .filter_map(|(id, seen)| Some((id.clone(), seen.open()?.clone())))
                .filter(|(_, issue)| confirmed(issue.state))
                .collect();
            let unknown: Vec<(String, String)> = live
                .seen
                .iter()
                .filter(|(_, seen)| seen.known.check.unknown_streak >= UNKNOWN_LIMIT)
                .map(|(id, seen)| {
                    let said = seen.last.as_ref().map_or("", |look| look.detail.as_str());
                    (id.clone(), said.to_owned())
                })
                .collect();
            (live.incidents.clone(), issues, unknown)
        };
        // One that nothing is tried about, and that people hear of at once, is not told a second time when it lasts.
        let at_once = |id: &str| {
            checks
                .get(id)
                .is_some_and(|check| check.action.is_none() && check.severity == Severity::Critical)
        };
        let alone = |incident: &IncidentRecord| match incident.issues.as_slice() {
            [(id, _)] if issues.contains_key(id) && at_once(id) => Some(id.clone()),
            _ => None,
        };
        let mut found = Vec::new();
        for incident in &incidents {
            found.push(Condition {
                key: incident_key(&incident.id),
                subject: match (incident.root.as_str(), incident.issues.as_slice()) {
                    ("", [(id, _)]) => id.clone(),
                    ("", _) => "host".to_owned(),
                    (root, _) => root.to_owned(),
                },
                severity: Severity::Critical,
                title: incident.title.clone(),
                details: incident.details.clone(),
                runbook: incident.runbook.clone(),
                since: incident.opened_at,
                behind: alone(incident).iter().map(|id| issue_key(id)).collect(),
            });
        }
        let covering = |id: &str| {
            let about = incidents.iter().filter(|incident| {
                incident.issues.iter().any(|(check, _)| check == id) && alone(incident).is_none()
            });
            about.map(|incident| incident_key(&incident.id)).collect::<Vec<_>>()
        };
        for (id, issue) in &issues {
            let Some(check) = checks.get(id) else { continue };
            let tried = check.action.is_some();
            let severity = if tried { check.severity.min(TRIED_FIRST) } else { check.severity };
            let mut behind = covering(id);
            behind.extend(self.root(id).map(|root| issue_key(&root)));
            if let Probe::Latency { operation } = &check.probe
                && severity <= TRIED_FIRST
            {
                // Of an episode people hear where it is found; what is tried about it is news once it was in vain.
                behind.extend(self.episodes(operation)?);
            }
            let mut details = vec![match issue.attempts {
                0 if tried => "its action has not begun yet".to_owned(),
                0 => "nothing is done about it by itself".to_owned(),
                times => format!("its action was tried {times} time(s)"),
            }];
            let denials = issue.denials.iter();
            details.extend(denials.map(|denial| format!("{}: {}", denial.code, denial.message)));
            let id_shown = issue_id(id, issue.episode);
            details.push(format!("genesisctl health explain '{id_shown}'"));
            found.push(Condition {
                key: issue_key(id),
                subject: id.clone(),
                severity,
                title: format!("{id}: {}", issue.detail),
                details,
                runbook: check.runbook.to_owned(),
                since: issue.opened.wall,
                behind,
            });
        }
        for (id, said) in unknown {
            let Some(check) = checks.get(&id) else { continue };
            let mut behind = covering(&id);
            behind.push(issue_key(&id));
            found.push(Condition {
                key: format!("health/unknown/{id}"),
                subject: id.clone(),
                severity: check.severity.min(TRIED_FIRST),
                title: format!("{id} can't be told: {said}"),
                details: vec!["what can't be told is never taken for good".to_owned()],
                runbook: check.runbook.to_owned(),
                since: self.outside.clock.now(),
                behind,
            });
        }
        Ok(found)
    }
}

impl Health {
    /// The conditions of the episodes that go on, of an operation, or of all where it is empty.
    fn episodes(&self, operation: &str) -> Result<Vec<String>> {
        let open = self.state.read(|reading| Ok(reading.baselines().open_episodes()?))?;
        let names = open.into_iter().map(|episode| episode.operation);
        let its = names.filter(|name| operation.is_empty() || name == operation);
        Ok(its.map(|name| crate::events::episode_key(&name)).collect())
    }
}

fn issue_key(check: &str) -> String {
    format!("health/issue/{check}")
}

fn incident_key(id: &str) -> String {
    format!("health/incident/{id}")
}
