//! Parse, call, convert: certificates over gRPC.

use std::sync::Arc;

use genesis_proto::v1;
use genesis_proto::v1::certificate_service_server::CertificateService;
use tonic::{Request, Response, Status};

use super::verbs::Renewed;
use super::{Certificates, plan};
use crate::error::{Error, Result};
use crate::plan::limited;
use crate::server::caller::caller;
use crate::server::convert::{duration, maybe, planned, time};
use crate::server::status::to_status;

mod convert;

use convert::{budget, certificate, event, generation, served_of, truth, verified};

/// So many events are listed where nobody says how many.
const USUAL: usize = 50;
/// At most so many are listed.
const LIMIT: u32 = 1_000;

/// The service over the certificates.
pub struct Service(pub Arc<Certificates>);

fn listed(certificates: &Certificates, domain: &str) -> Result<v1::ListCertificatesResponse> {
    let views = certificates.list(domain)?;
    let (next, splay) = certificates.check_times();
    Ok(v1::ListCertificatesResponse {
        certificates: views.into_iter().map(certificate).collect(),
        next_check_at: maybe(next),
        splay: Some(duration(splay)),
    })
}

/// The answer of ListCertificates, for HTTP.
///
/// # Errors
/// `STORAGE_FAILED`.
pub fn status_response(certificates: &Certificates) -> Result<v1::ListCertificatesResponse> {
    listed(certificates, "")
}

/// What is wrong with the certificates, for the agent's page; `None` where nothing is.
///
/// # Errors
/// `STORAGE_FAILED`.
pub fn domain_status(certificates: &Certificates) -> Result<Option<v1::DomainStatus>> {
    let mut worst = v1::Condition::Ok;
    let findings: Vec<v1::Finding> = certificates
        .told()?
        .into_iter()
        .map(|told| {
            let bad = told.severity == crate::events::Severity::Critical;
            if bad {
                worst = v1::Condition::Critical;
            } else if worst == v1::Condition::Ok {
                worst = v1::Condition::Warn;
            }
            v1::Finding {
                code: match told.key.rsplit('/').next().unwrap_or_default() {
                    "clock" => "CLOCK_SUSPECT",
                    key if key.starts_with("self-signed") => "DEGRADED_SELF_SIGNED",
                    "not-served" => "CERTIFICATE_NOT_SERVED",
                    "failed" => "CERTIFICATE_NOT_RENEWED",
                    key if key.starts_with("not-revoked") => "CERTIFICATE_NOT_REVOKED",
                    _ => "CERTIFICATE_ENDS",
                }
                .to_owned(),
                subject: told.subject,
                message: format!("{}: {}", told.title, told.details.join("; ")),
            }
        })
        .collect();
    if findings.is_empty() {
        return Ok(None);
    }
    Ok(Some(v1::DomainStatus {
        domain: "certificates".into(),
        condition: worst.into(),
        summary: format!("{} thing(s) wrong with the certificates", findings.len()),
        findings,
    }))
}

/// Of a folder that can't be imported only whoever may import it hears why: else everybody could ask the agent, which reads
/// more than they do, what there is on the host.
fn in_general(error: Error) -> Error {
    match error.code {
        "CERTIFICATE_UNUSABLE" | "CERTIFICATE_UNTRUSTED" | "CERTIFICATE_ENDS_EARLIER" => {
            let message = "there is nothing in that folder that could be imported; an admin who plans it sees why";
            Error::refused("CERTIFICATE_UNUSABLE", message, Vec::new())
        }
        _ => error,
    }
}

#[tonic::async_trait]
impl CertificateService for Service {
    async fn list_certificates(
        &self,
        request: Request<v1::ListCertificatesRequest>,
    ) -> Result<Response<v1::ListCertificatesResponse>, Status> {
        listed(&self.0, &request.get_ref().domain).map(Response::new).map_err(to_status)
    }

    async fn renew_certificate(
        &self,
        request: Request<v1::RenewCertificateRequest>,
    ) -> Result<Response<v1::RenewCertificateResponse>, Status> {
        let who = caller(&request)?;
        let v1::RenewCertificateRequest { domain, force, plan_hash } = request.get_ref();
        let renewed = self.0.renew(domain, (*force, plan_hash), (who.identity, who.reason)).await;
        let (name, renewed) = renewed.map_err(to_status)?;
        Ok(Response::new(match renewed {
            Renewed::Run(started) => v1::RenewCertificateResponse {
                name,
                run_id: started.id,
                attached: started.attached,
                due_at: None,
                why: String::new(),
            },
            Renewed::NotDue { at, why } => v1::RenewCertificateResponse {
                name,
                run_id: String::new(),
                attached: false,
                due_at: Some(time(at)),
                why,
            },
        }))
    }

