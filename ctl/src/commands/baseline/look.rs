//! `baseline history`, `baseline anomalies`, `baseline export`.

use std::path::Path;

use genesis_client::v1::{
    Baseline, Candidate, Episode, ExportBaselinesRequest, ExportBaselinesResponse,
    ListAnomaliesRequest, ListBaselineHistoryRequest,
};

use super::list;
use crate::connect::Session;
use crate::exit::{Exit, Halt};
use crate::format::{self, count, seconds};
use crate::outfile::OutFile;
use crate::render::{Answer, Cell, Part, View};

const HISTORY_COLUMNS: &[&str] = &[
    "OPERATION",
    "GEN",
    "CALCULATED",
    "CAUSE",
    "P50",
    "P95",
    "P99",
    "N",
    "FROM",
    "UNTIL",
    "BY",
    "REASON",
];
const EPISODE_COLUMNS: &[&str] =
    &["OPERATION", "SINCE", "UNTIL", "ENDED", "QUANTILE", "USUAL", "WORST", "z", "CHANGED BEFORE"];
const CANDIDATE_COLUMNS: &[&str] = &["OPERATION", "WINDOW", "QUANTILE", "LATENCY", "USUAL", "p"];

pub(super) async fn history(
    session: &Session<'_>,
    operation: &str,
    limit: u32,
) -> Result<Exit, Halt> {
    let request = &ListBaselineHistoryRequest { operation: operation.to_owned(), limit };
    session
        .each_in(HISTORY_COLUMNS, |client| async move {
            let history = client
                .call(request.clone(), |c, r| async move {
                    c.baselines().list_baseline_history(r).await
                })
                .await?;
            let json = session.json("ListBaselineHistoryResponse", &history)?;
            let view = View {
                columns: HISTORY_COLUMNS,
                rows: history.baselines.iter().map(baseline_row).collect(),
                empty: "no baseline was calculated yet",
                ..View::default()
            };
            Ok(Answer::new(json, view))
        })
        .await
}

fn baseline_row(one: &Baseline) -> Vec<Cell> {
    let mut cells = vec![
        Cell::from(one.operation.as_str()),
        Cell::number(one.generation.to_string()),
        Cell::from(format::time(one.calculated_at.as_ref())),
        Cell::from(format::or_none(&one.cause)),
    ];
    cells.extend(list::quantiles(Some(one)));
    cells.extend([
        Cell::number(count(one.count)),
        Cell::from(format::time(one.from.as_ref())),
        Cell::from(format::time(one.until.as_ref())),
        Cell::from(format::or_none(&one.by)),
        Cell::from(format::or_none(&one.reason)),
    ]);
    cells
}

pub(super) async fn anomalies(
    session: &Session<'_>,
    operation: &str,
    limit: u32,
    candidates: bool,
) -> Result<Exit, Halt> {
    let request = &ListAnomaliesRequest { operation: operation.to_owned(), limit, candidates };
    session
        .each_in(EPISODE_COLUMNS, |client| async move {
            let found = client
                .call(request.clone(), |c, r| async move { c.baselines().list_anomalies(r).await })
                .await?;
            let json = session.json("ListAnomaliesResponse", &found)?;
            let part = Part {
                title: "candidates".to_owned(),
                columns: CANDIDATE_COLUMNS,
                rows: found.candidates.iter().map(candidate_row).collect(),
                ..Part::default()
            };
            let view = View {
                columns: EPISODE_COLUMNS,
                rows: found.episodes.iter().map(episode_row).collect(),
                parts: if found.candidates.is_empty() { Vec::new() } else { vec![part] },
                empty: "no operation has left what is usual",
                ..View::default()
            };
            Ok(Answer::new(json, view))
        })
        .await
}

fn episode_row(one: &Episode) -> Vec<Cell> {
    let ended = match one.ended.as_str() {
        "" => Cell::alert("goes on", true),
        how => Cell::from(how),
    };
    vec![
        Cell::from(one.operation.as_str()),
        Cell::from(format::time(one.since.as_ref())),
        Cell::from(format::time(one.until.as_ref())),
        ended,
        Cell::from(format::quantile(one.quantile)),
        Cell::number(seconds(one.usual_seconds)),
        Cell::number(seconds(one.worst_seconds)),
        Cell::number(format!("{:.2}", one.worst_z)),
        Cell::from(format::or_none(&one.changes.join("; "))),
    ]
}

fn candidate_row(one: &Candidate) -> Vec<Cell> {
    vec![
        Cell::from(one.operation.as_str()),
        Cell::from(format::time(one.start.as_ref())),
        Cell::from(format::quantile(one.quantile)),
        Cell::number(seconds(one.seconds)),
        Cell::number(seconds(one.usual_seconds)),
        Cell::number(format!("{:.4}", one.p)),
    ]
}

pub(super) async fn export(
    session: &Session<'_>,
    operation: &str,
    out: Option<&Path>,
) -> Result<Exit, Halt> {
    session.one_node("baseline export")?;
    if !session.for_people() && out.is_none() {
        return Err(Halt::Usage(
            "the text of Prometheus is no JSON: add --out FILE for it, or leave -o out".into(),
        ));
    }
    let request = &ExportBaselinesRequest { operation: operation.to_owned() };
    session
        .each(|client| async move {
            // Refused before the agent is put to work.
            let replace = session.global.yes;
            let file = out.map(|path| OutFile::create(path, replace)).transpose()?;
            let mut pieces = client
                .call(
                    request.clone(),
                    |c, r| async move { c.baselines().export_baselines(r).await },
                )
                .await?;
            let mut export = ExportBaselinesResponse::default();
            while let Some(piece) = client.next(&mut pieces).await? {
                export.text.push_str(&piece.text);
            }
            let json = session.json("ExportBaselinesResponse", &export)?;
            let Some(mut file) = file else {
                return Ok(Answer::new(json, View { text: export.text, ..View::default() }));
            };
            file.write(export.text.as_bytes())?;
            file.commit()?;
            if session.for_people() {
                let lines = export.text.lines().count() as u64;
                session.note(&format!("exported {}", format::plural(lines, "line")));
            }
            Ok(Answer::new(json, View::default()))
        })
        .await
}
