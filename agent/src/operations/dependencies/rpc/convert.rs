//! Updates, releases, clocks and what is ignored, as the contract has them.

use genesis_advisories::Ecosystem;
use genesis_advisories::bounds::{Change, Strategy};
use genesis_proto::v1;
use genesis_storage::{
    ChangeRecord, DependencyReleaseRecord, IgnoredFindingRecord, UpdateRecord, UpdateState,
};
use jiff::Timestamp;

use super::super::clocks::{self, Phase, View};
use super::super::config::Project;
use super::super::config::managed;
use super::super::look::Looked;
use super::super::outlook::Check;
use super::super::plan::Verdict;
use super::super::status::Truth;
use super::super::{Dependencies, update};
use super::{finding, severity, unjudged};
use crate::error::{Error, Result};
use crate::server::convert::{duration, maybe, time};

pub(crate) fn strategy(number: i32) -> Result<Option<Strategy>> {
    match v1::UpdateStrategy::try_from(number) {
        Ok(v1::UpdateStrategy::Unspecified) => Ok(None),
        Ok(v1::UpdateStrategy::Conservative) => Ok(Some(Strategy::Conservative)),
        Ok(v1::UpdateStrategy::Moderate) => Ok(Some(Strategy::Moderate)),
        Ok(v1::UpdateStrategy::Aggressive) => Ok(Some(Strategy::Aggressive)),
        Ok(v1::UpdateStrategy::Security) => Ok(Some(Strategy::Security)),
        Err(_) => Err(Error::invalid("STRATEGY_INVALID", format!("there is no strategy {number}"))),
    }
}

fn strategy_of(strategy: Strategy) -> i32 {
    let strategy = match strategy {
        Strategy::Conservative => v1::UpdateStrategy::Conservative,
        Strategy::Moderate => v1::UpdateStrategy::Moderate,
        Strategy::Aggressive => v1::UpdateStrategy::Aggressive,
        Strategy::Security => v1::UpdateStrategy::Security,
    };
    strategy.into()
}

fn change(record: &ChangeRecord, ecosystem: &Ecosystem) -> v1::PackageChange {
    let kind = match (&record.from, &record.to) {
        (None, _) => v1::VersionChange::Added,
        (_, None) => v1::VersionChange::Removed,
        _ => match update::plan::kind(ecosystem, record) {
            Some(Change::Patch | Change::Same) => v1::VersionChange::Patch,
            Some(Change::Minor) => v1::VersionChange::Minor,
            Some(Change::Major) => v1::VersionChange::Major,
            Some(Change::Downgrade) => v1::VersionChange::Downgrade,
            None => v1::VersionChange::Unspecified,
        },
    };
    v1::PackageChange {
        package: record.package.clone(),
        from: record.from.clone().unwrap_or_default(),
        to: record.to.clone().unwrap_or_default(),
        change: kind.into(),
        fixes: record.fixes.clone(),
    }
}

pub(super) fn check(it: Check) -> v1::ProjectCheck {
    let mut answer = v1::ProjectCheck {
        project: it.project.name.clone(),
        strategy: strategy_of(it.strategy),
        min_release_age: Some(duration(match it.strategy {
            Strategy::Security => std::time::Duration::ZERO,
            _ => it.project.managed.min_release_age,
        })),
        ..v1::ProjectCheck::default()
    };
    match it.found {
        Ok(found) => {
            let ecosystem = &found.prospect.ecosystem;
            let changes =
                |all: &[ChangeRecord]| all.iter().map(|it| change(it, ecosystem)).collect();
            answer.changes = changes(&found.prospect.changes);
            answer.beyond = changes(&found.beyond);
            answer.unmanaged = found.unmanaged.into_iter().map(unjudged).collect();
            answer.remaining = found.remaining.into_iter().map(finding).collect();
            answer.age_checked = found.prospect.age_checked;
            answer.unjudged = found.prospect.unjudged;
        }
        Err(error) => {
            answer.error = error.chain();
            answer.error_code = error.code.to_owned();
        }
    }
    answer
}

