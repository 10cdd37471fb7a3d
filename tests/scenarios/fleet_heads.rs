//! The heads of operation logs, kept in a real etcd where no host can take them back.

use genesis_tests::clock::wait_until;
use genesis_tests::etcd::Etcd;
use genesis_tests::{TestAgent, ctl};

use crate::fleet_etcd::host;
use crate::rollback::{STATE, back, size};

fn key(etcd: &Etcd) -> String {
    let keys = etcd.keys("/genesis/prod/heads/");
    assert_eq!(keys.len(), 1, "{keys:?}");
    keys.into_iter().next().unwrap()
}

/// The sequence that the fleet has.
fn known(etcd: &Etcd) -> u64 {
    let Some(key) = etcd.keys("/genesis/prod/heads/").pop() else { return 0 };
    let told: serde_json::Value = serde_json::from_str(&etcd.get(&key).unwrap()).unwrap();
    told["sequence"].as_u64().unwrap()
}

/// The fleet has the head of the log as it is now, or a later one.
fn wait_told(etcd: &Etcd, agent: &TestAgent) {
    let head = agent.ctl(&["oplog", "verify", "-o", "json"]).response()["head"].clone();
    let sequence: u64 = head["sequence"].as_str().unwrap().parse().unwrap();
    wait_until("the fleet's head", || known(etcd) >= sequence);
}

#[test]
fn a_log_that_was_cut_is_noticed_by_what_the_fleet_knows() {
    let etcd = Etcd::start();
    let mut agent = host("a", &etcd.endpoints());
    agent.start();
    agent.ctl(&["oplog", "note", "first"]).ok();
    wait_told(&etcd, &agent);
    agent.ctl(&["oplog", "verify"]).ok().says(&["intact", "the fleet agrees"]);
    agent.ctl(&["oplog", "accept-head", "--reason", "x", "--yes"]).exits(9).says(&["HEAD_AGREES"]);
    agent.terminate();
    let older = std::fs::read(agent.database()).unwrap();
    agent.start();
    for _ in 0..5 {
        agent.ctl(&["oplog", "note", "what nobody should know"]).ok();
    }
    wait_told(&etcd, &agent);
    let (before, key) = (known(&etcd), key(&etcd));
    let kept = etcd.get(&key);
    agent.terminate();

    // The state of before is put in its place: by itself the log is whole.
    std::fs::write(agent.database(), &older).unwrap();
    agent.start();
    wait_until("that people hear of it", || {
        agent.ctl(&["alerts", "list"]).text().contains("not what the fleet knows of it")
    });
    let verified = agent.ctl(&["oplog", "verify"]).exits(3);
    verified.says(&["NOT INTACT", "OPLOG_TRUNCATED", "the fleet DISAGREES", &before.to_string()]);
    agent.ctl(&["status"]).exits(3).says(&["FLEET_HEAD"]);
    // However long it becomes meanwhile, the fleet's head stays.
    for _ in 0..12 {
        agent.ctl(&["oplog", "note", "later"]).ok();
    }
    agent.ctl(&["oplog", "verify"]).exits(3).says(&["OPLOG_HEAD_MISMATCH"]);
    assert_eq!(etcd.get(&key), kept);

    // Nobody who can't say why accepts it.
    agent.ctl(&["oplog", "accept-head", "--yes"]).exits(2).says(&["--reason"]);
    agent.ctl(&["oplog", "accept-head", "--plan"]).ok().says(&["give-up", &before.to_string()]);
    let reason = ["--reason", "restored from Monday's snapshot", "--yes"];
    agent.ctl(&[&["oplog", "accept-head"], &reason[..]].concat()).ok().says(&["in place of"]);
    agent
        .ctl(&["oplog", "verify"])
        .ok()
        .says(&["the fleet agrees", "restored from Monday's snapshot"]);
    wait_until("the end of the alert", || {
        !agent.ctl(&["alerts", "list"]).text().contains("not what the fleet knows of it")
    });
    agent
        .ctl(&["oplog", "list", "--action", "oplog.head-accepted"])
        .ok()
        .says(&[&before.to_string()]);
}

#[test]
fn without_etcd_nobody_says_that_a_log_is_whole() {
    let etcd = Etcd::start();
    let mut agent = host("a", &etcd.endpoints());
    agent.start();
    wait_told(&etcd, &agent);
    etcd.kill();
    agent.ctl(&["oplog", "verify"]).exits(5).says(&["intact", "UNKNOWN to the fleet"]);
    agent
        .ctl(&["oplog", "accept-head", "--reason", "x", "--yes"])
        .exits(4)
        .says(&["FLEET_UNREACHABLE"]);
    // A file is of no fleet, and a host on its own is asked for none.
    let file = agent.folder().join("oplog.jsonl");
    agent.ctl(&["oplog", "export", "--out", file.to_str().unwrap()]).ok();
    ctl(&["oplog", "verify", "--file", file.to_str().unwrap()]).ok();
    agent.terminate();
    agent.configure("");
    agent.start();
    let verified = agent.ctl(&["oplog", "verify", "-o", "json"]).ok().response();
    assert_eq!(verified["fleet"], serde_json::Value::Null);
    agent
        .ctl(&["oplog", "accept-head", "--reason", "x", "--yes"])
        .exits(4)
        .says(&["FLEET_UNCONFIGURED"]);
}

#[test]
fn a_state_that_the_agent_itself_puts_back_keeps_its_log() {
    let etcd = Etcd::start();
    let mut agent = host("a", &etcd.endpoints());
    agent.start();
    let set = |agent: &TestAgent, value: &str| {
        agent.ctl(&["param", "set", "--strategy", "mm", value, "--reason", "r"]).ok();
    };
    set(&agent, "size=10");
    let (_, backup) = agent.backup("agent");
    set(&agent, "size=20");
    wait_told(&etcd, &agent);
    let before = known(&etcd);
    back(&agent, "state", &[&["--to", &backup.id], &STATE[..]].concat());
    agent.restart();
    assert_eq!(size(&agent), "10");
    agent.ctl(&["oplog", "verify"]).ok().says(&["the fleet agrees"]);
    wait_told(&etcd, &agent);
    assert!(known(&etcd) > before);

    // Where nothing can go forward the log is not what it was, and that is told.
    back(&agent, "state", &[&["--to", &backup.id], &STATE[..]].concat());
    wait_told(&etcd, &agent);
    agent.terminate();
    std::fs::write(agent.database(), vec![7; 8_192]).unwrap();
    agent.start();
    agent.ctl(&["oplog", "verify"]).exits(3).says(&["OPLOG_TRUNCATED"]);
}
