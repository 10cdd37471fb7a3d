//! Parameters of the whole fleet: set by compare-and-set, and taken over by each host once for each version.

use genesis_storage::{Intent, ParameterRecord};

use super::super::parameters::{Came, Wanted};
use super::super::{Experiments, plan as local};
use super::ask::in_test;
use super::plan;
use super::record::{FleetParameter, written};
use crate::error::{Error, Result};
use crate::outside::coordinator::{Act, Guard};
use crate::plan::{Plan, PlanStep};

/// The most bytes of a fleet's parameters with their reasons that a host follows.
const REASON: usize = 1_000;

pub(super) fn conflict(message: String) -> Error {
    Error::conflict("FLEET_CONFLICT", message)
}

impl Experiments {
    /// The fleet's version that would follow, that in force, and what must hold so that it still is.
    fn next_in_fleet(
        &self,
        wanted: &Wanted,
        (by, reason): (&str, &str),
        cause: &str,
    ) -> Result<(FleetParameter, Option<u64>, Guard)> {
        let Wanted { strategy, name, value, expected } = wanted;
        local::wrong_parameter(strategy, name, value)?;
        let (modified, known) = self.fleets_parameter(strategy, name).unzip();
        if let Some(parameter) = &known
            && let Some(number) = self.fleets_test(parameter)
        {
            return Err(in_test(parameter, number));
        }
        self.not_in_test(strategy, name)?;
        let version = known.as_ref().map(|known| known.version);
        if *expected != 0 && version != Some(*expected) {
            let message = format!(
                "{name} of {strategy} has version {} in the fleet now, not {expected}; look at it again with `genesisctl param list`",
                version.unwrap_or(0)
            );
            return Err(Error::conflict("PARAMETER_CHANGED", message));
        }
        let most = self.config.load().parameters;
        if known.is_none() && self.fleets_parameters().len() >= most {
            let message = format!("the fleet has {most} parameters already (max_parameters)");
            return Err(Error::unavailable("TOO_MANY_PARAMETERS", message));
        }
        // Of a fleet whose count was lost none comes again that was taken over here.
        let key = (strategy.clone(), name.clone());
        let taken = self.live().parameters.get(&key).and_then(|it| it.fleet);
        let before = known.as_ref().map(|it| it.at).max(taken.map(|it| it.at));
        let next = FleetParameter {
            strategy: strategy.clone(),
            name: name.clone(),
            value: value.clone(),
            version: version.max(taken.map(|it| it.version)).unwrap_or(0).saturating_add(1),
            at: plan::after(before, self.now()),
            by: by.to_owned(),
            reason: reason.chars().take(REASON).collect(),
            host: self.fleet.me().host.clone(),
            cause: cause.to_owned(),
            experiment: String::new(),
            in_test: 0,
        };
        let key = self.fleet.keys().parameter(strategy, name);
        let unchanged = match modified {
            Some(modified) => Guard::Modified(key, modified),
            None => Guard::Absent(key),
        };
        Ok((next, version, unchanged))
    }

    /// What setting it in the whole fleet would do.
    ///
    /// # Errors
    /// Those of [`Self::set_in_fleet`].
    pub async fn plan_setting_in_fleet(&self, wanted: &Wanted) -> Result<Plan> {
        self.fleet.open().await?;
        self.planned_in_fleet(wanted)
    }

    fn planned_in_fleet(&self, wanted: &Wanted) -> Result<Plan> {
        let (next, version, _) = self.next_in_fleet(wanted, ("", ""), "set")?;
        let known = self.fleets_parameter(&next.strategy, &next.name);
        let before = match &known {
            Some((_, known)) => format!("instead of {:?}", known.value),
            None => "whatever each host uses now".to_owned(),
        };
        let target = format!("{}/{}", next.strategy, next.name);
        let step = PlanStep {
            action: "set-fleet-parameter".to_owned(),
            target: target.clone(),
            reason: format!(
                "{:?} in the whole fleet {}, {before}, as the fleet's version {}",
                next.value,
                self.fleet.config().name,
                next.version
            ),
        };
        let situation = [target.as_str(), &next.value, &version.unwrap_or(0).to_string()];
        Ok(Plan::new("parameters.set-in-fleet", &situation, vec![step]))
    }

