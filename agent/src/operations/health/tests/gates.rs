use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use genesis_storage::Moment;

use super::life::moment;
use crate::operations::health::gates::*;
use crate::trading::Critical;

const MINUTE: i64 = 60;

fn spent(action: &str, at: i64) -> Spent {
    Spent { attempt: String::new(), action: action.to_owned(), destructive: false, at: moment(at) }
}

/// The codes that deny, with the candidate and the situation changed by `change`, a day after the start.
fn codes(
    change: impl FnOnce(&mut Candidate<'_>, &mut Situation<'_>),
    history: &[Spent],
) -> Vec<&'static str> {
    let (now, started) = (moment(86_400), moment(0));
    let signal = moment(86_390);
    let mut candidate = candidate(&signal);
    let mut situation = Situation {
        startup_grace: Duration::from_secs(60),
        spent: history,
        trades: Critical::Unknown,
        told_by: "the desk",
        ..situation(&now, &started)
    };
    change(&mut candidate, &mut situation);
    let denied = denied(&candidate, &situation);
    assert!(denied.iter().all(|denied| !denied.message.is_empty()));
    denied.into_iter().map(|denied| denied.code).collect()
}

type Change = fn(&mut Candidate<'_>, &mut Situation<'_>);

#[test]
fn each_gate_denies_for_its_own_reason_and_for_no_other() {
    let cases: &[(&str, Change)] = &[
        ("EMERGENCY", |_, s| s.emergency = true),
        ("CHECKER_SUSPECT", |_, s| s.checker_suspect = Some("7 of 9 at once")),
        ("STORM", |_, s| s.brake = Some("6 actions")),
        ("DISABLED", |_, s| s.disabled = Some("by me")),
        ("STARTUP_GRACE", |_, s| s.startup_grace = Duration::from_secs(86_401)),
        ("ESCALATED", |c, _| c.escalated = true),
        ("ATTEMPTS_USED", |c, _| c.attempts = 3),
        ("DRY_RUN", |_, s| s.dry_run = true),
        ("DEPENDENCY_ROOT", |c, _| c.root = Some("db")),
        ("FLAPPING", |c, _| c.flapping = true),
        ("STALE_SIGNAL", |c, _| c.interval = Duration::from_secs(4)),
        ("CONCURRENCY", |_, s| s.busy = Some("b")),
        ("GUARD", |c, _| c.trade_touching = true),
        ("GUARD", |c, s| (c.trade_touching, s.trades) = (true, Critical::InProgress)),
    ];
    for (code, change) in cases {
        assert_eq!(codes(change, &[]), [*code]);
    }
    // Allowed again a moment ago is like a start.
    let resumed = moment(86_390);
    assert_eq!(resumed_at(&resumed, 60), ["STARTUP_GRACE"]);
    assert_eq!(resumed_at(&resumed, 10), [""; 0]);
    let ended = moment(86_400 - 59);
    assert_eq!(cooling(&ended, 60), ["COOLDOWN"]);
    assert_eq!(cooling(&ended, 59), [""; 0]);
    let spent = [spent("a", 86_300), spent("a", 86_200), spent("a", 86_100)];
    assert_eq!(codes(|_, _| {}, &spent), ["BUDGET"]);
    let tried: BTreeSet<&str> =
        cases.iter().map(|(code, _)| *code).chain(["COOLDOWN", "BUDGET"]).collect();
    let all: BTreeSet<&str> = GATES.iter().map(|(code, _)| *code).collect();
    assert_eq!(tried, all, "every row of the table is tried");
}

fn resumed_at(resumed: &Moment, grace: u64) -> Vec<&'static str> {
    let (now, started) = (moment(86_400), moment(0));
    let candidate = candidate(&now);
    let situation = Situation {
        resumed: Some(resumed),
        startup_grace: Duration::from_secs(grace),
        ..situation(&now, &started)
    };
    denied(&candidate, &situation).into_iter().map(|denied| denied.code).collect()
}

fn cooling(ended: &Moment, pause: u64) -> Vec<&'static str> {
    let (now, started) = (moment(86_400), moment(0));
    let pause = Duration::from_secs(pause);
    let candidate = Candidate { cooldown: Some((ended, pause)), ..candidate(&now) };
    let situation = situation(&now, &started);
    denied(&candidate, &situation).into_iter().map(|denied| denied.code).collect()
}

