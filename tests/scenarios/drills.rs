//! Drills with the real agent: what they show, and that nothing that is in use is touched.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use genesis_tests::TestAgent;
use genesis_tests::backups::{Open, flip};
use genesis_tests::clock::{wait_for, wait_until, wait_until_within};
use genesis_tests::paper::PaperVenue;
use genesis_tests::postgres::Postgres;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tempfile::TempDir;

use genesis_tests::wall_clock::WallClock;

fn book() -> Value {
    json!({ "venues": {
        "alpha": { "positions": { "BTC-PERP": "3" } },
        "beta": { "positions": { "ETH-PERP": "-20" } },
    }})
}

fn venue() -> (TempDir, PaperVenue) {
    let folder = tempfile::tempdir().unwrap();
    let venue = PaperVenue::start(folder.path(), book());
    (folder, venue)
}

fn key(name: &str, venue: &PaperVenue) -> String {
    format!("{name} = {{ grpc = {:?}, timeout = \"500ms\" }}\n", venue.target())
}

fn report(agent: &TestAgent) -> Value {
    agent.ctl(&["drill", "report", "-o", "json"]).ok().response()["report"].clone()
}

/// A report's steps: what each is called, and how it went.
fn steps(report: &Value) -> Vec<(&str, &str)> {
    let each = report["steps"].as_array().unwrap().iter();
    each.map(|it| (it["name"].as_str().unwrap(), it["outcome"].as_str().unwrap())).collect()
}

/// The entries of the operation log of an action: what each is about, and its outcome.
fn entries(agent: &TestAgent, action: &str) -> Vec<(String, String)> {
    let list = ["oplog", "list", "--action", action, "-o", "json"];
    let shown = agent.ctl(&list).ok().response();
    let each = shown["entries"].as_array().unwrap().iter();
    let text = |it: &Value, key: &str| it[key].as_str().unwrap().to_owned();
    each.map(|it| (text(it, "target"), text(it, "outcome"))).collect()
}

/// What drills have left in their folder.
pub(crate) fn left(agent: &TestAgent) -> usize {
    fs::read_dir(agent.state().join("drills")).map_or(0, Iterator::count)
}

#[test]
fn an_emergency_is_practised_and_trading_is_not_touched() {
    let (_folder, control) = venue();
    let agent = TestAgent::started(|_| format!("[trading]\n{}", key("control", &control)));
    let epoch = |agent: &TestAgent| {
        agent.ctl(&["emergency", "status", "-o", "json"]).ok().response()["emergency"].clone()
    };
    let (calls, before, kept) = (control.calls(""), epoch(&agent), control.book());
    agent.ctl(&["drill", "list"]).ok().says(&["emergency", "DUE", "restore", "rollback:config"]);
    let plan = agent.ctl(&["drill", "run", "emergency", "--plan"]).ok();
    plan.says(&["a paper venue within the agent", "declare", "release"]);
    let done = agent.ctl(&["drill", "run", "emergency", "--reason", "the quarter"]).ok();
    done.says(&["SUCCEEDED", "emergency passed, RTO"]);
    let shown = report(&agent);
    assert_eq!((&shown["drill"], &shown["outcome"]), (&json!("emergency"), &json!("TRUTH_PASS")));
    let names: Vec<&str> =
        shown["steps"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["declare", "halt", "close", "witness", "release"], "{shown}");
    agent.ctl(&["drill", "report"]).ok().says(&["PASSED", "RTO", "FLAT: 2 venues"]);
    agent.ctl(&["drill", "list"]).ok().says(&["CURRENT", "PASS"]);
    let page = agent.folder().join("drill.md");
    let out = ["drill", "report", "last", "--format", "markdown", "--out", page.to_str().unwrap()];
    agent.ctl(&out).ok();
    assert!(fs::read_to_string(page).unwrap().contains("| release | PASS |"));
    // Its own emergency, its flag and its venue are untouched.
    assert_eq!((control.calls(""), control.book()), (calls, kept));
    assert_eq!(epoch(&agent), before);
    assert!(!agent.state().join("EMERGENCY").exists());
    assert_eq!(entries(&agent, "drill.done"), [("emergency".to_owned(), "ok".to_owned())]);
    assert_eq!(entries(&agent, "emergency.activated"), []);
    assert_eq!(entries(&agent, "trading."), [], "its course is none of the host's");
    assert_eq!(left(&agent), 0);
    agent.ctl(&["drill", "run", "fire"]).exits(1).says(&["DRILL_NOT_FOUND", "rollback"]);
    agent.ctl(&["drill", "run", "rollback:nothing"]).exits(1).says(&["DRILL_NOT_FOUND"]);
    agent.ctl(&["drill", "report", "01J0"]).exits(1).says(&["DRILL_NOT_FOUND"]);
    agent.ctl(&["emergency", "activate", "--reason", "in earnest"]).ok();
    agent.ctl(&["drill", "run", "emergency"]).exits(4).says(&["EMERGENCY"]);
}

