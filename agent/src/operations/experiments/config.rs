//! `[experiments]`.

use std::time::Duration;

use crate::config::reader::Section;

const DAY: Duration = Duration::from_secs(86_400);

/// What the configuration says of experiments.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Ids of trades are kept so long.
    pub dedup_retention: Duration,
    /// So many experiments go on at a time.
    pub running: usize,
    /// So many parameters there are.
    pub parameters: usize,
    /// So many experiments that have ended are kept.
    pub history: usize,
    /// So many ids of trades are kept, of all experiments together.
    pub ids: usize,
}

impl Config {
    /// What the text says.
    pub fn read(root: &Section<'_>) -> Self {
        let section = root.table("experiments");
        let dedup_retention = section.duration(
            "dedup_retention",
            "30d",
            DAY..=365 * DAY,
            "Ids of trades are kept so long, so that each counts once. A trade that is older counts as late, and is not used.",
        );
        let number = |key, default, most: usize, help| {
            let read = section.parsed(key, Some(default), help, |text| match text.parse() {
                Ok(count) if (1..=most).contains(&count) => Ok(count),
                _ => Err(format!("{text:?} is not a number from 1 to {most}, as text")),
            });
            // A problem was reported.
            read.unwrap_or(1)
        };
        let running =
            number("max_running", "100", 1_000, "So many experiments go on at the same time.");
        let parameters = number(
            "max_parameters",
            "10000",
            100_000,
            "So many parameters there are, of all strategies together.",
        );
        let history = number(
            "history",
            "1000",
            10_000,
            "So many experiments that have ended are kept; of more, the oldest are forgotten by the daily care.",
        );
        let ids = number(
            "max_ids",
            "5000000",
            100_000_000,
            "So many ids of trades are kept in memory, of all experiments together, with about 32 bytes each. Trades beyond that are refused until an experiment ends.",
        );
        section.finish();
        Self { dedup_retention, running, parameters, history, ids }
    }
}
