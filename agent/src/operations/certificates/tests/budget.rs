//! What a CA still allows, against a count that is made minute by minute.

use std::collections::BTreeMap;

use genesis_storage::{CertificateEventRecord, CertificateTrouble};
use proptest::prelude::*;

use super::super::budget::{
    ENDED, ISSUED, Limits, ORDERED, UNAUTHORIZED, UNUSABLE, Used, held, registered_domain, used,
};
use super::*;

const WEEK: i64 = 7 * DAY;

/// Ids go up with their number, as those of the agent do.
fn event(
    number: usize,
    kind: &str,
    second: i64,
    name: &str,
    domains: &[&str],
) -> CertificateEventRecord {
    CertificateEventRecord {
        id: format!("{number:08}"),
        at: at(second),
        name: name.to_owned(),
        kind: kind.to_owned(),
        ca: "ca".to_owned(),
        generation: 1,
        identifiers: domains.iter().map(|it| (*it).to_owned()).collect(),
        exempt: false,
        detail: String::new(),
        actor: String::new(),
    }
}

/// Certificates that were issued at these seconds.
fn issued(times: &[i64], domains: &[&str]) -> Vec<CertificateEventRecord> {
    let each = times.iter().enumerate().flat_map(|(number, time)| {
        [
            event(2 * number, ORDERED, *time, "gw", domains),
            event(2 * number + 1, ISSUED, *time, "gw", domains),
        ]
    });
    each.collect()
}

fn asked(events: &[CertificateEventRecord], domains: &[&str], now: i64) -> Vec<Used> {
    let domains: Vec<String> = domains.iter().map(|it| (*it).to_owned()).collect();
    used(Limits::LetsEncrypt, events, &domains, at(now))
}

fn limit<'a>(used: &'a [Used], limit: &str) -> &'a Used {
    used.iter().find(|it| it.limit == limit).unwrap()
}

const GW: &[&str] = &["gw.example.com"];

#[test]
fn the_sixth_in_a_week_is_refused_until_the_oldest_is_a_week_old() {
    for times in [
        [0, 1, 2, 3, 4].map(|n| n * DAY),
        [0; 5],
        [0, 6 * DAY, 6 * DAY, 6 * DAY, 6 * DAY],
        [0, 0, 0, 0, 6 * DAY],
        [0, HOUR, 3 * DAY, 4 * DAY, 6 * DAY + HOUR],
    ] {
        let events = issued(&times, GW);
        let now = 6 * DAY + 2 * HOUR;
        let found = asked(&events, GW, now);
        let set = limit(&found, "identifier-set");
        assert_eq!((set.used, set.allowed, set.next_at), (5, 5, Some(at(WEEK))), "{times:?}");
        assert_eq!(held(&found, false).map(|it| it.limit), Some("identifier-set"));
        // A replacement does not count for it, nor another set that has one of the names.
        assert_eq!(held(&found, true), None);
        assert_eq!(held(&asked(&events, &["gw.example.com", "x.example.com"], now), false), None);
        assert_eq!(held(&asked(&events[..8], GW, now), false), None, "the fifth is allowed");
        assert_eq!(held(&asked(&events, GW, WEEK), false), None, "at that time one is");
        assert_eq!(used(Limits::None, &events, &[], at(now)), [], "a CA without limits");
    }
}

#[test]
fn fifty_in_a_week_are_for_all_names_below_a_registered_domain() {
    for (name, expected) in [
        ("gw.example.com", "example.com"),
        ("*.a.b.example.com", "example.com"),
        ("a.example.co.uk", "example.co.uk"),
        ("b.example.co.uk", "example.co.uk"),
        ("example.co.uk", "example.co.uk"),
        ("co.uk", "co.uk"),
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
    ] {
        assert_eq!(registered_domain(name), expected);
    }
    let mut events = Vec::new();
    for n in 0..50 {
        let name = format!("{}{n}.example.co.uk", if n % 2 == 0 { "a" } else { "b" });
        events.push(event(n, ISSUED, i64::try_from(n).unwrap() * HOUR, &name, &[&name]));
    }
    let now = 50 * HOUR;
    let found = asked(&events, &["new.example.co.uk"], now);
    let domain = limit(&found, "registered-domain");
    assert_eq!((domain.subject.as_str(), domain.used), ("example.co.uk", 50));
    assert_eq!(domain.next_at, Some(at(WEEK)));
    assert_eq!(held(&asked(&events, &["new.other.co.uk"], now), false), None);
    // One that is for both is held back by the one.
    let found = asked(&events, &["a.other.co.uk", "new.example.co.uk"], now);
    assert_eq!(held(&found, false).map(|it| it.subject.as_str()), Some("example.co.uk"));
    assert_eq!(held(&asked(&events[1..], &["new.example.co.uk"], now), false), None);
}

