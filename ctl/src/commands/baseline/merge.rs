//! The calls of several nodes as if one agent had seen them all: sketches merge exactly.

use std::collections::BTreeMap;

use genesis_client::v1::{self, BaselineQuantile, GetBaselineResponse};
use genesis_client::{Error, Kind};
use genesis_stats::{Parts, Sketch};
use prost_types::Timestamp;
use serde_json::{Value, json};

use super::{histogram, list, page};
use crate::connect::Session;
use crate::format::{self, count, seconds};
use crate::render::{Answer, Cell, Part, View};

const WINDOW_COLUMNS: &[&str] = &["NODE", "FROM", "UNTIL", "WINDOW", "N"];

/// What came of the nodes so far.
#[derive(Debug, Default)]
pub(super) struct Merged {
    answered: usize,
    operations: BTreeMap<String, Operation>,
}

#[derive(Debug, Default)]
struct Operation {
    sketch: Sketch,
    windows: Vec<Window>,
}

/// What a node's baseline is calculated from.
#[derive(Debug)]
struct Window {
    node: String,
    from: Option<Timestamp>,
    until: Option<Timestamp>,
    count: u64,
}

impl Merged {
    /// Adds what a node knows of its operations; of none of them where one is no sketch.
    pub(super) fn add(&mut self, node: &str, found: &[GetBaselineResponse]) -> Result<(), Error> {
        let mut known = Vec::new();
        for one in found {
            let Some(operation) = &one.operation else { continue };
            let (Some(baseline), Some(sketch)) = (&operation.baseline, &one.sketch) else {
                continue;
            };
            let sketch =
                of_message(sketch).map_err(|why| unreadable(&operation.operation, &why))?;
            let window = Window {
                node: node.to_owned(),
                from: baseline.from,
                until: baseline.until,
                count: sketch.count(),
            };
            known.push((operation.operation.clone(), sketch, window));
        }
        self.answered += 1;
        for (name, sketch, window) in known {
            let all = self.operations.entry(name).or_default();
            all.sketch.merge(&sketch);
            all.windows.push(window);
            all.windows.sort_by(|a, b| a.node.cmp(&b.node));
        }
        Ok(())
    }

    /// What all nodes come to.
    pub(super) fn answer(&self, session: &Session<'_>) -> Result<Answer, Error> {
        let missing = session.nodes.len().saturating_sub(self.answered);
        let operations = self.operations.iter();
        let json = operations.map(|(name, one)| one.json(session, name));
        let json = json!({
            "nodes": self.answered,
            "unanswered": missing,
            "operations": json.collect::<Result<Vec<_>, _>>()?,
        });
        let mut view = View {
            columns: list::COLUMNS,
            rows: self.operations.iter().map(|(name, one)| one.row(name)).collect(),
            parts: self.operations.iter().flat_map(|(name, one)| one.parts(name)).collect(),
            ..View::default()
        };
        if missing > 0 {
            let asked = count(session.nodes.len() as u64);
            view.tail.push(format!("without {} of {asked} nodes", count(missing as u64)));
        }
        if self.operations.is_empty() {
            view.tail.push("no node has a baseline yet".to_owned());
        }
        Ok(Answer::new(json, view))
    }
}

impl Operation {
    fn quantiles(&self) -> Vec<BaselineQuantile> {
        let known = |quantile: f64| {
            let (low_seconds, high_seconds) = self.sketch.interval(quantile)?;
            Some(BaselineQuantile {
                quantile,
                seconds: self.sketch.quantile(quantile)?,
                low_seconds,
                high_seconds,
                low_n: self.sketch.low_n(quantile),
            })
        };
        [0.5, 0.95, 0.99].into_iter().filter_map(known).collect()
    }

    /// From when until when observations of any node count, and whether that is the same on all.
    fn window(&self) -> (Option<Timestamp>, Option<Timestamp>, bool) {
        let key = |at: &Timestamp| (at.seconds, at.nanos);
        let from = self.windows.iter().filter_map(|one| one.from).min_by_key(key);
        let until = self.windows.iter().filter_map(|one| one.until).max_by_key(key);
        let differ = self.windows.iter().any(|one| one.from != from || one.until != until);
        (from, until, differ)
    }

