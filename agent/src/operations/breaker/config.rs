//! `[breaker]` and `[[breaker.operation]]`.

use std::collections::BTreeMap;
use std::time::Duration;

use genesis_stats::Ramp;

use super::judge::{Given, Rules};
use super::life::Pace;
use crate::config::means;
use crate::config::reader::{Inline, Section};
use crate::config::units::parse_duration;
use crate::outside::hooks::Hook;

/// At most so many operations are configured.
const OPERATION_LIMIT: usize = 1_000;
const DAY: Duration = Duration::from_secs(86_400);

/// What the configuration says of breakers.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    pace: Pace,
    rules: Rules,
    /// Run after each change of state.
    pub on_change: Option<Hook>,
    operations: BTreeMap<String, Operation>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Operation {
    open_for: Option<Duration>,
    given: Given,
}

/// Whether this may be a breaker's name.
///
/// # Errors
/// What would be right.
pub fn parse_name(text: &str) -> Result<String, String> {
    let ok = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/".contains(&byte);
    if (1..=128).contains(&text.len()) && text.bytes().all(ok) {
        Ok(text.to_owned())
    } else {
        let shown: String = text.chars().take(64).collect();
        Err(format!("{shown:?} is no name; use 1 to 128 of a-z, A-Z, 0-9 and -_.:/"))
    }
}

impl Config {
    /// What the text says.
    pub fn read(root: &Section<'_>) -> Self {
        let section = root.table("breaker");
        let second = Duration::from_secs(1);
        let open_for = section.duration(
            "open_for",
            "30s",
            Duration::from_millis(100)..=DAY,
            "So long a breaker stays open before the first probe. Each failure to come back doubles it.",
        );
        let open_for_max = section.duration(
            "open_for_max",
            "5m",
            Duration::from_millis(100)..=DAY,
            "The longest that it stays open by itself. Closed for as long, its failures are forgotten.",
        );
        if open_for_max < open_for {
            section.problem("open_for_max", "must not be less than open_for");
        }
        let rounds = whole(
            &section,
            "rounds",
            "4",
            1..=Ramp::MOST_ROUNDS,
            "Rounds of probes before it closes: 1, 2, 4, 8 ... probes, each round after the one before went well.",
        );
        let probe_timeout = section.duration(
            "probe_timeout",
            "10s",
            Duration::from_millis(100)..=Duration::from_secs(600),
            "A probe of which nobody has said by then how it went was not made; another takes its place.",
        );
        let window = section.duration(
            "window",
            "1m",
            second..=Duration::from_secs(300),
            "How long the windows are in which calls are counted and judged.",
        );
        let learn_from = whole(
            &section,
            "learn_from",
            "60",
            10..=10_000,
            "What is usual for an operation is learned from so many windows of at least 20 calls.",
        );
        let gross = share(
            &section,
            "gross_failures",
            "50%",
            "Of at least 20 calls so many failed: the breaker opens, whatever is usual.",
        );
        let on_change = read_hook(&section);
        let rules = Rules {
            window,
            learn_from: learn_from as usize,
            gross: gross.unwrap_or(0.5),
            given: Given::default(),
        };
        let mut operations = BTreeMap::new();
        for entry in section.tables("operation", OPERATION_LIMIT) {
            if let Some((name, operation)) = read_operation(&entry)
                && operations.insert(name, operation).is_some()
            {
                entry.problem("name", "is there twice");
            }
            entry.finish();
        }
        section.finish();
        Self {
            pace: Pace { open_for, open_for_max, rounds, probe_timeout },
            rules,
            on_change,
            operations,
        }
    }

    /// How the breaker of this name opens and comes back.
    pub fn pace(&self, name: &str) -> Pace {
        let open_for = self.operations.get(name).and_then(|operation| operation.open_for);
        let open_for = open_for.unwrap_or(self.pace.open_for);
        Pace { open_for, open_for_max: self.pace.open_for_max.max(open_for), ..self.pace }
    }

    /// What its reports are judged by.
    pub fn rules(&self, name: &str) -> Rules {
        let given = self.operations.get(name).map_or_else(Given::default, |named| named.given);
        Rules { given, ..self.rules.clone() }
    }

    /// The length of a window.
    pub fn window(&self) -> Duration {
        self.rules.window
    }
}

fn read_hook(section: &Section<'_>) -> Option<Hook> {
    let help = "Run after each change of a breaker's state: { command = [\"argv\", ...], timeout = \"30s\" }. It gets JSON on \
                standard input.";
    match section.inline("on_change", "", help)? {
        Inline::Table(table) => {
            let hook = means::hook(section, "on_change", &table);
            table.finish();
            hook
        }
        Inline::Text(_) => {
            section.problem(
                "on_change",
                "must be a table, such as { command = [\"/usr/bin/notify\"] }",
            );
            None
        }
    }
}

fn read_operation(entry: &Section<'_>) -> Option<(String, Operation)> {
    entry.entry_header();
    let name = entry.parsed("name", None, "The breaker's name, as services report it.", parse_name);
    let span = |key, help| {
        entry.parsed(key, Some(""), help, |text| match text {
            "" => Ok(None),
            text => match parse_duration(text)? {
                span if span.is_zero() || span > DAY => {
                    Err(format!("{text:?} is not over 0 and at most 1d"))
                }
                span => Ok(Some(span)),
            },
        })
    };
    let open_for = span("open_for", "As in [breaker], for this one.");
    let slow_after = span(
        "slow_after",
        "A call that takes longer counts as slow. Empty: what its services report.",
    );
    let usual_slow = share(
        entry,
        "usual_slow",
        "",
        "This share is slow by right, such as \"5%\". Empty: it is learned.",
    );
    let usual_failed = share(
        entry,
        "usual_failed",
        "",
        "This share fails by right, such as \"1%\". Empty: it is learned.",
    );
    if usual_slow.is_some() && slow_after.flatten().is_none() {
        entry.problem("usual_slow", "needs slow_after, of which it is the share");
    }
    let given = Given { slow_after: slow_after?, slow: usual_slow, failed: usual_failed };
    Some((name?, Operation { open_for: open_for?, given }))
}

/// A share between 0 and 1, both excluded, written as percent.
fn share(
    section: &Section<'_>,
    key: &'static str,
    default: &'static str,
    help: &'static str,
) -> Option<f64> {
    let parsed = section.parsed(key, Some(default), help, |text| {
        let wrong = || format!("{text:?} is no share such as \"5%\", over 0 % and below 100 %");
        if text.is_empty() && default.is_empty() {
            return Ok(None);
        }
        let number = text.strip_suffix('%').ok_or_else(wrong)?.trim();
        let number: f64 = number.parse().map_err(|_| wrong())?;
        if number > 0.0 && number < 100.0 { Ok(Some(number / 100.0)) } else { Err(wrong()) }
    });
    parsed.flatten()
}

fn whole(
    section: &Section<'_>,
    key: &'static str,
    default: &'static str,
    allowed: std::ops::RangeInclusive<u32>,
    help: &'static str,
) -> u32 {
    let parsed = section.parsed(key, Some(default), help, |text| match text.parse() {
        Ok(number) if allowed.contains(&number) => Ok(number),
        _ => Err(format!(
            "{text:?} is not a number from {} to {}, as text",
            allowed.start(),
            allowed.end()
        )),
    });
    parsed.unwrap_or(*allowed.start())
}
