//! Parse, call, convert: databases over gRPC.

use std::sync::Arc;
use std::time::Duration;

use genesis_proto::v1;
use genesis_proto::v1::database_service_server::DatabaseService;
use genesis_storage::{CareOutcome, CareRecord};
use jiff::Timestamp;
use tonic::{Request, Response, Status};

use super::Databases;
use super::begin::{Begun, Due, Wish, key};
use super::blockers::{Shown, Who};
use super::config::Instance;
use super::indexes::Advice;
use super::kill::Sessions;
use super::record::{Benchmark, Found, Item, Measured, Report, StepOutcome, StepReport, Truth};
use crate::error::Error;
use crate::outside::database::Engine;
use crate::outside::database::sessions::Way;
use crate::plan::limited;
use crate::server::caller::caller;
use crate::server::convert::{duration, maybe, planned, time};
use crate::server::status::to_status;

/// The service over databases.
#[derive(Clone)]
pub struct Service {
    /// Care, and what is known in between.
    pub databases: Arc<Databases>,
    /// Who waits for whom.
    pub sessions: Arc<Sessions>,
}

fn truth(truth: Truth) -> v1::Truth {
    match truth {
        Truth::Pass => v1::Truth::Pass,
        Truth::Fail => v1::Truth::Fail,
        Truth::Unknown => v1::Truth::Unknown,
    }
}

fn item(item: &Item) -> v1::DatabaseItem {
    v1::DatabaseItem {
        name: item.name.clone(),
        truth: truth(item.truth).into(),
        value: item.value.clone(),
        limit: item.limit.clone(),
        evidence: item.evidence.clone(),
        overridden: item.overridden,
        took: Some(duration(Duration::from_micros(item.took_us))),
    }
}

fn items(list: &[Item]) -> Vec<v1::DatabaseItem> {
    list.iter().map(item).collect()
}

fn engine(instance: &Instance) -> v1::Engine {
    match instance.target.engine {
        Engine::Postgres(_) => v1::Engine::Postgres,
        Engine::Sqlite(_) => v1::Engine::Sqlite,
    }
}

fn step(step: &StepReport) -> v1::CareStep {
    let outcome = match step.outcome {
        StepOutcome::Done => "done",
        StepOutcome::Failed => "failed",
        StepOutcome::Deferred => "deferred",
    };
    v1::CareStep {
        action: step.action.clone(),
        target: step.target.clone(),
        outcome: outcome.to_owned(),
        bytes_before: step.bytes_before,
        bytes_after: step.bytes_after,
        took: Some(duration(Duration::from_millis(step.took_ms))),
        detail: step.detail.clone(),
    }
}

fn benchmark(benchmark: &Benchmark) -> v1::BenchmarkResult {
    let span = |measured: &Option<Measured>, pick: fn(&Measured) -> u64| {
        measured.as_ref().map(|it| duration(Duration::from_micros(pick(it))))
    };
    v1::BenchmarkResult {
        name: benchmark.name.clone(),
        p50_before: span(&benchmark.before, |it| it.p50_us),
        p95_before: span(&benchmark.before, |it| it.p95_us),
        p50: span(&benchmark.after, |it| it.p50_us),
        p95: span(&benchmark.after, |it| it.p95_us),
        budget: Some(duration(Duration::from_micros(benchmark.budget_us))),
        plan_change: benchmark.plan_change.clone(),
        truth: truth(benchmark.truth).into(),
    }
}

fn finding(found: &Found) -> v1::Finding {
    v1::Finding {
        code: found.code.clone(),
        subject: found.subject.clone(),
        message: found.message.clone(),
    }
}

