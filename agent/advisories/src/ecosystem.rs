use std::fmt;

use serde::{Deserialize, Serialize};

/// Where packages of one naming and one order of versions come from, by OSV's name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Ecosystem {
    /// Python: PEP 503 names, PEP 440 versions.
    PyPI,
    /// Rust: names in which `-` and `_` are one, semantic versions.
    CratesIo,
    /// Another one, whose order of versions is not known here.
    Other(String),
}

impl Ecosystem {
    /// The name under which a package is kept and looked up.
    pub fn normalise(&self, name: &str) -> String {
        match self {
            Self::PyPI => {
                let mut normal = String::with_capacity(name.len());
                for letter in name.trim().chars() {
                    match letter {
                        '-' | '_' | '.' if normal.ends_with('-') => {}
                        '-' | '_' | '.' => normal.push('-'),
                        letter => normal.extend(letter.to_lowercase()),
                    }
                }
                normal
            }
            Self::CratesIo => name.trim().to_lowercase().replace('_', "-"),
            Self::Other(_) => name.to_owned(),
        }
    }
}

impl From<String> for Ecosystem {
    fn from(name: String) -> Self {
        match name.as_str() {
            "PyPI" => Self::PyPI,
            "crates.io" => Self::CratesIo,
            _ => Self::Other(name),
        }
    }
}

impl From<Ecosystem> for String {
    fn from(ecosystem: Ecosystem) -> Self {
        ecosystem.to_string()
    }
}

impl fmt::Display for Ecosystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PyPI => "PyPI",
            Self::CratesIo => "crates.io",
            Self::Other(name) => name,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Ecosystem::{CratesIo, Other, PyPI};

    #[test]
    fn names_are_normalised() {
        for (ecosystem, name, expected) in [
            (PyPI, "Flask_SQLAlchemy", "flask-sqlalchemy"),
            (PyPI, "zope.interface", "zope-interface"),
            (PyPI, "a-_.b", "a-b"),
            (PyPI, " requests ", "requests"),
            (CratesIo, "Serde_JSON", "serde-json"),
            (CratesIo, "a--b", "a--b"),
            (Other("Go".into()), "github.com/A_b", "github.com/A_b"),
        ] {
            assert_eq!(ecosystem.normalise(name), expected, "{ecosystem} {name}");
        }
    }
}
