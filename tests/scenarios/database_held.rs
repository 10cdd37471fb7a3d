//! What holds the care of a database back: backups that prove nothing, trades, whoever waits for it.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use genesis_tests::TestAgent;
use genesis_tests::clock::{Watch, now, wait_until};
use genesis_tests::pgbouncer::PgBouncer;
use genesis_tests::postgres::Postgres;
use genesis_tests::psql::Psql;
use genesis_tests::trading::{Says, TradingSystem};

use super::database::{back_up, bloated, codes, config, fill, last, maintenance, optimize, slowly};

/// A file of a backup's data, the largest: a table's or an index's.
fn largest(folder: &Path) -> PathBuf {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let facts = entry.metadata().unwrap();
            let inside = entry.path().display().to_string().contains("/base/");
            match facts.is_dir() {
                true => folders.push(entry.path()),
                false if inside => found.push((facts.len(), entry.path())),
                false => {}
            }
        }
    }
    found.into_iter().max().unwrap().1
}

#[test]
fn without_a_backup_that_is_proven_nothing_is_done() {
    let server = Postgres::start("");
    fill(&server);
    let text = config(&server, "");
    let mut agent = TestAgent::started(|_| text);
    let held = |agent: &TestAgent, words: &[&str]| {
        optimize(agent, &[]).exits(4).says(&[&["backup-verified"], words].concat());
        assert_eq!(maintenance(&server), Vec::<String>::new());
        assert_eq!(last(agent)["outcome"], "CARE_OUTCOME_BLOCKED");
    };
    held(&agent, &["there is no backup of trades"]);
    back_up(&agent);
    agent.ctl(&["db", "preflight"]).ok();
    // It has to be deeper than that.
    agent.configure(&config(&server, "backup_min_level = \"L3\""));
    agent.ctl(&["config", "reload"]).ok();
    held(&agent, &["L3"]);
    agent.configure(&config(&server, ""));
    agent.ctl(&["config", "reload"]).ok();
    agent.ctl(&["db", "preflight"]).ok();
    // A bit flips.
    let backups = agent.ctl(&["backup", "list", "trades", "-o", "json"]).ok().response();
    let place = PathBuf::from(backups["backups"][0]["place"].as_str().unwrap());
    let file = std::fs::OpenOptions::new().read(true).write(true).open(largest(&place)).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 5_000).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 5_000).unwrap();
    agent.ctl(&["backup", "verify", "trades"]).exits(1).says(&["broken"]);
    held(&agent, &["is broken"]);
    back_up(&agent);
    // The same name, and another cluster behind it.
    let other = Postgres::start("");
    fill(&other);
    agent.configure(&config(&other, ""));
    agent.restart();
    optimize(&agent, &[]).exits(4).says(&["backup-verified", "of system"]);
    assert_eq!(maintenance(&other), Vec::<String>::new());
}

#[test]
fn trades_in_progress_or_unknown_hold_it_back() {
    let server = Postgres::start("");
    fill(&server);
    let folder = tempfile::tempdir().unwrap();
    let trading = TradingSystem::start(folder.path(), Says::Count(1));
    let with = |probe: &str| config(&server, "").replace("\"none\"", probe);
    let grpc = with(&trading.probe("500ms"));
    let agent = TestAgent::started(|_| grpc.clone());
    back_up(&agent);
    for answer in [Says::Count(1), Says::Fails, Says::Nothing] {
        trading.says(answer);
        optimize(&agent, &[]).exits(4).says(&["critical-trades"]);
        assert_eq!(maintenance(&server), Vec::<String>::new());
    }
    for (probe, words) in [
        ("{ sql = \"SELECT 1\" }", "1 critical trades"),
        ("{ sql = \"SELECT 1 / 0\" }", "division by zero"),
        ("{ sql = \"SELECT pg_sleep(60)\" }", "critical-trades"),
        ("{ sql = \"SELECT 'many'\" }", "no number"),
        ("{ command = [\"sh\", \"-c\", \"echo 1\"] }", "1 critical trades"),
        ("{ command = [\"false\"] }", "critical-trades"),
        ("{ command = [\"sleep\", \"60\"], timeout = \"200ms\" }", "was killed"),
        ("\"\"", "no trades_probe"),
    ] {
        agent.configure(&with(probe));
        agent.ctl(&["config", "reload"]).ok();
        optimize(&agent, &[]).exits(4).says(&["critical-trades", words]);
        assert_eq!(maintenance(&server), Vec::<String>::new(), "{probe}");
    }
    // An admin who knows better says so, with a reason.
    optimize(&agent, &["--override", "critical-trades"]).exits(2);
    optimize(&agent, &["--override", "direct-connection", "--reason", "x"]).exits(2);
    optimize(&agent, &["--override", "critical-trades", "--reason", "the venue is closed"]).ok();
    let item = &last(&agent)["preflight"];
    assert!(item.to_string().contains("\"overridden\":true"), "{item}");
    trading.says(Says::Count(0));
    agent.configure(&grpc);
    agent.ctl(&["config", "reload"]).ok();
    optimize(&agent, &[]).ok();
}

