//! Metrics as Prometheus reads them in protobuf, which is its one format for native histograms: there a baseline is
//! exported with the sketch's own buckets. Pure.
//!
//! The messages are those of `io/prometheus/client/metrics.proto` (github.com/prometheus/client_model, v0.4.0), with the
//! fields that are written here. They are few and have not changed their numbers since, so no generator is asked.

use genesis_stats::Sketch;
use prost::Message;

use super::exposition::{ClassicHistogram, Families, Family, Kind, Quantiles};

/// The `Content-Type` of [`encode`]'s bytes.
pub const CONTENT_TYPE: &str =
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";
/// The family of the native histograms.
pub const FAMILY: &str = "genesis_baseline_seconds";
/// The schema of a sketch that was never collapsed.
const SCHEMA: i32 = 6;
/// Smaller values have no bucket, in seconds.
const ZERO: f64 = 1e-9;
/// So many empty buckets are written rather than a new span, as client_golang does.
const GAP: i32 = 2;

/// A label.
#[derive(Clone, PartialEq, Message)]
pub struct LabelPair {
    /// Its name.
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
    /// Its value.
    #[prost(string, optional, tag = "2")]
    pub value: Option<String>,
}

/// What a family is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum MetricType {
    /// Has counters.
    Counter = 0,
    /// Has gauges.
    Gauge = 1,
    /// Has summaries.
    Summary = 2,
    /// Has untyped values.
    Untyped = 3,
    /// Has histograms.
    Histogram = 4,
    /// Has histograms that go up and down.
    GaugeHistogram = 5,
}

/// One value: the message of a counter, a gauge and what has no type.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Value {
    /// The value.
    #[prost(double, optional, tag = "1")]
    pub value: Option<f64>,
}

/// A value at a quantile.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct QuantileValue {
    /// The quantile.
    #[prost(double, optional, tag = "1")]
    pub quantile: Option<f64>,
    /// The value.
    #[prost(double, optional, tag = "2")]
    pub value: Option<f64>,
}

/// A summary.
#[derive(Clone, PartialEq, Message)]
pub struct Summary {
    /// How many values there are.
    #[prost(uint64, optional, tag = "1")]
    pub sample_count: Option<u64>,
    /// What they sum up to.
    #[prost(double, optional, tag = "2")]
    pub sample_sum: Option<f64>,
    /// Values at quantiles.
    #[prost(message, repeated, tag = "3")]
    pub quantile: Vec<QuantileValue>,
}

/// A bucket of a classic histogram.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Bucket {
    /// How many values are not above the bound.
    #[prost(uint64, optional, tag = "1")]
    pub cumulative_count: Option<u64>,
    /// The bound.
    #[prost(double, optional, tag = "2")]
    pub upper_bound: Option<f64>,
}

/// Native buckets next to each other.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct BucketSpan {
    /// How many buckets lie between it and the one before; of the first one, the index.
    #[prost(sint32, optional, tag = "1")]
    pub offset: Option<i32>,
    /// How many buckets there are.
    #[prost(uint32, optional, tag = "2")]
    pub length: Option<u32>,
}

/// A histogram, classic or native.
#[derive(Clone, PartialEq, Message)]
pub struct Histogram {
    /// How many values there are.
    #[prost(uint64, optional, tag = "1")]
    pub sample_count: Option<u64>,
    /// What they sum up to.
    #[prost(double, optional, tag = "2")]
    pub sample_sum: Option<f64>,
    /// Classic buckets.
    #[prost(message, repeated, tag = "3")]
    pub bucket: Vec<Bucket>,
    /// Native bucket i holds what is above 2^((i-1) 2^-schema) and not above 2^(i 2^-schema).
    #[prost(sint32, optional, tag = "5")]
    pub schema: Option<i32>,
    /// The bound of the bucket of zero.
    #[prost(double, optional, tag = "6")]
    pub zero_threshold: Option<f64>,
    /// What is in the bucket of zero.
    #[prost(uint64, optional, tag = "7")]
    pub zero_count: Option<u64>,
    /// Where the native buckets of positive values are.
    #[prost(message, repeated, tag = "12")]
    pub positive_span: Vec<BucketSpan>,
    /// What each of them has more than the one before; of the first one, the count.
    #[prost(sint64, repeated, packed = "false", tag = "13")]
    pub positive_delta: Vec<i64>,
}

