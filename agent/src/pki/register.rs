//! The register: every certificate that the CA has issued, and what follows from it. Pure: time is an argument.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::names::{Role, Serial};
use super::sign::Crl;
use crate::error::{Error, Kind, Result};

/// The version of the register's form.
const VERSION: u32 = 1;
/// The longest validity in days.
pub(super) const DAYS_LIMIT: u32 = 36_500;
/// Certificates begin so long before they are made, so that hosts whose clocks are behind take them.
pub(super) const SKEW: SignedDuration = SignedDuration::from_mins(5);
/// A certificate that ends within so many days is a finding.
const CERTIFICATE_WARNING_DAYS: i64 = 30;
/// A CA that ends within so many days is a finding.
const CA_WARNING_DAYS: i64 = 90;
/// A revocation list whose successor is due within so many days is a finding.
const CRL_WARNING_DAYS: i64 = 7;

/// Why a certificate was revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// No reason given.
    Unspecified,
    /// Its key is, or may be, in other hands.
    KeyCompromise,
    /// Another one has taken its place.
    Superseded,
    /// Its holder does not operate any more.
    Cessation,
}

/// A revocation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revocation {
    /// Since when.
    pub at: Timestamp,
    /// Why.
    pub reason: Reason,
}

/// An issued certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its serial number.
    pub serial: Serial,
    /// Whose it is.
    pub name: String,
    /// What it makes of its holder.
    pub role: Role,
    /// The identity in it.
    pub uri: String,
    /// What a server is reached under: DNS names and addresses. Empty for clients.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// When it was made.
    pub issued_at: Timestamp,
    /// It is valid from here,
    pub not_before: Timestamp,
    /// and until here.
    pub not_after: Timestamp,
    /// sha256 of its DER, in hex.
    pub sha256: String,
    /// Unset: it is not revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<Revocation>,
}

/// How far `pki init` has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    /// The files are being made; nothing was issued.
    Initialising,
    /// The CA is complete.
    Ready,
}

/// The newest revocation list that there must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CrlMark {
    /// Its number.
    pub(super) number: u64,
    /// So many days after it is signed, its successor is due.
    pub(super) days: u32,
}

/// What index.json holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Register {
    version: u32,
    pub(super) state: State,
    pub(super) fleet: String,
    pub(super) crl: CrlMark,
    pub(super) entries: Vec<Entry>,
}

/// What to do about crl.pem.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum CrlStep {
    /// It says what the register says.
    Keep,
    /// It is behind the register, or missing: sign one with this number.
    Sign(u64),
    /// It knows more than the register: the words say what.
    RegisterIsOlder(String),
}

impl Register {
    pub(super) fn new(fleet: &str, crl_days: u32) -> Self {
        Self {
            version: VERSION,
            state: State::Initialising,
            fleet: fleet.to_owned(),
            crl: CrlMark { number: 1, days: crl_days },
            entries: Vec::new(),
        }
    }

    /// Reads index.json; the error says what is wrong with it.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Probe {
            version: u32,
        }
        let wrong = |error: serde_json::Error| format!("it is no register: {error}");
        let probe: Probe = serde_json::from_slice(bytes).map_err(wrong)?;
        if probe.version != VERSION {
            return Err(format!(
                "its form is version {}, this program knows version {VERSION}",
                probe.version
            ));
        }
        let register: Self = serde_json::from_slice(bytes).map_err(wrong)?;
        let serials: BTreeSet<Serial> = register.entries.iter().map(|entry| entry.serial).collect();
        if serials.len() != register.entries.len() {
            return Err("two of its certificates have one serial number".into());
        }
        Ok(register)
    }

    /// The text of index.json.
    pub(super) fn text(&self) -> Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec_pretty(self).map_err(|error| {
            Error::internal("PKI_SIGN_FAILED", "can't write the register as JSON").caused_by(error)
        })?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    fn revoked(&self) -> BTreeSet<Serial> {
        let revoked = self.entries.iter().filter(|entry| entry.revoked.is_some());
        revoked.map(|entry| entry.serial).collect()
    }

    /// What to do about the revocation list found, `None` when it is missing or unreadable.
    pub(super) fn crl_step(&self, found: Option<&Crl>) -> CrlStep {
        let number = self.crl.number;
        // The one that is gone may have been handed out under the present number.
        let Some(crl) = found else { return CrlStep::Sign(number.saturating_add(1)) };
        let revoked = self.revoked();
        if let Some(serial) = crl.revoked.iter().find(|serial| !revoked.contains(serial)) {
            return CrlStep::RegisterIsOlder(format!("{serial} is revoked in crl.pem only"));
        }
        if crl.number > number {
            let message = format!("crl.pem has number {}, the register {number}", crl.number);
            return CrlStep::RegisterIsOlder(message);
        }
        if crl.number < number {
            return CrlStep::Sign(number);
        }
        if crl.revoked.len() == revoked.len() {
            CrlStep::Keep
        } else {
            CrlStep::Sign(number.saturating_add(1))
        }
    }

    /// Which certificates a name or a serial number means, as positions in `entries`.
    ///
    /// # Errors
    /// `PKI_NOT_FOUND`.
    pub(super) fn find(&self, target: &str) -> Result<Vec<usize>> {
        let matching = |wanted: &dyn Fn(&Entry) -> bool| -> Vec<usize> {
            let entries = self.entries.iter().enumerate();
            entries.filter(|(_, entry)| wanted(entry)).map(|(index, _)| index).collect()
        };
        let mut found = target
            .parse()
            .map(|serial: Serial| matching(&|entry| entry.serial == serial))
            .unwrap_or_default();
        if found.is_empty() {
            found = matching(&|entry| entry.name == target);
        }
        if found.is_empty() {
            let message = format!(
                "no certificate has the name or the serial number {target:?}; `pki list` shows them"
            );
            return Err(Error::not_found("PKI_NOT_FOUND", message));
        }
        Ok(found)
    }
}

