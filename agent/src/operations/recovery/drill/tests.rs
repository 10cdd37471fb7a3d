use std::time::Duration;

use async_trait::async_trait;
use genesis_storage::{Identity, Options, Store};
use tokio::sync::watch;

use super::*;
use crate::emergency::Emergency;
use crate::outside::ManualClock;
use crate::runs::drill::Rehearsed;

const DAY: Duration = Duration::from_secs(86_400);

struct Nothing(std::sync::Mutex<Occasion>);

#[async_trait]
impl Rehearsal for Nothing {
    fn kind(&self) -> &'static str {
        "emergency"
    }

    fn description(&self) -> &'static str {
        "nothing"
    }

    fn occasion(&self, _: &str) -> Result<Occasion> {
        Ok(self.0.lock().unwrap().clone())
    }

    async fn has(&self, name: &str) -> Result<(), String> {
        if name.is_empty() { Ok(()) } else { Err("there is one only".to_owned()) }
    }

    async fn plan(&self, _: &str) -> Result<Vec<PlanStep>> {
        Ok(Vec::new())
    }

    async fn rehearse(&self, _: &str, _: &Context) -> Result<Rehearsed> {
        Ok(Rehearsed::default())
    }
}

fn done(id: &str, outcome: DrillOutcome, at: Timestamp) -> DrillRecord {
    DrillRecord {
        id: id.to_owned(),
        drill: "emergency".to_owned(),
        started_at: at,
        ended_at: at,
        outcome,
        rto_ms: (outcome == DrillOutcome::Passed).then_some(6_400),
        rpo_ms: None,
        steps: Vec::new(),
        deviations: vec!["close: it was slow".to_owned()],
        by: "olga".to_owned(),
        reason: String::new(),
    }
}

#[tokio::test]
async fn a_drill_that_was_not_done_for_92_days_is_told_until_one_passes() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("state.redb"), Options::default()).unwrap();
    let state = State::new(Arc::new(store), watch::channel(0).1);
    let clock = Arc::new(ManualClock::new("2026-01-01T00:00:00Z".parse().unwrap()));
    let host = Identity {
        host_id: "01HOST".to_owned(),
        created_at: clock.now(),
        hostname: "h".to_owned(),
    };
    let intent = || Intent::new(clock.now(), "test", "test");
    state.write(intent(), move |writing| Ok(writing.identity().put(&host)?)).await.unwrap();
    let shared = Arc::clone(&clock) as Arc<dyn Clock>;
    let flag = folder.path().join("EMERGENCY");
    let emergency = Emergency::open(state.clone(), Arc::clone(&shared), flag).await.unwrap();
    let runs = Runs::new(state.clone(), Arc::clone(&shared), emergency);
    let nothing = Arc::new(Nothing(Occasion::Always.into()));
    let wanted = Wanted { drills: vec!["emergency".to_owned()], ..Wanted::default() };
    let drills = Drills::new(
        (state.clone(), shared, runs, Bell::default()),
        wanted,
        vec![Arc::clone(&nothing) as Arc<dyn Rehearsal>],
        folder.path().join("drills"),
    );
    let keep = async |id: &str, outcome| {
        let record = done(id, outcome, clock.now());
        state.write(intent(), move |it| Ok(it.drills().put(&record, KEPT)?)).await.unwrap();
    };
    let standing = || drills.list().unwrap()[0].standing.unwrap();
    let told = || drills.conditions().unwrap();

    assert_eq!((standing(), told().len()), (Standing::Due, 0));
    clock.advance(DAY * 92);
    assert_eq!(told().len(), 0);
    clock.advance(DAY);
    // A host that has never done it is no better than one that has done it long ago.
    let low = told().remove(0);
    assert_eq!((low.severity, low.key.as_str()), (Severity::Low, "recovery/drill/emergency"));
    assert_eq!(low.title, "drill emergency has not passed for 92 days");
    keep("01A", DrillOutcome::Failed).await;
    keep("01B", DrillOutcome::Unknown).await;
    assert_eq!(told().len(), 1, "one that did not pass proves nothing");
    assert!(told()[0].details[0].contains("it was slow"), "{:?}", told()[0].details);
    keep("01C", DrillOutcome::Passed).await;
    assert_eq!((standing(), told().len()), (Standing::Current, 0));
    let gauge = drills.gauges().unwrap().remove(0);
    assert_eq!((gauge.overdue, gauge.rto, gauge.age), (false, Some(6.4), 0.0));
    clock.advance(DAY * 80);
    assert_eq!((standing(), told().len()), (Standing::Due, 0));
    clock.advance(DAY * 13);
    assert_eq!((standing(), told().len()), (Standing::Overdue, 1));
    let gauge = drills.gauges().unwrap().remove(0);
    assert_eq!((gauge.overdue, gauge.age), (true, 93.0 * 86_400.0));

    // What can't be practised yet is not overdue, whatever was done before.
    *nothing.0.lock().unwrap() = Occasion::NotYet("it never changed".to_owned());
    assert_eq!((standing(), told().len()), (Standing::NotApplicable, 0));
    let view = drills.list().unwrap().remove(0);
    assert_eq!((view.overdue_at, view.not_applicable.as_str()), (None, "it never changed"));
    let gauge = drills.gauges().unwrap().remove(0);
    assert_eq!((gauge.overdue, gauge.age), (false, 0.0));
    // Since when it can be does not excuse one that has passed before, and waited too long since.
    *nothing.0.lock().unwrap() = Occasion::Since(clock.now());
    assert_eq!((standing(), told().len()), (Standing::Overdue, 1));
}

