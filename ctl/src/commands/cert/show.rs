//! `cert show`: all that is known of a certificate.

use genesis_client::v1::{
    Certificate, CertificateGeneration, CertificateOrigin, CertificateTrouble, Truth,
};

use super::list::{EMPTY, ask, exit, left, next_check};
use crate::connect::Session;
use crate::exit::{Exit, Halt};
use crate::format;
use crate::render::{Answer, Cell, Part, View, finding};

const GENERATION_COLUMNS: &[&str] =
    &["GEN", "PLACE", "ORIGIN", "CA", "BEGINS", "ENDS", "LAST SERVED", "USABLE"];
const GENERATION_COLUMNS_LONG: &[&str] = &[
    "GEN",
    "PLACE",
    "ORIGIN",
    "CA",
    "BEGINS",
    "ENDS",
    "LAST SERVED",
    "MADE",
    "IDENTIFIERS",
    "ISSUER",
    "SERIAL",
    "FINGERPRINT",
    "USABLE",
];
const DEPLOYMENT_COLUMNS: &[&str] = &["CONTENT", "PATH"];

pub(super) async fn show(session: &Session<'_>, domain: &str) -> Result<Exit, Halt> {
    let more = session.global.verbose;
    session
        .each(|client| async move {
            let list = ask(&client, domain).await?;
            let json = session.json("ListCertificatesResponse", &list)?;
            let parts = list.certificates.iter().flat_map(|one| parts(one, more));
            let lines = next_check(&list).into_iter().collect::<Vec<_>>();
            let checks = Some(Part { lines, ..Part::default() });
            let view = View {
                parts: parts.chain(checks).filter(has_something).collect(),
                empty: if list.certificates.is_empty() { EMPTY } else { "" },
                ..View::default()
            };
            Ok(Answer::new(json, view).exit(exit(&list)))
        })
        .await
}

fn has_something(part: &Part) -> bool {
    !(part.rows.is_empty() && part.lines.is_empty())
}

fn parts(certificate: &Certificate, verbose: bool) -> [Part; 4] {
    let about = |what: &str| format!("{}: {what}", certificate.name);
    let here = [(certificate.current.as_ref(), "in force")];
    let earlier = certificate.earlier.iter().map(|one| (Some(one), "earlier"));
    let backup = [(certificate.backup.as_ref(), "backup")];
    let all = here.into_iter().chain(earlier).chain(backup);
    let rows = all.filter_map(|(one, place)| Some(generation_row(one?, place, verbose)));
    let copy = |copy: &genesis_client::v1::CertificateDeployment| {
        vec![Cell::from(copy.content.as_str()), Cell::from(copy.path.as_str())]
    };
    [
        Part {
            title: certificate.name.clone(),
            lines: facts(certificate).iter().map(|fact| format!("  {fact}")).collect(),
            ..Part::default()
        },
        Part {
            title: about("what was found out about the failure"),
            lines: certificate.diagnosis.iter().map(|one| format!("  {}", finding(one))).collect(),
            ..Part::default()
        },
        Part {
            title: about("generations"),
            columns: if verbose { GENERATION_COLUMNS_LONG } else { GENERATION_COLUMNS },
            rows: rows.collect(),
            ..Part::default()
        },
        Part {
            title: about("deployed copies"),
            columns: DEPLOYMENT_COLUMNS,
            rows: certificate.deployments.iter().map(copy).collect(),
            ..Part::default()
        },
    ]
}

/// A line for each thing that there is to be said.
fn facts(certificate: &Certificate) -> Vec<String> {
    let time = |at: Option<&prost_types::Timestamp>| format::time(at);
    let state = format::short_name(certificate.state().as_str_name(), "CERTIFICATE_STATE_");
    let mut facts = vec![
        format!("domains: {}", format::or_none(&certificate.domains.join(", "))),
        format!("state: {}", said(state, &certificate.summary)),
    ];
    facts.push(match &certificate.current {
        None => "in force: none".to_owned(),
        Some(current) => format!(
            "in force: generation {}, until {} (left: {})",
            current.number,
            time(current.not_after.as_ref()),
            left(certificate.left.as_ref())
        ),
    });
    facts.push(format!("served: {}", served(certificate)));
    facts.push(due(certificate));
    if certificate.last_attempt_at.is_some() {
        let at = time(certificate.last_attempt_at.as_ref());
        facts.push(format!("last attempt: {at}: {}", attempt(certificate)));
    }
    if certificate.held_until.is_some() {
        let until = time(certificate.held_until.as_ref());
        facts.push(format!("next attempt: not before {until}"));
    }
    if certificate.pinned_at.is_some() {
        let at = time(certificate.pinned_at.as_ref());
        let by = format::or_none(&certificate.pinned_by);
        facts.push(format!("pinned: since {at} by {by}: `genesisctl cert unpin` ends it"));
    }
    if certificate.self_signed_since.is_some() {
        let since = time(certificate.self_signed_since.as_ref());
        facts.push(format!("self-signed: since {since}; clients don't trust it"));
    }
    if !certificate.run_id.is_empty() {
        let id = &certificate.run_id;
        facts.push(format!("run: {id} goes on: `genesisctl run watch {id}` follows it"));
    }
    let cas = format::or_none(&certificate.cas.join(", then "));
    facts.push(format!("ordered from: {cas}, by {}", format::or_none(&certificate.challenge)));
    let name = &certificate.name;
    facts.push(format!("what is still allowed: `genesisctl cert budget --domain {name}`"));
    facts
}

