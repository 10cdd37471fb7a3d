//! Databases in trouble: connections that are all taken and sessions that hold others up are cleared by what is done
//! about them, nobody else is ended, and nothing is done while there may be critical trades.

use genesis_tests::TestAgent;
use genesis_tests::clock::wait_until;
use genesis_tests::health::{Check, config, word};
use genesis_tests::postgres::Postgres;
use genesis_tests::psql::Psql;
use genesis_tests::trading::{Says, TradingSystem};

/// A server with few slots, of which ordinary clients have 17, and the roles of the tests.
fn server(settings: &str) -> Postgres {
    let few = "max_connections = 20\nsuperuser_reserved_connections = 3\n";
    let server = Postgres::start(&format!("{few}{settings}"));
    server.sql(
        "postgres",
        "CREATE ROLE agent LOGIN; GRANT pg_monitor, pg_signal_backend TO agent; \
         CREATE ROLE app LOGIN; CREATE ROLE settlement LOGIN; \
         CREATE TABLE t (i int PRIMARY KEY, n int NOT NULL DEFAULT 0); INSERT INTO t VALUES (1), (2), (3); \
         GRANT SELECT, UPDATE ON t TO app, settlement",
    );
    server
}

fn instance(server: &Postgres, trades: &str) -> String {
    format!(
        "[[database.instance]]\nname = \"main\"\nschedule = \"never\"\nspared_roles = [\"settlement\"]\n\
         url = \"postgres://agent@localhost/postgres?host={}\"\ntrades_probe = {trades}\n",
        server.socket().display()
    )
}

/// A check of a database, looked at twice a second.
fn check(id: &str, probe: &str) -> Check {
    let check = Check::new(id, probe).text("database", "main");
    check.text("interval", "500ms").text("timeout", "490ms")
}

fn pool() -> Check {
    // All clients are there, and have idled for a moment, before anything is done.
    check("pool", "database-pool").text("action", "reset-connections").text("for", "2s")
}

fn locks() -> Check {
    let check = check("locks", "database-blocked").text("action", "cancel-query");
    check.text("patience", "500ms").text("settle", "4s")
}

/// An agent that watches the server with these checks.
fn agent(server: &Postgres, trades: &str, checks: &[Check]) -> TestAgent {
    let text = format!("{}{}", config("", checks), instance(server, trades));
    TestAgent::started(|_| text)
}

fn there(clients: &[Psql], server: &Postgres) -> Vec<bool> {
    clients.iter().map(|client| client.is_there(server)).collect()
}

/// What was journalled about ended sessions: the outcomes, oldest first, with their targets.
fn ended(agent: &TestAgent, action: &str) -> Vec<(String, String)> {
    let list = ["oplog", "list", "--action", action, "--limit", "100", "-o", "json"];
    let entries = agent.ctl(&list).response()["entries"].as_array().cloned().unwrap_or_default();
    let mut found: Vec<(u64, (String, String))> = entries
        .iter()
        .map(|entry| {
            let sequence = entry["sequence"].as_str().unwrap().parse().unwrap();
            (sequence, (word(entry, "outcome"), word(entry, "target")))
        })
        .collect();
    found.sort();
    found.into_iter().map(|(_, entry)| entry).collect()
}

/// Clients that take every slot but the agent's own: 15 that idle, the first of a role that is spared, and one in a
/// transaction.
fn exhaust(server: &Postgres) -> Vec<Psql> {
    let mut clients = vec![Psql::connect(server, "settlement", "batch")];
    clients.extend((1..15).map(|_| Psql::connect(server, "app", "desk")));
    let mut open = Psql::connect(server, "app", "report");
    open.run("BEGIN; SELECT count(*) FROM t");
    clients.push(open);
    clients
}

