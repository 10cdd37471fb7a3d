//! What people ask of experiments, and the views that they see.

use std::sync::Arc;

use genesis_stats::experiment::{Look, Verdict};
use genesis_storage::{ExperimentRecord, Intent};

use super::fleet::record::tally_of;
use super::plan::{self, Asked};
use super::tally::{Arm, Counts, Point, Tally};
use super::writer::Order;
use super::{Experiments, tally};
use crate::error::{Error, Result};
use crate::plan::{Plan, PlanStep};

/// The most of a list.
pub const LIST_LIMIT: u32 = 1_000;

/// How an experiment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It goes on.
    Running,
    /// It goes on beyond what was planned.
    Extended,
    /// It goes on, and nothing is made of it.
    Held,
    /// It has ended, as its record says.
    Ended,
}

/// Which experiments are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// All of them.
    All,
    /// Those that go on.
    Running,
    /// Those that have ended.
    Ended,
}

/// An experiment as people see it.
#[derive(Debug, Clone)]
pub struct View {
    /// The experiment.
    pub record: Arc<ExperimentRecord>,
    /// What was tallied; of one that has ended, by then.
    pub tally: Tally,
    /// What that comes to.
    pub look: Look,
    /// Which trades do not count, also of those that came later.
    pub counts: Counts,
    /// How it stands.
    pub state: State,
    /// What all hosts had tallied, where the fleet ended it.
    pub together: Option<Tally>,
}

impl View {
    /// What it is called: here, or of the fleet's own view there.
    pub fn id(&self) -> String {
        match self.record.number {
            0 => self.record.fleet.clone(),
            number => plan::id(number),
        }
    }

    /// The curve of p, oldest first.
    pub fn curve(&self) -> &[Point] {
        &self.tally.curve
    }
}

impl Experiments {
    /// One of them.
    ///
    /// # Errors
    /// `EXPERIMENT_NOT_FOUND`.
    pub fn one(&self, id: &str) -> Result<Arc<ExperimentRecord>> {
        let found = plan::find(id, &self.live().known).cloned();
        found.ok_or_else(|| {
            let shown: String = id.chars().take(64).collect();
            let message =
                format!("there is no experiment {shown:?}; `genesisctl experiment list` shows those that there are");
            Error::not_found("EXPERIMENT_NOT_FOUND", message)
        })
    }

    pub(super) fn view(&self, record: &Arc<ExperimentRecord>) -> Result<View> {
        let (now, unread) = {
            let live = self.live();
            let number = &record.number;
            (live.tallies.get(number).cloned(), live.unreadable.contains_key(number))
        };
        let unreadable = |why: String| {
            let message =
                format!("what was tallied of {} can't be read: {why}", plan::id(record.number));
            Error::internal("STORAGE_RECORD_UNREADABLE", message)
        };
        let counts = now.as_ref().map(|tally| tally.counts).unwrap_or_default();
        // Of what has ended, what it was like when it did.
        let mut together = None;
        let tally = match (&record.conclusion, now) {
            (Some(_), _) => {
                let kept = self.state.read(|it| Ok(it.experiments().get(record.number)?))?;
                let (tally, fleet) = kept
                    .and_then(|kept| kept.conclusion)
                    .map(|ended| (ended.tally, ended.fleet))
                    .unwrap_or_default();
                together = fleet.and_then(|fleet| tally_of(record, &fleet).ok());
                hex::decode(tally)
                    .map_err(|error| error.to_string())
                    .and_then(|bytes| Tally::from_bytes(record, &bytes))
            }
            (None, Some(tally)) => Ok(tally),
            (None, None) => Tally::new(record),
        };
        let tally = tally.map_err(unreadable)?;
        let look = tally.trial.view();
        let state = match (&record.conclusion, look.decision.verdict) {
            (Some(_), _) => State::Ended,
            // Nothing is made of what can't be read either.
            (None, _) if unread => State::Held,
            (None, Verdict::Hold) => State::Held,
            (None, Verdict::Extend) => State::Extended,
            (None, _) => State::Running,
        };
        Ok(View { record: Arc::clone(record), tally, look, counts, state, together })
    }

