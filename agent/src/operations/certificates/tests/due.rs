//! When a certificate is due, what warns before, and how long attempts wait.

use std::time::Duration;

use genesis_storage::{CertificateOrigin, CertificateTrouble, RenewalRecord};
use jiff::Timestamp;
use proptest::prelude::*;

use super::super::backoff;
use super::super::due::{due, margin, warnings};
use super::*;

fn renewal(fingerprint: String, window: Option<(i64, i64, i64)>) -> RenewalRecord {
    let window = window.map(|(start, end, chosen)| (at(start), at(end), at(chosen)));
    RenewalRecord { fingerprint, window, ask_at: at(0), explanation: String::new() }
}

#[test]
fn a_third_of_a_life_is_kept_and_half_of_a_short_one() {
    for (life, kept) in [
        (398 * DAY, 30 * DAY),
        (90 * DAY, 30 * DAY),
        (89 * DAY, 89 * DAY / 3),
        (45 * DAY, 15 * DAY),
        (10 * DAY + 3, 10 * DAY / 3 + 1),
        (10 * DAY, 5 * DAY),
        (6 * DAY, 3 * DAY),
        (HOUR, HOUR / 2),
        (0, 0),
        // What ends before it begins lives not at all.
        (-DAY, 0),
    ] {
        assert_eq!(margin(&generation(1, 0, life), days(30)), seconds(kept), "{life}");
    }
    assert_eq!(margin(&generation(1, 0, 90 * DAY), days(10)), days(10), "as configured");
    assert_eq!(margin(&generation(1, 0, 6 * DAY), days(1)), days(3), "a short one keeps half");
}

#[test]
fn warnings_come_in_their_order_and_scale_with_the_life() {
    for (life, expected) in [
        (398 * DAY, [30 * DAY, 7 * DAY, DAY]),
        (90 * DAY, [30 * DAY, 7 * DAY, DAY]),
        (45 * DAY, [15 * DAY, 7 * DAY / 2, DAY / 2]),
        (6 * DAY, [2 * DAY, 6 * 7 * DAY / 90, 6 * DAY / 90]),
    ] {
        let found = warnings(&generation(1, 0, life));
        assert_eq!(found.map(|(level, _)| level), ["30d", "7d", "1d"]);
        assert_eq!(found.map(|(_, before)| before), expected.map(seconds), "{life}");
    }
}

#[test]
fn the_ca_s_time_overrides_ours_where_it_is_of_this_certificate() {
    let one = || generation(1, 0, 90 * DAY);
    let print = one().fingerprint;
    for (what, renewal, expected, by_ca) in [
        ("none is known", None, 60 * DAY, false),
        ("sooner", Some(renewal(print.clone(), Some((DAY, 3 * DAY, 2 * DAY)))), 9 * DAY, true),
        (
            "later",
            Some(renewal(print.clone(), Some((70 * DAY, 80 * DAY, 75 * DAY)))),
            75 * DAY,
            true,
        ),
        (
            "after the end: a fiftieth of the life is left",
            Some(renewal(print.clone(), Some((95 * DAY, 99 * DAY, 98 * DAY)))),
            90 * DAY - 90 * DAY / 50,
            true,
        ),
        ("of another one", Some(renewal("f".repeat(64), Some((0, DAY, DAY)))), 60 * DAY, false),
        ("the CA names none", Some(renewal(print, None)), 60 * DAY, false),
    ] {
        let mut case = Case::new(vec![one()]);
        case.record.renewal = renewal;
        let found = due(&case.situation(2 * HOUR));
        assert_eq!((found.at, found.by_ca), (at(expected), by_ca), "{what}");
    }
}

#[test]
fn two_issuances_are_a_tenth_of_a_life_apart_whatever_asks_for_one() {
    let window = |it: &GenerationRecord| Some(renewal(it.fingerprint.clone(), Some((-1, 0, 0))));
    for (what, life, spaced) in [
        ("long", 90 * DAY, 9 * DAY),
        ("short", 6 * DAY, 6 * DAY / 10),
        ("an hour at least", HOUR, HOUR),
    ] {
        let one = generation(1, 0, life.max(2 * HOUR));
        let mut case = Case::new(vec![one.clone()]);
        case.record.renewal = window(&one);
        assert_eq!(due(&case.situation(60)).at, at(spaced), "{what}");
        // Once that has gone by, it is due since when it was.
        assert!(due(&case.situation(spaced)).at <= at(spaced), "{what}");
    }
    let one = generation(1, 0, 90 * DAY);
    // The names are others: another set, nothing to be spaced from.
    let mut case = Case::new(vec![one.clone()]);
    case.identifiers = vec!["gw.example.com".to_owned(), "x.example.com".to_owned()];
    assert_eq!(due(&case.situation(60)).at, at(60));
    // One whose key is known does not keep its successor waiting, nor one that was revoked.
    for (compromised_at, revoked_at) in [(Some(at(1)), None), (None, Some(at(1)))] {
        let case = Case::new(vec![GenerationRecord { compromised_at, revoked_at, ..one.clone() }]);
        assert_eq!(due(&case.situation(60)).at, at(60));
    }
    // One that came here by other ways was not issued to this host.
    let case = Case::new(vec![of(CertificateOrigin::SelfSigned, one.clone())]);
    assert_eq!(due(&case.situation(60)).at, at(60));
    // A clock that was ahead when it came does not hold the next one back for longer than that.
    let ahead = GenerationRecord { created_at: at(900 * DAY), ..one };
    let mut case = Case::new(vec![ahead.clone()]);
    case.record.renewal = window(&ahead);
    assert_eq!(due(&case.situation(60)).at, at(60 + 9 * DAY));
}

