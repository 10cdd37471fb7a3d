//! What people should hear of dependencies.

use async_trait::async_trait;
use genesis_advisories::finding::Kind;
use genesis_storage::{UpdateRecord, UpdateState, VulnerabilityClockRecord};
use jiff::Timestamp;

use super::Dependencies;
use super::clocks::{self, Phase, View};
use super::look::Looked;
use super::plan::DataState;
use super::scan::Found;
use super::status::Truth;
use super::update::ROLLBACK_STRATEGY;
use crate::config::units::human;
use crate::error::{Error, Result};
use crate::events::{Condition, Severity, Source};

/// An update that failed is told for so long at most.
const TOLD: jiff::SignedDuration = jiff::SignedDuration::from_hours(7 * 24);

#[async_trait]
impl Source for Dependencies {
    fn name(&self) -> &'static str {
        "dependencies"
    }

    async fn conditions(&self) -> Result<Vec<Condition>> {
        let looked = self.looked.load_full();
        let config = self.config();
        if looked.at.is_none() && looked.failed.is_none() {
            // What was told before the agent was started anew is not over before somebody has looked.
            return Err(Error::unavailable("ADVISORIES_UNAVAILABLE", "there was no look yet"));
        }
        let now = self.outside.clock.now();
        let mut all = Vec::new();
        for view in self.clocks("", false)? {
            if config.projects.iter().any(|it| it.name == view.record.project) {
                all.extend(of_clock(&view, &looked, now));
            }
        }
        let seen = of_look(&looked, now).into_iter().map(|it| {
            let since = looked.since.get(&it.key).copied().unwrap_or(it.since);
            Condition { since, ..it }
        });
        all.extend(seen);
        for project in &config.projects {
            let own = |it: &UpdateRecord| it.project == project.name;
            let newest =
                self.state.read(|reading| Ok(reading.dependencies().updates(1, own)?))?;
            all.extend(newest.first().and_then(|it| of_update(it, now)));
        }
        // A project that is configured no more may be why it is held.
        let held = |it: &UpdateRecord| {
            it.state == UpdateState::Held
                && !config.projects.iter().any(|own| own.name == it.project)
        };
        let held = self.state.read(|reading| Ok(reading.dependencies().updates(20, held)?))?;
        all.extend(held.iter().filter_map(|it| of_update(it, now)));
        // What has no end, or owes a restart, is heard of whatever came after it, and whatever is configured.
        let open = |it: &UpdateRecord| !it.state.ended() || it.restart_owed;
        for record in self.state.read(|reading| Ok(reading.dependencies().updates(50, open)?))? {
            let key = super::update::key(&record.project);
            all.extend(of_open(&record, self.runs.active_with_key(&key).is_some()));
        }
        if let Some((since, why)) = &looked.failed {
            let title = "dependencies can't be looked at".to_owned();
            let details = vec![why.clone(), "genesisctl deps status".to_owned()];
            let key = "data/look".to_owned();
            all.push(condition(&key, "dependencies", Severity::High, title, details, *since));
        }
        Ok(all)
    }
}

fn condition(
    key: &str,
    subject: &str,
    severity: Severity,
    title: String,
    details: Vec<String>,
    since: Timestamp,
) -> Condition {
    Condition {
        key: format!("dependencies/{key}"),
        subject: subject.to_owned(),
        severity,
        title,
        details,
        runbook: "dependencies".to_owned(),
        since,
        behind: Vec::new(),
    }
}

/// What the last scan has of the vulnerability that a clock runs for.
pub(super) fn found<'a>(looked: &'a Looked, clock: &VulnerabilityClockRecord) -> Option<&'a Found> {
    looked.scans.get(&clock.project).and_then(|scan| {
        scan.findings.iter().find(|it| {
            it.finding.package == clock.package
                && it.finding.ids.iter().any(|known| clock.ids.contains(known))
        })
    })
}