    /// Those that go on first, then those that ended, the newest first.
    ///
    /// # Errors
    /// `LIMIT_INVALID`, `EXPERIMENTS_UNAVAILABLE`.
    pub fn list(&self, strategy: &str, which: Which, limit: u32) -> Result<Vec<View>> {
        let limit = limited(limit)?;
        self.store()?;
        let mut records: Vec<Arc<ExperimentRecord>> = self
            .live()
            .known
            .values()
            .filter(|it| strategy.is_empty() || it.strategy == strategy)
            .filter(|it| match which {
                Which::All => true,
                Which::Running => it.conclusion.is_none(),
                Which::Ended => it.conclusion.is_some(),
            })
            .cloned()
            .collect();
        // Those that go on, then those that ended last.
        let ended = |it: &ExperimentRecord| it.conclusion.as_ref().map(|ended| ended.at);
        records.sort_by(|one, other| {
            let by_end = ended(one).is_some().cmp(&ended(other).is_some());
            let newest = (ended(other), other.number).cmp(&(ended(one), one.number));
            by_end.then(newest)
        });
        records.truncate(limit);
        records.iter().map(|record| self.view(record)).collect()
    }

    /// Those that go on, and those that have ended and are not told as such.
    ///
    /// # Errors
    /// `STORAGE_RECORD_UNREADABLE`.
    pub fn lately(&self, told: impl Fn(u64) -> bool) -> Result<Vec<View>> {
        let records: Vec<Arc<ExperimentRecord>> = {
            let live = self.live();
            let news = live.known.values().filter(|it| it.conclusion.is_none() || !told(it.number));
            news.cloned().collect()
        };
        records.iter().map(|record| self.view(record)).collect()
    }

    /// How many have ended.
    pub fn ended(&self) -> usize {
        let live = self.live();
        live.known.len() - live.running().count()
    }

    /// One of them, with all that is known.
    ///
    /// # Errors
    /// `EXPERIMENT_NOT_FOUND`, `EXPERIMENTS_UNAVAILABLE`.
    pub fn get(&self, id: &str) -> Result<View> {
        let record = self.one(id)?;
        self.store()?;
        self.view(&record)
    }

    /// The arm of a unit, and its place from 0 to below 1.
    ///
    /// # Errors
    /// `EXPERIMENT_NOT_FOUND`, `UNIT_INVALID`.
    pub fn assign(&self, id: &str, unit: &str) -> Result<(Arm, f64)> {
        let record = self.one(id)?;
        if let Some(why) = plan::wrong_unit(unit) {
            return Err(Error::invalid("UNIT_INVALID", why));
        }
        let place = genesis_stats::experiment::place(&record.seed, unit, 2);
        Ok((plan::arm(&record, unit), place.unwrap_or(0.0)))
    }

    /// The experiment that is asked for, as it would begin now.
    pub(super) fn defined(&self, asked: &Asked) -> Result<ExperimentRecord> {
        self.store()?;
        let number = self.state.read(|reading| Ok(reading.experiments().next_number()?))?;
        let live = self.live();
        let most = self.config.load().running;
        if live.running().count() >= most {
            let message = format!("{most} experiments go on already; end one of them first");
            return Err(Error::unavailable("TOO_MANY_EXPERIMENTS", message));
        }
        let defined = plan::define(asked, &live.parameters, live.running());
        let mut record = defined.map_err(|(code, why)| match code {
            "STRATEGY_NOT_FOUND" | "PARAMETER_NOT_FOUND" => Error::not_found(code, why),
            "PARAMETER_IN_TEST" => Error::conflict(code, why),
            _ => Error::invalid(code, why),
        })?;
        record.number = number;
        if record.seed.is_empty() {
            record.seed = plan::id(record.number);
        }
        if record.owner.is_empty() {
            record.owner = self.host.clone();
        }
        record.hash = plan::hash(&record);
        Ok(record)
    }

    /// What beginning it would do.
    ///
    /// # Errors
    /// Those of [`Self::create`].
    pub fn plan_creation(&self, asked: &Asked) -> Result<Plan> {
        let record = self.defined(asked)?;
        self.own_trials(&record)?;
        let share = f64::from(record.variant_basis_points) / 100.0;
        let each = record.trials.iter().map(|trial| PlanStep {
            action: "try".to_owned(),
            target: format!("{}/{}", record.strategy, trial.name),
            reason: format!(
                "{share} % of the units get {:?} instead of {:?} (version {})",
                trial.variant, trial.control, trial.control_version
            ),
        });
        let who = match record.owner == self.host {
            true => "decided".to_owned(),
            false => format!("counted here, and decided by {} alone", record.owner),
        };
        let begin = PlanStep {
            action: "begin-experiment".to_owned(),
            target: plan::id(record.number),
            reason: format!(
                "{who}, by the design {}, at {} trades in the smaller arm, {} at most",
                record.design, record.rules.planned, record.rules.most
            ),
        };
        let steps = std::iter::once(begin).chain(each).collect();
        Ok(Plan::new("experiments.create", &[record.hash.as_str()], steps))
    }

