//! Parse, call, convert: alerts over gRPC.

use std::sync::Arc;

use genesis_proto::v1;
use genesis_proto::v1::alerts_service_server::AlertsService;
use genesis_storage::{DeliveryOutcome, DeliveryRecord, OutboxRecord, SilenceRecord};
use jiff::{SignedDuration, Timestamp};
use tonic::{Request, Response, Status};

use super::verbs::Cover;
use super::view::{AlertView, ChannelView, Overview};
use super::{Alerts, plan};
use crate::error::Result;
use crate::events::Severity;
use crate::plan::limited;
use crate::server::caller::caller;
use crate::server::convert::{maybe, planned, time};
use crate::server::status::to_status;

/// The service over alerts.
pub struct Service(pub Arc<Alerts>);

fn severity(severity: Severity) -> v1::Severity {
    match severity {
        Severity::Low => v1::Severity::Low,
        Severity::Medium => v1::Severity::Medium,
        Severity::High => v1::Severity::High,
        Severity::Critical => v1::Severity::Critical,
    }
}

fn named(text: &str) -> i32 {
    Severity::parse(text).map_or(v1::Severity::Unspecified, severity).into()
}

fn after(since: Timestamp, lasts: std::time::Duration) -> Timestamp {
    let span = SignedDuration::try_from(lasts).unwrap_or(SignedDuration::MAX);
    since.checked_add(span).unwrap_or(Timestamp::MAX)
}

fn alert(view: AlertView) -> v1::Alert {
    let AlertView { record, quiet, flapping, acked } = view;
    let state = match (record.open(), acked) {
        (false, _) => v1::AlertState::Resolved,
        (true, true) => v1::AlertState::Acked,
        (true, false) => v1::AlertState::Firing,
    };
    let told = |accepted: bool| {
        let told = record.told.iter().filter(move |told| told.accepted == accepted);
        told.map(|told| told.channel.clone()).collect()
    };
    let ack = record.ack.clone();
    v1::Alert {
        told: told(true),
        telling: told(false),
        id: record.id,
        state: state.into(),
        severity: named(&record.severity),
        source: record.source,
        subject: record.subject,
        title: record.title,
        details: record.details,
        runbook: record.runbook,
        since: Some(time(record.since)),
        resolved_at: maybe(record.resolved_at),
        quiet,
        flapping,
        acked_until: ack.as_ref().map(|ack| time(after(ack.since.wall, ack.lasts))),
        acked_by: ack.as_ref().map(|ack| ack.by.clone()).unwrap_or_default(),
        ack_note: ack.map(|ack| ack.note).unwrap_or_default(),
        repeats: record.repeats,
        told_at: maybe(record.told_at.map(|at| at.wall)),
    }
}

fn channel(view: ChannelView) -> v1::AlertChannel {
    let (trouble, since) = view.trouble.unzip();
    v1::AlertChannel {
        name: view.name,
        kind: view.kind.to_owned(),
        severities: view.severities.into_iter().map(|it| severity(it).into()).collect(),
        trouble: trouble.unwrap_or_default(),
        trouble_since: maybe(since),
        waiting: u32::try_from(view.waiting).unwrap_or(u32::MAX),
    }
}

fn silence(record: SilenceRecord, in_force: bool) -> v1::Silence {
    v1::Silence {
        severity: named(&record.severity),
        until: Some(time(record.ended.unwrap_or_else(|| after(record.since.wall, record.lasts)))),
        since: Some(time(record.since.wall)),
        id: record.id,
        source: record.source,
        subject: record.subject,
        by: record.by,
        reason: record.reason,
        in_force,
    }
}

fn delivery(record: DeliveryRecord) -> v1::Delivery {
    let outcome = match record.outcome {
        DeliveryOutcome::Accepted => v1::DeliveryOutcome::Accepted,
        DeliveryOutcome::Refused => v1::DeliveryOutcome::Refused,
        DeliveryOutcome::HandedOver => v1::DeliveryOutcome::HandedOver,
        DeliveryOutcome::Dropped => v1::DeliveryOutcome::Dropped,
    };
    v1::Delivery {
        at: Some(time(record.at)),
        message: record.message,
        channel: record.channel,
        occasion: record.occasion,
        alerts: record.alerts,
        outcome: outcome.into(),
        attempts: record.attempts,
        detail: record.detail,
    }
}

fn on_its_way((message, again): (OutboxRecord, Option<Timestamp>)) -> v1::Delivery {
    let said = match message.error.as_str() {
        "" => "not tried yet".to_owned(),
        error => error.to_owned(),
    };
    let again = again.map_or(String::new(), |at| format!("; tried again from {at:.0} on"));
    v1::Delivery {
        at: Some(time(message.tried.as_ref().unwrap_or(&message.queued).wall)),
        message: message.message,
        channel: message.channel,
        occasion: message.occasion,
        alerts: message.alerts,
        outcome: v1::DeliveryOutcome::Waiting.into(),
        attempts: message.attempts,
        detail: format!("{said}{again}"),
    }
}

