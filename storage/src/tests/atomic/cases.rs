//! A write of each table, by the table's name in `schema.rs`.

use std::time::Duration;

use serde_json::json;

use crate::tests::health::{attempt, issue, moment};
use crate::tests::{at, hold, run, segment, step};
use crate::*;

type Done = Result<(), StorageError>;
/// A table, and what changes it in a transaction that can be had of `W`.
type Cases<W> = &'static [(&'static str, W)];

/// With an entry of the oplog each.
pub(super) const AUDITED: Cases<fn(&Writing<'_>) -> Done> = &[
    ("OPLOG", |_| Ok(())),
    ("META", |w| {
        let (host_id, hostname) = ("01J".to_owned(), "host".to_owned());
        w.identity().put(&Identity { host_id, created_at: at(0), hostname })
    }),
    ("META", |w| w.emergency().put(&emergency())),
    ("META", |w| w.course().put(&CourseRecord { epoch: 3, ..CourseRecord::default() })),
    ("META", |w| w.course().put_lease(Some(&LeaseRecord { holder: "desk".into(), since: at(5) }))),
    ("META", |w| w.fleet().put(&FleetRecord { session: "s".into() })),
    ("META", |w| w.gaps().put(&GapRecord { at: at(9), lost: true, detail: "gone".into() })),
    ("RUNS", |w| w.runs().put(&run("RUN02", RunState::Succeeded))),
    ("RUNS", |w| w.runs().put(&run("RUN01", RunState::Interrupted))),
    ("RUNS_RUNNING", |w| w.runs().put(&run("RUN02", RunState::Running))),
    ("RUN_STEPS", |w| w.runs().put_step("RUN01", &step(1))),
    ("JOB_PAUSES", |w| {
        let pause = JobPause { by: "olga".into(), reason: "disk".into(), at: at(2) };
        w.jobs().set_pause("rotate", &pause)
    }),
    ("JOB_MARKS", |w| w.jobs().set_mark("rotate", &JobMark::default())),
    ("SEGMENTS", |w| w.segments().put(&segment("app", 1, SegmentState::Sealed))),
    ("SEGMENTS_UNFINISHED", |w| w.segments().put(&segment("app", 1, SegmentState::Verified))),
    ("SEGMENT_TIMES", |w| w.segments().put(&segment("app", 2, SegmentState::Active))),
    ("SEGMENT_COUNTS", |w| w.segments().put(&segment("app", 2, SegmentState::Active))),
    ("SEGMENT_TOTALS", |w| w.segments().put(&segment("db", 1, SegmentState::Verified))),
    ("SEGMENTS", |w| w.segments().delete("app", 1).map(drop)),
    ("SOURCES", |w| w.sources().put(&source())),
    ("CONFIGS", |w| w.configs().push(&config())),
    ("REQUESTS", |w| w.requests().put("R1", &request())),
    ("REQUESTS_BY_TIME", |w| w.requests().put("R2", &request())),
    ("HOLDS", |w| w.holds().put(&hold("HOLD02"))),
    ("HOLDS", |w| w.holds().remove("HOLD01").map(drop)),
    ("HEALTH_CHECKS", |w| w.health().put_check(&check())),
    ("HEALTH_ISSUES", |w| w.health().put_issue(&issue("disk", 1), 100)),
    ("HEALTH_ATTEMPTS", |w| w.health().put_attempt(&attempt("A1", "disk"), 100)),
    ("HEALTH_CONTROLS", |w| w.health().set_control(Control::Brake, &control())),
    ("ALERTS", |w| w.alerts().put(&alert())),
    ("ALERT_OUTBOX", |w| w.alerts().put_message(&message())),
    ("ALERT_DELIVERIES", |w| w.alerts().put_delivery(&delivery(), 100)),
    ("ALERT_SILENCES", |w| w.alerts().put_silence(&silence(), 100, |_| true)),
    ("BREAKERS", |w| w.breakers().put(&breaker())),
    ("BREAKERS_USUAL", |w| w.breakers().put_usual(&usual())),
    ("BACKUPS", |w| w.backups().put(&backup(), 100)),
    ("CERTIFICATES", |w| {
        w.certificates()
            .put(&CertificateRecord { name: "www".into(), ..CertificateRecord::default() })
    }),
    ("CERTIFICATE_GENERATIONS", |w| w.certificates().put_generation(&generation())),
    ("CERTIFICATE_EVENTS", |w| w.certificates().put_event(&event(), at(0), 100)),
    ("DATABASE_CARE", |w| w.care().put(&care(), 100)),
    ("DATABASE_LEDGER", |w| w.care().announce(&ledger())),
    ("DEPENDENCY_UPDATES", |w| w.dependencies().put_update(&update(), 100)),
    ("DEPENDENCY_RELEASES", |w| w.dependencies().put_release(&release())),
    ("VULNERABILITY_CLOCKS", |w| w.dependencies().put_clock(&clock())),
    ("IGNORED_FINDINGS", |w| w.dependencies().put_ignored(&ignored())),
    ("INCIDENTS", |w| {
        let id = ("INC1".to_owned(), at(1));
        w.incidents().put(&IncidentRecord::new(id, Trigger::ByHand, "feed", "olga"), 100)
    }),
    ("ROLLBACKS", |w| {
        w.rollbacks().put(&RollbackRecord { id: "RB1".into(), ..RollbackRecord::default() })
    }),
    ("DRILLS", |w| w.drills().put(&drill(), 100)),
    ("TALLIES", |w| w.count().count(20_000, "drill/passed")),
    ("BASELINES", |w| {
        let record = BaselineRecord { operation: "place".into(), ..BaselineRecord::default() };
        w.baselines().put_next(record).map(drop)
    }),
    ("BASELINE_EPISODES", |w| {
        w.baselines().put_episode(&EpisodeRecord { id: "E1".into(), ..EpisodeRecord::default() })
    }),
    ("EXPERIMENTS", |w| {
        w.experiments().put(&ExperimentRecord { number: 1, ..ExperimentRecord::default() })
    }),
    ("MATRICES", |w| w.matrices().put(&MatrixRecord { version: 1, ..MatrixRecord::default() })),
    ("MATRIX_VALUES", |w| w.matrices().put_values(1, &[1; 5_000])),
    ("PARAMETERS", |w| {
        let (strategy, name) = ("mm".to_owned(), "size".to_owned());
        let record = ParameterRecord { strategy, name, ..ParameterRecord::default() };
        w.parameters().put_next(record).map(drop)
    }),
];

