//! What is read of metrics and of the headers beside them: text of Prometheus, OTLP in protobuf and JSON.

use genesis_agent::operations::baselines::exposition::{
    Dialect, Families, Kind, LONGEST_NAME, LONGEST_VALUE, MOST_LABELS, MOST_SAMPLES, parse,
};
use genesis_agent::operations::baselines::native;
use genesis_agent::operations::baselines::otlp::wire::Request;
use genesis_agent::operations::baselines::otlp::{Receiver, Taken};
use genesis_agent::operations::baselines::push::LIMIT;
use genesis_agent::operations::baselines::source::{Cumulative, Naming, Unit};
use genesis_agent::server::caller::reason_of;
use genesis_agent::trace::Trace;
use http::{HeaderMap, HeaderValue};
use prost::Message;

use super::{NOW, text};

/// So many bytes of a text are read.
const TEXT: usize = 1 << 20;
/// So many series are remembered.
const SERIES: usize = 10_000;
/// So many bad lines are told.
const TOLD: usize = 20;
/// So many bytes a caller's reason has at most.
const REASON: usize = 1_024;

/// A text says the same with either kind of line end; what is counted of it is what can be counted; and a second look at
/// the same tells nothing new.
pub fn prometheus_text(data: &[u8]) {
    if data.len() > TEXT {
        return;
    }
    for dialect in [Dialect::Prometheus, Dialect::OpenMetrics] {
        let families = parse(data, dialect);
        assert_eq!(families.bad.len(), families.bad_lines.min(TOLD));
        assert!(families.samples() <= MOST_SAMPLES);
        if !data.contains(&b'\r') {
            let carried = data.iter().flat_map(|byte| match byte {
                b'\n' => &b"\r\n"[..],
                byte => std::slice::from_ref(byte),
            });
            let carried: Vec<u8> = carried.copied().collect();
            assert_eq!(said(&families), said(&parse(&carried, dialect)));
        }
        for family in &families.families {
            assert!((1..=LONGEST_NAME).contains(&family.name.len()));
            for sample in &family.samples {
                assert!(sample.labels.len() <= MOST_LABELS);
                assert!(sample.labels.iter().all(|(_, value)| value.len() <= LONGEST_VALUE));
            }
            if family.kind == Kind::Histogram {
                histograms(&families, family.name);
            }
        }
        encoded(&families);
    }
}

/// All that a text says. Numbers may be none, so that only their texts can be compared.
fn said(families: &Families<'_>) -> String {
    let Families { families, bad, bad_lines, left_out, complete, .. } = families;
    format!("{families:?} {bad:?} {bad_lines} {left_out} {complete}")
}

/// Buckets ascend to the infinite one, which has all values; two looks at the same differ in nothing.
fn histograms(families: &Families<'_>, name: &str) {
    let (histograms, _) = families.histograms(name);
    for histogram in &histograms {
        let ascends = |pair: &[(f64, u64)]| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1;
        assert!(histogram.buckets.windows(2).all(ascends), "{histogram:?}");
        assert_eq!(histogram.buckets.last(), Some(&(f64::INFINITY, histogram.count)));
    }
    let naming = Naming::parse("any").expect("it is a naming");
    let mut cumulative = Cumulative::new(SERIES);
    let first = cumulative.scrape(families, name, &naming, Unit::of_metric(name));
    assert_eq!(first.first + first.crowded_out, histograms.len());
    assert!(first.operations.is_empty() && first.resets == 0);
    let second = cumulative.scrape(families, name, &naming, Unit::of_metric(name));
    assert!(second.operations.is_empty() && second.resets == 0, "nothing came in between");
    assert_eq!((second.first, second.crowded_out), (0, first.crowded_out));
}

/// What is exported for Prometheus reads as it is written.
fn encoded(families: &Families<'_>) {
    let bytes = native::encode(&native::families(families));
    let (mut rest, mut again) = (bytes.as_slice(), Vec::new());
    while !rest.is_empty() {
        let family = native::MetricFamily::decode_length_delimited(&mut rest);
        again.push(family.expect("a family reads as it is written"));
    }
    assert_eq!(native::encode(&again), bytes);
}

/// The text of a header: a trace is followed under its own id, and a reason has no control characters.
pub fn headers(data: &[u8]) {
    let text = text(data);
    if let Some(trace) = Trace::parse(&text) {
        assert_eq!(Trace::of(&trace.id()).map(|it| it.id()), Some(trace.id()));
        assert!(trace.parent().is_some());
        if let Some(untold) = Trace::parse(&trace.untold()) {
            assert_eq!(untold.id(), trace.id());
        }
    }
    let _ = native::negotiate(&text);
    let _ = Dialect::of(&text);
    let Ok(value) = HeaderValue::from_bytes(data) else { return };
    let reason = reason_of(&HeaderMap::from_iter([(
        http::HeaderName::from_static("genesis-reason"),
        value,
    )]));
    assert!(reason.len() <= REASON && !reason.chars().any(char::is_control), "{reason:?}");
}

/// Pushed metrics in protobuf are written as they were read.
pub fn otlp_protobuf(data: &[u8]) {
    if data.len() > LIMIT {
        return;
    }
    if let Ok(request) = Request::from_protobuf(data) {
        taken(&request);
    }
}

/// Pushed metrics in JSON are taken as the same ones in protobuf are.
pub fn otlp_json(data: &[u8]) {
    if data.len() > LIMIT {
        return;
    }
    if let Ok(request) = Request::from_json(data) {
        taken(&request);
    }
}

/// A request says the same once it was written and read, what is made of it depends on nothing else, and what was counted
/// since a start is not counted again when it comes again.
fn taken(request: &Request) {
    let bytes = request.encode_to_vec();
    let again = Request::from_protobuf(&bytes).expect("a request reads as it is written");
    assert_eq!(again.encode_to_vec(), bytes);
    let now = NOW * 1_000_000_000;
    let receiver = || Receiver::new(Receiver::usual(), SERIES);
    let (mut one, mut other) = (receiver(), receiver());
    let (first, same) = (one.take(request, now), other.take(&again, now));
    assert_eq!(first.items, same.items);
    assert_eq!(first.response(), same.response());
    answered(&first);
    let second = one.take(request, now);
    // A point that can't be taken is not remembered either.
    if first.rejected.is_empty() {
        assert_eq!((second.first, second.resets), (0, 0), "nothing is new of a series");
    }
    answered(&second);
}

fn answered(taken: &Taken) {
    let response = taken.response().to_json();
    let read = serde_json::from_str::<serde_json::Value>(&response);
    assert!(read.is_ok_and(|read| read.is_object()), "{response}");
}
