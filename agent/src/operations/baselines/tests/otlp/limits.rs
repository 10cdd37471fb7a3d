//! What is refused, passed over or bounded, and requests in JSON.

use prost::Message;

use super::*;
use crate::operations::baselines::otlp::Taken;
use crate::operations::baselines::otlp::wire::{MOST_MESSAGES, PartialSuccess};
use crate::operations::baselines::source::Naming;

fn taken(change: impl Fn(&mut HistogramDataPoint)) -> Taken {
    let mut point = explicit_point(1, &[1.0], &[3, 4], 5.0);
    change(&mut point);
    receiver().take(&explicit("s", DELTA, vec![point]), NOW)
}

#[test]
fn what_can_t_be_taken_is_answered() {
    type Change = fn(&mut HistogramDataPoint);
    let table: [(&str, Change); 9] = [
        ("it has no time", |it| it.time_unix_nano = 0),
        ("it has no time", |it| it.time_unix_nano = u64::MAX),
        ("it lies in the future", |it| it.time_unix_nano = NOW as u64 + 301 * S),
        ("it has no buckets", |it| it.bucket_counts.clear()),
        ("its buckets are unsound", |it| it.count = 8),
        ("its buckets are unsound", |it| it.explicit_bounds.push(0.5)),
        ("its buckets are unsound", |it| it.explicit_bounds = vec![f64::NAN]),
        ("its buckets are unsound", |it| it.bucket_counts = vec![u64::MAX, 1]),
        ("it has too many attributes", |it| {
            it.attributes = (0..257).map(|key| attribute(&key.to_string(), "x")).collect();
        }),
    ];
    for (why, change) in table {
        let taken = taken(change);
        assert_eq!(taken.items, [], "{why}");
        let partial =
            PartialSuccess { rejected_data_points: 1, error_message: format!("1: {why}") };
        assert_eq!(taken.response(), Response { partial_success: Some(partial) });
    }
    let point = explicit_point(1, &[1.0], &[3, 4], 5.0);
    for (why, request) in [
        ("its unit is none of time", explicit("By", DELTA, vec![point.clone()])),
        ("its unit is none of time", explicit("", DELTA, vec![point.clone()])),
        ("it is neither delta nor cumulative", explicit("s", 0, vec![point])),
        (
            "its scale is not -4 to 20",
            exponential("s", DELTA, vec![exponential_point(1, 21, 0, &[1], 1.0)]),
        ),
        (
            "its scale is not -4 to 20",
            exponential("s", DELTA, vec![exponential_point(1, -5, 0, &[1], 1.0)]),
        ),
        (
            "it has too many buckets",
            exponential("s", CUMULATIVE, vec![exponential_point(1, 6, 0, &[1; 1_025], 1.0)]),
        ),
    ] {
        let taken = receiver().take(&request, NOW);
        assert_eq!(taken.rejected.into_iter().collect::<Vec<_>>(), [(why, 1)]);
    }
}

#[test]
fn what_is_not_meant_for_it_is_passed_over() {
    let plain = taken(|it| it.flags = 1);
    assert_eq!((plain.ignored, plain.items.len(), plain.rejected.len()), (1, 0, 0));
    let unnamed = taken(|it| drop(it.attributes.pop()));
    assert_eq!((unnamed.unnamed, unnamed.items.len(), unnamed.rejected.len()), (1, 0, 0));
    let long = taken(|it| it.attributes[1] = attribute("http.route", &"x".repeat(1_025)));
    assert_eq!(long.unnamed, 1);
    let none = taken(|it| {
        (it.count, it.bucket_counts) = (0, vec![0, 0]);
    });
    assert_eq!((none.items.len(), none.rejected.len()), (0, 0));
    let mut request = explicit("s", DELTA, vec![explicit_point(1, &[1.0], &[1, 1], 2.0)]);
    request.resource_metrics[0].scope_metrics[0].metrics[0].name = "process.uptime".to_owned();
    let other = receiver().take(&request, NOW);
    assert_eq!((other.ignored, other.items.len()), (1, 0));
    assert!(other.response().encode_to_vec().is_empty());
}

#[test]
fn a_number_can_name_too() {
    let naming = Naming::parse("{port}.{tls}.{ratio}").unwrap();
    let mut receiver = Receiver::new([(NAME.to_owned(), naming)], 10);
    let of = |key: &str, value| KeyValue { key: key.to_owned(), value: Some(value) };
    let mut point = explicit_point(1, &[1.0], &[1, 0], 0.5);
    point.attributes = vec![
        of("port", AnyValue { int_value: Some(80), ..AnyValue::default() }),
        of("tls", AnyValue { bool_value: Some(true), ..AnyValue::default() }),
        of("ratio", AnyValue { double_value: Some(0.5), ..AnyValue::default() }),
    ];
    let taken = receiver.take(&explicit("s", DELTA, vec![point]), NOW);
    assert_eq!(taken.items[0].operation, "80.true.0.5");
}

#[test]
fn what_is_remembered_is_bounded() {
    let mut receiver = Receiver::new(Receiver::usual(), 2);
    let of = |route: &str, time| {
        let mut point = explicit_point(time, &[1.0], &[1, 0], 0.5);
        point.attributes[1] = attribute("http.route", route);
        explicit("s", CUMULATIVE, vec![point])
    };
    assert_eq!(receiver.take(&of("a", 1), NOW).first, 1);
    assert_eq!(receiver.take(&of("b", 900), NOW).first, 1);
    let full = receiver.take(&of("c", 2), NOW);
    assert_eq!((full.rejected["there are too many series"], receiver.series()), (1, 2));
    // An hour after the first was last seen, there is room.
    let later = NOW + 2_650 * S as i64;
    assert_eq!((receiver.take(&of("c", 2_900), later).first, receiver.series()), (1, 2));
    assert_eq!(receiver.take(&of("b", 2_950), later).first, 0);
}

