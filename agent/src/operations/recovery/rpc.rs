//! Parse, call, convert: emergency and rollback over gRPC.

use std::sync::Arc;

use genesis_proto::v1;
use genesis_proto::v1::recovery_service_server::RecoveryService;
use genesis_storage::EmergencyRecord;
use tonic::{Request, Response, Status};

use super::Recovery;
use crate::emergency::Stance;
use crate::fleet::rpc::reached;
use crate::plan::limited;
use crate::runs::rollback::Wish;
use crate::server::caller::caller;
use crate::server::convert::{incident, plan, planned, time};
use crate::server::status::to_status;
use crate::server::telling::fitting;

mod convert;

use convert::{listed, point, rolled_back};

mod course;
mod drills;
mod incidents;
mod reports;
mod status;

/// The service over recovery.
#[derive(Clone)]
pub struct Service {
    /// Recovery.
    pub recovery: Arc<Recovery>,
    /// Each kind of job, run and action, with what it does during an emergency.
    pub stances: Arc<[(&'static str, Stance)]>,
}

fn wish(request: v1::RollbackRequest, admin: bool) -> Wish {
    let v1::RollbackRequest { component, to, plan_hash, into, confirm } = request;
    Wish { component, to, into, confirm, plan_hash, admin }
}

fn emergency(record: Option<EmergencyRecord>) -> v1::Emergency {
    let Some(record) = record else { return v1::Emergency::default() };
    let active = record.active();
    let release = record.release;
    v1::Emergency {
        active,
        epoch: record.epoch,
        since: Some(time(record.since)),
        activated_by: record.activated_by,
        reason: record.reason,
        released_at: release.as_ref().map(|release| time(release.at)),
        released_by: release.as_ref().map(|release| release.by.clone()).unwrap_or_default(),
        release_reason: release.map(|release| release.reason).unwrap_or_default(),
        fleet_epoch: record.fleet.map_or(0, |mark| mark.epoch),
        fleet_only: record.fleet.is_some_and(|mark| mark.only),
        fleet_told: record.fleet.is_some_and(|mark| mark.told),
    }
}

/// The answer of GetEmergency, also for HTTP.
pub fn emergency_response(service: &Service) -> v1::GetEmergencyResponse {
    let recovery = &service.recovery;
    let stance = |(kind, stance): &(&str, Stance)| v1::EmergencyStance {
        kind: (*kind).to_owned(),
        goes_on: *stance == Stance::GoOn,
    };
    v1::GetEmergencyResponse {
        emergency: Some(emergency(recovery.emergency.current())),
        stances: service.stances.iter().map(stance).collect(),
        contacts: Some(incidents::contacts(&recovery.contacts)),
        course: Some(course::course(recovery)),
    }
}

/// An emergency, or what is still owed after one, in a line, for the agent's page; `None`: nothing is.
pub fn domain_status(recovery: &Recovery) -> Option<v1::DomainStatus> {
    let course = &recovery.course;
    status::of(recovery.emergency.current(), &course.live(), course.configured())
}

#[tonic::async_trait]
impl RecoveryService for Service {
    async fn list_components(
        &self,
        request: Request<v1::ListComponentsRequest>,
    ) -> Result<Response<v1::ListComponentsResponse>, Status> {
        let v1::ListComponentsRequest { component, limit } = request.into_inner();
        let limit = limited(limit, 50, 1_000).map_err(to_status)?;
        let all = self.recovery.dispatcher.list(&component, limit).await.map_err(to_status)?;
        let (components, more) = fitting(all.into_iter().map(listed));
        Ok(Response::new(v1::ListComponentsResponse { components, more }))
    }

    async fn plan_rollback(
        &self,
        request: Request<v1::RollbackRequest>,
    ) -> Result<Response<v1::PlanRollbackResponse>, Status> {
        let wish = wish(request.into_inner(), false);
        let planned = self.recovery.dispatcher.plan(&wish).await.map_err(to_status)?;
        Ok(Response::new(v1::PlanRollbackResponse {
            plan: Some(plan(&planned.plan)),
            target: Some(point(&planned.target, Some(&planned.known), false)),
            diff: planned.diff,
            current: Some(point(&planned.current, None, true)),
            typed_name: planned.care.typed,
            already: planned.already,
        }))
    }

    async fn rollback(
        &self,
        request: Request<v1::RollbackRequest>,
    ) -> Result<Response<v1::RollbackResponse>, Status> {
        let who = caller(&request)?;
        let wish = wish(request.into_inner(), who.role == Some(v1::Role::Admin));
        let done = self.recovery.dispatcher.roll_back(&wish, (&who.identity, &who.reason)).await;
        Ok(Response::new(rolled_back(done.map_err(to_status)?)))
    }

    async fn get_emergency(
        &self,
        _: Request<v1::GetEmergencyRequest>,
    ) -> Result<Response<v1::GetEmergencyResponse>, Status> {
        Ok(Response::new(emergency_response(self)))
    }

    async fn activate_emergency(
        &self,
        request: Request<v1::ActivateEmergencyRequest>,
    ) -> Result<Response<v1::ActivateEmergencyResponse>, Status> {
        let who = caller(&request)?;
        let v1::ActivateEmergencyRequest { plan_hash, fleet } = request.get_ref();
        let (by, reason) = (&who.identity, &who.reason);
        let (record, was_active, reach) = if *fleet {
            let activated = self.recovery.activate_fleet(by, reason, plan_hash).await;
            let (record, was_active, reach) = activated.map_err(to_status)?;
            (record, was_active, Some(reached(&self.recovery.fleet, reach)))
        } else {
            let activated = self.recovery.activate(by, reason, plan_hash).await;
            let (record, was_active) = activated.map_err(to_status)?;
            (record, was_active, None)
        };
        Ok(Response::new(v1::ActivateEmergencyResponse {
            emergency: Some(emergency(Some(record))),
            was_active,
            fleet: reach,
        }))
    }

    async fn plan_activate_emergency(
        &self,
        request: Request<v1::ActivateEmergencyRequest>,
    ) -> Result<Response<v1::PlanResponse>, Status> {
        planned(Ok(self.recovery.plan_activation(request.get_ref().fleet)))
    }

    async fn release_emergency(
        &self,
        request: Request<v1::ReleaseEmergencyRequest>,
    ) -> Result<Response<v1::ReleaseEmergencyResponse>, Status> {
        let who = caller(&request)?;
        let v1::ReleaseEmergencyRequest { plan_hash, fleet } = request.get_ref();
        let (by, reason) = (&who.identity, &who.reason);
        let (record, reach) = if *fleet {
            let released = self.recovery.release_fleet(by, reason, plan_hash).await;
            let (record, reach) = released.map_err(to_status)?;
            (record, Some(reached(&self.recovery.fleet, reach)))
        } else {
            (self.recovery.release(by, reason, plan_hash).await.map_err(to_status)?, None)
        };
        Ok(Response::new(v1::ReleaseEmergencyResponse {
            emergency: Some(emergency(Some(record))),
            fleet: reach,
        }))
    }

    async fn plan_release_emergency(
        &self,
        request: Request<v1::ReleaseEmergencyRequest>,
    ) -> Result<Response<v1::PlanResponse>, Status> {
        planned(match request.get_ref().fleet {
            true => self.recovery.plan_release_fleet(),
            false => self.recovery.plan_release(),
        })
    }

    async fn close_all_positions(
        &self,
        request: Request<v1::CloseAllPositionsRequest>,
    ) -> Result<Response<v1::CloseAllPositionsResponse>, Status> {
        let who = caller(&request)?;
        let (record, was_closing) = self
            .recovery
            .close(&who.identity, &who.reason, &request.get_ref().plan_hash)
            .await
            .map_err(to_status)?;
        Ok(Response::new(v1::CloseAllPositionsResponse {
            emergency: Some(emergency(Some(record))),
            course: Some(course::course(&self.recovery)),
            was_closing,
        }))
    }

    async fn plan_close_all_positions(
        &self,
        _: Request<v1::CloseAllPositionsRequest>,
    ) -> Result<Response<v1::PlanResponse>, Status> {
        planned(self.recovery.plan_close())
    }

    async fn approve_release(
        &self,
        request: Request<v1::ApproveReleaseRequest>,
    ) -> Result<Response<v1::ApproveReleaseResponse>, Status> {
        let who = caller(&request)?;
        let approvals = self
            .recovery
            .approve(&who.identity, &who.reason, &request.get_ref().plan_hash)
            .await
            .map_err(to_status)?;
        Ok(Response::new(v1::ApproveReleaseResponse {
            approvals: approvals.into_iter().map(course::approval).collect(),
            needed: self.recovery.course.config().approvals,
        }))
    }

    async fn plan_approve_release(
        &self,
        request: Request<v1::ApproveReleaseRequest>,
    ) -> Result<Response<v1::PlanResponse>, Status> {
        let who = caller(&request)?;
        planned(self.recovery.plan_approval(&who.identity))
    }

    async fn renew_trading_lease(
        &self,
        request: Request<v1::RenewTradingLeaseRequest>,
    ) -> Result<Response<v1::RenewTradingLeaseResponse>, Status> {
        let who = caller(&request)?;
        let lasts = self
            .recovery
            .course
            .renew(&who.identity, request.get_ref().give_up)
            .await
            .map_err(to_status)?;
        Ok(Response::new(v1::RenewTradingLeaseResponse {
            lasts_seconds: lasts.as_secs_f64(),
            emergency: self.recovery.emergency.active(),
        }))
    }

    async fn list_incidents(
        &self,
        request: Request<v1::ListIncidentsRequest>,
    ) -> Result<Response<v1::ListIncidentsResponse>, Status> {
        let v1::ListIncidentsRequest { open_only, limit } = request.into_inner();
        let limit = limited(limit, 50, 1_000).map_err(to_status)?;
        let incidents = self.recovery.incidents(open_only, limit).map_err(to_status)?;
        let incidents = incidents.into_iter().map(incident).collect();
        Ok(Response::new(v1::ListIncidentsResponse { incidents }))
    }

    async fn get_incident(
        &self,
        request: Request<v1::GetIncidentRequest>,
    ) -> Result<Response<v1::GetIncidentResponse>, Status> {
        let got = incidents::get(&self.recovery, &request.get_ref().id).await;
        got.map(Response::new).map_err(to_status)
    }

    async fn open_incident(
        &self,
        request: Request<v1::OpenIncidentRequest>,
    ) -> Result<Response<v1::OpenIncidentResponse>, Status> {
        let who = caller(&request)?;
        let opened = incidents::open(&self.recovery, who, request.get_ref()).await;
        opened.map(Response::new).map_err(to_status)
    }

    async fn plan_open_incident(
        &self,
        request: Request<v1::OpenIncidentRequest>,
    ) -> Result<Response<v1::PlanResponse>, Status> {
        planned(incidents::plan_open(&self.recovery, request.get_ref()))
    }

    async fn note_incident(
        &self,
        request: Request<v1::NoteIncidentRequest>,
    ) -> Result<Response<v1::NoteIncidentResponse>, Status> {
        let who = caller(&request)?;
        let noted = incidents::note(&self.recovery, who, request.get_ref()).await;
        noted.map(Response::new).map_err(to_status)
    }

    async fn plan_note_incident(
        &self,
        request: Request<v1::NoteIncidentRequest>,
    ) -> Result<Response<v1::PlanResponse>, Status> {
        planned(incidents::plan_note(&self.recovery, request.get_ref()))
    }

    async fn close_incident(
        &self,
        request: Request<v1::CloseIncidentRequest>,
    ) -> Result<Response<v1::CloseIncidentResponse>, Status> {
        let who = caller(&request)?;
        let closed = incidents::close(&self.recovery, who, request.get_ref()).await;
        closed.map(Response::new).map_err(to_status)
    }

    async fn plan_close_incident(
        &self,
        request: Request<v1::CloseIncidentRequest>,
    ) -> Result<Response<v1::PlanResponse>, Status> {
        planned(incidents::plan_close(&self.recovery, request.get_ref()))
    }

    async fn get_operations_report(
        &self,
        request: Request<v1::GetOperationsReportRequest>,
    ) -> Result<Response<v1::GetOperationsReportResponse>, Status> {
        let report = reports::operations(&self.recovery.reports, &request.get_ref().month);
        report.map(Response::new).map_err(to_status)
    }

    async fn get_remediation_report(
        &self,
        request: Request<v1::GetRemediationReportRequest>,
    ) -> Result<Response<v1::GetRemediationReportResponse>, Status> {
        let report = reports::remediation(&self.recovery.reports, &request.get_ref().month);
        report.map(Response::new).map_err(to_status)
    }

    async fn run_drill(
        &self,
        request: Request<v1::RunDrillRequest>,
    ) -> Result<Response<v1::RunDrillResponse>, Status> {
        let who = caller(&request)?;
        let run = drills::run(&self.recovery, who, request.get_ref()).await;
        run.map(Response::new).map_err(to_status)
    }

    async fn plan_run_drill(
        &self,
        request: Request<v1::RunDrillRequest>,
    ) -> Result<Response<v1::PlanResponse>, Status> {
        planned(drills::plan(&self.recovery, request.get_ref()).await)
    }

    async fn list_drills(
        &self,
        _: Request<v1::ListDrillsRequest>,
    ) -> Result<Response<v1::ListDrillsResponse>, Status> {
        drills::list(&self.recovery).map(Response::new).map_err(to_status)
    }

    async fn get_drill_report(
        &self,
        request: Request<v1::GetDrillReportRequest>,
    ) -> Result<Response<v1::GetDrillReportResponse>, Status> {
        drills::get(&self.recovery, &request.get_ref().id).map(Response::new).map_err(to_status)
    }
}