fn care((record, report): (CareRecord, Report)) -> v1::Care {
    let outcome = match record.outcome {
        CareOutcome::Running => v1::CareOutcome::Running,
        CareOutcome::Done => v1::CareOutcome::Done,
        CareOutcome::Degraded => v1::CareOutcome::Degraded,
        CareOutcome::Blocked => v1::CareOutcome::Blocked,
        CareOutcome::Failed => v1::CareOutcome::Failed,
        CareOutcome::Interrupted => v1::CareOutcome::Interrupted,
    };
    v1::Care {
        // One that was blocked had no run.
        run_id: if outcome == v1::CareOutcome::Blocked { String::new() } else { record.id },
        database: record.database,
        outcome: outcome.into(),
        actor: record.actor,
        started_at: Some(time(record.started_at)),
        ended_at: maybe(record.ended_at),
        preflight: items(&report.preflight),
        bytes_freed: report.freed(),
        steps: report.steps.iter().map(step).collect(),
        benchmarks: report.benchmarks.iter().map(benchmark).collect(),
        verification: items(&report.verification),
        findings: report.findings.iter().chain(&report.notes).map(finding).collect(),
    }
}

fn advice(advice: Advice) -> v1::IndexAdvice {
    v1::IndexAdvice {
        kind: advice.kind.to_owned(),
        index: advice.index,
        table: advice.table,
        bytes: advice.bytes,
        saves_bytes: advice.saves,
        evidence: advice.evidence,
        sql: advice.sql,
        caution: advice.caution,
    }
}

/// The databases, as ListDatabases and HTTP answer them.
///
/// # Errors
/// `STORAGE_FAILED`.
pub fn list_response(databases: &Databases) -> Result<v1::ListDatabasesResponse, Error> {
    let mut list = Vec::new();
    for instance in &databases.config().instances {
        let name = &instance.target.name;
        let now = databases.outside.clock.now();
        let next = match databases.due(instance)? {
            Due::Now(_) => Some(now),
            Due::Later(next) => next,
        };
        list.push(v1::Database {
            name: name.clone(),
            engine: engine(instance).into(),
            place: instance.target.engine.to_string(),
            schedule: instance.schedule.as_ref().map_or("never".to_owned(), ToString::to_string),
            next_at: maybe(next),
            window: Some(duration(instance.window)),
            last: databases.history(Some(name), 1)?.pop().map(care),
            run_id: databases.runs.active_with_key(&key(name)).unwrap_or_default(),
        });
    }
    Ok(v1::ListDatabasesResponse { databases: list })
}

/// How the databases stand in `status`; `None` where there are none.
pub fn domain_status(databases: &Databases) -> Option<v1::DomainStatus> {
    let config = databases.config();
    if config.instances.is_empty() {
        return None;
    }
    let mut findings = Vec::new();
    for instance in &config.instances {
        let name = &instance.target.name;
        let Some((record, report)) =
            databases.history(Some(name), 1).ok().and_then(|mut list| list.pop())
        else {
            continue;
        };
        if matches!(record.outcome, CareOutcome::Done | CareOutcome::Running) {
            continue;
        }
        findings.push(v1::Finding {
            code: "CARE_DEGRADED".to_owned(),
            subject: name.clone(),
            message: format!(
                "its last care, {}, ended {:?}: {}; `genesisctl db history --database {name} -v`",
                record.started_at,
                record.outcome,
                super::begin::summary(&report)
            ),
        });
    }
    let condition = if findings.is_empty() { v1::Condition::Ok } else { v1::Condition::Warn };
    Some(v1::DomainStatus {
        domain: "database".into(),
        condition: condition.into(),
        summary: format!("{} database(s)", config.instances.len()),
        findings,
    })
}

fn blocking(shown: &Shown) -> v1::BlockingSession {
    let common = v1::BlockingSession {
        waits_for: shown.waits_for.clone(),
        waiting: Some(duration(shown.waiting)),
        holds_up: u32::try_from(shown.holds_up).unwrap_or(u32::MAX),
        protected_by: shown.protected.clone().unwrap_or_default(),
        ..v1::BlockingSession::default()
    };
    match &shown.who {
        Who::Session(backend) => v1::BlockingSession {
            pid: backend.pid,
            backend_start: maybe(backend.backend_start),
            xact_start: maybe(backend.xact_start),
            user: backend.user.clone(),
            application: backend.application.clone(),
            client: backend.client.clone(),
            state: backend.state.clone(),
            query: backend.query.clone(),
            ..common
        },
        Who::Prepared(prepared) => v1::BlockingSession {
            user: prepared.owner.clone(),
            xact_start: Some(time(prepared.since)),
            state: "prepared".to_owned(),
            prepared: prepared.name.clone(),
            ..common
        },
    }
}

