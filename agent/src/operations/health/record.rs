//! What health keeps in the database: taken over at the start, written as it changes. What can't be written yet
//! waits, in order, and is never dropped for something later.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use genesis_storage::{
    AttemptOutcome, AttemptRecord, CheckRecord, Control, ControlRecord, INCIDENTS_KEPT,
    IncidentRecord, Intent, IssueRecord, IssueState, Trigger,
};
use jiff::Timestamp;

use super::check::Check;
use super::gates::Spent;
use super::life::{self, Known};
use super::{
    ACTOR, ATTEMPTS_KEPT, Health, ISSUES_KEPT, SPENT_LIMIT, Seen, Watched, defaults, device,
};
use crate::error::{Error, Result};
use crate::trace;

/// A file system is asked no longer than this which it is.
const MOUNT: Duration = Duration::from_secs(2);
/// So many writes wait at most. Beyond them the oldest go, and the journal says so.
const PENDING_LIMIT: usize = 1_000;
const DAY: Duration = Duration::from_secs(86_400);

/// One audited write.
pub(super) struct Pending {
    pub(super) intent: Intent,
    pub(super) issue: Option<IssueRecord>,
    pub(super) attempt: Option<AttemptRecord>,
    pub(super) incident: Option<IncidentRecord>,
    /// `None` of a control clears it.
    pub(super) controls: Vec<(Control, Option<ControlRecord>)>,
    /// What is counted.
    pub(super) tally: Option<&'static str>,
}

impl Pending {
    pub(super) fn new(intent: Intent) -> Self {
        Self {
            // It may be written by somebody else.
            intent: trace::stamp(intent),
            issue: None,
            attempt: None,
            incident: None,
            controls: Vec::new(),
            tally: None,
        }
    }
}

/// The day of an instant, as tallies count them.
pub(super) fn day(at: Timestamp) -> u32 {
    u32::try_from(at.as_second().div_euclid(86_400)).unwrap_or(0)
}

/// The name under which the end of an attempt is counted; `None`: it is not.
pub(super) fn tally(outcome: AttemptOutcome) -> Option<&'static str> {
    match outcome {
        AttemptOutcome::Succeeded => Some("remediation/succeeded"),
        AttemptOutcome::Failed => Some("remediation/failed"),
        AttemptOutcome::Unknown => Some("remediation/unknown"),
        AttemptOutcome::Intent
        | AttemptOutcome::Done
        | AttemptOutcome::NotNeeded
        | AttemptOutcome::DryRun => None,
    }
}

impl Health {
    /// Takes over controls, open incidents and the attempts of the last day.
    pub(super) fn load(&self) -> Result<()> {
        let now = &self.started;
        let mut live = self.live();
        self.state.read(|reading| {
            for control in [
                Control::Disabled,
                Control::Brake,
                Control::CheckerSuspect,
                Control::Resumed,
                Control::BrakeReleased,
            ] {
                if let Some(record) = reading.health().control(control)? {
                    live.controls.insert(control, record);
                }
            }
            live.incidents = reading.incidents().list(true, INCIDENTS_KEPT)?;
            // The end of others is seen elsewhere.
            live.incidents.retain(|incident| Trigger::OF_HEALTH.contains(&incident.trigger));
            live.incidents.reverse();
            let attempts = reading.health().attempts("", SPENT_LIMIT)?;
            live.spent = attempts
                .into_iter()
                .filter(|attempt| counts(attempt) && now.since(&attempt.at) < DAY)
                .map(|attempt| Spent {
                    attempt: attempt.id,
                    action: format!("{} of {}", attempt.action, attempt.check),
                    destructive: attempt.destructive,
                    at: attempt.at,
                })
                .collect();
            Ok(())
        })
    }

    /// Ends the attempts that nobody will look after any more: those by hand that were cut off, and those of issues
    /// that are over.
    pub(super) fn end_what_was_left(&self) -> Result<()> {
        let attempts =
            self.state.read(|reading| Ok(reading.health().attempts("", SPENT_LIMIT)?))?;
        let looked_after: BTreeSet<String> = {
            let live = self.live();
            live.seen.values().filter_map(|seen| Some(seen.open()?.attempt.clone())).collect()
        };
        for attempt in attempts {
            let left = matches!(attempt.outcome, AttemptOutcome::Intent | AttemptOutcome::Done);
            if left && !looked_after.contains(&attempt.id) {
                self.conclude(&attempt.id, AttemptOutcome::Unknown, "", "")?;
            }
        }
        Ok(())
    }

