use proptest::prelude::*;
use serde_json::json;

use super::{Event, Informational, read};
use crate::Ecosystem;
use crate::affected::{Verdict, evaluate};

fn refused(json: &str) -> String {
    read("file.json", json.as_bytes()).unwrap_err().to_string()
}

#[test]
fn a_record_becomes_one_advisory_for_each_package() {
    let json = r###"{
        "schema_version": "1.6.7", "id": "X-1", "modified": "2023-07-25T16:31:58Z", "new_field": [1],
        "aliases": ["GHSA-b", "CVE-1", "X-1", "CVE-1"], "withdrawn": null,
        "details": "\n  ## Impact\nmore", "severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/A"}],
        "references": [{"type": "PACKAGE", "url": "p"}, {"type": "WEB", "url": "w"}, {"type": "FIX", "url": "f"},
            {"type": "ADVISORY", "url": "a"}, {"type": "WEB", "url": "a"}, {"type": "REPORT", "url": "r"}],
        "affected": [
            {"package": {"ecosystem": "PyPI", "name": "Zope.Interface"}, "versions": ["0.9", "1.5", "1.0", "3.0", "odd"],
             "ranges": [{"type": "GIT", "events": [{"introduced": "abc"}]},
                        {"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "1.2"}]}]},
            {"package": {"ecosystem": "crates.io", "name": "A_b"}, "ranges": null,
             "database_specific": {"cvss": "CVSS:4.0/B", "informational": "unsound"}},
            {"package": {"ecosystem": "PyPI", "name": "zope-interface"},
             "severity": [{"type": "CVSS_V2", "score": "AV:N"}, {"type": "Ubuntu", "score": "low"}],
             "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "1.4"}, {"last_affected": "1.6"}]}]},
            {"ranges": [{"type": "GIT", "events": [{"introduced": "0"}]}]}
        ]}"###;
    let record = read("file.json", json.as_bytes()).unwrap();
    assert_eq!(record.id, "X-1");
    let [python, rust] = &record.advisories[..] else { panic!("{record:?}") };
    assert_eq!((&python.ecosystem, python.name.as_str()), (&Ecosystem::PyPI, "zope-interface"));
    assert_eq!(python.aliases, ["CVE-1", "GHSA-b"]);
    assert_eq!(python.summary, "Impact");
    assert_eq!(python.references, ["a", "f", "r", "w"]);
    assert_eq!(python.severity.len(), 2);
    assert_eq!(python.ranges.len(), 2);
    assert_eq!(python.ranges[1][1], Event::LastAffected("1.6".to_owned()));
    // The others are in one of the ranges.
    assert_eq!(python.versions, ["3.0", "odd"]);
    assert_eq!((&rust.ecosystem, rust.name.as_str()), (&Ecosystem::CratesIo, "a-b"));
    assert_eq!(rust.informational, Some(Informational::Unsound));
    assert_eq!(rust.severity.len(), 2);
    for advisory in &record.advisories {
        let stored = serde_json::to_string(advisory).unwrap();
        assert_eq!(
            &serde_json::from_str::<super::Advisory>(&stored).unwrap(),
            advisory,
            "{stored}"
        );
    }
}

#[test]
fn what_is_refused() {
    let with = |more: &str| {
        refused(&format!(r#"{{"id": "X-1", "modified": "2023-07-25T16:31:58Z", {more}}}"#))
    };
    let range = |range: &str| {
        with(&format!(
            r#""affected": [{{"package": {{"ecosystem": "PyPI", "name": "a"}}, "ranges": [{range}]}}]"#
        ))
    };
    for (error, expected) in [
        (with(r#""schema_version": "2.0.0""#), "X-1: version `2.0.0` of the schema is not known"),
        (with(r#""published": "soon""#), "X-1: published: `soon` is no time"),
        (with(r#""aliases": [""]"#), "X-1: an alias is empty"),
        (
            with(r#""affected": [{"package": {"ecosystem": "PyPI", "name": ""}}]"#),
            "X-1: the name of a package is empty",
        ),
        (range(r#"{"type": "NEW", "events": []}"#), "X-1: ranges of type `NEW` are not known"),
        (range(r#"{"type": "ECOSYSTEM"}"#), "X-1: a range does not say where it begins"),
        (
            range(r#"{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {}]}"#),
            "X-1: an event of a range is not exactly one of the known four",
        ),
        (
            range(r#"{"type": "ECOSYSTEM", "events": [{"introduced": "0", "fixed": "1"}]}"#),
            "X-1: an event of a range is not exactly one of the known four",
        ),
        (
            range(r#"{"type": "ECOSYSTEM", "events": [{"introduced": ""}]}"#),
            "X-1: a version of a range is empty",
        ),
        (refused(r#"{"id": "X-1"}"#), "X-1: it has no time of modification"),
        (
            refused(r#"{"id": "", "modified": "2023-07-25T16:31:58Z"}"#),
            "file.json: the id is empty",
        ),
        (refused("{}"), "file.json: missing field `id` at line 1 column 2"),
        (refused(""), "file.json: EOF while parsing a value at line 1 column 0"),
    ] {
        assert_eq!(error, expected);
    }
    assert!(with(r#""affected": {}"#).starts_with("X-1: invalid type: map, expected a sequence"));
    assert!(refused(r#"{"id": "X-1", "mod"#).starts_with("file.json: EOF"));
}

#[test]
fn no_version_of_the_schema_is_the_first() {
    for version in ["", r#""schema_version": "1.0.0","#, r#""schema_version": null,"#] {
        let json = format!(r#"{{{version} "id": "X", "modified": "2023-07-25 16:31:58+00:00"}}"#);
        assert!(read("x", json.as_bytes()).unwrap().advisories.is_empty(), "{version}");
    }
}

/// Of one package: events in pairs, versions that the ranges cover, and vectors.
fn large(pairs: usize, versions: usize, vectors: usize) -> String {
    let events = (0..pairs).flat_map(|at| {
        [json!({"introduced": format!("{at}.1")}), json!({"fixed": format!("{at}.5")})]
    });
    let severity = (0..vectors).map(|at| json!({"type": "CVSS_V3", "score": at.to_string()}));
    let record = json!({
        "id": "X-1", "modified": "2023-07-25T16:31:58Z", "severity": severity.collect::<Vec<_>>(),
        "affected": [{
            "package": {"ecosystem": "PyPI", "name": "a"},
            "ranges": [{"type": "ECOSYSTEM", "events": events.collect::<Vec<_>>()}],
            "versions": (0..versions).map(|at| format!("{}.2.{at}", pairs - 1)).collect::<Vec<_>>(),
        }],
    });
    record.to_string()
}

/// Each with each other would take minutes.
#[test]
fn a_large_record_is_read_or_refused_soon() {
    let record = read("x", large(5_000, 100, 0).as_bytes()).unwrap();
    assert_eq!(record.advisories[0].versions.len(), 0);
    let record = read("x", large(5_000, 20_000, 50_000).as_bytes()).unwrap();
    assert_eq!(record.advisories[0].versions.len(), 20_000);
    let verdict = evaluate(&record.advisories[0], "4999.2.7");
    assert!(matches!(verdict, Verdict::Affected { .. }), "{verdict:?}");
    let error = refused(&large(5_001, 0, 0));
    assert_eq!(error, "X-1: the ranges of a have more than 10000 events");
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC{0,80}", bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        let _ = read(&text, &bytes);
        let json = serde_json::json!({
            "id": text, "modified": text, "details": text,
            "affected": [{"package": {"ecosystem": text, "name": text}, "versions": [text]}],
        });
        let _ = read(&text, json.to_string().as_bytes());
    }
}
