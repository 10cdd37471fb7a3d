//! Correlation matrices: from values of series to a matrix that is valid, tried on a share of the consumers, and swapped
//! without a pause.
//!
//! Values come in by batches ([`prepare`]) and are durable by bucket and hour ([`writer`], [`hours`]). Once a day their
//! sums become a matrix ([`calculate`]), which is held against each criterion and rolled out stage by stage ([`rollout`],
//! [`plan`]), as long as what consumers report shows no harm ([`stage`]). Who asks for a matrix reads a pointer
//! ([`serving`]). In a fleet one host may do so for all ([`sharing`]).

use std::collections::{BTreeSet, HashSet};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use genesis_storage::{Intent, MatrixRecord, Values};
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};

use crate::batches::{Producers, Stream, Trouble};
use crate::config::Follower;
use crate::error::{Error, Result};
use crate::events::Bell;
use crate::fleet::Fleet;
use crate::outside::Outside;
use crate::runs::Runs;
use crate::state::State;

pub mod calculate;
pub mod columns;
pub mod component;
pub mod config;
pub mod days;
pub mod found;
pub mod gaps;
pub mod hours;
pub mod job;
pub mod metrics;
pub mod plan;
pub mod prepare;
pub mod rollout;
pub mod rpc;
pub mod serving;
pub mod sharing;
pub mod stage;
#[cfg(test)]
mod tests;
pub mod told;
pub mod verbs;
pub mod writer;

pub use config::Config;
pub use metrics::Metrics;
use plan::Versions;
use prepare::{Batch, Horizon, Sent};
use serving::Serving;
use sharing::Shared;
use stage::{Decided, Stage};
pub use writer::Answer;
use writer::{Content, Order, Work, Writer};

/// The kind of the runs that calculate a matrix.
pub const UPDATE: &str = "matrices.update";
/// The kind of the runs that keep the file of values small.
pub const UPKEEP: &str = "matrices.upkeep";
/// The page of the runbook.
const RUNBOOK: &str = "matrices";
/// Who acts when nobody asked for it.
const ACTOR: &str = "system:matrices";
/// The code where the file can't be used.
const UNAVAILABLE: &str = "SERIES_UNAVAILABLE";
/// So much of the file of values is kept in memory, in bytes.
const CACHE: usize = 16 << 20;
/// What is told where its thread has ended.
const WRITER_GONE: &str = "the writer of values is gone; restart the agent";
/// After values could not be kept, no stream begins for so many seconds.
const STREAMS: i64 = 5;
/// And after so many the disk is tried, where nobody sends any.
const PROBED: i64 = 60;
/// A day in seconds.
const DAY: i64 = 86_400;

/// What is in memory.
#[derive(Default)]
pub struct Live {
    /// All versions.
    pub versions: Versions,
    /// What was reported in the stage that goes on, as it is on the disk; of one that ended where none does.
    pub stage: Option<Stage>,
    /// The version whose outcomes can't be read, and why.
    pub unjudged: Option<(u64, String)>,
    /// Versions whose values can't be read, and why.
    pub unreadable: Vec<(u64, String)>,
}

