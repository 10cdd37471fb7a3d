//! `status`, `version`, `whoami`.

use genesis_client::v1::{
    Condition, GetStatusRequest, GetStatusResponse, GetVersionRequest, GetVersionResponse, Role,
    WhoAmIRequest,
};
use serde_json::json;

use crate::connect::Session;
use crate::exit::{Exit, Halt};
use crate::format;
use crate::render::{Answer, Cell, Row, View, finding};

pub(super) const STATUS_EXAMPLES: &str = "\
Examples:
  genesisctl status
  genesisctl status -v
  genesisctl status -n web-1:7443,web-2:7443
  genesisctl status -o json | jq -r '.[].response.condition'";

pub(super) const VERSION_EXAMPLES: &str = "\
Examples:
  genesisctl version
  genesisctl version -n web-1:7443,web-2:7443 -o jsonl";

pub(super) const WHOAMI_EXAMPLES: &str = "\
Example:
  genesisctl whoami -n unix:/run/genesis/agent.sock";

const STATUS_COLUMNS: &[&str] =
    &["HOST", "CONDITION", "VERSION", "UP", "ACTIVE", "FAILED 24H", "SUMMARY"];
const STATUS_COLUMNS_VERBOSE: &[&str] =
    &["HOST", "CONDITION", "VERSION", "UP", "ACTIVE", "FAILED 24H", "FLEET", "SUMMARY"];
const VERSION_COLUMNS: &[&str] = &["VERSION", "SKEW", "SCHEMA", "RUSTC"];
const WHOAMI_COLUMNS: &[&str] = &["IDENTITY", "ROLE", "TRANSPORT", "GRANTED BY"];

pub(super) const CLIENT_VERSION: &str = env!("CARGO_PKG_VERSION");

pub(super) async fn status(session: &Session<'_>) -> Result<Exit, Halt> {
    let columns = match session.global.verbose {
        true => STATUS_COLUMNS_VERBOSE,
        false => STATUS_COLUMNS,
    };
    session
        .each_in(columns, |client| async move {
            let status = client
                .call(GetStatusRequest {}, |c, r| async move { c.agent().get_status(r).await })
                .await?;
            let json = session.json("GetStatusResponse", &status)?;
            let domains = status.domains.iter().map(|domain| domain.condition());
            // What is well in itself is not well while it must stand still.
            let emergency = status.emergency.then_some(Condition::Critical);
            let exit = Exit::of_conditions(domains.chain([status.condition()]).chain(emergency));
            let view = match session.many() {
                true => status_row(&status, session.global.verbose),
                false => status_page(&status, session.global.verbose),
            };
            Ok(Answer::new(json, view).exit(exit))
        })
        .await
}

const EMERGENCY: &str = "EMERGENCY: much refuses to start until it is released; see `genesisctl \
                         emergency status`";

fn status_page(status: &GetStatusResponse, verbose: bool) -> View {
    let mut lead = Vec::new();
    if status.emergency {
        lead.push(EMERGENCY.to_owned());
    }
    lead.push(format!(
        "{}: {}, genesis {}, up {}, {} active, {} failed in 24h, {} resident",
        status.hostname,
        format::condition(status.condition()),
        status.version,
        format::between(status.started_at.as_ref(), status.now.as_ref()),
        format::plural(u64::from(status.runs_active), "run"),
        status.runs_failed,
        format::bytes(status.resident_bytes),
    ));
    if verbose {
        let config = match status.config_source.as_str() {
            "" => "built-in defaults",
            source => source,
        };
        lead.push(format!(
            "host id {}, fleet {}, pid {}, configuration: {config}",
            status.host_id,
            format::or_none(&status.fleet),
            status.pid
        ));
        lead.push(format!(
            "started at {}, at most {} resident in 24h",
            format::time(status.started_at.as_ref()),
            format::bytes(status.resident_bytes_max),
        ));
        if let Some(storage) = &status.storage {
            lead.push(format!(
                "storage {}: {}, schema {}, {} in the oplog",
                storage.path,
                format::bytes(storage.file_bytes),
                storage.schema_version,
                match storage.oplog_entries {
                    1 => "1 entry".to_owned(),
                    entries => format!("{} entries", format::count(entries)),
                },
            ));
        }
    }
    let domain_row = |domain: &genesis_client::v1::DomainStatus| {
        vec![
            Cell::from(domain.domain.as_str()),
            Cell::condition(domain.condition()),
            Cell::from(domain.summary.as_str()),
        ]
    };
    View {
        lead,
        columns: &["DOMAIN", "CONDITION", "SUMMARY"],
        rows: status.domains.iter().map(domain_row).collect(),
        tail: status.domains.iter().flat_map(|domain| &domain.findings).map(finding).collect(),
        ..View::default()
    }
}

