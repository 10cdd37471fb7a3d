//! How healthy and sick traffic fares with the deviation of latency from its baseline.
//!
//! Four kinds of traffic, whose references and calibration are learned from 30 days of their own. `GENESIS_LONG=1`
//! runs 800,000 windows of each; found there, at h = 5.70 for windows of five minutes:
//!
//! | | candidates, p50 / p95 / p99 | alerts, and at h = 5 / 4 | the breaker trips |
//! |---|---|---|---|
//! | lognormal, 1,000 calls | 1.2 / 1.7 / 1.7 % | 4, 30 / 159 | 1 |
//! | Pareto, 2,000 calls | 0.1 / 1.9 / 1.7 % | 7, 21 / 100 | 1 |
//! | hits and misses, 600 calls | 0.3 / 0.1 / 0.0 % | 1, 5 / 19 | 1 |
//! | Weibull, 200 to 5,000 calls | 1.7 / 1.6 / 1.7 % | 7, 17 / 128 | 2 |
//!
//! One alert in 30 days would be 93 of them: at h = 4 there would be too many. With a baseline of one week there are 15
//! alerts and 1.4 / 2.7 / 3.2 % candidates, since logarithms of a 99 % are skewed. A doubling opens its episode in the
//! first window in all runs, and so do 40 % more at the trough of a day as well as at its peak.
//!
//! Of very many calls, two percent that last are no episode, and five are one. Windows that depend on each other are in
//! `clustered.rs`.

#![allow(clippy::unwrap_used)] // Helpers of tests.

mod support;
#[path = "support/traffic.rs"]
mod traffic;

use std::time::Duration;

use genesis_stats::{
    Calibrated, Change, Cusum, Judgement, LEAST_EXPECTED, OperationEpisode, OperationWatch,
    Quantile, Reference, Rule, Usual, WindowCount, alert_threshold, exceedance_z, judge, threshold,
};
use support::{Random, Sample};
use traffic::*;

fn long() -> bool {
    std::env::var_os("GENESIS_LONG").is_some_and(|value| value == "1")
}

/// Candidates, windows with a p of a candidate, and alerts of healthy traffic.
#[derive(Default)]
struct Tally {
    windows: f64,
    judged: f64,
    candidates: [f64; 3],
    out: [f64; 3],
    alerts: f64,
}

impl Tally {
    fn run(&mut self, operation: &mut Operation<'_>, windows: usize, limit: f64) {
        self.windows += windows as f64;
        for _ in 0..windows {
            let Some((judged, _, change)) = operation.step(1.0, limit) else { continue };
            self.add(&judged, change);
        }
    }

    fn add(&mut self, judged: &[Judgement; 3], change: Change<OperationEpisode>) {
        self.judged += 1.0;
        self.alerts += f64::from(u8::from(matches!(change, Change::Opened(_))));
        for (i, judged) in judged.iter().enumerate() {
            let verdict = judged.verdict.unwrap();
            self.candidates[i] += f64::from(u8::from(verdict.candidate));
            self.out[i] += f64::from(u8::from(verdict.p <= Rule::default().candidate_p));
        }
    }

    fn share(&self, of: [f64; 3]) -> [f64; 3] {
        of.map(|sum| sum / self.judged)
    }

    /// As many alerts as three standard errors above one in 30 days.
    fn most_alerts(&self) -> f64 {
        let right = self.windows / 8_640.0;
        right + 3.0 * right.sqrt()
    }

    fn figures(&self) -> String {
        let (candidates, out) = (self.share(self.candidates), self.share(self.out));
        format!(
            "candidates {candidates:.4?}, out by p {out:.4?}, {} alerts in {} windows",
            self.alerts, self.windows
        )
    }
}

/// The seeds of a healthy run and its windows.
fn extent() -> (u64, usize) {
    (if long() { 40 } else { 1 }, 20_000)
}

#[test]
fn healthy_traffic_has_few_candidates_and_hardly_an_alert() {
    let (seeds, windows) = extent();
    for traffic in GENERATORS {
        let mut tally = Tally::default();
        let mut lower = [4.0, 5.0].map(|limit| (limit, Tally::default()));
        for seed in 0..seeds {
            let week = traffic.learn(&mut Random(1_000 + seed), LEARNED);
            let run = |tally: &mut Tally, limit: f64| {
                tally.run(&mut Operation::new(&traffic, &week, seed, 0), windows, limit);
            };
            run(&mut tally, alert_threshold(WINDOW));
            if long() {
                lower.iter_mut().for_each(|(limit, tally)| run(tally, *limit));
            }
        }
        println!("{}: {}", traffic.name, tally.figures());
        lower.iter().for_each(|(limit, tally)| println!("  {} at h = {limit}", tally.alerts));
        for share in tally.share(tally.candidates) {
            assert!(share <= 0.026, "{}: {share}", traffic.name);
        }
        for share in tally.share(tally.out) {
            assert!((0.01..=0.026).contains(&share), "{}: {share}", traffic.name);
        }
        assert!(tally.alerts <= tally.most_alerts(), "{}: {}", traffic.name, tally.alerts);
    }
}

