//! Metrics of experiments. Labels are bounded by how many experiments go on.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::writer::Answer;
use super::{Experiments, plan};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfOutcome {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct How {
    how: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfExperiment {
    experiment: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfArm {
    experiment: String,
    arm: &'static str,
}

/// What becomes of trades.
const OUTCOMES: [&str; 6] = ["counted", "duplicate", "late", "rejected", "after-end", "unknown"];

type Number = Gauge<f64, AtomicU64>;

/// Counters and gauges of experiments.
#[derive(Clone, Default)]
pub struct Metrics {
    trades: Family<OfOutcome, Counter>,
    batches: Counter,
    repeated: Counter,
    concluded: Family<How, Counter>,
    running: Gauge,
    arms: Family<OfArm, Gauge>,
    p: Family<OfExperiment, Number>,
    lift: Family<OfExperiment, Number>,
    mismatch: Family<OfExperiment, Number>,
    parameters: Gauge,
    file: Gauge,
}

impl Metrics {
    /// Metrics that `registry` exports.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let own = registry.sub_registry_with_prefix("genesis_experiments");
        own.register("trades", "What became of trades", metrics.trades.clone());
        own.register("batches", "Batches that are durable", metrics.batches.clone());
        own.register(
            "repeated_batches",
            "Batches that were durable before",
            metrics.repeated.clone(),
        );
        own.register("concluded", "Experiments that ended", metrics.concluded.clone());
        own.register("running", "Experiments that go on", metrics.running.clone());
        own.register("arm_trades", "Trades of an arm that count", metrics.arms.clone());
        own.register(
            "p_sequential",
            "The p that stays valid however often it is looked at",
            metrics.p.clone(),
        );
        own.register(
            "lift",
            "The variant's mean over the control's, less one, where it can be told",
            metrics.lift.clone(),
        );
        own.register(
            "mismatch_evidence",
            "Evidence that units are not split as they should be",
            metrics.mismatch.clone(),
        );
        own.register("parameters", "Parameters of strategies", metrics.parameters.clone());
        own.register_with_unit(
            "file",
            "Size of the file of trades",
            Unit::Bytes,
            metrics.file.clone(),
        );
        // A counter that is not there before its first event hides that event from `increase()`.
        for outcome in OUTCOMES {
            drop(metrics.trades.get_or_create(&OfOutcome { outcome }));
        }
        let hows = [plan::PROMOTED, plan::ROLLED_BACK, plan::NO_DIFFERENCE, plan::BELOW_THRESHOLD];
        for how in hows {
            drop(metrics.concluded.get_or_create(&How { how: how.to_owned() }));
        }
        metrics
    }

    /// A batch is durable.
    pub fn took(&self, answer: &Answer) {
        if answer.repeated {
            self.repeated.inc();
            return;
        }
        self.batches.inc();
        let counts = [
            answer.counted,
            answer.duplicate,
            answer.late,
            answer.rejected,
            answer.after_end,
            answer.unknown,
        ];
        for (outcome, count) in OUTCOMES.into_iter().zip(counts) {
            self.trades.get_or_create(&OfOutcome { outcome }).inc_by(count.into());
        }
    }

    /// An experiment ended.
    pub fn concluded(&self, how: &str) {
        self.concluded.get_or_create(&How { how: how.to_owned() }).inc();
    }
}

impl Experiments {
    /// Sets the gauges, which are read when they are asked for.
    pub fn gauge(&self) {
        let metrics = &self.metrics;
        // One that has ended has none.
        metrics.arms.clear();
        metrics.p.clear();
        metrics.lift.clear();
        metrics.mismatch.clear();
        let held = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        if let Ok(store) = &self.store {
            metrics.file.set(held(store.file_bytes()));
        }
        let live = self.live();
        metrics.parameters.set(held(live.parameters.len() as u64));
        metrics.running.set(held(live.running().count() as u64));
        for record in live.running() {
            let Some(tally) = live.tallies.get(&record.number) else { continue };
            let (experiment, look) = (plan::id(record.number), tally.trial.view());
            for (arm, n) in [("control", look.control.n), ("variant", look.variant.n)] {
                let of = OfArm { experiment: experiment.clone(), arm };
                metrics.arms.get_or_create(&of).set(held(n));
            }
            let of = OfExperiment { experiment };
            metrics.p.get_or_create(&of).set(look.evidence.p);
            metrics.mismatch.get_or_create(&of).set(look.mismatch);
            if let Some(lift) = look.lift.value() {
                metrics.lift.get_or_create(&of).set(lift);
            }
        }
    }
}