/// Without an entry: the closed list.
pub(super) const BOOKKEPT: Cases<fn(&Bookkeeping<'_>) -> Done> = &[
    ("RUN_STEPS", |b| b.runs().put_step("RUN01", &step(1))),
    ("RUNS", |b| b.runs().mark_cancel_requested("RUN01").map(drop)),
    ("JOB_MARKS", |b| b.jobs().set_mark("rotate", &JobMark::default())),
    ("REQUESTS", |b| b.requests().put("R1", &request())),
    ("HEALTH_CHECKS", |b| b.health().put_check(&check())),
    ("HEALTH_ISSUES", |b| b.health().put_issue(&issue("disk", 1), 100)),
    ("ALERTS", |b| b.alerts().put(&alert())),
    ("ALERT_OUTBOX", |b| b.alerts().put_message(&message())),
    ("ALERT_DELIVERIES", |b| b.alerts().put_delivery(&delivery(), 100)),
    ("BREAKERS_USUAL", |b| b.breakers().put_usual(&usual())),
];

pub(super) const IN_OBSERVATIONS: Cases<fn(&ObservationsWriting<'_>) -> Done> = &[
    ("OBSERVATIONS", |w| w.put_judged(1_700_000_000)),
    ("OPERATIONS", |w| w.put_operation("place", 1)),
    ("PRODUCERS", |w| w.put_producer("p", Producer { sequence: 1, at_millis: 2 })),
    ("HOURS", |w| w.put_hours([(1, 2, b"sketch".as_slice())].into_iter())),
    ("RAW", |w| w.append_raw([b"columns".as_slice()].into_iter())),
    ("COLUMNS", |w| w.append_columns(1, 2, [b"piece".as_slice()].into_iter())),
    ("COLUMN_BYTES", |w| w.append_columns(1, 3, [b"piece".as_slice()].into_iter())),
    ("CALIBRATIONS", |w| w.put_calibration(1, 2, b"windows")),
    ("WATCHES", |w| w.put_watch(1, b"sums")),
    ("CANDIDATES", |w| w.put_candidate((1, 2, 3), b"window")),
];

