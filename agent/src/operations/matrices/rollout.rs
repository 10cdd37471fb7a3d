//! How versions come into use and go: each change of the records is one transaction, and consumers get what it says
//! once it is durable.

mod by_hand;
mod of_fleet;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use genesis_stats::correlation::Correlation;
use genesis_storage::{Intent, MatrixRecord};

use super::calculate::Made;
use super::plan::{self, By, StageEnd};
use super::serving::{Served, Serving};
use super::stage::Stage;
use super::writer::Order;
use super::{ACTOR, Matrices, PROBED};
use crate::emergency::Stance;
use crate::error::{Error, Result};
use crate::outside::failpoint;

/// How often what was decided and has not ended is looked for.
const AGAIN: Duration = Duration::from_secs(1);

/// A change of versions, before it is one.
struct Change<'a> {
    /// What the operation log calls it.
    action: &'static str,
    /// Which version it is about.
    target: u64,
    /// In words.
    detail: String,
    by: By<'a>,
    records: Vec<MatrixRecord>,
    /// The values of a version that is new.
    values: Option<(u64, Vec<u8>)>,
}

impl Matrices {
    /// Has stages ended that were decided, and this host's part in the fleet's matrix done.
    pub async fn serve(self: Arc<Self>) {
        tokio::join!(Arc::clone(&self).share(), self.settle_all());
    }

    /// Ends stages that were decided where a crash, or a full disk, kept them from their end.
    async fn settle_all(&self) {
        loop {
            let decided = self.live().stage.as_ref().is_some_and(|it| it.decided.is_some());
            if decided && let Err(error) = self.settle().await {
                let error = error.chain();
                tracing::error!(error, "a stage was decided, and is not ended yet");
            }
            if self.doubtful.load(Ordering::Relaxed) {
                // It tells again where that fails.
                let _ = self.turn().await;
            }
            let quiet = self.failing.within(PROBED, self.now()).is_none();
            if quiet && self.failing.told().is_some() && self.store.is_ok() {
                // The writer notes what comes of it.
                let _ = self.order(Order::Probe).await;
            }
            self.outside.clock.tick(AGAIN).await;
        }
    }

