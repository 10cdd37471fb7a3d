//! Releases: which there are, which one is in service, what manifests belong to each, and which are over.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use genesis_advisories::Ecosystem;
use genesis_storage::{DependencyReleaseRecord, Intent, UpdateRecord};

use super::super::config::Project;
use super::super::config::managed::Deploy;
use super::super::look::others;
use super::super::{Dependencies, aside};
use super::manifests::pins_of;
use super::plan::{self, At, Chosen};
use super::{Target, digest, failed, installed, read_manifest, way_back};
use crate::error::{Error, Result};
use crate::outside::replaced::Place;
use crate::outside::{files, links, trees};

/// In the place of a number: the manifests as they were when the last update or rollback began. No release has it.
pub(super) const BEGUN: u64 = 0;

/// Where the link of a project leads, as a folder.
pub(super) fn in_service(deploy: &Deploy) -> Result<Option<PathBuf>> {
    let target = links::target(&deploy.link).map_err(|error| failed(&deploy.link, error))?;
    let beside = deploy.link.parent().unwrap_or(Path::new("/"));
    Ok(target.map(|target| beside.join(target)))
}

/// Whether two names are of one folder.
fn same(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    one == other || real(one) == real(other)
}

/// Where the link leads, of two places.
pub(super) fn at(link: Option<&Path>, old: Option<&str>, new: Option<&str>) -> At {
    let is = |other: Option<&str>| link == other.map(Path::new);
    match () {
        () if new.is_some() && is(new) => At::New,
        () if is(old) => At::Old,
        () => At::Elsewhere,
    }
}

/// The manifests of a project, with what they include, as they are now.
pub(super) async fn manifests(project: &Project) -> Result<Vec<(PathBuf, String)>> {
    let project = project.clone();
    aside(move || {
        let files = super::super::locked::collect(&project).files;
        let each = files.into_iter().map(PathBuf::from);
        each.map(|it| Ok((it.clone(), read_manifest(&project.root, &it)?))).collect()
    })
    .await
}

impl Dependencies {
    /// The releases of a project that are known, newest first.
    pub(in super::super) fn releases(&self, project: &str) -> Result<Vec<DependencyReleaseRecord>> {
        self.state.read(|reading| Ok(reading.dependencies().releases(project)?))
    }

    /// The release that is in service, where the agent knows it.
    pub(in super::super) fn current(
        &self,
        project: &Project,
        releases: &[DependencyReleaseRecord],
    ) -> Result<Option<DependencyReleaseRecord>> {
        let Some(deploy) = &project.managed.deploy else { return Ok(None) };
        let Some(place) = in_service(deploy)? else { return Ok(None) };
        Ok(releases.iter().find(|it| same(Path::new(&it.folder), &place)).cloned())
    }

    /// Where processes are looked for that run what was replaced.
    pub(super) fn place(&self, target: &Target) -> Result<Place> {
        let Target { project, deploy, .. } = target;
        let releases = self.releases(&project.name)?;
        let current = self.current(project, &releases)?;
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        Ok(Place {
            releases: real(&deploy.releases),
            link: deploy.link.clone(),
            current: real(&deploy.link),
            others: others(&releases, current.as_ref()),
        })
    }

    /// The number of the next release: no folder and no record has it, and none had it before.
    pub(super) fn next_generation(&self, project: &Project, deploy: &Deploy) -> Result<u64> {
        let releases = self.releases(&project.name)?;
        let updates = self.state.read(|reading| {
            let own = |it: &genesis_storage::UpdateRecord| it.project == project.name;
            Ok(reading.dependencies().updates(usize::MAX, own)?)
        })?;
        let used = updates.iter().map(|it| it.to_generation.max(it.from_generation));
        let names =
            trees::names(&deploy.releases).map_err(|error| failed(&deploy.releases, error))?;
        let there = names.iter().filter_map(|name| name.parse::<u64>().ok());
        let known = releases.iter().map(|it| it.generation);
        let greatest = known.chain(used).chain(there).max().unwrap_or(0);
        greatest.checked_add(1).ok_or_else(|| {
            let message =
                format!("{} has a folder with the greatest number", deploy.releases.display());
            Error::internal("DEPENDENCY_UPDATE_FAILED", message)
        })
    }

    /// Where the manifests of a release are kept.
    pub(super) fn kept(&self, project: &str, generation: u64) -> PathBuf {
        self.home.join("dependencies").join(project).join(generation.to_string())
    }

