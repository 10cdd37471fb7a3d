//! Python projects, by uv: versions are chosen by `uv pip compile`, and installed by `uv pip sync`, with the hashes that
//! were chosen.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use genesis_advisories::Ecosystem;
use genesis_advisories::requirements::{self, Item, Move, Pin};
use jiff::Timestamp;

use super::super::config::Project;
use super::super::locked::Locked;
use super::plan::{Chosen, Limits};
use super::tool::{Hands, LONG, told};
use super::{Resolved, failed, read_manifest, refused};
use crate::error::{Error, Result};

const HINT: &str =
    "install it (pip install uv), or put its folder into PATH=... of the project's environment";

/// A Python project and what works on it.
pub(super) struct Python<'a> {
    /// The project.
    pub(super) project: &'a Project,
    /// What runs tools.
    pub(super) hands: &'a Hands,
    /// Where tools write; it is there, and the project's user may write to it.
    pub(super) work: &'a Path,
}

/// A manifest, and what it is made of.
struct Source {
    /// Below the root.
    manifest: PathBuf,
    text: String,
    /// The file that it is compiled from, where there is one.
    input: Option<PathBuf>,
}

impl Python<'_> {
    fn uv(&self) -> Result<Vec<String>> {
        let uv = self.hands.find("uv", HINT)?;
        let cache = self.work.join("cache");
        let root = &self.project.root;
        let words = ["--no-progress", "--no-python-downloads", "--cache-dir"].map(str::to_owned);
        let mut all = vec![uv.display().to_string()];
        all.extend(words);
        all.extend([
            cache.display().to_string(),
            "--directory".to_owned(),
            root.display().to_string(),
        ]);
        Ok(all)
    }

    fn sources(&self) -> Result<Vec<Source>> {
        let each = self.project.manifests.iter().map(|manifest| {
            let text = read_manifest(&self.project.root, manifest)?;
            let input = manifest.with_extension("in");
            let there = self.project.root.join(&input).is_file();
            Ok(Source { manifest: manifest.clone(), text, input: there.then_some(input) })
        });
        each.collect()
    }

    fn put(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.work.join(name);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|error| failed(&path, error))?;
        }
        std::fs::write(&path, text).map_err(|error| failed(&path, error))?;
        Ok(path)
    }

    /// Chooses versions within limits, of those that were out at `cutoff`.
    ///
    /// # Errors
    /// `DEPENDENCY_TOOL_MISSING`, `PROJECT_UNMANAGED`, `RESOLUTION_FAILED`, `DEPENDENCY_UPDATE_FAILED`.
    pub(super) async fn resolve(
        &self,
        locked: &[Locked],
        limits: &Limits,
        cutoff: Option<Timestamp>,
        interpreter: &str,
    ) -> Result<Resolved> {
        let sources = self.sources()?;
        let mut bounds = String::new();
        for it in &limits.each {
            let marker = it.marker.as_ref().map(|it| format!(" ; {it}")).unwrap_or_default();
            let _ = writeln!(bounds, "{}{}{marker}", it.name, it.requirement);
        }
        let bounds = self.put("limits.txt", &bounds)?;
        let (free, compiled): (Vec<_>, Vec<_>) = sources.iter().partition(|it| it.input.is_none());
        let mut inputs: Vec<PathBuf> = compiled.iter().filter_map(|it| it.input.clone()).collect();
        if !free.is_empty() {
            let wanted = self.wanted(&free, locked)?;
            inputs.push(self.put("wanted.in", &wanted)?);
        }
        let pins: String = locked
            .iter()
            .filter(|it| it.marker.is_none())
            .map(|it| format!("{}=={}\n", it.name, it.version))
            .collect();
        // What is there already is what a tool prefers.
        let whole = self.put("lock.txt", if limits.upgrade { "" } else { &pins })?;
        self.hands.give(self.work)?;
        let mut command = self.uv()?;
        command.extend(["pip", "compile", "--no-header", "--no-annotate"].map(str::to_owned));
        command.extend(inputs.iter().map(|it| it.display().to_string()));
        self.common(&mut command, &[&bounds], cutoff, interpreter);
        if self.hashes(&sources) {
            command.push("--generate-hashes".to_owned());
        }
        if limits.upgrade {
            command.push("--upgrade".to_owned());
        }
        command.extend(["--output-file".to_owned(), whole.display().to_string()]);
        let ran = self.hands.run(command, &[], LONG).await?;
        if !ran.succeeded {
            let message = format!(
                "uv can't choose versions for {}:\n{}",
                self.project.name,
                told(&ran.stderr)
            );
            return Err(Error::refused("RESOLUTION_FAILED", message, Vec::new()));
        }
        let lock = std::fs::read_to_string(&whole).map_err(|error| failed(&whole, error))?;
        let pins: Vec<Pin> = pins_of(&lock);
        let chosen = pins
            .iter()
            .map(|pin| Chosen { name: pin.name.clone(), version: pin.version.clone() })
            .collect();
        let mut manifests = Vec::new();
        for source in &compiled {
            let text = self.compile(source, &lock, cutoff, interpreter).await?;
            manifests.push((source.manifest.clone(), text));
        }
        manifests.extend(self.rewritten(&free, &pins, locked)?);
        Ok(Resolved { chosen, manifests, lock })
    }

    fn common(
        &self,
        command: &mut Vec<String>,
        constraints: &[&Path],
        cutoff: Option<Timestamp>,
        interpreter: &str,
    ) {
        command.extend(["--quiet", "--python"].map(str::to_owned));
        command.push(interpreter.to_owned());
        for file in constraints {
            command.extend(["--constraints".to_owned(), file.display().to_string()]);
        }
        if let Some(cutoff) = cutoff {
            command.extend(["--exclude-newer".to_owned(), cutoff.to_string()]);
        }
        if !self.project.managed.source_builds {
            command.extend(["--only-binary", ":all:"].map(str::to_owned));
        }
    }

    /// Whether what is installed can be held to hashes: what is no archive of an index has none.
    fn hashes(&self, sources: &[Source]) -> bool {
        let unmanaged = |text: &str| {
            requirements::read(text).iter().any(|it| matches!(it.item, Item::Unmanaged { .. }))
        };
        !sources.iter().any(|it| {
            let input = it.input.as_ref().map(|input| read_manifest(&self.project.root, input));
            unmanaged(&it.text) || input.and_then(Result::ok).is_some_and(|text| unmanaged(&text))
        })
    }

    /// What manifests that are compiled from nothing want: all that they lock.
    fn wanted(&self, free: &[&Source], locked: &[Locked]) -> Result<String> {
        let mut wanted = String::new();
        for source in free {
            for entry in requirements::read(&source.text) {
                if let Item::Unmanaged { what, .. } = entry.item {
                    let file = source.manifest.display();
                    let message = format!(
                        "{file} has {what} in line {}, which only {} could say more of: write what you want into that file, and compile it",
                        entry.line,
                        source.manifest.with_extension("in").display()
                    );
                    return Err(refused("PROJECT_UNMANAGED", message));
                }
            }
        }
        let files = self.files(free);
        for it in locked.iter().filter(|it| files.contains(&it.file)) {
            let extras = match it.extras.is_empty() {
                true => String::new(),
                false => format!("[{}]", it.extras.join(",")),
            };
            let marker = it.marker.as_ref().map(|it| format!(" ; {it}")).unwrap_or_default();
            let _ = writeln!(wanted, "{}{extras}{marker}", it.name);
        }
        Ok(wanted)
    }

    /// The manifests and what they include, which is all that is locked and not in a file that is compiled.
    fn files(&self, free: &[&Source]) -> BTreeSet<String> {
        let own: BTreeSet<String> =
            free.iter().map(|it| it.manifest.display().to_string()).collect();
        let mut all = own.clone();
        for source in free {
            let beside = source.manifest.parent().unwrap_or(Path::new(""));
            for entry in requirements::read(&source.text) {
                if let Item::Include { path, .. } = entry.item {
                    all.insert(beside.join(path).display().to_string());
                }
            }
        }
        all
    }

    /// Compiles a manifest anew to the versions that were chosen, as it was compiled before.
    async fn compile(
        &self,
        source: &Source,
        lock: &str,
        cutoff: Option<Timestamp>,
        interpreter: &str,
    ) -> Result<String> {
        let Some(input) = &source.input else { return Ok(source.text.clone()) };
        let plain: String =
            pins_of(lock).iter().map(|it| format!("{}=={}\n", it.name, it.version)).collect();
        let exact = self.put("exact.txt", &plain)?;
        let name = format!("manifests/{}", source.manifest.display());
        let to = self.put(&name, "")?;
        self.hands.give(self.work)?;
        let mut command = self.uv()?;
        command.extend(["pip", "compile"].map(str::to_owned));
        command.push(input.display().to_string());
        self.common(&mut command, &[&exact], cutoff, interpreter);
        let style = style(&source.text);
        command.extend(style.options);
        let spoken = style.command.unwrap_or_else(|| {
            format!("uv pip compile {} -o {}", input.display(), source.manifest.display())
        });
        command.extend(["--output-file".to_owned(), to.display().to_string()]);
        let environment = [("UV_CUSTOM_COMPILE_COMMAND", spoken)];
        let ran = self.hands.run(command, &environment, LONG).await?;
        if !ran.succeeded {
            let file = source.manifest.display();
            let message = format!("uv can't compile {file}:\n{}", told(&ran.stderr));
            return Err(refused("RESOLUTION_FAILED", message));
        }
        std::fs::read_to_string(&to).map_err(|error| failed(&to, error))
    }

    /// Manifests that are compiled from nothing, and files that they include, with other versions and nothing else
    /// changed. What is new comes to the end of the first.
    fn rewritten(
        &self,
        free: &[&Source],
        pins: &[Pin],
        locked: &[Locked],
    ) -> Result<Vec<(PathBuf, String)>> {
        let normal = |name: &str| Ecosystem::PyPI.normalise(name);
        let new: BTreeMap<String, &Pin> = pins.iter().map(|it| (normal(&it.name), it)).collect();
        let mut written = Vec::new();
        for file in self.files(free) {
            let path = PathBuf::from(&file);
            let text = read_manifest(&self.project.root, &path)?;
            let mut moves = Vec::new();
            for entry in requirements::read(&text) {
                let Item::Pin(pin) = entry.item else { continue };
                if let Some(chosen) = new.get(&normal(&pin.name))
                    && chosen.version != pin.version
                {
                    let (version, hashes) = (chosen.version.clone(), chosen.hashes.clone());
                    moves.push(Move { line: entry.line, version, hashes });
                }
            }
            let text = requirements::rewrite(&text, &moves).map_err(|error| {
                refused("RESOLUTION_FAILED", format!("{file} can't be rewritten: {error}"))
            })?;
            written.push((path, text));
        }
        let known: BTreeSet<String> = locked.iter().map(|it| normal(&it.name)).collect();
        let added: Vec<&Pin> =
            pins.iter().filter(|it| !known.contains(&normal(&it.name))).collect();
        let first = free.first().map(|it| it.manifest.clone());
        if let (false, Some((_, text))) =
            (added.is_empty(), written.iter_mut().find(|(path, _)| Some(path) == first.as_ref()))
        {
            let hashed = text.contains("--hash");
            if !text.is_empty() && !text.ends_with('\n') {
                text.push('\n');
            }
            text.push_str("# Wanted by what is above.\n");
            for pin in added {
                let _ = write!(text, "{}=={}", pin.name, pin.version);
                for hash in pin.hashes.iter().filter(|_| hashed) {
                    let _ = write!(text, " \\\n    --hash={hash}");
                }
                text.push('\n');
            }
        }
        Ok(written)
    }

    /// Makes the virtual environment of a release in `folder`, an empty one, of what `lock` holds.
    ///
    /// # Errors
    /// `DEPENDENCY_TOOL_MISSING`, `BUILD_FAILED`.
    pub(super) async fn build(&self, folder: &Path, lock: &str, interpreter: &str) -> Result<()> {
        let lock_path = self.put("install.txt", lock)?;
        self.hands.give(self.work)?;
        let mut make = self.uv()?;
        make.extend(
            ["venv", "--quiet", "--no-project", "--allow-existing", "--python"].map(str::to_owned),
        );
        make.extend([interpreter.to_owned(), folder.display().to_string()]);
        self.step(make).await?;
        let mut install = self.uv()?;
        install.extend(
            ["pip", "sync", "--quiet", "--compile-bytecode", "--link-mode", "copy", "--python"]
                .map(str::to_owned),
        );
        install.push(folder.join("bin/python").display().to_string());
        if lock.contains("--hash=") {
            install.push("--require-hashes".to_owned());
        }
        if !self.project.managed.source_builds {
            install.extend(["--only-binary", ":all:"].map(str::to_owned));
        }
        install.push(lock_path.display().to_string());
        self.step(install).await
    }

    async fn step(&self, command: Vec<String>) -> Result<()> {
        // A release is others' to read, whatever the agent's own files are.
        let mut whole: Vec<String> =
            ["sh", "-c", "umask 022 && exec \"$@\"", "sh"].map(str::to_owned).into();
        whole.extend(command);
        let ran = self.hands.run(whole, &[], LONG).await?;
        match ran.succeeded {
            true => Ok(()),
            false => {
                let message = format!(
                    "uv can't make the release of {}:\n{}",
                    self.project.name,
                    told(&ran.stderr)
                );
                Err(Error::unavailable("BUILD_FAILED", message))
            }
        }
    }
}

