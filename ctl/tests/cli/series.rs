//! `series`.

use std::collections::HashMap;
use std::fs;
use std::io::Cursor;

use genesis_client::v1::*;
use genesisctl::Exit;

use crate::fake::{Fake, KnownSeries, Script};
use crate::{Outcome, at, ctl, ctl_with, folder, squeezed, well};

const COLUMNS: &str = "LINES BAD BATCHES COUNTED HAD BEFORE REJECTED LATE UNKNOWN";

fn agent(series: KnownSeries) -> (tempfile::TempDir, Fake) {
    let folder = folder();
    let script = Script { series, status: well(), ..Default::default() };
    let fake = Fake::start(folder.path(), script);
    (folder, fake)
}

/// Sends a file of this name and content.
fn file(agent: &(tempfile::TempDir, Fake), name: &str, text: &str, flags: &[&str]) -> Outcome {
    let path = agent.0.path().join(name);
    fs::write(&path, text).unwrap();
    let path = path.display().to_string();
    ctl(&[&["series", "push", "--file", &path, "-n", &agent.1.node()], flags].concat())
}

fn stdin(fake: &Fake, text: &str, flags: &[&str]) -> Outcome {
    let text = text.to_owned();
    let node = fake.node();
    ctl_with(&[&["series", "push", "--file", "-", "-n", &node], flags].concat(), |console| {
        console.stdin = Box::new(Cursor::new(text));
    })
}

fn on(fake: &Fake, command: &[&str]) -> Outcome {
    ctl(&[&["series"], command, &["-n", &fake.node()]].concat())
}

fn thousand() -> String {
    let lines = (0..1_000).map(|number| format!("BTC,{},{number}.5\n", 1_700_000_000 + number));
    "series,timestamp,value\n".to_owned() + &lines.collect::<String>()
}

#[test]
fn a_long_file_counts_once_however_often_it_is_sent() {
    let agent = agent(KnownSeries::default());
    let sent = file(&agent, "x.csv", &thousand(), &["--batch-rows", "300", "--reason", "r"]);
    assert_eq!(sent.exit, Exit::Ok, "{}", sent.stderr);
    assert_eq!(squeezed(sent.out()), [COLUMNS, "1,000 0 4 1,000 0 0 0 0"]);
    assert_eq!(agent.1.calls(), ["PushSeries because r"]);
    let batches = agent.1.series_batches();
    let sequences: Vec<_> = batches.iter().map(|batch| batch.sequence).collect();
    assert_eq!(sequences, [301, 601, 901, 1_001], "the numbers of their last lines");
    assert!(batches[0].producer.starts_with("file-"), "{}", batches[0].producer);
    assert_eq!(agent.1.values()[7], ("BTC".into(), 1_700_000_007_000_000_000, 7.5));

    let again = file(&agent, "y", &thousand(), &[]);
    assert_eq!(again.exit, Exit::Ok, "{}", again.stderr);
    assert_eq!(squeezed(again.out())[1], "1,000 0 1 0 1,000 0 0 0");
    assert!(again.out().contains("it was there before") && again.out().contains("--again"));
    let anew = file(&agent, "x.csv", &thousand(), &["--again", "-o", "json"]);
    let response = &anew.json()[0]["response"];
    assert_eq!((&response["counted"], &response["missing"]), (&"1000".into(), &"0".into()));
    assert_eq!(agent.1.values().len(), 2_000);
}

