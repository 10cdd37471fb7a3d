//! Drift, and the criteria one by one.

use genesis_stats::correlation::{
    Acceptance, Candidate, Check, Correlation, Definiteness, Detail, DriftMode, Estimate, Limits,
    Validation, Verdict, Why, drift, validate,
};

use crate::data::{estimate, factors, names};

fn matrix(series: &[&str], values: &[f64]) -> Correlation {
    let series = series.iter().map(|name| (*name).to_owned()).collect();
    Correlation::of(series, values.to_vec()).unwrap()
}

/// Of a sound matrix: what was carried has enough points.
fn candidate(matrix: &Correlation) -> Candidate {
    Candidate::square(matrix.series().to_vec(), matrix.to_square()).unwrap()
}

fn passes(new: f64, old: f64, limits: &Limits) -> Verdict {
    let (new, old) = (matrix(&["a", "b"], &[new]), matrix(&["a", "b"], &[old]));
    validate(&candidate(&new), Some(&old), None, limits).of(Check::Drift).unwrap().verdict
}

#[test]
fn the_limit_is_inclusive() {
    let limits = Limits::default();
    for (new, old, verdict) in [
        (0.65, 0.5, Verdict::Pass),
        (0.35, 0.5, Verdict::Pass),
        (0.650_000_1, 0.5, Verdict::Fail),
        (0.15, 0.0, Verdict::Pass),
        (-0.15, 0.0, Verdict::Pass),
        (0.150_000_1, 0.0, Verdict::Fail),
        (0.15 + 2e-12, 0.0, Verdict::Fail),
        (0.0, 0.0, Verdict::Pass),
        (-0.05, 0.11, Verdict::Fail),
        (1.0, 0.85, Verdict::Pass),
        (1.0, -1.0, Verdict::Fail),
    ] {
        assert_eq!(passes(new, old, &limits), verdict, "{new} {old}");
    }
}

#[test]
fn other_measures() {
    let relative = Limits { drift_mode: DriftMode::Relative, ..Limits::default() };
    for (new, old, verdict) in [
        (0.575, 0.5, Verdict::Pass),
        (0.576, 0.5, Verdict::Fail),
        (0.06, 0.05, Verdict::Fail),
        (0.0, 0.0, Verdict::Pass),
        (1e-9, 0.0, Verdict::Fail),
    ] {
        assert_eq!(passes(new, old, &relative), verdict, "{new} {old}");
    }
    let (new, old) = (matrix(&["a", "b"], &[0.8]), matrix(&["a", "b"], &[0.6]));
    let found = drift(&candidate(&new), &old, DriftMode::Frobenius, 0.15);
    // sqrt(2 0.2^2) / sqrt(2 + 2 0.6^2)
    assert!((found.value.unwrap() - (0.08_f64 / 2.72).sqrt()).abs() < 1e-15);
    assert_eq!((found.value, found.beyond, found.worst.len()), (found.frobenius, 1, 1));
}

#[test]
fn what_is_common_is_compared() {
    let old = matrix(&["x", "a", "b", "c"], &[0.9, 0.9, 0.9, 0.1, 0.2, 0.3]);
    let new = matrix(&["c", "n", "a", "b"], &[0.5, 0.25, 0.3, 0.5, 0.5, -0.1]);
    let found = drift(&candidate(&new), &old, DriftMode::Absolute, 0.15);
    assert_eq!((found.pairs, found.beyond), (3, 1));
    assert_eq!((found.added, found.dropped), (vec![1], vec!["x".to_owned()]));
    let worst: Vec<_> = found.worst.iter().map(|it| (it.pair, it.old, it.new)).collect();
    assert_eq!(worst, [((2, 3), 0.1, -0.1), ((0, 2), 0.2, 0.25)]);
    assert!((found.value.unwrap() - 0.2).abs() < 1e-15);
    let none = drift(&candidate(&new), &matrix(&["x", "y"], &[0.1]), DriftMode::Absolute, 0.15);
    assert_eq!((none.value, none.pairs, none.frobenius), (None, 0, None));
    let verdict = validate(&candidate(&new), Some(&matrix(&["x"], &[])), None, &Limits::default());
    let drift = verdict.of(Check::Drift).unwrap();
    assert_eq!(drift.verdict, Verdict::Unknown);
    // Nothing of it could have drifted.
    assert_eq!(drift.detail, Detail::First);
    let unmet = vec![Check::Points];
    assert_eq!(verdict.acceptance(), Acceptance::Refused { unmet });
}

/// The same series in another order have not moved.
#[test]
fn another_order_is_no_drift() {
    let (_, same) = sound();
    let turned: Vec<&String> = same.series().iter().rev().collect();
    let turned = same.select(&turned).unwrap();
    let found = drift(&candidate(&same), &turned, DriftMode::Absolute, 0.15);
    assert_eq!((found.value, found.pairs, found.frobenius), (Some(0.0), 10, Some(0.0)));
}

