use super::{Finding, Kind, Known, Package, findings, safe_version, sort};
use crate::Ecosystem::{self, CratesIo, PyPI};
use crate::epss::Likelihood;
use crate::kev::Exploited;
use crate::osv::{Advisory, read};
use crate::severity::Rating;

/// An advisory of OSV, with what a test needs beside its id and name.
fn advisory(ecosystem: &str, id: &str, more: &str, affected: &str) -> Advisory {
    let json = format!(
        r#"{{"id": "{id}", "modified": "2024-01-01T00:00:00Z", "summary": "about {id}" {more},
            "affected": [{{"package": {{"ecosystem": "{ecosystem}", "name": "A"}}, {affected}}}]}}"#
    );
    read(id, json.as_bytes()).unwrap().advisories.remove(0)
}

fn python(id: &str, aliases: &str, events: &str) -> Advisory {
    advisory(
        "PyPI",
        id,
        &format!(r#", "aliases": [{aliases}]"#),
        &format!(r#""ranges": [{{"type": "ECOSYSTEM", "events": [{events}]}}]"#),
    )
}

fn until(fixed: &str) -> String {
    format!(r#"{{"introduced": "0"}}, {{"fixed": "{fixed}"}}"#)
}

fn package<'a>(ecosystem: &'a Ecosystem, version: &'a str) -> Package<'a> {
    Package { ecosystem, name: "a", version }
}

fn of(version: &str, advisories: &[Advisory]) -> Vec<Finding> {
    findings(package(&PyPI, version), advisories, Known::default())
}

#[test]
fn one_problem_of_many_ids_is_one_finding() {
    let advisories = [
        python("PYSEC-2024-1", r#""CVE-2024-0001""#, &until("1.5")),
        python(
            "GHSA-a",
            r#""CVE-2024-0001", "BIT-1""#,
            r#"{"introduced": "1.0"}, {"fixed": "1.6"}"#,
        ),
        python(
            "OTHER-1",
            r#""BIT-1""#,
            r#"{"introduced": "0"}, {"fixed": "1.5"}, {"introduced": "1.5.5"}, {"fixed": "1.7"}"#,
        ),
        python("PYSEC-2024-2", "", &until("3.0")),
        python("PYSEC-2024-3", "", &until("1.0")),
    ];
    let found = of("1.2", &advisories);
    let [one, other] = &found[..] else { panic!("{found:?}") };
    assert_eq!(one.ids, ["CVE-2024-0001", "GHSA-a", "PYSEC-2024-1", "BIT-1", "OTHER-1"]);
    assert_eq!(one.id, "CVE-2024-0001");
    assert_eq!(one.summary, "about GHSA-a");
    assert_eq!(one.why, [">=1.0, <1.6", "<1.5"]);
    // At 1.5 GHSA-a still affects, at 1.6 OTHER-1 does again.
    assert_eq!(one.fixed_in.as_deref(), Some("1.7"));
    assert!(one.certain);
    assert_eq!((other.id.as_str(), other.kind), ("PYSEC-2024-2", Kind::Vulnerability));
    assert_eq!(other.severity.rating, Rating::Unknown);
    assert_eq!((other.exploited, other.likelihood), (None, None));
}

#[test]
fn what_cannot_be_told_is_a_finding_that_says_so() {
    let advisories = [python("PYSEC-1", r#""CVE-2024-0001""#, &until("nonsense"))];
    let found = of("1.2", &advisories);
    let [one] = &found[..] else { panic!("{found:?}") };
    assert!(!one.certain);
    assert_eq!(one.why, ["`nonsense` has no place in the order of versions of PyPI"]);
    let found = of("odd", &[python("PYSEC-1", "", &until("1"))]);
    assert_eq!((found[0].certain, found[0].fixed_in.as_deref()), (false, None));
    // One that is certain says more than one that is not.
    let both = [advisories[0].clone(), python("GHSA-a", r#""PYSEC-1""#, &until("2"))];
    let found = of("1.2", &both);
    let [one] = &found[..] else { panic!("{found:?}") };
    assert!(one.certain);
    assert_eq!((one.why.as_slice(), one.fixed_in.as_deref()), (&["<2".to_owned()][..], None));
}

#[test]
fn others_and_withdrawn_ones_are_passed_over() {
    let mut other = python("PYSEC-1", "", &until("9"));
    other.name = "b".to_owned();
    let mut withdrawn = python("PYSEC-2", "", &until("9"));
    withdrawn.withdrawn = Some(1);
    let rust = advisory("crates.io", "RUSTSEC-1", "", r#""versions": ["1.2"]"#);
    assert!(of("1.2", &[other, withdrawn, rust]).is_empty());
}

#[test]
fn exploited_and_severe_ones_come_first() {
    let vector =
        |score: &str| format!(r#", "severity": [{{"type": "CVSS_V3", "score": "{score}"}}]"#);
    let range = r#""ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}]}]"#;
    let advisories = [
        advisory("PyPI", "CVE-2024-0001", "", range),
        advisory(
            "PyPI",
            "CVE-2024-0002",
            &vector("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:H"),
            range,
        ),
        advisory(
            "PyPI",
            "CVE-2024-0003",
            &vector("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"),
            range,
        ),
        advisory("PyPI", "CVE-2024-0004", "", range),
        advisory("PyPI", "X-5", "", range),
    ];
    let exploited = |cve: &str| {
        (cve == "CVE-2024-0004").then_some(Exploited { added: 7, due: None, ransomware: true })
    };
    let likelihood = |cve: &str| {
        (cve == "CVE-2024-0001").then_some(Likelihood { probability: 0.5, percentile: 0.9 })
    };
    let known = Known { exploited: Some(&exploited), likelihood: Some(&likelihood) };
    let mut found = findings(package(&PyPI, "1"), &advisories, known);
    let ids = |found: &[Finding]| found.iter().map(|one| one.id.clone()).collect::<Vec<_>>();
    let expected = ["CVE-2024-0004", "CVE-2024-0003", "CVE-2024-0002", "CVE-2024-0001", "X-5"];
    assert_eq!(ids(&found), expected);
    found.reverse();
    sort(&mut found);
    assert_eq!(ids(&found), expected);
    assert_eq!(found[0].exploitation.map(|exploited| exploited.ransomware), Some(true));
    let states: Vec<Option<bool>> = found.iter().map(|one| one.exploited).collect();
    // Without an id of CVE the catalogue can't tell.
    assert_eq!(states, [Some(true), Some(false), Some(false), Some(false), None]);
    assert_eq!(found[3].likelihood.map(|score| score.probability), Some(0.5));
}

#[test]
fn informational_ones_are_of_their_own_kind() {
    let range = r#""ranges": [{"type": "SEMVER", "events": [{"introduced": "0.0.0-0"}]}]"#;
    let informational = |id: &str, kind: &str, alias: &str| {
        let kind = format!(r#"{range}, "database_specific": {{"informational": "{kind}"}}"#);
        advisory("crates.io", id, &format!(r#", "aliases": [{alias}]"#), &kind)
    };
    let advisories = [
        informational("RUSTSEC-1", "unmaintained", ""),
        informational("RUSTSEC-2", "unsound", ""),
        informational("RUSTSEC-3", "unsound", r#""GHSA-c""#),
        advisory("crates.io", "GHSA-c", "", range),
        informational("RUSTSEC-4", "notice", ""),
        informational("RUSTSEC-5", "something new", ""),
    ];
    let found = findings(package(&CratesIo, "1.0.0"), &advisories, Known::default());
    let kinds: Vec<(&str, Kind)> = found.iter().map(|one| (one.id.as_str(), one.kind)).collect();
    let expected = [
        ("GHSA-c", Kind::Vulnerability),
        ("RUSTSEC-5", Kind::Vulnerability),
        ("RUSTSEC-2", Kind::Unsound),
        ("RUSTSEC-1", Kind::Unmaintained),
        ("RUSTSEC-4", Kind::Notice),
    ];
    assert_eq!(kinds, expected);
    let informational = [advisories[0].clone(), advisories[1].clone()];
    let safe = safe_version(package(&CratesIo, "1.0.0"), &[], &informational);
    assert_eq!(safe.as_deref(), Some("1.0.0"));
}

#[test]
fn the_nearest_safe_version() {
    let advisories = [
        python("PYSEC-1", "", &until("1.5")),
        python("PYSEC-2", "", r#"{"introduced": "1.5"}, {"fixed": "1.6"}"#),
        python("PYSEC-3", "", r#"{"introduced": "3.0"}"#),
    ];
    let candidates = ["2.0", "1.4", "1.5", "1.6rc1", "1.6", "1.6+local", "odd", "1.10", "0.1"];
    for (installed, expected) in [
        ("1.2", Some("1.6")),
        ("1.6", Some("1.6")),
        ("1.7", Some("1.7")),
        ("1.2rc1", Some("1.6")),
        ("1.6.dev1", Some("1.6")),
        ("1.6.1rc1", Some("1.6.1rc1")),
        ("3.1", None),
        ("odd", None),
    ] {
        let safe = safe_version(package(&PyPI, installed), &candidates, &advisories);
        assert_eq!(safe.as_deref(), expected, "{installed}");
    }
    let unclear = [python("PYSEC-1", "", &until("nonsense"))];
    assert_eq!(safe_version(package(&PyPI, "1.2"), &candidates, &unclear), None);
}
