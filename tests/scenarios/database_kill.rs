//! Care of databases that is cut off: by `kill -9` in the middle of a rebuild while others work, by a full disk.

use std::process::{Child, Stdio};

use genesis_tests::clock::wait_until;
use genesis_tests::ports::free_port;
use genesis_tests::postgres::Postgres;
use genesis_tests::storm::proxy::{Mode, Proxy};
use genesis_tests::{Ballast, LoopDisk, TestAgent};

use super::database::{back_up, codes, config, fill, last, optimize, slowly};
use super::steps_kill::cut_off;

const INVALID: &str = "SELECT count(*) FROM pg_index WHERE NOT indisvalid";
const LEFT: &str = "SELECT count(*) FROM pg_class WHERE relname ~ '_cc(new|old)[0-9]*$'";

/// pgbench at work on the orders.
fn work(server: &Postgres, seconds: u32) -> (Child, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("work.sql");
    std::fs::write(
        &script,
        "\\set id random(1, 40000)\nUPDATE orders SET price = price + 1 WHERE id = :id;\nSELECT count(*) FROM orders WHERE price = :id;\n",
    )
    .unwrap();
    let mut pgbench = server.client("pgbench");
    pgbench.args(["-n", "-c", "4", "-T", &seconds.to_string(), "-f"]).arg(&script).arg("trades");
    let child = pgbench.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    (child, folder)
}

#[test]
fn killed_in_the_middle_of_a_rebuild_it_is_cleared_up_and_done_the_second_time() {
    for point in ["database.reindex-announced", "database.reindex-built", "database.reindex-ended"]
    {
        let server = Postgres::start("");
        fill(&server);
        let text = config(&server, "bloat_least = \"1%\"").replace("bloat_least = \"30%\"\n", "");
        let mut agent = TestAgent::started(|_| text);
        back_up(&agent);
        agent.terminate();
        agent.start_with_failpoint(point, 1);
        agent.wait_ready();
        let (pgbench, _script) = work(&server, 10);
        // It would wait for an answer for as long as somebody could come back.
        let mut asking = agent.ctl_command(&["db", "optimize", "--force"]).spawn().unwrap();
        agent.wait_killed();
        asking.kill().unwrap();
        asking.wait().unwrap();
        agent.start();
        // Whoever reads the runs sees what became of it.
        agent.ctl(&["run", "show", "last"]).says(&["INTERRUPTED"]);
        assert_eq!(last(&agent)["outcome"], "CARE_OUTCOME_INTERRUPTED", "{point}");
        assert_eq!(server.sql("trades", LEFT), "0", "{point}");
        assert_eq!(server.sql("trades", INVALID), "0", "{point}");
        let done = pgbench.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&done.stdout).into_owned()
            + &String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{point}: {said}");
        assert!(said.contains("number of failed transactions: 0"), "{point}: {said}");
        optimize(&agent, &[]).ok();
        assert_eq!(server.sql("trades", INVALID), "0", "{point}");
    }
}

#[test]
fn killed_while_it_builds_its_copy_is_dropped_as_the_ledger_proves_it() {
    let server = Postgres::start("");
    server.sql("postgres", "CREATE DATABASE trades");
    // The only index there is, and it takes half a minute.
    slowly(&server);
    let text = config(&server, "").replace("\"30%\"", "\"1%\"");
    let mut agent = TestAgent::started(|_| text);
    back_up(&agent);
    agent.terminate();
    agent.start_with_failpoint("database.reindex-built", 1);
    agent.wait_ready();
    let mut asking = agent.ctl_command(&["db", "optimize", "--force"]).spawn().unwrap();
    agent.wait_killed();
    asking.kill().unwrap();
    asking.wait().unwrap();
    assert_eq!(server.sql("trades", LEFT), "1", "in the middle of it");
    // Beside it somebody else's, which stays.
    server.sql("trades", "CREATE TABLE other (a int); CREATE INDEX other_a_ccnew ON other (a)");
    let invalid =
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'other_a_ccnew'::regclass";
    server.sql("trades", invalid);
    agent.start();
    agent.ctl(&["run", "list"]).says(&["INTERRUPTED", "dropped"]);
    let left = "SELECT relname FROM pg_class WHERE relname ~ '_cc(new|old)[0-9]*$'";
    assert_eq!(server.sql("trades", left), "other_a_ccnew");
    server.sql(
        "trades",
        "CREATE OR REPLACE FUNCTION slow(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1'",
    );
    optimize(&agent, &[]).ok();
    assert_eq!(server.sql("trades", left), "other_a_ccnew");
}

