//! Whole hosts whose clock is wrong, or whose CA's is.

use std::sync::atomic::Ordering;

use super::host::{GW, Host, trouble};
use super::*;
use crate::outside::acme::{Class, OUT_OF_TIME, Trouble};

const SECOND: &str = "[[certificates.acme]]\nname = \"second\"\ndirectory = \"https://second.example/\"\nterms_agreed = true\n";

fn origin(host: &Host) -> Option<CertificateOrigin> {
    host.standing().current().map(|it| it.origin)
}

fn is_doubted(host: &Host) -> bool {
    host.told().contains(&"clock".to_owned())
}

#[tokio::test]
async fn one_that_was_signed_here_while_the_clock_was_ahead_is_no_reason_to_doubt_it() {
    let host = Host::with(days(6), GW, true).await;
    host.ca.set(|mood| mood.down = true);
    host.look().await;
    host.on(5).await;
    assert_eq!(origin(&host), Some(CertificateOrigin::SelfSigned));
    // Time synchronisation has set it back, and the CA says that it is right.
    let host = host.restart().await;
    host.clock.set(host.ca.now());
    host.ca.set(|mood| mood.down = false);
    for _ in 0..4 {
        host.on(5).await;
    }
    assert_eq!(origin(&host), Some(CertificateOrigin::Acme), "{:?}", host.conditions());
    assert_eq!(host.told(), [""; 0]);
}

#[tokio::test]
async fn one_in_force_that_begins_in_the_future_is_told_until_a_ca_has_confirmed_the_time() {
    let host = Host::new(days(90)).await;
    host.look().await;
    let host = host.restart().await;
    host.clock.set(at(-60 * DAY));
    host.ca.set(|mood| mood.down = true);
    host.look().await;
    let clock = |host: &Host| host.conditions().into_iter().find(|it| it.subject == "clock");
    let told = clock(&host).expect("it is told");
    assert!(told.details[0].contains("begins at"), "{told:?}");
    assert_eq!(host.standing().record.generation, 1, "and nothing is done");
    // So it was the CA's that was wrong when it issued that.
    host.ca.set(|mood| {
        mood.down = false;
        mood.ahead = Some(("ca", -60 * DAY));
    });
    host.on(300).await;
    assert_eq!(clock(&host), None);
}

#[tokio::test]
async fn a_ca_whose_clock_is_wrong_stops_nothing_while_another_agrees() {
    let host = Host::with(days(6), &format!("{SECOND}\n{GW}"), false).await;
    host.ca.set(|mood| mood.ahead = Some(("ca", DAY)));
    host.look().await;
    assert_eq!(host.ca.ordered(), 0);
    for _ in 0..8 {
        host.on(60).await;
    }
    assert_eq!(host.ca.issued().len(), 1, "{:?}", host.conditions());
    assert!(!is_doubted(&host));
}

#[tokio::test]
async fn a_ca_that_was_wrong_once_stops_everything_for_minutes_and_not_for_hours() {
    let host = Host::new(days(6)).await;
    host.ca.set(|mood| mood.ahead = Some(("ca", DAY)));
    host.look().await;
    assert!(is_doubted(&host));
    host.ca.set(|mood| mood.ahead = None);
    for _ in 0..15 {
        host.on(60).await;
    }
    assert_eq!((host.ca.issued().len(), is_doubted(&host)), (1, false));
}

#[tokio::test]
async fn what_looks_ended_stays_while_the_ca_s_own_certificate_looks_so_too() {
    let host = Host::new(days(6)).await;
    host.look().await;
    let host = host.restart().await;
    host.clock.set(at(60 * DAY));
    let refused = Trouble { kind: OUT_OF_TIME.to_owned(), ..trouble(Class::Server, None) };
    host.ca.set(|mood| mood.hidden = Some(refused));
    let before = host.ca.directories.load(Ordering::SeqCst);
    for _ in 0..12 {
        host.on(5).await;
    }
    assert_eq!(host.standing().record.generation, 1);
    assert!(host.events("self-signed").is_empty() && host.events("failed").is_empty());
    let told = host.conditions().into_iter().find(|it| it.subject == "clock");
    assert!(told.is_some_and(|it| it.details[0].contains("TLS certificate of ca")));
    let asked = host.ca.directories.load(Ordering::SeqCst) - before;
    assert!(asked <= 3, "no run each time it is looked: {asked}");
    for _ in 0..6 * 12 + 1 {
        host.on(300).await;
    }
    assert_eq!(
        origin(&host),
        Some(CertificateOrigin::SelfSigned),
        "then the clock is all there is"
    );
    assert!(!is_doubted(&host));
}

#[tokio::test]
async fn what_was_put_off_while_the_clock_was_ahead_is_not_put_off_until_then() {
    let host = Host::with(days(6), GW, true).await;
    host.ca.set(|mood| {
        mood.ahead = Some(("ca", 60 * DAY));
        mood.refuses = Some(trouble(Class::RateLimited, Some(days(2))));
    });
    host.look().await;
    let standing = host.standing();
    assert!(standing.record.backoff.is_some() && !standing.record.waits.is_empty());
    let host = host.restart().await;
    host.clock.set(host.ca.now());
    host.ca.set(|mood| (mood.ahead, mood.refuses) = (None, None));
    for _ in 0..3 {
        host.on(5).await;
    }
    assert_eq!(origin(&host), Some(CertificateOrigin::Acme), "{:?}", host.conditions());
}
