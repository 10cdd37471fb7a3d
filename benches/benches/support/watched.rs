//! Processes, listeners and files to be watched, and the same checks of them as the agent and as Monit have them.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::Outcome;

const LISTENERS: usize = 10;
const SLEEPERS: usize = 14;

/// One check.
#[derive(Debug, Clone)]
pub(crate) enum Check {
    Memory,
    Load,
    /// Of the file system of a folder.
    Bytes(PathBuf),
    Inodes(PathBuf),
    /// Of the process of a pidfile.
    MemoryOf(PathBuf),
    MemoryOfName(String),
    Pidfile(PathBuf),
    Name(String),
    Tcp(u16),
    Http(u16, usize),
    /// The number in a file, by `cat`.
    Number(PathBuf),
    /// A command that takes longer than it may.
    Sleep,
    /// An HTTP server that takes connections and never answers.
    Mute(u16),
    /// The same for gRPC; Monit knows no such check.
    MuteGrpc(u16),
    /// A pidfile that hangs whoever opens it, as a dead mount does; it would hang all of Monit.
    Pipe(PathBuf),
}

/// When somebody connected.
#[derive(Debug, Clone, Default)]
pub(crate) struct Knocks(Arc<Mutex<Vec<Instant>>>);

impl Knocks {
    #[allow(clippy::disallowed_methods)] // A benchmark reads the clock.
    fn add(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
    }

