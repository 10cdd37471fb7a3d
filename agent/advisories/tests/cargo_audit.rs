//! Locks of published crates against the library of cargo-audit, which is given the same records of RustSec:
//! `fixtures/locks.py` picks both.

#![allow(clippy::unwrap_used, clippy::panic)] // A test.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use genesis_advisories::Ecosystem::CratesIo;
use genesis_advisories::affected::{Verdict, evaluate};
use genesis_advisories::cargo_lock::{self, Source};
use genesis_advisories::finding::{Kind, Known, Package, findings};
use genesis_advisories::osv::{Advisory, read};
use rustsec::database::Query;
use rustsec::{Collection, Database, Lockfile};
use serde_json::Value;

const RECORDS: &str = include_str!("fixtures/locks/records.jsonl");
const LOCKS: [(&str, &str); 4] = [
    ("ripgrep", include_str!("fixtures/locks/ripgrep-11.0.2.lock")),
    ("cargo-audit", include_str!("fixtures/locks/cargo-audit-0.17.0.lock")),
    ("miniserve", include_str!("fixtures/locks/miniserve-0.10.3.lock")),
    ("this workspace", include_str!("../../../Cargo.lock")),
];

/// By the name of the crate.
fn advisories() -> BTreeMap<String, Vec<Advisory>> {
    let mut all: BTreeMap<String, Vec<Advisory>> = BTreeMap::new();
    for line in RECORDS.lines() {
        for advisory in read("records.jsonl", line.as_bytes()).unwrap().advisories {
            all.entry(advisory.name.clone()).or_default().push(advisory);
        }
    }
    all
}

/// The same as RustSec keeps them: versions that are patched or were never affected.
fn markdown(record: &Value) -> String {
    let affected = &record["affected"][0];
    let (mut stretches, mut from) = (Vec::new(), None);
    for range in affected["ranges"].as_array().unwrap() {
        for event in range["events"].as_array().unwrap() {
            match (event["introduced"].as_str(), event["fixed"].as_str()) {
                (Some(introduced), None) => from = Some(introduced),
                (None, Some(fixed)) => stretches.push((from.take().unwrap(), Some(fixed))),
                _ => panic!("{event}"),
            }
        }
        stretches.extend(from.take().map(|from| (from, None)));
    }
    stretches.sort_by_key(|(from, _)| rustsec::Version::parse(from).unwrap());
    let (mut patched, mut unaffected, mut fixed) = (Vec::new(), Vec::new(), None);
    for (from, until) in stretches {
        match fixed {
            Some(fixed) if fixed != from => patched.push(format!(">= {fixed}, < {from}")),
            None if from != "0.0.0-0" => unaffected.push(format!("< {from}")),
            _ => {}
        }
        fixed = until;
    }
    patched.extend(fixed.map(|fixed| format!(">= {fixed}")));
    let word = |key: &str, value: &Value| match value {
        Value::String(word) => format!("{key} = {word:?}\n"),
        _ => String::new(),
    };
    format!(
        "```toml\n[advisory]\nid = {}\npackage = {}\ndate = \"2020-01-01\"\n{}{}\n\
         [versions]\npatched = {patched:?}\nunaffected = {unaffected:?}\n```\n\n# A title\n\nA text.\n",
        record["id"],
        affected["package"]["name"],
        word("informational", &affected["database_specific"]["informational"]),
        word("withdrawn", &day(&record["withdrawn"])),
    )
}

/// RustSec has days where OSV has times.
fn day(time: &Value) -> Value {
    time.as_str().map_or(Value::Null, |time| time[..10].into())
}

fn database() -> Database {
    let folder = tempfile::tempdir().unwrap();
    for line in RECORDS.lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        let [affected] = &record["affected"].as_array().unwrap()[..] else { panic!("{line}") };
        let name = affected["package"]["name"].as_str().unwrap();
        let own = folder.path().join("crates").join(name);
        fs::create_dir_all(&own).unwrap();
        let path = own.join(format!("{}.md", record["id"].as_str().unwrap()));
        fs::write(path, markdown(&record)).unwrap();
    }
    Database::open(folder.path()).unwrap()
}

/// Id, crate, version and whether it is a vulnerability.
type Row = (String, String, String, bool);

