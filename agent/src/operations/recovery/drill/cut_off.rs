//! Drills that did not come to their end: what is known of them is kept as UNKNOWN, and what they hold outside of their
//! folders is given back.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use genesis_storage::{
    DrillOutcome, DrillRecord, DrillStep, Intent, ReconciliationRecord, RunRecord, StepRecord,
    StepState, Verdict,
};

use super::{Drills, UNDER_WAY, id_of};
use crate::error::Result;
use crate::runs::Reconcile;
use crate::runs::drill::Rehearsal;

/// Who gives back.
const WHO: &str = "system:recovery";
/// So often it is tried to give back what a drill has left, and so long after one that was in vain.
const TRIES: u32 = 20;
const AGAIN: Duration = Duration::from_secs(30);

/// A drill that ended before its end, by what its run has journalled after step `number`. Pure.
pub(super) fn record(
    blank: DrillRecord,
    steps: &[StepRecord],
    number: u32,
    why: &str,
) -> DrillRecord {
    let step = |step: &StepRecord| {
        let took = step.ended_at.map_or(0, |at| at.duration_since(step.started_at).as_millis());
        let (outcome, detail) = match step.state {
            StepState::Done => (DrillOutcome::Passed, step.detail.clone()),
            // Whether that is the fault of what was practised, only a drill that came to its end says.
            StepState::Failed => (DrillOutcome::Unknown, step.detail.clone()),
            StepState::Intent => (DrillOutcome::Unknown, "it had begun".to_owned()),
        };
        let took_ms = u64::try_from(took).unwrap_or_default();
        DrillStep { name: step.name.clone(), took_ms, outcome, detail }
    };
    let steps: Vec<DrillStep> = steps.iter().filter(|it| it.number > number).map(step).collect();
    let within = steps.last().filter(|it| it.outcome == DrillOutcome::Unknown);
    let deviation = match within {
        Some(step) => format!("INTERRUPTED in {}: {why}", step.name),
        None => format!("INTERRUPTED: {why}"),
    };
    let outcome = DrillOutcome::Unknown;
    DrillRecord { outcome, rto_ms: None, rpo_ms: None, steps, deviations: vec![deviation], ..blank }
}

/// What becomes of drills that a crash cut off: what is known of them is kept. Their folders are taken away before.
pub struct DrillTable(pub &'static str, pub Arc<Drills>);

#[async_trait]
impl Reconcile for DrillTable {
    fn kind(&self) -> &'static str {
        self.0
    }

    async fn reconcile(&self, run: &RunRecord, steps: &[StepRecord]) -> ReconciliationRecord {
        let mut detail =
            "nothing that is in use was touched, and what the drill had made is taken away"
                .to_owned();
        if let Err(error) = self.1.interrupted(run, steps).await {
            tracing::error!(run = run.id, error = error.chain(), "a drill can't be kept");
            detail.push_str("; what is known of it could not be kept");
        }
        ReconciliationRecord { verdict: Verdict::Finished, detail }
    }
}

impl Drills {
    /// Keeps the drill that was under way when the agent ended, unless it was kept already.
    async fn interrupted(&self, run: &RunRecord, steps: &[StepRecord]) -> Result<()> {
        let under_way = |it: &&StepRecord| it.name == UNDER_WAY && it.state == StepState::Intent;
        let Some(step) = steps.iter().rev().find(under_way) else { return Ok(()) };
        let id = id_of(&run.id, step.number, step.started_at);
        if !self.state.read(|it| Ok(it.drills().with_prefix(&id, 1)?))?.is_empty() {
            return Ok(());
        }
        let blank = DrillRecord {
            id,
            drill: step.target.clone(),
            started_at: step.started_at,
            ended_at: self.clock.now(),
            outcome: DrillOutcome::Unknown,
            rto_ms: None,
            rpo_ms: None,
            steps: Vec::new(),
            deviations: Vec::new(),
            by: run.actor.clone(),
            reason: run.reason.clone(),
        };
        let record = record(blank, steps, step.number, "the agent stopped in the middle of it");
        self.keep(&record, "drill.interrupted", "RUN_INTERRUPTED", &run.id).await
    }

