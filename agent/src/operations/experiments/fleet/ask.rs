//! What people ask of experiments of the whole fleet: to begin one, and to end one by hand.

use std::sync::Arc;

use genesis_storage::Intent;

use super::super::plan::{self as local, Asked};
use super::super::tally::Arm;
use super::super::verbs::View;
use super::super::{Experiments, conclude};
use super::owner::{Counted, End};
use super::plan;
use super::record::{Defined, FleetParameter, read, written};
use super::set::conflict;
use super::view::FleetView;
use crate::error::{Error, Result};
use crate::outside::coordinator::{Act, Guard};
use crate::plan::{Plan, PlanStep, demand_reason};

/// An experiment of the fleet, before it is one.
struct Beginning {
    defined: Defined,
    /// What it tries, with the revision that changed each last.
    parameters: Vec<(i64, Arc<FleetParameter>)>,
    /// What must hold so that its number is its own.
    counter: Guard,
}

impl Experiments {
    /// The experiment that is asked for, as it would begin now in the whole fleet.
    fn defined_for_fleet(&self, asked: &Asked) -> Result<Beginning> {
        if !asked.owner.is_empty() {
            let message = "an experiment of the whole fleet is decided by whoever holds its lock: it has no owner";
            return Err(Error::invalid("EXPERIMENT_INVALID", message));
        }
        let fleet = self.fleets();
        let most = self.config.load().running;
        if fleet.iter().filter(|it| it.conclusion.is_none()).count() >= most {
            let message =
                format!("{most} experiments of the fleet go on already; end one of them first");
            return Err(Error::unavailable("TOO_MANY_EXPERIMENTS", message));
        }
        let mut record = self.defined(asked)?;
        let mut parameters = Vec::new();
        for trial in &mut record.trials {
            let (strategy, name) = (&record.strategy, &trial.name);
            let Some((modified, parameter)) = self.fleets_parameter(strategy, name) else {
                let message = format!(
                    "{name} of {strategy} is each host's own, and hosts that use other values can't be compared: \
                     `genesisctl param set --fleet --strategy {strategy} {name}={}` makes it the fleet's",
                    trial.control
                );
                return Err(Error::conflict("PARAMETER_NOT_OF_FLEET", message));
            };
            if let Some(number) = self.fleets_test(&parameter) {
                return Err(in_test(&parameter, number));
            }
            if parameter.value != trial.control {
                let message = format!(
                    "{name} of {strategy} is {:?} in the fleet and {:?} here: set it anew with --fleet",
                    parameter.value, trial.control
                );
                return Err(conflict(message));
            }
            trial.control_version = parameter.version;
            parameters.push((modified, parameter));
        }
        let key = self.fleet.keys().last_experiment();
        let last = self.fleet.known(&key).and_then(|entry| read::<u64>(&entry.value).ok());
        // Of a fleet whose count was lost no number comes again that is known.
        let known = fleet.iter().map(|it| it.number).max();
        let own = self.live().known.values().filter_map(|it| plan::number(&it.fleet)).max();
        let number = last.max(known).max(own).unwrap_or(0).saturating_add(1);
        if asked.seed.is_empty() {
            record.seed = plan::id(number);
        }
        record.hash = local::hash(&record);
        let defined = Defined::of(number, &record, &self.fleet.me().host);
        Ok(Beginning { defined, parameters, counter: self.fleet.unchanged(&key) })
    }

    /// What beginning it in the whole fleet would do.
    ///
    /// # Errors
    /// Those of [`Self::create_in_fleet`].
    pub async fn plan_fleet_creation(&self, asked: &Asked) -> Result<Plan> {
        self.fleet.open().await?;
        let defined = self.defined_for_fleet(asked)?.defined;
        let share = f64::from(defined.variant_basis_points) / 100.0;
        let begin = PlanStep {
            action: "begin-fleet-experiment".to_owned(),
            target: plan::id(defined.number),
            reason: format!(
                "on every host of fleet {} whose values are the fleet's, decided by what all of them count, by the design {}, \
                 at {} trades in the smaller arm, {} at most",
                self.fleet.config().name,
                defined.design,
                defined.rules.planned,
                defined.rules.most
            ),
        };
        let each = defined.trials.iter().map(|trial| PlanStep {
            action: "try".to_owned(),
            target: format!("{}/{}", defined.strategy, trial.name),
            reason: format!(
                "{share} % of the units in the whole fleet get {:?} instead of {:?} (the fleet's version {})",
                trial.variant, trial.control, trial.control_version
            ),
        });
        let steps = std::iter::once(begin).chain(each).collect();
        Ok(Plan::new("experiments.create-in-fleet", &[&defined.hash], steps))
    }

