//! Histograms that come by OTLP: what is in them, and what came between two of them.

use genesis_stats::Sketch;
use proptest::prelude::*;
use prost::Message;

use crate::operations::baselines::otlp::wire::{
    AnyValue, Buckets, CUMULATIVE, DELTA, ExponentialHistogram, ExponentialHistogramDataPoint,
    Histogram, HistogramDataPoint, KeyValue, Metric, Request, Resource, ResourceMetrics, Response,
    Scope, ScopeMetrics,
};
use crate::operations::baselines::otlp::{Receiver, USUAL};

mod limits;

const NAME: &str = "http.server.request.duration";
const NOW: i64 = 1_800_000_000_000_000_000;
/// A second.
const S: u64 = 1_000_000_000;
/// When the tests' counting began.
const START: u64 = NOW as u64 - 1_000 * S;

fn attribute(key: &str, value: &str) -> KeyValue {
    let value = AnyValue { string_value: Some(value.to_owned()), ..AnyValue::default() };
    KeyValue { key: key.to_owned(), value: Some(value) }
}

fn attributes() -> Vec<KeyValue> {
    vec![attribute("http.request.method", "GET"), attribute("http.route", "/users/{id}")]
}

fn request_of(metrics: Vec<Metric>, instance: &str) -> Request {
    let attributes =
        vec![attribute("service.name", "shop"), attribute("service.instance.id", instance)];
    Request {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(Resource { attributes }),
            scope_metrics: vec![ScopeMetrics {
                scope: Some(Scope { name: "http".to_owned() }),
                metrics,
            }],
        }],
    }
}

fn metric(unit: &str) -> Metric {
    Metric { name: NAME.to_owned(), unit: unit.to_owned(), ..Metric::default() }
}

fn explicit(unit: &str, temporality: i32, points: Vec<HistogramDataPoint>) -> Request {
    let histogram = Histogram { data_points: points, aggregation_temporality: temporality };
    request_of(vec![Metric { histogram: Some(histogram), ..metric(unit) }], "1")
}

fn exponential(
    unit: &str,
    temporality: i32,
    points: Vec<ExponentialHistogramDataPoint>,
) -> Request {
    let histogram =
        ExponentialHistogram { data_points: points, aggregation_temporality: temporality };
    request_of(vec![Metric { exponential_histogram: Some(histogram), ..metric(unit) }], "1")
}

fn explicit_point(time: u64, bounds: &[f64], counts: &[u64], sum: f64) -> HistogramDataPoint {
    HistogramDataPoint {
        attributes: attributes(),
        start_time_unix_nano: START,
        time_unix_nano: START + time * S,
        count: counts.iter().sum(),
        sum: Some(sum),
        bucket_counts: counts.to_vec(),
        explicit_bounds: bounds.to_vec(),
        ..HistogramDataPoint::default()
    }
}

fn exponential_point(
    time: u64,
    scale: i32,
    offset: i32,
    counts: &[u64],
    sum: f64,
) -> ExponentialHistogramDataPoint {
    ExponentialHistogramDataPoint {
        attributes: attributes(),
        start_time_unix_nano: START,
        time_unix_nano: START + time * S,
        count: counts.iter().sum(),
        sum: Some(sum),
        scale,
        positive: Some(Buckets { offset, bucket_counts: counts.to_vec() }),
        ..ExponentialHistogramDataPoint::default()
    }
}

/// The point that an SDK would make of the values of a sketch that was never collapsed.
fn point_of(sketch: &Sketch) -> ExponentialHistogramDataPoint {
    let (offset, counts) = sketch.raw();
    let point = exponential_point(10, 6 - sketch.level() as i32, offset - 1, counts, sketch.sum());
    ExponentialHistogramDataPoint {
        count: sketch.count(),
        zero_count: sketch.zeros(),
        min: sketch.min(),
        max: sketch.max(),
        ..point
    }
}

fn receiver() -> Receiver {
    Receiver::new(Receiver::usual(), 100)
}

/// The one sketch of a request, which goes over the wire.
fn one(receiver: &mut Receiver, request: &Request) -> Option<Sketch> {
    let request = Request::from_protobuf(&request.encode_to_vec()).unwrap();
    let mut taken = receiver.take(&request, NOW);
    assert_eq!(taken.rejected.len(), 0, "{:?}", taken.rejected);
    assert_eq!(taken.response(), Response::default());
    let item = taken.items.pop()?;
    assert_eq!((item.operation.as_str(), taken.items.len()), ("shop:GET:/users/_id_", 0));
    Some(item.sketch)
}

