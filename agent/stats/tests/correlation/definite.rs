//! Whether a matrix is positive semi-definite, and the nearest one that is.

use genesis_stats::correlation::{
    Candidate, Definiteness, Estimate, RepairError, RepairRules, repair,
};

use crate::data::{Random, estimate, factors, names};

fn square(size: usize, item: impl Fn(usize, usize) -> f64) -> Candidate {
    let values = (0..size * size).map(|at| item(at / size, at % size)).collect();
    Candidate::square(names(size), values).unwrap()
}

/// With so many points in common of each pair, which a repair needs to know: the values are put into old ones.
fn with_points(values: &[f64], size: usize, rows: usize) -> Candidate {
    let mut upper = Vec::new();
    for i in 0..size {
        upper.extend_from_slice(&values[i * size + i + 1..(i + 1) * size]);
    }
    let old = genesis_stats::correlation::Correlation::of(names(size), upper).unwrap();
    // All pairs have too few points, so all of them keep the old value.
    let estimate: Estimate = estimate(&factors(1, rows, size, 0.0));
    Candidate::of(&estimate, names(size), u32::MAX, Some(&old)).unwrap()
}

const LOOSE: RepairRules =
    RepairRules { most: 2.0, errors: f64::INFINITY, steps: 1_000, accelerated: true };

#[test]
fn definite_ones() {
    assert_eq!(square(0, |_, _| 1.0).definiteness(), Definiteness::Definite);
    for size in [1, 2, 3, 4, 5, 100] {
        let same = |r: f64| move |i: usize, j: usize| if i == j { 1.0 } else { r };
        assert_eq!(square(size, same(0.0)).definiteness(), Definiteness::Definite);
        // All the same: one eigenvalue is p, and the others are zero.
        assert_eq!(square(size, same(1.0)).definiteness(), Definiteness::Definite);
        assert_eq!(square(size, same(0.5)).definiteness(), Definiteness::Definite);
        // As negative as they can all be.
        let least = if size > 1 { -1.0 / (size as f64 - 1.0) } else { 0.0 };
        assert_eq!(square(size, same(least)).definiteness(), Definiteness::Definite, "{size}");
    }
}

/// Two series: the eigenvalues are 1 - r and 1 + r, so 1 - r - 1e-17 is no other double. Three, with one of them exact.
#[test]
fn what_rounding_does_is_forgiven_and_no_more() {
    let smallest = |value: f64| {
        // Eigenvalues value, 1 and 1 - value + 1: a rotation of a diagonal.
        let (c, s) = (0.6, 0.8);
        square(3, move |i, j| match (i, j) {
            (0, 0) => c * c * value + s * s,
            (0, 1) | (1, 0) => c * s * (1.0 - value),
            (1, 1) => s * s * value + c * c,
            (2, 2) => 1.0,
            _ => 0.0,
        })
    };
    assert_eq!(smallest(-1e-17).definiteness(), Definiteness::Definite);
    assert_eq!(smallest(-1e-16).definiteness(), Definiteness::Definite);
    for value in [-1e-3, -1e-6, -1e-9, -1e-13] {
        match smallest(value).definiteness() {
            Definiteness::Indefinite { smallest, weights } => {
                assert!((smallest - value).abs() < 1e-15, "{smallest}");
                assert_eq!(weights.iter().map(|it| it.0).collect::<Vec<_>>(), [1, 0, 2]);
                for (weight, known) in weights.iter().zip([0.64, 0.36, 0.0]) {
                    assert!((weight.1 - known).abs() < 1e-12, "{weights:?}");
                }
            }
            other => panic!("{value}: {other:?}"),
        }
    }
}

#[test]
fn what_is_no_matrix_is_unknown() {
    for bad in [f64::NAN, f64::INFINITY] {
        let candidate = square(3, |i, j| if i == j { 1.0 } else { bad });
        assert_eq!(candidate.definiteness(), Definiteness::Unknown);
    }
    let oblique = square(3, |i, j| if i == j { 1.0 } else { i as f64 / 10.0 });
    assert_eq!(oblique.definiteness(), Definiteness::Unknown);
}

/// Gaps make estimates indefinite: numpy's smallest eigenvalue, and the distance of the nearest matrix as another
/// implementation finds it (tests/fixtures/correlation.py).
#[test]
fn as_numpy_has_it() {
    let fixture = include_str!("../fixtures/correlation.tsv");
    let mut cases = 0;
    for line in fixture.lines().filter(|line| line.starts_with("definite\t")) {
        let fields: Vec<&str> = line.split('\t').collect();
        let [seed, rows, series] = [1, 2, 3].map(|at| fields[at].parse::<usize>().unwrap());
        let [missing, known, distance] = [4, 5, 6].map(|at| fields[at].parse::<f64>().unwrap());
        let estimate = estimate(&factors(seed as u64, rows, series, missing));
        let candidate = Candidate::of(&estimate, names(series), 2, None).unwrap();
        match candidate.definiteness() {
            Definiteness::Indefinite { smallest, .. } => {
                assert!((smallest - known).abs() < 1e-12, "{smallest} {known}");
            }
            Definiteness::Definite => assert!(known > 0.0, "{known}"),
            Definiteness::Unknown => panic!("{seed}"),
        }
        for accelerated in [false, true] {
            let repaired = repair(&candidate, &RepairRules { accelerated, ..LOOSE }).unwrap();
            let found = repaired.frobenius;
            assert!((found - distance).abs() < 1e-8, "{found} {distance} {accelerated}");
            assert_eq!(repaired.candidate.definiteness(), Definiteness::Definite);
            repaired.candidate.accept().unwrap();
        }
        cases += 1;
    }
    assert_eq!(cases, 6);
}

