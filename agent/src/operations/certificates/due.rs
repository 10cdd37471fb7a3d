//! When a certificate is due, and when people are warned. Pure: the state and the time are arguments.

use std::time::Duration;

use genesis_storage::{CertificateOrigin, GenerationRecord};
use jiff::Timestamp;

use super::plan::{DAY, HOUR, Situation, lifetime, minus, plus, usable};
use super::view::span;

/// A life up to here is short: half of it is kept, where others keep a third.
pub const SHORT: Duration = Duration::from_secs(10 * 86_400);
/// Two issuances for the same names are never closer.
const CLOSEST: Duration = HOUR;
/// So long before its end it is renewed, where its CA names no time: a third of its life, or half of a short one, and at
/// most `renew_before`. Thirty days before the end of every one would order those of the CA's 45- and 6-day profiles for
/// ever.
pub fn margin(generation: &GenerationRecord, renew_before: Duration) -> Duration {
    let life = lifetime(generation);
    whole(if life <= SHORT { life / 2 } else { renew_before.min(life / 3) })
}

/// In whole seconds, as certificates count.
fn whole(duration: Duration) -> Duration {
    Duration::from_secs(duration.as_secs())
}

/// The warnings before its end: what each is called, and how long before.
pub fn warnings(generation: &GenerationRecord) -> [(&'static str, Duration); 3] {
    let life = lifetime(generation);
    [
        ("30d", whole((DAY * 30).min(life / 3))),
        ("7d", whole((DAY * 7).min(life * 7 / 90))),
        ("1d", whole(DAY.min(life / 90))),
    ]
}

/// When a certificate is due, and why then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// When.
    pub at: Timestamp,
    /// Whether the CA named the time.
    pub by_ca: bool,
    /// In words.
    pub why: String,
}

/// When it is due. What has none, or none that can be used, is due now.
pub fn due(situation: &Situation<'_>) -> Due {
    let now = situation.now;
    let Some(current) = situation.ordinary() else {
        let why = match situation.current() {
            Some(it) if it.origin == CertificateOrigin::Backup && situation.is_usable(it) => {
                "the one for need is in service".to_owned()
            }
            None => "there is none yet".to_owned(),
            Some(it) if it.origin == CertificateOrigin::SelfSigned => {
                "a self-signed one is in service".to_owned()
            }
            Some(it) => usable(it, situation.identifiers, now).err().unwrap_or_default(),
        };
        return spaced(situation, Due { at: now, by_ca: false, why });
    };
    if current.origin == CertificateOrigin::Backup {
        let why = "the one for need is in service".to_owned();
        return spaced(situation, Due { at: now, by_ca: false, why });
    }
    // Only its names can be missing.
    if let Err(why) = usable(current, situation.identifiers, now) {
        return spaced(situation, Due { at: now, by_ca: false, why });
    }
    let own = minus(current.not_after, margin(current, situation.renew_before));
    let by_ca = situation
        .record
        .renewal
        .as_ref()
        .filter(|it| it.fingerprint == current.fingerprint)
        .and_then(|it| it.window);
    let due = match by_ca {
        // A CA may want it sooner, and later; never so late that nothing is left to try again in.
        Some((_, _, chosen)) => Due {
            at: chosen.min(minus(current.not_after, lifetime(current) / 50)),
            by_ca: true,
            why: "its CA asks for that time".to_owned(),
        },
        None => Due {
            at: own,
            by_ca: false,
            why: format!("{} before its end", span(margin(current, situation.renew_before))),
        },
    };
    spaced(situation, due)
}

/// Not sooner than a tenth of a life after the last issuance for the same names, whatever asks for it.
fn spaced(situation: &Situation<'_>, due: Due) -> Due {
    let last = situation
        .generations
        .iter()
        .filter(|it| it.origin == CertificateOrigin::Acme)
        .filter(|it| it.identifiers == situation.identifiers)
        // One that may never come into service again does not keep its successor waiting.
        .filter(|it| it.compromised_at.is_none() && it.revoked_at.is_none())
        .max_by_key(|it| it.created_at);
    let Some(last) = last else { return due };
    let from = plus(last.created_at.min(situation.now), (lifetime(last) / 10).max(CLOSEST));
    if due.at >= from || situation.now >= from {
        return due;
    }
    Due {
        at: from,
        why: format!(
            "{}, but not sooner than {} after the last one",
            due.why,
            span((lifetime(last) / 10).max(CLOSEST))
        ),
        ..due
    }
}