/// How alerting itself does, whatever fires.
fn condition(overview: &Overview) -> v1::Condition {
    let troubled = overview.channels.iter().any(|channel| channel.trouble.is_some());
    let heard = overview.unheard.len() < Severity::ALL.len();
    let deaf = overview.unheard.contains(&Severity::Critical) && heard;
    if troubled || deaf { v1::Condition::Warn } else { v1::Condition::Ok }
}

/// The answer of GetAlertsStatus, also for HTTP.
pub fn status_response(alerts: &Alerts) -> v1::GetAlertsStatusResponse {
    let overview = alerts.overview();
    let worst = overview.firing.iter().map(|view| plan::severity(&view.record)).max();
    let firing = match worst {
        Some(Severity::Critical) => v1::Condition::Critical,
        Some(_) => v1::Condition::Warn,
        None => v1::Condition::Ok,
    };
    v1::GetAlertsStatusResponse {
        condition: firing.max(condition(&overview)).into(),
        firing: overview.firing.into_iter().map(alert).collect(),
        channels: overview.channels.into_iter().map(channel).collect(),
        silences: overview.silences.into_iter().map(|it| silence(it, true)).collect(),
        waiting: u32::try_from(overview.waiting).unwrap_or(u32::MAX),
        unheard: overview.unheard.into_iter().map(|it| severity(it).into()).collect(),
        next_digest: maybe(overview.next_digest),
    }
}

/// Alerts in a line, for the agent's page.
pub fn domain_status(alerts: &Alerts) -> v1::DomainStatus {
    domain_of(&alerts.overview())
}

fn domain_of(overview: &Overview) -> v1::DomainStatus {
    let mut findings = Vec::new();
    // Less of it is a line of the summary: its own domain says what it is, where it has one.
    let critical = |view: &&AlertView| plan::severity(&view.record) == Severity::Critical;
    let critical: Vec<&AlertView> = overview.firing.iter().filter(critical).collect();
    if let Some(worst) = critical.first() {
        findings.push(v1::Finding {
            code: "ALERT_FIRING".into(),
            subject: worst.record.key.clone(),
            message: format!(
                "{} critical alert(s), the first since {:.0}: {}; `genesisctl alerts list` has all",
                critical.len(),
                worst.record.since,
                worst.record.title
            ),
        });
    }
    for channel in &overview.channels {
        if let Some((why, since)) = &channel.trouble {
            findings.push(v1::Finding {
                code: "CHANNEL_TROUBLED".into(),
                subject: channel.name.clone(),
                message: format!("since {since:.0}: {why}"),
            });
        }
    }
    let alerting = condition(overview);
    if alerting == v1::Condition::Warn && overview.unheard.contains(&Severity::Critical) {
        findings.push(v1::Finding {
            code: "ALERTS_UNHEARD".into(),
            subject: "critical".into(),
            message: "no channel for what is critical is configured, so nobody would be called"
                .into(),
        });
    }
    let channels = match overview.channels.len() {
        0 => "no channel: nobody is called".to_owned(),
        count => format!("{count} channel(s)"),
    };
    // Degraded, not critical: what is bad is bad by its own domain, and no change is to be stopped by two.
    let condition = if findings.is_empty() { alerting } else { alerting.max(v1::Condition::Warn) };
    let (firing, waiting) = (overview.firing.len(), overview.waiting);
    v1::DomainStatus {
        domain: "alerts".into(),
        condition: condition.into(),
        summary: format!("{firing} firing, {waiting} message(s) waiting, {channels}"),
        findings,
    }
}

/// The name of a severity that was asked for; empty: the default.
fn asked(wanted: v1::Severity) -> &'static str {
    match wanted {
        v1::Severity::Unspecified => "",
        v1::Severity::Low => "low",
        v1::Severity::Medium => "medium",
        v1::Severity::High => "high",
        v1::Severity::Critical => "critical",
    }
}

fn cover(request: &v1::SilenceAlertsRequest) -> Cover<'_> {
    Cover {
        source: &request.source,
        subject: &request.subject,
        severity: asked(request.severity()),
    }
}

impl Service {
    fn list(&self, request: &v1::ListAlertsRequest) -> Result<v1::ListAlertsResponse> {
        let found = self.0.list(!request.all, limited(request.limit, 100, 1_000)?)?;
        let alerts = found.into_iter().map(|record| alert(self.0.view(record))).collect();
        Ok(v1::ListAlertsResponse { alerts })
    }

    fn get(&self, id: &str) -> Result<v1::GetAlertResponse> {
        let record = self.0.find(id)?;
        let deliveries = self.0.deliveries_of(&record.id)?;
        let waiting = self.0.waiting(|message| message.alerts.contains(&record.id));
        let waiting = waiting.into_iter().map(on_its_way);
        Ok(v1::GetAlertResponse {
            deliveries: waiting.chain(deliveries.into_iter().map(delivery)).collect(),
            alert: Some(alert(self.0.view(record))),
        })
    }
}

