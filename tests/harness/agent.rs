//! The real agent on a temporary state folder.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};

pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::clock::{LIMIT, LOOK, Watch, wait_for};
use crate::daemon::freeze;
use crate::lines;
use crate::netns::Namespace;
use crate::{Output, Segment, binaries, ctl};

/// A host's folder with at most one agent at work on it.
pub struct TestAgent {
    folder: TempDir,
    process: Option<Process>,
    /// Standard error of the agents before.
    history: String,
    /// The state folder is a disk of its own, of so many MiB, which is gone with the agent.
    disk: Option<u64>,
    /// What its environment holds beside the harness's own.
    environment: Vec<(String, String)>,
    /// The host has a name of its own.
    hostname: Option<String>,
    /// The host has a network of its own.
    namespace: Option<Namespace>,
    /// It is started in the folder of its configuration, which it is told by its mere name.
    relative: bool,
    /// Its program, where that is another than the tests' own.
    program: Option<PathBuf>,
}

struct Process {
    child: Child,
    stderr: Arc<Mutex<String>>,
    /// The line that says it is ready; closed when standard error is.
    ready: Mutex<Receiver<String>>,
    http: Option<SocketAddr>,
    plaintext: Option<SocketAddr>,
    grpc: Option<SocketAddr>,
    https: Option<SocketAddr>,
}

/// How an agent ended.
#[derive(Debug, Clone)]
pub struct Ended {
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// What it said on standard error.
    pub stderr: String,
}

/// A `[[logs.source]]` of lines that carry the dates of [`lines`], which are years old: kept as long as a
/// configuration may say, lest a scheduled retention deletes them during the test.
pub fn source(log_type: &str, path: &Path, rotate_size: &str) -> String {
    format!(
        "[[logs.source]]\ntype = {log_type:?}\npaths = [{:?}]\nrotate_size = {rotate_size:?}\n\
         reopen = \"by-itself\"\nlocal_retention = \"36500d\"\narchive_retention = \"36500d\"\n",
        path.display().to_string()
    )
}

