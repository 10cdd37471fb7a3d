//! What the fake agent knows of circuit breakers.

use genesis_client::v1::breaker_service_server::BreakerService;
use genesis_client::v1::*;
use tonic::{Request, Response, Status};

use super::{Answer, Inner, Stream, changed, refusal, streamed};

impl Inner {
    fn breaker(&self, name: &str) -> Result<Breaker, Status> {
        let absent = || refusal(tonic::Code::NotFound, "BREAKER_NOT_FOUND", "no such breaker");
        let named = self.script.breakers.iter().find(|breaker| breaker.name == name);
        named.cloned().ok_or_else(absent)
    }
}

#[tonic::async_trait]
impl BreakerService for Inner {
    async fn report_outcomes(
        &self,
        _: Request<ReportOutcomesRequest>,
    ) -> Answer<ReportOutcomesResponse> {
        Ok(Response::new(ReportOutcomesResponse::default()))
    }

    async fn take_probes(&self, _: Request<TakeProbesRequest>) -> Answer<TakeProbesResponse> {
        Ok(Response::new(TakeProbesResponse::default()))
    }

    async fn get_breaker(&self, request: Request<GetBreakerRequest>) -> Answer<GetBreakerResponse> {
        let name = request.get_ref().name.clone();
        self.called("GetBreaker", &name, &request).await?;
        Ok(Response::new(GetBreakerResponse { breaker: Some(self.breaker(&name)?) }))
    }

    async fn list_breakers(
        &self,
        request: Request<ListBreakersRequest>,
    ) -> Answer<ListBreakersResponse> {
        let open_only = request.get_ref().open_only;
        self.called("ListBreakers", &open_only.to_string(), &request).await?;
        let mut breakers = self.script.breakers.clone();
        breakers.retain(|breaker| !open_only || breaker.state() != BreakerState::Closed);
        Ok(Response::new(ListBreakersResponse { breakers }))
    }

    type WatchBreakersStream = Stream<WatchBreakersResponse>;

    async fn watch_breakers(
        &self,
        request: Request<WatchBreakersRequest>,
    ) -> Answer<Self::WatchBreakersStream> {
        let names = request.get_ref().names.join(" ");
        self.called("WatchBreakers", &names, &request).await?;
        let breakers = self.script.breakers.clone();
        let all = WatchBreakersResponse { breakers, window: None };
        // The same change twice: in force, then durable.
        streamed(vec![Ok(all.clone()), Ok(all), Ok(WatchBreakersResponse::default())])
    }

    async fn trip_breaker(
        &self,
        request: Request<TripBreakerRequest>,
    ) -> Answer<TripBreakerResponse> {
        let TripBreakerRequest { name, lasts, plan_hash } = request.get_ref().clone();
        let noted = format!("{name} {lasts} {plan_hash}");
        self.called("TripBreaker", &noted.replace("  ", " "), &request).await?;
        changed(&plan_hash)?;
        Ok(Response::new(TripBreakerResponse { breaker: Some(self.breaker(&name)?) }))
    }

    async fn plan_trip_breaker(
        &self,
        request: Request<TripBreakerRequest>,
    ) -> Answer<PlanResponse> {
        self.planned("PlanTripBreaker", &request).await
    }

    async fn reset_breaker(
        &self,
        request: Request<ResetBreakerRequest>,
    ) -> Answer<ResetBreakerResponse> {
        let ResetBreakerRequest { name, relearn, plan_hash } = request.get_ref().clone();
        let noted = format!("{name}{} {plan_hash}", if relearn { " relearn" } else { "" });
        self.called("ResetBreaker", &noted, &request).await?;
        changed(&plan_hash)?;
        let breaker = self.breaker(&name)?;
        let was_closed = breaker.state() == BreakerState::Closed;
        Ok(Response::new(ResetBreakerResponse { breaker: Some(breaker), was_closed }))
    }

    async fn plan_reset_breaker(
        &self,
        request: Request<ResetBreakerRequest>,
    ) -> Answer<PlanResponse> {
        self.planned("PlanResetBreaker", &request).await
    }
}
