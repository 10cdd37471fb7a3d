//! Odd lines, wrong clocks, tampering, links and names that mean harm.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use genesis_tests::clock::wait_until;
use genesis_tests::{ChildWriter, LoopDisk, TestAgent, lines, source};

fn append(path: &Path, text: &[u8]) {
    let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
    file.write_all(text).unwrap();
}

#[test]
fn verify_names_each_segment_that_was_removed_exchanged_or_touched() {
    let agent = TestAgent::started(|log| source("trading", &log.join("t.log"), "1GB"));
    for part in 0..8 {
        append(&agent.log("t.log"), lines::text(part * 100..(part + 1) * 100).as_bytes());
        agent.rotate("trading");
    }
    let segments = agent.wait_verified("trading", 8);
    let archive = agent.archive();
    let verify =
        |depth: &str| agent.ctl(&["logs", "verify", "--log-type", "trading", "--depth", depth]);
    for depth in ["manifest", "hash", "full"] {
        verify(depth).ok();
    }
    // Two next to each other are removed with their manifests, one is replaced by an older one with its
    // manifest, and one has another byte.
    for gone in &segments[2..4] {
        std::fs::remove_file(gone.file(&archive)).unwrap();
        std::fs::remove_file(gone.manifest(&archive)).unwrap();
    }
    std::fs::copy(segments[0].file(&archive), segments[5].file(&archive)).unwrap();
    std::fs::copy(segments[0].manifest(&archive), segments[5].manifest(&archive)).unwrap();
    let touched = segments[6].file(&archive);
    let mut bytes = std::fs::read(&touched).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&touched, bytes).unwrap();

    for depth in ["manifest", "hash", "full"] {
        let said = verify(depth).exits(3);
        let text = said.text() + &said.stderr;
        let named = |index: usize, code: &str| {
            let name = &segments[index].archive_name;
            text.lines().any(|line| line.contains(name.as_str()) && line.contains(code))
        };
        assert!(named(2, "MANIFEST_MISSING") && named(3, "MANIFEST_MISSING"), "{depth}: {text}");
        assert!(named(5, "MANIFEST_DAMAGED"), "{depth}: {text}");
        // A manifest does not know the bytes.
        assert_eq!(named(6, "SEGMENT_DAMAGED"), depth != "manifest", "{depth}: {text}");
        for sound in [0, 1, 4, 7] {
            assert!(!text.contains(&segments[sound].archive_name), "{depth} {sound}: {text}");
        }
    }
}

#[test]
fn a_clock_that_was_set_back_loses_no_line_and_each_is_found_by_its_own_time() {
    let agent = TestAgent::started(|log| source("trading", &log.join("t.log"), "1GB"));
    let log = agent.log("t.log");
    append(&log, b"2024-03-02T10:00:00Z before\nof the same time\n");
    append(&log, b"2024-03-01T09:00:00Z set back by a day\nof that time\n");
    agent.rotate("trading");
    // Without a time of its own a line has that of the line before it, also in another segment.
    append(&log, b"still of that time\n\0\xff nul and bad UTF-8\n2024-03-02T11:00:00Z after\n");
    agent.rotate("trading");
    agent.wait_verified("trading", 2);
    let get = |range: &str| agent.retrieve("trading", range).ok().stdout;
    let second = b"2024-03-02T10:00:00Z before\nof the same time\n2024-03-02T11:00:00Z after\n";
    assert_eq!(get("2024-03-02:2024-03-02"), second);
    let back: &[u8] = b"2024-03-01T09:00:00Z set back by a day\nof that time\nstill of that time\n\0\xff nul and bad UTF-8\n";
    assert_eq!(get("2024-03-01:2024-03-01"), back);
    let all = [&second[..45], back, &second[45..]].concat();
    assert_eq!(get("2024-03-01:2024-03-02"), all);
}

