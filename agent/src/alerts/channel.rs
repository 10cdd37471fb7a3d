//! The channels by which people are told, as they are configured: plain data that holds no secret.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::means;
use crate::config::reader::{Inline, Section};
use crate::config::units::parse_duration;
use crate::outside::hooks::Hook;
use crate::outside::notify::mail_address;
use crate::outside::web::check_url;

/// So many channels are configured at most.
const CHANNELS_LIMIT: usize = 32;
/// Where PagerDuty takes events.
pub const PAGERDUTY: &str = "https://events.pagerduty.com/v2/enqueue";
/// Where Slack takes messages of bots.
pub const SLACK: &str = "https://slack.com/api/chat.postMessage";

/// Where a secret is read when it is needed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Secret {
    /// A file that only its owner may read.
    File(PathBuf),
    /// An environment variable.
    Env(String),
}

/// How a mail server is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailTls {
    /// Plain at first, then TLS, or not at all.
    StartTls,
    /// TLS from the first byte.
    Tls,
    /// Never; on this host only.
    None,
}

/// What a channel is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// PagerDuty, Events API v2; the secret is the routing key.
    PagerDuty {
        /// Where events go.
        url: String,
    },
    /// An HTTP gateway for short messages; the secret is its token.
    Sms {
        /// Where messages go.
        url: String,
        /// Fields of a form (`To`, `From`, `Body`), or a JSON object.
        form: bool,
        /// With a user the secret is a password (Basic), else a token (Bearer).
        user: String,
        /// Whose number it shows.
        from: String,
        /// Who gets it.
        to: Vec<String>,
    },
    /// Slack; the secret is the URL of an incoming webhook, or a bot's token.
    Slack {
        /// Where bots post.
        url: String,
        /// The channel that a bot posts to.
        to: String,
    },
    /// E-mail.
    Email {
        /// The server's host.
        host: String,
        /// Its port.
        port: u16,
        /// How it is spoken to.
        tls: MailTls,
        /// Empty: it asks for none.
        user: String,
        /// Who sends it.
        from: String,
        /// Who gets it.
        to: Vec<String>,
    },
    /// A JSON object by POST; the secret is a token (Bearer), or the whole URL.
    Webhook {
        /// Where it goes; empty: the secret says where.
        url: String,
    },
    /// A command, the same JSON object on its standard input.
    Command(Hook),
}

impl Kind {
    /// As it is written.
    pub fn name(&self) -> &'static str {
        match self {
            Self::PagerDuty { .. } => "pagerduty",
            Self::Sms { .. } => "sms",
            Self::Slack { .. } => "slack",
            Self::Email { .. } => "email",
            Self::Webhook { .. } => "webhook",
            Self::Command(_) => "command",
        }
    }
}

/// A channel by which people are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channel {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Where its secret is.
    pub secret: Option<Secret>,
    /// An attempt that takes longer is given up.
    pub timeout: Duration,
    /// The shortest time between two messages.
    pub pause: Duration,
}

impl Channel {
    /// What it is, in a word.
    pub fn kind_name(&self) -> &'static str {
        self.kind.name()
    }

    /// The longest that an attempt may take: a command has its own time.
    pub fn patience(&self) -> Duration {
        match &self.kind {
            Kind::Command(hook) => hook.timeout + Duration::from_secs(1),
            _ => self.timeout,
        }
    }

    /// Whether several alerts go into one message. PagerDuty keeps each apart; so do programs, which need not take
    /// a list apart.
    pub fn groups(&self) -> bool {
        matches!(self.kind, Kind::Sms { .. } | Kind::Slack { .. } | Kind::Email { .. })
    }

    /// Whether it hears that somebody takes care of an alert.
    pub fn takes_acks(&self) -> bool {
        matches!(self.kind, Kind::PagerDuty { .. } | Kind::Webhook { .. } | Kind::Command(_))
    }

    /// Whether it tells doubles by the alert's id, so that a message that is sent again is none.
    pub fn has_keys(&self) -> bool {
        matches!(self.kind, Kind::PagerDuty { .. })
    }
}

/// The keys beside those that every kind takes.
const KEYS: [(&str, &[&str]); 6] = [
    ("pagerduty", &["url", "secret_file", "secret_env"]),
    ("sms", &["url", "secret_file", "secret_env", "format", "user", "from", "to"]),
    ("slack", &["url", "secret_file", "secret_env", "to"]),
    ("email", &["server", "tls", "user", "secret_file", "secret_env", "from", "to"]),
    ("webhook", &["url", "secret_file", "secret_env"]),
    ("command", &["command"]),
];

