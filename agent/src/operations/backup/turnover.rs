//! An earlier state of the agent takes the place of the one it has.
//!
//! The file is open as long as the agent runs, and what happens until its end must go forward with it. So a rollback only
//! puts a proven copy beside the file, and says so in a file of its own; when the agent starts, before it opens its
//! state, what must not go back is carried into the copy, which then takes the place by a rename. The state before keeps
//! a name of its own, so that it can be gone back to. Whatever a crash cuts off is gone on with at the next start.
//!
//! The copy has the name of its rollback, so that none is taken for another's. Whatever takes the place has an entry of
//! that rollback in its operation log, so that [`super::turned`] can tell what came of it by the state itself.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use genesis_storage::{
    CarryError, DEFAULT_CACHE_BYTES, GapRecord, Intent, carry_forward, leave_gap,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::component::STATE;
use crate::error::{Error, Result};
use crate::outside::{failpoint, files, trees};

/// What the names of copies begin with that are to take the place; the id of the rollback follows.
const STAGED: &str = "state.redb.restoring";
/// What is to be done with it.
const WANTED: &str = "state.restore.json";
/// What the names of states begin with that were replaced.
const BEFORE: &str = "state.redb.before-";
/// What a point is called that is one of those.
pub(super) const POINT: &str = "before-";
/// The entry in the operation log of a state that took the place; its correlation id is the rollback.
pub(super) const RESTORED: &str = "state.restored";

/// What is to take the place, and who wants that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// The rollback, which the copy is named by.
    pub rollback: String,
    /// The point.
    pub to: String,
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// What was done about it at a start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turned {
    /// What was wanted.
    pub wanted: Wanted,
    /// It was put in place, now or before; otherwise the state is as it was.
    pub placed: bool,
    /// In words.
    pub detail: String,
}

fn failed(what: &str, error: io::Error) -> Error {
    Error::unavailable("STATE_ROLLBACK_FAILED", format!("the earlier state {what}"))
        .caused_by(error)
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// What waits for the next start.
///
/// # Errors
/// `STATE_ROLLBACK_FAILED`.
pub fn wanted(home: &Path) -> Result<Option<Wanted>> {
    let unclear = |error| failed(&format!("can't be told from {WANTED}: move it away"), error);
    match std::fs::read(home.join(WANTED)) {
        Ok(text) => {
            let wanted: Wanted =
                serde_json::from_slice(&text).map_err(|error| unclear(error.into()))?;
            // It becomes a part of paths.
            match ulid::Ulid::from_string(&wanted.rollback) {
                Ok(_) => Ok(Some(wanted)),
                Err(error) => Err(unclear(io::Error::other(error))),
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(&format!("can't be told from {WANTED}"), error)),
    }
}

fn staged(home: &Path, rollback: &str) -> PathBuf {
    home.join(format!("{STAGED}-{rollback}"))
}

/// Where the copy of a state is made that is to take the place, and what it is made from.
pub(super) fn beside(home: &Path, rollback: &str) -> (PathBuf, PathBuf) {
    let named = |end: &str| home.join(format!("{STAGED}-{rollback}.{end}"));
    (named("new"), named("from"))
}

/// Has a proven copy wait for the next start, instead of whatever waited.
pub(super) fn stage(home: &Path, copy: &Path, wanted: &Wanted) -> Result<()> {
    let put = || -> io::Result<()> {
        File::open(copy)?.sync_all()?;
        std::fs::rename(copy, staged(home, &wanted.rollback))?;
        sync(home)?;
        failpoint::hit("state.staged");
        files::replace(&home.join(WANTED), &serde_json::to_vec(wanted)?)?;
        failpoint::hit("state.wanted");
        if failpoint::fails("state.staging") || failpoint::fails("state.unsynced") {
            return Err(io::Error::other("a fault of a test"));
        }
        Ok(())
    };
    put().map_err(|error| failed("can't be put beside the state", error))?;
    sweep(home, Some(&wanted.rollback));
    Ok(())
}

/// Has nothing wait any more.
pub(super) fn withdraw(home: &Path) -> Result<()> {
    let removed = match std::fs::remove_file(home.join(WANTED)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ if failpoint::fails("state.unsynced") => Err(io::Error::other("a fault of a test")),
        _ => sync(home),
    };
    removed.map_err(|error| failed("can't be taken away", error))?;
    failpoint::hit("state.withdrawn");
    // A copy that nobody wants is no harm.
    sweep(home, None);
    Ok(())
}

/// Removes the copies that nobody wants, whole or not. What can't be removed is said: it is tried again.
pub(super) fn sweep(home: &Path, wanted: Option<&str>) {
    let kept = wanted.map(|rollback| format!("{STAGED}-{rollback}"));
    for name in trees::names(home).unwrap_or_default() {
        if name.starts_with(STAGED)
            && kept.as_ref() != Some(&name)
            && let Err(error) = trees::remove(&home.join(&name))
        {
            tracing::warn!(name, %error, "a copy of the state that nobody wants can't be removed");
        }
    }
}

/// The states that were replaced: the id of the rollback, when that was, and the file.
pub(super) fn replaced(home: &Path) -> io::Result<Vec<(String, Timestamp, PathBuf)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(home)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some(id) = name.strip_prefix(BEFORE) else { continue };
        let Ok(ulid) = ulid::Ulid::from_string(id) else { continue };
        let at = i64::try_from(ulid.timestamp_ms()).unwrap_or(i64::MAX);
        let at = Timestamp::from_millisecond(at).unwrap_or_default();
        found.push((id.to_owned(), at, path));
    }
    Ok(found)
}

