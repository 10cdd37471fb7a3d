//! What puts another certificate into service: `cert renew`, `cert rollback`, `cert import`.

use genesis_client::v1::{
    ImportCertificateRequest, RenewCertificateRequest, RenewCertificateResponse,
    RollbackCertificateRequest, StartedRun, Truth,
};
use genesis_client::{Client, Error, Kind};

use super::super::run;
use super::{Renew, SERVICE, Which, list};
use crate::confirm::consent;
use crate::connect::Session;
use crate::exit::{Exit, Halt};
use crate::format;
use crate::plan;
use crate::render::{Answer, View};

pub(super) async fn renew(session: &Session<'_>, arguments: &Renew) -> Result<Exit, Halt> {
    let Renew { which, force, detach } = arguments;
    let request = RenewCertificateRequest {
        domain: which.domain.clone(),
        force: *force,
        plan_hash: session.plan_hash(),
    };
    if session.global.plan {
        return plan::ask!(session, request, certificates, plan_renew_certificate);
    }
    consent(session, SERVICE, "RenewCertificate", &format!("renew {}", which.named()))?;
    let request = &request;
    session
        .each(|client| async move {
            let response = client
                .call(
                    request.clone(),
                    |c, r| async move { c.certificates().renew_certificate(r).await },
                )
                .await?;
            let json = session.json("RenewCertificateResponse", &response)?;
            if response.run_id.is_empty() {
                return Ok(Answer::new(json, View::line(not_due(&response))));
            }
            let run = StartedRun { run_id: response.run_id, attached: response.attached };
            run::started(session, &client, Some(&run), json, *detach).await
        })
        .await
}

fn not_due(response: &RenewCertificateResponse) -> String {
    let due = match &response.due_at {
        Some(at) => format!("is due at {}", format::time(Some(at))),
        None => "is not due".to_owned(),
    };
    let why = match response.why.as_str() {
        "" => String::new(),
        why => format!(" ({why})"),
    };
    format!("{} {due}{why}, nothing was ordered: --force orders it now", response.name)
}

pub(super) async fn rollback(
    session: &Session<'_>,
    which: &Which,
    to: Option<u32>,
) -> Result<Exit, Halt> {
    let request = RollbackCertificateRequest {
        domain: which.domain.clone(),
        generation: to.unwrap_or_default(),
        plan_hash: session.plan_hash(),
    };
    if session.global.plan {
        return plan::ask!(session, request, certificates, plan_rollback_certificate);
    }
    consent(session, SERVICE, "RollbackCertificate", &format!("roll {} back", which.named()))?;
    let request = &request;
    session
        .each(|client| async move {
            let response = client
                .call(request.clone(), |c, r| async move {
                    c.certificates().rollback_certificate(r).await
                })
                .await?;
            let json = session.json("RollbackCertificateResponse", &response)?;
            let name = &response.name;
            let mut view = View::line(format!(
                "{name} went back from generation {} to {}, and is pinned there: `genesisctl cert unpin --domain \
                 {name}` ends that",
                response.from, response.to
            ));
            let served = Served::of(&client, name, response.served(), &response.evidence).await;
            view.lead.push(served.line());
            Ok(served.decide(Answer::new(json, view), name, response.to))
        })
        .await
}

pub(super) async fn import(
    session: &Session<'_>,
    which: &Which,
    (from, earlier_end_allowed): (&str, bool),
) -> Result<Exit, Halt> {
    if !from.starts_with('/') {
        return Err(Halt::Usage(format!(
            "--from {from} is no absolute path: name the folder as it is called on the agent's host, such as \
             /etc/letsencrypt/live/NAME"
        )));
    }
    let request = ImportCertificateRequest {
        domain: which.domain.clone(),
        folder: from.to_owned(),
        plan_hash: session.plan_hash(),
        earlier_end_allowed,
    };
    if session.global.plan {
        return plan::ask!(session, request, certificates, plan_import_certificate);
    }
    let what = format!("import {} from {from}", which.named());
    consent(session, SERVICE, "ImportCertificate", &what)?;
    let request = &request;
    session
        .each(|client| async move {
            let response = client
                .call(request.clone(), |c, r| async move {
                    c.certificates().import_certificate(r).await
                })
                .await?;
            let json = session.json("ImportCertificateResponse", &response)?;
            let (name, generation) = (&response.name, response.generation);
            let mut view = View::line(format!("{name} was imported as generation {generation}"));
            let served = Served::of(&client, name, response.served(), &response.evidence).await;
            view.lead.push(served.line());
            Ok(served.decide(Answer::new(json, view), name, generation))
        })
        .await
}

/// Whether what was put into service is seen to be served.
struct Served<'a> {
    truth: Truth,
    evidence: &'a str,
    /// Whether anybody is to look.
    probed: bool,
}

impl<'a> Served<'a> {
    async fn of(client: &Client, name: &str, truth: Truth, evidence: &'a str) -> Self {
        let probed = match truth {
            Truth::Pass | Truth::Fail => true,
            Truth::Unknown | Truth::Unspecified => has_probe(client, name).await,
        };
        Self { truth, evidence, probed }
    }

    fn line(&self) -> String {
        let evidence = match self.evidence {
            "" => String::new(),
            evidence => format!(": {evidence}"),
        };
        match self.probed {
            true => format!("served: {}{evidence}", format::truth(self.truth)),
            false => format!("served: nobody looks, since no probe is configured{evidence}"),
        }
    }

    /// The answer with what that means for it.
    fn decide(&self, answer: Answer, name: &str, generation: u32) -> Answer {
        let evidence = format::or_none(self.evidence);
        match (self.truth, self.probed) {
            (Truth::Pass, _) | (_, false) => answer,
            (Truth::Fail, true) => {
                let message = format!("{name}: not generation {generation} is served: {evidence}");
                let next = "see what is where with `genesisctl cert verify`, and have what serves it load it anew";
                let reason = "CERTIFICATE_NOT_SERVED";
                let error = Error::new(Kind::Internal, "INTERNAL", reason, message, next);
                answer.exit(Exit::of_error(&error)).error(error)
            }
            (Truth::Unknown | Truth::Unspecified, true) => {
                let message = format!(
                    "{name}: whether generation {generation} is served is unknown: {evidence}"
                );
                let next = "look again with `genesisctl cert verify`";
                let reason = "CERTIFICATE_UNPROVEN";
                let error = Error::new(Kind::Incomplete, "UNKNOWN", reason, message, next);
                answer.exit(Exit::of_error(&error)).error(error)
            }
        }
    }
}

/// Whether it is looked at what is served. Where that can't be told it counts as if it were.
async fn has_probe(client: &Client, name: &str) -> bool {
    let Ok(found) = list::ask(client, name).await else { return true };
    let mut named = found.certificates.iter().filter(|one| one.name == name);
    named.next().is_none_or(|one| !one.probe.is_empty())
}
