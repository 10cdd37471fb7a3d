//! The scheduler over gRPC.

use genesis_proto::v1::schedule_service_server::ScheduleService;
use genesis_proto::v1::{
    Job, ListJobsRequest, ListJobsResponse, PauseJobRequest, PauseJobResponse, PlanResponse,
    ResumeJobRequest, ResumeJobResponse, RunJobRequest, RunJobResponse, RunState,
};
use jiff::Timestamp;
use tonic::{Request, Response, Status};

use super::{JobView, Scheduler};
use crate::emergency::Stance;
use crate::error::{Error, Result};
use crate::server::caller::caller;
use crate::server::convert::{duration, maybe, planned, run_state, started, time};
use crate::server::status::to_status;

/// The service over the scheduler.
pub struct Service(pub Scheduler);

fn job(view: JobView) -> Job {
    let mark = view.mark.unwrap_or_default();
    let pause = view.pause;
    Job {
        name: view.name.to_owned(),
        description: view.description.to_owned(),
        schedule: view.schedule,
        paused: pause.is_some(),
        paused_by: pause.as_ref().map(|pause| pause.by.clone()).unwrap_or_default(),
        paused_reason: pause.map(|pause| pause.reason).unwrap_or_default(),
        next_at: view.next.into_iter().map(time).collect(),
        last_due_at: maybe(mark.last_due_at),
        last_run_id: mark.last_run_id,
        last_state: mark.last_state.map_or(RunState::Unspecified, run_state).into(),
        last_skip: mark.last_skip,
        grace: Some(duration(view.grace)),
        splay: Some(duration(view.splay)),
        running: view.running,
        goes_on_in_emergency: view.stance == Stance::GoOn,
    }
}

/// The answer of ListJobs, also for HTTP.
///
/// # Errors
/// `LIMIT_INVALID`, `INSTANT_INVALID`, `STORAGE_FAILED`.
pub fn list_response(scheduler: &Scheduler, request: &ListJobsRequest) -> Result<ListJobsResponse> {
    let next = match request.next {
        0 => 1,
        1..=100 => request.next as usize,
        _ => return Err(Error::invalid("LIMIT_INVALID", "next must be 1 to 100")),
    };
    let at = match request.at {
        None => None,
        Some(at) => Some(Timestamp::new(at.seconds, at.nanos).map_err(|error| {
            Error::invalid("INSTANT_INVALID", "that instant is out of range").caused_by(error)
        })?),
    };
    Ok(ListJobsResponse { jobs: scheduler.list(at, next)?.into_iter().map(job).collect() })
}

#[tonic::async_trait]
impl ScheduleService for Service {
    async fn list_jobs(
        &self,
        request: Request<ListJobsRequest>,
    ) -> Result<Response<ListJobsResponse>, Status> {
        list_response(&self.0, request.get_ref()).map(Response::new).map_err(to_status)
    }

    async fn run_job(
        &self,
        request: Request<RunJobRequest>,
    ) -> Result<Response<RunJobResponse>, Status> {
        let who = caller(&request)?;
        let run = self
            .0
            .run_now(
                &request.get_ref().name,
                &request.get_ref().plan_hash,
                who.identity,
                who.reason,
            )
            .await
            .map_err(to_status)?;
        Ok(Response::new(RunJobResponse { run: Some(started(run)) }))
    }

    async fn pause_job(
        &self,
        request: Request<PauseJobRequest>,
    ) -> Result<Response<PauseJobResponse>, Status> {
        let who = caller(&request)?;
        let view = self
            .0
            .set_paused(
                &request.get_ref().name,
                true,
                &request.get_ref().plan_hash,
                who.identity,
                who.reason,
            )
            .await
            .map_err(to_status)?;
        Ok(Response::new(PauseJobResponse { job: Some(job(view)) }))
    }

    async fn resume_job(
        &self,
        request: Request<ResumeJobRequest>,
    ) -> Result<Response<ResumeJobResponse>, Status> {
        let who = caller(&request)?;
        let view = self
            .0
            .set_paused(
                &request.get_ref().name,
                false,
                &request.get_ref().plan_hash,
                who.identity,
                who.reason,
            )
            .await
            .map_err(to_status)?;
        Ok(Response::new(ResumeJobResponse { job: Some(job(view)) }))
    }

    async fn plan_run_job(
        &self,
        request: Request<RunJobRequest>,
    ) -> Result<Response<PlanResponse>, Status> {
        planned(self.0.plan_run(&request.get_ref().name))
    }

    async fn plan_pause_job(
        &self,
        request: Request<PauseJobRequest>,
    ) -> Result<Response<PlanResponse>, Status> {
        planned(self.0.plan_pause(&request.get_ref().name, true))
    }

    async fn plan_resume_job(
        &self,
        request: Request<ResumeJobRequest>,
    ) -> Result<Response<PlanResponse>, Status> {
        planned(self.0.plan_pause(&request.get_ref().name, false))
    }
}