/// After a week there are twelve windows to learn from and 36 for the multiplier on log values.
#[test]
fn a_baseline_of_one_week_alerts_hardly_either() {
    let (seeds, windows) = extent();
    let mut tally = Tally::default();
    for seed in 0..seeds {
        let week = STEADY.learn(&mut Random(2_000 + seed), HOUR);
        let mut operation = Operation::new(&STEADY, &week, seed, 0);
        tally.run(&mut operation, windows, alert_threshold(WINDOW));
    }
    println!("one week: {}", tally.figures());
    assert!(tally.share(tally.candidates).iter().all(|share| *share <= 0.04));
    assert!(tally.alerts <= tally.most_alerts(), "{}", tally.alerts);
}

/// The breaker's windows of one minute: calls above the 95 % of the baseline, by what 60 windows say is usual.
#[test]
fn the_breaker_trips_hardly_on_healthy_traffic() {
    let (seeds, windows) = extent();
    for traffic in GENERATORS {
        let (mut trips, random) = (0.0, &mut Random(3));
        for _ in 0..seeds {
            let [_, known, _] = traffic.references(random, 0, LEARNED);
            let share = 1.0 - (traffic.below)(known.edge);
            let mut window = || {
                let calls = (traffic.calls)(random, 0).div_ceil(5);
                (random.binomial(calls, share), calls)
            };
            let usual = Usual::learn(&(0..60).map(|_| window()).collect::<Vec<_>>()).unwrap();
            let mut cusum = Cusum::new(usual.phi, threshold(Duration::from_secs(60)));
            let (mut above, mut calls) = (0, 0);
            for _ in 0..windows {
                let (k, n) = window();
                (above, calls) = (above + k, calls + n);
                if calls as f64 * usual.share < LEAST_EXPECTED {
                    continue;
                }
                if cusum.observe(exceedance_z(above, calls, usual.share).unwrap()) {
                    trips += 1.0;
                    cusum.reset();
                }
                (above, calls) = (0, 0);
            }
        }
        let all = seeds as f64 * windows as f64;
        println!("{}: the breaker trips {trips} times in {all} minutes", traffic.name);
        let right = all / 86_400.0;
        assert!(trips <= right + 3.0 * right.sqrt(), "{}: {trips}", traffic.name);
    }
}

#[test]
fn a_doubled_latency_is_one_episode_within_two_windows() {
    let mut first = 0;
    for traffic in GENERATORS {
        let week = traffic.learn(&mut Random(11), LEARNED);
        for seed in 0..20 {
            let mut operation = Operation::new(&traffic, &week, seed, 97 * seed as usize);
            assert_eq!(operation.opened(2 * HOUR, 1.0), [] as [usize; 0], "{}", traffic.name);
            let opened = operation.opened(3 * HOUR, 2.0);
            assert!(matches!(opened[..], [0 | 1]), "{} {seed}: {opened:?}", traffic.name);
            first += usize::from(opened == [0]);
            assert!(operation.watch.episode.is_some());
            assert_eq!(operation.opened(3 * HOUR, 1.0), [] as [usize; 0], "{}", traffic.name);
            assert_eq!(operation.watch.episode, None, "{} {seed}", traffic.name);
        }
    }
    println!("{first} of 80 in their first window");
}

#[test]
fn what_gets_faster_raises_nothing() {
    for traffic in GENERATORS {
        let week = traffic.learn(&mut Random(13), LEARNED);
        let mut operation = Operation::new(&traffic, &week, 1, 0);
        for _ in 0..40 * HOUR {
            let Some((judged, _, change)) = operation.step(0.5, alert_threshold(WINDOW)) else {
                continue;
            };
            assert_eq!(change, Change::None, "{}", traffic.name);
            assert!(judged.iter().all(|judged| !judged.verdict.unwrap().candidate));
        }
        assert_eq!(operation.watch, OperationWatch::default());
    }
}

/// So many calls that one percent is sixty of its own standard deviations; quantiles lie everywhere in their buckets.
const HUGE: Traffic = Traffic {
    name: "lognormal, 5,000,000 calls",
    calls: |_, _| 5_000_000,
    level: |hour| (hour as f64 / 16.0 / 64.0).exp2(),
    ..STEADY
};

