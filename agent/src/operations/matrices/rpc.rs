//! Parse, call, convert: matrices over gRPC.

mod convert;
mod fleet;
mod series;

use std::sync::Arc;

use genesis_proto::v1;
use genesis_proto::v1::matrix_service_server::MatrixService;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

pub use self::series::Series;
use super::prepare::Batch;
use super::verbs::check_consumer;
use super::{Matrices, plan};
use crate::error::{Error, Result};
use crate::server::batches;
use crate::server::caller::caller;
use crate::server::convert::{maybe, planned};
use crate::server::status::to_status;
use crate::server::telling::{Telling, fitting, tell};

/// The service over the matrices.
pub struct Service(pub Arc<Matrices>);

/// A batch of values, as it is taken in.
pub(crate) fn values(request: v1::PushSeriesRequest) -> Batch {
    <series::Values as batches::Taker>::batch(request)
}

/// A batch of outcomes, as it is taken in.
pub(crate) fn outcomes(request: v1::ReportMatrixOutcomesRequest) -> Batch {
    <series::Outcomes as batches::Taker>::batch(request)
}

/// The answer of ListMatrices, also for HTTP.
///
/// # Errors
/// `LIMIT_INVALID`.
pub fn list_response(matrices: &Matrices, limit: u32) -> Result<v1::ListMatricesResponse> {
    let records = matrices.history(limit)?;
    let versions = matrices.versions();
    let of = |state| plan::in_state(&versions, state).map_or(0, |it| it.version);
    let (listed, more) = fitting(records.iter().map(|it| convert::version(it)));
    Ok(v1::ListMatricesResponse {
        versions: listed,
        active: of(plan::ACTIVE),
        canary: of(plan::CANARY),
        next_update_at: maybe(matrices.next_update()),
        more: more || versions.len() > records.len(),
    })
}

/// The matrices in a line, for the agent's page; `None` where nobody has any.
pub fn domain_status(matrices: &Matrices) -> Option<v1::DomainStatus> {
    let versions = matrices.versions();
    let unavailable = matrices.store().err();
    let trouble = matrices.trouble();
    if versions.is_empty() && unavailable.is_none() && trouble.is_none() {
        return None;
    }
    let finding = |code: &str, subject: String, message: String| v1::Finding {
        code: code.to_owned(),
        subject,
        message,
    };
    let (mut findings, mut condition) = (Vec::new(), v1::Condition::Ok);
    if let Some(last) = versions.values().next_back().filter(|it| it.state == plan::REJECTED) {
        condition = v1::Condition::Warn;
        let version = last.version;
        let message = format!("rejected; `genesisctl matrix show --version {version}` says why");
        findings.push(finding("MATRIX_REJECTED", format!("version {version}"), message));
    }
    if let Some(error) = unavailable {
        condition = v1::Condition::Critical;
        findings.push(finding(error.code, "series".to_owned(), error.message));
    }
    if let Some((since, why)) = trouble {
        condition = v1::Condition::Critical;
        findings.push(finding(
            "SERIES_FAILING",
            "series".to_owned(),
            format!("since {since}: {why}"),
        ));
    }
    if let Some(standing) = of_canary(matrices, &versions) {
        condition = condition.max(v1::Condition::Warn);
        findings.push(finding("ROLLOUT_STANDS", standing.subject, standing.title));
    }
    for (version, why) in matrices.live().unreadable.clone() {
        condition = v1::Condition::Critical;
        findings.push(finding("STORAGE_RECORD_UNREADABLE", format!("version {version}"), why));
    }
    for told in matrices.sharing_told() {
        condition = condition.max(v1::Condition::Warn);
        findings.push(finding("FLEET_MATRIX_STANDS", told.subject, told.title));
    }
    let of = |state| plan::in_state(&versions, state);
    let active = of(plan::ACTIVE).map_or_else(
        || "none is active".to_owned(),
        |it| format!("version {} is active", it.version),
    );
    let canary = of(plan::CANARY).map(|it| {
        let percent = it.stages.last().map_or(0, |stage| stage.percent);
        format!(", version {} is used by {percent} % of the consumers", it.version)
    });
    Some(v1::DomainStatus {
        domain: "matrices".to_owned(),
        condition: condition.into(),
        summary: format!("{active}{}", canary.unwrap_or_default()),
        findings,
    })
}

