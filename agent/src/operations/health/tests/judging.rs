//! What is measured is judged by limits, and the built-in checks see each file system once.

use std::path::{Path, PathBuf};

use super::host::watched;
use crate::config::{Config as AgentConfig, Places};
use crate::operations::health::check::{Limits, Worse};
use crate::operations::health::defaults::{Database, Watched, checks};
use crate::operations::health::life::Status;

#[test]
fn limits_have_a_good_side_and_an_issue_is_over_only_at_its_clear_value() {
    let above =
        Limits { worse: Worse::Above, warn: Some(75.0), crit: Some(85.0), clear: Some(75.0) };
    let below =
        Limits { worse: Worse::Below, warn: Some(15.0), crit: Some(10.0), clear: Some(15.0) };
    for (limits, value, open, expected) in [
        (above, 75.0, false, Status::Ok),
        (above, 75.1, false, Status::Warn),
        (above, 85.0, false, Status::Warn),
        (above, 85.1, false, Status::Crit),
        // Between the limits what is bad stays bad.
        (above, 80.0, true, Status::Crit),
        (above, 75.0, true, Status::Ok),
        (above, f64::INFINITY, false, Status::Crit),
        (above, f64::NAN, false, Status::Unknown),
        (above, f64::NAN, true, Status::Unknown),
        (below, 15.0, false, Status::Ok),
        (below, 14.9, false, Status::Warn),
        (below, 10.0, false, Status::Warn),
        (below, 9.9, false, Status::Crit),
        (below, 12.0, true, Status::Crit),
        (below, 15.0, true, Status::Ok),
        (below, -1.0, false, Status::Crit),
    ] {
        assert_eq!(limits.judge(value, open), expected, "{limits:?} {value} {open}");
    }
    let only_warns = Limits { worse: Worse::Above, warn: Some(1.0), crit: None, clear: None };
    assert_eq!(only_warns.judge(f64::INFINITY, false), Status::Warn);
    assert_eq!(
        (above.words("%"), only_warns.words("")),
        ("above 85 %".into(), "warns above 1".into())
    );
    let down = Limits { worse: Worse::Above, warn: None, crit: Some(f64::MAX), clear: None };
    assert_eq!(down.words("ms"), "down");
    assert_eq!(down.judge(f64::INFINITY, false), Status::Crit);
    assert_eq!(down.judge(1e9, false), Status::Ok);
}

fn parsed(text: &str) -> crate::operations::health::Config {
    let places = Places { state: "/s".into(), socket: "/s/agent.sock".into() };
    AgentConfig::parse(text, "test", &places).config.unwrap().health
}

#[cfg(feature = "etcd")]
#[test]
fn every_file_with_a_secret_is_watched() {
    let text = "
        [tls]
        certificate = '/c/tls.pem'
        key = '/c/tls.key'
        client_ca = '/c/ca.pem'
        [tracing]
        otlp_endpoint = 'https://otel.example:4317'
        otlp_headers_file = '/c/otlp-headers'
        [baselines]
        otlp_token_file = '/c/otlp-token'
        [logs.archive]
        url = 's3://logs'
        credentials_file = '/c/bucket'
        [alerts.channel.chat]
        kind = 'slack'
        secret_file = '/c/slack'
        [[database.instance]]
        name = 'trades'
        url = 'postgres://genesis@db.example/trades'
        password_file = '/c/pgpass'
        [fleet.etcd]
        endpoints = ['https://etcd:2379']
        certificate = '/c/etcd.pem'
        key = '/c/etcd.key'
        user = 'genesis'
        password_file = '/c/etcd-password'";
    let places = Places { state: "/s".into(), socket: "/s/agent.sock".into() };
    let checked = AgentConfig::parse(text, "test", &places);
    let config = checked.config.unwrap_or_else(|| panic!("{:?}", checked.problems));
    let mut secrets = Watched::of(&config, &places).secrets;
    secrets.sort();
    let wanted = [
        "/c/bucket",
        "/c/etcd-password",
        "/c/etcd.key",
        "/c/otlp-headers",
        "/c/otlp-token",
        "/c/pgpass",
        "/c/slack",
        "/c/tls.key",
        "/s/pki/ca.key",
        "/s/state.redb",
    ];
    assert_eq!(secrets, wanted.map(PathBuf::from));
}

