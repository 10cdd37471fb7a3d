//! Tables of text formats that are read, and texts that nobody should write.

use std::borrow::Cow;

use proptest::prelude::*;

use crate::operations::baselines::exposition::{
    ClassicHistogram, Dialect, Families, Kind, LONGEST_VALUE, MOST_LABELS, MOST_SAMPLES, parse,
};

const INFINITE: f64 = f64::INFINITY;

fn text(text: &str) -> Families<'_> {
    parse(text.as_bytes(), Dialect::Prometheus)
}

fn open(text: &str) -> Families<'_> {
    parse(text.as_bytes(), Dialect::OpenMetrics)
}

/// The value of the one sample of a family.
fn value(families: &Families<'_>, name: &str) -> f64 {
    let family = families.get(name).unwrap();
    assert_eq!(family.samples.len(), 1, "{name}");
    family.samples[0].value
}

#[test]
fn the_text_of_prometheus_is_read() {
    let found = text(concat!(
        "# HELP http_requests_total The total, \\\\ and \\n in a line.\r\n",
        "# TYPE http_requests_total counter\r\n",
        "http_requests_total{method=\"post\",code=\"200\"} 1027 1395066363000\r\n",
        "http_requests_total{method=\"post\",code=\"400\",}    3 1395066363000\n",
        "\n",
        "# Escaping in labels:\n",
        "escaped{path=\"C:\\\\DIR\\\\FILE.TXT\",error=\"a\\n\\\"b\\\", {c}=d\"} 1.458255915e9\n",
        "  minimal\t12.47\n",
        "odd { problem = \"division by zero\" , } +Inf -3982045\n",
        "none NaN\n",
        "# TYPE rpc summary\n",
        "rpc{quantile=\"0.5\"} 4773\n",
        "rpc_sum 1.7560473e+07\n",
        "rpc_count 2693\n",
    ));
    assert_eq!((found.bad_lines, found.left_out, found.complete), (0, 0, true), "{:?}", found.bad);
    assert_eq!(found.samples(), 9);
    let requests = found.get("http_requests_total").unwrap();
    assert_eq!((requests.kind, requests.samples.len()), (Kind::Counter, 2));
    assert_eq!(requests.help, "The total, \\ and \n in a line.");
    assert_eq!(requests.samples[1].labels[1], ("code", Cow::Borrowed("400")));
    assert_eq!(requests.samples[1].timestamp, Some(1_395_066_363_000));
    let escaped = &found.get("escaped").unwrap().samples[0];
    assert_eq!(escaped.labels[0].1, "C:\\DIR\\FILE.TXT");
    assert_eq!(escaped.labels[1].1, "a\n\"b\", {c}=d");
    assert_eq!((value(&found, "minimal"), value(&found, "odd")), (12.47, INFINITE));
    assert_eq!(found.get("odd").unwrap().samples[0].timestamp, Some(-3_982_045));
    assert!(value(&found, "none").is_nan());
    let [summary] = &found.get("rpc").unwrap().summaries()[..] else { panic!("one summary") };
    assert_eq!((summary.sum, summary.count), (Some(17_560_473.0), Some(2_693)));
    assert_eq!(summary.quantiles, [(0.5, 4_773.0)]);
}

#[test]
fn open_metrics_is_read() {
    let found = open(concat!(
        "# TYPE latency_seconds histogram\n",
        "# UNIT latency_seconds seconds\n",
        "# HELP latency_seconds So \\\"long\\\".\n",
        "latency_seconds_bucket{le=\"0.1\"} 8 # {trace_id=\"a b\"} 0.067 1520879607.7\n",
        "latency_seconds_bucket{le=\"+Inf\"} 10 1520879607.789 # {} 5\n",
        "latency_seconds_count 10\n",
        "latency_seconds_sum 2.5\n",
        "latency_seconds_created 1520430000.123\n",
        "# TYPE calls counter\n",
        "calls_total 5\n",
        "calls_created 1\n",
        "# TYPE build info\n",
        "build_info{version=\"1\"} 1\n",
        "# TYPE state stateset\n",
        "state{state=\"a\"} 1\n",
        "# TYPE queue gaugehistogram\n",
        "queue_bucket{le=\"+Inf\"} 3\n",
        "queue_gcount 3\n",
        "queue_gsum 4\n",
        "# EOF\n",
    ));
    assert_eq!((found.bad_lines, found.complete), (0, true), "{:?}", found.bad);
    let latency = found.get("latency_seconds").unwrap();
    assert_eq!((latency.unit, latency.help.as_ref()), ("seconds", "So \"long\"."));
    let expected = ClassicHistogram {
        labels: Vec::new(),
        buckets: vec![(0.1, 8), (INFINITE, 10)],
        sum: Some(2.5),
        count: 10,
        timestamp: Some(1_520_879_607_789),
    };
    assert_eq!(found.histograms("latency_seconds"), (vec![expected], 0));
    for (name, kind, suffixes) in [
        ("calls", Kind::Counter, &["_total", "_created"][..]),
        ("build", Kind::Info, &["_info"]),
        ("state", Kind::StateSet, &[""]),
        ("queue", Kind::GaugeHistogram, &["_bucket", "_gcount", "_gsum"]),
    ] {
        let family = found.get(name).unwrap();
        let found: Vec<_> = family.samples.iter().map(|sample| sample.suffix).collect();
        assert_eq!((family.kind, &found[..]), (kind, suffixes), "{name}");
    }
}

