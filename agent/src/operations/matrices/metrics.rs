//! Metrics of series and matrices.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::sharing::Sharing;
use super::stage::{Stage, Verdict};
use super::{Answer, Matrices, plan};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfOutcome {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfState {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfArm {
    arm: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfCriterion {
    criterion: String,
}

/// What becomes of values, and of outcomes.
const VALUES: [&str; 6] = ["counted", "superseded", "missing", "late", "rejected", "unknown"];
const REPORTED: [&str; 4] = ["counted", "late", "rejected", "other-version"];
/// What becomes of an update.
const UPDATES: [&str; 3] = ["active", "canary", "rejected"];
const STAGES: [&str; 3] = [plan::PASSED, plan::HARMFUL, plan::FORCED];
const ARMS: [&str; 2] = ["control", "canary"];

type Number = Gauge<f64, AtomicU64>;

/// Counters and gauges of matrices.
#[derive(Clone, Default)]
pub struct Metrics {
    values: Family<OfOutcome, Counter>,
    outcomes: Family<OfOutcome, Counter>,
    batches: Counter,
    repeated: Counter,
    updates: Family<OfOutcome, Counter>,
    stages: Family<OfOutcome, Counter>,
    rollbacks: Counter,
    versions: Family<OfState, Gauge>,
    active: Gauge,
    active_at: Gauge,
    canary: Gauge,
    percent: Gauge,
    criteria: Family<OfCriterion, Number>,
    arms: Family<OfArm, Gauge>,
    p_harm: Number,
    held: Gauge,
    published: Gauge,
    in_force: Gauge,
    file: Gauge,
}

impl Metrics {
    /// Metrics that `registry` exports.
    pub fn register(registry: &mut Registry) -> Self {
        let it = Self::default();
        let own = registry.sub_registry_with_prefix("genesis_matrices");
        own.register("values", "What became of values of series", it.values.clone());
        own.register("outcomes", "What became of outcomes", it.outcomes.clone());
        own.register("batches", "Batches that are durable", it.batches.clone());
        own.register("repeated_batches", "Batches that were durable before", it.repeated.clone());
        own.register("updates", "Matrices that were calculated", it.updates.clone());
        own.register("stages", "Stages of rollouts that ended", it.stages.clone());
        own.register("rollbacks", "Rollbacks by hand", it.rollbacks.clone());
        own.register("versions", "Versions by their state", it.versions.clone());
        own.register("active_version", "The active version, or 0", it.active.clone());
        own.register(
            "active_calculated_timestamp_seconds",
            "When the active version was calculated, in seconds since 1970",
            it.active_at.clone(),
        );
        own.register("canary_version", "The version that is rolled out, or 0", it.canary.clone());
        own.register(
            "canary_percent",
            "The share of the consumers that use it, in percent",
            it.percent.clone(),
        );
        own.register(
            "criterion_value",
            "What the last calculation found, where there was something to be measured",
            it.criteria.clone(),
        );
        own.register("stage_outcomes", "Outcomes in the stage that goes on", it.arms.clone());
        own.register(
            "stage_p_harm",
            "The chance that looks as bad come from a matrix that does no harm",
            it.p_harm.clone(),
        );
        own.register("stage_held", "Whether nothing is made of the stage", it.held.clone());
        own.register(
            "fleet_published_number",
            "The version of the fleet's matrix that is published, where this host has a part in it, or 0",
            it.published.clone(),
        );
        own.register(
            "fleet_in_force_number",
            "The version of the fleet's matrix that is active here, or 0",
            it.in_force.clone(),
        );
        own.register_with_unit("file", "Size of the file of values", Unit::Bytes, it.file.clone());
        // A counter that is not there before its first event hides that event from `increase()`.
        for (family, outcomes) in [
            (&it.values, &VALUES[..]),
            (&it.outcomes, &REPORTED),
            (&it.updates, &UPDATES),
            (&it.stages, &STAGES),
        ] {
            for outcome in outcomes {
                drop(family.get_or_create(&OfOutcome { outcome }));
            }
        }
        it
    }

    /// A batch is durable.
    pub fn took(&self, answer: &Answer) {
        if answer.repeated {
            self.repeated.inc();
            return;
        }
        self.batches.inc();
        let count = |family: &Family<OfOutcome, Counter>, outcome, count: u32| {
            family.get_or_create(&OfOutcome { outcome }).inc_by(count.into());
        };
        if answer.outcomes {
            let counts = [answer.counted, answer.late, answer.rejected, answer.other];
            REPORTED.into_iter().zip(counts).for_each(|(it, n)| count(&self.outcomes, it, n));
            return;
        }
        let Answer { counted, superseded, missing, late, rejected, unknown, .. } = *answer;
        let counts = [counted, superseded, missing, late, rejected, unknown];
        VALUES.into_iter().zip(counts).for_each(|(it, n)| count(&self.values, it, n));
    }

    /// A matrix was calculated.
    pub fn updated(&self, state: &str) {
        if let Some(outcome) = UPDATES.into_iter().find(|it| *it == state) {
            self.updates.get_or_create(&OfOutcome { outcome }).inc();
        }
    }

    /// A stage ended.
    pub fn staged(&self, how: &str) {
        if let Some(outcome) = STAGES.into_iter().find(|it| *it == how) {
            self.stages.get_or_create(&OfOutcome { outcome }).inc();
        }
    }

    /// Somebody went back.
    pub fn rolled_back(&self) {
        self.rollbacks.inc();
    }
}

impl Matrices {
    /// Brings the gauges up to date.
    pub fn gauge(&self) {
        let metrics = &self.metrics;
        let versions = self.versions();
        for state in plan::STATES {
            let count = versions.values().filter(|it| it.state == state).count();
            metrics.versions.get_or_create(&OfState { state }).set(count as i64);
        }
        let active = plan::in_state(&versions, plan::ACTIVE);
        metrics.active.set(active.map_or(0, |it| it.version as i64));
        metrics.active_at.set(active.map_or(0, |it| it.calculated_at.as_second()));
        let canary = plan::in_state(&versions, plan::CANARY);
        metrics.canary.set(canary.map_or(0, |it| it.version as i64));
        let percent = canary.and_then(|it| it.stages.last()).map_or(0, |it| it.percent);
        metrics.percent.set(i64::from(percent));
        let last = versions.values().next_back();
        metrics.criteria.clear();
        for criterion in last.iter().flat_map(|it| &it.criteria) {
            if let Some(value) = criterion.value {
                let criterion = criterion.name.clone();
                metrics.criteria.get_or_create(&OfCriterion { criterion }).set(value);
            }
        }
        let stage = canary.and_then(|it| self.stage_of(it).ok());
        let (mut counts, mut p, mut held) = ([0; 2], 1.0, false);
        if let Some(stage) = stage {
            let (look, verdict, _) = stage.view();
            counts = [look.control.n, look.variant.n];
            (p, held) = (Stage::p_harm(&look), verdict == Verdict::Held);
        }
        for (arm, count) in ARMS.into_iter().zip(counts) {
            metrics.arms.get_or_create(&OfArm { arm }).set(count as i64);
        }
        metrics.p_harm.set(p);
        metrics.held.set(i64::from(held));
        let pointer =
            self.pointer().ok().flatten().filter(|_| self.config().sharing != Sharing::Off);
        let published = pointer.map_or(0, |it| it.current.number);
        metrics.published.set(i64::try_from(published).unwrap_or(i64::MAX));
        let in_force = active.map_or(0, |it| it.fleet);
        metrics.in_force.set(i64::try_from(in_force).unwrap_or(i64::MAX));
        if let Ok(store) = self.store() {
            metrics.file.set(i64::try_from(store.file_bytes()).unwrap_or(i64::MAX));
        }
    }
}
