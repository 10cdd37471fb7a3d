//! What the fake agent knows of alerts.

use genesis_client::v1::alerts_service_server::AlertsService;
use genesis_client::v1::*;
use tonic::{Request, Response};

use super::{Answer, Inner};

/// What it answers about alerts.
#[derive(Default)]
pub(crate) struct Alerts {
    pub(crate) status: GetAlertsStatusResponse,
    pub(crate) alert: Alert,
    pub(crate) silence: Silence,
    pub(crate) deliveries: Vec<Delivery>,
}

#[tonic::async_trait]
impl AlertsService for Inner {
    async fn get_alerts_status(
        &self,
        request: Request<GetAlertsStatusRequest>,
    ) -> Answer<GetAlertsStatusResponse> {
        self.called("GetAlertsStatus", "", &request).await?;
        Ok(Response::new(self.script.alerts.status.clone()))
    }

    async fn list_alerts(&self, request: Request<ListAlertsRequest>) -> Answer<ListAlertsResponse> {
        self.called("ListAlerts", "", &request).await?;
        Ok(Response::new(ListAlertsResponse { alerts: vec![self.script.alerts.alert.clone()] }))
    }

    async fn get_alert(&self, request: Request<GetAlertRequest>) -> Answer<GetAlertResponse> {
        let id = request.get_ref().id.clone();
        self.called("GetAlert", &id, &request).await?;
        Ok(Response::new(GetAlertResponse {
            alert: Some(self.script.alerts.alert.clone()),
            deliveries: self.script.alerts.deliveries.clone(),
        }))
    }

    async fn list_deliveries(
        &self,
        request: Request<ListDeliveriesRequest>,
    ) -> Answer<ListDeliveriesResponse> {
        self.called("ListDeliveries", "", &request).await?;
        let deliveries = self.script.alerts.deliveries.clone();
        Ok(Response::new(ListDeliveriesResponse { deliveries }))
    }

    async fn ack_alert(&self, request: Request<AckAlertRequest>) -> Answer<AckAlertResponse> {
        let AckAlertRequest { id, lasts, plan_hash } = request.get_ref();
        self.change("AckAlert", &[id, lasts, plan_hash], &request).await?;
        let alert = Some(self.script.alerts.alert.clone());
        Ok(Response::new(AckAlertResponse { alert }))
    }

    async fn plan_ack_alert(&self, request: Request<AckAlertRequest>) -> Answer<PlanResponse> {
        self.planned("PlanAckAlert", &request).await
    }

    async fn silence_alerts(
        &self,
        request: Request<SilenceAlertsRequest>,
    ) -> Answer<SilenceAlertsResponse> {
        let asked = request.get_ref();
        let severity = asked.severity().as_str_name();
        let parts = [&asked.source, &asked.subject, severity, &asked.lasts, &asked.plan_hash];
        self.change("SilenceAlerts", &parts, &request).await?;
        let silence = Some(self.script.alerts.silence.clone());
        Ok(Response::new(SilenceAlertsResponse { silence, covered: 2 }))
    }

    async fn plan_silence_alerts(
        &self,
        request: Request<SilenceAlertsRequest>,
    ) -> Answer<PlanResponse> {
        self.planned("PlanSilenceAlerts", &request).await
    }

    async fn end_silence(&self, request: Request<EndSilenceRequest>) -> Answer<EndSilenceResponse> {
        let EndSilenceRequest { id, plan_hash } = request.get_ref();
        self.change("EndSilence", &[id, plan_hash], &request).await?;
        let silence = Some(self.script.alerts.silence.clone());
        Ok(Response::new(EndSilenceResponse { silence }))
    }

    async fn plan_end_silence(&self, request: Request<EndSilenceRequest>) -> Answer<PlanResponse> {
        self.planned("PlanEndSilence", &request).await
    }

    async fn test_channel(
        &self,
        request: Request<TestChannelRequest>,
    ) -> Answer<TestChannelResponse> {
        let TestChannelRequest { channel, plan_hash } = request.get_ref();
        self.change("TestChannel", &[channel, plan_hash], &request).await?;
        Ok(Response::new(TestChannelResponse { said: "202".into() }))
    }

    async fn plan_test_channel(
        &self,
        request: Request<TestChannelRequest>,
    ) -> Answer<PlanResponse> {
        self.planned("PlanTestChannel", &request).await
    }
}