#[test]
fn a_server_without_free_connections_gets_some_back_from_those_that_idle_longest() {
    let server = server("");
    let agent = agent(&server, "\"none\"", &[pool()]);
    // From its first look on it has a way in of its own.
    agent.wait_for_looks("pool", 1);
    let clients = exhaust(&server);
    agent.wait_state("pool", "RESOLVED");
    let issue = agent.issue("pool");
    assert_eq!(word(&issue, "resolution"), "by its action", "{issue}");
    agent.wait_outcomes("pool", &["SUCCEEDED"]);
    let attempt = &agent.attempts("pool")[0];
    assert!(word(attempt, "before").contains("0 of 17 connections are available"), "{attempt}");
    let said = word(attempt, "detail");
    assert!(said.contains("4 idle connections ended in 1 steps; 4 of 17"), "{said}");
    // The four that have idled longest, and neither the spared one nor the one in a transaction.
    let expected: Vec<bool> = (0..16).map(|client| !(1..=4).contains(&client)).collect();
    assert_eq!(there(&clients, &server), expected);
    let journal = ended(&agent, "database.sessions.reset");
    let main = |outcome: &str| (outcome.to_owned(), "main".to_owned());
    assert_eq!(journal, [main("intent"), main("ok")]);
}

#[test]
fn trades_in_progress_or_unknown_hold_back_whatever_touches_trading() {
    let server = server("");
    let folder = tempfile::tempdir().unwrap();
    let desk = TradingSystem::start(folder.path(), Says::Count(1));
    let agent = agent(&server, &desk.probe("1s"), &[pool()]);
    agent.wait_for_looks("pool", 1);
    let clients = exhaust(&server);
    let everybody = vec![true; clients.len()];
    agent.wait_denial("pool", "GUARD");
    let explain = ["health", "explain", "pool"];
    agent.ctl(&explain).ok().says(&["GUARD", "main: 1 critical trades in progress"]);
    let run = ["health", "run", "reset-connections", "--check", "pool", "--reason", "x", "--yes"];
    agent.ctl(&run).exits(4).says(&["GUARD", "1 critical trades"]);
    for (says, evidence) in
        [(Says::Fails, "the book is locked"), (Says::Nothing, "no answer within 1s")]
    {
        desk.says(says);
        let what = format!("{says:?} to be told");
        wait_until(&what, || agent.ctl(&explain).ok().text().contains(evidence));
        let asked = desk.asked();
        // While nobody answers, the looks go on.
        agent.wait_for_looks("pool", 3);
        wait_until("another question", || desk.asked() > asked);
        assert_eq!(agent.denials("pool"), ["GUARD"]);
        assert_eq!(there(&clients, &server), everybody);
    }
    assert_eq!(
        (agent.outcomes("pool").len(), ended(&agent, "database.sessions.reset").len()),
        (0, 0)
    );
    desk.says(Says::Count(0));
    agent.wait_state("pool", "RESOLVED");
    agent.wait_outcomes("pool", &["SUCCEEDED"]);
    assert_eq!(there(&clients, &server).iter().filter(|there| !**there).count(), 4);
}

#[test]
fn a_trade_that_begins_meanwhile_holds_back_what_is_left() {
    let server = server("");
    let folder = tempfile::tempdir().unwrap();
    // Three readings until an action begins, then one before each session.
    let desk = TradingSystem::start(folder.path(), Says::NoneUntil(5));
    let agent = agent(&server, &desk.probe("1s"), &[pool().text("cooldown", "10m")]);
    agent.wait_for_looks("pool", 1);
    let clients = exhaust(&server);
    wait_until("an attempt", || agent.outcomes("pool").iter().any(|outcome| outcome == "FAILED"));
    let gone = there(&clients, &server).iter().filter(|there| !**there).count();
    assert!((1..4).contains(&gone), "{gone} were ended");
    let journal = ended(&agent, "database.sessions.reset");
    assert_eq!(journal.last().unwrap().0, "ACTION_REFUSED", "{journal:?}");
    let detail = word(&agent.attempts("pool")[0], "detail");
    assert!(detail.contains(&format!("{gone} idle connections ended")), "{detail}");
    // Nobody more goes from now on.
    agent.wait_for_looks("pool", 4);
    assert_eq!(there(&clients, &server).iter().filter(|there| !**there).count(), gone);
}

