//! `--plan`: what a changing command would do.

use genesis_client::v1::{Plan, PlanResponse, PlanStep};
use genesis_client::{Client, Error};

use crate::connect::Session;
use crate::exit::{Exit, Halt};
use crate::render::{Answer, Cell, View};

/// The columns of a plan.
pub(crate) const COLUMNS: &[&str] = &["ACTION", "TARGET", "REASON"];

/// Asks every node for its plan and prints it. Nothing is changed, so nobody is asked.
pub(crate) async fn show<F, S>(session: &Session<'_>, ask: F) -> Result<Exit, Halt>
where
    F: Fn(Client) -> S,
    S: Future<Output = Result<PlanResponse, Error>>,
{
    let ask = &ask;
    session
        .each_in(COLUMNS, |client| async move {
            let response = ask(client).await?;
            let json = session.json("PlanResponse", &response)?;
            Ok(Answer::new(json, view(response.plan.as_ref())))
        })
        .await
}

/// The steps of a plan, and its hash.
pub(crate) fn view(plan: Option<&Plan>) -> View {
    let Some(plan) = plan else { return View { empty: "nothing to do", ..View::default() } };
    let row = |step: &PlanStep| {
        vec![
            Cell::from(step.action.as_str()),
            Cell::from(step.target.as_str()),
            Cell::from(step.reason.as_str()),
        ]
    };
    View {
        columns: COLUMNS,
        rows: plan.steps.iter().map(row).collect(),
        tail: vec![format!("plan hash: {}", plan.hash)],
        empty: "nothing to do",
        ..View::default()
    }
}

/// [`show`] for the rpc that plans another: `ask!(session, request, service, plan_method)`.
macro_rules! ask {
    ($session:expr, $request:expr, $service:ident, $method:ident) => {{
        let request = &$request;
        crate::plan::show($session, |client| async move {
            client.call(request.clone(), |c, r| async move { c.$service().$method(r).await }).await
        })
        .await
    }};
}
pub(crate) use ask;