#[test]
fn histograms_are_put_together_from_any_order() {
    let found = text(concat!(
        "# TYPE h histogram\n",
        "h_count{a=\"2\"} 9\n",
        "h_bucket{le=\"+Inf\",a=\"1\",b=\"x\"} 6\n",
        "h_bucket{b=\"x\",le=\"1e-1\",a=\"1\"} 2\n",
        "h_bucket{a=\"2\",le=\"1\"} 9\n",
        "h_bucket{a=\"1\",b=\"x\",le=\"0.5\"} 2\n",
        "h_sum{a=\"1\",b=\"x\"} 3\n",
        // What another moment said; the buckets are of one.
        "h_count{a=\"1\",b=\"x\"} 7\n",
    ));
    let (histograms, unsound) = found.histograms("h");
    assert_eq!((histograms.len(), unsound), (2, 0));
    let [two, one] = &histograms[..] else { panic!("two") };
    assert_eq!(one.labels, [("a".to_owned(), "1".to_owned()), ("b".to_owned(), "x".to_owned())]);
    assert_eq!(one.buckets, [(0.1, 2), (0.5, 2), (INFINITE, 6)]);
    assert_eq!((one.sum, one.count), (Some(3.0), 6));
    assert_eq!(two.buckets, [(1.0, 9), (INFINITE, 9)]);
    assert_eq!((two.sum, two.count), (None, 9));
    assert_eq!(found.histograms("none"), (Vec::new(), 0));
}

#[test]
fn an_unsound_histogram_is_counted() {
    for body in [
        "h_bucket{le=\"1\"} 5\nh_bucket{le=\"+Inf\"} 4\n",
        "h_bucket{le=\"1\"} 5\nh_bucket{le=\"1.0\"} 5\nh_bucket{le=\"+Inf\"} 5\n",
        "h_bucket{le=\"1\"} 5\n",
        "h_bucket{le=\"1\"} 5\nh_count 4\n",
        "h_bucket{le=\"NaN\"} 5\nh_count 5\n",
        "h_bucket{le=\"x\"} 5\nh_count 5\n",
        "h_bucket 5\n",
        "h_bucket{le=\"+Inf\"} 5.5\n",
        "h_bucket{le=\"+Inf\"} -1\n",
        "h_bucket{le=\"+Inf\"} NaN\n",
        "h_bucket{le=\"+Inf\"} +Inf\n",
        "h_sum 5\n",
    ] {
        let body = format!("# TYPE h histogram\n{body}");
        assert_eq!(text(&body).histograms("h"), (Vec::new(), 1), "{body}");
    }
}

#[test]
fn a_bad_line_is_told_and_the_others_count() {
    for bad in [
        "a",
        "a ",
        "a b",
        "1a 1",
        "{a=\"1\"} 1",
        "a-b 1",
        "a{b} 1",
        "a{b=1} 1",
        "a{b=\"1} 1",
        "a{b=\"1\\\"} 1",
        "a{b=\"1\" c=\"2\"} 1",
        "a{b=\"1\",b=\"2\"} 1",
        "a{,} 1",
        "a{b:c=\"1\"} 1",
        "a{b=\"1\"",
        "a{b=\"1\"}",
        "a 1 x",
        "a 1 1.5",
        "a 1 2 3",
        "a 1 9223372036854775808",
        "# TYPE a strange",
        "# TYPE before gauge",
        "# HELP",
        "# TYPE 1 gauge",
        "h 1",
        "a\u{1f600} 1",
    ] {
        let body = format!("# TYPE h histogram\nbefore 1\n{bad}\nafter 2\n");
        let found = text(&body);
        assert_eq!(found.bad.iter().map(|bad| bad.line).collect::<Vec<_>>(), [3], "{bad}");
        assert_eq!((value(&found, "before"), value(&found, "after")), (1.0, 2.0), "{bad}");
        assert_eq!(found.samples(), 2, "{bad}");
    }
    let found = parse(b"a 1\nb{c=\"\xff\"} 1\nd 2\n", Dialect::Prometheus);
    assert_eq!((found.bad[0].line, found.bad_lines, found.samples()), (2, 1, 2));
    let many = "x\n".repeat(1_000);
    assert_eq!((text(&many).bad.len(), text(&many).bad_lines), (20, 1_000));
}

