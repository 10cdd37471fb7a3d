//! Student's t distribution.

use crate::normal_cdf;

/// The share of a t variable with `df` degrees of freedom (whole or not) above `t`, to a relative error of 1e-12
/// for up to a thousand degrees and of 1e-10 for any number, down to 1e-300.
///
/// I_x(df/2, 1/2)/2 with x = df/(df + t^2) (Abramowitz and Stegun, 26.7.1 and 26.5.27); with many degrees, where x has
/// too few digits left and the fraction too many terms, Hill's normal approximation. NaN unless `df` is positive.
pub fn t_upper_tail(t: f64, df: f64) -> f64 {
    if df.is_nan() || df <= 0.0 || t.is_nan() {
        return f64::NAN;
    }
    if t < 0.0 {
        return 1.0 - t_upper_tail(-t, df);
    }
    let (a, square) = (df / 2.0, t * t / df);
    if square.is_infinite() {
        return 0.0;
    }
    // Off by less than 1e-12 in the one, by less than 1e-11 in the other case.
    if (df >= 200.0 && t <= 5.0) || df >= 20_000.0 {
        return normal_cdf(-as_normal(t, df));
    }
    // x and 1 - x, each without cancellation.
    let (x, rest) = (1.0 / (1.0 + square), square / (1.0 + square));
    // x^a (1 - x)^(1/2) / B(a, 1/2), with B(a, 1/2) = sqrt(pi) / ratio.
    let power = (-a * square.ln_1p()).exp() * rest.sqrt();
    let front = power * gamma_ratio(a) / std::f64::consts::PI.sqrt();
    // The fraction converges quickly on one side of the mean only.
    if x < (a + 1.0) / (a + 2.5) {
        0.5 * front / a * fraction(a, 0.5, x)
    } else {
        0.5 - front * fraction(0.5, a, rest)
    }
}

/// The t that a share `p` of a t variable with `df` degrees of freedom lies above, by bisection of [`t_upper_tail`].
/// `None` unless 0 < p < 1 and `df` is positive, or where it is no finite number.
pub fn t_upper_quantile(p: f64, df: f64) -> Option<f64> {
    if !(p > 0.0 && p < 1.0 && df > 0.0) {
        return None;
    }
    if p > 0.5 {
        return t_upper_quantile(1.0 - p, df).map(|t| -t);
    }
    let (mut low, mut high) = (0.0, 1.0_f64);
    while t_upper_tail(high, df) > p {
        (low, high) = (high, high * 2.0);
        if (high * high / df).is_infinite() {
            return None;
        }
    }
    loop {
        let middle = low + (high - low) / 2.0;
        if middle <= low || middle >= high {
            return Some(middle);
        }
        if t_upper_tail(middle, df) > p { low = middle } else { high = middle }
    }
}

/// The z of a normal variable whose upper tail is that of t, from many degrees of freedom on.
///
/// Hill, "Algorithm 395: Student's t-Distribution" (Communications of the ACM 13, 1970), the expansion with his
/// remainder.
fn as_normal(t: f64, df: f64) -> f64 {
    let a = df - 0.5;
    let b = 48.0 * a * a;
    let z = a * (t * t / df).ln_1p();
    let last = (((-0.4 * z - 3.3) * z - 24.0) * z - 85.5) / (0.8 * z * z + 100.0 + b);
    ((last + z + 3.0) / b + 1.0) * z.sqrt()
}

/// The density of a t variable with `df` degrees of freedom at `t`.
pub(crate) fn t_density(t: f64, df: f64) -> f64 {
    let a = df / 2.0;
    let power = (-(a + 0.5) * (t * t / df).ln_1p()).exp();
    gamma_ratio(a) * power / (df * std::f64::consts::PI).sqrt()
}

/// Gamma(a + 1/2) / Gamma(a): the asymptotic series (Tricomi and Erdelyi, Pacific Journal of Mathematics 1, 1951)
/// from 60 on, below it by the recurrence of the gamma function.
pub(crate) fn gamma_ratio(a: f64) -> f64 {
    let (mut a, mut factor) = (a, 1.0);
    while a < 60.0 {
        factor *= a / (a + 0.5);
        a += 1.0;
    }
    let series = [1.0, -1.0 / 8.0, 1.0 / 128.0, 5.0 / 1024.0, -21.0 / 32768.0, -399.0 / 262144.0];
    factor * a.sqrt() * series.iter().rev().fold(0.0, |sum, term| sum / a + term)
}

/// The continued fraction of the incomplete beta function (Abramowitz and Stegun, 26.5.8) by the method of Lentz as
/// modified by Thompson and Barnett (Journal of Computational Physics 64, 1986).
fn fraction(a: f64, b: f64, x: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let apart = |value: f64| if value.abs() < TINY { TINY } else { value };
    let mut c = 1.0;
    let mut d = 1.0 / apart(1.0 - (a + b) * x / (a + 1.0));
    let mut found = d;
    for m in (1..10_000).map(f64::from) {
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        let mut change = 1.0;
        for term in [even, odd] {
            d = 1.0 / apart(1.0 + term * d);
            c = apart(1.0 + term / c);
            change = c * d;
            found *= change;
        }
        if (change - 1.0).abs() < 1e-16 {
            break;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_can_be_had_by_hand() {
        // One degree is Cauchy's distribution, two have a closed form, and very many are the normal one.
        for t in [0.0_f64, 0.3, 1.0, 7.0, 1e6] {
            let cauchy = if t == 0.0 { 0.5 } else { (1.0 / t).atan() / std::f64::consts::PI };
            assert!((t_upper_tail(t, 1.0) / cauchy - 1.0).abs() < 1e-12, "{t}");
            let two = 1.0 / ((2.0 + t * t).sqrt() * ((2.0 + t * t).sqrt() + t));
            assert!((t_upper_tail(t, 2.0) / two - 1.0).abs() < 1e-12, "{t}");
        }
        // Off by (t^3 + t) / (4 df) times the density.
        assert!((t_upper_tail(2.0, 1e6) / crate::normal_cdf(-2.0) - 1.0).abs() < 1e-5);
        assert_eq!(t_upper_tail(f64::INFINITY, 5.0), 0.0);
        assert_eq!(t_upper_tail(f64::NEG_INFINITY, 5.0), 1.0);
    }

    #[test]
    fn what_has_none() {
        for (p, df) in [(0.0, 5.0), (1.0, 5.0), (f64::NAN, 5.0), (0.1, 0.0), (0.1, f64::NAN)] {
            assert_eq!(t_upper_quantile(p, df), None, "{p} {df}");
        }
        assert!(t_upper_tail(1.0, -1.0).is_nan() && t_upper_tail(f64::NAN, 1.0).is_nan());
        assert_eq!(t_upper_quantile(1e-300, 0.01), None);
        assert_eq!(t_upper_quantile(0.5, 3.0).map(|t| t < 1e-12), Some(true));
    }

    proptest! {
        #[test]
        fn they_are_inverse(p in 1e-9..0.999_f64, df in 0.5..200.0_f64) {
            let t = t_upper_quantile(p, df).unwrap();
            prop_assert!((t_upper_tail(t, df) / p - 1.0).abs() < 1e-10, "{t}");
        }
    }
}
