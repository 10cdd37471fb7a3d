//! HTTP on loopback, GET only: metrics for Prometheus and each domain's status as JSON.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State as Shared};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use genesis_proto::v1::ListJobsRequest;
use genesis_storage::EmergencyRecord;
use http::{StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::server::Connected;

use crate::alerts::{self, Alerts};
use crate::error::{Error, Kind, Result};
use crate::operations::backup::{self, Backup};
use crate::operations::baselines::{self, Baselines, native, push};
use crate::operations::breaker::{self, Breakers};
use crate::operations::certificates::{self, Certificates};
use crate::operations::database::{self, Databases};
use crate::operations::dependencies::{self, Dependencies};
use crate::operations::experiments::verbs::Which;
use crate::operations::experiments::{self, Experiments};
use crate::operations::health::{self, Health};
use crate::operations::logs::{self, Logs};
use crate::operations::matrices::{self, Matrices};
use crate::operations::recovery;
use crate::outside::Host;
use crate::server::agent_rpc::AgentView;
use crate::server::caller::Rules;
use crate::server::connection::{Connection, Connections, GREETING, Slot, Stream, Who};
use crate::server::listen::shake;
use crate::server::tls::Tls;
use crate::state::State;
use crate::{oplog, scheduler};

/// What the HTTP listener shows.
#[derive(Clone)]
pub struct Pages {
    /// Exported metrics.
    pub registry: Arc<Registry>,
    /// Gauges of the agent itself.
    pub gauges: AgentGauges,
    /// The host.
    pub host: Arc<Host>,
    /// Log archival.
    pub logs: Arc<Logs>,
    /// Checks and remediation.
    pub health: Arc<Health>,
    /// Alerts.
    pub alerts: Arc<Alerts>,
    /// Circuit breakers.
    pub breaker: Arc<Breakers>,
    /// Performance baselines.
    pub baselines: Arc<Baselines>,
    /// Strategy A/B tests.
    pub experiments: Arc<Experiments>,
    /// Correlation matrices.
    pub matrices: Arc<Matrices>,
    /// What applications are built of.
    pub dependencies: Arc<Dependencies>,
    /// Databases.
    pub database: Arc<Databases>,
    /// Backups.
    pub backup: Arc<Backup>,
    /// The certificates.
    pub certificates: Arc<Certificates>,
    /// The scheduler.
    pub scheduler: scheduler::Scheduler,
    /// For the oplog.
    pub state: State,
    /// The agent's own page.
    pub agent: AgentView,
    /// Emergency and rollback.
    pub recovery: recovery::rpc::Service,
}

/// Gauges that are read when they are asked for.
#[derive(Clone, Default)]
pub struct AgentGauges {
    resident: prometheus_client::metrics::gauge::Gauge,
    runs: prometheus_client::metrics::gauge::Gauge,
    oplog: prometheus_client::metrics::gauge::Gauge,
    file: prometheus_client::metrics::gauge::Gauge,
    emergency: prometheus_client::metrics::gauge::Gauge,
}

impl AgentGauges {
    /// Gauges that `registry` exports.
    pub fn register(registry: &mut Registry) -> Self {
        use prometheus_client::registry::Unit;

        let gauges = Self::default();
        let registry = registry.sub_registry_with_prefix("genesis_agent");
        registry.register_with_unit(
            "resident",
            "Resident memory of the agent",
            Unit::Bytes,
            gauges.resident.clone(),
        );
        registry.register("runs_active", "Runs that go on", gauges.runs.clone());
        registry.register("oplog_entries", "Entries of the operation log", gauges.oplog.clone());
        registry.register_with_unit(
            "storage_file",
            "Size of the embedded database",
            Unit::Bytes,
            gauges.file.clone(),
        );
        registry.register(
            "emergency_active",
            "1 while an emergency is in force",
            gauges.emergency.clone(),
        );
        gauges
    }
}

/// So many connections are held at a time.
pub const CONNECTIONS: usize = 64;
/// So long the head of a request may take, and the pause before the next one.
const HEAD: Duration = Duration::from_secs(30);
/// How long accepting pauses when the host has no file descriptors left.
const PAUSE: Duration = Duration::from_millis(100);

/// Who may read the pages over TLS: whoever has a role over gRPC.
#[derive(Clone)]
pub struct Secure {
    /// What secures the connections.
    pub tls: Arc<Tls>,
    /// What roles are given by.
    pub rules: Arc<Rules>,
}

/// Serves until `stop`, then lets requests in flight end; over TLS where `secure` is given.
pub async fn serve(
    listener: TcpListener,
    pages: Pages,
    secure: Option<Secure>,
    places: Arc<Connections>,
    stop: CancellationToken,
) {
    let service = TowerToHyperService::new(router(pages));
    let going = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, address)) = accepted else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let Some(slot) = places.admit() else { continue };
        let greeting = Box::pin(tokio::time::sleep(GREETING));
        let (service, stop, secure) = (service.clone(), stop.clone(), secure.clone());
        going.spawn(async move {
            let connection = match secure {
                None => {
                    let who = Who::Plaintext(address);
                    Connection::new(Stream::Tcp(stream), who, slot, greeting)
                }
                Some(secure) => match secure.shake(stream, address, slot, greeting).await {
                    Some(connection) => connection,
                    None => return,
                },
            };
            let serving = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD)
                .serve_connection(TokioIo::new(connection), service);
            let mut serving = std::pin::pin!(serving);
            tokio::select! {
                // How a client's connection ends is the client's affair.
                _ = serving.as_mut() => return,
                () = stop.cancelled() => serving.as_mut().graceful_shutdown(),
            }
            let _ = serving.await;
        });
    }
    going.close();
    going.wait().await;
}

