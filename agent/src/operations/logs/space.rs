//! Room on the disk: what a step will write is reserved before it begins. When it is short, the oldest local
//! copies that are proven in the archive go first; when that does not do, the step waits and nothing is touched.

use std::ops::ControlFlow;
use std::path::Path;

use genesis_storage::{SegmentRecord, SegmentState};

use super::{Logs, blocking, plan};
use crate::error::{Error, Result};
use crate::outside::files;
use crate::runs::remedy::Permission;

/// At most so many copies are deleted to make room for one step.
const COPIES_LIMIT: usize = 1_000;

impl Logs {
    /// Makes sure that there is room to seal a detached segment and, where the archive lies on the same disk,
    /// to archive it. Returns how many bytes to reserve for the sealed file.
    ///
    /// # Errors
    /// `SPACE_SHORT`.
    pub(super) async fn room_to_seal(&self, segment: &SegmentRecord) -> Result<u64> {
        let plain = files::look(segment.detached_path.as_ref())
            .ok()
            .flatten()
            .map_or(segment.plain_bytes, |facts| facts.bytes);
        let totals =
            self.state.read(|reading| Ok(reading.segments().totals(&segment.log_type)?))?;
        let sealed = plan::sealed_bytes(plain, totals.plain_bytes, totals.compressed_bytes);
        let config = self.config();
        let same_disk = config
            .archive
            .folder()
            .is_some_and(|archive| files::same_disk(&config.local_dir, archive));
        let needed = if same_disk { sealed.saturating_mul(2) } else { sealed };
        let what = format!("{}/{}", segment.log_type, segment.sequence);
        self.room_for(needed, &what).await?;
        Ok(sealed)
    }

    /// Makes sure that there is room for so many bytes in the folder of the local copies.
    ///
    /// # Errors
    /// `SPACE_SHORT`, `STORAGE_FAILED`.
    pub(super) async fn room_for(&self, needed: u64, what: &str) -> Result<()> {
        let folder = self.config().local_dir.clone();
        let Some(free) = free_bytes(&folder).await? else { return Ok(()) };
        if free >= needed {
            return Ok(());
        }
        self.delete_oldest_copies(needed - free, what).await?;
        match free_bytes(&folder).await? {
            Some(free) if free < needed => {
                let message = format!(
                    "{} has {free} bytes free, and {what} needs {needed}; make room on that disk, and it goes on by itself",
                    folder.display()
                );
                Err(Error::unavailable("SPACE_SHORT", message))
            }
            _ => Ok(()),
        }
    }

    /// Deletes local copies that are proven in the archive and not held, oldest first, until so many bytes are
    /// free. One that can't be proven once more stays.
    async fn delete_oldest_copies(&self, short: u64, what: &str) -> Result<()> {
        let (detail, mut freed) = (format!("to make room for {what}"), 0_u64);
        for segment in self.copies_that_may_go()?.into_iter().take(COPIES_LIMIT) {
            if freed >= short {
                break;
            }
            let bytes = segment.compressed_bytes;
            match self.delete_oldest(segment, None, (&detail, "")).await {
                Ok(true) => freed = freed.saturating_add(bytes),
                Ok(false) => {}
                Err(error) => {
                    tracing::error!(error = error.chain(), "a copy was not deleted to make room");
                }
            }
        }
        Ok(())
    }

    /// The local copies that are proven in the archive and not held, oldest first.
    pub(super) fn copies_that_may_go(&self) -> Result<Vec<SegmentRecord>> {
        let mut copies: Vec<SegmentRecord> = Vec::new();
        self.state.read(|reading| {
            let holds = reading.holds().all()?;
            reading.segments().for_each(None, |segment| {
                if segment.state == SegmentState::Verified && !self.held(&segment, &holds) {
                    copies.push(segment);
                }
                ControlFlow::Continue(())
            })?;
            Ok(())
        })?;
        copies.sort_by_key(|segment| (segment.last_at, segment.sequence));
        Ok(copies)
    }

    /// Deletes one local copy and records it, with these words and under this run. `false`: it is held by now, or
    /// gone already.
    ///
    /// # Errors
    /// Why it stays; `ACTION_REFUSED` when the leave for it was withdrawn.
    pub(super) async fn delete_oldest(
        &self,
        segment: SegmentRecord,
        permission: Option<&dyn Permission>,
        (detail, run): (&str, &str),
    ) -> Result<bool> {
        let _alone = self.expiring.lock().await;
        let root = self.config().local_dir.clone();
        let gone =
            self.delete_copy(&segment, SegmentState::LocalExpired, &root, permission).await?;
        if !gone {
            return Ok(false);
        }
        let expired = SegmentRecord {
            state: SegmentState::LocalExpired,
            local_expired_at: Some(self.outside.clock.now()),
            ..segment
        };
        let intent = self
            .intent("system:logs", "logs.segment.local-expired", "")
            .target(format!("{}/{}", expired.log_type, expired.sequence))
            .detail(detail)
            .correlation_id(run);
        self.state.write(intent, move |writing| Ok(writing.segments().put(&expired)?)).await?;
        Ok(true)
    }
}

/// What is free for the agent's user on the disk of a folder, in bytes; `None` where it can't be told.
async fn free_bytes(folder: &Path) -> Result<Option<u64>> {
    let folder = folder.to_owned();
    blocking(move || Ok(files::free_bytes(&folder).ok())).await
}
