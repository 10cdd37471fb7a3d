//! Writers that never reopen their log, and applications that leave theirs by themselves.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use genesis_tests::clock::{wait_for, wait_until};
use genesis_tests::{ChildWriter, LoopDisk, TestAgent, lines, source};

const RATE: u64 = 20_000;

/// Every step of taking the head of a log, in order.
const POINTS: [&str; 6] = [
    "logs.piece-announced",
    "logs.piece-copied",
    "logs.piece-marking",
    "logs.piece-marked",
    "logs.piece-removed",
    "logs.piece-detached",
];

fn in_mode(path: &Path, size: &str, mode: &str) -> String {
    source("trading", path, size).replace("reopen = \"by-itself\"", mode)
}

fn collapsing(path: &Path, size: &str) -> TestAgent {
    // There are machines whose first process hides its open files from root, too.
    TestAgent::new(|_| in_mode(path, size, "rotate_mode = \"collapse\"\nassume_append = true"))
}

fn writer(agent: &TestAgent, path: &Path) -> ChildWriter {
    let program = Path::new(env!("CARGO_BIN_EXE_genesis-test-writer"));
    ChildWriter::start(program, path, &agent.log("../pid"), RATE)
}

#[test]
fn the_front_of_a_log_is_cut_out_under_a_writer_that_never_reopens_it() {
    let disk = LoopDisk::ext4(128);
    let path = disk.join("t.log");
    let mut agent = collapsing(&path, "128KiB");
    let writer = writer(&agent, &path);
    let inode = std::fs::metadata(&path).unwrap().ino();
    for _ in 0..if std::env::var_os("GENESIS_LONG").is_some() { 20 } else { 1 } {
        for point in POINTS {
            for nth in 1..=2 {
                agent.start_with_failpoint(point, nth);
                agent.wait_killed();
            }
        }
        // And at steps of its life that the piece goes on with.
        for point in ["logs.after-compress", "logs.sealed", "logs.source-removed"] {
            agent.start_with_failpoint(point, 2);
            agent.wait_killed();
        }
    }
    agent.start();
    let count = writer.stop();
    wait_until("a log below its size", || std::fs::metadata(&path).unwrap().len() < 128 << 10);
    agent.rotate("trading");
    agent.wait_verified("trading", POINTS.len());
    agent.assert_holds("trading", count);
    let facts = std::fs::metadata(&path).unwrap();
    assert_eq!(facts.ino(), inode, "it was never replaced");
    assert!(facts.len() <= 4096, "{} bytes are left", facts.len());
    // What is left in the last block is archived already, and is not archived again.
    agent.rotate("trading");
    agent.assert_holds("trading", count);
    agent.ctl(&["logs", "verify", "--log-type", "trading", "--depth", "full"]).ok();
    let left: Vec<_> = std::fs::read_dir(agent.sealed().join("trading"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with('.'))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_log_that_repeats_itself_loses_and_doubles_no_line() {
    // What is left after a collapse begins as what went: contents can't tell whether it happened.
    let disk = LoopDisk::ext4(32);
    let path = disk.join("t.log");
    let text =
        "2024-03-01T00:00:00Z the same line as ever, and of a length that divides no block\n";
    let mut agent = collapsing(&path, "64KiB");
    let mut writer = OpenOptions::new().create(true).append(true).open(&path).unwrap();
    let mut written = 0;
    for point in POINTS {
        for _ in 0..5_000 {
            writer.write_all(text.as_bytes()).unwrap();
            written += 1;
        }
        agent.start_with_failpoint(point, 1);
        agent.wait_killed();
    }
    agent.start();
    agent.rotate("trading");
    agent.wait_verified("trading", 1);
    let retrieved = agent.retrieve("trading", lines::DAY).ok().says(&["complete"]);
    assert_eq!(retrieved.stdout.len(), text.len() * written);
    assert_eq!(retrieved.stdout, text.repeat(written).into_bytes());
}

#[test]
fn a_line_without_end_is_cut_at_four_times_the_size_and_comes_back_whole() {
    let disk = LoopDisk::ext4(32);
    let path = disk.join("t.log");
    let agent = {
        let mut agent = collapsing(&path, "64KiB");
        agent.start();
        agent
    };
    let mut writer = OpenOptions::new().create(true).append(true).open(&path).unwrap();
    let mut text = lines::text(0..1);
    text.push_str("2024-03-01T00:00:01Z ");
    writer.write_all(text.as_bytes()).unwrap();
    let chunk = "endless ".repeat(4096);
    for _ in 0..20 {
        writer.write_all(chunk.as_bytes()).unwrap();
        text.push_str(&chunk);
    }
    wait_until("a cut within the line", || !agent.segments("trading").is_empty());
    writer.write_all(b"end\n").unwrap();
    text.push_str("end\n");
    // A line that has no end yet is waited for.
    writer.write_all(b"2024-03-01T00:00:02Z half").unwrap();
    agent.rotate("trading");
    let segments = agent.wait_verified("trading", 2);
    assert_eq!(segments.iter().map(|segment| segment.lines).sum::<u64>(), 2, "{segments:?}");
    let retrieved = agent.retrieve("trading", lines::DAY).ok();
    assert_eq!(String::from_utf8(retrieved.stdout).unwrap(), text);
    writer.write_all(b" done\n").unwrap();
    text.push_str("2024-03-01T00:00:02Z half done\n");
    agent.rotate("trading");
    let retrieved = agent.retrieve("trading", lines::DAY).ok();
    assert_eq!(String::from_utf8(retrieved.stdout).unwrap(), text);
}

#[test]
fn collapse_is_refused_where_it_would_lose_lines() {
    // A file system that can't.
    let memory = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = memory.path().join("t.log");
    std::fs::write(&path, lines::text(0..1_000)).unwrap();
    let mut agent = collapsing(&path, "4KiB");
    let check = |agent: &TestAgent| {
        let mut command = std::process::Command::new(genesis_tests::binaries::agent());
        let output = command.arg("check-config").arg("--config").arg(agent.config()).output();
        let output = output.unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = check(&agent);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("can't cut blocks out of a file"), "{said}");
    agent.start();
    let message = agent.wait_finding("trading", "COLLAPSE_UNSUPPORTED");
    agent.ctl(&["logs", "rotate", "--log-type", "trading"]).exits(4).says(&[&message]);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), lines::text(0..1_000), "untouched");
    assert!(agent.segments("trading").is_empty());
    drop(agent);

    // A writer at a place of its own.
    let disk = LoopDisk::ext4(16);
    let path = disk.join("t.log");
    std::fs::write(&path, lines::text(0..1_000)).unwrap();
    let mut agent = collapsing(&path, "4KiB");
    let mut own_place = OpenOptions::new().write(true).open(&path).unwrap();
    agent.start();
    let message = agent.wait_finding("trading", "LOG_WRITER_WITHOUT_APPEND");
    assert!(message.contains(&std::process::id().to_string()), "{message}");
    own_place.write_all(b"2024").unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), lines::text(0..1_000), "untouched");
    // Once it appends like the others, the log goes its way.
    drop(own_place);
    let _appends = OpenOptions::new().append(true).open(&path).unwrap();
    agent.wait_verified("trading", 1);
    agent.rotate("trading");
    agent.assert_holds("trading", 1_000);
}