fn own(text: &str, advisories: &BTreeMap<String, Vec<Advisory>>) -> BTreeSet<Row> {
    let mut rows = BTreeSet::new();
    for locked in cargo_lock::read(text).unwrap() {
        if locked.source != Source::CratesIo {
            continue;
        }
        let of = advisories.get(&CratesIo.normalise(&locked.name));
        let package =
            Package { ecosystem: &CratesIo, name: &locked.name, version: &locked.version };
        for finding in findings(package, of.map_or(&[], Vec::as_slice), Known::default()) {
            assert!(finding.certain, "{finding:?}");
            let ids = finding.ids.iter().filter(|id| id.starts_with("RUSTSEC-"));
            rows.extend(ids.map(|id| {
                let vulnerable = finding.kind == Kind::Vulnerability;
                (id.clone(), locked.name.clone(), locked.version.clone(), vulnerable)
            }));
        }
    }
    rows
}

fn peers(text: &str, database: &Database) -> BTreeSet<Row> {
    let lock: Lockfile = text.parse().unwrap();
    let all = Query::new().collection(Collection::Crates).withdrawn(false);
    let found = database.query_vulnerabilities(&lock, &all);
    let row = |it: rustsec::Vulnerability| {
        let vulnerable = it.advisory.informational.is_none();
        let (name, version) = (it.package.name.to_string(), it.package.version.to_string());
        (it.advisory.id.to_string(), name, version, vulnerable)
    };
    found.into_iter().map(row).collect()
}

#[test]
fn locks_have_the_advisories_that_cargo_audit_finds() {
    let (advisories, database) = (advisories(), database());
    let mut found = BTreeSet::new();
    for (name, lock) in LOCKS {
        let (own, peers) = (own(lock, &advisories), peers(lock, &database));
        let only = |one: &BTreeSet<Row>, other: &BTreeSet<Row>| -> Vec<Row> {
            one.difference(other).cloned().collect()
        };
        assert!(
            own == peers,
            "{name}: ours alone {:?}, cargo-audit's alone {:?}",
            only(&own, &peers),
            only(&peers, &own)
        );
        found.extend(own);
    }
    let vulnerable = found.iter().filter(|row| row.3).count();
    assert!(vulnerable > 30 && found.len() > vulnerable + 20, "{vulnerable} of {}", found.len());
}

/// Locks have few of the versions that decide: here are those at which each record begins and ends, and those beside.
#[test]
fn versions_at_the_ends_have_the_verdict_of_cargo_audit() {
    let (advisories, database) = (advisories(), database());
    let (mut count, mut affected) = (0, 0);
    for advisory in advisories.values().flatten() {
        let peer = database.get(&advisory.id.parse().unwrap()).unwrap();
        let json = serde_json::to_value(&advisory.ranges).unwrap();
        let events = json.as_array().unwrap().iter().flat_map(|it| it.as_array().unwrap());
        let ends = events.map(|event| event.as_object().unwrap().values().next().unwrap());
        for end in ends {
            let end = rustsec::Version::parse(end.as_str().unwrap()).unwrap();
            let (major, minor, patch) = (end.major, end.minor, end.patch);
            let plain = format!("{major}.{minor}.{patch}");
            let versions = [
                end.to_string(),
                format!("{plain}-0"),
                format!("{plain}-alpha.1"),
                format!("{plain}-rc.9"),
                format!("{plain}+build.1"),
                format!("{major}.{minor}.{}", patch + 1),
                format!("{major}.{minor}.{}-pre", patch + 1),
                format!("{major}.{minor}.{}", patch.saturating_sub(1)),
                format!("{major}.{}.0", minor + 1),
                format!("{major}.{}.99", minor.saturating_sub(1)),
                format!("{}.0.0", major + 1),
                plain,
            ];
            for version in versions {
                let parsed = rustsec::Version::parse(&version).unwrap();
                let expected = !peer.withdrawn() && peer.versions.is_vulnerable(&parsed);
                let verdict = evaluate(advisory, &version);
                let own = matches!(verdict, Verdict::Affected { .. });
                assert_eq!(own, expected, "{} {version}: {verdict:?}", advisory.id);
                count += 1;
                affected += usize::from(own);
            }
        }
    }
    assert!(count > 3_000 && affected > count / 4, "{affected} of {count}");
}