#[test]
fn a_sandbox_that_hangs_is_what_the_drill_names() {
    let (_folder, sandbox) = venue();
    sandbox.faults(json!([{ "venue": "beta", "call": "*", "kind": "hang" }]));
    let agent = TestAgent::started(|_| {
        format!("[trading]\nclose_within = \"6s\"\n{}", key("sandbox", &sandbox))
    });
    let failed = agent.ctl(&["drill", "run", "emergency"]).exits(1);
    failed.says(&["DRILL_DEVIATED", "FLAT_UNPROVEN", "beta"]);
    let shown = report(&agent);
    assert_eq!((&shown["outcome"], &shown["rto"]), (&json!("TRUTH_FAIL"), &Value::Null));
    assert!(shown["deviations"][0].as_str().unwrap().contains("beta"), "{shown}");
    agent.ctl(&["drill", "list"]).ok().says(&["DUE", "FAIL"]);
    let told = entries(&agent, "drill.done");
    assert_eq!(told, [("emergency".to_owned(), "DRILL_DEVIATED".to_owned())]);
    // The next one takes the sandbox up again.
    sandbox.no_faults();
    agent.ctl(&["drill", "run", "emergency"]).ok().says(&["passed, RTO"]);
    assert!(sandbox.is_flat());
    assert_eq!(sandbox.book()["halted"], false);
    // Where nothing was to be closed, that is said.
    agent.ctl(&["drill", "run", "emergency"]).ok().says(&["passed, RTO", "nothing was closed"]);
}

#[test]
fn a_sandbox_that_is_the_real_thing_by_another_name_is_not_drilled() {
    let (folder, real) = venue();
    let other_name = folder.path().join("other.sock");
    std::os::unix::fs::symlink(real.target().trim_start_matches("unix:"), &other_name).unwrap();
    let agent = TestAgent::started(|_| {
        let sandbox = format!("sandbox = {{ grpc = \"unix:{}\" }}\n", other_name.display());
        format!("[trading]\n{}{sandbox}", key("control", &real))
    });
    let refused = agent.ctl(&["drill", "run", "emergency"]);
    refused.exits(4).says(&["SANDBOX_IS_CONTROL"]);
    agent.ctl(&["drill", "report"]).ok().says(&[
        "UNKNOWN",
        "INTERRUPTED",
        "the same place as control",
    ]);
    let checked = agent.ctl(&["config", "check"]).exits(3);
    checked.says(&["trading.sandbox", "the same socket as control"]);
    assert!(real.calls("").is_empty(), "{:?}", real.calls(""));
    assert!(!real.is_flat());
}

#[test]
fn the_newest_backup_is_restored_and_a_missing_one_is_a_deviation() {
    let agent = TestAgent::started(|_| String::new());
    let without = agent.ctl(&["drill", "run", "restore"]).exits(1);
    without.says(&["DRILL_DEVIATED", "there is no backup to restore from"]);
    agent.ctl(&["backup", "run", "agent"]).ok();
    agent.ctl(&["drill", "run", "restore"]).ok().says(&["restore passed, RTO"]);
    agent.ctl(&["drill", "report"]).ok().says(&["restore agent", "PASS"]);
    agent.ctl(&["drill", "run", "restore:nothing"]).exits(1).says(&["DRILL_NOT_FOUND"]);
}

