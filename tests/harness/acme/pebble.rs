//! Pebble, the ACME server that Let's Encrypt makes for tests (Debian's, 2.4). It has neither renewal information nor
//! profiles nor rate limits, and never says when to come again: all that is [`FaultProxy`](super::FaultProxy)'s. It
//! asks nobody about CAA.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, json};
use tempfile::TempDir;

use super::Challtestsrv;
use super::fetch::get;
use crate::daemon::Daemon;
use crate::ports::free_port;
use crate::private_ca::PrivateCa;

/// What a Pebble is like.
#[derive(Debug, Clone)]
pub struct Options {
    validity: Duration,
    nonce_reject: u8,
    authz_reuse: u8,
    external_accounts: Vec<(String, String)>,
    blocked: Vec<String>,
    http_port: Option<u16>,
    tls_port: Option<u16>,
    dns_server: Option<SocketAddr>,
    answers_http01: bool,
}

impl Options {
    /// How long its certificates are good for; ninety days unless this is called.
    #[must_use]
    pub fn validity(mut self, validity: Duration) -> Self {
        self.validity = validity;
        self
    }

    /// So many per cent of good nonces are refused; none unless this is called.
    #[must_use]
    pub fn nonce_reject(mut self, percent: u8) -> Self {
        self.nonce_reject = percent;
        self
    }

    /// So many per cent of new orders get a valid authorization that there is already; none unless this is called.
    #[must_use]
    pub fn authz_reuse(mut self, percent: u8) -> Self {
        self.authz_reuse = percent;
        self
    }

    /// Accounts need one of these external ones, each with an id and a key of HMAC (base64url, without padding).
    #[must_use]
    pub fn external_accounts(mut self, accounts: Vec<(String, String)>) -> Self {
        self.external_accounts = accounts;
        self
    }

    /// Orders with a name in this domain are refused with `rejectedIdentifier`.
    #[must_use]
    pub fn blocked(mut self, domain: &str) -> Self {
        self.blocked.push(domain.to_owned());
        self
    }

    /// Where it looks for answers to http-01; a free port unless this is called.
    #[must_use]
    pub fn http_port(mut self, port: u16) -> Self {
        self.http_port = Some(port);
        self
    }

    /// Where it looks for answers to tls-alpn-01; a free port unless this is called.
    #[must_use]
    pub fn tls_port(mut self, port: u16) -> Self {
        self.tls_port = Some(port);
        self
    }

    /// Whom it asks about names, such as a [`Bind9`](super::Bind9), in place of its own [`Challtestsrv`].
    #[must_use]
    pub fn dns_server(mut self, server: SocketAddr) -> Self {
        self.dns_server = Some(server);
        self
    }

    /// Its [`Challtestsrv`] answers http-01, by [`Challtestsrv::set_http01`], so that an order needs no agent.
    #[must_use]
    pub fn answers_http01(mut self) -> Self {
        self.answers_http01 = true;
        self
    }

    /// Starts it.
    ///
    /// # Panics
    /// When it is missing (`tests/run` installs it), or does not start.
    pub fn start(self) -> Pebble {
        Pebble::of(self)
    }
}

/// The server, until it is dropped.
pub struct Pebble {
    daemon: Option<Daemon>,
    names: Challtestsrv,
    ca: Arc<PrivateCa>,
    folder: TempDir,
    issuer_roots: PathBuf,
    options: Options,
    ports: Ports,
}

#[derive(Debug, Clone, Copy)]
struct Ports {
    listen: u16,
    management: u16,
    http: u16,
    tls: u16,
}

impl Pebble {
    /// One as it comes.
    ///
    /// # Panics
    /// As [`Options::start`].
    pub fn start() -> Self {
        Self::options().start()
    }

    /// What to change before it is started.
    pub fn options() -> Options {
        Options {
            validity: Duration::from_secs(90 * 86_400),
            nonce_reject: 0,
            authz_reuse: 0,
            external_accounts: Vec::new(),
            blocked: Vec::new(),
            http_port: None,
            tls_port: None,
            dns_server: None,
            answers_http01: false,
        }
    }

    fn of(options: Options) -> Self {
        let folder = tempfile::Builder::new().prefix("genesis-acme-").tempdir().expect("a folder");
        let ports = Ports {
            listen: free_port(),
            management: free_port(),
            http: options.http_port.unwrap_or_else(free_port),
            tls: options.tls_port.unwrap_or_else(free_port),
        };
        let names = Challtestsrv::start(options.answers_http01.then_some(ports.http));
        let issuer_roots = folder.path().join("issuer-roots.pem");
        let ca = Arc::new(PrivateCa::new());
        let mut pebble = Self { daemon: None, names, ca, folder, issuer_roots, options, ports };
        pebble.configure();
        pebble.start_again();
        pebble
    }

    fn configure(&self) {
        let leaf = self.ca.issue("pebble", &["localhost", "127.0.0.1"]);
        let (options, ports) = (&self.options, self.ports);
        let accounts = options.external_accounts.iter();
        let accounts: Map<_, _> = accounts.map(|(id, key)| (id.clone(), json!(key))).collect();
        let config = json!({"pebble": {
            "listenAddress": format!("127.0.0.1:{}", ports.listen),
            "managementListenAddress": format!("127.0.0.1:{}", ports.management),
            "certificate": leaf.fullchain,
            "privateKey": leaf.key,
            "httpPort": ports.http,
            "tlsPort": ports.tls,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": !accounts.is_empty(),
            "externalAccountMACKeys": accounts,
            "domainBlocklist": options.blocked,
            "certificateValidityPeriod": options.validity.as_secs(),
        }});
        std::fs::write(self.folder.path().join("config.json"), config.to_string()).expect("a file");
    }

