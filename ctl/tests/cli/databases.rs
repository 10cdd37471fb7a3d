//! `db` where it only looks.

use genesis_client::v1::*;
use genesisctl::Exit;

use crate::fake::{Databases, Fake, Script};
use crate::{Outcome, at, ctl, folder, squeezed};

const RUN: &str = "01J0000000000000000000000A";

pub(crate) fn agent(databases: Databases) -> (tempfile::TempDir, Fake) {
    let folder = folder();
    let fake = Fake::start(folder.path(), Script { databases, ..Default::default() });
    (folder, fake)
}

fn asked(databases: Databases, command: &[&str]) -> Outcome {
    let (_folder, fake) = agent(databases);
    ctl(&[&["db"], command, &["-n", &fake.node()]].concat())
}

fn lasting(millis: i64) -> Option<prost_types::Duration> {
    let nanos = i32::try_from(millis % 1000 * 1_000_000).unwrap();
    Some(prost_types::Duration { seconds: millis / 1000, nanos })
}

fn item(name: &str, truth: Truth) -> DatabaseItem {
    DatabaseItem {
        name: name.into(),
        truth: truth.into(),
        value: "12".into(),
        limit: "< 10".into(),
        evidence: "app \u{1b}[2Jbilling since 09:00".into(),
        overridden: false,
        took: lasting(7),
    }
}

fn finding(code: &str) -> Finding {
    Finding { code: code.into(), subject: "orders.idx".into(), message: "it grew".into() }
}

fn care(outcome: CareOutcome) -> Care {
    let step = |action: &str, outcome: &str, after: u64| CareStep {
        action: action.into(),
        target: "public.orders".into(),
        outcome: outcome.into(),
        bytes_before: after * 2,
        bytes_after: after,
        took: lasting(1_500),
        detail: "12 dead tuples".into(),
    };
    Care {
        run_id: RUN.into(),
        database: "orders".into(),
        outcome: outcome.into(),
        actor: "schedule".into(),
        started_at: at(100),
        ended_at: at(1_000),
        preflight: vec![DatabaseItem { overridden: true, ..item("backup", Truth::Fail) }],
        steps: vec![step("vacuum", "done", 0), step("reindex", "deferred", 5_000_000)],
        benchmarks: vec![benchmark(Truth::Fail, "a sequential scan instead of orders_pkey")],
        verification: vec![item("invalid-indexes", Truth::Pass)],
        findings: vec![finding("CARE_REGRESSION"), finding("CARE_DEFERRED")],
        bytes_freed: 5_000_000,
    }
}

fn benchmark(truth: Truth, plan_change: &str) -> BenchmarkResult {
    BenchmarkResult {
        name: "positions".into(),
        p50_before: lasting(4),
        p95_before: lasting(9),
        p50: Some(prost_types::Duration { seconds: 0, nanos: 420_000 }),
        p95: lasting(1_500),
        budget: lasting(50),
        plan_change: plan_change.into(),
        truth: truth.into(),
    }
}

#[test]
fn databases_are_listed_with_what_came_of_the_last_time() {
    let database = |name: &str, last: Option<Care>| Database {
        name: name.into(),
        engine: Engine::Postgres.into(),
        place: "postgres://genesis@db:5432/orders".into(),
        schedule: "Sun 03:00".into(),
        next_at: at(90_000),
        window: lasting(1_800_000),
        last,
        run_id: String::new(),
    };
    let busy = Database { run_id: RUN.into(), ..database("busy", Some(care(CareOutcome::Done))) };
    let local = Database {
        engine: Engine::Sqlite.into(),
        place: "/var/lib/x.db".into(),
        schedule: String::new(),
        next_at: None,
        ..database("local", None)
    };
    let orders = database("orders", Some(care(CareOutcome::Degraded)));
    let (_folder, fake) =
        agent(Databases { databases: vec![orders, local, busy], ..Default::default() });
    let node = fake.node();
    let list = ctl(&["db", "list", "-v", "-n", &node]);
    assert_eq!(list.exit, Exit::Ok, "{}", list.stderr);
    assert_eq!(
        squeezed(list.out()),
        [
            "DATABASE ENGINE PLACE SCHEDULE NEXT LAST OPTIMIZED OUTCOME NOTE",
            "orders PostgreSQL postgres://genesis@db:5432/orders Sun 03:00 1970-01-02T01:00:00Z \
             1970-01-01T00:16:40Z DEGRADED CARE_REGRESSION orders.idx: it grew (and 1 more)",
            "local SQLite /var/lib/x.db by hand - never -",
            "busy PostgreSQL postgres://genesis@db:5432/orders Sun 03:00 1970-01-02T01:00:00Z \
             1970-01-01T00:16:40Z DONE run 01J0000000000000000000000A goes on",
            "orders: window 30m, last run 01J0000000000000000000000A took 15m and freed 5.0 MB",
            "local: window 30m, never optimized",
            "busy: window 30m, last run 01J0000000000000000000000A took 15m and freed 5.0 MB",
        ]
    );
    let json = ctl(&["db", "list", "-o", "json", "-n", &node]).json();
    let first = &json[0]["response"]["databases"][0];
    assert_eq!(first["engine"], "ENGINE_POSTGRES");
    assert_eq!(first["last"]["bytesFreed"], "5000000");
    assert_eq!(fake.calls(), ["ListDatabases", "ListDatabases"]);
    let none = asked(Databases::default(), &["list"]);
    assert_eq!((none.exit, none.out()), (Exit::Ok, ""));
    assert_eq!(none.stderr, "no databases are configured\n");
}

