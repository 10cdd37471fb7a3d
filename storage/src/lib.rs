//! The embedded database of GENESIS: typed tables over redb, with audited writes.
//!
//! What holds throughout:
//!
//! - A write needs an [`Intent`]; its oplog entry is part of the same durable commit. Two
//!   unaudited writes exist, [`Store::bookkeep`] and [`Store::ingest`], each with a type that can
//!   touch nothing else.
//! - No clock and no runtime: times come in as data, every call blocks until it is done.
//! - No redb type leaves the crate.
//! - A file that is refused is left byte for byte as it was; nothing is ever put in its place.

mod advisories;
mod backend;
#[doc(hidden)]
pub mod bytes;
mod capability;
mod carry;
mod chain;
mod copy;
mod engine;
mod error;
mod intent;
mod moment;
mod observations;
mod open;
mod record;
mod reserve;
mod schema;
mod seal;
mod store;
mod tables;
#[cfg(test)]
mod tests;
mod trades;
mod values;
mod view;

pub use advisories::{Advisories, AdvisoriesReading, AdvisoriesWriting};
pub use capability::{Bookkeeping, Reading, Writing};
pub use carry::{Carried, CarryError, carry_forward, leave_gap};
pub use chain::{ChainFinding, Head, MAX_FINDINGS, Verification, verify_lines};
pub use copy::Copied;
pub use error::{OpenError, StorageError};
pub use intent::Intent;
pub use moment::Moment;
pub use observations::{
    CandidateRow, Observations, ObservationsReading, ObservationsWriting, Producer,
};
pub use record::{MAX_KEY_BYTES, MAX_RECORD_BYTES};
pub use schema::SCHEMA_VERSION;
pub use store::{Compaction, DEFAULT_CACHE_BYTES, Ingest, Options, Store};
pub use tables::alerts::{
    AlertAck, AlertRecord, AlertTold, Alerts, AlertsBookkeeping, AlertsWriting, DeliveryOutcome,
    DeliveryRecord, OutboxRecord, SilenceRecord,
};
pub use tables::backups::{
    BackupLevel, BackupRecord, BackupState, Backups, BackupsWriting, VerifiedBackup, WantedBackup,
    verified_backup,
};
pub use tables::baselines::{
    BaselineRecord, Baselines, BaselinesWriting, EpisodeRecord, KEPT_BASELINES, ReferenceRecord,
    WHOLE_BASELINES,
};
pub use tables::breakers::{
    BreakerRecord, BreakerState, Breakers, BreakersBookkeeping, BreakersWriting, UsualRecord,
    UsualShare,
};
pub use tables::care::{Care, CareOutcome, CareRecord, CareWriting, LedgerRecord};
pub use tables::certificates::{
    BackoffRecord, CertificateEventRecord, CertificateOrigin, CertificateRecord,
    CertificateTrouble, Certificates, CertificatesBookkeeping, CertificatesWriting,
    DeployingRecord, GenerationRecord, OrderRecord, PinRecord, RenewalRecord,
};
pub use tables::configs::{ConfigGeneration, Configs, ConfigsWriting, KEPT_GENERATIONS};
pub use tables::dependencies::{
    ChangeRecord, DependencyReleaseRecord, DependencyStates, DependencyStatesBookkeeping,
    DependencyStatesWriting, IgnoredFindingRecord, UpdateRecord, UpdateState,
    VulnerabilityClockRecord,
};
pub use tables::drills::{DrillOutcome, DrillRecord, DrillStep, Drills, DrillsWriting};
pub use tables::emergency::{
    Emergencies, EmergenciesWriting, EmergencyRecord, EmergencyRelease, FleetMark,
};
pub use tables::emergency_course::{
    ApprovalRecord, CloseOrderRecord, CloseOrderState, ClosingRecord, CoursePhase, CourseRecord,
    Courses, CoursesWriting, LeaseRecord, VenuePhase, VenueRecord,
};
pub use tables::experiments::{
    ConclusionRecord, ExperimentRecord, Experiments, ExperimentsWriting, RulesRecord, TrialRecord,
};
pub use tables::fleet::{FleetRecord, Fleets, FleetsWriting};
pub use tables::gaps::{GapRecord, Gaps, GapsWriting};
pub use tables::health::{
    ATTEMPTS_KEPT, AttemptOutcome, AttemptRecord, CheckRecord, Control, ControlRecord, Denial,
    Health, HealthBookkeeping, HealthWriting, ISSUES_KEPT, IssueRecord, IssueState, Trigger,
};
pub use tables::holds::{HoldRecord, Holds, HoldsWriting};
pub use tables::identity::{Identities, IdentitiesWriting, Identity};
pub use tables::incidents::{
    INCIDENTS_KEPT, IncidentClosure, IncidentRecord, IncidentState, Incidents, IncidentsWriting,
};
pub use tables::jobs::{JobMark, JobPause, Jobs, JobsBookkeeping, JobsWriting};
pub use tables::matrices::{
    CriterionRecord, LackRecord, Matrices, MatricesWriting, MatrixRecord, MovedRecord,
    PeriodRecord, RepairRecord, RolloutRecord, StageRecord,
};
pub use tables::oplog::{MAX_SCANNED, Oplog, OplogEntry, Searched, StoredEntry};
pub use tables::parameters::{
    FleetVersion, KEPT_VERSIONS, ParameterRecord, Parameters, ParametersWriting,
};
pub use tables::requests::{RequestRecord, Requests, RequestsBookkeeping};
pub use tables::rollbacks::{
    KEPT_ROLLBACKS, RollbackOutcome, RollbackRecord, Rollbacks, RollbacksWriting,
};
pub use tables::runs::{
    ReconciliationRecord, RunRecord, RunState, Runs, RunsBookkeeping, RunsWriting, StepRecord,
    StepState, Verdict,
};
pub use tables::segments::{
    SegmentRecord, SegmentState, SegmentTotals, Segments, SegmentsWriting, TakenHow, TakenPhase,
    TakenRecord, Waiting,
};
pub use tables::series::Series;
pub use tables::sources::{HeadRecord, SourceRecord, Sources, SourcesWriting, StreamRecord};
pub use tables::tallies::{Day, TALLIED_DAYS, Tallies, TalliesWriting};
pub use trades::{Trades, TradesReading, TradesWriting};
pub use values::{Values, ValuesReading, ValuesWriting};
