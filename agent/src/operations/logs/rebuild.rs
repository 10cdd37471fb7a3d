//! The catalogue from the archive alone: what a lost database knew of segments stands in their manifests.
//!
//! Nothing that is in the catalogue is changed. What is adopted is read whole and compared with its manifest
//! first; what does not match, or is gone, is adopted as not verified, so that it is named by everything that
//! looks at it instead of being missed by nobody.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use genesis_storage::{
    ReconciliationRecord, RunRecord, SegmentRecord, SegmentState, StepRecord, Verdict,
};
use serde_json::json;

use super::inventory::{Found, Learnt, Missing, parse_manifest, read_manifest, record_of};
use super::segment::Manifest;
use super::{Logs, act, blocking, new_segment, new_source, plan, source};
use crate::emergency::Stance;
use crate::error::{Error, Result, Unmet};
use crate::outside::{failpoint, files};
use crate::plan::{Plan, PlanStep};
use crate::runs::{Context, Progress, Reconcile, Report, Request, SecondCaller, Started};

/// The kind of these runs.
pub const KIND: &str = "logs.rebuild-catalog";
/// So many segments make one journalled step.
const BATCH: usize = 32;

/// A type that nothing can be named after has nothing anywhere; an empty name means all.
pub(super) fn may_be_named(log_type: &str) -> Result<()> {
    if log_type.is_empty() {
        return Ok(());
    }
    source::named(log_type).map_err(|why| Error::not_found("LOG_TYPE_UNKNOWN", why))
}

impl Logs {
    /// What a rebuild would adopt.
    ///
    /// # Errors
    /// `LOG_TYPE_UNKNOWN`, `ARCHIVE_UNAVAILABLE`, `LOCAL_READ_FAILED`, `STORAGE_FAILED`.
    pub async fn plan_rebuild(&self, log_type: &str) -> Result<Plan> {
        may_be_named(log_type)?;
        let missing = self.unknown_to_the_catalogue(log_type).await?;
        let (mut situation, mut steps) = (Vec::new(), Vec::new());
        for (of, missing) in &missing {
            situation.extend(missing.archived.keys().chain(missing.local.keys()).cloned());
            situation.extend(missing.orphans.iter().map(|(path, _)| path.display().to_string()));
            let parts = [
                (missing.archived.len(), "in the archive"),
                (missing.local.len(), "sealed here and not in the archive"),
                (missing.orphans.len(), "renamed and not sealed"),
            ];
            for (count, place) in parts.into_iter().filter(|(count, _)| *count > 0) {
                let why = format!("{count} segment(s) {place} that the catalogue does not know");
                steps.push(PlanStep::new("adopt", of.clone(), why));
            }
        }
        let situation: Vec<&str> = situation.iter().map(String::as_str).collect();
        Ok(Plan::new(KIND, &situation, steps))
    }

    /// Starts a rebuild of one type, or of all when it is empty. A second caller is attached.
    ///
    /// # Errors
    /// Those of [`Logs::plan_rebuild`], `PLAN_CHANGED`, and those of starting a run.
    pub async fn rebuild(
        self: &Arc<Self>,
        log_type: &str,
        plan_hash: &str,
        (actor, reason): (String, String),
    ) -> Result<Started> {
        may_be_named(log_type)?;
        if !plan_hash.is_empty() {
            self.plan_rebuild(log_type).await?.accept(plan_hash)?;
        }
        let request = Request {
            kind: KIND,
            actor,
            reason,
            parameters: json!({ "log_type": log_type }),
            key: KIND.to_owned(),
            second: SecondCaller::Attach,
            stance: Stance::GoOn,
        };
        let (logs, log_type) = (Arc::clone(self), log_type.to_owned());
        self.runs
            .start(
                request,
                move |context| async move { logs.rebuild_now(&log_type, &context).await },
            )
            .await
    }

