//! Rust projects, by cargo. Cargo has no constraints from outside: a copy of the project gets a member that depends on
//! every locked crate within its limit, and cargo allows one version for each compatible range, so that it holds to them,
//! for crates that others bring in too.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use genesis_advisories::cargo_lock;

use super::super::aside;
use super::super::config::Project;
use super::super::locked::Locked;
use super::plan::{Chosen, Limits};
use super::tool::{Hands, LONG, View, offer, own_program, told_in_line};
use super::{Resolved, failed, read_manifest, refused};
use crate::error::{Error, Result};
use crate::outside::hooks::Ran;
use crate::outside::trees;

const HINT: &str = "install Rust for the project's user, or put its folder into PATH=... of the project's environment";
/// The member that holds the limits.
const MEMBER: &str = "genesis-bounds";
/// What of a project is no part of it.
const LEFT_OUT: [&str; 2] = [".git", MEMBER];
/// A project has so many bytes at most, without what cargo makes.
const MOST: u64 = 1 << 30;

/// A Rust project and what works on it.
pub(super) struct Cargo<'a> {
    /// The project.
    pub(super) project: &'a Project,
    /// What runs tools.
    pub(super) hands: &'a Hands,
    /// Where tools write; it is there, and the project's user may write to it.
    pub(super) work: &'a Path,
}

