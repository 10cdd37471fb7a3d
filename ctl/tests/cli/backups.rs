//! `backup`.

use std::io::Cursor;

use genesis_client::v1::*;
use genesisctl::Exit;

use crate::fake::{Backups, Fake, Script};
use crate::{Outcome, at, ctl, ctl_with, folder, squeezed};

const RUN: &str = "01J0000000000000000000000A";
const ORDERS: &str = "01J8ZVAAAAAAAAAAAAAAAAAAAA";
const AGENT: &str = "01J9YYBBBBBBBBBBBBBBBBBBBB";

fn backup(id: &str, source: &str, state: BackupState) -> Backup {
    Backup {
        id: id.into(),
        source: source.into(),
        engine: Engine::Postgres.into(),
        tool: "builtin".into(),
        state: state.into(),
        place: "/var/lib/genesis/backups/x".into(),
        started_at: at(100),
        ended_at: at(160),
        bytes: 616_000_000,
        system_identifier: "7301234567890123456".into(),
        level: BackupLevel::Checksums.into(),
        verified_at: at(200),
        detail: "1,204 files \u{1b}[2J".into(),
        run_id: RUN.into(),
    }
}

fn source(name: &str, verified: Truth) -> BackupSource {
    BackupSource {
        name: name.into(),
        engine: Engine::Postgres.into(),
        tool: "builtin".into(),
        schedule: "02:00".into(),
        next_at: at(90_000),
        newest_verified: None,
        verified: verified.into(),
        evidence: "none since yesterday".into(),
        max_age: Some(prost_types::Duration { seconds: 26 * 3600, nanos: 0 }),
        min_level: BackupLevel::Restored.into(),
    }
}

fn listed() -> ListBackupsResponse {
    let newest = backup(ORDERS, "orders", BackupState::Complete);
    let orders =
        BackupSource { newest_verified: Some(newest.clone()), ..source("orders", Truth::Pass) };
    ListBackupsResponse {
        sources: vec![orders, source("agent", Truth::Fail)],
        backups: vec![newest, backup(AGENT, "agent", BackupState::Broken)],
    }
}

fn agent(listed: ListBackupsResponse, state: RunState) -> (tempfile::TempDir, Fake) {
    let folder = folder();
    let step = PlanStep {
        action: "restore".into(),
        target: "/srv/r".into(),
        reason: "nothing is there yet".into(),
    };
    let run = Run { id: RUN.into(), state: state.into(), ..Default::default() };
    let script = Script {
        backups: Backups { listed, ..Default::default() },
        watches: vec![vec![Ok(run)]],
        any_plan: PlanResponse { plan: Some(Plan { hash: "h1".into(), steps: vec![step] }) },
        ..Default::default()
    };
    let fake = Fake::start(folder.path(), script);
    (folder, fake)
}

#[test]
fn sources_and_their_backups_are_listed() {
    let (_folder, fake) = agent(listed(), RunState::Succeeded);
    let node = fake.node();
    let list = ctl(&["backup", "list", "-n", &node]);
    assert_eq!(list.exit, Exit::Findings, "{}", list.stderr);
    assert_eq!(
        squeezed(list.out()),
        [
            "SOURCE VERIFIED NEWEST VERIFIED LEVEL MADE WANTED SCHEDULE NEXT EVIDENCE",
            "orders PASS 01J8ZVAAAAAAAAAAAAAAAAAAAA L1 1970-01-01T00:02:40Z L2, at most 1d 2h old 02:00 \
             1970-01-02T01:00:00Z none since yesterday",
            "agent FAIL - - - L2, at most 1d 2h old 02:00 1970-01-02T01:00:00Z none since yesterday",
            "",
            "Backups",
            "BACKUP SOURCE STATE LEVEL VERIFIED STARTED TOOK SIZE DETAIL",
            "01J8ZVAAAAAAAAAAAAAAAAAAAA orders COMPLETE L1 1970-01-01T00:03:20Z 1970-01-01T00:01:40Z 1m 616.0 MB \
             1,204 files \\x1b[2J",
            "01J9YYBBBBBBBBBBBBBBBBBBBB agent BROKEN L1 1970-01-01T00:03:20Z 1970-01-01T00:01:40Z 1m 616.0 MB \
             1,204 files \\x1b[2J",
        ]
    );
    let long = ctl(&["backup", "list", "orders", "--limit", "5", "--expired", "-v", "-n", &node]);
    for shown in ["/var/lib/genesis/backups/x", "7301234567890123456", "builtin", RUN] {
        assert!(long.out().contains(shown), "lacks {shown}: {}", long.out());
    }
    let json = ctl(&["backup", "list", "-o", "json", "-n", &node]);
    assert_eq!(json.exit, Exit::Findings);
    let json = json.json();
    assert_eq!(json[0]["response"]["sources"][1]["verified"], "TRUTH_FAIL");
    assert_eq!(json[0]["response"]["backups"][0]["level"], "BACKUP_LEVEL_CHECKSUMS");
    assert_eq!(json[0]["response"]["backups"][0]["bytes"], "616000000");
    assert_eq!(fake.calls(), ["ListBackups 50", "ListBackups orders 5 expired", "ListBackups 50"]);
    // Several nodes have rows of one table, without the backups in between.
    let (_other, two) = agent(listed(), RunState::Succeeded);
    let both = ctl(&["backup", "list", "-n", &format!("{node},{}", two.node())]);
    assert_eq!(squeezed(both.out()).len(), 5, "{}", both.out());
}

