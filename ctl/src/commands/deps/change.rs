//! What puts another release into service: `deps update`, `deps rollback`.

use genesis_client::v1::{
    DependencyUpdate, ListDependencyUpdatesRequest, PlanResponse, RollBackDependenciesRequest,
    StartedRun, UpdateDependenciesRequest, UpdateStrategy,
};
use genesis_client::{Client, Error};

use super::super::run;
use super::{SERVICE, Which, history, package, waiting};
use crate::confirm::{Consent, agreed, consent_since};
use crate::connect::Session;
use crate::exit::{Exit, Halt};
use crate::plan;
use crate::render::Answer;

/// Why nobody does it by accident.
const RESTARTS: &str = "which restarts it";

/// So many of the newest updates are looked through for the one that has just ended.
const NEWEST: u32 = 10;

pub(super) async fn update(
    session: &Session<'_>,
    which: &Which,
    strategy: UpdateStrategy,
    detach: bool,
) -> Result<Exit, Halt> {
    let request = &UpdateDependenciesRequest {
        project: which.project.clone(),
        strategy: strategy.into(),
        plan_hash: session.plan_hash(),
    };
    if session.global.plan {
        return plan::show(session, |client| async move {
            let bar = session.bar("asking the index");
            let planned = planned_update(session, &client, request).await;
            drop(bar);
            planned
        })
        .await;
    }
    let how = package::strategy(strategy, "its own strategy");
    let what = format!("update what {} is built of, by {how}", which.named());
    let method = (SERVICE, "UpdateDependencies");
    let consent = consent_since(session, method, &what, RESTARTS)?;
    session
        .each(|client| async move {
            let mut request = request.clone();
            if consent == Consent::Ask {
                let bar = session.bar("asking the index");
                let planned = planned_update(session, &client, &request).await?;
                drop(bar);
                let question = format!("Update {}?", which.named());
                let plan = planned.plan.as_ref();
                if plan.is_none_or(|plan| plan.steps.is_empty()) {
                    session.warn("  nothing is to be changed");
                }
                request.plan_hash = agreed(session, plan, &question, "nothing was updated")?;
            }
            let response = waiting(session, &client)
                .call(request, |c, r| async move { c.dependencies().update_dependencies(r).await })
                .await?;
            let json = session.json("UpdateDependenciesResponse", &response)?;
            let run = StartedRun { run_id: response.run_id, attached: false };
            let answer = run::started(session, &client, Some(&run), json, detach).await?;
            Ok(told(session, &client, &run, answer, detach).await)
        })
        .await
}

/// Asks what an update would do, which takes as long as the index does.
async fn planned_update(
    session: &Session<'_>,
    client: &Client,
    request: &UpdateDependenciesRequest,
) -> Result<PlanResponse, Error> {
    let unsent = UpdateDependenciesRequest { plan_hash: String::new(), ..request.clone() };
    waiting(session, client)
        .call(unsent, |c, r| async move { c.dependencies().plan_update_dependencies(r).await })
        .await
}

pub(super) async fn rollback(
    session: &Session<'_>,
    which: &Which,
    to: Option<u64>,
    detach: bool,
) -> Result<Exit, Halt> {
    let request = RollBackDependenciesRequest {
        project: which.project.clone(),
        generation: to.unwrap_or_default(),
        plan_hash: session.plan_hash(),
    };
    if session.global.plan {
        return plan::ask!(session, request, dependencies, plan_roll_back_dependencies);
    }
    if to.is_some() {
        // The same number is another release on each of them.
        session.one_node("deps rollback --to")?;
    }
    let target = match to {
        Some(generation) => format!("generation {generation}"),
        None => "the release before".to_owned(),
    };
    let what = format!("take {} back to {target}", which.named());
    let method = (SERVICE, "RollBackDependencies");
    let consent = consent_since(session, method, &what, RESTARTS)?;
    let (request, target) = (&request, &target);
    session
        .each(|client| async move {
            let mut request = request.clone();
            if consent == Consent::Ask {
                let unsent =
                    RollBackDependenciesRequest { plan_hash: String::new(), ..request.clone() };
                let planned = client
                    .call(unsent, |c, r| async move {
                        c.dependencies().plan_roll_back_dependencies(r).await
                    })
                    .await?;
                let question = format!("Take {} back to {target}?", which.named());
                let plan = planned.plan.as_ref();
                request.plan_hash = agreed(session, plan, &question, "nothing was taken back")?;
            }
            let response = client
                .call(
                    request,
                    |c, r| async move { c.dependencies().roll_back_dependencies(r).await },
                )
                .await?;
            let json = session.json("RollBackDependenciesResponse", &response)?;
            let run = StartedRun { run_id: response.run_id, attached: false };
            let answer = run::started(session, &client, Some(&run), json, detach).await?;
            Ok(told(session, &client, &run, answer, detach).await)
        })
        .await
}

/// The answer with what the run changed, and what its tests said where they failed.
async fn told(
    session: &Session<'_>,
    client: &Client,
    run: &StartedRun,
    mut answer: Answer,
    detach: bool,
) -> Answer {
    if detach || !session.for_people() {
        return answer;
    }
    // The run has told what matters: without this there is only less to read.
    let request = ListDependencyUpdatesRequest { limit: NEWEST, ..Default::default() };
    let listed = history::ask(client, request).await.unwrap_or_default();
    if let Some(update) = listed.updates.iter().find(|one| one.id == run.run_id) {
        answer.view.parts.push(history::part(update));
        answer.error = answer.error.map(|error| hinted(error, update));
    }
    answer
}

fn hinted(error: Error, update: &DependencyUpdate) -> Error {
    let next = format!(
        "{}; all of it: `genesisctl deps history --project {} -v`",
        error.next, update.project
    );
    error.with_next(next)
}