#[test]
fn what_the_ca_took_for_a_replacement_counts_only_as_an_order() {
    let mut events = issued(&[0; 40], GW);
    events.iter_mut().for_each(|event| event.exempt = true);
    let found = asked(&events, GW, HOUR);
    assert_eq!(limit(&found, "identifier-set").used, 0);
    assert_eq!(limit(&found, "registered-domain").used, 0);
    assert_eq!(limit(&found, "orders").used, 40);
    assert_eq!(held(&found, false), None);
}

#[test]
fn an_account_orders_three_hundred_times_in_three_hours_and_gets_one_back_in_36_seconds() {
    let orders = |count| -> Vec<CertificateEventRecord> {
        (0..count).map(|n| event(n, ORDERED, 0, &n.to_string(), &[&format!("{n}.com")])).collect()
    };
    assert_eq!(held(&asked(&orders(299), &["x.org"], 0), true), None);
    let found = asked(&orders(300), &["x.org"], 0);
    let held = held(&found, true).unwrap();
    assert_eq!((held.limit, held.next_at), ("orders", Some(at(36))));
}

#[test]
fn five_failed_authorizations_of_a_name_in_an_hour_bar_it() {
    let events: Vec<CertificateEventRecord> =
        (0..5).map(|n| event(n, UNAUTHORIZED, i64::try_from(n).unwrap() * 60, "gw", GW)).collect();
    let found = asked(&events, &["gw.example.com", "x.example.com"], 300);
    let failed: Vec<&Used> =
        found.iter().filter(|it| it.limit == "failed-authorizations").collect();
    assert_eq!(failed.len(), 1, "only what has failed");
    assert_eq!((failed[0].subject.as_str(), failed[0].next_at), ("gw.example.com", Some(at(HOUR))));
    assert_eq!(held(&found, true), Some(failed[0]), "a replacement too");
    assert_eq!(held(&asked(&events[1..], GW, 300), false), None);
    assert_eq!(held(&asked(&events, GW, HOUR), false), None);
}

#[test]
fn an_order_stands_for_a_certificate_until_it_came_to_nothing() {
    let set =
        |events: &[CertificateEventRecord]| limit(&asked(events, GW, HOUR), "identifier-set").used;
    let e = |number, kind, name| event(number, kind, 0, name, GW);
    let of = |generation, event| CertificateEventRecord { generation, ..event };
    for (what, events, expected) in [
        ("open", vec![e(0, ORDERED, "a")], 1),
        ("issued", vec![e(0, ORDERED, "a"), e(1, ISSUED, "a")], 1),
        (
            "issued and of no use",
            vec![e(0, ORDERED, "a"), e(1, UNUSABLE, "a"), e(2, "failed", "a")],
            1,
        ),
        ("failed", vec![e(0, ORDERED, "a"), e(1, ENDED, "a")], 0),
        ("not authorized", vec![e(0, ORDERED, "a"), e(1, UNAUTHORIZED, "a")], 0),
        ("only late", vec![e(0, ORDERED, "a"), e(1, "failed", "a")], 1),
        (
            "another after one that failed",
            vec![e(0, ORDERED, "a"), e(1, ENDED, "a"), e(2, ORDERED, "a")],
            1,
        ),
        (
            "two of two certificates, one of which failed",
            vec![e(0, ORDERED, "a"), e(1, ORDERED, "b"), e(2, ENDED, "a"), e(3, ISSUED, "b")],
            1,
        ),
        ("two that are open", vec![e(0, ORDERED, "a"), e(1, ORDERED, "b")], 2),
        ("in whatever order they are read", vec![e(1, ISSUED, "a"), e(0, ORDERED, "a")], 1),
        // Of the one that was given up the CA did not say that it came to nothing.
        ("two of one certificate", vec![e(0, ORDERED, "a"), of(2, e(1, ORDERED, "a"))], 2),
        (
            "the first of which failed, and the second was issued",
            vec![
                e(0, ORDERED, "a"),
                of(2, e(1, ORDERED, "a")),
                e(2, ENDED, "a"),
                of(2, e(3, ISSUED, "a")),
            ],
            1,
        ),
    ] {
        assert_eq!(set(&events), expected, "{what}");
    }
}

