//! Lines of a live writer come back once each and in order, over many rotations.

use std::path::Path;

use genesis_tests::{ChildWriter, TestAgent, Writer, source};

/// Lines a second.
const RATE: u64 = 40_000;

#[test]
fn a_writer_that_notices_by_itself_loses_nothing_over_many_rotations() {
    let agent = TestAgent::started(|log| source("trading", &log.join("t.log"), "256KiB"));
    let writer = Writer::start(&agent.log("t.log"), RATE);
    writer.wait_for_more(120_000);
    let count = writer.stop();
    agent.rotate("trading");
    let segments = agent.wait_verified("trading", 8);
    assert_eq!(segments.iter().map(|segment| segment.lines).sum::<u64>(), count);
    for (before, segment) in (1..).zip(&segments) {
        assert_eq!(segment.sequence, before, "sequence numbers have no gap");
    }
    agent.assert_holds("trading", count);
    agent.ctl(&["logs", "verify", "--depth", "full"]).ok();
    assert_eq!(beside(&agent.log("")), ["t.log"], "nothing is left beside the log");
}

#[test]
fn a_daemon_that_reopens_on_a_signal_loses_nothing() {
    let mut agent = TestAgent::new(|log| {
        let reopen =
            format!("reopen = {{ signal = \"USR1\", pidfile = {:?} }}", log.join("../pid"));
        source("trading", &log.join("t.log"), "512KiB").replace("reopen = \"by-itself\"", &reopen)
    });
    let pidfile = agent.log("../pid");
    let program = Path::new(env!("CARGO_BIN_EXE_genesis-test-writer"));
    let writer = ChildWriter::start(program, &agent.log("t.log"), &pidfile, RATE);
    agent.start();
    agent.wait_verified("trading", 5);
    // Some more under a rotation by hand, while the writer is at work.
    agent.rotate("trading");
    let count = writer.stop();
    assert!(count > 10_000, "it wrote {count} lines");

    // Whom to tell is gone: nothing is cut, and the status says why.
    let refused = agent.ctl(&["logs", "rotate", "--log-type", "trading"]);
    refused.exits(4).says(&["REOPEN_TARGET_MISSING", "is gone"]);
    std::fs::write(&pidfile, format!("{}\n", std::process::id())).unwrap();
    std::fs::remove_file(&pidfile).unwrap();

    // The rest is archived all the same once the source is said to let go by itself.
    agent.configure(&source("trading", &agent.log("t.log"), "512KiB"));
    agent.ctl(&["config", "reload"]).ok();
    agent.rotate("trading");
    agent.assert_holds("trading", count);
}

#[test]
fn bytes_behind_the_cut_of_a_line_go_with_it() {
    // A writer that writes lines in two halves: a cut may fall between them.
    use std::io::Write;

    let agent = TestAgent::started(|log| source("trading", &log.join("t.log"), "64KiB"));
    let path = agent.log("t.log");
    let open = || std::fs::OpenOptions::new().create(true).append(true).open(&path).unwrap();
    let mut file = open();
    let text = genesis_tests::lines::text(0..4_000);
    for (number, line) in text.split_inclusive('\n').enumerate() {
        if number.is_multiple_of(500) {
            file = open();
        }
        let (head, tail) = line.split_at(line.len() / 2);
        file.write_all(head.as_bytes()).unwrap();
        if number.is_multiple_of(500) {
            // A rotation now renames the file in the middle of a line; it waits for the writer.
            agent.ctl(&["logs", "rotate", "--log-type", "trading", "--detach"]).ok();
        }
        file.write_all(tail.as_bytes()).unwrap();
    }
    drop(file);
    agent.rotate("trading");
    agent.wait_verified("trading", 8);
    agent.assert_holds("trading", 4_000);
}

fn beside(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
