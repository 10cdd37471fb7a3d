//! The assignment of units against GrowthBook's published cases: `fixtures/assignment.py` says where they are from.

#![allow(clippy::unwrap_used)] // A test.

use genesis_stats::experiment::{bucket_ranges, place};

#[test]
fn as_growthbook_publishes_them() {
    let (mut hashes, mut ranges) = (0, 0);
    for line in include_str!("fixtures/assignment.tsv").lines().skip(1) {
        let cells: Vec<&str> = line.split('\t').collect();
        match cells[0] {
            "hash" => {
                let expected = (cells[4] != "none").then(|| cells[4].parse::<f64>().unwrap());
                assert_eq!(
                    place(cells[1], cells[2], cells[3].parse().unwrap()),
                    expected,
                    "{line}"
                );
                hashes += 1;
            }
            _ => {
                let list = |text: &str| -> Vec<f64> {
                    text.split([';', ':']).map(|number| number.parse().unwrap()).collect()
                };
                let weights = (cells[3] != "none").then(|| list(cells[3]));
                let (arms, coverage) = (cells[1].parse().unwrap(), cells[2].parse().unwrap());
                let found = bucket_ranges(arms, coverage, weights.as_deref());
                let found: Vec<f64> = found.into_iter().flat_map(|(a, b)| [a, b]).collect();
                assert_eq!(found, list(cells[4]), "{line}");
                ranges += 1;
            }
        }
    }
    assert_eq!((hashes, ranges), (15, 13));
}
