//! What came of a care, as it is kept and shown.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Whether something is as it should be. Unknown is never a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Truth {
    /// It is.
    Pass,
    /// It is not.
    Fail,
    /// It can't be told.
    Unknown,
}

/// One thing that was measured and judged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// Such as "active-connections".
    pub name: String,
    /// The judgement.
    pub truth: Truth,
    /// As measured; empty where it could not be.
    pub value: String,
    /// What it must be.
    pub limit: String,
    /// What was seen.
    pub evidence: String,
    /// It does not count this time.
    #[serde(default)]
    pub overridden: bool,
    /// How long measuring it took, in microseconds.
    #[serde(default)]
    pub took_us: u64,
}

impl Item {
    /// An item.
    pub fn new(
        name: &str,
        truth: Truth,
        value: impl Into<String>,
        limit: impl Into<String>,
        evidence: impl Into<String>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            truth,
            value: value.into(),
            limit: limit.into(),
            evidence: evidence.into(),
            overridden: false,
            took_us: 0,
        }
    }

    /// Whether it holds nothing back.
    pub fn clear(&self) -> bool {
        self.overridden || self.truth == Truth::Pass
    }
}

/// How one thing that was done to a database ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepOutcome {
    /// Done, and read back.
    Done,
    /// It did not happen, or not as it should.
    Failed,
    /// Left for the next time.
    Deferred,
}

/// One thing that was done to a database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepReport {
    /// Such as "vacuum".
    pub action: String,
    /// To what.
    pub target: String,
    /// How it ended.
    pub outcome: StepOutcome,
    /// Its size before.
    pub bytes_before: u64,
    /// Its size after.
    pub bytes_after: u64,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// In words.
    pub detail: String,
}

/// How a benchmark query went, of 20 times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    /// The query's name.
    pub name: String,
    /// Its median, in microseconds.
    pub p50_us: u64,
    /// Its 95th percentile.
    pub p95_us: u64,
    /// The shape of its plan, a line for each node.
    pub shape: Vec<String>,
    /// The indexes in its plan.
    pub indexes: Vec<String>,
}

/// A benchmark query before and after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Benchmark {
    /// Before; `None`: it was not measured.
    pub before: Option<Measured>,
    /// After; `None`: it could not be.
    pub after: Option<Measured>,
    /// Its name.
    pub name: String,
    /// Its budget in microseconds.
    pub budget_us: u64,
    /// In words; empty: the same.
    pub plan_change: String,
    /// Whether it went well.
    pub truth: Truth,
    /// Why not.
    pub detail: String,
}

/// Something that people should know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// A stable code.
    pub code: String,
    /// What it is about.
    pub subject: String,
    /// In words, with what to do.
    pub message: String,
}

impl Found {
    /// A finding.
    pub fn new(code: &str, subject: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), subject: subject.into(), message: message.into() }
    }
}

/// What was measured before, done, and measured after.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The preflight.
    pub preflight: Vec<Item>,
    /// What was done.
    pub steps: Vec<StepReport>,
    /// The benchmark queries.
    pub benchmarks: Vec<Benchmark>,
    /// The verification.
    pub verification: Vec<Item>,
    /// What people should know; any of it makes a care DEGRADED.
    pub findings: Vec<Found>,
    /// What people may like to know.
    #[serde(default)]
    pub notes: Vec<Found>,
    /// So many steps are kept; of the rest this many are not shown.
    #[serde(default)]
    pub more_steps: u64,
}

/// So many steps of one care are kept.
const STEPS_KEPT: usize = 2_000;

impl Report {
    /// Takes a step in.
    pub fn step(&mut self, step: StepReport) {
        if self.steps.len() < STEPS_KEPT {
            self.steps.push(step);
        } else {
            self.more_steps += 1;
        }
    }

    /// Bytes that are free now and were not before.
    pub fn freed(&self) -> u64 {
        self.steps.iter().map(|step| step.bytes_before.saturating_sub(step.bytes_after)).sum()
    }

    /// How many steps ended so.
    pub fn count(&self, outcome: StepOutcome) -> usize {
        self.steps.iter().filter(|step| step.outcome == outcome).count()
    }
}

/// A time span in microseconds.
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// A size in words.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1_000.0 && unit < UNITS.len() - 1 {
        (value, unit) = (value / 1_024.0, unit + 1);
    }
    let digits = usize::from(unit > 0 && value < 100.0);
    format!("{value:.digits$} {}", UNITS[unit])
}
