use super::super::index::MAX_LEVEL;
use super::{Random, Sketch, of, samples};

const QUANTILES: [f64; 8] = [0.0, 0.01, 0.25, 0.5, 0.9, 0.99, 0.999, 1.0];

fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    values
}

#[test]
fn quantiles_are_within_alpha() {
    for (name, values) in samples() {
        let sorted = sorted(values);
        let mut sketch = of(&sorted);
        for level in 0..=4 {
            assert_eq!(sketch.level(), level);
            for q in QUANTILES {
                let exact = sorted[(q * (sorted.len() - 1) as f64) as usize];
                let found = sketch.quantile(q).unwrap();
                let error = (found - exact).abs() / exact;
                assert!(
                    error <= sketch.alpha() + 1e-12,
                    "{name} {level} {q}: {found}, not {exact}"
                );
            }
            sketch.collapse();
        }
    }
}

#[test]
fn alpha_is_as_published() {
    let mut sketch = Sketch::new();
    assert!((sketch.alpha() - 0.005_415).abs() < 1e-6);
    for level in 0..MAX_LEVEL {
        let alpha = sketch.alpha();
        sketch.collapse();
        let expected = 2.0 * alpha / (1.0 + alpha * alpha);
        assert!((sketch.alpha() - expected).abs() < 1e-12, "level {level}");
    }
    sketch.collapse();
    assert_eq!(sketch.level(), MAX_LEVEL);
}

#[test]
fn what_a_bucket_stands_for_is_alpha_from_its_bounds() {
    for level in 0..=MAX_LEVEL {
        let mut sketch = Sketch::new();
        sketch.collapse_to(level);
        // With values far off, so that no extreme is nearer; at level 10, a bucket is 16 doublings wide.
        for value in [1e-8, 0.3, 1e8] {
            sketch.insert(value);
        }
        let (low, high, _) = sketch.buckets().nth(1).unwrap();
        let (middle, alpha) = (sketch.quantile(0.5).unwrap(), sketch.alpha());
        assert!(low < 0.3 && 0.3 <= high, "level {level}");
        assert!(((high - middle) / high - alpha).abs() < 1e-12, "level {level}");
        assert!(((middle - low) / low / alpha - 1.0).abs() < 1e-9, "level {level}");
    }
}

#[test]
fn moments_are_those_of_the_values() {
    for (name, values) in samples() {
        let sketch = of(&values);
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let squares = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
        let deviation = (squares / (n - 1.0)).sqrt();
        assert!((sketch.mean().unwrap() / mean - 1.0).abs() < 1e-6, "{name}");
        assert!((sketch.sum() - mean * n).abs() < 0.5e-9 * n + 1e-9 * mean * n, "{name}");
        assert!((sketch.deviation().unwrap() / deviation - 1.0).abs() < 0.01, "{name}");
        let sorted = sorted(values);
        assert_eq!(sketch.min(), sorted.first().copied(), "{name}");
        assert_eq!(sketch.max(), sorted.last().copied(), "{name}");
        assert_eq!(sketch.count(), n as u64, "{name}");
    }
    // By hand: n - 1, and zeros count.
    let mut two = of(&[0.0]);
    assert_eq!(two.deviation(), None);
    two.insert(2.0);
    assert!((two.deviation().unwrap() - 2.0_f64.sqrt()).abs() < 0.006 * 2.0);
    assert_eq!((two.mean(), two.sum(), two.sum_nanos()), (Some(1.0), 2.0, 2_000_000_000));
    assert_eq!(of(&[0.7; 9]).deviation(), Some(0.0));
}

#[test]
fn extremes_bound_what_is_answered() {
    let value = 0.100_000_1;
    let sketch = of(&[value; 3]);
    for q in QUANTILES {
        assert_eq!(sketch.quantile(q), Some(value));
    }
    assert_eq!(sketch.interval(0.5), Some((value, value)));
}

#[test]
fn what_has_no_answer() {
    let empty = Sketch::new();
    assert!(empty.is_empty());
    assert_eq!((empty.count(), empty.sum(), empty.above(0.1)), (0, 0.0, 0));
    for none in [empty.quantile(0.5), empty.min(), empty.max(), empty.mean(), empty.deviation()] {
        assert_eq!(none, None);
    }
    assert_eq!(empty.interval(0.5), None);
    let one = of(&[1.0]);
    assert!(!one.is_empty());
    for q in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
        assert_eq!((one.quantile(q), one.interval(q)), (None, None), "{q}");
    }
}

#[test]
fn ranks_are_rounded_down() {
    let values: Vec<_> = (0..10).map(|power| 2_f64.powi(power)).collect();
    let sketch = of(&values);
    for (q, rank) in [(0.0, 0), (0.1, 0), (0.12, 1), (0.5, 4), (0.88, 7), (0.9, 8), (1.0, 9)] {
        let error = sketch.quantile(q).unwrap() / values[rank] - 1.0;
        assert!(error.abs() < 0.006, "{q}");
    }
}

