//! `[fleet]`: which fleet this host is of, and what holds it together.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::keys::Keys;
use crate::config::reader::Section;
use crate::outside::coordinator::{BUILT_IN, FILE_LIMIT, Place};
use crate::outside::secret;

/// At most so many endpoints are tried.
const ENDPOINTS: usize = 16;

/// `[fleet]`, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The fleet that this host belongs to; client certificates name it.
    pub name: String,
    /// What holds it together; `None`: each host is on its own.
    pub etcd: Option<Place>,
    /// Where other members' operators reach this agent; empty: by its own addresses.
    pub advertise: String,
    /// What this host holds in the fleet ends so long after it was last heard of.
    pub lease: Duration,
}

impl Config {
    /// Reads it.
    pub fn read(root: &Section<'_>) -> Self {
        let section = root.table("fleet");
        let name = section.parsed(
            "name",
            Some("default"),
            "The fleet that this host belongs to. Clients' certificates must name it.",
            |text| {
                let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte);
                if (1..=63).contains(&text.len()) && text.bytes().all(allowed) && !text.starts_with(['.', '-']) {
                    Ok(text.to_owned())
                } else {
                    Err(format!("{text:?} is no fleet name: 1 to 63 of a-z, 0-9, '.' and '-', beginning with a letter or digit"))
                }
            },
        );
        let advertise = section.parsed(
            "advertise",
            Some(""),
            "Where genesisctl reaches this agent, for `--all`: \"host:port\" or \"unix:/path\". Empty: its host's name and \
             the port of gRPC over TLS, or its socket where there is no [tls].",
            |text| match text {
                "" => Ok(String::new()),
                text if is_node(text) => Ok(text.to_owned()),
                _ => Err(format!("{text:?} is neither \"host:port\" nor \"unix:/path\"")),
            },
        );
        let lease = section.duration(
            "lease",
            "15s",
            Duration::from_secs(2)..=Duration::from_secs(300),
            "What this host holds in the fleet (its place among the members, its locks) ends so long after it was last \
             heard of. Whole seconds.",
        );
        let name = name.unwrap_or_default();
        let root = Keys::of(&name).root();
        let etcd = read_etcd(&section).map(|place| Place { root, ..place });
        section.finish();
        Self {
            name,
            etcd,
            advertise: advertise.unwrap_or_default(),
            lease: Duration::from_secs(lease.as_secs()),
        }
    }

    /// The files with secrets.
    pub fn secrets(&self) -> Vec<PathBuf> {
        self.etcd.iter().flat_map(Place::secrets).map(|(_, file)| file.clone()).collect()
    }

    /// The files with secrets that are of no use, as key and message.
    pub fn check_host(&self) -> Vec<(String, String)> {
        let found = self.etcd.iter().flat_map(Place::secrets).filter_map(|(key, file)| {
            let why = secret::read(file, FILE_LIMIT).err()?;
            Some((format!("fleet.etcd.{key}"), why))
        });
        found.collect()
    }

    /// A host that is on its own.
    pub fn alone(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            etcd: None,
            advertise: String::new(),
            lease: Duration::from_secs(15),
        }
    }
}

fn is_node(text: &str) -> bool {
    let clean = !text.chars().any(|it| it.is_whitespace() || it.is_control() || it == ',');
    let port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
    clean
        && text.len() <= 300
        && match text.strip_prefix("unix:") {
            Some(path) => path.starts_with('/'),
            None => text
                .rsplit_once(':')
                .is_some_and(|(host, end)| !host.is_empty() && !host.contains('/') && port(end)),
        }
}

fn read_etcd(fleet: &Section<'_>) -> Option<Place> {
    let section = fleet.table("etcd");
    let endpoints = section.list(
        "endpoints",
        &[],
        false,
        "The members of the etcd cluster that holds the fleet together, such as [\"https://etcd-1:2379\"]; any one of them \
         is enough. Empty: each host is on its own.",
    );
    let path = |key: &'static str, help: &'static str| -> Option<PathBuf> {
        let parsed = section.parsed(key, Some(""), help, |text| match Path::new(text) {
            path if text.is_empty() || path.is_absolute() => Ok(path.to_owned()),
            _ => Err(format!("{text:?} is not an absolute path")),
        });
        parsed.filter(|path| !path.as_os_str().is_empty())
    };
    let ca =
        path("ca", "CAs that may vouch for etcd's certificates, PEM. Empty: those of the host.");
    let certificate =
        path("certificate", "The certificate by which etcd knows this host, PEM. Empty: none.");
    let key = path("key", "Its private key, PEM; mode 0600, else it is not used.");
    let user = section.text("user", Some(""), "The user of etcd that this host is. Empty: none.");
    let password = path(
        "password_file",
        "The file with that user's password; mode 0600, else it is not used.",
    );
    if let Some(odd) = endpoints.iter().find(|it| !is_endpoint(it)) {
        section.problem(
            "endpoints",
            format!("{odd:?} is neither \"http://host:port\" nor \"https://host:port\""),
        );
    }
    if endpoints.len() > ENDPOINTS {
        section.problem("endpoints", format!("must be at most {ENDPOINTS}"));
    }
    if !endpoints.is_empty() && !BUILT_IN {
        section.problem(
            "endpoints",
            "this agent was built without etcd: install the package, or build it with `--features etcd`",
        );
    }
    let secure = endpoints.iter().filter(|it| it.starts_with("https://")).count();
    if secure > 0 && secure < endpoints.len() {
        section.problem("endpoints", "must all be https:// or all be http://");
    }
    if secure == 0 && !endpoints.is_empty() && (ca.is_some() || certificate.is_some()) {
        section.problem("endpoints", "must be https:// where ca or certificate is given");
    }
    if certificate.is_some() != key.is_some() {
        section.problem("certificate", "needs key, and key needs certificate");
    }
    if user.is_empty() != password.is_none() {
        section.problem("user", "needs password_file, and password_file needs user");
    }
    let given = ca.is_some() || certificate.is_some() || !user.is_empty();
    if endpoints.is_empty() && given {
        section.problem("endpoints", "must be given, where [fleet.etcd] has other keys");
    }
    section.finish();
    (!endpoints.is_empty()).then(|| Place {
        root: String::new(),
        endpoints,
        ca,
        certificate: certificate.zip(key),
        user: password.map(|file| (user, file)),
    })
}

fn is_endpoint(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    rest.is_some_and(|rest| !rest.starts_with("unix:") && is_node(rest))
}
