//! Windows that are over are judged: what each left of what is usual, and what that changes. Pure; whoever calls reads
//! and writes.

use genesis_stats::{
    Calibrated, Change, Cusum, Judgement, LEAST_EXPECTED, OperationEpisode, Reference, Rule,
    Sketch, Watch, WindowCount, alert_threshold, judge, phi, threshold,
};

use super::calibration::{self, Past};
use super::plan::{QUANTILES, WINDOW};
use super::standing::{Current, Judged, Minute, Standing, Window};
use std::time::Duration;

/// A quantile waits for at most so many windows until there are calls enough, then anew.
pub const TOGETHER: i64 = 12;
/// The same of minutes.
const MINUTES_TOGETHER: u32 = 10;
/// Healthy windows that must be known before a sum is added up: without them nobody knows how far they scatter.
const LEAST_PAST: usize = 8;
/// Why a window is not judged, where its baseline is young.
pub const FEW_PAST: &str = "too few healthy windows are known yet";
/// Of the minutes of a breaker, the quantile that is looked at: 95 %.
const BREAKER: usize = 1;

/// What a window changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The window.
    pub window: Window,
    /// What becomes of the episode.
    pub change: Change<OperationEpisode>,
    /// What healthy windows are judged by later; `None` where it is not one.
    pub past: Option<Past>,
}

/// The limit of the sums of windows.
pub fn limit() -> f64 {
    alert_threshold(Duration::from_secs(WINDOW.unsigned_abs()))
}

/// Judges a window of an operation, and takes it in. `past`: by hour of the week, what healthy windows had.
pub fn window(standing: &mut Standing, start: i64, values: &Sketch, past: &[Past]) -> Outcome {
    let count = values.count();
    let mut window = Window {
        start,
        count,
        values: QUANTILES.map(|quantile| values.quantile(quantile)),
        judged: Vec::new(),
        not_judged: String::new(),
    };
    let hour = super::plan::hour_of_week(super::plan::hour_of(start));
    let current = standing.current.take();
    let (mut pasts, mut judgements) = ([None; 3], [None; 3]);
    let referenced = current.as_ref().and_then(|it| Some((it, it.references.at(hour)?)));
    if let Some((current, (scope, references))) = referenced {
        for (at, reference) in references.iter().enumerate() {
            let (windows, pending) = &mut standing.pending[at];
            // Most windows have calls enough by themselves, and are judged without a copy.
            let waited = !pending.is_empty();
            if waited {
                pending.merge(values);
            }
            let seen = if waited { &*pending } else { values };
            *windows += 1;
            // With room for all: to grow on the way is most of what it would cost.
            let mut calibrated: Vec<Calibrated> = Vec::with_capacity(past.len());
            calibrated.extend(past.iter().filter_map(|past| past.quantiles[at]));
            let Some((judged, judgement)) = quantile(at, seen, (current, reference), &calibrated)
            else {
                if i64::from(*windows) >= TOGETHER {
                    (*windows, *pending) = (0, Sketch::new());
                } else if !waited {
                    *pending = values.clone();
                }
                continue;
            };
            *windows = 0;
            if waited {
                *pending = Sketch::new();
            }
            let calibrated_now =
                Calibrated { z: judgement.z as f32, log_value: judged.value.ln() as f32 };
            pasts[at] = Some(calibration::kept(calibrated_now));
            if calibrated.len() >= LEAST_PAST {
                judgements[at] = Some((judgement, phi(&scatter(past, at))));
            }
            window.judged.push(Judged { scope, ..judged });
        }
    }
    window.not_judged = match (&current, window.judged.len(), &judgements) {
        (None, ..) => "there is no baseline yet".to_owned(),
        (Some(_), 0, _) => "too few calls".to_owned(),
        (Some(_), _, judgements) if judgements.iter().all(Option::is_none) => FEW_PAST.to_owned(),
        _ => String::new(),
    };
    standing.current = current;
    let before = standing.watch.episode;
    let limit = limit();
    let judged = judgements.each_ref().map(|it| it.as_ref().map(|(it, phi)| (it, *phi)));
    let at = start.max(0).unsigned_abs();
    let change = standing.watch.observe(at, judged, limit);
    for judged in &mut window.judged {
        let Some(at) = QUANTILES.iter().position(|it| *it == judged.quantile) else { continue };
        let sum = match standing.watch.quantiles[at] {
            Watch::Calm { sum, .. } => sum,
            Watch::Open(_) => limit,
        };
        judged.cusum = (sum, limit);
    }
    if window.not_judged.is_empty() {
        standing.judged_at = Some(start + WINDOW);
    }
    let healthy = before.is_none() && standing.watch.episode.is_none();
    let past = Past { start, quantiles: pasts };
    let past = (healthy && pasts.iter().any(Option::is_some)).then_some(past);
    standing.windows.push_front(window.clone());
    standing.windows.truncate(super::standing::SHOWN);
    Outcome { window, change, past }
}