#[test]
fn a_rollback_of_the_configuration_is_practised_on_a_copy() {
    let with = |name: &str| {
        format!("[recovery]\nknown_good_after = \"0s\"\n[contacts]\non_call = {name:?}\n")
    };
    let agent = TestAgent::started(|_| with("one"));
    let early = agent.ctl(&["drill", "run", "rollback:config"]).exits(5);
    early.says(&["nothing to go back to yet"]);
    let told = entries(&agent, "drill.done");
    assert_eq!(told, [("rollback:config".to_owned(), "unknown".to_owned())]);
    agent.configure(&with("two"));
    agent.ctl(&["config", "reload"]).ok();
    let before = fs::read(agent.config()).unwrap();
    agent.ctl(&["drill", "run", "rollback:config"]).ok().says(&["rollback:config passed"]);
    agent.ctl(&["drill", "report"]).ok().says(&["from 2 to 1", "on a copy"]);
    assert_eq!(fs::read(agent.config()).unwrap(), before);
    let points = agent.ctl(&["rollback", "points", "--component", "config"]).ok().text();
    assert!(!points.contains("drill"), "{points}");
    agent.ctl(&["drill", "run", "rollback:certificate:none"]).exits(1).says(&["DRILL_NOT_FOUND"]);
    assert_eq!(left(&agent), 0);
}

#[test]
fn a_drill_that_a_crash_cuts_off_leaves_nothing() {
    let mut agent = TestAgent::new(|_| String::new());
    agent.start_with_failpoint("step.close", 1);
    agent.wait_ready();
    agent.ctl(&["drill", "run", "emergency", "--detach"]).ok();
    agent.wait_killed();
    assert_eq!(left(&agent), 1, "it was in the middle");
    agent.start();
    assert_eq!(left(&agent), 0);
    let shown = agent.ctl(&["run", "show", "last"]).text();
    assert!(shown.contains("recovery.drill INTERRUPTED"), "{shown}");
    assert!(shown.contains("nothing that is in use was touched"), "{shown}");
    agent.ctl(&["emergency", "status"]).ok().says(&["no emergency is in force"]);
    agent.ctl(&["drill", "run", "emergency"]).ok();
}

#[test]
fn in_staging_an_emergency_goes_to_the_sandbox() {
    let ((_one, control), (_other, sandbox)) = (venue(), venue());
    let trading = format!("[trading]\n{}", key("control", &control));
    let staging = "[agent]\nenvironment = \"staging\"\n";
    let mut agent = TestAgent::new(|_| format!("{staging}{trading}"));
    let refused = agent.try_start().unwrap_err();
    let why = format!("{refused:?}");
    assert!(why.contains("trading.sandbox") && why.contains("staging"), "{why}");
    agent.configure(&format!("{trading}{}", key("sandbox", &control)));
    let same = format!("{:?}", agent.try_start().unwrap_err());
    assert!(same.contains("would close real positions"), "{same}");
    agent.configure(&format!("{staging}{trading}{}", key("sandbox", &sandbox)));
    agent.start();
    agent.ctl(&["emergency", "status"]).ok().says(&["STAGING"]);
    // A drill before does not keep the sandbox from obeying the emergency itself.
    agent.ctl(&["drill", "run", "emergency"]).ok();
    agent.ctl(&["emergency", "halt", "--reason", "practice"]).ok().says(&["STAGING", "halted"]);
    wait_until("the sandbox is halted", || sandbox.book()["halted"] == true);
    agent.ctl(&["emergency", "status"]).exits(3).says(&["STAGING"]);
    assert_eq!(control.calls(""), Vec::<Value>::new());
}

