//! `health` where it only looks: checks, reports, the dashboard, issues and their history.

use genesis_client::v1::*;
use genesisctl::Exit;

use crate::fake::{Fake, Health, Script};
use crate::{at, ctl, folder, squeezed};

/// What would break a terminal, a table of Markdown, or both.
const HOSTILE: &str = "a|b `c` \u{1b}[2J\n| d | [x](http://e) <img> \u{202e}";

pub(crate) fn agent(health: Health) -> (tempfile::TempDir, Fake) {
    let folder = folder();
    let fake = Fake::start(folder.path(), Script { health, ..Default::default() });
    (folder, fake)
}

fn millis(millis: i32) -> Option<prost_types::Duration> {
    let nanos = millis % 1000 * 1_000_000;
    Some(prost_types::Duration { seconds: i64::from(millis / 1000), nanos })
}

fn check(name: &str, condition: Condition, detail: &str) -> HealthCheck {
    HealthCheck {
        check: name.into(),
        level: HealthLevel::Shallow.into(),
        severity: Severity::High.into(),
        condition: condition.into(),
        detail: detail.into(),
        limit: "below 10 %".into(),
        took: millis(3),
        interval: millis(30_000),
        ..Default::default()
    }
}

fn checked(conditions: &[Condition]) -> Health {
    let named = conditions.iter().zip(["a", "b", "c", "d"]);
    let checks = named.map(|(condition, name)| check(name, *condition, "x")).collect();
    let checked = CheckHealthResponse { checks, took: millis(14), ..Default::default() };
    Health { checked, ..Default::default() }
}

// Checks.

#[test]
fn checks_are_a_table_with_the_worst_first() {
    let streak = HealthCheck {
        unknown_streak: 3,
        limit: String::new(),
        ..check("probe", Condition::Unknown, "timed out")
    };
    let flapping = HealthCheck { flapping: true, ..check("load", Condition::Warn, "9.1") };
    let checks = vec![
        check("memory", Condition::Ok, "41 % used"),
        flapping,
        check("clock", Condition::Ok, "2ms off"),
        streak,
        check("disk:/", Condition::Critical, "7 % free"),
    ];
    let checked = CheckHealthResponse { checks, took: millis(14), ..Default::default() };
    let (_folder, fake) = agent(Health { checked, ..Default::default() });
    let outcome = ctl(&["health", "check", "-n", &fake.node()]);
    assert_eq!(outcome.exit, Exit::Unknown, "unknown beats findings");
    assert_eq!(
        squeezed(outcome.out()),
        [
            "5 checks: 2 OK, 1 WARN, 1 CRITICAL, 1 UNKNOWN in 14ms",
            "CHECK STATE DETAIL LIMIT TOOK",
            "disk:/ CRITICAL 7 % free below 10 % 3ms",
            "probe UNKNOWN timed out (unknown 3 times in a row) - 3ms",
            "load WARN 9.1 (flapping: nothing is done) below 10 % 3ms",
            "clock OK 2ms off below 10 % 3ms",
            "memory OK 41 % used below 10 % 3ms",
        ]
    );
    let verbose = ctl(&["health", "check", "-v", "-n", &fake.node()]);
    let told = "disk:/: shallow, severity HIGH, every 30s, action -";
    assert!(verbose.out().contains(told), "{}", verbose.out());
    let json = ctl(&["health", "check", "-o", "json", "-n", &fake.node()]);
    assert_eq!(json.exit, Exit::Unknown);
    let response = &json.json()[0]["response"];
    assert_eq!(response["checks"][4]["condition"], "CONDITION_CRITICAL");
    assert_eq!(response["took"], "0.014s");
}