#[test]
fn a_preflight_is_clear_blocked_or_unknown() {
    let (pass, fail, unknown) =
        (item("disk", Truth::Pass), item("sessions", Truth::Fail), item("trades", Truth::Unknown));
    let unsaid = item("unsaid", Truth::Unspecified);
    for (items, exit, said) in [
        (vec![pass.clone()], Exit::Ok, "optimization can begin"),
        (vec![pass.clone(), fail.clone()], Exit::Refused, "blocked by sessions"),
        (vec![unknown.clone(), pass.clone()], Exit::Unknown, "nobody knows about trades"),
        (vec![unsaid], Exit::Unknown, "nobody knows about unsaid"),
        (
            vec![pass.clone(), unknown, fail],
            Exit::Refused,
            "blocked by sessions; nobody knows about trades",
        ),
    ] {
        let clear = exit == Exit::Ok;
        let preflight =
            CheckPreflightResponse { database: "orders".into(), items, clear, took: lasting(140) };
        let databases = Databases { preflight, ..Default::default() };
        let outcome = asked(databases, &["preflight", "--database", "orders"]);
        assert_eq!(outcome.exit, exit, "{}", outcome.out());
        let lines = squeezed(outcome.out());
        assert_eq!(lines[0], format!("orders: {said} (140ms)"));
        assert_eq!(lines[1], "ITEM STATE VALUE LIMIT EVIDENCE");
        assert!(outcome.stderr.is_empty(), "{}", outcome.stderr);
    }
    // An agent that says no without saying why is not believed to have said yes.
    let preflight = CheckPreflightResponse { items: vec![pass], ..Default::default() };
    let outcome = asked(Databases { preflight, ..Default::default() }, &["preflight"]);
    assert_eq!(outcome.exit, Exit::Unknown, "{}", outcome.out());
}

#[test]
fn what_fails_comes_first_and_nothing_drives_the_terminal() {
    let items = [("disk", Truth::Pass), ("trades", Truth::Unknown), ("sessions", Truth::Fail)];
    let preflight = CheckPreflightResponse {
        database: "orders".into(),
        items: items.map(|(name, truth)| item(name, truth)).into(),
        ..Default::default()
    };
    let (_folder, fake) = agent(Databases { preflight, ..Default::default() });
    let node = fake.node();
    let shown = ctl(&["db", "preflight", "--database", "orders", "-v", "-n", &node]);
    assert_eq!(
        squeezed(shown.out())[1..],
        [
            "ITEM STATE VALUE LIMIT TOOK EVIDENCE",
            "sessions FAIL 12 < 10 7ms app \\x1b[2Jbilling since 09:00",
            "trades UNKNOWN 12 < 10 7ms app \\x1b[2Jbilling since 09:00",
            "disk PASS 12 < 10 7ms app \\x1b[2Jbilling since 09:00",
        ]
    );
    let json = ctl(&["db", "preflight", "-o", "json", "-n", &node]);
    assert_eq!(json.exit, Exit::Refused);
    let json = json.json();
    assert_eq!(json[0]["ok"], true, "that it is blocked is an answer");
    assert_eq!(json[0]["response"]["items"][1]["truth"], "TRUTH_UNKNOWN");
    assert_eq!(json[0]["response"]["items"][1]["took"], "0.007s");
    assert_eq!(fake.calls(), ["CheckPreflight orders", "CheckPreflight"]);
}

