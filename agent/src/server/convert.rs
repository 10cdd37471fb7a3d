//! Pieces of messages that several services share.

use genesis_proto::v1;
use genesis_storage::{RunState, StepState, Verdict};
use jiff::Timestamp;
use tonic::{Response, Status};

use crate::error::{Result, Unmet};
use crate::plan::{Plan, PlanStep};
use crate::runs::{Progress, Snapshot, Started};
use crate::server::status::to_status;

/// An instant.
pub fn time(at: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: at.as_second(), nanos: at.subsec_nanosecond() }.canonical()
}

trait Canonical {
    fn canonical(self) -> Self;
}

impl Canonical for prost_types::Timestamp {
    /// Protobuf wants the nanoseconds to count forward, also before 1970.
    fn canonical(mut self) -> Self {
        if self.nanos < 0 {
            self.seconds -= 1;
            self.nanos += 1_000_000_000;
        }
        self
    }
}

/// An instant, if there is one.
pub fn maybe(at: Option<Timestamp>) -> Option<prost_types::Timestamp> {
    at.map(time)
}

/// A time span.
pub fn duration(span: std::time::Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(span.as_secs()).unwrap_or(i64::MAX),
        nanos: span.subsec_nanos().cast_signed(),
    }
}

/// An unmet condition as a finding.
pub fn finding(unmet: &Unmet) -> v1::Finding {
    v1::Finding {
        code: unmet.code.to_owned(),
        subject: unmet.subject.clone(),
        message: unmet.message.clone(),
    }
}

/// A plan.
pub fn plan(plan: &Plan) -> v1::Plan {
    let step = |step: &PlanStep| v1::PlanStep {
        action: step.action.clone(),
        target: step.target.clone(),
        reason: step.reason.clone(),
    };
    v1::Plan { hash: plan.hash.clone(), steps: plan.steps.iter().map(step).collect() }
}

/// The answer of an rpc that plans another.
#[allow(clippy::result_large_err)] // Status is what every rpc returns.
pub fn planned(planned: Result<Plan>) -> Result<Response<v1::PlanResponse>, Status> {
    let planned = planned.map_err(to_status)?;
    Ok(Response::new(v1::PlanResponse { plan: Some(plan(&planned)) }))
}

/// What was started.
pub fn started(started: Started) -> v1::StartedRun {
    v1::StartedRun { run_id: started.id, attached: started.attached }
}

/// How far a run is.
pub fn progress(progress: &Progress) -> v1::Progress {
    v1::Progress {
        done: progress.done,
        total: progress.total,
        unit: progress.unit.to_owned(),
        message: progress.message.clone(),
    }
}

/// The state of a run.
pub fn run_state(state: RunState) -> v1::RunState {
    match state {
        RunState::Running => v1::RunState::Running,
        RunState::Succeeded => v1::RunState::Succeeded,
        RunState::Failed => v1::RunState::Failed,
        RunState::Cancelled => v1::RunState::Cancelled,
        RunState::Interrupted => v1::RunState::Interrupted,
        RunState::Refused => v1::RunState::Refused,
        RunState::Unknown => v1::RunState::Unknown,
    }
}

/// The state that a message names; `None`: unspecified.
pub fn stored_state(state: v1::RunState) -> Option<RunState> {
    Some(match state {
        v1::RunState::Unspecified => return None,
        v1::RunState::Running => RunState::Running,
        v1::RunState::Succeeded => RunState::Succeeded,
        v1::RunState::Failed => RunState::Failed,
        v1::RunState::Cancelled => RunState::Cancelled,
        v1::RunState::Interrupted => RunState::Interrupted,
        v1::RunState::Refused => RunState::Refused,
        v1::RunState::Unknown => RunState::Unknown,
    })
}

/// A run as it is.
pub fn run(snapshot: Snapshot) -> v1::Run {
    use v1::reconciliation::Verdict as Wire;

    let Snapshot { record, steps, progress: at } = snapshot;
    let reconciliation = record.reconciliation.map(|reconciliation| v1::Reconciliation {
        verdict: match reconciliation.verdict {
            Verdict::Finished => Wire::Finished,
            Verdict::Undone => Wire::Undone,
            Verdict::Held => Wire::Held,
            Verdict::NothingDone => Wire::NothingDone,
        }
        .into(),
        detail: reconciliation.detail,
    });
    let step = |step: genesis_storage::StepRecord| v1::RunStep {
        number: step.number,
        name: step.name,
        target: step.target,
        state: match step.state {
            StepState::Intent => v1::StepState::Intent,
            StepState::Done => v1::StepState::Done,
            StepState::Failed => v1::StepState::Failed,
        }
        .into(),
        detail: step.detail,
        started_at: Some(time(step.started_at)),
        ended_at: maybe(step.ended_at),
    };
    v1::Run {
        id: record.id,
        kind: record.kind,
        state: run_state(record.state).into(),
        actor: record.actor,
        reason: record.reason,
        parameters: record.parameters.to_string(),
        started_at: Some(time(record.started_at)),
        ended_at: maybe(record.ended_at),
        steps: steps.into_iter().map(step).collect(),
        summary: record.summary,
        error_code: record.error_code,
        reconciliation,
        progress: Some(progress(&at)),
        cancel_requested: record.cancel_requested,
        trace_id: record.trace_id,
    }
}

/// An incident.
pub fn incident(record: genesis_storage::IncidentRecord) -> v1::Incident {
    let state = match record.state() {
        genesis_storage::IncidentState::Open => v1::IncidentState::Open,
        genesis_storage::IncidentState::Over => v1::IncidentState::Over,
        genesis_storage::IncidentState::Closed => v1::IncidentState::Closed,
    };
    let closure = record.closed.map(|closed| v1::IncidentClosure {
        at: Some(time(closed.at)),
        by: closed.by,
        resolution: closed.resolution,
        lesson: closed.lesson,
        runbook: closed.runbook,
    });
    let issues = record.issues.iter().map(|(check, episode)| format!("{check}#{episode}"));
    v1::Incident {
        state: state.into(),
        opened_at: Some(time(record.opened_at)),
        over_at: maybe(record.over_at),
        trigger: record.trigger.code().to_owned(),
        issues: issues.collect(),
        severity: record.severity.to_uppercase(),
        id: record.id,
        title: record.title,
        details: record.details,
        opened_by: record.by,
        reason: record.reason,
        resolution: record.resolution,
        runbook: record.runbook,
        subject: record.subject,
        closure,
    }
}
