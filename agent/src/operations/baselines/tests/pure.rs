//! Tables of what is pure.

use std::sync::Arc;

use genesis_stats::{Calibrated, Sketch, column};
use genesis_storage::{BaselineRecord, EpisodeRecord};
use jiff::Timestamp;

use crate::operations::baselines::calculate::is_left_out;
use crate::operations::baselines::calibration::{self, KEPT, Past};
use crate::operations::baselines::plan::{
    self, References, Scope, hour_of, hour_of_week, part_of_day,
};
use crate::operations::baselines::prepare::{Batch, Column, Horizon, prepare, wrong};
use crate::operations::baselines::standing::{Current, Standing};
use crate::operations::baselines::{episodes, judge, raw};

fn second(text: &str) -> i64 {
    text.parse::<Timestamp>().unwrap().as_second()
}

#[test]
fn hours_of_the_week_begin_on_monday_at_midnight() {
    for (at, hour, part) in [
        ("2026-03-02T00:00:00Z", 0, 0),
        ("2026-03-02T05:59:59Z", 5, 0),
        ("2026-03-02T06:00:00Z", 6, 1),
        ("2026-03-06T23:59:59Z", 119, 3),
        ("2026-03-07T00:00:00Z", 120, 4),
        ("2026-03-08T23:00:00Z", 167, 7),
        ("1970-01-01T00:00:00Z", 72, 0),
    ] {
        let found = hour_of_week(hour_of(second(at)));
        assert_eq!((found, part_of_day(found)), (hour, part), "{at}");
    }
}

#[test]
fn a_baseline_is_of_the_window_s_hours_and_the_one_that_goes_on() {
    let now = second("2026-03-02T10:20:00Z");
    let hour = hour_of(now);
    for (window, since, expected) in [
        (30 * 86_400, None, (hour + 1 - 720, hour + 1)),
        (86_400, None, (hour + 1 - 24, hour + 1)),
        // Only whole hours after it, and none of the future.
        (86_400, Some("2026-03-02T08:00:00Z"), (hour - 2, hour + 1)),
        (86_400, Some("2026-03-02T08:00:01Z"), (hour - 1, hour + 1)),
        (86_400, Some("2026-03-01T00:00:00Z"), (hour + 1 - 24, hour + 1)),
        (86_400, Some("2027-01-01T00:00:00Z"), (hour + 1, hour + 1)),
    ] {
        assert_eq!(plan::hours(now, window, since.map(second)), expected, "{window} {since:?}");
    }
}

#[test]
fn a_time_of_the_week_with_few_values_has_that_of_a_wider_one() {
    let of_hour = |count: u64, value: f64| {
        let mut sketch = Sketch::new();
        sketch.insert_count(value, count);
        sketch
    };
    let monday = hour_of(second("2026-03-02T00:00:00Z"));
    // 500 on Monday at 00, 499 at 01 (with 00 more than 500 in their part), 10 on Saturday.
    let hours = [
        (monday, of_hour(500, 0.1)),
        (monday + 1, of_hour(499, 0.2)),
        (monday + 120, of_hour(10, 0.4)),
    ];
    let (references, all) = References::of(hours.iter().map(|(hour, it)| (*hour, it)));
    assert_eq!(all.count(), 1_009);
    for (hour, scope, n) in [
        (0, Scope::Hour, 500),
        (1, Scope::Part, 999),
        (5, Scope::Part, 999),
        (6, Scope::All, 1_009),
        (120, Scope::All, 1_009),
    ] {
        let (found, [median, ..]) = references.at(hour).unwrap();
        assert_eq!((found, median.n), (scope, n), "{hour}");
    }
    let (_, [median, p95, _]) = references.at(1).unwrap();
    assert!((median.x0 - 0.1).abs() < 0.001 && (median.share - 499.0 / 999.0).abs() < 1e-12);
    assert!((p95.x0 - 0.2).abs() < 0.002 && p95.share == 0.5 / 999.0);
    assert_eq!(References::default().at(0), None);
}

fn columns(times: &[i64], seconds: &[f64]) -> Vec<Column> {
    vec![Column { operation: "a".into(), times: times.to_vec(), seconds: seconds.to_vec() }]
}

fn batch(columns: Vec<Column>) -> Batch {
    Batch { producer: "p".into(), sequence: 1, columns }
}

