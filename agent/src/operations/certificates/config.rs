//! `[certificates]`, `[[certificates.acme]]` and `[[certificates.certificate]]`.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::budget::Limits;
use crate::config::Places;
use crate::config::reader::Section;
use crate::outside::acme::{Answer, Authority, ExternalAccount};
use crate::outside::hooks::Hook;
use crate::scheduler::calendar::Schedule;

mod answer;
mod names;

use answer::{read_answer, read_hook};

use names::{
    absolute, address, domain, entry_name, mode, name_list, optional, probe, server_name, url,
};

/// At most so many certificates are managed.
const CERTIFICATES: usize = 2_000;
/// At most so many CAs are configured.
const AUTHORITIES: usize = 16;
/// At most so many names has a certificate.
const DOMAINS: usize = 100;
/// At most so many copies are made of one.
const DEPLOYMENTS: usize = 20;
const DAY: Duration = Duration::from_secs(86_400);

/// What the configuration says of certificates.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// When the daily check is made.
    pub schedule: Schedule,
    /// It is made up to so much later, by host.
    pub splay: Duration,
    /// So many generations are kept of each.
    pub keep: usize,
    /// How long a self-signed certificate may be in service before people are called again.
    pub self_signed_for: Duration,
    /// The name servers that a diagnosis asks; empty: those of the host.
    pub resolvers: Vec<SocketAddr>,
    /// PEM file of further roots that what people give may lead to.
    pub extra_roots: Option<PathBuf>,
    /// The CAs, in order.
    pub authorities: Vec<Ca>,
    /// The certificates.
    pub certificates: Vec<Certificate>,
}

/// A CA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ca {
    /// As it is spoken with.
    pub authority: Authority,
    /// The profile that is ordered; `None`: its usual one.
    pub profile: Option<String>,
    /// PEM file of the roots that its certificates lead to; `None`: those that the host trusts.
    pub issuer_roots: Option<PathBuf>,
    /// What it allows.
    pub limits: Limits,
}

/// A managed certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Its name.
    pub name: String,
    /// What it is for, in lower case, sorted.
    pub identifiers: Vec<String>,
    /// The CAs by name, in the order in which they are asked.
    pub cas: Vec<String>,
    /// How the host shows that the names are its own.
    pub answer: Answer,
    /// It is renewed so long before it ends, at the earliest.
    pub renew_before: Duration,
    /// Whether the key is on P-384; else on P-256.
    pub p384: bool,
    /// Where copies go.
    pub deployments: Vec<Deployment>,
    /// What makes those who serve it take it.
    pub hook: Option<Hook>,
    /// Where it is served.
    pub probe: Option<Probe>,
}

/// What a copy holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Content {
    /// The certificate and its intermediates.
    Fullchain,
    /// The intermediates.
    Chain,
    /// The certificate.
    Leaf,
    /// The key.
    Key,
    /// The key, the certificate, the intermediates: as HAProxy wants it.
    Combined,
}

impl Content {
    /// Each of them.
    pub const ALL: [Self; 5] =
        [Self::Fullchain, Self::Chain, Self::Leaf, Self::Key, Self::Combined];

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fullchain => "fullchain",
            Self::Chain => "chain",
            Self::Leaf => "certificate",
            Self::Key => "key",
            Self::Combined => "combined",
        }
    }

    /// Whether the key is in it.
    pub fn is_secret(self) -> bool {
        matches!(self, Self::Key | Self::Combined)
    }

    fn parse(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|content| content.name() == text).ok_or_else(|| {
            format!("{text:?} is not one of fullchain, chain, certificate, key, combined")
        })
    }
}

/// A copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployment {
    /// What.
    pub content: Content,
    /// Where; absolute.
    pub path: PathBuf,
    /// Whose; empty: the agent's.
    pub owner: String,
    /// Of which group; empty: the agent's.
    pub group: String,
    /// With these permissions.
    pub mode: u32,
}

