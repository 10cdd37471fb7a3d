//! The remedy of a disk that fills up: local copies that are proven in the archive go, oldest first, whatever
//! their retention says, but never one that is held. What was freed is measured on the disk itself.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use genesis_storage::SegmentRecord;

use super::{Logs, blocking};
use crate::error::{Error, Kind, Result};
use crate::outside::probes::disk;
use crate::outside::{files, survey};
use crate::plan::PlanStep;
use crate::runs::remedy::{Aim, Permission, Remedy, Room};

/// At most so many copies are deleted in one go.
const COPIES_LIMIT: usize = 10_000;
/// So many files that are deleted and still open are named.
const NAMED: usize = 5;

/// Makes room on the disk of the local copies.
pub struct MakeRoom(pub Arc<Logs>);

#[async_trait]
impl Remedy for MakeRoom {
    fn name(&self) -> &'static str {
        "make-room"
    }

    async fn plan(&self, aim: &Aim) -> Result<Vec<PlanStep>> {
        let path = self.disk(aim).await?;
        let copies = self.copies().await?;
        let bytes: u64 = copies.iter().map(|segment| segment.compressed_bytes).sum();
        let free = measure(&path, aim.room).await?;
        let why = format!(
            "{} local copies, {bytes} bytes, are proven in the archive and may go; {free:.1} % is free, {} % is wanted",
            copies.len(),
            aim.goal
        );
        if copies.is_empty() {
            let named = open_files(&path).await;
            let message = format!("no local copy of a log on {} may go{named}", path.display());
            return Err(Error::unavailable("ACTION_FAILED", message));
        }
        Ok(vec![PlanStep::new("delete-local-copies", path.display().to_string(), why)])
    }

    async fn carry_out(&self, aim: &Aim, permission: &dyn Permission) -> Result<String> {
        let path = self.disk(aim).await?;
        let before = free(&path).await?;
        let copies = self.copies().await?;
        let detail = format!("to make room: {}", aim.reason);
        let (mut deleted, mut kept) = (0_u64, 0_u64);
        for segment in copies.into_iter().take(COPIES_LIMIT) {
            if measure(&path, aim.room).await? >= aim.goal {
                break;
            }
            let told = (detail.as_str(), aim.run.as_str());
            match self.0.delete_oldest(segment, Some(permission), told).await {
                Ok(true) => deleted += 1,
                Ok(false) => {}
                Err(error) if held_back(&error) && deleted == 0 => return Err(error),
                // What was done so far counts.
                Err(error) if held_back(&error) => break,
                Err(error) => {
                    tracing::error!(error = error.chain(), "a copy was not deleted to make room");
                    kept += 1;
                }
            }
        }
        let after = free(&path).await?;
        let freed = after.saturating_sub(before);
        let kept = if kept == 0 {
            String::new()
        } else {
            format!(", {kept} could not be proven and stay")
        };
        let named = open_files(&path).await;
        let what = format!(
            "{deleted} local copies deleted{kept}; {freed} bytes freed on {} as measured{named}",
            path.display()
        );
        match deleted {
            // Somebody else has made room meanwhile.
            0 if measure(&path, aim.room).await? >= aim.goal => Ok(what),
            0 => Err(Error::unavailable("ACTION_FAILED", what)),
            _ => Ok(what),
        }
    }
}

impl MakeRoom {
    /// The copies that may go. There may be many, and whoever plans may be anybody.
    async fn copies(&self) -> Result<Vec<SegmentRecord>> {
        let logs = Arc::clone(&self.0);
        blocking(move || logs.copies_that_may_go()).await
    }

    /// The disk to make room on, which must be the one with the local copies.
    async fn disk(&self, aim: &Aim) -> Result<PathBuf> {
        let copies = self.0.config().local_dir.clone();
        let path = aim.path.clone().unwrap_or_else(|| copies.clone());
        let (ours, theirs) = (copies.clone(), path.clone());
        if blocking(move || Ok(files::same_disk(&ours, &theirs))).await? {
            return Ok(path);
        }
        let message = format!(
            "the local copies of logs are in {}, on another disk than {}; they make no room there",
            copies.display(),
            path.display()
        );
        Err(Error::unavailable("ACTION_FAILED", message))
    }
}

/// Whether the leave for what is left was withdrawn.
fn held_back(error: &Error) -> bool {
    error.code == "ACTION_REFUSED" || error.kind == Kind::Cancelled
}

/// What is free on the disk of a folder, in percent.
async fn measure(path: &Path, room: Room) -> Result<f64> {
    let path = path.to_owned();
    let measured = blocking(move || {
        Ok(match room {
            Room::Bytes => disk::free_bytes(&path),
            Room::Inodes => disk::free_inodes(&path),
        })
    });
    let measured = measured.await?.map_err(|why| Error::unavailable("ACTION_FAILED", why))?;
    Ok(measured.value)
}

async fn free(path: &Path) -> Result<u64> {
    let path = path.to_owned();
    blocking(move || {
        files::free_bytes(&path).map_err(|error| {
            Error::unavailable("ACTION_FAILED", "can't look at the disk").caused_by(error)
        })
    })
    .await
}

/// The files on this disk that are deleted and still open, which hold room until who has them open lets go.
async fn open_files(path: &Path) -> String {
    let path = path.to_owned();
    let found = blocking(move || {
        use std::os::unix::fs::MetadataExt;

        let device = std::fs::metadata(&path).map(|facts| facts.dev()).unwrap_or_default();
        let (files, _) = survey::deleted_but_open(1_000);
        Ok(files.into_iter().filter(|file| file.device == device).collect::<Vec<_>>())
    });
    let files = found.await.unwrap_or_default();
    if files.is_empty() {
        return String::new();
    }
    let named: Vec<String> = files
        .iter()
        .take(NAMED)
        .map(|file| {
            format!(
                "{} ({} bytes) by process {} ({})",
                file.path.display(),
                file.bytes,
                file.pid,
                file.command
            )
        })
        .collect();
    let bytes: u64 = files.iter().map(|file| file.bytes).sum();
    format!("; {bytes} bytes are deleted and still open: {}", named.join(", "))
}
