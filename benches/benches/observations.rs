//! Observations into a running agent over its socket, each batch answered once it is durable, beside SQLite with one
//! transaction for each batch; and what they take on the disk.
//!
//! `cargo bench -p genesis-benches --bench observations`

#![allow(clippy::print_stdout, clippy::disallowed_methods)] // Its output, and a benchmark reads the clock.

mod support;

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use genesis_client::observe::{ObserveStream, Pusher, PusherOptions, Settled};
use genesis_client::v1::ObservationColumn;
use genesis_client::{Client, Node, Options};
use genesis_storage::Observations;
use rusqlite::Connection;
use support::agent::Agent;
use support::figures::Figure;
use support::traffic::Traffic;
use support::{Outcome, quantile};

/// Rows of a batch, in so many columns, and batches of a round.
const ROWS: usize = 10_000;
const OPERATIONS: usize = 10;
const BATCHES: u64 = 400;
const ROUNDS: usize = 5;
/// The goals: a second, as many times as SQLite, and bytes of each in the compacted file.
const RATE: f64 = 5e6;
const OVER_SQLITE: f64 = 4.0;
const DISK: f64 = 8.0;

fn main() -> Outcome<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let folder = tempfile::tempdir()?;
    let (mut ours, mut peer) = (Vec::new(), Vec::new());
    let agent = Agent::start(folder.path(), "[health]\ndefaults = false\n")?;
    let node: Node = format!("unix:{}", agent.socket().display()).parse()?;
    let batches = batches()?;
    for round in 0..ROUNDS {
        ours.push(runtime.block_on(push(&node, &format!("bench-{round}"), &batches))?);
        peer.push(sqlite(&folder.path().join(format!("{round}.sqlite")), &batches)?);
    }
    let pushed = runtime.block_on(pusher(&node))?;
    drop(agent);
    let (rate, sqlite) = (quantile(&mut ours, 0.5), quantile(&mut peer, 0.5));
    let good = rate >= RATE && rate >= OVER_SQLITE * sqlite;
    println!(
        "observations a second, durable, batches of {ROWS}, median of {ROUNDS} rounds of {BATCHES} batches"
    );
    println!("  genesis {:>8.2} million (goal: {:.0})", rate / 1e6, RATE / 1e6);
    println!(
        "  SQLite  {:>8.2} million, {:.1} times (goal: {OVER_SQLITE})",
        sqlite / 1e6,
        rate / sqlite
    );
    Figure::new("durable, batches of 10,000", rate / 1e6, "million a second")
        .at_least(RATE / 1e6)
        .say()?;
    Figure::new("the same, beside SQLite", rate / 1e6, "million a second")
        .beside("SQLite", sqlite / 1e6)
        .ratio_at_least(OVER_SQLITE)
        .say()?;
    Figure::new("an observation, where it is made", pushed, "ns").say()?;
    println!("a pusher: {pushed:.1} ns for each observation, where it is made");
    let all = ROUNDS as u64 * BATCHES * ROWS as u64;
    let each = on_disk(&folder.path().join("state/observations.redb"), all)?;
    println!("on the disk, compacted: {each:.2} bytes an observation (goal: {DISK})");
    let kept = Figure::new("an observation on the disk, compacted", each, "bytes");
    kept.at_most(DISK).say()?;
    Ok(if good && each <= DISK { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A round's rows: a minute of each operation.
fn batches() -> Outcome<Vec<Vec<ObservationColumn>>> {
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos())?;
    let mut traffic = Traffic::new(6);
    let batch = |number: u64| -> Vec<ObservationColumn> {
        (0..OPERATIONS)
            .map(|operation| {
                let from = now - 3_600_000_000_000 + number as i64 * 4_000_000_000;
                let (unix_nanos, seconds) = traffic.calls(from, ROWS / OPERATIONS);
                let operation = format!("operation-{operation}");
                ObservationColumn { operation, unix_nanos, seconds }
            })
            .collect()
    };
    Ok((0..BATCHES).map(batch).collect())
}

/// Observations a second, until the last answer.
async fn push(node: &Node, producer: &str, batches: &[Vec<ObservationColumn>]) -> Outcome<f64> {
    let client = Client::connect(node, Options::default()).await?;
    let mut stream = ObserveStream::new(client, producer, 8)?;
    let began = Instant::now();
    let mut counted = 0;
    // What the agent takes nothing of is missing in the end.
    let mut settle = |settled: Option<Settled>| {
        if let Some(Settled::Acknowledged { answer, .. }) = settled {
            counted += u64::from(answer.counted);
        }
    };
    for (sequence, columns) in (1..).zip(batches) {
        while !stream.has_room() {
            settle(stream.next().await?);
        }
        stream.push(sequence, columns.clone())?;
    }
    while stream.unanswered() > 0 {
        settle(stream.next().await?);
    }
    let elapsed = began.elapsed().as_secs_f64();
    stream.close().await;
    assert_eq!(counted, batches.len() as u64 * ROWS as u64);
    Ok(counted as f64 / elapsed)
}

/// The same rows into SQLite, a transaction for each batch that is flushed to the disk, and remembers its number.
fn sqlite(path: &Path, batches: &[Vec<ObservationColumn>]) -> Outcome<f64> {
    let mut database = Connection::open(path)?;
    database.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
         CREATE TABLE batch (producer TEXT PRIMARY KEY, sequence INTEGER) WITHOUT ROWID;
         CREATE TABLE call (operation INTEGER, at INTEGER, seconds REAL);",
    )?;
    let began = Instant::now();
    for (sequence, columns) in (1_u64..).zip(batches) {
        let writing = database.transaction()?;
        {
            let mut insert = writing.prepare("INSERT INTO call VALUES (?1, ?2, ?3)")?;
            for (number, column) in (0_i64..).zip(columns) {
                for (at, seconds) in column.unix_nanos.iter().zip(&column.seconds) {
                    insert.execute((number, at, seconds))?;
                }
            }
            writing.execute("REPLACE INTO batch VALUES ('bench', ?1)", [sequence as i64])?;
        }
        writing.commit()?;
    }
    Ok(batches.len() as f64 * ROWS as f64 / began.elapsed().as_secs_f64())
}

/// Nanoseconds of `observe` in the program that makes observations.
async fn pusher(node: &Node) -> Outcome<f64> {
    const CALLS: u32 = 500_000;
    let pusher = Pusher::follow(node.clone(), Options::default(), PusherOptions::default())?;
    let operation = pusher.handle().operation("pushed")?;
    let at = SystemTime::now();
    let began = Instant::now();
    let taken = (0..CALLS).filter(|call| operation.observe(at, f64::from(*call) * 1e-6)).count();
    let each = began.elapsed().as_nanos() as f64 / f64::from(CALLS);
    let stats = pusher.close(Duration::from_secs(30)).await;
    assert_eq!(
        (taken as u64, stats.answered.counted),
        (u64::from(CALLS), u64::from(CALLS)),
        "{stats:?}"
    );
    Ok(each)
}

/// Bytes of each in the file, once it is compacted. What a pusher sent is little beside them, and is counted as none.
fn on_disk(path: &Path, all: u64) -> Outcome<f64> {
    let file = Observations::open(path, 16 << 20)?;
    file.compact()?;
    Ok(file.file_bytes() as f64 / all as f64)
}
