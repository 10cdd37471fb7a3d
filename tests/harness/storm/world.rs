//! The world in which the storm is: the real agent on a disk and with a clock of its own, and around it, for real, all
//! that it works with, each behind a proxy.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::proxy::Proxy;
use crate::acme::Pebble;
use crate::alerts::{channel, said, secret};
use crate::certificates::{ca, certificate};
use crate::clock::{now, wait_until};
use crate::etcd::Etcd;
use crate::health::Patient;
use crate::http_script::{HttpScript, says};
use crate::paper::PaperVenue;
use crate::ports::free_port;
use crate::postgres::Postgres;
use crate::s3::S3;
use crate::smtp::Smtp;
use crate::wall_clock::WallClock;
use crate::{LoopDisk, TestAgent, Writer, source};

mod managed;

pub use managed::Managed;

/// What the certificate is for.
pub const DOMAIN: &str = "gw.example.test";
/// The log's type.
pub const LOG: &str = "trading";
/// What differs in the two configurations; it is in force at once, and nothing here depends on it.
const DIFFERENT: [&str; 2] = ["advisories_max_age = \"48h\"", "advisories_max_age = \"72h\""];
/// So many lines are written in a second.
const RATE: u64 = 100;
/// Where a commit of observations waits while the file that [`World::pause`] names is there: a slow disk.
const SLOW: &str = "baselines.before-commit";

/// What the agent works with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Service {
    /// A database that it cares for and backs up.
    Postgres,
    /// What holds the fleet together.
    Etcd,
    /// A CA.
    Pebble,
    /// Through which people get mail.
    Mail,
    /// Which calls people.
    Pager,
    /// The archive of logs.
    S3,
    /// The trading system.
    Venue,
    /// A service whose histograms are scraped.
    Metrics,
    /// The index that an application's libraries come from.
    Index,
    /// An application that the agent updates, where it says whether it is well.
    Application,
}

impl Service {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Postgres,
        Self::Etcd,
        Self::Pebble,
        Self::Mail,
        Self::Pager,
        Self::S3,
        Self::Venue,
        Self::Metrics,
        Self::Index,
        Self::Application,
    ];

    /// Those that are quick to start and whose work is quick.
    pub const QUICK: [Self; 5] = [Self::Mail, Self::Pager, Self::S3, Self::Venue, Self::Metrics];

    /// Whether what is asked of it may be asked twice on the way: a request stands alone there.
    pub fn repeats(self) -> bool {
        matches!(self, Self::Pager | Self::S3)
    }

    /// Its name in a report.
    pub fn name(self) -> &'static str {
        match self {
            Self::Postgres => "PostgreSQL",
            Self::Etcd => "etcd",
            Self::Pebble => "pebble",
            Self::Mail => "SMTP",
            Self::Pager => "pager",
            Self::S3 => "S3",
            Self::Venue => "trading system",
            Self::Metrics => "metrics target",
            Self::Index => "package index",
            Self::Application => "application",
        }
    }
}

/// All of it. What is not among the services that it was started with is not there.
pub struct World {
    /// The agent, whose state is on [`World::disk`].
    pub agent: TestAgent,
    /// Its wall clock.
    pub clock: WallClock,
    /// About whom people hear when it is ill.
    pub patient: Patient,
    /// Who writes the log; `None` once it has ended.
    pub writer: Option<Writer>,
    /// The database.
    pub postgres: Option<Postgres>,
    /// The store of the fleet.
    pub etcd: Option<Etcd>,
    /// The CA.
    pub pebble: Option<Pebble>,
    /// The mail server.
    pub mail: Option<Smtp>,
    /// The pager.
    pub pager: Option<HttpScript>,
    /// The archive.
    pub s3: Option<S3>,
    /// The trading system.
    pub venue: Option<PaperVenue>,
    /// What is scraped.
    pub metrics: Option<HttpScript>,
    /// The application that it updates.
    pub managed: Option<Managed>,
    /// Of the two configurations that are in force by turns.
    pub digests: [String; 2],
    proxies: BTreeMap<Service, Proxy>,
    folder: TempDir,
    /// The disk of the state. Behind the agent, so that it is there as long as that.
    pub disk: LoopDisk,
}

