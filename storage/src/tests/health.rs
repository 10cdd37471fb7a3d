//! Health's tables: what is kept, in which order, and what goes.

use std::time::Duration;

use super::*;
use crate::{
    AttemptOutcome, AttemptRecord, CheckRecord, Control, ControlRecord, DrillOutcome, DrillRecord,
    IncidentClosure, IncidentRecord, IncidentState, IssueRecord, IssueState, Moment, Trigger,
};

pub(super) fn moment(seconds: i64) -> Moment {
    Moment {
        wall: at(seconds),
        boot: "boot".to_owned(),
        since_boot: Duration::from_secs(seconds.unsigned_abs()),
    }
}

pub(super) fn issue(check: &str, episode: u64) -> IssueRecord {
    IssueRecord {
        check: check.to_owned(),
        episode,
        state: IssueState::Failing,
        since: moment(2),
        opened: moment(1),
        attempts: 1,
        attempt: String::new(),
        bad_streak: 1,
        clear_streak: 0,
        clear_since: None,
        cooldown: Duration::ZERO,
        escalated: None,
        acked: None,
        denials: Vec::new(),
        detail: "1 % free".to_owned(),
        resolution: String::new(),
    }
}

pub(super) fn attempt(id: &str, check: &str) -> AttemptRecord {
    AttemptRecord {
        id: id.to_owned(),
        check: check.to_owned(),
        episode: 1,
        number: 1,
        action: "logs.make-room".to_owned(),
        plan: vec!["delete".to_owned()],
        destructive: true,
        actor: "health".to_owned(),
        at: moment(3),
        ended_at: None,
        outcome: AttemptOutcome::Intent,
        before: "1 % free".to_owned(),
        after: String::new(),
        detail: String::new(),
    }
}

#[test]
fn issues_are_kept_by_check_and_only_the_latest_ones() {
    let folder = folder();
    let store = open(&folder.path().join("x.redb"));
    for episode in 1..=9 {
        store
            .bookkeep(|b| {
                b.health().put_issue(&issue("disk", episode), 4)?;
                b.health().put_issue(&issue("disk-2", episode), 100)
            })
            .unwrap();
    }
    let episodes = |check: &str| -> Vec<u64> {
        let issues = store.read(|r| r.health().issues(check, 20)).unwrap();
        issues.iter().map(|issue| issue.episode).collect()
    };
    assert_eq!(episodes("disk"), [9, 8, 7, 6]);
    assert_eq!(episodes("disk-2").len(), 9, "another check's are its own");
    assert!(episodes("dis").is_empty());
    assert_eq!(store.read(|r| r.health().issue("disk", 9)).unwrap(), Some(issue("disk", 9)));
    assert_eq!(store.read(|r| r.health().issue("disk", 1)).unwrap(), None);
    assert!(store.bookkeep(|b| b.health().remove_issue("disk", 9)).unwrap());
    assert_eq!(episodes("disk"), [8, 7, 6]);
}

#[test]
fn the_oldest_attempts_go_first_and_each_change_is_on_record() {
    let folder = folder();
    let store = open(&folder.path().join("x.redb"));
    for number in 1..=7 {
        let check = if number % 2 == 0 { "even" } else { "odd" };
        let record = attempt(&format!("A{number}"), check);
        store.write(intent("attempt"), |w| w.health().put_attempt(&record, 5)).unwrap();
    }
    let ids = |check: &str, limit| -> Vec<String> {
        let attempts = store.read(|r| r.health().attempts(check, limit)).unwrap();
        attempts.into_iter().map(|attempt| attempt.id).collect()
    };
    assert_eq!(ids("", 10), ["A7", "A6", "A5", "A4", "A3"]);
    assert_eq!(ids("odd", 2), ["A7", "A5"]);
    assert_eq!(store.read(|r| r.health().attempt("A1")).unwrap(), None);
    let done = AttemptRecord { outcome: AttemptOutcome::Succeeded, ..attempt("A7", "odd") };
    store.write(intent("attempt"), |w| w.health().put_attempt(&done, 5)).unwrap();
    assert_eq!(store.read(|r| r.health().attempt("A7")).unwrap(), Some(done));
    assert_eq!(ids("", 10).len(), 5);
    assert_eq!(head(&store).sequence, 8, "an entry of the oplog for each");
}