    /// Sets a parameter in the whole fleet; each host takes it over when it hears of it, this one at once.
    ///
    /// # Errors
    /// Those of [`Self::set`], `FLEET_UNCONFIGURED`, `FLEET_UNREACHABLE`, `FLEET_CONFLICT`.
    pub async fn set_in_fleet(
        &self,
        wanted: &Wanted,
        (plan_hash, cause): (&str, &str),
        (by, reason): (&str, &str),
    ) -> Result<ParameterRecord> {
        self.fleet.open().await?;
        if !plan_hash.is_empty() {
            self.planned_in_fleet(wanted)?.accept(plan_hash)?;
        }
        let (next, _, unchanged) = self.next_in_fleet(wanted, (by, reason), cause)?;
        let key = self.fleet.keys().parameter(&next.strategy, &next.name);
        let guards = [unchanged];
        let intent = Intent::new(self.now(), by, "parameters.changed-in-fleet")
            .target(format!("{}/{}", next.strategy, next.name))
            .reason(reason)
            .outcome(cause)
            .detail(format!("{:?}, version {} of the fleet", next.value, next.version));
        self.state.note(intent).await?;
        let acts = [Act::Put { key, value: written(&next), lease: 0 }];
        let Some(revision) = self.fleet.change(&guards, &acts).await? else {
            let message = format!(
                "{} of {} changed in the fleet meanwhile; look at it again",
                next.name, next.strategy
            );
            return Err(conflict(message));
        };
        self.settle_after(revision).await;
        let key = (next.strategy.clone(), next.name.clone());
        let record = self.live().parameters.get(&key).cloned();
        let taken = record.filter(|record| !plan::takes_over(&next, Some(record)));
        taken.ok_or_else(|| {
            let part = self.part();
            let why = part.waiting.get(&key).map(|(why, _)| why.clone());
            let why = why.unwrap_or_else(|| "this host has not heard of it yet".to_owned());
            let message = format!(
                "{} of {} is set in the fleet, but not here yet: {why}",
                next.name, next.strategy
            );
            Error::conflict("PARAMETER_WAITS", message)
        })
    }

    /// What going back in the whole fleet would do: to what this host used before.
    ///
    /// # Errors
    /// Those of [`Self::go_back_in_fleet`].
    pub async fn plan_going_back_in_fleet(
        &self,
        (strategy, name, to): (&str, &str, u64),
    ) -> Result<Plan> {
        let (target, _) = self.earlier(strategy, name, to)?;
        self.plan_setting_in_fleet(&of(target)).await
    }

    /// Takes the fleet's parameter back to the value that an earlier version of this host has.
    ///
    /// # Errors
    /// Those of [`Self::set_in_fleet`] and of [`Self::go_back`].
    pub async fn go_back_in_fleet(
        &self,
        (strategy, name, to): (&str, &str, u64),
        plan_hash: &str,
        who: (&str, &str),
    ) -> Result<ParameterRecord> {
        let (target, _) = self.earlier(strategy, name, to)?;
        self.set_in_fleet(&of(target), (plan_hash, local::ROLLED_BACK), who).await
    }

    /// Sets a parameter here as the fleet says.
    ///
    /// # Errors
    /// `PARAMETER_IN_TEST`, `TOO_MANY_PARAMETERS`, `EMERGENCY`, `STORAGE_FAILED`.
    pub(super) async fn set_as_fleet(&self, parameter: &FleetParameter) -> Result<()> {
        let _alone = self.turn().await?;
        let FleetParameter { strategy, name, value, .. } = parameter;
        local::wrong_parameter(strategy, name, value)?;
        // What an experiment promoted reaches into trading only where a promotion may.
        if parameter.cause == local::PROMOTED {
            (self.may_promote)()?;
        }
        let wanted = Wanted {
            strategy: strategy.clone(),
            name: name.clone(),
            value: value.clone(),
            expected: 0,
        };
        let current = self.next(&wanted)?;
        if !plan::takes_over(parameter, current.as_ref()) {
            return Ok(());
        }
        let came = Came {
            cause: parameter.cause.clone(),
            restores: 0,
            experiment: parameter.experiment.clone(),
            fleet: Some(parameter.stamp()),
        };
        let who = parameter.who();
        self.put(&wanted, current, came, (&who, &parameter.reason)).await.map(drop)
    }
}

fn of(target: ParameterRecord) -> Wanted {
    Wanted { strategy: target.strategy, name: target.name, value: target.value, expected: 0 }
}
