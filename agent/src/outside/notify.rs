//! What alerts are sent through. Success is what the channel says it accepted, never the lack of an error.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use jiff::Timestamp;

use super::aside::Aside;
use super::dial::Resolver;
use super::hooks;
use super::web::{Answer, Web, check_url};
use super::{Clock, mail, secret};
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
    /// The channel itself has to be mended, such as its secret: it takes nothing before.
    Mend {
        /// Why, and what to do.
        why: String,
    },
    /// This will never be accepted as it is: somebody has to mend something.
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

    /// The channel itself has to be mended.
    pub fn mend(why: impl Into<String>) -> Self {
        Self::Mend { why: why.into() }
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

/// So many pairs of message and recipient are remembered.
const SERVED: usize = 4_096;

/// The real channels.
pub struct RealNotifier {
    web: Arc<Web>,
    clock: Arc<dyn Clock>,
    resolver: Resolver,
    /// Files are read aside: one on a dead mount costs its channel its time, and no other.
    files: Aside<Secret, Result<String, String>>,
    /// Who has got which message, so that one of several recipients who fails gets it again alone.
    served: Mutex<VecDeque<(String, String)>>,
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
        Self {
            web,
            clock,
            resolver: Resolver::default(),
            files: Aside::default(),
            served: Mutex::default(),
        }
    }

    /// POSTs; what the answer repeats of `secrets` is taken out of it.
    async fn post(
        &self,
        url: &str,
        headers: &[(&str, &str)],
        body: String,
        secrets: &[&str],
    ) -> Result<Answer, Sent> {
        let answer = self.web.post(url, headers, body, ANSWER).await;
        let mut answer = answer.map_err(|failure| Sent::later(failure.to_string()))?;
        let mut text = String::from_utf8_lossy(&answer.body).into_owned();
        for secret in secrets.iter().flat_map(|secret| faces(secret)) {
            text = text.replace(&secret, "***");
        }
        answer.body = text.into_bytes();
        Ok(answer)
    }

    async fn attempt(&self, channel: &Channel, message: &Message) -> Result<Sent, Sent> {
        let secret = match channel.secret.clone() {
            None => None,
            Some(secret) => {
                let wanted = secret.clone();
                let read = self.files.run(&secret, move || read(&wanted)).await;
                Some(read.and_then(|read| read).map_err(Sent::later)?)
            }
        };
        let key = secret.as_deref().unwrap_or_default();
        let json = ("content-type", "application/json");
        let now = self.clock.now();
        match &channel.kind {
            Kind::PagerDuty { url } => {
                if message.occasion == Occasion::Heartbeat {
                    return Err(Sent::never("PagerDuty takes no heartbeats; use a webhook"));
                }
                let event = render::pagerduty(message, key);
                let answer = self.post(url, &[json], event.to_string(), &[key]).await?;
                match answer.status {
                    // Its word for accepted; whoever says anything else is not PagerDuty.
                    200 | 201 | 203..=299 => {
                        let status = answer.status;
                        Err(Sent::later(format!("{status} instead of 202; is url PagerDuty's?")))
                    }
                    _ if message.occasion == Occasion::Test && answer.status == 202 => {
                        // What a test has opened is closed again.
                        let end = render::pagerduty_end(message, key).to_string();
                        self.post(url, &[json], end, &[key]).await?;
                        Ok(judge(&answer, now))
                    }
                    _ => Ok(judge(&answer, now)),
                }
            }
            Kind::Slack { url, to } => {
                let text = render::slack(message);
                if let Some(url) = whole_url(key)? {
                    let body = serde_json::json!({ "text": text }).to_string();
                    let answer = self.post(url, &[json], body, &[key]).await?;
                    return Ok(judge(&answer, now));
                }
                if to.is_empty() {
                    return Err(Sent::mend("a bot's token needs `to`, the channel it posts to"));
                }
                let body = serde_json::json!({ "channel": to, "text": text }).to_string();
                let bearer = format!("Bearer {key}");
                let headers = [
                    ("content-type", "application/json; charset=utf-8"),
                    ("authorization", bearer.as_str()),
                ];
                let answer = self.post(url, &headers, body, &[key]).await?;
                Ok(slack_said(&answer, now))
            }
            Kind::Sms { url, form, user, from, to } => {
                let text = render::short(message);
                let one =
                    |number| self.sms((url, *form), (user, key), (from, number, &text), message);
                self.each(message, to, one).await
            }
            Kind::Webhook { url } => {
                let bearer = format!("Bearer {key}");
                let mut headers = vec![json, ("idempotency-key", message.id.as_str())];
                let whole = whole_url(key)?;
                if secret.is_some() && whole.is_none() {
                    headers.push(("authorization", &bearer));
                }
                let url = whole.unwrap_or(url);
                if url.is_empty() {
                    return Err(Sent::mend("its secret is no URL, and it has no url"));
                }
                let body = render::json(message).to_string();
                let answer = self.post(url, &headers, body, &[key]).await?;
                Ok(judge(&answer, now))
            }
            Kind::Email { host, port, tls, user, from, to } => {
                let login = (!user.is_empty()).then_some((user.as_str(), key));
                let addresses = self.resolver.addresses(host).await;
                let addresses = addresses.map_err(|failure| Sent::later(failure.to_string()))?;
                let Some(address) = addresses.first().copied() else {
                    return Err(Sent::later(format!("{host} has no address")));
                };
                let server = mail::Server { host, address, port: *port, tls: *tls, login };
                let one = |one| mail::send(&server, (from, to, one), message, channel.timeout);
                self.each(message, to, one).await
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

    /// Sends to each recipient who has not got it yet, whatever becomes of the others. Accepted: somebody has it, and
    /// for nobody it is worth another attempt.
    async fn each<'a, F: Future<Output = Sent>>(
        &self,
        message: &Message,
        to: &'a [String],
        one: impl Fn(&'a str) -> F,
    ) -> Result<Sent, Sent> {
        let (mut later, mut said, mut refused) = (None, None, Vec::new());
        // At the same time: one who hangs takes all the time that there is, and must not take that of the others.
        let sent = join_all(to.iter().map(|recipient| async {
            let pair = (message.id.clone(), recipient.clone());
            if self.served().contains(&pair) {
                return Sent::Accepted { detail: "all have it".to_owned() };
            }
            let sent = one(recipient).await;
            if matches!(sent, Sent::Accepted { .. }) {
                let mut served = self.served();
                served.push_back(pair);
                let excess = served.len().saturating_sub(SERVED);
                served.drain(..excess);
            }
            sent
        }));
        for (recipient, sent) in to.iter().zip(sent.await) {
            match sent {
                Sent::Accepted { detail } => said = Some(detail),
                failed @ (Sent::Later { .. } | Sent::Mend { .. }) => later = Some(failed),
                Sent::Never { why } => refused.push(format!("{recipient}: {why}")),
            }
        }
        match (later, said) {
            (Some(later), _) => Err(later),
            (None, Some(said)) if refused.is_empty() => Ok(Sent::Accepted { detail: said }),
            (None, Some(said)) => {
                let refused = refused.join("; ");
                Ok(Sent::Accepted { detail: format!("{said}; but not by {refused}") })
            }
            (None, None) => Err(Sent::never(refused.join("; "))),
        }
    }

    fn served(&self) -> MutexGuard<'_, VecDeque<(String, String)>> {
        self.served.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn sms(
        &self,
        (url, form): (&str, bool),
        (user, key): (&str, &str),
        (from, number, text): (&str, &str, &str),
        message: &Message,
    ) -> Sent {
        let basic = base64(&format!("{user}:{key}"));
        let credentials = match (user, key) {
            (_, "") => None,
            ("", token) => Some(format!("Bearer {token}")),
            _ => Some(format!("Basic {basic}")),
        };
        let kind = if form { "application/x-www-form-urlencoded" } else { "application/json" };
        let body = match form {
            true => {
                let fields = [("To", number), ("From", from), ("Body", text)];
                let fields = fields.map(|(name, value)| format!("{name}={}", escaped(value)));
                fields.join("&")
            }
            false => serde_json::json!({ "to": number, "from": from, "text": text }).to_string(),
        };
        let once = format!("{}/{number}", message.id);
        let mut headers = vec![("content-type", kind), ("idempotency-key", once.as_str())];
        headers.extend(credentials.as_deref().map(|it| ("authorization", it)));
        match self.post(url, &headers, body, &[key, &basic]).await {
            Ok(answer) => judge(&answer, self.clock.now()),
            Err(sent) => sent,
        }
    }
}

/// How a secret may be repeated: as it is, of a URL what comes behind the host, and both as some write them in JSON.
fn faces(secret: &str) -> Vec<String> {
    let behind =
        secret.split_once("://").and_then(|(_, rest)| rest.find('/').map(|at| &rest[at..]));
    let known = [Some(secret), behind].into_iter().flatten().filter(|text| text.len() >= 4);
    known.flat_map(|text| [text.to_owned(), text.replace('/', "\\/")]).collect()
}

/// A secret that is a URL itself.
fn whole_url(secret: &str) -> Result<Option<&str>, Sent> {
    if !secret.starts_with("https://") && !secret.starts_with("http://") {
        return Ok(None);
    }
    match check_url(secret) {
        Ok(()) => Ok(Some(secret)),
        Err(why) => Err(Sent::mend(format!("the URL in its secret {why}"))),
    }
}

#[async_trait]
impl Notifier for RealNotifier {
    async fn send(&self, channel: &Channel, message: &Message) -> Sent {
        let limit = channel.patience();
        let sent = match tokio::time::timeout(limit, self.attempt(channel, message)).await {
            Ok(Ok(sent) | Err(sent)) => sent,
            Err(_) => Sent::later(format!("no answer within {limit:?}")),
        };
        match (sent, &channel.secret) {
            // Somebody has to know which one.
            (Sent::Mend { why }, Some(secret)) if why.contains("mend its secret") => {
                let place = match secret {
                    Secret::File(file) => file.display().to_string(),
                    Secret::Env(name) => format!("the environment variable {name}"),
                };
                Sent::mend(format!("{why} in {place}"))
            }
            (sent, _) => sent,
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
            Sent::mend(format!("{status}: a redirection, which is not followed; mend url"))
        }
        401 | 403 => Sent::mend(format!("{said}; mend its secret")),
        404 | 405 | 410 => Sent::mend(format!("{said}; mend url")),
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
        (_, error @ ("msg_too_long" | "no_text" | "invalid_arguments")) => {
            Sent::never(format!("Slack says {error}"))
        }
        // Its token, or whom it is for.
        (Some(false), error) => Sent::mend(format!("Slack says {}", render::clean(error, 100))),
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

/// Whether a file holds a secret that a channel can use.
///
/// # Errors
/// Why not.
pub fn check_secret(file: &Path) -> Result<(), String> {
    read(&Secret::File(file.to_owned())).map(drop)
}

/// Reads a file that holds a secret, of which nobody else may read.
///
/// # Errors
/// Why it can't be used.
pub fn read_secret(file: &Path) -> Result<String, String> {
    secret::text(file, SECRET)
}

/// Reads a secret; the words of an error hold none of it.
fn read(secret: &Secret) -> Result<String, String> {
    let text = match secret {
        Secret::Env(name) => std::env::var(name)
            .map_err(|_| format!("the environment variable {name} is not set, or is no text"))?,
        Secret::File(path) => secret::text(path, SECRET)?,
    };
    let text = text.trim();
    if text.is_empty() || text.bytes().any(|byte| byte.is_ascii_control()) {
        return Err("its secret is empty, or has more than one line".to_owned());
    }
    Ok(text.to_owned())
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
