//! Parse, call, convert: health over gRPC.

pub(crate) mod convert;

use std::collections::BTreeSet;
use std::sync::Arc;

use genesis_proto::v1;
use genesis_proto::v1::health_service_server::HealthService;
use tonic::{Request, Response, Status};

use super::by_hand::Wanted;
use super::check::{Level, Severity};
use super::{Health, intake, life};
use crate::error::Result;
use crate::plan::limited;
use crate::server::caller::caller;
use crate::server::convert::{duration, planned, started};
use crate::server::diagnose::Diagnosis;
use crate::server::status::to_status;
use convert as to;

/// The service over health.
pub struct Service {
    /// Health.
    pub health: Arc<Health>,
    /// What a report of the whole system is made of.
    pub diagnosis: Arc<Diagnosis>,
}

/// The answer of GetHealthStatus, also for HTTP.
///
/// # Errors
/// `STORAGE_FAILED`.
pub fn status_response(health: &Health) -> Result<v1::GetHealthStatusResponse> {
    Ok(to::status(health.overview()?, &health.runs))
}

/// Health in a line, for the agent's page: a warning of a check is shown there and nothing else, so that what
/// counts here are the issues, and checks that can't be told.
///
/// # Errors
/// `STORAGE_FAILED`.
pub fn domain_status(health: &Health) -> Result<v1::DomainStatus> {
    let overview = health.overview()?;
    let finding = |code: &str, subject: &str, message: String| v1::Finding {
        code: code.to_owned(),
        subject: subject.to_owned(),
        message,
    };
    let (mut condition, mut findings) = (v1::Condition::Ok, Vec::new());
    for check in &overview.checks {
        if check.unknown_streak >= life::UNKNOWN_LIMIT {
            condition = v1::Condition::Unknown;
            let detail = check.look.as_ref().map_or("", |look| look.detail.as_str());
            findings.push(finding("CHECK_CANT_TELL", &check.check.id, detail.to_owned()));
        }
    }
    let warned = |condition: v1::Condition| match condition {
        v1::Condition::Ok => v1::Condition::Warn,
        other => other,
    };
    let known: BTreeSet<&str> =
        overview.checks.iter().map(|check| check.check.id.as_str()).collect();
    for check in overview.checks.iter().map(|check| &check.check) {
        for name in check.depends_on.iter().filter(|name| !known.contains(name.as_str())) {
            condition = warned(condition);
            let message = format!("it depends on {name}, and there is no such check on this host");
            findings.push(finding("DEPENDENCY_UNKNOWN", &check.id, message));
        }
    }
    for issue in overview.issues.iter().filter(|issue| intake::confirmed(issue.record.state)) {
        let grave = issue.check.as_ref().is_some_and(|check| check.severity >= Severity::High);
        condition = match condition {
            _ if grave => v1::Condition::Critical,
            other => warned(other),
        };
        let id = format!("{}#{}", issue.record.check, issue.record.episode);
        let message =
            format!("{}; `genesisctl health explain {id}` has the details", issue.record.detail);
        findings.push(finding("CHECK_FAILS", &id, message));
    }
    for (code, record) in &overview.holds {
        if *code != "DISABLED" {
            condition = warned(condition);
        }
        let message = format!("actions are held back by {}: {}", record.by, record.reason);
        findings.push(finding(code, "remediation", message));
    }
    let open = overview.issues.len();
    Ok(v1::DomainStatus {
        domain: "health".into(),
        condition: condition.into(),
        summary: format!("{} check(s), {open} open issue(s)", overview.checks.len()),
        findings,
    })
}

fn level(level: v1::HealthLevel) -> Level {
    match level {
        v1::HealthLevel::Unspecified | v1::HealthLevel::Shallow => Level::Shallow,
        v1::HealthLevel::Deep => Level::Deep,
    }
}

impl Service {
    async fn check(&self, request: &v1::CheckHealthRequest) -> Result<v1::CheckHealthResponse> {
        let checks = self.health.selected(level(request.level()), &request.checks)?;
        let clock = &self.health.outside.clock;
        let before = clock.monotonic();
        let looks = self.health.look_now(&checks).await;
        let took = clock.monotonic().saturating_sub(before);
        let views = checks.iter().zip(looks);
        let views = views.map(|(check, look)| self.health.check_view(check, Some(look)));
        let checks: Vec<v1::HealthCheck> = views.map(to::check).collect();
        Ok(v1::CheckHealthResponse {
            condition: to::worst(checks.iter().map(v1::HealthCheck::condition)).into(),
            checks,
            took: Some(duration(took)),
        })
    }

