//! Sums of nanoseconds, which do not depend on the order of what is added.

use super::index::{BIAS, MANTISSA};

/// A sum in two halves, as almost all additions need the lower one only. It saturates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Nanos {
    low: u64,
    high: u64,
}

impl From<u128> for Nanos {
    fn from(nanos: u128) -> Self {
        Self { low: nanos as u64, high: (nanos >> 64) as u64 }
    }
}

impl Nanos {
    pub(super) fn get(self) -> u128 {
        u128::from(self.high) << 64 | u128::from(self.low)
    }

    #[inline]
    pub(super) fn add(&mut self, nanos: u64) {
        match self.low.checked_add(nanos) {
            Some(low) => self.low = low,
            None => self.add_many(nanos.into()),
        }
    }

    #[cold]
    #[inline(never)]
    pub(super) fn add_many(&mut self, nanos: u128) {
        *self = self.get().saturating_add(nanos).into();
    }
}

/// A value from 0 to 2^32 s in nanoseconds, rounded half up.
#[inline]
pub(super) fn nanos(seconds: f64) -> u64 {
    let bits = seconds.to_bits();
    let shift = 32 + BIAS as u32 - (bits >> MANTISSA) as u32;
    if shift >= u64::BITS {
        // Below 2^-31, less than half a nanosecond.
        return 0;
    }
    // The mantissa with its hidden one, times 2^11; then times 10^9 2^-30, which leaves 64 bits. Integers, as they are
    // exact where a product of floats is not, and take half the time.
    let mantissa = 1 << 63 | bits << (63 - MANTISSA);
    let product = ((u128::from(mantissa) * (1_000_000_000 << 34)) >> 64) as u64;
    // What is left now is halves.
    ((product >> shift) + 1) >> 1
}

#[cfg(test)]
mod tests {
    use super::super::index::upper;
    use super::*;

    #[test]
    fn it_carries_and_saturates() {
        let mut sum = Nanos::from(u128::from(u64::MAX) - 1);
        sum.add(1);
        assert_eq!(sum.get(), u64::MAX.into());
        sum.add(3);
        assert_eq!(sum.get(), (1 << 64) + 2);
        sum.add_many(u128::MAX - 1);
        assert_eq!(sum.get(), u128::MAX);
        sum.add(1);
        assert_eq!(sum.get(), u128::MAX);
    }

    #[test]
    fn nanoseconds_are_rounded() {
        for (seconds, expected) in [
            (0.0, 0),
            (0.4e-9, 0),
            (0.6e-9, 1),
            (1.499e-9, 1),
            (1.501e-9, 2),
            (1.5e-3, 1_500_000),
            (0.123_456_789_4, 123_456_789),
            (4_294_967_296.0, 4_294_967_296_000_000_000),
        ] {
            assert_eq!(nanos(seconds), expected, "{seconds}");
        }
        // Against the definition, in integers: mantissa 10^9 / 2^shift.
        for index in -1_913..=2_048 {
            let seconds = upper(index, 0);
            let mantissa =
                u128::from(seconds.to_bits() % (1 << MANTISSA) + (1 << MANTISSA)) * 1_000_000_000;
            let shift = 52 + BIAS as u64 - (seconds.to_bits() >> MANTISSA);
            let half = 1 << shift >> 1;
            assert_eq!(u128::from(nanos(seconds)), (mantissa + half) >> shift, "{seconds}");
        }
        assert_eq!(nanos(0.5e-9_f64.next_up()), 1);
        assert_eq!((nanos(f64::MIN_POSITIVE), nanos(5e-324), nanos(2.0_f64.powi(-31))), (0, 0, 0));
    }
}
