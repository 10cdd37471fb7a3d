//! Convert: drills.

use genesis_proto::v1;
use genesis_storage::{DrillOutcome, DrillRecord};

use super::super::Recovery;
use super::super::drill::{Standing, View};
use crate::error::Result;
use crate::plan::Plan;
use crate::server::caller::Caller;
use crate::server::convert::{duration, maybe, started, time};

fn outcome(outcome: DrillOutcome) -> i32 {
    let truth = match outcome {
        DrillOutcome::Passed => v1::Truth::Pass,
        DrillOutcome::Failed => v1::Truth::Fail,
        DrillOutcome::Unknown => v1::Truth::Unknown,
    };
    truth.into()
}

fn milliseconds(ms: u64) -> prost_types::Duration {
    duration(std::time::Duration::from_millis(ms))
}

fn report(record: DrillRecord) -> v1::DrillReport {
    let step = |step: genesis_storage::DrillStep| v1::DrillStep {
        name: step.name,
        took: Some(milliseconds(step.took_ms)),
        outcome: outcome(step.outcome),
        detail: step.detail,
    };
    v1::DrillReport {
        id: record.id,
        drill: record.drill,
        started_at: Some(time(record.started_at)),
        ended_at: Some(time(record.ended_at)),
        outcome: outcome(record.outcome),
        rto: record.rto_ms.map(milliseconds),
        steps: record.steps.into_iter().map(step).collect(),
        deviations: record.deviations,
        by: record.by,
        reason: record.reason,
        rpo: record.rpo_ms.map(milliseconds),
    }
}

fn drill(view: View) -> v1::Drill {
    let standing = match view.standing {
        None => v1::DrillStanding::Unspecified,
        Some(Standing::Current) => v1::DrillStanding::Current,
        Some(Standing::Due) => v1::DrillStanding::Due,
        Some(Standing::Overdue) => v1::DrillStanding::Overdue,
        Some(Standing::NotApplicable) => v1::DrillStanding::NotApplicable,
    };
    let brief = |record: DrillRecord| report(DrillRecord { steps: Vec::new(), ..record });
    v1::Drill {
        name: view.name,
        description: view.description,
        standing: standing.into(),
        overdue_at: maybe(view.overdue_at),
        last: view.last.map(brief),
        last_passed: view.passed.map(brief),
        not_applicable: view.not_applicable,
    }
}

pub(super) async fn plan(recovery: &Recovery, request: &v1::RunDrillRequest) -> Result<Plan> {
    recovery.drills.plan(&request.name).await
}

pub(super) async fn run(
    recovery: &Recovery,
    who: Caller,
    request: &v1::RunDrillRequest,
) -> Result<v1::RunDrillResponse> {
    let by = (who.identity, who.reason);
    let run = recovery.drills.run(&request.name, &request.plan_hash, by).await?;
    Ok(v1::RunDrillResponse { run: Some(started(run)) })
}

pub(super) fn list(recovery: &Recovery) -> Result<v1::ListDrillsResponse> {
    let drills = recovery.drills.list()?.into_iter().map(drill).collect();
    Ok(v1::ListDrillsResponse { drills })
}

pub(super) fn get(recovery: &Recovery, id: &str) -> Result<v1::GetDrillReportResponse> {
    Ok(v1::GetDrillReportResponse { report: Some(report(recovery.drills.report(id)?)) })
}