#[test]
fn of_very_many_calls_two_percent_that_last_are_no_episode_and_five_are_one() {
    let week = HUGE.learn(&mut Random(31), LEARNED);
    for times in [1.01, 1.02, 1.03] {
        let mut operation = Operation::new(&HUGE, &week, 1, 0);
        let judged = operation.step(times, alert_threshold(WINDOW)).unwrap().0;
        assert!(judged[0].z > 10.0, "{}", judged[0].z);
        assert_eq!(operation.opened(WEEK * HOUR, times), [] as [usize; 0], "{times}");
        assert_eq!(operation.watch, OperationWatch::default());
    }
    for times in [1.05, 1.055, 1.06, 1.08, 1.1] {
        for hour in 0..WEEK {
            let mut operation = Operation::new(&HUGE, &week, 2, hour * HOUR);
            assert_eq!(operation.opened(HOUR, times), [0], "{times}, hour {hour}");
        }
    }
    // One percent more each hour.
    let mut operation = Operation::new(&HUGE, &week, 3, 0);
    let slow = |percent: u32| 1.0 + f64::from(percent) / 100.0;
    assert_eq!((1..=3).flat_map(|p| operation.opened(HOUR, slow(p))).next(), None);
    assert_eq!((4..=5).flat_map(|p| operation.opened(HOUR, slow(p))).count(), 1);
}

#[test]
fn two_percent_that_are_left_of_an_episode_do_not_keep_it_open() {
    let week = HUGE.learn(&mut Random(37), HOUR);
    let mut operation = Operation::new(&HUGE, &week, 1, 0);
    assert_eq!(operation.opened(HOUR, 2.0), [0]);
    assert_eq!(operation.opened(2, 1.02), [] as [usize; 0]);
    assert!(operation.watch.episode.is_some());
    assert_eq!(operation.opened(WEEK * HOUR, 1.02), [] as [usize; 0]);
    assert_eq!(operation.watch, OperationWatch::default());
}

/// Half as slow and half as busy at four in the morning, twice at four in the afternoon.
fn swing(hour: usize) -> f64 {
    (-(std::f64::consts::TAU * (hour as f64 - 4.0) / 24.0).cos()).exp2()
}

#[test]
fn the_trough_is_as_sensitive_as_the_peak() {
    let daily = Traffic { calls: |_, hour| (1_300.0 * swing(hour)) as u64, level: swing, ..STEADY };
    let week = daily.learn(&mut Random(17), LEARNED);
    for hour in 0..WEEK {
        let mut operation = Operation::new(&daily, &week, hour as u64, hour * HOUR);
        assert_eq!(operation.opened(HOUR, 1.4)[..1], [0], "hour {hour}");
    }
    // One reference for all hours: that at four in the morning is far above what is usual then.
    let random = &mut Random(19);
    let mut values = Vec::new();
    for hour in 0..24 {
        let calls = (daily.calls)(random, hour);
        values.extend((0..calls).map(|_| swing(hour) * 0.02 * (SIGMA * random.normal()).exp()));
    }
    values.sort_by(f64::total_cmp);
    let flat = Quantile::ALL.map(|quantile| {
        let edge = values[(quantile.share() * (values.len() - 1) as f64) as usize];
        let reference = Reference { x0: edge, share: 1.0 - quantile.share(), n: 1_000_000 };
        Known { reference, edge, past: Vec::new(), phi: 1.0 }
    });
    let flat = vec![flat; WEEK];
    let none: [usize; 0] = [];
    assert_eq!(Operation::new(&daily, &flat, 1, 4 * HOUR).opened(HOUR, 1.4), none);
    assert_eq!(Operation::new(&daily, &flat, 1, 16 * HOUR).opened(HOUR, 1.0), [0]);
}

