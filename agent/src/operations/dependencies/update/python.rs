//! Python projects, by uv: versions are chosen by `uv pip compile`, and installed by `uv pip sync`, with the hashes that
//! were chosen.

use std::fmt::Write as _;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use genesis_advisories::requirements::Pin;
use jiff::Timestamp;

use super::super::config::Project;
use super::super::locked::Collected;
use super::manifests::{self, Source, pins_of};
use super::plan::{Chosen, Limits};
use super::tool::{Hands, LONG, offer, own_program, told_in_line};
use super::{Resolved, failed, refused};
use crate::error::{Error, Result};

const HINT: &str =
    "install it (pip install uv), or put its folder into PATH=... of the project's environment";

/// A Python project and what works on it.
pub(super) struct Python<'a> {
    /// The project.
    pub(super) project: &'a Project,
    /// What runs tools.
    pub(super) hands: &'a Hands,
    /// Where the agent writes for tools, and they for the agent; it is there, and the agent's own.
    pub(super) work: &'a Path,
}

/// What is chosen for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Aim<'a> {
    /// How far each package may go.
    pub(super) limits: &'a Limits,
    /// Only what was out then.
    pub(super) cutoff: Option<Timestamp>,
    /// Packages that may be younger.
    pub(super) young: &'a [String],
    /// For this interpreter.
    pub(super) interpreter: &'a str,
}

