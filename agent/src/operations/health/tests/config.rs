//! `[[health.check]]`: what is taken, and what is refused with what would be right.

use std::time::Duration;

use crate::config::{Config as AgentConfig, Places};
use crate::operations::health::check::{Check, Means};
use crate::outside::probes::Probe;

fn parse(text: &str) -> Result<Vec<Check>, Vec<String>> {
    let places = Places { state: "/s".into(), socket: "/s/agent.sock".into() };
    let checked = AgentConfig::parse(text, "test", &places);
    let problems = checked.problems.iter().map(ToString::to_string).collect();
    checked.config.map(|config| config.health.checks).ok_or(problems)
}

fn one(keys: &str) -> Result<Vec<Check>, Vec<String>> {
    parse(&format!("[[health.check]]\nid = \"it\"\n{keys}\n"))
}

#[test]
fn the_defaults_are_those_of_the_procedures() {
    let checks =
        one("probe = \"memory-cgroup\"\ntarget = \"/g\"\naction = { command = [\"gc\"] }").unwrap();
    let check = &checks[0];
    assert_eq!(check.row.name, "memory-leak");
    assert_eq!(
        (check.policy.interval, check.timeout),
        (Duration::from_secs(30), Duration::from_secs(5))
    );
    assert_eq!((check.policy.hold, check.policy.looks), (Duration::ZERO, 2));
    assert_eq!(check.policy.settle, Duration::from_secs(60));
    assert_eq!(check.policy.escalate_after, Duration::from_secs(900));
    assert_eq!((check.limits.crit, check.limits.clear), (Some(85.0), Some(75.0)));
    let deed = check.action.as_ref().unwrap();
    assert_eq!(deed.action.name, "clear-memory");
    assert!(!deed.action.trade_touching && !deed.action.goes_on);
    let deep = one("probe = \"clock\"\nlevel = \"deep\"").unwrap();
    assert_eq!(deep[0].policy.interval, Duration::from_secs(300));
    assert_eq!(deep[0].policy.looks, 1);
    // Its own limit leaves no other one of the probe's in force.
    let own = one("probe = \"disk-bytes\"\ntarget = \"/\"\ncrit = \"50\"").unwrap();
    assert_eq!((own[0].limits.warn, own[0].limits.clear), (None, Some(55.0)));
    let room = one("probe = \"disk-inodes\"\ntarget = \"/\"\naction = \"make-room\"").unwrap();
    let deed = room[0].action.as_ref().unwrap();
    assert!(deed.action.goes_on && matches!(deed.means, Means::BuiltIn("make-room")));
    // A command of somebody's is not known to be harmless in an emergency.
    let own =
        one("probe = \"disk-bytes\"\ntarget = \"/\"\naction = { command = [\"rm\"] }").unwrap();
    assert!(!own[0].action.as_ref().unwrap().action.goes_on);
}

#[test]
fn what_is_wrong_is_said_with_what_would_be_right() {
    for (keys, expected) in [
        ("probe = \"disk\"\ntarget = \"/\"", "is not one of those"),
        ("probe = \"disk-bytes\"\ntarget = \"data\"", "absolute path"),
        ("probe = \"tcp\"\ntarget = \"host\"", "host:port"),
        ("probe = \"http\"\ntarget = \"ftp://x\"", "http://"),
        (
            "probe = \"http\"\ntarget = \"http://u:hunter2@x/\"",
            "must not hold a user or a password",
        ),
        ("probe = \"queue-command\"\ncrit = \"1\"", "is needed"),
        ("probe = \"queue-command\"\ncommand = [\"x\"]", "say beyond what it is critical"),
        ("probe = \"queue-scrape\"\ntarget = \"http://x/\"\ncrit = \"1\"", "metric"),
        ("probe = \"process\"", "pidfile"),
        ("probe = \"secrets\"", "absolute paths"),
        ("probe = \"load\"\ninterval = \"1s\"\ntimeout = \"1s\"", "less than the interval"),
        ("probe = \"load\"\ninterval = \"1ms\"", "outside"),
        ("probe = \"load\"\ncrit = \"much\"", "is no number"),
        ("probe = \"load\"\ncrit = \"NaN\"", "is no number"),
        ("probe = \"load\"\ncrit = \"10\"\nclear = \"20\"", "beyond crit"),
        ("probe = \"load\"\ncrit = \"10\"\nworse = \"down\"", "neither above nor below"),
        ("probe = \"load\"\nrow = \"disk\"", "is not one of connection-pool"),
        ("probe = \"load\"\nseverity = \"bad\"", "low, medium, high, critical"),
        ("probe = \"load\"\naction = \"make-room\"", "disk-bytes and disk-inodes"),
        ("probe = \"load\"\naction = \"restart\"", "nor a table"),
        ("probe = \"load\"\naction = { command = [] }", "the program and its arguments"),
        ("probe = \"load\"\naction = { signal = \"KILL\", pidfile = \"/p\" }", "HUP, USR1, USR2"),
        ("probe = \"load\"\naction = { http = \"gopher://x\" }", "http://"),
        ("probe = \"load\"\nactoin = \"make-room\"", "did you mean \"action\"?"),
        ("probe = \"load\"\ntrade_touching = \"maybe\"", "neither yes nor no"),
    ] {
        let problems = one(keys).expect_err(keys);
        assert!(problems.iter().any(|problem| problem.contains(expected)), "{keys}: {problems:?}");
        assert!(problems.iter().all(|problem| !problem.contains("hunter2")), "{problems:?}");
    }
    let problems = parse("[[health.check]]\nprobe = \"x\"\ncrit = \"y\"\n").unwrap_err();
    assert!(problems.len() >= 3, "all at once: {problems:?}");
}

