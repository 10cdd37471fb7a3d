//! What the fleet keeps of experiments and parameters, as it is written there.

use genesis_stats::experiment::{Arm, Moments};
use genesis_storage::{ExperimentRecord, FleetVersion, ParameterRecord, RulesRecord, TrialRecord};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::super::plan as local;
use super::super::tally::{Counts, Tally, identity};
use super::plan;
use crate::bits::{MomentBits, bits_of, moments_of};

/// An experiment of the whole fleet: what is asked does not change, how it ended is added.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Defined {
    /// From 1; its id is `FLEET_` and this.
    pub number: u64,
    /// Whose parameters.
    pub strategy: String,
    /// What it tries; the versions are the fleet's.
    pub trials: Vec<TrialRecord>,
    /// The variant's share of the units, in hundredths of a percent.
    pub variant_basis_points: u32,
    /// By what significance is judged.
    pub design: String,
    /// By what it is decided.
    pub rules: RulesRecord,
    /// By what units are assigned, on each host the same.
    pub seed: String,
    /// Names all of the above.
    pub hash: String,
    /// When it began.
    pub started_at: Timestamp,
    /// Who began it.
    pub started_by: String,
    /// Why.
    pub reason: String,
    /// On which host.
    pub host: String,
    /// How it ended; `None` while it goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conclusion: Option<Concluded>,
}

/// How an experiment of the fleet ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Concluded {
    /// When.
    pub at: Timestamp,
    /// As a record has it: "promoted", "rolled back" and so on.
    pub how: String,
    /// Somebody ended it.
    pub forced: bool,
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
    /// The line of the decision table.
    pub line: u8,
    /// The host that found it, or was asked.
    pub host: String,
    /// What all hosts had tallied by then, in the trades' own form (hexadecimal), without the curve.
    pub tally: String,
    /// The fleet's versions of what was promoted, by parameter.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<(String, FleetVersion)>,
}

impl Concluded {
    /// Who ended it, as the hosts say.
    pub fn who(&self) -> String {
        format!("{} by the fleet from {}", self.by, self.host)
    }
}

impl Defined {
    /// Of an experiment as one host would begin it.
    pub fn of(number: u64, record: &ExperimentRecord, host: &str) -> Self {
        Self {
            number,
            strategy: record.strategy.clone(),
            trials: record.trials.clone(),
            variant_basis_points: record.variant_basis_points,
            design: record.design.clone(),
            rules: record.rules.clone(),
            seed: record.seed.clone(),
            hash: record.hash.clone(),
            started_at: record.started_at,
            started_by: record.started_by.clone(),
            reason: record.reason.clone(),
            host: host.to_owned(),
            conclusion: None,
        }
    }

    /// As a host keeps it, under no number of its own yet.
    pub fn record(&self) -> ExperimentRecord {
        ExperimentRecord {
            number: 0,
            strategy: self.strategy.clone(),
            trials: self.trials.clone(),
            variant_basis_points: self.variant_basis_points,
            design: self.design.clone(),
            rules: self.rules.clone(),
            seed: self.seed.clone(),
            owner: plan::owner(self.number),
            hash: self.hash.clone(),
            started_at: self.started_at,
            started_by: self.started_by.clone(),
            reason: self.reason.clone(),
            conclusion: None,
            fleet: plan::id(self.number),
        }
    }

    /// Whether this is what a host has under the same name.
    pub fn is(&self, record: &ExperimentRecord) -> bool {
        record.fleet == plan::id(self.number) && identity(record) == identity(&self.record())
    }

    /// What is wrong with what was read: it can't be begun as it was meant.
    pub fn fault(&self) -> Option<String> {
        let record = self.record();
        if local::hash(&record) != self.hash {
            return Some("its definition is not what its hash names".to_owned());
        }
        Tally::new(&record).err()
    }
}

/// What one host has of an experiment of the fleet: all of it, each time.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Share {
    /// The host's name.
    pub host: String,
    /// Of which experiment: its hash, and when it began. A number comes again where the fleet's state was lost.
    pub of: (String, i64),
    /// Its id there; empty: it has not begun there.
    pub local: String,
    /// Why it has not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub refused: String,
    /// It was ended there alone.
    #[serde(default)]
    pub left: bool,
    /// The control's and the variant's moments, by bits.
    pub arms: [MomentBits; 2],
    /// What does not count.
    pub counts: Counts,
    /// When the last trade ended, in nanoseconds since 1970.
    pub last_trade: Option<i64>,
    /// Units that had trades; `None` where trades have to stand for them.
    pub units: Option<[u64; 2]>,
}

