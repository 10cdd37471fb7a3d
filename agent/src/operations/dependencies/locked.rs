//! What a project has locked: its manifests, and the files that they include.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use genesis_advisories::requirements::{self, Included, Item};
use genesis_advisories::{Ecosystem, cargo_lock};

use super::config::Project;

/// A manifest has so many bytes at most.
const MANIFEST: usize = 16 << 20;
/// And a project so many files, with those that are included.
const FILES: usize = 200;
/// And so many entries.
const MOST: usize = 50_000;

/// A package of a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Locked {
    /// Where it is from.
    pub ecosystem: Ecosystem,
    /// As written.
    pub name: String,
    /// The version that is locked.
    pub version: String,
    /// What of it is wanted beside itself.
    pub extras: Vec<String>,
    /// For which environments; `None`: all.
    pub marker: Option<String>,
    /// In which file, below the root.
    pub file: String,
    /// And line; 0: not known.
    pub line: u32,
}

/// Something that is not judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unjudged {
    /// A package, a line, a file, data.
    pub what: String,
    /// Why.
    pub why: String,
    /// In which file, if in any.
    pub file: String,
    /// And line; 0: none.
    pub line: u32,
}

/// What a project has locked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collected {
    /// The packages.
    pub packages: Vec<Locked>,
    /// What should have been judged and can't be.
    pub unjudged: Vec<Unjudged>,
    /// What no advisory is about.
    pub unmanaged: Vec<Unjudged>,
    /// The files that were read, below the root, without links.
    pub files: BTreeSet<String>,
    /// What is required, or bound, and not locked.
    pub loose: Vec<Loose>,
}

/// A requirement without a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loose {
    /// Of which package.
    pub name: String,
    /// As a requirement.
    pub text: String,
    /// Whether it only bounds what others require.
    pub is_bound: bool,
    /// In which file.
    pub file: String,
}

/// Reads the manifests of a project. Blocking.
pub fn collect(project: &Project) -> Collected {
    let mut reader = Reader::of(&project.root);
    match project.root.canonicalize() {
        Ok(real) => {
            for manifest in &project.manifests {
                reader.file(&real, &project.root.join(manifest), Included::Requirements);
                reader.settle();
            }
        }
        Err(error) => {
            let what = project.root.display().to_string();
            reader.unjudged(what, format!("it can't be read: {error}"), "", 0);
        }
    }
    let mut found = reader.found;
    let mut known = BTreeSet::new();
    // A package that is locked in several files is one, where its version is one.
    found.packages.retain(|it| {
        known.insert((it.ecosystem.clone(), it.ecosystem.normalise(&it.name), it.version.clone()))
    });
    found
}

/// Whether a manifest is one of cargo's; else it is one of pip's.
pub fn is_cargo(path: &Path) -> bool {
    path.file_name().is_some_and(|it| it == "Cargo.lock")
}

struct Reader<'a> {
    root: &'a Path,
    /// What was read, and whether as constraints.
    seen: BTreeSet<(PathBuf, bool)>,
    found: Collected,
    /// What files of constraints say of a package, if it is required.
    constraints: BTreeMap<String, Vec<Locked>>,
    /// What is required without a version, and by what line.
    unpinned: Vec<(String, Unjudged)>,
}

impl<'a> Reader<'a> {
    fn of(root: &'a Path) -> Self {
        Self {
            root,
            seen: BTreeSet::new(),
            found: Collected::default(),
            constraints: BTreeMap::new(),
            unpinned: Vec::new(),
        }
    }

    /// At the end of a manifest: its constraints may lock what it requires without a version.
    fn settle(&mut self) {
        let constraints = std::mem::take(&mut self.constraints);
        for (name, unjudged) in std::mem::take(&mut self.unpinned) {
            match constraints.get(&name) {
                Some(locked) => self.found.packages.extend(locked.iter().cloned()),
                None => self.found.unjudged.push(unjudged),
            }
        }
        self.seen.retain(|(_, constraints)| !constraints);
    }

    /// Whether there is room for more; what has none is said once.
    fn has_room(&mut self, shown: &str) -> bool {
        let found = &self.found;
        let all = found.packages.len()
            + found.unjudged.len()
            + found.unmanaged.len()
            + self.unpinned.len()
            + self.constraints.len();
        if all == MOST {
            let why = format!("a project has at most {MOST} entries");
            self.unjudged("what is behind it".to_owned(), why, shown, 0);
        }
        all < MOST
    }

    fn unjudged(&mut self, what: String, why: String, file: &str, line: u32) {
        self.found.unjudged.push(Unjudged { what, why, file: file.to_owned(), line });
    }

    /// Reads a file and what it includes. The root is one without links: an application must not show others what only
    /// the agent may read.
    fn file(&mut self, real: &Path, path: &Path, kind: Included) {
        let shown = path.strip_prefix(self.root).unwrap_or(path).display().to_string();
        let resolved = match path.canonicalize() {
            Ok(resolved) if resolved.starts_with(real) => resolved,
            Ok(_) => {
                let why =
                    format!("it is not below {}, which only is looked at", self.root.display());
                return self.unjudged(shown.clone(), why, &shown, 0);
            }
            Err(error) => {
                return self.unjudged(
                    shown.clone(),
                    format!("it can't be read: {error}"),
                    &shown,
                    0,
                );
            }
        };
        if !self.seen.insert((resolved.clone(), kind == Included::Constraints)) {
            return;
        }
        if self.seen.len() > FILES {
            let why = format!("a project has at most {FILES} files");
            return self.unjudged(shown.clone(), why, &shown, 0);
        }
        let text = match read(real, &resolved) {
            Ok(text) => text,
            Err(error) => {
                return self.unjudged(
                    shown.clone(),
                    format!("it can't be read: {error}"),
                    &shown,
                    0,
                );
            }
        };
        let own = resolved.strip_prefix(real).unwrap_or(&resolved);
        let shown = own.display().to_string();
        self.found.files.insert(shown.clone());
        if is_cargo(path) {
            self.cargo(&text, &shown);
        } else {
            self.requirements(&text, &shown, (real, path), kind);
        }
    }

