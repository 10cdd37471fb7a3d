//! What care has proven: queries, indexes, connections, before against after. Pure.

use std::time::Duration;

use super::config::BenchQuery;
use super::record::{Benchmark, Found, Item, Measured, Truth, micros};
use crate::outside::database::facts::{Index, Standing};
use serde_json::Value;

/// So often each query is measured.
pub const TIMES: usize = 20;
/// Slower than before means by half, and by more than scatter: in microseconds.
const SCATTER: u64 = 2_000;
/// So often a query that seems slower is measured in all, and the quickest counts: what else the host is busy with makes
/// one slower, never quicker.
pub const ROUNDS: usize = 3;
/// Between two of them.
pub const PAUSE: Duration = Duration::from_secs(1);
/// All that is measured again takes so long at most: of what is slow by itself, scatter is a small part.
pub const AGAIN: Duration = Duration::from_secs(10);

/// The median and the 95th percentile of measurements, by the nearest rank.
pub fn percentiles(mut times: Vec<u64>) -> (u64, u64) {
    times.sort_unstable();
    let rank = |share: f64| {
        let at = (share * times.len() as f64).ceil() as usize;
        times.get(at.saturating_sub(1)).copied().unwrap_or(0)
    };
    (rank(0.5), rank(0.95))
}

/// The shape of a plan: a line for each node, indented by depth, and the indexes in it.
pub fn shape(plan: &Value) -> (Vec<String>, Vec<String>) {
    let (mut lines, mut indexes) = (Vec::new(), Vec::new());
    if let Some(root) = plan.get(0).and_then(|first| first.get("Plan")) {
        walk(root, 0, &mut lines, &mut indexes);
    }
    indexes.sort_unstable();
    indexes.dedup();
    (lines, indexes)
}

fn walk(node: &Value, depth: usize, lines: &mut Vec<String>, indexes: &mut Vec<String>) {
    // Deep enough for any plan that a person would want to read.
    if depth > 64 || lines.len() > 500 {
        return;
    }
    let text = |key: &str| node.get(key).and_then(Value::as_str);
    let mut line = format!("{:depth$}{}", "", text("Node Type").unwrap_or("?"));
    for key in ["Join Type", "Strategy", "Relation Name", "Index Name"] {
        if let Some(value) = text(key) {
            line.push(' ');
            line.push_str(value);
        }
    }
    indexes.extend(text("Index Name").map(str::to_owned));
    lines.push(line);
    for child in node.get("Plans").and_then(Value::as_array).into_iter().flatten() {
        walk(child, depth + 1, lines, indexes);
    }
}

/// Whether the median says that a query got slower.
pub fn seems_slower(before: Option<&Measured>, after: &Measured) -> bool {
    before.is_some_and(|before| {
        let (was, is) = (before.p50_us, after.p50_us);
        is > was + was / 2 && is > was + SCATTER
    })
}

/// Whether a query that seems slower is worth another measurement, of which there is so much time left: one that has lost
/// an index is slower for a reason.
pub fn worth_another(before: Option<&Measured>, after: &Measured, left: Duration) -> bool {
    let takes = Duration::from_micros(after.p50_us).saturating_mul(TIMES as u32);
    seems_slower(before, after)
        && before.is_some_and(|before| lost(before, after).is_empty())
        && PAUSE.saturating_add(takes) <= left
}

/// The indexes that a query does not use any more.
fn lost<'a>(before: &'a Measured, after: &Measured) -> Vec<&'a str> {
    let used = before.indexes.iter().filter(|index| !after.indexes.contains(index));
    used.map(String::as_str).collect()
}

/// Compares a query's measurements.
pub fn compare(
    query: &BenchQuery,
    before: Option<Measured>,
    after: Result<Measured, String>,
) -> Benchmark {
    let budget_us = micros(query.budget);
    let mut benchmark = Benchmark {
        before,
        after: None,
        name: query.name.clone(),
        budget_us,
        plan_change: String::new(),
        truth: Truth::Pass,
        detail: String::new(),
    };
    let after = match after {
        Ok(after) => after,
        Err(why) => {
            benchmark.truth = Truth::Unknown;
            benchmark.detail = why;
            return benchmark;
        }
    };
    let mut wrong = Vec::new();
    if after.p95_us >= budget_us {
        wrong.push(format!(
            "its 95th percentile, {} us, is not below its budget of {budget_us} us",
            after.p95_us
        ));
    }
    if let Some(before) = &benchmark.before {
        if seems_slower(Some(before), &after) {
            wrong.push(format!("its median went from {} to {} us", before.p50_us, after.p50_us));
        }
        if before.shape != after.shape {
            benchmark.plan_change = plan_change(&before.shape, &after.shape);
        }
        let lost = lost(before, &after);
        if !lost.is_empty() {
            wrong.push(format!("it does not use {} any more", lost.join(", ")));
        }
    }
    if !wrong.is_empty() {
        benchmark.truth = Truth::Fail;
        benchmark.detail = wrong.join("; ");
    }
    benchmark.after = Some(after);
    benchmark
}

