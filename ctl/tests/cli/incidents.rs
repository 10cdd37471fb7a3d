//! `incident` and `runbook`.

use genesis_client::v1::*;
use genesisctl::Exit;

use crate::fake::Health;
use crate::health::agent;
use crate::{at, ctl, ctl_with, squeezed};

fn incidents() -> Health {
    let open = Incident {
        id: "01J8ZV00000000000000000000".into(),
        state: IncidentState::Open.into(),
        opened_at: at(60),
        trigger: "ATTEMPTS_FAILED".into(),
        title: "disk:/ stays low".into(),
        details: vec!["7 % free".into(), "attempt 3: make-room did not help".into()],
        issues: vec!["disk:/#3".into()],
        severity: "HIGH".into(),
        opened_by: "agent".into(),
        runbook: "disk-space".into(),
        ..Default::default()
    };
    let over = Incident {
        id: "01J7AA00000000000000000000".into(),
        state: IncidentState::Over.into(),
        opened_at: at(0),
        over_at: at(3600),
        trigger: "FLAGGED".into(),
        opened_by: "olga".into(),
        reason: "looks odd".into(),
        resolution: "cleared".into(),
        details: vec![],
        issues: vec![],
        runbook: String::new(),
        ..open.clone()
    };
    Health { incidents: vec![open, over], ..Default::default() }
}

#[test]
fn incidents_are_listed_newest_first() {
    let (_folder, fake) = agent(incidents());
    let node = fake.node();
    let outcome = ctl(&["incident", "list", "-n", &node]);
    assert_eq!(outcome.exit, Exit::Ok, "{}", outcome.stderr);
    let expected = [
        "INCIDENT STATE SEVERITY TRIGGER OPENED LASTED ISSUES TITLE",
        "01J8ZV00000000000000000000 OPEN HIGH ATTEMPTS_FAILED 1970-01-01T00:01:00Z - disk:/#3 disk:/ stays low",
        "01J7AA00000000000000000000 OVER HIGH FLAGGED 1970-01-01T00:00:00Z 1h - disk:/ stays low",
    ];
    assert_eq!(squeezed(outcome.out()), expected);
    let open = ctl(&["incident", "list", "--open", "--limit", "7", "-n", &node]);
    assert_eq!(squeezed(open.out()), expected[..2]);
    assert_eq!(fake.calls(), ["ListIncidents false 50", "ListIncidents true 7"]);
    let json = ctl(&["incident", "list", "-o", "json", "-n", &node]).json();
    assert_eq!(json[0]["response"]["incidents"][0]["state"], "INCIDENT_STATE_OPEN");

    let (_folder, fake) = agent(Health::default());
    let outcome = ctl(&["incident", "list", "--open", "-n", &fake.node()]);
    assert_eq!((outcome.exit, outcome.out()), (Exit::Ok, ""));
    assert_eq!(outcome.stderr, "no incident is open\n");
}

#[test]
fn one_incident_is_shown_with_where_to_look() {
    let (_folder, fake) = agent(incidents());
    let node = fake.node();
    let outcome = ctl(&["incident", "show", "last", "-n", &node]);
    assert_eq!(outcome.exit, Exit::Ok, "{}", outcome.stderr);
    assert_eq!(
        outcome.out(),
        "incident 01J8ZV00000000000000000000 OPEN: disk:/ stays low\n\
         severity HIGH, trigger ATTEMPTS_FAILED, opened 1970-01-01T00:01:00Z by agent\n\
         \n\
         When it was opened\n\
         7 % free\n\
         attempt 3: make-room did not help\n\
         \n\
         Where to look\n\
         `genesisctl health explain 'disk:/#3'`\n\
         `genesisctl runbook show disk-space`\n"
    );
    let outcome = ctl(&["incident", "show", "01J7", "-n", &node]);
    assert_eq!(
        outcome.out(),
        "incident 01J7AA00000000000000000000 OVER: disk:/ stays low\n\
         severity HIGH, trigger FLAGGED, opened 1970-01-01T00:00:00Z by olga: looks odd\n\
         over 1970-01-01T01:00:00Z, after 1h: cleared\n\
         \n\
         Where to look\n\
         `genesisctl incident close 01J7AA00000000000000000000`: write down what came of it\n"
    );
    let json = ctl(&["incident", "show", "01J7", "-o", "json", "-n", &node]).json();
    assert_eq!(json[0]["response"]["incident"]["resolution"], "cleared");
    let outcome = ctl(&["incident", "show", "beef", "-n", &node]);
    assert_eq!(outcome.exit, Exit::Failed);
    assert_eq!(
        outcome.stderr,
        "error[INCIDENT_NOT_FOUND]: no such incident: list the incidents with `genesisctl incident list`\n"
    );
}

