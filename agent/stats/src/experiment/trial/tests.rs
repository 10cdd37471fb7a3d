//! Tests as they go, trade by trade.

use proptest::prelude::*;

use super::super::{Direction, Guard, Stage, Verdict};
use super::*;

/// Values about a mean that alternate a standard deviation of about `spread` away.
fn fill(trial: &mut Trial, arm: Arm, n: usize, mean: f64, spread: f64) {
    for i in 0..n {
        let sign = if i % 2 == 0 { 1.0 } else { -1.0 };
        assert!(trial.record(arm, mean + sign * spread));
    }
}

fn trial(design: Design, shares: [f64; 2]) -> Trial {
    Trial::new(design, shares, Rules::default()).unwrap()
}

fn filled(shares: [f64; 2], control: (usize, f64, f64), variant: (usize, f64, f64)) -> Trial {
    let mut trial = trial(Design::Sequential, shares);
    fill(&mut trial, Arm::Control, control.0, control.1, control.2);
    fill(&mut trial, Arm::Variant, variant.0, variant.1, variant.2);
    trial
}

#[test]
fn what_makes_no_trial() {
    for shares in [[0.0, 1.0], [1.0, -1.0], [f64::NAN, 1.0], [1.0, f64::INFINITY]] {
        let found = Trial::new(Design::Sequential, shares, Rules::default());
        assert_eq!(found, Err(TrialError::Shares), "{shares:?}");
    }
    let rules = Rules { alpha: 2.0, ..Rules::default() };
    let error = Trial::new(Design::Fixed, [1.0, 1.0], rules).unwrap_err();
    assert_eq!(error.to_string(), "alpha is not between 0 and 1");
}

#[test]
fn before_the_first_trades() {
    let mut trial = trial(Design::Sequential, [90.0, 10.0]);
    let look = trial.look();
    assert_eq!((look.comparison, look.lift), (None, Lift::Undefined(NoLift::TooFew)));
    assert_eq!((look.mismatch, look.power, look.information), (1.0, 0.0, 0.0));
    assert_eq!((look.decision.verdict, look.evidence.stage), (Verdict::Continue, Stage::Waiting));
    assert!(!trial.record(Arm::Control, f64::NAN) && trial.moments(Arm::Control).n() == 0);
    trial.record(Arm::Variant, 1.0);
    assert_eq!(trial.look().variant, ArmSummary { n: 1, mean: 1.0, sd: None, interval: None });
}

/// The hundredth trade, and not the one before it.
#[test]
fn it_takes_a_hundred_trades() {
    for (n, expected) in [(99, Verdict::Continue), (100, Verdict::Rollback)] {
        assert_eq!(
            filled([1.0, 1.0], (110, 1.0, 0.1), (n, 0.5, 0.1)).look().decision.verdict,
            expected
        );
        assert_eq!(
            filled([1.0, 1.0], (n, 1.0, 0.1), (110, 0.5, 0.1)).look().decision.verdict,
            expected
        );
    }
    for (n, expected) in [(99, Verdict::Continue), (100, Verdict::Promote)] {
        let mut trial = filled([1.0, 1.0], (100, 1.0, 0.5), (n, 1.5, 0.5));
        let look = trial.look();
        assert_eq!(look.decision.verdict, expected, "{look:?}");
        assert_eq!(look.evidence.stage == Stage::Waiting, n == 99);
    }
}

#[test]
fn ten_percent_down_is_enough_and_a_trifle_less_is_not() {
    // Means of exactly .9 and 1: the values about them are.
    for (mean, expected) in [(0.9, Verdict::Rollback), (0.9001, Verdict::Continue)] {
        let look = filled([1.0, 1.0], (100, 1.0, 0.25), (100, mean, 0.25)).look();
        assert_eq!(look.decision.verdict, expected, "{look:?}");
    }
}

#[test]
fn a_loss_is_rolled_back_under_a_split_mismatch_too() {
    let mut broken = filled([90.0, 10.0], (300, 1.0, 0.5), (300, 0.5, 0.5));
    let look = broken.look();
    assert!(look.mismatch > 1_000.0 && look.decision.verdict == Verdict::Rollback);
    assert!(broken.false_rollback().is_some_and(|chance| (0.01..0.9).contains(&chance)));
    let look = filled([90.0, 10.0], (300, 1.0, 0.5), (300, 1.5, 0.5)).look();
    assert_eq!(look.decision.verdict, Verdict::Hold);
    // Where units are counted, they count.
    let mut units = filled([90.0, 10.0], (300, 1.0, 0.5), (300, 1.5, 0.5));
    units.set_assigned(Some([91, 9]));
    assert!(units.look().mismatch < 1.0);
}

