//! The configuration: one TOML of the sections that the domains own. All errors are reported at once.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use crate::alerts;
use crate::error::{Error, Result, Unmet};
use crate::fleet;
use crate::operations::backup;
use crate::operations::baselines;
use crate::operations::breaker;
use crate::operations::certificates;
use crate::operations::database;
use crate::operations::dependencies;
use crate::operations::experiments;
use crate::operations::health;
use crate::operations::logs;
use crate::operations::matrices;
use crate::operations::recovery::{self, Contacts};

pub mod means;
pub mod named;
pub mod places;
pub mod reader;
pub mod reference;
pub mod telemetry;
#[cfg(test)]
mod tests;
pub mod units;

pub use places::Places;
use reader::{KeyDoc, Problem, Record, Section};

/// A configuration file's size limit in bytes.
const FILE_LIMIT: u64 = 1 << 20;

/// `[listen]`: where the agent can be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// Loopback address for /metrics and /api.
    pub http: SocketAddr,
    /// Address of HTTP over TLS, for clients with a certificate; `None`: off.
    pub https: Option<SocketAddr>,
    /// Address of gRPC over TLS; served once `[tls]` is configured.
    pub grpc: SocketAddr,
    /// So many TCP connections are held at a time.
    pub max_connections: usize,
    /// Loopback address of plaintext gRPC for viewers; `None`: off.
    pub plaintext_grpc: Option<SocketAddr>,
}

/// `[tls]`: what secures gRPC over TCP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate chain, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// The CAs that clients' certificates must come from, PEM.
    pub client_ca: PathBuf,
    /// Revocation lists of those CAs, PEM; `None`: nothing is ever revoked.
    pub revocation_list: Option<PathBuf>,
    /// The managed certificate that certificate and key are of; `None`: files of the operator.
    pub managed: Option<String>,
}

/// `[agent]`: the agent itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentSection {
    /// Unix group whose members may operate through the socket; empty: none.
    pub operator_group: String,
    /// What goes into the agent's own log.
    pub log_level: String,
    /// This is a host for practice: an emergency goes to the sandbox.
    pub staging: bool,
}

/// A whole configuration, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// See [`Listen`].
    pub listen: Listen,
    /// See [`TlsFiles`]; `None`: no gRPC over TLS.
    pub tls: Option<TlsFiles>,
    /// See [`AgentSection`].
    pub agent: AgentSection,
    /// `[tracing]`.
    pub tracing: telemetry::Telemetry,
    /// `[fleet]`.
    pub fleet: fleet::Config,
    /// Whom to call.
    pub contacts: Contacts,
    /// What an emergency does about trading.
    pub recovery: recovery::Config,
    /// Log archival.
    pub logs: logs::Config,
    /// Checks and remediation.
    pub health: health::Config,
    /// `[alerts]`.
    pub alerts: alerts::Config,
    /// Circuit breakers.
    pub breaker: breaker::Config,
    /// Performance baselines.
    pub baselines: baselines::Config,
    /// Strategy A/B tests.
    pub experiments: experiments::Config,
    /// Correlation matrices.
    pub matrices: matrices::Config,
    /// What applications are built of.
    pub dependencies: dependencies::Config,
    /// Databases.
    pub database: database::Config,
    /// Backups.
    pub backup: backup::Config,
    /// Certificates.
    pub certificates: certificates::Config,
    /// Where it came from; empty: built-in defaults.
    pub source: String,
    /// Its text as it was read.
    pub text: String,
    /// TOML with the defaults filled in.
    pub effective: String,
}

/// Whoever takes over what a reload changes.
#[async_trait::async_trait]
pub trait Follower: Send + Sync {
    /// Takes over this configuration. What it can't take over it says in the journal: the configuration is in force
    /// already.
    async fn follow(&self, config: &Config);
}

/// What came of reading a text.
pub struct Checked {
    /// The configuration, when there was no problem.
    pub config: Option<Config>,
    /// Every problem, in order of the text.
    pub problems: Vec<Problem>,
    /// Every key there is.
    pub keys: Vec<KeyDoc>,
}