fn counts(sketch: Option<Sketch>) -> Vec<u64> {
    sketch.map_or(Vec::new(), |it| it.raw().1.to_vec())
}

#[test]
fn what_is_taken_by_default_has_names() {
    assert_eq!(Receiver::usual().count(), USUAL.len());
}

#[test]
fn an_exponential_histogram_of_seconds_is_taken_without_loss() {
    let mut sketch = Sketch::new();
    (1..2_000).for_each(|index| assert!(sketch.insert(f64::from(index) * 1e-4)));
    sketch.insert_count(0.0, 7);
    for level in [0, 1, 4, 10] {
        sketch.collapse_to(level);
        let found = one(&mut receiver(), &exponential("s", DELTA, vec![point_of(&sketch)]));
        assert_eq!(found.as_ref(), Some(&sketch), "{level}");
    }
    let taken = receiver().take(&exponential("s", DELTA, vec![point_of(&sketch)]), NOW);
    assert_eq!(taken.items[0].unix_nanos, (START + 10 * S) as i64);
}

proptest! {
    #[test]
    fn any_is(values in proptest::collection::vec((-8.0..8.0_f64, 1..5_u64), 1..200), level in 0..=10_u32) {
        let mut sketch = Sketch::new();
        for (power, count) in values {
            sketch.insert_count(10_f64.powf(power), count);
        }
        sketch.collapse_to(level);
        let found = one(&mut receiver(), &exponential("s", DELTA, vec![point_of(&sketch)]));
        let found = found.unwrap();
        prop_assert_eq!(found.raw(), sketch.raw());
        prop_assert_eq!((found.min(), found.max()), (sketch.min(), sketch.max()));
        // The sum went through a float.
        prop_assert!((found.sum() - sketch.sum()).abs() <= sketch.sum() * 1e-12 + 1e-9);
    }

    /// Whatever is sent, nothing panics, and what is decoded is what was encoded.
    #[test]
    fn nothing_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(request) = Request::from_protobuf(&bytes) {
            receiver().take(&request, NOW);
        }
        drop(Request::from_json(&bytes));
    }

    #[test]
    fn no_point_makes_it_panic(
        scale in -12..24_i32,
        offset in any::<i32>(),
        counts in proptest::collection::vec(prop_oneof![0..9_u64, any::<u64>()], 0..12),
        sum in any::<f64>(),
        unit in prop_oneof!["s", "ms", "ns", "", "x"],
        temporality in 0..4_i32,
        times in (any::<u64>(), any::<u64>()),
        threshold in any::<f64>(),
        extremes in (any::<f64>(), any::<f64>()),
    ) {
        let mut receiver = receiver();
        let total = counts.iter().fold(0_u64, |sum, it| sum.wrapping_add(*it));
        for (offset, time) in [(offset, times.0), (offset.wrapping_add(1), times.1), (3, 1 << 60)] {
            let point = ExponentialHistogramDataPoint {
                count: total,
                min: Some(extremes.0),
                max: Some(extremes.1),
                zero_threshold: threshold,
                time_unix_nano: time,
                positive: Some(Buckets { offset, bucket_counts: counts.clone() }),
                ..exponential_point(0, scale, offset, &[], sum)
            };
            receiver.take(&exponential(&unit, temporality, vec![point]), NOW);
            let bounds: Vec<f64> = (1..counts.len()).map(|at| at as f64 * threshold).collect();
            let point = HistogramDataPoint {
                count: total,
                min: Some(extremes.0),
                max: Some(extremes.1),
                time_unix_nano: time,
                bucket_counts: counts.clone(),
                ..explicit_point(0, &bounds, &[], sum)
            };
            receiver.take(&explicit(&unit, temporality, vec![point]), NOW);
        }
    }
}

#[test]
fn finer_scales_are_made_coarser() {
    // (1, 2] in 2^10 buckets.
    let point = exponential_point(1, 10, 0, &[1; 1_024], 1_400.0);
    let found = one(&mut receiver(), &exponential("s", DELTA, vec![point])).unwrap();
    assert_eq!((found.level(), found.raw()), (0, (1, &[16; 64][..])));
    assert_eq!(found.sum(), 1_400.0);
}