#[test]
fn what_can_t_be_used_is_due_now() {
    let one = || generation(1, 0, 90 * DAY);
    let cases = [
        Case::new(Vec::new()),
        Case::new(vec![of(CertificateOrigin::SelfSigned, one())]),
        Case::new(vec![of(CertificateOrigin::Backup, one())]),
        Case::new(vec![GenerationRecord { compromised_at: Some(at(0)), ..one() }]),
    ];
    for case in cases {
        let found = due(&case.situation(20 * DAY));
        assert_eq!(found.at, at(20 * DAY));
        assert!(!found.why.is_empty());
    }
    let ended = Case::new(vec![one()]);
    assert_eq!(due(&ended.situation(90 * DAY)).at, at(90 * DAY));
}

fn waits(trouble: CertificateTrouble, asked: Option<Duration>, urgent: bool) -> Vec<i64> {
    let until = |failures| {
        backoff::wait_until(trouble, failures, asked, (urgent, "host/gw"), at(0))
            .map_or(-1, |until| until.duration_since(at(0)).as_secs())
    };
    (1..=40).map(until).collect()
}

#[test]
fn each_sort_of_failure_waits_as_it_should() {
    use CertificateTrouble::{Authorization, Clock, Local, Policy, RateLimited, Server};
    for (trouble, urgent, first, longest) in [
        (RateLimited, false, HOUR, DAY),
        (Authorization, false, HOUR / 2, 6 * HOUR),
        (Server, false, 60, 6 * HOUR),
        (Local, false, 60, HOUR),
        (Clock, false, 300, 300),
        (Server, true, 60, 900),
        (Local, true, 60, 900),
        // With little time left it is not asked more often for what the CA would count.
        (RateLimited, true, HOUR, DAY),
        (Authorization, true, HOUR / 2, 6 * HOUR),
    ] {
        let found = waits(trouble, None, urgent);
        for (n, found) in found.iter().enumerate() {
            let pause = (first << n.min(16)).min(longest);
            let most = pause + pause / 4;
            assert!((pause..=most).contains(found), "{trouble:?} {urgent} {n}: {found}");
        }
        assert_eq!(found, waits(trouble, None, urgent), "the same each time");
    }
    assert_eq!(waits(Policy, None, true), vec![-1; 40], "until the configuration is another");
    // Not more than two an hour for one name.
    assert!(waits(Authorization, None, true)[0] >= HOUR / 2);
}

#[test]
fn what_a_ca_asks_for_is_obeyed() {
    use CertificateTrouble::{RateLimited, Server};
    assert_eq!(waits(RateLimited, Some(days(2)), true), vec![2 * DAY; 40]);
    assert_eq!(waits(RateLimited, Some(seconds(5)), false)[0], 5, "also where it is soon");
    assert_eq!(waits(Server, Some(days(2)), true)[0], 2 * DAY);
    assert!(waits(Server, Some(seconds(1)), false)[0] >= 60, "and no sooner than we would");
    assert_eq!(waits(RateLimited, Some(days(4_000)), false)[0], 8 * DAY, "within reason");
    assert_eq!(waits(CertificateTrouble::Policy, Some(days(2)), false)[0], -1);
}

#[test]
fn hosts_that_failed_together_do_not_come_back_together() {
    let until = |host: usize| {
        let seed = format!("{host}/gw");
        backoff::wait_until(CertificateTrouble::Server, 9, None, (false, &seed), at(0)).unwrap()
    };
    let different: std::collections::BTreeSet<Timestamp> = (0..100).map(until).collect();
    assert!(different.len() > 60, "{}", different.len());
}

proptest! {
    #[test]
    fn the_instant_chosen_is_in_its_window_and_stays(start in -5_000_000i64..5_000_000, span in -10i64..3_000_000, seed in ".{0,12}") {
        let (from, until) = (at(start), at(start + span));
        let chosen = backoff::choose(from, until, &seed);
        prop_assert!(from <= chosen && chosen <= until.max(from));
        prop_assert_eq!(chosen, backoff::choose(from, until, &seed));
    }

    #[test]
    fn a_ca_is_asked_again_within_a_minute_and_a_day(asked in prop::option::of(0u64..u64::MAX)) {
        let again = backoff::ask_again(at(0), asked.map(Duration::from_secs)).duration_since(at(0)).as_secs();
        prop_assert!((60..=DAY).contains(&again));
        match asked {
            None => prop_assert_eq!(again, 6 * HOUR),
            Some(asked) => prop_assert_eq!(again.unsigned_abs(), asked.clamp(60, 86_400)),
        }
    }

    #[test]
    fn due_is_never_after_the_end_nor_too_soon_after_the_last(
        life in 2 * HOUR..400 * DAY, now in 0i64..400 * DAY, window in prop::option::of((-400 * DAY..800 * DAY, 0i64..30 * DAY)),
    ) {
        let one = generation(1, 0, life);
        let mut case = Case::new(vec![one.clone()]);
        case.record.renewal = window.map(|(start, span)| renewal(one.fingerprint.clone(), Some((start, start + span, start + span / 2))));
        let now = now % life;
        let found = due(&case.situation(now));
        let spaced = (life / 10).max(HOUR);
        prop_assert!(found.at <= one.not_after.max(at(spaced)));
        if found.at <= at(now) {
            prop_assert!(now >= spaced);
        }
    }
}

#[test]
fn the_instant_is_spread_over_the_window() {
    let chosen: Vec<i64> = (0..200)
        .map(|host| {
            backoff::choose(at(0), at(100), &host.to_string()).duration_since(at(0)).as_secs()
        })
        .collect();
    assert!(chosen.iter().any(|it| *it < 10) && chosen.iter().any(|it| *it > 90));
}
