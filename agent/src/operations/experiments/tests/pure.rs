//! What is refused, how units are assigned, and what is kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use genesis_storage::{ExperimentRecord, ParameterRecord, RulesRecord, TrialRecord};
use proptest::prelude::*;

use crate::operations::experiments::plan::{self, Asked, define};
use crate::operations::experiments::prepare::{Batch, Column, Horizon, prepare, wrong};
use crate::operations::experiments::tally::{Arm, CURVE, Tally};

fn parameters() -> BTreeMap<(String, String), ParameterRecord> {
    let one = |name: &str, value: &str| {
        let record = ParameterRecord {
            strategy: "mm".to_owned(),
            name: name.to_owned(),
            value: value.to_owned(),
            version: 3,
            ..ParameterRecord::default()
        };
        (("mm".to_owned(), name.to_owned()), record)
    };
    [one("threshold", "0.002"), one("size", "10")].into_iter().collect()
}

fn asked() -> Asked {
    Asked {
        strategy: "mm".to_owned(),
        trials: vec![("threshold".to_owned(), "0.003".to_owned())],
        variant_basis_points: 2_000,
        ..Asked::default()
    }
}

fn defined(number: u64) -> ExperimentRecord {
    let mut record = define(&asked(), &parameters(), std::iter::empty()).unwrap();
    record.number = number;
    record.seed = plan::id(number);
    record
}

