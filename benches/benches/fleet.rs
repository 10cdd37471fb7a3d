//! What grows with a fleet: 500 agents in this process, held together by Debian's etcd on this machine.
//!
//! Prints, for growing numbers of agents: what one more costs this process and etcd in memory, what they cost in work while
//! nothing happens, how long the list of members takes, how long an emergency takes from one to all, and how long all take
//! to be back after etcd stood still.
//! `GENESIS_FLEET=16,100` are other numbers.

#![allow(clippy::print_stdout, clippy::disallowed_methods)] // Its output, and a benchmark reads the clock.

mod support;

use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use genesis_agent::agent::Agent;
use genesis_client::v1::{
    ActivateEmergencyRequest, FleetStanding, GetEmergencyRequest, GetFleetStatusRequest,
    ListFleetMembersRequest, ReleaseEmergencyRequest,
};
use genesis_client::{Client, Node, Options};
use support::cpu::Cpu;
use support::figures::Figure;
use support::hosts::Hosts;
use support::{Outcome, quantile};

/// So many agents there are, one number after the other.
const SIZES: &str = "16,100,500";
/// So long nothing happens, to see what that costs.
const IDLE: Duration = Duration::from_secs(30);
/// Seconds to stay below: from one agent to 16, and until that is reported.
const GOALS: (f64, f64) = (2.0, 3.0);

struct Etcd {
    child: Child,
    endpoint: String,
    _folder: tempfile::TempDir,
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Etcd {
    fn start() -> Outcome<Self> {
        let folder = tempfile::tempdir()?;
        let port = || -> Outcome<u16> {
            Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
        };
        let (endpoint, peer) =
            (format!("http://127.0.0.1:{}", port()?), format!("http://127.0.0.1:{}", port()?));
        let child = Command::new("etcd")
            .arg("--data-dir")
            .arg(folder.path().join("data"))
            .args(["--listen-client-urls", &endpoint, "--advertise-client-urls", &endpoint])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("default={peer}"), "--log-level", "error"])
            .stderr(Stdio::null())
            .spawn()?;
        let etcd = Self { child, endpoint, _folder: folder };
        while !etcd.ctl(&["endpoint", "health"])? {
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(etcd)
    }

    fn ctl(&self, arguments: &[&str]) -> Outcome<bool> {
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").args(["--endpoints", &self.endpoint]).args(arguments);
        Ok(command.stdout(Stdio::null()).stderr(Stdio::null()).status()?.success())
    }

    fn signal(&self, signal: &str) -> Outcome<()> {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args([signal, &pid]).status()?;
        if status.success() { Ok(()) } else { Err("kill".into()) }
    }
}

