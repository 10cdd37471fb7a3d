//! `experiment list`, `experiment history`: a row for each experiment.

use genesis_client::v1::{
    Condition, Experiment, ExperimentState, ListExperimentsRequest, ListExperimentsResponse,
};
use genesis_client::{Client, Error};

use super::page;
use crate::connect::Session;
use crate::exit::{Exit, Halt};
use crate::format::{self, NONE, count};
use crate::render::{Answer, Cell, View};

pub(in crate::commands) const COLUMNS: &[&str] = &[
    "EXPERIMENT",
    "STATE",
    "STRATEGY",
    "TRIES",
    "SPLIT",
    "N",
    "LIFT",
    "p",
    "p_seq",
    "LINE",
    "STARTED",
];
/// As [`COLUMNS`], of the fleet.
const FLEET_COLUMNS: &[&str] = &[
    "EXPERIMENT",
    "STATE",
    "STRATEGY",
    "TRIES",
    "SPLIT",
    "N",
    "LIFT",
    "p",
    "p_seq",
    "LINE",
    "STARTED",
    "HERE",
];
const HISTORY_COLUMNS: &[&str] = &[
    "EXPERIMENT",
    "ENDED",
    "STATE",
    "HOW",
    "STRATEGY",
    "TRIES",
    "N",
    "LIFT",
    "p_seq",
    "BY",
    "REASON",
];

pub(in crate::commands) const EMPTY: &str =
    "no experiments yet: `genesisctl experiment create` begins one";

const FLEET_EMPTY: &str =
    "no experiments in the fleet yet: `genesisctl experiment create --fleet` begins one";

pub(super) async fn list(
    session: &Session<'_>,
    strategy: &str,
    (running_only, fleet): (bool, bool),
    limit: u32,
) -> Result<Exit, Halt> {
    let request = &ListExperimentsRequest {
        strategy: strategy.to_owned(),
        running_only,
        limit,
        fleet,
        ..ListExperimentsRequest::default()
    };
    let columns = if fleet { FLEET_COLUMNS } else { COLUMNS };
    session
        .each_in(columns, |client| async move {
            let list = ask(&client, request.clone()).await?;
            let json = session.json("ListExperimentsResponse", &list)?;
            let view = View {
                columns,
                rows: list.experiments.iter().map(if fleet { fleet_row } else { row }).collect(),
                empty: match (running_only, fleet) {
                    (true, false) => "no experiment goes on",
                    (true, true) => "no experiment goes on in the fleet",
                    (false, false) => EMPTY,
                    (false, true) => FLEET_EMPTY,
                },
                tail: more(&list),
                ..View::default()
            };
            Ok(Answer::new(json, view).exit(exit(&list.experiments)))
        })
        .await
}

pub(in crate::commands) async fn ask(
    client: &Client,
    request: ListExperimentsRequest,
) -> Result<ListExperimentsResponse, Error> {
    client.call(request, |c, r| async move { c.experiments().list_experiments(r).await }).await
}

/// The code of the experiments: one that is held is a finding, one whose state is of another version is unknown.
pub(super) fn exit<'a>(experiments: impl IntoIterator<Item = &'a Experiment>) -> Exit {
    use ExperimentState as S;
    Exit::of_conditions(experiments.into_iter().map(|one| match one.state() {
        _ if !one.not_begun.is_empty() => Condition::Critical,
        S::Held => Condition::Critical,
        S::Unspecified => Condition::Unknown,
        S::Running
        | S::Extended
        | S::Promoted
        | S::RolledBack
        | S::NoDifference
        | S::BelowThreshold => Condition::Ok,
    }))
}

pub(in crate::commands) fn row(experiment: &Experiment) -> Vec<Cell> {
    let definition = experiment.definition.clone().unwrap_or_default();
    let look = page::look(experiment);
    let known = |number: Option<String>| Cell::number(number.unwrap_or_else(|| NONE.to_owned()));
    vec![
        Cell::from(experiment.id.as_str()),
        Cell::experiment_state(experiment.state()),
        Cell::from(definition.strategy.as_str()),
        Cell::from(page::tries(&definition)),
        Cell::from(page::shares(&definition)),
        Cell::number(trades(experiment)),
        known(look.and_then(|look| look.lift).map(format::lift)),
        known(look.and_then(|look| look.p).map(format::p_value)),
        known(look.map(|look| format::p_value(look.p_sequential))),
        Cell::from(look.map_or_else(|| NONE.to_owned(), page::held_line)),
        Cell::from(format::time(experiment.started_at.as_ref())),
    ]
}

fn fleet_row(experiment: &Experiment) -> Vec<Cell> {
    let here = match (experiment.here.as_str(), experiment.not_begun.as_str()) {
        ("", "") => NONE.to_owned(),
        ("", why) => format!("not begun: {why}"),
        (here, _) => here.to_owned(),
    };
    row(experiment).into_iter().chain([Cell::from(here)]).collect()
}

/// Those of control / variant.
fn trades(experiment: &Experiment) -> String {
    let n = |arm: Option<&genesis_client::v1::ArmTally>| count(arm.map_or(0, |arm| arm.n));
    let conclusion = experiment.conclusion.as_ref();
    match conclusion {
        Some(ended) => format!("{} / {}", n(ended.control.as_ref()), n(ended.variant.as_ref())),
        None => {
            format!("{} / {}", n(experiment.control.as_ref()), n(experiment.variant.as_ref()))
        }
    }
}

pub(super) async fn history(
    session: &Session<'_>,
    strategy: &str,
    limit: u32,
) -> Result<Exit, Halt> {
    let request = &ListExperimentsRequest {
        strategy: strategy.to_owned(),
        ended_only: true,
        limit,
        ..ListExperimentsRequest::default()
    };
    session
        .each_in(HISTORY_COLUMNS, |client| async move {
            let list = ask(&client, request.clone()).await?;
            let json = session.json("ListExperimentsResponse", &list)?;
            let view = View {
                columns: HISTORY_COLUMNS,
                rows: list.experiments.iter().map(history_row).collect(),
                empty: "no experiment has ended yet",
                tail: more(&list),
                ..View::default()
            };
            Ok(Answer::new(json, view))
        })
        .await
}

/// That a list is cut.
fn more(list: &ListExperimentsResponse) -> Vec<String> {
    let cut = "there are more than one answer holds: --strategy asks for fewer";
    if list.more { vec![cut.to_owned()] } else { Vec::new() }
}

fn history_row(experiment: &Experiment) -> Vec<Cell> {
    let definition = experiment.definition.clone().unwrap_or_default();
    let ended = experiment.conclusion.clone().unwrap_or_default();
    let look = ended.look.as_ref();
    let known = |number: Option<String>| Cell::number(number.unwrap_or_else(|| NONE.to_owned()));
    vec![
        Cell::from(experiment.id.as_str()),
        Cell::from(format::time(ended.at.as_ref())),
        Cell::experiment_state(experiment.state()),
        Cell::from(page::how(&ended)),
        Cell::from(definition.strategy.as_str()),
        Cell::from(page::tries(&definition)),
        Cell::number(trades(experiment)),
        known(look.and_then(|look| look.lift).map(format::lift)),
        known(look.map(|look| format::p_value(look.p_sequential))),
        Cell::from(format::or_none(&ended.by)),
        Cell::from(format::or_none(&ended.reason)),
    ]
}
