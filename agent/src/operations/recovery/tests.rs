//! Tables for what is decided of incidents, their timelines, and the reports.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use genesis_storage::{
    ATTEMPTS_KEPT, AlertRecord, AttemptOutcome, AttemptRecord, CertificateOrigin, DeliveryOutcome,
    DeliveryRecord, EmergencyRecord, EmergencyRelease, GenerationRecord, Identity, IncidentRecord,
    IncidentState, Intent, IssueRecord, IssueState, Moment, OplogEntry, Options, Store, Trigger,
    UpdateRecord, UpdateState,
};
use jiff::Timestamp;
use tokio::sync::watch;

use super::closing::{self, Closing};
use super::incidents::{Incidents, NewIncident, UNDOCUMENTED_AFTER};
use super::report::{self, Period, Standing};
use super::reports::Reports;
use super::timeline::{self, SHOWN};
use crate::events::Severity;
use crate::outside::{Clock, ManualClock};
use crate::state::State;

const PAGES: [&str; 3] = ["disk-space", "incident", "memory-leak"];

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn when(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn moment(wall: Timestamp) -> Moment {
    Moment { wall, boot: "boot".to_owned(), since_boot: Duration::ZERO }
}

fn incident(trigger: Trigger, opened: i64) -> IncidentRecord {
    IncidentRecord::new(("01INCIDENT".to_owned(), at(opened)), trigger, "it broke", "system:health")
}

// Closing.

#[test]
fn an_incident_is_closed_once_when_it_is_over_or_was_opened_by_hand() {
    let over = |trigger| IncidentRecord { over_at: Some(at(9)), ..incident(trigger, 1) };
    for (record, expected) in [
        (incident(Trigger::Flagged, 1), Some("INCIDENT_OPEN")),
        (incident(Trigger::Emergency, 1), Some("INCIDENT_OPEN")),
        (incident(Trigger::ByHand, 1), None),
        (over(Trigger::Flagged), None),
        (over(Trigger::Emergency), None),
    ] {
        let refused = closing::may_close(&record).err().map(|error| error.code);
        assert_eq!(refused, expected, "{:?}", record.trigger);
    }
    let closure = complete().checked(&PAGES, "olga", at(20)).unwrap();
    let closed = IncidentRecord { closed: Some(closure), ..over(Trigger::Flagged) };
    let error = closing::may_close(&closed).unwrap_err();
    assert_eq!(error.code, "INCIDENT_CLOSED");
    assert!(error.message.contains("olga at 1970-01-01T00:00:20Z"), "{}", error.message);
}

fn complete() -> Closing {
    Closing {
        resolution: "the disk was changed".into(),
        lesson: "watch it".into(),
        runbook: "disk-space".into(),
        ..Closing::default()
    }
}

#[test]
fn what_is_written_down_is_whole_or_said_to_be_nothing() {
    let with = |change: fn(&mut Closing)| {
        let mut closing = complete();
        change(&mut closing);
        closing.checked(&PAGES, "olga", at(1)).err().map(|error| error.code)
    };
    assert_eq!(with(|_| {}), None);
    for (expected, change) in [
        ("RESOLUTION_MISSING", (|it| it.resolution = " ".into()) as fn(&mut Closing)),
        ("LESSON_MISSING", |it| it.lesson = String::new()),
        ("LESSON_MISSING", |it| it.no_lesson = true),
        ("RUNBOOK_MISSING", |it| it.runbook = String::new()),
        ("RUNBOOK_MISSING", |it| it.no_runbook_change = true),
        ("RUNBOOK_UNKNOWN", |it| it.runbook = "../etc".into()),
        ("TEXT_TOO_LONG", |it| it.lesson = "x".repeat(5_000)),
    ] {
        assert_eq!(with(change), Some(expected));
    }
    assert_eq!(with(|it| (it.lesson, it.no_lesson) = (String::new(), true)), None);
    assert_eq!(with(|it| (it.runbook, it.no_runbook_change) = (String::new(), true)), None);
    let near = Closing { runbook: "dsik-space".into(), ..complete() };
    let error = near.checked(&PAGES, "olga", at(1)).unwrap_err();
    assert!(error.message.contains("did you mean disk-space?"), "{}", error.message);
}

#[test]
fn a_title_and_a_note_are_bounded() {
    assert_eq!(closing::titled(" late ", "").unwrap(), ("late".to_owned(), Severity::High));
    assert_eq!(closing::titled("", "low").unwrap_err().code, "TITLE_INVALID");
    assert_eq!(closing::titled(&"x".repeat(301), "low").unwrap_err().code, "TITLE_INVALID");
    assert_eq!(closing::titled("late", "dire").unwrap_err().code, "SEVERITY_INVALID");
    assert_eq!(closing::noted("  ").unwrap_err().code, "NOTE_INVALID");
    assert_eq!(closing::noted(&"x".repeat(4_097)).unwrap_err().code, "NOTE_INVALID");
}

fn declared(epoch: u64, since: i64, released: Option<i64>) -> EmergencyRecord {
    let release = |second| EmergencyRelease {
        at: at(second),
        by: "root".into(),
        reason: "prices are right".into(),
    };
    EmergencyRecord {
        epoch,
        since: at(since),
        activated_by: "olga".into(),
        reason: "prices are wrong".into(),
        release: released.map(release),
        fleet: None,
    }
}

#[test]
fn an_emergency_wants_one_incident_and_history_none() {
    let known = incident(Trigger::Emergency, 1);
    for (emergency, known, expected) in [
        (declared(1, 0, None), None, true),
        (declared(1, 0, None), Some(&known), false),
        // Declared and released before anybody looked.
        (declared(1, 0, Some(90)), None, true),
        (declared(1, 0, Some(100 - 86_400)), None, false),
    ] {
        assert_eq!(closing::wants_one(&emergency, known, at(100)), expected, "{emergency:?}");
    }
}

// The life of an incident.

struct Host {
    _folder: tempfile::TempDir,
    clock: Arc<ManualClock>,
    book: Arc<Incidents>,
    state: State,
}

fn host() -> Host {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("state.redb"), Options::default()).unwrap();
    let state = State::new(Arc::new(store), watch::channel(0).1);
    let clock = Arc::new(ManualClock::new(when("2026-11-10T00:00:00Z")));
    let book = Incidents::new(state.clone(), Arc::clone(&clock) as Arc<dyn Clock>);
    Host { _folder: folder, clock, book, state }
}