#[test]
fn a_disk_that_fills_up_in_the_middle_leaves_nothing_behind() {
    let disk = LoopDisk::ext4(400);
    let pause = tempfile::tempdir().unwrap();
    let file = pause.path().join("pause");
    std::fs::write(&file, "").unwrap();
    std::fs::set_permissions(disk.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    // Segments of WAL are used again and none is deleted: it would give its room back when the last who has it open
    // turns to another.
    let server = Postgres::start_below(
        disk.path(),
        "max_wal_size = 192MB\nmin_wal_size = 160MB\nautovacuum = off\n",
    );
    fill(&server);
    let text = config(&server, "jobs = \"1\"");
    let mut agent = TestAgent::new(|_| text);
    agent.environment("GENESIS_PAUSE", &format!("database.after-vacuum:{}", file.display()));
    agent.start();
    back_up(&agent);
    let run = agent.ctl_command(&["db", "optimize", "--force"]).spawn().unwrap();
    let reached = pause.path().join("pause.reached");
    wait_until("care", || reached.exists());
    // A segment of WAL that is not begun yet: without one the server itself would not live on.
    server.sql("postgres", "SELECT pg_switch_wal()");
    server.sql("postgres", "CHECKPOINT");
    // All but what a small write needs, whatever the server gives back meanwhile: it lives on, and an index has no room.
    let ballast = Ballast::all_but(disk.join("ballast"), 600 << 10);
    std::fs::remove_file(&file).unwrap();
    assert!(!run.wait_with_output().unwrap().status.success());
    // An index whose copy has no room beside it is left for the next time.
    let care = last(&agent);
    assert_eq!(care["outcome"], "CARE_OUTCOME_DEGRADED", "{care:#}");
    let steps = care["steps"].as_array().unwrap();
    let left = steps.iter().find(|it| it["action"] == "reindex").unwrap();
    assert_eq!(left["outcome"], "deferred", "{care:#}");
    assert!(left["detail"].as_str().unwrap().contains("1.3 x"), "{left:#}");
    // Who wants it all the same learns that there was none, and nothing is left of it.
    optimize(&agent, &["--override", "disk-free", "--reason", "to see"]).exits(1);
    let care = last(&agent);
    assert!(codes(&care).iter().any(|code| code == "REINDEX_FAILED"), "{care:#}");
    assert!(care["findings"].to_string().contains("No space left"), "{care:#}");
    ballast.release();
    optimize(&agent, &[]).ok();
    assert_eq!(server.sql("trades", INVALID), "0");
    assert_eq!(server.sql("trades", LEFT), "0");
}

#[test]
fn killed_while_it_reads_indexes_the_next_care_reads_them() {
    let server = Postgres::start("");
    fill(&server);
    server.sql(
        "trades",
        "CREATE EXTENSION amcheck; CREATE TABLE many (a int); INSERT INTO many SELECT generate_series(1, 1000);
         DO 'BEGIN FOR i IN 1..30 LOOP EXECUTE format(''CREATE INDEX many_%s ON many (a)'', i); END LOOP; END'",
    );
    let turns = "SELECT count(DISTINCT oid::int8 % 10) FROM pg_class WHERE relname LIKE 'many_%'";
    assert_eq!(server.sql("trades", turns), "10", "one of them has its turn whatever week it is");
    let text = config(&server, "bloat_most = \"0\"");
    let mut agent = TestAgent::started(|_| text);
    back_up(&agent);
    agent.terminate();
    let asked = ["db", "optimize", "--force", "--database", "trades"];
    cut_off(&mut agent, "step.amcheck", &asked);
    assert_eq!(last(&agent)["outcome"], "CARE_OUTCOME_INTERRUPTED");
    optimize(&agent, &[]).ok();
    assert!(last(&agent)["steps"].to_string().contains("amcheck"), "{:#}", last(&agent));
}

#[test]
fn killed_while_it_clears_up_what_an_earlier_crash_left_the_next_one_does() {
    let port = free_port();
    let server = Postgres::start(&format!("listen_addresses = '127.0.0.1'\nport = {port}\n"));
    server.sql("postgres", "CREATE DATABASE trades");
    slowly(&server);
    let proxy = Proxy::start(([127, 0, 0, 1], port).into());
    let text = config(&server, "").replace("\"30%\"", "\"1%\"");
    let through = format!("postgres://postgres@{}/trades", proxy.address());
    let mut agent = TestAgent::started(|_| text.replace(&server.url("trades"), &through));
    back_up(&agent);
    agent.terminate();
    agent.start_with_failpoint("database.reindex-built", 1);
    agent.wait_ready();
    let mut asking = agent.ctl_command(&["db", "optimize", "--force"]).spawn().unwrap();
    agent.wait_killed();
    asking.kill().unwrap();
    asking.wait().unwrap();
    // The next agent can't get to the server: what was left waits for a care.
    proxy.turn(Mode::Refuse);
    agent.start();
    agent.ctl(&["run", "list"]).says(&["INTERRUPTED"]);
    assert_eq!(server.sql("trades", LEFT), "1");
    agent.terminate();
    proxy.turn(Mode::Pass);
    // An agent that starts clears up as well, where it has to reconcile something; this one has not.
    server.sql(
        "trades",
        "CREATE OR REPLACE FUNCTION slow(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1'",
    );
    let asked = ["db", "optimize", "--force", "--database", "trades"];
    cut_off(&mut agent, "step.clear-leftovers", &asked);
    optimize(&agent, &[]).ok();
    assert_eq!(server.sql("trades", LEFT), "0");
    assert_eq!(server.sql("trades", INVALID), "0");
}