#[test]
fn who_had_nothing_to_practise_before_is_not_late() {
    let at = |day: i64| Timestamp::from_second(day * 86_400).unwrap();
    let standing = |since: i64, now: i64| plan::standing(None, at(since), DAY * 92, at(now));
    assert_eq!(standing(0, 100), Standing::Overdue);
    assert_eq!(standing(100, 192), Standing::Due);
    assert_eq!(standing(100, 193), Standing::Overdue);
}

#[test]
fn only_a_drill_that_passed_has_times_to_go_by() {
    let blank = || done("01A", DrillOutcome::Unknown, Timestamp::UNIX_EPOCH);
    for (outcome, times) in [
        (DrillOutcome::Passed, (Some(7_000), Some(90_000))),
        (DrillOutcome::Failed, (None, None)),
        (DrillOutcome::Unknown, (None, None)),
    ] {
        let mut rehearsed = Rehearsed::default();
        rehearsed.went_back_to(Timestamp::UNIX_EPOCH, Timestamp::from_second(90).unwrap());
        rehearsed.step("a", Duration::from_secs(2), outcome, "b");
        let record = ended(blank(), rehearsed, Duration::from_secs(7));
        assert_eq!((record.outcome, (record.rto_ms, record.rpo_ms)), (outcome, times));
    }
}

#[test]
fn drills_of_one_run_have_ids_of_their_own_that_are_the_same_after_a_crash() {
    let at = |second: i64| Timestamp::from_second(second).unwrap();
    let run = "01J8ZV00000000000000000000";
    assert_eq!(id_of(run, 1, at(5)), id_of(run, 1, at(5)));
    assert_ne!(id_of(run, 1, at(5)), id_of(run, 9, at(5)));
    assert!(id_of(run, 9, at(5)) < id_of(run, 1, at(6)), "the newest is the last");
}

#[test]
fn a_drill_in_a_line_says_how_it_ended_and_what_deviated() {
    let at = Timestamp::UNIX_EPOCH;
    for (outcome, expected) in [
        (DrillOutcome::Passed, "emergency passed, RTO 6.4 s; close: it was slow"),
        (DrillOutcome::Failed, "emergency failed: close: it was slow"),
        (DrillOutcome::Unknown, "emergency proves nothing: close: it was slow"),
    ] {
        assert_eq!(summary(&done("01A", outcome, at)), expected);
    }
    let restored = DrillRecord {
        rpo_ms: Some(90_000),
        deviations: Vec::new(),
        ..done("01A", DrillOutcome::Passed, at)
    };
    assert_eq!(summary(&restored), "emergency passed, RTO 6.4 s, RPO 90 s");
}
