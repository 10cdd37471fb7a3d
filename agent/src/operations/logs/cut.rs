//! Cutting a file: by renaming it away from its writer here, or by taking its head in `take`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use genesis_storage::{SegmentRecord, SegmentState, SourceRecord, TakenHow};

use super::{Logs, Mode, Reopen, Source, act, blocking, new_segment, plan};
use crate::error::{Error, Result, Unmet};
use crate::outside::files::FileFacts;
use crate::outside::{Holders, files, hooks, process};

/// What stands at `path`, if it may be rotated; `None` when there is nothing.
///
/// # Errors
/// `LOG_UNREADABLE`, or `LOG_NOT_ROTATABLE` with what is in the way.
pub(super) fn admitted(path: &Path) -> Result<Option<FileFacts>> {
    let facts = files::look(path).map_err(|error| {
        Error::unavailable("LOG_UNREADABLE", format!("can't look at {}", path.display()))
            .caused_by(error)
    })?;
    let Some(facts) = facts else { return Ok(None) };
    plan::admissible(path, &facts).map_err(refuse)?;
    Ok(Some(facts))
}

/// The refusal of a cut.
pub(super) fn refuse(unmet: Unmet) -> Error {
    Error::refused("LOG_NOT_ROTATABLE", unmet.message.clone(), vec![unmet])
}

impl Logs {
    /// Cuts one file in the way of its source. Returns the segment's sequence number, or `None` when the file
    /// has fewer than `at_least` bytes, or is still being written where its application leaves it by itself.
    ///
    /// # Errors
    /// A refusal with what is in the way, `CUT_FAILED`, `CUT_RACED`, `STORAGE_FAILED`. Nothing was changed
    /// then, but for an announcement that is taken back.
    pub(crate) async fn cut(
        &self,
        source: &Source,
        path: &Path,
        actor: &str,
        reason: &str,
        at_least: u64,
    ) -> Result<Option<u64>> {
        match &source.mode {
            Mode::Reopen(reopen) => {
                self.rename_away(source, Some(reopen), path, actor, reason, at_least).await
            }
            Mode::Direct { .. } => {
                self.rename_away(source, None, path, actor, reason, at_least).await
            }
            Mode::Collapse { .. } => {
                self.take(source, TakenHow::Collapse, path, actor, reason, at_least).await
            }
            Mode::CopyTruncate => {
                self.take(source, TakenHow::Truncate, path, actor, reason, at_least).await
            }
        }
    }

