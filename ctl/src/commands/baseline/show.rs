//! `baseline show`: what is known of one operation or of all, on each node or on all together.

use std::cell::RefCell;

use genesis_client::v1::{GetBaselineRequest, GetBaselineResponse};
use genesis_client::{Client, Error};
use serde_json::json;

use super::super::incomplete_answer;
use super::merge::Merged;
use super::{Show, list, page};
use crate::connect::Session;
use crate::exit::{Exit, Halt, Stop};
use crate::render::{Answer, View};

pub(super) async fn show(session: &Session<'_>, arguments: &Show) -> Result<Exit, Halt> {
    let name = arguments.named();
    if arguments.generation.is_some() && name.is_empty() {
        return Err(Halt::Usage(
            "--generation is of one operation: name it, as in `genesisctl baseline history`".into(),
        ));
    }
    let rows = arguments.merge && session.many();
    let gathered = RefCell::new(Merged::default());
    let into = arguments.merge.then_some(&gathered);
    let call =
        |client: Client| async move { of_node(session, &client, arguments, (rows, into)).await };
    let merged = || {
        // Of one node there is nothing to add to its page.
        if !arguments.merge || (session.for_people() && !session.many()) {
            return Ok(None);
        }
        gathered.borrow().answer(session).map(Some)
    };
    session.each_merged(if rows { list::COLUMNS } else { &[] }, call, merged).await
}

/// `rows`: a row for each operation instead of its page.
async fn of_node(
    session: &Session<'_>,
    client: &Client,
    arguments: &Show,
    (rows, into): (bool, Option<&RefCell<Merged>>),
) -> Result<Answer, Stop> {
    let generation = arguments.generation.unwrap_or_default();
    let mut listed = None;
    let names = match arguments.named() {
        "" => {
            let list = list::ask(client, false).await?;
            let names = list.operations.iter().map(|one| one.operation.clone()).collect();
            listed = Some(list);
            names
        }
        name => vec![name.to_owned()],
    };
    let mut found = Vec::with_capacity(names.len());
    for name in &names {
        found.push(get(client, name, generation).await?);
    }
    let operations = || found.iter().filter_map(|one| one.operation.as_ref());
    if operations().count() != found.len() {
        return Err(incomplete_answer("the operation").into());
    }
    if let Some(into) = into {
        let mut into = into.borrow_mut();
        into.add(&client.node().to_string(), &found)?;
    }
    let one = |one: &GetBaselineResponse| session.json("GetBaselineResponse", one);
    let json = match (&listed, found.as_slice()) {
        (None, [only]) => one(only)?,
        (_, all) => json!({ "operations": all.iter().map(one).collect::<Result<Vec<_>, _>>()? }),
    };
    let more = session.global.verbose;
    let empty = if found.is_empty() { list::EMPTY } else { "" };
    let with_rows = rows || listed.is_some();
    let view = View {
        columns: if with_rows { list::COLUMNS } else { &[] },
        rows: if with_rows { operations().map(list::row).collect() } else { Vec::new() },
        parts: match rows {
            true => Vec::new(),
            false => found.iter().flat_map(|one| page::parts(one, more)).collect(),
        },
        empty,
        ..View::default()
    };
    Ok(Answer::new(json, view).exit(list::exit(operations())))
}

async fn get(
    client: &Client,
    operation: &str,
    generation: u32,
) -> Result<GetBaselineResponse, Error> {
    let request = GetBaselineRequest { operation: operation.to_owned(), generation };
    client.call(request, |c, r| async move { c.baselines().get_baseline(r).await }).await
}
