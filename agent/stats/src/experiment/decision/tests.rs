//! The decision matrix, row by row.

use super::super::Guard;
use super::*;

const LITERAL: Rules = Rules {
    least: 100,
    horizon: 500,
    cap: 1_000,
    alpha: 0.05,
    promote_lift: 0.1,
    rollback_lift: -0.1,
    least_d: 0.2,
    guard: Guard::Literal,
    guard_z: -2.65,
    guard_least: 20,
    mismatch: 1_000.0,
    margin_d: 0.2,
    detect_d: 0.2,
    wanted_power: 0.8,
};
const GUARDED: Rules = Rules { guard: Guard::Sequential, ..LITERAL };

/// Undecided: 90/10, 200 trades of the variant, nothing significant.
const OPEN: Situation = Situation {
    control: 1_800,
    variant: 200,
    lift: Some(0.03),
    p: 0.4,
    p_seq: 0.9,
    p_seq_up: 0.9,
    d: 0.05,
    z_star: 0.8,
    degenerate: false,
    mismatch: 0.3,
    rules: &LITERAL,
};
/// All that a promotion needs.
const GOOD: Situation = Situation {
    lift: Some(0.15),
    p: 0.001,
    p_seq: 0.02,
    p_seq_up: 0.02,
    d: 0.3,
    z_star: 3.2,
    ..OPEN
};
/// As good the other way.
const BAD: Situation = Situation {
    lift: Some(-0.15),
    p: 0.001,
    p_seq: 0.02,
    p_seq_up: 1.0,
    d: -0.3,
    z_star: -3.2,
    ..OPEN
};

fn verdict(situation: Situation) -> Verdict {
    decide(&situation).verdict
}

#[test]
fn the_table_is_the_procedures() {
    assert_eq!(Rules::default(), LITERAL);
    let numbers: Vec<u8> = TABLE.iter().map(|row| row.number).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 5, 6]);
    let last = TABLE.last().unwrap();
    assert!(last.alternatives.iter().any(|one| one.guard.is_none() && one.conditions.is_empty()));
    for row in TABLE {
        assert!(row.alternatives.iter().all(|one| one.conditions.len() <= MOST), "{}", row.name);
    }
}

