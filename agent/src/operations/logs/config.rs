//! `[logs]`, `[[logs.source]]`, `[logs.archive]`: the defaults are the procedures' numbers.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use super::source::{Mode, Source, own, read_source};
use crate::config::Places;
use crate::config::reader::{Section, quoted};
use crate::outside::archive::{Address, Encryption, Place};
use crate::outside::files;
use crate::outside::heads;
use crate::scheduler::calendar::Schedule;

/// The agent's own log, which is always a source.
pub const OWN_TYPE: &str = "agent";
/// At most this many sources.
const SOURCE_LIMIT: usize = 256;
pub(super) const DAY: Duration = Duration::from_secs(86_400);

/// Log archival's configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Sealed copies are kept here for the local retention.
    pub local_dir: PathBuf,
    /// The agent's state folder: nothing in it is anybody else's log.
    pub state_dir: PathBuf,
    /// Where segments go.
    pub archive: Address,
    /// A writer that holds a renamed file longer is reported.
    pub release_grace: Duration,
    /// When local copies are looked through.
    pub local_schedule: Schedule,
    /// When the archive is looked through.
    pub archive_schedule: Schedule,
    /// By type; the agent's own log first.
    pub sources: Vec<Source>,
}

impl Config {
    /// The source of a type.
    pub fn source(&self, log_type: &str) -> Option<&Source> {
        self.sources.iter().find(|source| source.log_type == log_type)
    }

    /// Reads the sections; problems go to the record behind `root`.
    pub fn read(root: &Section<'_>, places: &Places) -> Self {
        let section = root.table("logs");
        let local_default = places.state.join("logs/sealed").display().to_string();
        let local_dir = section.parsed(
            "local_dir",
            Some(""),
            "Absolute folder for sealed copies while their local retention lasts. Empty: logs/sealed in the state folder.",
            |text| match text {
                "" => Ok(PathBuf::from(&local_default)),
                text if text.starts_with('/') => Ok(PathBuf::from(text)),
                text => Err(format!("{text:?} must be an absolute path")),
            },
        );
        let release_grace = section.duration(
            "release_grace",
            "60s",
            Duration::from_secs(1)..=DAY,
            "A writer that still holds a rotated file after this time is reported. The file is waited for, however long it takes.",
        );
        let rotate_default = "10MB";
        let schedule = |key, default: &'static str, help| {
            section
                .parsed(key, Some(default), help, Schedule::parse)
                .or_else(|| Schedule::parse(default).ok())
        };
        let local_schedule = schedule(
            "local_retention_schedule",
            "01:15",
            "When local copies past their retention are deleted (only those verified in the archive).",
        );
        let archive_schedule = schedule(
            "archive_retention_schedule",
            "01:45",
            "When archived segments past their retention are deleted.",
        );
        let archive = section.table("archive");
        let archive_default = places.state.join("archive");
        let archive_default = format!("file://{}", archive_default.display());
        let address = read_archive(&archive, &archive_default);
        archive.finish();
        let mut config = Self {
            local_dir: local_dir.unwrap_or_default(),
            state_dir: places.state.clone(),
            archive: address,
            release_grace,
            // The fallback strings parse; a test of the defaults proves it.
            local_schedule: local_schedule.unwrap_or_else(daily),
            archive_schedule: archive_schedule.unwrap_or_else(daily),
            sources: vec![own(places)],
        };
        let sections = section.tables("source", SOURCE_LIMIT);
        let mut names = BTreeSet::from([OWN_TYPE.to_owned()]);
        for section in &sections {
            section.entry_header();
            let source = read_source(section, rotate_default, &config, &mut names);
            config.sources.extend(source);
        }
        for section in sections {
            section.finish();
        }
        section.finish();
        config
    }

    /// Folders in which nothing is anybody else's log.
    pub fn own_folders(&self) -> Vec<&PathBuf> {
        self.archive.folder().into_iter().chain([&self.local_dir, &self.state_dir]).collect()
    }

    /// What the host does not let this configuration do, as key and message.
    pub fn check_host(&self) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        let archive = self.archive.folder().map(|folder| ("logs.archive.url", folder));
        for (key, folder) in archive.into_iter().chain([("logs.local_dir", &self.local_dir)]) {
            if let Err(why) = files::writable(folder) {
                problems.push((key.to_owned(), why));
            }
        }
        if let Err(error) = self.archive.check() {
            problems.push(("logs.archive".to_owned(), error.message));
        }
        for source in &self.sources {
            let key = format!("logs.source {}", source.log_type);
            let patterns = source.paths.iter().filter_map(|pattern| files::matching(pattern).ok());
            for path in patterns.flat_map(|found| found.paths) {
                let facts = files::look(&path).ok().flatten();
                if let Some(facts) = &facts
                    && let Err(unmet) = super::plan::admissible(&path, facts)
                {
                    problems.push((key.clone(), unmet.message));
                } else if matches!(source.mode, Mode::Collapse { .. })
                    && let Err(why) = heads::can_collapse(&path)
                {
                    problems.push((key.clone(), why));
                }
            }
        }
        problems
    }
}

