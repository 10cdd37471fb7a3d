//! `deps update`, `deps rollback`, `deps history`.

use std::io::Cursor;

use genesis_client::v1::*;
use genesisctl::Exit;
use tonic::Code;

use crate::deps::{MONDAY, on};
use crate::deps_check::change;
use crate::fake::{Dependencies, Fake, Script, refusal};
use crate::{Outcome, at, ctl, ctl_with, folder, squeezed};

const RUN: &str = "01J0000000000000000000000A";

fn update(state: UpdateState) -> DependencyUpdate {
    use VersionChange as C;
    let requests = PackageChange {
        fixes: vec!["CVE-2024-1".into()],
        ..change("requests", "2.31.0", "2.31.4", C::Patch)
    };
    DependencyUpdate {
        id: RUN.into(),
        project: "api".into(),
        strategy: UpdateStrategy::Moderate.into(),
        state: state.into(),
        from_generation: 3,
        to_generation: 4,
        changes: vec![
            requests,
            change("idna", "", "3.7", C::Added),
            change("six", "1.16.0", "", C::Removed),
            change("numpy", "2.0.1", "1.26.4", C::Downgrade),
        ],
        started_at: at(MONDAY),
        ended_at: at(MONDAY + 125),
        actor: "uid:0".into(),
        reason: "the new client".into(),
        ..Default::default()
    }
}

fn failed() -> DependencyUpdate {
    DependencyUpdate {
        to_generation: 0,
        error_code: "TESTS_FAILED".into(),
        error: "3 of 120 failed".into(),
        failed_in: UpdateState::Test.into(),
        test_output: "FAILED test_orders.py \u{1b}[2J\nE   assert 1 == 2\n".into(),
        ..update(UpdateState::RolledBack)
    }
}

fn agent(state: RunState, updates: Vec<DependencyUpdate>) -> (tempfile::TempDir, Fake) {
    let folder = folder();
    let step = PlanStep {
        action: "change".into(),
        target: "requests".into(),
        reason: "2.31.0 -> 2.31.4".into(),
    };
    let code = if state == RunState::Failed { "TESTS_FAILED" } else { "" };
    let run = Run {
        id: RUN.into(),
        kind: "dependencies.update".into(),
        state: state.into(),
        summary: "that was it".into(),
        error_code: code.into(),
        ..Default::default()
    };
    let updates = ListDependencyUpdatesResponse { updates };
    let script = Script {
        dependencies: Dependencies { updates, ..Default::default() },
        watches: vec![vec![Ok(run)]],
        any_plan: PlanResponse { plan: Some(Plan { hash: "h1".into(), steps: vec![step] }) },
        ..Default::default()
    };
    let fake = Fake::start(folder.path(), script);
    (folder, fake)
}

/// At a terminal at which this is typed.
fn answered(fake: &Fake, command: &[&str], answer: &'static str) -> Outcome {
    let node = fake.node();
    ctl_with(&[&["deps"], command, &["-n", &node]].concat(), |console| {
        (console.stdin_terminal, console.stderr_terminal) = (true, true);
        console.stdin = Box::new(Cursor::new(answer));
    })
}

#[test]
fn an_update_is_followed_to_its_end_and_told() {
    let (_folder, fake) = agent(RunState::Succeeded, vec![update(UpdateState::Succeeded)]);
    let command =
        ["update", "--project", "api", "--strategy", "moderate", "--yes", "--reason", "r"];
    let updated = on(&fake, &command);
    assert_eq!(updated.exit, Exit::Ok, "{}", updated.stderr);
    let follow = format!("run {RUN} has started: `genesisctl run watch {RUN}` follows it\n");
    assert_eq!(updated.stderr, follow);
    assert_eq!(
        squeezed(updated.out()),
        [
            "run 01J0000000000000000000000A dependencies.update SUCCEEDED in -: that was it",
            "",
            "api moderate SUCCEEDED 3 -> 4 (2026-11-02T04:00:00Z, run 01J0000000000000000000000A)",
            "PACKAGE FROM TO CHANGE FIXES",
            "requests 2.31.0 2.31.4 PATCH CVE-2024-1",
            "idna - 3.7 ADDED -",
            "six 1.16.0 - REMOVED -",
            "numpy 2.0.1 1.26.4 DOWNGRADE -",
        ]
    );
    let watch = format!("WatchRun {RUN} because r");
    assert_eq!(
        fake.calls(),
        ["UpdateDependencies api MODERATE because r", &watch, "ListDependencyUpdates 10 because r"]
    );
    let json = on(&fake, &[&command[..], &["-o", "json"]].concat()).json();
    assert_eq!(json[0]["response"]["run"]["state"], "RUN_STATE_SUCCEEDED");
    let detached = on(&fake, &["update", "--yes", "--detach"]);
    assert_eq!((detached.exit, detached.out()), (Exit::Ok, follow.as_str()));
    let json = on(&fake, &["update", "--yes", "--detach", "-o", "json"]).json();
    assert_eq!(json[0]["response"]["runId"], RUN);
}