/// Which row a situation falls into.
#[test]
fn rows() {
    use Verdict::{BelowThreshold, Continue, Extend, Hold, NoDifference, Promote, Rollback};
    let significant = Situation { lift: Some(0.04), d: 0.1, ..GOOD };
    let harm = Situation { lift: Some(-0.05), ..BAD };
    let guarded = Situation { rules: &GUARDED, ..BAD };
    let young = Situation { control: 150, variant: 20, ..guarded };
    let undefined = Situation { lift: None, ..guarded };
    let flat = Situation { degenerate: true, p: 0.0, d: f64::INFINITY, ..GOOD };
    let at = |situation: Situation<'static>, control, variant| Situation {
        control,
        variant,
        ..situation
    };
    let cases: &[(&str, Situation, Verdict)] = &[
        ("nothing yet", at(OPEN, 0, 0), Continue),
        ("undecided", OPEN, Continue),
        // 1
        ("-15 %", BAD, Rollback),
        (
            "-15 % that is no news",
            Situation { p: 0.5, p_seq: 1.0, z_star: -0.4, d: -0.01, ..BAD },
            Rollback,
        ),
        ("-10 % as it comes out", Situation { lift: Some((0.9 - 1.0) / 1.0), ..BAD }, Rollback),
        ("-10 % exactly", Situation { lift: Some(-0.1), ..BAD }, Rollback),
        ("-9.99 %", Situation { lift: Some(-0.0999), ..BAD }, Continue),
        ("-10 % but for 1e-11", Situation { lift: Some(-0.1 + 1e-11), ..BAD }, Continue),
        ("100 and 100", at(BAD, 100, 100), Rollback),
        ("99 of the variant", at(BAD, 100, 99), Continue),
        ("99 of the control", at(BAD, 99, 100), Continue),
        ("no lift, no literal loss", Situation { lift: None, ..BAD }, Continue),
        (
            "-50 % and a split mismatch",
            Situation { lift: Some(-0.5), mismatch: 1e9, ..BAD },
            Rollback,
        ),
        ("after the horizon", at(BAD, 5_000, 500), Rollback),
        ("after the cap", at(BAD, 20_000, 2_000), Rollback),
        (
            "without variance",
            Situation { degenerate: true, z_star: f64::NEG_INFINITY, ..BAD },
            Rollback,
        ),
        // 1, guarded
        ("guarded", guarded, Rollback),
        ("guarded, 20 trades", young, Rollback),
        ("guarded, 19 trades", at(young, 150, 19), Continue),
        ("guarded, 19 of the control", at(young, 19, 150), Continue),
        ("guarded, z* at the limit", Situation { z_star: -2.65, ..guarded }, Continue),
        ("guarded, z* beyond", Situation { z_star: -2.651, ..guarded }, Rollback),
        ("guarded, up by chance", Situation { z_star: 2.7, ..guarded }, Continue),
        ("guarded, -9 %", Situation { lift: Some(-0.09), ..guarded }, Continue),
        ("guarded, no lift", undefined, Rollback),
        ("guarded, no lift, 20 trades", at(undefined, 200, 20), Rollback),
        ("guarded, no lift, 19 trades", at(undefined, 200, 19), Continue),
        ("guarded, no lift, z* short", Situation { z_star: -2.6, ..undefined }, Continue),
        // 2
        ("mismatch", Situation { mismatch: 1_000.1, ..OPEN }, Hold),
        ("mismatch at the limit", Situation { mismatch: 1_000.0, ..OPEN }, Continue),
        ("mismatch before a promotion", Situation { mismatch: 1e5, ..GOOD }, Hold),
        (
            "mismatch before no difference",
            at(Situation { mismatch: 1e5, ..OPEN }, 5_000, 500),
            Hold,
        ),
        ("mismatch with few trades", at(Situation { mismatch: 1e5, ..OPEN }, 60, 50), Hold),
        ("mismatch, -9 %", Situation { lift: Some(-0.09), mismatch: 1e5, ..BAD }, Hold),
        // 3
        ("+15 %", GOOD, Promote),
        ("+10 % as it comes out", Situation { lift: Some((3.3 - 3.0) / 3.0), ..GOOD }, Promote),
        ("+9.99 %", Situation { lift: Some(0.0999), ..GOOD }, Continue),
        ("100 each", at(GOOD, 100, 100), Promote),
        ("99 of the variant, good", at(GOOD, 100, 99), Continue),
        ("99 of the control, good", at(GOOD, 99, 100), Continue),
        ("p .05", Situation { p: 0.05, ..GOOD }, Continue),
        ("p .049, p_seq .2", Situation { p: 0.049, p_seq: 0.2, p_seq_up: 0.2, ..GOOD }, Continue),
        ("p .2, p_seq .049", Situation { p: 0.2, p_seq: 0.049, p_seq_up: 0.049, ..GOOD }, Continue),
        ("p_seq .05", Situation { p_seq: 0.05, p_seq_up: 0.05, ..GOOD }, Continue),
        ("significantly worse before", Situation { p_seq: 0.001, p_seq_up: 0.3, ..GOOD }, Continue),
        ("d .2", Situation { d: 0.2, ..GOOD }, Continue),
        ("d .2001", Situation { d: 0.2001, ..GOOD }, Promote),
        ("no lift", Situation { lift: None, ..GOOD }, Continue),
        ("NaN", Situation { lift: Some(f64::NAN), ..GOOD }, Continue),
        ("no variance", flat, Continue),
        ("at the horizon", at(GOOD, 5_000, 500), Promote),
        ("at the cap", at(GOOD, 10_000, 1_000), Promote),
        // 4
        ("500 in the smaller arm", at(OPEN, 4_500, 500), NoDifference),
        ("500 of the control", at(OPEN, 500, 4_500), NoDifference),
        ("500 in all at 90/10", at(OPEN, 450, 50), Continue),
        ("499", at(OPEN, 4_500, 499), Continue),
        ("500, p_seq .05", at(Situation { p_seq: 0.05, ..OPEN }, 4_500, 500), NoDifference),
        (
            "500, p .01 only",
            at(Situation { p: 0.01, lift: Some(0.2), d: 0.3, ..OPEN }, 4_500, 500),
            NoDifference,
        ),
        ("500, no lift", at(Situation { lift: None, ..OPEN }, 4_500, 500), NoDifference),
        ("2,000", at(OPEN, 18_000, 2_000), NoDifference),
        // 5
        ("lift short", at(significant, 4_500, 500), Extend),
        ("lift short, 499", at(significant, 4_500, 499), Continue),
        ("d short", at(Situation { d: 0.15, ..GOOD }, 4_500, 500), Extend),
        ("lift undefined", at(Situation { lift: None, ..GOOD }, 4_500, 500), Extend),
        ("harm below 10 %", at(harm, 4_500, 500), Extend),
        (
            "worse before, good now",
            at(Situation { p_seq: 0.001, p_seq_up: 0.3, ..GOOD }, 4_500, 500),
            Extend,
        ),
        ("mixed, 999", at(significant, 9_000, 999), Extend),
        ("mixed, 1,000", at(significant, 9_000, 1_000), BelowThreshold),
        ("mixed, 1,000 of the control", at(significant, 1_000, 9_000), BelowThreshold),
        ("harm, 1,000", at(harm, 9_000, 1_000), BelowThreshold),
        ("no lift, 1,000", at(Situation { lift: None, ..GOOD }, 9_000, 1_000), BelowThreshold),
        (
            "no variance, 500",
            at(Situation { p_seq: 1.0, p_seq_up: 1.0, ..flat }, 4_500, 500),
            Extend,
        ),
        (
            "no variance, 1,000",
            at(Situation { p_seq: 1.0, p_seq_up: 1.0, ..flat }, 9_000, 1_000),
            BelowThreshold,
        ),
    ];
    for (name, situation, expected) in cases {
        let decision = decide(situation);
        assert_eq!(decision.verdict, *expected, "{name}: {situation:?}");
        assert!(decision.why.iter().all(|reason| reason.holds), "{name}");
    }
    // Each row is exercised, and each of its alternatives.
    for row in TABLE {
        for alternative in row.alternatives {
            let reached = cases.iter().any(|(_, situation, _)| {
                let decision = decide(situation);
                let conditions: Vec<_> = decision.why.iter().map(|why| why.condition).collect();
                decision.row.name == row.name && conditions == alternative.conditions
            });
            assert!(reached, "{}: {alternative:?}", row.name);
        }
    }
}