#[test]
fn an_agent_that_comes_too_late_for_a_connection_says_so() {
    let server = server("");
    let mut clients = exhaust(&server);
    clients.push(Psql::connect(&server, "app", "late"));
    let agent =
        agent(&server, "\"none\"", &[pool().text("for", "0s"), check("up", "database-answers")]);
    wait_until("an attempt in vain", || agent.outcomes("pool").contains(&"FAILED".to_owned()));
    let attempt = &agent.attempts("pool")[0];
    assert!(word(attempt, "before").contains("no connection is available"), "{attempt}");
    assert!(word(attempt, "detail").contains("takes no more connections"), "{attempt}");
    assert_eq!(there(&clients, &server), vec![true; clients.len()]);
    let up = agent.seen("up");
    assert_eq!(word(&up, "condition"), "OK", "it is there: {up}");
}

/// A -> B -> C: C waits for B, which waits for A.
fn chain(server: &Postgres, root: &str) -> [Psql; 3] {
    let mut clients = ["a", "b", "c"].map(|name| Psql::connect(server, "app", name));
    clients[0].run("BEGIN; UPDATE t SET n = n + 1 WHERE i = 1");
    clients[0].tell(root);
    clients[1].run("BEGIN; UPDATE t SET n = n + 1 WHERE i = 2");
    clients[1].tell("UPDATE t SET n = n + 1 WHERE i = 1; COMMIT; SELECT 'b is through'");
    clients[1].wait_blocked(server);
    clients[2].tell("UPDATE t SET n = n + 1 WHERE i = 2; SELECT 'c is through'");
    clients[2].wait_blocked(server);
    clients
}

#[test]
fn only_the_root_of_a_chain_is_ended_and_by_no_more_than_it_takes() {
    let server = server("");
    server
        .sql("postgres", "CREATE TABLE open_trades (id int); GRANT SELECT ON open_trades TO agent");
    server.sql("postgres", "INSERT INTO open_trades VALUES (7)");
    let trades = "{ sql = \"SELECT count(*) FROM open_trades\" }";
    let guarded = agent(&server, trades, &[locks()]);
    let mut clients = chain(&server, "SELECT pg_sleep(600)");
    guarded.wait_denial("locks", "GUARD");
    guarded.ctl(&["health", "explain", "locks"]).ok().says(&["main: 1 critical trades"]);
    assert_eq!(there(&clients, &server), [true; 3]);
    server.sql("postgres", "DELETE FROM open_trades");
    assert_eq!(
        (clients[1].line(), clients[2].line()),
        ("b is through".into(), "c is through".into())
    );
    guarded.wait_state("locks", "RESOLVED");
    guarded.wait_outcomes("locks", &["SUCCEEDED"]);
    let detail = word(&guarded.attempts("locks")[0], "detail");
    let root = format!(
        "pid {} (app in postgres, a; active), which held up 2, was cancelled",
        clients[0].pid
    );
    assert!(detail.contains(&root), "{detail}");
    // Its statement was enough.
    assert_eq!(there(&clients, &server), [true; 3]);
    clients[0].run("ROLLBACK");
    let target = format!("main pid {}", clients[0].pid);
    let expected = ["intent", "cancelled"].map(|outcome| (outcome.to_owned(), target.clone()));
    assert_eq!(ended(&guarded, "database.session.end"), expected);
    assert_eq!(server.sql("postgres", "SELECT sum(n) FROM t"), "3", "what the root did is undone");
}

#[test]
fn what_holds_on_after_it_was_cancelled_is_terminated() {
    let server = server("");
    let mut root = Psql::connect(&server, "app", "root");
    // A lock of the session outlives the statement, and even the transaction.
    root.run("BEGIN; SELECT pg_advisory_lock(7)");
    root.tell("SELECT pg_sleep(600)");
    let mut waiter = Psql::connect(&server, "app", "waiter");
    waiter.tell("SELECT pg_advisory_lock(7); SELECT 'through'");
    waiter.wait_blocked(&server);
    let agent = agent(&server, "\"none\"", &[locks()]);
    wait_until("the lock", || !root.is_there(&server));
    agent.wait_outcomes("locks", &["SUCCEEDED"]);
    assert!(waiter.is_there(&server));
    let target = format!("main pid {}", root.pid);
    let expected = ["intent", "terminated"].map(|outcome| (outcome.to_owned(), target.clone()));
    assert_eq!(ended(&agent, "database.session.end"), expected);
    let log = server.log();
    assert!(log.contains("canceling statement due to user request"), "first it was asked");
}