/// Losing, zero and tiny means of the control.
#[test]
fn controls_that_make_nothing() {
    let of = |control: (f64, f64), variant: (f64, f64)| {
        filled([1.0, 1.0], (400, control.0, control.1), (400, variant.0, variant.1)).look()
    };
    let losing_less = of((-2.0, 1.0), (-1.0, 1.0));
    assert!((losing_less.lift.value().unwrap() - 0.5).abs() < 1e-9);
    assert_eq!(losing_less.decision.verdict, Verdict::Promote);
    let losing_more = of((-2.0, 1.0), (-2.2, 1.0));
    assert!((losing_more.lift.value().unwrap() + 0.1).abs() < 1e-9);
    assert_eq!(losing_more.decision.verdict, Verdict::Rollback);
    for control in [(0.0, 1.0), (1e-12, 1.0), (-1e-3, 1.0), (0.0, 0.0)] {
        let up = of(control, (1.0, 1.0));
        assert_eq!(up.lift, Lift::Undefined(NoLift::ControlMayBeZero), "{control:?}");
        assert_eq!(up.decision.verdict, Verdict::Continue, "never promoted: {control:?}");
        let down = of(control, (-1.0, 1.0));
        assert_eq!(down.decision.verdict, Verdict::Continue, "no lift, no loss: {control:?}");
    }
    let tiny = of((1e-12, 1e-13), (1.2e-12, 1e-13));
    assert_eq!(tiny.decision.verdict, Verdict::Promote);
}

#[test]
fn the_guard_rolls_back_earlier_and_without_a_lift() {
    let rules = Rules { guard: Guard::Sequential, ..Rules::default() };
    for (n, expected) in [(19, Verdict::Continue), (20, Verdict::Rollback)] {
        for mean in [5.0, 0.0] {
            let mut trial = Trial::new(Design::Sequential, [1.0, 1.0], rules).unwrap();
            fill(&mut trial, Arm::Control, 20, mean, 1.0);
            fill(&mut trial, Arm::Variant, n, mean - 2.0, 1.0);
            assert_eq!(trial.look().decision.verdict, expected, "{n} {mean}");
        }
    }
}

#[test]
fn without_any_variance() {
    let mut equal = filled([1.0, 1.0], (500, 2.0, 0.0), (500, 2.0, 0.0));
    let look = equal.look();
    assert_eq!(look.comparison.map(|compared| compared.p), Some(1.0));
    assert_eq!((look.decision.verdict, look.equivalence_p), (Verdict::NoDifference, Some(0.0)));
    let mut apart = filled([1.0, 1.0], (500, 2.0, 0.0), (500, 3.0, 0.0));
    let look = apart.look();
    assert_eq!((look.evidence.p, look.difference_interval), (1.0, Some((1.0, 1.0))));
    assert_eq!(look.decision.verdict, Verdict::Extend);
    let mut lost = filled([1.0, 1.0], (100, 2.0, 0.0), (100, 1.0, 0.0));
    assert_eq!(lost.look().decision.verdict, Verdict::Rollback);
    assert_eq!(lost.false_rollback(), Some(0.0));
}

/// What the looks have found stays found, and in its own direction only.
#[test]
fn an_early_harm_is_no_grounds_for_a_late_promotion() {
    let mut trial = trial(Design::Sequential, [1.0, 1.0]);
    fill(&mut trial, Arm::Control, 100, 10.0, 1.0);
    fill(&mut trial, Arm::Variant, 100, 9.4, 1.0);
    let look = trial.look();
    assert!(look.evidence.down < 0.05 && look.evidence.direction == Direction::Down);
    // Not by 10 %: it goes on, and gets slightly better than the control.
    assert_eq!(look.decision.verdict, Verdict::Continue);
    fill(&mut trial, Arm::Control, 200, 10.0, 1.0);
    fill(&mut trial, Arm::Variant, 200, 10.4, 1.0);
    let late = trial.look();
    assert!(late.evidence.p < 0.05 && late.evidence.up > 0.05, "{:?}", late.evidence);
    let promoted = Situation { lift: Some(0.5), p: 0.0, d: 1.0, ..trial.situation(&late) };
    assert_eq!(decide(&promoted).verdict, Verdict::Continue);
}

#[test]
fn a_view_is_no_look() {
    let mut trial = filled([1.0, 1.0], (200, 1.0, 0.5), (200, 1.5, 0.5));
    let before = trial.state().clone();
    assert_eq!(trial.view().evidence.p, 1.0);
    assert_eq!(*trial.state(), before);
    let look = trial.look();
    assert!(look.evidence.p < 1e-3);
    assert_eq!(trial.view(), look);
    // From the stored parts it goes on as before.
    let arms = [*trial.moments(Arm::Control), *trial.moments(Arm::Variant)];
    let mut again =
        Trial::restore(arms, trial.state().clone(), trial.shares(), *trial.rules()).unwrap();
    assert_eq!(again, trial);
    fill(&mut trial, Arm::Control, 50, 1.0, 0.5);
    fill(&mut again, Arm::Control, 50, 1.0, 0.5);
    assert_eq!(again.look(), trial.look());
    // A glance is a look.
    fill(&mut trial, Arm::Variant, 50, 2.0, 0.5);
    fill(&mut again, Arm::Variant, 50, 2.0, 0.5);
    trial.glance();
    assert_eq!(again.look(), trial.view());
}

