//! The active matrix as a component that can be rolled back: by the verb that people go back with.

use std::sync::Arc;

use async_trait::async_trait;
use genesis_storage::MatrixRecord;

use super::Matrices;
use super::plan::{self, Versions};
use crate::error::{Error, Result};
use crate::events::{Severity, Source};
use crate::plan::PlanStep;
use crate::runs::rollback::{
    Applied, Brief, Care, Health, MOST_POINTS, Order, Point, Rollback, Stay, Way, diff,
};

/// The component's name.
pub const MATRIX: &str = "matrix";

/// The matrix that consumers get.
pub struct Component(pub Arc<Matrices>);

/// When a version was active. It was left where an older one came in its place by hand.
fn stays(versions: &Versions, record: &MatrixRecord) -> Vec<Stay> {
    let periods = record.periods.iter().enumerate();
    let each = periods.map(|(at, period)| {
        let last = at + 1 == record.periods.len();
        let entered = period.until.and_then(|until| {
            versions.values().find(|it| it.periods.iter().any(|other| other.from == until))
        });
        let back = entered.is_none_or(|it| it.version < record.version);
        let left = last && record.state == plan::ROLLED_BACK && back;
        Stay { from: period.from, until: period.until, left }
    });
    each.collect()
}

/// Why nobody can go back to a version; empty: somebody can.
fn unfit(record: &MatrixRecord) -> String {
    match record.state.as_str() {
        plan::REJECTED => "it was rejected".to_owned(),
        plan::CANARY => "it is being rolled out".to_owned(),
        // A canary that was taken back was never all consumers'.
        plan::ROLLED_BACK if record.periods.is_empty() => {
            format!("its rollout was ended: {}", record.ended_reason)
        }
        _ if !record.kept => "its values are not kept any more".to_owned(),
        _ => String::new(),
    }
}

fn point(versions: &Versions, record: &MatrixRecord) -> Point {
    Point {
        id: record.version.to_string(),
        at: record.calculated_at,
        by: record.by.clone(),
        description: format!("{} series, {}, {}", record.series, record.cause, record.state),
        digest: record.digest.clone(),
        stays: stays(versions, record),
        restores: None,
        unfit: unfit(record),
    }
}

impl Component {
    fn version(&self, point: &Point) -> Result<Arc<MatrixRecord>> {
        let number: u64 = point.id.parse().unwrap_or(0);
        self.0.versions().get(&number).cloned().ok_or_else(|| {
            let message = format!("there is no version {} of the matrix", point.id);
            Error::not_found("POINT_NOT_FOUND", message)
        })
    }
}

#[async_trait]
impl Rollback for Component {
    async fn points(&self) -> Result<Vec<Point>> {
        let versions = self.0.versions();
        let newest = versions.values().rev().take(MOST_POINTS);
        Ok(newest.map(|it| point(&versions, it)).collect())
    }

    async fn current(&self) -> Result<Option<Point>> {
        let versions = self.0.versions();
        Ok(plan::in_state(&versions, plan::ACTIVE).map(|it| point(&versions, it)))
    }

    async fn brief(&self) -> Result<Brief> {
        let (versions, current) = (self.0.versions(), self.current().await?);
        let bad = self.0.conditions().await?.into_iter().find(|it| it.severity >= Severity::High);
        let (health, why) = match (bad, &current) {
            (Some(bad), _) => (Health::Bad, bad.title),
            (None, None) => (Health::Unknown, "there is no active matrix yet".to_owned()),
            (None, Some(current)) => match self.0.canary() {
                Some(canary) => (
                    Health::Unknown,
                    format!("version {} is being rolled out and judged", canary.version),
                ),
                None => (
                    Health::Good,
                    format!("version {} is active, nothing is told against it", current.id),
                ),
            },
        };
        let active = plan::in_state(&versions, plan::ACTIVE);
        let from = active.and_then(|it| it.periods.last()).map(|it| it.from);
        // Whoever put it in force ended the one before.
        let by = from.and_then(|from| {
            let before = versions.values().find(|it| it.ended_at == Some(from));
            before.map(|it| it.ended_by.clone())
        });
        let by = by.or_else(|| active.map(|it| it.by.clone())).unwrap_or_default();
        let changed = from.map(|from| (from, by));
        Ok(Brief { current, points: versions.len().min(MOST_POINTS), health, why, changed })
    }

    async fn diff(&self, way: Way<'_>) -> Result<String> {
        let (from, to) = (self.version(way.from)?, self.version(way.to)?);
        let texts = [&from, &to].map(|it| {
            (it.series.to_string(), it.window_from.to_string(), it.window_until.to_string())
        });
        Ok(diff::values(&[
            ("version", &way.from.id, &way.to.id),
            ("series", &texts[0].0, &texts[1].0),
            ("window from", &texts[0].1, &texts[1].1),
            ("window until", &texts[0].2, &texts[1].2),
            ("digest", &from.digest, &to.digest),
        ]))
    }

    async fn plan(&self, way: Way<'_>) -> Result<Vec<PlanStep>> {
        Ok(self.0.plan_rollback(self.version(way.to)?.version)?.steps)
    }

    async fn apply(&self, to: &Point, order: &Order) -> Result<Applied> {
        let version = self.version(to)?.version;
        self.0.rollback(version, "", (&order.by, &order.reason)).await?;
        Ok(Applied::default())
    }

    async fn verify(&self, to: &Point) -> Result<String> {
        let wanted = self.version(to)?;
        let kept = self.0.state.read(|reading| Ok(reading.matrices().all()?))?;
        let active = kept.iter().find(|it| it.state == plan::ACTIVE);
        if active.is_none_or(|it| it.version != wanted.version || it.digest != to.digest) {
            let now =
                active.map_or_else(|| "none".to_owned(), |it| format!("version {}", it.version));
            let message = format!("{now} is active, not version {}", wanted.version);
            return Err(Error::internal("ROLLBACK_NOT_PROVEN", message));
        }
        Ok(format!("version {} is active and is what consumers get", wanted.version))
    }

    fn care(&self) -> Care {
        Care { reason: true, ..Care::default() }
    }
}
