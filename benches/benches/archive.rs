//! A year to search, and a long file to seal.
//!
//! One day of one type, over 100 MB of text, is fetched out of a year of more than 10,000 segments: how many
//! bytes the agent reads beside the compressed ones that it needs, how long the first byte takes, and how long
//! `zcat` of that day's files does as the peer that knows where they are. Then a file of 2 GB is sealed, for the
//! agent's peak of resident memory beside gzip's time.
//!
//! `cargo bench -p genesis-benches --bench archive`; the agent and genesisctl must be built in release.

#![allow(clippy::print_stdout, clippy::disallowed_methods)] // Its output, and a benchmark reads the clock.

mod support;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use genesis_agent::operations::logs::plan;
use genesis_agent::operations::logs::segment::{
    LibdeflateCodec, MEMBER_BYTES, Manifest, SealRequest, TimestampFormat, seal,
};
use jiff::{Timestamp, ToSpan};
use support::agent::Agent;
use support::figures::Figure;
use support::trading_log::{Detail, TradingLog};
use support::{Outcome, program};

const DAYS: i64 = 365;
const PER_DAY: u64 = 28;
/// Plain bytes of a segment on the day that is fetched, and on the others.
const LARGE: usize = 4_000_000;
const SMALL: usize = 40_000;
/// The day that is fetched, counted from the first.
const DAY: i64 = 200;
const LONG: u64 = 2_000_000_000;
/// Bytes read to bytes needed, seconds to the first byte, resident bytes.
const GOALS: (f64, f64, u64) = (1.1, 0.100, 32_000_000);
const ROUNDS: usize = 5;

