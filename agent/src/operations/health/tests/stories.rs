//! Small stories of whole hosts, in simulated time.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use genesis_storage::{AttemptOutcome, Control, IssueState};
use jiff::SignedDuration;

use super::host::{Host, check, watched};
use crate::operations::health::matrix::MATRIX;

const HALF_MINUTE: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_acted_on_and_clears_has_helped() {
    let host = Host::new(&check("disk", "")).await;
    host.round().await;
    host.world.set("disk", Some(4.0));
    host.minutes(1).await;
    assert_eq!(host.world.acts(), 1, "not at the first look, but at the second");
    host.minutes(2).await;
    let attempts = host.attempts("disk");
    assert_eq!(attempts.len(), 1);
    assert_eq!(attempts[0].outcome, AttemptOutcome::Succeeded);
    assert_eq!(
        (attempts[0].before.as_str(), attempts[0].after.as_str()),
        ("4 % free", "50 % free")
    );
    assert!(host.health.open_issue("disk").is_err());
    let success = host.health.objectives().unwrap();
    assert_eq!((success[1].count("succeeded"), success[1].count("failed")), (1, 0));
    // What remediation does by itself is no operation of somebody's.
    assert_eq!(success[0].count("succeeded"), 0);
    assert_eq!(host.calls(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_an_hour_of_flapping_is_acted_on_twice_at_most() {
    let host = Host::new(&check("disk", "")).await;
    for _ in 0..30 {
        // Bad, acted on, well for a while, bad again.
        host.world.set("disk", Some(4.0));
        host.minutes(1).await;
        host.world.set("disk", Some(50.0));
        host.minutes(1).await;
    }
    let acts = host.world.acts();
    assert!((1..=2).contains(&acts), "{acts} actions");
    host.world.set("disk", Some(4.0));
    host.minutes(1).await;
    assert!(host.denied("disk").contains(&"FLAPPING".to_owned()), "{:?}", host.denied("disk"));
    // It is said once that it flaps.
    let entries = host.state.read(|reading| Ok(reading.oplog().range(1, 1_000)?)).unwrap();
    let said = entries.iter().filter(|stored| stored.entry.action == "health.flapping").count();
    assert_eq!(said, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn critical_for_a_quarter_of_an_hour_calls_people_once_also_over_a_restart() {
    let host = Host::new(&watched("disk", "")).await;
    host.world.set("disk", Some(4.0));
    host.minutes(14).await;
    assert_eq!((host.calls(), host.denied("disk")), (vec![], vec!["NO_ACTION".to_owned()]));
    host.minutes(2).await;
    assert_eq!(host.calls(), ["CRITICAL_TOO_LONG"]);
    host.minutes(60).await;
    let host = host.restart(Duration::from_secs(600)).await;
    host.minutes(30).await;
    assert_eq!(host.calls(), ["CRITICAL_TOO_LONG"], "once, and then silence");
    host.world.set("disk", Some(50.0));
    host.minutes(2).await;
    let incident = host.state.read(|reading| Ok(reading.incidents().list(false, 1)?)).unwrap();
    assert!(!incident[0].open() && incident[0].resolution.contains("cleared"));

    // The agent was down when the time was over: its first look says so.
    let host = Host::new(&watched("disk", "")).await;
    host.world.set("disk", Some(4.0));
    host.minutes(5).await;
    let host = host.restart(Duration::from_secs(11 * 60)).await;
    assert_eq!(host.calls(), [""; 0]);
    host.round().await;
    assert_eq!(host.calls(), ["CRITICAL_TOO_LONG"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_days_step_of_the_clock_lets_nothing_loose() {
    let mut told = Vec::new();
    for step in [0, 24, -24] {
        let host = Host::new(&["a", "b", "c"].map(|id| check(id, "")).concat()).await;
        host.world.helps.store(false, Ordering::SeqCst);
        for id in ["a", "b", "c"] {
            host.world.set(id, Some(4.0));
        }
        host.minutes(3).await;
        let now = crate::outside::Clock::now(&*host.clock);
        host.clock.set(now.checked_add(SignedDuration::from_hours(step)).unwrap());
        let mut each = Vec::new();
        for _ in 0..20 {
            host.minutes(1).await;
            each.push((host.world.acts(), host.calls().len()));
        }
        assert!((4..=9).contains(&host.world.acts()), "{each:?}");
        told.push(each);
    }
    // A day on, no cooldown is over by that, no budget is fresh, nobody is called for it; and a day back neither.
    assert_eq!(told[0], told[1]);
    assert_eq!(told[0], told[2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_begins_once_remediation_was_switched_off() {
    let later = "[health]\ndefaults = false\nescalate_after = \"7d\"\n";
    let host = Arc::new(Host::new(&format!("{later}{}", check("disk", ""))).await);
    host.world.helps.store(false, Ordering::SeqCst);
    let mut begun = 0;
    for turn in 0..1_000_u32 {
        // Bad, and due: an issue with a fresh count whose time has come.
        host.world.set("disk", Some(4.0));
        host.health.live().spent.clear();
        host.health.live().controls.clear();
        // Whoever waits for the verdict on the last attempt leaves.
        host.health.live().verdicts.clear();
        while host.health.runs.active_count() > 0 {
            tokio::task::yield_now().await;
        }
        if let Some(seen) = host.health.live().seen.get_mut("disk") {
            seen.known.check.transitions.clear();
            seen.known.check.flapping = false;
            if let Some(issue) = &mut seen.known.issue {
                issue.attempts = 0;
                issue.state = IssueState::Failing;
                issue.escalated = None;
                issue.cooldown = Duration::ZERO;
            }
        }
        host.clock.advance(HALF_MINUTE);
        let before = host.world.acts();
        let ticking = {
            let host = Arc::clone(&host);
            tokio::spawn(async move { host.round().await })
        };
        // Another moment each time.
        for _ in 0..turn % 50 * 100 {
            tokio::task::yield_now().await;
        }
        host.health.disable("4h", "", ("me", "a race")).await.unwrap();
        let then = host.world.acts();
        ticking.await.unwrap();
        assert_eq!(host.world.acts(), then, "turn {turn}: something began after the call returned");
        begun += then - before;
    }
    // The race is one: sometimes this side wins, and sometimes that.
    assert!((1..1_000).contains(&begun), "{begun} of 1000 began");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn switched_off_it_ends_by_itself_and_what_was_missed_comes_in_no_burst() {
    let ids = ["a", "b", "c", "d"];
    let checks = ids.map(|id| check(id, "")).concat();
    // Longer than it takes to call people, who would hold everything back.
    let later = "[health]\ndefaults = false\nescalate_after = \"1d\"\n";
    let host = Host::new(&format!("{later}{checks}[remediation]\nstartup_grace = \"2m\"\n")).await;
    host.health.disable("1h", "", ("me", "maintenance")).await.unwrap();
    for id in ids {
        host.world.set(id, Some(4.0));
    }
    host.minutes(30).await;
    assert_eq!(host.world.acts(), 0);
    assert!(host.denied("a").contains(&"DISABLED".to_owned()));
    // It outlives a restart, and what is left of it is what was left.
    let host = host.restart(Duration::ZERO).await;
    host.minutes(29).await;
    assert_eq!(host.world.acts(), 0);
    // Over by itself; then the grace.
    host.minutes(2).await;
    assert!(host.health.holds().is_empty());
    assert_eq!(host.world.acts(), 0);
    let mut most = 0;
    for _ in 0..12 {
        let before = host.world.acts();
        host.round().await;
        host.clock.advance(HALF_MINUTE);
        most = most.max(host.world.acts() - before);
    }
    assert_eq!(most, 1, "one action at a time");
    assert!(host.world.acts() >= 1);
    // A person who ends it early gets the grace as well.
    let host =
        Host::new(&format!("{}[remediation]\nstartup_grace = \"2m\"\n", check("a", ""))).await;
    host.health.disable("1h", "", ("me", "maintenance")).await.unwrap();
    host.world.set("a", Some(4.0));
    host.minutes(2).await;
    assert!(!host.health.enable("", ("me", "")).await.unwrap());
    host.minutes(1).await;
    assert_eq!((host.world.acts(), host.denied("a")), (0, vec!["STARTUP_GRACE".to_owned()]));
    host.minutes(2).await;
    assert_eq!(host.world.acts(), 1);
    assert!(host.health.enable("", ("me", "")).await.unwrap(), "there is nothing to end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_everything_fails_at_once_the_checks_are_doubted_and_nothing_is_done() {
    let ids = ["a", "b", "c", "d", "e", "f", "g"];
    let host = Host::new(&ids.map(|id| check(id, "")).concat()).await;
    host.round().await;
    for id in ids {
        host.world.set(id, Some(4.0));
    }
    host.minutes(5).await;
    assert_eq!(host.world.acts(), 0);
    assert_eq!(host.calls(), ["CHECKER_SUSPECT"], "one page, and no cascade beside it");
    assert!(host.denied("a").contains(&"CHECKER_SUSPECT".to_owned()));
    let host = host.restart(Duration::from_secs(60)).await;
    host.minutes(2).await;
    assert_eq!(host.world.acts(), 0, "the doubt outlives a restart");
    // All but one recover, and that one is acted on.
    for id in &ids[1..] {
        host.world.set(id, Some(50.0));
    }
    host.minutes(5).await;
    assert!(host.health.holds().is_empty());
    assert_eq!(
        host.world.acts.lock().unwrap().iter().map(|(_, id)| id.as_str()).collect::<Vec<_>>(),
        ["a"]
    );
    assert_eq!(host.calls(), ["CHECKER_SUSPECT"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn six_issues_at_once_set_the_brake_and_only_a_person_releases_it() {
    let ids: Vec<String> = (0..14).map(|number| format!("disk-{number:02}")).collect();
    let checks: String = ids.iter().map(|id| check(id, "cooldown = \"1h\"")).collect();
    let host = Host::new(&checks).await;
    host.world.helps.store(false, Ordering::SeqCst);
    host.round().await;
    for id in &ids[..6] {
        host.world.set(id, Some(4.0));
    }
    for _ in 0..8 {
        host.minutes(1).await;
        if host.calls().contains(&"STORM") {
            break;
        }
    }
    assert_eq!(host.world.acts(), 5);
    assert_eq!(host.calls(), ["STORM"], "one call, which had been about a cascade before");
    let open = host.state.read(|reading| Ok(reading.incidents().list(true, 10)?)).unwrap();
    assert!(open[0].details[0].contains("CASCADE"), "{:?}", open[0].details);
    assert_eq!((open[0].issues.len(), open[0].runbook.as_str()), (6, "storm"));
    assert!(host.denied("disk-05").contains(&"STORM".to_owned()));
    let host = host.restart(Duration::from_secs(60)).await;
    host.minutes(1).await;
    assert_eq!(host.world.acts(), 5, "neither a restart nor time releases it");
    assert!(host.health.release_brake("", ("me", "")).await.is_err(), "not without a reason");
    host.health.release_brake("", ("me", "found it")).await.unwrap();
    assert!(host.health.release_brake("", ("me", "again")).await.is_err());
    // What was done before the release, minutes ago, does not set the brake again.
    host.minutes(2).await;
    assert!(host.world.acts() > 5);
    assert_eq!(host.calls(), ["STORM"], "nor is what set it off called a cascade now");
    for id in &ids {
        host.world.set(id, Some(50.0));
    }
    host.minutes(3).await;
    let open = host.state.read(|reading| Ok(reading.incidents().list(true, 10)?)).unwrap();
    assert!(open.is_empty(), "released, and its issues are over: {open:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_root_is_acted_on_and_people_are_called_once() {
    let checks = [
        check("db", ""),
        check("api", "depends_on = [\"db\"]"),
        check("ui", "depends_on = [\"api\"]"),
    ];
    let host = Host::new(&checks.concat()).await;
    host.world.helps.store(false, Ordering::SeqCst);
    for id in ["db", "api", "ui"] {
        host.world.set(id, Some(4.0));
    }
    host.minutes(3).await;
    let acted: Vec<String> =
        host.world.acts.lock().unwrap().iter().map(|(_, id)| id.clone()).collect();
    assert!(!acted.is_empty() && acted.iter().all(|id| id == "db"), "{acted:?}");
    assert_eq!(host.calls(), ["CASCADE"]);
    for id in ["api", "ui"] {
        assert!(host.denied(id).contains(&"DEPENDENCY_ROOT".to_owned()));
        let (_, issue) = host.health.open_issue(id).unwrap();
        assert_eq!(host.health.issue_view(issue).suppressed_by.as_deref(), Some("db"));
    }
    // Whatever becomes of the root, its dependents call nobody.
    host.minutes(40).await;
    assert_eq!(host.calls(), ["CASCADE", "ATTEMPTS_FAILED"]);
    for id in ["db", "api", "ui"] {
        host.world.set(id, Some(50.0));
    }
    host.minutes(2).await;
    let open = host.state.read(|reading| Ok(reading.incidents().list(true, 10)?)).unwrap();
    assert!(open.is_empty(), "{open:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_told_is_never_acted_on_and_never_proves_that_it_helped() {
    let host = Host::new(&check("disk", "")).await;
    host.world.set("disk", None);
    host.minutes(10).await;
    assert_eq!(host.world.acts(), 0);
    assert!(host.health.open_issue("disk").is_err());
    // Bad, acted on, and then nobody can tell: it has not helped.
    host.world.set("disk", Some(4.0));
    host.world.helps.store(false, Ordering::SeqCst);
    host.minutes(1).await;
    assert_eq!(host.world.acts(), 1);
    host.world.set("disk", None);
    host.minutes(3).await;
    assert_eq!(host.attempts("disk")[0].outcome, AttemptOutcome::Unknown);
    host.minutes(10).await;
    assert_eq!(host.world.acts(), 1);
    assert!(host.denied("disk").contains(&"STALE_SIGNAL".to_owned()));
    let objectives = host.health.objectives().unwrap();
    assert_eq!((objectives[1].count("unknown"), objectives[1].count("succeeded")), (1, 0));
    assert_eq!(crate::operations::health::view::share(&objectives[1].counts), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_condition_that_is_gone_at_the_second_reading_is_left_alone() {
    let host = Host::new(&check("disk", "")).await;
    host.world.set("disk", Some(4.0));
    host.round().await;
    host.clock.advance(HALF_MINUTE);
    // What the batch says is bad; what is read again just before the action is not.
    let check = host.health.known_check("disk").unwrap();
    let bad = host.health.look(&check).await;
    host.world.set("disk", Some(50.0));
    for _ in 0..3 {
        host.health.take_in(vec![(Arc::clone(&check), bad.clone())]).await;
        host.idle().await;
    }
    assert_eq!(host.world.acts(), 0);
    let attempts = host.attempts("disk");
    assert_eq!(attempts.len(), 1, "once is enough: {attempts:?}");
    assert_eq!(attempts[0].outcome, AttemptOutcome::NotNeeded);
    assert_eq!(
        (attempts[0].before.as_str(), attempts[0].after.as_str()),
        ("4 % free", "50 % free")
    );
    // It was none: no budget is spent, and nothing is counted.
    assert!(host.health.live().spent.is_empty());
    let objectives = host.health.objectives().unwrap();
    assert!(objectives[1].counts.iter().all(|(_, count)| *count == 0));
    // Nor is anything done where the second reading can't tell, and that is said, too.
    host.world.set("disk", None);
    host.health.take_in(vec![(Arc::clone(&check), bad)]).await;
    host.idle().await;
    assert_eq!((host.world.acts(), host.denied("disk")), (0, vec!["STALE_SIGNAL".to_owned()]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_switched_off_while_the_condition_is_read_again_is_not_even_announced() {
    let host = Host::new(&check("disk", "")).await;
    host.world.set("disk", Some(4.0));
    host.round().await;
    host.clock.advance(HALF_MINUTE);
    let check = host.health.known_check("disk").unwrap();
    let bad = host.health.look(&check).await;
    let shut = host.world.gate.write().await;
    let looks = host.world.looks.load(Ordering::SeqCst);
    host.health.take_in(vec![(check, bad)]).await;
    while host.world.looks.load(Ordering::SeqCst) == looks {
        tokio::task::yield_now().await;
    }
    host.health.disable("4h", "", ("me", "I mend it")).await.unwrap();
    drop(shut);
    host.idle().await;
    assert_eq!((host.world.acts(), host.attempts("disk").len()), (0, 0));
    assert_eq!(host.denied("disk"), ["DISABLED"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_checks_have_their_say_before_a_fast_one_is_acted_on() {
    let slow = ["s", "t", "u", "v", "w", "x"];
    let checks = slow.map(|id| watched(id, "interval = \"5m\"")).concat() + &check("fast", "");
    let host = Host::new(&checks).await;
    host.round().await;
    let fast = host.health.known_check("fast").unwrap();
    let look = async || {
        host.clock.advance(HALF_MINUTE);
        let found = host.health.look(&fast).await;
        host.health.take_in(vec![(Arc::clone(&fast), found)]).await;
        host.idle().await;
    };
    // All fail at once, and only the fast one is looked at before the others' turn comes.
    for id in slow.iter().chain(&["fast"]) {
        host.world.set(id, Some(4.0));
    }
    for _ in 0..4 {
        look().await;
    }
    assert_eq!((host.world.acts(), host.calls()), (0, vec!["CHECKER_SUSPECT"]));
    assert_eq!(host.denied("fast"), ["CHECKER_SUSPECT"]);
    // They are asked for the doubt only: each has its own pace, and no issue yet.
    assert!(slow.iter().all(|id| host.health.open_issue(id).is_err()));
    // Where the others are well it is acted on.
    let host = Host::new(&checks).await;
    host.round().await;
    let fast = host.health.known_check("fast").unwrap();
    host.world.set("fast", Some(4.0));
    for _ in 0..2 {
        host.clock.advance(HALF_MINUTE);
        let found = host.health.look(&fast).await;
        host.health.take_in(vec![(Arc::clone(&fast), found)]).await;
        host.idle().await;
    }
    assert_eq!((host.world.acts(), host.calls().len()), (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_fast_ones_are_called_a_cascade_and_then_the_doubt_takes_its_place() {
    let slow = ["s", "t", "u", "v", "w", "x"];
    let fast = ["a", "b", "c"];
    let checks = slow.map(|id| watched(id, "interval = \"5m\"")).concat()
        + &fast.map(|id| watched(id, "")).concat();
    let host = Host::new(&checks).await;
    host.round().await;
    for id in slow.iter().chain(&fast) {
        host.world.set(id, Some(4.0));
    }
    for _ in 0..4 {
        host.clock.advance(HALF_MINUTE);
        for id in fast {
            let check = host.health.known_check(id).unwrap();
            let found = host.health.look(&check).await;
            host.health.take_in(vec![(check, found)]).await;
        }
    }
    assert_eq!(host.calls(), ["CASCADE"]);
    host.round().await;
    assert_eq!(host.calls(), ["CHECKER_SUSPECT"], "the same call, and what it is about now");
}

/// Each row of the matrix on a check of its own: what touches trading is held back while nobody can say whether
/// there are trades, the rest is done.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_row_of_the_matrix_is_carried_out_or_held_back_by_the_guard() {
    for row in &MATRIX {
        let config =
            watched("it", &format!("row = {:?}\naction = {{ command = [\"true\"] }}", row.name));
        let host = Host::new(&config).await;
        host.world.set("it", Some(4.0));
        host.minutes(2).await;
        let attempts = host.attempts("it");
        if row.action.trade_touching {
            assert_eq!(
                (host.denied("it"), attempts.len()),
                (vec!["GUARD".to_owned()], 0),
                "{}",
                row.name
            );
        } else {
            assert_eq!(attempts[0].action, row.action.name);
        }
        let page = genesis_proto::runbook::page(row.runbook);
        assert!(page.is_some(), "{} has a page", row.name);
        // A configuration may say that an action does not touch trading.
        let told = config.replace("action = ", "trade_touching = \"no\"\naction = ");
        let host = Host::new(&told).await;
        host.world.set("it", Some(4.0));
        host.minutes(2).await;
        assert_eq!(host.attempts("it").len(), 1, "{}", row.name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_plans_once_for_each_episode_and_does_nothing() {
    let host = Host::new(&format!("{}[remediation]\ndry_run = true\n", check("disk", ""))).await;
    for episode in 1..=2 {
        host.world.set("disk", Some(4.0));
        host.minutes(5).await;
        for _ in 0..100_000 {
            if host.attempts("disk").len() >= episode {
                break;
            }
            tokio::task::yield_now().await;
        }
        assert_eq!(host.denied("disk"), ["DRY_RUN"]);
        host.world.set("disk", Some(50.0));
        host.minutes(15).await;
    }
    let attempts = host.attempts("disk");
    let planned = |attempt: &genesis_storage::AttemptRecord| {
        (attempt.outcome, attempt.episode, attempt.plan.join(""))
    };
    let plan = "delete disk: it is full".to_owned();
    assert_eq!(
        attempts.iter().map(planned).collect::<Vec<_>>(),
        [(AttemptOutcome::DryRun, 1, plan.clone()), (AttemptOutcome::DryRun, 2, plan)]
    );
    assert_eq!(host.world.acts(), 0);
    let objectives = host.health.objectives().unwrap();
    assert!(objectives[1].counts.iter().all(|(_, count)| *count == 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn budgets_outlive_a_restart() {
    let host = Host::new(&check("disk", "cooldown = \"1s\"")).await;
    host.world.helps.store(false, Ordering::SeqCst);
    host.world.set("disk", Some(4.0));
    host.minutes(15).await;
    assert_eq!(host.world.acts(), 3);
    assert!(host.calls().contains(&"ATTEMPTS_FAILED"));
    assert!(host.denied("disk").contains(&"ATTEMPTS_USED".to_owned()));
    let host = host.restart(Duration::from_secs(60)).await;
    host.minutes(1).await;
    host.health.ack("disk", true, "", ("me", "try again")).await.unwrap();
    host.minutes(5).await;
    assert_eq!(host.world.acts(), 3, "three an hour, whoever resumes");
    assert_eq!(host.denied("disk"), ["BUDGET"]);
    host.clock.advance(Duration::from_secs(3_600));
    host.minutes(2).await;
    assert!(host.world.acts() > 3);
    assert!(!host.health.live().controls.contains_key(&Control::Brake));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_that_asks_at_once_costs_two_looks() {
    let host = Host::new(&watched("disk", "")).await;
    let ask = || async {
        let checks = [host.health.known_check("disk").unwrap()];
        host.health.look_now(&checks).await.remove(0).detail
    };
    let shut = host.world.gate.write().await;
    let mut first = Box::pin(ask());
    assert!(futures_util::poll!(&mut first).is_pending());
    assert_eq!(host.world.looks.load(Ordering::SeqCst), 1);
    host.clock.advance(Duration::from_secs(1));
    let mut crowd = Box::pin(futures_util::future::join_all((0..50).map(|_| ask())));
    assert!(futures_util::poll!(&mut crowd).is_pending());
    host.clock.advance(Duration::from_secs(1));
    drop(shut);
    assert_eq!(first.await, "50 % free");
    host.world.set("disk", Some(7.0));
    assert_eq!(crowd.await, ["7 % free"; 50], "nobody gets what was found before they asked");
    assert_eq!(host.world.looks.load(Ordering::SeqCst), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_are_called_once_about_an_issue_whatever_becomes_of_its_attempt() {
    let host = Host::new(&check("disk", "cooldown = \"1s\"")).await;
    host.world.helps.store(false, Ordering::SeqCst);
    host.world.set("disk", Some(4.0));
    while host.world.acts() < 3 {
        host.minutes(1).await;
    }
    // The third attempt is being verified; somebody does not wait for it.
    host.health.flag("disk", "", ("me", "it is the pricing service")).await.unwrap();
    host.minutes(10).await;
    assert_eq!(host.calls(), ["FLAGGED"]);
    assert_eq!(host.attempts("disk")[2].outcome, AttemptOutcome::Failed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_limit_proves_nothing_about_an_attempt_and_what_was_begun_is_not_taken_for_it() {
    let host = Host::new(&check("disk", "")).await;
    host.world.helps.store(false, Ordering::SeqCst);
    host.world.set("disk", Some(4.0));
    host.minutes(1).await;
    assert_eq!(host.world.acts(), 1);
    // By the new limit it is well, and the action had no part in that.
    let old = host.health.known_check("disk").unwrap();
    host.reload(&check("disk", "crit = \"2\"\nclear = \"3\"")).await;
    assert_eq!(host.attempts("disk")[0].outcome, AttemptOutcome::Unknown);
    // A look that was begun under the old one is not taken in.
    let look = host.health.look(&old).await;
    host.health.take_in(vec![(old, look)]).await;
    host.minutes(2).await;
    assert!(host.health.open_issue("disk").is_err());
    let objectives = host.health.objectives().unwrap();
    assert_eq!((objectives[1].count("succeeded"), objectives[1].count("unknown")), (0, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_that_allows_actions_again_lets_nothing_loose_at_once() {
    for off in ["enabled = false", "dry_run = true"] {
        let grace = "startup_grace = \"2m\"";
        let host =
            Host::new(&format!("{}[remediation]\n{off}\n{grace}\n", check("disk", ""))).await;
        host.world.set("disk", Some(4.0));
        host.minutes(3).await;
        host.reload(&format!("{}[remediation]\n{grace}\n", check("disk", ""))).await;
        host.minutes(1).await;
        assert_eq!((host.world.acts(), host.denied("disk")), (0, vec!["STARTUP_GRACE".to_owned()]));
        host.minutes(2).await;
        assert_eq!(host.world.acts(), 1, "{off}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_been_bad_for_long_is_no_reason_to_doubt_the_checks_after_a_restart() {
    let ids = ["a", "b", "c", "d", "e", "f", "g"];
    let host = Host::new(&ids.map(|id| watched(id, "")).concat()).await;
    host.round().await;
    for id in &ids[..4] {
        host.world.set(id, Some(4.0));
        host.minutes(7).await;
    }
    let before = host.calls();
    assert!(!before.contains(&"CHECKER_SUSPECT"), "one after the other: {before:?}");
    let host = host.restart(Duration::from_secs(60)).await;
    host.minutes(2).await;
    assert!(!host.calls().contains(&"CHECKER_SUSPECT"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_done_about_what_recovers_with_its_root_nor_before_the_root_was_looked_at() {
    let slow = "level = \"deep\"\ninterval = \"5m\"";
    let host = Host::new(&(watched("db", slow) + &check("api", "depends_on = [\"db\"]"))).await;
    host.round().await;
    let api = host.health.known_check("api").unwrap();
    let db = host.health.known_check("db").unwrap();
    let look = async |check: &Arc<_>| {
        let found = host.health.look(check).await;
        host.health.take_in(vec![(Arc::clone(check), found)]).await;
        host.idle().await;
        host.clock.advance(HALF_MINUTE);
    };
    // Both fail; the one that is looked at more often is seen first.
    host.world.set("db", Some(4.0));
    host.world.set("api", Some(4.0));
    for _ in 0..4 {
        look(&api).await;
    }
    assert_eq!((host.world.acts(), host.attempts("api").len()), (0, 0));
    look(&db).await;
    // The root recovers first, and what depends on it needs a while.
    host.world.set("db", Some(50.0));
    look(&db).await;
    look(&api).await;
    assert_eq!(host.world.acts(), 0);
    host.world.set("api", Some(50.0));
    look(&db).await;
    look(&api).await;
    look(&api).await;
    assert!(host.health.open_issue("api").is_err());
    assert_eq!((host.world.acts(), host.calls().len()), (0, 0));
}