#[test]
fn the_checks_decide_the_exit_code() {
    use Condition as C;
    for (conditions, exit) in [
        (&[C::Ok, C::Ok][..], Exit::Ok),
        (&[C::Ok, C::Warn], Exit::Findings),
        (&[C::Critical, C::Ok], Exit::Findings),
        (&[C::Critical, C::Unknown], Exit::Unknown),
        (&[C::Unspecified], Exit::Unknown),
        // Nothing was looked at, and the agent does not say that this is well.
        (&[], Exit::Unknown),
    ] {
        for format in ["table", "json"] {
            let (_folder, fake) = agent(checked(conditions));
            let outcome = ctl(&["health", "check", "-o", format, "-n", &fake.node()]);
            assert_eq!(outcome.exit, exit, "{conditions:?} {format}");
        }
    }
}

#[test]
fn the_level_and_the_checks_arrive() {
    let (_folder, fake) = agent(checked(&[Condition::Ok]));
    let node = fake.node();
    for arguments in [
        &[][..],
        &["--level", "deep"],
        &["--check", "disk:/", "--check", "memory"],
        &["--level", "deep", "--check", "disk:/"],
    ] {
        let arguments = [&["health", "check", "-n", &node], arguments].concat();
        assert_eq!(ctl(&arguments).exit, Exit::Ok, "{arguments:?}");
    }
    assert_eq!(
        fake.calls(),
        [
            "CheckHealth HEALTH_LEVEL_SHALLOW",
            "CheckHealth HEALTH_LEVEL_DEEP",
            "CheckHealth HEALTH_LEVEL_SHALLOW disk:/ memory",
            "CheckHealth HEALTH_LEVEL_DEEP disk:/",
        ]
    );
}

#[test]
fn of_several_nodes_each_check_has_its_row() {
    let ((_a, one), (_b, two)) =
        (agent(checked(&[Condition::Ok])), agent(checked(&[Condition::Critical])));
    let nodes = format!("{},{}", one.node(), two.node());
    let outcome = ctl(&["health", "check", "-n", &nodes]);
    assert_eq!(outcome.exit, Exit::SomeFailed);
    let lines = squeezed(outcome.out());
    assert!(lines.contains(&format!("{} a OK x below 10 % 3ms", one.node())), "{lines:?}");
    assert!(lines.contains(&format!("{} a CRITICAL x below 10 % 3ms", two.node())), "{lines:?}");
    assert!(lines.contains(&format!("{}: 1 check: 1 CRITICAL in 14ms", two.node())), "{lines:?}");
}

// Reports.

fn report(detail: &str, section: Condition) -> DiagnoseResponse {
    let line = |name: &str, condition: Condition, text: &str| ReportLine {
        name: name.into(),
        condition: condition.into(),
        text: text.into(),
    };
    DiagnoseResponse {
        condition: section.into(),
        at: at(60),
        host_id: "h1".into(),
        hostname: "web-1".into(),
        version: "1.2.3".into(),
        checks: vec![check("disk:/", Condition::Ok, detail)],
        sections: vec![
            ReportSection {
                title: "Disks".into(),
                condition: section.into(),
                lines: vec![
                    line("write speed", section, "3.1 MB/s"),
                    line("/var/log/x", Condition::Ok, detail),
                ],
            },
            ReportSection {
                title: "Secrets".into(),
                condition: Condition::Ok.into(),
                lines: vec![],
            },
        ],
        took: millis(2500),
    }
}

fn diagnosed(detail: &str, section: Condition) -> (tempfile::TempDir, Fake) {
    agent(Health { report: report(detail, section), ..Default::default() })
}

fn diagnose(fake: &Fake, more: &[&str]) -> crate::Outcome {
    let node = fake.node();
    ctl(&[&["health", "check", "--level", "diagnostic", "-n", &node], more].concat())
}

