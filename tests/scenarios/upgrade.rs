//! A state that an older version has left: it opens, all of it is still known, an emergency is still in force; one of a
//! newer version is refused and left as it is.
//!
//! `tests/fixtures/states` has the state of each released version, with what its own agent said of it. `UPDATE_STATE=1`
//! makes the one of this version, from the demo; do it when a version is released, and never change it afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use genesis_tests::clock::now;
use genesis_tests::wall_clock::WallClock;
use genesis_tests::{TestAgent, toured};
use jiff::{SignedDuration, Timestamp};
use redb::{ReadableDatabase, TableDefinition};
use serde_json::Value;

/// What is asked, the list in the answer, and what tells its members apart.
const ASKED: [(&str, &str, &str); 15] = [
    ("logs list", "segments", "archiveName"),
    ("run list", "runs", "id"),
    ("baseline list", "operations", "operation"),
    ("experiment list", "experiments", "id"),
    ("param list", "parameters", "value"),
    ("series list", "series", "lastValue"),
    ("matrix history", "versions", "version"),
    ("db history", "care", "bytesFreed"),
    ("backup list", "backups", "id"),
    ("alerts history", "deliveries", "message"),
    ("health history", "attempts", "id"),
    ("health history", "issues", "openedAt"),
    ("incident list", "incidents", "id"),
    ("breaker list", "breakers", "name"),
    ("oplog list --limit 1000", "entries", "hash"),
];
/// What of a state is kept for this. Not the archive: its segments are as their manifests say, whatever the version.
const KEPT: [&str; 7] = [
    "state.redb",
    "observations.redb",
    "trades.redb",
    "series.redb",
    "advisories.redb",
    "certs",
    "EMERGENCY",
];
/// The configuration of the host that the states are opened on.
const HOST: &str =
    "[[certificates.certificate]]\nname = \"gateway\"\ndomains = [\"gateway.demo.example\"]\n";

type Known = BTreeMap<String, BTreeSet<String>>;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/states")
}

/// What an agent knows, by what is asked.
fn known(agent: &TestAgent) -> Known {
    let ask = |&(command, list, field): &(&str, &str, &str)| {
        let mut arguments: Vec<_> = command.split(' ').collect();
        arguments.extend(["-o", "json"]);
        // Exit codes are about how what is listed does.
        let answer = agent.ctl(&arguments).response();
        let members = answer[list].as_array().unwrap_or_else(|| panic!("{command}: {answer}"));
        let of = |member: &Value| match &member[field] {
            Value::Null => panic!("{command}: no {field} in {member}"),
            value => value.to_string(),
        };
        (format!("{command}: {list}"), members.iter().map(of).collect())
    };
    ASKED.iter().map(ask).collect()
}

fn make(version: &str) {
    let agent = toured::toured("");
    agent.ctl(&["emergency", "activate", "--yes", "--reason", "a test"]).ok();
    let known = serde_json::to_string_pretty(&known(&agent)).unwrap();
    let mut agent = agent;
    agent.terminate();
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::best()));
    for name in KEPT {
        let path = agent.state().join(name);
        if path.is_dir() {
            archive.append_dir_all(name, path).unwrap();
        } else {
            archive.append_path_with_name(path, name).unwrap();
        }
    }
    let packed = archive.into_inner().unwrap().finish().unwrap();
    fs::create_dir_all(folder()).unwrap();
    fs::write(folder().join(format!("{version}.tar.gz")), packed).unwrap();
    fs::write(folder().join(format!("{version}.json")), known + "\n").unwrap();
    fs::write(folder().join(format!("{version}.time")), now().to_string() + "\n").unwrap();
}

/// A host with the state of this version, without an agent. It is a minute after the state was left: what is kept for some
/// time only is still there.
fn host(version: &str) -> TestAgent {
    let mut agent = TestAgent::new(|_| HOST.to_owned());
    let left = fs::read_to_string(folder().join(format!("{version}.time"))).unwrap();
    let left: Timestamp = left.trim().parse().unwrap();
    let since = now().duration_since(left);
    WallClock::of(&mut agent).ahead(SignedDuration::from_mins(1) - since);
    let packed = fs::read(folder().join(format!("{version}.tar.gz"))).unwrap();
    fs::create_dir(agent.state()).unwrap();
    tar::Archive::new(GzDecoder::new(&packed[..])).unpack(agent.state()).unwrap();
    agent
}

fn versions() -> Vec<String> {
    let names = fs::read_dir(folder()).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut versions: Vec<_> =
        names.filter_map(|name| name.strip_suffix(".tar.gz").map(str::to_owned)).collect();
    versions.sort();
    versions
}

#[test]
fn every_released_state_opens_and_all_of_it_is_known() {
    if std::env::var_os("UPDATE_STATE").is_some() {
        make(env!("CARGO_PKG_VERSION"));
    }
    let versions = versions();
    assert!(
        versions.iter().any(|version| version == env!("CARGO_PKG_VERSION")),
        "there is no state of this version among {versions:?}; UPDATE_STATE=1 makes it"
    );
    for version in versions {
        let mut agent = host(&version);
        agent.start();
        let text = fs::read_to_string(folder().join(format!("{version}.json"))).unwrap();
        let then: Known = serde_json::from_str(&text).unwrap();
        let now = known(&agent);
        for (what, then) in then {
            assert!(!then.is_empty(), "{version} says nothing of {what}");
            let now = now.get(&what).unwrap_or_else(|| panic!("{what} is not asked any more"));
            let lost: Vec<_> = then.difference(now).collect();
            assert!(lost.is_empty(), "{version}: {what}: {lost:?} are not known any more");
        }
        agent.ctl(&["oplog", "verify"]).ok();
        let emergency = agent.ctl(&["emergency", "status", "-o", "json"]).exits(3).response();
        assert_eq!(emergency["emergency"]["active"], true, "{version}: {emergency}");
        let refused = agent.ctl(&["matrix", "update", "--yes", "--reason", "a test"]);
        refused.exits(4).says(&["EMERGENCY"]);
        // And still after one more start.
        agent.restart();
        agent.ctl(&["oplog", "verify"]).ok();
        agent.ctl(&["matrix", "update", "--yes", "--reason", "a test"]).exits(4);
    }
}

#[test]
fn a_state_of_a_newer_version_is_refused_and_left_as_it_is() {
    let mut agent = host(env!("CARGO_PKG_VERSION"));
    let path = agent.database();
    {
        const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
        let database = redb::Database::open(&path).unwrap();
        let row = "schema_version";
        let read = database.begin_read().unwrap();
        let version = read.open_table(META).unwrap().get(row).unwrap().unwrap().value().to_vec();
        let newer = u32::from_le_bytes(version.try_into().unwrap()) + 1;
        let write = database.begin_write().unwrap();
        write.open_table(META).unwrap().insert(row, &newer.to_le_bytes()[..]).unwrap();
        write.commit().unwrap();
    }
    let before = fs::read(&path).unwrap();
    let ended = agent.try_start().expect_err("it must not start");
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("STORAGE_NEWER_SCHEMA"), "{ended:?}");
    assert!(ended.stderr.contains("newer version"), "{ended:?}");
    assert!(fs::read(&path).unwrap() == before, "the file was changed");
    assert!(agent.state().join("EMERGENCY").exists(), "the emergency is as it was");
}
