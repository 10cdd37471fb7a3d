//! How dependencies stand, for the agent's page.

use genesis_proto::v1;
use genesis_storage::{UpdateRecord, UpdateState};

use super::super::clocks::{self, Phase, View};
use super::super::config::Project;
use super::super::look::Looked;
use super::super::plan::DataState;
use super::super::status::Truth;
use super::super::told;
use super::super::{Dependencies, update};
use crate::config::units::human;
use crate::error::Result;

/// The dependencies in a line; `None` where no project is configured.
///
/// # Errors
/// `STORAGE_FAILED`.
pub(super) fn domain(dependencies: &Dependencies) -> Result<Option<v1::DomainStatus>> {
    let config = dependencies.config();
    if config.projects.is_empty() {
        return Ok(None);
    }
    let views = dependencies.clocks("", false)?;
    let running =
        |it: &UpdateRecord| dependencies.runs.active_with_key(&update::key(&it.project)).is_some();
    let open = |it: &UpdateRecord| {
        it.state == UpdateState::Held
            || it.restart_owed
            || !it.ill.is_empty()
            || !it.state.ended() && !running(it)
    };
    let mut stuck = Vec::new();
    for project in &config.projects {
        // What came after it says how the project is now, but for a restart that is owed all the same.
        let own = |it: &UpdateRecord| it.project == project.name;
        let newest =
            dependencies.state.read(|reading| Ok(reading.dependencies().updates(1, own)?))?;
        let owed = |it: &UpdateRecord| own(it) && (it.restart_owed || !it.state.ended());
        let owed =
            dependencies.state.read(|reading| Ok(reading.dependencies().updates(1, owed)?))?;
        stuck.extend(newest.into_iter().chain(owed).find(open));
    }
    Ok(Some(of(&config.projects, &views, &dependencies.looked.load(), &stuck)))
}

