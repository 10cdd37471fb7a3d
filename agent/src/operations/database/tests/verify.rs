//! What is proven after care.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use jiff::Timestamp;
use serde_json::json;

use super::{index, standing};
use crate::operations::database::config::BenchQuery;
use crate::operations::database::measure::{Measuring, compared};
use crate::operations::database::record::{Measured, Truth};
use crate::operations::database::verify;
use crate::outside::clock::{Clock, ManualClock};
use crate::outside::database::facts::Invalid;

fn query() -> BenchQuery {
    BenchQuery { name: "q".into(), sql: "SELECT 1".into(), budget: Duration::from_millis(100) }
}

fn measured(p50_us: u64, p95_us: u64, shape: &[&str], indexes: &[&str]) -> Measured {
    let texts = |list: &[&str]| list.iter().map(|it| (*it).to_owned()).collect();
    Measured { name: "q".into(), p50_us, p95_us, shape: texts(shape), indexes: texts(indexes) }
}

#[test]
fn percentiles_are_of_the_nearest_rank() {
    assert_eq!(verify::percentiles((1..=20).rev().collect()), (10, 19));
    assert_eq!(verify::percentiles(vec![7]), (7, 7));
    assert_eq!(verify::percentiles(vec![]), (0, 0));
}

#[test]
fn a_query_is_compared_with_itself() {
    let before = || Some(measured(10_000, 12_000, &["Index Scan t i"], &["i"]));
    let same = |p50, p95| Ok(measured(p50, p95, &["Index Scan t i"], &["i"]));
    for (before, after, truth, says) in [
        (before(), same(10_000, 12_000), Truth::Pass, ""),
        (before(), same(15_000, 20_000), Truth::Pass, ""),
        (before(), same(15_001, 20_000), Truth::Fail, "median"),
        (before(), same(9_000, 100_000), Truth::Fail, "budget"),
        // Half as much again, and still within the scatter of a fast one.
        (
            Some(measured(100, 200, &["Index Scan t i"], &["i"])),
            same(1_000, 1_200),
            Truth::Pass,
            "",
        ),
        (None, same(10_000, 12_000), Truth::Pass, ""),
        (before(), Err("no such table".into()), Truth::Unknown, "no such table"),
        (
            before(),
            Ok(measured(10_000, 12_000, &["Seq Scan t"], &[])),
            Truth::Fail,
            "does not use i",
        ),
        (before(), Ok(measured(9_000, 9_500, &["Bitmap Scan t", " i"], &["i"])), Truth::Pass, ""),
    ] {
        let changed =
            after.as_ref().ok().zip(before.as_ref()).is_some_and(|(a, b)| a.shape != b.shape);
        let compared = verify::compare(&query(), before, after);
        assert_eq!(compared.truth, truth, "{compared:?}");
        assert!(compared.detail.contains(says), "{compared:?}");
        assert_eq!(!compared.plan_change.is_empty(), changed, "{compared:?}");
        let found = verify::findings(&[verify::queries(&[compared])], &[]);
        assert_eq!(found.is_empty(), truth == Truth::Pass, "{found:?}");
    }
}

#[test]
fn what_seems_slower_is_worth_another_look_unless_it_lost_an_index() {
    let of = |p50, indexes: &[&str]| measured(p50, 90_000, &["Index Scan t i"], indexes);
    for (before, after, worth) in [
        (Some(of(10_000, &["i"])), of(15_001, &["i"]), true),
        (Some(of(10_000, &["i"])), of(15_000, &["i"]), false),
        (Some(of(100, &["i"])), of(2_100, &["i"]), false),
        (Some(of(100, &["i"])), of(2_101, &["i"]), true),
        (Some(of(10_000, &["i"])), of(50_000, &[]), false),
        (Some(of(10_000, &[])), of(50_000, &["i"]), true),
        (None, of(50_000, &["i"]), false),
    ] {
        let is = verify::worth_another(before.as_ref(), &after, verify::AGAIN);
        assert_eq!(is, worth, "{before:?} {after:?}");
    }
    // Twenty times 50 ms, and the pause before it.
    let (before, after) = (of(10_000, &["i"]), of(50_000, &["i"]));
    for (left, worth) in [(2_000, true), (1_999, false), (0, false)] {
        let left = Duration::from_millis(left);
        assert_eq!(verify::worth_another(Some(&before), &after, left), worth, "{left:?}");
    }
}

fn of(p50: u64) -> Measured {
    measured(p50, p50, &["Index Scan t i"], &["i"])
}

/// What it takes each time; 0: it fails.
struct Times<'a>(std::slice::Iter<'a, u64>);

#[async_trait::async_trait]
impl Measuring for &mut Times<'_> {
    async fn again(&mut self, _: &BenchQuery) -> crate::error::Result<Result<Measured, String>> {
        let next = *self.0.next().expect("no more than three in all");
        Ok(if next == 0 { Err("gone".to_owned()) } else { Ok(of(next)) })
    }
}