#[test]
fn a_wide_file_has_a_column_for_each_series() {
    let agent = agent(KnownSeries::default());
    let text = "timestamp,BTC,ETH,SOL\n\
                2023-11-14T22:13:20Z,64250.5,3100.25,\n\
                1700000300,,,\n\
                1700000600.5,64251,NaN,150\n";
    let sent = file(&agent, "x.csv", text, &[]);
    assert_eq!(sent.exit, Exit::Ok, "{}", sent.stderr);
    assert_eq!(squeezed(sent.out())[..2], [COLUMNS, "3 0 1 4 0 0 0 0"]);
    assert!(sent.out().contains("5 are missing, and were not sent"), "{}", sent.out());
    let of = |series: &str, at, value| (series.to_owned(), at, value);
    assert_eq!(
        agent.1.values(),
        [
            of("BTC", 1_700_000_000_000_000_000, 64_250.5),
            of("BTC", 1_700_000_600_500_000_000, 64_251.0),
            of("ETH", 1_700_000_000_000_000_000, 3_100.25),
            of("SOL", 1_700_000_600_500_000_000, 150.0),
        ]
    );
    let json = file(&agent, "x.csv", text, &["--again", "-o", "json"]).json();
    let response = &json[0]["response"];
    assert_eq!((&response["rows"], &response["missing"]), (&"3".into(), &"5".into()));
    // Lines of which nothing is to be sent make no batch, and the next ones do.
    let gap = "timestamp,BTC\n1,\n2,\n3,\n4,7\n5,\n";
    let sent = file(&agent, "x.csv", gap, &["--batch-rows", "1"]);
    assert_eq!(sent.exit, Exit::Ok, "{}", sent.stderr);
    assert_eq!(squeezed(sent.out())[1], "5 0 1 1 0 0 0 0");
    let none = file(&agent, "x.csv", "timestamp,BTC\n1,\n", &[]);
    assert_eq!((none.exit, &*squeezed(none.out())[1]), (Exit::Ok, "1 0 0 0 0 0 0 0"));
}

#[test]
fn wide_lines_make_batches_that_agents_take() {
    let agent = agent(KnownSeries::default());
    let names: Vec<_> = (0..700).map(|number| format!("S{number}")).collect();
    let cells = ",1.5".repeat(names.len());
    let line = |number: u32| format!("{}{cells}\n", 60 * number);
    let text = format!("timestamp,{}\n", names.join(","));
    let text = text + &(1..=300).map(line).collect::<String>();
    let sent = file(&agent, "x.csv", &text, &["--batch-rows", "100000"]);
    assert_eq!(sent.exit, Exit::Ok, "{}", sent.stderr);
    // 142 lines of 700 values at most.
    assert_eq!(squeezed(sent.out())[1], "300 0 3 210,000 0 0 0 0");
    let sequences: Vec<_> = agent.1.series_batches().iter().map(|batch| batch.sequence).collect();
    assert_eq!(sequences, [143, 285, 301]);
}

