//! The sequential test that experiments are judged by, unless another design is asked for.

use super::boundary::{MINUS_LOG, STEP};
use super::design::{Evidence, Stage};
use crate::normal_cdf;

/// The information that the boundary begins with, as a share of that at the horizon.
pub const FIRST_INFORMATION: f64 = 0.2;

/// P(sup |B(t)| t^(-1/4) >= `w` over t in [0.2, 1]), B a standard Brownian motion: how likely the running maximum gets
/// as far by chance, however often one looks. Falls strictly from 1 at 0; NaN of a NaN.
///
/// The boundary is that of Wang and Tsiatis, "Approximately Optimal One-Parameter Boundaries for Group Sequential
/// Trials" (Biometrics 43, 1987), with Delta = 0.25, in the limit of continuous looks. -ln P comes from a table
/// (tests/fixtures/boundary.py), between whose points a monotone cubic is laid (Fritsch and Carlson, SIAM Journal on
/// Numerical Analysis 17, 1980); the relative error is below 1e-6. Beyond W = 8 it is 6 (1 - Phi(W)), its limit by
/// the tangent approximation to first passages (Siegmund, "Sequential Analysis", 1985, section 4.5), in proportion.
pub fn boundary_probability(w: f64) -> f64 {
    if w.is_nan() {
        return f64::NAN;
    }
    let last = MINUS_LOG.len() - 1;
    let at = w.max(0.0) / STEP;
    if at >= last as f64 {
        let end = last as f64 * STEP;
        return (-MINUS_LOG[last]).exp() * (normal_cdf(-w) / normal_cdf(-end));
    }
    // Below `last`, and so there is a next one.
    let k = at as usize;
    let x = at - k as f64;
    let (a, b) = (MINUS_LOG[k], MINUS_LOG[k + 1]);
    let (slope_a, slope_b) = (slope(k), slope(k + 1));
    let rise = b - a;
    let found = a + x
        * (slope_a
            + x * (3.0 * rise - 2.0 * slope_a - slope_b + x * (slope_a + slope_b - 2.0 * rise)));
    (-found).exp()
}

/// The slope at a point of the table, a step its unit: of the fourth order, not steeper than a monotone cubic allows.
fn slope(k: usize) -> f64 {
    let last = MINUS_LOG.len() - 1;
    let y = |i: usize| MINUS_LOG[i];
    let wanted = match k {
        0 => return 0.0,
        1 => (y(2) - y(0)) / 2.0,
        _ if k == last => (11.0 * y(k) - 18.0 * y(k - 1) + 9.0 * y(k - 2) - 2.0 * y(k - 3)) / 6.0,
        _ if k == last - 1 => (2.0 * y(k + 1) + 3.0 * y(k) - 6.0 * y(k - 1) + y(k - 2)) / 6.0,
        _ => (8.0 * (y(k + 1) - y(k - 1)) - (y(k + 2) - y(k - 2))) / 12.0,
    };
    let before = y(k) - y(k - 1);
    let after = if k == last { before } else { y(k + 1) - y(k) };
    wanted.clamp(0.0, 3.0 * before.min(after))
}

/// The W that is reached by chance with probability `alpha`: the inverse of [`boundary_probability`]. `None` unless
/// 0 < alpha < 1. 2.3811 for 0.05.
pub fn boundary_critical(alpha: f64) -> Option<f64> {
    if !(alpha > 0.0 && alpha < 1.0) {
        return None;
    }
    // At 39 nothing is left.
    let (mut low, mut high) = (0.0, 40.0);
    loop {
        let middle = f64::midpoint(low, high);
        if middle <= low || middle >= high {
            return Some(middle);
        }
        if boundary_probability(middle) > alpha { low = middle } else { high = middle }
    }
}

/// What the looks have shown so far; to be stored with the tallies.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Looks {
    /// W+: the largest of z t^(1/4), at least 0.
    pub up: f64,
    /// W-: the largest of -z t^(1/4), at least 0.
    pub down: f64,
    /// The information of the last look that counted, at most 1.
    pub information: f64,
    /// The looks that counted.
    pub count: u64,
}

impl Looks {
    /// Takes a look at `z`, [`Comparison::z_look`](super::Comparison::z_look), with `information`, of which that at
    /// the horizon is 1.
    ///
    /// A look counts from an information of 0.2 on, where the boundary begins: a control that lags behind may leave it
    /// lower though both arms have their hundred trades. The first look at 1 or more is the last that counts, as 1;
    /// beyond the horizon more looks would be more chances than the boundary knows of. Not a number counts as no look.
    pub fn take(&mut self, z: f64, information: f64) {
        // What is 0.2 by division may be a trifle less.
        let counts = information >= FIRST_INFORMATION - 1e-9 && self.information < 1.0;
        if !counts || !z.is_finite() {
            return;
        }
        let t = information.min(1.0);
        let w = z * t.sqrt().sqrt();
        self.up = self.up.max(w);
        self.down = self.down.max(-w);
        self.information = t;
        self.count += 1;
    }

