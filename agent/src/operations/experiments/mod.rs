//! Strategy A/B tests, and the parameters that strategies use: which value of a parameter earns more, decided after each
//! batch of trades by one table.
//!
//! A trade comes in by a batch ([`prepare`]) and is durable with its group ([`writer`]), with the look that follows it
//! ([`tally`]). What a look decides ends the experiment in the agent's state ([`conclude`]), in one transaction with what
//! that changes of the parameters ([`parameters`]).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use genesis_storage::{ExperimentRecord, Intent, ParameterRecord, Trades};
use tokio::sync::{mpsc, oneshot, watch};

use crate::batches::{Producers, Stream, Trouble};
use crate::config::Follower;
use crate::error::{Error, Result};
use crate::events::Bell;
use crate::fleet::Fleet;
use crate::outside::Outside;
use crate::state::State;

pub mod component;
pub mod conclude;
pub mod config;
pub mod fleet;
pub mod job;
pub mod kept;
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
/// What is told where its thread has ended.
const WRITER_GONE: &str = "the writer of trades is gone; restart the agent";
/// After trades could not be kept, no stream begins for so many seconds.
const STREAMS: i64 = 5;
/// And after so many the disk is tried, where nobody sends any.
const PROBED: i64 = 60;
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
    /// Those whose trades can't be read, and why.
    pub unreadable: BTreeMap<u64, String>,
}

impl Live {
    /// The experiments that go on.
    pub fn running(&self) -> impl Iterator<Item = &ExperimentRecord> {
        self.known.values().map(|it| &**it).filter(|it| it.conclusion.is_none())
    }

    /// Those of them whose variant is used: a rollback that was decided counts at once, wherever the state can't note it.
    pub fn in_use(&self) -> impl Iterator<Item = &ExperimentRecord> {
        self.running().filter(|it| {
            let ended = self.tallies.get(&it.number).and_then(|tally| tally.ended.as_ref());
            ended.is_none_or(|ended| ended.how != plan::ROLLED_BACK)
        })
    }

    /// Takes over what the state has of experiments and parameters.
    fn take(&mut self, experiments: Vec<ExperimentRecord>, versions: Vec<ParameterRecord>) {
        let known = experiments.into_iter().map(|record| (record.number, slim(record)));
        self.known = known.collect();
        // The last of each stays.
        let keyed = versions
            .into_iter()
            .map(|record| ((record.strategy.clone(), record.name.clone()), record));
        self.parameters = keyed.collect();
    }
}

/// As it is kept in memory: what was tallied by its end is read when somebody asks.
fn slim(mut record: ExperimentRecord) -> Arc<ExperimentRecord> {
    if let Some(ended) = &mut record.conclusion {
        ended.tally = String::new();
        if let Some(tally) = &mut ended.fleet {
            tally.clear();
        }
    }
    Arc::new(record)
}

/// Whether a variant may become the value of all units now; a refusal where it may not.
pub type Gate = Arc<dyn Fn() -> Result<()> + Send + Sync>;

/// The experiments and parameters of this host.
pub struct Experiments {
    may_promote: Gate,
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
    /// Greater with each change of a parameter or an experiment, also over restarts, unless the clock is set back.
    revision: watch::Sender<u64>,
    /// Tells that trades were tallied.
    tallied: watch::Sender<()>,
    failing: Trouble,
    /// So many batches are made ready at a time, so that what changes the state finds a thread.
    preparing: tokio::sync::Semaphore,
    /// One change of experiments or parameters at a time.
    changing: tokio::sync::Mutex<()>,
    /// Whether a change failed that may be in the state all the same.
    doubtful: AtomicBool,
    /// Whether commits of trades fail, after all else of them was done.
    #[cfg(test)]
    broken: AtomicBool,
    /// When this agent was started.
    started_at: jiff::Timestamp,
    fleet: Arc<Fleet>,
    /// What is known of its part in it.
    part: Mutex<fleet::Part>,
}

