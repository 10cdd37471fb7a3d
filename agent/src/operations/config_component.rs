//! The configuration as a component that can be rolled back.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use genesis_storage::{ConfigGeneration, RollbackOutcome, RollbackRecord};

use super::config_history::{ConfigHistory, digest, shown};
use crate::config::{self, Config};
use crate::error::{Error, Result, Unmet};
use crate::outside::{failpoint, files, trees};
use crate::plan::PlanStep;
use crate::runs::rollback::diff::unified;
use crate::runs::rollback::{Applied, Brief, Health, Order, Point, Rollback, Way, choose};

/// The component's name.
pub const CONFIG: &str = "config";
/// So many generations are looked at: all that are kept.
const KEPT: usize = genesis_storage::KEPT_GENERATIONS;
/// The point that is the file as it is, where that is not what is in force.
const FILE: &str = "file";
/// What the names of files begin with that were written over though nothing else has their text.
const BEFORE: &str = "agent.toml.before-";
/// So many of those are kept.
const BEFORE_KEPT: usize = 3;

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

/// What each generation went back to that a rollback has made. Also where its end is not known: what was left by it is
/// not known to be good.
fn restored(rollbacks: &[RollbackRecord], points: &[Point]) -> HashMap<String, String> {
    let made = |it: &&RollbackRecord| {
        let point = points.iter().find(|point| point.id == it.made);
        point.is_some_and(|point| point.digest == it.to_digest)
    };
    rollbacks.iter().filter(made).map(|it| (it.made.clone(), it.to.clone())).collect()
}

impl ConfigComponent {
    /// The file's text; `None` where the agent runs without one, or it can't be read.
    fn text(&self) -> Option<String> {
        config::read_text(self.0.path.as_ref()?).ok()
    }

    /// Keeps the file as it is where no generation has its text: it was never in force, and is not lost all the same.
    fn keep(&self, id: &str) -> Result<String> {
        let Some(text) = self.text() else { return Ok(String::new()) };
        let kept = self.0.state.read(|reading| Ok(reading.configs().list(KEPT)?))?;
        if kept.iter().any(|it| it.sha256 == digest(&text)) {
            return Ok(String::new());
        }
        let folder = &self.0.places.state;
        let path = folder.join(format!("{BEFORE}{id}"));
        let write = || -> std::io::Result<()> {
            files::replace(&path, text.as_bytes())?;
            let mut names = trees::names(folder)?;
            names.retain(|name| name.starts_with(BEFORE));
            // By their ids, the newest last.
            names.sort_unstable();
            let old = names.len().saturating_sub(BEFORE_KEPT);
            names.into_iter().take(old).try_for_each(|it| std::fs::remove_file(folder.join(it)))
        };
        write().map_err(|error| {
            Error::unavailable("CONFIG_NOT_WRITABLE", "the file as it is can't be kept")
                .caused_by(error)
        })?;
        Ok(format!("the file as it was, which was not in force, is kept as {}", path.display()))
    }

    /// Its points.
    pub(super) fn listed(&self) -> Result<Vec<Point>> {
        let (mut points, rollbacks) = self.0.state.read(|reading| {
            let points: Vec<Point> = reading.configs().list(KEPT)?.iter().map(point).collect();
            // Each rollback made a generation: which one it went back to only the ledger says.
            Ok((points, reading.rollbacks().list(usize::MAX, |it| it.component == CONFIG)?))
        })?;
        let made = restored(&rollbacks, &points);
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
        let in_force = self.0.state.read(|it| Ok(it.configs().current()?.as_ref().map(point)))?;
        let (in_force, path) = match (in_force, &self.0.path) {
            (Some(in_force), Some(path)) => (in_force, path),
            (in_force, _) => return Ok(in_force),
        };
        // What somebody has written there meanwhile is what would be written over.
        let (digest, what) = match self.text() {
            Some(text) => (digest(&text), "as it is, which is not in force"),
            None => (String::new(), "which can't be read"),
        };
        if digest == in_force.digest {
            return Ok(Some(in_force));
        }
        Ok(Some(Point {
            id: FILE.to_owned(),
            at: self.0.outside.clock.now(),
            by: String::new(),
            description: format!("{} {what}", path.display()),
            digest,
            ..in_force
        }))
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
        let from = match way.from.id.as_str() {
            FILE => self.text().unwrap_or_default(),
            _ => self.0.generation_of(way.from)?.text,
        };
        Ok(unified(&from, &self.0.generation_of(way.to)?.text))
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
        let (own, id) = (Self(Arc::clone(&self.0)), order.id.clone());
        let kept =
            tokio::task::spawn_blocking(move || own.keep(&id)).await.unwrap_or_else(|error| {
                Err(Error::internal("CONFIG_NOT_WRITABLE", "the file was not kept")
                    .caused_by(error))
            })?;
        let written = tokio::task::spawn_blocking(move || {
            // Where it is a link, the file behind it is replaced, and the link stays.
            let path = path.canonicalize().unwrap_or(path);
            files::replace(&path, wanted.text.as_bytes())
        })
        .await;
        written.unwrap_or_else(|error| Err(std::io::Error::other(error))).map_err(|error| {
            Error::unavailable("CONFIG_NOT_WRITABLE", "the configuration file can't be written")
                .caused_by(error)
        })?;
        failpoint::hit("config.rollback-written");
        self.0.reload_alone(&order.by, &reason).await?;
        Ok(Applied { kept, ..Applied::default() })
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
        let waits = self.0.check(None).map(|(_, waits)| waits).unwrap_or_default();
        let waits = match waits.is_empty() {
            true => String::new(),
            false => format!("; the agent runs without {} until it is restarted", waits.join(", ")),
        };
        Ok(format!(
            "{} and the running configuration have sha256 {}{waits}",
            path.display(),
            to.digest
        ))
    }