impl Python<'_> {
    /// Whether there is an uv.
    ///
    /// # Errors
    /// `DEPENDENCY_TOOL_MISSING`.
    pub(super) fn check(hands: &Hands) -> Result<()> {
        hands.find("uv", HINT).map(drop)
    }

    fn uv(&self) -> Result<Vec<String>> {
        let uv = self.hands.find("uv", HINT)?;
        let cache = self.work.join("cache");
        let words = ["--no-progress", "--no-python-downloads", "--cache-dir"].map(str::to_owned);
        // A release is others' to read, whatever the agent's own files are.
        let umask = "umask 022 && exec \"$@\"".to_owned();
        let mut all = vec![own_program("sh")?, "-c".to_owned(), umask, "sh".to_owned()];
        all.push(uv.display().to_string());
        all.extend(words);
        all.push(cache.display().to_string());
        all.extend(["--directory".to_owned(), self.project.root.display().to_string()]);
        Ok(all)
    }

    /// Makes the folders that tools write to, and gives them to the project's user.
    ///
    /// # Errors
    /// `DEPENDENCY_UPDATE_FAILED`.
    fn folders(&self) -> Result<()> {
        for name in ["out", "cache"] {
            let folder = self.work.join(name);
            std::fs::create_dir_all(&folder).map_err(|error| failed(&folder, error))?;
            self.hands.give(&folder)?;
        }
        Ok(())
    }

    /// Writes what a tool reads.
    fn put(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.work.join("in").join(name);
        offer(&path, text)?;
        Ok(path)
    }

    /// Chooses versions.
    ///
    /// # Errors
    /// `DEPENDENCY_TOOL_MISSING`, `PROJECT_UNMANAGED`, `RESOLUTION_FAILED`, `DEPENDENCY_UPDATE_FAILED`.
    pub(super) async fn resolve(&self, collected: &Collected, aim: Aim<'_>) -> Result<Resolved> {
        let sources = manifests::sources(self.project)?;
        self.folders()?;
        let limits = aim.limits;
        let mut bounds = String::new();
        for it in &limits.each {
            let marker = it.marker.as_ref().map(|it| format!(" ; {it}")).unwrap_or_default();
            let _ = writeln!(bounds, "{}{}{marker}", it.name, it.requirement);
        }
        let (wanted, more) = manifests::wanted(&sources, collected);
        bounds.push_str(&more);
        let bounds = self.put("limits.txt", &bounds)?;
        let mut inputs: Vec<PathBuf> = sources.iter().filter_map(|it| it.input.clone()).collect();
        if sources.iter().any(|it| it.input.is_none()) {
            inputs.push(self.put("wanted.in", &wanted)?);
        }
        let whole = self.work.join("out/lock.txt");
        let pins = collected.packages.iter().filter(|it| it.marker.is_none());
        let pins: String = pins.map(|it| format!("{}=={}\n", it.name, it.version)).collect();
        // What is there already is what a tool prefers.
        let before = self.put("before.txt", if limits.upgrade { "" } else { &pins })?;
        self.hands.copy(&before, &whole).await?;
        let mut command = self.uv()?;
        command.extend(["pip", "compile", "--no-header", "--no-annotate"].map(str::to_owned));
        command.extend(inputs.iter().map(|it| it.display().to_string()));
        self.common(&mut command, &[&bounds], aim);
        if !self.project.managed.source_builds {
            // All of it is archives of an index, so that it can be held to their hashes.
            command.push("--generate-hashes".to_owned());
        }
        command.extend(["--output-file".to_owned(), whole.display().to_string()]);
        self.compile(command, &[], &self.project.name).await?;
        let lock = self.hands.read(&whole).await?;
        let pins: Vec<Pin> = pins_of(&lock);
        let mut written = Vec::new();
        for source in sources.iter().filter(|it| it.input.is_some()) {
            let text = self.again(source, (&pins, &bounds), aim).await?;
            written.push((source.manifest.clone(), text));
        }
        // A manifest may be for other environments too: what they get is judged as well.
        let others = written.iter().flat_map(|(_, text)| pins_of(text));
        let mut chosen: Vec<Chosen> = Vec::new();
        for pin in pins.iter().cloned().chain(others) {
            let it = Chosen { name: pin.name, version: pin.version };
            if !chosen.contains(&it) {
                chosen.push(it);
            }
        }
        let (project, aim_limits) = (self.project, aim.limits);
        written.extend(manifests::rewritten(project, &sources, collected, (&pins, aim_limits))?);
        let installed = pins.into_iter();
        let installed = installed.map(|it| Chosen { name: it.name, version: it.version }).collect();
        Ok(Resolved { chosen, installed, manifests: written, lock })
    }

    fn common(&self, command: &mut Vec<String>, constraints: &[&Path], aim: Aim<'_>) {
        command.extend(["--quiet", "--python"].map(str::to_owned));
        command.push(aim.interpreter.to_owned());
        for file in constraints {
            command.extend(["--constraints".to_owned(), file.display().to_string()]);
        }
        if let Some(cutoff) = aim.cutoff {
            command.extend(["--exclude-newer".to_owned(), cutoff.to_string()]);
            for name in aim.young {
                command.extend(["--exclude-newer-package".to_owned(), format!("{name}=false")]);
            }
        }
        if aim.limits.upgrade {
            command.push("--upgrade".to_owned());
        }
        if !self.project.managed.source_builds {
            command.extend(["--only-binary", ":all:"].map(str::to_owned));
        }
    }

    /// Compiles a manifest anew, as it was compiled before: to the versions that were chosen, or where it is for other
    /// environments too within the same limits.
    async fn again(
        &self,
        source: &Source,
        (pins, bounds): (&[Pin], &Path),
        aim: Aim<'_>,
    ) -> Result<String> {
        let Some(input) = &source.input else { return Ok(source.text.clone()) };
        let plain = pins.iter().map(|it| format!("{}=={}\n", it.name, it.version));
        let exact = self.put("exact.txt", &plain.collect::<String>())?;
        let to = self.work.join("out/manifests").join(&source.manifest);
        let before = self.put("manifest.txt", &source.text)?;
        self.hands.copy(&before, &to).await?;
        let mut command = self.uv()?;
        command.extend(["pip", "compile"].map(str::to_owned));
        command.push(input.display().to_string());
        let constraints: &[&Path] = if source.style.for_others { &[bounds] } else { &[&exact] };
        self.common(&mut command, constraints, aim);
        command.extend(source.style.options.iter().cloned());
        let spoken = source.style.command.clone().unwrap_or_else(|| {
            format!("uv pip compile {} -o {}", input.display(), source.manifest.display())
        });
        command.extend(["--output-file".to_owned(), to.display().to_string()]);
        let environment = [("UV_CUSTOM_COMPILE_COMMAND", spoken)];
        self.compile(command, &environment, &source.manifest.display().to_string()).await?;
        let text = self.hands.read(&to).await?;
        // Where the agent's own limits lay is nobody's business, and another place each time.
        let own = self.work.file_name().unwrap_or_default().to_string_lossy();
        Ok(manifests::without_origin(&text, &format!("{own}/in/")))
    }

    async fn compile(
        &self,
        command: Vec<String>,
        environment: &[(&str, String)],
        what: &str,
    ) -> Result<()> {
        let ran = self.hands.run(command, environment, LONG).await?;
        match ran.succeeded {
            true => Ok(()),
            false => {
                let why = told_in_line(&ran.stderr);
                let message = format!("uv can't choose versions for {what}: {why}");
                Err(refused("RESOLUTION_FAILED", message))
            }
        }
    }

    /// Makes the virtual environment of a release in `folder`, an empty one, of what `lock` holds. Nothing that is
    /// installed is run by that: no bytecode is made, for which Python would be started in it.
    ///
    /// # Errors
    /// `DEPENDENCY_TOOL_MISSING`, `BUILD_FAILED`.
    pub(super) async fn build(&self, folder: &Path, lock: &str, interpreter: &str) -> Result<()> {
        self.folders()?;
        let lock_path = self.put("install.txt", lock)?;
        let mut make = self.uv()?;
        make.extend(
            ["venv", "--quiet", "--no-project", "--allow-existing", "--python"].map(str::to_owned),
        );
        make.extend([interpreter.to_owned(), folder.display().to_string()]);
        self.step(make).await?;
        let mut install = self.uv()?;
        let words = ["pip", "sync", "--quiet", "--link-mode", "copy", "--python"];
        install.extend(words.map(str::to_owned));
        install.push(folder.join("bin/python").display().to_string());
        if !self.project.managed.source_builds {
            install.extend(["--require-hashes", "--only-binary", ":all:"].map(str::to_owned));
        }
        install.push(lock_path.display().to_string());
        self.step(install).await
    }

    async fn step(&self, command: Vec<String>) -> Result<()> {
        let ran = self.hands.run(command, &[], LONG).await?;
        match ran.succeeded {
            true => Ok(()),
            false => {
                let why = told_in_line(&ran.stderr);
                let message = format!("uv can't make the release of {}: {why}", self.project.name);
                Err(Error::unavailable("BUILD_FAILED", message))
            }
        }
    }
}

/// The interpreter that a release is made for: the one of the release in service, else the host's. One that somebody else
/// than root or the agent may have put there is not run.
pub(super) fn interpreter(link: Option<&Path>) -> String {
    let own = link.map(|link| link.join("bin/python")).and_then(|it| it.canonicalize().ok());
    let agent = rustix::process::geteuid().as_raw();
    let trusted = own.filter(|it| {
        std::fs::metadata(it).is_ok_and(|facts| {
            (facts.uid() == 0 || facts.uid() == agent) && facts.mode() & 0o022 == 0
        })
    });
    trusted.map_or_else(|| "python3".to_owned(), |it| it.display().to_string())
}