    /// The file system of each folder that is watched. A dead network mount is not waited for, and not watched by
    /// itself: whoever needs it configures a check of it.
    async fn devices(&self, watched: &Watched) -> BTreeMap<PathBuf, Option<u64>> {
        let folders = watched.folders.iter().chain([&watched.copies]);
        let asked = folders.map(|folder| async {
            let path = folder.clone();
            let found = self.aside.run(folder, move || device(&path));
            let found = tokio::time::timeout(MOUNT, found).await;
            (folder.clone(), found.ok().and_then(Result::ok).flatten())
        });
        futures_util::future::join_all(asked).await.into_iter().collect()
    }

    /// Makes the configured and the built-in checks those in force, and takes over what is known of each. Issues of
    /// checks that are gone are put away.
    pub(super) async fn use_checks(&self) -> Result<()> {
        let watched = self.watched.load_full();
        let devices = self.devices(&watched).await;
        let _alone = self.deciding.lock().await;
        let device = |folder: &Path| devices.get(folder).copied().flatten();
        let checks = defaults::checks(&self.config(), &watched, device);
        let checks: BTreeMap<String, Arc<Check>> =
            checks.into_iter().map(|check| (check.id.clone(), Arc::new(check))).collect();
        let now = self.outside.clock.moment();
        let (before, mut unproven) = (self.checks(), Vec::new());
        let (mut known, mut gone) = (Vec::new(), Vec::new());
        self.state.read(|reading| {
            let mut names: BTreeSet<String> = checks.keys().cloned().collect();
            names.extend(reading.health().checks()?.into_iter().map(|record| record.check));
            for name in names {
                let record = reading.health().check(&name)?;
                let issue = reading.health().issues(&name, 1)?.pop();
                let issue = issue.filter(IssueRecord::open);
                if checks.contains_key(&name) {
                    let check = record
                        .unwrap_or_else(|| CheckRecord { check: name, ..CheckRecord::default() });
                    known.push(Known { check, issue });
                } else {
                    gone.extend(issue);
                }
            }
            Ok(())
        })?;
        {
            let mut live = self.live();
            let live = &mut *live;
            live.seen.retain(|id, seen| {
                let stays = checks.contains_key(id);
                if let (false, Some(issue)) = (stays, seen.open()) {
                    // Nobody looks any more whether it helped; who waits for the verdict is let go.
                    live.verdicts.remove(&issue.attempt);
                }
                if !stays {
                    self.metrics.forget(id);
                    live.asked.remove(id);
                }
                stays
            });
            for (id, seen) in &mut live.seen {
                let same = |check: &Arc<Check>| {
                    checks.get(id).is_some_and(|now| {
                        (&now.probe, &now.limits) == (&check.probe, &check.limits)
                    })
                };
                let changed = before.get(id).is_some_and(|check| !same(check));
                if let (true, Some(issue)) = (changed, &mut seen.known.issue)
                    && issue.state == IssueState::Verifying
                {
                    // What is looked at now is another thing, and proves nothing about that attempt.
                    unproven.push(issue.attempt.clone());
                    life::enter_unless_called(issue, IssueState::Failing, &now);
                }
            }
            for mut known in known {
                live.seen.entry(known.check.check.clone()).or_insert_with(|| {
                    let stored = known.clone();
                    if let Some(issue) = &mut known.issue {
                        life::recover(issue, &now);
                    }
                    // What has been bad all along has not turned bad with this start.
                    let bad_since = known.issue.as_ref().map(|issue| issue.opened.clone());
                    Seen { known, bad_since, ..Seen::new(stored) }
                });
            }
        }
        for (deed, _) in checks.values().flat_map(|check| check.deeds()) {
            self.metrics.armed(deed.action.name);
        }
        self.checks.store(checks.into());
        for attempt in unproven {
            self.conclude(
                &attempt,
                AttemptOutcome::Unknown,
                "",
                "its check was changed meanwhile",
            )?;
        }
        for issue in &gone {
            let verifying = issue.state == IssueState::Verifying;
            if verifying {
                self.conclude(&issue.attempt, AttemptOutcome::Unknown, "", "")?;
            }
        }
        self.persist().await;
        if gone.is_empty() {
            return Ok(());
        }
        self.state
            .bookkeep(move |books| {
                for mut issue in gone {
                    issue.resolution = "its check is not configured any more".into();
                    life::enter(&mut issue, IssueState::Resolved, &now);
                    books.health().put_issue(&issue, ISSUES_KEPT)?;
                }
                Ok(())
            })
            .await?;
        self.end_incidents();
        self.persist().await;
        Ok(())
    }

