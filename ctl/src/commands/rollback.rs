//! `rollback`: back to a point where it was known to be good.

use clap::{Args, Subcommand};
use genesis_client::v1::{ListComponentsRequest, RollbackPoint, RollbackRequest};

use crate::confirm::consent;
use crate::connect::Session;
use crate::exit::{Exit, Halt};
use crate::format;
use crate::plan;
use crate::render::{Answer, Cell, View};

pub(super) const SERVICE: &str = "genesis.v1.RecoveryService";

const COLUMNS: &[&str] = &["COMPONENT", "POINT", "CURRENT", "AT", "DESCRIPTION"];

const EXAMPLES: &str = "\
The state before is kept as a point of its own, so that a rollback can be undone.

Examples:
  genesisctl rollback components
  genesisctl rollback --component config --plan
  genesisctl rollback --component config --plan-hash 3f2a... --reason 'reload broke retention'
  genesisctl rollback --component config --to 7";

const COMPONENTS_EXAMPLES: &str = "\
Example:
  genesisctl rollback components";

#[derive(Debug, Args)]
#[command(subcommand_negates_reqs = true, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// What to take back, such as config.
    #[arg(long, value_name = "NAME", required = true)]
    component: Option<String>,
    /// The point to go back to; without it, the last one that differs from the current.
    #[arg(long, value_name = "POINT", default_value = "", hide_default_value = true)]
    to: String,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List what can be rolled back, with its points.
    #[command(after_help = COMPONENTS_EXAMPLES)]
    Components,
}

impl Arguments {
    /// The rpc by which it changes something.
    pub(super) fn changes(&self) -> Option<super::Change> {
        self.verb.is_none().then_some((SERVICE, "Rollback"))
    }
}

pub(super) async fn dispatch(arguments: &Arguments, session: &Session<'_>) -> Result<Exit, Halt> {
    match (&arguments.verb, &arguments.component) {
        (Some(Verb::Components), None) if arguments.to.is_empty() => components(session).await,
        (None, Some(component)) => {
            let request = RollbackRequest {
                component: component.clone(),
                to: arguments.to.clone(),
                plan_hash: session.plan_hash(),
            };
            match session.global.plan {
                true => plan(session, &request).await,
                false => rollback(session, &request).await,
            }
        }
        _ => Err(Halt::Usage(
            "`rollback components` lists, `rollback --component NAME` rolls back: use one of them"
                .into(),
        )),
    }
}

async fn components(session: &Session<'_>) -> Result<Exit, Halt> {
    session
        .each_in(COLUMNS, |client| async move {
            let list = client
                .call(ListComponentsRequest {}, |c, r| async move {
                    c.recovery().list_components(r).await
                })
                .await?;
            let json = session.json("ListComponentsResponse", &list)?;
            let mut rows = Vec::new();
            for component in &list.components {
                if component.points.is_empty() {
                    rows.push(vec![Cell::from(component.name.as_str()), Cell::from(format::NONE)]);
                }
                rows.extend(component.points.iter().map(|point| {
                    vec![
                        Cell::from(component.name.as_str()),
                        Cell::from(point.id.as_str()),
                        Cell::from(if point.current { "current" } else { "" }),
                        Cell::from(format::time(point.at.as_ref())),
                        Cell::from(point.description.as_str()),
                    ]
                }));
            }
            let view = View {
                columns: COLUMNS,
                rows,
                empty: "nothing can be rolled back yet",
                ..View::default()
            };
            Ok(Answer::new(json, view))
        })
        .await
}

async fn plan(session: &Session<'_>, request: &RollbackRequest) -> Result<Exit, Halt> {
    let component = &request.component;
    session
        .each_in(plan::COLUMNS, |client| async move {
            let response = client
                .call(request.clone(), |c, r| async move { c.recovery().plan_rollback(r).await })
                .await?;
            let json = session.json("PlanRollbackResponse", &response)?;
            let mut view = plan::view(response.plan.as_ref());
            if let Some(target) = &response.target {
                view.lead.insert(0, format!("{component} would go back to {}", point(target)));
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

async fn rollback(session: &Session<'_>, request: &RollbackRequest) -> Result<Exit, Halt> {
    let component = &request.component;
    let what = format!("roll {component} back");
    consent(session, SERVICE, "Rollback", &what)?;
    session
        .each(|client| async move {
            let response = client
                .call(request.clone(), |c, r| async move { c.recovery().rollback(r).await })
                .await?;
            let json = session.json("RollbackResponse", &response)?;
            let shown = |at: Option<&RollbackPoint>| at.map_or_else(|| format::NONE.into(), point);
            let mut view =
                View::line(format!("{component} is back at {}", shown(response.to.as_ref())));
            view.lead.push(format!("verified: {}", format::or_none(&response.verified)));
            if let Some(from) = &response.from {
                view.lead.push(format!(
                    "undo with `genesisctl rollback --component {component} --to {}`",
                    from.id
                ));
            }
            Ok(Answer::new(json, view))
        })
        .await
}
