//! An earlier state of the agent takes the place of the one it has.
//!
//! The file is open as long as the agent runs, and what happens until its end must go forward with it. So a rollback only
//! puts a proven copy beside the file, and says so in a file of its own; when the agent starts, before it opens its
//! state, what must not go back is carried into the copy, which then takes the place by a rename. The state before keeps
//! a name of its own, so that it can be gone back to. Whatever a crash cuts off is gone on with at the next start.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use genesis_storage::{
    DEFAULT_CACHE_BYTES, GapRecord, Intent, RollbackOutcome, Store, carry_forward,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::outside::{failpoint, files};
use crate::state::State;

/// The copy that is to take the place.
const STAGED: &str = "state.redb.restoring";
/// What is to be done with it.
const WANTED: &str = "state.restore.json";
/// What the names of states begin with that were replaced.
const BEFORE: &str = "state.redb.before-";
/// What a point is called that is one of those.
pub(super) const POINT: &str = "before-";
/// So many of them are kept.
const KEPT: usize = 3;

/// What is to take the place, and who wants that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// The rollback.
    pub rollback: String,
    /// The point.
    pub to: String,
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turned {
    /// What was wanted.
    pub wanted: Wanted,
    /// It is in place; otherwise the state is as it was.
    pub done: bool,
    /// Nothing could be carried forward.
    pub gap: bool,
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
    match std::fs::read(home.join(WANTED)) {
        Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|error| {
            failed(&format!("can't be told from {WANTED}: move it away"), error.into())
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(&format!("can't be told from {WANTED}"), error)),
    }
}

/// Where the copy of a state is made that is to take the place.
pub(super) fn beside(home: &Path) -> PathBuf {
    home.join(format!("{STAGED}.new"))
}

/// Has a proven copy wait for the next start.
pub(super) fn stage(home: &Path, copy: &Path, wanted: &Wanted) -> Result<()> {
    let put = || -> io::Result<()> {
        File::open(copy)?.sync_all()?;
        std::fs::rename(copy, home.join(STAGED))?;
        sync(home)?;
        failpoint::hit("state.staged");
        files::replace(&home.join(WANTED), &serde_json::to_vec(wanted)?)
    };
    put().map_err(|error| failed("can't be put beside the state", error))
}

/// Has nothing wait any more.
pub(super) fn withdraw(home: &Path) -> Result<()> {
    let remove = |name: &str| match std::fs::remove_file(home.join(name)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    // What is wanted goes first: a copy that nobody wants is no harm.
    let removed = remove(WANTED).and_then(|()| remove(STAGED)).and_then(|()| sync(home));
    removed.map_err(|error| failed("can't be taken away", error))
}

/// The states that were replaced, newest first: the id of the rollback, when that was, and the file.
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
    found.sort_by(|one, other| other.0.cmp(&one.0));
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

/// Lets an earlier state take the place of the one at `live`, where that is wanted. To be called before it is opened.
///
/// # Errors
/// `STATE_ROLLBACK_FAILED`: the disk fails; it is gone on with at the next start.
pub fn at_start(home: &Path, live: &Path, now: Timestamp) -> Result<Option<Turned>> {
    let Some(wanted) = wanted(home)? else { return Ok(None) };
    let staged = home.join(STAGED);
    let done = |gap: bool, detail: String| {
        Ok(Some(Turned { wanted: wanted.clone(), done: true, gap, detail }))
    };
    let there = |path: &Path| path.try_exists().map_err(|error| failed("can't be found", error));
    if !there(&staged)? {
        // It has taken the place already, and the agent was cut off before it could say so.
        return done(false, "it had taken its place when the agent was cut off".to_owned());
    }
    if let Err(error) = Store::prove(&staged, DEFAULT_CACHE_BYTES) {
        let detail = format!("the copy is not sound: {}", Error::from(error).chain());
        let _ = std::fs::remove_file(&staged);
        return Ok(Some(Turned { wanted, done: false, gap: false, detail }));
    }
    let (mut gap, mut detail) = (!there(live)?, "there was no state to carry forward".to_owned());
    if !gap {
        let intent = Intent::new(now, wanted.by.clone(), "state.restored")
            .target("state")
            .reason(wanted.reason.clone())
            .detail(format!(
                "to {}: the operation log, requests, alerts, certificates and the emergency are carried forward",
                wanted.to
            ))
            .correlation_id(wanted.rollback.clone());
        match carry_forward(live, &staged, DEFAULT_CACHE_BYTES, intent) {
            Ok(carried) => {
                detail = format!(
                    "the operation log went forward from entry {} to {}, with {} rows in all",
                    carried.entries_then, carried.entries_now, carried.rows
                );
            }
            Err(error) => {
                let why = Error::from(error).chain();
                // Only a state that can't be read is given up; a disk that is full is another matter.
                if Store::prove(live, DEFAULT_CACHE_BYTES).is_ok() {
                    let _ = std::fs::remove_file(&staged);
                    return Ok(Some(Turned { wanted, done: false, gap: false, detail: why }));
                }
                gap = true;
                detail = format!("nothing could be carried forward from the state before: {why}");
            }
        }
    }
    failpoint::hit("state.carried");
    let put = || -> io::Result<()> {
        if live.try_exists()? {
            let before = home.join(format!("{BEFORE}{}", wanted.rollback));
            keep(live, &before)?;
            sync(home)?;
        }
        failpoint::hit("state.linked");
        std::fs::rename(&staged, live)?;
        sync(home)?;
        failpoint::hit("state.swapped");
        for (_, _, old) in replaced(home)?.into_iter().skip(KEPT) {
            std::fs::remove_file(old)?;
        }
        Ok(())
    };
    put().map_err(|error| failed("can't be put in its place", error))?;
    done(gap, detail)
}

/// Writes down what came of it; only then it is over.
///
/// # Errors
/// `STORAGE_FAILED`.
pub async fn settle(state: &State, home: &Path, turned: Turned, now: Timestamp) -> Result<()> {
    let Turned { wanted, done, gap, detail } = turned;
    let known = state.read(|it| Ok(it.rollbacks().list(1, |it| it.id == wanted.rollback)?))?;
    let record = known.into_iter().next().map(|mut record| {
        record.outcome = if done { RollbackOutcome::Done } else { RollbackOutcome::Failed };
        (record.detail, record.ended_at) = (detail.clone(), Some(now));
        record
    });
    let intent = Intent::new(now, wanted.by.clone(), "rollback")
        .target("state")
        .reason(wanted.reason.clone())
        .outcome(if done { "ok" } else { "STATE_ROLLBACK_FAILED" })
        .detail(format!("to {}: {detail}", wanted.to))
        .correlation_id(wanted.rollback.clone());
    let gap = gap.then(|| GapRecord { at: now, lost: false, detail: detail.clone() });
    state
        .write(intent, move |writing| {
            if let Some(record) = &record {
                writing.rollbacks().put(record)?;
            }
            if let Some(gap) = &gap {
                writing.gaps().put(gap)?;
            }
            Ok(())
        })
        .await?;
    withdraw(home)
}