    /// Puts an audited write into the queue; [`Health::persist`] carries it out.
    pub(super) fn later(&self, pending: Pending) {
        let mut live = self.live();
        if live.pending.len() >= PENDING_LIMIT {
            tracing::error!("health could not write for so long that the oldest of it is dropped");
            // What holds actions back is the last to go.
            let oldest = live.pending.iter().position(|waiting| waiting.controls.is_empty());
            live.pending.remove(oldest.unwrap_or(0));
        }
        live.pending.push_back(pending);
    }

    /// Writes what waits, and what has changed of the checks and their issues. What fails is tried again with the
    /// next batch.
    pub(super) async fn persist(&self) {
        if let Err(error) = self.write_pending().await.and(self.write_changes().await) {
            tracing::error!(
                error = error.chain(),
                "health could not be recorded; it is tried again"
            );
        }
    }

    /// Writes what waits, in order. Called before every other write as well, or what is older would replace it.
    pub(super) async fn write_pending(&self) -> Result<()> {
        loop {
            let Some(pending) = self.live().pending.pop_front() else { return Ok(()) };
            let day = day(self.outside.clock.now());
            let Pending { intent, issue, attempt, incident, controls, tally } = pending;
            let (kept_issue, kept_attempt) = (issue.clone(), attempt.clone());
            let (kept_incident, kept_controls) = (incident.clone(), controls.clone());
            let again = intent.clone();
            let write = self.state.write(intent, move |writing| {
                if let Some(issue) = &issue {
                    writing.health().put_issue(issue, ISSUES_KEPT)?;
                }
                if let Some(attempt) = &attempt {
                    writing.health().put_attempt(attempt, ATTEMPTS_KEPT)?;
                }
                if let Some(incident) = &incident {
                    writing.incidents().put(incident, INCIDENTS_KEPT)?;
                }
                for (control, record) in &controls {
                    match record {
                        Some(record) => writing.health().set_control(*control, record)?,
                        None => writing.health().clear_control(*control).map(drop)?,
                    }
                }
                if let Some(tally) = tally {
                    writing.count().count(day, tally)?;
                }
                Ok::<_, Error>(())
            });
            let written = trace::apart(write).await;
            if let Err(error) = written {
                self.live().pending.push_front(Pending {
                    intent: again,
                    issue: kept_issue,
                    attempt: kept_attempt,
                    incident: kept_incident,
                    controls: kept_controls,
                    tally,
                });
                return Err(error);
            }
        }
    }

    async fn write_changes(&self) -> Result<()> {
        let mut changed: Vec<Known> = Vec::new();
        let mut dropped: Vec<(String, u64)> = Vec::new();
        for (id, seen) in &self.live().seen {
            if essence(&seen.known) == essence(&seen.stored) {
                continue;
            }
            changed.push(seen.known.clone());
            let episode = seen.known.issue.as_ref().map(|issue| issue.episode);
            if let Some(before) = &seen.stored.issue
                && before.state == IssueState::Suspect
                && episode != Some(before.episode)
            {
                dropped.push((id.clone(), before.episode));
            }
        }
        if changed.is_empty() {
            return Ok(());
        }
        let written = changed.clone();
        self.state
            .bookkeep(move |books| {
                for (check, episode) in &dropped {
                    books.health().remove_issue(check, *episode)?;
                }
                for known in &changed {
                    books.health().put_check(&known.check)?;
                    if let Some(issue) = &known.issue {
                        books.health().put_issue(issue, ISSUES_KEPT)?;
                    }
                }
                Ok::<_, Error>(())
            })
            .await?;
        let mut live = self.live();
        for known in written {
            if let Some(seen) = live.seen.get_mut(&known.check.check) {
                seen.stored = known;
            }
        }
        Ok(())
    }
}

/// Whether an attempt was one that budgets count: begun by itself.
fn counts(attempt: &AttemptRecord) -> bool {
    attempt.actor == ACTOR
        && !matches!(attempt.outcome, AttemptOutcome::NotNeeded | AttemptOutcome::DryRun)
}

/// What of it is worth a write: not the words, which change with every look.
fn essence(known: &Known) -> Known {
    let mut known = known.clone();
    if let Some(issue) = &mut known.issue {
        issue.detail.clear();
        issue.denials.iter_mut().for_each(|denial| denial.message.clear());
        issue.bad_streak = 0;
        // One clear look after the other is no news either; the first one is.
        issue.clear_streak = issue.clear_streak.min(1);
    }
    known
}

/// An issue by its name.
pub(super) fn issue_id(check: &str, episode: u64) -> String {
    format!("{check}#{episode}")
}
