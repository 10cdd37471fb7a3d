//! The care of a database beside `vacuumdb` with as many jobs, in one run: the vacuum of 8 tables of 400,000 rows of
//! which a fifth was updated, on copies of one database, turn by turn. Then the preflight, and what clients notice of a
//! care: pgbench at half of what it can do, without and with one.

#![allow(clippy::print_stdout, clippy::disallowed_methods)] // Its output, and a benchmark reads the clock.

// Of the tests' harness only this: all of it would be built with its many crates.
#[allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#[path = "../../tests/harness/clock.rs"]
mod clock;
#[allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#[path = "../../tests/harness/postgres.rs"]
mod postgres;
mod support;

use std::process::Stdio;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use postgres::Postgres;
use serde_json::Value;
use support::agent::Agent;
use support::figures::Figure;
use support::{Outcome, quantile};

const ROUNDS: usize = 5;
const TABLES: usize = 8;
const ROWS: usize = 400_000;
const JOBS: &str = "2";
/// So many times as long as vacuumdb a care's vacuum may take, and so much of their rate clients keep beside a care.
const VACUUM: f64 = 1.05;
const CLIENTS: f64 = 0.85;
/// The preflight stays below, in milliseconds.
const PREFLIGHT: f64 = 500.0;

fn main() -> Outcome<()> {
    let server = Postgres::start(
        "shared_buffers = 512MB\nmax_wal_size = 4GB\nlog_statement = none\nlog_lock_waits = on\ndeadlock_timeout = 100ms\n",
    );
    seed(&server);
    vacuum(&server)?;
    clients(&server)?;
    Ok(())
}

fn seed(server: &Postgres) {
    server.sql("postgres", "CREATE DATABASE seed");
    for table in 0..TABLES {
        server.sql(
            "seed",
            &format!(
                "CREATE TABLE t{table} (id int PRIMARY KEY, symbol text, price int) WITH (autovacuum_enabled = off);
                 INSERT INTO t{table} SELECT i, 'S' || i % 97, i::bigint * 7919 % 100003 FROM generate_series(1, {ROWS}) i;
                 CREATE INDEX ON t{table} (price); UPDATE t{table} SET price = price + 1 WHERE id % 5 = 0"
            ),
        );
    }
    server.sql("postgres", "CHECKPOINT");
}

fn config(server: &Postgres, more: &str) -> String {
    format!(
        "[health]\ndefaults = false\n[[database.instance]]\nname = \"trades\"\nurl = \"{}\"\nschedule = \"never\"\ntrades_probe = \"none\"\n\
         min_free = \"0%\"\njobs = \"{JOBS}\"\n{more}\n",
        server.url("trades")
    )
}

fn copy(server: &Postgres) {
    server.sql("postgres", "DROP DATABASE IF EXISTS trades WITH (FORCE)");
    server.sql("postgres", "CREATE DATABASE trades TEMPLATE seed STRATEGY file_copy");
    server.sql("postgres", "CHECKPOINT");
}

/// Cares for it, whatever came of the verification.
fn care(agent: &Agent) -> Outcome<Value> {
    let how = ["db", "optimize", "--force", "--override", "backup-verified", "--reason", "bench"];
    let cared = agent.ctl(&how);
    let shown: Value = serde_json::from_slice(&agent.ctl(&["run", "show", "last", "-o", "json"])?)?;
    let run = &shown[0]["response"]["run"];
    if run["steps"].as_array().is_none_or(Vec::is_empty) {
        return Err(format!("no care: {cared:?}, {shown}").into());
    }
    Ok(run.clone())
}

/// From the begin of the first step of this name to the end of the last, in seconds.
fn span(run: &Value, name: &str) -> Outcome<f64> {
    let steps = run["steps"].as_array().ok_or("no steps")?;
    let of = |key: &str| -> Vec<Timestamp> {
        let its = steps.iter().filter(|step| step["name"] == name);
        its.filter_map(|step| step[key].as_str()?.parse().ok()).collect()
    };
    let (begun, ended) = (of("startedAt"), of("endedAt"));
    let first = begun.into_iter().min().ok_or("no such step")?;
    let last = ended.into_iter().max().ok_or("no such step")?;
    Ok(last.duration_since(first).as_secs_f64())
}

