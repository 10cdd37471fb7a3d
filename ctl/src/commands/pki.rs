//! `pki`: what secures the agent's port, and until when.

use clap::Subcommand;
use genesis_client::v1::{
    Condition, GetPkiRequest, GetPkiResponse, IssuedCertificate, PkiItem, PkiKind,
};

use crate::connect::Session;
use crate::exit::{Exit, Halt};
use crate::format;
use crate::render::{Answer, Cell, View, finding};

const LIST_EXAMPLES: &str = "\
Exits 3 when something has ended or is close to its end, or when newer files were refused.

Example:
  genesisctl pki list";

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// List the certificates and revocation lists in force, and what this host's PKI has issued.
    #[command(after_help = LIST_EXAMPLES)]
    List,
}

pub(super) async fn dispatch(verb: &Verb, session: &Session<'_>) -> Result<Exit, Halt> {
    let Verb::List = verb;
    session
        .each(|client| async move {
            let pki = client
                .call(GetPkiRequest {}, |c, r| async move { c.agent().get_pki(r).await })
                .await?;
            let json = session.json("GetPkiResponse", &pki)?;
            let mut exit = Exit::of_conditions(pki.items.iter().map(PkiItem::condition));
            if exit == Exit::Ok && !pki.findings.is_empty() {
                exit = Exit::Findings;
            }
            Ok(Answer::new(json, view(&pki)).exit(exit))
        })
        .await
}

fn view(pki: &GetPkiResponse) -> View {
    let lead = match pki.listen.as_str() {
        "" => "gRPC over TLS is off: [tls] is not configured".to_owned(),
        listen => format!("gRPC over TLS at {listen}, for fleet {}", pki.fleet),
    };
    let mut rows: Vec<Vec<Cell>> = pki.items.iter().map(item_row).collect();
    rows.extend(pki.issued.iter().map(issued_row));
    View {
        lead: vec![lead],
        columns: &["WHAT", "WHO", "GOOD UNTIL", "STATE", "FILE"],
        rows,
        tail: pki.findings.iter().map(finding).collect(),
        ..View::default()
    }
}

fn item_row(item: &PkiItem) -> Vec<Cell> {
    let what = match item.kind() {
        PkiKind::Unspecified => "unknown".to_owned(),
        PkiKind::ServerCertificate => "server certificate".to_owned(),
        PkiKind::ClientCa => "client CA".to_owned(),
        PkiKind::RevocationList => format!("revocation list, {} revoked", item.revoked),
    };
    vec![
        Cell::from(what),
        Cell::from(item.subject.as_str()),
        Cell::from(format::time(item.not_after.as_ref())),
        Cell::condition(item.condition()),
        Cell::from(item.path.as_str()),
    ]
}

fn issued_row(issued: &IssuedCertificate) -> Vec<Cell> {
    let state = match &issued.revoked_at {
        Some(at) => Cell::from(format!("revoked at {}", format::time(Some(at)))),
        None => Cell::condition(Condition::Ok),
    };
    vec![
        Cell::from(format!("issued {}", issued.role)),
        Cell::from(issued.uri.as_str()),
        Cell::from(format::time(issued.not_after.as_ref())),
        state,
        Cell::from(format!("serial {}", issued.serial)),
    ]
}
