//! The drill of a rollback: it goes the way of a real one up to where something would change: the component is found, the
//! point it goes back to is chosen and held to be fit, the steps are planned, the difference is read. What can be carried
//! out on a copy is; the component itself is not touched.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use genesis_storage::DrillOutcome;

use crate::error::{Error, Kind, Result};
use crate::outside::Clock;
use crate::plan::PlanStep;
use crate::runs::Context;
use crate::runs::drill::{Rehearsal, Rehearsed, Scratch};
use crate::runs::rollback::choose::Known;
use crate::runs::rollback::{Dispatcher, RollbackPlan, Wish};

/// Practises rollbacks.
pub struct RollbackDrill {
    dispatcher: Dispatcher,
    clock: Arc<dyn Clock>,
    scratch: Arc<dyn Scratch>,
    home: PathBuf,
}

/// What a plan that there is none of shows.
fn no_plan(error: &Error) -> (DrillOutcome, String) {
    match (error.code, error.kind) {
        ("NO_EARLIER_POINT", _) => {
            (DrillOutcome::Unknown, format!("nothing to go back to yet: {}", error.message))
        }
        (_, Kind::Refused) => (DrillOutcome::Failed, error.message.clone()),
        _ => (DrillOutcome::Unknown, error.chain()),
    }
}

/// What the point that a plan goes to shows.
fn fit(planned: &RollbackPlan) -> (DrillOutcome, String) {
    let target = &planned.target;
    match &planned.known {
        _ if !target.unfit.is_empty() => (DrillOutcome::Failed, target.unfit.clone()),
        Known::Good(why) => {
            (DrillOutcome::Passed, format!("from {} to {}: {why}", planned.current.id, target.id))
        }
        Known::Bad(why) => (DrillOutcome::Failed, why.clone()),
        Known::Unknown(why) => (DrillOutcome::Unknown, why.clone()),
    }
}

impl RollbackDrill {
    /// One over these components.
    pub fn new(
        dispatcher: Dispatcher,
        clock: Arc<dyn Clock>,
        scratch: Arc<dyn Scratch>,
        home: PathBuf,
    ) -> Self {
        Self { dispatcher, clock, scratch, home }
    }
}

#[async_trait]
impl Rehearsal for RollbackDrill {
    fn kind(&self) -> &'static str {
        "rollback"
    }

    fn description(&self) -> &'static str {
        "plan a rollback and check where it goes; carry it out on a copy where that is possible"
    }

    async fn has(&self, name: &str) -> Result<(), String> {
        if name.is_empty() {
            return Err("name a component, such as \"rollback:config\"".to_owned());
        }
        self.dispatcher.component(name).await.map(|_| ()).map_err(|error| error.message)
    }

    async fn plan(&self, name: &str) -> Result<Vec<PlanStep>> {
        let target = match self.dispatcher.plan(&Wish::of(name)).await {
            Ok(planned) => format!("{name} {}", planned.target.id),
            Err(error) => {
                return Ok(vec![PlanStep::new("deviate", name, no_plan(&error).1)]);
            }
        };
        let copied = match self.scratch.has(name) {
            true => PlanStep::new("apply", target.as_str(), "to a copy, and read back there"),
            false => PlanStep::new("plan", target.as_str(), "and nothing is applied"),
        };
        let choose = PlanStep::new("choose", target.as_str(), "the last good one before");
        Ok(vec![choose, PlanStep::new("diff", target.as_str(), "what would change"), copied])
    }

    async fn rehearse(&self, name: &str, context: &Context) -> Result<Rehearsed> {
        let mut done = Rehearsed::default();
        let step = context.begin("choose", name).await?;
        let began = self.clock.monotonic();
        let planned = self.dispatcher.plan(&Wish::of(name)).await;
        let took = self.clock.monotonic().saturating_sub(began);
        let planned = match planned {
            Ok(planned) => planned,
            Err(error) => {
                let (outcome, detail) = no_plan(&error);
                step.done(detail.clone()).await?;
                done.step("choose", took, outcome, detail);
                return Ok(done);
            }
        };
        let (outcome, detail) = fit(&planned);
        step.done(detail.clone()).await?;
        done.step("choose", took, outcome, detail);
        let steps: Vec<String> =
            planned.plan.steps.iter().map(|it| format!("{} {}", it.action, it.target)).collect();
        let lines = planned.diff.lines().count();
        let detail = format!("{lines} lines of difference; {}", steps.join(", "));
        done.step("plan", Duration::ZERO, DrillOutcome::Passed, detail);

        context.safe_point()?;
        if !self.scratch.has(name) {
            let why = "planned, and not applied: it can't be carried out on a copy";
            done.step("apply", Duration::ZERO, DrillOutcome::Passed, why);
            return Ok(done);
        }
        let folder = super::folder(self.home.clone()).await?;
        let step = context.begin("apply", name).await?;
        let began = self.clock.monotonic();
        let gone_back = self.scratch.go_back(name, &planned.target, folder.path()).await;
        let took = self.clock.monotonic().saturating_sub(began);
        let (outcome, detail) = match gone_back {
            Ok(seen) => (DrillOutcome::Passed, format!("on a copy: {seen}")),
            Err(error) => (DrillOutcome::Failed, error.chain()),
        };
        step.done(detail.clone()).await?;
        done.step("apply", took, outcome, detail);
        Ok(done)
    }
}
