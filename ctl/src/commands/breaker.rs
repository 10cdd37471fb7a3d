//! `breaker`: which operations are kept from being called, and why.

use std::collections::BTreeMap;

use clap::Subcommand;
use genesis_client::v1::{
    Breaker, BreakerSignal, BreakerState, GetBreakerRequest, ListBreakersRequest,
    ResetBreakerRequest, TripBreakerRequest, WatchBreakersRequest, WatchBreakersResponse,
};
use genesis_client::{Client, Error};
use serde_json::json;

use super::incomplete_answer;
use crate::cli::Format;
use crate::confirm::{consent, reason};
use crate::connect::Session;
use crate::exit::{Exit, Halt, Stop};
use crate::format;
use crate::plan;
use crate::render::{self, Answer, Cell, Part, View};

const SERVICE: &str = "genesis.v1.BreakerService";
const COLUMNS: &[&str] =
    &["BREAKER", "STATE", "SINCE", "UNTIL", "CALLS", "FAILED", "SLOW", "BY", "REASON"];
const SIGNAL_COLUMNS: &[&str] = &["SIGNAL", "USUAL", "PHI", "CUSUM", "LIMIT", "LEARNED"];

const LIST_EXAMPLES: &str = "\
CALLS, FAILED and SLOW are those of the latest window. Exits 3 while one is not closed.

Examples:
  genesisctl breaker list
  genesisctl breaker list --open --all";

const SHOW_EXAMPLES: &str = "\
Exits 3 while it is not closed.

Example:
  genesisctl breaker show orders-api";

const WATCH_EXAMPLES: &str = "\
Examples:
  genesisctl breaker watch
  genesisctl breaker watch orders-api -o jsonl";

const TRIP_EXAMPLES: &str = "\
Needs --reason. In force once this has answered, in every service that follows the agent.

Examples:
  genesisctl breaker trip orders-api --for 10m --reason 'the venue is being restarted' --plan
  genesisctl breaker trip orders-api --reason 'the venue sends wrong prices'";

const RESET_EXAMPLES: &str = "\
Needs --reason. Calls go through at once, without probes.

Examples:
  genesisctl breaker reset orders-api --reason 'the venue is well again'
  genesisctl breaker reset orders-api --relearn --reason 'slower for good since the move'";

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// List the breakers.
    #[command(after_help = LIST_EXAMPLES)]
    List {
        /// Only those that are not closed.
        #[arg(long)]
        open: bool,
    },
    /// Show one breaker, and what it knows of its operation.
    #[command(after_help = SHOW_EXAMPLES)]
    Show {
        /// Its name.
        name: String,
    },
    /// Print the breakers, then each change, until it is stopped.
    #[command(after_help = WATCH_EXAMPLES)]
    Watch {
        /// Only these.
        names: Vec<String>,
    },
    /// Open a breaker: its operation is not called any more.
    #[command(after_help = TRIP_EXAMPLES)]
    Trip {
        /// Its name; one that is not known yet gets a breaker.
        name: String,
        /// For how long, at most 7d; then come probes. Without it: until it is reset.
        #[arg(
            long = "for",
            value_name = "DURATION",
            default_value = "",
            hide_default_value = true
        )]
        lasts: String,
    },
    /// Close a breaker at once.
    #[command(after_help = RESET_EXAMPLES)]
    Reset {
        /// Its name.
        name: String,
        /// Forget what is usual for its operation, and learn it anew.
        #[arg(long)]
        relearn: bool,
    },
}

impl Verb {
    /// The rpc by which it changes something.
    pub(super) fn changes(&self) -> Option<super::Change> {
        match self {
            Self::List { .. } | Self::Show { .. } | Self::Watch { .. } => None,
            Self::Trip { .. } => Some((SERVICE, "TripBreaker")),
            Self::Reset { .. } => Some((SERVICE, "ResetBreaker")),
        }
    }
}

pub(super) async fn dispatch(verb: &Verb, session: &Session<'_>) -> Result<Exit, Halt> {
    match verb {
        Verb::List { open } => list(session, *open).await,
        Verb::Show { name } => show(session, name).await,
        Verb::Watch { names } => watch(session, names).await,
        Verb::Trip { name, lasts } => trip(session, name, lasts).await,
        Verb::Reset { name, relearn } => reset(session, name, *relearn).await,
    }
}

fn exit(breakers: &[Breaker]) -> Exit {
    let closed = breakers.iter().all(|breaker| breaker.state() == BreakerState::Closed);
    if closed { Exit::Ok } else { Exit::Findings }
}

