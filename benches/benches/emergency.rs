//! How long an emergency takes to declare while 2,000 readers, each on a connection of its own over mTLS, ask
//! the agent for its status without a pause.
//!
//! The agent is a process of its own; the readers are in this one, and take their share of the same cores. Prints
//! the latency of GetEmergency, of ActivateEmergency with ReleaseEmergency (both durable), over mTLS and over the
//! socket, beside that of the readers, and of the same calls on the idle agent.

#![allow(clippy::print_stdout, clippy::disallowed_methods)] // Its output, and a benchmark reads the clock.

mod support;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use genesis_client::v1::{
    ActivateEmergencyRequest, GetEmergencyRequest, GetStatusRequest, ReleaseEmergencyRequest,
};
use genesis_client::{Client, Node, Options};
use support::figures::Figure;
use support::hosts::Hosts;
use support::{Outcome, quantile};

/// Who asks, all the time.
const READERS: usize = 2_000;
/// How often an emergency is declared and released on each way.
const TIMES: usize = 150;
/// Milliseconds to stay below, at the 99th percentile.
const GOAL: f64 = 200.0;

fn main() -> Outcome<ExitCode> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    // What the operator's own laptop would do is not slowed down by the readers' work in this process.
    let caller = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let hosts = Hosts::new()?;
    let agent = hosts.process("agent")?;
    let tcp: Node = agent.grpc.to_string().parse()?;
    let unix = Node::unix(agent.state.join("agent.sock"))?;
    let tls = hosts.context(vec![tcp.clone()])?.tls()?;
    let options = |seconds| Options {
        tls: tls.clone(),
        timeout: Duration::from_secs(seconds),
        connect_timeout: Duration::from_secs(60),
        reason: "bench".into(),
        ..Options::default()
    };
    println!("milliseconds                 p50      p99      max");
    for (name, node) in [("mTLS", &tcp), ("socket", &unix)] {
        caller.block_on(emergencies(&format!("idle, {name}"), node, options(60)))?;
    }
    let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let ready = Arc::new(AtomicU64::new(0));
    let readers: Vec<_> = (0..READERS)
        .map(|_| {
            let (node, options) = (tcp.clone(), options(60));
            let (stop, asked, ready) = (Arc::clone(&stop), Arc::clone(&asked), Arc::clone(&ready));
            runtime.spawn(async move {
                let client = Client::connect(&node, options).await.map_err(|e| e.to_string())?;
                ready.fetch_add(1, Ordering::Relaxed);
                let mut taken = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let before = Instant::now();
                    let call = |c: Client, r| async move { c.agent().get_status(r).await };
                    // What is shed comes again when the agent says so, which is the client's own work.
                    if client.call(GetStatusRequest {}, call).await.is_ok() {
                        taken.push(before.elapsed().as_secs_f64() * 1e3);
                        asked.fetch_add(1, Ordering::Relaxed);
                    }
                }
                Ok::<_, String>(taken)
            })
        })
        .collect();
    while ready.load(Ordering::Relaxed) < READERS as u64 && readers.iter().all(|r| !r.is_finished())
    {
        std::thread::sleep(Duration::from_millis(50));
    }
    println!("{} readers are connected", ready.load(Ordering::Relaxed));
    let (since, before) = (Instant::now(), asked.load(Ordering::Relaxed));
    let mut met = true;
    for (name, node) in [("mTLS", &tcp), ("socket", &unix)] {
        met &= caller.block_on(emergencies(&format!("loaded, {name}"), node, options(60)))?;
    }
    let rate = (asked.load(Ordering::Relaxed) - before) as f64 / since.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    let mut taken = Vec::new();
    for reader in readers {
        taken.extend(runtime.block_on(reader)??);
    }
    let readers = line("the readers' calls", &mut taken);
    Figure::new("the readers' own calls, p99", readers, "ms").say()?;
    Figure::new("reads of 2,000 readers meanwhile", rate, "a second").say()?;
    println!("{rate:.0} reads a second meanwhile; goal: p99 of what is urgent at most {GOAL} ms");
    Ok(if met { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn line(name: &str, taken: &mut [f64]) -> f64 {
    let p99 = quantile(taken, 0.99);
    let (p50, max) = (quantile(taken, 0.5), quantile(taken, 1.0));
    println!("{name:<24} {p50:7.1}  {p99:7.1}  {max:7.1}");
    p99
}

/// Looks, declares and releases; whether each stays below the goal.
async fn emergencies(name: &str, node: &Node, options: Options) -> Outcome<bool> {
    let began = Instant::now();
    let client = Client::connect(node, options).await?;
    println!("{name}: connected in {:.1} ms", began.elapsed().as_secs_f64() * 1e3);
    let (mut looks, mut changes) = (Vec::new(), Vec::new());
    for _ in 0..TIMES {
        let before = Instant::now();
        let look = |c: Client, r| async move { c.recovery().get_emergency(r).await };
        client.call(GetEmergencyRequest {}, look).await?;
        looks.push(before.elapsed().as_secs_f64() * 1e3);
        let before = Instant::now();
        let on = |c: Client, r| async move { c.recovery().activate_emergency(r).await };
        client.call(ActivateEmergencyRequest::default(), on).await?;
        changes.push(before.elapsed().as_secs_f64() * 1e3);
        let off = |c: Client, r| async move { c.recovery().release_emergency(r).await };
        client.call(ReleaseEmergencyRequest::default(), off).await?;
    }
    let looked = line(&format!("  {name}, look"), &mut looks);
    let changed = line(&format!("  {name}, declare"), &mut changes);
    Figure::new(format!("an emergency looked at, {name}, p99"), looked, "ms")
        .at_most(GOAL)
        .say()?;
    Figure::new(format!("an emergency declared, {name}, p99"), changed, "ms")
        .at_most(GOAL)
        .say()?;
    Ok(looked <= GOAL && changed <= GOAL)
}