fn candidate(signal_at: &Moment) -> Candidate<'_> {
    Candidate {
        action: "a",
        destructive: false,
        trade_touching: false,
        goes_on: false,
        interval: Duration::from_secs(30),
        signal_at,
        flapping: false,
        cooldown: None,
        root: None,
        escalated: false,
        attempts: 0,
    }
}

fn situation<'a>(now: &'a Moment, started: &'a Moment) -> Situation<'a> {
    Situation {
        now,
        started,
        resumed: None,
        dry_run: false,
        startup_grace: Duration::ZERO,
        disabled: None,
        brake: None,
        checker_suspect: None,
        emergency: false,
        busy: None,
        spent: &[],
        trades: Critical::None,
        told_by: "the desk",
    }
}

#[test]
fn what_is_well_or_goes_on_may_start() {
    let none: [&str; 0] = [];
    assert_eq!(codes(|_, _| {}, &[]), none);
    assert_eq!(codes(|c, s| (c.goes_on, s.emergency) = (true, true), &[]), none);
    let proven: Change = |c, s| (c.trade_touching, s.trades) = (true, Critical::None);
    assert_eq!(codes(proven, &[]), none);
    let many: Change = |c, s| {
        c.flapping = true;
        s.emergency = true;
        s.busy = Some("b");
    };
    assert_eq!(codes(many, &[]), ["EMERGENCY", "FLAPPING", "CONCURRENCY"], "all are named");
}

#[test]
fn budgets_are_by_action_by_host_and_by_what_cannot_be_taken_back() {
    let now = 86_400;
    let every = |action: &str, count: i64, step: i64| -> Vec<Spent> {
        (1..=count).map(|n| spent(action, now - n * step)).collect()
    };
    let destructive = |at| vec![Spent { destructive: true, ..spent("b", now - at) }];
    let final_one: Change = |c, _| c.destructive = true;
    let plain: Change = |_, _| {};
    for (what, change, history, denied) in [
        ("two of it in the hour", plain, every("a", 2, 600), false),
        ("three of it in the hour", plain, every("a", 3, 600), true),
        ("three of another", plain, every("b", 3, 600), false),
        ("the third an hour ago", plain, every("a", 3, 1_200), false),
        ("ten in the day", plain, every("a", 10, 2_000), true),
        ("nine in the day", plain, every("a", 9, 2_000), false),
        ("twenty of others in the day", plain, every("b", 20, 4_000), true),
        ("nineteen of others", plain, every("b", 19, 4_000), false),
        ("one that can't be taken back, 14 min ago", final_one, destructive(14 * MINUTE), true),
        ("15 min ago", final_one, destructive(15 * MINUTE), false),
        ("a harmless one after it", plain, destructive(MINUTE), false),
    ] {
        let expected: &[&str] = if denied { &["BUDGET"] } else { &[] };
        assert_eq!(codes(change, &history), expected, "{what}");
    }
    // A wall clock that was set a day on gives no new budget.
    let history: Vec<Spent> = every("a", 3, 600);
    let stepped = Moment { wall: moment(3 * 86_400).wall, ..moment(now) };
    assert!(storm(&every("a", 5, 60), &stepped));
    assert!(!storm(&history, &moment(now + 86_400)));
}

#[test]
fn more_than_five_actions_in_ten_minutes_are_a_storm() {
    let history = |count: i64| (0..count).map(|n| spent("a", 1_000 + n)).collect::<Vec<_>>();
    assert!(!storm(&history(4), &moment(1_100)));
    assert!(storm(&history(5), &moment(1_100)), "the sixth would be more than five");
    assert!(!storm(&history(5), &moment(1_700)));
}

fn dependencies(text: &str) -> Dependencies {
    let of = |part: &str| {
        let (name, on) = part.split_once('>').unwrap();
        (name.to_owned(), on.split('+').map(str::to_owned).collect())
    };
    text.split_whitespace().map(of).collect()
}

