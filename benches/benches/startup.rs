//! How long programs take to start: the agent until it says READY=1, on a new state, on a state of a gigabyte after a clean
//! stop, and on that after `kill -9`; genesisctl until it has told its version. And how large both programs are.
//!
//! Two such states: one whose state.redb is a gigabyte, of a catalogue of nearly a million segments and two thousand
//! entries of the operation log, which is the worst case: a log has some ten thousand segments a year; and one as a host has it
//! where the quota of single observations is used up: a gigabyte of observations, and a catalogue of ten thousand segments.
//! Files are in the page cache. Every open proves the checksums of all pages, so that `cat` of the same files is the peer;
//! it reads the hole as well by which redb has lengthened a file.
//!
//! `cargo bench -p genesis-benches --bench startup`; the programs are those of GENESIS_PROGRAMS, else of release.

#![allow(clippy::print_stdout, clippy::disallowed_methods)] // Its output, and a benchmark reads the clock.

mod support;

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use genesis_stats::column;
use genesis_storage::{
    Intent, Observations, Options, SegmentRecord, SegmentState, StorageError, Store,
};
use jiff::{Timestamp, ToSpan};
use support::figures::Figure;
use support::traffic::Traffic;
use support::{Outcome, program, quantile};

/// Bytes of a large state.
const LARGE: u64 = 1_000_000_000;
/// Segments of a commit, and of a host that is not old; entries of the operation log beside them.
const TOGETHER: u64 = 20_000;
const FEW: u64 = 10_000;
/// Segments, and commits of a million observations, after which the file is looked at.
const STEP: u64 = 4 * TOGETHER;
const COMMITS: u64 = 15;
const ENTRIES: u64 = 2_000;
/// Starts of each kind.
const CLEAN: usize = 9;
const KILLED: usize = 5;
const VERSIONS: usize = 100;
/// Milliseconds until an agent is ready, and at the 99th percentile until genesisctl has told its version.
const READY: f64 = 200.0;
const TOLD: f64 = 30.0;
/// Nothing takes longer.
const LONGEST: Duration = Duration::from_secs(120);

