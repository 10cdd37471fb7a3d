//! What people hear of baselines: each episode, once, for as long as it goes on; and a file that can't be opened.

use async_trait::async_trait;
use genesis_storage::EpisodeRecord;
use jiff::Timestamp;

use super::episodes::told;
use super::{Baselines, RUNBOOK};
use crate::error::Result;
use crate::events::{Condition, Severity, Source, episode_key};

/// A shift of so long, in seconds, may be what is usual from now on: people are asked.
const ASKED_AFTER: i64 = 86_400;

/// What can't be scraped for so long, in seconds, is told.
const SCRAPED_AGAIN: i64 = 300;

#[async_trait]
impl Source for Baselines {
    fn name(&self) -> &'static str {
        "baselines"
    }

    async fn conditions(&self) -> Result<Vec<Condition>> {
        let now = self.outside.clock.now();
        let mut all: Vec<Condition> =
            self.open_episodes().iter().map(|episode| condition(episode, now)).collect();
        let trouble = self.trouble();
        if let Some(since) = trouble.iter().map(|(since, _)| *since).min() {
            let mut details: Vec<String> = trouble.into_iter().map(|(_, told)| told).collect();
            details
                .push("services keep what is not answered, as long as they have room".to_owned());
            all.push(Condition {
                key: "baselines/failing".to_owned(),
                subject: "observations".to_owned(),
                severity: Severity::High,
                title: "observations are not kept, or not judged".to_owned(),
                details,
                runbook: RUNBOOK.to_owned(),
                since,
                behind: Vec::new(),
            });
        }
        let troubles = self.troubles().clone();
        let old = |since: &Timestamp| now.duration_since(*since).as_secs() >= SCRAPED_AGAIN;
        for (url, (since, why)) in troubles.into_iter().filter(|(_, (since, _))| old(since)) {
            all.push(Condition {
                key: format!("baselines/scrape/{url}"),
                subject: "observations".to_owned(),
                severity: Severity::Medium,
                title: format!("the histogram at {url} can't be scraped"),
                details: vec![why],
                runbook: RUNBOOK.to_owned(),
                since,
                behind: Vec::new(),
            });
        }
        if let Err((_, why)) = &self.store {
            all.push(Condition {
                key: "baselines/file".to_owned(),
                subject: "observations".to_owned(),
                severity: Severity::High,
                title: "the file of observations can't be opened: nothing is observed".to_owned(),
                details: vec![why.clone()],
                runbook: RUNBOOK.to_owned(),
                since: self.started_at,
                behind: Vec::new(),
            });
        }
        Ok(all)
    }
}

/// An episode that goes on, as people are told of it.
pub fn condition(episode: &EpisodeRecord, now: Timestamp) -> Condition {
    let operation = &episode.operation;
    let mut details = vec![format!("since {}", episode.since)];
    details.extend(episode.changes.iter().map(|it| format!("changed: {it}")));
    if episode.changes.is_empty() {
        details.push("nothing changed shortly before it, by the operation log".to_owned());
    }
    details.extend(episode.surroundings.iter().cloned());
    details.extend(episode.queries.iter().map(|it| format!("slow query: {it}")));
    details.extend(episode.rollbacks.iter().map(|it| format!("roll back: {it}")));
    if now.duration_since(episode.since).as_secs() >= ASKED_AFTER {
        details.push(format!(
            "for more than a day: if it is what is usual from now on, `genesisctl baseline accept --operation {operation}`"
        ));
    }
    details.push(format!("genesisctl baseline show {operation}"));
    Condition {
        key: episode_key(operation),
        subject: operation.clone(),
        severity: Severity::High,
        title: told(episode),
        details,
        runbook: "api-degradation".to_owned(),
        since: episode.since,
        // Its breaker may be open and told as well; what changed is only here.
        behind: Vec::new(),
    }
}
