//! Updates: versions are chosen within limits, held against the advisories, installed beside what is in service, tested,
//! and put in its place; what does not prove itself there is taken back.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use genesis_advisories::Ecosystem;
use genesis_advisories::bounds::Strategy;
use genesis_storage::{ChangeRecord, UpdateRecord};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::config::managed::{Deploy, Test, strategy_name};
use super::config::{self, Project};
use super::locked::Collected;
use super::scan::{self, ProjectScan};
use super::{Dependencies, aside};
use crate::emergency::Stance;
use crate::error::{Error, Result};
use crate::runs::{Request, SecondCaller, Started};

mod cargo;
pub mod component;
mod course;
mod deploy;
mod fit;
pub mod installed;
mod manifests;
pub mod plan;
mod planning;
mod prepare;
mod python;
mod releases;
pub mod settle;
#[cfg(test)]
mod tests;
mod tool;
mod way_back;
pub mod window;

use cargo::Cargo;
pub use fit::{ecosystem, unmanaged_why, why_unmanaged};
use plan::{Chosen, Limits, Safe};
use python::{Aim, Python};
use tool::Hands;

/// The kind of a run that updates a project.
pub const UPDATE: &str = "dependencies.update";
/// The kind of a run that goes back to an earlier release.
pub const ROLLBACK: &str = "dependencies.rollback";

/// What a record says in the place of a strategy where it is one of going back.
pub const ROLLBACK_STRATEGY: &str = "rollback";

/// Folders in which versions are chosen for a plan begin with that.
const SCRATCH: &str = "genesis-dependencies-";

/// A manifest has so many bytes at most.
const MANIFEST: usize = 16 << 20;

/// What an update is to be.
#[derive(Debug, Clone)]
pub struct Wish {
    /// How far it goes.
    pub strategy: Strategy,
    /// For an exploited vulnerability.
    pub exploited: bool,
    /// Of the plan to carry out; empty: whatever it is.
    pub plan_hash: String,
}

/// What a tool chose.
#[derive(Debug, Clone, Default)]
pub struct Resolved {
    /// Every package, those for other environments too.
    pub chosen: Vec<Chosen>,
    /// What is installed here.
    pub installed: Vec<Chosen>,
    /// What the manifests are to hold, below the root.
    pub manifests: Vec<(PathBuf, String)>,
    /// What is installed by.
    pub lock: String,
}

/// What an update would do.
#[derive(Debug)]
pub struct Prospect {
    /// What is found of what is locked now.
    pub before: ProjectScan,
    /// And of what was chosen.
    pub after: ProjectScan,
    /// What was chosen.
    pub resolved: Resolved,
    /// What changes.
    pub changes: Vec<ChangeRecord>,
    /// Where it is from.
    pub ecosystem: Ecosystem,
    /// What had no limit.
    pub without: Vec<super::locked::Unjudged>,
    /// Whether the age of versions was held to.
    pub age_checked: bool,
    /// Why data does not say enough; empty: it does.
    pub unjudged: String,
}

/// A project that can be updated, with what that takes.
#[derive(Debug, Clone)]
struct Target {
    project: Project,
    deploy: Deploy,
    test: Test,
}

fn failed(path: &Path, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    let message = format!("{} can't be written or read", path.display());
    Error::unavailable("DEPENDENCY_UPDATE_FAILED", message).caused_by(error)
}

fn refused(code: &'static str, message: impl Into<String>) -> Error {
    Error::refused(code, message, Vec::new())
}

/// Reads a file below the root of a project.
fn read_manifest(root: &Path, path: &Path) -> Result<String> {
    let whole = root.join(path);
    let read = || -> std::io::Result<String> {
        let real = root.canonicalize()?;
        let bytes = crate::outside::files::read_below(&real, &whole.canonicalize()?, MANIFEST)?;
        String::from_utf8(bytes).map_err(|_| std::io::Error::other("it is no text in UTF-8"))
    };
    let plain = path.components().all(|it| matches!(it, Component::Normal(_) | Component::CurDir));
    if !plain {
        return Err(refused(
            "PROJECT_UNMANAGED",
            format!("{} is not below the root", path.display()),
        ));
    }
    read().map_err(|error| failed(&whole, error))
}

