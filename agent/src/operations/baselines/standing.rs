//! How an operation stands: its baseline, the windows that were judged, and an episode that goes on.

use std::collections::VecDeque;
use std::sync::Arc;

use genesis_stats::{Episode, Method, OperationEpisode, OperationWatch, Quantile, Sketch, Watch};
use genesis_storage::{BaselineRecord, EpisodeRecord};
use serde::{Deserialize, Serialize};

use super::plan::{References, Scope};

/// So many windows are shown: three hours.
pub const SHOWN: usize = 36;

/// A baseline that is in force.
#[derive(Debug, Clone, PartialEq)]
pub struct Current {
    /// As it is kept.
    pub record: BaselineRecord,
    /// All of its values.
    pub sketch: Sketch,
    /// By time of the week.
    pub references: References,
    /// The mean of its values and their standard deviation; `None` where they have none.
    spread: Option<(f64, f64)>,
}

impl Current {
    /// One that comes into force.
    pub fn new(record: BaselineRecord, sketch: Sketch, references: References) -> Self {
        // For each window that is judged: two passes over the buckets.
        let spread = sketch.mean().zip(sketch.deviation());
        Self { record, sketch, references, spread }
    }

    /// The mean of its values and their standard deviation; `None` where they have none.
    pub fn spread(&self) -> Option<(f64, f64)> {
        self.spread
    }
}

/// What was made of a window at one quantile.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// Which.
    pub quantile: f64,
    /// The window's value, in seconds.
    pub value: f64,
    /// What was usual, and the share that exceeds it by right.
    pub usual: (f64, f64),
    /// Calls that exceeded it.
    pub above: u64,
    /// Of a binomial share.
    pub z: f64,
    /// The share of usual windows that are as bad, the z that it stands for, and by what that is known.
    pub verdict: Option<(f64, f64, Method)>,
    /// In standard deviations of single latencies from their mean.
    pub z_literal: f64,
    /// As bad as few are.
    pub candidate: bool,
    /// The CUSUM, and its limit.
    pub cusum: (f64, f64),
    /// What its reference is of.
    pub scope: Scope,
}

/// A window that is over.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    /// When it began, in seconds since 1970.
    pub start: i64,
    /// How many calls.
    pub count: u64,
    /// Its value at each quantile, in seconds.
    pub values: [Option<f64>; 3],
    /// At each quantile that could be judged.
    pub judged: Vec<Judged>,
    /// Why not all could.
    pub not_judged: String,
}

/// An operation.
#[derive(Debug, Default)]
pub struct Standing {
    /// What is usual; `None` as long as that is not known.
    pub current: Option<Arc<Current>>,
    /// How far its CUSUMs are.
    pub watch: OperationWatch,
    /// Windows that had too few calls for a quantile wait here for the next ones: how many, and what they had.
    pub pending: [(u32, Sketch); 3],
    /// The latest windows, newest first.
    pub windows: VecDeque<Window>,
    /// The episode that goes on.
    pub episode: Option<EpisodeRecord>,
    /// When a window could last be judged, in seconds since 1970.
    pub judged_at: Option<i64>,
    /// The CUSUM of the minutes, for a breaker.
    pub minute: Minute,
    /// When the last observation came, in seconds since 1970.
    pub last: Option<i64>,
}

/// How far the CUSUM of the minutes is.
#[derive(Debug, Default)]
pub struct Minute {
    /// S.
    pub sum: f64,
    /// So many minutes had too few calls, and these.
    pub pending: (u32, Sketch),
}

/// How far the CUSUMs of an operation are, as it is kept.
#[derive(Debug, Serialize, Deserialize)]
pub struct WatchRecord {
    quantiles: [WatchState; 3],
    episode: Option<EpisodeState>,
    /// When a window could last be judged, in seconds since 1970.
    #[serde(default)]
    pub judged_at: Option<i64>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WatchState {
    Calm { sum: f64, since: Option<u64> },
    Open { since: u64, opened: u64, calm: u32, worst: f64 },
}

#[derive(Debug, Serialize, Deserialize)]
struct EpisodeState {
    since: u64,
    opened: u64,
    quantile: u8,
    worst: f64,
}

impl WatchRecord {
    /// As it is kept.
    pub fn of(watch: &OperationWatch, judged_at: Option<i64>) -> Self {
        let state = |watch: Watch| match watch {
            Watch::Calm { sum, since } => WatchState::Calm { sum, since },
            Watch::Open(Episode { since, opened, calm, worst }) => {
                WatchState::Open { since, opened, calm, worst }
            }
        };
        let quantile = |quantile: Quantile| {
            let at = Quantile::ALL.iter().position(|it| *it == quantile);
            u8::try_from(at.unwrap_or(0)).unwrap_or(0)
        };
        let episode = watch.episode.map(|it| EpisodeState {
            since: it.since,
            opened: it.opened,
            quantile: quantile(it.quantile),
            worst: it.worst,
        });
        Self { quantiles: watch.quantiles.map(state), episode, judged_at }
    }

    /// As it goes on.
    pub fn watch(self) -> OperationWatch {
        let state = |state: WatchState| match state {
            WatchState::Calm { sum, since } => Watch::Calm { sum, since },
            WatchState::Open { since, opened, calm, worst } => {
                Watch::Open(Episode { since, opened, calm, worst })
            }
        };
        let episode = self.episode.map(|it| OperationEpisode {
            since: it.since,
            opened: it.opened,
            quantile: Quantile::ALL[usize::from(it.quantile).min(2)],
            worst: it.worst,
        });
        OperationWatch { quantiles: self.quantiles.map(state), episode }
    }
}
