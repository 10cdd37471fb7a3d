//! Baselines as components that can be rolled back: what was usual becomes so again, as a new generation.

use std::sync::Arc;

use async_trait::async_trait;
use genesis_storage::{BaselineRecord, Intent};
use sha2::{Digest, Sha256};

use super::verbs::State;
use super::{Baselines, current};
use crate::error::{Error, Result};
use crate::outside::failpoint;
use crate::plan::PlanStep;
use crate::runs::rollback::choose::versioned;
use crate::runs::rollback::{Applied, Brief, Family, Health, Order, Point, Rollback, Way, diff};

/// What a generation's cause is that somebody went back to.
pub const ROLLED_BACK: &str = "rolled back";

impl Baselines {
    /// Puts an earlier generation in force again, as a new one. What is calculated later takes its place as ever.
    ///
    /// # Errors
    /// `OPERATION_NOT_FOUND`, `GENERATION_NOT_FOUND`, `GENERATION_NOT_WHOLE`, `STORAGE_FAILED`.
    pub async fn go_back(
        self: &Arc<Self>,
        operation: &str,
        generation: u32,
        (by, reason): (&str, &str),
    ) -> Result<u32> {
        let number = self.number(operation)?;
        let _calculating = self.calculating.lock().await;
        let _judging = self.judging.lock().await;
        let wanted = self.whole(operation, generation)?;
        let now = self.outside.clock.now();
        let record = BaselineRecord {
            calculated_at: now,
            cause: ROLLED_BACK.to_owned(),
            by: by.to_owned(),
            reason: reason.to_owned(),
            restores: generation,
            ..wanted
        };
        let intent = Intent::new(now, by, "baselines.rolled-back")
            .target(operation)
            .reason(reason)
            .detail(format!("to generation {generation}"));
        let put = record.clone();
        let made =
            self.state.write(intent, move |writing| Ok(writing.baselines().put_next(put)?)).await?;
        failpoint::hit("baselines.rolled-back");
        let in_force = current(BaselineRecord { generation: made, ..record });
        if let Some(standing) = self.live().standings.get_mut(&number) {
            standing.current = in_force;
            standing.pending = Default::default();
        }
        self.begin_anew(number).await?;
        Ok(made)
    }

    /// A generation that can be judged by as it was.
    fn whole(&self, operation: &str, generation: u32) -> Result<BaselineRecord> {
        let all = self.state.read(|it| Ok(it.baselines().generations(operation)?))?;
        let found = all.into_iter().find(|it| it.generation == generation).ok_or_else(|| {
            let message = format!("the baseline of {operation} has no generation {generation}");
            Error::not_found("GENERATION_NOT_FOUND", message)
        })?;
        match unfit(&found) {
            why if why.is_empty() => Ok(found),
            why => {
                let message = format!("generation {generation} of {operation}: {why}");
                Err(Error::refused("GENERATION_NOT_WHOLE", message, Vec::new()))
            }
        }
    }
}

/// Why nobody can go back to a generation; empty: somebody can.
fn unfit(record: &BaselineRecord) -> String {
    match record.hours.is_empty() {
        true => "what was usual by hour of the week is not kept of it any more".to_owned(),
        false => String::new(),
    }
}

/// The baselines of all operations.
pub struct BaselineFamily(pub Arc<Baselines>);

#[async_trait]
impl Family for BaselineFamily {
    fn family(&self) -> &'static str {
        "baseline"
    }

    async fn names(&self) -> Result<Vec<String>> {
        let live = self.0.live();
        let known = live.numbers.iter().filter(|(_, number)| {
            live.standings.get(number).is_some_and(|it| it.current.is_some())
        });
        Ok(known.map(|(name, _)| name.clone()).collect())
    }

    fn member(&self, name: &str) -> Arc<dyn Rollback> {
        Arc::new(Component { baselines: Arc::clone(&self.0), operation: name.to_owned() })
    }
}

struct Component {
    baselines: Arc<Baselines>,
    operation: String,
}

/// Names what windows are judged by: all of it comes from the values in the sketch. It is the same when a generation is
/// not whole any more, and holds no number that a text may round.
fn digest(record: &BaselineRecord) -> String {
    let judged_by = (&record.sketch, &record.from, &record.until, &record.since);
    let bytes = serde_json::to_vec(&judged_by).unwrap_or_default();
    hex::encode(Sha256::digest(bytes))
}

