//! Disks that fill up: local copies that are proven in the archive make room, as measured, and nothing else does.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

use genesis_storage::{Intent, Options, Store};
use genesis_tests::clock::wait_until;
use genesis_tests::health::{Check, Patient, config, word};
use genesis_tests::random::mix;
use genesis_tests::{LoopDisk, Signal, TestAgent, source};

/// Lines of a part: about 0.7 MB when they are compressed.
const LINES: u64 = 6_000;

/// Local copies on `disk`, the archive elsewhere; the disk is looked at, and `more` is also configured.
fn configure(agent: &TestAgent, disk: &LoopDisk, check: Check, more: (&str, &[Check])) {
    let logs = format!(
        "[logs]\nlocal_dir = {:?}\n[logs.archive]\nurl = \"file://{}\"\n",
        disk.join("sealed"),
        agent.folder().join("archive").display()
    );
    let sources = ["trading", "other"].map(|name| source(name, &agent.log(name), "1GB")).concat();
    let check = check.text("target", disk.path().display());
    let checks: Vec<&Check> = std::iter::once(&check).chain(more.1).collect();
    agent.configure(&format!("{logs}{sources}{}", config(more.0, checks)));
}

fn make_room() -> Check {
    Check::new("disk", "disk-bytes").text("action", "make-room")
}

/// Seals so many parts of a log, each in a minute of its own.
fn seal(agent: &TestAgent, log_type: &str, parts: std::ops::Range<u64>) {
    for part in parts {
        let noise = |line: u64| {
            (0..12).map(|word| format!("{:016x}", mix(line * 12 + word))).collect::<String>()
        };
        let lines = (part * LINES..(part + 1) * LINES)
            .map(|line| format!("2024-03-02T00:{part:02}:00Z {}\n", noise(line)));
        append(&agent.log(log_type), lines.collect::<String>().as_bytes()).unwrap();
        agent.ctl(&["logs", "rotate", "--log-type", log_type]);
    }
}

fn append(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    file.write_all(bytes)?;
    // Until it is on disk, its room is only promised.
    file.sync_all()
}

/// What is free on a disk, and all of it, in bytes.
fn room(disk: &LoopDisk) -> (u64, u64) {
    let facts = rustix::fs::statvfs(disk.path()).unwrap();
    let used = facts.f_blocks - facts.f_bfree;
    (facts.f_bavail * facts.f_frsize, (used + facts.f_bavail) * facts.f_frsize)
}

/// Fills a disk until no more than so many bytes are left.
fn fill(disk: &LoopDisk, left: u64) {
    for step in [64 << 10, 4 << 10, 1 << 10] {
        while room(disk).0 > left + step
            && append(&disk.join("filler"), &vec![0; step as usize]).is_ok()
        {}
    }
    while left == 0 && append(&disk.join("filler"), &[0; 512]).is_ok() {}
}

fn states(agent: &TestAgent, log_type: &str) -> Vec<String> {
    agent.segments(log_type).into_iter().map(|segment| segment.state).collect()
}

fn copies(agent: &TestAgent, disk: &LoopDisk) -> Vec<bool> {
    let there = |file: &Path| file.exists();
    let segments = agent.segments("trading");
    segments.iter().map(|segment| there(&segment.file(&disk.join("sealed")))).collect()
}

fn hold(agent: &TestAgent, range: &str) {
    let hold =
        ["logs", "hold", "--log-type", "trading", "--date-range", range, "--reason", "audit"];
    agent.ctl(&hold).ok();
}

