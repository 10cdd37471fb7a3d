//! Care of a database that several hosts of a fleet are told to care for: one of them does, and whoever was overtaken is kept
//! out by the database itself.

use std::path::PathBuf;
use std::process::Child;
use std::time::Duration;

use genesis_tests::TestAgent;
use genesis_tests::clock::{now, wait_for, wait_until, wait_until_within};
use genesis_tests::etcd::Etcd;
use genesis_tests::postgres::Postgres;
use serde_json::Value;
use tempfile::TempDir;

use crate::database::{back_up, config, fill, last, maintenance, optimize};
use crate::fleet_etcd::{LEASE, of_fleet, wait_standing};
use crate::fleet_locks::ended_of;

use genesis_client::v1::FleetStanding::Lost;

const LOCKS: &str = "/genesis/prod/locks/";

/// A host of the fleet that cares for the database, as it calls that.
fn host(name: &str, etcd: &Etcd, server: &Postgres) -> TestAgent {
    let text = of_fleet(&etcd.endpoints(), LEASE) + &config(server, "");
    let mut agent = TestAgent::new(|_| text);
    agent.hostname(name);
    agent
}

/// The database's lock: its key, and its holder.
fn lock(etcd: &Etcd) -> Option<(String, String)> {
    let key = etcd.keys(LOCKS).into_iter().find(|key| key.contains("/database/"))?;
    let holder: Value = serde_json::from_str(&etcd.get(&key)?).unwrap();
    Some((key, holder["host"].as_str().unwrap().to_owned()))
}

/// The token in the database, and whose it is.
fn fence(server: &Postgres) -> (i64, String) {
    let row = server.sql("trades", "SELECT token || ' ' || holder FROM genesis_fleet.fence");
    let (token, holder) = row.split_once(' ').unwrap();
    (token.parse().unwrap(), holder.to_owned())
}

fn ended(agent: &TestAgent) -> Option<(String, String)> {
    ended_of(agent, "database.optimize")
}

/// A host that stops in the middle of its care, until the file is gone.
struct Stopped {
    agent: TestAgent,
    run: Child,
    folder: TempDir,
}

impl Stopped {
    fn in_care(name: &str, etcd: &Etcd, server: &Postgres) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let pause = folder.path().join("pause");
        let mut agent = host(name, etcd, server);
        agent.environment("GENESIS_PAUSE", &format!("database.after-vacuum:{}", pause.display()));
        agent.start();
        back_up(&agent);
        std::fs::write(&pause, "").unwrap();
        let run = agent.ctl_command(&["db", "optimize", "--force"]).spawn().unwrap();
        let reached = folder.path().join("pause.reached");
        wait_until("the middle of a care", || reached.exists());
        // Both tables are vacuumed at a time: the other one may be about to begin.
        wait_until("the steps that have begun", || maintenance(server).len() >= 2);
        Self { agent, run, folder }
    }

    fn pause(&self) -> PathBuf {
        self.folder.path().join("pause")
    }

    /// It goes on; how its care ends.
    fn goes_on(mut self) -> (TestAgent, String, String) {
        std::fs::remove_file(self.pause()).unwrap();
        let (state, code) = wait_for("the end of its care", || ended(&self.agent));
        let _ = self.run.wait();
        (self.agent, state, code)
    }
}

#[test]
fn who_was_frozen_in_its_care_past_its_lease_is_kept_out_by_the_database() {
    let (etcd, server) = (Etcd::start(), Postgres::start(""));
    fill(&server);
    let mut b = host("b", &etcd, &server);
    b.start();
    back_up(&b);
    let a = Stopped::in_care("a", &etcd, &server);
    let (key, _) = lock(&etcd).filter(|(_, holder)| holder == "a").unwrap();
    let (first, holder) = fence(&server);
    assert_eq!((first, holder.starts_with("a (")), (etcd.created(&key), true), "{holder}");
    b.ctl(&["fleet", "locks"]).ok().says(&["database/trades@", "a"]);
    // While it lives nobody gets between.
    optimize(&b, &[]).exits(9).says(&["FLEET_HELD", "one host of the fleet", "now by a"]);
    a.agent.freeze();
    wait_until("the end of a lease", || etcd.get(&key).is_none());
    optimize(&b, &[]).ok();
    let (second, holder) = fence(&server);
    assert!(second > first, "tokens only grow");
    assert!(holder.starts_with("b ("), "{holder}");
    let left = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'genesis-agent/%fence=care:%'";
    assert_eq!(server.sql("trades", left), "0");
    let done = maintenance(&server).len();
    a.agent.thaw();
    let (a, state, code) = a.goes_on();
    assert_ne!(state, "RUN_STATE_SUCCEEDED");
    assert!(code == "FENCED" || code == "FLEET_LOCK_LOST", "{state} {code}");
    assert_eq!(maintenance(&server).len(), done, "{:?}", maintenance(&server));
    assert_eq!(fence(&server).0, second);
    assert_eq!(last(&a)["outcome"], "CARE_OUTCOME_INTERRUPTED");
    // It can do so again in its own turn, once it is a member again.
    wait_until("its turn", || optimize(&a, &[]).code == 0);
    assert!(fence(&server).0 > second);
}

