//! What is kept, and which version comes next: tables.

use std::collections::BTreeMap;
use std::sync::Arc;

use genesis_storage::{MatrixRecord, PeriodRecord, RolloutRecord, StageRecord};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use crate::config::{Config, Places};
use crate::operations::matrices::columns::Day;
use crate::operations::matrices::gaps::{Gap, Walk};
use crate::operations::matrices::hours::{HOUR, Hour};
use crate::operations::matrices::plan::{self, Back, By, StageEnd, Versions};
use crate::operations::matrices::prepare::{self, Batch, Column, Fared, Horizon, Left, ROWS, Sent};

const BUCKET: u64 = 300_000_000_000;

#[test]
fn of_each_bucket_the_last_value_stays() {
    let mut hour = Hour::default();
    assert!(hour.put(10, 1.0, BUCKET) && hour.put(BUCKET + 5, 2.0, BUCKET));
    // Later, earlier, at the same time, and at a bucket's very end.
    assert!(hour.put(20, 3.0, BUCKET));
    assert!(!hour.put(15, 4.0, BUCKET));
    assert!(hour.put(20, 5.0, BUCKET), "what was wrong can be sent again");
    assert!(hour.put(BUCKET - 1, 6.0, BUCKET));
    assert_eq!(hour.values(), [(BUCKET - 1, 6.0), (BUCKET + 5, 2.0)]);
    assert_eq!(Hour::from_bytes(&hour.to_bytes()), Some(hour));
}

proptest! {
    #[test]
    fn hours_are_the_same_in_whatever_order_values_come(
        values in prop::collection::btree_map(0..HOUR as u64, -1e9..1e9_f64, 0..60),
        seed in any::<u64>(),
    ) {
        let mut last = BTreeMap::new();
        for (time, value) in &values {
            last.insert(time / BUCKET, (*time, *value));
        }
        let mut shuffled: Vec<(u64, f64)> = values.into_iter().collect();
        let mut state = seed | 1;
        for at in (1..shuffled.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            shuffled.swap(at, (state >> 33) as usize % (at + 1));
        }
        let mut hour = Hour::default();
        for (time, value) in shuffled {
            hour.put(time, value, BUCKET);
        }
        let expected: Vec<(u64, f64)> = last.into_values().collect();
        prop_assert_eq!(hour.values(), &expected[..]);
        prop_assert_eq!(Hour::from_bytes(&hour.to_bytes()), Some(hour));
    }

    #[test]
    fn any_bytes_are_an_hour_or_none(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Some(hour) = Hour::from_bytes(&bytes) {
            prop_assert_eq!(hour.to_bytes(), bytes);
        }
    }

    #[test]
    fn gaps_are_those_that_are_seen(present in prop::collection::vec(any::<bool>(), 1..400)) {
        let mut walk = Walk::new(300, 1_000);
        for hour in 0..present.len().div_ceil(12) {
            let mut values = Hour::default();
            for (at, there) in present.iter().enumerate().skip(12 * hour).take(12) {
                if *there {
                    values.put((at as u64 % 12) * BUCKET + 3, at as f64, BUCKET);
                }
            }
            walk.take(hour as u32, &values);
        }
        let at: Vec<usize> = (0..present.len()).filter(|at| present[*at]).collect();
        prop_assert_eq!(walk.points, at.len() as u64);
        let mut gaps: Vec<Gap> = at
            .windows(2)
            .filter(|pair| pair[1] > pair[0] + 1)
            .map(|pair| Gap { from: pair[0] as i64 + 1, until: pair[1] as i64 })
            .collect();
        prop_assert_eq!(walk.gaps, gaps.len() as u64);
        let missing: i64 = gaps.iter().map(|gap| gap.until - gap.from).sum();
        prop_assert_eq!(walk.missing, missing as u64);
        gaps.sort_by_key(|gap| std::cmp::Reverse(gap.until - gap.from));
        prop_assert_eq!(&walk.longest, &gaps);
        let ends = at.first().zip(at.last());
        let expected = ends.map(|(first, last)| {
            (*first as i64, *last as i64, *last as i64 * BUCKET as i64 + 3, *last as f64)
        });
        prop_assert_eq!(walk.ends, expected);
    }
}

