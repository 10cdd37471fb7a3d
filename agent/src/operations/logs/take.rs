//! Taking the head of a log that stays in place, under writers that never reopen it.
//!
//! The piece is copied, the copy is made durable and compared, and only then the log is touched: its first
//! block is written over with a mark, which is committed, and then the blocks go. Whatever a crash leaves,
//! the mark decides it: where it stands the blocks are still there, where it is gone they are. Comparing
//! contents instead would be fooled by a log that repeats itself.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use genesis_storage::{HeadRecord, SegmentRecord, SegmentState, TakenHow, TakenPhase, TakenRecord};

use super::cut::{admitted, refuse};
use super::plan::Piece;
use super::{Logs, Mode, Source, blocking, new_segment, new_source, plan};
use crate::error::{Error, Result, Unmet};
use crate::outside::{Appending, Host, failpoint, files, heads};

/// A log that stays in place, as it is before a piece is taken.
struct Log {
    file: File,
    device: u64,
    inode: u64,
}

/// Who says how a log is written to.
struct Witness {
    host: Arc<Host>,
    /// Where it can't be told, the configuration vouches for it.
    assume_append: bool,
}

/// What came of marking a log.
enum Marking {
    /// The mark stands.
    Marked,
    /// The file there is another, or does not hold the piece any more: it is left alone.
    NotOurs,
    /// Nothing is to be cut out.
    Stays,
}

impl Logs {
    /// Takes the head of a log into a segment of its own. Returns its sequence number, or `None` when there are
    /// fewer than `at_least` bytes, or no whole line.
    ///
    /// # Errors
    /// A refusal with what is in the way, `TAKE_FAILED`, `CUT_UNFINISHED`, `STORAGE_FAILED`.
    pub(super) async fn take(
        &self,
        source: &Source,
        how: TakenHow,
        path: &Path,
        actor: &str,
        reason: &str,
        at_least: u64,
    ) -> Result<Option<u64>> {
        let _alone = self.cutting.lock().await;
        let Some(facts) = admitted(path)? else { return Ok(None) };
        let source_path = path.display().to_string();
        if facts.bytes < at_least {
            return Ok(None);
        }
        self.settle_announced(&source_path).await?;
        if self.is_announced(&source_path, (facts.device, facts.inode))? {
            let message = format!(
                "what was taken from {source_path} before is not done with; `logs list` says why"
            );
            return Err(Error::conflict("CUT_UNFINISHED", message));
        }
        let chain = self.state.read(|reading| Ok(reading.sources().get(&source.log_type)?))?;
        let head = chain.and_then(|chain| chain.streams.get(&source_path)?.head.clone());
        let (from, host) = (path.to_owned(), self.witness(&source.log_type));
        let identity = (facts.device, facts.inode);
        let piece =
            blocking(move || measure(&from, identity, head.as_ref(), how, at_least, &host)).await?;
        let Some(piece) = piece else { return Ok(None) };
        self.room_for(piece.until - piece.from, &source_path).await?;
        let folder = self.config().local_dir.join(&source.log_type);
        let log_type = source.log_type.clone();
        let first = self.known_source(&log_type).await?;
        let segment = self
            .state
            .write(
                self.intent(actor, "logs.segment.cutting", reason).target(source_path.clone()),
                move |writing| {
                    let mut record = writing.sources().get(&log_type)?.unwrap_or(first);
                    let sequence = record.next_sequence;
                    record.next_sequence += 1;
                    let mut segment = new_segment(&log_type, sequence, source_path, identity);
                    segment.detached_path =
                        folder.join(format!(".{sequence:08}.taken")).display().to_string();
                    segment.taken = Some(TakenRecord {
                        how,
                        phase: TakenPhase::Copying,
                        device: identity.0,
                        inode: identity.1,
                        from: piece.from,
                        until: piece.until,
                        remove: piece.remove,
                        mark: plan::mark(&log_type, sequence, &piece, &ulid::Ulid::generate()),
                        starts_mid_line: piece.starts_mid_line,
                        vanished_bytes: 0,
                    });
                    writing.sources().put(&record)?;
                    writing.segments().put(&segment)?;
                    Ok(segment)
                },
            )
            .await?;
        failpoint::hit("logs.piece-announced");
        let sequence = segment.sequence;
        if let Err(error) = self.copy_piece(segment.clone()).await {
            // The log is untouched, so the announcement is taken back; or else the pipeline does it.
            let now = self.state.read(|reading| {
                Ok(reading.segments().get(&segment.log_type, segment.sequence)?)
            })?;
            if now.as_ref() == Some(&segment) {
                let _ = self.step_alone(&segment).await;
            }
            return Err(error);
        }
        self.metrics.rotated(&source.log_type);
        self.wake();
        Ok(Some(sequence))
    }