impl Config {
    /// Reads and checks `text`. Pure: it looks at nothing of the host.
    pub fn parse(text: &str, source: &str, places: &Places) -> Checked {
        let record = Record::new(text);
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in &errors {
            record.problem(error.span(), "", error.message().replace('\n', " "));
        }
        let root = Section::root(&record, table.get_ref());
        let tls = read_tls(&root, places, &named::certificates(table.get_ref()));
        let listen = read_listen(&root, tls.is_some());
        let agent = read_agent(&root);
        let fleet = fleet::Config::read(&root);
        let tracing = telemetry::Telemetry::read(&root);
        let contacts = Contacts::read(&root);
        let recovery =
            recovery::Config::read(&root, agent.staging, &named::sources(table.get_ref()));
        let logs = logs::Config::read(&root, places);
        let health = health::Config::read(&root, &named::databases(table.get_ref()));
        let alerts = alerts::Config::read(&root);
        let breaker = breaker::Config::read(&root);
        let baselines = baselines::Config::read(&root);
        let experiments = experiments::Config::read(&root);
        let matrices = matrices::Config::read(&root, fleet.etcd.is_some());
        let dependencies = dependencies::Config::read(&root);
        let database = database::Config::read(&root);
        let backup = backup::Config::read(&root, places, &backed_up(&database));
        let certificates = certificates::Config::read(&root, places);
        root.finish();
        let (problems, keys, effective) = record.finish();
        let config = problems.is_empty().then(|| Self {
            listen,
            tls,
            agent,
            fleet,
            tracing,
            contacts,
            recovery,
            logs,
            health,
            alerts,
            breaker,
            baselines,
            experiments,
            matrices,
            dependencies,
            database,
            backup,
            certificates,
            source: source.to_owned(),
            text: text.to_owned(),
            effective: effective.trim_start().to_owned(),
        });
        Checked { config, problems, keys }
    }

    /// Every key there is, as documented. A list of tables shows its keys only when it has an entry, so
    /// this reads a text with one of each.
    pub fn keys(places: &Places) -> Vec<KeyDoc> {
        let text = "[[logs.source]]\n[[health.check]]\n[[breaker.operation]]\n[alerts.channel.NAME]\n\
             [[database.instance]]\n[[database.instance.bench]]\n[[backup.source]]\n[[backup.source.query]]\n[[certificates.acme]]\n\
             [[certificates.certificate]]\n[[certificates.certificate.deploy]]\n\
             [[baselines.scrape]]\n[[dependencies.project]]\n[[dependencies.project.ignore]]\n";
        Self::parse(text, "", places).keys
    }

    /// The built-in defaults.
    ///
    /// # Errors
    /// Never, unless the defaults contradict each other, which a test rules out.
    pub fn defaults(places: &Places) -> Result<Self> {
        accept(Self::parse("", "", places), "the built-in defaults")
    }

    /// Reads the file at `path`, or the defaults when it is `None`.
    ///
    /// # Errors
    /// `CONFIG_UNREADABLE`, or `CONFIG_INVALID` with every problem.
    pub fn load(path: Option<&Path>, places: &Places) -> Result<Self> {
        let Some(path) = path else { return Self::defaults(places) };
        let text = read_text(path)?;
        let shown = path.display().to_string();
        accept(Self::parse(&text, &shown, places), &shown)
    }

    /// The keys of `other` that differ and can only change with a restart.
    pub fn restart_needed(&self, other: &Self) -> Vec<String> {
        let mut keys = Vec::new();
        let mut differs = |key: &str, differs: bool| {
            if differs {
                keys.push(key.to_owned());
            }
        };
        differs("listen.http", self.listen.http != other.listen.http);
        differs("listen.https", self.listen.https != other.listen.https);
        differs("listen.grpc", self.listen.grpc != other.listen.grpc);
        differs(
            "listen.max_connections",
            self.listen.max_connections != other.listen.max_connections,
        );
        differs("tls", self.tls != other.tls);
        differs("tracing", self.tracing != other.tracing);
        differs("fleet", self.fleet != other.fleet);
        differs("contacts", self.contacts != other.contacts);
        differs("agent.environment", self.recovery.staging != other.recovery.staging);
        differs("trading or recovery", self.recovery.needs_restart(&other.recovery));
        differs("listen.plaintext_grpc", self.listen.plaintext_grpc != other.listen.plaintext_grpc);
        differs("agent.operator_group", self.agent.operator_group != other.agent.operator_group);
        differs("agent.log_level", self.agent.log_level != other.agent.log_level);
        differs("logs.local_dir", self.logs.local_dir != other.logs.local_dir);
        differs("logs.archive", self.logs.archive != other.logs.archive);
        differs(
            "logs.local_retention_schedule",
            self.logs.local_schedule != other.logs.local_schedule,
        );
        differs(
            "logs.archive_retention_schedule",
            self.logs.archive_schedule != other.logs.archive_schedule,
        );
        keys
    }

