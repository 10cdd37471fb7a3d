//! `pki`: what secures the agent's TCP listener, and for how long.

use clap::Subcommand;
use genesis_client::v1::{
    Condition, GetPkiRequest, GetPkiResponse, GetStatusRequest, IssuedCertificate, PkiItem, PkiKind,
};
use prost_types::Timestamp;

use crate::connect::Session;
use crate::exit::{Exit, Halt};
use crate::format;
use crate::render::{Answer, Cell, View, finding};

const COLUMNS: &[&str] = &["KIND", "NAME", "STATE", "UNTIL", "LEFT", "DETAIL"];

const LIST_EXAMPLES: &str = "\
Needs the role of an admin. Exits 3 when something in force is close to its end, expired or refused, 5 where
something is unknown. The time left is by the agent's clock.

Examples:
  genesisctl pki list
  genesisctl pki list -v -n web-1:7443,web-2:7443";

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// List the certificates, CA and revocation list in force, and what the host's PKI has issued.
    #[command(after_help = LIST_EXAMPLES)]
    List,
}

pub(super) async fn dispatch(verb: &Verb, session: &Session<'_>) -> Result<Exit, Halt> {
    let Verb::List = verb;
    session
        .each_in(COLUMNS, |client| async move {
            let pki = client
                .call(GetPkiRequest {}, |c, r| async move { c.agent().get_pki(r).await })
                .await?;
            let json = session.json("GetPkiResponse", &pki)?;
            // The one clock that decides what has expired is the agent's.
            let now = match session.for_people() {
                false => None,
                true => {
                    client
                        .call(
                            GetStatusRequest {},
                            |c, r| async move { c.agent().get_status(r).await },
                        )
                        .await?
                        .now
                }
            };
            let found = (!pki.findings.is_empty()).then_some(Condition::Warn);
            let conditions = pki.items.iter().map(PkiItem::condition).chain(found);
            let exit = Exit::of_conditions(conditions);
            Ok(Answer::new(json, view(&pki, now.as_ref(), session.global.verbose)).exit(exit))
        })
        .await
}

fn view(pki: &GetPkiResponse, now: Option<&Timestamp>, verbose: bool) -> View {
    let lead = match pki.listen.as_str() {
        "" => "gRPC over TLS is off".to_owned(),
        listen => format!(
            "gRPC over TLS on {listen}, fleet {}, loaded {}",
            format::or_none(&pki.fleet),
            format::time(pki.loaded_at.as_ref())
        ),
    };
    let items = pki.items.iter().map(|item| item_row(item, now, verbose));
    let issued = pki.issued.iter().map(|issued| issued_row(issued, now, verbose));
    View {
        lead: vec![lead],
        columns: COLUMNS,
        rows: items.chain(issued).collect(),
        tail: pki.findings.iter().map(finding).collect(),
        ..View::default()
    }
}

fn item_row(item: &PkiItem, now: Option<&Timestamp>, verbose: bool) -> Vec<Cell> {
    let kind = match item.kind() {
        PkiKind::ServerCertificate => "server certificate",
        PkiKind::ClientCa => "client CA",
        PkiKind::RevocationList => "revocation list",
        PkiKind::Unspecified => "unknown",
    };
    let mut detail = vec![item.path.clone()];
    if item.kind() == PkiKind::RevocationList {
        detail.push(format!("revokes {}", format::count(u64::from(item.revoked))));
    }
    if verbose {
        detail.push(format!("sha256 {}", item.sha256));
    }
    vec![
        Cell::from(kind),
        Cell::from(format::or_none(&item.subject)),
        Cell::condition(item.condition()),
        Cell::from(format::time(item.not_after.as_ref())),
        Cell::number(left(now, item.not_after.as_ref())),
        Cell::from(detail.join(", ")),
    ]
}

fn issued_row(issued: &IssuedCertificate, now: Option<&Timestamp>, verbose: bool) -> Vec<Cell> {
    let left = left(now, issued.not_after.as_ref());
    let state = match (&issued.revoked_at, left.as_str()) {
        (Some(_), _) => Cell::alert("revoked", true),
        (None, "expired") => Cell::alert("expired", true),
        (None, _) => Cell::from("issued"),
    };
    let mut detail = vec![issued.uri.clone()];
    if let Some(at) = &issued.revoked_at {
        detail.push(format!("revoked {}", format::time(Some(at))));
    }
    if verbose {
        detail.push(format!("serial {}", issued.serial));
    }
    vec![
        Cell::from(format!("issued {}", issued.role)),
        Cell::from(issued.name.as_str()),
        state,
        Cell::from(format::time(issued.not_after.as_ref())),
        Cell::number(left),
        Cell::from(detail.join(", ")),
    ]
}

fn left(now: Option<&Timestamp>, until: Option<&Timestamp>) -> String {
    let key = |at: &Timestamp| (at.seconds, at.nanos);
    match (now, until) {
        (Some(now), Some(until)) if key(until) <= key(now) => "expired".to_owned(),
        _ => format::between(now, until),
    }
}
