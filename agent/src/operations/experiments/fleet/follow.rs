//! Does here what the fleet says: parameters are set, experiments begun and ended. All of it is compared each time, so that a
//! host that was away does what it has missed.

use std::sync::Arc;

use genesis_storage::{ExperimentRecord, FleetVersion, Intent};

use super::super::conclude::Ending;
use super::super::plan as local;
use super::super::writer::Order;
use super::super::{ACTOR, Experiments};
use super::plan::{self, Due};
use super::record::{Concluded, Defined, FleetParameter, tally_of, written};
use crate::error::{Error, Result};
use crate::outside::coordinator::{Act, Guard};
use crate::outside::failpoint;

/// What an experiment is ended with that the fleet does not know.
const FORSAKEN: &str =
    "the fleet does not know it any more, so that nobody looks whether its variant does harm";

impl Experiments {
    /// Brings this host and its fleet together, once. What one of it can't do keeps none of the others waiting.
    ///
    /// # Errors
    /// The first of them.
    pub(in super::super) async fn settle_fleet(&self) -> Result<()> {
        let mut first = Ok(());
        let mut note = |done: Result<()>| {
            if first.is_ok() {
                first = done;
            }
        };
        let fleet = self.fleets();
        for defined in &fleet {
            let record = self.here(defined);
            let done = match (plan::due(defined, record.as_deref()), record) {
                (Due::End, Some(record)) => self.end_with_fleet(defined, &record).await,
                (Due::Tell, Some(record)) => self.tell_end(defined, &record).await,
                _ => Ok(()),
            };
            note(done);
        }
        for parameter in self.fleets_parameters() {
            note(self.take_over(&parameter).await);
        }
        // Values first: an experiment begins only where the one in force is what it is tried against.
        for defined in &fleet {
            if plan::due(defined, self.here(defined).as_deref()) == Due::Begin {
                note(self.begin_with_fleet(defined).await);
            }
        }
        let running = |it: &Arc<Defined>| it.conclusion.is_none();
        let numbers: Vec<u64> = fleet.iter().filter(|it| running(it)).map(|it| it.number).collect();
        self.part().refused.retain(|number, _| numbers.contains(number));
        if self.fleet.is_open() {
            // Read anew: what is known now is what there is.
            let fleet = self.fleets();
            let forsaken: Vec<Arc<ExperimentRecord>> = {
                let live = self.live();
                let of = live.known.values().filter(|it| plan::forsaken(it, &fleet));
                of.cloned().collect()
            };
            for record in forsaken {
                note(self.give_up(&record).await);
            }
            self.part().settled = true;
        }
        first
    }

    /// Brings this host and its fleet together once a change is known here; for long at most.
    pub(super) async fn settle_after(&self, revision: i64) {
        self.fleet.heard_of(revision).await;
        if let Err(error) = self.settle_fleet().await {
            // It is tried again each second.
            tracing::error!(error = error.chain(), "this host could not do what the fleet says");
        }
    }

    /// Sets a parameter as the fleet says, unless that was done before.
    async fn take_over(&self, parameter: &FleetParameter) -> Result<()> {
        let key = (parameter.strategy.clone(), parameter.name.clone());
        let current = self.live().parameters.get(&key).cloned();
        if !plan::takes_over(parameter, current.as_ref()) {
            self.part().waiting.remove(&key);
            let taken = current.and_then(|current| current.fleet);
            return match taken.filter(|taken| plan::forgot(parameter, *taken)) {
                Some(taken) => self.tell_again(parameter, taken).await,
                None => Ok(()),
            };
        }
        match self.set_as_fleet(parameter).await {
            Ok(()) => {
                self.part().waiting.remove(&key);
                Ok(())
            }
            Err(error) => {
                let (why, now) = (error.message.clone(), self.now());
                let mut part = self.part();
                let known = part.waiting.entry(key).or_insert_with(|| (String::new(), now));
                let other = known.0 != why;
                known.0 = why;
                drop(part);
                if other {
                    self.bell.ring();
                }
                // It is told as what it is: what waits is no fault.
                match error.code {
                    "STORAGE_FAILED" => Err(error),
                    _ => Ok(()),
                }
            }
        }
    }

