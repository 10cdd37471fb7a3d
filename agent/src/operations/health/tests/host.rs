//! A host whose checks find what a test says, under a clock that the test moves.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use genesis_storage::{AttemptRecord, Options, Store};
use tempfile::TempDir;
use tokio::sync::watch;

use crate::config::{Config as AgentConfig, Places};
use crate::emergency::Emergency;
use crate::error::{Error, Result};
use crate::operations::health::{Health, Latencies, Metrics};
use crate::outside::probes::{Measured, Outcome, Probe, Prober};
use crate::outside::{Clock, ManualClock, Outside};
use crate::plan::PlanStep;
use crate::runs::Runs;
use crate::runs::remedy::{Aim, Permission, Remedy};
use crate::state::State;
use crate::trading::Trades;

/// What the checks find, and what was done.
pub(crate) struct World {
    clock: Arc<ManualClock>,
    /// Percent free, by path; `None` can't be told.
    values: Mutex<BTreeMap<PathBuf, Option<f64>>>,
    /// When something was done (monotonic), and to which check.
    pub(crate) acts: Mutex<Vec<(Duration, String)>>,
    /// Whether what is done helps.
    pub(crate) helps: AtomicBool,
    /// How many looks were made, each of which waits while the gate is shut.
    pub(crate) looks: AtomicUsize,
    pub(crate) gate: tokio::sync::RwLock<()>,
}

impl World {
    pub(crate) fn set(&self, check: &str, value: Option<f64>) {
        self.values.lock().unwrap().insert(PathBuf::from(format!("/{check}")), value);
    }

    pub(crate) fn acts(&self) -> usize {
        self.acts.lock().unwrap().len()
    }
}

impl Latencies for World {
    fn degraded(&self, operation: &str) -> Outcome {
        let path = PathBuf::from(format!("/{operation}"));
        let value = self.values.lock().unwrap().get(&path).copied().unwrap_or(Some(0.0));
        let value = value.ok_or_else(|| "nobody knows".to_owned())?;
        Ok(Measured { value, detail: format!("{value} left") })
    }
}

#[async_trait]
impl Prober for World {
    async fn measure(&self, probe: &Probe) -> Outcome {
        self.looks.fetch_add(1, Ordering::SeqCst);
        let _open = self.gate.read().await;
        let Probe::DiskBytes { path } = probe else { return Err("not asked for".to_owned()) };
        let value = self.values.lock().unwrap().get(path).copied().unwrap_or(Some(50.0));
        let value = value.ok_or_else(|| "nobody knows".to_owned())?;
        Ok(Measured { value, detail: format!("{value} % free") })
    }
}

#[async_trait]
impl Remedy for World {
    fn name(&self) -> &'static str {
        "make-room"
    }

    async fn plan(&self, aim: &Aim) -> Result<Vec<PlanStep>> {
        Ok(vec![PlanStep::new("delete", &aim.check, "it is full")])
    }

    async fn carry_out(&self, aim: &Aim, permission: &dyn Permission) -> Result<String> {
        let _permit = permission.ask().await?;
        self.acts.lock().unwrap().push((self.clock.monotonic(), aim.check.clone()));
        if self.helps.load(Ordering::SeqCst) {
            self.set(&aim.check, Some(50.0));
        }
        Ok("done".to_owned())
    }
}

/// The remedy, which the agent owns alone.
struct Shared(Arc<World>);

#[async_trait]
impl Remedy for Shared {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    async fn plan(&self, aim: &Aim) -> Result<Vec<PlanStep>> {
        self.0.plan(aim).await
    }

    async fn carry_out(&self, aim: &Aim, permission: &dyn Permission) -> Result<String> {
        self.0.carry_out(aim, permission).await
    }
}

pub(crate) struct Host {
    _folder: Arc<TempDir>,
    places: Places,
    config: String,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) world: Arc<World>,
    pub(crate) health: Arc<Health>,
    pub(crate) state: State,
}

/// A check of the world, every 30 s, with the action; more keys behind it.
pub(crate) fn check(id: &str, more: &str) -> String {
    format!(
        "[[health.check]]\nid = {id:?}\nprobe = \"disk-bytes\"\ntarget = \"/{id}\"\naction = \"make-room\"\n{more}\n"
    )
}

/// One that nothing is done about.
pub(crate) fn watched(id: &str, more: &str) -> String {
    check(id, more).replace("action = \"make-room\"\n", "")
}

