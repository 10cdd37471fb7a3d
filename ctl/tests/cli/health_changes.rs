//! `health` where it changes something: issues, actions by hand, remediation and its brake.

use std::io::Cursor;

use genesis_client::v1::*;
use genesisctl::Exit;

use crate::fake::{Fake, Health, Script};
use crate::health::agent;
use crate::{at, ctl, ctl_with, folder, squeezed};

const RUN: &str = "01J0000000000000000000000A";

fn hold(code: &str) -> RemediationHold {
    RemediationHold {
        code: code.into(),
        since: at(100),
        by: "agent".into(),
        reason: "6 actions in 10 min".into(),
        ..Default::default()
    }
}

fn issue() -> Option<Issue> {
    Some(Issue { id: "disk:/#3".into(), acked_by: "olga".into(), ..Default::default() })
}

#[test]
fn what_needs_a_reason_is_not_sent_without_one() {
    let (_folder, fake) = agent(Health::default());
    let node = fake.node();
    for command in [
        &["health", "flag", "disk:/"][..],
        &["health", "remediation", "disable"],
        &["health", "brake", "release"],
        &["health", "run", "reset", "--despite-trades", "--yes"],
    ] {
        for reason in [&[][..], &["--reason", ""], &["--reason", " "]] {
            for format in ["table", "json"] {
                let outcome = ctl(&[command, &["-n", &node, "-o", format], reason].concat());
                assert_eq!(outcome.exit, Exit::Usage, "{command:?} {reason:?}");
                assert!(outcome.stderr.contains("needs --reason"), "{}", outcome.stderr);
                assert!(outcome.stdout.is_empty());
            }
        }
    }
    assert!(fake.calls().is_empty());
}

#[test]
fn on_several_nodes_every_change_needs_yes() {
    let ((_a, one), (_b, two)) = (agent(Health::default()), agent(Health::default()));
    let nodes = format!("{},{}", one.node(), two.node());
    for command in [
        &["flag", "disk:/"][..],
        &["ack", "disk:/"],
        &["resume", "disk:/"],
        &["run", "make-room"],
        &["remediation", "disable"],
        &["remediation", "enable"],
        &["brake", "release"],
    ] {
        let outcome = ctl(&[&["health"], command, &["--reason", "r", "-n", &nodes]].concat());
        assert_eq!(outcome.exit, Exit::Usage, "{command:?}");
        assert!(outcome.stderr.contains("Nothing was sent"), "{}", outcome.stderr);
    }
    assert!(one.calls().is_empty() && two.calls().is_empty());
}

#[test]
fn an_issue_is_flagged_acked_and_resumed() {
    let flagged = |was_escalated| FlagIssueResponse {
        issue: issue(),
        incident_id: "01J8ZV".into(),
        was_escalated,
    };
    let explained = ExplainIssueResponse { issue: issue(), ..Default::default() };
    let health = Health { explained, flagged: flagged(false), ..Default::default() };
    let (_folder, fake) = agent(health);
    let node = fake.node();
    let outcome = ctl(&["health", "flag", "disk:/", "--reason", "grows", "-n", &node]);
    assert_eq!(outcome.exit, Exit::Ok, "{}", outcome.stderr);
    assert_eq!(
        outcome.out(),
        "people are called about disk:/#3, and automation stops for it\n\
         incident 01J8ZV: `genesisctl incident show 01J8ZV`\n"
    );
    let outcome = ctl(&["health", "ack", "disk:/", "--reason", "on it", "-n", &node]);
    assert_eq!(
        (outcome.exit, outcome.out()),
        (
            Exit::Ok,
            "disk:/#3 is acked by olga: automation goes on with the attempts that are left\n"
        )
    );
    let outcome = ctl(&["health", "resume", "disk:/#3", "-n", &node]);
    assert_eq!(
        (outcome.exit, outcome.out()),
        (Exit::Ok, "disk:/#3: automation goes on with a fresh count of attempts\n")
    );
    assert_eq!(
        fake.calls(),
        ["FlagIssue disk:/ because grows", "AckIssue disk:/ because on it", "ResumeIssue disk:/#3"]
    );
    let json = ctl(&["health", "ack", "disk:/", "-o", "json", "-n", &node]).json();
    assert_eq!(json[0]["response"]["issue"]["id"], "disk:/#3");

    let (_folder, fake) = agent(Health { flagged: flagged(true), ..Default::default() });
    let outcome = ctl(&["health", "flag", "disk:/", "--reason", "r", "-n", &fake.node()]);
    assert!(
        outcome.out().starts_with(
            "people were called about disk:/#3 before, nothing was changed\nincident 01J8ZV"
        ),
        "{}",
        outcome.out()
    );
}

