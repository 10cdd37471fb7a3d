//! `health remediation` and `health brake`: what is done automatically, and what keeps it from that.

use clap::Subcommand;
use genesis_client::v1::{
    ActionBudget, DisableRemediationRequest, EnableRemediationRequest, GetRemediationRequest,
    GetRemediationResponse, ReleaseBrakeRequest, RemediationHold, RemediationRow, RunnableAction,
};
use genesis_client::{Client, Error};

use super::health::SERVICE;
use super::incomplete_answer;
use crate::confirm::{consent, reason};
use crate::connect::Session;
use crate::exit::{Exit, Halt};
use crate::format;
use crate::plan;
use crate::render::{Answer, Cell, Part, View};

const COLUMNS: &[&str] = &["REMEDIATION", "DRY RUN", "LAST DAY", "SUCCESS 30D", "HELD BY"];
const MATRIX_COLUMNS: &[&str] = &["ROW", "DETECTION", "ACTION", "ARMED", "FALLBACK"];
const BRAKE_COLUMNS: &[&str] = &["BRAKE", "SINCE", "BY", "REASON"];

/// The code of the hold that is the brake.
const BRAKE: &str = "STORM";

const STATUS_EXAMPLES: &str = "\
Examples:
  genesisctl health remediation status
  genesisctl health remediation status -n web-1:7443,web-2:7443";

const ENABLE_EXAMPLES: &str = "\
The first actions start after the same grace as after a start of the agent.

Example:
  genesisctl health remediation enable --reason 'the migration is done'";

const DISABLE_EXAMPLES: &str = "\
Needs --reason. No action begins once this has answered; those that go on are named. It ends by itself.

Examples:
  genesisctl health remediation disable --reason 'storage is being moved'
  genesisctl health remediation disable --for 30m --reason 'testing the alerts' -n web-1:7443,web-2:7443 --yes";

const BRAKE_STATUS_EXAMPLES: &str = "\
Exits 3 while it is on.

Example:
  genesisctl health brake status";

const RELEASE_EXAMPLES: &str = "\
Needs --reason.

