//! What is deleted, when, and what never is.

use genesis_tests::{Segment, TestAgent, clock, source};
use jiff::{SignedDuration, Timestamp};

/// Ages of the three segments, in days.
const AGES: [i64; 3] = [400, 100, 1];
/// A range that holds all of them.
fn range() -> String {
    let day = |age: i64| (clock::now() - SignedDuration::from_hours(24 * age)).strftime("%Y-%m-%d");
    format!("{}:{}", day(800), day(0))
}

fn lines_of_age(days: i64) -> String {
    let at: Timestamp = clock::now() - SignedDuration::from_hours(24 * days);
    (0..20).map(|number| format!("{at} aged {days} days, line {number}\n")).collect()
}

/// An agent that keeps local copies for 30 days and archived ones for 365, with a segment of each age.
fn aged(extra: &str) -> (TestAgent, Vec<Segment>) {
    let mut agent = TestAgent::new(|log| {
        let source = source("trading", &log.join("t.log"), "1GB");
        let source =
            source.replace("local_retention = \"36500d\"\narchive_retention = \"36500d\"\n", "");
        format!("{source}{extra}\n")
    });
    agent.start();
    // Only what the test runs may delete anything, whatever the time of day.
    for job in ["logs.local-retention", "logs.archive-retention"] {
        agent.ctl(&["schedule", "pause", job]).ok();
    }
    for age in AGES {
        std::fs::write(agent.log("t.log"), lines_of_age(age)).unwrap();
        agent.rotate("trading");
    }
    let segments = agent.wait_verified("trading", AGES.len());
    (agent, segments)
}

/// Which of the segments are there: locally and in the archive.
fn present(agent: &TestAgent, segments: &[Segment]) -> (Vec<bool>, Vec<bool>) {
    let in_root = |root: std::path::PathBuf| {
        segments
            .iter()
            .map(|segment| {
                let (file, manifest) = (segment.file(&root), segment.manifest(&root));
                assert_eq!(file.exists(), manifest.exists(), "both or none: {}", file.display());
                file.exists()
            })
            .collect()
    };
    (in_root(agent.sealed()), in_root(agent.archive()))
}

fn states(agent: &TestAgent) -> Vec<String> {
    agent.segments("trading").into_iter().map(|segment| segment.state).collect()
}

fn ages_back(agent: &TestAgent) -> Vec<i64> {
    let output = agent.retrieve("trading", &range()).ok();
    let text = output.text();
    AGES.into_iter()
        .filter(|age| {
            let count = text.matches(&format!("aged {age} days")).count();
            assert!(count == 0 || count == 20, "all or none of {age}: {count}");
            count > 0
        })
        .collect()
}

#[test]
fn local_copies_go_after_30_days_and_archived_ones_after_365() {
    let (agent, segments) = aged("");
    assert_eq!(ages_back(&agent), AGES);
    agent.ctl(&["schedule", "run", "logs.local-retention"]).ok();
    assert_eq!(present(&agent, &segments), (vec![false, false, true], vec![true, true, true]));
    assert_eq!(states(&agent), ["LOCAL_EXPIRED", "LOCAL_EXPIRED", "VERIFIED"]);
    // Nothing is missed: what is not local comes from the archive.
    assert_eq!(ages_back(&agent), AGES);

    agent.ctl(&["schedule", "run", "logs.archive-retention"]).ok();
    assert_eq!(present(&agent, &segments), (vec![false, false, true], vec![false, true, true]));
    assert_eq!(states(&agent), ["ARCHIVE_EXPIRED", "LOCAL_EXPIRED", "VERIFIED"]);
    assert_eq!(ages_back(&agent), AGES[1..]);
    // What retention deleted is said, and is no gap.
    let output = agent.retrieve("trading", &range()).ok();
    output.says(&["retention has deleted 1 segment"]);
    agent.ctl(&["logs", "verify", "--depth", "full"]).ok();
    // Once more changes nothing.
    agent.ctl(&["schedule", "run", "logs.archive-retention"]).ok();
    agent.ctl(&["schedule", "run", "logs.local-retention"]).ok();
    assert_eq!(states(&agent), ["ARCHIVE_EXPIRED", "LOCAL_EXPIRED", "VERIFIED"]);
    agent.ctl(&["oplog", "list", "--action", "expired"]).ok().says(&["trading/1", "trading/2"]);
}

