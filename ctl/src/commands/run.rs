//! `run`: the long operations, and following them to their end.

use std::ops::ControlFlow;

use clap::{Subcommand, ValueEnum};
use genesis_client::v1::{
    CancelRunRequest, GetRunRequest, GetRunResponse, ListRunsRequest, Run, RunState, StartedRun,
    StepState, WatchRunResponse, reconciliation::Verdict,
};
use genesis_client::{Client, Error, Kind, Node, has_ended};

use super::incomplete_answer;
use crate::cli::Format;
use crate::confirm::consent;
use crate::connect::Session;
use crate::exit::{Exit, Halt, Stop};
use crate::format;
use crate::plan;
use crate::render::{Answer, Cell, View};

const SERVICE: &str = "genesis.v1.RunService";

pub(super) const LIST_COLUMNS: &[&str] =
    &["ID", "KIND", "STATE", "STARTED", "TOOK", "ACTOR", "SUMMARY"];
const STEP_COLUMNS: &[&str] = &["STEP", "NAME", "TARGET", "STATE", "TOOK", "DETAIL"];

const LIST_EXAMPLES: &str = "\
Examples:
  genesisctl run list
  genesisctl run list --kind logs.rotate --state failed --limit 10";

const SHOW_EXAMPLES: &str = "\
Examples:
  genesisctl run show last
  genesisctl run show 01J9ZK";

const WATCH_EXAMPLES: &str = "\
The exit code is the run's: 0 succeeded, 1 failed or cancelled, 4 refused, 5 interrupted or unknown.
A broken connection is resumed; leaving does not stop the run.

Examples:
  genesisctl run watch last
  genesisctl run watch 01J9ZK -o jsonl";

