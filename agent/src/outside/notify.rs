//! What alerts are sent through. Success is what the channel says it accepted, never the lack of an error.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use super::hooks;
use super::web::{Answer, Web};
use super::{Clock, mail};
use crate::alerts::channel::{Channel, Kind, Secret};
use crate::alerts::message::{Message, Occasion};
use crate::alerts::render;

/// So much of an answer is read, in bytes.
const ANSWER: usize = 16 << 10;
/// A secret is no longer than this, in bytes.
const SECRET: u64 = 8 << 10;
/// Nobody is waited for longer than this because they asked.
const LONGEST: Duration = Duration::from_secs(3_600);

/// What became of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sent {
    /// The channel has it.
    Accepted {
        /// What it said.
        detail: String,
    },
    /// It may be tried again.
    Later {
        /// Not before so long, where the channel says so.
        after: Option<Duration>,
        /// Why.
        why: String,
    },
    /// It will never be accepted as it is: somebody has to mend something.
    Never {
        /// Why, and what to do.
        why: String,
    },
}

impl Sent {
    /// It may be tried again.
    pub fn later(why: impl Into<String>) -> Self {
        Self::Later { after: None, why: why.into() }
    }

    /// Somebody has to mend something.
    pub fn never(why: impl Into<String>) -> Self {
        Self::Never { why: why.into() }
    }
}

/// Sends messages.
#[async_trait]
pub trait Notifier: Send + Sync {
    /// Sends one message by one channel, within the channel's time.
    async fn send(&self, channel: &Channel, message: &Message) -> Sent;
}

/// The real channels.
pub struct RealNotifier {
    web: Arc<Web>,
    clock: Arc<dyn Clock>,
}

/// Whether a text is a mail address.
///
/// # Errors
/// Why it is none.
pub fn mail_address(text: &str) -> Result<(), String> {
    text.parse::<lettre::Address>().map(drop).map_err(|error| error.to_string())
}

impl RealNotifier {
    /// One that reaches HTTP through `web`.
    pub fn new(web: Arc<Web>, clock: Arc<dyn Clock>) -> Self {
        Self { web, clock }
    }

