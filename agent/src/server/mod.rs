//! What is served: gRPC on the unix socket and over TLS (and plaintext loopback for viewers), HTTP on loopback.

use std::sync::Arc;
use std::time::Duration;

use genesis_proto::v1::agent_service_server::AgentServiceServer;
use genesis_proto::v1::alerts_service_server::AlertsServiceServer;
use genesis_proto::v1::backup_service_server::BackupServiceServer;
use genesis_proto::v1::baseline_service_server::BaselineServiceServer;
use genesis_proto::v1::breaker_service_server::BreakerServiceServer;
use genesis_proto::v1::certificate_service_server::CertificateServiceServer;
use genesis_proto::v1::database_service_server::DatabaseServiceServer;
use genesis_proto::v1::dependency_service_server::DependencyServiceServer;
use genesis_proto::v1::experiment_service_server::ExperimentServiceServer;
use genesis_proto::v1::fleet_service_server::FleetServiceServer;
use genesis_proto::v1::health_service_server::HealthServiceServer;
use genesis_proto::v1::logs_service_server::LogsServiceServer;
use genesis_proto::v1::matrix_service_server::MatrixServiceServer;
use genesis_proto::v1::oplog_service_server::OplogServiceServer;
use genesis_proto::v1::parameter_service_server::ParameterServiceServer;
use genesis_proto::v1::recovery_service_server::RecoveryServiceServer;
use genesis_proto::v1::run_service_server::RunServiceServer;
use genesis_proto::v1::schedule_service_server::ScheduleServiceServer;
use genesis_proto::v1::series_service_server::SeriesServiceServer;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::Router;

use crate::error::{Error, Result};
use crate::operations::recovery;
use crate::{fleet, operations, oplog, runs, scheduler};

pub mod admission;
pub mod agent_rpc;
pub mod batches;
pub mod caller;
pub mod connection;
#[doc(hidden)]
pub mod conversions;
pub mod convert;
mod denials;
pub mod diagnose;
mod events;
mod exposition;
mod gateway;
pub mod http;
pub mod layers;
mod lazy;
pub mod listen;
mod openapi;
mod page;
mod pages;
mod refused;
pub mod requests;
pub mod routes;
mod shared;
pub mod status;
pub mod telling;
pub mod tls;
mod traced;

use connection::Connections;
use gateway::Gateway;
use layers::{Gate, GateLayer};
use lazy::Lazy;
pub use listen::Listeners;
use tls::Tls;

/// The largest message that is taken, in bytes.
pub const MESSAGE_LIMIT: usize = 4 << 20;
/// Streams of one connection at a time.
const STREAMS: u32 = 128;
/// What a client may send ahead on one stream, in bytes.
const STREAM_WINDOW: u32 = 128 << 10;
/// What a client may send ahead on one connection, in bytes.
const CONNECTION_WINDOW: u32 = 256 << 10;
/// Idle connections are probed, so that a dead laptop does not hold one for ever.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Everything that is served.
pub struct Services {
    /// The agent itself.
    pub agent: agent_rpc::AgentView,
    /// Runs.
    pub runs: runs::Runs,
    /// The scheduler.
    pub scheduler: scheduler::Scheduler,
    /// The operation log.
    pub oplog: oplog::rpc::Service,
    /// The fleet.
    pub fleet: Arc<fleet::Fleet>,
    /// Emergency and rollback.
    pub recovery: recovery::rpc::Service,
    /// Log archival.
    pub logs: Arc<operations::logs::Logs>,
    /// Checks and remediation.
    pub health: operations::health::rpc::Service,
    /// Alerts.
    pub alerts: crate::alerts::rpc::Service,
    /// Performance baselines.
    pub baselines: Arc<operations::baselines::Baselines>,
    /// Strategy A/B tests, and parameters.
    pub experiments: Arc<operations::experiments::Experiments>,
    /// Correlation matrices, and series.
    pub matrices: Arc<operations::matrices::Matrices>,
    /// What applications are built of.
    pub dependencies: Arc<operations::dependencies::Dependencies>,
    /// Circuit breakers.
    pub breaker: Arc<operations::breaker::Breakers>,
    /// Databases.
    pub database: operations::database::rpc::Service,
    /// Backups.
    pub backup: Arc<operations::backup::Backup>,
    /// Certificates.
    pub certificates: Arc<operations::certificates::Certificates>,
}