#[test]
fn why() {
    let decision = decide(&BAD);
    assert_eq!((decision.number, decision.name), (1, "rollback"));
    let why: Vec<String> = decision.why.iter().map(ToString::to_string).collect();
    assert_eq!(
        why,
        ["trades in the smaller arm 200 (at least 100)", "lift -15.00 % (at most -10.00 %)"]
    );
    let last = decision.why.iter().last().unwrap();
    assert_eq!((last.value, last.limit, last.holds), (Some(-0.15), Some(-0.1), true));

    let guarded = decide(&Situation { lift: None, rules: &GUARDED, ..BAD });
    let why: Vec<String> = guarded.why.iter().map(ToString::to_string).collect();
    assert_eq!(why[1..], ["z* -3.200 (below -2.650)", "lift undefined (undefined)"]);
    assert_eq!(decide(&OPEN).why.iter().count(), 0);
}

#[test]
fn explained() {
    let situation = Situation { lift: Some(0.05), p: 1e-9, ..GOOD };
    let rows = explain(&situation);
    assert_eq!(rows.len(), TABLE.len());
    // Without the guard rollbacks have one alternative.
    assert_eq!(
        (rows[0].1.len(), explain(&Situation { rules: &GUARDED, ..OPEN })[0].1.len()),
        (1, 2)
    );
    let (row, alternatives) = &rows[2];
    assert_eq!(row.verdict, Verdict::Promote);
    let lacking: Vec<String> =
        alternatives[0].iter().filter(|reason| !reason.holds).map(ToString::to_string).collect();
    assert_eq!(lacking, ["lift +5.00 % (at least +10.00 %)"]);
    let shown: Vec<String> = alternatives[0].iter().map(ToString::to_string).collect();
    assert!(shown.contains(&"p 1.00e-9 (below 0.0500)".to_owned()), "{shown:?}");
    assert!(shown.contains(&"no variance at all no (no)".to_owned()), "{shown:?}");
}

#[test]
fn other_numbers() {
    let rules = Rules { promote_lift: 0.2, least: 300, ..LITERAL };
    assert_eq!(verdict(Situation { rules: &rules, ..GOOD }), Verdict::Continue);
    assert_eq!(verdict(Situation { rules: &rules, ..BAD }), Verdict::Continue);
    let more = Situation { variant: 300, lift: Some(0.2), rules: &rules, ..GOOD };
    assert_eq!(verdict(more), Verdict::Promote);
}
