//! Episodes: what is known of one when it opens, what is offered when it lasts, and how it ends.

use genesis_stats::{Change, OperationEpisode};
use genesis_storage::{EpisodeRecord, Intent, OplogEntry, StoredEntry};
use jiff::{SignedDuration, Timestamp};

use super::judge::Outcome;
use super::look::Judgement;
use super::plan::{QUANTILES, WINDOW};
use super::{ACTOR, Baselines};
use crate::error::Result;

/// What changed so long before an episode began may be behind it.
const BEFORE: SignedDuration = SignedDuration::from_mins(30);
/// So many changes are looked at.
const FOUND: usize = 200;
/// So many changes are named.
const NAMED: usize = 8;
/// After so many windows it is offered to roll back what changed: half an hour.
const LASTS: i64 = 6 * WINDOW;

/// What is around when episodes begin.
#[derive(Debug, Clone, Default)]
pub struct Around {
    surroundings: Vec<String>,
    queries: Vec<String>,
}

/// When an episode began: at most a day before it was noticed, whatever the clock was then.
pub fn since(episode: &OperationEpisode, start: i64) -> i64 {
    i64::try_from(episode.since).unwrap_or(start).clamp(start.saturating_sub(86_400), start)
}

impl Baselines {
    /// What a window changes of an operation's episode is recorded.
    pub(super) async fn turn(&self, one: &Judgement, around: &mut Option<Around>) -> Result<()> {
        let Judgement { number, name, outcome } = one;
        let number = *number;
        let known = self.live().standings.get(&number).and_then(|it| it.episode.clone());
        let is_open =
            self.live().standings.get(&number).is_some_and(|it| it.watch.episode.is_some());
        match (outcome.change, known) {
            (Change::Opened(episode) | Change::Persisting(episode), None) => {
                let since = since(&episode, outcome.window.start);
                if around.is_none() {
                    // Once for all that begin with this window: databases may be slow to answer.
                    *around = Some(Around {
                        surroundings: self.neighbours.surroundings().await,
                        queries: self.neighbours.queries().await,
                    });
                }
                let around = around.clone().unwrap_or_default();
                self.begins(number, name, (since, around), outcome).await
            }
            (Change::Opened(_) | Change::Persisting(_), Some(episode)) => {
                self.lasts(number, episode, outcome).await
            }
            // Also one whose sums were lost with the agent, and that is not found again.
            (Change::Closed(_) | Change::None, Some(episode)) if !is_open => {
                let until = seconds(outcome.window.start + WINDOW);
                self.end(number, episode, until, "cleared", (ACTOR, "")).await
            }
            _ => Ok(()),
        }
    }

    async fn begins(
        &self,
        number: u32,
        name: &str,
        (since, around): (i64, Around),
        outcome: &Outcome,
    ) -> Result<()> {
        let since = seconds(since);
        let noticed = seconds(outcome.window.start + WINDOW);
        let entries = self.changes(since, noticed)?;
        let record = EpisodeRecord {
            noticed: Some(noticed),
            id: ulid::Ulid::from_datetime(crate::runs::system_time(since)).to_string(),
            operation: name.to_owned(),
            since,
            changes: entries.iter().take(NAMED).map(line).collect(),
            surroundings: around.surroundings,
            queries: around.queries,
            ..EpisodeRecord::default()
        };
        let record = worse(record, outcome);
        let intent = Intent::new(self.outside.clock.now(), ACTOR, "baselines.episode")
            .target(name)
            .outcome("began")
            .detail(told(&record));
        self.put(number, record, intent).await?;
        self.metrics.began();
        self.bell.ring();
        Ok(())
    }

    async fn lasts(&self, number: u32, before: EpisodeRecord, outcome: &Outcome) -> Result<()> {
        let mut record = worse(before.clone(), outcome);
        let lasted = outcome.window.start + WINDOW - before.since.as_second();
        let mut offered = false;
        if record.rollbacks.is_empty() && lasted >= LASTS {
            let until = before.noticed.unwrap_or(before.since);
            let entries = self.changes(before.since, until)?;
            record.rollbacks = self.neighbours.rollbacks(&entries).await;
            if record.rollbacks.is_empty() {
                record
                    .rollbacks
                    .push("nothing that can be rolled back changed before it".to_owned());
            }
            offered = true;
        }
        if record == before {
            return Ok(());
        }
        // How bad it is changes with each window; only what people are offered is an event of its own.
        if !offered {
            if let Some(standing) = self.live().standings.get_mut(&number) {
                standing.episode = Some(record);
            }
            return Ok(());
        }
        let intent = Intent::new(self.outside.clock.now(), ACTOR, "baselines.episode")
            .target(record.operation.clone())
            .outcome("persists")
            .detail(record.rollbacks.join("; "));
        self.put(number, record, intent).await?;
        self.bell.ring();
        Ok(())
    }

    /// Ends an episode.
    pub(super) async fn end(
        &self,
        number: u32,
        mut record: EpisodeRecord,
        until: Timestamp,
        how: &str,
        (by, reason): (&str, &str),
    ) -> Result<()> {
        record.until = Some(until.max(record.since));
        how.clone_into(&mut record.ended);
        let intent = Intent::new(self.outside.clock.now(), by, "baselines.episode")
            .target(record.operation.clone())
            .reason(reason)
            .outcome(how);
        let put = record.clone();
        self.state.write(intent, move |writing| Ok(writing.baselines().put_episode(&put)?)).await?;
        if let Some(standing) = self.live().standings.get_mut(&number) {
            standing.episode = None;
        }
        self.bell.ring();
        Ok(())
    }