#[test]
fn returns_of_a_day_begin_with_the_price_of_the_day_before() {
    let hour = |values: &[(u64, f64)]| {
        let mut hour = Hour::default();
        values.iter().for_each(|(bucket, value)| {
            hour.put(bucket * BUCKET + 9, *value, BUCKET);
        });
        hour
    };
    let mut day = Day::new(300);
    day.take(0, &hour(&[(0, 110.0), (1, 121.0), (3, 100.0), (4, 50.0)]));
    assert!(day.returns()[0].is_nan(), "nothing is known of the day before");
    day.take_before(&hour(&[(10, 90.0), (11, 100.0)]));
    let returns = day.returns();
    assert_eq!(returns.len(), 288);
    let close = |one: f64, other: f64| (one - other).abs() < 1e-15;
    assert!(close(returns[0], 1.1_f64.ln()) && close(returns[1], 1.1_f64.ln()));
    assert!(returns[2].is_nan() && returns[3].is_nan(), "a gap is no return of several buckets");
    assert!(close(returns[4], 0.5_f64.ln()));
    // The hour before has nothing in its last bucket.
    let mut day = Day::new(300);
    day.take_before(&hour(&[(10, 90.0)]));
    day.take(0, &hour(&[(0, 110.0)]));
    assert!(day.returns()[0].is_nan());
    // Coarser buckets than those in which it came: the last one stays.
    let mut day = Day::new(600);
    day.take(23, &hour(&[(10, 1.0), (11, 2.0)]));
    assert_eq!(day.values()[143], 2.0);
    // What is no price has no return.
    let mut day = Day::new(300);
    day.take(0, &hour(&[(0, -1.0), (1, 2.0), (2, 0.0), (3, 4.0)]));
    assert!(day.returns().iter().all(|it| it.is_nan()));
}

#[test]
fn what_is_wrong_with_a_batch() {
    let batch = |sent| Batch { producer: "feed".to_owned(), sequence: 1, sent };
    let column = |series: &str, times: usize, values: usize| Column {
        series: series.to_owned(),
        times: vec![0; times],
        values: vec![0.0; values],
    };
    let good = batch(Sent::Values(vec![column("BTC", 2, 2)]));
    assert_eq!(prepare::wrong(&good), None);
    let wrong = |batch: &Batch| prepare::wrong(batch).unwrap();
    assert!(wrong(&Batch { producer: "a b".to_owned(), ..good.clone() }).contains("no producer"));
    assert!(wrong(&Batch { sequence: 0, ..good }).contains("begin with 1"));
    for (sent, why) in [
        (Sent::Values(vec![column("", 1, 1)]), "is no series"),
        (Sent::Values(vec![column(&"x".repeat(65), 1, 1)]), "is no series"),
        (Sent::Values(vec![column("BTC", 1, 2)]), "of BTC differ"),
        (Sent::Values(vec![column("A", ROWS, ROWS), column("B", 1, 1)]), "100001 rows"),
        (Sent::Values(vec![column("A", 0, 0); 10_001]), "10001 columns"),
        (Sent::Outcomes(vec![Fared { version: 7, times: vec![1], values: vec![] }]), "of 7 differ"),
    ] {
        let told = wrong(&batch(sent));
        assert!(told.contains(why), "{told}");
    }
}

#[test]
fn values_are_sorted_out() {
    let horizon = Horizon::of(20_000, 20_030 * 86_400);
    let second = 1_000_000_000;
    let day = 86_400 * second;
    let rows = [
        (20_000 * day, 1.0),
        (20_000 * day - 1, 1.0),
        (20_030 * day + 300 * second, 2.0),
        (20_030 * day + 300 * second + 1, 2.0),
        (20_001 * day, f64::NAN),
        (20_001 * day, f64::INFINITY),
        (20_001 * day, 0.0),
        (20_001 * day, -3.0),
    ];
    let column = |series: &str| Column {
        series: series.to_owned(),
        times: rows.iter().map(|row| row.0).collect(),
        values: rows.iter().map(|row| row.1).collect(),
    };
    let (kept, left) = prepare::sift(vec![column("BTC")], horizon, |_| true);
    assert_eq!(kept[0].1, [(20_000 * day, 1.0), (20_030 * day + 300 * second, 2.0)]);
    assert_eq!(left, Left { missing: 2, late: 1, rejected: 3 });
    let (kept, left) = prepare::sift(vec![column("ret")], horizon, |_| false);
    assert_eq!((kept[0].1.len(), left), (4, Left { missing: 2, late: 1, rejected: 1 }));
}

fn at(seconds: i64) -> Timestamp {
    "2026-03-01T00:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_secs(seconds)
}

fn by(seconds: i64) -> By<'static> {
    By { at: at(seconds), who: "ada", reason: "why" }
}

fn candidate(version: u64, percents: &[u32]) -> MatrixRecord {
    let percents = percents.to_vec();
    MatrixRecord {
        version,
        rollout: RolloutRecord { percents, outcomes: 500, alpha: 0.05 },
        ..MatrixRecord::default()
    }
}