/// That a rollout is held, or stands for long.
fn of_canary(matrices: &Matrices, versions: &plan::Versions) -> Option<crate::events::Condition> {
    plan::in_state(versions, plan::CANARY).and_then(|canary| matrices.standing(canary))
}

/// Tells the matrix of a consumer, and again whenever it is another one.
async fn watch(
    matrices: Arc<Matrices>,
    consumer: String,
    sender: mpsc::Sender<Result<v1::WatchMatrixResponse, Status>>,
) {
    let mut revisions = matrices.revisions();
    let mut told: Option<(u64, bool)> = None;
    loop {
        revisions.mark_unchanged();
        let (served, canary) = {
            let serving = matrices.serving();
            let (served, canary) = serving.of(&consumer);
            (served.cloned(), canary)
        };
        let unreadable = matrices.live().unreadable.first().cloned();
        if let Some((version, why)) = unreadable.filter(|_| served.is_none()) {
            // Who has one keeps it: that there is none would be another thing.
            let message = format!("version {version} can't be read: {why}");
            let error = Error::unavailable("STORAGE_RECORD_UNREADABLE", message);
            let _ = sender.send(Err(to_status(error))).await;
            return;
        }
        let now = (served.as_ref().map_or(0, |it| it.version), canary);
        if told != Some(now) {
            told = Some(now);
            let matrix = served.as_deref().map(convert::matrix);
            if !tell(&sender, v1::WatchMatrixResponse { matrix, canary }).await {
                return;
            }
        }
        tokio::select! {
            changed = revisions.changed() => if changed.is_err() { return },
            () = sender.closed() => return,
        }
    }
}

impl Service {
    fn rollout(&self, version: u64) -> Result<Option<v1::Rollout>, Status> {
        let record = self.0.rollout_of(version).map_err(to_status)?;
        Ok(record.map(|it| convert::rollout(&self.0, &it)))
    }
}

#[tonic::async_trait]
impl MatrixService for Service {
    type WatchMatrixStream = Telling<v1::WatchMatrixResponse>;
    type ReportMatrixOutcomesStream = Telling<v1::ReportMatrixOutcomesResponse>;

    async fn update_matrix(
        &self,
        request: Request<v1::UpdateMatrixRequest>,
    ) -> Result<Response<v1::UpdateMatrixResponse>, Status> {
        let who = caller(&request)?;
        let v1::UpdateMatrixRequest { carry, plan_hash } = request.into_inner();
        let started = self.0.update(carry, &plan_hash, (who.identity, who.reason)).await;
        let started = started.map_err(to_status)?;
        Ok(Response::new(v1::UpdateMatrixResponse {
            run_id: started.id,
            attached: started.attached,
        }))
    }

    async fn plan_update_matrix(
        &self,
        request: Request<v1::UpdateMatrixRequest>,
    ) -> Result<Response<v1::PlanResponse>, Status> {
        planned(self.0.plan_update(request.into_inner().carry).await)
    }

    async fn get_matrix(
        &self,
        request: Request<v1::GetMatrixRequest>,
    ) -> Result<Response<v1::GetMatrixResponse>, Status> {
        let v1::GetMatrixRequest { version, consumer, without_values } = request.into_inner();
        let number = match version {
            0 => self.0.of_consumer(&consumer).map_err(to_status)?.version,
            version => version,
        };
        let about = self.0.version(number).map_err(to_status)?;
        let matrix = match without_values {
            true => None,
            // One that was rejected, or is long gone, has none, and there is more to be known of it.
            false if version > 0 && !about.kept => None,
            false => Some(convert::matrix(&*self.0.values_of(&about).map_err(to_status)?)),
        };
        let about = Some(convert::version(&about));
        Ok(Response::new(v1::GetMatrixResponse { matrix, about }))
    }

