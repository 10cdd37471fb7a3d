//! Leads each unfinished segment on, one step at a time, in order of type and sequence.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use genesis_storage::{SegmentRecord, SegmentState};

use super::plan::{Observed, Step};
use super::segment::{Digest, MEMBER_BYTES, SealRequest, TimestampFormat};
use super::{Logs, act, blocking, nanoseconds, new_source, plan, timestamp};
use crate::error::{Error, Result, Unmet};
use crate::outside::archive::Uploads;
use crate::outside::{Holders, failpoint, files};

/// The longest sleep when nothing is left to do; a cut wakes it at once.
const REST: Duration = Duration::from_secs(30);
/// First and longest wait for a writer that still holds a file.
const RELEASE_WAIT: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// First and longest wait after a failure.
const FAULT_WAIT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// The two halves of a segment's way to the archive, which go on beside each other: a segment is in one only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Half {
    /// Away from its writer and sealed, on this host.
    Seal,
    /// Into the archive, and read back.
    Ship,
}

impl Half {
    fn of(state: SegmentState) -> Self {
        if state < SegmentState::Sealed { Self::Seal } else { Self::Ship }
    }
}

/// What came of trying one step.
pub(super) enum Outcome {
    /// The segment is one step further.
    Advanced,
    /// It waits for a writer.
    Waits(Unmet),
    /// It rests.
    Rest,
}

impl Logs {
    pub(super) async fn pipeline(&self, half: Half) {
        let woken = match half {
            Half::Seal => &self.to_seal,
            Half::Ship => &self.to_ship,
        };
        loop {
            let wait = match self.advance_half(half).await {
                Ok(wait) => wait,
                Err(error) => {
                    tracing::error!(error = error.chain(), "the segments could not be looked at");
                    FAULT_WAIT.0
                }
            };
            tokio::select! {
                () = self.outside.clock.sleep(wait) => {}
                () = woken.notified() => {}
            }
        }
    }

    /// Advances every unfinished segment of a half that does not wait as far as it goes there; returns how long
    /// to sleep.
    ///
    /// # Errors
    /// `STORAGE_FAILED`.
    pub(crate) async fn advance_half(&self, half: Half) -> Result<Duration> {
        let mut unfinished = self.state.read(|reading| Ok(reading.segments().unfinished()?))?;
        unfinished.retain(|segment| Half::of(segment.state) == half);
        let mut wait = REST;
        // Segments of one file are sealed in order, so that the time in force goes from one to the next.
        let mut unsealed: BTreeSet<(String, String)> = BTreeSet::new();
        for segment in unfinished {
            let key = (segment.log_type.clone(), segment.sequence);
            let file = (segment.log_type.clone(), segment.source_path.clone());
            let sealed = segment.state >= SegmentState::Sealed;
            if !sealed && unsealed.contains(&file) {
                continue;
            }
            let now = self.outside.clock.monotonic();
            let until = self.live().waiting.get(&key).map(|waiting| waiting.not_before);
            if let Some(left) =
                until.and_then(|until| until.checked_sub(now)).filter(|left| !left.is_zero())
            {
                wait = wait.min(left);
                let quarantined =
                    self.hindrance(&key.0, key.1) == Some(plan::Hindrance::Quarantined);
                if !sealed && !quarantined {
                    unsealed.insert(file);
                }
                continue;
            }
            if let Some(again) = self.advance(segment).await {
                wait = wait.min(again);
            }
            let now = self.state.read(|reading| Ok(reading.segments().get(&key.0, key.1)?))?;
            // One that waits for a person does not hold up those behind it.
            let quarantined = self.hindrance(&key.0, key.1) == Some(plan::Hindrance::Quarantined);
            if now.is_some_and(|now| now.state < SegmentState::Sealed) && !quarantined {
                unsealed.insert(file);
            }
        }
        Ok(wait)
    }

