//! The configuration in force, its generations, reload, and the way back to an earlier one.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use genesis_storage::{ConfigGeneration, Intent};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::config_changes::changed_lines;
use crate::config::{self, Config, Follower, Places};
use crate::error::{Error, Result};
use crate::outside::Outside;
use crate::plan::{Plan, PlanStep};
use crate::runs::rollback::Point;
use crate::server::tls::Tls;
use crate::state::State;

/// The configuration's past and present.
pub struct ConfigHistory {
    pub(super) state: State,
    pub(super) outside: Outside,
    pub(super) places: Places,
    /// The file that a reload reads; `None`: the agent runs on its defaults.
    pub(super) path: Option<PathBuf>,
    /// What was loaded at start: changes that wait for a restart are told against it.
    booted: Config,
    current: ArcSwap<Config>,
    loaded_at: ArcSwap<Timestamp>,
    followers: Vec<Arc<dyn Follower>>,
    tls: Option<Arc<Tls>>,
    pub(super) alone: tokio::sync::Mutex<()>,
}

/// What a reload came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// The text was not the one in force.
    pub changed: bool,
    /// Keys that were applied.
    pub applied: Vec<String>,
    /// Keys that wait for a restart.
    pub restart_needed: Vec<String>,
    /// The generation in force.
    pub generation: u64,
}

impl ConfigHistory {
    /// Keeps the history of `config`, which was read from `path`.
    pub fn new(
        state: State,
        outside: Outside,
        places: Places,
        path: Option<PathBuf>,
        config: Config,
        followers: Vec<Arc<dyn Follower>>,
        tls: Option<Arc<Tls>>,
    ) -> Self {
        let now = outside.clock.now();
        Self {
            state,
            outside,
            places,
            path,
            booted: config.clone(),
            current: ArcSwap::from_pointee(config),
            loaded_at: ArcSwap::from_pointee(now),
            followers,
            tls,
            alone: tokio::sync::Mutex::new(()),
        }
    }

    /// The configuration in force.
    pub fn current(&self) -> Arc<Config> {
        self.current.load_full()
    }

    /// When it was loaded.
    pub fn loaded_at(&self) -> Timestamp {
        **self.loaded_at.load()
    }

    /// Its generation; 0 before the first is recorded.
    ///
    /// # Errors
    /// `STORAGE_FAILED`.
    pub fn generation(&self) -> Result<u64> {
        self.state.read(|reading| {
            Ok(reading.configs().current()?.map_or(0, |generation| generation.generation))
        })
    }

    /// Records the configuration in force as a new generation, unless it is the newest already.
    ///
    /// # Errors
    /// `STORAGE_FAILED`.
    pub async fn record(&self, actor: &str, reason: &str) -> Result<u64> {
        self.record_of(&self.current(), actor, reason).await
    }

    async fn record_of(&self, config: &Config, actor: &str, reason: &str) -> Result<u64> {
        let now = self.outside.clock.now();
        let sha256 = digest(&config.text);
        let newest = self.state.read(|reading| Ok(reading.configs().current()?))?;
        if let Some(newest) = &newest
            && newest.sha256 == sha256
            && newest.source == config.source
        {
            return Ok(newest.generation);
        }
        let generation = newest.map_or(1, |newest| newest.generation + 1);
        let record = ConfigGeneration {
            generation,
            sha256,
            source: config.source.clone(),
            text: config.text.clone(),
            at: now,
            actor: actor.to_owned(),
        };
        let intent = Intent::new(now, actor, "config.loaded")
            .target(shown(&config.source))
            .reason(reason)
            .detail(format!("generation {generation}, sha256 {}", record.sha256));
        self.state.write(intent, move |writing| Ok(writing.configs().push(&record)?)).await?;
        Ok(generation)
    }