/// Reads `[alerts.channel.NAME]`.
pub fn read_channels(alerts: &Section<'_>) -> Vec<Channel> {
    let mut channels = Vec::new();
    for (name, section) in alerts.named_tables("channel", "NAME", CHANNELS_LIMIT) {
        let ok = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        if name.len() > 64 || name.is_empty() || name.starts_with('-') || !name.bytes().all(ok) {
            let why = "use 1 to 64 of a-z, A-Z, 0-9, - and _, the first of them no -";
            // Its keys were not looked at, so nothing is said of them.
            section.problem("", format!("{name:?} is no name; {why}"));
            continue;
        }
        section.header();
        channels.extend(read_channel(name, &section));
        section.finish();
    }
    channels
}

fn read_channel(name: String, section: &Section<'_>) -> Option<Channel> {
    let kind =
        section.parsed("kind", None, "pagerduty, sms, slack, email, webhook or command.", |text| {
            let known = KEYS.iter().map(|(kind, _)| *kind);
            known.clone().find(|kind| *kind == text).ok_or_else(|| {
                format!("{text:?} is not one of {}", known.collect::<Vec<_>>().join(", "))
            })
        });
    let url = section.parsed(
        "url",
        Some(""),
        "Where it goes: of sms and webhook; PagerDuty and Slack have their own.",
        |text| match text {
            "" => Ok(None),
            text => http_url(text).map(|()| Some(text.to_owned())),
        },
    );
    let (secret, [no_file, no_variable]) = read_secret(section);
    let server =
        section.parsed("server", Some(""), "Of email: the mail server, host:port.", |text| {
            match text {
                "" => Ok(None),
                text => host_port(text).map(Some),
            }
        });
    let tls = section.parsed(
        "tls",
        Some("starttls"),
        "Of email: \"starttls\", \"tls\" from the first byte, or \"none\", to this host only.",
        |text| match text {
            "starttls" => Ok(MailTls::StartTls),
            "tls" => Ok(MailTls::Tls),
            "none" => Ok(MailTls::None),
            _ => Err(format!("{text:?} is not one of starttls, tls, none")),
        },
    );
    let form = section.parsed(
        "format",
        Some("json"),
        "Of sms: \"json\" posts {\"to\", \"from\", \"text\"}, \"form\" posts To, From and Body, as Twilio takes them.",
        |text| match text {
            "json" => Ok(false),
            "form" => Ok(true),
            _ => Err(format!("{text:?} is neither json nor form")),
        },
    );
    let user = section.text(
        "user",
        Some(""),
        "Of email and sms: whom the secret is a password of. Empty: email asks for none, sms takes a token.",
    );
    let from = section.text("from", Some(""), "Of email and sms: who sends it.");
    let to = section.list(
        "to",
        &[],
        false,
        "Of email and sms: who gets it. Of slack: the channel that a bot posts to, such as \"#ops-critical\".",
    );
    let command = match section.inline(
        "command",
        "\"\"",
        "Of command: { command = [\"argv\", ...], timeout = \"30s\" }; it gets the message as JSON on its standard input.",
    ) {
        Some(Inline::Table(table)) => {
            let hook = means::hook(section, "command", &table);
            table.finish();
            hook
        }
        Some(Inline::Text(_)) => {
            section.problem("command", "must be a table, { command = [\"argv\", ...] }");
            None
        }
        None => None,
    };
    let timeout = section.duration(
        "timeout",
        "10s",
        Duration::from_millis(50)..=Duration::from_secs(120),
        "An attempt that takes longer is given up, and made again later.",
    );
    let pause = section.parsed(
        "pause",
        Some(""),
        "The shortest time between two messages. Empty: 1s for slack, none for others.",
        |text| match text {
            "" => Ok(None),
            text => match parse_duration(text)? {
                pause if pause <= Duration::from_secs(60) => Ok(Some(pause)),
                _ => Err(format!("{text:?} is over 60s")),
            },
        },
    );
    let kind = kind?;
    let usual = if kind == "slack" { Duration::from_secs(1) } else { Duration::ZERO };
    let allowed = KEYS.iter().find(|(name, _)| *name == kind).map_or(&[][..], |(_, keys)| keys);
    let every: BTreeSet<&str> = KEYS.iter().flat_map(|(_, keys)| keys.iter().copied()).collect();
    // At its default it may stand there, as it does in the text in force.
    let idle = [
        ("url", url == Some(None)),
        ("secret_file", no_file),
        ("secret_env", no_variable),
        ("server", server == Some(None)),
        ("tls", tls == Some(MailTls::StartTls)),
        ("format", form == Some(false)),
        ("user", user.is_empty()),
        ("from", from.is_empty()),
        ("to", to.is_empty()),
    ];
    let given = |key: &&str| section.has(key) && !idle.contains(&(*key, true));
    for key in every.into_iter().filter(|key| !allowed.contains(key) && given(key)) {
        section.problem(key, format!("is not for a channel of kind {kind}"));
    }
    let url = url?;
    let needed = |key: &'static str, missing: bool| {
        if missing {
            section.problem(key, format!("a channel of kind {kind} needs it"));
        }
        missing
    };
    let secret_missing = || needed("secret_file", secret.is_none());
    let wrong = match kind {
        "pagerduty" => secret_missing(),
        "slack" => secret_missing() | (to.len() > 1 && needed("to", true)),
        "sms" => {
            let number = |text: &String| {
                let ok = |byte: u8| byte.is_ascii_alphanumeric() || b"+-._#*".contains(&byte);
                (1..=64).contains(&text.len()) && text.bytes().all(ok)
            };
            let bad = to.iter().find(|text| !number(text));
            if let Some(bad) = bad {
                section.problem("to", format!("{bad:?} is no number"));
            }
            needed("url", url.is_none()) | needed("to", to.is_empty()) | bad.is_some()
        }
        "email" => {
            let plain = tls == Some(MailTls::None);
            let away = server.as_ref().and_then(Option::as_ref).is_some_and(|(host, _)| {
                !matches!(host.as_str(), "localhost" | "127.0.0.1" | "::1")
            });
            if plain && away {
                section.problem("tls", "\"none\" is for a mail server on this host only");
            }
            let addresses = to.iter().map(|to| ("to", to)).chain([("from", &from)]);
            let mut bad = plain && away;
            for (key, address) in addresses.filter(|(_, it)| !it.is_empty()) {
                if let Err(why) = mail_address(address) {
                    section.problem(key, format!("{address:?} is no mail address: {why}"));
                    bad = true;
                }
            }
            bad | needed("server", server.as_ref()?.is_none())
                | needed("from", from.is_empty())
                | needed("to", to.is_empty())
                | (!user.is_empty() && secret_missing())
        }
        "webhook" => needed("url", url.is_none() && secret.is_none()),
        _ => needed("command", command.is_none()),
    };
    if wrong {
        return None;
    }
    let kind = match kind {
        "pagerduty" => Kind::PagerDuty { url: url.unwrap_or_else(|| PAGERDUTY.to_owned()) },
        "slack" => Kind::Slack {
            url: url.unwrap_or_else(|| SLACK.to_owned()),
            to: to.into_iter().next().unwrap_or_default(),
        },
        "sms" => Kind::Sms { url: url?, form: form?, user, from, to },
        "email" => {
            let (host, port) = server??;
            Kind::Email { host, port, tls: tls?, user, from, to }
        }
        "webhook" => Kind::Webhook { url: url.unwrap_or_default() },
        _ => Kind::Command(command?),
    };
    Some(Channel { name, kind, secret, timeout, pause: pause?.unwrap_or(usual) })
}