/// One of a family, with its labels.
#[derive(Clone, PartialEq, Message)]
pub struct Metric {
    /// Its labels.
    #[prost(message, repeated, tag = "1")]
    pub label: Vec<LabelPair>,
    /// Of a gauge.
    #[prost(message, optional, tag = "2")]
    pub gauge: Option<Value>,
    /// Of a counter.
    #[prost(message, optional, tag = "3")]
    pub counter: Option<Value>,
    /// Of a summary.
    #[prost(message, optional, tag = "4")]
    pub summary: Option<Summary>,
    /// Of what has no type.
    #[prost(message, optional, tag = "5")]
    pub untyped: Option<Value>,
    /// Of a histogram.
    #[prost(message, optional, tag = "7")]
    pub histogram: Option<Histogram>,
    /// Milliseconds since 1970.
    #[prost(int64, optional, tag = "6")]
    pub timestamp_ms: Option<i64>,
}

/// The metrics of one name.
#[derive(Clone, PartialEq, Message)]
pub struct MetricFamily {
    /// The name.
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
    /// What is said of it.
    #[prost(string, optional, tag = "2")]
    pub help: Option<String>,
    /// What it is.
    #[prost(enumeration = "MetricType", optional, tag = "3")]
    pub r#type: Option<i32>,
    /// The metrics.
    #[prost(message, repeated, tag = "4")]
    pub metric: Vec<Metric>,
}

/// What a client takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Text.
    Text,
    /// Protobuf.
    Protobuf,
}

/// The format that an `Accept` asks for: protobuf only where it is named, with a weight not below that of any text named
/// with it, and before it at the same weight.
pub fn negotiate(accept: &str) -> Format {
    let (mut protobuf, mut text) = (0.0, 0.0);
    for range in accept.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
        let (mut weight, mut ours) = (Some(1.0), [false; 2]);
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            let value = value.trim().trim_matches('"');
            match name.trim().to_ascii_lowercase().as_str() {
                "q" => weight = value.parse().ok().filter(|q| (0.0..=1.0).contains(q)),
                "proto" => ours[0] = value == "io.prometheus.client.MetricFamily",
                "encoding" => ours[1] = value.eq_ignore_ascii_case("delimited"),
                _ => {}
            }
        }
        // One whose weight can't be read is as if it were not there.
        let weight: f64 = weight.unwrap_or(0.0);
        match kind.as_str() {
            "application/vnd.google.protobuf" if ours == [true; 2] && weight > text => {
                protobuf = weight.max(protobuf);
            }
            "application/openmetrics-text" | "text/plain" | "text/*" | "*/*" => {
                text = weight.max(text);
            }
            _ => {}
        }
    }
    if protobuf > 0.0 && protobuf >= text { Format::Protobuf } else { Format::Text }
}

/// The bytes of families, each with its length before it.
pub fn encode(families: &[MetricFamily]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for family in families {
        let encoded = family.encode_to_vec();
        prost::encoding::encode_varint(encoded.len() as u64, &mut bytes);
        bytes.extend(encoded);
    }
    bytes
}

/// What a text says, as families. Series keep the names that they have in the text; unsound histograms and the times at
/// which something was created are left out.
pub fn families(text: &Families<'_>) -> Vec<MetricFamily> {
    text.families.iter().flat_map(family).collect()
}

/// The baselines as one family of native histograms, by operation. Nothing is lost but the extremes.
pub fn baselines(sketches: &[(String, Sketch)]) -> MetricFamily {
    let metrics = sketches.iter().map(|(operation, sketch)| Metric {
        label: vec![label("operation", operation)],
        histogram: Some(native(sketch)),
        ..Metric::default()
    });
    MetricFamily {
        name: Some(FAMILY.to_owned()),
        help: Some("The latencies that it was calculated from".to_owned()),
        r#type: Some(MetricType::Histogram.into()),
        metric: metrics.collect(),
    }
}

