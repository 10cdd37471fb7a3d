//! A rollback of the configuration on a copy: with a file, a state and a history of its own, and nobody who follows.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use genesis_storage::{Intent, KEPT_GENERATIONS};
use jiff::Timestamp;
use tokio::sync::watch;

use super::config_component::{CONFIG, ConfigComponent};
use super::config_history::ConfigHistory;
use crate::config::Places;
use crate::error::{Error, Result};
use crate::runs::drill::{Occasion, Scratch, scratch_state};
use crate::runs::rollback::choose::{self, Evidence};
use crate::runs::rollback::{Order, Point, Rollback};

/// Takes copies of the configuration back.
pub struct ConfigScratch(pub Arc<ConfigHistory>);

#[async_trait]
impl Scratch for ConfigScratch {
    fn has(&self, component: &str) -> bool {
        component == CONFIG
    }

    fn occasion(&self) -> Result<Occasion> {
        let points = ConfigComponent(Arc::clone(&self.0)).listed()?;
        Ok(occasion(&points, self.0.outside.clock.now()))
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
        let outside = self.0.outside.clone();
        // What is kept of the copy is kept beside it.
        let places = Places { state: folder.to_owned(), ..self.0.places.clone() };
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

/// Whether there is a configuration to go back to, whether or not it is known to be good yet, and since when. Pure.
fn occasion(points: &[Point], now: Timestamp) -> Occasion {
    let Some(current) = points.first() else {
        return Occasion::NotYet("no configuration is recorded yet".to_owned());
    };
    // Practised on a copy, it need not have done well yet.
    let evidence = Evidence { ran: vec![(Timestamp::UNIX_EPOCH, now)], ..Evidence::default() };
    let at = (now, Duration::ZERO);
    if let Err(against) = choose::default_target(points, current, at, &evidence) {
        return Occasion::NotYet(match against.first() {
            None => {
                "the configuration has never changed, so there is nothing to go back to".to_owned()
            }
            Some((id, why)) => format!("there is nothing to go back to: {id}: {why}"),
        });
    }
    // Of one that changes so often nobody knows when that began.
    if points.len() >= KEPT_GENERATIONS {
        return Occasion::Always;
    }
    let first = points.windows(2).rfind(|pair| pair[0].digest != pair[1].digest);
    first.map_or(Occasion::Always, |pair| Occasion::Since(pair[0].at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_something_to_practise_since_the_configuration_changed_first() {
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        // The newest first: its digest, and which one it goes back to.
        for (kept, expected) in [
            (&[][..], None),
            (&[("a", "")], None),
            (&[("a", ""), ("a", "")], None),
            (&[("b", ""), ("a", "")], Some(2)),
            (&[("c", ""), ("b", ""), ("a", "")], Some(2)),
            (&[("c", ""), ("b", ""), ("a", ""), ("a", "")], Some(3)),
            // Gone back to the first: there is nothing before that.
            (&[("a", "1"), ("b", ""), ("a", "")], None),
        ] {
            let count = kept.len();
            let each = kept.iter().enumerate().map(|(index, (digest, back))| Point {
                id: (count - index).to_string(),
                at: at((count - index) as i64),
                by: String::new(),
                description: String::new(),
                digest: (*digest).to_owned(),
                stays: Vec::new(),
                restores: (!back.is_empty()).then(|| (*back).to_owned()),
                unfit: String::new(),
            });
            let mut points: Vec<Point> = each.collect();
            choose::versioned(&mut points);
            let since = match occasion(&points, at(100)) {
                Occasion::Since(since) => Some(since.as_second()),
                Occasion::NotYet(_) => None,
                Occasion::Always => panic!("{kept:?}"),
            };
            assert_eq!(since, expected, "{kept:?}");
        }
    }
}
