//! Every table of the file. A new table needs no new schema version: it is created at the next
//! open. What an older build would misread (a changed key, or a changed meaning of a table) does.

use std::fmt;

use redb::{ReadTransaction, TableDefinition, TableError, WriteTransaction};

use crate::copy::{compare_table, copy_table};

/// The schema version that this build writes, and the newest that it reads.
pub const SCHEMA_VERSION: u32 = 1;

type Bytes = &'static [u8];
type Name = &'static str;

/// What a file is made of.
pub(crate) struct Schema {
    /// The table with its version, by which files are told apart.
    pub meta: TableDefinition<'static, Name, Bytes>,
    /// The version that this build writes, and the newest that it reads.
    pub version: u32,
    /// Creates the tables that are not there yet.
    pub create_tables: fn(&WriteTransaction) -> Result<(), TableError>,
    /// Whether all tables are there; an error where one has other types than ours.
    pub has_tables: fn(&ReadTransaction) -> Result<bool, TableError>,
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schema").field("version", &self.version).finish_non_exhaustive()
    }
}

/// The file with the agent's state.
pub(crate) static SCHEMA: Schema =
    Schema { meta: META, version: SCHEMA_VERSION, create_tables, has_tables };

macro_rules! tables {
    ($($name:ident: $key:ty => $value:ty = $text:literal; $doc:literal)*) => {
        $(
            #[doc = $doc]
            pub(crate) const $name: TableDefinition<'static, $key, $value> =
                TableDefinition::new($text);
        )*

        /// What the tables are called here.
        #[cfg(test)]
        #[allow(dead_code)] // Of one file only.
        pub(crate) fn table_names() -> Vec<&'static str> {
            vec![$(stringify!($name)),*]
        }

        /// The tables in which two states differ, by what they are called here.
        #[cfg(test)]
        pub(crate) fn changed_tables(
            one: &ReadTransaction,
            other: &ReadTransaction,
        ) -> Vec<&'static str> {
            let mut changed = Vec::new();
            $(
                if compare_table($name, one, other).is_err() {
                    changed.push(stringify!($name));
                }
            )*
            changed
        }

        /// Creates the tables that are not there yet.
        pub(crate) fn create_tables(transaction: &WriteTransaction) -> Result<(), TableError> {
            $(drop(transaction.open_table($name)?);)*
            Ok(())
        }

        /// Whether all tables are there; an error where one has other types than ours.
        pub(crate) fn has_tables(transaction: &ReadTransaction) -> Result<bool, TableError> {
            $(
                match transaction.open_table($name) {
                    Ok(_) => {}
                    Err(TableError::TableDoesNotExist(_)) => return Ok(false),
                    Err(error) => return Err(error),
                }
            )*
            Ok(true)
        }

        /// Copies all tables; how many rows they have.
        pub(crate) fn copy_tables(
            from: &ReadTransaction,
            to: &WriteTransaction,
        ) -> Result<u64, redb::Error> {
            let mut rows = 0;
            $(rows += copy_table($name, from, to)?;)*
            Ok(rows)
        }

        /// Compares all tables byte for byte; how many rows they have.
        pub(crate) fn compare_tables(
            one: &ReadTransaction,
            other: &ReadTransaction,
        ) -> Result<u64, redb::Error> {
            let mut rows = 0;
            $(rows += compare_table($name, one, other)?;)*
            Ok(rows)
        }
    };
}