#[test]
fn a_diagnostic_is_one_report() {
    let (_folder, fake) = diagnosed("40 % free", Condition::Warn);
    let outcome = diagnose(&fake, &[]);
    assert_eq!(outcome.exit, Exit::Findings, "{}", outcome.stderr);
    assert_eq!(
        outcome.out(),
        "web-1: WARN, 1 check: 1 OK in 2.5s\n\
         host id h1, genesis 1.2.3, at 1970-01-01T00:01:00Z\n\
         \n\
         Checks\n\
         CHECK   STATE  DETAIL     LIMIT       TOOK\n\
         disk:/  OK     40 % free  below 10 %   3ms\n\
         \n\
         Disks: WARN\n\
         NAME         STATE  FINDING\n\
         write speed  WARN   3.1 MB/s\n\
         /var/log/x   OK     40 % free\n\
         \n\
         Secrets: OK\n"
    );
    assert_eq!(fake.calls(), ["Diagnose"]);
    let json = diagnose(&fake, &["-o", "json"]);
    assert_eq!(json.exit, Exit::Findings);
    let response = &json.json()[0]["response"];
    assert_eq!(response["sections"][0]["lines"][0]["text"], "3.1 MB/s");
    assert_eq!(response["checks"][0]["check"], "disk:/");

    let (_folder, fake) = diagnosed("40 % free", Condition::Unknown);
    assert_eq!(diagnose(&fake, &[]).exit, Exit::Unknown, "a section counts as a check does");
    let (_folder, fake) = agent(Health::default());
    assert_eq!(diagnose(&fake, &[]).exit, Exit::Unknown, "an empty report says nothing good");
}

#[test]
fn several_nodes_have_a_report_each() {
    let ((_a, one), (_b, two)) = (diagnosed("x", Condition::Ok), diagnosed("y", Condition::Ok));
    let nodes = format!("{},{}", one.node(), two.node());
    let outcome = ctl(&["health", "check", "--level", "diagnostic", "-n", &nodes]);
    assert_eq!(outcome.exit, Exit::Ok, "{}", outcome.stderr);
    for node in [one.node(), two.node()] {
        let begin = format!("{node}: web-1: OK");
        let head = format!("==> {node} <==\n\nChecks\n");
        assert!(
            outcome.out().contains(&begin) && outcome.out().contains(&head),
            "{}",
            outcome.out()
        );
    }
}

const MARKDOWN: &str = "\
# Health of web-1

- condition: WARN
- host id: h1
- genesis: 1.2.3
- at: 1970-01-01T00:01:00Z
- took: 2.5s

## Checks

1 check: 1 OK

| state | check | detail | limit | took |
|---|---|---|---|---|
| OK | disk:/ | 40 % free | below 10 % | 3ms |

## Disks: WARN

| state | name | finding |
|---|---|---|
| WARN | write speed | 3.1 MB/s |
| OK | /var/log/x | 40 % free |

## Secrets: OK

| state | name | finding |
|---|---|---|
";

#[test]
fn a_report_is_printed_and_written_as_markdown() {
    let (folder, fake) = diagnosed("40 % free", Condition::Warn);
    let outcome = diagnose(&fake, &["--format", "markdown"]);
    assert_eq!((outcome.exit, outcome.out()), (Exit::Findings, MARKDOWN), "{}", outcome.stderr);

    let file = folder.path().join("web-1.md");
    let path = file.to_str().unwrap();
    let outcome = diagnose(&fake, &["--format", "markdown", "--out", path]);
    assert_eq!((outcome.exit, outcome.out()), (Exit::Findings, ""));
    assert_eq!(outcome.stderr, "web-1: WARN, 1 check: 1 OK in 2.5s\n");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), MARKDOWN);
    let calls = fake.calls().len();
    let outcome = diagnose(&fake, &["--format", "markdown", "--out", path]);
    assert!(outcome.exit == Exit::Usage && outcome.stderr.contains("--yes"), "{}", outcome.stderr);
    assert_eq!(fake.calls().len(), calls, "nothing was asked for what can't be written");
    let json = ["--format", "markdown", "--out", path, "--yes", "-o", "json"];
    let outcome = diagnose(&fake, &json);
    assert_eq!(outcome.exit, Exit::Findings);
    assert_eq!(outcome.json()[0]["response"]["hostname"], "web-1");
}

