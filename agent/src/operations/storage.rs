//! Care of the embedded database: compaction when it is worth it.

use std::sync::Arc;

use async_trait::async_trait;
use genesis_storage::Intent;

use crate::error::{Error, Result};
use crate::outside::Outside;
use crate::runs::{Context, Report};
use crate::scheduler::Job;
use crate::scheduler::calendar::Schedule;
use crate::state::State;

/// Looks after the embedded database.
pub struct StorageCare {
    state: State,
    outside: Outside,
}

impl StorageCare {
    /// Care of this state.
    pub fn new(state: State, outside: Outside) -> Self {
        Self { state, outside }
    }

    /// Compacts the file; readers and writers wait meanwhile. Returns bytes before and after.
    ///
    /// # Errors
    /// `STORAGE_FAILED`; the file is whole then as well.
    pub async fn compact(&self, actor: &str) -> Result<(u64, u64)> {
        let store = Arc::clone(self.state.store());
        let done = tokio::task::spawn_blocking(move || store.compact()).await;
        let compaction = done.map_err(|error| {
            Error::internal("STORAGE_FAILED", "the compaction was cut off").caused_by(error)
        })??;
        let (before, after) = (compaction.before_bytes, compaction.after_bytes);
        let intent = Intent::new(self.outside.clock.now(), actor, "storage.compacted")
            .detail(format!("{before} bytes before, {after} after"));
        self.state.note(intent).await?;
        Ok((before, after))
    }
}

/// The weekly compaction.
pub struct Compact {
    care: Arc<StorageCare>,
}

impl Compact {
    /// The job over this care.
    pub fn new(care: Arc<StorageCare>) -> Self {
        Self { care }
    }
}

#[async_trait]
impl Job for Compact {
    fn name(&self) -> &'static str {
        "storage.compact"
    }

    fn description(&self) -> &'static str {
        "compacts the agent's embedded database"
    }

    fn schedule(&self) -> Schedule {
        Schedule::constant("Sun 02:30")
    }

    async fn run(self: Arc<Self>, context: Context) -> Result<Report> {
        let step = context.begin("compact", "state.redb").await?;
        let (before, after) = self.care.compact(&context.actor()).await?;
        step.done(format!("{before} to {after} bytes")).await?;
        Ok(Report::proven(format!("{before} bytes before, {after} after")))
    }
}
