//! Strategy A/B tests, and the parameters that strategies use: which value of a parameter earns more, decided after each
//! batch of trades by one table.
//!
//! A trade comes in by a batch ([`prepare`]) and is durable with its group ([`writer`]), with the look that follows it
//! ([`tally`]). What a look decides ends the experiment in the agent's state ([`conclude`]), in one transaction with what
//! that changes of the parameters ([`parameters`]).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use genesis_storage::{ExperimentRecord, Intent, ParameterRecord, Trades};
use tokio::sync::{mpsc, oneshot, watch};

use crate::batches::{Producers, Stream};
use crate::config::Follower;
use crate::error::{Error, Result};
use crate::events::Bell;
use crate::outside::Outside;
use crate::state::State;

pub mod conclude;
pub mod config;
pub mod job;
pub mod metrics;
pub mod parameters;
pub mod plan;
pub mod prepare;
pub mod rpc;
pub mod tally;
#[cfg(test)]
mod tests;
pub mod told;
pub mod verbs;
pub mod writer;

pub use config::Config;
pub use metrics::Metrics;
use prepare::{Batch, Horizon};
use tally::Tally;
pub use writer::Answer;
use writer::{Order, Work, Writer};

/// The kind of the runs that keep the file of trades small.
pub const UPKEEP: &str = "experiments.upkeep";
/// The page of the runbook.
const RUNBOOK: &str = "experiments";
/// Who acts when nobody asked for it.
const ACTOR: &str = "system:experiments";
/// So much of the file of trades is kept in memory, in bytes.
const CACHE: usize = 8 << 20;
/// So many batches are made ready at a time.
const PREPARING: usize = 2;

/// What is in memory: the same as on the disk.
#[derive(Default)]
pub struct Live {
    /// All experiments.
    pub known: BTreeMap<u64, Arc<ExperimentRecord>>,
    /// What was tallied of each.
    pub tallies: BTreeMap<u64, Tally>,
    /// The parameters in force, by strategy and name.
    pub parameters: BTreeMap<(String, String), ParameterRecord>,
}

impl Live {
    /// The experiments that go on.
    pub fn running(&self) -> impl Iterator<Item = &ExperimentRecord> {
        self.known.values().map(|it| &**it).filter(|it| it.conclusion.is_none())
    }
}

/// The experiments and parameters of this host.
pub struct Experiments {
    state: State,
    outside: Outside,
    host: String,
    config: ArcSwap<Config>,
    metrics: Metrics,
    bell: Bell,
    /// Why there are none, where the file can't be opened.
    store: Result<Arc<Trades>, (&'static str, String)>,
    live: Mutex<Live>,
    work: mpsc::Sender<Order>,
    /// One more with each change of a parameter or an experiment.
    revision: watch::Sender<u64>,
    /// Since when, and why, trades are not kept.
    failing: Mutex<Option<(jiff::Timestamp, String)>>,
    /// So many batches are made ready at a time, so that what changes the state finds a thread.
    preparing: tokio::sync::Semaphore,
    /// One change of experiments or parameters at a time.
    changing: tokio::sync::Mutex<()>,
    /// When this agent was started.
    started_at: jiff::Timestamp,
}

impl Experiments {
    /// Opens the file of trades, which is made where there is none, and takes over what the last agent left. One that
    /// can't be opened keeps the agent from nothing else: parameters are had as before, and experiments say why.
    ///
    /// # Errors
    /// `STORAGE_FAILED`, of the agent's state.
    pub fn open(
        (state, outside, host): (State, Outside, String),
        (config, path): (Config, PathBuf),
        (metrics, bell): (Metrics, Bell),
    ) -> Result<Arc<Self>> {
        let (experiments, versions) = state
            .read(|reading| Ok((reading.experiments().all()?, reading.parameters().all()?)))?;
        let mut live = Live::default();
        for record in experiments {
            live.known.insert(record.number, Arc::new(record));
        }
        for record in versions {
            // The last of each stays.
            let key = (record.strategy.clone(), record.name.clone());
            live.parameters.insert(key, record);
        }
        let opened = Trades::open(&path, CACHE).map_err(|error| {
            Error::unavailable(error.code(), "can't open the file of trades").caused_by(error)
        });
        let mut loaded = None;
        let store = opened.and_then(|store| {
            let (producers, kept) = store.read(|reading| {
                Ok::<_, Error>((reading.producers()?, writer::load(reading, &live.known)?))
            })?;
            let tallies = kept.iter().map(|(number, kept)| (*number, kept.tally().clone()));
            live.tallies = tallies.collect();
            loaded = Some((Producers::new(producers), kept));
            Ok(Arc::new(store))
        });
        let store = store.map_err(|error| {
            let told = error.chain();
            tracing::error!(error = told, "there are no experiments");
            ("EXPERIMENTS_UNAVAILABLE", told)
        });
        let (work, waiting) = mpsc::channel(writer::WAITING);
        let experiments = Arc::new(Self {
            started_at: outside.clock.now(),
            state,
            outside,
            host,
            config: ArcSwap::from_pointee(config),
            metrics,
            bell,
            store,
            live: Mutex::new(live),
            work,
            revision: watch::channel(1).0,
            failing: Mutex::default(),
            preparing: tokio::sync::Semaphore::new(PREPARING),
            changing: tokio::sync::Mutex::new(()),
        });
        if let (Ok(store), Some((producers, kept))) = (&experiments.store, loaded) {
            let writer = Writer {
                experiments: Arc::downgrade(&experiments),
                store: Arc::clone(store),
                runtime: tokio::runtime::Handle::current(),
                producers,
                kept,
                stale: false,
            };
            let started = std::thread::Builder::new()
                .name("trades".to_owned())
                .spawn(move || writer.run(waiting));
            started.map_err(|error| {
                Error::internal("THREAD_FAILED", "can't start a thread").caused_by(error)
            })?;
        }
        Ok(experiments)
    }