/// What is told of a clock: that it runs, and each mark that it has passed.
fn of_clock(view: &View, looked: &Looked, now: Timestamp) -> Vec<Condition> {
    let clock = &view.record;
    let (project, id) = (&clock.project, &clock.id);
    let own = found(looked, clock);
    let is_ignored = own.is_some_and(|it| it.ignored.is_some());
    let what = match clock.exploited {
        true => "exploited vulnerability",
        false => "critical vulnerability",
    };
    let mut all = Vec::new();
    match clocks::phase(clock) {
        Phase::Closed => {}
        Phase::Open if is_ignored => {}
        Phase::Open => {
            let mut details = vec![format!(
                "to be mended within {} of {}, its post-mortem written within {}",
                human(view.mend_within),
                clock.first_seen_at,
                human(view.postmortem_within)
            )];
            if let Some(found) = own {
                let it = &found.finding;
                let fixed = it.fixed_in.as_deref().map_or_else(
                    || "there is no version yet that mends it".to_owned(),
                    |version| format!("mended in {version}"),
                );
                details
                    .insert(0, format!("{} {}: {fixed}; {}", it.package, it.version, it.summary));
            }
            details.push(format!("genesisctl deps update --project {project} --strategy security"));
            let title = format!("{what} {id} in {project}: {}", clock.package);
            // Use that is made of it is news, also where people know of it already.
            let key = match clock.exploited {
                true => format!("{project}/{}/{id}/exploited", clock.package),
                false => format!("{project}/{}/{id}", clock.package),
            };
            let tell = |key: String, title: String| Condition {
                runbook: "vulnerability".to_owned(),
                ..condition(
                    &key,
                    project,
                    Severity::Critical,
                    title,
                    details.clone(),
                    clock.first_seen_at,
                )
            };
            all.push(tell(key.clone(), title));
            for mark in clocks::passed(view.elapsed, view.mend_within) {
                let within = human(view.mend_within);
                let title = match mark {
                    100 => format!("{what} {id} in {project} was not mended within {within}"),
                    _ => format!(
                        "{mark} % of the {within} to mend {what} {id} in {project} are over"
                    ),
                };
                all.push(tell(format!("{key}/{mark}"), title));
            }
        }
        Phase::Mended => {
            let key = format!("{project}/{}/{id}/post-mortem", clock.package);
            let details = vec![
                format!(
                    "it is to be written within {} of {}",
                    human(view.postmortem_within),
                    clock.first_seen_at
                ),
                format!("genesisctl deps postmortem close {id} --project {project} --note ..."),
            ];
            let since = clock.mended_at.unwrap_or(now);
            let title = format!("the post-mortem of {id} in {project} is to be written");
            all.push(condition(&key, project, Severity::Low, title, details.clone(), since));
            for mark in clocks::passed(view.elapsed, view.postmortem_within) {
                let within = human(view.postmortem_within);
                let (severity, title) = match mark {
                    100 => (
                        Severity::High,
                        format!(
                            "the post-mortem of {id} in {project} was not written within {within}"
                        ),
                    ),
                    _ => (
                        Severity::Medium,
                        format!(
                            "{mark} % of the {within} to write the post-mortem of {id} in {project} are over"
                        ),
                    ),
                };
                all.push(condition(
                    &format!("{key}/{mark}"),
                    project,
                    severity,
                    title,
                    details.clone(),
                    since,
                ));
            }
        }
    }
    all
}

/// What is told of a look.
pub(super) fn of_look(looked: &Looked, now: Timestamp) -> Vec<Condition> {
    let mut all = Vec::new();
    let since = looked.at.unwrap_or(now);
    for view in looked.sources.iter().filter(|it| it.state != DataState::Checked) {
        // Nobody has to give these.
        let optional = matches!(view.name.as_str(), "kev" | "epss");
        if optional && view.state == DataState::NotChecked {
            continue;
        }
        let title = format!("what is known of vulnerabilities is not recent: {}", view.name);
        let details = vec![view.why.clone(), "genesisctl deps status".to_owned()];
        let severity = if optional { Severity::Low } else { Severity::Medium };
        all.push(condition(
            &format!("data/{}", view.name),
            &view.name,
            severity,
            title,
            details,
            since,
        ));
    }
    for (project, scan) in &looked.scans {
        let others: Vec<String> = scan
            .findings
            .iter()
            .filter(|it| it.finding.kind == Kind::Vulnerability && it.ignored.is_none())
            .filter(|it| !clocks::is_urgent(it))
            .map(|it| format!("{} {}: {}", it.finding.package, it.finding.version, it.finding.id))
            .collect();
        if !others.is_empty() {
            let title = format!("{project} has {} known vulnerabilities", others.len());
            let mut details: Vec<String> = others.into_iter().take(10).collect();
            details.push(format!("genesisctl deps scan --project {project}"));
            let key = format!("{project}/vulnerable");
            all.push(condition(&key, project, Severity::Medium, title, details, since));
        }
    }
    for (project, scan) in &looked.scans {
        // What no data says is told with the data.
        let mut unread = scan.unjudged.iter().filter(|it| !it.file.is_empty()).peekable();
        if unread.peek().is_none() {
            continue;
        }
        let title = format!("not all that {project} has locked can be judged");
        let mut details: Vec<String> =
            unread.take(10).map(|it| format!("{}: {}", it.what, it.why)).collect();
        details.push(format!("genesisctl deps scan --project {project}"));
        let key = format!("{project}/unjudged");
        all.push(condition(&key, project, Severity::Medium, title, details, since));
    }
    for (project, memory) in looked.memory.iter().filter(|(_, it)| it.truth == Truth::Fail) {
        let title = format!("{project} does not run what is locked");
        let mut details = vec![memory.why.clone()];
        details.extend(memory.stale.iter().take(5).map(|it| format!("{}: {}", it.pid, it.why)));
        details.push("genesisctl deps status".to_owned());
        all.push(condition(
            &format!("{project}/old-in-memory"),
            project,
            Severity::Medium,
            title,
            details,
            since,
        ));
    }
    all
}

