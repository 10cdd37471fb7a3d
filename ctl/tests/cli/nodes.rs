//! One node, several nodes, and consent before they are changed.

use std::io::Cursor;
use std::time::Duration;

use genesis_client::v1::*;
use genesisctl::Exit;

use crate::fake::{Fake, Script};
use crate::{ctl, ctl_with, folder, of_condition, well};

fn status(status: GetStatusResponse) -> (tempfile::TempDir, Fake) {
    let folder = folder();
    let fake = Fake::start(folder.path(), Script { status, ..Default::default() });
    (folder, fake)
}

#[test]
fn an_absent_agent_is_unreachable_and_the_error_says_what_to_do() {
    let folder = folder();
    let node = format!("unix:{}", folder.path().join("agent.sock").display());
    let outcome = ctl(&["status", "-n", &node]);
    assert_eq!(outcome.exit, Exit::Unreachable);
    assert_eq!(
        outcome.stderr,
        format!(
            "error[AGENT_UNREACHABLE]: no agent answers at {node}: start it with `genesis-agent`, or name \
             another with -n\n"
        )
    );
    assert!(outcome.stdout.is_empty());
}

#[test]
fn each_requested_node_has_a_row_in_every_format() {
    let (folder, fake) = status(well());
    let absent = format!("unix:{}", folder.path().join("absent.sock").display());
    // The absent one is named first, and twice.
    let nodes = format!("{absent},{},{absent}", fake.node());

    let table = ctl(&["status", "-n", &nodes]);
    assert_eq!(table.exit, Exit::SomeFailed);
    let rows: Vec<_> = table.out().lines().collect();
    assert_eq!(rows.len(), 3, "{}", table.out());
    assert!(rows[0].starts_with("NODE") && rows[0].contains("CONDITION"));
    assert!(
        rows[1].starts_with(&fake.node()) && rows[1].contains("web-1") && rows[1].contains("1d 1h")
    );
    assert!(rows[2].starts_with(&absent) && rows[2].ends_with("(unreachable)"));
    assert!(table.stderr.contains(&absent));

    let json = ctl(&["status", "-o", "json", "-n", &nodes]);
    assert_eq!(json.exit, Exit::SomeFailed);
    let rows = json.json();
    assert_eq!(rows.as_array().unwrap().len(), 2);
    assert_eq!((&rows[1]["node"], &rows[1]["ok"]), (&absent.as_str().into(), &false.into()));
    assert_eq!(rows[1]["error"]["code"], "UNAVAILABLE");
    assert_eq!(rows[1]["error"]["reason"], "AGENT_UNREACHABLE");
    assert!(rows[1]["response"].is_null());
    assert_eq!(rows[0]["ok"], true);

    let jsonl = ctl(&["status", "-o", "jsonl", "-n", &nodes]);
    assert_eq!(jsonl.out().lines().count(), 2);

    let both = ctl(&["status", "-n", &absent, "-n", &format!("{absent}x")]);
    assert_eq!(both.exit, Exit::Unreachable, "all agree");
    assert_eq!(both.out().matches("(unreachable)").count(), 2);
}

#[test]
fn rows_are_printed_as_they_arrive_in_every_format() {
    let slow_folder = folder();
    let slow = Script { status: well(), delay: Duration::from_millis(200), ..Default::default() };
    let slow = Fake::start(slow_folder.path(), slow);
    let (_folder, fast) = status(well());
    let nodes = format!("{},{}", slow.node(), fast.node());
    let order = |text: &str| text.find(&slow.node()) < text.find(&fast.node());
    for format in ["jsonl", "json", "yaml", "table"] {
        let outcome = ctl(&["status", "-o", format, "-n", &nodes]);
        assert!(!order(outcome.out()), "the fast one first: {}", outcome.out());
    }
}

#[test]
fn nodes_come_from_the_environment_where_none_are_named() {
    let (_folder, fake) = status(well());
    let environment = |console: &mut genesisctl::Console| {
        console.env.insert("GENESISCTL_NODES".into(), fake.node());
    };
    let outcome = ctl_with(&["status"], environment);
    assert_eq!(outcome.exit, Exit::Ok);
    assert!(outcome.out().starts_with("web-1: OK, genesis"));
    let outcome = ctl_with(&["status", "-n", "/absent.sock"], environment);
    assert_eq!(outcome.exit, Exit::Unreachable, "-n wins");
    let outcome = ctl_with(&["status"], |console| {
        console.env.insert("GENESISCTL_NODES".into(), "web-1".into());
    });
    assert_eq!(outcome.exit, Exit::Usage);
    assert!(outcome.stderr.contains("host:port"));
}

#[test]
fn the_condition_decides_the_exit_code() {
    for (condition, exit) in [
        (Condition::Ok, Exit::Ok),
        (Condition::Warn, Exit::Findings),
        (Condition::Critical, Exit::Findings),
        (Condition::Unknown, Exit::Unknown),
    ] {
        let (_folder, fake) = status(of_condition(condition));
        assert_eq!(ctl(&["status", "-n", &fake.node()]).exit, exit, "{condition:?}");
    }
    let mut mixed = of_condition(Condition::Critical);
    mixed.domains.push(DomainStatus { condition: Condition::Unknown.into(), ..Default::default() });
    let (_folder, fake) = status(mixed);
    assert_eq!(ctl(&["status", "-n", &fake.node()]).exit, Exit::Unknown, "unknown beats findings");
}