impl TestAgent {
    /// A host without an agent; `config` is what its file says beside the HTTP address.
    ///
    /// # Panics
    /// When there is no temporary folder to be had.
    pub fn new(config: impl FnOnce(&Path) -> String) -> Self {
        let folder = tempfile::Builder::new().prefix("genesis-").tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("log")).expect("a folder for logs");
        let agent = Self {
            folder,
            process: None,
            history: String::new(),
            disk: None,
            environment: Vec::new(),
            hostname: None,
            namespace: None,
            relative: false,
            program: None,
        };
        let config = config(&agent.folder.path().join("log"));
        agent.configure(&config);
        agent
    }

    /// A host with an agent that is ready.
    ///
    /// # Panics
    /// When it does not start.
    pub fn started(config: impl FnOnce(&Path) -> String) -> Self {
        let mut agent = Self::new(config);
        agent.start();
        agent
    }

    /// A host without an agent, whose state will be on a disk of `mib` MiB that only the agent sees: a tmpfs in
    /// its own mount namespace. [`TestAgent::disk`] leads there.
    ///
    /// # Panics
    /// When there is no temporary folder to be had.
    pub fn with_small_disk(mib: u64, config: impl FnOnce(&Path) -> String) -> Self {
        let mut agent = Self::new(config);
        agent.disk = Some(mib);
        for folder in ["state", "run"] {
            std::fs::create_dir(agent.folder.path().join(folder)).expect("a folder");
        }
        agent
    }

    /// The agents that are started from now on see a host of this name.
    pub fn hostname(&mut self, name: &str) {
        self.hostname = Some(name.to_owned());
    }

    /// The agents that are started from now on are on this host of a network. Its folder and its socket are where they
    /// were, so that [`TestAgent::ctl`] needs nothing; what listens at an address is reached by
    /// [`Namespace::within`].
    pub fn in_namespace(&mut self, namespace: &Namespace) {
        self.namespace = Some(namespace.clone());
    }

    /// Has the agents that are started from now on be told their configuration by a relative path.
    pub fn tell_a_relative_path(&mut self) {
        self.relative = true;
    }

    /// The agents that are started from now on are this program.
    pub fn program(&mut self, path: PathBuf) {
        self.program = Some(path);
    }

    /// Sets a variable of the agents that are started from now on.
    pub fn environment(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// The state folder as the agent on its small disk sees it.
    ///
    /// # Panics
    /// When there is no agent.
    pub fn disk(&self) -> PathBuf {
        let inside = self.state();
        let root = PathBuf::from(format!("/proc/{}/root", self.pid()));
        root.join(inside.strip_prefix("/").expect("temporary folders are absolute"))
    }

    /// Rewrites the configuration file.
    ///
    /// # Panics
    /// When it can't be written.
    pub fn configure(&self, config: &str) {
        let mut text = config.to_owned();
        if !config.contains("[listen]") {
            text = format!("[listen]\nhttp = \"127.0.0.1:0\"\n{text}");
        }
        // How full this machine is, or how busy, is not what most tests are about.
        if !config.contains("[health]") {
            text = format!("{text}\n[health]\ndefaults = false\n");
        }
        std::fs::write(self.config(), text).expect("the configuration can be written");
    }

    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("agent.toml")
    }

    /// The temporary folder of it all.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A path for a log.
    pub fn log(&self, name: &str) -> PathBuf {
        self.folder.path().join("log").join(name)
    }

    /// The state folder.
    pub fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// The embedded database.
    pub fn database(&self) -> PathBuf {
        self.state().join("state.redb")
    }

    /// The archive's folder, unless the configuration names another.
    pub fn archive(&self) -> PathBuf {
        self.state().join("archive")
    }

    /// The folder of the local copies.
    pub fn sealed(&self) -> PathBuf {
        self.state().join("logs/sealed")
    }

    /// The socket's address as genesisctl takes it.
    pub fn node(&self) -> String {
        let folder = match self.disk {
            // The socket must be seen from outside.
            Some(_) => self.folder.path().join("run"),
            None => self.state(),
        };
        format!("unix:{}", folder.join("agent.sock").display())
    }

    /// The address of HTTP.
    ///
    /// # Panics
    /// When no agent is ready.
    pub fn http(&self) -> SocketAddr {
        self.process().http.expect("the agent said its HTTP address")
    }

    /// The address of plaintext gRPC.
    ///
    /// # Panics
    /// When no agent is ready, or it has none.
    pub fn plaintext(&self) -> SocketAddr {
        self.process().plaintext.expect("the agent said its plaintext address")
    }

    /// The address of gRPC over TLS.
    ///
    /// # Panics
    /// When no agent is ready, or it has none.
    pub fn grpc(&self) -> SocketAddr {
        self.process().grpc.expect("the agent said its address of gRPC over TLS")
    }

    /// The address of its HTTP over TLS.
    ///
    /// # Panics
    /// When there is none.
    pub fn https(&self) -> SocketAddr {
        self.process().https.expect("the agent said its address of HTTP over TLS")
    }

    /// The agent's process id.
    ///
    /// # Panics
    /// When there is none.
    pub fn pid(&self) -> u32 {
        self.process().child.id()
    }

    fn process(&self) -> &Process {
        self.process.as_ref().expect("an agent was started")
    }

    /// What all agents so far have said on standard error.
    ///
    /// # Panics
    /// When a reader of it did.
    pub fn stderr(&self) -> String {
        let now = self.process.as_ref().map(|process| process.said());
        format!("{}{}", self.history, now.unwrap_or_default())
    }

    /// The command that starts an agent on this host.
    pub fn command(&self) -> Command {
        let program = |path: &Path| match &self.namespace {
            Some(namespace) => namespace.command(path),
            None => Command::new(path),
        };
        let agent = self.program.clone().unwrap_or_else(binaries::agent);
        let mut command = match (self.disk, &self.hostname) {
            (None, None) => {
                let mut command = program(&agent);
                command.arg("--state-dir").arg(self.state());
                command
            }
            (None, Some(name)) => {
                let mut command = program(Path::new("unshare"));
                command.args(["--user", "--map-root-user", "--uts", "sh", "-c"]);
                command.arg("echo \"$0\" > /proc/sys/kernel/hostname && exec \"$@\"").arg(name);
                command.arg(agent).arg("--state-dir").arg(self.state());
                command
            }
            (Some(mib), _) => {
                let mut command = program(Path::new("unshare"));
                command.args(["--user", "--map-root-user", "--mount", "sh", "-c"]);
                let mount = format!("mount -t tmpfs -o size={mib}m none \"$0\" && exec \"$@\"");
                command.arg(mount).arg(self.state()).arg(agent);
                command.env("STATE_DIRECTORY", self.state());
                command.env("RUNTIME_DIRECTORY", self.folder.path().join("run"));
                command
            }
        };
        match (self.relative, self.config().parent(), self.config().file_name()) {
            (true, Some(folder), Some(name)) => {
                command.current_dir(folder).arg("--config").arg(name);
            }
            _ => drop(command.arg("--config").arg(self.config())),
        }
        command.env_remove("GENESIS_FAILPOINT").stdin(Stdio::null());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts an agent and waits until it is ready.
    ///
    /// # Panics
    /// When it ends instead, with what it said.
    pub fn start(&mut self) {
        if let Err(ended) = self.try_start() {
            panic!("the agent did not start: {ended:?}");
        }
    }

    /// Starts an agent that may refuse to.
    ///
    /// # Errors
    /// How it ended.
    ///
    /// # Panics
    /// When it neither gets ready nor ends.
    pub fn try_start(&mut self) -> Result<(), Ended> {
        self.spawn(None);
        let process = self.process.as_mut().expect("just started");
        match process.ready() {
            Ok(line) => {
                process.http = address_behind(&line, "http ");
                process.plaintext = address_behind(&line, ", plaintext grpc ");
                process.grpc = address_behind(&line, ", grpc ");
                process.https = address_behind(&line, ", https ");
                Ok(())
            }
            Err(RecvTimeoutError::Disconnected) => Err(self.wait()),
            Err(RecvTimeoutError::Timeout) => panic!("the agent is not ready: {}", self.stderr()),
        }
    }

    /// Starts an agent that dies at the `nth` hit of a fail point, as if the power failed. It may not get
    /// ready before that; use [`TestAgent::wait_killed`].
    ///
    /// # Panics
    /// When it can't be started.
    pub fn start_with_failpoint(&mut self, name: &str, nth: u64) {
        self.spawn(Some(format!("{name}:{nth}")));
    }

    fn spawn(&mut self, failpoint: Option<String>) {
        assert!(self.process.is_none(), "one agent at a time");
        let mut command = self.command();
        if let Some(failpoint) = failpoint {
            command.env("GENESIS_FAILPOINT", failpoint);
        }
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the agent can be started");
        let (sender, ready) = mpsc::channel();
        let stderr = Arc::new(Mutex::new(String::new()));
        let (pipe, said) = (child.stderr.take().expect("piped"), Arc::clone(&stderr));
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                said.lock().expect("never poisoned").push_str(&format!("{line}\n"));
                if line.contains(" ready: socket ") {
                    // A test that does not wait for it has left.
                    let _ = sender.send(line);
                }
            }
        });
        self.process = Some(Process {
            child,
            stderr,
            ready: Mutex::new(ready),
            http: None,
            plaintext: None,
            grpc: None,
            https: None,
        });
    }

    /// Waits until the agent has got ready, where [`TestAgent::start_with_failpoint`] did not.
    ///
    /// # Panics
    /// When it ends before.
    pub fn wait_ready(&mut self) {
        let process = self.process();
        if process.ready().is_err() {
            panic!("the agent is not ready: {}", self.stderr());
        }
    }

    /// Waits until the agent has ended.
    ///
    /// # Panics
    /// When it does not, or there is none.
    pub fn wait(&mut self) -> Ended {
        let mut process = self.process.take().expect("an agent was started");
        let status: ExitStatus =
            wait_for("the agent's end", || process.child.try_wait().expect("our child"));
        // Closed by the end of the process, so that all it said has been read.
        while process.ready().is_ok() {}
        let stderr = process.said();
        self.history.push_str(&stderr);
        Ended { code: status.code(), signal: status.signal(), stderr }
    }

    /// Waits until its fail point has killed the agent.
    ///
    /// # Panics
    /// When it ends otherwise, or not.
    #[track_caller]
    pub fn wait_killed(&mut self) {
        let ended = self.wait();
        assert_eq!(ended.signal, Some(9), "its fail point kills the agent: {ended:?}");
    }

    /// Sends a signal to the agent.
    ///
    /// # Panics
    /// When there is none.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid().cast_signed()).expect("a process id");
        kill_process(pid, signal).expect("the agent lives");
    }

    /// Stops it where it is: its connections stay, its disk and its clock go on, and it does nothing.
    ///
    /// # Panics
    /// When there is no agent.
    pub fn freeze(&self) {
        freeze(Pid::from_raw(self.pid().cast_signed()).expect("a process id"));
    }

    /// Lets it go on.
    ///
    /// # Panics
    /// When there is no agent.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// `kill -9`.
    ///
    /// # Panics
    /// When there is no agent.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.wait();
    }

    /// SIGTERM, and how the agent ended.
    ///
    /// # Panics
    /// When it does not end.
    pub fn terminate(&mut self) -> (Ended, std::time::Duration) {
        let watch = Watch::start();
        self.signal(Signal::TERM);
        let ended = self.wait();
        (ended, watch.elapsed())
    }

    /// SIGTERM, then an agent anew on the same state.
    ///
    /// # Panics
    /// When one of both fails.
    pub fn restart(&mut self) {
        let (ended, _) = self.terminate();
        assert_eq!(ended.code, Some(0), "a clean end: {ended:?}");
        self.start();
    }

    /// genesisctl in this process, on this agent.
    pub fn ctl(&self, arguments: &[&str]) -> Output {
        let node = self.node();
        ctl(&[&["-n", &node], arguments].concat())
    }

    /// genesisctl as a process of its own, on this agent.
    pub fn ctl_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binaries::client());
        command.args(["-n", &self.node()]).args(arguments).stdin(Stdio::null());
        command
    }

    /// `logs list` of a type.
    ///
    /// # Panics
    /// When that fails.
    pub fn segments(&self, log_type: &str) -> Vec<Segment> {
        let list =
            self.ctl(&["logs", "list", "--log-type", log_type, "--limit", "10000", "-o", "json"]);
        let list = list.ok().response();
        list["segments"].as_array().into_iter().flatten().map(Segment::read).collect()
    }

    /// Waits until each segment of a type is verified, and there are at least so many.
    ///
    /// # Panics
    /// When they are not.
    pub fn wait_verified(&self, log_type: &str, at_least: usize) -> Vec<Segment> {
        let watch = Watch::start();
        loop {
            let segments = self.segments(log_type);
            let verified = segments.iter().all(|segment| segment.state == "VERIFIED");
            if verified && segments.len() >= at_least {
                return segments;
            }
            if watch.elapsed() > LIMIT {
                let status = self.ctl(&["logs", "status"]).text();
                panic!("{at_least} verified segments were waited for: {segments:#?}\n{status}");
            }
            std::thread::sleep(LOOK);
        }
    }

    /// `logs rotate` of a type, which must go well.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn rotate(&self, log_type: &str) {
        self.ctl(&["logs", "rotate", "--log-type", log_type]).ok();
    }

    /// `logs retrieve` of a type and range to standard output.
    pub fn retrieve(&self, log_type: &str, range: &str) -> Output {
        self.ctl(&["logs", "retrieve", "--log-type", log_type, "--date-range", range])
    }

    /// Asserts that retrieving the day of the numbered lines gives lines 0 to `count`, once each, in order,
    /// and says that it is complete.
    ///
    /// # Panics
    /// With what differs.
    #[track_caller]
    pub fn assert_holds(&self, log_type: &str, count: u64) {
        let output = self.retrieve(log_type, lines::DAY).ok().says(&["complete"]);
        lines::assert_exactly(&output.stdout, 0..count);
    }

    /// The codes of the findings that `logs status` names for a type, with their messages.
    ///
    /// # Panics
    /// When there is no such type.
    pub fn findings(&self, log_type: &str) -> Vec<(String, String)> {
        let status = self.ctl(&["logs", "status", "-o", "json"]).response();
        let sources = status["sources"].as_array().cloned().unwrap_or_default();
        let source = sources.iter().find(|source| source["logType"] == log_type);
        let source = source.unwrap_or_else(|| panic!("no source {log_type} in {status}"));
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        source["findings"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|finding| (text(&finding["code"]), text(&finding["message"])))
            .collect()
    }

    /// Waits until `logs status` names this finding for a type, and returns its message.
    ///
    /// # Panics
    /// When it does not.
    pub fn wait_finding(&self, log_type: &str, code: &str) -> String {
        wait_for(&format!("finding {code} of {log_type}"), || {
            let found = self.findings(log_type);
            found.into_iter().find(|(found, _)| found == code).map(|(_, message)| message)
        })
    }
}

impl Drop for TestAgent {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.child.kill();
            let _ = process.child.wait();
        }
        if std::thread::panicking() {
            use std::io::Write;

            let log = std::fs::read_to_string(self.state().join("logs/agent.log"));
            let log = log.unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let last = lines[lines.len().saturating_sub(15)..].join("\n");
            let said = self.stderr();
            let _ = writeln!(std::io::stderr(), "--- agent's stderr\n{said}--- its log\n{last}");
        }
    }
}

impl Process {
    fn ready(&self) -> Result<String, RecvTimeoutError> {
        self.ready.lock().expect("never poisoned").recv_timeout(LIMIT)
    }

    fn said(&self) -> String {
        self.stderr.lock().expect("never poisoned").clone()
    }
}

fn address_behind(line: &str, word: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once(word)?;
    rest.split([',', ' ']).next()?.parse().ok()
}
