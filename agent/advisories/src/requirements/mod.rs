//! Reads and rewrites pip's requirement files, as locks: what `uv pip compile` and `pip-compile` write.
//!
//! A line is what pip takes for one: joined over backslashes, and without comments. Markers are handed on as they are;
//! nothing is evaluated, no variable is put in, no other file is opened. Passwords in addresses are never handed on,
//! and of options that may hold one only the name is.

mod line;
mod logical;
mod marker;
mod options;
mod rewrite;
#[cfg(test)]
mod tests;

pub use rewrite::{Move, NotRewritten, rewrite};
use serde::{Deserialize, Serialize};

use logical::Logical;

/// One line that says something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The number of the line that it begins in, from 1.
    pub line: usize,
    /// What it says.
    pub item: Item,
}

/// What a line says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Item {
    /// A package at one version.
    Pin(Pin),
    /// A package at any version, or at one of many: `name>=1`, `name==1.*`.
    Unpinned {
        /// The name as written.
        name: String,
        /// The versions that are let in, as written.
        specifier: String,
        /// For which environments, as written.
        marker: Option<String>,
    },
    /// What is not from an index: an address, a repository, a folder.
    Unmanaged {
        /// The package or place, without passwords.
        what: String,
        /// Why it is not managed.
        why: Unmanaged,
    },
    /// Another file: `-r` or `-c`. Whether and from where it is read is for the caller.
    Include {
        /// What the other file holds.
        kind: Included,
        /// Its path as written, relative to this file.
        path: String,
    },
    /// An option for all of the file, such as `--index-url`, without its value.
    Setting {
        /// The option by its long name.
        name: String,
    },
    /// What pip would not take. The other lines are read all the same.
    Problem {
        /// What is wrong with it.
        problem: String,
    },
}

/// A package at one version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// The name as written.
    pub name: String,
    /// The extras as written.
    pub extras: Vec<String>,
    /// The version as written.
    pub version: String,
    /// For which environments, as written.
    pub marker: Option<String>,
    /// Allowed archives, such as `sha256:2ae6...`.
    pub hashes: Vec<String>,
}

/// What another file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Included {
    /// More requirements, `-r`.
    Requirements,
    /// Bounds for what others require, `-c`.
    Constraints,
}

/// Why a package is not managed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unmanaged {
    /// It is an archive at an address.
    Url,
    /// It is a repository.
    Repository,
    /// It is a folder or archive of this machine.
    Path,
    /// It is installed in place, `-e`.
    Editable,
    /// It is a requirements file at an address.
    RemoteFile,
}

/// Reads a file, in the order of its lines.
pub fn read(text: &str) -> Vec<Entry> {
    let lines = logical::lines(text);
    lines
        .iter()
        .flat_map(|logical| {
            items(logical).into_iter().map(|(item, _)| Entry { line: logical.line, item })
        })
        .collect()
}

/// Where a pin has what is rewritten, in the logical line.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Places {
    version: std::ops::Range<usize>,
    /// Each hash with the blanks before it.
    hashes: Vec<std::ops::Range<usize>>,
}

fn items(logical: &Logical) -> Vec<(Item, Option<Places>)> {
    let text = logical.text.as_str();
    if text.trim().is_empty() {
        Vec::new()
    } else if text.trim_start().starts_with('-') {
        options::settings(text).into_iter().map(|item| (item, None)).collect()
    } else {
        vec![line::requirement(text).unwrap_or_else(|problem| (Item::Problem { problem }, None))]
    }
}