#[test]
fn a_change_on_two_nodes_needs_yes_and_else_nothing_is_sent() {
    let ((_a, one), (_b, two)) = (status(well()), status(well()));
    let nodes = format!("{},{}", one.node(), two.node());
    for verb in [&["config", "reload"][..], &["logs", "rotate"], &["oplog", "note", "x"]] {
        let outcome = ctl_with(&[verb, &["-n", &nodes]].concat(), |console| {
            // Not even at a terminal.
            (console.stdin_terminal, console.stderr_terminal) = (true, true);
            console.stdin = Box::new(Cursor::new("y\n"));
        });
        assert_eq!(outcome.exit, Exit::Usage);
        assert!(outcome.stderr.contains("--yes") && outcome.stderr.contains("Nothing was sent"));
        assert!(outcome.stderr.contains(&one.node()) && outcome.stderr.contains(&two.node()));
    }
    assert!(one.calls().is_empty() && two.calls().is_empty());

    let outcome = ctl(&["config", "reload", "--yes", "-n", &nodes, "--reason", "longer retention"]);
    assert_eq!(outcome.exit, Exit::Ok, "{}", outcome.stderr);
    assert_eq!(one.calls(), ["ReloadConfig because longer retention"]);
    assert_eq!(two.calls(), one.calls());
    assert!(outcome.out().contains(&format!("{}: nothing changed", two.node())));
}

#[test]
fn one_node_is_changed_without_yes() {
    let (_folder, fake) = status(well());
    let outcome = ctl(&["oplog", "note", "new disk", "-n", &fake.node()]);
    assert_eq!((outcome.exit, outcome.out()), (Exit::Ok, "noted as entry 7\n"));
    assert_eq!(fake.calls(), ["AddNote new disk"]);
}

#[test]
fn what_destroys_asks_at_a_terminal_and_needs_yes_elsewhere() {
    let folder = folder();
    let step = PlanStep {
        action: "delete-archive".into(),
        target: "a.log.gz".into(),
        reason: "old".into(),
    };
    let plan = Some(Plan { hash: "h1".into(), steps: vec![step] });
    let script = Script {
        plan: PlanCleanupArchivesResponse {
            plan,
            segments: 1,
            compressed_bytes: 2_000_000,
            held_segments: 0,
        },
        watches: vec![vec![Ok(Run { state: RunState::Succeeded.into(), ..Default::default() })]],
        ..Default::default()
    };
    let fake = Fake::start(folder.path(), script);
    let node = fake.node();
    let arguments = ["logs", "cleanup", "--older-than", "365d", "-n", &node];
    let answered = |answer: &'static str| {
        ctl_with(&arguments, |console| {
            (console.stdin_terminal, console.stderr_terminal) = (true, true);
            console.stdin = Box::new(Cursor::new(answer));
        })
    };

    let outcome = ctl(&arguments);
    assert_eq!(outcome.exit, Exit::Usage);
    assert!(outcome.stderr.contains("--yes") && outcome.stderr.contains("--plan"));
    assert!(fake.calls().is_empty());

    for no in ["n\n", "\n", ""] {
        let outcome = answered(no);
        assert_eq!(outcome.exit, Exit::Failed);
        assert!(
            outcome.stderr.contains("delete-archive a.log.gz") && outcome.stderr.contains("2.0 MB")
        );
    }
    assert!(fake.calls().iter().all(|call| call == "PlanCleanupArchives 365d"));

    assert_eq!(answered("yes\n").exit, Exit::Ok);
    assert!(
        fake.calls().contains(&"CleanupArchives h1".to_owned()),
        "what was shown is what is done"
    );
    let outcome = ctl(&[
        "logs",
        "cleanup",
        "--older-than",
        "365d",
        "--yes",
        "--plan-hash",
        "h2",
        "-n",
        &node,
    ]);
    assert_eq!(outcome.exit, Exit::Ok);
    assert!(fake.calls().contains(&"CleanupArchives h2".to_owned()));
}

#[test]
fn denied_is_not_unreachable_and_a_timeout_is() {
    let (_folder, fake) = status(well());
    let outcome = ctl(&["whoami", "-n", &fake.node()]);
    assert_eq!(outcome.exit, Exit::NotAllowed);
    assert!(outcome.stderr.contains("nobody knows you: see who you are"));

    let folder = folder();
    let hanging = Script { delay: Duration::from_secs(60), ..Default::default() };
    let hanging = Fake::start(folder.path(), hanging);
    let outcome = ctl(&["status", "--timeout", "50ms", "-n", &hanging.node()]);
    assert_eq!(outcome.exit, Exit::Unreachable);
    assert!(outcome.stderr.contains("AGENT_TIMEOUT"));
    let outcome = ctl(&["config", "reload", "--timeout", "50ms", "-n", &hanging.node()]);
    assert_eq!(outcome.exit, Exit::Unknown, "it may have happened");
}

#[test]
fn versions_are_shown_with_their_skew_even_where_no_agent_answers() {
    let (_folder, fake) = status(GetStatusResponse { version: "9.0.0".into(), ..well() });
    let outcome = ctl(&["version", "-n", &format!("{},/absent.sock", fake.node())]);
    assert_eq!(outcome.exit, Exit::SomeFailed);
    let rows: Vec<_> = outcome.out().lines().collect();
    assert!(rows[1].starts_with("genesisctl") && rows[1].contains(env!("CARGO_PKG_VERSION")));
    // The other two as they arrive.
    assert!(rows[2..].iter().any(|row| row.contains("9.0.0") && row.contains("agent newer")));
    assert!(rows[2..].iter().any(|row| row.contains("(unreachable)")));
}