#[test]
fn what_can_only_be_planned_proves_nothing() {
    let agent = TestAgent::started(|_| "[recovery]\nknown_good_after = \"0s\"\n".to_owned());
    for value in ["size=1", "size=2"] {
        agent.ctl(&["param", "set", "--strategy", "mm", value, "--reason", "r"]).ok();
    }
    let drill = ["drill", "run", "rollback:parameter:mm.size"];
    agent.ctl(&[&drill[..], &["--plan"]].concat()).ok().says(&["only, which proves nothing"]);
    agent.ctl(&drill).exits(5).says(&["UNKNOWN", "proves nothing", "planned only"]);
    let shown = report(&agent);
    assert_eq!((&shown["outcome"], &shown["rto"]), (&json!("TRUTH_UNKNOWN"), &Value::Null));
    let expected = [("choose", "TRUTH_PASS"), ("plan", "TRUTH_PASS"), ("apply", "TRUTH_UNKNOWN")];
    assert_eq!(steps(&shown), expected, "{shown}");
    let row = agent.ctl(&["drill", "list"]).ok().text();
    let row = row.lines().find(|line| line.contains("parameter:mm.size")).unwrap();
    assert!(row.contains("UNKNOWN") && !row.contains("PASS"), "{row}");
    let database = agent.ctl(&["drill", "run", "rollback:database:x"]).exits(1);
    database.says(&["DRILL_NOT_FOUND", "restore:x"]);
}

#[test]
fn a_rollback_of_the_agents_own_state_is_practised_on_a_copy() {
    let agent = TestAgent::started(|_| String::new());
    let without = agent.ctl(&["drill", "run", "rollback:state"]).exits(5);
    without.says(&["nothing to go back to yet"]);
    agent.ctl(&["backup", "run", "agent"]).ok();
    let backup = agent.newest_backup("agent");
    let files = || {
        let each = fs::read_dir(agent.state()).unwrap().flatten();
        let mut names: Vec<_> = each.map(|it| it.file_name().into_string().unwrap()).collect();
        names.retain(|name| name.starts_with("state."));
        names.sort();
        names
    };
    let before = files();
    agent.ctl(&["drill", "run", "rollback:state", "--plan"]).ok().says(&[&backup.id, "to a copy"]);
    agent
        .ctl(&["drill", "run", "rollback:state"])
        .ok()
        .says(&["rollback:state passed, RTO", "RPO"]);
    let shown = report(&agent);
    let expected = [("choose", "TRUTH_PASS"), ("plan", "TRUTH_PASS"), ("apply", "TRUTH_PASS")];
    assert_eq!(steps(&shown), expected, "{shown}");
    let seen = shown["steps"][2]["detail"].as_str().unwrap();
    assert!(seen.contains(&format!("{} took the place", backup.id)), "{seen}");
    let entry = |before: &str| -> u64 {
        let (_, rest) = seen.split_once(before).unwrap_or_else(|| panic!("{before}: {seen}"));
        rest.split(|it: char| !it.is_ascii_digit()).next().unwrap().parse().unwrap()
    };
    let (then, now) = (entry("went from entry "), entry(" to "));
    assert!(0 < then && then < now, "{seen}");
    // What runs is as it was, and nothing waits to take its place.
    assert_eq!((files(), left(&agent)), (before, 0));
    assert_eq!(entries(&agent, "state."), []);
    assert_eq!(entries(&agent, "rollback"), []);
    // Of a backup that is broken it is the drill that says so.
    for file in fs::read_dir(&backup.place).unwrap().flatten().map(|it| it.path()) {
        if file.extension().is_some_and(|it| it != "json") {
            flip(&file);
        }
    }
    let failed = agent.ctl(&["drill", "run", "rollback:state"]).exits(1);
    failed.says(&["DRILL_DEVIATED", "is not sound"]);
    assert_eq!(left(&agent), 0);
}

#[test]
fn the_job_does_what_is_due_and_proves_no_more_than_its_drills() {
    let with = |name: &str| {
        format!(
            "[recovery]\nknown_good_after = \"30d\"\ndrills = [\"rollback:config\"]\n[contacts]\non_call = {name:?}\n"
        )
    };
    let agent = TestAgent::started(|_| with("one"));
    agent.ctl(&["schedule", "run", "recovery.drills"]).ok().says(&["no drill is due"]);
    agent.configure(&with("two"));
    agent.ctl(&["config", "reload"]).ok();
    // There is a configuration to go back to, and it is not known to be good yet.
    let unknown = agent.ctl(&["schedule", "run", "recovery.drills"]).exits(5);
    unknown.says(&["UNKNOWN", "rollback:config proves nothing"]);
}

