//! `[matrices]`.

use std::time::Duration;

use genesis_stats::correlation::{DriftMode, Limits};
use genesis_storage::RolloutRecord;
use glob::Pattern;

use super::sharing::Sharing;
use crate::config::reader::Section;
use crate::scheduler::calendar::Schedule;

const DAY: Duration = Duration::from_secs(86_400);
const HOUR: Duration = Duration::from_secs(3_600);

/// What the configuration says of matrices.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// A matrix is of so long.
    pub window: Duration,
    /// Of each so many seconds the last value counts.
    pub bucket: u32,
    /// When a new one is calculated.
    pub schedule: Schedule,
    /// The series that have returns, not prices.
    pub returns: Vec<Pattern>,
    /// The series that matrices are made of, and those that are not.
    pub series: Vec<Pattern>,
    /// Which of them are left out.
    pub exclude: Vec<Pattern>,
    /// So many series there are.
    pub most: usize,
    /// What a matrix must keep.
    pub limits: Limits,
    /// Whether pairs without enough rows keep what is active.
    pub carry: bool,
    /// The most that a pair may be changed to make a matrix definite; 0: it is refused.
    pub max_repair: f64,
    /// How a valid one is rolled out.
    pub rollout: RolloutRecord,
    /// A stage that goes on for longer is told.
    pub stalled_after: Duration,
    /// So is it when the active matrix is older.
    pub stale_after: Duration,
    /// What this host has to do with the fleet's matrix.
    pub sharing: Sharing,
}

impl Config {
    /// What the text says. `in_fleet`: something holds a fleet together.
    pub fn read(root: &Section<'_>, in_fleet: bool) -> Self {
        let section = root.table("matrices");
        let window = section.duration(
            "window",
            "30d",
            DAY..=90 * DAY,
            "A matrix is calculated from the values of so long: whole days of UTC, and what has passed of today.",
        );
        let bucket = section.duration(
            "bucket",
            "5m",
            Duration::from_secs(10)..=HOUR,
            "Values are aligned to buckets of so long, of which an hour is a multiple; of each the last value counts.",
        );
        let seconds = bucket.as_secs().clamp(1, 3_600) as u32;
        if 3_600 % seconds != 0 || bucket.subsec_nanos() != 0 {
            section.problem("bucket", "an hour must be a multiple of it, such as \"5m\"");
        }
        let schedule = section.parsed(
            "schedule",
            Some("17 0 * * *"),
            "When a new matrix is calculated, UTC.",
            Schedule::parse,
        );
        let patterns = |key, default: &[&str], help| -> Vec<Pattern> {
            let texts = section.list(key, default, false, help);
            let each = texts.iter().filter_map(|text| match Pattern::new(text) {
                Ok(pattern) => Some(pattern),
                Err(error) => {
                    section.problem(key, format!("{text:?} is no pattern: {error}"));
                    None
                }
            });
            each.collect()
        };
        let returns = patterns(
            "returns",
            &[],
            "The series whose values are returns already, such as \"ret.*\". All others are prices, of which logarithms of \
             ratios are made.",
        );
        let series = patterns("series", &["*"], "The series that matrices are made of.");
        let exclude = patterns("exclude", &[], "Of those, the ones that are left out.");
        let number = |key, default, (least, most): (u64, u64), help| -> u64 {
            let read = section.parsed(key, Some(default), help, |text| match text.parse() {
                Ok(count) if (least..=most).contains(&count) => Ok(count),
                _ => Err(format!("{text:?} is not a number from {least} to {most}, as text")),
            });
            // A problem was reported.
            read.unwrap_or(least)
        };
        let most = number(
            "max_series",
            "500",
            (2, 1_000),
            "So many series there are; values of further ones are counted and left out.",
        );
        let min_points = number(
            "min_points",
            "100",
            (2, 100_000),
            "Each pair of series must have so many rows in common.",
        );
        let carry = section.flag(
            "carry",
            false,
            "Whether a pair with fewer rows keeps the value that is active, instead of having the matrix refused.",
        );
        let share = |section: &Section<'_>, key, default, most: f64, help| -> f64 {
            let read = section.parsed(key, Some(default), help, |text| match text.parse::<f64>() {
                Ok(value) if (0.0..=most).contains(&value) => Ok(value),
                _ => Err(format!("{text:?} is not a number from 0 to {most}, as text")),
            });
            read.unwrap_or(0.0)
        };
        let max_repair = share(
            &section,
            "max_repair",
            "0.05",
            0.5,
            "The most that a pair may be changed to make an indefinite matrix definite; never more than two standard errors \
             of it. \"0\": it is refused.",
        );
        let stale_after = section.duration(
            "stale_after",
            "7d",
            HOUR..=365 * DAY,
            "When the active matrix was calculated longer ago, people hear of it.",
        );
        let sharing = section.parsed(
            "fleet",
            Some("off"),
            "What this host has to do with the matrix of its fleet: off (nothing: its matrices are its own), publish (it \
             calculates, and what it puts into force is published for all), follow (it calculates none, and takes what is \
             published).",
            |text| match text {
                "off" => Ok(Sharing::Off),
                "publish" | "follow" if !in_fleet => {
                    Err("needs [fleet.etcd] endpoints: this host is on its own".to_owned())
                }
                "publish" => Ok(Sharing::Publish),
                "follow" => Ok(Sharing::Follow),
                _ => Err(format!("{text:?} is not one of off, publish, follow")),
            },
        );
        let drift = section.table("drift");
        let drift_mode = drift.parsed(
            "mode",
            Some("absolute"),
            "How drift against the active matrix is measured: absolute (the largest change of a pair), relative (in shares of \
             its old value), frobenius (all changes together, relative to the old matrix).",
            |text| match text {
                "absolute" => Ok(DriftMode::Absolute),
                "relative" => Ok(DriftMode::Relative),
                "frobenius" => Ok(DriftMode::Frobenius),
                _ => Err(format!("{text:?} is not one of absolute, relative, frobenius")),
            },
        );
        let max_drift = share(
            &drift,
            "max",
            "0.15",
            100.0,
            "The most drift that a valid matrix may have, inclusive.",
        );
        drift.finish();
        let history = section.table("history");
        let max_history = share(
            &history,
            "max_drift",
            "0.30",
            2.0,
            "The most that a pair may have moved against the matrix of 30 days ago.",
        );
        history.finish();
        let (rollout, stalled_after) = read_rollout(&section);
        section.finish();
        Self {
            window,
            bucket: seconds,
            schedule: schedule.unwrap_or_else(|| Schedule::constant("17 0 * * *")),
            returns,
            series,
            exclude,
            most: most as usize,
            limits: Limits {
                min_points: min_points as u32,
                drift_mode: drift_mode.unwrap_or(DriftMode::Absolute),
                max_drift,
                max_history,
            },
            carry,
            max_repair,
            rollout,
            stalled_after,
            stale_after,
            sharing: sharing.unwrap_or_default(),
        }
    }

    /// Whether a series has prices.
    pub fn has_prices(&self, series: &str) -> bool {
        !self.returns.iter().any(|pattern| pattern.matches(series))
    }

    /// Whether matrices are made of a series.
    pub fn uses(&self, series: &str) -> bool {
        self.series.iter().any(|pattern| pattern.matches(series))
            && !self.exclude.iter().any(|pattern| pattern.matches(series))
    }
}

