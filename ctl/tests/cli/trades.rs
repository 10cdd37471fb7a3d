//! `trades push`.

use std::fs;
use std::io::Cursor;

use genesis_client::v1::*;
use genesisctl::Exit;

use crate::experiments::served;
use crate::fake::{Experiments, Fake};
use crate::{Outcome, ctl, ctl_with, squeezed};

const HEADER: &str = "experiment,trade_id,unit,arm,pnl,timestamp\n";
const COLUMNS: &str = "ROWS BAD BATCHES COUNTED HAD BEFORE REJECTED LATE AFTER END UNKNOWN";

/// Sends a file of this name and content.
fn file(agent: &(tempfile::TempDir, Fake), name: &str, text: &str, flags: &[&str]) -> Outcome {
    let path = agent.0.path().join(name);
    fs::write(&path, text).unwrap();
    let path = path.display().to_string();
    ctl(&[&["trades", "push", "--file", &path, "-n", &agent.1.node()], flags].concat())
}

fn stdin(fake: &Fake, text: &str, flags: &[&str]) -> Outcome {
    let text = text.to_owned();
    let node = fake.node();
    ctl_with(&[&["trades", "push", "--file", "-", "-n", &node], flags].concat(), |console| {
        console.stdin = Box::new(Cursor::new(text));
    })
}

fn thousand() -> String {
    let line = |number| format!("TEST_3,t{number},account-{},,{number}.5,{number}\n", number % 10);
    HEADER.to_owned() + &(0..1_000).map(line).collect::<String>()
}

#[test]
fn a_file_counts_once_however_often_it_is_sent() {
    let agent = served(Experiments::default());
    let sent = file(&agent, "x.csv", &thousand(), &["--batch-rows", "300", "--reason", "r"]);
    assert_eq!(sent.exit, Exit::Ok, "{}", sent.stderr);
    assert_eq!(squeezed(sent.out()), [COLUMNS, "1,000 0 4 1,000 0 0 0 0 0"]);
    assert_eq!(agent.1.calls(), ["RecordTrades because r"]);
    let batches = agent.1.trade_batches();
    let sequences: Vec<_> = batches.iter().map(|batch| batch.sequence).collect();
    assert_eq!(sequences, [301, 601, 901, 1_001], "the numbers of their last lines");
    assert!(batches[0].producer.starts_with("file-"), "{}", batches[0].producer);
    assert!(batches[0].columns[0].arm.is_empty(), "no line has one");
    let trade = agent.1.trades()[7].clone();
    let (experiment, id, unit) = (trade.0.as_str(), trade.1.as_str(), trade.2.as_str());
    assert_eq!((experiment, id, unit), ("TEST_3", "t7", "account-7"));
    assert_eq!((trade.3, trade.4, trade.5), (0, 7.5, 7_000_000_000));

    let again = file(&agent, "y", &thousand(), &[]);
    assert_eq!(again.exit, Exit::Ok, "{}", again.stderr);
    assert_eq!(squeezed(again.out())[1], "1,000 0 1 0 1,000 0 0 0 0");
    assert!(again.out().contains("it was there before"), "{}", again.out());
    // Looked at once more, and each id is known.
    let anew = file(&agent, "x.csv", &thousand(), &["--again", "-o", "json"]);
    assert_eq!(anew.exit, Exit::Ok, "{}", anew.stderr);
    let response = &anew.json()[0]["response"];
    assert_eq!((&response["counted"], &response["duplicates"]), (&"0".into(), &"1000".into()));
    assert_eq!((&response["afterEnd"], &response["duplicateBatches"]), (&"0".into(), &"0".into()));
    assert_eq!(agent.1.trades().len(), 1_000);
}