impl Cargo<'_> {
    /// The copy that is worked on.
    fn source(&self) -> PathBuf {
        self.work.join("source")
    }

    /// The folder of the project's Cargo.lock, below the root.
    fn folder(&self) -> &Path {
        let lock = self.project.manifests.first().map_or(Path::new(""), PathBuf::as_path);
        lock.parent().unwrap_or(Path::new(""))
    }

    fn lock(&self) -> PathBuf {
        self.source().join(self.folder()).join("Cargo.lock")
    }

    async fn cargo(&self, words: &[&str]) -> Result<Ran> {
        let cargo = self.hands.find("cargo", HINT)?;
        let mut command = in_copy(&self.source().join(self.folder()))?;
        command.push(cargo.display().to_string());
        command.extend(words.iter().map(|it| (*it).to_owned()));
        self.hands.run(command, &[("CARGO_TERM_COLOR", "never".to_owned())], LONG).await
    }

    async fn must(&self, words: &[&str], code: &'static str) -> Result<()> {
        let ran = self.cargo(words).await?;
        if ran.succeeded {
            return Ok(());
        }
        let verb = words.first().copied().unwrap_or_default();
        let said = told_in_line(&ran.stderr);
        Err(refused(code, format!("`cargo {verb}` fails for {}: {said}", self.project.name)))
    }

    /// Copies the project, without what was built of it.
    async fn copy(&self) -> Result<()> {
        let (from, to) = (self.project.root.clone(), self.source());
        let releases = self.project.managed.deploy.as_ref().map(|it| it.releases.clone());
        let (from, releases) = (real(from), releases.map(real));
        let made = to.clone();
        aside(move || {
            trees::remove(&to).map_err(|error| failed(&to, error))?;
            let mut left = MOST;
            copy(&from, &to, releases.as_deref(), &mut left).map_err(|error| failed(&to, error))
        })
        .await?;
        self.hands.give(&made)
    }

    /// Whether there is a cargo.
    ///
    /// # Errors
    /// `DEPENDENCY_TOOL_MISSING`.
    pub(super) fn check(hands: &Hands) -> Result<()> {
        hands.find("cargo", HINT).map(drop)
    }

    /// Chooses versions within limits.
    ///
    /// # Errors
    /// `DEPENDENCY_TOOL_MISSING`, `RESOLUTION_FAILED`, `DEPENDENCY_UPDATE_FAILED`.
    pub(super) async fn resolve(&self, locked: &[Locked], limits: &Limits) -> Result<Resolved> {
        self.copy().await?;
        let root = self.source().join(self.folder()).join("Cargo.toml");
        let manifest = self.hands.read(&root).await?;
        self.bind(&root, &manifest, limits).await?;
        let before = self.read_lock().await?;
        let moved: Vec<String> = match limits.upgrade {
            true => locked.iter().map(|it| format!("{}@{}", it.name, it.version)).collect(),
            // What its limit does not let stay has to move; cargo finds that out itself.
            false => Vec::new(),
        };
        let tried = self.choose(&moved).await;
        let whole = tried.is_ok() && limits.broken(&chosen(&self.read_lock().await?)?).is_empty();
        if !whole && limits.upgrade {
            // Something in it can't be had: one after the other, what can.
            self.one_by_one(&moved, limits, &before).await?;
        } else {
            tried?;
        }
        self.unbind(&root, &manifest).await?;
        self.must(&["update", "--workspace", "--offline", "--quiet"], "RESOLUTION_FAILED").await?;
        let lock = self.read_lock().await?;
        let manifest = self.project.manifests.first().cloned().unwrap_or_default();
        let chosen = chosen(&lock)?;
        let installed = chosen.clone();
        Ok(Resolved { chosen, installed, manifests: vec![(manifest, lock.clone())], lock })
    }

    async fn choose(&self, moved: &[String]) -> Result<()> {
        let mut words = vec!["update", "--quiet"];
        match moved.is_empty() {
            true => words.push("--workspace"),
            false => words.extend(moved.iter().map(String::as_str)),
        }
        self.must(&words, "RESOLUTION_FAILED").await
    }

    async fn one_by_one(&self, moved: &[String], limits: &Limits, before: &str) -> Result<()> {
        self.write_lock(before).await?;
        // The member has to come in first.
        self.choose(&[]).await?;
        let mut good = self.read_lock().await?;
        for spec in moved {
            let tried = self.choose(std::slice::from_ref(spec)).await;
            if tried.is_ok() && limits.broken(&chosen(&self.read_lock().await?)?).is_empty() {
                good = self.read_lock().await?;
            } else {
                self.write_lock(&good).await?;
            }
        }
        self.write_lock(&good).await
    }

    async fn read_lock(&self) -> Result<String> {
        self.hands.read(&self.lock()).await
    }

    async fn write_lock(&self, text: &str) -> Result<()> {
        self.write("Cargo.lock", text, &self.lock()).await
    }

    /// Writes a file of the copy, which is the project's user's, by that user.
    async fn write(&self, name: &str, text: &str, to: &Path) -> Result<()> {
        let from = self.work.join("in").join(name);
        offer(&from, text)?;
        self.hands.copy(&from, to).await
    }

    /// Puts the member with the limits into the copy.
    async fn bind(&self, root: &Path, manifest: &str, limits: &Limits) -> Result<()> {
        let mut text = format!(
            "[package]\nname = \"{MEMBER}\"\nversion = \"0.0.0\"\nedition = \"2021\"\npublish = false\n\n[dependencies]\n"
        );
        for (number, it) in limits.each.iter().enumerate() {
            let requirement = it.requirement.replacen("==", "=", 1);
            let _ = writeln!(
                text,
                "bound-{number} = {{ package = \"{}\", version = \"{requirement}\", default-features = false }}",
                it.name
            );
        }
        let folder = root.with_file_name(MEMBER);
        self.write("member.toml", &text, &folder.join("Cargo.toml")).await?;
        self.write("lib.rs", "", &folder.join("src/lib.rs")).await?;
        let bound = with_member(manifest)
            .map_err(|why| refused("RESOLUTION_FAILED", format!("{}: {why}", root.display())))?;
        self.write("Cargo.toml", &bound, root).await
    }

    /// Takes it out again.
    async fn unbind(&self, root: &Path, manifest: &str) -> Result<()> {
        let folder = root.with_file_name(MEMBER).display().to_string();
        let command = vec![own_program("rm")?, "-rf".to_owned(), "--".to_owned(), folder];
        self.hands.run(command, &[], LONG).await?;
        self.write("Cargo.toml", manifest, root).await
    }

    /// Fetches, without running anything of it, then builds apart from the network, and installs into `folder`.
    ///
    /// # Errors
    /// `DEPENDENCY_TOOL_MISSING`, `BUILD_FAILED`.
    pub(super) async fn build(&self, folder: &Path) -> Result<()> {
        let failing = |error: Error| match error.code {
            "RESOLUTION_FAILED" => Error::unavailable("BUILD_FAILED", error.message),
            _ => error,
        };
        self.must(&["fetch", "--locked", "--quiet"], "RESOLUTION_FAILED").await.map_err(failing)?;
        let target = self.work.join("target");
        std::fs::create_dir_all(&target).map_err(|error| failed(&target, error))?;
        self.hands.give(&target)?;
        let cargo = self.hands.find("cargo", HINT)?.display().to_string();
        let place = folder.display().to_string();
        for package in binaries(&self.source().join(self.folder()))? {
            let script = "umask 022 && exec \"$@\"";
            let path = package.display().to_string();
            let words = [
                &own_program("sh")?,
                "-c",
                script,
                "sh",
                &cargo,
                "install",
                "--quiet",
                "--locked",
                "--offline",
                "--no-track",
                "--path",
                &path,
                "--root",
                &place,
            ];
            let command: Vec<String> = words.map(str::to_owned).into();
            let source = self.source();
            let home = self.hands.homes();
            let named: Vec<(&str, String)> =
                home.iter().map(|(name, it)| (*name, it.display().to_string())).collect();
            let home: Vec<&Path> = home.iter().map(|(_, it)| it.as_path()).collect();
            let writable = [target.as_path(), folder];
            let view = View { folder: &source, readable: &home, writable: &writable };
            let mut environment = vec![
                ("CARGO_TARGET_DIR", target.display().to_string()),
                ("CARGO_TERM_COLOR", "never".to_owned()),
            ];
            environment.extend(named);
            let ran = self
                .hands
                .run_apart(&command, (&view, &self.hands.path()), &environment, LONG)
                .await?;
            if !ran.succeeded {
                let message = format!(
                    "cargo can't build {}: {}",
                    self.project.name,
                    told_in_line(&ran.stderr)
                );
                return Err(Error::unavailable("BUILD_FAILED", message));
            }
        }
        let made = trees::names(&folder.join("bin")).map_err(|error| failed(folder, error))?;
        match made.is_empty() {
            true => {
                let message = format!("cargo ended well, and {place}/bin has no program");
                Err(Error::unavailable("BUILD_FAILED", message))
            }
            false => Ok(()),
        }
    }
}

