//! The matrix in use is swapped 10,000 times while eight threads read it: what a read takes then and otherwise, that each
//! reads one matrix whole, and what a lock would make of the same.
//!
//! `cargo bench -p genesis-benches --bench swaps`

#![allow(clippy::print_stdout, clippy::disallowed_methods)] // Its output, and a benchmark reads the clock.

mod support;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use genesis_agent::operations::matrices::serving::{Served, Serving};
use genesis_stats::correlation::Correlation;
use support::figures::Figure;
use support::{Outcome, quantile};

const READERS: usize = 8;
const SWAPS: u64 = 10_000;
/// A swap each millisecond, as often as no agent would.
const PAUSE: Duration = Duration::from_millis(1);
/// Matrices that take turns: what is measured is the swap, not how long a matrix takes to be made.
const MADE: u64 = 16;
/// Turns of both phases.
const ROUNDS: usize = 3;
const SERIES: usize = 256;
/// So many reads are timed together: one alone is shorter than a look at the clock.
const TOGETHER: u32 = 64;
/// The p99 under swaps may be so many times that without.
const GOAL: f64 = 1.1;

/// Each value says of which version it is.
fn served(version: u64, names: &[String]) -> Outcome<Served> {
    let value = version as f64 / (2.0 * MADE as f64);
    let matrix = Correlation::of(names.to_vec(), vec![value; SERIES * (SERIES - 1) / 2])?;
    Ok(Served { version, matrix, digest: String::new() })
}

/// What is swapped meanwhile.
#[derive(Clone, Copy, PartialEq)]
enum Swapped {
    Nothing,
    /// What is in use, for another that has the same values: whether a reader waits.
    Pointers,
    /// For one with others, which readers have to get from memory first, however they are handed over.
    Values,
}

/// What readers see of one holder.
trait Holder: Send + Sync {
    /// One read: the version and two values, which must be of it.
    fn read(&self, at: usize) -> (u64, f64, f64);
    fn swap(&self, next: Serving);
}

fn seen(serving: &Serving, at: usize) -> (u64, f64, f64) {
    let (found, _) = serving.of("");
    found.map_or((0, 0.0, 0.0), |it| {
        let (i, j) = (at % (SERIES - 1), SERIES - 1);
        (it.version, it.matrix.get(i, j).unwrap_or(9.0), it.matrix.get(0, 1).unwrap_or(9.0))
    })
}

impl Holder for ArcSwap<Serving> {
    fn read(&self, at: usize) -> (u64, f64, f64) {
        seen(&self.load(), at)
    }

    fn swap(&self, next: Serving) {
        self.store(Arc::new(next));
    }
}

impl Holder for RwLock<Serving> {
    fn read(&self, at: usize) -> (u64, f64, f64) {
        self.read().map_or((0, 0.0, 0.0), |serving| seen(&serving, at))
    }

    fn swap(&self, next: Serving) {
        if let Ok(mut serving) = self.write() {
            *serving = next;
        }
    }
}

struct Found {
    median: f64,
    p99: f64,
    worst: f64,
    reads: u64,
    torn: u64,
}

/// Eight threads read, for as long as so many swaps take.
fn phase(holder: &dyn Holder, names: &[String], swapped: Swapped) -> Outcome<Found> {
    let (over, torn) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut times: Vec<f64> = Vec::new();
    let made: Vec<Arc<Served>> =
        (1..=MADE).map(|version| Ok(Arc::new(served(version, names)?))).collect::<Outcome<_>>()?;
    std::thread::scope(|scope| -> Outcome<()> {
        let reader = || {
            let mut own = Vec::with_capacity(1 << 16);
            let mut at = 0;
            while !over.load(Ordering::Relaxed) {
                let began = Instant::now();
                for _ in 0..TOGETHER {
                    at += 1;
                    let (version, one, other) = holder.read(at);
                    let value = version as f64 / (2.0 * MADE as f64);
                    if one != value || other != value {
                        torn.fetch_add(1, Ordering::Relaxed);
                    }
                }
                own.push(began.elapsed().as_nanos() as f64 / f64::from(TOGETHER));
                // Two cores have eight readers take turns, which is not what is measured.
                std::thread::yield_now();
            }
            own
        };
        let readers: Vec<_> = (0..READERS).map(|_| scope.spawn(reader)).collect();
        let began = Instant::now();
        for swap in 1..=SWAPS {
            if swapped != Swapped::Nothing {
                let at = if swapped == Swapped::Values { swap % MADE } else { 0 };
                let next = Arc::clone(&made[at as usize]);
                holder.swap(Serving::new(Some(next), None));
            }
            let due = PAUSE * swap as u32;
            std::thread::sleep(due.saturating_sub(began.elapsed()));
        }
        over.store(true, Ordering::Relaxed);
        for reader in readers {
            times.extend(reader.join().map_err(|_| "a reader broke")?);
        }
        Ok(())
    })?;
    let reads = times.len() as u64 * u64::from(TOGETHER);
    let (median, p99) = (quantile(&mut times, 0.5), quantile(&mut times, 0.99));
    let worst = quantile(&mut times, 1.0);
    Ok(Found { median, p99, worst, reads, torn: torn.into_inner() })
}

fn measure(name: &str, holder: &dyn Holder, names: &[String]) -> Outcome<(f64, u64)> {
    // The machine is shared: the median of some turns of both.
    let (mut ratios, mut torn) = (Vec::new(), 0);
    let mut last = None;
    for _ in 0..ROUNDS {
        let calm = phase(holder, names, Swapped::Nothing)?;
        let busy = phase(holder, names, Swapped::Pointers)?;
        ratios.push(busy.p99 / calm.p99);
        torn += calm.torn + busy.torn;
        last = Some((calm, busy));
    }
    let ratio = quantile(&mut ratios, 0.5);
    if let Some((calm, busy)) = last {
        println!(
            "  {name:<10} calm: median {:.0} ns, p99 {:.0}, worst {:.0}, {:.1} million reads; under {SWAPS} swaps: {:.0}, {:.0}, {:.0}, {:.1}; p99 {ratio:.3} times, {torn} torn",
            calm.median,
            calm.p99,
            calm.worst,
            calm.reads as f64 / 1e6,
            busy.median,
            busy.p99,
            busy.worst,
            busy.reads as f64 / 1e6,
        );
    }
    Ok((ratio, torn))
}

fn main() -> Outcome<ExitCode> {
    let names: Vec<String> = (0..SERIES).map(|at| format!("S{at:03}")).collect();
    let first =
        || -> Outcome<Serving> { Ok(Serving::new(Some(Arc::new(served(1, &names)?)), None)) };
    println!("reads of a matrix of {SERIES} series by {READERS} threads");
    let (ratio, torn) = measure("genesis", &ArcSwap::from_pointee(first()?), &names)?;
    let (locked, _) = measure("a lock", &RwLock::new(first()?), &names)?;
    let other = phase(&ArcSwap::from_pointee(first()?), &names, Swapped::Values)?;
    println!(
        "  with other values each time, which come from memory: median {:.0} ns, p99 {:.0}, {} torn",
        other.median, other.p99, other.torn
    );
    let torn = torn + other.torn;
    Figure::new("p99 of a read under 10,000 swaps", ratio, "x that without").at_most(GOAL).say()?;
    Figure::new("the same with a lock", locked, "x that without").say()?;
    Figure::new("reads that saw two matrices", torn as f64, "reads").at_most(0.0).say()?;
    let good = ratio <= GOAL && torn == 0;
    println!("goal: p99 within {GOAL} times, none torn: {}", if good { "met" } else { "NOT met" });
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
