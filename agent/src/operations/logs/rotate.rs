//! A rotation by hand: cuts now, whatever the size, and follows the segments into the archive.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use genesis_storage::{
    ReconciliationRecord, RunRecord, SegmentRecord, SegmentState, StepRecord, Verdict,
};
use serde_json::json;

use super::pipeline::Half;
use super::{Logs, Source, plan};
use crate::emergency::Stance;
use crate::error::{Error, Result};
use crate::outside::files;
use crate::plan::{Plan, PlanStep};
use crate::runs::{Context, Progress, Reconcile, Report, Request, SecondCaller, Started};

/// The kind of these runs.
pub const KIND: &str = "logs.rotate";
/// How long a rotation follows segments that wait; they go on without it.
const FOLLOW: Duration = Duration::from_secs(120);
/// How often it looks.
const LOOK: Duration = Duration::from_millis(20);

impl Logs {
    /// What a rotation would cut: the files with something in them, each by its inode. How long they are is not
    /// part of the plan, since their writers are at work.
    ///
    /// # Errors
    /// `LOG_TYPE_UNKNOWN`.
    pub fn plan_rotation(&self, log_type: &str) -> Result<Plan> {
        if !log_type.is_empty() && self.config().source(log_type).is_none() {
            self.known_type(log_type)?;
        }
        let (mut situation, mut steps) = (Vec::new(), Vec::new());
        for (source, path) in self.discover() {
            if !log_type.is_empty() && source.log_type != log_type {
                continue;
            }
            // What can't be looked at now is met, and told, by the rotation itself.
            let Ok(Some(facts)) = files::look(&path) else { continue };
            if facts.bytes > 0 {
                let path = path.display().to_string();
                situation.push(format!("{path} {}:{}", facts.device, facts.inode));
                let why = format!("{}, {} bytes by now", source.log_type, facts.bytes);
                steps.push(PlanStep::new("cut", path, why));
            }
        }
        let situation: Vec<&str> = situation.iter().map(String::as_str).collect();
        Ok(Plan::new(KIND, &situation, steps))
    }

    /// Starts a rotation of one type, or of all when it is empty. A second caller is attached while files are
    /// being cut.
    ///
    /// # Errors
    /// `LOG_TYPE_UNKNOWN`, `PLAN_CHANGED`, and those of starting a run.
    pub async fn rotate(
        self: &Arc<Self>,
        log_type: &str,
        plan_hash: &str,
        actor: String,
        reason: String,
    ) -> Result<Started> {
        if !log_type.is_empty() && self.config().source(log_type).is_none() {
            self.known_type(log_type)?;
        }
        if !plan_hash.is_empty() {
            self.plan_rotation(log_type)?.accept(plan_hash)?;
        }
        let request = Request {
            kind: KIND,
            actor,
            reason,
            parameters: json!({ "log_type": log_type }),
            key: format!("{KIND}/{log_type}"),
            second: SecondCaller::Attach,
            stance: Stance::GoOn,
        };
        let (logs, log_type) = (Arc::clone(self), log_type.to_owned());
        self.runs
            .start(
                request,
                move |context| async move { logs.rotate_now(&log_type, &context).await },
            )
            .await
    }