impl Host {
    fn all(&self) -> Vec<IncidentRecord> {
        self.state.read(|reading| Ok(reading.incidents().list(false, 99)?)).unwrap()
    }
}

#[tokio::test]
async fn each_emergency_has_one_incident_that_ends_with_it() {
    let host = host();
    let declared = declared(1, host.clock.now().as_second(), None);
    for _ in 0..3 {
        host.book.settle(&declared).await.unwrap();
    }
    let [open] = host.all().try_into().unwrap();
    assert_eq!((open.trigger, open.subject.as_str()), (Trigger::Emergency, "emergency 1"));
    assert!(open.title.contains("prices are wrong") && open.by == "olga", "{open:?}");
    // The second was declared while nobody looked at the first one's release.
    let second = EmergencyRecord { epoch: 2, ..declared.clone() };
    host.book.settle(&second).await.unwrap();
    let states: Vec<_> = host.all().iter().map(|it| (it.subject.clone(), it.state())).collect();
    assert!(states.contains(&("emergency 1".to_owned(), IncidentState::Over)), "{states:?}");
    assert!(states.contains(&("emergency 2".to_owned(), IncidentState::Open)), "{states:?}");
    let release = EmergencyRelease { at: host.clock.now(), by: "root".into(), reason: "ok".into() };
    let released = EmergencyRecord { release: Some(release), ..second };
    for _ in 0..2 {
        host.book.settle(&released).await.unwrap();
    }
    let all = host.all();
    assert_eq!(all.len(), 2);
    assert!(all.iter().all(|it| it.state() == IncidentState::Over), "{all:?}");
    assert!(all.iter().any(|it| it.resolution.contains("released by root: ok")), "{all:?}");
}

