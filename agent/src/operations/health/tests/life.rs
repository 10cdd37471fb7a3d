use std::time::Duration;

use genesis_storage::{IssueState, Moment, Trigger};
use jiff::Timestamp;
use proptest::prelude::*;

use crate::operations::health::life::{Happened as H, *};

pub(super) fn policy() -> Policy {
    Policy {
        interval: Duration::from_secs(30),
        hold: Duration::from_secs(60),
        looks: 1,
        clear: Duration::ZERO,
        settle: Duration::from_secs(30),
        cooldown: Duration::from_secs(60),
        escalate_after: ESCALATE_AFTER,
    }
}

pub(super) fn moment(seconds: i64) -> Moment {
    Moment {
        wall: Timestamp::from_second(1_700_000_000 + seconds).unwrap(),
        boot: "boot".to_owned(),
        since_boot: Duration::from_secs(seconds.unsigned_abs()),
    }
}

/// Results every 30 s, `c` bad, `o` good, `w` a warning, `?` unknown; what happened at which.
fn observe(known: &mut Known, from: i64, results: &str) -> Vec<(i64, H)> {
    let mut all = Vec::new();
    for (index, result) in results.chars().enumerate() {
        let status = match result {
            'c' => Status::Crit,
            'o' => Status::Ok,
            'w' => Status::Warn,
            _ => Status::Unknown,
        };
        let at = from + 30 * i64::try_from(index).unwrap();
        let happened = known.observe(&policy(), status, "it", &moment(at));
        all.extend(happened.into_iter().map(|what| (at, what)));
    }
    all
}

fn state(known: &Known) -> Option<IssueState> {
    known.issue.as_ref().map(|issue| issue.state)
}

#[test]
fn times_that_could_not_be_told_are_remembered_and_bounded() {
    let mut known = Known::nothing("disk");
    let wall = |seconds: i64| moment(seconds).wall;
    observe(&mut known, 0, "o??o???oo????");
    let expected = [(wall(180), Some(wall(210))), (wall(330), None)];
    assert_eq!(known.check.untold, expected, "two unknown looks are none yet");
    for round in 0..60 {
        observe(&mut known, 1_000 + round * 120, "o???");
    }
    assert_eq!(known.check.untold.len(), 50);
    assert_eq!(known.check.untold.last().unwrap().1, None);
    assert!(known.check.untold.iter().rev().skip(1).all(|(_, until)| until.is_some()));
}

#[test]
fn an_issue_is_one_only_after_its_time_and_over_only_after_two_cycles() {
    for (results, expected, last) in [
        ("ooo", vec![], None),
        ("www", vec![], None),
        ("cco", vec![(0, H::Opened), (60, H::Dropped)], None),
        ("ccc", vec![(0, H::Opened), (60, H::Confirmed)], Some(IssueState::Failing)),
        // Unknown neither makes an issue nor ends one.
        ("???", vec![(60, H::CantTell)], None),
        ("c?c", vec![(0, H::Opened), (60, H::Confirmed)], Some(IssueState::Failing)),
        ("ccco?o", vec![(0, H::Opened), (60, H::Confirmed)], Some(IssueState::Failing)),
        ("cccowo", vec![(0, H::Opened), (60, H::Confirmed), (120, H::Cleared)], None),
        ("????o", vec![(60, H::CantTell), (120, H::CanTell)], None),
    ] {
        let mut known = Known::nothing("x");
        assert_eq!(observe(&mut known, 0, results), expected, "{results}");
        assert_eq!(state(&known), last, "{results}");
    }
}

#[test]
fn looks_are_counted_and_may_come_a_little_early() {
    let twice = Policy { hold: Duration::ZERO, looks: 2, ..policy() };
    let mut known = Known::nothing("x");
    assert_eq!(known.observe(&twice, Status::Crit, "it", &moment(0)), [H::Opened]);
    // However short the time between them is.
    assert_eq!(known.observe(&twice, Status::Crit, "it", &moment(1)), [H::Confirmed]);
    let mut known = Known::nothing("x");
    known.observe(&twice, Status::Crit, "it", &moment(0));
    assert_eq!(known.observe(&twice, Status::Ok, "it", &moment(30)), [H::Dropped]);
    assert_eq!(known.observe(&twice, Status::Crit, "it", &moment(60)), [H::Opened]);
    // 57 s are 60 s where looks are 30 s apart, and 56 s are not.
    for (at, expected) in [(57, vec![H::Confirmed]), (56, vec![])] {
        let mut known = Known::nothing("x");
        known.observe(&policy(), Status::Crit, "it", &moment(0));
        assert_eq!(known.observe(&policy(), Status::Crit, "it", &moment(at)), expected, "{at}");
    }
}

