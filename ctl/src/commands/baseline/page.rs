//! An operation on a page of its own.

use genesis_client::v1::{
    Baseline, BaselineQuantile, BaselineSummary, BaselineWindow, Episode, GetBaselineResponse,
    WindowJudgement,
};

use super::{histogram, list};
use crate::format::{self, count, quantile, seconds};
use crate::render::{Cell, Part};

const QUANTILE_COLUMNS: &[&str] = &["QUANTILE", "LATENCY", "LOW", "HIGH", "NOTE"];
const JUDGEMENT_COLUMNS: &[&str] = &[
    "QUANTILE",
    "LATENCY",
    "USUAL",
    "ABOVE IT",
    "z",
    "z (LITERAL)",
    "z (EQUIVALENT)",
    "p",
    "METHOD",
    "REFERENCE",
    "CUSUM",
    "LIMIT",
    "CANDIDATE",
];
const WINDOW_COLUMNS: &[&str] = &["WINDOW", "N", "P50", "P95", "P99", "z", "CANDIDATE", "NOTE"];
/// So many of the latest windows are listed, unless more is asked for.
const WINDOWS: usize = 12;

/// The parts of the page. `verbose`: with all the windows.
pub(super) fn parts(response: &GetBaselineResponse, verbose: bool) -> Vec<Part> {
    let Some(operation) = &response.operation else { return Vec::new() };
    let name = &operation.operation;
    let about = |what: &str| format!("{name}: {what}");
    let mut parts = vec![Part {
        title: name.clone(),
        lines: facts(operation).iter().map(|fact| format!("  {fact}")).collect(),
        ..Part::default()
    }];
    let baseline = operation.baseline.as_ref();
    if let Some(baseline) = baseline {
        parts.push(quantiles(about("usual"), &baseline.quantiles));
    }
    parts.extend(operation.episode.as_ref().map(|one| episode(about("what goes on"), one)));
    parts.extend(operation.window.as_ref().map(|one| latest(&about("latest window"), one)));
    let most = if verbose { usize::MAX } else { WINDOWS };
    parts.push(Part {
        title: about("windows"),
        columns: WINDOW_COLUMNS,
        rows: response.windows.iter().take(most).map(window_row).collect(),
        ..Part::default()
    });
    let marks = baseline.map(|one| marks(&one.quantiles)).unwrap_or_default();
    let sketch = response.sketch.as_ref();
    parts.extend(sketch.map(|sketch| histogram::part(about("calls by latency"), sketch, &marks)));
    parts.retain(|part| !(part.rows.is_empty() && part.lines.is_empty()));
    parts
}

/// Where the quantiles are.
pub(super) fn marks(quantiles: &[BaselineQuantile]) -> Vec<(f64, f64)> {
    quantiles.iter().map(|one| (one.quantile, one.seconds)).collect()
}

fn facts(operation: &BaselineSummary) -> Vec<String> {
    let state = format::short_name(operation.state().as_str_name(), "BASELINE_STATE_");
    let mut facts = vec![
        format!("state: {state}"),
        format!(
            "observed: {} lately, the last at {}",
            count(operation.observed),
            format::time(operation.last_observed_at.as_ref())
        ),
    ];
    match &operation.baseline {
        None => facts.push("baseline: none yet".to_owned()),
        Some(baseline) => facts.extend(of_baseline(baseline)),
    }
    facts
}

fn of_baseline(one: &Baseline) -> Vec<String> {
    let mut facts = vec![
        format!(
            "baseline: generation {}, calculated at {} ({}) by {}",
            one.generation,
            format::time(one.calculated_at.as_ref()),
            format::or_none(&one.cause),
            format::or_none(&one.by)
        ),
        format!(
            "of: n = {}, from {} until {} ({})",
            count(one.count),
            format::time(one.from.as_ref()),
            format::time(one.until.as_ref()),
            list::window(one)
        ),
        format!(
            "mean {}, standard deviation {}, min {}, max {}",
            seconds(one.mean_seconds),
            seconds(one.deviation_seconds),
            seconds(one.min_seconds),
            seconds(one.max_seconds)
        ),
        alpha(one.alpha),
        format!("hours of the week with values enough of their own: {} of 168", one.hours_of_week),
    ];
    if !one.reason.is_empty() {
        facts.push(format!("reason: {}", one.reason));
    }
    facts
}

