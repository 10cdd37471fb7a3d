//! Care of a real PostgreSQL: what holds it back, what it does, and what it proves.

use std::time::Duration;

use genesis_tests::TestAgent;
use genesis_tests::clock::{Watch, wait_until};
use genesis_tests::postgres::Postgres;
use genesis_tests::psql::Psql;
use serde_json::Value;

/// A database whose indexes are worth rebuilding however small they are.
pub(crate) fn config(server: &Postgres, more: &str) -> String {
    format!(
        "[[database.instance]]\nname = \"trades\"\nurl = \"{}\"\nschedule = \"never\"\ntrades_probe = \"none\"\nmin_free = \"0%\"\n\
         lock_timeout = \"500ms\"\nbloat_smallest = \"0B\"\nbloat_least = \"30%\"\n{more}\n",
        server.url("trades")
    )
}

/// A server with a table that real updates have bloated, and an agent that has a verified backup of it.
pub(crate) fn bloated(settings: &str, more: &str) -> (Postgres, TestAgent) {
    let server = Postgres::start(settings);
    fill(&server);
    let config = config(&server, more);
    let agent = TestAgent::started(move |_| config);
    back_up(&agent);
    (server, agent)
}

pub(crate) fn fill(server: &Postgres) {
    server.sql("postgres", "CREATE DATABASE trades");
    server.sql(
        "trades",
        "CREATE TABLE orders (id int PRIMARY KEY, symbol text, price int) WITH (autovacuum_enabled = off);
         INSERT INTO orders SELECT i, 'S' || i % 97, i * 7919 % 100003 FROM generate_series(1, 40000) i;
         CREATE INDEX orders_price ON orders (price); CREATE INDEX orders_symbol ON orders (symbol, id); ANALYZE orders;
         CREATE TABLE venues (id int PRIMARY KEY, name text); INSERT INTO venues SELECT i, 'V' || i FROM generate_series(1, 20) i",
    );
    for _ in 0..3 {
        server.sql("trades", "UPDATE orders SET price = (price * 31 + id) % 100003");
    }
}

/// A table with an index that takes half a minute to rebuild.
pub(crate) fn slowly(server: &Postgres) {
    server.sql(
        "trades",
        "CREATE FUNCTION slow(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN IF current_query() LIKE ''REINDEX%'' THEN PERFORM pg_sleep(0.05); END IF; RETURN $1; END';
         CREATE TABLE slowly (a int); INSERT INTO slowly SELECT generate_series(1, 1500); CREATE INDEX slowly_a ON slowly (slow(a));
         DELETE FROM slowly WHERE a % 2 = 0; ANALYZE slowly",
    );
}

pub(crate) fn back_up(agent: &TestAgent) {
    agent.ctl(&["backup", "run", "trades"]).ok();
}

pub(crate) fn optimize(agent: &TestAgent, more: &[&str]) -> genesis_tests::Output {
    agent.ctl(&[&["db", "optimize", "--force", "--database", "trades"], more].concat())
}

/// The last care.
pub(crate) fn last(agent: &TestAgent) -> Value {
    agent.ctl(&["db", "history", "-o", "json"]).ok().response()["care"][0].clone()
}

pub(crate) fn codes(care: &Value) -> Vec<String> {
    let findings = care["findings"].as_array().unwrap();
    findings.iter().map(|it| it["code"].as_str().unwrap().to_owned()).collect()
}

/// The statements of the agent's sessions in the server's log that change anything.
pub(crate) fn maintenance(server: &Postgres) -> Vec<String> {
    let log = server.log();
    let ours = log.lines().filter(|line| line.contains("genesis-agent/"));
    let does = ["VACUUM", "REINDEX", "ANALYZE ", "DROP INDEX", "bt_index_check"];
    ours.filter(|line| {
        let sql = line.split_once("statement: ").map_or("", |(_, sql)| sql);
        does.iter().any(|word| sql.starts_with(word))
    })
    .map(str::to_owned)
    .collect()
}

