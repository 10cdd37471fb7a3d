//! Who publishes which version, and what a host that follows makes of what is published. Pure.

use std::sync::Arc;

use genesis_storage::MatrixRecord;
use jiff::Timestamp;

use super::super::plan::{self, Back, Versions};
use super::acks::State;
use super::published::{Pointer, Published};

/// What is to be done so that the fleet has what is in force here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Due {
    /// Nothing.
    Nothing,
    /// The version in force is what the fleet has: to note its number here.
    Mark(u64),
    /// To publish the version in force.
    Publish {
        /// Somebody went back to it.
        back: bool,
    },
    /// Another host has published since what is in force here became so.
    Other,
}

/// What a host that publishes has to do. Two that publish are no harm to each other's versions: the one that has put a
/// matrix into force last has the word.
pub fn due(pointer: Option<&Pointer>, me: &str, active: Option<&MatrixRecord>) -> Due {
    let Some(active) = active else { return Due::Nothing };
    let Some(current) = pointer.map(|it| &it.current) else {
        return Due::Publish { back: false };
    };
    let since = active.periods.last().map(|it| it.from);
    let back = active.periods.len() > 1;
    if active.digest == current.digest {
        return match active.fleet == current.number {
            true => Due::Nothing,
            false => Due::Mark(current.number),
        };
    }
    match current.host_id == me || since > Some(current.at) {
        true => Due::Publish { back },
        false => Due::Other,
    }
}

/// When a version is told to have been published: not before it was put into force, also where the clock was set back since.
/// [`due`] goes by it, and two hosts would publish theirs in turn for ever, each as the later one.
pub fn published_at(active: &MatrixRecord, now: Timestamp) -> Timestamp {
    active.periods.last().map_or(now, |it| it.from.max(now))
}

/// The number of the next version: none that was given before, also where the fleet has forgotten, or was put back.
pub fn next_number(pointer: Option<&Pointer>, versions: &Versions) -> u64 {
    let known = versions.values().map(|it| it.fleet).max().unwrap_or(0);
    pointer.map_or(0, |it| it.current.number).max(known).saturating_add(1)
}

/// What a host that follows makes of what is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Follow {
    /// This version is it, and stands as its record says.
    Stands(u64),
    /// This version has the same content: to note that it is it.
    Mark(u64),
    /// This version has the content and is kept: it is gone back to, as the publisher did.
    GoBack(u64),
    /// The publisher went back to what did harm here, as this version. What it left is left here too.
    Leave(u64),
    /// It is fetched.
    Fetch,
    /// It is taken as soon as this is over.
    Wait(String),
}

fn did_harm(record: &MatrixRecord) -> bool {
    let last = record.stages.last();
    record.state == plan::ROLLED_BACK
        && last.is_some_and(|it| it.how == plan::HARMFUL && it.ended_at == record.ended_at)
}

/// What is to be done about what is published. `before`: what the publisher left for it.
pub fn follow(
    published: &Published,
    before: Option<&str>,
    versions: &Versions,
    emergency: bool,
) -> Follow {
    let same = |it: &&Arc<MatrixRecord>| it.digest == published.digest;
    let newest = || versions.values().rev().filter(|it| it.state != plan::REJECTED);
    if let Some(own) = newest().filter(same).find(|it| it.fleet == published.number) {
        return Follow::Stands(own.version);
    }
    let active = plan::in_state(versions, plan::ACTIVE);
    let canary = plan::in_state(versions, plan::CANARY);
    if let Some(active) = active.filter(same) {
        // What is being tried is older than what is published.
        return match canary {
            Some(_) => Follow::GoBack(active.version),
            None => Follow::Mark(active.version),
        };
    }
    if let Some(canary) = canary.filter(same) {
        return Follow::Mark(canary.version);
    }
    if let Some(harmful) = newest().filter(same).find(|it| did_harm(it)) {
        let left = |it: &&Arc<MatrixRecord>| before == Some(it.digest.as_str());
        let used = active.filter(left).or(canary.filter(left)).is_some();
        return match published.back && used {
            true => Follow::Leave(harmful.version),
            false => Follow::Mark(harmful.version),
        };
    }
    if published.back {
        let ways = |it: &&Arc<MatrixRecord>| {
            let used = !it.periods.is_empty();
            used && matches!(plan::back(versions, it.version), Ok(Back::Activate { .. }))
        };
        let kept = newest().filter(same).find(ways);
        return kept.map_or(Follow::Fetch, |it| Follow::GoBack(it.version));
    }
    if let Some(canary) = canary {
        return Follow::Wait(format!("version {} is being rolled out here", canary.version));
    }
    match emergency {
        true => Follow::Wait("an emergency is in force here".to_owned()),
        false => Follow::Fetch,
    }
}

/// How a version that is what is published stands: its state, the share of its consumers that use it, since when, and why.
pub fn stands(record: &MatrixRecord) -> (State, u32, Timestamp, String) {
    let ended = record.ended_at.unwrap_or(record.calculated_at);
    let why = || match record.ended_by.is_empty() {
        true => record.ended_reason.clone(),
        false => format!("{}: {}", record.ended_by, record.ended_reason),
    };
    let stage = record.stages.last();
    match record.state.as_str() {
        plan::ACTIVE => {
            let since = record.periods.last().map_or(record.calculated_at, |it| it.from);
            (State::InForce, 0, since, String::new())
        }
        plan::CANARY => {
            let percent = stage.map_or(0, |it| it.percent);
            let since = stage.map_or(record.calculated_at, |it| it.began_at);
            (State::RollingOut, percent, since, String::new())
        }
        // Another one came in its place, which the fleet does not have.
        plan::SUPERSEDED => (State::RolledBack, 0, ended, why()),
        plan::ROLLED_BACK => (State::RolledBack, 0, ended, why()),
        _ => (State::Refused, 0, ended, why()),
    }
}
