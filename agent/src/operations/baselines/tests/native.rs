//! What is exported in protobuf is what the text says, and what the sketches hold.

use std::collections::BTreeMap;

use genesis_stats::Sketch;
use prometheus_client::encoding::text::encode as encode_text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use proptest::prelude::*;
use prost::Message;

use crate::operations::baselines::exposition::{Dialect, parse};
use crate::operations::baselines::native::{
    self, Format, MetricFamily, MetricType, baselines, encode, families, negotiate,
};

/// Name, labels and value of a series, as Prometheus would keep it.
type Series = BTreeMap<(String, Vec<(String, String)>), f64>;

fn decode(mut bytes: &[u8]) -> Vec<MetricFamily> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        found.push(MetricFamily::decode_length_delimited(&mut bytes).unwrap());
    }
    found
}

fn of_text(text: &str, dialect: Dialect) -> Series {
    let mut series = Series::new();
    let found = parse(text.as_bytes(), dialect);
    assert_eq!((found.bad_lines, found.complete), (0, true), "{:?}", found.bad);
    for family in &found.families {
        for sample in &family.samples {
            let mut labels: Vec<_> = sample.labels.iter().collect();
            labels.sort();
            let labels = labels.into_iter().map(|(name, it)| ((*name).to_owned(), it.to_string()));
            let name = format!("{}{}", family.name, sample.suffix);
            assert!(series.insert((name, labels.collect()), sample.value).is_none());
        }
    }
    series
}

fn of_families(families: &[MetricFamily]) -> Series {
    let mut series = Series::new();
    for family in families {
        for metric in &family.metric {
            let mut put = |suffix: &str, more: Option<(&str, String)>, value: f64| {
                let labels =
                    metric.label.iter().map(|it| (it.name().to_owned(), it.value().to_owned()));
                let more = more.into_iter().map(|(name, value)| (name.to_owned(), value));
                let mut labels: Vec<_> = labels.chain(more).collect();
                labels.sort();
                let name = format!("{}{suffix}", family.name());
                assert!(series.insert((name, labels), value).is_none());
            };
            let plain = [metric.counter, metric.gauge, metric.untyped];
            plain.iter().flatten().for_each(|value| put("", None, value.value()));
            if let Some(histogram) = &metric.histogram {
                for bucket in &histogram.bucket {
                    let bound = bucket.upper_bound();
                    let bound =
                        if bound.is_finite() { format!("{bound:?}") } else { "+Inf".into() };
                    put("_bucket", Some(("le", bound)), bucket.cumulative_count() as f64);
                }
                put("_count", None, histogram.sample_count() as f64);
                histogram.sample_sum.iter().for_each(|sum| put("_sum", None, *sum));
            }
            if let Some(summary) = &metric.summary {
                for each in &summary.quantile {
                    put("", Some(("quantile", format!("{:?}", each.quantile()))), each.value());
                }
                summary.sample_count.iter().for_each(|count| put("_count", None, *count as f64));
                summary.sample_sum.iter().for_each(|sum| put("_sum", None, *sum));
            }
        }
    }
    series
}

