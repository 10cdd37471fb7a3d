//! The operation log: every edited byte shows.

use std::path::Path;

use genesis_tests::{TestAgent, ctl, source};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde_json::Value;

/// The table as somebody sees it who opens the file with redb.
const OPLOG: TableDefinition<u64, &[u8]> = TableDefinition::new("oplog");

fn agent() -> TestAgent {
    let agent = TestAgent::started(|log| source("trading", &log.join("t.log"), "1GB"));
    for text in ["first remark", "second remark", "third remark"] {
        agent.ctl(&["oplog", "note", text]).ok();
    }
    agent
}

/// The head as `oplog verify` shows it: SEQ:HASH.
fn head(agent: &TestAgent) -> String {
    let head = agent.ctl(&["oplog", "verify", "-o", "json"]).ok().response()["head"].clone();
    format!("{}:{}", head["sequence"].as_str().unwrap(), head["hash"].as_str().unwrap())
}

/// Edits the stored entries as somebody with the right tool would; `edit` gets each entry's bytes.
fn edit(database: &Path, mut edit: impl FnMut(u64, &mut Vec<u8>) -> bool) {
    let database = Database::open(database).unwrap();
    let entries: Vec<(u64, Vec<u8>)> = {
        let reading = database.begin_read().unwrap();
        let table = reading.open_table(OPLOG).unwrap();
        let rows = table.iter().unwrap().map(|row| row.unwrap());
        rows.map(|(key, value)| (key.value(), value.value().to_vec())).collect()
    };
    let writing = database.begin_write().unwrap();
    {
        let mut table = writing.open_table(OPLOG).unwrap();
        for (sequence, mut bytes) in entries {
            if edit(sequence, &mut bytes) {
                if bytes.is_empty() {
                    table.remove(sequence).unwrap();
                } else {
                    table.insert(sequence, bytes.as_slice()).unwrap();
                }
            }
        }
    }
    writing.commit().unwrap();
}

fn find(bytes: &[u8], text: &str) -> Option<usize> {
    bytes.windows(text.len()).position(|window| window == text.as_bytes())
}

#[test]
fn an_entry_that_was_edited_in_the_database_is_named() {
    let mut agent = agent();
    agent.ctl(&["oplog", "verify"]).ok().says(&["intact"]);
    agent.terminate();
    let sound = std::fs::read(agent.database()).unwrap();
    let mut edited = 0;
    edit(&agent.database(), |sequence, bytes| {
        let Some(at) = find(bytes, "second remark") else { return false };
        bytes[at..at + 6].copy_from_slice(b"sEcond");
        edited = sequence;
        true
    });
    assert!(edited > 0, "the entry was found");
    agent.start();
    let verify = agent.ctl(&["oplog", "verify", "-o", "json"]).exits(3);
    let findings = verify.response()["findings"].clone();
    assert!(findings.to_string().contains(&edited.to_string()), "{findings}");
    assert_eq!(verify.response()["intact"], false);
    agent.ctl(&["oplog", "verify"]).exits(3).says(&["NOT INTACT", &edited.to_string()]);
    // It goes on working, and what comes later does not hide it.
    agent.ctl(&["oplog", "note", "later"]).ok();
    agent.ctl(&["oplog", "verify"]).exits(3);

    // An entry taken out shows as well.
    agent.terminate();
    std::fs::write(agent.database(), &sound).unwrap();
    edit(&agent.database(), |sequence, bytes| {
        let wanted = sequence == edited;
        if wanted {
            bytes.clear();
        }
        wanted
    });
    agent.start();
    agent.ctl(&["oplog", "verify"]).exits(3).says(&["NOT INTACT", &edited.to_string()]);
}

