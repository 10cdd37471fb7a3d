//! `deps history`, and an update that has ended.

use genesis_client::v1::{
    DependencyUpdate, ListDependencyUpdatesRequest, ListDependencyUpdatesResponse, UpdateState,
};
use genesis_client::{Client, Error};

use super::package;
use crate::connect::Session;
use crate::exit::{Exit, Halt};
use crate::format;
use crate::render::{Answer, Cell, Part, View};

const COLUMNS: &[&str] =
    &["STARTED", "PROJECT", "STRATEGY", "OUTCOME", "GENERATION", "CHANGED", "NOTE"];
const COLUMNS_LONG: &[&str] = &[
    "STARTED",
    "TOOK",
    "PROJECT",
    "STRATEGY",
    "OUTCOME",
    "GENERATION",
    "CHANGED",
    "NOTE",
    "RUN",
    "ACTOR",
    "REASON",
];

pub(super) async fn history(
    session: &Session<'_>,
    project: &str,
    limit: u32,
) -> Result<Exit, Halt> {
    let request = &ListDependencyUpdatesRequest { project: project.to_owned(), limit };
    let verbose = session.global.verbose;
    let columns = if verbose { COLUMNS_LONG } else { COLUMNS };
    session
        .each_in(columns, |client| async move {
            let listed = ask(&client, request.clone()).await?;
            let json = session.json("ListDependencyUpdatesResponse", &listed)?;
            let view = View {
                columns,
                rows: listed.updates.iter().map(|update| row(update, verbose)).collect(),
                parts: match verbose {
                    true => listed.updates.iter().filter(|one| has_more(one)).map(part).collect(),
                    false => Vec::new(),
                },
                empty: "nothing was updated yet",
                ..View::default()
            };
            Ok(Answer::new(json, view))
        })
        .await
}

pub(super) async fn ask(
    client: &Client,
    request: ListDependencyUpdatesRequest,
) -> Result<ListDependencyUpdatesResponse, Error> {
    client
        .call(request, |c, r| async move { c.dependencies().list_dependency_updates(r).await })
        .await
}

fn row(update: &DependencyUpdate, verbose: bool) -> Vec<Cell> {
    let mut cells = vec![Cell::from(format::time(update.started_at.as_ref()))];
    if verbose {
        let took = format::between(update.started_at.as_ref(), update.ended_at.as_ref());
        cells.push(Cell::number(took));
    }
    cells.extend([
        Cell::from(update.project.as_str()),
        Cell::from(how(update)),
        Cell::update_state(update.state(), update.ended_at.is_some()),
        Cell::from(generations(update)),
        Cell::from(package::brief(&update.changes)),
        note(update),
    ]);
    if verbose {
        cells.push(Cell::from(update.id.as_str()));
        cells.push(Cell::from(format::or_none(&update.actor)));
        cells.push(Cell::from(format::or_none(&update.reason)));
    }
    cells
}

fn how(update: &DependencyUpdate) -> &'static str {
    package::strategy(update.strategy(), "rollback")
}

/// Such as "3 -> 4": the release that was in service, and the one that it made or went back to.
fn generations(update: &DependencyUpdate) -> String {
    let number = |generation: u64| match generation {
        0 => format::NONE.to_owned(),
        generation => generation.to_string(),
    };
    match (update.from_generation, update.to_generation) {
        (0, 0) => format::NONE.to_owned(),
        (from, to) => format!("{} -> {}", number(from), number(to)),
    }
}

/// What somebody should know of it.
fn note(update: &DependencyUpdate) -> Cell {
    let notes = notes(update);
    match update.restart_owed || !update.ill.is_empty() || failure(update).is_some() {
        true => Cell::alert(notes.join("; "), true),
        false => Cell::from(format::or_none(&notes.join("; "))),
    }
}

fn notes(update: &DependencyUpdate) -> Vec<String> {
    let owed = "restart owed: the service has still to be restarted with it";
    failure(update)
        .into_iter()
        .chain(update.restart_owed.then(|| owed.to_owned()))
        .chain((!update.ill.is_empty()).then(|| {
            format!("what was before is in service again and does not do well: {}", update.ill)
        }))
        .chain(update.exploited.then(|| "of an exploited vulnerability".to_owned()))
        .collect()
}

/// Such as "TESTS_FAILED in TEST: 3 of 120 failed".
fn failure(update: &DependencyUpdate) -> Option<String> {
    let DependencyUpdate { error_code: code, error, .. } = update;
    if code.is_empty() && error.is_empty() {
        return None;
    }
    let place = match update.failed_in() {
        UpdateState::Unspecified => String::new(),
        state => format!(" in {}", format::short_name(state.as_str_name(), "UPDATE_STATE_")),
    };
    let code = if code.is_empty() { "failed" } else { code };
    let why = if error.is_empty() { String::new() } else { format!(": {error}") };
    Some(format!("{code}{place}{why}"))
}

fn has_more(update: &DependencyUpdate) -> bool {
    !update.changes.is_empty() || !update.test_output.is_empty()
}

/// All that it changed, and what its tests said last.
pub(super) fn part(update: &DependencyUpdate) -> Part {
    let mut lines = notes(update);
    let said = update.test_output.trim_end();
    if !said.is_empty() {
        lines.push("the last lines of its tests:".to_owned());
        lines.extend(said.lines().map(|line| format!("  {line}")));
    }
    Part {
        title: title(update),
        columns: package::TRIED,
        rows: update.changes.iter().map(package::row).collect(),
        lines,
    }
}

/// Such as "api moderate SUCCEEDED 3 -> 4 (2026-11-02T04:00:00Z, run 01J..)".
fn title(update: &DependencyUpdate) -> String {
    let state = format::short_name(update.state().as_str_name(), "UPDATE_STATE_");
    let began = format::time(update.started_at.as_ref());
    let generations = match generations(update) {
        none if none == format::NONE => String::new(),
        generations => format!(" {generations}"),
    };
    format!("{} {} {state}{generations} ({began}, run {})", update.project, how(update), update.id)
}
