//! What was tallied of an experiment and what its looks have shown, and how that is kept. Pure. Numbers are kept by their
//! bits, so that what is read is what was written.

use genesis_stats::experiment::{Look, Moments, State, Trial};
use genesis_storage::ExperimentRecord;
use serde::{Deserialize, Serialize};

use super::plan;
use crate::bits::{MomentBits, StateBits, bits_of, moments_of};

/// So many points of the curve are kept; of more, every other one.
pub const CURVE: usize = 200;

/// A look of the past.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// When it was taken, in milliseconds since 1970.
    pub at: i64,
    /// Trades in the smaller arm.
    pub trades: u64,
    /// p_seq.
    pub p: f64,
    /// The lift, where there is one.
    pub lift: Option<f64>,
}

/// What became of trades that do not count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Their ids were there before.
    pub duplicate: u64,
    /// They are too old.
    pub late: u64,
    /// They are none.
    pub rejected: u64,
    /// They came after the end.
    pub after_end: u64,
}

/// What ended an experiment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// The line of the decision table.
    pub line: u8,
    /// When, in milliseconds since 1970.
    pub at: i64,
    /// How; empty: it was not a look that did.
    pub how: String,
}

/// What was tallied.
#[derive(Debug, Clone, PartialEq)]
pub struct Tally {
    /// Both arms, and what the looks have shown.
    pub trial: Trial,
    /// What does not count.
    pub counts: Counts,
    /// When the last trade ended, in nanoseconds since 1970.
    pub last_trade: Option<i64>,
    /// When the last look was taken, in milliseconds since 1970.
    pub looked_at: Option<i64>,
    /// Looks of the past, oldest first.
    pub curve: Vec<Point>,
    /// Of so many looks one is a point of it.
    pub stride: u32,
    /// So many looks were taken since the last point.
    pub since_point: u32,
    /// What ended it.
    pub ended: Option<Ended>,
    /// Trades up to this time, in nanoseconds since 1970, are late: the ids of such were forgotten.
    pub floor: Option<i64>,
    /// Units of the control and the variant that had trades; `None` once a trade came without a unit, so that trades
    /// have to stand for them.
    units: Option<[u64; 2]>,
    /// Of which experiment: its hash, and when it began. A number comes again where the agent's state was lost.
    of: (String, i64),
}

impl Tally {
    /// Before any trade.
    ///
    /// # Errors
    /// What is wrong with the definition.
    pub fn new(record: &ExperimentRecord) -> Result<Self, String> {
        let state = State::new(plan::design(record)?);
        let trial = restored(record, [Moments::new(); 2], state)?;
        let mut new = Self {
            trial,
            counts: Counts::default(),
            last_trade: None,
            looked_at: None,
            curve: Vec::new(),
            stride: 1,
            since_point: 0,
            ended: None,
            floor: None,
            units: Some([0; 2]),
            of: identity(record),
        };
        new.judge_by_units();
        Ok(new)
    }

    /// Units count where each trade names one: many trades of few units say little of how units are split.
    fn judge_by_units(&mut self) {
        self.trial.set_assigned(self.units);
    }

    /// Units of the control and the variant that had trades; `None` where trades have to stand for them.
    pub fn units(&self) -> Option<[u64; 2]> {
        self.units
    }

    /// A trade of a unit that had none before.
    pub fn new_unit(&mut self, arm: Arm) {
        if let Some(units) = &mut self.units {
            units[arm as usize] += 1;
        }
        self.judge_by_units();
    }

    /// A trade that names no unit.
    pub fn without_unit(&mut self) {
        self.units = None;
        self.judge_by_units();
    }

    /// The same looks at other trades: those of several hosts together.
    ///
    /// # Errors
    /// What is wrong with the definition.
    pub fn with(
        self,
        record: &ExperimentRecord,
        arms: [Moments; 2],
        units: Option<[u64; 2]>,
    ) -> Result<Self, String> {
        let trial = restored(record, arms, self.trial.state().clone())?;
        let mut with = Self { trial, units, ..self };
        with.judge_by_units();
        Ok(with)
    }

    /// Whether it is of this experiment, and not of another that had its number.
    pub fn is_of(&self, record: &ExperimentRecord) -> bool {
        self.of == identity(record)
    }

    /// Takes a look, and keeps it as a point of the curve.
    pub fn look(&mut self, at: i64) -> Look {
        let look = self.trial.look();
        self.looked_at = Some(at);
        let trades = look.control.n.min(look.variant.n);
        self.since_point += 1;
        let first = self.curve.is_empty() && trades > 0;
        if first || self.since_point >= self.stride {
            self.since_point = 0;
            if self.curve.len() >= CURVE {
                let mut even = false;
                self.curve.retain(|_| {
                    even = !even;
                    even
                });
                self.stride = self.stride.saturating_mul(2);
            }
            self.curve.push(Point { at, trades, p: look.evidence.p, lift: look.lift.value() });
        }
        look
    }

