//! Correlation matrices beside pandas and numpy on one thread each, in one run: a window of 30 days of 256 series, one
//! day of it, the days put together, and 30 days of minutes of 500 series with the memory that takes; then what follows:
//! validation, the nearest matrix, and what is stored.
//!
//! `cargo bench -p genesis-benches --bench correlation`

#![allow(clippy::print_stdout, clippy::disallowed_methods)] // Its output, and a benchmark reads the clock.

mod support;

use std::hint::black_box;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Instant;

use genesis_stats::correlation::{
    Block, Candidate, Correlation, Definiteness, Estimate, Limits, Part, RepairRules, Window,
    repair, validate,
};
use support::figures::Figure;
use support::traffic::Traffic;
use support::{Outcome, python, quantile};

/// 30 days in steps of 5 minutes, and their values' share that is missing.
const ROWS: usize = 8_640;
const SERIES: usize = 256;
const DAY: usize = 288;
const MISSING: f64 = 0.05;
const ROUNDS: usize = 15;
/// The goals: milliseconds of the whole window and of a day; how much faster than pandas and numpy, and than a whole
/// window a day has to be; milliseconds of a validation; GiB for 43,200 rows of 500 series.
const WHOLE: f64 = 120.0;
const UPDATE: f64 = 6.0;
const OVER_PANDAS: f64 = 18.0;
const OVER_NUMPY: f64 = 3.0;
const OVER_WHOLE: f64 = 25.0;
const VALIDATION: f64 = 0.5;
const MEMORY: f64 = 1.0;

fn main() -> Outcome<ExitCode> {
    let folder = tempfile::tempdir()?;
    let mut good = month(folder.path())?;
    good &= minutes(folder.path())?;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "NOT met" }
}

/// Returns of three factors and noise of their own, with gaps.
fn returns(rows: usize, series: usize) -> Vec<Vec<f64>> {
    let mut traffic = Traffic::new(rows as u64);
    // Nearly normal.
    let mut bell = move || (0..4).map(|_| traffic.uniform()).sum::<f64>() - 2.0;
    let loads: Vec<[f64; 3]> = (0..series).map(|_| [0; 3].map(|_| bell())).collect();
    let mut gaps = Traffic::new(7);
    let mut columns = vec![Vec::with_capacity(rows); series];
    for _ in 0..rows {
        let factors = [0; 3].map(|_| bell());
        for (column, load) in columns.iter_mut().zip(&loads) {
            let common: f64 = load.iter().zip(factors).map(|(load, factor)| load * factor).sum();
            let gone = gaps.uniform() < MISSING;
            column.push(if gone { f64::NAN } else { 0.002 * (common + 0.5 * bell()) });
        }
    }
    columns
}

