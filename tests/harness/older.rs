//! An agent of an older version, as far as a newer client can tell: fewer rpcs, fewer fields.

use std::net::SocketAddr;

use genesis_proto::v1::agent_service_server::{AgentService, AgentServiceServer};
use genesis_proto::v1::*;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};

use crate::pki::Authority;

/// Its version.
pub const VERSION: &str = "0.0.9";

/// Serves it on loopback with a certificate of `authority` for as long as the runtime lives; returns where.
///
/// # Panics
/// When it can't listen.
pub async fn serve(authority: &Authority) -> SocketAddr {
    let server = authority.issue(
        "old-1",
        genesis_agent::pki::Role::Agent,
        genesis_agent::pki::Validity::Days(90),
    );
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(&server.certificate_pem, &server.key_pem))
        .client_ca_root(tonic::transport::Certificate::from_pem(authority.ca()));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("its address");
    let mut router = Server::builder().tls_config(tls).expect("TLS");
    let served = router.add_service(AgentServiceServer::new(Older));
    tokio::spawn(served.serve_with_incoming(TcpListenerStream::new(listener)));
    address
}

struct Older;

type Answer<T> = Result<Response<T>, Status>;

fn unknown<T>() -> Answer<T> {
    Err(Status::unimplemented(""))
}

#[tonic::async_trait]
impl AgentService for Older {
    async fn get_status(&self, _: Request<GetStatusRequest>) -> Answer<GetStatusResponse> {
        Ok(Response::new(GetStatusResponse {
            hostname: "old-1".into(),
            version: VERSION.into(),
            condition: Condition::Ok.into(),
            ..Default::default()
        }))
    }

    async fn get_version(&self, _: Request<GetVersionRequest>) -> Answer<GetVersionResponse> {
        Ok(Response::new(GetVersionResponse { version: VERSION.into(), ..Default::default() }))
    }

    async fn who_am_i(&self, _: Request<WhoAmIRequest>) -> Answer<WhoAmIResponse> {
        unknown()
    }

    async fn get_config(&self, _: Request<GetConfigRequest>) -> Answer<GetConfigResponse> {
        unknown()
    }

    async fn check_config(&self, _: Request<CheckConfigRequest>) -> Answer<CheckConfigResponse> {
        unknown()
    }

    async fn reload_config(&self, _: Request<ReloadConfigRequest>) -> Answer<ReloadConfigResponse> {
        unknown()
    }

    async fn plan_reload_config(&self, _: Request<ReloadConfigRequest>) -> Answer<PlanResponse> {
        unknown()
    }

    async fn get_pki(&self, _: Request<GetPkiRequest>) -> Answer<GetPkiResponse> {
        unknown()
    }

    async fn read_own_log(&self, _: Request<ReadOwnLogRequest>) -> Answer<ReadOwnLogResponse> {
        unknown()
    }
}
