//! A tiny agent on a unix socket that answers as each test tells it to, and keeps what it was called with.

pub(crate) mod alerts;
pub(crate) mod backup;
pub(crate) mod baseline;
mod breaker;
pub(crate) mod cert;
pub(crate) mod database;
mod dependencies;
pub(crate) mod experiments;
mod fleet;
pub(crate) mod health;
pub(crate) mod matrix;
pub(crate) mod parameters;
pub(crate) mod series;
mod services;

use std::collections::HashMap;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub(crate) use alerts::Alerts;
pub(crate) use backup::Backups;
pub(crate) use baseline::Baselines;
pub(crate) use cert::Certificates;
pub(crate) use database::Databases;
pub(crate) use dependencies::Dependencies;
pub(crate) use experiments::Experiments;
use genesis_client::v1::agent_service_server::AgentServiceServer;
use genesis_client::v1::alerts_service_server::AlertsServiceServer;
use genesis_client::v1::backup_service_server::BackupServiceServer;
use genesis_client::v1::baseline_service_server::BaselineServiceServer;
use genesis_client::v1::breaker_service_server::BreakerServiceServer;
use genesis_client::v1::certificate_service_server::CertificateServiceServer;
use genesis_client::v1::database_service_server::DatabaseServiceServer;
use genesis_client::v1::dependency_service_server::DependencyServiceServer;
use genesis_client::v1::experiment_service_server::ExperimentServiceServer;
use genesis_client::v1::fleet_service_server::FleetServiceServer;
use genesis_client::v1::health_service_server::HealthServiceServer;
use genesis_client::v1::logs_service_server::LogsServiceServer;
use genesis_client::v1::matrix_service_server::MatrixServiceServer;
use genesis_client::v1::oplog_service_server::OplogServiceServer;
use genesis_client::v1::parameter_service_server::ParameterServiceServer;
use genesis_client::v1::recovery_service_server::RecoveryServiceServer;
use genesis_client::v1::run_service_server::RunServiceServer;
use genesis_client::v1::schedule_service_server::ScheduleServiceServer;
use genesis_client::v1::series_service_server::SeriesServiceServer;
use genesis_client::v1::*;
pub(crate) use health::Health;
pub(crate) use matrix::Matrices;
pub(crate) use parameters::Parameters;
pub(crate) use series::KnownSeries;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};
use tonic::transport::server::{Connected, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};

type Answer<T> = Result<Response<T>, Status>;
type Stream<T> = Pin<Box<dyn tokio_stream::Stream<Item = Result<T, Status>> + Send>>;

/// What the agent answers.
#[derive(Default)]
pub(crate) struct Script {
    pub(crate) status: GetStatusResponse,
    /// The status once anything else was called.
    pub(crate) after: Option<GetStatusResponse>,
    pub(crate) delay: Duration,
    pub(crate) check: CheckConfigResponse,
    pub(crate) segments: Vec<Segment>,
    pub(crate) plan: PlanCleanupArchivesResponse,
    pub(crate) holds: Vec<Hold>,
    /// One stream for each time that a run is watched; the last one again and again.
    pub(crate) watches: Vec<Vec<Result<Run, Status>>>,
    pub(crate) retrieve: Vec<Result<retrieve_logs_response::Part, Status>>,
    pub(crate) verify: Vec<verify_archives_response::Part>,
    pub(crate) verified: VerifyOplogResponse,
    pub(crate) export: Vec<ExportOplogResponse>,
    pub(crate) entries: Vec<OplogEntry>,
    pub(crate) searched_to: u64,
    pub(crate) jobs: Vec<Job>,
    pub(crate) rollback_plan: PlanRollbackResponse,
    pub(crate) rolled_back: RollbackResponse,
    /// What every other rpc that plans answers.
    pub(crate) any_plan: PlanResponse,
    pub(crate) emergency: GetEmergencyResponse,
    pub(crate) pki: GetPkiResponse,
    pub(crate) config: String,
    pub(crate) identity: Option<WhoAmIResponse>,
    pub(crate) own_log: Vec<u8>,
    pub(crate) runs: Vec<Run>,
    pub(crate) logs: GetLogsStatusResponse,
    pub(crate) health: Health,
    pub(crate) alerts: Alerts,
    pub(crate) breakers: Vec<Breaker>,
    /// How it stands to its fleet, who is in it, and what is locked there.
    pub(crate) fleet: GetFleetStatusResponse,
    pub(crate) members: Vec<FleetMember>,
    pub(crate) locks: Vec<FleetLock>,
    /// How far an emergency of the fleet gets.
    pub(crate) reach: FleetReach,
    /// Why it can't tell; empty: it can.
    pub(crate) fleet_refusal: &'static str,
    pub(crate) databases: Databases,
    pub(crate) backups: Backups,
    pub(crate) certificates: Certificates,
    pub(crate) baselines: Baselines,
    pub(crate) experiments: Experiments,
    pub(crate) parameters: Parameters,
    pub(crate) matrices: Matrices,
    pub(crate) series: KnownSeries,
    pub(crate) dependencies: Dependencies,
    /// What the methods of these names fail with.
    pub(crate) failing: HashMap<&'static str, Status>,
    /// Where the calls of several agents meet.
    pub(crate) meeting: Option<Arc<Meeting>>,
}

