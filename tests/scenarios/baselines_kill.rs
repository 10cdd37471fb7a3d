//! The agent dies while observations come in, are packed, judged and calculated: what was answered is there once.

use genesis_tests::TestAgent;
use genesis_tests::clock::{now, wait_until};
use jiff::SignedDuration;

use crate::baselines::{Traffic, file, history, observe, shown};
use genesis_tests::wall_clock::WallClock;

/// What the baseline is of once it is calculated anew.
fn counted(agent: &TestAgent) -> u64 {
    agent.ctl(&["baseline", "recalculate"]).ok();
    shown(agent)["operation"]["baseline"]["count"].as_str().unwrap().parse().unwrap()
}

#[test]
fn what_comes_in_while_it_is_killed_is_there_once() {
    let mut agent = TestAgent::new(|_| String::new());
    let mut traffic = Traffic::new(5);
    let mut expected = 0;
    for (round, (point, nth)) in [
        // What comes while one is written may be written with the next one, all of it.
        ("baselines.before-commit", 1),
        ("baselines.before-commit", 2),
        ("baselines.after-commit", 1),
        ("baselines.after-commit", 2),
    ]
    .into_iter()
    .enumerate()
    {
        let until = now().as_second();
        let text = traffic.csv("orders.place", until - 7_200, until - 10, 6_000, 1.0);
        let path = file(agent.folder(), &format!("round-{round}.csv"), &text);
        agent.start_with_failpoint(point, nth);
        agent.wait_ready();
        let mut sending = agent
            .ctl_command(&["observe", "--batch-rows", "500", "--file", path.to_str().unwrap()])
            .spawn()
            .unwrap();
        agent.wait_killed();
        agent.start();
        // The client that waited goes on by itself, or somebody sends the file again.
        let went_on = sending.wait().unwrap().success();
        let again = observe(&agent, &path, &["--batch-rows", "500"]).ok();
        expected += 6_000;
        assert_eq!(counted(&agent), expected, "{point}:{nth}, {went_on}, {}", again.text());
        agent.terminate();
    }
    agent.start();
    agent.ctl(&["oplog", "verify"]).ok();
}

#[test]
fn random_kills_under_a_stream_lose_and_double_nothing() {
    let long = std::env::var_os("GENESIS_LONG").is_some_and(|value| value == "1");
    let mut agent = TestAgent::new(|_| String::new());
    let mut traffic = Traffic::new(6);
    let mut expected = 0;
    for round in 0..if long { 60 } else { 5 } {
        let until = now().as_second();
        let text = traffic.csv("orders.place", until - 3_600, until - 10, 40_000, 1.0);
        let path = file(agent.folder(), &format!("round-{round}.csv"), &text);
        agent.start();
        let mut sending = agent
            .ctl_command(&["observe", "--batch-rows", "200", "--file", path.to_str().unwrap()])
            .spawn()
            .unwrap();
        // Somewhere in the middle: by how much has come, not by a time that machines differ in.
        let wanted = expected + 2_000 * (1 + round % 9);
        wait_until("some of it to be there", || {
            let metrics = genesis_tests::http::get(agent.http(), "/metrics").1;
            let line = metrics.lines().find(|it| {
                it.starts_with("genesis_baselines_observations_total{outcome=\"counted\"}")
            });
            let count: u64 = line.unwrap().rsplit(' ').next().unwrap().parse().unwrap();
            expected + count >= wanted || sending.try_wait().unwrap().is_some()
        });
        agent.kill();
        agent.start();
        let _ = sending.wait();
        observe(&agent, &path, &["--batch-rows", "200"]).ok();
        expected += 40_000;
        assert_eq!(counted(&agent), expected, "round {round}");
        agent.terminate();
    }
}

