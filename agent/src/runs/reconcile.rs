//! What becomes of runs that a crash cut off.

use std::sync::Arc;

use genesis_storage::{ReconciliationRecord, RunRecord, RunState, StepRecord, StepState, Verdict};

use super::Runs;
use crate::error::Result;

impl Runs {
    /// Marks the runs that a crash cut off as INTERRUPTED, each with what its kind's table says.
    ///
    /// # Errors
    /// `STORAGE_FAILED`.
    pub async fn reconcile(&self, tables: &[Arc<dyn Reconcile>]) -> Result<usize> {
        let cut_off = self.state.read(|reading| Ok(reading.runs().running()?))?;
        let count = cut_off.len();
        for mut record in cut_off {
            let steps = self.state.read(|reading| Ok(reading.runs().steps(&record.id)?))?;
            let verdict = match tables.iter().find(|table| table.kind() == record.kind) {
                Some(table) => table.reconcile(&record, &steps).await,
                None => without_table(&steps),
            };
            record.state = RunState::Interrupted;
            record.ended_at = Some(self.clock.now());
            record.summary = format!("the agent stopped in the middle; {}", verdict.detail);
            record.error_code = "RUN_INTERRUPTED".into();
            record.reconciliation = Some(verdict);
            tracing::warn!(
                run = record.id,
                kind = record.kind,
                summary = record.summary,
                "run reconciled"
            );
            self.journal(record, "run.interrupted", "RUN_INTERRUPTED").await?;
        }
        Ok(count)
    }
}

/// What a kind of run knows about being cut off.
#[async_trait::async_trait]
pub trait Reconcile: Send + Sync {
    /// The kind of run.
    fn kind(&self) -> &'static str;
    /// Looks at the world and finishes, undoes, or holds what the run had begun.
    async fn reconcile(&self, record: &RunRecord, steps: &[StepRecord]) -> ReconciliationRecord;
}

/// For kinds without a table: nothing is assumed about a step that had begun.
fn without_table(steps: &[StepRecord]) -> ReconciliationRecord {
    match steps.iter().find(|step| step.state == StepState::Intent) {
        None if steps.is_empty() => ReconciliationRecord {
            verdict: Verdict::NothingDone,
            detail: "it had not begun a step".into(),
        },
        None => ReconciliationRecord {
            verdict: Verdict::Finished,
            detail: "every step that it had begun was complete".into(),
        },
        Some(step) => ReconciliationRecord {
            verdict: Verdict::Held,
            detail: format!(
                "step {} ({} {}) had begun; look whether it happened",
                step.number, step.name, step.target
            ),
        },
    }
}
