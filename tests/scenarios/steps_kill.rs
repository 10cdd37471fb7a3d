//! Steps of runs that have no fail point of their own beside them: the agent dies between the journal's entry of such a
//! step and what it does. The run says what it came to, nothing is left, and the next one goes through.

use std::process::Stdio;

use genesis_tests::TestAgent;
use genesis_tests::backups::sqlite;
use serde_json::Value;

use crate::database::{last, optimize};
use crate::database_sqlite::{made, text};
use crate::drills::left;
use crate::matrices::{CONFIG, Feed, GOOD, history, push, with_a_matrix};

/// The runs that were cut off so far.
fn interrupted(agent: &TestAgent) -> Vec<String> {
    let runs = agent.ctl(&["run", "list", "--limit", "1000", "-o", "json"]).ok().response();
    let runs = runs["runs"].as_array().unwrap().clone();
    let runs = runs.into_iter().filter(|run| run["state"] == "RUN_STATE_INTERRUPTED");
    runs.map(|run| run["id"].as_str().unwrap().to_owned()).collect()
}

/// Kills an agent that does not run yet at this fail point, while somebody waits for this command, and starts it anew;
/// the run that was cut off.
pub(crate) fn cut_off(agent: &mut TestAgent, point: &str, asked: &[&str]) -> Value {
    agent.start_with_failpoint(point, 1);
    agent.wait_ready();
    let before = interrupted(agent);
    let mut asking = agent.ctl_command(asked);
    let mut asking = asking.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    agent.wait_killed();
    // It would wait for an answer for as long as somebody could come back. It may have ended by itself.
    let _ = asking.kill();
    asking.wait().unwrap();
    agent.start();
    let run = interrupted(agent).into_iter().find(|id| !before.contains(id));
    let run = run.unwrap_or_else(|| panic!("{point}: no run was cut off"));
    let shown = agent.ctl(&["run", "show", &run, "-o", "json"]).ok();
    let shown = shown.response()["run"].clone();
    let said = shown["reconciliation"]["detail"].as_str().unwrap_or_default();
    assert!(!said.is_empty(), "{point}: {shown:#}");
    shown
}

#[test]
fn a_job_that_is_cut_off_in_any_step_goes_through_the_next_time() {
    let mut agent = TestAgent::started(|_| String::new());
    // Three of them have a step of the same name: none begins by itself at its own time.
    for job in ["baselines.upkeep", "experiments.upkeep", "matrices.upkeep"] {
        agent.ctl(&["schedule", "pause", job, "--reason", "a test"]).ok();
    }
    agent.terminate();
    for (job, point) in [
        ("storage.compact", "step.compact"),
        ("baselines.recalculate", "step.calculate"),
        ("baselines.upkeep", "step.keep-small"),
        ("experiments.upkeep", "step.keep-small"),
        ("experiments.upkeep", "step.forget"),
        ("matrices.upkeep", "step.keep-small"),
    ] {
        let run = cut_off(&mut agent, point, &["schedule", "run", job, "--detach"]);
        assert_eq!(run["kind"], job, "{point}: {run:#}");
        agent.ctl(&["schedule", "run", job]).ok();
        agent.ctl(&["oplog", "verify"]).ok();
        agent.terminate();
    }
}

#[test]
fn an_update_of_the_matrix_that_is_cut_off_is_made_by_the_next_one() {
    for point in ["step.calculate", "step.take-in"] {
        let mut agent = TestAgent::started(|_| CONFIG.to_owned());
        with_a_matrix(&agent);
        push(&agent, "more.csv", &Feed::new(2).csv(400, &GOOD));
        agent.terminate();
        let update = ["matrix", "update", "--reason", "new prices"];
        let run = cut_off(&mut agent, point, &[&update[..], &["--detach"]].concat());
        assert_eq!(run["kind"], "matrices.update", "{point}: {run:#}");
        let versions = || history(&agent)["versions"].as_array().unwrap().len();
        assert_eq!(versions(), 1, "{point}");
        agent.ctl(&update).ok();
        assert_eq!(versions(), 2, "{point}");
    }
}

#[test]
fn a_care_of_a_file_that_is_cut_off_in_any_step_leaves_it_sound() {
    for point in
        ["step.quick-check", "step.checkpoint", "step.backup", "step.vacuum", "step.analyze"]
    {
        let folder = tempfile::tempdir().unwrap();
        let path = made(folder.path(), "db.execute('DELETE FROM orders WHERE id % 3 <> 0')\n");
        let mut agent = TestAgent::new(|_| text(&path));
        cut_off(&mut agent, point, &["db", "optimize", "--force", "--database", "trades"]);
        assert_eq!(last(&agent)["outcome"], "CARE_OUTCOME_INTERRUPTED", "{point}");
        assert_eq!(sqlite(&path, "PRAGMA integrity_check"), "ok", "{point}");
        optimize(&agent, &[]).ok();
        assert_eq!(last(&agent)["outcome"], "CARE_OUTCOME_DONE", "{point}");
    }
}

#[test]
fn a_drill_that_is_cut_off_in_any_step_leaves_nothing() {
    let mut agent = TestAgent::new(|_| String::new());
    for point in ["step.drill", "step.declare", "step.halt", "step.release"] {
        let run = cut_off(&mut agent, point, &["drill", "run", "emergency", "--detach"]);
        assert_eq!(run["kind"], "recovery.drill", "{point}: {run:#}");
        assert_eq!(left(&agent), 0, "{point}");
        agent.ctl(&["emergency", "status"]).ok().says(&["no emergency is in force"]);
        agent.terminate();
    }
    agent.start();
    agent.ctl(&["drill", "run", "emergency"]).ok();
}

#[test]
fn a_drill_of_a_rollback_that_is_cut_off_touches_nothing() {
    let with = |name: &str| {
        format!("[recovery]\nknown_good_after = \"0s\"\n[contacts]\non_call = {name:?}\n")
    };
    let mut agent = TestAgent::started(|_| with("one"));
    agent.configure(&with("two"));
    agent.ctl(&["config", "reload"]).ok();
    let before = std::fs::read(agent.config()).unwrap();
    agent.terminate();
    for point in ["step.choose", "step.apply"] {
        let run = cut_off(&mut agent, point, &["drill", "run", "rollback:config", "--detach"]);
        assert_eq!(run["kind"], "recovery.drill", "{point}: {run:#}");
        assert_eq!(left(&agent), 0, "{point}");
        assert_eq!(std::fs::read(agent.config()).unwrap(), before, "{point}");
        agent.terminate();
    }
    agent.start();
    agent.ctl(&["drill", "run", "rollback:config"]).ok().says(&["rollback:config passed"]);
}
