//! Runs that are followed to their end, the schedule, rollback, and the operation log.

use genesis_client::v1::*;
use genesisctl::Exit;
use tonic::Status;

use crate::fake::{Fake, Script};
use crate::{at, ctl, folder};

const ID: &str = "01J0000000000000000000000A";

fn run(state: RunState, done: u64) -> Run {
    Run {
        id: ID.into(),
        kind: "logs.rotate".into(),
        state: state.into(),
        summary: if state == RunState::Running { String::new() } else { "that was it".into() },
        progress: Some(Progress { done, total: 2, unit: "segments".into(), ..Default::default() }),
        ..Default::default()
    }
}

fn watched(watches: Vec<Vec<Result<Run, Status>>>) -> (tempfile::TempDir, Fake) {
    let folder = folder();
    let fake = Fake::start(folder.path(), Script { watches, ..Default::default() });
    (folder, fake)
}

#[test]
fn a_watched_run_is_resumed_and_its_end_decides_the_exit_code() {
    for (state, exit) in [
        (RunState::Succeeded, Exit::Ok),
        (RunState::Failed, Exit::Failed),
        (RunState::Cancelled, Exit::Failed),
        (RunState::Refused, Exit::Refused),
        (RunState::Interrupted, Exit::Unknown),
        (RunState::Unknown, Exit::Unknown),
    ] {
        let (_folder, fake) = watched(vec![
            vec![Ok(run(RunState::Running, 1)), Err(Status::unavailable("draining"))],
            vec![Ok(run(RunState::Running, 1))],
            vec![Ok(run(RunState::Running, 2)), Ok(run(state, 2))],
        ]);
        let outcome = ctl(&["run", "watch", "last", "-n", &fake.node()]);
        assert_eq!(outcome.exit, exit, "{state:?}");
        assert!(outcome.out().contains("that was it"), "{}", outcome.out());
        assert_eq!(outcome.stderr.is_empty(), exit == Exit::Ok, "{}", outcome.stderr);
        let calls = fake.calls();
        assert_eq!(calls[0], "GetRun last");
        assert_eq!(calls[1..], [const { "WatchRun 01J0000000000000000000000A" }; 3]);
    }
}

#[test]
fn a_watched_run_is_a_line_of_json_for_each_state() {
    let (_folder, fake) = watched(vec![
        vec![Ok(run(RunState::Running, 1)), Err(Status::unavailable("draining"))],
        vec![Ok(run(RunState::Running, 1)), Ok(run(RunState::Failed, 2))],
    ]);
    let outcome = ctl(&["run", "watch", ID, "-o", "jsonl", "-n", &fake.node()]);
    assert_eq!(outcome.exit, Exit::Failed);
    let rows: Vec<serde_json::Value> =
        outcome.out().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let states: Vec<_> = rows.iter().map(|row| &row["response"]["run"]["state"]).collect();
    assert_eq!(states, ["RUN_STATE_RUNNING", "RUN_STATE_FAILED"]);
    assert_eq!((&rows[0]["ok"], &rows[1]["ok"]), (&true.into(), &false.into()));
    assert_eq!(rows[1]["error"]["code"], "RUN_STATE_FAILED");
}

#[test]
fn an_unknown_run_is_said_to_be_so() {
    let (_folder, fake) = watched(vec![vec![]]);
    let outcome = ctl(&["run", "watch", "beef", "-n", &fake.node()]);
    assert_eq!(outcome.exit, Exit::Failed);
    assert_eq!(outcome.stderr, "error: no run beef: check the name\n");
}

#[test]
fn a_rotation_is_followed_unless_detached() {
    let (_folder, fake) = watched(vec![vec![Ok(run(RunState::Refused, 0))]]);
    let node = fake.node();
    let detached = ctl(&["logs", "rotate", "--detach", "--log-type", "app", "-n", &node]);
    assert_eq!(detached.exit, Exit::Ok);
    assert!(detached.out().contains(ID));
    let followed = ctl(&["logs", "rotate", "-q", "-n", &node]);
    assert_eq!(followed.exit, Exit::Refused);
    assert_eq!(fake.calls(), ["RotateLogs app", "RotateLogs", &format!("WatchRun {ID}")]);
}

