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

/// How cares end.
const OUTCOMES: [&str; 5] = ["done", "degraded", "blocked", "failed", "interrupted"];

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

    /// A database is configured. A counter that is not there before its first event hides that event from `increase()`.
    pub fn know(&self, database: &str) {
        for outcome in OUTCOMES {
            drop(self.cares.get_or_create(&OfOutcome { database: database.to_owned(), outcome }));
        }
        drop(self.freed.get_or_create(&OfDatabase { database: database.to_owned() }));
    }

    /// A database is configured no more: nothing is told of it as if it were.
    pub fn forget(&self, database: &str) {
        for outcome in OUTCOMES {
            self.cares.remove(&OfOutcome { database: database.to_owned(), outcome });
        }
        let of = OfDatabase { database: database.to_owned() };
        self.freed.remove(&of);
        for family in [&self.last_success, &self.duration, &self.findings] {
            family.remove(&of);
        }
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
        self.freed.get_or_create(&of).inc_by(super::reported(record.clone()).freed());
        self.show(record);
    }

    /// What came of cares before this agent was started, the oldest first: a restart must not hide how long the last good
    /// one is ago.
    pub fn recall<'r>(&self, records: impl IntoIterator<Item = &'r CareRecord>) {
        let ended = |record: &&CareRecord| {
            !matches!(record.outcome, CareOutcome::Running | CareOutcome::Blocked)
        };
        records.into_iter().filter(ended).for_each(|record| self.show(record));
    }

    fn show(&self, record: &CareRecord) {
        let of = OfDatabase { database: record.database.clone() };
        let findings = super::reported(record.clone()).findings.len();
        self.findings.get_or_create(&of).set(i64::try_from(findings).unwrap_or(i64::MAX));
        if let Some(ended) = record.ended_at {
            self.duration.get_or_create(&of).set(ended.duration_since(record.started_at).as_secs());
            if record.outcome == CareOutcome::Done {
                self.last_success.get_or_create(&of).set(ended.as_second());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn a_restart_hides_neither_the_last_good_care_nor_what_the_last_one_found() {
        let care = |second: i64, outcome, findings: usize| {
            let at = Timestamp::from_second(second).unwrap();
            let found = serde_json::json!({"code": "SNAPSHOT_OLD", "subject": "t", "message": "m"});
            CareRecord {
                id: String::new(),
                database: "trades".to_owned(),
                outcome,
                actor: String::new(),
                started_at: at,
                ended_at: (outcome != CareOutcome::Running)
                    .then(|| Timestamp::from_second(second + 7).unwrap()),
                report: serde_json::json!({
                    "preflight": [], "steps": [], "benchmarks": [], "verification": [],
                    "findings": vec![found; findings],
                }),
            }
        };
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        metrics.recall(&[
            care(100, CareOutcome::Done, 0),
            care(200, CareOutcome::Degraded, 2),
            care(300, CareOutcome::Blocked, 0),
            care(400, CareOutcome::Running, 0),
        ]);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "genesis_database_last_success_timestamp_seconds{database=\"trades\"} 107",
            "genesis_database_care_duration_seconds{database=\"trades\"} 7",
            "genesis_database_findings{database=\"trades\"} 2",
        ] {
            assert!(text.lines().any(|it| it == line), "{line}:\n{text}");
        }
        assert!(!text.contains("genesis_database_cares_total{"), "nothing is counted twice");
    }

    #[test]
    fn a_database_has_its_series_for_as_long_as_it_is_configured() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let text = || {
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
            text
        };
        metrics.know("trades");
        metrics.know("trades");
        for outcome in ["done", "degraded", "blocked", "failed", "interrupted"] {
            let series = format!("cares_total{{database=\"trades\",outcome=\"{outcome}\"}} 0");
            assert!(text().contains(&series), "{series}: {}", text());
        }
        assert!(text().contains("freed_bytes_total{database=\"trades\"} 0"), "{}", text());
        // Nothing was found by a care that there was not.
        assert!(!text().contains("findings{"), "{}", text());
        metrics.forget("trades");
        assert!(!text().contains("database="), "{}", text());
    }
}