fn status_row(status: &GetStatusResponse, verbose: bool) -> View {
    let worst = status.domains.iter().find(|domain| {
        domain.condition() == status.condition() && domain.condition() != Condition::Ok
    });
    let worst = worst.map(|domain| format!("{}: {}", domain.domain, domain.summary));
    let summary: Vec<_> =
        status.emergency.then(|| "EMERGENCY".to_owned()).into_iter().chain(worst).collect();
    let summary = match status.emergency {
        true => Cell::alert(summary.join("; "), true),
        false => Cell::from(summary.join("; ")),
    };
    let mut row = vec![
        Cell::from(status.hostname.as_str()),
        Cell::condition(status.condition()),
        Cell::from(status.version.as_str()),
        Cell::from(format::between(status.started_at.as_ref(), status.now.as_ref())),
        Cell::number(status.runs_active.to_string()),
        Cell::number(status.runs_failed.to_string()),
    ];
    if verbose {
        row.push(Cell::from(format::or_none(&status.fleet)));
    }
    row.push(summary);
    let columns = if verbose { STATUS_COLUMNS_VERBOSE } else { STATUS_COLUMNS };
    View { columns, rows: vec![row], ..View::default() }
}

pub(super) async fn version(session: &Session<'_>) -> Result<Exit, Halt> {
    let own = GetVersionResponse { version: CLIENT_VERSION.to_owned(), ..Default::default() };
    let own = Row {
        node: "genesisctl".to_owned(),
        result: Ok(Answer::new(
            json!({ "version": CLIENT_VERSION }),
            version_view(&own, format::NONE),
        )),
    };
    session
        .each_beside(VERSION_COLUMNS, vec![own], |client| async move {
            let version = client
                .call(GetVersionRequest {}, |c, r| async move { c.agent().get_version(r).await })
                .await?;
            let json = session.json("GetVersionResponse", &version)?;
            Ok(Answer::new(json, version_view(&version, skew(&version.version))))
        })
        .await
}

fn version_view(version: &GetVersionResponse, skew: &'static str) -> View {
    let schema = match version.schema_version {
        0 => Cell::number(format::NONE),
        schema => Cell::number(schema.to_string()),
    };
    View {
        columns: VERSION_COLUMNS,
        rows: vec![vec![
            Cell::from(version.version.as_str()),
            Cell::from(skew),
            schema,
            Cell::from(format::or_none(&version.rustc)),
        ]],
        ..View::default()
    }
}

/// How an agent's version stands to this client's. What is no version can't be compared.
fn skew(agent: &str) -> &'static str {
    let parts = |version: &str| -> Option<Vec<u64>> {
        let number = version.split(['-', '+']).next()?;
        number.split('.').map(|part| part.parse().ok()).collect()
    };
    match (parts(agent), parts(CLIENT_VERSION)) {
        (Some(agent), Some(own)) if agent < own => "agent older",
        (Some(agent), Some(own)) if agent > own => "agent newer",
        (Some(_), Some(_)) => "none",
        _ => "unknown",
    }
}

pub(super) async fn whoami(session: &Session<'_>) -> Result<Exit, Halt> {
    session
        .each_in(WHOAMI_COLUMNS, |client| async move {
            let me = client
                .call(WhoAmIRequest {}, |c, r| async move { c.agent().who_am_i(r).await })
                .await?;
            let json = session.json("WhoAmIResponse", &me)?;
            let role = match me.role() {
                Role::Unspecified => "none",
                Role::Viewer => "viewer",
                Role::Operator => "operator",
                Role::Admin => "admin",
            };
            let view = View {
                columns: WHOAMI_COLUMNS,
                rows: vec![vec![
                    Cell::from(me.identity),
                    Cell::from(role),
                    Cell::from(me.transport),
                    Cell::from(me.granted_by),
                ]],
                ..View::default()
            };
            Ok(Answer::new(json, view))
        })
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        assert_eq!(skew(CLIENT_VERSION), "none");
        assert_eq!(skew("0.0.9"), "agent older");
        assert_eq!(skew("0.10.0"), "agent newer");
        assert_eq!(skew("\u{1b}[2J"), "unknown");
    }
}
