//! The sums of several hosts as if one agent had had all of their values: put together as the kernel does it.

use std::collections::{BTreeMap, BTreeSet};

use genesis_client::v1::{ListSeriesBlocksResponse, PairLack};
use genesis_client::{Error, Kind};
use genesis_stats::correlation::{
    Block, Candidate, Definiteness, Estimate, Part, Unsettled, Why, Window,
};

use super::square::Square;
use crate::format::{self, count};

/// What a node sent of its days.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// Empty where it has no day at all.
    pub(super) host: String,
    pub(super) bucket_seconds: u32,
    pub(super) days: BTreeMap<u32, Day>,
    pub(super) bytes: u64,
}

/// The sums of one day.
#[derive(Debug)]
pub(super) struct Day {
    series: Vec<String>,
    block: Block,
}

impl Held {
    /// Of all that came, piece by piece.
    pub(super) fn of(pieces: Vec<ListSeriesBlocksResponse>) -> Result<Self, Error> {
        let mut held = Self::default();
        // A day of which not all has come.
        let mut open: Option<ListSeriesBlocksResponse> = None;
        for (index, piece) in pieces.into_iter().enumerate() {
            held.bytes += piece.block.len() as u64;
            let more = piece.more;
            let whole = match open.take() {
                None => piece,
                Some(begun) if begun.day != piece.day => {
                    return Err(unreadable(begun.day, "it ends in its middle"));
                }
                Some(mut begun) => {
                    begun.block.extend_from_slice(&piece.block);
                    begun
                }
            };
            if index == 0 {
                (held.host, held.bucket_seconds) = (whole.host.clone(), whole.bucket_seconds);
            }
            if (&held.host, held.bucket_seconds) != (&whole.host, whole.bucket_seconds) {
                return Err(unreadable(
                    whole.day,
                    "it is of another host or bucket than the first",
                ));
            }
            match more {
                true => open = Some(whole),
                false => held.add(whole)?,
            }
        }
        match open {
            Some(begun) => Err(unreadable(begun.day, "it ends in its middle")),
            None => Ok(held),
        }
    }

    fn add(&mut self, whole: ListSeriesBlocksResponse) -> Result<(), Error> {
        let ListSeriesBlocksResponse { day, series, block, .. } = whole;
        let block = Block::from_bytes(&block).map_err(|why| unreadable(day, &why.to_string()))?;
        if series.len() != block.series() {
            let (names, held) = (series.len(), block.series());
            return Err(unreadable(day, &format!("it has {held} series and {names} names")));
        }
        match self.days.insert(day, Day { series, block }) {
            None => Ok(()),
            Some(_) => Err(unreadable(day, "it came twice")),
        }
    }

    /// The series of any day.
    pub(super) fn series(&self) -> BTreeSet<&String> {
        self.days.values().flat_map(|day| &day.series).collect()
    }

    pub(super) fn first_day(&self) -> Option<u32> {
        self.days.keys().next().copied()
    }

    pub(super) fn last_day(&self) -> Option<u32> {
        self.days.keys().next_back().copied()
    }
}

/// The matrix of all nodes.
#[derive(Debug)]
pub(super) struct Together {
    pub(super) square: Square,
    /// Pairs without a value, those that nobody holds last.
    pub(super) lacking: Vec<PairLack>,
    /// The fewest rows of a pair that has a value; `None` where none has.
    pub(super) fewest: Option<u32>,
    pub(super) definiteness: Definiteness,
}

impl Together {
    /// By node. `Ok(None)`: no node has a day.
    pub(super) fn of(nodes: &BTreeMap<String, Held>, least: u32) -> Result<Option<Self>, Error> {
        agree(nodes)?;
        let parts = nodes.values().flat_map(|held| {
            held.days.iter().map(|(day, Day { series, block })| Part {
                host: &held.host,
                span: i64::from(*day),
                series,
                block,
            })
        });
        let parts: Vec<_> = parts.collect();
        if parts.is_empty() {
            return Ok(None);
        }
        let window = Window::of(&parts).map_err(|why| incalculable(&why.to_string()))?;
        let (names, block) = window.into_parts();
        let estimate = Estimate::of(&block);
        let candidate = Candidate::of(&estimate, names.clone(), least, None)
            .map_err(|why| incalculable(&why.to_string()))?;
        let size = names.len();
        let places = || (0..size).flat_map(|i| (i + 1..size).map(move |j| (i, j)));
        let value = |(i, j)| candidate.get(i, j).unwrap_or(f64::NAN);
        let upper: Vec<f64> = places().map(value).collect();
        let settled = places().zip(&upper).filter(|(_, value)| !value.is_nan());
        let fewest = settled.map(|((i, j), _)| estimate.points(i, j)).min();
        let presence = Presence::of(nodes, &names);
        let mut lacking: Vec<_> =
            candidate.unsettled().iter().map(|one| lack(one, &names, &presence, least)).collect();
        // What is nearly enough first: it may come by itself.
        lacking.sort_by_key(|one| std::cmp::Reverse(one.points));
        let definiteness = candidate.definiteness();
        let square = Square::of(names, upper).ok_or_else(|| incalculable("values are missing"))?;
        Ok(Some(Self { square, lacking, fewest, definiteness }))
    }
}

