//! `db history`: what was done to databases, and what came of it.

use genesis_client::v1::{Care, CareStep, DatabaseItem, ListCareRequest};

use super::db::found;
use super::db_items::{benchmarks, item_columns, item_rows};
use crate::connect::Session;
use crate::exit::{Exit, Halt};
use crate::format;
use crate::render::{Answer, Cell, Part, View, finding};

const COLUMNS: &[&str] =
    &["RUN", "DATABASE", "OUTCOME", "STARTED", "TOOK", "FREED", "STEPS", "ACTOR", "NOTE"];
const STEP_COLUMNS: &[&str] = &["ACTION", "TARGET", "OUTCOME", "BEFORE", "AFTER", "TOOK", "DETAIL"];

pub(super) async fn show(session: &Session<'_>, database: &str, limit: u32) -> Result<Exit, Halt> {
    let request = &ListCareRequest { database: database.to_owned(), limit };
    session
        .each_in(COLUMNS, |client| async move {
            let list = client
                .call(request.clone(), |c, r| async move { c.database().list_care(r).await })
                .await?;
            let json = session.json("ListCareResponse", &list)?;
            let more = session.global.verbose;
            let view = View {
                columns: COLUMNS,
                rows: list.care.iter().map(row).collect(),
                parts: list.care.iter().filter(|_| more).flat_map(parts).collect(),
                empty: "nothing was done to any database yet",
                ..View::default()
            };
            Ok(Answer::new(json, view))
        })
        .await
}

fn row(care: &Care) -> Vec<Cell> {
    vec![
        Cell::from(format::or_none(&care.run_id)),
        Cell::from(care.database.as_str()),
        Cell::care_outcome(care.outcome()),
        Cell::from(format::time(care.started_at.as_ref())),
        Cell::number(format::between(care.started_at.as_ref(), care.ended_at.as_ref())),
        Cell::number(format::bytes(care.bytes_freed)),
        Cell::number(steps(&care.steps)),
        Cell::from(format::or_none(&care.actor)),
        Cell::from(found(care)),
    ]
}

/// How many were done, of how many.
fn steps(steps: &[CareStep]) -> String {
    let done = steps.iter().filter(|step| step.outcome == "done").count();
    match steps.len() {
        all if all == done => format::count(all as u64),
        all => format!("{} of {}", format::count(done as u64), format::count(all as u64)),
    }
}

/// All that is known of one; parts without anything are left out.
fn parts(care: &Care) -> Vec<Part> {
    let about = |what: &str| format!("{}, run {}: {what}", care.database, care.run_id);
    let items = |what: &str, items: &[DatabaseItem]| {
        let rows = item_rows(items, true);
        Part { title: about(what), columns: item_columns(true), rows, ..Part::default() }
    };
    let steps = Part {
        title: about("steps"),
        columns: STEP_COLUMNS,
        rows: care.steps.iter().map(step_row).collect(),
        ..Part::default()
    };
    let findings = Part {
        title: about("findings"),
        lines: care.findings.iter().map(finding).collect(),
        ..Part::default()
    };
    let before = [items("preflight", &care.preflight), steps];
    let after = [items("verification", &care.verification), findings];
    let queries = benchmarks(about("benchmark queries"), &care.benchmarks);
    let all = before.into_iter().chain(queries).chain(after);
    all.filter(|part| !(part.rows.is_empty() && part.lines.is_empty())).collect()
}

fn step_row(step: &CareStep) -> Vec<Cell> {
    let outcome = match step.outcome.as_str() {
        outcome @ ("done" | "failed") => Cell::alert(outcome, outcome == "failed"),
        outcome => Cell::from(outcome),
    };
    // A step that moves no bytes, such as an ANALYZE, has none to show.
    let size = |bytes| match (step.bytes_before, step.bytes_after) {
        (0, 0) => format::NONE.to_owned(),
        _ => format::bytes(bytes),
    };
    vec![
        Cell::from(step.action.as_str()),
        Cell::from(step.target.as_str()),
        outcome,
        Cell::number(size(step.bytes_before)),
        Cell::number(size(step.bytes_after)),
        Cell::number(format::proto_duration(step.took.as_ref())),
        Cell::from(step.detail.as_str()),
    ]
}