#[test]
fn bad_lines_are_told_and_the_good_ones_kept() {
    let agent = agent(KnownSeries::default());
    let mut text = "\u{feff}value,timestamp,host,series\r\n1,1,x,a\r\n\r\n".to_owned();
    text += "much,1,x,a\n1,then,x,a\n1,1,x,no name\n1,1,x\n-2.5,2023-11-14T22:13:20.5Z,x,b\n";
    text += "1,1,x,\u{1b}[2J\n1e999,1,x,a\n1,1,x,\n";
    let sent = file(&agent, "x.csv", &text, &[]);
    assert_eq!(sent.exit, Exit::Unknown, "{}", sent.stderr);
    for told in [
        "line 4: the value \"much\" is no number",
        "line 5: the timestamp \"then\" is neither RFC 3339 nor seconds since 1970",
        "line 6: the series \"no name\" is not 1 to 64",
        "line 7: it ends before the column series",
        "line 9: the series",
        "line 10: the value \"1e999\" is too large",
        "line 11: it names no series, and there is no --series",
        "error[SERIES_INCOMPLETE]: not all values count: 7 in bad lines",
    ] {
        assert!(sent.stderr.contains(told), "lacks {told:?}: {}", sent.stderr);
    }
    assert!(!sent.stderr.contains('\u{1b}'));
    assert_eq!(squeezed(sent.out())[1], "9 7 1 2 0 0 0 0");
    let of = |series: &str, at, value| (series.to_owned(), at, value);
    let kept = [of("a", 1_000_000_000, 1.0), of("b", 1_700_000_000_500_000_000, -2.5)];
    assert_eq!(agent.1.values(), kept);

    // Of a wide line that is bad, nothing is sent.
    let wide = "timestamp,BTC,ETH\n1,2,much\n2,3\n3,4,5,6\n4,5,6\n";
    let sent = file(&agent, "x.csv", wide, &[]);
    assert_eq!(squeezed(sent.out())[1], "4 3 1 2 0 0 0 0");
    for told in [
        "line 2: the value \"much\" is no number, in the column ETH",
        "line 3: it ends before the column ETH",
        "line 4: it has 4 fields, and the header 3",
    ] {
        assert!(sent.stderr.contains(told), "lacks {told:?}: {}", sent.stderr);
    }
    assert_eq!(agent.1.values().len(), 4);

    let bad = "series,timestamp,value\n".to_owned() + &"a,b,c\n".repeat(30);
    let sent = file(&agent, "x.csv", &bad, &["-o", "json"]);
    assert_eq!(sent.exit, Exit::Failed, "none is good");
    assert!(sent.stderr.contains("and 10 more bad lines"), "{}", sent.stderr);
    assert_eq!(sent.json()[0]["error"]["reason"], "SERIES_BAD");
    assert!(sent.stderr.contains("`genesisctl series push --help`"), "{}", sent.stderr);
    let none = file(&agent, "x.csv", "timestamp,BTC\n", &[]);
    assert_eq!(none.exit, Exit::Ok);
    assert!(none.out().contains("has no values"), "{}", none.out());
}

#[test]
fn ndjson_and_standard_input_are_read() {
    let (_folder, fake) = agent(KnownSeries::default());
    let text = "{\"series\":\"BTC\",\"timestamp\":1700000000.123456789,\"value\":64250.5}\n\
                {\"timestamp\":\"2023-11-14T22:13:20Z\",\"value\":\"-1e-3\"}\n\
                {\"series\":\"BTC\",\"timestamp\":1,\"value\":null}\n{\"x\":1}\n";
    let sent = stdin(&fake, text, &["--series", "ETH"]);
    assert_eq!(sent.exit, Exit::Unknown, "{}", sent.stderr);
    assert!(sent.stderr.contains("line 4: it has no timestamp"), "{}", sent.stderr);
    assert!(sent.out().contains("1 are missing"), "{}", sent.out());
    let values = fake.values();
    assert_eq!(values[0], ("BTC".into(), 1_700_000_000_123_456_789, 64_250.5));
    assert_eq!(values[1], ("ETH".into(), 1_700_000_000_000_000_000, -0.001));
    for counted in ["1 0 1 1 0 0 0 0", "1 0 1 0 1 0 0 0"] {
        let sent = stdin(&fake, "timestamp,BTC\n1,1\n", &["--batch-id", "tuesday", "-v"]);
        assert_eq!(squeezed(sent.out())[1], counted);
        assert!(sent.out().contains("producer: tuesday"), "{}", sent.out());
    }
}

#[test]
fn the_same_lines_for_another_series_are_another_file() {
    let agent = agent(KnownSeries::default());
    let to = |series| file(&agent, "x.csv", "timestamp,value\n1,1\n", &["--series", series]);
    assert_eq!(squeezed(to("BTC").out())[1], "1 0 1 1 0 0 0 0");
    assert!(to("BTC").out().contains("it was there before"));
    assert!(!to("ETH").out().contains("it was there before"));
    assert_eq!(agent.1.values().len(), 2);
}

