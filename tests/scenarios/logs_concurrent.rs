//! Two rotations at the same time are one.

use std::sync::Barrier;

use genesis_tests::{TestAgent, lines, source};

#[test]
fn two_rotations_at_once_give_one_segment_and_both_go_well() {
    let agent = TestAgent::started(|log| source("trading", &log.join("t.log"), "1GB"));
    for round in 0..5 {
        std::fs::write(agent.log("t.log"), lines::text(round * 50..(round + 1) * 50)).unwrap();
        let together = Barrier::new(2);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    together.wait();
                    agent.rotate("trading");
                });
            }
        });
        let segments = agent.segments("trading");
        assert_eq!(segments.len() as u64, round + 1, "one segment a round: {segments:#?}");
        assert!(segments.iter().all(|segment| segment.state == "VERIFIED"));
    }
    agent.assert_holds("trading", 250);
}

#[test]
fn a_second_caller_is_attached_to_the_run_that_goes_on() {
    let agent = TestAgent::started(|log| source("trading", &log.join("t.log"), "1GB"));
    std::fs::write(agent.log("t.log"), lines::text(0..50)).unwrap();
    // It goes on as long as somebody holds the file.
    let held = std::fs::OpenOptions::new().append(true).open(agent.log("t.log")).unwrap();
    let start = || {
        let rotate = ["logs", "rotate", "--log-type", "trading", "--detach", "-o", "json"];
        let run = agent.ctl(&rotate).ok().response()["run"].clone();
        (run["runId"].as_str().unwrap().to_owned(), run["attached"].as_bool().unwrap_or(false))
    };
    let (first, attached) = start();
    assert!(!attached);
    assert_eq!(start(), (first, true));
    drop(held);
    agent.ctl(&["run", "watch", "last"]).ok();
    assert_eq!(agent.segments("trading").len(), 1);
    agent.assert_holds("trading", 50);
}

#[test]
fn an_empty_log_is_left_alone() {
    let agent = TestAgent::started(|log| source("trading", &log.join("t.log"), "1GB"));
    // Neither a log that is not there yet nor one without a byte makes a segment.
    agent.rotate("trading");
    std::fs::write(agent.log("t.log"), "").unwrap();
    agent.rotate("trading");
    assert!(agent.segments("trading").is_empty());
    assert!(agent.log("t.log").exists());
}