#[test]
fn ten_are_named_and_all_are_counted() {
    let size = 12;
    let old = Correlation::of(names(size), vec![0.0; 66]).unwrap();
    let values: Vec<f64> = (0..66).map(|at| f64::from(at * 37 % 66) / 100.0).collect();
    let found = drift(
        &candidate(&Correlation::of(names(size), values).unwrap()),
        &old,
        DriftMode::Absolute,
        0.15,
    );
    assert_eq!((found.pairs, found.beyond, found.value), (66, 50, Some(0.65)));
    let worst: Vec<f64> = found.worst.iter().map(|it| it.new).collect();
    let known: Vec<f64> = (56..66).rev().map(|at| f64::from(at) / 100.0).collect();
    assert_eq!(worst, known);
}

/// Fisher's z by hand: (atanh 0.5 - atanh 0.3) sqrt(97 / 2).
#[test]
fn noise_is_told_from_change() {
    let columns = factors(5, 100, 2, 0.0);
    let old = matrix(&["S000", "S001"], &[0.5]);
    let kept = Candidate::of(&estimate(&columns), names(2), u32::MAX, Some(&old)).unwrap();
    let found = drift(&kept, &matrix(&["S000", "S001"], &[0.3]), DriftMode::Absolute, 0.15);
    let z = found.worst[0].z.unwrap();
    assert!((z - (0.549_306_144_334_055 - 0.309_519_604_203_112) * 48.5_f64.sqrt()).abs() < 1e-12);
    let one = drift(&kept, &matrix(&["S000", "S001"], &[1.0]), DriftMode::Absolute, 0.15);
    assert_eq!(one.worst[0].z, None);
    // Nobody knows how many points these have.
    let square = candidate(&old);
    let unknown = drift(&square, &matrix(&["S000", "S001"], &[0.3]), DriftMode::Absolute, 0.15);
    assert_eq!(unknown.worst[0].z, None);
}

fn sound() -> (Candidate, Correlation) {
    let estimate = estimate(&factors(6, 300, 5, 0.05));
    let candidate = Candidate::of(&estimate, names(5), 100, None).unwrap();
    let same = candidate.accept().unwrap();
    (candidate, same)
}

fn verdicts(validation: &Validation) -> Vec<Verdict> {
    let checks: Vec<Check> = validation.criteria.iter().map(|it| it.check).collect();
    assert_eq!(checks, Check::ALL);
    validation.criteria.iter().map(|it| it.verdict).collect()
}

#[test]
fn a_sound_one_is_accepted() {
    let (candidate, same) = sound();
    let limits = Limits::default();
    let validation = validate(&candidate, Some(&same), Some(&same), &limits);
    assert_eq!(verdicts(&validation), [Verdict::Pass; 8]);
    assert_eq!(validation.acceptance(), Acceptance::Accepted);
    let names: Vec<&str> = validation.criteria.iter().map(|it| it.name()).collect();
    let known =
        ["range", "diagonal", "symmetric", "points", "defined", "definite", "drift", "history"];
    assert_eq!(names, known);
    assert_eq!(validation.of(Check::Drift).unwrap().value, Some(0.0));
    // The first of all, and the first for 30 days.
    let first = validate(&candidate, None, None, &limits);
    let missing = vec![Check::Drift, Check::History];
    assert_eq!(first.acceptance(), Acceptance::First { missing });
    assert_eq!(verdicts(&first)[6..], [Verdict::Unknown; 2]);
    let young = validate(&candidate, Some(&same), None, &limits);
    assert_eq!(young.acceptance(), Acceptance::First { missing: vec![Check::History] });
    assert_eq!(young.of(Check::History).unwrap().detail, Detail::First);
}

/// Each small step is within the limit, and all of them together are not.
#[test]
fn creeping_is_found() {
    let (candidate, same) = sound();
    let moved = |by: f64| {
        let mut values = same.values().to_vec();
        let sign = if values[0] > 0.0 { -by } else { by };
        values[0] += sign;
        Correlation::of(names(5), values).unwrap()
    };
    let limits = Limits::default();
    let of = |month: f64| {
        validate(&candidate, Some(&moved(0.14)), Some(&moved(month)), &limits).acceptance()
    };
    assert_eq!(of(0.30), Acceptance::Accepted);
    assert_eq!(of(0.31), Acceptance::Refused { unmet: vec![Check::History] });
}