    pub(super) fn live(&self) -> MutexGuard<'_, Live> {
        // Each change of it is complete in itself, so a panic elsewhere does not spoil it.
        self.live.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The file of trades.
    ///
    /// # Errors
    /// `EXPERIMENTS_UNAVAILABLE`.
    pub fn store(&self) -> Result<&Arc<Trades>> {
        self.store.as_ref().map_err(|(code, why)| {
            let message = format!(
                "{why}; once the file is mended or moved away, restart the agent; `genesisctl runbook show experiments`"
            );
            Error::unavailable(code, message)
        })
    }

    /// By the clock of this host.
    pub fn now(&self) -> jiff::Timestamp {
        self.outside.clock.now()
    }

    /// This host, as an owner of experiments.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Tells changes of parameters and experiments.
    pub fn revisions(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    fn changed(&self) {
        self.revision.send_modify(|revision| *revision = revision.wrapping_add(1));
        self.bell.ring();
    }

    fn horizon(&self) -> Horizon {
        let kept = i64::try_from(self.config.load().dedup_retention.as_secs()).unwrap_or(i64::MAX);
        Horizon::at(self.now().as_second(), kept)
    }

    /// All experiments that are known.
    pub fn known(&self) -> BTreeMap<u64, Arc<ExperimentRecord>> {
        self.live().known.clone()
    }

    /// Notes that trades can't be kept, or that they can again.
    fn failing(&self, why: Option<&str>) {
        let mut failing = self.failing.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        match (why, failing.is_some()) {
            (Some(why), false) => {
                tracing::error!(error = why, "trades are not kept");
                *failing = Some((self.now(), why.to_owned()));
            }
            (None, true) => {
                tracing::warn!("trades are kept again");
                *failing = None;
            }
            _ => return,
        }
        drop(failing);
        self.bell.ring();
    }

    /// Since when, and why, trades are not kept.
    pub fn trouble(&self) -> Option<(jiff::Timestamp, String)> {
        self.failing.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    /// Has the writer do something, and waits for it.
    async fn order<T>(&self, order: impl FnOnce(oneshot::Sender<Result<T>>) -> Order) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        let gone = || Error::internal("EXPERIMENTS_UNAVAILABLE", "the writer of trades is gone");
        self.work.send(order(answer)).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }

    /// Begins a stream of a producer: its one entry in the operation log.
    ///
    /// # Errors
    /// `EXPERIMENTS_UNAVAILABLE`, `STORAGE_FAILED`.
    pub async fn begin(&self, producer: &str, (who, reason): (&str, &str)) -> Result<()> {
        self.store()?;
        let intent =
            Intent::new(self.now(), who, "experiments.stream").target(producer).reason(reason);
        self.state.note(intent).await
    }

    /// Takes a batch in, in the order of the calls; what becomes of it comes when it is durable. Waits while the disk
    /// does.
    ///
    /// # Errors
    /// `BATCH_INVALID`, `EXPERIMENTS_UNAVAILABLE`.
    pub async fn take(
        &self,
        batch: Batch,
        stream: &Stream,
    ) -> Result<oneshot::Receiver<Result<Answer>>> {
        self.store()?;
        if let Some(why) = prepare::wrong(&batch) {
            let message = format!("batch {}: {why}", batch.sequence);
            return Err(Error::invalid("BATCH_INVALID", message));
        }
        let (known, horizon) = (self.known(), self.horizon());
        // Closed never.
        let place = self.preparing.acquire().await;
        let prepared =
            tokio::task::spawn_blocking(move || prepare::prepare(batch, &known, horizon));
        let prepared = prepared.await.map_err(|error| {
            Error::internal("CALL_PANICKED", "a batch hit a defect").caused_by(error)
        })?;
        drop(place);
        let (answer, answered) = oneshot::channel();
        let work = Work { prepared, stream: Arc::clone(stream), answer };
        self.work.send(Order::Batch(work)).await.map_err(|_| {
            Error::internal(
                "EXPERIMENTS_UNAVAILABLE",
                "the writer of trades is gone; restart the agent",
            )
        })?;
        Ok(answered)
    }

    /// What the writer has made durable.
    fn took(&self, tallies: Vec<(u64, Tally)>, told: &[Result<Answer>]) {
        told.iter().flatten().for_each(|answer| self.metrics.took(answer));
        if tallies.is_empty() {
            return;
        }
        self.live().tallies.extend(tallies);
        // Who watches sees it; nothing that is used has changed.
        self.revision.send_modify(|revision| *revision = revision.wrapping_add(1));
    }
}

#[async_trait]
impl Follower for Experiments {
    async fn follow(&self, config: &crate::config::Config) {
        self.config.store(Arc::new(config.experiments.clone()));
    }
}