/// The correlation matrices of this host, and the series that they are made of.
pub struct Matrices {
    state: State,
    outside: Outside,
    runs: Runs,
    host: String,
    config: ArcSwap<Config>,
    metrics: Metrics,
    bell: Bell,
    fleet: Arc<Fleet>,
    shared: Mutex<Shared>,
    /// Why there are no values, where the file can't be opened.
    store: Result<Arc<Values>, (&'static str, String)>,
    live: Mutex<Live>,
    /// What consumers get: readers never wait.
    serving: ArcSwap<Serving>,
    work: mpsc::Sender<Order>,
    /// Greater with each change of what consumers get.
    revision: watch::Sender<u64>,
    failing: Trouble,
    /// One calculation, or look at all values, at a time.
    making: tokio::sync::Semaphore,
    /// One change of versions at a time.
    changing: tokio::sync::Mutex<()>,
    /// Whether a change failed that may be in the state all the same.
    doubtful: AtomicBool,
    /// When this agent was started.
    started_at: Timestamp,
}

impl Matrices {
    /// Opens the file of values, which is made where there is none, and takes over what the last agent left. One that
    /// can't be opened keeps the agent from nothing else: the active matrix is in the state, and is had as before.
    ///
    /// # Errors
    /// `STORAGE_FAILED`, of the agent's state.
    pub fn open(
        (state, outside, runs, host): (State, Outside, Runs, String),
        (config, path): (Config, PathBuf),
        (metrics, bell, fleet): (Metrics, Bell, Arc<Fleet>),
    ) -> Result<Arc<Self>> {
        let opened = Values::open(&path, CACHE).map_err(|error| {
            Error::unavailable(error.code(), "can't open the file of values").caused_by(error)
        });
        let mut loaded = None;
        let store = opened.and_then(|store| {
            loaded = Some(store.read(|reading| {
                Ok::<_, Error>((Producers::new(reading.producers()?), reading.names()?))
            })?);
            Ok(Arc::new(store))
        });
        let store = store.map_err(|error| {
            let told = error.chain();
            tracing::error!(error = told, "there are no series");
            (UNAVAILABLE, told)
        });
        let (work, waiting) = mpsc::channel(writer::WAITING);
        let matrices = Arc::new(Self {
            started_at: outside.clock.now(),
            state,
            outside,
            runs,
            host,
            config: ArcSwap::from_pointee(config),
            metrics,
            bell,
            fleet,
            shared: Mutex::default(),
            store,
            live: Mutex::default(),
            serving: ArcSwap::default(),
            work,
            revision: watch::channel(1).0,
            failing: Trouble::none("values of series"),
            making: tokio::sync::Semaphore::new(1),
            changing: tokio::sync::Mutex::new(()),
            doubtful: AtomicBool::new(false),
        });
        matrices.reread()?;
        if let (Ok(store), Some((producers, names))) = (&matrices.store, loaded) {
            let mut writer = Writer {
                matrices: Arc::downgrade(&matrices),
                store: Arc::clone(store),
                runtime: tokio::runtime::Handle::current(),
                producers,
                names: names.into_iter().collect(),
                stage: None,
                following: None,
                fresh: false,
                told: BTreeSet::new(),
                consumers: HashSet::new(),
                stale: false,
            };
            if let Err(error) = writer.follow(&matrices) {
                // The first batch tries again, and says why.
                tracing::error!(error = error.chain(), "a rollout can't be judged yet");
            }
            let started = std::thread::Builder::new()
                .name("values".to_owned())
                .spawn(move || writer.run(waiting));
            started.map_err(|error| {
                Error::internal("THREAD_FAILED", "can't start a thread").caused_by(error)
            })?;
        }
        Ok(matrices)
    }

    pub(super) fn live(&self) -> MutexGuard<'_, Live> {
        // Each change of it is complete in itself, so a panic elsewhere does not spoil it.
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file of values.
    ///
    /// # Errors
    /// `SERIES_UNAVAILABLE`.
    pub fn store(&self) -> Result<&Arc<Values>> {
        self.store.as_ref().map_err(|(code, why)| {
            let message = format!(
                "{why}; once the file is mended or moved away, restart the agent; `genesisctl runbook show matrices`"
            );
            Error::unavailable(code, message)
        })
    }

    /// By the clock of this host.
    pub fn now(&self) -> Timestamp {
        self.outside.clock.now()
    }

    /// This host, as blocks of several are told apart by.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// What the configuration says.
    pub fn config(&self) -> Arc<Config> {
        self.config.load_full()
    }

    /// All versions.
    pub fn versions(&self) -> Versions {
        self.live().versions.clone()
    }

    /// The one that is being rolled out.
    pub fn canary(&self) -> Option<Arc<MatrixRecord>> {
        plan::in_state(&self.live().versions, plan::CANARY).cloned()
    }