#[test]
fn a_watch_that_does_not_end_in_time_leaves_the_outcome_open() {
    let (_folder, fake) = watched(vec![vec![Ok(run(RunState::Running, 1))]]);
    let outcome = ctl(&["logs", "rotate", "--timeout", "300ms", "-n", &fake.node()]);
    assert_eq!(outcome.exit, Exit::Unknown);
    assert!(outcome.stderr.contains("NOT_FINISHED"), "{}", outcome.stderr);
}

#[test]
fn an_oplog_that_is_not_intact_is_a_finding() {
    for (intact, exit) in [(true, Exit::Ok), (false, Exit::Findings)] {
        let folder = folder();
        let finding =
            Finding { code: "OPLOG_EDITED".into(), subject: "3".into(), message: "m".into() };
        let verified = VerifyOplogResponse {
            intact,
            entries: 5,
            head: Some(Head { sequence: 5, hash: "ab".into() }),
            findings: if intact { vec![] } else { vec![finding] },
            fleet: None,
        };
        let fake = Fake::start(folder.path(), Script { verified, ..Default::default() });
        let outcome = ctl(&["oplog", "verify", "-n", &fake.node()]);
        assert_eq!(outcome.exit, exit);
        assert!(outcome.out().contains("5 entries, head 5:ab"));
        assert_eq!(outcome.out().contains("OPLOG_EDITED 3: m"), !intact);
    }
}

#[test]
fn what_the_fleet_does_not_say_is_no_pass() {
    use FleetHeadState::{Agreed, Disagrees, Unknown};
    let head = |sequence| Some(Head { sequence, hash: "ab".into() });
    let given_up = |by: &str| AcceptedHead {
        head: head(2),
        by: by.into(),
        reason: "a disk".into(),
        ..Default::default()
    };
    for (state, intact, exit, says) in [
        (Agreed, true, Exit::Ok, "the fleet agrees: it has entry 4"),
        // What is wrong with the chain alone is no smaller for that.
        (Agreed, false, Exit::Findings, "NOT INTACT"),
        (Disagrees, false, Exit::Findings, "the fleet DISAGREES: it has 4:ab"),
        (Unknown, true, Exit::Unknown, "UNKNOWN to the fleet: etcd is away"),
        (Unknown, false, Exit::Unknown, "NOT INTACT"),
    ] {
        let folder = folder();
        let fleet = FleetHead {
            state: state.into(),
            head: head(4),
            why: "etcd is away".into(),
            accepted: vec![given_up("ada"), given_up("olga")],
            ..Default::default()
        };
        let verified = VerifyOplogResponse {
            intact,
            entries: 5,
            head: head(5),
            fleet: Some(fleet),
            ..Default::default()
        };
        let fake = Fake::start(folder.path(), Script { verified, ..Default::default() });
        let outcome = ctl(&["oplog", "verify", "-n", &fake.node()]);
        assert_eq!(outcome.exit, exit, "{}", outcome.out());
        assert!(outcome.out().contains(says), "{}", outcome.out());
        assert!(
            outcome.out().contains("entry 2 was given up")
                && outcome.out().contains("by ada: a disk")
        );
        assert!(!outcome.out().contains("olga"), "the newest is enough");
        let outcome = ctl(&["oplog", "verify", "-v", "-n", &fake.node()]);
        assert!(outcome.out().contains("by olga"), "{}", outcome.out());
    }
}

