//! Drills with the real agent: what they show, and that nothing that is in use is touched.

use std::fs;

use genesis_tests::TestAgent;
use genesis_tests::clock::wait_until;
use genesis_tests::paper::PaperVenue;
use serde_json::{Value, json};
use tempfile::TempDir;

fn book() -> Value {
    json!({ "venues": {
        "alpha": { "positions": { "BTC-PERP": "3" } },
        "beta": { "positions": { "ETH-PERP": "-20" } },
    }})
}

fn venue() -> (TempDir, PaperVenue) {
    let folder = tempfile::tempdir().unwrap();
    let venue = PaperVenue::start(folder.path(), book());
    (folder, venue)
}

fn key(name: &str, venue: &PaperVenue) -> String {
    format!("{name} = {{ grpc = {:?}, timeout = \"500ms\" }}\n", venue.target())
}

fn report(agent: &TestAgent) -> Value {
    agent.ctl(&["drill", "report", "-o", "json"]).ok().response()["report"].clone()
}

/// What drills have left in their folder.
fn left(agent: &TestAgent) -> usize {
    fs::read_dir(agent.state().join("drills")).map_or(0, Iterator::count)
}

#[test]
fn an_emergency_is_practised_and_trading_is_not_touched() {
    let (_folder, control) = venue();
    let agent = TestAgent::started(|_| format!("[trading]\n{}", key("control", &control)));
    let epoch = |agent: &TestAgent| {
        agent.ctl(&["emergency", "status", "-o", "json"]).ok().response()["emergency"].clone()
    };
    let (calls, before, kept) = (control.calls(""), epoch(&agent), control.book());
    agent.ctl(&["drill", "list"]).ok().says(&["emergency", "DUE", "restore", "rollback:config"]);
    let plan = agent.ctl(&["drill", "run", "emergency", "--plan"]).ok();
    plan.says(&["a paper venue within the agent", "declare", "release"]);
    let done = agent.ctl(&["drill", "run", "emergency", "--reason", "the quarter"]).ok();
    done.says(&["SUCCEEDED", "emergency passed, RTO"]);
    let shown = report(&agent);
    assert_eq!((&shown["drill"], &shown["outcome"]), (&json!("emergency"), &json!("TRUTH_PASS")));
    let names: Vec<&str> =
        shown["steps"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["declare", "halt", "close", "witness", "release"], "{shown}");
    agent.ctl(&["drill", "report"]).ok().says(&["PASSED", "RTO", "FLAT: 2 venues"]);
    agent.ctl(&["drill", "list"]).ok().says(&["CURRENT", "PASS"]);
    let page = agent.folder().join("drill.md");
    let out = ["drill", "report", "last", "--format", "markdown", "--out", page.to_str().unwrap()];
    agent.ctl(&out).ok();
    assert!(fs::read_to_string(page).unwrap().contains("| release | PASS |"));
    // Its own emergency, its flag and its venue are untouched.
    assert_eq!((control.calls(""), control.book()), (calls, kept));
    assert_eq!(epoch(&agent), before);
    assert!(!agent.state().join("EMERGENCY").exists());
    let told = agent.ctl(&["oplog", "list", "--limit", "200"]).ok().text();
    assert!(told.contains("drill.done") && !told.contains("emergency.activated"), "{told}");
    assert_eq!(left(&agent), 0);
    agent.ctl(&["drill", "run", "fire"]).exits(1).says(&["DRILL_NOT_FOUND", "rollback"]);
    agent.ctl(&["drill", "run", "rollback:nothing"]).exits(1).says(&["DRILL_NOT_FOUND"]);
    agent.ctl(&["drill", "report", "01J0"]).exits(1).says(&["DRILL_NOT_FOUND"]);
    agent.ctl(&["emergency", "activate", "--reason", "in earnest"]).ok();
    agent.ctl(&["drill", "run", "emergency"]).exits(4).says(&["EMERGENCY"]);
}

#[test]
fn a_sandbox_that_hangs_is_what_the_drill_names() {
    let (_folder, sandbox) = venue();
    sandbox.faults(json!([{ "venue": "beta", "call": "*", "kind": "hang" }]));
    let agent = TestAgent::started(|_| {
        format!("[trading]\nclose_within = \"6s\"\n{}", key("sandbox", &sandbox))
    });
    let failed = agent.ctl(&["drill", "run", "emergency"]).exits(1);
    failed.says(&["DRILL_DEVIATED", "FLAT_UNPROVEN", "beta"]);
    let shown = report(&agent);
    assert_eq!((&shown["outcome"], &shown["rto"]), (&json!("TRUTH_FAIL"), &Value::Null));
    assert!(shown["deviations"][0].as_str().unwrap().contains("beta"), "{shown}");
    agent.ctl(&["drill", "list"]).ok().says(&["DUE", "FAIL"]);
    // The next one takes the sandbox up again.
    sandbox.no_faults();
    agent.ctl(&["drill", "run", "emergency"]).ok().says(&["passed, RTO"]);
    assert!(sandbox.is_flat());
    assert_eq!(sandbox.book()["halted"], false);
}

