//! `db preflight`, `db optimize`, `db verify`.

use genesis_client::v1::{
    CheckPreflightRequest, CheckPreflightResponse, OptimizeDatabaseDespiteRequest,
    OptimizeDatabaseRequest, OptimizeDatabaseResponse, StartedRun, Truth, VerifyDatabaseRequest,
    VerifyDatabaseResponse,
};
use genesis_client::{Client, Error};

use super::db::{Optimize, SERVICE, Which};
use super::db_items::{
    benchmarks, exit, is_unknown, item_columns, item_rows, named as items_named, tally,
};
use super::run;
use crate::confirm::{consent, reason};
use crate::connect::Session;
use crate::exit::{Exit, Halt};
use crate::format;
use crate::plan;
use crate::render::{Answer, View};

pub(super) async fn preflight(session: &Session<'_>, which: &Which) -> Result<Exit, Halt> {
    let request = &CheckPreflightRequest { database: which.database.clone() };
    let more = session.global.verbose;
    session
        .each_in(item_columns(more), |client| async move {
            let response = client
                .call(request.clone(), |c, r| async move { c.database().check_preflight(r).await })
                .await?;
            let json = session.json("CheckPreflightResponse", &response)?;
            let took = format::proto_duration(response.took.as_ref());
            let (exit, verdict) = verdict(&response);
            let view = View {
                lead: vec![format!("{}: {verdict} ({took})", response.database)],
                columns: item_columns(more),
                rows: item_rows(&response.items, more),
                ..View::default()
            };
            Ok(Answer::new(json, view).exit(exit))
        })
        .await
}

/// Whether it could begin, and in words what is in the way.
fn verdict(response: &CheckPreflightResponse) -> (Exit, String) {
    let failing = items_named(&response.items, |truth| truth == Truth::Fail);
    let unknown = items_named(&response.items, is_unknown);
    match (failing.as_str(), unknown.as_str()) {
        ("", "") if response.clear => (Exit::Ok, "optimization can begin".to_owned()),
        // An agent of another version, which knows of something that it does not list.
        ("", "") => (Exit::Unknown, "the agent does not say what is in the way".to_owned()),
        ("", unknown) => (Exit::Unknown, format!("nobody knows about {unknown}")),
        (failing, "") => (Exit::Refused, format!("blocked by {failing}")),
        (failing, unknown) => {
            (Exit::Refused, format!("blocked by {failing}; nobody knows about {unknown}"))
        }
    }
}

pub(super) async fn optimize(session: &Session<'_>, arguments: &Optimize) -> Result<Exit, Halt> {
    let request = request(session, arguments);
    let despite = despite(session, arguments);
    if session.global.plan {
        return match arguments.overrides.is_empty() {
            true => plan::ask!(session, request, database, plan_optimize_database),
            false => plan::ask!(session, despite, database, plan_optimize_database_despite),
        };
    }
    if !arguments.overrides.is_empty() {
        let question = "why does that not count this time?";
        reason(session, "db optimize --override", question)?;
    }
    let what = format!("optimize {}", arguments.which.named());
    consent(session, SERVICE, arguments.method(), &what)?;
    session
        .each(|client| async move {
            let response = send(session, &client, arguments).await?;
            let json = session.json("OptimizeDatabaseResponse", &response)?;
            if response.not_due {
                return Ok(Answer::new(json, View::line(not_due(&response))));
            }
            let run = StartedRun { run_id: response.run_id, attached: false };
            run::started(session, &client, Some(&run), json, arguments.detach).await
        })
        .await
}

fn request(session: &Session<'_>, arguments: &Optimize) -> OptimizeDatabaseRequest {
    OptimizeDatabaseRequest {
        database: arguments.which.database.clone(),
        force: arguments.force,
        plan_hash: session.plan_hash(),
    }
}

fn despite(session: &Session<'_>, arguments: &Optimize) -> OptimizeDatabaseDespiteRequest {
    OptimizeDatabaseDespiteRequest {
        database: arguments.which.database.clone(),
        force: arguments.force,
        overrides: arguments.overrides.clone(),
        plan_hash: session.plan_hash(),
    }
}

async fn send(
    session: &Session<'_>,
    client: &Client,
    arguments: &Optimize,
) -> Result<OptimizeDatabaseResponse, Error> {
    if arguments.overrides.is_empty() {
        let request = request(session, arguments);
        return client
            .call(request, |c, r| async move { c.database().optimize_database(r).await })
            .await;
    }
    let request = despite(session, arguments);
    client
        .call(request, |c, r| async move { c.database().optimize_database_despite(r).await })
        .await
}

fn not_due(response: &OptimizeDatabaseResponse) -> String {
    let due = match &response.next_at {
        Some(at) => format!("is due at {}", format::time(Some(at))),
        None => "is optimized by hand only".to_owned(),
    };
    format!("{} {due}, nothing was done: --force does it now", response.database)
}

pub(super) async fn verify(session: &Session<'_>, which: &Which) -> Result<Exit, Halt> {
    let request = &VerifyDatabaseRequest { database: which.database.clone() };
    let more = session.global.verbose;
    session
        .each_in(item_columns(more), |client| async move {
            let bar = session.bar("verifying");
            let response = client
                .call(request.clone(), |c, r| async move { c.database().verify_database(r).await })
                .await?;
            drop(bar);
            let json = session.json("VerifyDatabaseResponse", &response)?;
            let took = format::proto_duration(response.took.as_ref());
            let view = View {
                lead: vec![format!("{}: {} in {took}", response.database, tally(&response.items))],
                columns: item_columns(more),
                rows: item_rows(&response.items, more),
                parts: benchmarks("Benchmark queries".to_owned(), &response.benchmarks)
                    .into_iter()
                    .collect(),
                ..View::default()
            };
            Ok(Answer::new(json, view).exit(proven(&response)))
        })
        .await
}

/// By the items and the benchmark queries; where they say nothing, by what the agent makes of it.
fn proven(response: &VerifyDatabaseResponse) -> Exit {
    let items = response.items.iter().filter(|item| !item.overridden).map(|item| item.truth());
    let queries = response.benchmarks.iter().map(|result| result.truth());
    match (exit(items.chain(queries)), response.clear) {
        (Exit::Ok, false) => Exit::Unknown,
        (exit, _) => exit,
    }
}
