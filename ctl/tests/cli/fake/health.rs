//! What the fake agent knows of health and incidents.

use std::sync::{Arc, Mutex};

use genesis_client::v1::health_service_server::HealthService;
use genesis_client::v1::*;
use tonic::{Request, Response, Status};

use super::{Answer, Inner, changed, refusal, started};

/// What it answers about health.
#[derive(Default)]
pub(crate) struct Health {
    pub(crate) status: GetHealthStatusResponse,
    /// In its place, once there is one.
    pub(crate) later: Arc<Mutex<Option<GetHealthStatusResponse>>>,
    pub(crate) checked: CheckHealthResponse,
    pub(crate) report: DiagnoseResponse,
    pub(crate) explained: ExplainIssueResponse,
    pub(crate) history: ListHealthHistoryResponse,
    pub(crate) remediation: GetRemediationResponse,
    pub(crate) disabled: DisableRemediationResponse,
    pub(crate) enabled: EnableRemediationResponse,
    pub(crate) flagged: FlagIssueResponse,
    pub(crate) incidents: Vec<Incident>,
    pub(crate) timeline: Option<IncidentTimeline>,
    pub(crate) drills: Vec<Drill>,
    pub(crate) drill: DrillReport,
    pub(crate) operations_report: GetOperationsReportResponse,
    pub(crate) remediation_report: GetRemediationReportResponse,
}

impl Inner {
    /// A change was called: notes what matters of it, and refuses a plan that has changed.
    pub(super) async fn change<T>(
        &self,
        method: &str,
        parts: &[&str],
        request: &Request<T>,
    ) -> Result<(), Status> {
        let noted: Vec<_> = parts.iter().copied().filter(|part| !part.is_empty()).collect();
        self.called(method, &noted.join(" "), request).await?;
        changed(parts.last().unwrap())
    }

    pub(super) fn incident(&self, id: &str) -> Result<Incident, Status> {
        let incidents = &self.script.health.incidents;
        let named = incidents.iter().find(|incident| id == "last" || incident.id.starts_with(id));
        let absent = || refusal(tonic::Code::NotFound, "INCIDENT_NOT_FOUND", "no such incident");
        named.cloned().ok_or_else(absent)
    }
}

#[tonic::async_trait]
impl HealthService for Inner {
    async fn get_health_status(
        &self,
        request: Request<GetHealthStatusRequest>,
    ) -> Answer<GetHealthStatusResponse> {
        self.called("GetHealthStatus", "", &request).await?;
        let later = self.script.health.later.lock().unwrap().clone();
        Ok(Response::new(later.unwrap_or_else(|| self.script.health.status.clone())))
    }

    async fn check_health(
        &self,
        request: Request<CheckHealthRequest>,
    ) -> Answer<CheckHealthResponse> {
        let level = request.get_ref().level().as_str_name();
        let noted = format!("{level} {}", request.get_ref().checks.join(" "));
        self.called("CheckHealth", noted.trim_end(), &request).await?;
        Ok(Response::new(self.script.health.checked.clone()))
    }

    async fn diagnose(&self, request: Request<DiagnoseRequest>) -> Answer<DiagnoseResponse> {
        self.called("Diagnose", "", &request).await?;
        Ok(Response::new(self.script.health.report.clone()))
    }

    async fn explain_issue(
        &self,
        request: Request<ExplainIssueRequest>,
    ) -> Answer<ExplainIssueResponse> {
        let issue = request.get_ref().issue.clone();
        self.called("ExplainIssue", &issue, &request).await?;
        if issue == "absent" {
            return Err(refusal(tonic::Code::NotFound, "ISSUE_NOT_FOUND", "absent has no issue"));
        }
        Ok(Response::new(self.script.health.explained.clone()))
    }

    async fn list_health_history(
        &self,
        request: Request<ListHealthHistoryRequest>,
    ) -> Answer<ListHealthHistoryResponse> {
        let ListHealthHistoryRequest { check, limit } = request.get_ref();
        let noted = format!("{check} {limit}");
        self.called("ListHealthHistory", noted.trim_start(), &request).await?;
        Ok(Response::new(self.script.health.history.clone()))
    }

    async fn get_remediation(
        &self,
        request: Request<GetRemediationRequest>,
    ) -> Answer<GetRemediationResponse> {
        self.called("GetRemediation", "", &request).await?;
        Ok(Response::new(self.script.health.remediation.clone()))
    }

