//! Placing orders, and revoking what came of them.

use std::net::IpAddr;

use instant_acme::{
    CertificateIdentifier, Identifier, NewOrder, RevocationReason, RevocationRequest,
};
use rustls_pki_types::CertificateDer;

use super::account::{Accounts, Session};
use super::call::{NONCES, bad_nonce};
use super::client::{Heard, Transport, hearing};
use super::trouble::{outright, told, trouble};
use super::{Authority, Class, Ordered, Trouble, Wanted, ari};

/// Places an order, once more under a new account if the CA does not know ours.
pub(super) async fn place(
    accounts: &Accounts,
    ca: &Authority,
    wanted: &Wanted,
) -> Result<Ordered, Trouble> {
    let session = accounts.session(ca).await?;
    let placed = attempt(&session, ca, wanted).await;
    match placed {
        Err(trouble) if trouble.kind == "accountDoesNotExist" => {
            tracing::warn!(ca = ca.name, "the CA does not know our account: {trouble}");
            let session = accounts.renewed(ca, session.account.id()).await?;
            attempt(&session, ca, wanted).await
        }
        placed => placed,
    }
}

async fn attempt(session: &Session, ca: &Authority, wanted: &Wanted) -> Result<Ordered, Trouble> {
    let attempted = format!("{}: an order", ca.name);
    let identifiers: Vec<Identifier> = wanted.identifiers.iter().map(|it| identifier(it)).collect();
    let mut order = NewOrder::new(&identifiers);
    if let Some(profile) = &wanted.profile {
        check_profile(&attempted, profile, &session.index.profiles())?;
        order = order.profile(profile);
    }
    // Nobody is told of it who would not understand.
    let leaf = wanted.replaces.as_deref().filter(|_| session.index.renewal_info.is_some());
    let replaces: Option<CertificateIdentifier<'static>> = leaf.and_then(ari::name_of);
    let asks_to_replace = replaces.is_some();
    if let Some(replaces) = replaces {
        order = order.replaces(replaces);
    }
    let mut again = NONCES;
    loop {
        let (placed, heard) = hearing(session.account.new_order(&order)).await;
        match placed {
            Ok(mut placed) => {
                let replaces = placed.state().replaces.is_some();
                return Ok(Ordered { url: placed.url().to_owned(), replaces });
            }
            Err(error) if again > 0 && bad_nonce(&error) => again -= 1,
            Err(error) => {
                if let Some(url) = made_all_the_same(&error, &heard, asks_to_replace) {
                    return Ok(Ordered { url, replaces: false });
                }
                let found = trouble(&attempted, &error, &heard);
                return Err(match is_about_replacing(&found, heard.status, asks_to_replace) {
                    true => Trouble { class: Class::Replaces, ..found },
                    // No name was looked at yet.
                    false => outright(found),
                });
            }
        }
    }
}

fn identifier(text: &str) -> Identifier {
    match text.parse::<IpAddr>() {
        Ok(address) => Identifier::Ip(address),
        Err(_) => Identifier::Dns(text.to_ascii_lowercase()),
    }
}

/// A CA that has no profiles may overlook that one is asked for, and issue something else.
fn check_profile(attempted: &str, profile: &str, known: &[String]) -> Result<(), Trouble> {
    if known.iter().any(|it| it == profile) {
        return Ok(());
    }
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    let message = format!("{attempted}: the CA has no profile {profile:?}; it has: {known}");
    Err(Trouble { kind: "invalidProfile".to_owned(), ..told(Class::Policy, message) })
}

/// The order that the CA has made without saying that it replaces something: instant-acme takes that for an error when
/// the order is there already, and a second one would count.
fn made_all_the_same(
    error: &instant_acme::Error,
    heard: &Heard,
    asks_to_replace: bool,
) -> Option<String> {
    let mismatch = matches!(error, instant_acme::Error::Other(other) if !other.is::<Transport>());
    let made = asks_to_replace && mismatch && heard.status.is_some_and(|it| it / 100 == 2);
    heard.location.clone().filter(|_| made)
}

