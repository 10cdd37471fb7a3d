//! What is compromised is revoked at its CA, sooner or later, and people hear of it until it is.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::super::marks::Marked;
use super::super::verify::Truth;
use super::host::{Host, trouble};
use super::*;
use crate::events::Severity;
use crate::outside::acme::Class;

fn who() -> (String, String) {
    ("alice".to_owned(), "the key left the house".to_owned())
}

async fn mark(host: &Host) -> Marked {
    host.certificates.mark("gw", (0, ""), who()).await.unwrap()
}

#[tokio::test]
async fn what_a_ca_did_not_revoke_is_told_and_tried_again_by_each_check() {
    let host = Host::new(days(90)).await;
    host.look().await;
    host.ca.set(|mood| mood.keeps = Some(trouble(Class::Server, None)));
    let marked = mark(&host).await;
    assert_eq!(marked.revocation.revoked, Some(Truth::Fail));
    assert!(marked.revocation.detail.contains("as the test says"), "{marked:?}");
    host.idle().await;
    assert_eq!(host.standing().record.generation, 2, "it is replaced all the same");
    let told = host.conditions();
    assert_eq!(host.told(), ["not-revoked-1"]);
    assert_eq!(told[0].severity, Severity::High);
    assert!(told[0].details[0].contains("as the test says"), "{told:?}");
    let ended = host.check().await;
    assert!(ended.summary.contains("generation 1 is compromised and not revoked"), "{ended:?}");
    let events = host.events("revoke-failed");
    assert_eq!(events.len(), 2);
    assert_eq!(
        (events[0].actor.as_str(), events[1].actor.as_str()),
        ("alice", "system:certificates")
    );
    assert!(events.iter().all(|it| it.generation == 1 && it.ca == "ca" && !it.detail.is_empty()));

    host.ca.set(|mood| mood.keeps = None);
    let host = host.restart().await;
    host.check().await;
    assert_eq!(host.events("revoked-at-ca").len(), 1);
    let generation = host.standing().generation(1).cloned().unwrap();
    assert!(generation.revoked_at.is_some() && generation.compromised_at.is_some());
    assert_eq!(host.told(), [""; 0]);
    host.check().await;
    assert_eq!(host.ca.revoking.load(Ordering::SeqCst), 3, "once it is revoked, that is all");
}

#[tokio::test]
async fn a_mark_that_is_set_again_asks_the_ca_again() {
    let host = Host::new(days(90)).await;
    host.look().await;
    host.ca.set(|mood| mood.keeps = Some(trouble(Class::Policy, None)));
    mark(&host).await;
    host.idle().await;
    host.ca.set(|mood| mood.keeps = None);
    let again = host.certificates.mark("gw", (1, ""), who()).await.unwrap();
    assert_eq!(again.revocation.revoked, Some(Truth::Pass), "{again:?}");
    let more = host.certificates.mark("gw", (1, ""), who()).await.unwrap();
    assert_eq!(more.revocation.revoked, Some(Truth::Pass), "{more:?}");
    assert_eq!(host.ca.revoking.load(Ordering::SeqCst), 2);
    assert_eq!((more.run, host.told().len()), (None, 0), "it is in service no more");
}

#[tokio::test]
async fn the_replacement_does_not_wait_for_the_revocation() {
    let host = Host::new(days(90)).await;
    host.look().await;
    let shut = host.ca.revocations.write().await;
    let certificates = Arc::clone(&host.certificates);
    let marking = tokio::spawn(async move { certificates.mark("gw", (0, ""), who()).await });
    let replaced = async {
        while host.standing().record.generation != 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(seconds(20), replaced).await.expect("another one is in service");
    assert_eq!(host.told(), [""; 0], "that is under way");
    host.clock.advance(seconds(120));
    assert_eq!(host.told(), ["not-revoked-1"], "for too long");
    drop(shut);
    let marked = marking.await.unwrap().unwrap();
    assert_eq!(marked.revocation.revoked, Some(Truth::Pass));
    assert_eq!((host.events("revoked-at-ca").len(), host.told().len()), (1, 0));
}

#[tokio::test]
async fn what_has_ended_or_signs_itself_is_not_revoked() {
    let host = Host::new(days(6)).await;
    host.ca.set(|mood| mood.down = true);
    host.look().await;
    host.on(5).await;
    assert_eq!(host.standing().current().map(|it| it.origin), Some(CertificateOrigin::SelfSigned));
    let marked = mark(&host).await;
    assert_eq!((marked.revocation.revoked, host.ca.revoking.load(Ordering::SeqCst)), (None, 0));
    assert!(!host.told().iter().any(|key| key.starts_with("not-revoked")), "{:?}", host.told());
}
