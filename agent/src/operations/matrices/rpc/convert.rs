//! Matrices as the contract has them.

use genesis_proto::v1;
use genesis_stats::experiment::ArmSummary;
use genesis_storage::{MatrixRecord, StageRecord};

use super::super::serving::Served;
use super::super::stage::{Stage, Verdict};
use super::super::{Matrices, plan};
use crate::server::convert::{maybe, time};

/// A version.
pub(super) fn version(record: &MatrixRecord) -> v1::MatrixVersion {
    let state = match record.state.as_str() {
        plan::CANARY => v1::MatrixState::Canary,
        plan::ACTIVE => v1::MatrixState::Active,
        plan::SUPERSEDED => v1::MatrixState::Superseded,
        plan::REJECTED => v1::MatrixState::Rejected,
        plan::ROLLED_BACK => v1::MatrixState::RolledBack,
        _ => v1::MatrixState::Unspecified,
    };
    let criterion = |it: &genesis_storage::CriterionRecord| v1::MatrixCriterion {
        name: it.name.clone(),
        value: it.value,
        limit: it.limit,
        at_least: it.at_least,
        verdict: match it.verdict.as_str() {
            "pass" => v1::CriterionVerdict::Pass,
            "fail" => v1::CriterionVerdict::Fail,
            _ => v1::CriterionVerdict::Unknown,
        }
        .into(),
        detail: it.detail.clone(),
    };
    let moved = |it: &genesis_storage::MovedRecord| v1::PairDrift {
        one: it.one.clone(),
        other: it.other.clone(),
        old_value: it.old,
        new_value: it.new,
        z: it.z,
    };
    let lack = |it: &genesis_storage::LackRecord| v1::PairLack {
        one: it.one.clone(),
        other: it.other.clone(),
        points: it.points,
        why: it.why.clone(),
    };
    v1::MatrixVersion {
        version: record.version,
        state: state.into(),
        calculated_at: Some(time(record.calculated_at)),
        by: record.by.clone(),
        reason: record.reason.clone(),
        cause: record.cause.clone(),
        window_from: Some(time(record.window_from)),
        window_until: Some(time(record.window_until)),
        series: record.series,
        fewest_points: record.fewest_points,
        criteria: record.criteria.iter().map(criterion).collect(),
        worst: record.worst.iter().map(moved).collect(),
        frobenius_ratio: record.frobenius_ratio,
        lacking: record.lacking.iter().map(lack).collect(),
        lacking_total: record.lacking_total,
        carried: record.carried,
        indefinite: record
            .indefinite
            .iter()
            .map(|(series, weight)| v1::SeriesWeight { series: series.clone(), weight: *weight })
            .collect(),
        repair: record.repair.as_ref().map(|it| v1::MatrixRepair {
            largest: it.largest,
            one: it.pair.0.clone(),
            other: it.pair.1.clone(),
            frobenius: it.frobenius,
            steps: it.steps,
        }),
        replaced: record.replaced,
        activated_at: maybe(record.periods.first().map(|it| it.from)),
        ended_at: maybe(record.ended_at),
        ended_by: record.ended_by.clone(),
        ended_reason: record.ended_reason.clone(),
        kept: record.kept,
        digest: record.digest.clone(),
        fleet_number: record.fleet,
    }
}

/// The values of a version.
pub(super) fn matrix(served: &Served) -> v1::Matrix {
    v1::Matrix {
        version: served.version,
        series: served.matrix.series().to_vec(),
        upper: served.matrix.values().to_vec(),
        digest: served.digest.clone(),
    }
}

fn arm(version: u64, consumers: u64, summary: &ArmSummary) -> v1::OutcomeArm {
    v1::OutcomeArm {
        version,
        outcomes: summary.n,
        consumers,
        mean: (summary.n > 0).then_some(summary.mean),
        deviation: summary.sd,
    }
}

fn stage(record: &StageRecord, of: Option<&Stage>) -> v1::RolloutStage {
    let state = match (record.how.as_str(), of.map(|it| it.view().1)) {
        (plan::PASSED, _) => v1::StageState::Passed,
        (plan::HARMFUL, _) => v1::StageState::Harmful,
        (plan::FORCED, _) => v1::StageState::Forced,
        (_, Some(Verdict::Held)) => v1::StageState::Held,
        _ => v1::StageState::Waiting,
    };
    let mut told = v1::RolloutStage {
        percent: record.percent,
        state: state.into(),
        began_at: Some(time(record.began_at)),
        ended_at: maybe(record.ended_at),
        verdict: record.verdict.clone(),
        ..v1::RolloutStage::default()
    };
    let Some(stage) = of else { return told };
    let (look, _, why) = stage.view();
    told.control = Some(arm(stage.control, stage.consumers[0], &look.control));
    told.canary = Some(arm(stage.version, stage.consumers[1], &look.variant));
    told.control_frozen = stage.is_frozen();
    told.lift = look.lift.value();
    // Before there are enough there is nothing to be said.
    told.p_harm = look.comparison.map(|_| Stage::p_harm(&look));
    told.alpha = stage.alpha;
    told.needed = stage.needed;
    told.late = stage.counts.late;
    told.other_version = stage.counts.other;
    told.rejected = stage.counts.rejected;
    if told.verdict.is_empty() {
        told.verdict = why;
    }
    told
}

/// A rollout.
pub(super) fn rollout(matrices: &Matrices, record: &MatrixRecord) -> v1::Rollout {
    let mut stages = Vec::with_capacity(record.stages.len());
    for (at, it) in record.stages.iter().enumerate() {
        // As it was by then.
        let mut until = record.clone();
        until.stages.truncate(at + 1);
        let read = match it.ended_at {
            None => matrices.stage_of(record).ok(),
            Some(_) => Stage::of(&until).ok().and_then(|mut stage| {
                stage.take_over(it.tally.as_bytes()).ok().filter(|same| *same)?;
                Some(stage)
            }),
        };
        stages.push(stage(it, read.as_ref()));
    }
    let ended = record.stages.last().and_then(|it| it.ended_at);
    let outcome = match record.state.as_str() {
        plan::CANARY => "",
        // It may have been left long after, or made active long after by hand.
        _ if record.periods.first().map(|it| it.from) == ended && ended.is_some() => plan::ACTIVE,
        _ => plan::ROLLED_BACK,
    };
    v1::Rollout {
        version: record.version,
        control: record.control,
        stages,
        began_at: record.stages.first().map(|it| time(it.began_at)),
        ended_at: maybe(ended.filter(|_| record.state != plan::CANARY)),
        outcome: outcome.to_owned(),
        reason: record.stages.last().map(|it| it.verdict.clone()).unwrap_or_default(),
    }
}