fn main() -> Outcome<ExitCode> {
    // On a disk, where temporary folders may be in memory.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let mut met = starts(&folder.path().join("new"), "a new state", true)?;
    for (name, of, fill) in [
        ("catalogue", "1 GB of state", catalogue as fn(&Path) -> Outcome<()>),
        ("observations", "1 GB of observations", observations),
    ] {
        let home = folder.path().join(name);
        // Whatever the agent wants to be there, it makes first.
        Started::on(&home)?.stopped("-TERM")?;
        let began = Instant::now();
        fill(&home.join("state"))?;
        println!("{of}: made in {:.0} s", began.elapsed().as_secs_f64());
        met &= starts(&home, of, false)?;
        fs::remove_dir_all(&home)?;
    }
    met &= client()?;
    for name in ["genesis-agent", "genesisctl"] {
        size(&program(name)?, &folder.path().join(name), name)?;
    }
    Ok(if met { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// An agent that has said that it is ready. It ends with this.
struct Started {
    child: Child,
    seconds: f64,
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Started {
    /// Starts one on `home/state`, which may be there already.
    fn on(home: &Path) -> Outcome<Self> {
        fs::create_dir_all(home)?;
        let (config, socket) = (home.join("agent.toml"), home.join("notify"));
        // The quota is above what is there, so that nothing is thrown away meanwhile.
        fs::write(
            &config,
            "[listen]\nhttp = \"127.0.0.1:0\"\n[baselines]\nraw_quota = \"4GiB\"\n",
        )?;
        if socket.exists() {
            fs::remove_file(&socket)?;
        }
        let told = UnixDatagram::bind(&socket)?;
        told.set_read_timeout(Some(LONGEST))?;
        let mut command = Command::new(program("genesis-agent")?);
        command.arg("--config").arg(&config).arg("--state-dir").arg(home.join("state"));
        command.env("NOTIFY_SOCKET", &socket).stderr(File::create(home.join("said"))?);
        let began = Instant::now();
        let mut started = Self { child: command.spawn()?, seconds: 0.0 };
        let mut message = [0; 4_096];
        loop {
            let count = told.recv(&mut message).map_err(|error| {
                let said = fs::read_to_string(home.join("said")).unwrap_or_default();
                format!("the agent is not ready: {error}; {said}")
            })?;
            if message[..count].split(|byte| *byte == b'\n').any(|line| line == b"READY=1") {
                started.seconds = began.elapsed().as_secs_f64();
                return Ok(started);
            }
        }
    }

    /// Ends it by a signal, and waits until it has ended; milliseconds that its start took.
    fn stopped(mut self, signal: &str) -> Outcome<f64> {
        let pid = self.child.id().to_string();
        if !Command::new("kill").args([signal, &pid]).status()?.success() {
            return Err("kill failed".into());
        }
        self.child.wait()?;
        Ok(self.seconds * 1e3)
    }
}

/// Starts after clean ends and after kills; whether the clean ones meet the goal.
fn starts(home: &Path, of: &str, small: bool) -> Outcome<bool> {
    // One to warm up, and to make what is missing.
    Started::on(home)?.stopped("-TERM")?;
    let (bytes, peer) = read_through(&home.join("state"))?;
    let (mut clean, mut killed) = (Vec::new(), Vec::new());
    for _ in 0..CLEAN {
        clean.push(Started::on(home)?.stopped("-TERM")?);
    }
    Started::on(home)?.stopped("-KILL")?;
    for _ in 0..KILLED {
        killed.push(Started::on(home)?.stopped("-KILL")?);
    }
    let (p50, most) = (quantile(&mut clean, 0.5), quantile(&mut clean, 1.0));
    let (killed_p50, killed_most) = (quantile(&mut killed, 0.5), quantile(&mut killed, 1.0));
    println!("{of}: ready after {p50:.0} ms, {most:.0} at most (goal: {READY:.0})");
    println!("  after kill -9 {killed_p50:.0} ms, {killed_most:.0} at most");
    println!("  cat of its files: {peer:.0} ms");
    let peer = (!small).then_some(peer);
    let beside =
        |figure: Figure| if small { figure } else { figure.beside("cat of its files", peer) };
    beside(Figure::new(format!("ready after a clean stop, {of}"), p50, "ms"))
        .at_most(READY)
        .say()?;
    beside(Figure::new(format!("ready after kill -9, {of}"), killed_p50, "ms")).say()?;
    Figure::new(format!("size, {of}"), bytes as f64 / 1e6, "MB").say()?;
    Ok(p50 <= READY)
}

/// Bytes of all databases of a state, and milliseconds that reading them takes once they are in the page cache.
fn read_through(state: &Path) -> Outcome<(u64, f64)> {
    let (mut files, mut bytes) = (Vec::<PathBuf>::new(), 0);
    for entry in fs::read_dir(state)? {
        let path = entry?.path();
        if path.extension().is_some_and(|it| it == "redb") {
            let facts = fs::metadata(&path)?;
            // What it has on the disk: the first commit after a compaction doubles the file's length, by a hole.
            let own = facts.len().min(facts.blocks() * 512);
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            println!("  {name}: {:.1} MB, {:.1} long", own as f64 / 1e6, facts.len() as f64 / 1e6);
            bytes += own;
            files.push(path);
        }
    }
    let mut times = Vec::new();
    for _ in 0..4 {
        let began = Instant::now();
        let status = Command::new("cat").args(&files).stdout(Stdio::null()).status()?;
        if !status.success() {
            return Err("cat failed".into());
        }
        times.push(began.elapsed().as_secs_f64() * 1e3);
    }
    // The first one fetches them from the disk.
    Ok((bytes, quantile(&mut times[1..], 0.5)))
}

/// A segment as it is in the end, kept in the archive.
fn segment(sequence: u64) -> Outcome<SegmentRecord> {
    let first: Timestamp = "2020-01-01T00:00:00Z".parse()?;
    let at = first.checked_add((sequence as i64 * 150).seconds())?;
    let name = at.strftime("%Y/%m/%d/bench-trading-%Y%m%dT%H%M%SZ").to_string();
    Ok(SegmentRecord {
        log_type: "trading".to_owned(),
        sequence,
        state: SegmentState::LocalExpired,
        source_path: "/var/log/trading/trading.log".to_owned(),
        detached_path: format!("/var/log/trading/trading.log.{sequence:08}.genesis"),
        device: 64_768,
        inode: 1_000_000 + sequence,
        detached_at: Some(at),
        initial_at: Some(at),
        first_at: Some(at),
        last_at: Some(at),
        lines: 70_000,
        members: 10,
        plain_bytes: 10_000_000,
        compressed_bytes: 1_700_000,
        // Random, as hashes are, so that nothing makes it smaller.
        sha256: format!("{:064x}", u128::from(sequence) * 0x9e37_79b9_7f4a_7c15_f39c_c060),
        manifest_sha256: format!("{:064x}", u128::from(sequence) * 0xbf58_476d_1ce4_e5b9_94d0_49bb),
        chain_index: Some(sequence - 1),
        archive_name: format!("trading/{name}-{sequence:08}"),
        sealed_at: Some(at),
        verified_at: Some(at),
        local_expired_at: Some(at),
        ..bare()
    })
}

/// What of it is mostly empty.
fn bare() -> SegmentRecord {
    SegmentRecord {
        log_type: String::new(),
        sequence: 0,
        state: SegmentState::LocalExpired,
        source_path: String::new(),
        detached_path: String::new(),
        device: 0,
        inode: 0,
        detached_at: None,
        initial_at: None,
        first_at: None,
        last_at: None,
        lines: 0,
        members: 0,
        plain_bytes: 0,
        compressed_bytes: 0,
        sha256: String::new(),
        manifest_sha256: String::new(),
        chain_index: None,
        archive_name: String::new(),
        sealed_at: None,
        verified_at: None,
        local_expired_at: None,
        archive_expired_at: None,
        waiting: None,
        taken: None,
        upload_id: None,
    }
}

/// A store, and what is written to it.
struct Filled {
    store: Store,
    segments: u64,
}

impl Filled {
    fn open(state: &Path) -> Outcome<Self> {
        let options = Options { cache_bytes: 256 << 20, ..Options::default() };
        Ok(Self { store: Store::open(&state.join("state.redb"), options)?, segments: 0 })
    }

    fn write(&self, action: &str, segments: &[SegmentRecord]) -> Outcome<()> {
        let at = Timestamp::try_from(SystemTime::now())?;
        let intent = Intent::new(at, "system:logs", action).reason("a measurement");
        Ok(self.store.write::<_, StorageError>(intent, |writing| {
            segments.iter().try_for_each(|segment| writing.segments().put(segment))
        })?)
    }

    /// Enters segments until there are so many; the bytes of the file without the room that it grew by in advance.
    fn enter(&mut self, until: u64) -> Outcome<u64> {
        while self.segments < until {
            let next = (self.segments + TOGETHER).min(until);
            let new: Outcome<Vec<_>> = (self.segments + 1..=next).map(segment).collect();
            self.write("logs.catalogue.rebuilt", &new?)?;
            self.segments = next;
        }
        Ok(self.store.compact()?.after_bytes)
    }
}

fn catalogue(state: &Path) -> Outcome<()> {
    let mut filled = Filled::open(state)?;
    for _ in 0..ENTRIES {
        filled.write("logs.segment.verified", &[])?;
    }
    let mut bytes = 0;
    while !is_large(bytes) {
        bytes = filled.enter(filled.segments + STEP)?;
    }
    println!(
        "a catalogue of {} segments and {ENTRIES} entries of the operation log",
        filled.segments
    );
    Ok(())
}

/// Whether a compacted file has grown enough; what a row takes in it can't be said beforehand.
fn is_large(bytes: u64) -> bool {
    bytes >= LARGE / 10 * 9
}

fn observations(state: &Path) -> Outcome<()> {
    Filled::open(state)?.enter(FEW)?;
    let file = Observations::open(&state.join("observations.redb"), 64 << 20)?;
    let hour = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() / 3_600;
    let mut traffic = Traffic::new(12);
    let (times, seconds) = traffic.calls((hour as i64 - 1) * 3_600_000_000_000, 10_000);
    let nanos: Vec<u64> = seconds.iter().map(|seconds| column::nanos_of(*seconds)).collect();
    let mut piece = Vec::new();
    column::encode(&times, &nanos, &mut piece)?;
    let (mut bytes, mut commits) = (0, 0_u64);
    while !is_large(bytes) {
        for _ in 0..COMMITS {
            let operation = (commits % 20) as u32;
            file.write(|writing| {
                if commits < 20 {
                    writing.put_operation(&format!("operation-{operation}"), operation)?;
                }
                let hour = (hour - 1 - commits / 20 % 20) as u32;
                // The same calls each time: what they are is not looked at.
                writing.append_columns(operation, hour, [&piece[..]; 100].into_iter())
            })?;
            commits += 1;
        }
        bytes = file.compact()?.after_bytes;
    }
    println!("{commits} million observations, a catalogue of {FEW} segments");
    Ok(())
}

/// How long genesisctl takes to tell its version.
fn client() -> Outcome<bool> {
    let client = program("genesisctl")?;
    let (mut ours, mut peer) = (Vec::new(), Vec::new());
    for _ in 0..VERSIONS {
        for (command, taken) in [(client.as_path(), &mut ours), (Path::new("true"), &mut peer)] {
            let began = Instant::now();
            let status = Command::new(command).arg("--version").stdout(Stdio::null()).status()?;
            if !status.success() {
                return Err("it tells no version".into());
            }
            taken.push(began.elapsed().as_secs_f64() * 1e3);
        }
    }
    let (p99, peer) = (quantile(&mut ours, 0.99), quantile(&mut peer, 0.99));
    let p50 = quantile(&mut ours, 0.5);
    println!(
        "genesisctl --version: {p50:.1} ms p50, {p99:.1} ms p99 (goal: {TOLD}; true: {peer:.1})"
    );
    Figure::new("genesisctl --version, p99", p99, "ms").beside("true", peer).at_most(TOLD).say()?;
    Ok(p99 <= TOLD)
}

/// How large a program is, without what only a debugger reads.
fn size(program: &Path, stripped: &Path, name: &str) -> Outcome<()> {
    let as_is = fs::metadata(program)?.len();
    let done =
        Command::new("strip").arg("--strip-all").arg("-o").arg(stripped).arg(program).status();
    let Some(bytes) = done.is_ok_and(|it| it.success()).then(|| fs::metadata(stripped)) else {
        println!("{name}: {as_is} bytes; no strip here");
        return Ok(Figure::new(format!("{name} as it is"), as_is as f64 / 1e6, "MB").say()?);
    };
    let bytes = bytes?.len();
    println!("{name}: {as_is} bytes, {bytes} stripped");
    Ok(Figure::new(format!("{name}, stripped"), bytes as f64 / 1e6, "MB").say()?)
}