/// Resident bytes, and seconds of work so far.
fn usage(pid: u32) -> Outcome<(f64, f64)> {
    let folder = Path::new("/proc").join(pid.to_string());
    let status = std::fs::read_to_string(folder.join("status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("VmRSS")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok((kib * 1024.0, Cpu::of_process(pid)?.all()))
}

fn options() -> Options {
    let limit = Duration::from_secs(60);
    Options { timeout: limit, connect_timeout: limit, reason: "bench".into(), ..Options::default() }
}

async fn clients(agents: &[Agent]) -> Outcome<Vec<Client>> {
    let mut clients = Vec::with_capacity(agents.len());
    for agent in agents {
        clients.push(Client::connect(&Node::unix(agent.socket.clone())?, options()).await?);
    }
    Ok(clients)
}

async fn connected(client: &Client) -> Outcome<bool> {
    let request = GetFleetStatusRequest {};
    let told = client.call(request, |c, r| async move { c.fleet().get_fleet_status(r).await });
    Ok(told.await?.standing() == FleetStanding::Connected)
}

/// Waits until all are connected; the seconds that it took.
async fn all_connected(clients: &[Client]) -> Outcome<f64> {
    let before = Instant::now();
    for client in clients {
        while !connected(client).await? {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    Ok(before.elapsed().as_secs_f64())
}

/// Declares an emergency at one: seconds until it was in force at each, and until that was reported.
async fn emergency(clients: &[Client]) -> Outcome<(Vec<f64>, f64, usize)> {
    let before = Instant::now();
    let request = ActivateEmergencyRequest { fleet: true, ..Default::default() };
    let told = clients[0]
        .call(request, |c, r| async move { c.recovery().activate_emergency(r).await })
        .await?;
    let reported = before.elapsed().as_secs_f64();
    let reach = told.fleet.ok_or("no fleet")?;
    let known = reach.members.iter().filter(|it| it.emergency).count();
    let mut since = Vec::new();
    for client in clients {
        loop {
            let request = GetEmergencyRequest {};
            let now = client
                .call(request, |c, r| async move { c.recovery().get_emergency(r).await })
                .await?
                .emergency
                .ok_or("no emergency")?;
            if now.active {
                let at = now.since.ok_or("no time")?;
                since.push(at.seconds as f64 + f64::from(at.nanos) / 1e9);
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    let first = since[0];
    let took = since.iter().map(|at| at - first).collect();
    let request = ReleaseEmergencyRequest { fleet: true, ..Default::default() };
    clients[0].call(request, |c, r| async move { c.recovery().release_emergency(r).await }).await?;
    Ok((took, reported, known))
}

async fn measure(hosts: &Hosts, size: usize) -> Outcome<(f64, f64)> {
    let etcd = Etcd::start()?;
    let (own, store) = (std::process::id(), etcd.child.id());
    let (own_before, store_before) = (usage(own)?, usage(store)?);
    let more = format!("lease = \"15s\"\n[fleet.etcd]\nendpoints = [{:?}]\n", etcd.endpoint);
    let started = Instant::now();
    let mut agents = Vec::with_capacity(size);
    for number in 0..size {
        agents.push(hosts.agent_of(&format!("fleet-{size}-{number}"), &more).await?);
    }
    let clients = clients(&agents).await?;
    all_connected(&clients).await?;
    println!(
        "\n{size} agents: all are members {:.1} s after the first was started",
        started.elapsed().as_secs_f64()
    );
    let (own_after, store_after) = (usage(own)?, usage(store)?);
    println!(
        "  memory: {:.2} MB of this process and {:.3} MB of etcd for each",
        (own_after.0 - own_before.0) / 1e6 / size as f64,
        (store_after.0 - store_before.0) / 1e6 / size as f64
    );
    tokio::time::sleep(IDLE).await;
    let (own_idle, store_idle) = (usage(own)?, usage(store)?);
    let share = |after: f64, before: f64| (after - before) / IDLE.as_secs_f64() * 100.0;
    println!(
        "  while nothing happens: this process {:.1} % of a core, etcd {:.2} % ({:.4} % for each)",
        share(own_idle.1, own_after.1),
        share(store_idle.1, store_after.1),
        share(store_idle.1, store_after.1) / size as f64
    );
    let each = |what: &str| format!("{what} of {size} agents, each");
    let memory = (own_after.0 - own_before.0) / 1e6 / size as f64;
    Figure::new(each("memory"), memory, "MB").say()?;
    let idle = share(own_idle.1, own_after.1) / size as f64;
    let of_store = share(store_idle.1, store_after.1) / size as f64;
    Figure::new(each("idle work"), idle, "% of a core").beside("etcd for it", of_store).say()?;
    let mut lists = Vec::new();
    let mut bytes = 0;
    for _ in 0..20 {
        let before = Instant::now();
        let request = ListFleetMembersRequest {};
        let list = clients[size / 2]
            .call(request, |c, r| async move { c.fleet().list_fleet_members(r).await })
            .await?;
        lists.push(before.elapsed().as_secs_f64() * 1e3);
        if list.members.iter().filter(|it| it.alive).count() != size {
            return Err("a member is missing".into());
        }
        bytes = prost::Message::encoded_len(&list);
    }
    println!(
        "  the list of members: {:.1} ms at the median, {bytes} bytes",
        quantile(&mut lists, 0.5)
    );
    let (mut took, reported, known) = emergency(&clients).await?;
    let (p50, all) = (quantile(&mut took, 0.5), quantile(&mut took, 1.0));
    println!(
        "  an emergency: in force after {:.0} ms at the median, {:.0} ms on all; reported after {:.2} s as on {known} of {size}",
        p50 * 1e3,
        all * 1e3,
        reported
    );
    let median = quantile(&mut lists, 0.5);
    Figure::new(format!("list of {size} members, median"), median, "ms").say()?;
    let forced = Figure::new(format!("emergency in force on all of {size}"), all, "s");
    let told = Figure::new(format!("emergency reported by all of {size}"), reported, "s");
    if size <= 16 {
        forced.at_most(GOALS.0).say()?;
        told.at_most(GOALS.1).say()?;
    } else {
        forced.say()?;
        told.say()?;
    }
    etcd.signal("-STOP")?;
    tokio::time::sleep(Duration::from_secs(20)).await;
    etcd.signal("-CONT")?;
    let back = all_connected(&clients).await?;
    println!("  after etcd stood still for 20 s: all are back after {back:.1} s");
    Figure::new(format!("all of {size} back after etcd stood still for 20 s"), back, "s").say()?;
    for agent in agents {
        agent.drain().await;
    }
    Ok((all, reported))
}

fn main() -> Outcome<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_stack_size(1 << 20)
        .enable_all()
        .build()?;
    let sizes = std::env::var("GENESIS_FLEET").unwrap_or_else(|_| SIZES.to_owned());
    let mut met = true;
    let hosts = Hosts::new()?;
    for size in sizes.split(',') {
        let size: usize = size.trim().parse()?;
        let (all, reported) = runtime.block_on(measure(&hosts, size))?;
        met &= size > 16 || (all <= GOALS.0 && reported <= GOALS.1);
    }
    println!("\ngoals for 16: on all within {} s, reported within {} s", GOALS.0, GOALS.1);
    Ok(if met { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
