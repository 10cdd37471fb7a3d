//! Renewal information (RFC 9773): the CA says when, and is followed where that makes sense.

use std::time::Duration;

use genesis_tests::acme::{Fault, FaultProxy, Kind, Pebble, RenewalInfo, RetryAfter, Seen};
use genesis_tests::clock::{now, wait_until};
use genesis_tests::wall_clock::WallClock;
use jiff::{SignedDuration, Timestamp};

use crate::certificates::Host;
use crate::certificates_ca::two_looks;

const DAY: Duration = Duration::from_secs(86_400);

fn window(start: Timestamp, end: Timestamp) -> RenewalInfo {
    let retry_after = Some(RetryAfter::Seconds(60));
    RenewalInfo::Window { start, end, explanation: None, retry_after }
}

fn replaces(seen: &Seen) -> bool {
    seen.payload.as_ref().is_some_and(|payload| payload.get("replaces").is_some())
}

/// A host with a certificate of six days that was issued fifteen hours ago, so often in all, whose CA says that it is time
/// as soon as it is asked.
fn aged(issued: usize) -> (Host, FaultProxy, WallClock) {
    let pebble = Pebble::options().validity(DAY * 6).start();
    let (mut host, proxy) = Host::proxied(pebble, "", "");
    let clock = WallClock::of(&mut host.agent);
    proxy.set_renewal_info(window(now() + DAY * 5, now() + DAY * 5));
    host.agent.start();
    host.agent.wait_certificate("gw", "PROVEN");
    for _ in 1..issued {
        host.renew();
    }
    host.agent.terminate();
    let later = SignedDuration::from_hours(15);
    clock.ahead(later);
    proxy.skew(later);
    (host, proxy, clock)
}

#[test]
fn a_window_that_is_over_renews_at_once_as_a_replacement_that_no_limit_counts_and_only_once() {
    let (mut host, proxy, _clock) = aged(5);
    host.agent.start();
    two_looks();
    assert_eq!(host.pebble.orders(), 5, "it is not due by itself");
    host.agent.terminate();
    proxy.set_renewal_info(window(now() - DAY * 2, now() - DAY));
    host.agent.start();
    // It is known when to ask again, so that nothing begins before.
    _clock.ahead(SignedDuration::from_hours(15) + SignedDuration::from_mins(2));
    wait_until("a sixth order", || host.pebble.orders() == 6);
    wait_until("the sixth to be served", || {
        host.agent.certificate("gw")["current"]["number"] == 6 && host.shown() == host.generation(6)
    });
    let orders = proxy.requests_of(Kind::NewOrder);
    assert_eq!(
        orders.iter().map(replaces).collect::<Vec<_>>(),
        [false, true, true, true, true, true]
    );
    let budget = host.agent.ctl(&["cert", "budget", "-o", "json"]).response();
    let set = budget["budgets"].as_array().unwrap().iter();
    let set = set.clone().find(|it| it["limit"] == "identifier-set").unwrap();
    assert_eq!(set["used"], 5, "{budget:#}");
    // The CA says the same of the new one.
    two_looks();
    host.agent.restart();
    two_looks();
    assert_eq!((host.pebble.orders(), host.pebble.issued().len()), (6, 6));
    host.agent.ctl(&["cert", "renew", "--force"]).exits(4).says(&["BUDGET_EXHAUSTED"]);
}

#[test]
fn a_replacement_that_is_rejected_is_ordered_once_more_without_it_and_counts() {
    let (mut host, proxy, clock) = aged(1);
    proxy.fail_always(Kind::NewOrderReplacing, Fault::already_replaced());
    proxy.set_renewal_info(window(now() - DAY * 2, now() - DAY));
    clock.ahead(SignedDuration::from_hours(15) + SignedDuration::from_mins(2));
    host.agent.start();
    wait_until("the second to be served", || {
        host.agent.certificate("gw")["current"]["number"] == 2 && host.shown() == host.generation(2)
    });
    two_looks();
    let orders = proxy.requests_of(Kind::NewOrder);
    let seen: Vec<_> = orders.iter().map(|seen| (replaces(seen), seen.status)).collect();
    assert_eq!(seen, [(false, Some(201)), (true, Some(409)), (false, Some(201))]);
    let budget = host.agent.ctl(&["cert", "budget", "-o", "json"]).response();
    let set = budget["budgets"].as_array().unwrap().iter();
    let set = set.clone().find(|it| it["limit"] == "identifier-set").unwrap();
    assert_eq!(set["used"], 2, "{budget:#}");
}

#[test]
fn the_instant_stays_as_long_as_the_window_does_and_moves_with_it() {
    let (mut host, proxy) = Host::proxied(Pebble::start(), "", "");
    let clock = WallClock::of(&mut host.agent);
    let (first, second) = (now() + DAY * 20, now() + DAY * 40);
    proxy.set_renewal_info(window(first, first + DAY));
    host.agent.start();
    host.agent.wait_certificate("gw", "PROVEN");
    let due = |host: &Host| {
        let stands = host.agent.certificate("gw");
        let at: Timestamp = stands["dueAt"].as_str().unwrap().parse().unwrap();
        (stands["dueByCa"] == true, at)
    };
    wait_until("the CA's word", || due(&host).0);
    let chosen = due(&host).1;
    assert!(first - DAY / 86_400 <= chosen && chosen <= first + DAY, "{chosen}");
    host.agent.restart();
    assert_eq!(due(&host), (true, chosen));
    let asked = proxy.requests_of(Kind::RenewalInfo).len();
    assert_eq!(asked, 1, "it said when to ask again");
    clock.ahead(SignedDuration::from_mins(2));
    proxy.wait_requests(Kind::RenewalInfo, 2);
    two_looks();
    assert_eq!(due(&host), (true, chosen));
    proxy.set_renewal_info(window(second, second + DAY));
    clock.ahead(SignedDuration::from_mins(4));
    wait_until("another instant", || due(&host).1 != chosen);
    let (by_ca, chosen) = due(&host);
    assert!(by_ca && second - DAY / 86_400 <= chosen && chosen <= second + DAY, "{chosen}");
    assert_eq!(host.pebble.orders(), 1);
}

#[test]
fn a_word_that_makes_no_sense_leaves_the_own_rule_in_force() {
    let (mut host, proxy) = Host::proxied(Pebble::start(), "", "");
    proxy.set_renewal_info(RenewalInfo::Malformed);
    host.agent.start();
    host.agent.wait_certificate("gw", "PROVEN");
    proxy.wait_requests(Kind::RenewalInfo, 1);
    two_looks();
    let stands = host.agent.certificate("gw");
    assert_ne!(stands["dueByCa"], true, "{stands:#}");
    let at = |value: &serde_json::Value| value.as_str().unwrap().parse::<Timestamp>().unwrap();
    let before = at(&stands["current"]["notAfter"]).duration_since(at(&stands["dueAt"]));
    let thirty_days = SignedDuration::from_hours(30 * 24);
    assert!((before - thirty_days).abs() < SignedDuration::from_secs(2), "{stands:#}");
    assert_eq!(host.pebble.orders(), 1);
    // It is not asked again and again.
    assert_eq!(proxy.requests_of(Kind::RenewalInfo).len(), 1);
}
