//! How a certificate looks to people.

use std::time::Duration;

use genesis_storage::{CertificateOrigin, CertificateTrouble, GenerationRecord};
use jiff::{SignedDuration, Timestamp};

use super::config::Certificate;
use super::due::{self, Due};
use super::plan;
use super::verify::Served;
use super::{Certificates, Standing, key, lock};
use crate::error::Result;

/// Where a certificate is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Life {
    /// There is none.
    Absent,
    /// One is being ordered.
    Ordering,
    /// A new one is on the disk and not in service.
    Staged,
    /// In force on the disk.
    Deployed,
    /// And seen to be served.
    Proven,
    /// Due to be renewed.
    Due,
    /// The last attempt failed, and the next waits.
    Backoff,
    /// One that nobody trusts is in service.
    SelfSigned,
}

/// How a certificate looks.
#[derive(Debug, Clone)]
pub struct View {
    /// As configured.
    pub certificate: Certificate,
    /// Where it is.
    pub life: Life,
    /// In words.
    pub summary: String,
    /// How it stands.
    pub standing: Standing,
    /// Each generation, whether it may be used; in the order of the standing's, the one for need last.
    pub usable: Vec<Result<(), String>>,
    /// When it is due.
    pub due: Due,
    /// Time left; negative once it has ended.
    pub left: Option<SignedDuration>,
    /// What was last seen to be served.
    pub served: Option<Served>,
    /// The run going on.
    pub run: Option<String>,
    /// Until when the next attempt waits.
    pub held: Option<Option<Timestamp>>,
}

/// A time in words, the two greatest units of it.
pub fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let units = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let Some(first) = units.iter().position(|(unit, _)| seconds >= *unit) else {
        return "0 s".to_owned();
    };
    let (unit, name) = units[first];
    let rest = seconds % unit;
    match units.get(first + 1) {
        Some((smaller, below)) if rest >= *smaller => {
            format!("{} {name} {} {below}", seconds / unit, rest / smaller)
        }
        _ => format!("{} {name}", seconds / unit),
    }
}

/// What an origin is called.
pub fn origin(origin: CertificateOrigin) -> &'static str {
    match origin {
        CertificateOrigin::Acme => "acme",
        CertificateOrigin::Imported => "imported",
        CertificateOrigin::Backup => "backup",
        CertificateOrigin::SelfSigned => "self-signed",
    }
}

/// What a trouble is called.
pub fn trouble(trouble: CertificateTrouble) -> &'static str {
    match trouble {
        CertificateTrouble::RateLimited => "rate limited",
        CertificateTrouble::Authorization => "not authorized",
        CertificateTrouble::Server => "the CA fails",
        CertificateTrouble::Policy => "the CA refuses",
        CertificateTrouble::Local => "this host fails",
        CertificateTrouble::Clock => "the clock is wrong",
    }
}

/// Time left until a generation ends.
pub fn left(generation: &GenerationRecord, now: Timestamp) -> SignedDuration {
    generation.not_after.duration_since(now)
}

impl Certificates {
    /// How a certificate looks now.
    ///
    /// # Errors
    /// `STORAGE_FAILED`.
    pub(super) fn view(&self, certificate: &Certificate) -> Result<View> {
        let (config, now) = (self.config.load(), self.now());
        let standing = self.standing(&certificate.name)?;
        let digest = certificate.digest(&config);
        let clock = self.clock_for(&standing);
        let situation = standing.situation(certificate, &digest, (clock.as_deref(), false), now);
        let mut due = due::due(&situation);
        due.at = match due.at > now {
            true => super::backoff::whole(due.at),
            // What is due stays due.
            false => Timestamp::from_second(due.at.as_second()).unwrap_or(due.at),
        };
        let held = situation.held();
        let run = self.runs.active_with_key(&key(&certificate.name));
        let served = lock(&self.served).get(&certificate.name).cloned();
        let sound = situation.sound().is_some();
        let current = standing.current();
        let newer = standing.generations.iter().any(|it| {
            it.number > standing.record.generation && it.origin != CertificateOrigin::SelfSigned
        });
        let proven = current.is_some_and(|it| it.proven_at.is_some())
            && served.as_ref().is_none_or(|seen| seen.is_current(current));
        let self_signed = current.is_some_and(|it| it.origin == CertificateOrigin::SelfSigned);
        let life = if self_signed {
            Life::SelfSigned
        } else if run.is_some() && !standing.record.orders.is_empty() {
            Life::Ordering
        } else if standing.record.deploying.is_some() || (newer && standing.record.pin.is_none()) {
            Life::Staged
        } else if held.is_some() {
            Life::Backoff
        } else if current.is_none() {
            if run.is_some() { Life::Ordering } else { Life::Absent }
        } else if due.at <= now && standing.record.pin.is_none() {
            Life::Due
        } else if proven && sound {
            Life::Proven
        } else {
            Life::Deployed
        };
        let usable = standing
            .generations
            .iter()
            .chain(&standing.backup)
            .map(|it| plan::usable(it, &certificate.identifiers, now))
            .collect();
        let left = current.map(|it| left(it, now));
        let mut certificate = certificate.clone();
        // Where it is looked at, whoever said so.
        certificate.probe = self.probe(&certificate);
        let summary = summary(&standing, life, (&due, held), (clock, &certificate), now);
        Ok(View { certificate, life, summary, usable, due, left, served, run, held, standing })
    }
}

fn summary(
    standing: &Standing,
    life: Life,
    (due, held): (&Due, Option<Option<Timestamp>>),
    (clock, certificate): (Option<String>, &Certificate),
    now: Timestamp,
) -> String {
    if let Some(why) = clock {
        return format!("CLOCK_SUSPECT: {why}; nothing is ordered");
    }
    let waits = match (held, &standing.record.backoff) {
        (Some(until), Some(backoff)) => {
            let then = match until {
                Some(until) => format!("tried again at {until}"),
                None => "tried again when the configuration is another".to_owned(),
            };
            Some(format!("{}: {}; {then}", trouble(backoff.trouble), backoff.error))
        }
        _ => None,
    };
    match life {
        Life::SelfSigned => match waits {
            Some(waits) => format!("a self-signed one is in service; {waits}"),
            None => "a self-signed one is in service".to_owned(),
        },
        Life::Backoff => waits.unwrap_or_default(),
        Life::Absent if certificate.cas.is_empty() => {
            "there is none; no CA is configured: import one, or install one for need".to_owned()
        }
        Life::Absent => "there is none yet".to_owned(),
        Life::Ordering => match standing.record.orders.last() {
            Some(order) => format!("ordered from {} at {:.0}", order.ca, order.at),
            None => "being ordered".to_owned(),
        },
        Life::Staged => "a newer one is on the disk and not in service yet".to_owned(),
        Life::Due if due.at <= now => format!("due since {:.0}: {}", due.at, due.why),
        _ if standing.record.pin.is_some() => {
            "pinned: nothing is ordered; `genesisctl cert unpin` ends that".to_owned()
        }
        Life::Proven => format!("served as it is on the disk; due at {}: {}", due.at, due.why),
        _ if certificate.probe.is_none() => {
            format!("in force; no probe shows what is served; due at {}: {}", due.at, due.why)
        }
        _ => format!("in force, not seen to be served; due at {}: {}", due.at, due.why),
    }
}
