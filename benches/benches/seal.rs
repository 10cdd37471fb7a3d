//! Sealing a log segment beside `gzip -6`, in megabytes of text per second of CPU time.
//!
//! Sealing is the whole path: read, timestamps, hashes, compress, write, manifest, fsync, read
//! back and decompress. gzip reads, compresses and writes. Both read the same generated file from
//! the page cache, in turns. Fails when sealing the detailed text is not twice as fast with a
//! smaller output. The terse text is there to show how the sizes move: the more repetitive a log,
//! the better gzip's longer searches do beside level 5, up to a few per cent.
//!
//! `cargo bench -p genesis-benches --bench seal`

// A measurement's result is its standard output.
#![allow(clippy::print_stdout)]

mod support;

use std::error::Error;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use genesis_agent::operations::logs::segment::{
    DEFAULT_LEVEL, LibdeflateCodec, MEMBER_BYTES, Manifest, SealRequest, TimestampFormat,
    TimestampParser, read_back, seal,
};
use support::cpu::{Cpu, peak_resident_kib};
use support::figures::Figure;
use support::trading_log::{Detail, TradingLog};

const TEXTS: [(Detail, u64); 2] = [(Detail::Full, 150_000_000), (Detail::Terse, 60_000_000)];
const SEED: u64 = 0x0067_656e_6573_6973;
/// The codec to seal with, and the two levels that it is made of.
const CODECS: [(&str, Option<i32>); 3] = [
    ("seal, standard", None),
    ("seal, default level", Some(DEFAULT_LEVEL)),
    ("seal, next level", Some(DEFAULT_LEVEL + 1)),
];
const ROUNDS: usize = 5;
const GOAL: f64 = 2.0;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<ExitCode> {
    let folder = tempfile::tempdir()?;
    let source = folder.path().join("trading.log");
    let mut met = true;
    for (detail, bytes) in TEXTS {
        let mut log = TradingLog::new(detail, SEED);
        let plain = log.write_to(&mut File::create(&source)?, bytes)?;
        println!("{detail:?} text: {plain} bytes, seed {SEED:#x}");
        met &= compare(&source, plain, folder.path(), detail)? || detail != Detail::Full;
    }
    let peak = peak_resident_kib()?;
    println!("peak resident: {peak} KiB");
    Figure::new("peak of resident memory", peak as f64 * 1_024.0 / 1e6, "MB").say()?;
    timestamps(&source)?;
    println!(
        "goal, {GOAL} x gzip -6 with a smaller output: {}",
        if met { "met" } else { "MISSED" }
    );
    Ok(if met { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints the figures for one text, and returns whether the standard codec meets the goal.
fn compare(source: &Path, plain: u64, folder: &Path, detail: Detail) -> Outcome<bool> {
    let mut gzip = Vec::new();
    let mut sealed = CODECS.map(|_| Vec::new());
    for _ in 0..ROUNDS {
        gzip.push(run_gzip(source, &folder.join("gzip.gz"))?);
        for ((_, level), runs) in CODECS.iter().zip(&mut sealed) {
            runs.push(run_seal(source, &folder.join("seal.log.gz"), *level)?);
        }
    }
    println!("{:<20} {:>10} {:>12} {:>8} {:>10}", "", "MB/CPU s", "bytes", "ratio", "x gzip -6");
    let peer = Figures::of(&gzip, plain);
    peer.print("gzip -6", &peer);
    let sealed = sealed.map(|runs| Figures::of(&runs, plain));
    for ((name, _), figures) in CODECS.iter().zip(&sealed) {
        figures.print(name, &peer);
    }
    let [standard, ..] = sealed;
    let (rate, size) = match detail {
        Detail::Full => ("a detailed log sealed", "size of it, sealed"),
        Detail::Terse => ("a terse log sealed", "size of the terse one, sealed"),
    };
    let rate = Figure::new(rate, standard.rate, "MB a CPU second").beside("gzip -6", peer.rate);
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    let size = Figure::new(size, megabytes(standard.bytes), "MB");
    let size = size.beside("gzip -6", megabytes(peer.bytes));
    if detail == Detail::Full {
        rate.ratio_at_least(GOAL).say()?;
        size.ratio_at_most(1.0).say()?;
    } else {
        rate.say()?;
        size.say()?;
    }
    Ok(standard.rate >= GOAL * peer.rate && standard.bytes < peer.bytes)
}

/// One run: CPU seconds, and the length of the output.
struct Run {
    seconds: f64,
    bytes: u64,
}

struct Figures {
    /// Megabytes of plain text per CPU second, the median of the runs.
    rate: f64,
    bytes: u64,
    plain: u64,
}

impl Figures {
    fn of(runs: &[Run], plain: u64) -> Self {
        let mut seconds: Vec<f64> = runs.iter().map(|run| run.seconds).collect();
        seconds.sort_by(f64::total_cmp);
        let rate = plain as f64 / 1e6 / seconds[seconds.len() / 2];
        Self { rate, bytes: runs[0].bytes, plain }
    }

    fn print(&self, name: &str, peer: &Self) {
        let ratio = self.plain as f64 / self.bytes as f64;
        let times = self.rate / peer.rate;
        println!("{name:<20} {:>10.1} {:>12} {ratio:>8.3} {times:>10.2}", self.rate, self.bytes);
    }
}

fn run_seal(source: &Path, target: &Path, level: Option<i32>) -> Outcome<Run> {
    let before = Cpu::now()?;
    let mut output = File::create(target)?;
    let mut codec = match level {
        Some(level) => LibdeflateCodec::new(level)?,
        None => LibdeflateCodec::standard()?,
    };
    let manifest = seal(&mut File::open(source)?, &mut output, &request(), &mut codec)?;
    output.sync_all()?;
    let mut beside = File::create(target.with_extension("manifest.json"))?;
    let bytes = manifest.to_bytes();
    beside.write_all(&bytes)?;
    beside.sync_all()?;
    read_back(&mut File::open(target)?, &Manifest::from_bytes(&bytes)?)?;
    let seconds = Cpu::now()?.own - before.own;
    Ok(Run { seconds, bytes: fs::metadata(target)?.len() })
}

fn run_gzip(source: &Path, target: &Path) -> Outcome<Run> {
    let before = Cpu::now()?;
    let status = Command::new("gzip")
        .args(["-6", "-c"])
        .arg(source)
        .stdout(Stdio::from(File::create(target)?))
        .status()?;
    if !status.success() {
        return Err(format!("gzip ended with {status}").into());
    }
    let seconds = Cpu::now()?.children - before.children;
    Ok(Run { seconds, bytes: fs::metadata(target)?.len() })
}

/// What the parser alone costs, so that a lost fast path is noticed.
fn timestamps(source: &Path) -> Outcome<()> {
    let text = fs::read(source)?;
    let lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
    let mut parser = TimestampParser::new(&TimestampFormat::Rfc3339);
    let before = Cpu::now()?;
    let rounds = 10;
    let mut dated = 0;
    for _ in 0..rounds {
        dated += lines.iter().filter(|line| parser.parse(line).is_some()).count();
    }
    let seconds = Cpu::now()?.own - before.own;
    let each = seconds * 1e9 / (lines.len() * rounds) as f64;
    println!("timestamps: {} lines, {} dated, {each:.1} ns each", lines.len(), dated / rounds);
    Ok(Figure::new("a line's time read", each, "ns").say()?)
}

fn request() -> SealRequest {
    SealRequest {
        host_id: "01HQ0000000000000000000000".to_owned(),
        hostname: "bench".to_owned(),
        log_type: "trading".to_owned(),
        source_path: "/var/log/trading.log".to_owned(),
        sequence: 1,
        chain_index: 0,
        previous: None,
        timestamp_format: TimestampFormat::Rfc3339,
        initial_at: None,
        fallback_at: 0,
        starts_mid_line: false,
        sealed_at: 0,
        member_bytes: MEMBER_BYTES,
    }
}
