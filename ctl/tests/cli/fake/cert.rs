//! What the fake agent knows of certificates.

use genesis_client::v1::certificate_service_server::CertificateService;
use genesis_client::v1::*;
use tonic::{Request, Response};

use super::{Answer, Inner, started};

/// What it answers about certificates.
#[derive(Default)]
pub(crate) struct Certificates {
    pub(crate) listed: ListCertificatesResponse,
    pub(crate) verified: VerifyCertificatesResponse,
    pub(crate) events: Vec<CertificateEvent>,
    pub(crate) budgets: Vec<CertificateBudget>,
    /// When it is due, if not now.
    pub(crate) due_at: Option<prost_types::Timestamp>,
    /// A renewal goes on already.
    pub(crate) attached: bool,
    /// What is found of what was put into service.
    pub(crate) served: Truth,
    /// Nothing was pinned.
    pub(crate) unpinned: bool,
    /// Nothing replaces what is compromised.
    pub(crate) irreplaceable: bool,
    /// Whether what is compromised is revoked.
    pub(crate) revoked: Truth,
}

/// Zero is none.
fn numbered(number: u32) -> String {
    if number == 0 { String::new() } else { number.to_string() }
}

#[tonic::async_trait]
impl CertificateService for Inner {
    async fn list_certificates(
        &self,
        request: Request<ListCertificatesRequest>,
    ) -> Answer<ListCertificatesResponse> {
        self.called("ListCertificates", &request.get_ref().domain, &request).await?;
        Ok(Response::new(self.script.certificates.listed.clone()))
    }

    async fn renew_certificate(
        &self,
        request: Request<RenewCertificateRequest>,
    ) -> Answer<RenewCertificateResponse> {
        let RenewCertificateRequest { domain, force, plan_hash } = request.get_ref();
        let force = if *force { "force" } else { "" };
        self.change("RenewCertificate", &[domain, force, plan_hash], &request).await?;
        let Certificates { due_at, attached, .. } = &self.script.certificates;
        let run = if due_at.is_some() { None } else { started() };
        let why = if due_at.is_some() { "a third of its life is left then" } else { "" };
        Ok(Response::new(RenewCertificateResponse {
            name: "api".into(),
            run_id: run.map(|run| run.run_id).unwrap_or_default(),
            attached: *attached,
            due_at: *due_at,
            why: why.into(),
        }))
    }

    async fn plan_renew_certificate(
        &self,
        request: Request<RenewCertificateRequest>,
    ) -> Answer<PlanResponse> {
        self.planned("PlanRenewCertificate", &request).await
    }

    async fn verify_certificates(
        &self,
        request: Request<VerifyCertificatesRequest>,
    ) -> Answer<VerifyCertificatesResponse> {
        self.called("VerifyCertificates", &request.get_ref().domain, &request).await?;
        Ok(Response::new(self.script.certificates.verified.clone()))
    }

    async fn rollback_certificate(
        &self,
        request: Request<RollbackCertificateRequest>,
    ) -> Answer<RollbackCertificateResponse> {
        let RollbackCertificateRequest { domain, generation, plan_hash } = request.get_ref();
        let parts = [domain, &*numbered(*generation), plan_hash];
        self.change("RollbackCertificate", &parts, &request).await?;
        Ok(Response::new(RollbackCertificateResponse {
            name: "api".into(),
            from: 4,
            to: if *generation == 0 { 3 } else { *generation },
            served: self.script.certificates.served.into(),
            evidence: "leaf 5f3a".into(),
        }))
    }

    async fn plan_rollback_certificate(
        &self,
        request: Request<RollbackCertificateRequest>,
    ) -> Answer<PlanResponse> {
        self.planned("PlanRollbackCertificate", &request).await
    }

    async fn list_certificate_history(
        &self,
        request: Request<ListCertificateHistoryRequest>,
    ) -> Answer<ListCertificateHistoryResponse> {
        let ListCertificateHistoryRequest { domain, limit } = request.get_ref();
        let noted = format!("{domain} {limit}");
        self.called("ListCertificateHistory", noted.trim(), &request).await?;
        let events = self.script.certificates.events.clone();
        Ok(Response::new(ListCertificateHistoryResponse { events }))
    }

    async fn get_certificate_budget(
        &self,
        request: Request<GetCertificateBudgetRequest>,
    ) -> Answer<GetCertificateBudgetResponse> {
        self.called("GetCertificateBudget", &request.get_ref().domain, &request).await?;
        let budgets = self.script.certificates.budgets.clone();
        Ok(Response::new(GetCertificateBudgetResponse { budgets }))
    }

