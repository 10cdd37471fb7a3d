//! Whether a project can be updated at all: better known before anything is built.

use std::path::Path;

use genesis_advisories::Ecosystem;

use super::super::aside;
use super::super::config::Project;
use super::super::locked::is_cargo;
use super::{Target, manifests, refused};
use crate::error::Result;
use crate::outside::{files, links};

/// Where the packages of a project are from.
///
/// # Errors
/// `PROJECT_UNMANAGED`: from several.
pub fn ecosystem(project: &Project) -> Result<Ecosystem> {
    let cargo = project.manifests.iter().filter(|it| is_cargo(it)).count();
    match cargo {
        0 => Ok(Ecosystem::PyPI),
        1 if project.manifests.len() == 1 => Ok(Ecosystem::CratesIo),
        _ => Err(refused(
            "PROJECT_UNMANAGED",
            format!(
                "{} has manifests of several kinds, or several Cargo.lock: make a project of each to have them updated",
                project.name
            ),
        )),
    }
}

/// Whether a release could come into its place at all: better known before it is built.
///
/// # Errors
/// `PROJECT_UNMANAGED`.
pub(super) fn check_places(target: &Target) -> Result<()> {
    let Target { project, deploy, .. } = target;
    let wrong = |why: String| {
        Err(refused("PROJECT_UNMANAGED", format!("{} can't be updated: {why}", project.name)))
    };
    if let Err(error) = links::target(&deploy.link) {
        return wrong(format!("{}: {error}", deploy.link.display()));
    }
    let beside = deploy.link.parent().unwrap_or(Path::new("/"));
    match files::writable(beside) {
        Ok(()) => Ok(()),
        Err(why) => wrong(format!("the link can't be moved in {}: {why}", beside.display())),
    }
}

/// Why a project can't be updated; empty: it can.
pub fn unmanaged_why(project: &Project) -> String {
    let managed = &project.managed;
    match (ecosystem(project), &managed.test, &managed.deploy) {
        (Err(error), ..) => error.message,
        (_, None, _) => "it has no test suite: configure test = { command = [...] }".to_owned(),
        (.., None) => {
            "it has nowhere to go: configure deploy = { releases_dir, link, restart, health }"
                .to_owned()
        }
        _ => String::new(),
    }
}

/// The same, by a look at its manifests too.
pub async fn why_unmanaged(project: Project) -> String {
    let why = unmanaged_why(&project);
    if !why.is_empty() || ecosystem(&project).ok() != Some(Ecosystem::PyPI) {
        return why;
    }
    let looked = aside(move || Ok(manifests::sources(&project).err())).await;
    looked.unwrap_or_else(Some).map(|error| error.message).unwrap_or_default()
}
