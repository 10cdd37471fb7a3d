//! `logs rotate`, `logs cleanup`, `logs rebuild-catalog`, `logs verify`.

use genesis_client::v1::{
    CleanupArchivesRequest, Finding, PlanCleanupArchivesResponse, RebuildCatalogRequest,
    RotateLogsRequest, VerifyArchivesRequest, VerifyDepth, VerifySummary,
    verify_archives_response::Part,
};
use genesis_client::{Client, Error, Kind};
use serde_json::{Value, json};

use super::logs::{Cleanup, SERVICE};
use super::run;
use crate::confirm::{Consent, agreed, consent, reason};
use crate::connect::Session;
use crate::exit::{Exit, Halt, Stop};
use crate::format;
use crate::plan;
use crate::render::{Answer, View, finding};

/// How many findings of a verification are kept for the answer; more are only counted.
const FINDINGS_KEPT: usize = 10_000;

pub(super) async fn rotate(
    session: &Session<'_>,
    log_type: &str,
    detach: bool,
) -> Result<Exit, Halt> {
    let what = match log_type {
        "" => "rotate all logs".to_owned(),
        log_type => format!("rotate the logs of type {log_type}"),
    };
    let request =
        RotateLogsRequest { log_type: log_type.to_owned(), plan_hash: session.plan_hash() };
    if session.global.plan {
        return plan::ask!(session, request, logs, plan_rotate_logs);
    }
    consent(session, SERVICE, "RotateLogs", &what)?;
    let request = &request;
    session
        .each(|client| async move {
            let response = client
                .call(request.clone(), |c, r| async move { c.logs().rotate_logs(r).await })
                .await?;
            let json = session.json("RotateLogsResponse", &response)?;
            run::started(session, &client, response.run.as_ref(), json, detach).await
        })
        .await
}

pub(super) async fn rebuild(
    session: &Session<'_>,
    log_type: &str,
    detach: bool,
) -> Result<Exit, Halt> {
    let request =
        RebuildCatalogRequest { log_type: log_type.to_owned(), plan_hash: session.plan_hash() };
    if session.global.plan {
        return plan::ask!(session, request, logs, plan_rebuild_catalog);
    }
    consent(session, SERVICE, "RebuildCatalog", "enter what the archive holds into the catalogue")?;
    let request = &request;
    session
        .each(|client| async move {
            let response = client
                .call(request.clone(), |c, r| async move { c.logs().rebuild_catalog(r).await })
                .await?;
            let json = session.json("RebuildCatalogResponse", &response)?;
            run::started(session, &client, response.run.as_ref(), json, detach).await
        })
        .await
}

pub(super) async fn cleanup(session: &Session<'_>, arguments: &Cleanup) -> Result<Exit, Halt> {
    if session.global.plan {
        return session
            .each_in(plan::COLUMNS, |client| async move {
                let planned = planned(&client, arguments).await?;
                let json = session.json("PlanCleanupArchivesResponse", &planned)?;
                Ok(Answer::new(json, plan_view(&planned)))
            })
            .await;
    }
    let what = format!("delete archived logs older than {}", arguments.older_than);
    if arguments.override_retention {
        reason(session, "logs cleanup --override-retention", "why may these logs go early?")?;
    }
    let consent = consent(session, SERVICE, arguments.method(), &what)?;
    session
        .each(|client| async move {
            let plan_hash = match consent {
                Consent::Given => session.plan_hash(),
                Consent::Ask => agreed_plan(session, &client, arguments).await?,
            };
            let request = CleanupArchivesRequest {
                older_than: arguments.older_than.clone(),
                log_type: arguments.log_type.clone(),
                plan_hash,
            };
            let early = arguments.override_retention;
            let response = client
                .call(request, |c, r| async move {
                    match early {
                        true => c.logs().cleanup_archives_early(r).await,
                        false => c.logs().cleanup_archives(r).await,
                    }
                })
                .await?;
            let json = session.json("CleanupArchivesResponse", &response)?;
            run::started(session, &client, response.run.as_ref(), json, arguments.detach).await
        })
        .await
}

