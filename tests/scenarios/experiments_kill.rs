//! The agent dies while trades come in and experiments end: the same W, the same decision, each trade once.

use genesis_tests::TestAgent;
use genesis_tests::clock::wait_until;
use serde_json::Value;

use crate::experiments::{Market, begun, file, push, shown};

/// What must not depend on crashes: both arms, what the look found, the curve, how it ended.
fn found(agent: &TestAgent) -> Value {
    let mut shown = shown(agent, "TEST_1");
    // When looks were taken is another time here and there.
    fn strip(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                for key in ["at", "startedAt", "hash", "owner", "duplicate"] {
                    fields.remove(key);
                }
                fields.values_mut().for_each(strip);
            }
            Value::Array(items) => items.iter_mut().for_each(strip),
            _ => {}
        }
    }
    strip(&mut shown);
    shown
}

fn killed_at(point: &str, nth: u64, means: [f64; 2]) {
    let (calm, mut agent) =
        (TestAgent::started(|_| String::new()), TestAgent::new(|_| String::new()));
    begun(&calm, "50/50", &["--seed", "s"]);
    agent.start();
    begun(&agent, "50/50", &["--seed", "s"]);
    let trades = Market::new(nth + 7).csv("TEST_1", 0, 600, means);
    let rows = ["--batch-rows", "20"];
    push(&calm, &file(&calm, "trades.csv", &trades), &rows);
    agent.terminate();
    let path = file(&agent, "trades.csv", &trades);
    agent.start_with_failpoint(point, nth);
    agent.wait_ready();
    let mut sending = agent
        .ctl_command(&["trades", "push", "--batch-rows", "20", "--file", path.to_str().unwrap()])
        .spawn()
        .unwrap();
    agent.wait_killed();
    agent.start();
    let _ = sending.wait();
    push(&agent, &path, &rows);
    let ended = found(&calm)["experiment"]["conclusion"].is_object();
    wait_until("what was decided to be over", || {
        found(&agent)["experiment"]["conclusion"].is_object() == ended
    });
    let (calm, killed) = (found(&calm), found(&agent));
    assert_eq!(killed["curve"], calm["curve"], "{point}:{nth}");
    assert_eq!(killed, calm, "{point}:{nth}");
    agent.ctl(&["oplog", "verify"]).ok();
}

#[test]
fn killed_around_a_commit_the_looks_are_the_same() {
    for (point, nth) in [
        ("experiments.before-commit", 1),
        ("experiments.before-commit", 2),
        ("experiments.after-commit", 1),
        ("experiments.after-commit", 2),
    ] {
        killed_at(point, nth, [1.0, 1.05]);
    }
}

#[test]
fn killed_around_the_end_it_ends_once_and_the_same_way() {
    for point in ["experiments.before-conclusion", "experiments.after-conclusion"] {
        for means in [[2.0, 2.8], [1.0, 0.2]] {
            killed_at(point, 1, means);
        }
    }
}

#[test]
fn a_disk_that_stands_still_keeps_the_sender_waiting_and_each_trade_counts_once() {
    let mut agent = TestAgent::new(|_| String::new());
    let pause = agent.folder().join("pause");
    agent.environment("GENESIS_PAUSE", &format!("experiments.before-commit:{}", pause.display()));
    agent.start();
    // Nothing of it is decided here.
    begun(&agent, "50/50", &["--least", "10000", "--planned", "10000"]);
    std::fs::write(&pause, "").unwrap();
    let path = file(&agent, "all.csv", &Market::new(3).csv("TEST_1", 0, 2_000, [1.0, 1.0]));
    let push = ["trades", "push", "--batch-rows", "100", "--file", path.to_str().unwrap()];
    let mut sending = agent.ctl_command(&push).spawn().unwrap();
    let reached = agent.folder().join("pause.reached");
    wait_until("the disk to stand still", || reached.exists());
    // Everything else goes on, and the sender waits.
    agent.ctl(&["param", "get", "--strategy", "mm", "threshold"]).ok().says(&["0.002"]);
    assert!(sending.try_wait().unwrap().is_none(), "it has nothing left to wait for");
    std::fs::remove_file(&pause).unwrap();
    assert!(sending.wait().unwrap().success());
    let experiment = shown(&agent, "TEST_1")["experiment"].clone();
    let n = |arm: &str| experiment[arm]["n"].as_str().unwrap().to_owned();
    assert_eq!((n("control"), n("variant")), ("1000".to_owned(), "1000".to_owned()));
}
