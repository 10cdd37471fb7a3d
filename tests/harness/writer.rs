//! Writers of numbered lines.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::clock::{Watch, wait_for, wait_until};
use crate::lines;

/// Every so many lines the writer looks whether its file was renamed away.
const LOOK_EVERY: u64 = 50;
/// How often lines that have come due are written.
const TICK: Duration = Duration::from_millis(2);

fn open(path: &Path) -> File {
    OpenOptions::new().create(true).append(true).open(path).expect("the log can be opened")
}

/// A thread that writes numbered lines, one `write` each with O_APPEND, and notices by itself that its file
/// was renamed away (`reopen = "by-itself"`).
pub struct Writer {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts with line 0 and writes `rate` lines a second.
    pub fn start(path: &Path, rate: u64) -> Self {
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counted, path) = (Arc::clone(&stop), Arc::clone(&written), path.to_owned());
        let thread = std::thread::spawn(move || {
            let mut file = open(&path);
            let mut inode = file.metadata().expect("an open file").ino();
            let (watch, mut number, mut line) = (Watch::start(), 0, String::new());
            while !stopped.load(Ordering::Relaxed) {
                let due = watch.elapsed().as_micros() as u64 * rate / 1_000_000;
                while number < due && !stopped.load(Ordering::Relaxed) {
                    if number.is_multiple_of(LOOK_EVERY)
                        && std::fs::metadata(&path).ok().map(|seen| seen.ino()) != Some(inode)
                    {
                        file = open(&path);
                        inode = file.metadata().expect("an open file").ino();
                    }
                    line.clear();
                    lines::push(&mut line, number);
                    file.write_all(line.as_bytes()).expect("the log takes a line");
                    number += 1;
                    counted.store(number, Ordering::Release);
                }
                std::thread::sleep(TICK);
            }
        });
        Self { stop, written, thread: Some(thread) }
    }

    /// How many lines it has written so far.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// Waits until it has written so many more lines.
    ///
    /// # Panics
    /// When it does not.
    pub fn wait_for_more(&self, lines: u64) {
        let until = self.written() + lines;
        wait_until("the writer", || self.written() >= until);
    }

    /// Stops it, lets its file go, and returns how many lines it wrote.
    ///
    /// # Panics
    /// When it had failed.
    pub fn stop(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().expect("stopped once").join().expect("the writer did not fail");
        self.written.load(Ordering::Acquire)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It failed: the test that it belongs to fails already.
            let _ = thread.join();
        }
    }
}

/// A process that writes numbered lines and reopens its file on SIGUSR1, whose id stands in a pidfile.
pub struct ChildWriter {
    child: Child,
    pidfile: PathBuf,
}

impl ChildWriter {
    /// Starts `program` (genesis-test-writer) and waits until its pidfile stands.
    ///
    /// # Panics
    /// When it can't be started.
    pub fn start(program: &Path, path: &Path, pidfile: &Path, rate: u64) -> Self {
        let child = Command::new(program)
            .args([path, pidfile])
            .arg(rate.to_string())
            .stdout(Stdio::piped())
            .stdin(Stdio::null())
            .spawn()
            .expect("the writer can be started");
        let writer = Self { child, pidfile: pidfile.to_owned() };
        wait_until("the writer's pidfile", || writer.pidfile.exists());
        writer
    }

    /// Stops it and returns how many lines it wrote.
    ///
    /// # Panics
    /// When it failed.
    pub fn stop(mut self) -> u64 {
        let pid = Pid::from_raw(self.child.id().cast_signed()).expect("a process id");
        kill_process(pid, Signal::TERM).expect("the writer lives");
        let mut said = String::new();
        let pipe = self.child.stdout.as_mut().expect("its output is piped");
        pipe.read_to_string(&mut said).expect("it says how many lines it wrote");
        let status = wait_for("the writer's end", || self.child.try_wait().expect("our child"));
        assert!(status.success(), "the writer failed: {status}");
        said.trim().parse().expect("a number of lines")
    }
}

impl Drop for ChildWriter {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
