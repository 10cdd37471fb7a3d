//! Health's records and views as messages.

use genesis_proto::v1;
use genesis_storage::{AttemptOutcome, AttemptRecord, ControlRecord, IssueState, Trigger};
use jiff::SignedDuration;

use crate::error::Result;
use crate::operations::health::check::{Level, Severity};
use crate::operations::health::life::Status;
use crate::operations::health::view::{self, CheckView, IssueView, Objective, Overview};
use crate::operations::health::{Health, gates};
use crate::runs::Runs;
use crate::server::convert::{duration, incident, maybe, time};

fn level(level: Level) -> v1::HealthLevel {
    match level {
        Level::Shallow => v1::HealthLevel::Shallow,
        Level::Deep => v1::HealthLevel::Deep,
    }
}

fn severity(severity: Severity) -> v1::Severity {
    match severity {
        Severity::Low => v1::Severity::Low,
        Severity::Medium => v1::Severity::Medium,
        Severity::High => v1::Severity::High,
        Severity::Critical => v1::Severity::Critical,
    }
}

/// How a check was judged.
pub(crate) fn condition(status: Status) -> v1::Condition {
    match status {
        Status::Ok => v1::Condition::Ok,
        Status::Warn => v1::Condition::Warn,
        Status::Crit => v1::Condition::Critical,
        Status::Unknown => v1::Condition::Unknown,
    }
}

/// The worst of these: CRITICAL beats UNKNOWN, which beats the rest.
pub(crate) fn worst(conditions: impl IntoIterator<Item = v1::Condition>) -> v1::Condition {
    let statuses = conditions.into_iter().map(|found| match found {
        v1::Condition::Ok => Status::Ok,
        v1::Condition::Warn => Status::Warn,
        v1::Condition::Critical => Status::Crit,
        v1::Condition::Unknown | v1::Condition::Unspecified => Status::Unknown,
    });
    condition(view::worst(statuses))
}

/// A check.
pub(crate) fn check(view: CheckView) -> v1::HealthCheck {
    let CheckView { check, look, unknown_streak, flapping } = view;
    let status = look.as_ref().map_or(Status::Unknown, |look| look.status);
    let detail = look.as_ref().map_or("not looked at yet", |look| look.detail.as_str());
    v1::HealthCheck {
        check: check.id.clone(),
        level: level(check.level).into(),
        severity: severity(check.severity).into(),
        condition: condition(status).into(),
        detail: detail.to_owned(),
        // What takes for ever is no number in JSON.
        value: look.as_ref().and_then(|look| look.value).filter(|value| value.is_finite()),
        limit: check.limit(),
        checked_at: look.as_ref().map(|look| time(look.at.wall)),
        took: look.as_ref().map(|look| duration(look.took)),
        interval: Some(duration(check.policy.interval)),
        depends_on: check.depends_on.clone(),
        action: check.action.as_ref().map_or_else(String::new, |deed| deed.action.name.to_owned()),
        unknown_streak,
        flapping,
    }
}

fn state(state: IssueState) -> v1::IssueState {
    match state {
        IssueState::Suspect => v1::IssueState::Suspect,
        IssueState::Failing => v1::IssueState::Failing,
        IssueState::Remediating => v1::IssueState::Remediating,
        IssueState::Verifying => v1::IssueState::Verifying,
        IssueState::Cooldown => v1::IssueState::Cooldown,
        IssueState::Escalated => v1::IssueState::Escalated,
        IssueState::Resolved => v1::IssueState::Resolved,
    }
}

fn trigger(trigger: Trigger) -> v1::EscalationTrigger {
    match trigger {
        Trigger::AttemptsFailed => v1::EscalationTrigger::AttemptsFailed,
        Trigger::CriticalTooLong => v1::EscalationTrigger::CriticalTooLong,
        Trigger::Cascade => v1::EscalationTrigger::Cascade,
        Trigger::Flagged => v1::EscalationTrigger::Flagged,
        Trigger::Storm => v1::EscalationTrigger::Storm,
        Trigger::CheckerSuspect => v1::EscalationTrigger::CheckerSuspect,
        Trigger::Rollback => v1::EscalationTrigger::Rollback,
        // No issue is escalated by these.
        Trigger::Emergency | Trigger::ByHand => v1::EscalationTrigger::Unspecified,
    }
}

/// An issue.
pub(crate) fn issue(view: IssueView) -> v1::Issue {
    let IssueView { record, check, suppressed_by } = view;
    let denial = |denial: &genesis_storage::Denial| v1::Denial {
        code: denial.code.clone(),
        message: denial.message.clone(),
        since: Some(time(denial.since)),
    };
    let (escalated, acked) = (record.escalated, record.acked);
    v1::Issue {
        id: format!("{}#{}", record.check, record.episode),
        episode: record.episode,
        state: state(record.state).into(),
        since: Some(time(record.since.wall)),
        opened_at: Some(time(record.opened.wall)),
        attempts: record.attempts,
        denials: record.denials.iter().map(denial).collect(),
        suppressed_by: suppressed_by.unwrap_or_default(),
        escalated: escalated
            .map_or(v1::EscalationTrigger::Unspecified, |(why, _)| trigger(why))
            .into(),
        escalated_at: maybe(escalated.map(|(_, at)| at)),
        acked_by: acked.as_ref().map_or_else(String::new, |(by, _, _)| by.clone()),
        acked_at: maybe(acked.as_ref().map(|(_, at, _)| *at)),
        ack_note: acked.map_or_else(String::new, |(_, _, note)| note),
        severity: check
            .as_ref()
            .map_or(v1::Severity::Unspecified, |check| severity(check.severity))
            .into(),
        runbook: check.map_or_else(String::new, |check| check.runbook.to_owned()),
        check: record.check,
        detail: record.detail,
        resolution: record.resolution,
    }
}

