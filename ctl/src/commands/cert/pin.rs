//! `cert pin`, `cert unpin`, `cert mark`.

use genesis_client::v1::{
    MarkCertificateCompromisedRequest, MarkCertificateCompromisedResponse, PinCertificateRequest,
    Truth, UnpinCertificateRequest,
};
use genesis_client::{Error, Kind};

use super::{SERVICE, Which};
use crate::confirm::{Consent, agreed, consent, reason};
use crate::connect::Session;
use crate::exit::{Exit, Halt};
use crate::plan;
use crate::render::{Answer, View};

pub(super) async fn pin(session: &Session<'_>, which: &Which) -> Result<Exit, Halt> {
    let request =
        PinCertificateRequest { domain: which.domain.clone(), plan_hash: session.plan_hash() };
    if session.global.plan {
        return plan::ask!(session, request, certificates, plan_pin_certificate);
    }
    consent(session, SERVICE, "PinCertificate", &format!("pin {}", which.named()))?;
    let request = &request;
    session
        .each(|client| async move {
            let response = client
                .call(request.clone(), |c, r| async move {
                    c.certificates().pin_certificate(r).await
                })
                .await?;
            let json = session.json("PinCertificateResponse", &response)?;
            let (name, generation) = (&response.name, response.generation);
            let line = format!(
                "{name} is pinned to generation {generation}, nothing is ordered: `genesisctl cert unpin --domain \
                 {name}` ends that"
            );
            Ok(Answer::new(json, View::line(line)))
        })
        .await
}

pub(super) async fn unpin(session: &Session<'_>, which: &Which) -> Result<Exit, Halt> {
    let request =
        UnpinCertificateRequest { domain: which.domain.clone(), plan_hash: session.plan_hash() };
    if session.global.plan {
        return plan::ask!(session, request, certificates, plan_unpin_certificate);
    }
    consent(session, SERVICE, "UnpinCertificate", &format!("unpin {}", which.named()))?;
    let request = &request;
    session
        .each(|client| async move {
            let response = client
                .call(
                    request.clone(),
                    |c, r| async move { c.certificates().unpin_certificate(r).await },
                )
                .await?;
            let json = session.json("UnpinCertificateResponse", &response)?;
            let name = &response.name;
            let line = match response.changed {
                true => format!("{name} is pinned no more: it is renewed when it is due"),
                false => format!("{name} was not pinned"),
            };
            Ok(Answer::new(json, View::line(line)))
        })
        .await
}

pub(super) async fn mark(
    session: &Session<'_>,
    which: &Which,
    generation: Option<u32>,
) -> Result<Exit, Halt> {
    let request = MarkCertificateCompromisedRequest {
        domain: which.domain.clone(),
        generation: generation.unwrap_or_default(),
        plan_hash: session.plan_hash(),
    };
    if session.global.plan {
        return plan::ask!(session, request, certificates, plan_mark_certificate_compromised);
    }
    if generation.is_some() {
        // The same number is another key on each of them.
        session.one_node("cert mark --generation")?;
    }
    reason(session, "cert mark", "how did others come to know its key?")?;
    let generation = match generation {
        Some(number) => format!("generation {number}"),
        None => "the generation in force".to_owned(),
    };
    let what = format!("mark {generation} of {} compromised", which.named());
    let consent = consent(session, SERVICE, "MarkCertificateCompromised", &what)?;
    let (request, generation) = (&request, &generation);
    session
        .each(|client| async move {
            let mut request = request.clone();
            if consent == Consent::Ask {
                let unsent = MarkCertificateCompromisedRequest {
                    plan_hash: String::new(),
                    ..request.clone()
                };
                let planned = client
                    .call(unsent, |c, r| async move {
                        c.certificates().plan_mark_certificate_compromised(r).await
                    })
                    .await?;
                let question = format!("Mark {generation} of {} compromised?", which.named());
                let plan = planned.plan.as_ref();
                request.plan_hash = agreed(session, plan, &question, "nothing was marked")?;
            }
            let response = client
                .call(request, |c, r| async move {
                    c.certificates().mark_certificate_compromised(r).await
                })
                .await?;
            let json = session.json("MarkCertificateCompromisedResponse", &response)?;
            Ok(decide(Answer::new(json, marked(&response)), &response))
        })
        .await
}

fn marked(response: &MarkCertificateCompromisedResponse) -> View {
    let MarkCertificateCompromisedResponse { name, generation, run_id, detail, .. } = response;
    let mut view = View::line(format!(
        "generation {generation} of {name} is marked compromised, and never comes into service again"
    ));
    if !detail.is_empty() {
        view.lead.push(detail.clone());
    }
    if !run_id.is_empty() {
        view.lead.push(format!(
            "run {run_id} orders another: `genesisctl run watch {run_id}` follows it"
        ));
    }
    view
}

/// The answer with what it means for it whether the certificate is revoked: until it is, whoever has its key can use it.
fn decide(answer: Answer, response: &MarkCertificateCompromisedResponse) -> Answer {
    let MarkCertificateCompromisedResponse { name, generation, detail, .. } = response;
    let error = match response.revoked() {
        Truth::Pass | Truth::Unspecified => return answer,
        Truth::Fail => Error::new(
            Kind::Internal,
            "INTERNAL",
            "CERTIFICATE_NOT_REVOKED",
            format!("{name}: generation {generation} is not revoked: {detail}"),
            "the daily check tries again; mark it again to have the CA asked at once",
        ),
        Truth::Unknown => Error::new(
            Kind::Incomplete,
            "UNKNOWN",
            "CERTIFICATE_REVOCATION_UNKNOWN",
            format!("{name}: whether generation {generation} is revoked is unknown: {detail}"),
            "have whoever ordered it revoke it",
        ),
    };
    answer.exit(Exit::of_error(&error)).error(error)
}
