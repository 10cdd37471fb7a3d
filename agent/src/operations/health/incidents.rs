//! What concerns the whole host: the brake, doubt about the checks themselves, cascades; and the incidents that
//! people are called by.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use genesis_storage::{
    AttemptOutcome, Control, ControlRecord, IncidentRecord, IssueRecord, Moment, Trigger,
};

use super::check::{Check, Severity};
use super::gates::{self, Cascade, Dependencies};
use super::intake::confirmed;
use super::record::{Pending, issue_id};
use super::{ACTOR, Health, Seen};

/// However slow the checks are, a cascade is called after this time.
const CASCADE_WAIT: Duration = Duration::from_secs(60);

/// What each check depends on.
pub(super) fn dependencies(checks: &BTreeMap<String, Arc<Check>>) -> Dependencies {
    checks.iter().map(|(id, check)| (id.clone(), check.depends_on.clone())).collect()
}

/// The checks with an open issue: until it is over it explains what depends on it, and from its first bad look on.
pub(super) fn open(seen: &BTreeMap<String, Seen>) -> BTreeSet<&str> {
    seen.iter().filter(|(_, seen)| seen.open().is_some()).map(|(id, _)| id.as_str()).collect()
}

/// The checks with an issue that is beyond suspicion, each with the moment when it turned bad.
pub(super) fn failing(seen: &BTreeMap<String, Seen>) -> BTreeMap<&str, &Moment> {
    let open = seen.iter().filter_map(|(id, seen)| Some((id.as_str(), seen.open()?)));
    open.filter(|(_, issue)| confirmed(issue.state))
        // What has cleared and is only waited for is no part of a cascade.
        .filter(|(_, issue)| issue.clear_streak == 0)
        .map(|(id, issue)| (id, &issue.opened))
        .collect()
}

impl Health {
    /// Ends what has had its time, and sets or lifts the doubt about the checks.
    pub(super) fn look_at_the_whole(&self, now: &Moment) {
        let over = |live: &super::Live| {
            let disabled = live.controls.get(&Control::Disabled)?;
            (!disabled.holds(now)).then(|| disabled.clone())
        };
        let over = over(&self.live());
        if let Some(record) = over {
            let resumed = resumed(now, ACTOR, "its time was over");
            let intent = self
                .intent(ACTOR, "health.remediation.enabled")
                .detail(format!("the time that {} gave it was over", record.by));
            self.control(
                intent,
                vec![(Control::Disabled, None), (Control::Resumed, Some(resumed))],
            );
        }
        let (doubted, suspect) = (self.checkers_doubted(), self.checkers_suspect(now));
        match (doubted, suspect) {
            (false, Some(why)) => self.doubt(why, now),
            (true, _) if self.mostly_well() => {
                let intent = self
                    .intent(ACTOR, "health.checker-suspect.ended")
                    .detail("no more than half of the checks are bad");
                self.live().trusted_since = Some(now.clone());
                self.control(intent, vec![(Control::CheckerSuspect, None)]);
            }
            _ => {}
        }
    }

    /// Sets or clears controls, at once in memory and then in the database.
    pub(super) fn control(
        &self,
        intent: genesis_storage::Intent,
        controls: Vec<(Control, Option<ControlRecord>)>,
    ) {
        {
            let mut live = self.live();
            for (control, record) in &controls {
                match record {
                    Some(record) => drop(live.controls.insert(*control, record.clone())),
                    None => drop(live.controls.remove(control)),
                }
            }
        }
        self.later(Pending { controls, ..Pending::new(intent) });
    }

    /// Whether the checks themselves are doubted.
    pub(super) fn checkers_doubted(&self) -> bool {
        self.live().controls.contains_key(&Control::CheckerSuspect)
    }

