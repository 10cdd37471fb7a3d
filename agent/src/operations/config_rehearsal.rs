//! A rollback of the configuration on a copy: with a file, a state and a history of its own, and nobody who follows.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use genesis_storage::{Intent, KEPT_GENERATIONS};
use tokio::sync::watch;

use super::config_component::{CONFIG, ConfigComponent};
use super::config_history::ConfigHistory;
use crate::error::{Error, Result};
use crate::runs::drill::{Scratch, scratch_state};
use crate::runs::rollback::{Order, Point, Rollback};

/// Takes copies of the configuration back.
pub struct ConfigScratch(pub Arc<ConfigHistory>);

#[async_trait]
impl Scratch for ConfigScratch {
    fn has(&self, component: &str) -> bool {
        component == CONFIG
    }

    async fn go_back(&self, _: &str, to: &Point, folder: &Path) -> Result<String> {
        let kept = self.0.state.read(|reading| Ok(reading.configs().list(KEPT_GENERATIONS)?))?;
        let state = scratch_state(folder).await?;
        let intent = Intent::new(self.0.outside.clock.now(), "drill", "drill.staged");
        state
            .write(intent, move |writing| {
                for generation in kept.iter().rev() {
                    writing.configs().push(generation)?;
                }
                Ok(())
            })
            .await?;
        let (path, current) = (folder.join("agent.toml"), self.0.current());
        let (file, text) = (path.clone(), current.text.clone());
        let written = tokio::task::spawn_blocking(move || std::fs::write(file, text)).await;
        written.unwrap_or_else(|error| Err(std::io::Error::other(error))).map_err(|error| {
            Error::unavailable("DRILL_FAILED", "the copy can't be written").caused_by(error)
        })?;
        let (outside, places) = (self.0.outside.clone(), self.0.places.clone());
        let current = (*current).clone();
        let copy = ConfigHistory::new(state, outside, places, Some(path), current, vec![], None);
        let copy = ConfigComponent(Arc::new(copy));
        let order = Order {
            id: String::new(),
            by: "drill".to_owned(),
            reason: "a drill".to_owned(),
            into: String::new(),
            run: watch::channel(String::new()).0,
        };
        copy.apply(to, &order).await?;
        copy.verify(to).await
    }
}
