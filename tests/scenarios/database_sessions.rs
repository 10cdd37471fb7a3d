//! Who holds up whom, as people see it, and the session that they end: that one, and only as long as it does what was
//! looked at.

use genesis_agent::outside::database::Postgres as Target;
use genesis_agent::outside::database::postgres::{Limits, Session};
use genesis_agent::outside::database::sessions::{Look, Named, Way, end};
use genesis_tests::TestAgent;
use genesis_tests::clock::wait_until;
use genesis_tests::health::word;
use genesis_tests::postgres::Postgres;
use genesis_tests::psql::Psql;
use serde_json::Value;

/// A server with a table, and an agent whose role may look at sessions and end them.
fn watched(settings: &str) -> (Postgres, TestAgent) {
    let server = Postgres::start(&format!("max_prepared_transactions = 5\n{settings}"));
    server.sql(
        "postgres",
        "CREATE TABLE t (i int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 0), (2, 0), (3, 0);
         CREATE ROLE agent LOGIN; GRANT pg_monitor, pg_signal_backend TO agent;
         CREATE ROLE app LOGIN; CREATE ROLE settlement LOGIN; GRANT SELECT, UPDATE ON t TO app, settlement",
    );
    let config = format!(
        "[[database.instance]]\nname = \"main\"\nschedule = \"never\"\nspared_roles = [\"settlement\"]\n\
         url = \"postgres://agent@localhost/postgres?host={}\"\n",
        server.socket().display()
    );
    let agent = TestAgent::started(move |_| config);
    (server, agent)
}

/// A client that waits for whoever has this row, and then says that it is through.
fn waiter(server: &Postgres, name: &str, row: u8) -> Psql {
    let mut waiter = Psql::connect(server, "app", name);
    waiter.tell(&format!("UPDATE t SET n = 2 WHERE i = {row}; SELECT '{name} is through'"));
    waiter.wait_blocked(server);
    waiter
}

fn blockers(agent: &TestAgent, exit: u8) -> Vec<Value> {
    let list = agent.ctl(&["db", "blockers", "-o", "json"]).exits(exit).response();
    list["sessions"].as_array().cloned().unwrap_or_default()
}

/// What the operation log has about ended sessions: by whom, what came of it, and why.
fn ended(agent: &TestAgent) -> Vec<[String; 3]> {
    let list = ["oplog", "list", "--action", "database.session.end", "-o", "json"];
    let entries = agent.ctl(&list).response()["entries"].as_array().cloned().unwrap_or_default();
    let told = |entry: &Value| ["target", "outcome", "reason"].map(|key| word(entry, key));
    entries.iter().map(told).collect()
}

fn kill<'a>(pid: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["db", "kill", pid, "--reason", "it holds up the desk"], more].concat()
}

#[test]
fn people_see_who_is_at_the_root_and_end_that_session_and_no_other() {
    let (server, agent) = watched("");
    assert_eq!(blockers(&agent, 0), Vec::<Value>::new());
    agent.ctl(&["db", "blockers"]).ok().says(&["main: nobody waits"]);
    server
        .sql("postgres", "BEGIN; UPDATE t SET n = 1 WHERE i = 2; PREPARE TRANSACTION 'two-phase'");
    let mut root = Psql::connect(&server, "app", "root");
    root.run("BEGIN; UPDATE t SET n = 1 WHERE i = 1");
    let (first, second) = (waiter(&server, "b", 1), waiter(&server, "c", 2));

    let seen = blockers(&agent, 3);
    let pids: Vec<i64> = seen.iter().map(|one| one["pid"].as_i64().unwrap_or(0)).collect();
    assert_eq!(pids, [root.pid, first.pid, 0, second.pid].map(i64::from), "{seen:#?}");
    assert_eq!((&seen[0]["holdsUp"], &seen[1]["waitsFor"][0]), (&1.into(), &root.pid.into()));
    assert_eq!(word(&seen[0], "state"), "idle in transaction");
    assert_eq!(word(&seen[2], "prepared"), "two-phase");
    let pid = root.pid.to_string();
    let advice = format!("`genesisctl db kill {pid} --reason TEXT` ends what it does");
    let waits = format!("waits for {pid}");
    let words =
        ["2 sessions wait, 2 at the root", &advice, &waits, "prepared transaction two-phase"];
    agent.ctl(&["db", "blockers"]).exits(3).says(&words);

    // A plan says what would be done, and does nothing.
    let plan = agent.ctl(&kill(&pid, &["--plan"])).ok();
    plan.says(&["terminate", &format!("pid {pid}"), "1 wait for it"]);
    // Without a reason or an answer nobody is ended.
    agent.ctl(&["db", "kill", &pid, "--yes"]).exits(2).says(&["--reason"]);
    agent.ctl(&kill(&pid, &[])).exits(2).says(&["--yes"]);
    assert!(root.is_there(&server));
    assert_eq!(ended(&agent), Vec::<[String; 3]>::new());

    let done = agent.ctl(&kill(&pid, &["--yes"])).ok();
    done.says(&[&format!("session {pid} of main was terminated: nobody waits for it any more")]);
    assert_eq!(first.line(), "b is through");
    wait_until("the session to end", || !root.is_there(&server));
    let target = format!("main pid {pid}");
    let told = |outcome: &str| [&target, outcome, "it holds up the desk"].map(str::to_owned);
    assert_eq!(ended(&agent), [told("terminated"), told("intent")]);
    // What holds up the other one has no session: nothing is offered.
    let left = agent.ctl(&["db", "blockers"]).exits(3);
    let left = left.says(&["1 session waits", "only its owner knows"]);
    assert!(!left.text().contains("db kill"), "{}", left.text());
    assert!(second.is_there(&server));
}