/// Lets a disk fill up below 10 %, so that two copies are what is missing to 15 %. The second one is damaged in the
/// archive, the first one is held, one of another log is not in the archive.
fn a_disk_fills_up(action: &str, remediation: &str, held_by: Option<&str>) {
    let disk = LoopDisk::ext4(16);
    let mut agent = TestAgent::new(|_| String::new());
    std::fs::create_dir(agent.folder().join("archive")).unwrap();
    // Where the folder of this log should be in the archive.
    std::fs::write(agent.folder().join("archive/other"), "").unwrap();
    let check = Check::new("disk", "disk-bytes").text("action", action);
    configure(&agent, &disk, check, (remediation, &[]));
    agent.start();
    seal(&agent, "other", 0..1);
    seal(&agent, "trading", 0..6);
    hold(&agent, "2024-03-02T00:00:00Z..2024-03-02T00:00:30Z");
    let segments = agent.wait_verified("trading", 6);
    std::fs::write(segments[1].file(&agent.folder().join("archive")), "damaged").unwrap();
    let copy = std::fs::metadata(segments[2].file(&disk.join("sealed"))).unwrap().len();
    // Deleted, and not free before it is closed.
    let mut ghost = File::create(disk.join("ghost")).unwrap();
    ghost.write_all(&[1; 100_000]).unwrap();
    ghost.sync_all().unwrap();
    std::fs::remove_file(disk.join("ghost")).unwrap();
    let held_open = std::os::unix::fs::MetadataExt::blocks(&ghost.metadata().unwrap()) * 512;

    agent.ctl(&["health", "remediation", "disable", "--reason", "until it was measured"]).ok();
    let (_, all) = room(&disk);
    fill(&disk, all * 15 / 100 - copy * 3 / 2);
    agent.wait_denial("disk", if action.is_empty() { "NO_ACTION" } else { "DISABLED" });
    let before = room(&disk).0;
    assert!(before * 100 / all < 10, "{before} of {all}");
    agent.ctl(&["health", "remediation", "enable"]).ok();

    if let Some(code) = held_by {
        agent.wait_denial("disk", code);
        agent.wait_for_looks("disk", 8);
        assert_eq!((agent.issue_state("disk").as_str(), room(&disk).0), ("FAILING", before));
        assert_eq!(
            (states(&agent, "trading"), copies(&agent, &disk)),
            (vec!["VERIFIED".to_owned(); 6], vec![true; 6])
        );
        let tried = agent.outcomes("disk");
        assert!(tried.iter().all(|outcome| outcome == "DRY_RUN") && tried.len() < 2, "{tried:?}");
        return;
    }
    agent.wait_state("disk", "RESOLVED");
    agent.wait_outcomes("disk", &["SUCCEEDED"]);
    assert_eq!(word(&agent.issue("disk"), "resolution"), "by its action");
    let freed = room(&disk).0 - before;
    let attempt = &agent.attempts("disk")[0];
    let detail = word(attempt, "detail");
    assert!(freed >= 2 * copy, "{freed} bytes: {detail}");
    for part in [
        format!("2 local copies deleted, 1 could not be proven and stay; {freed} bytes freed"),
        format!("/ghost ({held_open} bytes) by process {}", std::process::id()),
    ] {
        assert!(detail.contains(&part), "{part:?} is not in {detail:?}");
    }
    assert!(room(&disk).0 * 100 >= all * 15, "as much as is wanted");
    let [verified, expired] = ["VERIFIED", "LOCAL_EXPIRED"];
    assert_eq!(
        states(&agent, "trading"),
        [verified, verified, expired, expired, verified, verified]
    );
    assert_eq!(copies(&agent, &disk), [true, true, false, false, true, true]);
    let other = &agent.segments("other")[0];
    assert!(other.state != verified && other.file(&disk.join("sealed")).exists(), "{other:?}");
    agent.ctl(&["oplog", "list", "--action", "logs.segment.local-expired"]).ok().says(&[
        "trading/3",
        "trading/4",
        "to make room",
    ]);
    assert!(agent.incidents().is_empty());
}

#[test]
fn the_oldest_proven_copies_make_as_much_room_as_is_wanted() {
    a_disk_fills_up("make-room", "", None);
}

#[test]
fn without_the_action_nothing_makes_room() {
    a_disk_fills_up("", "", Some("NO_ACTION"));
    a_disk_fills_up("make-room", "enabled = false", Some("DISABLED"));
    a_disk_fills_up("make-room", "dry_run = true", Some("DRY_RUN"));
}

