//! `kill -9` in the middle of an action: it counts, whether it helped is looked at first, and it is never simply done
//! again.
//!
//! `GENESIS_LONG=1` runs many more rounds.

use std::collections::BTreeSet;
use std::time::Duration;

use genesis_tests::TestAgent;
use genesis_tests::clock::{Watch, wait_until};
use genesis_tests::health::{Patient, config, word};
use genesis_tests::random::Random;

fn long() -> bool {
    std::env::var_os("GENESIS_LONG").is_some_and(|value| value == "1")
}

/// Does nothing, until it may, or the test has failed.
const WAIT: &str = "i=0; while [ ! -e go ] && [ $i -lt 600 ]; do sleep 0.05; i=$((i+1)); done";

/// An agent that is not started yet, and its patient, whose treatment is this script.
fn host(script: &str, settle: &str) -> (TestAgent, Patient) {
    let agent = TestAgent::new(|_| String::new());
    let db = Patient::new(agent.folder(), "db");
    let check = db.check().set("action", db.treatment(script));
    let check = check.text("settle", settle).text("cooldown", "50ms");
    agent.configure(&config("", [&check.text("interval", "100ms").text("timeout", "95ms")]));
    (agent, db)
}

/// Lets it go on to its end: three attempts in all, none of them twice.
fn it_ends_after_three_attempts(agent: &TestAgent, db: &Patient) {
    agent.wait_state("db", "ESCALATED");
    db.wait_for_looks(5);
    let treatments = db.treatments();
    let once: BTreeSet<u32> = treatments.iter().copied().collect();
    assert_eq!(once.len(), treatments.len(), "none twice: {treatments:?}");
    assert!(once.iter().all(|attempt| (1..=3).contains(attempt)), "{treatments:?}");
    let attempts = agent.attempts("db");
    let numbers: Vec<_> = attempts.iter().map(|attempt| attempt["number"].as_u64()).collect();
    assert_eq!(numbers, [Some(1), Some(2), Some(3)], "{attempts:#?}");
    agent.wait_outcomes("db", &["FAILED"; 3]);
    assert_eq!(agent.triggers(), ["ATTEMPTS_FAILED"]);
    agent.ctl(&["oplog", "verify"]).ok().says(&["intact"]);
}

#[test]
fn killed_at_each_step_of_an_attempt_it_counts_and_is_looked_at_first() {
    for (point, begun) in
        [("health.intent", &[][..]), ("health.before-act", &[]), ("health.after-act", &[1])]
    {
        let (mut agent, db) = host("exit 0", "1s");
        agent.start_with_failpoint(point, 1);
        agent.wait_ready();
        db.is(1);
        agent.wait_killed();
        assert_eq!(db.treatments(), begun, "{point}");
        agent.start();
        assert_eq!(agent.issue_state("db"), "VERIFYING", "{point}");
        db.wait_for_looks(2);
        assert_eq!(
            (db.treatments(), agent.issue("db")["attempts"].as_u64()),
            (begun.to_vec(), Some(1))
        );
        it_ends_after_three_attempts(&agent, &db);
        assert_eq!(db.treatments(), [begun, &[2, 3]].concat(), "{point}");
        // What a restart found out about the run is in its record, too.
        agent.ctl(&["run", "list", "--limit", "100"]).ok();
    }
}

#[test]
fn killed_while_its_action_goes_on_the_next_agent_waits_for_what_that_brings() {
    let (mut agent, db) = host(&format!("{WAIT}; echo 0 > value"), "20s");
    agent.start();
    db.is(1);
    wait_until("the action", || db.treatments() == [1]);
    agent.kill();
    agent.start();
    assert_eq!(agent.issue_state("db"), "VERIFYING");
    db.wait_for_looks(5);
    assert_eq!((agent.issue_state("db").as_str(), db.treatments()), ("VERIFYING", vec![1]));
    // The action has outlived its agent.
    std::fs::write(db.file("go"), "").unwrap();
    agent.wait_state("db", "RESOLVED");
    assert_eq!(word(&agent.issue("db"), "resolution"), "by its action");
    agent.wait_outcomes("db", &["SUCCEEDED"]);
    assert_eq!(db.treatments(), [1]);
}

#[test]
fn killed_at_random() {
    let mut random = Random::new(11);
    for round in 0..if long() { 50 } else { 10 } {
        let (mut agent, db) = host("sleep 0.2", "200ms");
        agent.start();
        db.is(1);
        // Two kills in a row, so that what a restart had begun is cut off, too.
        for _ in 0..2 {
            let (moment, watch) = (Duration::from_millis(random.within(0, 1_000)), Watch::start());
            wait_until("the moment", || watch.elapsed() >= moment);
            agent.kill();
            agent.start();
            let treatments = db.treatments().len() as u64;
            let counted = agent.issue("db")["attempts"].as_u64().unwrap_or(0);
            assert!(counted >= treatments, "round {round}: {counted} of {treatments} count");
        }
        it_ends_after_three_attempts(&agent, &db);
    }
}

#[test]
fn an_action_by_hand_that_was_cut_off_is_not_left_open() {
    let (mut agent, db) = host("exit 0", "200ms");
    agent.start_with_failpoint("health.before-act", 1);
    agent.wait_ready();
    // It may die before it has answered.
    agent.ctl(&["health", "run", "mend", "--yes", "--detach", "--reason", "to be sure"]);
    agent.wait_killed();
    agent.start();
    agent.wait_outcomes("db", &["UNKNOWN"]);
    assert!(db.treatments().is_empty());
    agent.ctl(&["run", "list"]).ok().says(&["health.mend"]);
}