/// An attempt.
pub(crate) fn attempt(record: AttemptRecord) -> v1::Attempt {
    let outcome = match record.outcome {
        AttemptOutcome::Intent => v1::AttemptOutcome::Intent,
        AttemptOutcome::Done => v1::AttemptOutcome::Done,
        AttemptOutcome::Succeeded => v1::AttemptOutcome::Succeeded,
        AttemptOutcome::Failed => v1::AttemptOutcome::Failed,
        AttemptOutcome::NotNeeded => v1::AttemptOutcome::NotNeeded,
        AttemptOutcome::DryRun => v1::AttemptOutcome::DryRun,
        AttemptOutcome::Unknown => v1::AttemptOutcome::Unknown,
    };
    v1::Attempt {
        id: record.id,
        check: record.check,
        episode: record.episode,
        number: record.number,
        action: record.action,
        plan: record.plan,
        destructive: record.destructive,
        actor: record.actor,
        at: Some(time(record.at.wall)),
        ended_at: maybe(record.ended_at),
        outcome: outcome.into(),
        before: record.before,
        after: record.after,
        detail: record.detail,
    }
}

/// What holds all actions back.
pub(crate) fn hold((code, record): (&'static str, ControlRecord)) -> v1::RemediationHold {
    let until = record.lasts.and_then(|lasts| {
        record.since.wall.checked_add(SignedDuration::try_from(lasts).ok()?).ok()
    });
    v1::RemediationHold {
        code: code.to_owned(),
        since: Some(time(record.since.wall)),
        until: maybe(until),
        by: record.by,
        reason: record.reason,
    }
}

fn objective(objective: &Objective) -> v1::Objective {
    v1::Objective {
        name: objective.name.to_owned(),
        goal: objective.goal,
        succeeded: objective.count("succeeded"),
        failed: objective.count("failed"),
        refused: objective.count("refused"),
        cancelled: objective.count("cancelled"),
        unknown: objective.count("unknown"),
        success: view::share(&objective.counts),
    }
}

/// Everything at a glance.
pub(crate) fn status(overview: Overview, runs: &Runs) -> v1::GetHealthStatusResponse {
    let checks: Vec<v1::HealthCheck> = overview.checks.into_iter().map(check).collect();
    v1::GetHealthStatusResponse {
        condition: worst(checks.iter().map(v1::HealthCheck::condition)).into(),
        checks,
        issues: overview.issues.into_iter().map(issue).collect(),
        holds: overview.holds.into_iter().map(hold).collect(),
        dry_run: overview.dry_run,
        attempts: overview.attempts.into_iter().map(attempt).collect(),
        objectives: overview.objectives.iter().map(objective).collect(),
        incidents: overview.incidents.into_iter().map(incident).collect(),
        emergency: runs.emergency().active(),
        runs_active: u32::try_from(runs.active_count()).unwrap_or(u32::MAX),
    }
}

/// The matrix, the budgets, and what people can run.
///
/// # Errors
/// `STORAGE_FAILED`.
pub(crate) fn remediation(health: &Health) -> Result<v1::GetRemediationResponse> {
    let small = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let rows = health.rows().into_iter().map(|(row, checks, armed)| v1::RemediationRow {
        row: row.name.to_owned(),
        detection: row.detection.to_owned(),
        action: format!("{}: {}", row.action.name, row.action.what),
        fallback: format!("{}: {}", row.fallback.name, row.fallback.what),
        trade_touching: row.action.trade_touching,
        goes_on_in_emergency: row.action.goes_on,
        checks,
        armed,
        runbook: row.runbook.to_owned(),
    });
    let (hour_limit, day_limit) = gates::ACTION_BUDGET;
    let (budgets, host_day) = health.budgets();
    let budgets = budgets.into_iter().map(|(action, hour, day)| v1::ActionBudget {
        action,
        hour: small(hour),
        hour_limit: small(hour_limit),
        day: small(day),
        day_limit: small(day_limit),
    });
    let checks = health.checks();
    let actions = checks.values().flat_map(|check| {
        check.deeds().map(|(deed, automatic)| v1::RunnableAction {
            action: deed.action.name.to_owned(),
            check: check.id.clone(),
            what: format!("{} ({})", deed.action.what, deed.means.words()),
            automatic,
        })
    });
    let objectives = health.objectives()?;
    let remediations = objectives.iter().find(|objective| objective.name == "remediations");
    Ok(v1::GetRemediationResponse {
        rows: rows.collect(),
        holds: health.holds().into_iter().map(hold).collect(),
        dry_run: health.config().dry_run,
        budgets: budgets.collect(),
        host_day: small(host_day),
        host_day_limit: small(view::host_budget()),
        objective: remediations.map(objective),
        actions: actions.collect(),
    })
}
