//! What fifty checks cost, how long one round of them takes, and what a check that hangs does to the others; beside
//! Monit with the same checks.
//!
//! The fifty look at loopback listeners, a web server, processes by pidfile and by name, memory, load, file systems,
//! and numbers that `cat` prints. One round of the agent is what `genesisctl health check --level shallow` says it
//! took. Monit says nothing of the kind: its round lasts from the first of its checks to the last, both of which are
//! connections that are seen at their other end. It runs in the foreground, warm, with a pause of a second between two
//! rounds, in which those of the agent are made, so that neither starts up meanwhile and both meet the same noise.
//! CPU time is that of rounds each process makes by itself, one a second. Needs monit (`apt-get install monit`).
//!
//! `cargo bench -p genesis-benches --bench health`

#![allow(clippy::print_stdout, clippy::disallowed_methods)] // Its output, and a benchmark reads the clock.

mod support;

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use genesis_client::v1::{Condition, GetHealthStatusRequest};
use genesis_client::{Client, Node, Options};
use support::agent::Agent;
use support::cpu::{Cpu, resident_bytes};
use support::figures::Figure;
use support::monit::Monit;
use support::watched::{Check, Watched, for_agent, for_monit};
use support::{Outcome, quantile};

/// Rounds of Monit, and of ours for each of them.
const ROUNDS: usize = 30;
const FOR_ONE: usize = 4;
/// The pace of checks that are made by hand.
const NEVER: Duration = Duration::from_secs(86_400);
/// How long a pace of one round a second is watched, to tell what a round costs.
const COSTED: Duration = Duration::from_secs(30);
/// How long is looked for delays.
const HUNG: Duration = Duration::from_secs(20);
/// The pace at which they are looked for.
const FAST: Duration = Duration::from_millis(500);
/// So many checks are looked at while others hang.
const BESIDE: usize = 40;
/// The pace of shallow checks in seconds.
const PACE: f64 = 30.0;
/// Milliseconds of a round at the 99th percentile, milliseconds of delay, and share of a core to stay below.
const GOALS: (f64, f64, f64) = (50.0, 100.0, 0.003);