    /// The release in service, recorded as one to go back to with the manifests as they are now. 0: nothing is in service.
    pub(super) async fn register(&self, target: &Target, who: (&str, &str)) -> Result<u64> {
        let Target { project, deploy, .. } = target;
        let releases = self.releases(&project.name)?;
        let manifests = manifests(project).await?;
        // As they are now, whatever they were when the release was made: what comes to nothing leaves them so.
        self.keep(&project.name, BEGUN, &manifests).await?;
        let Some(place) = in_service(deploy)? else { return Ok(0) };
        let known = releases.iter().find(|it| same(Path::new(&it.folder), &place)).cloned();
        let generation = match &known {
            Some(known) => known.generation,
            None => self.next_generation(project, deploy)?,
        };
        let look = place.clone();
        let packages = aside(move || Ok(installed::python(&look).ok().flatten())).await?;
        if let Some(known) = &known {
            // What a release was made of stays with it, unless somebody has installed something else there by hand.
            let kept = self.kept_manifests(&project.name, generation)?;
            let by_hand = known.update_id.is_empty()
                && packages.as_ref().is_some_and(|there| lacks(&manifests, there).is_none());
            if kept.is_empty() || by_hand {
                self.keep(&project.name, generation, &manifests).await?;
            }
            return Ok(generation);
        }
        self.keep(&project.name, generation, &manifests).await?;
        let texts: String = manifests.iter().map(|(_, text)| text.as_str()).collect();
        let now = self.outside.clock.now();
        let release = DependencyReleaseRecord {
            project: project.name.clone(),
            generation,
            folder: place.display().to_string(),
            digest: digest(&texts),
            packages: packages.map_or(0, |it| u32::try_from(it.len()).unwrap_or(u32::MAX)),
            made_at: now,
            deployed_at: None,
            update_id: String::new(),
            proven: true,
        };
        let intent = Intent::new(now, who.0, "dependencies.release-found")
            .target(format!("{}/{generation}", project.name))
            .reason(who.1)
            .detail(release.folder.clone());
        self.state
            .write(intent, move |writing| Ok(writing.dependencies().put_release(&release)?))
            .await?;
        Ok(generation)
    }

    /// Keeps the manifests of a release, durably.
    pub(super) async fn keep(
        &self,
        project: &str,
        generation: u64,
        manifests: &[(PathBuf, String)],
    ) -> Result<()> {
        let (place, manifests) = (self.kept(project, generation), manifests.to_vec());
        aside(move || {
            let beside = place.with_extension("new");
            let write = || -> std::io::Result<()> {
                trees::remove(&beside)?;
                for (path, text) in &manifests {
                    let to = beside.join(path);
                    files::create_folders(to.parent().unwrap_or(&beside))?;
                    std::fs::write(&to, text)?;
                }
                files::create_folders(&beside)?;
                trees::sync(&beside)?;
                // Whoever looks finds the old ones or the new ones.
                match place.exists() {
                    true => {
                        files::exchange(&beside, &place)?;
                        trees::remove(&beside)
                    }
                    false => files::rename_new(&beside, &place),
                }
            };
            write().map_err(|error| failed(&place, error))
        })
        .await
    }

    /// The manifests that were kept with a release.
    pub(super) fn kept_manifests(
        &self,
        project: &str,
        generation: u64,
    ) -> Result<Vec<(PathBuf, String)>> {
        let place = self.kept(project, generation);
        let mut paths = Vec::new();
        files::walk(&place, &mut |path| paths.push(path.to_owned()))
            .map_err(|error| failed(&place, error))?;
        paths.sort();
        let read = paths.into_iter().filter(|it| it.is_file()).map(|path| {
            let text = std::fs::read_to_string(&path).map_err(|error| failed(&path, error))?;
            Ok((path.strip_prefix(&place).unwrap_or(&path).to_owned(), text))
        });
        read.collect()
    }

