//! A Debian system in a folder, on which packages are installed. dpkg, adduser and systemd's helpers for packages are the
//! real ones; PID 1 is not systemd, so a unit's command is started the way its unit says.

use std::collections::BTreeMap;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use tempfile::TempDir;

use crate::binaries;
use crate::clock::wait_for;

/// Runs what follows in the folder's system, with a /proc, in a mount namespace of its own.
const INSIDE: &str = "mount -t proc proc \"$0/proc\" && exec chroot \"$0\" \"$@\"";

/// A system of its own: nothing is installed in it but what Debian calls minimal.
pub struct Debian {
    folder: TempDir,
}

/// What a command inside said.
#[derive(Debug)]
pub struct Said {
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// What is set in a unit; a key that may be given several times has all of its values.
#[derive(Debug)]
pub struct Unit(BTreeMap<String, Vec<String>>);

/// A unit's command, started.
pub struct Service {
    child: Child,
    traced: bool,
    notify: UnixDatagram,
}

impl Debian {
    /// A fresh one.
    ///
    /// # Panics
    /// When `tests/run --prepare` has made none, or it can't be copied.
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("debian-").tempdir().expect("a folder");
        let system = folder.path().join("system");
        let (from, to) = (binaries::foreign("debian"), system.display().to_string());
        binaries::tool("cp", &["-a", &from.display().to_string(), &to]);
        Self { folder }
    }

    /// Where a path of the system is outside.
    pub fn path(&self, inside: &str) -> PathBuf {
        self.folder.path().join("system").join(inside.trim_start_matches('/'))
    }

    /// A command of the system, as root.
    fn command(&self, program: &[&str]) -> Command {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", INSIDE]).arg(self.path("/")).args(program);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C.UTF-8");
        command.env("DEBIAN_FRONTEND", "noninteractive");
        command
    }

    /// Runs a command of the system, as root.
    ///
    /// # Panics
    /// When it can't be started.
    pub fn run(&self, program: &[&str]) -> Said {
        let output = self.command(program).stdin(Stdio::null()).output().expect("unshare");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Said { status: output.status, stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    /// Runs a command of the system, as root; its standard output.
    ///
    /// # Panics
    /// When it fails.
    pub fn done(&self, program: &[&str]) -> String {
        let said = self.run(program);
        assert!(said.status.success(), "{program:?}: {said:?}");
        said.stdout
    }

    /// Installs a package, or upgrades to it; what dpkg and the package said.
    ///
    /// # Panics
    /// When it can't be installed.
    pub fn install(&self, package: &Path) -> String {
        let name = package.file_name().expect("a package").to_str().expect("UTF-8");
        let inside = format!("/root/{name}");
        std::fs::copy(package, self.path(&inside)).expect("a copy");
        // What an upgrade asks about a changed file of the configuration: to keep it.
        let said = self.run(&["dpkg", "--force-confold", "--install", &inside]);
        assert!(said.status.success(), "{said:?}");
        format!("{}{}", said.stdout, said.stderr)
    }

    /// What a path of the system is: type, mode, owner and group, as `stat` says it.
    pub fn stat(&self, inside: &str) -> String {
        let said = self.run(&["stat", "-c", "%A %U:%G", inside]);
        if said.status.success() { said.stdout.trim().to_owned() } else { said.stderr }
    }

    /// Starts a unit's command as systemd would: as its user with its capabilities, with its folders, ready when it says so.
    ///
    /// # Panics
    /// When it can't be started, or ends before it is ready.
    pub fn start(&self, unit: &Unit, traced: Option<&Path>) -> Service {
        let user = unit.last("User");
        for (kind, base) in [("State", "/var/lib"), ("Runtime", "/run"), ("Configuration", "/etc")]
        {
            let folder = format!("{base}/{}", unit.last(&format!("{kind}Directory")));
            let mode = unit.last(&format!("{kind}DirectoryMode"));
            if kind == "Configuration" {
                assert!(self.path(&folder).is_dir(), "{folder} comes with the package");
            } else {
                self.done(&[
                    "install",
                    "-d",
                    "-o",
                    user,
                    "-g",
                    unit.last("Group"),
                    "-m",
                    mode,
                    &folder,
                ]);
            }
        }
        let _ = std::fs::remove_file(self.path("/run/notify"));
        let notify = UnixDatagram::bind(self.path("/run/notify")).expect("a socket");
        self.done(&["chmod", "666", "/run/notify"]);

        let capabilities = unit.all("AmbientCapabilities").join(" ");
        let capabilities = capabilities.split_whitespace().fold("-all".to_owned(), |all, one| {
            format!("{all},+{}", one.trim_start_matches("CAP_").to_lowercase())
        });
        let capability_options: Vec<String> = ["inh-caps", "ambient-caps", "bounding-set"]
            .map(|which| format!("--{which}={capabilities}"))
            .into();
        let umask = format!("umask {}; exec \"$@\"", unit.last("UMask"));
        let identity = [format!("--reuid={user}"), format!("--regid={}", unit.last("Group"))];
        let mut program = vec!["setpriv", "--init-groups"];
        program.extend(identity.iter().chain(&capability_options).map(String::as_str));
        if unit.last("NoNewPrivileges") == "yes" {
            program.push("--no-new-privs");
        }
        program.extend(["sh", "-c", &umask, "sh"]);
        program.extend(unit.last("ExecStart").split_whitespace());
        let mut command = self.command(&program);
        if let Some(log) = traced {
            let inner = command;
            command = Command::new("strace");
            command.args(["-f", "-qq", "-s", "64", "-e", "signal=none", "-o"]).arg(log);
            command.arg("--").arg(inner.get_program()).args(inner.get_args()).env_clear();
            command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
        }
        command
            .env("STATE_DIRECTORY", format!("/var/lib/{}", unit.last("StateDirectory")))
            .env("RUNTIME_DIRECTORY", format!("/run/{}", unit.last("RuntimeDirectory")))
            .env("NOTIFY_SOCKET", "/run/notify")
            .stdin(Stdio::null());
        // Without one nobody is told that it is alive.
        let watchdog: u64 = unit.last("WatchdogSec").parse().expect("seconds");
        if watchdog > 0 {
            command.env("WATCHDOG_USEC", (watchdog * 1_000_000).to_string());
        }
        let mut service =
            Service { child: command.spawn().expect("unshare"), traced: traced.is_some(), notify };
        service.hears("READY=1");
        service
    }
}

impl Default for Debian {
    fn default() -> Self {
        Self::new()
    }
}

impl Unit {
    /// Reads one, with its drop-ins, if there are any.
    ///
    /// # Panics
    /// When it can't be read.
    pub fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).expect("a unit");
        let mut keys: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with(['#', '['])) {
            if let Some((key, value)) = line.split_once('=') {
                keys.entry(key.to_owned()).or_default().push(value.to_owned());
            }
        }
        Self(keys)
    }

    /// Every value of a key.
    pub fn all(&self, key: &str) -> &[String] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }

    /// The value of a key.
    ///
    /// # Panics
    /// When it is not there.
    pub fn last(&self, key: &str) -> &str {
        self.all(key).last().unwrap_or_else(|| panic!("the unit has no {key}="))
    }
}

