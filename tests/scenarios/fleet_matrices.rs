//! One matrix for all hosts of a fleet, through a real etcd.

use genesis_tests::TestAgent;
use genesis_tests::clock::{wait_for, wait_until};
use genesis_tests::etcd::Etcd;
use serde_json::Value;

use crate::fleet_etcd::of_fleet;
use crate::matrices::{Feed, GOOD, push, state_of};

const POINTER: &str = "/genesis/prod/common/matrices/current";

fn config(etcd: &Etcd, sharing: &str, stages: &str) -> String {
    format!(
        "[health]\ndefaults = false\n[matrices]\nwindow = \"2d\"\nfleet = \"{sharing}\"\n\
         [matrices.drift]\nmax = \"2\"\n[matrices.rollout]\nstages = {stages}\n{}",
        of_fleet(&etcd.endpoints(), "2s")
    )
}

fn host(etcd: &Etcd, name: &str, sharing: &str) -> TestAgent {
    let stages = if sharing == "publish" { "[\"100%\"]" } else { "[\"50%\", \"100%\"]" };
    let config = config(etcd, sharing, stages);
    let mut agent = TestAgent::new(|_| config);
    agent.hostname(name);
    agent
}

fn started(etcd: &Etcd, name: &str, sharing: &str) -> TestAgent {
    let mut agent = host(etcd, name, sharing);
    agent.start();
    agent
}

/// Has the publisher put a new matrix into force.
fn update(agent: &TestAgent, seed: u64) {
    push(agent, "prices.csv", &Feed::new(seed).csv(400, &GOOD));
    agent.ctl(&["matrix", "update", "--reason", "new prices"]).ok().says(&["active"]);
}

fn fleet(agent: &TestAgent) -> Value {
    agent.ctl(&["matrix", "fleet", "-o", "json"]).response()
}

/// What a host says: the number, and its state.
fn said(agent: &TestAgent, name: &str) -> Option<(u64, String)> {
    let fleet = fleet(agent);
    let host = fleet["hosts"].as_array()?.iter().find(|it| it["hostname"] == name)?.clone();
    let state = host["state"].as_str()?.trim_start_matches("FLEET_MATRIX_STATE_").to_owned();
    Some((host["number"].as_str()?.parse().ok()?, state))
}

#[track_caller]
fn wait_said(agent: &TestAgent, name: &str, number: u64, state: &str) {
    let wanted = (number, state.to_owned());
    wait_until(&format!("{name}: {number} {state}"), || {
        said(agent, name).as_ref() == Some(&wanted)
    });
}

