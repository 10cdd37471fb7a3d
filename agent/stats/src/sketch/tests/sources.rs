use proptest::prelude::*;

use super::super::SketchError;
use super::{Random, Sketch, of, samples};

/// The histogram as OTLP has it: the index is one lower.
fn exponential(sketch: &Sketch) -> Result<Sketch, SketchError> {
    let (offset, counts) = sketch.raw();
    let scale = 6 - sketch.level() as i32;
    let (min, max) = (sketch.min(), sketch.max());
    Sketch::from_exponential(scale, sketch.zeros(), offset - 1, counts, sketch.sum(), min, max)
}

#[test]
fn exponential_histograms_of_the_same_scale_lose_nothing() {
    for (name, mut values) in samples() {
        // So that the sum in seconds is exact to the nanosecond.
        values.retain(|value| *value < 10.0);
        values.extend([0.0, 0.0]);
        let mut sketch = of(&values);
        for level in 0..=10 {
            sketch.collapse_to(level);
            assert_eq!(exponential(&sketch), Ok(sketch.clone()), "{name} at level {level}");
        }
    }
}

/// Buckets of scale 6 + d, counted here by logarithm, become what inserting makes.
#[test]
fn finer_exponential_histograms_are_made_coarser_exactly() {
    let mut random = Random(21);
    let values: Vec<_> = (0..3_000).map(|_| random.lognormal(0.05, 1.0)).collect();
    for scale in 7..=12 {
        let index = |value: f64| (value.log2() * 2_f64.powi(scale)).ceil() as i32 - 1;
        let first = values.iter().map(|value| index(*value)).min().unwrap();
        let last = values.iter().map(|value| index(*value)).max().unwrap();
        let mut counts = vec![0; (last - first + 1) as usize];
        for value in &values {
            counts[(index(*value) - first) as usize] += 1;
        }
        if counts.len() > 20_000 {
            let found = Sketch::from_exponential(scale, 0, first, &counts, 0.0, None, None);
            assert_eq!(found, Err(SketchError::TooManyCounts(counts.len())));
            continue;
        }
        let whole = of(&values);
        let (sum, min, max) = (whole.sum(), whole.min(), whole.max());
        let found = Sketch::from_exponential(scale, 0, first, &counts, sum, min, max);
        assert_eq!(found, Ok(whole), "scale {scale}");
    }
    // One bucket of the finest scale: it ends just above one second, so it is in the bucket after that of 1.
    let found = Sketch::from_exponential(20, 0, 0, &[3], 3.0, None, None).unwrap();
    assert_eq!(found.raw(), (1, &[3][..]));
    let found = Sketch::from_exponential(20, 0, -1, &[3], 3.0, None, None).unwrap();
    assert_eq!(found.raw(), (0, &[3][..]));
}