#[test]
fn a_text_that_was_cut_off_is_told() {
    for (body, dialect, complete, samples, bad) in [
        ("", Dialect::Prometheus, true, 0, 0),
        ("a 1\n", Dialect::Prometheus, true, 1, 0),
        // Perhaps it was 12.
        ("a 1\nb 1", Dialect::Prometheus, false, 1, 1),
        ("", Dialect::OpenMetrics, false, 0, 0),
        ("a 1\n", Dialect::OpenMetrics, false, 1, 0),
        ("a 1\n# EOF\n", Dialect::OpenMetrics, true, 1, 0),
        ("a 1\n# EOF", Dialect::OpenMetrics, true, 1, 0),
        ("a 1\n# EOF\n\nb 1\n", Dialect::OpenMetrics, true, 1, 1),
        // A comment in the older format.
        ("a 1\n# EOF\nb 1\n", Dialect::Prometheus, true, 2, 0),
    ] {
        let found = parse(body.as_bytes(), dialect);
        let is = (found.complete, found.samples(), found.bad_lines);
        assert_eq!(is, (complete, samples, bad), "{body:?} {dialect:?}");
    }
    assert_eq!(open("a 1 1.5\n# EOF\n").get("a").unwrap().samples[0].timestamp, Some(1_500));
    assert_eq!(open("a 1 NaN\nb 1 1e300\n# EOF\n").bad_lines, 2);
    for (kind, dialect) in [
        ("text/plain; version=0.0.4", Dialect::Prometheus),
        ("Application/OpenMetrics-Text;version=1.0.0", Dialect::OpenMetrics),
        ("", Dialect::Prometheus),
    ] {
        assert_eq!(Dialect::of(kind), dialect, "{kind}");
    }
}

#[test]
fn what_is_taken_is_bounded() {
    let many = "a 1\n".repeat(MOST_SAMPLES + 7);
    assert_eq!((text(&many).samples(), text(&many).left_out), (MOST_SAMPLES, 7));
    let of = |count: usize| {
        let labels: Vec<_> = (0..count).map(|index| format!("l{index}=\"\"")).collect();
        format!("a{{{}}} 1\n", labels.join(","))
    };
    assert_eq!(text(&of(MOST_LABELS)).bad_lines, 0);
    assert_eq!(text(&of(MOST_LABELS + 1)).bad_lines, 1);
    let long = |count: usize| format!("a{{b=\"{}\"}} 1\n", "x".repeat(count));
    assert_eq!(text(&long(LONGEST_VALUE)).bad_lines, 0);
    assert_eq!(text(&long(LONGEST_VALUE + 1)).bad_lines, 1);
    assert_eq!(text(&format!("{} 1\n", "x".repeat(257))).bad_lines, 1);
    let families: String = (0..20_001).map(|index| format!("# TYPE f{index} gauge\n")).collect();
    assert_eq!((text(&families).families.len(), text(&families).bad_lines), (20_000, 1));
}

proptest! {
    #[test]
    fn nothing_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        for dialect in [Dialect::Prometheus, Dialect::OpenMetrics] {
            let found = parse(&bytes, dialect);
            for family in &found.families {
                drop((family.histograms(), family.summaries()));
            }
        }
    }

    #[test]
    fn nothing_that_looks_like_it_makes_it_panic(
        body in "((# (HELP|TYPE|UNIT|EOF) ?)?h(_bucket|_sum|_count)?( histogram|\\{le=\"[0-9+\\\\Inf.]{0,4}\"?[,}]{0,2}) ?[0-9eE.NaInf+-]{0,5}[ #\t]?[0-9]{0,3}\r?\n?){0,12}"
    ) {
        for dialect in [Dialect::Prometheus, Dialect::OpenMetrics] {
            let found = parse(body.as_bytes(), dialect);
            for family in &found.families {
                for histogram in family.histograms().0 {
                    let last = histogram.buckets.last().copied();
                    prop_assert_eq!(last, Some((INFINITE, histogram.count)));
                }
            }
        }
    }

    #[test]
    fn any_label_survives(value in "\\PC{0,40}|[\\\\\"n\n]{0,20}") {
        let escaped = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let body = format!("a{{b=\"{escaped}\"}} 1\n");
        let found = text(&body);
        prop_assert_eq!(found.bad_lines, 0);
        prop_assert_eq!(&found.get("a").unwrap().samples[0].labels[0].1, &value);
    }
}
