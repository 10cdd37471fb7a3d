//! Requirement files against pip and `packaging`: `fixtures/requirements.py` writes the table.

#![allow(clippy::unwrap_used)] // A test.

use genesis_advisories::requirements::{Item, Move, read, rewrite};
use serde::Deserialize;

#[derive(Deserialize)]
struct Table {
    lines: Vec<(String, String, Option<String>, Vec<String>)>,
    files: Vec<(String, Vec<Row>)>,
}

/// Number, kind, version and hashes.
type Row = (usize, String, Option<String>, Vec<String>);

fn table() -> Table {
    serde_json::from_str(include_str!("fixtures/requirements.json")).unwrap()
}

fn kind(item: &Item) -> &'static str {
    match item {
        Item::Pin(_) => "pin",
        Item::Unpinned { .. } => "unpinned",
        Item::Problem { .. } => "bad",
        _ => "other",
    }
}

#[test]
fn lines_are_what_packaging_takes_them_for() {
    for (text, expected, version, extras) in table().lines {
        let entries = read(&text);
        let item = &entries.first().unwrap().item;
        assert_eq!(kind(item), expected, "{text}");
        if let Item::Pin(pin) = item {
            let mut own = pin.extras.clone();
            own.sort();
            assert_eq!((Some(&pin.version), own), (version.as_ref(), extras), "{text}");
        }
    }
}

#[test]
fn files_are_what_pip_takes_them_for() {
    for (text, expected) in table().files {
        let rows = |text: &str| {
            let mut rows: Vec<Row> = Vec::new();
            for entry in read(text) {
                let (version, hashes) = match &entry.item {
                    Item::Pin(pin) => (Some(pin.version.clone()), pin.hashes.clone()),
                    _ => (None, Vec::new()),
                };
                // A line of options is several entries here.
                if rows.last().is_none_or(|last| last.0 != entry.line) {
                    rows.push((entry.line, kind(&entry.item).to_owned(), version, hashes));
                }
            }
            rows
        };
        assert_eq!(rows(&text), expected, "{text:?}");

        // A file of which each pin is moved is the same file but for the versions and hashes.
        let pins = expected.iter().filter(|row| row.1 == "pin");
        let moves: Vec<Move> = pins
            .map(|row| Move { line: row.0, version: "9.9".to_owned(), hashes: Vec::new() })
            .collect();
        let written = rows(&rewrite(&text, &moves).unwrap());
        assert_eq!(written.len(), expected.len(), "{text:?}");
        for (new, old) in written.iter().zip(&expected) {
            let pin = old.1 == "pin";
            let version = if pin { Some("9.9".to_owned()) } else { None };
            assert_eq!((&new.1, &new.2, new.3.len()), (&old.1, &version, 0), "{text:?}");
        }
    }
}