    /// The folders that drills have left.
    async fn left(&self) -> Vec<PathBuf> {
        let home = self.home.clone();
        let found = tokio::task::spawn_blocking(move || {
            let entries = std::fs::read_dir(home)?;
            entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()
        });
        match found.await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Ok(Err(error)) => {
                tracing::warn!(%error, folder = %self.home.display(), "what drills have left can't be found");
                Vec::new()
            }
            Err(_) => Vec::new(),
        }
    }

    /// Takes away what drills that a crash cut off have left; what they hold outside of it is given back meanwhile.
    pub async fn sweep(self: &Arc<Self>) {
        for folder in self.left().await {
            let mut held = None;
            for rehearsal in &self.rehearsals {
                if let Some(what) = rehearsal.holds(&folder).await {
                    held = Some((Arc::clone(rehearsal), what));
                    break;
                }
            }
            match held {
                None => remove(&folder).await,
                // It may not answer, and nobody waits for a sandbox.
                Some((rehearsal, what)) => {
                    tokio::spawn(Arc::clone(self).hand_back(rehearsal, folder, what));
                }
            }
        }
    }

    /// Takes away what earlier drills have left that one which passed has settled.
    pub(super) async fn forget(&self, rehearsal: &dyn Rehearsal) {
        for folder in self.left().await {
            if rehearsal.holds(&folder).await.is_some() {
                remove(&folder).await;
            }
        }
    }

    async fn hand_back(
        self: Arc<Self>,
        rehearsal: Arc<dyn Rehearsal>,
        folder: PathBuf,
        what: String,
    ) {
        let note = async |action: &str, outcome: &str, detail: String| {
            let intent = Intent::new(self.clock.now(), WHO, action)
                .target(what.clone())
                .outcome(outcome)
                .detail(detail);
            if let Err(error) = self.state.note(intent).await {
                tracing::error!(error = error.chain(), action, "it can't be written down");
            }
        };
        let why = "a drill that was cut off has left it halted".to_owned();
        note("drill.give-back", "intent", why).await;
        let mut failed = None;
        for _ in 0..TRIES {
            let alone = self.alone.lock().await;
            if !folder.exists() {
                let by = "a drill has taken it up again".to_owned();
                return note("drill.given-back", "ok", by).await;
            }
            match rehearsal.give_back(&folder).await {
                Ok(seen) => {
                    remove(&folder).await;
                    return note("drill.given-back", "ok", seen).await;
                }
                Err(error) => {
                    tracing::warn!(sandbox = what, error = error.chain(), "it can't be given back");
                    failed = Some(error);
                }
            }
            drop(alone);
            self.clock.sleep(AGAIN).await;
        }
        if let Some(error) = failed {
            let more = format!("{}; the next start or drill tries again", error.chain());
            note("drill.given-back", error.code, more).await;
        }
    }
}

async fn remove(folder: &Path) {
    let gone = folder.to_owned();
    let removed = tokio::task::spawn_blocking(move || match std::fs::symlink_metadata(&gone) {
        Ok(facts) if facts.is_dir() => std::fs::remove_dir_all(&gone),
        Ok(_) => std::fs::remove_file(&gone),
        Err(error) => Err(error),
    });
    if let Ok(Err(error)) = removed.await {
        tracing::warn!(%error, folder = %folder.display(), "what drills have left can't be removed");
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn of_a_drill_that_was_cut_off_what_is_known_is_kept_and_nothing_passes() {
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let step = |number: u32, name: &str, state: StepState| StepRecord {
            number,
            name: name.to_owned(),
            target: "x".to_owned(),
            state,
            detail: format!("{name} was seen"),
            started_at: at(10),
            ended_at: (state != StepState::Intent).then(|| at(12)),
        };
        use StepState::{Done, Failed, Intent};
        for (steps, expected, said) in [
            (vec![], vec![], "INTERRUPTED: why"),
            (vec![step(2, "a", Done)], vec![("a", DrillOutcome::Passed)], "INTERRUPTED: why"),
            (
                // What belongs to the drill before is none of it.
                vec![step(0, "z", Failed), step(2, "a", Done), step(3, "b", Intent)],
                vec![("a", DrillOutcome::Passed), ("b", DrillOutcome::Unknown)],
                "INTERRUPTED in b: why",
            ),
            (
                vec![step(2, "a", Failed)],
                vec![("a", DrillOutcome::Unknown)],
                "INTERRUPTED in a: why",
            ),
        ] {
            let blank = DrillRecord {
                id: "01A".to_owned(),
                drill: "emergency".to_owned(),
                started_at: at(10),
                ended_at: at(20),
                outcome: DrillOutcome::Passed,
                rto_ms: Some(1),
                rpo_ms: Some(1),
                steps: Vec::new(),
                deviations: Vec::new(),
                by: "olga".to_owned(),
                reason: String::new(),
            };
            let kept = record(blank, &steps, 1, "why");
            assert_eq!(
                (kept.outcome, kept.rto_ms, kept.rpo_ms),
                (DrillOutcome::Unknown, None, None)
            );
            let found: Vec<_> =
                kept.steps.iter().map(|it| (it.name.as_str(), it.outcome)).collect();
            assert_eq!(found, expected);
            assert_eq!(kept.deviations, [said]);
            assert!(
                kept.steps
                    .iter()
                    .all(|it| it.outcome != DrillOutcome::Passed || it.took_ms == 2_000)
            );
        }
    }
}