impl Share {
    /// Of what a host has tallied.
    pub fn of(host: &str, record: &ExperimentRecord, tally: &Tally) -> Self {
        Self {
            host: host.to_owned(),
            of: identity(record),
            local: local::id(record.number),
            refused: String::new(),
            left: record.conclusion.is_some(),
            arms: [Arm::Control, Arm::Variant].map(|arm| bits_of(tally.trial.moments(arm))),
            counts: tally.counts,
            last_trade: tally.last_trade,
            units: tally.units(),
        }
    }

    /// Of a host that has not begun it.
    pub fn refused(host: &str, defined: &Defined, why: &str) -> Self {
        Self {
            host: host.to_owned(),
            of: identity(&defined.record()),
            refused: why.to_owned(),
            units: Some([0; 2]),
            ..Self::default()
        }
    }

    /// The moments of both arms; `None`: no trades have such.
    pub fn moments(&self) -> Option<[Moments; 2]> {
        Some([moments_of(&self.arms[0])?, moments_of(&self.arms[1])?])
    }
}

/// What the looks have shown.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Looked {
    /// The token of whoever took the last one.
    pub token: i64,
    /// The host that did.
    pub host: String,
    /// So many hosts had tallied something by then.
    pub hosts: u64,
    /// What all had tallied, and what the looks have shown, in the trades' own form (hexadecimal).
    pub tally: String,
}

/// Who takes the looks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The host's name.
    pub host: String,
    /// Its identity.
    pub host_id: String,
    /// The token of its lock.
    pub token: i64,
    /// Hosts tell what they have tallied at most so often, in seconds.
    pub pace: u64,
}

/// What stands between who set a parameter of the fleet and where.
const FROM: &str = " by the fleet from ";

/// A parameter of the whole fleet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetParameter {
    /// The strategy.
    pub strategy: String,
    /// Its name.
    pub name: String,
    /// The value.
    pub value: String,
    /// From 1, one more with each change.
    pub version: u64,
    /// When it was set.
    pub at: Timestamp,
    /// By whom.
    pub by: String,
    /// Why.
    pub reason: String,
    /// On which host.
    pub host: String,
    /// How it came about: "set", "promoted", "rolled back".
    pub cause: String,
    /// The experiment that promoted it; empty: none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub experiment: String,
    /// The number of the fleet's experiment that it is in; 0: none.
    #[serde(default)]
    pub in_test: u64,
}

impl FleetParameter {
    /// Its version.
    pub fn stamp(&self) -> FleetVersion {
        FleetVersion { version: self.version, at: self.at }
    }

    /// Who set it, as the hosts say.
    pub fn who(&self) -> String {
        format!("{}{FROM}{}", self.by, self.host)
    }

    /// One that a host took over under this stamp, as it was; `None`: this is not what was taken over.
    pub fn taken_over(record: ParameterRecord, stamp: FleetVersion) -> Option<Self> {
        let (by, host) = record.set_by.rsplit_once(FROM)?;
        let (by, host) = (by.to_owned(), host.to_owned());
        let FleetVersion { version, at } = stamp;
        let ParameterRecord { strategy, name, value, reason, cause, experiment, .. } = record;
        let in_test = 0;
        Some(Self {
            strategy,
            name,
            value,
            version,
            at,
            by,
            reason,
            host,
            cause,
            experiment,
            in_test,
        })
    }

    /// Whether a host uses something else.
    pub fn differs(&self, record: Option<&ParameterRecord>) -> bool {
        record.is_none_or(|record| record.value != self.value)
    }
}

/// As it is written. Of texts, numbers and times: it can be.
pub fn written<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

/// Reads what was written.
///
/// # Errors
/// In words.
pub fn read<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    serde_json::from_slice(bytes).map_err(|error| error.to_string())
}

/// A tally as it is written beside other things.
pub fn tally_text(tally: &Tally) -> String {
    hex::encode(tally.to_bytes())
}

/// Reads such a tally.
///
/// # Errors
/// In words.
pub fn tally_of(record: &ExperimentRecord, text: &str) -> Result<Tally, String> {
    let bytes = hex::decode(text).map_err(|error| error.to_string())?;
    let tally = Tally::from_bytes(record, &bytes)?;
    match tally.is_of(record) {
        true => Ok(tally),
        false => Err("it is of another experiment".to_owned()),
    }
}
