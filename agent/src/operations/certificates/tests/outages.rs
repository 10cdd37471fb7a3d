//! A CA that is down, that wants to be left alone, or whose answers are of no use; and a clock that is wrong.

use std::sync::atomic::Ordering;

use genesis_storage::CertificateOrigin;

use super::super::budget::{ENDED, ORDERED, UNUSABLE};
use super::super::record::{Event, Who};
use super::host::{GW, Host, trouble};
use super::*;
use crate::events::Severity;
use crate::outside::Clock;
use crate::outside::acme::Class;

/// Time goes on in steps of `step` until so many seconds after the start.
async fn until(host: &Host, second: i64, step: i64) {
    while host.ca.now() < at(second) {
        let left = at(second).duration_since(host.ca.now()).as_secs();
        host.on(left.min(step)).await;
    }
}

#[tokio::test]
async fn a_ca_that_is_down_for_days_is_asked_ever_less_and_the_service_goes_on() {
    let host = Host::new(days(45)).await;
    host.look().await;
    until(&host, 30 * DAY, DAY).await;
    host.ca.set(|mood| mood.down = true);
    let (from, ended) = (host.ca.now(), 35 * DAY);
    host.check().await;
    until(&host, ended, 300).await;
    let failed = host.events("failed");
    // A minute, doubled up to six hours: nine steps; then at most one in six hours.
    assert!((20..=9 + 5 * 4).contains(&failed.len()), "{}", failed.len());
    assert!(failed.iter().all(|event| event.at >= from));
    for pair in failed.windows(2).skip(9) {
        assert!(pair[1].at.duration_since(pair[0].at).as_secs() >= 6 * HOUR);
    }
    assert_eq!(host.ca.ordered(), 1, "no order was placed");
    assert_eq!(host.standing().current().map(|it| it.number), Some(1), "it is in service");
    let told = host.told();
    assert_eq!(told.iter().filter(|key| *key == "failed").count(), 1, "{told:?}");
    host.ca.set(|mood| mood.down = false);
    until(&host, ended + 8 * HOUR, 300).await;
    assert_eq!(host.ca.issued().len(), 2, "it came back by itself");
    assert_eq!(host.standing().record.backoff, None);
    assert_eq!(host.told(), [""; 0]);
}

#[tokio::test]
async fn what_ends_while_the_ca_is_down_is_replaced_by_one_that_signs_itself_until_it_is_back() {
    let host = Host::new(days(6)).await;
    host.look().await;
    let end = host.standing().generations[0].not_after;
    until(&host, 2 * DAY, HOUR).await;
    host.ca.set(|mood| mood.down = true);
    let last = end.duration_since(at(0)).as_secs() - 5;
    until(&host, last, 300).await;
    let origin = |host: &Host| host.standing().current().map(|it| it.origin);
    assert_eq!(origin(&host), Some(CertificateOrigin::Acme), "to its last second");
    host.on(10).await;
    assert_eq!(origin(&host), Some(CertificateOrigin::SelfSigned), "and not a minute longer");
    assert_eq!(host.ca.now(), host.clock.now());
    let critical = |host: &Host| -> Vec<String> {
        let all = host.conditions().into_iter();
        all.filter(|it| it.severity == Severity::Critical).map(|it| it.key).collect()
    };
    assert_eq!(critical(&host), ["certificate/gw/self-signed"], "once");
    // It counts over a restart.
    let host = host.restart().await;
    until(&host, last + 4 * HOUR, 300).await;
    assert_eq!(critical(&host), ["certificate/gw/self-signed"]);
    until(&host, last + 4 * HOUR + 60, 60).await;
    let escalated = ["certificate/gw/self-signed", "certificate/gw/self-signed-escalated"];
    assert_eq!(critical(&host), escalated);
    // Orders go on, no more than four an hour, and none but one was made that signs itself.
    let before = host.events("failed").len();
    until(&host, last + 28 * HOUR, 300).await;
    let attempts = host.events("failed").len() - before;
    assert!((60..=97).contains(&attempts), "{attempts}");
    assert_eq!(host.events("self-signed").len(), 1);
    assert_eq!(critical(&host), escalated, "still those");
    host.ca.set(|mood| mood.down = false);
    until(&host, last + 28 * HOUR + 1_200, 300).await;
    assert_eq!(origin(&host), Some(CertificateOrigin::Acme), "it came back by itself");
    assert_eq!(host.told(), [""; 0], "and clears by itself");
    assert_eq!(host.ca.ordered(), 2);
}