/// By which windows, in time, z of the healthy ones scattered at a quantile.
fn scatter(past: &[Past], at: usize) -> Vec<(i64, f32)> {
    let mut all = Vec::with_capacity(past.len());
    all.extend(past.iter().filter_map(|it| Some((it.start / WINDOW, it.quantiles[at]?.z))));
    all
}

/// Values above another, by the baseline's buckets.
fn above(values: &Sketch, than: f64, current: &Current) -> u64 {
    let level = current.sketch.level();
    if values.level() >= level {
        return values.above(than);
    }
    let mut values = values.clone();
    values.collapse_to(level);
    values.above(than)
}

fn quantile(
    at: usize,
    values: &Sketch,
    (current, reference): (&Current, &Reference),
    calibrated: &[Calibrated],
) -> Option<(Judged, Judgement)> {
    let value = values.quantile(QUANTILES[at])?;
    let above = above(values, reference.x0, current);
    let window = WindowCount { n: values.count(), above, value };
    let judgement = judge(&window, reference, calibrated, &Rule::default())?;
    let z_literal = match current.spread() {
        Some((mean, deviation)) if deviation > 0.0 => (value - mean) / deviation,
        _ => 0.0,
    };
    let judged = Judged {
        quantile: QUANTILES[at],
        value,
        usual: (reference.x0, reference.share),
        above,
        z: judgement.z,
        verdict: judgement.verdict.map(|it| (it.p, it.z_equivalent, it.method)),
        z_literal,
        candidate: judgement.verdict.is_some_and(|it| it.candidate),
        cusum: (0.0, 0.0),
        scope: super::plan::Scope::All,
    };
    Some((judged, judgement))
}

/// What a minute says to a breaker.
#[derive(Debug, Clone, PartialEq)]
pub enum Feed {
    /// It can't be told.
    Unknown,
    /// Within what is usual.
    Usual,
    /// Left, and by how far: the sum and its limit.
    Left(f64, f64),
}

/// Judges a minute of an operation for its breaker.
pub fn minute(standing: &mut Standing, start: i64, values: &Sketch, past: &[Past]) -> Feed {
    let hour = super::plan::hour_of_week(super::plan::hour_of(start));
    let referenced = standing.current.as_ref().and_then(|it| Some((it, it.references.at(hour)?)));
    let Some((current, (_, references))) = referenced else { return Feed::Unknown };
    let reference = references[BREAKER];
    let Minute { sum, pending: (minutes, pending) } = &mut standing.minute;
    pending.merge(values);
    *minutes += 1;
    let enough = pending.count() as f64 * reference.share >= LEAST_EXPECTED;
    let zs = scatter(past, BREAKER);
    if !enough || zs.len() < LEAST_PAST {
        if enough || *minutes >= MINUTES_TOGETHER {
            (*minutes, *pending) = (0, Sketch::new());
        }
        return Feed::Unknown;
    }
    let value = pending.quantile(QUANTILES[BREAKER]);
    let (n, above) = (pending.count(), self::above(pending, reference.x0, current));
    (*minutes, *pending) = (0, Sketch::new());
    let judgement = value.and_then(|value| {
        judge(&WindowCount { n, above, value }, &reference, &[], &Rule::default())
    });
    let Some(judgement) = judgement else { return Feed::Unknown };
    let phi = phi(&zs);
    let limit = threshold(Duration::from_secs(60));
    let mut cusum = Cusum::new(phi, limit).at(*sum);
    let tripped = cusum.observe(judgement.evidence(phi));
    *sum = cusum.sum();
    match tripped {
        true => {
            let left = Feed::Left(*sum, limit);
            *sum = 0.0;
            left
        }
        false => Feed::Usual,
    }
}