    /// Whether so much turned bad at once that rather the checks are at fault.
    fn checkers_suspect(&self, now: &Moment) -> Option<String> {
        let (checks, live) = (self.checks(), self.live());
        let seen: Vec<gates::Seen<'_>> = live
            .seen
            .iter()
            .map(|(id, seen)| gates::Seen { check: id, bad_since: seen.bad_since.as_ref() })
            .collect();
        // The interval of the slowest check that is bad: those of one pace turn bad within one of theirs, and the time
        // that a look may take, lest a cause between two looks of a round is none.
        let slowest = seen
            .iter()
            .filter(|seen| seen.bad_since.is_some())
            .filter_map(|seen| checks.get(seen.check))
            .map(|check| check.policy.interval + check.timeout)
            .max()?;
        let bad = seen.iter().filter(|seen| seen.bad_since.is_some()).count();
        gates::checker_suspect(&seen, &dependencies(&checks), slowest, now)
            .then(|| format!("{bad} of {} checks turned bad at once", seen.len()))
    }

    /// What was not looked at since the start may be anything, and is not well.
    fn mostly_well(&self) -> bool {
        let live = self.live();
        let well = |seen: &&Seen| seen.last.is_some() && seen.bad_since.is_none();
        live.seen.values().filter(well).count() * 2 >= live.seen.len()
    }

    fn doubt(&self, why: String, now: &Moment) {
        let control = ControlRecord {
            since: now.clone(),
            lasts: None,
            by: ACTOR.to_owned(),
            reason: why.clone(),
        };
        let members = self.bad_issues();
        let title = format!("{why}: rather the checks are at fault than all of them");
        let incident = self.host_incident(Trigger::CheckerSuspect, title, members, "");
        let incident = self.in_place_of_cascade(incident);
        let intent = self
            .intent(ACTOR, "health.checker-suspect.set")
            .detail(why)
            .correlation_id(incident.id.clone());
        self.live().controls.insert(Control::CheckerSuspect, control.clone());
        let controls = vec![(Control::CheckerSuspect, Some(control))];
        self.open_incident(incident, Pending { controls, ..Pending::new(intent) });
    }

    /// Sets the brake: too many actions in too short a time.
    pub(super) fn brake(&self, now: &Moment) {
        let minutes = gates::STORM_WINDOW.as_secs() / 60;
        let why = format!("more than {} actions within {minutes} minutes", gates::STORM);
        let control = ControlRecord {
            since: now.clone(),
            lasts: None,
            by: ACTOR.to_owned(),
            reason: why.clone(),
        };
        let title = format!("{why}: the brake is set until somebody releases it");
        let incident = self.host_incident(Trigger::Storm, title, self.bad_issues(), "");
        let incident = self.in_place_of_cascade(incident);
        let intent =
            self.intent(ACTOR, "health.brake.set").detail(why).correlation_id(incident.id.clone());
        self.live().controls.insert(Control::Brake, control.clone());
        let controls = vec![(Control::Brake, Some(control))];
        self.open_incident(incident, Pending { controls, ..Pending::new(intent) });
    }

    /// What is greater takes the place of the cascade that people were called about before it was known, so that one
    /// cause stays one call.
    fn in_place_of_cascade(&self, greater: IncidentRecord) -> IncidentRecord {
        let mut live = self.live();
        let shared = |incident: &IncidentRecord| {
            let mut shared = 0;
            if incident.trigger == Trigger::Cascade {
                shared = incident.issues.iter().filter(|it| greater.issues.contains(it)).count();
            }
            shared
        };
        let most = live.incidents.iter().enumerate().max_by_key(|(_, incident)| shared(incident));
        let Some((at, _)) = most.filter(|(_, incident)| shared(incident) > 0) else {
            return greater;
        };
        let cascade = live.incidents.remove(at);
        let before = format!("at first CASCADE: {}", cascade.title);
        let mut issues = cascade.issues;
        let more = greater.issues.into_iter().filter(|issue| !issues.contains(issue));
        let more: Vec<_> = more.collect();
        issues.extend(more);
        IncidentRecord {
            id: cascade.id,
            opened_at: cascade.opened_at,
            details: [vec![before], greater.details].concat(),
            issues,
            ..greater
        }
    }

    fn bad_issues(&self) -> Vec<(String, u64)> {
        let live = self.live();
        let open =
            live.seen.iter().filter_map(|(id, seen)| Some((id.clone(), seen.open()?.episode)));
        open.collect()
    }

