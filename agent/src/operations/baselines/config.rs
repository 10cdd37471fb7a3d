//! `[baselines]`.

use std::path::PathBuf;
use std::time::Duration;

use super::source::{Naming, Unit};
use crate::config::reader::Section;
use crate::scheduler::calendar::Schedule;

const HOUR: Duration = Duration::from_secs(3_600);
/// So many histograms are scraped at most.
const SCRAPES: usize = 64;
const DAY: Duration = Duration::from_secs(86_400);

/// What the configuration says of baselines.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// A baseline is of so long.
    pub window: Duration,
    /// When all of them are calculated anew.
    pub schedule: Schedule,
    /// An operation without a baseline gets its first one once it was observed for so long.
    pub first_after: Duration,
    /// So many operations there are at most.
    pub operations: usize,
    /// So many bytes the raw columns may take.
    pub raw_quota: u64,
    /// They are kept so long.
    pub raw_retention: Duration,
    /// Whether a breaker of the same name opens when an operation leaves what is usual.
    pub breakers: bool,
    /// The file with the token that exporters of OpenTelemetry show; `None`: they push nothing.
    pub otlp_token_file: Option<PathBuf>,
    /// Histograms that services keep themselves.
    pub scrapes: Vec<Scrape>,
}

/// A histogram that a service keeps itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Scrape {
    /// Where its metrics are.
    pub url: String,
    /// The histogram.
    pub metric: String,
    /// How operations are named by its labels.
    pub operation: Naming,
    /// What it counts time in; `None`: what its name says.
    pub unit: Option<Unit>,
    /// How often it is looked at.
    pub interval: Duration,
}

impl Config {
    /// What the text says.
    pub fn read(root: &Section<'_>) -> Self {
        let section = root.table("baselines");
        let window = section.duration(
            "window",
            "30d",
            DAY..=90 * DAY,
            "A baseline is calculated from the observations of so long.",
        );
        let schedule = section.parsed(
            "schedule",
            Some("Mon 00:00"),
            "When all baselines are calculated anew, UTC.",
            Schedule::parse,
        );
        let first_after = section.duration(
            "first_after",
            "24h",
            HOUR..=30 * DAY,
            "An operation without a baseline gets its first one once it was observed for so long.",
        );
        let operations = section.parsed(
            "max_operations",
            Some("1000"),
            "So many operations are told apart; observations of further ones are counted and left out.",
            |text| match text.parse() {
                Ok(count @ 1..=10_000) => Ok(count),
                _ => Err(format!("{text:?} is not a number from 1 to 10000, as text")),
            },
        );
        let raw_quota = section.size(
            "raw_quota",
            "1GiB",
            0..(16 << 30) + 1,
            "So much the single observations may take on the disk, for drill-down; the oldest make room. What baselines are \
             made of is not among them.",
        );
        let raw_retention = section.duration(
            "raw_retention",
            "24h",
            HOUR..=30 * DAY,
            "Single observations are kept so long.",
        );
        let breakers = section.flag(
            "feed_breakers",
            true,
            "Whether the circuit breaker of an operation opens when its latency leaves what is usual, minute by minute.",
        );
        let otlp_token_file = section.parsed(
            "otlp_token_file",
            Some(""),
            "A file (0600) with the token that exporters of OpenTelemetry must show at /v1/metrics (Authorization: Bearer TOKEN). \
             Empty: nothing is taken there.",
            |text| match text {
                "" => Ok(None),
                text if text.starts_with('/') => Ok(Some(PathBuf::from(text))),
                _ => Err(format!("{text:?} must be an absolute path")),
            },
        );
        let scrapes = section.tables("scrape", SCRAPES).iter().filter_map(read_scrape).collect();
        section.finish();
        Self {
            window,
            schedule: schedule.unwrap_or_else(|| Schedule::constant("Mon 00:00")),
            first_after,
            operations: operations.unwrap_or(1_000),
            raw_quota,
            raw_retention,
            breakers,
            otlp_token_file: otlp_token_file.flatten(),
            scrapes,
        }
    }
}

fn read_scrape(entry: &Section<'_>) -> Option<Scrape> {
    entry.entry_header();
    let url = entry.parsed(
        "url",
        None,
        "Where a service has its metrics, in the text format of Prometheus or OpenMetrics.",
        |text| match text.parse::<url::Url>() {
            Ok(url) if url.password().is_some() => {
                Err("a password does not belong here".to_owned())
            }
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => {
                Ok(text.to_owned())
            }
            _ => Err(format!("{text:?} is no URL such as \"http://127.0.0.1:9100/metrics\"")),
        },
    );
    let metric = entry.parsed(
        "metric",
        None,
        "A histogram among them, such as http_request_duration_seconds.",
        |text| match text.is_empty() || text.len() > 256 {
            true => Err("the name of a histogram is missing, or too long".to_owned()),
            false => Ok(text.to_owned()),
        },
    );
    let operation = entry.parsed(
        "operation",
        None,
        "The operation's name, made of the histogram's labels: \"orders.{handler}\". {a|b} takes the first that is there; {a|} \
         is left out where there is none.",
        Naming::parse,
    );
    let unit = entry.parsed(
        "unit",
        Some(""),
        "What it counts in: s, ms, us or ns. Empty: what its name ends with, else seconds.",
        |text| match (text, Unit::named(text)) {
            ("", _) => Ok(None),
            (_, Some(unit)) => Ok(Some(unit)),
            _ => Err(format!("{text:?} is not one of s, ms, us, ns")),
        },
    );
    let interval = entry.duration(
        "interval",
        "15s",
        Duration::from_secs(1)..=Duration::from_secs(300),
        "How often it is looked at.",
    );
    Some(Scrape { url: url?, metric: metric?, operation: operation?, unit: unit?, interval })
}
