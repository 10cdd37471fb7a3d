//! The agent itself over gRPC.

use std::path::PathBuf;
use std::sync::Arc;

use genesis_proto::v1;
use genesis_proto::v1::agent_service_server::AgentService;
use genesis_storage::{RunState, SCHEMA_VERSION};
use jiff::{SignedDuration, Timestamp};
use tonic::{Request, Response, Status};

use super::caller::caller;
use super::convert::{planned, time};
use super::shared::Shared;
use super::status::to_status;
use super::tls::Tls;
use crate::alerts::{self, Alerts};
use crate::config::reader::Problem;
use crate::error::Result;
use crate::fleet::Fleet;
use crate::operations::backup::{self, Backup};
use crate::operations::baselines::{self, Baselines};
use crate::operations::breaker::{self, Breakers};
use crate::operations::certificates::{self, Certificates};
use crate::operations::config_history::ConfigHistory;
use crate::operations::database::{self, Databases};
use crate::operations::dependencies::{self, Dependencies};
use crate::operations::experiments::{self, Experiments};
use crate::operations::health::{self, Health};
use crate::operations::logs::{self, HostIdentity, Logs};
use crate::operations::matrices::{self, Matrices};
use crate::operations::recovery::{self, Recovery};
use crate::operations::vitals::Vitals;
use crate::outside::{Outside, files};
use crate::runs::Runs;
use crate::state::State;

/// This build's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The largest configuration text that is checked, in bytes.
const TEXT_LIMIT: usize = 1 << 20;

/// All that the agent's page is made of.
#[derive(Clone)]
pub struct AgentView {
    /// Who this is.
    pub host: HostIdentity,
    /// When the agent started.
    pub started_at: Timestamp,
    /// Time, and the host.
    pub outside: Outside,
    /// The embedded database.
    pub state: State,
    /// Runs.
    pub runs: Runs,
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
    /// What projects are built of.
    pub dependencies: Arc<Dependencies>,
    /// Databases.
    pub database: Arc<Databases>,
    /// Backups.
    pub backup: Arc<Backup>,
    /// The certificates.
    pub certificates: Arc<Certificates>,
    /// Emergency, rollback and incidents.
    pub recovery: Arc<Recovery>,
    /// Configuration.
    pub config: Arc<ConfigHistory>,
    /// The agent's footprint.
    pub vitals: Arc<Vitals>,
    /// The agent's own log.
    pub own_log: PathBuf,
    /// What secures gRPC over TCP; `None`: it is off.
    pub tls: Option<Arc<Tls>>,
    /// The fleet.
    pub fleet: Arc<Fleet>,
    /// What `genesis-agent pki` keeps, where it keeps it on this host.
    pub pki: PathBuf,
}

impl AgentView {
    /// The page.
    ///
    /// # Errors
    /// `STORAGE_FAILED`.
    pub fn status(&self) -> Result<v1::GetStatusResponse> {
        let now = self.outside.clock.now();
        let logs = logs::rpc::status_response(&self.logs)?;
        let segments: u64 = logs
            .sources
            .iter()
            .flat_map(|source| &source.segments)
            .map(|count| count.segments)
            .sum();
        let archived: u64 =
            logs.sources.iter().map(|source| source.archived_compressed_bytes).sum();
        let summary = format!(
            "{} source(s), {segments} segment(s), {archived} bytes archived",
            logs.sources.len()
        );
        let head = self.state.read(|reading| Ok(reading.oplog().head()?))?;
        let since = now.checked_sub(SignedDuration::from_hours(24)).unwrap_or(Timestamp::MIN);
        let bad = [RunState::Failed, RunState::Interrupted];
        let failed = self.state.read(|reading| Ok(reading.runs().count_ended(&bad, since)?))?;
        let mut domains = vec![v1::DomainStatus {
            domain: "logs".into(),
            condition: logs.condition,
            summary,
            findings: logs.sources.into_iter().flat_map(|source| source.findings).collect(),
        }];
        domains.push(health::rpc::domain_status(&self.health)?);
        domains.push(alerts::rpc::domain_status(&self.alerts));
        domains.extend(breaker::rpc::domain_status(&self.breaker));
        domains.extend(baselines::rpc::domain_status(&self.baselines));
        domains.extend(experiments::rpc::domain_status(&self.experiments));
        domains.extend(matrices::rpc::domain_status(&self.matrices));
        domains.extend(dependencies::rpc::domain_status(&self.dependencies)?);
        domains.extend(database::rpc::domain_status(&self.database));
        domains.extend(backup::rpc::domain_status(&self.backup)?);
        domains.extend(certificates::rpc::domain_status(&self.certificates)?);
        domains.extend(recovery::rpc::domain_status(&self.recovery));
        domains.extend(self.fleet.domain_status());
        domains.extend(self.tls_status(now));
        let worst = domains.iter().map(|domain| domain.condition).max().unwrap_or(0);
        Ok(v1::GetStatusResponse {
            host_id: self.host.id.clone(),
            hostname: self.host.name.clone(),
            version: VERSION.to_owned(),
            now: Some(time(now)),
            started_at: Some(time(self.started_at)),
            pid: std::process::id(),
            condition: worst,
            domains,
            storage: Some(v1::StorageStatus {
                path: self.state.store().path().display().to_string(),
                file_bytes: self.state.store().file_bytes(),
                schema_version: SCHEMA_VERSION,
                oplog_entries: head.sequence,
            }),
            resident_bytes: self.outside.host.resident_bytes(),
            resident_bytes_max: self.vitals.resident_max(),
            runs_active: u32::try_from(self.runs.active_count()).unwrap_or(u32::MAX),
            config_source: self.config.current().source.clone(),
            runs_failed: u32::try_from(failed).unwrap_or(u32::MAX),
            fleet: self.config.current().fleet.name.clone(),
            emergency: self.runs.emergency().active(),
        })
    }
}