    async fn in_force(&self, to: &Point, current: &Point) -> Result<bool> {
        // The file alone is not what the agent runs by.
        Ok(to.digest == current.digest && digest(&self.0.current().text) == to.digest)
    }

    fn undone_by(&self, record: &RollbackRecord) -> Option<String> {
        let changed = matches!(record.outcome, RollbackOutcome::Done | RollbackOutcome::Unknown);
        (changed && record.from != FILE).then(|| record.from.clone())
    }
}

#[cfg(test)]
mod tests {
    use genesis_storage::{Options, Store};
    use jiff::Timestamp;
    use tokio::sync::watch;

    use super::*;
    use crate::config::Places;
    use crate::outside::Outside;
    use crate::state::State;

    fn component(folder: &Path) -> ConfigComponent {
        let store = Store::open(&folder.join("state.redb"), Options::default()).unwrap();
        let state = State::new(Arc::new(store), watch::channel(0).1);
        let places = Places { state: folder.to_owned(), socket: folder.join("agent.sock") };
        let path = folder.join("agent.toml");
        std::fs::write(&path, "# one\n").unwrap();
        let config = Config::load(Some(&path), &places).unwrap();
        let outside = Outside::real();
        let history =
            ConfigHistory::new(state, outside, places, Some(path), config, Vec::new(), None);
        ConfigComponent(Arc::new(history))
    }

    #[tokio::test]
    async fn it_is_at_what_the_file_says_and_not_only_at_what_was_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let component = component(folder.path());
        let file = folder.path().join("agent.toml");
        component.0.record("olga", "").await.unwrap();
        let first = component.current().await.unwrap().unwrap();
        assert_eq!(first.id, "1");
        std::fs::write(&file, "# two\n").unwrap();
        component.0.reload("olga", "", "").await.unwrap();
        let second = component.current().await.unwrap().unwrap();
        assert_eq!(second.id, "2");
        assert!(component.in_force(&second, &second).await.unwrap());
        // As a rollback leaves it that could write the file, and could not load it.
        std::fs::write(&file, "# one\n").unwrap();
        let now = component.current().await.unwrap().unwrap();
        assert_eq!((now.id.as_str(), &now.digest), (FILE, &first.digest));
        assert!(!component.in_force(&first, &now).await.unwrap(), "the agent runs by another");
        // As somebody else leaves it.
        std::fs::write(&file, "[listen\n").unwrap();
        let now = component.current().await.unwrap().unwrap();
        assert!(now.id == FILE && now.digest != first.digest && now.digest != second.digest);
        std::fs::remove_file(&file).unwrap();
        let now = component.current().await.unwrap().unwrap();
        assert_eq!((now.id.as_str(), now.digest.as_str()), (FILE, ""));
    }

    #[test]
    fn what_a_rollback_made_restores_what_it_went_to_also_where_its_end_is_not_known() {
        use RollbackOutcome::{Done, Failed, Unknown};
        let made = ConfigGeneration {
            generation: 3,
            sha256: "a".into(),
            source: String::new(),
            text: String::new(),
            at: Timestamp::UNIX_EPOCH,
            actor: String::new(),
        };
        let record = |outcome, to_digest: &str, made: &str| RollbackRecord {
            to: "1".into(),
            to_digest: to_digest.into(),
            made: made.into(),
            outcome,
            ..RollbackRecord::default()
        };
        for (record, expected) in [
            (record(Done, "a", "3"), Some("1")),
            (record(Unknown, "a", "3"), Some("1")),
            (record(Failed, "a", "3"), Some("1")),
            // Somebody else has made it.
            (record(Unknown, "b", "3"), None),
            (record(Done, "a", ""), None),
            (record(Done, "a", "4"), None),
        ] {
            let found = restored(std::slice::from_ref(&record), &[point(&made)]);
            assert_eq!(found.get("3").map(String::as_str), expected, "{record:?}");
        }
    }
}
