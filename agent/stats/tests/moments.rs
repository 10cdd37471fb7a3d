//! The tallies against NIST's StRD, analysis of variance, sets SmLs07 to SmLs09: 13 constant leading digits.
//!
//! The data (Simon and Lesage 1989, https://www.itl.nist.gov/div898/strd/anova/anova.html) follow a rule: nine cells
//! with the values 1e12 + 0.4, 0.3, 0.5, 0.3, 0.5, .. 0.3, 0.5 (the values from the second on alternate about the
//! first), and the cells after the first 0.1 lower or higher in turn.

#![allow(clippy::unwrap_used)] // A test.

use genesis_stats::experiment::Moments;

/// The tenths of a value after 1e12.
fn tenths(cell: usize, replicate: usize) -> i32 {
    let first = match cell {
        0 => 4,
        _ if cell % 2 == 1 => 3,
        _ => 5,
    };
    match replicate {
        0 => first,
        _ if replicate % 2 == 1 => first - 1,
        _ => first + 1,
    }
}

/// The F of a one-way analysis of variance, from the tallies of the cells and of all values.
fn f(cells: &[Moments]) -> f64 {
    let mut all = Moments::new();
    for cell in cells {
        all.merge(cell);
    }
    let within: f64 = cells.iter().map(|cell| cell.parts().m2).sum();
    let between = all.parts().m2 - within;
    let (k, n) = (cells.len() as f64, all.n() as f64);
    (between / (k - 1.0)) / (within / (n - k))
}

/// (replicates, certified F, F of the doubles that the published decimals are read as, in exact arithmetic).
///
/// A double near 1e12 keeps but three digits after the point, so that not the tallies but the reading of the
/// decimals loses what the second one lacks; in tenths the same values are exact, and F does not depend on the unit.
const SETS: [(usize, f64, f64); 3] = [
    (21, 21.0, 21.00081188781877),
    (201, 201.0, 201.01300409594845),
    (2_001, 2_001.0, 2001.1349262209505),
];

#[test]
fn ten_digits_at_an_offset_of_1e13() {
    for (replicates, certified, _) in SETS {
        let cell = |cell| -> Moments {
            (0..replicates).map(|i| 1e13 + f64::from(tenths(cell, i))).collect()
        };
        let found = f(&(0..9).map(cell).collect::<Vec<_>>());
        assert!((found / certified - 1.0).abs() < 1e-10, "{replicates}: {found}");
    }
}

#[test]
fn ten_digits_of_what_the_decimals_are_read_as() {
    for (replicates, certified, exact) in SETS {
        let value = |cell, i| format!("1000000000000.{}", tenths(cell, i)).parse::<f64>().unwrap();
        // Each cell is merged from blocks, as days are.
        let cell = |cell| {
            let mut merged = Moments::new();
            for from in (0..replicates).step_by(17) {
                let to = replicates.min(from + 17);
                merged.merge(&(from..to).map(|i| value(cell, i)).collect());
            }
            merged
        };
        let found = f(&(0..9).map(cell).collect::<Vec<_>>());
        assert!((found / exact - 1.0).abs() < 1e-10, "{replicates}: {found} {exact}");
        assert!((found / certified - 1.0).abs() < 2e-3, "{replicates}: {found}");
    }
}

/// A mean of 1e12 and a standard deviation of 0.1: the plain recurrence has no correct digit of M3.
#[test]
fn the_third_moment_too() {
    let skewed = |i: u32| if i.is_multiple_of(10) { 3.0 } else { 0.25 };
    let (mut near, mut far) = (Moments::new(), Moments::new());
    for i in 0..100_000 {
        near.push(skewed(i));
        far.push(1e12 + skewed(i));
    }
    let (near, far) = (near.parts(), far.parts());
    assert!((far.m2 / near.m2 - 1.0).abs() < 1e-12, "{near:?} {far:?}");
    assert!((far.m3 / near.m3 - 1.0).abs() < 1e-11, "{near:?} {far:?}");
}
