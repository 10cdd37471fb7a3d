//! Strategy A/B tests where something is amiss: a disk that is full, a clock that is behind, a stream that is cut off; and
//! the verbs that people use rarely.

use std::io::Write as _;
use std::process::Stdio;

use genesis_tests::clock::{wait_for, wait_until};
use genesis_tests::{Ballast, TestAgent};
use jiff::SignedDuration;

use crate::experiments::{Market, begun, file, push, shown};
use genesis_tests::wall_clock::WallClock;

#[test]
fn on_a_full_disk_nothing_of_a_batch_counts_and_a_variant_is_taken_back_all_the_same() {
    let mut agent = TestAgent::with_small_disk(48, |_| "[health]\ndefaults = false\n".to_owned());
    agent.start();
    begun(&agent, "50/50", &[]);
    for pair in ["size=1", "skew=1"] {
        agent.ctl(&["param", "set", "--strategy", "mm", pair, "--reason", "code"]).ok();
    }
    let mut market = Market::new(5);
    let first = file(&agent, "first.csv", &market.csv("TEST_1", 0, 80, [1.0, 1.0]));
    push(&agent, &first, &[]).ok();
    let ballast = Ballast::fill(agent.disk().join("ballast"));
    let text = market.csv("TEST_1", 80, 60_000, [1.0, 1.0]);
    let second = file(&agent, "second.csv", &text);
    let refused = push(&agent, &second, &["--timeout", "4s"]);
    assert_ne!(refused.code, 0, "{}", refused.text());
    // A full disk can take longer to say so than the client waits.
    wait_until("it to be told", || {
        let status = agent.ctl(&["status"]);
        status.code == 3 && status.text().contains("TRADES_FAILING")
    });
    wait_for("people to hear of it", || agent.firing("trades"));
    let n = |id: &str| {
        let shown = shown(&agent, id);
        let n =
            |arm: &str| shown["experiment"][arm]["n"].as_str().map_or(0, |n| n.parse().unwrap());
        n("control") + n("variant")
    };
    assert_eq!(n("TEST_1"), 80, "nothing of what was refused counts");
    // However often it is tried: the room that a rollback needs is not used up by it.
    for _ in 0..3 {
        push(&agent, &second, &["--timeout", "2s"]);
    }
    let streams = agent.ctl(&["oplog", "list", "--action", "experiments.stream", "-o", "json"]);
    let streams = streams.response()["entries"].as_array().unwrap().len();
    assert!(streams <= 3, "{streams} streams were noted");
    // What is decided has room of its own.
    let create = ["experiment", "create", "--strategy", "mm", "--reason", "r"];
    agent.ctl(&[&create[..], &["--param", "size:2", "--split", "50/50"]].concat()).ok();
    let end = ["experiment", "conclude", "--action", "rollback", "--reason", "r", "--test-id"];
    agent.ctl(&[&end[..], &["TEST_2"]].concat()).ok();
    agent.ctl(&[&create[..], &["--param", "skew:2", "--split", "50/50"]].concat()).ok();

    ballast.release();
    push(&agent, &second, &[]);
    assert!(!agent.ctl(&["status"]).text().contains("FAILING"), "they are kept again");
    let ended = shown(&agent, "TEST_1");
    let counted = ended["experiment"].clone();
    assert!(n("TEST_1") > 80, "{counted:#}");
    // Those that were begun and ended meanwhile are as they should be.
    let third = market.csv("TEST_2", 0, 10, [1.0, 1.0]) + &market.csv("TEST_3", 0, 10, [1.0, 1.0]);
    let third: String = third
        .lines()
        .enumerate()
        .filter(|(at, line)| *at == 0 || !line.starts_with("experiment"))
        .map(|(_, line)| format!("{line}\n"))
        .collect();
    push(&agent, &file(&agent, "third.csv", &third), &[]).says(&["have ended"]);
    assert_eq!((n("TEST_2"), n("TEST_3")), (0, 10));
    agent.ctl(&["oplog", "verify"]).ok();
}

