//! A no-op rpc over the unix socket: the agent, with authorisation, tracing and the oplog decision on,
//! beside a bare tonic server that answers the same message, in one process on one runtime.
//!
//! Prints the median and the 99th percentile of sequential calls of both, in alternation, and the ratio.

#![allow(clippy::print_stdout)] // It is its output.

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use genesis_agent::agent::{Agent, Setup};
use genesis_agent::config::{Config, Places};
use genesis_agent::outside::Outside;
use genesis_client::{Client, Node, Options};
use genesis_proto::v1::agent_service_server::{AgentService, AgentServiceServer};
use genesis_proto::v1::{
    CheckConfigRequest, CheckConfigResponse, GetConfigRequest, GetConfigResponse, GetPkiRequest,
    GetPkiResponse, GetStatusRequest, GetStatusResponse, GetVersionRequest, GetVersionResponse,
    PlanResponse, ReadOwnLogRequest, ReadOwnLogResponse, ReloadConfigRequest, ReloadConfigResponse,
    WhoAmIRequest, WhoAmIResponse,
};
use genesis_stats::quantile;
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

/// Rounds of alternation, and calls of each side in a round.
const ROUNDS: usize = 40;
const CALLS: usize = 500;
/// The ratio to stay below.
const GOAL: f64 = 1.3;

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

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome<ExitCode> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(measure())
}

async fn measure() -> Outcome<ExitCode> {
    let folder = tempfile::tempdir()?;
    let bare = folder.path().join("bare.sock");
    let listener = UnixListenerStream::new(UnixListener::bind(&bare)?);
    tokio::spawn(
        Server::builder().add_service(AgentServiceServer::new(Echo)).serve_with_incoming(listener),
    );
    let places = Places::find(Some(&folder.path().join("state")))?;
    let config = Config::parse("[listen]\nhttp = \"127.0.0.1:0\"\n", "bench", &places)
        .config
        .ok_or("configuration")?;
    let socket = places.socket.clone();
    let agent =
        Agent::start(Setup { places, config, config_path: None, outside: Outside::real() }).await?;
    let (mut bare, mut ours) = (connect(&bare).await?, connect(&socket).await?);
    // Warm both.
    round(&mut bare).await?;
    round(&mut ours).await?;
    let (mut of_bare, mut of_ours) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        of_bare.extend(round(&mut bare).await?);
        of_ours.extend(round(&mut ours).await?);
    }
    agent.drain().await;
    of_bare.sort_by(f64::total_cmp);
    of_ours.sort_by(f64::total_cmp);
    let at = |sorted: &[f64], p: f64| quantile(sorted, p).unwrap_or(f64::NAN);
    println!("{} calls each, microseconds", ROUNDS * CALLS);
    println!("                 p50      p99");
    println!("bare tonic   {:7.1}  {:7.1}", at(&of_bare, 0.5), at(&of_bare, 0.99));
    println!("agent        {:7.1}  {:7.1}", at(&of_ours, 0.5), at(&of_ours, 0.99));
    let ratio = at(&of_ours, 0.5) / at(&of_bare, 0.5);
    println!("ratio of the medians {ratio:.2}, goal at most {GOAL}");
    Ok(if ratio <= GOAL { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn connect(socket: &Path) -> Outcome<Client> {
    Ok(Client::connect(&Node::unix(socket)?, Options::default()).await?)
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
