//! Lines of a live writer come back once each and in order, over many rotations.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use genesis_tests::clock::{wait_for, wait_until};
use genesis_tests::{ChildWriter, TestAgent, Writer, lines, source};

/// Lines a second.
const RATE: u64 = 40_000;

#[test]
fn a_writer_that_notices_by_itself_loses_nothing_over_many_rotations() {
    let agent = TestAgent::started(|log| source("trading", &log.join("t.log"), "256KiB"));
    let writer = Writer::start(&agent.log("t.log"), RATE);
    writer.wait_for_more(120_000);
    let count = writer.stop();
    agent.rotate("trading");
    let segments = agent.wait_verified("trading", 5);
    assert_eq!(segments.iter().map(|segment| segment.lines).sum::<u64>(), count);
    for (before, segment) in (1..).zip(&segments) {
        assert_eq!(segment.sequence, before, "sequence numbers have no gap");
    }
    agent.assert_holds("trading", count);
    agent.ctl(&["logs", "verify", "--depth", "full"]).ok();
    assert_eq!(beside(&agent.log("")), [""; 0], "nothing is left beside the log");
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
    // While it writes there is hardly ever none on its way.
    wait_until("some rotations", || {
        let segments = agent.segments("trading");
        segments.iter().filter(|segment| segment.state == "VERIFIED").count() >= 4
    });
    // Some more under a rotation by hand, while the writer is at work.
    agent.rotate("trading");
    let count = writer.stop();
    assert!(count > 10_000, "it wrote {count} lines");

    // Whom to tell is gone: nothing is cut, and the status says why. A rotation that had begun before may still cut it, and
    // leaves an empty log, which nobody has to let go of.
    let mut count = count;
    let refused = wait_for("a rotation that is refused", || {
        let path = agent.log("t.log");
        let mut log = OpenOptions::new().create(true).append(true).open(path).unwrap();
        log.write_all(lines::text(count..count + 1).as_bytes()).unwrap();
        count += 1;
        let said = agent.ctl(&["logs", "rotate", "--log-type", "trading"]);
        (said.code != 0).then_some(said)
    });
    refused.exits(4).says(&["LOG_NOT_ROTATABLE", "is gone"]);

    // The rest is archived all the same once the source is said to let go by itself.
    agent.configure(&source("trading", &agent.log("t.log"), "512KiB"));
    agent.ctl(&["config", "reload"]).ok();
    agent.rotate("trading");
    // The watch may have been first to cut it, and then this rotation found nothing to wait for.
    agent.wait_verified("trading", 4);
    agent.assert_holds("trading", count);
}

#[test]
fn many_logs_that_are_cut_at_the_same_moment_do_not_disturb_each_other() {
    const LOGS: u64 = 6;

    let names: Vec<String> = (0..LOGS).map(|number| format!("part{number}")).collect();
    let agent = TestAgent::started(|log| {
        names.iter().map(|name| source(name, &log.join(name), "16KiB")).collect()
    });
    let writers: Vec<Writer> =
        names.iter().map(|name| Writer::start(&agent.log(name), 2_000)).collect();
    writers[0].wait_for_more(8_000);
    let counts: Vec<u64> = writers.into_iter().map(Writer::stop).collect();
    agent.ctl(&["logs", "rotate"]).ok();
    for (name, count) in names.iter().zip(counts) {
        agent.wait_verified(name, 4);
        agent.assert_holds(name, count);
    }
    assert_eq!(beside(&agent.log("")), [""; 0], "nothing is left beside the logs");
    agent.ctl(&["logs", "status"]).ok();
}

#[test]
fn a_line_that_is_written_in_halves_stays_whole() {
    let agent = TestAgent::started(|log| source("trading", &log.join("t.log"), "1GB"));
    let path = agent.log("t.log");
    for number in 0..4 {
        let open = || OpenOptions::new().create(true).append(true).open(&path).unwrap();
        let (mut file, text) = (open(), lines::text(number * 100..(number + 1) * 100));
        let (head, tail) = text.split_at(text.len() / 2 + 7);
        file.write_all(head.as_bytes()).unwrap();
        agent.ctl(&["logs", "rotate", "--log-type", "trading", "--detach"]).ok();
        wait_until("the rename", || !path.exists());
        // The writer has not noticed yet, and writes the rest of the line to where it went.
        file.write_all(tail.as_bytes()).unwrap();
        drop(file);
        agent.ctl(&["run", "watch", "last"]).ok();
    }
    assert_eq!(agent.segments("trading").len(), 4);
    agent.assert_holds("trading", 400);
}

fn beside(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
