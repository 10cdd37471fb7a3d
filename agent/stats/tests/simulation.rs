//! How long the breaker's CUSUM runs on a healthy operation, and how soon it trips on a sick one.
//!
//! Two independent ways: the Markov chain of Brook and Evans, which is exact up to its grid, and simulated windows
//! whose share and phi are first learned, as the agent learns them. `GENESIS_LONG=1` simulates many more.
//!
//! Found at h = 6.5, in windows of one minute: with the true share, the shortest run lengths are 139,000 (500 calls,
//! 1 %) and 170,000 (100 calls, 5 %), those of busier operations over 800,000. Learned from 60 windows, in the long
//! form: 840,000 windows at the least, since the share is taken one standard error too high; 7 % of the runs end within
//! 30 days at most. A doubling at 1,000 calls and 5 % trips within two windows in 99.6 % of the runs, a shift to the
//! eightfold in its first one in 99.8 % even at 5 expected exceedances. A doubling at fewer than about 50 expected
//! exceedances a window takes longer.

#![allow(clippy::unwrap_used)] // Helpers of tests.

#[allow(dead_code)] // Not all of it is needed here.
mod support;

use std::time::Duration;

use genesis_stats::{Cusum, LEAST_EXPECTED, Usual, alert_threshold, exceedance_z, threshold};
use support::Random;

/// Sixty days of one-minute windows: two CUSUMs of such a run length are thirty days.
const WANTED: f64 = 86_400.0;
const MINUTE: Duration = Duration::from_secs(60);

fn long() -> bool {
    std::env::var_os("GENESIS_LONG").is_some_and(|value| value == "1")
}

/// Draws from one binomial, by its cumulated probabilities.
struct Binomial(Vec<f64>);

/// P(k of n), for k from 0 until next to nothing is left above.
fn probabilities(n: u64, p: f64) -> Vec<f64> {
    let mut found = vec![(n as f64 * (-p).ln_1p()).exp()];
    for k in 1..=n {
        let last = found[k as usize - 1];
        let next = last * (n - k + 1) as f64 / k as f64 * p / (1.0 - p);
        if k as f64 > n as f64 * p && next < 1e-18 {
            break;
        }
        found.push(next);
    }
    found
}

impl Binomial {
    fn new(n: u64, p: f64) -> Self {
        let mut sum = 0.0;
        Self(
            probabilities(n, p)
                .into_iter()
                .map(|p| {
                    sum += p;
                    sum
                })
                .collect(),
        )
    }

    fn draw(&self, random: &mut Random) -> u64 {
        let at = random.next();
        self.0.partition_point(|cumulated| *cumulated < at) as u64
    }
}

/// The average run length from S = 0 by the Markov chain of Brook and Evans (1972, section 2).
fn run_length(n: u64, p: f64, shift: f64, limit: f64) -> f64 {
    const CELLS: usize = 160;
    let width = limit / (CELLS as f64 - 0.5);
    let steps: Vec<(f64, f64)> = probabilities(n, p * shift)
        .into_iter()
        .enumerate()
        .map(|(k, chance)| (exceedance_z(k as u64, n, p).unwrap() - 1.0, chance))
        .collect();
    // (I - R) x = 1; row i starts from S = i * width.
    let mut matrix = vec![vec![0.0; CELLS + 1]; CELLS];
    for (i, row) in matrix.iter_mut().enumerate() {
        row[i] += 1.0;
        row[CELLS] = 1.0;
        for (step, chance) in &steps {
            let to = ((i as f64 * width + step) / width).round().max(0.0) as usize;
            if to < CELLS {
                row[to] -= chance;
            }
        }
    }
    for pivot in 0..CELLS {
        let scale = matrix[pivot][pivot];
        matrix[pivot].iter_mut().for_each(|value| *value /= scale);
        let row = matrix[pivot].clone();
        for (i, other) in matrix.iter_mut().enumerate() {
            let factor = other[pivot];
            if i != pivot && factor != 0.0 {
                other[pivot..].iter_mut().zip(&row[pivot..]).for_each(|(a, b)| *a -= factor * b);
            }
        }
    }
    matrix[0][CELLS]
}

/// Calls a window and the share that exceeds by right: from the least that is judged at all to busy.
const CELLS: [(u64, f64); 6] =
    [(100, 0.05), (500, 0.01), (1_000, 0.05), (5_000, 0.001), (5_000, 0.05), (20_000, 0.01)];

