//! Performance baselines: services push how long their operations took, the agent says what is usual, and since when it
//! is not.
//!
//! An observation comes in by a batch ([`prepare`]), is durable with its group ([`writer`]) as part of its hour's sketch
//! and as a raw row, and stays in memory as long as its window is open ([`windows`]). A window that is over is judged
//! ([`judge`], [`look`]) against the baseline in force, which is calculated from the sketches of hours ([`calculate`]).

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use genesis_stats::Sketch;
use genesis_storage::{EpisodeRecord, Intent, Observations};
use tokio::sync::{Notify, mpsc, oneshot};

use crate::batches::{Producers, Stream};
use crate::config::Follower;
use crate::error::{Error, Result};
use crate::events::Bell;
use crate::outside::{Clock, Outside};
use crate::runs::Runs;
use crate::state::State;

pub mod calculate;
pub mod calibration;
pub mod calls;
pub mod component;
pub mod config;
pub mod episodes;
pub mod export;
pub mod exposition;
pub mod job;
pub mod judge;
mod left;
pub mod look;
pub mod metrics;
pub mod native;
pub mod otlp;
pub mod plan;
pub mod prepare;
pub mod push;
pub mod raw;
pub mod rpc;
pub mod scrape;
pub mod source;
pub mod standing;
#[cfg(test)]
mod tests;
pub mod told;
pub mod upkeep;
pub mod verbs;
pub mod windows;
pub mod writer;

pub use config::Config;
pub use left::current;
use left::load;
pub use metrics::Metrics;
use prepare::{Batch, Horizon};
use standing::Standing;
use windows::Windows;
pub use writer::Answer;
use writer::{Order, Work, Writer};

/// The kind of the runs that calculate baselines.
pub const RECALCULATE: &str = "baselines.recalculate";
/// The kind of the runs that keep the file of observations small.
pub const UPKEEP: &str = "baselines.upkeep";
/// The page of the runbook.
const RUNBOOK: &str = "baselines";
/// Who acts when nobody asked for it.
const ACTOR: &str = "system:baselines";
/// So much of the file of observations is kept in memory, in bytes.
const CACHE: usize = 16 << 20;
/// So many batches are made ready at a time.
const PREPARING: usize = 2;
/// Hours are kept for so long beyond a baseline's window, in seconds: one that is late by a week has all of its own.
const SPARE: i64 = 8 * 86_400;

/// What baselines ask of other rooms.
#[async_trait]
pub trait Neighbours: Send + Sync {
    /// A minute of an operation was judged: `left` says how far it left what is usual, if it did. Whether a breaker
    /// opened.
    async fn minute(&self, operation: &str, left: Option<&str>) -> bool;
    /// What the host is like now, a line each.
    async fn surroundings(&self) -> Vec<String>;
    /// The slowest queries that go on, a line each.
    async fn queries(&self) -> Vec<String>;
    /// What may be rolled back, of these changes of the operation log, a line each.
    async fn rollbacks(&self, changes: &[genesis_storage::StoredEntry]) -> Vec<String>;
}

/// What may fail for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    /// Keeping what comes in.
    Writing,
    /// Judging it.
    Judging,
}

/// What is in memory.
#[derive(Default)]
pub struct Live {
    /// The operations' numbers.
    pub numbers: BTreeMap<String, u32>,
    /// How each stands.
    pub standings: HashMap<u32, Standing>,
    /// The windows that are open.
    pub windows: Windows,
    /// What the state knows of operations that the file of observations does not: it was moved away, or they are gone.
    pub unclaimed: BTreeMap<String, Standing>,
}

impl Live {
    /// An operation with its number, and what was known of it before.
    fn add(&mut self, name: String, number: u32) {
        let standing = self.unclaimed.remove(&name).unwrap_or_default();
        self.standings.entry(number).or_insert(standing);
        self.numbers.insert(name, number);
    }

    fn forget(&mut self, name: &str, number: u32) {
        self.numbers.remove(name);
        self.windows.forget(number);
        if let Some(standing) = self.standings.remove(&number) {
            let known = Standing { current: standing.current, ..Standing::default() };
            self.unclaimed.insert(name.to_owned(), known);
        }
    }
}

