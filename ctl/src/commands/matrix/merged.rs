//! `matrix show --merge`: the matrix of the whole fleet, from the sums of each node's days.

use std::cell::RefCell;
use std::collections::BTreeMap;

use genesis_client::v1::{ListSeriesBlocksRequest, SeriesWeight};
use genesis_client::{Client, Error};
use genesis_stats::correlation::Definiteness;
use serde_json::{Value, json};

use super::map::{self, Canvas};
use super::merge::{self, Held, Together};
use super::{Show, page};
use crate::connect::Session;
use crate::exit::{Exit, Halt, Stop};
use crate::format::{self, count};
use crate::render::{Answer, Cell, Part, View};

const COLUMNS: &[&str] = &["HOST", "DAYS", "FROM", "UNTIL", "SERIES", "BUCKET", "SIZE"];

/// What a pair needs where nothing else is said: the procedures' number.
const LEAST_POINTS: u32 = 100;

/// So many pairs without a value are in the JSON, as in that of a version.
const MOST_LACKING: usize = 100;

pub(super) async fn show(session: &Session<'_>, arguments: &Show) -> Result<Exit, Halt> {
    let gathered: RefCell<BTreeMap<String, Held>> = RefCell::default();
    let into = &gathered;
    let call = |client: Client| async move {
        let held = fetch(&client).await?;
        let answer = of_node(&held);
        into.borrow_mut().insert(client.node().to_string(), held);
        Ok(answer)
    };
    let merged = || {
        let nodes = gathered.borrow();
        merged(session, arguments, &nodes).map(Some)
    };
    session.each_merged(COLUMNS, call, merged).await
}

async fn fetch(client: &Client) -> Result<Held, Stop> {
    let mut stream = client
        .call(
            ListSeriesBlocksRequest {},
            |c, r| async move { c.series().list_series_blocks(r).await },
        )
        .await?;
    let mut pieces = Vec::new();
    while let Some(piece) = client.next(&mut stream).await? {
        pieces.push(piece);
    }
    Ok(Held::of(pieces)?)
}

/// What came of a node.
fn of_node(held: &Held) -> Answer {
    let day = |day: Option<u32>| day.map_or_else(|| format::NONE.to_owned(), merge::date);
    let (series, days) = (held.series().len() as u64, held.days.len() as u64);
    let row = vec![
        Cell::from(format::or_none(&held.host)),
        Cell::number(count(days)),
        Cell::from(day(held.first_day())),
        Cell::from(day(held.last_day())),
        Cell::number(count(series)),
        Cell::number(match held.bucket_seconds {
            0 => format::NONE.to_owned(),
            seconds => merge::bucket(seconds),
        }),
        Cell::number(format::bytes(held.bytes)),
    ];
    let json = json!({
        "host": held.host,
        "bucketSeconds": held.bucket_seconds,
        "days": days,
        "from": held.first_day().map(merge::date),
        "until": held.last_day().map(merge::date),
        "series": series,
    });
    Answer::new(json, View { columns: COLUMNS, rows: vec![row], ..View::default() })
}

fn merged(
    session: &Session<'_>,
    arguments: &Show,
    nodes: &BTreeMap<String, Held>,
) -> Result<Answer, Error> {
    let least = arguments.min_points.unwrap_or(LEAST_POINTS);
    let missing = session.nodes.len().saturating_sub(nodes.len());
    let together = Together::of(nodes, least)?;
    let json = to_json(nodes, missing, least, together.as_ref());
    let mut lines = Vec::new();
    if missing > 0 {
        let asked = count(session.nodes.len() as u64);
        lines.push(format!("  without {} of {asked} nodes", count(missing as u64)));
    }
    let Some(together) = together else {
        lines.push("  no node has values yet: programs push series to their agents".to_owned());
        let part = Part { title: title(nodes), lines, ..Part::default() };
        return Ok(Answer::new(json, View { parts: vec![part], ..View::default() }));
    };
    lines.extend(facts(&together, least));
    let mut parts = vec![
        Part { title: title(nodes), lines, ..Part::default() },
        page::lacking_part(
            "pairs without a value".to_owned(),
            &together.lacking,
            session.global.verbose,
        ),
        page::weights("what makes it indefinite".to_owned(), &weights(&together)),
    ];
    parts.push(match arguments.pairs {
        Some(most) => map::pairs("strongest pairs".to_owned(), &together.square, most),
        None => {
            let all = "`genesisctl matrix show --merge -o json`";
            map::part("values".to_owned(), &together.square, Canvas::of(session), all)
        }
    });
    parts.retain(|part| !(part.rows.is_empty() && part.lines.is_empty()));
    Ok(Answer::new(json, View { parts, ..View::default() }))
}

fn title(nodes: &BTreeMap<String, Held>) -> String {
    format!(
        "matrix of {}, calculated here and kept nowhere",
        format::plural(nodes.len() as u64, "node")
    )
}

fn facts(together: &Together, least: u32) -> Vec<String> {
    let square = &together.square;
    let (all, lacking) = (square.upper().len() as u64, together.lacking.len() as u64);
    let mut facts = vec![format!(
        "  {} series; {} of {} have a value, for which {} points are needed",
        count(square.size() as u64),
        count(all - lacking.min(all)),
        format::plural(all, "pair"),
        count(least.into())
    )];
    if let Some(fewest) = together.fewest {
        facts.push(format!("  at least {} points a pair", count(fewest.into())));
    }
    facts.push(match &together.definiteness {
        Definiteness::Definite => "  positive semi-definite".to_owned(),
        Definiteness::Indefinite { smallest, .. } => {
            format!("  indefinite: its smallest eigenvalue is {}", page::found(Some(*smallest)))
        }
        Definiteness::Unknown => {
            "  whether it is definite can't be said while pairs lack a value".to_owned()
        }
    });
    facts
}

fn weights(together: &Together) -> Vec<SeriesWeight> {
    let Definiteness::Indefinite { weights, .. } = &together.definiteness else {
        return Vec::new();
    };
    let names = together.square.names();
    let weight = |(place, weight): &(usize, f64)| {
        Some(SeriesWeight { series: names.get(*place)?.clone(), weight: *weight })
    };
    weights.iter().filter_map(weight).collect()
}

fn to_json(
    nodes: &BTreeMap<String, Held>,
    missing: usize,
    least: u32,
    together: Option<&Together>,
) -> Value {
    let node = |(node, held): (&String, &Held)| json!({ "node": node, "host": held.host, "days": held.days.len(), "series": held.series().len() });
    let matrix = together.map(|together| {
        // No number is no JSON.
        let upper = together.square.upper().iter();
        let upper: Vec<_> =
            upper.map(|value| Some(*value).filter(|value| !value.is_nan())).collect();
        let lacking = together.lacking.iter().take(MOST_LACKING).map(|one| {
            json!({ "one": one.one, "other": one.other, "points": one.points, "why": one.why })
        });
        let (definite, smallest) = match &together.definiteness {
            Definiteness::Definite => (Some(true), None),
            Definiteness::Indefinite { smallest, .. } => (Some(false), Some(smallest)),
            Definiteness::Unknown => (None, None),
        };
        json!({
            "series": together.square.names(),
            "upper": upper,
            "fewestPoints": together.fewest,
            "lacking": lacking.collect::<Vec<_>>(),
            "lackingTotal": together.lacking.len(),
            "definite": definite,
            "smallestEigenvalue": smallest,
        })
    });
    json!({
        "nodes": nodes.len(),
        "unanswered": missing,
        "minPoints": least,
        "parts": nodes.iter().map(node).collect::<Vec<_>>(),
        "matrix": matrix,
    })
}