impl Secure {
    /// The connection of somebody who has a role; `None`: it has none, which is in the log.
    async fn shake(
        &self,
        stream: TcpStream,
        address: SocketAddr,
        slot: Slot,
        greeting: Pin<Box<Sleep>>,
    ) -> Option<Connection> {
        let (deadline, cut) = (greeting.deadline(), slot.cut());
        let shaken = shake(stream, address, (&self.tls, true), slot, greeting);
        let outcome = tokio::select! {
            // Its place was given to another.
            () = cut.cancelled() => return None,
            outcome = tokio::time::timeout_at(deadline, shaken) => outcome.ok()?,
        };
        let connection = outcome
            .inspect_err(|error| tracing::info!(%address, %error, "an HTTPS client was refused"))
            .ok()?;
        let caller = self.rules.identify(Some(&connection.connect_info()));
        if caller.role.is_none() {
            let (identity, why) = (caller.identity, caller.granted_by);
            tracing::info!(%address, identity, why, "an HTTPS client has no role");
            return None;
        }
        Some(connection)
    }
}

/// The routes.
fn router(pages: Pages) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/metrics", get(metrics))
        .route("/api/operations/{domain}/status", get(status))
        .route("/v1/metrics", post(otlp).layer(DefaultBodyLimit::max(push::LIMIT)))
        .with_state(Arc::new(pages))
}

async fn index() -> &'static str {
    "GENESIS agent\n\n/metrics\n/api/operations/agent/status\n/api/operations/logs/status\n/api/operations/health/status\n\
     /api/operations/alerts/status\n/api/operations/breaker/status\n/api/operations/baselines/status\n/api/operations/experiments/status\n\
     /api/operations/matrices/status\n/api/operations/dependencies/status\n\
     /api/operations/database/status\n/api/operations/backup/status\n/api/operations/certificates/status\n\
     /api/operations/schedule/status\n/api/operations/oplog/status\n\
     /api/operations/recovery/status\n/api/operations/fleet/status\n"
}

