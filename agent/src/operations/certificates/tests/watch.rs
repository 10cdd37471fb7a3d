//! What is looked at every few seconds: nothing that hangs keeps a certificate from coming into service, and no CA is asked
//! at every look.

use super::super::Standing;
use super::super::record::{Event, Who};
use super::host::{GW, Host};
use super::*;

/// Certificates a0 to a7 beside gw.
fn nine() -> String {
    let one = |n: u32| {
        format!(
            "[[certificates.certificate]]\nname = \"a{n}\"\ndomains = [\"192.0.2.{}\"]\n\n",
            100 + n
        )
    };
    (0..8).map(one).collect::<String>() + GW
}

async fn ends(host: &Host, name: &str, number: u32, end: Timestamp) {
    let (who, event) = (Who::system(), Event { kind: "test", ..Event::default() });
    let changed =
        host.certificates.change_generation(name, number, &who, event, move |_, generation| {
            generation.unwrap().not_after = end;
        });
    changed.await.unwrap();
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let done = async {
        while !done() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(seconds(20), done).await.unwrap_or_else(|_| panic!("{what}"));
}

#[tokio::test]
async fn eight_runs_that_wait_for_a_ca_keep_no_other_certificate_from_coming_into_service() {
    let host = Host::with(days(6), &nine(), false).await;
    for _ in 0..3 {
        host.look().await;
    }
    assert_eq!(host.ca.issued().len(), 9);
    host.clock.advance(days(3));
    let shut = host.ca.gate.write().await;
    host.certificates.look_once().await.unwrap();
    let waits =
        |host: &Host, name: &str| host.runs.active_with_key(&super::super::key(name)).is_some();
    for n in 0..8 {
        assert!(waits(&host, &format!("a{n}")), "a{n} waits for the CA");
    }
    assert!(!waits(&host, "gw"), "it is the ninth");
    host.certificates.look_once().await.unwrap();
    assert!(!waits(&host, "gw"), "and waits as long as its certificate is good");
    ends(&host, "gw", 1, host.ca.now()).await;
    host.certificates.look_once().await.unwrap();
    let origin = |standing: Standing| standing.current().map(|it| it.origin);
    until("another one is in service", || {
        origin(host.standing()) == Some(CertificateOrigin::SelfSigned)
    })
    .await;
    for n in 0..8 {
        assert!(waits(&host, &format!("a{n}")), "a{n} still waits for the CA");
    }
    drop(shut);
    host.idle().await;
    for _ in 0..3 {
        host.on(60).await;
    }
    assert_eq!(host.told(), [""; 0], "in the end each has a new one");
    assert_eq!(host.ca.issued().len(), 18);
}

#[tokio::test]
async fn a_backup_that_is_no_use_begins_no_run_at_each_look_while_an_order_waits() {
    let host = Host::new(days(6)).await;
    host.look().await;
    // The same material does for need, until somebody breaks it.
    let folder = host.certificates.folder("gw");
    let (fullchain, key) = folder.read(1).unwrap();
    let who = || ("alice".to_owned(), "a test".to_owned());
    host.certificates.install_backup("gw", (fullchain, key, ""), who()).await.unwrap();
    std::fs::write(folder.0.join("backup/key.pem"), "broken").unwrap();
    host.clock.advance(days(3));
    let shut = host.ca.gate.write().await;
    host.certificates.look_once().await.unwrap();
    host.clock.advance(seconds(25));
    ends(&host, "gw", 1, host.ca.now()).await;
    let beside = || host.runs.active_with_key("certificates.renew/gw/beside").is_none();
    for _ in 0..60 {
        host.certificates.look_once().await.unwrap();
        until("what is done beside ends", beside).await;
        host.clock.advance(seconds(5));
    }
    let begun = host
        .certificates
        .state
        .read(|reading| Ok(reading.runs().list(Some("certificates.renew"), None, 1_000)?.len()));
    drop(shut);
    host.idle().await;
    // The first order, the one that waits, the backup that could not be used, and one that the agent signed.
    assert!(begun.unwrap() <= 5, "no run at each look");
    let made = host.events("self-signed").len();
    assert_eq!(made, 1, "what the backup can't do, another one does");
}

#[tokio::test]
async fn a_ca_is_asked_when_it_wants_one_renewed_once_a_minute_whatever_the_state_says() {
    let host = Host::new(days(90)).await;
    let mut asked = 0;
    for _ in 0..60 {
        asked += u32::from(host.certificates.may_ask_when("one"));
        host.clock.advance(seconds(5));
    }
    assert_eq!(asked, 5, "in five minutes, where nothing can be written down");
    // Where it can, the time that is written down holds: it may be another as soon as the clock is.
    host.ca.set(|mood| mood.window = Some((at(20 * DAY), at(22 * DAY))));
    host.look().await;
    let fingerprint = host.standing().generations[0].fingerprint.clone();
    assert!(host.standing().record.renewal.is_some());
    assert!(host.certificates.may_ask_when(&fingerprint));
}

#[tokio::test]
async fn a_ca_is_asked_again_where_the_time_for_that_was_written_while_the_clock_was_ahead() {
    let host = Host::new(days(90)).await;
    host.ca.set(|mood| mood.window = Some((at(20 * DAY), at(22 * DAY))));
    host.look().await;
    let (who, event) = (Who::system(), Event { kind: "test", ..Event::default() });
    let ahead = host.certificates.change("gw", &who, event, |record| {
        if let Some(renewal) = &mut record.renewal {
            renewal.ask_at = at(60 * DAY);
        }
        Vec::new()
    });
    ahead.await.unwrap();
    host.ca.set(|mood| mood.window = Some((at(40 * DAY), at(42 * DAY))));
    host.on(60).await;
    let window = host.standing().record.renewal.and_then(|it| it.window).unwrap();
    assert_eq!((window.0, window.1), (at(40 * DAY), at(42 * DAY)));
}
