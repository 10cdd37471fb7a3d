//! Which version is in force, which comes next, which are kept. Pure: versions and a time go in, changed versions come out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use genesis_storage::{MatrixRecord, PeriodRecord, StageRecord};
use jiff::Timestamp;

/// A share of the consumers uses it.
pub const CANARY: &str = "canary";
/// It is what consumers use.
pub const ACTIVE: &str = "active";
/// A later one is active.
pub const SUPERSEDED: &str = "superseded";
/// It is not valid.
pub const REJECTED: &str = "rejected";
/// Somebody, or what was reported, went back from it.
pub const ROLLED_BACK: &str = "rolled back";
/// All of them.
pub const STATES: [&str; 5] = [CANARY, ACTIVE, SUPERSEDED, REJECTED, ROLLED_BACK];

/// How a stage ended: it showed no harm, it did, or somebody ended it.
pub const PASSED: &str = "passed";
/// See [`PASSED`].
pub const HARMFUL: &str = "harmful";
/// See [`PASSED`].
pub const FORCED: &str = "forced";

/// So many versions keep their values, of those that were active.
pub const KEPT: usize = 10;
/// And so many of those that were only tried.
pub const KEPT_TRIED: usize = 3;
/// What is told of so many versions is kept.
pub const HISTORY: usize = 1_000;
/// So far back a matrix is held against what was active.
pub const MONTH: i64 = 30 * DAY;
const DAY: i64 = 86_400;

/// Versions by their numbers.
pub type Versions = BTreeMap<u64, Arc<MatrixRecord>>;

/// Who does something, and why.
#[derive(Debug, Clone, Copy)]
pub struct By<'a> {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub who: &'a str,
    /// Why.
    pub reason: &'a str,
}

/// The one in a state of which there is one at most.
pub fn in_state<'a>(versions: &'a Versions, state: &str) -> Option<&'a Arc<MatrixRecord>> {
    versions.values().rev().find(|it| it.state == state)
}

/// The version that was active at a time.
pub fn active_at(versions: &Versions, at: Timestamp) -> Option<&Arc<MatrixRecord>> {
    let covers = |it: &PeriodRecord| it.from <= at && it.until.is_none_or(|until| at < until);
    versions.values().rev().find(|record| record.periods.iter().any(covers))
}

/// Those whose values are kept: what is used, the last that were, and what was active at the end of each of the last
/// days, which new ones are held against a month later.
pub fn kept(versions: &Versions, now: Timestamp) -> BTreeSet<u64> {
    let mut kept: BTreeSet<u64> = versions
        .values()
        .filter(|it| it.state == ACTIVE || it.state == CANARY)
        .map(|it| it.version)
        .collect();
    // What is behind the active one is a rollback away.
    kept.extend(in_state(versions, ACTIVE).map(|it| it.replaced));
    let last_used = |it: &MatrixRecord| it.ended_at.unwrap_or(now);
    let mut used: Vec<&Arc<MatrixRecord>> =
        versions.values().filter(|it| it.kept && it.state != REJECTED).collect();
    used.sort_by_key(|it| std::cmp::Reverse((last_used(it), it.version)));
    let (were_active, tried): (Vec<_>, Vec<_>) =
        used.into_iter().partition(|it| !it.periods.is_empty());
    kept.extend(were_active.iter().take(KEPT).map(|it| it.version));
    kept.extend(tried.iter().take(KEPT_TRIED).map(|it| it.version));
    let today = now.as_second().div_euclid(DAY);
    for day in today - MONTH / DAY - 2..today {
        let then = end_of_day(day * DAY).and_then(|end| active_at(versions, end));
        kept.extend(then.map(|it| it.version));
    }
    kept
}

/// The last second of the day of UTC that a time, in seconds since 1970, is in.
pub fn end_of_day(at: i64) -> Option<Timestamp> {
    Timestamp::from_second((at.div_euclid(DAY) + 1) * DAY - 1).ok()
}