#[test]
fn an_update_that_fails_says_what_its_tests_said() {
    let (_folder, fake) = agent(RunState::Failed, vec![failed()]);
    let updated = on(&fake, &["update", "--project", "api", "--yes"]);
    assert_eq!(updated.exit, Exit::Failed);
    for shown in [
        "api moderate ROLLED_BACK 3 -> - (2026-11-02T04:00:00Z",
        "\nTESTS_FAILED in TEST: 3 of 120 failed\n",
        "\nthe last lines of its tests:\n  FAILED test_orders.py \\x1b[2J\n  E   assert 1 == 2\n",
    ] {
        assert!(updated.out().contains(shown), "lacks {shown}: {}", updated.out());
    }
    let told = format!(
        "error[TESTS_FAILED]: run {RUN} ended failed: that was it: see its steps with `genesisctl run show {RUN}`; all \
         of it: `genesisctl deps history --project api -v`"
    );
    assert!(updated.stderr.contains(&told), "{}", updated.stderr);
    // What ends otherwise has the code of its run, with or without more to tell.
    for (state, exit) in [
        (RunState::Refused, Exit::Refused),
        (RunState::Interrupted, Exit::Unknown),
        (RunState::Cancelled, Exit::Failed),
    ] {
        let (_folder, fake) = agent(state, vec![]);
        assert_eq!(on(&fake, &["rollback", "--yes"]).exit, exit, "{state:?}");
    }
}

#[test]
fn nobody_updates_by_accident() {
    let (_folder, fake) = agent(RunState::Succeeded, vec![]);
    for (command, told) in [
        (
            &["update", "--project", "api", "--strategy", "aggressive"][..],
            "this would update what api is built of, by aggressive, which restarts it, and there is no terminal to ask \
             at. Nothing was sent: look at what it would do with --plan, then add --yes",
        ),
        (
            &["update"],
            "update what the project is built of, by its own strategy, which restarts it",
        ),
        (&["rollback", "--to", "2"], "take the project back to generation 2, which restarts it"),
        (
            &["rollback", "--project", "api"],
            "take api back to the release before, which restarts it",
        ),
    ] {
        let refused = on(&fake, command);
        assert_eq!(refused.exit, Exit::Usage, "{command:?}");
        assert!(refused.stderr.contains(told), "{told}: {}", refused.stderr);
    }
    let (_b, other) = agent(RunState::Succeeded, vec![]);
    let nodes = [fake.node(), other.node()].join(",");
    let many = ctl(&["deps", "rollback", "--to", "2", "--yes", "-n", &nodes]);
    assert_eq!(many.exit, Exit::Usage);
    assert!(many.stderr.contains("one node at a time"), "{}", many.stderr);
    assert_eq!(on(&fake, &["rollback", "--to", "0", "--yes"]).exit, Exit::Usage);
    assert!(fake.calls().is_empty() && other.calls().is_empty());
}

#[test]
fn what_was_shown_and_agreed_to_is_what_is_done() {
    for (command, planned, question, undone, done) in [
        (
            &["update", "--project", "api", "--strategy", "security"][..],
            "PlanUpdateDependencies api SECURITY",
            "Update api? [y/N]",
            "not confirmed: nothing was updated",
            "UpdateDependencies api SECURITY h1",
        ),
        (
            &["rollback", "--project", "api", "--to", "2"],
            "PlanRollBackDependencies api 2",
            "Take api back to generation 2? [y/N]",
            "not confirmed: nothing was taken back",
            "RollBackDependencies api 2 h1",
        ),
    ] {
        let (_folder, fake) = agent(RunState::Succeeded, vec![]);
        let refused = answered(&fake, command, "n\n");
        assert_eq!(refused.exit, Exit::Failed, "{}", refused.stderr);
        for said in ["change requests: 2.31.0 -> 2.31.4", question, undone] {
            assert!(refused.stderr.contains(said), "lacks {said}: {}", refused.stderr);
        }
        assert_eq!(fake.calls(), [planned]);
        let agreed = answered(&fake, command, "y\n");
        assert_eq!(agreed.exit, Exit::Ok, "{}", agreed.stderr);
        assert_eq!(fake.calls()[1..3], [planned, done]);
        // A plan that is no more is not asked about.
        let moved = answered(&fake, &[command, &["--plan-hash", "h0"]].concat(), "y\n");
        assert_eq!(moved.exit, Exit::Conflict);
        assert!(moved.stderr.contains("the plan is now h1, not h0"), "{}", moved.stderr);
    }
}