async fn list(session: &Session<'_>, open_only: bool) -> Result<Exit, Halt> {
    let request = ListBreakersRequest { open_only };
    session
        .each_in(COLUMNS, |client| async move {
            let list = client
                .call(request, |c, r| async move { c.breaker().list_breakers(r).await })
                .await?;
            let json = session.json("ListBreakersResponse", &list)?;
            let view = View {
                columns: COLUMNS,
                rows: list.breakers.iter().map(row).collect(),
                empty: if open_only { "every breaker is closed" } else { "no breakers" },
                ..View::default()
            };
            Ok(Answer::new(json, view).exit(exit(&list.breakers)))
        })
        .await
}

fn word(breaker: &Breaker) -> &'static str {
    format::short_name(breaker.state().as_str_name(), "BREAKER_STATE_")
}

fn state(breaker: &Breaker) -> Cell {
    Cell::alert(word(breaker), breaker.state() != BreakerState::Closed)
}

/// Until when it is open; of a half-open one, how far its round of probes is.
fn until(breaker: &Breaker) -> String {
    match breaker.state() {
        BreakerState::Open if breaker.until.is_none() => "reset".to_owned(),
        BreakerState::HalfOpen => {
            format!("probe {} of {}", breaker.round_passed, breaker.round_size)
        }
        _ => format::time(breaker.until.as_ref()),
    }
}

fn row(breaker: &Breaker) -> Vec<Cell> {
    vec![
        Cell::from(breaker.name.as_str()),
        state(breaker),
        Cell::from(format::time(breaker.since.as_ref())),
        Cell::from(until(breaker)),
        Cell::number(format::count(breaker.calls)),
        Cell::number(format::count(breaker.failed_calls)),
        Cell::number(format::count(breaker.slow_calls)),
        Cell::from(format::or_none(&breaker.by)),
        Cell::from(format::or_none(&breaker.reason)),
    ]
}

async fn show(session: &Session<'_>, name: &str) -> Result<Exit, Halt> {
    let request = &GetBreakerRequest { name: name.to_owned() };
    session
        .each(|client| async move {
            let response = client
                .call(request.clone(), |c, r| async move { c.breaker().get_breaker(r).await })
                .await?;
            let json = session.json("GetBreakerResponse", &response)?;
            let breaker = response.breaker.ok_or_else(|| incomplete_answer("the breaker"))?;
            let exit = exit(std::slice::from_ref(&breaker));
            Ok(Answer::new(json, page(&breaker)).exit(exit))
        })
        .await
}

fn page(breaker: &Breaker) -> View {
    let mut lead = vec![line(breaker)];
    if breaker.failures > 0 {
        lead.push(format!("did not come back {}", format::plural(breaker.failures.into(), "time")));
    }
    let slow = match &breaker.slow_after {
        Some(after) => format!("slow: over {}", format::proto_duration(Some(after))),
        None => "nobody says what is slow, so latency is not judged".to_owned(),
    };
    lead.push(slow);
    lead.push(format!(
        "latest window: {}, {} failed, {} slow; last report {}",
        format::plural(breaker.calls, "call"),
        format::count(breaker.failed_calls),
        format::count(breaker.slow_calls),
        format::time(breaker.reported_at.as_ref())
    ));
    let signals = [("latency", &breaker.latency), ("errors", &breaker.errors)];
    let rows = signals.iter().filter_map(|(name, of)| Some(signal(name, of.as_ref()?)));
    let signals = Part {
        title: "What it is judged by".to_owned(),
        columns: SIGNAL_COLUMNS,
        rows: rows.collect(),
        ..Part::default()
    };
    let further = Part {
        title: "Where to look".to_owned(),
        lines: vec!["`genesisctl runbook show api-degradation`".to_owned()],
        ..Part::default()
    };
    View { lead, parts: vec![signals, further], ..View::default() }
}

fn signal(name: &'static str, signal: &BreakerSignal) -> Vec<Cell> {
    let known = |text: String| if signal.known { text } else { "unknown".to_owned() };
    let learned = match signal.known {
        true => "yes".to_owned(),
        false => format!("{} of {}", signal.learned, signal.needed),
    };
    vec![
        Cell::from(name),
        Cell::number(known(format!("{:.3} %", signal.usual_share * 100.0))),
        Cell::number(known(format!("{:.2}", signal.phi))),
        Cell::number(format!("{:.1}", signal.sum)),
        Cell::number(format!("{:.1}", signal.limit)),
        Cell::from(learned),
    ]
}