/// Higham's own example (2002, section 5).
#[test]
fn the_nearest_of_highams_example() {
    let values = [1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 0.0, 1.0, 1.0];
    for accelerated in [false, true] {
        let repaired =
            repair(&with_points(&values, 3, 100), &RepairRules { accelerated, ..LOOSE }).unwrap();
        let r = |i, j| repaired.candidate.get(i, j).unwrap();
        assert!((r(0, 1) - 0.760_689_853_4).abs() < 1e-9, "{}", r(0, 1));
        assert!((r(0, 2) - 0.157_298_106_1).abs() < 1e-9, "{}", r(0, 2));
        assert!((r(0, 1) - r(1, 2)).abs() < 1e-14 && r(0, 2) == r(2, 0));
        assert!((repaired.frobenius - 0.527_790_463_6).abs() < 1e-9, "{}", repaired.frobenius);
        assert!((repaired.largest.0 - 0.239_310_146_6).abs() < 1e-9, "{:?}", repaired.largest);
    }
}

/// A matrix of statsmodels' tests. What R's nearPD makes of it there, without Dykstra's correction, is a correlation
/// matrix, too, and farther away.
#[test]
fn nearer_than_r_without_the_correction() {
    let fixture = include_str!("../fixtures/correlation.tsv");
    let values = |name: &str| -> Vec<f64> {
        let line = fixture.lines().find(|line| line.split('\t').next() == Some(name)).unwrap();
        line.split('\t').nth(1).unwrap().split(' ').map(|it| it.parse().unwrap()).collect()
    };
    let (before, known, by_r) = (values("nearpd"), values("nearpd_nearest"), values("nearpd_r"));
    for accelerated in [false, true] {
        let rules = RepairRules { accelerated, ..LOOSE };
        let repaired = repair(&with_points(&before, 6, 100), &rules).unwrap();
        let (mut to_r, mut change) = (0.0, 0.0_f64);
        for (at, known) in known.iter().enumerate() {
            let own = repaired.candidate.get(at / 6, at % 6).unwrap();
            assert!((own - known).abs() < 1e-9, "{at}: {own} {known}");
            to_r += (by_r[at] - before[at]).powi(2);
            change = change.max((own - before[at]).abs());
        }
        assert!(repaired.frobenius < to_r.sqrt() - 8e-5, "{} {to_r}", repaired.frobenius);
        assert!((repaired.largest.0 - change).abs() < 1e-15);
    }
}

#[test]
fn only_what_is_noise_is_repaired() {
    let values = [1.0, 0.9, 0.25, 0.9, 1.0, 0.68, 0.25, 0.68, 1.0];
    let few = repair(&with_points(&values, 3, 100), &RepairRules::default()).unwrap();
    assert!(few.largest.0 > 0.012 && few.largest.0 < 0.013, "{:?}", few.largest);
    assert_eq!(few.candidate.definiteness(), Definiteness::Definite);
    // The same with so many points that 2 SE are less.
    match repair(&with_points(&values, 3, 5_000), &RepairRules::default()) {
        Err(RepairError::TooFar { pair, change, limit, pairs, repaired }) => {
            assert_eq!((pair, pairs), ((0, 1), 1));
            assert!((limit - 2.0 * (1.0 - 0.81) / 4_999.0_f64.sqrt()).abs() < 1e-11, "{limit}");
            assert!(change > limit && change <= repaired.largest.0);
        }
        other => panic!("{other:?}"),
    }
    let bad = [1.0, 0.9, 0.0, 0.9, 1.0, 0.9, 0.0, 0.9, 1.0];
    match repair(&with_points(&bad, 3, 5), &RepairRules::default()) {
        Err(RepairError::TooFar { limit, .. }) => assert!((limit - 0.05).abs() < 1e-11, "{limit}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_can_not_be_repaired() {
    let indefinite = |i: usize, j: usize| [1.0, 0.9, 0.0][i.abs_diff(j)];
    let candidate = square(3, indefinite);
    assert_eq!(repair(&candidate, &LOOSE), Err(RepairError::Points));
    let rules = RepairRules { steps: 2, accelerated: false, ..LOOSE };
    let values: Vec<f64> = (0..9).map(|at| indefinite(at / 3, at % 3)).collect();
    assert_eq!(repair(&with_points(&values, 3, 100), &rules), Err(RepairError::Steps));
    let oblique = square(2, |i, j| if i == j { 1.0 } else { i as f64 / 2.0 });
    assert_eq!(repair(&oblique, &LOOSE), Err(RepairError::Unsettled));
    let fine = square(3, |i, j| if i == j { 1.0 } else { 0.5 });
    let same = repair(&fine, &LOOSE).unwrap();
    assert_eq!((same.candidate, same.frobenius, same.steps), (fine, 0.0, 0));
}

/// The acceleration is worth it, and comes to the same.
#[test]
fn fewer_steps() {
    let mut random = Random(7);
    let size = 30;
    let mut values = vec![1.0; size * size];
    for i in 0..size {
        for j in 0..i {
            let r = (0.4 + 0.25 * random.bell()).clamp(-0.99, 0.99);
            (values[i * size + j], values[j * size + i]) = (r, r);
        }
    }
    let candidate = with_points(&values, size, 100);
    let plain = repair(&candidate, &RepairRules { accelerated: false, ..LOOSE }).unwrap();
    let fast = repair(&candidate, &LOOSE).unwrap();
    assert!(2 * fast.steps < plain.steps, "{} {}", fast.steps, plain.steps);
    assert!((plain.frobenius - fast.frobenius).abs() < 1e-9);
    for i in 0..size {
        for j in 0..size {
            let (a, b) = (plain.candidate.get(i, j).unwrap(), fast.candidate.get(i, j).unwrap());
            assert!((a - b).abs() < 1e-9);
        }
    }
}