#[test]
fn what_agents_say_breaks_no_report() {
    let (_folder, fake) = diagnosed(HOSTILE, Condition::Ok);
    let page = diagnose(&fake, &["--format", "markdown"]);
    assert_eq!(page.exit, Exit::Ok, "{}", page.stderr);
    let cell = "a\\|b \\`c\\` \\\\x1b\\[2J\\\\n\\| d \\| \\[x\\](http://e) \\<img\\> \\\\u{202e}";
    let row = format!("| OK | disk:/ | {cell} | below 10 % | 3ms |");
    assert!(page.out().lines().any(|line| line == row), "{}", page.out());
    let table = diagnose(&fake, &[]);
    for text in [page.out(), table.out()] {
        assert!(!text.contains(|c: char| c.is_control() && c != '\n' || c == '\u{202e}'), "{text}");
    }
}

#[test]
fn what_does_not_go_together_is_wrong_usage() {
    let (folder, fake) = diagnosed("x", Condition::Ok);
    let file = folder.path().join("x.md");
    let file = file.to_str().unwrap();
    let node = fake.node();
    let two = format!("{node},{node}x");
    for (arguments, said) in [
        (&["--format", "markdown"][..], "--level diagnostic"),
        (&["--level", "deep", "--format", "markdown", "--out", file], "--level diagnostic"),
        (&["--out", file], "--format"),
        (&["--level", "diagnostic", "--out", file], "--format"),
        (&["--level", "diagnostic", "--check", "disk:/"], "--check"),
        (&["--level", "diagnostic", "--format", "markdown", "-o", "json"], "--out FILE"),
        (&["--level", "diagnostic", "--format", "csv"], "markdown"),
        (&["--level", "diagnostic", "--format", "markdown", "-n", &two], "one node"),
        (&["--level", "thorough"], "diagnostic"),
    ] {
        let outcome = ctl(&[&["health", "check", "-n", &node], arguments].concat());
        assert_eq!(outcome.exit, Exit::Usage, "{arguments:?}");
        assert!(outcome.stderr.contains(said), "{arguments:?}: {}", outcome.stderr);
    }
    assert!(fake.calls().is_empty() && !std::path::Path::new(file).exists());
}

// The dashboard.

fn objective(name: &str, goal: f64, succeeded: u64, failed: u64) -> Objective {
    let all = succeeded + failed;
    Objective {
        name: name.into(),
        goal,
        succeeded,
        failed,
        success: (all > 0).then(|| succeeded as f64 / all as f64),
        ..Default::default()
    }
}

pub(crate) fn fine() -> GetHealthStatusResponse {
    GetHealthStatusResponse {
        condition: Condition::Ok.into(),
        checks: vec![check("clock", Condition::Ok, "x"), check("memory", Condition::Ok, "y")],
        objectives: vec![
            objective("operations", 0.995, 199, 1),
            objective("remediations", 0.9, 0, 0),
        ],
        ..Default::default()
    }
}

fn issue() -> Issue {
    Issue {
        id: "disk:/#3".into(),
        check: "disk:/".into(),
        episode: 3,
        state: IssueState::Cooldown.into(),
        since: at(120),
        opened_at: at(60),
        attempts: 2,
        detail: "7 % free".into(),
        severity: Severity::High.into(),
        runbook: "disk-space".into(),
        denials: vec![Denial {
            code: "BUDGET".into(),
            message: "3 of 3 in this hour".into(),
            since: at(130),
        }],
        ..Default::default()
    }
}

fn attempt(number: u32, seconds: i64, outcome: AttemptOutcome) -> Attempt {
    Attempt {
        id: format!("A{number}"),
        check: "disk:/".into(),
        episode: 3,
        number,
        action: "make-room".into(),
        plan: vec!["delete 3 archived logs".into()],
        actor: "agent".into(),
        at: at(seconds),
        ended_at: at(seconds + 5),
        outcome: outcome.into(),
        before: "7 % free".into(),
        after: "8 % free".into(),
        detail: "freed 2.0 GB".into(),
        ..Default::default()
    }
}