fn main() -> Outcome<ExitCode> {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let (searched, sealed) = (search(folder.path())?, long_file(folder.path())?);
    Ok(if searched && sealed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn config(folder: &Path) -> String {
    let log = folder.join("trading.log");
    format!(
        "[[logs.source]]\ntype = \"trading\"\npaths = [{log:?}]\nrotate_size = \"100GB\"\nreopen = \"by-itself\"\n\
         local_retention = \"36500d\"\narchive_retention = \"36500d\"\n"
    )
}

/// The name that the agent gives to segments of this host.
fn hostname() -> Outcome<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/hostname")?.trim().to_owned())
}

/// Lines from `begin` on, spread over `seconds`.
fn lines(begin: Timestamp, seconds: i64, bytes: usize, seed: u64) -> Outcome<Vec<u8>> {
    let mut text = Vec::new();
    TradingLog::new(Detail::Full, seed).write_to(&mut text, bytes as u64)?;
    let pieces: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
    let mut dated = Vec::with_capacity(text.len() + pieces.len() * 8);
    for (number, line) in pieces.iter().enumerate() {
        let share = seconds * 1_000 * number as i64 / pieces.len() as i64;
        let at = begin.checked_add(share.milliseconds())?;
        write!(dated, "{} ", at.strftime("%Y-%m-%dT%H:%M:%S.%3fZ"))?;
        dated.extend_from_slice(line);
    }
    Ok(dated)
}

/// Writes a year of segments into an archive; returns the files of the day that is fetched.
fn write_year(archive: &Path, host: &str) -> Outcome<Vec<PathBuf>> {
    let first: Timestamp = "2024-01-01T00:00:00Z".parse()?;
    let (mut previous, mut sequence, mut of_the_day) = (None, 0, Vec::new());
    let mut codec = LibdeflateCodec::standard()?;
    for day in 0..DAYS {
        for part in 0..PER_DAY {
            sequence += 1;
            let seconds = 86_400 / PER_DAY as i64;
            let begin = first.checked_add((day * 86_400 + part as i64 * seconds).seconds())?;
            let bytes = if day == DAY { LARGE } else { SMALL };
            let plain = lines(begin, seconds, bytes, sequence)?;
            let request = SealRequest {
                host_id: "bench".into(),
                hostname: host.into(),
                log_type: "trading".into(),
                source_path: "/var/log/trading.log".into(),
                sequence,
                chain_index: sequence - 1,
                previous,
                timestamp_format: TimestampFormat::Rfc3339,
                initial_at: None,
                fallback_at: 0,
                starts_mid_line: false,
                sealed_at: 0,
                member_bytes: MEMBER_BYTES,
            };
            let mut file = Vec::new();
            let manifest = seal(&mut plain.as_slice(), &mut file, &request, &mut codec)?;
            let manifest_bytes = manifest.to_bytes();
            previous = Some(Manifest::sha256_of(&manifest_bytes));
            let at = Timestamp::from_nanosecond(manifest.first_at.unwrap_or(0).into())?;
            let name = plan::archive_name(host, "trading", at, sequence);
            let path = archive.join(format!("{name}.log.gz"));
            fs::create_dir_all(path.parent().ok_or("no folder")?)?;
            fs::write(&path, file)?;
            fs::write(archive.join(format!("{name}.manifest.json")), manifest_bytes)?;
            if day == DAY {
                of_the_day.push(path);
            }
        }
    }
    Ok(of_the_day)
}

fn search(folder: &Path) -> Outcome<bool> {
    let folder = &folder.join("year");
    fs::create_dir(folder)?;
    let archive = folder.join("state/archive");
    fs::create_dir_all(&archive)?;
    let files = write_year(&archive, &hostname()?)?;
    let agent = Agent::start(folder, &config(folder))?;
    let before = Instant::now();
    agent.ctl(&["logs", "rebuild-catalog"])?;
    println!(
        "{} segments, entered into the catalogue in {:.1} s",
        DAYS as u64 * PER_DAY,
        before.elapsed().as_secs_f64()
    );
    let day = "2024-01-01".parse::<jiff::civil::Date>()?.checked_add(DAY.days())?;
    let range = format!("{day}:{day}");
    let needed: u64 =
        files.iter().map(|path| fs::metadata(path).map_or(0, |facts| facts.len())).sum();
    let (mut firsts, mut walls, mut ratios, mut plain) = (vec![], vec![], vec![], 0);
    for _ in 0..ROUNDS {
        let read = agent.bytes_read()?;
        let node = format!("unix:{}", agent.socket().display());
        let before = Instant::now();
        let mut child = Command::new(program("genesisctl")?)
            .args([
                "-n",
                &node,
                "logs",
                "retrieve",
                "--log-type",
                "trading",
                "--date-range",
                &range,
            ])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut lines = child.stdout.take().ok_or("no output")?;
        let mut piece = vec![0; 1 << 20];
        plain = lines.read(&mut piece)?;
        firsts.push(before.elapsed().as_secs_f64());
        loop {
            match lines.read(&mut piece)? {
                0 => break,
                read => plain += read,
            }
        }
        if !child.wait()?.success() {
            return Err("the retrieval is not complete".into());
        }
        walls.push(before.elapsed().as_secs_f64());
        ratios.push((agent.bytes_read()? - read) as f64 / needed as f64);
    }
    let mut zcat = vec![];
    for _ in 0..ROUNDS {
        let before = Instant::now();
        let status = Command::new("zcat").args(&files).stdout(Stdio::null()).status()?;
        if !status.success() {
            return Err("zcat failed".into());
        }
        zcat.push(before.elapsed().as_secs_f64());
    }
    let (ratio, first) = (support::quantile(&mut ratios, 1.0), support::quantile(&mut firsts, 1.0));
    let (wall, peer) = (support::quantile(&mut walls, 0.5), support::quantile(&mut zcat, 0.5));
    println!(
        "one day: {plain} bytes of text from {needed} compressed; read {ratio:.3} x that (goal {}), first byte after \
         {:.0} ms at worst, genesisctl's start included (goal {:.0} ms)",
        GOALS.0,
        first * 1e3,
        GOALS.1 * 1e3
    );
    println!(
        "whole day in {wall:.2} s, zcat of the same files {peer:.2} s: {:.2} x its speed",
        peer / wall
    );
    let read = Figure::new("read of the archive for a day of a year", ratio, "x what it has");
    read.at_most(GOALS.0).say()?;
    let first_byte = Figure::new("first byte of a day, at worst", first * 1e3, "ms");
    first_byte.at_most(GOALS.1 * 1e3).say()?;
    Figure::new("the whole day, 100 MB", wall, "s").beside("zcat of its files", peer).say()?;
    Ok(plain > 100_000_000 && ratio <= GOALS.0 && first <= GOALS.1)
}

fn long_file(folder: &Path) -> Outcome<bool> {
    let folder = &folder.join("long");
    fs::create_dir(folder)?;
    let log = folder.join("trading.log");
    TradingLog::new(Detail::Full, 7).write_to(&mut File::create(&log)?, LONG)?;
    let before = Instant::now();
    let gzip = Command::new("gzip").args(["-6", "-c"]).arg(&log).stdout(Stdio::null()).status()?;
    if !gzip.success() {
        return Err("gzip failed".into());
    }
    let peer = before.elapsed().as_secs_f64();
    let agent = Agent::start(folder, &config(folder))?;
    let idle = agent.status_kib("VmRSS")? * 1024;
    let before = Instant::now();
    agent.ctl(&["logs", "rotate", "--log-type", "trading"])?;
    let wall = before.elapsed().as_secs_f64();
    let peak = agent.status_kib("VmHWM")? * 1024;
    println!(
        "a file of {LONG} bytes sealed, archived, read back and proven in {wall:.1} s; gzip -6 alone {peer:.1} s; peak of resident \
         memory {:.1} MB, idle {:.1} MB (goal {:.0} MB)",
        peak as f64 / 1e6,
        idle as f64 / 1e6,
        GOALS.2 as f64 / 1e6
    );
    let resident = Figure::new("peak of resident memory, 2 GB sealed", peak as f64 / 1e6, "MB");
    resident.at_most(GOALS.2 as f64 / 1e6).say()?;
    let sealed = Figure::new("2 GB sealed, archived and read back", wall, "s");
    sealed.beside("gzip -6 alone", peer).say()?;
    Ok(peak <= GOALS.2)
}
