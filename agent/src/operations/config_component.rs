//! The configuration as a component that can be rolled back.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use genesis_storage::{ConfigGeneration, RollbackOutcome};

use super::config_history::{ConfigHistory, digest, shown};
use crate::config::{self, Config};
use crate::error::{Error, Result, Unmet};
use crate::outside::{failpoint, files};
use crate::plan::PlanStep;
use crate::runs::rollback::diff::unified;
use crate::runs::rollback::{Applied, Brief, Health, Order, Point, Rollback, Way, choose};

/// The component's name.
pub const CONFIG: &str = "config";
/// So many generations are looked at: all that are kept.
const KEPT: usize = genesis_storage::KEPT_GENERATIONS;

/// The configuration as a component that can be rolled back.
pub struct ConfigComponent(pub Arc<ConfigHistory>);

fn point(generation: &ConfigGeneration) -> Point {
    Point {
        id: generation.generation.to_string(),
        at: generation.at,
        description: format!("{} loaded by {}", shown(&generation.source), generation.actor),
        digest: generation.sha256.clone(),
        by: generation.actor.clone(),
        stays: Vec::new(),
        restores: None,
        // Only a text that passed every check becomes a generation.
        unfit: String::new(),
    }
}

impl ConfigComponent {
    /// Its points.
    pub(super) fn listed(&self) -> Result<Vec<Point>> {
        let (mut points, made) = self.0.state.read(|reading| {
            let points: Vec<Point> = reading.configs().list(KEPT)?.iter().map(point).collect();
            // Each rollback made a generation: which one it went back to only the ledger says.
            let own = reading
                .rollbacks()
                .list(KEPT, |it| it.component == CONFIG && it.outcome == RollbackOutcome::Done)?;
            let made: HashMap<String, String> =
                own.into_iter().map(|it| (it.made, it.to)).collect();
            Ok((points, made))
        })?;
        for point in &mut points {
            point.restores = made.get(&point.id).cloned();
        }
        choose::versioned(&mut points);
        Ok(points)
    }
}

#[async_trait]
impl Rollback for ConfigComponent {
    async fn points(&self) -> Result<Vec<Point>> {
        self.listed()
    }

    async fn current(&self) -> Result<Option<Point>> {
        self.0.state.read(|reading| Ok(reading.configs().current()?.as_ref().map(point)))
    }

    async fn brief(&self) -> Result<Brief> {
        let kept = self.0.state.read(|reading| Ok(reading.configs().list(KEPT)?))?;
        let current = kept.first().map(point);
        let (problems, waits) = self.0.check(None)?;
        let (health, why) = match (problems.first(), waits.is_empty()) {
            (Some(problem), _) => {
                (Health::Bad, format!("the file has {} problem(s): {problem}", problems.len()))
            }
            (None, false) => (Health::Good, format!("{} wait(s) for a restart", waits.join(", "))),
            (None, true) => (Health::Good, "the file passes every check".to_owned()),
        };
        let changed = current.as_ref().map(|it| (it.at, it.by.clone()));
        Ok(Brief { current, points: kept.len(), health, why, changed })
    }

    async fn diff(&self, way: Way<'_>) -> Result<String> {
        Ok(unified(&self.0.generation_of(way.from)?.text, &self.0.generation_of(way.to)?.text))
    }

    async fn plan(&self, Way { to, .. }: Way<'_>) -> Result<Vec<PlanStep>> {
        let wanted = self.0.generation_of(to)?;
        let refuse = |code, subject: &str, message: String| {
            let unmet = Unmet { code, subject: subject.to_owned(), message: message.clone() };
            Err(Error::refused(code, message, vec![unmet]))
        };
        let Some(path) = &self.0.path else {
            let message =
                "the agent runs without a configuration file, so there is none to take back"
                    .to_owned();
            return refuse("CONFIG_HAS_NO_FILE", "config", message);
        };
        if !files::may_change(path.parent().unwrap_or(Path::new("/"))) {
            let message = format!(
                "the agent may not write to the folder of {}; put the text there by hand",
                path.display()
            );
            return refuse("CONFIG_NOT_WRITABLE", &path.display().to_string(), message);
        }
        let checked = Config::parse(&wanted.text, &wanted.source, &self.0.places);
        if let Some(problem) = checked.problems.first() {
            let message = format!(
                "generation {} is no valid configuration for this version: {problem}",
                to.id
            );
            return refuse("CONFIG_INVALID", &problem.key, message);
        }
        let target = path.display().to_string();
        Ok(vec![
            PlanStep {
                action: "write-file".into(),
                target: target.clone(),
                reason: format!("the text of generation {}", to.id),
            },
            PlanStep {
                action: "reload".into(),
                target,
                reason: "applies what can change without a restart".into(),
            },
        ])
    }

    async fn apply(&self, to: &Point, order: &Order) -> Result<Applied> {
        let _alone = self.0.alone.lock().await;
        let wanted = self.0.generation_of(to)?;
        let Some(path) = self.0.path.clone() else {
            return Err(Error::internal("CONFIG_HAS_NO_FILE", "there is no configuration file"));
        };
        let reason = format!("rollback to generation {}", to.id);
        let written =
            tokio::task::spawn_blocking(move || files::replace(&path, wanted.text.as_bytes()))
                .await;
        written.unwrap_or_else(|error| Err(std::io::Error::other(error))).map_err(|error| {
            Error::unavailable("CONFIG_NOT_WRITABLE", "the configuration file can't be written")
                .caused_by(error)
        })?;
        failpoint::hit("config.rollback-written");
        self.0.reload_alone(&order.by, &reason).await?;
        Ok(Applied::default())
    }

    async fn verify(&self, to: &Point) -> Result<String> {
        let Some(path) = &self.0.path else { return Ok("no file".into()) };
        let text = config::read_text(path)?;
        if digest(&text) != to.digest || digest(&self.0.current().text) != to.digest {
            let message = format!(
                "{} is not the text of generation {} after the rollback",
                path.display(),
                to.id
            );
            return Err(Error::internal("ROLLBACK_NOT_PROVEN", message));
        }
        Ok(format!("{} and the running configuration have sha256 {}", path.display(), to.digest))
    }
}
