//! Log archival's metrics.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

/// The label of every metric: the log type, of which the configuration bounds the number.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    log_type: String,
}

/// The state of a segment as a label.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    log_type: String,
    state: &'static str,
}

/// Counters and gauges of log archival.
#[derive(Clone, Default)]
pub struct Metrics {
    rotations: Family<Labels, Counter>,
    sealed_plain: Family<Labels, Counter>,
    sealed_compressed: Family<Labels, Counter>,
    sealed_lines: Family<Labels, Counter>,
    verified: Family<Labels, Counter>,
    failures: Family<Labels, Counter>,
    vanished: Family<Labels, Counter>,
    active: Family<Labels, Gauge>,
    segments: Family<StateLabels, Gauge>,
    stalled: Family<Labels, Gauge>,
    quarantined: Family<Labels, Gauge>,
    last_verified: Family<Labels, Gauge>,
}

impl Metrics {
    /// Metrics that `registry` exports.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let registry = registry.sub_registry_with_prefix("genesis_logs");
        registry.register("rotations", "Files cut", metrics.rotations.clone());
        registry.register_with_unit(
            "sealed_plain",
            "Bytes compressed, before",
            Unit::Bytes,
            metrics.sealed_plain.clone(),
        );
        registry.register_with_unit(
            "sealed_compressed",
            "Bytes compressed, after",
            Unit::Bytes,
            metrics.sealed_compressed.clone(),
        );
        registry.register("sealed_lines", "Lines compressed", metrics.sealed_lines.clone());
        registry.register(
            "segments_verified",
            "Segments read back from the archive and found equal",
            metrics.verified.clone(),
        );
        registry.register(
            "failures",
            "Steps of a segment's life that failed and are tried again",
            metrics.failures.clone(),
        );
        registry.register_with_unit(
            "vanished",
            "Written between the copy and the truncation of copytruncate, and lost, as far as it was seen",
            Unit::Bytes,
            metrics.vanished.clone(),
        );
        registry.register_with_unit(
            "active",
            "Size of the files being written",
            Unit::Bytes,
            metrics.active.clone(),
        );
        registry.register("segments", "Segments by state", metrics.segments.clone());
        registry.register(
            "stalled_segments",
            "Segments of which a step failed and is tried again",
            metrics.stalled.clone(),
        );
        registry.register(
            "quarantined_segments",
            "Segments that a person must mend",
            metrics.quarantined.clone(),
        );
        registry.register_with_unit(
            "last_verified_timestamp",
            "When a segment was last verified, since the epoch",
            Unit::Seconds,
            metrics.last_verified.clone(),
        );
        metrics
    }

    fn of(log_type: &str) -> Labels {
        Labels { log_type: log_type.to_owned() }
    }

    /// A file was cut.
    pub fn rotated(&self, log_type: &str) {
        self.rotations.get_or_create(&Self::of(log_type)).inc();
    }

    /// A segment was sealed.
    pub fn sealed(&self, log_type: &str, plain: u64, compressed: u64, lines: u64) {
        let labels = Self::of(log_type);
        self.sealed_plain.get_or_create(&labels).inc_by(plain);
        self.sealed_compressed.get_or_create(&labels).inc_by(compressed);
        self.sealed_lines.get_or_create(&labels).inc_by(lines);
    }

    /// A segment was verified.
    pub fn verified(&self, log_type: &str) {
        self.verified.get_or_create(&Self::of(log_type)).inc();
    }

    /// A step failed.
    pub fn failed(&self, log_type: &str) {
        self.failures.get_or_create(&Self::of(log_type)).inc();
    }

    /// So many bytes were lost by a truncation.
    pub fn vanished(&self, log_type: &str, bytes: u64) {
        self.vanished.get_or_create(&Self::of(log_type)).inc_by(bytes);
    }

    /// Sets the gauges of one type.
    pub fn observe(
        &self,
        log_type: &str,
        active: u64,
        last_verified: Option<i64>,
        states: &[(&'static str, u64)],
        (stalled, quarantined): (u64, u64),
    ) {
        let labels = Self::of(log_type);
        let held = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        self.active.get_or_create(&labels).set(held(active));
        self.stalled.get_or_create(&labels).set(held(stalled));
        self.quarantined.get_or_create(&labels).set(held(quarantined));
        drop(self.vanished.get_or_create(&labels));
        // A counter that is not there before its first event hides that event from `increase()`.
        drop(self.failures.get_or_create(&labels));
        drop(self.rotations.get_or_create(&labels));
        drop(self.verified.get_or_create(&labels));
        if let Some(seconds) = last_verified {
            self.last_verified.get_or_create(&labels).set(seconds);
        }
        for (state, count) in states {
            let labels = StateLabels { log_type: log_type.to_owned(), state };
            self.segments.get_or_create(&labels).set(held(*count));
        }
    }
}