#[test]
fn our_own_text_is_the_same_in_protobuf() {
    let mut registry = Registry::default();
    let calls = Family::<Vec<(String, String)>, Counter>::default();
    registry.register("calls", "How \"often\"", calls.clone());
    for (name, value) in [("a\\b", 3), ("c\n\"d\"", 4)] {
        calls.get_or_create(&vec![("of".to_owned(), name.to_owned())]).inc_by(value);
    }
    let heat: Gauge<f64, std::sync::atomic::AtomicU64> = Gauge::default();
    heat.set(-1.5);
    registry.register_with_unit("heat", "How hot", Unit::Celsius, heat);
    let took = Histogram::new([0.1, 0.5, 2.0]);
    [0.05, 0.3, 0.4, 7.0].into_iter().for_each(|value| took.observe(value));
    registry.register("took", "How long", took);
    registry.register("build", "Which", Info::new(vec![("version", "1")]));
    let mut text = String::new();
    encode_text(&mut text, &registry).unwrap();
    let found = families(&parse(text.as_bytes(), Dialect::OpenMetrics));
    let decoded = decode(&encode(&found));
    assert_eq!(decoded, found);
    assert_eq!(of_families(&decoded), of_text(&text, Dialect::OpenMetrics));
    let kinds: Vec<_> = decoded.iter().map(|it| (it.name(), it.help(), it.r#type())).collect();
    assert_eq!(
        kinds,
        [
            ("calls_total", "How \"often\".", MetricType::Counter),
            ("heat_celsius", "How hot.", MetricType::Gauge),
            ("took", "How long.", MetricType::Histogram),
            ("build_info", "Which.", MetricType::Gauge),
        ]
    );
}

#[test]
fn summaries_and_what_has_no_type_are_kept() {
    let text = concat!(
        "# TYPE s summary\ns{quantile=\"0.5\",a=\"x\"} 2\ns{quantile=\"0.9\",a=\"x\"} 3\n",
        "s_sum{a=\"x\"} 9\ns_count{a=\"x\"} 4\nplain{b=\"y\"} 8 5\n# TYPE empty gauge\n",
        "# TYPE old_total counter\nold_total 4\n"
    );
    let decoded = decode(&encode(&families(&parse(text.as_bytes(), Dialect::Prometheus))));
    assert_eq!(of_families(&decoded), of_text(text, Dialect::Prometheus));
    let plain = decoded.iter().find(|family| family.name() == "plain").unwrap();
    assert_eq!((plain.r#type(), plain.metric[0].timestamp_ms), (MetricType::Untyped, Some(5)));
}

/// The counts by bucket of a native histogram, by the rules of the format.
fn buckets(histogram: &native::Histogram) -> Vec<(i32, u64)> {
    let (mut found, mut index, mut count) = (Vec::new(), 0, 0);
    let mut deltas = histogram.positive_delta.iter();
    for span in &histogram.positive_span {
        index += span.offset();
        for _ in 0..span.length() {
            count += deltas.next().unwrap();
            found.push((index, u64::try_from(count).unwrap()));
            index += 1;
        }
    }
    assert_eq!(deltas.next(), None);
    found
}

fn populated(sketch: &Sketch) -> Vec<(i32, u64)> {
    let (offset, counts) = sketch.raw();
    (offset..).zip(counts.iter().copied()).filter(|(_, count)| *count != 0).collect()
}

fn exported(sketch: &Sketch) -> native::Histogram {
    let family = baselines(&[("shop/pay".to_owned(), sketch.clone())]);
    let [family] = &decode(&encode(&[family]))[..] else { panic!("one family") };
    assert_eq!((family.name(), family.r#type()), (native::FAMILY, MetricType::Histogram));
    let [metric] = &family.metric[..] else { panic!("one metric") };
    let [label] = &metric.label[..] else { panic!("one label") };
    assert_eq!((label.name(), label.value()), ("operation", "shop/pay"));
    metric.histogram.clone().unwrap()
}

fn check(sketch: &Sketch) {
    let histogram = exported(sketch);
    let found = buckets(&histogram);
    let filled: Vec<_> = found.iter().copied().filter(|(_, count)| *count != 0).collect();
    assert_eq!(filled, populated(sketch));
    // At most two empty ones between two.
    assert!(found.len() <= 3 * filled.len());
    assert_eq!(histogram.schema, Some(6 - sketch.level() as i32));
    assert_eq!((histogram.zero_count(), histogram.zero_threshold()), (sketch.zeros(), 1e-9));
    assert_eq!((histogram.sample_count(), histogram.sample_sum()), (sketch.count(), sketch.sum()));
}

#[test]
fn a_sketch_is_a_native_histogram_of_the_same_buckets() {
    check(&Sketch::new());
    let mut sketch = Sketch::new();
    sketch.insert_count(0.0, 3);
    check(&sketch);
    sketch.insert_count(1.0, 5);
    // (2^(-1/64), 1] is bucket 0 of both.
    assert_eq!(buckets(&exported(&sketch)), [(0, 5)]);
    for level in 1..=10 {
        let mut sketch = sketch.clone();
        sketch.insert_all(&[1e-9, 1e-6, 0.5, 2.0, 4e9]);
        sketch.collapse_to(level);
        check(&sketch);
        assert!((-4..=8).contains(&exported(&sketch).schema()));
    }
}

#[test]
fn small_gaps_are_filled_and_large_ones_begin_a_span() {
    // Level 6 doubles with each bucket.
    for (powers, spans, deltas) in [
        (&[0, 1, 2][..], &[(0, 3)][..], &[1, 0, 0][..]),
        (&[0, 2], &[(0, 3)], &[1, -1, 1]),
        (&[0, 3], &[(0, 4)], &[1, -1, 0, 1]),
        (&[0, 4], &[(0, 1), (3, 1)], &[1, 0]),
        (&[-3, 2, 2], &[(-3, 1), (4, 1)], &[1, 1]),
        // The first one's offset is its index, however small.
        (&[2], &[(2, 1)], &[1]),
    ] {
        let mut sketch = Sketch::new();
        sketch.collapse_to(6);
        powers.iter().for_each(|power| assert!(sketch.insert(2_f64.powi(*power))));
        let histogram = exported(&sketch);
        let found = histogram.positive_span.iter().map(|span| (span.offset(), span.length()));
        assert_eq!(found.collect::<Vec<_>>(), spans, "{powers:?}");
        assert_eq!(histogram.positive_delta, deltas, "{powers:?}");
    }
}

proptest! {
    #[test]
    fn any_sketch_is(values in proptest::collection::vec((-9.0..9.0_f64, 1..5_u64), 0..300), level in 0..=10_u32) {
        let mut sketch = Sketch::new();
        for (power, count) in values {
            sketch.insert_count(10_f64.powf(power), count);
        }
        sketch.collapse_to(level);
        check(&sketch);
    }
}

#[test]
fn protobuf_is_for_those_who_ask_for_it() {
    const OURS: &str = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
    for (accept, format) in [
        (String::new(), Format::Text),
        ("*/*".to_owned(), Format::Text),
        ("text/plain;version=0.0.4;q=0.5,*/*;q=0.1".to_owned(), Format::Text),
        (OURS.to_owned(), Format::Protobuf),
        // Prometheus 2.42 with native histograms, and without.
        (
            format!(
                "{OURS},application/openmetrics-text;version=1.0.0;q=0.8,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
            ),
            Format::Protobuf,
        ),
        (
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1".to_owned(),
            Format::Text,
        ),
        // Prometheus 3 without: it can read it, but would rather not.
        (format!("application/openmetrics-text;version=1.0.0;q=0.6,{OURS};q=0.5"), Format::Text),
        (format!("{OURS};q=0.6,text/plain;q=0.5"), Format::Protobuf),
        (format!("{OURS};q=0.5,text/plain;q=0.5"), Format::Protobuf),
        (format!("text/plain;q=0.5,{OURS};q=0.5"), Format::Text),
        (format!("{OURS};q=0"), Format::Text),
        (format!("{OURS};q=x"), Format::Text),
        (format!("{OURS};q=NaN"), Format::Text),
        (
            "Application/Vnd.Google.Protobuf ; Proto=\"io.prometheus.client.MetricFamily\" ; Encoding=DELIMITED ; escaping=underscores ; q=0.9".to_owned(),
            Format::Protobuf,
        ),
        ("application/vnd.google.protobuf".to_owned(), Format::Text),
        ("application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text".to_owned(), Format::Text),
        ("application/vnd.google.protobuf;proto=other;encoding=delimited".to_owned(), Format::Text),
        (",;=,;;q".to_owned(), Format::Text),
    ] {
        assert_eq!(negotiate(&accept), format, "{accept}");
    }
}