/// The baselines of this host.
pub struct Baselines {
    state: State,
    outside: Outside,
    runs: Runs,
    config: ArcSwap<Config>,
    metrics: Metrics,
    bell: Bell,
    /// Why there are none, where the file can't be opened.
    store: Result<Arc<Observations>, (&'static str, String)>,
    live: Mutex<Live>,
    work: mpsc::Sender<Order>,
    neighbours: Arc<dyn Neighbours>,
    /// Something came in: there is something to judge by and by.
    woken: Notify,
    /// When this agent was started.
    started_at: jiff::Timestamp,
    /// Since when, and why, observations are not kept or windows not judged.
    failing: Mutex<[Option<(jiff::Timestamp, String)>; 2]>,
    /// What can't be scraped, since when, and why.
    scraping: Mutex<BTreeMap<String, (jiff::Timestamp, String)>>,
    /// What exporters pushed.
    pushed: push::Held,
    /// One of them at a time.
    pushing: tokio::sync::Mutex<()>,
    /// The configuration is another one.
    reconfigured: Notify,
    /// So many batches are made ready at a time, so that what changes the state finds a thread.
    preparing: tokio::sync::Semaphore,
    /// One search of single calls at a time.
    searching: tokio::sync::Mutex<()>,
    /// One calculation at a time. Taken before `judging`.
    calculating: tokio::sync::Mutex<()>,
    /// One look, or change of what is judged by, at a time.
    judging: tokio::sync::Mutex<()>,
}

impl Baselines {
    /// Opens the file of observations, which is made where there is none, and takes over what the last agent left. One
    /// that can't be opened keeps the agent from nothing else: then each verb here says why.
    ///
    /// # Errors
    /// `STORAGE_FAILED`, of the agent's state.
    pub fn open(
        (state, outside, runs): (State, Outside, Runs),
        (config, path): (Config, PathBuf),
        (metrics, bell): (Metrics, Bell),
        neighbours: Arc<dyn Neighbours>,
    ) -> Result<Arc<Self>> {
        let (mut live, mut producers) = (Live::default(), Vec::new());
        let opened = Observations::open(&path, CACHE).map_err(|error| {
            let told = Error::unavailable(error.code(), "can't open the file of observations");
            told.caused_by(error)
        });
        let (known, open) = state.read(|reading| {
            Ok((reading.baselines().newest()?, reading.baselines().open_episodes()?))
        })?;
        let store = opened.and_then(|store| {
            live = load(&store, known, open, horizon(&config, &*outside.clock).open)?;
            producers = store.read(|it| Ok::<_, Error>(it.producers()?))?;
            Ok(Arc::new(store))
        });
        let store = store.map_err(|error| {
            let told = error.chain();
            tracing::error!(error = told, "there are no baselines");
            ("OBSERVATIONS_UNAVAILABLE", told)
        });
        let (work, waiting) = mpsc::channel(writer::WAITING);
        let started_at = outside.clock.now();
        let baselines = Arc::new(Self {
            started_at,
            state,
            outside,
            runs,
            config: ArcSwap::from_pointee(config),
            metrics,
            bell,
            store,
            live: Mutex::new(live),
            work,
            neighbours,
            woken: Notify::new(),
            failing: Mutex::default(),
            scraping: Mutex::default(),
            pushed: push::Held::default(),
            pushing: tokio::sync::Mutex::new(()),
            reconfigured: Notify::new(),
            preparing: tokio::sync::Semaphore::new(PREPARING),
            searching: tokio::sync::Mutex::new(()),
            calculating: tokio::sync::Mutex::new(()),
            judging: tokio::sync::Mutex::new(()),
        });
        if let Ok(store) = &baselines.store {
            let writer = Writer {
                baselines: Arc::downgrade(&baselines),
                store: Arc::clone(store),
                producers: Producers::new(producers),
                hours: HashMap::new(),
                stale: false,
            };
            let started = std::thread::Builder::new()
                .name("observations".to_owned())
                .spawn(move || writer.run(waiting));
            started.map_err(|error| {
                Error::internal("THREAD_FAILED", "can't start a thread").caused_by(error)
            })?;
        }
        Ok(baselines)
    }

    pub(super) fn live(&self) -> MutexGuard<'_, Live> {
        // Each change of it is complete in itself, so a panic elsewhere does not spoil it.
        self.live.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The file of observations.
    ///
    /// # Errors
    /// `OBSERVATIONS_UNAVAILABLE`.
    pub fn store(&self) -> Result<&Arc<Observations>> {
        self.store.as_ref().map_err(|(code, why)| {
            let message = format!(
                "{why}; once the file is mended or moved away, restart the agent; `genesisctl runbook show baselines`"
            );
            Error::unavailable(code, message)
        })
    }

    /// By the clock of this host.
    pub fn now(&self) -> jiff::Timestamp {
        self.outside.clock.now()
    }

    fn horizon(&self) -> Horizon {
        horizon(&self.config.load(), &*self.outside.clock)
    }

    /// Notes that something fails, or that it is well again.
    fn failing(&self, what: What, why: Option<&str>) {
        let mut all = self.failing.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let failing = &mut all[what as usize];
        match (why, failing.is_some()) {
            (Some(why), false) => {
                tracing::error!(error = why, "observations are not kept, or not judged");
                *failing = Some((self.outside.clock.now(), why.to_owned()));
            }
            (None, true) => {
                tracing::warn!("observations are kept and judged again");
                *failing = None;
            }
            _ => return,
        }
        drop(all);
        self.bell.ring();
    }