/// Where a certificate is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// "host:port".
    pub address: String,
    /// The name that is asked for.
    pub server_name: String,
}

impl Config {
    /// Reads the sections.
    pub fn read(root: &Section<'_>, places: &Places) -> Self {
        let section = root.table("certificates");
        let schedule = section.parsed(
            "schedule",
            Some("02:00"),
            "When certificates are checked, UTC. What can't wait until then is looked at every few seconds besides.",
            Schedule::parse,
        );
        let splay = section.duration(
            "splay",
            "30m",
            Duration::ZERO..=Duration::from_secs(6 * 3_600),
            "The check is made up to so much later, each host at a time of its own.",
        );
        let keep = section.parsed(
            "keep",
            Some("5"),
            "So many generations of a certificate are kept, to go back to.",
            |text| match text.parse() {
                Ok(keep @ 5..=100) => Ok(keep),
                _ => Err(format!("{text:?} is not a number from 5 to 100, as text")),
            },
        );
        let self_signed_for = section.duration(
            "self_signed_for",
            "4h",
            Duration::from_secs(60)..=DAY,
            "After that time with a self-signed certificate in service, people are called again.",
        );
        let resolvers = section.list(
            "resolvers",
            &[],
            false,
            "The name servers that the diagnosis of a failure asks, as \"192.0.2.1:53\". Empty: those of the host.",
        );
        let resolvers = name_list(&section, "resolvers", &resolvers, address);
        let extra_roots = section.parsed(
            "extra_roots_file",
            Some(""),
            "PEM file of further roots that what is imported or installed may lead to, beside those of the host and of each \
             issuer_roots_file.",
            optional,
        );
        let accounts = places.certificates().join(".accounts");
        let authorities: Vec<Ca> = section
            .tables("acme", AUTHORITIES)
            .into_iter()
            .filter_map(|entry| read_ca(&entry, &accounts).map(|ca| (entry, ca)))
            .fold(Vec::new(), |mut read: Vec<Ca>, (entry, ca)| {
                if read.iter().any(|other| other.authority.name == ca.authority.name) {
                    entry.problem("name", "is there twice");
                }
                entry.finish();
                read.push(ca);
                read
            });
        let names: Vec<&str> = authorities.iter().map(|ca| ca.authority.name.as_str()).collect();
        let mut certificates: Vec<Certificate> = Vec::new();
        let paths = RefCell::new(Vec::new());
        for entry in section.tables("certificate", CERTIFICATES) {
            let read = read_certificate(&entry, &names, &paths);
            if let Some(certificate) = read {
                if certificates.iter().any(|other| other.name == certificate.name) {
                    entry.problem("name", "is there twice");
                }
                certificates.push(certificate);
            }
            entry.finish();
        }
        section.finish();
        Self {
            schedule: schedule.unwrap_or_else(|| Schedule::constant("02:00")),
            splay,
            keep: keep.unwrap_or(5),
            self_signed_for,
            resolvers,
            extra_roots: extra_roots.flatten(),
            authorities,
            certificates,
        }
    }

    /// The CA of this name.
    pub fn ca(&self, name: &str) -> Option<&Ca> {
        self.authorities.iter().find(|ca| ca.authority.name == name)
    }

    /// The files that hold secrets.
    pub fn secrets(&self) -> Vec<PathBuf> {
        let external = self.authorities.iter().filter_map(|ca| {
            ca.authority.external.as_ref().map(|external| external.key_file.clone())
        });
        let updates = self.certificates.iter().filter_map(|it| match &it.answer {
            Answer::DnsUpdate(update) => Some(update.key_file.clone()),
            _ => None,
        });
        external.chain(updates).collect()
    }
}

