//! Plans: what a command would do, and the promise to do only that.

use std::fs::OpenOptions;

use genesis_tests::{TestAgent, lines, source};
use serde_json::Value;

fn host() -> TestAgent {
    let mut agent = TestAgent::new(|log| {
        let source = source("trading", &log.join("t.log"), "1GB").replace("36500d", "30d");
        format!("{source}[recovery]\nknown_good_after = \"0s\"\n")
    });
    agent.start();
    // What is planned here must not be overtaken by what the hour of the day brings.
    for job in ["logs.local-retention", "logs.archive-retention"] {
        agent.ctl(&["schedule", "pause", job]).ok();
    }
    agent
}

fn plan(agent: &TestAgent, command: &[&str]) -> (String, Vec<Value>) {
    let response = agent.ctl(&[command, &["--plan", "-o", "json"]].concat()).ok().response();
    let plan = &response["plan"];
    let hash = plan["hash"].as_str().unwrap_or_else(|| panic!("{command:?}: {response}"));
    (hash.to_owned(), plan["steps"].as_array().unwrap().clone())
}

/// What was done at this caller's word, oldest first.
fn done(agent: &TestAgent) -> Vec<String> {
    let list = agent.ctl(&["oplog", "list", "--limit", "1000", "-o", "json"]).ok().response();
    let mut entries: Vec<_> = list["entries"].as_array().unwrap().iter().collect();
    entries.sort_by_key(|entry| entry["sequence"].as_str().unwrap().parse::<u64>().unwrap());
    let of_caller =
        entries.iter().filter(|entry| entry["actor"].as_str().unwrap().starts_with("unix:"));
    of_caller
        .map(|entry| {
            let [action, outcome] = ["action", "outcome"].map(|key| entry[key].as_str().unwrap());
            format!("{action} {outcome}")
        })
        .collect()
}

/// Plans `command`, lets the world change, and holds the command to the plan.
#[track_caller]
fn overtaken(agent: &TestAgent, command: &[&str], change: impl FnOnce()) {
    let before = done(agent);
    let (hash, steps) = plan(agent, command);
    assert!(!steps.is_empty(), "{command:?}");
    assert_eq!(plan(agent, command).0, hash, "{command:?}: the same in the same world");
    assert_eq!(done(agent), before, "{command:?}: planning does nothing");
    change();
    let before = done(agent);
    let held = [command, &["--yes", "--plan-hash", &hash]].concat();
    agent.ctl(&held).exits(9).says(&["PLAN_CHANGED", "--plan"]);
    let after = done(agent);
    assert_eq!(after.len(), before.len() + 1, "{command:?}: {after:#?}");
    let refused = after.last().unwrap();
    assert!(refused.starts_with("call ") && refused.ends_with(" ABORTED"), "{refused}");
    let (hash, _) = plan(agent, command);
    let held = [command, &["--yes", "--plan-hash", &hash]].concat();
    let ended = agent.ctl(&held);
    // Without checks nobody can tell how the host does after a rollback.
    ended.exits(if command[0] == "rollback" { 5 } else { 0 });
}

