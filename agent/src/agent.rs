//! The composition root: names everything, and nothing names it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::alerts::{self, Alerts};
use crate::config::{Config, Follower, Places};
use crate::emergency::Emergency;
use crate::error::{Error, Result};
use crate::events::Bell;
use crate::fleet::{self, Fleet};
use crate::gauging::Gauging;
use crate::lock::{self, Lock};
use crate::operations::Operations;
use crate::operations::backup::{self, Backup};
use crate::operations::baselines::{self, Baselines};
use crate::operations::breaker::{self, Breakers};
use crate::operations::certificates::{self, Certificates};
use crate::operations::config_history::ConfigHistory;
use crate::operations::database::directory::Directory;
use crate::operations::database::kill::Sessions;
use crate::operations::database::remedies::{CancelQuery, ResetConnections};
use crate::operations::database::{self, Databases};
use crate::operations::dependencies::{self, Dependencies};
use crate::operations::experiments::{self, Experiments};
use crate::operations::health::{self, Health, Latencies};
use crate::operations::logs::Logs;
use crate::operations::logs::make_room::MakeRoom;
use crate::operations::logs::metrics::Metrics;
use crate::operations::matrices::{self, Matrices};
use crate::operations::recovery::course::Course;
use crate::operations::recovery::{self, Incidents, Recovery};
use crate::operations::storage::StorageCare;
use crate::operations::vitals::Vitals;
use crate::outside::{Outside, files};
use crate::own_log::{self, Writers};
use crate::rooms::{Rooms, Surroundings, Usual, promotions, reports_of};
use crate::runs::Runs;
use crate::runs::remedy::Remedy;
use crate::scheduler::{self, Scheduler};
use crate::server::agent_rpc::AgentView;
use crate::server::caller::Rules;
use crate::server::connection::Connections;
use crate::server::diagnose::Diagnosis;
use crate::server::http::{AgentGauges, Gauged};
use crate::server::layers::Gate;
use crate::server::tls::Tls;
use crate::server::{self, Secured, Services};
use crate::trading::Trades;

mod components;
mod limits;
mod run;
mod start;

use limits::room;
use start::{bind, history_first, identify, take_state, tell_of_state, tell_systemd};

/// What runs may take to reach a safe point when the agent stops.
const DRAIN: Duration = Duration::from_secs(6);
/// What open calls may take after that; together they stay below ten seconds.
const CLOSE: Duration = Duration::from_secs(2);
/// So many connections to the unix socket are held at a time.
const LOCAL_CONNECTIONS: usize = 256;

/// The agent's own listeners take over a managed certificate as soon as it comes into service.
async fn swap_at_once(tls: Arc<Tls>, mut changes: watch::Receiver<u64>) {
    while changes.changed().await.is_ok() {
        tls.look_now();
    }
}

/// What an agent is started with.
pub struct Setup {
    /// Its places.
    pub places: Places,
    /// Its configuration.
    pub config: Config,
    /// The file it came from.
    pub config_path: Option<PathBuf>,
    /// The world.
    pub outside: Outside,
}

/// An agent that is ready.
pub struct Agent {
    /// The address of HTTP, its port chosen.
    pub http: SocketAddr,
    /// The address of HTTP over TLS, if it is on.
    pub https: Option<SocketAddr>,
    /// The address of plaintext gRPC, if it is on.
    pub plaintext: Option<SocketAddr>,
    /// The address of gRPC over TLS, if it is on.
    pub grpc: Option<SocketAddr>,
    /// The socket.
    pub socket: PathBuf,
    view: AgentView,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    server: tokio::task::JoinHandle<Result<()>>,
    stop: CancellationToken,
    held: (Lock, Writers),
}