impl Certificate {
    /// "http-01", "dns-01" or "tls-alpn-01".
    pub fn challenge(&self) -> &'static str {
        match self.answer {
            Answer::HttpListener(_) | Answer::HttpWebroot(_) => "http-01",
            Answer::TlsAlpn(_) => "tls-alpn-01",
            Answer::DnsUpdate(_) | Answer::DnsHook { .. } => "dns-01",
        }
    }

    /// What names this configuration: where it is another one, what the last one failed with says nothing.
    pub fn digest(&self, config: &Config) -> String {
        let cas: Vec<_> = self.cas.iter().map(|name| config.ca(name)).collect();
        let text = format!("{self:?}{cas:?}");
        hex::encode(&blake3::hash(text.as_bytes()).as_bytes()[..8])
    }
}

fn read_ca(entry: &Section<'_>, accounts: &std::path::Path) -> Option<Ca> {
    entry.entry_header();
    let name =
        entry.parsed("name", None, "Names the CA. Its account goes by this name.", entry_name);
    let directory = entry.parsed(
        "directory",
        None,
        "The URL of its ACME directory, such as \"https://acme-v02.api.letsencrypt.org/directory\".",
        url,
    );
    let contact = entry.list(
        "contact",
        &[],
        false,
        "Whom the CA writes to, such as [\"mailto:ops@example.com\"].",
    );
    let agreed = entry.flag(
        "terms_agreed",
        false,
        "true: its terms of service are agreed to. No account is made otherwise.",
    );
    if !agreed {
        entry.problem(
            "terms_agreed",
            "must be true: an account is only made by who agrees to the CA's terms of service",
        );
    }
    let key_id = entry.text(
        "eab_key_id",
        Some(""),
        "External account binding: the identifier of the key that the CA gave. Empty: none.",
    );
    let key_file = entry.parsed(
        "eab_key_file",
        Some(""),
        "File with that key in base64url, readable by nobody but its owner.",
        optional,
    );
    let key_file = key_file.flatten();
    let external = match (key_id.is_empty(), key_file) {
        (false, Some(key_file)) => Some(ExternalAccount { key_id, key_file }),
        (true, None) => None,
        _ => {
            entry.problem("eab_key_id", "needs eab_key_file, and the other way round");
            None
        }
    };
    let profile = entry.text(
        "profile",
        Some(""),
        "The profile that is ordered, such as \"shortlived\". Empty: the CA's usual one.",
    );
    let roots_file = entry.parsed(
        "roots_file",
        Some(""),
        "PEM file of the authorities that may vouch for the CA's own server. Empty: those of the host.",
        optional,
    );
    let issuer_roots = entry.parsed(
        "issuer_roots_file",
        Some(""),
        "PEM file of the roots that what it issues must lead to. Empty: those of the host.",
        optional,
    );
    let limits = entry.parsed(
        "limits",
        Some("letsencrypt"),
        "What it allows: \"letsencrypt\" (5 certificates a week for the same names, 50 for a registered domain, 300 orders in \
         3 hours, 5 failed authorizations an hour), or \"none\".",
        Limits::parse,
    );
    Some(Ca {
        authority: Authority {
            name: name?,
            directory: directory?,
            contact,
            external,
            roots_file: roots_file?,
            accounts: accounts.to_owned(),
        },
        profile: (!profile.is_empty()).then_some(profile),
        issuer_roots: issuer_roots?,
        limits: limits?,
    })
}