#[test]
fn health_tells_items_and_slow_statements() {
    let health = |items: Vec<DatabaseItem>| GetDatabaseHealthResponse {
        database: "orders".into(),
        engine: Engine::Postgres.into(),
        version: "15.4".into(),
        bytes: 12_300_000_000,
        items,
        slow: vec![SlowStatement {
            text: format!("SELECT *\n  FROM {}", "x".repeat(200)),
            calls: 1_234,
            total: lasting(65_000),
            mean: Some(prost_types::Duration { seconds: 0, nanos: 52_700_000 }),
        }],
        took: lasting(180),
    };
    let (pass, fail, unknown) =
        (item("cache", Truth::Pass), item("age", Truth::Fail), item("bloat", Truth::Unknown));
    for (items, exit) in [
        (vec![pass.clone()], Exit::Ok),
        (vec![pass.clone(), fail.clone()], Exit::Findings),
        (vec![fail.clone(), unknown.clone()], Exit::Unknown),
        (vec![], Exit::Unknown),
    ] {
        let databases = Databases { health: health(items), ..Default::default() };
        assert_eq!(asked(databases, &["health"]).exit, exit);
    }
    let (_folder, fake) =
        agent(Databases { health: health(vec![pass, fail, unknown]), ..Default::default() });
    let node = fake.node();
    let shown = ctl(&["db", "health", "--database", "orders", "-n", &node]);
    let lines = squeezed(shown.out());
    assert_eq!(
        lines[0],
        "orders: PostgreSQL 15.4, 12.3 GB: 3 items: 1 PASS, 1 FAIL, 1 UNKNOWN in 180ms"
    );
    assert!(lines[2].starts_with("age FAIL") && lines[4].starts_with("cache PASS"), "{lines:?}");
    assert_eq!(lines[6..8], ["Statements that take most time", "TOTAL CALLS MEAN STATEMENT"]);
    assert!(lines[8].starts_with("1m 5s 1,234 52.7ms SELECT * FROM xxx"), "{lines:?}");
    assert!(lines[8].ends_with("x…"), "{lines:?}");
    let whole = ctl(&["db", "health", "-v", "-n", &node]);
    assert!(whole.out().contains(&"x".repeat(200)), "{}", whole.out());
    // Between the rows of several nodes they are left out.
    let (_other, two) = agent(Databases { health: health(vec![]), ..Default::default() });
    let both = ctl(&["db", "health", "-n", &format!("{node},{}", two.node())]);
    assert!(!both.out().contains("SELECT"), "{}", both.out());
    assert_eq!(both.exit, Exit::Unknown);
    let json = ctl(&["db", "health", "-o", "json", "-n", &node]).json();
    assert_eq!(json[0]["response"]["slow"][0]["calls"], "1234");
    assert_eq!(json[0]["response"]["bytes"], "12300000000");
}

#[test]
fn advice_about_indexes_is_sql_to_copy_but_not_what_has_a_caution() {
    let unused = IndexAdvice {
        kind: "unused".into(),
        index: "public.orders_note".into(),
        table: "public.orders".into(),
        bytes: 8_000_000,
        saves_bytes: 8_000_000,
        evidence: "0 scans".into(),
        sql: "DROP INDEX CONCURRENTLY public.orders_note;".into(),
        caution: String::new(),
    };
    let kept = IndexAdvice {
        index: "public.orders_fk".into(),
        sql: "DROP INDEX CONCURRENTLY\npublic.orders_fk;".into(),
        caution: "supports a foreign key".into(),
        ..unused.clone()
    };
    let indexes = AnalyzeIndexesResponse {
        database: "orders".into(),
        advice: vec![unused, kept],
        indexes: 41,
        counted_since: at(60),
    };
    let (_folder, fake) = agent(Databases { indexes, ..Default::default() });
    let node = fake.node();
    let shown = ctl(&["db", "indexes", "--database", "orders", "-n", &node]);
    assert_eq!(shown.exit, Exit::Findings, "{}", shown.stderr);
    assert_eq!(
        squeezed(shown.out()),
        [
            "orders: 41 indexes, advice about 2, which would save 8.0 MB; their use is counted since \
             1970-01-01T00:01:00Z",
            "KIND INDEX TABLE SIZE SAVES EVIDENCE CAUTION",
            "unused public.orders_note public.orders 8.0 MB 8.0 MB 0 scans -",
            "unused public.orders_fk public.orders 8.0 MB 8.0 MB 0 scans supports a foreign key",
            "",
            "-- Nobody runs this by itself:",
            "DROP INDEX CONCURRENTLY public.orders_note;",
            "-- DROP INDEX CONCURRENTLY public.orders_fk; -- supports a foreign key",
        ]
    );
    let json = ctl(&["db", "indexes", "-o", "json", "-n", &node]);
    assert_eq!(json.exit, Exit::Findings);
    assert_eq!(json.json()[0]["response"]["advice"][1]["savesBytes"], "8000000");
    let indexes =
        AnalyzeIndexesResponse { database: "orders".into(), indexes: 1, ..Default::default() };
    let none = asked(Databases { indexes, ..Default::default() }, &["indexes"]);
    assert_eq!(none.exit, Exit::Ok);
    assert_eq!(none.out(), "orders: 1 index, nothing to advise; their use is not counted\n");
}

