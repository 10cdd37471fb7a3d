//! A real etcd of its own (Debian's, 3.4): its data is in a temporary folder, and is gone with its value.

mod cluster;
mod data;
mod options;

use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tempfile::TempDir;

pub use self::cluster::EtcdCluster;
pub use self::options::{EtcdOptions, EtcdTls};
use crate::clock::wait_until;
use crate::daemon::Daemon;
use crate::netns::Namespace;
use crate::ports::free_port;
use crate::private_ca::PrivateCa;

const SERVER: &str = "/usr/bin/etcd";
const CLIENT: &str = "/usr/bin/etcdctl";

/// A member, until it is dropped; the only one of its cluster unless it is one of an [`EtcdCluster`].
pub struct Etcd {
    daemon: Mutex<Option<Daemon>>,
    folder: TempDir,
    options: EtcdOptions,
    tls: Option<EtcdTls>,
    /// What vouches for its certificate, with the folder of the files.
    _ca: Option<PrivateCa>,
    place: Place,
    /// As etcd takes it: of all members, this one too.
    members: String,
    /// It demands logins by now.
    logins: AtomicBool,
}

/// What a member is called, and where it listens.
#[derive(Debug, Clone)]
struct Place {
    name: String,
    host: Ipv4Addr,
    client: u16,
    peer: u16,
}

impl Place {
    fn new(name: &str, namespace: Option<&Namespace>) -> Self {
        let host = namespace.map_or(Ipv4Addr::LOCALHOST, Namespace::address);
        Self { name: name.to_owned(), host, client: free_port(), peer: free_port() }
    }

    fn peer_url(&self) -> String {
        format!("http://{}:{}", self.host, self.peer)
    }

    fn member(&self) -> String {
        format!("{}={}", self.name, self.peer_url())
    }
}

impl Etcd {
    /// One as it comes, on loopback.
    ///
    /// # Panics
    /// When it is missing (`tests/run` installs it), or does not start.
    pub fn start() -> Self {
        Self::with(EtcdOptions::default())
    }

    /// One that is as these options say.
    ///
    /// # Panics
    /// As [`Etcd::start`].
    pub fn with(options: EtcdOptions) -> Self {
        let place = Place::new("only", options.namespace.as_ref());
        let members = place.member();
        let server = Self::prepare(options, place, members);
        server.restart();
        server.enable_auth();
        server
    }

    fn prepare(options: EtcdOptions, place: Place, members: String) -> Self {
        let folder = tempfile::Builder::new().prefix("genesis-etcd-").tempdir().expect("a folder");
        let (ca, tls) = options.tls.then(|| EtcdTls::issue(&place.host.to_string())).unzip();
        let (daemon, logins) = (Mutex::new(None), AtomicBool::new(false));
        Self { daemon, folder, options, tls, _ca: ca, place, members, logins }
    }