fn family(family: &Family<'_>) -> Vec<MetricFamily> {
    let whole = |kind: MetricType, metric: Vec<Metric>| MetricFamily {
        name: Some(family.name.to_owned()),
        help: Some(family.help.clone().into_owned()),
        r#type: Some(kind.into()),
        metric,
    };
    let (kind, wrap): (_, fn(Value) -> Metric) = match family.kind {
        Kind::Counter => (MetricType::Counter, |it| Metric { counter: Some(it), ..<_>::default() }),
        Kind::Gauge | Kind::StateSet | Kind::Info => {
            (MetricType::Gauge, |it| Metric { gauge: Some(it), ..<_>::default() })
        }
        Kind::Unknown => (MetricType::Untyped, |it| Metric { untyped: Some(it), ..<_>::default() }),
        Kind::Histogram | Kind::GaugeHistogram => {
            let kind = match family.kind {
                Kind::Histogram => MetricType::Histogram,
                _ => MetricType::GaugeHistogram,
            };
            let (histograms, _) = family.histograms();
            return vec![whole(kind, histograms.iter().map(classic).collect())];
        }
        Kind::Summary => {
            let summaries = family.summaries();
            return vec![whole(MetricType::Summary, summaries.iter().map(summary).collect())];
        }
    };
    // Here a family has the name of its samples, ending included.
    let mut found: Vec<(&str, MetricFamily)> = Vec::new();
    for sample in family.samples.iter().filter(|sample| sample.suffix != "_created") {
        let place = found.iter().position(|(suffix, _)| *suffix == sample.suffix);
        let place = place.unwrap_or_else(|| {
            let name = Some(format!("{}{}", family.name, sample.suffix));
            found.push((sample.suffix, MetricFamily { name, ..whole(kind, Vec::new()) }));
            found.len() - 1
        });
        let label = sample.labels.iter().map(|(name, value)| label(name, value)).collect();
        let value = wrap(Value { value: Some(sample.value) });
        found[place].1.metric.push(Metric { label, timestamp_ms: sample.timestamp, ..value });
    }
    found.into_iter().map(|(_, family)| family).collect()
}

fn label(name: &str, value: &str) -> LabelPair {
    LabelPair { name: Some(name.to_owned()), value: Some(value.to_owned()) }
}

fn labels(labels: &[(String, String)]) -> Vec<LabelPair> {
    labels.iter().map(|(name, value)| label(name, value)).collect()
}

fn classic(histogram: &ClassicHistogram) -> Metric {
    let bucket = |(bound, count): &(f64, u64)| Bucket {
        cumulative_count: Some(*count),
        upper_bound: Some(*bound),
    };
    Metric {
        label: labels(&histogram.labels),
        histogram: Some(Histogram {
            sample_count: Some(histogram.count),
            sample_sum: histogram.sum,
            bucket: histogram.buckets.iter().map(bucket).collect(),
            ..Histogram::default()
        }),
        timestamp_ms: histogram.timestamp,
        ..Metric::default()
    }
}

fn summary(summary: &Quantiles) -> Metric {
    let quantile = |(quantile, value): &(f64, f64)| QuantileValue {
        quantile: Some(*quantile),
        value: Some(*value),
    };
    Metric {
        label: labels(&summary.labels),
        summary: Some(Summary {
            sample_count: summary.count,
            sample_sum: summary.sum,
            quantile: summary.quantiles.iter().map(quantile).collect(),
        }),
        timestamp_ms: summary.timestamp,
        ..Metric::default()
    }
}

/// A sketch as a native histogram: its buckets have the same bounds and indexes.
fn native(sketch: &Sketch) -> Histogram {
    let (offset, counts) = sketch.raw();
    let (mut spans, mut deltas): (Vec<BucketSpan>, Vec<i64>) = (Vec::new(), Vec::new());
    let (mut next, mut last) = (0, 0);
    for (index, count) in (offset..).zip(counts).filter(|(_, count)| **count != 0) {
        let gap = index - next;
        let empty = match spans.last_mut() {
            Some(span) if gap <= GAP => {
                span.length = span.length.map(|length| length + 1 + gap.unsigned_abs());
                gap
            }
            _ => {
                spans.push(BucketSpan { offset: Some(gap), length: Some(1) });
                0
            }
        };
        for _ in 0..empty {
            deltas.push(-std::mem::take(&mut last));
        }
        let count = i64::try_from(*count).unwrap_or(i64::MAX);
        deltas.push(count - last);
        (next, last) = (index + 1, count);
    }
    Histogram {
        sample_count: Some(sketch.count()),
        sample_sum: Some(sketch.sum()),
        schema: Some(SCHEMA - sketch.level() as i32),
        // There always is one, as by it Prometheus tells a native histogram without values from a classic one.
        zero_threshold: Some(ZERO),
        zero_count: Some(sketch.zeros()),
        positive_span: spans,
        positive_delta: deltas,
        ..Histogram::default()
    }
}