    async fn watch_matrix(
        &self,
        request: Request<v1::WatchMatrixRequest>,
    ) -> Result<Response<Self::WatchMatrixStream>, Status> {
        let consumer = request.into_inner().consumer;
        check_consumer(&consumer).map_err(to_status)?;
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(watch(Arc::clone(&self.0), consumer, sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn get_fleet_matrix(
        &self,
        _: Request<v1::GetFleetMatrixRequest>,
    ) -> Result<Response<v1::GetFleetMatrixResponse>, Status> {
        let of_fleet = self.0.of_fleet().await.map_err(to_status)?;
        Ok(Response::new(fleet::response(self.0.config().sharing, &of_fleet)))
    }

    async fn list_matrices(
        &self,
        request: Request<v1::ListMatricesRequest>,
    ) -> Result<Response<v1::ListMatricesResponse>, Status> {
        let listed = list_response(&self.0, request.into_inner().limit);
        listed.map(Response::new).map_err(to_status)
    }

    async fn rollback_matrix(
        &self,
        request: Request<v1::RollbackMatrixRequest>,
    ) -> Result<Response<v1::RollbackMatrixResponse>, Status> {
        let who = caller(&request)?;
        let v1::RollbackMatrixRequest { to, plan_hash } = request.into_inner();
        let by = (who.identity.as_str(), who.reason.as_str());
        let active = self.0.rollback(to, &plan_hash, by).await.map_err(to_status)?;
        let active = Some(convert::version(&active));
        Ok(Response::new(v1::RollbackMatrixResponse { active }))
    }

    async fn plan_rollback_matrix(
        &self,
        request: Request<v1::RollbackMatrixRequest>,
    ) -> Result<Response<v1::PlanResponse>, Status> {
        planned(self.0.plan_rollback(request.into_inner().to))
    }

    async fn get_rollout(
        &self,
        request: Request<v1::GetRolloutRequest>,
    ) -> Result<Response<v1::GetRolloutResponse>, Status> {
        let rollout = self.rollout(request.into_inner().version)?;
        Ok(Response::new(v1::GetRolloutResponse { rollout }))
    }

    async fn advance_rollout(
        &self,
        request: Request<v1::AdvanceRolloutRequest>,
    ) -> Result<Response<v1::AdvanceRolloutResponse>, Status> {
        let who = caller(&request)?;
        let by = (who.identity.as_str(), who.reason.as_str());
        let hash = request.into_inner().plan_hash;
        let version = self.0.advance(&hash, by).await.map_err(to_status)?;
        Ok(Response::new(v1::AdvanceRolloutResponse { rollout: self.rollout(version)? }))
    }

    async fn plan_advance_rollout(
        &self,
        _: Request<v1::AdvanceRolloutRequest>,
    ) -> Result<Response<v1::PlanResponse>, Status> {
        planned(self.0.plan_advance())
    }

    async fn abort_rollout(
        &self,
        request: Request<v1::AbortRolloutRequest>,
    ) -> Result<Response<v1::AbortRolloutResponse>, Status> {
        let who = caller(&request)?;
        let by = (who.identity.as_str(), who.reason.as_str());
        let hash = request.into_inner().plan_hash;
        let version = self.0.abort(&hash, by).await.map_err(to_status)?;
        Ok(Response::new(v1::AbortRolloutResponse { rollout: self.rollout(version)? }))
    }

    async fn plan_abort_rollout(
        &self,
        _: Request<v1::AbortRolloutRequest>,
    ) -> Result<Response<v1::PlanResponse>, Status> {
        planned(self.0.plan_abort())
    }

    async fn report_matrix_outcomes(
        &self,
        request: Request<Streaming<v1::ReportMatrixOutcomesRequest>>,
    ) -> Result<Response<Self::ReportMatrixOutcomesStream>, Status> {
        let caller = caller(&request)?;
        self.0.store().map_err(to_status)?;
        let taker = Arc::new(series::Outcomes(Arc::clone(&self.0)));
        Ok(Response::new(batches::serve(taker, request.into_inner(), caller)))
    }
}
