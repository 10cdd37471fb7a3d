//! What the fake agent knows of correlation matrices.

use std::sync::Mutex;

use genesis_client::v1::matrix_service_server::MatrixService;
use genesis_client::v1::*;
use tonic::{Request, Response, Status, Streaming};

use super::{Answer, Inner, Stream, refusal, started, streamed};

/// What it answers about matrices.
#[derive(Default)]
pub(crate) struct Matrices {
    /// Newest first.
    pub(crate) known: Vec<GetMatrixResponse>,
    pub(crate) active: u64,
    pub(crate) canary: u64,
    pub(crate) rollout: Option<Rollout>,
    /// One stream for each time that they are watched; the last one again and again.
    pub(crate) watches: Vec<Vec<Result<WatchMatrixResponse, Status>>>,
    pub(crate) watched: Mutex<usize>,
    pub(crate) of_fleet: GetFleetMatrixResponse,
    /// The sums of its days.
    pub(crate) blocks: Vec<ListSeriesBlocksResponse>,
}

impl Matrices {
    fn about(&self) -> impl Iterator<Item = &MatrixVersion> {
        self.known.iter().filter_map(|one| one.about.as_ref())
    }
}

#[tonic::async_trait]
impl MatrixService for Inner {
    async fn update_matrix(
        &self,
        request: Request<UpdateMatrixRequest>,
    ) -> Answer<UpdateMatrixResponse> {
        let UpdateMatrixRequest { carry, plan_hash } = request.get_ref();
        let carry = if *carry { "carry" } else { "" };
        self.change("UpdateMatrix", &[carry, plan_hash], &request).await?;
        let run_id = started().map(|run| run.run_id).unwrap_or_default();
        Ok(Response::new(UpdateMatrixResponse { run_id, attached: false }))
    }

    async fn plan_update_matrix(
        &self,
        request: Request<UpdateMatrixRequest>,
    ) -> Answer<PlanResponse> {
        self.planned("PlanUpdateMatrix", &request).await
    }

    async fn get_matrix(&self, request: Request<GetMatrixRequest>) -> Answer<GetMatrixResponse> {
        let GetMatrixRequest { version, consumer, .. } = request.get_ref();
        self.called("GetMatrix", format!("{version} {consumer}").trim(), &request).await?;
        let matrices = &self.script.matrices;
        let wanted = match (*version, consumer.as_str()) {
            (0, "") => matrices.active,
            (0, _) => matrices.canary,
            (version, _) => version,
        };
        let mut known = matrices.known.iter();
        let found = known.find(|one| one.about.as_ref().is_some_and(|one| one.version == wanted));
        let absent = || refusal(tonic::Code::NotFound, "MATRIX_NOT_FOUND", "no such matrix");
        found.cloned().map(Response::new).ok_or_else(absent)
    }

    type WatchMatrixStream = Stream<WatchMatrixResponse>;

    async fn watch_matrix(
        &self,
        request: Request<WatchMatrixRequest>,
    ) -> Answer<Self::WatchMatrixStream> {
        self.called("WatchMatrix", &request.get_ref().consumer, &request).await?;
        let matrices = &self.script.matrices;
        let stream = {
            let mut watched = matrices.watched.lock().unwrap();
            *watched += 1;
            *watched - 1
        };
        let last = matrices.watches.len().saturating_sub(1);
        streamed(matrices.watches.get(stream.min(last)).cloned().unwrap_or_default())
    }

    async fn get_fleet_matrix(
        &self,
        request: Request<GetFleetMatrixRequest>,
    ) -> Answer<GetFleetMatrixResponse> {
        self.called("GetFleetMatrix", "", &request).await?;
        Ok(Response::new(self.script.matrices.of_fleet.clone()))
    }

    async fn list_matrices(
        &self,
        request: Request<ListMatricesRequest>,
    ) -> Answer<ListMatricesResponse> {
        let limit = request.get_ref().limit;
        self.called("ListMatrices", &limit.to_string(), &request).await?;
        let matrices = &self.script.matrices;
        Ok(Response::new(ListMatricesResponse {
            versions: matrices.about().take(limit as usize).cloned().collect(),
            active: matrices.active,
            canary: matrices.canary,
            next_update_at: Some(prost_types::Timestamp { seconds: 86_400, nanos: 0 }),
            more: false,
        }))
    }

    async fn rollback_matrix(
        &self,
        request: Request<RollbackMatrixRequest>,
    ) -> Answer<RollbackMatrixResponse> {
        let RollbackMatrixRequest { to, plan_hash } = request.get_ref();
        let to = if *to == 0 { String::new() } else { to.to_string() };
        self.change("RollbackMatrix", &[&to, plan_hash], &request).await?;
        let active = MatrixVersion {
            version: to.parse().unwrap_or(6),
            state: MatrixState::Active.into(),
            series: 24,
            fewest_points: 8_211,
            ..Default::default()
        };
        Ok(Response::new(RollbackMatrixResponse { active: Some(active) }))
    }

    async fn plan_rollback_matrix(
        &self,
        request: Request<RollbackMatrixRequest>,
    ) -> Answer<PlanResponse> {
        self.planned("PlanRollbackMatrix", &request).await
    }

    async fn get_rollout(&self, request: Request<GetRolloutRequest>) -> Answer<GetRolloutResponse> {
        self.called("GetRollout", &request.get_ref().version.to_string(), &request).await?;
        Ok(Response::new(GetRolloutResponse { rollout: self.script.matrices.rollout.clone() }))
    }

    async fn advance_rollout(
        &self,
        request: Request<AdvanceRolloutRequest>,
    ) -> Answer<AdvanceRolloutResponse> {
        self.change("AdvanceRollout", &[&request.get_ref().plan_hash], &request).await?;
        let stage = RolloutStage { percent: 50, ..Default::default() };
        let rollout = Rollout { version: 8, control: 7, stages: vec![stage], ..Default::default() };
        Ok(Response::new(AdvanceRolloutResponse { rollout: Some(rollout) }))
    }

    async fn plan_advance_rollout(
        &self,
        request: Request<AdvanceRolloutRequest>,
    ) -> Answer<PlanResponse> {
        self.planned("PlanAdvanceRollout", &request).await
    }

    async fn abort_rollout(
        &self,
        request: Request<AbortRolloutRequest>,
    ) -> Answer<AbortRolloutResponse> {
        self.change("AbortRollout", &[&request.get_ref().plan_hash], &request).await?;
        let rollout = Rollout {
            version: 8,
            control: 7,
            ended_at: Some(prost_types::Timestamp { seconds: 90, nanos: 0 }),
            outcome: "rolled back".into(),
            reason: "as told".into(),
            ..Default::default()
        };
        Ok(Response::new(AbortRolloutResponse { rollout: Some(rollout) }))
    }

    async fn plan_abort_rollout(
        &self,
        request: Request<AbortRolloutRequest>,
    ) -> Answer<PlanResponse> {
        self.planned("PlanAbortRollout", &request).await
    }

    type ReportMatrixOutcomesStream = Stream<ReportMatrixOutcomesResponse>;

    async fn report_matrix_outcomes(
        &self,
        _: Request<Streaming<ReportMatrixOutcomesRequest>>,
    ) -> Answer<Self::ReportMatrixOutcomesStream> {
        Err(Status::unimplemented("nobody reports here"))
    }
}