/// Compares a query of 10 ms with one that takes so long at each measurement; how often it was measured again.
fn again(first: u64, times: &[u64]) -> (u64, Truth, usize) {
    let moves = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
    let clock = Arc::clone(&moves) as Arc<dyn Clock>;
    let (queries, mut left, mut pauses) = ([query()], Times(times.iter()), 0);
    let done = {
        let (before, after) = (vec![Some(of(10_000))], vec![Ok(of(first))]);
        let mut compared = std::pin::pin!(compared(
            &clock,
            &queries,
            before,
            after,
            Duration::from_secs(4),
            &mut left
        ));
        loop {
            match (&mut compared).now_or_never() {
                Some(done) => break done.unwrap().remove(0),
                None => moves.advance(verify::PAUSE),
            }
            pauses += 1;
            assert!(pauses < 10);
        }
    };
    let measured = times.len() - left.0.len();
    assert_eq!(pauses, measured, "a pause before each");
    (done.after.unwrap().p50_us, done.truth, measured)
}

#[test]
fn a_query_that_was_disturbed_is_measured_again_and_one_that_is_slower_stays_so() {
    assert_eq!(again(12_000, &[9_000]), (12_000, Truth::Pass, 0));
    assert_eq!(again(40_000, &[11_000, 9_000]), (11_000, Truth::Pass, 1));
    assert_eq!(again(40_000, &[50_000, 9_000, 8_000]), (9_000, Truth::Pass, 2));
    assert_eq!(again(40_000, &[50_000, 30_000, 9_000]), (30_000, Truth::Fail, 2));
    assert_eq!(again(40_000, &[20_000, 30_000]), (20_000, Truth::Fail, 2), "the quickest");
    // A third one would take longer than there is time for.
    assert_eq!(again(120_000, &[110_000, 9_000]), (110_000, Truth::Fail, 1));
    // What does not answer any more is no reason to forget what it took.
    assert_eq!(again(40_000, &[0, 0, 9_000]), (40_000, Truth::Fail, 2));
}

#[test]
fn a_plan_is_told_by_its_nodes() {
    let plan = json!([{"Plan": {"Node Type": "Nested Loop", "Join Type": "Inner", "Actual Rows": 5, "Plans": [
        {"Node Type": "Index Scan", "Relation Name": "t", "Index Name": "i"},
        {"Node Type": "Seq Scan", "Relation Name": "u"}
    ]}}]);
    let (lines, indexes) = verify::shape(&plan);
    assert_eq!(lines, ["Nested Loop Inner", " Index Scan t i", " Seq Scan u"]);
    assert_eq!(indexes, ["i"]);
    assert_eq!(verify::shape(&json!({})).0, Vec::<String>::new());
    let mut deep = json!({"Node Type": "x"});
    for _ in 0..100 {
        deep = json!({"Node Type": "x", "Plans": [deep]});
    }
    assert_eq!(verify::shape(&json!([{"Plan": deep}])).0.len(), 65, "bounded");
}

#[test]
fn indexes_that_were_used_must_serve_queries_still() {
    let mut used = index(1, 10, 0.0);
    used.scans = 5;
    let unused = index(2, 10, 0.0);
    // Rebuilt, it has another id and the same name.
    let mut rebuilt = used.clone();
    rebuilt.oid = 9;
    let before = [used, unused];
    assert_eq!(verify::index_usage(&before, &[rebuilt.clone()]).truth, Truth::Pass);
    let lost = verify::index_usage(&before, &[]);
    assert_eq!((lost.truth, lost.evidence.as_str()), (Truth::Fail, "gone: public.i1"));
    rebuilt.valid = false;
    assert_eq!(verify::index_usage(&before, &[rebuilt]).truth, Truth::Fail);
}

#[test]
fn connections_and_invalid_indexes_are_judged() {
    let (before, mut after) = (standing(), standing());
    assert_eq!(verify::pool(&after).truth, Truth::Pass);
    after.connections = 90;
    assert_eq!(verify::pool(&after).truth, Truth::Fail);
    after.max_connections = 0;
    assert_eq!(verify::pool(&after).truth, Truth::Unknown);
    let invalid = |building| Invalid {
        oid: 5,
        schema: "public".into(),
        name: "x".into(),
        table: 1,
        building,
    };
    after.invalid = vec![invalid(true)];
    assert_eq!(verify::invalid_indexes(&before, &after).truth, Truth::Pass);
    after.invalid = vec![invalid(false)];
    assert_eq!(verify::invalid_indexes(&before, &after).truth, Truth::Fail);
    let foreign = after.clone();
    assert_eq!(verify::invalid_indexes(&foreign, &after).truth, Truth::Pass);
}
