//! Health as people look at it: the checks, the issues, the objectives, and why nothing is done.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use genesis_storage::{
    AttemptRecord, Control, ControlRecord, IncidentRecord, IssueRecord, IssueState,
};

use super::check::{Check, Level};
use super::decide::Own;
use super::incidents::{outcome_word, words};
use super::life::{self, Status};
use super::matrix::{MATRIX, Row};
use super::metrics::Gauged;
use super::record::{day, issue_id};
use super::{Health, Look, gates};
use crate::error::{Error, Result};

/// So many open incidents are shown at a glance.
const INCIDENTS_SHOWN: usize = 100;

/// The share of runs that must succeed.
pub const OPERATIONS_GOAL: f64 = 0.995;
/// The share of attempts to mend that must help.
pub const REMEDIATIONS_GOAL: f64 = 0.90;
/// Over so many days, today included.
const DAYS: u32 = 30;

/// How an objective stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Objective {
    /// "operations" or "remediations".
    pub name: &'static str,
    /// The share to reach.
    pub goal: f64,
    /// How often it ended which way.
    pub counts: Vec<(&'static str, u64)>,
}

impl Objective {
    /// How often it ended this way.
    pub fn count(&self, outcome: &str) -> u64 {
        self.counts.iter().find(|(name, _)| *name == outcome).map_or(0, |(_, count)| *count)
    }
}