#[test]
fn exponential_histograms_are_kept_within_bounds() {
    // 2^-40 to 2^40 seconds in doublings, scale 0.
    let found = Sketch::from_exponential(0, 5, -40, &[1; 80], 1e3, None, None).unwrap();
    // (2^-30, 2^-29] holds 1 ns; ten are below, and eight are above 2^32.
    assert_eq!((found.level(), found.zeros(), found.rejected(), found.count()), (6, 15, 8, 77));
    assert_eq!((found.min(), found.max()), (Some(0.0), Some(4_294_967_296.0)));
    for (min, max, expected) in [
        (None, None, (1.0, 4.0)),
        (Some(1.5), Some(3.0), (1.5, 3.0)),
        (Some(0.5), Some(9.0), (0.5, 9.0)),
        (Some(2.5), Some(1.5), (1.0, 4.0)),
        (Some(-1.0), Some(f64::NAN), (1.0, 4.0)),
        (Some(f64::NAN), Some(f64::INFINITY), (1.0, 4.0)),
    ] {
        let found = Sketch::from_exponential(0, 0, 0, &[0, 0, 0], 0.0, min, max).unwrap();
        assert!(found.is_empty() && found.min().is_none() && found.sum() == 0.0);
        let found = Sketch::from_exponential(0, 0, -1, &[0, 2, 2, 0], 7.0, min, max).unwrap();
        assert_eq!(
            (found.min(), found.max()),
            (Some(expected.0), Some(expected.1)),
            "{min:?} {max:?}"
        );
        assert_eq!(Sketch::from_bytes(&found.to_bytes()), Ok(found));
    }
    // In one bucket they may be the wrong way round.
    let found = Sketch::from_exponential(0, 0, 0, &[2], 3.0, Some(1.8), Some(1.2)).unwrap();
    assert_eq!((found.min(), found.max()), (Some(1.0), Some(2.0)));
    // More buckets than the limit.
    let found = Sketch::from_exponential(6, 0, -1_000, &[1; 3_000], 1.0, None, None).unwrap();
    assert_eq!((found.level(), found.count(), found.buckets().count()), (1, 3_000, 1_500));
    for scale in [-5, 21, i32::MIN, i32::MAX] {
        let found = Sketch::from_exponential(scale, 0, 0, &[1], 1.0, None, None);
        assert_eq!(found, Err(SketchError::Scale(scale)));
    }
    for sum in [-1.0, f64::NAN, f64::INFINITY] {
        let found = Sketch::from_exponential(0, 0, 0, &[1], sum, None, None);
        assert_eq!(found, Err(SketchError::Sum));
    }
}

#[test]
fn ranges_are_spread_evenly_over_the_logarithm() {
    let mut sketch = Sketch::new();
    sketch.add_range(1.0, 4.0, 128_000);
    // 128 buckets exactly.
    assert_eq!(sketch.raw(), (1, &[1_000; 128][..]));
    assert_eq!((sketch.min(), sketch.max(), sketch.alpha()), (Some(1.0), Some(4.0), 0.6));
    // The mean of what is even over the logarithm: (b - a) / ln(b / a).
    assert!((sketch.mean().unwrap() / (3.0 / 4_f64.ln()) - 1.0).abs() < 0.001);
    // Fewer than buckets, and not all on one side.
    let mut few = Sketch::new();
    few.add_range(1.0, 4.0, 3);
    let middles = [1.0, 3.0, 5.0].map(|sixth: f64| 4_f64.powf(sixth / 6.0));
    for ((low, high, count), middle) in few.buckets().zip(middles) {
        assert_eq!(count, 1);
        assert!(low < middle * 1.02 && middle < high * 1.02, "{low} {high}, not {middle}");
    }
    // Parts of buckets count as parts: (1.1, 1.2] of 8.03 buckets.
    let mut part = Sketch::new();
    part.add_range(1.1, 1.2, 1_000_000);
    for (low, high, count) in part.buckets() {
        let share = (high.min(1.2) / low.max(1.1)).ln() / (1.2_f64 / 1.1).ln();
        assert!((count as f64 - 1e6 * share).abs() < 300.0, "{low} to {high}: {count}");
    }
}

#[test]
fn ranges_that_are_open() {
    let mut sketch = Sketch::new();
    sketch.add_range(0.0, 0.005, 1_000);
    assert_eq!((sketch.count(), sketch.zeros(), sketch.alpha()), (1_000, 0, 1.0));
    assert_eq!((sketch.min(), sketch.max()), (Some(0.0), Some(0.005)));
    let (low, _, _) = sketch.buckets().next().unwrap();
    assert!((low / 0.0005 - 1.0).abs() < 0.02, "{low}");
    let mut infinite = Sketch::new();
    infinite.add_range(10.0, f64::INFINITY, 7);
    let mut at_low = of(&[10.0; 7]);
    assert_eq!((infinite.raw(), infinite.sum()), (at_low.raw(), 70.0));
    assert_eq!(infinite.alpha(), 1.0);
    // Nothing at all is known.
    let mut all = Sketch::new();
    all.add_range(f64::NEG_INFINITY, f64::INFINITY, 3);
    assert_eq!((all.zeros(), all.count()), (3, 3));
    // What is below a nanosecond is zero.
    let mut tiny = Sketch::new();
    tiny.add_range(-1.0, 0.0, 2);
    tiny.add_range(0.0, 1e-10, 2);
    assert_eq!((tiny.zeros(), tiny.count()), (4, 4));
    tiny.add_range(0.0, 1e-9, 2);
    assert_eq!((tiny.zeros(), tiny.count(), tiny.raw().1), (4, 6, &[2][..]));
    // What are no ranges.
    let before = at_low.to_parts();
    for (low, high) in [
        (1.0, 1.0),
        (2.0, 1.0),
        (f64::NAN, 1.0),
        (1.0, f64::NAN),
        (-2.0, -1.0),
        (1e10, 1e11),
        (f64::INFINITY, f64::INFINITY),
    ] {
        at_low.add_range(low, high, 2);
    }
    at_low.add_range(1.0, 2.0, 0);
    assert_eq!(at_low.rejected(), 14);
    let mut after = at_low.to_parts();
    after.rejected = 0;
    assert_eq!(after, before);
}

