//! How experiments end: the end and what it changes of the parameters are one transaction.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use genesis_stats::experiment::TABLE;
use genesis_storage::{ConclusionRecord, ExperimentRecord, Intent, ParameterRecord};
use jiff::Timestamp;

use super::fleet::record::{Concluded, tally_of};
use super::tally::{Ended, Tally};
use super::writer::Order;
use super::{ACTOR, Experiments, plan};
use crate::error::{Error, Result};
use crate::outside::failpoint;
use crate::plan::demand_reason;

/// Why a reason is asked for.
pub(super) const DEMAND: &str = "an experiment that somebody ends is told with a reason";
/// How often what was decided and has not ended is looked for.
const AGAIN: std::time::Duration = std::time::Duration::from_secs(1);

/// An end, before it is one.
pub(super) struct Ending<'a> {
    pub(super) how: &'a str,
    pub(super) forced: bool,
    pub(super) by: &'a str,
    pub(super) reason: &'a str,
    pub(super) at: Timestamp,
    pub(super) line: u8,
    /// How the fleet ended it, if that did.
    pub(super) fleet: Option<&'a Concluded>,
}

impl Experiments {
    /// Ends what a look decided and a crash, or a full disk, kept from its end, and does what the fleet says.
    pub async fn serve(self: Arc<Self>) {
        tokio::join!(self.serve_own(), self.serve_fleet());
    }

    async fn serve_own(&self) {
        loop {
            let decided: Vec<u64> = {
                let live = self.live();
                let decided = live.running().map(|it| it.number).filter(|number| {
                    live.tallies.get(number).is_some_and(|tally| tally.ended.is_some())
                });
                decided.collect()
            };
            for number in decided {
                if let Err(error) = self.settle(number).await {
                    tracing::error!(
                        error = error.chain(),
                        number,
                        "an experiment was decided, and is not ended yet"
                    );
                }
            }
            if self.doubtful.load(Ordering::Relaxed) {
                // It tells again where that fails.
                let _ = self.turn().await;
            }
            let quiet = self.failed_within(super::PROBED).is_none();
            if quiet && self.trouble().is_some() && self.store.is_ok() {
                // The writer notes what comes of it.
                let _ = self.order(Order::Probe).await;
            }
            self.outside.clock.tick(AGAIN).await;
        }
    }

    /// Ends an experiment as the look decided that is in its tally. It is no error where it has ended.
    ///
    /// # Errors
    /// `STORAGE_FAILED`.
    pub(super) async fn settle(&self, number: u64) -> Result<()> {
        let _alone = self.turn().await?;
        let (record, tally) = {
            let live = self.live();
            let Some(record) = live.known.get(&number).cloned() else { return Ok(()) };
            let Some(tally) = live.tallies.get(&number).cloned() else { return Ok(()) };
            (record, tally)
        };
        let ended =
            tally.ended.clone().filter(|it| record.conclusion.is_none() && !it.how.is_empty());
        let Some(Ended { line, at, how }) = ended else { return Ok(()) };
        if how == plan::PROMOTED && (self.may_promote)().is_err() {
            // It is looked for again each second.
            return Ok(());
        }
        let row = TABLE.iter().find(|row| plan::ends(row.verdict) == Some(how.as_str()));
        let reason = row.map_or("", |row| row.says);
        let at = Timestamp::from_millisecond(at).unwrap_or_else(|_| self.now());
        let ending = Ending { how: &how, forced: false, by: ACTOR, reason, at, line, fleet: None };
        self.end(&record, &tally, ending).await.map(drop)
    }

    /// Ends an experiment by hand.
    ///
    /// # Errors
    /// `EXPERIMENT_NOT_FOUND`, `EXPERIMENT_ENDED`, `PLAN_CHANGED`, `REASON_MISSING`, `EMERGENCY`, `STORAGE_FAILED`.
    pub async fn conclude(
        &self,
        id: &str,
        promote: bool,
        plan_hash: &str,
        (by, reason): (&str, &str),
    ) -> Result<Arc<ExperimentRecord>> {
        demand_reason(reason, DEMAND)?;
        self.promotable(promote)?;
        let alone = self.turn().await?;
        if !plan_hash.is_empty() {
            self.plan_conclusion(id, promote)?.accept(plan_hash)?;
        }
        let (record, tally) = self.open_one(id)?;
        self.own_end(&record, promote)?;
        let how = if promote { plan::PROMOTED } else { plan::ROLLED_BACK };
        let line = tally.trial.view().decision.row.number;
        let ending = Ending { how, forced: true, by, reason, at: self.now(), line, fleet: None };
        let ended = self.end(&record, &tally, ending).await?;
        // The writer may wait for this turn to end.
        drop(alone);
        // It hears of it at its next start otherwise.
        let _ = self.order(|answer| Order::End(ended.number, answer)).await;
        Ok(ended)
    }