#[test]
fn care_vacuums_rebuilds_and_proves_it() {
    let bench = "[[database.instance.bench]]\nname = \"by-price\"\nsql = \"SELECT count(*) FROM orders WHERE price = 5\"\n";
    let (server, agent) = bloated("", bench);
    server.sql("trades", "CREATE EXTENSION pgstattuple; CREATE EXTENSION amcheck");
    let dead = "SELECT n_dead_tup > 50000 FROM pg_stat_user_tables WHERE relname = 'orders'";
    wait_until("dead rows", || server.sql("trades", dead) == "t");
    let plan = optimize(&agent, &["--plan"]).ok();
    plan.says(&["vacuum", "2 tables", "reindex", "orders_price", "verify"]);
    assert_eq!(maintenance(&server), Vec::<String>::new(), "a plan does nothing");
    optimize(&agent, &[]).ok();
    let care = last(&agent);
    assert_eq!(care["outcome"], "CARE_OUTCOME_DONE", "{care:#}");
    let steps = care["steps"].as_array().unwrap();
    let rebuilt = steps.iter().find(|it| it["target"].as_str().unwrap().contains("orders_price"));
    let rebuilt = rebuilt.unwrap();
    let size = |key: &str| rebuilt[key].as_str().unwrap().parse::<u64>().unwrap();
    assert!(size("bytesAfter") * 2 < size("bytesBefore"), "{rebuilt:#}");
    assert!(rebuilt["detail"].as_str().unwrap().contains("measured"), "{rebuilt:#}");
    assert_eq!(
        server.sql("trades", "SELECT n_dead_tup FROM pg_stat_user_tables WHERE relname = 'orders'"),
        "0"
    );
    let bench = &care["benchmarks"][0];
    assert_eq!(bench["truth"], "TRUTH_PASS", "{bench:#}");
    let verified = care["verification"].as_array().unwrap();
    let names: Vec<&str> = verified.iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "query-performance",
            "index-usage",
            "invalid-indexes",
            "connection-pool",
            "backup-integrity"
        ]
    );
    // The server's own log is the proof of what was sent.
    let sent = maintenance(&server);
    assert!(sent.iter().any(|line| line.contains("VACUUM (ANALYZE")), "{sent:#?}");
    for line in &sent {
        assert!(!line.contains("FULL"), "{line}");
        assert!(!line.contains("REINDEX") || line.contains("CONCURRENTLY"), "{line}");
        let pid = line.split_once('[').unwrap().1.split_once(']').unwrap().0;
        let log = server.log();
        let session: Vec<&str> =
            log.lines().filter(|it| it.contains(&format!("[{pid}]"))).collect();
        assert!(session.iter().any(|it| it.contains("SET lock_timeout = 500")), "{session:#?}");
    }
    // Rebuilt a moment ago, they rest.
    optimize(&agent, &[]).ok();
    let again = last(&agent);
    let steps = again["steps"].as_array().unwrap();
    assert!(steps.iter().all(|it| it["action"] != "reindex"), "{again:#}");
}

#[test]
fn ten_active_sessions_hold_it_back_and_nine_do_not() {
    let (server, agent) = bloated("", "");
    let mut busy: Vec<_> = (0..10)
        .map(|_| {
            let mut client = Psql::connect_to(&server, "trades", "postgres", "strategy");
            client.run("BEGIN; SELECT 1");
            client
        })
        .collect();
    let refused = optimize(&agent, &[]).exits(4);
    refused.says(&["active-connections", "10 (must be < 10)", "strategy"]);
    assert_eq!(maintenance(&server), Vec::<String>::new());
    assert_eq!(last(&agent)["outcome"], "CARE_OUTCOME_BLOCKED");
    agent.ctl(&["db", "preflight"]).exits(4).says(&["active-connections", "strategy"]);
    busy.pop();
    let nine = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'strategy'";
    wait_until("nine sessions", || server.sql("postgres", nine) == "9");
    agent.ctl(&["db", "preflight"]).ok();
    let done = optimize(&agent, &[]);
    // Their snapshots are none: each has only begun.
    done.ok();
    assert!(!maintenance(&server).is_empty());
}

#[test]
fn an_index_whose_table_is_written_to_is_left_and_the_others_are_done() {
    let (server, agent) = bloated("", "");
    server.sql(
        "trades",
        "CREATE TABLE fills (id int PRIMARY KEY) WITH (autovacuum_enabled = off); INSERT INTO fills SELECT generate_series(1, 20000);
         DELETE FROM fills WHERE id % 10 <> 0; ANALYZE fills",
    );
    let mut writer = Psql::connect_to(&server, "trades", "postgres", "writer");
    writer.run("BEGIN; UPDATE fills SET id = id WHERE id = 10");
    let watch = Watch::start();
    optimize(&agent, &[]).exits(1).says(&["CARE_DEGRADED"]);
    assert!(watch.elapsed() < Duration::from_secs(30));
    let care = last(&agent);
    let outcome = |index: &str| {
        let steps = care["steps"].as_array().unwrap();
        let step = steps
            .iter()
            .find(|it| it["action"] == "reindex" && it["target"].as_str().unwrap().contains(index));
        step.unwrap_or_else(|| panic!("{index}: {care:#}"))["outcome"].clone()
    };
    assert_eq!(outcome("fills_pkey"), "failed");
    assert_eq!(outcome("orders_price"), "done");
    assert!(codes(&care).contains(&"REINDEX_FAILED".to_owned()), "{care:#}");
    let said = care["findings"].to_string();
    assert!(said.contains(&format!("pid {}", writer.pid)), "{said}");
    let invalid = "SELECT count(*) FROM pg_index WHERE NOT indisvalid";
    assert_eq!(server.sql("trades", invalid), "0");
    writer.run("COMMIT");
    optimize(&agent, &[]).ok();
}

