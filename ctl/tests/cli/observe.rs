//! `observe`.

use std::fs;
use std::io::{Cursor, Write};
use std::time::Duration;

use genesis_client::v1::*;
use genesisctl::Exit;

use crate::fake::{Baselines, Fake, Script};
use crate::{Outcome, ctl, ctl_with, folder, squeezed};

fn agent(baselines: Baselines) -> (tempfile::TempDir, Fake) {
    let folder = folder();
    let fake = Fake::start(folder.path(), Script { baselines, ..Default::default() });
    (folder, fake)
}

/// Sends a file of this name and content.
fn file(agent: &(tempfile::TempDir, Fake), name: &str, text: &str, flags: &[&str]) -> Outcome {
    let path = agent.0.path().join(name);
    fs::write(&path, text).unwrap();
    let path = path.display().to_string();
    ctl(&[&["observe", "--file", &path, "-n", &agent.1.node()], flags].concat())
}

fn stdin(fake: &Fake, text: &str, flags: &[&str]) -> Outcome {
    let text = text.to_owned();
    let node = fake.node();
    ctl_with(&[&["observe", "--file", "-", "-n", &node], flags].concat(), |console| {
        console.stdin = Box::new(Cursor::new(text));
    })
}

fn thousand() -> String {
    let lines =
        (0..1_000).map(|number| format!("orders.place,{},{number}\n", 1_700_000_000 + number));
    "operation,timestamp,latency_ms\n".to_owned() + &lines.collect::<String>()
}

#[test]
fn a_file_of_csv_is_counted_once_however_often_it_is_sent() {
    let agent = agent(Baselines::default());
    let sent = file(&agent, "x.csv", &thousand(), &["--batch-rows", "300", "--reason", "r"]);
    assert_eq!(sent.exit, Exit::Ok, "{}", sent.stderr);
    let lines = squeezed(sent.out());
    assert_eq!(lines[0], "ROWS BAD BATCHES COUNTED HAD BEFORE REJECTED LATE AHEAD CROWDED OUT");
    assert_eq!(lines[1], "1,000 0 4 1,000 0 0 0 0 0");
    assert_eq!(lines.len(), 2);
    assert_eq!(agent.1.calls(), ["Observe because r"]);
    let batches = agent.1.batches();
    let sequences: Vec<_> = batches.iter().map(|batch| batch.sequence).collect();
    assert_eq!(sequences, [301, 601, 901, 1_001], "the numbers of their last lines");
    let producer = &batches[0].producer;
    assert!(producer.starts_with("file-") && producer.len() == 37, "{producer}");
    let counted = agent.1.counted();
    assert_eq!(counted[7], ("orders.place".into(), 1_700_000_007_000_000_000, 0.007));
    assert_eq!(counted.len(), 1_000);

    // The same content, under another name and in other batches.
    let again = file(&agent, "y", &thousand(), &[]);
    assert_eq!(again.exit, Exit::Ok, "{}", again.stderr);
    assert_eq!(squeezed(again.out())[1], "1,000 0 1 0 1,000 0 0 0 0");
    assert!(again.out().contains("it was there before") && again.out().contains("--again"));
    let json = file(&agent, "x.csv", &thousand(), &["-o", "json"]).json();
    let response = &json[0]["response"];
    assert_eq!((&response["counted"], &response["duplicates"]), (&"0".into(), &"1000".into()));
    assert_eq!(agent.1.counted().len(), 1_000);

    let anew = file(&agent, "x.csv", &thousand(), &["--again"]);
    assert_eq!(squeezed(anew.out())[1], "1,000 0 1 1,000 0 0 0 0 0");
    let named = file(&agent, "x.csv", &thousand(), &["--batch-id", "january", "-v"]);
    assert!(named.out().contains("producer: january"), "{}", named.out());
    assert_eq!(agent.1.counted().len(), 3_000);
}