    /// Advances one segment until it rests, waits, or goes over to the other half; returns when to come back.
    async fn advance(&self, mut segment: SegmentRecord) -> Option<Duration> {
        let key = (segment.log_type.clone(), segment.sequence);
        let half = Half::of(segment.state);
        loop {
            if Half::of(segment.state) != half {
                self.wake();
                return None;
            }
            match self.step(&segment).await {
                Ok(Outcome::Advanced) => {
                    self.live().waiting.remove(&key);
                    match self.state.read(|reading| Ok(reading.segments().get(&key.0, key.1)?)) {
                        Ok(Some(next)) => segment = next,
                        _ => return None,
                    }
                }
                Ok(Outcome::Rest) => {
                    self.live().waiting.remove(&key);
                    return None;
                }
                Ok(Outcome::Waits(why)) => {
                    return Some(self.wait(&segment, why, RELEASE_WAIT).await);
                }
                Err(error) => {
                    self.metrics.failed(&segment.log_type);
                    let subject = format!("{}/{}", segment.log_type, segment.sequence);
                    let why = Unmet { code: error.code, subject, message: error.chain() };
                    return Some(self.wait(&segment, why, FAULT_WAIT).await);
                }
            }
        }
    }

    async fn step(&self, segment: &SegmentRecord) -> Result<Outcome> {
        if segment.state != SegmentState::Active {
            return self.step_alone(segment).await;
        }
        // An announcement is its cut's own until that has ended; one seen after it was left by a crash.
        let _alone = self.cutting.lock().await;
        let (log_type, sequence) = (segment.log_type.as_str(), segment.sequence);
        let now = self.state.read(|reading| Ok(reading.segments().get(log_type, sequence)?))?;
        match now {
            Some(now) if now == *segment => self.step_alone(segment).await,
            _ => Ok(Outcome::Advanced),
        }
    }

    /// Settles what a crash left announced for the file at `path`, before another cut takes it away. The
    /// caller holds the lock of cutting.
    ///
    /// # Errors
    /// `STORAGE_FAILED`.
    pub(super) async fn settle_announced(&self, path: &str) -> Result<()> {
        let unfinished = self.state.read(|reading| Ok(reading.segments().unfinished()?))?;
        let announced = unfinished
            .into_iter()
            .filter(|segment| segment.state == SegmentState::Active && segment.source_path == path);
        for segment in announced {
            // What can't be settled stays announced, and the pipeline reports it.
            let _ = self.step_alone(&segment).await;
        }
        Ok(())
    }

    pub(super) async fn step_alone(&self, segment: &SegmentRecord) -> Result<Outcome> {
        // Whatever is recorded next is recorded without what it waited for until now.
        let segment = &SegmentRecord { waiting: None, ..segment.clone() };
        let observed = match segment.state {
            SegmentState::Active if segment.taken.is_some() => None,
            SegmentState::Active | SegmentState::Detached => Some(self.observe(segment).await?),
            _ => None,
        };
        match plan::next_step(segment, observed.as_ref()) {
            Step::Rest => return Ok(Outcome::Rest),
            Step::AwaitRelease(pids) => {
                let who = match pids.as_slice() {
                    [] => "a process that can't be seen from here".to_owned(),
                    pids => format!(
                        "process {}",
                        pids.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
                    ),
                };
                let message = format!(
                    "{who} can still write to {}; it is kept as it is until the writer lets go (does its reopen hook work?)",
                    segment.detached_path
                );
                let subject = format!("{}/{}", segment.log_type, segment.sequence);
                return Ok(Outcome::Waits(Unmet {
                    code: "SEGMENT_HELD_BY_WRITER",
                    subject,
                    message,
                }));
            }
            Step::Hold { code, message } => return Err(Error::unavailable(code, message)),
            Step::FinishTaking => self.finish_taking(segment.clone()).await?,
            Step::Abandon => {
                if segment.taken.is_some() {
                    self.drop_copy(segment).await?;
                }
                let (log_type, sequence) = (segment.log_type.clone(), segment.sequence);
                let intent = self
                    .intent("system:logs", "logs.segment.abandoned", "the cut had not happened")
                    .target(format!("{log_type}/{sequence}"));
                self.state
                    .write(intent, move |writing| {
                        Ok(writing.segments().delete(&log_type, sequence)?)
                    })
                    .await?;
                return Ok(Outcome::Rest);
            }
            Step::RecordDetached => {
                self.record_detached(segment.clone()).await?;
                if let Some(source) = self.config().source(&segment.log_type)
                    && let Err(error) = self.tell_writer(source).await
                {
                    tracing::warn!(error = error.chain(), "the writer could not be told to reopen");
                }
            }
            Step::Seal => self.seal(segment).await?,
            Step::Upload => self.upload(segment).await?,
            Step::Verify => self.verify_upload(segment).await?,
        }
        Ok(Outcome::Advanced)
    }

