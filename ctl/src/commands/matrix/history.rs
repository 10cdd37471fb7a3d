//! `matrix history`.

use genesis_client::v1::{
    CriterionVerdict, ListMatricesRequest, ListMatricesResponse, MatrixState, MatrixVersion,
};
use genesis_client::{Client, Error};

use super::page;
use crate::connect::Session;
use crate::exit::{Exit, Halt};
use crate::format::{self, count};
use crate::render::{Answer, Cell, View};

pub(in crate::commands) const COLUMNS: &[&str] = &[
    "VERSION",
    "STATE",
    "CALCULATED",
    "BY",
    "SERIES",
    "POINTS",
    "DRIFT",
    "ACTIVE FROM",
    "ENDED",
    "KEPT",
    "WHY",
];

pub(super) async fn history(session: &Session<'_>, limit: u32) -> Result<Exit, Halt> {
    session
        .each_in(COLUMNS, |client| async move {
            let list = ask(&client, limit).await?;
            let json = session.json("ListMatricesResponse", &list)?;
            // Between the rows of several nodes only if it is asked for.
            let tail =
                if session.global.verbose || !session.many() { facts(&list) } else { Vec::new() };
            let view = View {
                columns: COLUMNS,
                rows: list.versions.iter().map(|one| row(one, &list)).collect(),
                tail,
                empty: "no matrix was calculated yet: `genesisctl matrix update` does",
                ..View::default()
            };
            Ok(Answer::new(json, view))
        })
        .await
}

pub(in crate::commands) async fn ask(
    client: &Client,
    limit: u32,
) -> Result<ListMatricesResponse, Error> {
    let request = ListMatricesRequest { limit };
    client.call(request, |c, r| async move { c.matrices().list_matrices(r).await }).await
}

pub(in crate::commands) fn facts(list: &ListMatricesResponse) -> Vec<String> {
    let mut facts = Vec::new();
    if list.active > 0 {
        facts.push(format!("* version {} is active", list.active));
    }
    if list.canary > 0 {
        let version = list.canary;
        facts.push(format!(
            "~ version {version} is being rolled out: `genesisctl matrix rollout status`"
        ));
    }
    if let Some(at) = &list.next_update_at {
        facts.push(format!("next calculated at {}", format::time(Some(at))));
    }
    facts
}

pub(in crate::commands) fn row(one: &MatrixVersion, list: &ListMatricesResponse) -> Vec<Cell> {
    let mark = match one.version {
        version if version == list.active => "* ",
        version if version == list.canary => "~ ",
        _ => "",
    };
    let drift = page::criterion(one, "drift");
    let bad = drift.is_some_and(|one| one.verdict() == CriterionVerdict::Fail);
    vec![
        Cell::number(format!("{mark}{}", one.version)),
        Cell::matrix_state(one.state()),
        Cell::from(format::time(one.calculated_at.as_ref())),
        Cell::from(format::or_none(&one.by)),
        Cell::number(count(one.series.into())),
        Cell::number(count(one.fewest_points.into())),
        Cell::measured(page::found(drift.and_then(|one| one.value)), bad),
        Cell::from(format::time(one.activated_at.as_ref())),
        Cell::from(format::time(one.ended_at.as_ref())),
        Cell::from(if one.kept { "yes" } else { "no" }),
        Cell::from(why(one)),
    ]
}

/// Why it is not used, or how it came about.
fn why(one: &MatrixVersion) -> String {
    match (one.state(), one.ended_reason.as_str()) {
        (MatrixState::Rejected, "") => match page::against(one).as_str() {
            "" => format::NONE.to_owned(),
            failed => format!("failed: {failed}"),
        },
        (_, "") => format::or_none(&one.reason),
        (_, reason) => reason.to_owned(),
    }
}
