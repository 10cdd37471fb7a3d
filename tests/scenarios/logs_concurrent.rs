//! Two rotations at the same time are one.

use std::fs::OpenOptions;
use std::io::Write;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use genesis_tests::clock::{wait_for, wait_until};
use genesis_tests::random::Random;
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
fn a_second_caller_is_attached_while_files_are_cut_and_starts_anew_afterwards() {
    let mut agent = TestAgent::new(|log| source("trading", &log.join("t.log"), "1GB"));
    let pause = agent.log("../pause");
    std::fs::write(&pause, "").unwrap();
    agent.environment("GENESIS_PAUSE", &format!("logs.before-rename:{}", pause.display()));
    agent.start();
    std::fs::write(agent.log("t.log"), lines::text(0..50)).unwrap();
    // The segment waits as long as somebody holds the file.
    let held = std::fs::OpenOptions::new().append(true).open(agent.log("t.log")).unwrap();
    let start = || {
        let rotate = ["logs", "rotate", "--log-type", "trading", "--detach", "-o", "json"];
        let run = agent.ctl(&rotate).ok().response()["run"].clone();
        (run["runId"].as_str().unwrap().to_owned(), run["attached"].as_bool().unwrap_or(false))
    };
    let (first, attached) = start();
    assert!(!attached);
    let reached = agent.log("../pause.reached");
    wait_until("the moment before the rename", || reached.exists());
    assert_eq!(start(), (first.clone(), true));
    std::fs::remove_file(&pause).unwrap();
    wait_until("the cut", || agent.segments("trading").len() == 1);
    std::fs::write(agent.log("t.log"), lines::text(50..60)).unwrap();
    // The first one may still be between its cut and the moment from which it only follows.
    let second = wait_for("a rotation of its own", || match start() {
        (id, false) => Some(id),
        (id, true) => {
            assert_eq!(id, first);
            None
        }
    });
    wait_until("the second cut", || agent.segments("trading").len() == 2);
    drop(held);
    for run in [&first, &second] {
        agent.ctl(&["run", "watch", run]).ok();
    }
    agent.assert_holds("trading", 60);
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

#[test]
fn another_tool_that_rotates_the_same_log_at_the_same_moment_costs_nothing() {
    const ROUNDS: u64 = 40;

    let agent = TestAgent::started(|log| source("trading", &log.join("t.log"), "1GB"));
    let path = agent.log("t.log");
    let fresh = agent.log("fresh");
    let mut random = Random::new(11);
    for round in 0..ROUNDS {
        let part = |part: u64| {
            let first = round * 30 + part * 10;
            lines::text(first..first + 10)
        };
        let aside = |name: &str| agent.folder().join(format!("aside-{round}-{name}"));
        std::fs::write(&path, part(0)).unwrap();
        std::fs::write(&fresh, part(1)).unwrap();
        // Anywhere from the look at the file until its rename and beyond.
        let wait = Duration::from_micros(random.within(0, 12_000));
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            // A writer that opens the log anew as soon as there is none.
            scope.spawn(|| {
                while !over.load(Ordering::Acquire) {
                    if let Ok(mut file) =
                        OpenOptions::new().append(true).create_new(true).open(&path)
                    {
                        return file.write_all(part(2).as_bytes()).unwrap();
                    }
                }
                std::fs::write(aside("unwritten"), part(2)).unwrap();
            });
            let rotate = scope.spawn(|| agent.ctl(&["logs", "rotate", "--log-type", "trading"]));
            std::thread::sleep(wait);
            // A tool that rotates: away with the old one, and a new one in its place.
            std::fs::rename(&path, aside("old")).ok();
            if std::fs::hard_link(&fresh, &path).is_err() {
                std::fs::write(aside("unused"), part(1)).unwrap();
            }
            std::fs::remove_file(&fresh).unwrap();
            let output = rotate.join().unwrap();
            over.store(true, Ordering::Release);
            let raced = [1, 4, 9].contains(&output.code);
            let known = output.stderr.contains("CUT_") || output.stderr.contains("LOG_");
            assert!(output.code == 0 || raced && known, "{output:?}");
        });
        // The rest of the round, so that the next one begins with nothing there.
        agent.rotate("trading");
    }
    agent.wait_verified("trading", 1);
    assert!(agent.findings("trading").is_empty(), "{:?}", agent.findings("trading"));
    let left: Vec<_> =
        std::fs::read_dir(agent.log("")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.is_empty(), "stranded: {left:?}");
    let mut all = agent.retrieve("trading", lines::DAY).ok().text();
    for entry in std::fs::read_dir(agent.folder()).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name().to_string_lossy().starts_with("aside-") {
            all += &std::fs::read_to_string(entry.path()).unwrap();
        }
    }
    let mut all: Vec<&str> = all.lines().collect();
    all.sort_unstable();
    lines::assert_exactly((all.join("\n") + "\n").as_bytes(), 0..ROUNDS * 30);
}
