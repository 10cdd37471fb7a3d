//! What people ask of breakers, and what it would do; pure.

use std::time::Duration;

use genesis_storage::{BreakerRecord, BreakerState};

use super::config::parse_name;
use crate::config::units::human;
use crate::error::{Error, Result};
use crate::plan::{Plan, PlanStep};

/// The longest that a breaker is opened by hand for a time.
const FORCED_AT_MOST: u64 = 7;

/// A name that may be a breaker's.
///
/// # Errors
/// `BREAKER_INVALID`.
pub fn named(text: &str) -> Result<String> {
    parse_name(text).map_err(|why| Error::invalid("BREAKER_INVALID", why))
}

/// For how long; `None`: until it is reset.
///
/// # Errors
/// `DURATION_INVALID`.
pub fn lasting(text: &str) -> Result<Option<Duration>> {
    match text.is_empty() {
        true => Ok(None),
        false => crate::plan::lasting(text, FORCED_AT_MOST).map(Some),
    }
}

/// The state in a word.
pub fn word(state: BreakerState) -> &'static str {
    match state {
        BreakerState::Closed => "CLOSED",
        BreakerState::Open => "OPEN",
        BreakerState::HalfOpen => "HALF_OPEN",
    }
}

fn human_for(lasts: Duration) -> String {
    format!("for {}", human(lasts))
}

/// What the effect of a change depends on.
fn situation(record: &BreakerRecord) -> [String; 3] {
    [word(record.state).to_owned(), record.opening.to_string(), record.since.wall.to_string()]
}

/// Opening a breaker by hand; `None`: there is none of that name yet.
pub fn trip(name: &str, known: Option<&BreakerRecord>, lasts: Option<Duration>) -> Plan {
    let until = match lasts {
        Some(lasts) => format!("{name} for {}, then probes", human(lasts)),
        None => format!("{name} until it is reset"),
    };
    let why = match known {
        None => "it is not known yet, and gets a breaker".to_owned(),
        Some(record) if record.state == BreakerState::Closed => {
            format!("it is CLOSED since {}", record.since.wall)
        }
        Some(record) => {
            let (state, since) = (word(record.state), record.since.wall);
            let until = record.lasts.map_or_else(|| "until it is reset".to_owned(), human_for);
            let (by, reason) = (&record.by, &record.reason);
            format!("instead of {state} since {since} {until}, by {by}: {reason}")
        }
    };
    let situation = known.map(situation).unwrap_or_default();
    let situation: Vec<&str> = situation.iter().map(String::as_str).collect();
    Plan::new("breaker.trip", &situation, vec![PlanStep::new("open", until, why)])
}

/// Closing a breaker by hand. Nothing, where it is closed and keeps what it has learned.
pub fn reset(record: &BreakerRecord, relearn: bool) -> Plan {
    let mut steps = Vec::new();
    if record.state != BreakerState::Closed {
        let why = format!(
            "it is {} since {} by {}: {}",
            word(record.state),
            record.since.wall,
            record.by,
            record.reason
        );
        steps.push(PlanStep::new("close", record.name.clone(), why));
    }
    if relearn {
        let why = "what is usual is learned anew from the next windows";
        steps.push(PlanStep::new("relearn", record.name.clone(), why));
    }
    let situation = situation(record);
    let situation: Vec<&str> = situation.iter().map(String::as_str).collect();
    Plan::new("breaker.reset", &situation, steps)
}
