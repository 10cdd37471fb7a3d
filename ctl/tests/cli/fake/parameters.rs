//! What the fake agent knows of the parameters of strategies.

use std::sync::Mutex;

use genesis_client::v1::parameter_service_server::ParameterService;
use genesis_client::v1::*;
use tonic::{Request, Response, Status};

use super::{Answer, Inner, Stream, streamed};

/// What it answers about parameters.
#[derive(Default)]
pub(crate) struct Parameters {
    /// It is new enough to set parameters of a fleet.
    pub(crate) knows_fleets: bool,
    pub(crate) listed: Vec<Parameter>,
    pub(crate) values: GetParametersResponse,
    /// One stream for each time that they are watched; the last one again and again.
    pub(crate) watches: Vec<Vec<Result<GetParametersResponse, Status>>>,
    pub(crate) watched: Mutex<usize>,
}

fn set(strategy: &str, name: &str, value: &str, version: u64) -> Option<Parameter> {
    let (strategy, name, value) = (strategy.into(), name.into(), value.into());
    Some(Parameter { strategy, name, value, version, ..Default::default() })
}

#[tonic::async_trait]
impl ParameterService for Inner {
    async fn list_parameters(
        &self,
        request: Request<ListParametersRequest>,
    ) -> Answer<ListParametersResponse> {
        self.called("ListParameters", &request.get_ref().strategy, &request).await?;
        let parameters = self.script.parameters.listed.clone();
        Ok(Response::new(ListParametersResponse { parameters, more: false }))
    }

    async fn get_parameters(
        &self,
        request: Request<GetParametersRequest>,
    ) -> Answer<GetParametersResponse> {
        let GetParametersRequest { strategy, unit } = request.get_ref();
        self.called("GetParameters", format!("{strategy} {unit}").trim(), &request).await?;
        Ok(Response::new(self.script.parameters.values.clone()))
    }

    type WatchParametersStream = Stream<GetParametersResponse>;

    async fn watch_parameters(
        &self,
        request: Request<GetParametersRequest>,
    ) -> Answer<Self::WatchParametersStream> {
        let GetParametersRequest { strategy, unit } = request.get_ref();
        self.called("WatchParameters", format!("{strategy} {unit}").trim(), &request).await?;
        let parameters = &self.script.parameters;
        let stream = {
            let mut watched = parameters.watched.lock().unwrap();
            *watched += 1;
            *watched - 1
        };
        let last = parameters.watches.len().saturating_sub(1);
        streamed(parameters.watches.get(stream.min(last)).cloned().unwrap_or_default())
    }

    async fn set_parameter(
        &self,
        request: Request<SetParameterRequest>,
    ) -> Answer<SetParameterResponse> {
        let asked = request.get_ref().clone();
        let SetParameterRequest { strategy, name, value, expected_version, plan_hash, fleet } =
            asked;
        let expected =
            if expected_version == 0 { String::new() } else { format!("v{expected_version}") };
        let of = if fleet { "in-the-fleet".to_owned() } else { String::new() };
        let parts = [&strategy, &name, &value, &expected, &of, &plan_hash];
        self.change("SetParameter", &parts.map(String::as_str), &request).await?;
        let mut parameter = set(&strategy, &name, &value, 5);
        // One that is older than fleets are does not know what it was asked for.
        let known = fleet && self.script.parameters.knows_fleets;
        parameter.iter_mut().for_each(|it| it.fleet_version = u64::from(known));
        Ok(Response::new(SetParameterResponse { parameter }))
    }

    async fn plan_set_parameter(
        &self,
        request: Request<SetParameterRequest>,
    ) -> Answer<PlanResponse> {
        self.planned("PlanSetParameter", &request).await
    }

    async fn list_parameter_history(
        &self,
        request: Request<ListParameterHistoryRequest>,
    ) -> Answer<ListParameterHistoryResponse> {
        let ListParameterHistoryRequest { strategy, name, limit } = request.get_ref();
        let noted = [strategy.clone(), name.clone(), limit.to_string()];
        self.called("ListParameterHistory", noted.join(" ").trim(), &request).await?;
        let versions = self.script.parameters.listed.clone();
        Ok(Response::new(ListParameterHistoryResponse { versions, more: false }))
    }

    async fn rollback_parameter(
        &self,
        request: Request<RollbackParameterRequest>,
    ) -> Answer<RollbackParameterResponse> {
        let asked = request.get_ref().clone();
        let RollbackParameterRequest { strategy, name, to_version, plan_hash, fleet } = asked;
        let to = if to_version == 0 { String::new() } else { format!("v{to_version}") };
        let of = if fleet { "in-the-fleet".to_owned() } else { String::new() };
        let parts = [&strategy, &name, &to, &of, &plan_hash];
        self.change("RollbackParameter", &parts.map(String::as_str), &request).await?;
        let mut parameter = set(&strategy, &name, "0.002", 6);
        let known = fleet && self.script.parameters.knows_fleets;
        parameter.iter_mut().for_each(|it| it.fleet_version = u64::from(known));
        Ok(Response::new(RollbackParameterResponse { parameter }))
    }

    async fn plan_rollback_parameter(
        &self,
        request: Request<RollbackParameterRequest>,
    ) -> Answer<PlanResponse> {
        self.planned("PlanRollbackParameter", &request).await
    }
}
