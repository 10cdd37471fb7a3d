//! Ranges to the millisecond.

use genesis_tests::{TestAgent, source};

const LINES: [&str; 7] = [
    "2024-01-31T23:59:59.998Z the 31st of January",
    "2024-01-31T23:59:59.999Z its last millisecond",
    "2024-02-01T00:00:00.000Z the first of February",
    "  a line without a time, which belongs to the one before",
    "2024-02-01T23:59:59.999Z its last millisecond",
    "2024-02-02T00:00:00.000Z the second",
    "2024-02-02T02:00:00.000+02:00 still the same instant, in another zone",
];

fn agent() -> TestAgent {
    let agent = TestAgent::started(|log| source("trading", &log.join("t.log"), "1GB"));
    // Over two segments, so that the line without a time is the first one of its segment.
    for part in [&LINES[..3], &LINES[3..]] {
        let text: String = part.iter().map(|line| format!("{line}\n")).collect();
        std::fs::write(agent.log("t.log"), text).unwrap();
        agent.rotate("trading");
    }
    agent
}

#[test]
fn midnight_parts_days_to_the_millisecond() {
    let agent = agent();
    let cases: [(&str, &[usize]); 15] = [
        // Both days are whole.
        ("2024-01-31:2024-01-31", &[0, 1]),
        ("2024-02-01:2024-02-01", &[2, 3, 4]),
        ("2024-02-01..2024-02-01", &[2, 3, 4]),
        ("2024-02-02:2024-02-02", &[5, 6]),
        ("2024-01-31:2024-02-01", &[0, 1, 2, 3, 4]),
        ("2024-01-31:2024-02-02", &[0, 1, 2, 3, 4, 5, 6]),
        // An instant at the end is not included.
        ("2024-01-31T23:59:59.999Z..2024-02-01T00:00:00Z", &[1]),
        ("2024-01-31T23:59:59.999Z..2024-02-01T00:00:00.001Z", &[1, 2, 3]),
        ("2024-02-01T00:00:00Z..2024-02-01T00:00:00.001Z", &[2, 3]),
        ("2024-02-01T00:00:00.001Z..2024-02-01T23:59:59.999Z", &[]),
        ("2024-02-01T23:59:59.999Z..2024-02-02T00:00:00Z", &[4]),
        // A date and an instant.
        ("2024-02-01..2024-02-01T23:59:59.999Z", &[2, 3]),
        ("2024-02-01T23:59:59.999Z..2024-02-02", &[4, 5, 6]),
        // In another zone.
        ("2024-02-01T01:00:00+01:00..2024-02-01T01:00:00.001+01:00", &[2, 3]),
        ("2024-02-02T00:00:00Z..2024-02-02T00:00:00.001Z", &[5, 6]),
    ];
    for (range, wanted) in cases {
        let output = agent.retrieve("trading", range).ok();
        let expected: String = wanted.iter().map(|index| format!("{}\n", LINES[*index])).collect();
        assert_eq!(output.text(), expected, "{range}");
    }
}

#[test]
fn a_range_without_data_is_no_error_and_is_said() {
    let agent = agent();
    for range in ["2023-01-01:2023-12-31", "2024-02-03:2024-02-29"] {
        let output = agent.retrieve("trading", range).ok().says(&["no archived lines", range]);
        assert!(output.stdout.is_empty());
    }
    let plan = ["logs", "retrieve", "--log-type", "trading", "--plan", "-o", "json"];
    let plan = agent.ctl(&[&plan[..], &["--date-range", "2023-01-01:2023-12-31"]].concat()).ok();
    assert_eq!(plan.response()["segments"], "0", "{}", plan.text());
}

#[test]
fn what_is_no_range_is_refused_with_its_code_and_changes_nothing() {
    let agent = agent();
    let out = agent.folder().join("out.log");
    let file = out.display().to_string();
    let before = agent.segments("trading");
    for range in [
        "2024-02-01:2024-01-31",
        "2024-02-01T00:00:00Z..2024-02-01T00:00:00Z",
        "2024-02-30:2024-03-01",
        "2024-13-01:2024-13-02",
        "yesterday",
        "2024-01-31:",
        ":2024-01-31",
        "",
        "2024-01-31T00:00:00Z:2024-02-01T00:00:00Z",
        "2024-01-31 2024-02-01",
    ] {
        let retrieve = ["logs", "retrieve", "--log-type", "trading", "--out", &file];
        let output = agent.ctl(&[&retrieve[..], &["--date-range", range]].concat());
        output.exits(2).says(&["RANGE_INVALID", "2024-01-01:2024-01-31"]);
        assert!(!out.exists(), "{range:?} made a file");
    }
    let output = agent.retrieve("nope", "2024-01-31:2024-02-01");
    output.exits(1).says(&["LOG_TYPE_UNKNOWN", "trading"]);
    for command in ["rotate", "verify", "list"] {
        let output = agent.ctl(&["logs", command, "--log-type", "nope"]).exits(1);
        output.says(&["LOG_TYPE_UNKNOWN", "trading"]);
    }
    assert_eq!(agent.segments("trading"), before);
}
