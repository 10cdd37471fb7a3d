//! Whole seasons: what is ordered while nothing is wrong, and what is said.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use genesis_storage::CertificateOrigin;

use super::super::budget::ISSUED;
use super::super::config::Certificate;
use super::super::due::warnings;
use super::super::renew::Wish;
use super::host::Host;
use super::*;
use crate::outside::Clock;

/// When certificates of that life are issued in so many days, by the rule as it is written: looked at each hour, those that
/// live long only by the check at two.
fn by_the_rule(life: i64, until: i64) -> Vec<i64> {
    let (mut times, mut at) = (Vec::new(), 0);
    while at < until {
        times.push(at);
        // It begins an hour before it is issued.
        let end = at - HOUR + life;
        let due = match life <= 10 * DAY {
            true => end - life / 2,
            false => end - (30 * DAY).min(life / 3),
        };
        at = match life <= 10 * DAY {
            true => (due + HOUR - 1) / HOUR * HOUR,
            false => {
                let two = due / DAY * DAY + 2 * HOUR;
                if two < due { two + DAY } else { two }
            }
        };
    }
    times
}

/// One hour, with the check where it is two.
async fn hour(host: &Host) {
    host.clock.advance(seconds(HOUR));
    if host.clock.now().as_second().rem_euclid(DAY) == 2 * HOUR {
        host.check().await;
    }
    host.look().await;
    for (_, _, used) in host.certificates.budget("").unwrap() {
        assert!(used.used <= used.allowed, "{used:?}");
    }
}

async fn season(life: i64, days: i64) -> Host {
    let host = Host::new(seconds(life)).await;
    host.look().await;
    for _ in 0..days * 24 {
        hour(&host).await;
    }
    let issued = host.ca.issued();
    assert_eq!(issued, by_the_rule(life, days * DAY + 1), "of {life} s");
    assert_eq!(host.ca.ordered(), issued.len(), "each at the first attempt");
    assert!(issued.windows(2).all(|two| two[1] - two[0] >= life / 10));
    assert_eq!(host.events(ISSUED).len(), issued.len());
    let standing = host.standing();
    assert_eq!(standing.record.generation as usize, issued.len());
    assert_eq!(standing.generations.len(), issued.len().min(5));
    assert_eq!(host.told(), [""; 0], "nobody is told anything");
    host
}

#[tokio::test]
async fn those_of_six_days_are_renewed_every_three_for_a_month() {
    let host = season(6 * DAY, 30).await;
    assert_eq!(host.ca.ordered(), 11);
    // None of their folders is left but those that are kept.
    let folder = host.certificates.folder("gw");
    assert_eq!(numbers(&folder).len(), 5);
    assert_eq!(folder.current(), Ok(Some(11)));
}

#[tokio::test]
async fn those_of_45_days_are_renewed_once_a_month() {
    assert_eq!(season(45 * DAY, 32).await.ca.ordered(), 2);
}

#[tokio::test]
async fn those_of_90_days_are_not_renewed_in_a_month() {
    assert_eq!(season(90 * DAY, 30).await.ca.ordered(), 1);
}

#[tokio::test]
async fn those_of_90_days_are_renewed_by_the_check_thirty_days_before_their_end() {
    let host = Host::new(days(90)).await;
    host.look().await;
    // The weeks in which nothing is due, in great steps.
    for _ in 0..58 {
        host.on(DAY).await;
    }
    assert_eq!(host.ca.ordered(), 1);
    for _ in 0..72 {
        hour(&host).await;
    }
    assert_eq!(host.ca.issued(), [0, 60 * DAY + 2 * HOUR]);
}

