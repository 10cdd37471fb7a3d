//! Points of Student's t distribution at one fixed level, many times over.

use crate::normal_quantile;
use crate::student::{t_density, t_upper_quantile, t_upper_tail};

/// From so many degrees of freedom on the expansion alone has ten digits at the usual levels.
const MANY: f64 = 90.0;

/// The two-sided critical value of t at a level, for any degrees of freedom.
///
/// The expansion in 1/nu (Abramowitz and Stegun, 26.7.5), whose polynomials depend on the level alone; below 90 degrees
/// refined by Newton's steps with the exact tail. A look needs three of them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Critical {
    tail: f64,
    z: f64,
    terms: [f64; 4],
}

impl Critical {
    /// For a two-sided level `alpha` between 0 and 1; anything else counts as 0.05.
    pub(super) fn new(alpha: f64) -> Self {
        let alpha = if alpha > 0.0 && alpha < 1.0 { alpha } else { 0.05 };
        let tail = alpha / 2.0;
        // alpha / 2 is above 0 and below 1/2, and so it has a quantile.
        let z = normal_quantile(tail).map_or(f64::INFINITY, |z| -z);
        let s = z * z;
        let terms = [
            z * (s + 1.0) / 4.0,
            z * ((5.0 * s + 16.0) * s + 3.0) / 96.0,
            z * (((3.0 * s + 19.0) * s + 17.0) * s - 15.0) / 384.0,
            z * ((((79.0 * s + 776.0) * s + 1482.0) * s - 1920.0) * s - 945.0) / 92160.0,
        ];
        Self { tail, z, terms }
    }

    /// The t that a share alpha / 2 lies above, to about ten digits. Infinite unless `nu` is positive.
    pub(super) fn at(&self, nu: f64) -> f64 {
        if nu.is_nan() || nu <= 0.0 {
            return f64::INFINITY;
        }
        if nu < 3.0 {
            return t_upper_quantile(self.tail, nu).unwrap_or(f64::INFINITY);
        }
        let start = self.z + self.terms.iter().rev().fold(0.0, |sum, term| (sum + term) / nu);
        if nu >= MANY && self.z < 2.6 {
            return start;
        }
        let mut t = start;
        for _ in 0..30 {
            let step = (t_upper_tail(t, nu) - self.tail) / t_density(t, nu);
            t += step;
            if step.abs() <= 1e-12 * t.abs() {
                break;
            }
        }
        // Far out the steps may not have arrived.
        if (t_upper_tail(t, nu) / self.tail - 1.0).abs() < 1e-9 {
            t
        } else {
            t_upper_quantile(self.tail, nu).unwrap_or(f64::INFINITY)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_by_bisection() {
        for alpha in [0.3, 0.1, 0.05, 0.01, 1e-3, 1e-9] {
            let critical = Critical::new(alpha);
            for nu in [0.7, 1.0, 2.0, 3.0, 3.3, 5.0, 9.0, 29.5, 89.0, 90.0, 99.0, 150.0, 1e3, 1e6] {
                let exact = t_upper_quantile(alpha / 2.0, nu).unwrap();
                let found = critical.at(nu);
                assert!((found / exact - 1.0).abs() < 2e-9, "{alpha} {nu}: {found} {exact}");
            }
        }
    }

    #[test]
    fn what_has_none() {
        assert_eq!(Critical::new(0.05).at(0.0), f64::INFINITY);
        assert_eq!(Critical::new(0.05).at(f64::NAN), f64::INFINITY);
        assert_eq!(Critical::new(f64::NAN), Critical::new(0.05));
    }
}