async fn planned(
    client: &Client,
    arguments: &Cleanup,
) -> Result<PlanCleanupArchivesResponse, Error> {
    let request = CleanupArchivesRequest {
        older_than: arguments.older_than.clone(),
        log_type: arguments.log_type.clone(),
        plan_hash: String::new(),
    };
    let early = arguments.override_retention;
    client
        .call(request, |c, r| async move {
            match early {
                true => c.logs().plan_cleanup_archives_early(r).await,
                false => c.logs().plan_cleanup_archives(r).await,
            }
        })
        .await
}

fn plan_view(plan: &PlanCleanupArchivesResponse) -> View {
    let mut view = plan::view(plan.plan.as_ref());
    view.lead.push(format!("would delete {}", extent(plan)));
    if plan.held_segments > 0 {
        let held = format::plural(plan.held_segments, "segment");
        view.lead.push(format!("{held} of that age stay: they are held (`genesisctl logs holds`)"));
    }
    view
}

fn extent(plan: &PlanCleanupArchivesResponse) -> String {
    let segments = format::plural(plan.segments, "archived segment");
    format!("{segments}, {}", format::bytes(plan.compressed_bytes))
}

/// Shows the plan, asks, and returns the hash of what was agreed to.
async fn agreed_plan(
    session: &Session<'_>,
    client: &Client,
    arguments: &Cleanup,
) -> Result<String, Stop> {
    let planned = planned(client, arguments).await?;
    let question = format!("Delete {} for good?", extent(&planned));
    agreed(session, planned.plan.as_ref(), &question, "nothing was deleted")
}

pub(super) async fn verify(
    session: &Session<'_>,
    log_type: &str,
    depth: VerifyDepth,
) -> Result<Exit, Halt> {
    session
        .each(|client| async move {
            let request =
                VerifyArchivesRequest { log_type: log_type.to_owned(), depth: depth.into() };
            let work = collect(session, &client, request);
            let (findings, summary) = session.limited(client.node(), work).await?;
            answer(session, &findings, summary)
        })
        .await
}

async fn collect(
    session: &Session<'_>,
    client: &Client,
    request: VerifyArchivesRequest,
) -> Result<(Vec<Finding>, Option<VerifySummary>), Stop> {
    let bar = session.bar("verifying");
    let mut stream =
        client.call(request, |c, r| async move { c.logs().verify_archives(r).await }).await?;
    let (mut findings, mut summary) = (Vec::new(), None);
    while let Some(response) = client.next(&mut stream).await? {
        match response.part {
            Some(Part::Finding(found)) if findings.len() < FINDINGS_KEPT => findings.push(found),
            Some(Part::Progress(progress)) => bar.report(&progress),
            Some(Part::Summary(ended)) => summary = Some(ended),
            Some(Part::Finding(_)) | None => {}
        }
    }
    Ok((findings, summary))
}

fn answer(
    session: &Session<'_>,
    findings: &[Finding],
    summary: Option<VerifySummary>,
) -> Result<Answer, Stop> {
    let found = findings.iter().map(|found| session.json("Finding", found));
    let found = Value::Array(found.collect::<Result<_, _>>()?);
    let mut view = View { tail: findings.iter().map(finding).collect(), ..View::default() };
    let Some(summary) = summary else {
        let message =
            "the verification was cut off: nothing is known about what it had not reached";
        let next = "run it again; if it happens again, look at the agent's log";
        let error = Error::new(Kind::Incomplete, "DATA_LOSS", "VERIFY_CUT", message, next);
        let json = json!({ "findings": found, "summary": null });
        return Ok(Answer::new(json, view).exit(Exit::Unknown).error(error));
    };
    let bad = summary.findings.max(findings.len() as u64);
    let verdict = match (bad, summary.unknown) {
        (0, 0) => "all good".to_owned(),
        (bad, 0) => format::plural(bad, "finding"),
        (0, unknown) => format!("{} could not be checked", format::count(unknown)),
        (bad, unknown) => format!(
            "{}, {} could not be checked",
            format::plural(bad, "finding"),
            format::count(unknown)
        ),
    };
    view.lead.push(format!(
        "{} checked, {}: {verdict}",
        format::plural(summary.segments, "segment"),
        format::bytes(summary.compressed_bytes)
    ));
    let json = json!({ "findings": found, "summary": session.json("VerifySummary", &summary)? });
    let exit = match (bad, summary.unknown) {
        (0, 0) => Exit::Ok,
        (_, 0) => Exit::Findings,
        _ => Exit::Unknown,
    };
    Ok(Answer::new(json, view).exit(exit))
}
