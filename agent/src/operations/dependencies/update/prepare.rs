//! The part of an update that touches nothing in service: choose, judge, build, test.

use std::path::{Path, PathBuf};

use genesis_advisories::Ecosystem;
use genesis_storage::{DependencyReleaseRecord, UpdateRecord, UpdateState};

use super::super::config::Project;
use super::super::config::managed::{Deploy, strategy_name};
use super::super::{Dependencies, aside};
use super::cargo::Cargo;
use super::plan;
use super::python::{Python, interpreter};
use super::tool::{Hands, View, told, told_in_line};
use super::{Prospect, Target, Wish, digest, failed, installed, refused, releases};
use crate::error::{Error, Result, Unmet};
use crate::outside::{failpoint, files, links, trees};
use crate::runs::Context;

/// A release that is ready to come into service.
pub(super) struct Ready {
    /// What the link is to lead to.
    pub place: PathBuf,
    /// Its number.
    pub generation: u64,
    /// What changes, in words.
    pub summary: String,
}

/// What came of preparing.
pub(super) enum Prepared {
    /// A release.
    Ready(Ready),
    /// Nothing is to be changed; in words.
    Nothing(String),
}

/// Whether what was chosen may be installed at all.
///
/// # Errors
/// `UPDATE_UNJUDGED`, `UPDATE_VULNERABLE`.
pub(super) fn accept(project: &Project, prospect: &Prospect) -> Result<()> {
    if !prospect.unjudged.is_empty() {
        let message = format!(
            "what was chosen for {} can't be judged: {}; import newer ones with `genesisctl deps import-advisories`",
            project.name, prospect.unjudged
        );
        return Err(refused("UPDATE_UNJUDGED", message));
    }
    let brought = plan::brought(&prospect.before.findings, &prospect.after.findings);
    if brought.is_empty() {
        return Ok(());
    }
    let unmet = brought.iter().map(|it| Unmet {
        code: "UPDATE_VULNERABLE",
        subject: format!("{} {}", it.finding.package, it.finding.version),
        message: format!("{}: {}", it.finding.id, it.finding.why.join("; ")),
    });
    let unmet: Vec<Unmet> = unmet.collect();
    let each: Vec<String> =
        unmet.iter().map(|it| format!("{} ({})", it.subject, it.message)).collect();
    let message = format!(
        "what was chosen for {} would bring vulnerabilities that are not there now: {}",
        project.name,
        each.join(", ")
    );
    Err(Error::refused("UPDATE_VULNERABLE", message, unmet))
}

/// The folder that tools work in while a release is made.
pub(super) fn work_of(deploy: &Deploy, id: &str) -> PathBuf {
    deploy.releases.join(format!("{WORK}{id}"))
}

/// Such folders begin with that.
pub(super) const WORK: &str = ".genesis-work-";

impl Dependencies {
    /// Writes how far an update is.
    pub(super) async fn at(&self, record: &mut UpdateRecord, state: UpdateState) -> Result<()> {
        record.state = state;
        self.put_update(record).await
    }

    /// Makes and tests a release; `None`: there is nothing to change.
    pub(super) async fn prepare(
        &self,
        target: &Target,
        wish: &Wish,
        record: &mut UpdateRecord,
        context: &Context,
    ) -> Result<Prepared> {
        let Target { project, deploy, .. } = target;
        let hands = Hands::of(project, &self.home)?;
        hands.check_sandbox()?;
        let work = work_of(deploy, &record.id);
        make_open(&deploy.releases)?;
        make(&work)?;
        open(&work)?;
        let (actor, reason) = (record.actor.clone(), record.reason.clone());
        let who = (actor.as_str(), reason.as_str());
        let step = context.begin("backup", &project.root.display().to_string()).await?;
        record.from_generation = self.register(target, who).await?;
        self.put_update(record).await?;
        failpoint::hit("dependencies.backup");
        step.done(format!("{} manifests are kept", project.manifests.len())).await?;

        self.at(record, UpdateState::Resolve).await?;
        failpoint::hit("dependencies.resolve");
        let step = context.begin("resolve", strategy_name(wish.strategy)).await?;
        let prospect = {
            let _alone = self.choosing.lock().await;
            self.prospect(project, wish, &work).await?
        };
        step.done(format!(
            "{} packages, {} changes",
            prospect.resolved.chosen.len(),
            prospect.changes.len()
        ))
        .await?;

        record.changes.clone_from(&prospect.changes);
        self.at(record, UpdateState::Scan).await?;
        failpoint::hit("dependencies.scan");
        let step = context.begin("scan", "what was chosen").await?;
        self.plan_of(target, wish, &prospect)?.accept(&wish.plan_hash)?;
        accept(project, &prospect)?;
        let mended: usize = prospect.changes.iter().map(|it| it.fixes.len()).sum();
        step.done(format!("brings nothing new; mends {mended}")).await?;
        let link = links::target(&deploy.link).map_err(|error| failed(&deploy.link, error))?;
        if link.is_some() && self.is_in_service(target, &prospect).await? {
            let strategy = strategy_name(wish.strategy);
            let stay = plan::staying(&prospect.after.findings);
            let text = format!("{}: nothing newer is within {strategy}{stay}", project.name);
            return Ok(Prepared::Nothing(text));
        }
        let ready = self.build(target, record, &prospect, (&hands, &work), context).await?;
        self.test(target, record, &ready, (&hands, &work), context).await?;
        Ok(Prepared::Ready(ready))
    }