// Actions by hand.

fn runnable(state: RunState) -> (tempfile::TempDir, Fake) {
    let folder = folder();
    let run = |state: RunState| Run {
        id: RUN.into(),
        kind: "health.make-room".into(),
        state: state.into(),
        summary: "freed 2.0 GB".into(),
        ..Default::default()
    };
    let step = PlanStep {
        action: "delete-archived".into(),
        target: "app.log.1".into(),
        reason: "verified in the archive".into(),
    };
    let script = Script {
        any_plan: PlanResponse { plan: Some(Plan { hash: "h1".into(), steps: vec![step] }) },
        watches: vec![vec![Ok(run(RunState::Running)), Ok(run(state))]],
        ..Default::default()
    };
    let fake = Fake::start(folder.path(), script);
    (folder, fake)
}

#[test]
fn an_action_needs_yes_where_nobody_can_be_asked() {
    let (_folder, fake) = runnable(RunState::Succeeded);
    let node = fake.node();
    let arguments = ["health", "run", "make-room", "--check", "disk:/", "-n", &node];
    let outcome = ctl(&arguments);
    assert_eq!(outcome.exit, Exit::Usage);
    for said in ["run make-room of disk:/", "Nothing was sent", "--plan", "--yes"] {
        assert!(outcome.stderr.contains(said), "{}", outcome.stderr);
    }
    assert!(fake.calls().is_empty());

    let answered = |answer: &'static str| {
        ctl_with(&arguments, |console| {
            (console.stdin_terminal, console.stderr_terminal) = (true, true);
            console.stdin = Box::new(Cursor::new(answer));
        })
    };
    let outcome = answered("n\n");
    assert_eq!(outcome.exit, Exit::Failed);
    assert!(
        outcome.stderr.contains("delete-archived app.log.1: verified in the archive")
            && outcome.stderr.contains("Run make-room of disk:/? [y/N]")
            && outcome.stderr.contains("not confirmed: nothing was run"),
        "{}",
        outcome.stderr
    );
    assert_eq!(fake.calls(), ["PlanRunAction"]);
    assert_eq!(answered("y\n").exit, Exit::Ok);
    assert_eq!(
        fake.calls()[2..],
        ["RunAction make-room disk:/ h1", "WatchRun 01J0000000000000000000000A"],
        "what was shown is what is done"
    );
}

#[test]
fn an_action_is_followed_to_its_end() {
    for (state, exit) in [
        (RunState::Succeeded, Exit::Ok),
        (RunState::Failed, Exit::Failed),
        (RunState::Refused, Exit::Refused),
        (RunState::Unknown, Exit::Unknown),
    ] {
        let (_folder, fake) = runnable(state);
        let outcome = ctl(&["health", "run", "make-room", "--yes", "-n", &fake.node()]);
        assert_eq!(outcome.exit, exit, "{state:?}: {}", outcome.stderr);
        let end = format!("run {RUN} health.make-room ");
        assert!(outcome.out().starts_with(&end), "{}", outcome.out());
        assert!(outcome.out().contains("freed 2.0 GB"), "{}", outcome.out());
    }
    let (_folder, fake) = runnable(RunState::Succeeded);
    let outcome = ctl(&["health", "run", "make-room", "--yes", "--detach", "-n", &fake.node()]);
    assert_eq!(
        (outcome.exit, outcome.out()),
        (
            Exit::Ok,
            format!("run {RUN} has started: `genesisctl run watch {RUN}` follows it\n").as_str()
        )
    );
    let despite = ["health", "run", "reset", "--despite-trades", "--yes", "--reason", "r"];
    assert_eq!(ctl(&[&despite[..], &["-n", &fake.node()]].concat()).exit, Exit::Ok);
    assert_eq!(
        fake.calls()[..2],
        ["RunAction make-room", "RunActionDespiteTrades reset because r"]
    );
}

