//! Attempts at something: proven by the check and not by an exit code; three at most, ever further apart; then people
//! are called, once, and it is left to them.

use genesis_tests::TestAgent;
use genesis_tests::clock::{Watch, wait_for, wait_until};
use genesis_tests::health::{Check, Patient, config, word};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

/// An agent that is not started yet, and its patient. `check` makes its check what the test needs.
fn host(check: impl FnOnce(&Patient) -> Check) -> (TestAgent, Patient) {
    let agent = TestAgent::new(|_| String::new());
    let db = Patient::new(agent.folder(), "db");
    agent.configure(&config("", [&check(&db)]));
    (agent, db)
}

/// The same, with an action of this script.
fn treated(script: &str) -> (TestAgent, Patient) {
    host(|db| db.check().set("action", db.treatment(script)))
}

/// How often people were called, by the operation log.
fn calls(agent: &TestAgent) -> usize {
    let list = |action| agent.ctl(&["oplog", "list", "--action", action, "--limit", "1000"]).text();
    list("health.escalated").matches("health.escalated").count()
        + list("health.flagged").matches("health.flagged").count()
}

#[track_caller]
fn assert_held_by(agent: &TestAgent, codes: &[&str]) {
    wait_until(&format!("{codes:?} and no others"), || agent.denials("db") == codes);
}

#[test]
fn an_action_that_helps_is_proven_by_two_looks_and_ends_the_issue() {
    let (mut agent, db) = treated("cat > input; echo 0 > value; echo done");
    agent.start();
    db.is(1);
    agent.wait_state("db", "RESOLVED");
    let input = std::fs::read_to_string(db.file("input")).unwrap();
    let input: Value = serde_json::from_str(&input).unwrap();
    for (name, wanted) in [
        ("action", "mend"),
        ("check", "db"),
        ("row", "none"),
        ("target", ""),
        ("detail", "sh says 1"),
        ("reason", "db is bad: sh says 1"),
    ] {
        assert_eq!(input[name], wanted, "{name} of {input}");
    }
    assert_eq!(input["attempt"], 1);
    let issue = agent.issue("db");
    assert_eq!(
        (word(&issue, "resolution").as_str(), &issue["attempts"]),
        ("by its action", &1.into())
    );
    agent.wait_outcomes("db", &["SUCCEEDED"]);
    assert_eq!(db.treatments(), [1]);
    let attempt = &agent.attempts("db")[0];
    assert!(word(attempt, "detail").contains("done"), "{attempt}");
    assert!(attempt["plan"].to_string().contains("command sh"), "{attempt}");
    wait_until("the run's end", || {
        agent.ctl(&["run", "show", "last"]).text().contains("SUCCEEDED")
    });
    agent.ctl(&["run", "list"]).ok().says(&["health.mend"]);
    assert!(agent.incidents().is_empty());
    let log = agent.ctl(&["oplog", "list", "--action", "health.attempt"]).ok();
    log.says(&[
        "health.attempt.intent",
        "health.attempt.result",
        "health.attempt.verified",
        "db#1",
    ]);
}

#[test]
fn an_action_that_always_fails_is_tried_three_times_ever_further_apart_and_people_are_called_once()
{
    let (mut agent, db) = host(|db| {
        let check = db.check().set("action", db.treatment("echo 'no such pool' >&2; exit 1"));
        // Long beside the time between two looks, so that it is the pauses that are measured.
        check.text("cooldown", "700ms")
    });
    agent.start();
    db.is(1);
    agent.wait_state("db", "ESCALATED");
    agent.wait_outcomes("db", &["FAILED"; 3]);
    assert_eq!(db.treatments(), [1, 2, 3]);
    let attempts = agent.attempts("db");
    for attempt in &attempts {
        assert_eq!(word(attempt, "outcome"), "FAILED", "{attempt}");
        assert!(word(attempt, "detail").contains("exit status: 1: no such pool"), "{attempt}");
    }
    let begun = |attempt: &Value| attempt["at"].as_str().unwrap().parse::<Timestamp>().unwrap();
    let ended =
        |attempt: &Value| attempt["endedAt"].as_str().unwrap().parse::<Timestamp>().unwrap();
    let pauses: Vec<SignedDuration> =
        attempts.windows(2).map(|pair| begun(&pair[1]).duration_since(ended(&pair[0]))).collect();
    // The clock that counts from the boot does so in hundredths.
    assert!(pauses[0] >= SignedDuration::from_millis(185), "{pauses:?}");
    assert!(pauses[1] >= SignedDuration::from_millis(385), "it doubles: {pauses:?}");
    let incident = wait_for("the incident", || agent.incidents().pop());
    assert_eq!(word(&incident, "trigger"), "ATTEMPTS_FAILED", "{incident}");
    assert!(incident["details"].to_string().contains("no such pool"), "{incident}");
    // Then nothing, however often it is looked at, also over a restart.
    for _ in 0..2 {
        db.wait_for_looks(10);
        assert_eq!((db.treatments().len(), agent.attempts("db").len()), (3, 3));
        assert_eq!((agent.triggers(), calls(&agent)), (vec!["ATTEMPTS_FAILED".to_owned()], 1));
        assert_held_by(&agent, &["ESCALATED", "ATTEMPTS_USED", "BUDGET"]);
        agent.restart();
    }
    // It is over when the condition is.
    db.is(0);
    agent.wait_state("db", "RESOLVED");
    assert_eq!(word(&agent.issue("db"), "resolution"), "by itself or by hand");
    wait_until("the incident's end", || agent.open_incidents().is_empty());
    agent.ctl(&["oplog", "verify"]).ok().says(&["intact"]);
}

