//! What an agent costs its host while nothing happens, and how long an operator waits for `genesisctl status`: with its
//! defaults, with everything configured and fifty checks more, and with a page open on that.
//!
//! Starts the programs (of GENESIS_PROGRAMS, else of release) on temporary state folders beside Monit with comparable
//! checks and `sleep`, which does nothing, and prints resident memory, CPU time over half a minute, and the wall time of
//! the client. Monit is left out where it is not installed (`apt-get install monit`).
//!
//! Resident memory is told apart: what the agent allocated (RssAnon), and pages of files (RssFile), nearly all of them of
//! the program itself, which the kernel takes back whenever somebody needs the room.
//!
//! A thread that wakes once a second for one look at a file says what this machine charges for waking up at all: on a
//! shared host that may be milliseconds. Where it is more than [`EMPTY`], the share of CPU says more about the machine
//! than about the agent, and is not judged.

#![allow(clippy::print_stdout, clippy::disallowed_methods)] // Its output, and a benchmark reads the clock.

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use genesis_tests::private_ca::PrivateCa;
use support::agent::Agent;
use support::cpu::{Cpu, resident_bytes};
use support::everything;
use support::figures::Figure;
use support::monit::Monit;
use support::watched::{Watched, for_monit};
use support::{Outcome, program, quantile};

/// How long they are left alone before: with the defaults, and where there is much to be done at first.
const SETTLED: Duration = Duration::from_secs(5);
const BUSY: Duration = Duration::from_secs(45);
/// How long the agent is watched doing nothing but its own checks. All of them are made once in that time, and not twice.
/// GENESIS_WATCHED is another number of seconds, for who looks at it meanwhile.
const WATCHED: Duration = Duration::from_secs(30);
/// How often the client is started.
const CALLS: usize = 40;
/// Resident bytes, share of one core, and seconds to stay below.
const GOALS: (f64, f64, f64) = (20e6, 0.003, 0.050);

/// What genesisctl exits with where it was answered and something is not well, such as the load of this machine.
const NOT_WELL: [i32; 3] = [3, 4, 5];

/// Seconds of CPU that an empty wake-up may cost.
const EMPTY: f64 = 300e-6;