#[test]
fn what_can_not_be_used_is_refused_before_anything_is_sent() {
    let agent = agent(KnownSeries::default());
    for (text, flags, told) in [
        ("", &[][..], "there is none"),
        ("timestamp,value\n", &[], "add --series NAME"),
        ("series,timestamp\n", &[], "no column value"),
        ("date,BTC\n", &[], "no column timestamp"),
        ("timestamp,BTC\n", &["--series", "ETH"], "leave out --series"),
        ("timestamp,BTC,BTC\n", &[], "it names BTC twice"),
        ("timestamp,value\n", &["--series", "no name"], "1 to 64"),
        ("timestamp,BTC\n", &["--batch-rows", "100001"], "100000"),
        ("timestamp,BTC\n", &["--again", "--batch-id", "x"], "cannot be used with"),
        ("timestamp,BTC\n", &["--plan"], "changes nothing"),
    ] {
        let outcome = file(&agent, "x.csv", text, flags);
        assert_eq!(outcome.exit, Exit::Usage, "{text:?} {flags:?}");
        assert!(outcome.stderr.contains(told), "{told}: {}", outcome.stderr);
    }
    let nodes = format!("{},unix:/nowhere.sock", agent.1.node());
    let outcome = ctl(&["series", "push", "--file", "x.csv", "-n", &nodes]);
    assert_eq!(outcome.exit, Exit::Usage);
    assert!(outcome.stderr.contains("one node at a time"), "{}", outcome.stderr);
    for limit in ["0", "1001"] {
        assert_eq!(on(&agent.1, &["list", "--limit", limit]).exit, Exit::Usage);
        assert_eq!(on(&agent.1, &["gaps", "BTC", "--limit", limit]).exit, Exit::Usage);
    }
    assert_eq!(on(&agent.1, &["gaps", "no name"]).exit, Exit::Usage);
    assert!(agent.1.calls().is_empty());
}

#[test]
fn a_break_in_the_middle_counts_everything_once() {
    let agent = agent(KnownSeries { breaks_after: Some(1), ..Default::default() });
    let sent = file(&agent, "x.csv", &thousand(), &["--batch-rows", "50"]);
    assert_eq!(sent.exit, Exit::Ok, "{}", sent.stderr);
    assert_eq!(squeezed(sent.out())[1], "1,000 0 20 1,000 0 0 0 0");
    assert_eq!(agent.1.values().len(), 1_000);
    assert_eq!(agent.1.calls(), ["PushSeries", "PushSeries"]);
    assert!(agent.1.series_batches().len() > 20, "some came twice");
}

#[test]
fn what_the_agent_leaves_out_makes_it_incomplete_and_what_is_superseded_does_not() {
    let superseded = PushSeriesResponse { superseded: 900, ..Default::default() };
    let fine = agent(KnownSeries { left_out: superseded, ..Default::default() });
    let sent = file(&fine, "x.csv", &thousand(), &[]);
    assert_eq!(sent.exit, Exit::Ok, "{}", sent.stderr);
    assert!(sent.out().contains("900 more came before the last value"), "{}", sent.out());
    let json = file(&fine, "x.csv", &thousand(), &["--again", "-o", "json"]).json();
    assert_eq!(json[0]["response"]["superseded"], "900");

    let left_out = PushSeriesResponse { late: 2, rejected: 3, unknown: 4, ..Default::default() };
    let agent = agent(KnownSeries { left_out, ..Default::default() });
    let sent = file(&agent, "x.csv", &thousand(), &[]);
    assert_eq!(sent.exit, Exit::Unknown, "{}", sent.stderr);
    assert_eq!(squeezed(sent.out())[1], "1,000 0 1 1,000 0 3 2 4");
    assert!(sent.stderr.contains("2 older than the window"), "{}", sent.stderr);
}

fn listed() -> KnownSeries {
    let btc = Series {
        name: "BTC\u{1b}[2J".into(),
        kind: SeriesKind::Prices.into(),
        used: true,
        first_at: at(60),
        last_at: at(90_001),
        last_value: 64_250.5,
        points: 8_600,
        missing: 40,
        gaps: 3,
    };
    let spread = Series {
        name: "spread".into(),
        kind: SeriesKind::Returns.into(),
        used: false,
        last_at: None,
        last_value: 0.0,
        points: 0,
        ..Default::default()
    };
    let series = vec![btc, spread];
    let gap = |from, until, buckets| SeriesGap { from: at(from), until: at(until), buckets };
    let gaps = vec![gap(600, 9_600, 30), gap(0, 2_100, 7)];
    KnownSeries {
        listed: ListSeriesResponse {
            series,
            bucket_seconds: 300,
            window_seconds: 2_592_000,
            file_bytes: 9_300_000,
        },
        gaps: HashMap::from([
            ("BTC".into(), ListSeriesGapsResponse { gaps, total: 3 }),
            ("ETH".into(), ListSeriesGapsResponse::default()),
        ]),
        ..Default::default()
    }
}