pub(crate) fn troubled() -> GetHealthStatusResponse {
    let hold = |code: &str, until| RemediationHold {
        code: code.into(),
        since: at(100),
        until,
        by: "olga".into(),
        reason: "moving".into(),
    };
    let mut operations = objective("operations", 0.995, 98, 2);
    (operations.refused, operations.unknown) = (3, 1);
    GetHealthStatusResponse {
        condition: Condition::Critical.into(),
        checks: vec![
            check("clock", Condition::Ok, "x"),
            check("disk:/", Condition::Critical, "7 % free"),
        ],
        issues: vec![issue()],
        holds: vec![hold("DISABLED", at(4000)), hold("STORM", None), hold("CHECKER_SUSPECT", None)],
        dry_run: true,
        attempts: vec![attempt(2, 90, AttemptOutcome::Failed)],
        objectives: vec![operations, objective("remediations", 0.9, 19, 1)],
        incidents: vec![Incident {
            id: "01J8ZV".into(),
            severity: "HIGH".into(),
            trigger: "ATTEMPTS_FAILED".into(),
            opened_at: at(140),
            title: "disk:/ stays low".into(),
            ..Default::default()
        }],
        emergency: true,
        runs_active: 1,
    }
}

fn dashboard(status: GetHealthStatusResponse) -> (tempfile::TempDir, Fake) {
    agent(Health { status, ..Default::default() })
}

#[test]
fn a_dashboard_of_a_host_that_is_well_is_short() {
    let (_folder, fake) = dashboard(fine());
    let outcome = ctl(&["health", "dashboard", "-n", &fake.node()]);
    assert_eq!(outcome.exit, Exit::Ok, "{}", outcome.stderr);
    assert_eq!(
        squeezed(outcome.out()),
        [
            "OK: 2 checks: 2 OK",
            "",
            "Objectives of the last 30 days",
            "OBJECTIVE GOAL SUCCESS MET SUCCEEDED FAILED NOT COUNTED",
            "operations 99.50 % 99.50 % yes 199 1 -",
            "remediations 90 % no data - 0 0 -",
            "",
            "Checks",
            "all 2 OK",
            "",
            "Open issues",
            "none",
            "",
            "Open incidents",
            "none",
            "",
            "Latest attempts",
            "none",
        ]
    );
    let once = ctl(&["health", "dashboard", "--once", "-n", &fake.node()]);
    assert_eq!((once.exit, once.out()), (outcome.exit, outcome.out()));
    let verbose = ctl(&["health", "dashboard", "-v", "-n", &fake.node()]);
    assert!(squeezed(verbose.out()).contains(&"memory OK y below 10 % 3ms".into()));
}

#[test]
fn a_dashboard_tells_trouble_in_order() {
    let (_folder, fake) = dashboard(troubled());
    let outcome = ctl(&["health", "dashboard", "-n", &fake.node()]);
    assert_eq!(outcome.exit, Exit::Findings, "{}", outcome.stderr);
    assert_eq!(
        squeezed(outcome.out()),
        [
            "CRITICAL: 2 checks: 1 OK, 1 CRITICAL; 1 run goes on",
            "EMERGENCY: much waits for its release; see `genesisctl emergency status`",
            "DISABLED since 1970-01-01T00:01:40Z by olga (moving) until 1970-01-01T01:06:40Z; `genesisctl \
             health remediation enable` ends it now",
            "STORM since 1970-01-01T00:01:40Z by olga (moving); `genesisctl health brake release --reason TEXT` \
             ends it",
            "CHECKER_SUSPECT since 1970-01-01T00:01:40Z by olga (moving) until most checks are well again",
            "dry run: every action is planned, and none is carried out",
            "",
            "Objectives of the last 30 days",
            "OBJECTIVE GOAL SUCCESS MET SUCCEEDED FAILED NOT COUNTED",
            "operations 99.50 % 98 % NO 98 2 3 refused, 1 unknown",
            "remediations 90 % 95 % yes 19 1 -",
            "",
            "Checks",
            "CHECK STATE DETAIL LIMIT TOOK",
            "disk:/ CRITICAL 7 % free below 10 % 3ms",
            "1 more OK",
            "",
            "Open issues",
            "ISSUE STATE SEVERITY SINCE ATTEMPTS NOTE DETAIL",
            "disk:/#3 COOLDOWN HIGH 1970-01-01T00:02:00Z 2 held by BUDGET 7 % free",
            "",
            "Open incidents",
            "INCIDENT SEVERITY TRIGGER OPENED TITLE",
            "01J8ZV HIGH ATTEMPTS_FAILED 1970-01-01T00:02:20Z disk:/ stays low",
            "",
            "Latest attempts",
            "AT CHECK WHAT OUTCOME BY DETAIL",
            "1970-01-01T00:01:30Z disk:/ attempt 2: make-room FAILED agent freed 2.0 GB; then: 8 % free",
        ]
    );
    let json = ctl(&["health", "dashboard", "-o", "json", "-n", &fake.node()]).json();
    assert_eq!(json.as_array().unwrap().len(), 1);
    assert_eq!(json[0]["response"]["holds"][1]["code"], "STORM");
}

