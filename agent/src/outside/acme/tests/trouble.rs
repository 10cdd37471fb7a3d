//! What goes wrong, and how that is told.

use super::*;
use crate::outside::Clock;

#[tokio::test]
async fn a_name_that_is_not_ours_is_told_by_name() {
    let (pebble, acme) = (Pebble::start(&[]), acme());
    let (ca, names) = (pebble.ca(), ["one.test", "two.test"]);
    let order = acme.order(&ca, &wanted(&names)).await.unwrap();
    let wrong = free();
    let answer = Answer::HttpListener(wrong);
    let finish = || acme.finish(&ca, &order.url, &answer, &[], PATIENCE);
    let trouble = finish().await.unwrap_err();
    assert_eq!(trouble.class, Class::Authorization, "{trouble:?}");
    assert_eq!(trouble.kind, "connection", "{trouble:?}");
    let mut identifiers = trouble.identifiers.clone();
    identifiers.sort();
    assert!(!identifiers.is_empty() && identifiers.iter().all(|it| names.contains(&it.as_str())));
    assert!(trouble.message.contains("refused"), "{trouble}");
    assert!(nobody_listens(wrong));
    assert_eq!(finish().await.unwrap_err().class, Class::Authorization, "it stays so");
}

#[tokio::test]
async fn what_can_t_be_is_told_before_the_ca_looks() {
    let (pebble, acme) = (Pebble::start(&[]), acme());
    let ca = pebble.ca();
    // A wildcard is for DNS alone.
    let order = acme.order(&ca, &wanted(&["*.one.test"])).await.unwrap();
    let answer = Answer::HttpListener(pebble.http);
    let finish = acme.finish(&ca, &order.url, &answer, &[], PATIENCE).await;
    let trouble = finish.unwrap_err();
    assert_eq!((trouble.class, trouble.kind.as_str()), (Class::Policy, "unsupported"), "{trouble}");
    assert_eq!(trouble.identifiers, ["*.one.test"]);
    // A port that somebody else has.
    let taken = std::net::TcpListener::bind(pebble.http).unwrap();
    let order = acme.order(&ca, &wanted(&["one.test"])).await.unwrap();
    let trouble = acme.finish(&ca, &order.url, &answer, &[], PATIENCE).await.unwrap_err();
    assert_eq!((trouble.class, trouble.identifiers.len()), (Class::Local, 1), "{trouble}");
    drop(taken);
    // And a request that is none, after all of it was authorized.
    let trouble = acme.finish(&ca, &order.url, &answer, b"no request", PATIENCE).await.unwrap_err();
    assert_eq!(trouble.class, Class::Policy, "{trouble}");
    // No patience at all.
    let late = acme.finish(&ca, &order.url, &answer, &[], Duration::ZERO).await.unwrap_err();
    assert_eq!(late.class, Class::Server, "{late}");
    // Neither profiles nor renewal information.
    let profile = Wanted { profile: Some("short".into()), ..wanted(&["one.test"]) };
    let trouble = acme.order(&ca, &profile).await.unwrap_err();
    assert_eq!((trouble.class, trouble.kind.as_str()), (Class::Policy, "invalidProfile"));
    let pem = issued(&acme, &ca, &["two.test"], &answer).await;
    let trouble = acme.renewal_info(&ca, &leaf(&pem)).await.unwrap_err();
    assert_eq!((trouble.class, trouble.kind.as_str()), (Class::Policy, "unsupported"));
    let replacing = Wanted { replaces: Some(leaf(&pem)), ..wanted(&["two.test"]) };
    assert!(!acme.order(&ca, &replacing).await.unwrap().replaces);
}

#[tokio::test]
async fn a_ca_that_is_gone_or_not_trusted_is_told_at_once() {
    let (mut pebble, acme, clock) = (Pebble::start(&[]), acme(), SystemClock::new());
    let ca = pebble.ca();
    let order = acme.order(&ca, &wanted(&["one.test"])).await.unwrap();
    let stranger = Authority { roots_file: None, ..ca.clone() };
    let trouble = acme.directory(&stranger).await.unwrap_err();
    assert_eq!(trouble.class, Class::Server, "{trouble}");
    assert!(trouble.message.contains("is not trusted"), "{trouble}");
    let elsewhere = Authority { directory: format!("{}/x", ca.directory), ..ca.clone() };
    let trouble = acme.directory(&elsewhere).await.unwrap_err();
    assert!(trouble.message.contains("HTTP 404"), "{trouble}");
    let plain = Authority { directory: ca.directory.replace("https", "http"), ..ca.clone() };
    assert!(acme.directory(&plain).await.is_err(), "https alone");

    pebble.pebble = None;
    let begun = clock.monotonic();
    let answer = Answer::HttpListener(pebble.http);
    for trouble in [
        acme.directory(&ca).await.unwrap_err(),
        acme.order(&ca, &wanted(&["one.test"])).await.unwrap_err(),
        acme.finish(&ca, &order.url, &answer, &[], PATIENCE).await.unwrap_err(),
        acme.revoke(&ca, b"x").await.unwrap_err(),
    ] {
        assert_eq!(trouble.class, Class::Server, "{trouble}");
        assert!(trouble.message.contains("refuses connections"), "{trouble}");
    }
    assert!(clock.monotonic() - begun < Duration::from_secs(2));
}