fn point(record: &BaselineRecord) -> Point {
    let p95 = record.all.map(|(_, quantiles)| quantiles[1].0 * 1e3);
    let p95 = p95.map(|it| format!(", p95 {it:.1} ms")).unwrap_or_default();
    Point {
        id: record.generation.to_string(),
        at: record.calculated_at,
        by: record.by.clone(),
        description: format!("{}{p95}", record.cause),
        digest: digest(record),
        stays: Vec::new(),
        restores: (record.restores != 0).then(|| record.restores.to_string()),
        unfit: unfit(record),
    }
}

impl Component {
    fn records(&self) -> Result<Vec<BaselineRecord>> {
        let state = &self.baselines.state;
        let mut all = state.read(|it| Ok(it.baselines().generations(&self.operation)?))?;
        all.reverse();
        Ok(all)
    }

    fn number(&self, point: &Point) -> Result<u32> {
        point.id.parse().map_err(|_| {
            let message = format!("there is no generation {:?}", point.id);
            Error::not_found("POINT_NOT_FOUND", message)
        })
    }
}

#[async_trait]
impl Rollback for Component {
    async fn points(&self) -> Result<Vec<Point>> {
        let mut points: Vec<Point> = self.records()?.iter().map(point).collect();
        versioned(&mut points);
        Ok(points)
    }

    async fn current(&self) -> Result<Option<Point>> {
        Ok(self.records()?.first().map(point))
    }

    async fn brief(&self) -> Result<Brief> {
        let view = self.baselines.get(&self.operation)?;
        let (health, why) = match (view.state, &view.episode) {
            (State::Degraded, Some(episode)) => (Health::Bad, super::episodes::told(episode)),
            (State::Degraded, None) => (Health::Bad, "it has left what is usual".to_owned()),
            (State::Usual, _) => (Health::Good, "its windows are as usual".to_owned()),
            (State::Learning, _) => (Health::Unknown, "what is usual is not known yet".to_owned()),
            (State::Silent, _) => {
                (Health::Unknown, "none of its windows was judged lately".to_owned())
            }
        };
        let records = self.records()?;
        let current = records.first().map(point);
        let changed = current.as_ref().map(|it| (it.at, it.by.clone()));
        Ok(Brief { current, points: records.len(), health, why, changed })
    }

    async fn diff(&self, way: Way<'_>) -> Result<String> {
        let records = self.records()?;
        let shown = |point: &Point| {
            let found = records.iter().find(|it| it.generation.to_string() == point.id);
            let all = found.and_then(|it| it.all);
            let (count, each) = all.unwrap_or_default();
            let each = each.map(|(value, _)| format!("{:.3} ms", value * 1e3));
            let since = found.and_then(|it| it.since).map(|it| it.to_string());
            (count.to_string(), each, since.unwrap_or_default())
        };
        let (from, to) = (shown(way.from), shown(way.to));
        Ok(diff::values(&[
            ("values", &from.0, &to.0),
            ("p50", &from.1[0], &to.1[0]),
            ("p95", &from.1[1], &to.1[1]),
            ("p99", &from.1[2], &to.1[2]),
            ("since", &from.2, &to.2),
        ]))
    }

    async fn plan(&self, way: Way<'_>) -> Result<Vec<PlanStep>> {
        let generation = self.number(way.to)?;
        self.baselines.whole(&self.operation, generation)?;
        Ok(vec![PlanStep::new(
            "put-in-force",
            format!("{}/{generation}", self.operation),
            format!("instead of generation {}; the next calculation takes its place", way.from.id),
        )])
    }

    async fn apply(&self, to: &Point, order: &Order) -> Result<Applied> {
        let (generation, who) = (self.number(to)?, (order.by.as_str(), order.reason.as_str()));
        self.baselines.go_back(&self.operation, generation, who).await?;
        Ok(Applied::default())
    }

    async fn verify(&self, to: &Point) -> Result<String> {
        let kept = self.records()?.into_iter().next();
        let judged_by = self.baselines.get(&self.operation)?.current;
        let same = kept.as_ref().filter(|it| {
            digest(it) == to.digest
                && judged_by.as_ref().is_some_and(|by| by.record.generation == it.generation)
        });
        same.map(|it| format!("windows are judged by generation {}", it.generation)).ok_or_else(
            || {
                let message = format!("{} is not judged by generation {}", self.operation, to.id);
                Error::internal("ROLLBACK_NOT_PROVEN", message)
            },
        )
    }
}