#[test]
fn ids_are_unique_and_dependencies_make_no_ring() {
    let check = |id: &str, on: &str| {
        format!("[[health.check]]\nid = {id:?}\nprobe = \"load\"\ndepends_on = [{on}]\n")
    };
    let twice = parse(&(check("a", "") + &check("a", ""))).unwrap_err();
    assert!(twice.join("").contains("used by another check"), "{twice:?}");
    // Also where another thing is wrong with both of them.
    let bad = check("a", "").replace("load", "lode");
    let both = parse(&(bad.clone() + &bad)).unwrap_err();
    assert!(both.join("").contains("used by another check"), "{both:?}");
    let ring = parse(&(check("a", "\"b\"") + &check("b", "\"a\""))).unwrap_err();
    assert!(ring.join("").contains("ring"), "{ring:?}");
    parse(&(check("a", "\"b\"") + &check("b", ""))).unwrap();
    assert!(parse(&check("a b", "")).is_err());
    let typo = parse(&(check("api", "\"orders-bd\"") + &check("orders-db", ""))).unwrap_err();
    assert_eq!(typo.len(), 1, "{typo:?}");
    assert!(typo[0].contains("there is no check \"orders-bd\"; the nearest is \"orders-db\""));
    // One that is wrong otherwise is there all the same.
    let wrong =
        parse(&(check("a", "\"b\"") + &check("b", "").replace("load", "lode"))).unwrap_err();
    assert!(!wrong.join("").contains("there is no check"), "{wrong:?}");
    // Built-in ones may be named, where there are any.
    for built_in in ["memory", "load", "agent", "clock", "secrets", "disk:/", "inodes:/var"] {
        let text = check("a", &format!("{built_in:?}"));
        parse(&text).expect(built_in);
        let off = parse(&format!("[health]\ndefaults = false\n{text}")).expect_err(built_in);
        assert!(off.join("").contains("there is no check"), "{off:?}");
    }
    parse(&check("a", "\"disk:data\"")).unwrap_err();
}

#[test]
fn databases_are_meant_by_name() {
    let databases = "[[database.instance]]\nname = \"trades\"\nurl = \"postgres://h/trades\"\n\
                     backup_min_level = \"L2\"\n\
                     [[database.instance]]\nname = \"local\"\nurl = \"sqlite:/x.db\"\n";
    let read = |keys: &str| parse(&format!("{databases}[[health.check]]\nid = \"it\"\n{keys}\n"));
    let pool = "probe = \"database-pool\"\ndatabase = \"trades\"\naction = \"reset-connections\"";
    let pool = read(pool).unwrap();
    assert_eq!((pool[0].row.name, pool[0].policy.looks), ("connection-pool", 2));
    assert_eq!((pool[0].limits.crit, pool[0].limits.clear), (Some(10.0), Some(20.0)));
    let deed = pool[0].action.as_ref().unwrap();
    assert!(deed.action.trade_touching && !deed.action.goes_on && !deed.action.destructive);
    let locks = "probe = \"database-blocked\"\ndatabase = \"trades\"\npatience = \"1m\"\naction = \"cancel-query\"";
    let locks = read(locks).unwrap();
    let probe = &locks[0].probe;
    assert!(matches!(probe, Probe::DatabaseBlocked { patience, .. } if patience.as_secs() == 60));
    assert!(locks[0].action.as_ref().unwrap().action.destructive);
    let backup = read("probe = \"backup-age\"\ndatabase = \"trades\"").unwrap();
    assert!(matches!(
        &backup[0].probe,
        Probe::BackupAge { level: genesis_storage::BackupLevel::Restored, .. }
    ));
    let own = parse("[[health.check]]\nid = \"it\"\nprobe = \"backup-age\"\ndatabase = \"agent\"");
    assert_eq!(own.unwrap()[0].target(), "agent");
    // A built-in check of a configured database can be depended on.
    let web = "probe = \"tcp\"\ntarget = \"h:1\"\ndepends_on = [\"locks:trades\"]";
    read(web).unwrap();
    for (keys, expected) in [
        ("probe = \"database-pool\"\ndatabase = \"trade\"", "the nearest is \"trades\""),
        ("probe = \"database-pool\"", "the nearest is"),
        ("probe = \"database-pool\"\ndatabase = \"local\"", "is no PostgreSQL"),
        ("probe = \"database-pooler\"\ndatabase = \"trades\"", "has no pgbouncer"),
        ("probe = \"database-size\"\ndatabase = \"trades\"", "is not one of those"),
        ("probe = \"queue-sql\"\ndatabase = \"local\"\ncrit = \"5\"", "sql: is needed"),
        ("probe = \"queue-sql\"\ndatabase = \"local\"\nsql = \"SELECT 1\"", "say beyond what"),
        (
            "probe = \"database-pool\"\ndatabase = \"trades\"\naction = \"cancel-query\"",
            "is for the probe database-blocked",
        ),
        ("probe = \"load\"\naction = \"reset-connections\"", "is for the probe database-pool"),
        ("probe = \"load\"\naction = \"reset\"", "is none of"),
        ("probe = \"load\"\ndepends_on = [\"locks:local\"]", "there is no check"),
    ] {
        let problems = read(keys).unwrap_err().join("; ");
        assert!(problems.contains(expected), "{keys}: {problems}");
    }
    let none = one("probe = \"database-pool\"\ndatabase = \"x\"").unwrap_err().join("; ");
    assert!(none.contains("there is no [[database.instance]]"), "{none}");
}