#[tokio::test]
async fn people_are_called_again_also_where_nobody_noted_since_when_it_signs_itself() {
    let host = Host::new(days(6)).await;
    host.ca.set(|mood| mood.down = true);
    host.look().await;
    host.on(5).await;
    let (who, event) = (Who::system(), Event { kind: "test", ..Event::default() });
    // As where it could not be shown that it is served.
    let forgotten = host.certificates.change("gw", &who, event, |record| {
        record.self_signed_since = None;
        Vec::new()
    });
    forgotten.await.unwrap();
    let is_escalated = || host.told().contains(&"self-signed-escalated".to_owned());
    until(&host, 4 * HOUR, 300).await;
    assert!(!is_escalated());
    until(&host, 4 * HOUR + 60, 60).await;
    assert!(is_escalated());
}

#[tokio::test]
async fn one_that_signs_itself_is_made_anew_before_it_ends() {
    let host = Host::new(days(6)).await;
    host.ca.set(|mood| mood.down = true);
    host.look().await;
    host.on(5).await;
    until(&host, 30 * DAY, 6 * HOUR).await;
    assert_eq!(host.events("self-signed").len(), 5, "every six days");
    assert_eq!(host.standing().current().map(|it| it.origin), Some(CertificateOrigin::SelfSigned));
    let since = host.standing().record.self_signed_since.map(|it| it.wall);
    assert!(since.is_some_and(|since| since <= at(60)), "and counts as one: {since:?}");
}

#[tokio::test]
async fn two_days_that_a_ca_asks_for_are_two_days_over_restarts_too() {
    let host = Host::new(days(6)).await;
    host.look().await;
    until(&host, 2 * DAY, HOUR).await;
    host.ca.set(|mood| mood.refuses = Some(trouble(Class::RateLimited, Some(days(2)))));
    until(&host, 3 * DAY, HOUR).await;
    let asked = host.ca.orders.lock().unwrap().last().copied().unwrap();
    assert_eq!(host.ca.ordered(), 2);
    host.ca.set(|mood| mood.refuses = None);
    let host = host.restart().await;
    while host.ca.ordered() == 2 {
        host.on(300).await;
        assert!(host.ca.now() < at(6 * DAY));
    }
    let waited = host.ca.now().duration_since(asked).as_secs();
    assert!((2 * DAY..2 * DAY + 300 + 1).contains(&waited), "{waited}");
    assert_eq!(host.ca.issued().len(), 2);
}

#[tokio::test]
async fn a_week_s_budget_is_met_here_and_not_at_the_ca() {
    let host = Host::new(days(90)).await;
    let who = || ("alice".to_owned(), "a test".to_owned());
    for n in 1..=5 {
        host.certificates.renew("gw", (true, ""), who()).await.unwrap();
        host.idle().await;
        assert_eq!(host.ca.ordered(), n);
        host.clock.advance(seconds(60));
    }
    let error = host.certificates.renew("gw", (true, ""), who()).await.unwrap_err();
    assert_eq!(error.code, "BUDGET_EXHAUSTED");
    // The first was placed at the very beginning.
    let left = 7 * DAY - 5 * 60;
    assert_eq!(error.retry_after, Some(seconds(left)));
    host.clock.advance(seconds(left - 1));
    assert!(host.certificates.renew("gw", (true, ""), who()).await.is_err());
    assert_eq!(host.ca.ordered(), 5, "nothing was sent");
    host.clock.advance(seconds(1));
    host.certificates.renew("gw", (true, ""), who()).await.unwrap();
    host.idle().await;
    assert_eq!(host.ca.ordered(), 6);
}