impl Agent {
    /// Starts an agent and returns when it is ready.
    ///
    /// # Errors
    /// What is in the way, with what to do: `ALREADY_RUNNING`, `LISTEN_FAILED`, the codes of the storage.
    pub async fn start(setup: Setup) -> Result<Self> {
        let Setup { places, config, config_path, outside } = setup;
        files::create_folders(&places.state).map_err(|error| {
            Error::unavailable(
                "STATE_DIR_FAILED",
                format!("can't make the state folder {}", places.state.display()),
            )
            .caused_by(error)
        })?;
        let lock = lock::take(&places.lock())?;
        let (own_log, writers) =
            own_log::begin(&places.own_log(), &config, &outside.host.hostname())?;
        let clock = Arc::clone(&outside.clock);
        let now = clock.now();
        let (state, turned) = take_state(&places, now)?;
        tell_of_state((&state, &places), turned, now).await?;
        let host = identify(&state, &outside).await?;
        let emergency =
            Emergency::open(state.clone(), Arc::clone(&clock), places.emergency_flag()).await?;
        let runs = Runs::new(state.clone(), Arc::clone(&clock), emergency.clone());
        let mut registry = Registry::default();
        let (gauges, gauging) = (AgentGauges::register(&mut registry), Gauging::default());
        writers.register(&mut registry);
        let metrics = Metrics::register(&mut registry);
        let health_metrics = health::Metrics::register(&mut registry);
        let alert_metrics = alerts::Metrics::register(&mut registry);
        let database_metrics = database::Metrics::register(&mut registry);
        let breaker_metrics = breaker::Metrics::register(&mut registry);
        let baseline_metrics = baselines::Metrics::register(&mut registry);
        let experiment_metrics = experiments::Metrics::register(&mut registry);
        let matrix_metrics = matrices::Metrics::register(&mut registry);
        let dependency_metrics = dependencies::Metrics::register(&mut registry, gauging.clone());
        let recovery_metrics = recovery::Metrics::register(&mut registry);
        let fleet_metrics = fleet::metrics::Metrics::register(&mut registry);
        let backup_metrics = backup::metrics::Metrics::register(&mut registry);
        let certificate_metrics = certificates::metrics::Metrics::register(&mut registry);
        let logs = Arc::new(Logs::new(
            state.clone(),
            outside.clone(),
            runs.clone(),
            host.clone(),
            Arc::new(own_log),
            config.logs.clone(),
            metrics,
        ));
        let directory = Directory(Arc::clone(&outside.databases));
        directory.fill(&config.database);
        let trades = Trades::new(outside.clone());
        let sessions = Arc::new(Sessions::new(state.clone(), outside.clone()));
        let remedies: Vec<Arc<dyn Remedy>> = vec![
            Arc::new(MakeRoom(Arc::clone(&logs))),
            Arc::new(ResetConnections(Arc::clone(&sessions))),
            Arc::new(CancelQuery(Arc::clone(&sessions))),
        ];
        let usual = Arc::new(Usual::default());
        let health = Health::open(
            state.clone(),
            outside.clone(),
            runs.clone(),
            (remedies, Arc::clone(&trades), Arc::clone(&usual) as Arc<dyn Latencies>),
            (&config, places.clone()),
            health_metrics,
        )
        .await?;
        let bell = Bell::default();
        let alerts = Alerts::open(
            state.clone(),
            outside.clone(),
            bell.clone(),
            (&config, (host.id.clone(), host.name.clone())),
            alert_metrics,
        )?;
        let breaker = Breakers::open(
            state.clone(),
            outside.clone(),
            config.breaker.clone(),
            breaker_metrics,
            bell.clone(),
        )?;
        let backup = Backup::open(
            state.clone(),
            outside.clone(),
            runs.clone(),
            (config.backup.clone(), places.state.clone()),
            backup_metrics,
            bell.clone(),
        )?;
        let listeners = bind(&places, &config).await?;
        let node = start::node_of(&config, &places, (&host.name, listeners.tls_address()));
        let me = start::member(&state, clock.now(), (&host, node), &config.fleet).await?;
        let about = (emergency.clone(), bell.clone(), fleet_metrics);
        let fleet = Fleet::new(config.fleet.clone(), me, &outside, about);
        let certificates = Certificates::open(
            state.clone(),
            outside.clone(),
            runs.clone(),
            (config.certificates.clone(), places.certificates()),
            certificate_metrics,
            (bell.clone(), Arc::clone(&fleet)),
        )?;
        let database = Arc::new(Databases::new(
            state.clone(),
            outside.clone(),
            runs.clone(),
            config.database.clone(),
            (database_metrics, bell.clone()),
            Rooms::of(&trades, &backup, &fleet),
        ));
        let going_back = Arc::new(OnceLock::new());
        let baselines = Baselines::open(
            (state.clone(), outside.clone(), runs.clone()),
            (config.baselines.clone(), places.observations()),
            (baseline_metrics, bell.clone()),
            Arc::new(Surroundings {
                breaker: Arc::clone(&breaker),
                health: Arc::clone(&health),
                host: Arc::clone(&outside.host),
                database: Arc::clone(&database),
                dispatcher: Arc::clone(&going_back),
            }),
        )?;
        let _ = usual.0.set(Arc::downgrade(&baselines));
        let experiments = Experiments::open(
            (state.clone(), outside.clone()),
            (config.experiments.clone(), places.trades()),
            promotions(&emergency),
            (experiment_metrics, bell.clone(), Arc::clone(&fleet)),
        )?;
        let matrices = Matrices::open(
            (state.clone(), outside.clone(), runs.clone(), host.id.clone()),
            (config.matrices.clone(), places.series()),
            (matrix_metrics, bell.clone(), Arc::clone(&fleet)),
        )?;
        let dependencies = Dependencies::open(
            (state.clone(), outside.clone(), runs.clone()),
            config.dependencies.clone(),
            (&places.advisories(), places.state.clone()),
            (dependency_metrics, bell.clone()),
        );
        let course = Course::open(
            state.clone(),
            outside.clone(),
            config.recovery.in_force(),
            emergency.clone(),
            (bell.clone(), places.closing_flag()),
        )?;
        fleet.ends_by(&course);
        let rules = Rules {
            own_uid: rustix::process::geteuid().as_raw(),
            operator_group: config.agent.operator_group.clone(),
            fleet: config.fleet.name.clone(),
        };
        let connections =
            Connections::new(room(config.listen.max_connections, 2), Arc::clone(&clock));
        let tls = config.tls.clone().map(|files| {
            let listen = listeners.tls_address().unwrap_or(config.listen.grpc).to_string();
            Tls::open(files, listen, Arc::clone(&clock), Arc::clone(&connections))
        });
        if let (Some(tls), Some(name)) =
            (&tls, config.tls.as_ref().and_then(|it| it.managed.clone()))
        {
            certificates.is_served_by_us(name, tls.listen.clone());
        }
        let (contacts, own_log_path, pki) =
            (config.contacts.clone(), places.own_log(), places.pki());
        let history = Arc::new(ConfigHistory::new(
            state.clone(),
            outside.clone(),
            places.clone(),
            config_path,
            config,
            vec![
                // First, since the others find databases by it.
                Arc::new(directory) as Arc<dyn Follower>,
                Arc::clone(&logs) as Arc<dyn Follower>,
                Arc::clone(&health) as Arc<dyn Follower>,
                Arc::clone(&alerts) as Arc<dyn Follower>,
                Arc::clone(&breaker) as Arc<dyn Follower>,
                Arc::clone(&baselines) as Arc<dyn Follower>,
                Arc::clone(&experiments) as Arc<dyn Follower>,
                Arc::clone(&matrices) as Arc<dyn Follower>,
                Arc::clone(&dependencies) as Arc<dyn Follower>,
                Arc::clone(&database) as Arc<dyn Follower>,
                Arc::clone(&backup) as Arc<dyn Follower>,
                Arc::clone(&certificates) as Arc<dyn Follower>,
            ],
            tls.clone(),
        ));
        let parts = components::Parts {
            config: &history,
            certificates: &certificates,
            matrices: &matrices,
            baselines: &baselines,
            experiments: &experiments,
            dependencies: &dependencies,
            backup: &backup,
            health: &health,
            places: &places,
            outside: &outside,
        };
        let dispatcher = components::dispatcher(&parts, (state.clone(), Arc::clone(&clock)));
        let _ = going_back.set(dispatcher.clone());
        let (owed, book) = (dispatcher.clone(), Incidents::new(state.clone(), Arc::clone(&clock)));
        let drills = components::drills(&parts, &dispatcher, (&state, &runs, &bell));
        let recovery = Recovery {
            dispatcher,
            drills,
            emergency: emergency.clone(),
            fleet: Arc::clone(&fleet),
            course: Arc::clone(&course),
            contacts,
            clock: Arc::clone(&clock),
            state: state.clone(),
            metrics: recovery_metrics,
            book: Arc::clone(&book),
            reports: reports_of(&state, &clock, &history),
        };
        let operations = Operations {
            logs,
            health,
            breaker,
            baselines,
            experiments,
            matrices,
            dependencies,
            database,
            backup,
            certificates,
            recovery: Arc::new(recovery),
            storage: Arc::new(StorageCare::new(state.clone(), outside.clone())),
            config: history,
            vitals: Arc::new(Vitals::new(state.clone(), outside.clone())),
        };
        history_first(&operations, &state, &runs).await?;
        let scheduler = Scheduler::new(
            operations.jobs(),
            state.clone(),
            runs.clone(),
            Arc::clone(&clock),
            (&host.id, scheduler::Metrics::register(&mut registry)),
        );
        let stances = operations.stances();
        let sources = components::sources(&operations, &scheduler, (&tls, &fleet));
        let Operations {
            logs,
            health,
            breaker,
            baselines,
            experiments,
            matrices,
            dependencies,
            database,
            backup,
            certificates,
            recovery,
            storage: _,
            config,
            vitals,
        } = operations;
        alerts.listen_to(sources);
        let recovery = recovery::rpc::Service { recovery, stances: stances.into() };
        let view = AgentView {
            host,
            started_at: clock.now(),
            outside: outside.clone(),
            state: state.clone(),
            runs: runs.clone(),
            logs: Arc::clone(&logs),
            health: Arc::clone(&health),
            alerts: Arc::clone(&alerts),
            breaker: Arc::clone(&breaker),
            baselines: Arc::clone(&baselines),
            experiments: Arc::clone(&experiments),
            matrices: Arc::clone(&matrices),
            dependencies: Arc::clone(&dependencies),
            database: Arc::clone(&database),
            backup: Arc::clone(&backup),
            certificates: Arc::clone(&certificates),
            recovery: Arc::clone(&recovery.recovery),
            config: Arc::clone(&config),
            vitals: Arc::clone(&vitals),
            own_log: own_log_path,
            tls: tls.clone(),
            fleet: Arc::clone(&fleet),
            pki,
        };
        let gauged = Gauged {
            registry: Arc::new(registry),
            gauges,
            gauging,
            view: view.clone(),
            recovery: recovery.clone(),
        };
        let diagnosis = Arc::new(Diagnosis::new(view.clone(), places.clone()));
        let services = Services {
            health: health::rpc::Service { health: Arc::clone(&health), diagnosis },
            alerts: alerts::rpc::Service(Arc::clone(&alerts)),
            agent: view.clone(),
            runs: runs.clone(),
            scheduler: scheduler.clone(),
            fleet: Arc::clone(&fleet),
            oplog: crate::oplog::rpc::Service::new(&state, &clock, &fleet),
            recovery,
            logs: Arc::clone(&logs),
            breaker: Arc::clone(&breaker),
            baselines: Arc::clone(&baselines),
            experiments: Arc::clone(&experiments),
            matrices: Arc::clone(&matrices),
            dependencies: Arc::clone(&dependencies),
            database: database::rpc::Service { databases: Arc::clone(&database), sessions },
            backup,
            certificates: Arc::clone(&certificates),
        };
        let shared_rules = Arc::new(rules.clone());
        let gate = Arc::new(Gate::new(rules, state.clone(), Arc::clone(&clock)));
        let https = listeners.https_address();
        let (http, plaintext, grpc) = (
            listeners.http_address().map_err(|error| {
                Error::unavailable("LISTEN_FAILED", "can't find out the address of HTTP")
                    .caused_by(error)
            })?,
            listeners.plaintext_address(),
            listeners.tls_address(),
        );
        let stop = CancellationToken::new();
        let local = Connections::new(room(LOCAL_CONNECTIONS, 4), Arc::clone(&clock));
        let visitors = Connections::new(room(server::http::CONNECTIONS, 8), Arc::clone(&clock));
        let secured =
            Secured { tls: tls.clone(), connections, local, visitors, rules: shared_rules };
        let server =
            tokio::spawn(server::serve(services, gate, listeners, secured, gauged, stop.clone()));
        let mut tasks = vec![
            tokio::spawn(book.follow(emergency.follow(), bell)),
            tokio::spawn(emergency.serve()),
            tokio::spawn(Arc::clone(&fleet).watch_standing()),
            tokio::spawn(Arc::clone(&fleet).keep_head(state.clone())),
            tokio::spawn(fleet.serve()),
            tokio::spawn(course.serve()),
            tokio::spawn(owed.serve()),
            tokio::spawn(alerts.serve()),
            tokio::spawn(logs.serve()),
            tokio::spawn(health.serve(tell_systemd)),
            tokio::spawn(breaker.serve()),
            tokio::spawn(Arc::clone(&baselines).scrape()),
            tokio::spawn(baselines.serve()),
            tokio::spawn(experiments.serve()),
            tokio::spawn(matrices.serve()),
            tokio::spawn(dependencies.serve()),
            tokio::spawn(Arc::clone(&certificates).serve()),
            tokio::spawn(scheduler.serve()),
            tokio::spawn(vitals.serve()),
        ];
        tasks.extend(tls.clone().map(|tls| tokio::spawn(tls.serve())));
        tasks.extend(tls.map(|tls| tokio::spawn(swap_at_once(tls, certificates.follow_changes()))));
        let socket = places.socket.clone();
        Ok(Self {
            http,
            https,
            plaintext,
            grpc,
            socket,
            view,
            tasks,
            server,
            stop,
            held: (lock, writers),
        })
    }
}
