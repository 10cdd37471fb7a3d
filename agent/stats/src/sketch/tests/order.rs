use super::super::{Parts, SketchError};
use super::{Random, Sketch, of};

/// Of all kinds, from below a nanosecond to what is rejected.
fn mixture(random: &mut Random, count: usize) -> Vec<f64> {
    let kind = |random: &mut Random| match random.below(40) {
        0 => 0.0,
        1 => 1e-10,
        2 => -1.0,
        3 => f64::NAN,
        4 => 1e12,
        5..=9 => 10_f64.powf(18.0 * random.share() - 9.0),
        _ => random.lognormal(0.05, 1.0),
    };
    (0..count).map(|_| kind(random)).collect()
}

/// Merges the parts, two at a time, in a random tree.
fn merged(random: &mut Random, mut parts: Vec<Sketch>) -> Sketch {
    while parts.len() > 1 {
        let from = parts.swap_remove(random.below(parts.len()));
        let into = random.below(parts.len());
        parts[into].merge(&from);
    }
    parts.remove(0)
}

fn shuffle(random: &mut Random, values: &mut [f64]) {
    for last in (1..values.len()).rev() {
        values.swap(last, random.below(last + 1));
    }
}

/// Some parts are collapsed by hand, some by a lower limit, which then is that of the whole.
#[test]
fn order_does_not_matter() {
    let mut random = Random(1);
    for (limit, forced) in
        [(Sketch::LIMIT, 0), (Sketch::LIMIT, 2), (300, 0), (70, 1), (40, 3), (4, 0)]
    {
        let mut values = mixture(&mut random, 6_000);
        let mut whole = Sketch::with_limit(limit);
        whole.insert_all(&values);
        whole.collapse_to(forced);
        let (bytes, level) = (whole.to_bytes(), whole.level());
        for order in 0..50 {
            shuffle(&mut random, &mut values);
            let mut parts: Vec<_> = (0..1 + random.below(12)).map(|_| Sketch::new()).collect();
            parts.push(Sketch::with_limit(limit));
            for value in &values {
                let into = random.below(parts.len());
                parts[into].insert(*value);
            }
            let chosen = random.below(parts.len());
            parts[chosen].collapse_to(forced);
            let found = merged(&mut random, parts);
            assert_eq!(found.to_bytes(), bytes, "order {order}, limit {limit}, level {level}");
            assert_eq!(found, whole);
        }
    }
}

/// Against the definition: the least level at which the distinct ceil(index / 2^level) are few enough.
#[test]
fn collapses_are_as_few_as_the_limit_allows() {
    let mut random = Random(2);
    for limit in [4, 20, 75, 300, 1_000] {
        let values: Vec<_> = (0..2_400).map(|_| 10_f64.powf(18.0 * random.share() - 9.0)).collect();
        let finest = of(&values);
        assert_eq!(finest.level(), 0);
        let indexes: Vec<_> = values.iter().map(|value| finest.bucket(*value).unwrap()).collect();
        let distinct = |level: u32| {
            let at = |index: &i32| (f64::from(*index) / 2_f64.powi(level as i32)).ceil() as i32;
            indexes.iter().map(at).collect::<std::collections::BTreeSet<_>>().len()
        };
        let mut sketch = Sketch::with_limit(limit);
        sketch.insert_all(&values);
        let level = sketch.level();
        assert!(level > 0 && distinct(level) <= limit && distinct(level - 1) > limit, "{limit}");
        assert_eq!(sketch.buckets().count(), distinct(level));
        let mut by_hand = finest.clone();
        by_hand.collapse_to(level);
        assert_eq!(sketch, by_hand);
    }
}

#[test]
fn as_many_buckets_as_the_limit_are_kept() {
    let mut sketch = Sketch::with_limit(30);
    for power in 0..30 {
        sketch.insert(2_f64.powi(power));
    }
    assert_eq!(sketch.level(), 0);
    sketch.insert(0.3);
    assert_eq!(sketch.level(), 7);
}

#[test]
fn the_limit_holds_for_all_values_there_are() {
    let mut sketch = Sketch::new();
    for index in -1_913..=2_048 {
        let value = 2_f64.powf((f64::from(index) - 0.5) / 64.0).max(1e-9);
        assert!(sketch.insert(value));
        assert!(sketch.buckets().count() <= Sketch::LIMIT);
    }
    assert_eq!((sketch.level(), sketch.count()), (1, 3_962));
    // The lowest limit is what the coarsest level needs.
    let mut least = Sketch::with_limit(0);
    least.merge(&sketch);
    assert!(least.buckets().count() <= 4 && least.level() <= 10);
    assert_eq!(least.count(), 3_962);
}

#[test]
fn merging_is_inserting() {
    let mut random = Random(4);
    let (a, b) = (mixture(&mut random, 700), mixture(&mut random, 900));
    for (one, other) in [(0, 0), (0, 3), (3, 0), (2, 1), (10, 0)] {
        let (mut left, mut right) = (of(&a), of(&b));
        left.collapse_to(one);
        right.collapse_to(other);
        let mut whole = of(&[&a[..], &b].concat());
        whole.collapse_to(one.max(other));
        left.merge(&right);
        assert_eq!(left, whole, "levels {one} and {other}");
        left.insert(0.3);
        whole.insert(0.3);
        assert_eq!(left, whole, "levels {one} and {other}");
    }
    let mut empty = Sketch::new();
    empty.merge(&of(&a));
    empty.merge(&Sketch::new());
    assert_eq!(empty, of(&a));
    // An empty one has its level too.
    let mut coarse = Sketch::new();
    coarse.collapse_to(3);
    empty.merge(&coarse);
    assert_eq!(empty.level(), 3);
    coarse.merge(&of(&a));
    assert_eq!(empty, coarse);
}