#[test]
fn an_exit_code_of_0_is_no_success() {
    let (mut agent, db) = treated("exit 0");
    agent.start();
    db.is(1);
    agent.wait_state("db", "ESCALATED");
    agent.wait_outcomes("db", &["FAILED"; 3]);
    assert_eq!(db.treatments(), [1, 2, 3]);
    let run = wait_for("the run's end", || {
        let run = agent.ctl(&["run", "show", "last"]).text();
        run.contains("FAILED").then_some(run)
    });
    assert!(run.contains("REMEDY_DID_NOT_HELP"), "{run}");
    let metrics = genesis_tests::http::get(agent.http(), "/metrics").1;
    let failed = "genesis_health_attempts_total{action=\"mend\",outcome=\"failed\"} 3";
    assert!(metrics.contains(failed), "{metrics}");
}

#[test]
fn what_is_well_for_one_look_only_was_not_helped() {
    let (mut agent, db) = host(|db| {
        let check = db.check().set("action", db.treatment("echo 1 > next; echo 0 > value"));
        // It is not for lack of time that it has failed.
        check.text("settle", "1h").text("cooldown", "1h")
    });
    agent.start();
    db.is(1);
    agent.wait_state("db", "COOLDOWN");
    agent.wait_outcomes("db", &["FAILED"]);
    db.wait_for_looks(5);
    assert_eq!(db.treatments(), [1]);
    assert_held_by(&agent, &["COOLDOWN"]);
}

#[test]
fn what_is_well_again_when_it_is_looked_at_once_more_is_not_treated() {
    let (mut agent, db) = host(|db| {
        // Bad at the two looks that make an issue of it.
        let count = "printf . >> looks; [ $(wc -c < looks) -gt 2 ] && echo 0 || echo 1";
        let command = format!("cd {:?} && {count}", db.file("."));
        let check = db.check().set("command", format!("[\"sh\", \"-c\", {command:?}]"));
        check.set("action", db.treatment("exit 0"))
    });
    agent.start();
    agent.wait_state("db", "RESOLVED");
    assert!(db.treatments().is_empty());
    assert_eq!(agent.outcomes("db"), ["NOT_NEEDED"]);
    agent.ctl(&["health", "history"]).ok().says(&["NOT_NEEDED", "sh says 0"]);
    assert!(db.looks() >= 4);
}

#[test]
fn a_resume_gives_new_attempts_within_the_budget_and_an_ack_does_not() {
    let (mut agent, db) = treated("exit 1");
    agent.start();
    db.is(1);
    agent.wait_state("db", "ESCALATED");
    agent.ctl(&["health", "ack", "db", "--reason", "olga is on it"]).ok().says(&["db#1", "acked"]);
    assert_held_by(&agent, &["ATTEMPTS_USED", "BUDGET"]);
    assert_eq!(word(&agent.issue("db"), "ackNote"), "olga is on it");
    agent.ctl(&["health", "resume", "db", "--reason", "the pool is bigger now"]).ok();
    // The pause after the last attempt is over as well; what is left is the hour.
    assert_held_by(&agent, &["BUDGET"]);
    db.wait_for_looks(10);
    assert_eq!(db.treatments().len(), 3);
    let explained = agent.ctl(&["health", "explain", "db"]).ok();
    explained.says(&["BUDGET", "3 attempts of it within an hour"]);
    // A person is not held by it; and is told that it fails.
    let by_hand = ["health", "run", "mend", "--yes", "--reason", "once more"];
    agent.ctl(&by_hand).exits(1).says(&["ACTION_FAILED"]);
    assert_eq!(db.treatments().len(), 4);
    agent.restart();
    assert_held_by(&agent, &["BUDGET"]);
    assert_eq!(agent.incidents().len(), 1);
}