    /// What the host does not let this configuration do; looks at folders and addresses, changes nothing.
    pub fn check_host(&self) -> Vec<Problem> {
        let found = self.logs.check_host().into_iter().chain(self.alerts.check_host());
        let found = found.chain(self.recovery.check_host()).chain(self.fleet.check_host());
        let found = found.chain(crate::outside::telemetry::check_host(&self.tracing));
        found.map(|(key, message)| Problem { line: 0, column: 0, key, message }).collect()
    }
}

/// Reads a configuration file's text.
///
/// # Errors
/// `CONFIG_UNREADABLE`.
pub fn read_text(path: &Path) -> Result<String> {
    let unreadable = |why: String| {
        Error::invalid(
            "CONFIG_UNREADABLE",
            format!("can't read the configuration {}{why}", path.display()),
        )
    };
    let size = fs::metadata(path).map_err(|error| unreadable(format!(": {error}")))?.len();
    if size > FILE_LIMIT {
        return Err(unreadable(format!(": it has {size} bytes, the limit is {FILE_LIMIT}")));
    }
    fs::read_to_string(path).map_err(|error| unreadable(format!(": {error}")))
}

fn accept(checked: Checked, source: &str) -> Result<Config> {
    checked.config.ok_or_else(|| {
        let unmet = checked
            .problems
            .iter()
            .map(|problem| Unmet {
                code: "CONFIG_INVALID",
                subject: format!("{source}:{}:{}", problem.line, problem.column),
                message: problem.what(),
            })
            .collect::<Vec<_>>();
        let message = format!("{} problem(s) in {source}; nothing was changed", unmet.len());
        Error::invalid("CONFIG_INVALID", message).with_unmet(unmet)
    })
}

fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text
        .parse()
        .map_err(|_| format!("{text:?} is no address and port, such as \"127.0.0.1:7480\""))?;
    if address.ip().is_loopback() {
        Ok(address)
    } else {
        Err(format!(
            "{text:?} is not a loopback address; without TLS only 127.0.0.1 and [::1] are allowed"
        ))
    }
}

/// The databases as backups see them.
fn backed_up(database: &database::Config) -> Vec<backup::Database> {
    let each = database.instances.iter().map(|instance| backup::Database {
        target: instance.target.clone(),
        max_age: instance.backup_max_age,
        min_level: instance.backup_min_level,
    });
    each.collect()
}

fn read_tls(root: &Section<'_>, places: &Places, managed_names: &[String]) -> Option<TlsFiles> {
    let section = root.table("tls");
    // Empty is what the text in force has in place of what was not given.
    let given = ["certificate", "key", "client_ca"]
        .map(|key| section.quiet_text(key).is_some_and(|text| !text.is_empty()));
    let managed = section.parsed(
        "managed",
        Some(""),
        "The name of a [[certificates.certificate]] that is used in place of certificate and key, and swapped while \
         connections go on. Empty: none.",
        |text| match text {
            "" => Ok(None),
            text if managed_names.iter().any(|name| name == text) => Ok(Some(text.to_owned())),
            text => Err(format!("there is no [[certificates.certificate]] named {text:?}")),
        },
    );
    let managed = managed.flatten();
    let path = |key: &'static str, help: &'static str| {
        let parsed = section.parsed(key, Some(""), help, |text| match Path::new(text) {
            path if text.is_empty() || path.is_absolute() => Ok(path.to_owned()),
            _ => Err(format!("{text:?} is not an absolute path")),
        });
        parsed.filter(|path| !path.as_os_str().is_empty())
    };
    let certificate =
        path("certificate", "Certificate chain of gRPC over TLS, PEM. Empty: no gRPC over TLS.");
    let key = path("key", "Its private key, PEM; readable by nobody but its owner.");
    let client_ca = path("client_ca", "CAs that clients' certificates must come from, PEM.");
    let revocation_list = path(
        "revocation_list",
        "Revocation lists of those CAs, PEM: one for each, else its clients are refused. Empty: nothing is revoked.",
    );
    let [own_certificate, own_key, own_ca] = given;
    let any = own_certificate || own_key || own_ca || revocation_list.is_some();
    match &managed {
        Some(_) if own_certificate || own_key => {
            section.problem("managed", "takes the place of certificate and key: give either");
        }
        Some(_) if !own_ca => section.problem("", "gRPC over TLS needs client_ca"),
        None if any && given.contains(&false) => {
            section.problem("", "gRPC over TLS needs certificate, key and client_ca, all three");
        }
        _ => {}
    }
    section.finish();
    let (certificate, key) = match &managed {
        Some(name) => {
            let (certificate, key) =
                certificates::Certificates::files_of(&places.certificates(), name);
            (Some(certificate), Some(key))
        }
        None => (certificate, key),
    };
    Some(TlsFiles {
        certificate: certificate?,
        key: key?,
        client_ca: client_ca?,
        revocation_list,
        managed,
    })
}