    async fn rebuild_now(&self, log_type: &str, context: &Context) -> Result<Report> {
        let missing = self.unknown_to_the_catalogue(log_type).await?;
        let total: usize = missing.values().map(Missing::count).sum();
        let mut rebuild = Rebuild { done: 0, total: total as u64, adopted: 0, wrong: Vec::new() };
        for (of, missing) in missing {
            let mut learnt = Learnt::default();
            let archived: Vec<(String, Found)> = missing.archived.into_iter().collect();
            let local: Vec<(String, Found)> = missing.local.into_iter().collect();
            for (places, state) in
                [(archived, SegmentState::Verified), (local, SegmentState::Sealed)]
            {
                let mut places = places;
                places.sort_by_key(|(_, found)| found.sequence);
                for batch in places.chunks(BATCH) {
                    context.safe_point()?;
                    self.adopt_batch(&of, batch, state, &mut learnt, &mut rebuild, context).await?;
                }
            }
            self.adopt_orphans(&of, missing.orphans, &mut learnt, &mut rebuild, context).await?;
        }
        self.wake();
        let summary = format!("{} of {total} segment(s) adopted", rebuild.adopted);
        match rebuild.wrong.first() {
            None => Ok(Report::proven(summary)),
            Some(first) => {
                let count = rebuild.wrong.len();
                let message = format!("{count} problem(s), first {}; {summary}", first.message);
                Err(Error::internal("CATALOGUE_INCOMPLETE", message).with_unmet(rebuild.wrong))
            }
        }
    }

    async fn adopt_batch(
        &self,
        log_type: &str,
        batch: &[(String, Found)],
        state: SegmentState,
        learnt: &mut Learnt,
        rebuild: &mut Rebuild,
        context: &Context,
    ) -> Result<()> {
        let numbers =
            |place: Option<&(String, Found)>| place.map_or(0, |(_, found)| found.sequence);
        let target = format!("{log_type}/{} to {}", numbers(batch.first()), numbers(batch.last()));
        let step = context.begin("adopt", &target).await?;
        let mut records = Vec::new();
        for (name, found) in batch {
            match self.adopted(name, found, state).await {
                Ok((record, manifest)) => {
                    learnt.see(&manifest, &record.manifest_sha256);
                    records.push(record);
                }
                // What can't be read now may be read by the next rebuild.
                Err(error) => rebuild.wrong.push(Unmet {
                    code: error.code,
                    subject: name.clone(),
                    message: error.chain(),
                }),
            }
        }
        let count = self.put_adopted(log_type, records, learnt, rebuild, context, target).await?;
        failpoint::hit("logs.batch-adopted");
        step.done(format!("{count} segment(s)")).await?;
        rebuild.done += batch.len() as u64;
        context.progress(Progress {
            done: rebuild.done,
            total: rebuild.total,
            unit: "segments",
            message: log_type.to_owned(),
        });
        Ok(())
    }

    /// Writes records that the catalogue has no other of; returns how many.
    async fn put_adopted(
        &self,
        log_type: &str,
        records: Vec<SegmentRecord>,
        learnt: &Learnt,
        rebuild: &mut Rebuild,
        context: &Context,
        target: String,
    ) -> Result<u64> {
        let of = log_type.to_owned();
        let (next_sequence, head) = (learnt.next_sequence, learnt.head.clone());
        let ended = learnt.ended.clone();
        let intent = self
            .intent(&context.actor(), "logs.segment.adopted", &context.reason())
            .target(target)
            .correlation_id(context.id());
        let (count, conflicts) = self
            .state
            .write(intent, move |writing| {
                let (mut count, mut conflicts) = (0_u64, Vec::new());
                for record in records {
                    match writing.segments().get(&record.log_type, record.sequence)? {
                        None => {
                            writing.segments().put(&record)?;
                            count += 1;
                        }
                        Some(known) if known.archive_name == record.archive_name => {}
                        Some(_) => conflicts.push(record.archive_name),
                    }
                }
                let mut source = writing.sources().get(&of)?.unwrap_or_else(|| new_source(&of));
                Learnt { next_sequence, head, ended }.apply(&mut source);
                writing.sources().put(&source)?;
                Ok((count, conflicts))
            })
            .await?;
        rebuild.adopted += count;
        for name in conflicts {
            let message = format!("{name} has the number of another segment in the catalogue");
            rebuild.wrong.push(Unmet { code: "CATALOGUE_CONFLICT", subject: name, message });
        }
        Ok(count)
    }

