//! The part of an update that touches what is in service: the link, the service, the manifests; and the way back.

use std::path::{Path, PathBuf};
use std::time::Duration;

use genesis_storage::{DependencyReleaseRecord, UpdateRecord, UpdateState};
use serde_json::json;

use super::super::config::managed::Deploy;
use super::super::{Dependencies, aside};
use super::plan::At;
use super::releases::BEGUN;
use super::window::{self, Window};
use super::{Target, digest, failed, read_manifest, releases};
use crate::error::{Error, Result};
use crate::outside::{failpoint, files, hooks, links};
use crate::runs::Context;

/// How a way back ended.
pub(super) struct Back {
    /// The service was restarted and does well, or had not to be restarted.
    pub well: bool,
    /// In words.
    pub how: String,
}

async fn point(deploy: &Deploy, target: Option<String>) -> Result<()> {
    let link = deploy.link.clone();
    aside(move || {
        let target = target.map(PathBuf::from);
        links::point(&link, target.as_deref()).map_err(|error| failed(&link, error))?;
        // What it leads to now is what counts.
        let there = links::target(&link).map_err(|error| failed(&link, error))?;
        match there == target {
            true => Ok(()),
            false => {
                let message = format!("{} was moved, and does not lead there", link.display());
                Err(Error::unavailable("DEPENDENCY_UPDATE_FAILED", message))
            }
        }
    })
    .await
}

async fn restart(target: &Target, record: &UpdateRecord, release: &str, why: &str) -> Result<()> {
    let name = &target.project.name;
    let input = json!({ "project": name, "release": release, "run": record.id, "why": why });
    let variables = [
        ("PROJECT", name.clone()),
        ("RELEASE", release.to_owned()),
        ("LINK", target.deploy.link.display().to_string()),
    ];
    hooks::run(&target.deploy.restart, &input, &variables).await.map(drop).map_err(|error| {
        Error::unavailable("RESTART_FAILED", format!("{name} can't be restarted")).caused_by(error)
    })
}

impl Dependencies {
    /// Puts a release in the place of the one in service, and watches it. On an error, what had begun is taken back, and
    /// how that went is in the record.
    pub(super) async fn bring(
        &self,
        target: &Target,
        record: &mut UpdateRecord,
        context: &Context,
    ) -> Result<()> {
        match self.forward(target, record, context).await {
            Ok(()) => Ok(()),
            Err(error) => {
                record.failed_in = Some(record.state);
                record.error_code = error.code.to_owned();
                record.error = error.chain();
                // A state that can't be written keeps nobody from taking it back.
                let noted = self.put_update(record).await;
                if record.state >= UpdateState::Restart
                    && self.leads(target, record)? == At::Elsewhere
                {
                    // What somebody else has put in service is theirs.
                    return Err(error);
                }
                failpoint::hit("dependencies.undoing");
                let link = target.deploy.link.display().to_string();
                let step = context.begin("take-back", &link).await;
                let back = self.back(target, record).await;
                let (well, how) = match back {
                    Ok(back) => (back.well, back.how),
                    Err(error) => (false, error.chain()),
                };
                if let Err(error) = noted {
                    tracing::error!(error = error.chain(), "what is taken back is not noted");
                }
                let ended = match step {
                    Ok(step) if well => step.done(how).await,
                    Ok(step) => step.failed(how).await,
                    Err(error) => Err(error),
                };
                if let Err(error) = ended {
                    tracing::error!(error = error.chain(), "what was taken back is not noted");
                }
                Err(error)
            }
        }
    }