#[test]
fn a_line_of_a_hundred_megabytes_comes_back_as_it_was() {
    let agent = TestAgent::started(|log| source("trading", &log.join("t.log"), "10MB"));
    let log = agent.log("t.log");
    let mut text = b"2024-03-01T00:00:00Z before\n2024-03-01T00:00:01Z ".to_vec();
    let mut number = 0_u64;
    while text.len() < 100_000_000 {
        text.extend_from_slice(format!("{number:x}.").as_bytes());
        number += 1;
    }
    text.extend_from_slice(b"\n2024-03-01T00:00:02Z after\n");
    // What it needs anyhow, most of it the program itself, is not what this is about.
    let before = peak_kib(&agent);
    append(&log, &text);
    agent.wait_verified("trading", 1);
    let whole = agent.ctl_command(&[
        "logs",
        "retrieve",
        "--log-type",
        "trading",
        "--date-range",
        lines::DAY,
    ]);
    let mut whole = whole;
    let output = whole.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stdout == text, "{} bytes instead of {}", output.stdout.len(), text.len());
    let after = agent.retrieve("trading", "2024-03-01T00:00:02Z..2024-03-01T00:00:03Z").ok();
    assert_eq!(after.stdout, b"2024-03-01T00:00:02Z after\n");
    let more = peak_kib(&agent) - before;
    assert!(more < 40_000, "a line is never held whole: {more} KiB more at the peak");
}

/// The most memory that the agent has had, in KiB.
fn peak_kib(agent: &TestAgent) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", agent.pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn a_frozen_writer_keeps_its_file_from_being_compressed_until_it_lets_go() {
    let mut agent = TestAgent::new(|log| {
        let pidfile = log.join("../pid");
        let reopen = format!("reopen = {{ signal = \"USR1\", pidfile = {pidfile:?} }}");
        let source = source("trading", &log.join("t.log"), "1GB");
        format!(
            "[logs]\nrelease_grace = \"1s\"\n{}",
            source.replace("reopen = \"by-itself\"", &reopen)
        )
    });
    let program = Path::new(env!("CARGO_BIN_EXE_genesis-test-writer"));
    let pidfile = agent.log("../pid");
    let writer = ChildWriter::start(program, &agent.log("t.log"), &pidfile, 2_000);
    agent.start();
    wait_until("some lines", || {
        std::fs::metadata(agent.log("t.log")).is_ok_and(|facts| facts.len() > 10_000)
    });
    let pid: i32 = std::fs::read_to_string(&pidfile).unwrap().trim().parse().unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    agent.ctl(&["logs", "rotate", "--log-type", "trading", "--detach"]).ok();
    let message = agent.wait_finding("trading", "SEGMENT_HELD_BY_WRITER");
    assert!(message.contains(&pid.as_raw_nonzero().to_string()), "{message}");
    let detached = agent.log("t.log.00000001.genesis");
    assert!(detached.exists());
    assert!(!agent.sealed().join("trading").exists(), "nothing was compressed");
    assert_eq!(agent.segments("trading")[0].state, "DETACHED");
    // The rotation that follows the held segment keeps no other from cutting.
    append(&agent.log("t.log"), b"2031-01-01T00:00:00Z another day\n");
    let next = agent.ctl(&["logs", "rotate", "--log-type", "trading", "--detach"]).ok();
    assert!(!next.text().contains("was going on already"), "{}", next.text());
    wait_until("the second cut", || agent.segments("trading").len() == 2);
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
    agent.wait_verified("trading", 2);
    assert!(!detached.exists());
    let count = writer.stop();
    agent.configure(&source("trading", &agent.log("t.log"), "1GB"));
    agent.ctl(&["config", "reload"]).ok();
    agent.rotate("trading");
    agent.wait_verified("trading", 2);
    agent.assert_holds("trading", count);
}