#[tokio::test]
async fn what_can_t_be_used_counts_and_is_not_ordered_again() {
    let host = Host::new(days(90)).await;
    // It ends before it begins to matter.
    host.ca.set(|mood| mood.life = seconds(60));
    host.look().await;
    until(&host, 3 * DAY, HOUR).await;
    assert_eq!(host.ca.ordered(), 1);
    assert_eq!(host.events(UNUSABLE).len(), 1);
    let budget = host.certificates.budget("").unwrap();
    assert_eq!((budget[0].2.limit, budget[0].2.used), ("identifier-set", 1));
}

#[tokio::test]
async fn an_order_that_is_late_keeps_its_key_while_another_takes_the_place() {
    let host = Host::new(days(6)).await;
    host.look().await;
    host.ca.set(|mood| mood.stuck = Some(trouble(Class::Server, None)));
    // Long enough that what is in force ends; an order is kept for six days.
    until(&host, 6 * DAY, HOUR).await;
    let standing = host.standing();
    let order = standing.record.orders[0].clone();
    let current = standing.current().unwrap();
    assert_eq!(current.origin, CertificateOrigin::SelfSigned);
    assert_ne!(current.number, order.generation);
    host.ca.set(|mood| mood.stuck = None);
    until(&host, 6 * DAY + HOUR, 300).await;
    assert_eq!(host.ca.ordered(), 2, "the same order was gone on with");
    let standing = host.standing();
    assert_eq!(standing.record.generation, order.generation);
    assert_eq!(standing.record.orders, []);
    let items = host.certificates.verify("").await.unwrap().remove(0).items;
    assert!(items.iter().all(|it| it.truth == super::super::verify::Truth::Pass), "{items:?}");
    // What took its place is not put back, and the next one has a number of its own.
    until(&host, 10 * DAY, HOUR).await;
    let standing = host.standing();
    assert!(standing.record.generation > current_number(&host, CertificateOrigin::SelfSigned));
    assert_eq!(standing.current().map(|it| it.origin), Some(CertificateOrigin::Acme));
}

fn current_number(host: &Host, origin: CertificateOrigin) -> u32 {
    host.standing().generations.iter().find(|it| it.origin == origin).map_or(0, |it| it.number)
}

#[tokio::test]
async fn an_order_that_failed_is_placed_anew_once_with_a_key_of_its_own() {
    let host = Host::new(days(6)).await;
    host.ca.set(|mood| mood.stuck = Some(trouble(Class::OrderGone, None)));
    host.look().await;
    assert_eq!(host.ca.ordered(), 2);
    assert_eq!((host.events(ORDERED).len(), host.events(ENDED).len()), (2, 2));
    assert_eq!(host.certificates.budget("").unwrap()[0].2.used, 0, "nothing was issued");
    assert_eq!(host.standing().record.orders, []);
}

#[tokio::test]
async fn names_that_the_ca_can_t_see_are_counted_for_it_and_tried_twice_an_hour() {
    let host = Host::new(days(6)).await;
    host.ca.set(|mood| mood.stuck = Some(trouble(Class::Authorization, None)));
    host.look().await;
    let mut most = 0;
    for _ in 0..24 * 12 {
        host.on(300).await;
        let used = host.certificates.budget("").unwrap();
        let failed = used.iter().find(|it| it.2.limit == "failed-authorizations");
        most = most.max(failed.map_or(0, |it| it.2.used));
    }
    assert_eq!(most, 2, "of five that would bar it");
    assert!(host.ca.ordered() <= 8, "{}", host.ca.ordered());
    assert_eq!(host.events("unauthorized").len(), host.ca.ordered());
}

#[tokio::test]
async fn a_clock_that_was_set_orders_nothing_while_a_ca_contradicts() {
    let host = Host::new(days(6)).await;
    host.look().await;
    until(&host, DAY, HOUR).await;
    let right = host.clock.now();
    host.clock.set(super::super::plan::plus(right, days(60)));
    let before = host.ca.directories.load(Ordering::SeqCst);
    host.look().await;
    assert_eq!(
        host.told(),
        ["clock", "ended-", "ends-1d-", "ends-30d-", "ends-7d-"].map(|key| named(&host, key))
    );
    for _ in 0..12 * 12 {
        host.on(300).await;
    }
    assert_eq!(host.ca.ordered(), 1);
    assert_eq!(host.standing().record.generation, 1, "what is in service stays");
    assert!(host.events("self-signed").is_empty());
    let asked = host.ca.directories.load(Ordering::SeqCst) - before;
    assert!((140..=150).contains(&asked), "every five minutes: {asked}");
    let error = host.certificates.renew("gw", (true, ""), ("a".into(), String::new())).await;
    assert_eq!(error.unwrap_err().code, "CLOCK_SUSPECT");
    host.clock.set(host.ca.now());
    host.look().await;
    assert_eq!(host.told(), [""; 0], "set right, all is well");
    until(&host, 4 * DAY, HOUR).await;
    assert_eq!(host.ca.issued().len(), 2);
}

