//! The agent dies while versions come into use and go, and while values come in: consumers have the old matrix or the new
//! one, whole, and nothing that was answered is lost.

use std::time::Duration;

use genesis_tests::clock::wait_until;
use genesis_tests::{Ballast, TestAgent};
use serde_json::Value;

use crate::experiments::file;
use crate::matrices::{CONFIG, Feed, GOOD, history, push, state_of, with_a_matrix};

fn long() -> bool {
    std::env::var_os("GENESIS_LONG").is_some()
}

/// What is active is served whole, as it was calculated.
fn whole(agent: &TestAgent) -> u64 {
    let history = history(agent);
    let active = history["active"].as_str().unwrap().to_owned();
    let versions = history["versions"].as_array().unwrap();
    let known = versions.iter().find(|it| it["version"] == active.as_str()).unwrap();
    let shown = agent.ctl(&["matrix", "show", "-o", "json"]).response();
    assert_eq!(shown["matrix"]["version"], active.as_str());
    assert_eq!(shown["matrix"]["digest"], known["digest"]);
    let (series, upper) = (&shown["matrix"]["series"], &shown["matrix"]["upper"]);
    let count = series.as_array().unwrap().len();
    assert_eq!(upper.as_array().unwrap().len(), count * (count - 1) / 2);
    let states = versions.iter().map(|it| it["state"].as_str().unwrap());
    assert_eq!(states.filter(|it| *it == "MATRIX_STATE_ACTIVE").count(), 1, "{history:#}");
    active.parse().unwrap()
}

/// With two versions that were active, the second of which is.
fn with_two(agent: &TestAgent) {
    with_a_matrix(agent);
    push(agent, "more.csv", &Feed::new(2).csv(400, &GOOD));
    agent.ctl(&["matrix", "update", "--reason", "r"]).ok();
    for _ in 0..4 {
        agent.ctl(&["matrix", "rollout", "advance", "--reason", "r"]).ok();
    }
    assert_eq!(whole(agent), 2);
}

#[test]
fn killed_at_each_point_of_a_change_there_is_the_old_or_the_new() {
    for (point, done) in [("matrices.before-change", false), ("matrices.after-change", true)] {
        let mut agent = TestAgent::started(|_| CONFIG.to_owned());
        with_two(&agent);
        // A rollback.
        agent.terminate();
        agent.start_with_failpoint(point, 1);
        agent.wait_ready();
        let mut asked =
            agent.ctl_command(&["matrix", "rollback", "--reason", "r"]).spawn().unwrap();
        agent.wait_killed();
        agent.start();
        let _ = asked.wait();
        // Where the client asked again, the agent knows the request.
        let active = whole(&agent);
        assert!(active == 1 || !done, "{point}: {active}");
        agent
            .ctl(&[
                "matrix",
                "rollback",
                "--to",
                if active == 1 { "2" } else { "1" },
                "--reason",
                "r",
            ])
            .ok();
        // An update that comes in.
        agent.terminate();
        agent.start_with_failpoint(point, 1);
        agent.wait_ready();
        let mut asked = agent.ctl_command(&["matrix", "update", "--reason", "r"]).spawn().unwrap();
        agent.wait_killed();
        agent.start();
        let _ = asked.wait();
        whole(&agent);
        let versions = history(&agent)["versions"].as_array().unwrap().len();
        assert!(versions == 3 || !done, "{point}: {versions}");
        wait_until("the run to be settled", || {
            let runs = agent.ctl(&["run", "list", "-o", "json"]).response();
            !runs.to_string().contains("RUN_STATE_RUNNING")
        });
        agent.ctl(&["oplog", "verify"]).ok();
    }
}

#[test]
fn killed_at_any_time_while_versions_are_swapped_consumers_have_one_of_them() {
    let mut agent = TestAgent::started(|_| CONFIG.to_owned());
    with_two(&agent);
    let mut random = Feed::new(77);
    for round in 0..if long() { 100 } else { 8 } {
        let active = whole(&agent);
        let to = if active == 1 { "2" } else { "1" };
        let rollback = ["matrix", "rollback", "--to", to, "--reason", "r"];
        let mut asked = agent.ctl_command(&rollback).spawn().unwrap();
        std::thread::sleep(Duration::from_micros((random.uniform() * 60_000.0) as u64));
        agent.kill();
        let _ = asked.kill();
        let _ = asked.wait();
        agent.start();
        let now = whole(&agent);
        assert!(now == 1 || now == 2, "round {round}");
    }
    agent.ctl(&["oplog", "verify"]).ok();
}

