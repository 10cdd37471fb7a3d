//! `db` where it changes something: optimization, and sessions that are ended.

use std::collections::HashMap;
use std::io::Cursor;

use genesis_client::v1::*;
use genesisctl::Exit;
use tonic::Code;

use crate::databases::agent;
use crate::fake::{Databases, Fake, Script, refusal};
use crate::{at, ctl, ctl_with, folder};

const RUN: &str = "01J0000000000000000000000A";

fn running(state: RunState, databases: Databases) -> (tempfile::TempDir, Fake) {
    let folder = folder();
    let run = Run {
        id: RUN.into(),
        kind: "database.optimize".into(),
        state: state.into(),
        summary: "12 steps".into(),
        ..Default::default()
    };
    let step = PlanStep {
        action: "cancel-query".into(),
        target: "session 4711".into(),
        reason: "holds up 2".into(),
    };
    let script = Script {
        databases,
        watches: vec![vec![Ok(run)]],
        any_plan: PlanResponse { plan: Some(Plan { hash: "h1".into(), steps: vec![step] }) },
        ..Default::default()
    };
    let fake = Fake::start(folder.path(), script);
    (folder, fake)
}

#[test]
fn an_optimization_is_followed_to_its_end_which_decides_the_exit_code() {
    for (state, exit) in [
        (RunState::Succeeded, Exit::Ok),
        (RunState::Failed, Exit::Failed),
        (RunState::Refused, Exit::Refused),
        (RunState::Interrupted, Exit::Unknown),
    ] {
        let (_folder, fake) = running(state, Databases::default());
        let node = fake.node();
        let outcome = ctl(&["db", "optimize", "--force", "--database", "orders", "-n", &node]);
        assert_eq!(outcome.exit, exit, "{}", outcome.stderr);
        assert!(outcome.out().contains("12 steps"), "{}", outcome.out());
        assert_eq!(fake.calls(), ["OptimizeDatabase orders force", &format!("WatchRun {RUN}")]);
        let detached = ctl(&["db", "optimize", "--detach", "-n", &node]);
        assert_eq!(detached.exit, Exit::Ok, "{}", detached.stderr);
        assert!(detached.out().contains(&format!("genesisctl run watch {RUN}")));
        assert_eq!(fake.calls()[2..], ["OptimizeDatabase"]);
    }
}

#[test]
fn what_is_not_due_is_said_to_be_so_and_is_no_failure() {
    let (_folder, fake) = agent(Databases { due_at: at(90_000), ..Default::default() });
    let node = fake.node();
    let outcome = ctl(&["db", "optimize", "--database", "orders", "-n", &node]);
    assert_eq!(outcome.exit, Exit::Ok, "{}", outcome.stderr);
    assert_eq!(
        outcome.out(),
        "orders is due at 1970-01-02T01:00:00Z, nothing was done: --force does it now\n"
    );
    let json = ctl(&["db", "optimize", "-o", "json", "-n", &node]).json();
    assert_eq!(json[0]["ok"], true);
    assert_eq!(json[0]["response"]["notDue"], true);
    assert_eq!(json[0]["response"]["nextAt"], "1970-01-02T01:00:00Z");
    assert_eq!(fake.calls().len(), 2, "there is no run to follow");
}

#[test]
fn items_are_left_out_by_another_rpc_and_with_a_reason() {
    let (_folder, fake) = running(RunState::Succeeded, Databases::default());
    let node = fake.node();
    let optimize = ["db", "optimize", "--override", "disk-free", "-n", &node];
    let outcome = ctl(&optimize);
    assert_eq!(outcome.exit, Exit::Usage);
    assert!(outcome.stderr.contains("`db optimize --override` needs --reason"));
    assert!(fake.calls().is_empty());
    let more = ["--override", "trades,backup", "--force", "--reason", "the disk grows", "--detach"];
    let outcome = ctl(&[&optimize[..], &more].concat());
    assert_eq!(outcome.exit, Exit::Ok, "{}", outcome.stderr);
    assert_eq!(
        fake.calls(),
        ["OptimizeDatabaseDespite force disk-free+trades+backup because the disk grows"]
    );
    assert_eq!(ctl(&["db", "optimize", "--override", "-n", &node]).exit, Exit::Usage);
}

#[test]
fn what_keeps_an_optimization_from_starting_is_named_with_what_to_do() {
    let details =
        tonic_types::ErrorDetails::with_error_info("PREFLIGHT_BLOCKED", "genesis", HashMap::new());
    let mut details = details;
    details.set_precondition_failure(vec![tonic_types::PreconditionViolation::new(
        "PREFLIGHT_FAIL",
        "active-connections",
        "12, must be < 10",
    )]);
    let blocked = <tonic::Status as tonic_types::StatusExt>::with_error_details(
        Code::FailedPrecondition,
        "the preflight of orders is not clear",
        details,
    );
    let held = refusal(Code::Aborted, "DATABASE_HELD", "web-2 cares for orders");
    for (status, exit, wanted) in [
        (
            blocked,
            Exit::Refused,
            [
                "error[PREFLIGHT_BLOCKED]: ",
                "  - active-connections: 12, must be < 10 (PREFLIGHT_FAIL)",
                "genesisctl db preflight",
            ],
        ),
        (
            held,
            Exit::Conflict,
            ["error[DATABASE_HELD]: ", "web-2 cares for orders", "genesisctl db preflight"],
        ),
    ] {
        let folder = folder();
        let failing = HashMap::from([("OptimizeDatabase", status)]);
        let fake = Fake::start(folder.path(), Script { failing, ..Default::default() });
        let outcome = ctl(&["db", "optimize", "--force", "-n", &fake.node()]);
        assert_eq!(outcome.exit, exit, "{}", outcome.stderr);
        for part in wanted {
            assert!(outcome.stderr.contains(part), "lacks {part:?}: {}", outcome.stderr);
        }
    }
}