#[test]
fn other_units_are_spread_by_their_bounds() {
    // (1, 2] and (2, 4], of a thousandth or less.
    for (unit, second) in [("ms", 1e-3), ("us", 1e-6), ("µs", 1e-6), ("ns", 1e-9)] {
        let point = ExponentialHistogramDataPoint {
            min: Some(1.5),
            max: Some(3.5),
            ..exponential_point(1, 0, 0, &[10, 20], 66.0)
        };
        let found = one(&mut receiver(), &exponential(unit, DELTA, vec![point])).unwrap();
        let split = (found.count(), found.above(2.0 * second));
        assert_eq!((split, found.zeros()), ((30, 20), 0), "{unit}");
        assert_eq!(found.sum_nanos(), (66.0 * second * 1e9).round() as u128, "{unit}");
        let (min, max) = (found.min().unwrap(), found.max().unwrap());
        assert!((min - 1.5 * second).abs() < 1e-12 && (max - 3.5 * second).abs() < 1e-12, "{unit}");
        // Of 2 to 3.5.
        assert!((found.alpha() - 1.5 / 5.5).abs() < 1e-9, "{unit}");
    }
    let tiny = exponential_point(1, 0, -80, &[3], 0.0);
    assert_eq!(one(&mut receiver(), &exponential("ms", DELTA, vec![tiny])).unwrap().zeros(), 3);
}

#[test]
fn a_sum_that_is_not_told_is_that_of_the_middles() {
    let point =
        ExponentialHistogramDataPoint { sum: None, ..exponential_point(1, 6, 0, &[100], 0.0) };
    let found = one(&mut receiver(), &exponential("s", DELTA, vec![point])).unwrap();
    assert!((found.sum() - 100.54).abs() < 0.01, "{}", found.sum());
}

#[test]
fn zeros_and_what_is_below_are_told_apart() {
    let point = ExponentialHistogramDataPoint {
        count: 9,
        zero_count: 4,
        negative: Some(Buckets { offset: 0, bucket_counts: vec![1, 2] }),
        ..exponential_point(1, 6, 0, &[2], 2.0)
    };
    let found = one(&mut receiver(), &exponential("s", DELTA, vec![point.clone()])).unwrap();
    assert_eq!((found.count(), found.zeros(), found.rejected()), (6, 4, 3));
    // Where zero reaches up to a millisecond, those are spread below it.
    let point = ExponentialHistogramDataPoint { zero_threshold: 0.001, ..point };
    let found = one(&mut receiver(), &exponential("s", DELTA, vec![point])).unwrap();
    assert_eq!((found.count(), found.zeros(), found.above(0.001)), (6, 0, 2));
    assert_eq!(found.alpha(), 1.0);
}

#[test]
fn explicit_buckets_are_spread() {
    let bounds = [0.0, 5.0, 10.0, 25.0];
    let point = explicit_point(1, &bounds, &[0, 4, 2, 3, 1], 90.0);
    let point = HistogramDataPoint { min: Some(2.0), max: Some(30.0), ..point };
    let found = one(&mut receiver(), &explicit("ms", DELTA, vec![point])).unwrap();
    assert_eq!((found.count(), found.sum_nanos()), (10, 90_000_000));
    assert_eq!((found.min(), found.max()), (Some(0.002), Some(0.03)));
    assert_eq!((found.above(0.005), found.above(0.01), found.above(0.025)), (6, 4, 1));
    // Between 2 and 5 ms, and 10 and 25 ms.
    assert!((found.alpha() - 3.0 / 7.0).abs() < 1e-9, "{}", found.alpha());
}

#[test]
fn what_is_counted_since_a_start_is_taken_by_differences() {
    let bounds = [0.1, 1.0];
    let mut receiver = receiver();
    let mut send = |time, counts: &[u64], sum| {
        let point = explicit_point(time, &bounds, counts, sum);
        one(&mut receiver, &explicit("s", CUMULATIVE, vec![point]))
    };
    assert_eq!(send(10, &[5, 5, 0], 3.0), None);
    let found = send(20, &[6, 8, 0], 4.5).unwrap();
    assert_eq!((found.count(), found.above(0.1), found.sum_nanos()), (4, 3, 1_500_000_000));
    assert_eq!(send(30, &[6, 8, 0], 4.5), None);
    // Sent again.
    assert_eq!(send(20, &[6, 8, 0], 4.5), None);
    // It fell.
    let found = send(40, &[1, 2, 0], 1.5).unwrap();
    assert_eq!((found.count(), found.sum_nanos()), (3, 1_500_000_000));
    let mut found = receiver
        .take(&explicit("s", CUMULATIVE, vec![explicit_point(40, &bounds, &[9, 9, 0], 1.0)]), NOW);
    assert_eq!((found.items.pop(), found.repeated), (None, 1));
    // Other bounds.
    let changed = explicit_point(50, &[0.2], &[50, 50], 20.0);
    assert_eq!(receiver.take(&explicit("s", CUMULATIVE, vec![changed]), NOW).first, 1);
    assert_eq!(receiver.series(), 1);
}

