//! `drill`.

use genesis_client::v1::*;
use genesisctl::Exit;

use crate::fake::{Fake, Health, Script};
use crate::{at, ctl, folder};

fn agent(overdue: bool) -> (tempfile::TempDir, Fake) {
    let step = |name: &str, outcome: Truth, detail: &str| DrillStep {
        name: name.into(),
        took: Some(prost_types::Duration { seconds: 0, nanos: 12_000_000 }),
        outcome: outcome.into(),
        detail: detail.into(),
    };
    let drill = DrillReport {
        id: "01J8ZV00000000000000000000".into(),
        drill: "emergency".into(),
        started_at: at(0),
        ended_at: at(7),
        outcome: Truth::Fail.into(),
        steps: vec![
            step("declare", Truth::Pass, "durable after 12 ms"),
            step("close", Truth::Fail, "FLAT_UNPROVEN: a|b"),
        ],
        deviations: vec!["close: FLAT_UNPROVEN: a|b".into()],
        by: "olga".into(),
        ..Default::default()
    };
    let rto = Some(prost_types::Duration { seconds: 7, nanos: 0 });
    let passed = DrillReport { outcome: Truth::Pass.into(), rto, ..drill.clone() };
    let standing = if overdue { DrillStanding::Overdue } else { DrillStanding::Due };
    let drills = vec![
        Drill {
            name: "emergency".into(),
            standing: standing.into(),
            overdue_at: at(86_400),
            last: Some(drill.clone()),
            last_passed: Some(passed),
            ..Default::default()
        },
        Drill {
            name: "rollback:config".into(),
            standing: DrillStanding::NotApplicable.into(),
            not_applicable: "it has never changed".into(),
            ..Default::default()
        },
    ];
    let folder = folder();
    let health = Health { drills, drill, ..Default::default() };
    let fake = Fake::start(folder.path(), Script { health, ..Default::default() });
    (folder, fake)
}

#[test]
fn drills_are_listed_and_one_that_is_overdue_is_a_finding() {
    for (overdue, exit, word) in [(true, Exit::Findings, "OVERDUE"), (false, Exit::Ok, "DUE")] {
        let (_folder, fake) = agent(overdue);
        let outcome = ctl(&["drill", "list", "-n", &fake.node()]);
        assert_eq!(outcome.exit, exit);
        let out = outcome.out();
        let words: Vec<&str> = out.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(words[..2], ["emergency", word], "{out}");
        assert!(out.contains("FAIL") && out.contains(" 7s "), "{out}");
        let words: Vec<&str> = out.lines().nth(2).unwrap().split_whitespace().collect();
        assert_eq!(words[..2], ["rollback:config", "N/A"], "{out}");
        let said = format!("{out}{}", outcome.stderr);
        assert!(said.contains("rollback:config: it has never changed"), "{said}");
    }
}

#[test]
fn a_report_shows_the_steps_and_what_deviated() {
    let (folder, fake) = agent(false);
    let node = fake.node();
    let outcome = ctl(&["drill", "report", "-n", &node]);
    assert_eq!(outcome.exit, Exit::Ok);
    let out = outcome.out();
    for shown in [
        "drill 01J8ZV00000000000000000000 emergency: FAILED",
        "durable after 12 ms",
        "close: FLAT_UNPROVEN: a|b",
        "RTO): none",
    ] {
        assert!(out.contains(shown), "{shown}: {out}");
    }
    assert!(!out.contains("RPO"), "{out}");
    let file = folder.path().join("drill.md");
    let export = ["drill", "report", "01J8", "--format", "markdown", "-n", &node, "--out"];
    let outcome = ctl(&[&export[..], &[file.to_str().unwrap()]].concat());
    assert_eq!(outcome.exit, Exit::Ok, "{}", outcome.stderr);
    let page = std::fs::read_to_string(file).unwrap();
    assert!(page.starts_with("# drill 01J8ZV00000000000000000000 emergency: FAILED"), "{page}");
    assert!(page.contains("| close | FAIL | 12.0ms | FLAT\\_UNPROVEN: a\\|b |"), "{page}");
    assert_eq!(fake.calls(), ["GetDrillReport last", "GetDrillReport 01J8"]);
}

#[test]
fn a_report_of_a_restore_says_how_much_would_have_been_lost() {
    let span = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    let drill = DrillReport {
        id: "01J8ZV00000000000000000000".into(),
        drill: "restore:trades".into(),
        started_at: at(0),
        ended_at: at(7),
        outcome: Truth::Pass.into(),
        rto: span(7),
        rpo: span(3_600),
        ..Default::default()
    };
    let folder = folder();
    let health = Health { drill, ..Default::default() };
    let fake = Fake::start(folder.path(), Script { health, ..Default::default() });
    let outcome = ctl(&["drill", "report", "-n", &fake.node()]);
    let out = outcome.out();
    let lost = out.lines().find(|line| line.contains("(RPO)")).unwrap();
    assert!(lost.contains("1h"), "{lost}");
    assert!(out.contains("PASSED") && out.contains("(RTO): 7s"), "{out}");
}