    async fn rename_away(
        &self,
        source: &Source,
        reopen: Option<&Reopen>,
        path: &Path,
        actor: &str,
        reason: &str,
        at_least: u64,
    ) -> Result<Option<u64>> {
        let alone = self.cutting.lock().await;
        let Some(facts) = admitted(path)? else { return Ok(None) };
        // Somebody else may have cut it since it was looked at.
        if facts.bytes < at_least {
            return Ok(None);
        }
        let folder = path.parent().unwrap_or(Path::new("/"));
        if !files::may_change(folder) {
            let message = format!(
                "the agent may not rename files in {}; give its user write access to that folder",
                folder.display()
            );
            let subject = path.display().to_string();
            return Err(refuse(Unmet { code: "LOG_FOLDER_NOT_WRITABLE", subject, message }));
        }
        if reopen.is_none() {
            let (host, path) = (Arc::clone(&self.outside.host), path.to_owned());
            let writers =
                blocking(move || Ok(host.writers(&path, facts.device, facts.inode))).await?;
            match writers {
                Holders::Released => {}
                Holders::Held(_) => return Ok(None),
                Holders::Unknown(message) => {
                    let subject = source.log_type.clone();
                    return Err(refuse(Unmet { code: "LOG_WRITERS_UNKNOWN", subject, message }));
                }
            }
        }
        if let Some(Reopen::Signal { pidfile, .. }) = reopen {
            // Better not cut than cut with nobody to tell.
            process::living(pidfile).map_err(|message| {
                refuse(Unmet {
                    code: "REOPEN_TARGET_MISSING",
                    subject: path.display().to_string(),
                    message,
                })
            })?;
        }
        let (log_type, source_path) = (source.log_type.clone(), path.display().to_string());
        self.settle_announced(&source_path).await?;
        let (device, inode) = (facts.device, facts.inode);
        let first = self.known_source(&source.log_type).await?;
        let segment = self
            .state
            .write(
                self.intent(actor, "logs.segment.cutting", reason).target(source_path.clone()),
                move |writing| {
                    let mut record = writing.sources().get(&log_type)?.unwrap_or(first);
                    let segment =
                        new_segment(&log_type, record.next_sequence, source_path, (device, inode));
                    record.next_sequence += 1;
                    writing.sources().put(&record)?;
                    writing.segments().put(&segment)?;
                    Ok(segment)
                },
            )
            .await?;
        let detached = PathBuf::from(&segment.detached_path);
        let (from, to) = (path.to_owned(), detached.clone());
        let mut segment = segment;
        match blocking(move || act::detach(&from, &to, device, inode)).await {
            Ok(act::Detached::AsPlanned) => {}
            Ok(act::Detached::PutBack) => {
                let (log_type, sequence) = (segment.log_type.clone(), segment.sequence);
                let intent = self
                    .intent(actor, "logs.segment.abandoned", reason)
                    .target(segment.source_path.clone())
                    .outcome("CUT_RACED");
                self.state
                    .write(intent, move |writing| {
                        Ok(writing.segments().delete(&log_type, sequence)?)
                    })
                    .await?;
                let message = format!(
                    "{} was replaced by another file at the moment of its rotation",
                    path.display()
                );
                return Err(Error::conflict("CUT_RACED", message));
            }
            // What was taken is a log of the same path all the same, so it is archived like one.
            Ok(act::Detached::Another(device, inode)) => {
                (segment.device, segment.inode) = (device, inode)
            }
            Err(error) => {
                // The world decides whether it happened: taken back, recorded as detached, or held.
                let _ = self.step_alone(&segment).await;
                return Err(error);
            }
        }
        self.record_detached(segment.clone()).await?;
        // The writer may be slow to be told, and others want to cut meanwhile.
        drop(alone);
        if let Err(error) = self.tell_writer(source).await {
            // Nothing is lost: the segment waits until the writer lets go, and the pipeline tells it again.
            tracing::warn!(
                path = segment.source_path,
                error = error.chain(),
                "the writer could not be told to reopen"
            );
        }
        self.live().active.remove(&(source.log_type.clone(), path.to_owned()));
        self.metrics.rotated(&source.log_type);
        self.wake();
        Ok(Some(segment.sequence))
    }

    /// The record of a source; for one that is not known yet, the one to begin with.
    pub(super) async fn known_source(&self, log_type: &str) -> Result<SourceRecord> {
        match self.state.read(|reading| Ok(reading.sources().get(log_type)?))? {
            Some(source) => Ok(source),
            None => self.first_source(log_type).await,
        }
    }

    pub(super) async fn record_detached(&self, mut segment: SegmentRecord) -> Result<()> {
        segment.state = SegmentState::Detached;
        segment.detached_at = Some(self.outside.clock.now());
        self.put_segment(segment, "logs.segment.detached", "").await
    }

    /// Tells the writer of a renamed log to open a new one.
    pub(super) async fn tell_writer(&self, source: &Source) -> Result<()> {
        let Mode::Reopen(reopen) = &source.mode else { return Ok(()) };
        match reopen {
            Reopen::ByItself => Ok(()),
            Reopen::Own => {
                let own = Arc::clone(&self.own_log);
                let reopened = tokio::task::spawn_blocking(move || own.reopen()).await;
                reopened.unwrap_or_else(|error| Err(std::io::Error::other(error))).map_err(
                    |error| {
                        Error::unavailable("REOPEN_FAILED", "can't reopen the agent's own log")
                            .caused_by(error)
                    },
                )
            }
            Reopen::Signal { signal, pidfile } => process::signal(pidfile, *signal)
                .map_err(|why| Error::unavailable("REOPEN_FAILED", why)),
            Reopen::Command(hook) => {
                // It may take minutes, and the watch goes on meanwhile. One that fails leaves the writer
                // holding its file, which is seen, reported and told again.
                let (hook, log_type) = (hook.clone(), source.log_type.clone());
                tokio::spawn(async move {
                    let input = serde_json::json!({ "event": "logs.reopen", "log_type": log_type });
                    let variables = [("LOG_TYPE", log_type)];
                    if let Err(error) = hooks::run(&hook, &input, &variables).await {
                        tracing::warn!(error = error.chain(), "the reopen hook failed");
                    }
                });
                Ok(())
            }
        }
    }
}