#[test]
fn what_a_clock_that_was_ahead_wrote_counts_from_now() {
    let mut events = issued(&[400 * DAY; 5], GW);
    let set = |events: &[CertificateEventRecord]| {
        let found = asked(events, GW, 0);
        let set = limit(&found, "identifier-set");
        (set.used, set.next_at)
    };
    assert_eq!(set(&events), (5, Some(at(WEEK))));
    // Beside what was written since.
    events.extend(
        issued(&[-DAY], GW)
            .into_iter()
            .map(|it| CertificateEventRecord { id: format!("x{}", it.id), ..it }),
    );
    assert_eq!(set(&events), (6, Some(at(WEEK))));
}

proptest! {
    #[test]
    fn each_certificate_s_orders_are_told_apart(kinds in prop::collection::vec((0usize..4, 0usize..6), 0..40)) {
        let names = ["a", "b", "c", "d"];
        let all = [ORDERED, ISSUED, UNUSABLE, ENDED, UNAUTHORIZED, "deployed"];
        let events: Vec<_> = kinds.iter().enumerate().map(|(n, (name, kind))| event(n, all[*kind], 0, names[*name], GW)).collect();
        let mut expected = 0;
        for name in 0..names.len() {
            let own: Vec<usize> = kinds.iter().filter(|(it, kind)| *it == name && *kind < 5).map(|(_, kind)| *kind).collect();
            expected += own.iter().filter(|kind| matches!(kind, 1 | 2)).count() + usize::from(own.last() == Some(&0));
        }
        prop_assert_eq!(limit(&asked(&events, GW, 0), "identifier-set").used as usize, expected);
    }

    #[test]
    fn a_set_s_next_time_is_the_first_minute_that_both_counts_allow(
        minutes in prop::collection::vec((0i64..14 * 1_440, any::<bool>()), 0..16), now in 0i64..15 * 1_440,
    ) {
        let (capacity, token) = (7 * 1_440, 7 * 1_440 / 5);
        let mut counted: BTreeMap<i64, i64> = BTreeMap::new();
        let mut events = Vec::new();
        for (number, (minute, exempt)) in minutes.iter().enumerate() {
            // What is still to come counts from now.
            let exempt = *exempt && minute % 3 == 0;
            events.push(CertificateEventRecord { exempt, ..event(number, ISSUED, minute * 60, "gw", GW) });
            if !exempt {
                *counted.entry((*minute).min(now)).or_default() += 1;
            }
        }
        let (mut level, mut first) = (capacity, None);
        for minute in 0..now + 40 * 1_440 {
            level = (level + i64::from(minute > 0)).min(capacity) - token * counted.get(&minute).unwrap_or(&0);
            let within: i64 = counted.range(minute - capacity + 1..=minute).map(|(_, count)| count).sum();
            if minute >= now && level >= token && within < 5 {
                first = Some(minute);
                break;
            }
        }
        let found = asked(&events, GW, now * 60);
        let set = limit(&found, "identifier-set");
        let within: i64 = counted.range(now - capacity + 1..=now).map(|(_, count)| count).sum();
        prop_assert_eq!(i64::from(set.used), within);
        let next = set.next_at.map_or(now, |at| at.duration_since(super::at(0)).as_secs() / 60);
        prop_assert_eq!(Some(next), first);
    }
}

#[test]
fn times_that_people_are_told_are_whole_seconds_and_never_too_soon() {
    use super::super::backoff::{asked_for, choose, wait_until, whole};

    let now: Timestamp = "2026-11-26T16:15:21.684000001Z".parse().unwrap();
    let next: Timestamp = "2026-11-26T16:15:22Z".parse().unwrap();
    assert_eq!((whole(now), whole(next)), (next, next));
    assert_eq!(asked_for(now, seconds(60)).to_string(), "2026-11-26T16:16:22Z");
    for trouble in [CertificateTrouble::Server, CertificateTrouble::RateLimited] {
        let until = wait_until(trouble, 1, None, (false, "seed"), now).unwrap();
        assert_eq!(until.subsec_nanosecond(), 0, "{until}");
        assert!(until > now);
    }
    let mut events = issued(&[0, 60, 120, 180, 240], &["gw.example.com"]);
    for event in &mut events {
        event.at = super::super::plan::plus(event.at, Duration::from_millis(1));
    }
    let used = asked(&events, &["gw.example.com"], HOUR);
    assert_eq!(limit(&used, "identifier-set").next_at, Some(at(7 * DAY + 1)));
    let end = super::super::plan::plus(now, seconds(3));
    for seed in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        let chosen = choose(now, end, seed);
        assert!(now <= chosen && chosen <= end, "{chosen}");
    }
}