#[tokio::test]
async fn one_that_goes_on_is_not_opened_a_second_time_and_is_told_when_nobody_writes_it_down() {
    let host = host();
    let new = || NewIncident {
        trigger: Trigger::Rollback,
        subject: "matrix".into(),
        title: "the matrix was taken back".into(),
        details: vec![],
        severity: Severity::High,
        runbook: "incident",
        by: "olga".into(),
        reason: "drift".into(),
        over: None,
    };
    let first = host.book.open(new()).await.unwrap();
    assert_eq!(host.book.open(new()).await.unwrap().id, first.id);
    let over = host
        .book
        .open(NewIncident { over: Some("verified".into()), subject: "config".into(), ..new() })
        .await
        .unwrap();
    assert_eq!((over.state(), host.all().len()), (IncidentState::Over, 2));
    assert!(host.book.undocumented().unwrap().is_empty(), "not for a week");
    host.clock.advance(Duration::try_from(UNDOCUMENTED_AFTER).unwrap());
    let waiting = host.book.undocumented().unwrap();
    assert_eq!(waiting.iter().map(|it| it.id.as_str()).collect::<Vec<_>>(), [over.id.as_str()]);
    let who = || ("olga".to_owned(), String::new());
    let closed = host.book.close(&over, (&complete(), &PAGES), "", who()).await.unwrap();
    assert_eq!(closed.closed.unwrap().runbook, "disk-space");
    assert!(host.book.undocumented().unwrap().is_empty());
    let again = host.book.close(&over, (&complete(), &PAGES), "", who()).await;
    assert_eq!(
        again.unwrap_err().code,
        "INCIDENT_CLOSED",
        "the record decides, not what was shown"
    );
    let counts = host.book.counts().unwrap();
    assert_eq!(counts, BTreeMap::from([("open", 1), ("over", 0), ("closed", 1)]));
}

// Timelines.

fn entry(sequence: u64, second: i64, actor: &str, action: &str, target: &str) -> OplogEntry {
    OplogEntry {
        sequence,
        at: at(second),
        actor: actor.into(),
        action: action.into(),
        target: target.into(),
        reason: String::new(),
        outcome: "ok".into(),
        detail: String::new(),
        correlation_id: String::new(),
        trace_id: String::new(),
    }
}

fn alert(id: &str, key: &str) -> AlertRecord {
    AlertRecord {
        id: id.into(),
        key: key.into(),
        source: "health".into(),
        subject: "disk:/".into(),
        severity: "critical".into(),
        title: "4 % free".into(),
        details: vec![],
        runbook: "disk-space".into(),
        behind: vec![],
        since: at(2_000),
        opened: moment(at(2_000)),
        gone: None,
        resolved_at: None,
        changes: vec![],
        told: vec![],
        told_at: None,
        repeats: 0,
        digested: false,
        ack: None,
    }
}

