//! What people ask of baselines, and the views that they see.

use std::sync::Arc;

use genesis_storage::{BaselineRecord, EpisodeRecord};
use jiff::Timestamp;
use serde_json::json;

use super::calculate::{Calculated, Cause, FEWEST};
use super::plan::WINDOW;
use super::standing::{Current, Standing, Window};
use super::{Baselines, RECALCULATE};
use crate::emergency::Stance;
use crate::error::{Error, Result, Unmet};
use crate::plan::{Plan, PlanStep, demand_reason};
use crate::runs::{Request, SecondCaller, Started};

/// Without a window that could be judged for so long, in seconds, an operation is silent.
const SILENT: i64 = 3 * WINDOW + super::look::GRACE;
/// The most of a list.
pub const LIST_LIMIT: u32 = 1_000;

/// How an operation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It has no baseline yet.
    Learning,
    /// As usual.
    Usual,
    /// An episode goes on.
    Degraded,
    /// No window could be judged for a while.
    Silent,
}

/// An operation as people see it.
#[derive(Debug, Clone)]
pub struct View {
    /// Its name.
    pub operation: String,
    /// How it stands.
    pub state: State,
    /// What is usual.
    pub current: Option<Arc<Current>>,
    /// The latest windows, newest first.
    pub windows: Vec<Window>,
    /// The episode that goes on.
    pub episode: Option<EpisodeRecord>,
    /// When the last observation of a window came.
    pub last: Option<i64>,
}

/// A window that was as bad as few are.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// The operation.
    pub operation: String,
    /// When it began, in seconds since 1970.
    pub at: i64,
    /// Which quantile: 0, 1, 2.
    pub quantile: u8,
    /// What it was, in seconds.
    pub value: f64,
    /// What is usual.
    pub usual: f64,
    /// The share of usual windows that are as bad.
    pub p: f64,
}

fn state(standing: &Standing, now: i64) -> State {
    // Few calls are taken together for up to an hour.
    let waits = standing.pending.iter().any(|(windows, _)| *windows > 0);
    let patience =
        if waits { super::judge::TOGETHER * WINDOW + super::look::GRACE } else { SILENT };
    let scatter_unknown = standing.windows.front().is_some_and(|latest| {
        now - latest.start <= SILENT + WINDOW && latest.not_judged == super::judge::FEW_PAST
    });
    match (&standing.current, &standing.episode) {
        (_, Some(_)) => State::Degraded,
        (None, None) => State::Learning,
        (Some(_), None) if scatter_unknown => State::Learning,
        (Some(_), None) if standing.judged_at.is_none_or(|at| now - at > patience) => State::Silent,
        (Some(_), None) => State::Usual,
    }
}

impl Baselines {
    fn view(&self, operation: &str, standing: &Standing, windows: usize) -> View {
        View {
            operation: operation.to_owned(),
            state: state(standing, self.outside.clock.now().as_second()),
            current: standing.current.clone(),
            windows: standing.windows.iter().take(windows).cloned().collect(),
            episode: standing.episode.clone(),
            last: standing.last,
        }
    }

    /// All operations, by name, each with its latest window.
    pub fn list(&self) -> Vec<View> {
        let live = self.live();
        let each = live
            .numbers
            .iter()
            .filter_map(|(name, number)| Some(self.view(name, live.standings.get(number)?, 1)));
        each.collect()
    }

    /// One operation, with its windows.
    ///
    /// # Errors
    /// `OPERATION_NOT_FOUND`.
    pub fn get(&self, operation: &str) -> Result<View> {
        let number = self.number(operation)?;
        let live = self.live();
        let standing = live.standings.get(&number);
        let standing =
            standing.ok_or_else(|| Error::not_found("OPERATION_NOT_FOUND", operation))?;
        Ok(self.view(operation, standing, super::standing::SHOWN))
    }

    /// One generation of an operation's baseline.
    ///
    /// # Errors
    /// `OPERATION_NOT_FOUND`, `GENERATION_NOT_FOUND`.
    pub fn generation(&self, operation: &str, generation: u32) -> Result<Arc<Current>> {
        self.number(operation)?;
        let all = self.state.read(|it| Ok(it.baselines().generations(operation)?))?;
        let found = all.into_iter().find(|it| it.generation == generation);
        found.and_then(super::current).ok_or_else(|| {
            let message = format!(
                "the baseline of {operation} has no generation {generation}; `genesisctl baseline history --operation \
                 {operation}` lists those that are kept"
            );
            Error::not_found("GENERATION_NOT_FOUND", message)
        })
    }

