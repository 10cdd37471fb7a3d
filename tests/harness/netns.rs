//! Hosts with networks of their own: network namespaces on one switch, which is cut off from everything else, so that
//! tests don't meet. Files, unix sockets among them, are those of this host.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::{Pid, Signal, getpid, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Where `ip` has the namespaces.
const NAMESPACES: &str = "/run/netns";
const PREFIX: &str = "genesis-";
/// The states of a bridge's port in which it takes and gives nothing, and everything.
const DISABLED: &str = "0";
const FORWARDING: &str = "3";

/// The hosts, until this is dropped. Declare it before what runs on them: whatever still does then is killed.
pub struct Network {
    /// The namespace of the switch.
    switch: String,
    hosts: Vec<Namespace>,
}

/// A host.
#[derive(Debug, Clone)]
pub struct Namespace {
    /// Of the namespace; that of the host is its end.
    name: String,
    number: u8,
}

impl Network {
    /// Hosts of these names, all of which reach each other.
    ///
    /// # Panics
    /// When this is not root on a Linux with bridges, or `ip` and `bridge` (iproute2) are missing.
    pub fn new(names: &[&str]) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);

        sweep();
        let number = NUMBER.fetch_add(1, Ordering::SeqCst);
        let switch = format!("{PREFIX}{}-{number}", getpid().as_raw_pid());
        let host =
            |(name, number): (&&str, u8)| Namespace { name: format!("{switch}-{name}"), number };
        let hosts: Vec<_> = names.iter().zip(1..).map(host).collect();
        // Before there is anything, so that what is half made goes with it too.
        let network = Self { switch, hosts };
        network.make();
        network
    }

    fn make(&self) {
        ip(&["netns", "add", &self.switch]);
        batch(&self.switch, "link add name br0 type bridge\nlink set dev br0 up\n");
        for host in &self.hosts {
            ip(&["netns", "add", &host.name]);
            let (port, address, mac) = (host.port(), host.address(), host.mac());
            let mut commands = format!(
                "link set dev lo up\n\
                 link add name eth0 address {mac} type veth peer name {port} netns {}\n\
                 addr add {address}/24 dev eth0\nlink set dev eth0 up\n",
                self.switch
            );
            for other in self.hosts.iter().filter(|other| other.number != host.number) {
                commands.push_str(&neighbour(other, &other.mac()));
            }
            batch(&host.name, &commands);
            batch(&self.switch, &format!("link set dev {port} master br0 up\n"));
        }
    }

    /// A host.
    ///
    /// # Panics
    /// When there is none of this name.
    pub fn host(&self, name: &str) -> &Namespace {
        let end = format!("{}-{name}", self.switch);
        self.hosts.iter().find(|host| host.name == end).expect("a host of this network")
    }

    /// Parts a host from all others: whatever it sends, or is sent, is lost without a word.
    ///
    /// # Panics
    /// When there is none of this name.
    pub fn partition(&self, name: &str) {
        self.set_port(name, DISABLED);
    }

    /// Ends [`Network::partition`].
    ///
    /// # Panics
    /// When there is none of this name.
    pub fn heal(&self, name: &str) {
        self.set_port(name, FORWARDING);
    }

    fn set_port(&self, name: &str, state: &str) {
        // Not by `ip`, which has the kernel look at the port anew and enable it at once.
        let mut bridge = Command::new("bridge");
        bridge.args(["-n", &self.switch, "link", "set", "dev", &self.host(name).port()]);
        tool(bridge.args(["state", state]), "");
    }

    /// Loses without a word what one host sends to another. What that one sends arrives.
    ///
    /// # Panics
    /// When there is none of these names.
    pub fn cut(&self, from: &str, to: &str) {
        // Nobody has it.
        batch(&self.host(from).name, &neighbour(self.host(to), "02:00:00:00:00:00"));
    }

    /// Ends [`Network::cut`].
    ///
    /// # Panics
    /// When there is none of these names.
    pub fn mend(&self, from: &str, to: &str) {
        let to = self.host(to);
        batch(&self.host(from).name, &neighbour(to, &to.mac()));
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for host in &self.hosts {
            remove(&host.name);
        }
        remove(&self.switch);
    }
}

impl Namespace {
    /// Its address, for the other hosts of its network and for itself.
    pub fn address(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 0, 0, self.number)
    }

    /// Runs a program on it; its process id is that of the command.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        // `ip netns exec` would hide control groups.
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path().display())).arg("--").arg(program);
        command
    }

    /// Does something on it, such as to make a connection; threads that this starts are there too.
    ///
    /// # Panics
    /// When the network is gone, or `act` does.
    pub fn within<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        let file = File::open(self.path()).expect("its network is there");
        let there = || {
            let network = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(file.as_fd(), network).expect("root may");
            act()
        };
        // Of this thread alone, which ends there.
        std::thread::scope(|scope| scope.spawn(there).join())
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    fn path(&self) -> PathBuf {
        Path::new(NAMESPACES).join(&self.name)
    }

    /// The other end of its link.
    fn port(&self) -> String {
        format!("port{}", self.number)
    }

    fn mac(&self) -> String {
        format!("02:00:00:00:00:{:02x}", self.number)
    }
}

/// That a host's address is at this one of Ethernet, for good: where nobody answered the question, connecting would
/// fail after three seconds, which is not how a host behaves that is behind a router.
fn neighbour(host: &Namespace, mac: &str) -> String {
    format!("neigh replace {} lladdr {mac} dev eth0 nud permanent\n", host.address())
}

/// Removes what tests have left that were killed.
fn sweep() {
    for entry in std::fs::read_dir(NAMESPACES).into_iter().flatten().flatten() {
        let name = entry.file_name().into_string().unwrap_or_default();
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        let owner = owner.and_then(|owner| owner.parse::<u32>().ok());
        if owner.is_some_and(|owner| !Path::new(&format!("/proc/{owner}")).exists()) {
            remove(&name);
        }
    }
}

/// Kills what runs in a namespace of ours, and removes it. Somebody else may do so at the same time.
fn remove(name: &str) {
    let output = Command::new("ip").args(["netns", "pids", name]).output();
    let pids = output.map(|output| output.stdout).unwrap_or_default();
    let pids = String::from_utf8_lossy(&pids).into_owned();
    for pid in pids.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)) {
        let _ = kill_process(pid, Signal::KILL);
    }
    let _ = Command::new("ip").args(["netns", "del", name]).stderr(Stdio::null()).status();
}

fn ip(arguments: &[&str]) {
    tool(Command::new("ip").args(arguments), "");
}

fn batch(namespace: &str, commands: &str) {
    tool(Command::new("ip").args(["-n", namespace, "-batch", "-"]), commands);
}

fn tool(command: &mut Command, input: &str) {
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn();
    let mut child = child.unwrap_or_else(|error| panic!("{command:?} is needed: {error}"));
    // It may have failed before it read all of it.
    let _ = child.stdin.take().expect("piped").write_all(input.as_bytes());
    let output = child.wait_with_output().expect("our child");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}", errors.trim());
}