    /// What is known by now. Each direction has its own p, so that a crossing the one way never licenses the other.
    pub fn evidence(&self) -> Evidence {
        let stage = match self {
            _ if self.information >= 1.0 => Stage::Done,
            _ if self.count > 0 => Stage::Looking,
            _ => Stage::Waiting,
        };
        Evidence::new(boundary_probability(self.up), boundary_probability(self.down), stage)
    }
}

#[cfg(test)]
mod tests {
    use super::super::design::Direction;
    use super::*;

    #[test]
    fn as_the_recursion_has_it() {
        // By tests/fixtures/boundary.py; that on 401 looks has .1209 and .0073 for the first two.
        for (w, expected) in [
            (2.0, 0.129_286_387_5),
            (3.0, 0.007_931_059_1),
            (0.5, 0.997_603_186_7),
            (2.353, 0.053_883_846_75),
            (2.367, 0.051_915_252_72),
            (3.6, 9.405_478_356e-4),
            (8.0, 3.720_077e-15),
        ] {
            let found = boundary_probability(w);
            assert!((found / expected - 1.0).abs() < 1e-6, "{w}: {found}");
        }
        assert_eq!((boundary_probability(0.0), boundary_probability(-3.0)), (1.0, 1.0));
        assert!(boundary_probability(f64::NAN).is_nan());
        assert_eq!(boundary_probability(f64::INFINITY), 0.0);
    }

    #[test]
    fn it_falls_all_the_way() {
        let mut last = 1.0;
        for i in 1..40_000 {
            let w = f64::from(i) * 5e-4;
            let found = boundary_probability(w);
            assert!(found < last || (w < 0.25 && found == last), "{w}: {found:e} {last:e}");
            last = found;
        }
        // Where the table ends nothing jumps.
        let (before, after) = (boundary_probability(8.0 - 1e-9), boundary_probability(8.0 + 1e-9));
        assert!((before / after - 1.0).abs() < 1e-6, "{before:e} {after:e}");
        // 6 (1 - Phi(W)) is the limit.
        let far = boundary_probability(20.0) / (6.0 * normal_cdf(-20.0));
        assert!((far - 1.0).abs() < 4e-3, "{far}");
    }

    #[test]
    fn what_is_critical() {
        for alpha in [0.999, 0.5, 0.05, 0.01, 1e-6, 1e-15, 1e-100] {
            let w = boundary_critical(alpha).unwrap();
            assert!((boundary_probability(w) / alpha - 1.0).abs() < 1e-9, "{alpha}: {w}");
        }
        let usual = boundary_critical(0.05).unwrap();
        assert!((usual - 2.381_068).abs() < 2e-6, "{usual}");
        for none in [0.0, 1.0, -0.1, f64::NAN] {
            assert_eq!(boundary_critical(none), None);
        }
    }

    #[test]
    fn the_largest_of_each_direction_stays() {
        let mut looks = Looks::default();
        assert_eq!(looks.evidence(), Evidence::new(1.0, 1.0, Stage::Waiting));
        looks.take(-3.0, 0.4096);
        assert!((looks.down - 2.4).abs() < 1e-12 && looks.up == 0.0, "{looks:?}");
        looks.take(1.0, 0.6561);
        let found = looks.evidence();
        assert!((looks.up - 0.9).abs() < 1e-12 && (looks.down - 2.4).abs() < 1e-12);
        // The way down is significant, and says nothing for the way up.
        assert!(found.down < 0.05 && found.up > 0.5 && found.p == found.down, "{found:?}");
        assert_eq!((found.direction, found.stage), (Direction::Down, Stage::Looking));
    }

    #[test]
    fn what_counts_as_a_look() {
        let mut looks = Looks::default();
        looks.take(9.0, 0.199);
        looks.take(f64::NAN, 0.5);
        looks.take(f64::INFINITY, 0.5);
        assert_eq!(looks, Looks::default());
        looks.take(1.0, 50.0 / 250.0);
        looks.take(1.0, 1.7);
        assert_eq!((looks.count, looks.information, looks.up), (2, 1.0, 1.0));
        let done = looks;
        looks.take(9.0, 1.8);
        assert_eq!(looks, done);
        assert_eq!(looks.evidence().stage, Stage::Done);
    }
}
