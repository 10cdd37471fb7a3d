//! What was measured of a database: items and benchmark queries, as they are shown anywhere.

use genesis_client::v1::{BenchmarkResult, Condition, DatabaseItem, Truth};

use crate::exit::Exit;
use crate::format;
use crate::render::{Cell, Part};

const ITEM_COLUMNS: &[&str] = &["ITEM", "STATE", "VALUE", "LIMIT", "EVIDENCE"];
const ITEM_COLUMNS_TIMED: &[&str] = &["ITEM", "STATE", "VALUE", "LIMIT", "TOOK", "EVIDENCE"];
const BENCHMARK_COLUMNS: &[&str] =
    &["QUERY", "STATE", "P50", "P50 BEFORE", "P95", "P95 BEFORE", "BUDGET", "PLAN"];

/// The columns of items. `verbose`: with how long measuring each took.
pub(super) fn item_columns(verbose: bool) -> &'static [&'static str] {
    if verbose { ITEM_COLUMNS_TIMED } else { ITEM_COLUMNS }
}

/// A row for each item, what fails first.
pub(super) fn item_rows(items: &[DatabaseItem], verbose: bool) -> Vec<Vec<Cell>> {
    let mut sorted: Vec<_> = items.iter().collect();
    sorted.sort_by_key(|item| rank(item));
    sorted.into_iter().map(|item| item_row(item, verbose)).collect()
}

fn rank(item: &DatabaseItem) -> u8 {
    match (item.truth(), item.overridden) {
        (Truth::Pass, _) => 3,
        (_, true) => 2,
        (Truth::Unknown | Truth::Unspecified, false) => 1,
        (Truth::Fail, false) => 0,
    }
}

fn item_row(item: &DatabaseItem, verbose: bool) -> Vec<Cell> {
    let took = verbose.then(|| Cell::number(format::proto_duration(item.took.as_ref())));
    let measured = [
        Cell::from(item.name.as_str()),
        Cell::truth(item.truth(), item.overridden),
        Cell::from(format::or_none(&item.value)),
        Cell::from(format::or_none(&item.limit)),
    ];
    let evidence = Cell::from(item.evidence.as_str());
    measured.into_iter().chain(took).chain([evidence]).collect()
}

/// Benchmark queries with their times; nothing where there are none.
pub(super) fn benchmarks(title: String, results: &[BenchmarkResult]) -> Option<Part> {
    let row = |result: &BenchmarkResult| {
        let change = match (result.plan_change.as_str(), &result.p50_before) {
            // Where nothing was measured before, there is nothing to compare with.
            ("", None) => format::NONE,
            ("", Some(_)) => "the same",
            (change, _) => change,
        };
        vec![
            Cell::from(result.name.as_str()),
            Cell::truth(result.truth(), false),
            Cell::number(format::latency(result.p50.as_ref())),
            Cell::number(format::latency(result.p50_before.as_ref())),
            Cell::number(format::latency(result.p95.as_ref())),
            Cell::number(format::latency(result.p95_before.as_ref())),
            Cell::number(format::latency(result.budget.as_ref())),
            Cell::from(change),
        ]
    };
    let rows: Vec<_> = results.iter().map(row).collect();
    let part = Part { title, columns: BENCHMARK_COLUMNS, rows, ..Part::default() };
    (!part.rows.is_empty()).then_some(part)
}

/// How many items are in each state, such as "9 items: 8 PASS, 1 UNKNOWN".
pub(super) fn tally(items: &[DatabaseItem]) -> String {
    tally_of(&items.iter().map(DatabaseItem::truth).collect::<Vec<_>>())
}

/// [`tally`], of anything that was looked at.
pub(super) fn tally_of(items: &[Truth]) -> String {
    let count = |wanted: &[Truth]| items.iter().filter(|item| wanted.contains(item)).count() as u64;
    let counts = [
        (count(&[Truth::Pass]), Truth::Pass),
        (count(&[Truth::Fail]), Truth::Fail),
        (count(&[Truth::Unknown, Truth::Unspecified]), Truth::Unknown),
    ];
    let there = counts.iter().filter(|(count, _)| *count > 0);
    let shown: Vec<_> = there
        .map(|(count, truth)| format!("{} {}", format::count(*count), format::truth(*truth)))
        .collect();
    let all = format::plural(items.len() as u64, "item");
    if shown.is_empty() { all } else { format!("{all}: {}", shown.join(", ")) }
}

/// The names of the items that count and are in the state `wanted`.
pub(super) fn named(items: &[DatabaseItem], wanted: fn(Truth) -> bool) -> String {
    let names = items.iter().filter(|item| !item.overridden && wanted(item.truth()));
    names.map(|item| item.name.as_str()).collect::<Vec<_>>().join(", ")
}

/// What is neither a pass nor a fail.
pub(super) fn is_unknown(truth: Truth) -> bool {
    matches!(truth, Truth::Unknown | Truth::Unspecified)
}

/// The code of what was found: unknown beats what fails, and that beats a pass.
pub(super) fn exit(truths: impl IntoIterator<Item = Truth>) -> Exit {
    Exit::of_conditions(truths.into_iter().map(|truth| match truth {
        Truth::Pass => Condition::Ok,
        Truth::Fail => Condition::Critical,
        Truth::Unknown | Truth::Unspecified => Condition::Unknown,
    }))
}