#[test]
fn the_widest_range_is_remembered() {
    let mut sketch = of(&[0.1]);
    for (low, high, alpha) in [(1.0, 1.5, 0.2), (1.0, 3.0, 0.5), (2.0, 3.0, 0.5)] {
        sketch.add_range(low, high, 1);
        assert_eq!(sketch.alpha(), alpha);
    }
    let mut other = of(&[0.2]);
    other.add_range(1.0, 1.5, 1);
    other.merge(&sketch);
    assert_eq!(other.alpha(), 0.5);
    assert_eq!(Sketch::from_bytes(&other.to_bytes()).unwrap().alpha(), 0.5);
    // Wide buckets of its own count too.
    other.collapse_to(9);
    assert!(other.alpha() > 0.98);
}

proptest! {
    /// Nothing is lost or made up; whether it is spread before or after collapses, and in which order, is the same.
    #[test]
    fn ranges_are_whole(a in -9.5..9.5_f64, b in -9.5..9.5_f64, count in prop_oneof![0..5_000_u64, any::<u64>()], level in 0..=10_u32) {
        let (low, high) = (10_f64.powf(a.min(b)), 10_f64.powf(a.max(b)));
        let mut fine = of(&[0.1]);
        fine.add_range(low, high, count);
        prop_assert_eq!(fine.count(), count.saturating_add(1));
        let outside = |(above, up_to, _): &(f64, f64, u64)| *up_to < low.min(0.1) / 10.0 || *above > high.max(0.1);
        prop_assert_eq!(fine.buckets().find(outside), None);
        fine.collapse_to(level);
        let mut coarse = Sketch::new();
        coarse.collapse_to(level);
        coarse.add_range(low, high, count);
        coarse.insert(0.1);
        prop_assert_eq!(&fine, &coarse);
        prop_assert_eq!(Sketch::from_bytes(&fine.to_bytes()), Ok(fine));
    }

    /// The bounds may be next to each other, at a boundary of buckets too.
    #[test]
    fn narrow_ranges_are_whole(power in -20..20_i32, off in 0..4_u64, width in 1..3_u64, count in 1..9_u64) {
        let low = f64::from_bits(2_f64.powi(power).to_bits() - 2 + off);
        let high = f64::from_bits(low.to_bits() + width);
        let mut sketch = Sketch::new();
        sketch.add_range(low, high, count);
        prop_assert_eq!(sketch.count(), count);
        prop_assert_eq!((sketch.min(), sketch.max()), (Some(low), Some(high)));
    }

    #[test]
    fn any_exponential_histogram_is_taken(scale in -4..=20_i32, offset in prop_oneof![any::<i32>(), -3_000..3_000_i32], counts in proptest::collection::vec(any::<u64>(), 0..50), zeros in any::<u64>(), bits in any::<[u64; 3]>()) {
        let [sum, min, max] = bits.map(f64::from_bits);
        let found = Sketch::from_exponential(scale, zeros, offset, &counts, sum.abs().min(1e300), Some(min), Some(max));
        if let Ok(sketch) = found {
            prop_assert_eq!(Sketch::from_bytes(&sketch.to_bytes()), Ok(sketch));
        }
    }
}