#[test]
fn the_deepest_failing_dependency_is_the_root() {
    let chain = dependencies("ui>api api>cache+db db>disk page>api+db");
    for (check, failing, expected) in [
        ("ui", "ui", None),
        ("ui", "ui api", Some("api")),
        ("ui", "ui api db", Some("db")),
        // Through one that is well.
        ("ui", "ui db", Some("db")),
        ("api", "ui api db disk", Some("disk")),
        ("db", "ui api db", None),
        ("elsewhere", "ui api db", None),
        // By whichever way it is reached: what has a failing one below itself is no root.
        ("page", "page api db", Some("db")),
    ] {
        let failing: BTreeSet<&str> = failing.split(' ').collect();
        assert_eq!(root(check, &chain, &failing), expected, "{check} of {failing:?}");
    }
    let rings = dependencies("a>b b>c c>a d>a");
    assert_eq!(ring(&rings), Some(vec!["a".into(), "b".into(), "c".into()]));
    assert_eq!(ring(&chain), None);
    assert!(root("d", &rings, &BTreeSet::from(["a", "b"])).is_some(), "and it ends");
}

#[test]
fn a_cascade_is_three_at_once_or_two_above_one_root() {
    let chain = dependencies("ui>api api>db report>db");
    let case = |failing: &[(&str, i64)]| {
        let moments: Vec<(&str, Moment)> =
            failing.iter().map(|(name, at)| (*name, moment(*at))).collect();
        let failing: BTreeMap<&str, &Moment> =
            moments.iter().map(|(name, at)| (*name, at)).collect();
        let found = cascades(&failing, &chain).into_iter();
        found.map(|cascade| (cascade.root, cascade.members.len())).collect::<Vec<_>>()
    };
    assert_eq!(case(&[("db", 0), ("api", 30)]), [], "one dependent is to be expected");
    assert_eq!(case(&[("db", 0), ("api", 30), ("ui", 60)]), [(Some("db".into()), 3)]);
    assert_eq!(case(&[("x", 0), ("y", 100)]), []);
    assert_eq!(case(&[("x", 0), ("y", 100), ("z", 300)]), [(None, 3)]);
    assert_eq!(case(&[("x", 0), ("y", 100), ("z", 301)]), [], "more than five minutes apart");
    assert_eq!(case(&[("x", 0), ("y", 200), ("z", 301), ("w", 400)]), [(None, 3)]);
    assert_eq!(case(&[("x", 0), ("db", 0), ("api", 0)]), [], "two of them are one");
    // One does not hide another.
    let both = [("db", 0), ("api", 0), ("ui", 0), ("x", 0), ("y", 0)];
    assert_eq!(case(&both), [(Some("db".into()), 3), (None, 3)]);
}

#[test]
fn the_checks_are_doubted_when_most_turn_bad_at_once_for_no_common_reason() {
    let (recent, old) = (moment(990), moment(0));
    let case = |bad: usize, long: usize, all: usize, on: &str| {
        let names: Vec<String> = (0..all).map(|n| format!("c{n}")).collect();
        let seen: Vec<Seen<'_>> = names
            .iter()
            .enumerate()
            .map(|(index, check)| Seen {
                check,
                bad_since: match index {
                    _ if index < bad => Some(&recent),
                    _ if index < bad + long => Some(&old),
                    _ => None,
                },
            })
            .collect();
        checker_suspect(&seen, &dependencies(on), Duration::from_secs(30), &moment(1_000))
    };
    assert!(case(4, 0, 6, ""));
    assert!(case(6, 0, 6, ""));
    assert!(!case(3, 0, 6, ""), "half is not more than half");
    assert!(!case(5, 0, 5, ""), "too few checks to tell");
    assert!(!case(3, 3, 6, ""), "those that have been bad for long say nothing");
    assert!(!case(4, 0, 6, "c1>c0 c2>c0 c3>c1"), "what they depend on explains it");
    assert!(!case(3, 1, 5, "c0>c3 c1>c3 c2>c3"), "and so few");
    assert!(case(4, 0, 6, "c1>c0 c2>c0"), "not all of them");
    assert!(case(4, 0, 6, "c0>c5 c1>c5 c2>c5 c3>c5"), "what is well itself explains nothing");
}