fn digest(agent: &TestAgent) -> String {
    let shown = agent.ctl(&["matrix", "show", "-o", "json"]).response();
    shown["about"]["digest"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn one_publishes_and_all_others_follow_also_who_was_away() {
    let etcd = Etcd::start();
    let a = started(&etcd, "a", "publish");
    let b = started(&etcd, "b", "follow");
    let mut c = started(&etcd, "c", "follow");
    wait_said(&a, "b", 0, "WAITING");
    a.ctl(&["matrix", "fleet"]).exits(5).says(&["nothing is published", "WAITING"]);
    b.ctl(&["matrix", "update", "--reason", "x"]).exits(4).says(&["MATRIX_FOLLOWED"]);
    update(&a, 1);
    for host in [&b, &c] {
        wait_until("the first matrix", || digest(host) == digest(&a));
    }
    wait_said(&a, "b", 1, "IN_FORCE");
    wait_said(&a, "c", 1, "IN_FORCE");
    // Whoever is asked, it is the same answer.
    b.ctl(&["matrix", "fleet", "-v"]).ok().says(&["in force on 3 of 3 hosts", "publishes", "a"]);
    let history = b.ctl(&["matrix", "history", "-o", "json"]).response();
    assert_eq!(history["versions"][0]["fleetNumber"], "1");
    assert_eq!(history["versions"][0]["cause"], "the fleet");

    // c is away for two of them, and takes the newest alone.
    c.terminate();
    update(&a, 2);
    wait_said(&a, "b", 2, "ROLLING_OUT");
    update(&a, 3);
    wait_said(&a, "b", 3, "WAITING");
    wait_until("c to be gone", || a.ctl(&["matrix", "fleet"]).text().contains("gone"));
    a.ctl(&["matrix", "fleet"]).exits(5).says(&["is being rolled out here"]);
    c.start();
    wait_said(&a, "c", 3, "ROLLING_OUT");
    assert_eq!(state_of(&c, 2), "CANARY");
    for host in [&b, &c] {
        host.ctl(&["matrix", "rollout", "abort", "--reason", "hedges are off"]).ok();
    }
    wait_said(&a, "b", 3, "ROLLING_OUT");
    wait_said(&a, "c", 3, "ROLLED_BACK");
    b.ctl(&["matrix", "rollout", "advance", "--reason", "few outcomes"]).ok();
    b.ctl(&["matrix", "rollout", "advance", "--reason", "few outcomes"]).ok();
    wait_said(&a, "b", 3, "IN_FORCE");
    a.ctl(&["matrix", "fleet"]).exits(3).says(&["ROLLED_BACK", "hedges are off"]);

    // The publisher's way back is that of all, at once.
    a.ctl(&["matrix", "rollback", "--to", "1", "--reason", "worse"]).ok();
    for host in [&b, &c] {
        wait_until("the way back", || digest(host) == digest(&a));
    }
    wait_said(&a, "b", 4, "IN_FORCE");
    wait_said(&a, "c", 4, "IN_FORCE");
    a.ctl(&["matrix", "fleet"]).ok().says(&["which was gone back to"]);
}

#[test]
fn a_publisher_that_was_frozen_past_its_lease_is_refused() {
    let etcd = Etcd::start();
    let mut a = host(&etcd, "a", "publish");
    let pause = a.folder().join("pause");
    let reached = a.folder().join("pause.reached");
    a.environment("GENESIS_PAUSE", &format!("matrices.before-publish:{}", pause.display()));
    a.start();
    let b = started(&etcd, "b", "publish");
    update(&a, 1);
    wait_said(&b, "a", 1, "IN_FORCE");
    // a stands still, between what it wrote and the pointer to it, with the lock in its hands.
    std::fs::write(&pause, "").unwrap();
    update(&a, 2);
    wait_until("a pause", || reached.exists());
    a.freeze();
    update(&b, 3);
    wait_for("b's matrix", || {
        let current = fleet(&b)["current"].clone();
        (current["hostname"] == "b").then_some(current)
    });
    assert_eq!(fleet(&b)["current"]["number"], "2");
    let published = etcd.get(POINTER);
    std::fs::remove_file(&pause).unwrap();
    a.thaw();
    // It says so, and the fleet has what it had.
    wait_said(&b, "a", 2, "WAITING");
    b.ctl(&["matrix", "fleet"]).exits(5).says(&["b has published since"]);
    assert_eq!(etcd.get(POINTER), published);
    // The next that it puts into force is published.
    update(&a, 4);
    wait_for("a's matrix", || {
        let current = fleet(&b)["current"].clone();
        (current["hostname"] == "a").then_some(current)
    });
    assert_eq!(fleet(&b)["current"]["number"], "3");
}

#[test]
fn a_content_that_was_damaged_in_etcd_is_refused_by_its_hash() {
    let etcd = Etcd::start();
    let a = started(&etcd, "a", "publish");
    let mut b = started(&etcd, "b", "follow");
    update(&a, 1);
    wait_said(&a, "b", 1, "IN_FORCE");
    b.terminate();
    update(&a, 2);
    wait_said(&a, "a", 2, "IN_FORCE");
    etcd.put(&format!("/genesis/prod/matrices/versions/{:020}/0000", 2), "not what it was");
    b.start();
    wait_said(&a, "b", 2, "REFUSED");
    b.ctl(&["matrix", "fleet"]).exits(3).says(&["REFUSED", "its content is damaged"]);
    b.ctl(&["status"]).exits(3).says(&["FLEET_MATRIX_STANDS"]);
    assert_eq!(state_of(&b, 1), "ACTIVE");
    // The next one is whole.
    update(&a, 3);
    wait_said(&a, "b", 3, "ROLLING_OUT");
}

#[test]
fn a_publisher_that_dies_at_any_point_publishes_once_it_is_back() {
    let etcd = Etcd::start();
    let b = started(&etcd, "b", "follow");
    for (turn, point) in ["matrices.before-publish", "matrices.after-publish"].iter().enumerate() {
        let mut a = host(&etcd, &format!("a{turn}"), "publish");
        a.start_with_failpoint(point, 1);
        a.wait_ready();
        push(&a, "prices.csv", &Feed::new(turn as u64 + 1).csv(400, &GOOD));
        a.ctl(&["matrix", "update", "--detach", "--reason", "new prices"]);
        a.wait_killed();
        a.start();
        wait_said(&b, &format!("a{turn}"), turn as u64 + 1, "IN_FORCE");
        wait_until("the matrix", || {
            let history = b.ctl(&["matrix", "history", "-o", "json"]).response();
            history["versions"].as_array().unwrap().iter().any(|it| it["digest"] == digest(&a))
        });
        let keys = etcd.keys("/genesis/prod/matrices/versions/");
        assert_eq!(keys.len(), turn + 1, "{keys:?}");
        a.terminate();
    }
}
