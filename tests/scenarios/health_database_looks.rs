//! What checks see of databases.

use std::path::Path;
use std::process::Command;

use genesis_agent::outside::database::postgres::{Limits, Session};
use genesis_agent::outside::database::sessions::{Look, Way, end};
use genesis_agent::outside::database::{Engine, Postgres as Target};
use genesis_storage::{BackupLevel, BackupRecord, BackupState, Intent, Options, Store};
use genesis_tests::TestAgent;
use genesis_tests::clock::{now, wait_until};
use genesis_tests::health::{Check, config, word};
use genesis_tests::pgbouncer::PgBouncer;
use genesis_tests::postgres::Postgres;
use genesis_tests::psql::Psql;

fn instance(url: &str, more: &str) -> String {
    format!("[[database.instance]]\nname = \"main\"\nschedule = \"never\"\nurl = {url:?}\n{more}\n")
}

fn url(server: &Postgres, role: &str) -> String {
    format!("postgres://{role}@localhost/postgres?host={}", server.socket().display())
}

fn check(id: &str, probe: &str) -> Check {
    let check = Check::new(id, probe).text("database", "main");
    check.text("interval", "500ms").text("timeout", "490ms")
}

/// Waits until a check is so, with this in its words.
fn wait_seen(agent: &TestAgent, check: &str, condition: &str, part: &str) {
    let mut last = String::new();
    wait_until(&format!("{check} to be {condition} with {part:?}"), || {
        let seen = agent.seen(check);
        last = word(&seen, "detail");
        word(&seen, "condition") == condition && last.contains(part)
    });
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(work)
}

#[test]
fn clients_that_wait_for_a_pool_are_seen_and_so_is_a_server_that_is_down() {
    let server = Postgres::start("");
    server.sql("postgres", "CREATE ROLE app LOGIN");
    let bouncer = PgBouncer::start(&server, 2);
    let more = format!("pgbouncer = {:?}", bouncer.console());
    let checks = [check("pooler", "database-pooler"), check("answers", "database-answers")];
    let text = config("", &checks) + &instance(&url(&server, "postgres"), &more);
    let agent = TestAgent::started(|_| text);
    wait_seen(&agent, "pooler", "OK", "no pool is in use");
    wait_seen(&agent, "answers", "OK", "database main answers");
    let mut held: Vec<Psql> = (0..2).map(|_| Psql::spawn(bouncer.client(&server))).collect();
    held.iter_mut().for_each(|client| client.run("SELECT 1"));
    let waiting = Psql::try_spawn(&mut bouncer.client(&server));
    wait_seen(&agent, "pooler", "CRITICAL", "of the pool postgres/app 2 of 2 connections are busy");
    drop(held);
    drop(waiting);
    wait_seen(&agent, "pooler", "OK", "0 of them wait");
    drop(server);
    wait_seen(&agent, "answers", "CRITICAL", "is down");
}

#[test]
fn queues_are_counted_by_queries_that_can_not_write() {
    let server = Postgres::start("");
    server.sql(
        "postgres",
        "CREATE TABLE jobs (id int); INSERT INTO jobs SELECT generate_series(1, 5)",
    );
    let depth = |id: &str, sql: &str| check(id, "queue-sql").text("sql", sql).text("crit", "4");
    let checks = [
        depth("jobs", "SELECT count(*) FROM jobs"),
        depth("writes", "WITH gone AS (DELETE FROM jobs RETURNING 1) SELECT count(*) FROM gone"),
        depth("words", "SELECT 'many'"),
        depth("none", "SELECT 1 WHERE false"),
    ];
    let text = config("", &checks) + &instance(&url(&server, "postgres"), "");
    let agent = TestAgent::started(|_| text);
    wait_seen(&agent, "jobs", "CRITICAL", "the query says 5");
    wait_seen(&agent, "writes", "UNKNOWN", "read-only transaction");
    wait_seen(&agent, "words", "UNKNOWN", "\"many\" is no number");
    wait_seen(&agent, "none", "UNKNOWN", "0 rows");
    server.sql("postgres", "DELETE FROM jobs WHERE id > 1");
    wait_seen(&agent, "jobs", "OK", "the query says 1");
}

