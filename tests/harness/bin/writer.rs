//! Writes numbered lines into a log and reopens it on SIGUSR1, as daemons do: `PATH PIDFILE RATE`. On
//! SIGTERM it ends and says how many lines it wrote.
// Test code: a panic is how it reports, and its one line of output is its answer.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use genesis_tests::clock::Watch;
use genesis_tests::lines;
use tokio::signal::unix::{SignalKind, signal};

fn open(path: &Path) -> File {
    OpenOptions::new().create(true).append(true).open(path).expect("the log can be opened")
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, path, pidfile, rate] = arguments.as_slice() else { panic!("PATH PIDFILE RATE") };
    let (path, rate) = (Path::new(path), rate.parse::<u64>().expect("RATE is a number"));
    let mut reopen = signal(SignalKind::user_defined1()).expect("SIGUSR1 can be caught");
    let mut end = signal(SignalKind::terminate()).expect("SIGTERM can be caught");
    let mut file = open(path);
    // Under another name first, so that nobody reads half of it.
    let half = format!("{pidfile}.new");
    std::fs::write(&half, format!("{}\n", std::process::id())).expect("the pidfile can be written");
    std::fs::rename(&half, pidfile).expect("the pidfile can be put in its place");
    let (watch, mut number, mut line) = (Watch::start(), 0, String::new());
    let mut tick = tokio::time::interval(Duration::from_millis(2));
    loop {
        tokio::select! {
            _ = reopen.recv() => file = open(path),
            _ = end.recv() => break,
            _ = tick.tick() => {
                let due = watch.elapsed().as_micros() as u64 * rate / 1_000_000;
                // Bounded, so that a writer that was kept waiting still hears signals.
                for number in number..due.min(number + 2_000) {
                    line.clear();
                    lines::push(&mut line, number);
                    file.write_all(line.as_bytes()).expect("the log takes a line");
                }
                number = due.min(number + 2_000);
            }
        }
    }
    println!("{number}");
}