fn named(host: &Host, key: &str) -> String {
    let print = host.standing().current().map(|it| it.fingerprint[..8].to_owned());
    if key.ends_with('-') { format!("{key}{}", print.unwrap_or_default()) } else { key.to_owned() }
}

#[tokio::test]
async fn a_clock_that_was_set_is_waited_for_where_no_ca_can_say_what_time_it_is() {
    let host = Host::new(days(6)).await;
    host.look().await;
    host.on(60).await;
    host.ca.set(|mood| mood.down = true);
    // What a CA said when the certificate was ordered counts for a while.
    until(&host, 7 * HOUR, HOUR).await;
    host.clock.set(super::super::plan::plus(host.clock.now(), days(60)));
    let from = host.ca.now().duration_since(at(0)).as_secs();
    until(&host, from + 6 * HOUR - 300, 300).await;
    assert_eq!(host.standing().record.generation, 1, "nothing for hours");
    assert!(host.told().contains(&"clock".to_owned()));
    until(&host, from + 6 * HOUR + 600, 300).await;
    // Then the clock is all there is.
    assert_eq!(host.standing().current().map(|it| it.origin), Some(CertificateOrigin::SelfSigned));
    assert!(!host.told().contains(&"clock".to_owned()));
}

#[tokio::test]
async fn after_a_start_with_a_wrong_clock_a_ca_is_asked_before_anything_takes_a_place() {
    let host = Host::new(days(6)).await;
    host.look().await;
    let host = host.restart().await;
    host.clock.set(at(60 * DAY));
    // A restart knows of no step: to it all has ended.
    for _ in 0..24 {
        host.on(HOUR).await;
    }
    assert_eq!(host.standing().record.generation, 1);
    assert!(host.events("self-signed").is_empty());
    assert_eq!(host.ca.ordered(), 1);
    assert!(host.told().contains(&"clock".to_owned()));
}

#[tokio::test]
async fn the_first_order_of_a_host_with_a_wrong_clock_is_not_placed() {
    let host = Host::with(days(6), GW, true).await;
    for _ in 0..48 {
        host.on(HOUR / 2).await;
    }
    assert_eq!(host.ca.ordered(), 0);
    assert!(host.told().contains(&"clock".to_owned()));
}

#[tokio::test]
async fn each_ca_is_left_alone_as_long_as_it_wants_while_another_is_asked() {
    let second = "[[certificates.acme]]\nname = \"second\"\ndirectory = \"https://second.example/\"\nterms_agreed = true\n";
    for (class, retry_after) in [(Class::Policy, None), (Class::RateLimited, Some(days(2)))] {
        // The second has no roots here that its certificates lead to.
        let host = Host::with(days(6), &format!("{second}\n{GW}"), false).await;
        host.ca.set(|mood| mood.refuses = Some(trouble(class, retry_after)));
        host.look().await;
        assert_eq!(host.ca.ordered(), 2, "one after the other: {class:?}");
        let waits = host.standing().record.backoff.map(|it| it.waits).unwrap();
        let names: Vec<&str> = waits.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["ca", "second"], "what the second issued leads to no root here");
        assert_eq!(waits[0].1, retry_after.map(|it| super::super::plan::plus(at(0), it)));
        until(&host, DAY, HOUR).await;
        assert_eq!(host.ca.ordered(), 2, "neither is asked again");
        until(&host, 3 * DAY, HOUR).await;
        let again = if class == Class::RateLimited { 3 } else { 2 };
        assert_eq!(host.ca.ordered(), again, "{class:?}");
    }
}