impl World {
    /// Starts the services and the agent, with what its load needs: an experiment, and a verified backup of the database.
    ///
    /// # Panics
    /// When one of them does not start.
    pub fn start(services: &[Service]) -> Self {
        let has = |service: Service| services.contains(&service);
        let folder = tempfile::Builder::new().prefix("genesis-storm-").tempdir().expect("a folder");
        let mut agent = TestAgent::new(|_| String::new());
        std::fs::create_dir(agent.state()).expect("a folder for the state");
        let size = if has(Service::Postgres) { 768 } else { 160 };
        let disk = LoopDisk::ext4_at(size, &agent.state());
        let clock = WallClock::of(&mut agent);
        let temporary = folder.path().join("temporary");
        std::fs::create_dir(&temporary).expect("a folder of our own");
        agent.environment("TMPDIR", temporary.to_str().expect("UTF-8"));
        let port = free_port();
        let database = format!("listen_addresses = '127.0.0.1'\nport = {port}\n");
        let mut world = Self {
            patient: Patient::new(folder.path(), "feed"),
            postgres: has(Service::Postgres).then(|| Postgres::start(&database)),
            etcd: has(Service::Etcd).then(Etcd::start),
            pebble: has(Service::Pebble).then(Pebble::start),
            mail: has(Service::Mail).then(|| Smtp::start([], None)),
            pager: has(Service::Pager).then(|| HttpScript::start([], says(202, "{}"))),
            s3: has(Service::S3).then(S3::start),
            venue: has(Service::Venue).then(|| PaperVenue::start(folder.path(), book())),
            metrics: has(Service::Metrics).then(|| HttpScript::start([], says(200, &histogram()))),
            managed: has(Service::Application).then(Managed::lay_out),
            digests: <[String; 2]>::default(),
            proxies: BTreeMap::new(),
            writer: None,
            agent,
            clock,
            disk,
            folder,
        };
        let config = world.config(port);
        world.agent.configure(&config);
        let slow = format!("{SLOW}:{}", world.pause().display());
        world.agent.environment("GENESIS_PAUSE", &slow);
        world.agent.start();
        world.writer = Some(Writer::start(&world.agent.log("t.log"), RATE));
        world.prepare();
        world
    }

    /// Puts a proxy before a service; where that is.
    fn behind(&mut self, service: Service, proxy: Proxy) -> SocketAddr {
        let address = proxy.address();
        self.proxies.insert(service, proxy);
        address
    }