#[test]
fn what_others_left_is_told_and_not_touched() {
    let (server, agent) = bloated("", "");
    // As a rebuild by hand leaves it that somebody has cut off.
    server.sql(
        "trades",
        "CREATE INDEX orders_price_ccnew ON orders (price); UPDATE pg_index SET indisvalid = false, indisready = false WHERE indexrelid = 'orders_price_ccnew'::regclass",
    );
    optimize(&agent, &[]).ok();
    let care = last(&agent);
    assert!(care["findings"].to_string().contains("orders_price_ccnew"), "{care:#}");
    let there = "SELECT count(*) FROM pg_class WHERE relname = 'orders_price_ccnew'";
    assert_eq!(server.sql("trades", there), "1");
    agent.ctl(&["db", "indexes"]).exits(3).says(&["leftover", "DROP INDEX CONCURRENTLY"]);
}

#[test]
fn an_old_snapshot_is_named() {
    let (server, agent) = bloated("", "");
    let mut reader = Psql::connect_to(&server, "trades", "postgres", "report");
    reader.run("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM venues");
    server.sql("trades", "UPDATE orders SET price = price + 1");
    optimize(&agent, &[]).exits(1);
    let care = last(&agent);
    assert_eq!(care["outcome"], "CARE_OUTCOME_DEGRADED");
    let found = care["findings"].as_array().unwrap();
    let found =
        found.iter().find(|it| it["code"] == "SNAPSHOT_OLD").unwrap_or_else(|| panic!("{care:#}"));
    let message = found["message"].as_str().unwrap();
    assert!(message.contains(&format!("pid {}", reader.pid)), "{message}");
    assert!(message.contains("\"report\""), "{message}");
}

#[test]
fn of_two_agents_one_cares_and_the_other_says_so_at_once() {
    let pause = tempfile::tempdir().unwrap();
    let file = pause.path().join("pause");
    std::fs::write(&file, "").unwrap();
    let server = Postgres::start("");
    fill(&server);
    let text = config(&server, "");
    let mut one = TestAgent::new(|_| text.clone());
    one.environment("GENESIS_PAUSE", &format!("database.after-vacuum:{}", file.display()));
    one.start();
    back_up(&one);
    let other = TestAgent::started(|_| text);
    back_up(&other);
    let run = one.ctl_command(&["db", "optimize", "--force"]).spawn().unwrap();
    let reached = pause.path().join("pause.reached");
    wait_until("care", || reached.exists());
    let watch = Watch::start();
    optimize(&other, &[]).exits(9).says(&["DATABASE_HELD"]);
    assert!(watch.elapsed() < Duration::from_secs(1), "{:?}", watch.elapsed());
    optimize(&one, &[]).exits(9).says(&["RUN_HELD"]);
    std::fs::remove_file(&file).unwrap();
    assert!(run.wait_with_output().unwrap().status.success());
    optimize(&other, &[]).ok();
}

#[test]
fn an_index_that_is_dropped_meanwhile_shows_in_the_queries() {
    let pause = tempfile::tempdir().unwrap();
    let file = pause.path().join("pause");
    std::fs::write(&file, "").unwrap();
    let server = Postgres::start("");
    fill(&server);
    let bench = "[[database.instance.bench]]\nname = \"by-price\"\nsql = \"SELECT count(*) FROM orders WHERE price = 5\"\n";
    let text = config(&server, bench);
    let mut agent = TestAgent::new(|_| text);
    agent.environment("GENESIS_PAUSE", &format!("database.after-vacuum:{}", file.display()));
    agent.start();
    back_up(&agent);
    let run = agent.ctl_command(&["db", "optimize", "--force"]).spawn().unwrap();
    let reached = pause.path().join("pause.reached");
    wait_until("care", || reached.exists());
    server.sql("trades", "DROP INDEX orders_price");
    std::fs::remove_file(&file).unwrap();
    assert!(!run.wait_with_output().unwrap().status.success());
    let care = last(&agent);
    assert!(codes(&care).contains(&"QUERY_PLAN_CHANGED".to_owned()), "{care:#}");
    let bench = &care["benchmarks"][0];
    assert_eq!(bench["truth"], "TRUTH_FAIL", "{bench:#}");
    assert!(bench["planChange"].as_str().unwrap().contains("orders_price"), "{bench:#}");
}