fn read_listen(root: &Section<'_>, secured: bool) -> Listen {
    let section = root.table("listen");
    let http = section.parsed(
        "http",
        Some("127.0.0.1:7480"),
        "Loopback address of the HTTP listener: the page for people, its JSON and /metrics, GET only but for /v1/metrics where [baselines] otlp_token_file is given. Port 0 takes a free one.",
        loopback,
    );
    let https = section.parsed(
        "https",
        Some(""),
        "Address of the same pages over TLS, such as \"0.0.0.0:7481\", for clients with a certificate that gRPC would take \
         too; needs [tls]. Empty: off.",
        |text| match text.parse::<SocketAddr>() {
            _ if text.is_empty() => Ok(None),
            Ok(address) if secured => Ok(Some(address)),
            Ok(_) => Err(format!("{text:?} needs [tls]: configure client_ca, and certificate and key or managed")),
            Err(_) => Err(format!("{text:?} is no address and port, such as \"0.0.0.0:7481\"")),
        },
    );
    let secure = section.parsed(
        "grpc",
        Some("127.0.0.1:7443"),
        "Address of gRPC over TLS, served once [tls] is configured; without it, only a loopback address is taken.",
        |text| match text.parse::<SocketAddr>() {
            Ok(address) if secured || address.ip().is_loopback() => Ok(address),
            Ok(_) => Err(format!(
                "{text:?} is not a loopback address and there is no [tls]: configure certificate, key and client_ca first"
            )),
            Err(_) => Err(format!("{text:?} is no address and port, such as \"0.0.0.0:7443\"")),
        },
    );
    let max_connections = section.parsed(
        "max_connections",
        Some("1024"),
        "So many TCP connections are held at a time; beyond them one that has not greeted, or is idle the longest, makes room.",
        |text| match text.parse() {
            Ok(count @ 16..=65_536) => Ok(count),
            _ => Err(format!("{text:?} is not a number from 16 to 65536, as text")),
        },
    );
    let grpc = section.parsed(
        "plaintext_grpc",
        Some(""),
        "Loopback address of plaintext gRPC, for viewers only (nobody can be told apart there). Empty: off.",
        |text| if text.is_empty() { Ok(None) } else { loopback(text).map(Some) },
    );
    section.finish();
    Listen {
        http: http.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0))),
        https: https.flatten(),
        grpc: secure.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 7443))),
        max_connections: max_connections.unwrap_or(1_024),
        plaintext_grpc: grpc.flatten(),
    }
}

fn read_agent(root: &Section<'_>) -> AgentSection {
    let section = root.table("agent");
    let operator_group = section.text(
        "operator_group",
        Some(""),
        "Unix group whose members may operate the agent through its socket. Empty: only root and the agent's own user may.",
    );
    let log_level = section.parsed(
        "log_level",
        Some("info"),
        "What goes into the agent's own log: error, warn, info, debug, or trace.",
        |text| match text {
            "error" | "warn" | "info" | "debug" | "trace" => Ok(text.to_owned()),
            _ => Err(format!("{text:?} is not one of error, warn, info, debug, trace")),
        },
    );
    let staging = recovery::config::read_staging(&section);
    section.finish();
    AgentSection { operator_group, log_level: log_level.unwrap_or_else(|| "info".into()), staging }
}

/// The configuration file to load: `--config`, else /etc/genesis/agent.toml, else the user's, else none.
pub fn find_file(given: Option<&Path>) -> Option<PathBuf> {
    if let Some(given) = given {
        return Some(given.to_owned());
    }
    let user = std::env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config")));
    let candidates = [
        Some(PathBuf::from("/etc/genesis/agent.toml")),
        user.map(|folder| folder.join("genesis/agent.toml")),
    ];
    candidates.into_iter().flatten().find(|path| path.exists())
}
