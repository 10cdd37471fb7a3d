//! Experiments and parameters of the whole fleet. What is asked, how it ended and what values are in force is among the keys
//! that every member follows; each host begins, ends and sets the same here (`follow`). Each tells what it has tallied
//! (`tell`), and whoever holds an experiment's lock takes the looks at all of it (`owner`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use genesis_storage::{ExperimentRecord, ParameterRecord};
use jiff::Timestamp;
use serde::de::DeserializeOwned;

use super::Experiments;
use crate::error::{Error, Result};
use crate::fleet::{Fleet, Standing};

mod ask;
mod follow;
mod owner;
pub mod plan;
pub mod record;
mod set;
mod tell;
mod told;
pub mod view;

#[cfg(test)]
pub(super) use owner::Looking;
use record::{Defined, FleetParameter, Owner};
#[cfg(test)]
pub(super) use tell::Told;

/// How often all is compared when nothing is heard.
const LOOK: Duration = Duration::from_secs(1);

/// What this host knows of its part in the fleet's experiments.
#[derive(Default)]
pub(super) struct Part {
    defined: Parsed<Defined>,
    parameters: Parsed<FleetParameter>,
    /// What has not begun here, and why, since when.
    refused: BTreeMap<u64, (String, Timestamp)>,
    /// What was not taken over here, and why, since when.
    waiting: BTreeMap<(String, String), (String, Timestamp)>,
    /// Whether this host has been connected and has compared everything once.
    settled: bool,
}

/// Keys that were read, each once for each time that it changed.
struct Parsed<T>(BTreeMap<String, Read<T>>);

/// A key as it was read.
struct Read<T> {
    modified: i64,
    /// Revisions come again where etcd was put back to an earlier state.
    value: Vec<u8>,
    read: Result<Arc<T>, String>,
}

impl<T> Default for Parsed<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: DeserializeOwned> Parsed<T> {
    fn refresh(&mut self, fleet: &Fleet, prefix: &str) {
        let mut there = BTreeMap::new();
        fleet.each_common(prefix, |entry| {
            let known = self.0.remove(&entry.key).filter(|known| known.value == entry.value);
            let read = match known {
                Some(known) => known.read,
                None => record::read(&entry.value).map(Arc::new),
            };
            let read = Read { modified: entry.modified, value: entry.value.clone(), read };
            there.insert(entry.key.clone(), read);
        });
        self.0 = there;
    }

    /// All that can be read.
    fn all(&self) -> Vec<Arc<T>> {
        self.0.values().filter_map(|it| it.read.as_ref().ok().cloned()).collect()
    }

    /// A key, with the revision that changed it last.
    fn get(&self, key: &str) -> Option<(i64, Arc<T>)> {
        let known = self.0.get(key)?;
        Some((known.modified, Arc::clone(known.read.as_ref().ok()?)))
    }

    /// The keys that can't be read, and why.
    fn unreadable(&self) -> Vec<(String, String)> {
        let bad = self
            .0
            .iter()
            .filter_map(|(key, it)| Some((key.clone(), it.read.as_ref().err()?.clone())));
        bad.collect()
    }
}

impl Experiments {
    pub(super) fn part(&self) -> MutexGuard<'_, Part> {
        // Each change of it is complete in itself.
        self.part.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The experiments that the fleet has, as far as that is known, by number.
    pub(super) fn fleets(&self) -> Vec<Arc<Defined>> {
        let mut part = self.part();
        part.defined.refresh(&self.fleet, &self.fleet.keys().experiments());
        part.defined.all()
    }

    /// One of them, with the revision that changed it last.
    fn fleets_one(&self, number: u64) -> Option<(i64, Arc<Defined>)> {
        let mut part = self.part();
        part.defined.refresh(&self.fleet, &self.fleet.keys().experiments());
        part.defined.get(&self.fleet.keys().experiment(number))
    }

    /// The parameters that the fleet has, as far as that is known, by strategy and name.
    pub(super) fn fleets_parameters(&self) -> Vec<Arc<FleetParameter>> {
        let mut part = self.part();
        part.parameters.refresh(&self.fleet, &self.fleet.keys().parameters());
        part.parameters.all()
    }

    /// The keys of all parameters that the fleet has, also of those that can't be read.
    fn parameter_keys(&self) -> BTreeSet<String> {
        let mut part = self.part();
        part.parameters.refresh(&self.fleet, &self.fleet.keys().parameters());
        part.parameters.0.keys().cloned().collect()
    }

    /// One of them, with the revision that changed it last.
    pub(super) fn fleets_parameter(
        &self,
        strategy: &str,
        name: &str,
    ) -> Option<(i64, Arc<FleetParameter>)> {
        let mut part = self.part();
        part.parameters.refresh(&self.fleet, &self.fleet.keys().parameters());
        part.parameters.get(&self.fleet.keys().parameter(strategy, name))
    }