/// A title and a remark that would break a table, or bring markup in.
const HOSTILE: &str = "a | b\n# head <img src=x> [x](http://x) `rm` \u{1b}[2J";

fn with_timeline() -> Health {
    let mut health = incidents();
    health.incidents[1].title = HOSTILE.into();
    health.incidents[1].closure = Some(IncidentClosure {
        at: at(7200),
        by: "olga".into(),
        resolution: "the switch was replaced".into(),
        lesson: String::new(),
        runbook: "storm".into(),
    });
    let event = |actor: &str, action: &str, text: &str| IncidentEvent {
        at: at(61),
        actor: actor.into(),
        action: action.into(),
        target: "disk:/".into(),
        outcome: "ok".into(),
        text: text.into(),
        sequence: 4,
    };
    health.timeline = Some(IncidentTimeline {
        events: vec![
            event("system:health", "health.attempt.intent", "make-room"),
            event("unix:uid=0(root)", "incident.noted", HOSTILE),
        ],
        left_out: 3,
        left_out_after: 1,
        read_until: None,
    });
    health
}

#[test]
fn an_incident_is_shown_with_what_happened_and_how_it_was_closed() {
    let (_folder, fake) = agent(with_timeline());
    let outcome = ctl(&["incident", "show", "01J7", "-n", &fake.node()]);
    assert_eq!(outcome.exit, Exit::Ok, "{}", outcome.stderr);
    let lines = squeezed(outcome.out());
    for wanted in [
        "closed 1970-01-01T02:00:00Z by olga: the switch was replaced",
        "lesson: none",
        "runbook page to mend: storm",
        "What happened",
        "AT WHO WHAT TO WHAT OUTCOME TEXT",
        "1970-01-01T00:01:01Z system:health health.attempt.intent disk:/ ok make-room",
        "3 more left out, after the first 1: `genesisctl oplog export` has all",
    ] {
        assert!(lines.iter().any(|line| line == wanted), "{wanted}: {lines:#?}");
    }
    assert!(!outcome.out().contains('\u{1b}'));
    assert!(!outcome.out().contains("incident close"), "it is closed");
}

#[test]
fn an_export_holds_hostile_text_in_its_place() {
    let (folder, fake) = agent(with_timeline());
    let node = fake.node();
    let printed = ctl(&["incident", "export", "01J7", "-n", &node]);
    assert_eq!(printed.exit, Exit::Ok, "{}", printed.stderr);
    let page = printed.out();
    assert!(page.starts_with("# Incident 01J7AA00000000000000000000: a \\| b"), "{page}");
    assert_eq!(page.lines().filter(|line| line.starts_with("# ")).count(), 1, "{page}");
    for text in ["<img", "](http", "`rm`", "\u{1b}"] {
        assert!(
            !page.replace("\\<", "").replace("\\]", "").replace("\\`", "").contains(text),
            "{text}"
        );
    }
    // Each row of the table has its seven bars and no more.
    let rows: Vec<_> = page.lines().filter(|line| line.starts_with('|')).collect();
    assert_eq!(rows.len(), 4, "{page}");
    for row in rows {
        assert_eq!(row.replace("\\|", "").matches('|').count(), 7, "{row}");
    }
    for section in
        ["## Resolution", "## Lesson", "## Runbook page to mend", "## What was done by hand"]
    {
        assert!(page.contains(section), "{section}: {page}");
    }
    let done = page.split("## What was done by hand").nth(1).unwrap().split("##").next().unwrap();
    assert!(done.contains("incident.noted") && !done.contains("health.attempt"), "{done}");

    let file = folder.path().join("incident.md");
    let export = ["incident", "export", "01J7", "-n", &node, "--out", file.to_str().unwrap()];
    assert_eq!(ctl(&export).exit, Exit::Ok);
    assert_eq!(std::fs::read_to_string(&file).unwrap().trim_end(), page.trim_end());
    assert_eq!(ctl(&export).exit, Exit::Usage, "it exists");
    assert_eq!(ctl(&[&export[..], &["--yes"]].concat()).exit, Exit::Ok);
    let json = ctl(&["incident", "export", "01J7", "-n", &node, "-o", "json"]);
    assert_eq!(json.exit, Exit::Usage, "Markdown is no JSON");
}

