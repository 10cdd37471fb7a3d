//! `matrix update`, `matrix rollback`, `matrix rollout advance`, `matrix rollout abort`.

use genesis_client::Client;
use genesis_client::v1::{
    AbortRolloutRequest, AdvanceRolloutRequest, MatrixState, MatrixVersion, RollbackMatrixRequest,
    Rollout, StartedRun, UpdateMatrixRequest,
};

use super::super::{incomplete_answer, run};
use super::{SERVICE, history, page, rollout};
use crate::confirm::{consent, reason};
use crate::connect::Session;
use crate::exit::{Exit, Halt};
use crate::format::count;
use crate::plan;
use crate::render::{Answer, View};

/// So many of the newest versions are looked through for the one that was just rejected.
const NEWEST: u32 = 10;

pub(super) async fn update(session: &Session<'_>, carry: bool, detach: bool) -> Result<Exit, Halt> {
    let request = UpdateMatrixRequest { carry, plan_hash: session.plan_hash() };
    if session.global.plan {
        return plan::ask!(session, request, matrices, plan_update_matrix);
    }
    consent(session, SERVICE, "UpdateMatrix", "calculate the matrix anew")?;
    let request = &request;
    session
        .each(|client| async move {
            let response = client
                .call(request.clone(), |c, r| async move { c.matrices().update_matrix(r).await })
                .await?;
            let json = session.json("UpdateMatrixResponse", &response)?;
            let run = StartedRun { run_id: response.run_id, attached: response.attached };
            let answer = run::started(session, &client, Some(&run), json, detach).await?;
            let rejected =
                answer.error.as_ref().is_some_and(|error| error.reason == "MATRIX_REJECTED");
            Ok(match rejected {
                true => with_criteria(session, &client, answer).await,
                false if detach || answer.error.is_some() => answer,
                false => hinted(answer),
            })
        })
        .await
}

/// A run that went well says who uses what it made.
fn hinted(mut answer: Answer) -> Answer {
    let hint = "who uses it: `genesisctl matrix rollout status`, `genesisctl matrix history`";
    answer.view.tail.push(hint.to_owned());
    answer
}

/// A matrix that is not valid is a refusal, which says what is unmet.
async fn with_criteria(session: &Session<'_>, client: &Client, answer: Answer) -> Answer {
    let mut answer = answer.exit(Exit::Refused);
    // The run has told what matters: without this there is only less to read.
    let listed = history::ask(client, NEWEST).await.unwrap_or_default();
    let mut versions = listed.versions.iter();
    let Some(about) = versions.find(|one| one.state() == MatrixState::Rejected) else {
        return answer;
    };
    let version = about.version;
    answer.view.parts = page::parts(about, session.global.verbose);
    answer.view.parts.extend(page::next(about));
    answer.error = answer.error.map(|error| {
        error.with_next(format!("see it with `genesisctl matrix show --version {version}`"))
    });
    answer
}

pub(super) async fn rollback(session: &Session<'_>, to: u64) -> Result<Exit, Halt> {
    let request = RollbackMatrixRequest { to, plan_hash: session.plan_hash() };
    if session.global.plan {
        return plan::ask!(session, request, matrices, plan_rollback_matrix);
    }
    reason(session, "matrix rollback", "what is wrong with the one that is in use?")?;
    let what = match to {
        0 => "go back to the matrix before".to_owned(),
        version => format!("go back to version {version} of the matrix"),
    };
    consent(session, SERVICE, "RollbackMatrix", &what)?;
    let request = &request;
    session
        .each(|client| async move {
            let response = client
                .call(request.clone(), |c, r| async move { c.matrices().rollback_matrix(r).await })
                .await?;
            let json = session.json("RollbackMatrixResponse", &response)?;
            let active = response.active.ok_or_else(|| incomplete_answer("the version"))?;
            Ok(Answer::new(json, View::line(in_use(&active))))
        })
        .await
}

fn in_use(active: &MatrixVersion) -> String {
    format!(
        "all consumers use version {} of the matrix ({}), of {} series and at least {} points a pair",
        active.version,
        page::state(active),
        count(active.series.into()),
        count(active.fewest_points.into())
    )
}

pub(super) async fn advance(session: &Session<'_>) -> Result<Exit, Halt> {
    let request = AdvanceRolloutRequest { plan_hash: session.plan_hash() };
    if session.global.plan {
        return plan::ask!(session, request, matrices, plan_advance_rollout);
    }
    reason(session, "matrix rollout advance", "why not wait for more outcomes?")?;
    consent(session, SERVICE, "AdvanceRollout", "let more consumers use the new matrix")?;
    let request = &request;
    session
        .each(|client| async move {
            let response = client
                .call(request.clone(), |c, r| async move { c.matrices().advance_rollout(r).await })
                .await?;
            let json = session.json("AdvanceRolloutResponse", &response)?;
            told(json, response.rollout.as_ref())
        })
        .await
}

pub(super) async fn abort(session: &Session<'_>) -> Result<Exit, Halt> {
    let request = AbortRolloutRequest { plan_hash: session.plan_hash() };
    if session.global.plan {
        return plan::ask!(session, request, matrices, plan_abort_rollout);
    }
    reason(session, "matrix rollout abort", "what is wrong with the new matrix?")?;
    consent(
        session,
        SERVICE,
        "AbortRollout",
        "take the new matrix from the consumers that use it",
    )?;
    let request = &request;
    session
        .each(|client| async move {
            let response = client
                .call(request.clone(), |c, r| async move { c.matrices().abort_rollout(r).await })
                .await?;
            let json = session.json("AbortRolloutResponse", &response)?;
            told(json, response.rollout.as_ref())
        })
        .await
}

fn told(json: serde_json::Value, found: Option<&Rollout>) -> Result<Answer, crate::exit::Stop> {
    let found = found.ok_or_else(|| incomplete_answer("the rollout"))?;
    Ok(Answer::new(json, View::line(rollout::line(found, None))))
}