    /// Whether a piece of this very file is announced and not detached.
    fn is_announced(&self, path: &str, identity: (u64, u64)) -> Result<bool> {
        let unfinished = self.state.read(|reading| Ok(reading.segments().unfinished()?))?;
        Ok(unfinished.iter().any(|segment| {
            let taken = segment.taken.as_ref();
            segment.state == SegmentState::Active
                && segment.source_path == path
                && taken.is_some_and(|taken| (taken.device, taken.inode) == identity)
        }))
    }

    fn witness(&self, log_type: &str) -> Witness {
        let mode = self.config().source(log_type).map(|source| source.mode.clone());
        let assume_append = mode == Some(Mode::Collapse { assume_append: true });
        Witness { host: Arc::clone(&self.outside.host), assume_append }
    }

    async fn copy_piece(&self, mut segment: SegmentRecord) -> Result<()> {
        let Some(mut taken) = segment.taken.clone() else { return Ok(()) };
        let (copying, to) = (segment.clone(), taken.clone());
        (segment.device, segment.inode) = blocking(move || copy(&copying, &to)).await?;
        taken.phase = TakenPhase::Copied;
        segment.taken = Some(taken);
        self.put_segment(segment.clone(), "logs.segment.copied", "").await?;
        failpoint::hit("logs.piece-copied");
        self.finish_taking(segment).await
    }

    /// Leads a piece whose copy is durable on until it is detached, from wherever a crash has left it.
    ///
    /// # Errors
    /// `TAKE_FAILED`, `LOG_WRITER_WITHOUT_APPEND`, `STORAGE_FAILED`; what was done is picked up again.
    pub(super) async fn finish_taking(&self, mut segment: SegmentRecord) -> Result<()> {
        let Some(mut taken) = segment.taken.clone() else { return Ok(()) };
        let mut ours = true;
        if taken.phase == TakenPhase::Copied {
            let (marking, host) = (segment.clone(), self.witness(&segment.log_type));
            match blocking(move || mark(&marking, &host)).await? {
                Marking::Marked => {
                    failpoint::hit("logs.piece-marking");
                    taken.phase = TakenPhase::Marked;
                    segment.taken = Some(taken.clone());
                    self.put_segment(segment.clone(), "logs.segment.marked", "").await?;
                    failpoint::hit("logs.piece-marked");
                }
                Marking::Stays => {}
                Marking::NotOurs => ours = false,
            }
        }
        let removing = segment.clone();
        let (head, until, vanished) =
            if ours { blocking(move || remove(&removing)).await? } else { (None, taken.until, 0) };
        failpoint::hit("logs.piece-removed");
        if head.is_none() {
            tracing::warn!(
                path = segment.source_path,
                "the log was moved, replaced or rewritten while its head was taken; it was left alone"
            );
        }
        (taken.phase, taken.until, taken.vanished_bytes) = (TakenPhase::Removed, until, vanished);
        segment.taken = Some(taken);
        segment.state = SegmentState::Detached;
        segment.detached_at = Some(self.outside.clock.now());
        let mut intent = self
            .intent("system:logs", "logs.segment.detached", "")
            .target(format!("{}/{}", segment.log_type, segment.sequence));
        if vanished > 0 {
            self.metrics.vanished(&segment.log_type, vanished);
            let message = format!(
                "at least {vanished} bytes of {} were written between its copy and its truncation and are lost",
                segment.source_path
            );
            tracing::warn!(code = "LINES_VANISHED", "{message}");
            intent = intent.outcome("LINES_VANISHED").detail(message);
        }
        self.state
            .write(intent, move |writing| {
                let mut chain = writing
                    .sources()
                    .get(&segment.log_type)?
                    .unwrap_or_else(|| new_source(&segment.log_type));
                chain.streams.entry(segment.source_path.clone()).or_default().head = head;
                writing.sources().put(&chain)?;
                writing.segments().put(&segment)?;
                Ok(())
            })
            .await?;
        failpoint::hit("logs.piece-detached");
        Ok(())
    }