#[test]
fn a_source_without_a_backup_that_counts_decides_the_exit_code() {
    for (truths, exit) in [
        (&[][..], Exit::Ok),
        (&[Truth::Pass], Exit::Ok),
        (&[Truth::Pass, Truth::Fail], Exit::Findings),
        (&[Truth::Fail, Truth::Unknown], Exit::Unknown),
        (&[Truth::Unspecified], Exit::Unknown),
    ] {
        let sources = truths.iter().map(|truth| source("orders", *truth)).collect();
        let listed = ListBackupsResponse { sources, backups: vec![] };
        let (_folder, fake) = agent(listed, RunState::Succeeded);
        assert_eq!(ctl(&["backup", "list", "-n", &fake.node()]).exit, exit, "{truths:?}");
    }
}

#[test]
fn backups_are_made_and_verified_by_runs_that_are_followed() {
    for (state, exit) in [(RunState::Succeeded, Exit::Ok), (RunState::Failed, Exit::Failed)] {
        let (_folder, fake) = agent(listed(), state);
        let node = fake.node();
        for command in [
            &["run"][..],
            &["run", "orders"],
            &["verify", "orders"],
            &["verify", "01j8", "--level", "l2"],
        ] {
            let outcome = ctl(&[&["backup"], command, &["-n", &node]].concat());
            assert_eq!(outcome.exit, exit, "{command:?}: {}", outcome.stderr);
            let detached = ctl(&[&["backup"], command, &["--detach", "-n", &node]].concat());
            assert_eq!(detached.exit, Exit::Ok);
            assert!(detached.out().contains("has started"), "{}", detached.out());
        }
        let calls = fake.calls();
        let sent: Vec<_> = calls.iter().filter(|call| !call.starts_with("WatchRun")).collect();
        assert_eq!(
            sent.into_iter().step_by(2).collect::<Vec<_>>(),
            [
                "RunBackup",
                "RunBackup orders",
                "VerifyBackup orders BACKUP_LEVEL_UNSPECIFIED",
                "VerifyBackup 01j8 BACKUP_LEVEL_RESTORED",
            ]
        );
    }
    let (_folder, fake) = agent(listed(), RunState::Succeeded);
    let outcome = ctl(&["backup", "verify", "orders", "--level", "L0", "-n", &fake.node()]);
    assert_eq!(outcome.exit, Exit::Usage);
}

#[test]
fn a_second_caller_is_told_that_a_backup_is_being_made() {
    let folder = folder();
    let backups = Backups { attached: true, ..Default::default() };
    let fake = Fake::start(folder.path(), Script { backups, ..Default::default() });
    let outcome = ctl(&["backup", "run", "--detach", "-n", &fake.node()]);
    assert_eq!(outcome.exit, Exit::Ok);
    assert!(outcome.out().contains("was going on already"), "{}", outcome.out());
}

fn restore(fake: &Fake, backup: &str, more: &[&str]) -> Outcome {
    let node = fake.node();
    let arguments = ["backup", "restore", backup, "--into", "/srv/r", "-n", &node];
    ctl(&[&arguments[..], more].concat())
}