#[test]
fn what_is_wrong_with_a_batch_is_said() {
    let good = || batch(columns(&[1], &[0.1]));
    assert_eq!(wrong(&good()), None);
    let long = "x".repeat(129);
    for (batch, word) in [
        (Batch { producer: String::new(), ..good() }, "producer"),
        (Batch { producer: "a b".into(), ..good() }, "producer"),
        (Batch { sequence: 0, ..good() }, "sequence"),
        (batch(columns(&[1, 2], &[0.1])), "2 times for 1 values"),
        (batch(columns(&vec![1; 100_001], &vec![0.1; 100_001])), "100001 observations"),
        (batch(vec![Column { operation: long, ..Column::default() }]), "no operation"),
        (batch(vec![Column { operation: "a{b}".into(), ..Column::default() }]), "no operation"),
    ] {
        let why = wrong(&batch).unwrap();
        assert!(why.contains(word), "{why}");
    }
}

#[test]
fn observations_are_sorted_by_when_they_were() {
    let now = second("2026-03-02T10:20:00Z");
    let horizon = Horizon { now, oldest: now - 86_400, open: now - 1_200 };
    let nanos = |seconds: i64| (now + seconds) * 1_000_000_000;
    let times = [
        nanos(-86_401), // Late by a second.
        nanos(-86_400), // The oldest that counts.
        nanos(-3_600),  // An hour before.
        nanos(-1_201),  // 10:00 less a second is closed, and of the hour before.
        nanos(-1_200),  // 10:00 is open.
        nanos(-1_141),
        nanos(-1_140), // 10:01.
        nanos(-1_200), // Out of order.
        nanos(300),    // As far ahead as may be.
        nanos(301),
        nanos(0),
    ];
    let mut seconds = vec![0.25; times.len()];
    seconds[10] = f64::NAN;
    let prepared = prepare(batch(columns(&times, &seconds)), &horizon);
    assert_eq!((prepared.late, prepared.ahead, prepared.shares.len()), (1, 1, 1));
    let share = &prepared.shares[0];
    assert_eq!((share.counted, share.rejected), (8, 1));
    let hour = hour_of(now);
    let mut hours: Vec<_> = share.hours.iter().map(|(hour, it)| (*hour, it.count())).collect();
    hours.sort_unstable();
    assert_eq!(hours, [(hour - 24, 1), (hour - 1, 2), (hour, 5)]);
    let rejected: u64 = share.hours.iter().map(|(_, it)| it.rejected()).sum();
    assert_eq!(rejected, 1);
    let mut minutes: Vec<_> =
        share.minutes.iter().map(|(at, it)| (at * 60 - now, it.count())).collect();
    minutes.sort_unstable();
    assert_eq!(minutes, [(-1_200, 3), (-1_140, 1), (0, 0), (300, 1)]);
    // What counts is in the raw rows, in its order, and nothing else.
    let (mut raw_times, mut raw_nanos) = (Vec::new(), Vec::new());
    raw::rows(&share.raw, &mut raw_times, &mut raw_nanos);
    assert_eq!(raw_times, times[1..9]);
    assert_eq!(raw_nanos, [250_000_000; 8]);
}

#[test]
fn two_columns_of_one_operation_are_one() {
    let now = second("2026-03-02T10:20:00Z");
    let horizon = Horizon { now, oldest: 0, open: now - 1_200 };
    let at = now * 1_000_000_000;
    let twice = [columns(&[at], &[0.1]), columns(&[at + 1, 7], &[0.2, 0.3])].concat();
    let prepared = prepare(batch(twice), &horizon);
    assert_eq!(prepared.shares.len(), 1);
    let share = &prepared.shares[0];
    assert_eq!((share.counted, share.hours.len(), share.minutes.len()), (3, 2, 1));
    assert_eq!(share.minutes[0].1.count(), 2);
    assert_eq!(column::chunks(&share.raw).filter(Result::is_ok).count(), 2);
}

#[test]
fn rows_of_raw_columns_come_back_and_what_is_cut_off_is_left_out() {
    let mut row = Vec::new();
    raw::put(&mut row, 7, b"one");
    raw::put(&mut row, 9, b"");
    let parts: Vec<_> = raw::parts(&row).collect();
    assert_eq!(parts, [(7, &b"one"[..]), (9, &b""[..])]);
    for length in 0..row.len() {
        assert!(raw::parts(&row[..length]).count() < 2, "{length}");
    }
}

