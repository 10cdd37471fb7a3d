//! `rollback`: back to a point where it was known to be good.

use clap::{Args, Subcommand};
use genesis_client::Client;
use genesis_client::v1::{
    Component, ComponentHealth, ListComponentsRequest, ListComponentsResponse,
    PlanRollbackResponse, PointStanding, RollbackPoint, RollbackRequest, RollbackResponse,
};

use crate::confirm::{consent, name_needed, reason, typed};
use crate::connect::Session;
use crate::exit::{Exit, Halt, Stop};
use crate::format;
use crate::plan;
use crate::render::{Answer, Cell, View};

pub(super) const SERVICE: &str = "genesis.v1.RecoveryService";

const COMPONENTS: &[&str] = &["COMPONENT", "HEALTH", "CURRENT", "CHANGED", "BY", "POINTS", "WHY"];
const POINTS: &[&str] =
    &["COMPONENT", "POINT", "CURRENT", "KNOWN", "AT", "BY", "DESCRIPTION", "WHY"];

const EXAMPLES: &str = "\
Without --to it goes to the last point that is known to be good and differs from what is in force: one that was in force
and did well for [recovery] known_good_after, and that nobody went back from. The state before is kept as a point of its
own, so that a rollback can be undone. Afterwards a deep health check runs and an incident opens; exits 3 where the check
found something wrong, 5 where that is unknown, the rollback still goes on, or it takes effect at the next start only. To
go to what is in force anyhow changes nothing and exits 0.

A database is restored beside what runs, never over it: that, and a rollback of the agent's own state, want the role of an
admin, --reason, and --confirm with the name. A database wants --to and --into as well.

Examples:
  genesisctl rollback components
  genesisctl rollback --component config --plan
  genesisctl rollback --component config --plan-hash 3f2a... --reason 'reload broke retention'
  genesisctl rollback --component certificate:api --to 7
  genesisctl rollback --component database:orders --to 01J8ZV --into /srv/restore/orders --confirm orders --reason drill";

const COMPONENTS_EXAMPLES: &str = "\
HEALTH is what the component's own domain knows: UNKNOWN where nothing tells it.

Examples:
  genesisctl rollback components
  genesisctl rollback components certificate";

const POINTS_EXAMPLES: &str = "\
KNOWN says whether a point was good: GOOD is what a rollback goes to by default, BAD was rolled back from, did not do well
at its end, or can't be used, UNKNOWN was not in force for long enough while it was known to do well.

Example:
  genesisctl rollback points --component parameter:mm.threshold";

#[derive(Debug, Args)]
#[command(subcommand_negates_reqs = true, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// What to take back, such as config or certificate:api.
    #[arg(long, value_name = "NAME", required = true)]
    component: Option<String>,
    /// The point to go back to; without it, the last one known to be good that differs from the current.
    #[arg(long, value_name = "POINT", default_value = "", hide_default_value = true)]
    to: String,
    /// Where a database is restored to: an absolute path on the agent's host where nothing is yet.
    #[arg(long, value_name = "PATH", default_value = "", hide_default_value = true)]
    into: String,
    /// The name of the database, or "state", typed by whoever is sure.
    #[arg(long, value_name = "NAME")]
    confirm: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List what can be rolled back: how each does, where it is, when it was changed last.
    #[command(after_help = COMPONENTS_EXAMPLES)]
    Components {
        /// Only this component, or those of this family, such as certificate.
        #[arg(value_name = "NAME", default_value = "", hide_default_value = true)]
        name: String,
    },
    /// List the points that a component can go back to, newest first.
    #[command(after_help = POINTS_EXAMPLES)]
    Points {
        /// The component, such as config or certificate:api.
        #[arg(long, value_name = "NAME")]
        component: String,
        /// At most so many.
        #[arg(long, value_name = "COUNT", default_value_t = 50)]
        limit: u32,
    },
}

impl Arguments {
    /// The rpc by which it changes something.
    pub(super) fn changes(&self) -> Option<super::Change> {
        self.verb.is_none().then_some((SERVICE, "Rollback"))
    }
}

pub(super) async fn dispatch(arguments: &Arguments, session: &Session<'_>) -> Result<Exit, Halt> {
    let bare = arguments.to.is_empty() && arguments.into.is_empty() && arguments.confirm.is_none();
    match (&arguments.verb, &arguments.component) {
        (Some(Verb::Components { name }), None) if bare => components(session, name).await,
        (Some(Verb::Points { component, limit }), None) if bare => {
            points(session, component, *limit).await
        }
        (None, Some(component)) => {
            let request = RollbackRequest {
                component: component.clone(),
                to: arguments.to.clone(),
                plan_hash: session.plan_hash(),
                into: arguments.into.clone(),
                confirm: arguments.confirm.clone().unwrap_or_default(),
            };
            match session.global.plan {
                true => plan(session, &request).await,
                false => rollback(session, &request, arguments.confirm.as_deref()).await,
            }
        }
        _ => Err(Halt::Usage(
            "`rollback components` and `rollback points` list, `rollback --component NAME` rolls back: use one of them"
                .into(),
        )),
    }
}

