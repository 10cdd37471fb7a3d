//! What came of rollbacks of the agent's own state, told by the state itself once it is open: whatever took the place has
//! an entry of its rollback in its operation log.

use std::collections::HashMap;
use std::path::Path;
use std::time::SystemTime;

use genesis_storage::{Intent, MAX_SCANNED, RollbackOutcome, RollbackRecord};
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
    /// Nothing of the log was left out.
    whole: bool,
}

impl Taken {
    fn read(state: &State) -> Result<Self> {
        state.read(|it| {
            let found = it.oplog().newest(None, usize::MAX, |entry| entry.action == RESTORED)?;
            let whole = it.oplog().head()?.sequence <= MAX_SCANNED as u64;
            let entries = found.into_iter().map(|it| (it.entry.correlation_id, it.entry.sequence));
            Ok(Self { entries: entries.collect(), whole })
        })
    }

    fn by(&self, rollback: &str) -> RollbackOutcome {
        match self.entries.contains_key(rollback) {
            true => RollbackOutcome::Done,
            false if self.whole => RollbackOutcome::Failed,
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
        let begun = record.outcome != RollbackOutcome::Staged;
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
                RollbackOutcome::Failed => (RollbackOutcome::Failed, "it was withdrawn"),
                other => (other, "whether it has taken its place can't be told"),
            },
        };
        let code = match outcome {
            RollbackOutcome::Done => "ok",
            RollbackOutcome::Failed if begun => "ROLLBACK_CUT_OFF",
            RollbackOutcome::Failed => "withdrawn",
            _ => "unknown",
        };
        if record.outcome == outcome {
            continue;
        }
        record.outcome = outcome;
        told.clone_into(&mut record.detail);
        record.ended_at = Some(now);
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
            return Ok(());
        }
    }
    if record.outcome != outcome {
        record.detail = match (outcome, placed) {
            (RollbackOutcome::Done, true) => detail,
            (RollbackOutcome::Done, false) => "it has taken its place".to_owned(),
            (_, false) => detail,
            (_, true) => "the copy that was to take its place is gone; it is as it was".to_owned(),
        };
        (record.outcome, record.ended_at) = (outcome, Some(now));
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
