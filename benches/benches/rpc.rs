//! A no-op rpc over the unix socket and over mutual TLS on loopback: the agent, with authorisation, tracing and
//! the oplog decision on, beside a bare tonic server that answers the same message on the same kind of
//! connection, in one process on one runtime.
//!
//! Prints the median and the 99th percentile of sequential calls of both, in alternation, and the ratio.

#![allow(clippy::print_stdout)] // It is its output.

mod support;

use std::process::ExitCode;
use std::time::Instant;

use genesis_client::{Client, Node, Options};
use genesis_proto::v1::agent_service_server::{AgentService, AgentServiceServer};
use genesis_proto::v1::{
    CheckConfigRequest, CheckConfigResponse, GetConfigRequest, GetConfigResponse, GetPkiRequest,
    GetPkiResponse, GetStatusRequest, GetStatusResponse, GetVersionRequest, GetVersionResponse,
    PlanResponse, ReadOwnLogRequest, ReadOwnLogResponse, ReloadConfigRequest, ReloadConfigResponse,
    WhoAmIRequest, WhoAmIResponse,
};
use support::figures::Figure;
use support::hosts::Hosts;
use support::{Outcome, quantile};
use tokio::net::{TcpListener, UnixListener};
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};

/// Rounds of alternation, and calls of each side in a round.
const ROUNDS: usize = 40;
const CALLS: usize = 500;
/// The ratio to stay below, and milliseconds at the 99th percentile over TLS.
const GOALS: (f64, f64) = (1.3, 5.0);

/// Answers GetVersion and nothing else.
struct Echo;

fn absent<T>() -> Result<Response<T>, Status> {
    Err(Status::not_found("the peer answers GetVersion only"))
}

#[tonic::async_trait]
impl AgentService for Echo {
    async fn get_version(
        &self,
        _: Request<GetVersionRequest>,
    ) -> Result<Response<GetVersionResponse>, Status> {
        Ok(Response::new(GetVersionResponse {
            version: "0.1.0".into(),
            schema_version: 1,
            rustc: "1.95".into(),
        }))
    }

    async fn get_status(
        &self,
        _: Request<GetStatusRequest>,
    ) -> Result<Response<GetStatusResponse>, Status> {
        absent()
    }

    async fn who_am_i(
        &self,
        _: Request<WhoAmIRequest>,
    ) -> Result<Response<WhoAmIResponse>, Status> {
        absent()
    }

    async fn get_config(
        &self,
        _: Request<GetConfigRequest>,
    ) -> Result<Response<GetConfigResponse>, Status> {
        absent()
    }

    async fn check_config(
        &self,
        _: Request<CheckConfigRequest>,
    ) -> Result<Response<CheckConfigResponse>, Status> {
        absent()
    }

    async fn reload_config(
        &self,
        _: Request<ReloadConfigRequest>,
    ) -> Result<Response<ReloadConfigResponse>, Status> {
        absent()
    }

    async fn plan_reload_config(
        &self,
        _: Request<ReloadConfigRequest>,
    ) -> Result<Response<PlanResponse>, Status> {
        absent()
    }

    async fn get_pki(&self, _: Request<GetPkiRequest>) -> Result<Response<GetPkiResponse>, Status> {
        absent()
    }

    async fn read_own_log(
        &self,
        _: Request<ReadOwnLogRequest>,
    ) -> Result<Response<ReadOwnLogResponse>, Status> {
        absent()
    }
}

fn main() -> Outcome<ExitCode> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(measure())
}

async fn measure() -> Outcome<ExitCode> {
    let hosts = Hosts::new()?;
    let agent = hosts.agent("agent").await?;
    let bare_socket = hosts.path("bare.sock");
    let listener = UnixListenerStream::new(UnixListener::bind(&bare_socket)?);
    tokio::spawn(
        Server::builder().add_service(AgentServiceServer::new(Echo)).serve_with_incoming(listener),
    );
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let bare_tls = listener.local_addr()?;
    let identity = Identity::from_pem(&hosts.server.certificate_pem, &hosts.server.key_pem);
    let tls = ServerTlsConfig::new()
        .identity(identity)
        .client_ca_root(Certificate::from_pem(hosts.ca()?));
    let mut server = Server::builder().tls_config(tls)?;
    let router = server.add_service(AgentServiceServer::new(Echo));
    tokio::spawn(router.serve_with_incoming(TcpListenerStream::new(listener)));
    println!("{} calls each, microseconds", ROUNDS * CALLS);
    println!("                        p50      p99");
    let (over_socket, _) =
        pair("socket", &Node::unix(&bare_socket)?, &Node::unix(&agent.socket)?, &hosts).await?;
    let grpc = agent.grpc.ok_or("no TLS")?;
    let (over_tls, p99) =
        pair("mTLS", &bare_tls.to_string().parse()?, &grpc.to_string().parse()?, &hosts).await?;
    agent.drain().await;
    println!("goals: ratio at most {}, p99 over mTLS at most {} ms", GOALS.0, GOALS.1);
    let met = over_socket.max(over_tls) <= GOALS.0 && p99 <= GOALS.1 * 1e3;
    Ok(if met { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The ratio of the medians, and the agent's 99th percentile.
async fn pair(name: &str, bare: &Node, ours: &Node, hosts: &Hosts) -> Outcome<(f64, f64)> {
    let options = || -> Outcome<Options> {
        Ok(Options { tls: hosts.context(vec![ours.clone()])?.tls()?, ..Options::default() })
    };
    let mut bare = Client::connect(bare, options()?).await?;
    let mut ours = Client::connect(ours, options()?).await?;
    // Warm both.
    round(&mut bare).await?;
    round(&mut ours).await?;
    let (mut of_bare, mut of_ours) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        of_bare.extend(round(&mut bare).await?);
        of_ours.extend(round(&mut ours).await?);
    }
    let line = |who: &str, taken: &mut [f64]| {
        let (p50, p99) = (quantile(taken, 0.5), quantile(taken, 0.99));
        println!("{name:<7} {who:<10} {p50:8.1} {p99:8.1}");
        (p50, p99)
    };
    let bare = line("bare tonic", &mut of_bare);
    let ours = line("agent", &mut of_ours);
    println!("{name:<7} ratio of the medians {:.2}", ours.0 / bare.0);
    let median = Figure::new(format!("a call over {name}, median"), ours.0, "us");
    median.beside("bare tonic", bare.0).ratio_at_most(GOALS.0).say()?;
    let most = Figure::new(format!("a call over {name}, p99"), ours.1 / 1e3, "ms");
    let most = most.beside("bare tonic", bare.1 / 1e3);
    // The goal is for calls over the network.
    if name == "mTLS" { most.at_most(GOALS.1) } else { most }.say()?;
    Ok((ours.0 / bare.0, ours.1))
}

/// Microseconds of each call.
async fn round(client: &mut Client) -> Outcome<Vec<f64>> {
    let mut taken = Vec::with_capacity(CALLS);
    let mut service = client.agent();
    for _ in 0..CALLS {
        #[allow(clippy::disallowed_methods)] // A benchmark reads the clock.
        let before = Instant::now();
        service.get_version(GetVersionRequest {}).await?;
        taken.push(before.elapsed().as_secs_f64() * 1e6);
    }
    Ok(taken)
}