    /// The number of the fleet's experiment that a parameter of the fleet is in, if that goes on.
    fn fleets_test(&self, parameter: &FleetParameter) -> Option<u64> {
        let number = Some(parameter.in_test).filter(|number| *number != 0)?;
        let (_, defined) = self.fleets_one(number)?;
        defined.conclusion.is_none().then_some(number)
    }

    /// Who takes the looks at an experiment, as far as that is known.
    pub(super) fn fleets_owner(&self, number: u64) -> Option<Owner> {
        let entry = self.fleet.known(&self.fleet.keys().owner(number))?;
        record::read(&entry.value).ok()
    }

    /// What this host has of an experiment of the fleet.
    pub(super) fn here(&self, defined: &Defined) -> Option<Arc<ExperimentRecord>> {
        let live = self.live();
        live.known.values().rev().find(|record| defined.is(record)).cloned()
    }

    /// Why the fleet's value of a parameter is not in force here; empty: it is.
    pub(super) fn waits(&self, parameter: &FleetParameter, record: &ParameterRecord) -> String {
        if !parameter.differs(Some(record)) {
            return String::new();
        }
        let key = (parameter.strategy.clone(), parameter.name.clone());
        match self.part().waiting.get(&key) {
            Some((why, _)) => why.clone(),
            None if plan::takes_over(parameter, Some(record)) => "it is taken over now".to_owned(),
            None => "another value was set here while the fleet could not be reached".to_owned(),
        }
    }

    /// Refuses to change on this host alone what is the whole fleet's. While the fleet can't be reached it may be changed
    /// here: a value that does harm can't wait for etcd.
    ///
    /// # Errors
    /// `PARAMETER_OF_FLEET`.
    pub(super) fn own_parameter(&self, strategy: &str, name: &str) -> Result<()> {
        if !self.fleet.is_open() || self.fleets_parameter(strategy, name).is_none() {
            return Ok(());
        }
        let message = format!(
            "{name} of {strategy} is the whole fleet's: change it there with `genesisctl param set --fleet --strategy \
             {strategy} {name}=VALUE`, or `genesisctl param rollback --fleet`"
        );
        Err(Error::conflict("PARAMETER_OF_FLEET", message))
    }

    /// Refuses to end on this host alone what the whole fleet decides. While the fleet can't be reached, or does not know it,
    /// its variant may be taken back here, but not promoted.
    ///
    /// # Errors
    /// `EXPERIMENT_OF_FLEET`.
    pub(super) fn own_end(&self, record: &ExperimentRecord, promote: bool) -> Result<()> {
        if record.fleet.is_empty() || !self.fleet.is_configured() {
            return Ok(());
        }
        let known = || self.fleets().iter().any(|defined| defined.is(record));
        if !(promote || self.fleet.is_open() && known()) {
            return Ok(());
        }
        let message = format!(
            "{} is the whole fleet's: end it there with `genesisctl experiment conclude --fleet --test-id {} --action {}`",
            record.fleet,
            record.fleet,
            if promote { "promote" } else { "rollback" }
        );
        Err(Error::conflict("EXPERIMENT_OF_FLEET", message))
    }

    /// Experiments of the fleet whose looks nobody can know of here, since the fleet is lost.
    pub(super) fn unwatched_of_fleet(&self) -> Vec<Arc<ExperimentRecord>> {
        if !matches!(self.fleet.standing(), Standing::Lost(_)) {
            return Vec::new();
        }
        let live = self.live();
        let of_fleet = live.known.values();
        let of_fleet = of_fleet.filter(|it| !it.fleet.is_empty() && it.conclusion.is_none());
        of_fleet.cloned().collect()
    }

    /// Follows the fleet for ever; on a host that is on its own there is none.
    pub(super) async fn serve_fleet(self: &Arc<Self>) {
        if !self.fleet.is_configured() {
            return;
        }
        // One that waits for etcd keeps none of the others waiting.
        tokio::join!(self.follow_fleet(), self.tell_fleet(), self.look_for_fleet());
    }

    async fn follow_fleet(self: &Arc<Self>) {
        let (mut fleet, mut own) = (self.fleet.follow(), self.revisions());
        loop {
            if let Err(error) = self.settle_fleet().await {
                let error = error.chain();
                tracing::error!(
                    error,
                    "experiments and parameters of the fleet could not be settled"
                );
            }
            tokio::select! {
                biased;
                _ = fleet.changed() => {}
                _ = own.changed() => {}
                () = self.outside.clock.tick(LOOK) => {}
            }
        }
    }
}