fn milliseconds<T>(rounds: usize, mut what: impl FnMut() -> T) -> f64 {
    let mut times: Vec<f64> = (0..rounds)
        .map(|_| {
            let began = Instant::now();
            black_box(what());
            began.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    quantile(&mut times, 0.5)
}

/// What Python's times are, and how far its matrix is from ours; `None` where there is no Python.
fn peers(
    folder: &Path,
    columns: &[Vec<f64>],
    rounds: usize,
    own: &Estimate,
) -> Outcome<Option<serde_json::Value>> {
    let Some(program) = python::with(&["numpy==2.4.6", "pandas==3.1.1"])? else {
        println!("  no Python for the peers");
        return Ok(None);
    };
    let file = folder.join("values.f64");
    let bytes: Vec<u8> = columns.iter().flatten().flat_map(|value| value.to_le_bytes()).collect();
    std::fs::write(&file, bytes)?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/support/correlations.py");
    let said = Command::new(program)
        .arg(script)
        .arg(&file)
        .args([columns.len(), columns[0].len(), rounds].map(|number| number.to_string()))
        .output()?;
    if !said.status.success() {
        return Err(String::from_utf8_lossy(&said.stderr).into_owned().into());
    }
    let matrix = std::fs::read(folder.join("values.f64.r"))?;
    let mut worst = 0.0_f64;
    let (values, _) = matrix.as_chunks();
    for (at, value) in values.iter().enumerate() {
        let (i, j) = (at / columns.len(), at % columns.len());
        let own = own.get(i, j).unwrap_or(f64::NAN);
        worst = worst.max((own - f64::from_le_bytes(*value)).abs());
    }
    assert!(worst <= 1e-13, "{worst} from pandas");
    println!("  at most {worst:.1e} from pandas");
    Ok(Some(serde_json::from_slice(&said.stdout)?))
}

fn read(peers: &serde_json::Value, name: &str) -> Outcome<f64> {
    Ok(peers[name].as_f64().ok_or(format!("no {name} in {peers}"))?)
}

fn slices(columns: &[Vec<f64>], from: usize, to: usize) -> Vec<&[f64]> {
    columns.iter().map(|column| &column[from..to]).collect()
}

fn month(folder: &Path) -> Outcome<bool> {
    let columns = returns(ROWS, SERIES);
    let all = slices(&columns, 0, ROWS);
    let estimate = |columns: &[&[f64]]| -> Outcome<Estimate> {
        Ok(Estimate::of(&Block::of(columns, &Block::centres(columns))?))
    };
    println!("{ROWS} rows of {SERIES} series, {MISSING} missing, one thread each");
    let found = estimate(&all)?;
    let Some(peers) = peers(folder, &columns, 3, &found)? else { return Ok(false) };
    let whole = milliseconds(ROUNDS, || estimate(&all));
    // A day comes with the shifts of the day before.
    let shifts = Block::centres(&all);
    let day = slices(&columns, 0, DAY);
    let update = milliseconds(10 * ROUNDS, || Block::of(&day, &shifts));
    let (pandas, numpy) = (read(&peers, "pandas")?, read(&peers, "numpy")?);
    let (over_pandas, over_numpy) = (pandas / whole, numpy / whole);
    let met = whole <= WHOLE && over_pandas >= OVER_PANDAS && over_numpy >= OVER_NUMPY;
    let window = |name: &str| Figure::new(name, whole, "ms");
    window("30 days of 256 series").at_most(WHOLE).say()?;
    window("the same, beside pandas")
        .beside("pandas", pandas)
        .ratio_at_most(1.0 / OVER_PANDAS)
        .say()?;
    window("the same, beside numpy")
        .beside("numpy, masked", numpy)
        .ratio_at_most(1.0 / OVER_NUMPY)
        .say()?;
    println!("  genesis, to the correlations {whole:>9.1} ms (goal: {WHOLE})");
    println!("  pandas {pandas:>31.1} ms   {over_pandas:.1} times (goal: {OVER_PANDAS})");
    println!("  numpy, masked {numpy:>24.1} ms   {over_numpy:.1} times (goal: {OVER_NUMPY})");
    println!("  {}", verdict(met));
    let times = whole / update;
    let swift = update <= UPDATE && times >= OVER_WHOLE;
    println!(
        "a day of {DAY} rows: {update:.2} ms (goal: {UPDATE}), 1/{times:.1} of the whole (goal: 1/{OVER_WHOLE}), {}",
        verdict(swift)
    );
    Figure::new("a day of them", update, "ms").at_most(UPDATE).say()?;
    Figure::new("a day, beside a whole window", update, "ms")
        .beside("the whole window", whole)
        .ratio_at_most(1.0 / OVER_WHOLE)
        .say()?;
    together(&columns, &shifts)?;
    Ok(after(&found, &peers)? && met && swift)
}

/// The days of a window, as they are stored.
fn together(columns: &[Vec<f64>], shifts: &[f64]) -> Outcome<()> {
    let names: Vec<String> = (0..SERIES).map(|i| format!("S{i}")).collect();
    let mut days = Vec::new();
    for from in (0..ROWS).step_by(DAY) {
        days.push(Block::of(&slices(columns, from, from + DAY), shifts)?.to_bytes());
    }
    let bytes = days.iter().map(Vec::len).sum::<usize>();
    let reading = milliseconds(ROUNDS, || {
        days.iter().map(|day| Block::from_bytes(day)).collect::<Result<Vec<_>, _>>()
    });
    let blocks = days.iter().map(|day| Block::from_bytes(day)).collect::<Result<Vec<_>, _>>()?;
    let part = |(span, block)| Part { host: "host", span, series: &names, block };
    let parts: Vec<Part<'_>> = (0..).zip(&blocks).map(part).collect();
    let merging = milliseconds(ROUNDS, || Window::of(&parts));
    println!(
        "30 days put together: read {reading:.1} ms, merged {merging:.1} ms; {:.0} kB a day",
        bytes as f64 / 30.0 / 1e3
    );
    Ok(Figure::new("30 days put together", reading + merging, "ms").say()?)
}

/// What is done with the matrix.
fn after(found: &Estimate, peers: &serde_json::Value) -> Outcome<bool> {
    let names: Vec<String> = (0..SERIES).map(|i| format!("S{i}")).collect();
    let candidate = Candidate::of(found, names.clone(), 100, None)?;
    let matrix = candidate.accept()?;
    let limits = Limits::default();
    let validation =
        milliseconds(10 * ROUNDS, || validate(&candidate, Some(&matrix), Some(&matrix), &limits));
    let cholesky = milliseconds(10 * ROUNDS, || candidate.definiteness());
    let numpy = read(peers, "cholesky")?;
    println!(
        "validation {validation:.3} ms (goal: {VALIDATION}, {}), of which whether it is definite {cholesky:.3}; numpy's Cholesky {numpy:.3}",
        verdict(validation <= VALIDATION)
    );
    Figure::new("validation", validation, "ms").at_most(VALIDATION).say()?;
    let definite = Figure::new("whether it is definite", cholesky, "ms");
    definite.beside("numpy's Cholesky", numpy).say()?;
    // Noise, so that there is something to repair: half of the eigenvalues are negative then.
    let mut traffic = Traffic::new(9);
    let noisy: Vec<f64> = matrix
        .values()
        .iter()
        .map(|r| (r + 0.1 * (traffic.uniform() - 0.5)).clamp(-1.0, 1.0))
        .collect();
    let noisy = Correlation::of(names.clone(), noisy)?;
    let noisy = Candidate::of(found, names, u32::MAX, Some(&noisy))?;
    let began = Instant::now();
    let state = noisy.definiteness();
    let eigen = began.elapsed().as_secs_f64() * 1e3;
    assert!(matches!(state, Definiteness::Indefinite { .. }));
    let eigenvalues = read(peers, "eigenvalues")?;
    let indefinite = Figure::new("found indefinite", eigen, "ms");
    indefinite.beside("numpy's eigenvalues", eigenvalues).say()?;
    println!("found indefinite: {eigen:.1} ms; numpy's eigenvalues {eigenvalues:.1}");
    for accelerated in [false, true] {
        let rules = RepairRules { accelerated, most: 2.0, errors: f64::INFINITY, steps: 5_000 };
        let began = Instant::now();
        let repaired = repair(&noisy, &rules)?;
        println!(
            "the nearest matrix {}: {:.0} ms, {} steps, at most {:.4} away",
            if accelerated { "accelerated" } else { "plainly" },
            began.elapsed().as_secs_f64() * 1e3,
            repaired.steps,
            repaired.largest.0
        );
    }
    Ok(validation <= VALIDATION)
}

/// 30 days of minutes of 500 series.
fn minutes(folder: &Path) -> Outcome<bool> {
    let columns = returns(43_200, 500);
    let all = slices(&columns, 0, 43_200);
    let block = || Block::of(&all, &Block::centres(&all));
    let time = milliseconds(3, block);
    let found = Estimate::of(&block()?);
    let memory = peak()?;
    println!("43200 rows of 500 series, {MISSING} missing");
    println!(
        "  genesis {:.3} s, with {memory:.2} GiB at the most (goal: {MEMORY}, {}), the values among them",
        time / 1e3,
        verdict(memory <= MEMORY)
    );
    Figure::new("memory for 30 days of minutes of 500 series", memory, "GiB")
        .at_most(MEMORY)
        .say()?;
    let Some(peers) = peers(folder, &columns, 1, &found)? else { return Ok(false) };
    let (pandas, numpy) = (read(&peers, "pandas")?, read(&peers, "numpy")?);
    println!(
        "  pandas {:.1} s, {:.1} times; numpy {:.2} s, {:.1} times",
        pandas / 1e3,
        pandas / time,
        numpy / 1e3,
        numpy / time
    );
    let minutes = Figure::new("30 days of minutes of 500 series", time / 1e3, "s");
    minutes.beside("numpy, masked", numpy / 1e3).say()?;
    Ok(memory <= MEMORY)
}

/// The most memory this process has had, in GiB.
fn peak() -> Outcome<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib / 1_048_576.0)
}
