//! Metrics of backups. Labels are bounded by the number of sources and by static words.

use genesis_storage::{BackupRecord, BackupState};
use jiff::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::Backup;
use super::plan::Source;
use crate::error::Result;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfSource {
    source: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfOutcome {
    outcome: &'static str,
}

/// What becomes of backups.
const OUTCOMES: [&str; 4] = ["verified", "unverified", "broken", "failed"];

/// Counters and gauges of backups.
#[derive(Clone, Default)]
pub struct Metrics {
    age: Family<OfSource, Gauge>,
    outcome: Family<OfSource, Gauge>,
    bytes: Family<OfSource, Gauge>,
    duration: Family<OfSource, Gauge>,
    made: Family<OfOutcome, Counter>,
}

impl Metrics {
    /// Metrics that `registry` exports.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let backup = registry.sub_registry_with_prefix("genesis_backup");
        backup.register_with_unit(
            "verified_age",
            "Age of the newest backup that is verified as deeply as is asked for, by source; -1: there is none",
            Unit::Seconds,
            metrics.age.clone(),
        );
        backup.register(
            "last_outcome",
            "How the newest backup of a source is: 1 complete, 0 failed or broken",
            metrics.outcome.clone(),
        );
        backup.register_with_unit(
            "last_size",
            "Size of the newest complete backup of a source",
            Unit::Bytes,
            metrics.bytes.clone(),
        );
        backup.register_with_unit(
            "last_duration",
            "How long the newest complete backup of a source took to make",
            Unit::Seconds,
            metrics.duration.clone(),
        );
        backup.register("made", "Backups, by what became of them", metrics.made.clone());
        // A counter that is not there before its first event hides that event from `increase()`.
        for outcome in OUTCOMES {
            drop(metrics.made.get_or_create(&OfOutcome { outcome }));
        }
        metrics
    }

    /// A backup was made, or not.
    pub fn ended(&self, outcome: &'static str) {
        self.made.get_or_create(&OfOutcome { outcome }).inc();
    }

    fn set(&self, source: &Source, records: &[BackupRecord], now: Timestamp) {
        let of = OfSource { source: source.name.clone() };
        let seconds = |span: jiff::SignedDuration| span.as_secs();
        let sound = |record: &&BackupRecord| record.state == BackupState::Complete;
        let newest = |records: &mut dyn Iterator<Item = &BackupRecord>| {
            records.max_by_key(|record| record.started_at).cloned()
        };
        let verified = newest(
            &mut records
                .iter()
                .filter(sound)
                .filter(|record| record.level.is_some_and(|level| level >= source.min_level)),
        );
        let age = verified.map_or(-1, |it| seconds(now.duration_since(it.started_at)).max(0));
        self.age.get_or_create(&of).set(age);
        let ended = |record: &&BackupRecord| {
            !matches!(record.state, BackupState::Running | BackupState::Expired)
        };
        if let Some(last) = newest(&mut records.iter().filter(ended)) {
            let good = i64::from(last.state == BackupState::Complete);
            self.outcome.get_or_create(&of).set(good);
        }
        if let Some(last) = newest(&mut records.iter().filter(sound)) {
            let bytes = i64::try_from(last.bytes).unwrap_or(i64::MAX);
            self.bytes.get_or_create(&of).set(bytes);
            let took = last.ended_at.map_or(0, |at| seconds(at.duration_since(last.started_at)));
            self.duration.get_or_create(&of).set(took);
        }
    }

    fn clear(&self) {
        for family in [&self.age, &self.outcome, &self.bytes, &self.duration] {
            family.clear();
        }
    }
}

impl Backup {
    /// Sets the gauges, which are read when they are asked for.
    ///
    /// # Errors
    /// `STORAGE_FAILED`.
    pub fn gauge(&self) -> Result<()> {
        let (now, records) = (self.outside.clock.now(), self.records(None)?);
        // A source that is gone has none.
        self.metrics.clear();
        for source in &self.config.load().sources {
            let own: Vec<BackupRecord> =
                records.iter().filter(|record| record.source == source.name).cloned().collect();
            self.metrics.set(source, &own, now);
        }
        Ok(())
    }
}
