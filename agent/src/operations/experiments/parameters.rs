//! The parameters of strategies: what each is to use, and how that came about.

use genesis_storage::{FleetVersion, Intent, ParameterRecord};

use super::Experiments;
use super::plan::{self, Use};
use super::verbs::limited;
use crate::error::{Error, Result};
use crate::plan::{Plan, PlanStep};

/// What somebody wants a parameter to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The strategy.
    pub strategy: String,
    /// Its parameter.
    pub name: String,
    /// The value.
    pub value: String,
    /// Only if this is the version in force; 0: whatever is.
    pub expected: u64,
}

/// How a version came about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Came {
    /// "set", "promoted", "rolled back".
    pub(super) cause: String,
    /// The version that somebody went back to; 0: none.
    pub(super) restores: u64,
    /// The experiment that promoted it; empty: none.
    pub(super) experiment: String,
    /// The fleet's version that it is.
    pub(super) fleet: Option<FleetVersion>,
}

impl Experiments {
    /// The parameters in force, each with the experiment that it is in.
    ///
    /// # Errors
    /// `STRATEGY_NOT_FOUND`.
    pub fn parameters(&self, strategy: &str) -> Result<Vec<(ParameterRecord, Option<u64>)>> {
        let live = self.live();
        let of = |record: &&ParameterRecord| strategy.is_empty() || record.strategy == strategy;
        let found: Vec<(ParameterRecord, Option<u64>)> = live
            .parameters
            .values()
            .filter(of)
            .map(|record| (record.clone(), self.in_test(&live, &record.strategy, &record.name)))
            .collect();
        if found.is_empty() && !strategy.is_empty() {
            return Err(unknown(strategy));
        }
        Ok(found)
    }

    fn in_test(&self, live: &super::Live, strategy: &str, name: &str) -> Option<u64> {
        let mut running = live.running().filter(|it| it.strategy == strategy);
        let tries = |it: &&genesis_storage::ExperimentRecord| {
            it.trials.iter().any(|trial| trial.name == name)
        };
        running.find(tries).map(|it| it.number)
    }

    /// What a unit of a strategy is to use, and the revision that this is of.
    ///
    /// # Errors
    /// `STRATEGY_NOT_FOUND`, `UNIT_INVALID`.
    pub fn uses(&self, strategy: &str, unit: &str) -> Result<(Vec<Use>, u64)> {
        if !unit.is_empty()
            && let Some(why) = plan::wrong_unit(unit)
        {
            return Err(Error::invalid("UNIT_INVALID", why));
        }
        let revision = *self.revision.borrow();
        let live = self.live();
        let uses = plan::uses(strategy, unit, &live.parameters, live.in_use());
        if uses.is_empty() {
            return Err(unknown(strategy));
        }
        Ok((uses, revision))
    }

    /// Refuses what is in an experiment here.
    ///
    /// # Errors
    /// `PARAMETER_IN_TEST`.
    pub(super) fn not_in_test(&self, strategy: &str, name: &str) -> Result<()> {
        let Some(number) = self.in_test(&self.live(), strategy, name) else { return Ok(()) };
        let id = plan::id(number);
        let message = format!(
            "{name} of {strategy} is in {id}; `genesisctl experiment conclude --test-id {id} --action rollback` ends that"
        );
        Err(Error::conflict("PARAMETER_IN_TEST", message))
    }

    /// The version that would follow.
    pub(super) fn next(&self, wanted: &Wanted) -> Result<Option<ParameterRecord>> {
        let Wanted { strategy, name, value, expected } = wanted;
        plan::wrong_parameter(strategy, name, value)?;
        self.not_in_test(strategy, name)?;
        let live = self.live();
        let current = live.parameters.get(&(strategy.clone(), name.clone())).cloned();
        let version = current.as_ref().map_or(0, |current| current.version);
        if *expected != 0 && *expected != version {
            let message = format!(
                "{name} of {strategy} has version {version} now, not {expected}; look at it again with `genesisctl param history`"
            );
            return Err(Error::conflict("PARAMETER_CHANGED", message));
        }
        let most = self.config.load().parameters;
        if current.is_none() && live.parameters.len() >= most {
            let message = format!("there are {most} parameters already (max_parameters)");
            return Err(Error::unavailable("TOO_MANY_PARAMETERS", message));
        }
        Ok(current)
    }