fn pins_of(lock: &str) -> Vec<Pin> {
    let entries = requirements::read(lock).into_iter();
    entries.filter_map(|it| if let Item::Pin(pin) = it.item { Some(pin) } else { None }).collect()
}

/// The interpreter that a release is made for: the one of the release in service, else the host's.
pub(super) fn interpreter(link: Option<&Path>) -> String {
    let own = link.map(|link| link.join("bin/python")).and_then(|it| it.canonicalize().ok());
    own.map_or_else(|| "python3".to_owned(), |it| it.display().to_string())
}

/// How a manifest was compiled.
#[derive(Debug, PartialEq, Eq)]
struct Style {
    options: Vec<String>,
    command: Option<String>,
}

/// Options of a compilation that say what the file looks like, or for whom it is.
const KEPT: [&str; 6] = [
    "--universal",
    "--no-strip-extras",
    "--strip-extras",
    "--no-emit-index-url",
    "--emit-index-url",
    "--emit-index-annotation",
];
/// The same with a value.
const KEPT_VALUES: [&str; 3] = ["--annotation-style", "--python-version", "--python-platform"];

fn style(text: &str) -> Style {
    let header: Vec<&str> = text.lines().take_while(|it| it.starts_with('#')).collect();
    let command = header.iter().find_map(|line| {
        let line = line.trim_start_matches('#').trim();
        (line.starts_with("uv pip compile") || line.starts_with("pip-compile")).then_some(line)
    });
    let mut options = Vec::new();
    let mut words = command.unwrap_or_default().split_whitespace();
    while let Some(word) = words.next() {
        let name = word.split('=').next().unwrap_or_default();
        if KEPT.contains(&word) || (KEPT_VALUES.contains(&name) && word.contains('=')) {
            options.push(word.to_owned());
        } else if KEPT_VALUES.contains(&word) {
            options.extend(words.next().map(|value| format!("{word}={value}")));
        }
    }
    if command.is_none() {
        options.push("--no-header".to_owned());
    }
    if text.contains("--hash=") {
        options.push("--generate-hashes".to_owned());
    }
    let annotated = text.lines().any(|it| it.trim_start().starts_with("# via"))
        || text.lines().any(|it| it.contains("# via"));
    if !annotated {
        options.push("--no-annotate".to_owned());
    }
    Style { options, command: command.map(str::to_owned) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_is_compiled_as_it_was_before() {
        let made = "# This file was autogenerated by uv via the following command:\n#    uv pip compile --universal --python-version 3.9 \
                    requirements.in -o requirements.txt --index-url x\na==1 \\\n    --hash=sha256:aa\n    # via b\n";
        let Style { options, command } = style(made);
        assert_eq!(options, ["--universal", "--python-version=3.9", "--generate-hashes"]);
        assert!(command.unwrap().starts_with("uv pip compile --universal"));
        let plain = style("a==1\n");
        assert_eq!(plain.options, ["--no-header", "--no-annotate"]);
        assert_eq!(plain.command, None);
    }
}
