//! `experiment watch`.

use std::collections::BTreeMap;

use genesis_client::Client;
use genesis_client::v1::{Experiment, WatchExperimentsRequest, WatchExperimentsResponse};
use serde_json::json;

use super::super::watching;
use super::page;
use crate::connect::Session;
use crate::exit::{Exit, Halt, Stop};
use crate::render::{Answer, View};

pub(super) async fn watch(session: &Session<'_>, id: &str) -> Result<Exit, Halt> {
    watching::needs_lines(session)?;
    let request = &WatchExperimentsRequest { id: id.to_owned() };
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
    request: &WatchExperimentsRequest,
) -> Result<(), Stop> {
    let open = || {
        client
            .call(request.clone(), |c, r| async move { c.experiments().watch_experiments(r).await })
    };
    let mut shown: BTreeMap<String, Experiment> = BTreeMap::new();
    watching::resumed(client, open, |response: WatchExperimentsResponse| {
        let Some(experiment) = &response.experiment else { return Ok(false) };
        let before = shown.insert(experiment.id.clone(), experiment.clone());
        // A stream that was opened again begins with what is known.
        if before.as_ref() != Some(experiment) {
            watching::tell(
                session,
                client,
                || page::line(experiment),
                || session.json("WatchExperimentsResponse", &response),
            )?;
        }
        Ok(!request.id.is_empty() && experiment.conclusion.is_some())
    })
    .await
}
