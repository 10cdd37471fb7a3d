//! Health: checks that see, actions that mend, and proof that they helped.
//!
//! Checks are looked at by `watch`, each at its own pace, and none waits for another. What they find is taken in
//! by `intake`, one batch after the other: [`life`] says what it makes of each issue, [`gates`] whether something
//! may be done about it, and `remediate` does it. Every change of an issue happens under one lock, and whatever
//! counts is in redb before it has an effect.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use arc_swap::ArcSwap;
use genesis_storage::{
    ATTEMPTS_KEPT, AttemptOutcome, Control, ControlRecord, ISSUES_KEPT, IncidentRecord, Intent,
    IssueRecord, Moment,
};
use tokio::sync::{Notify, oneshot};

use crate::config::{Follower, Places};
use crate::emergency::Stance;
use crate::error::{Error, Result};
use crate::outside::Outside;
use crate::outside::aside::Aside;
use crate::runs::Runs;
use crate::runs::remedy::Remedy;
use crate::state::State;
use crate::trading::Trades;

mod act;
mod backup_age;
pub mod by_hand;
pub mod check;
pub mod config;
mod decide;
pub mod defaults;
pub mod gates;
mod guard;
mod incidents;
mod intake;
pub mod life;
pub mod matrix;
pub mod metrics;
mod precheck;
mod record;
mod remediate;
pub mod rpc;
#[cfg(test)]
pub(crate) mod tests;
mod told;
pub mod verbs;
pub mod view;
mod watch;

use check::Check;
pub use config::Config;
pub use defaults::Watched;
use gates::Spent;
use life::{Known, Status};
pub use metrics::Metrics;
use record::Pending;
pub use remediate::RemediationTable;

/// Attempts of the last day, at most: more than all budgets together.
const SPENT_LIMIT: usize = 1_000;
/// Who acts when nobody asked for it.
const ACTOR: &str = "system:health";

/// The kinds of runs by which actions are carried out, and whether each goes on in an emergency.
pub fn run_kinds() -> Vec<(&'static str, Stance)> {
    let mut kinds: Vec<_> = matrix::MATRIX
        .iter()
        .flat_map(|row| [row.action, row.fallback])
        .map(|action| (action.kind, stance(&action)))
        .collect();
    kinds.sort_unstable_by_key(|(kind, _)| *kind);
    kinds.dedup();
    kinds
}

fn stance(action: &matrix::Action) -> Stance {
    if action.goes_on { Stance::GoOn } else { Stance::Refuse }
}

/// What one look at a check found.
#[derive(Debug, Clone, PartialEq)]
pub struct Look {
    /// How it was judged.
    pub status: Status,
    /// What was measured; `None` where it can't be told.
    pub value: Option<f64>,
    /// In words.
    pub detail: String,
    /// When.
    pub at: Moment,
    /// How long it took.
    pub took: Duration,
}

/// What is known of one check.
struct Seen {
    known: Known,
    /// What of it is in the database.
    stored: Known,
    last: Option<Look>,
    /// Since when it is bad or can't be told.
    bad_since: Option<Moment>,
    /// When it last could be told.
    told_at: Option<Moment>,
    /// The episode for which an action was planned in a dry run.
    planned: u64,
    /// The episode in which the condition was gone just before an action.
    unneeded: u64,
}

impl Seen {
    fn new(known: Known) -> Self {
        Self {
            stored: known.clone(),
            known,
            last: None,
            bad_since: None,
            told_at: None,
            planned: 0,
            unneeded: 0,
        }
    }

    fn open(&self) -> Option<&IssueRecord> {
        self.known.issue.as_ref().filter(|issue| issue.open())
    }
}

/// What changes while the agent runs. All of it that counts is in the database as well.
#[derive(Default)]
struct Live {
    seen: BTreeMap<String, Seen>,
    controls: BTreeMap<Control, ControlRecord>,
    /// Those that go on.
    incidents: Vec<IncidentRecord>,
    /// Attempts of the last day.
    spent: Vec<Spent>,
    /// The action that goes on, and the number of its turn.
    busy: Option<(u64, String)>,
    /// So many turns there were.
    turns: u64,
    /// What looks by hand found last, and when they were begun.
    asked: BTreeMap<String, (Duration, Look)>,
    /// When the doubt about the checks ended.
    trusted_since: Option<Moment>,
    /// Who waits for the verdict on an attempt.
    verdicts: HashMap<String, oneshot::Sender<AttemptOutcome>>,
    /// What could not be written yet, oldest first.
    pending: VecDeque<Pending>,
}

/// What health asks of baselines.
pub trait Latencies: Send + Sync {
    /// How many operations have left what is usual, of this one, or of all where it is empty.
    ///
    /// # Errors
    /// Why it can't be told.
    fn degraded(&self, operation: &str) -> crate::outside::probes::Outcome;
}