#[test]
fn another_start_begins_at_zero() {
    for (name, start, time, resets, first, expected) in [
        ("restarted", 25, 30, 1, 0, 12),
        ("at the last point", 20, 30, 1, 0, 12),
        // Nobody knows since when it counts.
        ("a start that is not known", 30, 30, 0, 1, 0),
        ("a start within what was counted", 15, 30, 0, 1, 0),
        ("the same", 0, 30, 0, 0, 2),
    ] {
        let mut receiver = receiver();
        let mut send = |start, time, counts: &[u64]| {
            let point = HistogramDataPoint {
                start_time_unix_nano: START + start * S,
                ..explicit_point(time, &[1.0], counts, 1.0)
            };
            receiver.take(&explicit("s", CUMULATIVE, vec![point]), NOW)
        };
        send(0, 20, &[5, 5]);
        let found = send(start, time, &[6, 6]);
        let count = found.items.iter().map(|item| item.sketch.count()).sum::<u64>();
        assert_eq!((found.resets, found.first, count), (resets, first, expected), "{name}");
    }
}

#[test]
fn an_exponential_histogram_may_change_its_scale_and_place() {
    let mut receiver = receiver();
    let mut send = |time, scale, offset, counts: &[u64]| {
        let point = exponential_point(time, scale, offset, counts, time as f64);
        one(&mut receiver, &exponential("s", CUMULATIVE, vec![point]))
    };
    assert_eq!(send(10, 6, -3, &[1, 2, 3, 4]), None);
    // The same place.
    let found = send(20, 6, -3, &[1, 2, 5, 4]).unwrap();
    assert_eq!((found.raw(), found.sum_nanos()), ((0, &[2][..]), 10_000_000_000));
    // More at both ends.
    assert_eq!(counts(send(30, 6, -4, &[1, 1, 2, 5, 4, 1])), [1, 0, 0, 0, 0, 1]);
    // At half the scale, -4..1 are -2 -2 -1 -1 0 0: 2, 7, 5.
    let found = send(40, 5, -2, &[2, 7, 6]).unwrap();
    assert_eq!((found.level(), found.raw()), (1, (1, &[1][..])));
    // Back to a finer one, which only tells so much.
    assert_eq!(counts(send(50, 6, -4, &[1, 1, 2, 5, 4, 3])), [1]);
    // A bucket fell, or is gone.
    assert_eq!(counts(send(60, 6, -4, &[1, 0, 9, 9, 9, 9])), [1, 0, 9, 9, 9, 9]);
    assert_eq!(counts(send(70, 6, 0, &[9, 9])), [9, 9]);
    assert!(counts(send(80, 6, i32::MIN, &[7])).is_empty());
}

#[test]
fn each_process_has_series_of_its_own() {
    let mut receiver = receiver();
    let of = |instance, time, count| {
        let point = explicit_point(time, &[1.0], &[count, 0], 0.5);
        let mut request = explicit("s", CUMULATIVE, vec![point]);
        request.resource_metrics[0].resource.as_mut().unwrap().attributes[1] =
            attribute("service.instance.id", instance);
        request
    };
    for (instance, time, count, expected) in
        [("a", 10, 100, 0), ("b", 11, 5, 0), ("a", 20, 101, 1), ("b", 21, 7, 2), ("a", 30, 104, 3)]
    {
        let found = receiver.take(&of(instance, time, count), NOW);
        let count = found.items.iter().map(|item| item.sketch.count()).sum::<u64>();
        assert_eq!((count, found.resets), (expected, 0), "{instance} {time}");
    }
    // The order of attributes tells nothing.
    let mut turned = of("a", 40, 105);
    turned.resource_metrics[0].resource.as_mut().unwrap().attributes.reverse();
    assert_eq!(receiver.take(&turned, NOW).items[0].sketch.count(), 1);
}

#[test]
fn points_of_one_operation_and_time_are_one_item() {
    let of = |code| {
        let mut point = explicit_point(10, &[1.0], &[3, 0], 1.5);
        point.attributes.push(attribute("http.response.status_code", code));
        point
    };
    let request =
        explicit("s", DELTA, vec![of("200"), of("500"), explicit_point(20, &[1.0], &[1, 0], 0.5)]);
    let taken = receiver().take(&request, NOW);
    let found: Vec<_> = taken.items.iter().map(|it| (it.unix_nanos, it.sketch.count())).collect();
    assert_eq!(found, [((START + 10 * S) as i64, 6), ((START + 20 * S) as i64, 1)]);
}