#[test]
fn bad_lines_are_told_and_the_good_ones_kept() {
    let agent = agent(Baselines::default());
    let mut text =
        "\u{feff}timestamp,extra,latency_s,operation\r\n1,x,0.5,a\r\n\r\nthen,x,0.5,a\n1,x,-1,a\n"
            .to_owned();
    text += "1,x,0.5,no name\n1,x,0.5\n2023-11-14T22:13:20.5Z,x,0.25,b\n1,x,\u{1b}[2J,a\n";
    text += &format!("1,{},1,a\n", "x".repeat(70_000));
    let sent = file(&agent, "x.csv", &text, &[]);
    assert_eq!(sent.exit, Exit::Unknown, "{}", sent.stderr);
    for told in [
        "line 4: the timestamp \"then\" is neither RFC 3339 nor seconds since 1970",
        "line 5: the latency -1 is not from 0 to 2^32 s",
        "line 6: the operation \"no name\" is not 1 to 128",
        "line 7: it ends before the column operation",
        "line 9: the latency ",
        "line 10: it is longer than 65,536 bytes",
        "error[OBSERVATIONS_INCOMPLETE]: not all observations count: 6 in bad lines",
    ] {
        assert!(sent.stderr.contains(told), "lacks {told:?}: {}", sent.stderr);
    }
    assert!(!sent.stderr.contains('\u{1b}'));
    assert_eq!(squeezed(sent.out())[1], "8 6 1 2 0 0 0 0 0");
    let counted = agent.1.counted();
    assert_eq!(counted[0], ("a".into(), 1_000_000_000, 0.5));
    assert_eq!(counted[1], ("b".into(), 1_700_000_000_500_000_000, 0.25));

    let bad = "operation,timestamp,latency_s\n".to_owned() + &"x,y,z\n".repeat(30);
    let sent = file(&agent, "x.csv", &bad, &["-o", "json"]);
    assert_eq!(sent.exit, Exit::Failed, "none is good");
    assert!(sent.stderr.contains("line 21:") && !sent.stderr.contains("line 22:"));
    assert!(sent.stderr.contains("and 10 more bad lines"), "{}", sent.stderr);
    let json = sent.json();
    assert_eq!(json[0]["error"]["reason"], "OBSERVATIONS_BAD");
    assert_eq!(json[0]["response"]["bad"], "30");
    assert_eq!(json[0]["response"]["badLines"].as_array().unwrap().len(), 20);
    let none = file(&agent, "x.csv", "operation,timestamp,latency_s\n", &[]);
    assert_eq!(none.exit, Exit::Ok);
    assert!(none.out().contains("has no observations"), "{}", none.out());
}

#[test]
fn ndjson_and_standard_input_are_read() {
    let (_folder, fake) = agent(Baselines::default());
    let text = "{\"timestamp\":1700000000.123456789,\"latency_ms\":2,\"operation\":\"a\"}\n\
                {\"timestamp\":\"2023-11-14T22:13:20Z\",\"latency_s\":1}\n{\"x\":1}\n";
    let sent = stdin(&fake, text, &["--operation", "b"]);
    assert_eq!(sent.exit, Exit::Unknown, "{}", sent.stderr);
    assert!(sent.stderr.contains("line 3: it has no latency_ms or latency_s"), "{}", sent.stderr);
    let counted = fake.counted();
    assert_eq!(counted[0], ("a".into(), 1_700_000_000_123_456_789, 0.002));
    assert_eq!(counted[1], ("b".into(), 1_700_000_000_000_000_000, 1.0));
    let csv = "timestamp,latency_s\n1,1\n";
    for _ in 0..2 {
        let sent = stdin(&fake, csv, &["--operation", "c"]);
        assert_eq!(
            squeezed(sent.out())[1],
            "1 0 1 1 0 0 0 0 0",
            "by chance, it is another each time"
        );
    }
    for counted in ["1 0 1 1 0 0 0 0 0", "1 0 1 0 1 0 0 0 0"] {
        let sent = stdin(&fake, csv, &["--operation", "c", "--batch-id", "tuesday"]);
        assert_eq!(squeezed(sent.out())[1], counted);
    }
    assert_eq!(stdin(&fake, "{}\n", &["--format", "csv"]).exit, Exit::Usage);
    assert_eq!(stdin(&fake, csv, &["--format", "ndjson"]).exit, Exit::Failed);
}