fn backup(id: &str, hours: i64, level: Option<BackupLevel>, system: &str) -> BackupRecord {
    let at = now() - jiff::SignedDuration::from_hours(hours);
    BackupRecord {
        id: id.to_owned(),
        source: "main".to_owned(),
        engine: "postgres".to_owned(),
        tool: "builtin".to_owned(),
        state: BackupState::Complete,
        place: "/backup".to_owned(),
        started_at: at,
        ended_at: Some(at),
        bytes: 1,
        system_identifier: system.to_owned(),
        level,
        verified_at: level.map(|_| at),
        detail: String::new(),
        run_id: String::new(),
    }
}

/// Writes backups into the state of an agent that does not run.
fn put(database: &Path, records: &[BackupRecord]) {
    let store = Store::open(database, Options::default()).unwrap();
    for record in records {
        let written = store.write(Intent::new(now(), "test", "backup"), |writing| {
            writing.backups().put(record, 100)
        });
        written.unwrap();
    }
}

#[test]
fn a_backup_counts_by_its_age_once_it_is_verified_and_of_this_server() {
    let server = Postgres::start("");
    let system = server.sql("postgres", "SELECT system_identifier FROM pg_control_system()");
    let checks = [check("backup", "backup-age")];
    let text = config("", &checks)
        + &instance(
            &url(&server, "postgres"),
            "backup_min_level = \"L2\"\nbackup_max_age = \"26h\"",
        );
    let mut agent = TestAgent::started(|_| text);
    // On a new host nobody can have made one.
    wait_seen(&agent, "backup", "OK", "there is no backup of main, 0.0 h after the first start");
    agent.terminate();
    let deep = Some(BackupLevel::Restored);
    let ids: Vec<String> = (0..4).map(|n| format!("01JZZZZZZZZZZZZZZZZZZZZZZ{n}")).collect();
    put(
        &agent.database(),
        &[
            backup(&ids[0], 5, deep, &system),
            backup(&ids[1], 2, Some(BackupLevel::Checksums), &system),
        ],
    );
    agent.start();
    wait_seen(&agent, "backup", "OK", "5.0 h old, is verified to L2");
    agent.terminate();
    put(&agent.database(), &[backup(&ids[2], 1, deep, "12345")]);
    agent.start();
    wait_seen(&agent, "backup", "CRITICAL", "is of system 12345");
    agent.terminate();
    let broken = BackupRecord { state: BackupState::Broken, ..backup(&ids[3], 0, deep, &system) };
    put(&agent.database(), &[broken]);
    agent.start();
    wait_seen(&agent, "backup", "CRITICAL", "is broken");
}

