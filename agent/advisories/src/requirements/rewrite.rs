//! Moves pins to other versions and leaves everything else as it is.

use std::ops::Range;

use super::{items, logical};
use crate::Ecosystem;
use crate::text::cut;
use crate::version::Version;

/// A pin that is to have another version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// The line of the pin, as it was read.
    pub line: usize,
    /// The version that it is to have.
    pub version: String,
    /// The hashes that it is to have where it had some, such as `sha256:2ae6...`; none: it has none then.
    pub hashes: Vec<String>,
}

/// Why a file was not rewritten. Nothing is rewritten in part.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotRewritten {
    /// The line is none of a pin.
    #[error("line {0} is no pin")]
    NoPin(usize),
    /// The line is named twice.
    #[error("line {0} is to be moved twice")]
    Twice(usize),
    /// The version is none of Python's.
    #[error("`{0}` is no version")]
    NoVersion(String),
    /// The version of the pin is parted by a backslash.
    #[error("the version in line {0} goes over two lines")]
    Parted(usize),
}

/// The file with other versions for some of its pins, and other hashes for these, since the old
/// ones are those of the old archives. All else, comments and line endings too, stays byte for byte.
///
/// # Errors
///
/// A line that is not the first of a pin or is named twice, a version that is none, and a pin whose version can't be
/// replaced as a whole.
pub fn rewrite(text: &str, moves: &[Move]) -> Result<String, NotRewritten> {
    let lines = logical::lines(text);
    let mut edits: Vec<(Range<usize>, String)> = Vec::new();
    for (at, wanted) in moves.iter().enumerate() {
        let line = wanted.line;
        if moves.iter().take(at).any(|other| other.line == line) {
            return Err(NotRewritten::Twice(line));
        }
        let known = |letter: char| letter.is_ascii_alphanumeric() || ".!+-_".contains(letter);
        let version = wanted.version.as_str();
        if !version.chars().all(known) || Version::read(&Ecosystem::PyPI, version).is_err() {
            return Err(NotRewritten::NoVersion(cut(version)));
        }
        let logical = lines.iter().find(|logical| logical.line == line);
        let logical = logical.ok_or(NotRewritten::NoPin(line))?;
        let places = items(logical).into_iter().find_map(|(_, places)| places);
        let places = places.ok_or(NotRewritten::NoPin(line))?;
        let old = logical.place(places.version.start)..logical.end(places.version.end);
        if old.len() != places.version.len() {
            return Err(NotRewritten::Parted(line));
        }
        edits.push((old, version.to_owned()));
        let mut new = wanted.hashes.as_slice();
        for place in &places.hashes {
            let place = logical.end(place.start)..logical.end(place.end);
            // As the first one was written, so are all of the new ones.
            let blanks = text.get(place.clone()).and_then(|old| old.split_once("--hash"));
            let blanks = blanks.map_or(" ", |(blanks, _)| blanks);
            let hashes = new.iter().map(|hash| format!("{blanks}--hash={hash}"));
            edits.push((place, hashes.collect()));
            new = &[];
        }
    }
    edits.sort_by_key(|(place, _)| place.start);
    let mut written = String::with_capacity(text.len());
    let mut from = 0;
    for (place, new) in edits {
        written.push_str(text.get(from..place.start).unwrap_or_default());
        written.push_str(&new);
        from = place.end;
    }
    written.push_str(text.get(from..).unwrap_or_default());
    Ok(written)
}