/// What can't be put together: other buckets, and a host that is asked twice.
fn agree(nodes: &BTreeMap<String, Held>) -> Result<(), Error> {
    let mut hosts: BTreeMap<&str, &str> = BTreeMap::new();
    let mut first: Option<(&str, u32)> = None;
    for (node, held) in nodes.iter().filter(|(_, held)| !held.days.is_empty()) {
        if let Some(other) = hosts.insert(&held.host, node) {
            let host = format::or_none(&held.host);
            let message =
                format!("{other} and {node} are the same host ({host}), whose values count once");
            let next = "name each host once with -n; where they are two hosts, one's state was copied: see `genesisctl \
                        status -v` of both";
            return Err(Error::new(Kind::Conflict, "ABORTED", "HOST_TWICE", message, next));
        }
        let (other, seconds) = *first.get_or_insert((node, held.bucket_seconds));
        if held.bucket_seconds != seconds {
            let message = format!(
                "the buckets are not as long on all nodes, so their sums can't be put together: {other} has {}, {node} \
                 has {}",
                bucket(seconds),
                bucket(held.bucket_seconds)
            );
            let next =
                "give all agents the same bucket in [matrices], or name those that agree with -n";
            return Err(Error::new(Kind::Conflict, "ABORTED", "BUCKETS_DIFFER", message, next));
        }
    }
    Ok(())
}

/// Such as "5m".
pub(super) fn bucket(seconds: u32) -> String {
    format::duration(std::time::Duration::from_secs(seconds.into()))
}

fn lack(one: &Unsettled, names: &[String], presence: &Presence, least: u32) -> PairLack {
    let name = |place: usize| names.get(place).cloned().unwrap_or_default();
    let (i, j) = one.pair;
    let why = match one.why {
        Why::Few if one.points == 0 && !presence.together(one.pair) => {
            "no host has both series on one day".to_owned()
        }
        Why::Few => format!("{} points are needed", count(least.into())),
        Why::Constant { series } => format!("{} is constant", name(series)),
        Why::Lost { series } => format!("the variance of {} is lost in rounding", name(series)),
        other => other.to_string(),
    };
    PairLack { one: name(i), other: name(j), points: one.points, why }
}

/// On which days of which hosts each series is, a bit for each.
struct Presence(Vec<Vec<u64>>);

impl Presence {
    fn of(nodes: &BTreeMap<String, Held>, names: &[String]) -> Self {
        let places: BTreeMap<&String, usize> =
            names.iter().enumerate().map(|(place, name)| (name, place)).collect();
        let days: Vec<&Day> = nodes.values().flat_map(|held| held.days.values()).collect();
        let mut bits = vec![vec![0_u64; days.len().div_ceil(64)]; names.len()];
        for (index, day) in days.iter().enumerate() {
            for place in day.series.iter().filter_map(|name| places.get(name)) {
                bits[*place][index / 64] |= 1 << (index % 64);
            }
        }
        Self(bits)
    }

    /// Whether any host has both on one day.
    fn together(&self, (i, j): (usize, usize)) -> bool {
        self.0[i].iter().zip(&self.0[j]).any(|(one, other)| one & other != 0)
    }
}

/// Such as "2024-01-31".
pub(super) fn date(day: u32) -> String {
    let at = prost_types::Timestamp { seconds: i64::from(day) * 86_400, nanos: 0 };
    let text = format::time(Some(&at));
    text.split('T').next().unwrap_or_default().to_owned()
}

fn unreadable(day: u32, why: &str) -> Error {
    let message = format!("the agent's sums of {} can't be read: {why}", date(day));
    let next = "compare the versions with `genesisctl version`";
    Error::new(Kind::Internal, "INTERNAL", "ANSWER_UNREADABLE", message, next)
}

fn incalculable(why: &str) -> Error {
    let message = format!("the nodes' sums can't be put together: {why}");
    let next = "name fewer nodes with -n to find the one that can't, and compare with `genesisctl version`";
    Error::new(Kind::Internal, "INTERNAL", "ANSWER_UNREADABLE", message, next)
}