#[test]
fn damaged_pages_and_invalid_indexes_are_critical() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("positions.db");
    let mut sqlite = Command::new("python3");
    let script = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); \
                  c.execute('CREATE TABLE t (i INTEGER PRIMARY KEY, x TEXT)'); \
                  c.execute('CREATE INDEX x ON t (x)'); \
                  c.executemany('INSERT INTO t VALUES (?, ?)', [(i, str(i) * 30) for i in range(5000)]); c.commit()";
    assert!(sqlite.args(["-c", script]).arg(&file).status().unwrap().success());
    let sqlite = format!("sqlite:{}", file.display());
    let checks = [check("whole", "database-integrity")];
    let agent = TestAgent::started(|_| config("", &checks) + &instance(&sqlite, ""));
    wait_seen(&agent, "whole", "OK", "no fault was found: quick_check");
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2 / 4096 * 4096;
    bytes[middle..middle + 4096].fill(0xa5);
    std::fs::write(&file, bytes).unwrap();
    wait_seen(&agent, "whole", "CRITICAL", "faults: ");
    drop(agent);

    let server = Postgres::start("");
    server.sql(
        "postgres",
        "CREATE EXTENSION amcheck; CREATE TABLE t (i int); INSERT INTO t VALUES (1), (1)",
    );
    let text = config("", &checks) + &instance(&url(&server, "postgres"), "");
    let agent = TestAgent::started(|_| text);
    wait_seen(&agent, "whole", "OK", "checksums are off");
    wait_seen(&agent, "whole", "OK", "are whole");
    let mut psql = server.client("psql");
    psql.args(["-d", "postgres", "-c", "CREATE UNIQUE INDEX CONCURRENTLY twice ON t (i)"]);
    assert!(!psql.output().unwrap().status.success());
    wait_seen(&agent, "whole", "CRITICAL", "index twice is invalid");
    server.sql("postgres", "DROP INDEX twice");
    wait_seen(&agent, "whole", "OK", "no fault was found");
}

#[test]
fn the_role_of_the_documentation_can_look_and_end_sessions_and_reads_no_table() {
    let server = Postgres::start("");
    server.sql("postgres", "CREATE ROLE app LOGIN; CREATE ROLE trading; CREATE EXTENSION amcheck");
    server.sql("postgres", "CREATE TABLE secret (x int); INSERT INTO secret VALUES (1)");
    server.sql("postgres", "CREATE TABLE orders (x int); CREATE INDEX o ON orders (x); ALTER TABLE orders OWNER TO trading");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/sql/genesis_role.sql");
    let run = |more: &[&str]| {
        let mut psql = server.client("psql");
        psql.args(["-X", "-v", "ON_ERROR_STOP=1", "-d", "postgres"]).args(more);
        let output = psql.arg("-f").arg(&script).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    run(&[]);
    // Once more changes nothing, and tells the owner.
    run(&["-v", "owner_role=trading"]);
    let mut idle = Psql::connect(&server, "app", "desk");
    idle.run("BEGIN");
    let mut superuser = Psql::connect(&server, "postgres", "dba");
    superuser.run("BEGIN");
    let target = Target { url: url(&server, "genesis"), password_file: None, fence: None };
    let engine = Engine::Postgres(target.clone());
    block_on(async {
        let mut session = Session::open(&target, "test", Limits::LOOK).await.unwrap();
        let look = Look::take(&mut session).await.unwrap();
        let [app, dba] = [idle.pid, superuser.pid].map(|pid| look.backend(pid).unwrap().clone());
        assert_eq!(
            (app.state.as_str(), app.may_end, dba.may_end),
            ("idle in transaction", true, false)
        );
        assert_eq!(end(&mut session, &app.named().unwrap(), Way::Terminate).await, Ok(true));
        let refused = end(&mut session, &dba.named().unwrap(), Way::Terminate).await.unwrap_err();
        assert_eq!(refused.code(), "42501");
        let found =
            genesis_agent::outside::database::integrity::look(&mut session, 0).await.unwrap();
        assert_eq!(
            (found.count(), found.notes.iter().any(|note| note.contains("whole"))),
            (0, true)
        );
        session.text("SELECT system_identifier FROM pg_control_system()").await.unwrap();
        for care in ["VACUUM (ANALYZE) public.orders", "REINDEX INDEX CONCURRENTLY public.o"] {
            session.run(care).await.unwrap();
        }
        let secret = "SELECT count(*) FROM public.secret";
        let said = genesis_agent::outside::database::figures::number(&engine, "test", secret).await;
        assert!(said.clone().unwrap_err().contains("permission denied"), "{said:?}");
        assert_eq!(session.run("DROP TABLE public.secret").await.unwrap_err().code(), "42501");
        session.close().await;
    });
    wait_until("the session to end", || !idle.is_there(&server));
    assert!(superuser.is_there(&server));
}
