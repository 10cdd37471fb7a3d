//! Retention: scheduled and by hand through the same two functions.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use genesis_storage::{
    ReconciliationRecord, RunRecord, SegmentRecord, SegmentState, StepRecord, StepState, Verdict,
};
use serde_json::json;

use super::plan::{self, Retention};
use super::{Logs, act, blocking, holds};
use crate::emergency::Stance;
use crate::error::{Error, Result, Unmet};
use crate::runs::remedy::Permission;
use crate::runs::{Context, Progress, Reconcile, Report, Request, SecondCaller, Started};
use crate::scheduler::Job;
use crate::scheduler::calendar::Schedule;

/// The job that deletes local copies.
pub const LOCAL_RETENTION: &str = "logs.local-retention";
/// The job that deletes archived copies.
pub const ARCHIVE_RETENTION: &str = "logs.archive-retention";
/// The kind of a clean-up by hand.
pub const CLEANUP: &str = "logs.cleanup";
/// So many segments make one journalled step.
const BATCH: usize = 64;

/// The jobs of log archival.
pub fn jobs(logs: &Arc<Logs>) -> Vec<Arc<dyn Job>> {
    vec![Arc::new(LocalRetention(Arc::clone(logs))), Arc::new(ArchiveRetention(Arc::clone(logs)))]
}

struct LocalRetention(Arc<Logs>);
struct ArchiveRetention(Arc<Logs>);

#[async_trait]
impl Job for LocalRetention {
    fn name(&self) -> &'static str {
        LOCAL_RETENTION
    }

    fn stance(&self) -> Stance {
        Stance::GoOn
    }

    fn description(&self) -> &'static str {
        "deletes local copies of verified segments past their local retention"
    }

    fn schedule(&self) -> Schedule {
        self.0.config().local_schedule.clone()
    }

    async fn run(self: Arc<Self>, context: Context) -> Result<Report> {
        let now = self.0.outside.clock.now();
        let due = self.0.segments_where(|logs, segment, held| {
            let retention = logs.retention(&segment.log_type);
            plan::local_expired(segment, now, retention.local, held)
        })?;
        self.0.expire(due, SegmentState::LocalExpired, &context).await
    }
}

#[async_trait]
impl Job for ArchiveRetention {
    fn name(&self) -> &'static str {
        ARCHIVE_RETENTION
    }

    fn stance(&self) -> Stance {
        Stance::GoOn
    }

    fn description(&self) -> &'static str {
        "deletes archived segments past their archive retention"
    }

    fn schedule(&self) -> Schedule {
        self.0.config().archive_schedule.clone()
    }

    async fn run(self: Arc<Self>, context: Context) -> Result<Report> {
        let now = self.0.outside.clock.now();
        let due = self.0.segments_where(|logs, segment, held| {
            let retention = logs.retention(&segment.log_type);
            plan::archive_expired(segment, now, retention.archive, held)
        })?;
        self.0.expire(due, SegmentState::ArchiveExpired, &context).await
    }
}

/// What the configured retention means to a clean-up by hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retained {
    /// Nothing goes before its end.
    Respected,
    /// An admin has a reason to delete earlier.
    Overridden,
}

impl Retained {
    fn verb(self) -> &'static str {
        match self {
            Self::Respected => CLEANUP,
            Self::Overridden => "logs.cleanup-early",
        }
    }
}

/// What a clean-up would delete.
#[derive(Debug, Clone)]
pub struct CleanupPlan {
    /// The segments, in order.
    pub segments: Vec<SegmentRecord>,
    /// How many more are past that age, but held.
    pub held: u64,
    /// Names exactly these.
    pub hash: String,
}

impl Logs {
    pub(super) fn retention(&self, log_type: &str) -> Retention {
        match self.config().source(log_type) {
            Some(source) => Retention {
                local: source.local_retention,
                archive: source.archive_retention,
                hold: source.hold,
            },
            // Taken out of the configuration, its retention and hold are not known any more: nothing goes.
            None => Retention { local: Duration::MAX, archive: Duration::MAX, hold: true },
        }
    }

    fn segments_where(
        &self,
        mut wanted: impl FnMut(&Self, &SegmentRecord, bool) -> bool,
    ) -> Result<Vec<SegmentRecord>> {
        self.state.read(|reading| {
            let (holds, mut found) = (reading.holds().all()?, Vec::new());
            reading.segments().for_each(None, |segment| {
                let held = self.held(&segment, &holds);
                if wanted(self, &segment, held) {
                    found.push(segment);
                }
                std::ops::ControlFlow::Continue(())
            })?;
            Ok(found)
        })
    }

