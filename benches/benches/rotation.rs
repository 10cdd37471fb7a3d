//! What each way of rotation loses and takes, logrotate's and ours, under the same writer.
//!
//! A thread appends numbered lines with O_APPEND at a steady rate and never reopens its file, or reopens it when
//! it is gone. Meanwhile the log is rotated some times: by the real logrotate with `copytruncate` and with
//! `create` + `compress`, and by the agent with `collapse` and with `reopen`. In the end every line that was
//! written is looked for in what was kept. Needs logrotate (`apt-get install logrotate`) and ext4 or xfs.
//!
//! `cargo bench -p genesis-benches --bench rotation`

#![allow(clippy::print_stdout, clippy::disallowed_methods)] // Its output, and a benchmark reads the clock.

mod support;

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use support::Outcome;
use support::agent::Agent;
use support::figures::Figure;

/// Lines a second.
const RATE: u64 = 70_000;
const ROTATIONS: usize = 6;
/// How long is written between two rotations.
const BETWEEN: Duration = Duration::from_secs(1);

/// A writer, and what it knows about itself.
struct Writer {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<std::io::Result<(u64, Duration)>>,
}

impl Writer {
    fn start(path: &Path, reopens: bool) -> Self {
        let (stop, path) = (Arc::new(AtomicBool::new(false)), path.to_owned());
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let open = || OpenOptions::new().create(true).append(true).open(&path);
            let (mut file, begin) = (open()?, Instant::now());
            let (mut number, mut longest, mut line) = (0_u64, Duration::ZERO, Vec::new());
            while !stopped.load(Ordering::Relaxed) {
                if reopens {
                    let now = fs::metadata(&path).ok().map(|facts| facts.ino());
                    if now != Some(file.metadata()?.ino()) {
                        file = open()?;
                    }
                }
                let due = (begin.elapsed().as_secs_f64() * RATE as f64) as u64;
                while number < due {
                    line.clear();
                    writeln!(
                        line,
                        "2024-03-01T00:00:00.000Z INFO line={number:010} an order of some size at some price"
                    )?;
                    let before = Instant::now();
                    file.write_all(&line)?;
                    longest = longest.max(before.elapsed());
                    number += 1;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            Ok((number, longest))
        });
        Self { stop, thread }
    }

    /// How many lines it wrote, and the longest that one `write` took.
    fn end(self) -> Outcome<(u64, Duration)> {
        self.stop.store(true, Ordering::Relaxed);
        Ok(self.thread.join().map_err(|_| "the writer failed")??)
    }
}

/// Marks the lines that are in `text`.
fn mark(text: &[u8], seen: &mut [u32]) {
    for line in text.split(|byte| *byte == b'\n') {
        let Some(at) = line.windows(5).position(|window| window == b"line=") else { continue };
        let number = line.get(at + 5..at + 15).and_then(|digits| std::str::from_utf8(digits).ok());
        // A line that was torn apart does not count.
        let whole = line.starts_with(b"2024-") && line.ends_with(b"price");
        if let Some(number) =
            number.and_then(|digits| digits.parse::<usize>().ok()).filter(|_| whole)
            && let Some(count) = seen.get_mut(number)
        {
            *count += 1;
        }
    }
}

struct Row {
    name: &'static str,
    written: u64,
    lost: u64,
    doubled: u64,
    seconds: f64,
    longest: Duration,
    /// Bytes that it said it saw vanish, where it says so.
    counted: Option<u64>,
}

impl Row {
    fn of(name: &'static str, written: u64, seen: &[u32], seconds: f64, longest: Duration) -> Self {
        let count =
            |wanted: fn(u32) -> bool| seen.iter().filter(|count| wanted(**count)).count() as u64;
        let (lost, doubled) = (count(|count| count == 0), count(|count| count > 1));
        Self { name, written, lost, doubled, seconds, longest, counted: None }
    }
}

fn logrotate(folder: &Path, name: &'static str, options: &str, reopens: bool) -> Outcome<Row> {
    let folder = folder.join(name.replace([' ', ',', '+'], "-"));
    fs::create_dir(&folder)?;
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))?;
    let (log, config) = (folder.join("t.log"), folder.join("conf"));
    fs::write(&config, format!("{} {{\n  rotate 100\n{options}\n}}\n", log.display()))?;
    fs::set_permissions(&config, fs::Permissions::from_mode(0o644))?;
    let writer = Writer::start(&log, reopens);
    let mut seconds = 0.0;
    for _ in 0..ROTATIONS {
        std::thread::sleep(BETWEEN);
        let before = Instant::now();
        let output = Command::new("logrotate")
            .args(["-f", "-s"])
            .arg(folder.join("status"))
            .arg(&config)
            .output()?;
        seconds += before.elapsed().as_secs_f64();
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
        }
    }
    std::thread::sleep(BETWEEN / 2);
    let (written, longest) = writer.end()?;
    let mut seen = vec![0; usize::try_from(written)?];
    for entry in fs::read_dir(&folder)? {
        let path = entry?.path();
        let file = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if file.starts_with("t.log") {
            let mut text = Vec::new();
            if file.ends_with(".gz") {
                text = Command::new("zcat").arg(&path).stderr(Stdio::null()).output()?.stdout;
            } else {
                File::open(&path)?.read_to_end(&mut text)?;
            }
            mark(&text, &mut seen);
        }
    }
    Ok(Row::of(name, written, &seen, seconds, longest))
}

