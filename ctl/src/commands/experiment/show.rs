//! `experiment show`: what is known of one experiment or of all, on each node or on all together; `experiment assign`.

use std::cell::RefCell;

use genesis_client::v1::{
    Arm, AssignRequest, GetExperimentRequest, GetExperimentResponse, ListExperimentsRequest,
};
use genesis_client::{Client, Error};
use serde_json::json;

use super::super::incomplete_answer;
use super::merge::Merged;
use super::{Show, fleet, list, page};
use crate::connect::Session;
use crate::exit::{Exit, Halt, Stop};
use crate::render::{Answer, View};

pub(super) async fn show(session: &Session<'_>, arguments: &Show) -> Result<Exit, Halt> {
    let rows = arguments.merge && session.many();
    let gathered = RefCell::new(Merged::default());
    let into = arguments.merge.then_some(&gathered);
    let id = arguments.named();
    // Of the whole fleet one agent tells; to be added up, each tells what it has itself.
    let fleet = arguments.fleet || (!arguments.merge && id.starts_with("FLEET_"));
    let call =
        |client: Client| async move { of_node(session, &client, (id, fleet), (rows, into)).await };
    let merged = || {
        // Of one node there is nothing to add to its page.
        if !arguments.merge || (session.for_people() && !session.many()) {
            return Ok(None);
        }
        gathered.borrow().answer(session).map(Some)
    };
    session.each_merged(if rows { list::COLUMNS } else { &[] }, call, merged).await
}

/// `rows`: a row for each experiment instead of its page.
async fn of_node(
    session: &Session<'_>,
    client: &Client,
    (id, fleet): (&str, bool),
    (rows, into): (bool, Option<&RefCell<Merged>>),
) -> Result<Answer, Stop> {
    let ids = match id {
        "" => {
            let request = ListExperimentsRequest {
                running_only: true,
                limit: 1_000,
                fleet,
                ..Default::default()
            };
            let list = list::ask(client, request).await?;
            list.experiments.into_iter().map(|one| one.id).collect()
        }
        id => vec![id.to_owned()],
    };
    let mut found = Vec::with_capacity(ids.len());
    for id in &ids {
        found.push(get(client, id, fleet).await?);
    }
    let experiments = || found.iter().filter_map(|one| one.experiment.as_ref());
    if experiments().count() != found.len() {
        return Err(incomplete_answer("the experiment").into());
    }
    if let Some(into) = into {
        into.borrow_mut().add(&client.node().to_string(), experiments())?;
    }
    let one = |one: &GetExperimentResponse| session.json("GetExperimentResponse", one);
    let json = match (id, found.as_slice()) {
        ("", all) => json!({ "experiments": all.iter().map(one).collect::<Result<Vec<_>, _>>()? }),
        (_, [only]) => one(only)?,
        _ => return Err(incomplete_answer("the experiment").into()),
    };
    let more = session.global.verbose;
    let view = View {
        columns: if rows { list::COLUMNS } else { &[] },
        rows: if rows { experiments().map(list::row).collect() } else { Vec::new() },
        parts: match rows {
            true => Vec::new(),
            false => found.iter().flat_map(|one| page::parts(one, more)).collect(),
        },
        empty: if found.is_empty() { "no experiment goes on" } else { "" },
        ..View::default()
    };
    Ok(Answer::new(json, view).exit(fleet::exit(&found, list::exit(experiments()))))
}

async fn get(client: &Client, id: &str, fleet: bool) -> Result<GetExperimentResponse, Error> {
    let request = GetExperimentRequest { id: id.to_owned(), fleet };
    client.call(request, |c, r| async move { c.experiments().get_experiment(r).await }).await
}

pub(super) async fn assign(session: &Session<'_>, id: &str, unit: &str) -> Result<Exit, Halt> {
    let request = &AssignRequest { experiment: id.to_owned(), unit: unit.to_owned() };
    session
        .each(|client| async move {
            let response = client
                .call(request.clone(), |c, r| async move { c.experiments().assign(r).await })
                .await?;
            let json = session.json("AssignResponse", &response)?;
            let arm = match response.arm() {
                Arm::Control => "control",
                Arm::Variant => "variant",
                Arm::Unspecified => return Err(incomplete_answer("the arm").into()),
            };
            let bucket = response.bucket;
            let line = format!("{unit} is in the {arm} of {id} (bucket {bucket:.4})");
            Ok(Answer::new(json, View::line(line)))
        })
        .await
}
