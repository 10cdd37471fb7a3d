//! Listeners: gRPC on the unix socket (and plaintext loopback for viewers), HTTP on loopback.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use genesis_proto::v1::agent_service_server::AgentServiceServer;
use genesis_proto::v1::logs_service_server::LogsServiceServer;
use genesis_proto::v1::oplog_service_server::OplogServiceServer;
use genesis_proto::v1::recovery_service_server::RecoveryServiceServer;
use genesis_proto::v1::run_service_server::RunServiceServer;
use genesis_proto::v1::schedule_service_server::ScheduleServiceServer;
use tokio::net::{TcpListener, UnixListener};
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::transport::server::Router;

use crate::error::{Error, Result};
use crate::runs::rollback;
use crate::{operations, oplog, runs, scheduler};

pub mod agent_rpc;
pub mod caller;
pub mod convert;
pub mod http;
pub mod layers;
pub mod status;

use layers::{Gate, GateLayer};

/// The largest message that is taken, in bytes.
pub const MESSAGE_LIMIT: usize = 4 << 20;
/// A call without a deadline of its own has this one; streams are not bounded by it once they flow.
const DEADLINE: Duration = Duration::from_secs(60);
/// Streams of one connection at a time.
const STREAMS: u32 = 128;
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
    /// Rollback.
    pub recovery: rollback::rpc::Service,
    /// Log archival.
    pub logs: Arc<operations::logs::Logs>,
}

/// The listeners, bound before anything is said to be ready.
pub struct Listeners {
    unix: UnixListener,
    tcp: Option<TcpListener>,
    http: TcpListener,
}

impl Listeners {
    /// Binds the socket (0600, or 0660 for a group) and the loopback addresses.
    ///
    /// # Errors
    /// `LISTEN_FAILED` with the address and, for a taken port, what to do.
    pub async fn bind(
        socket: &Path,
        group: &str,
        tcp: Option<SocketAddr>,
        http: SocketAddr,
    ) -> Result<Self> {
        let failed = |what: String, error: std::io::Error| {
            let hint = if error.kind() == std::io::ErrorKind::AddrInUse {
                "; another program has it: stop that, or name another address in [listen]"
            } else {
                ""
            };
            Error::unavailable("LISTEN_FAILED", format!("can't listen on {what}{hint}"))
                .caused_by(error)
        };
        let http_listener =
            TcpListener::bind(http).await.map_err(|error| failed(format!("http {http}"), error))?;
        let tcp = match tcp {
            Some(address) => Some(
                TcpListener::bind(address)
                    .await
                    .map_err(|error| failed(format!("grpc {address}"), error))?,
            ),
            None => None,
        };
        let unix = bind_socket(socket, group)
            .map_err(|error| failed(format!("unix:{}", socket.display()), error))?;
        Ok(Self { unix, tcp, http: http_listener })
    }

    /// The address of HTTP, its port chosen.
    ///
    /// # Errors
    /// When the system can't say.
    pub fn http_address(&self) -> std::io::Result<SocketAddr> {
        self.http.local_addr()
    }

    /// The address of plaintext gRPC, its port chosen.
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        self.tcp.as_ref().and_then(|listener| listener.local_addr().ok())
    }
}

fn bind_socket(socket: &Path, group: &str) -> std::io::Result<UnixListener> {
    use std::os::unix::fs::PermissionsExt;

    if let Some(folder) = socket.parent()
        && !folder.exists()
    {
        std::fs::create_dir_all(folder)?;
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755))?;
    }
    // The caller holds the agent's lock, so a socket that is there belongs to an agent that is gone.
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // Bound under a name of its own and renamed when its mode is right, so that it is never open to all.
    let temporary = socket.with_extension("new");
    let _ = std::fs::remove_file(&temporary);
    let listener = UnixListener::bind(&temporary)?;
    let mode = match caller::group_id(group) {
        Some(gid) => {
            std::os::unix::fs::chown(&temporary, None, Some(gid))?;
            0o660
        }
        None => 0o600,
    };
    std::fs::set_permissions(&temporary, std::fs::Permissions::from_mode(mode))?;
    std::fs::rename(&temporary, socket)?;
    Ok(listener)
}

/// Serves until `stop`, then lets calls in flight end.
///
/// # Errors
/// `LISTEN_FAILED` when a listener breaks.
pub async fn serve(
    services: Services,
    gate: Arc<Gate>,
    listeners: Listeners,
    pages: http::Pages,
    stop: CancellationToken,
) -> Result<()> {
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_serving::<AgentServiceServer<agent_rpc::Service>>().await;
    reporter.set_serving::<RunServiceServer<runs::rpc::Service>>().await;
    reporter.set_serving::<ScheduleServiceServer<scheduler::rpc::Service>>().await;
    reporter.set_serving::<OplogServiceServer<oplog::rpc::Service>>().await;
    reporter.set_serving::<RecoveryServiceServer<rollback::rpc::Service>>().await;
    reporter.set_serving::<LogsServiceServer<operations::logs::rpc::Service>>().await;
    let reflection = |version: &str| {
        Error::internal("REFLECTION_FAILED", format!("reflection {version} can't be built"))
    };
    let described = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(genesis_proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let v1 = described().build_v1().map_err(|error| reflection("v1").caused_by(error))?;
    let alpha =
        described().build_v1alpha().map_err(|error| reflection("v1alpha").caused_by(error))?;
    macro_rules! limited {
        ($server:expr) => {
            $server
                .max_decoding_message_size(MESSAGE_LIMIT)
                .max_encoding_message_size(MESSAGE_LIMIT)
        };
    }
    let Services { agent, runs, scheduler, oplog, recovery, logs } = services;
    let mut server = Server::builder()
        .timeout(DEADLINE)
        .max_concurrent_streams(STREAMS)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .layer(GateLayer(gate));
    let router: Router<_> = server
        .add_service(health)
        .add_service(v1)
        .add_service(alpha)
        .add_service(limited!(AgentServiceServer::new(agent_rpc::Service(agent))))
        .add_service(limited!(RunServiceServer::new(runs::rpc::Service(runs))))
        .add_service(limited!(ScheduleServiceServer::new(scheduler::rpc::Service(scheduler))))
        .add_service(limited!(OplogServiceServer::new(oplog)))
        .add_service(limited!(RecoveryServiceServer::new(recovery)))
        .add_service(limited!(LogsServiceServer::new(operations::logs::rpc::Service(logs))));
    let broken = |error: tonic::transport::Error| {
        Error::unavailable("LISTEN_FAILED", "a gRPC listener broke").caused_by(error)
    };
    let Listeners { unix, tcp, http } = listeners;
    let over_tcp = router.clone();
    let tcp_stop = stop.clone();
    let tcp_served = async move {
        match tcp {
            Some(listener) => {
                over_tcp
                    .serve_with_incoming_shutdown(
                        TcpListenerStream::new(listener),
                        tcp_stop.cancelled(),
                    )
                    .await
            }
            None => Ok(()),
        }
    };
    let pages_served = axum::serve(http, http::router(pages))
        .with_graceful_shutdown(stop.clone().cancelled_owned());
    let unix_served =
        router.serve_with_incoming_shutdown(UnixListenerStream::new(unix), stop.cancelled());
    let (unix, tcp, pages) = tokio::join!(unix_served, tcp_served, async { pages_served.await });
    unix.map_err(broken)?;
    tcp.map_err(broken)?;
    pages.map_err(|error| {
        Error::unavailable("LISTEN_FAILED", "the HTTP listener broke").caused_by(error)
    })
}