    /// Whether what was chosen is in service already: nothing changes, or it is what is locked nowhere, and installed.
    async fn is_in_service(&self, target: &Target, prospect: &Prospect) -> Result<bool> {
        if prospect.changes.is_empty() {
            return Ok(true);
        }
        let brings = prospect.changes.iter().all(|it| it.from.is_none());
        if !brings || prospect.ecosystem == Ecosystem::CratesIo {
            return Ok(false);
        }
        let now = releases::manifests(&target.project).await?;
        let as_it_is = prospect.resolved.manifests.iter().all(|it| now.contains(it));
        let Some(place) = releases::in_service(&target.deploy)? else { return Ok(false) };
        let chosen = prospect.resolved.installed.clone();
        let there = aside(move || Ok(installed::python(&place).ok().flatten())).await?;
        let there = there.unwrap_or_default();
        Ok(as_it_is && installed::differences(&chosen, &there).is_empty())
    }

    async fn build(
        &self,
        target: &Target,
        record: &mut UpdateRecord,
        prospect: &Prospect,
        (hands, work): (&Hands, &Path),
        context: &Context,
    ) -> Result<Ready> {
        let Target { project, deploy, .. } = target;
        let generation = self.next_generation(project, deploy)?;
        let place = deploy.releases.join(generation.to_string());
        record.to_generation = generation;
        let shown = place.display().to_string();
        record.new_target = Some(shown.clone());
        self.at(record, UpdateState::Build).await?;
        failpoint::hit("dependencies.build");
        let step = context.begin("build", &shown).await?;
        make(&place)?;
        // Who serves by it may be anybody.
        open(&place)?;
        hands.give(&place)?;
        let resolved = &prospect.resolved;
        match prospect.ecosystem {
            Ecosystem::CratesIo => Cargo { project, hands, work }.build(&place).await?,
            _ => {
                let python = Python { project, hands, work };
                python.build(&place, &resolved.lock, &interpreter(Some(&deploy.link))).await?;
                let (look, chosen) = (place.clone(), resolved.installed.clone());
                aside(move || read_back(&look, &chosen)).await?;
            }
        }
        // What was built is tested, and nobody changes it in between.
        hands.take(&place)?;
        let sync = place.clone();
        aside(move || trees::sync(&sync).map_err(|error| failed(&sync, error))).await?;
        failpoint::hit("dependencies.built");
        let manifests = whole(project, &resolved.manifests).await?;
        self.keep(&project.name, generation, &manifests).await?;
        let texts: String = manifests.iter().map(|(_, text)| text.as_str()).collect();
        let packages = resolved.installed.len();
        let release = DependencyReleaseRecord {
            project: project.name.clone(),
            generation,
            folder: shown,
            digest: digest(&texts),
            packages: u32::try_from(packages).unwrap_or(u32::MAX),
            made_at: self.outside.clock.now(),
            deployed_at: None,
            update_id: record.id.clone(),
            proven: false,
        };
        self.put_release(release, record).await?;
        step.done(format!("{packages} packages, read back")).await?;
        let summary = summary(record);
        Ok(Ready { place, generation, summary })
    }

