//! How much more, in shares of the control's mean, the variant makes.

use super::critical::Critical;
use super::{Comparison, Moments};

/// Why there is no lift.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoLift {
    /// Fewer than two trades of the control.
    TooFew,
    /// The confidence interval of the control's mean covers 0: it may have either sign, and a share of it says nothing.
    ControlMayBeZero,
    /// The control's mean is so small that the share is no number.
    NotFinite,
}

/// The variant's mean against the control's, as a share: 0.1 is +10 %.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Lift {
    /// It can be told.
    Defined {
        /// (mV - mC) / |mC|.
        value: f64,
        /// Its confidence interval. `None` where it has no end: in the narrow band where the control's own interval
        /// just spares 0, but Fieller's does not.
        interval: Option<(f64, f64)>,
    },
    /// It can't.
    Undefined(NoLift),
}

impl Lift {
    /// (mV - mC) / |mC|, if it is defined.
    pub fn value(&self) -> Option<f64> {
        match self {
            Self::Defined { value, .. } => Some(*value),
            Self::Undefined(_) => None,
        }
    }
}

/// The lift, with an interval at the level of `critical`.
///
/// Undefined where the control's t interval, nC - 1 degrees of freedom, covers 0. The interval: Fieller, "Some Problems
/// in Interval Estimation" (Journal of the Royal Statistical Society B 16, 1954), for means with unequal variances,
/// with the degrees of freedom of Satterthwaite at the ratio as Tamhane and Logan have them (Statistics in Medicine
/// 23, 2004).
pub(super) fn lift(
    control: &Moments,
    variant: &Moments,
    compared: &Comparison,
    critical: &Critical,
) -> Lift {
    let (Some(variance_c), Some(variance_v)) = (control.variance(), variant.variance()) else {
        return Lift::Undefined(NoLift::TooFew);
    };
    let (nc, nv) = (control.n() as f64, variant.n() as f64);
    let (mean, part_c, part_v) = (control.mean(), variance_c / nc, variance_v / nv);
    if mean == 0.0 || mean.abs() <= critical.at(nc - 1.0) * part_c.sqrt() {
        return Lift::Undefined(NoLift::ControlMayBeZero);
    }
    let value = compared.difference / mean.abs();
    if !value.is_finite() {
        return Lift::Undefined(NoLift::NotFinite);
    }
    // Relative to the control's mean: the ratio of the means is 1 + `above`, its two variances are `c` and `v`.
    let above = compared.difference / mean;
    let ratio = 1.0 + above;
    let (c, v) = (part_c / mean / mean, part_v / mean / mean);
    let square = v + ratio * ratio * c;
    if square == 0.0 {
        return Lift::Defined { value, interval: Some((value, value)) };
    }
    let (share_v, share_c) = (v / square, ratio * ratio * c / square);
    let nu = 1.0 / (share_v * share_v / (nv - 1.0) + share_c * share_c / (nc - 1.0));
    let t = critical.at(nu);
    let blur = t * t * c;
    let interval = (blur < 1.0 && square.is_finite()).then(|| {
        let half = t * (square - blur * v).max(0.0).sqrt();
        // (ratio -+ half) / (1 - blur) - 1, without cancellation; the smaller a share is of a negative mean, the
        // larger the lift.
        let end = |half: f64| mean.signum() * (above + blur + half) / (1.0 - blur);
        let (one, other) = (end(-half), end(half));
        (one.min(other), one.max(other))
    });
    Lift::Defined { value, interval }
}

#[cfg(test)]
mod tests {
    use super::super::compare;
    use super::*;

    fn of(control: &Moments, variant: &Moments) -> Lift {
        lift(control, variant, &compare(control, variant).unwrap(), &Critical::new(0.05))
    }

    fn arm(mean: f64, spread: f64, n: usize) -> Moments {
        (0..n).map(|i| if i % 2 == 0 { mean - spread } else { mean + spread }).collect()
    }

    #[test]
    fn the_sign_is_that_of_the_difference() {
        // Means, and what is expected.
        for (control, variant, expected) in [
            (1.0, 1.1, 0.1),
            (1.0, 0.9, -0.1),
            (2.0, -1.0, -1.5),
            (-1.0, -0.5, 0.5),
            (-1.0, -2.0, -1.0),
            (-1.0, 1.0, 2.0),
            (1e-9, 1.5e-9, 0.5),
        ] {
            let spread = f64::abs(control) / 10.0;
            let found = of(&arm(control, spread, 200), &arm(variant, spread, 200));
            let Lift::Defined { value, interval: Some((low, high)) } = found else {
                panic!("{control} {variant}: {found:?}")
            };
            assert!((value - expected).abs() < 1e-12, "{control} {variant}: {value}");
            assert!(low < value && value < high, "{control} {variant}: {found:?}");
        }
    }

    #[test]
    fn without_a_control_that_is_off_zero_there_is_none() {
        let undefined = Lift::Undefined(NoLift::ControlMayBeZero);
        assert_eq!(of(&arm(0.0, 1.0, 400), &arm(5.0, 1.0, 400)), undefined);
        assert_eq!(of(&arm(0.0, 0.0, 400), &arm(5.0, 1.0, 400)), undefined);
        // The half-width is 1.966 / 20 = 0.0983 at 400 trades.
        assert_eq!(of(&arm(0.098, 1.0, 400), &arm(5.0, 1.0, 400)), undefined);
        assert_eq!(of(&arm(-0.098, 1.0, 400), &arm(5.0, 1.0, 400)), undefined);
        let just = of(&arm(0.0986, 1.0, 400), &arm(5.0, 1.0, 400));
        assert!(just.value().is_some(), "{just:?}");
        let tiny = of(&arm(1e-250, 0.0, 400), &arm(5e89, 0.0, 400));
        assert_eq!(tiny, Lift::Undefined(NoLift::NotFinite));
    }

    /// The control's mean is 2.1 standard errors off 0, enough by its 399 degrees of freedom, but the ratio has 2.
    #[test]
    fn an_interval_may_have_no_end() {
        let variant = [5.0, 9.0, 1.0].into_iter().collect();
        let found = of(&arm(0.105, 1.0, 400), &variant);
        assert!(
            matches!(found, Lift::Defined { value, interval: None } if value > 40.0),
            "{found:?}"
        );
    }

    #[test]
    fn without_variance_the_interval_is_a_point() {
        let found = of(&arm(2.0, 0.0, 100), &arm(1.0, 0.0, 100));
        assert_eq!(found, Lift::Defined { value: -0.5, interval: Some((-0.5, -0.5)) });
    }

    /// The ends of Fieller's interval are where the t of mV - rho mC is the critical one.
    #[test]
    fn its_ends_are_just_significant() {
        let (control, variant) = (arm(1.0, 2.0, 300), arm(1.3, 1.0, 150));
        let Lift::Defined { value, interval: Some((low, high)) } = of(&control, &variant) else {
            panic!()
        };
        let (c, v) = (control.variance().unwrap() / 300.0, variant.variance().unwrap() / 150.0);
        let t = |lift: f64| (1.3 - (1.0 + lift)) / (v + (1.0 + lift).powi(2) * c).sqrt();
        assert!((t(low) + t(high)).abs() < 1e-12 && (1.96..1.98).contains(&t(low)), "{}", t(low));
        assert!(high - value > value - low);
    }
}