fn said(what: &str, why: &str) -> String {
    if why.is_empty() { what.to_owned() } else { format!("{what}: {why}") }
}

fn served(certificate: &Certificate) -> String {
    let truth = certificate.served();
    let at = match certificate.probe.as_str() {
        "" if matches!(truth, Truth::Unknown | Truth::Unspecified) => {
            return "nobody looks, since no probe is configured".to_owned();
        }
        "" => format::truth(truth).to_owned(),
        probe => format!("{} at {probe}", format::truth(truth)),
    };
    said(&at, &certificate.served_evidence)
}

fn due(certificate: &Certificate) -> String {
    let at = format::time(certificate.due_at.as_ref());
    match (certificate.due_by_ca, certificate.due_explanation.as_str()) {
        (false, _) => format!("due: {at}"),
        (true, "") => format!("due: {at}, as its CA asks"),
        (true, page) => format!("due: {at}, as its CA asks: see {page}"),
    }
}

fn attempt(certificate: &Certificate) -> String {
    if certificate.last_error.is_empty() {
        return "it worked".to_owned();
    }
    let why = match certificate.trouble() {
        CertificateTrouble::Unspecified => "",
        CertificateTrouble::RateLimited => ", since it is too often",
        CertificateTrouble::Authorization => {
            ", since the CA can't see that the host has the domain"
        }
        CertificateTrouble::Server => ", since the CA can't be reached or fails",
        CertificateTrouble::Policy => ", since the CA refuses it: the configuration must change",
        CertificateTrouble::Local => ", since something on this host failed",
        CertificateTrouble::Clock => ", since a clock is wrong",
    };
    let times = format::plural(certificate.failures.into(), "time");
    format!("it failed, {times} now{why}: {}", certificate.last_error)
}

fn generation_row(one: &CertificateGeneration, place: &str, verbose: bool) -> Vec<Cell> {
    let origin = match one.origin() {
        CertificateOrigin::Acme => "ordered",
        CertificateOrigin::Imported => "imported",
        CertificateOrigin::Backup => "by hand",
        CertificateOrigin::SelfSigned => "self-signed",
        CertificateOrigin::Unspecified => format::NONE,
    };
    let mut cells = vec![
        Cell::number(if one.number == 0 { format::NONE.into() } else { one.number.to_string() }),
        Cell::from(place),
        Cell::from(origin),
        Cell::from(format::or_none(&one.ca)),
        Cell::from(format::time(one.not_before.as_ref())),
        Cell::from(format::time(one.not_after.as_ref())),
        Cell::from(one.proven_at.as_ref().map_or("never".into(), |at| format::time(Some(at)))),
    ];
    if verbose {
        cells.push(Cell::from(format::time(one.created_at.as_ref())));
        let identifiers = one.identifiers.join(", ");
        let more = [&identifiers, &one.issuer, &one.serial, &one.fingerprint];
        cells.extend(more.map(|text| Cell::from(format::or_none(text))));
    }
    cells.push(usable(one));
    cells
}

fn usable(one: &CertificateGeneration) -> Cell {
    let marks = [(&one.compromised_at, "compromised since"), (&one.revoked_at, "revoked since")];
    let marks = marks.into_iter().filter_map(|(at, what)| {
        at.as_ref().map(|at| format!("{what} {}", format::time(Some(at))))
    });
    let why = Some(one.unusable_why.clone()).filter(|why| !why.is_empty());
    let marks: Vec<_> = marks.chain(why).collect();
    match (one.usable, marks.is_empty()) {
        (true, true) => Cell::from("yes"),
        (true, false) => Cell::alert(format!("yes: {}", marks.join("; ")), true),
        (false, true) => Cell::alert("no", true),
        (false, false) => Cell::alert(format!("no: {}", marks.join("; ")), true),
    }
}
