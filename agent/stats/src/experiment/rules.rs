//! The numbers of the procedures.

/// What a rollback at a large loss needs besides the loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Guard {
    /// Nothing: -10 % with the least trades in both arms rolls back, to the letter. At a small mean this is mostly
    /// chance; [`super::false_rollback`] says how much of it.
    #[default]
    Literal,
    /// z* below -2.65 too. With it 20 trades in both arms are enough, and the lift need not be defined.
    Sequential,
}

/// What decisions go by. The defaults are the procedures'.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rules {
    /// Below so many trades in an arm there is no significance: 100.
    pub least: u64,
    /// At so many trades in the smaller arm the test ends, if it is not significant: 500.
    pub horizon: u64,
    /// And at so many at last: 1,000.
    pub cap: u64,
    /// p below this is significant: 0.05.
    pub alpha: f64,
    /// From this lift on the variant may be promoted: 0.1.
    pub promote_lift: f64,
    /// Down from this lift the variant is rolled back: -0.1.
    pub rollback_lift: f64,
    /// Cohen's d must be above this for a promotion: 0.2.
    pub least_d: f64,
    /// What a rollback needs besides.
    pub guard: Guard,
    /// With the sequential guard z* must be below this: -2.65.
    pub guard_z: f64,
    /// With the sequential guard so many trades in both arms are enough: 20.
    pub guard_least: u64,
    /// The evidence of a split mismatch that holds a test must be above this: 1,000.
    pub mismatch: f64,
    /// "No difference" is equivalence where d is shown to be within this either way: 0.2.
    pub margin_d: f64,
    /// Power is told for this d: 0.2.
    pub detect_d: f64,
    /// The trades still needed are those for this power: 0.8.
    pub wanted_power: f64,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            least: 100,
            horizon: 500,
            cap: 1_000,
            alpha: 0.05,
            promote_lift: 0.1,
            rollback_lift: -0.1,
            least_d: 0.2,
            guard: Guard::Literal,
            guard_z: -2.65,
            guard_least: 20,
            mismatch: 1_000.0,
            margin_d: 0.2,
            detect_d: 0.2,
            wanted_power: 0.8,
        }
    }
}

impl Rules {
    /// What is wrong with them, if anything.
    pub fn fault(&self) -> Option<&'static str> {
        // NaN is none of these.
        let within = |value: f64| value > 0.0 && value < 1.0;
        let above = |value: f64, limit: f64| value > limit && value.is_finite();
        let faults = [
            (self.least < 2 || self.guard_least < 2, "an arm needs at least two trades"),
            (self.horizon < self.least, "the horizon is below the least trades"),
            (self.cap < self.horizon, "the cap is below the horizon"),
            (!within(self.alpha), "alpha is not between 0 and 1"),
            (!above(self.promote_lift, 0.0), "a promotion needs a lift above 0"),
            (!above(-self.rollback_lift, 0.0), "a rollback needs a lift below 0"),
            (!above(self.least_d, -f64::MIN_POSITIVE), "the least d is below 0"),
            (!above(-self.guard_z, 0.0), "the guard's z is not below 0"),
            (!above(self.mismatch, 1.0), "the evidence of a mismatch is not above 1"),
            (!above(self.margin_d, 0.0), "the margin of equivalence is not above 0"),
            (!above(self.detect_d, 0.0), "the d to detect is not above 0"),
            (!within(self.wanted_power), "the power is not between 0 and 1"),
        ];
        faults.into_iter().find_map(|(wrong, fault)| wrong.then_some(fault))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults() {
        let good = Rules::default();
        assert_eq!(good.fault(), None);
        for bad in [
            Rules { least: 1, ..good },
            Rules { guard_least: 0, ..good },
            Rules { horizon: 99, ..good },
            Rules { cap: 499, ..good },
            Rules { alpha: 0.0, ..good },
            Rules { promote_lift: -0.1, ..good },
            Rules { rollback_lift: 0.1, ..good },
            Rules { least_d: f64::NAN, ..good },
            Rules { least_d: -0.1, ..good },
            Rules { least_d: f64::INFINITY, ..good },
            Rules { promote_lift: f64::INFINITY, ..good },
            Rules { rollback_lift: f64::NEG_INFINITY, ..good },
            Rules { guard_z: 0.0, ..good },
            Rules { mismatch: 1.0, ..good },
            Rules { margin_d: 0.0, ..good },
            Rules { detect_d: 0.0, ..good },
            Rules { wanted_power: 1.0, ..good },
        ] {
            assert!(bad.fault().is_some(), "{bad:?}");
        }
    }
}
