//! The order of versions in each ecosystem.
//!
//! Python's is that of PEP 440, Rust's that of semantic versioning, in which build metadata don't count. A local label,
//! as in `2.0.0+cu118`, counts in the order (it is above `2.0.0`), but where an advisory names a version without one,
//! the label of the installed version is left out, as PEP 440 does for specifiers: a local build of the last affected
//! version is affected.

use std::cmp::Ordering;
use std::fmt;

use crate::{Ecosystem, text::cut};

/// A version that has an order. Equal is what has the same place in it: `1.0` is `1.0.0` in Python.
#[derive(Debug, Clone)]
pub struct Version(Kind);

#[derive(Debug, Clone)]
enum Kind {
    Python(pep440_rs::Version),
    Semantic(semver::Version),
}

/// What is no version of its ecosystem, or is of one whose order is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` has no place in the order of versions of {1}")]
pub struct NotOrdered(String, Ecosystem);

/// The first numbers of a version, which strategies are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Leading {
    pub(crate) epoch: u64,
    pub(crate) major: u64,
    pub(crate) minor: u64,
}

impl Version {
    /// Reads a version of an ecosystem.
    ///
    /// # Errors
    ///
    /// A text that its rules don't know, a number over 2^64 - 1, and any version of an ecosystem without known rules.
    pub fn read(ecosystem: &Ecosystem, text: &str) -> Result<Self, NotOrdered> {
        let refused = || NotOrdered(cut(text), ecosystem.clone());
        match ecosystem {
            Ecosystem::PyPI => text.parse().map(Kind::Python).map_err(|_| refused()),
            Ecosystem::CratesIo => text.trim().parse().map(Kind::Semantic).map_err(|_| refused()),
            Ecosystem::Other(_) => Err(refused()),
        }
        .map(Self)
    }

    /// Whether it is made before a release: alpha, beta, candidate, or of development.
    pub fn is_prerelease(&self) -> bool {
        match &self.0 {
            Kind::Python(version) => version.any_prerelease(),
            Kind::Semantic(version) => !version.pre.is_empty(),
        }
    }

    /// Whether it has a local label or build metadata.
    pub fn has_label(&self) -> bool {
        match &self.0 {
            Kind::Python(version) => version.is_local(),
            Kind::Semantic(version) => !version.build.is_empty(),
        }
    }

    /// How it compares with a version that an advisory or a bound names.
    pub(crate) fn against(&self, named: &Self) -> Ordering {
        match (&self.0, &named.0) {
            (Kind::Python(own), Kind::Python(other)) if own.is_local() && !other.is_local() => {
                own.clone().without_local().cmp(other)
            }
            _ => self.cmp(named),
        }
    }

    /// Whether it may take the place of `installed`: one before a release or with a label only takes that of its like.
    pub(crate) fn fits(&self, installed: &Self) -> bool {
        (installed.is_prerelease() || !self.is_prerelease())
            && (installed.has_label() || !self.has_label())
    }

    /// Its text in the normal form, without a local label or build metadata, which a `>=` can't have.
    pub(crate) fn public(&self) -> String {
        match &self.0 {
            Kind::Python(version) => version.clone().without_local().to_string(),
            Kind::Semantic(version) => {
                semver::Version { build: semver::BuildMetadata::EMPTY, ..version.clone() }
                    .to_string()
            }
        }
    }

    /// How many numbers its release has.
    pub(crate) fn numbers(&self) -> usize {
        match &self.0 {
            Kind::Python(version) => version.release().len(),
            Kind::Semantic(_) => 3,
        }
    }

    pub(crate) fn leading(&self) -> Leading {
        match &self.0 {
            Kind::Python(version) => {
                let number = |at| version.release().get(at).copied().unwrap_or(0);
                Leading { epoch: version.epoch(), major: number(0), minor: number(1) }
            }
            Kind::Semantic(version) => {
                Leading { epoch: 0, major: version.major, minor: version.minor }
            }
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Python(version) => version.fmt(f),
            Kind::Semantic(version) => version.fmt(f),
        }
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        match (&self.0, &other.0) {
            (Kind::Python(one), Kind::Python(other)) => one.cmp(other),
            (Kind::Semantic(one), Kind::Semantic(other)) => one.cmp_precedence(other),
            // Of two ecosystems: any order that is one.
            (Kind::Python(_), Kind::Semantic(_)) => Ordering::Less,
            (Kind::Semantic(_), Kind::Python(_)) => Ordering::Greater,
        }
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Version {}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering::{self, Equal, Greater, Less};

    use super::Version;
    use crate::Ecosystem::{self, CratesIo, Other, PyPI};

    fn version(ecosystem: &Ecosystem, text: &str) -> Version {
        Version::read(ecosystem, text).unwrap()
    }

    #[test]
    fn orders() {
        let table: [(Ecosystem, &str, Ordering, &str); 14] = [
            (PyPI, "1.0", Equal, "1.0.0"),
            (PyPI, "v1.0", Equal, "1"),
            (PyPI, "1.10", Greater, "1.9"),
            (PyPI, "1.0.dev1", Less, "1.0a1"),
            (PyPI, "1.0rc1", Less, "1.0"),
            (PyPI, "1.0.post1", Greater, "1.0"),
            (PyPI, "1!0.1", Greater, "2024.1"),
            (PyPI, "2.0.0+cu118", Greater, "2.0.0"),
            (PyPI, "2.0.0+cu118", Less, "2.0.0.post1"),
            (CratesIo, "1.0.0-alpha.2", Less, "1.0.0-alpha.10"),
            (CratesIo, "1.0.0-alpha", Less, "1.0.0"),
            (CratesIo, "1.0.0+a", Equal, "1.0.0+b"),
            (CratesIo, "0.0.0-0", Less, "0.0.0"),
            (CratesIo, "0.10.0", Greater, "0.9.9"),
        ];
        for (ecosystem, one, expected, other) in table {
            let (first, second) = (version(&ecosystem, one), version(&ecosystem, other));
            assert_eq!(first.cmp(&second), expected, "{one} and {other}");
            assert_eq!(second.cmp(&first), expected.reverse(), "{other} and {one}");
        }
    }

    #[test]
    fn labels_count_only_against_labels() {
        for (installed, expected, named) in [
            ("2.0.0+cu118", Equal, "2.0.0"),
            ("2.0.0+cu118", Less, "2.0.1"),
            ("2.0.0+cu118", Less, "2.0.0+cu121"),
            ("2.0.0", Less, "2.0.0+cu118"),
        ] {
            let (installed, named) = (version(&PyPI, installed), version(&PyPI, named));
            assert_eq!(installed.against(&named), expected, "{installed:?} and {named:?}");
        }
    }

    #[test]
    fn what_has_no_order() {
        for (ecosystem, text) in [
            (PyPI, ""),
            (PyPI, "1.0-final-really"),
            (PyPI, "2004d.x"),
            (PyPI, "99999999999999999999999"),
            (CratesIo, "1.0"),
            (CratesIo, "01.0.0"),
            (Other("npm".into()), "1.0.0"),
        ] {
            assert!(Version::read(&ecosystem, text).is_err(), "{ecosystem} {text}");
        }
    }
}