/// succeeded / (succeeded + failed); `None` while there were neither.
pub fn share(counts: &[(&'static str, u64)]) -> Option<f64> {
    let count = |wanted: &str| {
        counts.iter().find(|(name, _)| *name == wanted).map_or(0, |(_, count)| *count)
    };
    let (succeeded, failed) = (count("succeeded"), count("failed"));
    let all = succeeded + failed;
    (all > 0).then(|| succeeded as f64 / all as f64)
}

/// A check with what was last seen of it.
#[derive(Debug, Clone)]
pub struct CheckView {
    /// The check.
    pub check: Arc<Check>,
    /// What was last seen; `None`: nothing yet.
    pub look: Option<Look>,
    /// So many looks in a row could not tell.
    pub unknown_streak: u32,
    /// See [`genesis_storage::CheckRecord::flapping`].
    pub flapping: bool,
}

/// An issue with what holds it back.
#[derive(Debug, Clone)]
pub struct IssueView {
    /// The issue.
    pub record: IssueRecord,
    /// Its check, where it is still in force.
    pub check: Option<Arc<Check>>,
    /// The failing check that it waits for.
    pub suppressed_by: Option<String>,
}

/// An issue explained.
#[derive(Debug, Clone)]
pub struct Explanation {
    /// The issue.
    pub issue: IssueView,
    /// Its check.
    pub check: CheckView,
    /// Its attempts, oldest first.
    pub attempts: Vec<AttemptRecord>,
    /// What happens next, or why nothing does.
    pub explanation: Vec<String>,
    /// What people can do.
    pub manual: Vec<String>,
}

/// Everything at a glance.
#[derive(Debug, Clone)]
pub struct Overview {
    /// Every check.
    pub checks: Vec<CheckView>,
    /// The open issues, newest first.
    pub issues: Vec<IssueView>,
    /// What holds all actions back.
    pub holds: Vec<(&'static str, ControlRecord)>,
    /// Everything is only planned.
    pub dry_run: bool,
    /// The latest attempts, newest first.
    pub attempts: Vec<AttemptRecord>,
    /// The objectives.
    pub objectives: Vec<Objective>,
    /// Open incidents, newest first.
    pub incidents: Vec<IncidentRecord>,
}

impl Health {
    /// The check with what was last seen of it, or with this look.
    pub fn check_view(&self, check: &Arc<Check>, look: Option<Look>) -> CheckView {
        let live = self.live();
        let seen = live.seen.get(&check.id);
        let look = look.or_else(|| seen.and_then(|seen| seen.last.clone()));
        let record = seen.map(|seen| &seen.known.check);
        CheckView {
            check: Arc::clone(check),
            look,
            unknown_streak: record.map_or(0, |record| record.unknown_streak),
            flapping: record.is_some_and(|record| record.flapping),
        }
    }

    /// The checks of a level and those above it, or those that are named.
    ///
    /// # Errors
    /// `CHECK_UNKNOWN`.
    pub fn selected(&self, level: Level, names: &[String]) -> Result<Vec<Arc<Check>>> {
        if names.is_empty() {
            let checks = self.checks();
            return Ok(checks.values().filter(|check| check.level <= level).cloned().collect());
        }
        // Each once, however often it is named.
        let names: BTreeSet<&String> = names.iter().collect();
        names.into_iter().map(|name| self.known_check(name)).collect()
    }

    /// An issue with what it waits for.
    pub fn issue_view(&self, record: IssueRecord) -> IssueView {
        let suppressed_by = record.open().then(|| self.root(&record.check)).flatten();
        IssueView { check: self.check(&record.check), suppressed_by, record }
    }

    /// What holds all actions back now.
    pub fn holds(&self) -> Vec<(&'static str, ControlRecord)> {
        let now = self.outside.clock.moment();
        let live = self.live();
        let of = |control: Control, code: &'static str| {
            let record = live.controls.get(&control).filter(|record| record.holds(&now));
            record.map(|record| (code, record.clone()))
        };
        [
            of(Control::Disabled, "DISABLED"),
            of(Control::Brake, "STORM"),
            of(Control::CheckerSuspect, "CHECKER_SUSPECT"),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// How the objectives stand.
    ///
    /// # Errors
    /// `STORAGE_FAILED`.
    pub fn objectives(&self) -> Result<Vec<Objective>> {
        let today = day(self.outside.clock.now());
        let first = today.saturating_sub(DAYS - 1);
        let sums = self.state.read(|reading| Ok(reading.tallies().sums(first, today)?))?;
        let objective = |name, key: &str, goal| {
            let outcomes = ["succeeded", "failed", "refused", "cancelled", "unknown"];
            let count = |outcome: &'static str| {
                (outcome, sums.get(&format!("{key}/{outcome}")).copied().unwrap_or(0))
            };
            Objective { name, goal, counts: outcomes.map(count).to_vec() }
        };
        Ok(vec![
            objective("operations", "operation", OPERATIONS_GOAL),
            objective("remediations", "remediation", REMEDIATIONS_GOAL),
        ])
    }

    /// Everything at a glance.
    ///
    /// # Errors
    /// `STORAGE_FAILED`.
    pub fn overview(&self) -> Result<Overview> {
        let checks = self.checks();
        let checks = checks.values().map(|check| self.check_view(check, None)).collect();
        let open: Vec<IssueRecord> =
            self.live().seen.values().filter_map(|seen| seen.open().cloned()).collect();
        let mut issues: Vec<IssueView> =
            open.into_iter().map(|record| self.issue_view(record)).collect();
        issues.sort_by_key(|issue| std::cmp::Reverse(issue.record.opened.wall));
        let attempts = self.state.read(|reading| Ok(reading.health().attempts("", 10)?))?;
        // All that go on, whoever opened them; and what health has opened and could not write down yet.
        let mut incidents =
            self.state.read(|reading| Ok(reading.incidents().list(true, INCIDENTS_SHOWN)?))?;
        for incident in &self.live().incidents {
            if !incidents.iter().any(|it| it.id == incident.id) {
                incidents.push(incident.clone());
            }
        }
        incidents.sort_by_key(|incident| std::cmp::Reverse(incident.opened_at));
        Ok(Overview {
            checks,
            issues,
            holds: self.holds(),
            dry_run: self.config().dry_run,
            attempts,
            objectives: self.objectives()?,
            incidents,
        })
    }

    /// The issue that a person names, open or over, explained.
    ///
    /// # Errors
    /// `CHECK_UNKNOWN`, `ISSUE_NOT_FOUND`, `STORAGE_FAILED`.
    pub fn explain(&self, name: &str) -> Result<Explanation> {
        let (id, episode) = self.parse_issue(name);
        let check = self.known_check(id)?;
        let open = self.live().seen.get(id).and_then(|seen| seen.known.issue.clone());
        let open = open.filter(|issue| episode.is_none_or(|episode| episode == issue.episode));
        let record = match open {
            Some(issue) => issue,
            None => self
                .state
                .read(|reading| match episode {
                    Some(episode) => Ok(reading.health().issue(id, episode)?),
                    None => Ok(reading.health().issues(id, 1)?.pop()),
                })?
                .ok_or_else(|| {
                    let message = format!("{name} has no issue, and had none");
                    Error::not_found("ISSUE_NOT_FOUND", message)
                })?,
        };
        let mut attempts = self.state.read(|reading| Ok(reading.health().attempts(id, 100)?))?;
        attempts.retain(|attempt| attempt.episode == record.episode);
        attempts.reverse();
        let issue = self.issue_view(record);
        let explanation = self.next(&check, &issue);
        let manual = manual(&check, &issue.record);
        Ok(Explanation {
            check: self.check_view(&check, None),
            issue,
            attempts,
            explanation,
            manual,
        })
    }

    /// What happens next to an issue, or why nothing does.
    fn next(&self, check: &Check, issue: &IssueView) -> Vec<String> {
        let record = &issue.record;
        let now = self.outside.clock.moment();
        let spent = words(now.since(&record.since));
        let mut lines = vec![match record.state {
            IssueState::Suspect => format!(
                "bad for {spent}; it counts when it has been so for {} and at {} look(s) in a row",
                words(check.policy.hold),
                check.policy.looks
            ),
            IssueState::Failing => format!("bad for {}", words(now.since(&record.opened))),
            IssueState::Remediating => format!("an action goes on for {spent}"),
            IssueState::Verifying => format!(
                "the action ended {spent} ago; it helped when the check is good at {} looks in a row",
                life::CLEAR_CYCLES
            ),
            IssueState::Cooldown => format!(
                "attempt {} of {} was in vain; the next one waits for {}",
                record.attempts,
                life::ATTEMPTS,
                words(record.cooldown.saturating_sub(now.since(&record.since)))
            ),
            IssueState::Escalated => format!("people were called {spent} ago"),
            IssueState::Resolved => format!("over for {spent}: {}", record.resolution),
        }];
        if let Some(root) = &issue.suppressed_by {
            lines.push(format!("it waits for {root}, on which it depends and which fails itself"));
        }
        if let Some((by, at, note)) = &record.acked {
            let note = if note.is_empty() { String::new() } else { format!(": {note}") };
            lines.push(format!("{by} took notice at {at:.0}{note}"));
        }
        if record.open() && life::actionable(record) {
            let denied = self.denied(check, &now, Own::Waits);
            if denied.is_empty() {
                lines.push("nothing holds it back: it is acted on with the next look".to_owned());
            }
            lines
                .extend(denied.iter().map(|denied| format!("{}: {}", denied.code, denied.message)));
        }
        lines
    }

    /// Issues and attempts of the past, newest first.
    ///
    /// # Errors
    /// `CHECK_UNKNOWN`, `STORAGE_FAILED`.
    pub fn history(
        &self,
        check: &str,
        limit: usize,
    ) -> Result<(Vec<IssueView>, Vec<AttemptRecord>)> {
        let names: Vec<String> = match check {
            "" => self.state.read(|reading| {
                Ok(reading.health().checks()?.into_iter().map(|record| record.check).collect())
            })?,
            check => {
                let known = self.state.read(|reading| Ok(reading.health().check(check)?))?;
                if known.is_none() {
                    self.known_check(check)?;
                }
                vec![check.to_owned()]
            }
        };
        let (mut issues, attempts) = self.state.read(|reading| {
            let mut issues = Vec::new();
            for name in &names {
                issues.extend(reading.health().issues(name, limit)?);
            }
            Ok((issues, reading.health().attempts(check, limit)?))
        })?;
        issues.sort_by_key(|issue| std::cmp::Reverse(issue.opened.wall));
        issues.truncate(limit);
        Ok((issues.into_iter().map(|issue| self.issue_view(issue)).collect(), attempts))
    }

    /// The rows of the matrix, each with the checks that are on it and those of them that have an action.
    pub fn rows(&self) -> Vec<(&'static Row, Vec<String>, Vec<String>)> {
        let checks = self.checks();
        let on = |row: &Row, armed: bool| {
            let on = checks.values().filter(|check| check.row.name == row.name);
            on.filter(|check| !armed || check.action.is_some())
                .map(|check| check.id.clone())
                .collect()
        };
        MATRIX.iter().map(|row| (row, on(row, false), on(row, true))).collect()
    }

    /// Attempts of each action in the last hour and day, and of all together in the last day.
    pub fn budgets(&self) -> (Vec<(String, usize, usize)>, usize) {
        let now = self.outside.clock.moment();
        let checks = self.checks();
        let live = self.live();
        let within = |action: &str, seconds: u64| {
            let window = Duration::from_secs(seconds);
            let recent = live.spent.iter().filter(|spent| now.since(&spent.at) < window);
            recent.filter(|spent| action.is_empty() || spent.action == action).count()
        };
        let armed = checks.values().filter_map(|check| Some((check, check.action.as_ref()?)));
        let each = armed.map(|(check, deed)| {
            let name = check.budget(&deed.action);
            let (hour, day) = (within(&name, 3_600), within(&name, 86_400));
            (name, hour, day)
        });
        (each.collect(), within("", 86_400))
    }

    /// Sets the metrics that are read when they are asked for.
    ///
    /// # Errors
    /// `STORAGE_FAILED`.
    pub fn gauge(&self) -> Result<()> {
        let objectives = self.objectives()?;
        let counts = |name: &str| {
            let found = objectives.iter().find(|objective| objective.name == name);
            found.map_or_else(Vec::new, |objective| objective.counts.clone())
        };
        let (holds, now) = (self.holds(), self.outside.clock.moment());
        let held = |code: &str| holds.iter().any(|(held, _)| *held == code);
        let gauged = {
            let live = self.live();
            let ages = live.seen.iter().filter_map(|(id, seen)| {
                Some((id.clone(), now.since(&seen.last.as_ref()?.at).as_secs_f64()))
            });
            let states = [
                IssueState::Suspect,
                IssueState::Failing,
                IssueState::Remediating,
                IssueState::Verifying,
                IssueState::Cooldown,
                IssueState::Escalated,
            ];
            let count = |state: IssueState| {
                let open = live.seen.values().filter_map(|seen| seen.open());
                let count = open.filter(|issue| issue.state == state).count();
                (state_word(state), i64::try_from(count).unwrap_or(i64::MAX))
            };
            Gauged {
                ages: ages.collect(),
                issues: states.map(count).to_vec(),
                enabled: self.config().remediation && !held("DISABLED"),
                brake: held("STORM"),
                suspect: held("CHECKER_SUSPECT"),
                incidents: i64::try_from(live.incidents.len()).unwrap_or(i64::MAX),
                operations: counts("operations"),
                remediations: counts("remediations"),
            }
        };
        self.metrics.observe(&gauged);
        Ok(())
    }
}

/// A state in a word, for labels.
pub fn state_word(state: IssueState) -> &'static str {
    match state {
        IssueState::Suspect => "suspect",
        IssueState::Failing => "failing",
        IssueState::Remediating => "remediating",
        IssueState::Verifying => "verifying",
        IssueState::Cooldown => "cooldown",
        IssueState::Escalated => "escalated",
        IssueState::Resolved => "resolved",
    }
}

/// The worst of these: CRITICAL beats UNKNOWN, which beats the rest.
pub fn worst(statuses: impl IntoIterator<Item = Status>) -> Status {
    let rank = |status: &Status| match status {
        Status::Ok => 0,
        Status::Warn => 1,
        Status::Unknown => 2,
        Status::Crit => 3,
    };
    statuses.into_iter().max_by_key(rank).unwrap_or(Status::Ok)
}

/// What people can do about an issue.
fn manual(check: &Check, issue: &IssueRecord) -> Vec<String> {
    let mut lines = vec![format!("genesisctl runbook show {}", check.runbook)];
    for (deed, _) in check.deeds() {
        lines.push(format!(
            "genesisctl health run {} --check {} ({})",
            deed.action.name,
            check.id,
            deed.means.words()
        ));
    }
    if check.fallback.is_none() && check.row.name != "none" {
        lines.push(format!("by hand: {}", check.row.fallback.what));
    }
    let id = issue_id(&check.id, issue.episode);
    match (&issue.escalated, &issue.acked, issue.attempts) {
        (_, _, attempts) if issue.open() && attempts >= life::ATTEMPTS => {
            lines.push(format!("genesisctl health resume {id} gives automation new attempts"));
        }
        (Some(_), None, _) if issue.open() => {
            lines.push(format!("genesisctl health ack {id} lets automation go on"));
        }
        (None, _, _) if issue.open() => {
            lines.push(format!(
                "genesisctl health flag {id} --reason TEXT calls people and holds automation"
            ));
        }
        _ => {}
    }
    lines
}

/// One attempt in a line.
pub fn attempt_line(attempt: &AttemptRecord) -> String {
    format!("{} {}: {}", attempt.action, attempt.number, outcome_word(attempt.outcome))
}

/// The host's budget.
pub fn host_budget() -> usize {
    gates::HOST_BUDGET
}