#[tonic::async_trait]
impl AlertsService for Service {
    async fn get_alerts_status(
        &self,
        _: Request<v1::GetAlertsStatusRequest>,
    ) -> Result<Response<v1::GetAlertsStatusResponse>, Status> {
        Ok(Response::new(status_response(&self.0)))
    }

    async fn list_alerts(
        &self,
        request: Request<v1::ListAlertsRequest>,
    ) -> Result<Response<v1::ListAlertsResponse>, Status> {
        self.list(request.get_ref()).map(Response::new).map_err(to_status)
    }

    async fn get_alert(
        &self,
        request: Request<v1::GetAlertRequest>,
    ) -> Result<Response<v1::GetAlertResponse>, Status> {
        self.get(&request.get_ref().id).map(Response::new).map_err(to_status)
    }

    async fn list_deliveries(
        &self,
        request: Request<v1::ListDeliveriesRequest>,
    ) -> Result<Response<v1::ListDeliveriesResponse>, Status> {
        let limit = limited(request.get_ref().limit, 50, 1_000).map_err(to_status)?;
        let found = self.0.deliveries(limit).map_err(to_status)?;
        let waiting = self.0.waiting(|_| true).into_iter().map(on_its_way);
        let deliveries = waiting.chain(found.into_iter().map(delivery)).take(limit).collect();
        Ok(Response::new(v1::ListDeliveriesResponse { deliveries }))
    }

    async fn ack_alert(
        &self,
        request: Request<v1::AckAlertRequest>,
    ) -> Result<Response<v1::AckAlertResponse>, Status> {
        let who = caller(&request)?;
        let v1::AckAlertRequest { id, lasts, plan_hash } = request.get_ref();
        let acked = self.0.ack(id, lasts, plan_hash, (&who.identity, &who.reason)).await;
        let view = self.0.view(acked.map_err(to_status)?);
        Ok(Response::new(v1::AckAlertResponse { alert: Some(alert(view)) }))
    }

    async fn plan_ack_alert(
        &self,
        request: Request<v1::AckAlertRequest>,
    ) -> Result<Response<v1::PlanResponse>, Status> {
        let v1::AckAlertRequest { id, lasts, .. } = request.get_ref();
        planned(self.0.plan_ack(id, lasts))
    }

    async fn silence_alerts(
        &self,
        request: Request<v1::SilenceAlertsRequest>,
    ) -> Result<Response<v1::SilenceAlertsResponse>, Status> {
        let who = caller(&request)?;
        let asked = request.get_ref();
        let who = (who.identity.as_str(), who.reason.as_str());
        let silenced = self.0.silence(cover(asked), &asked.lasts, &asked.plan_hash, who).await;
        let silenced = silenced.map_err(to_status)?;
        let covered = u32::try_from(self.0.covered(&silenced)).unwrap_or(u32::MAX);
        let silence = Some(silence(silenced, true));
        Ok(Response::new(v1::SilenceAlertsResponse { silence, covered }))
    }

    async fn plan_silence_alerts(
        &self,
        request: Request<v1::SilenceAlertsRequest>,
    ) -> Result<Response<v1::PlanResponse>, Status> {
        let asked = request.get_ref();
        planned(self.0.plan_silence(cover(asked), &asked.lasts))
    }

    async fn end_silence(
        &self,
        request: Request<v1::EndSilenceRequest>,
    ) -> Result<Response<v1::EndSilenceResponse>, Status> {
        let who = caller(&request)?;
        let v1::EndSilenceRequest { id, plan_hash } = request.get_ref();
        let ended = self.0.unsilence(id, plan_hash, (&who.identity, &who.reason)).await;
        let silence = Some(silence(ended.map_err(to_status)?, false));
        Ok(Response::new(v1::EndSilenceResponse { silence }))
    }

    async fn plan_end_silence(
        &self,
        request: Request<v1::EndSilenceRequest>,
    ) -> Result<Response<v1::PlanResponse>, Status> {
        planned(self.0.plan_unsilence(&request.get_ref().id))
    }

    async fn test_channel(
        &self,
        request: Request<v1::TestChannelRequest>,
    ) -> Result<Response<v1::TestChannelResponse>, Status> {
        let who = caller(&request)?;
        let v1::TestChannelRequest { channel, plan_hash } = request.get_ref();
        let said = self.0.test(channel, plan_hash, (&who.identity, &who.reason)).await;
        Ok(Response::new(v1::TestChannelResponse { said: said.map_err(to_status)? }))
    }

    async fn plan_test_channel(
        &self,
        request: Request<v1::TestChannelRequest>,
    ) -> Result<Response<v1::PlanResponse>, Status> {
        planned(self.0.plan_test(&request.get_ref().channel))
    }
}