#[test]
fn closing_asks_for_what_is_missing_and_sends_nothing_without_it() {
    let (_folder, fake) = agent(incidents());
    let node = fake.node();
    let close = |arguments: &[&str]| {
        ctl(&[&["incident", "close", "01J7", "-n", &node], arguments].concat())
    };
    for (arguments, lacks) in [
        (&[][..], "--resolution TEXT, --lesson TEXT (or --no-lesson), --runbook PAGE"),
        (&["--resolution", "x", "--lesson", "y"], "--runbook PAGE (or --no-runbook-change)"),
        (&["--resolution", "x", "--no-runbook-change"], "--lesson TEXT (or --no-lesson)"),
        (&["--no-lesson", "--no-runbook-change", "--resolution", " "], "--resolution TEXT"),
    ] {
        let outcome = close(arguments);
        assert_eq!(outcome.exit, Exit::Usage);
        assert!(outcome.stderr.contains(lacks), "{lacks}: {}", outcome.stderr);
    }
    assert_eq!(close(&["--lesson", "x", "--no-lesson"]).exit, Exit::Usage);
    assert!(fake.calls().is_empty(), "{:?}", fake.calls());
    let whole = ["--resolution", "swapped", "--no-lesson", "--runbook", "storm"];
    let outcome = close(&whole);
    assert_eq!(outcome.exit, Exit::Ok, "{}", outcome.stderr);
    assert_eq!(
        outcome.out(),
        "incident 01J7AA00000000000000000000 is closed\nto be mended: docs/runbook/storm.md\n"
    );
    let typed = |answer: &'static str, arguments: &[&str]| {
        ctl_with(&[&["incident", "close", "01J7", "-n", &node], arguments].concat(), |console| {
            (console.stdin_terminal, console.stderr_terminal) = (true, true);
            console.stdin = Box::new(std::io::Cursor::new(answer));
        })
    };
    let outcome = typed("swapped\nwatch it\nNone\n", &[]);
    assert_eq!(outcome.exit, Exit::Ok, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("What is to be learned from it?"), "{}", outcome.stderr);
    let outcome = typed("watch it\nstorm\n", &["--resolution", "swapped"]);
    assert_eq!(outcome.exit, Exit::Ok, "{}", outcome.stderr);
    let outcome = typed("swapped\n\n", &[]);
    assert_eq!(outcome.exit, Exit::Failed, "nothing typed is no answer");
    assert_eq!(
        fake.calls(),
        [
            "CloseIncident 01J7 swapped (no lesson) storm",
            "CloseIncident 01J7 swapped watch it (no page)",
            "CloseIncident 01J7 swapped watch it storm",
        ]
    );
}

