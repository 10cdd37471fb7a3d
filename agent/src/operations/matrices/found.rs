//! What a calculation found, in the words and names of people. Pure.

use genesis_stats::correlation::{
    Candidate, Check, Criterion, Definiteness, Detail, Drift, Repaired, Unsettled, Validation,
    Verdict, Why,
};
use genesis_storage::{CriterionRecord, LackRecord, MatrixRecord, MovedRecord, RepairRecord};

/// So many pairs without enough to go by are named.
const NAMED: usize = 100;

/// Writes what was found into a version's record.
pub fn describe(
    record: &mut MatrixRecord,
    candidate: &Candidate,
    validation: &Validation,
    repaired: Option<&Repaired>,
) {
    let names = candidate.series();
    let name = |place: usize| names.get(place).cloned().unwrap_or_default();
    record.series = names.len() as u32;
    record.criteria = validation.criteria.iter().map(|it| criterion(it, &name)).collect();
    let points = validation.of(Check::Points).and_then(|it| it.value);
    record.fewest_points = points.unwrap_or(0.0) as u32;
    if let Some(Detail::Drift(drift)) = validation.of(Check::Drift).map(|it| &it.detail) {
        record.worst = drift.worst.iter().map(|it| moved(it, &name)).collect();
        record.frobenius_ratio = drift.frobenius.filter(|it| it.is_finite());
    }
    let lacking = candidate.unsettled();
    record.lacking_total = lacking.len() as u32;
    record.lacking = lacking.iter().take(NAMED).map(|it| lack(it, &name)).collect();
    record.carried = candidate.carried().len() as u32;
    let definite = validation.of(Check::Definite).map(|it| &it.detail);
    if let Some(Detail::Definiteness(Definiteness::Indefinite { weights, .. })) = definite {
        record.indefinite =
            weights.iter().map(|(at, weight)| (name(*at), finite(*weight))).collect();
    }
    record.repair = repaired.map(|it| RepairRecord {
        largest: finite(it.largest.0),
        pair: (name(it.largest.1.0), name(it.largest.1.1)),
        frobenius: finite(it.frobenius),
        steps: it.steps,
    });
}

/// A record has numbers only.
fn finite(value: f64) -> f64 {
    if value.is_finite() { value } else { 0.0 }
}

/// A verdict in a word.
pub fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "pass",
        Verdict::Fail => "fail",
        Verdict::Unknown => "unknown",
    }
}

fn criterion(it: &Criterion, name: &impl Fn(usize) -> String) -> CriterionRecord {
    CriterionRecord {
        name: it.name().to_owned(),
        value: it.value.filter(|value| value.is_finite()),
        // Of a matrix without all its values there is none that a number could say, and a record has numbers only.
        limit: finite(it.limit),
        at_least: matches!(it.check, Check::Points | Check::Definite),
        verdict: word(it.verdict).to_owned(),
        detail: detail(it, name),
    }
}

fn moved(it: &genesis_stats::correlation::Moved, name: &impl Fn(usize) -> String) -> MovedRecord {
    MovedRecord {
        one: name(it.pair.0),
        other: name(it.pair.1),
        old: finite(it.old),
        new: finite(it.new),
        z: it.z.filter(|z| z.is_finite()),
    }
}

fn lack(it: &Unsettled, name: &impl Fn(usize) -> String) -> LackRecord {
    let why = match it.why {
        Why::Constant { series } => format!("{} does not change", name(series)),
        Why::Lost { series } => format!("the changes of {} are lost in rounding", name(series)),
        other => other.to_string(),
    };
    LackRecord { one: name(it.pair.0), other: name(it.pair.1), points: it.points, why }
}

fn detail(it: &Criterion, name: &impl Fn(usize) -> String) -> String {
    let pair = |(i, j): (usize, usize)| format!("{}/{}", name(i), name(j));
    match &it.detail {
        Detail::Nothing => String::new(),
        Detail::Places { first, count } => {
            let named: Vec<String> = first.iter().take(3).map(|it| pair(*it)).collect();
            format!("{count} pair(s), such as {}", named.join(", "))
        }
        Detail::Pairs(pairs) => {
            let named: Vec<String> = pairs
                .iter()
                .take(3)
                .map(|it| {
                    let lack = lack(it, name);
                    format!("{}/{} ({} rows: {})", lack.one, lack.other, lack.points, lack.why)
                })
                .collect();
            format!("{} pair(s), such as {}", pairs.len(), named.join(", "))
        }
        Detail::Definiteness(Definiteness::Indefinite { weights, .. }) => {
            let heavy: Vec<String> = weights
                .iter()
                .take(3)
                .map(|(at, weight)| format!("{} {:.0} %", name(*at), weight * 100.0))
                .collect();
            format!("most of it by {}", heavy.join(", "))
        }
        Detail::Definiteness(_) => String::new(),
        Detail::Drift(drift) => of_drift(drift, &pair),
        Detail::First => match it.check {
            Check::History => "nothing was active a month ago".to_owned(),
            _ => "there is none that it has a pair in common with".to_owned(),
        },
        Detail::NoPoints => "it is not known how many rows pairs have in common".to_owned(),
    }
}

fn of_drift(drift: &Drift, pair: &impl Fn((usize, usize)) -> String) -> String {
    let mut parts = Vec::new();
    if let Some(worst) = drift.worst.first() {
        parts.push(format!("{}: {:.4} -> {:.4}", pair(worst.pair), worst.old, worst.new));
    }
    parts.push(format!("{} of {} pair(s) beyond the limit", drift.beyond, drift.pairs));
    if !drift.added.is_empty() {
        parts.push(format!("{} series new", drift.added.len()));
    }
    if !drift.dropped.is_empty() {
        parts.push(format!("{} gone", drift.dropped.len()));
    }
    parts.join("; ")
}