#[test]
fn json_says_the_same() {
    let json = r#"{"resourceMetrics":[{"resource":{"attributes":[
        {"key":"service.name","value":{"stringValue":"shop"}},
        {"key":"service.instance.id","value":{"stringValue":"1"}}]},
      "schemaUrl":"x","scopeMetrics":[{"scope":{"name":"http","version":"1"},"metrics":[{
        "name":"http.server.request.duration","description":"d","unit":"s",
        "histogram":{"aggregationTemporality":1,"dataPoints":[{"attributes":[
          {"key":"http.request.method","value":{"stringValue":"GET"}},
          {"key":"http.route","value":{"stringValue":"/users/{id}"}},
          {"key":"port","value":{"intValue":"80"}},{"key":"same","value":{"intValue":-80}},
          {"key":"list","value":{"arrayValue":{"values":[{"stringValue":"a"}]}}},
          {"key":"none","value":{}}],
          "startTimeUnixNano":"1799999000000000000","timeUnixNano":1799999001000000000,
          "count":"7","sum":5.5,"bucketCounts":["3",4],"explicitBounds":[1],"exemplars":[{"asDouble":1}],
          "min":0.5,"max":"2","flags":0}]}},
        {"name":"http.server.request.duration","unit":"s","exponentialHistogram":{"aggregationTemporality":1,
          "dataPoints":[{"timeUnixNano":"1799999001000000000","count":3,"sum":null,"scale":6,"zeroCount":"1",
          "positive":{"offset":-4,"bucketCounts":["2"]},"zeroThreshold":0}]}}]}]}]}"#;
    let request = Request::from_json(json.as_bytes()).unwrap();
    let metrics = &request.resource_metrics[0].scope_metrics[0].metrics;
    let point = &metrics[0].histogram.as_ref().unwrap().data_points[0];
    assert_eq!(
        (point.count, point.max, point.bucket_counts.as_slice()),
        (7, Some(2.0), &[3, 4][..])
    );
    let value = |index: usize| point.attributes[index].value.as_ref().unwrap();
    assert_eq!((value(2).int_value, value(3).int_value), (Some(80), Some(-80)));
    assert!(value(4).array_value.is_some());
    assert_eq!(value(5), &AnyValue::default());
    let taken = receiver().take(&request, NOW);
    assert_eq!((taken.items.len(), taken.unnamed), (1, 1));
    let mut point = explicit_point(1, &[1.0], &[3, 4], 5.5);
    (point.min, point.max) = (Some(0.5), Some(2.0));
    let binary = receiver().take(&explicit("s", DELTA, vec![point]), NOW);
    assert_eq!(taken.items, binary.items);
    for bad in [
        "",
        "[]x",
        "{\"resourceMetrics\":3}",
        "{\"resourceMetrics\":[{\"scopeMetrics\":[{\"metrics\":[{\"histogram\":{\"dataPoints\":[{\"count\":\"x\"}]}}]}]}]}",
    ] {
        assert!(Request::from_json(bad.as_bytes()).is_err(), "{bad}");
    }
    assert_eq!(Response::default().to_json(), "{}");
    let partial = PartialSuccess { rejected_data_points: 3, error_message: "a \"b\"".to_owned() };
    let found: serde_json::Value =
        serde_json::from_str(&Response { partial_success: Some(partial) }.to_json()).unwrap();
    assert_eq!(found["partialSuccess"]["rejectedDataPoints"], "3");
    assert_eq!(found["partialSuccess"]["errorMessage"], "a \"b\"");
}

#[test]
fn what_a_request_takes_is_bounded() {
    let many = |count: usize| {
        let metrics = vec![Metric::default(); count];
        Request::from_protobuf(&request_of(metrics, "1").encode_to_vec())
    };
    // Besides the metrics there are a resource with two attributes and their values, and a scope.
    assert!(many(MOST_MESSAGES - 8).is_ok());
    assert!(many(MOST_MESSAGES - 7).is_err());
    let json = format!("{{\"resourceMetrics\":[{}{{}}]}}", "{},".repeat(MOST_MESSAGES));
    assert!(Request::from_json(json.as_bytes()).is_err());
    let lists = format!("{{\"resourceMetrics\":[{}[]]}}", "[],".repeat(MOST_MESSAGES));
    assert!(Request::from_json(lists.as_bytes()).is_err());
    // A list within lists is not looked into.
    let deep = |depth: usize| {
        let mut bytes = Vec::new();
        for _ in 0..depth {
            let mut outer = vec![0x0a];
            prost::encoding::encode_varint(bytes.len() as u64, &mut outer);
            outer.extend(&bytes);
            bytes = outer;
        }
        bytes
    };
    drop(Request::from_protobuf(&deep(5_000)));
    for bad in [
        &b"\x0a\x05abc"[..],
        b"\x0b",
        b"\x0a",
        b"\x08",
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    ] {
        assert!(Request::from_protobuf(bad).is_err(), "{bad:?}");
    }
}