/// The records that go altogether: beyond so many, the oldest, unless their values are kept.
pub fn forgotten(versions: &Versions) -> Vec<u64> {
    let over = versions.len().saturating_sub(HISTORY);
    versions.values().filter(|it| !it.kept).map(|it| it.version).take(over).collect()
}

/// What becomes of the version that was active when another is.
fn leave(record: &MatrixRecord, state: &str, by: By<'_>) -> MatrixRecord {
    let mut left = record.clone();
    left.state = state.to_owned();
    if let Some(period) = left.periods.last_mut() {
        period.until.get_or_insert(by.at);
    }
    left.ended_at = Some(by.at);
    left.ended_by = by.who.to_owned();
    left.ended_reason = by.reason.to_owned();
    left
}

/// A version becomes active.
fn enter(record: &MatrixRecord, replaced: u64, at: Timestamp) -> MatrixRecord {
    let mut entered = record.clone();
    entered.state = ACTIVE.to_owned();
    if entered.periods.is_empty() {
        entered.replaced = replaced;
    }
    entered.periods.push(PeriodRecord { from: at, until: None });
    entered.ended_at = None;
    (entered.ended_by, entered.ended_reason) = (String::new(), String::new());
    entered
}

/// A valid matrix comes in: the first is active at once, and where no consumer is asked so is each; others are tried. The
/// records that this changes.
pub fn admit(versions: &Versions, mut record: MatrixRecord, by: By<'_>) -> Vec<MatrixRecord> {
    record.kept = true;
    let active = in_state(versions, ACTIVE);
    let first = record.rollout.percents.first().copied().unwrap_or(super::stage::WHOLE);
    match active {
        Some(active) if first < super::stage::WHOLE => {
            record.state = CANARY.to_owned();
            record.control = active.version;
            let (percent, began_at) = (first, by.at);
            record.stages = vec![StageRecord { percent, began_at, ..StageRecord::default() }];
            vec![record]
        }
        _ => {
            let entered = enter(&record, active.map_or(0, |it| it.version), by.at);
            let left = active.map(|active| leave(active, SUPERSEDED, by));
            left.into_iter().chain([entered]).collect()
        }
    }
}

/// A matrix comes in that somebody went back to elsewhere: it is active at once, whatever goes on here. The records that
/// this changes. `tally`: what was reported in the stage that goes on, if one does.
pub fn replace(
    versions: &Versions,
    mut record: MatrixRecord,
    tally: &str,
    by: By<'_>,
) -> Vec<MatrixRecord> {
    record.kept = true;
    let end = StageEnd { how: FORCED, verdict: by.reason, tally };
    let canary = in_state(versions, CANARY).map(|canary| abort(canary, end, by));
    let active = in_state(versions, ACTIVE);
    let left = active.map(|active| leave(active, ROLLED_BACK, by));
    let entered = enter(&record, active.map_or(0, |it| it.version), by.at);
    canary.into_iter().chain(left).chain([entered]).collect()
}

/// How a stage ended.
#[derive(Debug, Clone, Copy)]
pub struct StageEnd<'a> {
    /// [`PASSED`], [`HARMFUL`] or [`FORCED`].
    pub how: &'a str,
    /// In words.
    pub verdict: &'a str,
    /// What was reported, as it is written.
    pub tally: &'a str,
}

fn end_stage(record: &MatrixRecord, end: StageEnd<'_>, at: Timestamp) -> MatrixRecord {
    let mut ended = record.clone();
    if let Some(stage) = ended.stages.last_mut().filter(|it| it.ended_at.is_none()) {
        stage.ended_at = Some(at);
        (stage.how, stage.verdict, stage.tally) =
            (end.how.to_owned(), end.verdict.to_owned(), end.tally.to_owned());
    }
    ended
}

/// The percent of the stage after the one that goes on; `None`: it is the last.
pub fn next_percent(record: &MatrixRecord) -> Option<u32> {
    let now = record.stages.last()?.percent;
    record.rollout.percents.iter().copied().find(|percent| *percent > now)
}

