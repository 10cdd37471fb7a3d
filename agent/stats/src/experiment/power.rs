//! How likely a difference would be found, how many trades that takes, and when there is none that matters.

use super::Comparison;
use super::critical::Critical;
use super::gamma::ln_gamma;
use crate::normal_cdf;
use crate::student::{gamma_ratio, t_upper_tail};

/// From so many degrees of freedom on the normal approximation of noncentral t is off by less than 1e-4.
const MANY: f64 = 100.0;

/// The chance that two arms of these sizes show a difference of `d` standard deviations at a two-sided level of
/// `alpha`, at one look.
///
/// By noncentral t with nC + nV - 2 degrees of freedom (Cohen 1988, section 2.3): an integral over the distribution
/// of the standard deviation, and from 100 degrees on the normal approximation of Johnson and Welch (Biometrika 31,
/// 1940; Abramowitz and Stegun, 26.7.10), off by less than 1e-4. NaN for fewer than two trades in an arm, or a d of
/// NaN.
pub fn power(d: f64, control: u64, variant: u64, alpha: f64) -> f64 {
    if control < 2 || variant < 2 {
        return f64::NAN;
    }
    power_at(d, control as f64, variant as f64, &Critical::new(alpha))
}

pub(super) fn power_at(d: f64, control: f64, variant: f64, critical: &Critical) -> f64 {
    let nu = control + variant - 2.0;
    let shift = d * (control * variant / (control + variant)).sqrt();
    let t = critical.at(nu);
    upper(t, nu, shift) + upper(t, nu, -shift)
}

/// P(T > t), T noncentral t with this shift.
fn upper(t: f64, nu: f64, shift: f64) -> f64 {
    // The mean and variance of S, the standard deviation found by the true one.
    let mean = (2.0 / nu).sqrt() * gamma_ratio(nu / 2.0);
    let variance = 1.0 - mean * mean;
    if nu >= MANY {
        return normal_cdf((shift - t * mean) / (1.0 + t * t * variance).sqrt());
    }
    // P(Z + shift > t S), by Simpson's rule over S.
    const CELLS: u32 = 200;
    let (from, to) = ((mean - 9.0 * variance.sqrt()).max(0.0), mean + 9.0 * variance.sqrt());
    let half = nu / 2.0;
    let scale = std::f64::consts::LN_2 + half * half.ln() - ln_gamma(half);
    let step = (to - from) / f64::from(CELLS);
    let sum: f64 = (1..CELLS)
        .map(|i| {
            let s = from + step * f64::from(i);
            let density = (scale + (nu - 1.0) * s.ln() - half * s * s).exp();
            let weight = if i % 2 == 1 { 4.0 } else { 2.0 };
            weight * density * normal_cdf(shift - t * s)
        })
        .sum();
    // The ends: nothing is at `to`, and at `from` only with one degree, which two arms of two can't have.
    sum * step / 3.0
}

/// The least trades of the smaller arm for which [`power`] is at least `wanted`, with a share `smaller` of all trades
/// going to it. `None` where no number is enough up to 10^9, or an argument makes no sense: d is 0 or NaN, the share
/// is not within (0, 0.5], the power not within (0, 1).
pub fn needed(d: f64, wanted: f64, smaller: f64, alpha: f64) -> Option<u64> {
    let sound = d != 0.0 && !d.is_nan() && wanted > 0.0 && wanted < 1.0;
    if !(sound && smaller > 0.0 && smaller <= 0.5) {
        return None;
    }
    let critical = Critical::new(alpha);
    let enough = |n: u64| {
        let n = n as f64;
        power_at(d, n, n * (1.0 - smaller) / smaller, &critical) >= wanted
    };
    let (mut low, mut high) = (1, 2);
    while !enough(high) {
        (low, high) = (high, high * 2);
        if high > 1_000_000_000 {
            return None;
        }
    }
    while high - low > 1 {
        let middle = u64::midpoint(low, high);
        if enough(middle) { high = middle } else { low = middle }
    }
    Some(high)
}

/// The p of the two one-sided tests for a difference within `margin` pooled standard deviations either way: below
/// alpha, equivalence is shown.
///
/// Schuirmann, "A Comparison of the Two One-Sided Tests Procedure and the Power Approach" (Journal of Pharmacokinetics
/// and Biopharmaceutics 15, 1987), with Welch's standard error and degrees of freedom. The margin's standard deviation
/// is taken as known. Without any variance 0 if the means are equal, else 1.
pub fn equivalence(compared: &Comparison, margin: f64) -> f64 {
    if compared.standard_error == 0.0 {
        return if compared.difference == 0.0 { 0.0 } else { 1.0 };
    }
    // The larger of the two p is that of the nearer end.
    let room = margin * compared.pooled_sd - compared.difference.abs();
    t_upper_tail(room / compared.standard_error, compared.nu)
}

#[cfg(test)]
mod tests {
    use super::super::{Moments, compare};
    use super::*;

    #[test]
    fn what_makes_no_sense() {
        assert!(power(0.2, 1, 100, 0.05).is_nan() && power(f64::NAN, 100, 100, 0.05).is_nan());
        for (d, wanted, smaller) in [
            (0.0, 0.8, 0.5),
            (f64::NAN, 0.8, 0.5),
            (0.2, 1.0, 0.5),
            (0.2, 0.8, 0.6),
            (0.2, 0.8, 0.0),
        ] {
            assert_eq!(needed(d, wanted, smaller, 0.05), None, "{d} {wanted} {smaller}");
        }
        assert_eq!(needed(1e-6, 0.8, 0.5, 0.05), None);
    }

    #[test]
    fn needed_is_the_least() {
        for (d, smaller) in [(0.2, 0.5), (0.3, 0.1), (1.5, 0.5), (-0.2, 0.5), (8.0, 0.5)] {
            let n = needed(d, 0.8, smaller, 0.05).unwrap();
            let at = |n: u64| {
                let n = n as f64;
                power_at(d, n, n * (1.0 - smaller) / smaller, &Critical::new(0.05))
            };
            assert!(at(n) >= 0.8 && (n <= 2 || at(n - 1) < 0.8), "{d} {smaller}: {n}");
        }
        // Cohen's table 2.4.1: 393 for .2.
        assert_eq!(needed(0.2, 0.8, 0.5, 0.05), Some(394));
    }

    #[test]
    fn no_difference_has_the_power_alpha() {
        for n in [3, 40, 51, 52, 400] {
            let found = power(0.0, n, n, 0.05);
            assert!((found - 0.05).abs() < 5e-5, "{n}: {found}");
        }
    }

    #[test]
    fn equivalence_is_shown_by_many_equal_trades_only() {
        let arm = |n: usize, mean: f64| {
            (0..n).map(|i| mean + if i % 2 == 0 { -1.0 } else { 1.0 }).collect::<Moments>()
        };
        let p = |n, mean| equivalence(&compare(&arm(n, 0.0), &arm(n, mean)).unwrap(), 0.2);
        assert!(p(1_000, 0.0) < 1e-5 && p(1_000, 0.1) < 0.05 && p(100, 0.0) > 0.05);
        assert!(p(10_000, 0.21) > 0.5 && (p(1_000, 0.1) - p(1_000, -0.1)).abs() < 1e-12);
        let flat = |mean| [mean; 9].into_iter().collect::<Moments>();
        assert_eq!(equivalence(&compare(&flat(1.0), &flat(1.0)).unwrap(), 0.2), 0.0);
        assert_eq!(equivalence(&compare(&flat(1.0), &flat(2.0)).unwrap(), 0.2), 1.0);
    }
}