    async fn rotate_now(&self, log_type: &str, context: &Context) -> Result<Report> {
        let targets: Vec<(Arc<Source>, PathBuf)> = self
            .discover()
            .into_iter()
            .filter(|(source, _)| log_type.is_empty() || source.log_type == log_type)
            .collect();
        let (mut cut, mut refused, mut empty) = (Vec::new(), Vec::new(), 0);
        // What could not be looked into may hold files that should have been cut.
        for ((owner, path), unmet) in &self.live().refused {
            let unseen = ["LOG_FOLDER_UNREADABLE", "LOG_FILES_TOO_MANY"].contains(&unmet.code);
            if unseen && (log_type.is_empty() || owner == log_type) {
                refused.push((path.clone(), Error::unavailable(unmet.code, unmet.message.clone())));
            }
        }
        for (source, path) in targets {
            context.safe_point()?;
            let step = context.begin("cut", &path.display().to_string()).await?;
            match self.cut(&source, &path, &context.actor(), &context.reason(), 1).await {
                Ok(Some(sequence)) => {
                    step.done(format!("{}/{sequence}", source.log_type)).await?;
                    cut.push((source.log_type.clone(), sequence));
                }
                Ok(None) => {
                    step.done("nothing to cut").await?;
                    empty += 1;
                }
                Err(error) => {
                    step.failed(error.chain()).await?;
                    refused.push((path, error));
                }
            }
        }
        // A segment may wait for minutes; what is written meanwhile can be cut by the next rotation.
        context.release_key();
        let waiting = self.follow(&cut, context).await?;
        let summary =
            format!("{} file(s) cut and verified in the archive, {empty} empty", cut.len());
        if let Some((path, error)) = refused.into_iter().next() {
            let message =
                format!("{} was not rotated: {}; {summary}", path.display(), error.message);
            return Err(Error::new(error.kind, error.code, message).with_unmet(error.unmet));
        }
        match waiting.as_slice() {
            [] => Ok(Report::proven(summary)),
            [first, ..] => Ok(Report::unknown(format!(
                "{} segment(s) not in the archive yet, first {first}; they go on by themselves",
                waiting.len(),
            ))),
        }
    }

    /// Waits until the segments are verified; returns those that are not, each with what it waits for.
    async fn follow(&self, cut: &[(String, u64)], context: &Context) -> Result<Vec<String>> {
        let clock = &self.outside.clock;
        let deadline = clock.monotonic() + FOLLOW;
        loop {
            let (mut left, mut failing) = (Vec::new(), 0);
            for (log_type, sequence) in cut {
                let record = self
                    .state
                    .read(|reading| Ok(reading.segments().get(log_type, *sequence)?))?;
                if let Some(record) = record.filter(|record| record.state < SegmentState::Verified)
                {
                    let waiting = self.live().waiting.get(&(log_type.clone(), *sequence)).cloned();
                    // A writer may let go any moment; what has failed twice is not mended while somebody waits.
                    failing += usize::from(waiting.as_ref().is_some_and(|waiting| {
                        plan::hindrance(waiting.why.code) != plan::Hindrance::Waiting
                            && waiting.attempt > 2
                    }));
                    let why = waiting.map(|waiting| waiting.why.message);
                    left.push(format!(
                        "{log_type}/{sequence} ({})",
                        why.unwrap_or_else(|| format!("{:?}", record.state))
                    ));
                }
            }
            let total = cut.len() as u64;
            context.progress(Progress {
                done: total - left.len() as u64,
                total,
                unit: "segments",
                message: left.first().cloned().unwrap_or_default(),
            });
            if left.len() == failing || clock.monotonic() >= deadline {
                return Ok(left);
            }
            tokio::select! {
                () = clock.sleep(LOOK) => {}
                () = context.cancelled() => return Err(Error::cancelled()),
            }
        }
    }
}

/// What a rotation knows about being cut off: the segments journal their own life, so it looks at them.
pub struct RotationTable(pub Arc<Logs>);

#[async_trait]
impl Reconcile for RotationTable {
    fn kind(&self) -> &'static str {
        KIND
    }

    async fn reconcile(&self, record: &RunRecord, steps: &[StepRecord]) -> ReconciliationRecord {
        // What had begun is settled first: an announced cut is recorded or taken back.
        let advanced = self.0.advance_half(Half::Seal).await;
        let started_at = record.started_at;
        // Those that were cut since it started, from the files that it had begun with.
        let segments = self.0.state.read(|reading| {
            let mut found: Vec<SegmentRecord> = Vec::new();
            reading.segments().for_each(None, |segment| {
                let since = segment.detached_at.is_none_or(|at| at >= started_at);
                if since && steps.iter().any(|step| step.target == segment.source_path) {
                    found.push(segment);
                }
                std::ops::ControlFlow::Continue(())
            })?;
            Ok(found)
        });
        match (advanced, segments) {
            (Ok(_), Ok(segments)) => plan::reconcile_rotation(steps, &segments),
            (Err(error), _) | (_, Err(error)) => ReconciliationRecord {
                verdict: Verdict::Held,
                detail: format!("its segments could not be looked at: {}", error.chain()),
            },
        }
    }
}