#[test]
fn in_an_emergency_room_is_made_and_hooks_wait() {
    let disk = LoopDisk::ext4(16);
    let mut agent = TestAgent::new(|_| String::new());
    let db = Patient::new(agent.folder(), "db");
    let check = db.check().set("action", db.treatment("echo 0 > value"));
    configure(
        &agent,
        &disk,
        make_room(),
        ("", &[check.set("fallback", db.treatment("echo 0 > value"))]),
    );
    agent.start();
    seal(&agent, "trading", 0..4);
    agent.wait_verified("trading", 4);
    agent.ctl(&["emergency", "activate", "--reason", "prices are wrong"]).ok();
    db.is(1);
    let (_, all) = room(&disk);
    fill(&disk, all * 8 / 100);
    agent.wait_state("disk", "RESOLVED");
    agent.wait_outcomes("disk", &["SUCCEEDED"]);
    agent.wait_denial("db", "EMERGENCY");
    db.wait_for_looks(8);
    assert!(db.treatments().is_empty());
    for action in ["mend", "fallback"] {
        for way in [&["--plan"][..], &["--yes"], &["--yes", "--despite-trades"]] {
            let run = ["health", "run", action, "--check", "db", "--reason", "it can't wait"];
            agent.ctl(&[&run[..], way].concat()).exits(4).says(&["EMERGENCY"]);
        }
    }
    assert!(db.treatments().is_empty());
    agent.restart();
    agent.wait_denial("db", "EMERGENCY");
    agent.ctl(&["emergency", "release", "--reason", "over"]).ok();
    agent.wait_state("db", "RESOLVED");
    assert_eq!(db.treatments(), [1]);
}

#[test]
fn where_no_copy_may_go_people_are_called_after_three_attempts() {
    let disk = LoopDisk::ext4(16);
    let mut agent = TestAgent::new(|_| String::new());
    configure(&agent, &disk, make_room(), ("", &[]));
    agent.start();
    seal(&agent, "trading", 0..3);
    agent.wait_verified("trading", 3);
    hold(&agent, "2024-03-02");
    let (_, all) = room(&disk);
    fill(&disk, all * 5 / 100);
    agent.wait_state("disk", "ESCALATED");
    agent.wait_outcomes("disk", &["FAILED"; 3]);
    let attempt = &agent.attempts("disk")[2];
    assert!(word(attempt, "detail").contains("may go"), "{attempt}");
    agent.wait_for_looks("disk", 8);
    assert_eq!(
        (agent.attempts("disk").len(), agent.triggers()),
        (3, vec!["ATTEMPTS_FAILED".to_owned()])
    );
    assert_eq!(copies(&agent, &disk), [true; 3]);
}

#[test]
fn a_disk_without_a_byte_left_on_which_the_agents_own_state_is_gets_room() {
    let mut agent = TestAgent::new(|_| String::new());
    std::fs::create_dir(agent.state()).unwrap();
    let disk = LoopDisk::ext4_at(32, &agent.state());
    configure(&agent, &disk, make_room(), ("", &[]));
    agent.start();
    seal(&agent, "trading", 0..16);
    agent.wait_verified("trading", 16);
    // First while it is at work, but does not notice; then as a new agent finds it.
    for (round, attempts) in [(1, &["SUCCEEDED"][..]), (2, &["SUCCEEDED"; 2])] {
        match round {
            1 => agent.signal(Signal::STOP),
            _ => agent.kill(),
        }
        fill(&disk, 0);
        assert_eq!(room(&disk).0, 0);
        match round {
            1 => agent.signal(Signal::CONT),
            _ => agent.start(),
        }
        wait_until("an issue", || agent.issues("disk").len() == round);
        agent.wait_state("disk", "RESOLVED");
        agent.wait_outcomes("disk", attempts);
    }
    agent.ctl(&["oplog", "verify"]).ok().says(&["intact"]);
    drop(agent);
    drop(disk);
}

#[test]
fn what_the_agent_notes_has_room_that_nobody_else_takes() {
    let disk = LoopDisk::ext4(16);
    let store = Store::open(&disk.join("genesis.redb"), Options::default()).unwrap();
    let begin = || store.ingest(Intent::new(jiff::Timestamp::UNIX_EPOCH, "test", "stream"));
    let at = |round| jiff::Timestamp::from_second(round).unwrap();
    // 4 KiB a round.
    let points = |round: i64| -> Vec<_> {
        (round * 200..(round + 1) * 200).map(|second| (at(second), 1.0)).collect()
    };
    let note = |round| begin()?.append("cpu", &points(round));
    note(0).unwrap();
    fill(&disk, 0);
    assert_eq!(room(&disk).0, 0);
    let noted = (1..100_000).take_while(|&round| note(round).is_ok()).count();
    assert!(noted >= 100, "{noted}");
    // It is bounded, and what was noted stays.
    assert!(noted < 99_999, "{noted}");
    std::fs::remove_file(disk.join("filler")).unwrap();
    note(100_000).unwrap();
    let there =
        store.read(|tables| tables.series().range("cpu", at(0), at(100_000 * 201), usize::MAX));
    assert!(there.unwrap().len() >= (noted + 2) * 200);
}
