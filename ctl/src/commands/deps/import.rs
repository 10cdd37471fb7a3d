//! `deps import-advisories`.

use std::path::PathBuf;

use genesis_client::v1::{
    DataSource, ImportAdvisoriesRequest, ImportAdvisoriesResponse, PlanResponse,
    UploadAdvisoriesResponse,
};
use genesis_client::{Client, Error};

use super::upload::Upload;
use super::{SERVICE, data};
use crate::confirm::consent;
use crate::connect::Session;
use crate::exit::{Exit, Halt, Stop};
use crate::format;
use crate::plan;
use crate::render::{Answer, View};

const METHOD: &str = "ImportAdvisories";

pub(super) async fn import(session: &Session<'_>, files: &[PathBuf]) -> Result<Exit, Halt> {
    if files.is_empty() {
        return configured(session).await;
    }
    for (given, flag) in [
        (session.global.plan, "--plan"),
        (session.global.plan_hash.is_some(), "--plan-hash"),
        (session.global.request_id.is_some(), "--request-id"),
    ] {
        if given && files.len() > 1 {
            return Err(Halt::Usage(format!(
                "each FILE is an import of its own, and {flag} is for one: give one FILE at a time"
            )));
        }
    }
    // All that can be refused is refused before anything is sent.
    let uploads = files.iter().map(|path| Upload::open(path)).collect::<Result<Vec<_>, _>>()?;
    let uploads = &uploads;
    if session.global.plan {
        return session
            .each_in(plan::COLUMNS, |client| async move {
                let work = planned(session, &client, uploads);
                session.limited(client.node(), work).await
            })
            .await;
    }
    consent(session, SERVICE, METHOD, &format!("import {}", named(uploads)))?;
    session
        .each_in(data::columns(session.global.verbose), |client| async move {
            let work = all(session, &client, uploads);
            session.limited(client.node(), work).await
        })
        .await
}

fn named(uploads: &[Upload]) -> String {
    uploads.iter().map(Upload::name).collect::<Vec<_>>().join(", ")
}

/// From the files that the agents are configured with.
async fn configured(session: &Session<'_>) -> Result<Exit, Halt> {
    let request = ImportAdvisoriesRequest { upload: String::new(), plan_hash: session.plan_hash() };
    if session.global.plan {
        return plan::ask!(session, request, dependencies, plan_import_advisories);
    }
    consent(session, SERVICE, METHOD, "import advisories from the configured files")?;
    let request = &request;
    session
        .each_in(data::columns(session.global.verbose), |client| async move {
            let response = carry_out(&client, request.clone()).await?;
            Ok(answer(session, &response)?)
        })
        .await
}

async fn carry_out(
    client: &Client,
    request: ImportAdvisoriesRequest,
) -> Result<ImportAdvisoriesResponse, Error> {
    client.call(request, |c, r| async move { c.dependencies().import_advisories(r).await }).await
}

fn answer(session: &Session<'_>, response: &ImportAdvisoriesResponse) -> Result<Answer, Error> {
    let json = session.json("ImportAdvisoriesResponse", response)?;
    let verbose = session.global.verbose;
    let view = View {
        columns: data::columns(verbose),
        rows: data::rows(&response.sources, verbose),
        empty: "nothing was imported",
        ..View::default()
    };
    Ok(Answer::new(json, view))
}

async fn planned(
    session: &Session<'_>,
    client: &Client,
    uploads: &[Upload],
) -> Result<Answer, Stop> {
    let mut response = PlanResponse::default();
    for upload in uploads {
        let sent = sent(session, client, upload).await?;
        response = plan_of(client, &sent).await?;
    }
    let json = session.json("PlanResponse", &response)?;
    Ok(Answer::new(json, plan::view(response.plan.as_ref())))
}

/// Imports one file after the other. What was imported before one fails is imported, and told.
async fn all(session: &Session<'_>, client: &Client, uploads: &[Upload]) -> Result<Answer, Stop> {
    let mut imported = ImportAdvisoriesResponse::default();
    for (done, upload) in uploads.iter().enumerate() {
        match one(session, client, upload).await {
            Ok(response) => imported.sources.extend(response.sources),
            Err(Stop::Node(error)) if done > 0 => {
                let next = format!(
                    "{}; {} before it came in, so give only what is left",
                    error.next,
                    format::plural(done as u64, "file")
                );
                let error = error.with_next(next);
                return Ok(answer(session, &imported)?.exit(Exit::of_error(&error)).error(error));
            }
            Err(stop) => return Err(stop),
        }
    }
    Ok(answer(session, &imported)?)
}

/// Sends a file, tells what is in it and what would be done, and does that and nothing else.
async fn one(
    session: &Session<'_>,
    client: &Client,
    upload: &Upload,
) -> Result<ImportAdvisoriesResponse, Stop> {
    let sent = sent(session, client, upload).await?;
    let plan = plan_of(client, &sent).await?.plan.unwrap_or_default();
    if session.for_people() {
        for step in &plan.steps {
            say(session, client, &format!("  {} {}: {}", step.action, step.target, step.reason));
        }
    }
    let wanted = session.plan_hash();
    let plan_hash = if wanted.is_empty() { plan.hash } else { wanted };
    let request = ImportAdvisoriesRequest { upload: sent.upload, plan_hash };
    Ok(carry_out(client, request).await?)
}

async fn sent(
    session: &Session<'_>,
    client: &Client,
    upload: &Upload,
) -> Result<UploadAdvisoriesResponse, Stop> {
    let sent = upload.send(session, client).await?;
    if session.for_people() {
        let name = upload.name();
        if sent.sources.is_empty() {
            say(session, client, &format!("{name} has nothing that is known here"));
        }
        for source in &sent.sources {
            say(session, client, &format!("{name} has {}", content(source)));
        }
    }
    Ok(sent)
}

/// Such as "PyPI: 2,661 records, the newest of 2024-05-01T00:00:00Z".
fn content(source: &DataSource) -> String {
    let newest = match &source.newest_at {
        Some(at) => format!(", the newest of {}", format::time(Some(at))),
        None => String::new(),
    };
    format!("{}: {}{newest}", source.name, format::plural(source.records, "record"))
}

/// A note, with the node where there are several.
fn say(session: &Session<'_>, client: &Client, line: &str) {
    match session.many() {
        true => session.note(&format!("{}: {line}", client.node())),
        false => session.note(line),
    }
}

async fn plan_of(client: &Client, sent: &UploadAdvisoriesResponse) -> Result<PlanResponse, Error> {
    let request = ImportAdvisoriesRequest { upload: sent.upload.clone(), plan_hash: String::new() };
    client
        .call(request, |c, r| async move { c.dependencies().plan_import_advisories(r).await })
        .await
}