    async fn observe(&self, segment: &SegmentRecord) -> Result<Observed> {
        let (segment, host) = (segment.clone(), std::sync::Arc::clone(&self.outside.host));
        blocking(move || {
            let is_it = |path: &str| {
                let seen = files::look(path.as_ref()).map_err(|error| {
                    Error::unavailable("LOG_UNREADABLE", format!("can't look at {path}"))
                        .caused_by(error)
                })?;
                Ok::<bool, Error>(seen.is_some_and(|facts| {
                    (facts.device, facts.inode) == (segment.device, segment.inode)
                }))
            };
            let at_detached = is_it(&segment.detached_path)?;
            let holders = if at_detached {
                host.writers(segment.detached_path.as_ref(), segment.device, segment.inode)
            } else {
                Holders::Unknown("there is no file to look at".into())
            };
            Ok(Observed { at_source: is_it(&segment.source_path)?, at_detached, holders })
        })
        .await
    }

    async fn seal(&self, segment: &SegmentRecord) -> Result<()> {
        let config = self.config();
        let chain = self
            .state
            .read(|reading| Ok(reading.sources().get(&segment.log_type)?))?
            .unwrap_or_else(|| new_source(&segment.log_type));
        let previous = if chain.chain_head.is_empty() {
            None
        } else {
            chain.chain_head.parse::<Digest>().ok()
        };
        let last_at = chain.streams.get(&segment.source_path).and_then(|stream| stream.last_at);
        let detached = PathBuf::from(&segment.detached_path);
        let fallback_at =
            files::look(&detached).ok().flatten().map_or(0, |facts| facts.modified_at);
        // A type that was taken out of the configuration is still brought to its end.
        let format = config
            .source(&segment.log_type)
            .map_or(TimestampFormat::Rfc3339, |source| source.format.clone());
        let request = SealRequest {
            host_id: self.host.id.clone(),
            hostname: self.host.name.clone(),
            log_type: segment.log_type.clone(),
            source_path: segment.source_path.clone(),
            sequence: segment.sequence,
            chain_index: chain.next_chain_index,
            previous,
            timestamp_format: format,
            initial_at: last_at.map(nanoseconds),
            fallback_at,
            starts_mid_line: segment.taken.as_ref().is_some_and(|taken| taken.starts_mid_line),
            sealed_at: nanoseconds(self.outside.clock.now()),
            member_bytes: MEMBER_BYTES,
        };
        let (identity, root) = ((segment.device, segment.inode), config.local_dir.clone());
        let reserve = self.room_to_seal(segment).await?;
        let source = detached.clone();
        let sealed =
            blocking(move || act::seal_file(&source, identity, &root, request, reserve)).await?;
        // An open that was under way while the file was renamed would show by now.
        let holders = self.observe(segment).await?.holders;
        if holders != Holders::Released {
            let message =
                format!("{} was opened for writing while it was read", segment.detached_path);
            return Err(Error::unavailable("SEGMENT_REOPENED", message));
        }
        let mut record = segment.clone();
        record.state = SegmentState::Sealed;
        record.initial_at = last_at;
        record.first_at = sealed.manifest.first_at.map(timestamp);
        record.last_at = sealed.manifest.last_at.map(timestamp);
        record.lines = sealed.manifest.lines;
        record.members = sealed.manifest.members.len() as u64;
        record.plain_bytes = sealed.manifest.plain_bytes;
        record.compressed_bytes = sealed.manifest.compressed_bytes;
        record.sha256 = sealed.manifest.sha256.to_string();
        record.manifest_sha256 = sealed.manifest_sha256;
        record.chain_index = Some(chain.next_chain_index);
        record.archive_name = sealed.archive_name;
        record.sealed_at = Some(self.outside.clock.now());
        let ended_at = sealed.manifest.ended_at.map(timestamp);
        self.metrics.sealed(
            &record.log_type,
            record.plain_bytes,
            record.compressed_bytes,
            record.lines,
        );
        let intent = self
            .intent("system:logs", "logs.segment.sealed", "")
            .target(format!("{}/{}", record.log_type, record.sequence))
            .detail(format!("{} lines, sha256 {}", record.lines, record.sha256));
        let committed = record.clone();
        self.state
            .write(intent, move |writing| {
                let mut chain = writing
                    .sources()
                    .get(&committed.log_type)?
                    .unwrap_or_else(|| new_source(&committed.log_type));
                chain.next_chain_index += 1;
                chain.chain_head = committed.manifest_sha256.clone();
                chain.streams.entry(committed.source_path.clone()).or_default().last_at = ended_at;
                writing.sources().put(&chain)?;
                writing.segments().put(&committed)?;
                Ok(())
            })
            .await?;
        failpoint::hit("logs.sealed");
        self.remove_source(segment).await
    }

