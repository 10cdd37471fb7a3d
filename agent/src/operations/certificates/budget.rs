//! What a CA still allows, by what this host has used: so that the limit is met here and not there, where a refusal may
//! last a week. Pure: events and the time are arguments.
//!
//! The numbers are those that Let's Encrypt publishes (<https://letsencrypt.org/docs/rate-limits/>). It counts in token
//! buckets; a reader of "5 per week" counts in a sliding window. Both must allow an order.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use genesis_storage::CertificateEventRecord;
use jiff::{SignedDuration, Timestamp};

/// An order was placed.
pub const ORDERED: &str = "ordered";
/// A certificate was issued.
pub const ISSUED: &str = "issued";
/// One was issued that can't be used. The CA counts it all the same.
pub const UNUSABLE: &str = "unusable";
/// An order came to nothing: the CA could not see that a domain is this host's.
pub const UNAUTHORIZED: &str = "unauthorized";
/// An order came to nothing for another reason.
pub const ENDED: &str = "order-ended";

/// The longest that any limit counts.
pub const COUNTED: Duration = Duration::from_secs(8 * 86_400);

/// One limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// So many.
    pub allowed: u32,
    /// In so long.
    pub window: Duration,
    /// Whether besides no more than that may be in any such window: the rule as people read it.
    pub sliding: bool,
}

impl Limit {
    /// One is given back after that time.
    fn refill(self) -> Duration {
        self.window / self.allowed.max(1)
    }
}

/// What a CA allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limits {
    /// As Let's Encrypt does.
    LetsEncrypt,
    /// Whatever is ordered.
    None,
}

/// Certificates for exactly the same names.
const IDENTIFIER_SET: Limit =
    Limit { allowed: 5, window: Duration::from_secs(7 * 86_400), sliding: true };
/// Certificates for names below one registered domain.
const REGISTERED_DOMAIN: Limit =
    Limit { allowed: 50, window: Duration::from_secs(7 * 86_400), sliding: true };
/// Orders of one account.
const ORDERS: Limit =
    Limit { allowed: 300, window: Duration::from_secs(3 * 3_600), sliding: false };
/// Failed authorizations of one name.
const FAILED: Limit = Limit { allowed: 5, window: Duration::from_secs(3_600), sliding: true };

impl Limits {
    /// Reads what is configured.
    ///
    /// # Errors
    /// The words that are known.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "letsencrypt" => Ok(Self::LetsEncrypt),
            "none" => Ok(Self::None),
            _ => Err(format!("{text:?} is neither \"letsencrypt\" nor \"none\"")),
        }
    }
}

/// How far a limit is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Used {
    /// "identifier-set", "registered-domain", "orders", "failed-authorizations".
    pub limit: &'static str,
    /// What it counts for.
    pub subject: String,
    /// So many were used in its window.
    pub used: u32,
    /// Of so many.
    pub allowed: u32,
    /// How long its window is.
    pub window: Duration,
    /// When one more is allowed; `None`: now.
    pub next_at: Option<Timestamp>,
}

/// The part of a name that somebody has registered, as the public suffix list tells; an address stands for itself.
pub fn registered_domain(identifier: &str) -> String {
    let name = identifier.strip_prefix("*.").unwrap_or(identifier);
    if name.parse::<std::net::IpAddr>().is_ok() {
        return name.to_owned();
    }
    psl::domain_str(name).unwrap_or(name).to_owned()
}