#[test]
fn bad_lines_are_told_and_the_good_ones_kept() {
    let agent = served(Experiments::default());
    let mut text = "\u{feff}pnl,timestamp,arm,trade_id,host\r\n1,1,control,a,x\r\n\r\n".to_owned();
    text += "much,1,control,b,x\n1,then,control,c,x\n1,1,both,d,x\n1,1,,e,x\n1,1,VARIANT\n";
    text += "-2.5,2023-11-14T22:13:20.5Z,VARIANT,f,x\n1,1,\u{1b}[2J,g,x\n";
    let sent = file(&agent, "x.csv", &text, &["--experiment", "TEST_3"]);
    assert_eq!(sent.exit, Exit::Unknown, "{}", sent.stderr);
    for told in [
        "line 4: the pnl \"much\" is no number",
        "line 5: the timestamp \"then\" is neither RFC 3339 nor seconds since 1970",
        "line 6: the arm \"both\" is not control or variant",
        "line 7: it has neither a unit nor an arm",
        "line 8: it ends before the column trade_id",
        "line 10: the arm",
        "error[TRADES_INCOMPLETE]: not all trades count: 6 in bad lines",
    ] {
        assert!(sent.stderr.contains(told), "lacks {told:?}: {}", sent.stderr);
    }
    assert!(!sent.stderr.contains('\u{1b}'));
    assert_eq!(squeezed(sent.out())[1], "8 6 1 2 0 0 0 0 0");
    let trades = agent.1.trades();
    let variant: i32 = Arm::Variant.into();
    assert_eq!((trades[1].3, trades[1].4, trades[1].5), (variant, -2.5, 1_700_000_000_500_000_000));
    assert_eq!((trades[1].0.as_str(), trades[1].2.as_str()), ("TEST_3", ""));

    let bad = HEADER.to_owned() + &"a,b,c,d,e,f\n".repeat(30);
    let sent = file(&agent, "x.csv", &bad, &["-o", "json"]);
    assert_eq!(sent.exit, Exit::Failed, "none is good");
    assert!(sent.stderr.contains("and 10 more bad lines"), "{}", sent.stderr);
    assert_eq!(sent.json()[0]["error"]["reason"], "TRADES_BAD");
    assert!(sent.stderr.contains("`genesisctl trades push --help`"), "{}", sent.stderr);
    let none = file(&agent, "x.csv", HEADER, &[]);
    assert_eq!(none.exit, Exit::Ok);
    assert!(none.out().contains("has no trades"), "{}", none.out());
}

#[test]
fn the_same_lines_for_another_experiment_are_another_file() {
    let agent = served(Experiments::default());
    let text = "trade_id,unit,pnl,timestamp\nx,u,1,1\n";
    let to = |id| file(&agent, "x.csv", text, &["--experiment", id]);
    assert_eq!(squeezed(to("TEST_3").out())[1], "1 0 1 1 0 0 0 0 0");
    assert!(to("TEST_3").out().contains("it was there before"));
    let other = to("TEST_4");
    assert!(!other.out().contains("it was there before"), "{}", other.out());
    let producers: Vec<_> =
        agent.1.trade_batches().into_iter().map(|batch| batch.producer).collect();
    assert!(producers[0] == producers[1] && producers[1] != producers[2], "{producers:?}");
}

#[test]
fn ndjson_and_standard_input_are_read() {
    let (_folder, fake) = served(Experiments::default());
    let text = "{\"experiment\":\"A\",\"trade_id\":7,\"unit\":\"u\",\"pnl\":2,\"timestamp\":1700000000.123456789}\n\
                {\"trade_id\":\"8\",\"arm\":\"variant\",\"pnl\":-1e-3,\"timestamp\":\"2023-11-14T22:13:20Z\"}\n{\"x\":1}\n";
    let sent = stdin(&fake, text, &["--experiment", "B"]);
    assert_eq!(sent.exit, Exit::Unknown, "{}", sent.stderr);
    assert!(sent.stderr.contains("line 3: it has no trade_id"), "{}", sent.stderr);
    let trades = fake.trades();
    assert_eq!((trades[0].0.as_str(), trades[0].1.as_str()), ("A", "7"));
    assert_eq!((trades[0].4, trades[0].5), (2.0, 1_700_000_000_123_456_789));
    assert_eq!((trades[1].0.as_str(), trades[1].4), ("B", -0.001));
    let csv = "trade_id,unit,pnl,timestamp\nx,u,1,1\n";
    for counted in ["1 0 1 1 0 0 0 0 0", "1 0 1 0 1 0 0 0 0"] {
        let sent = stdin(&fake, csv, &["--experiment", "C", "--batch-id", "tuesday", "-v"]);
        assert_eq!(squeezed(sent.out())[1], counted);
        assert!(sent.out().contains("producer: tuesday"), "{}", sent.out());
    }
}