    /// What deleting everything older than `older_than` would delete.
    ///
    /// # Errors
    /// `LOG_TYPE_UNKNOWN`; `RETENTION_NOT_REACHED` when the age is below a type's configured retention and that is
    /// not overridden, or where the retention is not known any more.
    pub fn plan_cleanup(
        &self,
        older_than: Duration,
        log_type: &str,
        retention: Retained,
    ) -> Result<CleanupPlan> {
        if !log_type.is_empty() {
            self.known_type(log_type)?;
        }
        let now = self.outside.clock.now();
        let config = self.config();
        let short = config
            .sources
            .iter()
            .filter(|source| log_type.is_empty() || source.log_type == log_type);
        let unmet: Vec<Unmet> = short
            .filter(|source| {
                retention == Retained::Respected && older_than < source.archive_retention
            })
            .map(|source| Unmet {
                code: "RETENTION_NOT_REACHED",
                subject: source.log_type.clone(),
                message: format!(
                    "{} is kept for {} days; ask for at least that, or change archive_retention",
                    source.log_type,
                    source.archive_retention.as_secs() / 86_400
                ),
            })
            .collect();
        let mut unmet = unmet;
        if !log_type.is_empty() && config.source(log_type).is_none() {
            unmet.push(Unmet {
                code: "RETENTION_NOT_REACHED",
                subject: log_type.to_owned(),
                message: format!("{log_type} is not configured any more, so its retention is not known; put its source back"),
            });
        }
        if !unmet.is_empty() {
            let message = "the age is below the configured archive retention; nothing was deleted";
            return Err(Error::refused("RETENTION_NOT_REACHED", message, unmet));
        }
        let mut kept = 0;
        let segments = self.segments_where(|_, segment, held| {
            let due = (log_type.is_empty() || segment.log_type == log_type)
                && plan::archive_expired(segment, now, older_than, false);
            kept += u64::from(due && held);
            due && !held
        })?;
        Ok(CleanupPlan { hash: plan::plan_hash(retention.verb(), &segments), segments, held: kept })
    }

    /// Starts a clean-up by hand. A non-empty `plan_hash` must be that of the plan as it is now.
    ///
    /// # Errors
    /// Those of [`Logs::plan_cleanup`], `REASON_MISSING`, `PLAN_CHANGED`, and those of starting a run.
    pub async fn cleanup(
        self: &Arc<Self>,
        older_than: Duration,
        log_type: &str,
        retention: Retained,
        plan_hash: &str,
        (actor, reason): (String, String),
    ) -> Result<Started> {
        if retention == Retained::Overridden {
            holds::demand(&reason, "the configured retention is overridden with a reason")?;
        }
        let plan = self.plan_cleanup(older_than, log_type, retention)?;
        crate::plan::accept(&plan.hash, plan_hash)?;
        let request = Request {
            kind: CLEANUP,
            actor,
            reason,
            parameters: json!({ "older_than_seconds": older_than.as_secs(), "log_type": log_type, "plan": plan.hash, "retention": retention.verb() }),
            // One clean-up at a time: the plan of a second one would be out of date.
            key: CLEANUP.to_owned(),
            second: SecondCaller::Refuse,
            stance: Stance::GoOn,
        };
        let logs = Arc::clone(self);
        self.runs
            .start(request, move |context| async move {
                logs.expire(plan.segments, SegmentState::ArchiveExpired, &context).await
            })
            .await
    }

