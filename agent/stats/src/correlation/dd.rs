//! Sums and products of twice the precision of an f64.

/// hi + lo, where lo is at most half an ulp of hi: some 106 bits.
///
/// Knuth's TwoSum (The Art of Computer Programming 2, 4.2.2, theorem B), Dekker's Fast2Sum (Numerische Mathematik 18,
/// 1971), and products by a fused multiplication; put together as the accurate and sloppy variants of Joldes, Muller
/// and Popescu, "Tight and Rigorous Error Bounds for Basic Building Blocks of Double-Word Arithmetic" (ACM TOMS 44,
/// 2017), algorithms 4, 6, 9 and 11: relative errors of a few 2^-106.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Dd {
    hi: f64,
    lo: f64,
}

#[inline(always)]
fn two_sum(a: f64, b: f64) -> Dd {
    let hi = a + b;
    let b_in = hi - a;
    Dd { hi, lo: (a - (hi - b_in)) + (b - b_in) }
}

#[inline(always)]
fn fast_two_sum(larger: f64, smaller: f64) -> Dd {
    let hi = larger + smaller;
    Dd { hi, lo: smaller - (hi - larger) }
}

impl From<f64> for Dd {
    #[inline(always)]
    fn from(hi: f64) -> Self {
        Self { hi, lo: 0.0 }
    }
}

impl Dd {
    /// a - b, exactly.
    #[inline(always)]
    pub(super) fn difference(a: f64, b: f64) -> Self {
        two_sum(a, -b)
    }

    /// a b, exactly but for underflow.
    #[inline(always)]
    pub(super) fn product(a: f64, b: f64) -> Self {
        let hi = a * b;
        Self { hi, lo: a.mul_add(b, -hi) }
    }

    #[inline(always)]
    pub(super) fn plus(self, b: f64) -> Self {
        let sum = two_sum(self.hi, b);
        fast_two_sum(sum.hi, sum.lo + self.lo)
    }

    #[inline(always)]
    pub(super) fn add(self, other: Self) -> Self {
        let high = two_sum(self.hi, other.hi);
        let low = two_sum(self.lo, other.lo);
        let sum = fast_two_sum(high.hi, high.lo + low.hi);
        fast_two_sum(sum.hi, sum.lo + low.lo)
    }

    #[inline(always)]
    pub(super) fn times(self, b: f64) -> Self {
        let product = Self::product(self.hi, b);
        fast_two_sum(product.hi, self.lo.mul_add(b, product.lo))
    }

    #[inline(always)]
    pub(super) fn mul(self, other: Self) -> Self {
        let product = Self::product(self.hi, other.hi);
        // In an order that makes a b and b a the same.
        let cross = self.hi * other.lo + self.lo * other.hi;
        fast_two_sum(product.hi, product.lo + cross)
    }

    /// The nearest f64.
    #[inline(always)]
    pub(super) fn value(self) -> f64 {
        self.hi + self.lo
    }

    #[inline(always)]
    pub(super) fn is_zero(self) -> bool {
        self.hi == 0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_f64_loses_is_kept() {
        let sum = Dd::from(1e16).plus(1.0).plus(1.0).plus(1.0);
        assert_eq!(sum.add(Dd::from(-1e16)).value(), 3.0);
        let tiny = 2.0_f64.powi(-30);
        // (1 + t)^2 = 1 + 2 t + t^2, whose last term is below an ulp of the first.
        let square = Dd::product(1.0 + tiny, 1.0 + tiny);
        assert_eq!(square.plus(-1.0).plus(-2.0 * tiny).value(), tiny * tiny);
        assert_eq!(Dd::difference(1e9 + 0.25, 1e-9).plus(-1e9).plus(-0.25).value(), -1e-9);
        let third = Dd::from(1.0).times(3.0).mul(Dd::difference(1.0, tiny * tiny));
        assert_eq!(third.plus(-3.0).value(), -3.0 * tiny * tiny);
        assert!(Dd::default().is_zero() && !sum.is_zero());
    }
}
