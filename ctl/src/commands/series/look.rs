//! `series list`, `series gaps`.

use std::time::Duration;

use genesis_client::v1::{
    GetStatusRequest, ListSeriesGapsRequest, ListSeriesRequest, ListSeriesResponse, Series,
    SeriesGap,
};
use prost_types::Timestamp;

use crate::connect::Session;
use crate::exit::{Exit, Halt};
use crate::format::{self, count};
use crate::render::{Answer, Cell, View};

const COLUMNS: &[&str] =
    &["SERIES", "KIND", "USED", "POINTS", "MISSING", "GAPS", "LAST VALUE", "AGE"];
const GAP_COLUMNS: &[&str] = &["FROM", "UNTIL", "LENGTH", "BUCKETS"];

pub(super) async fn list(session: &Session<'_>, pattern: &str, limit: u32) -> Result<Exit, Halt> {
    let request = &ListSeriesRequest { pattern: pattern.to_owned(), limit };
    session
        .each_in(COLUMNS, |client| async move {
            let list = client
                .call(request.clone(), |c, r| async move { c.series().list_series(r).await })
                .await?;
            let json = session.json("ListSeriesResponse", &list)?;
            if !session.for_people() {
                return Ok(Answer::new(json, View::default()));
            }
            // Values come with times of the agent's clock, or near it.
            let status = client
                .call(GetStatusRequest {}, |c, r| async move { c.agent().get_status(r).await })
                .await?;
            let more = session.global.verbose;
            // Between the rows of several nodes only if it is asked for.
            let mut tail = if more || !session.many() { facts(&list, more) } else { Vec::new() };
            if limit > 0 && list.series.len() >= limit as usize {
                tail.push(format!(
                    "there may be more than these {}: see --limit",
                    count(limit.into())
                ));
            }
            let view = View {
                columns: COLUMNS,
                rows: list.series.iter().map(|one| row(one, status.now.as_ref())).collect(),
                tail,
                empty: match pattern {
                    "" => "no series yet: programs send values, and `genesisctl series push` does",
                    _ => "no series has such a name",
                },
                ..View::default()
            };
            Ok(Answer::new(json, view))
        })
        .await
}

fn facts(list: &ListSeriesResponse, verbose: bool) -> Vec<String> {
    let length = |seconds| format::duration(Duration::from_secs(seconds));
    let (bucket, window) = (length(list.bucket_seconds.into()), length(list.window_seconds));
    let mut facts = vec![format!("a bucket is {bucket} long, the window {window}")];
    if verbose {
        facts.push(format!("values are kept in a file of {}", format::bytes(list.file_bytes)));
    }
    facts
}

fn row(series: &Series, now: Option<&Timestamp>) -> Vec<Cell> {
    let last = series.last_at.as_ref();
    let value = last.map_or_else(|| format::NONE.to_owned(), |_| series.last_value.to_string());
    vec![
        Cell::from(series.name.as_str()),
        Cell::from(format::short_name(series.kind().as_str_name(), "SERIES_KIND_")),
        Cell::from(if series.used { "yes" } else { "no" }),
        Cell::number(count(series.points)),
        Cell::number(count(series.missing)),
        Cell::number(count(series.gaps)),
        Cell::number(value),
        Cell::from(format::between(last, now)),
    ]
}

pub(super) async fn gaps(session: &Session<'_>, series: &str, limit: u32) -> Result<Exit, Halt> {
    let request = &ListSeriesGapsRequest { series: series.to_owned(), limit };
    session
        .each_in(GAP_COLUMNS, |client| async move {
            let found = client
                .call(request.clone(), |c, r| async move { c.series().list_series_gaps(r).await })
                .await?;
            let json = session.json("ListSeriesGapsResponse", &found)?;
            let (shown, total) = (found.gaps.len() as u64, found.total);
            let tail = match shown < total {
                true => vec![format!("the longest {} of {} gaps", count(shown), count(total))],
                false => Vec::new(),
            };
            let view = View {
                columns: GAP_COLUMNS,
                rows: found.gaps.iter().map(gap_row).collect(),
                tail,
                empty: "it has no gaps",
                ..View::default()
            };
            Ok(Answer::new(json, view))
        })
        .await
}

fn gap_row(gap: &SeriesGap) -> Vec<Cell> {
    let (from, until) = (gap.from.as_ref(), gap.until.as_ref());
    vec![
        Cell::from(format::time(from)),
        Cell::from(format::time(until)),
        Cell::from(format::between(from, until)),
        Cell::number(count(gap.buckets)),
    ]
}
