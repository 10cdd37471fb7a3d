//! What consumers reported in a stage of a rollout, and what that comes to. Pure.
//!
//! A new matrix need not be better to be used, only no worse: a stage passes once both arms have enough outcomes and
//! nothing shows harm. Harm is told by the sequential test of the experiments (`p_seq`, one-sided), valid at any number of
//! looks, whose error is shared by the stages.

use genesis_stats::correlation::in_canary;
use genesis_stats::experiment::{
    Arm, Design, Look, Moments, Rules, Stage as Looks, State, Trial, split_evidence,
};
use genesis_storage::MatrixRecord;
use serde::{Deserialize, Serialize};

use crate::bits::{MomentBits, StateBits, bits_of, moments_of};

/// The whole, in percent.
pub const WHOLE: u32 = 100;
/// Before there are outcomes enough for the sequential test, only what is as bad as this is harm, by the z of its looks:
/// without any it is in about one of a thousand stages.
const SEVERE: f64 = -4.0;
/// With so many outcomes in both arms.
const SEVERE_LEAST: u64 = 20;
/// Evidence that consumers are not split as they should be, beyond which nothing is made of a stage.
const MISMATCH: f64 = 1_000.0;

/// What came of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// It waits for outcomes.
    Waiting,
    /// The consumers are not split as they should be.
    Held,
    /// It showed no harm.
    Passed,
    /// It showed harm.
    Harmful,
}

/// That a stage is decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decided {
    /// When, in milliseconds since 1970.
    pub at: i64,
    /// Passed or harmful.
    pub verdict: Verdict,
    /// Why.
    pub why: String,
}

impl Decided {
    /// Whether it showed harm.
    pub fn is_harmful(&self) -> bool {
        self.verdict == Verdict::Harmful
    }
}

/// Outcomes that do not count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// They are from before the stage.
    pub late: u64,
    /// They are of versions that are not on trial.
    pub other: u64,
    /// They are none.
    pub rejected: u64,
}

/// A stage that goes on.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    /// What is tried.
    pub version: u64,
    /// Against what.
    pub control: u64,
    /// The share of the consumers that use it.
    pub percent: u32,
    /// When it began, in nanoseconds since 1970.
    pub began: i64,
    /// So many outcomes the smaller arm needs.
    pub needed: u64,
    /// Harm is a p below this.
    pub alpha: f64,
    /// Consumers of the control and of the new matrix that reported.
    pub consumers: [u64; 2],
    /// What does not count.
    pub counts: Counts,
    /// What ended it, if anything.
    pub decided: Option<Decided>,
    trial: Trial,
}

impl Stage {
    /// The last stage of a version, before any outcome. At 100 % nobody uses the control any more: what was reported of
    /// it in the stage before stands for it.
    ///
    /// # Errors
    /// What is wrong with the record.
    pub fn of(record: &MatrixRecord) -> Result<Self, String> {
        let (last, before) = record.stages.split_last().ok_or("it has no stage")?;
        let state = State::new(Design::Sequential);
        let frozen = match before.last() {
            Some(before) if last.percent >= WHOLE && !before.tally.is_empty() => {
                let read: Written =
                    serde_json::from_str(&before.tally).map_err(|error| error.to_string())?;
                moments_of(&read.arms[0]).ok_or("the outcomes of its control are none")?
            }
            _ => Moments::new(),
        };
        let stages = record.rollout.percents.len().max(1) as f64;
        let needed = record.rollout.outcomes;
        Ok(Self {
            version: record.version,
            control: record.control,
            percent: last.percent,
            began: nanos(last.began_at),
            needed,
            alpha: record.rollout.alpha / stages,
            consumers: [0; 2],
            counts: Counts::default(),
            decided: None,
            trial: trial(needed, [frozen, Moments::new()], state)?,
        })
    }

    /// Whether the control's outcomes are of the stage before.
    pub fn is_frozen(&self) -> bool {
        self.percent >= WHOLE
    }

    /// In which arm a version is.
    pub fn arm(&self, version: u64) -> Option<Arm> {
        match version {
            version if version == self.version => Some(Arm::Variant),
            // Who still uses it at the end is no longer like the others.
            version if version == self.control && !self.is_frozen() => Some(Arm::Control),
            _ => None,
        }
    }

    /// Takes an outcome in; whether it counts.
    pub fn record(&mut self, arm: Arm, value: f64) -> bool {
        self.trial.record(arm, value)
    }

    /// A consumer that had not reported before. It counts in the arm that it is assigned to, whatever it still used.
    pub fn new_consumer(&mut self, consumer: &str) {
        let with_it = in_canary(&super::serving::seed(self.version), consumer, self.percent);
        let arm = if with_it { Arm::Variant } else { Arm::Control };
        self.consumers[arm as usize] += 1;
    }