    /// Deletes the copy of a piece that was never taken.
    ///
    /// # Errors
    /// `SOURCE_DELETE_FAILED`.
    pub(super) async fn drop_copy(&self, segment: &SegmentRecord) -> Result<()> {
        let path = segment.detached_path.clone();
        blocking(move || {
            files::remove(path.as_ref()).map_err(|error| {
                Error::unavailable("SOURCE_DELETE_FAILED", format!("can't delete {path}"))
                    .caused_by(error)
            })
        })
        .await
    }
}

fn failed(path: &str) -> Error {
    Error::unavailable("TAKE_FAILED", format!("can't take the head of {path}"))
}

/// Opens a log; `None` when the file there is not the one meant.
fn open(path: &str, (device, inode): (u64, u64)) -> Result<Option<Log>> {
    let file = match heads::open(path.as_ref()) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(path).caused_by(error)),
    };
    let seen = files::identity(&file).map_err(|error| failed(path).caused_by(error))?;
    Ok((seen == (device, inode)).then_some(Log { file, device, inode }))
}

/// Refuses a log under somebody who writes at a place of their own: cutting its front out would leave a hole
/// that they write behind.
fn all_append(path: &str, log: &Log, host: &Witness) -> Result<()> {
    let unmet = match host.host.appending(log.device, log.inode) {
        Appending::All => return Ok(()),
        Appending::Unknown(_) if host.assume_append => return Ok(()),
        Appending::Not(pids) => {
            let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
            let message = format!(
                "process {} has {path} open without O_APPEND, so its front can't be cut out under it; open it for appending, or \
                 use rotate_mode = \"reopen\"",
                pids.join(", ")
            );
            Unmet { code: "LOG_WRITER_WITHOUT_APPEND", subject: path.to_owned(), message }
        }
        Appending::Unknown(why) => {
            let message = format!("{why}; or vouch for them with assume_append = true");
            Unmet { code: "LOG_WRITERS_UNKNOWN", subject: path.to_owned(), message }
        }
    };
    Err(refuse(unmet))
}

/// Looks at a log and decides what to take.
fn measure(
    path: &Path,
    identity: (u64, u64),
    head: Option<&HeadRecord>,
    how: TakenHow,
    at_least: u64,
    host: &Witness,
) -> Result<Option<Piece>> {
    let shown = path.display().to_string();
    let fault = |error: std::io::Error| failed(&shown).caused_by(error);
    let Some(log) = open(&shown, identity)? else { return Ok(None) };
    let length = log.file.metadata().map_err(fault)?.len();
    // What is said to be archived counts only while the file still begins with it.
    let head = match head.filter(|head| (head.device, head.inode) == identity) {
        Some(head) if head.bytes == 0 => Some(head),
        Some(head) => {
            let seen = heads::hash(&log.file, 0, head.bytes).map_err(fault)?;
            Some(head).filter(|head| seen.as_deref() == Some(&head.blake3))
        }
        None => None,
    };
    let starts_mid_line = head.is_some_and(|head| head.mid_line);
    let archived = head.map_or(0, |head| head.bytes);
    if how == TakenHow::Truncate {
        let from = heads::data_begins(&log.file).map_err(fault)?;
        let enough = length > from && length - from >= at_least;
        return Ok(enough.then_some(Piece {
            from,
            until: length,
            remove: length,
            starts_mid_line,
        }));
    }
    if length.saturating_sub(archived) < at_least {
        return Ok(None);
    }
    let line_end = if at_least > 1 {
        heads::line_end_from(&log.file, (archived + at_least).saturating_sub(1)).map_err(fault)?
    } else {
        heads::line_end_before(&log.file, archived, length).map_err(fault)?
    };
    let block = heads::block_bytes(&log.file).map_err(fault)?;
    let piece = plan::piece(archived, length, line_end, at_least, block);
    let Some(piece) = piece else { return Ok(None) };
    if let Err(why) = heads::probe(&log.file) {
        let message = format!(
            "{shown} can't be rotated by collapse: {why}; put it on ext4 or xfs, or use rotate_mode = \"reopen\""
        );
        return Err(refuse(Unmet { code: "COLLAPSE_UNSUPPORTED", subject: shown, message }));
    }
    all_append(&shown, &log, host)?;
    Ok(Some(Piece { starts_mid_line, ..piece }))
}