impl Host {
    /// A host with these checks, long after its start.
    pub(crate) async fn new(checks: &str) -> Self {
        let folder = Arc::new(tempfile::tempdir_in("/dev/shm").unwrap());
        let clock = Arc::new(ManualClock::new("2026-03-02T08:00:00Z".parse().unwrap()));
        let world = Arc::new(World {
            clock: Arc::clone(&clock),
            values: Mutex::default(),
            acts: Mutex::default(),
            helps: AtomicBool::new(true),
            looks: AtomicUsize::new(0),
            gate: tokio::sync::RwLock::default(),
        });
        let places =
            Places { state: folder.path().to_owned(), socket: folder.path().join("agent.sock") };
        let config = match checks.contains("[health]") {
            true => checks.to_owned(),
            false => format!("[health]\ndefaults = false\n{checks}"),
        };
        let (health, state) = open(&places, &config, &clock, &world).await;
        clock.advance(Duration::from_secs(3_600));
        Self { _folder: folder, places, config, clock, world, health, state }
    }

    /// The agent ends, and after a while another one starts on the same state.
    pub(crate) async fn restart(mut self, down: Duration) -> Self {
        // The old store must be gone before the file is opened anew.
        let Self { _folder, places, config, clock, world, health, state } = self;
        self = {
            drop(health);
            drop(state);
            clock.advance(down);
            let (health, state) = open(&places, &config, &clock, &world).await;
            Self { _folder, places, config, clock, world, health, state }
        };
        self
    }

    /// The configuration is another one from now on.
    pub(crate) async fn reload(&self, text: &str) {
        let text = format!("[health]\ndefaults = false\n{text}");
        let config = AgentConfig::parse(&text, "test", &self.places).config.unwrap();
        crate::config::Follower::follow(&*self.health, &config).await;
    }

    /// Every check is looked at once, and what was begun has come to its end.
    pub(crate) async fn round(&self) {
        let checks: Vec<_> = self.health.checks().values().cloned().collect();
        let mut looks = Vec::new();
        for check in checks {
            let look = self.health.look(&check).await;
            looks.push((check, look));
        }
        self.health.take_in(looks).await;
        self.idle().await;
    }

    /// Nothing is being done.
    pub(crate) async fn idle(&self) {
        for _ in 0..10_000_000 {
            let (busy, waiting) = {
                let live = self.health.live();
                (live.busy.is_some(), live.verdicts.len())
            };
            // A run goes on as long as it waits for a verdict, and no longer.
            if !busy && self.health.runs.active_count() <= waiting {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("what was begun does not end: {:?}", self.health.live().busy);
    }

    /// A round each 30 s for so many minutes.
    pub(crate) async fn minutes(&self, minutes: u64) {
        for _ in 0..minutes * 2 {
            self.round().await;
            self.clock.advance(Duration::from_secs(30));
        }
    }

    /// The codes that hold a check's issue back.
    pub(crate) fn denied(&self, check: &str) -> Vec<String> {
        let (_, issue) = self.health.open_issue(check).unwrap();
        issue.denials.into_iter().map(|denial| denial.code).collect()
    }

    /// The attempts of a check, oldest first.
    pub(crate) fn attempts(&self, check: &str) -> Vec<AttemptRecord> {
        let found = self.state.read(|reading| Ok(reading.health().attempts(check, 100)?));
        let mut found = found.unwrap();
        found.reverse();
        found
    }

    /// Why people were called, oldest first.
    pub(crate) fn calls(&self) -> Vec<&'static str> {
        let found = self.state.read(|reading| Ok(reading.incidents().list(false, 100)?)).unwrap();
        found.iter().rev().map(|incident| incident.trigger.code()).collect()
    }
}

async fn open(
    places: &Places,
    text: &str,
    clock: &Arc<ManualClock>,
    world: &Arc<World>,
) -> (Arc<Health>, State) {
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
    let seam: Arc<dyn Clock> = Arc::clone(clock) as Arc<dyn Clock>;
    let flag = places.emergency_flag();
    let emergency = Emergency::open(state.clone(), Arc::clone(&seam), flag).await.unwrap();
    let runs = Runs::new(state.clone(), Arc::clone(&seam), emergency);
    let outside =
        Outside { clock: seam, prober: Arc::clone(world) as Arc<dyn Prober>, ..Outside::real() };
    let remedies: Vec<Arc<dyn Remedy>> = vec![Arc::new(Shared(Arc::clone(world)))];
    let trades = Trades::new(outside.clone());
    let health = Health::open(
        state.clone(),
        outside,
        runs,
        (remedies, trades, Arc::clone(world) as Arc<dyn Latencies>),
        (&config, places.clone()),
        Metrics::default(),
    )
    .await;
    (health.map_err(|error: Error| error.chain()).unwrap(), state)
}