#[test]
fn a_hold_on_remediation_ends_by_itself_when_it_was_given_an_end() {
    let folder = folder();
    let store = open(&folder.path().join("x.redb"));
    let control = ControlRecord {
        since: moment(100),
        lasts: Some(Duration::from_secs(60)),
        by: "me".to_owned(),
        reason: "because".to_owned(),
    };
    store
        .write(intent("disable"), |w| w.health().set_control(Control::Disabled, &control))
        .unwrap();
    let read = store.read(|r| r.health().control(Control::Disabled)).unwrap();
    assert_eq!(read, Some(control.clone()));
    assert_eq!(store.read(|r| r.health().control(Control::Brake)).unwrap(), None);
    assert!(control.holds(&moment(159)) && !control.holds(&moment(160)));
    let brake = ControlRecord { lasts: None, ..control };
    assert!(brake.holds(&moment(1_000_000)));
    assert!(
        store.write(intent("enable"), |w| w.health().clear_control(Control::Disabled)).unwrap()
    );
    assert!(
        !store.write(intent("enable"), |w| w.health().clear_control(Control::Disabled)).unwrap()
    );
}

#[test]
fn what_is_remembered_of_a_check_comes_back() {
    let folder = folder();
    let store = open(&folder.path().join("x.redb"));
    let record = CheckRecord {
        check: "disk".to_owned(),
        episode: 3,
        bad: true,
        transitions: vec![moment(1), moment(2)],
        flapping: true,
        unknown_streak: 2,
        untold: vec![(at(1), Some(at(2))), (at(3), None)],
    };
    store.bookkeep(|b| b.health().put_check(&record)).unwrap();
    assert_eq!(store.read(|r| r.health().check("disk")).unwrap(), Some(record));
    assert_eq!(store.read(|r| r.health().check("other")).unwrap(), None);
}

#[test]
fn old_drills_go_but_for_the_last_of_each_that_passed() {
    let folder = folder();
    let store = open(&folder.path().join("x.redb"));
    let drill = |id: &str, drill: &str, outcome| DrillRecord {
        id: id.to_owned(),
        drill: drill.to_owned(),
        started_at: at(1),
        ended_at: at(2),
        outcome,
        rto_ms: None,
        rpo_ms: None,
        steps: Vec::new(),
        deviations: Vec::new(),
        by: "me".to_owned(),
        reason: String::new(),
    };
    for (id, name, outcome) in [
        ("A1", "restore", DrillOutcome::Passed),
        ("A2", "emergency", DrillOutcome::Passed),
        ("A3", "restore", DrillOutcome::Failed),
        ("A4", "emergency", DrillOutcome::Passed),
        ("A5", "emergency", DrillOutcome::Unknown),
    ] {
        let record = drill(id, name, outcome);
        store.write(intent("drill"), |w| w.drills().put(&record, 2)).unwrap();
    }
    let kept = store.read(|r| r.drills().list("", 9)).unwrap();
    let ids: Vec<&str> = kept.iter().map(|it| it.id.as_str()).collect();
    assert_eq!(ids, ["A5", "A4", "A1"]);
    let passed = |name: &str| store.read(|r| r.drills().last_passed(name)).unwrap();
    assert_eq!(passed("restore").unwrap().id, "A1");
    assert_eq!(passed("emergency").unwrap().id, "A4");
    assert_eq!(store.read(|r| r.drills().list("restore", 9)).unwrap().len(), 1);
    assert_eq!(store.read(|r| r.drills().with_prefix("A", 9)).unwrap().len(), 3);
}

#[test]
fn incidents_are_found_by_their_ids_and_open_ones_stay() {
    let folder = folder();
    let store = open(&folder.path().join("x.redb"));
    let incident = |id: &str, over: Option<i64>| IncidentRecord {
        over_at: over.map(at),
        details: vec!["tried".to_owned()],
        issues: vec![("disk".to_owned(), 1)],
        reason: "because".to_owned(),
        runbook: "disk-space".to_owned(),
        ..IncidentRecord::new((id.to_owned(), at(1)), Trigger::Flagged, "disk", "me")
    };
    // The oldest goes on, so it stays however many come after it.
    for (id, over) in [("A1", None), ("A2", Some(2)), ("B3", Some(3)), ("B4", None)] {
        let record = incident(id, over);
        store.write(intent("incident"), |w| w.incidents().put(&record, 2)).unwrap();
    }
    let ids = |open, limit| -> Vec<String> {
        let found = store.read(|r| r.incidents().list(open, limit)).unwrap();
        found.into_iter().map(|incident| incident.id).collect()
    };
    assert_eq!(ids(false, 10), ["B4", "B3", "A1"]);
    assert_eq!(ids(true, 10), ["B4", "A1"]);
    assert_eq!(ids(false, 1), ["B4"]);
    let found = |prefix: &str| store.read(|r| r.incidents().with_prefix(prefix, 2)).unwrap().len();
    assert_eq!((found("B"), found("A1"), found("C"), found("A2")), (2, 1, 0, 0));
    let over = incident("B4", Some(9));
    store.write(intent("incident"), |w| w.incidents().put(&over, 2)).unwrap();
    assert_eq!(store.read(|r| r.incidents().with_prefix("B4", 2)).unwrap(), [over]);
}

