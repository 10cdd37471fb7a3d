//! Where rooms meet that don't know one another: what the care of databases asks of trades and backups, baselines of
//! breakers, health and databases, and recovery of health. Part of the composition, as [`crate::agent`] is.

use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use async_trait::async_trait;
use genesis_storage::{BackupLevel, RunState, StoredEntry};

use crate::emergency::{Emergency, Stance};
use crate::error::Error;
use crate::fleet::Fleet;
use crate::operations::backup::Backup;
use crate::operations::baselines;
use crate::operations::breaker::Breakers;
use crate::operations::config_history::ConfigHistory;
use crate::operations::database::preflight::TradesSeen;
use crate::operations::database::record::Truth;
use crate::operations::database::turn::Turn;
use crate::operations::database::{Databases, Neighbours};
use crate::operations::experiments::Gate;
use crate::operations::experiments::job::PROMOTE;
use crate::operations::health::{Health, Latencies, life::Status};
use crate::operations::recovery::Reports;
use crate::outside::probes::{Measured, Outcome};
use crate::outside::{Clock, Host};
use crate::runs::rollback::{Dispatcher, Wish};
use crate::state::State;
use crate::trading::{Critical, Trades};

mod after_rollback;
mod evidence;
mod turn;

pub use after_rollback::AfterRollback;

/// Who asks.
const ACTOR: &str = "system:database";

/// What the care of databases asks of other rooms.
pub struct Rooms {
    /// Who knows of trades.
    pub trades: Arc<Trades>,
    /// Who makes backups.
    pub backup: Arc<Backup>,
    /// Who else may care for a database.
    pub fleet: Arc<Fleet>,
}

impl Rooms {
    /// Of these.
    pub fn of(trades: &Arc<Trades>, backup: &Arc<Backup>, fleet: &Arc<Fleet>) -> Arc<Self> {
        Arc::new(Self {
            trades: Arc::clone(trades),
            backup: Arc::clone(backup),
            fleet: Arc::clone(fleet),
        })
    }

    /// Waits for a run of backups; its summary, or what went wrong.
    async fn wait(&self, run: &str) -> Result<String, String> {
        let ended = self.backup.wait(run).await.map_err(|error| error.chain())?;
        match ended.state {
            RunState::Succeeded => Ok(ended.summary),
            _ => Err(format!("run {run}: {}", ended.summary)),
        }
    }
}

#[async_trait]
impl Neighbours for Rooms {
    async fn trades(&self, database: &str) -> TradesSeen {
        let reading = self.trades.look(database).await;
        let (truth, value) = match reading.critical {
            Critical::None => (Truth::Pass, "none"),
            Critical::InProgress => (Truth::Fail, "in progress"),
            Critical::Unknown => (Truth::Unknown, ""),
        };
        TradesSeen { truth, value: value.to_owned(), evidence: reading.evidence }
    }

    async fn refresh_backups(&self, database: &str) {
        self.backup.refresh(database).await;
    }

    async fn reverify(&self, backup: &str) -> Result<String, String> {
        let who = (ACTOR.to_owned(), "after the care of its database".to_owned());
        // That it is whole; what is restored to be asked takes hours, and has a time of its own.
        let level = Some(BackupLevel::Checksums);
        let started = match self.backup.verify(backup, level, "", who.clone()).await {
            Err(error) if error.code == "LEVEL_NOT_POSSIBLE" => {
                self.backup.verify(backup, None, "", who).await
            }
            started => started,
        };
        self.wait(&started.map_err(|error| error.chain())?.id).await
    }

    async fn back_up(&self, database: &str, run: &str) -> Result<String, String> {
        let who = (ACTOR.to_owned(), format!("run {run} is about to change the database"));
        let started = self.backup.run(database, "", who).await;
        self.wait(&started.map_err(|error| error.chain())?.id).await
    }

    fn shares(&self) -> bool {
        self.fleet.is_configured()
    }

    async fn turn(&self, identity: &str, run: &str) -> Result<Option<Box<dyn Turn>>, Error> {
        turn::take(&self.fleet, identity, run).await
    }
}

/// So long databases are waited for.
const QUERIES: Duration = Duration::from_secs(10);
/// So much of what was found is told.
const TOLD: usize = 12;

/// What baselines ask of other rooms.
pub struct Surroundings {
    /// Who may be called.
    pub breaker: Arc<Breakers>,
    /// What the host is like.
    pub health: Arc<Health>,
    /// The host itself.
    pub host: Arc<Host>,
    /// Its databases.
    pub database: Arc<Databases>,
    /// What can be taken back; not before the whole agent is put together.
    pub dispatcher: Arc<OnceLock<Dispatcher>>,
}