const CANCEL_EXAMPLES: &str = "\
Example:
  genesisctl run cancel 01J9ZK --reason 'wrong host'";

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// List runs, newest first.
    #[command(after_help = LIST_EXAMPLES)]
    List {
        /// Only this kind, such as logs.rotate.
        #[arg(long, default_value = "", hide_default_value = true)]
        kind: String,
        /// Only runs in this state.
        #[arg(long, value_enum)]
        state: Option<State>,
        /// At most this many.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
    /// Show one run with its steps.
    #[command(after_help = SHOW_EXAMPLES)]
    Show {
        /// The id, its unique beginning of at least four characters, or "last".
        id: String,
    },
    /// Follow a run to its end.
    #[command(after_help = WATCH_EXAMPLES)]
    Watch {
        /// The id, its unique beginning of at least four characters, or "last".
        id: String,
    },
    /// Ask a run to stop at its next safe point.
    #[command(after_help = CANCEL_EXAMPLES)]
    Cancel {
        /// The id, its unique beginning of at least four characters, or "last".
        id: String,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum State {
    Running,
    Succeeded,
    Failed,
    Cancelled,
    Interrupted,
    Refused,
    Unknown,
}

impl From<State> for RunState {
    fn from(state: State) -> Self {
        match state {
            State::Running => Self::Running,
            State::Succeeded => Self::Succeeded,
            State::Failed => Self::Failed,
            State::Cancelled => Self::Cancelled,
            State::Interrupted => Self::Interrupted,
            State::Refused => Self::Refused,
            State::Unknown => Self::Unknown,
        }
    }
}

pub(super) async fn dispatch(verb: &Verb, session: &Session<'_>) -> Result<Exit, Halt> {
    match verb {
        Verb::List { kind, state, limit } => {
            let state = state.map_or(RunState::Unspecified, RunState::from);
            list(
                session,
                ListRunsRequest { kind: kind.clone(), state: state.into(), limit: *limit },
            )
            .await
        }
        Verb::Show { id } => show(session, id).await,
        Verb::Watch { id } => {
            session
                .each(|client| async move {
                    let id = full_id(&client, id).await?;
                    watch(session, &client, &id).await
                })
                .await
        }
        Verb::Cancel { id } => cancel(session, id).await,
    }
}

impl Verb {
    /// The rpc by which it changes something.
    pub(super) fn changes(&self) -> Option<super::Change> {
        match self {
            Self::List { .. } | Self::Show { .. } | Self::Watch { .. } => None,
            Self::Cancel { .. } => Some((SERVICE, "CancelRun")),
        }
    }
}

async fn list(session: &Session<'_>, request: ListRunsRequest) -> Result<Exit, Halt> {
    let request = &request;
    session
        .each_in(LIST_COLUMNS, |client| async move {
            let list = client
                .call(request.clone(), |c, r| async move { c.runs().list_runs(r).await })
                .await?;
            let json = session.json("ListRunsResponse", &list)?;
            let view = View {
                columns: LIST_COLUMNS,
                rows: list.runs.iter().map(row).collect(),
                empty: "no such runs",
                ..View::default()
            };
            Ok(Answer::new(json, view))
        })
        .await
}

pub(super) fn row(run: &Run) -> Vec<Cell> {
    vec![
        Cell::from(run.id.as_str()),
        Cell::from(run.kind.as_str()),
        Cell::run_state(run.state()),
        Cell::from(format::time(run.started_at.as_ref())),
        Cell::number(format::between(run.started_at.as_ref(), run.ended_at.as_ref())),
        Cell::from(run.actor.as_str()),
        Cell::from(run.summary.as_str()),
    ]
}

async fn show(session: &Session<'_>, id: &str) -> Result<Exit, Halt> {
    session
        .each_in(STEP_COLUMNS, |client| async move {
            let run = get(&client, id).await?;
            let view = page(&run);
            let json = session.json("GetRunResponse", &GetRunResponse { run: Some(run) })?;
            Ok(Answer::new(json, view))
        })
        .await
}

async fn cancel(session: &Session<'_>, id: &str) -> Result<Exit, Halt> {
    if session.global.plan {
        return plan::show(session, |client| async move {
            let request =
                CancelRunRequest { id: full_id(&client, id).await?, ..Default::default() };
            client.call(request, |c, r| async move { c.runs().plan_cancel_run(r).await }).await
        })
        .await;
    }
    consent(session, SERVICE, "CancelRun", "cancel a run")?;
    session
        .each(|client| async move {
            let id = full_id(&client, id).await?;
            let request = CancelRunRequest { id, plan_hash: session.plan_hash() };
            let response = client
                .call(request, |c, r| async move { c.runs().cancel_run(r).await })
                .await?;
            let json = session.json("CancelRunResponse", &response)?;
            let run = response.run.unwrap_or_default();
            Ok(Answer::new(
                json,
                View::line(format!(
                    "run {} ({}) stops at its next safe point: follow it with `genesisctl run watch {}`",
                    run.id, run.kind, run.id
                )),
            ))
        })
        .await
}

async fn get(client: &Client, id: &str) -> Result<Run, Error> {
    let request = GetRunRequest { id: id.to_owned() };
    let response = client.call(request, |c, r| async move { c.runs().get_run(r).await }).await?;
    response.run.ok_or_else(|| incomplete_answer("the run"))
}

/// The whole id of the run that was named by its beginning or as "last".
async fn full_id(client: &Client, id: &str) -> Result<String, Error> {
    match id.parse::<ulid::Ulid>() {
        Ok(whole) => Ok(whole.to_string()),
        Err(_) => Ok(get(client, id).await?.id),
    }
}

/// What a started run is answered with: it as started, or, unless `detach`, it as it ended.
pub(super) async fn started(
    session: &Session<'_>,
    client: &Client,
    run: Option<&StartedRun>,
    json: serde_json::Value,
    detach: bool,
) -> Result<Answer, Stop> {
    let run = run
        .filter(|run| !run.run_id.is_empty())
        .ok_or_else(|| incomplete_answer("the run's id"))?;
    let what = if run.attached { "was going on already" } else { "has started" };
    let line =
        format!("run {} {what}: `genesisctl run watch {}` follows it", run.run_id, run.run_id);
    if detach {
        return Ok(Answer::new(json, View::line(line)));
    }
    match session.many() {
        true => session.note(&format!("{}: {line}", client.node())),
        false => session.note(&line),
    }
    watch(session, client, &run.run_id).await
}

/// Follows a run to its end, which decides the exit code.
pub(super) async fn watch(
    session: &Session<'_>,
    client: &Client,
    id: &str,
) -> Result<Answer, Stop> {
    let bar = session.bar("waiting");
    let mut halted = None;
    let followed = client.watch_run(id, |run| {
        if let Some(progress) = &run.progress {
            bar.report(progress);
        }
        if session.format() != Format::Jsonl || has_ended(run.state()) {
            return ControlFlow::Continue(());
        }
        match event(session, client.node(), run) {
            Ok(()) => ControlFlow::Continue(()),
            Err(stop) => {
                halted = Some(stop);
                ControlFlow::Break(())
            }
        }
    });
    let run = session.limited(client.node(), async { Ok(followed.await?) }).await?;
    drop(bar);
    if let Some(stop) = halted {
        return Err(stop);
    }
    let json = session.json("WatchRunResponse", &WatchRunResponse { run: Some(run.clone()) })?;
    let answer = Answer::new(json, end(&run)).exit(Exit::of_run(run.state()));
    Ok(match run.state() {
        RunState::Succeeded => answer,
        state => answer.error(unsuccessful(&run, state)),
    })
}

fn event(session: &Session<'_>, node: &Node, run: &Run) -> Result<(), Stop> {
    let json = session.json("WatchRunResponse", &WatchRunResponse { run: Some(run.clone()) })?;
    Ok(session.event(node, json)?)
}

fn unsuccessful(run: &Run, state: RunState) -> Error {
    let kind = match Exit::of_run(state) {
        Exit::Refused => Kind::Refused,
        Exit::Unknown => Kind::Incomplete,
        _ => Kind::Internal,
    };
    let ended = format::run_state(state).to_lowercase();
    let message = match run.summary.as_str() {
        "" => format!("run {} ended {ended}", run.id),
        summary => format!("run {} ended {ended}: {summary}", run.id),
    };
    let next = format!("see its steps with `genesisctl run show {}`", run.id);
    Error::new(kind, state.as_str_name(), run.error_code.clone(), message, next)
}

/// One line about how it ended, and what did not work.
fn end(run: &Run) -> View {
    let took = format::between(run.started_at.as_ref(), run.ended_at.as_ref());
    let summary = if run.summary.is_empty() { String::new() } else { format!(": {}", run.summary) };
    let state = format::run_state(run.state());
    let mut view = View::line(format!("run {} {} {state} in {took}{summary}", run.id, run.kind));
    let failed = run.steps.iter().filter(|step| step.state() == StepState::Failed);
    let line = |step: &genesis_client::v1::RunStep| {
        format!("step {} {} {} failed: {}", step.number, step.name, step.target, step.detail)
    };
    view.lead.extend(failed.map(line));
    view.lead.extend(reconciliation(run));
    view
}

pub(super) fn page(run: &Run) -> View {
    let mut lead = vec![
        format!("run {} {} {}", run.id, run.kind, format::run_state(run.state())),
        format!(
            "started {} by {}, took {}",
            format::time(run.started_at.as_ref()),
            format::or_none(&run.actor),
            format::between(run.started_at.as_ref(), run.ended_at.as_ref())
        ),
    ];
    let optional = [
        ("reason", run.reason.as_str()),
        ("parameters", run.parameters.as_str()),
        ("summary", run.summary.as_str()),
        ("error", run.error_code.as_str()),
        ("trace", run.trace_id.as_str()),
    ];
    let set = optional.iter().filter(|(_, text)| !text.is_empty());
    lead.extend(set.map(|(name, text)| format!("{name}: {text}")));
    lead.extend(reconciliation(run));
    if run.cancel_requested && !has_ended(run.state()) {
        lead.push("it was asked to stop at its next safe point".to_owned());
    }
    if let Some(progress) = run.progress.as_ref().filter(|_| !has_ended(run.state())) {
        let total = if progress.total > 0 {
            format!(" of {}", format::count(progress.total))
        } else {
            String::new()
        };
        let done = format::count(progress.done);
        lead.push(format!("progress: {done}{total} {} {}", progress.unit, progress.message));
    }
    let step_row = |step: &genesis_client::v1::RunStep| {
        vec![
            Cell::number(step.number.to_string()),
            Cell::from(step.name.as_str()),
            Cell::from(step.target.as_str()),
            Cell::from(format::short_name(step.state().as_str_name(), "STEP_STATE_")),
            Cell::number(format::between(step.started_at.as_ref(), step.ended_at.as_ref())),
            Cell::from(step.detail.as_str()),
        ]
    };
    View {
        lead,
        columns: STEP_COLUMNS,
        rows: run.steps.iter().map(step_row).collect(),
        ..View::default()
    }
}

fn reconciliation(run: &Run) -> Option<String> {
    let reconciliation = run.reconciliation.as_ref()?;
    let verdict = match reconciliation.verdict() {
        Verdict::Unspecified => "undecided",
        Verdict::Finished => "finished",
        Verdict::Undone => "undone",
        Verdict::Held => "held for a person to decide",
        Verdict::NothingDone => "nothing had been done",
    };
    Some(format!("reconciled after a crash: {verdict}: {}", reconciliation.detail))
}
