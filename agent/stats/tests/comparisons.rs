//! The statistics of A/B tests against mpmath, scipy and statsmodels: `fixtures/experiments.py` writes the tables.

#![allow(clippy::unwrap_used)] // A test.

#[allow(dead_code)] // Not all of it is needed here.
mod support;

use genesis_stats::experiment::{
    Arm, Design, Lift, Moments, NoLift, Rules, Trial, compare, equivalence, needed, power,
};
use support::Random;

const SCALES: [f64; 5] = [1.0, 0.001, 1000.0, 0.0625, 1e6];
const OFFSETS: [f64; 6] = [0.0, 1.0, -3.0, 1e6, -1e9, 12.5];
const EFFECTS: [f64; 9] = [0.0, 0.05, 0.2, -0.3, 1.0, -5.0, 40.0, -300.0, 2000.0];

/// The trades of a case, control and variant, as the script makes them.
fn arms(case: u64) -> [Vec<f64>; 2] {
    let random = &mut Random(case);
    fn pick<T: Copy>(random: &mut Random, items: &[T]) -> T {
        items[(random.next() * items.len() as f64) as usize]
    }
    let (scale, offset) = (pick(random, &SCALES), pick(random, &OFFSETS));
    let effect = pick(random, &EFFECTS);
    let most = pick(random, &[6.0, 30.0, 120.0]);
    let counts = [(); 2].map(|()| 2 + (random.next() * most) as usize);
    let skews = [(); 2].map(|()| random.next());
    let spread = 0.1 + 3.0 * random.next();
    let mut arm = |n: usize, skew: f64, wide: f64, shift: f64| {
        let mut draw = || {
            let u = random.next();
            let value = (u - 0.5) + skew * (u * u * u * u - 0.2);
            offset + scale * (value * wide + shift)
        };
        (0..n).map(|_| draw()).collect()
    };
    [arm(counts[0], skews[0], 1.0, 0.0), arm(counts[1], skews[1], spread, effect)]
}

fn moments(case: u64) -> [Moments; 2] {
    arms(case).map(|arm| arm.into_iter().collect())
}

fn lift_of([control, variant]: &[Moments; 2]) -> Lift {
    let mut trial = Trial::new(Design::Sequential, [1.0, 1.0], Rules::default()).unwrap();
    trial.merge(Arm::Control, control);
    trial.merge(Arm::Variant, variant);
    trial.view().lift
}

#[test]
fn ten_digits_of_everything() {
    let (mut rows, mut smallest, mut undefined, mut open) = (0, 1.0_f64, 0, 0);
    for line in include_str!("fixtures/comparisons.csv").lines().skip(1) {
        let cells: Vec<&str> = line.split(',').collect();
        let both = moments(cells[0].parse().unwrap());
        let found = compare(&both[0], &both[1]).unwrap();
        let near = |what: &str, found: f64, expected: &str| {
            let expected: f64 = expected.parse().unwrap();
            let error = (found - expected).abs() / expected.abs().max(1e-300);
            assert!(error < 1e-10 || found == expected, "{what} {found:e} {expected:e}: {line}");
        };
        near("t", found.t, cells[1]);
        near("nu", found.nu, cells[2]);
        near("d", found.d, cells[4]);
        // Below 1e-250 the digits may run out.
        if cells[3] != "tiny" && cells[3].parse::<f64>().unwrap() >= 1e-250 {
            near("p", found.p, cells[3]);
            smallest = smallest.min(found.p);
        } else {
            assert!(found.p < 1e-250, "{line}");
        }
        rows += 1;
        if cells.len() == 5 {
            continue;
        }
        near("g", found.g, cells[5]);
        // What is near nothing is left of a difference.
        let z_star: f64 = cells[6].parse().unwrap();
        assert!((found.z_star - z_star).abs() < 1e-9 * found.t.abs(), "{}: {line}", found.z_star);
        match lift_of(&both) {
            Lift::Undefined(why) => {
                assert_eq!((why, cells[7]), (NoLift::ControlMayBeZero, "undefined"), "{line}");
                undefined += 1;
            }
            Lift::Defined { value, interval } => {
                near("lift", value, cells[7]);
                match interval {
                    None => {
                        assert_eq!(cells[8], "open", "{line}");
                        open += 1;
                    }
                    Some((low, high)) => {
                        let (wide, ends) = (high - low, [cells[8], cells[9]]);
                        for (end, expected) in [low, high].into_iter().zip(ends) {
                            let error = (end - expected.parse::<f64>().unwrap()).abs();
                            assert!(error < 1e-8 * wide, "{end} {expected}: {line}");
                        }
                    }
                }
            }
        }
    }
    println!("{rows} rows, p down to {smallest:e}, {undefined} undefined, {open} open");
    assert_eq!(rows, 2_400);
    assert!(smallest < 1e-200 && undefined > 20);
}

#[test]
fn power_and_equivalence_as_statsmodels_has_them() {
    let mut rows = [0; 3];
    for line in include_str!("fixtures/experiments.csv").lines().skip(1) {
        let cells: Vec<&str> = line.split(',').collect();
        let number = |i: usize| cells[i].parse::<f64>().unwrap();
        let (a, b, c, expected) = (number(1), number(2), number(3), number(4));
        match cells[0] {
            "power" => {
                let found = power(a, b as u64, (b * c) as u64, 0.05);
                let most = if b * (1.0 + c) < 102.0 { 1e-7 } else { 1e-4 };
                assert!((found - expected).abs() < most, "{line}: {found}");
                rows[0] += 1;
            }
            "needed" => {
                let found = needed(a, b, 1.0 / (1.0 + c), 0.05).unwrap();
                // The least whole number that is enough.
                let error = found as f64 - expected.ceil();
                assert!(error.abs() <= 1.0 + expected * 5e-4, "{line}: {found}");
                rows[1] += 1;
            }
            _ => {
                let both = moments(a as u64);
                let found = equivalence(&compare(&both[0], &both[1]).unwrap(), b);
                assert!((found / expected - 1.0).abs() < 1e-4, "{line}: {found}");
                rows[2] += 1;
            }
        }
    }
    assert!(rows == [69, 16, 31], "{rows:?}");
}
