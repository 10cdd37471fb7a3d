//! What came between two looks at a histogram.

use std::borrow::Cow;
use std::fmt::Write;

use genesis_stats::Sketch;
use proptest::prelude::*;

use crate::operations::baselines::exposition::{Dialect, parse};
use crate::operations::baselines::plan::is_name;
use crate::operations::baselines::source::{Counts, Cumulative, Naming, Scraped, Since, Unit};

/// A series: its labels, its bounds with counts up to each, its count and its sum.
type Series<'a> = (&'a str, &'a [(&'a str, u64)], u64, f64);

fn exposed(series: &[Series<'_>]) -> String {
    let mut text = "# TYPE t_seconds histogram\n".to_owned();
    for (labels, buckets, count, sum) in series {
        for (bound, up_to) in *buckets {
            writeln!(text, "t_seconds_bucket{{{labels},le=\"{bound}\"}} {up_to}").unwrap();
        }
        writeln!(text, "t_seconds_bucket{{{labels},le=\"+Inf\"}} {count}").unwrap();
        writeln!(text, "t_seconds_sum{{{labels}}} {sum}\nt_seconds_count{{{labels}}} {count}")
            .unwrap();
    }
    text
}

fn look(state: &mut Cumulative, series: &[Series<'_>]) -> Scraped {
    let text = exposed(series);
    let families = parse(text.as_bytes(), Dialect::Prometheus);
    assert_eq!(families.bad_lines, 0, "{:?}", families.bad);
    let naming = Naming::parse("shop.{handler}").unwrap();
    state.scrape(&families, "t_seconds", &naming, Unit::of_metric("t_seconds"))
}

/// How many values of a sketch are above and not above a bound.
fn split(sketch: &Sketch, bound: f64) -> (u64, u64) {
    (sketch.above(bound), sketch.count() - sketch.above(bound))
}

const A: &str = "handler=\"a\"";

#[test]
fn the_first_look_tells_nothing_and_the_next_what_came() {
    let mut state = Cumulative::new(10);
    let first = look(&mut state, &[(A, &[("0.1", 5), ("1", 8)], 9, 20.0)]);
    assert_eq!((first.operations.len(), first.first, state.series()), (0, 1, 1));
    let next = look(&mut state, &[(A, &[("0.1", 7), ("1", 14)], 16, 35.25)]);
    assert_eq!((next.first, next.resets), (0, 0));
    let sketch = &next.operations["shop.a"];
    // 2 up to 0.1, 4 up to 1, and 1 above, of which no more is known than that it is not below 1.
    assert_eq!((split(sketch, 0.1), split(sketch, 1.0), sketch.max()), ((5, 2), (0, 7), Some(1.0)));
    assert_eq!(sketch.sum_nanos(), 15_250_000_000);
    assert_eq!(sketch.alpha(), 1.0);
    let same = look(&mut state, &[(A, &[("0.1", 7), ("1", 14)], 16, 35.25)]);
    assert!(same.operations.is_empty());
}

#[test]
fn series_of_one_name_are_one_operation() {
    let of = |codes: [u64; 2]| {
        let [ok, failed] = codes;
        [
            ("handler=\"a\",code=\"200\"", &[("1", ok)][..], ok, ok as f64 * 0.5),
            ("handler=\"a\",code=\"500\"", &[("1", failed)][..], failed, failed as f64 * 0.5),
        ]
        .map(|(labels, buckets, count, sum)| (labels, buckets.to_vec(), count, sum))
    };
    let mut state = Cumulative::new(10);
    for (codes, expected) in [([1, 1], 0), ([4, 2], 4), ([5, 0], 1)] {
        let series = of(codes);
        let series: Vec<Series<'_>> = series
            .iter()
            .map(|(labels, buckets, count, sum)| (*labels, &buckets[..], *count, *sum))
            .collect();
        let count = look(&mut state, &series).operations.get("shop.a").map_or(0, Sketch::count);
        assert_eq!(count, expected, "{codes:?}");
    }
}

#[test]
fn a_counter_that_falls_began_anew() {
    for (name, buckets, count, resets, expected) in [
        ("count", &[("0.1", 5), ("1", 6)][..], 6, 1, 6),
        ("a bucket", &[("0.1", 4), ("1", 9)], 12, 1, 12),
        ("to zero", &[("0.1", 0), ("1", 0)], 0, 1, 0),
        ("not at all", &[("0.1", 5), ("1", 8)], 10, 0, 1),
    ] {
        let mut state = Cumulative::new(10);
        look(&mut state, &[(A, &[("0.1", 5), ("1", 8)], 9, 20.0)]);
        let next = look(&mut state, &[(A, buckets, count, 3.0)]);
        let found = next.operations.get("shop.a").map_or(0, Sketch::count);
        assert_eq!((next.resets, found), (resets, expected), "{name}");
    }
}

#[test]
fn other_bounds_begin_anew() {
    let mut state = Cumulative::new(10);
    look(&mut state, &[(A, &[("0.1", 5)], 9, 20.0)]);
    let changed = look(&mut state, &[(A, &[("0.2", 6)], 12, 21.0)]);
    assert_eq!((changed.first, changed.operations.len()), (1, 0));
    let next = look(&mut state, &[(A, &[("0.2", 8)], 14, 21.2)]);
    assert_eq!(next.operations["shop.a"].count(), 2);
}

#[test]
fn what_is_remembered_is_bounded_and_forgotten() {
    let labels: Vec<String> = (0..4).map(|index| format!("handler=\"h{index}\"")).collect();
    let all: Vec<Series<'_>> =
        labels.iter().map(|it| (it.as_str(), &[("1", 1)][..], 2, 3.0)).collect();
    let mut state = Cumulative::new(3);
    let first = look(&mut state, &all);
    assert_eq!((first.first, first.crowded_out, state.series()), (3, 1, 3));
    // One that a scrape or two do not show is still known.
    assert_eq!(look(&mut state, &all[1..2]).crowded_out, 0);
    assert_eq!(look(&mut state, &all[..1]).first, 0);
    for _ in 0..10 {
        look(&mut state, &[]);
    }
    assert_eq!(state.series(), 0);
    look(&mut state, &all);
    state.forget();
    assert_eq!(look(&mut state, &all[..1]).first, 1);
}

#[test]
fn what_can_t_be_used_is_counted() {
    let mut state = Cumulative::new(10);
    let found = look(
        &mut state,
        &[
            ("other=\"a\"", &[("1", 1)], 1, 1.0),
            ("handler=\"\"", &[("1", 1)], 1, 1.0),
            ("handler=\"b\"", &[("1", 3)], 2, 1.0),
        ],
    );
    assert_eq!((found.unnamed, found.unsound, state.series()), (2, 1, 0));
}

#[test]
fn a_sum_counts_as_far_as_it_can_be_right() {
    let between = |then: Option<f64>, now: Option<f64>| {
        let former = Counts::of_buckets(&[0.1, 1.0], &[0, 0, 0], then).unwrap();
        let present = Counts::of_buckets(&[0.1, 1.0], &[0, 10, 0], now).unwrap();
        let Since::Grown(grown) = present.since(&former) else { panic!("it grew") };
        grown.sketch(Unit::Seconds, None).sum()
    };
    let estimate = between(None, None);
    assert!((2.0..6.0).contains(&estimate), "{estimate}");
    for (then, now, expected) in [
        (Some(0.0), Some(5.5), 5.5),
        (Some(1e6), Some(1_000_005.5), 5.5),
        // Ten of exactly 1, and of some digits less.
        (Some(0.1), Some(10.1), 10.0),
        (Some(0.0), Some(10.000_001), 10.000_001),
        (Some(0.0), Some(0.9), estimate),
        (Some(0.0), Some(11.0), estimate),
        (Some(9.0), Some(5.0), estimate),
        (Some(f64::NAN), Some(5.0), estimate),
        (Some(0.0), Some(f64::INFINITY), estimate),
        (None, Some(5.0), estimate),
    ] {
        assert_eq!(between(then, now), expected, "{then:?} {now:?}");
    }
}

#[test]
fn extremes_narrow_the_buckets_at_the_ends() {
    let counts = Counts::of_buckets(&[5.0, 50.0], &[10, 10, 10], None).unwrap();
    let open = counts.sketch(Unit::Milliseconds, None);
    assert_eq!((open.min(), open.max(), open.alpha()), (Some(0.0), Some(0.05), 1.0));
    let known = counts.sketch(Unit::Milliseconds, Some((4.0, 60.0)));
    assert_eq!((known.count(), known.min(), known.max()), (30, Some(0.004), Some(0.06)));
    // That of (5 ms, 50 ms] now.
    assert!((known.alpha() - 45.0 / 55.0).abs() < 1e-9);
    assert_eq!((split(&known, 0.005), split(&known, 0.05)), ((20, 10), (10, 20)));
    // All in one bucket, and all of one value.
    let one = Counts::of_buckets(&[5.0], &[3, 0], Some(9.0)).unwrap();
    let one = one.sketch(Unit::Milliseconds, Some((3.0, 3.0)));
    assert_eq!((one.min(), one.max(), one.sum_nanos()), (Some(0.003), Some(0.003), 9_000_000));
    assert!(one.alpha() < 0.006);
    // Those that can't be.
    for wrong in [(9.0, 4.0), (f64::NAN, 4.0), (100.0, 200.0), (4.0, f64::INFINITY), (-1.0, 60.0)] {
        assert_eq!(counts.sketch(Unit::Milliseconds, Some(wrong)).count(), 30, "{wrong:?}");
    }
}

#[test]
fn a_bound_at_zero_is_that_of_zeros() {
    // As OpenTelemetry has it: what is not above 0 first.
    let counts = Counts::of_buckets(&[0.0, 5.0], &[2, 3, 0], None).unwrap();
    let sketch = counts.sketch(Unit::Milliseconds, None);
    assert_eq!((sketch.zeros(), sketch.count(), sketch.rejected()), (2, 5, 0));
    assert_eq!(sketch.max(), Some(0.005));
    let negative = Counts::of_buckets(&[-1.0], &[2, 3], None).unwrap();
    let sketch = negative.sketch(Unit::Seconds, None);
    assert_eq!((sketch.rejected(), sketch.count()), (2, 3));
}

#[test]
fn buckets_that_are_none_are_refused() {
    for (bounds, counts) in [
        (&[1.0, 2.0][..], &[1, 2][..]),
        (&[2.0, 1.0], &[1, 2, 3]),
        (&[1.0, 1.0], &[1, 2, 3]),
        (&[1.0, f64::NAN], &[1, 2, 3]),
        (&[1.0, f64::INFINITY], &[1, 2, 3]),
        (&[], &[]),
        (&[1.0], &[u64::MAX, 1]),
    ] {
        assert_eq!(Counts::of_buckets(bounds, counts, None), None, "{bounds:?}");
    }
    assert_eq!(Counts::of_buckets(&[], &[4], None).unwrap().count(), 4);
}

#[test]
fn units_are_told_by_name() {
    for (metric, unit) in [
        ("http_request_duration_seconds", Unit::Seconds),
        ("http_request_duration_milliseconds", Unit::Milliseconds),
        ("latency_ms", Unit::Milliseconds),
        ("latency_microseconds", Unit::Microseconds),
        ("latency_ns", Unit::Nanoseconds),
        ("latency", Unit::Seconds),
        ("", Unit::Seconds),
    ] {
        assert_eq!(Unit::of_metric(metric), unit, "{metric}");
    }
    assert_eq!(Unit::named("min"), None);
    assert_eq!(Unit::Milliseconds.seconds(5.0), 0.005);
}

#[test]
fn names_are_made_of_labels() {
    let labels = [("handler", "/users/{id}"), ("method", "GET"), ("empty", ""), ("odd", "ä b\n")];
    for (template, expected) in [
        ("orders.{handler}.{method}", Some("orders./users/_id_.GET")),
        ("{method}", Some("GET")),
        ("{ method }", Some("GET")),
        ("plain", Some("plain")),
        ("{none}", None),
        ("a{empty}", None),
        ("{empty|method}", Some("GET")),
        ("{none|method|handler}", Some("GET")),
        ("{method}{none|}", Some("GET")),
        ("{none|empty|}x", Some("x")),
        ("{none|}", None),
        ("{odd}", Some("__b_")),
    ] {
        let naming = Naming::parse(template).unwrap();
        let value = |name: &str| {
            labels.iter().find(|(label, _)| *label == name).map(|(_, value)| Cow::Borrowed(*value))
        };
        assert_eq!(naming.name(value).as_deref(), expected, "{template}");
        assert_eq!(naming.template(), template);
    }
    for wrong in ["", "a b", "{", "{a", "a}", "{}", "{|}", "{|a}", "{a||b}", "{a{b}", "ä"] {
        assert!(Naming::parse(wrong).is_err(), "{wrong}");
    }
    assert!(Naming::parse(&"a".repeat(1_025)).is_err());
}

#[test]
fn long_names_that_begin_alike_stay_apart() {
    let naming = Naming::parse("{a}").unwrap();
    let of = |end: &str| naming.name(|_| Some(Cow::Owned("x".repeat(150) + end))).unwrap();
    assert_eq!(of("1").len(), 128);
    assert_ne!(of("1"), of("2"));
    assert_eq!(of("1"), of("1"));
    // The hash of the standard's own case.
    let known = naming.name(|_| Some(Cow::Borrowed("foobar")));
    assert_eq!(known.as_deref(), Some("foobar"));
}

proptest! {
    #[test]
    fn any_label_makes_a_valid_name(value in "\\PC{1,200}") {
        let naming = Naming::parse("a.{b}").unwrap();
        let name = naming.name(|_| Some(Cow::Borrowed(value.as_str()))).unwrap();
        prop_assert!(is_name(&name, 128), "{name}");
    }

    #[test]
    fn any_template_is_parsed_or_refused(template in "\\PC{0,20}|[a{}|]{0,12}") {
        if let Ok(naming) = Naming::parse(&template)
            && let Some(name) = naming.name(|_| Some(Cow::Borrowed("v")))
        {
            prop_assert!(is_name(&name, 128), "{template} {name}");
        }
    }

    /// Whatever comes in between, the sketch has the counts of the buckets.
    #[test]
    fn differences_are_what_came_between(
        then in proptest::collection::vec(0..50_u64, 5),
        more in proptest::collection::vec(0..50_u64, 5),
    ) {
        let bounds = [0.001, 0.01, 0.1, 1.0];
        let now: Vec<u64> = then.iter().zip(&more).map(|(then, more)| then + more).collect();
        let former = Counts::of_buckets(&bounds, &then, Some(1.0)).unwrap();
        let present = Counts::of_buckets(&bounds, &now, Some(2.0)).unwrap();
        let expected = Counts::of_buckets(&bounds, &more, Some(1.0)).unwrap();
        prop_assert_eq!(present.since(&former), Since::Grown(expected.clone()));
        let sketch = expected.sketch(Unit::Seconds, None);
        prop_assert_eq!(sketch.count(), more.iter().sum::<u64>());
        // What is above the last bound counts at it.
        for (index, bound) in bounds[..3].iter().enumerate() {
            prop_assert_eq!(split(&sketch, *bound).1, more[..=index].iter().sum::<u64>());
        }
    }
}
