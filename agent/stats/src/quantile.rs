/// The `p`-quantile of values in ascending order, `p` from 0 to 1, by linear interpolation between the two
/// nearest order statistics: definition 7 of Hyndman and Fan, "Sample Quantiles in Statistical Packages"
/// (The American Statistician, 1996), which is also what R and numpy use by default.
///
/// `None` for no values, a `p` outside 0 to 1, or values that are not finite at the places needed. Cost: O(1).
pub fn quantile(sorted: &[f64], p: f64) -> Option<f64> {
    if sorted.is_empty() || !(0.0..=1.0).contains(&p) {
        return None;
    }
    let position = (sorted.len() - 1) as f64 * p;
    let below = position.floor();
    // Both indexes are within the slice: 0 <= position <= len - 1.
    let (low, high) = (sorted[below as usize], sorted[position.ceil() as usize]);
    let value = low + (high - low) * (position - below);
    value.is_finite().then_some(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::quantile;

    #[test]
    fn known_values() {
        let sorted = [1.0, 2.0, 3.0, 4.0];
        for (p, expected) in [(0.0, 1.0), (0.25, 1.75), (0.5, 2.5), (0.75, 3.25), (1.0, 4.0)] {
            assert_eq!(quantile(&sorted, p), Some(expected), "p = {p}");
        }
        assert_eq!(quantile(&[7.0], 0.99), Some(7.0));
    }

    #[test]
    fn what_has_no_quantile() {
        for (sorted, p) in [
            (&[][..], 0.5),
            (&[1.0], -0.1),
            (&[1.0], 1.1),
            (&[1.0], f64::NAN),
            (&[f64::INFINITY], 0.5),
        ] {
            assert_eq!(quantile(sorted, p), None, "{sorted:?} at {p}");
        }
    }

    proptest! {
        /// Against the definition by counting: at most a share p of the values lies below it, at most 1 - p above.
        #[test]
        fn it_splits_the_sample(mut values in proptest::collection::vec(-1e9..1e9_f64, 1..200), p in 0.0..=1.0_f64) {
            values.sort_by(f64::total_cmp);
            let found = quantile(&values, p).unwrap();
            let slack = (found.abs() + 1.0) * 1e-12;
            let below = values.iter().filter(|value| **value < found - slack).count() as f64;
            let above = values.iter().filter(|value| **value > found + slack).count() as f64;
            let steps = (values.len() - 1) as f64;
            prop_assert!(below <= (steps * p).ceil(), "{below} of {} below {found}", values.len());
            prop_assert!(above <= (steps * (1.0 - p)).ceil(), "{above} of {} above {found}", values.len());
        }

        #[test]
        fn it_grows_with_p(mut values in proptest::collection::vec(-1e9..1e9_f64, 1..50), p in 0.0..=1.0_f64, q in 0.0..=1.0_f64) {
            values.sort_by(f64::total_cmp);
            let (low, high) = if p <= q { (p, q) } else { (q, p) };
            prop_assert!(quantile(&values, low) <= quantile(&values, high));
        }
    }
}
