//! `cert verify`, `cert history`, `cert budget`.

use genesis_client::v1::{
    CertificateBudget, CertificateCheck, CertificateEvent, GetCertificateBudgetRequest,
    ListCertificateHistoryRequest, Truth, VerifiedCertificate, VerifyCertificatesRequest,
};

use super::super::db_items;
use super::list::EMPTY;
use crate::connect::Session;
use crate::exit::{Exit, Halt};
use crate::format;
use crate::render::{Answer, Cell, View};

const CHECK_COLUMNS: &[&str] = &["NAME", "ITEM", "STATE", "EVIDENCE"];
const HISTORY_COLUMNS: &[&str] = &["AT", "NAME", "WHAT", "CA", "GEN", "ACTOR", "DETAIL"];
const BUDGET_COLUMNS: &[&str] =
    &["NAME", "CA", "LIMIT", "SUBJECT", "USED", "ALLOWED", "WITHIN", "ONE MORE"];

/// What happened that somebody should look at.
const BAD: [&str; 11] = [
    "barred",
    "compromised",
    "deploy-failed",
    "failed",
    "order-ended",
    "rate-limited",
    "revoke-failed",
    "revoked",
    "self-signed",
    "unauthorized",
    "unusable",
];

pub(super) async fn verify(session: &Session<'_>, domain: &str) -> Result<Exit, Halt> {
    let request = &VerifyCertificatesRequest { domain: domain.to_owned() };
    session
        .each_in(CHECK_COLUMNS, |client| async move {
            let bar = session.bar("verifying");
            let verified = client
                .call(request.clone(), |c, r| async move {
                    c.certificates().verify_certificates(r).await
                })
                .await?;
            drop(bar);
            let json = session.json("VerifyCertificatesResponse", &verified)?;
            let certificates = &verified.certificates;
            let view = View {
                lead: certificates.iter().map(verdict).collect(),
                columns: CHECK_COLUMNS,
                rows: certificates.iter().flat_map(check_rows).collect(),
                empty: if certificates.is_empty() { EMPTY } else { "" },
                ..View::default()
            };
            let exit = db_items::exit(certificates.iter().flat_map(truths));
            Ok(Answer::new(json, view).exit(exit))
        })
        .await
}

/// Those of the items, and what the agent makes of them: neither is better than the other.
fn truths(certificate: &VerifiedCertificate) -> impl Iterator<Item = Truth> {
    certificate.checks.iter().map(CertificateCheck::truth).chain([certificate.truth()])
}

/// Such as "api: PASS (9 items: 9 PASS)".
fn verdict(certificate: &VerifiedCertificate) -> String {
    let items: Vec<_> = certificate.checks.iter().map(CertificateCheck::truth).collect();
    let tally = db_items::tally_of(&items);
    format!("{}: {} ({tally})", certificate.name, format::truth(certificate.truth()))
}

/// A row for each item, what fails first.
fn check_rows(certificate: &VerifiedCertificate) -> Vec<Vec<Cell>> {
    let rank = |truth: Truth| match truth {
        Truth::Fail => 0,
        Truth::Unknown | Truth::Unspecified => 1,
        Truth::Pass => 2,
    };
    let mut checks: Vec<_> = certificate.checks.iter().collect();
    checks.sort_by_key(|check| rank(check.truth()));
    let row = |check: &CertificateCheck| {
        vec![
            Cell::from(certificate.name.as_str()),
            Cell::from(check.item.as_str()),
            Cell::truth(check.truth(), false),
            Cell::from(check.evidence.as_str()),
        ]
    };
    checks.into_iter().map(row).collect()
}

pub(super) async fn history(session: &Session<'_>, domain: &str, limit: u32) -> Result<Exit, Halt> {
    let request = &ListCertificateHistoryRequest { domain: domain.to_owned(), limit };
    session
        .each_in(HISTORY_COLUMNS, |client| async move {
            let history = client
                .call(request.clone(), |c, r| async move {
                    c.certificates().list_certificate_history(r).await
                })
                .await?;
            let json = session.json("ListCertificateHistoryResponse", &history)?;
            let view = View {
                columns: HISTORY_COLUMNS,
                rows: history.events.iter().map(event_row).collect(),
                empty: "nothing happened to any certificate yet",
                ..View::default()
            };
            Ok(Answer::new(json, view))
        })
        .await
}

fn event_row(event: &CertificateEvent) -> Vec<Cell> {
    let bad = BAD.contains(&event.kind.as_str());
    let kind = event.kind.as_str();
    let generation = match event.generation {
        0 => format::NONE.to_owned(),
        number => number.to_string(),
    };
    vec![
        Cell::from(format::time(event.at.as_ref())),
        Cell::from(event.name.as_str()),
        if bad { Cell::alert(kind, true) } else { Cell::from(kind) },
        Cell::from(format::or_none(&event.ca)),
        Cell::number(generation),
        Cell::from(format::or_none(&event.actor)),
        Cell::from(event.detail.as_str()),
    ]
}

pub(super) async fn budget(session: &Session<'_>, domain: &str) -> Result<Exit, Halt> {
    let request = &GetCertificateBudgetRequest { domain: domain.to_owned() };
    session
        .each_in(BUDGET_COLUMNS, |client| async move {
            let budget = client
                .call(request.clone(), |c, r| async move {
                    c.certificates().get_certificate_budget(r).await
                })
                .await?;
            let json = session.json("GetCertificateBudgetResponse", &budget)?;
            let view = View {
                columns: BUDGET_COLUMNS,
                rows: budget.budgets.iter().map(budget_row).collect(),
                empty: "no CA limits anything that is known here",
                ..View::default()
            };
            Ok(Answer::new(json, view))
        })
        .await
}

fn budget_row(budget: &CertificateBudget) -> Vec<Cell> {
    let next = match &budget.next_at {
        None => Cell::alert("now", false),
        Some(at) => Cell::alert(format!("at {}", format::time(Some(at))), true),
    };
    vec![
        Cell::from(format::or_none(&budget.name)),
        Cell::from(format::or_none(&budget.ca)),
        Cell::from(budget.limit.as_str()),
        Cell::from(format::or_none(&budget.subject)),
        Cell::number(format::count(budget.used.into())),
        Cell::number(format::count(budget.allowed.into())),
        Cell::number(format::proto_duration(budget.window.as_ref())),
        next,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_wrong_stands_out_in_the_history() {
        let shown = |kind: &str| {
            let event = CertificateEvent { kind: kind.to_owned(), ..CertificateEvent::default() };
            format!("{:?}", event_row(&event)[2])
        };
        for kind in
            ["failed", "self-signed", "unusable", "unauthorized", "deploy-failed", "revoke-failed"]
        {
            assert_eq!(shown(kind), format!("{:?}", Cell::alert(kind, true)));
        }
        for kind in ["ordered", "issued", "deployed", "revoked-at-ca", "renewal-window"] {
            assert_eq!(shown(kind), format!("{:?}", Cell::from(kind)));
        }
    }
}
