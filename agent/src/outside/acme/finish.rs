//! Going on with an order from wherever it is.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use instant_acme::{
    AuthorizationState, AuthorizationStatus, ChallengeStatus, ChallengeType, Order, OrderStatus,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::account::{Accounts, Session};
use super::answers::{Answers, Presented, Proof, challenge_of, is_token};
use super::call::asked;
use super::client::Heard;
use super::trouble::{classify, clean, kind_of, late, said_of, told};
use super::{Answer, Authority, Class, Trouble};

/// The first pause before an order is looked at again, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(2));
/// A CA that wants more time between two looks gets at most this.
const ASKED_FOR: Duration = Duration::from_secs(10);
/// So many names are in one order, at most.
const NAMES: usize = 1_000;
/// So many looks in a row may fail: whoever gives up takes the answers away while the CA may be looking at them.
const FAILURES: u32 = 3;
/// After a look that has failed, the next one is not before this.
const RECOVERY: Duration = Duration::from_millis(200);

/// Where an order is, for who has to tell that it takes too long.
#[derive(Default)]
struct Stage(Mutex<(&'static str, Vec<String>)>);

impl Stage {
    fn set(&self, what: &'static str, identifiers: Vec<String>) {
        *self.lock() = (what, identifiers);
    }

    fn lock(&self) -> MutexGuard<'_, (&'static str, Vec<String>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Goes on with an order; its answers are taken away on every path, in the background when this is dropped.
pub(super) async fn finish(
    (accounts, answers): (&Accounts, &Answers),
    ca: &Authority,
    url: &str,
    answer: &Answer,
    csr: &[u8],
    patience: Duration,
) -> Result<String, Trouble> {
    let (stage, mut presented) = (Stage::default(), Presented::default());
    stage.set("looking at it", Vec::new());
    let finished = {
        let driven = async {
            let session = accounts.session(ca).await?;
            let drive = Drive { accounts, answers, session, ca, answer, csr, stage: &stage };
            drive.run(url, &mut presented).await
        };
        tokio::time::timeout(patience, driven).await
    };
    presented.remove().await;
    finished.unwrap_or_else(|_| {
        let (what, identifiers) = stage.lock().clone();
        let found = late(&format!("{}: the order, {what}", ca.name), patience);
        Err(Trouble { identifiers, ..found })
    })
}

struct Drive<'a> {
    accounts: &'a Accounts,
    answers: &'a Answers,
    session: Session,
    ca: &'a Authority,
    answer: &'a Answer,
    csr: &'a [u8],
    stage: &'a Stage,
}

impl Drive<'_> {
    async fn run(&self, url: &str, presented: &mut Presented) -> Result<String, Trouble> {
        let attempted = format!("{}: the order", self.ca.name);
        let account = &self.session.account;
        let looked: Result<(Order, Heard), Trouble> =
            asked!(&attempted, account.order(url.to_owned()), gone);
        let (mut order, mut heard) = looked?;
        let (mut answered, mut handed_in, mut first, mut failures) = (false, false, true, 0);
        let (mut pause, longest) = PAUSES;
        loop {
            match order.state().status {
                OrderStatus::Pending if !answered => {
                    self.answer_all(&mut order, presented).await?;
                    answered = true;
                    // One that needed no answer any more is ready by now.
                    heard = Heard::default();
                }
                OrderStatus::Ready if !handed_in => {
                    self.stage.set("handing in the request", Vec::new());
                    handed_in = true;
                    let attempted = format!("{}: handing in the request", self.ca.name);
                    let handed: Result<((), Heard), Trouble> =
                        asked!(&attempted, order.finalize_csr(self.csr));
                    match handed {
                        Ok(((), said)) => (heard, pause) = (said, PAUSES.0),
                        // It was handed in already, or not all of the CA knows yet that it is ready: a look tells.
                        Err(trouble) if trouble.kind == "orderNotReady" => {
                            tracing::debug!("{trouble}");
                            (heard, handed_in) = (Heard::default(), false);
                        }
                        Err(trouble) => return Err(refused(trouble)),
                    }
                    // Some CAs issue at once.
                    if order.state().status != OrderStatus::Ready {
                        continue;
                    }
                }
                OrderStatus::Pending | OrderStatus::Ready | OrderStatus::Processing => {}
                OrderStatus::Valid => return self.download(&mut order).await,
                OrderStatus::Invalid => return Err(self.failed(&mut order, first).await),
            }
            first = false;
            if handed_in || order.state().status == OrderStatus::Processing {
                self.stage.set("waiting for the certificate", Vec::new());
            }
            tokio::time::sleep(heard.retry_after.unwrap_or(pause).min(ASKED_FOR)).await;
            pause = (pause * 3 / 2).min(longest);
            let looked: Result<((), Heard), Trouble> =
                asked!(&attempted, async { order.refresh().await.map(drop) }, gone);
            match looked {
                Ok(((), said)) => (heard, failures) = (said, 0),
                Err(trouble) if may_pass(&trouble) && failures < FAILURES => {
                    tracing::debug!("{trouble}");
                    failures += 1;
                    pause = pause.max(RECOVERY);
                    heard = Heard { retry_after: trouble.retry_after, ..Heard::default() };
                }
                Err(trouble) => return Err(trouble),
            }
        }
    }

    /// Answers all authorizations that are still pending.
    async fn answer_all(
        &self,
        order: &mut Order,
        presented: &mut Presented,
    ) -> Result<(), Trouble> {
        self.stage.set("looking at its authorizations", Vec::new());
        self.load(order).await?;
        let mut proofs = Vec::new();
        let kind = challenge_of(self.answer);
        let mut all = order.authorizations();
        while let Some(Ok(mut authorization)) = all.next().await {
            if authorization.status != AuthorizationStatus::Pending {
                continue;
            }
            let shown = authorization.identifier().to_string();
            let Some(challenge) = authorization.challenge(kind.clone()) else {
                return Err(self.not_offered(&shown, &kind));
            };
            if !is_token(&challenge.token) {
                let message = format!("{}: its token for {shown} is none", self.ca.name);
                return Err(told(Class::Server, message));
            }
            let key = challenge.key_authorization();
            let digest = <[u8; 32]>::try_from(key.digest().as_ref());
            proofs.push(Proof {
                identifier: shown.strip_prefix("*.").unwrap_or(&shown).to_owned(),
                shown: shown.clone(),
                token: challenge.token.clone(),
                authorization: key.as_str().to_owned(),
                digest: digest.map_err(|_| told(Class::Local, "no digest of 32 bytes"))?,
                value: key.dns_value(),
            });
        }
        if proofs.is_empty() {
            return Ok(());
        }
        let identifiers: Vec<String> = proofs.iter().map(|it| it.shown.clone()).collect();
        self.stage.set("putting the answers in place", identifiers.clone());
        self.answers.present(self.answer, &proofs, &self.accounts.files, presented).await?;
        self.stage.set("waiting for the CA to look at the answers", identifiers);
        self.set_ready(order, &kind).await
    }

    /// Tells the CA that it may look.
    async fn set_ready(&self, order: &mut Order, kind: &ChallengeType) -> Result<(), Trouble> {
        let mut all = order.authorizations();
        while let Some(Ok(mut authorization)) = all.next().await {
            if authorization.status != AuthorizationStatus::Pending {
                continue;
            }
            let Some(mut challenge) = authorization.challenge(kind.clone()) else { continue };
            // It looks already, since a call before this one.
            if challenge.status != ChallengeStatus::Pending {
                continue;
            }
            let identifier = challenge.identifier().to_string();
            let attempted = format!("{}: the challenge for {identifier}", self.ca.name);
            let told: Result<((), Heard), Trouble> = asked!(&attempted, challenge.set_ready());
            match told {
                Ok(_) => {}
                // Another order was faster, or the answer is in already: the order itself tells.
                Err(trouble) if trouble.kind == "malformed" => tracing::debug!("{trouble}"),
                Err(mut trouble) => {
                    if trouble.identifiers.is_empty() {
                        trouble.identifiers.push(identifier);
                    }
                    return Err(trouble);
                }
            }
        }
        Ok(())
    }

    /// Has all authorizations fetched that are not yet.
    async fn load(&self, order: &mut Order) -> Result<(), Trouble> {
        let attempted = format!("{}: the order's authorizations", self.ca.name);
        if order.state().authorizations.len() > NAMES {
            return Err(told(Class::Server, format!("{attempted}: more than {NAMES}")));
        }
        let fetch = async |order: &mut Order| {
            // Those that are there already are not fetched again.
            let mut all = order.authorizations();
            while let Some(next) = all.next().await {
                next?;
            }
            Ok(())
        };
        let loaded: Result<((), Heard), Trouble> = asked!(&attempted, fetch(order), gone);
        loaded.map(drop)
    }

    async fn download(&self, order: &mut Order) -> Result<String, Trouble> {
        self.stage.set("fetching the certificate", Vec::new());
        let attempted = format!("{}: the certificate", self.ca.name);
        let fetched: Result<(Option<String>, Heard), Trouble> =
            asked!(&attempted, order.certificate(), gone);
        let pem = fetched?.0.unwrap_or_default();
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
        match chain {
            Ok(chain) if !chain.is_empty() => Ok(pem),
            _ => Err(told(Class::Server, format!("{attempted}: what it sent is no chain in PEM"))),
        }
    }

    fn not_offered(&self, identifier: &str, kind: &ChallengeType) -> Trouble {
        let kind = match kind {
            ChallengeType::Http01 => "http-01",
            ChallengeType::TlsAlpn01 => "tls-alpn-01",
            _ => "dns-01",
        };
        let why = match identifier.starts_with("*.") {
            true => "; wildcards need dns-01",
            false => "",
        };
        let message = format!("{}: no {kind} is offered for {identifier}{why}", self.ca.name);
        Trouble {
            kind: "unsupported".to_owned(),
            identifiers: vec![identifier.to_owned()],
            ..told(Class::Policy, message)
        }
    }

    /// Why an order has failed; `before`: it had when it was first looked at.
    async fn failed(&self, order: &mut Order, before: bool) -> Trouble {
        self.stage.set("looking at why it has failed", Vec::new());
        let error = order.state().error.clone();
        if let Err(trouble) = self.load(order).await
            && trouble.class != Class::OrderGone
        {
            return trouble;
        }
        let (mut said, mut identifiers, mut kinds) = (Vec::new(), Vec::new(), Vec::new());
        let mut all = order.authorizations();
        // What could not be fetched is left out.
        while let Some(Ok(authorization)) = all.next().await {
            if let Some((kind, why)) = failure_of(&authorization) {
                let identifier = authorization.identifier().to_string();
                said.push(format!("{identifier}: {why}"));
                identifiers.push(identifier);
                kinds.push(kind);
            }
        }
        let attempted = format!("{}: the order", self.ca.name);
        if !said.is_empty() {
            // Some CAs repeat what they expected to see.
            let said = said.join("; ").replace(self.session.account.key_thumbprint(), "***");
            let message = format!("{attempted}: {}", clean(&said, 2_000));
            let kind = kinds.into_iter().find(|kind| !kind.is_empty()).unwrap_or_default();
            return Trouble { kind, identifiers, ..told(Class::Authorization, message) };
        }
        let (kind, said) = match &error {
            Some(problem) => (kind_of(problem), said_of(problem)),
            None => (String::new(), "without a reason".to_owned()),
        };
        // What was refused just now will be again. Of one that failed earlier, nobody knows what has changed since.
        let class = match classify(&kind, error.and_then(|problem| problem.status)) {
            class @ (Class::Policy | Class::RateLimited) if !before && !kind.is_empty() => class,
            _ => Class::OrderGone,
        };
        Trouble {
            kind: kind.clone(),
            ..told(class, format!("{attempted} has failed: {kind}: {said}"))
        }
    }
}

/// Whether a look that has failed may succeed the next time.
fn may_pass(trouble: &Trouble) -> bool {
    matches!(trouble.class, Class::Server | Class::RateLimited)
}

/// Why an authorization has failed: the problem's type, and what was said; `None`: it has not.
fn failure_of(authorization: &AuthorizationState) -> Option<(String, String)> {
    let status = match authorization.status {
        AuthorizationStatus::Pending | AuthorizationStatus::Valid => return None,
        AuthorizationStatus::Invalid => "invalid",
        AuthorizationStatus::Revoked => "revoked",
        AuthorizationStatus::Expired => "expired",
        AuthorizationStatus::Deactivated => "deactivated",
    };
    let problem = authorization.challenges.iter().find_map(|challenge| challenge.error.as_ref());
    Some(match problem {
        Some(problem) => {
            let kind = kind_of(problem);
            let said = format!("{kind}: {}", said_of(problem));
            (kind, said)
        }
        None => (String::new(), format!("the authorization is {status}")),
    })
}

/// What it means that an order can't be looked at: the CA knows it no more, or it is another account's.
fn gone(trouble: Trouble, status: Option<u16>) -> Trouble {
    let kinds = ["malformed", "unauthorized", "accountDoesNotExist", "orderNotReady"];
    // Some CAs say no more than the status.
    let nowhere = matches!(status, Some(404 | 410)) && trouble.class != Class::RateLimited;
    let class = match trouble.class {
        _ if nowhere => Class::OrderGone,
        class @ (Class::RateLimited | Class::Server | Class::Local) => class,
        _ if kinds.contains(&trouble.kind.as_str()) => Class::OrderGone,
        class => class,
    };
    Trouble { class, ..trouble }
}

/// What it means that a request is refused.
fn refused(trouble: Trouble) -> Trouble {
    let class = match trouble.class {
        // Its authorizations count no more.
        Class::Authorization => Class::OrderGone,
        class => class,
    };
    Trouble { class, ..trouble }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_that_can_t_be_looked_at_is_gone_unless_the_ca_is_what_fails() {
        let (policy, server) = (Class::Policy, Class::Server);
        for (class, kind, status, expected) in [
            (policy, "malformed", 400, Class::OrderGone),
            (policy, "accountDoesNotExist", 400, Class::OrderGone),
            (Class::Authorization, "unauthorized", 403, Class::OrderGone),
            (policy, "neverHeardOf", 404, Class::OrderGone),
            (server, "", 404, Class::OrderGone),
            (server, "", 410, Class::OrderGone),
            (policy, "userActionRequired", 403, policy),
            (server, "", 403, server),
            (server, "serverInternal", 500, server),
            (Class::RateLimited, "rateLimited", 429, Class::RateLimited),
            (Class::Local, "", 0, Class::Local),
        ] {
            let trouble = Trouble { kind: kind.to_owned(), ..told(class, "x") };
            assert_eq!(gone(trouble, Some(status)).class, expected, "{kind} {status}");
        }
    }

    #[test]
    fn an_authorization_says_why_it_has_failed() {
        let state = |status: &str, error: serde_json::Value| {
            serde_json::from_value::<AuthorizationState>(serde_json::json!({
                "status": status,
                "identifier": { "type": "dns", "value": "a.example" },
                "challenges": [
                    { "type": "dns-01", "url": "u", "token": "t", "status": "pending" },
                    { "type": "http-01", "url": "u", "token": "t", "status": status, "error": error },
                ],
            }))
            .unwrap()
        };
        let error = serde_json::json!({
            "type": "urn:ietf:params:acme:error:connection", "detail": "refused",
        });
        assert_eq!(failure_of(&state("pending", serde_json::Value::Null)), None);
        let failed = failure_of(&state("invalid", error)).unwrap();
        assert_eq!(failed, ("connection".to_owned(), "connection: refused".to_owned()));
        let silent = failure_of(&state("invalid", serde_json::Value::Null)).unwrap();
        assert_eq!(silent.1, "the authorization is invalid");
    }
}