#[test]
fn incidents_are_opened_and_noted_by_hand() {
    let (_folder, fake) = agent(incidents());
    let node = fake.node();
    let open = ["incident", "open", "--title", "orders are late", "--severity", "low", "-n", &node];
    let outcome = ctl(&open);
    assert_eq!(outcome.exit, Exit::Ok, "{}", outcome.stderr);
    assert!(outcome.out().contains("incident close 01J8ZV"), "{}", outcome.out());
    let outcome = ctl(&["incident", "note", "01J8", "restarted the gateway", "-n", &node]);
    assert_eq!(outcome.out(), "noted in incident 01J8ZV00000000000000000000\n");
    assert_eq!(ctl(&[&open[..], &["--plan"]].concat()).exit, Exit::Ok);
    assert_eq!(
        fake.calls(),
        [
            "OpenIncident orders are late low",
            "NoteIncident 01J8 restarted the gateway",
            "PlanOpenIncident"
        ]
    );
}

// Reports.

fn objective(name: &str, state: Truth, numerator: u64, denominator: u64) -> ReportObjective {
    ReportObjective {
        name: name.into(),
        state: state.into(),
        target: format!("the target of {name}"),
        numerator,
        denominator,
        value: (denominator > 0).then(|| numerator as f64 / denominator as f64),
        apart: vec![
            ReportCount { name: "refused".into(), count: 2 },
            ReportCount { name: "cancelled".into(), count: 0 },
        ],
        offenders: vec![ReportOffender {
            name: "logs.rotate | x".into(),
            bad: 3,
            all: 7,
            detail: String::new(),
        }],
        note: String::new(),
    }
}

fn reports(states: &[Truth]) -> Health {
    let period = Some(ReportPeriod {
        from: at(0),
        until: at(86_400),
        data_from: at(3_600),
        data_missing: true,
    });
    let objectives = states.iter().map(|state| objective("operations", *state, 993, 1_000));
    Health {
        operations_report: GetOperationsReportResponse {
            hostname: "web-1".into(),
            period,
            objectives: objectives.collect(),
        },
        remediation_report: GetRemediationReportResponse {
            hostname: "web-1".into(),
            period,
            objective: states.first().map(|state| objective("remediations", *state, 1, 2)),
            patterns: vec![RemediationPattern {
                check: "disk:/".into(),
                action: "make-room".into(),
                episodes: 4,
                attempts: 4,
                succeeded: 1,
                failed: 3,
                mean: Some(prost_types::Duration { seconds: 30, nanos: 0 }),
                ..Default::default()
            }],
            incidents: vec![ReportCount { name: "CASCADE".into(), count: 1 }],
            undocumented: 2,
            findings: vec!["disk:/ was bad 4 times".into()],
        },
        ..Health::default()
    }
}

#[test]
fn a_report_exits_by_its_objectives_and_says_what_it_lacks() {
    use Truth::{Fail, Pass, Unknown};
    for (states, expected) in [
        (&[Pass, Pass][..], Exit::Ok),
        (&[Pass, Fail], Exit::Findings),
        (&[Unknown, Fail], Exit::Unknown),
        (&[Fail, Unknown], Exit::Unknown),
        (&[Truth::Unspecified], Exit::Unknown),
    ] {
        let (_folder, fake) = agent(reports(states));
        let outcome = ctl(&["report", "operations", "--month", "2026-11", "-n", &fake.node()]);
        assert_eq!(outcome.exit, expected, "{states:?} {}", outcome.stderr);
        assert_eq!(fake.calls(), ["GetOperationsReport 2026-11"]);
        let lines = squeezed(outcome.out()).join("\n");
        for wanted in [
            "operations of web-1, 1970-01-01T00:00:00Z to 1970-01-02T00:00:00Z",
            "reaches back to 1970-01-01T01:00:00Z only",
            "99.30 % 993 of 1000 2 refused",
            "operations logs.rotate | x 3 7",
        ] {
            assert!(lines.contains(wanted), "{wanted}: {lines}");
        }
    }
    let (_folder, fake) = agent(reports(&[]));
    let outcome = ctl(&["report", "remediation", "-n", &fake.node()]);
    assert_eq!(outcome.exit, Exit::Unknown, "without an objective nothing is known");
}