/// Gives a state a second name; where the file system knows none, makes a copy.
fn keep(live: &Path, before: &Path) -> io::Result<()> {
    match std::fs::hard_link(live, before) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(_) => {
            let half = before.with_extension("half");
            std::fs::copy(live, &half)?;
            File::open(&half)?.sync_all()?;
            std::fs::rename(half, before)
        }
    }
}

/// Carries into the copy what must not go back, or says in it that nothing could be; what was done, in words, or why it
/// can't take the place.
fn fill(live: &Path, copy: &Path, wanted: &Wanted, now: Timestamp) -> Result<String, String> {
    let intent = || {
        Intent::new(now, wanted.by.clone(), RESTORED)
            .target(STATE)
            .reason(wanted.reason.clone())
            .correlation_id(wanted.rollback.clone())
    };
    let why = |error: &dyn std::error::Error| {
        let causes = std::iter::successors(Some(error), |error| error.source());
        causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
    };
    let gone = match live.try_exists() {
        Err(error) => return Err(format!("{} can't be looked at: {error}", live.display())),
        Ok(false) => "there was no state to carry forward".to_owned(),
        Ok(true) => {
            let intent = intent().detail(format!(
                "to {}: the operation log, requests, alerts, certificates and the emergency are carried forward",
                wanted.to
            ));
            match carry_forward(live, copy, DEFAULT_CACHE_BYTES, intent) {
                Ok(carried) => {
                    let broken =
                        carried.broken.map(|why| format!("; it is not whole, as before: {why}"));
                    return Ok(format!(
                        "the operation log went forward to entry {}, with {} rows in all{}",
                        carried.entries_now,
                        carried.rows,
                        broken.unwrap_or_default()
                    ));
                }
                // What else keeps it from being read may be over soon, and all that it knows would be given up.
                Err(CarryError::Live(error)) if error.is_damage() => {
                    format!(
                        "nothing could be carried forward from the state before: {}",
                        why(&error)
                    )
                }
                Err(CarryError::Earlier(error)) => {
                    return Err(format!("the copy is not sound: {}", why(&error)));
                }
                Err(error) => {
                    return Err(format!(
                        "{}; nothing was changed: mend that and roll it back again",
                        why(&error)
                    ));
                }
            }
        }
    };
    let gap = GapRecord { at: now, lost: false, detail: gone.clone() };
    let intent = intent().outcome("STATE_GAP").detail(format!("to {}: {gone}", wanted.to));
    leave_gap(copy, DEFAULT_CACHE_BYTES, (intent, &gap))
        .map(|()| gone)
        .map_err(|error| format!("the copy is not sound: {}", why(&error)))
}

/// Lets an earlier state take the place of the one at `live`, where that is wanted. To be called before it is opened. What
/// keeps it from that leaves all as it was, so that the agent comes up on the state that it has.
///
/// # Errors
/// `STATE_ROLLBACK_FAILED`: what is wanted can't be told, or whether it will be in its place after a power cut; it is gone
/// on with at the next start.
pub fn at_start(home: &Path, live: &Path, now: Timestamp) -> Result<Option<Turned>> {
    let wanted = wanted(home)?;
    sweep(home, wanted.as_ref().map(|wanted| wanted.rollback.as_str()));
    let Some(wanted) = wanted else { return Ok(None) };
    let turned =
        |placed: bool, detail: String| Ok(Some(Turned { wanted: wanted.clone(), placed, detail }));
    let copy = staged(home, &wanted.rollback);
    match copy.try_exists() {
        Ok(true) => {}
        // The state says whether it has taken the place.
        Ok(false) => {
            return turned(true, "it had taken its place when the agent was cut off".to_owned());
        }
        Err(error) => return turned(false, format!("the copy can't be looked at: {error}")),
    }
    let before = home.join(format!("{BEFORE}{}", wanted.rollback));
    let filled = match fill(live, &copy, &wanted, now) {
        Ok(filled) => filled,
        Err(why) => {
            // A second name of the live file, where a crash came behind it.
            let _ = std::fs::remove_file(&before);
            return turned(false, why);
        }
    };
    failpoint::hit("state.carried");
    let put = || -> io::Result<()> {
        File::open(&copy)?.sync_all()?;
        if live.try_exists()? {
            keep(live, &before)?;
            sync(home)?;
        }
        failpoint::hit("state.linked");
        std::fs::rename(&copy, live)
    };
    if let Err(error) = put() {
        // It would be a point that nobody has gone back from.
        let _ = std::fs::remove_file(&before);
        return turned(false, format!("it can't be put in its place: {error}"));
    }
    sync(home).map_err(|error| failed("can't be put in its place", error))?;
    failpoint::hit("state.swapped");
    turned(true, filled)
}
