//! Reads a `Cargo.lock` of any of the versions 1 to 4.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::Refused;
use crate::text::{cut, without_secrets};

/// What crates.io is called in a lock, whatever mirror stands for it. It is compared, never opened.
const CRATES_IO: [&str; 3] = [
    "registry+https://github.com/rust-lang/crates.io-index",
    "registry+sparse+https://index.crates.io/",
    "sparse+https://index.crates.io/",
];

/// A locked package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Its name as written.
    pub name: String,
    /// Its version as written.
    pub version: String,
    /// Where it is from.
    pub source: Source,
    /// The SHA-256 of its archive; only registries have one.
    pub checksum: Option<String>,
}

/// Where a package is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// crates.io, which advisories are about.
    CratesIo,
    /// Another registry, whose packages may share only the name with those of crates.io.
    Registry(String),
    /// A repository, without passwords: its packages are not managed.
    Git(String),
    /// The workspace or a folder beside it: its packages are not managed.
    Path,
    /// Something that this reader does not know: its packages are not managed.
    Other(String),
}

impl Source {
    /// Why the package is not managed, if it is not.
    pub fn unmanaged(&self) -> Option<&'static str> {
        match self {
            Self::CratesIo | Self::Registry(_) => None,
            Self::Git(_) => Some("it is taken from a repository, not from a registry"),
            Self::Path => Some("it is a folder of this machine"),
            Self::Other(_) => Some("its source is of an unknown kind"),
        }
    }
}

#[derive(Deserialize)]
struct Raw {
    version: Option<u32>,
    #[serde(default)]
    package: Vec<RawPackage>,
    /// The oldest locks have their workspace's package apart.
    root: Option<RawPackage>,
    #[serde(default)]
    metadata: BTreeMap<String, toml::Value>,
}

#[derive(Deserialize)]
struct RawPackage {
    name: String,
    version: String,
    source: Option<String>,
    checksum: Option<String>,
}

/// Reads the packages of a lock, in its order.
///
/// # Errors
///
/// What is no TOML of that form, a version above 4, and a lock without packages.
pub fn read(text: &str) -> Result<Vec<Package>, Refused> {
    let refused = |problem: String| Refused::new("Cargo.lock", problem);
    let raw: Raw = toml::from_str(text).map_err(|error| {
        let line = error.span().and_then(|span| text.get(..span.start));
        let line = line.map(|before| before.matches('\n').count() + 1);
        let line = line.map_or_else(String::new, |line| format!("line {line}: "));
        refused(format!("{line}{}", cut(error.message())))
    })?;
    if let Some(version) = raw.version.filter(|version| !(1..=4).contains(version)) {
        return Err(refused(format!("version {version} of its format is not known")));
    }
    let metadata = raw.metadata;
    let packages: Vec<Package> = raw
        .root
        .into_iter()
        .chain(raw.package)
        .map(|package| {
            // Version 1 keeps the checksums in a table of their own.
            let key =
                |source: &str| format!("checksum {} {} ({source})", package.name, package.version);
            let apart = package.source.as_deref().and_then(|source| metadata.get(&key(source)));
            let apart = apart.and_then(|sum| sum.as_str()).filter(|sum| *sum != "<none>");
            let checksum = package.checksum.clone().or_else(|| apart.map(str::to_owned));
            let source = source(package.source.as_deref());
            Package { name: package.name, version: package.version, source, checksum }
        })
        .collect();
    if packages.is_empty() {
        return Err(refused("it has no packages".to_owned()));
    }
    Ok(packages)
}

fn source(text: Option<&str>) -> Source {
    let Some(text) = text else { return Source::Path };
    if CRATES_IO.contains(&text) {
        return Source::CratesIo;
    }
    match text.split_once('+') {
        Some(("registry", url)) => Source::Registry(without_secrets(url)),
        Some(("sparse", _)) => Source::Registry(without_secrets(text)),
        Some(("git", url)) => Source::Git(without_secrets(url)),
        Some(("path", _)) => Source::Path,
        _ => Source::Other(without_secrets(text)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Source, read};

    const SUM: &str = "5e1cbd5b4e4a5b6a6ac9d1a6c47e2ac1fd4a3c3f6bb4a9a7f53aeb2c8f4e8c41";

    #[test]
    fn every_version_of_the_format() {
        let index = "registry+https://github.com/rust-lang/crates.io-index";
        let first = format!(
            "[[package]]\nname = \"a\"\nversion = \"0.1.0\"\ndependencies = [\n \"libc 0.2.1 ({index})\",\n]\n\n\
             [[package]]\nname = \"libc\"\nversion = \"0.2.1\"\nsource = \"{index}\"\n\n\
             [metadata]\n\"checksum libc 0.2.1 ({index})\" = \"{SUM}\"\n"
        );
        let later = |version: &str| {
            format!(
                "# This file is automatically @generated by Cargo.\n{version}\n[[package]]\nname = \"a\"\n\
                 version = \"0.1.0\"\ndependencies = [\"libc\"]\n\n[[package]]\nname = \"libc\"\n\
                 version = \"0.2.1\"\nsource = \"{index}\"\nchecksum = \"{SUM}\"\n"
            )
        };
        for text in [first, later(""), later("version = 3"), later("version = 4")] {
            let packages = read(&text).unwrap();
            let [own, libc] = &packages[..] else { panic!("{text}") };
            assert_eq!((own.name.as_str(), &own.source), ("a", &Source::Path), "{text}");
            assert_eq!((libc.version.as_str(), &libc.source), ("0.2.1", &Source::CratesIo));
            assert_eq!(libc.checksum.as_deref(), Some(SUM));
        }
    }

    #[test]
    fn sources() {
        for (text, expected) in [
            (
                "sparse+https://me:pw@host/index/",
                Source::Registry("sparse+https://host/index/".into()),
            ),
            ("registry+https://host/index", Source::Registry("https://host/index".into())),
            (
                "git+https://token@host/a?branch=main#0123",
                Source::Git("https://host/a#0123".into()),
            ),
            ("path+file:///a", Source::Path),
            ("new", Source::Other("new".into())),
        ] {
            assert_eq!(super::source(Some(text)), expected, "{text}");
            let managed = matches!(expected, Source::Registry(_));
            assert_eq!(expected.unmanaged().is_none(), managed, "{text}");
        }
    }

    #[test]
    fn what_is_refused() {
        for (text, expected) in [
            ("", "it has no packages"),
            ("version = 5\n", "version 5 of its format is not known"),
            (
                "version = 4\n[[package]]\nname = 1\n",
                "line 3: invalid type: integer `1`, expected a string",
            ),
            ("version = 4\n[[package]]\nname = \"a\"\n", "line 2: missing field `version`"),
        ] {
            assert_eq!(read(text).unwrap_err().problem, expected, "{text}");
        }
    }

    #[test]
    fn the_lock_of_this_workspace() {
        let packages = read(include_str!("../../../Cargo.lock")).unwrap();
        let serde = packages.iter().find(|package| package.name == "serde").unwrap();
        assert_eq!(serde.source, Source::CratesIo);
        assert!(serde.checksum.is_some());
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "\\PC{0,80}", lines in "(\\[\\[package\\]\\]\n|name = \"[a-z]\"\n|version = [0-9\"]{1,3}\n){0,6}") {
            let _ = read(&text);
            let _ = read(&lines);
        }
    }
}