fn read_certificate(
    entry: &Section<'_>,
    authorities: &[&str],
    paths: &RefCell<Vec<PathBuf>>,
) -> Option<Certificate> {
    entry.entry_header();
    let name = entry.parsed("name", None, "Names the certificate, and its folder.", entry_name);
    let domains = entry.list(
        "domains",
        &[],
        true,
        "What it is for: DNS names, also \"*.example.com\" with dns-01, and addresses.",
    );
    let mut identifiers = name_list(entry, "domains", &domains, domain);
    identifiers.sort();
    identifiers.dedup();
    if identifiers.is_empty() || identifiers.len() > DOMAINS {
        entry.problem("domains", format!("must name from 1 to {DOMAINS} domains"));
    }
    let cas = entry.list(
        "acme",
        &[],
        false,
        "The names of the CAs, in the order in which they are asked. Empty: all of them. Without any, only what is \
         imported or installed is in service.",
    );
    for ca in cas.iter().filter(|ca| !authorities.contains(&ca.as_str())) {
        entry.problem("acme", format!("there is no [[certificates.acme]] named {ca:?}"));
    }
    let cas = match cas.is_empty() {
        true => authorities.iter().map(|name| (*name).to_owned()).collect(),
        false => cas,
    };
    let answer = read_answer(entry, &identifiers);
    let renew_before = entry.duration(
        "renew_before",
        "30d",
        DAY..=DAY * 90,
        "It is renewed so long before it ends, or when a third of its life is left (half of it, where that is 10 days or \
         less), whichever is later. A CA that names a time overrides it.",
    );
    let p384 = entry.parsed(
        "key",
        Some("ecdsa-p256"),
        "The new key of each renewal: \"ecdsa-p256\" or \"ecdsa-p384\".",
        |text| match text {
            "ecdsa-p256" => Ok(false),
            "ecdsa-p384" => Ok(true),
            _ => Err(format!("{text:?} is neither \"ecdsa-p256\" nor \"ecdsa-p384\"")),
        },
    );
    let hook = read_hook(
        entry,
        "hook",
        "What makes those who serve it take a new one: { command = [\"systemctl\", \"reload\", \"nginx\"], timeout = \"30s\" }. \
         It gets JSON on standard input.",
    );
    let address = entry.parsed(
        "probe",
        Some(""),
        "Where it is served, as \"host:port\": what is seen there by TLS decides whether a renewal has worked. Empty: nothing \
         is looked at, and it is never PROVEN but for the agent's own listeners.",
        probe,
    );
    let server_name = entry.parsed(
        "probe_name",
        Some(""),
        "The name that is asked for there. Empty: the first of the domains.",
        server_name,
    );
    let deployments = read_deployments(entry, paths);
    let probe = address?.map(|address| Probe {
        address,
        server_name: server_name.flatten().or_else(|| asked_for(&identifiers)).unwrap_or_default(),
    });
    Some(Certificate {
        name: name?,
        identifiers,
        cas,
        answer: answer?,
        renew_before,
        p384: p384?,
        deployments,
        hook,
        probe,
    })
}

/// The name by which what is served for these is asked for; of a wildcard one that it covers.
pub fn asked_for(identifiers: &[String]) -> Option<String> {
    let plain = identifiers.iter().find(|it| !it.starts_with("*.")).cloned();
    plain.or_else(|| identifiers.first().map(|it| it.replacen('*', "probe", 1)))
}

fn read_deployments(entry: &Section<'_>, paths: &RefCell<Vec<PathBuf>>) -> Vec<Deployment> {
    let mut deployments = Vec::new();
    for copy in entry.tables("deploy", DEPLOYMENTS) {
        copy.entry_header();
        let content = copy.parsed(
            "content",
            None,
            "What is copied: \"fullchain\", \"chain\", \"certificate\", \"key\", or \"combined\" (key, certificate, chain).",
            Content::parse,
        );
        let path = copy.parsed("path", None, "Where to; an absolute path.", absolute);
        let owner = copy.text("owner", Some(""), "Whose it is. Empty: the agent's user.");
        let group = copy.text("group", Some(""), "Of which group. Empty: the agent's group.");
        let mode = copy.parsed(
            "mode",
            Some("0640"),
            "Its permissions, at most \"0640\": others never read it. What holds no key may have up to \"0644\".",
            mode,
        );
        if let (Some(content), Some(path), Some(mode)) = (content, path, mode) {
            if content.is_secret() && mode & !0o640 != 0 {
                copy.problem("mode", "must be at most \"0640\": the key is in it");
            }
            let mut paths = paths.borrow_mut();
            if paths.contains(&path) {
                copy.problem("path", "is there twice");
            }
            paths.push(path.clone());
            deployments.push(Deployment { content, path, owner, group, mode });
        }
        copy.finish();
    }
    deployments
}
