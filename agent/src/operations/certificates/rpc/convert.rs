//! Records and views as the contract has them.

use genesis_proto::v1;
use genesis_storage::{
    CertificateEventRecord, CertificateOrigin, CertificateTrouble, GenerationRecord,
};
use jiff::SignedDuration;

use super::super::budget::Used;
use super::super::deploy::Deployed;
use super::super::verify::{Truth, Verified};
use super::super::view::{Life, View};
use crate::server::convert::{duration, maybe, time};

pub(super) fn life(life: Life) -> i32 {
    use v1::CertificateState::*;
    let state = match life {
        Life::Absent => Absent,
        Life::Ordering => Ordering,
        Life::Staged => Staged,
        Life::Deployed => Deployed,
        Life::Proven => Proven,
        Life::Due => Due,
        Life::Backoff => Backoff,
        Life::SelfSigned => DegradedSelfSigned,
    };
    state.into()
}

pub(super) fn trouble(trouble: CertificateTrouble) -> i32 {
    use v1::CertificateTrouble::*;
    let trouble = match trouble {
        CertificateTrouble::RateLimited => RateLimited,
        CertificateTrouble::Authorization => Authorization,
        CertificateTrouble::Server => Server,
        CertificateTrouble::Policy => Policy,
        CertificateTrouble::Local => Local,
        CertificateTrouble::Clock => Clock,
    };
    trouble.into()
}

pub(super) fn seen(seen: Option<bool>) -> i32 {
    let truth = match seen {
        Some(true) => v1::Truth::Pass,
        Some(false) => v1::Truth::Fail,
        None => v1::Truth::Unknown,
    };
    truth.into()
}

pub(super) fn truth(truth: Truth) -> i32 {
    let truth = match truth {
        Truth::Pass => v1::Truth::Pass,
        Truth::Unknown => v1::Truth::Unknown,
        Truth::Fail => v1::Truth::Fail,
    };
    truth.into()
}

pub(super) fn span(span: SignedDuration) -> prost_types::Duration {
    prost_types::Duration { seconds: span.as_secs(), nanos: 0 }
}

pub(super) fn generation(
    record: &GenerationRecord,
    current: bool,
    usable: Result<(), String>,
) -> v1::CertificateGeneration {
    let origin = match record.origin {
        CertificateOrigin::Acme => v1::CertificateOrigin::Acme,
        CertificateOrigin::Imported => v1::CertificateOrigin::Imported,
        CertificateOrigin::Backup => v1::CertificateOrigin::Backup,
        CertificateOrigin::SelfSigned => v1::CertificateOrigin::SelfSigned,
    };
    v1::CertificateGeneration {
        number: record.number,
        origin: origin.into(),
        ca: record.ca.clone(),
        identifiers: record.identifiers.clone(),
        serial: record.serial.clone(),
        fingerprint: record.fingerprint.clone(),
        issuer: record.issuer.clone(),
        not_before: Some(time(record.not_before)),
        not_after: Some(time(record.not_after)),
        created_at: Some(time(record.created_at)),
        proven_at: maybe(record.proven_at),
        current,
        usable: usable.is_ok(),
        unusable_why: usable.err().unwrap_or_default(),
        compromised_at: maybe(record.compromised_at),
        revoked_at: maybe(record.revoked_at),
    }
}

pub(super) fn certificate(view: View) -> v1::Certificate {
    let View { certificate, standing, usable, due, left, served, run, held, life: state, summary } =
        view;
    let record = &standing.record;
    let mut usable = usable.into_iter();
    let (mut current, mut earlier) = (None, Vec::new());
    for one in &standing.generations {
        let may = usable.next().unwrap_or(Ok(()));
        match one.number == record.generation {
            true => current = Some(generation(one, true, may)),
            false => earlier.push(generation(one, false, may)),
        }
    }
    let backup =
        standing.backup.as_ref().map(|one| generation(one, false, usable.next().unwrap_or(Ok(()))));
    let in_force = standing.current();
    let renewal =
        record.renewal.as_ref().filter(|_| due.by_ca).map(|renewal| renewal.explanation.clone());
    let backoff = record.backoff.as_ref();
    let evidence = match &served {
        Some(served) => served.evidence(in_force),
        None if certificate.probe.is_some() => "it was not looked at yet".to_owned(),
        None => "nothing is configured by which to see what is served".to_owned(),
    };
    v1::Certificate {
        state: life(state),
        summary,
        current,
        earlier,
        backup,
        left: left.map(span),
        due_at: Some(time(due.at)),
        due_by_ca: due.by_ca,
        due_explanation: renewal.unwrap_or_default(),
        held_until: held.and_then(maybe),
        trouble: backoff.map_or(0, |it| trouble(it.trouble)),
        last_error: backoff.map(|it| it.error.clone()).unwrap_or_default(),
        last_attempt_at: maybe(backoff.map(|it| it.at).or(record.attempted_at)),
        failures: backoff.map_or(0, |it| it.failures),
        pinned_at: maybe(record.pin.as_ref().map(|pin| pin.at)),
        pinned_by: record.pin.as_ref().map(|pin| pin.by.clone()).unwrap_or_default(),
        challenge: certificate.challenge().to_owned(),
        deployments: certificate
            .deployments
            .iter()
            .map(|copy| v1::CertificateDeployment {
                content: copy.content.name().to_owned(),
                path: copy.path.display().to_string(),
            })
            .collect(),
        probe: certificate.probe.as_ref().map(|probe| probe.address.clone()).unwrap_or_default(),
        served: seen(served.as_ref().and_then(|served| served.truth(in_force))),
        served_evidence: evidence,
        diagnosis: backoff
            .iter()
            .flat_map(|it| &it.diagnosis)
            .map(|(code, subject, message)| v1::Finding {
                code: code.clone(),
                subject: subject.clone(),
                message: message.clone(),
            })
            .collect(),
        run_id: run.unwrap_or_default(),
        self_signed_since: maybe(record.self_signed_since.as_ref().map(|at| at.wall)),
        name: certificate.name,
        domains: certificate.identifiers,
        cas: certificate.cas,
    }
}

pub(super) fn verified(verified: Verified) -> v1::VerifiedCertificate {
    v1::VerifiedCertificate {
        truth: truth(verified.truth()),
        checks: verified
            .items
            .into_iter()
            .map(|it| v1::CertificateCheck {
                item: it.item.to_owned(),
                truth: truth(it.truth),
                evidence: it.evidence,
            })
            .collect(),
        name: verified.name,
    }
}

pub(super) fn event(record: CertificateEventRecord) -> v1::CertificateEvent {
    v1::CertificateEvent {
        at: Some(time(record.at)),
        name: record.name,
        kind: record.kind,
        ca: record.ca,
        generation: record.generation,
        detail: record.detail,
        actor: record.actor,
    }
}

pub(super) fn budget((name, ca, used): (String, String, Used)) -> v1::CertificateBudget {
    v1::CertificateBudget {
        name,
        ca,
        limit: used.limit.to_owned(),
        subject: used.subject,
        used: used.used,
        allowed: used.allowed,
        window: Some(duration(used.window)),
        next_at: maybe(used.next_at),
    }
}

pub(super) fn served_of(deployed: &Deployed) -> (i32, String) {
    (seen(deployed.seen), deployed.evidence.clone())
}
