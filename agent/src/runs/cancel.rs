//! Asking a run to stop.

use genesis_storage::RunRecord;

use super::{Runs, Snapshot};
use crate::error::{Error, Result};
use crate::plan::{Plan, PlanStep};

impl Runs {
    /// What cancelling a run would do.
    ///
    /// # Errors
    /// `RUN_NOT_FOUND`, or `RUN_ENDED` when it is over.
    pub fn plan_cancel(&self, id: &str) -> Result<Plan> {
        let record = self.find(id)?.record;
        if record.ended_at.is_some() {
            return Err(ended(&record));
        }
        let asked = if record.cancel_requested { "asked already" } else { "" };
        let step = PlanStep::new("cancel", record.id, "stops at its next safe point");
        Ok(Plan::new("run.cancel", &[asked], vec![step]))
    }

    /// Asks a run to stop at its next safe point.
    ///
    /// # Errors
    /// `RUN_NOT_FOUND`, `RUN_ENDED` when it is over, `PLAN_CHANGED`.
    pub async fn cancel(&self, id: &str, plan_hash: &str) -> Result<Snapshot> {
        self.plan_cancel(id)?.accept(plan_hash)?;
        let snapshot = self.find(id)?;
        let id = snapshot.record.id.clone();
        let Some(active) = self.active().get(&id).filter(|active| active.goes_on()).cloned() else {
            return Err(ended(&snapshot.record));
        };
        let marked = id.clone();
        self.state.bookkeep(move |books| Ok(books.runs().mark_cancel_requested(&marked)?)).await?;
        active.cancel.cancel();
        active.snapshot.send_modify(|snapshot| snapshot.record.cancel_requested = true);
        let snapshot = active.snapshot.borrow().clone();
        Ok(snapshot)
    }
}

fn ended(record: &RunRecord) -> Error {
    let message =
        format!("run {} has ended ({:?}); there is nothing to cancel", record.id, record.state);
    Error::conflict("RUN_ENDED", message)
}