    /// What a reload would apply, and what it would leave to a restart.
    ///
    /// # Errors
    /// `CONFIG_INVALID` or `CONFIG_UNREADABLE`.
    pub fn plan_reload(&self) -> Result<Plan> {
        let path = self.path.clone().or_else(|| config::find_file(None));
        let (old, new) = (self.current(), Config::load(path.as_deref(), &self.places)?);
        let waits = self.booted.restart_needed(&new);
        let mut steps: Vec<PlanStep> = changed_lines(&old.effective, &new.effective)
            .into_iter()
            .filter(|key| !waits.contains(key))
            .map(|key| PlanStep::new("apply", key, "its value has changed"))
            .collect();
        let wait = |key| PlanStep::new("leave", key, "it takes effect at the next start");
        steps.extend(waits.into_iter().map(wait));
        if old.tls.is_some() {
            let why = "certificates, client CA and revocation list are read again";
            steps.push(PlanStep::new("reload", "tls", why));
        }
        Ok(Plan::new(
            "config.reload",
            &[&digest(&old.text), &digest(&new.text), &new.source],
            steps,
        ))
    }

    /// Reads the file again and applies what can change without a restart. A non-empty `plan_hash` must be that
    /// of the plan as it is now.
    ///
    /// # Errors
    /// `CONFIG_INVALID` or `CONFIG_UNREADABLE` (nothing changes then), `PLAN_CHANGED`, `STORAGE_FAILED`.
    pub async fn reload(&self, actor: &str, reason: &str, plan_hash: &str) -> Result<Reloaded> {
        let _alone = self.alone.lock().await;
        if !plan_hash.is_empty() {
            self.plan_reload()?.accept(plan_hash)?;
        }
        self.reload_alone(actor, reason).await
    }

    pub(super) async fn reload_alone(&self, actor: &str, reason: &str) -> Result<Reloaded> {
        let path = self.path.clone().or_else(|| config::find_file(None));
        let new = Config::load(path.as_deref(), &self.places)?;
        // The configuration is good: what it names is read again too, and refused by itself.
        self.reload_tls().await;
        let old = self.current();
        if new.text == old.text && new.source == old.source {
            return Ok(Reloaded {
                generation: self.generation()?,
                restart_needed: self.booted.restart_needed(&new),
                ..Reloaded::default()
            });
        }
        let restart_needed = self.booted.restart_needed(&new);
        let applied = changed_lines(&old.effective, &new.effective)
            .into_iter()
            .filter(|key| !restart_needed.contains(key))
            .collect();
        // First the record: what is in force has a generation, also after a crash or on a full disk.
        let generation = self.record_of(&new, actor, reason).await?;
        for follower in &self.followers {
            follower.follow(&new).await;
        }
        self.current.store(Arc::new(new));
        self.loaded_at.store(Arc::new(self.outside.clock.now()));
        Ok(Reloaded { changed: true, applied, restart_needed, generation })
    }

    async fn reload_tls(&self) {
        let Some(tls) = self.tls.clone() else { return };
        match tokio::task::spawn_blocking(move || tls.reload()).await {
            Ok(Ok(_)) => {}
            // What was in force stays; the status and `pki list` tell it until it is mended.
            Ok(Err(error)) => tracing::error!(error = error.chain(), "the TLS files were refused"),
            Err(_) => tracing::error!("the TLS files could not be read: a defect"),
        }
    }

    /// Checks a text, or the file when there is none; returns every problem and what would need a restart.
    ///
    /// # Errors
    /// `CONFIG_UNREADABLE`.
    pub fn check(&self, text: Option<&str>) -> Result<(Vec<config::reader::Problem>, Vec<String>)> {
        let path = self.path.clone().or_else(|| config::find_file(None));
        let (text, source) = match (text, path) {
            (Some(text), _) => (text.to_owned(), "the text".to_owned()),
            (None, Some(path)) => (config::read_text(&path)?, path.display().to_string()),
            (None, None) => (String::new(), String::new()),
        };
        let checked = Config::parse(&text, &source, &self.places);
        Ok(match checked.config {
            Some(config) => (config.check_host(), self.booted.restart_needed(&config)),
            None => (checked.problems, Vec::new()),
        })
    }

    pub(super) fn generation_of(&self, point: &Point) -> Result<ConfigGeneration> {
        let number: u64 = point.id.parse().unwrap_or(0);
        self.state.read(|reading| Ok(reading.configs().get(number)?))?.ok_or_else(|| {
            Error::not_found(
                "POINT_NOT_FOUND",
                format!("generation {} of the configuration is gone", point.id),
            )
        })
    }
}

pub(super) fn shown(source: &str) -> &str {
    if source.is_empty() { "built-in defaults" } else { source }
}

pub(super) fn digest(text: &str) -> String {
    hex::encode(Sha256::digest(text))
}