#[test]
fn whatever_changes_something_does_nothing_when_its_plan_was_overtaken() {
    let agent = host();
    let config = std::fs::read_to_string(agent.config()).unwrap();
    let log = agent.log("t.log");
    let configure =
        |extra: &str| std::fs::write(agent.config(), format!("{config}{extra}")).unwrap();

    overtaken(&agent, &["schedule", "pause", "storage.compact"], || {
        agent.ctl(&["schedule", "pause", "storage.compact"]).ok();
    });
    overtaken(&agent, &["schedule", "resume", "storage.compact"], || {
        agent.ctl(&["schedule", "resume", "storage.compact"]).ok();
    });
    configure("[contacts]\non_call = \"night desk\"\n");
    overtaken(&agent, &["config", "reload"], || configure("[agent]\nlog_level = \"debug\"\n"));
    overtaken(&agent, &["rollback", "--component", "config"], || {
        configure("[agent]\nlog_level = \"warn\"\n");
        agent.ctl(&["config", "reload"]).ok();
    });
    std::fs::write(&log, lines::text(0..100)).unwrap();
    overtaken(&agent, &["logs", "rotate", "--log-type", "trading"], || {
        std::fs::rename(&log, agent.log("t.log.by-somebody")).unwrap();
        std::fs::write(&log, lines::text(0..100)).unwrap();
    });
    agent.wait_verified("trading", 1);
    overtaken(&agent, &["logs", "cleanup", "--older-than", "365d"], || {
        std::fs::write(&log, lines::text(100..200)).unwrap();
        agent.rotate("trading");
        agent.wait_verified("trading", 2);
    });
    let hold = ["logs", "hold", "--log-type", "trading", "--reason", "audit"];
    overtaken(&agent, &hold, || {
        agent.ctl(&hold).ok();
    });
    let holds = agent.ctl(&["logs", "holds", "-o", "json"]).ok().response();
    let id = holds["holds"][0]["id"].as_str().unwrap();
    let release = ["logs", "release", id, "--reason", "closed"];
    let (hash, _) = plan(&agent, &release);
    agent.ctl(&[&release[..], &["--plan-hash", "0123456789abcdef"]].concat()).exits(9);
    agent.ctl(&[&release[..], &["--plan-hash", &hash]].concat()).ok();
    std::fs::write(&log, lines::text(100..200)).unwrap();
    agent.rotate("trading");
    let reason = ["--override-retention", "--reason", "personal data"];
    overtaken(
        &agent,
        &[&["logs", "cleanup", "--older-than", "0s", "--log-type", "trading"], &reason[..]]
            .concat(),
        || {
            std::fs::write(&log, lines::text(200..300)).unwrap();
            agent.rotate("trading");
        },
    );
    overtaken(&agent, &["emergency", "activate"], || {
        agent.ctl(&["emergency", "activate", "--reason", "somebody was faster"]).ok();
    });
    overtaken(&agent, &["emergency", "release", "--reason", "over"], || {
        agent.ctl(&["emergency", "release", "--reason", "over"]).ok();
        agent.ctl(&["emergency", "activate", "--reason", "another one"]).ok();
    });
}

#[test]
fn a_run_that_is_being_cancelled_already_is_another_plan() {
    let agent = host();
    let log = agent.log("t.log");
    std::fs::write(&log, lines::text(0..10)).unwrap();
    let writer = OpenOptions::new().append(true).open(&log).unwrap();
    agent.ctl(&["logs", "rotate", "--log-type", "trading", "--detach"]).ok();
    let cancel = ["run", "cancel", "last"];
    let (hash, _) = plan(&agent, &cancel);
    agent.ctl(&[&cancel[..], &["--plan-hash", "0123456789abcdef"]].concat()).exits(9);
    agent.ctl(&[&cancel[..], &["--plan-hash", &hash]].concat()).ok();
    // It is being cancelled, or over.
    agent.ctl(&[&cancel[..], &["--plan-hash", &hash]].concat()).exits(9);
    drop(writer);
}

#[test]
fn a_plan_is_for_its_own_request() {
    let agent = host();
    let (hash, _) = plan(&agent, &["oplog", "note", "the feed is late"]);
    let other = ["oplog", "note", "the feed is early", "--plan-hash", &hash];
    agent.ctl(&other).exits(9).says(&["PLAN_CHANGED"]);
    let (hash, _) = plan(&agent, &["schedule", "run", "storage.compact"]);
    let other = ["schedule", "run", "logs.local-retention", "--plan-hash", &hash];
    agent.ctl(&other).exits(9).says(&["PLAN_CHANGED"]);
    agent.ctl(&["schedule", "run", "storage.compact", "--plan-hash", &hash]).ok();
    assert!(!done(&agent).iter().any(|entry| entry.starts_with("note")), "{:?}", done(&agent));
}
