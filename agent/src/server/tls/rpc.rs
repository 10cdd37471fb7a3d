//! What secures the listener, as a message, and how well it stands.

use genesis_proto::v1;
use jiff::{SignedDuration, Timestamp};

use super::Tls;
use super::material::{Item, ItemKind};
use crate::error::Unmet;
use crate::pki::{Entry, Pki};
use crate::server::agent_rpc::AgentView;
use crate::server::convert::{finding, maybe, time};

/// Days before its end at which each sort is spoken of: first a warning, then critical.
fn limits(kind: ItemKind) -> (i64, i64) {
    match kind {
        ItemKind::ServerCertificate => (30, 7),
        ItemKind::ClientCa => (90, 14),
        ItemKind::RevocationList => (7, 2),
    }
}

/// How an item stands at `now`. Of a server certificate that the agent renews itself (`managed`) the coming end is told
/// where its renewal is: a short one is in its last days all its life.
pub fn judge(item: &Item, managed: bool, now: Timestamp) -> (v1::Condition, Option<Unmet>) {
    let what = match item.kind {
        ItemKind::ServerCertificate => "the agent's certificate",
        ItemKind::ClientCa => "a client CA",
        ItemKind::RevocationList => "a revocation list",
    };
    let unmet = |code, message: String| {
        Some(Unmet {
            code,
            subject: item.path.clone(),
            message: format!("{what} ({}) {message}", item.subject),
        })
    };
    if item.is_revoked {
        let message =
            "is on the revocation list: issue a new one, and renew the CA if its key may be in \
                       other hands, since clients look at no list"
                .to_owned();
        return (v1::Condition::Critical, unmet("PKI_OWN_REVOKED", message));
    }
    if item.not_before.is_some_and(|from| from > now) {
        let from = item.not_before.unwrap_or(now);
        return (
            v1::Condition::Critical,
            unmet("PKI_NOT_YET_VALID", format!("is good from {from} on only: is the clock right?")),
        );
    }
    let Some(until) = item.not_after else {
        let message = "does not say until when it is good".to_owned();
        return (v1::Condition::Unknown, unmet("PKI_EXPIRY_UNKNOWN", message));
    };
    let left = until.duration_since(now);
    let days = |days: i64| SignedDuration::from_hours(days * 24);
    let (warn, critical) = limits(item.kind);
    if left <= SignedDuration::ZERO {
        (v1::Condition::Critical, unmet("PKI_EXPIRED", format!("has ended at {until}: renew it")))
    } else if managed && item.kind == ItemKind::ServerCertificate {
        (v1::Condition::Ok, None)
    } else if left <= days(critical) {
        (v1::Condition::Critical, unmet("PKI_EXPIRING", format!("ends at {until}: renew it now")))
    } else if left <= days(warn) {
        (v1::Condition::Warn, unmet("PKI_EXPIRING", format!("ends at {until}: renew it")))
    } else {
        (v1::Condition::Ok, None)
    }
}

/// The worst condition and all that is wrong.
pub fn findings(tls: &Tls, now: Timestamp) -> (v1::Condition, Vec<Unmet>) {
    let mut worst = v1::Condition::Ok;
    let mut found = Vec::new();
    if let Some(fault) = tls.fault() {
        worst = v1::Condition::Critical;
        found.push(fault);
    }
    for item in tls.material().iter().flat_map(|material| &material.items) {
        let (condition, unmet) = judge(item, tls.files().managed.is_some(), now);
        worst = worst.max(condition);
        found.extend(unmet);
    }
    (worst, found)
}

/// The most certificates that one answer has.
const ISSUED_LIMIT: usize = 10_000;