    /// Calls people about several issues at once, unless something greater explains them: a look later every other
    /// check has had its say, too, and the doubt comes first.
    pub(super) fn look_for_cascades(&self, now: &Moment) {
        if self.checkers_doubted() || self.live().controls.contains_key(&Control::Brake) {
            return;
        }
        let checks = self.checks();
        let found: Vec<_> = {
            let live = self.live();
            let cascades = gates::cascades(&failing(&live.seen), &dependencies(&checks));
            let rounds = checks.values().map(|check| check.policy.interval + check.timeout);
            let round = rounds.max().unwrap_or_default().min(CASCADE_WAIT);
            let early = |since: &Moment| now.since(since) < round;
            let opened = |id: &String| Some(&live.seen.get(id)?.open()?.opened);
            let new = cascades.into_iter().filter(|Cascade { root, members }| {
                let known = |incident: &IncidentRecord| {
                    let shares = || incident.issues.iter().any(|(it, _)| members.contains(it));
                    let root = root.as_deref().unwrap_or_default();
                    match incident.trigger {
                        Trigger::Cascade if incident.root != root => false,
                        Trigger::Cascade => !root.is_empty() || shares(),
                        // Somebody came for the storm, and what set it off goes on.
                        Trigger::Storm => shares(),
                        _ => false,
                    }
                };
                let mut since = members.iter().filter_map(opened).chain(&live.trusted_since);
                !live.incidents.iter().any(known) && !since.any(early)
            });
            let issue = |id: &String| Some((id.clone(), live.seen.get(id)?.open()?.episode));
            let with_issues = new.map(|Cascade { root, members }| {
                (root.unwrap_or_default(), members.iter().filter_map(issue).collect::<Vec<_>>())
            });
            with_issues.collect()
        };
        for (root, members) in found {
            let names: Vec<&str> = members.iter().map(|(check, _)| check.as_str()).collect();
            let names = names.join(", ");
            let title = match root.as_str() {
                "" => format!("{names} fail within minutes of each other"),
                root => format!("{root} fails, and with it what depends on it: {names}"),
            };
            let incident = self.host_incident(Trigger::Cascade, title, members, &root);
            let intent = self
                .intent(ACTOR, "health.escalated")
                .target(if root.is_empty() { "host".to_owned() } else { root })
                .outcome(Trigger::Cascade.code())
                .detail(incident.title.clone())
                .correlation_id(incident.id.clone());
            self.open_incident(incident, Pending::new(intent));
        }
    }

    fn host_incident(
        &self,
        trigger: Trigger,
        title: String,
        issues: Vec<(String, u64)>,
        root: &str,
    ) -> IncidentRecord {
        let checks = self.checks();
        let details = {
            let live = self.live();
            let line = |(check, episode): &(String, u64)| {
                let detail = live.seen.get(check).and_then(|seen| seen.last.as_ref());
                let detail = detail.map_or("", |look| look.detail.as_str());
                format!("{}: {detail}", issue_id(check, *episode))
            };
            issues.iter().map(line).collect()
        };
        let severities = issues.iter().filter_map(|(id, _)| checks.get(id));
        let worst = severities.map(|check| check.severity).max().unwrap_or(Severity::Critical);
        let runbook = match trigger {
            Trigger::Storm => "storm",
            Trigger::CheckerSuspect => "checker-suspect",
            _ => "cascade",
        };
        IncidentRecord {
            details,
            issues,
            root: root.to_owned(),
            severity: worst.name().to_owned(),
            runbook: runbook.to_owned(),
            ..self.new_incident(trigger, title, ACTOR)
        }
    }