#[test]
fn what_can_not_be_used_is_refused_before_anything_is_sent() {
    let agent = served(Experiments::default());
    for (text, flags, told) in [
        ("", &[][..], "there is none"),
        ("trade_id,unit,pnl,timestamp\n", &[], "add --experiment ID"),
        ("experiment,trade_id,pnl,timestamp\n", &[], "neither a column unit nor a column arm"),
        ("experiment,unit,pnl,timestamp\n", &[], "no column trade_id"),
        (HEADER, &["--experiment", "no name"], "1 to 128"),
        (HEADER, &["--batch-rows", "100001"], "100000"),
        (HEADER, &["--again", "--batch-id", "x"], "cannot be used with"),
    ] {
        let outcome = file(&agent, "x.csv", text, flags);
        assert_eq!(outcome.exit, Exit::Usage, "{text:?} {flags:?}");
        assert!(outcome.stderr.contains(told), "{told}: {}", outcome.stderr);
    }
    let node = agent.1.node();
    let nodes = format!("{node},unix:/nowhere.sock");
    let outcome = ctl(&["trades", "push", "--file", "x.csv", "-n", &nodes]);
    assert_eq!(outcome.exit, Exit::Usage);
    assert!(outcome.stderr.contains("one node at a time"), "{}", outcome.stderr);
    assert!(agent.1.calls().is_empty());
    let path = agent.0.path().join("x.csv").display().to_string();
    let gone = ["trades", "push", "--file", &path, "-n", "unix:/nowhere.sock"];
    assert_eq!(ctl(&gone).exit, Exit::Unreachable);
}

#[test]
fn a_break_in_the_middle_counts_everything_once() {
    let agent = served(Experiments { breaks_after: Some(1), ..Default::default() });
    let sent = file(&agent, "x.csv", &thousand(), &["--batch-rows", "50"]);
    assert_eq!(sent.exit, Exit::Ok, "{}", sent.stderr);
    assert_eq!(squeezed(sent.out())[1], "1,000 0 20 1,000 0 0 0 0 0");
    assert_eq!(agent.1.trades().len(), 1_000);
    assert_eq!(agent.1.calls(), ["RecordTrades", "RecordTrades"]);
    assert!(agent.1.trade_batches().len() > 20, "some came twice");
}

#[test]
fn what_the_agent_leaves_out_and_what_has_ended_is_said() {
    let left_out = RecordTradesResponse {
        late: 2,
        after_end: 1,
        unknown: 4,
        rejected: 3,
        ended: vec!["TEST_3".into()],
        ..Default::default()
    };
    let agent = served(Experiments { left_out, ..Default::default() });
    let sent = file(&agent, "x.csv", &thousand(), &[]);
    assert_eq!(sent.exit, Exit::Unknown, "{}", sent.stderr);
    assert_eq!(squeezed(sent.out())[1], "1,000 0 1 1,000 0 3 2 1 4");
    assert!(sent.stderr.contains("1 of experiments that have ended"), "{}", sent.stderr);
    assert!(sent.out().contains("TEST_3 has ended by these trades"), "{}", sent.out());
    let json = file(&agent, "x.csv", &thousand(), &["--again", "-o", "json"]).json();
    assert_eq!(json[0]["response"]["ended"][0], "TEST_3");
    assert_eq!(json[0]["response"]["unknown"], "4");
}

#[test]
fn long_texts_make_smaller_batches() {
    let agent = served(Experiments::default());
    let unit = "u".repeat(256);
    let line = |number: u32| format!("TEST_3,{number:0>128},{unit},,1,1\n");
    let text = HEADER.to_owned() + &(0..20_000).map(line).collect::<String>();
    let sent = file(&agent, "x.csv", &text, &["--batch-rows", "100000"]);
    assert_eq!(sent.exit, Exit::Ok, "{}", sent.stderr);
    assert_eq!(squeezed(sent.out())[1], "20,000 0 4 20,000 0 0 0 0 0");
}
