//! HTTP on loopback, GET only: metrics for Prometheus and each domain's status as JSON.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State as Shared};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use genesis_proto::v1::ListJobsRequest;
use http::{StatusCode, header};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use crate::error::{Error, Result};
use crate::operations::logs::{self, Logs};
use crate::operations::recovery;
use crate::outside::Host;
use crate::server::agent_rpc::AgentView;
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

/// The routes.
pub fn router(pages: Pages) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/metrics", get(metrics))
        .route("/api/operations/{domain}/status", get(status))
        .with_state(Arc::new(pages))
}

async fn index() -> &'static str {
    "GENESIS agent\n\n/metrics\n/api/operations/agent/status\n/api/operations/logs/status\n\
     /api/operations/schedule/status\n/api/operations/oplog/status\n\
     /api/operations/recovery/status\n"
}

async fn metrics(Shared(pages): Shared<Arc<Pages>>) -> Response {
    let held = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    pages.gauges.resident.set(held(pages.host.resident_bytes()));
    pages.gauges.runs.set(held(pages.agent.runs.active_count() as u64));
    pages.gauges.file.set(held(pages.state.store().file_bytes()));
    pages.gauges.emergency.set(pages.agent.runs.emergency().active().into());
    if let Ok(head) = pages.state.read(|reading| Ok(reading.oplog().head()?)) {
        pages.gauges.oplog.set(held(head.sequence));
    }
    // Sets the gauges of the sources as a side effect; after an error they keep their last values.
    let _ = pages.logs.status();
    let mut text = String::new();
    match encode(&mut text, &pages.registry) {
        Ok(()) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn status(Shared(pages): Shared<Arc<Pages>>, Path(domain): Path<String>) -> Response {
    match json(&pages, &domain) {
        Ok(Some(value)) => {
            ([(header::CONTENT_TYPE, "application/json")], format!("{value}\n")).into_response()
        }
        Ok(None) => {
            let message = format!(
                "no domain {domain:?}; there are: agent, logs, schedule, oplog, recovery\n"
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
        "schedule" => genesis_proto::to_json(
            "genesis.v1.ListJobsResponse",
            &scheduler::rpc::list_response(&pages.scheduler, &ListJobsRequest::default())?,
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
