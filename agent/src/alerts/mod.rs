//! Alerts: people hear of each condition once, by the channel that fits, until it is over.
//!
//! `look` asks every source for what holds now and compares it with what fires; [`plan`] says who hears of what;
//! `dispatch` sends it, one message at a time for each channel. All of it lives in memory, so that a full or hung disk
//! keeps nobody from being called, and is in redb before it is sent wherever the disk lets it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use genesis_storage::{AlertRecord, Moment, OutboxRecord, SilenceRecord};
use tokio::sync::mpsc;

use crate::config::Follower;
use crate::error::{Error, Result};
use crate::events::{Bell, Source};
use crate::outside::Outside;
use crate::state::State;

pub mod channel;
pub mod config;
mod digest;
mod dispatch;
mod look;
pub mod message;
pub mod metrics;
pub mod plan;
mod record;
pub mod render;
pub mod rpc;
#[cfg(test)]
mod tests;
pub mod verbs;
pub mod view;

pub use config::Config;
use dispatch::Ended;
use message::Sender;
pub use metrics::Metrics;
use record::Unwritten;

/// The sources are asked this often where none of them rings.
const CALM: Duration = Duration::from_secs(3);
/// And this often while something waits to be sent.
const BUSY: Duration = Duration::from_secs(1);

/// What is wrong with a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Trouble {
    since: Moment,
    why: String,
    /// It will not take what it is given until its configuration is mended.
    refused: bool,
}

/// What changes while the agent runs.
#[derive(Default)]
struct Live {
    /// What fires, by key.
    firing: BTreeMap<String, AlertRecord>,
    /// What is over and whose messages are not all sent, by id.
    ended: BTreeMap<String, AlertRecord>,
    /// When what is over came and went.
    recent: BTreeMap<String, Vec<Moment>>,
    silences: Vec<SilenceRecord>,
    /// What is to be sent, by sequence.
    outbox: BTreeMap<u64, OutboxRecord>,
    next: u64,
    /// What is being sent, by channel.
    sending: BTreeSet<String>,
    trouble: BTreeMap<String, Trouble>,
    /// When each channel was last sent something (monotonic).
    sent_at: BTreeMap<String, Duration>,
    /// Until when a channel asks to be left alone (monotonic).
    held: BTreeMap<String, Duration>,
    /// When the last sign of life was sent (monotonic).
    beat_at: Option<Duration>,
    /// The day of the last digest.
    digest: Option<jiff::Timestamp>,
    /// Conditions that found no room at the last look.
    crowded_out: usize,
    unwritten: Unwritten,
}

/// The alerts of this host.
pub struct Alerts {
    state: State,
    outside: Outside,
    sources: OnceLock<Vec<Arc<dyn Source>>>,
    bell: Bell,
    config: ArcSwap<Config>,
    sender: Sender,
    metrics: Metrics,
    live: Mutex<Live>,
    /// One look at a time.
    looking: tokio::sync::Mutex<()>,
    /// One write at a time, also while an earlier one hangs.
    writing: Arc<tokio::sync::Mutex<()>>,
    ended: mpsc::UnboundedSender<Ended>,
    endings: tokio::sync::Mutex<mpsc::UnboundedReceiver<Ended>>,
    ids: Mutex<ulid::Generator>,
}

impl Alerts {
    /// Takes over what the last agent left. [`Alerts::serve`] starts it.
    ///
    /// # Errors
    /// `STORAGE_FAILED`.
    pub fn open(
        state: State,
        outside: Outside,
        bell: Bell,
        (config, host): (&crate::config::Config, (String, String)),
        metrics: Metrics,
    ) -> Result<Arc<Self>> {
        let (ended, endings) = mpsc::unbounded_channel();
        let sender = Sender {
            host_id: host.0,
            hostname: host.1,
            fleet: config.fleet.name.clone(),
            runbooks: config.alerts.runbooks.clone(),
            on_call: config.contacts.on_call.clone(),
            escalation: config.contacts.escalation.clone(),
        };
        let alerts = Arc::new(Self {
            state,
            outside,
            sources: OnceLock::new(),
            bell,
            config: ArcSwap::from_pointee(config.alerts.clone()),
            sender,
            metrics,
            live: Mutex::default(),
            looking: tokio::sync::Mutex::new(()),
            writing: Arc::default(),
            ended,
            endings: tokio::sync::Mutex::new(endings),
            ids: Mutex::new(ulid::Generator::new()),
        });
        alerts.load()?;
        // They may have been changed, or mended, while no agent ran.
        alerts.use_channels(&config.alerts);
        Ok(alerts)
    }