#[test]
fn what_is_far_ahead_of_this_hosts_clock_does_not_count_and_says_so() {
    let mut agent = TestAgent::new(|_| String::new());
    let clock = WallClock::of(&mut agent);
    clock.ahead(SignedDuration::from_mins(-10));
    agent.start();
    begun(&agent, "50/50", &[]);
    let trades = Market::new(6).csv("TEST_1", 0, 10, [1.0, 1.0]);
    let path = file(&agent, "trades.csv", &trades);
    push(&agent, &path, &[]).exits(5).says(&["in the future"]);
    assert_eq!(shown(&agent, "TEST_1")["experiment"]["rejected"], "10");
    // Once it is right they count: nothing was noted of their ids.
    clock.ahead(SignedDuration::ZERO);
    push(&agent, &path, &["--again"]).ok();
    assert_eq!(shown(&agent, "TEST_1")["experiment"]["control"]["n"], "5");
}

#[test]
fn what_is_heard_while_it_goes_on_and_what_was_set_before() {
    let mut agent = TestAgent::started(|_| String::new());
    begun(&agent, "50/50", &[]);
    let mut watch = agent
        .ctl_command(&["experiment", "watch", "-o", "jsonl"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(watch.stdout.take().unwrap()));
    let mut next = || lines.next().unwrap().unwrap();
    assert!(next().contains("EXPERIMENT_STATE_RUNNING"));
    // From a pipe, as a strategy's log may be sent.
    let mut pushing = agent
        .ctl_command(&["trades", "push", "--file", "-", "--batch-id", "pipe"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let text = Market::new(7).csv("TEST_1", 0, 240, [1.0, 0.2]);
    pushing.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let said = pushing.wait_with_output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stdout));
    // It may tell what was counted before it tells what came of that.
    wait_for("the watch to tell that it was taken back", || {
        next().contains("EXPERIMENT_STATE_ROLLED_BACK").then_some(())
    });
    // It goes on over a restart, and tells a new one.
    agent.kill();
    agent.start();
    let create = ["experiment", "create", "--strategy", "mm", "--param", "threshold:0.004"];
    for (at, design) in ["fixed", "lan-demets", "always-valid"].into_iter().enumerate() {
        let id = format!("TEST_{}", at + 2);
        let more = ["--split", "50/50", "--reason", "r", "--design", design];
        agent.ctl(&[&create[..], &more].concat()).ok().says(&[&id]);
        let trades = Market::new(8).csv(&id, 0, 1_000, [1.0, 1.01]);
        push(&agent, &file(&agent, &format!("{design}.csv"), &trades), &["--batch-rows", "50"]);
        let ended = shown(&agent, &id)["experiment"].clone();
        assert_eq!(ended["state"], "EXPERIMENT_STATE_NO_DIFFERENCE", "{design}: {ended:#}");
        let look = &ended["conclusion"]["look"];
        assert_eq!(look["decision"]["line"], 4, "{look:#}");
        assert!(look["pSequential"].as_f64().unwrap() >= 0.05, "{look:#}");
        wait_for("the watch to tell its end", || {
            let line = next();
            (line.contains(&id) && line.contains("NO_DIFFERENCE")).then_some(())
        });
    }
    let _ = watch.kill();
    let _ = watch.wait();

    let set = ["param", "set", "--strategy", "mm", "threshold=0.005", "--reason", "wider"];
    agent.ctl(&set).ok();
    let back = ["param", "rollback", "--strategy", "mm", "threshold"];
    agent.ctl(&[&back[..], &["--plan"]].concat()).ok().says(&["0.002"]);
    agent.ctl(&[&back[..], &["--reason", "too wide"]].concat()).ok();
    agent.ctl(&["param", "get", "--strategy", "mm", "threshold"]).ok().says(&["0.002"]);
    agent
        .ctl(&["param", "history", "--strategy", "mm", "threshold"])
        .ok()
        .says(&["rolled back", "too wide"]);
    agent.ctl(&[&back[..], &["--to", "9", "--reason", "r"]].concat()).exits(1);
}
