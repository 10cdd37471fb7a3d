//! What people hear of experiments and parameters of the fleet.

use genesis_storage::FleetVersion;
use jiff::Timestamp;

use super::super::{Experiments, RUNBOOK};
use super::plan;
use super::record::FleetParameter;
use crate::events::{Condition, Severity};

/// What is not here as the fleet says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// Its code.
    pub code: &'static str,
    /// Of what.
    pub subject: String,
    /// In words.
    pub message: String,
    /// Since when; `None`: it was not noted.
    pub since: Option<Timestamp>,
}

impl Experiments {
    /// What the fleet says of a parameter, and why this host uses another value.
    pub fn fleets_value(
        &self,
        record: &genesis_storage::ParameterRecord,
    ) -> Option<(FleetParameter, String)> {
        let (_, parameter) = self.fleets_parameter(&record.strategy, &record.name)?;
        let why = self.waits(&parameter, record);
        Some(((*parameter).clone(), why))
    }

    /// What is not here as the fleet says.
    pub fn fleet_troubles(&self) -> Vec<Trouble> {
        let mut troubles: Vec<Trouble> = Vec::new();
        let fleet = self.fleets();
        let parameters = self.fleets_parameters();
        {
            let part = self.part();
            let unreadable = [part.defined.unreadable(), part.parameters.unreadable()];
            troubles.extend(unreadable.into_iter().flatten().map(|(key, why)| Trouble {
                code: "FLEET_RECORD_UNREADABLE",
                subject: key,
                message: format!("what the fleet says can't be read by this agent: {why}"),
                since: None,
            }));
            let going = fleet.iter().filter(|it| it.conclusion.is_none());
            troubles.extend(going.filter_map(|defined| {
                let (why, since) = part.refused.get(&defined.number)?;
                let id = plan::id(defined.number);
                Some(Trouble {
                    code: "EXPERIMENT_NOT_BEGUN",
                    message: format!("{id} goes on in the fleet and has not begun here: {why}"),
                    subject: id,
                    since: Some(*since),
                })
            }));
        }
        troubles.extend(self.forgotten_parameters());
        for parameter in parameters {
            let key = (parameter.strategy.clone(), parameter.name.clone());
            let record = self.live().parameters.get(&key).cloned();
            // The variant of what was promoted is waited for no longer than the fleet's value.
            let (value, why) = match &record {
                Some(record) => (format!("{:?}", record.value), self.waits(&parameter, record)),
                None => {
                    let waiting = self.part().waiting.get(&key).map(|(why, _)| why.clone());
                    ("nothing".to_owned(), waiting.unwrap_or_default())
                }
            };
            if why.is_empty() {
                continue;
            }
            troubles.push(Trouble {
                code: "PARAMETER_DIFFERS",
                subject: format!("{}/{}", parameter.strategy, parameter.name),
                message: format!(
                    "{} of {} is {value} here and {:?} in the fleet (version {}): {why}",
                    parameter.name, parameter.strategy, parameter.value, parameter.version
                ),
                since: self.part().waiting.get(&key).map(|(_, since)| *since),
            });
        }
        troubles
    }

    /// What was taken over from the fleet, is in force here, and is not known there at all: other hosts may use anything.
    fn forgotten_parameters(&self) -> Vec<Trouble> {
        if !self.fleet.is_open() {
            return Vec::new();
        }
        let here: Vec<(genesis_storage::ParameterRecord, FleetVersion)> = {
            let live = self.live();
            let taken = live.parameters.values().filter_map(|it| Some((it.clone(), it.fleet?)));
            taken.collect()
        };
        let there = self.parameter_keys();
        let forgotten = here.into_iter().filter_map(|(record, taken)| {
            let taken = FleetParameter::taken_over(record, taken)?;
            let FleetParameter { strategy, name, value, version, .. } = &taken;
            if there.contains(&self.fleet.keys().parameter(strategy, name)) {
                return None;
            }
            Some(Trouble {
                code: "PARAMETER_DIFFERS",
                subject: format!("{strategy}/{name}"),
                message: format!(
                    "{name} of {strategy} is {value:?} here, version {version} of the fleet, which does not know it: set it anew \
                     with `genesisctl param set --fleet --strategy {strategy} {name}=VALUE`, or without --fleet where it is no \
                     concern of the fleet any more"
                ),
                since: None,
            })
        });
        forgotten.collect()
    }

    /// The conditions of all that.
    pub(in super::super) fn fleet_conditions(&self) -> Vec<Condition> {
        let now = self.now();
        let condition = |key: String, subject: String, severity, title, details, since| Condition {
            key,
            subject,
            severity,
            title,
            details,
            runbook: RUNBOOK.to_owned(),
            since,
            behind: Vec::new(),
        };
        let mut all = Vec::new();
        for trouble in self.fleet_troubles() {
            let what = match trouble.code {
                "EXPERIMENT_NOT_BEGUN" => "not-begun",
                "PARAMETER_DIFFERS" => "differs",
                _ => "unreadable",
            };
            let title = match what {
                "not-begun" => format!("{} of the fleet has not begun here", trouble.subject),
                "differs" => format!("{} is not what the fleet uses", trouble.subject),
                _ => "what the fleet says can't be read".to_owned(),
            };
            all.push(condition(
                format!("experiments/fleet/{what}/{}", trouble.subject),
                trouble.subject,
                Severity::Medium,
                title,
                vec![trouble.message],
                trouble.since.unwrap_or(now),
            ));
        }
        for record in self.unwatched_of_fleet() {
            let id = record.fleet.clone();
            let details = vec![
                "the variant is used on here, and what the fleet decides does not reach this host"
                    .to_owned(),
                format!(
                    "genesisctl experiment conclude --test-id {id} --action rollback takes it back on this host alone"
                ),
            ];
            let title = format!("{id} goes on, and the fleet that decides it is lost");
            let key = format!("experiments/fleet/unwatched/{id}");
            all.push(condition(key, id, Severity::Medium, title, details, now));
        }
        all
    }
}