    /// Deletes copies of segments, in journalled batches: the local one, or for ARCHIVE_EXPIRED both.
    async fn expire(
        &self,
        due: Vec<SegmentRecord>,
        to: SegmentState,
        context: &Context,
    ) -> Result<Report> {
        // What another deletion did meanwhile is not done again, nor taken back.
        let _alone = self.expiring.lock().await;
        let (total, mut done, mut bytes) = (due.len() as u64, 0_u64, 0_u64);
        let mut kept: Vec<(String, Error)> = Vec::new();
        let root = self.config().local_dir.clone();
        for batch in due.chunks(BATCH) {
            context.safe_point()?;
            let names: Vec<String> = batch
                .iter()
                .map(|segment| format!("{}/{}", segment.log_type, segment.sequence))
                .collect();
            let target = match names.as_slice() {
                [one] => one.clone(),
                many => format!(
                    "{} to {}",
                    many.first().map_or("", String::as_str),
                    many.last().map_or("", String::as_str)
                ),
            };
            let step = context
                .begin(
                    if to == SegmentState::LocalExpired {
                        "delete-local"
                    } else {
                        "delete-archived"
                    },
                    &target,
                )
                .await?;
            let mut gone = Vec::new();
            for segment in batch {
                match self.delete_copy(segment, to, &root, None).await {
                    Ok(true) => {
                        bytes += segment.compressed_bytes;
                        gone.push(segment.clone());
                    }
                    Ok(false) => {}
                    Err(error) => {
                        tracing::error!(
                            segment = segment.archive_name,
                            error = error.chain(),
                            "copy not deleted"
                        );
                        kept.push((segment.archive_name.clone(), error));
                    }
                }
            }
            let now = self.outside.clock.now();
            let count = gone.len() as u64;
            let records: Vec<SegmentRecord> = gone
                .into_iter()
                .map(|mut segment| {
                    segment.state = to;
                    if to == SegmentState::LocalExpired {
                        segment.local_expired_at = Some(now);
                    } else {
                        segment.archive_expired_at = Some(now);
                    }
                    segment
                })
                .collect();
            let action = if to == SegmentState::LocalExpired {
                "logs.segment.local-expired"
            } else {
                "logs.segment.archive-expired"
            };
            let intent = self
                .intent(&context.actor(), action, &context.reason())
                .target(target)
                .detail(
                    records
                        .iter()
                        .map(|record| record.sequence.to_string())
                        .collect::<Vec<_>>()
                        .join(" "),
                )
                .correlation_id(context.id());
            self.state
                .write(intent, move |writing| {
                    for record in &records {
                        writing.segments().put(record)?;
                    }
                    Ok(())
                })
                .await?;
            done += count;
            step.done(format!("{count} segment(s)")).await?;
            context.progress(Progress { done, total, unit: "segments", message: String::new() });
        }
        let summary = format!("{done} segment(s) deleted, {bytes} compressed bytes");
        match kept.into_iter().next() {
            None => Ok(Report::proven(summary)),
            Some((name, error)) => {
                let message =
                    format!("{name} and perhaps more were kept: {}; {summary}", error.message);
                Err(Error::new(error.kind, error.code, message).with_unmet(error.unmet))
            }
        }
    }

    /// Deletes one segment's local copy, or for ARCHIVE_EXPIRED both. A local copy goes only when the archive
    /// is read once more and holds the same: it may have been damaged since it was verified, and then the
    /// local copy is the last. Where leave is needed for it, it is asked for last. `false`: it is held by now, or gone
    /// already.
    pub(super) async fn delete_copy(
        &self,
        segment: &SegmentRecord,
        to: SegmentState,
        root: &Path,
        permission: Option<&dyn Permission>,
    ) -> Result<bool> {
        let _alone = self.deleting.lock().await;
        let (current, holds) = self.state.read(|reading| {
            let current = reading.segments().get(&segment.log_type, segment.sequence)?;
            Ok((current, reading.holds().all()?))
        })?;
        if current.is_none_or(|current| current.state >= to) || self.held(segment, &holds) {
            return Ok(false);
        }
        let archive = self.archive()?;
        if to == SegmentState::ArchiveExpired {
            act::delete_archived(&archive, &segment.archive_name).await?;
        } else {
            act::verify(&archive, &act::Expected::of(segment)).await?;
        }
        // Proven by now, which takes as long as the archive does; asked for only then, so that nobody waits for it.
        let _permit = match permission {
            Some(permission) => Some(permission.ask().await?),
            None => None,
        };
        let (root, name) = (root.to_owned(), segment.archive_name.clone());
        blocking(move || act::delete_local(&root, &name)).await?;
        Ok(true)
    }
}

/// What a deletion knows about being cut off: deleting is idempotent, and what is left is due again.
pub struct ExpiryTable(pub &'static str);

#[async_trait]
impl Reconcile for ExpiryTable {
    fn kind(&self) -> &'static str {
        self.0
    }

    async fn reconcile(&self, _: &RunRecord, steps: &[StepRecord]) -> ReconciliationRecord {
        match steps.iter().find(|step| step.state == StepState::Intent) {
            None if steps.is_empty() => ReconciliationRecord {
                verdict: Verdict::NothingDone,
                detail: "nothing had been deleted".into(),
            },
            None => ReconciliationRecord {
                verdict: Verdict::Finished,
                detail: "every deletion that had begun is recorded; the rest is due again".into(),
            },
            Some(step) => ReconciliationRecord {
                verdict: Verdict::Finished,
                detail: format!(
                    "{} {} had begun; what is left of it is due again and finished then",
                    step.name, step.target
                ),
            },
        }
    }
}