// Remediation.

#[test]
fn remediation_is_disabled_for_a_while_and_enabled_again() {
    let disabled = DisableRemediationResponse {
        hold: Some(RemediationHold {
            until: at(14_500),
            by: "olga".into(),
            reason: "moving".into(),
            ..hold("DISABLED")
        }),
        going_on: vec!["make-room of disk:/".into()],
    };
    let enabled = EnableRemediationResponse { was_enabled: false, holds: vec![hold("STORM")] };
    let (_folder, fake) = agent(Health { disabled, enabled, ..Default::default() });
    let node = fake.node();
    let disable = ["health", "remediation", "disable", "--reason", "moving", "-n", &node];
    let outcome = ctl(&disable);
    assert_eq!(outcome.exit, Exit::Ok, "{}", outcome.stderr);
    assert_eq!(
        outcome.out(),
        "DISABLED since 1970-01-01T00:01:40Z by olga (moving) until 1970-01-01T04:01:40Z; `genesisctl health \
         remediation enable` ends it now\nhad begun, and goes on: make-room of disk:/\n"
    );
    assert_eq!(ctl(&[&disable[..], &["--for", "30m"]].concat()).exit, Exit::Ok);
    let outcome = ctl(&["health", "remediation", "enable", "-n", &node]);
    assert_eq!(outcome.exit, Exit::Ok);
    assert_eq!(
        outcome.out(),
        "remediation is enabled; its first actions start after a grace\n\
         still held back: STORM since 1970-01-01T00:01:40Z by agent (6 actions in 10 min); `genesisctl health \
         brake release --reason TEXT` ends it\n"
    );
    assert_eq!(
        fake.calls(),
        [
            "DisableRemediation 4h because moving",
            "DisableRemediation 30m because moving",
            "EnableRemediation"
        ]
    );
    let enabled = EnableRemediationResponse { was_enabled: true, ..Default::default() };
    let (_folder, fake) = agent(Health { enabled, ..Default::default() });
    let outcome = ctl(&["health", "remediation", "enable", "-n", &fake.node()]);
    assert_eq!(outcome.out(), "remediation was not disabled, nothing was changed\n");
}

fn remediation(holds: Vec<RemediationHold>) -> GetRemediationResponse {
    let row = |row: &str, checks: &[&str], armed: &[&str]| RemediationRow {
        row: row.into(),
        detection: "free < 10 %".into(),
        action: "log clean-up".into(),
        fallback: "add storage".into(),
        checks: checks.iter().map(|check| (*check).to_owned()).collect(),
        armed: armed.iter().map(|check| (*check).to_owned()).collect(),
        trade_touching: true,
        runbook: "disk-space".into(),
        ..Default::default()
    };
    GetRemediationResponse {
        rows: vec![
            row("disk-space", &["disk:/", "disk:/var"], &["disk:/"]),
            row("memory-leak", &["memory"], &[]),
            row("api-degradation", &[], &[]),
        ],
        holds,
        dry_run: true,
        budgets: vec![ActionBudget {
            action: "make-room of disk:/".into(),
            hour: 1,
            hour_limit: 3,
            day: 2,
            day_limit: 10,
        }],
        host_day: 2,
        host_day_limit: 20,
        objective: Some(Objective {
            goal: 0.9,
            succeeded: 3,
            failed: 1,
            success: Some(0.75),
            ..Default::default()
        }),
        actions: vec![RunnableAction {
            action: "make-room".into(),
            check: "disk:/".into(),
            what: "delete archived logs".into(),
            automatic: true,
        }],
    }
}

fn with_remediation(holds: Vec<RemediationHold>) -> (tempfile::TempDir, Fake) {
    agent(Health { remediation: remediation(holds), ..Default::default() })
}

