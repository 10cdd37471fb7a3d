//! Records as bytes, for tests that give them any: what each table reads, it writes again. Nothing of the agent needs it.

use crate::error::StorageError;
use crate::record::{Record, decode, encode};
use crate::tables::{
    alerts, backups, baselines, breakers, care, certificates, configs, dependencies, drills,
    emergency, emergency_course, experiments, fleet, gaps, health, holds, identity, incidents,
    jobs, matrices, oplog, parameters, requests, rollbacks, runs, segments, sources,
};

/// Reads the bytes of a record as its table does; what the table would write of it.
pub type Again = fn(&[u8]) -> Result<Vec<u8>, StorageError>;

/// Each kind of record by its name. What has a table of numbers alone is not among them.
pub const KINDS: &[(&str, Again)] = &[
    ("AlertRecord", again::<alerts::AlertRecord>),
    ("OutboxRecord", again::<alerts::OutboxRecord>),
    ("DeliveryRecord", again::<alerts::DeliveryRecord>),
    ("SilenceRecord", again::<alerts::SilenceRecord>),
    ("BackupRecord", again::<backups::BackupRecord>),
    ("BaselineRecord", again::<baselines::BaselineRecord>),
    ("EpisodeRecord", again::<baselines::EpisodeRecord>),
    ("BreakerRecord", again::<breakers::BreakerRecord>),
    ("UsualRecord", again::<breakers::UsualRecord>),
    ("CareRecord", again::<care::CareRecord>),
    ("LedgerRecord", again::<care::LedgerRecord>),
    ("CertificateRecord", again::<certificates::CertificateRecord>),
    ("GenerationRecord", again::<certificates::GenerationRecord>),
    ("CertificateEventRecord", again::<certificates::CertificateEventRecord>),
    ("ConfigGeneration", again::<configs::ConfigGeneration>),
    ("UpdateRecord", again::<dependencies::UpdateRecord>),
    ("DependencyReleaseRecord", again::<dependencies::DependencyReleaseRecord>),
    ("VulnerabilityClockRecord", again::<dependencies::VulnerabilityClockRecord>),
    ("IgnoredFindingRecord", again::<dependencies::IgnoredFindingRecord>),
    ("DrillRecord", again::<drills::DrillRecord>),
    ("EmergencyRecord", again::<emergency::EmergencyRecord>),
    ("CourseRecord", again::<emergency_course::CourseRecord>),
    ("LeaseRecord", again::<emergency_course::LeaseRecord>),
    ("ExperimentRecord", again::<experiments::ExperimentRecord>),
    ("FleetRecord", again::<fleet::FleetRecord>),
    ("GapRecord", again::<gaps::GapRecord>),
    ("IssueRecord", again::<health::IssueRecord>),
    ("CheckRecord", again::<health::CheckRecord>),
    ("AttemptRecord", again::<health::AttemptRecord>),
    ("ControlRecord", again::<health::ControlRecord>),
    ("HoldRecord", again::<holds::HoldRecord>),
    ("Identity", again::<identity::Identity>),
    ("IncidentRecord", again::<incidents::IncidentRecord>),
    ("JobPause", again::<jobs::JobPause>),
    ("JobMark", again::<jobs::JobMark>),
    ("MatrixRecord", again::<matrices::MatrixRecord>),
    ("ParameterRecord", again::<parameters::ParameterRecord>),
    ("RequestRecord", again::<requests::RequestRecord>),
    ("RollbackRecord", again::<rollbacks::RollbackRecord>),
    ("RunRecord", again::<runs::RunRecord>),
    ("StepRecord", again::<runs::StepRecord>),
    ("SegmentRecord", again::<segments::SegmentRecord>),
    ("SegmentTotals", again::<segments::SegmentTotals>),
    ("SourceRecord", again::<sources::SourceRecord>),
    ("OplogEntry", oplog::again),
    ("Head", oplog::head_again),
];

fn again<R: Record>(bytes: &[u8]) -> Result<Vec<u8>, StorageError> {
    encode(&"any", &decode::<R>(&"any", bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_record_of_every_table_is_among_them() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tables");
        let mut sources = Vec::new();
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => sources
                    .extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path())),
                false => sources.push(path),
            }
        }
        let mut there: Vec<String> = Vec::new();
        for path in sources {
            let text = std::fs::read_to_string(path).unwrap();
            let named = text.lines().filter_map(|line| line.strip_prefix("impl Record for "));
            there.extend(named.map(|name| name.trim_end_matches(" {").to_owned()));
        }
        there.extend(["OplogEntry", "Head"].map(str::to_owned));
        there.sort();
        let mut here: Vec<&str> = KINDS.iter().map(|(name, _)| *name).collect();
        here.sort_unstable();
        assert_eq!(here, there);
    }
}