/// How far each limit of a CA is used that an order for these names counts for. `events` are those of this CA, in any
/// order. A replacement that the CA has taken for one counts for nothing but the account's orders.
pub fn used(
    limits: Limits,
    events: &[CertificateEventRecord],
    identifiers: &[String],
    now: Timestamp,
) -> Vec<Used> {
    if limits == Limits::None {
        return Vec::new();
    }
    let times = |wanted: &dyn Fn(&CertificateEventRecord) -> bool| {
        let mut times: Vec<Timestamp> =
            events.iter().filter(|event| wanted(event)).map(|event| event.at).collect();
        times.sort_unstable();
        times
    };
    let certificates = open_and_issued(events);
    let counted =
        |event: &CertificateEventRecord| !event.exempt && certificates.contains(event.id.as_str());
    let set = |event: &CertificateEventRecord| counted(event) && event.identifiers == identifiers;
    let mut found =
        vec![of("identifier-set", identifiers.join(","), IDENTIFIER_SET, &times(&set), now)];
    let domains: BTreeSet<String> = identifiers.iter().map(|it| registered_domain(it)).collect();
    for domain in domains {
        let below = |event: &CertificateEventRecord| {
            counted(event) && event.identifiers.iter().any(|it| registered_domain(it) == domain)
        };
        found.push(of("registered-domain", domain.clone(), REGISTERED_DOMAIN, &times(&below), now));
    }
    let orders = times(&|event| event.kind == ORDERED);
    found.push(of("orders", "the account".to_owned(), ORDERS, &orders, now));
    for identifier in identifiers {
        let failed = |event: &CertificateEventRecord| {
            event.kind == UNAUTHORIZED && event.identifiers.contains(identifier)
        };
        let failed = times(&failed);
        if !failed.is_empty() {
            found.push(of("failed-authorizations", identifier.clone(), FAILED, &failed, now));
        }
    }
    found
}

/// The events that stand for a certificate: it was issued, or it is ordered and may be. One that is issued counts once,
/// not for its order too.
fn open_and_issued(events: &[CertificateEventRecord]) -> BTreeSet<&str> {
    let mut in_order: Vec<&CertificateEventRecord> = events.iter().collect();
    in_order.sort_by(|a, b| a.id.cmp(&b.id));
    let (mut counted, mut open) = (BTreeSet::new(), BTreeMap::<(&str, u32), &str>::new());
    for event in in_order {
        // Each order has a generation of its own. One that was given up and of which the CA did not say that it has come
        // to nothing may have been issued all the same.
        let order = (event.name.as_str(), event.generation);
        match event.kind.as_str() {
            ORDERED => {
                open.insert(order, &event.id);
            }
            ISSUED | UNUSABLE => {
                open.remove(&order);
                counted.insert(event.id.as_str());
            }
            ENDED | UNAUTHORIZED => {
                open.remove(&order);
            }
            _ => {}
        }
    }
    counted.extend(open.into_values());
    counted
}

/// `times` in order.
fn of(
    name: &'static str,
    subject: String,
    limit: Limit,
    times: &[Timestamp],
    now: Timestamp,
) -> Used {
    let signed =
        |duration: Duration| SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX);
    let (window, refill) = (signed(limit.window), signed(limit.refill()));
    // What a clock that was ahead has written counts from now on.
    let times: Vec<Timestamp> = times.iter().map(|at| (*at).min(now)).collect();
    let from = now.saturating_sub(window).unwrap_or(Timestamp::MIN);
    let within: Vec<Timestamp> = times.iter().filter(|at| **at > from).copied().collect();
    let allowed = limit.allowed as usize;
    let sliding = (limit.sliding && within.len() >= allowed)
        .then(|| within[within.len() - allowed].saturating_add(window).unwrap_or(Timestamp::MAX));
    // The bucket, as the generic cell rate algorithm counts it (ITU-T I.371): one instant is all its state.
    let mut empty_until = Timestamp::MIN;
    for at in &times {
        empty_until = empty_until.max(*at).saturating_add(refill).unwrap_or(Timestamp::MAX);
    }
    let credit = window.saturating_sub(refill);
    let bucket = empty_until.saturating_sub(credit).ok().filter(|at| *at > now);
    Used {
        limit: name,
        subject,
        used: u32::try_from(within.len()).unwrap_or(u32::MAX),
        allowed: limit.allowed,
        window: limit.window,
        next_at: sliding.max(bucket).filter(|at| *at > now).map(super::backoff::whole),
    }
}

/// What holds an order back the longest; `None`: nothing does. With `replacement`, the limits do not count that such an
/// order is exempt from.
pub fn held(used: &[Used], replacement: bool) -> Option<&Used> {
    used.iter()
        .filter(|it| !replacement || !matches!(it.limit, "identifier-set" | "registered-domain"))
        .filter(|it| it.next_at.is_some())
        .max_by_key(|it| it.next_at)
}