fn failing() -> Known {
    let mut known = Known::nothing("x");
    observe(&mut known, 0, "ccc");
    known
}

fn act(known: &mut Known, at: i64) {
    let issue = known.issue.as_mut().unwrap();
    begin_attempt(issue, "id", &moment(at));
    enter(issue, IssueState::Verifying, &moment(at));
}

#[test]
fn an_attempt_has_helped_only_when_the_condition_stays_clear() {
    for (results, expected) in [
        ("oo", vec![(120, H::Helped)]),
        // It may take until the action shows.
        ("coo", vec![(90, H::DidNotHelp), (150, H::Cleared)]),
        ("oc", vec![(120, H::DidNotHelp)]),
        ("o?oo", vec![(180, H::Helped)]),
        ("??", vec![]),
        // Unknown is never help: after three of them the attempt was in vain, as far as anybody knows.
        ("???", vec![(150, H::CantTell), (150, H::CouldNotVerify)]),
    ] {
        let mut known = failing();
        act(&mut known, 60);
        assert_eq!(observe(&mut known, 90, results), expected, "{results}");
    }
    let mut known = failing();
    act(&mut known, 70);
    assert_eq!(observe(&mut known, 90, "coo"), [(150, H::Helped)], "20 s are too soon to judge");
}

#[test]
fn three_attempts_with_growing_pauses_then_people_once_then_silence() {
    let mut known = failing();
    let mut pauses = Vec::new();
    for attempt in 1..=3 {
        let at = 60 + 100 * attempt;
        act(&mut known, at);
        let happened = observe(&mut known, at + 30, "c");
        let issue = known.issue.as_mut().unwrap();
        assert_eq!((issue.state, issue.attempts), (IssueState::Cooldown, attempt as u32));
        pauses.push(issue.cooldown.as_secs());
        let escalates = happened.contains(&(at + 30, H::Escalate(Trigger::AttemptsFailed)));
        assert_eq!(escalates, attempt == 3, "{happened:?}");
    }
    assert_eq!(pauses, [60, 120, 240]);
    escalate(known.issue.as_mut().unwrap(), Trigger::AttemptsFailed, &moment(400));
    let silent = observe(&mut known, 430, &"c".repeat(200));
    assert_eq!(silent, []);
    // One good result does not make the attempts forgotten; resuming does.
    observe(&mut known, 7_000, "oc");
    assert_eq!(known.issue.as_ref().unwrap().attempts, 3);
    resume(known.issue.as_mut().unwrap(), "me", "mended", &moment(7_100));
    assert_eq!(known.issue.as_ref().unwrap().attempts, 0);
}

#[test]
fn a_called_person_holds_automation_until_notice_is_taken() {
    let mut known = failing();
    let issue = known.issue.as_mut().unwrap();
    escalate(issue, Trigger::CriticalTooLong, &moment(900));
    assert_eq!(issue.state, IssueState::Escalated);
    assert!(actionable(issue) && issue.acked.is_none());
    ack(issue, "me", "on it", &moment(910));
    assert_eq!(issue.acked.as_ref().unwrap().0, "me");
    // What goes on is let finish; its end is the people's then.
    let mut known = failing();
    let issue = known.issue.as_mut().unwrap();
    begin_attempt(issue, "id", &moment(890));
    escalate(issue, Trigger::CriticalTooLong, &moment(900));
    assert_eq!(issue.state, IssueState::Remediating);
    in_vain(issue, &policy(), &moment(910), &mut Vec::new());
    assert_eq!(issue.state, IssueState::Escalated);
    // An attempt that was held back before it began does not count.
    let mut known = failing();
    let issue = known.issue.as_mut().unwrap();
    begin_attempt(issue, "id", &moment(100));
    withdrawn(issue, &moment(101));
    assert_eq!((issue.state, issue.attempts), (IssueState::Failing, 0));
    // People may have been called in between, who are waited for.
    begin_attempt(issue, "id", &moment(102));
    escalate(issue, Trigger::Flagged, &moment(103));
    withdrawn(issue, &moment(104));
    assert_eq!(issue.state, IssueState::Escalated);
}

