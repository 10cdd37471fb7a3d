//! `[alerts]`, `[alerts.heartbeat]`, `[alerts.channel.NAME]`: the defaults are the procedures' routes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use jiff::civil::Time;

use super::channel::{Channel, Secret, read_channels};
use super::plan::{Policy, ROUTES, SECURITY};
use crate::config::reader::Section;
use crate::events::Severity;
use crate::outside::notify::check_secret;

const DAY: Duration = Duration::from_secs(86_400);

/// A sign of life, so that somebody outside notices when there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    /// The channel that gets it.
    pub channel: String,
    /// How often.
    pub every: Duration,
}

/// What the configuration says of alerts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// How people want to be told.
    pub policy: Policy,
    /// When the digest is made, UTC.
    pub digest_at: Time,
    /// What a link to a runbook page begins with; empty: none is made.
    pub runbooks: String,
    /// The sign of life.
    pub heartbeat: Option<Heartbeat>,
    /// The channels.
    pub channels: Vec<Channel>,
}

impl Config {
    /// Reads the sections.
    pub fn read(root: &Section<'_>) -> Self {
        let section = root.table("alerts");
        let mut routes = BTreeMap::new();
        for (severity, names) in ROUTES {
            routes.insert(
                severity,
                section.list(severity.name(), names, false, route_help(severity)),
            );
        }
        let security = section.list(
            "security",
            &SECURITY,
            false,
            "The channels that hear as well of vulnerabilities that are critical or exploited: those of the security contact.",
        );
        let group = section.duration(
            "group",
            "30s",
            Duration::ZERO..=Duration::from_secs(3_600),
            "What is not critical waits for so long, so that what belongs together is told together.",
        );
        let repeat = section.duration(
            "repeat",
            "4h",
            Duration::from_secs(60)..=30 * DAY,
            "People are told again after so long, unless somebody takes care of it.",
        );
        let repeat_limit =
            section.parsed("repeat_limit", Some("6"), "So often at most; 0: never.", |text| {
                text.parse::<u32>().map_err(|_| format!("{text:?} is no whole number"))
            });
        let digest_at = section.parsed(
            "digest_at",
            Some("07:00"),
            "When what is low is told, once a day, UTC.",
            |text| {
                let time = Time::strptime("%H:%M", text);
                time.map_err(|_| format!("{text:?} is no time of day such as \"07:00\""))
            },
        );
        let runbooks = section.parsed(
            "runbooks",
            Some(""),
            "What links to runbook pages begin with, such as \"https://wiki.example.com/runbook/\". Empty: messages name the command that shows the page.",
            |text| match text {
                "" => Ok(String::new()),
                text if text.starts_with("https://") || text.starts_with("http://") => {
                    Ok(text.to_owned())
                }
                _ => Err(format!("{text:?} does not begin with https:// or http://")),
            },
        );
        let channels = read_channels(&section);
        let names: Vec<&str> = channels.iter().map(|channel| channel.name.as_str()).collect();
        let missing = |name: &str| {
            format!("there is no [alerts.channel.{name}]; configured: {}", names.join(", "))
        };
        for (severity, usual) in ROUTES {
            // The usual names may be there or not; of a route that somebody thought of each must be.
            let usual = routes.get(&severity).is_some_and(|names| names == usual);
            let ought = |name: &&String| !usual && !names.contains(&name.as_str());
            for name in routes.get(&severity).into_iter().flatten().filter(ought) {
                section.problem(severity.name(), missing(name));
            }
        }
        if security != SECURITY {
            for name in security.iter().filter(|name| !names.contains(&name.as_str())) {
                section.problem("security", missing(name));
            }
        }
        let heartbeat = section.table("heartbeat");
        let channel = heartbeat.text(
            "channel",
            Some(""),
            "The channel that gets a sign of life, so that somebody outside notices when there is none. Empty: none is sent.",
        );
        let every = heartbeat.duration(
            "every",
            "1m",
            Duration::from_secs(5)..=DAY,
            "How often it is sent.",
        );
        if !channel.is_empty() && !names.contains(&channel.as_str()) {
            heartbeat.problem("channel", missing(&channel));
        }
        heartbeat.finish();
        section.finish();
        Self {
            policy: Policy {
                group,
                repeat,
                repeat_limit: repeat_limit.unwrap_or_default(),
                routes,
                security,
            },
            digest_at: digest_at.unwrap_or_default(),
            runbooks: runbooks.unwrap_or_default(),
            heartbeat: (!channel.is_empty()).then_some(Heartbeat { channel, every }),
            channels,
        }
    }

    /// The files with secrets.
    pub fn secrets(&self) -> Vec<PathBuf> {
        let file = |channel: &Channel| match &channel.secret {
            Some(Secret::File(file)) => Some(file.clone()),
            _ => None,
        };
        self.channels.iter().filter_map(file).collect()
    }

    /// The files with secrets that are of no use, as key and message. Variables are the agent's own, so that nobody
    /// else can look at them.
    pub fn check_host(&self) -> Vec<(String, String)> {
        let found = self.channels.iter().filter_map(|channel| match &channel.secret {
            Some(Secret::File(file)) => {
                let why = check_secret(file).err()?;
                Some((format!("alerts.channel.{}.secret_file", channel.name), why))
            }
            _ => None,
        });
        found.collect()
    }

    /// The names of the channels.
    pub fn names(&self) -> Vec<String> {
        self.channels.iter().map(|channel| channel.name.clone()).collect()
    }
}

fn route_help(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "The channels of what is critical: escalations, emergencies.",
        Severity::High => "The channels of what is high.",
        Severity::Medium => "The channels of what is medium.",
        Severity::Low => "The channels of the digest, which tells what is low once a day.",
    }
}
