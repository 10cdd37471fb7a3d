//! `param list`, `param get`, `param history`, `param watch`.

use std::collections::BTreeMap;

use genesis_client::v1::{
    GetParametersRequest, GetParametersResponse, ListParameterHistoryRequest,
    ListParametersRequest, Parameter, ParameterValue,
};
use genesis_client::{Client, Error, Kind};
use serde_json::json;

use super::super::watching;
use super::Whose;
use crate::connect::Session;
use crate::exit::{Exit, Halt, Stop};
use crate::format;
use crate::render::{Answer, Cell, View};

const COLUMNS: &[&str] =
    &["STRATEGY", "PARAMETER", "VALUE", "VERSION", "SET", "BY", "CAUSE", "IN TEST", "FLEET"];
const HISTORY_COLUMNS: &[&str] =
    &["STRATEGY", "PARAMETER", "VERSION", "VALUE", "SET", "BY", "CAUSE", "REASON"];
const VALUE_COLUMNS: &[&str] = &["PARAMETER", "VALUE", "VERSION", "EXPERIMENT", "ARM"];

/// So much of a value is shown in a table. JSON has all of it.
const SHOWN: usize = 60;

pub(super) async fn list(session: &Session<'_>, strategy: &str) -> Result<Exit, Halt> {
    let request = &ListParametersRequest { strategy: strategy.to_owned() };
    session
        .each_in(COLUMNS, |client| async move {
            let list = client
                .call(
                    request.clone(),
                    |c, r| async move { c.parameters().list_parameters(r).await },
                )
                .await?;
            let json = session.json("ListParametersResponse", &list)?;
            let view = View {
                columns: COLUMNS,
                rows: list.parameters.iter().map(row).collect(),
                empty: "no parameters yet: `genesisctl param set` makes one",
                tail: cut(list.more),
                ..View::default()
            };
            // A host that does not use what its fleet does is a finding.
            let differs = list.parameters.iter().filter_map(|one| one.fleet.as_ref());
            let differs = differs.into_iter().any(|fleet| !fleet.differs.is_empty());
            let exit = match differs {
                true => Exit::Findings,
                // What is not listed may differ.
                false if list.more => Exit::Unknown,
                false => Exit::Ok,
            };
            Ok(Answer::new(json, view).exit(exit))
        })
        .await
}

/// That a list is cut.
fn cut(more: bool) -> Vec<String> {
    let cut = "there are more than one answer holds: --strategy asks for fewer";
    if more { vec![cut.to_owned()] } else { Vec::new() }
}

fn row(one: &Parameter) -> Vec<Cell> {
    vec![
        Cell::from(one.strategy.as_str()),
        Cell::from(one.name.as_str()),
        Cell::from(format::excerpt(&one.value, SHOWN)),
        Cell::number(one.version.to_string()),
        Cell::from(format::time(one.set_at.as_ref())),
        Cell::from(format::or_none(&one.set_by)),
        Cell::from(cause(one)),
        Cell::from(format::or_none(&one.in_test)),
        Cell::from(fleet(one)),
    ]
}

/// What the whole fleet uses: such as "version 3", or "version 4 is 0.003".
fn fleet(one: &Parameter) -> String {
    match &one.fleet {
        None => format::NONE.to_owned(),
        Some(fleet) if fleet.differs.is_empty() => format!("version {}", fleet.version),
        Some(fleet) => {
            format!("version {} is {}", fleet.version, format::excerpt(&fleet.value, SHOWN))
        }
    }
}

/// Such as "promoted by TEST_3".
fn cause(one: &Parameter) -> String {
    match one.experiment.as_str() {
        "" => format::or_none(&one.cause),
        experiment => format!("{} by {experiment}", format::or_none(&one.cause)),
    }
}

pub(super) async fn get(
    session: &Session<'_>,
    of: &Whose,
    name: Option<&str>,
) -> Result<Exit, Halt> {
    let request = &request(of);
    session
        .each_in(if name.is_some() { &[] } else { VALUE_COLUMNS }, |client| async move {
            let mut found = client
                .call(request.clone(), |c, r| async move { c.parameters().get_parameters(r).await })
                .await?;
            let view = match name {
                Some(name) => {
                    found.values.retain(|one| one.name == name);
                    let value = found.values.first().ok_or_else(|| absent(of, name))?;
                    View::line(value.value.as_str())
                }
                None => View {
                    columns: VALUE_COLUMNS,
                    rows: found.values.iter().map(value_row).collect(),
                    empty: "it has no parameters",
                    ..View::default()
                },
            };
            Ok(Answer::new(session.json("GetParametersResponse", &found)?, view))
        })
        .await
}