/// What the page of health follows.
const FOLLOWED: &str = "/api/events?follow=health/status&follow=alerts/status";

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
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let mut met = defaults()?;
    let watched = runtime.block_on(Watched::start())?;
    let (folder, peer_folder) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let ca = PrivateCa::new();
    let agent = Agent::start(folder.path(), &everything::config(folder.path(), &watched, &ca)?)?;
    everything::fill(&agent, folder.path(), &ca)?;
    let monit = peer(peer_folder.path(), &for_monit("c", &watched.well()))?;
    std::thread::sleep(BUSY);
    met &= Situation::of(&agent, monit.as_ref())?.judged("everything configured")?;
    let page = Page::open(agent.http)?;
    std::thread::sleep(SETTLED);
    met &= Situation::of(&agent, monit.as_ref())?.judged("with a page open")?;
    println!("the page was told {} kB meanwhile", page.told() / 1_000);
    if page.told() == 0 {
        return Err("the page was told nothing".into());
    }
    println!("goals: {:.0} MB, {:.1} %, {:.0} ms", GOALS.0 / 1e6, GOALS.1 * 100.0, GOALS.2 * 1e3);
    Ok(if met { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// An agent without a configuration, which watches its host.
fn defaults() -> Outcome<bool> {
    let (folder, peer_folder) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let agent = Agent::start(folder.path(), "")?;
    let secret = agent.socket().with_file_name("state.redb");
    let services = COMPARABLE.replace("SECRET", &secret.display().to_string());
    let monit = peer(peer_folder.path(), &services)?;
    let sleeper = Sleeper(Command::new("sleep").arg("600").spawn()?);
    // Both are made to see a round of their checks while they are watched, and not two.
    std::thread::sleep(SETTLED);
    let met = Situation::of(&agent, monit.as_ref())?.judged("defaults")?;
    println!("sleep: {:.1} MB resident", resident_bytes(sleeper.0.id())? / 1e6);
    Ok(met)
}

/// Monit with these services, one round in 30 s; `None` where there is none.
fn peer(folder: &std::path::Path, services: &str) -> Outcome<Option<Monit>> {
    if Command::new("monit").arg("--version").output().is_err() {
        println!("no monit here: apt-get install monit");
        return Ok(None);
    }
    Monit::start(folder, 30, services).map(Some)
}

/// What was seen of an agent, and of its peer where there is one.
struct Situation {
    /// Bytes: all, allocated, and of files.
    resident: (f64, f64, f64),
    /// Of a core.
    share: f64,
    /// Bytes, and of a core.
    peer: Option<(f64, f64)>,
    /// Seconds of the client, and of `true`.
    calls: Vec<f64>,
    bare: Vec<f64>,
    /// Seconds of CPU of an empty wake-up.
    empty: f64,
}

impl Situation {
    fn of(agent: &Agent, monit: Option<&Monit>) -> Outcome<Self> {
        let spent = |pid: u32| -> Outcome<f64> { Ok(Cpu::of_process(pid)?.all()) };
        let before = (spent(agent.pid())?, monit.map(|it| spent(it.pid())).transpose()?);
        let empty = std::thread::spawn(wake_ups);
        let watched = watched_for();
        println!("watched from now on");
        std::thread::sleep(watched);
        println!("watched until now");
        let empty = empty.join().map_err(|_| "the thread that wakes broke off")??;
        let share = |after: f64, before: f64| (after - before) / watched.as_secs_f64();
        let bytes = |field: &str| -> Outcome<f64> { Ok(agent.status_kib(field)? as f64 * 1024.0) };
        let own = share(spent(agent.pid())?, before.0);
        // Before the client asks for anything, which is not idling.
        let resident = (bytes("VmRSS")?, bytes("RssAnon")?, bytes("RssFile")?);
        let peer = match (monit, before.1) {
            (Some(monit), Some(before)) => {
                let used = share(spent(monit.pid())?, before);
                Some((resident_bytes(monit.pid())?, used))
            }
            _ => None,
        };
        let client = program("genesisctl")?;
        let node = format!("unix:{}", agent.socket().display());
        let shown = Command::new(&client).args(["-n", &node, "status"]).output()?;
        if !shown.status.success() {
            println!("{}", String::from_utf8_lossy(&shown.stdout).trim_end());
        }
        let (mut calls, mut bare) = (Vec::new(), Vec::new());
        for _ in 0..CALLS {
            calls.push(wall(Command::new(&client).args(["-n", &node, "status"]))?);
            bare.push(wall(&mut Command::new("true"))?);
        }
        Ok(Self { resident, share: own, peer, calls, bare, empty })
    }

    /// Prints it and says its figures; whether it meets the goals.
    fn judged(mut self, name: &str) -> Outcome<bool> {
        let (all, own, files) = self.resident;
        let (p50, p99) = (quantile(&mut self.calls, 0.5), quantile(&mut self.calls, 0.99));
        println!("{name}");
        println!(
            "  agent  {:5.1} MB resident ({:.1} allocated, {:.1} of files), {:.2} % of a core",
            all / 1e6,
            own / 1e6,
            files / 1e6,
            self.share * 100.0
        );
        if let Some((bytes, share)) = self.peer {
            println!(
                "  Monit  {:5.1} MB resident, {:.2} % of a core; ratio {:.1}",
                bytes / 1e6,
                share * 100.0,
                all / bytes
            );
        }
        println!(
            "  status {:5.1} ms p50, {:.1} ms p99 (true: {:.1} ms)",
            p50 * 1e3,
            p99 * 1e3,
            quantile(&mut self.bare, 0.5) * 1e3
        );
        println!("  an empty wake-up {:.0} us of CPU on this machine now", self.empty * 1e6);
        let judged = self.empty <= EMPTY;
        if !judged {
            println!("  waking up costs more than {:.0} us here: CPU is not judged", EMPTY * 1e6);
        }
        let peer = |of: fn((f64, f64)) -> f64| self.peer.map(of);
        Figure::new(format!("resident memory, {name}"), all / 1e6, "MB")
            .beside("Monit", peer(|(bytes, _)| bytes / 1e6))
            .at_most(GOALS.0 / 1e6)
            .say()?;
        Figure::new(format!("of it allocated, {name}"), own / 1e6, "MB").say()?;
        Figure::new(format!("of it pages of files, {name}"), files / 1e6, "MB").say()?;
        let cpu = Figure::new(format!("CPU, {name}"), self.share * 100.0, "% of a core")
            .beside("Monit", peer(|(_, share)| share * 100.0))
            .at_most(GOALS.1 * 100.0);
        let why = format!("an empty wake-up costs {:.0} us here", self.empty * 1e6);
        if judged { cpu } else { cpu.unjudged(why) }.say()?;
        Figure::new(format!("genesisctl status, p99, {name}"), p99 * 1e3, "ms")
            .beside("true", quantile(&mut self.bare, 0.99) * 1e3)
            .at_most(GOALS.2 * 1e3)
            .say()?;
        Ok(all <= GOALS.0 && (self.share <= GOALS.1 || !judged) && p99 <= GOALS.2)
    }
}

/// A window of the page that somebody looks at.
struct Page {
    told: Arc<AtomicU64>,
}

impl Page {
    fn open(address: SocketAddr) -> Outcome<Self> {
        let mut stream = TcpStream::connect(address)?;
        write!(
            stream,
            "GET {FOLLOWED} HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\n\r\n"
        )?;
        let told = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&told);
        let mut head = [0; 12];
        stream.read_exact(&mut head)?;
        if head != *b"HTTP/1.1 200" {
            return Err(String::from_utf8_lossy(&head).into_owned().into());
        }
        // Ends with the agent.
        std::thread::spawn(move || {
            let mut piece = [0; 65_536];
            while let Ok(count @ 1..) = stream.read(&mut piece) {
                counted.fetch_add(count as u64, Ordering::Relaxed);
            }
        });
        Ok(Self { told })
    }

    /// Bytes so far.
    fn told(&self) -> u64 {
        self.told.load(Ordering::Relaxed)
    }
}

/// How long the agent is watched.
fn watched_for() -> Duration {
    let named = std::env::var("GENESIS_WATCHED").ok().and_then(|seconds| seconds.parse().ok());
    named.map_or(WATCHED, Duration::from_secs)
}

/// Wakes once a second to look at a file, as long as the others are watched; seconds of CPU that each time took.
fn wake_ups() -> Outcome<f64> {
    let spent = || -> Outcome<f64> {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
        let nanoseconds: f64 = text.split(' ').next().unwrap_or_default().parse()?;
        Ok(nanoseconds / 1e9)
    };
    let times = watched_for().as_secs() as u32;
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
    match status.code() {
        Some(code) if code == 0 || NOT_WELL.contains(&code) => Ok(seconds),
        _ => Err(format!("the command ended with {status}").into()),
    }
}
