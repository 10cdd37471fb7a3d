//! Metrics of the care of databases. Labels are bounded by the number of databases and by static words.

use genesis_storage::{CareOutcome, CareRecord};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfDatabase {
    database: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfOutcome {
    database: String,
    outcome: &'static str,
}

/// Counters and gauges of the care of databases.
#[derive(Clone, Default)]
pub struct Metrics {
    cares: Family<OfOutcome, Counter>,
    last_success: Family<OfDatabase, Gauge>,
    duration: Family<OfDatabase, Gauge>,
    freed: Family<OfDatabase, Counter>,
    findings: Family<OfDatabase, Gauge>,
}

impl Metrics {
    /// Metrics that `registry` exports.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let database = registry.sub_registry_with_prefix("genesis_database");
        database.register("cares", "Cares of databases, by how they ended", metrics.cares.clone());
        database.register_with_unit(
            "last_success_timestamp",
            "When a care last went well, in seconds since 1970",
            Unit::Seconds,
            metrics.last_success.clone(),
        );
        database.register_with_unit(
            "care_duration",
            "How long the last care took",
            Unit::Seconds,
            metrics.duration.clone(),
        );
        database.register_with_unit(
            "freed",
            "What cares have freed",
            Unit::Bytes,
            metrics.freed.clone(),
        );
        database.register("findings", "Findings of the last care", metrics.findings.clone());
        metrics
    }

    /// What came of a care.
    pub fn cared(&self, record: &CareRecord) {
        let outcome = match record.outcome {
            CareOutcome::Running => return,
            CareOutcome::Done => "done",
            CareOutcome::Degraded => "degraded",
            CareOutcome::Blocked => "blocked",
            CareOutcome::Failed => "failed",
            CareOutcome::Interrupted => "interrupted",
        };
        let of = OfDatabase { database: record.database.clone() };
        let label = OfOutcome { database: record.database.clone(), outcome };
        self.cares.get_or_create(&label).inc();
        if record.outcome == CareOutcome::Blocked {
            return;
        }
        let report = super::reported(record.clone());
        self.freed.get_or_create(&of).inc_by(report.freed());
        self.findings
            .get_or_create(&of)
            .set(i64::try_from(report.findings.len()).unwrap_or(i64::MAX));
        if let Some(ended) = record.ended_at {
            self.duration.get_or_create(&of).set(ended.duration_since(record.started_at).as_secs());
            if record.outcome == CareOutcome::Done {
                self.last_success.get_or_create(&of).set(ended.as_second());
            }
        }
    }
}
