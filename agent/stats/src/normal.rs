//! The standard normal distribution.

/// The share of a standard normal variable below `x`, to a relative error of 1e-12 in both tails.
///
/// Near the middle the Taylor series of Marsaglia, "Evaluating the Normal Distribution" (Journal of Statistical
/// Software 11, 2004), farther out the continued fraction of Laplace for Mills' ratio (Abramowitz and Stegun, 26.2.14).
pub fn normal_cdf(x: f64) -> f64 {
    let far = x.abs();
    if far < 2.5 {
        let (mut term, mut sum, mut odd) = (x, x, 3.0);
        while term.abs() > 1e-18 {
            term *= x * x / odd;
            sum += term;
            odd += 2.0;
        }
        return 0.5 + sum * density(x);
    }
    // So many terms leave an error of 1e-14, from 2.5 on.
    let terms = (300.0 / (far * far)) as u32 + 8;
    let ratio = (1..=terms).rev().fold(far, |below, k| far + f64::from(k) / below);
    let tail = density(far) / ratio;
    if x < 0.0 { tail } else { 1.0 - tail }
}

fn density(x: f64) -> f64 {
    const ROOT: f64 = 2.506_628_274_631_000_5; // sqrt(2 pi)
    (-0.5 * x * x).exp() / ROOT
}

/// The z below which a share `p` of a standard normal variable lies: the inverse of [`normal_cdf`].
///
/// Wichura, "Algorithm AS 241: The Percentage Points of the Normal Distribution" (Applied Statistics 37, 1988), the
/// routine PPND16: a relative error of 1e-16. `None` unless 0 < p < 1. A point of the upper tail is best had as that
/// of the lower one with its sign changed: 1 - p has no digits for a small p.
pub fn normal_quantile(p: f64) -> Option<f64> {
    if !(p > 0.0 && p < 1.0) {
        return None;
    }
    let middle = p - 0.5;
    if middle.abs() <= 0.425 {
        let r = 0.180625 - middle * middle;
        return Some(middle * polynomial(&MIDDLE.0, r) / polynomial(&MIDDLE.1, r));
    }
    let r = (-p.min(1.0 - p).ln()).sqrt();
    let far = if r <= 5.0 {
        polynomial(&TAIL.0, r - 1.6) / polynomial(&TAIL.1, r - 1.6)
    } else {
        polynomial(&FAR.0, r - 5.0) / polynomial(&FAR.1, r - 5.0)
    };
    Some(if middle < 0.0 { -far } else { far })
}

/// By Horner's rule, the constant first.
fn polynomial(coefficients: &[f64; 8], x: f64) -> f64 {
    coefficients.iter().rev().fold(0.0, |sum, coefficient| sum * x + coefficient)
}

type Ratio = ([f64; 8], [f64; 8]);

// Numerators and denominators of AS 241, as printed: a and b, c and d, e and f.
#[allow(clippy::excessive_precision)]
const MIDDLE: Ratio = (
    [
        3.3871328727963666080e0,
        1.3314166789178437745e2,
        1.9715909503065514427e3,
        1.3731693765509461125e4,
        4.5921953931549871457e4,
        6.7265770927008700853e4,
        3.3430575583588128105e4,
        2.5090809287301226727e3,
    ],
    [
        1.0,
        4.2313330701600911252e1,
        6.8718700749205790830e2,
        5.3941960214247511077e3,
        2.1213794301586595867e4,
        3.9307895800092710610e4,
        2.8729085735721942674e4,
        5.2264952788528545610e3,
    ],
);
#[allow(clippy::excessive_precision)]
const TAIL: Ratio = (
    [
        1.42343711074968357734e0,
        4.63033784615654529590e0,
        5.76949722146069140550e0,
        3.64784832476320460504e0,
        1.27045825245236838258e0,
        2.41780725177450611770e-1,
        2.27238449892691845833e-2,
        7.74545014278341407640e-4,
    ],
    [
        1.0,
        2.05319162663775882187e0,
        1.67638483018380384940e0,
        6.89767334985100004550e-1,
        1.48103976427480074590e-1,
        1.51986665636164571966e-2,
        5.47593808499534494600e-4,
        1.05075007164441684324e-9,
    ],
);
#[allow(clippy::excessive_precision)]
const FAR: Ratio = (
    [
        6.65790464350110377720e0,
        5.46378491116411436990e0,
        1.78482653991729133580e0,
        2.96560571828504891230e-1,
        2.65321895265761230930e-2,
        1.24266094738807843860e-3,
        2.71155556874348757815e-5,
        2.01033439929228813265e-7,
    ],
    [
        1.0,
        5.99832206555887937690e-1,
        1.36929880922735805310e-1,
        1.48753612908506148525e-2,
        7.86869131145613259100e-4,
        1.84631831751005468180e-5,
        1.42151175831644588870e-7,
        2.04426310338993978564e-15,
    ],
);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_has_no_quantile() {
        for p in [0.0, 1.0, -0.1, 1.1, f64::NAN] {
            assert_eq!(normal_quantile(p), None, "{p}");
        }
    }

    #[test]
    fn the_ends() {
        assert_eq!(normal_quantile(0.5), Some(0.0));
        assert_eq!((normal_cdf(0.0), normal_cdf(40.0), normal_cdf(f64::INFINITY)), (0.5, 1.0, 1.0));
        assert_eq!(normal_cdf(f64::NEG_INFINITY), 0.0);
        assert!(normal_cdf(f64::NAN).is_nan());
        // Two standard deviations, as the procedures say it.
        assert!((normal_cdf(-2.0) - 0.022_750_131_948_179_2).abs() < 1e-15);
    }

    proptest! {
        #[test]
        fn they_are_inverse(z in -37.0..0.0_f64) {
            let found = normal_quantile(normal_cdf(z)).unwrap();
            prop_assert!((found - z).abs() < 1e-12 * (1.0 + z.abs()), "{z} {found}");
        }

        #[test]
        fn it_is_symmetric(z in -8.0..8.0_f64) {
            prop_assert!((normal_cdf(z) + normal_cdf(-z) - 1.0).abs() < 1e-15);
        }
    }
}