/// Holds calls back until enough of them have come, and keeps who came and went when.
#[derive(Default)]
pub(crate) struct Meeting {
    /// So many calls are let go together.
    pub(crate) together: usize,
    state: Mutex<Met>,
    changed: tokio::sync::Notify,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Met {
    arrived: usize,
    now: usize,
    /// The most calls that were there at the same time.
    pub(crate) most: usize,
    /// The methods of those that came, and "left" for each that went.
    pub(crate) events: Vec<String>,
}

impl Meeting {
    pub(crate) fn of(together: usize) -> Arc<Self> {
        Arc::new(Self { together, ..Self::default() })
    }

    pub(crate) fn met(&self) -> Met {
        self.state.lock().unwrap().clone()
    }

    async fn attend(&self, method: &str) {
        let place = {
            let mut met = self.state.lock().unwrap();
            met.arrived += 1;
            met.now += 1;
            met.most = met.most.max(met.now);
            met.events.push(method.to_owned());
            met.arrived
        };
        self.changed.notify_waiters();
        let wanted = place.next_multiple_of(self.together);
        loop {
            let changed = self.changed.notified();
            if self.state.lock().unwrap().arrived >= wanted {
                break;
            }
            changed.await;
        }
        // One that should not come has the time to do so.
        tokio::time::sleep(Duration::from_millis(40)).await;
        let mut met = self.state.lock().unwrap();
        met.now -= 1;
        met.events.push("left".into());
    }
}

/// Calls under this request id are kept with it; other ids are made up by the client.
pub(crate) const REQUEST_ID: &str = "01J00000000000000000000000";

/// A running fake agent. It ends with the value.
pub(crate) struct Fake {
    inner: Arc<Inner>,
    node: String,
    _stop: tokio::sync::oneshot::Sender<()>,
}

struct Inner {
    script: Script,
    calls: Mutex<Vec<String>>,
    watched: Mutex<usize>,
    me: std::sync::Weak<Inner>,
}

impl Fake {
    pub(crate) fn start(folder: &Path, script: Script) -> Self {
        let path = folder.join("agent.sock");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        listener.set_nonblocking(true).unwrap();
        let node = format!("unix:{}", path.display());
        Self::serve(script, node, Server::builder(), move || {
            UnixListenerStream::new(tokio::net::UnixListener::from_std(listener).unwrap())
        })
    }

    /// One on a port of 127.0.0.1, behind TLS.
    pub(crate) fn start_tls(script: Script, tls: ServerTlsConfig) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let node = listener.local_addr().unwrap().to_string();
        Self::serve(script, node, Server::builder().tls_config(tls).unwrap(), move || {
            TcpListenerStream::new(tokio::net::TcpListener::from_std(listener).unwrap())
        })
    }