    /// The evidence that those that report are not split as the consumers are: some have fallen silent.
    fn mismatch(&self) -> f64 {
        let canary = f64::from(self.percent.clamp(1, WHOLE)) / f64::from(WHOLE);
        let of_shares = || split_evidence(&self.consumers, &[1.0 - canary, canary]);
        if self.is_frozen() { 0.0 } else { of_shares().unwrap_or(0.0).min(690.0).exp() }
    }

    /// Takes a look, at a time in milliseconds since 1970; whether it decides the stage.
    pub fn look(&mut self, at: i64) -> bool {
        let look = self.trial.look();
        let (verdict, why) = self.judge(&look);
        let decided = matches!(verdict, Verdict::Passed | Verdict::Harmful);
        if decided {
            self.decided = Some(Decided { at, verdict, why });
        }
        decided
    }

    /// As it stands.
    pub fn view(&self) -> (Look, Verdict, String) {
        let look = self.trial.view();
        let (verdict, why) = match &self.decided {
            Some(decided) => (decided.verdict, decided.why.clone()),
            None => self.judge(&look),
        };
        (look, verdict, why)
    }

    /// The chance that looks as bad as these come from a matrix that does no harm.
    pub fn p_harm(look: &Look) -> f64 {
        // It counts both ways that a walk may leave the band, and harm is one of them.
        (look.evidence.down / 2.0).min(1.0)
    }

    fn judge(&self, look: &Look) -> (Verdict, String) {
        let smaller = look.control.n.min(look.variant.n);
        let (p, z) = (Self::p_harm(look), look.comparison.map_or(0.0, |it| it.z_look));
        if p < self.alpha {
            let why =
                format!("worse than the control: p {p:.2e}, below {:.2e}, at any look", self.alpha);
            return (Verdict::Harmful, why);
        }
        // Before the first look that counts, and behind the last, where a stage is held.
        let looking = look.evidence.stage == Looks::Looking;
        if !looking && smaller >= SEVERE_LEAST && z < SEVERE {
            return (Verdict::Harmful, format!("far worse than the control: z {z:.2}"));
        }
        if self.mismatch() > MISMATCH {
            let [control, canary] = self.consumers;
            let why = format!(
                "{canary} of {} consumers report of the new matrix, which {} % should: those that fail may be silent",
                control + canary,
                self.percent
            );
            return (Verdict::Held, why);
        }
        if smaller >= self.needed {
            return (Verdict::Passed, format!("no harm in {smaller} outcomes of each arm"));
        }
        let why = format!("{smaller} of {} outcomes in the smaller arm", self.needed);
        (Verdict::Waiting, why)
    }

    /// As it is written.
    pub fn to_text(&self) -> String {
        let written = Written {
            of: (self.version, self.percent, self.began),
            arms: [Arm::Control, Arm::Variant].map(|arm| bits_of(self.trial.moments(arm))),
            state: StateBits::of(self.trial.state()),
            consumers: self.consumers,
            counts: self.counts,
            decided: self.decided.clone(),
        };
        // Numbers and names of our own always have JSON.
        serde_json::to_string(&written).unwrap_or_default()
    }

    /// Takes over what was written of it; `false`: it is of another stage.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn take_over(&mut self, text: &[u8]) -> Result<bool, String> {
        let read: Written = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        if read.of != (self.version, self.percent, self.began) {
            return Ok(false);
        }
        let moments = |bits: &MomentBits| moments_of(bits).ok_or("its moments are none");
        let arms = [moments(&read.arms[0])?, moments(&read.arms[1])?];
        self.trial = trial(self.needed, arms, read.state.state())?;
        (self.consumers, self.counts, self.decided) = (read.consumers, read.counts, read.decided);
        Ok(true)
    }
}

fn trial(needed: u64, arms: [Moments; 2], state: State) -> Result<Trial, String> {
    let rules = Rules { horizon: needed, cap: needed.saturating_mul(2), ..Rules::default() };
    // How much each consumer reports is its own affair, so that the information at the end may be anything up to that of
    // an endless control: looks count until then, and none of the outcomes that a stage waits for comes behind the last.
    let shares = [1e6, 1.0];
    Trial::restore(arms, state, shares, rules).map_err(|error| error.to_string())
}

/// In nanoseconds since 1970.
pub fn nanos(at: jiff::Timestamp) -> i64 {
    at.as_nanosecond().clamp(i64::MIN.into(), i64::MAX.into()) as i64
}

#[derive(Serialize, Deserialize)]
struct Written {
    of: (u64, u32, i64),
    arms: [MomentBits; 2],
    state: StateBits,
    consumers: [u64; 2],
    counts: Counts,
    decided: Option<Decided>,
}