/// A breaker in a line.
fn line(breaker: &Breaker) -> String {
    let end = match breaker.state() {
        BreakerState::Closed | BreakerState::Unspecified => String::new(),
        BreakerState::Open if breaker.until.is_none() => " until it is reset".to_owned(),
        BreakerState::Open => format!(" until {}", until(breaker)),
        BreakerState::HalfOpen => format!(", {}", until(breaker)),
    };
    let by = match (breaker.by.as_str(), breaker.reason.as_str()) {
        ("", _) => String::new(),
        (by, reason) => format!(", by {by}: {}", format::or_none(reason)),
    };
    let (name, state) = (&breaker.name, word(breaker));
    format!("{name} {state} since {}{end}{by}", format::time(breaker.since.as_ref()))
}

async fn watch(session: &Session<'_>, names: &[String]) -> Result<Exit, Halt> {
    if session.format().is_one_value() {
        return Err(Halt::Usage("an array would never end: use -o jsonl".into()));
    }
    let request = &WatchBreakersRequest { names: names.to_vec() };
    session
        .each(|client| async move {
            match session.limited(client.node(), print(session, &client, request.clone())).await {
                // It has no other end than the limit.
                Err(Stop::Node(error)) if error.reason == "NOT_FINISHED" => {}
                ended => ended?,
            }
            Ok(Answer { printed: true, ..Answer::new(json!({}), View::default()) })
        })
        .await
}

async fn print(
    session: &Session<'_>,
    client: &Client,
    request: WatchBreakersRequest,
) -> Result<(), Stop> {
    let mut stream =
        client.call(request, |c, r| async move { c.breaker().watch_breakers(r).await }).await?;
    let mut shown = BTreeMap::new();
    while let Some(mut response) = client.next(&mut stream).await? {
        // A change is told when it is in force, and again once it is durable.
        response.breakers.retain(|breaker| {
            shown.insert(breaker.name.clone(), breaker.clone()).as_ref() != Some(breaker)
        });
        // One without breakers says that the agent lives.
        if response.breakers.is_empty() {
            continue;
        }
        if session.format() != Format::Table {
            let response = WatchBreakersResponse { window: None, ..response };
            session.event(client.node(), session.json("WatchBreakersResponse", &response)?)?;
            continue;
        }
        for breaker in &response.breakers {
            let node = if session.many() { format!("{} ", client.node()) } else { String::new() };
            let line = format!("{node}{}", line(breaker));
            session.console(|console| render::live_line(console, &line))?;
        }
    }
    Ok(())
}

async fn trip(session: &Session<'_>, name: &str, lasts: &str) -> Result<Exit, Halt> {
    let request = TripBreakerRequest {
        name: name.to_owned(),
        lasts: lasts.to_owned(),
        plan_hash: session.plan_hash(),
    };
    if session.global.plan {
        return plan::ask!(session, request, breaker, plan_trip_breaker);
    }
    reason(session, "breaker trip", "why must it not be called?")?;
    consent(session, SERVICE, "TripBreaker", &format!("open the breaker {name}"))?;
    let request = &request;
    session
        .each(|client| async move {
            let response = client
                .call(request.clone(), |c, r| async move { c.breaker().trip_breaker(r).await })
                .await?;
            let json = session.json("TripBreakerResponse", &response)?;
            Ok(Answer::new(json, View::line(line(&named(response.breaker)?))))
        })
        .await
}

async fn reset(session: &Session<'_>, name: &str, relearn: bool) -> Result<Exit, Halt> {
    let request =
        ResetBreakerRequest { name: name.to_owned(), relearn, plan_hash: session.plan_hash() };
    if session.global.plan {
        return plan::ask!(session, request, breaker, plan_reset_breaker);
    }
    reason(session, "breaker reset", "why may it be called again?")?;
    consent(session, SERVICE, "ResetBreaker", &format!("close the breaker {name}"))?;
    let request = &request;
    session
        .each(|client| async move {
            let response = client
                .call(request.clone(), |c, r| async move { c.breaker().reset_breaker(r).await })
                .await?;
            let json = session.json("ResetBreakerResponse", &response)?;
            let breaker = named(response.breaker)?;
            let said = match (response.was_closed, request.relearn) {
                (true, false) => format!("{} was closed, nothing was changed", breaker.name),
                (true, true) => format!("{} learns anew what is usual", breaker.name),
                (false, _) => line(&breaker),
            };
            Ok(Answer::new(json, View::line(said)))
        })
        .await
}

fn named(breaker: Option<Breaker>) -> Result<Breaker, Error> {
    breaker.ok_or_else(|| incomplete_answer("the breaker"))
}