#[test]
fn few_values_are_told() {
    for (q, wanted) in [(0.5, 20), (0.949, 20), (0.95, 100), (0.98, 100), (0.99, 500), (1.0, 500)] {
        let mut sketch = Sketch::new();
        sketch.insert_count(0.1, wanted - 2);
        sketch.insert(0.0);
        assert!(sketch.low_n(q), "{q}");
        sketch.insert(2.0);
        assert!(!sketch.low_n(q), "{q}");
    }
}

/// 2,000 samples of 400: the interval holds the true quantile in about 95 % of them, and not in many more.
#[test]
fn intervals_cover() {
    let mut random = Random(11);
    // The normal quantiles.
    for (q, z) in [(0.5, 0.0), (0.9, 1.281_551_57), (0.95, 1.644_853_63)] {
        let exact = 0.1 * f64::exp(z);
        let mut covered = 0;
        for _ in 0..2_000 {
            let mut sketch = Sketch::new();
            for _ in 0..400 {
                sketch.insert(random.lognormal(0.1, 1.0));
            }
            let (low, high) = sketch.interval(q).unwrap();
            let found = sketch.quantile(q).unwrap();
            assert!(low <= found && found <= high);
            covered += usize::from(low <= exact && exact <= high);
        }
        assert!((1_870..=1_960).contains(&covered), "{q}: {covered}");
    }
}

#[test]
fn intervals_are_those_of_the_ranks() {
    let values: Vec<_> = (1..=100).map(|value| f64::from(value) / 10.0).collect();
    for count in 1..=100 {
        let sketch = of(&values[..count]);
        for q in [0.0, 0.001, 0.3, 0.5, 0.97, 0.9999, 1.0] {
            let (low, high) = sketch.interval(q).unwrap();
            let found = sketch.quantile(q).unwrap();
            assert!(low <= found && found <= high, "{q} of {count}");
        }
    }
    let sketch = of(&values);
    // 50 -+ 9.8: the 41st value and the 60th, which begins at the 0-based rank 59.
    let (low, high) = sketch.interval(0.5).unwrap();
    assert!((low / 4.1 - 1.0).abs() < 0.0055 && (high / 6.0 - 1.0).abs() < 0.0055, "{low} {high}");
    for (q, value) in [(0.0, 0.1), (1.0, 10.0)] {
        let (low, high) = sketch.interval(q).unwrap();
        assert!((low / value - 1.0).abs() < 0.0055 && low == high, "{q}");
    }
}

#[test]
fn above_counts_by_bucket() {
    let mut random = Random(3);
    let mut values = samples().remove(0).1;
    values.truncate(2_000);
    values.extend([0.0, 5e-10, 1e-9, 4_294_967_296.0]);
    for level in [0, 1, 3, MAX_LEVEL] {
        let mut sketch = of(&values);
        sketch.collapse_to(level);
        let asked = (0..200).map(|_| random.lognormal(0.05, 1.5)).chain(values.iter().copied());
        for x in asked {
            // The bucket's upper bound, from the buckets of what is asked for alone.
            let mut alone = of(&[x]);
            alone.collapse_to(level);
            let bound = alone.buckets().next().map_or(1e-9_f64.next_down(), |(_, high, _)| high);
            let expected = values.iter().filter(|value| **value > bound).count() as u64;
            assert_eq!(sketch.above(x), expected, "{x} at level {level}");
            if let Some(index) = sketch.bucket(x) {
                assert_eq!(sketch.above_index(index), expected, "{x} at level {level}");
            }
        }
        assert_eq!(sketch.above(0.0), 2_002);
        assert_eq!(sketch.above(-1.0), 2_004);
        for none in [f64::NAN, f64::INFINITY, 1e10] {
            assert_eq!((sketch.above(none), sketch.bucket(none)), (0, None), "{none}");
        }
        assert_eq!((sketch.above_index(i32::MAX), sketch.above_index(i32::MIN)), (0, 2_002));
        assert_eq!((sketch.bucket(0.0), sketch.bucket(-1.0)), (None, None));
    }
}

#[test]
fn buckets_hold_their_values() {
    for (name, values) in samples() {
        let sketch = of(&values);
        let mut last = 0.0;
        for (low, high, count) in sketch.buckets() {
            assert!(last <= low && low < high, "{name}");
            let expected = values.iter().filter(|value| low < **value && **value <= high).count();
            assert_eq!(count, expected as u64, "{name}: {low} to {high}");
            last = high;
        }
        let (offset, counts) = sketch.raw();
        assert_eq!(counts.iter().sum::<u64>(), sketch.count(), "{name}");
        assert_eq!(sketch.bucket(sketch.min().unwrap()), Some(offset), "{name}");
        assert!(counts.first() > Some(&0) && counts.last() > Some(&0), "{name}");
    }
}