    /// Tells the fleet what was set after `known`, as it was taken over here: else hosts that never heard of it would go on with
    /// another value for ever.
    async fn tell_again(&self, known: &FleetParameter, taken: FleetVersion) -> Result<()> {
        let FleetParameter { strategy, name, .. } = known;
        // What is in a test is its owner's, and what that promoted comes with its end.
        if !self.fleet.is_open() || self.fleets_test(known).is_some() {
            return Ok(());
        }
        let Some((modified, now)) = self.fleets_parameter(strategy, name) else { return Ok(()) };
        let kept = self.state.read(|it| Ok(it.parameters().versions(strategy, name)?))?;
        // What this host has set itself since then is its own.
        let of_it = kept.into_iter().find(|it| it.fleet == Some(taken));
        let Some(again) = of_it.and_then(|it| FleetParameter::taken_over(it, taken)) else {
            return Ok(());
        };
        if *now != *known {
            return Ok(());
        }
        let key = self.fleet.keys().parameter(strategy, name);
        let acts = [Act::Put { key: key.clone(), value: written(&again), lease: 0 }];
        // Where somebody else was faster, the watch tells of it.
        if self.fleet.change(&[Guard::Modified(key, modified)], &acts).await?.is_none() {
            return Ok(());
        }
        let done = Intent::new(self.now(), ACTOR, "parameters.told-again")
            .target(format!("{strategy}/{name}"))
            .reason("the fleet has forgotten it")
            .detail(format!("{:?}, version {} of the fleet", again.value, again.version));
        self.state.note(done).await.map(drop)
    }

    /// Begins an experiment of the fleet, or notes why it can't be.
    async fn begin_with_fleet(&self, defined: &Defined) -> Result<()> {
        let begun = self.begin_here(defined).await;
        let refused = match begun {
            Ok(refused) => refused,
            Err(error) => {
                self.refuse(defined.number, &error.message);
                return Err(error);
            }
        };
        match refused {
            None => drop(self.part().refused.remove(&defined.number)),
            Some(why) => self.refuse(defined.number, &why),
        }
        Ok(())
    }

    fn refuse(&self, number: u64, why: &str) {
        let now = self.now();
        let mut part = self.part();
        let known = part.refused.entry(number).or_insert_with(|| (String::new(), now));
        if known.0 == why {
            return;
        }
        known.0 = why.to_owned();
        drop(part);
        tracing::warn!(number, why, "an experiment of the fleet has not begun here");
        self.bell.ring();
        self.tallied.send_replace(());
    }

    async fn begin_here(&self, defined: &Defined) -> Result<Option<String>> {
        if let Err(error) = self.store() {
            return Ok(Some(error.message));
        }
        let alone = self.turn().await?;
        if self.here(defined).is_some() {
            return Ok(None);
        }
        let number = self.state.read(|reading| Ok(reading.experiments().next_number()?))?;
        let most = self.config.load().running;
        let begun = {
            let live = self.live();
            plan::begin(defined, &live.parameters, live.running(), most)
        };
        let mut record = match begun {
            Ok(record) => record,
            Err(why) => return Ok(Some(why)),
        };
        record.number = number;
        let by = format!("{} by the fleet from {}", record.started_by, defined.host);
        let intent = Intent::new(self.now(), by, "experiments.created")
            .target(local::id(record.number))
            .reason(record.reason.clone())
            .detail(format!("{} of the fleet: {}", record.fleet, local::tried(&record)));
        self.begun(record, intent, alone).await?;
        Ok(None)
    }

    /// Ends an experiment as the fleet did.
    async fn end_with_fleet(&self, defined: &Defined, record: &ExperimentRecord) -> Result<()> {
        let Some(concluded) = &defined.conclusion else { return Ok(()) };
        if concluded.how == local::PROMOTED && (self.may_promote)().is_err() {
            // It is looked for again each second.
            return Ok(());
        }
        let by = concluded.who();
        let ending = Ending {
            how: &concluded.how,
            forced: concluded.forced,
            by: &by,
            reason: &concluded.reason,
            at: concluded.at,
            line: concluded.line,
            fleet: Some(concluded),
        };
        self.end_here(record.number, ending).await
    }

    /// Ends one that the fleet does not know, here alone: back is always safe.
    async fn give_up(&self, record: &ExperimentRecord) -> Result<()> {
        let ending = Ending {
            how: local::ROLLED_BACK,
            forced: true,
            by: ACTOR,
            reason: FORSAKEN,
            at: self.now(),
            line: 0,
            fleet: None,
        };
        self.end_here(record.number, ending).await
    }