    async fn plan_renew_certificate(
        &self,
        request: Request<v1::RenewCertificateRequest>,
    ) -> Result<Response<v1::PlanResponse>, Status> {
        let v1::RenewCertificateRequest { domain, force, .. } = request.get_ref();
        planned(self.0.plan_renew(domain, *force))
    }

    async fn verify_certificates(
        &self,
        request: Request<v1::VerifyCertificatesRequest>,
    ) -> Result<Response<v1::VerifyCertificatesResponse>, Status> {
        let found = self.0.verify(&request.get_ref().domain).await.map_err(to_status)?;
        let certificates = found.into_iter().map(verified).collect();
        Ok(Response::new(v1::VerifyCertificatesResponse { certificates }))
    }

    async fn rollback_certificate(
        &self,
        request: Request<v1::RollbackCertificateRequest>,
    ) -> Result<Response<v1::RollbackCertificateResponse>, Status> {
        let who = caller(&request)?;
        let v1::RollbackCertificateRequest { domain, generation, plan_hash } = request.get_ref();
        let moved =
            self.0.roll_back(domain, (*generation, plan_hash), (who.identity, who.reason)).await;
        let moved = moved.map_err(to_status)?;
        let (served, evidence) = served_of(&moved.deployed);
        Ok(Response::new(v1::RollbackCertificateResponse {
            name: moved.name,
            from: moved.from,
            to: moved.to,
            served,
            evidence,
        }))
    }

    async fn plan_rollback_certificate(
        &self,
        request: Request<v1::RollbackCertificateRequest>,
    ) -> Result<Response<v1::PlanResponse>, Status> {
        let v1::RollbackCertificateRequest { domain, generation, .. } = request.get_ref();
        planned(self.0.plan_rollback(domain, *generation))
    }

    async fn list_certificate_history(
        &self,
        request: Request<v1::ListCertificateHistoryRequest>,
    ) -> Result<Response<v1::ListCertificateHistoryResponse>, Status> {
        let v1::ListCertificateHistoryRequest { domain, limit } = request.get_ref();
        let limit = limited(*limit, USUAL, LIMIT).map_err(to_status)?;
        let events = self.0.history(domain, limit).map_err(to_status)?;
        let events = events.into_iter().map(event).collect();
        Ok(Response::new(v1::ListCertificateHistoryResponse { events }))
    }

    async fn get_certificate_budget(
        &self,
        request: Request<v1::GetCertificateBudgetRequest>,
    ) -> Result<Response<v1::GetCertificateBudgetResponse>, Status> {
        let budgets = self.0.budget(&request.get_ref().domain).map_err(to_status)?;
        let budgets = budgets.into_iter().map(budget).collect();
        Ok(Response::new(v1::GetCertificateBudgetResponse { budgets }))
    }

    async fn install_backup_certificate(
        &self,
        request: Request<v1::InstallBackupCertificateRequest>,
    ) -> Result<Response<v1::InstallBackupCertificateResponse>, Status> {
        let who = caller(&request)?;
        let v1::InstallBackupCertificateRequest { domain, fullchain, key, plan_hash } =
            request.into_inner();
        let installed = self
            .0
            .install_backup(&domain, (fullchain, key, &plan_hash), (who.identity, who.reason))
            .await;
        let record = installed.map_err(to_status)?;
        let certificate = self.0.list(&record.name).map_err(to_status)?;
        let identifiers = certificate.first().map(|it| it.certificate.identifiers.clone());
        let usable = plan::usable(&record, &identifiers.unwrap_or_default(), record.created_at);
        Ok(Response::new(v1::InstallBackupCertificateResponse {
            name: record.name.clone(),
            backup: Some(generation(&record, false, usable)),
        }))
    }