/// How long a certificate is to be valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// So many days from now, beginning five minutes earlier.
    Days(u32),
    /// Exactly so, in whole seconds.
    Between {
        /// The first instant.
        not_before: Timestamp,
        /// The last one.
        not_after: Timestamp,
    },
}

impl Validity {
    /// The first and the last instant, in whole seconds.
    ///
    /// # Errors
    /// `PKI_VALIDITY_INVALID`.
    pub fn instants(self, now: Timestamp) -> Result<(Timestamp, Timestamp)> {
        let (from, to) = match self {
            Self::Days(days @ 1..=DAYS_LIMIT) => (now.checked_sub(SKEW).ok(), later(now, days)),
            Self::Days(days) => {
                let message = format!("{days} days is no validity; 1 to {DAYS_LIMIT} are allowed");
                return Err(Error::invalid("PKI_VALIDITY_INVALID", message));
            }
            Self::Between { not_before, not_after } => (Some(not_before), Some(not_after)),
        };
        match (from.and_then(whole), to.and_then(whole)) {
            (Some(from), Some(to)) if from < to => Ok((from, to)),
            _ => Err(Error::invalid(
                "PKI_VALIDITY_INVALID",
                "the validity must end after it begins, within the years that the calendar has",
            )),
        }
    }
}

/// So many days after `now`.
pub(super) fn later(now: Timestamp, days: u32) -> Option<Timestamp> {
    now.checked_add(SignedDuration::from_hours(24 * i64::from(days))).ok()
}

/// Without the part of a second, which certificates don't have.
pub(super) fn whole(at: Timestamp) -> Option<Timestamp> {
    Timestamp::from_second(at.as_second()).ok()
}

/// Refuses to sign outside the CA's own validity: either the clock or the CA's time is over.
///
/// # Errors
/// `PKI_CLOCK_WRONG`, `PKI_CA_EXPIRED`.
pub(super) fn check_clock(
    now: Timestamp,
    not_before: Timestamp,
    not_after: Timestamp,
) -> Result<()> {
    let refuse = |code, message: String| Err(Error::new(Kind::Refused, code, message));
    if now < not_before {
        let message = format!(
            "this host's clock says {now}, but the CA is valid from {not_before} only; set the clock"
        );
        return refuse("PKI_CLOCK_WRONG", message);
    }
    if now >= not_after {
        let message = format!(
            "the CA has ended at {not_after}, and this host's clock says {now}; make a new CA, \
             or set the clock if it is wrong"
        );
        return refuse("PKI_CA_EXPIRED", message);
    }
    Ok(())
}

/// Whole days from `now` to `then`, rounded down; negative once it is over.
pub fn days_left(now: Timestamp, then: Timestamp) -> i64 {
    then.as_second().saturating_sub(now.as_second()).div_euclid(86_400)
}

/// Something that wants to be renewed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is about: "ca", "crl", or the name of a certificate.
    pub subject: String,
    /// What is the matter, and what to do.
    pub message: String,
}

fn ends(now: Timestamp, then: Timestamp, within_days: i64) -> Option<String> {
    let limit = SignedDuration::from_hours(24 * within_days);
    if then <= now {
        Some(format!("has ended at {then}"))
    } else if then.duration_since(now) <= limit {
        Some(format!("ends at {then}, in {} days", days_left(now, then)))
    } else {
        None
    }
}

/// What is over or close to its end. A certificate counts when it is not revoked and the newest such one of
/// its name and role: what was renewed may end.
pub(super) fn findings(
    now: Timestamp,
    ca_not_after: Timestamp,
    crl_next_update: Option<Timestamp>,
    entries: &[Entry],
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut add = |subject: &str, message: String| {
        findings.push(Finding { subject: subject.to_owned(), message });
    };
    if let Some(ends) = ends(now, ca_not_after, CA_WARNING_DAYS) {
        add("ca", format!("the CA {ends}: make a new one and exchange the certificates"));
    }
    match crl_next_update {
        Some(next) => {
            if let Some(ends) = ends(now, next, CRL_WARNING_DAYS) {
                add("crl", format!("the revocation list {ends}: renew it with `pki crl`"));
            }
        }
        None => add("crl", "there is no readable revocation list: make one with `pki crl`".into()),
    }
    let live = || entries.iter().filter(|entry| entry.revoked.is_none());
    for entry in live() {
        let superseded = live().any(|other| {
            (&other.name, other.role) == (&entry.name, entry.role)
                && (other.not_after, other.serial) > (entry.not_after, entry.serial)
        });
        if superseded {
            continue;
        }
        if let Some(ends) = ends(now, entry.not_after, CERTIFICATE_WARNING_DAYS) {
            let message = format!(
                "the {} certificate of {} {ends}: issue a new one, or revoke it if nobody needs it",
                entry.role, entry.name
            );
            add(&entry.name, message);
        }
    }
    findings
}