#[test]
fn each_file_system_is_watched_once_and_room_is_made_where_copies_are() {
    let folders = ["/", "/state", "/archive", "/log", "/gone"].map(PathBuf::from).to_vec();
    let watched_folders = Watched {
        folders,
        copies: "/state/logs".into(),
        secrets: vec!["/key".into()],
        databases: Vec::new(),
    };
    let device = |path: &Path| match path.to_str().unwrap() {
        "/" | "/log" => Some(1),
        "/state" | "/state/logs" => Some(2),
        "/archive" => Some(3),
        _ => None,
    };
    let found = checks(&parsed(""), &watched_folders, device);
    let ids: Vec<&str> = found.iter().map(|check| check.id.as_str()).collect();
    assert_eq!(
        ids,
        [
            "disk:/",
            "inodes:/",
            "disk:/state",
            "inodes:/state",
            "disk:/archive",
            "inodes:/archive",
            "memory",
            "load",
            "agent",
            "clock",
            "secrets"
        ]
    );
    let armed: Vec<&str> = found
        .iter()
        .filter(|check| check.action.is_some())
        .map(|check| check.id.as_str())
        .collect();
    assert_eq!(armed, ["disk:/state", "inodes:/state"]);
    // A configured check takes the place of the built-in one of its name.
    let own = watched("disk:/", "crit = \"3\"");
    let found = checks(&parsed(&own), &watched_folders, device);
    let roots: Vec<_> = found.iter().filter(|check| check.id == "disk:/").collect();
    assert_eq!((roots.len(), roots[0].limit()), (1, "below 3 %".to_owned()));
    let none = checks(&parsed("[health]\ndefaults = false\n"), &watched_folders, device);
    assert!(none.is_empty());
}

#[test]
fn each_database_has_its_checks_below_the_one_whether_it_answers() {
    let database = |name: &str, postgres: bool, pooler: bool| Database {
        name: name.to_owned(),
        postgres,
        pooler,
        backup_max_age: std::time::Duration::from_secs(12 * 3_600),
        backup_level: genesis_storage::BackupLevel::Queried,
    };
    let databases = vec![database("main", true, true), database("local", false, false)];
    let watched = Watched { databases, ..Watched::default() };
    let found = checks(&parsed(""), &watched, |_| None);
    let told: Vec<(&str, &str, String, String)> = found
        .iter()
        .filter(|check| check.id.contains(':'))
        .map(|check| {
            let action = check.action.as_ref().map_or("", |deed| deed.action.name);
            (check.id.as_str(), action, check.limit(), check.depends_on.join(" "))
        })
        .collect();
    let row =
        |id, action, limit: &str, below: &str| (id, action, limit.to_owned(), below.to_owned());
    assert_eq!(
        told,
        [
            row("database:main", "", "down", ""),
            row("locks:main", "cancel-query", "above 0", "database:main"),
            row("pool:main", "reset-connections", "below 10 %", "locks:main database:main"),
            row("deadlocks:main", "", "warns above 0", "database:main"),
            row("pooler:main", "", "below 10 %", "database:main"),
            row("integrity:main", "", "above 0", "database:main"),
            row("backup:main", "", "above 12 h", "database:main"),
            row("database:local", "", "down", ""),
            row("integrity:local", "", "above 0", "database:local"),
            row("backup:local", "", "above 12 h", "database:local"),
        ]
    );
    for check in &found {
        assert!(check.timeout < check.policy.interval, "{}", check.id);
        let page = genesis_proto::runbook::page(check.runbook);
        assert!(page.is_some(), "{} has a page", check.id);
        assert!(check.action.is_none() || check.policy.looks == 2);
    }
}