#[test]
fn what_can_not_be_used_is_refused_before_anything_is_sent() {
    let agent = agent(Baselines::default());
    for (text, flags, told) in [
        ("", &[][..], "there is none"),
        ("timestamp,latency_ms\n1,1\n", &[], "no column operation"),
        ("operation,timestamp\n", &[], "no column latency_ms or latency_s"),
        ("operation,timestamp,latency_s\n", &["--operation", "no name"], "1 to 128"),
        ("operation,timestamp,latency_s\n", &["--batch-rows", "100001"], "100000"),
        ("operation,timestamp,latency_s\n", &["--again", "--batch-id", "x"], "cannot be used with"),
    ] {
        let outcome = file(&agent, "x.csv", text, flags);
        assert_eq!(outcome.exit, Exit::Usage, "{text:?} {flags:?}");
        assert!(outcome.stderr.contains(told), "{told}: {}", outcome.stderr);
    }
    let node = agent.1.node();
    let nodes = format!("{node},unix:/nowhere.sock");
    let outcome = ctl(&["observe", "--file", "x.csv", "-n", &nodes]);
    assert_eq!(outcome.exit, Exit::Usage);
    assert!(outcome.stderr.contains("one node at a time"), "{}", outcome.stderr);
    let outcome = ctl(&["observe", "--file", "/nowhere/x.csv", "-n", &node]);
    assert_eq!(outcome.exit, Exit::Failed);
    assert!(outcome.stderr.contains("can't open /nowhere/x.csv"), "{}", outcome.stderr);
    let folder = agent.0.path().display().to_string();
    assert_eq!(ctl(&["observe", "--file", &folder, "-n", &node]).exit, Exit::Usage);
    assert!(agent.1.calls().is_empty());
}

#[test]
fn a_break_in_the_middle_counts_everything_once() {
    let breaks_after = Some(1);
    let agent = agent(Baselines { breaks_after, ..Default::default() });
    let sent = file(&agent, "x.csv", &thousand(), &["--batch-rows", "50"]);
    assert_eq!(sent.exit, Exit::Ok, "{}", sent.stderr);
    assert_eq!(squeezed(sent.out())[1], "1,000 0 20 1,000 0 0 0 0 0");
    assert_eq!(agent.1.counted().len(), 1_000);
    assert_eq!(agent.1.calls(), ["Observe", "Observe"]);
    assert!(agent.1.batches().len() > 20, "some came twice");
}

#[test]
fn what_the_agent_leaves_out_makes_it_incomplete() {
    let left_out =
        ObserveResponse { late: 2, ahead: 1, crowded_out: 4, rejected: 3, ..Default::default() };
    let agent = agent(Baselines { left_out, ..Default::default() });
    let sent = file(&agent, "x.csv", &thousand(), &[]);
    assert_eq!(sent.exit, Exit::Unknown, "{}", sent.stderr);
    assert_eq!(squeezed(sent.out())[1], "1,000 0 1 1,000 0 3 2 1 4");
    assert!(sent.stderr.contains("2 older than what the agent keeps"), "{}", sent.stderr);
}

#[test]
fn a_file_that_is_changed_while_it_is_read_is_refused() {
    let folder = folder();
    let delay = Duration::from_millis(400);
    let fake = Fake::start(folder.path(), Script { delay, ..Default::default() });
    let agent = (folder, fake);
    let path = agent.0.path().join("x.csv");
    // While the first batches are on their way.
    let writer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(200));
        let mut file = fs::OpenOptions::new().append(true).open(path).unwrap();
        file.write_all(b"late,1,1\n").unwrap();
    });
    let sent = file(&agent, "x.csv", &thousand(), &["--batch-rows", "50"]);
    writer.join().unwrap();
    assert_eq!(sent.exit, Exit::Conflict, "{}", sent.stderr);
    assert!(sent.stderr.contains("error[FILE_CHANGED]"), "{}", sent.stderr);
    assert!(agent.1.counted().len() < 1_000);
}