#[test]
fn who_believes_to_have_its_lock_is_refused_by_the_database_with_its_next_session() {
    let (etcd, server) = (Etcd::start(), Postgres::start(""));
    fill(&server);
    let a = Stopped::in_care("a", &etcd, &server);
    // Another host came by another way, and etcd never told this one.
    server.sql("trades", "UPDATE genesis_fleet.fence SET token = token + 1000, holder = 'x (x)'");
    let done = maintenance(&server).len();
    let (_, state, code) = a.goes_on();
    assert_eq!((state.as_str(), code.as_str()), ("RUN_STATE_FAILED", "FENCED"));
    assert_eq!(maintenance(&server).len(), done, "{:?}", maintenance(&server));
    wait_until("a lock that is given back", || lock(&etcd).is_none());
}

#[test]
fn who_hears_of_etcd_no_more_begins_no_further_step() {
    let (etcd, server) = (Etcd::start(), Postgres::start(""));
    fill(&server);
    let a = Stopped::in_care("a", &etcd, &server);
    let done = maintenance(&server).len();
    etcd.kill();
    wait_standing(&a.agent, Lost);
    // Nobody has taken over, but somebody might.
    let (_, state, code) = a.goes_on();
    assert_eq!((state.as_str(), code.as_str()), ("RUN_STATE_FAILED", "FLEET_LOCK_LOST"));
    assert_eq!(maintenance(&server).len(), done, "{:?}", maintenance(&server));
}

#[test]
fn tokens_of_an_etcd_that_was_made_anew_are_refused_until_somebody_says_so() {
    let (etcd, server) = (Etcd::start(), Postgres::start(""));
    fill(&server);
    let mut a = host("a", &etcd, &server);
    a.start();
    back_up(&a);
    optimize(&a, &[]).ok();
    server.sql("trades", "UPDATE genesis_fleet.fence SET token = 900000000, holder = 'a (old)'");
    let done = maintenance(&server).len();
    optimize(&a, &[]).exits(9).says(&["FENCED", "a (old)", "DELETE FROM genesis_fleet.fence"]);
    assert_eq!(maintenance(&server).len(), done);
    assert!(lock(&etcd).is_none(), "its turn is given back");
    server.sql("trades", "DELETE FROM genesis_fleet.fence");
    optimize(&a, &[]).ok();
}

#[test]
fn a_role_that_may_not_make_the_fence_is_told_what_to_run() {
    let (etcd, server) = (Etcd::start(), Postgres::start(""));
    fill(&server);
    server.sql("trades", "CREATE ROLE trading; ALTER TABLE orders OWNER TO trading");
    let role = |more: &[&str]| {
        let sql = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/sql/genesis_role.sql");
        let mut psql = server.client("psql");
        psql.args(["-Xq", "-v", "ON_ERROR_STOP=1", "-v", "owner_role=trading", "-d", "trades"]);
        assert!(psql.args(more).args(["-f", sql]).status().unwrap().success());
    };
    role(&[]);
    let text = of_fleet(&etcd.endpoints(), LEASE) + &config(&server, "");
    let text = text.replace("postgres://postgres@", "postgres://genesis@");
    let mut a = TestAgent::new(|_| text);
    a.hostname("a");
    a.start();
    let only = ["--override", "backup-verified", "--reason", "a test of the fence"];
    let refused =
        optimize(&a, &only).exits(4).says(&["FENCE_MISSING", "CREATE SCHEMA", "GRANT SELECT"]);
    assert_eq!(maintenance(&server), Vec::<String>::new());
    let said = refused.text() + &refused.stderr;
    let sql = &said[said.find("CREATE SCHEMA").unwrap()..];
    let end = sql.find("UPDATE ON genesis_fleet.fence TO \"genesis\";").unwrap();
    server.sql("trades", &sql[..end + "UPDATE ON genesis_fleet.fence TO \"genesis\";".len()]);
    // All of it but what was left out.
    let done = ["0 failed, 0 deferred", "backup-integrity"];
    optimize(&a, &only).exits(1).says(&done);
    assert!(fence(&server).0 > 0);
    // It is there from the beginning where the role is made for a fleet.
    server.sql("trades", "DROP SCHEMA genesis_fleet CASCADE");
    role(&["-v", "fleet=yes"]);
    optimize(&a, &only).exits(1).says(&done);
}