#[test]
fn a_local_copy_stays_until_the_archive_has_proven_its_own() {
    let mut agent = TestAgent::new(|log| {
        let folder = log.join("../file/archive").display().to_string();
        let source = source("trading", &log.join("t.log"), "1GB");
        let source = source.replace("local_retention = \"36500d\"\n", "local_retention = \"0s\"\n");
        format!("[logs.archive]\nurl = \"file://{folder}\"\n{source}").replace("log/../", "")
    });
    std::fs::write(agent.folder().join("file"), "in the way").unwrap();
    agent.start();
    agent.ctl(&["schedule", "pause", "logs.local-retention"]).ok();
    std::fs::write(agent.log("t.log"), lines_of_age(400)).unwrap();
    agent.ctl(&["logs", "rotate", "--log-type", "trading"]).exits(5);
    agent.ctl(&["schedule", "run", "logs.local-retention"]).ok();
    let segment = agent.segments("trading").remove(0);
    assert_eq!(segment.state, "SEALED");
    assert!(segment.file(&agent.sealed()).exists(), "the only copy there is");
    let text = agent.retrieve("trading", &range()).ok().text();
    assert_eq!(text.lines().count(), 20);
}

#[test]
fn a_clean_up_is_planned_confirmed_and_done() {
    let (agent, segments) = aged("");
    // Below the configured retention it is refused as a whole.
    let short = ["logs", "cleanup", "--older-than", "30d", "--log-type", "trading"];
    for more in [&["--yes"][..], &["--plan"]] {
        let output = agent.ctl(&[&short[..], more].concat());
        output.exits(4).says(&["RETENTION_NOT_REACHED", "trading", "365 days"]);
    }
    // Without a word of consent nothing is sent.
    let cleanup = ["logs", "cleanup", "--older-than", "365d", "--log-type", "trading"];
    agent.ctl(&cleanup).exits(2).says(&["--plan", "--yes"]);
    agent.ctl(&["logs", "cleanup", "--older-than", "soon", "--yes"]).exits(2);
    let plan = agent.ctl(&[&cleanup[..], &["--plan", "-o", "json"]].concat()).ok().response();
    assert_eq!(plan["segments"], "1", "{plan}");
    let hash = plan["plan"]["hash"].as_str().unwrap();
    let with = |hash: &str| agent.ctl(&[&cleanup[..], &["--plan-hash", hash, "--yes"]].concat());
    with("0123456789abcdef").exits(9).says(&["PLAN_CHANGED", hash]);
    assert_eq!(present(&agent, &segments), (vec![true; 3], vec![true; 3]), "nothing was deleted");

    with(hash).ok().says(&["1 segment(s) deleted"]);
    assert_eq!(present(&agent, &segments), (vec![false, true, true], vec![false, true, true]));
    assert_eq!(ages_back(&agent), AGES[1..]);
    // The plan has been carried out, so that it is another one now.
    with(hash).exits(9).says(&["PLAN_CHANGED"]);
    agent.ctl(&["logs", "verify", "--depth", "full"]).ok();
}

#[test]
fn what_is_held_is_deleted_by_nobody() {
    let (agent, segments) = aged("hold = true");
    agent.ctl(&["schedule", "run", "logs.local-retention"]).ok();
    agent.ctl(&["schedule", "run", "logs.archive-retention"]).ok();
    let cleanup = ["logs", "cleanup", "--older-than", "365d", "--log-type", "trading", "--yes"];
    agent.ctl(&cleanup).ok();
    assert_eq!(present(&agent, &segments), (vec![true; 3], vec![true; 3]));
}

