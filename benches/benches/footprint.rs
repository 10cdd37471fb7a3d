//! What an idle agent costs its host, and how long an operator waits for `genesisctl status`.
//!
//! Starts the release programs on a temporary state folder with the checks that the agent makes by itself, beside
//! Monit with comparable ones and `sleep`, which does nothing, and prints resident memory, CPU time over half a minute,
//! and the wall time of the client. Needs monit (`apt-get install monit`).
//!
//! A thread that wakes once a second for one look at a file says what this machine charges for waking up at all: on a
//! shared host that may be milliseconds. Where it is more than [`EMPTY`], the share of CPU says more about the machine
//! than about the agent, and is not judged.

#![allow(clippy::print_stdout, clippy::disallowed_methods)] // Its output, and a benchmark reads the clock.

mod support;

use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use support::agent::Agent;
use support::cpu::{Cpu, resident_bytes};
use support::monit::Monit;
use support::{Outcome, program, quantile};

/// How long they are left alone before.
const SETTLED: Duration = Duration::from_secs(5);
/// How long the agent is watched doing nothing but its own checks.
const WATCHED: Duration = Duration::from_secs(30);
/// How often the client is started.
const CALLS: usize = 40;
/// Resident bytes, share of one core, and seconds to stay below.
const GOALS: (f64, f64, f64) = (20e6, 0.003, 0.050);

/// Seconds of CPU that an empty wake-up may cost.
const EMPTY: f64 = 300e-6;

/// The agent's own checks, as far as Monit knows them: of the file system, its inodes, memory, load, and a file that
/// only its owner may read.
const COMPARABLE: &str = "check system host\n  if memory usage > 100% then alert\n  if loadavg (5min) > 100000 then alert\n\
                          check filesystem root with path /\n  if space usage > 100% then alert\n  if inode usage > 100% then alert\n\
                          check file secret with path SECRET\n  if failed permission 600 then alert\n";

/// Ends the peer that does nothing however the benchmark ends.
struct Sleeper(Child);

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn main() -> Outcome<ExitCode> {
    let client = program("genesisctl")?;
    let (folder, peer_folder) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let agent = Agent::start(folder.path(), "")?;
    let secret = agent.socket().with_file_name("state.redb");
    let services = COMPARABLE.replace("SECRET", &secret.display().to_string());
    let monit = Monit::start(peer_folder.path(), 30, &services)?;
    let sleeper = Sleeper(Command::new("sleep").arg("600").spawn()?);
    // Both are made to see a round of their checks while they are watched, and not two.
    std::thread::sleep(SETTLED);
    let before = [Cpu::of_process(agent.pid())?, Cpu::of_process(monit.pid())?];
    let empty = std::thread::spawn(wake_ups);
    std::thread::sleep(WATCHED);
    let empty = empty.join().map_err(|_| "the thread that wakes broke off")??;
    let after = [Cpu::of_process(agent.pid())?, Cpu::of_process(monit.pid())?];
    let spent = |who: usize| (after[who].all() - before[who].all()) / WATCHED.as_secs_f64();
    let (share, memory) = (spent(0), resident_bytes(agent.pid())?);
    let peer = resident_bytes(monit.pid())?;
    let node = format!("unix:{}", agent.socket().display());
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..CALLS {
        ours.push(wall(Command::new(&client).args(["-n", &node, "status"]))?);
        bare.push(wall(&mut Command::new("true"))?);
    }
    let p99 = quantile(&mut ours, 0.99);
    println!(
        "idle agent        {:5.1} MB resident, {:.2} % of a core, its own checks among it",
        memory / 1e6,
        share * 100.0
    );
    println!(
        "idle Monit        {:5.1} MB resident, {:.2} % of a core; ratio {:.1} (sleep: {:.1} MB)",
        peer / 1e6,
        spent(1) * 100.0,
        memory / peer,
        resident_bytes(sleeper.0.id())? / 1e6
    );
    println!(
        "genesisctl status {:5.1} ms p50, {:.1} ms p99 (true: {:.1} ms)",
        quantile(&mut ours, 0.5) * 1e3,
        p99 * 1e3,
        quantile(&mut bare, 0.5) * 1e3
    );
    println!("an empty wake-up  {:5.0} us of CPU on this machine now", empty * 1e6);
    println!("goals: {:.0} MB, {:.1} %, {:.0} ms", GOALS.0 / 1e6, GOALS.1 * 100.0, GOALS.2 * 1e3);
    let judged = empty <= EMPTY;
    if !judged {
        println!("waking up costs more than {:.0} us here: CPU is not judged", EMPTY * 1e6);
    }
    let met = memory <= GOALS.0 && (share <= GOALS.1 || !judged) && p99 <= GOALS.2;
    Ok(if met { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Wakes once a second to look at a file, as long as the others are watched; seconds of CPU that each time took.
fn wake_ups() -> Outcome<f64> {
    let spent = || -> Outcome<f64> {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
        let nanoseconds: f64 = text.split(' ').next().unwrap_or_default().parse()?;
        Ok(nanoseconds / 1e9)
    };
    let times = WATCHED.as_secs() as u32;
    let before = spent()?;
    for _ in 0..times {
        std::thread::sleep(Duration::from_secs(1));
        std::fs::metadata("/proc/self/stat")?;
    }
    Ok((spent()? - before) / f64::from(times))
}

fn wall(command: &mut Command) -> Outcome<f64> {
    let before = Instant::now();
    let status = command.stdout(Stdio::null()).status()?;
    let seconds = before.elapsed().as_secs_f64();
    if status.success() { Ok(seconds) } else { Err("the command failed".into()) }
}
