use proptest::prelude::*;

use super::super::index::MAX_LEVEL;
use super::{Sketch, of};

const MOST: f64 = 4_294_967_296.0;

#[test]
fn what_is_no_latency_is_counted_only() {
    let rejected = [
        f64::NAN,
        -f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::MAX,
        f64::MIN,
        MOST.next_up(),
        -1.0,
        -1e-300,
        -5e-324,
    ];
    for level in 0..=MAX_LEVEL {
        let (mut sketch, mut clean) = (Sketch::new(), Sketch::new());
        sketch.collapse_to(level);
        clean.collapse_to(level);
        for (number, value) in rejected.into_iter().enumerate() {
            assert!(!sketch.insert(value), "{value}");
            assert_eq!(sketch.rejected(), number as u64 + 1, "{value}");
            // What comes later is not disturbed.
            assert!(sketch.insert(0.25) && clean.insert(0.25));
            assert_eq!((sketch.quantile(1.0), sketch.count()), (Some(0.25), clean.count()));
        }
        let mut parts = sketch.to_parts();
        parts.rejected = 0;
        assert_eq!(Sketch::from_parts(parts), Ok(clean), "level {level}");
    }
}

#[test]
fn what_is_next_to_nothing_is_zero() {
    for level in 0..=MAX_LEVEL {
        let mut sketch = Sketch::new();
        sketch.collapse_to(level);
        let tiny = [0.0, -0.0, 5e-324, f64::MIN_POSITIVE, 1e-300, 4e-10, 1e-9_f64.next_down()];
        for value in tiny {
            assert!(sketch.insert(value), "{value}");
        }
        assert_eq!((sketch.zeros(), sketch.count(), sketch.rejected()), (7, 7, 0));
        assert_eq!((sketch.buckets().count(), sketch.raw()), (0, (0, &[][..])));
        assert_eq!(sketch.quantile(1.0), Some(0.0));
        assert_eq!((sketch.max(), sketch.sum_nanos()), (Some(1e-9_f64.next_down()), 1));
        assert!(sketch.min().is_some_and(|min| min == 0.0 && min.is_sign_positive()));
        assert!(sketch.insert(1e-9) && sketch.insert(MOST));
        assert_eq!((sketch.zeros(), sketch.buckets().count()), (7, 2), "level {level}");
        assert_eq!((sketch.above(0.0), sketch.max()), (2, Some(MOST)));
        // The bounds hold where the bucket beyond is one that there is.
        assert!(sketch.insert(1e-9_f64.next_down()) && !sketch.insert(MOST.next_up()));
        assert_eq!((sketch.zeros(), sketch.above(0.0), sketch.rejected()), (8, 2, 1));
    }
    // Negative zero first, so that nothing else is there to be smaller.
    assert!(of(&[-0.0]).min().is_some_and(f64::is_sign_positive));
    // No zero is there: what stands for them is not below the smallest.
    assert_eq!(of(&[5e-10]).quantile(0.5), Some(5e-10));
}

#[test]
fn counts_saturate() {
    let mut sketch = Sketch::new();
    for value in [0.1, 0.0, -1.0] {
        sketch.insert_count(value, u64::MAX - 1);
        for _ in 0..3 {
            sketch.insert(value);
        }
    }
    assert_eq!((sketch.zeros(), sketch.rejected(), sketch.count()), (u64::MAX, u64::MAX, u64::MAX));
    assert_eq!(sketch.raw().1, [u64::MAX]);
    assert_eq!(sketch.quantile(0.25), Some(0.0));
    assert_eq!(sketch.quantile(1.0), Some(0.1));
    let other = sketch.clone();
    sketch.merge(&other);
    assert_eq!((sketch.raw(), sketch.zeros()), (other.raw(), u64::MAX));
    sketch.insert_count(0.101, 7);
    sketch.collapse_to(5);
    assert_eq!(sketch.raw().1, [u64::MAX]);
    assert_eq!(Sketch::from_bytes(&sketch.to_bytes()), Ok(sketch.clone()));
    for _ in 0..3 {
        sketch.insert_count(MOST, u64::MAX);
        sketch.insert_count(MOST / 2.0, u64::MAX);
    }
    assert_eq!(sketch.sum_nanos(), u128::MAX);
    assert!(sketch.mean().unwrap().is_finite() && sketch.deviation().unwrap().is_finite());
    assert!(sketch.interval(0.99).is_some());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Any bits as values, in any sketch: never a panic, all counted, and the neighbours are kept apart.
    #[test]
    fn any_float_is_taken(bits in proptest::collection::vec(any::<u64>(), 0..60), level in 0..=10_u32, limit in 0..40_usize) {
        let values: Vec<_> = bits.into_iter().map(f64::from_bits).collect();
        let mut sketch = Sketch::with_limit(limit);
        sketch.collapse_to(level);
        sketch.insert_all(&values);
        let accepted: Vec<_> = values.iter().copied().filter(|value| (0.0..=MOST).contains(value)).collect();
        prop_assert_eq!(sketch.count(), accepted.len() as u64);
        prop_assert_eq!(sketch.rejected(), (values.len() - accepted.len()) as u64);
        prop_assert_eq!(sketch.max(), accepted.iter().copied().reduce(f64::max));
        prop_assert_eq!(Sketch::from_bytes(&sketch.to_bytes()), Ok(sketch));
    }
}
