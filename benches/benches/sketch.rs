//! The kernels of baselines beside their peers, in one run: a latency into the sketch, beside DDSketch, HDR histogram
//! and t-digest; the sum of a month's 720 hours; p50, p95 and p99 of 50 operations, beside numpy and DuckDB over the
//! values themselves; raw columns, beside 16 bytes a row; and what it costs to judge 1,000 operations' windows.
//!
//! `cargo bench -p genesis-benches --bench sketch`

#![allow(clippy::print_stdout, clippy::disallowed_methods)] // Its output, and a benchmark reads the clock.

mod support;

use std::collections::BTreeMap;
use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use genesis_agent::operations::baselines::calibration::Past;
use genesis_agent::operations::baselines::judge;
use genesis_agent::operations::baselines::plan::{HOUR, QUANTILES, References, WINDOW};
use genesis_agent::operations::baselines::standing::{Current, Standing};
use genesis_agent::operations::baselines::windows::Windows;
use genesis_stats::{Calibrated, Sketch, column};
use genesis_storage::BaselineRecord;
use hdrhistogram::Histogram;
use sketches_ddsketch::DDSketch;
use support::figures::Figure;
use support::traffic::Traffic;
use support::{Outcome, python, quantile};
use tdigest::TDigest;

/// Values in a round, and rounds in alternation.
const VALUES: usize = 1_000_000;
const ROUNDS: usize = 15;
/// The goals: nanoseconds of an insertion, milliseconds of a month's sum, bytes of a row, milliseconds of a look.
const INSERT: f64 = 4.0;
const MONTH: f64 = 1.0;
const ROW: f64 = 7.0;
const LOOK: f64 = 20.0;
/// How many times as fast as its peers the answer from sketches has to be.
const OVER_DUCKDB: f64 = 10.0;
const OVER_NUMPY: f64 = 4.0;

fn main() -> Outcome<ExitCode> {
    let mut good = insertions()?;
    good &= month()?;
    good &= columns()?;
    good &= look()?;
    good &= answers()?;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "NOT met" }
}

/// The median and the least of nanoseconds a value over rounds, each peer in each round.
fn insertions() -> Outcome<bool> {
    let values = Traffic::new(1).latencies(VALUES);
    let mut times: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    let mut note = |name, began: Instant| {
        times.entry(name).or_default().push(began.elapsed().as_nanos() as f64 / VALUES as f64);
    };
    for _ in 0..ROUNDS {
        let began = Instant::now();
        let mut ours = Sketch::new();
        ours.insert_all(&values);
        note("genesis", began);
        black_box(ours.count());

        let began = Instant::now();
        let mut ours = Sketch::new();
        for value in &values {
            ours.insert(*value);
        }
        note("genesis, one by one", began);
        black_box(ours.count());

        let began = Instant::now();
        // As fine, and as many buckets.
        let config = sketches_ddsketch::Config::new(0.005_415, Sketch::LIMIT as u32, 1e-9);
        let mut peer = DDSketch::new(config);
        values.iter().for_each(|value| peer.add(*value));
        note("sketches-ddsketch", began);
        black_box(peer.count());

        let began = Instant::now();
        // Two digits: 1 % at the worst, which is coarser than ours.
        if let Ok(mut peer) = Histogram::<u64>::new_with_bounds(1, 3_600_000_000_000, 2) {
            values.iter().for_each(|value| peer.saturating_record((value * 1e9) as u64));
            note("hdrhistogram", began);
            black_box(peer.len());
        }

        let began = Instant::now();
        let mut peer = TDigest::new_with_size(100);
        for part in values.chunks(10_000) {
            peer = peer.merge_unsorted(part.to_vec());
        }
        note("tdigest", began);
        black_box(peer.count());
    }
    println!("a latency into the sketch, ns, median (least) of {ROUNDS} rounds of {VALUES}");
    let ours = times.get_mut("genesis").map_or(f64::NAN, |times| quantile(times, 0.5));
    let mut peer = None;
    for (name, mut times) in times {
        if name == "sketches-ddsketch" {
            peer = Some(quantile(&mut times, 0.5));
        }
        let (median, least) = (quantile(&mut times, 0.5), quantile(&mut times, 0.0));
        println!("  {name:<20} {median:>7.2} ({least:.2})   ratio {:.3}", ours / median);
    }
    println!("  goal: {INSERT} ns, {}", verdict(ours <= INSERT));
    let insertion = Figure::new("a latency into the sketch", ours, "ns");
    insertion.beside("sketches-ddsketch", peer).at_most(INSERT).say()?;
    Ok(ours <= INSERT)
}

