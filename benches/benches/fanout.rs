//! How long `genesisctl status --all` takes over a fleet, started cold: a process, its context, and for every node
//! a TCP connection, mutual TLS and one call.
//!
//! - 32 agents behind round trips of 5 to 100 ms, as from a laptop, beside the slowest of them alone;
//! - 500 agents in this process on loopback, with the peak of the client's memory, beside `xargs -P` that starts a
//!   client for each node (on 32 of them, since it takes its time);
//! - the start alone: `genesisctl --version`, beside `true`.

#![allow(clippy::print_stdout, clippy::disallowed_methods)] // Its output, and a benchmark reads the clock.

mod support;

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use support::figures::Figure;
use support::hosts::Hosts;
use support::{Outcome, program, quantile};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

const AGENTS: usize = 500;
const FEW: usize = 32;
const TIMES: usize = 15;
/// The slowest round trip; the others are between a twentieth of it and it.
const ROUND_TRIP: Duration = Duration::from_millis(100);
/// To stay below: seconds of the start; how much longer than the slowest of 32; seconds and bytes for 500.
const GOALS: (f64, f64, f64, f64) = (0.030, 1.2, 0.6, 100e6);

fn main() -> Outcome<ExitCode> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let hosts = Hosts::new()?;
    let client = program("genesisctl")?;
    let start = start(&client)?;
    let mut agents = Vec::with_capacity(AGENTS);
    for number in 0..AGENTS {
        agents.push(runtime.block_on(hosts.agent(&format!("agent-{number}")))?);
    }
    let nodes: Vec<SocketAddr> = agents.iter().filter_map(|agent| agent.grpc).collect();
    let mut far = Vec::new();
    for (number, node) in nodes.iter().take(FEW).enumerate() {
        let share = (number + 1) as f64 / FEW as f64;
        far.push(runtime.block_on(proxy(*node, ROUND_TRIP.mul_f64(share.max(0.05) / 2.0)))?);
    }
    let ask = |home: &str, nodes: &[SocketAddr]| -> Outcome<(f64, f64)> {
        let home = hosts.home(home, nodes)?;
        let (mut seconds, mut bytes) = (Vec::new(), 0.0);
        for _ in 0..TIMES {
            let (took, peak) = status(&client, &home)?;
            seconds.push(took);
            bytes = f64::max(bytes, peak);
        }
        Ok((quantile(&mut seconds, 0.5), bytes))
    };
    let (slowest, _) = ask("slowest", &far[FEW - 1..])?;
    let (all, _) = ask("far", &far)?;
    let ratio = all / slowest;
    println!(
        "32 agents behind up to {ROUND_TRIP:?}: {:.0} ms, the slowest alone {:.0} ms, ratio {ratio:.2}",
        all * 1e3,
        slowest * 1e3
    );
    let (near, _) = ask("near", &nodes[..FEW])?;
    let (one, _) = ask("one", &nodes[..1])?;
    let apart = one_by_one(&client, &hosts, &nodes[..FEW])?;
    println!(
        "32 agents on loopback: {:.0} ms, one alone {:.0} ms, xargs -P 32 with a client each {:.0} ms",
        near * 1e3,
        one * 1e3,
        apart * 1e3
    );
    let (fleet, bytes) = ask("fleet", &nodes)?;
    println!("{AGENTS} agents on loopback: {:.0} ms, {:.0} MB at most", fleet * 1e3, bytes / 1e6);
    println!(
        "goals: start {:.0} ms, ratio {}, {AGENTS} agents {:.0} ms and {:.0} MB",
        GOALS.0 * 1e3,
        GOALS.1,
        GOALS.2 * 1e3,
        GOALS.3 / 1e6
    );
    let shown = |name: &str, seconds: f64| Figure::new(name, seconds * 1e3, "ms");
    shown("32 agents behind up to 100 ms", all)
        .beside("the slowest of them alone", slowest * 1e3)
        .ratio_at_most(GOALS.1)
        .say()?;
    shown("32 agents on loopback", near).beside("xargs -P 32, a client each", apart * 1e3).say()?;
    shown("500 agents on loopback", fleet).at_most(GOALS.2 * 1e3).say()?;
    let megabytes = Figure::new("500 agents, the client's memory", bytes / 1e6, "MB");
    megabytes.at_most(GOALS.3 / 1e6).say()?;
    let met = start <= GOALS.0 && ratio <= GOALS.1 && fleet <= GOALS.2 && bytes <= GOALS.3;
    for agent in agents {
        runtime.block_on(agent.drain());
    }
    Ok(if met { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Seconds at the 99th percentile of starting the client and the peer that does nothing.
fn start(client: &Path) -> Outcome<f64> {
    let (mut ours, mut peer) = (Vec::new(), Vec::new());
    for _ in 0..100 {
        for (command, taken) in [(client, &mut ours), (Path::new("true"), &mut peer)] {
            let before = Instant::now();
            Command::new(command).arg("--version").stdout(Stdio::null()).status()?;
            taken.push(before.elapsed().as_secs_f64());
        }
    }
    let p99 = quantile(&mut ours, 0.99);
    println!(
        "start: {:.1} ms p50, {:.1} ms p99 (true: {:.1} ms p50)",
        quantile(&mut ours, 0.5) * 1e3,
        p99 * 1e3,
        quantile(&mut peer, 0.5) * 1e3
    );
    Figure::new("genesisctl --version, p99", p99 * 1e3, "ms")
        .beside("true", quantile(&mut peer, 0.99) * 1e3)
        .at_most(GOALS.0 * 1e3)
        .say()?;
    Ok(p99)
}

/// Seconds and peak resident bytes of `genesisctl status --all`.
fn status(client: &Path, home: &Path) -> Outcome<(f64, f64)> {
    let before = Instant::now();
    let mut child = Command::new(client)
        .args(["status", "--all", "-o", "jsonl"])
        .env_clear()
        .env("HOME", home)
        .stdout(Stdio::piped())
        .spawn()?;
    let peak = Path::new("/proc").join(child.id().to_string()).join("status");
    let mut lines = child.stdout.take().ok_or("no output")?;
    let reader = std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
    let mut bytes = 0.0_f64;
    let ended = loop {
        let text = std::fs::read_to_string(&peak).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
        bytes = bytes.max(kib.unwrap_or_default() * 1024.0);
        if let Some(ended) = child.try_wait()? {
            break ended;
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    let seconds = before.elapsed().as_secs_f64();
    let _ = reader.join();
    if ended.success() { Ok((seconds, bytes)) } else { Err(format!("status: {ended}").into()) }
}

/// Seconds of a client for each node, 32 at a time.
fn one_by_one(client: &Path, hosts: &Hosts, nodes: &[SocketAddr]) -> Outcome<f64> {
    let home = hosts.home("apart", nodes)?;
    let list = hosts.path("nodes");
    std::fs::write(&list, nodes.iter().map(|node| format!("{node}\n")).collect::<String>())?;
    let mut seconds = Vec::new();
    for _ in 0..TIMES {
        let before = Instant::now();
        let mut xargs = Command::new("xargs");
        xargs.args(["-a"]).arg(&list).args(["-P", "32", "-I", "{}"]).arg(client);
        xargs.args(["--context", "bench", "-n", "{}", "status", "-o", "jsonl"]);
        let status = xargs.env("HOME", &home).stdout(Stdio::null()).status()?;
        if !status.success() {
            return Err(format!("xargs: {status}").into());
        }
        seconds.push(before.elapsed().as_secs_f64());
    }
    Ok(quantile(&mut seconds, 0.5))
}

/// A way to `node` on which everything takes `delay` in either direction.
async fn proxy(node: SocketAddr, delay: Duration) -> Outcome<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            tokio::spawn(async move {
                // The connection itself takes a round trip too.
                tokio::time::sleep(delay * 2).await;
                let Ok(far) = TcpStream::connect(node).await else { return };
                let ((near_read, near_write), (far_read, far_write)) =
                    (near.into_split(), far.into_split());
                tokio::join!(
                    carry(near_read, far_write, delay),
                    carry(far_read, near_write, delay)
                );
            });
        }
    });
    Ok(address)
}

/// Carries bytes, each `delay` after it came, however many are on the way.
async fn carry(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    delay: Duration,
) {
    let (sender, mut receiver) = mpsc::channel::<(tokio::time::Instant, Vec<u8>)>(1_024);
    let read = async move {
        let mut bytes = vec![0; 16_384];
        while let Ok(count @ 1..) = from.read(&mut bytes).await {
            let due = tokio::time::Instant::now() + delay;
            if sender.send((due, bytes[..count].to_vec())).await.is_err() {
                break;
            }
        }
    };
    let write = async move {
        while let Some((due, bytes)) = receiver.recv().await {
            tokio::time::sleep_until(due).await;
            if to.write_all(&bytes).await.is_err() {
                break;
            }
        }
    };
    tokio::join!(read, write);
}
