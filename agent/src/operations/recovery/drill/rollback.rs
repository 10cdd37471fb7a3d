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
use crate::runs::drill::{Occasion, Rehearsal, Rehearsed, Scratch, end};
use crate::runs::rollback::choose::Known;
use crate::runs::rollback::{Dispatcher, RollbackPlan, Wish};

/// Practises rollbacks.
pub struct RollbackDrill {
    dispatcher: Dispatcher,
    clock: Arc<dyn Clock>,
    scratches: Vec<Arc<dyn Scratch>>,
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
        // What was never in force here is proven when it is carried out.
        Known::Unknown(_) if planned.care.named && target.unfit.is_empty() => {
            let seen = format!("from {} to {}, the newest", planned.current.id, target.id);
            (DrillOutcome::Passed, seen)
        }
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
        scratches: Vec<Arc<dyn Scratch>>,
        home: PathBuf,
    ) -> Self {
        Self { dispatcher, clock, scratches, home }
    }

    fn scratch(&self, component: &str) -> Option<&Arc<dyn Scratch>> {
        self.scratches.iter().find(|it| it.has(component))
    }

    /// The rollback that is practised. Where nobody but a person chooses the point, it is the newest that is fit, as it
    /// would be for a person after a loss.
    async fn planned(&self, name: &str) -> Result<RollbackPlan> {
        let component = self.dispatcher.component(name).await?;
        let mut wish = Wish::of(name);
        if component.care().named {
            let current = component.current().await?.map(|it| it.id);
            let points = component.points().await?.into_iter();
            let mut fit =
                points.filter(|it| it.unfit.is_empty() && Some(&it.id) != current.as_ref());
            wish.to = fit.next().map(|it| it.id).ok_or_else(|| {
                let message = format!("{name} has no point that could be gone back to");
                Error::not_found("NO_EARLIER_POINT", message)
            })?;
        }
        self.dispatcher.plan(&wish).await
    }
}

#[async_trait]
impl Rehearsal for RollbackDrill {
    fn kind(&self) -> &'static str {
        "rollback"
    }

    fn description(&self) -> &'static str {
        "plan a rollback and check where it goes; carry it out on a copy, without which nothing is proven"
    }

    fn occasion(&self, name: &str) -> Result<Occasion> {
        self.scratch(name).map_or(Ok(Occasion::Always), |scratch| scratch.occasion())
    }

    async fn has(&self, name: &str) -> Result<(), String> {
        if name.is_empty() {
            return Err("name a component, such as \"rollback:config\"".to_owned());
        }
        if let Some(database) = name.strip_prefix("database:") {
            return Err(format!(
                "going back to a backup of {database} is the drill restore:{database}"
            ));
        }
        self.dispatcher.component(name).await.map(|_| ()).map_err(|error| error.message)
    }

    async fn plan(&self, name: &str) -> Result<Vec<PlanStep>> {
        let target = match self.planned(name).await {
            Ok(planned) => format!("{name} {}", planned.target.id),
            Err(error) => {
                return Ok(vec![PlanStep::new("deviate", name, no_plan(&error).1)]);
            }
        };
        let copied = match self.scratch(name) {
            Some(_) => PlanStep::new("apply", target.as_str(), "to a copy, and read back there"),
            None => PlanStep::new("plan", target.as_str(), "only, which proves nothing"),
        };
        let choose = PlanStep::new("choose", target.as_str(), "the last good one before");
        Ok(vec![choose, PlanStep::new("diff", target.as_str(), "what would change"), copied])
    }

    async fn rehearse(&self, name: &str, context: &Context) -> Result<Rehearsed> {
        let mut done = Rehearsed::default();
        let step = context.begin("choose", name).await?;
        let began = self.clock.monotonic();
        let planned = self.planned(name).await;
        let took = self.clock.monotonic().saturating_sub(began);
        let planned = match planned {
            Ok(planned) => planned,
            Err(error) => {
                let (outcome, detail) = no_plan(&error);
                end(step, outcome, &detail).await?;
                done.step("choose", took, outcome, detail);
                return Ok(done);
            }
        };
        let (outcome, detail) = fit(&planned);
        end(step, outcome, &detail).await?;
        done.step("choose", took, outcome, detail);
        let steps: Vec<String> =
            planned.plan.steps.iter().map(|it| format!("{} {}", it.action, it.target)).collect();
        let lines = planned.diff.lines().count();
        let detail = format!("{lines} lines of difference; {}", steps.join(", "));
        done.step("plan", Duration::ZERO, DrillOutcome::Passed, detail);

        context.safe_point()?;
        let Some(scratch) = self.scratch(name) else {
            let why = "planned only: it can't be carried out on a copy";
            done.step("apply", Duration::ZERO, DrillOutcome::Unknown, why);
            return Ok(done);
        };
        if planned.care.named {
            done.went_back_to(planned.target.at, self.clock.now());
        }
        let folder = super::folder(self.home.clone()).await?;
        let step = context.begin("apply", name).await?;
        let began = self.clock.monotonic();
        let gone_back = scratch.go_back(name, &planned.target, folder.path()).await;
        let took = self.clock.monotonic().saturating_sub(began);
        let (outcome, detail) = match gone_back {
            Ok(seen) => (DrillOutcome::Passed, format!("on a copy: {seen}")),
            Err(error) => (DrillOutcome::Failed, error.chain()),
        };
        end(step, outcome, &detail).await?;
        done.step("apply", took, outcome, detail);
        Ok(done)
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::plan::Plan;
    use crate::runs::rollback::{Care, Point};

    #[test]
    fn a_point_passes_only_when_it_is_known_to_be_good_or_is_proven_by_a_copy() {
        use DrillOutcome::{Failed, Passed, Unknown};

        let point = |unfit: &str| Point {
            id: "7".to_owned(),
            at: Timestamp::UNIX_EPOCH,
            by: String::new(),
            description: String::new(),
            digest: String::new(),
            stays: Vec::new(),
            restores: None,
            unfit: unfit.to_owned(),
        };
        let why = || "why".to_owned();
        for (known, named, unfit, expected) in [
            (Known::Good(why()), false, "", Passed),
            (Known::Good(why()), false, "gone", Failed),
            (Known::Bad(why()), false, "", Failed),
            (Known::Bad(why()), true, "", Failed),
            (Known::Unknown(why()), false, "", Unknown),
            (Known::Unknown(why()), true, "", Passed),
            (Known::Unknown(why()), true, "gone", Failed),
        ] {
            let planned = RollbackPlan {
                plan: Plan::new("rollback", &[], Vec::new()),
                target: point(unfit),
                known: known.clone(),
                current: point(""),
                diff: String::new(),
                care: Care { named, ..Care::default() },
                already: false,
            };
            assert_eq!(fit(&planned).0, expected, "{known:?} {named} {unfit}");
        }
    }
}