impl Service {
    async fn optimize(
        &self,
        database: &str,
        wish: Wish,
    ) -> Result<v1::OptimizeDatabaseResponse, Error> {
        let instance = self.databases.instance(database)?;
        let database = instance.target.name.clone();
        let (run_id, not_due, next_at): (_, _, Option<Timestamp>) =
            match self.databases.optimize(instance, wish).await? {
                Begun::Run(started) => (started.id, false, None),
                Begun::NotDue(next) => (String::new(), true, next),
            };
        Ok(v1::OptimizeDatabaseResponse { run_id, database, not_due, next_at: maybe(next_at) })
    }
}

#[tonic::async_trait]
impl DatabaseService for Service {
    async fn list_databases(
        &self,
        _: Request<v1::ListDatabasesRequest>,
    ) -> Result<Response<v1::ListDatabasesResponse>, Status> {
        Ok(Response::new(list_response(&self.databases).map_err(to_status)?))
    }

    async fn check_preflight(
        &self,
        request: Request<v1::CheckPreflightRequest>,
    ) -> Result<Response<v1::CheckPreflightResponse>, Status> {
        let instance = self.databases.instance(&request.get_ref().database).map_err(to_status)?;
        let (list, took) = self.databases.check(&instance).await.map_err(to_status)?;
        Ok(Response::new(v1::CheckPreflightResponse {
            database: instance.target.name,
            clear: list.iter().all(Item::clear),
            items: items(&list),
            took: Some(duration(took)),
        }))
    }

    async fn optimize_database(
        &self,
        request: Request<v1::OptimizeDatabaseRequest>,
    ) -> Result<Response<v1::OptimizeDatabaseResponse>, Status> {
        let who = caller(&request)?;
        let v1::OptimizeDatabaseRequest { database, force, plan_hash } = request.into_inner();
        let wish =
            Wish { force, plan_hash, actor: who.identity, reason: who.reason, ..Wish::default() };
        self.optimize(&database, wish).await.map(Response::new).map_err(to_status)
    }

    async fn plan_optimize_database(
        &self,
        request: Request<v1::OptimizeDatabaseRequest>,
    ) -> Result<Response<v1::PlanResponse>, Status> {
        let v1::OptimizeDatabaseRequest { database, force, .. } = request.into_inner();
        let instance = self.databases.instance(&database).map_err(to_status)?;
        planned(self.databases.plan_optimize(&instance, &Wish { force, ..Wish::default() }).await)
    }

    async fn optimize_database_despite(
        &self,
        request: Request<v1::OptimizeDatabaseDespiteRequest>,
    ) -> Result<Response<v1::OptimizeDatabaseResponse>, Status> {
        let who = caller(&request)?;
        let request = request.into_inner();
        let wish = Wish {
            force: request.force,
            overrides: request.overrides,
            despite: true,
            plan_hash: request.plan_hash,
            actor: who.identity,
            reason: who.reason,
        };
        self.optimize(&request.database, wish).await.map(Response::new).map_err(to_status)
    }

    async fn plan_optimize_database_despite(
        &self,
        request: Request<v1::OptimizeDatabaseDespiteRequest>,
    ) -> Result<Response<v1::PlanResponse>, Status> {
        let request = request.into_inner();
        let instance = self.databases.instance(&request.database).map_err(to_status)?;
        let wish = Wish {
            force: request.force,
            overrides: request.overrides,
            despite: true,
            ..Wish::default()
        };
        planned(self.databases.plan_optimize(&instance, &wish).await)
    }

    async fn get_database_health(
        &self,
        request: Request<v1::GetDatabaseHealthRequest>,
    ) -> Result<Response<v1::GetDatabaseHealthResponse>, Status> {
        let instance = self.databases.instance(&request.get_ref().database).map_err(to_status)?;
        let health = self.databases.health(&instance).await.map_err(to_status)?;
        let millis = |ms: f64| Some(duration(Duration::from_secs_f64((ms / 1_000.0).max(0.0))));
        let slow = health.slow.into_iter().map(|it| v1::SlowStatement {
            calls: it.calls.unsigned_abs(),
            total: millis(it.total_ms),
            mean: millis(it.total_ms / (it.calls.max(1) as f64)),
            text: it.text,
        });
        Ok(Response::new(v1::GetDatabaseHealthResponse {
            database: instance.target.name.clone(),
            engine: engine(&instance).into(),
            version: health.version,
            bytes: health.bytes,
            items: items(&health.items),
            slow: slow.collect(),
            took: Some(duration(health.took)),
        }))
    }