#[test]
fn a_link_that_is_put_in_the_logs_place_in_the_moment_of_its_rotation_leads_nowhere() {
    let mut agent = TestAgent::new(|log| source("trading", &log.join("t.log"), "1GB"));
    let pause = agent.log("../pause");
    std::fs::write(&pause, "").unwrap();
    agent.environment("GENESIS_PAUSE", &format!("logs.before-rename:{}", pause.display()));
    agent.start();
    let (log, bait, aside) = (agent.log("t.log"), agent.log("../bait"), agent.log("../aside"));
    std::fs::write(&bait, "not to be archived, nor deleted\n").unwrap();
    append(&log, lines::text(0..100).as_bytes());
    agent.ctl(&["logs", "rotate", "--log-type", "trading", "--detach"]).ok();
    let reached = agent.log("../pause.reached");
    wait_until("the moment before the rename", || reached.exists());
    std::fs::rename(&log, &aside).unwrap();
    std::os::unix::fs::symlink(&bait, &log).unwrap();
    std::fs::remove_file(&pause).unwrap();
    agent.ctl(&["run", "watch", "last"]).exits(1).says(&["CUT_RACED"]);
    assert_eq!(std::fs::read_link(&log).unwrap(), bait, "the link has its place again");
    assert_eq!(std::fs::read(&bait).unwrap(), b"not to be archived, nor deleted\n");
    assert!(agent.segments("trading").is_empty());
    // Without the link it goes its way.
    std::fs::remove_file(&log).unwrap();
    std::fs::rename(&aside, &log).unwrap();
    agent.rotate("trading");
    agent.assert_holds("trading", 100);
}

#[test]
fn a_link_in_the_place_of_a_log_whose_head_is_taken_is_not_followed() {
    let disk = LoopDisk::ext4(16);
    let (log, bait) = (disk.join("t.log"), disk.join("bait"));
    let mut agent = TestAgent::new(|_| {
        let mode = "rotate_mode = \"collapse\"\nassume_append = true";
        source("trading", &log, "64KiB").replace("reopen = \"by-itself\"", mode)
    });
    let text = lines::text(0..2_000);
    for point in ["logs.piece-announced", "logs.piece-copied", "logs.piece-marked"] {
        std::fs::write(&log, &text).unwrap();
        std::fs::write(&bait, &text).unwrap();
        agent.start_with_failpoint(point, 1);
        agent.wait_killed();
        std::fs::rename(&log, disk.join("aside")).unwrap();
        std::os::unix::fs::symlink(&bait, &log).unwrap();
        agent.start();
        wait_until("the link is refused", || {
            agent.findings("trading").iter().any(|(code, _)| code == "LOG_IS_SYMLINK")
        });
        assert_eq!(std::fs::read_to_string(&bait).unwrap(), text, "{point}");
        agent.kill();
        std::fs::remove_file(&log).unwrap();
        std::fs::remove_file(disk.join("aside")).unwrap();
    }
}

#[test]
fn names_that_mean_harm_are_refused_and_odd_ones_are_not() {
    let agent = TestAgent::started(|log| source("trading", &log.join("*.log"), "1GB"));
    let odd =
        ["a b.log", "-rf.log", "..log", "x..log", "$(touch x).log", "\u{fc}ber.log", "'\".log"];
    for (number, name) in odd.iter().enumerate() {
        let line = format!("2024-03-01T00:00:0{number}Z of {name}\n");
        append(&agent.log(name), line.as_bytes());
    }
    append(&agent.log("new\nline.log"), b"2024-03-01T00:00:00Z forged\n");
    append(&agent.log("esc\x1b[2J.log"), b"2024-03-01T00:00:00Z forged\n");
    let refused = agent.ctl(&["logs", "rotate", "--log-type", "trading"]).exits(4);
    let text = refused.text() + &refused.stderr;
    assert!(text.contains("LOG_NAME_HOSTILE") || text.contains("control characters"), "{text}");
    assert!(!text.contains('\x1b'), "what is told of it does no harm either: {text:?}");
    agent.wait_finding("trading", "LOG_NAME_HOSTILE");
    assert!(agent.log("new\nline.log").exists() && agent.log("esc\x1b[2J.log").exists());
    // `..log` is hidden, which a `*` does not match.
    let archived = agent.wait_verified("trading", odd.len() - 1);
    assert_eq!(archived.len(), odd.len() - 1);
    let got = agent.retrieve("trading", lines::DAY).text();
    for name in odd.iter().filter(|name| **name != "..log") {
        assert!(got.contains(&format!("of {name}\n")), "{name} in {got}");
    }
    assert!(!got.contains("forged"));
    // `..` in a configured path is no way out of anywhere.
    agent.configure(&source("trading", &agent.log("../log/t.log"), "1GB"));
    agent.ctl(&["config", "check"]).exits(3).says(&[".."]);
}

