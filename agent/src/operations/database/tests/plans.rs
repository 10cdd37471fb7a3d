//! What care does, in which order, and what it may drop.

use std::time::Duration;

use genesis_storage::LedgerRecord;
use jiff::Timestamp;

use super::{index, instance, table};
use crate::operations::database::begin::{Due, due};
use crate::operations::database::ledger::{Left, left};
use crate::operations::database::plan;
use crate::outside::database::facts::Index;
use crate::outside::database::upkeep::Built;
use crate::scheduler::calendar::Schedule;

const MIB: i64 = 1 << 20;

#[test]
fn the_most_dead_rows_come_first_and_small_tables_together() {
    let mut partitioned = table(5, 900, 0);
    partitioned.partitioned = true;
    let mut foreign = table(6, 900, 9 * MIB);
    foreign.owned = false;
    let tables = [
        table(1, 0, 9 * MIB),
        table(2, 50, 2 * MIB),
        table(3, 50, 3 * MIB),
        table(4, 7, 10),
        partitioned,
        foreign,
    ];
    let order: Vec<u32> = plan::vacuums(&tables).iter().map(|vacuum| vacuum.oid).collect();
    assert_eq!(order, [3, 2, 4, 1]);
    let small = (0..70).map(|oid| table(oid, 0, 10));
    let all: Vec<_> = small.chain([table(100, 0, 2 * MIB)]).collect();
    let batches = plan::batches(plan::vacuums(&all));
    let sizes: Vec<usize> = batches.iter().map(Vec::len).collect();
    assert_eq!(sizes, [1, 32, 32, 6]);
    assert!(plan::words(&batches[1]).ends_with("(32 tables)"));
}

#[test]
fn what_vacuum_has_not_analysed_is_analysed() {
    let mut partitioned = table(1, 0, 0);
    partitioned.partitioned = true;
    let mut changed = table(2, 0, MIB);
    (changed.analyzed_us, changed.changed) = (5, 101);
    let mut fresh = changed.clone();
    fresh.analyzed_us = 10;
    let mut little = changed.clone();
    little.changed = 100;
    assert_eq!(
        plan::analyzes(&[partitioned, changed, fresh, little], 10),
        ["\"public\".\"t1\"", "\"public\".\"t2\""]
    );
}

#[test]
fn the_worst_indexes_within_the_limits_are_rebuilt_and_rest_after_it() {
    let limits = instance("bloat_most = \"2\"").bloat;
    let now: Timestamp = "2026-11-22T03:00:00Z".parse().unwrap();
    let big = 20 * MIB;
    let names = |indexes: &[_], recent: &[(String, Timestamp)]| -> Vec<String> {
        let chosen = plan::reindexes(indexes, &limits, recent, now);
        chosen.into_iter().map(|reindex| reindex.index.name).collect()
    };
    let mut invalid = index(5, big, 0.9);
    invalid.valid = false;
    let mut unknown = index(6, big, 0.9);
    unknown.bloat = None;
    let mut foreign = index(7, big, 0.9);
    foreign.owned = false;
    let indexes = [
        index(1, big, 0.2),
        index(2, big, 0.8),
        index(3, 15 * MIB, 0.9),
        index(4, big, 0.199),
        invalid,
        unknown,
        foreign,
        index(8, (100 << 30) + 1, 0.9),
        index(9, big, 0.5),
    ];
    assert_eq!(names(&indexes, &[]), ["i2", "i9"], "the worst, and at most two");
    // What was measured counts, not what was estimated.
    let mut measured = index(2, big, 0.8);
    measured.measured = Some(0.1);
    assert_eq!(names(&[measured], &[]), Vec::<String>::new());
    let rebuilt = |days: i64| {
        let at = now - jiff::SignedDuration::from_hours(24 * days);
        [("\"public\".\"i2\"".to_owned(), at)]
    };
    assert_eq!(names(&indexes, &rebuilt(9)), ["i9", "i1"]);
    assert_eq!(names(&indexes, &rebuilt(10)), ["i2", "i9"]);
    assert_eq!(names(&indexes, &rebuilt(-1)), ["i9", "i1"], "a clock that went back");
}

#[test]
fn each_tenth_of_the_indexes_has_its_week() {
    let indexes: Vec<_> = (0..100).map(|oid| index(oid, MIB, 0.0)).collect();
    let mut seen = std::collections::BTreeSet::new();
    for week in 0..10 {
        let now = Timestamp::from_second(1_700_000_000 + week * 7 * 86_400).unwrap();
        let checked = plan::checked_now(&indexes, now);
        assert_eq!(checked.len(), 10);
        seen.extend(checked.into_iter().map(|index| index.oid));
    }
    assert_eq!(seen.len(), 100);
}