fn in_copy(folder: &Path) -> Result<Vec<String>> {
    let script = "cd \"$1\" && shift && exec \"$@\"".to_owned();
    let mut all = vec![own_program("sh")?, "-c".to_owned(), script, "sh".to_owned()];
    all.push(folder.display().to_string());
    Ok(all)
}

fn chosen(lock: &str) -> Result<Vec<Chosen>> {
    let packages = cargo_lock::read(lock).map_err(|error| {
        refused(
            "RESOLUTION_FAILED",
            format!("cargo wrote a lock that can't be read: {}", error.problem),
        )
    })?;
    let own = |it: &cargo_lock::Package| it.source == cargo_lock::Source::CratesIo;
    let all = packages.into_iter().filter(own);
    Ok(all.map(|it| Chosen { name: it.name, version: it.version }).collect())
}

/// A manifest with one member more.
fn with_member(manifest: &str) -> Result<String, String> {
    let mut document: toml::Table =
        toml::from_str(manifest).map_err(|error| error.message().to_owned())?;
    let workspace = document
        .entry("workspace")
        .or_insert_with(|| toml::Value::Table(toml::Table::new()))
        .as_table_mut()
        .ok_or("workspace is no table")?;
    let members = workspace
        .entry("members")
        .or_insert_with(|| toml::Value::Array(Vec::new()))
        .as_array_mut()
        .ok_or("members is no list")?;
    members.push(toml::Value::String(MEMBER.to_owned()));
    toml::to_string(&document).map_err(|error| error.to_string())
}

