//! Records of the databases themselves: `fixtures/osv`, whose README has their sources.

#![allow(clippy::unwrap_used)] // A test.

use std::fs;
use std::path::PathBuf;

use genesis_advisories::Ecosystem::{CratesIo, PyPI};
use genesis_advisories::affected::{Verdict, evaluate};
use genesis_advisories::finding::{Known, Package, findings, safe_version};
use genesis_advisories::osv::{Advisory, Informational, read};
use genesis_advisories::severity::Rating;

/// All records with their advisories.
fn records() -> Vec<(serde_json::Value, Vec<Advisory>)> {
    let folder: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests/fixtures/osv"].iter().collect();
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    let read = |path: &PathBuf| {
        let json = fs::read(path).unwrap();
        let record = read(path.to_str().unwrap(), &json).unwrap();
        (serde_json::from_slice(&json).unwrap(), record.advisories)
    };
    paths.iter().map(read).collect()
}

fn of(id: &str) -> Advisory {
    let mut found = records().into_iter().flat_map(|(_, advisories)| advisories);
    found.find(|advisory| advisory.id == id).unwrap()
}

#[test]
fn every_listed_version_is_affected_however_few_are_kept() {
    let (mut listed, mut kept) = (0, 0);
    for (record, advisories) in records() {
        let [advisory] = &advisories[..] else { panic!("{record}") };
        let versions = record["affected"][0]["versions"].as_array().cloned().unwrap_or_default();
        kept += advisory.versions.len();
        for version in &versions {
            listed += 1;
            let verdict = evaluate(advisory, version.as_str().unwrap());
            match advisory.withdrawn {
                Some(_) => assert_eq!(verdict, Verdict::NotAffected),
                None => {
                    assert!(matches!(verdict, Verdict::Affected { .. }), "{version}: {verdict:?}")
                }
            }
        }
    }
    assert!(listed > 500 && kept < 30, "{kept} of {listed}");
}

#[test]
fn verdicts() {
    let affected = |why: &str, fixed: Option<&str>| Verdict::Affected {
        why: why.to_owned(),
        fixed: fixed.map(str::to_owned),
    };
    for (id, version, expected) in [
        ("PYSEC-2021-142", "5.3.1", affected("<5.4", Some("5.4"))),
        ("PYSEC-2021-142", "5.4", Verdict::NotAffected),
        ("PYSEC-2021-59", "1.25.11", Verdict::NotAffected),
        ("PYSEC-2021-59", "1.26.3", affected(">=1.26.0, <1.26.4", Some("1.26.4"))),
        ("PYSEC-2022-42969", "1.11.0", affected("<=1.11.0", None)),
        ("PYSEC-2022-42969", "1.11.1", Verdict::NotAffected),
        ("PYSEC-2024-36", "2.15.8", affected(">=2.15.0, <2.15.9", Some("2.15.9"))),
        ("PYSEC-2024-36", "2.15.9", Verdict::NotAffected),
        ("PYSEC-2024-36", "2.14.3", affected("<2.14.4", Some("2.14.4"))),
        ("PYSEC-2024-55", "1.0", affected("every version", None)),
        ("PYSEC-2023-121", "99", affected("every version", None)),
        ("RUSTSEC-2018-0005", "0.6.0-rc1", affected(">=0.6.0-rc1, <0.8.4", Some("0.8.4"))),
        ("RUSTSEC-2018-0005", "0.5.9", Verdict::NotAffected),
        ("RUSTSEC-2020-0049", "0.3.0-alpha.1", affected("<0.3.0-beta.1", Some("0.3.0-beta.1"))),
        ("RUSTSEC-2024-0438", "24.0.2", Verdict::NotAffected),
        ("RUSTSEC-2024-0438", "25.0.1", affected(">=25.0.0, <25.0.3", Some("25.0.3"))),
        ("RUSTSEC-2026-0266", "0.8.7", affected(">=0.8.7-0", None)),
        ("RUSTSEC-2026-0266", "0.8.6", Verdict::NotAffected),
    ] {
        assert_eq!(evaluate(&of(id), version), expected, "{id} {version}");
    }
}

#[test]
fn what_records_say_beside_their_ranges() {
    assert_eq!(of("RUSTSEC-2024-0381").informational, Some(Informational::Unmaintained));
    assert_eq!(of("RUSTSEC-2022-0092").informational, Some(Informational::Unsound));
    assert_eq!(of("RUSTSEC-2020-0011").informational, Some(Informational::Notice));
    // Its database has no time of modification.
    assert_eq!(of("PYSEC-2024-55").modified, None);
    assert!(of("PYSEC-2022-15").withdrawn.is_some());
}

#[test]
fn findings_of_packages() {
    let advisories: Vec<Advisory> =
        records().into_iter().flat_map(|(_, advisories)| advisories).collect();
    let of = |ecosystem, name, version| {
        let package = Package { ecosystem, name, version };
        findings(package, &advisories, Known::default())
    };
    let zope = of(&PyPI, "Zope", "5.1");
    let ids: Vec<(&str, Option<&str>)> =
        zope.iter().map(|one| (one.id.as_str(), one.fixed_in.as_deref())).collect();
    // CVE-2021-32633 and CVE-2021-32674 are joined by an id of GHSA that the database gives both; one is fixed in 5.2,
    // the other in 5.2.1.
    assert_eq!(ids, [("CVE-2021-32633", Some("5.2.1")), ("CVE-2021-32807", Some("5.2"))]);
    let parlai = of(&PyPI, "parlai", "1.0");
    assert!(
        parlai
            .iter()
            .all(|one| one.severity.rating == Rating::Unknown && one.id.starts_with("CVE-"))
    );
    let psq = of(&CratesIo, "libcrux_psq", "0.0.6");
    assert!(psq.iter().any(|one| one.severity.score.is_some()), "{psq:?}");
    let candidates = ["24.0.1", "24.0.2", "25.0.2", "26.0.1"];
    let package = Package { ecosystem: &CratesIo, name: "wasmtime", version: "23.0.0" };
    assert_eq!(safe_version(package, &candidates, &advisories).as_deref(), Some("24.0.2"));
}