    async fn install_backup_certificate(
        &self,
        request: Request<InstallBackupCertificateRequest>,
    ) -> Answer<InstallBackupCertificateResponse> {
        let asked = request.get_ref();
        // How much came, and not what.
        let sizes = format!("{}+{}", asked.fullchain.len(), asked.key.len());
        let parts = [&*asked.domain, &sizes, &asked.plan_hash];
        self.change("InstallBackupCertificate", &parts, &request).await?;
        let backup = CertificateGeneration {
            identifiers: vec!["api.example.com".into()],
            issuer: "CN=Other CA".into(),
            not_after: Some(prost_types::Timestamp { seconds: 90_000, nanos: 0 }),
            ..Default::default()
        };
        Ok(Response::new(InstallBackupCertificateResponse {
            name: "api".into(),
            backup: Some(backup),
        }))
    }

    async fn plan_install_backup_certificate(
        &self,
        request: Request<InstallBackupCertificateRequest>,
    ) -> Answer<PlanResponse> {
        self.planned("PlanInstallBackupCertificate", &request).await
    }

    async fn import_certificate(
        &self,
        request: Request<ImportCertificateRequest>,
    ) -> Answer<ImportCertificateResponse> {
        let ImportCertificateRequest { domain, folder, plan_hash, earlier_end_allowed } =
            request.get_ref();
        let earlier = if *earlier_end_allowed { "earlier" } else { "" };
        self.change("ImportCertificate", &[domain, folder, earlier, plan_hash], &request).await?;
        Ok(Response::new(ImportCertificateResponse {
            name: "api".into(),
            generation: 5,
            served: self.script.certificates.served.into(),
            evidence: "leaf 5f3a".into(),
        }))
    }

    async fn plan_import_certificate(
        &self,
        request: Request<ImportCertificateRequest>,
    ) -> Answer<PlanResponse> {
        self.planned("PlanImportCertificate", &request).await
    }

    async fn pin_certificate(
        &self,
        request: Request<PinCertificateRequest>,
    ) -> Answer<PinCertificateResponse> {
        let PinCertificateRequest { domain, plan_hash } = request.get_ref();
        self.change("PinCertificate", &[domain, plan_hash], &request).await?;
        Ok(Response::new(PinCertificateResponse { name: "api".into(), generation: 4 }))
    }

    async fn plan_pin_certificate(
        &self,
        request: Request<PinCertificateRequest>,
    ) -> Answer<PlanResponse> {
        self.planned("PlanPinCertificate", &request).await
    }

    async fn unpin_certificate(
        &self,
        request: Request<UnpinCertificateRequest>,
    ) -> Answer<UnpinCertificateResponse> {
        let UnpinCertificateRequest { domain, plan_hash } = request.get_ref();
        self.change("UnpinCertificate", &[domain, plan_hash], &request).await?;
        let changed = !self.script.certificates.unpinned;
        Ok(Response::new(UnpinCertificateResponse { name: "api".into(), changed }))
    }

    async fn plan_unpin_certificate(
        &self,
        request: Request<UnpinCertificateRequest>,
    ) -> Answer<PlanResponse> {
        self.planned("PlanUnpinCertificate", &request).await
    }

    async fn mark_certificate_compromised(
        &self,
        request: Request<MarkCertificateCompromisedRequest>,
    ) -> Answer<MarkCertificateCompromisedResponse> {
        let MarkCertificateCompromisedRequest { domain, generation, plan_hash } = request.get_ref();
        let parts = [domain, &*numbered(*generation), plan_hash];
        self.change("MarkCertificateCompromised", &parts, &request).await?;
        let irreplaceable = self.script.certificates.irreplaceable;
        let run = if irreplaceable { None } else { started() };
        Ok(Response::new(MarkCertificateCompromisedResponse {
            name: "api".into(),
            generation: if *generation == 0 { 4 } else { *generation },
            run_id: run.map(|run| run.run_id).unwrap_or_default(),
            detail: "generation 3 is in service".into(),
            revoked: self.script.certificates.revoked.into(),
        }))
    }

    async fn plan_mark_certificate_compromised(
        &self,
        request: Request<MarkCertificateCompromisedRequest>,
    ) -> Answer<PlanResponse> {
        self.planned("PlanMarkCertificateCompromised", &request).await
    }
}