/// What is told of the newest update of a project.
fn of_update(record: &UpdateRecord, now: Timestamp) -> Option<Condition> {
    let project = &record.project;
    let since = record.ended_at.unwrap_or(record.started_at);
    let what = if record.strategy == ROLLBACK_STRATEGY { "rollback" } else { "update" };
    let details =
        vec![record.error.clone(), format!("genesisctl deps history --project {project}")];
    if record.state == UpdateState::Held {
        let title =
            format!("the {what} of {project} was cut off, and what is in service is not known");
        let key = format!("{project}/held");
        return Some(condition(&key, project, Severity::Critical, title, details, since));
    }
    if !record.ill.is_empty() {
        let title =
            format!("{project} does not do well, though what was before is in service again");
        let details = [vec![record.ill.clone()], details].concat();
        let key = format!("{project}/ill");
        return Some(condition(&key, project, Severity::Critical, title, details, since));
    }
    let failed = record.state == UpdateState::RolledBack
        && record.error_code != "CANCELLED"
        && now.duration_since(since) < TOLD;
    failed.then(|| {
        let title =
            format!("the {what} of {project} failed and was taken back: {}", record.error_code);
        condition(&format!("{project}/failed"), project, Severity::High, title, details, since)
    })
}

/// What is told of an update that has no end, or whose service is still to be restarted.
fn of_open(record: &UpdateRecord, running: bool) -> Option<Condition> {
    let project = &record.project;
    let since = record.ended_at.unwrap_or(record.started_at);
    let what = if record.strategy == ROLLBACK_STRATEGY { "rollback" } else { "update" };
    let details =
        vec![record.error.clone(), format!("genesisctl deps history --project {project}")];
    let (key, title) = match record.state.ended() {
        false if running => return None,
        false => ("stuck", format!("the {what} of {project} can't be taken back")),
        true => ("restart", format!("{project} could not be restarted with what is in service")),
    };
    Some(condition(&format!("{project}/{key}"), project, Severity::Critical, title, details, since))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use genesis_storage::Moment;

    use super::*;

    #[test]
    fn use_that_is_made_of_what_is_known_is_news() {
        let view = |exploited| View {
            record: VulnerabilityClockRecord {
                project: "app".to_owned(),
                package: "ticks".to_owned(),
                id: "CVE-2026-1".to_owned(),
                ids: Vec::new(),
                severity: "CRITICAL".to_owned(),
                exploited,
                first_seen_at: Timestamp::UNIX_EPOCH,
                elapsed: Duration::ZERO,
                counted_at: Moment {
                    wall: Timestamp::UNIX_EPOCH,
                    boot: String::new(),
                    since_boot: Duration::ZERO,
                },
                mended_at: None,
                mended_after: None,
                closed_at: None,
                closed_by: String::new(),
                note: String::new(),
            },
            elapsed: Duration::ZERO,
            mend_within: Duration::from_secs(86_400),
            postmortem_within: Duration::from_secs(3 * 86_400),
        };
        let told = |exploited| {
            let all = of_clock(&view(exploited), &Looked::default(), Timestamp::UNIX_EPOCH);
            (all[0].key.clone(), all[0].title.clone())
        };
        let (critical, exploited) = (told(false), told(true));
        assert_ne!(critical.0, exploited.0, "people are told again");
        assert!(exploited.1.starts_with("exploited vulnerability CVE-2026-1"), "{}", exploited.1);
    }
}
