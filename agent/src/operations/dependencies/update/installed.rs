//! What is installed in a release, read from its files. Blocking.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use genesis_advisories::Ecosystem;

use super::plan::Chosen;

/// The description of a package has so many bytes at most.
const METADATA: usize = 1 << 20;
/// A release has so many packages at most.
const PACKAGES: usize = 20_000;

/// The packages of a virtual environment, by their normal names; `None`: it is none.
///
/// # Errors
/// When something of it can't be read.
pub fn python(release: &Path) -> io::Result<Option<BTreeMap<String, String>>> {
    let Some(folder) = site_packages(release)? else { return Ok(None) };
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_none_or(|it| it != "dist-info") {
            continue;
        }
        if found.len() >= PACKAGES {
            return Err(io::Error::other(format!("it has more than {PACKAGES} packages")));
        }
        let (bytes, _) = crate::outside::files::read_small(&path.join("METADATA"), METADATA)?;
        let text = String::from_utf8_lossy(&bytes);
        let head = || text.lines().take_while(|line| !line.trim().is_empty());
        let field = |name: &str| {
            head().find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
            })
        };
        if let (Some(name), Some(version)) = (field("Name"), field("Version")) {
            found.insert(Ecosystem::PyPI.normalise(&name), version);
        }
    }
    Ok(Some(found))
}

fn site_packages(release: &Path) -> io::Result<Option<PathBuf>> {
    let lib = release.join("lib");
    let entries = match std::fs::read_dir(&lib) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let folder = entry?.path().join("site-packages");
        if folder.is_dir() {
            return Ok(Some(folder));
        }
    }
    Ok(None)
}

/// What of `wanted` is installed in another version, or not at all: its name, the version wanted, and the one there.
pub fn differences(
    wanted: &[Chosen],
    installed: &BTreeMap<String, String>,
) -> Vec<(String, String, String)> {
    let each = wanted.iter().filter_map(|it| {
        let there = installed.get(&Ecosystem::PyPI.normalise(&it.name));
        let same = there.is_some_and(|there| same_version(there, &it.version));
        (!same).then(|| (it.name.clone(), it.version.clone(), there.cloned().unwrap_or_default()))
    });
    each.collect()
}

/// Whether two spellings are of one version: `1.0` and `1.0.0`.
fn same_version(one: &str, other: &str) -> bool {
    use genesis_advisories::version::Version;

    let read = |text: &str| Version::read(&Ecosystem::PyPI, text).ok();
    one == other || matches!((read(one), read(other)), (Some(one), Some(other)) if one == other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_read_from_a_release_and_held_against_what_is_wanted() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(python(folder.path()).unwrap(), None);
        let site = folder.path().join("lib/python3.11/site-packages");
        for (name, text) in [
            ("a_b-1.0.dist-info", "Metadata-Version: 2.1\nName: A.b\nVersion: 1.0\n\nVersion: 9\n"),
            ("c-2.dist-info", "Name: c\nVersion: 2\n"),
        ] {
            std::fs::create_dir_all(site.join(name)).unwrap();
            std::fs::write(site.join(name).join("METADATA"), text).unwrap();
        }
        std::fs::create_dir(site.join("other")).unwrap();
        let installed = python(folder.path()).unwrap().unwrap();
        let wanted = [("a-b", "1.0.0"), ("C", "3"), ("d", "1")];
        let wanted = wanted
            .map(|(name, version)| Chosen { name: name.to_owned(), version: version.to_owned() });
        let found = differences(&wanted, &installed);
        let found: Vec<_> =
            found.iter().map(|(a, b, c)| (a.as_str(), b.as_str(), c.as_str())).collect();
        assert_eq!(found, [("C", "3", "2"), ("d", "1", "")]);
    }
}
