//! The life of one backup: recorded, written beside its place, put there, recorded again, verified; then what is over
//! goes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use genesis_storage::{BackupLevel, BackupRecord, BackupState};

use super::act::{self, Hands, Live, Proof, blocking};
use super::plan::{self, Source, Tool};
use super::tools::{self, Listed};
use super::{Backup, lock};
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::outside::{failpoint, files, trees};
use crate::runs::{Context, Report};

/// A folder whose writer was killed this moment may get one more file while it is removed.
const REMOVALS: usize = 20;

/// What of a backup that was made becomes part of its record.
struct Made {
    place: String,
    bytes: u64,
    system: String,
}

impl Backup {
    /// Makes a backup of a source.
    pub(super) async fn make(self: Arc<Self>, source: Source, context: Context) -> Result<Report> {
        let hands = self.hands();
        let started = self.outside.clock.now();
        let id = self.new_id(started);
        let place = hands.config.folder.join(&source.name).join(&id);
        let mut record = BackupRecord {
            id,
            source: source.name.clone(),
            engine: source.kind.engine().to_owned(),
            tool: source.tool.name().to_owned(),
            state: BackupState::Running,
            place: place.display().to_string(),
            started_at: started,
            ended_at: None,
            bytes: 0,
            system_identifier: String::new(),
            level: None,
            verified_at: None,
            detail: String::new(),
            run_id: context.id(),
        };
        let (actor, reason) = (context.actor(), context.reason());
        let who = (actor.as_str(), reason.as_str());
        self.put(&record, "backup.begun", who).await?;
        failpoint::hit("backup.recorded");
        let partial = partial_of(&place);
        let made = tokio::select! {
            made = self.write(&hands, &source, &record, &partial, &context) => made,
            () = context.cancelled() => Err(Error::cancelled()),
        };
        record.ended_at = Some(self.outside.clock.now());
        match made {
            Ok(made) => {
                record.state = BackupState::Complete;
                record.level = Some(BackupLevel::Recorded);
                record.place = made.place;
                record.bytes = made.bytes;
                record.system_identifier = made.system;
                self.put(&record, "backup.made", who).await?;
                failpoint::hit("backup.complete");
            }
            Err(error) => {
                clear(&partial).await;
                let error = with_room(error, &hands.config.folder);
                record.state = BackupState::Failed;
                record.detail = error.chain();
                self.put(&record, "backup.failed", who).await?;
                self.metrics.ended("failed");
                return Err(error);
            }
        }
        let level = source.deepest(source.level);
        let (record, proof) = self.prove(&hands, &source, record, level, &context).await?;
        let outcome = match &proof {
            Proof::Sound(_) => "verified",
            Proof::Wrong(_) => "broken",
            Proof::Unknown(_) => "unverified",
        };
        self.metrics.ended(outcome);
        let deleted = match proof {
            Proof::Sound(_) => self.expire(&source, &context).await?,
            // What was relied on until now stays until something else can be.
            Proof::Wrong(_) | Proof::Unknown(_) => 0,
        };
        let size = plan::size(record.bytes);
        let made = format!("backup {} of {}, {size}", record.id, record.source);
        match proof {
            Proof::Sound(how) => Ok(Report::proven(format!(
                "{made}, verified to {level}: {how}; {deleted} older deleted"
            ))),
            Proof::Unknown(why) => Ok(Report::unknown(format!("{made}, not verified: {why}"))),
            Proof::Wrong(why) => {
                Err(Error::unavailable("BACKUP_BROKEN", format!("{made}, is broken: {why}")))
            }
        }
    }

    async fn write(
        &self,
        hands: &Hands,
        source: &Source,
        record: &BackupRecord,
        partial: &Path,
        context: &Context,
    ) -> Result<Made> {
        let live = hands.live(source).await?;
        if let Some(seen) = lock(&self.seen).get_mut(&source.name) {
            seen.system = Some(live.system.clone());
        }
        match source.tool {
            Tool::Builtin => {
                self.write_here(hands, source, record, partial, (&live, context)).await
            }
            Tool::Restic => {
                self.room(hands, source, &live)?;
                let step = context.begin("copy", &partial.display().to_string()).await?;
                let description = hands.make(source, record, &live, partial).await?;
                same_system(source, &live, &description.system_identifier)?;
                step.done(plan::size(description.bytes)).await?;
                let mut made = self.write_there(hands, source, partial, (&live, context)).await?;
                made.bytes = description.bytes;
                clear(partial).await;
                Ok(made)
            }
            Tool::PgBackRest | Tool::WalG => {
                self.write_there(hands, source, partial, (&live, context)).await
            }
        }
    }

    fn room(&self, hands: &Hands, source: &Source, live: &Live) -> Result<()> {
        let folder = &hands.config.folder;
        let records = self.records(Some(&source.name))?;
        let last = records.iter().find(|it| it.state == BackupState::Complete).map(|it| it.bytes);
        let free = files::free_bytes(folder)
            .map_err(|error| act::failed("the disk of the backups can't be looked at", error))?;
        plan::room(free, plan::wanted_room(last, live.bytes), folder)
    }

