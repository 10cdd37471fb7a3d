//! The power of ten that a column has in common.

/// A power of ten. Divides without a division: by 2^n with a shift, and by 5^n, where that leaves nothing over, by
/// multiplying with its inverse modulo 2^64 (Granlund and Montgomery, "Division by Invariant Integers using
/// Multiplication", PLDI 1994, section 9).
#[derive(Debug, Clone, Copy)]
pub(super) struct Power {
    exponent: u8,
    power: u64,
    inverse: u64,
}

/// The greatest exponent whose power is a u64.
const GREATEST: u8 = 19;

impl Power {
    /// `None` where the power is no u64.
    pub(super) fn new(exponent: u8) -> Option<Self> {
        (exponent <= GREATEST).then(|| Self::of(exponent))
    }

    /// The greatest that divides all of the values.
    pub(super) fn common(values: &[u64]) -> Self {
        let mut power = Self::of(GREATEST);
        for value in values {
            while !power.divides(*value) {
                power = Self::of(power.exponent - 1);
            }
            if power.exponent == 0 {
                break;
            }
        }
        power
    }

    fn of(exponent: u8) -> Self {
        let power = 10_u64.wrapping_pow(exponent.into());
        let odd = power >> exponent;
        // Newton's iteration doubles the bits that are right; an odd number is its own inverse modulo 8.
        let mut inverse = odd;
        for _ in 0..5 {
            inverse = inverse.wrapping_mul(2_u64.wrapping_sub(odd.wrapping_mul(inverse)));
        }
        Self { exponent, power, inverse }
    }

    pub(super) fn exponent(self) -> u8 {
        self.exponent
    }

    /// The greatest number of which the multiple is a u64.
    pub(super) fn most(self) -> u64 {
        u64::MAX / self.power
    }

    fn divides(self, value: u64) -> bool {
        let quotient = self.divide(value);
        quotient <= self.most() && self.multiply(quotient) == value
    }

    /// What a multiple is a multiple of. For other numbers the result is arbitrary.
    #[inline(always)]
    pub(super) fn divide(self, multiple: u64) -> u64 {
        (multiple >> self.exponent).wrapping_mul(self.inverse)
    }

    /// The multiple. Wraps around above [`Power::most`].
    #[inline(always)]
    pub(super) fn multiply(self, value: u64) -> u64 {
        value.wrapping_mul(self.power)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_common_power_is_the_greatest() {
        for (values, exponent) in [
            (&[][..], 19),
            (&[0], 19),
            (&[1], 0),
            (&[0, 1_000], 3),
            (&[5_000_000, 20_000, 7_000], 3),
            (&[20_000, 3], 0),
            (&[u64::MAX], 0),
            (&[10_000_000_000_000_000_000], 19),
            (&[1 << 19], 0),
            (&[19_073_486_328_125], 0),
        ] {
            assert_eq!(Power::common(values).exponent(), exponent, "{values:?}");
        }
        assert!(Power::new(20).is_none());
    }

    proptest! {
        #[test]
        fn multiples_are_divided(exponent in 0..=GREATEST, value in any::<u64>()) {
            let power = Power::new(exponent).unwrap();
            let value = value % power.most().saturating_add(1).max(1);
            prop_assert_eq!(power.divide(power.multiply(value)), value);
        }

        #[test]
        fn divisibility_is_that_of_the_remainder(exponent in 0..=GREATEST, value in any::<u64>(), zeros in 0..=GREATEST) {
            let value = value / 10_u64.pow(zeros.into()) * 10_u64.pow(zeros.into());
            let divides = value % 10_u64.pow(exponent.into()) == 0;
            prop_assert_eq!(Power::of(exponent).divides(value), divides);
        }
    }
}
