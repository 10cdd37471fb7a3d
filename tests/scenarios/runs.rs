//! Long operations: watched, cancelled, and never silently cut off.

use std::process::Stdio;

use genesis_tests::clock::wait_until;
use genesis_tests::{TestAgent, lines, source};
use serde_json::Value;

fn host() -> TestAgent {
    TestAgent::new(|log| source("trading", &log.join("t.log"), "1GB"))
}

fn last(agent: &TestAgent) -> Value {
    agent.ctl(&["run", "show", "last", "-o", "json"]).ok().response()["run"].clone()
}

/// Starts an agent that dies at `point` during a rotation by hand, and then one anew; returns the run.
fn interrupted_at(point: &str) -> (TestAgent, Value) {
    let mut agent = host();
    std::fs::write(agent.log("t.log"), lines::text(0..100)).unwrap();
    agent.start_with_failpoint(point, 1);
    agent.wait_ready();
    let mut rotate = agent.ctl_command(&["logs", "rotate", "--log-type", "trading"]);
    let rotate = rotate.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    agent.wait_killed();
    agent.start();
    // Whoever followed the run hears how it ended, over the crash; who had no answer yet is not told that
    // nothing happened.
    let output = rotate.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert_eq!(output.status.code(), Some(5), "{said}");
    assert!(said.contains("INTERRUPTED") || said.contains("OUTCOME_UNKNOWN"), "{said}");
    let run = last(&agent);
    assert_eq!(run["kind"], "logs.rotate");
    assert_eq!(run["state"], "RUN_STATE_INTERRUPTED", "{point}: {run}");
    assert_eq!(run["errorCode"], "RUN_INTERRUPTED");
    assert!(!run["reconciliation"]["detail"].as_str().unwrap_or_default().is_empty(), "{run}");
    (agent, run)
}

#[test]
fn a_run_that_was_cut_off_is_interrupted_and_says_what_it_came_to() {
    let cases = [
        ("run.started", "VERDICT_NOTHING_DONE"),
        ("step.cut", "VERDICT_UNDONE"),
        ("logs.before-rename", "VERDICT_UNDONE"),
        ("logs.after-rename", "VERDICT_FINISHED"),
        ("logs.after-compress", "VERDICT_FINISHED"),
        ("logs.verified", "VERDICT_FINISHED"),
        ("run.before-end", "VERDICT_FINISHED"),
    ];
    for (point, verdict) in cases {
        let (agent, run) = interrupted_at(point);
        assert_eq!(run["reconciliation"]["verdict"], verdict, "{point}: {run}");
        let output = agent.ctl(&["run", "watch", "last"]).exits(5);
        output.says(&["INTERRUPTED", "reconciled after a crash"]);
        // No run is left behind as going on, and nothing stands in the way of the next one.
        let going_on = agent.ctl(&["run", "list", "--state", "running", "-o", "json"]).ok();
        assert_eq!(going_on.response()["runs"], Value::Array(Vec::new()));
        agent.ctl(&["oplog", "list", "--action", "run.interrupted"]).ok().says(&["logs.rotate"]);
        agent.rotate("trading");
        agent.wait_verified("trading", 1);
        agent.assert_holds("trading", 100);
    }
}

#[test]
fn a_job_that_was_cut_off_in_the_middle_of_its_step_is_not_called_done() {
    let mut agent = TestAgent::new(|log| {
        source("trading", &log.join("t.log"), "1GB").replace("local_retention = \"36500d\"", "")
    });
    agent.start();
    std::fs::write(agent.log("t.log"), lines::text(0..100)).unwrap();
    agent.rotate("trading");
    agent.terminate();
    agent.start_with_failpoint("step.delete-local", 1);
    agent.wait_ready();
    agent.ctl(&["schedule", "run", "logs.local-retention", "--detach"]);
    agent.wait_killed();
    agent.start();
    assert_eq!(last(&agent)["state"], "RUN_STATE_INTERRUPTED");
    agent.ctl(&["schedule", "run", "logs.local-retention"]).ok();
    agent.assert_holds("trading", 100);
}

#[test]
fn a_run_can_be_cancelled_and_says_so() {
    let mut agent = host();
    agent.start();
    std::fs::write(agent.log("t.log"), lines::text(0..100)).unwrap();
    let held = std::fs::OpenOptions::new().append(true).open(agent.log("t.log")).unwrap();
    agent.ctl(&["logs", "rotate", "--log-type", "trading", "--detach"]).ok();
    wait_until("the cut", || !agent.log("t.log").exists());
    agent.ctl(&["run", "list", "--state", "running"]).ok().says(&["logs.rotate"]);
    agent.ctl(&["run", "cancel", "last", "--reason", "wrong host"]).ok();
    let watch = agent.ctl(&["run", "watch", "last"]).exits(1);
    watch.says(&["CANCELLED"]);
    // Over is over.
    agent.ctl(&["run", "cancel", "last"]).exits(9).says(&["RUN_ENDED"]);
    // The segment goes on all the same, since it was cut already.
    drop(held);
    agent.wait_verified("trading", 1);
    agent.assert_holds("trading", 100);
}

#[test]
fn runs_are_listed_and_shown_with_their_steps_and_reason() {
    let mut agent = host();
    agent.start();
    agent.ctl(&["run", "show", "last"]).exits(1).says(&["RUN_NOT_FOUND"]);
    std::fs::write(agent.log("t.log"), lines::text(0..100)).unwrap();
    let reason = ["--reason", "before the upgrade"];
    agent.ctl(&[&["logs", "rotate", "--log-type", "trading"], &reason[..]].concat()).ok();
    agent.ctl(&["schedule", "run", "logs.local-retention"]).ok();

    let list = agent.ctl(&["run", "list", "-o", "json"]).ok().response();
    let kinds: Vec<&str> =
        list["runs"].as_array().unwrap().iter().map(|run| run["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["logs.local-retention", "logs.rotate"], "newest first");
    let list = agent.ctl(&["run", "list", "--kind", "logs.rotate", "-o", "json"]).ok().response();
    let run = list["runs"][0].clone();
    assert_eq!(run["state"], "RUN_STATE_SUCCEEDED");
    assert_eq!(run["reason"], "before the upgrade");

    let id = run["id"].as_str().unwrap();
    for name in [id, &id[..14], &id.to_lowercase()] {
        let shown = agent.ctl(&["run", "show", name]).ok();
        shown.says(&[id, "SUCCEEDED", "cut", "t.log", "trading/1", "before the upgrade"]);
    }
    agent.ctl(&["run", "watch", id]).ok();
    for name in ["01ARZ3NDEKTSV4RRFFQ69G5FAV", "nope", "x", "ZZZZ"] {
        agent.ctl(&["run", "show", name]).exits(1).says(&["RUN_NOT_FOUND"]);
    }
    // It survives a restart.
    agent.restart();
    agent.ctl(&["run", "show", id]).ok().says(&["SUCCEEDED"]);
}