#[test]
fn only_who_names_the_source_restores_it() {
    let (_folder, fake) = agent(listed(), RunState::Succeeded);
    let confirmed = ["--reason", "positions of May", "--confirm", "orders"];
    for (more, said) in [
        (&[][..], "`backup restore` needs --reason"),
        (&["--reason", "r"], "`backup restore` needs --confirm"),
        (&["--reason", "r", "--yes"], "`backup restore` needs --confirm"),
    ] {
        let outcome = restore(&fake, "orders", more);
        assert_eq!(outcome.exit, Exit::Usage, "{more:?}");
        assert!(outcome.stderr.contains(said), "{}", outcome.stderr);
    }
    assert!(fake.calls().is_empty());

    let outcome = restore(&fake, "01J9", &confirmed);
    assert_eq!(outcome.exit, Exit::Usage, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("is of agent, not of orders"), "{}", outcome.stderr);
    for (backup, said) in [
        ("01J", "there is no backup 01J"),
        ("01J7AAAA", "there is no backup 01J7AAAA"),
        ("order", "there is no backup order"),
    ] {
        let outcome = restore(&fake, backup, &confirmed);
        assert_eq!(outcome.exit, Exit::Failed);
        assert!(outcome.stderr.contains("error[BACKUP_NOT_FOUND]"), "{}", outcome.stderr);
        assert!(outcome.stderr.contains(said), "{}", outcome.stderr);
    }
    assert!(fake.calls().iter().all(|call| call.starts_with("ListBackups 1000")));

    for backup in ["orders", ORDERS, "01J8", "01j8zv"] {
        let outcome = restore(&fake, backup, &confirmed);
        assert_eq!(outcome.exit, Exit::Ok, "{backup}: {}", outcome.stderr);
        let calls = fake.calls();
        let sent = format!("RestoreBackup {backup} /srv/r because positions of May");
        assert!(calls[calls.len() - 1].starts_with("WatchRun"), "{calls:?}");
        assert_eq!(calls[calls.len() - 2], sent);
    }
}

#[test]
fn what_begins_the_ids_of_several_sources_restores_nothing() {
    let mut listed = listed();
    listed.backups[1].id = "01J8ZVBBBBBBBBBBBBBBBBBBBB".into();
    let (_folder, fake) = agent(listed, RunState::Succeeded);
    let outcome = restore(&fake, "01J8ZV", &["--reason", "r", "--confirm", "orders"]);
    assert_eq!(outcome.exit, Exit::Failed);
    assert!(outcome.stderr.contains("backups of agent and of orders"), "{}", outcome.stderr);
    assert_eq!(fake.calls().len(), 1);
}

#[test]
fn at_a_terminal_the_name_is_typed_after_the_plan_was_shown() {
    let (_folder, fake) = agent(listed(), RunState::Succeeded);
    let node = fake.node();
    let arguments = ["backup", "restore", "01J8", "--into", "/srv/r", "--reason", "r", "-n", &node];
    let answered = |answer: &'static str| {
        ctl_with(&arguments, |console| {
            (console.stdin_terminal, console.stderr_terminal) = (true, true);
            console.stdin = Box::new(Cursor::new(answer));
        })
    };
    for answer in ["y\n", "yes\n", "\n", "", "agent\n"] {
        let outcome = answered(answer);
        assert_eq!(outcome.exit, Exit::Failed, "{answer:?}");
        for said in [
            "This restores a backup of orders into /srv/r.",
            "restore /srv/r: nothing is there yet",
            "Type its name (orders) to go ahead: ",
            "not confirmed: nothing was restored",
        ] {
            assert!(outcome.stderr.contains(said), "{}", outcome.stderr);
        }
    }
    assert!(!fake.calls().iter().any(|call| call.starts_with("RestoreBackup")));
    let outcome = answered(" orders \n");
    assert_eq!(outcome.exit, Exit::Ok, "{}", outcome.stderr);
    let calls = fake.calls();
    assert_eq!(
        calls[calls.len() - 2],
        "RestoreBackup 01J8 /srv/r h1 because r",
        "what was shown is what is done"
    );
}

#[test]
fn one_node_is_restored_at_a_time() {
    let ((_a, one), (_b, two)) =
        (agent(listed(), RunState::Succeeded), agent(listed(), RunState::Succeeded));
    let nodes = format!("{},{}", one.node(), two.node());
    let restore = ["backup", "restore", "orders", "--into", "/srv/r", "--confirm", "orders"];
    let outcome = ctl(&[&restore[..], &["--reason", "r", "--yes", "-n", &nodes]].concat());
    assert_eq!(outcome.exit, Exit::Usage);
    assert!(outcome.stderr.contains("`backup restore` takes one node"), "{}", outcome.stderr);
    for command in [&["run"][..], &["verify", "orders"]] {
        let outcome = ctl(&[&["backup"], command, &["-n", &nodes]].concat());
        assert_eq!(outcome.exit, Exit::Usage);
        assert!(outcome.stderr.contains("Nothing was sent"), "{}", outcome.stderr);
    }
    assert!(one.calls().is_empty() && two.calls().is_empty());
}