    /// A backup of the agent's own.
    async fn write_here(
        &self,
        hands: &Hands,
        source: &Source,
        record: &BackupRecord,
        partial: &Path,
        (live, context): (&Live, &Context),
    ) -> Result<Made> {
        self.room(hands, source, live)?;
        let step = context.begin("copy", &partial.display().to_string()).await?;
        blocking(|| failpoint::pause("backup.before-copy")).await?;
        let description = hands.make(source, record, live, partial).await?;
        same_system(source, live, &description.system_identifier)?;
        failpoint::hit("backup.copied");
        let (from, to) = (partial.to_owned(), PathBuf::from(&record.place));
        blocking(move || files::rename_new(&from, &to))
            .await?
            .map_err(|error| act::failed("the backup can't be put in its place", error))?;
        failpoint::hit("backup.renamed");
        step.done(plan::size(description.bytes)).await?;
        Ok(Made {
            place: record.place.clone(),
            bytes: description.bytes,
            system: description.system_identifier,
        })
    }

    /// A backup that a tool keeps. That the tool says it went well is not enough: its list must name a new one.
    async fn write_there(
        &self,
        hands: &Hands,
        source: &Source,
        staged: &Path,
        (live, context): (&Live, &Context),
    ) -> Result<Made> {
        let list = || async {
            let listed = hands.list(source).await?;
            Ok::<Vec<Listed>, Error>(listed.unwrap_or_default())
        };
        let before = list().await?;
        let step = context.begin("tool", source.tool.name()).await?;
        hands.tool(source, tools::make(source, staged, &live.system, &live.data)).await?;
        failpoint::hit("backup.tool-ran");
        let after = list().await?;
        let new = after.into_iter().filter(|found| {
            before.iter().all(|known| known.place != found.place) && found.wrong.is_empty()
        });
        let Some(new) = new.max_by_key(|found| found.started_at) else {
            let message =
                format!("{} ended well, and its list names no new backup", source.tool.name());
            return Err(Error::unavailable("BACKUP_TOOL_FAILED", message));
        };
        if !new.system_identifier.is_empty() {
            same_system(source, live, &new.system_identifier)?;
        }
        step.done(new.place.clone()).await?;
        Ok(Made { place: new.place, bytes: new.bytes, system: live.system.clone() })
    }

    /// Deletes the backups of a source that are over; how many.
    pub(super) async fn expire(&self, source: &Source, context: &Context) -> Result<usize> {
        if source.tool != Tool::Builtin {
            // A tool has a retention of its own.
            return Ok(0);
        }
        let busy = self.busy(&source.name);
        // Somebody reads one of them: the next run deletes.
        let Ok(_alone) = busy.try_write() else { return Ok(0) };
        let mut records = self.records(Some(&source.name))?;
        records.retain(|record| self.owns(record));
        let (actor, reason) = (context.actor(), context.reason());
        let mut deleted = 0;
        for id in plan::expired(&records, source.keep, source.level, self.outside.clock.now()) {
            context.safe_point()?;
            let Some(record) = records.iter().find(|record| record.id == id) else { continue };
            let step = context.begin("expire", &record.place).await?;
            let over = BackupRecord {
                state: BackupState::Expired,
                detail: format!("{} are kept", source.keep),
                ..record.clone()
            };
            self.put(&over, "backup.expired", (&actor, &reason)).await?;
            failpoint::hit("backup.expiring");
            let place = PathBuf::from(&record.place);
            match blocking(move || trees::remove(&place)).await? {
                Ok(()) => step.done("deleted").await?,
                // It is tried again when the agent starts.
                Err(error) => step.failed(error.to_string()).await?,
            }
            deleted += 1;
        }
        Ok(deleted)
    }
}

/// Where a backup is written until it is whole.
pub(super) fn partial_of(place: &Path) -> PathBuf {
    let mut name = place.to_owned().into_os_string();
    name.push(".partial");
    name.into()
}

/// Removes what was being written. What can't be removed now is removed when the agent starts.
pub(super) async fn clear(path: &Path) {
    for _ in 0..REMOVALS {
        let own = path.to_owned();
        match blocking(move || trees::remove(&own)).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => {
                tracing::warn!(path = %path.display(), %error, "not removed yet");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
            Err(_) => return,
        }
    }
}

fn same_system(source: &Source, live: &Live, found: &str) -> Result<()> {
    if live.system == found {
        return Ok(());
    }
    let message =
        format!("what was written is of system {found}, and {} is {}", source.name, live.system);
    Err(Error::unavailable("BACKUP_FAILED", message))
}

/// An error with what is free where it happened: a full disk does not always say so.
fn with_room(error: Error, folder: &Path) -> Error {
    if error.kind != ErrorKind::Unavailable {
        return error;
    }
    let free = files::free_bytes(folder);
    let free =
        free.map_or_else(|_| "not known how much".to_owned(), |free| format!("{free} bytes"));
    let message =
        format!("{}; free on the disk of {} now: {free}", error.chain(), folder.display());
    Error::new(error.kind, error.code, message).with_unmet(error.unmet)
}