    async fn plan_install_backup_certificate(
        &self,
        request: Request<v1::InstallBackupCertificateRequest>,
    ) -> Result<Response<v1::PlanResponse>, Status> {
        let v1::InstallBackupCertificateRequest { domain, fullchain, key, .. } = request.get_ref();
        planned(self.0.plan_install(domain, fullchain, key).await)
    }

    async fn import_certificate(
        &self,
        request: Request<v1::ImportCertificateRequest>,
    ) -> Result<Response<v1::ImportCertificateResponse>, Status> {
        let who = caller(&request)?;
        let v1::ImportCertificateRequest { domain, folder, plan_hash, earlier_end_allowed } =
            request.get_ref();
        let wanted = (folder.as_str(), *earlier_end_allowed, plan_hash.as_str());
        let moved = self.0.import(domain, wanted, (who.identity, who.reason)).await;
        let moved = moved.map_err(to_status)?;
        let (served, evidence) = served_of(&moved.deployed);
        Ok(Response::new(v1::ImportCertificateResponse {
            name: moved.name,
            generation: moved.to,
            served,
            evidence,
        }))
    }

    async fn plan_import_certificate(
        &self,
        request: Request<v1::ImportCertificateRequest>,
    ) -> Result<Response<v1::PlanResponse>, Status> {
        let v1::ImportCertificateRequest { domain, folder, earlier_end_allowed, .. } =
            request.get_ref();
        let may_know = caller(&request)?.role == Some(v1::Role::Admin);
        let plan = self.0.plan_import(domain, (folder, *earlier_end_allowed)).await;
        planned(plan.map_err(|error| if may_know { error } else { in_general(error) }))
    }

    async fn pin_certificate(
        &self,
        request: Request<v1::PinCertificateRequest>,
    ) -> Result<Response<v1::PinCertificateResponse>, Status> {
        let who = caller(&request)?;
        let v1::PinCertificateRequest { domain, plan_hash } = request.get_ref();
        let pinned = self.0.pin(domain, plan_hash, (who.identity, who.reason)).await;
        let (name, generation) = pinned.map_err(to_status)?;
        Ok(Response::new(v1::PinCertificateResponse { name, generation }))
    }

    async fn plan_pin_certificate(
        &self,
        request: Request<v1::PinCertificateRequest>,
    ) -> Result<Response<v1::PlanResponse>, Status> {
        planned(self.0.plan_pin(&request.get_ref().domain))
    }

    async fn unpin_certificate(
        &self,
        request: Request<v1::UnpinCertificateRequest>,
    ) -> Result<Response<v1::UnpinCertificateResponse>, Status> {
        let who = caller(&request)?;
        let v1::UnpinCertificateRequest { domain, plan_hash } = request.get_ref();
        let unpinned = self.0.unpin(domain, plan_hash, (who.identity, who.reason)).await;
        let (name, changed) = unpinned.map_err(to_status)?;
        Ok(Response::new(v1::UnpinCertificateResponse { name, changed }))
    }

    async fn plan_unpin_certificate(
        &self,
        request: Request<v1::UnpinCertificateRequest>,
    ) -> Result<Response<v1::PlanResponse>, Status> {
        planned(self.0.plan_unpin(&request.get_ref().domain))
    }

    async fn mark_certificate_compromised(
        &self,
        request: Request<v1::MarkCertificateCompromisedRequest>,
    ) -> Result<Response<v1::MarkCertificateCompromisedResponse>, Status> {
        let who = caller(&request)?;
        let v1::MarkCertificateCompromisedRequest { domain, generation, plan_hash } =
            request.get_ref();
        let marked =
            self.0.mark(domain, (*generation, plan_hash), (who.identity, who.reason)).await;
        let marked = marked.map_err(to_status)?;
        Ok(Response::new(v1::MarkCertificateCompromisedResponse {
            name: marked.name,
            generation: marked.number,
            run_id: marked.run.unwrap_or_default(),
            detail: marked.revocation.detail,
            revoked: marked.revocation.revoked.map(truth).unwrap_or_default(),
        }))
    }

    async fn plan_mark_certificate_compromised(
        &self,
        request: Request<v1::MarkCertificateCompromisedRequest>,
    ) -> Result<Response<v1::PlanResponse>, Status> {
        let v1::MarkCertificateCompromisedRequest { domain, generation, .. } = request.get_ref();
        planned(self.0.plan_mark(domain, *generation).map(|(_, _, plan)| plan))
    }
}