fn read_rollout(section: &Section<'_>) -> (RolloutRecord, Duration) {
    let rollout = section.table("rollout");
    let stages = rollout.list(
        "stages",
        &["10%", "25%", "50%", "100%"],
        false,
        "The shares of the consumers that use a new matrix, stage by stage; the last is 100%.",
    );
    let read: Option<Vec<u32>> =
        stages.iter().map(|text| text.strip_suffix('%')?.trim().parse().ok()).collect();
    let good = |it: &Vec<u32>| {
        it.len() <= 20
            && it.last() == Some(&100)
            && it.first().is_some_and(|first| *first > 0)
            && it.windows(2).all(|pair| pair[0] < pair[1])
    };
    let percents = read.filter(good).unwrap_or_else(|| {
        let message =
            "must be shares that grow, such as [\"10%\", \"50%\", \"100%\"], and end with 100%";
        rollout.problem("stages", message);
        vec![100]
    });
    let outcomes = rollout.parsed(
        "outcomes",
        Some("500"),
        "A stage needs so many outcomes of consumers that use the new matrix, and as many of those that use the old one.",
        |text| match text.parse() {
            Ok(count @ 100..=10_000_000) => Ok(count),
            _ => Err(format!("{text:?} is not a number from 100 to 10000000, as text")),
        },
    );
    let alpha = rollout.parsed(
        "alpha",
        Some("0.05"),
        "The chance that a matrix that does no harm is taken for one that does, over all stages.",
        |text| match text.parse() {
            Ok(alpha) if (1e-6..=0.5).contains(&alpha) => Ok(alpha),
            _ => Err(format!("{text:?} is not a number from 0.000001 to 0.5, as text")),
        },
    );
    let stalled_after = rollout.duration(
        "stalled_after",
        "24h",
        Duration::from_secs(60)..=90 * DAY,
        "When a stage goes on for longer than so long, people hear of it.",
    );
    rollout.finish();
    let record =
        RolloutRecord { percents, outcomes: outcomes.unwrap_or(500), alpha: alpha.unwrap_or(0.05) };
    (record, stalled_after)
}