    /// What the agent is told.
    fn config(&mut self, port: u16) -> String {
        let log = self.agent.log("t.log");
        let mut text = source(LOG, &log, "1GB");
        text.push_str("[matrices]\nwindow = \"4d\"\n[backup]\nkeep = \"1\"\n");
        text.push_str(&format!("[dependencies]\n{}\n", DIFFERENT[0]));
        if let Some(s3) = &self.s3 {
            let archive = s3.config("storm", "2s");
            let server = address_in(&archive);
            let proxy = self.behind(Service::S3, Proxy::start(server));
            text.push_str(&archive.replace(&server.to_string(), &proxy.to_string()));
        }
        if let Some(venue) = &self.venue {
            let target = venue.target();
            let socket = PathBuf::from(target.strip_prefix("unix:").expect("a unix socket"));
            let proxy = self.behind(Service::Venue, Proxy::start_unix(socket));
            text.push_str(&format!(
                "[trading]\ncontrol = {{ grpc = \"http://{proxy}\", timeout = \"500ms\" }}\n\
                 venues = [\"alpha\", \"beta\"]\nclose_within = \"30s\"\n"
            ));
        }
        if self.postgres.is_some() {
            let proxy = Proxy::start(SocketAddr::from(([127, 0, 0, 1], port)));
            let proxy = self.behind(Service::Postgres, proxy);
            text.push_str(&format!(
                "[[database.instance]]\nname = \"trades\"\nurl = \"postgres://postgres@{proxy}/trades\"\n\
                 schedule = \"never\"\ntrades_probe = \"none\"\nmin_free = \"0%\"\nlock_timeout = \"500ms\"\n\
                 bloat_smallest = \"0B\"\nbloat_least = \"1%\"\n"
            ));
        }
        if let Some(etcd) = &self.etcd {
            let server = address_in(&etcd.endpoint());
            let proxy = self.behind(Service::Etcd, Proxy::start(server));
            text.push_str(&format!(
                "[fleet]\nname = \"prod\"\nlease = \"2s\"\n[fleet.etcd]\nendpoints = [\"http://{proxy}\"]\n"
            ));
        }
        if self.pebble.is_some() {
            text.push_str(&self.certificates());
        }
        if let Some(managed) = &self.managed {
            let (index, health) = (managed.index.address(), managed.app.address());
            let index = self.behind(Service::Index, Proxy::start(index));
            let health = self.behind(Service::Application, Proxy::start(health));
            let managed = self.managed.as_ref().expect("it is there");
            text.push_str(&managed.config(index, health));
        }
        if let Some(metrics) = &self.metrics {
            let server = address_in(&metrics.url("/"));
            let proxy = self.behind(Service::Metrics, Proxy::start(server));
            text.push_str(&format!(
                "[[baselines.scrape]]\nurl = \"http://{proxy}/metrics\"\n\
                 metric = \"http_request_duration_seconds\"\noperation = \"scraped.{{handler}}\"\n\
                 interval = \"1s\"\n"
            ));
        }
        let check = self.patient.check().text("severity", "critical");
        let check = check.text("interval", "1s").text("timeout", "900ms");
        let alerts = self.alerts();
        text + &said(&alerts, [&check])
    }

    fn certificates(&mut self) -> String {
        let pebble = self.pebble.as_ref().expect("it was asked for");
        let proxy = Proxy::start(pebble.address());
        // It makes its URLs of the host that it is asked by, and its certificate is for this one.
        let directory = format!("https://{}/dir", proxy.address());
        let (roots, issuers) = (pebble.roots_file(), pebble.issuer_roots_file());
        let cas = ca("pebble", &directory, roots, issuers, "limits = \"none\"");
        let own = certificate(pebble, "gw", &[DOMAIN], "");
        self.behind(Service::Pebble, proxy);
        format!("[certificates]\nkeep = \"100\"\n{cas}{own}")
    }

    fn alerts(&mut self) -> String {
        let (mut names, mut channels) = (Vec::new(), String::new());
        if let Some(pager) = &self.pager {
            let server = address_in(&pager.url("/"));
            let proxy = self.behind(Service::Pager, Proxy::start(server));
            let key = secret(self.folder.path(), "pd", "key");
            let lines = format!("url = \"http://{proxy}/\"\nsecret_file = {key:?}");
            channels.push_str(&channel("pd", "pagerduty", &lines));
            names.push("pd");
        }
        if let Some(mail) = &self.mail {
            let server = mail.address().parse().expect("an address");
            let proxy = self.behind(Service::Mail, Proxy::start(server));
            let lines = format!(
                "server = \"{proxy}\"\ntls = \"none\"\nfrom = \"genesis@h.test\"\nto = [\"a@h.test\"]"
            );
            channels.push_str(&channel("mail", "email", &lines));
            names.push("mail");
        }
        if names.is_empty() { String::new() } else { format!("critical = {names:?}\n{channels}") }
    }