impl Service {
    /// Waits until it tells systemd this.
    ///
    /// # Panics
    /// When it ends before, or never does.
    pub fn hears(&mut self, what: &str) {
        self.notify.set_nonblocking(true).expect("a socket");
        let mut heard = String::new();
        wait_for(&format!("the service to say {what}"), || {
            let mut text = [0; 4096];
            while let Ok(length) = self.notify.recv(&mut text) {
                heard.push_str(&String::from_utf8_lossy(&text[..length]));
                heard.push('\n');
            }
            let ended = self.child.try_wait().expect("a child");
            assert!(ended.is_none(), "the service ended: {ended:?}, after {heard}");
            heard.lines().any(|line| line == what).then_some(())
        });
    }

    /// Stops it as systemd would, and waits.
    ///
    /// # Panics
    /// When it does not end.
    pub fn stop(self) -> ExitStatus {
        self.end("TERM")
    }

    /// As when the power fails.
    ///
    /// # Panics
    /// When it does not end.
    pub fn kill(self) {
        self.end("KILL");
    }

    fn end(mut self, signal: &str) -> ExitStatus {
        binaries::tool("kill", &["-s", signal, &self.pid()]);
        wait_for("the service to end", || self.child.try_wait().expect("a child"))
    }

    /// Of the unit's command itself.
    fn pid(&self) -> String {
        let pid = self.child.id().to_string();
        if !self.traced {
            return pid;
        }
        // strace hands no signals on, and what it traces outlives it.
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        children.ok().and_then(|all| Some(all.split_whitespace().next()?.to_owned())).unwrap_or(pid)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = Command::new("kill").args(["-s", "KILL", &self.pid()]).status();
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