    /// Begins an experiment in the whole fleet; each host begins it when it hears of it, this one at once.
    ///
    /// # Errors
    /// Those of [`Self::create`], `PARAMETER_NOT_OF_FLEET`, `FLEET_UNCONFIGURED`, `FLEET_UNREACHABLE`, `FLEET_CONFLICT`.
    pub async fn create_in_fleet(
        &self,
        asked: &Asked,
        plan_hash: &str,
        (by, reason): (&str, &str),
    ) -> Result<View> {
        self.fleet.open().await?;
        if !plan_hash.is_empty() {
            self.plan_fleet_creation(asked).await?.accept(plan_hash)?;
        }
        let Beginning { mut defined, parameters, counter } = self.defined_for_fleet(asked)?;
        (defined.started_at, defined.started_by, defined.reason) =
            (self.now(), by.to_owned(), reason.to_owned());
        let keys = self.fleet.keys();
        let key = keys.experiment(defined.number);
        let mut guards = vec![counter, Guard::Absent(key.clone())];
        let put = |key: String, value: Vec<u8>| Act::Put { key, value, lease: 0 };
        let mut acts = vec![
            put(key, written(&defined)),
            put(keys.last_experiment(), written(&defined.number)),
        ];
        for (modified, parameter) in parameters {
            let key = keys.parameter(&parameter.strategy, &parameter.name);
            guards.push(Guard::Modified(key.clone(), modified));
            // Whoever sets it meanwhile is refused, and so is another experiment with it.
            let next = FleetParameter { in_test: defined.number, ..(*parameter).clone() };
            acts.push(put(key, written(&next)));
        }
        let id = plan::id(defined.number);
        let intent = Intent::new(self.now(), by, "experiments.created-in-fleet")
            .target(id.as_str())
            .reason(reason)
            .detail(local::tried(&defined.record()));
        self.state.note(intent).await?;
        let Some(revision) = self.fleet.change(&guards, &acts).await? else {
            let message = "the fleet's parameters or experiments changed meanwhile; nothing was begun, try again";
            return Err(conflict(message.to_owned()));
        };
        self.settle_after(revision).await;
        self.forget_in_fleet().await;
        match self.here(&defined) {
            Some(record) => self.view(&record),
            None => {
                let part = self.part();
                let why = part.refused.get(&defined.number).map(|(why, _)| why.clone());
                let why = why.unwrap_or_else(|| "this host has not heard of it yet".to_owned());
                Err(Error::conflict(
                    "EXPERIMENT_NOT_BEGUN",
                    format!("{id} has begun in the fleet, but not here: {why}"),
                ))
            }
        }
    }

    /// Forgets experiments that ended long ago. What can't be forgotten now is by whoever begins the next one.
    async fn forget_in_fleet(&self) {
        let keys = self.fleet.keys();
        for number in plan::forgotten(&self.fleets()) {
            let forgetting = async {
                let tallies = self.fleet.list(&keys.tallies(number)).await?;
                for some in tallies.chunks(100) {
                    let acts: Vec<Act> =
                        some.iter().map(|entry| Act::Delete(entry.key.clone())).collect();
                    self.fleet.change(&[], &acts).await?;
                }
                let acts = [keys.look(number), keys.experiment(number)].map(Act::Delete);
                self.fleet.change(&[], &acts).await
            };
            if let Err(error) = forgetting.await {
                tracing::warn!(number, error = error.chain(), "one that ended is not forgotten");
                return;
            }
        }
    }

    /// What ending one in the whole fleet would do.
    ///
    /// # Errors
    /// Those of [`Self::conclude_in_fleet`].
    pub async fn plan_fleet_conclusion(&self, id: &str, promote: bool) -> Result<Plan> {
        self.promotable(promote)?;
        self.fleet.open().await?;
        let defined = self.open_in_fleet(id)?;
        let counted = self.counted(&defined).await?;
        Ok(self.planned_end(&defined, &counted, promote))
    }

