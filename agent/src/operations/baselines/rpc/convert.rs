//! What the room has, as the contract tells it.

use std::time::Duration;

use genesis_proto::v1;
use genesis_stats::{Method, Sketch};
use genesis_storage::EpisodeRecord;
use jiff::Timestamp;

use super::super::calls::Found;
use super::super::episodes::seconds;
use super::super::plan::{QUANTILES, WINDOW};
use super::super::standing::{Current, Judged, Window};
use super::super::verbs::{State, View};
use crate::server::convert::{duration, maybe, time};

pub(super) fn sketch(sketch: &Sketch) -> v1::Sketch {
    let parts = sketch.to_parts();
    v1::Sketch {
        level: parts.level,
        zeros: parts.zeros,
        rejected: parts.rejected,
        offset: parts.offset,
        counts: parts.counts,
        sum_nanos_high: (parts.sum_nanos >> 64) as u64,
        sum_nanos_low: parts.sum_nanos as u64,
        min: parts.min,
        max: parts.max,
        coarse: parts.coarse,
    }
}

pub(super) fn baseline(current: &Current) -> v1::Baseline {
    let Current { record, sketch, references, .. } = current;
    let quantile = |quantile: f64| {
        let (low, high) = sketch.interval(quantile)?;
        Some(v1::BaselineQuantile {
            quantile,
            seconds: sketch.quantile(quantile)?,
            low_seconds: low,
            high_seconds: high,
            low_n: sketch.low_n(quantile),
        })
    };
    v1::Baseline {
        operation: record.operation.clone(),
        generation: record.generation,
        calculated_at: Some(time(record.calculated_at)),
        from: Some(time(record.from)),
        until: Some(time(record.until)),
        count: sketch.count(),
        quantiles: QUANTILES.into_iter().filter_map(quantile).collect(),
        alpha: sketch.alpha(),
        mean_seconds: sketch.mean().unwrap_or(0.0),
        deviation_seconds: sketch.deviation().unwrap_or(0.0),
        min_seconds: sketch.min().unwrap_or(0.0),
        max_seconds: sketch.max().unwrap_or(0.0),
        cause: record.cause.clone(),
        by: record.by.clone(),
        reason: record.reason.clone(),
        hours_of_week: u32::try_from(references.hours.iter().flatten().count()).unwrap_or(0),
        left_out_hours: record.left_out,
    }
}

fn judgement(judged: &Judged) -> v1::WindowJudgement {
    let (p, z_equivalent, method) = match judged.verdict {
        Some((p, z, Method::Conformal)) => (Some(p), Some(z), "conformal"),
        Some((p, z, Method::StudentT)) => (Some(p), Some(z), "student-t"),
        None => (None, None, "unknown"),
    };
    v1::WindowJudgement {
        quantile: judged.quantile,
        seconds: judged.value,
        usual_seconds: judged.usual.0,
        usual_share: judged.usual.1,
        above: judged.above,
        z: judged.z,
        p,
        z_equivalent,
        z_literal: judged.z_literal,
        candidate: judged.candidate,
        method: method.to_owned(),
        sum: judged.cusum.0,
        limit: judged.cusum.1,
        reference: judged.scope.word().to_owned(),
    }
}

pub(super) fn window(window: &Window) -> v1::BaselineWindow {
    v1::BaselineWindow {
        start: Some(time(seconds(window.start))),
        length: Some(duration(Duration::from_secs(WINDOW.unsigned_abs()))),
        count: window.count,
        judgements: window.judged.iter().map(judgement).collect(),
        not_judged: window.not_judged.clone(),
    }
}

pub(super) fn episode(record: EpisodeRecord) -> v1::Episode {
    v1::Episode {
        id: record.id,
        operation: record.operation,
        since: Some(time(record.since)),
        until: maybe(record.until),
        quantile: QUANTILES[usize::from(record.quantile).min(2)],
        usual_seconds: record.usual,
        worst_seconds: record.worst,
        worst_z: record.worst_z,
        ended: record.ended,
        changes: record.changes,
        surroundings: record.surroundings,
        queries: record.queries,
        rollbacks: record.rollbacks,
    }
}

pub(super) fn summary(view: &View) -> v1::BaselineSummary {
    let observed = view.windows.iter().map(|it| it.count).sum();
    v1::BaselineSummary {
        operation: view.operation.clone(),
        state: match view.state {
            State::Learning => v1::BaselineState::Learning,
            State::Usual => v1::BaselineState::Usual,
            State::Degraded => v1::BaselineState::Degraded,
            State::Silent => v1::BaselineState::Silent,
        }
        .into(),
        baseline: view.current.as_deref().map(baseline),
        window: view.windows.first().map(window),
        episode: view.episode.clone().map(episode),
        observed,
        last_observed_at: maybe(view.last.map(seconds)),
    }
}

pub(super) fn found(found: Found) -> v1::ListCallsResponse {
    let at = |nanos: i64| Timestamp::from_nanosecond(i128::from(nanos)).ok().map(time);
    let call = |(ended, nanos): (i64, u64)| v1::ObservedCall {
        at: at(ended),
        seconds: nanos as f64 / 1e9,
    };
    v1::ListCallsResponse {
        calls: found.calls.into_iter().map(call).collect(),
        in_range: found.in_range,
        matched: found.matched,
        kept_since: found.kept_since.and_then(at),
    }
}
