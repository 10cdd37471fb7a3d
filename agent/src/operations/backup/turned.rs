//! What came of rollbacks of the agent's own state, told by the state itself once it is open: whatever took the place has
//! an entry of its rollback in its operation log.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::SystemTime;

use genesis_storage::{
    INCIDENTS_KEPT, IncidentRecord, Intent, MAX_SCANNED, RollbackOutcome, RollbackRecord, Writing,
};
use jiff::Timestamp;

use super::component::{LIVE, STATE};
use super::turnover::{POINT, RESTORED, Turned, replaced, withdraw};
use crate::error::Result;
use crate::outside::failpoint;
use crate::runs::rollback::MOST_POINTS;
use crate::state::State;

/// So many states that were replaced are kept.
const KEPT: usize = 3;

/// The rollbacks after which the state took this place, and where the operation log says so.
struct Taken {
    entries: HashMap<String, u64>,
    /// Those whose announcement was found in the log: had the state taken the place after one, it would stand behind that.
    announced: HashSet<String>,
    /// Nothing of the log was left out.
    whole: bool,
}

impl Taken {
    fn read(state: &State) -> Result<Self> {
        state.read(|it| {
            let found = it.oplog().newest(None, usize::MAX, |entry| {
                entry.action == RESTORED || entry.action == "rollback" && entry.outcome == "intent"
            })?;
            let whole = it.oplog().head()?.sequence <= MAX_SCANNED as u64;
            let (mut entries, mut announced) = (HashMap::new(), HashSet::new());
            for it in found {
                let (id, sequence) = (it.entry.correlation_id, it.entry.sequence);
                if it.entry.action == RESTORED {
                    entries.insert(id, sequence);
                } else {
                    announced.insert(id);
                }
            }
            Ok(Self { entries, announced, whole })
        })
    }

    fn by(&self, rollback: &str) -> RollbackOutcome {
        match self.entries.contains_key(rollback) {
            true => RollbackOutcome::Done,
            false if self.whole || self.announced.contains(rollback) => RollbackOutcome::Failed,
            false => RollbackOutcome::Unknown,
        }
    }
}

/// What the ledger did not know of, since nothing went forward.
fn unknown(turned: &Turned, now: Timestamp) -> RollbackRecord {
    let wanted = &turned.wanted;
    RollbackRecord {
        id: wanted.rollback.clone(),
        component: STATE.to_owned(),
        from: LIVE.to_owned(),
        from_digest: LIVE.to_owned(),
        to: wanted.to.clone(),
        to_digest: wanted.to.strip_prefix(POINT).unwrap_or(&wanted.to).to_owned(),
        at: now,
        by: wanted.by.clone(),
        reason: wanted.reason.clone(),
        // It is looked after all the same.
        owed: true,
        ..RollbackRecord::default()
    }
}

async fn put(state: &State, record: RollbackRecord, code: &str, now: Timestamp) -> Result<()> {
    let intent = Intent::new(now, record.by.clone(), "rollback")
        .target(STATE)
        .reason(record.reason.clone())
        .outcome(code)
        .detail(format!("to {}: {}", record.to, record.detail))
        .correlation_id(record.id.clone());
    state.write(intent, move |writing| Ok(writing.rollbacks().put(&record)?)).await?;
    failpoint::hit("state.told");
    Ok(())
}

/// Writes down that a rollback whose copy waited does not any more, and that its incident is over with that.
pub(super) async fn give_up(
    state: &State,
    mut record: RollbackRecord,
    (by, reason): (&str, &str),
    why: &str,
    now: Timestamp,
) -> Result<()> {
    record.outcome = RollbackOutcome::Failed;
    why.clone_into(&mut record.detail);
    (record.ended_at, record.owed) = (Some(now), false);
    let intent = Intent::new(now, by, "rollback")
        .target(STATE)
        .reason(reason)
        .outcome("withdrawn")
        .detail(format!("to {}: {why}", record.to))
        .correlation_id(record.id.clone());
    let over = why.to_owned();
    let put = move |it: &mut Writing<'_>| {
        it.rollbacks().put(&record)?;
        let incident = match record.incident.as_str() {
            "" => None,
            id => it.incidents().with_prefix(id, 1)?.pop(),
        };
        if let Some(mut incident) = incident.filter(IncidentRecord::open) {
            (incident.over_at, incident.resolution) = (Some(now), over);
            it.incidents().put(&incident, INCIDENTS_KEPT)?;
        }
        Ok(())
    };
    state.write(intent, put).await
}

/// Notes an end that was not known before; the host is looked at after it, whatever was found before it.
fn end(record: &mut RollbackRecord, outcome: RollbackOutcome, now: Timestamp) {
    (record.outcome, record.ended_at) = (outcome, Some(now));
    // What only took back what had not taken effect is nothing to look after.
    record.owed = record.to != LIVE;
    record.health.clear();
}