    /// All of them so far, and forgets them.
    pub(crate) fn take(&self) -> Vec<Instant> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What is watched. It ends with this.
pub(crate) struct Watched {
    folder: tempfile::TempDir,
    sleepers: Vec<Child>,
    ports: Vec<u16>,
    web: u16,
    mute: u16,
    /// Of the first listener and the last one, which are the first check of [`Watched::well`] and the last.
    pub(crate) first: Knocks,
    pub(crate) last: Knocks,
}

impl Drop for Watched {
    fn drop(&mut self) {
        for child in &mut self.sleepers {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Watched {
    pub(crate) async fn start() -> Outcome<Self> {
        let folder = tempfile::tempdir()?;
        let mut watched = Self {
            folder,
            sleepers: Vec::new(),
            ports: Vec::new(),
            web: 0,
            mute: 0,
            first: Knocks::default(),
            last: Knocks::default(),
        };
        for number in 0..SLEEPERS {
            let program = watched.path("bench-sleep", number);
            std::os::unix::fs::symlink("/bin/sleep", &program)?;
            let child = Command::new(&program).arg("3600").spawn()?;
            fs::write(watched.path("pid", number), format!("{}\n", child.id()))?;
            watched.sleepers.push(child);
            fs::create_dir(watched.path("folder", number))?;
            fs::write(watched.path("number", number), format!("{number}\n"))?;
        }
        for number in 0..LISTENERS {
            let knocks = match number {
                0 => watched.first.clone(),
                number if number == LISTENERS - 1 => watched.last.clone(),
                _ => Knocks::default(),
            };
            let port = listen(move |stream| {
                knocks.add();
                drop(stream);
            });
            watched.ports.push(port.await?);
        }
        let answering = listen(|stream| drop(tokio::spawn(answer(stream))));
        watched.web = answering.await?;
        let kept = Mutex::new(Vec::new());
        let keeping = listen(move |stream| {
            kept.lock().unwrap_or_else(PoisonError::into_inner).push(stream);
        });
        watched.mute = keeping.await?;
        Ok(watched)
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn path(&self, what: &str, number: usize) -> PathBuf {
        self.folder.path().join(format!("{what}-{number}"))
    }

    /// Fifty checks of what is well.
    pub(crate) fn well(&self) -> Vec<Check> {
        let name = |number: usize| format!("bench-sleep-{number}");
        let mut checks = vec![Check::Tcp(self.ports[0]), Check::Memory, Check::Load];
        for number in 0..5 {
            checks.push(Check::Bytes(self.path("folder", number)));
            checks.push(Check::Inodes(self.path("folder", number)));
        }
        // Of each kind some, one after the other, each of something else.
        for number in 0..8 {
            checks.push(Check::Http(self.web, number));
            checks.push(Check::Tcp(self.ports[1 + number]));
            if number < 6 {
                checks.push(Check::Pidfile(self.path("pid", number)));
                checks.push(Check::Number(self.path("number", number)));
            }
            if number < 4 {
                checks.push(Check::Name(name(10 + number)));
            }
            match number {
                0..3 => checks.push(Check::MemoryOf(self.path("pid", 6 + number))),
                3 => checks.push(Check::MemoryOfName(name(9))),
                _ => {}
            }
        }
        checks.push(Check::Tcp(self.ports[LISTENERS - 1]));
        checks
    }

    /// Checks each of which hangs.
    pub(crate) fn hung(&self) -> Outcome<Vec<Check>> {
        let pipe = self.path("pipe", 0);
        if !pipe.exists() && !Command::new("mkfifo").arg(&pipe).status()?.success() {
            return Err("mkfifo failed".into());
        }
        let mut checks = vec![Check::Sleep; 10];
        checks.extend([Check::Mute(self.mute), Check::MuteGrpc(self.mute), Check::Pipe(pipe)]);
        Ok(checks)
    }
}

/// Hands each connection to `take`, for ever; the port.
async fn listen(take: impl Fn(TcpStream) + Send + Sync + 'static) -> Outcome<u16> {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            take(stream);
        }
    });
    Ok(port)
}

/// Answers one request over HTTP.
async fn answer(mut stream: TcpStream) {
    let (mut request, mut buffer) = (Vec::new(), [0; 1_024]);
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read(&mut buffer).await {
            Ok(count @ 1..) => request.extend_from_slice(&buffer[..count]),
            _ => return,
        }
    }
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
    // Who does not want the answer does without.
    let _ = stream.write_all(answer).await;
}

/// The agent's configuration with these checks only, by ids that begin with `prefix`.
pub(crate) fn for_agent(prefix: &str, checks: &[Check], interval: Duration) -> String {
    let mut text = String::new();
    for (number, check) in checks.iter().enumerate() {
        let (probe, more) = match check {
            Check::Memory => ("memory-host", "crit = \"100\"".to_owned()),
            Check::Load => ("load", "warn = \"1e9\"".to_owned()),
            Check::Bytes(path) => ("disk-bytes", format!("target = {path:?}\ncrit = \"0\"")),
            Check::Inodes(path) => ("disk-inodes", format!("target = {path:?}\ncrit = \"0\"")),
            Check::MemoryOf(pidfile) => ("memory-process", format!("target = {pidfile:?}")),
            Check::MemoryOfName(name) => ("memory-process", format!("target = {name:?}")),
            Check::Pidfile(pidfile) | Check::Pipe(pidfile) => {
                ("process", format!("target = {pidfile:?}"))
            }
            Check::Name(name) => ("process", format!("target = {name:?}")),
            Check::Tcp(port) => ("tcp", format!("target = \"127.0.0.1:{port}\"")),
            Check::Http(port, page) => {
                ("http", format!("target = \"http://127.0.0.1:{port}/{page}\""))
            }
            Check::Mute(port) => ("http", format!("target = \"http://127.0.0.1:{port}/\"")),
            Check::MuteGrpc(port) => {
                ("grpc-health", format!("target = \"http://127.0.0.1:{port}\""))
            }
            Check::Number(path) => {
                ("queue-command", format!("command = [\"cat\", {path:?}]\ncrit = \"1000\""))
            }
            Check::Sleep => {
                // Each with arguments of its own, so that none stands for another.
                let command = format!("command = [\"sleep\", \"{}\"]", 60 + number);
                ("queue-command", format!("{command}\ncrit = \"1000\""))
            }
        };
        let _ = write!(
            text,
            "[[health.check]]\nid = \"{prefix}-{number}\"\nprobe = \"{probe}\"\ninterval = \"{}ms\"\n{more}\n",
            interval.as_millis()
        );
    }
    text
}

/// The same for Monit, one service each; both of the host are one, since it takes no two. It looks at file systems
/// by where they are mounted.
pub(crate) fn for_monit(prefix: &str, checks: &[Check]) -> String {
    let mut text = String::new();
    for (number, check) in checks.iter().enumerate() {
        let (kind, what) = match check {
            Check::Memory => (
                "system",
                "  if memory usage > 100% then alert\n  if loadavg (5min) > 100000 then alert"
                    .to_owned(),
            ),
            Check::Bytes(_) => {
                ("filesystem", " with path /\n  if space usage > 100% then alert".to_owned())
            }
            Check::Inodes(_) => {
                ("filesystem", " with path /\n  if inode usage > 100% then alert".to_owned())
            }
            Check::MemoryOf(pidfile) => {
                let what = format!(" with pidfile {}", pidfile.display());
                ("process", format!("{what}\n  if total memory > 100 GB then alert"))
            }
            Check::MemoryOfName(name) => {
                let what = format!(" with matching \"{name}\"");
                ("process", format!("{what}\n  if total memory > 100 GB then alert"))
            }
            Check::Pidfile(pidfile) => ("process", format!(" with pidfile {}", pidfile.display())),
            Check::Name(name) => ("process", format!(" with matching \"{name}\"")),
            Check::Tcp(port) => {
                let what = " with address 127.0.0.1\n  if failed port";
                ("host", format!("{what} {port} timeout 1 seconds then alert"))
            }
            Check::Http(port, page) => {
                let what = " with address 127.0.0.1\n  if failed port";
                let how = format!("protocol http request \"/{page}\" with timeout 1 seconds");
                ("host", format!("{what} {port} {how} then alert"))
            }
            Check::Mute(port) => {
                let what = " with address 127.0.0.1\n  if failed port";
                ("host", format!("{what} {port} protocol http with timeout 1 seconds then alert"))
            }
            Check::Number(path) => {
                let what = format!(" with path \"/bin/cat {}\" timeout 1 seconds", path.display());
                ("program", format!("{what}\n  if status != 0 then alert"))
            }
            Check::Sleep => {
                let what = format!(" with path \"/bin/sleep {}\" timeout 1 seconds", 60 + number);
                ("program", format!("{what}\n  if status != 0 then alert"))
            }
            Check::Load | Check::MuteGrpc(_) | Check::Pipe(_) => continue,
        };
        let _ = writeln!(text, "check {kind} {prefix}-{number}{what}");
    }
    text
}