/// Reads `[logs.archive]`. A problem leaves the default in its place.
fn read_archive(section: &Section<'_>, default: &str) -> Address {
    let address = section.parsed(
        "url",
        Some(""),
        "Where sealed segments go: file:///absolute/folder, or s3://bucket/prefix for any S3-compatible store. Empty: archive in the \
         state folder.",
        |text| Address::parse(if text.is_empty() { default } else { text }),
    );
    let endpoint = section.parsed(
        "endpoint",
        Some(""),
        "For s3://: the server where it is not Amazon's, such as https://s3.example.com. http:// on loopback only.",
        endpoint,
    );
    let region = section.text(
        "region",
        Some("us-east-1"),
        "For s3://: the region that requests are signed for.",
    );
    let file = |text: &str| match text {
        "" => Ok(None),
        text if text.starts_with('/') => Ok(Some(PathBuf::from(text))),
        text => Err(format!("{text:?} must be an absolute path")),
    };
    let credentials_file = section.parsed(
        "credentials_file",
        Some(""),
        "For s3://: a file (0600) with aws_access_key_id and aws_secret_access_key, as Amazon's tools have it. Empty: AWS_ACCESS_KEY_ID \
         and AWS_SECRET_ACCESS_KEY of the environment, or the role of the machine.",
        file,
    );
    let ca_file = section.parsed(
        "ca_file",
        Some(""),
        "For s3://: a file of further CA certificates (PEM) to trust, beside those of the system.",
        file,
    );
    let timeout = section.duration(
        "timeout",
        "30s",
        Duration::from_millis(100)..=Duration::from_secs(600),
        "For s3://: a request without an answer, or an answer that stands still, is given up after this time.",
    );
    let encryption = section.parsed(
        "encryption",
        Some(""),
        "For s3://: how the store is asked to encrypt each object: \"AES256\", \"aws:kms\" or \"aws:kms:dsse\". Empty: \
         AWS_SERVER_SIDE_ENCRYPTION of the environment, else as the bucket does by itself.",
        encryption,
    );
    let kms_key = section.parsed(
        "kms_key",
        Some(""),
        "For s3:// and \"aws:kms\": the key of the store's key management, by its id, ARN or alias. Empty: the one that it has for this.",
        kms_key,
    );
    if kms_key.as_ref().is_some_and(|key| !key.is_empty())
        && let Some(way) = &encryption
        && !way.is_some_and(Encryption::takes_key)
    {
        section.problem("kms_key", "needs encryption = \"aws:kms\" or \"aws:kms:dsse\"");
    }
    // The default is well formed: its folder is absolute.
    let fallback = || Address {
        url: default.to_owned(),
        place: Place::Folder(default.trim_start_matches("file://").into()),
    };
    let mut address = address.unwrap_or_else(fallback);
    if let Place::Bucket(bucket) = &mut address.place {
        bucket.endpoint = endpoint.flatten();
        bucket.region = region;
        bucket.credentials_file = credentials_file.flatten();
        bucket.ca_file = ca_file.flatten();
        bucket.timeout = timeout;
        let kms_key = kms_key.filter(|key| !key.is_empty());
        bucket.encryption = encryption.flatten().map(|way| Encryption { way, kms_key });
    } else {
        for key in ["endpoint", "credentials_file", "ca_file", "encryption", "kms_key"] {
            if section.quiet_text(key).is_some_and(|text| !text.is_empty()) {
                section.problem(key, "is for s3:// addresses; take it out, or mend url");
            }
        }
    }
    address
}

fn encryption(text: &str) -> Result<Option<&'static str>, String> {
    let known = Encryption::WAYS.into_iter().find(|way| *way == text);
    match known {
        None if !text.is_empty() => {
            Err(format!("{text:?} is none of {}", Encryption::WAYS.map(quoted).join(", ")))
        }
        known => Ok(known),
    }
}

/// It goes into a header as it is.
fn kms_key(text: &str) -> Result<String, String> {
    match text.len() <= 2_048 && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(text.to_owned()),
        false => Err(format!("{text:?} is no id, ARN or alias of a key")),
    }
}

/// The address of an S3 server. Log lines and credentials go there, so that it is TLS but on loopback.
fn endpoint(text: &str) -> Result<Option<String>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let wrong = || format!("{text:?} is no server's address; use https://host[:port]");
    let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
    let host = rest.trim_end_matches('/');
    if host.is_empty() || host.contains(['/', '@', '?', '#', ' ']) {
        return Err(wrong());
    }
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let is_loopback = name == "localhost"
        || name
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback());
    match scheme {
        "https" => Ok(Some(text.trim_end_matches('/').to_owned())),
        "http" if is_loopback => Ok(Some(text.trim_end_matches('/').to_owned())),
        "http" => Err(format!("{text:?} would send logs in the clear; use https://")),
        _ => Err(wrong()),
    }
}

fn daily() -> Schedule {
    Schedule::constant("01:15")
}