#[test]
fn the_monthly_review_says_what_was_done_and_goes_into_a_file() {
    let (folder, fake) = agent(reports(&[Truth::Fail]));
    let node = fake.node();
    let outcome = ctl(&["report", "remediation", "-n", &node]);
    assert_eq!(outcome.exit, Exit::Findings, "{}", outcome.stderr);
    let lines = squeezed(outcome.out()).join("\n");
    for wanted in [
        "disk:/ make-room 4 0 4 1 3 0 0 0 30s",
        "What stands out\ndisk:/ was bad 4 times",
        "opened in that time: 1 CASCADE",
        "over, and not written down yet: 2",
    ] {
        assert!(lines.contains(wanted), "{wanted}: {lines}");
    }
    let file = folder.path().join("review.md");
    let path = file.to_str().unwrap();
    for kind in ["remediation", "operations"] {
        let write = ["report", kind, "--format", "markdown", "--out", path, "--yes", "-n", &node];
        assert_eq!(ctl(&write).exit, Exit::Findings);
        let page = std::fs::read_to_string(&file).unwrap();
        let rows: Vec<_> = page.lines().filter(|line| line.starts_with('|')).collect();
        assert!(rows.len() >= 5, "{page}");
        assert!(page.contains("reaches back to"), "{page}");
    }
    let page = std::fs::read_to_string(&file).unwrap();
    assert!(page.contains("logs.rotate \\| x"), "{page}");
    let usage = ctl(&["report", "operations", "--out", path, "-n", &node]);
    assert_eq!(usage.exit, Exit::Usage, "--out without --format");
}

// The runbook.

#[test]
fn the_runbook_needs_no_agent() {
    // Nothing is looked for that might be missing or damaged.
    let offline = |arguments: &[&str]| {
        ctl_with(arguments, |console| {
            console.env.insert("GENESISCTL_CONTEXT".into(), "absent".into());
            console.env.insert("GENESISCTL_NODES".into(), "no node".into());
        })
    };
    let list = offline(&["runbook", "list"]);
    assert_eq!((list.exit, list.stderr.as_str()), (Exit::Ok, ""));
    let lines = squeezed(list.out());
    assert_eq!(lines[0], "PAGE TITLE");
    let pages = genesis_proto::runbook::PAGES;
    assert_eq!(lines.len(), pages.len() + 1);
    for page in pages {
        assert!(lines.contains(&format!("{} {}", page.name, page.title())), "{lines:?}");
        let shown = offline(&["runbook", "show", page.name]);
        assert_eq!(shown.exit, Exit::Ok);
        assert_eq!(shown.out().trim_end(), page.text.trim_end(), "{}", page.name);
        let json = offline(&["runbook", "show", page.name, "-o", "json"]).json();
        assert_eq!(json[0]["response"]["text"], page.text);
    }
    let json = offline(&["runbook", "list", "-o", "json"]).json();
    assert_eq!(json[0]["response"]["pages"][0]["name"], pages[0].name);
}

#[test]
fn an_unknown_page_is_wrong_usage_with_the_nearest_ones() {
    let outcome = ctl(&["runbook", "show", "dsik-space"]);
    assert_eq!((outcome.exit, outcome.out()), (Exit::Usage, ""));
    assert!(
        outcome.stderr.contains("no page \"dsik-space\": did you mean `disk-space`"),
        "{}",
        outcome.stderr
    );
    for page in genesis_proto::runbook::PAGES {
        assert!(outcome.stderr.contains(page.name), "{}", outcome.stderr);
    }
    // A word of a name is enough.
    let outcome = ctl(&["runbook", "show", "disc"]);
    assert!(outcome.stderr.contains("did you mean `disk-space`"), "{}", outcome.stderr);
    let outcome = ctl(&["runbook", "show", "\u{1b}[2J"]);
    assert_eq!(outcome.exit, Exit::Usage);
    assert!(!outcome.stderr.contains("did you mean") && !outcome.stderr.contains('\u{1b}'));
}