/// The relative error in force.
pub(super) fn alpha(alpha: f64) -> String {
    format!("relative error of quantiles: at most {:.2} %", 100.0 * alpha)
}

/// The quantiles with the bounds between which they lie.
pub(super) fn quantiles(title: String, quantiles: &[BaselineQuantile]) -> Part {
    let row = |one: &BaselineQuantile| {
        vec![
            Cell::from(quantile(one.quantile)),
            Cell::number(seconds(one.seconds)),
            Cell::number(seconds(one.low_seconds)),
            Cell::number(seconds(one.high_seconds)),
            if one.low_n { Cell::alert("too few calls for it", true) } else { Cell::from("") },
        ]
    };
    let rows = quantiles.iter().map(row).collect();
    Part { title, columns: QUANTILE_COLUMNS, rows, lines: Vec::new() }
}

fn latest(title: &str, window: &BaselineWindow) -> Part {
    let mut lines = Vec::new();
    if !window.not_judged.is_empty() {
        lines.push(format!("not judged: {}", window.not_judged));
    }
    let title = format!(
        "{title}: {} for {}, n = {}",
        format::time(window.start.as_ref()),
        format::proto_duration(window.length.as_ref()),
        count(window.count)
    );
    let rows = window.judgements.iter().map(judgement_row).collect();
    Part { title, columns: JUDGEMENT_COLUMNS, rows, lines }
}

fn judgement_row(one: &WindowJudgement) -> Vec<Cell> {
    let known = |number: Option<f64>, decimals: usize| {
        Cell::number(
            number.map_or_else(|| "unknown".to_owned(), |number| format!("{number:.decimals$}")),
        )
    };
    vec![
        Cell::from(quantile(one.quantile)),
        Cell::number(seconds(one.seconds)),
        Cell::number(seconds(one.usual_seconds)),
        Cell::number(format!("{} (usual: {:.2} %)", count(one.above), 100.0 * one.usual_share)),
        known(Some(one.z), 2),
        known(Some(one.z_literal), 2),
        known(one.z_equivalent, 2),
        known(one.p, 4),
        Cell::from(format::or_none(&one.method)),
        Cell::from(format::or_none(&one.reference)),
        known(Some(one.sum), 2),
        known(Some(one.limit), 2),
        candidate(one.candidate),
    ]
}

fn candidate(candidate: bool) -> Cell {
    if candidate { Cell::alert("yes", true) } else { Cell::from("no") }
}

fn window_row(window: &BaselineWindow) -> Vec<Cell> {
    let judged =
        |wanted: f64| window.judgements.iter().find(|one| (one.quantile - wanted).abs() < 1e-9);
    let at = |wanted: f64| {
        Cell::number(
            judged(wanted).map_or_else(|| format::NONE.to_owned(), |one| seconds(one.seconds)),
        )
    };
    let worst = window.judgements.iter().map(|one| one.z).max_by(f64::total_cmp);
    let worst = worst.map_or_else(|| format::NONE.to_owned(), |z| format!("{z:.2}"));
    vec![
        Cell::from(format::time(window.start.as_ref())),
        Cell::number(count(window.count)),
        at(0.5),
        at(0.95),
        at(0.99),
        Cell::number(worst),
        candidate(window.judgements.iter().any(|one| one.candidate)),
        Cell::from(window.not_judged.as_str()),
    ]
}

fn episode(title: String, one: &Episode) -> Part {
    let mut lines = vec![format!(
        "  degraded since {}: {} is {} at worst, where {} is usual; CUSUM at most {:.2} times its limit",
        format::time(one.since.as_ref()),
        quantile(one.quantile),
        seconds(one.worst_seconds),
        seconds(one.usual_seconds),
        one.worst_z
    )];
    let lists = [
        ("changed shortly before", &one.changes),
        ("the host then", &one.surroundings),
        ("slow query", &one.queries),
        ("can be rolled back", &one.rollbacks),
    ];
    for (what, list) in lists {
        lines.extend(list.iter().map(|item| format!("  {what}: {item}")));
    }
    let name = &one.operation;
    lines.push(format!(
        "  if it is usual from now on: `genesisctl baseline accept --operation {name} --reason ...`"
    ));
    Part { title, lines, ..Part::default() }
}
