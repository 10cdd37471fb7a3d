//! What the fake agent knows of databases.

use genesis_client::v1::database_service_server::DatabaseService;
use genesis_client::v1::*;
use tonic::{Request, Response};

use super::{Answer, Inner, started};

/// What it answers about databases.
#[derive(Default)]
pub(crate) struct Databases {
    pub(crate) databases: Vec<Database>,
    pub(crate) preflight: CheckPreflightResponse,
    /// When optimization is due, if not now.
    pub(crate) due_at: Option<prost_types::Timestamp>,
    pub(crate) health: GetDatabaseHealthResponse,
    pub(crate) indexes: AnalyzeIndexesResponse,
    pub(crate) blockers: ListBlockersResponse,
    /// Others wait all the same.
    pub(crate) still_blocked: bool,
    pub(crate) verified: VerifyDatabaseResponse,
    pub(crate) care: Vec<Care>,
}

impl Inner {
    fn optimized(&self, database: &str) -> Answer<OptimizeDatabaseResponse> {
        let due_at = self.script.databases.due_at;
        let run = if due_at.is_some() { None } else { started() };
        Ok(Response::new(OptimizeDatabaseResponse {
            run_id: run.map(|run| run.run_id).unwrap_or_default(),
            database: database.to_owned(),
            not_due: due_at.is_some(),
            next_at: due_at,
        }))
    }
}

#[tonic::async_trait]
impl DatabaseService for Inner {
    async fn list_databases(
        &self,
        request: Request<ListDatabasesRequest>,
    ) -> Answer<ListDatabasesResponse> {
        self.called("ListDatabases", "", &request).await?;
        let databases = self.script.databases.databases.clone();
        Ok(Response::new(ListDatabasesResponse { databases }))
    }

    async fn check_preflight(
        &self,
        request: Request<CheckPreflightRequest>,
    ) -> Answer<CheckPreflightResponse> {
        self.called("CheckPreflight", &request.get_ref().database, &request).await?;
        Ok(Response::new(self.script.databases.preflight.clone()))
    }

    async fn optimize_database(
        &self,
        request: Request<OptimizeDatabaseRequest>,
    ) -> Answer<OptimizeDatabaseResponse> {
        let OptimizeDatabaseRequest { database, force, plan_hash } = request.get_ref();
        let force = if *force { "force" } else { "" };
        self.change("OptimizeDatabase", &[database, force, plan_hash], &request).await?;
        self.optimized(database)
    }

    async fn plan_optimize_database(
        &self,
        request: Request<OptimizeDatabaseRequest>,
    ) -> Answer<PlanResponse> {
        self.planned("PlanOptimizeDatabase", &request).await
    }

    async fn optimize_database_despite(
        &self,
        request: Request<OptimizeDatabaseDespiteRequest>,
    ) -> Answer<OptimizeDatabaseResponse> {
        let asked = request.get_ref();
        let force = if asked.force { "force" } else { "" };
        let overrides = asked.overrides.join("+");
        let parts = [&asked.database, force, &overrides, &asked.plan_hash];
        self.change("OptimizeDatabaseDespite", &parts, &request).await?;
        self.optimized(&asked.database)
    }

    async fn plan_optimize_database_despite(
        &self,
        request: Request<OptimizeDatabaseDespiteRequest>,
    ) -> Answer<PlanResponse> {
        self.planned("PlanOptimizeDatabaseDespite", &request).await
    }

    async fn get_database_health(
        &self,
        request: Request<GetDatabaseHealthRequest>,
    ) -> Answer<GetDatabaseHealthResponse> {
        self.called("GetDatabaseHealth", &request.get_ref().database, &request).await?;
        Ok(Response::new(self.script.databases.health.clone()))
    }

    async fn analyze_indexes(
        &self,
        request: Request<AnalyzeIndexesRequest>,
    ) -> Answer<AnalyzeIndexesResponse> {
        self.called("AnalyzeIndexes", &request.get_ref().database, &request).await?;
        Ok(Response::new(self.script.databases.indexes.clone()))
    }

    async fn list_blockers(
        &self,
        request: Request<ListBlockersRequest>,
    ) -> Answer<ListBlockersResponse> {
        self.called("ListBlockers", &request.get_ref().database, &request).await?;
        Ok(Response::new(self.script.databases.blockers.clone()))
    }

    async fn kill_session(
        &self,
        request: Request<KillSessionRequest>,
    ) -> Answer<KillSessionResponse> {
        let KillSessionRequest { database, pid, plan_hash } = request.get_ref();
        self.change("KillSession", &[&pid.to_string(), database, plan_hash], &request).await?;
        Ok(Response::new(KillSessionResponse {
            database: "orders".into(),
            pid: *pid,
            by: "terminated".into(),
            cleared: !self.script.databases.still_blocked,
        }))
    }

    async fn plan_kill_session(
        &self,
        request: Request<KillSessionRequest>,
    ) -> Answer<PlanResponse> {
        self.planned("PlanKillSession", &request).await
    }

    async fn verify_database(
        &self,
        request: Request<VerifyDatabaseRequest>,
    ) -> Answer<VerifyDatabaseResponse> {
        self.called("VerifyDatabase", &request.get_ref().database, &request).await?;
        Ok(Response::new(self.script.databases.verified.clone()))
    }

    async fn list_care(&self, request: Request<ListCareRequest>) -> Answer<ListCareResponse> {
        let ListCareRequest { database, limit } = request.get_ref();
        self.called("ListCare", format!("{database} {limit}").trim(), &request).await?;
        Ok(Response::new(ListCareResponse { care: self.script.databases.care.clone() }))
    }
}