/// What the connections are held to.
pub struct Secured {
    /// What secures the TLS port.
    pub tls: Option<Arc<Tls>>,
    /// The places of TCP connections.
    pub connections: Arc<Connections>,
    /// The places of the unix socket, which no crowd on the network can take.
    pub local: Arc<Connections>,
    /// The places of HTTP.
    pub visitors: Arc<Connections>,
    /// What roles are given by.
    pub rules: Arc<caller::Rules>,
}

/// Serves until `stop`, then lets calls in flight end.
///
/// # Errors
/// `LISTEN_FAILED` when a listener breaks.
pub async fn serve(
    services: Services,
    gate: Arc<Gate>,
    listeners: Listeners,
    secured: Secured,
    gauged: http::Gauged,
    stop: CancellationToken,
) -> Result<()> {
    let (reporter, serving) = tonic_health::server::health_reporter();
    reporter.set_serving::<AgentServiceServer<agent_rpc::Service>>().await;
    reporter.set_serving::<RunServiceServer<runs::rpc::Service>>().await;
    reporter.set_serving::<ScheduleServiceServer<scheduler::rpc::Service>>().await;
    reporter.set_serving::<OplogServiceServer<oplog::rpc::Service>>().await;
    reporter.set_serving::<RecoveryServiceServer<recovery::rpc::Service>>().await;
    reporter.set_serving::<FleetServiceServer<fleet::rpc::Service>>().await;
    reporter.set_serving::<LogsServiceServer<operations::logs::rpc::Service>>().await;
    reporter.set_serving::<AlertsServiceServer<crate::alerts::rpc::Service>>().await;
    reporter.set_serving::<HealthServiceServer<operations::health::rpc::Service>>().await;
    reporter.set_serving::<BaselineServiceServer<operations::baselines::rpc::Service>>().await;
    reporter.set_serving::<ExperimentServiceServer<operations::experiments::rpc::Service>>().await;
    reporter
        .set_serving::<ParameterServiceServer<operations::experiments::rpc::Parameters>>()
        .await;
    reporter.set_serving::<MatrixServiceServer<operations::matrices::rpc::Service>>().await;
    reporter.set_serving::<SeriesServiceServer<operations::matrices::rpc::Series>>().await;
    reporter.set_serving::<DependencyServiceServer<operations::dependencies::rpc::Service>>().await;
    reporter.set_serving::<BreakerServiceServer<operations::breaker::rpc::Service>>().await;
    reporter.set_serving::<DatabaseServiceServer<operations::database::rpc::Service>>().await;
    reporter.set_serving::<BackupServiceServer<operations::backup::rpc::Service>>().await;
    reporter
        .set_serving::<CertificateServiceServer<operations::certificates::rpc::Service>>()
        .await;
    let described = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(genesis_proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    // The bytes are part of this program, and a test asks both.
    #[allow(clippy::expect_used)]
    let v1 = Lazy::new(move || described().build_v1().expect("descriptors that decode"));
    #[allow(clippy::expect_used)]
    let alpha = Lazy::new(move || described().build_v1alpha().expect("descriptors that decode"));
    macro_rules! limited {
        ($server:expr) => {
            $server
                .max_decoding_message_size(MESSAGE_LIMIT)
                .max_encoding_message_size(MESSAGE_LIMIT)
        };
    }
    let Services {
        agent,
        runs,
        scheduler,
        oplog,
        fleet,
        recovery,
        logs,
        health,
        alerts,
        breaker,
        baselines,
        experiments,
        matrices,
        dependencies,
        database,
        backup,
        certificates,
    } = services;
    let mut routes = Routes::builder();
    routes
        .add_service(serving)
        .add_service(v1)
        .add_service(alpha)
        .add_service(limited!(AgentServiceServer::new(agent_rpc::Service::new(agent))))
        .add_service(limited!(RunServiceServer::new(runs::rpc::Service(runs))))
        .add_service(limited!(ScheduleServiceServer::new(scheduler::rpc::Service(scheduler))))
        .add_service(limited!(OplogServiceServer::new(oplog)))
        .add_service(limited!(FleetServiceServer::new(fleet::rpc::Service(fleet))))
        .add_service(limited!(RecoveryServiceServer::new(recovery)))
        .add_service(limited!(LogsServiceServer::new(operations::logs::rpc::Service(logs))))
        .add_service(limited!(HealthServiceServer::new(health)))
        .add_service(limited!(AlertsServiceServer::new(alerts)))
        .add_service(limited!(BaselineServiceServer::new(operations::baselines::rpc::Service(
            baselines
        ))))
        .add_service(limited!(ExperimentServiceServer::new(operations::experiments::rpc::Service(
            Arc::clone(&experiments)
        ))))
        .add_service(limited!(ParameterServiceServer::new(
            operations::experiments::rpc::Parameters(experiments)
        )))
        .add_service(limited!(MatrixServiceServer::new(operations::matrices::rpc::Service(
            Arc::clone(&matrices)
        ))))
        .add_service(limited!(SeriesServiceServer::new(operations::matrices::rpc::Series(
            matrices
        ))))
        .add_service(limited!(DependencyServiceServer::new(
            operations::dependencies::rpc::Service(dependencies)
        )))
        .add_service(limited!(BreakerServiceServer::new(operations::breaker::rpc::Service(
            breaker
        ))))
        .add_service(limited!(DatabaseServiceServer::new(database)))
        .add_service(limited!(BackupServiceServer::new(operations::backup::rpc::Service(backup))))
        .add_service(limited!(CertificateServiceServer::new(
            operations::certificates::rpc::Service(certificates)
        )));
    let routes = routes.routes().prepare();
    let gateway = Gateway::new(Arc::clone(&gate), routes.clone());
    let router: Router<_> = Server::builder()
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .layer(GateLayer(gate))
        .add_routes(routes);
    let broken = |error: tonic::transport::Error| {
        Error::unavailable("LISTEN_FAILED", "a gRPC listener broke").caused_by(error)
    };
    let Listeners { unix, plaintext, tls, http, https } = listeners;
    let Secured { tls: material, connections, local, visitors, rules } = secured;
    let over_tcp = |listener: Option<TcpListener>, tls: Option<Arc<Tls>>| {
        let (router, places, stop) = (router.clone(), Arc::clone(&connections), stop.clone());
        async move {
            match listener {
                Some(listener) => {
                    let incoming = listen::tcp(listener, tls, places, stop.clone());
                    router.serve_with_incoming_shutdown(incoming, stop.cancelled()).await
                }
                None => Ok(()),
            }
        }
    };
    let site = http::Site::new(gauged, gateway, stop.clone());
    // A client that is not let in any more is cut off here too, so they share their places.
    let secure = https.zip(material.clone()).map(|(listener, tls)| {
        let secure = http::Secure { tls, rules };
        http::serve(listener, Arc::clone(&site), Some(secure), Arc::clone(&connections))
    });
    let (plaintext, tls) = (over_tcp(plaintext, None), over_tcp(tls, material));
    let pages = http::serve(http, Arc::clone(&site), None, visitors);
    let pages = async { tokio::join!(pages, futures_util::future::OptionFuture::from(secure)).0 };
    let incoming = listen::unix(unix, local, stop.clone());
    let unix = router.clone().serve_with_incoming_shutdown(incoming, stop.cancelled());
    let (unix, plaintext, tls, ()) = tokio::join!(unix, plaintext, tls, pages);
    unix.and(plaintext).and(tls).map_err(broken)
}