tables! {
    META: Name => Bytes = "meta"; "Single rows, by the names below."
    OPLOG: u64 => Bytes = "oplog"; "Sequence to version, hash and JSON; written by transactions only."
    RUNS: Name => Bytes = "runs"; "Run id (ULID, so ordered by time) to `RunRecord`."
    RUNS_RUNNING: Name => () = "runs_running"; "The ids of the runs in state running."
    RUN_STEPS: (Name, u32) => Bytes = "run_steps"; "Run id and step number to `StepRecord`."
    JOB_PAUSES: Name => Bytes = "job_pauses"; "Job name to `JobPause`."
    JOB_MARKS: Name => Bytes = "job_marks"; "Job name to `JobMark`."
    SEGMENTS: (Name, u64) => Bytes = "segments"; "Log type and sequence to `SegmentRecord`."
    SEGMENTS_UNFINISHED: (Name, u64) => () = "segments_unfinished"; "The segments not yet verified."
    SEGMENT_TIMES: (Name, i64, u64) => i64 = "segment_times"; "Log type, last timestamp (nanoseconds since 1970) and sequence to the first; where there are none, the greatest and the least."
    SEGMENT_COUNTS: (Name, Name) => u64 = "segment_counts"; "Log type and state to how many."
    SEGMENT_TOTALS: Name => Bytes = "segment_totals"; "Log type to `SegmentTotals`."
    SOURCES: Name => Bytes = "sources"; "Log type to `SourceRecord`."
    CONFIGS: u64 => Bytes = "configs"; "Generation to `ConfigGeneration`."
    REQUESTS: Name => Bytes = "requests"; "Request id to `RequestRecord`."
    REQUESTS_BY_TIME: (i64, Name) => () = "requests_by_time"; "Milliseconds since 1970 and request id."
    HOLDS: Name => Bytes = "holds"; "Hold id (ULID) to `HoldRecord`."
    HEALTH_CHECKS: Name => Bytes = "health_checks"; "Check to `CheckRecord`."
    HEALTH_ISSUES: (Name, u64) => Bytes = "health_issues"; "Check and episode to `IssueRecord`."
    HEALTH_ATTEMPTS: Name => Bytes = "health_attempts"; "Attempt id (ULID) to `AttemptRecord`."
    HEALTH_CONTROLS: Name => Bytes = "health_controls"; "What holds remediation back, by name, to `ControlRecord`."
    ALERTS: Name => Bytes = "alerts"; "Alert id (ULID) to `AlertRecord`."
    ALERT_OUTBOX: u64 => Bytes = "alert_outbox"; "Sequence to `OutboxRecord`."
    ALERT_DELIVERIES: u64 => Bytes = "alert_deliveries"; "Sequence to `DeliveryRecord`."
    ALERT_SILENCES: Name => Bytes = "alert_silences"; "Silence id (ULID) to `SilenceRecord`."
    BREAKERS: Name => Bytes = "breakers"; "Breaker to `BreakerRecord`."
    BREAKERS_USUAL: Name => Bytes = "breakers_usual"; "Breaker to `UsualRecord`."
    BACKUPS: Name => Bytes = "backups"; "Backup id (ULID) to `BackupRecord`."
    CERTIFICATES: Name => Bytes = "certificates"; "Certificate to `CertificateRecord`."
    CERTIFICATE_GENERATIONS: (Name, u32) => Bytes = "certificate_generations"; "Certificate and number to `GenerationRecord`."
    CERTIFICATE_EVENTS: Name => Bytes = "certificate_events"; "Event id (ULID) to `CertificateEventRecord`."
    DATABASE_CARE: Name => Bytes = "database_care"; "Run id (ULID) to `CareRecord`."
    DATABASE_LEDGER: Name => Bytes = "database_ledger"; "Database and what it is about to `LedgerRecord`."
    DEPENDENCY_UPDATES: Name => Bytes = "dependency_updates"; "Run id (ULID) to `UpdateRecord`."
    DEPENDENCY_RELEASES: (Name, u64) => Bytes = "dependency_releases"; "Project and generation to `DependencyReleaseRecord`."
    VULNERABILITY_CLOCKS: (Name, Name) => Bytes = "vulnerability_clocks"; "Project and finding to `VulnerabilityClockRecord`."
    IGNORED_FINDINGS: (Name, Name) => Bytes = "ignored_findings"; "Project and finding to `IgnoredFindingRecord`."
    INCIDENTS: Name => Bytes = "incidents"; "Incident id (ULID) to `IncidentRecord`."
    ROLLBACKS: Name => Bytes = "rollbacks"; "Rollback id (ULID) to `RollbackRecord`."
    DRILLS: Name => Bytes = "drills"; "Drill id (ULID) to `DrillRecord`."
    TALLIES: (u32, Name) => u64 = "tallies"; "Days since 1970 and what was counted to how often."
    SERIES: (Name, i128) => f64 = "series"; "Series and nanoseconds since 1970 to the value."
    BASELINES: (Name, u32) => Bytes = "baselines"; "Operation and generation to `BaselineRecord`."
    EXPERIMENTS: u64 => Bytes = "experiments"; "Number to `ExperimentRecord`."
    MATRICES: u64 => Bytes = "matrices"; "Version to `MatrixRecord`."
    MATRIX_VALUES: u64 => Bytes = "matrix_values"; "Version to a matrix, in the form of the statistics."
    PARAMETERS: (Name, u64) => Bytes = "parameters"; "Strategy, slash and parameter, and version to `ParameterRecord`."
    BASELINE_EPISODES: Name => Bytes = "baseline_episodes"; "Episode id (ULID) to `EpisodeRecord`."
    FLOORS: Name => u64 = "floors"; "What is numbered to the greatest number that was given, where what had it went back."
}

