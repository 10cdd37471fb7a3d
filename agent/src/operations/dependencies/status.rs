//! Whether what runs is what is installed, and that what is locked. Blocking.

use std::path::{Path, PathBuf};

use genesis_advisories::Ecosystem;
use genesis_storage::DependencyReleaseRecord;
use jiff::Timestamp;

use super::config::Project;
use super::locked::collect;
use super::update::plan::Chosen;
use super::update::{digest, ecosystem, installed};
use crate::outside::replaced::{self, Place, Stale};

/// Whether something is so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Truth {
    /// It is.
    Pass,
    /// It is not.
    Fail,
    /// It can't be told.
    Unknown,
}

/// Whether what runs is what is locked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InMemory {
    /// In a word.
    pub truth: Truth,
    /// Why, in words.
    pub why: String,
    /// Packages that are installed in another version: name, locked, installed.
    pub differences: Vec<(String, String, String)>,
    /// Who runs what was replaced.
    pub stale: Vec<Stale>,
}

impl InMemory {
    /// It can't be told.
    pub fn unknown(why: impl Into<String>) -> Self {
        Self { truth: Truth::Unknown, why: why.into(), differences: Vec::new(), stale: Vec::new() }
    }
}

/// Looks at a project that has a place to be in service.
pub fn look(
    project: &Project,
    current: Option<&DependencyReleaseRecord>,
    others: Vec<PathBuf>,
    now: Timestamp,
) -> InMemory {
    let Some(deploy) = &project.managed.deploy else {
        return InMemory::unknown("it has no deploy");
    };
    let link = &deploy.link;
    let place = match link.canonicalize() {
        Ok(place) => place,
        Err(error) => return InMemory::unknown(format!("{}: {error}", link.display())),
    };
    let differences = match differences(project, &place, current) {
        Ok(differences) => differences,
        Err(why) => return InMemory::unknown(why),
    };
    let releases = deploy.releases.canonicalize().unwrap_or_else(|_| deploy.releases.clone());
    let at = Place { releases, link: link.clone(), current: place, others };
    let seen = match replaced::look(&at, now) {
        Ok(seen) => seen,
        Err(error) => return InMemory::unknown(format!("processes can't be looked at: {error}")),
    };
    let (truth, why) = verdict(differences.len(), &seen);
    InMemory { truth, why, differences, stale: seen.stale }
}

/// What comes of differences on the disk and of processes.
fn verdict(differences: usize, seen: &replaced::Seen) -> (Truth, String) {
    let mut wrong = Vec::new();
    if differences > 0 {
        wrong.push(format!("{differences} packages are installed otherwise than they are locked"));
    }
    if !seen.stale.is_empty() {
        wrong.push(format!("{} processes run what was replaced: restart them", seen.stale.len()));
    }
    match (wrong.is_empty(), seen.unreadable) {
        (false, _) => (Truth::Fail, wrong.join("; ")),
        (true, 1..) => (
            Truth::Unknown,
            format!("{} of its processes can't be looked at by this user", seen.unreadable),
        ),
        (true, 0) if seen.current == 0 => (Truth::Pass, "no process runs it now".to_owned()),
        (true, 0) => (Truth::Pass, format!("{} processes run it", seen.current)),
    }
}

fn differences(
    project: &Project,
    place: &Path,
    current: Option<&DependencyReleaseRecord>,
) -> Result<Vec<(String, String, String)>, String> {
    let ecosystem = ecosystem(project).map_err(|error| error.message)?;
    let collected = collect(project);
    if ecosystem == Ecosystem::PyPI {
        let there =
            installed::python(place).map_err(|error| format!("{}: {error}", place.display()))?;
        let Some(there) = there else {
            return Err(format!("{} is no virtual environment", place.display()));
        };
        // What is for other environments is not wanted here.
        let wanted: Vec<Chosen> = collected
            .packages
            .iter()
            .filter(|it| it.marker.is_none())
            .map(|it| Chosen { name: it.name.clone(), version: it.version.clone() })
            .collect();
        return Ok(installed::differences(&wanted, &there));
    }
    let Some(current) = current else {
        return Err(
            "the agent has not made what is in service, and binaries don't say what they are of"
                .to_owned(),
        );
    };
    let mut texts = String::new();
    for file in &collected.files {
        let text = std::fs::read_to_string(project.root.join(file));
        texts.push_str(&text.map_err(|error| format!("{file}: {error}"))?);
    }
    match digest(&texts) == current.digest {
        true => Ok(Vec::new()),
        false => {
            let made = format!("as generation {} has it", current.generation);
            Ok(vec![("Cargo.lock".to_owned(), "as it is now".to_owned(), made)])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_seen_of_processes_and_of_the_disk_is_judged() {
        let stale = Stale { pid: 1, command: "x".to_owned(), why: "it runs 3".to_owned() };
        let seen = |old: usize, current, unreadable| replaced::Seen {
            stale: vec![stale.clone(); old],
            current,
            unreadable,
        };
        for (differences, seen, expected) in [
            (0, seen(0, 2, 0), Truth::Pass),
            (0, seen(0, 0, 0), Truth::Pass),
            (1, seen(0, 2, 0), Truth::Fail),
            (0, seen(1, 2, 0), Truth::Fail),
            // What is seen to be wrong is wrong, whatever else can't be seen.
            (0, seen(1, 0, 1), Truth::Fail),
            (0, seen(0, 2, 1), Truth::Unknown),
        ] {
            assert_eq!(verdict(differences, &seen).0, expected, "{seen:?}");
        }
    }
}
