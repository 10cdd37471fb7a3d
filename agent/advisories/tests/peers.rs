//! Versions and scores against Python's `packaging` and `cvss`: `fixtures/versions.py` and `scores.py` write the tables.

#![allow(clippy::unwrap_used)] // A test.

use genesis_advisories::Ecosystem::PyPI;
use genesis_advisories::affected::{Verdict, evaluate};
use genesis_advisories::osv::read;
use genesis_advisories::severity::{Rating, Scheme, Vector, rate};
use genesis_advisories::version::Version;
use serde::Deserialize;

#[derive(Deserialize)]
struct Versions {
    order: Vec<Vec<String>>,
    invalid: Vec<String>,
    ranges: Vec<Range>,
}

#[derive(Deserialize)]
struct Range {
    events: serde_json::Map<String, serde_json::Value>,
    inside: Vec<String>,
    outside: Vec<String>,
}

fn versions() -> Versions {
    serde_json::from_str(include_str!("fixtures/versions.json")).unwrap()
}

#[test]
fn versions_have_the_order_of_packaging() {
    let table = versions();
    let mut order = Vec::new();
    for (place, equal) in table.order.iter().enumerate() {
        order.extend(equal.iter().map(|text| (place, text, Version::read(&PyPI, text).unwrap())));
    }
    for (one, first, version) in &order {
        for (other, second, against) in &order {
            assert_eq!(version.cmp(against), one.cmp(other), "{first} and {second}");
        }
    }
    for text in table.invalid {
        assert!(Version::read(&PyPI, &text).is_err(), "`{text}`");
    }
}

#[test]
fn ranges_hold_what_specifiers_hold() {
    let mut compared = 0;
    for range in versions().ranges {
        let events: Vec<_> = range
            .events
            .iter()
            .map(|(kind, version)| serde_json::json!({ kind.as_str(): version }))
            .collect();
        let record = serde_json::json!({
            "id": "X-1", "modified": "2024-01-01T00:00:00Z",
            "affected": [{"package": {"ecosystem": "PyPI", "name": "a"},
                "ranges": [{"type": "ECOSYSTEM", "events": events}]}],
        });
        let record = read("x", record.to_string().as_bytes()).unwrap();
        for (versions, expected) in [(&range.inside, true), (&range.outside, false)] {
            for version in versions {
                let affected =
                    matches!(evaluate(&record.advisories[0], version), Verdict::Affected { .. });
                assert_eq!(affected, expected, "{version} in {:?}", range.events);
                compared += 1;
            }
        }
    }
    assert!(compared > 2000, "{compared} were compared");
}

#[test]
fn scores_are_those_of_the_library_of_python() {
    let mut compared = 0;
    for line in include_str!("fixtures/scores.csv").lines().skip(1) {
        let mut fields = line.split(',');
        let [vector, score, rating] = [(); 3].map(|()| fields.next().unwrap());
        let scheme = Scheme::of(vector).unwrap_or(Scheme::V3);
        let found = rate(&[Vector::new(scheme, vector)]);
        let score = if score == "-" { None } else { Some(score.parse().unwrap()) };
        let rating = match rating {
            "-" => Rating::Unknown,
            "None" => Rating::None,
            "Low" => Rating::Low,
            "Medium" => Rating::Medium,
            "High" => Rating::High,
            _ => Rating::Critical,
        };
        assert_eq!((found.score, found.rating), (score, rating), "{vector}");
        compared += 1;
    }
    assert!(compared > 600, "{compared} were compared");
}
