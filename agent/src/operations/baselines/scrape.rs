//! Histograms that services keep themselves are looked at again and again; what came between two looks is observed.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use genesis_stats::Sketch;
use jiff::Timestamp;
use tokio::sync::oneshot;

use super::config::Scrape;
use super::exposition::{Dialect, parse};
use super::prepare::{self, Prepared};
use super::source::{Cumulative, Unit};
use super::writer::{Order, Work};
use super::{Answer, Baselines};
use crate::batches::Stream;
use crate::error::{Error, Result};

/// So many bytes an answer has at most.
const LIMIT: usize = 8 << 20;
/// So many series of one metric are told apart.
const SERIES: usize = 2_000;
/// So long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// After a pause of so many looks nobody knows when it was that all that came was.
const MISSED: u32 = 4;
/// What is asked for.
const ACCEPT: &str = "text/plain;version=0.0.4,application/openmetrics-text;q=0.5";

/// What is known of a source.
struct Known {
    cumulative: Cumulative,
    /// When it is looked at next, on the monotonic clock.
    due: Duration,
    /// Looks in a row that came to nothing.
    missed: u32,
    /// What is not durable yet.
    pending: BTreeMap<String, Sketch>,
}

impl Baselines {
    /// Looks for ever, each source in its own time.
    pub async fn scrape(self: Arc<Self>) {
        if self.store().is_err() {
            return std::future::pending().await;
        }
        let began = self.started_at.as_millisecond().max(0);
        let mut known: HashMap<Scrape, Known> = HashMap::new();
        let mut sequence = 0;
        loop {
            let config = self.config.load_full();
            let now = self.outside.clock.monotonic();
            known.retain(|scrape, _| config.scrapes.contains(scrape));
            self.troubles().retain(|url, _| config.scrapes.iter().any(|it| it.url == *url));
            for scrape in &config.scrapes {
                let fresh = || Known {
                    cumulative: Cumulative::new(SERIES),
                    due: now,
                    missed: 0,
                    pending: BTreeMap::new(),
                };
                let of = known.entry(scrape.clone()).or_insert_with(fresh);
                if of.due > now {
                    continue;
                }
                of.due = now + scrape.interval;
                sequence += 1;
                let producer = format!("scrape-{began}");
                let outcome = self.look_at(scrape, of, (producer, sequence)).await;
                self.metrics.scraped(outcome.is_ok());
                of.missed = if outcome.is_ok() { 0 } else { of.missed + 1 };
                if of.missed == MISSED {
                    of.cumulative.forget();
                }
                self.note_trouble(&scrape.url, outcome.err().map(|error| error.chain()));
            }
            let next = known.values().map(|of| of.due).min();
            let pause = next.map(|due| due.saturating_sub(self.outside.clock.monotonic()));
            tokio::select! {
                () = self.outside.clock.sleep(pause.unwrap_or(Duration::MAX)), if pause.is_some() => {}
                () = self.reconfigured.notified() => {}
            }
        }
    }

    async fn look_at(
        &self,
        scrape: &Scrape,
        known: &mut Known,
        (producer, sequence): (String, u64),
    ) -> Result<()> {
        let headers = [("accept", ACCEPT)];
        let asked = self.outside.web.get(&scrape.url, &headers, LIMIT);
        let failed = |why: String| Error::unavailable("SCRAPE_FAILED", why);
        let answer = tokio::time::timeout(PATIENCE, asked).await;
        let answer = answer.map_err(|_| failed(format!("no answer within {PATIENCE:?}")))?;
        let answer = answer.map_err(|failure| failed(failure.to_string()))?;
        if !(200..300).contains(&answer.status) {
            return Err(failed(format!("it answered {}", answer.status)));
        }
        if answer.cut {
            return Err(failed(format!("it has more than {} MiB of metrics", LIMIT >> 20)));
        }
        let kind = answer.headers.get(http::header::CONTENT_TYPE);
        let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let at = self.outside.clock.now();
        let families = parse(&answer.body, Dialect::of(kind));
        let found = families.get(&scrape.metric).is_some();
        let unit = scrape.unit.unwrap_or_else(|| Unit::of_metric(&scrape.metric));
        let scraped = known.cumulative.scrape(&families, &scrape.metric, &scrape.operation, unit);
        for (operation, sketch) in scraped.operations {
            if !sketch.is_empty() {
                known.pending.entry(operation).or_default().merge(&sketch);
            }
        }
        self.keep_scraped(known, at, (producer, sequence)).await?;
        match (found, scraped.unsound) {
            (false, _) => Err(failed(format!("it has no histogram {}", scrape.metric))),
            (true, 0) => Ok(()),
            (true, count) => {
                Err(failed(format!("{count} series of {} are unsound", scrape.metric)))
            }
        }
    }

    /// Has what was scraped written; what can't be waits for the next look.
    async fn keep_scraped(
        &self,
        known: &mut Known,
        at: Timestamp,
        (producer, sequence): (String, u64),
    ) -> Result<()> {
        if known.pending.is_empty() {
            return Ok(());
        }
        let at = at.as_second();
        let items =
            known.pending.iter().map(|(operation, sketch)| (operation.as_str(), at, sketch));
        let prepared = prepare::sketches(items, &self.horizon(), (producer, sequence));
        self.keep_sketches(prepared).await?;
        known.pending.clear();
        Ok(())
    }

    /// Has sketches of others written.
    pub(super) async fn keep_sketches(&self, prepared: Prepared) -> Result<Answer> {
        let (answer, answered) = oneshot::channel();
        let work = Work { prepared, stream: Stream::default(), answer };
        let gone =
            || Error::internal("OBSERVATIONS_UNAVAILABLE", "the writer of observations is gone");
        self.work.send(Order::Batch(work)).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }

    /// Since when each source could not be scraped, and why.
    pub(super) fn troubles(
        &self,
    ) -> std::sync::MutexGuard<'_, BTreeMap<String, (Timestamp, String)>> {
        self.scraping.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn note_trouble(&self, url: &str, why: Option<String>) {
        let mut troubles = self.troubles();
        match why {
            None => drop(troubles.remove(url)),
            Some(why) => {
                let now = self.outside.clock.now();
                troubles.entry(url.to_owned()).or_insert((now, String::new())).1 = why;
            }
        }
    }
}