    /// The incident of one issue: what is wrong, and what was tried.
    pub(super) fn incident_of(
        &self,
        check: &Check,
        issue: &IssueRecord,
        trigger: Trigger,
        (by, reason): (&str, &str),
    ) -> IncidentRecord {
        let id = &check.id;
        let since = issue.opened.wall;
        let title = match trigger {
            Trigger::AttemptsFailed => {
                format!("{id}: {} attempts did not help: {}", issue.attempts, issue.detail)
            }
            Trigger::CriticalTooLong => {
                let spent = self.outside.clock.moment().since(&issue.opened);
                format!("{id} has been critical for {}: {}", words(spent), issue.detail)
            }
            _ => format!("{id} was flagged: {}", issue.detail),
        };
        let mut details = vec![format!("bad since {since:.0}")];
        let attempts = self.state.read(|reading| Ok(reading.health().attempts(id, 20)?));
        let of_episode = attempts.unwrap_or_default();
        details.extend(
            of_episode.iter().rev().filter(|attempt| attempt.episode == issue.episode).map(
                |attempt| {
                    let end = outcome_word(attempt.outcome);
                    format!(
                        "attempt {} of {}: {end}: {}",
                        attempt.number, attempt.action, attempt.detail
                    )
                },
            ),
        );
        details.extend(
            issue.denials.iter().map(|denial| format!("{}: {}", denial.code, denial.message)),
        );
        IncidentRecord {
            details,
            issues: vec![(id.clone(), issue.episode)],
            severity: check.severity.name().to_owned(),
            reason: reason.to_owned(),
            runbook: check.runbook.to_owned(),
            ..self.new_incident(trigger, title, by)
        }
    }

    fn new_incident(&self, trigger: Trigger, title: String, by: &str) -> IncidentRecord {
        IncidentRecord::new((self.new_id(), self.outside.clock.now()), trigger, title, by)
    }

    /// Opens an incident together with what goes with it.
    pub(super) fn open_incident(&self, incident: IncidentRecord, pending: Pending) {
        tracing::warn!(incident = incident.id, "{}", incident.title);
        self.metrics.escalated(incident.trigger.code());
        self.live().incidents.push(incident.clone());
        self.later(Pending { incident: Some(incident), ..pending });
    }

    /// Ends the incidents whose condition is over.
    pub(super) fn end_incidents(&self) {
        let mut ended = Vec::new();
        {
            let mut live = self.live();
            let live = &mut *live;
            live.incidents.retain(|incident| {
                let issues_over = || {
                    incident.issues.iter().all(|(check, episode)| {
                        let open = live.seen.get(check).and_then(Seen::open);
                        open.is_none_or(|issue| issue.episode != *episode)
                    })
                };
                let over = match incident.trigger {
                    Trigger::Storm => !live.controls.contains_key(&Control::Brake) && issues_over(),
                    Trigger::CheckerSuspect => {
                        !live.controls.contains_key(&Control::CheckerSuspect)
                    }
                    _ => issues_over(),
                };
                if over {
                    ended.push(incident.clone());
                }
                !over
            });
        }
        for mut incident in ended {
            incident.over_at = Some(self.outside.clock.now());
            incident.resolution = match incident.trigger {
                Trigger::Storm => "the brake was released, and its issues are over",
                Trigger::CheckerSuspect => "the checks recovered",
                _ => "its condition cleared and stayed clear",
            }
            .into();
            let intent = self
                .intent(ACTOR, "health.incident.over")
                .target(incident.issues.first().map_or("host", |(check, _)| check.as_str()))
                .detail(incident.title.clone())
                .correlation_id(incident.id.clone());
            self.later(Pending { incident: Some(incident), ..Pending::new(intent) });
        }
    }
}

/// How an attempt ended, in a word.
pub(super) fn outcome_word(outcome: AttemptOutcome) -> &'static str {
    match outcome {
        AttemptOutcome::Intent => "announced",
        AttemptOutcome::Done => "carried out",
        AttemptOutcome::Succeeded => "helped",
        AttemptOutcome::Failed => "did not help",
        AttemptOutcome::NotNeeded => "not needed",
        AttemptOutcome::DryRun => "planned only",
        AttemptOutcome::Unknown => "unknown",
    }
}

/// The record of when actions were allowed again.
pub(super) fn resumed(now: &Moment, by: &str, reason: &str) -> ControlRecord {
    ControlRecord { since: now.clone(), lasts: None, by: by.to_owned(), reason: reason.to_owned() }
}

/// A time span in words.
pub(super) fn words(span: Duration) -> String {
    match span.as_secs() {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds @ 60..3_600 => format!("{} min", seconds / 60),
        seconds => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
    }
}