    /// Deletes the plain file of a segment that is recorded as sealed.
    async fn remove_source(&self, segment: &SegmentRecord) -> Result<()> {
        let segment = segment.clone();
        blocking(move || {
            let path = PathBuf::from(&segment.detached_path);
            let failed = |error| {
                Error::unavailable(
                    "SOURCE_DELETE_FAILED",
                    format!("can't delete {}", path.display()),
                )
                .caused_by(error)
            };
            let seen = files::look(&path).map_err(failed)?;
            if seen
                .is_some_and(|facts| (facts.device, facts.inode) == (segment.device, segment.inode))
            {
                files::remove(&path).map_err(failed)?;
            }
            failpoint::hit("logs.source-removed");
            Ok(())
        })
        .await
    }

    async fn upload(&self, segment: &SegmentRecord) -> Result<()> {
        // After a crash between the commit and the deletion the plain file may still be there.
        self.remove_source(segment).await?;
        let (root, checked) = (self.config().local_dir.clone(), segment.clone());
        blocking(move || act::check_local(&root, &act::Expected::of(&checked))).await?;
        let archive = self.archive()?;
        let outcome = act::upload(
            &archive,
            &self.config().local_dir,
            &segment.archive_name,
            &SegmentUploads { logs: self, segment },
        )
        .await;
        if outcome.is_err() {
            // A folder that was unmounted and comes back is opened anew.
            self.live().archive = None;
        }
        outcome?;
        let mut record = segment.clone();
        record.state = SegmentState::Uploaded;
        record.upload_id = None;
        self.put_segment(record, "logs.segment.uploaded", "").await?;
        failpoint::hit("logs.uploaded");
        Ok(())
    }

    async fn verify_upload(&self, segment: &SegmentRecord) -> Result<()> {
        let expected = act::Expected::of(segment);
        let archive = self.archive()?;
        match act::verify(&archive, &expected).await {
            Ok(()) => {}
            Err(error) if error.code == "ARCHIVE_MISMATCH" => {
                // If somebody has moved the wrong object away, the right one takes its place; puts never
                // replace anything. What is here must be right for that.
                let (root, checked) = (self.config().local_dir.clone(), segment.clone());
                blocking(move || act::check_local(&root, &act::Expected::of(&checked))).await?;
                act::upload(
                    &archive,
                    &self.config().local_dir,
                    &segment.archive_name,
                    &SegmentUploads { logs: self, segment },
                )
                .await?;
                act::verify(&archive, &expected).await?;
            }
            Err(error) => return Err(error),
        }
        let mut record = segment.clone();
        record.state = SegmentState::Verified;
        record.verified_at = Some(self.outside.clock.now());
        self.put_segment(record, "logs.segment.verified", "").await?;
        self.metrics.verified(&segment.log_type);
        failpoint::hit("logs.verified");
        Ok(())
    }
}

/// Keeps the upload of one segment in its record.
struct SegmentUploads<'l> {
    logs: &'l Logs,
    segment: &'l SegmentRecord,
}

#[async_trait]
impl Uploads for SegmentUploads<'_> {
    fn left(&self) -> Option<String> {
        let (log_type, sequence) = (&self.segment.log_type, self.segment.sequence);
        let now = self.logs.state.read(|reading| Ok(reading.segments().get(log_type, sequence)?));
        now.ok().flatten().and_then(|now| now.upload_id)
    }

    async fn begun(&self, upload: String) -> Result<()> {
        let record = SegmentRecord { upload_id: Some(upload), ..self.segment.clone() };
        self.logs.put_segment(record, "logs.segment.uploading", "").await
    }

    async fn ended(&self) -> Result<()> {
        let record = SegmentRecord { upload_id: None, ..self.segment.clone() };
        self.logs.put_segment(record, "logs.segment.upload-ended", "").await
    }
}