/// The sum of 720 hours' sketches.
fn month() -> Outcome<bool> {
    let mut traffic = Traffic::new(2);
    let hours: Vec<Sketch> = (0..720).map(|_| traffic.sketch(10_000)).collect();
    let mut times = Vec::new();
    for _ in 0..101 {
        let began = Instant::now();
        let mut sum = Sketch::new();
        hours.iter().for_each(|hour| sum.merge(hour));
        times.push(began.elapsed().as_secs_f64() * 1e3);
        black_box(sum.quantile(0.99));
    }
    let median = quantile(&mut times, 0.5);
    let bytes: usize = hours.iter().map(|hour| hour.to_bytes().len()).sum();
    println!(
        "the sum of 720 hours' sketches: {median:.3} ms (goal: {MONTH} ms, {}); kept they have {:.0} bytes each, {:.1} kB a day (goal: 12)",
        verdict(median <= MONTH),
        bytes as f64 / 720.0,
        bytes as f64 / 720.0 * 24.0 / 1e3
    );
    Figure::new("the sum of 720 hours' sketches", median, "ms").at_most(MONTH).say()?;
    let daily = Figure::new("sketches of an operation, a day", bytes as f64 / 30.0 / 1e3, "kB");
    daily.at_most(12.0).say()?;
    Ok(median <= MONTH && bytes as f64 / 30.0 <= 12_000.0)
}

/// Rows of times and durations, in blocks of batches.
fn columns() -> Outcome<bool> {
    let mut traffic = Traffic::new(3);
    let (mut bytes, mut rows, mut best) = (0, 0, f64::INFINITY);
    for _ in 0..ROUNDS {
        let (times, seconds) = traffic.calls(1_700_000_000_000_000_000, 100_000);
        let nanos: Vec<u64> = seconds.iter().map(|seconds| column::nanos_of(*seconds)).collect();
        let mut out = Vec::new();
        let began = Instant::now();
        column::encode(&times, &nanos, &mut out)?;
        best = best.min(began.elapsed().as_nanos() as f64 / times.len() as f64);
        (bytes, rows) = (bytes + out.len(), rows + times.len());
    }
    let each = bytes as f64 / rows as f64;
    println!(
        "raw columns: {each:.2} bytes a row (goal: {ROW}, {}; 16 uncompressed), {best:.1} ns a row to make them",
        verdict(each <= ROW)
    );
    Figure::new("a raw observation, packed", each, "bytes").at_most(ROW).say()?;
    Figure::new("making it", best, "ns").say()?;
    Ok(each <= ROW)
}

/// A look at the windows of 1,000 operations, that have a baseline of 30 days and 180 healthy windows of each quantile.
fn look() -> Outcome<bool> {
    const OPERATIONS: u32 = 1_000;
    let start = 1_772_409_600; // A Monday, midnight UTC.
    let mut traffic = Traffic::new(4);
    let hours: Vec<(u32, Sketch)> =
        (0..720).map(|hour| ((start / HOUR) as u32 - 720 + hour, traffic.sketch(3_000))).collect();
    let (references, sketch) = References::of(hours.iter().map(|(hour, it)| (*hour, it)));
    let current = Arc::new(Current::new(BaselineRecord::default(), sketch, references));
    let mut past = Vec::new();
    for at in 0..180 {
        let calibrated = |value: f64| Calibrated {
            z: traffic_normal(at, value) as f32,
            log_value: (value.ln() + traffic_normal(at, value) / 50.0) as f32,
        };
        let quantiles = QUANTILES.map(|q| current.sketch.quantile(q).map(calibrated));
        past.push(Past { start: start - 604_800 + i64::from(at) * WINDOW, quantiles });
    }
    let mut windows = Windows::default();
    for operation in 0..OPERATIONS {
        for minute in 0..5 {
            windows.add(operation, start / 60 + minute, &traffic.sketch(60));
        }
    }
    let mut times = Vec::new();
    for _ in 0..21 {
        let fresh = || Standing { current: Some(Arc::clone(&current)), ..Standing::default() };
        let mut standings: Vec<Standing> = (0..OPERATIONS).map(|_| fresh()).collect();
        let (began, mut judged) = (Instant::now(), 0);
        for (operation, standing) in (0..).zip(&mut standings) {
            let values = windows.window(operation, start / 60, start / 60 + 5);
            judged += judge::window(standing, start, &values, &past).window.judged.len();
        }
        times.push(began.elapsed().as_secs_f64() * 1e3);
        // p99 waits: a window has 300 calls.
        assert_eq!(judged, 2 * OPERATIONS as usize);
    }
    let median = quantile(&mut times, 0.5);
    println!(
        "windows of {OPERATIONS} operations judged: {median:.1} ms (goal: {LOOK} ms, {})",
        verdict(median <= LOOK)
    );
    let judged = Figure::new("windows of 1,000 operations judged", median, "ms");
    judged.at_most(LOOK).say()?;
    Ok(median <= LOOK)
}

