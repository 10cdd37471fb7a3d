//! Copies, which services read: written, and compared with what they should be.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::config::{Content, Deployment};
use super::disk;
use super::material::PEM_LIMIT;
use crate::outside::{files, host};

/// So many links are followed on the way to a copy.
const LINKS: usize = 16;

/// What a copy holds of a chain and a key.
pub(super) fn content(content: Content, fullchain: &[u8], key: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(fullchain);
    let end = "-----END CERTIFICATE-----";
    let split = text.find(end).map_or(text.len(), |at| at + end.len());
    let (leaf, chain) = text.split_at(split);
    let lines = |text: &str| {
        let text = text.trim();
        if text.is_empty() { Vec::new() } else { format!("{text}\n").into_bytes() }
    };
    match content {
        Content::Fullchain => lines(&text),
        Content::Chain => lines(chain),
        Content::Leaf => lines(leaf),
        Content::Key => lines(&String::from_utf8_lossy(key)),
        Content::Combined => [lines(&String::from_utf8_lossy(key)), lines(&text)].concat(),
    }
}

/// Writes a copy, though never into the agent's own `state`.
///
/// # Errors
/// What the disk says, with the path, and what to do.
pub(super) fn deploy(
    deployment: &Deployment,
    (fullchain, key): (&[u8], &[u8]),
    state: &Path,
) -> Result<(), String> {
    let path = &deployment.path;
    let owner = owner_of(deployment)?;
    let bytes = content(deployment.content, fullchain, key);
    let place = destination(path)?;
    let own = fs::canonicalize(state).unwrap_or_else(|_| state.to_owned());
    if place.starts_with(own) {
        return Err(format!(
            "{} leads into the agent's own folder, to {}: name a path elsewhere",
            path.display(),
            place.display()
        ));
    }
    let owner = (owner != (None, None)).then_some(owner);
    disk::write(&place, &bytes, deployment.mode, owner)
        .map_err(|error| format!("{}: {error}", path.display()))
}

/// The user and the group that a copy is to belong to, where any are configured.
fn owner_of(deployment: &Deployment) -> Result<(Option<u32>, Option<u32>), String> {
    let id = |what: &str, name: &str, look: fn(&str) -> Option<u32>| match name.is_empty() {
        true => Ok(None),
        false => look(name).map(Some).ok_or_else(|| {
            format!("there is no {what} {name:?} for {}", deployment.path.display())
        }),
    };
    let user = id("user", &deployment.owner, host::user_id)?;
    Ok((user, id("group", &deployment.group, host::group_id)?))
}

/// Where the links on a path lead, also where nothing is there yet. A link is somebody's choice, and followed only where
/// nobody but root and the agent could have made it: others would have the agent write, with its rights, where they can't.
///
/// # Errors
/// With what to do.
fn destination(path: &Path) -> Result<PathBuf, String> {
    let failed = |at: &Path, error: io::Error| format!("{}: {error}", at.display());
    let mut rest: Vec<OsString> = Vec::new();
    let ahead = |path: &Path, rest: &mut Vec<OsString>| {
        rest.extend(path.components().rev().map(|it| it.as_os_str().to_owned()));
    };
    ahead(path, &mut rest);
    let (mut place, mut links) = (PathBuf::from("/"), 0);
    while let Some(name) = rest.pop() {
        let next = match name.as_bytes() {
            b"/" => PathBuf::from("/"),
            b".." => place.parent().unwrap_or(Path::new("/")).to_owned(),
            _ => place.join(&name),
        };
        let facts = match fs::symlink_metadata(&next) {
            Ok(facts) => facts,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                place = next;
                continue;
            }
            Err(error) => return Err(failed(&next, error)),
        };
        if !facts.is_symlink() {
            place = next;
            continue;
        }
        links += 1;
        if links > LINKS {
            return Err(format!("{} leads through more than {LINKS} links", path.display()));
        }
        let around = fs::metadata(&place).map_err(|error| failed(&place, error))?;
        if !is_trusted(&facts) || !is_trusted(&around) || around.mode() & 0o022 != 0 {
            return Err(format!(
                "{} is a link that others than root and the agent could have put there: remove it, or let root own it and \
                 its folder, and nobody else write there (`chown -h root {}`, `chown root {}`, `chmod go-w {}`)",
                next.display(),
                next.display(),
                place.display(),
                place.display()
            ));
        }
        ahead(&fs::read_link(&next).map_err(|error| failed(&next, error))?, &mut rest);
    }
    Ok(place)
}

fn is_trusted(facts: &fs::Metadata) -> bool {
    facts.uid() == 0 || facts.uid() == rustix::process::geteuid().as_raw()
}

/// Whether a copy is as it should be.
///
/// # Errors
/// What is wrong with it.
pub(super) fn compare(deployment: &Deployment, fullchain: &[u8], key: &[u8]) -> Result<(), String> {
    let shown = deployment.path.display();
    let (owner, group) = owner_of(deployment)?;
    // A copy may hold a key and a chain.
    let read = files::read_small(&destination(&deployment.path)?, 2 * PEM_LIMIT);
    let (found, facts) = read.map_err(|error| format!("{shown}: {error}"))?;
    if found != content(deployment.content, fullchain, key) {
        return Err(format!("{shown} holds something else"));
    }
    let mode = facts.mode() & 0o7777;
    if mode != deployment.mode {
        return Err(format!("{shown} has mode {mode:04o}, {:04o} is configured", deployment.mode));
    }
    for (what, found, name, wanted) in [
        ("user", facts.uid(), &deployment.owner, owner),
        ("group", facts.gid(), &deployment.group, group),
    ] {
        if wanted.is_some_and(|wanted| wanted != found) {
            return Err(format!("{shown} is of {what} {found}, {name:?} is configured"));
        }
    }
    Ok(())
}