#[tokio::test]
async fn the_ca_s_window_is_obeyed_wherever_it_moves() {
    let host = Host::new(days(90)).await;
    host.ca.set(|mood| {
        mood.window = Some((at(20 * DAY), at(22 * DAY)));
        mood.replaces = true;
    });
    host.look().await;
    let chosen = || host.standing().record.renewal.and_then(|it| it.window).map(|(_, _, at)| at);
    let first = chosen().unwrap();
    assert!(at(20 * DAY) <= first && first <= at(22 * DAY));
    for _ in 0..5 {
        host.on(DAY).await;
    }
    assert_eq!(chosen(), Some(first), "it stays as long as the window does");
    let host = host.restart().await;
    host.on(2 * HOUR).await;
    let chosen = || host.standing().record.renewal.and_then(|it| it.window).map(|(_, _, at)| at);
    assert_eq!(chosen(), Some(first), "and over a restart");
    // Sooner: as before something is revoked.
    host.ca.set(|mood| mood.window = Some((at(6 * DAY), at(7 * DAY))));
    host.on(2 * HOUR).await;
    let second = chosen().unwrap();
    assert!(at(6 * DAY) <= second && second <= at(7 * DAY));
    assert_eq!(host.events("renewal-window").len(), 2);
    // A tenth of its life has not gone by: nine days.
    for _ in 0..9 * 24 {
        host.on(HOUR).await;
    }
    let issued = host.ca.issued();
    assert_eq!(issued.len(), 2, "{issued:?}");
    assert_eq!(
        issued[1],
        9 * DAY,
        "not sooner than a tenth of a life, however often it is asked for"
    );
    // The CA still names a time that has gone by: the next is a tenth of a life later again, and no loop.
    for _ in 0..3 * 24 {
        host.on(3 * HOUR).await;
    }
    let issued = host.ca.issued();
    assert_eq!(issued.len(), 3, "{issued:?}");
    assert!((18 * DAY..18 * DAY + 3 * HOUR).contains(&issued[2]), "{issued:?}");
    assert!(host.events(ISSUED)[1..].iter().all(|event| event.exempt));
    assert_eq!(host.certificates.budget("").unwrap()[0].2.used, 0, "replacements do not count");
}