#[test]
fn at_the_end_of_its_window_it_stops_within_two_seconds_and_is_clean() {
    let server = Postgres::start("");
    fill(&server);
    slowly(&server);
    let text =
        config(&server, "window = \"6s\"\nbloat_cooldown = \"0s\"").replace("\"30%\"", "\"1%\"");
    let agent = TestAgent::started(|_| text);
    back_up(&agent);
    let watch = Watch::start();
    optimize(&agent, &[]).exits(1);
    let took = watch.elapsed();
    assert!(took > Duration::from_secs(5) && took < Duration::from_secs(9), "{took:?}");
    let care = last(&agent);
    let steps = care["steps"].as_array().unwrap();
    let cut = |it: &&Value| it["action"] == "reindex" && it["outcome"] == "deferred";
    assert!(steps.iter().any(|it| cut(&it)), "{care:#}");
    let working = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'genesis-agent/%' AND state <> 'idle' AND query ~ 'REINDEX|VACUUM'";
    assert_eq!(server.sql("postgres", working), "0");
    assert_eq!(server.sql("trades", "SELECT count(*) FROM pg_index WHERE NOT indisvalid"), "0");
}

#[test]
fn what_the_server_skips_is_not_taken_for_done() {
    let pause = tempfile::tempdir().unwrap();
    let file = pause.path().join("pause");
    std::fs::write(&file, "").unwrap();
    let server = Postgres::start("");
    fill(&server);
    server.sql("postgres", "CREATE ROLE agent LOGIN; GRANT pg_monitor TO agent; CREATE ROLE desk");
    server.sql("trades", "ALTER TABLE orders OWNER TO agent; ALTER TABLE venues OWNER TO agent");
    let text = config(&server, "jobs = \"1\"").replace("postgres://postgres@", "postgres://agent@");
    let mut agent = TestAgent::new(move |_| text);
    agent.environment("GENESIS_PAUSE", &format!("database.after-vacuum:{}", file.display()));
    agent.start();
    let how = ["db", "optimize", "--force", "--override", "backup-verified", "--reason", "test"];
    let run = agent.ctl_command(&how).spawn().unwrap();
    let reached = pause.path().join("pause.reached");
    wait_until("the large table to be done", || reached.exists());
    // To VACUUM a table of somebody else is no error, it only warns.
    server.sql("trades", "ALTER TABLE venues OWNER TO desk");
    std::fs::remove_file(&file).unwrap();
    assert_eq!(run.wait_with_output().unwrap().status.code(), Some(1));
    let care = last(&agent);
    assert!(codes(&care).contains(&"VACUUM_FAILED".to_owned()), "{care:#}");
    let steps = care["steps"].as_array().unwrap();
    let venues = steps.iter().find(|it| it["target"].as_str().unwrap().contains("venues")).unwrap();
    assert_eq!(venues["outcome"], "failed", "{venues:#}");
    assert_eq!(venues["detail"], "the server skipped \"public\".\"venues\"");
}

#[test]
fn an_index_that_is_out_of_order_is_critical() {
    let (server, agent) = bloated("", "bloat_most = \"0\"");
    // As with a collation that another version of the C library sorts otherwise: what compares changes under the index.
    server.sql(
        "trades",
        "CREATE EXTENSION amcheck;
         CREATE FUNCTION compare(int, int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN btint4cmp($1, $2); END';
         CREATE OPERATOR CLASS own FOR TYPE int USING btree AS OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >,
           FUNCTION 1 compare(int, int);
         CREATE TABLE sorted (a int); INSERT INTO sorted SELECT generate_series(1, 1000);
         DO 'BEGIN FOR i IN 1..30 LOOP EXECUTE format(''CREATE INDEX sorted_%s ON sorted (a own)'', i); END LOOP; END'",
    );
    let turns = "SELECT count(DISTINCT oid::int8 % 10) FROM pg_class WHERE relname LIKE 'sorted_%'";
    assert_eq!(server.sql("trades", turns), "10", "one of them has its turn whatever week it is");
    optimize(&agent, &[]).ok();
    let care = last(&agent);
    assert!(care["steps"].to_string().contains("sorted_"), "{care:#}");
    server.sql(
        "trades",
        "CREATE OR REPLACE FUNCTION compare(int, int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN -btint4cmp($1, $2); END'",
    );
    optimize(&agent, &[]).exits(1).says(&["INDEX_CORRUPT"]);
    let care = last(&agent);
    let found = care["findings"].as_array().unwrap();
    let corrupt = found.iter().find(|it| it["code"] == "INDEX_CORRUPT").unwrap();
    assert!(corrupt["subject"].as_str().unwrap().contains("sorted_"), "{corrupt:#}");
    assert!(corrupt["message"].as_str().unwrap().contains("item order invariant"), "{corrupt:#}");
    wait_until("an alert", || {
        let told = agent.ctl(&["alerts", "list"]).text();
        told.lines().any(|it| it.contains("found corrupt data") && it.contains("CRITICAL"))
    });
}