#[test]
fn what_idles_in_a_transaction_is_terminated_and_what_is_marked_is_left() {
    let server = server("");
    // Nothing runs in the root's session any more, so there is nothing to cancel.
    let clients = chain(&server, "SELECT 1");
    let first = agent(&server, "\"none\"", &[locks()]);
    assert_eq!(
        (clients[1].line(), clients[2].line()),
        ("b is through".into(), "c is through".into())
    );
    first.wait_outcomes("locks", &["SUCCEEDED"]);
    assert_eq!(there(&clients, &server), [false, true, true]);
    let target = format!("main pid {}", clients[0].pid);
    let expected = ["intent", "terminated"].map(|outcome| (outcome.to_owned(), target.clone()));
    assert_eq!(ended(&first, "database.session.end"), expected);
    drop((first, clients));

    let mut clients = chain(&server, "SELECT pg_sleep(600) /* genesis:no-kill */");
    let second = agent(&server, "\"none\"", &[locks()]);
    wait_until("an attempt in vain", || second.outcomes("locks").contains(&"FAILED".to_owned()));
    let detail = word(&second.attempts("locks")[0], "detail");
    assert!(detail.contains("its statement says /* genesis:no-kill */"), "{detail}");
    assert_eq!(there(&clients, &server), [true; 3]);
    assert_eq!(ended(&second, "database.session.end").len(), 0);
    clients[2].wait_blocked(&server);
    drop(second);
    // The same of a role that is spared.
    let mut spared = Psql::connect(&server, "settlement", "batch");
    spared.run("BEGIN; UPDATE t SET n = n + 1 WHERE i = 3");
    clients[0] = Psql::connect(&server, "app", "d");
    clients[0].tell("UPDATE t SET n = n + 1 WHERE i = 3");
    clients[0].wait_blocked(&server);
    let third = agent(&server, "\"none\"", &[locks()]);
    wait_until("an attempt in vain", || third.outcomes("locks").contains(&"FAILED".to_owned()));
    let detail = word(&third.attempts("locks")[0], "detail");
    assert!(detail.contains("spared_roles"), "{detail}");
    assert!(spared.is_there(&server));
}

#[test]
fn deadlocks_that_the_server_has_ended_are_told_with_what_is_known_of_them() {
    let log = "logging_collector = on\nlog_directory = 'log'\nlog_destination = 'stderr'\n";
    let server = server(&format!("{log}deadlock_timeout = '50ms'\n"));
    let agent = agent(&server, "\"none\"", &[check("deadlocks", "database-deadlocks")]);
    agent.wait_for_looks("deadlocks", 2);
    assert_eq!(word(&agent.seen("deadlocks"), "condition"), "OK");
    let deadlock = || {
        let mut pair = ["a", "b"].map(|name| Psql::connect(&server, "app", name));
        pair[0].run("BEGIN; UPDATE t SET n = 5 WHERE i = 1");
        pair[1].run("BEGIN; UPDATE t SET n = 6 WHERE i = 2");
        pair[0].tell("UPDATE t SET n = 7 WHERE i = 2");
        pair[1].tell("UPDATE t SET n = 8 WHERE i = 1");
        for client in &mut pair {
            client.run("ROLLBACK");
        }
    };
    deadlock();
    let said = |part: &str| {
        wait_until(part, || word(&agent.seen("deadlocks"), "detail").contains(part));
    };
    said("1 deadlocks within 5 minutes");
    said("look for \"deadlock detected\"");
    assert_eq!(word(&agent.seen("deadlocks"), "condition"), "WARN");
    server.sql("postgres", "GRANT pg_read_server_files TO agent");
    server.sql("postgres", "GRANT EXECUTE ON FUNCTION pg_current_logfile(), pg_stat_file(text), pg_read_binary_file(text, bigint, bigint) TO agent");
    said("UPDATE t SET n = 7 WHERE i = 2");
    said("UPDATE t SET n = 8 WHERE i = 1");
    deadlock();
    said("2 deadlocks within 5 minutes");
}