    async fn forward(
        &self,
        target: &Target,
        record: &mut UpdateRecord,
        context: &Context,
    ) -> Result<()> {
        let Target { project, deploy, .. } = target;
        context.safe_point()?;
        check_unchanged(target, record).await?;
        let release = record.new_target.clone().unwrap_or_default();
        self.at(record, UpdateState::Deploy).await?;
        failpoint::hit("dependencies.deploy");
        let step = context.begin("deploy", &deploy.link.display().to_string()).await?;
        let link = links::target(&deploy.link).map_err(|error| failed(&deploy.link, error))?;
        if link.as_deref() != record.old_target.as_deref().map(Path::new) {
            let message = format!("somebody else moved {} meanwhile", deploy.link.display());
            return Err(Error::conflict("DEPENDENCY_UPDATE_FAILED", message));
        }
        point(deploy, record.new_target.clone()).await?;
        failpoint::hit("dependencies.linked");
        step.done(format!("leads to {release}")).await?;

        self.at(record, UpdateState::Restart).await?;
        failpoint::hit("dependencies.restart");
        let step = context.begin("restart", &project.name).await?;
        restart(target, record, &release, "a new release is in its place").await?;
        failpoint::hit("dependencies.restarted");
        step.done("").await?;

        self.at(record, UpdateState::Health).await?;
        failpoint::hit("dependencies.health");
        let step = context.begin("watch", &project.name).await?;
        let window = Window::new(deploy.start_within, deploy.health_for);
        let place = self.place(target)?;
        window::watch(&self.outside, (deploy, Some(&place)), window, Some(context)).await?;
        step.done("it did well for the whole window").await?;

        if self.leads(target, record)? != At::New {
            let message = format!("somebody else moved {} meanwhile", deploy.link.display());
            return Err(Error::conflict("LINK_MOVED", message));
        }
        check_unchanged(target, record).await?;
        self.at(record, UpdateState::Commit).await?;
        failpoint::hit("dependencies.commit");
        let step = context.begin("write", &project.root.display().to_string()).await?;
        self.write_manifests(target, record, record.to_generation).await?;
        failpoint::hit("dependencies.written");
        step.done("").await
    }

    /// Where the link leads now.
    pub(super) fn leads(&self, target: &Target, record: &UpdateRecord) -> Result<At> {
        let link = links::target(&target.deploy.link)
            .map_err(|error| failed(&target.deploy.link, error))?;
        let (old, new) = (record.old_target.as_deref(), record.new_target.as_deref());
        Ok(releases::at(link.as_deref(), old, new))
    }

    /// Writes the manifests that were kept with a release, and reads them back. What somebody else has written meanwhile
    /// stays.
    pub(super) async fn write_manifests(
        &self,
        target: &Target,
        record: &UpdateRecord,
        generation: u64,
    ) -> Result<()> {
        let root = target.project.root.clone();
        let kept = self.kept_manifests(&target.project.name, generation)?;
        if kept.is_empty() {
            let message =
                format!("the manifests that were kept with generation {generation} are gone");
            return Err(Error::unavailable("DEPENDENCY_UPDATE_FAILED", message));
        }
        let mut ours: Vec<String> =
            record.manifests.iter().map(|(_, digest)| digest.clone()).collect();
        for other in [BEGUN, record.from_generation, record.to_generation] {
            let texts = self.kept_manifests(&target.project.name, other).unwrap_or_default();
            ours.extend(texts.iter().map(|(_, text)| digest(text)));
        }
        aside(move || {
            for (path, text) in kept {
                let whole = root.join(&path);
                // What can't be read, or is there no more, was changed by somebody.
                let there = read_manifest(&root, &path).unwrap_or_default();
                if there == text {
                    continue;
                }
                if !ours.contains(&digest(&there)) {
                    let message = format!("somebody has changed {} meanwhile", whole.display());
                    return Err(Error::conflict("MANIFEST_CHANGED", message));
                }
                files::replace(&whole, text.as_bytes()).map_err(|error| failed(&whole, error))?;
                if read_manifest(&root, &path)? != text {
                    let message = format!("{} was written, and reads otherwise", whole.display());
                    return Err(Error::unavailable("DEPENDENCY_UPDATE_FAILED", message));
                }
            }
            Ok(())
        })
        .await
    }

