//! Damage in the archive: what is sound comes back, what is not is named.

use std::path::Path;

use genesis_tests::{Segment, TestAgent, lines, source};

/// Segments and lines in each. The middle one has several members of 1 MiB.
const LINES: [u64; 3] = [500, 30_000, 500];
const FIRST_OF_SECOND: u64 = LINES[0];
const FIRST_OF_THIRD: u64 = LINES[0] + LINES[1];
const ALL: u64 = LINES[0] + LINES[1] + LINES[2];

/// An agent with three archived segments.
fn archived() -> (TestAgent, Vec<Segment>) {
    let agent = TestAgent::started(|log| source("trading", &log.join("t.log"), "1GB"));
    let mut first = 0;
    for count in LINES {
        std::fs::write(agent.log("t.log"), lines::text(first..first + count)).unwrap();
        agent.rotate("trading");
        first += count;
    }
    let segments = agent.wait_verified("trading", LINES.len());
    (agent, segments)
}

/// Flips a bit in the byte at `part` per cent of the file.
fn flip(path: &Path, part: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    let at = bytes.len() * part / 100;
    bytes[at] ^= 0x10;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_flipped_byte_in_both_copies_costs_its_member_and_no_line_more() {
    let (agent, segments) = archived();
    let damaged = &segments[1];
    flip(&damaged.file(&agent.archive()), 10);
    flip(&damaged.file(&agent.sealed()), 10);

    let output = agent.retrieve("trading", lines::DAY).exits(5);
    // All lines but one run of them came, in order; the run is part of the second segment.
    let got = output.text();
    let missing = ALL - got.lines().count() as u64;
    let (whole, text) = (lines::text(0..ALL), got.as_bytes());
    let same = whole.bytes().zip(text.iter().copied()).take_while(|(a, b)| a == b).count();
    let before = whole[..same].matches('\n').count() as u64;
    assert!((FIRST_OF_SECOND..FIRST_OF_THIRD).contains(&before), "{before}");
    assert!(missing > 0 && before + missing < FIRST_OF_THIRD, "{missing} lines are missing");
    let expected = [lines::text(0..before), lines::text(before + missing..ALL)].concat();
    assert!(got == expected, "the rest came as it was written");
    output.says(&[
        "gap: segment 2",
        &damaged.archive_name,
        "SEGMENT_DAMAGED",
        "1 gap",
        // With separators for thousands.
        &format!("{},{:03} lines", missing / 1000, missing % 1000),
    ]);

    // The same into a file, which gets its name all the same only with what has come.
    let out = agent.folder().join("out.log");
    let file = out.display().to_string();
    let arguments = ["logs", "retrieve", "--log-type", "trading", "--date-range", lines::DAY];
    let answer = agent.ctl(&[&arguments[..], &["--out", &file, "-o", "json"]].concat()).exits(5);
    let trailer = answer.response();
    assert_eq!(trailer["gaps"][0]["sequence"], "2", "{trailer}");
    assert_eq!(trailer["gaps"][0]["lines"], missing.to_string(), "{trailer}");

    // A range that does not touch the damage is whole.
    agent.retrieve("trading", "2024-03-01T00:00:00Z..2024-03-01T00:00:00.005Z").ok();

    let verify = agent.ctl(&["logs", "verify"]).exits(3);
    verify.says(&["SEGMENT_DAMAGED", &damaged.archive_name, "1 finding"]);
    agent.ctl(&["logs", "verify", "--depth", "full"]).exits(3).says(&[&damaged.archive_name]);
    // The other segments are not accused.
    for segment in [&segments[0], &segments[2]] {
        let said = agent.ctl(&["logs", "verify"]).text();
        assert!(!said.contains(&segment.archive_name), "{said}");
    }
}

#[test]
fn one_sound_copy_is_enough() {
    let (agent, segments) = archived();
    // The archive's copy of the second is damaged, the local one of the third is gone.
    flip(&segments[1].file(&agent.archive()), 60);
    std::fs::remove_file(segments[2].file(&agent.sealed())).unwrap();
    std::fs::remove_file(segments[2].manifest(&agent.sealed())).unwrap();
    // And the local one of the first is damaged.
    flip(&segments[0].file(&agent.sealed()), 50);
    agent.assert_holds("trading", ALL);
    // Damage in the archive is found even where nobody misses a line yet.
    agent.ctl(&["logs", "verify"]).exits(3).says(&["SEGMENT_DAMAGED", &segments[1].archive_name]);
}

#[test]
fn a_segment_that_is_gone_is_named() {
    let (agent, segments) = archived();
    for root in [agent.archive(), agent.sealed()] {
        std::fs::remove_file(segments[1].file(&root)).unwrap();
    }
    let output = agent.retrieve("trading", lines::DAY).exits(5);
    let expected = [lines::text(0..FIRST_OF_SECOND), lines::text(FIRST_OF_THIRD..ALL)].concat();
    assert!(output.text() == expected, "the others came");
    output.says(&["gap: segment 2", &segments[1].archive_name]);
    agent.ctl(&["logs", "verify", "--depth", "manifest"]).exits(3).says(&["SEGMENT_MISSING"]);
}

#[test]
fn a_manifest_that_was_edited_is_found_and_its_lines_are_not_trusted() {
    let (agent, segments) = archived();
    for root in [agent.archive(), agent.sealed()] {
        let path = segments[0].manifest(&root);
        let text = std::fs::read_to_string(&path).unwrap();
        let edited = text.replacen("500", "400", 1);
        assert_ne!(text, edited);
        std::fs::write(&path, edited).unwrap();
    }
    let output = agent.retrieve("trading", lines::DAY).exits(5);
    assert!(output.text() == lines::text(FIRST_OF_SECOND..ALL), "the others came");
    output.says(&["gap: segment 1", "MANIFEST_DAMAGED"]);
    let verify = agent.ctl(&["logs", "verify", "--depth", "manifest"]).exits(3);
    verify.says(&["MANIFEST_DAMAGED", &segments[0].archive_name]);
}

#[test]
fn every_flipped_byte_of_an_archived_segment_is_found() {
    let (agent, segments) = archived();
    let path = segments[0].file(&agent.archive());
    let sound = std::fs::read(&path).unwrap();
    // Across head, data and tail of the file.
    for part in [0, 1, 17, 50, 83, 99] {
        flip(&path, part);
        agent.ctl(&["logs", "verify", "--log-type", "trading"]).exits(3).says(&["SEGMENT_DAMAGED"]);
        agent.assert_holds("trading", ALL);
        std::fs::write(&path, &sound).unwrap();
    }
    agent.ctl(&["logs", "verify", "--log-type", "trading", "--depth", "full"]).ok();
}

#[test]
fn retention_keeps_the_last_sound_copy() {
    // Verified once, the archive has rotted since: the local copy is all there is.
    let keep = |log: &Path| {
        source("trading", &log.join("t.log"), "1GB")
            .replace("local_retention = \"36500d\"", "local_retention = \"30d\"")
    };
    let agent = TestAgent::started(keep);
    agent.ctl(&["schedule", "pause", "logs.local-retention"]).ok();
    for first in [0, 100] {
        std::fs::write(agent.log("t.log"), lines::text(first..first + 100)).unwrap();
        agent.rotate("trading");
    }
    let segments = agent.wait_verified("trading", 2);
    flip(&segments[0].file(&agent.archive()), 50);

    agent
        .ctl(&["schedule", "run", "logs.local-retention"])
        .exits(1)
        .says(&[&segments[0].archive_name, "1 segment(s) deleted"]);

    assert!(segments[0].file(&agent.sealed()).exists(), "the sound copy is still there");
    assert!(!segments[1].file(&agent.sealed()).exists(), "the other one has gone");
    agent.assert_holds("trading", 200);
}
