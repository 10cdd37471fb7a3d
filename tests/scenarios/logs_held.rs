//! A writer that does not let go of its renamed file.

use std::fs::OpenOptions;
use std::io::Write;

use genesis_tests::clock::wait_until;
use genesis_tests::{TestAgent, lines, source};

#[test]
fn a_held_segment_is_never_compressed_reported_after_the_grace_and_whole_at_last() {
    let mut agent = TestAgent::started(|log| {
        format!("[logs]\nrelease_grace = \"1s\"\n{}", source("trading", &log.join("t.log"), "1GB"))
    });
    let path = agent.log("t.log");
    std::fs::write(&path, lines::text(0..100)).unwrap();
    let mut writer = OpenOptions::new().append(true).open(&path).unwrap();
    agent.ctl(&["logs", "rotate", "--log-type", "trading", "--detach"]).ok();
    wait_until("the rename", || !path.exists());
    // What is written behind the rename belongs to the segment.
    writer.write_all(lines::text(100..200).as_bytes()).unwrap();

    let message = agent.wait_finding("trading", "SEGMENT_HELD_BY_WRITER");
    assert!(message.contains(&std::process::id().to_string()), "names who holds it: {message}");
    agent.ctl(&["logs", "status"]).exits(3).says(&["SEGMENT_HELD_BY_WRITER"]);
    let segment = &agent.segments("trading")[0];
    assert_eq!((segment.state.as_str(), segment.lines), ("DETACHED", 0));
    assert_eq!(segment.waits_for.as_deref(), Some("SEGMENT_HELD_BY_WRITER"));
    assert!(!agent.sealed().join("trading").exists(), "nothing was compressed");
    wait_until("the entry in the oplog", || {
        let list = agent.ctl(&["oplog", "list", "--action", "logs.segment.waiting"]).ok();
        list.text().contains("SEGMENT_HELD_BY_WRITER")
    });
    // Its lines can't be had yet, which is named.
    let retrieve = agent.retrieve("trading", lines::DAY).exits(5);
    retrieve.says(&["SEGMENT_NOT_SEALED"]);

    // Neither does a restart of the agent make it forget the writer.
    agent.kill();
    agent.start();
    writer.write_all(lines::text(200..300).as_bytes()).unwrap();
    agent.wait_finding("trading", "SEGMENT_HELD_BY_WRITER");
    assert_eq!(agent.segments("trading")[0].state, "DETACHED");
    writer.write_all(lines::text(300..400).as_bytes()).unwrap();

    drop(writer);
    agent.wait_verified("trading", 1);
    agent.ctl(&["logs", "status"]).ok();
    agent.assert_holds("trading", 400);
}

#[test]
fn a_reader_does_not_hold_it() {
    let agent = TestAgent::started(|log| source("trading", &log.join("t.log"), "1GB"));
    std::fs::write(agent.log("t.log"), lines::text(0..100)).unwrap();
    // Such as somebody's `tail -f`.
    let reader = std::fs::File::open(agent.log("t.log")).unwrap();
    agent.rotate("trading");
    agent.assert_holds("trading", 100);
    drop(reader);
}

#[test]
fn the_others_go_on_while_one_is_held() {
    let agent = TestAgent::started(|log| {
        source("held", &log.join("held.log"), "1GB") + &source("free", &log.join("free.log"), "1GB")
    });
    std::fs::write(agent.log("held.log"), lines::text(0..10)).unwrap();
    let writer = OpenOptions::new().append(true).open(agent.log("held.log")).unwrap();
    let rotate = ["logs", "rotate", "--log-type", "held", "--detach", "-o", "json"];
    let run = agent.ctl(&rotate).ok().response()["run"]["runId"].as_str().unwrap().to_owned();
    wait_until("the rename", || !agent.log("held.log").exists());
    for round in 0..3 {
        std::fs::write(agent.log("free.log"), lines::text(round * 10..(round + 1) * 10)).unwrap();
        agent.rotate("free");
    }
    agent.assert_holds("free", 30);
    std::fs::write(agent.log("held.log"), lines::text(10..20)).unwrap();
    drop(writer);
    agent.ctl(&["run", "watch", &run]).ok();
    agent.rotate("held");
    agent.wait_verified("held", 2);
    agent.assert_holds("held", 20);
}
