//! Trades: into the tallies in this process; a look, beside scipy's t-test of the same moments; and into a running agent
//! over its socket, each id once and each batch answered once it is durable, beside SQLite with a unique index.
//!
//! `cargo bench -p genesis-benches --bench trades`

#![allow(clippy::print_stdout, clippy::disallowed_methods)] // Its output, and a benchmark reads the clock.

mod support;

use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use genesis_client::v1::{
    Arm as V1Arm, GetParametersRequest, RecordTradesRequest, RecordTradesResponse, TradeColumn,
};
use genesis_client::{Client, Node, Options};
use genesis_stats::experiment::{Arm, Design, Rules, Trial};
use rusqlite::Connection;
use support::agent::Agent;
use support::figures::Figure;
use support::traffic::Traffic;
use support::{Outcome, python, quantile};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

/// Rows of a batch, and batches of a round.
const ROWS: usize = 10_000;
const BATCHES: u64 = 100;
const ROUNDS: usize = 5;
/// The goals: trades a second into the tallies, and durably over the socket; microseconds of a look; milliseconds until a
/// strategy hears of a rollback.
const TALLIES: f64 = 5e6;
const DURABLE: f64 = 5e5;
const LOOK: f64 = 5.0;
const HEARD: f64 = 100.0;

fn main() -> Outcome<ExitCode> {
    let mut good = tallies()?;
    good &= looks()?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    good &= runtime.block_on(durable())?;
    good &= runtime.block_on(rollback())?;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "NOT met" }
}

fn trial() -> Outcome<Trial> {
    Ok(Trial::new(Design::Sequential, [50.0, 50.0], Rules::default())?)
}

/// On one core.
fn tallies() -> Outcome<bool> {
    let values = Traffic::new(1).latencies(1_000_000);
    let mut rates = Vec::new();
    for _ in 0..15 {
        let mut trial = trial()?;
        let began = Instant::now();
        for (at, value) in values.iter().enumerate() {
            trial.record(if at % 2 == 0 { Arm::Control } else { Arm::Variant }, *value);
        }
        rates.push(values.len() as f64 / began.elapsed().as_secs_f64());
        black_box(&trial);
    }
    let rate = quantile(&mut rates, 0.5);
    println!(
        "trades a second into the tallies, one core: {:.1} million (goal: {:.0}, {})",
        rate / 1e6,
        TALLIES / 1e6,
        verdict(rate >= TALLIES)
    );
    let tallied = Figure::new("trades into the tallies, one core", rate / 1e6, "million a second");
    tallied.at_least(TALLIES / 1e6).say()?;
    Ok(rate >= TALLIES)
}

/// After each batch.
fn looks() -> Outcome<bool> {
    let mut traffic = Traffic::new(2);
    let mut times = Vec::new();
    for _ in 0..15 {
        let mut trial = trial()?;
        for at in 0..400 {
            trial.record(if at % 2 == 0 { Arm::Control } else { Arm::Variant }, traffic.latency());
        }
        let began = Instant::now();
        for at in 0..1_000 {
            trial.record(if at % 2 == 0 { Arm::Control } else { Arm::Variant }, 0.02);
            black_box(trial.look());
        }
        times.push(began.elapsed().as_micros() as f64 / 1e3);
    }
    let ours = quantile(&mut times, 0.5);
    println!("a trade and a look: {ours:.2} us (goal: {LOOK}, {})", verdict(ours <= LOOK));
    let mut scipy = None;
    if let Some(program) = python::with(&["numpy==2.4.6", "duckdb==2.0.1", "scipy"])? {
        let script = "import time\nfrom scipy.stats import ttest_ind_from_stats as t\nbegan=time.perf_counter()\n\
                      for at in range(2000): t(1.0,1.0,200+at,1.1,1.0,200+at,equal_var=False)\n\
                      print((time.perf_counter()-began)/2000*1e6)";
        let said = std::process::Command::new(program).args(["-c", script]).output()?;
        let peer: f64 = String::from_utf8_lossy(&said.stdout).trim().parse()?;
        println!(
            "  scipy's Welch test of two moments alone: {peer:.1} us, ratio {:.3}",
            ours / peer
        );
        scipy = Some(peer);
    }
    let look = Figure::new("a trade and a look", ours, "us");
    look.beside("scipy's Welch test alone", scipy).at_most(LOOK).say()?;
    Ok(ours <= LOOK)
}

/// A round's batches, with ids that were never there.
fn batches(round: usize) -> Outcome<Vec<RecordTradesRequest>> {
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos())?;
    let mut traffic = Traffic::new(3 + round as u64);
    let batch = |sequence: u64| {
        let first = (round as u64 * BATCHES + sequence) * ROWS as u64;
        let rows = 0..ROWS as u64;
        let column = TradeColumn {
            experiment: "TEST_1".to_owned(),
            trade_id: rows.clone().map(|row| format!("fill-{:012}", first + row)).collect(),
            unix_nanos: rows.clone().map(|row| now + row as i64).collect(),
            pnl: rows.clone().map(|_| traffic.latency()).collect(),
            unit: Vec::new(),
            arm: rows
                .map(|row| if row % 2 == 0 { V1Arm::Control } else { V1Arm::Variant }.into())
                .collect(),
        };
        RecordTradesRequest { producer: format!("bench-{round}"), sequence, columns: vec![column] }
    };
    Ok((1..=BATCHES).map(batch).collect())
}

/// An experiment that goes on whatever comes.
fn begin(agent: &Agent, more: &[&str]) -> Outcome<()> {
    agent.ctl(&["param", "set", "--strategy", "mm", "threshold=1", "--reason", "bench"])?;
    let create = ["experiment", "create", "--strategy", "mm", "--param", "threshold:2", "--split"];
    agent.ctl(&[&create[..], &["50/50", "--reason", "bench"], more].concat())?;
    Ok(())
}

