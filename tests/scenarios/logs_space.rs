//! Disks that are full: nothing is lost, it is said once, and it ends by itself.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use genesis_tests::clock::wait_until;
use genesis_tests::random::mix;
use genesis_tests::{LoopDisk, TestAgent, lines, source};

/// Lines of about 3 MB.
const LINES: u64 = 30_000;

/// Local copies on a disk of their own, the archive elsewhere.
fn on(disk: &LoopDisk) -> TestAgent {
    let local = disk.join("sealed");
    TestAgent::started(|log| {
        let url = format!("file://{}", log.join("../archive").display());
        format!("[logs]\nlocal_dir = {local:?}\n[logs.archive]\nurl = {url:?}\n")
            + &source("trading", &log.join("t.log"), "1GB")
    })
}

/// Fills a disk until so many bytes are left; the file to delete.
fn fill(disk: &LoopDisk, left: u64) -> std::path::PathBuf {
    let found = rustix::fs::statvfs(disk.path()).unwrap();
    let free = found.f_bavail * found.f_frsize;
    let path = disk.join("filler");
    let mut file = std::fs::File::create(&path).unwrap();
    let zeros = vec![0; 64 << 10];
    for _ in 0..free.saturating_sub(left) / zeros.len() as u64 {
        file.write_all(&zeros).unwrap();
    }
    file.sync_all().unwrap();
    path
}