/// Writes down what came of the rollbacks of the state that had no end yet, among them the one that a copy waited for; only
/// then that is over. To be called at the start, with what [`super::turnover::at_start`] came to.
///
/// # Errors
/// `STORAGE_FAILED`.
pub async fn settle(
    state: &State,
    home: &Path,
    turned: Option<Turned>,
    now: Timestamp,
) -> Result<()> {
    let waited = turned.as_ref().map(|turned| turned.wanted.rollback.clone());
    let open = |it: &RollbackRecord| {
        let open = match it.outcome {
            RollbackOutcome::Begun | RollbackOutcome::Staged => true,
            // By now it may show.
            RollbackOutcome::Unknown => it.to != LIVE,
            RollbackOutcome::Done | RollbackOutcome::Failed => false,
        };
        it.component == STATE && (open || Some(&it.id) == waited.as_ref())
    };
    let mut open = state.read(|it| Ok(it.rollbacks().list(MOST_POINTS, open)?))?;
    if open.is_empty() && turned.is_none() {
        return Ok(());
    }
    let taken = Taken::read(state)?;
    if let Some(turned) = turned {
        let at = open.iter().position(|it| it.id == turned.wanted.rollback);
        let record = at.map(|at| open.remove(at)).unwrap_or_else(|| unknown(&turned, now));
        settle_one(state, home, (turned, record), &taken, now).await?;
    }
    for mut record in open {
        let begun = record.outcome == RollbackOutcome::Begun;
        let (outcome, told) = match (&waited, record.to == LIVE) {
            (None, true) => (RollbackOutcome::Done, "nothing waits to take its place any more"),
            (Some(waited), true) if *waited < record.id => {
                (RollbackOutcome::Failed, "the agent was cut off before it was withdrawn")
            }
            // What waited may have been put there since.
            (Some(_), true) => (RollbackOutcome::Unknown, "whether it was withdrawn can't be told"),
            (_, false) => match taken.by(&record.id) {
                RollbackOutcome::Done => (RollbackOutcome::Done, "it has taken its place"),
                RollbackOutcome::Failed if begun => {
                    (RollbackOutcome::Failed, "the agent was cut off meanwhile; it is as before it")
                }
                RollbackOutcome::Failed if record.outcome == RollbackOutcome::Unknown => {
                    (RollbackOutcome::Failed, "it has not taken its place, and nothing waits to")
                }
                RollbackOutcome::Failed => {
                    // The withdrawal, or the one after it, was cut off before it could say so.
                    let who = (record.by.clone(), record.reason.clone());
                    let why = "it was withdrawn, or another took its place";
                    give_up(state, record, (&who.0, &who.1), why, now).await?;
                    continue;
                }
                other => (other, "whether it has taken its place can't be told"),
            },
        };
        let code = match outcome {
            RollbackOutcome::Done => "ok",
            RollbackOutcome::Failed if begun => "ROLLBACK_CUT_OFF",
            RollbackOutcome::Failed => "STATE_ROLLBACK_FAILED",
            _ => "unknown",
        };
        if record.outcome == outcome {
            continue;
        }
        told.clone_into(&mut record.detail);
        end(&mut record, outcome, now);
        put(state, record, code, now).await?;
    }
    Ok(())
}

async fn settle_one(
    state: &State,
    home: &Path,
    (turned, mut record): (Turned, RollbackRecord),
    taken: &Taken,
    now: Timestamp,
) -> Result<()> {
    let Turned { wanted, placed, detail } = turned;
    let outcome = taken.by(&wanted.rollback);
    let done = outcome == RollbackOutcome::Done;
    if !done {
        tracing::error!(detail, "an earlier state did not take the place of this one");
        // Before it is told: what was told to have failed must not take the place later.
        if let Err(error) = withdraw(home) {
            tracing::error!(error = error.chain(), "so it still waits for the next start");
            // It must not be taken for one that a crash cut off.
            record.outcome = RollbackOutcome::Staged;
            record.detail =
                format!("{detail}; it still waits for the next start: {}", error.chain());
            return put(state, record, "staged", now).await;
        }
    }
    if record.outcome != outcome {
        record.detail = match (outcome, placed) {
            (RollbackOutcome::Done, true) => detail,
            (RollbackOutcome::Done, false) => "it has taken its place".to_owned(),
            (_, false) => detail,
            (_, true) => "the copy that was to take its place is gone; it is as it was".to_owned(),
        };
        end(&mut record, outcome, now);
        let code = match outcome {
            RollbackOutcome::Done => "ok",
            RollbackOutcome::Failed => "STATE_ROLLBACK_FAILED",
            _ => "unknown",
        };
        put(state, record, code, now).await?;
    }
    if done {
        prune(home, taken);
        if let Err(error) = withdraw(home) {
            // It is settled once more at the next start.
            tracing::warn!(error = error.chain(), "what was wanted can't be taken away");
        }
    }
    Ok(())
}

/// Removes the states that were replaced but for the newest: by what the operation log says, since clocks are set back.
fn prune(home: &Path, taken: &Taken) {
    let changed = |path: &Path| {
        path.metadata().and_then(|facts| facts.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
    };
    let mut all = replaced(home).unwrap_or_default();
    all.sort_by_cached_key(|(id, _, path)| {
        std::cmp::Reverse((taken.entries.get(id).copied(), changed(path)))
    });
    for (_, _, old) in all.into_iter().skip(KEPT) {
        if let Err(error) = std::fs::remove_file(&old) {
            tracing::warn!(path = %old.display(), %error, "a state before can't be removed");
        }
    }
}