    /// The generations, newest first.
    ///
    /// # Errors
    /// `OPERATION_NOT_FOUND`, `LIMIT_INVALID`.
    pub fn history(&self, operation: &str, limit: u32) -> Result<Vec<BaselineRecord>> {
        let limit = limited(limit)?;
        let mut all = match operation {
            "" => self.state.read(|it| Ok(it.baselines().all()?))?,
            name => {
                self.number(name)?;
                self.state.read(|it| Ok(it.baselines().generations(name)?))?
            }
        };
        all.sort_by_key(|it| std::cmp::Reverse(it.calculated_at));
        all.truncate(limit);
        Ok(all)
    }

    /// Episodes, newest first, those that go on as they are now.
    ///
    /// # Errors
    /// `OPERATION_NOT_FOUND`, `LIMIT_INVALID`.
    pub fn episodes(&self, operation: &str, limit: u32) -> Result<Vec<EpisodeRecord>> {
        let limit = limited(limit)?;
        if !operation.is_empty() {
            self.number(operation)?;
        }
        let only = Some(operation).filter(|it| !it.is_empty());
        let mut all = self.state.read(|it| Ok(it.baselines().episodes(only, limit)?))?;
        for open in self.open_episodes() {
            if let Some(record) = all.iter_mut().find(|it| it.id == open.id) {
                *record = open;
            }
        }
        Ok(all)
    }

    /// Candidates, newest first.
    ///
    /// # Errors
    /// `OPERATION_NOT_FOUND`, `LIMIT_INVALID`, `OBSERVATIONS_UNAVAILABLE`.
    pub fn candidates(&self, operation: &str, limit: u32) -> Result<Vec<Candidate>> {
        let limit = limited(limit)?;
        let number = match operation {
            "" => None,
            name => Some(self.number(name)?),
        };
        let found = self.store()?.read(|it| Ok::<_, Error>(it.candidates(number, limit)?))?;
        let live = self.live();
        let name = |number: u32| {
            live.numbers.iter().find(|(_, it)| **it == number).map(|(name, _)| name.clone())
        };
        let each = found.into_iter().filter_map(|row| {
            let mut values = [0.0; 3];
            for (value, bytes) in values.iter_mut().zip(row.bytes.chunks_exact(8)) {
                *value = f64::from_le_bytes(bytes.try_into().ok()?);
            }
            let [value, usual, p] = values;
            let operation = name(row.operation)?;
            Some(Candidate { operation, at: row.at, quantile: row.quantile, value, usual, p })
        });
        Ok(each.collect())
    }

    /// When all of them are calculated anew.
    pub fn next_recalculation(&self) -> Option<Timestamp> {
        self.config.load().schedule.next_after(self.outside.clock.now())
    }

    /// So many bytes the raw columns may take.
    pub fn raw_quota(&self) -> u64 {
        self.config.load().raw_quota
    }

    fn named(&self, operation: &str) -> Result<Vec<String>> {
        if operation.is_empty() {
            return Ok(self.live().numbers.keys().cloned().collect());
        }
        self.number(operation)?;
        Ok(vec![operation.to_owned()])
    }

    /// What a calculation by hand would do.
    ///
    /// # Errors
    /// `OPERATION_NOT_FOUND`, `OBSERVATIONS_UNAVAILABLE`.
    pub fn plan_recalculate(&self, operation: &str) -> Result<Plan> {
        self.store()?;
        let names = self.named(operation)?;
        let live = self.live();
        let step = |name: &String| {
            let before = live.numbers.get(name).and_then(|it| live.standings.get(it));
            let before = before.and_then(|it| it.current.as_ref());
            let reason = before.map_or_else(
                || "it has none yet".to_owned(),
                |it| format!("generation {} of {}", it.record.generation, it.record.calculated_at),
            );
            PlanStep::new("calculate-baseline", name.clone(), reason)
        };
        Ok(Plan::new("baselines.recalculate", &[operation], names.iter().map(step).collect()))
    }

    /// Begins a calculation by hand.
    ///
    /// # Errors
    /// `OPERATION_NOT_FOUND`, `OBSERVATIONS_UNAVAILABLE`, `PLAN_CHANGED`, those of runs.
    pub async fn recalculate(
        self: &Arc<Self>,
        operation: &str,
        plan_hash: &str,
        (actor, reason): (String, String),
    ) -> Result<Started> {
        self.plan_recalculate(operation)?.accept(plan_hash)?;
        let names = self.named(operation)?;
        // A run of the job has the key of its kind, and would do the same.
        let key = match operation {
            "" => RECALCULATE.to_owned(),
            name => format!("{RECALCULATE}/{name}"),
        };
        let request = Request {
            kind: RECALCULATE,
            actor,
            reason,
            parameters: json!({ "operation": operation }),
            key,
            second: SecondCaller::Attach,
            stance: Stance::GoOn,
        };
        let own = Arc::clone(self);
        let body = move |context: crate::runs::Context| async move {
            own.recalculate_all(&context, names, "by hand").await
        };
        self.runs.start(request, body).await
    }