impl Experiments {
    /// Opens the file of trades, which is made where there is none, and takes over what the last agent left. One that
    /// can't be opened keeps the agent from nothing else: parameters are had as before, and experiments say why.
    ///
    /// # Errors
    /// `STORAGE_FAILED`, of the agent's state.
    pub fn open(
        (state, outside): (State, Outside),
        (config, path): (Config, PathBuf),
        may_promote: Gate,
        (metrics, bell, fleet): (Metrics, Bell, Arc<Fleet>),
    ) -> Result<Arc<Self>> {
        let (experiments, versions) = state
            .read(|reading| Ok((reading.experiments().all()?, reading.parameters().all()?)))?;
        let mut live = Live::default();
        live.take(experiments, versions);
        let opened = Trades::open(&path, CACHE).map_err(|error| {
            Error::unavailable(error.code(), "can't open the file of trades").caused_by(error)
        });
        let mut loaded = None;
        let store = opened.and_then(|store| {
            let (producers, (kept, unreadable)) = store.read(|reading| {
                Ok::<_, Error>((reading.producers()?, writer::load(reading, &live.known)?))
            })?;
            let tallies = kept.iter().map(|(number, kept)| (*number, kept.tally.clone()));
            live.tallies = tallies.collect();
            live.unreadable.clone_from(&unreadable);
            loaded = Some((Producers::new(producers), kept, unreadable));
            Ok(Arc::new(store))
        });
        let store = store.map_err(|error| {
            let told = error.chain();
            tracing::error!(error = told, "there are no experiments");
            ("EXPERIMENTS_UNAVAILABLE", told)
        });
        let (work, waiting) = mpsc::channel(writer::WAITING);
        let started_at = outside.clock.now();
        let first = u64::try_from(started_at.as_millisecond()).unwrap_or(0).max(1);
        let experiments = Arc::new(Self {
            started_at,
            host: fleet.me().host_id.clone(),
            fleet,
            part: Mutex::default(),
            state,
            outside,
            may_promote,
            config: ArcSwap::from_pointee(config),
            metrics,
            bell,
            store,
            live: Mutex::new(live),
            work,
            revision: watch::channel(first).0,
            tallied: watch::channel(()).0,
            failing: Trouble::none("trades"),
            preparing: tokio::sync::Semaphore::new(PREPARING),
            changing: tokio::sync::Mutex::new(()),
            doubtful: AtomicBool::new(false),
            #[cfg(test)]
            broken: AtomicBool::new(false),
        });
        if let (Ok(store), Some((producers, kept, unreadable))) = (&experiments.store, loaded) {
            let writer = Writer {
                experiments: Arc::downgrade(&experiments),
                store: Arc::clone(store),
                runtime: tokio::runtime::Handle::current(),
                producers,
                kept,
                unreadable,
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

    /// Tells that trades were tallied.
    pub fn tallies(&self) -> watch::Receiver<()> {
        self.tallied.subscribe()
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

    #[cfg(test)]
    fn break_commits(&self, broken: bool) {
        self.broken.store(broken, Ordering::Relaxed);
    }

    /// All experiments that are known.
    pub fn known(&self) -> BTreeMap<u64, Arc<ExperimentRecord>> {
        self.live().known.clone()
    }

    /// Notes that trades can't be kept, or that they can again.
    fn failing(&self, why: Option<(&'static str, &str)>) {
        if self.failing.note(why, self.now()) {
            self.bell.ring();
        }
    }

    /// The code and the words of what kept trades from being kept within so many seconds.
    fn failed_within(&self, seconds: i64) -> Option<(&'static str, String)> {
        self.failing.within(seconds, self.now())
    }

    /// Since when, and why, trades are not kept.
    pub fn trouble(&self) -> Option<(jiff::Timestamp, String)> {
        if self.store.is_ok() && self.work.is_closed() {
            return Some((self.started_at, WRITER_GONE.to_owned()));
        }
        self.failing.told()
    }

    /// The turn to change experiments or parameters. A change before that failed may be in the state all the same: then
    /// what is there is read again.
    ///
    /// # Errors
    /// `STORAGE_FAILED`.
    async fn turn(&self) -> Result<tokio::sync::MutexGuard<'_, ()>> {
        let turn = self.changing.lock().await;
        if self.doubtful.load(Ordering::Relaxed) {
            self.reread()?;
            self.doubtful.store(false, Ordering::Relaxed);
        }
        Ok(turn)
    }

    /// What a change came to. One that failed is doubtful.
    fn sure<T>(&self, changed: Result<T>) -> Result<T> {
        changed.inspect_err(|_| self.doubtful.store(true, Ordering::Relaxed))
    }

    fn reread(&self) -> Result<()> {
        let (experiments, versions) = self
            .state
            .read(|reading| Ok((reading.experiments().all()?, reading.parameters().all()?)))?;
        let mut live = self.live();
        let before = std::mem::take(&mut live.known);
        live.take(experiments, versions);
        for record in live.known.values() {
            let known = before.get(&record.number);
            // The writer may be who asks: what it does not hear now it hears at its next start.
            let _ = match (known, &record.conclusion) {
                (None, _) => {
                    self.work.try_send(Order::Begin(Arc::clone(record), oneshot::channel().0))
                }
                (Some(known), Some(_)) if known.conclusion.is_none() => {
                    self.work.try_send(Order::End(record.number, oneshot::channel().0))
                }
                _ => Ok(()),
            };
        }
        drop(live);
        self.changed();
        Ok(())
    }

    /// Has the writer do something, and waits for it.
    async fn order<T>(&self, order: impl FnOnce(oneshot::Sender<Result<T>>) -> Order) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        let gone = || Error::internal("EXPERIMENTS_UNAVAILABLE", WRITER_GONE);
        self.work.send(order(answer)).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }

    /// Begins a stream of a producer: its one entry in the operation log.
    ///
    /// # Errors
    /// `EXPERIMENTS_UNAVAILABLE`, `STORAGE_FAILED`, and whatever keeps trades from being kept.
    pub async fn begin(&self, producer: &str, (who, reason): (&str, &str)) -> Result<()> {
        self.store()?;
        // Each stream that is tried in vain would take some of the room that a rollback needs.
        if let Some((code, why)) = self.failed_within(STREAMS) {
            return Err(Error::unavailable(code, format!("trades are not kept now: {why}")));
        }
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
        self.work
            .send(Order::Batch(work))
            .await
            .map_err(|_| Error::internal("EXPERIMENTS_UNAVAILABLE", WRITER_GONE))?;
        Ok(answered)
    }

    /// What the writer has made durable.
    fn took(&self, tallies: Vec<(u64, Tally)>, told: &[Result<Answer>]) {
        told.iter().flatten().for_each(|answer| self.metrics.took(answer));
        if tallies.is_empty() {
            return;
        }
        let ended = tallies.iter().any(|(_, tally)| tally.ended.is_some());
        self.live().tallies.extend(tallies);
        if ended {
            // A rollback counts from here.
            self.changed();
        }
        // Nothing that is used has changed.
        self.tallied.send_replace(());
    }

    /// What the writer has read again.
    fn reloaded(&self, writer: &Writer) {
        let mut live = self.live();
        live.tallies = writer.kept.iter().map(|(of, kept)| (*of, kept.tally.clone())).collect();
        live.unreadable.clone_from(&writer.unreadable);
        drop(live);
        self.changed();
    }
}

#[async_trait]
impl Follower for Experiments {
    async fn follow(&self, config: &crate::config::Config) {
        self.config.store(Arc::new(config.experiments.clone()));
    }
}