#[test]
fn the_condition_decides_the_exit_code_of_a_dashboard() {
    for (condition, emergency, exit) in [
        (Condition::Ok, false, Exit::Ok),
        (Condition::Ok, true, Exit::Findings),
        (Condition::Warn, false, Exit::Findings),
        (Condition::Unknown, false, Exit::Unknown),
        (Condition::Unspecified, false, Exit::Unknown),
    ] {
        let condition = condition.into();
        let (_folder, fake) = dashboard(GetHealthStatusResponse { condition, emergency, ..fine() });
        let outcome = ctl(&["health", "dashboard", "-n", &fake.node()]);
        assert_eq!(outcome.exit, exit, "{condition} {emergency}");
    }
}

#[test]
fn several_nodes_have_a_row_each_and_merged_they_have_one_more() {
    let ((_a, one), (_b, two)) = (dashboard(fine()), dashboard(troubled()));
    let (first, second) = (one.node(), two.node());
    let nodes = format!("{first},{second}");
    let outcome = ctl(&["health", "dashboard", "-n", &nodes]);
    assert_eq!(outcome.exit, Exit::SomeFailed);
    let mut lines = squeezed(outcome.out());
    assert_eq!(
        lines.remove(0),
        "NODE STATE CHECKS ISSUES INCIDENTS HELD BY FLEET REMEDIATIONS 30D OPERATIONS 30D"
    );
    lines.sort();
    let mut wanted = vec![
        format!("{first} OK 2 OK 0 0 - - no data 99.50 % (199 of 200)"),
        format!(
            "{second} CRITICAL 1 OK, 1 CRITICAL 1 1 EMERGENCY, CHECKER_SUSPECT, DISABLED, STORM, dry run - 95 % \
             (19 of 20) 98 % (98 of 100)"
        ),
    ];
    wanted.sort();
    assert_eq!(lines, wanted);

    let merged = ctl(&["health", "dashboard", "--merge", "-n", &nodes]);
    assert_eq!(merged.exit, outcome.exit);
    let lines = squeezed(merged.out());
    assert_eq!(lines.len(), 4);
    assert_eq!(
        lines[3],
        "merged CRITICAL 3 OK, 1 CRITICAL 1 1 EMERGENCY on 1 of 2, CHECKER_SUSPECT on 1 of 2, DISABLED on 1 of \
         2, STORM on 1 of 2, dry run on 1 of 2 - 95 % (19 of 20) 99 % (297 of 300)"
    );
}