#[test]
fn who_waits_for_it_waits_no_longer_than_for_a_lock() {
    let server = Postgres::start("");
    fill(&server);
    slowly(&server);
    let text = config(&server, "").replace("\"30%\"", "\"1%\"").replace("500ms", "3s");
    let agent = TestAgent::started(|_| text);
    back_up(&agent);
    let run = agent.ctl_command(&["db", "optimize", "--force"]).spawn().unwrap();
    let building = "SELECT count(*) FROM pg_stat_progress_create_index WHERE phase LIKE 'building index%' AND relid = 'slowly'::regclass";
    wait_until("a rebuild", || server.sql("trades", building) == "1");
    let watch = Watch::start();
    server.sql("trades", "ALTER TABLE slowly ADD COLUMN b int");
    assert!(watch.elapsed() < Duration::from_secs(3), "{:?}", watch.elapsed());
    assert!(!run.wait_with_output().unwrap().status.success());
    let care = last(&agent);
    assert!(codes(&care).contains(&"REINDEX_FAILED".to_owned()), "{care:#}");
    assert!(care["findings"].to_string().contains("gave way to pid"), "{care:#}");
    assert_eq!(server.sql("trades", "SELECT count(*) FROM pg_index WHERE NOT indisvalid"), "0");
}

#[test]
fn a_pool_is_no_server_to_care_for() {
    let server = Postgres::start("");
    fill(&server);
    server.sql("postgres", "CREATE ROLE app LOGIN");
    let pool = PgBouncer::start(&server, 5);
    let through = pool.console().replace("stats@", "app@").replace("/pgbouncer?", "/postgres?");
    let text = config(&server, "").replace(&server.url("trades"), &through);
    let agent = TestAgent::started(|_| text);
    let output = optimize(&agent, &[]);
    assert!(matches!(output.code, 4 | 7), "{}", output.stderr);
    assert_eq!(maintenance(&server), Vec::<String>::new());
}

#[test]
fn through_a_pool_nothing_is_set_that_would_stay_with_others() {
    let server = Postgres::start("");
    server.sql("postgres", "CREATE ROLE app LOGIN IN ROLE pg_monitor");
    let settings =
        "pool_mode = transaction\nignore_startup_parameters = options,extra_float_digits";
    let pool = PgBouncer::start_with(&server, 1, settings);
    let through = pool.console().replace("stats@", "app@").replace("/pgbouncer?", "/postgres?");
    let text = config(&server, "").replace(&server.url("trades"), &through);
    let agent = TestAgent::started(|_| text);
    agent.ctl(&["db", "preflight"]).exits(4).says(&["direct-connection", "a pool"]);
    agent.ctl(&["db", "health"]).says(&["a pool is there"]);
    let log = server.log();
    assert!(log.contains("genesis-agent/"), "it has come that far");
    assert!(!log.contains("SET lock_timeout"), "{log}");
}

#[test]
fn a_table_that_somebody_locks_is_named_and_nothing_waits_for_it() {
    let (server, agent) = bloated("", "");
    let mut admin = Psql::connect_to(&server, "trades", "postgres", "migration");
    admin.run("BEGIN; LOCK TABLE orders IN ACCESS EXCLUSIVE MODE");
    let pid = format!("pid {}", admin.pid);
    agent.ctl(&["db", "preflight"]).exits(4).says(&["no-foreign-ddl", &pid, "migration"]);
    optimize(&agent, &[]).exits(4).says(&["no-foreign-ddl", &pid]);
    assert_eq!(last(&agent)["outcome"], "CARE_OUTCOME_BLOCKED");
    agent.ctl(&["db", "health"]).says(&["wraparound", "bloat"]);
    agent.ctl(&["db", "indexes"]).says(&["orders"]);
    admin.run("ROLLBACK");
    agent.ctl(&["db", "preflight"]).ok();
}

#[test]
fn a_query_that_fails_is_told_and_the_care_goes_on() {
    let bench = "[[database.instance.bench]]\nname = \"gone\"\nsql = \"SELECT count(*) FROM no_such_table\"\n\
                 [[database.instance.bench]]\nname = \"remark\"\nsql = \"SELECT 1 -- one\"\n";
    let (_server, agent) = bloated("", bench);
    agent.ctl(&["db", "verify"]).exits(5).says(&["gone", "no_such_table"]);
    optimize(&agent, &[]).exits(1).says(&["VERIFICATION_UNKNOWN", "gone"]);
    let care = last(&agent);
    let steps = care["steps"].as_array().unwrap();
    assert!(
        steps.iter().any(|it| it["action"] == "reindex" && it["outcome"] == "done"),
        "{care:#}"
    );
    let remark = care["benchmarks"].as_array().unwrap().iter().find(|it| it["name"] == "remark");
    assert_eq!(remark.unwrap()["truth"], "TRUTH_PASS", "{care:#}");
}

#[test]
fn it_is_cared_for_by_itself_once_in_its_window() {
    let (server, agent) = bloated("", "");
    agent.ctl(&["schedule", "run", "database.care"]).ok().says(&["no database is due"]);
    agent.ctl(&["db", "optimize"]).ok().says(&["by hand only"]);
    // It has been due for a minute, and is for an hour.
    let due = now().in_tz("UTC").unwrap() - jiff::Span::new().minutes(1);
    let schedule = format!("{} {} * * *", due.minute(), due.hour());
    let text = config(&server, "window = \"1h\"").replace("\"never\"", &format!("\"{schedule}\""));
    agent.configure(&text);
    agent.ctl(&["config", "reload"]).ok();
    agent.ctl(&["schedule", "run", "database.care"]).ok().says(&["trades"]);
    assert_eq!(last(&agent)["outcome"], "CARE_OUTCOME_DONE");
    agent.ctl(&["schedule", "list"]).ok().says(&["database.care", &schedule]);
    agent.ctl(&["db", "list"]).ok().says(&["trades"]);
    agent.ctl(&["db", "health"]).says(&["wraparound", "cache-hits", "checksums"]);
    agent.ctl(&["db", "verify"]).ok().says(&["backup-integrity"]);
    agent.ctl(&["emergency", "activate", "--reason", "x", "--yes"]).ok();
    optimize(&agent, &[]).exits(4).says(&["EMERGENCY"]);
}
