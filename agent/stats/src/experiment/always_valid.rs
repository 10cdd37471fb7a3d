//! A test without a horizon.

use super::design::{Evidence, Stage};

/// The variance of the mixture, in units of 1 / the information at the horizon: where p = 0.05 it needs the smallest z,
/// 3.04, at an information of 1. It solves r = -2 ln(0.05) + ln(1 + r).
const MIXTURE: f64 = 8.2123;

/// p = 1 / the largest mixture likelihood ratio so far, valid at any time and for ever.
///
/// Robbins, "Statistical Methods Related to the Law of the Iterated Logarithm" (Annals of Mathematical Statistics 41,
/// 1970), with the normal mixture; as a p-value Johari, Koomen, Pekelis and Walsh, "Always Valid Inference" (Operations
/// Research 70, 2022), section 4; for means of any distribution as Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas,
/// "Time-Uniform Central Limit Theory and Asymptotic Confidence Sequences" (Annals of Statistics 52, 2024). With
/// S = z sqrt(t) and r the mixture's variance, L = exp(r S^2 / (2 (1 + r t))) / sqrt(1 + r t).
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct AlwaysValid {
    /// The largest ln L of the looks where the variant was ahead, at least 0.
    pub up: f64,
    /// The same where it was behind.
    pub down: f64,
    /// The looks that counted.
    pub count: u64,
}

impl AlwaysValid {
    /// Takes a look at `z` with `information`, of which that at the horizon is 1; it may be more. Not a number,
    /// or no information, counts as no look.
    pub fn take(&mut self, z: f64, information: f64) {
        if !(z.is_finite() && information > 0.0 && information.is_finite()) {
            return;
        }
        let gained = 1.0 + MIXTURE * information;
        let found = MIXTURE * z * z * information / (2.0 * gained) - 0.5 * gained.ln();
        let side = if z > 0.0 { &mut self.up } else { &mut self.down };
        *side = side.max(found);
        self.count += 1;
    }

    /// What is known by now.
    pub fn evidence(&self) -> Evidence {
        let stage = if self.count > 0 { Stage::Looking } else { Stage::Waiting };
        Evidence::new((-self.up).exp(), (-self.down).exp(), stage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        let mut looks = AlwaysValid::default();
        looks.take((1.0 + MIXTURE).sqrt(), 1.0);
        // exp(r / 2) / sqrt(1 + r) = 20.
        let evidence = looks.evidence();
        assert!((evidence.p - 0.05).abs() < 1e-5 && evidence.down == 1.0, "{evidence:?}");
        looks.take(-1.0, 3.0);
        assert_eq!(looks.evidence(), evidence);
        looks.take(-6.0, 3.0);
        assert!(looks.evidence().down < 1e-6 && looks.evidence().up == evidence.up);
        for (z, t) in [(f64::NAN, 1.0), (9.0, 0.0), (9.0, f64::NAN)] {
            looks.take(z, t);
        }
        assert_eq!(looks.count, 3);
    }
}
