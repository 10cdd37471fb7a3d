//! Alerts whose sources and channels do what a test says, under a clock that the test moves.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use genesis_storage::{AlertRecord, Options, Store};
use tempfile::TempDir;
use tokio::sync::watch;

use crate::alerts::channel::Channel;
use crate::alerts::message::{Message, Occasion};
use crate::alerts::{Alerts, Metrics};
use crate::config::{Config as AgentConfig, Places};
use crate::error::{Error, Result};
use crate::events::{Bell, Condition, Severity, Source};
use crate::outside::notify::{Notifier, Sent};
use crate::outside::{Clock, ManualClock, Outside};
use crate::state::State;

/// A message as a channel got it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Got {
    pub(super) channel: String,
    pub(super) occasion: Occasion,
    pub(super) subjects: Vec<String>,
    pub(super) message: String,
    pub(super) note: String,
    pub(super) at: Duration,
}

/// What holds, and what the channels do.
pub(super) struct World {
    clock: Arc<ManualClock>,
    /// `None`: it can't be told.
    pub(super) holds: Mutex<Option<Vec<Condition>>>,
    pub(super) got: Mutex<Vec<Got>>,
    /// What a channel says next; then it accepts.
    pub(super) says: Mutex<BTreeMap<String, VecDeque<Sent>>>,
    /// It has a defect.
    pub(super) panics: AtomicBool,
    /// Channels that say nothing but this.
    pub(super) always: Mutex<BTreeMap<String, Sent>>,
    /// A channel that does not take what is about this subject, for now.
    pub(super) balks_at: Mutex<Option<(String, String)>>,
}

#[async_trait]
impl Notifier for World {
    async fn send(&self, channel: &Channel, message: &Message) -> Sent {
        let name = channel.name.clone();
        let said = self.says.lock().unwrap().get_mut(&name).and_then(VecDeque::pop_front);
        let said = said.or_else(|| self.always.lock().unwrap().get(&name).cloned());
        let balks_at = self.balks_at.lock().unwrap().clone();
        let balks = balks_at.is_some_and(|(channel, subject)| {
            channel == name && message.items.iter().any(|item| item.subject == subject)
        });
        let said = said.or_else(|| balks.then(|| Sent::later("451: not this one")));
        let said = said.unwrap_or(Sent::Accepted { detail: "taken".into() });
        if matches!(said, Sent::Accepted { .. }) {
            self.got.lock().unwrap().push(Got {
                channel: name,
                occasion: message.occasion,
                subjects: message.items.iter().map(|item| item.subject.clone()).collect(),
                message: message.id.clone(),
                note: message.note.clone(),
                at: self.clock.monotonic(),
            });
        }
        said
    }
}

struct Told(Arc<World>);

#[async_trait]
impl Source for Told {
    fn name(&self) -> &'static str {
        "world"
    }

    async fn conditions(&self) -> Result<Vec<Condition>> {
        assert!(!self.0.panics.load(Ordering::Relaxed), "a defect");
        let holds = self.0.holds.lock().unwrap().clone();
        holds.ok_or_else(|| Error::internal("UNTOLD", "it can't be told"))
    }
}

/// A condition about something, by whose name it goes.
pub(super) fn condition(subject: &str, severity: Severity) -> Condition {
    Condition {
        key: format!("world/{subject}"),
        subject: subject.to_owned(),
        severity,
        title: format!("{subject} is bad"),
        details: vec!["nothing helped".to_owned()],
        runbook: "health".to_owned(),
        since: "2026-03-02T07:59:00Z".parse().unwrap(),
        behind: Vec::new(),
    }
}