async fn list(
    client: &Client,
    component: &str,
    limit: u32,
) -> Result<ListComponentsResponse, genesis_client::Error> {
    let request = ListComponentsRequest { component: component.to_owned(), limit };
    client.call(request, |c, r| async move { c.recovery().list_components(r).await }).await
}

fn health(health: ComponentHealth) -> &'static str {
    match health {
        ComponentHealth::Good => "GOOD",
        ComponentHealth::Bad => "BAD",
        ComponentHealth::Unknown | ComponentHealth::Unspecified => "UNKNOWN",
    }
}

fn row(one: &Component) -> Vec<Cell> {
    let current = one.current.as_ref().map_or(format::NONE, |it| it.id.as_str());
    vec![
        Cell::from(one.name.as_str()),
        Cell::from(health(one.health())),
        Cell::from(current),
        Cell::from(format::time(one.changed_at.as_ref())),
        Cell::from(format::or_none(&one.changed_by)),
        Cell::from(one.points_total.to_string()),
        Cell::from(one.why.as_str()),
    ]
}

/// The last rollback of a component, where it was one that people should know of.
fn last(one: &Component) -> Option<String> {
    let last = one.last_rollback.as_ref()?;
    let at = format::time(last.at.as_ref());
    let ended = match last.outcome.as_str() {
        "begun" => "it goes on".to_owned(),
        outcome => format!("{outcome}: {}", format::or_none(&last.detail)),
    };
    Some(format!(
        "{}: rolled back from {} to {} at {at} by {}: {ended}",
        one.name, last.from, last.to, last.by
    ))
}

async fn components(session: &Session<'_>, name: &str) -> Result<Exit, Halt> {
    session
        .each_in(COMPONENTS, |client| async move {
            let found = list(&client, name, 0).await?;
            let json = session.json("ListComponentsResponse", &found)?;
            let mut tail: Vec<String> = match found.components.as_slice() {
                [one] => last(one).into_iter().collect(),
                _ => Vec::new(),
            };
            if found.more {
                tail.push(
                    "there are more: name a family, such as `rollback components parameter`".into(),
                );
            }
            let view = View {
                columns: COMPONENTS,
                rows: found.components.iter().map(row).collect(),
                tail,
                empty: "nothing can be rolled back yet",
                ..View::default()
            };
            Ok(Answer::new(json, view))
        })
        .await
}

fn standing(point: &RollbackPoint) -> &'static str {
    match point.standing() {
        PointStanding::Good => "GOOD",
        PointStanding::Bad => "BAD",
        PointStanding::Unknown => "UNKNOWN",
        PointStanding::Unspecified => format::NONE,
    }
}

async fn points(session: &Session<'_>, component: &str, limit: u32) -> Result<Exit, Halt> {
    session
        .each_in(POINTS, |client| async move {
            let found = list(&client, component, limit).await?;
            let json = session.json("ListComponentsResponse", &found)?;
            let mut rows = Vec::new();
            for one in &found.components {
                rows.extend(one.points.iter().map(|point| {
                    vec![
                        Cell::from(one.name.as_str()),
                        Cell::from(point.id.as_str()),
                        Cell::from(if point.current { "current" } else { "" }),
                        Cell::from(standing(point)),
                        Cell::from(format::time(point.at.as_ref())),
                        Cell::from(format::or_none(&point.by)),
                        Cell::from(point.description.as_str()),
                        Cell::from(point.why.as_str()),
                    ]
                }));
            }
            let view = View {
                columns: POINTS,
                rows,
                tail: found.components.iter().filter_map(last).collect(),
                empty: "there is no point to go back to yet",
                ..View::default()
            };
            Ok(Answer::new(json, view))
        })
        .await
}

async fn planned(
    client: &Client,
    request: &RollbackRequest,
) -> Result<PlanRollbackResponse, genesis_client::Error> {
    let unsent = RollbackRequest { plan_hash: String::new(), ..request.clone() };
    client.call(unsent, |c, r| async move { c.recovery().plan_rollback(r).await }).await
}