fn state(state: UpdateState) -> i32 {
    let state = match state {
        UpdateState::Backup => v1::UpdateState::Backup,
        UpdateState::Resolve => v1::UpdateState::Resolve,
        UpdateState::Scan => v1::UpdateState::Scan,
        UpdateState::Build => v1::UpdateState::Build,
        UpdateState::Test => v1::UpdateState::Test,
        UpdateState::Deploy => v1::UpdateState::Deploy,
        UpdateState::Restart => v1::UpdateState::Restart,
        UpdateState::Health => v1::UpdateState::Health,
        UpdateState::Commit => v1::UpdateState::Commit,
        UpdateState::Succeeded => v1::UpdateState::Succeeded,
        UpdateState::RolledBack => v1::UpdateState::RolledBack,
        UpdateState::Unchanged => v1::UpdateState::Unchanged,
        UpdateState::Held => v1::UpdateState::Held,
    };
    state.into()
}

pub(super) fn updated(record: UpdateRecord, config: &super::super::Config) -> v1::DependencyUpdate {
    let project = config.projects.iter().find(|it| it.name == record.project);
    let ecosystem = project.and_then(|it| update::ecosystem(it).ok()).unwrap_or(Ecosystem::PyPI);
    let strategy = managed::strategy(&record.strategy).ok().map_or(0, strategy_of);
    v1::DependencyUpdate {
        strategy,
        state: state(record.state),
        changes: record.changes.iter().map(|it| change(it, &ecosystem)).collect(),
        failed_in: record.failed_in.map_or(0, state),
        started_at: Some(time(record.started_at)),
        ended_at: maybe(record.ended_at),
        id: record.id,
        project: record.project,
        from_generation: record.from_generation,
        to_generation: record.to_generation,
        error_code: record.error_code,
        error: record.error,
        actor: record.actor,
        reason: record.reason,
        restart_owed: record.restart_owed,
        ill: record.ill.clone(),
        test_output: record.test_output,
        exploited: record.exploited,
    }
}

fn release(record: &DependencyReleaseRecord, current: Option<u64>) -> v1::DependencyRelease {
    v1::DependencyRelease {
        generation: record.generation,
        folder: record.folder.clone(),
        digest: record.digest.clone(),
        packages: record.packages,
        made_at: Some(time(record.made_at)),
        deployed_at: maybe(record.deployed_at),
        update_id: record.update_id.clone(),
        current: current == Some(record.generation),
        proven: record.proven,
    }
}

pub(super) fn ignored(record: IgnoredFindingRecord, now: Timestamp) -> v1::IgnoredFinding {
    v1::IgnoredFinding {
        in_force: now < record.until,
        id: record.id,
        ignored: Some(v1::Ignored {
            until: Some(time(record.until)),
            reason: record.reason,
            by: record.by,
        }),
    }
}

fn truth(truth: Truth) -> i32 {
    let truth = match truth {
        Truth::Pass => v1::Truth::Pass,
        Truth::Fail => v1::Truth::Fail,
        Truth::Unknown => v1::Truth::Unknown,
    };
    truth.into()
}

pub(super) fn clock(view: View) -> v1::VulnerabilityClock {
    let phase = clocks::phase(&view.record);
    let state = match phase {
        Phase::Open => v1::ClockState::Open,
        Phase::Mended => v1::ClockState::Mended,
        Phase::Closed => v1::ClockState::Closed,
    };
    let took = view.record.mended_after.unwrap_or(view.elapsed);
    let in_time = match (phase, took <= view.mend_within) {
        (_, false) => v1::Truth::Fail,
        // It still may be late.
        (Phase::Open, true) => v1::Truth::Unknown,
        (_, true) => v1::Truth::Pass,
    };
    let record = view.record;
    let severity = match record.severity.as_str() {
        "critical" => v1::VulnerabilitySeverity::Critical,
        "high" => v1::VulnerabilitySeverity::High,
        "medium" => v1::VulnerabilitySeverity::Medium,
        "low" => v1::VulnerabilitySeverity::Low,
        "none" => v1::VulnerabilitySeverity::None,
        _ => v1::VulnerabilitySeverity::Unknown,
    };
    v1::VulnerabilityClock {
        project: record.project,
        id: record.id,
        package: record.package,
        severity: severity.into(),
        exploited: record.exploited,
        state: state.into(),
        first_seen_at: Some(time(record.first_seen_at)),
        elapsed: Some(duration(view.elapsed)),
        mend_within: Some(duration(view.mend_within)),
        postmortem_within: Some(duration(view.postmortem_within)),
        mended_at: maybe(record.mended_at),
        closed_at: maybe(record.closed_at),
        closed_by: record.closed_by,
        note: record.note,
        in_time: in_time.into(),
    }
}