pub(super) const CHANNELS: &str = "
[alerts.channel.pagerduty]
kind = \"pagerduty\"
secret_env = \"KEY\"
[alerts.channel.sms]
kind = \"sms\"
url = \"https://gateway\"
to = [\"+41\"]
[alerts.channel.slack-critical]
kind = \"slack\"
secret_env = \"KEY\"
[alerts.channel.slack-alerts]
kind = \"slack\"
secret_env = \"KEY\"
[alerts.channel.digest]
kind = \"email\"
server = \"mail:25\"
from = \"agent@example.com\"
to = [\"ops@example.com\"]
";

pub(super) struct Host {
    _folder: Arc<TempDir>,
    places: Places,
    config: String,
    pub(super) clock: Arc<ManualClock>,
    pub(super) world: Arc<World>,
    pub(super) alerts: Arc<Alerts>,
    pub(super) state: State,
}

impl Host {
    pub(super) async fn new(config: &str) -> Self {
        let folder = Arc::new(tempfile::tempdir_in("/dev/shm").unwrap());
        let clock = Arc::new(ManualClock::new("2026-03-02T08:00:00Z".parse().unwrap()));
        let world = Arc::new(World {
            clock: Arc::clone(&clock),
            holds: Mutex::new(Some(Vec::new())),
            got: Mutex::default(),
            panics: AtomicBool::new(false),
            says: Mutex::default(),
            always: Mutex::default(),
            balks_at: Mutex::default(),
        });
        let places =
            Places { state: folder.path().to_owned(), socket: folder.path().join("agent.sock") };
        let config = format!("{config}{CHANNELS}");
        let (alerts, state) = open(&places, &config, &clock, &world).await;
        Self { _folder: folder, places, config, clock, world, alerts, state }
    }

    /// The agent ends at once, and after a while another one starts on the same state.
    pub(super) async fn restart(self, down: Duration) -> Self {
        let Self { _folder, places, config, clock, world, alerts, state } = self;
        drop(alerts);
        drop(state);
        clock.advance(down);
        let (alerts, state) = open(&places, &config, &clock, &world).await;
        Self { _folder, places, config, clock, world, alerts, state }
    }

    pub(super) fn hold(&self, conditions: Vec<Condition>) {
        *self.world.holds.lock().unwrap() = Some(conditions);
    }

    pub(super) fn always(&self, channel: &str, sent: Option<Sent>) {
        let mut always = self.world.always.lock().unwrap();
        match sent {
            Some(sent) => drop(always.insert(channel.to_owned(), sent)),
            None => drop(always.remove(channel)),
        }
    }

    /// One look, and whatever may be sent then is sent.
    pub(super) async fn step(&self) {
        self.alerts.look().await;
        self.send().await;
    }

    pub(super) async fn send(&self) {
        loop {
            self.alerts.dispatch().await;
            let mut endings = self.alerts.endings.lock().await;
            if self.alerts.live().sending.is_empty() {
                return;
            }
            let ended = endings.recv().await.unwrap();
            self.alerts.take_ending(ended);
        }
    }

    /// A step each so many seconds, for so long.
    pub(super) async fn run(&self, seconds: u64, every: u64) {
        for _ in 0..seconds / every {
            self.step().await;
            self.clock.advance(Duration::from_secs(every));
        }
        self.step().await;
    }

    /// What the channels accepted: channel, occasion, subjects.
    pub(super) fn got(&self) -> Vec<(String, &'static str, String)> {
        let got = self.world.got.lock().unwrap();
        let told = |got: &Got| (got.channel.clone(), got.occasion.name(), got.subjects.join(","));
        got.iter().map(told).collect()
    }

    pub(super) fn forget(&self) {
        self.world.got.lock().unwrap().clear();
    }

    pub(super) fn all(&self) -> Vec<AlertRecord> {
        self.alerts.list(false, 100_000).unwrap()
    }
}

async fn open(
    places: &Places,
    text: &str,
    clock: &Arc<ManualClock>,
    world: &Arc<World>,
) -> (Arc<Alerts>, State) {
    let checked = AgentConfig::parse(text, "test", places);
    let said: Vec<String> = checked.problems.iter().map(ToString::to_string).collect();
    let config = checked.config.unwrap_or_else(|| panic!("{}", said.join("\n")));
    let mut store = None;
    for _ in 0..100_000 {
        match Store::open(&places.database(), Options::default()) {
            Ok(opened) => {
                store = Some(opened);
                break;
            }
            // Tasks of the agent before are only ending.
            Err(_) => tokio::task::yield_now().await,
        }
    }
    let state = State::new(Arc::new(store.unwrap()), watch::channel(0).1);
    let outside = Outside {
        clock: Arc::clone(clock) as Arc<dyn Clock>,
        notifier: Arc::clone(world) as Arc<dyn Notifier>,
        ..Outside::real()
    };
    let host = ("host-id".to_owned(), "web-1".to_owned());
    let alerts =
        Alerts::open(state.clone(), outside, Bell::default(), (&config, host), Metrics::default());
    let alerts = alerts.map_err(|error| error.chain()).unwrap();
    alerts.listen_to(vec![Arc::new(Told(Arc::clone(world)))]);
    (alerts, state)
}
