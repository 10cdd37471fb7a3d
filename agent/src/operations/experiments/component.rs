//! Parameters as components that can be rolled back: by the verb that people go back with.

use std::sync::Arc;

use async_trait::async_trait;
use genesis_storage::ParameterRecord;

use super::{Experiments, plan};
use crate::error::{Error, Result};
use crate::plan::PlanStep;
use crate::runs::rollback::choose::versioned;
use crate::runs::rollback::{Applied, Brief, Family, Health, Order, Point, Rollback, Way, diff};

/// The parameters of all strategies. Neither a strategy nor a parameter has a dot in its name.
pub struct ParameterFamily(pub Arc<Experiments>);

#[async_trait]
impl Family for ParameterFamily {
    fn family(&self) -> &'static str {
        "parameter"
    }

    async fn names(&self) -> Result<Vec<String>> {
        let live = self.0.live();
        Ok(live.parameters.keys().map(|(strategy, name)| format!("{strategy}.{name}")).collect())
    }

    async fn has(&self, name: &str) -> Result<bool> {
        let (strategy, name) = split(name);
        Ok(self.0.live().parameters.contains_key(&(strategy, name)))
    }

    fn member(&self, name: &str) -> Arc<dyn Rollback> {
        let (strategy, name) = split(name);
        Arc::new(Component { experiments: Arc::clone(&self.0), strategy, name })
    }
}

fn split(name: &str) -> (String, String) {
    let (strategy, name) = name.split_once('.').unwrap_or((name, ""));
    (strategy.to_owned(), name.to_owned())
}

struct Component {
    experiments: Arc<Experiments>,
    strategy: String,
    name: String,
}

fn point(record: &ParameterRecord) -> Point {
    let restores = (record.restores != 0).then(|| record.restores.to_string());
    Point {
        id: record.version.to_string(),
        at: record.set_at,
        by: record.set_by.clone(),
        description: format!("{:?}, {}", record.value, record.cause),
        digest: record.value.clone(),
        stays: Vec::new(),
        restores,
        unfit: String::new(),
    }
}

/// The points of versions, the newest first. Which one a version went back to was not always kept: then it is the newest
/// before it of the same value.
fn points(versions: &[ParameterRecord]) -> Vec<Point> {
    let mut points: Vec<Point> = versions.iter().map(point).collect();
    for at in 0..points.len() {
        if versions[at].cause == plan::ROLLED_BACK && points[at].restores.is_none() {
            let same = points[at + 1..].iter().find(|it| it.digest == points[at].digest);
            points[at].restores = same.map(|it| it.id.clone());
        }
    }
    versioned(&mut points);
    points
}

impl Component {
    fn versions(&self) -> Result<Vec<ParameterRecord>> {
        let read = |it: &genesis_storage::Reading<'_>| {
            Ok(it.parameters().versions(&self.strategy, &self.name)?)
        };
        let mut versions = self.experiments.state.read(read)?;
        versions.reverse();
        Ok(versions)
    }

    fn number(&self, point: &Point) -> Result<u64> {
        point.id.parse().map_err(|_| {
            let message = format!("there is no version {:?}", point.id);
            Error::not_found("POINT_NOT_FOUND", message)
        })
    }
}

#[async_trait]
impl Rollback for Component {
    async fn points(&self) -> Result<Vec<Point>> {
        Ok(points(&self.versions()?))
    }

    async fn current(&self) -> Result<Option<Point>> {
        let read = |it: &genesis_storage::Reading<'_>| {
            Ok(it.parameters().current(&self.strategy, &self.name)?)
        };
        Ok(self.experiments.state.read(read)?.as_ref().map(point))
    }

    async fn brief(&self) -> Result<Brief> {
        let current = self.current().await?;
        // Versions go up by one, and the oldest are forgotten.
        let newest = current.as_ref().and_then(|it| it.id.parse::<u64>().ok()).unwrap_or(0);
        let points = newest.min(genesis_storage::KEPT_VERSIONS) as usize;
        let test = {
            let live = self.experiments.live();
            live.running()
                .find(|it| {
                    it.strategy == self.strategy && it.trials.iter().any(|it| it.name == self.name)
                })
                .map(|it| plan::id(it.number))
        };
        let why = match test {
            Some(test) => format!("{test} finds out"),
            None => "nothing measures what a value does outside of an experiment".to_owned(),
        };
        let changed = current.as_ref().map(|it| (it.at, it.by.clone()));
        Ok(Brief { current, points, health: Health::Unknown, why, changed })
    }

    async fn diff(&self, way: Way<'_>) -> Result<String> {
        Ok(diff::values(&[(&self.name, &way.from.digest, &way.to.digest)]))
    }

    async fn plan(&self, way: Way<'_>) -> Result<Vec<PlanStep>> {
        let to = self.number(way.to)?;
        Ok(self.experiments.plan_going_back(&self.strategy, &self.name, to)?.steps)
    }

    async fn apply(&self, to: &Point, order: &Order) -> Result<Applied> {
        let way = (self.strategy.as_str(), self.name.as_str(), self.number(to)?);
        self.experiments.go_back(way, "", (&order.by, &order.reason)).await?;
        Ok(Applied::default())
    }

    async fn verify(&self, to: &Point) -> Result<String> {
        let kept = self.current().await?;
        let key = (self.strategy.clone(), self.name.clone());
        // What strategies get comes from memory.
        let used = self.experiments.live().parameters.get(&key).map(|it| it.value.clone());
        match (kept, used) {
            (Some(kept), Some(used)) if kept.digest == to.digest && used == to.digest => {
                Ok(format!("version {} is in force: {used:?}", kept.id))
            }
            (kept, used) => {
                let kept = kept.map(|it| it.digest);
                let message = format!("{kept:?} is kept and {used:?} is used, not {:?}", to.digest);
                Err(Error::internal("ROLLBACK_NOT_PROVEN", message))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::runs::rollback::choose::{Evidence, default_target};

    #[test]
    fn a_version_of_before_the_field_is_told_by_its_value() {
        let version = |version: u64, value: &str, cause: &str| ParameterRecord {
            version,
            value: value.to_owned(),
            cause: cause.to_owned(),
            set_at: Timestamp::from_second(version as i64 * 3_600).unwrap(),
            ..ParameterRecord::default()
        };
        let versions = [
            version(4, "2", plan::ROLLED_BACK),
            version(3, "3", "set"),
            version(2, "2", "set"),
            version(1, "1", "set"),
        ];
        let points = points(&versions);
        assert_eq!(points[0].restores.as_deref(), Some("2"));
        assert!(points[1].stays[0].left);
        let now = Timestamp::from_second(99 * 3_600).unwrap();
        let ran = vec![(Timestamp::MIN, Timestamp::MAX)];
        let evidence = Evidence { ran, ..Evidence::default() };
        let at = (now, std::time::Duration::from_secs(60));
        let target = default_target(&points, &points[0], at, &evidence);
        assert_eq!(target.unwrap().id, "1");
    }
}