/// Names a text.
pub fn digest(text: &str) -> String {
    let hash = Sha256::digest(text.as_bytes());
    hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

impl Dependencies {
    /// The project of this name; empty: the only one that `wanted` picks.
    pub(super) fn project(&self, name: &str, wanted: impl Fn(&Project) -> bool) -> Result<Project> {
        let config = self.config();
        let names = || {
            let names: Vec<&str> = config.projects.iter().map(|it| it.name.as_str()).collect();
            match names.is_empty() {
                true => "none is configured".to_owned(),
                false => format!("there are: {}", names.join(", ")),
            }
        };
        let none = |why: String| Error::not_found("PROJECT_NOT_FOUND", why);
        if name.is_empty() {
            let mut all = config.projects.iter().filter(|it| wanted(it));
            // The only one there is, is meant: whoever asks hears why it is not one that is wanted.
            let only = config.projects.first().filter(|_| config.projects.len() == 1);
            return match (all.next(), all.next(), only) {
                (Some(one), None, _) | (None, _, Some(one)) => Ok(one.clone()),
                _ => Err(none(format!("name a project; {}", names()))),
            };
        }
        let shown: String = name.chars().take(64).collect();
        let found = config.projects.iter().find(|it| it.name == name).cloned();
        found.ok_or_else(|| none(format!("there is no project {shown:?}; {}", names())))
    }

    fn target(&self, name: &str) -> Result<Target> {
        let project = self.project(name, |it| unmanaged_why(it).is_empty())?;
        let why = unmanaged_why(&project);
        match (project.managed.test.clone(), project.managed.deploy.clone()) {
            (Some(test), Some(deploy)) if why.is_empty() => Ok(Target { project, deploy, test }),
            _ => Err(refused(
                "PROJECT_UNMANAGED",
                format!("{} can't be updated: {why}", project.name),
            )),
        }
    }

    /// Chooses versions, and holds them against the advisories.
    ///
    /// # Errors
    /// `PROJECT_UNMANAGED`, `DEPENDENCY_TOOL_MISSING`, `RESOLUTION_FAILED`, `RESOLUTION_OUT_OF_BOUNDS`,
    /// `ADVISORIES_UNAVAILABLE`, `DEPENDENCY_UPDATE_FAILED`.
    pub(super) async fn prospect(
        &self,
        project: &Project,
        wish: &Wish,
        work: &Path,
    ) -> Result<Prospect> {
        let ecosystem = ecosystem(project)?;
        let hands = Hands::of(project, &self.home)?;
        let (collected, before, safe) = self.stands(project).await?;
        let age = match wish.exploited || wish.strategy == Strategy::Security {
            true => std::time::Duration::ZERO,
            false => project.managed.min_release_age,
        };
        let cutoff = match age.is_zero() {
            true => None,
            false => Some(
                self.outside.clock.now() - jiff::SignedDuration::try_from(age).unwrap_or_default(),
            ),
        };
        let urgent = match wish.exploited {
            true => plan::only(&safe, &before.findings),
            false => Safe::new(),
        };
        let mut ways = plan::ways(&collected.packages, wish.strategy, &safe);
        if wish.exploited && urgent.len() < safe.len() {
            // Better one that is mended than none.
            ways.extend(plan::ways(&collected.packages, wish.strategy, &urgent));
        }
        let young = match cutoff {
            Some(_) => self.young(project, age)?,
            None => Vec::new(),
        };
        let kept = plan::keeping(&ways, &young, &ecosystem);
        // What was taken before its age may stay.
        ways.extend(kept);
        let link = project.managed.deploy.as_ref().map(|it| it.link.as_path());
        let interpreter = python::interpreter(link);
        let mut last =
            refused("RESOLUTION_FAILED", format!("nothing is locked in {}", project.name));
        let mut found: Option<(Resolved, Limits)> = None;
        let mut ways = ways.into_iter();
        while let (None, Some(limits)) = (&found, ways.next()) {
            let resolved = match &ecosystem {
                Ecosystem::CratesIo => {
                    let cargo = Cargo { project, hands: &hands, work };
                    cargo.resolve(&collected.packages, &limits).await
                }
                _ => {
                    let aim =
                        Aim { limits: &limits, cutoff, young: &young, interpreter: &interpreter };
                    let aim = if limits.keeps { aim } else { Aim { young: &[], ..aim } };
                    Python { project, hands: &hands, work }.resolve(&collected, aim).await
                }
            };
            match resolved {
                Ok(resolved) => found = Some((resolved, limits)),
                Err(error) if error.code == "RESOLUTION_FAILED" => last = error,
                Err(error) => return Err(error),
            }
        }
        let Some((resolved, limits)) = found else { return Err(last) };
        let broken = limits.broken(&resolved.chosen);
        if !broken.is_empty() {
            let message = format!(
                "what was chosen for {} is out of bounds: {}",
                project.name,
                broken.join("; ")
            );
            return Err(refused("RESOLUTION_OUT_OF_BOUNDS", message));
        }
        let mut changes = plan::changes(&collected.packages, &resolved.chosen, &ecosystem);
        let (after, unjudged) = self.judge(project, &ecosystem, &resolved.chosen).await?;
        plan::note_fixes(&mut changes, &ecosystem, &before.findings, &after.findings);
        let age_checked = !age.is_zero() && ecosystem == Ecosystem::PyPI;
        let without = limits.without;
        Ok(Prospect { before, after, resolved, changes, ecosystem, without, age_checked, unjudged })
    }

    /// Packages that were updated so short a time ago that their versions may be younger than they may be.
    fn young(&self, project: &Project, age: std::time::Duration) -> Result<Vec<String>> {
        let now = self.outside.clock.now();
        let age = jiff::SignedDuration::try_from(age).unwrap_or_default();
        let recent = |it: &UpdateRecord| {
            it.project == project.name && now.duration_since(it.started_at) < age
        };
        let found =
            self.state.read(|reading| Ok(reading.dependencies().updates(1_000, recent)?))?;
        let changed = found.into_iter().flat_map(|it| it.changes).map(|it| it.package);
        let names: std::collections::BTreeSet<String> = changed.collect();
        Ok(names.into_iter().collect())
    }

    /// What is locked, what is found of it, and which versions would be safe.
    async fn stands(&self, project: &Project) -> Result<(Collected, ProjectScan, Safe)> {
        let (file, config, now) = (self.file()?, self.config(), self.outside.clock.now());
        let project = self.with_ignored(project.clone())?;
        aside(move || {
            let collected = super::locked::collect(&project);
            file.read(|reading| {
                let sources = scan::sources(reading, &config, now)?;
                let safe = scan::safe_versions(reading, &collected.packages)?;
                let before = scan::judge(reading, &project, collected.clone(), &sources, now)?;
                Ok((collected, before, safe))
            })
        })
        .await
    }

    /// What is found of packages that were chosen, and why the data does not say enough.
    async fn judge(
        &self,
        project: &Project,
        ecosystem: &Ecosystem,
        chosen: &[Chosen],
    ) -> Result<(ProjectScan, String)> {
        let (file, config, now) = (self.file()?, self.config(), self.outside.clock.now());
        let project = self.with_ignored(project.clone())?;
        let packages = chosen.iter().map(|it| super::locked::Locked {
            ecosystem: ecosystem.clone(),
            name: it.name.clone(),
            version: it.version.clone(),
            extras: Vec::new(),
            marker: None,
            file: String::new(),
            line: 0,
        });
        let collected = Collected { packages: packages.collect(), ..Collected::default() };
        let name = ecosystem.to_string();
        aside(move || {
            file.read(|reading| {
                let sources = scan::sources(reading, &config, now)?;
                let own = sources.iter().find(|it| it.name == name);
                let why = match own {
                    Some(source) if source.state == super::plan::DataState::Checked => {
                        String::new()
                    }
                    Some(source) => format!("the advisories of {name}: {}", source.why),
                    None => format!("there are no advisories of {name}"),
                };
                let after = scan::judge(reading, &project, collected, &sources, now)?;
                Ok((after, why))
            })
        })
        .await
    }

    /// A project with what people ignore of it, beside what its configuration does.
    pub(super) fn with_ignored(&self, mut project: Project) -> Result<Project> {
        let known = self
            .state
            .read(|reading| Ok(reading.dependencies().ignored(Some(&project.name))?))?;
        project.ignored.extend(known.into_iter().map(|it| config::Ignored {
            id: it.id,
            until: it.until,
            reason: it.reason,
            by: it.by,
        }));
        Ok(project)
    }

    /// A folder that is gone when it is dropped.
    pub(super) fn scratch(&self) -> Result<tempfile::TempDir> {
        use std::os::unix::fs::PermissionsExt;

        // Who sweeps what a crash has left sees by the number whose it was.
        let prefix = format!("{SCRATCH}{}-", std::process::id());
        let folder = tempfile::Builder::new().prefix(&prefix).tempdir();
        let folder = folder.map_err(|error| failed(&std::env::temp_dir(), error))?;
        // The project's user passes through; what it must not read is not here.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711))
            .map_err(|error| failed(folder.path(), error))?;
        Ok(folder)
    }

    /// Starts an update.
    ///
    /// # Errors
    /// `PROJECT_NOT_FOUND`, `PROJECT_UNMANAGED`, `DEPENDENCY_TOOL_MISSING`, `RUN_HELD`, `EMERGENCY`.
    pub async fn update(
        self: &Arc<Self>,
        name: &str,
        strategy: Option<Strategy>,
        (plan_hash, exploited): (&str, bool),
        (actor, reason): (String, String),
    ) -> Result<Started> {
        let target = self.target(name)?;
        fit::check_places(&target)?;
        let strategy = strategy.unwrap_or(target.project.managed.strategy);
        self.check_settled(&target.project.name).await?;
        let hands = Hands::of(&target.project, &self.home)?;
        hands.check_sandbox()?;
        match ecosystem(&target.project)? {
            Ecosystem::CratesIo => Cargo::check(&hands)?,
            _ => Python::check(&hands)?,
        }
        let wish = Wish { strategy, exploited, plan_hash: plan_hash.to_owned() };
        let request = Request {
            kind: UPDATE,
            actor,
            reason,
            parameters: json!({
                "project": target.project.name,
                "strategy": strategy_name(strategy),
                "exploited": exploited,
            }),
            key: key(&target.project.name),
            second: SecondCaller::Refuse,
            stance: Stance::Refuse,
        };
        let own = Arc::clone(self);
        self.runs.start(request, move |context| own.run_update(target, wish, context)).await
    }

    /// Starts going back.
    ///
    /// # Errors
    /// Those of [`Dependencies::plan_rollback`], `PLAN_CHANGED`, `RUN_HELD`.
    pub async fn roll_back(
        self: &Arc<Self>,
        name: &str,
        generation: u64,
        plan_hash: &str,
        (actor, reason): (String, String),
    ) -> Result<Started> {
        let target = self.target(name)?;
        self.check_settled(&target.project.name).await?;
        if let Some(run) = self.runs.active_with_key(&key(&target.project.name)) {
            let message = format!(
                "run {run} of {} goes on: wait for its end, or cancel it",
                target.project.name
            );
            return Err(Error::conflict("RUN_HELD", message));
        }
        self.plan_rollback(name, generation)?.accept(plan_hash)?;
        let (_, release) = self.way_back(&target, generation)?;
        let request = Request {
            kind: ROLLBACK,
            actor,
            reason,
            parameters: json!({ "project": target.project.name, "generation": release.generation }),
            key: key(&target.project.name),
            second: SecondCaller::Refuse,
            // What was in service before is what one may need then.
            stance: Stance::GoOn,
        };
        let own = Arc::clone(self);
        self.runs.start(request, move |context| own.run_rollback(target, release, context)).await
    }

    /// At most `limit` updates of a project, or of all, newest first.
    ///
    /// # Errors
    /// `PROJECT_NOT_FOUND`, `STORAGE_FAILED`.
    pub fn updates(&self, project: &str, limit: usize) -> Result<Vec<UpdateRecord>> {
        let wanted = |it: &UpdateRecord| project.is_empty() || it.project == project;
        let found =
            self.state.read(|reading| Ok(reading.dependencies().updates(limit, wanted)?))?;
        if found.is_empty() && !project.is_empty() {
            // One that is configured no more may still have some.
            self.project(project, |_| true)?;
        }
        Ok(found)
    }
}

/// Two updates of one project never go on together, nor an update and a rollback.
pub(super) fn key(project: &str) -> String {
    format!("{UPDATE}/{project}")
}