fn request(of: &Whose) -> GetParametersRequest {
    GetParametersRequest { strategy: of.strategy.clone(), unit: of.unit.clone() }
}

fn absent(of: &Whose, name: &str) -> Error {
    let message = format!("{} has no parameter {name}", of.strategy);
    let next = format!("list them with `genesisctl param list --strategy {}`", of.strategy);
    Error::new(Kind::NotFound, "NOT_FOUND", "PARAMETER_NOT_FOUND", message, next)
}

fn value_row(one: &ParameterValue) -> Vec<Cell> {
    vec![
        Cell::from(one.name.as_str()),
        Cell::from(format::excerpt(&one.value, SHOWN)),
        Cell::number(one.version.to_string()),
        Cell::from(format::or_none(&one.experiment)),
        Cell::from(format::or_none(&one.arm)),
    ]
}

pub(super) async fn history(
    session: &Session<'_>,
    strategy: &str,
    name: &str,
    limit: u32,
) -> Result<Exit, Halt> {
    if !name.is_empty() && strategy.is_empty() {
        return Err(Halt::Usage(format!(
            "{name} may be a parameter of several strategies: name one with --strategy"
        )));
    }
    let request = &ListParameterHistoryRequest {
        strategy: strategy.to_owned(),
        name: name.to_owned(),
        limit,
    };
    session
        .each_in(HISTORY_COLUMNS, |client| async move {
            let history = client
                .call(request.clone(), |c, r| async move {
                    c.parameters().list_parameter_history(r).await
                })
                .await?;
            let json = session.json("ListParameterHistoryResponse", &history)?;
            let view = View {
                columns: HISTORY_COLUMNS,
                rows: history.versions.iter().map(history_row).collect(),
                empty: "no parameter was set yet",
                tail: cut(history.more),
                ..View::default()
            };
            Ok(Answer::new(json, view))
        })
        .await
}

fn history_row(one: &Parameter) -> Vec<Cell> {
    vec![
        Cell::from(one.strategy.as_str()),
        Cell::from(one.name.as_str()),
        Cell::number(one.version.to_string()),
        Cell::from(format::excerpt(&one.value, SHOWN)),
        Cell::from(format::time(one.set_at.as_ref())),
        Cell::from(format::or_none(&one.set_by)),
        Cell::from(cause(one)),
        Cell::from(format::or_none(&one.reason)),
    ]
}

pub(super) async fn watch(session: &Session<'_>, of: &Whose) -> Result<Exit, Halt> {
    watching::needs_lines(session)?;
    let request = &request(of);
    session
        .each(|client| async move {
            watching::limited(session, &client, print(session, &client, request)).await?;
            Ok(Answer { printed: true, ..Answer::new(json!({}), View::default()) })
        })
        .await
}

async fn print(
    session: &Session<'_>,
    client: &Client,
    request: &GetParametersRequest,
) -> Result<(), Stop> {
    let open = || {
        client.call(request.clone(), |c, r| async move { c.parameters().watch_parameters(r).await })
    };
    let mut shown: BTreeMap<String, ParameterValue> = BTreeMap::new();
    let mut first = true;
    watching::resumed(client, open, |response: GetParametersResponse| {
        let now: BTreeMap<_, _> =
            response.values.iter().map(|one| (one.name.clone(), one.clone())).collect();
        let gone = shown.keys().filter(|name| !now.contains_key(*name));
        let mut lines: Vec<_> = gone.map(|name| format!("{name} is gone")).collect();
        let changed = now.values().filter(|one| shown.get(&one.name) != Some(*one));
        lines.extend(changed.map(line));
        // A stream that was opened again begins with what is known.
        if lines.is_empty() && !first {
            return Ok(false);
        }
        if !session.for_people() {
            let json = session.json("GetParametersResponse", &response)?;
            session.event(client.node(), json)?;
        } else {
            for line in lines {
                watching::tell(session, client, || line, || Ok(json!({})))?;
            }
        }
        (shown, first) = (now, false);
        Ok(false)
    })
    .await
}

fn line(one: &ParameterValue) -> String {
    let given = match (one.experiment.as_str(), one.arm.as_str()) {
        ("", _) => String::new(),
        (experiment, arm) => format!(", the {arm} of {experiment}"),
    };
    format!("{} = {} (version {}{given})", one.name, one.value, one.version)
}