    /// What fails, since when, and why.
    pub fn trouble(&self) -> Vec<(jiff::Timestamp, String)> {
        let all = self.failing.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let words = ["observations are not kept", "windows are not judged"];
        let each = all.iter().zip(words).filter_map(|(failing, what)| {
            failing.as_ref().map(|(since, why)| (*since, format!("{what} since {since}: {why}")))
        });
        each.collect()
    }

    /// Takes over the operations as they are on the disk.
    fn learn(&self, operations: Vec<(String, u32)>) {
        let mut live = self.live();
        for (name, number) in operations {
            live.add(name, number);
        }
    }

    /// Has the writer forget an operation.
    async fn forget(&self, name: String, number: u32) -> Result<()> {
        let (answer, answered) = oneshot::channel();
        let gone =
            || Error::internal("OBSERVATIONS_UNAVAILABLE", "the writer of observations is gone");
        let sent = self.work.send(Order::Forget(name, number, answer)).await;
        sent.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }

    /// Begins a stream of a producer: its one entry in the operation log.
    ///
    /// # Errors
    /// `OBSERVATIONS_UNAVAILABLE`, `STORAGE_FAILED`.
    pub async fn begin(&self, producer: &str, (who, reason): (&str, &str)) -> Result<()> {
        self.store()?;
        let now = self.outside.clock.now();
        let intent = Intent::new(now, who, "baselines.stream").target(producer).reason(reason);
        self.state.note(intent).await
    }

    /// Takes a batch in, in the order of the calls; what becomes of it comes when it is durable. Waits while the disk
    /// does.
    ///
    /// # Errors
    /// `BATCH_INVALID`, `OBSERVATIONS_UNAVAILABLE`.
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
        let horizon = self.horizon();
        // Closed never.
        let place = self.preparing.acquire().await;
        let prepared = tokio::task::spawn_blocking(move || prepare::prepare(batch, &horizon));
        let prepared = prepared.await.map_err(|error| {
            Error::internal("CALL_PANICKED", "a batch hit a defect").caused_by(error)
        })?;
        drop(place);
        let (answer, answered) = oneshot::channel();
        let work = Work { prepared, stream: Arc::clone(stream), answer };
        self.work.send(Order::Batch(work)).await.map_err(|_| {
            Error::internal(
                "OBSERVATIONS_UNAVAILABLE",
                "the writer of observations is gone; restart the agent",
            )
        })?;
        Ok(answered)
    }

    /// What the writer has made durable.
    fn took(
        &self,
        operations: Vec<(String, u32)>,
        minutes: &[(u32, i64, Sketch)],
        answers: &[Result<Answer>],
    ) {
        {
            let mut live = self.live();
            for (name, number) in operations {
                live.add(name, number);
            }
            for (number, minute, sketch) in minutes {
                live.windows.add(*number, *minute, sketch);
                if let Some(standing) = live.standings.get_mut(number) {
                    standing.last = standing.last.max(Some((minute + 1) * 60 - 1));
                }
            }
        }
        answers.iter().flatten().for_each(|answer| self.metrics.took(answer));
        if !minutes.is_empty() {
            self.woken.notify_one();
        }
    }

    /// The number of an operation.
    ///
    /// # Errors
    /// `OPERATION_NOT_FOUND`.
    pub fn number(&self, operation: &str) -> Result<u32> {
        self.live().numbers.get(operation).copied().ok_or_else(|| {
            let shown: String = operation.chars().take(64).collect();
            let message = format!(
                "there is no operation {shown:?}; `genesisctl baseline list` shows those that were observed"
            );
            Error::not_found("OPERATION_NOT_FOUND", message)
        })
    }

    /// The episode that goes on, of every operation that has one.
    pub fn open_episodes(&self) -> Vec<EpisodeRecord> {
        let live = self.live();
        let mut open: Vec<_> =
            live.standings.values().filter_map(|standing| standing.episode.clone()).collect();
        open.sort_by(|one, other| one.operation.cmp(&other.operation));
        open
    }
}

fn horizon(config: &Config, clock: &dyn Clock) -> Horizon {
    let now = clock.now().as_second();
    let window = i64::try_from(config.window.as_secs()).unwrap_or(i64::MAX);
    let minute = now.div_euclid(60) - windows::KEPT;
    Horizon { now, oldest: now.saturating_sub(window), open: minute * 60 }
}

#[async_trait]
impl Follower for Baselines {
    async fn follow(&self, config: &crate::config::Config) {
        self.config.store(Arc::new(config.baselines.clone()));
        self.reconfigured.notify_one();
    }
}