#[test]
fn a_log_that_was_moved_or_rewritten_while_its_head_was_taken_is_left_alone() {
    let disk = LoopDisk::ext4(32);
    let path = disk.join("t.log");
    for point in ["logs.piece-copied", "logs.piece-marked"] {
        let mut agent = collapsing(&path, "64KiB");
        std::fs::write(&path, lines::text(0..2_000)).unwrap();
        agent.start_with_failpoint(point, 1);
        agent.wait_killed();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "2024-03-02T00:00:00Z another log\n").unwrap();
        agent.start();
        let segments = agent.wait_verified("trading", 1);
        assert_eq!(segments.len(), 1);
        assert_eq!(std::fs::read(&path).unwrap(), b"2024-03-02T00:00:00Z another log\n");
        agent.rotate("trading");
        let all = agent.retrieve("trading", "2024-03-01:2024-03-02").ok();
        let taken: u64 = segments[0].lines;
        let wanted = format!("{}2024-03-02T00:00:00Z another log\n", lines::text(0..taken));
        assert_eq!(String::from_utf8(all.stdout).unwrap(), wanted);
        std::fs::remove_file(&path).unwrap();
    }
}

#[test]
fn a_log_that_was_emptied_by_somebody_is_archived_from_its_beginning() {
    let disk = LoopDisk::ext4(16);
    let path = disk.join("t.log");
    let mut agent = collapsing(&path, "1GB");
    agent.start();
    let mut writer = OpenOptions::new().create(true).append(true).open(&path).unwrap();
    writer.write_all(lines::text(0..150).as_bytes()).unwrap();
    agent.rotate("trading");
    let left = std::fs::metadata(&path).unwrap().len();
    assert!(left > 0, "the end of a block stays");
    // Such as `: > t.log`: the same file, and nothing of what was archived is in it any more.
    writer.set_len(0).unwrap();
    writer.write_all(lines::text(150..300).as_bytes()).unwrap();
    assert!(std::fs::metadata(&path).unwrap().len() > left);
    agent.rotate("trading");
    agent.assert_holds("trading", 300);
}