#[test]
fn a_timeline_has_what_relates_and_nothing_else() {
    let of_disk = IncidentRecord {
        issues: vec![("disk:/".to_owned(), 3)],
        over_at: Some(at(4_000)),
        ..incident(Trigger::AttemptsFailed, 2_000)
    };
    let health = "system:health";
    let relates = |entry: OplogEntry| {
        let told =
            timeline::timeline(&of_disk, &[entry], &[alert("A1", "health/issue/disk:/")], &[]);
        told.events.len() == 1
    };
    let with = |entry: OplogEntry, reason: &str, correlation: &str| OplogEntry {
        reason: reason.into(),
        correlation_id: correlation.into(),
        ..entry
    };
    for (expected, entry) in [
        (true, entry(1, 2_100, health, "health.attempt.intent", "disk:/#3")),
        (true, entry(1, 2_100, health, "health.flapping", "disk:/")),
        (false, entry(1, 2_100, health, "health.attempt.intent", "disk:/#4")),
        (false, entry(1, 2_100, health, "health.attempt.intent", "memory#3")),
        // A quarter of an hour before it, and no more.
        (true, entry(1, 1_100, "system:agent", "config.loaded", "agent.toml")),
        (false, entry(1, 1_099, "system:agent", "config.loaded", "agent.toml")),
        (true, entry(1, 4_000, "unix:uid=0(root)", "rollback", "config")),
        (false, entry(1, 4_001, "unix:uid=0(root)", "rollback", "config")),
        (true, entry(1, 2_100, "system:dependencies", "dependencies.rollback", "api")),
        (true, entry(1, 2_100, "unix:uid=0(root)", "emergency.activated", "emergency 1")),
        // What people do then, but neither their calls nor what their services push.
        (true, entry(1, 2_100, "unix:uid=0(root)", "breaker.trip", "orders")),
        (false, entry(1, 2_100, "unix:uid=0(root)", "call /genesis.v1.X/Y", "")),
        (false, entry(1, 2_100, "cert:gw", "baselines.stream", "gw")),
        (false, entry(1, 2_100, "schedule", "run.started", "logs.rotate")),
        (true, entry(1, 2_100, "unix:uid=0(root)", "alerts.ack", "A1")),
        (false, entry(1, 2_100, "unix:uid=0(root)", "alerts.ack", "A2")),
        // What names it belongs to it whenever it was.
        (true, entry(1, 9_000, "unix:uid=0(root)", "incident.noted", "01INCIDENT")),
        (true, with(entry(1, 9_000, "olga", "breaker.trip", "x"), "for 01INCIDENT", "")),
        (true, with(entry(1, 9_000, health, "health.incident.over", "x"), "", "01INCIDENT")),
    ] {
        assert_eq!(relates(entry.clone()), expected, "{entry:?}");
    }
    // The run of an attempt is found by the attempt.
    let entries = [
        with(entry(1, 2_100, health, "health.attempt.intent", "disk:/#3"), "", "RUN"),
        with(entry(2, 2_101, health, "run.started", "health.make-room"), "", "RUN"),
        with(entry(3, 2_102, health, "run.started", "health.make-room"), "", "OTHER"),
    ];
    let told = timeline::timeline(&of_disk, &entries, &[], &[]);
    assert_eq!(told.events.iter().map(|it| it.sequence).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn emergencies_of_one_quarter_of_an_hour_are_kept_apart() {
    let of = |epoch: &str, id: &str| IncidentRecord {
        id: id.into(),
        subject: format!("emergency {epoch}"),
        over_at: Some(at(2_400)),
        ..incident(Trigger::Emergency, 2_000)
    };
    let (olga, recovery) = ("unix:uid=0(root)", "system:recovery");
    let correlated =
        |entry: OplogEntry, id: &str| OplogEntry { correlation_id: id.into(), ..entry };
    let entries = [
        entry(1, 1_900, olga, "emergency.activated", "emergency 1"),
        correlated(entry(2, 1_900, olga, "incident.opened", "01A"), "01A"),
        entry(3, 1_950, olga, "emergency.released", "emergency 1"),
        entry(4, 2_000, olga, "emergency.activated", "emergency 12"),
        correlated(entry(5, 2_000, olga, "incident.opened", "01B"), "01B"),
        entry(6, 2_001, recovery, "trading.halt", "emergency 12"),
        correlated(entry(7, 2_010, olga, "incident.noted", "01A"), "01A"),
        entry(8, 2_100, olga, "rollback", "config"),
        entry(9, 2_200, olga, "emergency.activated", "emergency 2"),
    ];
    let told = |incident| -> Vec<u64> {
        let told = timeline::timeline(&incident, &entries, &[], &[]);
        told.events.iter().map(|it| it.sequence).collect()
    };
    assert_eq!(told(of("12", "01B")), [4, 5, 6, 8]);
    assert_eq!(told(of("1", "01A")), [1, 2, 3, 7, 8]);
    // What is no emergency of its own may have to do with each of them.
    let taken_back =
        IncidentRecord { over_at: Some(at(2_400)), ..incident(Trigger::Rollback, 2_000) };
    assert_eq!(told(taken_back), [1, 3, 4, 8, 9]);
}

#[test]
fn a_timeline_says_who_was_told() {
    let emergency =
        IncidentRecord { subject: "emergency 2".into(), ..incident(Trigger::Emergency, 2_000) };
    let delivery = |alert: &str, outcome, detail: &str| DeliveryRecord {
        at: at(2_010),
        message: "M".into(),
        channel: "pagerduty".into(),
        occasion: "firing".into(),
        alerts: vec![alert.into()],
        outcome,
        attempts: 1,
        detail: detail.into(),
    };
    let alerts = [
        alert("A1", "recovery/emergency/2"),
        alert("A2", "recovery/emergency/12"),
        alert("A3", "health/issue/disk:/"),
    ];
    let deliveries = [
        delivery("A1", DeliveryOutcome::Accepted, ""),
        delivery("A2", DeliveryOutcome::Accepted, ""),
        delivery("A3", DeliveryOutcome::Accepted, ""),
        delivery("A1", DeliveryOutcome::Refused, "401"),
    ];
    let told = timeline::timeline(&emergency, &[], &alerts, &deliveries);
    let shown: Vec<_> = told
        .events
        .iter()
        .map(|it| format!("{} {} {} {}", it.action, it.target, it.outcome, it.text))
        .collect();
    assert_eq!(
        shown,
        ["alert.firing pagerduty ok 4 % free", "alert.firing pagerduty refused 4 % free: 401"]
    );
}

#[test]
fn a_long_timeline_keeps_its_beginning_and_its_end() {
    let long = incident(Trigger::ByHand, 0);
    let note = |number: i64| entry(number.unsigned_abs(), number, "olga", "note", "");
    for (count, left_out) in [(SHOWN, 0), (SHOWN + 1, 1), (SHOWN + 1_000, 1_000)] {
        let entries: Vec<_> = (1..=i64::try_from(count).unwrap()).map(note).collect();
        let told = timeline::timeline(&long, &entries, &[], &[]);
        assert_eq!((told.events.len(), told.left_out), (SHOWN, left_out));
        assert_eq!(told.events[0].sequence, 1);
        assert_eq!(told.events.last().unwrap().sequence, count as u64);
        let gaps = told.events.windows(2).filter(|it| it[1].sequence != it[0].sequence + 1);
        assert_eq!(gaps.count(), usize::from(left_out > 0));
        let after = &told.events[told.left_out_after.max(1)..];
        assert!(left_out == 0 || after[0].sequence > told.left_out_after as u64 + 1);
    }
}

// Reports.

fn november() -> Period {
    report::period("2026-11", when("2026-12-05T12:00:00Z"), when("2026-01-01T00:00:00Z")).unwrap()
}

#[test]
fn a_month_is_a_month_and_without_one_it_is_thirty_days() {
    let (now, born) = (when("2026-11-27T12:00:00Z"), when("2026-01-01T00:00:00Z"));
    let of = |month: &str| report::period(month, now, born);
    let running = of("2026-11").unwrap();
    assert_eq!((running.from, running.until), (when("2026-11-01T00:00:00Z"), now));
    assert!(!running.data_missing());
    let last = of("2026-10").unwrap();
    assert_eq!(last.until, when("2026-11-01T00:00:00Z"));
    assert_eq!(last.days.1 - last.days.0, 30, "thirty-one days, both included");
    assert!(!last.data_missing(), "{last:?}");
    assert!(of("2026-09").unwrap().data_missing(), "it is not kept for so long");
    let thirty = of("").unwrap();
    assert_eq!((thirty.from, thirty.until), (when("2026-10-29T00:00:00Z"), now));
    assert_eq!(thirty.days.1 - thirty.days.0, 29);
    let young = report::period("", now, when("2026-11-20T00:00:00Z")).unwrap();
    assert!(young.data_missing() && young.data_from == when("2026-11-20T00:00:00Z"));
    for wrong in
        ["2026-12", "2026-13", "2026-00", "2026-1", "26-11", "2026-11-01", "last", "+026-11"]
    {
        assert_eq!(of(wrong).unwrap_err().code, "MONTH_INVALID", "{wrong}");
    }
    assert_eq!(november().until, when("2026-12-01T00:00:00Z"));
}

fn sums(counts: &[(&str, u64)]) -> report::Sums {
    counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
}

#[test]
fn an_objective_is_reached_missed_or_not_known_and_its_limit_does_not_count() {
    use Standing::{Fail, Pass, Unknown};
    for (succeeded, failed, expected) in
        [(0, 0, Unknown), (1, 0, Pass), (995, 5, Fail), (996, 4, Pass), (0, 1, Fail)]
    {
        let counts = [("operation/succeeded", succeeded), ("operation/failed", failed)];
        assert_eq!(report::operations(&sums(&counts)).standing, expected, "{counts:?}");
    }
    for (succeeded, failed, expected) in [(0, 0, Unknown), (9, 1, Fail), (91, 9, Pass)] {
        let counts = [("remediation/succeeded", succeeded), ("remediation/failed", failed)];
        assert_eq!(report::remediations(&sums(&counts), &[]).standing, expected, "{counts:?}");
    }
    // What counts neither way makes nothing known.
    let apart = report::operations(&sums(&[("operation/refused", 4), ("operation/unknown", 2)]));
    assert_eq!((apart.standing, apart.denominator), (Unknown, 0));
    assert_eq!(apart.apart, [("refused", 4), ("cancelled", 0), ("unknown", 2)]);
}

#[test]
fn the_worst_kinds_of_runs_are_named() {
    let report = report::operations(&sums(&[
        ("operation/succeeded", 90),
        ("operation/failed", 10),
        ("operation-of/logs.rotate/succeeded", 40),
        ("operation-of/logs.rotate/failed", 2),
        ("operation-of/backup.run/failed", 5),
        ("operation-of/backup.run/refused", 3),
        ("operation-of/matrices.update/succeeded", 9),
        ("remediation/failed", 7),
    ]));
    let named: Vec<_> = report
        .offenders
        .iter()
        .map(|it| format!("{} {}/{} {}", it.name, it.bad, it.all, it.detail))
        .collect();
    assert_eq!(named, ["backup.run 5/5 3 refused", "logs.rotate 2/42 "]);
    assert!(report.note.contains("3 failure(s)"), "{}", report.note);
}

fn update(project: &str, state: UpdateState, code: &str, ended: &str) -> UpdateRecord {
    UpdateRecord {
        id: "01U".into(),
        project: project.into(),
        strategy: "conservative".into(),
        state,
        old_target: None,
        new_target: None,
        from_generation: 0,
        to_generation: 0,
        manifests: vec![],
        changes: vec![],
        error_code: code.into(),
        error: String::new(),
        failed_in: None,
        restart_owed: false,
        ill: String::new(),
        test_output: String::new(),
        exploited: false,
        started_at: when(ended),
        ended_at: Some(when(ended)),
        actor: "schedule".into(),
        reason: String::new(),
    }
}

#[test]
fn updates_count_where_they_ended_and_refused_ones_do_not() {
    let day = "2026-11-02T04:00:00Z";
    let good = |count: usize| vec![update("api", UpdateState::Succeeded, "", day); count];
    let bad = || update("web", UpdateState::RolledBack, "UPDATE_TESTS_FAILED", day);
    let of = |records: &[UpdateRecord]| report::updates(records, &november());
    assert_eq!(of(&[]).standing, Standing::Unknown);
    assert_eq!(of(&good(1)).standing, Standing::Pass);
    // Exactly 5 % is not under it.
    assert_eq!(of(&[good(19), vec![bad()]].concat()).standing, Standing::Fail);
    assert_eq!(of(&[good(20), vec![bad()]].concat()).standing, Standing::Pass);
    let mixed = of(&[
        bad(),
        update("api", UpdateState::Held, "UPDATE_HELD", day),
        update("api", UpdateState::Unchanged, "", day),
        update("api", UpdateState::RolledBack, "CANCELLED", day),
        update("api", UpdateState::RolledBack, "UPDATE_VULNERABLE", day),
        update("old", UpdateState::RolledBack, "X", "2026-10-31T23:59:59Z"),
        update("new", UpdateState::RolledBack, "X", "2026-12-01T00:00:00Z"),
    ]);
    assert_eq!((mixed.numerator, mixed.denominator), (1, 2));
    assert_eq!(mixed.apart, [("held", 1), ("unchanged", 1), ("refused", 1), ("cancelled", 1)]);
    assert_eq!(mixed.offenders.len(), 1);
    assert!(mixed.offenders[0].detail.contains("UPDATE_TESTS_FAILED"));
}

fn certificate(from: &str, to: &str, origin: CertificateOrigin) -> Option<GenerationRecord> {
    Some(GenerationRecord {
        name: "gw".into(),
        number: 1,
        origin,
        ca: String::new(),
        identifiers: vec![],
        serial: String::new(),
        fingerprint: String::new(),
        issuer: String::new(),
        not_before: when(from),
        not_after: when(to),
        created_at: when(from),
        forced: false,
        proven_at: None,
        compromised_at: None,
        revoked_at: None,
    })
}

#[test]
fn a_certificate_lasts_for_a_week_or_for_its_share_of_a_short_life() {
    use CertificateOrigin::{Acme, SelfSigned};
    let now = when("2026-11-10T00:00:00Z");
    let of = |generation| report::certificates(&[("gw".to_owned(), generation)], now).standing;
    let long = "2026-08-01T00:00:00Z";
    for (generation, expected) in [
        (certificate(long, "2026-11-17T00:00:01Z", Acme), Standing::Pass),
        (certificate(long, "2026-11-17T00:00:00Z", Acme), Standing::Fail),
        (certificate(long, "2026-11-01T00:00:00Z", Acme), Standing::Fail),
        // Six days in all: half a day before its end.
        (certificate("2026-11-05T00:00:00Z", "2026-11-11T00:00:00Z", Acme), Standing::Pass),
        (certificate("2026-11-04T11:00:00Z", "2026-11-10T11:00:00Z", Acme), Standing::Fail),
        (certificate(long, "2027-11-01T00:00:00Z", SelfSigned), Standing::Fail),
        (None, Standing::Fail),
    ] {
        assert_eq!(of(generation.clone()), expected, "{generation:?}");
    }
    assert_eq!(report::certificates(&[], now).standing, Standing::Unknown, "there is none");
}

fn attempt(check: &str, action: &str, actor: &str, outcome: AttemptOutcome) -> AttemptRecord {
    let begun = when("2026-11-10T00:00:00Z");
    AttemptRecord {
        id: "01A".into(),
        check: check.into(),
        episode: 1,
        number: 1,
        action: action.into(),
        plan: vec![],
        destructive: false,
        actor: actor.into(),
        at: moment(begun),
        ended_at: Some(begun + jiff::SignedDuration::from_secs(30)),
        outcome,
        before: String::new(),
        after: String::new(),
        detail: String::new(),
    }
}

fn issue(check: &str, state: IssueState, called: bool) -> IssueRecord {
    let opened = moment(when("2026-11-10T00:00:00Z"));
    IssueRecord {
        check: check.into(),
        episode: 1,
        state,
        since: opened.clone(),
        escalated: called.then_some((Trigger::AttemptsFailed, opened.wall)),
        opened,
        attempts: 0,
        attempt: String::new(),
        bad_streak: 0,
        clear_streak: 0,
        clear_since: None,
        cooldown: Duration::ZERO,
        acked: None,
        denials: vec![],
        detail: String::new(),
        resolution: String::new(),
    }
}

#[test]
fn patterns_say_what_was_done_and_what_stands_out() {
    use AttemptOutcome::{DryRun, Failed, NotNeeded, Succeeded, Unknown};
    let own = "system:health";
    let mut attempts = vec![
        attempt("disk:/", "make-room", own, Succeeded),
        attempt("disk:/", "make-room", own, Succeeded),
        attempt("disk:/", "make-room", own, NotNeeded),
        attempt("disk:/", "make-room", own, DryRun),
        attempt("api", "open-breaker", own, Failed),
        attempt("api", "open-breaker", own, Failed),
        attempt("api", "open-breaker", own, Unknown),
        attempt("pricing", "clear-memory", "unix:uid=0(root)", Succeeded),
        attempt("pricing", "clear-memory", "unix:uid=0(root)", Succeeded),
    ];
    attempts.push(AttemptRecord {
        at: moment(when("2026-10-31T00:00:00Z")),
        ..attempt("old", "mend", own, Failed)
    });
    let resolved = IssueState::Resolved;
    let issues = [
        issue("disk:/", resolved, false),
        issue("disk:/", resolved, false),
        issue("disk:/", resolved, false),
        issue("api", IssueState::Escalated, true),
        issue("risk", resolved, true),
        issue("quiet", IssueState::Suspect, false),
    ];
    let patterns = report::patterns(&attempts, &issues, &november());
    let shown: Vec<_> = patterns
        .iter()
        .map(|it| {
            format!(
                "{} {} bad {} called {} tried {} helped {} vain {} by hand {}",
                it.check,
                it.action,
                it.episodes,
                it.escalated,
                it.attempts,
                it.succeeded,
                it.failed,
                it.by_hand
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            "api open-breaker bad 1 called 1 tried 3 helped 0 vain 2 by hand 0",
            "risk  bad 1 called 1 tried 0 helped 0 vain 0 by hand 0",
            "disk:/ make-room bad 3 called 0 tried 4 helped 2 vain 0 by hand 0",
            "pricing clear-memory bad 0 called 0 tried 2 helped 2 vain 0 by hand 2",
        ]
    );
    assert_eq!(patterns[2].mean(), Some(Duration::from_secs(30)));
    assert_eq!(patterns[0].mean(), None);
    let findings = report::findings(&patterns).join("\n");
    for wanted in [
        "open-breaker of api never helped, 2",
        "people were called about risk 1",
        "disk:/ was bad 3 times",
        "clear-memory of pricing was run by hand 2 times",
    ] {
        assert!(findings.contains(wanted), "{wanted}:\n{findings}");
    }
    let objective = report::remediations(&sums(&[("remediation/failed", 2)]), &patterns);
    assert_eq!(objective.offenders[0].name, "open-breaker of api");
    assert_eq!(objective.standing, Standing::Fail);
}

#[tokio::test]
async fn what_was_rolled_back_by_hand_is_no_update_and_what_is_not_kept_is_said() {
    let host = host();
    let identity = Identity {
        host_id: "01HOST".into(),
        created_at: when("2026-01-01T00:00:00Z"),
        hostname: "h".into(),
    };
    let day = "2026-11-09T04:00:00Z";
    let failed = UpdateRecord {
        strategy: "rollback".into(),
        ..update("api", UpdateState::RolledBack, "X", day)
    };
    let intent = Intent::new(host.clock.now(), "test", "test");
    let write = host.state.write(intent, move |writing| {
        writing.identity().put(&identity)?;
        writing.dependencies().put_update(&failed, 9)?;
        // One goes on, and one waits for somebody to write down what came of it.
        let opened = |id: &str, over: Option<Timestamp>| IncidentRecord {
            id: id.to_owned(),
            over_at: over,
            ..incident(Trigger::Flagged, 1)
        };
        writing.incidents().put(&opened("01A", None), 9)?;
        writing.incidents().put(&opened("01B", Some(at(9))), 9)?;
        Ok(())
    });
    write.await.unwrap();
    let reports = Reports {
        state: host.state.clone(),
        clock: Arc::clone(&host.clock) as Arc<dyn Clock>,
        certificates: Box::new(Vec::new),
    };
    let of = |name: &str| {
        let all = reports.operations("").unwrap().objectives;
        all.into_iter().find(|it| it.name == name).unwrap()
    };
    assert_eq!((of("updates").standing, of("updates").denominator), (Standing::Unknown, 0));
    let report = reports.remediation("").unwrap();
    assert_eq!((report.undocumented, report.objective.note.as_str()), (1, ""));

    let now = host.clock.now();
    let intent = Intent::new(now, "test", "test");
    let fill = host.state.write(intent, move |writing| {
        for number in 0..ATTEMPTS_KEPT {
            let id = ulid::Ulid::from_parts(now.as_millisecond() as u64, number.into()).to_string();
            let one = attempt("disk", "clean", "health", AttemptOutcome::Succeeded);
            writing
                .health()
                .put_attempt(&AttemptRecord { id, at: moment(now), ..one }, ATTEMPTS_KEPT)?;
        }
        Ok(())
    });
    fill.await.unwrap();
    host.clock.advance(Duration::from_secs(60));
    let note = reports.remediation("").unwrap().objective.note;
    assert!(note.contains("are not kept any more"), "{note:?}");
    assert_eq!(of("remediations").note, note);
}