    /// Whom it listens to, once, before it is started.
    pub fn listen_to(&self, sources: Vec<Arc<dyn Source>>) {
        // A second list changes nothing.
        let _ = self.sources.set(sources);
    }

    fn sources(&self) -> &[Arc<dyn Source>] {
        self.sources.get().map_or(&[], Vec::as_slice)
    }

    /// Looks, tells and sends, for ever.
    pub async fn serve(self: Arc<Self>) {
        let mut look_at = Duration::ZERO;
        loop {
            let now = self.outside.clock.monotonic();
            if now >= look_at {
                self.look().await;
                look_at = now + BUSY;
            }
            self.dispatch().await;
            let mut endings = self.endings.lock().await;
            let calm = {
                let live = self.live();
                live.outbox.is_empty() && live.unwritten.is_empty()
            };
            let pause = async {
                if calm {
                    self.outside.clock.tick(CALM).await;
                } else {
                    self.outside.clock.sleep(self.soonest()).await;
                }
            };
            tokio::select! {
                () = pause => {}
                () = self.bell.rung() => look_at = Duration::ZERO,
                Some(ended) = endings.recv() => self.take_ending(ended),
            }
            while let Ok(ended) = endings.try_recv() {
                self.take_ending(ended);
            }
        }
    }

    /// How long nothing can be sent: until a channel's pause is over, a second at most.
    fn soonest(&self) -> Duration {
        let (config, now) = (self.config(), self.outside.clock.monotonic());
        let live = self.live();
        let left = config.channels.iter().filter_map(|channel| {
            let ready = *live.sent_at.get(&channel.name)? + channel.pause;
            let waits = live.outbox.values().any(|entry| entry.channel == channel.name);
            (waits && ready > now).then(|| ready - now)
        });
        left.min().unwrap_or(BUSY).clamp(Duration::from_millis(10), BUSY)
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        // Each change of it is complete in itself, so a panic elsewhere does not spoil it.
        self.live.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The configuration in force.
    pub fn config(&self) -> Arc<Config> {
        self.config.load_full()
    }

    fn new_id(&self) -> String {
        let at = crate::runs::system_time(self.outside.clock.now());
        let mut ids = self.ids.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        // 2^80 ids in one millisecond; a fresh random one is as good.
        ids.generate_from_datetime(at).unwrap_or_else(|_| ulid::Ulid::from_datetime(at)).to_string()
    }

    /// An alert by its id, or the first characters of it; "last" is the newest.
    ///
    /// # Errors
    /// `ALERT_NOT_FOUND`, `STORAGE_FAILED`.
    pub fn find(&self, id: &str) -> Result<AlertRecord> {
        let missing = || {
            let message = format!("no alert has the id {id:?}, or several begin with it");
            Error::not_found("ALERT_NOT_FOUND", message)
        };
        if id == "last" {
            return self.list(false, 1)?.pop().ok_or_else(missing);
        }
        let live = |alert: &&AlertRecord| alert.id.starts_with(id) && id.len() >= 4;
        let mut found: Vec<AlertRecord> = {
            let held = self.live();
            held.firing.values().chain(held.ended.values()).filter(live).cloned().collect()
        };
        if id.len() >= 4 {
            let kept = self.state.read(|reading| Ok(reading.alerts().with_prefix(id, 2)?))?;
            found.extend(kept);
        }
        found.sort_by(|a, b| a.id.cmp(&b.id));
        found.dedup_by(|a, b| a.id == b.id);
        match (found.pop(), found.is_empty()) {
            (Some(alert), true) => Ok(alert),
            _ => Err(missing()),
        }
    }
}

#[async_trait::async_trait]
impl Follower for Alerts {
    async fn follow(&self, config: &crate::config::Config) {
        let before = self.config.swap(Arc::new(config.alerts.clone()));
        self.use_channels(&before);
        self.bell.ring();
    }
}