#[test]
fn files_that_an_application_leaves_by_itself_are_archived_once_they_are_done() {
    let agent = TestAgent::started(|log| {
        let mode = "rotate_mode = \"direct\"\nsettle = \"1s\"";
        in_mode(&log.join("app-*.log"), "1GB", mode)
    });
    let (first, second) = (agent.log("app-2024-03-01.log"), agent.log("app-2024-03-02.log"));
    let mut writer = OpenOptions::new().create(true).append(true).open(&first).unwrap();
    writer.write_all(lines::text(0..100).as_bytes()).unwrap();
    let mut next = OpenOptions::new().create(true).append(true).open(&second).unwrap();
    next.write_all(b"2024-03-02T00:00:00Z the next day\n").unwrap();
    // Both are open: nothing is done, also by hand.
    agent.ctl(&["logs", "rotate", "--log-type", "trading"]).ok();
    assert!(agent.segments("trading").is_empty());
    drop(writer);
    agent.wait_verified("trading", 1);
    assert!(!first.exists());
    agent.assert_holds("trading", 100);
    assert!(second.exists());
    // Not one that was written a moment ago by somebody who opens it for each line.
    drop(next);
    agent.wait_verified("trading", 2);
    assert!(!second.exists());
}

#[test]
fn copytruncate_is_lossy_on_request_only_and_counts_what_vanished() {
    let mut agent = TestAgent::new(|log| {
        in_mode(&log.join("t.log"), "64KiB", "rotate_mode = \"copytruncate\"")
    });
    let refused = agent.try_start().unwrap_err();
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.stderr.contains("allow_lossy = true"), "{refused:?}");

    let path = agent.log("t.log");
    let mode = "rotate_mode = \"copytruncate\"\nallow_lossy = true";
    agent.configure(&in_mode(&path, "64KiB", mode));
    let pause = agent.log("../pause");
    std::fs::write(&pause, "").unwrap();
    agent.environment("GENESIS_PAUSE", &format!("logs.before-truncate:{}", pause.display()));
    // This writer does not append: after a truncation it goes on behind a hole.
    let mut writer = std::fs::File::create(&path).unwrap();
    writer.write_all(lines::text(0..1_000).as_bytes()).unwrap();
    agent.start();
    let reached = agent.log("../pause.reached");
    wait_until("the moment before the truncation", || reached.exists());
    let lost = lines::text(1_000..1_100);
    writer.write_all(lost.as_bytes()).unwrap();
    std::fs::remove_file(&pause).unwrap();
    agent.wait_verified("trading", 1);
    writer.write_all(lines::text(1_100..3_000).as_bytes()).unwrap();
    agent.wait_verified("trading", 2);
    agent.rotate("trading");
    let wanted = lines::text(0..1_000) + &lines::text(1_100..3_000);
    let retrieved = agent.retrieve("trading", lines::DAY).ok();
    assert_eq!(String::from_utf8(retrieved.stdout).unwrap(), wanted);
    let log = agent.ctl(&["oplog", "list", "--action", "logs.segment.detached"]).ok().text();
    assert!(log.contains("LINES_VANISHED"), "{log}");
    let metrics = genesis_tests::http::get(agent.http(), "/metrics");
    let count = format!("genesis_logs_vanished_bytes_total{{log_type=\"trading\"}} {}", lost.len());
    assert!(metrics.1.contains(&count), "{count} in {}", metrics.1);
}

#[test]
fn copytruncate_killed_at_each_step_archives_each_line_once() {
    let mut agent = TestAgent::new(|log| {
        let mode = "rotate_mode = \"copytruncate\"\nallow_lossy = true";
        in_mode(&log.join("t.log"), "64KiB", mode)
    });
    let path = agent.log("t.log");
    let mut writer = OpenOptions::new().create(true).append(true).open(&path).unwrap();
    let mut written = 0;
    for point in POINTS {
        // Between two agents, so that nothing is written while a log is cut.
        writer.write_all(lines::text(written..written + 1_000).as_bytes()).unwrap();
        written += 1_000;
        agent.start_with_failpoint(point, 1);
        agent.wait_killed();
    }
    agent.start();
    agent.rotate("trading");
    agent.wait_verified("trading", 1);
    agent.assert_holds("trading", written);
    let size = wait_for("an empty log", || {
        Some(std::fs::metadata(&path).unwrap().len()).filter(|size| *size == 0)
    });
    assert_eq!(size, 0);
}
