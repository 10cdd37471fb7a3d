//! Parameters over gRPC.

use std::sync::Arc;

use genesis_proto::v1;
use genesis_proto::v1::parameter_service_server::ParameterService;
use genesis_storage::ParameterRecord;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::super::Experiments;
use super::super::parameters::Wanted;
use super::super::plan;
use super::convert;
use crate::error::{Error, Result};
use crate::server::caller::caller;
use crate::server::convert::planned;
use crate::server::status::to_status;
use crate::server::telling::{Telling, fitting, tell};

/// The service over the parameters.
pub struct Parameters(pub Arc<Experiments>);

/// What a unit is to use; nothing for a strategy that is not known yet.
fn values(experiments: &Experiments, strategy: &str, unit: &str) -> v1::GetParametersResponse {
    match experiments.uses(strategy, unit) {
        Ok((uses, revision)) => v1::GetParametersResponse {
            values: uses.into_iter().map(convert::value).collect(),
            revision,
        },
        Err(_) => v1::GetParametersResponse {
            values: Vec::new(),
            revision: *experiments.revisions().borrow(),
        },
    }
}

/// Tells what a unit is to use, and again whenever that is something else.
async fn watch(
    experiments: Arc<Experiments>,
    (strategy, unit): (String, String),
    sender: mpsc::Sender<Result<v1::GetParametersResponse, Status>>,
) {
    let mut revisions = experiments.revisions();
    let mut told: Option<Vec<v1::ParameterValue>> = None;
    loop {
        revisions.mark_unchanged();
        let now = values(&experiments, &strategy, &unit);
        if told.as_ref() != Some(&now.values) {
            told = Some(now.values.clone());
            if !tell(&sender, now).await {
                return;
            }
        }
        tokio::select! {
            changed = revisions.changed() => if changed.is_err() { return },
            () = sender.closed() => return,
        }
    }
}

#[tonic::async_trait]
impl ParameterService for Parameters {
    type WatchParametersStream = Telling<v1::GetParametersResponse>;

    async fn list_parameters(
        &self,
        request: Request<v1::ListParametersRequest>,
    ) -> Result<Response<v1::ListParametersResponse>, Status> {
        let listed = self.0.parameters(&request.get_ref().strategy).map_err(to_status)?;
        let (parameters, more) =
            fitting(listed.into_iter().map(|(it, test)| shown(&self.0, it, test)));
        Ok(Response::new(v1::ListParametersResponse { parameters, more }))
    }

    async fn get_parameters(
        &self,
        request: Request<v1::GetParametersRequest>,
    ) -> Result<Response<v1::GetParametersResponse>, Status> {
        let v1::GetParametersRequest { strategy, unit } = request.get_ref();
        self.0.uses(strategy, unit).map_err(to_status)?;
        Ok(Response::new(values(&self.0, strategy, unit)))
    }

    async fn watch_parameters(
        &self,
        request: Request<v1::GetParametersRequest>,
    ) -> Result<Response<Self::WatchParametersStream>, Status> {
        let v1::GetParametersRequest { strategy, unit } = request.into_inner();
        if !unit.is_empty()
            && let Some(why) = plan::wrong_unit(&unit)
        {
            return Err(to_status(Error::invalid("UNIT_INVALID", why)));
        }
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(watch(Arc::clone(&self.0), (strategy, unit), sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn set_parameter(
        &self,
        request: Request<v1::SetParameterRequest>,
    ) -> Result<Response<v1::SetParameterResponse>, Status> {
        let who = caller(&request)?;
        let (wanted, plan_hash, fleet) = wanted(request.into_inner());
        let by = (who.identity.as_str(), who.reason.as_str());
        let set = match fleet {
            false => self.0.set(&wanted, &plan_hash, by).await,
            true => self.0.set_in_fleet(&wanted, (&plan_hash, "set"), by).await,
        };
        let parameter = Some(shown(&self.0, set.map_err(to_status)?, None));
        Ok(Response::new(v1::SetParameterResponse { parameter }))
    }

    async fn plan_set_parameter(
        &self,
        request: Request<v1::SetParameterRequest>,
    ) -> Result<Response<v1::PlanResponse>, Status> {
        let (wanted, _, fleet) = wanted(request.into_inner());
        planned(match fleet {
            false => self.0.plan_setting(&wanted),
            true => self.0.plan_setting_in_fleet(&wanted).await,
        })
    }

    async fn list_parameter_history(
        &self,
        request: Request<v1::ListParameterHistoryRequest>,
    ) -> Result<Response<v1::ListParameterHistoryResponse>, Status> {
        let v1::ListParameterHistoryRequest { strategy, name, limit } = request.get_ref();
        let versions = self.0.versions(strategy, name, *limit).map_err(to_status)?;
        let (versions, more) =
            fitting(versions.into_iter().map(|it| convert::parameter(it, None, None)));
        Ok(Response::new(v1::ListParameterHistoryResponse { versions, more }))
    }

    async fn rollback_parameter(
        &self,
        request: Request<v1::RollbackParameterRequest>,
    ) -> Result<Response<v1::RollbackParameterResponse>, Status> {
        let who = caller(&request)?;
        let v1::RollbackParameterRequest { strategy, name, to_version, plan_hash, fleet } =
            request.get_ref();
        let by = (who.identity.as_str(), who.reason.as_str());
        let way = (strategy.as_str(), name.as_str(), *to_version);
        let back = match fleet {
            false => self.0.go_back(way, plan_hash, by).await,
            true => self.0.go_back_in_fleet(way, plan_hash, by).await,
        };
        let parameter = Some(shown(&self.0, back.map_err(to_status)?, None));
        Ok(Response::new(v1::RollbackParameterResponse { parameter }))
    }

    async fn plan_rollback_parameter(
        &self,
        request: Request<v1::RollbackParameterRequest>,
    ) -> Result<Response<v1::PlanResponse>, Status> {
        let v1::RollbackParameterRequest { strategy, name, to_version, fleet, .. } =
            request.get_ref();
        planned(match fleet {
            false => self.0.plan_going_back(strategy, name, *to_version),
            true => self.0.plan_going_back_in_fleet((strategy, name, *to_version)).await,
        })
    }
}

fn wanted(request: v1::SetParameterRequest) -> (Wanted, String, bool) {
    let v1::SetParameterRequest { strategy, name, value, expected_version, plan_hash, fleet } =
        request;
    (Wanted { strategy, name, value, expected: expected_version }, plan_hash, fleet)
}

/// A parameter in force, beside what the fleet says of it.
fn shown(own: &Experiments, record: ParameterRecord, test: Option<u64>) -> v1::Parameter {
    let fleet = own.fleets_value(&record);
    convert::parameter(record, test, fleet)
}