async fn metrics(Shared(pages): Shared<Arc<Pages>>, headers: http::HeaderMap) -> Response {
    let held = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    pages.gauges.resident.set(held(pages.host.resident_bytes()));
    pages.gauges.runs.set(held(pages.agent.runs.active_count() as u64));
    pages.gauges.file.set(held(pages.state.store().file_bytes()));
    let active = pages.agent.runs.emergency().active();
    pages.gauges.emergency.set(active.into());
    let epoch = pages.agent.runs.emergency().current().filter(EmergencyRecord::active);
    let live = pages.recovery.recovery.course.live();
    pages.recovery.recovery.metrics.show(&live, epoch.map(|record| record.epoch));
    // Rather no answer, which Prometheus shows as such, than values that were true once. The status sets the
    // gauges of the sources.
    let read = pages.state.read(|reading| Ok(reading.oplog().head()?));
    let read =
        read.and_then(|head| pages.health.gauge().map(|()| pages.alerts.gauge()).map(|()| head));
    let read = read.and_then(|head| pages.backup.gauge().map(|()| head));
    pages.baselines.gauge();
    pages.experiments.gauge();
    pages.matrices.gauge();
    let read = read.and_then(|head| pages.certificates.gauge().map(|()| head));
    let read = read.and_then(|head| pages.recovery.recovery.gauge().map(|()| head));
    match read.and_then(|head| pages.logs.status().map(|_| head)) {
        Ok(head) => pages.gauges.oplog.set(held(head.sequence)),
        Err(error) => {
            return (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response();
        }
    };
    let mut text = String::new();
    // Buckets that follow the values are had only as protobuf, from a Prometheus that asks for it.
    let accept = headers.get(header::ACCEPT).and_then(|it| it.to_str().ok()).unwrap_or_default();
    let native = native::negotiate(accept) == native::Format::Protobuf;
    match encode(&mut text, &pages.registry) {
        Ok(()) if native => {
            let bytes = pages.baselines.native(&text);
            ([(header::CONTENT_TYPE, native::CONTENT_TYPE)], bytes).into_response()
        }
        Ok(()) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// Takes metrics of OpenTelemetry's exporters, the only thing that changes anything here; off unless it is configured.
async fn otlp(
    Shared(pages): Shared<Arc<Pages>>,
    headers: http::HeaderMap,
    body: Bytes,
) -> Response {
    let of = |name| headers.get(name).and_then(|it| it.to_str().ok()).unwrap_or_default();
    let asked = push::Asked {
        authorization: of(header::AUTHORIZATION),
        kind: of(header::CONTENT_TYPE),
        encoding: of(header::CONTENT_ENCODING),
        body: &body,
    };
    match pages.baselines.push(asked).await {
        Ok((kind, answer)) => ([(header::CONTENT_TYPE, kind)], answer).into_response(),
        Err(error) => {
            let status = match error.kind {
                Kind::NotFound => StatusCode::NOT_FOUND,
                Kind::NotAllowed => StatusCode::UNAUTHORIZED,
                Kind::Invalid => StatusCode::BAD_REQUEST,
                _ => StatusCode::SERVICE_UNAVAILABLE,
            };
            (status, format!("{error}\n")).into_response()
        }
    }
}

async fn status(Shared(pages): Shared<Arc<Pages>>, Path(domain): Path<String>) -> Response {
    match json(&pages, &domain) {
        Ok(Some(value)) => {
            ([(header::CONTENT_TYPE, "application/json")], format!("{value}\n")).into_response()
        }
        Ok(None) => {
            let message = format!(
                "no domain {domain:?}; there are: agent, logs, health, alerts, breaker, baselines, experiments, matrices, dependencies, database, backup, certificates, schedule, oplog, recovery, fleet\n"
            );
            (StatusCode::NOT_FOUND, message).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

fn json(pages: &Pages, domain: &str) -> Result<Option<serde_json::Value>> {
    let value = match domain {
        "agent" => genesis_proto::to_json("genesis.v1.GetStatusResponse", &pages.agent.status()?),
        "logs" => genesis_proto::to_json(
            "genesis.v1.GetLogsStatusResponse",
            &logs::rpc::status_response(&pages.logs)?,
        ),
        "alerts" => genesis_proto::to_json(
            "genesis.v1.GetAlertsStatusResponse",
            &alerts::rpc::status_response(&pages.alerts),
        ),
        "health" => genesis_proto::to_json(
            "genesis.v1.GetHealthStatusResponse",
            &health::rpc::status_response(&pages.health)?,
        ),
        "baselines" => genesis_proto::to_json(
            "genesis.v1.ListBaselinesResponse",
            &baselines::rpc::list_response(&pages.baselines, false)?,
        ),
        "experiments" => genesis_proto::to_json(
            "genesis.v1.ListExperimentsResponse",
            &experiments::rpc::list_response(&pages.experiments, "", Which::All, 0)?,
        ),
        "matrices" => genesis_proto::to_json(
            "genesis.v1.ListMatricesResponse",
            &matrices::rpc::list_response(&pages.matrices, 0)?,
        ),
        "dependencies" => genesis_proto::to_json(
            "genesis.v1.GetDependenciesResponse",
            &dependencies::rpc::overview(&pages.dependencies)?,
        ),
        "breaker" => genesis_proto::to_json(
            "genesis.v1.ListBreakersResponse",
            &breaker::rpc::list_response(&pages.breaker, false),
        ),
        "database" => genesis_proto::to_json(
            "genesis.v1.ListDatabasesResponse",
            &database::rpc::list_response(&pages.database)?,
        ),
        "backup" => genesis_proto::to_json(
            "genesis.v1.ListBackupsResponse",
            &backup::rpc::status_response(&pages.backup)?,
        ),
        "certificates" => genesis_proto::to_json(
            "genesis.v1.ListCertificatesResponse",
            &certificates::rpc::status_response(&pages.certificates)?,
        ),
        "schedule" => genesis_proto::to_json(
            "genesis.v1.ListJobsResponse",
            &scheduler::rpc::list_response(&pages.scheduler, &ListJobsRequest::default())?,
        ),
        "fleet" => genesis_proto::to_json(
            "genesis.v1.GetFleetStatusResponse",
            &crate::fleet::rpc::status_response(&pages.recovery.recovery.fleet),
        ),
        "recovery" => genesis_proto::to_json(
            "genesis.v1.GetEmergencyResponse",
            &recovery::rpc::emergency_response(&pages.recovery),
        ),
        "oplog" => genesis_proto::to_json(
            "genesis.v1.GetHeadResponse",
            &oplog::rpc::head_response(&pages.state)?,
        ),
        _ => return Ok(None),
    };
    value.map(Some).map_err(|error| {
        Error::internal("JSON_FAILED", "the status has no JSON form").caused_by(error)
    })
}