#[test]
fn killed_around_a_commit_values_count_once() {
    for (point, nth) in [("matrices.before-commit", 2), ("matrices.after-commit", 2)] {
        let text = Feed::new(5).csv(500, &GOOD);
        let calm = TestAgent::started(|_| CONFIG.to_owned());
        push(&calm, "prices.csv", &text);
        let mut agent = TestAgent::new(|_| CONFIG.to_owned());
        let path = file(&agent, "prices.csv", &text);
        agent.start_with_failpoint(point, nth);
        agent.wait_ready();
        let push = ["series", "push", "--batch-rows", "10", "--file", path.to_str().unwrap()];
        let mut sending = agent.ctl_command(&push).spawn().unwrap();
        agent.wait_killed();
        agent.start();
        let _ = sending.wait();
        agent.ctl(&push).ok();
        let known = |agent: &TestAgent| -> Value {
            agent.ctl(&["series", "list", "-o", "json"]).response()["series"].clone()
        };
        assert_eq!(known(&agent), known(&calm), "{point}");
        for agent in [&agent, &calm] {
            agent.ctl(&["matrix", "update", "--reason", "r"]).ok();
        }
        let digest = |agent: &TestAgent| history(agent)["versions"][0]["digest"].clone();
        assert_eq!(digest(&agent), digest(&calm), "{point}");
    }
}

#[test]
fn on_a_full_disk_values_wait_and_a_matrix_is_taken_back_all_the_same() {
    let mut agent = TestAgent::with_small_disk(48, |_| CONFIG.to_owned());
    agent.start();
    with_two(&agent);
    let ballast = Ballast::fill(agent.disk().join("ballast"));
    let names: Vec<String> = (0..200).map(|at| format!("S{at}")).collect();
    let many: Vec<(&str, f64)> = names.iter().map(|name| (name.as_str(), 0.5)).collect();
    let path = file(&agent, "many.csv", &Feed::new(6).csv(500, &many));
    let push = ["series", "push", "--file", path.to_str().unwrap(), "--timeout", "4s"];
    let refused = agent.ctl(&push);
    assert_ne!(refused.code, 0, "{}", refused.text());
    // A full disk can take longer to say so than the client waits.
    wait_until("it to be told", || {
        let status = agent.ctl(&["status"]);
        status.code == 3 && status.text().contains("SERIES_FAILING")
    });
    agent.ctl(&["matrix", "rollback", "--reason", "hedges are off"]).ok();
    assert_eq!((whole(&agent), state_of(&agent, 2)), (1, "ROLLED_BACK".to_owned()));
    ballast.release();
    agent.ctl(&push[..4]).ok();
    wait_until("them to be kept again", || !agent.ctl(&["status"]).text().contains("FAILING"));
    let known = agent.ctl(&["series", "list", "-o", "json"]).response();
    assert_eq!(known["series"].as_array().unwrap().len(), 204);
}

#[test]
fn on_a_disk_that_stands_still_values_wait_and_consumers_do_not() {
    let mut agent = TestAgent::new(|_| CONFIG.to_owned());
    let pause = agent.folder().join("pause");
    agent.environment("GENESIS_PAUSE", &format!("matrices.before-commit:{}", pause.display()));
    agent.start();
    with_a_matrix(&agent);
    std::fs::write(&pause, "").unwrap();
    let path = file(&agent, "more.csv", &Feed::new(2).csv(400, &GOOD));
    let push = ["series", "push", "--file", path.to_str().unwrap()];
    let mut sending = agent.ctl_command(&push).spawn().unwrap();
    let reached = agent.folder().join("pause.reached");
    wait_until("the disk to stand still", || reached.exists());
    assert_eq!(whole(&agent), 1);
    assert!(sending.try_wait().unwrap().is_none(), "it has nothing left to wait for");
    std::fs::remove_file(&pause).unwrap();
    assert!(sending.wait().unwrap().success());
    agent.ctl(&["matrix", "update", "--reason", "r"]).ok();
    assert_eq!(state_of(&agent, 2), "CANARY");
}