/// Something that scatters.
fn traffic_normal(at: u32, value: f64) -> f64 {
    let normal = genesis_stats::normal_quantile((f64::from(at) + 0.5) / 180.0);
    normal.unwrap_or(0.0) + value.fract() * 0.01
}

/// p50, p95 and p99 of 50 operations, each with 200,000 calls: from the hours' sketches, and from the values.
fn answers() -> Outcome<bool> {
    const OPERATIONS: usize = 50;
    const CALLS: usize = 200_000;
    let folder = tempfile::tempdir()?;
    let mut traffic = Traffic::new(5);
    let (mut kept, mut values) = (Vec::new(), Vec::new());
    for _ in 0..OPERATIONS {
        let latencies = traffic.latencies(CALLS);
        // As it is read from the file: a month of hours.
        kept.push(
            latencies
                .chunks(CALLS.div_ceil(720))
                .map(|hour| {
                    let mut sketch = Sketch::new();
                    sketch.insert_all(hour);
                    sketch.to_bytes()
                })
                .collect::<Vec<_>>(),
        );
        values.extend(latencies.iter().flat_map(|value| value.to_le_bytes()));
    }
    let file = folder.path().join("latencies.f64");
    std::fs::write(&file, values)?;
    let (mut times, mut reading, mut answered) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..11 {
        let began = Instant::now();
        let mut read: Vec<Vec<Sketch>> = Vec::new();
        for hours in &kept {
            let hours = hours.iter().map(|bytes| Sketch::from_own_bytes(bytes));
            read.push(hours.collect::<Result<_, _>>()?);
        }
        reading.push(began.elapsed().as_secs_f64() * 1e3);
        let began = Instant::now();
        answered.clear();
        for hours in &read {
            let mut sum = Sketch::new();
            hours.iter().for_each(|hour| sum.merge(hour));
            answered.push(QUANTILES.map(|q| sum.quantile(q).unwrap_or(f64::NAN)));
        }
        times.push(began.elapsed().as_secs_f64() * 1e3);
    }
    let (ours, reading) = (quantile(&mut times, 0.5), quantile(&mut reading, 0.5));
    let Some(program) = python::with(&["numpy==2.4.6", "duckdb==2.0.1"])? else {
        println!(
            "{OPERATIONS} operations' quantiles from sketches: {ours:.1} ms; no Python for its peers"
        );
        return Ok(false);
    };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/support/quantiles.py");
    let said = std::process::Command::new(program)
        .arg(script)
        .arg(&file)
        .args([OPERATIONS.to_string(), CALLS.to_string()])
        .output()?;
    if !said.status.success() {
        return Err(String::from_utf8_lossy(&said.stderr).into_owned().into());
    }
    let peers: serde_json::Value = serde_json::from_slice(&said.stdout)?;
    let read = |name: &str| peers[name].as_f64().ok_or(format!("no {name} in {peers}"));
    let (numpy, duckdb) = (read("numpy_ms")?, read("duckdb_ms")?);
    // What is answered is the same, within what the sketch promises.
    let mut worst = 0.0_f64;
    for (own, peer) in answered.iter().zip(peers["quantiles"].as_array().into_iter().flatten()) {
        for (own, peer) in own.iter().zip(peer.as_array().into_iter().flatten()) {
            worst = worst.max((own / peer.as_f64().unwrap_or(f64::NAN) - 1.0).abs());
        }
    }
    assert!(worst <= 0.005_45, "{worst}");
    let (times_duckdb, times_numpy) = (duckdb / ours, numpy / ours);
    let met = times_duckdb >= OVER_DUCKDB && times_numpy >= OVER_NUMPY;
    Figure::new("p50, p95, p99 of 50 operations", ours, "ms")
        .beside("DuckDB", duckdb)
        .ratio_at_most(1.0 / OVER_DUCKDB)
        .say()?;
    Figure::new("the same, beside numpy", ours, "ms")
        .beside("numpy", numpy)
        .ratio_at_most(1.0 / OVER_NUMPY)
        .say()?;
    println!("p50, p95, p99 of {OPERATIONS} operations with {CALLS} calls, one thread each");
    println!("  genesis, from 720 hours each {ours:>8.1} ms, at most {:.2} % off", worst * 100.0);
    println!(
        "  and to read those from their bytes {reading:>.1} ms; a baseline has its sum already"
    );
    println!("  DuckDB {duckdb:>30.1} ms   {times_duckdb:.1} times (goal: {OVER_DUCKDB})");
    println!("  numpy {numpy:>31.1} ms   {times_numpy:.1} times (goal: {OVER_NUMPY})");
    println!("  {}", verdict(met));
    Ok(met)
}