    /// The generation in service, and the release that one goes back to; generation 0: the proven one before it.
    pub(super) fn way_back(
        &self,
        target: &Target,
        generation: u64,
    ) -> Result<(u64, DependencyReleaseRecord)> {
        let project = &target.project;
        let releases = self.releases(&project.name)?;
        let current = self.current(project, &releases)?.map_or(0, |it| it.generation);
        let can = |wanted: u64| {
            releases
                .iter()
                .any(|it| it.generation == wanted && it.proven && Path::new(&it.folder).is_dir())
        };
        let wanted = match generation {
            0 => {
                let own = |it: &UpdateRecord| it.project == project.name;
                let updates = self
                    .state
                    .read(|reading| Ok(reading.dependencies().updates(usize::MAX, own)?))?;
                way_back::before(current, &updates, &can)
            }
            generation => Some(generation),
        };
        let found = match wanted {
            None => None,
            Some(generation) => releases.iter().find(|it| it.generation == generation && it.proven),
        };
        let known: Vec<String> = releases
            .iter()
            .filter(|it| it.generation != current && it.proven)
            .map(|it| it.generation.to_string())
            .collect();
        let known = match known.is_empty() {
            true => "there is no other one".to_owned(),
            false => format!("there are: {}", known.join(", ")),
        };
        let none = |why: String| Error::not_found("RELEASE_NOT_FOUND", format!("{why}; {known}"));
        let release = found.cloned().ok_or_else(|| match generation {
            0 => none(format!("{} has no release before the one in service", project.name)),
            _ => none(format!("{} has no release {generation}", project.name)),
        })?;
        if release.generation == current {
            return Err(none(format!("release {current} of {} is in service", project.name)));
        }
        if !Path::new(&release.folder).is_dir() {
            return Err(none(format!(
                "the folder of release {}, {}, is gone",
                release.generation, release.folder
            )));
        }
        self.whole(project, &release)?;
        Ok((current, release))
    }

    /// Whether a release still is what it was: its manifests are kept, and what they lock is installed.
    fn whole(&self, project: &Project, release: &DependencyReleaseRecord) -> Result<()> {
        let generation = release.generation;
        let damaged = |why: String| {
            let message = format!("release {generation} of {} is damaged: {why}", project.name);
            Err(Error::refused("RELEASE_DAMAGED", message, Vec::new()))
        };
        let kept = self.kept_manifests(&project.name, generation)?;
        if kept.is_empty() {
            return damaged("the manifests that were kept with it are gone".to_owned());
        }
        let place = Path::new(&release.folder);
        if super::ecosystem(project)? != Ecosystem::PyPI {
            let made = trees::names(&place.join("bin")).unwrap_or_default();
            return match made.is_empty() {
                true => damaged("it has no program".to_owned()),
                false => Ok(()),
            };
        }
        let there = installed::python(place).ok().flatten().unwrap_or_default();
        match lacks(&kept, &there) {
            Some((name, version)) => damaged(format!("{name} {version} is not in it")),
            None => Ok(()),
        }
    }

    /// Removes the releases that are over.
    pub(super) async fn expire(
        &self,
        target: &Target,
        in_use: &[u64],
        who: (&str, &str),
    ) -> Result<()> {
        let Target { project, deploy, .. } = target;
        let releases = self.releases(&project.name)?;
        for old in plan::expired(&releases, project.managed.keep, in_use) {
            self.discard(project, deploy, old, who).await?;
        }
        Ok(())
    }

    /// Forgets a release, and removes it where the agent has made it. What can't be removed now is left, and said.
    pub(super) async fn discard(
        &self,
        project: &Project,
        deploy: &Deploy,
        release: &DependencyReleaseRecord,
        who: (&str, &str),
    ) -> Result<()> {
        let (name, generation) = (project.name.clone(), release.generation);
        let intent = Intent::new(self.outside.clock.now(), who.0, "dependencies.release-removed")
            .target(format!("{name}/{generation}"))
            .reason(who.1)
            .detail(release.folder.clone());
        let place = PathBuf::from(&release.folder);
        let own =
            !release.update_id.is_empty() && place == deploy.releases.join(generation.to_string());
        let kept = self.kept(&name, generation);
        self.state
            .write(intent, move |writing| {
                writing.dependencies().remove_release(&name, generation)?;
                Ok(())
            })
            .await?;
        remove(kept).await;
        if own {
            remove(place).await;
        }
        Ok(())
    }
}

/// The first package that manifests lock and that is not there in that version.
fn lacks(
    manifests: &[(PathBuf, String)],
    there: &BTreeMap<String, String>,
) -> Option<(String, String)> {
    let pins = manifests.iter().flat_map(|(_, text)| pins_of(text));
    let wanted: Vec<Chosen> = pins
        .filter(|pin| pin.marker.is_none())
        .map(|pin| Chosen { name: pin.name, version: pin.version })
        .collect();
    let different = installed::differences(&wanted, there).into_iter().next();
    different.map(|(name, version, _)| (name, version))
}

/// Removes a folder; one that can't be is only said.
pub(super) async fn remove(path: PathBuf) {
    let shown = path.display().to_string();
    let removed = aside(move || trees::remove(&path).map_err(|error| failed(&path, error))).await;
    if let Err(error) = removed {
        tracing::error!(
            path = shown,
            error = error.chain(),
            "what is not wanted any more can't be removed"
        );
    }
}