    async fn end_here(&self, number: u64, ending: Ending<'_>) -> Result<()> {
        let alone = self.turn().await?;
        let (record, tally) = match self.open_one(&local::id(number)) {
            Ok(open) => open,
            // Somebody was faster.
            Err(_) => return Ok(()),
        };
        failpoint::hit("experiments.fleet-ending");
        let ended = self.end(&record, &tally, ending).await?;
        drop(alone);
        // The writer hears of it at its next start otherwise.
        let _ = self.order(|answer| Order::End(ended.number, answer)).await;
        // What was tallied by then is told.
        self.tallied.send_replace(());
        Ok(())
    }

    /// Tells the fleet of an end that it has forgotten.
    async fn tell_end(&self, defined: &Defined, record: &ExperimentRecord) -> Result<()> {
        if !self.fleet.is_open() {
            return Ok(());
        }
        let kept = self.state.read(|it| Ok(it.experiments().get(record.number)?))?;
        let Some(ended) = kept.and_then(|kept| kept.conclusion) else { return Ok(()) };
        let Some(tally) = ended.fleet.filter(|tally| tally_of(record, tally).is_ok()) else {
            return Ok(());
        };
        let mut concluded = Concluded {
            at: ended.at,
            how: ended.how,
            forced: ended.forced,
            by: ended.by,
            reason: ended.reason,
            line: ended.line,
            host: self.fleet.me().host.clone(),
            tally,
            set: Vec::new(),
        };
        let key = self.fleet.keys().experiment(defined.number);
        let Some((modified, now)) = self.fleets_one(defined.number) else { return Ok(()) };
        if now.conclusion.is_some() {
            return Ok(());
        }
        // What was promoted comes with it, as this host took it over: whole or not at all.
        let (mut guards, mut acts) = (vec![Guard::Modified(key.clone(), modified)], Vec::new());
        for parameter in self.promoted_here(&concluded, defined) {
            let key = self.fleet.keys().parameter(&parameter.strategy, &parameter.name);
            guards.push(self.fleet.unchanged(&key));
            concluded.set.push((parameter.name.clone(), parameter.stamp()));
            acts.push(Act::Put { key, value: written(&parameter), lease: 0 });
        }
        let over = Defined { conclusion: Some(concluded), ..(*now).clone() };
        acts.insert(0, Act::Put { key, value: written(&over), lease: 0 });
        // Where somebody else was faster, the watch tells of it.
        self.fleet.change(&guards, &acts).await.map(drop)
    }

    /// The fleet's parameters that an experiment promoted, as they were taken over here, where the fleet has older ones.
    fn promoted_here(&self, concluded: &Concluded, defined: &Defined) -> Vec<FleetParameter> {
        let id = plan::id(defined.number);
        let trials = defined.trials.iter().filter(|_| concluded.how == local::PROMOTED);
        let newer = trials.filter_map(|trial| {
            let key = (defined.strategy.clone(), trial.name.clone());
            let here = self.live().parameters.get(&key).cloned()?;
            let stamp = here.fleet.filter(|_| here.experiment == id)?;
            let (strategy, name) = key;
            let known = self.fleets_parameter(&strategy, &name).map(|(_, known)| known.version);
            known.is_none_or(|known| stamp.version > known).then(|| FleetParameter {
                strategy,
                name,
                value: here.value.clone(),
                version: stamp.version,
                at: stamp.at,
                by: here.set_by.clone(),
                reason: here.reason.clone(),
                host: self.fleet.me().host.clone(),
                cause: local::PROMOTED.to_owned(),
                experiment: id.clone(),
                in_test: 0,
            })
        });
        newer.collect()
    }

    /// An experiment of the fleet by its id, as the fleet has it.
    ///
    /// # Errors
    /// `EXPERIMENT_NOT_FOUND`.
    pub(in super::super) fn of_fleet(&self, id: &str) -> Result<(i64, Arc<Defined>)> {
        let number = plan::number(id).or_else(|| {
            // By what it is called here.
            let record = self.one(id).ok()?;
            plan::number(&record.fleet)
        });
        let found = number.and_then(|number| self.fleets_one(number));
        found.ok_or_else(|| {
            let shown: String = id.chars().take(64).collect();
            let message = format!(
                "the fleet has no experiment {shown:?}; `genesisctl experiment list --fleet` shows those that there are"
            );
            Error::not_found("EXPERIMENT_NOT_FOUND", message)
        })
    }
}
