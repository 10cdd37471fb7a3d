//! A line with one requirement, by PEP 508 and pip.

use super::marker::is_marker;
use super::{Item, Pin, Places, Unmanaged, options};
use crate::Ecosystem;
use crate::text::without_secrets;
use crate::version::Version;

const ARCHIVES: [&str; 7] = [".whl", ".zip", ".tar.gz", ".tgz", ".tar", ".tar.bz2", ".tar.xz"];
const REPOSITORIES: [&str; 4] = ["git+", "hg+", "svn+", "bzr+"];
/// Longer ones first, since the shorter ones begin them.
const OPERATORS: [&str; 8] = ["===", "==", "~=", "!=", "<=", ">=", "<", ">"];

/// Reads a line of a requirement; only a pin has places.
pub(super) fn requirement(text: &str) -> Result<(Item, Option<Places>), String> {
    let words = options::words(text);
    let options = words.iter().find(|word| text[word.start..].starts_with('-'));
    let options = options.map_or(text.len(), |word| word.start);
    let wanted = text[..options].trim_end();
    let bad = || format!("`{}` is no requirement", without_secrets(wanted.trim()));

    let mut cursor = Cursor { text: wanted, at: 0 };
    cursor.blanks();
    let name = cursor.name();
    let extras = cursor.extras();
    cursor.blanks();
    if let (Some(name), Some(_)) = (name, &extras)
        && let Some(place) = cursor.rest().strip_prefix('@')
    {
        let place = place.trim();
        if place.is_empty() {
            return Err(bad());
        }
        let what = without_secrets(&format!("{name} @ {place}"));
        return Ok((Item::Unmanaged { what, why: kind_of_place(place) }, None));
    }
    let before_marker = wanted.split(';').next().unwrap_or_default().trim();
    if is_place(before_marker) {
        let why = kind_of_place(before_marker);
        return Ok((Item::Unmanaged { what: without_secrets(before_marker), why }, None));
    }
    let name = name.ok_or_else(bad)?.to_owned();
    let extras = extras.ok_or_else(bad)?;

    let start = cursor.at;
    let (specifier, marker) = match wanted[start..].split_once(';') {
        Some((specifier, marker)) => (specifier, Some(marker.trim())),
        None => (&wanted[start..], None),
    };
    if marker.is_some_and(|marker| !is_marker(marker)) {
        return Err(bad());
    }
    let marker = marker.map(str::to_owned);
    let (hashes, places) = options::hashes(text, options)?;
    let (inner, offset) = parenthesised(specifier).ok_or_else(bad)?;
    let version = if inner.trim().is_empty() { None } else { pinned(inner).ok_or_else(bad)? };
    let Some(range) = version else {
        return Ok((Item::Unpinned { name, specifier: inner.trim().to_owned(), marker }, None));
    };
    let from = start + offset;
    let version = inner[range.clone()].to_owned();
    let places = Places { version: from + range.start..from + range.end, hashes: places };
    Ok((Item::Pin(Pin { name, extras, version, marker, hashes }), Some(places)))
}

/// The inside of parentheses, if there are any, and where it begins.
fn parenthesised(specifier: &str) -> Option<(&str, usize)> {
    let bare = specifier.trim_start();
    let offset = specifier.len() - bare.len();
    match bare.strip_prefix('(') {
        Some(inner) => Some((inner.trim_end().strip_suffix(')')?, offset + 1)),
        None => Some((bare, offset)),
    }
}

/// Where in a specifier its one version is; the inner nothing if it lets in others; nothing at all if it is none.
#[allow(clippy::option_option)] // Outer none: it is no specifier.
fn pinned(specifier: &str) -> Option<Option<std::ops::Range<usize>>> {
    let mut pins = Vec::new();
    let mut at = 0;
    let mut clauses = 0;
    for clause in specifier.split(',') {
        clauses += 1;
        let operator =
            OPERATORS.iter().find(|operator| clause.trim_start().starts_with(**operator))?;
        let blanks = clause.len() - clause.trim_start().len();
        let after = &clause[blanks + operator.len()..];
        let version = after.trim();
        let start = at + blanks + operator.len() + (after.len() - after.trim_start().len());
        let equality = matches!(*operator, "==" | "!=");
        let plain = version.strip_suffix(".*").filter(|_| equality);
        let exact = *operator == "===";
        let read = Version::read(&Ecosystem::PyPI, plain.unwrap_or(version)).ok();
        let fits = read.is_some_and(|version| match *operator {
            "==" | "!=" => plain.is_none() || !version.has_label(),
            "~=" => !version.has_label() && version.numbers() > 1,
            _ => !version.has_label(),
        });
        if version.is_empty() || version.contains(char::is_whitespace) || !(exact || fits) {
            return None;
        }
        if exact || (*operator == "==" && plain.is_none()) {
            pins.push(start..start + version.len());
        }
        at += clause.len() + 1;
    }
    Some(if clauses == 1 { pins.pop() } else { None })
}

fn is_place(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let bare = lower.split('[').next().unwrap_or_default();
    text.contains("://")
        || text.starts_with('.')
        || bare.contains(['/', '\\'])
        || ARCHIVES.iter().any(|end| bare.ends_with(end))
}

fn kind_of_place(place: &str) -> Unmanaged {
    if REPOSITORIES.iter().any(|kind| place.starts_with(kind)) {
        Unmanaged::Repository
    } else if place.contains("://") && !place.starts_with("file:") {
        Unmanaged::Url
    } else {
        Unmanaged::Path
    }
}

struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn blanks(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    /// Letters, digits, and `.`, `_`, `-` between them.
    fn name(&mut self) -> Option<&'a str> {
        let rest = self.rest();
        let inside = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
        let name = &rest[..rest.find(|letter| !inside(letter)).unwrap_or(rest.len())];
        let edge =
            |letter: Option<char>| letter.is_some_and(|letter| letter.is_ascii_alphanumeric());
        if !(edge(name.chars().next()) && edge(name.chars().next_back())) {
            return None;
        }
        self.at += name.len();
        Some(name)
    }

    /// The extras in brackets, if any; nothing if they are malformed.
    fn extras(&mut self) -> Option<Vec<String>> {
        self.blanks();
        let Some(rest) = self.rest().strip_prefix('[') else { return Some(Vec::new()) };
        let (inner, _) = rest.split_once(']')?;
        self.at += inner.len() + 2;
        if inner.trim().is_empty() {
            return Some(Vec::new());
        }
        let read = |extra: &str| {
            let mut cursor = Cursor { text: extra.trim(), at: 0 };
            cursor.name().filter(|_| cursor.rest().is_empty()).map(str::to_owned)
        };
        inner.split(',').map(read).collect()
    }
}
