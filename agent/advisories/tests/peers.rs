//! Versions and scores against Python's `packaging` and `cvss`: `fixtures/versions.py`, `orders.py` and `scores.py` write
//! the tables.

#![allow(clippy::unwrap_used)] // A test.

use std::collections::HashMap;

use genesis_advisories::Ecosystem::PyPI;
use genesis_advisories::affected::{Verdict, evaluate};
use genesis_advisories::osv::{Advisory, read};
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

/// One range of these events.
fn advisory<'a>(events: impl IntoIterator<Item = (&'a str, &'a str)>) -> Advisory {
    let events = events.into_iter().map(|(kind, version)| serde_json::json!({ kind: version }));
    let events: Vec<serde_json::Value> = events.collect();
    let record = serde_json::json!({
        "id": "X-1", "modified": "2024-01-01T00:00:00Z",
        "affected": [{"package": {"ecosystem": "PyPI", "name": "a"},
            "ranges": [{"type": "ECOSYSTEM", "events": events}]}],
    });
    read("x", record.to_string().as_bytes()).unwrap().advisories.remove(0)
}

/// Ten thousand random versions, each with its place in the order of `packaging`.
fn random() -> Vec<(usize, &'static str)> {
    let lines = include_str!("fixtures/orders.txt").lines().enumerate();
    lines.flat_map(|(place, equal)| equal.split(' ').map(move |text| (place, text))).collect()
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
fn random_versions_have_the_order_of_packaging() {
    let all = random();
    let read: Vec<Version> =
        all.iter().map(|(_, text)| Version::read(&PyPI, text).unwrap()).collect();
    // Sorting something else than the order itself: 7,919 is prime and shares no factor with the count.
    let mut sorted: Vec<usize> = (0..all.len()).map(|at| at * 7_919 % all.len()).collect();
    sorted.sort_by(|one, other| read[*one].cmp(&read[*other]));
    let places: Vec<usize> = sorted.iter().map(|at| all[*at].0).collect();
    let expected: Vec<usize> = all.iter().map(|(place, _)| *place).collect();
    assert_eq!(places, expected);
    // Each one against its neighbours, which shows that equal are those of a line alone, and against others.
    for (at, (place, text)) in all.iter().enumerate() {
        for far in [1, 2, 3, 101, 997, 4_999] {
            let other = (at + far) % all.len();
            let (order, (against, against_text)) = (read[at].cmp(&read[other]), all[other]);
            assert_eq!(order, place.cmp(&against), "{text} and {against_text}");
        }
    }
    assert_eq!(all.len(), 10_000);
}

/// By their places alone: a label counts only where the range has one.
#[test]
fn ranges_hold_what_is_between_their_ends() {
    let all = random();
    let places: HashMap<&str, usize> = all.iter().map(|(place, text)| (*text, *place)).collect();
    let public = |text: &'static str| text.split('+').next().unwrap();
    let (mut affected, mut count) = (0, 0);
    for at in 0..all.len() {
        // Wide and narrow ones, ends that are one, and versions in all parts of them.
        let width = [0, 1, 3, 20, 400, 5_000][at % 6];
        let (low, high) = (all[at], all[(at + width).min(all.len() - 1)]);
        let kind = ["fixed", "last_affected"][at / 6 % 2];
        let advisory = advisory([("introduced", low.1), (kind, high.1)]);
        let middle = (at + width / 2).min(all.len() - 1);
        let others = [at.saturating_sub(1), at, middle, middle + 1, at + width, at + width + 1];
        for (place, text) in others.map(|other| all[other.min(all.len() - 1)]) {
            let against = |end: (usize, &str)| {
                let own = if end.1.contains('+') { place } else { places[public(text)] };
                own.cmp(&end.0)
            };
            let until = against(high);
            let inside = until.is_lt() || until.is_eq() && kind == "last_affected";
            // A range from "0" on begins before all versions.
            let expected = (low.1 == "0" || against(low).is_ge()) && inside;
            let verdict = matches!(evaluate(&advisory, text), Verdict::Affected { .. });
            assert_eq!(verdict, expected, "{text} in {} to {kind} {}", low.1, high.1);
            affected += usize::from(verdict);
            count += 1;
        }
    }
    assert!(affected > count / 4 && affected < count / 4 * 3, "{affected} of {count}");
}

#[test]
fn ranges_hold_what_specifiers_hold() {
    let mut compared = 0;
    for range in versions().ranges {
        let advisory = advisory(
            range.events.iter().map(|(kind, version)| (kind.as_str(), version.as_str().unwrap())),
        );
        for (versions, expected) in [(&range.inside, true), (&range.outside, false)] {
            for version in versions {
                let affected = matches!(evaluate(&advisory, version), Verdict::Affected { .. });
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