    /// Begins an experiment.
    ///
    /// # Errors
    /// `EXPERIMENT_INVALID`, `SPLIT_INVALID`, `STRATEGY_NOT_FOUND`, `PARAMETER_NOT_FOUND`, `PARAMETER_IN_TEST`,
    /// `TOO_MANY_EXPERIMENTS`, `PLAN_CHANGED`, `EXPERIMENTS_UNAVAILABLE`, `STORAGE_FAILED`.
    pub async fn create(
        &self,
        asked: &Asked,
        plan_hash: &str,
        (by, reason): (&str, &str),
    ) -> Result<View> {
        let alone = self.turn().await?;
        if !plan_hash.is_empty() {
            self.plan_creation(asked)?.accept(plan_hash)?;
        }
        let mut record = self.defined(asked)?;
        self.own_trials(&record)?;
        record.started_at = self.now();
        record.started_by = by.to_owned();
        record.reason = reason.to_owned();
        let intent = Intent::new(self.now(), by, "experiments.created")
            .target(plan::id(record.number))
            .reason(reason)
            .detail(plan::tried(&record));
        let record = self.begun(record, intent, alone).await?;
        self.view(&record)
    }

    /// What is the fleet's is tried in the whole fleet.
    fn own_trials(&self, record: &ExperimentRecord) -> Result<()> {
        let mut trials = record.trials.iter();
        trials.try_for_each(|trial| self.own_parameter(&record.strategy, &trial.name))
    }

    /// Writes an experiment that begins, and has it counted.
    pub(super) async fn begun(
        &self,
        record: ExperimentRecord,
        intent: Intent,
        alone: tokio::sync::MutexGuard<'_, ()>,
    ) -> Result<Arc<ExperimentRecord>> {
        let record = Arc::new(record);
        let writing = Arc::clone(&record);
        let written = self.state.write(intent, move |it| Ok(it.experiments().put(&writing)?));
        self.sure(written.await)?;
        let tally =
            Tally::new(&record).map_err(|why| Error::internal("STORAGE_RECORD_UNREADABLE", why))?;
        {
            let mut live = self.live();
            live.known.insert(record.number, Arc::clone(&record));
            live.tallies.insert(record.number, tally);
        }
        // The writer may wait for this turn to end.
        drop(alone);
        // Where it can't be told, it takes the experiment over at its next start.
        self.order(|answer| Order::Begin(Arc::clone(&record), answer)).await?;
        self.changed();
        Ok(record)
    }

    /// What ending it would do.
    ///
    /// # Errors
    /// `EXPERIMENT_NOT_FOUND`, `EXPERIMENT_ENDED`, `EXPERIMENTS_UNAVAILABLE`.
    pub fn plan_conclusion(&self, id: &str, promote: bool) -> Result<Plan> {
        self.promotable(promote)?;
        let (record, tally) = self.open_one(id)?;
        self.own_end(&record, promote)?;
        let id = plan::id(record.number);
        let end = PlanStep {
            action: "end-experiment".to_owned(),
            target: id.clone(),
            reason: format!(
                "{} trades of the control and {} of the variant by now; the table says: {}",
                tally.trial.moments(tally::Arm::Control).n(),
                tally.trial.moments(tally::Arm::Variant).n(),
                tally.trial.view().decision.row.name
            ),
        };
        let each = record.trials.iter().map(|trial| PlanStep {
            action: if promote { "set-parameter" } else { "keep-parameter" }.to_owned(),
            target: format!("{}/{}", record.strategy, trial.name),
            reason: match promote {
                true => {
                    format!("{:?} for all units, instead of {:?}", trial.variant, trial.control)
                }
                false => format!("{:?} for all units again", trial.control),
            },
        });
        let steps = std::iter::once(end).chain(each).collect();
        let how = if promote { plan::PROMOTED } else { plan::ROLLED_BACK };
        Ok(Plan::new("experiments.conclude", &[&id, how], steps))
    }
}

/// How many rows are asked for.
///
/// # Errors
/// `LIMIT_INVALID`.
pub fn limited(limit: u32) -> Result<usize> {
    crate::plan::limited(limit, 50, LIST_LIMIT)
}