fn take(versions: &mut Versions, records: Vec<MatrixRecord>) {
    versions.extend(records.into_iter().map(|it| (it.version, Arc::new(it))));
}

fn states(versions: &Versions) -> Vec<(u64, &str)> {
    versions.values().map(|it| (it.version, it.state.as_str())).collect()
}

const PASSED: StageEnd<'static> = StageEnd { how: plan::PASSED, verdict: "no harm", tally: "{}" };

/// Versions 1 and 2, each of which was active, and 3 at 10 %.
fn history() -> Versions {
    let mut versions = Versions::new();
    let records = plan::admit(&versions, candidate(1, &[10, 50, 100]), by(0));
    take(&mut versions, records);
    let records = plan::admit(&versions, candidate(2, &[100]), by(100));
    take(&mut versions, records);
    let records = plan::admit(&versions, candidate(3, &[10, 50, 100]), by(200));
    take(&mut versions, records);
    versions
}

#[test]
fn the_first_is_active_at_once_and_later_ones_are_tried() {
    let versions = history();
    assert_eq!(states(&versions), [(1, "superseded"), (2, "active"), (3, "canary")]);
    assert_eq!((versions[&2].replaced, versions[&3].control), (1, 2));
    assert_eq!(versions[&1].periods, [PeriodRecord { from: at(0), until: Some(at(100)) }]);
    assert_eq!(versions[&3].stages.len(), 1);
    assert!(versions.values().all(|it| it.kept));
}

#[test]
fn stages_follow_one_another_and_the_last_makes_it_active() {
    let mut versions = history();
    for (percent, seconds) in [(50, 300), (100, 400)] {
        let records = plan::advance(&versions, &Arc::clone(&versions[&3]), PASSED, by(seconds));
        take(&mut versions, records);
        assert_eq!(versions[&3].stages.last().unwrap().percent, percent);
        assert_eq!(versions[&3].state, "canary");
        assert_eq!(versions[&2].state, "active", "at 100 % it can still be taken back");
    }
    let records = plan::advance(&versions, &Arc::clone(&versions[&3]), PASSED, by(500));
    take(&mut versions, records);
    assert_eq!(states(&versions), [(1, "superseded"), (2, "superseded"), (3, "active")]);
    assert_eq!(versions[&3].replaced, 2);
    assert!(versions[&3].stages.iter().all(|it| it.how == "passed" && it.ended_at.is_some()));
    let found = |seconds| plan::active_at(&versions, at(seconds)).map(|it| it.version);
    assert_eq!(
        [found(-1), found(0), found(99), found(100), found(499), found(500), found(9_999)],
        [None, Some(1), Some(1), Some(2), Some(2), Some(3), Some(3)]
    );
}

#[test]
fn ways_back() {
    let mut versions = history();
    // While a rollout goes on, back is what was before it.
    assert_eq!(plan::back(&versions, 0), Ok(Back::EndRollout(3)));
    assert_eq!(plan::back(&versions, 2), Ok(Back::EndRollout(3)));
    assert_eq!(plan::back(&versions, 1), Ok(Back::Activate { from: 2, to: 1 }));
    assert_eq!(plan::back(&versions, 3).unwrap_err().0, "MATRIX_ACTIVE");
    assert_eq!(plan::back(&versions, 9).unwrap_err().0, "MATRIX_NOT_FOUND");
    let records = plan::go_back(&versions, Back::Activate { from: 2, to: 1 }, "{}", by(300));
    take(&mut versions, records);
    assert_eq!(states(&versions), [(1, "active"), (2, "rolled back"), (3, "rolled back")]);
    assert_eq!(versions[&3].stages[0].how, "forced");
    assert_eq!(versions[&1].periods.len(), 2);
    // Before the first there is none; the one that was left undoes it.
    assert_eq!(plan::back(&versions, 0).unwrap_err().0, "MATRIX_NOT_FOUND");
    assert_eq!(plan::back(&versions, 1).unwrap_err().0, "MATRIX_ACTIVE");
    let undo = plan::back(&versions, 2).unwrap();
    let records = plan::go_back(&versions, undo, "", by(400));
    take(&mut versions, records);
    assert_eq!(states(&versions), [(1, "rolled back"), (2, "active"), (3, "rolled back")]);
    assert_eq!(versions[&2].replaced, 1, "what it replaced at first is still before it");
    assert_eq!(plan::back(&versions, 0), Ok(Back::Activate { from: 2, to: 1 }));
    // What is not kept, or not valid, is no way.
    let mut gone = versions.clone();
    let first = MatrixRecord { kept: false, ..(*gone[&1]).clone() };
    take(&mut gone, vec![first]);
    assert_eq!(plan::back(&gone, 0).unwrap_err().0, "MATRIX_NOT_FOUND");
    let rejected = MatrixRecord { state: plan::REJECTED.to_owned(), ..candidate(4, &[100]) };
    take(&mut versions, vec![rejected]);
    assert_eq!(plan::back(&versions, 4).unwrap_err().0, "MATRIX_REJECTED");
    assert_eq!(plan::back(&Versions::new(), 0).unwrap_err().0, "MATRIX_NOT_FOUND");
}

