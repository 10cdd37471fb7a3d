//! The distributions against scipy and mpmath: `fixtures/distributions.py` writes the table.

#![allow(clippy::unwrap_used)] // A test.

use genesis_stats::{normal_cdf, normal_quantile, t_upper_quantile, t_upper_tail};

#[test]
fn as_scipy_has_them() {
    let table = include_str!("fixtures/distributions.csv");
    let mut rows = 0;
    for line in table.lines().skip(1) {
        let cells: Vec<&str> = line.split(',').collect();
        let number = |i: usize| cells[i].parse::<f64>().unwrap();
        let (argument, df, expected) = (number(1), number(2), number(3));
        let (found, most) = match cells[0] {
            "normal_quantile" => (normal_quantile(argument).unwrap(), 1e-12),
            "normal_cdf" => (normal_cdf(argument), 1e-12),
            "t_upper_tail" => (t_upper_tail(argument, df), if df > 1e3 { 1e-10 } else { 1e-12 }),
            _ => (t_upper_quantile(argument, df).unwrap(), 1e-8),
        };
        let error = (found / expected - 1.0).abs();
        assert!(error <= most, "{line}: {found}, off by {error:e}");
        rows += 1;
    }
    assert_eq!(rows, 347);
}