#[test]
fn judged_windows_come_back_as_they_are_kept() {
    let calibrated = |z: f32, log_value: f32| Some(Calibrated { z, log_value });
    let mut past = Vec::new();
    for at in (0..KEPT as i64 + 5).rev() {
        let quantiles = [calibrated(0.5, -3.912), None, calibrated(1e9, f32::NAN)];
        calibration::add(&mut past, Past { start: at * 300, quantiles });
    }
    // The oldest have made room, and one that is judged again is there once.
    assert_eq!((past.len(), past[0].start), (KEPT, 5 * 300));
    calibration::add(&mut past, Past { start: 10 * 300, quantiles: [None; 3] });
    assert_eq!(past.len(), KEPT);
    let bytes = calibration::encode(&past);
    assert_eq!(bytes.len(), 16 * KEPT);
    let back = calibration::decode(&bytes);
    assert_eq!(back[5].quantiles, [None; 3]);
    let kept = |it: Option<Calibrated>| it.map(calibration::kept);
    assert_eq!(back[0].quantiles[0], kept(calibrated(0.5, -3.912)));
    assert_eq!(back[0].quantiles[2].unwrap().z, 32_767.0 / 64.0);
    assert_eq!(calibration::decode(&bytes[..17]).len(), 1);
    assert_eq!(calibration::neighbours(0), [167, 0, 1]);
    assert_eq!(calibration::day_before(0).collect::<Vec<_>>().last(), Some(&144));
}

#[test]
fn hours_with_an_episode_are_left_out_unless_it_was_accepted() {
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    let episode = |ended: &str, until: Option<&str>| EpisodeRecord {
        since: at("2026-03-03T10:55:00Z"),
        until: until.map(at),
        ended: ended.to_owned(),
        ..EpisodeRecord::default()
    };
    let closed = [episode("cleared", Some("2026-03-03T12:00:00Z"))];
    let hour = |text: &str| hour_of(second(text));
    for (hour, left_out) in [
        (hour("2026-03-03T09:00:00Z"), false),
        (hour("2026-03-03T10:00:00Z"), true),
        (hour("2026-03-03T11:00:00Z"), true),
        (hour("2026-03-03T12:00:00Z"), false),
    ] {
        assert_eq!(is_left_out(hour, &closed), left_out, "{hour}");
    }
    assert!(is_left_out(u32::MAX - 1, &[episode("", None)]));
    assert!(!is_left_out(hour("2026-03-03T11:00:00Z"), &[episode("accepted", None)]));
}

#[test]
fn latencies_are_read_by_people() {
    for (seconds, text) in [
        (0.0, "0.00 ns"),
        (1.2e-7, "120 ns"),
        (0.000_012_34, "12.3 us"),
        (0.0042, "4.20 ms"),
        (0.999, "999 ms"),
        (1.5, "1.50 s"),
        (3_600.0, "3600 s"),
    ] {
        assert_eq!(episodes::latency(seconds), text);
    }
}

#[test]
fn what_drifts_by_itself_is_less_far_out_than_what_scatters_as_much() {
    let even = |scale: f64, count: u32| {
        let mut sketch = Sketch::new();
        for call in 0..count {
            sketch.insert(scale * (0.01 + 0.02 * f64::from(call) / f64::from(count)));
        }
        sketch
    };
    let start = second("2026-03-02T00:00:00Z");
    let (references, sketch) = References::of([(hour_of(start), &even(1.0, 20_000))].into_iter());
    let current = Arc::new(Current::new(BaselineRecord::default(), sketch, references));
    // Twenty-five weeks of the same hour; what is far out is so in turn, or for a whole hour.
    let past = |far: fn(i64) -> f32| -> Vec<Past> {
        (0..120)
            .map(|window| {
                let z = far(window);
                let start = start - (window / 12 + 1) * 604_800 + window % 12 * plan::WINDOW;
                Past { start, quantiles: [Some(Calibrated { z, log_value: z / 100.0 - 4.0 }); 3] }
            })
            .collect()
    };
    let sum = |past: &[Past]| {
        let mut standing = Standing { current: Some(Arc::clone(&current)), ..Standing::default() };
        let outcome = judge::window(&mut standing, start, &even(1.1, 400), past);
        outcome.window.judged[0].cusum.0
    };
    let in_turn = sum(&past(|window| if window % 2 == 0 { 2.0 } else { -2.0 }));
    let by_hours = sum(&past(|window| if window / 12 % 2 == 0 { 2.0 } else { -2.0 }));
    assert!(in_turn > 0.3 && by_hours == 0.0, "{in_turn} and {by_hours}");
}