#[test]
fn the_last_ten_are_kept_and_what_was_active_a_month_ago() {
    let mut versions = Versions::new();
    // One each six hours, over 40 days.
    for version in 1..=160 {
        let now = by(version as i64 * 21_600);
        let records = plan::admit(&versions, candidate(version, &[100]), now);
        take(&mut versions, records);
        let kept = plan::kept(&versions, now.at);
        for record in versions.values_mut() {
            if !kept.contains(&record.version) {
                *record = Arc::new(MatrixRecord { kept: false, ..(**record).clone() });
            }
        }
    }
    let kept: Vec<u64> = versions.values().filter(|it| it.kept).map(|it| it.version).collect();
    assert!(kept.ends_with(&[151, 152, 153, 154, 155, 156, 157, 158, 159, 160]), "{kept:?}");
    // Besides these, one a day: the last of it.
    assert!(kept.len() < 42, "{kept:?}");
    let now = at(160 * 21_600);
    for days in [3, 10, 29, 30] {
        let then = now - SignedDuration::from_secs(days * 86_400);
        let end = Timestamp::from_second(then.as_second().div_euclid(86_400) * 86_400 - 1).unwrap();
        let found = plan::active_at(&versions, end).unwrap();
        assert!(found.kept, "{days} days ago: {}", found.version);
    }
    assert!(plan::forgotten(&versions).is_empty());
    let many = (1..=1_005).map(|version| (version, Arc::new(candidate(version, &[100]))));
    assert_eq!(plan::forgotten(&many.collect()), [1, 2, 3, 4, 5]);
}

#[test]
fn what_is_behind_the_active_one_is_kept_however_old_it_is() {
    let mut versions = Versions::new();
    for version in [1, 2] {
        let records = plan::admit(&versions, candidate(version, &[100]), by(version as i64));
        take(&mut versions, records);
    }
    // Two months of new ones, each of which is soon taken back.
    for version in 3..=14 {
        let at = version as i64 * 5 * 86_400;
        let records = plan::admit(&versions, candidate(version, &[100]), by(at));
        take(&mut versions, records);
        let back = plan::back(&versions, 2).unwrap();
        let records = plan::go_back(&versions, back, "", by(at + 3_600));
        take(&mut versions, records);
    }
    assert_eq!(plan::back(&versions, 0), Ok(Back::Activate { from: 2, to: 1 }));
    let kept = plan::kept(&versions, at(14 * 5 * 86_400 + 7_200));
    assert!(kept.contains(&1) && !kept.contains(&3), "{kept:?}");
}

#[test]
fn what_the_configuration_refuses() {
    let places = Places { state: "/s".into(), socket: "/s/a".into() };
    let problems = |text: &str| {
        let read = Config::parse(&format!("[matrices]\n{text}"), "", &places);
        let each: Vec<String> = read.problems.iter().map(|it| it.what()).collect();
        each.join("; ")
    };
    assert_eq!(problems(""), "");
    for (text, why) in [
        ("bucket = \"7m\"", "an hour must be a multiple"),
        ("bucket = \"2h\"", "bucket"),
        ("series = [\"a[\"]", "is no pattern"),
        ("max_series = \"1\"", "not a number from 2 to 1000"),
        ("max_repair = \"0.6\"", "not a number from 0 to 0.5"),
        ("[matrices.drift]\nmode = \"fisher\"", "not one of absolute"),
        ("[matrices.drift]\nmax = \"NaN\"", "not a number"),
        ("[matrices.rollout]\nstages = [\"50%\", \"25%\", \"100%\"]", "shares that grow"),
        ("[matrices.rollout]\nstages = [\"50%\"]", "end with 100%"),
        ("[matrices.rollout]\noutcomes = \"99\"", "from 100"),
        ("[matrices.rollout]\nalpha = \"0.7\"", "from 0.000001"),
        ("[matrices.rollout]\nstage = []", "stages"),
    ] {
        let told = problems(text);
        assert!(told.contains(why), "{text}: {told}");
    }
    let stage = StageRecord { percent: 100, ..StageRecord::default() };
    let last = MatrixRecord { stages: vec![stage], ..candidate(1, &[10, 100]) };
    assert_eq!(plan::next_percent(&last), None);
}