#[test]
fn a_hold_wins_over_retention_and_over_an_admin_until_it_is_released() {
    let (agent, segments) = aged("");
    let day = |age: i64| (clock::now() - SignedDuration::from_hours(24 * age)).strftime("%F");
    let held = format!("{}:{}", day(401), day(399));
    let hold = ["logs", "hold", "--log-type", "trading", "--date-range", &held];
    agent.ctl(&hold).exits(2).says(&["--reason"]);
    agent.ctl(&[&hold[..], &["--plan"]].concat()).ok().says(&["hold", "1 segment(s)"]);
    agent.ctl(&["logs", "holds"]).ok().says(&["nothing is held"]);
    let audit = [&hold[..], &["--reason", "audit 4711"]].concat();
    agent.ctl(&audit).ok().says(&["is in force", "trading", "1 archived segment"]);
    agent.ctl(&audit).ok().says(&["was in force already"]);
    agent.ctl(&["logs", "holds"]).ok().says(&["audit 4711", "unix:uid="]);
    let everything = ["logs", "cleanup", "--older-than", "0s", "--log-type", "trading"];
    let early = [&everything[..], &["--override-retention"]].concat();
    let done = |agent: &TestAgent| {
        agent.ctl(&["schedule", "run", "logs.local-retention"]).ok();
        agent.ctl(&["schedule", "run", "logs.archive-retention"]).ok();
        agent.ctl(&[&early[..], &["--yes", "--reason", "personal data"]].concat()).ok();
    };
    agent.ctl(&[&everything[..], &["--yes"]].concat()).exits(4).says(&["RETENTION_NOT_REACHED"]);
    agent.ctl(&[&early[..], &["--yes"]].concat()).exits(2).says(&["--reason"]);
    agent.ctl(&[&early[..], &["--plan"]].concat()).ok().says(&["delete 2", "1 segment", "held"]);
    done(&agent);
    let only_the_held = (vec![true, false, false], vec![true, false, false]);
    assert_eq!(present(&agent, &segments), only_the_held);
    assert_eq!(ages_back(&agent), AGES[..1]);

    let holds = agent.ctl(&["logs", "holds", "-o", "json"]).ok().response();
    let id = holds["holds"][0]["id"].as_str().unwrap();
    agent
        .ctl(&["logs", "release", "zzzz", "--reason", "closed"])
        .exits(1)
        .says(&["HOLD_NOT_FOUND"]);
    agent.ctl(&["logs", "release", id]).exits(2).says(&["--reason"]);
    agent.ctl(&["logs", "release", &id[..10], "--reason", "closed"]).ok().says(&["is over"]);
    done(&agent);
    assert_eq!(present(&agent, &segments), (vec![false; 3], vec![false; 3]));
    let log = agent.ctl(&["oplog", "list", "--limit", "1000"]).ok();
    log.says(&["logs.held", "logs.released", "personal data"]);
}

#[test]
fn killed_in_the_middle_of_a_deletion_it_is_finished_by_the_next_one() {
    let (mut agent, segments) = aged("");
    agent.terminate();
    for point in ["logs.after-archive-delete", "step.delete-archived"] {
        agent.start_with_failpoint(point, 1);
        agent.wait_ready();
        let run = ["logs", "cleanup", "--older-than", "365d", "--log-type", "trading", "--yes"];
        agent.ctl(&[&run[..], &["--detach"]].concat());
        agent.wait_killed();
    }
    agent.start();
    agent.ctl(&["run", "show", "last"]).ok().says(&["INTERRUPTED", "logs.cleanup"]);
    // The file is gone, its manifest not yet; the local copy still answers for it.
    assert!(!segments[0].file(&agent.archive()).exists());
    assert_eq!(ages_back(&agent), AGES);
    agent.ctl(&["schedule", "run", "logs.archive-retention"]).ok();
    assert_eq!(present(&agent, &segments), (vec![false, true, true], vec![false, true, true]));
    assert_eq!(states(&agent), ["ARCHIVE_EXPIRED", "VERIFIED", "VERIFIED"]);
    agent.ctl(&["logs", "verify", "--depth", "full"]).ok();
    agent.ctl(&["oplog", "verify"]).ok();
}

#[test]
fn the_last_sound_copy_is_never_deleted() {
    let (agent, segments) = aged("");
    // The archive's copy of the oldest was damaged after it had been verified.
    let path = segments[0].file(&agent.archive());
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let output = agent.ctl(&["schedule", "run", "logs.local-retention"]).exits(1);
    output.says(&["ARCHIVE_MISMATCH", &segments[0].archive_name]);
    assert_eq!(present(&agent, &segments), (vec![true, false, true], vec![true, true, true]));
    assert_eq!(ages_back(&agent), AGES);
}