async fn plan(session: &Session<'_>, request: &RollbackRequest) -> Result<Exit, Halt> {
    let component = &request.component;
    session
        .each_in(plan::COLUMNS, |client| async move {
            let response = planned(&client, request).await?;
            let json = session.json("PlanRollbackResponse", &response)?;
            let mut view = plan::view(response.plan.as_ref());
            if let Some(target) = &response.target {
                let known = match target.standing() {
                    PointStanding::Unspecified => String::new(),
                    _ => format!("; {}: {}", standing(target), target.why),
                };
                let line = format!("{component} would go back to {}{known}", point(target));
                view.lead.insert(0, line);
            }
            if response.already {
                view.lead = vec![format!("{component} is there already: there is nothing to do")];
            }
            if !response.typed_name.is_empty() {
                view.lead.push(format!("to be typed: --confirm {}", response.typed_name));
            }
            view.text = response.diff;
            Ok(Answer::new(json, view))
        })
        .await
}

fn point(point: &RollbackPoint) -> String {
    let at = format::time(point.at.as_ref());
    match point.description.as_str() {
        "" => format!("{} of {at}", point.id),
        description => format!("{} of {at} ({description})", point.id),
    }
}

/// The name that is typed for a component, where one is.
fn name_of(component: &str) -> Option<&str> {
    match component.split_once(':') {
        Some(("database", name)) => Some(name),
        _ => (component == "state").then_some(component),
    }
}

async fn rollback(
    session: &Session<'_>,
    request: &RollbackRequest,
    confirm: Option<&str>,
) -> Result<Exit, Halt> {
    let component = &request.component;
    let name = name_of(component);
    if name.is_some() {
        session.one_node("rollback")?;
        reason(session, "rollback", "why is it rolled back?")?;
        name_needed(session, confirm, "rollback", "with the name")?;
    }
    session.shows.replace(format!("genesisctl rollback points --component {component}"));
    let what = format!("roll {component} back");
    consent(session, SERVICE, "Rollback", &what)?;
    session
        .each(|client| async move {
            let mut request = request.clone();
            if let (Some(name), None) = (name, confirm) {
                agreed(session, &client, &mut request, name).await?;
            }
            let response = client
                .call(request.clone(), |c, r| async move { c.recovery().rollback(r).await })
                .await?;
            let json = session.json("RollbackResponse", &response)?;
            let exit = exit(&response);
            Ok(Answer::new(json, told(component, &response)).exit(exit))
        })
        .await
}

/// Shows the plan and has the name typed; the request then holds what was agreed to.
async fn agreed(
    session: &Session<'_>,
    client: &Client,
    request: &mut RollbackRequest,
    name: &str,
) -> Result<(), Stop> {
    let found = planned(client, request).await?;
    session.warn(&format!("This rolls {} back.", request.component));
    request.plan_hash = typed(session, found.plan.as_ref(), name, "nothing was rolled back")?;
    name.clone_into(&mut request.confirm);
    Ok(())
}

/// What the deep check showed decides; what still goes on, or has not taken effect, is not known, whatever the host is
/// like before.
fn exit(response: &RollbackResponse) -> Exit {
    match response.health() {
        _ if !response.pending.is_empty() => Exit::Unknown,
        ComponentHealth::Bad => Exit::Findings,
        ComponentHealth::Unknown => Exit::Unknown,
        ComponentHealth::Good | ComponentHealth::Unspecified => Exit::Ok,
    }
}

/// What became of it, in a line. Nobody is told that something is back which is not.
fn headline(component: &str, response: &RollbackResponse) -> String {
    let shown = response.to.as_ref().map_or_else(|| format::NONE.into(), point);
    let database = component.starts_with("database:");
    match (response.pending.as_str(), component) {
        _ if response.already => format!("{component} is at {shown} already: nothing was changed"),
        ("", _) if database => {
            format!("{component}: {shown} was restored beside what runs, which is as it was")
        }
        // Only what waited was taken back.
        ("", "state") => "state stays as it is".to_owned(),
        ("", _) => format!("{component} is back at {shown}"),
        (pending, "state") => format!("state is not at {shown} yet: {pending}"),
        (pending, _) => format!("{component} goes back to {shown}: {pending}"),
    }
}

fn told(component: &str, response: &RollbackResponse) -> View {
    let mut view = View::line(headline(component, response));
    if !response.verified.is_empty() && !response.already {
        view.lead.push(format!("verified: {}", response.verified));
    }
    if response.health() != ComponentHealth::Unspecified {
        view.lead.push(format!("deep health check: {}", health(response.health())));
    }
    view.lead.extend(response.health_details.iter().map(|line| format!("  {line}")));
    match response.incident_id.as_str() {
        "" if response.health() != ComponentHealth::Unspecified => {
            view.lead.push("no incident could be opened: document it by hand".to_owned());
        }
        "" => {}
        id => {
            view.lead.push(format!("incident {id} documents it: `genesisctl incident show {id}`"))
        }
    }
    if !response.undo.is_empty() {
        view.lead.push(format!("undo with `{}`", response.undo));
    }
    view
}