    fn history(
        &self,
        request: &v1::ListHealthHistoryRequest,
    ) -> Result<v1::ListHealthHistoryResponse> {
        let limit = limited(request.limit, 50, 1_000)?;
        let (issues, attempts) = self.health.history(&request.check, limit)?;
        Ok(v1::ListHealthHistoryResponse {
            issues: issues.into_iter().map(to::issue).collect(),
            attempts: attempts.into_iter().map(to::attempt).collect(),
        })
    }

    async fn run(
        &self,
        request: Request<v1::RunActionRequest>,
        despite_trades: bool,
    ) -> Result<Response<v1::RunActionResponse>, Status> {
        let who = caller(&request)?;
        let v1::RunActionRequest { action, check, plan_hash } = request.get_ref();
        let wanted = Wanted { action, check, despite_trades };
        let run = self.health.run(wanted, plan_hash, (who.identity, who.reason)).await;
        Ok(Response::new(v1::RunActionResponse { run: Some(started(run.map_err(to_status)?)) }))
    }

    async fn plan_run(
        &self,
        request: &v1::RunActionRequest,
        despite_trades: bool,
    ) -> Result<Response<v1::PlanResponse>, Status> {
        let v1::RunActionRequest { action, check, .. } = request;
        planned(self.health.plan_run(Wanted { action, check, despite_trades }).await)
    }

    async fn ack(&self, request: AckRequest<'_>) -> Result<v1::Issue, Status> {
        let AckRequest { issue, fresh, plan_hash, who } = request;
        let issue = self.health.ack(issue, fresh, plan_hash, (&who.0, &who.1)).await;
        Ok(to::issue(self.health.issue_view(issue.map_err(to_status)?)))
    }
}

struct AckRequest<'a> {
    issue: &'a str,
    fresh: bool,
    plan_hash: &'a str,
    who: (String, String),
}

#[tonic::async_trait]
impl HealthService for Service {
    async fn get_health_status(
        &self,
        _: Request<v1::GetHealthStatusRequest>,
    ) -> Result<Response<v1::GetHealthStatusResponse>, Status> {
        status_response(&self.health).map(Response::new).map_err(to_status)
    }

    async fn check_health(
        &self,
        request: Request<v1::CheckHealthRequest>,
    ) -> Result<Response<v1::CheckHealthResponse>, Status> {
        self.check(request.get_ref()).await.map(Response::new).map_err(to_status)
    }

    async fn diagnose(
        &self,
        _: Request<v1::DiagnoseRequest>,
    ) -> Result<Response<v1::DiagnoseResponse>, Status> {
        self.diagnosis.report(&self.health).await.map(Response::new).map_err(to_status)
    }

    async fn explain_issue(
        &self,
        request: Request<v1::ExplainIssueRequest>,
    ) -> Result<Response<v1::ExplainIssueResponse>, Status> {
        let explained =
            self.health.explain_now(&request.get_ref().issue).await.map_err(to_status)?;
        Ok(Response::new(v1::ExplainIssueResponse {
            issue: Some(to::issue(explained.issue)),
            check: Some(to::check(explained.check)),
            attempts: explained.attempts.into_iter().map(to::attempt).collect(),
            explanation: explained.explanation,
            manual: explained.manual,
        }))
    }

    async fn list_health_history(
        &self,
        request: Request<v1::ListHealthHistoryRequest>,
    ) -> Result<Response<v1::ListHealthHistoryResponse>, Status> {
        self.history(request.get_ref()).map(Response::new).map_err(to_status)
    }

    async fn get_remediation(
        &self,
        _: Request<v1::GetRemediationRequest>,
    ) -> Result<Response<v1::GetRemediationResponse>, Status> {
        to::remediation(&self.health).map(Response::new).map_err(to_status)
    }

    async fn disable_remediation(
        &self,
        request: Request<v1::DisableRemediationRequest>,
    ) -> Result<Response<v1::DisableRemediationResponse>, Status> {
        let who = caller(&request)?;
        let v1::DisableRemediationRequest { lasts, plan_hash } = request.get_ref();
        let disabled = self.health.disable(lasts, plan_hash, (&who.identity, &who.reason)).await;
        let (record, going_on) = disabled.map_err(to_status)?;
        let hold = Some(to::hold(("DISABLED", record)));
        Ok(Response::new(v1::DisableRemediationResponse { hold, going_on }))
    }

    async fn plan_disable_remediation(
        &self,
        request: Request<v1::DisableRemediationRequest>,
    ) -> Result<Response<v1::PlanResponse>, Status> {
        planned(self.health.plan_disable(&request.get_ref().lasts))
    }