    /// What setting it would do.
    ///
    /// # Errors
    /// Those of [`Self::set`].
    pub fn plan_setting(&self, wanted: &Wanted) -> Result<Plan> {
        self.own_parameter(&wanted.strategy, &wanted.name)?;
        let current = self.next(wanted)?;
        let next = self.state.read(|reading| {
            Ok(reading.parameters().next_version(&wanted.strategy, &wanted.name)?)
        })?;
        let (version, reason) = match &current {
            Some(current) => (
                current.version,
                format!("{:?} instead of {:?}, as version {next}", wanted.value, current.value),
            ),
            None => (0, format!("{:?}, as version {next}", wanted.value)),
        };
        let target = format!("{}/{}", wanted.strategy, wanted.name);
        let step = PlanStep { action: "set-parameter".to_owned(), target: target.clone(), reason };
        let situation = [target.as_str(), &wanted.value, &version.to_string()];
        Ok(Plan::new("parameters.set", &situation, vec![step]))
    }

    /// Sets a parameter; a new one is made.
    ///
    /// # Errors
    /// `PARAMETER_INVALID`, `PARAMETER_IN_TEST`, `PARAMETER_OF_FLEET`, `PARAMETER_CHANGED`, `TOO_MANY_PARAMETERS`,
    /// `PLAN_CHANGED`, `STORAGE_FAILED`.
    pub async fn set(
        &self,
        wanted: &Wanted,
        plan_hash: &str,
        (by, reason): (&str, &str),
    ) -> Result<ParameterRecord> {
        let _alone = self.turn().await?;
        if !plan_hash.is_empty() {
            self.plan_setting(wanted)?.accept(plan_hash)?;
        }
        self.own_parameter(&wanted.strategy, &wanted.name)?;
        let current = self.next(wanted)?;
        let came = Came { cause: "set".to_owned(), ..Came::default() };
        self.put(wanted, current, came, (by, reason)).await
    }

    pub(super) async fn put(
        &self,
        wanted: &Wanted,
        current: Option<ParameterRecord>,
        came: Came,
        (by, reason): (&str, &str),
    ) -> Result<ParameterRecord> {
        let before =
            current.map_or_else(|| "-".to_owned(), |current| format!("{:?}", current.value));
        let intent = Intent::new(self.now(), by, "parameters.changed")
            .target(format!("{}/{}", wanted.strategy, wanted.name))
            .reason(reason)
            .outcome(came.cause.as_str())
            .detail(format!("{before} -> {:?}", wanted.value));
        let record = ParameterRecord {
            strategy: wanted.strategy.clone(),
            name: wanted.name.clone(),
            value: wanted.value.clone(),
            set_at: self.now(),
            set_by: by.to_owned(),
            reason: reason.to_owned(),
            cause: came.cause,
            experiment: came.experiment,
            restores: came.restores,
            fleet: came.fleet,
            ..ParameterRecord::default()
        };
        let written = self.state.write(intent, move |it| Ok(it.parameters().put_next(record)?));
        let put = self.sure(written.await)?;
        let key = (put.strategy.clone(), put.name.clone());
        self.live().parameters.insert(key, put.clone());
        self.changed();
        Ok(put)
    }