    fn planned_end(&self, defined: &Defined, counted: &Counted, promote: bool) -> Plan {
        let (id, trial) = (plan::id(defined.number), &counted.tally.trial);
        let end = PlanStep {
            action: "end-fleet-experiment".to_owned(),
            target: id.clone(),
            reason: format!(
                "in the whole fleet {}: {} trades of the control and {} of the variant by now, of {} host(s); the table says: \
                 {}",
                self.fleet.config().name,
                trial.moments(Arm::Control).n(),
                trial.moments(Arm::Variant).n(),
                counted.hosts,
                trial.view().decision.row.name
            ),
        };
        let each = defined.trials.iter().map(|trial| PlanStep {
            action: if promote { "set-parameter" } else { "keep-parameter" }.to_owned(),
            target: format!("{}/{}", defined.strategy, trial.name),
            reason: match promote {
                true => format!(
                    "{:?} for all units in the whole fleet, instead of {:?}",
                    trial.variant, trial.control
                ),
                false => format!("{:?} for all units in the whole fleet again", trial.control),
            },
        });
        let steps = std::iter::once(end).chain(each).collect();
        let how = if promote { local::PROMOTED } else { local::ROLLED_BACK };
        Plan::new("experiments.conclude-in-fleet", &[&id, how], steps)
    }

    /// One of the fleet that goes on.
    fn open_in_fleet(&self, id: &str) -> Result<Arc<Defined>> {
        let (_, defined) = self.of_fleet(id)?;
        match &defined.conclusion {
            None => Ok(defined),
            Some(ended) => {
                let id = plan::id(defined.number);
                let message = format!(
                    "{id} has ended in the fleet: {}, at {}; `genesisctl experiment show {id}` has the details",
                    ended.how, ended.at
                );
                Err(Error::conflict("EXPERIMENT_ENDED", message))
            }
        }
    }

    /// Ends an experiment by hand in the whole fleet; each host ends it when it hears of it, this one at once.
    ///
    /// # Errors
    /// Those of [`Self::conclude`], `FLEET_UNCONFIGURED`, `FLEET_UNREACHABLE`, `FLEET_CONFLICT`.
    pub async fn conclude_in_fleet(
        &self,
        id: &str,
        promote: bool,
        plan_hash: &str,
        (by, reason): (&str, &str),
    ) -> Result<FleetView> {
        demand_reason(reason, conclude::DEMAND)?;
        self.promotable(promote)?;
        self.fleet.open().await?;
        let defined = self.open_in_fleet(id)?;
        let counted = self.counted(&defined).await?;
        self.planned_end(&defined, &counted, promote).accept(plan_hash)?;
        let how = if promote { local::PROMOTED } else { local::ROLLED_BACK };
        let line = super::owner::look_of(&counted.tally).decision.row.number;
        let (mut guards, mut acts) = (Vec::new(), Vec::new());
        let end = End { how, forced: true, by, reason, line, at: self.now() };
        // What came meanwhile counts too; from here on the guards see to it.
        self.promotable(promote)?;
        self.ends(&defined, &counted.tally, end, (&mut guards, &mut acts))?;
        acts.push(Act::Delete(self.fleet.keys().owner(defined.number)));
        let id = plan::id(defined.number);
        let intent = Intent::new(self.now(), by, "experiments.concluded-in-fleet")
            .target(id.as_str())
            .reason(reason)
            .outcome(how);
        self.state.note(intent).await?;
        let Some(revision) = self.fleet.change(&guards, &acts).await? else {
            return Err(conflict(format!("{id} or its parameters changed meanwhile; look again")));
        };
        self.settle_after(revision).await;
        let (_, ended) = self.of_fleet(&id)?;
        self.fleet_view(&ended, counted.tally)
    }
}

pub(super) fn in_test(parameter: &FleetParameter, number: u64) -> Error {
    let id = plan::id(number);
    let message = format!(
        "{} of {} is in {id} of the fleet; `genesisctl experiment conclude --fleet --test-id {id} --action rollback` ends that",
        parameter.name, parameter.strategy
    );
    Error::conflict("PARAMETER_IN_TEST", message)
}