#[test]
fn what_is_wrong_is_named() {
    let limits = Limits::default();
    let of = |size: usize, item: &dyn Fn(usize, usize) -> f64| {
        let values = (0..size * size).map(|at| item(at / size, at % size)).collect();
        validate(&Candidate::square(names(size), values).unwrap(), None, None, &limits)
    };
    let one = |i: usize, j: usize| if i == j { 1.0 } else { 0.2 };
    let fails = |validation: &Validation, check: Check, value: f64, places: &[(usize, usize)]| {
        let criterion = validation.of(check).unwrap();
        assert_eq!(criterion.verdict, Verdict::Fail);
        assert!((criterion.value.unwrap() - value).abs() < 1e-15, "{criterion:?}");
        let known = Detail::Places { first: places.to_vec(), count: places.len() };
        assert_eq!(criterion.detail, known);
    };
    let beyond = of(3, &|i, j| if i + j == 3 { 1.5 } else { one(i, j) });
    fails(&beyond, Check::Range, 1.5, &[(1, 2), (2, 1)]);
    let diagonal = of(3, &|i, j| if i + j == 2 && i == j { 0.75 } else { one(i, j) });
    fails(&diagonal, Check::Diagonal, 0.25, &[(1, 1)]);
    for (at, bad) in [(4, 0.75), (4, f64::NAN), (1, 0.3), (1, 1.5)] {
        let mut values: Vec<f64> = (0..9).map(|at| one(at / 3, at % 3)).collect();
        values[at] = bad;
        assert!(Candidate::square(names(3), values).unwrap().accept().is_err(), "{at} {bad}");
    }
    let oblique = of(3, &|i, j| if (i, j) == (2, 0) { 0.3 } else { one(i, j) });
    fails(&oblique, Check::Symmetric, 0.1, &[(0, 2)]);
    let nothing = of(2, &|i, j| if i == j { 1.0 } else { f64::NAN });
    fails(&nothing, Check::Range, 1.0, &[(0, 1), (1, 0)]);
    assert_eq!(nothing.of(Check::Definite).unwrap().verdict, Verdict::Unknown);
    let indefinite = of(3, &|i, j| [1.0, 0.9, 0.0][i.abs_diff(j)]);
    let criterion = indefinite.of(Check::Definite).unwrap();
    // 1 - 0.9 sqrt 2
    assert!((criterion.value.unwrap() + 0.272_792_206_135_785_5).abs() < 1e-14);
    assert_eq!(criterion.verdict, Verdict::Fail);
    assert!(criterion.limit < 0.0 && criterion.limit > -1e-13);
    let Detail::Definiteness(Definiteness::Indefinite { weights, .. }) = &criterion.detail else {
        panic!("{criterion:?}")
    };
    assert_eq!(weights[0].0, 1);
    // A square from somewhere has no points, which must not pass.
    assert_eq!(indefinite.of(Check::Points).unwrap().detail, Detail::NoPoints);
    let alone = of(1, &one);
    assert_eq!(alone.of(Check::Points).unwrap().verdict, Verdict::Unknown);
}

#[test]
fn pairs_that_lack_something_are_all_named() {
    let mut columns = factors(8, 120, 4, 0.0);
    columns[1][..30].fill(f64::NAN);
    columns[3].fill(2.0);
    let estimate: Estimate = estimate(&columns);
    let candidate = Candidate::of(&estimate, names(4), 100, None).unwrap();
    let validation = validate(&candidate, None, None, &Limits::default());
    let pairs = |check: Check| match &validation.of(check).unwrap().detail {
        Detail::Pairs(pairs) => pairs.iter().map(|it| (it.pair, it.points, it.why)).collect(),
        other => panic!("{other:?}"),
    };
    let few: Vec<_> = pairs(Check::Points);
    let known = [((0, 1), 90, Why::Few), ((1, 2), 90, Why::Few), ((1, 3), 90, Why::Few)];
    assert_eq!(few, known);
    let undefined: Vec<_> = pairs(Check::Defined);
    let constant = Why::Constant { series: 3 };
    assert_eq!(undefined, [((0, 3), 120, constant), ((2, 3), 120, constant)]);
    let range = validation.of(Check::Range).unwrap();
    assert_eq!((range.verdict, range.value), (Verdict::Pass, Some(1.0)));
    assert_eq!(validation.of(Check::Points).unwrap().value, Some(90.0));
    let unmet = vec![Check::Points, Check::Defined, Check::Definite];
    assert_eq!(validation.acceptance(), Acceptance::Refused { unmet });
    // Kept values need no points; what is constant is undefined all the same.
    let old = Correlation::of(names(4), vec![0.1; 6]).unwrap();
    let kept = Candidate::of(&estimate, names(4), 100, Some(&old)).unwrap();
    let validation = validate(&kept, Some(&old), None, &Limits::default());
    assert_eq!(validation.of(Check::Points).unwrap().value, Some(120.0));
    assert_eq!(validation.of(Check::Points).unwrap().verdict, Verdict::Pass);
    assert_eq!(validation.of(Check::Defined).unwrap().value, Some(2.0));
}