fn vacuum(server: &Postgres) -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    copy(server);
    let agent = Agent::start(folder.path(), &config(server, "bloat_most = \"0\""))?;
    let (mut peer, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        copy(server);
        let began = Instant::now();
        let mut vacuumdb = server.client("vacuumdb");
        let done = vacuumdb.args(["-q", "-z", "-j", JOBS, "trades"]).output()?;
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        peer.push(began.elapsed().as_secs_f64());
        copy(server);
        ours.push(span(&care(&agent)?, "vacuum")?);
    }
    let (peer, ours) = (quantile(&mut peer, 0.5), quantile(&mut ours, 0.5));
    println!(
        "vacuum and analyse of {TABLES} tables of {ROWS} rows, {JOBS} at a time, median of {ROUNDS}"
    );
    println!("  vacuumdb      {peer:>7.2} s");
    println!(
        "  genesis-agent {ours:>7.2} s   {:+.1} % (goal: at most +5 %)",
        (ours / peer - 1.0) * 100.0
    );
    let vacuum = Figure::new("vacuum and analyse of 8 tables", ours, "s");
    vacuum.beside("vacuumdb", peer).ratio_at_most(VACUUM).say()?;
    let mut times = Vec::new();
    for _ in 0..30 {
        let said = agent.ctl(&["db", "preflight", "-o", "json"]);
        // It exits with 4 where no backup is there, and says so on standard output all the same.
        drop(said);
        let began = Instant::now();
        let _ = agent.ctl(&["db", "preflight"]);
        times.push(began.elapsed().as_secs_f64() * 1_000.0);
    }
    let (p50, max) = (quantile(&mut times, 0.5), quantile(&mut times, 1.0));
    println!(
        "preflight, as genesisctl waits for it: p50 {p50:.0} ms, max {max:.0} ms (goal: below {PREFLIGHT:.0} ms)"
    );
    let preflight = Figure::new("preflight, at worst", max, "ms");
    Ok(preflight.at_most(PREFLIGHT).say()?)
}

/// Transactions a second, and the longest in milliseconds.
fn pgbench(server: &Postgres, rate: Option<f64>, seconds: u64) -> Outcome<(f64, f64)> {
    let folder = tempfile::tempdir()?;
    let mut command = server.client("pgbench");
    command.args(["-n", "-c", "4", "-j", "1", "-T", &seconds.to_string(), "-l"]);
    command.arg(format!("--log-prefix={}/log", folder.path().display()));
    if let Some(rate) = rate {
        command.args(["-R", &format!("{rate:.0}")]);
    }
    let done = command.arg("trades").stderr(Stdio::piped()).output()?;
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    let tps =
        said.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
    let mut longest = 0.0_f64;
    for entry in std::fs::read_dir(folder.path())? {
        for line in std::fs::read_to_string(entry?.path())?.lines() {
            let micros = line.split(' ').nth(2).and_then(|it| it.parse::<f64>().ok());
            longest = longest.max(micros.unwrap_or(0.0) / 1_000.0);
        }
    }
    Ok((tps.ok_or(said)?, longest))
}

/// What clients notice of a care.
fn clients(server: &Postgres) -> Outcome<()> {
    copy(server);
    let made = server.client("pgbench").args(["-i", "-q", "-s", "20", "trades"]).output()?;
    assert!(made.status.success());
    let (full, _) = pgbench(server, None, 10)?;
    let half = full / 2.0;
    let folder = tempfile::tempdir()?;
    let more = "bloat_smallest = \"0B\"\nbloat_least = \"1%\"\nbloat_cooldown = \"0s\"\nbloat_most = \"100\"\nmax_active = \"20\"";
    let agent = Agent::start(folder.path(), &config(server, more))?;
    println!("pgbench, 4 clients, at half of {full:.0} transactions a second, 20 s each");
    let (mut without, mut with, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let (mut rates, mut cared) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let (alone, longest) = pgbench(server, Some(half), 20)?;
        without.push(longest);
        let before = server.log().len();
        let (beside, longest) = std::thread::scope(|scope| {
            let caring = scope.spawn(|| {
                let began = Instant::now();
                // Care after care, for as long as the clients work.
                while began.elapsed() < Duration::from_secs(18) {
                    care(&agent)?;
                }
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
            });
            let measured = pgbench(server, Some(half), 20);
            caring.join().map_err(|_| "the care panicked")??;
            measured
        })?;
        with.push(longest);
        ratios.push(beside / alone);
        rates.push(alone);
        cared.push(beside);
        let log = server.log();
        let waits = log[before..].lines().filter(|line| line.contains("still waiting for"));
        let waited = waits.filter(|line| line.contains("pgbench")).count();
        println!(
            "  alone {alone:.0}/s, with care {beside:.0}/s ({:+.1} %), longest {longest:.0} ms, waits for locks over 100 ms: {waited}",
            (beside / alone - 1.0) * 100.0
        );
    }
    let ratio = quantile(&mut ratios, 0.5);
    println!(
        "  median {:+.1} % (goal: at most -15 %); the longest transaction {:.0} ms alone, {:.0} ms with care (lock_timeout: 3000 ms)",
        (ratio - 1.0) * 100.0,
        quantile(&mut without, 1.0),
        quantile(&mut with, 1.0)
    );
    Figure::new("clients' rate beside a care", quantile(&mut cared, 0.5), "a second")
        .beside("without a care", quantile(&mut rates, 0.5))
        .ratio_at_least(CLIENTS)
        .say()?;
    let longest = Figure::new("longest transaction beside a care", quantile(&mut with, 1.0), "ms");
    Ok(longest.beside("without a care", quantile(&mut without, 1.0)).say()?)
}