/// Trades a second until the last answer.
async fn push(client: &Client, batches: &[RecordTradesRequest]) -> Outcome<f64> {
    let (sender, receiver) = tokio::sync::mpsc::channel(8);
    let sending = batches.to_vec();
    let began = Instant::now();
    tokio::spawn(async move {
        for batch in sending {
            if sender.send(batch).await.is_err() {
                return;
            }
        }
    });
    let answers = client.experiments().record_trades(ReceiverStream::new(receiver)).await?;
    let mut answers = answers.into_inner();
    let mut counted = 0;
    while let Some(answer) = answers.next().await {
        let RecordTradesResponse { counted: more, duplicate, .. } = answer?;
        assert_eq!(duplicate, 0);
        counted += u64::from(more);
    }
    assert_eq!(counted, batches.len() as u64 * ROWS as u64);
    Ok(counted as f64 / began.elapsed().as_secs_f64())
}

async fn durable() -> Outcome<bool> {
    let folder = tempfile::tempdir()?;
    let agent = Agent::start(folder.path(), "[health]\ndefaults = false\n")?;
    begin(&agent, &["--planned", "1000000000", "--most", "2000000000"])?;
    let node: Node = format!("unix:{}", agent.socket().display()).parse()?;
    let client = Client::connect(&node, Options::default()).await?;
    let (mut ours, mut peer) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let batches = batches(round)?;
        ours.push(push(&client, &batches).await?);
        peer.push(sqlite(&folder.path().join(format!("{round}.sqlite")), &batches)?);
    }
    let (rate, sqlite) = (quantile(&mut ours, 0.5), quantile(&mut peer, 0.5));
    println!(
        "trades a second, durable, each id once, batches of {ROWS}, median of {ROUNDS} rounds"
    );
    println!(
        "  genesis {:>8.0} thousand (goal: {:.0}, {})",
        rate / 1e3,
        DURABLE / 1e3,
        verdict(rate >= DURABLE)
    );
    println!("  SQLite  {:>8.0} thousand, {:.1} times", sqlite / 1e3, rate / sqlite);
    Figure::new("trades, durable, each once", rate / 1e3, "thousand a second")
        .beside("SQLite", sqlite / 1e3)
        .at_least(DURABLE / 1e3)
        .say()?;
    Ok(rate >= DURABLE)
}

/// The same into SQLite, a transaction for each batch, with a unique index of ids.
fn sqlite(path: &std::path::Path, batches: &[RecordTradesRequest]) -> Outcome<f64> {
    let mut database = Connection::open(path)?;
    database.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
         CREATE TABLE trade (id TEXT PRIMARY KEY, arm INTEGER, pnl REAL, at INTEGER) WITHOUT ROWID;",
    )?;
    let (began, mut rows) = (Instant::now(), 0);
    for batch in batches {
        let writing = database.transaction()?;
        {
            let mut insert =
                writing.prepare("INSERT OR IGNORE INTO trade VALUES (?1, ?2, ?3, ?4)")?;
            for column in &batch.columns {
                for at in 0..column.trade_id.len() {
                    let (id, pnl) = (&column.trade_id[at], column.pnl[at]);
                    rows += insert.execute((id, column.arm[at], pnl, column.unix_nanos[at]))?;
                }
            }
        }
        writing.commit()?;
    }
    Ok(rows as f64 / began.elapsed().as_secs_f64())
}

/// From the answer to the batch that shows the harm until a strategy hears of it; it may hear of it before.
async fn rollback() -> Outcome<bool> {
    let mut times = Vec::new();
    for round in 0..ROUNDS {
        let folder = tempfile::tempdir()?;
        let agent = Agent::start(folder.path(), "[health]\ndefaults = false\n")?;
        begin(&agent, &[])?;
        let node: Node = format!("unix:{}", agent.socket().display()).parse()?;
        let client = Client::connect(&node, Options::default()).await?;
        // Somebody in the variant.
        let mut found = None;
        for unit in 0..100 {
            let unit = format!("account-{unit}");
            let request = GetParametersRequest { strategy: "mm".to_owned(), unit };
            let got = client.parameters().get_parameters(request.clone()).await?.into_inner();
            if got.values[0].arm == "variant" {
                found = Some(request);
                break;
            }
        }
        let mut watch =
            client.parameters().watch_parameters(found.ok_or("no unit")?).await?.into_inner();
        let first = watch.next().await.ok_or("no value")??;
        assert_eq!(first.values[0].value, "2");
        let mut harm = batches(round)?;
        harm.truncate(1);
        let column = &mut harm[0].columns[0];
        for (at, pnl) in column.pnl.iter_mut().enumerate() {
            *pnl = if at % 2 == 0 { 1.0 + *pnl } else { 0.5 + *pnl };
        }
        let heard = tokio::spawn(async move {
            let next = watch.next().await;
            next.map(|next| next.map(|it| (it.values[0].value.clone(), Instant::now())))
        });
        push(&client, &harm).await?;
        let answered = Instant::now();
        let (value, at) =
            tokio::time::timeout(Duration::from_secs(5), heard).await??.ok_or("no change")??;
        assert_eq!(value, "1");
        times.push(at.saturating_duration_since(answered).as_secs_f64() * 1e3);
    }
    let worst = quantile(&mut times, 1.0);
    println!(
        "from the answer until a strategy hears of a rollback: {worst:.2} ms at most of {ROUNDS} (goal: {HEARD} ms, {})",
        verdict(worst <= HEARD)
    );
    let heard = Figure::new("a strategy hears of a rollback, at worst", worst, "ms");
    heard.at_most(HEARD).say()?;
    Ok(worst <= HEARD)
}
