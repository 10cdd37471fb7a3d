//! Metrics of baselines. Labels are bounded by how many operations are told apart.

use std::sync::atomic::AtomicU64;

use genesis_stats::Sketch;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::plan::{PERCENTILES, QUANTILES};
use super::writer::Answer;
use super::{Baselines, exposition, native, windows};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfOutcome {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfOperation {
    operation: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfQuantile {
    operation: String,
    percentile: &'static str,
}

/// What becomes of observations.
const OUTCOMES: [&str; 5] = ["counted", "rejected", "late", "ahead", "crowded-out"];

type Seconds = Gauge<f64, AtomicU64>;

/// Counters and gauges of baselines.
#[derive(Clone, Default)]
pub struct Metrics {
    observations: Family<OfOutcome, Counter>,
    batches: Counter,
    duplicates: Counter,
    windows: Counter,
    candidates: Counter,
    episodes: Counter,
    breakers: Counter,
    scrapes: Family<OfOutcome, Counter>,
    usual: Family<OfQuantile, Seconds>,
    window: Family<OfQuantile, Seconds>,
    degraded: Family<OfOperation, Gauge>,
    age: Family<OfOperation, Gauge>,
    raw: Gauge,
    quota: Gauge,
    file: Gauge,
}

impl Metrics {
    /// Metrics that `registry` exports.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let own = registry.sub_registry_with_prefix("genesis_baselines");
        own.register("observations", "What became of observations", metrics.observations.clone());
        own.register("batches", "Batches that are durable", metrics.batches.clone());
        own.register(
            "repeated_batches",
            "Batches that were durable before",
            metrics.duplicates.clone(),
        );
        own.register(
            "judgements",
            "Windows that were judged, at each quantile",
            metrics.windows.clone(),
        );
        own.register(
            "candidates",
            "Windows as bad as few are, at each quantile; nobody is told of them",
            metrics.candidates.clone(),
        );
        own.register(
            "episodes",
            "Times in which an operation left what is usual",
            metrics.episodes.clone(),
        );
        own.register(
            "opened_breakers",
            "Breakers that opened because a latency left its baseline",
            metrics.breakers.clone(),
        );
        own.register(
            "scrapes",
            "Looks at histograms that services keep themselves",
            metrics.scrapes.clone(),
        );
        own.register_with_unit(
            "latency",
            "What is usual for an operation, at this quantile",
            Unit::Seconds,
            metrics.usual.clone(),
        );
        own.register_with_unit(
            "window_latency",
            "The latest window of five minutes that is over, at this quantile",
            Unit::Seconds,
            metrics.window.clone(),
        );
        own.register(
            "degraded",
            "Whether an operation left what is usual",
            metrics.degraded.clone(),
        );
        own.register_with_unit(
            "age",
            "How long ago an operation's baseline was calculated",
            Unit::Seconds,
            metrics.age.clone(),
        );
        own.register_with_unit(
            "raw",
            "What single observations take in the file of observations",
            Unit::Bytes,
            metrics.raw.clone(),
        );
        own.register_with_unit(
            "raw_quota",
            "What single observations may take there",
            Unit::Bytes,
            metrics.quota.clone(),
        );
        own.register_with_unit(
            "file",
            "Size of the file of observations",
            Unit::Bytes,
            metrics.file.clone(),
        );
        // A counter that is not there before its first event hides that event from `increase()`.
        for outcome in OUTCOMES {
            drop(metrics.observations.get_or_create(&OfOutcome { outcome }));
        }
        for outcome in ["succeeded", "failed"] {
            drop(metrics.scrapes.get_or_create(&OfOutcome { outcome }));
        }
        metrics
    }

    /// A batch is durable.
    pub fn took(&self, answer: &Answer) {
        if answer.duplicate {
            self.duplicates.inc();
            return;
        }
        self.batches.inc();
        let counts =
            [answer.counted, answer.rejected, answer.late, answer.ahead, answer.crowded_out];
        for (outcome, count) in OUTCOMES.into_iter().zip(counts) {
            self.observations.get_or_create(&OfOutcome { outcome }).inc_by(count.into());
        }
    }

    /// Windows were judged.
    pub fn judged(&self, judgements: usize, candidates: usize) {
        self.windows.inc_by(judgements as u64);
        self.candidates.inc_by(candidates as u64);
    }

    /// A histogram was scraped, or could not be.
    pub fn scraped(&self, well: bool) {
        let outcome = if well { "succeeded" } else { "failed" };
        self.scrapes.get_or_create(&OfOutcome { outcome }).inc();
    }

    /// An episode began.
    pub fn began(&self) {
        self.episodes.inc();
    }

    /// A breaker opened.
    pub fn opened_breaker(&self) {
        self.breakers.inc();
    }
}

impl Baselines {
    /// What `text` says, with the baselines as native histograms, in Prometheus' protobuf.
    pub fn native(&self, text: &str) -> Vec<u8> {
        let read = exposition::parse(text.as_bytes(), exposition::Dialect::OpenMetrics);
        let mut families = native::families(&read);
        let current: Vec<(String, Sketch)> = {
            let live = self.live();
            let each = live.numbers.iter().filter_map(|(name, number)| {
                let current = live.standings.get(number)?.current.as_ref()?;
                Some((name.clone(), current.sketch.clone()))
            });
            each.collect()
        };
        families.push(native::baselines(&current));
        native::encode(&families)
    }

    /// Sets the gauges, which are read when they are asked for.
    pub fn gauge(&self) {
        let metrics = &self.metrics;
        // An operation that is gone has none.
        metrics.usual.clear();
        metrics.window.clear();
        metrics.degraded.clear();
        metrics.age.clear();
        let now = self.outside.clock.now();
        let held = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        if let Ok(store) = &self.store {
            metrics.file.set(held(store.file_bytes()));
            let raw = store.read(|it| Ok::<_, crate::error::Error>(it.raw_bytes()?));
            metrics.raw.set(held(raw.unwrap_or(0)));
            metrics.quota.set(held(self.config.load().raw_quota));
        }
        let live = self.live();
        for (operation, number) in &live.numbers {
            let Some(standing) = live.standings.get(number) else { continue };
            let of = |percentile| OfQuantile { operation: operation.clone(), percentile };
            if let Some(current) = &standing.current {
                for (quantile, name) in QUANTILES.into_iter().zip(PERCENTILES) {
                    if let Some(value) = current.sketch.quantile(quantile) {
                        metrics.usual.get_or_create(&of(name)).set(value);
                    }
                }
                let age = now.duration_since(current.record.calculated_at).as_secs();
                let of = OfOperation { operation: operation.clone() };
                metrics.age.get_or_create(&of).set(age);
                metrics.degraded.get_or_create(&of).set(standing.episode.is_some().into());
            }
            // One that is long over says nothing of now.
            let latest = standing.windows.front();
            let latest = latest.filter(|it| now.as_second() - it.start < windows::KEPT * 60);
            for (value, name) in latest.map_or([None; 3], |it| it.values).iter().zip(PERCENTILES) {
                if let Some(value) = value {
                    metrics.window.get_or_create(&of(name)).set(*value);
                }
            }
        }
    }
}