/// A project as it stands.
pub(super) fn project(
    dependencies: &Dependencies,
    project: &Project,
    looked: &Looked,
) -> Result<v1::DependencyProject> {
    let releases = dependencies.releases(&project.name)?;
    // A link that can't be looked at leads nowhere that is known; `in_memory` says why.
    let current = dependencies.current(project, &releases).ok().flatten();
    let number = current.as_ref().map(|it| it.generation);
    // By its manifests too, as of the last look.
    let why = looked.unmanaged.get(&project.name).cloned();
    let why = why.unwrap_or_else(|| update::unmanaged_why(project));
    let scan = looked.scans.get(&project.name);
    let memory = looked.memory.get(&project.name);
    let now = dependencies.outside.clock.now();
    let verdict = scan.map_or(v1::ScanVerdict::Unspecified, |it| match it.verdict {
        Verdict::Pass => v1::ScanVerdict::Pass,
        Verdict::Findings => v1::ScanVerdict::Findings,
        Verdict::Unknown => v1::ScanVerdict::Unknown,
    });
    let mut counts: std::collections::BTreeMap<i32, u32> = std::collections::BTreeMap::new();
    for found in scan.iter().flat_map(|it| &it.findings) {
        let counted = found.finding.kind == genesis_advisories::finding::Kind::Vulnerability
            && found.ignored.is_none();
        if counted {
            *counts.entry(severity(found.finding.severity.rating).into()).or_default() += 1;
        }
    }
    let differences = memory.iter().flat_map(|it| &it.differences).map(|it| {
        let (package, locked, installed) = it.clone();
        v1::InstalledDifference { package, locked, installed }
    });
    let stale = memory.iter().flat_map(|it| &it.stale).map(|it| v1::StaleProcess {
        pid: it.pid,
        command: it.command.clone(),
        why: it.why.clone(),
    });
    let nothing = match project.managed.deploy {
        Some(_) => (v1::Truth::Unknown, "the agent has not looked at it yet"),
        None => (v1::Truth::Unspecified, ""),
    };
    let known = dependencies.ignored(&project.name)?;
    Ok(v1::DependencyProject {
        name: project.name.clone(),
        root: project.root.display().to_string(),
        manifests: project.manifests.iter().map(|it| it.display().to_string()).collect(),
        strategy: strategy_of(project.managed.strategy),
        managed: why.is_empty(),
        unmanaged_why: why,
        current: current.as_ref().map(|it| release(it, number)),
        releases: releases.iter().map(|it| release(it, number)).collect(),
        in_memory: memory.map_or(nothing.0.into(), |it| truth(it.truth)),
        in_memory_why: memory.map_or_else(|| nothing.1.to_owned(), |it| it.why.clone()),
        differences: differences.collect(),
        stale_processes: stale.collect(),
        running: dependencies.runs.active_with_key(&update::key(&project.name)).unwrap_or_default(),
        verdict: verdict.into(),
        scanned_at: maybe(looked.at.filter(|_| scan.is_some())),
        vulnerabilities: counts
            .into_iter()
            .rev()
            .map(|(severity, count)| v1::SeverityCount { severity, count })
            .collect(),
        ignored: known.into_iter().map(|it| ignored(it, now)).collect(),
    })
}