/// What is critical and not mended, what is overdue, what is not in service as it should be, and what can't be told. Pure.
fn of(
    projects: &[Project],
    views: &[View],
    looked: &Looked,
    stuck: &[UpdateRecord],
) -> v1::DomainStatus {
    let configured = |name: &str| projects.iter().any(|it| it.name == name);
    let mut found: Vec<(v1::Condition, v1::Finding)> = Vec::new();
    let mut add = |condition, code: &str, subject: &str, message: String| {
        let finding = v1::Finding { code: code.to_owned(), subject: subject.to_owned(), message };
        found.push((condition, finding));
    };
    let (mut urgent, mut overdue) = (0_usize, 0_usize);
    for view in views.iter().filter(|it| configured(&it.record.project)) {
        let clock = &view.record;
        let over = |limit| clocks::passed(view.elapsed, limit).any(|mark| mark == 100);
        let (project, id) = (&clock.project, &clock.id);
        match clocks::phase(clock) {
            Phase::Closed => {}
            Phase::Open if told::found(looked, clock).is_some_and(|it| it.ignored.is_some()) => {}
            Phase::Open => {
                urgent += 1;
                let what = if clock.exploited { "exploited" } else { "critical" };
                let within = human(view.mend_within);
                let (condition, by) = match over(view.mend_within) {
                    true => (v1::Condition::Critical, format!("not mended within {within}")),
                    false => (v1::Condition::Warn, format!("to be mended within {within}")),
                };
                overdue += usize::from(condition == v1::Condition::Critical);
                let message = format!(
                    "{what}, in {}, known since {:.0}, {by}: genesisctl deps update --project {project} --strategy security",
                    clock.package, clock.first_seen_at
                );
                add(condition, "VULNERABILITY_OPEN", &format!("{project}/{id}"), message);
            }
            Phase::Mended if over(view.postmortem_within) => {
                overdue += 1;
                let message = format!(
                    "its post-mortem was to be written within {} of {:.0}: genesisctl deps postmortem close {id} --project {project} --note ...",
                    human(view.postmortem_within),
                    clock.first_seen_at
                );
                let subject = format!("{project}/{id}");
                add(v1::Condition::Warn, "POSTMORTEM_OVERDUE", &subject, message);
            }
            Phase::Mended => {}
        }
    }
    for record in stuck {
        let said = match (record.error.as_str(), record.ill.as_str()) {
            ("", "") => "it is not in service as it should be",
            ("", ill) => ill,
            (error, _) => error,
        };
        let message =
            format!("{said}: genesisctl deps history --project {} has it", record.project);
        add(v1::Condition::Critical, "UPDATE_STUCK", &record.project, message);
    }
    for (project, memory) in looked.memory.iter().filter(|(name, _)| configured(name)) {
        match memory.truth {
            Truth::Pass => {}
            Truth::Fail => add(v1::Condition::Warn, "OLD_IN_MEMORY", project, memory.why.clone()),
            Truth::Unknown if looked.unmanaged.get(project).is_some_and(String::is_empty) => {
                add(v1::Condition::Unknown, "IN_MEMORY_UNKNOWN", project, memory.why.clone());
            }
            Truth::Unknown => {}
        }
    }
    for view in &looked.sources {
        let optional = matches!(view.name.as_str(), "kev" | "epss");
        let lacking = match view.state {
            DataState::Checked => false,
            DataState::NotChecked => !optional,
            DataState::Stale => true,
        };
        if lacking {
            add(v1::Condition::Unknown, "ADVISORIES_STALE", &view.name, view.why.clone());
        }
    }
    if let Some((since, why)) = &looked.failed {
        let message = format!("not looked at since {since:.0}: {why}");
        add(v1::Condition::Unknown, "ADVISORIES_UNAVAILABLE", "dependencies", message);
    }
    let looked_at = match looked.at {
        None => v1::Condition::Unknown,
        Some(_) => v1::Condition::Ok,
    };
    let condition = found.iter().map(|(it, _)| *it).fold(looked_at, Ord::max);
    let seen = if looked.at.is_none() { ", not looked at yet" } else { "" };
    v1::DomainStatus {
        domain: "dependencies".into(),
        condition: condition.into(),
        summary: format!(
            "{} project(s), {urgent} critical or exploited vulnerabilities, {overdue} overdue{seen}",
            projects.len()
        ),
        findings: found.into_iter().map(|(_, finding)| finding).collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use genesis_storage::{Moment, VulnerabilityClockRecord};
    use jiff::Timestamp;

    use super::super::super::config::Managed;
    use super::super::super::scan::SourceView;
    use super::super::super::status::InMemory;
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn view(elapsed: u32, mended: bool) -> View {
        let at = Timestamp::UNIX_EPOCH;
        View {
            record: VulnerabilityClockRecord {
                project: "app".to_owned(),
                package: "ticks".to_owned(),
                id: "CVE-2026-1".to_owned(),
                ids: Vec::new(),
                severity: "CRITICAL".to_owned(),
                exploited: false,
                first_seen_at: at,
                elapsed: Duration::ZERO,
                counted_at: Moment { wall: at, boot: String::new(), since_boot: Duration::ZERO },
                mended_at: mended.then_some(at),
                mended_after: None,
                closed_at: None,
                closed_by: String::new(),
                note: String::new(),
            },
            elapsed: HOUR * elapsed,
            mend_within: HOUR * 24,
            postmortem_within: HOUR * 72,
        }
    }

    #[test]
    fn what_is_said_of_each_state() {
        use v1::Condition::{Critical, Ok, Unknown, Warn};

        let projects = [Project {
            name: "app".to_owned(),
            root: "/app".into(),
            manifests: Vec::new(),
            managed: Managed::default(),
            ignored: Vec::new(),
        }];
        let looked = || Looked { at: Some(Timestamp::UNIX_EPOCH), ..Looked::default() };
        let memory = |truth, managed: &str| {
            let mut looked = looked();
            looked.memory.insert("app".into(), InMemory { truth, ..InMemory::unknown("so") });
            looked.unmanaged.insert("app".into(), managed.into());
            looked
        };
        let data = |name: &str, state| {
            let (name, why) = (name.to_owned(), "old".to_owned());
            Looked { sources: vec![SourceView { name, source: None, state, why }], ..looked() }
        };
        let failed = Looked { failed: Some((Timestamp::UNIX_EPOCH, "gone".into())), ..looked() };
        for (views, looked, condition, codes) in [
            (vec![], looked(), Ok, vec![]),
            (vec![], Looked::default(), Unknown, vec![]),
            (vec![view(1, false)], looked(), Warn, vec!["VULNERABILITY_OPEN"]),
            (vec![view(24, false)], looked(), Critical, vec!["VULNERABILITY_OPEN"]),
            (vec![view(71, true)], looked(), Ok, vec![]),
            (vec![view(72, true)], looked(), Warn, vec!["POSTMORTEM_OVERDUE"]),
            (vec![], memory(Truth::Pass, ""), Ok, vec![]),
            (vec![], memory(Truth::Fail, ""), Warn, vec!["OLD_IN_MEMORY"]),
            (vec![], memory(Truth::Unknown, ""), Unknown, vec!["IN_MEMORY_UNKNOWN"]),
            (vec![], memory(Truth::Unknown, "no test"), Ok, vec![]),
            (vec![], data("PyPI", DataState::Stale), Unknown, vec!["ADVISORIES_STALE"]),
            (vec![], data("PyPI", DataState::NotChecked), Unknown, vec!["ADVISORIES_STALE"]),
            (vec![], data("kev", DataState::NotChecked), Ok, vec![]),
            (vec![], failed, Unknown, vec!["ADVISORIES_UNAVAILABLE"]),
        ] {
            let status = of(&projects, &views, &looked, &[]);
            let found: Vec<&str> = status.findings.iter().map(|it| it.code.as_str()).collect();
            assert_eq!((status.condition(), found), (condition, codes), "{}", status.summary);
        }
        // A project that is configured no more is none of the host's.
        assert!(of(&[], &[view(24, false)], &looked(), &[]).findings.is_empty());
    }
}