fn ours(folder: &Path, name: &'static str, mode: &str, reopens: bool) -> Outcome<Row> {
    let folder = folder.join(name.replace([' ', ','], "-"));
    fs::create_dir(&folder)?;
    let log: PathBuf = folder.join("t.log");
    let config = format!(
        "[[logs.source]]\ntype = \"trading\"\npaths = [{log:?}]\nrotate_size = \"1GB\"\n{mode}\n\
         local_retention = \"36500d\"\narchive_retention = \"36500d\"\n"
    );
    let agent = Agent::start(&folder, &config)?;
    let writer = Writer::start(&log, reopens);
    let mut seconds = 0.0;
    for _ in 0..ROTATIONS {
        std::thread::sleep(BETWEEN);
        let before = Instant::now();
        // Until it is sealed, archived and read back.
        agent.ctl(&["logs", "rotate", "--log-type", "trading"])?;
        seconds += before.elapsed().as_secs_f64();
    }
    std::thread::sleep(BETWEEN / 2);
    let (written, longest) = writer.end()?;
    agent.ctl(&["logs", "rotate", "--log-type", "trading"])?;
    let range = ["--date-range", "2024-03-01:2024-03-01"];
    let text = agent.ctl(&[&["logs", "retrieve", "--log-type", "trading"], &range[..]].concat())?;
    let mut seen = vec![0; usize::try_from(written)?];
    mark(&text, &mut seen);
    let log = agent.ctl(&["oplog", "list", "--action", "logs.segment.detached", "-o", "json"])?;
    let log = String::from_utf8_lossy(&log).into_owned();
    let counts = log.split("at least ").skip(1).filter_map(|rest| rest.split(' ').next());
    let counted = counts.filter_map(|count| count.parse::<u64>().ok()).sum();
    let row = Row::of(name, written, &seen, seconds, longest);
    Ok(Row { counted: Some(counted), ..row })
}

fn main() -> Outcome<ExitCode> {
    if Command::new("logrotate").arg("--version").output().is_err() {
        println!("no logrotate here: apt-get install logrotate");
        return Ok(ExitCode::FAILURE);
    }
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    let path = folder.path();
    let collapse = "rotate_mode = \"collapse\"\nassume_append = true";
    let lossy = "rotate_mode = \"copytruncate\"\nallow_lossy = true";
    let rows = [
        logrotate(path, "logrotate copytruncate", "  copytruncate\n  compress", false)?,
        logrotate(path, "logrotate create, compress", "  create\n  compress", false)?,
        ours(path, "ours collapse", collapse, false)?,
        ours(path, "ours copytruncate", lossy, false)?,
        logrotate(path, "logrotate create, reopening", "  create\n  compress", true)?,
        ours(path, "ours reopen", "reopen = \"by-itself\"", true)?,
    ];
    println!(
        "{:<30} {:>9} {:>9} {:>8} {:>14} {:>16} {:>14}",
        "", "written", "lost", "doubled", "s a rotation", "longest write", "said vanished"
    );
    for row in &rows {
        println!(
            "{:<30} {:>9} {:>9} {:>8} {:>14.3} {:>13.1} ms {:>14}",
            row.name,
            row.written,
            row.lost,
            row.doubled,
            row.seconds / ROTATIONS as f64,
            row.longest.as_secs_f64() * 1e3,
            row.counted.map_or("-".into(), |bytes| format!("{bytes} bytes"))
        );
    }
    // A way of ours, and the one of logrotate for the same writer.
    for (ours, peer) in [(&rows[2], &rows[0]), (&rows[5], &rows[4])] {
        let spoilt = |row: &Row| (row.lost + row.doubled) as f64;
        Figure::new(format!("lines lost or doubled, {}", ours.name), spoilt(ours), "lines")
            .beside(peer.name, spoilt(peer))
            .at_most(0.0)
            .say()?;
        let each = |row: &Row| row.seconds / ROTATIONS as f64;
        let took = Figure::new(format!("a rotation, {}", ours.name), each(ours), "s");
        took.beside(peer.name, each(peer)).say()?;
    }
    println!("ours archives, reads back and proves within that time; logrotate compresses");
    let sound = [&rows[2], &rows[5]].iter().all(|row| row.lost == 0 && row.doubled == 0);
    println!(
        "goal, nothing lost or doubled by collapse and reopen: {}",
        if sound { "met" } else { "MISSED" }
    );
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