#[test]
fn without_etcd_no_database_is_cared_for_and_the_reason_is_shown() {
    let (etcd, server) = (Etcd::start(), Postgres::start(""));
    fill(&server);
    let mut a = host("a", &etcd, &server);
    a.start();
    back_up(&a);
    etcd.kill();
    optimize(&a, &[]).exits(4).says(&["FLEET_UNREACHABLE", "etcd of fleet prod can't be used"]);
    assert_eq!(maintenance(&server), Vec::<String>::new());
    assert_eq!(last(&a)["outcome"], "CARE_OUTCOME_BLOCKED");
    // A look needs no turn.
    a.ctl(&["db", "indexes"]);
    a.ctl(&["db", "preflight"]).ok();
    etcd.restart();
    wait_until("a turn", || optimize(&a, &[]).code == 0);
    assert!(!maintenance(&server).is_empty());
}

#[test]
fn one_host_cares_in_a_window_and_the_others_leave_it_at_that() {
    let (etcd, server) = (Etcd::start(), Postgres::start(""));
    fill(&server);
    let hosts = ["a", "b"].map(|name| {
        let mut agent = host(name, &etcd, &server);
        agent.start();
        back_up(&agent);
        // What is scheduled does not get between.
        agent.ctl(&["schedule", "pause", "database.care"]).ok();
        agent
    });
    let open = now() - jiff::SignedDuration::from_mins(2);
    let open = open.strftime("%H:%M").to_string();
    for agent in &hosts {
        let text = of_fleet(&etcd.endpoints(), LEASE) + &config(&server, "window = \"30m\"");
        agent.configure(&text.replace("\"never\"", &format!("\"{open}\"")));
        agent.ctl(&["config", "reload"]).ok();
    }
    let due = ["db", "optimize", "--database", "trades"];
    hosts[0].ctl(&due).ok();
    let done = maintenance(&server).len();
    assert!(done > 0);
    hosts[1].ctl(&due).exits(9).says(&["FLEET_CARED", "in this window", "by a"]);
    assert_eq!(maintenance(&server).len(), done);
    optimize(&hosts[1], &[]).ok();
}

#[test]
fn when_the_host_dies_that_cares_another_one_does_in_the_same_window() {
    let (etcd, server) = (Etcd::start(), Postgres::start(""));
    fill(&server);
    let folder = tempfile::tempdir().unwrap();
    let pause = folder.path().join("pause");
    let hosts = ["a", "b"].map(|name| {
        let mut agent = host(name, &etcd, &server);
        if name == "a" {
            let point = format!("database.after-vacuum:{}", pause.display());
            agent.environment("GENESIS_PAUSE", &point);
        }
        agent.start();
        back_up(&agent);
        agent.ctl(&["schedule", "pause", "database.care"]).ok();
        agent
    });
    std::fs::write(&pause, "").unwrap();
    // It is tried again after a sixth of the window.
    let open = now().strftime("%H:%M").to_string();
    let window = "window = \"120s\"";
    for agent in &hosts {
        let text = of_fleet(&etcd.endpoints(), LEASE) + &config(&server, window);
        agent.configure(&text.replace("\"never\"", &format!("\"{open}\"")));
        agent.ctl(&["config", "reload"]).ok();
    }
    let job = |agent: &TestAgent| agent.ctl_command(&["schedule", "run", "database.care"]).spawn();
    let [mut a, b] = hosts;
    let mut first = job(&a).unwrap();
    let reached = folder.path().join("pause.reached");
    wait_until("the middle of a care", || reached.exists());
    let mut second = job(&b).unwrap();
    // b waits for its turn, and what a has begun is never ended.
    a.kill();
    let cares = |agent: &TestAgent| {
        let said = agent.ctl(&["db", "history", "-o", "json"]).ok().response();
        said["care"].as_array().map_or(0, Vec::len)
    };
    wait_until_within(Duration::from_secs(60), "b's care", || {
        cares(&b) > 0 && last(&b)["outcome"] == "CARE_OUTCOME_DONE"
    });
    for child in [&mut first, &mut second] {
        let _ = child.kill();
        let _ = child.wait();
    }
    // What was left is cleared up in a's own turn, and not beside somebody's.
    std::fs::remove_file(&pause).unwrap();
    a.start();
    optimize(&a, &[]).ok();
}