    fn since(&self, operation: &str, since: Option<Timestamp>) -> Result<(u32, Timestamp)> {
        let number = self.number(operation)?;
        let episode = self.live().standings.get(&number).and_then(|it| it.episode.clone());
        let since = since.or_else(|| episode.map(|it| it.since)).ok_or_else(|| {
            let message = format!(
                "{operation} is as usual: there is nothing to accept; to start from some time all the same, pass --since"
            );
            Error::not_found("EPISODE_NOT_FOUND", message)
        })?;
        let now = self.outside.clock.now();
        if since >= now {
            let message = format!("{since} lies in the future, so that nothing came since then");
            return Err(Error::invalid("TIME_INVALID", message));
        }
        Ok((number, since))
    }

    /// What accepting would do.
    ///
    /// # Errors
    /// `OPERATION_NOT_FOUND`, `EPISODE_NOT_FOUND`, `TIME_INVALID`.
    pub fn plan_accept(&self, operation: &str, since: Option<Timestamp>) -> Result<Plan> {
        self.store()?;
        let (number, since) = self.since(operation, since)?;
        let mut steps = vec![PlanStep::new(
            "calculate-baseline",
            operation,
            format!("from what came since {since}; no later one looks further back"),
        )];
        let live = self.live();
        let standing = live.standings.get(&number);
        if let Some(episode) = standing.and_then(|it| it.episode.as_ref()) {
            steps.push(PlanStep::new("end-episode", episode.id.clone(), "it is what is usual"));
        }
        let generation =
            standing.and_then(|it| it.current.as_ref()).map_or(0, |it| it.record.generation);
        let situation = [operation, &since.to_string(), &generation.to_string()];
        Ok(Plan::new("baselines.accept", &situation, steps))
    }

    /// Takes what is now for what is usual.
    ///
    /// # Errors
    /// Those of [`Baselines::plan_accept`], `REASON_MISSING`, `PLAN_CHANGED`, `TOO_FEW_OBSERVATIONS`, `STORAGE_FAILED`.
    pub async fn accept(
        self: &Arc<Self>,
        operation: &str,
        since: Option<Timestamp>,
        plan_hash: &str,
        (by, reason): (&str, &str),
    ) -> Result<Arc<Current>> {
        demand_reason(reason, "a baseline is accepted with a reason")?;
        self.plan_accept(operation, since)?.accept(plan_hash)?;
        let (number, since) = self.since(operation, since)?;
        let cause = Cause { why: "accepted", by: by.to_owned(), reason: reason.to_owned() };
        // All of it before the next look, which would take the episode for one that has cleared.
        let _calculating = self.calculating.lock().await;
        let _judging = self.judging.lock().await;
        if let Calculated::TooFew(count) =
            self.put_in_force(number, operation, Some(since), cause).await?
        {
            let unmet = Unmet {
                code: "TOO_FEW_OBSERVATIONS",
                subject: operation.to_owned(),
                message: format!(
                    "{count} observation(s) since {since}, {FEWEST} are needed; wait, or pass an earlier --since"
                ),
            };
            let message = format!("the baseline of {operation} stays as it was");
            return Err(Error::refused("TOO_FEW_OBSERVATIONS", message, vec![unmet]));
        }
        self.begin_anew(number).await?;
        let episode = self.live().standings.get(&number).and_then(|it| it.episode.clone());
        if let Some(episode) = episode {
            let now = self.outside.clock.now();
            self.end(number, episode, now, "accepted", (by, reason)).await?;
        }
        let live = self.live();
        let current = live.standings.get(&number).and_then(|it| it.current.clone());
        current.ok_or_else(|| Error::internal("STORAGE_NOT_FOUND", "the baseline is gone"))
    }

    /// What windows were judged by says nothing about a baseline that was accepted.
    pub(super) async fn begin_anew(self: &Arc<Self>, number: u32) -> Result<()> {
        let store = Arc::clone(self.store()?);
        let forgotten = tokio::task::spawn_blocking(move || {
            store.write(|writing| {
                writing.forget_calibrations(number)?;
                let watch = super::standing::WatchRecord::of(&Default::default(), None);
                let bytes = serde_json::to_vec(&watch).unwrap_or_default();
                writing.put_watch(number, &bytes)?;
                Ok::<_, Error>(())
            })
        });
        forgotten.await.map_err(|error| {
            Error::internal("CALL_PANICKED", "forgetting windows hit a defect").caused_by(error)
        })??;
        if let Some(standing) = self.live().standings.get_mut(&number) {
            standing.watch = Default::default();
            standing.judged_at = None;
            standing.minute = Default::default();
        }
        Ok(())
    }
}

/// How many rows are asked for.
///
/// # Errors
/// `LIMIT_INVALID`.
pub fn limited(limit: u32) -> Result<usize> {
    crate::plan::limited(limit, 50, LIST_LIMIT)
}