#[test]
fn a_head_is_given_up_with_a_reason_and_on_purpose() {
    let folder = folder();
    let fake = Fake::start(folder.path(), Script::default());
    let node = fake.node();
    let accept = |more: &[&str]| ctl(&[&["oplog", "accept-head", "-n", &node], more].concat());
    let outcome = accept(&["--yes"]);
    assert_eq!(outcome.exit, Exit::Usage);
    assert!(outcome.stderr.contains("--reason"), "{}", outcome.stderr);
    assert_eq!(accept(&["--reason", "restored"]).exit, Exit::Usage, "nobody can be asked");
    assert!(fake.calls().iter().all(|call| !call.contains("AcceptHead")), "{:?}", fake.calls());
    let outcome = accept(&["--reason", "restored", "--yes"]);
    assert_eq!(outcome.exit, Exit::Ok, "{}", outcome.stderr);
    assert!(outcome.out().contains("the fleet has 7:abab"), "{}", outcome.out());
    assert!(outcome.out().contains("in place of 12:abab"), "{}", outcome.out());
}

#[test]
fn an_export_is_verified_without_an_agent() {
    use sha2::{Digest, Sha256};
    let mut previous = [0u8; 32];
    let export: Vec<_> = (1..=3u64)
        .map(|sequence| {
            let json = format!(r#"{{"sequence":{sequence},"reason":"ä\u001b"}}"#);
            previous = Sha256::digest([&previous[..], json.as_bytes()].concat()).into();
            ExportOplogResponse { sequence, json, hash: hex::encode(previous) }
        })
        .collect();
    let head = format!("3:{}", export[2].hash);
    let folder = folder();
    let fake = Fake::start(folder.path(), Script { export, ..Default::default() });
    let file = folder.path().join("oplog.jsonl");
    let (node, path) = (fake.node(), file.to_str().unwrap());

    let outcome = ctl(&["oplog", "export", "--out", path, "-n", &node]);
    assert_eq!(outcome.exit, Exit::Ok, "{}", outcome.stderr);
    assert!(outcome.stderr.contains(&format!("3 entries, head {head}")));
    assert_eq!(ctl(&["oplog", "export", "-n", &node]).stdout, std::fs::read(&file).unwrap());

    // No node is asked, so none needs to exist.
    let verify = ["oplog", "verify", "--file", path, "--head", &head, "-n", "/absent.sock"];
    let outcome = ctl(&verify);
    assert_eq!(outcome.exit, Exit::Ok, "{}", outcome.out());
    assert!(outcome.out().starts_with(&format!("intact: 3 entries, head {head}")));
    let edited = std::fs::read_to_string(&file).unwrap().replacen('ä', "a", 1);
    std::fs::write(&file, edited).unwrap();
    let outcome = ctl(&[&verify[..], &["-o", "json"]].concat());
    assert_eq!(outcome.exit, Exit::Findings);
    assert_eq!(outcome.json()[0]["response"]["findings"][0]["code"], "OPLOG_EDITED");
    assert_eq!(outcome.json()[0]["node"], format!("file:{path}"));
}

#[test]
fn the_schedule_is_previewed_run_and_paused() {
    let folder = folder();
    let job = Job {
        name: "logs.archive-retention".into(),
        schedule: "Mon#1 04:00".into(),
        paused: true,
        paused_by: "unix:uid=0(root)".into(),
        paused_reason: "audit".into(),
        next_at: vec![at(0).unwrap(), at(60).unwrap()],
        last_state: RunState::Succeeded.into(),
        ..Default::default()
    };
    let watches = vec![vec![Ok(run(RunState::Succeeded, 2))]];
    let fake =
        Fake::start(folder.path(), Script { jobs: vec![job], watches, ..Default::default() });
    let node = fake.node();
    let list = ctl(&["schedule", "list", "--next", "2", "--at", "2024-02-29", "-n", &node]);
    let rows: Vec<_> = list.out().lines().collect();
    assert_eq!(rows.len(), 3, "{}", list.out());
    assert!(
        rows[1].starts_with("logs.archive-retention")
            && rows[1].contains("paused by unix:uid=0(root): audit")
    );
    assert_eq!(rows[2].trim(), "1970-01-01T00:01:00Z");

    let job = ["logs.archive-retention", "-n", &node];
    let outcome = ctl(&[&["schedule", "run"], &job[..]].concat());
    assert_eq!(outcome.exit, Exit::Ok, "attached is as good as started");
    assert!(outcome.stderr.contains("was going on already"));
    let outcome = ctl(&[&["schedule", "pause", "--reason", "audit"], &job[..]].concat());
    assert!(outcome.out().contains("`genesisctl schedule resume logs.archive-retention`"));
    let outcome = ctl(&[&["schedule", "resume"], &job[..]].concat());
    assert!(outcome.out().contains("next at 1970-01-01T00:00:00Z"));
    let calls = fake.calls();
    assert_eq!(calls[0], "ListJobs 2 Some(1709164800)");
    assert_eq!(calls[3], "PauseJob logs.archive-retention because audit");
}

#[test]
fn a_rollback_is_planned_carried_out_and_can_be_undone() {
    let folder = folder();
    let rollback_plan = PlanRollbackResponse {
        plan: Some(Plan { hash: "h1".into(), steps: vec![PlanStep::default()] }),
        target: Some(RollbackPoint { id: "7".into(), at: at(0), ..Default::default() }),
        diff: "-a\n+b\n".into(),
        ..Default::default()
    };
    let undo = "genesisctl rollback --component config --to 8".to_owned();
    let rolled_back = RollbackResponse { undo, ..Default::default() };
    let script = Script { rollback_plan, rolled_back, ..Default::default() };
    let fake = Fake::start(folder.path(), script);
    let node = fake.node();
    let config = ["rollback", "--component", "config", "-n", &node];
    let plan = ctl(&[&config[..], &["--plan"]].concat());
    assert!(plan.out().starts_with("config would go back to 7 of 1970-01-01T00:00:00Z\n"));
    assert!(plan.out().ends_with("plan hash: h1\n-a\n+b\n"), "{}", plan.out());
    assert_eq!(fake.calls(), ["PlanRollback"]);

    let outcome = ctl(&[&config[..], &["--plan-hash", "h1", "--to", "7"]].concat());
    assert_eq!(outcome.exit, Exit::Ok);
    assert!(outcome.out().contains("verified: generation 7 is in force"));
    assert!(outcome.out().contains("undo with `genesisctl rollback --component config --to 8`"));
    // Each of these says another thing than it means, and nothing is sent.
    for superfluous in [&["--to", "6", "--to", "7"][..], &["--component", "matrix"], &["seven"]] {
        let refused = ctl(&[&config[..], superfluous].concat());
        assert_eq!(refused.exit, Exit::Usage, "{superfluous:?}: {}", refused.stderr);
    }
    assert_eq!(fake.calls()[1], "Rollback config 7 h1");
    let outcome = ctl(&[&config[..], &["--plan-hash", "old"]].concat());
    assert_eq!(outcome.exit, Exit::Conflict);

    let list = ctl(&["rollback", "components", "-n", &node]);
    let expected = ["config", "GOOD", "olga", "8", "the file passes every check"];
    assert!(expected.iter().all(|word| list.out().contains(word)), "{}", list.out());
    assert!(list.out().contains("rolled back from 6 to 5"), "{}", list.out());
    let points = ctl(&["rollback", "points", "--component", "config", "-n", &node]);
    let expected = ["current", "GOOD", "in force for 3 d"];
    assert!(expected.iter().all(|word| points.out().contains(word)), "{}", points.out());
    assert_eq!(ctl(&["rollback", "--plan", "components", "-n", &node]).exit, Exit::Usage);
}

#[test]
fn what_the_deep_check_shows_after_a_rollback_decides_the_exit() {
    for (health, pending, expected) in [
        (ComponentHealth::Good, "", Exit::Ok),
        (ComponentHealth::Bad, "", Exit::Findings),
        (ComponentHealth::Unknown, "", Exit::Unknown),
        (ComponentHealth::Unspecified, "it goes on", Exit::Unknown),
        // What waits for a start is not done, however well the host does before.
        (ComponentHealth::Good, "it takes effect at the next start", Exit::Unknown),
        (ComponentHealth::Bad, "it takes effect at the next start", Exit::Unknown),
    ] {
        let rolled_back = RollbackResponse {
            health: health.into(),
            health_details: vec!["disk:/ CRIT: 99 %".into()],
            incident_id: "01INCIDENT".into(),
            pending: pending.into(),
            ..Default::default()
        };
        let folder = folder();
        let fake = Fake::start(folder.path(), Script { rolled_back, ..Default::default() });
        let outcome = ctl(&["rollback", "--component", "config", "-n", &fake.node()]);
        assert_eq!(outcome.exit, expected, "{health:?}: {}", outcome.out());
        assert!(outcome.out().contains("disk:/ CRIT: 99 %"), "{}", outcome.out());
        assert!(outcome.out().contains("incident show 01INCIDENT"), "{}", outcome.out());
        assert_eq!(outcome.out().contains("config is back"), pending.is_empty());
        assert!(outcome.out().contains(pending), "{}", outcome.out());
    }
}

#[test]
fn only_what_is_back_is_told_to_be_back() {
    for (component, to, rolled_back, expected) in [
        ("config", "7", RollbackResponse { already: true, ..Default::default() }, "is at 7 of"),
        ("database:orders", "7", RollbackResponse::default(), "which is as it was"),
        ("state", "live", RollbackResponse::default(), "state stays as it is"),
        (
            "state",
            "7",
            RollbackResponse { pending: "it takes effect later".into(), ..Default::default() },
            "state is not at 7 of - yet: it takes effect later",
        ),
    ] {
        let folder = folder();
        let already = rolled_back.already;
        let fake = Fake::start(folder.path(), Script { rolled_back, ..Default::default() });
        let name = component.strip_prefix("database:").unwrap_or(component);
        let node = fake.node();
        let mut line = vec!["rollback", "--component", component, "--to", to, "-n", &node];
        if component != "config" {
            line.extend(["--reason", "r", "--confirm", name]);
        }
        let outcome = ctl(&line);
        assert!(outcome.out().contains(expected), "{component}: {}", outcome.out());
        assert!(!outcome.out().contains("is back"), "{component}: {}", outcome.out());
        assert!(!outcome.out().contains("undo with"), "{component}: {}", outcome.out());
        assert!(!already || outcome.exit == Exit::Ok, "nothing was changed");
    }
}

#[test]
fn a_database_and_the_state_are_rolled_back_only_with_their_name() {
    for (component, name) in [("database:orders", "orders"), ("state", "state")] {
        let folder = folder();
        let fake = Fake::start(folder.path(), Script::default());
        let node = fake.node();
        let base = ["rollback", "--component", component, "--to", "01J8", "-n", &node];
        let outcome = ctl(&base);
        assert_eq!(outcome.exit, Exit::Usage, "{}", outcome.stderr);
        assert!(outcome.stderr.contains("--reason"), "{}", outcome.stderr);
        let outcome = ctl(&[&base[..], &["--reason", "drill", "--yes"]].concat());
        assert_eq!(outcome.exit, Exit::Usage, "{}", outcome.stderr);
        assert!(outcome.stderr.contains("--confirm"), "{}", outcome.stderr);
        assert!(fake.calls().is_empty(), "nothing was sent");
        let with = ["--reason", "drill", "--into", "/srv/new", "--confirm", name];
        ctl(&[&base[..], &with].concat()).out();
        let sent = fake.calls();
        assert!(
            sent[0].starts_with(&format!("Rollback {component} 01J8  /srv/new {name}")),
            "{sent:?}"
        );
    }
}