#[test]
fn with_the_true_share_it_runs_for_sixty_days_by_the_markov_chain() {
    for (n, p) in CELLS {
        assert!(n as f64 * p >= LEAST_EXPECTED);
        for window in [60.0, 10.0, 1.0] {
            let limit = threshold(Duration::from_secs_f64(window));
            let found = run_length(n, p, 1.0, limit) * window / 60.0;
            println!("n {n} p {p} window {window} s: {found:.0} minutes");
            assert!(found >= WANTED, "n {n} p {p} window {window}: {found}");
        }
    }
}

#[test]
fn three_cusums_of_five_minutes_run_for_thirty_days_by_the_markov_chain() {
    for (n, p) in CELLS {
        let found = run_length(n, p, 1.0, alert_threshold(Duration::from_secs(300)));
        println!("n {n} p {p}: {found:.0} windows of five minutes");
        assert!(found >= 3.0 * 8_640.0, "n {n} p {p}: {found}");
    }
}

/// One CUSUM that has learned from `learned` windows of calls of which a share `p` exceeds: the windows until it
/// trips, at most `most`.
fn run(random: &mut Random, source: &Binomial, n: u64, learned: usize, most: u64) -> Option<u64> {
    let windows: Vec<_> = (0..learned).map(|_| (source.draw(random), n)).collect();
    let usual = Usual::learn(&windows).unwrap();
    let mut cusum = Cusum::new(usual.phi, threshold(MINUTE));
    // What is learned of rare exceedances may put the expectation below the least that is judged.
    let together = (LEAST_EXPECTED / (n as f64 * usual.share)).ceil() as u64;
    let mut seen = 0;
    while seen < most {
        let above = (0..together).map(|_| source.draw(random)).sum();
        seen += together;
        if cusum.observe(exceedance_z(above, n * together, usual.share).unwrap()) {
            return Some(seen);
        }
    }
    None
}

/// The run length is estimated as for lifetimes that are cut off: all windows together by the number of trips.
#[test]
fn with_a_learned_share_it_runs_for_sixty_days_by_simulation() {
    let (seeds, most) = if long() { (300, 400_000) } else { (50, 100_000) };
    for (n, p) in CELLS {
        let source = Binomial::new(n, p);
        let (mut windows, mut trips, mut within) = (0, 0_u64, 0);
        for seed in 0..seeds {
            let ended = run(&mut Random(seed), &source, n, 60, most);
            windows += ended.unwrap_or(most);
            trips += u64::from(ended.is_some());
            within += u64::from(ended.is_some_and(|ended| ended <= 43_200));
        }
        let length = windows as f64 / trips.max(1) as f64;
        println!(
            "n {n} p {p}: run length {length:.0} ({trips} trips), {within} of {seeds} within 30 days"
        );
        assert!(length >= WANTED, "n {n} p {p}: {length}");
        // Run lengths are spread like lifetimes: of those that last 60 days on average, 39 % end within 30.
        let most_within = 1.0 - (-0.5_f64).exp();
        assert!((within as f64) < most_within * seeds as f64, "n {n} p {p}: {within} of {seeds}");
    }
}

#[test]
fn a_gross_shift_trips_in_its_first_window_and_a_doubling_within_two() {
    let seeds = if long() { 20_000 } else { 2_000 };
    // Two windows of a doubling rise by 2 (sqrt(np) - 1) on average, so that it takes traffic.
    for (n, p, times, within, least) in [
        (1_000, 0.05, 2.0, 2, 0.98),
        (2_000, 0.05, 2.0, 2, 0.999),
        (20_000, 0.01, 2.0, 2, 0.999),
        (100, 0.05, 8.0, 1, 0.99),
        (500, 0.01, 8.0, 1, 0.99),
        (1_000, 0.05, 4.0, 1, 0.999),
        (1_000, 0.01, 50.0, 1, 1.0),
        (50, 0.1, 10.0, 1, 1.0),
    ] {
        let (calm, sick) = (Binomial::new(n, p), Binomial::new(n, (p * times).min(0.999_999)));
        let mut caught = 0;
        for seed in 0..seeds {
            let random = &mut Random(seed);
            let windows: Vec<_> = (0..60).map(|_| (calm.draw(random), n)).collect();
            let usual = Usual::learn(&windows).unwrap();
            let mut cusum = Cusum::new(usual.phi, threshold(MINUTE));
            let mut look =
                || cusum.observe(exceedance_z(sick.draw(random), n, usual.share).unwrap());
            caught += u64::from((0..within).any(|_| look()));
        }
        let share = caught as f64 / seeds as f64;
        println!("n {n} p {p} times {times}: {share} within {within}");
        assert!(share >= least, "n {n} p {p} times {times}: {share}");
    }
}