pub(crate) fn chain() -> ListBlockersResponse {
    let root = BlockingSession {
        pid: 4711,
        backend_start: at(10),
        xact_start: at(60),
        user: "app".into(),
        application: "billing".into(),
        client: "10.0.0.7".into(),
        state: "idle in transaction".into(),
        query: "UPDATE orders\nSET x = 1".into(),
        holds_up: 2,
        ..Default::default()
    };
    let waiter = |pid: i32, waits_for: i32| BlockingSession {
        pid,
        state: "active".into(),
        waits_for: vec![waits_for],
        waiting: lasting(65_000),
        holds_up: 0,
        ..root.clone()
    };
    let vacuum = BlockingSession {
        protected_by: "autovacuum that prevents wraparound".into(),
        ..waiter(4713, 4712)
    };
    let prepared =
        BlockingSession { pid: 0, prepared: "tx-7".into(), holds_up: 3, ..Default::default() };
    ListBlockersResponse {
        database: "orders".into(),
        sessions: vec![prepared, waiter(9, 0), root.clone(), waiter(4712, 4711), vacuum],
        deadlocks: 3,
    }
}

#[test]
fn who_waits_is_indented_below_whom_it_waits_for() {
    let (_folder, fake) = agent(Databases { blockers: chain(), ..Default::default() });
    let node = fake.node();
    let shown = ctl(&["db", "blockers", "--database", "orders", "-n", &node]);
    assert_eq!(shown.exit, Exit::Findings, "{}", shown.stderr);
    assert_eq!(
        squeezed(shown.out()),
        [
            "orders: 3 sessions wait, 2 at the root; the server has ended 3 deadlocks by itself",
            "PID STATE WAITING HOLDS UP IN TRANSACTION SINCE USER APPLICATION CLIENT NOTE QUERY",
            "prepared - - 3 - - - - prepared transaction tx-7 -",
            "9 active 1m 5s 0 1970-01-01T00:01:00Z app billing 10.0.0.7 waits for a prepared transaction UPDATE orders SET x = 1",
            "4711 idle in transaction - 2 1970-01-01T00:01:00Z app billing 10.0.0.7 - UPDATE orders SET x = 1",
            "4712 active 1m 5s 0 1970-01-01T00:01:00Z app billing 10.0.0.7 waits for 4711 UPDATE orders SET x = 1",
            "4713 active 1m 5s 0 1970-01-01T00:01:00Z app billing 10.0.0.7 waits for 4712; protected: autovacuum \
             that prevents wraparound UPDATE orders SET x = 1",
            "`genesisctl db kill 4711 --database orders --reason TEXT` ends what it does",
        ]
    );
    let indented = ["\nprepared", "\n  9 ", "\n4711", "\n  4712", "\n    4713"];
    assert!(indented.iter().all(|start| shown.out().contains(start)), "{}", shown.out());
    let json = ctl(&["db", "blockers", "-o", "json", "-n", &node]);
    assert_eq!(json.exit, Exit::Findings);
    assert_eq!(json.json()[0]["response"]["sessions"][4]["waitsFor"][0], 4712);
    let blockers = ListBlockersResponse { database: "orders".into(), ..Default::default() };
    let none = asked(Databases { blockers, ..Default::default() }, &["blockers"]);
    assert_eq!(none.exit, Exit::Ok);
    assert_eq!(none.out(), "orders: nobody waits; the server has ended 0 deadlocks by itself\n");
}