    /// The look that ended it is the curve's end.
    pub fn end(&mut self, ended: Ended, look: &Look) {
        let trades = look.control.n.min(look.variant.n);
        if self.curve.last().is_none_or(|last| last.at != ended.at || last.trades != trades) {
            self.curve.truncate(CURVE - 1);
            let (p, lift) = (look.evidence.p, look.lift.value());
            self.curve.push(Point { at: ended.at, trades, p, lift });
        }
        self.ended = Some(ended);
    }

    /// As it is written.
    pub fn to_bytes(&self) -> Vec<u8> {
        let record = TallyRecord {
            arms: [Arm::Control, Arm::Variant].map(|arm| bits_of(self.trial.moments(arm))),
            state: StateBits::of(self.trial.state()),
            counts: self.counts,
            last_trade: self.last_trade,
            looked_at: self.looked_at,
            curve: self
                .curve
                .iter()
                .map(|it| (it.at, it.trades, it.p.to_bits(), it.lift.map(f64::to_bits)))
                .collect(),
            stride: self.stride,
            since_point: self.since_point,
            ended: self.ended.clone(),
            floor: self.floor,
            units: self.units,
            of: self.of.clone(),
        };
        // Numbers and names of our own always have JSON.
        serde_json::to_vec(&record).unwrap_or_default()
    }

    /// Reads what was written for this experiment.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_bytes(record: &ExperimentRecord, bytes: &[u8]) -> Result<Self, String> {
        let read: TallyRecord = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        let moments = |bits: &MomentBits| moments_of(bits).ok_or("its moments are none");
        let arms = [moments(&read.arms[0])?, moments(&read.arms[1])?];
        let state = read.state.state();
        if state.design() != plan::design(record)? {
            return Err("it is of another design".to_owned());
        }
        let point = |(at, trades, p, lift): &(i64, u64, u64, Option<u64>)| Point {
            at: *at,
            trades: *trades,
            p: f64::from_bits(*p),
            lift: lift.map(f64::from_bits),
        };
        let mut read = Self {
            trial: restored(record, arms, state)?,
            counts: read.counts,
            last_trade: read.last_trade,
            looked_at: read.looked_at,
            curve: read.curve.iter().map(point).collect(),
            stride: read.stride.max(1),
            since_point: read.since_point,
            ended: read.ended,
            floor: read.floor,
            units: read.units,
            of: read.of,
        };
        read.judge_by_units();
        Ok(read)
    }

    /// Of which experiment a tally is that was written: its hash, and when it began.
    pub fn identity_of(bytes: &[u8]) -> Option<(String, i64)> {
        #[derive(Deserialize)]
        struct Of {
            of: (String, i64),
        }
        serde_json::from_slice::<Of>(bytes).ok().map(|it| it.of)
    }
}

pub use genesis_stats::experiment::Arm;

/// What an experiment is told by from another with its number.
pub fn identity(record: &ExperimentRecord) -> (String, i64) {
    (record.hash.clone(), record.started_at.as_nanosecond().clamp(0, i64::MAX.into()) as i64)
}

fn restored(record: &ExperimentRecord, arms: [Moments; 2], state: State) -> Result<Trial, String> {
    let variant = f64::from(record.variant_basis_points);
    let rules = plan::rules(&record.rules);
    Trial::restore(arms, state, [10_000.0 - variant, variant], rules)
        .map_err(|error| error.to_string())
}

/// A day's moments, as they are written.
pub fn day_to_bytes(arms: &[Moments; 2]) -> Vec<u8> {
    // As above.
    serde_json::to_vec(&arms.each_ref().map(bits_of)).unwrap_or_default()
}

/// Reads a day's moments; `None` for what was not written so.
pub fn day_from_bytes(bytes: &[u8]) -> Option<[Moments; 2]> {
    let arms: [MomentBits; 2] = serde_json::from_slice(bytes).ok()?;
    Some([moments_of(&arms[0])?, moments_of(&arms[1])?])
}

#[derive(Serialize, Deserialize)]
struct TallyRecord {
    arms: [MomentBits; 2],
    state: StateBits,
    counts: Counts,
    last_trade: Option<i64>,
    looked_at: Option<i64>,
    curve: Vec<(i64, u64, u64, Option<u64>)>,
    stride: u32,
    since_point: u32,
    ended: Option<Ended>,
    floor: Option<i64>,
    units: Option<[u64; 2]>,
    #[serde(default)]
    of: (String, i64),
}
