//! What a mutating call would do, and the hash that holds it to that.

use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::config::units::parse_duration;
use crate::error::{Error, Result};

/// A change that people ask for has a reason; `what` says of what.
///
/// # Errors
/// `REASON_MISSING`.
pub fn demand_reason(reason: &str, what: &str) -> Result<()> {
    match reason.trim().is_empty() {
        true => Err(Error::invalid("REASON_MISSING", format!("{what}: pass --reason"))),
        false => Ok(()),
    }
}

/// How many rows are asked for; 0: `usual`.
///
/// # Errors
/// `LIMIT_INVALID`.
pub fn limited(asked: u32, usual: usize, most: u32) -> Result<usize> {
    match asked {
        0 => Ok(usual),
        asked if asked <= most => Ok(asked as usize),
        asked => {
            let message = format!("limit must be 1 to {most}, and {asked} was asked for");
            Err(Error::invalid("LIMIT_INVALID", message))
        }
    }
}

/// For how long a change that people ask for lasts, at most so many days.
///
/// # Errors
/// `DURATION_INVALID`.
pub fn lasting(text: &str, days: u64) -> Result<Duration> {
    let invalid = |why: String| Error::invalid("DURATION_INVALID", why);
    match parse_duration(text).map_err(invalid)? {
        lasts if lasts.is_zero() || lasts > Duration::from_secs(days * 86_400) => {
            Err(invalid(format!("{text:?} is not over 0 and at most {days}d")))
        }
        lasts => Ok(lasts),
    }
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanStep {
    /// A verb.
    pub action: String,
    /// What it is done to.
    pub target: String,
    /// Why it is part of the plan.
    pub reason: String,
}

impl PlanStep {
    /// A step in words.
    pub fn new(
        action: impl Into<String>,
        target: impl Into<String>,
        reason: impl Into<String>,
    ) -> Self {
        Self { action: action.into(), target: target.into(), reason: reason.into() }
    }
}

/// What a call would do in the situation as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// In order.
    pub steps: Vec<PlanStep>,
    /// Names these steps in this situation.
    pub hash: String,
}

impl Plan {
    /// A plan for a call of this kind. `situation` is all that the call's effect depends on and that may be
    /// another when the plan is carried out; it becomes part of the hash, as the steps' actions and targets do.
    pub fn new(kind: &str, situation: &[&str], steps: Vec<PlanStep>) -> Self {
        let mut hash = Sha256::new();
        // Each piece with its length, so that no two lists of pieces look the same.
        let mut piece = |text: &str| {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        };
        piece(kind);
        situation.iter().for_each(|text| piece(text));
        for step in &steps {
            piece(&step.action);
            piece(&step.target);
        }
        let hash = hex::encode(hash.finalize())[..16].to_owned();
        Self { steps, hash }
    }

    /// Whether a caller who passes `hash` wants this plan; an empty one takes the plan as it is.
    ///
    /// # Errors
    /// `PLAN_CHANGED`.
    pub fn accept(&self, hash: &str) -> Result<()> {
        accept(&self.hash, hash)
    }
}

/// [`Plan::accept`] where only the hash is at hand.
///
/// # Errors
/// `PLAN_CHANGED`.
pub fn accept(now: &str, wanted: &str) -> Result<()> {
    if wanted.is_empty() || wanted == now {
        return Ok(());
    }
    let message = format!("the plan is {now} now, not {wanted}; nothing was done");
    Err(Error::conflict("PLAN_CHANGED", message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_told_by_its_kind_its_situation_and_its_steps() {
        let step = |target: &str| PlanStep::new("cut", target, "because");
        let plan = Plan::new("a", &["x", "y"], vec![step("1")]);
        for other in [
            Plan::new("b", &["x", "y"], vec![step("1")]),
            Plan::new("a", &["xy"], vec![step("1")]),
            Plan::new("a", &["x", "y"], vec![step("2")]),
            Plan::new("a", &["x", "y"], vec![]),
            Plan::new("a", &["x"], vec![PlanStep::new("y", "cut", "")]),
        ] {
            assert_ne!(plan.hash, other.hash);
            assert_eq!(plan.accept(&other.hash).unwrap_err().code, "PLAN_CHANGED");
        }
        let reworded =
            Plan::new("a", &["x", "y"], vec![PlanStep::new("cut", "1", "in other words")]);
        plan.accept(&reworded.hash).unwrap();
        plan.accept("").unwrap();
    }

    #[test]
    fn a_list_has_an_end() {
        for (asked, rows) in [(0, Some(50)), (1, Some(1)), (1_000, Some(1_000)), (1_001, None)] {
            let limit = limited(asked, 50, 1_000);
            assert_eq!(limit.as_ref().ok(), rows.as_ref(), "{asked}");
            assert!(limit.err().is_none_or(|error| error.code == "LIMIT_INVALID"));
        }
    }
}
