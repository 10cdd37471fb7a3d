//! After the loss of the state the agent knows of no backup of it, though there may be some: those that say of
//! themselves that they are of an agent's state are taken over, so that one can go back to them.

use std::path::PathBuf;

use genesis_storage::{BackupRecord, BackupState};

use super::Backup;
use super::act::{blocking, description};
use super::plan::{AGENT, Tool};
use crate::error::Result;
use crate::outside::trees;

/// Who acts here.
const WHO: (&str, &str) = ("system:agent", "the state was lost");
/// So many are taken over, the newest.
const MOST: usize = 100;

impl Backup {
    /// Takes over the backups of a state that was lost. What can't be read is left.
    ///
    /// # Errors
    /// `STORAGE_FAILED`.
    pub(super) async fn adopt(&self) -> Result<()> {
        let gap = self.state.read(|it| Ok(it.gaps().get()?))?;
        let Some(lost) = gap.filter(|gap| gap.lost) else { return Ok(()) };
        let known: Vec<String> = self.records(Some(AGENT))?.into_iter().map(|it| it.id).collect();
        let folder = self.config.load().folder.join(AGENT);
        let found = blocking(move || {
            let mut names = trees::names(&folder).unwrap_or_default();
            names.sort_unstable_by(|one, other| other.cmp(one));
            let each = names.into_iter().map(|name| folder.join(name));
            let own = each.filter_map(|place| {
                let described = description(&place).ok()?;
                let named = place.file_name().is_some_and(|name| *name == *described.id);
                // What came later is no backup of what was lost; another host's may lie there too.
                let of_it = described.source == AGENT && described.started_at <= lost.at;
                (named && of_it).then_some((place, described))
            });
            own.take(MOST).collect::<Vec<(PathBuf, _)>>()
        })
        .await?;
        for (place, described) in found {
            if known.contains(&described.id) {
                continue;
            }
            let record = BackupRecord {
                id: described.id,
                source: described.source,
                engine: described.engine,
                tool: Tool::Builtin.name().to_owned(),
                state: BackupState::Complete,
                place: place.display().to_string(),
                started_at: described.started_at,
                ended_at: Some(described.started_at),
                bytes: described.bytes,
                system_identifier: described.system_identifier,
                level: None,
                verified_at: None,
                detail: "found on the disk after the state was lost".to_owned(),
                run_id: String::new(),
            };
            self.put(&record, "backup.found", WHO).await?;
        }
        Ok(())
    }
}