#[test]
fn what_can_not_be_tried_is_refused_with_its_code() {
    let running = defined(7);
    let trials = |all: &[(&str, &str)]| {
        all.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let rules = |rules| Asked { rules, ..asked() };
    for (case, code, said) in [
        (Asked { strategy: "a b".to_owned(), ..asked() }, "EXPERIMENT_INVALID", "no strategy"),
        (Asked { strategy: "other".to_owned(), ..asked() }, "STRATEGY_NOT_FOUND", "param set"),
        (Asked { strategy: "mm.v2".to_owned(), ..asked() }, "EXPERIMENT_INVALID", "no strategy"),
        (
            Asked { owner: "a b".to_owned(), trials: trials(&[("size", "1")]), ..asked() },
            "EXPERIMENT_INVALID",
            "no host",
        ),
        (
            Asked { owner: "h".repeat(254), trials: trials(&[("size", "1")]), ..asked() },
            "EXPERIMENT_INVALID",
            "no host",
        ),
        (Asked { variant_basis_points: 0, ..asked() }, "SPLIT_INVALID", "both arms"),
        (Asked { variant_basis_points: 10_000, ..asked() }, "SPLIT_INVALID", "100 %"),
        (Asked { variant_basis_points: 12_000, ..asked() }, "SPLIT_INVALID", "120 %"),
        (Asked { trials: trials(&[]), ..asked() }, "EXPERIMENT_INVALID", "0 parameters"),
        (
            Asked { trials: trials(&[("what", "1")]), ..asked() },
            "PARAMETER_NOT_FOUND",
            "param list",
        ),
        (
            Asked { trials: trials(&[("threshold", "0.002")]), ..asked() },
            "EXPERIMENT_INVALID",
            "already",
        ),
        (
            Asked { trials: trials(&[("size", "1\n2")]), ..asked() },
            "EXPERIMENT_INVALID",
            "control characters",
        ),
        (
            Asked { trials: trials(&[("size", "1"), ("size", "2")]), ..asked() },
            "EXPERIMENT_INVALID",
            "twice",
        ),
        (
            Asked { design: "letter".to_owned(), trials: trials(&[("size", "1")]), ..asked() },
            "EXPERIMENT_INVALID",
            "always-valid",
        ),
        (asked(), "PARAMETER_IN_TEST", "TEST_7"),
        (rules(RulesRecord { least: 1, ..RulesRecord::default() }), "PARAMETER_IN_TEST", ""),
    ] {
        let refused = define(&case, &parameters(), std::iter::once(&running)).unwrap_err();
        assert_eq!(refused.0, code, "{case:?}: {}", refused.1);
        assert!(refused.1.contains(said), "{case:?}: {}", refused.1);
    }
    for (rules, said) in [
        (RulesRecord { least: 1, ..RulesRecord::default() }, "two trades"),
        (RulesRecord { alpha: 2.0, ..RulesRecord::default() }, "alpha"),
        (RulesRecord { planned: 50, ..RulesRecord::default() }, "those planned (50)"),
        (RulesRecord { most: 499, ..RulesRecord::default() }, "the most (499)"),
        (RulesRecord { promote_lift: f64::NAN, ..RulesRecord::default() }, "promotion"),
        (RulesRecord { promote_lift: f64::INFINITY, ..RulesRecord::default() }, "promotion"),
        (RulesRecord { rollback_lift: f64::NEG_INFINITY, ..RulesRecord::default() }, "rollback"),
        (RulesRecord { least_effect: f64::INFINITY, ..RulesRecord::default() }, "least d"),
    ] {
        let case = Asked { rules: rules.clone(), ..asked() };
        let (code, why) = define(&case, &parameters(), std::iter::empty()).unwrap_err();
        assert!(code == "EXPERIMENT_INVALID" && why.contains(said), "{rules:?}: {why}");
    }
    // One of another parameter of the same strategy may go on beside it.
    let beside = Asked { trials: trials(&[("size", "20")]), ..asked() };
    define(&beside, &parameters(), std::iter::once(&running)).unwrap();
}

#[test]
fn the_procedures_numbers_are_those_that_are_not_said() {
    let rules = defined(1).rules;
    assert_eq!((rules.least, rules.planned, rules.most), (100, 500, 1_000));
    assert_eq!((rules.promote_lift, rules.rollback_lift), (0.1, -0.1));
    assert_eq!((rules.least_effect, rules.alpha, rules.guarded), (0.2, 0.05, false));
    let wide = Asked { rules: RulesRecord { planned: 4_000, ..RulesRecord::default() }, ..asked() };
    assert_eq!(define(&wide, &parameters(), std::iter::empty()).unwrap().rules.most, 8_000);
}

#[test]
fn hosts_have_the_same_hash_for_the_same_definition_only() {
    let one = defined(1);
    let same = ExperimentRecord { number: 9, owner: "other".to_owned(), ..one.clone() };
    assert_eq!(plan::hash(&one), plan::hash(&same));
    let trial = TrialRecord { variant: "0.004".to_owned(), ..one.trials[0].clone() };
    for other in [
        ExperimentRecord { seed: "x".to_owned(), ..one.clone() },
        ExperimentRecord { variant_basis_points: 2_001, ..one.clone() },
        ExperimentRecord { trials: vec![trial], ..one.clone() },
        ExperimentRecord { rules: RulesRecord { alpha: 0.01, ..one.rules.clone() }, ..one.clone() },
    ] {
        assert_ne!(plan::hash(&one), plan::hash(&other), "{other:?}");
    }
}

#[test]
fn a_unit_uses_what_its_arm_gives_it_and_the_share_is_that_of_the_split() {
    let record = defined(1);
    let mut variants = 0;
    for number in 0..10_000 {
        let unit = format!("account-{number}");
        let uses = plan::uses("mm", &unit, &parameters(), std::iter::once(&record));
        let of = |name: &str| uses.iter().find(|it| it.name == name).unwrap();
        let arm = plan::arm(&record, &unit);
        let wanted = if arm == Arm::Variant { "0.003" } else { "0.002" };
        assert_eq!(
            (of("threshold").value.as_str(), of("threshold").test),
            (wanted, Some((1, arm)))
        );
        assert_eq!((of("size").value.as_str(), of("size").test), ("10", None));
        variants += u32::from(arm == Arm::Variant);
    }
    // Four standard errors.
    assert!((1_840..2_160).contains(&variants), "{variants}");
    let in_force = plan::uses("mm", "", &parameters(), std::iter::once(&record));
    assert!(in_force.iter().all(|it| it.test.is_none()), "{in_force:?}");
}

#[test]
fn trades_that_are_none_are_told_from_those_that_are_late() {
    let record = Arc::new(ExperimentRecord {
        started_at: "2026-03-02T00:00:00Z".parse().unwrap(),
        ..defined(1)
    });
    let known = BTreeMap::from([(1, Arc::clone(&record))]);
    let now = record.started_at.as_second() + 3_600;
    let horizon = Horizon::at(now, 30 * 86_400);
    let second = |at: i64| at * 1_000_000_000;
    let row = |id: &str, at: i64, pnl: f64, arm| (id.to_owned(), at, pnl, arm);
    let good = Some(Arm::Control);
    let rows = [
        row("b", second(now - 5), 1.0, good),
        row("a", second(now - 5), 2.0, good),
        row("first", second(now - 9), 3.0, good),
        row("early", second(now - 3_601), 1.0, good),
        row("future", second(now + 301), 1.0, good),
        row("nan", second(now), f64::NAN, good),
        row("infinite", second(now), f64::INFINITY, good),
        row("", second(now), 1.0, good),
        row(&"x".repeat(129), second(now), 1.0, good),
        row("nobody's", second(now), 1.0, None),
    ];
    let mut column = Column { experiment: "TEST_1".to_owned(), ..Column::default() };
    for (id, at, pnl, arm) in rows {
        column.ids.push(id);
        column.times.push(at);
        column.pnl.push(pnl);
        column.arms.push(arm);
    }
    let other = Column { experiment: "TEST_2".to_owned(), ..column.clone() };
    let mut of_units = column.clone();
    (of_units.arms, of_units.experiment) = (Vec::new(), "1".to_owned());
    of_units.units = vec!["account-1".to_owned(); column.ids.len()];
    let batch = |columns| Batch { producer: "p".to_owned(), sequence: 1, columns };
    let prepared = prepare(batch(vec![column.clone(), other]), &known, horizon);
    assert_eq!(prepared.unknown, 10);
    let share = &prepared.shares[&1];
    let found: Vec<f64> = share.rows.iter().map(|row| row.pnl).collect();
    assert_eq!(found, [3.0, 2.0, 1.0], "by time, then by id");
    assert_eq!((share.late.len(), share.rejected), (1, 6));
    let prepared = prepare(batch(vec![of_units]), &known, horizon);
    let arm = plan::arm(&record, "account-1");
    assert!(prepared.shares[&1].rows.iter().all(|row| row.arm == arm));
    assert_eq!(prepared.shares[&1].rejected, 5, "whose unit is known is somebody's");
    for (bad, said) in [
        (Batch { producer: String::new(), ..batch(Vec::new()) }, "no producer"),
        (Batch { sequence: 0, ..batch(Vec::new()) }, "begin with 1"),
        (batch(vec![Column { pnl: Vec::new(), ..column.clone() }]), "differ in length"),
        (batch(vec![Column { units: vec!["u".to_owned()], ..column }]), "differ in length"),
    ] {
        assert!(wrong(&bad).is_some_and(|why| why.contains(said)), "{:?}", wrong(&bad));
    }
}

proptest! {
    #[test]
    fn what_is_read_is_what_was_written(
        values in proptest::collection::vec((any::<bool>(), -1e6_f64..1e6), 0..400),
        design in 0_usize..4,
    ) {
        let design = genesis_stats::experiment::Design::ALL[design].name().to_owned();
        let record = ExperimentRecord { design, ..defined(1) };
        let mut tally = Tally::new(&record).unwrap();
        for (at, (variant, value)) in values.into_iter().enumerate() {
            let arm = if variant { Arm::Variant } else { Arm::Control };
            tally.trial.record(arm, value);
            if at % 7 == 0 {
                tally.look(at as i64);
            }
        }
        let read = Tally::from_bytes(&record, &tally.to_bytes()).unwrap();
        prop_assert_eq!(read.to_bytes(), tally.to_bytes());
        prop_assert_eq!(read, tally);
    }
}

#[test]
fn the_curve_keeps_its_shape_however_many_looks_there_are() {
    let record = defined(1);
    let mut tally = Tally::new(&record).unwrap();
    for at in 0..5_000 {
        tally
            .trial
            .record(if at % 5 == 0 { Arm::Variant } else { Arm::Control }, 1.0 + f64::from(at % 3));
        tally.look(i64::from(at));
    }
    assert!(tally.curve.len() <= CURVE && tally.curve.len() >= CURVE / 2, "{}", tally.curve.len());
    assert!(tally.curve.is_sorted_by_key(|point| point.at));
    assert!(tally.curve[0].at < 50 && tally.curve.last().unwrap().at > 4_900);
}
