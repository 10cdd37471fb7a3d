//! `health flag`, `ack`, `resume`, `run`.

use genesis_client::v1::{
    AckIssueRequest, FlagIssueRequest, PlanResponse, ResumeIssueRequest, RunActionRequest,
};
use genesis_client::{Client, Error};

use super::health::{Run, SERVICE};
use super::{incomplete_answer, run};
use crate::confirm::{Consent, agreed, consent, reason};
use crate::connect::Session;
use crate::exit::{Exit, Halt};
use crate::format;
use crate::plan;
use crate::render::{Answer, View};

pub(super) async fn flag(session: &Session<'_>, issue: &str) -> Result<Exit, Halt> {
    let request = FlagIssueRequest { issue: issue.to_owned(), plan_hash: session.plan_hash() };
    if session.global.plan {
        return plan::ask!(session, request, health, plan_flag_issue);
    }
    reason(session, "health flag", "what should the people know who are called?")?;
    consent(session, SERVICE, "FlagIssue", &format!("call people about {issue}"))?;
    let request = &request;
    session
        .each(|client| async move {
            let response = client
                .call(request.clone(), |c, r| async move { c.health().flag_issue(r).await })
                .await?;
            let json = session.json("FlagIssueResponse", &response)?;
            let issue = response.issue.ok_or_else(|| incomplete_answer("the issue"))?;
            let mut view = View::line(match response.was_escalated {
                true => {
                    format!("people were called about {} before, nothing was changed", issue.id)
                }
                false => {
                    format!("people are called about {}, and automation stops for it", issue.id)
                }
            });
            if !response.incident_id.is_empty() {
                let id = response.incident_id;
                view.lead.push(format!("incident {id}: `genesisctl incident show {id}`"));
            }
            Ok(Answer::new(json, view))
        })
        .await
}

pub(super) async fn ack(session: &Session<'_>, issue: &str) -> Result<Exit, Halt> {
    let request = AckIssueRequest { issue: issue.to_owned(), plan_hash: session.plan_hash() };
    if session.global.plan {
        return plan::ask!(session, request, health, plan_ack_issue);
    }
    consent(session, SERVICE, "AckIssue", &format!("take notice of {issue}"))?;
    let request = &request;
    session
        .each(|client| async move {
            let response = client
                .call(request.clone(), |c, r| async move { c.health().ack_issue(r).await })
                .await?;
            let json = session.json("AckIssueResponse", &response)?;
            let issue = response.issue.ok_or_else(|| incomplete_answer("the issue"))?;
            let (id, by) = (&issue.id, format::or_none(&issue.acked_by));
            let line = format!(
                "{id} is acked by {by}: automation goes on with the attempts that are left"
            );
            Ok(Answer::new(json, View::line(line)))
        })
        .await
}

pub(super) async fn resume(session: &Session<'_>, issue: &str) -> Result<Exit, Halt> {
    let request = ResumeIssueRequest { issue: issue.to_owned(), plan_hash: session.plan_hash() };
    if session.global.plan {
        return plan::ask!(session, request, health, plan_resume_issue);
    }
    consent(session, SERVICE, "ResumeIssue", &format!("resume the automation of {issue}"))?;
    let request = &request;
    session
        .each(|client| async move {
            let response = client
                .call(request.clone(), |c, r| async move { c.health().resume_issue(r).await })
                .await?;
            let json = session.json("ResumeIssueResponse", &response)?;
            let issue = response.issue.ok_or_else(|| incomplete_answer("the issue"))?;
            let line = format!("{}: automation goes on with a fresh count of attempts", issue.id);
            Ok(Answer::new(json, View::line(line)))
        })
        .await
}

pub(super) async fn run(session: &Session<'_>, arguments: &Run) -> Result<Exit, Halt> {
    if session.global.plan {
        return plan::show(session, |client| async move { planned(&client, arguments).await })
            .await;
    }
    let what = match arguments.check.as_str() {
        "" => arguments.action.clone(),
        check => format!("{} of {check}", arguments.action),
    };
    if arguments.despite_trades {
        let question = "why must it be while critical trades may be in progress?";
        reason(session, "health run --despite-trades", question)?;
    }
    let consent = consent(session, SERVICE, arguments.method(), &format!("run {what}"))?;
    let what = &what;
    session
        .each(|client| async move {
            let plan_hash = match consent {
                Consent::Given => session.plan_hash(),
                Consent::Ask => {
                    let planned = planned(&client, arguments).await?;
                    let question = format!("Run {what}?");
                    agreed(session, planned.plan.as_ref(), &question, "nothing was run")?
                }
            };
            let request = RunActionRequest { plan_hash, ..request(arguments) };
            let despite_trades = arguments.despite_trades;
            let response = client
                .call(request, |c, r| async move {
                    match despite_trades {
                        true => c.health().run_action_despite_trades(r).await,
                        false => c.health().run_action(r).await,
                    }
                })
                .await?;
            let json = session.json("RunActionResponse", &response)?;
            run::started(session, &client, response.run.as_ref(), json, arguments.detach).await
        })
        .await
}

fn request(arguments: &Run) -> RunActionRequest {
    RunActionRequest {
        action: arguments.action.clone(),
        check: arguments.check.clone(),
        plan_hash: String::new(),
    }
}

async fn planned(client: &Client, arguments: &Run) -> Result<PlanResponse, Error> {
    let despite_trades = arguments.despite_trades;
    client
        .call(request(arguments), |c, r| async move {
            match despite_trades {
                true => c.health().plan_run_action_despite_trades(r).await,
                false => c.health().plan_run_action(r).await,
            }
        })
        .await
}