/// The tables of the file with the observations, a file of its own: it is written to all the time, and nothing that
/// the agent must note waits for it.
#[allow(dead_code)] // It is not copied.
pub(crate) mod observations {
    use super::{Bytes, Name, Schema};
    use crate::copy::{compare_table, copy_table};
    use redb::{ReadTransaction, TableDefinition, TableError, WriteTransaction};

    /// The schema version that this build writes, and the newest that it reads.
    pub(crate) const VERSION: u32 = 1;

    /// The file with the observations.
    pub(crate) static SCHEMA: Schema =
        Schema { meta: OBSERVATIONS, version: VERSION, create_tables, has_tables };

    tables! {
        OBSERVATIONS: Name => Bytes = "observations"; "Single rows, by the names below."
        OPERATIONS: Name => u32 = "operations"; "Operation to its number, by which the other tables name it."
        PRODUCERS: Name => (u64, i64) = "producers"; "Producer to its greatest sequence, and when that came, in milliseconds since 1970."
        HOURS: (u32, u32) => Bytes = "hours"; "Operation and hours since 1970 to a sketch."
        RAW: u64 => Bytes = "raw"; "Sequence to the columns of one commit, by operation."
        COLUMNS: (u32, u32, u32) => Bytes = "columns"; "Operation, hours since 1970 and number to a piece of the columns of that hour."
        COLUMN_BYTES: (u32, u32) => u64 = "column_bytes"; "Hours since 1970 and operation to the bytes of its columns."
        CALIBRATIONS: (u32, u8) => Bytes = "calibrations"; "Operation and hour of the week to the windows that were judged in it."
        WATCHES: u32 => Bytes = "watches"; "Operation to how far its CUSUMs are."
        CANDIDATES: (i64, u32, u8) => Bytes = "candidates"; "Seconds since 1970, operation and quantile to a window that was as bad as few are."
    }

    /// Row of `OBSERVATIONS`: bytes of raw columns, a little-endian u64.
    pub(crate) const RAW_BYTES_ROW: &str = "raw_bytes";
    /// Row of `OBSERVATIONS`: windows that began before there are judged, in seconds since 1970, a little-endian i64.
    pub(crate) const JUDGED_ROW: &str = "judged";
}

/// The tables of the file with the trades of experiments.
#[allow(dead_code)] // It is not copied.
pub(crate) mod trades {
    use super::{Bytes, Name, Schema};
    use crate::copy::{compare_table, copy_table};
    use redb::{ReadTransaction, TableDefinition, TableError, WriteTransaction};

    /// The schema version that this build writes, and the newest that it reads.
    pub(crate) const VERSION: u32 = 1;

    /// The file with the trades.
    pub(crate) static SCHEMA: Schema =
        Schema { meta: TRADES, version: VERSION, create_tables, has_tables };