    /// As a baseline of the contract, as far as there is one of all nodes.
    fn baseline(&self, name: &str) -> v1::Baseline {
        let (from, until, _) = self.window();
        v1::Baseline {
            operation: name.to_owned(),
            from,
            until,
            count: self.sketch.count(),
            quantiles: self.quantiles(),
            alpha: self.sketch.alpha(),
            mean_seconds: self.sketch.mean().unwrap_or_default(),
            deviation_seconds: self.sketch.deviation().unwrap_or_default(),
            min_seconds: self.sketch.min().unwrap_or_default(),
            max_seconds: self.sketch.max().unwrap_or_default(),
            ..v1::Baseline::default()
        }
    }

    fn row(&self, name: &str) -> Vec<Cell> {
        let baseline = self.baseline(name);
        let mut cells = vec![Cell::from(name), Cell::from(format::NONE)];
        cells.extend(list::quantiles(Some(&baseline)));
        cells.extend([
            Cell::number(count(baseline.count)),
            Cell::from(format::NONE),
            Cell::from(list::window(&baseline)),
        ]);
        cells
    }

    fn parts(&self, name: &str) -> Vec<Part> {
        let about = |what: &str| format!("{name}: {what}");
        let baseline = self.baseline(name);
        let (.., differ) = self.window();
        let facts = vec![
            format!(
                "  n = {} on {}",
                count(baseline.count),
                format::plural(self.windows.len() as u64, "node")
            ),
            format!(
                "  mean {}, standard deviation {}, min {}, max {}",
                seconds(baseline.mean_seconds),
                seconds(baseline.deviation_seconds),
                seconds(baseline.min_seconds),
                seconds(baseline.max_seconds)
            ),
            format!("  {}", page::alpha(baseline.alpha)),
        ];
        let title = match differ {
            true => about("what counts, and the nodes' windows differ"),
            false => about("what counts"),
        };
        let row = |one: &Window| {
            vec![
                Cell::from(one.node.as_str()),
                Cell::from(format::time(one.from.as_ref())),
                Cell::from(format::time(one.until.as_ref())),
                Cell::from(format::between(one.from.as_ref(), one.until.as_ref())),
                Cell::number(count(one.count)),
            ]
        };
        let marks = page::marks(&baseline.quantiles);
        let sketch = to_message(&self.sketch);
        vec![
            Part { title: name.to_owned(), lines: facts, ..Part::default() },
            page::quantiles(about("usual"), &baseline.quantiles),
            Part {
                title,
                columns: WINDOW_COLUMNS,
                rows: self.windows.iter().map(row).collect(),
                ..Part::default()
            },
            histogram::part(about("calls by latency"), &sketch, &marks),
        ]
    }

    fn json(&self, session: &Session<'_>, name: &str) -> Result<Value, Error> {
        let (.., differ) = self.window();
        let windows = self.windows.iter().map(|one| {
            // A baseline is what the contract has for these.
            let window = v1::Baseline { from: one.from, until: one.until, count: one.count, ..Default::default() };
            let window = session.json("Baseline", &window)?;
            Ok(json!({ "node": one.node, "from": window["from"], "until": window["until"], "count": window["count"] }))
        });
        Ok(json!({
            "operation": name,
            "baseline": session.json("Baseline", &self.baseline(name))?,
            "sketch": session.json("Sketch", &to_message(&self.sketch))?,
            "windows": windows.collect::<Result<Vec<Value>, Error>>()?,
            "windowsDiffer": differ,
        }))
    }
}

fn of_message(sketch: &v1::Sketch) -> Result<Sketch, String> {
    let parts = Parts {
        level: sketch.level,
        zeros: sketch.zeros,
        rejected: sketch.rejected,
        offset: sketch.offset,
        counts: sketch.counts.clone(),
        sum_nanos: u128::from(sketch.sum_nanos_high) << 64 | u128::from(sketch.sum_nanos_low),
        min: sketch.min,
        max: sketch.max,
        coarse: sketch.coarse,
    };
    Sketch::from_parts(parts).map_err(|error| error.to_string())
}

fn to_message(sketch: &Sketch) -> v1::Sketch {
    let parts = sketch.to_parts();
    v1::Sketch {
        level: parts.level,
        zeros: parts.zeros,
        rejected: parts.rejected,
        offset: parts.offset,
        counts: parts.counts,
        sum_nanos_high: (parts.sum_nanos >> 64) as u64,
        sum_nanos_low: parts.sum_nanos as u64,
        min: parts.min,
        max: parts.max,
        coarse: parts.coarse,
    }
}

fn unreadable(operation: &str, why: &str) -> Error {
    let message = format!("the agent's sketch of {operation} can't be merged: {why}");
    let next = "compare the versions with `genesisctl version`";
    Error::new(Kind::Internal, "INTERNAL", "ANSWER_UNREADABLE", message, next)
}