fn append(path: &Path, text: &str) {
    let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// Lines that compress badly.
fn noise(lines: std::ops::Range<u64>) -> String {
    let part = |line: u64| {
        (0..12).map(|word| format!("{:016x}", mix(line * 12 + word))).collect::<String>()
    };
    lines.map(|line| format!("2024-03-02T00:00:00Z {}\n", part(line))).collect()
}

/// How often a segment was said to stall.
fn stalls(agent: &TestAgent) -> usize {
    let list = agent.ctl(&["oplog", "list", "--action", "logs.segment.stalled"]).ok().text();
    list.matches("SPACE_SHORT").count()
}

#[test]
fn a_full_disk_while_sealing_stalls_once_and_goes_on_by_itself() {
    let disk = LoopDisk::ext4(16);
    let mut agent = on(&disk);
    let log = agent.log("t.log");
    append(&log, &lines::text(0..LINES));
    agent.rotate("trading");
    // The older copies are held, or they would make room.
    agent.ctl(&["logs", "hold", "--log-type", "trading", "--reason", "audit"]).ok();
    // Room enough for what such lines took so far, and not for these.
    let filler = fill(&disk, 1_000_000);
    let text = noise(0..LINES / 2);
    append(&log, &text);
    agent.ctl(&["logs", "rotate", "--log-type", "trading", "--detach"]).ok();
    agent.wait_finding("trading", "SPACE_SHORT");
    let list = agent.ctl(&["logs", "list", "--log-type", "trading"]).ok().text();
    assert!(list.contains("STALLED") && list.contains("next try"), "{list}");
    agent.ctl(&["logs", "status"]).exits(3).says(&["SPACE_SHORT"]);
    let metrics = genesis_tests::http::get(agent.http(), "/metrics").1;
    assert!(metrics.contains("genesis_logs_stalled_segments{log_type=\"trading\"} 1"), "{metrics}");
    // Tried again and again, and after a restart: said once.
    let failures = |agent: &TestAgent| {
        let metrics = genesis_tests::http::get(agent.http(), "/metrics").1;
        let name = "genesis_logs_failures_total{log_type=\"trading\"} ";
        let value = metrics.lines().find_map(|line| line.strip_prefix(name));
        value.map_or(0, |value| value.parse::<u64>().unwrap())
    };
    wait_until("three tries", || failures(&agent) >= 3);
    agent.kill();
    agent.start();
    wait_until("another try", || failures(&agent) >= 2);
    assert_eq!(stalls(&agent), 1);
    // Nothing is left half done, and what is waited for is untouched.
    let detached = agent.log("t.log.00000002.genesis");
    assert_eq!(std::fs::read_to_string(&detached).unwrap(), text);
    let half: Vec<_> = std::fs::read_dir(disk.join("sealed/trading"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".sealing"))
        .collect();
    assert!(half.is_empty(), "{half:?}");
    let older = agent.retrieve("trading", lines::DAY).exits(5).says(&["SEGMENT_NOT_SEALED"]);
    lines::assert_exactly(&older.stdout, 0..LINES);

    std::fs::remove_file(filler).unwrap();
    agent.wait_verified("trading", 2);
    wait_until("no finding", || agent.findings("trading").is_empty());
    agent.assert_holds("trading", LINES);
    let second = agent.retrieve("trading", "2024-03-02:2024-03-02").ok();
    assert_eq!(String::from_utf8(second.stdout).unwrap(), text);
    assert_eq!(stalls(&agent), 1);
    let list = agent.ctl(&["logs", "list", "--log-type", "trading"]).ok().text();
    assert!(!list.contains("STALLED"), "{list}");
}

#[test]
fn the_oldest_proven_copies_make_room_and_what_is_held_stays() {
    let disk = LoopDisk::ext4(16);
    let agent = on(&disk);
    let log = agent.log("t.log");
    for part in 0..3 {
        append(&log, &lines::text(part * LINES..(part + 1) * LINES));
        agent.rotate("trading");
        if part == 0 {
            let range = "2024-03-01T00:00:00Z..2024-03-01T00:00:00.1Z";
            let hold = ["logs", "hold", "--log-type", "trading", "--date-range", range];
            agent.ctl(&[&hold[..], &["--reason", "audit"]].concat()).ok();
        }
    }
    fill(&disk, 200_000);
    append(&log, &lines::text(3 * LINES..4 * LINES));
    agent.rotate("trading");
    let states: Vec<String> =
        agent.segments("trading").into_iter().map(|segment| segment.state).collect();
    assert_eq!(states, ["VERIFIED", "LOCAL_EXPIRED", "VERIFIED", "VERIFIED"]);
    let expired = agent.ctl(&["oplog", "list", "--action", "logs.segment.local-expired"]).ok();
    expired.says(&["trading/2"]);
    agent.assert_holds("trading", 4 * LINES);
    assert_eq!(stalls(&agent), 0);
}

#[test]
fn an_agent_whose_whole_state_is_on_a_full_disk_loses_nothing() {
    let mut agent = TestAgent::new(|log| source("trading", &log.join("t.log"), "256KiB"));
    std::fs::create_dir(agent.state()).unwrap();
    let disk = LoopDisk::ext4_at(32, &agent.state());
    let log = agent.log("t.log");
    agent.start();
    append(&log, &lines::text(0..LINES));
    agent.wait_verified("trading", 1);
    let filler = fill(&disk, 0);
    for part in 1..4 {
        append(&log, &lines::text(part * LINES..(part + 1) * LINES));
        wait_until("something that is wrong", || {
            agent.ctl(&["logs", "status"]).code == 3 || !agent.findings("trading").is_empty()
        });
    }
    std::fs::remove_file(filler).unwrap();
    wait_until("a log that is cut again", || {
        std::fs::metadata(&log).map_or(0, |facts| facts.len()) < 256 << 10
    });
    agent.ctl(&["logs", "rotate", "--log-type", "trading"]);
    wait_until("every segment in the archive", || {
        // Some local copies may have made room.
        let archived = ["VERIFIED", "LOCAL_EXPIRED"];
        agent.segments("trading").iter().all(|segment| archived.contains(&segment.state.as_str()))
    });
    agent.assert_holds("trading", 4 * LINES);
    agent.ctl(&["oplog", "verify"]).ok().says(&["intact"]);
    drop(agent);
    drop(disk);
}