#[test]
fn a_sandbox_that_does_not_go_on_is_taken_up_by_the_next_drill() {
    let (_folder, sandbox) = venue();
    sandbox.faults(json!([{ "call": "Resume", "kind": "fail" }]));
    let agent = TestAgent::started(|_| format!("[trading]\n{}", key("sandbox", &sandbox)));
    let failed = agent.ctl(&["drill", "run", "emergency"]).exits(1);
    failed.says(&["DRILL_DEVIATED", "it has not gone on"]);
    assert_eq!((sandbox.book()["halted"].clone(), left(&agent)), (json!(true), 1));
    sandbox.no_faults();
    agent.ctl(&["drill", "run", "emergency"]).ok();
    assert_eq!((sandbox.book()["halted"].clone(), left(&agent)), (json!(false), 0));
}

#[test]
fn a_clock_that_was_set_back_keeps_no_drill_from_its_sandbox() {
    let (_folder, sandbox) = venue();
    let mut agent = TestAgent::new(|_| format!("[trading]\n{}", key("sandbox", &sandbox)));
    let clock = WallClock::of(&mut agent);
    agent.start();
    clock.ahead(SignedDuration::from_hours(1));
    agent.ctl(&["drill", "run", "emergency"]).ok();
    let number = || sandbox.book()["epoch"].as_u64().unwrap();
    clock.ahead(SignedDuration::ZERO);
    for _ in 0..2 {
        let before = number();
        agent.ctl(&["drill", "run", "emergency"]).ok();
        assert!(number() > before);
        assert_eq!((sandbox.book()["halted"].clone(), left(&agent)), (json!(false), 0));
    }
}

#[test]
fn a_configuration_that_never_changed_is_not_overdue() {
    // No job comes in between.
    let recovery = "drills = [\"rollback:config\"]\ndrill_schedule = \"0 0 29 2 *\"\n";
    let with = |name: &str| {
        format!("[recovery]\nknown_good_after = \"0s\"\n{recovery}[contacts]\non_call = {name:?}\n")
    };
    let mut agent = TestAgent::new(|_| with("one"));
    let clock = WallClock::of(&mut agent);
    agent.start();
    let overdue = || {
        let page = genesis_tests::http::get(agent.http(), "/metrics").1;
        let of = |line: &&str| line.starts_with("genesis_recovery_drill_overdue{");
        page.lines().find(of).and_then(|line| line.rsplit(' ').next()).unwrap().to_owned()
    };
    clock.ahead(SignedDuration::from_hours(24 * 100));
    let list = agent.ctl(&["drill", "list"]).ok();
    list.says(&["rollback:config", "N/A", "has never changed"]);
    assert_eq!(overdue(), "0");
    agent.configure(&with("two"));
    agent.ctl(&["config", "reload"]).ok();
    // From then on there is something to practise, and time to do it.
    agent.ctl(&["drill", "list"]).ok().says(&["rollback:config", "DUE"]);
    clock.ahead(SignedDuration::from_hours(24 * 191));
    agent.ctl(&["drill", "list"]).ok().says(&["DUE"]);
    clock.ahead(SignedDuration::from_hours(24 * 193));
    agent.ctl(&["drill", "list"]).exits(3).says(&["OVERDUE"]);
    assert_eq!(overdue(), "1");
    let alerts = || agent.ctl(&["alerts", "list"]).text();
    wait_until("people hear of it", || alerts().contains("drill rollback:config has not passed"));
    agent.ctl(&["drill", "run", "rollback:config"]).ok();
    agent.ctl(&["drill", "list"]).ok().says(&["CURRENT"]);
    assert_eq!(overdue(), "0");
}