impl AgentView {
    /// A domain of its own where gRPC over TLS is served: what secures it, and for how long.
    fn tls_status(&self, now: Timestamp) -> Option<v1::DomainStatus> {
        let tls = self.tls.as_ref()?;
        let (condition, found) = super::tls::rpc::findings(tls, now);
        Some(v1::DomainStatus {
            domain: "pki".into(),
            condition: condition.into(),
            summary: format!("gRPC over TLS at {}", tls.listen),
            findings: found.iter().map(super::convert::finding).collect(),
        })
    }
}

/// The service over the agent's page.
pub struct Service {
    view: AgentView,
    /// The page is made of every domain, and asked for by every dashboard.
    page: Shared<Result<v1::GetStatusResponse, Status>>,
}

impl Service {
    /// Over this view.
    pub fn new(view: AgentView) -> Self {
        Self { view, page: Shared::default() }
    }
}

fn problem(problem: Problem) -> v1::ConfigProblem {
    v1::ConfigProblem {
        line: problem.line,
        column: problem.column,
        key: problem.key,
        message: problem.message,
    }
}

#[tonic::async_trait]
impl AgentService for Service {
    async fn get_status(
        &self,
        _: Request<v1::GetStatusRequest>,
    ) -> Result<Response<v1::GetStatusResponse>, Status> {
        self.page.ask(|| self.view.status().map_err(to_status)).await.map(Response::new)
    }

    async fn get_version(
        &self,
        _: Request<v1::GetVersionRequest>,
    ) -> Result<Response<v1::GetVersionResponse>, Status> {
        Ok(Response::new(v1::GetVersionResponse {
            version: VERSION.to_owned(),
            schema_version: SCHEMA_VERSION,
            rustc: env!("CARGO_PKG_RUST_VERSION").to_owned(),
        }))
    }

    async fn who_am_i(
        &self,
        request: Request<v1::WhoAmIRequest>,
    ) -> Result<Response<v1::WhoAmIResponse>, Status> {
        let who = caller(&request)?;
        Ok(Response::new(v1::WhoAmIResponse {
            identity: who.identity,
            role: who.role.unwrap_or_default().into(),
            transport: who.transport.to_owned(),
            granted_by: who.granted_by,
        }))
    }

    async fn get_config(
        &self,
        _: Request<v1::GetConfigRequest>,
    ) -> Result<Response<v1::GetConfigResponse>, Status> {
        use sha2::Digest;

        let config = self.view.config.current();
        Ok(Response::new(v1::GetConfigResponse {
            source: config.source.clone(),
            effective_toml: config.effective.clone(),
            sha256: hex::encode(sha2::Sha256::digest(&config.text)),
            loaded_at: Some(time(self.view.config.loaded_at())),
            generation: self.view.config.generation().map_err(to_status)?,
        }))
    }

    async fn check_config(
        &self,
        request: Request<v1::CheckConfigRequest>,
    ) -> Result<Response<v1::CheckConfigResponse>, Status> {
        let text = request.into_inner().toml;
        if text.as_ref().is_some_and(|text| text.len() > TEXT_LIMIT) {
            let message = format!("the text has more than {TEXT_LIMIT} bytes");
            return Err(to_status(crate::error::Error::invalid("CONFIG_UNREADABLE", message)));
        }
        let (problems, restart_needed) =
            self.view.config.check(text.as_deref()).map_err(to_status)?;
        Ok(Response::new(v1::CheckConfigResponse {
            valid: problems.is_empty(),
            problems: problems.into_iter().map(problem).collect(),
            restart_needed,
        }))
    }

    async fn reload_config(
        &self,
        request: Request<v1::ReloadConfigRequest>,
    ) -> Result<Response<v1::ReloadConfigResponse>, Status> {
        let who = caller(&request)?;
        let reloaded = self
            .view
            .config
            .reload(&who.identity, &who.reason, &request.get_ref().plan_hash)
            .await
            .map_err(to_status)?;
        Ok(Response::new(v1::ReloadConfigResponse {
            changed: reloaded.changed,
            applied: reloaded.applied,
            restart_needed: reloaded.restart_needed,
            generation: reloaded.generation,
        }))
    }

    async fn plan_reload_config(
        &self,
        _: Request<v1::ReloadConfigRequest>,
    ) -> Result<Response<v1::PlanResponse>, Status> {
        planned(self.view.config.plan_reload())
    }

    async fn get_pki(
        &self,
        _: Request<v1::GetPkiRequest>,
    ) -> Result<Response<v1::GetPkiResponse>, Status> {
        Ok(Response::new(super::tls::rpc::pki_response(&self.view)))
    }

    async fn read_own_log(
        &self,
        request: Request<v1::ReadOwnLogRequest>,
    ) -> Result<Response<v1::ReadOwnLogResponse>, Status> {
        let limit = match request.get_ref().limit_bytes {
            0 => 65_536,
            limit @ 1..=1_048_576 => limit,
            _ => {
                let message = "limit_bytes must be 1 to 1048576";
                return Err(to_status(crate::error::Error::invalid("LIMIT_INVALID", message)));
            }
        };
        let path = self.view.own_log.clone();
        let lines = tokio::task::spawn_blocking(move || files::last_lines(&path, limit.into()))
            .await
            .unwrap_or_else(|error| Err(std::io::Error::other(error)))
            .map_err(|error| {
                let message = format!("can't read {}", self.view.own_log.display());
                to_status(
                    crate::error::Error::unavailable("OWN_LOG_UNREADABLE", message)
                        .caused_by(error),
                )
            })?;
        Ok(Response::new(v1::ReadOwnLogResponse { lines }))
    }
}