/// What the PKI folder of this host has issued, the newest of them.
///
/// # Errors
/// What is wrong with its register.
fn issued(view: &AgentView) -> Result<Vec<v1::IssuedCertificate>, Unmet> {
    let mut entries = Pki::read_register(&view.pki).map_err(|error| Unmet {
        code: "PKI_REGISTER_UNREADABLE",
        subject: view.pki.display().to_string(),
        message: format!("what was issued can't be said: {}", error.chain()),
    })?;
    entries.drain(..entries.len().saturating_sub(ISSUED_LIMIT));
    let certificate = |entry: Entry| v1::IssuedCertificate {
        serial: entry.serial.to_string(),
        name: entry.name,
        role: entry.role.to_string(),
        uri: entry.uri,
        not_before: Some(time(entry.not_before)),
        not_after: Some(time(entry.not_after)),
        revoked_at: entry.revoked.map(|revocation| time(revocation.at)),
    };
    Ok(entries.into_iter().map(certificate).collect())
}

/// The answer of GetPki.
pub fn pki_response(view: &AgentView) -> v1::GetPkiResponse {
    let now = view.outside.clock.now();
    let fleet = view.config.current().fleet.name.clone();
    let Some(tls) = &view.tls else {
        return v1::GetPkiResponse { fleet, ..v1::GetPkiResponse::default() };
    };
    let (material, managed) = (tls.material(), tls.files().managed.is_some());
    let item = |item: &Item| v1::PkiItem {
        kind: match item.kind {
            ItemKind::ServerCertificate => v1::PkiKind::ServerCertificate,
            ItemKind::ClientCa => v1::PkiKind::ClientCa,
            ItemKind::RevocationList => v1::PkiKind::RevocationList,
        }
        .into(),
        path: item.path.clone(),
        subject: item.subject.clone(),
        not_before: maybe(item.not_before),
        not_after: maybe(item.not_after),
        sha256: item.sha256.clone(),
        condition: judge(item, managed, now).0.into(),
        revoked: u32::try_from(item.revoked).unwrap_or(u32::MAX),
    };
    let mut found = findings(tls, now).1;
    let issued = issued(view).unwrap_or_else(|unmet| {
        found.push(unmet);
        Vec::new()
    });
    v1::GetPkiResponse {
        listen: tls.listen.clone(),
        fleet,
        items: material.iter().flat_map(|material| &material.items).map(item).collect(),
        findings: found.iter().map(finding).collect(),
        issued,
        loaded_at: material.map(|material| time(material.loaded_at)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_coming_end_of_a_managed_certificate_is_told_elsewhere_and_what_is_wrong_now_is_not() {
        let now = Timestamp::from_second(1_772_409_600).unwrap();
        let hours = |hours: i64| now + SignedDuration::from_hours(hours);
        let item = |kind, left: i64| Item {
            kind,
            path: "/x".to_owned(),
            subject: "CN=x".to_owned(),
            not_before: Some(hours(-24)),
            not_after: Some(hours(left)),
            sha256: String::new(),
            revoked: 0,
            number: None,
            is_revoked: false,
        };
        let server = |left| item(ItemKind::ServerCertificate, left);
        let early = Item { not_before: Some(hours(1)), ..server(90) };
        let revoked = Item { is_revoked: true, ..server(90) };
        use v1::Condition::{Critical, Ok, Warn};
        for (what, item, by_hand, managed) in [
            ("six days", server(6 * 24), (Critical, "PKI_EXPIRING"), (Ok, "")),
            ("twenty days", server(20 * 24), (Warn, "PKI_EXPIRING"), (Ok, "")),
            ("a quarter", server(90 * 24), (Ok, ""), (Ok, "")),
            ("ended", server(-1), (Critical, "PKI_EXPIRED"), (Critical, "PKI_EXPIRED")),
            ("to begin", early, (Critical, "PKI_NOT_YET_VALID"), (Critical, "PKI_NOT_YET_VALID")),
            ("revoked", revoked, (Critical, "PKI_OWN_REVOKED"), (Critical, "PKI_OWN_REVOKED")),
            (
                "a CA, which nobody renews",
                item(ItemKind::ClientCa, 24),
                (Critical, "PKI_EXPIRING"),
                (Critical, "PKI_EXPIRING"),
            ),
        ] {
            let found = |managed| {
                let (condition, unmet) = judge(&item, managed, now);
                (condition, unmet.map_or("", |unmet| unmet.code))
            };
            assert_eq!((found(false), found(true)), (by_hand, managed), "{what}");
        }
    }
}