/// Copies the piece and returns the device and inode of the copy. The log is not touched.
fn copy(segment: &SegmentRecord, taken: &TakenRecord) -> Result<(u64, u64)> {
    let path = &segment.source_path;
    let fault = |error: std::io::Error| failed(path).caused_by(error);
    let moved = || failed(path).caused_by(std::io::Error::other("it was moved or cut meanwhile"));
    let log = open(path, (taken.device, taken.inode))?.ok_or_else(moved)?;
    let to = Path::new(&segment.detached_path);
    files::create_folders(to.parent().unwrap_or(Path::new("/"))).map_err(fault)?;
    if !heads::copy(&log.file, taken.from, taken.until, to).map_err(fault)? {
        return Err(moved());
    }
    let copy = files::open_no_follow(to).map_err(fault)?;
    files::identity(&copy).map_err(fault)
}

/// Compares the copy with the log and writes the mark over the first block.
fn mark(segment: &SegmentRecord, host: &Witness) -> Result<Marking> {
    let Some(taken) = &segment.taken else { return Ok(Marking::NotOurs) };
    let path = &segment.source_path;
    let fault = |error: std::io::Error| failed(path).caused_by(error);
    let Some(log) = open(path, (taken.device, taken.inode))? else { return Ok(Marking::NotOurs) };
    let at = mark_at(taken);
    let mut copy = files::open_no_follow(segment.detached_path.as_ref()).map_err(fault)?;
    // A crash may have left the mark without its commit, or part of it.
    let mark = (at, taken.mark.as_bytes());
    if !heads::is_copied(&log.file, taken.from, mark, &mut copy).map_err(fault)? {
        return Ok(Marking::NotOurs);
    }
    if taken.remove == 0 {
        return Ok(Marking::Stays);
    }
    if taken.how == TakenHow::Collapse {
        all_append(path, &log, host)?;
    }
    heads::mark(&log.file, at, &taken.mark).map_err(fault)?;
    Ok(Marking::Marked)
}

/// Where the mark stands: at the front of what goes.
fn mark_at(taken: &TakenRecord) -> u64 {
    match taken.how {
        TakenHow::Collapse => 0,
        TakenHow::Truncate => taken.from,
    }
}

/// Cuts the piece out of the log, unless that is done. Returns what of the log is archived and stays (`None`
/// where the log is another by now), where the copy ends, and how many bytes were seen to vanish.
fn remove(segment: &SegmentRecord) -> Result<(Option<HeadRecord>, u64, u64)> {
    let Some(taken) = &segment.taken else { return Ok((None, 0, 0)) };
    let path = &segment.source_path;
    let fault = |error: std::io::Error| failed(path).caused_by(error);
    let Some(log) = open(path, (taken.device, taken.inode))? else {
        return Ok((None, taken.until, 0));
    };
    let (mut until, mut vanished) = (taken.until, 0);
    let marked = taken.phase == TakenPhase::Marked
        && heads::is_marked(&log.file, mark_at(taken), &taken.mark).map_err(fault)?;
    match taken.how {
        TakenHow::Collapse if marked => {
            heads::collapse(&log.file, taken.remove).map_err(fault)?;
        }
        TakenHow::Truncate if marked => {
            let copied = files::look(segment.detached_path.as_ref()).map_err(fault)?;
            let copied = copied.map_or(0, |facts| facts.bytes);
            until =
                heads::copy_tail(&log.file, taken.from + copied, segment.detached_path.as_ref())
                    .map_err(fault)?;
            failpoint::pause("logs.before-truncate");
            let length = log.file.metadata().map_err(fault)?.len();
            log.file.set_len(0).map_err(fault)?;
            vanished = length.saturating_sub(until);
            log.file.sync_all().map_err(fault)?;
        }
        _ => {}
    }
    let copy = files::open_no_follow(segment.detached_path.as_ref()).map_err(fault)?;
    let end = copy.metadata().map_err(fault)?.len();
    let whole = heads::line_end_before(&copy, end.saturating_sub(1), end).map_err(fault)?;
    let bytes = match taken.how {
        TakenHow::Collapse => taken.until - taken.remove,
        TakenHow::Truncate => 0,
    };
    let stays = heads::hash(&log.file, 0, bytes).map_err(fault)?;
    if taken.how == TakenHow::Collapse && taken.remove > 0 {
        // What stays must be the end of the piece, or the log was rewritten meanwhile.
        let ours = heads::hash(&copy, taken.remove - taken.from, end).map_err(fault)?;
        if ours != stays {
            return Ok((None, until, vanished));
        }
    }
    let head = stays.map(|blake3| HeadRecord {
        device: log.device,
        inode: log.inode,
        bytes,
        blake3,
        mid_line: whole.is_none() && end > 0,
    });
    Ok((head, until, vanished))
}