#[test]
fn a_verification_counts_its_queries_too() {
    let (pass, fail, unknown) =
        (item("pool", Truth::Pass), item("pool", Truth::Fail), item("pool", Truth::Unknown));
    for (items, queries, exit) in [
        (vec![pass.clone()], vec![benchmark(Truth::Pass, "")], Exit::Ok),
        (vec![pass.clone()], vec![benchmark(Truth::Fail, "")], Exit::Findings),
        (vec![fail.clone()], vec![benchmark(Truth::Unknown, "")], Exit::Unknown),
        (vec![unknown, fail], vec![], Exit::Unknown),
        (vec![], vec![], Exit::Unknown),
    ] {
        let verified = VerifyDatabaseResponse {
            database: "orders".into(),
            items,
            benchmarks: queries,
            clear: exit == Exit::Ok,
            took: lasting(2_000),
        };
        let outcome = asked(Databases { verified, ..Default::default() }, &["verify"]);
        assert_eq!(outcome.exit, exit, "{}", outcome.out());
    }
    let alone =
        BenchmarkResult { p50_before: None, p95_before: None, ..benchmark(Truth::Pass, "") };
    let verified = VerifyDatabaseResponse {
        database: "orders".into(),
        items: vec![pass],
        benchmarks: vec![benchmark(Truth::Fail, "a sequential scan"), alone],
        clear: false,
        took: lasting(2_000),
    };
    let (_folder, fake) = agent(Databases { verified, ..Default::default() });
    let node = fake.node();
    let shown = ctl(&["db", "verify", "--database", "orders", "-n", &node]);
    assert_eq!(
        squeezed(shown.out()),
        [
            "orders: 1 item: 1 PASS in 2s",
            "ITEM STATE VALUE LIMIT EVIDENCE",
            "pool PASS 12 < 10 app \\x1b[2Jbilling since 09:00",
            "",
            "Benchmark queries",
            "QUERY STATE P50 P50 BEFORE P95 P95 BEFORE BUDGET PLAN",
            "positions FAIL 0.42ms 4.00ms 1.5s 9.00ms 50.0ms a sequential scan",
            "positions PASS 0.42ms - 1.5s - 50.0ms -",
        ]
    );
    let json = ctl(&["db", "verify", "-o", "json", "-n", &node]).json();
    assert_eq!(json[0]["response"]["benchmarks"][0]["p50"], "0.000420s");
    assert_eq!(fake.calls(), ["VerifyDatabase orders", "VerifyDatabase"]);
}

#[test]
fn history_has_a_row_for_each_and_more_when_asked() {
    let care = vec![care(CareOutcome::Degraded), care(CareOutcome::Blocked)];
    let (_folder, fake) = agent(Databases { care, ..Default::default() });
    let node = fake.node();
    let short = ctl(&["db", "history", "-n", &node]);
    assert_eq!(short.exit, Exit::Ok, "{}", short.stderr);
    let lines = squeezed(short.out());
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0], "RUN DATABASE OUTCOME STARTED TOOK FREED STEPS ACTOR NOTE");
    assert_eq!(
        lines[1],
        "01J0000000000000000000000A orders DEGRADED 1970-01-01T00:01:40Z 15m 5.0 MB 1 of 2 schedule \
         CARE_REGRESSION orders.idx: it grew (and 1 more)"
    );
    let long = ctl(&["db", "history", "--database", "orders", "--limit", "1", "-v", "-n", &node]);
    let lines = squeezed(long.out());
    for wanted in [
        "orders, run 01J0000000000000000000000A: preflight",
        "backup FAIL, overridden 12 < 10 7ms app \\x1b[2Jbilling since 09:00",
        "orders, run 01J0000000000000000000000A: steps",
        "ACTION TARGET OUTCOME BEFORE AFTER TOOK DETAIL",
        "vacuum public.orders done - - 1.5s 12 dead tuples",
        "reindex public.orders deferred 10.0 MB 5.0 MB 1.5s 12 dead tuples",
        "orders, run 01J0000000000000000000000A: benchmark queries",
        "positions FAIL 0.42ms 4.00ms 1.5s 9.00ms 50.0ms a sequential scan instead of orders_pkey",
        "orders, run 01J0000000000000000000000A: verification",
        "invalid-indexes PASS 12 < 10 7ms app \\x1b[2Jbilling since 09:00",
        "orders, run 01J0000000000000000000000A: findings",
        "CARE_DEFERRED orders.idx: it grew",
    ] {
        assert!(lines.iter().any(|line| line == wanted), "lacks {wanted:?}: {lines:#?}");
    }
    let json = ctl(&["db", "history", "-o", "json", "-n", &node]).json();
    let first = &json[0]["response"]["care"][0];
    assert_eq!(first["outcome"], "CARE_OUTCOME_DEGRADED");
    assert_eq!(first["steps"][1]["bytesAfter"], "5000000");
    assert_eq!(fake.calls(), ["ListCare 20", "ListCare orders 1", "ListCare 20"]);
    let none = asked(Databases::default(), &["history"]);
    assert_eq!(none.stderr, "nothing was done to any database yet\n");
}