/// The stage that goes on ends well: the next begins, or the version is active. The records that this changes.
pub fn advance(
    versions: &Versions,
    canary: &MatrixRecord,
    end: StageEnd<'_>,
    by: By<'_>,
) -> Vec<MatrixRecord> {
    let next = next_percent(canary);
    let mut ended = end_stage(canary, end, by.at);
    if let Some(percent) = next {
        let began_at = by.at;
        ended.stages.push(StageRecord { percent, began_at, ..StageRecord::default() });
        return vec![ended];
    }
    let active = in_state(versions, ACTIVE);
    let entered = enter(&ended, active.map_or(0, |it| it.version), by.at);
    let left = active.map(|active| leave(active, SUPERSEDED, by));
    left.into_iter().chain([entered]).collect()
}

/// The rollout ends: all consumers use the active matrix again.
pub fn abort(canary: &MatrixRecord, end: StageEnd<'_>, by: By<'_>) -> MatrixRecord {
    leave(&end_stage(canary, end, by.at), ROLLED_BACK, by)
}

/// Where a rollback goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Back {
    /// The rollout of this version ends.
    EndRollout(u64),
    /// This version is active instead of that one; where a rollout goes on, it ends.
    Activate {
        /// What is active.
        from: u64,
        /// What is to be.
        to: u64,
    },
}

/// Why there is no way back: a code and a text.
pub type NoWay = (&'static str, String);

/// Where a rollback to a version goes; 0: to the one before.
///
/// # Errors
/// `MATRIX_NOT_FOUND`, `MATRIX_REJECTED`, `MATRIX_ACTIVE`, each with a text.
pub fn back(versions: &Versions, to: u64) -> Result<Back, NoWay> {
    let canary = in_state(versions, CANARY).map(|it| it.version);
    let Some(active) = in_state(versions, ACTIVE) else {
        let why = "there is no active matrix; `genesisctl matrix update` calculates the first";
        return Err(("MATRIX_NOT_FOUND", why.to_owned()));
    };
    let seek = "`genesisctl matrix history` shows those whose values are kept";
    let (from, to) = match (to, canary) {
        (0, Some(canary)) => return Ok(Back::EndRollout(canary)),
        (to, Some(canary)) if to == active.version => return Ok(Back::EndRollout(canary)),
        (0, None) if active.replaced == 0 => {
            let why = format!("version {} is the first, so that none is before it", active.version);
            return Err(("MATRIX_NOT_FOUND", why));
        }
        (0, None) => (active.version, active.replaced),
        (to, _) => (active.version, to),
    };
    let Some(target) = versions.get(&to) else {
        return Err(("MATRIX_NOT_FOUND", format!("there is no version {to}; {seek}")));
    };
    match target.state.as_str() {
        ACTIVE => Err(("MATRIX_ACTIVE", format!("version {to} is active already"))),
        REJECTED => {
            let why = format!("version {to} was rejected: it must not be used; {seek}");
            Err(("MATRIX_REJECTED", why))
        }
        CANARY => {
            let why = format!(
                "version {to} is being rolled out; `genesisctl matrix rollout advance` goes on with it"
            );
            Err(("MATRIX_ACTIVE", why))
        }
        _ if !target.kept => {
            let why = format!("the values of version {to} are not kept any more; {seek}");
            Err(("MATRIX_NOT_FOUND", why))
        }
        _ => Ok(Back::Activate { from, to }),
    }
}

/// Goes back. The records that this changes. `tally`: what was reported in the stage that goes on, if one does.
pub fn go_back(versions: &Versions, back: Back, tally: &str, by: By<'_>) -> Vec<MatrixRecord> {
    let end = StageEnd { how: FORCED, verdict: by.reason, tally };
    let canary = in_state(versions, CANARY).map(|canary| abort(canary, end, by));
    let Back::Activate { from, to } = back else { return canary.into_iter().collect() };
    let left = versions.get(&from).map(|it| leave(it, ROLLED_BACK, by));
    let entered = versions.get(&to).map(|it| enter(it, from, by.at));
    canary.into_iter().chain(left).chain(entered).collect()
}