    tables! {
        TRADES: Name => Bytes = "trades"; "Single rows, by the names below."
        PRODUCERS: Name => (u64, i64) = "producers"; "Producer to its greatest sequence, and when that came, in milliseconds since 1970."
        TALLIES: u64 => Bytes = "tallies"; "Experiment to what was tallied of it and what the looks have shown."
        IDS: (u64, u64) => Bytes = "ids"; "Experiment and number to a sorted run of trades' ids."
        DAYS: (u64, u32) => Bytes = "days"; "Experiment and days since 1970 to the moments of that day."
        UNITS: (u64, u64) => u8 = "units"; "Experiment and what stands for a unit to the arm that it is in."
        LATE: (u64, u64) => Bytes = "late"; "Experiment and number to trades that came too late to count."
    }
}

/// The tables of the file with the values of series.
#[allow(dead_code)] // It is not copied.
pub(crate) mod values {
    use super::{Bytes, Name, Schema};
    use crate::copy::{compare_table, copy_table};
    use redb::{ReadTransaction, TableDefinition, TableError, WriteTransaction};

    /// The schema version that this build writes, and the newest that it reads.
    pub(crate) const VERSION: u32 = 1;

    /// The file with the values.
    pub(crate) static SCHEMA: Schema =
        Schema { meta: VALUES, version: VERSION, create_tables, has_tables };

    tables! {
        VALUES: Name => Bytes = "values"; "Single rows, by the names below."
        NAMES: Name => u32 = "names"; "Series to its number, by which the other tables name it."
        PRODUCERS: Name => (u64, i64) = "producers"; "Producer to its greatest sequence, and when that came, in milliseconds since 1970."
        HOURS: (u32, u32) => Bytes = "hours"; "Hours since 1970 and series to the values of that hour."
        REVISIONS: u32 => u64 = "revisions"; "Days since 1970 to how often the values of that day were changed."
        BLOCKS: u32 => Bytes = "blocks"; "Days since 1970 to the sums of that day, and of which revision they are."
        STAGES: (u64, u32) => Bytes = "stages"; "Version and percent to what consumers reported in that stage."
        CONSUMERS: (u64, u32, u64) => u8 = "consumers"; "Version, percent and what stands for a consumer to the arm that it was in."
    }
}

/// The tables of the file with what is known of vulnerable packages.
#[allow(dead_code)] // It is not copied.
pub(crate) mod advisories {
    use super::{Bytes, Name, Schema};
    use crate::copy::{compare_table, copy_table};
    use redb::{ReadTransaction, TableDefinition, TableError, WriteTransaction};

    /// The schema version that this build writes, and the newest that it reads.
    pub(crate) const VERSION: u32 = 1;

    /// The file with the advisories.
    pub(crate) static SCHEMA: Schema =
        Schema { meta: ADVISORIES, version: VERSION, create_tables, has_tables };

    tables! {
        ADVISORIES: Name => Bytes = "advisories"; "Single rows, by the names below."
        SOURCES: Name => Bytes = "sources"; "Ecosystems, kev and epss to what of them was imported, and when."
        PACKAGES: (Name, Name) => Bytes = "packages"; "Ecosystem and package to its advisories."
        EXPLOITED: Name => Bytes = "exploited"; "CVE to what is known of the use that is made of it."
        LIKELIHOODS: Name => (f64, f64) = "likelihoods"; "CVE to the probability that use will be made of it, and its percentile."
    }
}

/// Row of `META`: the schema version, a little-endian u32. No version may move or recode it.
pub(crate) const SCHEMA_ROW: &str = "schema_version";
/// Row of `META`: the host's `Identity`.
pub(crate) const IDENTITY_ROW: &str = "identity";
/// Row of `META`: the newest oplog entry's sequence and hash, apart from the entry itself.
pub(crate) const HEAD_ROW: &str = "oplog_head";
/// Row of `META`: the `FleetRecord`.
pub(crate) const FLEET_ROW: &str = "fleet";
/// Row of `META`: the `GapRecord`.
pub(crate) const GAP_ROW: &str = "gap";
/// Row of `META`: the `EmergencyRecord`.
pub(crate) const EMERGENCY_ROW: &str = "emergency";
/// Row of `META`: the `CourseRecord` of the latest emergency.
pub(crate) const COURSE_ROW: &str = "emergency_course";
/// Row of `META`: the `LeaseRecord` of the trading system.
pub(crate) const LEASE_ROW: &str = "trading_lease";