#[test]
fn a_session_is_ended_only_after_a_yes_to_what_was_shown() {
    let (_folder, fake) = running(RunState::Succeeded, Databases::default());
    let node = fake.node();
    let kill = ["db", "kill", "4711", "--database", "orders", "-n", &node];
    let outcome = ctl(&[&kill[..], &["--yes"]].concat());
    assert_eq!(outcome.exit, Exit::Usage);
    assert!(outcome.stderr.contains("`db kill` needs --reason"), "{}", outcome.stderr);
    let kill = [&kill[..], &["--reason", "holds positions"]].concat();
    let outcome = ctl(&kill);
    assert_eq!(outcome.exit, Exit::Usage);
    for said in ["end session 4711 of the database orders", "Nothing was sent", "--yes"] {
        assert!(outcome.stderr.contains(said), "{}", outcome.stderr);
    }
    assert!(fake.calls().is_empty());

    let answered = |answer: &'static str| {
        ctl_with(&kill, |console| {
            (console.stdin_terminal, console.stderr_terminal) = (true, true);
            console.stdin = Box::new(Cursor::new(answer));
        })
    };
    let outcome = answered("n\n");
    assert_eq!(outcome.exit, Exit::Failed);
    for said in [
        "cancel-query session 4711: holds up 2",
        "End session 4711? [y/N]",
        "not confirmed: nobody was ended",
    ] {
        assert!(outcome.stderr.contains(said), "{}", outcome.stderr);
    }
    assert_eq!(fake.calls(), ["PlanKillSession because holds positions"]);
    let outcome = answered("y\n");
    assert_eq!(outcome.exit, Exit::Ok, "{}", outcome.stderr);
    assert_eq!(
        outcome.out(),
        "session 4711 of orders was terminated: nobody waits for it any more\n"
    );
    assert_eq!(
        fake.calls()[2..],
        ["KillSession 4711 orders h1 because holds positions"],
        "what was shown is what is done"
    );
}

#[test]
fn a_session_that_others_still_wait_for_is_a_finding() {
    let (_folder, fake) = agent(Databases { still_blocked: true, ..Default::default() });
    let node = fake.node();
    let kill = ["db", "kill", "7", "--reason", "r", "--yes", "-n", &node];
    let outcome = ctl(&kill);
    assert_eq!(outcome.exit, Exit::Findings, "{}", outcome.stderr);
    assert!(outcome.out().contains("others still wait for it"), "{}", outcome.out());
    let json = ctl(&[&kill[..], &["-o", "json"]].concat());
    assert_eq!(json.exit, Exit::Findings);
    assert_eq!(json.json()[0]["response"]["by"], "terminated");
    for pid in ["0", "-4", "x"] {
        assert_eq!(ctl(&["db", "kill", pid, "--reason", "r", "-n", &node]).exit, Exit::Usage);
    }
}

#[test]
fn the_same_number_is_not_ended_on_several_nodes() {
    let ((_a, one), (_b, two)) = (agent(Databases::default()), agent(Databases::default()));
    let nodes = format!("{},{}", one.node(), two.node());
    let outcome = ctl(&["db", "kill", "7", "--reason", "r", "--yes", "-n", &nodes]);
    assert_eq!(outcome.exit, Exit::Usage);
    assert!(outcome.stderr.contains("`db kill` takes one node"), "{}", outcome.stderr);
    let outcome = ctl(&["db", "optimize", "-n", &nodes]);
    assert_eq!(outcome.exit, Exit::Usage);
    assert!(outcome.stderr.contains("optimize the database on several nodes"));
    assert!(one.calls().is_empty() && two.calls().is_empty());
}

#[test]
fn a_session_that_is_another_one_now_is_left_alone() {
    for (code, reason, exit) in [
        (Code::Aborted, "SESSION_CHANGED", Exit::Conflict),
        (Code::NotFound, "SESSION_NOT_FOUND", Exit::Failed),
        (Code::FailedPrecondition, "SESSION_PROTECTED", Exit::Refused),
    ] {
        let folder = folder();
        let failing = HashMap::from([("KillSession", refusal(code, reason, "so it is"))]);
        let fake = Fake::start(folder.path(), Script { failing, ..Default::default() });
        let node = fake.node();
        let outcome = ctl(&["db", "kill", "7", "--reason", "r", "--yes", "-n", &node]);
        assert_eq!(outcome.exit, exit, "{}", outcome.stderr);
        assert!(outcome.stderr.contains("genesisctl db blockers"), "{}", outcome.stderr);
    }
}