#[tokio::test]
async fn each_warning_is_a_condition_of_its_own_once_for_each_certificate() {
    for life in [6 * DAY, 45 * DAY, 90 * DAY] {
        let mut host = Host::new(seconds(life)).await;
        host.look().await;
        let first = host.standing().generations[0].clone();
        host.certificates.pin("", "", ("alice".to_owned(), "a test".to_owned())).await.unwrap();
        let mut seen: BTreeMap<String, i64> = BTreeMap::new();
        let mut restarted = false;
        let step = life / 540;
        for n in 1..(life - HOUR) / step {
            host.on(step).await;
            let told: BTreeSet<String> = host.told().into_iter().collect();
            for key in &told {
                seen.entry(key.clone()).or_insert(n * step);
            }
            // None goes before its certificate does.
            assert_eq!(told.len(), seen.len(), "{told:?} {seen:?}");
            if seen.len() == 2 && !restarted {
                host = host.restart().await;
                restarted = true;
                let again: BTreeSet<String> = host.told().into_iter().collect();
                assert_eq!(again, told, "the same over a restart");
            }
        }
        let print = &first.fingerprint[..8];
        for (level, before) in warnings(&first) {
            let from = first.not_after.duration_since(at(0)).as_secs()
                - i64::try_from(before.as_secs()).unwrap();
            let found = seen.remove(&format!("ends-{level}-{print}")).unwrap();
            assert!(from <= found && found <= from + step, "{level} of {life}: {found}, {from}");
        }
        assert!(seen.is_empty(), "{seen:?}");
        // Another one is in force, and they are gone.
        host.certificates.unpin("", "", ("alice".to_owned(), String::new())).await.unwrap();
        host.look().await;
        assert_eq!(host.told(), [""; 0]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_that_begin_at_a_time_order_once() {
    let host = Host::new(days(90)).await;
    let shut = host.ca.gate.write().await;
    let who = || ("alice".to_owned(), String::new());
    let force = Wish { force: true, checking: true, ..Wish::default() };
    let (one, two) = tokio::join!(
        tokio::spawn({
            let own = Arc::clone(&host.certificates);
            async move { own.start("gw", force, ("alice".to_owned(), String::new())).await }
        }),
        tokio::spawn({
            let own = Arc::clone(&host.certificates);
            async move { own.start("gw", Wish::default(), ("bob".to_owned(), String::new())).await }
        }),
    );
    let (one, two) = (one.unwrap().unwrap(), two.unwrap().unwrap());
    assert_eq!(one.id, two.id);
    assert!(one.attached != two.attached, "one has begun it, the other one attached");
    let third = host.certificates.renew("gw", (true, ""), who()).await.unwrap();
    assert!(format!("{third:?}").contains(&one.id));
    drop(shut);
    host.idle().await;
    assert_eq!(host.ca.ordered(), 1);
    assert_eq!(host.standing().record.generation, 1);
}

#[tokio::test]
async fn of_a_thousand_only_those_are_wanted_about_which_something_is_to_be_done() {
    let mut text = String::new();
    for n in 0..1_000 {
        text += &format!(
            "[[certificates.certificate]]\nname = \"c{n:04}\"\ndomains = [\"c{n:04}.example.com\"]\n"
        );
    }
    let host = Host::with(days(90), &text, false).await;
    let certificates = &host.certificates;
    let config = certificates.config.load_full();
    let names: Vec<&Certificate> = config.certificates.iter().collect();
    // Every tenth is due, the later the sooner it ends; every hundredth has none.
    let mut written = Vec::new();
    for (n, certificate) in names.iter().enumerate() {
        if n % 100 == 99 {
            continue;
        }
        let n = i64::try_from(n).unwrap();
        let end = if n % 10 == 0 { 20 * DAY - n } else { 50 * DAY + n };
        let each: Vec<GenerationRecord> = (1..=5)
            .map(|number| GenerationRecord {
                name: certificate.name.clone(),
                identifiers: certificate.identifiers.clone(),
                ..generation(number, end - 90 * DAY - i64::from(5 - number) * 60 * DAY, 90 * DAY)
            })
            .collect();
        written.push((certificate.name.clone(), each));
    }
    let intent = genesis_storage::Intent::new(at(0), "test", "certificates");
    certificates
        .state
        .write(intent, move |w| {
            for (name, generations) in &written {
                let record = genesis_storage::CertificateRecord {
                    name: name.clone(),
                    generation: 5,
                    greatest: 5,
                    ..Default::default()
                };
                w.certificates().put(&record)?;
                for generation in generations {
                    w.certificates().put_generation(generation)?;
                }
            }
            Ok(())
        })
        .await
        .unwrap();
    let none = (0..1_000).filter(|n| n % 100 == 99).map(|n| format!("c{n:04}"));
    let due = (0..100).rev().map(|n| format!("c{:04}", n * 10));
    let expected: Vec<String> = none.chain(due).collect();
    let wanted = |checking| -> Vec<String> {
        certificates.wanted(checking).unwrap().into_iter().map(|it| it.name).collect()
    };
    assert_eq!(wanted(true), expected, "the most urgent first");
    // All of the due ones are overdue for more than a day, but a self-signed one or a CA's time would not wait either.
    assert_eq!(wanted(false), expected);
}

#[tokio::test]
async fn one_for_need_takes_over_and_the_orders_go_on() {
    let host = Host::new(days(6)).await;
    host.look().await;
    let ((fullchain, key), root) = super::material::backup(&["192.0.2.7"], 400);
    host.trust(&root);
    let who = || ("alice".to_owned(), "a test".to_owned());
    host.certificates.install_backup("", (fullchain, key, ""), who()).await.unwrap();
    host.ca.set(|mood| mood.down = true);
    for _ in 0..6 * 24 {
        host.on(HOUR).await;
    }
    let standing = host.standing();
    assert_eq!(standing.current().unwrap().origin, CertificateOrigin::Backup);
    assert!(host.events("self-signed").is_empty());
    host.ca.set(|mood| mood.down = false);
    for _ in 0..8 {
        host.on(HOUR).await;
    }
    let standing = host.standing();
    assert_eq!(standing.current().unwrap().origin, CertificateOrigin::Acme);
    assert_eq!(host.ca.issued().len(), 2);
    for _ in 0..48 {
        host.on(HOUR).await;
    }
    assert_eq!(host.standing().record.generation, standing.record.generation, "it stays");
}