    /// Tells changes of what consumers get.
    pub fn revisions(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    /// What consumers get now.
    pub fn serving(&self) -> arc_swap::Guard<Arc<Serving>> {
        self.serving.load()
    }

    /// The days of the window, days since 1970: whole ones, and today.
    pub fn days(&self) -> std::ops::RangeInclusive<u32> {
        let now = self.now().as_second();
        let window = i64::try_from(self.config.load().window.as_secs()).unwrap_or(i64::MAX);
        let day = |at: i64| at.div_euclid(DAY).clamp(0, i64::from(u32::MAX / 24) - 1) as u32;
        day(now.saturating_sub(window))..=day(now)
    }

    fn horizon(&self) -> Horizon {
        // The day before has the price that the first return of the window is made with.
        Horizon::of(self.days().start().saturating_sub(1), self.now().as_second())
    }

    /// Notes that values can't be kept, or that they can again.
    fn failing(&self, why: Option<(&'static str, &str)>) {
        if self.failing.note(why, self.now()) {
            self.bell.ring();
        }
    }

    /// Since when, and why, values are not kept.
    pub fn trouble(&self) -> Option<(Timestamp, String)> {
        if self.store.is_ok() && self.work.is_closed() {
            return Some((self.started_at, WRITER_GONE.to_owned()));
        }
        self.failing.told()
    }

    /// Has the writer do something, and waits for it.
    async fn order<T>(&self, order: impl FnOnce(oneshot::Sender<Result<T>>) -> Order) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        let gone = || Error::internal(UNAVAILABLE, WRITER_GONE);
        self.work.send(order(answer)).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }

    /// Begins a stream of a producer: its one entry in the operation log.
    ///
    /// # Errors
    /// `SERIES_UNAVAILABLE`, `STORAGE_FAILED`, and whatever keeps values from being kept.
    pub async fn begin(
        &self,
        action: &str,
        producer: &str,
        (who, reason): (&str, &str),
    ) -> Result<()> {
        self.store()?;
        // Each stream that is tried in vain would take some of the room that a rollback needs.
        if let Some((code, why)) = self.failing.within(STREAMS, self.now()) {
            return Err(Error::unavailable(code, format!("values are not kept now: {why}")));
        }
        let intent = Intent::new(self.now(), who, action).target(producer).reason(reason);
        self.state.note(intent).await
    }

    /// Takes a batch in, in the order of the calls; what becomes of it comes when it is durable. Waits while the disk
    /// does.
    ///
    /// # Errors
    /// `BATCH_INVALID`, `SERIES_UNAVAILABLE`.
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
        let key = batch.key();
        let (config, horizon) = (self.config(), self.horizon());
        let content = match batch.sent {
            Sent::Values(columns) => {
                let (columns, left) =
                    prepare::sift(columns, horizon, |series| config.has_prices(series));
                Content::Values(columns, left)
            }
            Sent::Outcomes(columns) => {
                Content::Outcomes { consumer: batch.producer, columns, newest: horizon.newest }
            }
        };
        let (answer, answered) = oneshot::channel();
        let stream = Arc::clone(stream);
        let work = Work { key, sequence: batch.sequence, content, stream, answer };
        self.work
            .send(Order::Batch(work))
            .await
            .map_err(|_| Error::internal(UNAVAILABLE, WRITER_GONE))?;
        Ok(answered)
    }

    /// What the writer has made durable.
    fn took(&self, stage: Option<&Stage>, told: &[Result<Answer>]) {
        told.iter().flatten().for_each(|answer| self.metrics.took(answer));
        let decided = stage.filter(|it| it.decided.as_ref().is_some_and(Decided::is_harmful));
        self.live().stage = stage.cloned();
        if let Some(stage) = decided {
            // It counts from here, wherever the state can't note it.
            self.withdraw(stage.version);
        }
    }

    /// The writer has gone over to a stage, or can't read it.
    fn follows(&self, stage: Option<&Stage>, unreadable: Option<(u64, String)>) {
        self.live().unjudged = unreadable;
        self.took(stage, &[]);
    }
}

#[async_trait]
impl Follower for Matrices {
    async fn follow(&self, config: &crate::config::Config) {
        self.config.store(Arc::new(config.matrices.clone()));
    }
}