    /// The versions that are kept, newest first.
    ///
    /// # Errors
    /// `PARAMETER_NOT_FOUND`, `LIMIT_INVALID`, `STORAGE_FAILED`.
    pub fn versions(&self, strategy: &str, name: &str, limit: u32) -> Result<Vec<ParameterRecord>> {
        let limit = limited(limit)?;
        let one = !(strategy.is_empty() || name.is_empty());
        let mut all = self.state.read(|it| match one {
            true => Ok(it.parameters().versions(strategy, name)?),
            false => Ok(it.parameters().all()?),
        })?;
        all.retain(|it| {
            (strategy.is_empty() || it.strategy == strategy) && (name.is_empty() || it.name == name)
        });
        if all.is_empty() && !(strategy.is_empty() && name.is_empty()) {
            return Err(missing(strategy, name));
        }
        // Of one parameter its versions tell the order, whatever the clock said.
        match one {
            true => all.sort_by_key(|it| std::cmp::Reverse(it.version)),
            false => all.sort_by_key(|it| std::cmp::Reverse((it.set_at, it.version))),
        }
        all.truncate(limit);
        Ok(all)
    }

    /// The version that it would go back to, and that in force.
    pub(super) fn earlier(
        &self,
        strategy: &str,
        name: &str,
        to: u64,
    ) -> Result<(ParameterRecord, ParameterRecord)> {
        let versions = self.state.read(|it| Ok(it.parameters().versions(strategy, name)?))?;
        let Some(current) = versions.last().cloned() else { return Err(missing(strategy, name)) };
        let target = match to {
            0 => versions.iter().rev().find(|it| it.value != current.value),
            version => versions.iter().find(|it| it.version == version),
        };
        let target = target.cloned().ok_or_else(|| {
            let what = match to {
                0 => "no earlier value".to_owned(),
                version => format!("no version {version} that is kept"),
            };
            let message = format!(
                "{name} of {strategy} has {what}; `genesisctl param history --strategy {strategy} {name}` lists them"
            );
            Error::not_found("VERSION_NOT_FOUND", message)
        })?;
        Ok((target, current))
    }

    /// What going back would do.
    ///
    /// # Errors
    /// Those of [`Self::go_back`].
    pub fn plan_going_back(&self, strategy: &str, name: &str, to: u64) -> Result<Plan> {
        let (target, current) = self.earlier(strategy, name, to)?;
        let wanted = Wanted {
            strategy: strategy.to_owned(),
            name: name.to_owned(),
            value: target.value,
            expected: current.version,
        };
        self.plan_setting(&wanted)
    }

    /// Goes back to an earlier version, as a new one.
    ///
    /// # Errors
    /// `PARAMETER_NOT_FOUND`, `VERSION_NOT_FOUND`, `PARAMETER_IN_TEST`, `PARAMETER_OF_FLEET`, `PLAN_CHANGED`, `STORAGE_FAILED`.
    pub async fn go_back(
        &self,
        (strategy, name, to): (&str, &str, u64),
        plan_hash: &str,
        (by, reason): (&str, &str),
    ) -> Result<ParameterRecord> {
        let _alone = self.turn().await?;
        if !plan_hash.is_empty() {
            self.plan_going_back(strategy, name, to)?.accept(plan_hash)?;
        }
        let (target, current) = self.earlier(strategy, name, to)?;
        let wanted = Wanted {
            strategy: strategy.to_owned(),
            name: name.to_owned(),
            value: target.value,
            expected: current.version,
        };
        self.own_parameter(strategy, name)?;
        let current = self.next(&wanted)?;
        let came = Came {
            cause: plan::ROLLED_BACK.to_owned(),
            restores: target.version,
            ..Came::default()
        };
        self.put(&wanted, current, came, (by, reason)).await
    }
}

fn unknown(strategy: &str) -> Error {
    let shown: String = strategy.chars().take(plan::NAME).collect();
    let message = format!(
        "no parameter of the strategy {shown:?} is set; `genesisctl param list` shows those that are"
    );
    Error::not_found("STRATEGY_NOT_FOUND", message)
}

fn missing(strategy: &str, name: &str) -> Error {
    let message = format!(
        "there is no parameter {name:?} of {strategy:?}; `genesisctl param list` shows those that are set"
    );
    Error::not_found("PARAMETER_NOT_FOUND", message)
}