    async fn enable_remediation(
        &self,
        request: Request<v1::EnableRemediationRequest>,
    ) -> Result<Response<v1::EnableRemediationResponse>, Status> {
        let who = caller(&request)?;
        let hash = &request.get_ref().plan_hash;
        let enabled = self.health.enable(hash, (&who.identity, &who.reason)).await;
        let was_enabled = enabled.map_err(to_status)?;
        let holds = self.health.holds().into_iter().map(to::hold).collect();
        Ok(Response::new(v1::EnableRemediationResponse { was_enabled, holds }))
    }

    async fn plan_enable_remediation(
        &self,
        _: Request<v1::EnableRemediationRequest>,
    ) -> Result<Response<v1::PlanResponse>, Status> {
        planned(Ok(self.health.plan_enable()))
    }

    async fn release_brake(
        &self,
        request: Request<v1::ReleaseBrakeRequest>,
    ) -> Result<Response<v1::ReleaseBrakeResponse>, Status> {
        let who = caller(&request)?;
        let hash = &request.get_ref().plan_hash;
        let released = self.health.release_brake(hash, (&who.identity, &who.reason)).await;
        let hold = Some(to::hold(("STORM", released.map_err(to_status)?)));
        Ok(Response::new(v1::ReleaseBrakeResponse { hold }))
    }

    async fn plan_release_brake(
        &self,
        _: Request<v1::ReleaseBrakeRequest>,
    ) -> Result<Response<v1::PlanResponse>, Status> {
        planned(self.health.plan_release_brake())
    }

    async fn flag_issue(
        &self,
        request: Request<v1::FlagIssueRequest>,
    ) -> Result<Response<v1::FlagIssueResponse>, Status> {
        let who = caller(&request)?;
        let v1::FlagIssueRequest { issue, plan_hash } = request.get_ref();
        let flagged = self.health.flag(issue, plan_hash, (&who.identity, &who.reason)).await;
        let (issue, incident) = flagged.map_err(to_status)?;
        let was_escalated = incident.is_none();
        let incident = incident.or_else(|| self.health.incident_about(&issue.check, issue.episode));
        Ok(Response::new(v1::FlagIssueResponse {
            issue: Some(to::issue(self.health.issue_view(issue))),
            incident_id: incident.map_or_else(String::new, |incident| incident.id),
            was_escalated,
        }))
    }

    async fn plan_flag_issue(
        &self,
        request: Request<v1::FlagIssueRequest>,
    ) -> Result<Response<v1::PlanResponse>, Status> {
        planned(self.health.plan_flag(&request.get_ref().issue))
    }

    async fn ack_issue(
        &self,
        request: Request<v1::AckIssueRequest>,
    ) -> Result<Response<v1::AckIssueResponse>, Status> {
        let who = caller(&request)?;
        let v1::AckIssueRequest { issue, plan_hash } = request.get_ref();
        let who = (who.identity, who.reason);
        let issue = Some(self.ack(AckRequest { issue, fresh: false, plan_hash, who }).await?);
        Ok(Response::new(v1::AckIssueResponse { issue }))
    }

    async fn plan_ack_issue(
        &self,
        request: Request<v1::AckIssueRequest>,
    ) -> Result<Response<v1::PlanResponse>, Status> {
        planned(self.health.plan_ack(&request.get_ref().issue, false))
    }

    async fn resume_issue(
        &self,
        request: Request<v1::ResumeIssueRequest>,
    ) -> Result<Response<v1::ResumeIssueResponse>, Status> {
        let who = caller(&request)?;
        let v1::ResumeIssueRequest { issue, plan_hash } = request.get_ref();
        let who = (who.identity, who.reason);
        let issue = Some(self.ack(AckRequest { issue, fresh: true, plan_hash, who }).await?);
        Ok(Response::new(v1::ResumeIssueResponse { issue }))
    }

    async fn plan_resume_issue(
        &self,
        request: Request<v1::ResumeIssueRequest>,
    ) -> Result<Response<v1::PlanResponse>, Status> {
        planned(self.health.plan_ack(&request.get_ref().issue, true))
    }

    async fn run_action(
        &self,
        request: Request<v1::RunActionRequest>,
    ) -> Result<Response<v1::RunActionResponse>, Status> {
        self.run(request, false).await
    }

    async fn plan_run_action(
        &self,
        request: Request<v1::RunActionRequest>,
    ) -> Result<Response<v1::PlanResponse>, Status> {
        self.plan_run(request.get_ref(), false).await
    }

    async fn run_action_despite_trades(
        &self,
        request: Request<v1::RunActionRequest>,
    ) -> Result<Response<v1::RunActionResponse>, Status> {
        self.run(request, true).await
    }

    async fn plan_run_action_despite_trades(
        &self,
        request: Request<v1::RunActionRequest>,
    ) -> Result<Response<v1::PlanResponse>, Status> {
        self.plan_run(request.get_ref(), true).await
    }
}