#[test]
fn only_what_is_proven_ours_is_dropped() {
    let entry = LedgerRecord {
        key: "trades/index/10".into(),
        database: "trades".into(),
        system_identifier: "7".into(),
        index: ("public".into(), "i10".into()),
        table: ("public".into(), "t1".into()),
        index_oid: 10,
        table_oid: 1,
        foreign: vec![30],
        built: vec![20, 10],
        session: (1, 1),
        run_id: "r".into(),
        at: Timestamp::UNIX_EPOCH,
    };
    let built = |oid, name: &str, valid| Built {
        oid,
        schema: "public".into(),
        name: name.into(),
        valid,
        bytes: 0,
    };
    let ours = built(20, "i10_ccnew", false);
    let replaced = built(10, "i10_ccold", false);
    let unproven = built(40, "i10_ccnew1", false);
    let there = [
        ours.clone(),
        replaced.clone(),
        // Seen before we began.
        built(30, "i10_ccnew2", false),
        unproven.clone(),
        // The new one, once it has taken the name and serves queries.
        built(20, "i10", true),
        // By name it is none.
        built(20, "i10", false),
        built(20, "i10_ccnewer", false),
    ];
    assert_eq!(left(&entry, &there), Left { ours: vec![ours, replaced], unproven: vec![unproven] });
    for (name, looks) in [
        ("a_ccnew", true),
        ("a_ccold12", true),
        ("a_ccnew_b", false),
        ("ccnew", false),
        ("a_ccnew1_ccnew", true),
    ] {
        assert_eq!(plan::looks_left_over(name), looks, "{name}");
    }
}

#[test]
fn care_is_due_once_in_its_window() {
    let schedule = Schedule::parse("Sun 03:00").unwrap();
    let window = Duration::from_secs(1_800);
    let at = |text: &str| -> Timestamp { text.parse().unwrap() };
    let next = Some(at("2026-11-29T03:00:00Z"));
    for (now, tried, wanted) in [
        ("2026-11-22T02:59:59Z", None, Due::Later(Some(at("2026-11-22T03:00:00Z")))),
        ("2026-11-22T03:00:00Z", None, Due::Now(window)),
        ("2026-11-22T03:29:00Z", None, Due::Now(Duration::from_secs(60))),
        ("2026-11-22T03:30:00Z", None, Due::Later(next)),
        ("2026-11-22T03:10:00Z", Some("2026-11-22T03:01:00Z"), Due::Later(next)),
        (
            "2026-11-22T03:10:00Z",
            Some("2026-11-21T23:00:00Z"),
            Due::Now(Duration::from_secs(1_200)),
        ),
        // By a clock that was ahead.
        (
            "2026-11-22T03:10:00Z",
            Some("2026-12-24T03:01:00Z"),
            Due::Now(Duration::from_secs(1_200)),
        ),
    ] {
        let tried = tried.map(at);
        assert_eq!(due(Some(&schedule), window, tried, at(now)), wanted, "{now}");
    }
    assert_eq!(due(None, window, None, at("2026-11-22T03:00:00Z")), Due::Later(None));
    let daily = Schedule::parse("01:00").unwrap();
    let any = Schedule::any([&schedule, &daily, &daily]).unwrap();
    assert_eq!(any.to_string(), "Sun 03:00 or 01:00");
    assert_eq!(any.next_after(at("2026-11-22T01:30:00Z")), Some(at("2026-11-22T03:00:00Z")));
    assert_eq!(any.last_until(at("2026-11-22T02:30:00Z")), Some(at("2026-11-22T01:00:00Z")));
    assert!(Schedule::any([]).is_none());
}

#[test]
fn what_nobody_can_estimate_is_measured_within_a_budget_and_counts_as_large() {
    let limits = instance("").bloat;
    let unknown = |oid, bytes| Index { bloat: None, ..index(oid, bytes, 0.0) };
    let mut hash = unknown(5, 90 * MIB);
    hash.method = "hash".to_owned();
    let indexes = [
        unknown(1, 40 * MIB),
        unknown(2, 60 * MIB),
        index(3, 80 * MIB, 0.1),
        unknown(4, MIB),
        hash,
        unknown(6, 30 * MIB),
    ];
    let asked = |most: i64| plan::worth_asking(&indexes, &limits, (most * MIB).unsigned_abs());
    assert_eq!(asked(1_000), [2, 1, 6]);
    assert_eq!(asked(99), [2, 6], "what does not fit is left, what fits after it is not");
    assert_eq!(asked(29), Vec::<u32>::new());
    let chosen = plan::reindexes(&indexes, &limits, &[], Timestamp::UNIX_EPOCH);
    assert_eq!((chosen.len(), plan::largest(&indexes, &limits, &chosen)), (0, 60 << 20));
    let measured =
        |most: i64| plan::worth_measuring(&indexes, &limits, (most * MIB).unsigned_abs());
    assert_eq!(measured(1_000), [1, 2, 6, 3], "of which nothing is known comes first");
    assert_eq!(measured(130), [1, 2, 6]);
    let known = [index(3, 80 * MIB, 0.9), unknown(4, MIB)];
    let chosen = plan::reindexes(&known, &limits, &[], Timestamp::UNIX_EPOCH);
    assert_eq!(plan::largest(&known, &limits, &chosen), 80 << 20);
}