/// The secret, and whether its file and its variable are at their default.
fn read_secret(section: &Section<'_>) -> (Option<Secret>, [bool; 2]) {
    let file = section.parsed(
        "secret_file",
        Some(""),
        "A file (0600) with the channel's secret: PagerDuty's routing key, the URL of Slack's incoming webhook or a bot's token, the token \
         of an sms gateway or a webhook (or the whole URL of that), the password of a mail server.",
        |text| match text {
            "" => Ok(None),
            text if text.starts_with('/') => Ok(Some(PathBuf::from(text))),
            _ => Err(format!("{text:?} must be an absolute path")),
        },
    );
    let variable = section.parsed(
        "secret_env",
        Some(""),
        "The environment variable with the secret, instead of a file.",
        |text| match text {
            "" => Ok(None),
            text if text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') => {
                Ok(Some(text.to_owned()))
            }
            _ => Err(format!("{text:?} is no name of a variable")),
        },
    );
    let idle = [file == Some(None), variable == Some(None)];
    let secret = match (file.flatten(), variable.flatten()) {
        (Some(_), Some(_)) => {
            section.problem("secret_env", "give secret_file or secret_env, not both");
            None
        }
        (Some(file), None) => Some(Secret::File(file)),
        (None, Some(variable)) => Some(Secret::Env(variable)),
        (None, None) => None,
    };
    (secret, idle)
}

fn http_url(text: &str) -> Result<(), String> {
    // Messages tell what is wrong with a host, and tokens go with them.
    check_url(text)
}

fn host_port(text: &str) -> Result<(String, u16), String> {
    let invalid = || format!("{text:?} is not host:port");
    let (host, port) = text.rsplit_once(':').ok_or_else(invalid)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port = port.parse::<u16>().map_err(|_| invalid())?;
    if host.is_empty() || port == 0 {
        return Err(invalid());
    }
    Ok((host.to_owned(), port))
}
