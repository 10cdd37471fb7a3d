//! Rollback over gRPC.

use std::sync::Arc;

use genesis_proto::v1;
use genesis_proto::v1::recovery_service_server::RecoveryService;
use genesis_storage::Intent;
use tonic::{Request, Response, Status};

use super::{Dispatcher, PlanStep, Point, RollbackPlan};
use crate::outside::Clock;
use crate::server::caller::caller;
use crate::server::convert::time;
use crate::server::status::to_status;

/// The service over the dispatcher.
pub struct Service {
    /// All components.
    pub dispatcher: Dispatcher,
    /// Time for the oplog.
    pub clock: Arc<dyn Clock>,
}

fn point(point: &Point, current: Option<&Point>) -> v1::RollbackPoint {
    v1::RollbackPoint {
        id: point.id.clone(),
        at: Some(time(point.at)),
        description: point.description.clone(),
        current: current.is_some_and(|current| current.id == point.id),
    }
}

fn plan(plan: &RollbackPlan) -> v1::Plan {
    let step = |step: &PlanStep| v1::PlanStep {
        action: step.action.clone(),
        target: step.target.clone(),
        reason: step.reason.clone(),
    };
    v1::Plan { hash: plan.hash.clone(), steps: plan.steps.iter().map(step).collect() }
}

#[tonic::async_trait]
impl RecoveryService for Service {
    async fn list_components(
        &self,
        _: Request<v1::ListComponentsRequest>,
    ) -> Result<Response<v1::ListComponentsResponse>, Status> {
        let mut components = Vec::new();
        for component in self.dispatcher.components() {
            let current = component.current().await.map_err(to_status)?;
            let points = component.points().await.map_err(to_status)?;
            components.push(v1::Component {
                name: component.component().to_owned(),
                points: points.iter().map(|entry| point(entry, current.as_ref())).collect(),
            });
        }
        Ok(Response::new(v1::ListComponentsResponse { components }))
    }

    async fn plan_rollback(
        &self,
        request: Request<v1::PlanRollbackRequest>,
    ) -> Result<Response<v1::PlanRollbackResponse>, Status> {
        let request = request.into_inner();
        let planned =
            self.dispatcher.plan(&request.component, &request.to).await.map_err(to_status)?;
        Ok(Response::new(v1::PlanRollbackResponse {
            plan: Some(plan(&planned)),
            target: Some(point(&planned.target, None)),
            diff: planned.diff,
        }))
    }

    async fn rollback(
        &self,
        request: Request<v1::RollbackRequest>,
    ) -> Result<Response<v1::RollbackResponse>, Status> {
        let who = caller(&request)?;
        let request = request.into_inner();
        let intent = Intent::new(self.clock.now(), who.identity, "rollback").reason(who.reason);
        let (done, verified) = self
            .dispatcher
            .roll_back(&request.component, &request.to, &request.plan_hash, intent)
            .await
            .map_err(to_status)?;
        Ok(Response::new(v1::RollbackResponse {
            from: Some(point(&done.current, None)),
            to: Some(point(&done.target, None)),
            verified,
        }))
    }
}