#[test]
fn a_killed_drill_is_told_as_interrupted_and_gives_the_sandbox_back() {
    let (_folder, mut sandbox) = venue();
    let mut agent = TestAgent::new(|_| {
        let drills = "[recovery]\ndrills = [\"restore\", \"emergency\"]\n";
        format!("{drills}[trading]\n{}", key("sandbox", &sandbox))
    });
    agent.start_with_failpoint("step.close", 1);
    agent.wait_ready();
    agent.ctl(&["backup", "run", "agent"]).ok();
    // The job does the restore first.
    agent.ctl(&["schedule", "run", "recovery.drills", "--detach"]).ok();
    agent.wait_killed();
    assert_eq!(sandbox.book()["halted"], true);
    sandbox.kill();
    // Nobody waits for a sandbox that does not answer.
    agent.start();
    let shown = report(&agent);
    assert_eq!((&shown["drill"], &shown["rto"]), (&json!("emergency"), &Value::Null), "{shown}");
    assert_eq!(shown["outcome"], "TRUTH_UNKNOWN");
    let expected = [("declare", "TRUTH_PASS"), ("halt", "TRUTH_PASS"), ("close", "TRUTH_UNKNOWN")];
    assert_eq!(steps(&shown), expected, "{shown}");
    agent.ctl(&["drill", "report"]).ok().says(&[
        "UNKNOWN",
        "INTERRUPTED in close",
        "the agent stopped",
    ]);
    agent.ctl(&["drill", "list"]).ok().says(&["emergency", "UNKNOWN", "restore", "PASS"]);
    let interrupted = [("emergency".to_owned(), "RUN_INTERRUPTED".to_owned())];
    assert_eq!(entries(&agent, "drill.interrupted"), interrupted);
    wait_until("it is begun", || {
        entries(&agent, "drill.give-back") == [(sandbox.target(), "intent".to_owned())]
    });
    sandbox.start_again();
    wait_until_within(Duration::from_secs(90), "the sandbox goes on", || {
        sandbox.book()["halted"] == false
    });
    wait_until("it is written down", || {
        entries(&agent, "drill.given-back") == [(sandbox.target(), "ok".to_owned())]
    });
    assert_eq!(left(&agent), 0);
    // Once is enough.
    agent.restart();
    assert_eq!(entries(&agent, "drill.give-back").len(), 1);
    assert_eq!(entries(&agent, "drill.interrupted").len(), 1);
    agent.ctl(&["drill", "run", "emergency"]).ok().says(&["passed, RTO"]);
}

#[test]
fn a_drill_that_is_cancelled_gives_the_sandbox_back() {
    let (_folder, sandbox) = venue();
    sandbox.faults(json!([{ "venue": "beta", "call": "*", "kind": "hang" }]));
    let agent = TestAgent::started(|_| format!("[trading]\n{}", key("sandbox", &sandbox)));
    agent.ctl(&["drill", "run", "emergency", "--detach"]).ok();
    wait_until("it closes", || agent.ctl(&["run", "show", "last"]).text().contains("close"));
    assert_eq!(sandbox.book()["halted"], true);
    agent.ctl(&["run", "cancel", "last", "--reason", "wrong host"]).ok();
    let ended = wait_for("it has ended", || {
        let shown = agent.ctl(&["run", "show", "last"]).text();
        shown.contains("CANCELLED").then_some(shown)
    });
    assert!(ended.contains("recovery.drill"), "{ended}");
    assert_eq!(sandbox.book()["halted"], false);
    let shown = report(&agent);
    assert_eq!((&shown["outcome"], &shown["rto"]), (&json!("TRUTH_UNKNOWN"), &Value::Null));
    assert!(shown["deviations"][0].as_str().unwrap().contains("INTERRUPTED in close"), "{shown}");
    assert_eq!(entries(&agent, "drill.done"), [("emergency".to_owned(), "CANCELLED".to_owned())]);
    assert_eq!(left(&agent), 0);
}

/// A span of protobuf's JSON, in milliseconds.
fn milliseconds(span: &Value) -> f64 {
    span.as_str().unwrap().trim_end_matches('s').parse::<f64>().unwrap() * 1_000.0
}