    /// The record of a segment in the archive (`state` VERIFIED) or in the folder of local copies (SEALED).
    async fn adopted(
        &self,
        name: &str,
        found: &Found,
        state: SegmentState,
    ) -> Result<(SegmentRecord, Manifest)> {
        let root = self.config().local_dir.clone();
        if !found.manifest {
            let message = format!("{name}.log.gz has no manifest beside it; put that back");
            return Err(Error::not_found("MANIFEST_MISSING", message));
        }
        let (manifest, manifest_sha256) = if state == SegmentState::Sealed {
            let path = act::manifest_file(&root, name);
            let bytes = tokio::fs::read(&path).await.map_err(|error| {
                let failed = format!("can't read {}", path.display());
                Error::unavailable("LOCAL_READ_FAILED", failed).caused_by(error)
            })?;
            parse_manifest(&bytes, name)?
        } else {
            read_manifest(&self.archive()?, name).await?
        };
        let mut record = record_of(&manifest, manifest_sha256, name)?;
        if manifest.hostname != self.host.name {
            let message = format!("the manifest of {name} is that of {}", manifest.hostname);
            return Err(Error::internal("MANIFEST_DAMAGED", message));
        }
        record.state = state;
        if state == SegmentState::Verified {
            record.state = self.proven(&record, &root).await?;
            if record.state != SegmentState::Uploaded {
                record.verified_at = Some(self.outside.clock.now());
            }
        }
        Ok((record, manifest))
    }

    /// What state a segment in the archive is adopted in: with its local copy, without one, or not verified.
    async fn proven(&self, record: &SegmentRecord, root: &Path) -> Result<SegmentState> {
        match act::verify(&self.archive()?, &act::Expected::of(record)).await {
            Ok(()) => {}
            // The pipeline looks at it again, and says what is wrong.
            Err(error) if error.code == "ARCHIVE_MISMATCH" => return Ok(SegmentState::Uploaded),
            Err(error) => return Err(error),
        }
        let (root, checked) = (root.to_owned(), record.clone());
        let local = blocking(move || act::check_local(&root, &act::Expected::of(&checked))).await;
        Ok(if local.is_ok() { SegmentState::Verified } else { SegmentState::LocalExpired })
    }

    /// Renamed logs of which nothing was sealed yet go on from there.
    async fn adopt_orphans(
        &self,
        log_type: &str,
        orphans: Vec<(PathBuf, u64)>,
        learnt: &mut Learnt,
        rebuild: &mut Rebuild,
        context: &Context,
    ) -> Result<()> {
        for (path, sequence) in orphans {
            context.safe_point()?;
            let shown = path.display().to_string();
            let step = context.begin("adopt", &shown).await?;
            let Ok(Some(facts)) = files::look(&path) else {
                step.done("gone by now").await?;
                continue;
            };
            if let Err(unmet) = plan::admissible(&path, &facts) {
                step.failed(unmet.message.clone()).await?;
                rebuild.wrong.push(unmet);
                continue;
            }
            let source_path = plan::source_of_detached(&shown);
            let mut record =
                new_segment(log_type, sequence, source_path, (facts.device, facts.inode));
            record.detached_path = shown.clone();
            record.state = SegmentState::Detached;
            record.detached_at = Some(self.outside.clock.now());
            learnt.next_sequence = learnt.next_sequence.max(sequence.saturating_add(1));
            let records = vec![record];
            let count =
                self.put_adopted(log_type, records, learnt, rebuild, context, shown).await?;
            step.done(format!("{count} segment(s)")).await?;
            rebuild.done += 1;
        }
        Ok(())
    }
}

/// How far a rebuild is.
struct Rebuild {
    done: u64,
    total: u64,
    adopted: u64,
    wrong: Vec<Unmet>,
}

/// What a rebuild knows about being cut off: what it adopted is in the catalogue, and the next one goes on.
pub struct RebuildTable;

#[async_trait]
impl Reconcile for RebuildTable {
    fn kind(&self) -> &'static str {
        KIND
    }

    async fn reconcile(&self, _: &RunRecord, steps: &[StepRecord]) -> ReconciliationRecord {
        let (verdict, detail) = if steps.is_empty() {
            (Verdict::NothingDone, "nothing had been adopted")
        } else {
            (Verdict::Finished, "what was adopted is in the catalogue; run it again for the rest")
        };
        ReconciliationRecord { verdict, detail: detail.into() }
    }
}