#[test]
fn series_are_listed_with_how_complete_they_are() {
    let (_folder, fake) = agent(listed());
    let list = on(&fake, &["list"]);
    assert_eq!(list.exit, Exit::Ok, "{}", list.stderr);
    assert!(!list.out().contains('\u{1b}'));
    let lines = squeezed(list.out());
    assert_eq!(lines[0], "SERIES KIND USED POINTS MISSING GAPS LAST VALUE AGE");
    // The agent's clock is a minute further.
    assert!(lines[1].ends_with("PRICES yes 8,600 40 3 64250.5 1m"), "{}", lines[1]);
    assert_eq!(lines[2], "spread RETURNS no 0 0 0 - -");
    assert_eq!(lines[3..], ["a bucket is 5m long, the window 30d"]);
    let verbose = on(&fake, &["list", "-v"]);
    assert!(verbose.out().contains("in a file of 9.3 MB"), "{}", verbose.out());

    let one = on(&fake, &["list", "spr*", "--limit", "1"]);
    assert!(!one.out().contains("BTC"), "{}", one.out());
    assert!(one.out().contains("there may be more than these 1"), "{}", one.out());
    let none = on(&fake, &["list", "DOGE"]);
    assert_eq!(none.exit, Exit::Ok);
    assert!(none.stderr.contains("no series has such a name"), "{}", none.stderr);
    assert_eq!(fake.calls()[..2], ["ListSeries 0", "GetStatus"]);
    assert!(fake.calls().contains(&"ListSeries spr* 1".to_owned()), "{:?}", fake.calls());

    let json = on(&fake, &["list", "-o", "json"]).json();
    let response = &json[0]["response"];
    assert_eq!(response["series"][0]["lastValue"], 64_250.5);
    assert_eq!(
        (&response["bucketSeconds"], &response["windowSeconds"]),
        (&300.into(), &"2592000".into())
    );
    let (_folder, empty) = agent(KnownSeries::default());
    let list = on(&empty, &["list"]);
    assert!(list.stderr.contains("no series yet"), "{}", list.stderr);
}

#[test]
fn gaps_are_listed_with_how_many_there_are() {
    let (_folder, fake) = agent(listed());
    let gaps = on(&fake, &["gaps", "BTC"]);
    assert_eq!(gaps.exit, Exit::Ok, "{}", gaps.stderr);
    assert_eq!(
        squeezed(gaps.out()),
        [
            "FROM UNTIL LENGTH BUCKETS",
            "1970-01-01T00:10:00Z 1970-01-01T02:40:00Z 2h 30m 30",
            "1970-01-01T00:00:00Z 1970-01-01T00:35:00Z 35m 7",
            "the longest 2 of 3 gaps",
        ]
    );
    let none = on(&fake, &["gaps", "ETH", "--limit", "5"]);
    assert_eq!((none.exit, none.stderr.contains("it has no gaps")), (Exit::Ok, true));
    assert_eq!(on(&fake, &["gaps", "DOGE"]).exit, Exit::Failed);
    assert_eq!(
        fake.calls(),
        ["ListSeriesGaps BTC 50", "ListSeriesGaps ETH 5", "ListSeriesGaps DOGE 50"]
    );
    let json = on(&fake, &["gaps", "BTC", "-o", "json"]).json();
    assert_eq!(json[0]["response"]["gaps"][0]["buckets"], "30");
}