#[test]
fn remediation_shows_what_it_would_do_and_what_is_left() {
    let (_folder, fake) = with_remediation(vec![]);
    let outcome = ctl(&["health", "remediation", "status", "-n", &fake.node()]);
    assert_eq!(outcome.exit, Exit::Ok, "{}", outcome.stderr);
    assert_eq!(
        squeezed(outcome.out()),
        [
            "remediation is on",
            "dry run: every action is planned, and none is carried out",
            "2 of 20 actions in the last day",
            "last 30 days: 75 % of 4 helped, the goal is 90 %",
            "ROW DETECTION ACTION ARMED FALLBACK",
            "disk-space free < 10 % log clean-up disk:/ add storage",
            "memory-leak free < 10 % log clean-up no (of memory) add storage",
            "api-degradation free < 10 % log clean-up - add storage",
            "",
            "Done lately",
            "ACTION LAST HOUR LAST DAY",
            "make-room of disk:/ 1 of 3 2 of 10",
            "",
            "Actions to run by hand",
            "ACTION CHECK AUTOMATIC WHAT",
            "make-room disk:/ yes delete archived logs",
        ]
    );
    let verbose = ctl(&["health", "remediation", "status", "-v", "-n", &fake.node()]);
    let told = "disk-space: waits for trades, waits in an emergency, runbook disk-space";
    assert!(verbose.out().contains(told), "{}", verbose.out());

    let (_other, held) = with_remediation(vec![hold("STORM")]);
    let outcome = ctl(&["health", "remediation", "status", "-n", &held.node()]);
    assert!(outcome.out().starts_with("STORM since "), "{}", outcome.out());
    let nodes = format!("{},{}", fake.node(), held.node());
    let outcome = ctl(&["health", "remediation", "status", "-n", &nodes]);
    let lines = squeezed(outcome.out());
    assert_eq!(lines[0], "NODE REMEDIATION DRY RUN LAST DAY SUCCESS 30D HELD BY");
    assert!(lines.contains(&format!("{} on yes 2 of 20 75 % -", fake.node())), "{lines:?}");
    assert!(lines.contains(&format!("{} held yes 2 of 20 75 % STORM", held.node())), "{lines:?}");
}

#[test]
fn the_brake_is_shown_and_released() {
    let (_folder, off) = with_remediation(vec![hold("DISABLED")]);
    let outcome = ctl(&["health", "brake", "status", "-n", &off.node()]);
    assert_eq!((outcome.exit, outcome.out()), (Exit::Ok, "the brake is off\n"));
    let (_folder, on) = with_remediation(vec![hold("STORM")]);
    let outcome = ctl(&["health", "brake", "status", "-n", &on.node()]);
    assert_eq!(outcome.exit, Exit::Findings);
    assert_eq!(
        outcome.out(),
        "the brake is on: STORM since 1970-01-01T00:01:40Z by agent (6 actions in 10 min); `genesisctl health \
         brake release --reason TEXT` ends it\n"
    );
    let json = ctl(&["health", "brake", "status", "-o", "json", "-n", &on.node()]);
    assert_eq!(json.exit, Exit::Findings);
    assert_eq!(json.json()[0]["response"]["holds"][0]["code"], "STORM");
    let nodes = format!("{},{}", off.node(), on.node());
    let outcome = ctl(&["health", "brake", "status", "-n", &nodes]);
    assert_eq!(outcome.exit, Exit::SomeFailed);
    let lines = squeezed(outcome.out());
    assert!(lines.contains(&format!("{} off", off.node())), "{lines:?}");
    let row = format!("{} ON 1970-01-01T00:01:40Z agent 6 actions in 10 min", on.node());
    assert!(lines.contains(&row), "{lines:?}");

    let outcome = ctl(&["health", "brake", "release", "--reason", "mended", "-n", &on.node()]);
    assert_eq!(
        (outcome.exit, outcome.out()),
        (Exit::Ok, "the brake that was on since 1970-01-01T00:01:40Z is off\n")
    );
    assert_eq!(on.calls().last().unwrap(), "ReleaseBrake because mended");
}