#[test]
fn what_stays_critical_for_a_quarter_of_an_hour_calls_people_also_after_a_restart() {
    let mut known = failing();
    let happened = observe(&mut known, 90, &"c".repeat(27));
    assert_eq!(happened, []);
    assert_eq!(observe(&mut known, 900, "c"), [(900, H::Escalate(Trigger::CriticalTooLong))]);
    // The agent was down from the second minute on, and the host was started anew.
    let known = failing();
    let later = Moment { boot: "next".into(), since_boot: Duration::ZERO, ..moment(899) };
    assert_eq!(known.overdue(&policy(), &later), None);
    let later = Moment { wall: moment(900).wall, ..later };
    assert_eq!(known.overdue(&policy(), &later), Some(Trigger::CriticalTooLong));
    // A wall clock that is a day on says nothing within one boot.
    let stepped = Moment { wall: moment(90_000).wall, ..moment(120) };
    assert_eq!(known.overdue(&policy(), &stepped), None);
}

#[test]
fn what_was_critical_and_cannot_be_told_any_more_calls_people_all_the_same() {
    let mut known = failing();
    let happened = observe(&mut known, 90, &"?".repeat(30));
    assert!(happened.contains(&(900, H::Escalate(Trigger::CriticalTooLong))), "{happened:?}");
    // Nothing wakes people before it is known to be an issue at all.
    let patient = Policy { hold: Duration::from_secs(3_600), ..policy() };
    let mut known = Known::nothing("x");
    for at in 0..100 {
        let happened = known.observe(&patient, Status::Crit, "it", &moment(30 * at));
        assert!(!happened.iter().any(|what| matches!(what, H::Escalate(_))), "{at}");
    }
}

#[test]
fn flapping_freezes_once_and_ends_after_a_quiet_window() {
    let mut known = Known::nothing("x");
    let happened = observe(&mut known, 0, &"co".repeat(30));
    let of = |wanted: H| happened.iter().filter(|(_, what)| *what == wanted).count();
    assert_eq!((of(H::FlappingBegan), of(H::FlappingEnded)), (1, 0));
    assert!(known.check.flapping);
    assert!(known.check.transitions.len() <= FLAP_TRANSITIONS);
    let quiet = observe(&mut known, 1_800, &"o".repeat(21));
    assert_eq!(quiet, [(2_370, H::FlappingEnded)]);
    // A slow check has a longer window.
    let slow = Policy { interval: Duration::from_secs(300), ..policy() };
    assert_eq!(slow.flap_window(), Duration::from_secs(2_400));
}

#[test]
fn an_action_that_was_cut_off_is_verified_and_not_repeated() {
    let mut known = failing();
    begin_attempt(known.issue.as_mut().unwrap(), "id", &moment(60));
    recover(known.issue.as_mut().unwrap(), &moment(70));
    assert_eq!(state(&known), Some(IssueState::Verifying));
    assert_eq!(known.issue.as_ref().unwrap().attempts, 1);
    assert_eq!(observe(&mut known, 90, "oo"), [(120, H::Helped)]);
}

proptest! {
    /// Whatever the results, an action is wanted only after an unbroken time of bad ones, unknown never opens
    /// or ends an issue, and the memory stays bounded.
    #[test]
    fn no_sequence_of_results_breaks_an_issue(results in "[cow?]{0,200}") {
        let mut known = Known::nothing("x");
        let mut since_good = 0;
        for (index, result) in results.chars().enumerate() {
            let before = state(&known);
            let at = 30 * i64::try_from(index).unwrap();
            let happened = observe(&mut known, at, &result.to_string());
            since_good = match result { 'c' => since_good + 1, '?' => since_good, _ => 0 };
            if happened.iter().any(|(_, what)| *what == H::Confirmed) {
                prop_assert!(since_good >= 2, "{results} at {index}");
            }
            if result == '?' {
                let told = |what: &H| {
                    matches!(what, H::CantTell | H::FlappingEnded | H::Escalate(_))
                };
                prop_assert!(happened.iter().all(|(_, what)| told(what)));
                let after = state(&known);
                prop_assert!(after == before || before == Some(IssueState::Resolved));
            }
            prop_assert!(known.check.transitions.len() <= FLAP_TRANSITIONS);
        }
    }
}
