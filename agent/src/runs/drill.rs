//! Practising: one interface for whatever can be rehearsed without touching what is in use.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use genesis_storage::{DrillOutcome, DrillStep, Options, Store};
use jiff::Timestamp;
use tokio::sync::watch;

use super::rollback::Point;
use super::{Context, Step};
use crate::error::{Error, Result};
use crate::plan::PlanStep;
use crate::state::State;

/// What a rehearsal has come to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rehearsed {
    /// What was done, in order.
    pub steps: Vec<DrillStep>,
    /// Where it did not go as it should.
    pub deviations: Vec<String>,
    /// How much would have been lost by what was gone back to, the most of all.
    pub rpo: Option<Duration>,
}

impl Rehearsed {
    /// Adds a step that took so long.
    pub fn step(
        &mut self,
        name: impl Into<String>,
        took: Duration,
        outcome: DrillOutcome,
        detail: impl Into<String>,
    ) {
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let (name, detail) = (name.into(), detail.into());
        if outcome != DrillOutcome::Passed {
            self.deviations.push(format!("{name}: {detail}"));
        }
        self.steps.push(DrillStep { name, took_ms, outcome, detail });
    }

    /// That it went back to what is of `then`. What lies ahead was written with a wrong clock: it tells nothing.
    pub fn went_back_to(&mut self, then: Timestamp, now: Timestamp) {
        let age = Duration::try_from(now.duration_since(then)).ok();
        self.rpo = self.rpo.max(age);
    }

    /// How all of it has ended: failed where a step has, unknown where nothing was done or a step could not be seen.
    pub fn outcome(&self) -> DrillOutcome {
        let any = |outcome: DrillOutcome| self.steps.iter().any(|step| step.outcome == outcome);
        match () {
            () if any(DrillOutcome::Failed) => DrillOutcome::Failed,
            () if any(DrillOutcome::Unknown) || self.steps.is_empty() => DrillOutcome::Unknown,
            () => DrillOutcome::Passed,
        }
    }
}

/// Whether there is anything to practise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Occasion {
    /// There always is.
    Always,
    /// There is, since then.
    Since(Timestamp),
    /// There is not yet; why, in words.
    NotYet(String),
}

/// Ends a step of a drill's run as it has gone: only what was seen to work is done.
///
/// # Errors
/// `STORAGE_FAILED`.
pub async fn end(step: Step, outcome: DrillOutcome, detail: &str) -> Result<()> {
    match outcome {
        DrillOutcome::Passed => step.done(detail).await,
        DrillOutcome::Failed | DrillOutcome::Unknown => step.failed(detail).await,
    }
}

/// Drills of one kind. They go the way of the real thing, against a sandbox.
#[async_trait]
pub trait Rehearsal: Send + Sync {
    /// Such as "rollback", of which drills are called "rollback:config".
    fn kind(&self) -> &'static str;
    /// What it does, in a line.
    fn description(&self) -> &'static str;
    /// Whether there is anything to practise by this name. Quick: it is asked whenever drills are listed.
    ///
    /// # Errors
    /// `STORAGE_FAILED`.
    fn occasion(&self, name: &str) -> Result<Occasion> {
        let _ = name;
        Ok(Occasion::Always)
    }
    /// What a drill that was cut off may still hold outside of `folder`, which it has left, in words; `None`: nothing.
    async fn holds(&self, folder: &Path) -> Option<String> {
        let _ = folder;
        None
    }
    /// Gives that back; what was seen of it. It may be done again.
    ///
    /// # Errors
    /// Why it can't be given back now.
    async fn give_back(&self, folder: &Path) -> Result<String> {
        let _ = folder;
        Ok("it held nothing".to_owned())
    }
    /// Whether there is a drill of this name behind the kind; the empty one is the kind itself.
    ///
    /// # Errors
    /// Why there is none, in words.
    async fn has(&self, name: &str) -> Result<(), String>;
    /// What it would do.
    ///
    /// # Errors
    /// A refusal.
    async fn plan(&self, name: &str) -> Result<Vec<PlanStep>>;
    /// Does it. What goes wrong with what is practised is a step that failed; an error is for what kept it from being
    /// practised.
    ///
    /// # Errors
    /// `CANCELLED`, and what kept it from being practised.
    async fn rehearse(&self, name: &str, context: &Context) -> Result<Rehearsed>;
}

/// Copies of components on which a rollback can be carried out.
#[async_trait]
pub trait Scratch: Send + Sync {
    /// Whether there can be a copy of this component.
    fn has(&self, component: &str) -> bool;
    /// Whether there is anything to go back to.
    ///
    /// # Errors
    /// `STORAGE_FAILED`.
    fn occasion(&self) -> Result<Occasion>;
    /// Takes a copy of it in `folder` back, by the code that takes the component back; what was read back there.
    ///
    /// # Errors
    /// What was in the way, and what the copy is at in place of the point.
    async fn go_back(&self, component: &str, to: &Point, folder: &Path) -> Result<String>;
}

/// A state of a drill's own in `folder`.
///
/// # Errors
/// `DRILL_FAILED`.
pub async fn scratch_state(folder: &Path) -> Result<State> {
    let path = folder.join("state.redb");
    let opened = tokio::task::spawn_blocking(move || Store::open(&path, Options::default())).await;
    let failed = || Error::unavailable("DRILL_FAILED", "the drill's state can't be opened");
    let store = opened.map_err(|error| failed().caused_by(error))?;
    let store = store.map_err(|error| failed().caused_by(error))?;
    Ok(State::new(Arc::new(store), watch::channel(0).1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_be_lost_is_the_age_of_the_oldest_that_was_gone_back_to() {
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let mut done = Rehearsed::default();
        done.went_back_to(at(500), at(400));
        assert_eq!(done.rpo, None, "a wrong clock tells nothing");
        for then in [300, 100, 200] {
            done.went_back_to(at(then), at(400));
        }
        assert_eq!(done.rpo, Some(Duration::from_secs(300)));
    }

    #[test]
    fn a_drill_has_passed_only_when_all_of_it_was_seen_to_work() {
        use DrillOutcome::{Failed, Passed, Unknown};

        for (steps, expected) in [
            (&[][..], Unknown),
            (&[Passed], Passed),
            (&[Passed, Unknown], Unknown),
            (&[Unknown, Failed, Passed], Failed),
        ] {
            let mut done = Rehearsed::default();
            for outcome in steps {
                done.step("x", Duration::from_millis(5), *outcome, "y");
            }
            assert_eq!(done.outcome(), expected);
            let odd = steps.iter().filter(|outcome| **outcome != Passed).count();
            assert_eq!(done.deviations.len(), odd);
        }
    }
}