    async fn analyze_indexes(
        &self,
        request: Request<v1::AnalyzeIndexesRequest>,
    ) -> Result<Response<v1::AnalyzeIndexesResponse>, Status> {
        let instance = self.databases.instance(&request.get_ref().database).map_err(to_status)?;
        let (list, count, since) = self.databases.advice(&instance).await.map_err(to_status)?;
        Ok(Response::new(v1::AnalyzeIndexesResponse {
            database: instance.target.name,
            advice: list.into_iter().map(advice).collect(),
            indexes: u32::try_from(count).unwrap_or(u32::MAX),
            counted_since: maybe(since),
        }))
    }

    async fn list_blockers(
        &self,
        request: Request<v1::ListBlockersRequest>,
    ) -> Result<Response<v1::ListBlockersResponse>, Status> {
        let instance = self.databases.instance(&request.get_ref().database).map_err(to_status)?;
        let view = self.sessions.list(&instance).await.map_err(to_status)?;
        Ok(Response::new(v1::ListBlockersResponse {
            sessions: view.sessions.iter().map(blocking).collect(),
            deadlocks: view.deadlocks,
            database: view.database,
        }))
    }

    async fn kill_session(
        &self,
        request: Request<v1::KillSessionRequest>,
    ) -> Result<Response<v1::KillSessionResponse>, Status> {
        let who = caller(&request)?;
        let v1::KillSessionRequest { database, pid, plan_hash } = request.get_ref();
        let instance = self.databases.instance(database).map_err(to_status)?;
        let told = (who.identity.as_str(), who.reason.as_str());
        let killed = self.sessions.kill(&instance, *pid, plan_hash, told).await;
        let killed = killed.map_err(to_status)?;
        let by = match killed.by {
            Way::Cancel => "cancelled",
            Way::Terminate => "terminated",
        };
        Ok(Response::new(v1::KillSessionResponse {
            database: instance.target.name,
            pid: *pid,
            by: by.to_owned(),
            cleared: killed.cleared,
        }))
    }

    async fn plan_kill_session(
        &self,
        request: Request<v1::KillSessionRequest>,
    ) -> Result<Response<v1::PlanResponse>, Status> {
        let v1::KillSessionRequest { database, pid, .. } = request.get_ref();
        let instance = self.databases.instance(database).map_err(to_status)?;
        planned(self.sessions.plan_kill(&instance, *pid).await)
    }

    async fn verify_database(
        &self,
        request: Request<v1::VerifyDatabaseRequest>,
    ) -> Result<Response<v1::VerifyDatabaseResponse>, Status> {
        let instance = self.databases.instance(&request.get_ref().database).map_err(to_status)?;
        let since = self.databases.outside.clock.monotonic();
        let (list, benchmarks) = self.databases.verify(&instance).await.map_err(to_status)?;
        let took = self.databases.outside.clock.monotonic().saturating_sub(since);
        Ok(Response::new(v1::VerifyDatabaseResponse {
            database: instance.target.name,
            clear: list.iter().all(Item::clear),
            items: items(&list),
            benchmarks: benchmarks.iter().map(benchmark).collect(),
            took: Some(duration(took)),
        }))
    }

    async fn list_care(
        &self,
        request: Request<v1::ListCareRequest>,
    ) -> Result<Response<v1::ListCareResponse>, Status> {
        let v1::ListCareRequest { database, limit: most } = request.into_inner();
        let most = limited(most, 20, 1_000).map_err(to_status)?;
        let name = match database.as_str() {
            "" => None,
            name => Some(self.databases.instance(name).map_err(to_status)?.target.name),
        };
        let history = self.databases.history(name.as_deref(), most).map_err(to_status)?;
        let care = history.into_iter().map(care).collect();
        Ok(Response::new(v1::ListCareResponse { care }))
    }
}