#[test]
fn a_segment_whose_file_somebody_took_waits_for_a_person_and_those_behind_it_go_on() {
    let agent = TestAgent::started(|log| source("trading", &log.join("t.log"), "1GB"));
    let log = agent.log("t.log");
    append(&log, lines::text(0..100).as_bytes());
    let writer = OpenOptions::new().append(true).open(&log).unwrap();
    agent.ctl(&["logs", "rotate", "--log-type", "trading", "--detach"]).ok();
    let detached = agent.log("t.log.00000001.genesis");
    wait_until("the rename", || detached.exists());
    let aside = agent.log("../aside");
    std::fs::rename(&detached, &aside).unwrap();
    agent.wait_finding("trading", "SEGMENT_SOURCE_VANISHED");
    let list = agent.ctl(&["logs", "list", "--log-type", "trading"]).ok().text();
    assert!(list.contains("QUARANTINED"), "{list}");
    let events = || {
        let list = agent.ctl(&["oplog", "list", "--action", "logs.segment.quarantined"]);
        list.ok().text().matches("SEGMENT_SOURCE_VANISHED").count()
    };
    // It is in sight before it is on record.
    wait_until("the entry", || events() > 0);
    assert_eq!(events(), 1);
    drop(writer);
    // The same log goes on, once nobody follows the first one any more.
    agent.ctl(&["run", "watch", "last"]);
    append(&log, lines::text(100..200).as_bytes());
    agent.ctl(&["logs", "rotate", "--log-type", "trading", "--detach"]).ok();
    wait_until("the next one in the archive", || {
        agent.segments("trading").last().is_some_and(|segment| segment.state == "VERIFIED")
    });
    // Once it is put back, so does this one.
    std::fs::rename(&aside, &detached).unwrap();
    agent.wait_verified("trading", 2);
    agent.assert_holds("trading", 200);
}

#[test]
fn a_sealed_copy_that_was_damaged_before_it_was_archived_is_not_archived() {
    let agent = TestAgent::started(|log| {
        let aside = log.join("../file");
        let url = format!("[logs.archive]\nurl = \"file://{}/archive\"\n", aside.display());
        std::fs::write(aside, "in the way").unwrap();
        url + &source("trading", &log.join("t.log"), "1GB")
    });
    append(&agent.log("t.log"), lines::text(0..100).as_bytes());
    agent.ctl(&["logs", "rotate", "--log-type", "trading", "--detach"]).ok();
    agent.wait_finding("trading", "ARCHIVE_UNAVAILABLE");
    let local = agent.segments("trading")[0].file(&agent.sealed());
    let sound = std::fs::read(&local).unwrap();
    let mut bytes = sound.clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&local, &bytes).unwrap();
    std::fs::remove_file(agent.log("../file")).unwrap();
    std::fs::create_dir(agent.log("../file")).unwrap();
    agent.wait_finding("trading", "SEGMENT_DAMAGED");
    assert_eq!(agent.segments("trading")[0].state, "SEALED");
    assert!(!agent.log("../file/archive/trading").exists(), "nothing wrong was archived");
    std::fs::write(&local, &sound).unwrap();
    agent.wait_verified("trading", 1);
    agent.assert_holds("trading", 100);
}
