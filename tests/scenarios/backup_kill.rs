//! `kill -9` while a backup is made, proven or restored: once an agent has started again, nothing of it is left, and
//! every backup is one or none.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use genesis_proto::v1::{BackupLevel, BackupState, RunState, reconciliation::Verdict};
use genesis_tests::TestAgent;
use genesis_tests::backups::{Open, sqlite};
use genesis_tests::clock::{Watch, wait_until};
use genesis_tests::postgres::Postgres;
use genesis_tests::random::Random;

fn file_host(open: &Open) -> TestAgent {
    let path = open.join("orders.db");
    sqlite(&path, "CREATE TABLE orders(id INTEGER, note TEXT); INSERT INTO orders VALUES (1, 'x')");
    TestAgent::new(|_| {
        format!(
            "[backup]\nscratch = {:?}\nkeep = \"1\"\n[[database.instance]]\nname = \"orders\"\nurl = \"sqlite:{}\"\n",
            open.join("s"),
            path.display()
        )
    })
}

fn server_host(server: &Postgres, open: &Open) -> TestAgent {
    TestAgent::new(|_| {
        format!(
            "[backup]\nscratch = {:?}\n[[database.instance]]\nname = \"trades\"\nurl = \"postgres:///postgres?host={}&user=postgres\"\n",
            open.join("s"),
            server.socket().display()
        )
    })
}

/// The verdict about the run of this backup.
fn verdict(agent: &TestAgent, run: &str) -> Verdict {
    let run = agent.ended_run(run);
    assert_eq!(run.state(), RunState::Interrupted, "{run:?}");
    run.reconciliation.unwrap().verdict()
}

#[test]
fn killed_at_any_step_of_a_backup_it_is_one_or_none() {
    use BackupState::{Complete, Failed};
    for (point, state, expected) in [
        ("backup.recorded", Failed, Verdict::Undone),
        ("step.copy", Failed, Verdict::Undone),
        ("backup.copied", Failed, Verdict::Undone),
        ("backup.renamed", Complete, Verdict::Finished),
        ("backup.complete", Complete, Verdict::Finished),
        ("step.checksums", Complete, Verdict::Finished),
        ("backup.verified", Complete, Verdict::Finished),
    ] {
        let open = Open::new();
        let mut agent = file_host(&open);
        agent.start_with_failpoint(point, 1);
        agent.wait_ready();
        let _ = agent.begin_backup("orders");
        agent.wait_killed();
        agent.start();
        agent.assert_nothing_left(&open.join("s"));
        let backup = agent.newest_backup("orders");
        assert_eq!(backup.state(), state, "{point}: {backup:?}");
        assert_eq!(Path::new(&backup.place).exists(), state == Complete, "{point}");
        assert_eq!(verdict(&agent, &backup.run_id), expected, "{point}");
        if state == Complete {
            let run = agent.verify_backup(&backup.id, BackupLevel::Restored);
            assert_eq!(run.state(), RunState::Succeeded, "{point}: {run:?}");
        }
        let (run, _) = agent.backup("orders");
        assert_eq!(run.state(), RunState::Succeeded, "{point}: {run:?}");
    }
}

#[test]
fn killed_while_an_old_one_is_deleted_it_is_deleted_by_the_next_agent() {
    let open = Open::new();
    let mut agent = file_host(&open);
    agent.start();
    let (_, first) = agent.backup("orders");
    agent.terminate();
    agent.start_with_failpoint("backup.expiring", 1);
    agent.wait_ready();
    let _ = agent.begin_backup("orders");
    agent.wait_killed();
    assert!(Path::new(&first.place).exists());
    agent.start();
    assert!(!Path::new(&first.place).exists());
    let states: Vec<_> = agent.backups("orders").backups.iter().map(|it| it.state()).collect();
    assert_eq!(states, [BackupState::Complete, BackupState::Expired]);
}