    /// Without its trades nobody can tell whether the variant is better, and in an emergency no new value reaches into
    /// trading; back it can go at any time.
    ///
    /// # Errors
    /// `EXPERIMENTS_UNAVAILABLE`, `EMERGENCY`.
    pub(super) fn promotable(&self, promote: bool) -> Result<()> {
        match promote {
            true => (self.may_promote)().and_then(|()| self.store().map(drop)),
            false => Ok(()),
        }
    }

    /// One that goes on.
    ///
    /// # Errors
    /// `EXPERIMENT_NOT_FOUND`, `EXPERIMENT_ENDED`.
    pub(super) fn open_one(&self, id: &str) -> Result<(Arc<ExperimentRecord>, Tally)> {
        let record = self.one(id)?;
        if let Some(ended) = &record.conclusion {
            let message = format!(
                "{} has ended: {}, at {}; `genesisctl experiment show {}` has the details",
                plan::id(record.number),
                ended.how,
                ended.at,
                plan::id(record.number)
            );
            return Err(Error::conflict("EXPERIMENT_ENDED", message));
        }
        let tally = self.live().tallies.get(&record.number).cloned();
        let tally = match tally {
            Some(tally) => tally,
            None => Tally::new(&record)
                .map_err(|why| Error::internal("STORAGE_RECORD_UNREADABLE", why))?,
        };
        Ok((record, tally))
    }

    pub(super) async fn end(
        &self,
        record: &ExperimentRecord,
        tally: &Tally,
        ending: Ending<'_>,
    ) -> Result<Arc<ExperimentRecord>> {
        let Ending { how, forced, by, reason, at, line, fleet } = ending;
        let conclusion = ConclusionRecord {
            at,
            how: how.to_owned(),
            forced,
            by: by.to_owned(),
            reason: reason.to_owned(),
            line,
            tally: hex::encode(tally.to_bytes()),
            fleet: fleet.map(|fleet| fleet.tally.clone()),
        };
        let id = plan::id(record.number);
        // Of what was decided by.
        let together = fleet.and_then(|fleet| tally_of(record, &fleet.tally).ok());
        let look = together.as_ref().unwrap_or(tally).trial.view();
        let detail = serde_json::json!({
            "line": line,
            "forced": forced,
            "control": look.control.n,
            "variant": look.variant.n,
            "lift": look.lift.value(),
            "p_seq": look.evidence.p,
        });
        let intent = Intent::new(self.now(), by, "experiments.concluded")
            .target(id.as_str())
            .reason(reason)
            .outcome(how)
            .detail(detail.to_string());
        let mut next = record.clone();
        next.conclusion = Some(conclusion);
        let promoted: Vec<ParameterRecord> = match how == plan::PROMOTED {
            false => Vec::new(),
            true => next
                .trials
                .iter()
                .map(|trial| ParameterRecord {
                    strategy: next.strategy.clone(),
                    name: trial.name.clone(),
                    value: trial.variant.clone(),
                    set_at: self.now(),
                    set_by: by.to_owned(),
                    reason: reason.to_owned(),
                    cause: plan::PROMOTED.to_owned(),
                    experiment: if next.fleet.is_empty() { id.clone() } else { next.fleet.clone() },
                    fleet: fleet.and_then(|fleet| {
                        fleet.set.iter().find(|(name, _)| *name == trial.name).map(|(_, it)| *it)
                    }),
                    ..ParameterRecord::default()
                })
                .collect(),
        };
        failpoint::hit("experiments.before-conclusion");
        let writing = next.clone();
        let written = self.state.write(intent, move |it| {
            it.experiments().put(&writing)?;
            let put = promoted.into_iter().map(|record| it.parameters().put_next(record));
            Ok(put.collect::<Result<Vec<_>, _>>()?)
        });
        let promoted = self.sure(written.await)?;
        failpoint::hit("experiments.after-conclusion");
        let next = super::slim(next);
        {
            let mut live = self.live();
            live.known.insert(next.number, Arc::clone(&next));
            if let Some(tally) = live.tallies.get_mut(&next.number) {
                tally.ended.get_or_insert_with(|| Ended {
                    line,
                    at: at.as_millisecond(),
                    how: how.to_owned(),
                });
                // Its record has the curve.
                tally.curve = Vec::new();
            }
            for record in promoted {
                let key = (record.strategy.clone(), record.name.clone());
                live.parameters.insert(key, record);
            }
        }
        self.metrics.concluded(how);
        self.changed();
        Ok(next)
    }
}
