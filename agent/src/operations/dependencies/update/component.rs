//! The release of a project as a component that can be rolled back: by the run that people go back with.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use genesis_storage::{DependencyReleaseRecord, RunState, UpdateRecord, UpdateState};

use super::super::Dependencies;
use super::super::config::Project;
use super::releases::in_service;
use super::{ROLLBACK_STRATEGY, unmanaged_why};
use crate::error::{Error, Result};
use crate::events::{Severity, Source};
use crate::plan::PlanStep;
use crate::runs::rollback::choose::{Move, selected};
use crate::runs::rollback::{
    Applied, Brief, Family, Health, MOST_POINTS, Order, Point, Rollback, Stay, Way, diff,
};

/// The projects that are managed.
pub struct DependencyFamily(pub Arc<Dependencies>);

#[async_trait]
impl Family for DependencyFamily {
    fn family(&self) -> &'static str {
        "dependencies"
    }

    async fn names(&self) -> Result<Vec<String>> {
        let config = self.0.config();
        let managed = config.projects.iter().filter(|it| unmanaged_why(it).is_empty());
        Ok(managed.map(|it| it.name.clone()).collect())
    }

    fn member(&self, name: &str) -> Arc<dyn Rollback> {
        Arc::new(Component { dependencies: Arc::clone(&self.0), name: name.to_owned() })
    }
}

struct Component {
    dependencies: Arc<Dependencies>,
    name: String,
}

/// The releases that came into service, the oldest first; `updates` are the newest first.
fn moves(updates: &[UpdateRecord]) -> Vec<Move> {
    let done = updates.iter().rev().filter(|it| it.state == UpdateState::Succeeded);
    let mut moves: Vec<Move> = Vec::new();
    for update in done {
        let at = update.ended_at.unwrap_or(update.started_at);
        // What was in service before the first that is known was so since nobody knows when.
        if moves.is_empty() && update.from_generation != 0 {
            let since = jiff::Timestamp::UNIX_EPOCH;
            moves.push(Move { at: since, to: update.from_generation, back: false });
        }
        let back = update.strategy == ROLLBACK_STRATEGY;
        moves.push(Move { at, to: update.to_generation, back });
    }
    moves
}

fn point(record: &DependencyReleaseRecord, stays: Vec<Stay>) -> Point {
    let unfit = match (record.proven, Path::new(&record.folder).is_dir()) {
        (_, false) => format!("its folder {} is gone", record.folder),
        (false, true) => "it has not proven itself".to_owned(),
        (true, true) => String::new(),
    };
    Point {
        id: record.generation.to_string(),
        at: record.made_at,
        by: String::new(),
        description: format!("{} packages in {}", record.packages, record.folder),
        digest: record.digest.clone(),
        stays,
        restores: None,
        unfit,
    }
}

impl Component {
    fn project(&self) -> Result<Project> {
        self.dependencies.project(&self.name, |_| true)
    }

    fn number(&self, point: &Point) -> Result<u64> {
        point.id.parse().map_err(|_| {
            let message = format!("{} has no release {:?}", self.name, point.id);
            Error::not_found("POINT_NOT_FOUND", message)
        })
    }

    fn updates(&self) -> Result<Vec<UpdateRecord>> {
        let own = |it: &UpdateRecord| it.project == self.name;
        let read =
            |it: &genesis_storage::Reading<'_>| Ok(it.dependencies().updates(usize::MAX, own)?);
        self.dependencies.state.read(read)
    }

    fn manifests(&self, generation: u64) -> Result<String> {
        let kept = self.dependencies.kept_manifests(&self.name, generation)?;
        let each = kept.into_iter().map(|(path, text)| format!("# {}\n{text}\n", path.display()));
        Ok(each.collect())
    }
}

#[async_trait]
impl Rollback for Component {
    async fn points(&self) -> Result<Vec<Point>> {
        let mut stays = selected(&moves(&self.updates()?));
        let releases = self.dependencies.releases(&self.name)?;
        let each = releases.iter().take(MOST_POINTS).map(|it| {
            let known = stays.remove(&it.generation).unwrap_or_default();
            point(it, known)
        });
        Ok(each.collect())
    }

    async fn current(&self) -> Result<Option<Point>> {
        let releases = self.dependencies.releases(&self.name)?;
        let current = self.dependencies.current(&self.project()?, &releases)?;
        Ok(current.map(|it| point(&it, Vec::new())))
    }

    async fn brief(&self) -> Result<Brief> {
        let current = self.current().await?;
        let releases = self.dependencies.releases(&self.name)?.len();
        let conditions = self.dependencies.conditions().await?;
        let own = |it: &&crate::events::Condition| it.subject == self.name;
        let bad = conditions.iter().filter(own).find(|it| it.severity >= Severity::High);
        let updates = self.updates()?;
        let last = updates.iter().find(|it| it.state == UpdateState::Succeeded);
        let (health, why) = match (bad, last) {
            (Some(bad), _) => (Health::Bad, bad.title.clone()),
            (None, Some(last)) if last.ill.is_empty() => {
                (Health::Good, "it did well when it came into service, and nothing is told".into())
            }
            (None, Some(last)) => (Health::Bad, last.ill.clone()),
            (None, None) => {
                (Health::Unknown, "the agent has brought none of its releases into service".into())
            }
        };
        let changed = last.map(|it| (it.ended_at.unwrap_or(it.started_at), it.actor.clone()));
        Ok(Brief { current, points: releases, health, why, changed })
    }

    async fn diff(&self, way: Way<'_>) -> Result<String> {
        let (from, to) = (self.number(way.from)?, self.number(way.to)?);
        Ok(diff::unified(&self.manifests(from)?, &self.manifests(to)?))
    }

    async fn plan(&self, way: Way<'_>) -> Result<Vec<PlanStep>> {
        Ok(self.dependencies.plan_rollback(&self.name, self.number(way.to)?)?.steps)
    }

    async fn apply(&self, to: &Point, order: &Order) -> Result<Applied> {
        let who = (order.by.clone(), order.reason.clone());
        let started = self.dependencies.roll_back(&self.name, self.number(to)?, "", who).await?;
        order.run.send_replace(started.id.clone());
        let ended = self.dependencies.runs.wait(&started.id).await?;
        match ended.state {
            RunState::Succeeded => Ok(Applied::default()),
            _ => {
                let message = format!("run {} {}: {}", ended.id, ended.error_code, ended.summary);
                Err(Error::internal("ROLLBACK_FAILED", message))
            }
        }
    }

    async fn verify(&self, to: &Point) -> Result<String> {
        let project = self.project()?;
        let not_proven = |why: String| Err(Error::internal("ROLLBACK_NOT_PROVEN", why));
        let now = self.current().await?.map(|it| it.id);
        if now.as_ref() != Some(&to.id) {
            return not_proven(format!("release {now:?} of {} is in service", self.name));
        }
        for (path, text) in self.dependencies.kept_manifests(&self.name, self.number(to)?)? {
            if super::read_manifest(&project.root, &path)? != text {
                return not_proven(format!("{} is not as it was with it", path.display()));
            }
        }
        let place = project.managed.deploy.as_ref().map(in_service).transpose()?.flatten();
        let place = place.map(|it| it.display().to_string()).unwrap_or_default();
        Ok(format!("{place} is in service, with its manifests"))
    }
}