#[test]
fn killed_while_a_scratch_server_is_made_or_runs_none_is_left() {
    let (server, open) = (Postgres::start(""), Open::new());
    let mut agent = server_host(&server, &open);
    agent.start();
    agent.backup("trades");
    agent.terminate();
    for point in ["backup.scratch-made", "backup.scratch-copied", "backup.scratch-started"] {
        agent.start_with_failpoint(point, 1);
        agent.wait_ready();
        let _ = agent.begin_verify("trades", BackupLevel::Restored);
        agent.wait_killed();
        assert!(fs::read_dir(open.join("s")).unwrap().count() > 0, "{point}: it was there");
        agent.start();
        agent.assert_nothing_left(&open.join("s"));
        let run = agent.ctl(&["run", "show", "last", "-o", "json"]).text();
        assert!(run.contains("INTERRUPTED") && run.contains("UNDONE"), "{point}: {run}");
        assert_eq!(agent.newest_backup("trades").level(), BackupLevel::Checksums);
        agent.terminate();
    }
    agent.start();
    let run = agent.verify_backup("trades", BackupLevel::Restored);
    assert_eq!(run.state(), RunState::Succeeded, "{run:?}");
    agent.assert_nothing_left(&open.join("s"));
}

#[test]
fn killed_at_random_moments_nothing_is_left_either() {
    let (server, open) = (Postgres::start(""), Open::new());
    let mut agent = server_host(&server, &open);
    let mut random = Random::new(7);
    // `GENESIS_LONG=1` runs many more.
    let long = std::env::var_os("GENESIS_LONG").is_some_and(|value| value == "1");
    for round in 0..if long { 60 } else { 8 } {
        agent.start();
        agent.assert_nothing_left(&open.join("s"));
        let sound =
            agent.backups("trades").backups.iter().any(|it| it.state() == BackupState::Complete);
        let begun = match sound && round % 2 == 0 {
            true => agent.begin_verify("trades", BackupLevel::Restored),
            false => agent.begin_backup("trades").map(|it| it.run_id),
        };
        begun.unwrap();
        let (moment, watch) = (Duration::from_millis(random.within(0, 2_500)), Watch::start());
        wait_until("the moment", || watch.elapsed() >= moment);
        agent.kill();
    }
    agent.start();
    agent.assert_nothing_left(&open.join("s"));
    for backup in agent.backups("trades").backups {
        assert_ne!(backup.state(), BackupState::Running, "{backup:?}");
        assert_ne!(backup.state(), BackupState::Broken, "{backup:?}");
        let there = Path::new(&backup.place).exists();
        assert_eq!(there, backup.state() == BackupState::Complete, "{backup:?}");
    }
    let (run, _) = agent.backup("trades");
    assert_eq!(run.state(), RunState::Succeeded, "{run:?}");
}

#[test]
fn killed_while_restoring_there_is_all_of_it_or_nothing() {
    for (point, there, expected) in [
        ("step.restore", false, Verdict::Undone),
        ("backup.restore-copied", false, Verdict::Undone),
        ("step.verify", false, Verdict::Undone),
        ("step.put", false, Verdict::Undone),
        ("backup.restored", true, Verdict::Finished),
    ] {
        let open = Open::new();
        let mut agent = file_host(&open);
        agent.start();
        agent.backup("orders");
        agent.terminate();
        agent.start_with_failpoint(point, 1);
        agent.wait_ready();
        let into: PathBuf = open.join("to/orders.db");
        let run = agent.begin_restore("orders", into.to_str().unwrap(), "to see");
        agent.wait_killed();
        agent.start();
        assert_eq!(into.exists(), there, "{point}");
        let left: Vec<_> = fs::read_dir(open.join("to")).into_iter().flatten().flatten().collect();
        assert_eq!(left.len(), usize::from(there), "{point}: {left:?}");
        if let Ok(run) = run {
            assert_eq!(verdict(&agent, &run), expected, "{point}");
        }
        if there {
            assert_eq!(sqlite(&into, "SELECT note FROM orders"), "x");
        }
    }
}

#[test]
fn what_others_keep_where_scratch_instances_are_is_left_alone() {
    let server = Postgres::start("");
    // The folder of a server that runs, where the agent was told to make its own.
    let scratch = server.socket().to_owned();
    let mut agent = TestAgent::new(|_| {
        format!(
            "[backup]\nscratch = {scratch:?}\n[[database.instance]]\nname = \"trades\"\nurl = \"postgres:///postgres?host={}&user=postgres\"\n",
            scratch.display()
        )
    });
    agent.start();
    assert_eq!(server.sql("postgres", "SELECT 1"), "1");
    let (run, _) = agent.backup("trades");
    assert_eq!(run.state(), RunState::Succeeded, "{run:?}");
    // It is not the agent's own, so nothing is made in it.
    let run = agent.verify_backup("trades", BackupLevel::Restored);
    assert_eq!(run.state(), RunState::Unknown, "{run:?}");
    agent.kill();
    agent.start();
    assert_eq!(server.sql("postgres", "SELECT 1"), "1");
}
