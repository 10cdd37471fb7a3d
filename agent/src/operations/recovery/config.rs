//! `[contacts]`: whom an operator calls. `[trading]`: how the trading system is controlled. `[recovery]`: how an emergency
//! ends.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::config::means;
use crate::config::reader::{Inline, Section};
use crate::config::units::parse_duration;
use crate::outside::control::{Means, VENUES};

/// Reads of `[recovery]` for how long a point must have been in force to be known to be good.
fn known_good_after(recovery: &Section<'_>) -> Duration {
    recovery.duration(
        "known_good_after",
        "10m",
        Duration::ZERO..=Duration::from_secs(30 * 86_400),
        "A rollback goes by default to the last point that was in force for so long and was not rolled back from.",
    )
}

/// Whom to call; shown with an emergency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contacts {
    /// Who is on call.
    pub on_call: String,
    /// Who decides when the one on call can't.
    pub escalation: String,
    /// For leaks and intrusions.
    pub security: String,
    /// For what can wait.
    pub non_urgent: String,
}

impl Contacts {
    /// Reads the section.
    pub fn read(root: &Section<'_>) -> Self {
        let section = root.table("contacts");
        let text = |key: &'static str, default: &'static str, doc: &'static str| {
            section.text(key, Some(default), doc)
        };
        let contacts = Self {
            on_call: text("on_call", "the PagerDuty schedule", "Who is on call."),
            escalation: text(
                "escalation",
                "engineering-lead@genesis.trading",
                "Who decides when the one on call can't.",
            ),
            security: text(
                "security",
                "security@genesis.trading",
                "Whom to tell about leaks and intrusions.",
            ),
            non_urgent: text("non_urgent", "#ops-discussion", "Where to put what can wait."),
        };
        section.finish();
        contacts
    }
}

/// `[trading]` and `[recovery]`: what an emergency does about trading.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// By what the trading system is controlled; `None`: it can't be.
    pub control: Option<Means>,
    /// The venues that must be proven flat, beside those that the trading system names.
    pub venues: Vec<String>,
    /// So long each venue has to become flat.
    pub close_within: Duration,
    /// So long the trading system may be silent once it has called; `None`: for ever.
    pub lease: Option<Duration>,
    /// So many identities a release needs.
    pub approvals: u32,
    /// What was in force for so long is known to be good.
    pub known_good_after: Duration,
}

impl Config {
    /// Reads the sections.
    pub fn read(root: &Section<'_>) -> Self {
        let section = root.table("trading");
        let control = read_control(&section);
        let venues = section.list(
            "venues",
            &[],
            false,
            "The venues that must be proven flat when positions are closed. Those that the trading system names count as \
             well; a venue named here can't be overlooked because the trading system has lost it.",
        );
        let unique: BTreeSet<&String> = venues.iter().collect();
        if unique.len() < venues.len() {
            section.problem("venues", "names a venue twice");
        }
        if venues.len() > VENUES {
            section.problem("venues", format!("must be at most {VENUES}"));
        }
        if venues.iter().any(|venue| {
            venue.is_empty() || venue.len() > 128 || venue.chars().any(char::is_control)
        }) {
            section.problem("venues", "names must have 1 to 128 bytes");
        }
        let close_within = section.duration(
            "close_within",
            "60s",
            Duration::from_secs(5)..=Duration::from_secs(3_600),
            "So long each venue has to become flat once positions are to be closed; then it counts as unproven.",
        );
        let lease = section.parsed(
            "lease",
            Some(""),
            "So long the trading system may be silent once it has called RenewTradingLease; then an emergency is declared \
             and it is told to halt, and nothing is closed. 2s to 1h; empty: no lease.",
            |text| match text {
                "" => Ok(None),
                text => match parse_duration(text)? {
                    lease if lease < Duration::from_secs(2) => Err(format!("{text:?} is below 2s")),
                    lease if lease > Duration::from_secs(3_600) => Err(format!("{text:?} is over 1h")),
                    lease => Ok(Some(lease)),
                },
            },
        );
        section.finish();
        let section = root.table("recovery");
        let approvals = section.parsed(
            "release_approvals",
            Some("1"),
            "How many different identities the release of an emergency needs, the one who releases among them: \"1\" or \
             \"2\". An approval counts for 15 minutes.",
            |text| match text {
                "1" => Ok(1),
                "2" => Ok(2),
                _ => Err(format!("{text:?} is neither \"1\" nor \"2\"")),
            },
        );
        let known_good_after = known_good_after(&section);
        section.finish();
        let (approvals, lease) = (approvals.unwrap_or(1), lease.flatten());
        Self { control, venues, close_within, lease, approvals, known_good_after }
    }
}

impl Config {
    /// Whether what differs is read at start only.
    pub fn needs_restart(&self, other: &Self) -> bool {
        Self { known_good_after: other.known_good_after, ..self.clone() } != *other
    }
}

fn read_control(section: &Section<'_>) -> Option<Means> {
    const HELP: &str = "How the trading system is halted, asked and told to close: { grpc = \"unix:/run/trading/control.sock\", \
                        timeout = \"5s\", ca_file = \"/path\" } (genesis.trading.v1.TradingControl), or { command = \
                        [\"argv\", ...], timeout = \"30s\" }, which is given the same requests as JSON. Empty: an emergency \
                        holds the agent's own work only.";
    match section.inline("control", "", HELP)? {
        Inline::Text(text) if text.is_empty() => None,
        Inline::Text(text) => {
            section.problem("control", format!("{text:?} is no table with grpc or command"));
            None
        }
        Inline::Table(table) => {
            let means = if table.has("command") {
                means::hook(section, "control", &table).map(Means::Command)
            } else if table.has("grpc") {
                let grpc = means::grpc(section, "control", &table, Duration::from_secs(5));
                grpc.map(|means::Grpc { target, ca, timeout }| Means::Grpc { target, ca, timeout })
            } else {
                section.problem("control", "needs grpc or command");
                None
            };
            table.finish();
            means
        }
    }
}