#[test]
fn information_is_of_the_horizon_at_the_configured_split() {
    let information = |shares, control, variant| {
        filled(shares, (control, 1.0, 1.0), (variant, 1.0, 1.0)).view().information
    };
    assert!((information([1.0, 1.0], 500, 500) - 1.0).abs() < 1e-12);
    assert!((information([90.0, 10.0], 4_500, 500) - 1.0).abs() < 1e-12);
    assert!((information([10.0, 90.0], 500, 4_500) - 1.0).abs() < 1e-12);
    assert!((information([1.0, 1.0], 100, 100) - 0.2).abs() < 1e-12);
    assert!((information([90.0, 10.0], 900, 100) - 0.2).abs() < 1e-12);
    assert!((information([90.0, 10.0], 100, 100) - 50.0 / 450.0).abs() < 1e-12);
}

#[test]
fn what_is_still_needed() {
    let trial = filled([1.0, 1.0], (150, 1.0, 1.0), (94, 1.0, 1.0));
    // 394 are needed for d = 0.2 and a power of 0.8.
    assert_eq!(trial.view().still_needed, Some(300));
    let look = filled([1.0, 1.0], (394, 1.0, 1.0), (400, 1.0, 1.0)).view();
    assert!(look.still_needed == Some(0) && look.power > 0.8 && look.power < 0.81, "{look:?}");
    let interval = look.control.interval.unwrap();
    assert!((interval.1 - 1.0 - 1.966 * look.control.sd.unwrap() / 394_f64.sqrt()).abs() < 1e-4);
}

/// Each design finds what is plain, the fixed one at the horizon only.
#[test]
fn designs() {
    for design in Design::ALL {
        let mut trial = trial(design, [1.0, 1.0]);
        for batch in 0..5 {
            fill(&mut trial, Arm::Control, 100, 1.0, 0.5);
            fill(&mut trial, Arm::Variant, 100, 1.4, 0.5);
            let look = trial.look();
            assert_eq!(trial.design(), design);
            let early = design == Design::Fixed && batch < 4;
            let expected = if early { Verdict::Continue } else { Verdict::Promote };
            assert_eq!(look.decision.verdict, expected, "{design:?} {batch}: {look:?}");
            assert_eq!(look.evidence.stage == Stage::Waiting, early);
        }
        let done = trial.view().evidence.stage == Stage::Done;
        assert_eq!(done, design != Design::AlwaysValid);
    }
}

proptest! {
    /// Whatever comes: every look has its decision, and nothing is promoted that the procedures would not.
    #[test]
    fn nothing_is_promoted_that_should_not_be(
        design in prop::sample::select(Design::ALL.to_vec()),
        scale in prop::sample::select(vec![0.0, 1e-80, 1e-3, 1.0, 1e80]),
        mean in -2.0..2.0_f64,
        shift in -1.0..2.0_f64,
        batches in prop::collection::vec((0..90_usize, 0..90_usize, any::<u64>()), 1..14),
    ) {
        let mut trial = trial(design, [1.0, 1.0]);
        for (control, variant, seed) in batches {
            for (arm, n, middle) in
                [(Arm::Control, control, mean), (Arm::Variant, variant, mean + shift)]
            {
                let mut state = seed | 1;
                for _ in 0..n {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let noise = (state >> 11) as f64 / (1_u64 << 53) as f64 - 0.5;
                    prop_assert!(trial.record(arm, (middle + noise) * scale));
                }
            }
            let look = trial.look();
            let evidence = look.evidence;
            for p in [evidence.p, evidence.up, evidence.down, look.power] {
                prop_assert!((0.0..=1.0).contains(&p), "{:?}", look);
            }
            prop_assert!(evidence.p == evidence.up || evidence.p == evidence.down);
            if let Some(compared) = look.comparison {
                prop_assert!((0.0..=1.0).contains(&compared.p), "{:?}", look);
                prop_assert!(compared.z_star.abs() <= compared.t.abs());
                prop_assert!(compared.z_look.abs() <= compared.z_star.abs());
            }
            match look.decision.verdict {
                Verdict::Promote => {
                    let compared = look.comparison.unwrap();
                    prop_assert!(look.control.n >= 100 && look.variant.n >= 100);
                    prop_assert!(look.lift.value().unwrap() >= 0.1 - 1e-12);
                    prop_assert!(compared.p < 0.05 && compared.d > 0.2 && compared.t > 0.0);
                    prop_assert!(evidence.up < 0.05 && compared.spread == Spread::Regular);
                    prop_assert!(look.mismatch <= 1_000.0);
                }
                Verdict::Rollback => prop_assert!(look.lift.value().unwrap() <= -0.1 + 1e-12),
                Verdict::NoDifference => prop_assert!(evidence.p >= 0.05),
                _ => {}
            }
        }
    }
}
