//! What becomes of rollbacks that a crash cut off: each is as before or as after, and the journal says so.

use genesis_storage::{RollbackOutcome, RollbackRecord};

use super::{Dispatcher, outcome};
use crate::error::Result;

impl Dispatcher {
    /// Brings those to an end that a crash cut off. To be called at the start, once the runs are reconciled.
    ///
    /// # Errors
    /// `STORAGE_FAILED`.
    pub async fn settle(&self) -> Result<()> {
        let begun = self.0.state.read(|reading| {
            let open = |it: &RollbackRecord| it.outcome == RollbackOutcome::Begun;
            Ok(reading.rollbacks().list(usize::MAX, open)?)
        })?;
        for mut record in begun {
            let now = match self.component(&record.component).await {
                Ok(component) => component.current().await,
                Err(error) => Err(error),
            };
            let (at, why) = match now {
                Ok(now) => {
                    if let Some(made) = now.as_ref().filter(|it| it.digest == record.to_digest)
                        && made.id != record.from
                        && made.id != record.to
                    {
                        record.made = made.id.clone();
                    }
                    (outcome(now.as_ref().map(|it| it.digest.as_str()), &record), String::new())
                }
                Err(error) => (RollbackOutcome::Unknown, format!(": {}", error.message)),
            };
            let (code, told) = match at {
                RollbackOutcome::Done => ("ok", "it is as after it"),
                RollbackOutcome::Failed => ("ROLLBACK_CUT_OFF", "it is as before it"),
                _ => ("unknown", "what it is at is neither, or can't be told"),
            };
            record.outcome = at;
            record.detail = format!("the agent was cut off meanwhile; {told}{why}");
            record.ended_at = Some(self.0.clock.now());
            // The checks can't be asked yet.
            record.owed = true;
            self.put(&record, code).await?;
        }
        Ok(())
    }
}