    fn serve<S, I>(
        script: Script,
        node: String,
        mut server: Server,
        incoming: impl FnOnce() -> S + Send + 'static,
    ) -> Self
    where
        S: tokio_stream::Stream<Item = std::io::Result<I>>,
        I: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    {
        let calls = Mutex::default();
        let inner = Arc::new_cyclic(|me| Inner {
            script,
            calls,
            watched: Mutex::default(),
            me: me.clone(),
        });
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let served = inner.clone();
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let server = server
                    .add_service(AgentServiceServer::from_arc(served.clone()))
                    .add_service(BackupServiceServer::from_arc(served.clone()))
                    .add_service(BaselineServiceServer::from_arc(served.clone()))
                    .add_service(CertificateServiceServer::from_arc(served.clone()))
                    .add_service(DatabaseServiceServer::from_arc(served.clone()))
                    .add_service(DependencyServiceServer::from_arc(served.clone()))
                    .add_service(BreakerServiceServer::from_arc(served.clone()))
                    .add_service(FleetServiceServer::from_arc(served.clone()))
                    .add_service(ExperimentServiceServer::from_arc(served.clone()))
                    .add_service(ParameterServiceServer::from_arc(served.clone()))
                    .add_service(MatrixServiceServer::from_arc(served.clone()))
                    .add_service(SeriesServiceServer::from_arc(served.clone()))
                    .add_service(HealthServiceServer::from_arc(served.clone()))
                    .add_service(AlertsServiceServer::from_arc(served.clone()))
                    .add_service(LogsServiceServer::from_arc(served.clone()))
                    .add_service(OplogServiceServer::from_arc(served.clone()))
                    .add_service(RecoveryServiceServer::from_arc(served.clone()))
                    .add_service(RunServiceServer::from_arc(served.clone()))
                    .add_service(ScheduleServiceServer::from_arc(served))
                    .serve_with_incoming(incoming());
                tokio::select! {
                    served = server => served.unwrap(),
                    _ = stopped => {}
                }
            });
        });
        Self { inner, node, _stop: stop }
    }

    pub(crate) fn node(&self) -> String {
        self.node.clone()
    }

    /// What it was called with, in order: "Method what-matters".
    pub(crate) fn calls(&self) -> Vec<String> {
        self.inner.calls.lock().unwrap().clone()
    }
}

impl Inner {
    /// For what goes on after the call was answered.
    fn share(&self) -> Arc<Self> {
        self.me.upgrade().unwrap()
    }

    async fn called<T>(
        &self,
        method: &str,
        what: &str,
        request: &Request<T>,
    ) -> Result<(), Status> {
        let reason = request.metadata().get("genesis-reason").map(|v| v.to_str().unwrap());
        let mut call = format!("{method} {what}").trim_end().to_owned();
        if let Some(reason) = reason {
            call.push_str(&format!(" because {reason}"));
        }
        let id = request.metadata().get("genesis-request-id").map(|v| v.to_str().unwrap());
        if let Some(id) = id.filter(|id| *id == REQUEST_ID) {
            call.push_str(&format!(" as {id}"));
        }
        self.calls.lock().unwrap().push(call);
        if !self.script.delay.is_zero() {
            tokio::time::sleep(self.script.delay).await;
        }
        if let Some(meeting) = &self.script.meeting {
            meeting.attend(method).await;
        }
        match self.script.failing.get(method) {
            Some(failure) => Err(failure.clone()),
            None => Ok(()),
        }
    }
}

impl Inner {
    async fn planned<T>(&self, method: &str, request: &Request<T>) -> Answer<PlanResponse> {
        self.called(method, "", request).await?;
        Ok(Response::new(self.script.any_plan.clone()))
    }
}

/// The plan of hash "old" is no longer the plan.
fn changed(plan_hash: &str) -> Result<(), Status> {
    if plan_hash != "old" {
        return Ok(());
    }
    Err(refusal(tonic::Code::Aborted, "PLAN_CHANGED", "the plan is another one now"))
}

/// A status as agents send it.
pub(crate) fn refusal(code: tonic::Code, reason: &str, message: &str) -> Status {
    let details = tonic_types::ErrorDetails::with_error_info(reason, "genesis", HashMap::new());
    <Status as tonic_types::StatusExt>::with_error_details(code, message, details)
}

fn streamed<T: Send + 'static>(items: Vec<Result<T, Status>>) -> Answer<Stream<T>> {
    Ok(Response::new(Box::pin(tokio_stream::iter(items))))
}

fn started() -> Option<StartedRun> {
    Some(StartedRun { run_id: "01J0000000000000000000000A".into(), attached: false })
}
