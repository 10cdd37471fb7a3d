//! Care of servers of other versions than Debian's: the oldest that is supported, and newer ones, with no more rights
//! than the role of the documentation has there.

use std::path::Path;

use genesis_tests::TestAgent;
use genesis_tests::binaries::foreign;
use genesis_tests::postgres::Postgres;
use genesis_tests::psql::Psql;

use crate::database::{codes, fill, last, optimize};

/// The rights that the documentation gives the agent's role from version 17 on, in place of the owner's.
const MAINTAINS: &str = "GRANT pg_maintain TO genesis";

fn is_cared_for(major: u32, rights: &str) {
    let version = foreign(&format!("node/node_modules/postgres-{major}/native"));
    let server = Postgres::start_of(&version, "max_connections = 30\n");
    fill(&server);
    let extensions = "CREATE EXTENSION pgstattuple; CREATE EXTENSION amcheck";
    server.sql("trades", &format!("CREATE ROLE trading; ALTER TABLE orders OWNER TO trading; ALTER TABLE venues OWNER TO trading; {extensions}"));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/sql/genesis_role.sql");
    let mut psql = server.client("psql");
    psql.args(["-X", "-v", "ON_ERROR_STOP=1", "-v", "owner_role=trading", "-d", "trades", "-f"]);
    assert!(psql.arg(&script).output().unwrap().status.success());
    server.sql("trades", rights);
    let config = format!(
        "[[database.instance]]\nname = \"trades\"\nurl = \"postgres://genesis@localhost/trades?host={}\"\nschedule = \"never\"\n\
         trades_probe = \"none\"\nmin_free = \"0%\"\nbloat_smallest = \"0B\"\nbloat_least = \"30%\"\n\
         [[database.instance.bench]]\nname = \"nothing\"\nsql = \"SELECT 1\"\n",
        server.socket().display()
    );
    let agent = TestAgent::started(move |_| config);
    let shown = agent.ctl(&["db", "health"]);
    shown.says(&[&format!("PostgreSQL {major}."), "cache-hits", "connection-pool"]);
    let items = agent.ctl(&["db", "preflight"]).exits(4);
    items.says(&["2 of 2 tables", "backup-verified"]);
    agent.ctl(&["db", "indexes"]).exits(3).says(&["orders_price", "bloat"]);
    let despite = ["--override", "backup-verified", "--reason", "another version"];
    optimize(&agent, &despite).exits(1).says(&["there is no backup of trades"]);
    let care = last(&agent);
    let steps = care["steps"].as_array().unwrap();
    let done = |action: &str| steps.iter().filter(|it| it["action"] == action).count();
    assert!(done("vacuum") > 0 && done("reindex") > 0, "{care:#}");
    assert!(steps.iter().all(|it| it["outcome"] == "done"), "{care:#}");
    assert_eq!(codes(&care), ["VERIFICATION_FAILED"], "{care:#}");
    let dead = "SELECT pg_stat_get_dead_tuples('orders'::regclass)";
    assert_eq!(server.sql("trades", dead), "0");

    let mut root = Psql::connect_to(&server, "trades", "trading_desk", "root");
    root.run("BEGIN; LOCK venues IN SHARE MODE");
    let mut waiter = Psql::connect_to(&server, "trades", "trading_desk", "waiter");
    waiter.tell("UPDATE venues SET name = 'X' WHERE id = 1; SELECT 'through'");
    waiter.wait_blocked(&server);
    let pid = root.pid.to_string();
    agent.ctl(&["db", "blockers"]).exits(3).says(&[&pid]);
    agent.ctl(&["db", "kill", &pid, "--reason", "test", "--yes"]).ok().says(&["terminated"]);
    assert_eq!(waiter.line(), "through");
}

#[test]
fn the_oldest_version_is_cared_for() {
    is_cared_for(14, "CREATE ROLE trading_desk LOGIN IN ROLE trading");
}

#[test]
fn who_may_maintain_tables_owns_none_from_version_17_on() {
    is_cared_for(17, &format!("{MAINTAINS}; CREATE ROLE trading_desk LOGIN IN ROLE trading"));
}

#[test]
fn the_newest_version_is_cared_for() {
    is_cared_for(18, &format!("{MAINTAINS}; CREATE ROLE trading_desk LOGIN IN ROLE trading"));
}