/// Who health acts through and asks.
pub type Others = (Vec<Arc<dyn Remedy>>, Arc<Trades>, Arc<dyn Latencies>);

/// Health of this host.
pub struct Health {
    state: State,
    outside: Outside,
    runs: Runs,
    remedies: Vec<Arc<dyn Remedy>>,
    trades: Arc<Trades>,
    latencies: Arc<dyn Latencies>,
    /// Somebody is being asked about trades.
    asking_about_trades: AtomicBool,
    places: Places,
    watched: ArcSwap<Watched>,
    config: ArcSwap<Config>,
    checks: ArcSwap<BTreeMap<String, Arc<Check>>>,
    metrics: Metrics,
    started: Moment,
    live: Mutex<Live>,
    /// Held while issues change, and while an action begins: so nothing begins once it was switched off.
    deciding: Arc<tokio::sync::Mutex<()>>,
    /// The checks are others now.
    changed: Notify,
    /// Which file system each watched folder is on.
    aside: Aside<PathBuf, Option<u64>>,
    /// One change to see how long it takes at a time.
    committing: Arc<tokio::sync::Mutex<()>>,
    /// One look by hand at a time.
    asking: tokio::sync::Mutex<()>,
    ids: Mutex<ulid::Generator>,
}

impl Health {
    /// Takes over what the last agent left. [`Health::serve`] starts it.
    ///
    /// # Errors
    /// `STORAGE_FAILED`.
    pub async fn open(
        state: State,
        outside: Outside,
        runs: Runs,
        (remedies, trades, latencies): Others,
        (config, places): (&crate::config::Config, Places),
        metrics: Metrics,
    ) -> Result<Arc<Self>> {
        let started = outside.clock.moment();
        let health = Arc::new(Self {
            state,
            outside,
            runs,
            remedies,
            trades,
            latencies,
            asking_about_trades: AtomicBool::new(false),
            watched: ArcSwap::from_pointee(Watched::of(config, &places)),
            config: ArcSwap::from_pointee(config.health.clone()),
            places,
            checks: ArcSwap::default(),
            metrics,
            started,
            live: Mutex::default(),
            deciding: Arc::default(),
            changed: Notify::new(),
            aside: Aside::default(),
            committing: Arc::default(),
            asking: tokio::sync::Mutex::new(()),
            ids: Mutex::new(ulid::Generator::new()),
        });
        health.load()?;
        health.use_checks().await?;
        health.end_what_was_left()?;
        health.persist().await;
        Ok(health)
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        // Each change of it is complete in itself, so a panic elsewhere does not spoil it.
        self.live.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The configuration in force.
    pub fn config(&self) -> Arc<Config> {
        self.config.load_full()
    }

    /// The checks in force, by id.
    pub fn checks(&self) -> Arc<BTreeMap<String, Arc<Check>>> {
        self.checks.load_full()
    }

    fn new_id(&self) -> String {
        let at = crate::runs::system_time(self.outside.clock.now());
        let mut ids = self.ids.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        // 2^80 ids in one millisecond; a fresh random one is as good.
        ids.generate_from_datetime(at).unwrap_or_else(|_| ulid::Ulid::from_datetime(at)).to_string()
    }

    fn intent(&self, actor: &str, action: &str) -> Intent {
        Intent::new(self.outside.clock.now(), actor, action)
    }

    fn check(&self, id: &str) -> Option<Arc<Check>> {
        self.checks.load().get(id).cloned()
    }

    /// A check that is in force.
    ///
    /// # Errors
    /// `CHECK_UNKNOWN` with those there are.
    pub fn known_check(&self, id: &str) -> Result<Arc<Check>> {
        self.check(id).ok_or_else(|| {
            let checks = self.checks();
            let known: Vec<&str> = checks.keys().map(String::as_str).collect();
            let message = format!("there is no check {id:?}; there are: {}", known.join(", "));
            Error::not_found("CHECK_UNKNOWN", message)
        })
    }
}

#[async_trait::async_trait]
impl Follower for Health {
    async fn follow(&self, config: &crate::config::Config) {
        let allowed = |config: &Config| config.remediation && !config.dry_run;
        let before = self.config.swap(Arc::new(config.health.clone()));
        if allowed(&config.health) && !allowed(&before) {
            self.allow_again("the configuration allows it again").await;
        }
        self.watched.store(Arc::new(Watched::of(config, &self.places)));
        if let Err(error) = self.use_checks().await {
            tracing::error!(error = error.chain(), "issues of checks that are gone stay open");
        }
        self.changed.notify_one();
    }
}

/// The file system that holds a folder, or the nearest one above it that is there.
fn device(folder: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;

    folder.ancestors().find_map(|path| std::fs::metadata(path).ok()).map(|facts| facts.dev())
}
