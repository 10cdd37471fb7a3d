//! What an idle agent costs its host, and how long an operator waits for `genesisctl status`.
//!
//! Starts the release programs on a temporary state folder, beside `sleep` as the peer that does nothing,
//! and prints resident memory, CPU time over half a minute, and the wall time of the client.

#![allow(clippy::print_stdout, clippy::disallowed_methods)] // Its output, and a benchmark reads the clock.

mod support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use support::{Outcome, program, quantile};

/// How long the agent is watched doing nothing.
const WATCHED: Duration = Duration::from_secs(30);
/// How often the client is started.
const CALLS: usize = 40;
/// Resident bytes, share of one core, and seconds to stay below.
const GOALS: (f64, f64, f64) = (20e6, 0.003, 0.050);

/// Ends the agent however the benchmark ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn resident(pid: u32) -> Outcome<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024.0)
}

/// User and system time so far, in clock ticks of 10 ms.
fn ticks(pid: u32) -> Outcome<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let rest = stat.rsplit_once(')').ok_or("no stat")?.1;
    let field = |index: usize| rest.split_whitespace().nth(index).unwrap_or("0").parse::<f64>();
    Ok(field(11)? + field(12)?)
}

fn main() -> Outcome<ExitCode> {
    let (agent, client) = (program("genesis-agent")?, program("genesisctl")?);
    let folder = tempfile::tempdir()?;
    let config = folder.path().join("agent.toml");
    fs::write(&config, "[listen]\nhttp = \"127.0.0.1:0\"\n")?;
    let state = folder.path().join("state");
    let mut child = Command::new(agent)
        .arg("--config")
        .arg(&config)
        .arg("--state-dir")
        .arg(&state)
        .stderr(Stdio::piped())
        .spawn()?;
    let stderr = child.stderr.take().ok_or("no stderr")?;
    let running = Running(child);
    let mut lines = BufReader::new(stderr).lines();
    while !lines.next().ok_or("the agent did not start")??.starts_with("try: ") {}
    let peer = Running(Command::new("sleep").arg("600").spawn()?);
    let pid = running.0.id();
    let before = ticks(pid)?;
    std::thread::sleep(WATCHED);
    let share = (ticks(pid)? - before) / 100.0 / WATCHED.as_secs_f64();
    let memory = resident(pid)?;
    let node = format!("unix:{}", state.join("agent.sock").display());
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..CALLS {
        ours.push(wall(Command::new(&client).args(["-n", &node, "status"]))?);
        bare.push(wall(&mut Command::new("true"))?);
    }
    let p99 = quantile(&mut ours, 0.99);
    println!(
        "idle agent        {:5.1} MB resident (sleep: {:.1} MB), {:.2} % of a core",
        memory / 1e6,
        resident(peer.0.id())? / 1e6,
        share * 100.0
    );
    println!(
        "genesisctl status {:5.1} ms p50, {:.1} ms p99 (true: {:.1} ms)",
        quantile(&mut ours, 0.5) * 1e3,
        p99 * 1e3,
        quantile(&mut bare, 0.5) * 1e3
    );
    println!("goals: {:.0} MB, {:.1} %, {:.0} ms", GOALS.0 / 1e6, GOALS.1 * 100.0, GOALS.2 * 1e3);
    let met = memory <= GOALS.0 && share <= GOALS.1 && p99 <= GOALS.2;
    Ok(if met { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn wall(command: &mut Command) -> Outcome<f64> {
    let before = Instant::now();
    let status = command.stdout(Stdio::null()).status()?;
    let seconds = before.elapsed().as_secs_f64();
    if status.success() { Ok(seconds) } else { Err("the command failed".into()) }
}