/// Whether an order is refused because of what it is to replace.
fn is_about_replacing(found: &Trouble, status: Option<u16>, asks_to_replace: bool) -> bool {
    let said = found.message.to_lowercase();
    let about_it = said.contains("replac") || said.contains("certid") || said.contains("ari ");
    let refused = matches!(status, Some(400 | 403 | 404))
        || matches!(found.kind.as_str(), "unauthorized" | "malformed");
    asks_to_replace
        && found.class != Class::RateLimited
        && (found.class == Class::Replaces || status == Some(409) || (refused && about_it))
}

/// Has a certificate revoked, as one whose key is known to others.
pub(super) async fn revoke(
    accounts: &Accounts,
    ca: &Authority,
    leaf: &[u8],
) -> Result<(), Trouble> {
    let session = accounts.session(ca).await?;
    let attempted = format!("{}: a revocation", ca.name);
    let certificate = CertificateDer::from_slice(leaf);
    let request = RevocationRequest {
        certificate: &certificate,
        reason: Some(RevocationReason::KeyCompromise),
    };
    match super::call::asked!(&attempted, session.account.revoke(&request)) {
        Ok(((), _)) => Ok(()),
        Err(trouble) if trouble.kind == "alreadyRevoked" => Ok(()),
        Err(trouble) => Err(outright(trouble)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(class: Class, kind: &str, message: &str) -> Trouble {
        Trouble { kind: kind.to_owned(), ..told(class, message) }
    }

    #[test]
    fn what_is_refused_because_of_what_it_replaces_is_told_apart() {
        let policy = Class::Policy;
        for (class, kind, message, status, asks, expected) in [
            (Class::Replaces, "alreadyReplaced", "x", 409, true, true),
            (policy, "conflict", "x", 409, true, true),
            (policy, "malformed", "parsing ARI CertID failed", 400, true, true),
            (policy, "", "the certificate being replaced is not known", 404, true, true),
            (
                Class::Authorization,
                "unauthorized",
                "requester account did not request the certificate being replaced by this order",
                403,
                true,
                true,
            ),
            (policy, "malformed", "bad identifier", 400, true, false),
            (policy, "conflict", "x", 409, false, false),
            (policy, "malformed", "replaces", 400, false, false),
            (Class::RateLimited, "rateLimited", "replaces", 429, true, false),
            (Class::Authorization, "unauthorized", "account is deactivated", 403, true, false),
            (Class::Server, "serverInternal", "replaces", 500, true, false),
        ] {
            let found = found(class, kind, message);
            let about = is_about_replacing(&found, Some(status), asks);
            assert_eq!(about, expected, "{kind} {message}");
        }
    }

    #[test]
    fn an_order_that_was_made_is_not_placed_twice() {
        let url = "https://ca.example/order/1";
        let mismatch = || instant_acme::Error::Other("replaces field mismatch".into());
        let heard = |status| Heard {
            status: Some(status),
            location: Some(url.to_owned()),
            ..Heard::default()
        };
        assert_eq!(made_all_the_same(&mismatch(), &heard(201), true).as_deref(), Some(url));
        assert_eq!(made_all_the_same(&mismatch(), &heard(201), false), None);
        assert_eq!(made_all_the_same(&mismatch(), &heard(500), true), None);
        let cut_off = Transport::There("its answer was cut off".into()).into();
        assert_eq!(made_all_the_same(&cut_off, &heard(201), true), None);
    }

    #[test]
    fn a_profile_that_the_ca_does_not_have_is_not_asked_for() {
        let known = ["classic".to_owned(), "shortlived".to_owned()];
        assert!(check_profile("x", "shortlived", &known).is_ok());
        for known in [&known[..], &[]] {
            let trouble = check_profile("x", "tls", known).unwrap_err();
            assert_eq!((trouble.class, trouble.kind.as_str()), (Class::Policy, "invalidProfile"));
        }
    }

    #[test]
    fn identifiers_are_names_or_addresses() {
        assert_eq!(identifier("*.A.Example"), Identifier::Dns("*.a.example".into()));
        assert_eq!(identifier("192.0.2.1"), Identifier::Ip("192.0.2.1".parse().unwrap()));
        assert_eq!(identifier("2001:db8::1"), Identifier::Ip("2001:db8::1".parse().unwrap()));
    }
}