#[test]
fn many_at_once_are_each_of_them() {
    let mut sketch = Sketch::new();
    for value in [0.2, 0.0, 3e-10, 1e5, -1.0] {
        assert_eq!(sketch.insert_count(value, 5), value >= 0.0);
        assert_eq!(sketch.insert_count(value, 0), value >= 0.0);
    }
    assert_eq!(sketch, of(&[0.2, 0.0, 3e-10, 1e5, -1.0].repeat(5)));
    let untouched = Sketch::new();
    let mut none = Sketch::new();
    none.insert_count(0.1, 0);
    assert_eq!(none, untouched);
}

#[test]
fn what_differs_is_not_equal() {
    let base = of(&[0.1, 0.2]);
    let others: [&dyn Fn(&mut Sketch); 6] = [
        &|sketch| assert!(sketch.insert(0.1)),
        &|sketch| assert!(sketch.insert(0.0)),
        &|sketch| assert!(!sketch.insert(-1.0)),
        &|sketch| sketch.collapse(),
        &|sketch| sketch.add_range(0.1, 0.2, 1),
        &|sketch| sketch.merge(&of(&[0.2])),
    ];
    for (number, change) in others.iter().enumerate() {
        let mut changed = base.clone();
        change(&mut changed);
        assert_ne!(changed, base, "{number}");
        assert_ne!(changed.to_bytes(), base.to_bytes(), "{number}");
    }
    // Room at the ends is no difference.
    let mut grown = of(&[0.1]);
    grown.insert(0.2);
    let mut shrunk = of(&[0.2]);
    shrunk.insert(0.1);
    assert_eq!(grown, shrunk);
}

#[test]
fn parts_are_the_whole() {
    let mut random = Random(5);
    let mut sketch = of(&mixture(&mut random, 500));
    sketch.add_range(0.1, 0.25, 40);
    for level in [0, 2, 10] {
        sketch.collapse_to(level);
        let mut parts = sketch.to_parts();
        assert_eq!(Sketch::from_parts(parts.clone()), Ok(sketch.clone()));
        // Empty buckets at the ends are let pass.
        parts.counts.splice(0..0, [0, 0]);
        parts.counts.push(0);
        parts.offset -= 2;
        assert_eq!(Sketch::from_parts(parts), Ok(sketch.clone()));
    }
    assert_eq!(Sketch::from_parts(Sketch::new().to_parts()), Ok(Sketch::new()));
}

#[test]
fn parts_that_do_not_match_are_refused() {
    let base = of(&[0.1, 0.2]).to_parts();
    let empty = Sketch::new().to_parts();
    let with = |parts: &Parts, change: &dyn Fn(&mut Parts)| {
        let mut parts = parts.clone();
        change(&mut parts);
        Sketch::from_parts(parts)
    };
    use SketchError::{Bucket, Coarse, Extremes, Level, Sum, TooManyCounts};
    assert_eq!(with(&base, &|parts| parts.level = 11), Err(Level(11)));
    assert_eq!(with(&base, &|parts| parts.counts = vec![0; 4_097]), Err(TooManyCounts(4_097)));
    assert_eq!(with(&base, &|parts| parts.counts = vec![1; 2_049]), Err(TooManyCounts(2_049)));
    for offset in [i32::MIN, -1_914, 2_048, i32::MAX] {
        assert_eq!(with(&base, &|parts| parts.offset = offset), Err(Bucket), "{offset}");
    }
    for (min, max) in [
        (None, Some(0.2)),
        (Some(0.1), None),
        (None, None),
        (Some(0.11), Some(0.2)),
        (Some(0.1), Some(0.19)),
        (Some(-0.0), Some(0.2)),
        (Some(-1.0), Some(0.2)),
        (Some(f64::NAN), Some(0.2)),
        (Some(0.1), Some(f64::NAN)),
        (Some(0.1), Some(f64::INFINITY)),
        (Some(0.1), Some(1e10)),
    ] {
        let found = with(&base, &|parts| (parts.min, parts.max) = (min, max));
        assert_eq!(found, Err(Extremes), "{min:?} {max:?}");
    }
    for (value, offset) in [(1e-9, -1_914), (4_294_967_296.0, 2_049)] {
        let found = with(&of(&[value]).to_parts(), &|parts| parts.offset = offset);
        assert_eq!(found, Err(Bucket), "{offset}");
    }
    let zero = of(&[0.0]).to_parts();
    let found = with(&zero, &|parts| parts.max = Some(-0.0));
    assert_eq!(found, Err(Extremes), "merged with another, its bytes would depend on the order");
    let one = of(&[0.1]).to_parts();
    let crossed = |parts: &mut Parts| parts.min = parts.max.map(f64::next_up);
    assert_eq!(with(&one, &crossed), Err(Extremes));
    for coarse in [-0.1, -0.0, 1.1, f64::NAN] {
        assert_eq!(with(&base, &|parts| parts.coarse = coarse), Err(Coarse), "{coarse}");
    }
    assert_eq!(with(&base, &|parts| parts.zeros = 1), Err(Extremes));
    assert_eq!(with(&empty, &|parts| parts.coarse = 0.1), Err(Coarse));
    assert_eq!(with(&empty, &|parts| parts.sum_nanos = 1), Err(Sum));
    assert_eq!(with(&empty, &|parts| parts.min = Some(1.0)), Err(Extremes));
    for (error, text) in [(Level(11), "level 11 is not 0 to 10"), (Bucket, "a bucket is not")] {
        assert!(error.to_string().starts_with(text));
    }
}