#[test]
fn an_incident_is_open_then_over_then_closed_and_found_by_what_it_is_about() {
    let folder = folder();
    let store = open(&folder.path().join("x.redb"));
    let new = |id: &str, subject: &str| IncidentRecord {
        subject: subject.to_owned(),
        ..IncidentRecord::new((id.to_owned(), at(1)), Trigger::Emergency, "halted", "olga")
    };
    let mut record = new("A1", "emergency 1");
    assert_eq!(record.state(), IncidentState::Open);
    record.over_at = Some(at(5));
    assert_eq!(record.state(), IncidentState::Over);
    record.closed = Some(IncidentClosure {
        at: at(9),
        by: "olga".to_owned(),
        resolution: "the feed was changed".to_owned(),
        lesson: "watch the feed".to_owned(),
        runbook: String::new(),
    });
    assert_eq!(record.state(), IncidentState::Closed);
    for record in [&record, &new("A2", "emergency 2")] {
        store.write(intent("incident"), |w| w.incidents().put(record, 9)).unwrap();
    }
    let about = |trigger, subject: &str| store.read(|r| r.incidents().about(trigger, subject));
    assert_eq!(about(Trigger::Emergency, "emergency 1").unwrap(), Some(record));
    assert_eq!(about(Trigger::Emergency, "emergency 3").unwrap(), None);
    assert_eq!(about(Trigger::Rollback, "emergency 1").unwrap(), None);
}

#[test]
fn an_incident_of_an_older_agent_is_read() {
    let json = r#"{"id":"A1","opened_at":"2026-01-01T00:00:00Z","over_at":null,"trigger":"flagged","title":"disk",
        "details":[],"issues":[["disk",1]],"root":"","severity":"high","by":"me","reason":"because",
        "resolution":"","runbook":"disk-space"}"#;
    let bytes = [&[1], json.as_bytes()].concat();
    let record: IncidentRecord = crate::record::decode(&"A1", &bytes).unwrap();
    assert_eq!((record.state(), record.subject.as_str()), (IncidentState::Open, ""));
}

#[test]
fn the_attempts_since_a_moment_are_found() {
    let folder = folder();
    let store = open(&folder.path().join("x.redb"));
    for second in [1, 100, 200] {
        let record =
            AttemptRecord { at: moment(second), ..attempt(&format!("A{second:03}"), "disk") };
        store.write(intent("attempt"), |w| w.health().put_attempt(&record, 9)).unwrap();
    }
    let since = |second| {
        let found = store.read(|r| r.health().attempts_since(at(second))).unwrap();
        found.into_iter().map(|attempt| attempt.id).collect::<Vec<_>>()
    };
    assert_eq!(since(100), ["A200", "A100"]);
    assert_eq!(since(201), Vec::<String>::new());
}

#[test]
fn tallies_are_summed_over_days_and_old_days_go() {
    let folder = folder();
    let store = open(&folder.path().join("x.redb"));
    for (day, tally) in [(100, "a"), (100, "a"), (101, "a"), (101, "b"), (129, "a")] {
        store.write(intent("count"), |w| w.count().count(day, tally)).unwrap();
    }
    let sum = |first, last, tally: &str| {
        store.read(|r| r.tallies().sums(first, last)).unwrap().get(tally).copied()
    };
    assert_eq!(sum(100, 129, "a"), Some(4));
    assert_eq!(sum(101, 128, "a"), Some(1));
    assert_eq!(sum(0, u32::MAX, "b"), Some(1));
    assert_eq!(sum(0, 99, "a"), None);
    store.write(intent("count"), |w| w.count().count(162, "a")).unwrap();
    assert_eq!(sum(0, u32::MAX, "a"), Some(3), "62 days are kept");
}