Examples:
  genesisctl health brake release --plan
  genesisctl health brake release --reason 'the disk that made so much fail is replaced'";

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Show what is done automatically for which trouble, what may still be done today, and what can be run by hand.
    #[command(after_help = STATUS_EXAMPLES)]
    Status,
    /// Let automatic actions start again.
    #[command(after_help = ENABLE_EXAMPLES)]
    Enable,
    /// Keep automatic actions from starting for a while.
    #[command(after_help = DISABLE_EXAMPLES)]
    Disable {
        /// For how long, at most 7d.
        #[arg(long = "for", value_name = "DURATION", default_value = "4h")]
        lasts: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Brake {
    /// Show whether the brake is on.
    #[command(after_help = BRAKE_STATUS_EXAMPLES)]
    Status,
    /// Take the brake off: automatic actions may start again.
    #[command(after_help = RELEASE_EXAMPLES)]
    Release,
}

impl Verb {
    /// The rpc by which it changes something.
    pub(super) fn changes(&self) -> Option<super::Change> {
        match self {
            Self::Status => None,
            Self::Enable => Some((SERVICE, "EnableRemediation")),
            Self::Disable { .. } => Some((SERVICE, "DisableRemediation")),
        }
    }
}

impl Brake {
    /// The rpc by which it changes something.
    pub(super) fn changes(&self) -> Option<super::Change> {
        match self {
            Self::Status => None,
            Self::Release => Some((SERVICE, "ReleaseBrake")),
        }
    }
}

pub(super) async fn dispatch(verb: &Verb, session: &Session<'_>) -> Result<Exit, Halt> {
    match verb {
        Verb::Status => status(session).await,
        Verb::Enable => enable(session).await,
        Verb::Disable { lasts } => disable(session, lasts).await,
    }
}

pub(super) async fn dispatch_brake(verb: &Brake, session: &Session<'_>) -> Result<Exit, Halt> {
    match verb {
        Brake::Status => brake(session).await,
        Brake::Release => release(session).await,
    }
}

/// What holds everything back, and how that ends.
pub(super) fn hold_line(hold: &RemediationHold) -> String {
    let end = match (&hold.until, hold.code.as_str()) {
        (Some(until), "DISABLED") => format!(
            " until {}; `genesisctl health remediation enable` ends it now",
            format::time(Some(until))
        ),
        (Some(until), _) => format!(" until {}", format::time(Some(until))),
        (None, BRAKE) => "; `genesisctl health brake release --reason TEXT` ends it".to_owned(),
        (None, "CHECKER_SUSPECT") => " until most checks are well again".to_owned(),
        (None, _) => String::new(),
    };
    let (since, by) = (format::time(hold.since.as_ref()), format::or_none(&hold.by));
    let why = match hold.reason.as_str() {
        "" => "no reason was given",
        reason => reason,
    };
    format!("{} since {since} by {by} ({why}){end}", hold.code)
}

async fn get(client: &Client) -> Result<GetRemediationResponse, Error> {
    client
        .call(GetRemediationRequest {}, |c, r| async move { c.health().get_remediation(r).await })
        .await
}

async fn status(session: &Session<'_>) -> Result<Exit, Halt> {
    let columns = if session.many() { COLUMNS } else { MATRIX_COLUMNS };
    session
        .each_in(columns, |client| async move {
            let response = get(&client).await?;
            let json = session.json("GetRemediationResponse", &response)?;
            let view = match session.many() {
                true => View { columns: COLUMNS, rows: vec![row(&response)], ..View::default() },
                false => page(&response, session.global.verbose),
            };
            Ok(Answer::new(json, view))
        })
        .await
}

fn today(response: &GetRemediationResponse) -> String {
    format!("{} of {}", response.host_day, response.host_day_limit)
}

fn success(response: &GetRemediationResponse) -> Cell {
    let objective = response.objective.as_ref();
    match objective.and_then(|objective| Some((objective.success?, objective.goal))) {
        Some((success, goal)) => Cell::alert(format::share(success), success < goal),
        None => Cell::from("no data"),
    }
}

fn row(response: &GetRemediationResponse) -> Vec<Cell> {
    let codes: Vec<_> = response.holds.iter().map(|hold| hold.code.as_str()).collect();
    let held = !codes.is_empty();
    vec![
        Cell::alert(if held { "held" } else { "on" }, held),
        Cell::from(if response.dry_run { "yes" } else { "no" }),
        Cell::number(today(response)),
        success(response),
        Cell::from(format::or_none(&codes.join(", "))),
    ]
}

fn page(response: &GetRemediationResponse, verbose: bool) -> View {
    let mut lead: Vec<String> = response.holds.iter().map(hold_line).collect();
    if lead.is_empty() {
        lead.push("remediation is on".to_owned());
    }
    if response.dry_run {
        lead.push("dry run: every action is planned, and none is carried out".to_owned());
    }
    lead.push(format!("{} actions in the last day", today(response)));
    if let Some(objective) = &response.objective {
        let counted = objective.succeeded.saturating_add(objective.failed);
        let share = objective.success.map_or_else(
            || "no data".to_owned(),
            |success| format!("{} of {} helped", format::share(success), format::count(counted)),
        );
        lead.push(format!("last 30 days: {share}, the goal is {}", format::share(objective.goal)));
    }
    let told = response.rows.iter().filter(|_| verbose);
    let budgets = Part {
        title: "Done lately".to_owned(),
        columns: &["ACTION", "LAST HOUR", "LAST DAY"],
        rows: response.budgets.iter().map(budget_row).collect(),
        ..Part::default()
    };
    let actions = Part {
        title: "Actions to run by hand".to_owned(),
        columns: &["ACTION", "CHECK", "AUTOMATIC", "WHAT"],
        rows: response.actions.iter().map(action_row).collect(),
        ..Part::default()
    };
    View {
        lead,
        columns: MATRIX_COLUMNS,
        rows: response.rows.iter().map(matrix_row).collect(),
        tail: told.map(circumstances).collect(),
        parts: [budgets, actions].into_iter().filter(|part| !part.rows.is_empty()).collect(),
        ..View::default()
    }
}

fn matrix_row(row: &RemediationRow) -> Vec<Cell> {
    let armed = match (row.armed.is_empty(), row.checks.is_empty()) {
        (false, _) => row.armed.join(", "),
        (true, false) => format!("no (of {})", row.checks.join(", ")),
        (true, true) => format::NONE.to_owned(),
    };
    vec![
        Cell::from(row.row.as_str()),
        Cell::from(row.detection.as_str()),
        Cell::from(format::or_none(&row.action)),
        Cell::from(armed),
        Cell::from(format::or_none(&row.fallback)),
    ]
}

fn circumstances(row: &RemediationRow) -> String {
    let trades = if row.trade_touching { "waits for trades" } else { "does not touch trading" };
    let emergency = if row.goes_on_in_emergency { "goes on" } else { "waits" };
    let runbook = format::or_none(&row.runbook);
    format!("{}: {trades}, {emergency} in an emergency, runbook {runbook}", row.row)
}

fn budget_row(budget: &ActionBudget) -> Vec<Cell> {
    vec![
        Cell::from(budget.action.as_str()),
        Cell::from(format!("{} of {}", budget.hour, budget.hour_limit)),
        Cell::from(format!("{} of {}", budget.day, budget.day_limit)),
    ]
}

fn action_row(action: &RunnableAction) -> Vec<Cell> {
    vec![
        Cell::from(action.action.as_str()),
        Cell::from(action.check.as_str()),
        Cell::from(if action.automatic { "yes" } else { "no" }),
        Cell::from(action.what.as_str()),
    ]
}

async fn disable(session: &Session<'_>, lasts: &str) -> Result<Exit, Halt> {
    let request =
        DisableRemediationRequest { lasts: lasts.to_owned(), plan_hash: session.plan_hash() };
    if session.global.plan {
        return plan::ask!(session, request, health, plan_disable_remediation);
    }
    reason(session, "health remediation disable", "why must nothing be mended by itself?")?;
    consent(session, SERVICE, "DisableRemediation", "disable remediation")?;
    let request = &request;
    session
        .each(|client| async move {
            let response = client
                .call(
                    request.clone(),
                    |c, r| async move { c.health().disable_remediation(r).await },
                )
                .await?;
            let json = session.json("DisableRemediationResponse", &response)?;
            let hold = response.hold.ok_or_else(|| incomplete_answer("the hold"))?;
            let mut view = View::line(hold_line(&hold));
            let going_on = response.going_on.iter();
            view.lead.extend(going_on.map(|action| format!("had begun, and goes on: {action}")));
            Ok(Answer::new(json, view))
        })
        .await
}

async fn enable(session: &Session<'_>) -> Result<Exit, Halt> {
    let request = EnableRemediationRequest { plan_hash: session.plan_hash() };
    if session.global.plan {
        return plan::ask!(session, request, health, plan_enable_remediation);
    }
    consent(session, SERVICE, "EnableRemediation", "enable remediation")?;
    let request = &request;
    session
        .each(|client| async move {
            let response = client
                .call(request.clone(), |c, r| async move { c.health().enable_remediation(r).await })
                .await?;
            let json = session.json("EnableRemediationResponse", &response)?;
            let mut view = View::line(match response.was_enabled {
                true => "remediation was not disabled, nothing was changed",
                false => "remediation is enabled; its first actions start after a grace",
            });
            let held = response.holds.iter();
            view.lead.extend(held.map(|hold| format!("still held back: {}", hold_line(hold))));
            Ok(Answer::new(json, view))
        })
        .await
}

async fn brake(session: &Session<'_>) -> Result<Exit, Halt> {
    session
        .each_in(BRAKE_COLUMNS, |client| async move {
            let response = get(&client).await?;
            let json = session.json("GetRemediationResponse", &response)?;
            let brake = response.holds.iter().find(|hold| hold.code == BRAKE);
            let exit = if brake.is_some() { Exit::Findings } else { Exit::Ok };
            let view = match (session.many(), brake) {
                (false, Some(hold)) => View::line(format!("the brake is on: {}", hold_line(hold))),
                (false, None) => View::line("the brake is off"),
                (true, hold) => {
                    View { columns: BRAKE_COLUMNS, rows: vec![brake_row(hold)], ..View::default() }
                }
            };
            Ok(Answer::new(json, view).exit(exit))
        })
        .await
}

fn brake_row(brake: Option<&RemediationHold>) -> Vec<Cell> {
    let Some(hold) = brake else { return vec![Cell::alert("off", false)] };
    vec![
        Cell::alert("ON", true),
        Cell::from(format::time(hold.since.as_ref())),
        Cell::from(format::or_none(&hold.by)),
        Cell::from(format::or_none(&hold.reason)),
    ]
}

async fn release(session: &Session<'_>) -> Result<Exit, Halt> {
    let request = ReleaseBrakeRequest { plan_hash: session.plan_hash() };
    if session.global.plan {
        return plan::ask!(session, request, health, plan_release_brake);
    }
    reason(session, "health brake release", "why may actions start again?")?;
    consent(session, SERVICE, "ReleaseBrake", "release the brake")?;
    let request = &request;
    session
        .each(|client| async move {
            let response = client
                .call(request.clone(), |c, r| async move { c.health().release_brake(r).await })
                .await?;
            let json = session.json("ReleaseBrakeResponse", &response)?;
            let hold = response.hold.ok_or_else(|| incomplete_answer("the brake that was on"))?;
            let since = format::time(hold.since.as_ref());
            let line = format!("the brake that was on since {since} is off");
            Ok(Answer::new(json, View::line(line)))
        })
        .await
}