#[test]
fn a_sandbox_that_is_the_real_thing_by_another_name_is_not_drilled() {
    let (folder, real) = venue();
    let other_name = folder.path().join("other.sock");
    std::os::unix::fs::symlink(real.target().trim_start_matches("unix:"), &other_name).unwrap();
    let agent = TestAgent::started(|_| {
        let sandbox = format!("sandbox = {{ grpc = \"unix:{}\" }}\n", other_name.display());
        format!("[trading]\n{}{sandbox}", key("control", &real))
    });
    let refused = agent.ctl(&["drill", "run", "emergency"]);
    refused.exits(4).says(&["SANDBOX_IS_CONTROL"]);
    assert!(real.calls("").is_empty(), "{:?}", real.calls(""));
    assert!(!real.is_flat());
}

#[test]
fn the_newest_backup_is_restored_and_a_missing_one_is_a_deviation() {
    let agent = TestAgent::started(|_| String::new());
    let without = agent.ctl(&["drill", "run", "restore"]).exits(1);
    without.says(&["DRILL_DEVIATED", "there is no backup to restore from"]);
    agent.ctl(&["backup", "run", "agent"]).ok();
    agent.ctl(&["drill", "run", "restore"]).ok().says(&["restore passed, RTO"]);
    agent.ctl(&["drill", "report"]).ok().says(&["restore agent", "PASS"]);
    agent.ctl(&["drill", "run", "restore:nothing"]).exits(1).says(&["DRILL_NOT_FOUND"]);
}

#[test]
fn a_rollback_of_the_configuration_is_practised_on_a_copy() {
    let with = |name: &str| {
        format!("[recovery]\nknown_good_after = \"0s\"\n[contacts]\non_call = {name:?}\n")
    };
    let agent = TestAgent::started(|_| with("one"));
    let early = agent.ctl(&["drill", "run", "rollback:config"]).exits(5);
    early.says(&["nothing to go back to yet"]);
    agent.configure(&with("two"));
    agent.ctl(&["config", "reload"]).ok();
    let before = fs::read(agent.config()).unwrap();
    agent.ctl(&["drill", "run", "rollback:config"]).ok().says(&["rollback:config passed"]);
    agent.ctl(&["drill", "report"]).ok().says(&["from 2 to 1", "on a copy"]);
    assert_eq!(fs::read(agent.config()).unwrap(), before);
    let points = agent.ctl(&["rollback", "points", "--component", "config"]).ok().text();
    assert!(!points.contains("drill"), "{points}");
    agent.ctl(&["drill", "run", "rollback:certificate:none"]).exits(1).says(&["DRILL_NOT_FOUND"]);
    assert_eq!(left(&agent), 0);
}

#[test]
fn a_drill_that_a_crash_cuts_off_leaves_nothing() {
    let mut agent = TestAgent::new(|_| String::new());
    agent.start_with_failpoint("step.close", 1);
    agent.wait_ready();
    agent.ctl(&["drill", "run", "emergency", "--detach"]).ok();
    agent.wait_killed();
    assert_eq!(left(&agent), 1, "it was in the middle");
    agent.start();
    assert_eq!(left(&agent), 0);
    let shown = agent.ctl(&["run", "show", "last"]).text();
    assert!(shown.contains("recovery.drill INTERRUPTED"), "{shown}");
    assert!(shown.contains("nothing that is in use was touched"), "{shown}");
    agent.ctl(&["emergency", "status"]).ok().says(&["no emergency is in force"]);
    agent.ctl(&["drill", "run", "emergency"]).ok();
}

#[test]
fn in_staging_an_emergency_goes_to_the_sandbox() {
    let ((_one, control), (_other, sandbox)) = (venue(), venue());
    let trading = format!("[trading]\n{}", key("control", &control));
    let staging = "[agent]\nenvironment = \"staging\"\n";
    let mut agent = TestAgent::new(|_| format!("{staging}{trading}"));
    let refused = agent.try_start().unwrap_err();
    let why = format!("{refused:?}");
    assert!(why.contains("trading.sandbox") && why.contains("staging"), "{why}");
    agent.configure(&format!("{trading}{}", key("sandbox", &control)));
    let same = format!("{:?}", agent.try_start().unwrap_err());
    assert!(same.contains("would close real positions"), "{same}");
    agent.configure(&format!("{staging}{trading}{}", key("sandbox", &sandbox)));
    agent.start();
    agent.ctl(&["emergency", "status"]).ok().says(&["STAGING"]);
    // A drill before does not keep the sandbox from obeying the emergency itself.
    agent.ctl(&["drill", "run", "emergency"]).ok();
    agent.ctl(&["emergency", "halt", "--reason", "practice"]).ok().says(&["STAGING", "halted"]);
    wait_until("the sandbox is halted", || sandbox.book()["halted"] == true);
    agent.ctl(&["emergency", "status"]).exits(3).says(&["STAGING"]);
    assert_eq!(control.calls(""), Vec::<Value>::new());
}