/// Tuesday at ten, twice: the first time is left out of what the second is held against.
#[test]
fn an_episode_does_not_blind_its_hour_in_the_weeks_after() {
    const TUESDAY_AT_TEN: usize = 24 + 10;
    const SLOWER: f64 = 1.4;
    let before = STEADY.learn(&mut Random(23), LEARNED);
    let mut operation = Operation::new(&STEADY, &before, 1, (TUESDAY_AT_TEN - 1) * HOUR);
    let (mut windows, mut episode) = (Vec::new(), None);
    for i in 0..3 * HOUR {
        let times = if i / HOUR == 1 { SLOWER } else { 1.0 };
        let at = operation.at as u64;
        let (judged, counts, change) = operation.step(times, alert_threshold(WINDOW)).unwrap();
        match change {
            Change::Opened(_) => assert_eq!(episode, None),
            Change::Closed(found) => episode = Some((found.since, at)),
            Change::None | Change::Persisting(_) => {}
        }
        windows.push((at, judged, counts));
    }
    let (since, until) = episode.unwrap();
    let started = (TUESDAY_AT_TEN * HOUR) as u64;
    assert!(since <= started && until < started + 2 * HOUR as u64, "{since} {until}");

    // A window of the episode is no calibration; a bad one that nobody noticed crept in all the same.
    let after = |excluded: bool| {
        let mut week = before.clone();
        week[TUESDAY_AT_TEN] = [0, 1, 2].map(|i| {
            let known = &before[TUESDAY_AT_TEN][i];
            // Learned apart from each other; what came now follows them.
            let mut past: Vec<_> = (0..).step_by(100).zip(known.past.clone()).collect();
            let kept = windows.iter().filter(|(at, ..)| !excluded || !(since..=until).contains(at));
            past.extend(kept.map(|(at, judged, counts)| {
                (1_000_000 + *at as i64, calibrated(&judged[i], &counts[i]))
            }));
            past.push((2_000_000, Calibrated { z: 100.0, log_value: 3.0 }));
            Known::learn(&past, known)
        });
        week
    };
    let candidates = |week: &[[Known; 3]]| {
        let mut operation = Operation::new(&STEADY, week, 2, TUESDAY_AT_TEN * HOUR);
        let windows: Vec<_> =
            (0..HOUR).map(|_| operation.step(SLOWER, alert_threshold(WINDOW)).unwrap()).collect();
        let candidate = |judged: &[Judgement; 3]| judged[0].verdict.unwrap().candidate;
        let opened = windows.iter().position(|(.., change)| matches!(change, Change::Opened(_)));
        (windows.iter().filter(|(judged, ..)| candidate(judged)).count(), opened)
    };
    assert_eq!(candidates(&after(true)), (HOUR, Some(0)));
    let blinded = candidates(&after(false));
    println!("with the episode's windows kept: {blinded:?}");
    assert!(blinded.0 < HOUR / 2 && blinded.1 != Some(0), "{blinded:?}");
}

/// The multiplier on log values: as many healthy windows are candidates as the rule says, at the most.
#[test]
fn few_calibration_windows_keep_the_level() {
    let (random, runs) = (&mut Random(29), if long() { 100_000 } else { 5_000 });
    let reference = Reference { x0: 1e-3, share: 0.05, n: 52_000 };
    for count in [8, 12, 20, 42] {
        let mut candidates = 0;
        for _ in 0..runs {
            let mut log = || -3.0 + 0.05 * random.normal();
            let value = log().exp();
            let past: Vec<_> =
                (0..count).map(|_| Calibrated { z: 0.0, log_value: log() as f32 }).collect();
            let window = WindowCount { n: 1_000, above: 50, value };
            let judged = judge(&window, &reference, &past, &Rule::default()).unwrap();
            candidates += u32::from(judged.verdict.unwrap().candidate);
        }
        let share = f64::from(candidates) / f64::from(runs);
        println!("{count} windows: {share:.4}");
        assert!((0.012..0.029).contains(&share), "{count}: {share}");
    }
}

#[test]
fn samples_are_as_if_each_call_were_drawn() {
    // The joint moments of a quantile and two counts, by both ways.
    let (mut lazy, mut plain) = ([0.0; 5], [0.0; 5]);
    let random = &mut Random(7);
    const RUNS: usize = 4_000;
    let add = |sums: &mut [f64; 5], u: f64, k: u64, l: u64| {
        let (k, l) = (k as f64, l as f64);
        for (sum, value) in sums.iter_mut().zip([u, u * u, k, k * k, u * k + l * k]) {
            *sum += value / RUNS as f64;
        }
    };
    for _ in 0..RUNS {
        let mut sample = Sample::new(60);
        let u = sample.quantile(random, 0.9);
        let (k, l) = (sample.above(random, 0.85), sample.above(random, 0.5));
        assert_eq!(sample.quantile(random, 0.9), u);
        assert!(k <= l && l <= 60 && (u > 0.85) == (k >= 7));
        add(&mut lazy, u, k, l);
        let mut values: Vec<f64> = (0..60).map(|_| random.next()).collect();
        values.sort_by(f64::total_cmp);
        let count = |cut: f64| values.iter().filter(|value| **value > cut).count() as u64;
        add(&mut plain, values[53], count(0.85), count(0.5));
    }
    for (lazy, plain) in lazy.iter().zip(plain) {
        assert!((lazy / plain - 1.0).abs() < 0.02, "{lazy} {plain}");
    }
}