#[test]
fn a_calculation_that_is_killed_leaves_the_old_baseline_or_the_new_one() {
    for (point, generation) in
        [("baselines.before-generation", 1), ("baselines.after-generation", 2)]
    {
        let mut agent = TestAgent::new(|_| String::new());
        agent.start();
        let mut traffic = Traffic::new(7);
        history(&agent, &mut traffic, 0);
        let before = shown(&agent)["operation"]["baseline"].clone();
        let until = now().as_second();
        let text = traffic.csv("orders.place", until - 3_600, until - 10, 1_000, 1.0);
        observe(&agent, &file(agent.folder(), "more.csv", &text), &[]).ok();
        agent.terminate();
        agent.start_with_failpoint(point, 1);
        agent.wait_ready();
        let mut run = agent.ctl_command(&["baseline", "recalculate"]).spawn().unwrap();
        agent.wait_killed();
        let _ = run.kill();
        let _ = run.wait();
        agent.start();
        let after = shown(&agent)["operation"]["baseline"].clone();
        assert_eq!(after["generation"], generation, "{point}: {after:#}");
        let same = after["count"] == before["count"];
        assert_eq!(same, generation == 1, "{after:#}");
        assert_eq!(counted(&agent), 49_000);
        agent.ctl(&["oplog", "verify"]).ok();
    }
}

#[test]
fn a_look_and_a_care_that_are_killed_are_made_up_for() {
    let mut agent = TestAgent::new(|_| String::new());
    let clock = WallClock::of(&mut agent);
    agent.start();
    let mut traffic = Traffic::new(8);
    history(&agent, &mut traffic, 0);
    agent.terminate();
    agent.start_with_failpoint("baselines.before-keep", 1);
    agent.wait_ready();
    let until = now().as_second();
    let text = traffic.csv("orders.place", until - 900, until - 10, 2_000, 1.0);
    let path = file(agent.folder(), "window.csv", &text);
    let mut sending =
        agent.ctl_command(&["observe", "--file", path.to_str().unwrap()]).spawn().unwrap();
    let _ = sending.wait();
    clock.ahead(SignedDuration::from_secs(400));
    agent.wait_killed();
    agent.start();
    wait_until("the windows to be judged after all", || {
        shown(&agent)["windows"].as_array().is_some_and(|it| !it.is_empty())
    });
    agent.terminate();
    // Raw rows are packed in steps, each of them whole.
    clock.ahead(SignedDuration::from_hours(2));
    agent.start_with_failpoint("baselines.packed", 1);
    agent.wait_ready();
    let mut care = agent.ctl_command(&["schedule", "run", "baselines.upkeep"]).spawn().unwrap();
    agent.wait_killed();
    let _ = care.kill();
    let _ = care.wait();
    agent.start();
    agent.ctl(&["schedule", "run", "baselines.upkeep"]).ok();
    assert_eq!(counted(&agent), 50_000);
}

#[test]
fn a_disk_that_stands_still_keeps_the_sender_waiting_and_loses_nothing() {
    let mut agent = TestAgent::new(|_| String::new());
    let pause = agent.folder().join("pause");
    agent.environment("GENESIS_PAUSE", &format!("baselines.before-commit:{}", pause.display()));
    agent.start();
    std::fs::write(&pause, "").unwrap();
    let mut traffic = Traffic::new(9);
    let until = now().as_second();
    let text = traffic.csv("orders.place", until - 3_600, until - 10, 100_000, 1.0);
    let path = file(agent.folder(), "all.csv", &text);
    let mut sending = agent
        .ctl_command(&["observe", "--batch-rows", "500", "--file", path.to_str().unwrap()])
        .spawn()
        .unwrap();
    let reached = std::path::PathBuf::from(format!("{}.reached", pause.display()));
    wait_until("the disk to stand still", || reached.exists());
    // Everything else goes on, and the sender waits.
    agent.ctl(&["status"]).ok();
    assert!(sending.try_wait().unwrap().is_none(), "it has nothing left to wait for");
    agent.ctl(&["emergency", "status"]).ok();
    std::fs::remove_file(&pause).unwrap();
    assert!(sending.wait().unwrap().success());
    assert_eq!(counted(&agent), 100_000);
}