    /// What the load needs before the first fault.
    fn prepare(&mut self) {
        let first = std::fs::read_to_string(self.agent.config()).expect("our file");
        let second = first.replace(DIFFERENT[0], DIFFERENT[1]);
        std::fs::write(self.agent.config(), &second).expect("our file");
        self.digests = [first, second].map(|text| digest(text.as_bytes()));
        let agent = &self.agent;
        agent.ctl(&["config", "reload"]).ok();
        agent
            .ctl(&["param", "set", "--strategy", "storm", "size=0", "--reason", "to begin with"])
            .ok();
        agent
            .ctl(&["param", "set", "--strategy", "mm", "threshold=1", "--reason", "to begin with"])
            .ok();
        // Nothing of it is decided before the storm is over.
        let create = ["experiment", "create", "--strategy", "mm", "--param", "threshold:2"];
        let rules = ["--split", "50/50", "--least", "1000000", "--planned", "1000000"];
        agent.ctl(&[&create[..], &rules, &["--reason", "load"]].concat()).ok();
        if let Some(server) = &self.postgres {
            server.sql("postgres", "CREATE DATABASE trades");
            server.sql(
                "trades",
                "CREATE TABLE orders (id int PRIMARY KEY, price int);
                 INSERT INTO orders SELECT i, i FROM generate_series(1, 20000) i;
                 CREATE INDEX orders_price ON orders (price)",
            );
            agent.ctl(&["backup", "run", "trades"]).ok();
        }
        if self.pebble.is_some() {
            // Nobody serves it, so nobody proves it.
            agent.wait_certificate("gw", "DEPLOYED");
        }
        if self.etcd.is_some() {
            let said = || agent.ctl(&["fleet", "status"]).text();
            wait_until("the fleet", || said().contains("CONNECTED"));
            let set = ["param", "set", "--fleet", "--strategy", "all", "size=0"];
            agent.ctl(&[&set[..], &["--reason", "to begin with"]].concat()).ok();
        }
        if let Some(managed) = &self.managed {
            managed.tell(agent).ok();
        }
    }

    /// The services that there are.
    pub fn services(&self) -> Vec<Service> {
        self.proxies.keys().copied().collect()
    }

    /// What is before a service.
    ///
    /// # Panics
    /// When there is no such service.
    pub fn proxy(&self, service: Service) -> &Proxy {
        &self.proxies[&service]
    }

    /// The file that makes the disk slow while it is there.
    pub fn pause(&self) -> PathBuf {
        self.folder.path().join("slow")
    }

    /// A folder of the storm's own, for files that are sent.
    pub fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// Where the agent has what is temporary.
    pub fn temporary(&self) -> PathBuf {
        self.folder.path().join("temporary")
    }

    /// Whether the agent's process is there and has not ended.
    pub fn is_alive(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.agent.pid()));
        // The state is the first word behind the name, which is in brackets.
        let state = |stat: String| stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
        stat.ok().and_then(state).is_some_and(|state| state != 'Z')
    }
}

/// By which texts of the configuration are told from each other.
pub(super) fn digest(text: &[u8]) -> String {
    hex::encode(Sha256::digest(text))
}

/// A book with a position in two places.
fn book() -> Value {
    json!({ "venues": {
        "alpha": { "positions": { "BTC-PERP": "3" } },
        "beta": { "positions": { "ETH-PERP": "-20" } },
    }})
}

/// What a service tells that does not change: nothing of it is counted, and whether it can be had is what counts.
fn histogram() -> String {
    let at = now().as_second();
    format!(
        "# TYPE http_request_duration_seconds histogram\n\
         http_request_duration_seconds_bucket{{handler=\"place\",le=\"0.01\"}} {at}\n\
         http_request_duration_seconds_bucket{{handler=\"place\",le=\"+Inf\"}} {at}\n\
         http_request_duration_seconds_sum{{handler=\"place\"}} {at}\n\
         http_request_duration_seconds_count{{handler=\"place\"}} {at}\n"
    )
}

/// The address in a text that holds a URL.
fn address_in(text: &str) -> SocketAddr {
    let (_, rest) = text.split_once("http://").expect("a URL");
    let end = rest.find(|it: char| !(it.is_ascii_digit() || it == '.' || it == ':'));
    rest[..end.unwrap_or(rest.len())].parse().expect("an address")
}