    /// Where clients reach it: a URL.
    pub fn endpoint(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}:{}", self.place.host, self.place.client)
    }

    /// [`Etcd::endpoint`] as a list, as the agent's configuration has it.
    pub fn endpoints(&self) -> Vec<String> {
        vec![self.endpoint()]
    }

    /// What a client needs where this was asked for.
    ///
    /// # Panics
    /// When it was not.
    pub fn tls(&self) -> &EtcdTls {
        self.tls.as_ref().expect("EtcdOptions::tls")
    }

    /// What it has logged, from warnings up, also before it was started again.
    ///
    /// # Panics
    /// When that can't be read.
    pub fn log(&self) -> String {
        let bytes = std::fs::read(self.folder.path().join("log")).expect("its log");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Stops it where it is: connections to it are taken, and nothing answers.
    ///
    /// # Panics
    /// When it is down.
    pub fn freeze(&self) {
        self.daemon().as_ref().expect("it runs").pause();
    }

    /// Lets it go on.
    ///
    /// # Panics
    /// When it is down.
    pub fn thaw(&self) {
        self.daemon().as_ref().expect("it runs").resume();
    }

    /// SIGKILL; connections to it are refused.
    pub fn kill(&self) {
        *self.daemon() = None;
    }

    /// SIGTERM; it ends its streams and hands its lead over.
    ///
    /// # Panics
    /// When it is down, or does not end.
    pub fn stop(&self) {
        self.daemon().take().expect("it runs").terminate();
    }

    /// Starts it, after a [`Etcd::kill`] if it runs, with the same ports and data, and waits until it is healthy.
    ///
    /// # Panics
    /// When it does not become so, as is the case without most of its cluster ([`Etcd::launch`] is for that).
    pub fn restart(&self) {
        self.launch();
        self.wait_healthy();
    }

    /// As [`Etcd::restart`], but waits only until its port is open.
    ///
    /// # Panics
    /// When that does not happen.
    pub fn launch(&self) {
        self.kill();
        let daemon = Daemon::spawn(&mut self.command(), &self.folder.path().join("log"));
        let ready = self.daemon().insert(daemon).wait_ready("etcd's port", || self.listens());
        assert!(ready, "etcd has ended: {}", self.log());
    }

    /// Waits until it commits.
    ///
    /// # Panics
    /// When it does not.
    pub fn wait_healthy(&self) {
        wait_until("a healthy etcd", || {
            self.try_ctl(&["--command-timeout=2s", "endpoint", "health"]).is_ok()
        });
    }

    /// It is killed, loses everything, and is started: its revisions begin anew. Logins are as they were.
    ///
    /// # Panics
    /// When it is one of several, or does not start.
    pub fn wipe(&self) {
        self.assert_alone();
        self.lose();
        self.restart();
        self.enable_auth();
    }

    /// Saves all it has, as [`Etcd::restore`] takes it.
    ///
    /// # Panics
    /// When that fails.
    pub fn snapshot(&self, name: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        let _ = std::fs::remove_file(&path);
        self.ctl(&["snapshot", "save", text(&path)]);
        path
    }

    /// It is killed, loses everything, and is started with what a snapshot holds: its revision is that of then.
    ///
    /// # Panics
    /// When it is one of several, or does not start.
    pub fn restore(&self, snapshot: &Path) {
        self.assert_alone();
        self.lose();
        let (name, url, data) = (&self.place.name, self.place.peer_url(), self.data());
        let place = ["--name", name, "--initial-advertise-peer-urls", &url];
        let cluster = ["--initial-cluster", &self.members, "--data-dir", text(&data)];
        self.ctl(&[&["snapshot", "restore", text(snapshot)], &place[..], &cluster[..]].concat());
        self.logins.store(self.options.auth.is_some(), Ordering::SeqCst);
        self.restart();
    }

    fn assert_alone(&self) {
        assert!(!self.members.contains(','), "a member that loses its data is a new one");
    }

    fn lose(&self) {
        self.kill();
        std::fs::remove_dir_all(self.data()).expect("its data is ours");
        self.logins.store(false, Ordering::SeqCst);
    }

    /// The folder of its data.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn daemon(&self) -> MutexGuard<'_, Option<Daemon>> {
        // Whoever panicked with it was a test that has failed.
        self.daemon.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listens(&self) -> bool {
        let address = (self.place.host, self.place.client);
        let connect = || TcpStream::connect(address).is_ok();
        self.options.namespace.as_ref().map_or_else(connect, |namespace| namespace.within(connect))
    }

    /// A program where it runs, with nothing of ours in its environment: each flag of etcd is a variable too, and its
    /// client would go through a proxy.
    fn program(&self, path: &str) -> Command {
        let mut command = match &self.options.namespace {
            Some(namespace) => namespace.command(path),
            None => Command::new(path),
        };
        command.env_clear().stdin(Stdio::null());
        command
    }

    fn command(&self) -> Command {
        let mut command = self.program(SERVER);
        let (client, peer) = (self.endpoint(), self.place.peer_url());
        command.arg("--data-dir").arg(self.data()).args(["--name", &self.place.name]);
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &self.members]);
        command.args(["--logger", "zap", "--log-outputs", "stderr", "--log-level", "warn"]);
        if let Some(bytes) = self.options.quota_bytes {
            command.args(["--quota-backend-bytes", &bytes.to_string()]);
        }
        if let Some(tls) = &self.tls {
            command.arg("--cert-file").arg(&tls.server.fullchain);
            command.arg("--key-file").arg(&tls.server.key);
            command.arg("--trusted-ca-file").arg(&tls.ca).arg("--client-cert-auth");
            // It would show the server's certificate as a client's, for which that is not good.
            command.arg("--enable-grpc-gateway=false");
        }
        command
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary paths are text")
}