    async fn put(&self, number: u32, record: EpisodeRecord, intent: Intent) -> Result<()> {
        let put = record.clone();
        self.state.write(intent, move |writing| Ok(writing.baselines().put_episode(&put)?)).await?;
        if let Some(standing) = self.live().standings.get_mut(&number) {
            standing.episode = Some(record);
        }
        Ok(())
    }

    /// What changed from some time before `since`, newest first.
    fn changes(&self, since: Timestamp, until: Timestamp) -> Result<Vec<StoredEntry>> {
        let from = since.checked_sub(BEFORE).unwrap_or(since);
        self.state.read(|reading| {
            let wanted = |it: &OplogEntry| (from..until).contains(&it.at) && is_change(it);
            Ok(reading.oplog().newest(None, FOUND, wanted)?)
        })
    }
}

/// Whether an entry of the operation log tells of a change of the host that may make an operation slower.
pub fn is_change(entry: &OplogEntry) -> bool {
    let of = |prefix: &str| entry.action.starts_with(prefix);
    let failed = !matches!(entry.outcome.as_str(), "" | "ok" | "OK" | "succeeded" | "applied");
    match entry.action.as_str() {
        "agent.started" | "agent.stopped" => true,
        // Streams that began, and a matrix that nobody uses.
        "experiments.stream" | "matrices.values" | "matrices.outcomes" | "matrices.rejected" => {
            false
        }
        _ if of("baselines.") || of("vitals.") || of("alerts.") || of("breaker.") => false,
        // What the agent does by itself for baselines, and what has an entry of its own.
        _ if entry.target.starts_with("baselines.") => false,
        _ if ["Baseline", "Breaker", "Alerts", "ReloadConfig"]
            .iter()
            .any(|it| entry.action.contains(it)) =>
        {
            false
        }
        // A call that was refused changed nothing.
        _ if of("call ") => !failed,
        _ => {
            of("config.")
                || of("run.started")
                || of("certificate")
                || of("health.attempt")
                || of("dependencies.")
                || of("matrices.")
                || of("experiments.")
                || of("parameters.")
                || of("emergency")
        }
    }
}

/// The components that these entries of the operation log changed, each once, in the order of the entries; as rollbacks
/// name them.
pub fn components<'a>(entries: impl Iterator<Item = &'a OplogEntry>) -> Vec<String> {
    let mut found = Vec::new();
    for entry in entries {
        let (domain, _) = entry.action.split_once('.').unwrap_or((&entry.action, ""));
        let named = |family: &str, name: &str| match name {
            "" => family.to_owned(),
            name => format!("{family}:{name}"),
        };
        // What is behind the slash is which one of it.
        let of = entry.target.split_once('/').map_or(entry.target.as_str(), |(of, _)| of);
        let component = match domain {
            "config" => "config".to_owned(),
            "matrices" => "matrix".to_owned(),
            "certificate" => named("certificate", of),
            "dependencies" => named("dependencies", of),
            "database" => named("database", of),
            "parameters" | "experiments" => named("parameter", &entry.target.replace('/', ".")),
            _ => continue,
        };
        if !found.contains(&component) {
            found.push(component);
        }
    }
    found
}

fn line(stored: &StoredEntry) -> String {
    let entry = &stored.entry;
    let mut text = format!("{} {} by {}", entry.at, entry.action, entry.actor);
    if !entry.target.is_empty() {
        text = format!("{text}: {}", entry.target);
    }
    if !entry.reason.is_empty() {
        text = format!("{text} ({})", entry.reason);
    }
    text.chars().take(300).collect()
}

/// The record with what this window adds to it: the quantile that has left the furthest, and how bad that was.
fn worse(mut record: EpisodeRecord, outcome: &Outcome) -> EpisodeRecord {
    for judged in &outcome.window.judged {
        let rise = judged.value / judged.usual.0;
        let worst = if record.usual > 0.0 { record.worst / record.usual } else { 0.0 };
        if rise > worst {
            let at = QUANTILES.iter().position(|it| *it == judged.quantile).unwrap_or(0);
            record.quantile = u8::try_from(at).unwrap_or(0);
            (record.usual, record.worst) = (judged.usual.0, judged.value);
        }
        record.worst_z = record.worst_z.max(judged.z);
    }
    record
}

/// An episode in a line.
pub fn told(record: &EpisodeRecord) -> String {
    format!("{}: {}", record.operation, left(record))
}

/// How far it left what is usual.
pub fn left(record: &EpisodeRecord) -> String {
    let quantile = QUANTILES[usize::from(record.quantile).min(2)] * 100.0;
    format!("p{quantile:.0} is {} where {} is usual", latency(record.worst), latency(record.usual))
}

/// Seconds in a unit that people read.
pub fn latency(seconds: f64) -> String {
    let (value, unit) = match seconds {
        it if it >= 1.0 => (it, "s"),
        it if it >= 1e-3 => (it * 1e3, "ms"),
        it if it >= 1e-6 => (it * 1e6, "us"),
        it => (it * 1e9, "ns"),
    };
    let digits = match value {
        it if it >= 100.0 => 0,
        it if it >= 10.0 => 1,
        _ => 2,
    };
    format!("{value:.digits$} {unit}")
}

pub(super) fn seconds(at: i64) -> Timestamp {
    Timestamp::from_second(at).unwrap_or(Timestamp::UNIX_EPOCH)
}
