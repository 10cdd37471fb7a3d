//! The database is lost, and the archive is not.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use genesis_tests::clock::wait_until;
use genesis_tests::s3::S3;
use genesis_tests::{Output, TestAgent, lines, source};

fn append(path: &Path, text: &str) {
    let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// The sha256 in the trailer of a retrieval.
fn hash(output: &Output) -> String {
    let (_, hash) = output.stderr.split_once("sha256 ").unwrap();
    hash.split_whitespace().next().unwrap().to_owned()
}

fn lose_the_database(agent: &mut TestAgent) {
    agent.terminate();
    std::fs::remove_file(agent.database()).unwrap();
}

#[test]
fn the_catalogue_rebuilt_from_the_archive_gives_the_same_lines() {
    let mut agent = TestAgent::started(|log| source("trading", &log.join("*.log"), "1GB"));
    let (one, two) = (agent.log("one.log"), agent.log("two.log"));
    for part in 0..6 {
        let path = if part % 2 == 0 { &one } else { &two };
        append(path, &lines::text(part * 100..(part + 1) * 100));
        agent.rotate("trading");
    }
    agent.wait_verified("trading", 6);
    let before = agent.retrieve("trading", lines::DAY).ok();
    let known = agent.segments("trading");
    lose_the_database(&mut agent);
    // One local copy is gone as well.
    std::fs::remove_file(known[2].file(&agent.sealed())).unwrap();
    agent.start();
    assert!(agent.segments("trading").is_empty());

    // What is rotated before anybody notices takes no number that is taken.
    append(&one, &lines::text(600..700));
    agent.rotate("trading");
    assert_eq!(agent.segments("trading")[0].sequence, 7);

    let plan = agent.ctl(&["logs", "rebuild-catalog", "--plan"]).ok();
    plan.says(&["trading", "6 segment(s) in the archive"]);
    assert_eq!(agent.segments("trading").len(), 1, "planning does nothing");
    agent.ctl(&["logs", "rebuild-catalog", "--reason", "new disk"]).ok().says(&["6 of 6"]);
    let mut rebuilt = agent.segments("trading");
    let seventh = rebuilt.pop().unwrap();
    assert_eq!(seventh.sequence, 7);
    let states: Vec<&str> = rebuilt.iter().map(|segment| segment.state.as_str()).collect();
    let (here, gone) = ("VERIFIED", "LOCAL_EXPIRED");
    assert_eq!(states, [here, here, gone, here, here, here]);
    for (now, then) in rebuilt.iter().zip(&known) {
        assert_eq!((now.lines, now.plain_bytes), (then.lines, then.plain_bytes));
        assert_eq!(now.archive_name, then.archive_name);
    }
    let after = agent.retrieve("trading", "2024-03-01T00:00:00Z..2024-03-01T00:00:00.012Z").ok();
    assert_eq!(hash(&after), hash(&before));
    assert_eq!(after.stdout, before.stdout);
    agent.assert_holds("trading", 700);
    // The chain goes on unbroken.
    agent.ctl(&["logs", "verify", "--log-type", "trading", "--depth", "full"]).ok();
    agent.ctl(&["logs", "rebuild-catalog"]).ok().says(&["0 of 0"]);
    agent.ctl(&["oplog", "verify"]).ok();
}

#[test]
fn what_never_reached_the_archive_is_found_again() {
    let mut agent = TestAgent::new(|log| {
        let aside = log.join("../file");
        let url = format!("[logs.archive]\nurl = \"file://{}/archive\"\n", aside.display());
        url + &source("trading", &log.join("t.log"), "1GB")
    });
    // The archive can't be made yet.
    let aside = agent.log("../file");
    std::fs::write(&aside, "in the way").unwrap();
    agent.start();
    let log = agent.log("t.log");
    append(&log, &lines::text(0..100));
    agent.ctl(&["logs", "rotate", "--log-type", "trading", "--detach"]).ok();
    wait_until("a sealed segment", || {
        agent.segments("trading").first().is_some_and(|segment| segment.state == "SEALED")
    });
    agent.ctl(&["run", "watch", "last"]);
    // And one that its writer still holds.
    append(&log, &lines::text(100..200));
    let writer = OpenOptions::new().append(true).open(&log).unwrap();
    agent.ctl(&["logs", "rotate", "--log-type", "trading", "--detach"]).ok();
    wait_until("the rename", || !log.exists());
    wait_until("a detached segment", || {
        agent.segments("trading").last().is_some_and(|segment| segment.state == "DETACHED")
    });
    agent.kill();
    std::fs::remove_file(agent.database()).unwrap();
    drop(writer);
    std::fs::remove_file(&aside).unwrap();
    std::fs::create_dir(&aside).unwrap();
    agent.start();
    agent
        .ctl(&["logs", "rebuild-catalog", "--plan"])
        .ok()
        .says(&["1 segment(s) sealed here", "1 segment(s) renamed"]);
    agent.ctl(&["logs", "rebuild-catalog"]).ok().says(&["2 of 2"]);
    agent.wait_verified("trading", 2);
    append(&log, &lines::text(200..300));
    agent.rotate("trading");
    agent.wait_verified("trading", 3);
    agent.assert_holds("trading", 300);
    agent.ctl(&["logs", "verify", "--log-type", "trading", "--depth", "full"]).ok();
}

#[test]
fn what_is_damaged_or_gone_is_entered_and_named() {
    let mut agent = TestAgent::started(|log| source("trading", &log.join("t.log"), "1GB"));
    for part in 0..4 {
        append(&agent.log("t.log"), &lines::text(part * 100..(part + 1) * 100));
        agent.rotate("trading");
    }
    let segments = agent.wait_verified("trading", 4);
    lose_the_database(&mut agent);
    std::fs::remove_dir_all(agent.sealed()).unwrap();
    // The first is cut short, of the second only the manifest is there, of the third only the lines.
    let first = segments[0].file(&agent.archive());
    let bytes = std::fs::read(&first).unwrap();
    std::fs::write(&first, &bytes[..bytes.len() / 2]).unwrap();
    std::fs::remove_file(segments[1].file(&agent.archive())).unwrap();
    std::fs::remove_file(segments[2].manifest(&agent.archive())).unwrap();
    agent.start();
    let rebuild = agent.ctl(&["logs", "rebuild-catalog"]).exits(1);
    rebuild.says(&["CATALOGUE_INCOMPLETE", &segments[2].archive_name]);
    // Those that don't match wait for a person, and are not taken for archived.
    wait_until("both in quarantine", || {
        let list = agent.ctl(&["logs", "list", "--log-type", "trading"]).ok().text();
        list.matches("QUARANTINED").count() == 2
    });
    let retrieved = agent
        .retrieve("trading", lines::DAY)
        .exits(5)
        .says(&["SEGMENT_DAMAGED", "SEGMENT_MISSING"]);
    lines::assert_exactly(&retrieved.stdout, 300..400);
    // Mended, they go on by themselves.
    std::fs::write(&first, &bytes).unwrap();
    agent.kill();
    agent.start();
    wait_until("the first one verified", || {
        agent.segments("trading").first().is_some_and(|segment| segment.state == "VERIFIED")
    });
}

#[test]
fn a_plan_that_was_overtaken_is_not_carried_out() {
    let mut agent = TestAgent::started(|log| source("trading", &log.join("t.log"), "1GB"));
    for part in 0..2 {
        append(&agent.log("t.log"), &lines::text(part * 100..(part + 1) * 100));
        agent.rotate("trading");
    }
    let segments = agent.wait_verified("trading", 2);
    lose_the_database(&mut agent);
    std::fs::remove_dir_all(agent.sealed()).unwrap();
    let file = segments[1].file(&agent.archive());
    let aside = agent.folder().join("aside");
    std::fs::create_dir(&aside).unwrap();
    let manifest = segments[1].manifest(&agent.archive());
    std::fs::rename(&file, aside.join("file")).unwrap();
    std::fs::rename(&manifest, aside.join("manifest")).unwrap();
    agent.start();
    let plan = agent.ctl(&["logs", "rebuild-catalog", "--plan", "-o", "json"]).ok().response();
    let hash = plan["plan"]["hash"].as_str().unwrap().to_owned();
    std::fs::rename(aside.join("file"), &file).unwrap();
    std::fs::rename(aside.join("manifest"), &manifest).unwrap();
    let held = ["logs", "rebuild-catalog", "--plan-hash", &hash];
    agent.ctl(&held).exits(9).says(&["PLAN_CHANGED"]);
    assert!(agent.segments("trading").is_empty());
}

#[test]
fn from_a_bucket_with_other_hosts_segments_only_ours_are_entered() {
    let s3 = S3::start();
    let archive = s3.config("fleet", "5s");
    let mut agent =
        TestAgent::started(|log| archive + &source("trading", &log.join("t.log"), "1GB"));
    for part in 0..3 {
        append(&agent.log("t.log"), &lines::text(part * 100..(part + 1) * 100));
        agent.rotate("trading");
    }
    let segments = agent.wait_verified("trading", 3);
    let before = agent.retrieve("trading", lines::DAY).ok();
    // Another host's, and what is none.
    let root = s3.objects().join("fleet");
    for (of, suffix) in [(&segments[0], ".log.gz"), (&segments[1], ".manifest.json")] {
        let (folder, file) = of.archive_name.rsplit_once('/').unwrap();
        let (_, rest) = file.split_once("-trading-").unwrap();
        let path = root.join(folder).join(format!("other-host-trading-{rest}{suffix}"));
        std::fs::write(path, "somebody else's").unwrap();
    }
    std::fs::write(root.join("trading/notes.txt"), "a note").unwrap();
    lose_the_database(&mut agent);
    std::fs::remove_dir_all(agent.sealed()).unwrap();
    agent.start();
    agent.ctl(&["logs", "rebuild-catalog"]).ok().says(&["3 of 3"]);
    let after = agent.retrieve("trading", lines::DAY).ok();
    assert_eq!(hash(&after), hash(&before));
    agent.assert_holds("trading", 300);
}

#[test]
fn killed_in_the_middle_it_is_finished_by_the_next_one() {
    let mut agent = TestAgent::started(|log| source("trading", &log.join("t.log"), "4KiB"));
    for part in 0..40 {
        append(&agent.log("t.log"), &lines::text(part * 50..(part + 1) * 50));
        agent.rotate("trading");
    }
    agent.wait_verified("trading", 40);
    lose_the_database(&mut agent);
    agent.start_with_failpoint("logs.batch-adopted", 1);
    agent.wait_ready();
    agent.ctl(&["logs", "rebuild-catalog"]);
    agent.wait_killed();
    agent.start();
    agent.ctl(&["logs", "rebuild-catalog"]).ok();
    assert_eq!(agent.segments("trading").len(), 40);
    agent.assert_holds("trading", 2_000);
    agent.ctl(&["logs", "verify", "--log-type", "trading", "--depth", "manifest"]).ok();
}
