//! `matrix watch`.

use std::collections::BTreeSet;

use genesis_client::Client;
use genesis_client::v1::{Matrix, WatchMatrixRequest, WatchMatrixResponse};
use serde_json::json;

use super::super::watching;
use crate::connect::Session;
use crate::exit::{Exit, Halt, Stop};
use crate::format::{self, count};
use crate::render::{Answer, View};

pub(super) async fn watch(session: &Session<'_>, consumer: &str) -> Result<Exit, Halt> {
    watching::needs_lines(session)?;
    let request = &WatchMatrixRequest { consumer: consumer.to_owned() };
    session
        .each(|client| async move {
            watching::limited(session, &client, print(session, &client, request)).await?;
            Ok(Answer { printed: true, ..Answer::new(json!({}), View::default()) })
        })
        .await
}

/// What was told last: of the matrix only what names it, and its series.
#[derive(Debug, PartialEq)]
struct Told {
    version: Option<u64>,
    digest: String,
    canary: bool,
    series: BTreeSet<String>,
}

impl Told {
    fn of(response: &WatchMatrixResponse) -> Self {
        let matrix = response.matrix.as_ref();
        Self {
            version: matrix.map(|matrix| matrix.version),
            digest: matrix.map(|matrix| matrix.digest.clone()).unwrap_or_default(),
            canary: response.canary,
            series: matrix
                .map(|matrix| matrix.series.iter().cloned().collect())
                .unwrap_or_default(),
        }
    }
}

async fn print(
    session: &Session<'_>,
    client: &Client,
    request: &WatchMatrixRequest,
) -> Result<(), Stop> {
    let open =
        || client.call(request.clone(), |c, r| async move { c.matrices().watch_matrix(r).await });
    let mut before: Option<Told> = None;
    watching::resumed(client, open, |response: WatchMatrixResponse| {
        let told = Told::of(&response);
        // A stream that was opened again begins with what is known.
        if before.as_ref() != Some(&told) {
            watching::tell(
                session,
                client,
                || line(response.matrix.as_ref(), &told, before.as_ref()),
                || session.json("WatchMatrixResponse", &response),
            )?;
            before = Some(told);
        }
        Ok(false)
    })
    .await
}

fn line(matrix: Option<&Matrix>, told: &Told, before: Option<&Told>) -> String {
    let Some(matrix) = matrix else { return "there is no matrix yet".to_owned() };
    let state = if told.canary { "CANARY" } else { "ACTIVE" };
    let mut line =
        format!("matrix {} {state}, {}", matrix.version, series(matrix.series.len() as u64));
    // Against nothing all of them would be new.
    if let Some(before) = before.filter(|before| before.version.is_some()) {
        let lists = [
            ("new", told.series.difference(&before.series)),
            ("gone", before.series.difference(&told.series)),
        ];
        for (what, list) in lists {
            let names: Vec<_> = list.map(String::as_str).collect();
            if !names.is_empty() {
                line += &format!("; {what}: {}", format::excerpt(&names.join(" "), 60));
            }
        }
    }
    if !matrix.digest.is_empty() {
        line += &format!("; digest {}", matrix.digest);
    }
    line
}

fn series(number: u64) -> String {
    format!("{} series", count(number))
}