/// The first lines in which two plans differ.
fn plan_change(before: &[String], after: &[String]) -> String {
    let same = before.iter().zip(after).take_while(|(was, is)| was == is).count();
    let line = |plan: &[String]| plan.get(same).map_or("nothing", |line| line.trim()).to_owned();
    format!("{:?} became {:?}", line(before), line(after))
}

/// The items of the verification that come of the queries.
pub fn queries(benchmarks: &[Benchmark]) -> Item {
    let name = "query-performance";
    let limit = "within budget, not slower than before";
    if benchmarks.is_empty() {
        return Item::new(
            name,
            Truth::Pass,
            "none configured",
            limit,
            "see [[database.instance.bench]]",
        );
    }
    let told: Vec<String> = benchmarks
        .iter()
        .filter(|benchmark| benchmark.truth != Truth::Pass)
        .map(|benchmark| format!("{}: {}", benchmark.name, benchmark.detail))
        .collect();
    let any = |truth| benchmarks.iter().any(|benchmark| benchmark.truth == truth);
    let truth = match (any(Truth::Fail), any(Truth::Unknown)) {
        (true, _) => Truth::Fail,
        (false, true) => Truth::Unknown,
        (false, false) => Truth::Pass,
    };
    let good = benchmarks.len() - told.len();
    Item::new(name, truth, format!("{good} of {} well", benchmarks.len()), limit, told.join("; "))
}

/// Indexes that were used before and are gone, or serve no queries any more.
pub fn index_usage(before: &[Index], after: &[Index]) -> Item {
    let used = before.iter().filter(|index| index.valid && index.scans > 0);
    let lost: Vec<String> = used
        .clone()
        .filter(|was| {
            !after.iter().any(|is| is.valid && (&is.schema, &is.name) == (&was.schema, &was.name))
        })
        .map(|was| format!("{}.{}", was.schema, was.name))
        .collect();
    let (total, limit) = (used.count(), "every index used before serves queries");
    let value = format!("{} of {total}", total - lost.len());
    match lost.as_slice() {
        [] => Item::new("index-usage", Truth::Pass, value, limit, ""),
        lost => Item::new(
            "index-usage",
            Truth::Fail,
            value,
            limit,
            format!("gone: {}", lost.join(", ")),
        ),
    }
}

/// Invalid indexes that were not there before; those were somebody else's.
pub fn invalid_indexes(before: &Standing, after: &Standing) -> Item {
    let new: Vec<String> = after
        .invalid
        .iter()
        .filter(|index| !index.building)
        .filter(|index| !before.invalid.iter().any(|was| was.oid == index.oid))
        .map(|index| format!("{}.{}", index.schema, index.name))
        .collect();
    let truth = if new.is_empty() { Truth::Pass } else { Truth::Fail };
    Item::new("invalid-indexes", truth, new.len().to_string(), "0", new.join(", "))
}

/// Whether connections are to be had.
pub fn pool(standing: &Standing) -> Item {
    let (used, most) = (standing.connections, standing.max_connections);
    let value = format!("{used} of {most}");
    let truth = match most {
        0 => Truth::Unknown,
        most if used * 10 < most * 9 => Truth::Pass,
        _ => Truth::Fail,
    };
    Item::new("connection-pool", truth, value, "less than 90 % in use", "")
}

/// Other ways that the planner takes and that do no harm: after VACUUM that is often what it was for.
pub fn notes(benchmarks: &[Benchmark]) -> Vec<Found> {
    plan_changes(benchmarks, |truth| truth == Truth::Pass)
}

fn plan_changes(benchmarks: &[Benchmark], wanted: fn(Truth) -> bool) -> Vec<Found> {
    let changed = benchmarks.iter().filter(|it| !it.plan_change.is_empty() && wanted(it.truth));
    let found = |it: &Benchmark| Found::new("QUERY_PLAN_CHANGED", &*it.name, &*it.plan_change);
    changed.map(found).collect()
}

/// What people should know of the verification and the queries.
pub fn findings(items: &[Item], benchmarks: &[Benchmark]) -> Vec<Found> {
    let mut found: Vec<Found> = items
        .iter()
        .filter(|item| item.truth != Truth::Pass)
        .map(|item| {
            let code = match item.truth {
                Truth::Unknown => "VERIFICATION_UNKNOWN",
                _ => "VERIFICATION_FAILED",
            };
            Found::new(
                code,
                &*item.name,
                format!("{} ({}): {}", item.value, item.limit, item.evidence),
            )
        })
        .collect();
    found.extend(plan_changes(benchmarks, |truth| truth != Truth::Pass));
    found
}