#[test]
fn a_flag_calls_people_once_and_holds_automation_until_somebody_acks() {
    let (mut agent, db) = treated("echo 0 > value");
    agent.start();
    agent.ctl(&["health", "remediation", "disable", "--reason", "so that it stays"]).ok();
    db.is(1);
    agent.wait_denial("db", "DISABLED");
    agent.ctl(&["health", "ack", "db"]).exits(9).says(&["ISSUE_NOT_ESCALATED"]);
    agent.ctl(&["health", "flag", "db"]).exits(2).says(&["--reason"]);
    let flag = ["health", "flag", "db", "--reason", "prices look wrong"];
    agent.ctl(&flag).ok().says(&["people are called about db#1"]);
    agent.ctl(&flag).ok().says(&["before, nothing was changed"]);
    agent.restart();
    agent.ctl(&flag).ok().says(&["before, nothing was changed"]);
    agent.ctl(&["health", "remediation", "enable"]).ok();
    assert_held_by(&agent, &["ESCALATED"]);
    db.wait_for_looks(8);
    assert!(db.treatments().is_empty());
    let incidents = agent.incidents();
    assert_eq!((agent.triggers(), calls(&agent)), (vec!["FLAGGED".to_owned()], 1));
    assert_eq!(word(&incidents[0], "reason"), "prices look wrong");
    agent.ctl(&["health", "ack", "db#1", "--reason", "on it"]).ok();
    agent.wait_state("db", "RESOLVED");
    agent.wait_outcomes("db", &["SUCCEEDED"]);
    assert_eq!(db.treatments(), [1]);
    agent.ctl(&["health", "flag", "db", "--reason", "again"]).exits(1).says(&["ISSUE_NOT_FOUND"]);
    agent.ctl(&["health", "flag", "nope", "--reason", "x"]).exits(1).says(&["CHECK_UNKNOWN", "db"]);
}

#[test]
fn what_is_critical_for_too_long_calls_people_once_also_when_it_came_due_while_the_agent_was_down()
{
    // Without an action one look makes an issue; the next one would come after this test.
    let (mut agent, db) = host(|db| db.check().text("interval", "5m").text("timeout", "5s"));
    let config = std::fs::read_to_string(agent.config()).unwrap();
    let soon = config.replace("[health]", "[health]\nescalate_after = \"2s\"");
    std::fs::write(agent.config(), soon).unwrap();
    db.is(1);
    agent.start();
    let watch = Watch::start();
    // Also where a kill can't take it.
    wait_until("it is on record", || {
        agent.issues("db").first().is_some_and(|issue| word(issue, "state") == "FAILING")
    });
    assert_held_by(&agent, &["NO_ACTION"]);
    assert!(agent.incidents().is_empty());
    agent.kill();
    wait_until("the time to come", || watch.elapsed().as_millis() > 2_100);
    agent.start();
    agent.wait_state("db", "ESCALATED");
    assert_eq!(db.looks(), 2, "it is called at the first look");
    for _ in 0..2 {
        wait_until("the incident", || agent.triggers() == ["CRITICAL_TOO_LONG"]);
        assert_eq!(calls(&agent), 1);
        agent.kill();
        agent.start();
        wait_until("a look", || word(&agent.seen("db"), "condition") == "CRITICAL");
    }
    assert_eq!(word(&agent.issue("db"), "escalated"), "CRITICAL_TOO_LONG");
}

#[test]
fn what_is_critical_for_too_long_calls_people_by_itself() {
    let (mut agent, db) = host(Patient::check);
    let config = std::fs::read_to_string(agent.config()).unwrap();
    let soon = config.replace("[health]", "[health]\nescalate_after = \"1s\"");
    std::fs::write(agent.config(), soon).unwrap();
    agent.start();
    db.is(1);
    agent.wait_state("db", "ESCALATED");
    db.wait_for_looks(8);
    assert_eq!((agent.triggers(), calls(&agent)), (vec!["CRITICAL_TOO_LONG".to_owned()], 1));
}

#[test]
fn what_changes_too_often_is_not_treated() {
    let (mut agent, db) = treated("exit 0");
    agent.start();
    agent
        .ctl(&["health", "remediation", "disable", "--reason", "so that only the check counts"])
        .ok();
    for value in [1, 0, 1, 0, 1] {
        db.is(value);
        let wanted = if value == 0 { "OK" } else { "CRITICAL" };
        wait_until(wanted, || word(&agent.seen("db"), "condition") == wanted);
    }
    agent.ctl(&["health", "remediation", "enable"]).ok();
    assert_held_by(&agent, &["FLAPPING"]);
    db.wait_for_looks(5);
    assert!(db.treatments().is_empty() && agent.seen("db")["flapping"] == true);
    agent.ctl(&["oplog", "list", "--action", "health.flapping"]).ok().says(&["began"]);
    // Also after a restart: it is about the check, not about this agent.
    agent.restart();
    assert_held_by(&agent, &["FLAPPING"]);
}