#[test]
fn a_statement_is_cancelled_and_its_session_goes_on() {
    let (server, agent) = watched("");
    let mut root = Psql::connect(&server, "app", "root");
    root.run("BEGIN; UPDATE t SET n = 1 WHERE i = 1");
    root.tell("SELECT pg_sleep(600)");
    let waiter = waiter(&server, "b", 1);
    let pid = root.pid.to_string();
    let sleeping =
        format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid} AND state = 'active'");
    wait_until("its statement", || server.sql("postgres", &sleeping) == "1");
    let plan = agent.ctl(&kill(&pid, &["--plan"])).ok();
    plan.says(&["cancel", "terminate", "holds on, 5 s later"]);
    let done = agent.ctl(&kill(&pid, &["--yes"])).ok();
    done.says(&[&format!("what session {pid} of main did was cancelled: nobody waits")]);
    assert_eq!(waiter.line(), "b is through");
    assert!(root.is_there(&server));
}

#[test]
fn who_is_protected_or_gone_is_not_ended_and_the_reason_is_told() {
    let (server, agent) = watched("");
    let mut spared = Psql::connect(&server, "settlement", "batch");
    spared.run("BEGIN; UPDATE t SET n = 1 WHERE i = 1");
    let mut marked = Psql::connect(&server, "app", "migration");
    marked.run("BEGIN; UPDATE t SET n = 1 WHERE i = 2 /* genesis:no-kill */");
    let mut dba = Psql::connect(&server, "postgres", "dba");
    dba.run("BEGIN; UPDATE t SET n = 1 WHERE i = 3");
    let waiters = [1, 2, 3].map(|row| waiter(&server, &format!("w{row}"), row));
    let shown = agent.ctl(&["db", "blockers"]).exits(3);
    shown.says(&["spared_roles", "genesis:no-kill", "a superuser's session"]);
    for (client, why) in
        [(&spared, "spared_roles"), (&marked, "genesis:no-kill"), (&dba, "superuser")]
    {
        let pid = client.pid.to_string();
        let refused = agent.ctl(&kill(&pid, &["--yes"])).exits(4);
        refused.says(&["SESSION_PROTECTED", why]);
        assert!(client.is_there(&server));
    }
    let writer = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'";
    let writer = server.sql("postgres", writer);
    agent.ctl(&kill(&writer, &["--yes"])).exits(4).says(&["it is a walwriter"]);
    agent.ctl(&kill("2147483647", &["--yes"])).exits(1).says(&["SESSION_NOT_FOUND"]);
    for wrong in ["0", "-1", "2147483648", "many"] {
        agent.ctl(&kill(wrong, &["--yes"])).exits(2);
    }
    let elsewhere = ["--yes", "--database", "nowhere"];
    agent.ctl(&kill("1", &elsewhere)).exits(1).says(&["DATABASE_NOT_FOUND"]);
    assert!(waiters.iter().all(|waiter| waiter.is_there(&server)));
    assert_eq!(ended(&agent), Vec::<[String; 3]>::new());
    drop(server);
    agent.ctl(&["db", "blockers"]).exits(7).says(&["DATABASE_UNREACHABLE"]);
}

#[test]
fn a_session_that_does_something_else_by_now_is_not_ended() {
    let server = Postgres::start("");
    server.sql("postgres", "CREATE TABLE t (i int PRIMARY KEY, n int)");
    let mut root = Psql::connect(&server, "postgres", "root");
    root.run("BEGIN; INSERT INTO t VALUES (1, 1)");
    let target = Target { url: server.url("postgres"), password_file: None, fence: None };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let mut session = Session::open(&target, "test", Limits::LOOK).await.unwrap();
        let look = Look::take(&mut session).await.unwrap();
        let backend = look.backend(root.pid).unwrap().clone();
        let meant = backend.named().unwrap();
        let micro = |at: jiff::Timestamp| at + jiff::SignedDuration::from_micros(1);
        let xact_start = meant.xact_start.unwrap();
        for other in [
            Named { backend_start: micro(meant.backend_start), ..meant },
            Named { xact_start: Some(micro(xact_start)), ..meant },
            Named { xact_start: None, ..meant },
            Named { still_since: backend.state_change.map(micro), ..meant },
            Named { pid: meant.pid + 100_000, ..meant },
        ] {
            for way in [Way::Cancel, Way::Terminate] {
                assert_eq!(end(&mut session, &other, way).await, Ok(false), "{other:?}");
            }
        }
        // The same session in its next transaction is another one too.
        root.run("COMMIT; BEGIN; INSERT INTO t VALUES (2, 2)");
        assert_eq!(end(&mut session, &meant, Way::Terminate).await, Ok(false));
        assert!(root.is_there(&server));
        let look = Look::take(&mut session).await.unwrap();
        let backend = look.backend(root.pid).unwrap();
        let meant = Named { still_since: backend.state_change, ..backend.named().unwrap() };
        assert_eq!(end(&mut session, &meant, Way::Terminate).await, Ok(true));
    });
    wait_until("the session to end", || !root.is_there(&server));
    assert_eq!(server.sql("postgres", "SELECT i FROM t"), "1");
}