#[async_trait]
impl baselines::Neighbours for Surroundings {
    async fn minute(&self, operation: &str, left: Option<&str>) -> bool {
        self.breaker.observed(operation, left).await
    }

    async fn surroundings(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for check in self.health.checks().values() {
            let Some(look) = self.health.check_view(check, None).look else { continue };
            let word = match look.status {
                Status::Ok => "ok",
                Status::Warn => "WARN",
                Status::Crit => "CRIT",
                Status::Unknown => "unknown",
            };
            // What is bad comes first.
            let worth = matches!(look.status, Status::Ok);
            lines.push((worth, format!("{} {word}: {}", check.id, look.detail)));
        }
        lines.sort();
        let checks = lines.into_iter().map(|(_, line)| line).take(TOLD);
        self.host.busy().into_iter().chain(checks).collect()
    }

    async fn queries(&self) -> Vec<String> {
        let config = self.database.config();
        let each = config.instances.iter().map(|instance| async {
            let name = &instance.target.name;
            match tokio::time::timeout(QUERIES, self.database.slow(instance)).await {
                Ok(Ok(lines)) => lines.into_iter().map(|line| format!("{name}: {line}")).collect(),
                Ok(Err(error)) => vec![format!("{name}: {}", error.chain())],
                Err(_) => vec![format!("{name}: it did not answer within {QUERIES:?}")],
            }
        });
        let found: Vec<Vec<String>> = futures_util::future::join_all(each).await;
        found.into_iter().flatten().take(TOLD).collect()
    }

    async fn rollbacks(&self, changes: &[StoredEntry]) -> Vec<String> {
        let Some(dispatcher) = self.dispatcher.get() else { return Vec::new() };
        let mut lines = Vec::new();
        for name in baselines::episodes::components(changes.iter().map(|it| &it.entry)) {
            lines.push(match dispatcher.plan(&Wish::of(&name)).await {
                Ok(plan) => format!(
                    "genesisctl rollback --component {name} --to {} ({}, of {})",
                    plan.target.id, plan.target.description, plan.target.at
                ),
                Err(error) if error.code == "COMPONENT_NOT_FOUND" => {
                    format!("{name} changed, and keeps no points to go back to yet")
                }
                Err(error) => format!("{name} changed: {}", error.message),
            });
        }
        lines
    }
}

/// What health asks of baselines, which are made after it.
#[derive(Default)]
pub struct Usual(pub OnceLock<Weak<baselines::Baselines>>);

impl Latencies for Usual {
    fn degraded(&self, operation: &str) -> Outcome {
        let baselines = self.0.get().and_then(Weak::upgrade);
        let baselines = baselines.ok_or("there are no baselines yet")?;
        baselines.store().map_err(|error| error.chain())?;
        if let Some((_, told)) = baselines.trouble().into_iter().next() {
            return Err(told);
        }
        let views = match operation {
            "" => baselines.list(),
            operation => vec![baselines.get(operation).map_err(|error| error.message)?],
        };
        degraded(operation, &views)
    }
}

/// How many of these operations have left what is usual. One that is asked for by name must be known to be well; of all
/// of them, some are always silent.
fn degraded(operation: &str, views: &[baselines::verbs::View]) -> Outcome {
    use baselines::verbs::State;

    let left: Vec<String> = views
        .iter()
        .filter_map(|view| view.episode.as_ref())
        .map(baselines::episodes::told)
        .collect();
    if !left.is_empty() {
        return Ok(Measured { value: left.len() as f64, detail: left.join("; ") });
    }
    let usual = views.iter().filter(|view| view.state == State::Usual).count();
    match views {
        [one] if !operation.is_empty() => match one.state {
            State::Learning => Err(format!("what is usual for {operation} is not known yet")),
            State::Silent => {
                Err(format!("{operation} is silent: none of its windows was judged lately"))
            }
            State::Usual | State::Degraded => {
                Ok(Measured { value: 0.0, detail: format!("{operation} is as usual") })
            }
        },
        all => Ok(Measured {
            value: 0.0,
            detail: format!(
                "{usual} of {} operations are as usual, the others not judged lately",
                all.len()
            ),
        }),
    }
}

/// The reports, which look at the certificates that are configured now: others may end.
pub fn reports_of(state: &State, clock: &Arc<dyn Clock>, history: &Arc<ConfigHistory>) -> Reports {
    let history = Arc::clone(history);
    let names = move || {
        let config = history.current();
        config.certificates.certificates.iter().map(|it| it.name.clone()).collect()
    };
    Reports { state: state.clone(), clock: Arc::clone(clock), certificates: Box::new(names) }
}

/// In an emergency no new value reaches into trading.
pub fn promotions(emergency: &Emergency) -> Gate {
    let emergency = emergency.clone();
    Arc::new(move || emergency.check(PROMOTE, Stance::Refuse))
}
