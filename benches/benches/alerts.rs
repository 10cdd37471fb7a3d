//! How soon people hear: from the moment when an emergency is declared on a real agent until a webhook has been given
//! the message; and how many conditions a second alerts compares with what fires, a hundred alerts behind ten thousand
//! of them. Beside it Alertmanager, which is given the same over HTTP.
//!
//! `cargo build --release --bins && cargo bench -p genesis-benches --bench alerts`

#![allow(clippy::print_stdout, clippy::disallowed_methods)] // Its output, and a benchmark reads the clock.

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use genesis_agent::alerts::plan;
use genesis_agent::events::{Condition, Severity};
use genesis_storage::Moment;
use jiff::Timestamp;
use support::agent::Agent;
use support::alertmanager::Alertmanager;
use support::figures::Figure;
use support::{Outcome, quantile};

/// Emergencies that are declared.
const ROUNDS: usize = 12;
/// Conditions of a round, and keys among them.
const CONDITIONS: usize = 10_000;
const KEYS: usize = 100;
/// Seconds until a channel has accepted, and conditions in a second.
const GOALS: (f64, f64) = (5.0, 10_000.0);

fn main() -> Outcome<ExitCode> {
    let rate = compared();
    let (mut peer, peer_rate) = beside()?;
    println!("compared: {rate:.0} conditions a second, {KEYS} alerts behind {CONDITIONS}");
    println!(
        "Alertmanager: {peer_rate:.0} a second, over HTTP and JSON; ratio {:.1}",
        rate / peer_rate
    );
    let mut heard = heard()?;
    let (p50, worst) = (quantile(&mut heard, 0.5), quantile(&mut heard, 1.0));
    println!(
        "emergency to a webhook: {:.0} ms p50, {:.0} ms at worst, genesisctl's start included",
        p50 * 1e3,
        worst * 1e3
    );
    let (peer_p50, peer_worst) = (quantile(&mut peer, 0.5), quantile(&mut peer, 1.0));
    println!(
        "Alertmanager's alert to a webhook: {:.0} ms p50, {:.0} ms at worst; ratio {:.2}",
        peer_p50 * 1e3,
        peer_worst * 1e3,
        p50 / peer_p50
    );
    println!("goals: {:.0} a second, {:.0} s", GOALS.1, GOALS.0);
    Figure::new("conditions compared", rate, "a second")
        .beside("Alertmanager, over HTTP", peer_rate)
        .at_least(GOALS.1)
        .say()?;
    let median = Figure::new("emergency to a webhook, median", p50 * 1e3, "ms");
    median.beside("Alertmanager", peer_p50 * 1e3).say()?;
    Figure::new("emergency to a webhook, at worst", worst, "s")
        .beside("Alertmanager", peer_worst)
        .at_most(GOALS.0)
        .say()?;
    let met = rate >= GOALS.1 && worst <= GOALS.0;
    Ok(if met { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn compared() -> f64 {
    let condition = |number: usize| Condition {
        key: format!("bench/{}", number % KEYS),
        subject: format!("subject {}", number % KEYS),
        severity: Severity::High,
        title: "it is bad".to_owned(),
        details: vec!["what was tried".to_owned()],
        runbook: "health".to_owned(),
        since: Timestamp::UNIX_EPOCH,
        behind: Vec::new(),
    };
    let conditions: Vec<Condition> = (0..CONDITIONS).map(condition).collect();
    let (mut firing, mut recent, mut ids) = (BTreeMap::new(), BTreeMap::new(), 0_u64);
    let mut best = 0.0_f64;
    for round in 0..50_u64 {
        let heard = vec![("bench".to_owned(), Some(conditions.clone()))];
        let now = Moment {
            wall: Timestamp::UNIX_EPOCH,
            boot: "bench".to_owned(),
            since_boot: Duration::from_secs(round),
        };
        let began = Instant::now();
        plan::compare(&mut firing, &mut recent, heard, &now, || {
            ids += 1;
            ids.to_string()
        });
        best = best.max(CONDITIONS as f64 / began.elapsed().as_secs_f64());
    }
    assert_eq!(firing.len(), KEYS, "one alert for each key");
    best
}

/// Alertmanager: seconds from an alert to a webhook, and alerts that it takes in a second.
fn beside() -> Outcome<(Vec<f64>, f64)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let messages = accept(listener);
    let folder = tempfile::tempdir()?;
    let peer = Alertmanager::start(folder.path(), &format!("http://127.0.0.1:{port}/"))?;
    let alert = |name: &str| format!(r#"{{"labels":{{"alertname":"{name}"}}}}"#);
    let mut waited = Vec::new();
    for round in 0..ROUNDS {
        let wanted = format!("round {round}");
        let began = Instant::now();
        peer.tell(&format!("[{}]", alert(&wanted)))?;
        loop {
            let (at, body) = messages.recv_timeout(Duration::from_secs(60))?;
            if body.contains(&wanted) {
                waited.push((at - began).as_secs_f64());
                break;
            }
        }
    }
    let many: Vec<String> =
        (0..CONDITIONS).map(|number| alert(&format!("bench {}", number % KEYS))).collect();
    let many = format!("[{}]", many.join(","));
    let mut best = 0.0_f64;
    for _ in 0..5 {
        let began = Instant::now();
        peer.tell(&many)?;
        best = best.max(CONDITIONS as f64 / began.elapsed().as_secs_f64());
    }
    Ok((waited, best))
}

fn heard() -> Outcome<Vec<f64>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let messages = accept(listener);
    let folder = tempfile::tempdir()?;
    let config = format!(
        "[alerts]\ncritical = [\"hook\"]\n[alerts.channel.hook]\nkind = \"webhook\"\nurl = \"http://127.0.0.1:{port}/\"\n"
    );
    let agent = Agent::start(folder.path(), &config)?;
    let mut waited = Vec::new();
    for round in 0..ROUNDS {
        let began = Instant::now();
        agent.ctl(&["emergency", "activate", "--reason", &format!("round {round}")])?;
        let wanted = format!("round {round}");
        loop {
            let (at, body) = messages.recv_timeout(Duration::from_secs(60))?;
            if body.contains("\"firing\"") && body.contains(&wanted) {
                waited.push((at - began).as_secs_f64());
                break;
            }
        }
        agent.ctl(&["emergency", "release", "--reason", "measured"])?;
    }
    Ok(waited)
}

/// Takes each request, and says when it came and what it brought.
fn accept(listener: TcpListener) -> Receiver<(Instant, String)> {
    let (told, messages) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(stream);
            let (mut line, mut length) = (String::new(), 0);
            while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap_or(0);
                }
                line.clear();
            }
            let mut body = vec![0; length];
            if reader.read_exact(&mut body).is_err() {
                continue;
            }
            let at = Instant::now();
            let answer = b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            let _ = reader.get_mut().write_all(answer);
            if told.send((at, String::from_utf8_lossy(&body).into_owned())).is_err() {
                return;
            }
        }
    });
    messages
}
