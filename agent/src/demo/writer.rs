//! The tour's writer: an application that logs thousands of lines a second and notices by itself when its
//! file was renamed away.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// Its lines are stamped a millisecond apart from the start of this day on, so that the tour shows the same
/// times whenever it is given.
pub(super) const FIRST_DAY: &str = "2026-01-05";
/// No tour reaches the end of this day.
pub(super) const LAST_DAY: &str = "2026-01-06";

/// So many lines are written at a time.
const BURST: u64 = 200;
/// And then it rests so long.
const REST: Duration = Duration::from_millis(10);

/// A running writer.
pub(super) struct Writer {
    written: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<()>>,
}

/// The number of a line; `None` when it is none of this writer's.
pub(super) fn number(line: &str) -> Option<u64> {
    line.split("order=").nth(1)?.split(' ').next()?.parse().ok()
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

impl Writer {
    /// Starts writing to `path`.
    ///
    /// # Errors
    /// When the file can't be opened.
    pub(super) fn start(path: &Path) -> io::Result<Self> {
        let file = open(path)?;
        let (written, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (path, counter, ended) = (path.to_owned(), Arc::clone(&written), Arc::clone(&stop));
        let thread = std::thread::spawn(move || write(&path, file, &counter, &ended));
        Ok(Self { written, stop, thread })
    }

    /// Waits until so many lines are written; `false` when the writer has stopped before.
    pub(super) fn wait_for(&self, lines: u64) -> bool {
        while self.written.load(Ordering::Acquire) < lines {
            if self.thread.is_finished() {
                return false;
            }
            std::thread::sleep(REST);
        }
        true
    }

    /// Stops it and returns how many lines it wrote.
    ///
    /// # Errors
    /// What stopped it before.
    pub(super) fn stop(self) -> io::Result<u64> {
        self.stop.store(true, Ordering::Release);
        match self.thread.join() {
            Ok(outcome) => outcome.map(|()| self.written.load(Ordering::Acquire)),
            Err(_) => Err(io::Error::other("the writer hit a defect")),
        }
    }
}

fn write(path: &PathBuf, mut file: File, written: &AtomicU64, stop: &AtomicBool) -> io::Result<()> {
    let start: Timestamp = format!("{FIRST_DAY}T00:00:00Z").parse().map_err(io::Error::other)?;
    let mut number = 0_u64;
    while !stop.load(Ordering::Acquire) {
        // Renamed away: the path leads nowhere or elsewhere, so what follows goes into a new file.
        let inode = file.metadata()?.ino();
        if std::fs::metadata(path).map_or(true, |found| found.ino() != inode) {
            file = open(path)?;
        }
        let mut burst = BufWriter::new(&file);
        for _ in 0..BURST {
            let at = start
                .saturating_add(SignedDuration::from_millis(number.cast_signed()))
                .map_err(io::Error::other)?;
            let price = 10_000 + number * 7919 % 5_000;
            writeln!(
                burst,
                "{} INFO engine order={number} symbol=BTC-USD side={} price={}.{:02} filled",
                at.strftime("%Y-%m-%dT%H:%M:%S.%3fZ"),
                if number.is_multiple_of(3) { "sell" } else { "buy" },
                price / 100,
                price % 100,
            )?;
            number += 1;
        }
        burst.flush()?;
        drop(burst);
        written.store(number, Ordering::Release);
        std::thread::sleep(REST);
    }
    Ok(())
}