    /// The turn to change versions. A change before that failed may be in the state all the same: then what is there is
    /// read again.
    ///
    /// # Errors
    /// `STORAGE_FAILED`.
    pub(super) async fn turn(&self) -> Result<tokio::sync::MutexGuard<'_, ()>> {
        let turn = self.changing.lock().await;
        if self.doubtful.load(Ordering::Relaxed) {
            self.reread()?;
            self.doubtful.store(false, Ordering::Relaxed);
        }
        Ok(turn)
    }

    /// Takes over what the state has.
    ///
    /// # Errors
    /// `STORAGE_FAILED`.
    pub(super) fn reread(&self) -> Result<()> {
        let records = self.state.read(|reading| Ok(reading.matrices().all()?))?;
        let each = records.into_iter().map(|record| (record.version, Arc::new(record)));
        self.live().versions = each.collect();
        self.swap()
    }

    /// Gives consumers what the versions say. Those whose values are in memory already stay as they are.
    fn swap(&self) -> Result<()> {
        let (active, canary) = {
            let live = self.live();
            let of = |state| plan::in_state(&live.versions, state).cloned();
            (of(plan::ACTIVE), of(plan::CANARY))
        };
        let before = self.serving.load_full();
        let mut unreadable = Vec::new();
        let mut load = |record: &MatrixRecord| -> Result<Option<Arc<Served>>> {
            if let Some(served) = before.version(record.version) {
                return Ok(Some(Arc::clone(served)));
            }
            let bytes = self.state.read(|it| Ok(it.matrices().values(record.version)?))?;
            let matrix = match bytes.map(|bytes| Correlation::from_bytes(&bytes)) {
                Some(Ok(matrix)) => matrix,
                Some(Err(error)) => {
                    unreadable.push((record.version, error.to_string()));
                    return Ok(None);
                }
                None => {
                    unreadable.push((record.version, "its values are not there".to_owned()));
                    return Ok(None);
                }
            };
            let digest = record.digest.clone();
            Ok(Some(Arc::new(Served { version: record.version, matrix, digest })))
        };
        let active = active.map(|record| load(&record)).transpose()?.flatten();
        let percent = |it: &MatrixRecord| it.stages.last().map_or(0, |stage| stage.percent);
        let harmful = self.live().stage.as_ref().and_then(|stage| {
            stage.decided.as_ref().filter(|it| it.is_harmful()).map(|_| stage.version)
        });
        let canary = match canary.filter(|it| Some(it.version) != harmful) {
            Some(record) => load(&record)?.map(|served| (served, percent(&record))),
            None => None,
        };
        for (version, why) in &unreadable {
            tracing::error!(version, error = why, "the values of a matrix can't be read");
        }
        self.live().unreadable = unreadable;
        self.serving.store(Arc::new(Serving::new(active, canary)));
        self.revision.send_modify(|revision| *revision = revision.wrapping_add(1));
        self.bell.ring();
        Ok(())
    }

    /// Takes a version that is tried from its consumers.
    pub(super) fn withdraw(&self, version: u64) {
        if self.serving.load().canary().is_some_and(|(served, _)| served.version == version) {
            self.serving.rcu(|serving| serving.without(version));
            self.revision.send_modify(|revision| *revision = revision.wrapping_add(1));
        }
    }

    /// Makes a change durable, and then consumers get what it says. The turn is held by the caller.
    async fn change(&self, change: Change<'_>) -> Result<()> {
        let Change { action, target, detail, by, records, values } = change;
        let (mut next, now) = (self.versions(), self.now());
        next.extend(records.iter().map(|it| (it.version, Arc::new(it.clone()))));
        let kept = plan::kept(&next, now);
        let lost = |it: &&Arc<MatrixRecord>| it.kept && !kept.contains(&it.version);
        let lost: Vec<Arc<MatrixRecord>> = next.values().filter(lost).cloned().collect();
        let mut records: BTreeMap<u64, MatrixRecord> =
            records.into_iter().map(|it| (it.version, it)).collect();
        for record in &lost {
            let record = MatrixRecord { kept: false, ..(**record).clone() };
            next.insert(record.version, Arc::new(record.clone()));
            records.insert(record.version, record);
        }
        let forgotten = plan::forgotten(&next);
        next.retain(|version, _| !forgotten.contains(version));
        let intent = Intent::new(now, by.who, action)
            .target(format!("version {target}"))
            .reason(by.reason)
            .detail(detail);
        failpoint::hit("matrices.before-change");
        let gone: Vec<u64> = lost.iter().map(|it| it.version).collect();
        let written = self.state.write(intent, move |writing| {
            let matrices = writing.matrices();
            if let Some((version, bytes)) = &values {
                matrices.put_values(*version, bytes)?;
            }
            for record in records.values() {
                matrices.put(record)?;
            }
            for version in &gone {
                matrices.forget_values(*version)?;
            }
            for version in &forgotten {
                matrices.forget(*version)?;
            }
            Ok(())
        });
        written.await.inspect_err(|_| self.doubtful.store(true, Ordering::Relaxed))?;
        failpoint::hit("matrices.after-change");
        {
            let mut live = self.live();
            live.versions = next;
        }
        // The change is there: what can't be read now is read before the next one.
        if let Err(error) = self.swap() {
            self.doubtful.store(true, Ordering::Relaxed);
            tracing::error!(error = error.chain(), "what consumers get could not be read anew");
        }
        Ok(())
    }

    /// What is decided of a stage comes before what somebody wants of it.
    ///
    /// # Errors
    /// `PLAN_CHANGED`.
    fn undecided(&self, canary: &MatrixRecord) -> Result<()> {
        let stage = self.stage_of(canary);
        let Some(decided) = stage.ok().and_then(|it| it.decided) else { return Ok(()) };
        let message = format!(
            "the stage was decided just now: {}; `genesisctl matrix rollout status` shows what comes of it",
            decided.why
        );
        Err(Error::conflict("PLAN_CHANGED", message))
    }

    /// Takes a calculated matrix in: a valid one is rolled out, another is kept as rejected. Its record. The first is
    /// active at once.
    ///
    /// # Errors
    /// `ROLLOUT_RUNNING`, `STORAGE_FAILED`.
    pub(super) async fn admit(
        &self,
        made: Made,
        cause: &str,
        (who, reason): (&str, &str),
    ) -> Result<Arc<MatrixRecord>> {
        let _alone = self.turn().await?;
        let versions = self.versions();
        self.no_rollout()?;
        self.runs.emergency().check(super::UPDATE, Stance::Refuse)?;
        let active = plan::in_state(&versions, plan::ACTIVE).map_or(0, |it| it.version);
        if active != made.against {
            let message = format!(
                "version {active} is active by now, not {} that the new one was held against; calculate it again",
                made.against
            );
            return Err(Error::conflict("PLAN_CHANGED", message));
        }
        let version = self.state.read(|reading| Ok(reading.matrices().next_version()?))?;
        let by = By { at: self.now(), who, reason };
        let mut record = made.record;
        record.version = version;
        (record.by, record.reason, record.cause) =
            (who.to_owned(), reason.to_owned(), cause.to_owned());
        let change = match made.matrix {
            Some(matrix) => {
                let records = plan::admit(&versions, record, by);
                let state = records.last().map_or("", |it| it.state.as_str());
                Change {
                    action: "matrices.updated",
                    target: version,
                    detail: state.to_owned(),
                    by,
                    values: Some((version, matrix.to_bytes())),
                    records,
                }
            }
            None => {
                record.state = plan::REJECTED.to_owned();
                record.ended_at = Some(by.at);
                record.ended_by = ACTOR.to_owned();
                record.ended_reason = unmet(&record);
                Change {
                    action: "matrices.rejected",
                    target: version,
                    detail: unmet(&record),
                    by,
                    values: None,
                    records: vec![record],
                }
            }
        };
        self.change(change).await?;
        self.versions().remove(&version).ok_or_else(|| {
            Error::internal("MATRIX_NOT_FOUND", format!("version {version} is not there"))
        })
    }

    /// No rollout goes on.
    ///
    /// # Errors
    /// `ROLLOUT_RUNNING`.
    pub(super) fn no_rollout(&self) -> Result<()> {
        let Some(canary) = self.canary() else { return Ok(()) };
        let message = format!(
            "version {} is being rolled out; wait for its end, or end it with `genesisctl matrix rollout abort`",
            canary.version
        );
        Err(Error::conflict("ROLLOUT_RUNNING", message))
    }

    /// The stage of the rollout that goes on, with what was reported by now.
    ///
    /// # Errors
    /// `STORAGE_RECORD_UNREADABLE`.
    pub fn stage_of(&self, canary: &MatrixRecord) -> Result<Stage> {
        let live = self.live().stage.clone();
        let percent = canary.stages.last().map_or(0, |it| it.percent);
        match live.filter(|it| it.version == canary.version && it.percent == percent) {
            Some(stage) => Ok(stage),
            None => {
                Stage::of(canary).map_err(|why| Error::internal("STORAGE_RECORD_UNREADABLE", why))
            }
        }
    }

    /// Ends the stage that a look decided. It is no error where it has ended.
    ///
    /// # Errors
    /// `STORAGE_FAILED`.
    pub(super) async fn settle(&self) -> Result<()> {
        let _alone = self.turn().await?;
        let Some(canary) = self.canary() else {
            self.live().stage = None;
            return Ok(());
        };
        let stage = self.stage_of(&canary)?;
        let Some(decided) = stage.decided.clone() else { return Ok(()) };
        let by = By { at: self.now(), who: ACTOR, reason: &decided.why };
        let harmful = decided.is_harmful();
        if !harmful && self.runs.emergency().active() {
            // A new matrix reaches into trading; back it goes at any time.
            return Ok(());
        }
        let how = if harmful { plan::HARMFUL } else { plan::PASSED };
        let tally = stage.to_text();
        let end = StageEnd { how, verdict: &decided.why, tally: &tally };
        let records = match harmful {
            true => vec![plan::abort(&canary, end, by)],
            false => plan::advance(&self.versions(), &canary, end, by),
        };
        let detail = format!("the stage of {} % is {how}: {}", stage.percent, decided.why);
        let action = if harmful { "matrices.rolled-back" } else { "matrices.advanced" };
        let target = canary.version;
        self.change(Change { action, target, detail, by, records, values: None }).await?;
        self.live().stage = None;
        self.metrics.staged(how);
        Ok(())
    }
}

/// What a version that was rejected does not keep, in a line.
pub(super) fn unmet(record: &MatrixRecord) -> String {
    let first = |it: &genesis_storage::CriterionRecord| {
        it.value.is_none() && matches!(it.name.as_str(), "drift" | "history")
    };
    let unmet = record
        .criteria
        .iter()
        .filter(|it| it.verdict == "fail" || (it.verdict == "unknown" && !first(it)));
    let each: Vec<String> = unmet
        .map(|it| match it.value {
            Some(value) => {
                let limit = if it.at_least { "at least" } else { "at most" };
                format!("{} {value:.4} ({limit} {:.4}): {}", it.name, it.limit, it.detail)
            }
            None => format!("{}: {}", it.name, it.detail),
        })
        .collect();
    match each.is_empty() {
        true => "it can't be said whether it is valid".to_owned(),
        false => each.join("; "),
    }
}