    fn requirements(
        &mut self,
        text: &str,
        shown: &str,
        (real, path): (&Path, &Path),
        kind: Included,
    ) {
        let (ecosystem, constraints) = (Ecosystem::PyPI, kind == Included::Constraints);
        for entry in requirements::read(text) {
            if !self.has_room(shown) {
                return;
            }
            let line = u32::try_from(entry.line).unwrap_or(u32::MAX);
            let file = shown.to_owned();
            match entry.item {
                Item::Pin(pin) => {
                    let plain = ecosystem.normalise(&pin.name);
                    let locked = Locked {
                        ecosystem: ecosystem.clone(),
                        name: pin.name,
                        version: pin.version,
                        extras: pin.extras,
                        marker: pin.marker,
                        file,
                        line,
                    };
                    if constraints {
                        self.constraints.entry(plain).or_default().push(locked);
                    } else {
                        self.found.packages.push(locked);
                    }
                }
                Item::Unpinned { name, specifier, marker } => {
                    let marker = marker.map(|it| format!(" ; {it}")).unwrap_or_default();
                    self.found.loose.push(Loose {
                        name: name.clone(),
                        text: format!("{name}{specifier}{marker}"),
                        is_bound: constraints,
                        file: file.clone(),
                    });
                    // A bound says nothing of what is locked within it.
                    if constraints {
                        continue;
                    }
                    let why = match specifier.is_empty() {
                        true => "no version is locked".to_owned(),
                        false => format!("no version is locked, only {specifier}"),
                    };
                    let plain = ecosystem.normalise(&name);
                    self.unpinned.push((plain, Unjudged { what: name, why, file, line }));
                }
                // It holds requirements as any other.
                Item::Unmanaged { what, why: requirements::Unmanaged::RemoteFile } => {
                    let why = "it is at an address, which a scan does not open".to_owned();
                    self.unjudged(what, why, shown, line);
                }
                Item::Unmanaged { what, why } => {
                    let why = unmanaged(why).to_owned();
                    self.found.unmanaged.push(Unjudged { what, why, file, line });
                }
                Item::Include { kind, path: other } => {
                    let beside = path.parent().unwrap_or(path).join(other);
                    self.file(real, &beside, kind);
                }
                Item::Setting { .. } => {}
                Item::Problem { problem } => {
                    self.unjudged(format!("line {line}"), problem, shown, line);
                }
            }
        }
    }

    fn cargo(&mut self, text: &str, shown: &str) {
        let packages = match cargo_lock::read(text) {
            Ok(packages) => packages,
            Err(refused) => {
                return self.unjudged(shown.to_owned(), refused.problem, shown, 0);
            }
        };
        let lines = lines(text);
        for package in packages {
            if !self.has_room(shown) {
                return;
            }
            let key = (package.name.as_str(), package.version.as_str());
            let line = lines.get(&key).copied().unwrap_or(0);
            let file = shown.to_owned();
            let other = match &package.source {
                cargo_lock::Source::Registry(_) => {
                    Some("it is of another registry than crates.io, which no advisory is about")
                }
                source => source.unmanaged(),
            };
            if let Some(why) = other {
                // The workspace's own packages are no dependencies.
                let what = format!("{} {}", package.name, package.version);
                if matches!(package.source, cargo_lock::Source::Other(_)) {
                    self.unjudged(what, why.to_owned(), shown, line);
                } else if package.source != cargo_lock::Source::Path {
                    self.found.unmanaged.push(Unjudged { what, why: why.to_owned(), file, line });
                }
                continue;
            }
            let (name, version) = (package.name, package.version);
            let ecosystem = Ecosystem::CratesIo;
            self.found.packages.push(Locked {
                ecosystem,
                name,
                version,
                extras: Vec::new(),
                marker: None,
                file,
                line,
            });
        }
    }
}

/// The line of each package of a Cargo.lock.
fn lines(text: &str) -> BTreeMap<(&str, &str), u32> {
    let value = |line: &'_ str, key: &str| -> Option<(usize, usize)> {
        let rest = line.strip_prefix(key)?.strip_prefix(" = \"")?;
        let from = line.len() - rest.len();
        rest.find('"').map(|length| (from, from + length))
    };
    let (mut found, mut name) = (BTreeMap::new(), None);
    for (line, number) in text.lines().zip(1..) {
        if let Some((from, to)) = value(line, "name") {
            name = Some((&line[from..to], number));
        } else if let (Some((from, to)), Some((name, number))) = (value(line, "version"), name) {
            found.insert((name, &line[from..to]), number);
        }
    }
    found
}

fn unmanaged(why: requirements::Unmanaged) -> &'static str {
    use requirements::Unmanaged;
    match why {
        Unmanaged::Url => "it is an archive at an address",
        Unmanaged::Repository => "it is taken from a repository",
        Unmanaged::Path => "it is a folder or an archive of this machine",
        Unmanaged::Editable => "it is installed in place",
        Unmanaged::RemoteFile => "it is a file at an address, which a scan does not open",
    }
}

fn read(real: &Path, path: &Path) -> io::Result<String> {
    let bytes = crate::outside::files::read_below(real, path, MANIFEST)?;
    String::from_utf8(bytes).map_err(|_| io::Error::other("it is no text in UTF-8"))
}