#[test]
fn a_real_postgresql_is_restored_asked_and_told_with_rto_and_rpo() {
    let (server, open) = (Postgres::start(""), Open::new());
    server.sql("postgres", "CREATE TABLE trades AS SELECT generate_series(1, 5000) AS id");
    let scratch = open.join("s");
    let config = |tool: &str| {
        format!(
            "[backup]\nscratch = {scratch:?}\n[[database.instance]]\nname = \"trades\"\nurl = {:?}\n\
             [[backup.source]]\nname = \"trades\"\n{tool}",
            server.url("postgres")
        )
    };
    let asked = "row_counts = [\"trades\"]\n[[backup.source.query]]\nname = \"highest\"\n\
                 sql = \"SELECT max(id) FROM trades\"\nexpect = \"5000\"\n";
    let mut agent = TestAgent::started(|_| config(asked));
    let without = agent.ctl(&["drill", "run", "restore:trades"]).exits(1);
    without.says(&["there is no backup to restore from"]);
    let (_, backup) = agent.backup("trades");
    // What came since is what would be lost; the drill asks the backup, and not the database.
    server.sql("postgres", "INSERT INTO trades VALUES (5001)");
    agent.ctl(&["drill", "run", "restore:trades"]).ok().says(&["passed, RTO", "RPO"]);
    let shown = report(&agent);
    assert_eq!(steps(&shown), [("restore trades", "TRUTH_PASS")], "{shown}");
    let seen = shown["steps"][0]["detail"].as_str().unwrap();
    for said in [backup.id.as_str(), "L3", "1 queries and 1 row counts are right"] {
        assert!(seen.contains(said), "{said}: {seen}");
    }
    let time = |key: &str| shown[key].as_str().unwrap().parse::<Timestamp>().unwrap();
    let made = backup.started_at.unwrap();
    let made = Timestamp::new(made.seconds, made.nanos).unwrap();
    let age = |at: Timestamp| at.duration_since(made).as_millis() as f64;
    let lost = milliseconds(&shown["rpo"]);
    assert!((age(time("startedAt")) - 2.0..=age(time("endedAt"))).contains(&lost), "{shown}");
    let took = time("endedAt").duration_since(time("startedAt")).as_millis() as f64;
    let rto = milliseconds(&shown["rto"]);
    let step = milliseconds(&shown["steps"][0]["took"]);
    assert!(rto >= step && rto <= took + 2.0 && step > 0.0, "{shown}");
    agent.ctl(&["drill", "report"]).ok().says(&["would have been lost (RPO)"]);
    agent.assert_nothing_left(&scratch);
    assert_eq!(server.sql("postgres", "SELECT count(*) FROM trades"), "5001");
    assert!(agent.newest_backup("trades").verified_at.is_some(), "it is proven by that as well");

    // What the backup answers wrongly is the drill's to find.
    agent.configure(&config(&asked.replace("expect = \"5000\"", "expect = \"5001\"")));
    agent.ctl(&["config", "reload"]).ok();
    agent.ctl(&["drill", "run", "restore:trades"]).exits(1).says(&["DRILL_DEVIATED", "highest"]);
    let shown = report(&agent);
    assert_eq!((&shown["rto"], &shown["rpo"]), (&Value::Null, &Value::Null), "{shown}");
    agent.assert_nothing_left(&scratch);

    // A tool whose backups the agent restores nowhere lists one: that is no restore.
    let system = server.sql("postgres", "SELECT system_identifier FROM pg_control_system()");
    let tool = open.join("wal-g");
    let list = json!([{
        "backup_name": "base_000000010000000000000004", "start_time": "2026-01-01T01:00:00Z",
        "finish_time": "2026-01-01T01:01:00Z", "system_identifier": system.parse::<u64>().unwrap(),
    }]);
    fs::write(&tool, format!("#!/bin/sh\necho '{list}'\n")).unwrap();
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
    agent.configure(&config(&format!("tool = \"wal-g\"\ncommand = [{tool:?}]\n")));
    agent.restart();
    let listed = agent.ctl(&["drill", "run", "restore:trades"]).exits(5);
    listed.says(&["UNKNOWN", "not restored"]);
    assert_eq!(report(&agent)["rto"], Value::Null);
    let unfit = format!(
        "[recovery]\ndrills = [\"restore:trades\"]\n{}",
        fs::read_to_string(agent.config()).unwrap()
    );
    let file = agent.folder().join("unfit.toml");
    fs::write(&file, unfit).unwrap();
    let checked = agent.ctl(&["config", "check", file.to_str().unwrap()]);
    checked.exits(3).says(&["recovery.drills", "restore:agent"]);
}