#[test]
fn merged_objects_come_last_in_every_format() {
    let ((_a, one), (_b, two)) = (dashboard(fine()), dashboard(troubled()));
    let nodes = format!("/absent.sock,{},{}", one.node(), two.node());
    let merge = |format| ctl(&["health", "dashboard", "--merge", "-o", format, "-n", &nodes]);
    let json = merge("json").json();
    let rows = json.as_array().unwrap();
    assert_eq!(rows.len(), 4);
    assert!(rows[..3].iter().all(|row| row.get("node").is_some() && row.get("merged").is_none()));
    let merged = serde_json::json!({ "merged": {
        "nodes": 2,
        "unanswered": 1,
        "condition": "CONDITION_CRITICAL",
        "checks": { "ok": 3, "warn": 0, "critical": 1, "unknown": 0 },
        "issues": 1,
        "incidents": 1,
        "runsActive": 1,
        "emergency": 1,
        "dryRun": 1,
        "held": { "CHECKER_SUSPECT": 1, "DISABLED": 1, "STORM": 1 },
        "fleet": {},
        "objectives": [
            {
                "name": "operations", "goal": 0.995, "succeeded": "297", "failed": "3", "refused": "3",
                "cancelled": "0", "unknown": "1", "success": 0.99,
            },
            {
                "name": "remediations", "goal": 0.9, "succeeded": "19", "failed": "1", "refused": "0",
                "cancelled": "0", "unknown": "0", "success": 0.95,
            },
        ],
    } });
    assert_eq!(rows[3], merged);
    let lines = merge("jsonl");
    let last = lines.out().lines().last().unwrap();
    assert_eq!(serde_json::from_str::<serde_json::Value>(last).unwrap(), merged);
    let yaml: serde_json::Value = serde_saphyr::from_str(merge("yaml").out()).unwrap();
    assert_eq!(yaml[3], merged);

    let (_folder, fake) = dashboard(fine());
    let one = ["health", "dashboard", "--merge", "-n", &fake.node()];
    assert_eq!(ctl(&one).out(), ctl(&[&one[..2], &one[3..]].concat()).out());
    assert_eq!(ctl(&[&one[..], &["-o", "json"]].concat()).json()[1]["merged"]["nodes"], 1);
    let unheard = format!("/absent.sock,{}", fake.node());
    let outcome = ctl(&["health", "dashboard", "--merge", "-n", &unheard]);
    let last = squeezed(outcome.out()).pop().unwrap();
    assert!(last.starts_with("merged UNKNOWN 2 OK"), "who is silent is not well: {last}");
}

// Issues.

#[test]
fn an_issue_is_explained() {
    let escalated = Issue {
        state: IssueState::Escalated.into(),
        suppressed_by: "disk:/var".into(),
        escalated: EscalationTrigger::AttemptsFailed.into(),
        escalated_at: at(150),
        acked_by: "olga".into(),
        acked_at: at(160),
        ack_note: "on it".into(),
        ..issue()
    };
    let explained = ExplainIssueResponse {
        issue: Some(escalated),
        check: Some(HealthCheck {
            checked_at: at(170),
            ..check("disk:/", Condition::Critical, "7 % free")
        }),
        attempts: vec![
            attempt(1, 70, AttemptOutcome::Unknown),
            attempt(2, 90, AttemptOutcome::Failed),
        ],
        explanation: vec!["nothing is done until it is acked or resumed".into()],
        manual: vec!["add storage".into()],
    };
    let (_folder, fake) = agent(Health { explained, ..Default::default() });
    let outcome = ctl(&["health", "explain", "disk:/", "-n", &fake.node()]);
    assert_eq!(outcome.exit, Exit::Ok, "{}", outcome.stderr);
    assert_eq!(
        squeezed(outcome.out()),
        [
            "issue disk:/#3 ESCALATED since 1970-01-01T00:02:00Z, opened 1970-01-01T00:01:00Z, severity HIGH, 2 \
             attempts",
            "check disk:/ CRITICAL at 1970-01-01T00:02:50Z: 7 % free; limit: below 10 %",
            "it depends on disk:/var, which fails itself",
            "people were called 1970-01-01T00:02:30Z: ATTEMPTS_FAILED",
            "acked 1970-01-01T00:02:40Z by olga: on it",
            "",
            "What happens next",
            "nothing is done until it is acked or resumed",
            "",
            "What holds actions back",
            "CODE SINCE WHY",
            "BUDGET 1970-01-01T00:02:10Z 3 of 3 in this hour",
            "",
            "What was tried",
            "ATTEMPT AT ACTION OUTCOME TOOK BY BEFORE AFTER DETAIL",
            "1 1970-01-01T00:01:10Z make-room UNKNOWN 5s agent 7 % free 8 % free freed 2.0 GB",
            "2 1970-01-01T00:01:30Z make-room FAILED 5s agent 7 % free 8 % free freed 2.0 GB",
            "",
            "What people can do",
            "add storage",
            "`genesisctl runbook show disk-space`",
        ]
    );
    let verbose = ctl(&["health", "explain", "disk:/", "-v", "-n", &fake.node()]);
    assert!(verbose.out().contains("attempt 2 plan: delete 3 archived logs\n"));
    let json = ctl(&["health", "explain", "disk:/", "-o", "json", "-n", &fake.node()]).json();
    assert_eq!(json[0]["response"]["issue"]["state"], "ISSUE_STATE_ESCALATED");

    let outcome = ctl(&["health", "explain", "absent", "-n", &fake.node()]);
    assert_eq!(outcome.exit, Exit::Failed);
    assert_eq!(
        outcome.stderr,
        "error[ISSUE_NOT_FOUND]: absent has no issue: list the issues with `genesisctl health history`\n"
    );
    let (_folder, fake) = agent(Health::default());
    let outcome = ctl(&["health", "explain", "disk:/", "-n", &fake.node()]);
    assert!(outcome.stderr.contains("ANSWER_INCOMPLETE"), "{}", outcome.stderr);
}