/// The packages of a workspace that have programs: the root, and its members.
fn binaries(root: &Path) -> Result<Vec<PathBuf>> {
    let has = |folder: &Path| {
        let text = std::fs::read_to_string(folder.join("Cargo.toml")).ok()?;
        let document: toml::Table = toml::from_str(&text).ok()?;
        document.get("package")?;
        let bin = folder.join("src/main.rs").is_file()
            || folder.join("src/bin").is_dir()
            || document.contains_key("bin");
        bin.then_some(())
    };
    let mut found: BTreeMap<PathBuf, ()> = BTreeMap::new();
    if has(root).is_some() {
        found.insert(root.to_owned(), ());
    }
    let manifest = read_manifest(root, Path::new("Cargo.toml"))?;
    let document: toml::Table = toml::from_str(&manifest).unwrap_or_default();
    let members = document
        .get("workspace")
        .and_then(|it| it.get("members"))
        .and_then(toml::Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(toml::Value::as_str);
    for member in members {
        let pattern = root.join(member);
        let matches: Vec<PathBuf> = match member.contains('*') {
            // Only the last part of a path may be a star in practice.
            true => trees::names(pattern.parent().unwrap_or(root))
                .unwrap_or_default()
                .into_iter()
                .map(|name| pattern.with_file_name(name))
                .collect(),
            false => vec![pattern],
        };
        for folder in matches.into_iter().filter(|it| has(it).is_some()) {
            found.insert(folder, ());
        }
    }
    match found.is_empty() {
        true => Err(refused(
            "PROJECT_UNMANAGED",
            format!("{} has no package with a program", root.display()),
        )),
        false => Ok(found.into_keys().collect()),
    }
}

fn real(path: PathBuf) -> PathBuf {
    path.canonicalize().unwrap_or(path)
}

/// `without` is left out, as what is no part of a project is.
fn copy(from: &Path, to: &Path, without: Option<&Path>, left: &mut u64) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let (name, kind) = (entry.file_name(), entry.file_type()?);
        if LEFT_OUT.iter().any(|it| name == *it) {
            continue;
        }
        let (path, place) = (entry.path(), to.join(&name));
        // What is built, by cargo or by the agent, is no part of it.
        if without == Some(path.as_path()) || path.join("CACHEDIR.TAG").is_file() {
            continue;
        }
        if kind.is_dir() {
            copy(&path, &place, without, left)?;
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(std::fs::read_link(&path)?, &place)?;
        } else if kind.is_file() {
            let bytes = std::fs::copy(&path, &place)?;
            *left = left.checked_sub(bytes).ok_or_else(|| {
                std::io::Error::other(format!("the project has more than {MOST} bytes"))
            })?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_comes_into_any_manifest() {
        for manifest in [
            "[package]\nname = \"a\"\nversion = \"1.0.0\"\n",
            "[workspace]\nmembers = [\"b\"]\n",
            "[package]\nname = \"a\"\nversion = \"1.0.0\"\n[workspace]\n",
        ] {
            let bound: toml::Table = toml::from_str(&with_member(manifest).unwrap()).unwrap();
            let members = bound["workspace"]["members"].as_array().unwrap();
            assert_eq!(members.last().unwrap().as_str(), Some(MEMBER), "{manifest}");
            let before: toml::Table = toml::from_str(manifest).unwrap();
            assert_eq!(bound.get("package"), before.get("package"));
        }
        assert!(with_member("workspace = 1").is_err());
    }
}