fn main() -> Outcome<ExitCode> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let bench = Bench { watched: runtime.block_on(Watched::start())? };
    let rounds = bench.rounds()?;
    let (cost, peer) = (bench.cost()?, rounds.cost);
    println!("one round of {} checks, ms        p50      p99", bench.watched.well().len());
    let ours = line("  genesis-agent", rounds.ours);
    let theirs = line("  Monit", rounds.theirs);
    println!("  ratio of the medians {:.2}, of p99 {:.2}", ours.0 / theirs.0, ours.1 / theirs.1);
    println!("what a round costs               ms CPU   at one in {PACE:.0} s   resident");
    for (name, cost) in [("  genesis-agent", &cost), ("  Monit", &peer)] {
        println!(
            "{name:<30} {:>8.1}   {:>6.3} % of a core {:>6.1} MB",
            cost.cpu * 1e3,
            cost.share() * 100.0,
            cost.resident / 1e6
        );
    }
    println!("  ratio {:.2}, processes that the checks start included", cost.cpu / peer.cpu);
    let alone = runtime.block_on(bench.delays("agent-alone", &[]))?;
    let hung = bench.watched.hung()?;
    let beside = runtime.block_on(bench.delays("agent-hung", &hung))?;
    let delayed = bench.monit_hung(&hung)?;
    println!("largest delay of {BESIDE} checks beyond their interval, ms");
    println!("  genesis-agent, none hangs      {alone:8.1}");
    println!("  genesis-agent, {} hang         {beside:8.1}", hung.len());
    println!("  Monit, one HTTP server hangs   {delayed:8.1}, its timeout of 1 s among it");
    println!(
        "goals: p99 of a round {:.0} ms, delay {:.0} ms, {:.1} % of a core",
        GOALS.0,
        GOALS.1,
        GOALS.2 * 100.0
    );
    let round = Figure::new("a round of 50 checks, median", ours.0, "ms");
    round.beside("Monit", theirs.0).say()?;
    let round = Figure::new("a round of 50 checks, p99", ours.1, "ms").beside("Monit", theirs.1);
    round.at_most(GOALS.0).say()?;
    Figure::new("50 checks at one round in 30 s", cost.share() * 100.0, "% of a core")
        .beside("Monit", peer.share() * 100.0)
        .at_most(GOALS.2 * 100.0)
        .say()?;
    Figure::new("delay of 40 checks while 13 hang", beside, "ms")
        .beside("Monit, while one hangs", delayed)
        .at_most(GOALS.1)
        .say()?;
    Figure::new("delay of 40 checks while none hangs", alone, "ms").say()?;
    let resident = Figure::new("resident, with 50 checks", cost.resident / 1e6, "MB");
    resident.beside("Monit", peer.resident / 1e6).say()?;
    let met = ours.1 <= GOALS.0 && beside <= GOALS.1 && cost.share() <= GOALS.2;
    println!("{}", if met { "met" } else { "MISSED" });
    Ok(if met { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The median and the 99th percentile of milliseconds.
fn line(name: &str, mut taken: Vec<f64>) -> (f64, f64) {
    let (p50, p99) = (quantile(&mut taken, 0.5), quantile(&mut taken, 0.99));
    println!("{name:<30} {p50:>8.1} {p99:>8.1}   ({} rounds)", taken.len());
    (p50, p99)
}

/// What one round costs.
struct Cost {
    /// CPU seconds.
    cpu: f64,
    /// Bytes.
    resident: f64,
}

impl Cost {
    /// Of `rounds` rounds since `before`.
    fn since(before: &Cpu, pid: u32, rounds: usize) -> Outcome<Self> {
        let spent = Cpu::of_process(pid)?.all() - before.all();
        Ok(Self { cpu: spent / rounds as f64, resident: resident_bytes(pid)? })
    }

    /// Of a core, at the default pace.
    fn share(&self) -> f64 {
        self.cpu / PACE
    }
}

/// Milliseconds of each round, and what one costs Monit.
struct Rounds {
    ours: Vec<f64>,
    theirs: Vec<f64>,
    cost: Cost,
}

struct Bench {
    watched: Watched,
}

impl Bench {
    fn folder(&self, name: &str) -> Outcome<PathBuf> {
        let folder = self.watched.folder().join(name);
        fs::create_dir(&folder)?;
        Ok(folder)
    }

    fn agent(&self, name: &str, checks: &str) -> Outcome<Agent> {
        Agent::start(&self.folder(name)?, &format!("[health]\ndefaults = false\n{checks}"))
    }

    /// Rounds of both, ours while Monit pauses, so that whatever else the machine does disturbs them alike.
    fn rounds(&self) -> Outcome<Rounds> {
        let (folder, well) = (self.folder("monit")?, self.watched.well());
        let agent = self.agent("agent-rounds", &for_agent("c", &well, NEVER))?;
        let monit = Monit::start(&folder, 1, &for_monit("c", &well))?;
        // The first round starts what the following ones compare with.
        std::thread::sleep(Duration::from_millis(2_500));
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        let (before, mut count) = (Cpu::of_process(monit.pid())?, 0);
        self.forget();
        while theirs.len() < ROUNDS {
            let end = self.end_of_round()?;
            count += 1;
            // One that had begun before it was looked for has its end alone.
            if let Some(begin) = self.watched.first.take().pop() {
                theirs.push(end.duration_since(begin).as_secs_f64() * 1e3);
            }
            // It has put its state away by then.
            std::thread::sleep(Duration::from_millis(100));
            for _ in 0..FOR_ONE {
                let text = agent.ctl(&["health", "check", "--level", "shallow", "-o", "json"])?;
                let answer: serde_json::Value = serde_json::from_slice(&text)?;
                let took = answer[0]["response"]["took"].as_str();
                let took = took.and_then(|took| took.strip_suffix('s')).ok_or("no time")?;
                ours.push(took.parse::<f64>()? * 1e3);
            }
            self.forget();
        }
        let complaints = monit.complaints()?;
        if !complaints.is_empty() {
            return Err(format!("Monit does not do the same: {complaints}").into());
        }
        Ok(Rounds { ours, theirs, cost: Cost::since(&before, monit.pid(), count)? })
    }

    fn forget(&self) {
        self.watched.first.take();
        self.watched.last.take();
    }

    /// When the last check of a round was made.
    fn end_of_round(&self) -> Outcome<Instant> {
        let until = Instant::now() + Duration::from_secs(10);
        while Instant::now() < until {
            if let Some(end) = self.watched.last.take().pop() {
                return Ok(end);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Err("Monit makes no rounds".into())
    }

    /// What a round costs the agent.
    fn cost(&self) -> Outcome<Cost> {
        let checks = for_agent("c", &self.watched.well(), Duration::from_secs(1));
        let agent = self.agent("agent-cost", &checks)?;
        std::thread::sleep(Duration::from_secs(2));
        let before = Cpu::of_process(agent.pid())?;
        self.watched.last.take();
        std::thread::sleep(COSTED);
        Cost::since(&before, agent.pid(), self.watched.last.take().len())
    }

    /// The most milliseconds that pass between two results of a check beyond its interval, while `hung` hang.
    async fn delays(&self, name: &str, hung: &[Check]) -> Outcome<f64> {
        let fast = &self.watched.well()[..BESIDE];
        let checks = for_agent("fast", fast, FAST) + &for_agent("hung", hung, FAST);
        let agent = self.agent(name, &checks)?;
        let client = Client::connect(&Node::unix(agent.socket())?, Options::default()).await?;
        let (mut last, mut looks) = (HashMap::<String, f64>::new(), 0);
        let (mut longest, began) = (0.0_f64, Instant::now());
        let mut well = true;
        while began.elapsed() < HUNG {
            // Often enough to see each result.
            tokio::time::sleep(FAST / 5).await;
            let status = client.health().get_health_status(GetHealthStatusRequest {}).await?;
            for check in status.into_inner().checks {
                let Some(at) = check.checked_at else { continue };
                let at = at.seconds as f64 + f64::from(at.nanos) / 1e9;
                if check.check.starts_with("hung") {
                    well &= check.condition() != Condition::Ok;
                    continue;
                }
                well &= check.condition() == Condition::Ok;
                match last.insert(check.check, at) {
                    Some(before) if before < at => {
                        longest = longest.max(at - before - FAST.as_secs_f64());
                        looks += 1;
                    }
                    _ => {}
                }
            }
        }
        let expected = BESIDE as f64 * HUNG.as_secs_f64() / FAST.as_secs_f64();
        if !well || f64::from(looks) < expected * 0.9 {
            return Err(format!("{looks} results of {expected}, or not the right ones").into());
        }
        Ok(longest * 1e3)
    }

    /// The same for Monit, which does one check after the other and then pauses for a second.
    fn monit_hung(&self, hung: &[Check]) -> Outcome<f64> {
        let fast = &self.watched.well()[..BESIDE];
        let services = for_monit("fast", fast) + &for_monit("hung", hung);
        let _monit = Monit::start(&self.folder("monit-hung")?, 1, &services)?;
        std::thread::sleep(Duration::from_secs(2));
        self.watched.first.take();
        std::thread::sleep(HUNG);
        let knocks = self.watched.first.take();
        let gaps = knocks.windows(2).map(|pair| pair[1].duration_since(pair[0]).as_secs_f64());
        Ok((gaps.fold(0.0, f64::max) - 1.0) * 1e3)
    }
}