    /// Takes back what an update has begun: the manifests, the link, the service. May be begun anew after a crash.
    pub(super) async fn back(&self, target: &Target, record: &mut UpdateRecord) -> Result<Back> {
        let Target { deploy, .. } = target;
        let reached = record.failed_in.unwrap_or(record.state);
        // First what counts most.
        let link = links::target(&deploy.link).map_err(|error| failed(&deploy.link, error))?;
        let new = record.new_target.as_deref().map(Path::new);
        if new.is_some() && link.as_deref() == new {
            point(deploy, record.old_target.clone()).await?;
        }
        failpoint::hit("dependencies.back");
        record.restart_owed = reached >= UpdateState::Restart && record.old_target.is_some();
        let noted = self.put_update(record).await;
        let written = self.manifests_back(target, record).await;
        let back = match &record.old_target {
            Some(_) if record.restart_owed => self.pay_restart(target, record).await?,
            Some(old) => {
                Back { well: true, how: format!("{old} is in service, and was all the time") }
            }
            None if reached >= UpdateState::Restart => {
                // There was no release before it. Whoever restarts it sees that there is none now.
                let tried = restart(target, record, "", "there is no release any more").await;
                let how = match tried {
                    Ok(()) => {
                        "nothing is in service, as before; its service may still run".to_owned()
                    }
                    Err(error) => {
                        format!("nothing is in service, as before; {}", error.chain())
                    }
                };
                Back { well: false, how }
            }
            None => Back { well: true, how: "nothing is in service, as before".to_owned() },
        };
        noted.and(written).map(|()| back)
    }

    /// Writes the manifests as they were before, where it had come to writing them.
    pub(super) async fn manifests_back(
        &self,
        target: &Target,
        record: &UpdateRecord,
    ) -> Result<()> {
        if record.failed_in.unwrap_or(record.state) < UpdateState::Commit {
            return Ok(());
        }
        match self.write_manifests(target, record, BEGUN).await {
            // What somebody else has written is theirs; the release goes back all the same.
            Err(error) if error.code == "MANIFEST_CHANGED" => {
                tracing::warn!(error = error.chain(), "a manifest is left as it is");
                Ok(())
            }
            written => written,
        }
    }

    /// Restarts a service with what is in its place again, and looks that it does well.
    pub(super) async fn pay_restart(
        &self,
        target: &Target,
        record: &mut UpdateRecord,
    ) -> Result<Back> {
        let old = record.old_target.clone().unwrap_or_default();
        let restarted =
            restart(target, record, &old, "the release before is in its place again").await;
        failpoint::hit("dependencies.restarted-back");
        if let Err(error) = restarted {
            return Ok(Back {
                well: false,
                how: format!("{old} is in place, but {}", error.chain()),
            });
        }
        let window = Window::new(target.deploy.start_within, Duration::ZERO);
        let well = window::watch(&self.outside, (&target.deploy, None), window, None).await;
        record.restart_owed = false;
        record.ill = well.as_ref().err().map(Error::chain).unwrap_or_default();
        self.put_update(record).await?;
        Ok(match well {
            Ok(()) => Back { well: true, how: format!("{old} is in service again, and does well") },
            Err(error) => Back {
                well: false,
                how: format!("{old} is in service again, but {}", error.chain()),
            },
        })
    }

    /// A release, recorded with an entry in the oplog.
    pub(super) async fn put_release(
        &self,
        release: DependencyReleaseRecord,
        record: &UpdateRecord,
    ) -> Result<()> {
        let intent = self
            .intent(record, "dependencies.release")
            .detail(format!("generation {}: {}", release.generation, release.folder));
        self.state
            .write(intent, move |writing| Ok(writing.dependencies().put_release(&release)?))
            .await
    }
}

/// What somebody has written into a manifest meanwhile is not written over.
async fn check_unchanged(target: &Target, record: &UpdateRecord) -> Result<()> {
    let now = releases::manifests(&target.project).await?;
    for (path, was) in &record.manifests {
        let text = now.iter().find(|(it, _)| it == Path::new(path)).map(|(_, text)| text);
        if text.is_none_or(|text| digest(text) != *was) {
            let message = format!(
                "somebody has changed {} meanwhile: nothing is written over it; update again",
                target.project.root.join(path).display()
            );
            return Err(Error::conflict("MANIFEST_CHANGED", message));
        }
    }
    Ok(())
}