#[test]
fn bytes_flipped_in_the_file_never_pass_for_an_intact_log() {
    let mut agent = agent();
    agent.terminate();
    let sound = std::fs::read(agent.database()).unwrap();
    let mut bytes = sound;
    let (mut at, mut hits) = (0, 0);
    while let Some(found) = find(&bytes[at..], "second remark") {
        bytes[at + found] ^= 0x20;
        (at, hits) = (at + found + 1, hits + 1);
    }
    assert!(hits > 0, "the remark stands in the file as text");
    std::fs::write(agent.database(), &bytes).unwrap();
    match agent.try_start() {
        // The database's own checksums notice first: then it does not start, and touches nothing.
        Err(ended) => {
            assert_eq!(ended.code, Some(1), "{ended:?}");
            assert!(ended.stderr.contains("STORAGE_"), "{}", ended.stderr);
            assert!(std::fs::read(agent.database()).unwrap() == bytes, "the file was changed");
        }
        Ok(()) => {
            agent.ctl(&["oplog", "verify"]).exits(3);
        }
    }
}

#[test]
fn an_export_is_verified_without_the_agent() {
    let mut agent = agent();
    let known = head(&agent);
    let file = agent.folder().join("oplog.jsonl");
    let name = file.display().to_string();
    agent.ctl(&["oplog", "export", "--out", &name]).ok();
    agent.terminate();
    let verify = |more: &[&str]| ctl(&[&["oplog", "verify", "--file", &name], more].concat());
    verify(&[]).ok().says(&["intact"]);
    // The export holds more than the head that was known before: that is no fault.
    verify(&["--head", &known]).ok();

    let text = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    for line in &lines {
        serde_json::from_str::<Value>(line).expect("each line is JSON");
    }
    let write = |lines: &[&str]| std::fs::write(&file, lines.join("\n") + "\n").unwrap();
    let edited = text.replace("second remark", "sEcond remark");
    assert_ne!(edited, text);
    std::fs::write(&file, &edited).unwrap();
    verify(&[]).exits(3).says(&["NOT INTACT"]);
    // One left out, two swapped, the end cut off.
    let at = lines.iter().position(|line| line.contains("second remark")).unwrap();
    let mut fewer = lines.clone();
    fewer.remove(at);
    write(&fewer);
    verify(&[]).exits(3);
    let mut swapped = lines.clone();
    swapped.swap(at, at + 1);
    write(&swapped);
    verify(&[]).exits(3);
    write(&lines[..at]);
    verify(&["--head", &known]).exits(3);
}

#[test]
fn a_log_that_was_cut_off_shows_against_a_head_that_was_kept() {
    let mut agent = agent();
    let old = std::fs::read(agent.database());
    drop(old);
    agent.terminate();
    let before = std::fs::read(agent.database()).unwrap();
    agent.start();
    agent.ctl(&["oplog", "note", "what somebody wants to hide"]).ok();
    let known = head(&agent);
    agent.terminate();
    // The whole state is put back to before: consistent in itself, and still found.
    std::fs::write(agent.database(), &before).unwrap();
    agent.start();
    agent.ctl(&["oplog", "verify"]).ok();
    agent.ctl(&["oplog", "verify", "--head", &known]).exits(3).says(&["NOT INTACT"]);
}

#[test]
fn every_change_is_on_record_with_who_and_why() {
    let agent = agent();
    agent.ctl(&["logs", "rotate", "--reason", "before the upgrade"]).ok();
    agent.ctl(&["schedule", "pause", "storage.compact", "--reason", "audit"]).ok();
    let list = agent.ctl(&["oplog", "list", "--limit", "1000", "-o", "json"]).ok().response();
    let entries = list["entries"].as_array().unwrap().clone();
    for (action, reason) in [("run.started", "before the upgrade"), ("schedule.paused", "audit")] {
        let found = entries.iter().any(|entry| {
            entry["action"] == action
                && entry["reason"] == reason
                && entry["actor"].as_str().unwrap().starts_with("unix:uid=")
        });
        assert!(found, "{action} for {reason:?} is not on record: {list}");
    }
    // Reading leaves no trace.
    let before = head(&agent);
    agent.ctl(&["status"]).ok();
    agent.ctl(&["logs", "list"]).ok();
    assert_eq!(head(&agent), before);
    for wrong in ["", "   ", &"x".repeat(5000)] {
        agent.ctl(&["oplog", "note", wrong]).exits(2);
    }
    agent.ctl(&["oplog", "verify", "--head", "5:nohash"]).exits(2);
}