#[test]
fn history_is_one_table_newest_first() {
    let manual = Attempt {
        episode: 0,
        number: 0,
        actor: "olga".into(),
        ..attempt(0, 200, AttemptOutcome::Succeeded)
    };
    let resolved = Issue {
        id: "clock#1".into(),
        check: "clock".into(),
        episode: 1,
        state: IssueState::Resolved.into(),
        opened_at: at(10),
        resolution: "cleared by itself".into(),
        ..issue()
    };
    let history = ListHealthHistoryResponse {
        issues: vec![issue(), resolved],
        attempts: vec![
            manual,
            attempt(2, 90, AttemptOutcome::DryRun),
            // At the same instant as its issue, which began first.
            attempt(1, 60, AttemptOutcome::Failed),
        ],
    };
    let (_folder, fake) = agent(Health { history, ..Default::default() });
    let outcome = ctl(&["health", "history", "-n", &fake.node()]);
    assert_eq!(outcome.exit, Exit::Ok, "{}", outcome.stderr);
    let expected = [
        "AT CHECK WHAT OUTCOME BY DETAIL",
        "1970-01-01T00:03:20Z disk:/ make-room by hand SUCCEEDED olga freed 2.0 GB; then: 8 % free",
        "1970-01-01T00:01:30Z disk:/ dry run of make-room DRY_RUN agent freed 2.0 GB; then: 8 % free",
        "1970-01-01T00:01:00Z disk:/ attempt 1: make-room FAILED agent freed 2.0 GB; then: 8 % free",
        "1970-01-01T00:01:00Z disk:/ issue #3 opened COOLDOWN - 7 % free",
        "1970-01-01T00:00:10Z clock issue #1 opened RESOLVED - cleared by itself",
    ];
    assert_eq!(squeezed(outcome.out()), expected);
    let arguments = ["health", "history", "--check", "disk:/", "--limit", "2", "-n", &fake.node()];
    assert_eq!(squeezed(ctl(&arguments).out()), expected[..3], "no more than was asked for");
    assert_eq!(fake.calls(), ["ListHealthHistory 50", "ListHealthHistory disk:/ 2"]);
    assert_eq!(ctl(&["health", "history", "--limit", "0", "-n", &fake.node()]).exit, Exit::Usage);

    let (_folder, fake) = agent(Health::default());
    let outcome = ctl(&["health", "history", "-n", &fake.node()]);
    assert_eq!((outcome.exit, outcome.out()), (Exit::Ok, ""));
    assert_eq!(outcome.stderr, "nothing has happened yet\n");
}