    async fn disable_remediation(
        &self,
        request: Request<DisableRemediationRequest>,
    ) -> Answer<DisableRemediationResponse> {
        let DisableRemediationRequest { lasts, plan_hash } = request.get_ref();
        self.change("DisableRemediation", &[lasts, plan_hash], &request).await?;
        Ok(Response::new(self.script.health.disabled.clone()))
    }

    async fn plan_disable_remediation(
        &self,
        request: Request<DisableRemediationRequest>,
    ) -> Answer<PlanResponse> {
        self.planned("PlanDisableRemediation", &request).await
    }

    async fn enable_remediation(
        &self,
        request: Request<EnableRemediationRequest>,
    ) -> Answer<EnableRemediationResponse> {
        self.change("EnableRemediation", &[&request.get_ref().plan_hash], &request).await?;
        Ok(Response::new(self.script.health.enabled.clone()))
    }

    async fn plan_enable_remediation(
        &self,
        request: Request<EnableRemediationRequest>,
    ) -> Answer<PlanResponse> {
        self.planned("PlanEnableRemediation", &request).await
    }

    async fn release_brake(
        &self,
        request: Request<ReleaseBrakeRequest>,
    ) -> Answer<ReleaseBrakeResponse> {
        self.change("ReleaseBrake", &[&request.get_ref().plan_hash], &request).await?;
        let hold = self.script.health.remediation.holds.first().cloned();
        Ok(Response::new(ReleaseBrakeResponse { hold }))
    }

    async fn plan_release_brake(
        &self,
        request: Request<ReleaseBrakeRequest>,
    ) -> Answer<PlanResponse> {
        self.planned("PlanReleaseBrake", &request).await
    }

    async fn flag_issue(&self, request: Request<FlagIssueRequest>) -> Answer<FlagIssueResponse> {
        let FlagIssueRequest { issue, plan_hash } = request.get_ref();
        self.change("FlagIssue", &[issue, plan_hash], &request).await?;
        Ok(Response::new(self.script.health.flagged.clone()))
    }

    async fn plan_flag_issue(&self, request: Request<FlagIssueRequest>) -> Answer<PlanResponse> {
        self.planned("PlanFlagIssue", &request).await
    }

    async fn ack_issue(&self, request: Request<AckIssueRequest>) -> Answer<AckIssueResponse> {
        let AckIssueRequest { issue, plan_hash } = request.get_ref();
        self.change("AckIssue", &[issue, plan_hash], &request).await?;
        Ok(Response::new(AckIssueResponse { issue: self.script.health.explained.issue.clone() }))
    }

    async fn plan_ack_issue(&self, request: Request<AckIssueRequest>) -> Answer<PlanResponse> {
        self.planned("PlanAckIssue", &request).await
    }

    async fn resume_issue(
        &self,
        request: Request<ResumeIssueRequest>,
    ) -> Answer<ResumeIssueResponse> {
        let ResumeIssueRequest { issue, plan_hash } = request.get_ref();
        self.change("ResumeIssue", &[issue, plan_hash], &request).await?;
        Ok(Response::new(ResumeIssueResponse { issue: self.script.health.explained.issue.clone() }))
    }

    async fn plan_resume_issue(
        &self,
        request: Request<ResumeIssueRequest>,
    ) -> Answer<PlanResponse> {
        self.planned("PlanResumeIssue", &request).await
    }

    async fn run_action(&self, request: Request<RunActionRequest>) -> Answer<RunActionResponse> {
        let RunActionRequest { action, check, plan_hash } = request.get_ref();
        self.change("RunAction", &[action, check, plan_hash], &request).await?;
        Ok(Response::new(RunActionResponse { run: started() }))
    }

    async fn plan_run_action(&self, request: Request<RunActionRequest>) -> Answer<PlanResponse> {
        self.planned("PlanRunAction", &request).await
    }

    async fn run_action_despite_trades(
        &self,
        request: Request<RunActionRequest>,
    ) -> Answer<RunActionResponse> {
        let RunActionRequest { action, check, plan_hash } = request.get_ref();
        self.change("RunActionDespiteTrades", &[action, check, plan_hash], &request).await?;
        Ok(Response::new(RunActionResponse { run: started() }))
    }

    async fn plan_run_action_despite_trades(
        &self,
        request: Request<RunActionRequest>,
    ) -> Answer<PlanResponse> {
        self.planned("PlanRunActionDespiteTrades", &request).await
    }
}
