//! `db health`, `db indexes`.

use genesis_client::v1::{
    AnalyzeIndexesRequest, AnalyzeIndexesResponse, GetDatabaseHealthRequest, IndexAdvice,
    SlowStatement,
};

use super::db::{Which, engine};
use super::db_items::{exit, item_columns, item_rows, tally};
use crate::connect::Session;
use crate::exit::{Exit, Halt};
use crate::format;
use crate::render::{Answer, Cell, Part, View};

const SLOW_COLUMNS: &[&str] = &["TOTAL", "CALLS", "MEAN", "STATEMENT"];
const ADVICE_COLUMNS: &[&str] = &["KIND", "INDEX", "TABLE", "SIZE", "SAVES", "EVIDENCE", "CAUTION"];

/// So many characters of a statement are shown.
const STATEMENT: usize = 100;

pub(super) async fn health(session: &Session<'_>, which: &Which) -> Result<Exit, Halt> {
    let request = &GetDatabaseHealthRequest { database: which.database.clone() };
    let more = session.global.verbose;
    session
        .each_in(item_columns(more), |client| async move {
            let health = client
                .call(
                    request.clone(),
                    |c, r| async move { c.database().get_database_health(r).await },
                )
                .await?;
            let json = session.json("GetDatabaseHealthResponse", &health)?;
            let lead = format!(
                "{}: {} {}, {}: {} in {}",
                health.database,
                engine(health.engine()),
                format::or_none(&health.version),
                format::bytes(health.bytes),
                tally(&health.items),
                format::proto_duration(health.took.as_ref())
            );
            let view = View {
                lead: vec![lead],
                columns: item_columns(more),
                rows: item_rows(&health.items, more),
                parts: slow(session, &health.slow).into_iter().collect(),
                ..View::default()
            };
            let exit = exit(health.items.iter().map(|item| item.truth()));
            // Nothing measured is nothing known.
            let exit = if health.items.is_empty() { Exit::Unknown } else { exit };
            Ok(Answer::new(json, view).exit(exit))
        })
        .await
}

/// Whether parts are shown below rows: between those of several nodes only if they are asked for.
fn with_parts(session: &Session<'_>) -> bool {
    !session.many() || session.global.verbose
}

fn slow(session: &Session<'_>, statements: &[SlowStatement]) -> Option<Part> {
    if statements.is_empty() || !with_parts(session) {
        return None;
    }
    let most = if session.global.verbose { usize::MAX } else { STATEMENT };
    let row = |statement: &SlowStatement| {
        vec![
            Cell::number(format::proto_duration(statement.total.as_ref())),
            Cell::number(format::count(statement.calls)),
            Cell::number(format::latency(statement.mean.as_ref())),
            Cell::from(format::excerpt(&statement.text, most)),
        ]
    };
    Some(Part {
        title: "Statements that take most time".to_owned(),
        columns: SLOW_COLUMNS,
        rows: statements.iter().map(row).collect(),
        ..Part::default()
    })
}

pub(super) async fn indexes(session: &Session<'_>, which: &Which) -> Result<Exit, Halt> {
    let request = &AnalyzeIndexesRequest { database: which.database.clone() };
    session
        .each_in(ADVICE_COLUMNS, |client| async move {
            let analysis = client
                .call(request.clone(), |c, r| async move { c.database().analyze_indexes(r).await })
                .await?;
            let json = session.json("AnalyzeIndexesResponse", &analysis)?;
            let view = View {
                lead: vec![extent(&analysis)],
                columns: ADVICE_COLUMNS,
                rows: analysis.advice.iter().map(advice_row).collect(),
                parts: script(session, &analysis.advice).into_iter().collect(),
                ..View::default()
            };
            let exit = if analysis.advice.is_empty() { Exit::Ok } else { Exit::Findings };
            Ok(Answer::new(json, view).exit(exit))
        })
        .await
}

fn extent(analysis: &AnalyzeIndexesResponse) -> String {
    let indexes = match analysis.indexes {
        1 => "1 index".to_owned(),
        indexes => format!("{} indexes", format::count(indexes.into())),
    };
    let advice = match analysis.advice.as_slice() {
        [] => "nothing to advise".to_owned(),
        advice => {
            // What is left alone saves nothing.
            let free = advice.iter().filter(|one| one.caution.is_empty());
            let saved = free.fold(0u64, |sum, one| sum.saturating_add(one.saves_bytes));
            let count = format::count(advice.len() as u64);
            format!("advice about {count}, which would save {}", format::bytes(saved))
        }
    };
    let since = match &analysis.counted_since {
        Some(at) => format!("counted since {}", format::time(Some(at))),
        None => "not counted".to_owned(),
    };
    format!("{}: {indexes}, {advice}; their use is {since}", analysis.database)
}

fn advice_row(advice: &IndexAdvice) -> Vec<Cell> {
    // SQLite does not tell how large an index is.
    let size = |bytes: u64| match bytes {
        0 => "-".to_owned(),
        bytes => format::bytes(bytes),
    };
    vec![
        Cell::from(advice.kind.as_str()),
        Cell::from(advice.index.as_str()),
        Cell::from(format::or_none(&advice.table)),
        Cell::number(size(advice.bytes)),
        Cell::number(size(advice.saves_bytes)),
        Cell::from(advice.evidence.as_str()),
        Cell::from(format::or_none(&advice.caution)),
    ]
}

/// What would mend it, to be copied; what has a caution is commented out.
fn script(session: &Session<'_>, advice: &[IndexAdvice]) -> Option<Part> {
    let line = |advice: &IndexAdvice| {
        let sql = advice.sql.replace('\n', " ");
        match advice.caution.as_str() {
            "" => sql,
            caution => format!("-- {sql} -- {}", caution.replace('\n', " ")),
        }
    };
    let lines: Vec<_> = advice.iter().filter(|one| !one.sql.is_empty()).map(line).collect();
    if lines.is_empty() || !with_parts(session) {
        return None;
    }
    let title = "-- Nobody runs this by itself:".to_owned();
    Some(Part { title, lines, ..Part::default() })
}
