//! Rollback: one interface for everything that keeps generations, and the dispatcher over it.

use std::sync::Arc;

use async_trait::async_trait;
use genesis_storage::Intent;
use jiff::Timestamp;

use crate::error::{Error, Result};
use crate::plan::{Plan, PlanStep};

/// A state that a component can go back to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    /// The generation's name within its component.
    pub id: String,
    /// When it came about.
    pub at: Timestamp,
    /// What it is, in a line.
    pub description: String,
    /// Equal content has an equal digest: "differs from the current" is decided by it.
    pub digest: String,
    /// Whether it was known to be good.
    pub good: bool,
}

/// What a rollback would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RollbackPlan {
    /// The steps, and the hash that names them in this situation.
    pub plan: Plan,
    /// Where it goes.
    pub target: Point,
    /// Where it comes from.
    pub current: Point,
    /// What changes, as a unified diff.
    pub diff: String,
}

/// A component that can be taken back.
#[async_trait]
pub trait Rollback: Send + Sync {
    /// Such as "config".
    fn component(&self) -> &'static str;
    /// The points there are, newest first.
    async fn points(&self) -> Result<Vec<Point>>;
    /// The point in force; `None` before the first.
    async fn current(&self) -> Result<Option<Point>>;
    /// What would change, as a unified diff.
    async fn diff(&self, from: &Point, to: &Point) -> Result<String>;
    /// The steps to a point, or a refusal.
    async fn plan(&self, from: &Point, to: &Point) -> Result<Vec<PlanStep>>;
    /// Carries the steps out; the state before stays a point.
    async fn apply(&self, to: &Point, intent: Intent) -> Result<()>;
    /// Reads back that the component is at the point; says what it saw.
    async fn verify(&self, to: &Point) -> Result<String>;
}

/// All components, by name.
#[derive(Clone, Default)]
pub struct Dispatcher {
    components: Vec<Arc<dyn Rollback>>,
}

impl Dispatcher {
    /// A dispatcher over these components.
    pub fn new(components: Vec<Arc<dyn Rollback>>) -> Self {
        Self { components }
    }

    /// Every component.
    pub fn components(&self) -> &[Arc<dyn Rollback>] {
        &self.components
    }

    /// The component of this name.
    ///
    /// # Errors
    /// `COMPONENT_NOT_FOUND` with the names there are.
    pub fn component(&self, name: &str) -> Result<&Arc<dyn Rollback>> {
        self.components.iter().find(|component| component.component() == name).ok_or_else(|| {
            let known: Vec<&str> =
                self.components.iter().map(|component| component.component()).collect();
            Error::not_found(
                "COMPONENT_NOT_FOUND",
                format!("there is no component {name:?}; there are: {}", known.join(", ")),
            )
        })
    }

    /// Plans a rollback to `to`, or when that is empty to the last good point that differs from the current.
    ///
    /// # Errors
    /// `COMPONENT_NOT_FOUND`, `POINT_NOT_FOUND`, `NO_EARLIER_POINT`, or the component's refusal.
    pub async fn plan(&self, name: &str, to: &str) -> Result<RollbackPlan> {
        let component = self.component(name)?;
        let points = component.points().await?;
        let current = component.current().await?.ok_or_else(|| {
            Error::not_found(
                "NO_EARLIER_POINT",
                format!("{name} has no recorded state yet, so there is nothing to go back to"),
            )
        })?;
        let target = choose(&points, &current, to).map_err(|error| match error {
            Choice::Unknown => Error::not_found(
                "POINT_NOT_FOUND",
                format!("{name} has no point {to:?}; `genesisctl rollback components` lists them"),
            ),
            Choice::NoneEarlier => Error::not_found(
                "NO_EARLIER_POINT",
                format!("{name} has no earlier point that differs from the current one"),
            ),
        })?;
        let steps = component.plan(&current, &target).await?;
        let diff = component.diff(&current, &target).await?;
        let points = [&current.id, &current.digest, &target.id, &target.digest];
        let situation: Vec<&str> =
            std::iter::once(name).chain(points.map(String::as_str)).collect();
        let plan = Plan::new("rollback", &situation, steps);
        Ok(RollbackPlan { plan, target, current, diff })
    }

    /// Carries out a rollback and reads it back. A non-empty `plan_hash` must be the plan's as it is now.
    ///
    /// # Errors
    /// Those of [`Dispatcher::plan`], `PLAN_CHANGED`, and the component's own.
    pub async fn roll_back(
        &self,
        name: &str,
        to: &str,
        plan_hash: &str,
        intent: Intent,
    ) -> Result<(RollbackPlan, String)> {
        let plan = self.plan(name, to).await?;
        plan.plan.accept(plan_hash)?;
        let component = self.component(name)?;
        let detail = format!("from {} to {}", plan.current.id, plan.target.id);
        component.apply(&plan.target, intent.target(name).detail(detail)).await?;
        let seen = component.verify(&plan.target).await?;
        Ok((plan, seen))
    }
}

enum Choice {
    Unknown,
    NoneEarlier,
}

fn choose(points: &[Point], current: &Point, to: &str) -> Result<Point, Choice> {
    if to.is_empty() {
        let earlier =
            points.iter().filter(|point| point.id != current.id && point.at <= current.at);
        let mut candidates = earlier.filter(|point| point.good && point.digest != current.digest);
        return candidates.next().cloned().ok_or(Choice::NoneEarlier);
    }
    points.iter().find(|point| point.id == to).cloned().ok_or(Choice::Unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(id: &str, hour: i64, digest: &str, good: bool) -> Point {
        Point {
            id: id.into(),
            at: Timestamp::from_second(hour * 3600).unwrap(),
            description: String::new(),
            digest: digest.into(),
            good,
        }
    }

    #[test]
    fn the_default_target_is_the_last_good_point_that_differs() {
        let points = [
            point("5", 5, "b", true),
            point("4", 4, "b", true),
            point("3", 3, "bad", false),
            point("2", 2, "a", true),
        ];
        let chosen = choose(&points, &points[0], "").ok().unwrap();
        assert_eq!(chosen.id, "2", "4 equals the current one and 3 was not good");
        assert!(matches!(choose(&points, &points[3], ""), Err(Choice::NoneEarlier)));
        assert!(matches!(choose(&points, &points[0], "9"), Err(Choice::Unknown)));
    }
}