    /// The URL of its directory.
    pub fn directory(&self) -> String {
        format!("https://127.0.0.1:{}/dir", self.ports.listen)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.ports.listen))
    }

    /// The file (PEM) with the root of its own certificate, which is not one that it issues.
    pub fn roots_file(&self) -> &Path {
        self.ca.roots_file()
    }

    /// What vouches for its own certificate.
    pub(super) fn ca(&self) -> &Arc<PrivateCa> {
        &self.ca
    }

    /// The file (PEM) with the root of what it issues. Another one is in it whenever it was started again.
    pub fn issuer_roots_file(&self) -> &Path {
        &self.issuer_roots
    }

    /// The certificate (PEM) between its root and what it issues.
    ///
    /// # Panics
    /// When it is down.
    pub fn issuer_chain(&self) -> String {
        self.managed("intermediates/0")
    }

    /// "Valid" or "Revoked": what it thinks of a certificate that it issued, by its serial number in hex.
    ///
    /// # Panics
    /// When it is down, or has not issued it.
    pub fn status_of(&self, serial: &str) -> String {
        let status: serde_json::Value =
            serde_json::from_str(&self.managed(&format!("cert-status-by-serial/{serial}")))
                .expect("JSON");
        status["Status"].as_str().expect("a status").to_owned()
    }

    #[track_caller]
    fn managed(&self, path: &str) -> String {
        let url = format!("https://127.0.0.1:{}/{path}", self.ports.management);
        let answer = get(&url, self.roots_file()).expect("Pebble's management interface");
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        answer.body
    }

    /// The port at which it looks for answers to http-01.
    pub fn http_port(&self) -> u16 {
        self.ports.http
    }

    /// The port at which it looks for answers to tls-alpn-01.
    pub fn tls_port(&self) -> u16 {
        self.ports.tls
    }

    /// What it asks about names, unless it was given another server.
    pub fn names(&self) -> &Challtestsrv {
        &self.names
    }

    /// Whom it asks about names.
    pub fn dns_server(&self) -> SocketAddr {
        self.options.dns_server.unwrap_or_else(|| self.names.dns())
    }

    /// Ends it; connections to it are refused. The name server goes on.
    pub fn stop(&mut self) {
        self.daemon = None;
    }

    /// Starts it again at the same ports. It has forgotten all accounts, orders and certificates, and issues from a new
    /// root; what it has logged before still counts.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start_again(&mut self) {
        self.stop();
        let mut command = Command::new("/usr/bin/pebble");
        // Nothing of ours: a proxy in the environment would be asked for its challenges.
        command.env_clear().env("PEBBLE_VA_NOSLEEP", "1");
        command.env("PEBBLE_WFE_NONCEREJECT", self.options.nonce_reject.to_string());
        command.env("PEBBLE_AUTHZREUSE", self.options.authz_reuse.to_string());
        command.arg("-config").arg(self.folder.path().join("config.json"));
        command.args(["-dnsserver", &self.dns_server().to_string()]);
        let mut daemon = Daemon::spawn(&mut command, &self.folder.path().join("log"));
        let (directory, roots) = (self.directory(), self.roots_file());
        let ready = daemon.wait_ready("Pebble", || get(&directory, roots).is_ok());
        assert!(ready, "{}", daemon.log());
        self.daemon = Some(daemon);
        std::fs::write(&self.issuer_roots, self.managed("roots/0")).expect("a file");
    }

    /// Stops it where it is: connections are taken, and nothing answers.
    ///
    /// # Panics
    /// When it is down.
    pub fn pause(&self) {
        self.daemon.as_ref().expect("it runs").pause();
    }

    /// Lets it go on.
    ///
    /// # Panics
    /// When it is down.
    pub fn resume(&self) {
        self.daemon.as_ref().expect("it runs").resume();
    }

    /// What it has logged, also before it was started again.
    ///
    /// # Panics
    /// When that can't be read.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).expect("its log")
    }

    /// How many orders were made, also before it was started again. It makes a new one even where an equal one is
    /// pending.
    pub fn orders(&self) -> usize {
        self.logged(" Added order ")
    }

    /// How many accounts were made, as [`Pebble::orders`].
    pub fn accounts(&self) -> usize {
        // One line for each new one; those that are asked for again have none.
        self.logged(" accounts in memory")
    }

    /// How many challenges it was told to look at, as [`Pebble::orders`].
    pub fn validations(&self) -> usize {
        self.logged(" Pulled a task from the Tasks queue")
    }

    /// How many of those went wrong.
    pub fn failed_validations(&self) -> usize {
        self.logged(" set INVALID by completed challenge ")
    }

    /// The serial numbers (hex) of the certificates that were issued, in their order, as [`Pebble::orders`].
    pub fn issued(&self) -> Vec<String> {
        let log = self.log();
        let serials = log.lines().filter_map(|line| line.split_once(" Issued certificate serial "));
        let serials = serials.filter_map(|(_, rest)| rest.split_whitespace().next());
        serials.map(str::to_owned).collect()
    }

    fn logged(&self, what: &str) -> usize {
        self.log().lines().filter(|line| line.contains(what)).count()
    }
}