    async fn test(
        &self,
        target: &Target,
        record: &mut UpdateRecord,
        ready: &Ready,
        (hands, work): (&Hands, &Path),
        context: &Context,
    ) -> Result<()> {
        let Target { project, test, .. } = target;
        self.at(record, UpdateState::Test).await?;
        failpoint::hit("dependencies.test");
        let step = context.begin("test", &test.command.join(" ")).await?;
        let place = &ready.place;
        let path = format!("{}:{}", place.join("bin").display(), hands.path());
        let text = |path: &Path| path.display().to_string();
        let scratch = work.join("test");
        make(&scratch)?;
        hands.give(&scratch)?;
        let mut environment = vec![
            ("HOME", text(&scratch)),
            ("VIRTUAL_ENV", text(place)),
            ("CARGO_NET_OFFLINE", "true".to_owned()),
            ("CARGO_TARGET_DIR", text(&work.join("target"))),
            ("GENESIS_RELEASE", text(place)),
        ];
        let mut readable = vec![place.clone()];
        // The interpreter that the release leads to.
        let own = place.join("bin/python").canonicalize().ok();
        readable.extend(own.and_then(|it| Some(it.parent()?.parent()?.to_owned())));
        let folder = match super::ecosystem(project)? {
            Ecosystem::CratesIo => {
                for (name, folder) in hands.homes() {
                    environment.push((name, text(&folder)));
                    readable.push(folder);
                }
                // What was built is a copy with the new lock.
                work.join("source")
            }
            _ => project.root.clone(),
        };
        let readable: Vec<&Path> = readable.iter().map(PathBuf::as_path).collect();
        let target_folder = work.join("target");
        let writable: Vec<&Path> = [scratch.as_path(), target_folder.as_path()]
            .into_iter()
            .filter(|it| it.is_dir())
            .collect();
        let view = View { folder: &folder, readable: &readable, writable: &writable };
        let ran = hands.run_apart(&test.command, (&view, &path), &environment, test.timeout).await;
        let ran = ran.map_err(|error| {
            Error::unavailable(
                "TESTS_FAILED",
                format!("the tests of {} did not end well", project.name),
            )
            .caused_by(error)
        })?;
        let mut said = told(&ran.stdout);
        let complained = told(&ran.stderr);
        if !complained.is_empty() {
            said = format!("{said}\n{complained}");
        }
        record.test_output = said.trim().to_owned();
        failpoint::hit("dependencies.tested");
        if !ran.succeeded {
            self.put_update(record).await?;
            let said = told_in_line(ran.said.as_bytes());
            step.failed(said.clone()).await?;
            let message =
                format!("the tests of {} fail with what was chosen: {said}", project.name);
            return Err(Error::unavailable("TESTS_FAILED", message));
        }
        let last = record.test_output.lines().last().unwrap_or_default().to_owned();
        step.done(last).await
    }
}

/// What changes, in words.
pub(super) fn summary(record: &UpdateRecord) -> String {
    let each = record.changes.iter().take(10).map(|it| {
        let version = |it: &Option<String>| it.clone().unwrap_or_else(|| "nothing".to_owned());
        format!("{} {} -> {}", it.package, version(&it.from), version(&it.to))
    });
    let mut all: Vec<String> = each.collect();
    if record.changes.len() > all.len() {
        all.push(format!("and {} more", record.changes.len() - all.len()));
    }
    match all.is_empty() {
        true => "no changes".to_owned(),
        false => all.join(", "),
    }
}

/// All manifests of a project: those that change, and the others as they are.
async fn whole(project: &Project, changed: &[(PathBuf, String)]) -> Result<Vec<(PathBuf, String)>> {
    let mut all = releases::manifests(project).await?;
    for (path, new) in changed {
        let Some((_, text)) = all.iter_mut().find(|(known, _)| known == path) else {
            let message = format!("{} is no manifest of {}", path.display(), project.name);
            return Err(Error::internal("DEPENDENCY_UPDATE_FAILED", message));
        };
        text.clone_from(new);
    }
    Ok(all)
}

fn make(folder: &Path) -> Result<()> {
    files::create_folders(folder).map_err(|error| failed(folder, error))
}

/// Makes a folder that everybody may read, if it is not there; one that is there is as somebody wanted it.
fn make_open(folder: &Path) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    make(folder)?;
    open(folder)
}

fn open(folder: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;

    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(folder, mode).map_err(|error| failed(folder, error))
}

/// That a tool says it went well is not enough.
fn read_back(place: &Path, chosen: &[plan::Chosen]) -> Result<()> {
    let there = installed::python(place).map_err(|error| failed(place, error))?;
    let differences = installed::differences(chosen, &there.unwrap_or_default());
    if differences.is_empty() {
        return Ok(());
    }
    let each = differences.iter().take(10).map(|(name, wanted, there)| match there.is_empty() {
        true => format!("{name} {wanted} is not there"),
        false => format!("{name} is {there}, not {wanted}"),
    });
    let message = format!("uv ended well, and {}", each.collect::<Vec<_>>().join(", "));
    Err(Error::unavailable("BUILD_FAILED", message))
}
