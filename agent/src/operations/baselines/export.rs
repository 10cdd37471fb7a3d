//! Baselines in the text format of Prometheus, pure: what is usual as gauges, and the values themselves as a classic
//! histogram whose buckets are the sketch's own, so that nothing is lost.

use std::fmt::Write;
use std::sync::Arc;

use super::plan::{PERCENTILES, QUANTILES};
use super::standing::Current;

/// The text of these baselines, by operation.
pub fn text(baselines: &[Arc<Current>]) -> String {
    let mut out = String::new();
    family(
        &mut out,
        "genesis_baseline_latency_seconds",
        "gauge",
        "What is usual, at this quantile",
    );
    for each in baselines {
        let operation = &each.record.operation;
        for (quantile, percentile) in QUANTILES.into_iter().zip(PERCENTILES) {
            let Some(value) = each.sketch.quantile(quantile) else { continue };
            let _ = writeln!(
                out,
                "genesis_baseline_latency_seconds{{operation=\"{operation}\",percentile=\"{percentile}\"}} {value}"
            );
        }
    }
    type Of = fn(&Current) -> f64;
    let gauges: [(&str, &str, Of); 3] = [
        ("genesis_baseline_relative_error", "The relative error of the quantiles", |it| {
            it.sketch.alpha()
        }),
        ("genesis_baseline_generation", "How often it was calculated", |it| {
            it.record.generation.into()
        }),
        ("genesis_baseline_calculated_timestamp_seconds", "When it was calculated", |it| {
            it.record.calculated_at.as_second() as f64
        }),
    ];
    for (name, help, value) in gauges {
        family(&mut out, name, "gauge", help);
        for each in baselines {
            let (operation, value) = (&each.record.operation, value(each));
            let _ = writeln!(out, "{name}{{operation=\"{operation}\"}} {value}");
        }
    }
    family(
        &mut out,
        "genesis_baseline_seconds",
        "histogram",
        "The latencies that it was calculated from",
    );
    for each in baselines {
        let (operation, sketch) = (&each.record.operation, &each.sketch);
        let mut sum = sketch.zeros();
        let mut bucket = |bound: &str, count: u64| {
            let _ = writeln!(
                out,
                "genesis_baseline_seconds_bucket{{operation=\"{operation}\",le=\"{bound}\"}} {count}"
            );
        };
        if sum > 0 {
            bucket("1e-9", sum);
        }
        for (_, upper, count) in sketch.buckets() {
            sum += count;
            bucket(&upper.to_string(), sum);
        }
        bucket("+Inf", sketch.count());
        let (total, count) = (sketch.sum(), sketch.count());
        let _ = writeln!(out, "genesis_baseline_seconds_sum{{operation=\"{operation}\"}} {total}");
        let _ =
            writeln!(out, "genesis_baseline_seconds_count{{operation=\"{operation}\"}} {count}");
    }
    out
}

fn family(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}
