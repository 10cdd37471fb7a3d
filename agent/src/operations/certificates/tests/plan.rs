//! What is done about a certificate: every branch.

use genesis_storage::{
    BackoffRecord, CertificateOrigin, CertificateTrouble, DeployingRecord, OrderRecord, PinRecord,
    RenewalRecord,
};

use super::super::plan::{Decision, covers, decide, surplus, usable};
use super::*;

const LIFE: i64 = 90 * DAY;
/// One of that life is due.
const DUE: i64 = 60 * DAY;

fn fresh() -> Case {
    Case::new(vec![generation(1, 0, LIFE)])
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn failed(trouble: CertificateTrouble, until: Option<i64>) -> Option<BackoffRecord> {
    Some(BackoffRecord {
        until: until.map(at),
        trouble,
        failures: 1,
        error: "no".to_owned(),
        diagnosis: Vec::new(),
        at: at(0),
        configuration: "one".to_owned(),
        waits: Vec::new(),
        placing: false,
    })
}

/// A generation could not be brought into service, and nobody is asked to take it until then.
fn not_placed(until: i64) -> Option<BackoffRecord> {
    failed(CertificateTrouble::Local, Some(until)).map(|it| BackoffRecord { placing: true, ..it })
}

fn deploying(generation: u32, failed: bool) -> Option<DeployingRecord> {
    Some(DeployingRecord { generation, rolled_back: false, pin: None, failed })
}

fn pin() -> Option<PinRecord> {
    Some(PinRecord { at: at(0), by: "alice".to_owned(), reason: String::new() })
}

fn ordered() -> OrderRecord {
    OrderRecord {
        ca: "ca".to_owned(),
        url: "u".to_owned(),
        generation: 2,
        identifiers: names(&["gw.example.com"]),
        at: at(0),
        forced: false,
    }
}

#[test]
fn a_wildcard_stands_for_one_label() {
    for (has, wanted, expected) in [
        (&["a.example.com"][..], "a.example.com", true),
        (&["a.example.com"], "b.example.com", false),
        (&["*.example.com"], "a.example.com", true),
        (&["*.example.com"], "a.b.example.com", false),
        (&["*.example.com"], "example.com", false),
        (&["*.example.com"], "*.example.com", true),
        (&["*.example.com"], "*.a.example.com", false),
        (&["a.example.com"], "*.example.com", false),
        (&["*.com"], "*.example.com", false),
        (&["x.example.com", "*.example.com"], "a.example.com", true),
        (&["192.0.2.1"], "192.0.2.1", true),
        (&[], "a.example.com", false),
    ] {
        assert_eq!(covers(&names(has), wanted), expected, "{has:?} {wanted}");
    }
}

#[test]
fn why_a_generation_may_not_be_in_service() {
    let one = || generation(1, 0, LIFE);
    let wanted = names(&["gw.example.com"]);
    for (what, generation, now, expected) in [
        ("in its life", one(), DAY, None),
        ("from five minutes before its beginning", one(), -300, None),
        ("sooner than that", one(), -301, Some("begins")),
        ("to its last second", one(), LIFE - 1, None),
        ("not at its end", one(), LIFE, Some("ended")),
        (
            "compromised",
            GenerationRecord { compromised_at: Some(at(1)), ..one() },
            DAY,
            Some("compromised"),
        ),
        ("revoked", GenerationRecord { revoked_at: Some(at(1)), ..one() }, DAY, Some("revoked")),
        (
            "for others",
            GenerationRecord { identifiers: names(&["x.example.com"]), ..one() },
            DAY,
            Some("not for gw.example.com"),
        ),
        (
            "for it among others",
            GenerationRecord { identifiers: names(&["*.example.com"]), ..one() },
            DAY,
            None,
        ),
    ] {
        let found = usable(&generation, &wanted, at(now)).err();
        match expected {
            None => assert_eq!(found, None, "{what}"),
            Some(part) => {
                assert!(found.as_ref().is_some_and(|why| why.contains(part)), "{what}: {found:?}")
            }
        }
    }
}

#[test]
fn nothing_is_done_with_a_clock_that_may_be_wrong() {
    for mut case in [fresh(), Case::new(Vec::new())] {
        case.clock = Some("it was set");
        case.checking = true;
        for now in [0, DUE, 2 * LIFE] {
            assert_eq!(decide(&case.situation(now)), Decision::Nothing);
        }
    }
}

#[test]
fn a_long_lived_one_waits_for_the_daily_check_but_not_for_ever() {
    let order = Decision::Order { cas: 1 };
    let mut case = fresh();
    for (now, checking, expected) in [
        (DUE - 1, true, Decision::Nothing),
        (DUE, false, Decision::Nothing),
        (DUE, true, order.clone()),
        (DUE + DAY - 1, false, Decision::Nothing),
        (DUE + DAY, false, order.clone()),
    ] {
        case.checking = checking;
        assert_eq!(decide(&case.situation(now)), expected, "{now} {checking}");
    }
    case.checking = false;
    // A retry does not.
    case.record.backoff = failed(CertificateTrouble::Server, Some(DUE + 60));
    assert_eq!(decide(&case.situation(DUE + 59)), Decision::Nothing);
    assert_eq!(decide(&case.situation(DUE + 60)), order);
    // Nor what the CA names a time for.
    let mut case = fresh();
    let fingerprint = case.generations[0].fingerprint.clone();
    let window = Some((at(50 * DAY), at(52 * DAY), at(51 * DAY)));
    case.record.renewal =
        Some(RenewalRecord { fingerprint, window, ask_at: at(0), explanation: String::new() });
    assert_eq!(decide(&case.situation(51 * DAY - 1)), Decision::Nothing);
    assert_eq!(decide(&case.situation(51 * DAY)), order);
    // Nor a short-lived one.
    let case = Case::new(vec![generation(1, 0, 6 * DAY)]);
    assert_eq!(decide(&case.situation(3 * DAY - 1)), Decision::Nothing);
    assert_eq!(decide(&case.situation(3 * DAY)), order);
}

#[test]
fn the_next_cas_are_asked_after_half_of_the_time_or_when_nothing_is_sound() {
    let mut case = fresh();
    case.checking = true;
    let cas = |case: &Case, now| match decide(&case.situation(now)) {
        Decision::Order { cas } => cas,
        other => panic!("{other:?}"),
    };
    assert_eq!(cas(&case, DUE), 1);
    assert_eq!(cas(&case, DUE + 15 * DAY - 1), 1);
    assert_eq!(cas(&case, DUE + 15 * DAY), 2);
    let case = Case::new(Vec::new());
    assert_eq!(cas(&case, 0), 2, "nothing is in service");
    let case = Case::new(vec![of(CertificateOrigin::SelfSigned, generation(1, 0, 7 * DAY))]);
    assert_eq!(cas(&case, HOUR), 2, "nothing that is trusted");
    let case = Case::new(vec![of(CertificateOrigin::Backup, generation(1, 0, 300 * DAY))]);
    assert_eq!(cas(&case, HOUR), 2, "the one for need: orders go on");
    // With none configured nothing is ordered.
    let mut case = fresh();
    (case.cas, case.checking) = (Vec::new(), true);
    assert_eq!(decide(&case.situation(DUE)), Decision::Nothing);
}

#[test]
fn a_failure_holds_back_until_its_time_or_another_configuration() {
    let mut case = Case::new(vec![generation(1, 0, 6 * DAY)]);
    let now = 4 * DAY;
    case.record.backoff = failed(CertificateTrouble::Server, Some(now + 1));
    assert_eq!(case.situation(now).held(), Some(Some(at(now + 1))));
    assert_eq!(decide(&case.situation(now)), Decision::Nothing);
    assert_eq!(case.situation(now + 1).held(), None);
    case.record.backoff = failed(CertificateTrouble::Policy, None);
    assert_eq!(case.situation(now).held(), Some(None));
    assert_eq!(decide(&case.situation(now)), Decision::Nothing);
    if let Some(backoff) = &mut case.record.backoff {
        backoff.configuration = "another".to_owned();
    }
    assert_eq!(case.situation(now).held(), None);
    assert!(matches!(decide(&case.situation(now)), Decision::Order { .. }));
}

#[test]
fn what_is_pinned_stays_as_long_as_it_may() {
    let mut case = fresh();
    (case.record.pin, case.checking) = (pin(), true);
    case.generations.insert(0, generation(2, DAY, LIFE));
    for now in [2 * DAY, DUE, LIFE - 1] {
        assert_eq!(decide(&case.situation(now)), Decision::Nothing);
    }
    // A pin keeps no certificate in service that has ended.
    assert_eq!(decide(&case.situation(LIFE)), Decision::Deploy(2));
}

#[test]
fn what_was_begun_is_gone_on_with() {
    // On its way into service.
    let mut case = fresh();
    case.generations.insert(0, generation(2, DAY, LIFE));
    case.record.deploying = deploying(2, false);
    assert_eq!(decide(&case.situation(2 * DAY)), Decision::Deploy(2));
    // What was cut off in the middle waits for nobody: neither for a CA, nor after what failed before.
    for before in [failed(CertificateTrouble::Policy, None), not_placed(3 * DAY)] {
        case.record.backoff = before;
        assert_eq!(decide(&case.situation(2 * DAY)), Decision::Deploy(2));
    }
    // What is in place and could not be shown is tried again in its time.
    case.record.deploying = deploying(2, true);
    assert_eq!(decide(&case.situation(2 * DAY)), Decision::Nothing);
    assert_eq!(decide(&case.situation(3 * DAY)), Decision::Deploy(2));
    // A CA that refuses does not keep it from that.
    case.record.backoff = failed(CertificateTrouble::Policy, None);
    assert_eq!(decide(&case.situation(2 * DAY)), Decision::Deploy(2));
    // A generation that is there no more is not waited for.
    case.record.deploying = deploying(7, false);
    case.record.backoff = None;
    assert_eq!(decide(&case.situation(2 * DAY)), Decision::Deploy(2), "as the newer one");
    // An order.
    let mut case = fresh();
    case.record.orders = vec![ordered()];
    assert_eq!(decide(&case.situation(DAY)), Decision::Order { cas: 1 });
    // Not one for other names, of a CA that is not to be asked, or too long ago: no other is placed for it.
    let other = OrderRecord { identifiers: names(&["old.example.com"]), ..ordered() };
    for order in [other, OrderRecord { ca: "second".to_owned(), ..ordered() }] {
        case.record.orders = vec![order];
        assert_eq!(decide(&case.situation(DAY)), Decision::Nothing);
    }
    case.record.orders = vec![ordered()];
    assert_eq!(decide(&case.situation(6 * DAY)), Decision::Nothing);
    // Issued and not in service.
    let mut case = fresh();
    case.generations.insert(0, generation(2, DAY, LIFE));
    assert_eq!(decide(&case.situation(2 * DAY)), Decision::Deploy(2));
    // Also one of a shorter life. But not one that is older than the one in force.
    case.generations[0] = generation(2, DAY, LIFE / 2);
    assert_eq!(decide(&case.situation(2 * DAY)), Decision::Deploy(2));
    case.generations[0] = generation(2, -DAY, LIFE);
    assert_eq!(decide(&case.situation(2 * DAY)), Decision::Nothing);
}

#[test]
fn one_that_ended_on_its_way_into_service_is_not_waited_for() {
    // A hook that has failed for its whole life.
    let mut case = Case::new(vec![generation(1, 0, 6 * DAY)]);
    case.record.deploying = deploying(1, true);
    case.record.backoff = not_placed(6 * DAY + HOUR);
    assert_eq!(decide(&case.situation(6 * DAY - 1)), Decision::Nothing);
    assert_eq!(decide(&case.situation(6 * DAY)), Decision::SelfSign);
    // One that was marked on its way.
    let mut case = fresh();
    let marked = GenerationRecord { compromised_at: Some(at(DAY)), ..generation(2, DAY, LIFE) };
    case.generations.insert(0, marked);
    case.record.deploying = deploying(2, false);
    assert_eq!(decide(&case.situation(2 * DAY)), Decision::Nothing);
}

#[test]
fn who_could_not_take_one_is_not_asked_again_at_once_while_one_that_signs_itself_serves() {
    let own = of(CertificateOrigin::SelfSigned, generation(1, 0, 7 * DAY));
    let mut case = Case::new(vec![generation(2, 0, LIFE), own]);
    case.record.generation = 1;
    assert_eq!(decide(&case.situation(HOUR)), Decision::Deploy(2));
    case.record.backoff = not_placed(2 * HOUR);
    assert_eq!(decide(&case.situation(HOUR)), Decision::Nothing);
    assert_eq!(decide(&case.situation(2 * HOUR)), Decision::Deploy(2));
    // Something that ends is replaced all the same.
    case.record.backoff = not_placed(8 * DAY);
    assert_eq!(decide(&case.situation(7 * DAY)), Decision::Deploy(2));
    // Another failure on this host says nothing of it.
    case.record.backoff = failed(CertificateTrouble::Local, Some(2 * HOUR));
    assert_eq!(decide(&case.situation(HOUR)), Decision::Deploy(2));
}

#[test]
fn a_hook_that_fails_for_ever_keeps_no_ca_from_being_asked() {
    // In place and not shown: one that signs itself, and one that is due by now.
    let own = of(CertificateOrigin::SelfSigned, generation(1, 0, 7 * DAY));
    for (it, now, cas) in [(own, HOUR, 2), (generation(1, 0, LIFE), DUE, 1)] {
        let mut case = Case::new(vec![it]);
        case.record.deploying = deploying(1, true);
        case.record.backoff = not_placed(now + 60);
        assert_eq!(decide(&case.situation(now)), Decision::Nothing);
        assert_eq!(decide(&case.situation(now + 60)), Decision::Order { cas });
        // Once the CA has had its turn, it is tried again.
        case.record.backoff = failed(CertificateTrouble::Server, Some(now + HOUR));
        assert_eq!(decide(&case.situation(now + 60)), Decision::Deploy(1));
    }
    let mut case = fresh();
    case.record.deploying = deploying(1, true);
    case.record.backoff = not_placed(DAY);
    assert_eq!(decide(&case.situation(DAY)), Decision::Deploy(1), "one that is not due");
}

#[test]
fn what_a_clock_that_was_ahead_has_noted_holds_nothing_back() {
    // Sixty days ahead, an attempt failed; the clock was set right since.
    let ahead = 60 * DAY;
    let mut case = Case::new(Vec::new());
    case.cas.truncate(1);
    let waits = vec![("ca".to_owned(), Some(at(ahead + HOUR)))];
    case.record.backoff = failed(CertificateTrouble::Server, Some(ahead + HOUR))
        .map(|it| BackoffRecord { at: at(ahead), waits, ..it });
    case.generations = vec![of(CertificateOrigin::SelfSigned, generation(1, 0, 7 * DAY))];
    case.record.generation = 1;
    assert_eq!(decide(&case.situation(HOUR)), Decision::Order { cas: 1 });
    assert_eq!(decide(&case.situation(ahead)), Decision::SelfSign, "as it looks then");
    // What waits for another configuration waits.
    case.record.backoff =
        failed(CertificateTrouble::Policy, None).map(|it| BackoffRecord { at: at(ahead), ..it });
    assert_eq!(decide(&case.situation(HOUR)), Decision::Nothing);
    // Nor does what a CA asked for then; it means a week at most.
    case.record.waits = vec![("ca".to_owned(), at(ahead + HOUR))];
    assert_eq!(case.situation(HOUR).asked_to_wait("ca"), None);
    assert_eq!(case.situation(ahead - 7 * DAY).asked_to_wait("ca"), Some(at(ahead + HOUR)));
}

#[test]
fn an_order_that_ended_late_is_not_undone_by_what_took_its_place_meanwhile() {
    // Ordered as 2, the one for need was taken as 3, then 2 was issued.
    let backup = of(CertificateOrigin::Backup, generation(3, 10 * DAY, 400 * DAY));
    let issued = GenerationRecord { created_at: at(11 * DAY), ..generation(2, 11 * DAY, LIFE) };
    let mut case = Case::new(vec![backup, issued]);
    case.record.generation = 2;
    assert_eq!(decide(&case.situation(12 * DAY)), Decision::Nothing);
}

#[test]
fn what_takes_the_place_of_one_that_ended() {
    let now = LIFE;
    let ended = || generation(3, 0, LIFE);
    let backup = || of(CertificateOrigin::Backup, generation(0, 0, 400 * DAY));
    let other = |number| generation(number, DAY, LIFE);
    // The newest other one.
    let mut case = Case::new(vec![ended(), other(2), other(1)]);
    case.backup = Some(backup());
    assert_eq!(decide(&case.situation(now)), Decision::Deploy(2));
    // One that is marked is passed over.
    case.generations[1].compromised_at = Some(at(0));
    assert_eq!(decide(&case.situation(now)), Decision::Deploy(1));
    // The one for need.
    case.generations.truncate(1);
    assert_eq!(decide(&case.situation(now)), Decision::DeployBackup);
    // One for need that has ended is none; whether attempts wait does not matter.
    case.backup = Some(generation(0, 0, DAY));
    assert_eq!(decide(&case.situation(now)), Decision::SelfSign);
    case.record.backoff = failed(CertificateTrouble::Policy, None);
    assert_eq!(decide(&case.situation(now)), Decision::SelfSign);
    // A self-signed one is nobody's successor while a trusted one is there.
    let mut case =
        Case::new(vec![of(CertificateOrigin::SelfSigned, generation(3, 0, LIFE)), other(2)]);
    assert_eq!(decide(&case.situation(2 * DAY)), Decision::Deploy(2));
    case.generations.truncate(1);
    case.backup = Some(backup());
    assert_eq!(decide(&case.situation(2 * DAY)), Decision::DeployBackup);
}

#[test]
fn one_that_signs_itself_stays_until_its_last_day_and_orders_go_on() {
    let own = |number, from| of(CertificateOrigin::SelfSigned, generation(number, from, 7 * DAY));
    let mut case = Case::new(vec![own(1, 0)]);
    assert_eq!(decide(&case.situation(HOUR)), Decision::Order { cas: 2 });
    case.record.backoff = failed(CertificateTrouble::Server, Some(20 * DAY));
    assert_eq!(decide(&case.situation(HOUR)), Decision::Nothing);
    assert_eq!(decide(&case.situation(6 * DAY - 1)), Decision::Nothing);
    assert_eq!(decide(&case.situation(6 * DAY)), Decision::SelfSign);
    // One that was made already and could not come into service is taken, and none is made beside it.
    case.generations.insert(0, own(2, 6 * DAY));
    assert_eq!(decide(&case.situation(6 * DAY + 60)), Decision::Deploy(2));
}

#[test]
fn the_first_order_has_its_turn_before_one_signs_itself() {
    let mut case = Case::new(Vec::new());
    assert_eq!(decide(&case.situation(0)), Decision::Order { cas: 2 });
    case.record.backoff = failed(CertificateTrouble::Authorization, Some(HOUR));
    assert_eq!(decide(&case.situation(0)), Decision::SelfSign);
    case.backup = Some(of(CertificateOrigin::Backup, generation(0, 0, 400 * DAY)));
    assert_eq!(decide(&case.situation(0)), Decision::DeployBackup);
    // Where nobody can be asked, at once.
    let mut case = Case::new(Vec::new());
    case.cas.clear();
    assert_eq!(decide(&case.situation(0)), Decision::SelfSign);
}

#[test]
fn what_goes_is_never_in_use() {
    let generations: Vec<GenerationRecord> =
        (1..=10).rev().map(|number| generation(number, 0, LIFE)).collect();
    let record = |generation, deploying, ordered: Option<u32>| CertificateRecord {
        generation,
        deploying,
        orders: ordered
            .map(|generation| OrderRecord { generation, ..self::ordered() })
            .into_iter()
            .collect(),
        ..CertificateRecord::default()
    };
    for (what, record, keep, expected) in [
        ("the oldest go", record(10, None, None), 5, vec![5, 4, 3, 2, 1]),
        ("not the one in force", record(2, None, None), 5, vec![5, 4, 3, 1]),
        ("nor one on its way", record(10, deploying(4, false), Some(3)), 5, vec![5, 2, 1]),
        ("none is over", record(10, None, None), 10, vec![]),
    ] {
        assert_eq!(surplus(&record, &generations, keep), expected, "{what}");
    }
    assert!(surplus(&record(0, None, None), &[], 5).is_empty());
}

#[test]
fn a_ca_that_waits_is_passed_over_for_the_next_one_once_that_may_be_asked() {
    let mut case = fresh();
    let waits = |case: &mut Case, trouble, until: Option<i64>, waits: &[(&str, Option<i64>)]| {
        let each = waits.iter().map(|(ca, until)| ((*ca).to_owned(), until.map(at)));
        case.record.backoff =
            failed(trouble, until).map(|it| BackoffRecord { waits: each.collect(), ..it });
    };
    let half = DUE + 15 * DAY;
    // The first wants to be left alone for long: the second has its turn after half of the time.
    waits(&mut case, CertificateTrouble::RateLimited, Some(LIFE), &[("ca", Some(LIFE))]);
    assert_eq!(decide(&case.situation(half - 1)), Decision::Nothing);
    assert_eq!(decide(&case.situation(half)), Decision::Order { cas: 2 });
    let both = [("ca", Some(LIFE)), ("second", Some(half + 60))];
    waits(&mut case, CertificateTrouble::Server, Some(half + 60), &both);
    assert_eq!(decide(&case.situation(half + 59)), Decision::Nothing);
    assert_eq!(decide(&case.situation(half + 60)), Decision::Order { cas: 2 });
    // It refuses for good: the second has its turn at once.
    waits(&mut case, CertificateTrouble::Policy, None, &[("ca", None)]);
    assert_eq!(decide(&case.situation(DUE)), Decision::Order { cas: 2 });
    waits(&mut case, CertificateTrouble::Policy, None, &[("ca", None), ("second", None)]);
    assert_eq!(decide(&case.situation(half)), Decision::Nothing);
    // What fails on this host fails with any of them.
    waits(&mut case, CertificateTrouble::Local, Some(LIFE), &[]);
    assert_eq!(decide(&case.situation(half)), Decision::Nothing);
}
