//! `cert list`: a row for each certificate, and what of it is wrong.

use std::time::Duration;

use genesis_client::v1::{
    Certificate, CertificateState, Condition, ListCertificatesRequest, ListCertificatesResponse,
    Truth,
};
use genesis_client::{Client, Error};

use crate::connect::Session;
use crate::exit::{Exit, Halt};
use crate::format;
use crate::render::{Answer, Cell, View};

pub(in crate::commands) const COLUMNS: &[&str] =
    &["NAME", "DOMAINS", "STATE", "SERVED", "LEFT", "GEN", "CA", "DUE", "NOTE"];
const COLUMNS_LONG: &[&str] = &[
    "NAME", "DOMAINS", "STATE", "SERVED", "LEFT", "ENDS", "GEN", "CA", "ISSUER", "SERIAL", "DUE",
    "PROBE", "NOTE",
];

pub(in crate::commands) const EMPTY: &str = "no certificates are configured";

/// With less time left than this, a certificate that can't be renewed is a finding.
const LITTLE_LEFT: i64 = 7 * 24 * 3600;

pub(super) async fn list(session: &Session<'_>, domain: &str) -> Result<Exit, Halt> {
    let more = session.global.verbose;
    let columns = if more { COLUMNS_LONG } else { COLUMNS };
    session
        .each_in(columns, |client| async move {
            let list = ask(&client, domain).await?;
            let json = session.json("ListCertificatesResponse", &list)?;
            // Between the rows of several nodes only if it is asked for.
            let tail = (more || !session.many()).then(|| next_check(&list)).flatten();
            let view = View {
                columns,
                rows: list.certificates.iter().map(|one| row(one, more)).collect(),
                tail: tail.into_iter().collect(),
                empty: EMPTY,
                ..View::default()
            };
            Ok(Answer::new(json, view).exit(exit(&list)))
        })
        .await
}

pub(in crate::commands) async fn ask(
    client: &Client,
    domain: &str,
) -> Result<ListCertificatesResponse, Error> {
    let request = ListCertificatesRequest { domain: domain.to_owned() };
    client.call(request, |c, r| async move { c.certificates().list_certificates(r).await }).await
}

/// When all of them are looked at the next time.
pub(in crate::commands) fn next_check(list: &ListCertificatesResponse) -> Option<String> {
    let at = list.next_check_at.as_ref().filter(|_| !list.certificates.is_empty())?;
    let late = match &list.splay {
        Some(splay) if splay.seconds > 0 => {
            format!(", {} after its schedule", format::proto_duration(Some(splay)))
        }
        _ => String::new(),
    };
    Some(format!("next check at {}{late}", format::time(Some(at))))
}

/// The code of the certificates: unknown beats what is wrong, and that beats a pass.
pub(super) fn exit(list: &ListCertificatesResponse) -> Exit {
    Exit::of_conditions(list.certificates.iter().map(condition))
}

/// That a probe could not look is not yet a finding: `cert verify` is for that.
fn condition(certificate: &Certificate) -> Condition {
    let state = certificate.state();
    let seconds = certificate.left.as_ref().map(|left| left.seconds);
    let little = || seconds.is_none_or(|seconds| seconds < LITTLE_LEFT);
    match &certificate.current {
        // An agent of another version, which knows of something else.
        _ if state == CertificateState::Unspecified => Condition::Unknown,
        None => Condition::Critical,
        Some(current) if current.compromised_at.is_some() || current.revoked_at.is_some() => {
            Condition::Critical
        }
        _ if state == CertificateState::DegradedSelfSigned => Condition::Critical,
        _ if certificate.served() == Truth::Fail => Condition::Critical,
        _ if certificate.left.as_ref().is_some_and(has_ended) => Condition::Critical,
        _ if state == CertificateState::Backoff && little() => Condition::Critical,
        // In force, and nobody says until when.
        _ if seconds.is_none() => Condition::Unknown,
        _ => Condition::Ok,
    }
}

fn has_ended(left: &prost_types::Duration) -> bool {
    left.seconds < 0 || (left.seconds == 0 && left.nanos <= 0)
}

/// Such as "29d 4h", "expired 3h ago".
pub(super) fn left(left: Option<&prost_types::Duration>) -> String {
    let Some(left) = left else { return format::NONE.to_owned() };
    let length = format::duration(Duration::from_secs(left.seconds.unsigned_abs()));
    match (has_ended(left), left.seconds) {
        (true, 0) => "expired now".to_owned(),
        (true, _) => format!("expired {length} ago"),
        (false, 0) => "less than 1s".to_owned(),
        (false, _) => length,
    }
}

/// Whether what is served is what is on the disk; nothing where nobody looks.
pub(super) fn served(certificate: &Certificate) -> Cell {
    match (certificate.served(), certificate.probe.as_str()) {
        (Truth::Unknown | Truth::Unspecified, "") => Cell::from(format::NONE),
        (served, _) => Cell::truth(served, false),
    }
}

pub(in crate::commands) fn row(certificate: &Certificate, verbose: bool) -> Vec<Cell> {
    let current = certificate.current.as_ref();
    let number = current.map_or_else(|| format::NONE.to_owned(), |one| one.number.to_string());
    let of = |text: Option<&str>| Cell::from(format::or_none(text.unwrap_or_default()));
    let time_left = left(certificate.left.as_ref());
    let ended = certificate.left.as_ref().is_some_and(has_ended);
    let mut cells = vec![
        Cell::from(certificate.name.as_str()),
        Cell::from(format::or_none(&certificate.domains.join(", "))),
        Cell::certificate_state(certificate.state()),
        served(certificate),
        if ended { Cell::alert(time_left, true) } else { Cell::number(time_left) },
    ];
    if verbose {
        cells.push(Cell::from(format::time(current.and_then(|one| one.not_after.as_ref()))));
    }
    cells.push(Cell::number(number));
    // One that no CA of the configuration has issued, such as an imported one, has an issuer all the same.
    let ca = current.map(|one| if one.ca.is_empty() { &*one.issuer } else { &*one.ca });
    cells.push(of(ca));
    if verbose {
        cells.push(of(current.map(|one| &*one.issuer)));
        cells.push(of(current.map(|one| &*one.serial)));
    }
    cells.push(Cell::from(format::time(certificate.due_at.as_ref())));
    if verbose {
        cells.push(of(Some(&certificate.probe)));
    }
    cells.push(Cell::from(note(certificate)));
    cells
}

/// What is wrong, what holds it where it is, and what goes on.
fn note(certificate: &Certificate) -> String {
    let mut notes = Vec::new();
    if certificate.served() == Truth::Fail {
        let evidence = format::or_none(&certificate.served_evidence);
        notes.push(format!("another one is served: {evidence}"));
    }
    if let Some(current) = &certificate.current {
        let marks = [
            (current.compromised_at, "its key is compromised"),
            (current.revoked_at, "it is revoked"),
        ];
        notes.extend(marks.iter().filter(|(at, _)| at.is_some()).map(|(_, said)| (*said).into()));
    }
    if certificate.pinned_at.is_some() {
        notes.push("pinned".to_owned());
    }
    notes.extend(Some(certificate.summary.clone()).filter(|summary| !summary.is_empty()));
    if !certificate.run_id.is_empty() {
        notes.push(format!("run {} goes on", certificate.run_id));
    }
    notes.join("; ")
}
