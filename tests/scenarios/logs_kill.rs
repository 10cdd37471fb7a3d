//! `kill -9` at each step of a segment's life, and at random: every line comes back once, in order.
//!
//! `GENESIS_LONG=1` runs many more rounds.

use genesis_tests::clock::Watch;
use genesis_tests::random::Random;
use genesis_tests::{TestAgent, Writer, source};

/// Lines a second: several cuts a second at the size below.
const RATE: u64 = 20_000;
const SIZE: &str = "128KiB";

/// Every step of a segment's life, in order.
const POINTS: [&str; 11] = [
    "logs.before-rename",
    "logs.after-rename",
    "logs.after-compress",
    "logs.after-manifest",
    "logs.after-seal",
    "logs.sealed",
    "logs.source-removed",
    "logs.after-upload",
    "logs.after-manifest-upload",
    "logs.uploaded",
    "logs.verified",
];

fn long() -> bool {
    std::env::var_os("GENESIS_LONG").is_some_and(|value| value == "1")
}

fn host() -> TestAgent {
    TestAgent::new(|log| source("trading", &log.join("t.log"), SIZE))
}

/// What must hold however often the agent was killed.
fn nothing_is_lost(agent: &mut TestAgent, writer: Writer) {
    agent.start();
    let count = writer.stop();
    agent.rotate("trading");
    let segments = agent.wait_verified("trading", 1);
    assert_eq!(segments.iter().map(|segment| segment.lines).sum::<u64>(), count);
    agent.assert_holds("trading", count);
    let left: Vec<_> = std::fs::read_dir(agent.log(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .filter(|name| name != "t.log")
        .collect();
    assert!(left.is_empty(), "left beside the log: {left:?}");
    agent.ctl(&["logs", "verify", "--log-type", "trading", "--depth", "full"]).ok();
    agent.ctl(&["logs", "status"]).ok();
    agent.ctl(&["oplog", "verify"]).ok().says(&["intact"]);
    // Nothing half made is left in the folders either.
    for folder in [agent.sealed(), agent.archive()] {
        for path in files_below(&folder) {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let whole = name.ends_with(".log.gz") || name.ends_with(".manifest.json");
            assert!(whole, "half made: {}", path.display());
        }
    }
}

fn files_below(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else {
            files.push(path);
        }
    }
    files
}

#[test]
fn killed_at_each_step_of_a_segments_life() {
    let mut agent = host();
    let writer = Writer::start(&agent.log("t.log"), RATE);
    for _ in 0..if long() { 10 } else { 1 } {
        for point in POINTS {
            // The first hit may be that of the recovery from the kill before; the later ones are fresh.
            for nth in 1..=4 {
                agent.start_with_failpoint(point, nth);
                agent.wait_killed();
            }
        }
    }
    nothing_is_lost(&mut agent, writer);
}

#[test]
fn killed_twice_in_a_row_at_the_same_step() {
    // What recovery itself had begun is recovered from, too.
    let mut agent = host();
    let writer = Writer::start(&agent.log("t.log"), RATE);
    for point in POINTS {
        for _ in 0..2 {
            agent.start_with_failpoint(point, 1);
            agent.wait_killed();
        }
    }
    nothing_is_lost(&mut agent, writer);
}

#[test]
fn killed_at_random() {
    let rounds = if long() { 200 } else { 8 };
    let mut agent = host();
    let mut random = Random::new(7);
    let writer = Writer::start(&agent.log("t.log"), RATE);
    for _ in 0..rounds {
        agent.start();
        // Up to half a second of work, by lines written, so that a slow machine gets as far as a fast one.
        let (lines, watch) = (random.within(500, 10_000), Watch::start());
        writer.wait_for_more(lines);
        assert!(watch.elapsed() < genesis_tests::clock::LIMIT);
        agent.kill();
    }
    nothing_is_lost(&mut agent, writer);
}

#[test]
fn what_an_upload_left_half_done_is_swept_up() {
    let mut agent = host();
    std::fs::write(agent.log("t.log"), genesis_tests::lines::text(0..100)).unwrap();
    agent.start_with_failpoint("logs.source-removed", 1);
    agent.wait_ready();
    agent.ctl(&["logs", "rotate", "--log-type", "trading", "--detach"]);
    agent.wait_killed();
    // As a crash in the middle of the upload leaves it.
    let mut half = Vec::new();
    for sealed in files_below(&agent.sealed()) {
        let place = agent.archive().join(sealed.strip_prefix(agent.sealed()).unwrap());
        std::fs::create_dir_all(place.parent().unwrap()).unwrap();
        half.push(std::path::PathBuf::from(format!("{}#1", place.display())));
    }
    assert_eq!(half.len(), 2, "a segment and its manifest");
    for path in &half {
        std::fs::write(path, "half").unwrap();
    }
    agent.start();
    agent.wait_verified("trading", 1);
    for path in half {
        assert!(!path.exists(), "left: {}", path.display());
    }
    agent.assert_holds("trading", 100);
}