pub(super) const IN_TRADES: Cases<fn(&TradesWriting<'_>) -> Done> = &[
    ("PRODUCERS", |w| w.put_producer("p", Producer { sequence: 1, at_millis: 2 })),
    ("TALLIES", |w| w.put_tally(1, b"tally")),
    ("IDS", |w| w.append_ids(1, b"ids")),
    ("DAYS", |w| w.put_day(1, 2, b"moments")),
    ("UNITS", |w| w.put_unit(1, 2, 1)),
    ("LATE", |w| w.append_late(1, b"late")),
];

pub(super) const IN_VALUES: Cases<fn(&ValuesWriting<'_>) -> Done> = &[
    ("NAMES", |w| w.put_name("btc", 1)),
    ("PRODUCERS", |w| w.put_producer("p", Producer { sequence: 1, at_millis: 2 })),
    ("HOURS", |w| w.put_hour(1, 2, b"values")),
    ("REVISIONS", |w| w.touch(1)),
    ("BLOCKS", |w| w.put_block(1, b"sums")),
    ("STAGES", |w| w.put_stage(1, 10, b"outcomes")),
    ("CONSUMERS", |w| w.put_consumer((1, 10), 3, 1)),
];

pub(super) const IN_ADVISORIES: Cases<fn(&AdvisoriesWriting<'_>) -> Done> = &[
    ("SOURCES", |w| w.put_source("kev", b"of today")),
    ("PACKAGES", |w| w.replace_packages("PyPI", [("django", b"advisories".as_slice())])),
    ("EXPLOITED", |w| w.replace_exploited([("CVE-1", b"known".as_slice())])),
    ("LIKELIHOODS", |w| w.replace_likelihoods([("CVE-1", (0.25, 0.5))])),
];

fn emergency() -> EmergencyRecord {
    EmergencyRecord {
        epoch: 3,
        since: at(5),
        activated_by: "olga".into(),
        reason: "feed".into(),
        release: None,
        fleet: None,
    }
}

fn source() -> SourceRecord {
    SourceRecord {
        log_type: "app".into(),
        next_sequence: 2,
        next_chain_index: 1,
        chain_head: String::new(),
        streams: [("/a".to_owned(), StreamRecord::default())].into(),
    }
}

fn config() -> ConfigGeneration {
    ConfigGeneration {
        generation: 1,
        sha256: String::new(),
        source: "defaults".into(),
        text: "# nothing\n".repeat(50),
        at: at(0),
        actor: "tester".into(),
    }
}

fn request() -> RequestRecord {
    RequestRecord { digest: "d".into(), at: at(6), answer: Some("00".into()) }
}

fn check() -> CheckRecord {
    CheckRecord { check: "disk".into(), ..CheckRecord::default() }
}

fn control() -> ControlRecord {
    ControlRecord { since: moment(1), lasts: None, by: "olga".into(), reason: "storm".into() }
}

fn alert() -> AlertRecord {
    AlertRecord {
        id: "AL1".into(),
        key: "disk/full".into(),
        source: "health".into(),
        subject: "disk".into(),
        severity: "critical".into(),
        title: "it is full".into(),
        details: Vec::new(),
        runbook: String::new(),
        behind: Vec::new(),
        since: at(1),
        opened: moment(1),
        gone: None,
        resolved_at: None,
        changes: Vec::new(),
        told: Vec::new(),
        told_at: None,
        repeats: 0,
        digested: false,
        ack: None,
    }
}

fn message() -> OutboxRecord {
    let alerts = vec!["AL1".to_owned()];
    OutboxRecord::new(1, "it is full".into(), ("mail", "raised"), alerts, moment(1))
}

fn delivery() -> DeliveryRecord {
    DeliveryRecord {
        at: at(2),
        message: "it is full".into(),
        channel: "mail".into(),
        occasion: "raised".into(),
        alerts: vec!["AL1".to_owned()],
        outcome: DeliveryOutcome::Accepted,
        attempts: 1,
        detail: String::new(),
    }
}

fn silence() -> SilenceRecord {
    SilenceRecord {
        id: "S1".into(),
        source: "health".into(),
        subject: "disk".into(),
        severity: String::new(),
        by: "olga".into(),
        reason: "known".into(),
        since: moment(1),
        lasts: Duration::from_secs(60),
        ended: None,
    }
}

fn breaker() -> BreakerRecord {
    BreakerRecord {
        name: "orders".into(),
        state: BreakerState::Open,
        since: moment(1),
        lasts: None,
        by: "olga".into(),
        reason: "fills".into(),
        opening: 1,
        failures: 0,
    }
}