    async fn post(
        &self,
        url: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> Result<Answer, Sent> {
        let answer = self.web.post(url, headers, body, ANSWER).await;
        answer.map_err(|failure| Sent::later(failure.to_string()))
    }

    async fn attempt(&self, channel: &Channel, message: &Message) -> Result<Sent, Sent> {
        // Files are small and local; one on a dead mount costs this channel its time and no other.
        let secret = match channel.secret.clone() {
            None => None,
            Some(secret) => {
                let read = tokio::task::spawn_blocking(move || read(&secret)).await;
                Some(read.unwrap_or_else(|_| Err("its secret could not be read".to_owned())))
            }
        };
        let secret = secret.transpose().map_err(Sent::never)?;
        let key = secret.as_deref().unwrap_or_default();
        let json = ("content-type", "application/json");
        let now = self.clock.now();
        match &channel.kind {
            Kind::PagerDuty { url } => {
                if message.occasion == Occasion::Heartbeat {
                    return Err(Sent::never("PagerDuty takes no heartbeats; use a webhook"));
                }
                let event = render::pagerduty(message, key);
                let answer = self.post(url, &[json], event.to_string()).await?;
                Ok(judge(&answer, now))
            }
            Kind::Slack { url, to } => {
                let text = render::slack(message);
                let body = |fields: serde_json::Value| fields.to_string();
                if key.starts_with("https://") || key.starts_with("http://") {
                    let answer =
                        self.post(key, &[json], body(serde_json::json!({ "text": text }))).await?;
                    return Ok(judge(&answer, now));
                }
                if to.is_empty() {
                    return Err(Sent::never("a bot's token needs `to`, the channel it posts to"));
                }
                let fields = serde_json::json!({ "channel": to, "text": text });
                let bearer = format!("Bearer {key}");
                let headers = [
                    ("content-type", "application/json; charset=utf-8"),
                    ("authorization", bearer.as_str()),
                ];
                let answer = self.post(url, &headers, body(fields)).await?;
                Ok(slack_said(&answer, now))
            }
            Kind::Sms { url, form, user, from, to } => {
                self.sms((url, *form), (user, key), (from, to), message).await
            }
            Kind::Webhook { url } => {
                let bearer = format!("Bearer {key}");
                let mut headers = vec![json, ("idempotency-key", message.id.as_str())];
                if secret.is_some() {
                    headers.push(("authorization", &bearer));
                }
                let answer = self.post(url, &headers, render::json(message).to_string()).await?;
                Ok(judge(&answer, now))
            }
            Kind::Email { host, port, tls, user, from, to } => {
                let login = (!user.is_empty()).then_some((user.as_str(), key));
                let server = mail::Server { host, port: *port, tls: *tls, login };
                Ok(mail::send(&server, (from, to), message, channel.timeout).await)
            }
            Kind::Command(hook) => {
                let variables = [
                    ("OCCASION", message.occasion.name().to_owned()),
                    ("HEADLINE", render::headline(message)),
                    ("CHANNEL", channel.name.clone()),
                ];
                match hooks::run(hook, &render::json(message), &variables).await {
                    Ok(_) => Ok(Sent::Accepted { detail: "it ended with 0".to_owned() }),
                    Err(error) => Err(Sent::later(error.to_string())),
                }
            }
        }
    }

    async fn sms(
        &self,
        (url, form): (&str, bool),
        (user, key): (&str, &str),
        (from, to): (&str, &[String]),
        message: &Message,
    ) -> Result<Sent, Sent> {
        let text = render::short(message);
        let credentials = match (user, key) {
            (_, "") => None,
            ("", token) => Some(format!("Bearer {token}")),
            (user, password) => Some(format!("Basic {}", base64(&format!("{user}:{password}")))),
        };
        let kind = if form { "application/x-www-form-urlencoded" } else { "application/json" };
        let mut said = Sent::never("nobody to send it to");
        // One by one: a gateway that takes the same message twice is told by its key.
        for number in to {
            let body = match form {
                true => {
                    let fields = [("To", number.as_str()), ("From", from), ("Body", &text)];
                    let fields = fields.map(|(name, value)| format!("{name}={}", escaped(value)));
                    fields.join("&")
                }
                false => {
                    serde_json::json!({ "to": number, "from": from, "text": text }).to_string()
                }
            };
            let once = format!("{}/{number}", message.id);
            let mut headers = vec![("content-type", kind), ("idempotency-key", once.as_str())];
            headers.extend(credentials.as_deref().map(|it| ("authorization", it)));
            let answer = self.post(url, &headers, body).await?;
            said = judge(&answer, self.clock.now());
            if !matches!(said, Sent::Accepted { .. }) {
                return Err(said);
            }
        }
        Ok(said)
    }
}

#[async_trait]
impl Notifier for RealNotifier {
    async fn send(&self, channel: &Channel, message: &Message) -> Sent {
        let limit = match &channel.kind {
            // A command has its own time.
            Kind::Command(hook) => hook.timeout + Duration::from_secs(1),
            _ => channel.timeout,
        };
        let attempt = tokio::time::timeout(limit, self.attempt(channel, message));
        match attempt.await {
            Ok(Ok(sent) | Err(sent)) => sent,
            Err(_) => Sent::later(format!("no answer within {limit:?}")),
        }
    }
}

/// What an answer over HTTP means.
fn judge(answer: &Answer, now: Timestamp) -> Sent {
    let status = answer.status;
    let body = render::clean(&String::from_utf8_lossy(&answer.body), 200);
    let said = if body.is_empty() { format!("{status}") } else { format!("{status}: {body}") };
    match status {
        200..=299 => Sent::Accepted { detail: said },
        300..=399 => {
            Sent::never(format!("{status}: a redirection, which is not followed; mend url"))
        }
        401 | 403 => Sent::never(format!("{said}; mend its secret")),
        408 | 425 | 429 | 500.. => Sent::Later { after: retry_after(answer, now), why: said },
        _ => Sent::never(said),
    }
}

/// Slack says 200 to everything, and in the body whether it was taken.
fn slack_said(answer: &Answer, now: Timestamp) -> Sent {
    let judged = judge(answer, now);
    if !matches!(judged, Sent::Accepted { .. }) {
        return judged;
    }
    let said: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    match (said["ok"].as_bool(), said["error"].as_str().unwrap_or("no word of ok")) {
        (Some(true), _) => judged,
        (
            _,
            error @ ("ratelimited"
            | "rate_limited"
            | "internal_error"
            | "fatal_error"
            | "service_unavailable"
            | "request_timeout"),
        ) => Sent::later(format!("Slack says {error}")),
        (Some(false), error) => Sent::never(format!("Slack says {}", render::clean(error, 100))),
        (None, _) => Sent::later("Slack's answer does not say whether it was taken"),
    }
}

/// How long the channel wants to be left alone: seconds, or an instant (RFC 9110, 10.2.3).
fn retry_after(answer: &Answer, now: Timestamp) -> Option<Duration> {
    let text = answer.headers.get("retry-after")?.to_str().ok()?.trim();
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let until = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
            Duration::try_from(until.duration_since(now)).unwrap_or_default()
        }
    };
    Some(wait.min(LONGEST))
}

/// Reads a secret; the words of an error hold none of it.
fn read(secret: &Secret) -> Result<String, String> {
    let text = match secret {
        Secret::Env(name) => std::env::var(name)
            .map_err(|_| format!("the environment variable {name} is not set, or is no text"))?,
        Secret::File(path) => read_file(path)?,
    };
    let text = text.trim();
    if text.is_empty() || text.bytes().any(|byte| byte.is_ascii_control()) {
        return Err("its secret is empty, or has more than one line".to_owned());
    }
    Ok(text.to_owned())
}

fn read_file(path: &Path) -> Result<String, String> {
    let shown = path.display();
    let facts = std::fs::metadata(path).map_err(|error| format!("can't read {shown}: {error}"))?;
    if !facts.is_file() || facts.len() > SECRET {
        return Err(format!("{shown} is no file of a secret"));
    }
    if facts.mode() & 0o077 != 0 {
        return Err(format!("{shown} can be read by others; make it 0600"));
    }
    std::fs::read_to_string(path).map_err(|error| format!("can't read {shown}: {error}"))
}

/// RFC 4648, section 4.
fn base64(text: &str) -> String {
    use base64::Engine as _;

    base64::engine::general_purpose::STANDARD.encode(text)
}

/// As forms are written (WHATWG URL, application/x-www-form-urlencoded).
fn escaped(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}
