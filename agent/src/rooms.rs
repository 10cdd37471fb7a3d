//! Where rooms meet that don't know one another: what the care of databases asks of trades and backups. Part of the
//! composition, as [`crate::agent`] is.

use std::sync::Arc;

use async_trait::async_trait;
use genesis_storage::{BackupLevel, RunState};

use crate::operations::backup::Backup;
use crate::operations::database::Neighbours;
use crate::operations::database::preflight::TradesSeen;
use crate::operations::database::record::Truth;
use crate::trading::{Critical, Trades};

/// Who asks.
const ACTOR: &str = "system:database";

/// What the care of databases asks of other rooms.
pub struct Rooms {
    /// Who knows of trades.
    pub trades: Arc<Trades>,
    /// Who makes backups.
    pub backup: Arc<Backup>,
}

impl Rooms {
    /// Waits for a run of backups; its summary, or what went wrong.
    async fn wait(&self, run: &str) -> Result<String, String> {
        let ended = self.backup.wait(run).await.map_err(|error| error.chain())?;
        match ended.state {
            RunState::Succeeded => Ok(ended.summary),
            _ => Err(format!("run {run}: {}", ended.summary)),
        }
    }
}

#[async_trait]
impl Neighbours for Rooms {
    async fn trades(&self, database: &str) -> TradesSeen {
        let reading = self.trades.look(database).await;
        let (truth, value) = match reading.critical {
            Critical::None => (Truth::Pass, "none"),
            Critical::InProgress => (Truth::Fail, "in progress"),
            Critical::Unknown => (Truth::Unknown, ""),
        };
        TradesSeen { truth, value: value.to_owned(), evidence: reading.evidence }
    }

    async fn refresh_backups(&self, database: &str) {
        self.backup.refresh(database).await;
    }

    async fn reverify(&self, backup: &str) -> Result<String, String> {
        let who = (ACTOR.to_owned(), "after the care of its database".to_owned());
        // That it is whole; what is restored to be asked takes hours, and has a time of its own.
        let level = Some(BackupLevel::Checksums);
        let started = match self.backup.verify(backup, level, "", who.clone()).await {
            Err(error) if error.code == "LEVEL_NOT_POSSIBLE" => {
                self.backup.verify(backup, None, "", who).await
            }
            started => started,
        };
        self.wait(&started.map_err(|error| error.chain())?.id).await
    }

    async fn back_up(&self, database: &str, run: &str) -> Result<String, String> {
        let who = (ACTOR.to_owned(), format!("run {run} is about to change the database"));
        let started = self.backup.run(database, "", who).await;
        self.wait(&started.map_err(|error| error.chain())?.id).await
    }
}