fn usual() -> UsualRecord {
    UsualRecord { name: "orders".into(), ..UsualRecord::default() }
}

fn backup() -> BackupRecord {
    BackupRecord {
        id: "B1".into(),
        source: "trades".into(),
        engine: "postgres".into(),
        tool: "builtin".into(),
        state: BackupState::Running,
        place: String::new(),
        started_at: at(1),
        ended_at: None,
        bytes: 0,
        system_identifier: "one".into(),
        level: None,
        verified_at: None,
        detail: String::new(),
        run_id: "RUN01".into(),
    }
}

fn generation() -> GenerationRecord {
    GenerationRecord {
        name: "www".into(),
        number: 1,
        origin: CertificateOrigin::Acme,
        ca: "ca".into(),
        identifiers: vec!["www.example".to_owned()],
        serial: "01".into(),
        fingerprint: "ab".into(),
        issuer: "ca".into(),
        not_before: at(0),
        not_after: at(9_000),
        created_at: at(1),
        forced: false,
        proven_at: None,
        compromised_at: None,
        revoked_at: None,
    }
}

fn event() -> CertificateEventRecord {
    CertificateEventRecord {
        id: "EV1".into(),
        at: at(1),
        name: "www".into(),
        kind: "issued".into(),
        ca: "ca".into(),
        generation: 1,
        identifiers: Vec::new(),
        exempt: false,
        detail: String::new(),
        actor: "tester".into(),
    }
}

fn care() -> CareRecord {
    CareRecord {
        id: "C1".into(),
        database: "trades".into(),
        outcome: CareOutcome::Done,
        actor: "tester".into(),
        started_at: at(1),
        ended_at: Some(at(2)),
        report: json!({"vacuumed": 3}),
    }
}

fn ledger() -> LedgerRecord {
    LedgerRecord {
        key: "trades/index/16402".into(),
        database: "trades".into(),
        system_identifier: "one".into(),
        index: ("public".into(), "by_time".into()),
        table: ("public".into(), "fills".into()),
        index_oid: 16_402,
        table_oid: 16_400,
        foreign: Vec::new(),
        built: Vec::new(),
        session: (7, 8),
        run_id: "RUN01".into(),
        at: at(1),
    }
}

fn update() -> UpdateRecord {
    UpdateRecord {
        id: "U1".into(),
        project: "app".into(),
        strategy: "patch".into(),
        state: UpdateState::Backup,
        old_target: None,
        new_target: None,
        from_generation: 0,
        to_generation: 1,
        manifests: Vec::new(),
        changes: Vec::new(),
        error_code: String::new(),
        error: String::new(),
        failed_in: None,
        restart_owed: false,
        ill: String::new(),
        test_output: String::new(),
        exploited: false,
        started_at: at(1),
        ended_at: None,
        actor: "tester".into(),
        reason: String::new(),
    }
}

fn release() -> DependencyReleaseRecord {
    DependencyReleaseRecord {
        project: "app".into(),
        generation: 1,
        folder: "1".into(),
        digest: "ab".into(),
        packages: 4,
        made_at: at(1),
        deployed_at: None,
        update_id: "U1".into(),
        proven: false,
    }
}

fn clock() -> VulnerabilityClockRecord {
    VulnerabilityClockRecord {
        project: "app".into(),
        id: "OSV-1".into(),
        ids: vec!["CVE-1".to_owned()],
        package: "django".into(),
        severity: "high".into(),
        exploited: false,
        first_seen_at: at(1),
        elapsed: Duration::ZERO,
        counted_at: moment(1),
        mended_at: None,
        mended_after: None,
        closed_at: None,
        closed_by: String::new(),
        note: String::new(),
    }
}

fn ignored() -> IgnoredFindingRecord {
    IgnoredFindingRecord {
        project: "app".into(),
        id: "OSV-1".into(),
        until: at(90),
        reason: "not reachable".into(),
        by: "olga".into(),
        at: at(1),
    }
}

fn drill() -> DrillRecord {
    DrillRecord {
        id: "D1".into(),
        drill: "restore".into(),
        started_at: at(1),
        ended_at: at(2),
        outcome: DrillOutcome::Passed,
        rto_ms: Some(7),
        rpo_ms: None,
        steps: Vec::new(),
        deviations: Vec::new(),
        by: "olga".into(),
        reason: String::new(),
    }
}