#[test]
fn a_question_about_nothing_says_so() {
    let folder = folder();
    let fake = Fake::start(folder.path(), Script::default());
    let refused = answered(&fake, &["update"], "n\n");
    assert_eq!(refused.exit, Exit::Failed);
    let told = "  nothing is to be changed\nUpdate the project? [y/N] ";
    assert!(refused.stderr.contains(told), "{}", refused.stderr);
}

#[test]
fn a_release_that_is_gone_says_where_to_look() {
    let folder = folder();
    let why = refusal(Code::NotFound, "RELEASE_NOT_FOUND", "there is no generation 2");
    let failing = [("RollBackDependencies", why)].into();
    let fake = Fake::start(folder.path(), Script { failing, ..Default::default() });
    let refused = on(&fake, &["rollback", "--to", "2", "--yes"]);
    assert_eq!(refused.exit, Exit::Failed);
    assert!(refused.stderr.contains("`genesisctl deps status -v`"), "{}", refused.stderr);
}

#[test]
fn history_tells_what_was_tried_and_what_came_of_it() {
    let rollback = DependencyUpdate {
        strategy: UpdateStrategy::Unspecified.into(),
        from_generation: 4,
        to_generation: 3,
        changes: vec![change("requests", "2.31.4", "2.31.0", VersionChange::Downgrade)],
        restart_owed: true,
        ..update(UpdateState::Succeeded)
    };
    let going = DependencyUpdate {
        to_generation: 0,
        changes: update(UpdateState::Test).changes[..3].to_vec(),
        ended_at: None,
        exploited: true,
        ..update(UpdateState::Test)
    };
    let cut = DependencyUpdate { changes: vec![], ..update(UpdateState::Deploy) };
    let none = DependencyUpdate {
        from_generation: 0,
        to_generation: 0,
        changes: vec![],
        ..update(UpdateState::Unchanged)
    };
    let all = vec![going, rollback, failed(), cut, none];
    let (_folder, fake) = agent(RunState::Succeeded, all);
    let history = on(&fake, &["history", "--project", "api", "--limit", "5"]);
    assert_eq!((history.exit, history.stderr.as_str()), (Exit::Ok, ""));
    let when = "2026-11-02T04:00:00Z api";
    assert_eq!(
        squeezed(history.out()),
        [
            "STARTED PROJECT STRATEGY OUTCOME GENERATION CHANGED NOTE".to_owned(),
            format!(
                "{when} moderate in TEST 3 -> - requests 2.31.0 -> 2.31.4, idna 3.7 added, six 1.16.0 removed of an \
                 exploited vulnerability"
            ),
            format!(
                "{when} rollback SUCCEEDED 4 -> 3 requests 2.31.4 -> 2.31.0 restart owed: the service has still to be \
                 restarted with it"
            ),
            format!(
                "{when} moderate ROLLED_BACK 3 -> - requests 2.31.0 -> 2.31.4, idna 3.7 added, 2 more TESTS_FAILED in \
                 TEST: 3 of 120 failed"
            ),
            format!("{when} moderate ended in DEPLOY 3 -> 4 - -"),
            format!("{when} moderate UNCHANGED - - -"),
        ]
    );
    let long = on(&fake, &["history", "-v"]);
    for shown in
        ["2m 5s", RUN, "uid:0", "the new client", "numpy", "DOWNGRADE", "  E   assert 1 == 2"]
    {
        assert!(long.out().contains(shown), "lacks {shown}: {}", long.out());
    }
    assert!(!history.out().contains("numpy") && !long.out().contains('\u{1b}'));
    let json = on(&fake, &["history", "-o", "json"]).json();
    let failed = &json[0]["response"]["updates"][2];
    assert_eq!(
        (&failed["failedIn"], &failed["errorCode"]),
        (&"UPDATE_STATE_TEST".into(), &"TESTS_FAILED".into())
    );
    assert_eq!(
        fake.calls(),
        ["ListDependencyUpdates api 5", "ListDependencyUpdates 50", "ListDependencyUpdates 50"]
    );
    let (_b, empty) = agent(RunState::Succeeded, vec![]);
    assert_eq!(on(&empty, &["history"]).stderr, "nothing was updated yet\n");
}
