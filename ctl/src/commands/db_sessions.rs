//! `db blockers`, `db kill`.

use std::collections::HashMap;

use genesis_client::v1::{
    BlockingSession, KillSessionRequest, KillSessionResponse, ListBlockersRequest,
    ListBlockersResponse,
};

use super::db::{SERVICE, Which};
use crate::confirm::{Consent, agreed, consent, reason};
use crate::connect::Session;
use crate::exit::{Exit, Halt};
use crate::format;
use crate::plan;
use crate::render::{Answer, Cell, View};

const COLUMNS: &[&str] = &[
    "PID",
    "STATE",
    "WAITING",
    "HOLDS UP",
    "IN TRANSACTION SINCE",
    "USER",
    "APPLICATION",
    "CLIENT",
    "NOTE",
    "QUERY",
];

/// So many characters of a statement are shown.
const STATEMENT: usize = 80;

pub(super) async fn blockers(session: &Session<'_>, which: &Which) -> Result<Exit, Halt> {
    let request = &ListBlockersRequest { database: which.database.clone() };
    session
        .each_in(COLUMNS, |client| async move {
            let list = client
                .call(request.clone(), |c, r| async move { c.database().list_blockers(r).await })
                .await?;
            let json = session.json("ListBlockersResponse", &list)?;
            let depths = depths(&list.sessions);
            let rows = list.sessions.iter().zip(depths);
            let view = View {
                lead: vec![extent(&list)],
                columns: COLUMNS,
                rows: rows.map(|(one, depth)| row(session, one, depth)).collect(),
                tail: advice(which, &list.sessions).into_iter().collect(),
                ..View::default()
            };
            let exit = if list.sessions.iter().any(waits) { Exit::Findings } else { Exit::Ok };
            Ok(Answer::new(json, view).exit(exit))
        })
        .await
}

fn waits(session: &BlockingSession) -> bool {
    !session.waits_for.is_empty()
}

/// How far each is from its root. Whoever is waited for comes first.
fn depths(sessions: &[BlockingSession]) -> Vec<usize> {
    let mut known: HashMap<i32, usize> = HashMap::new();
    let depth = |session: &BlockingSession| {
        let above = session.waits_for.iter().filter_map(|pid| known.get(pid)).max();
        // One that waits for somebody who is not listed is below somebody all the same.
        let depth = if waits(session) { above.map_or(1, |above| above + 1) } else { 0 };
        known.insert(session.pid, depth);
        depth
    };
    sessions.iter().map(depth).collect()
}

fn row(session: &Session<'_>, one: &BlockingSession, depth: usize) -> Vec<Cell> {
    let pid = match one.prepared.as_str() {
        "" => one.pid.to_string(),
        _ => "prepared".to_owned(),
    };
    let most = if session.global.verbose { usize::MAX } else { STATEMENT };
    vec![
        Cell::from(format!("{}{pid}", "  ".repeat(depth))),
        Cell::from(format::or_none(&one.state)),
        Cell::number(format::proto_duration(one.waiting.as_ref())),
        Cell::number(format::count(one.holds_up.into())),
        Cell::from(format::time(one.xact_start.as_ref())),
        Cell::from(format::or_none(&one.user)),
        Cell::from(format::or_none(&one.application)),
        Cell::from(format::or_none(&one.client)),
        Cell::from(note(one)),
        Cell::from(format::or_none(&format::excerpt(&one.query, most))),
    ]
}

/// Whom it waits for, and what speaks against ending it.
fn note(session: &BlockingSession) -> String {
    let mut notes = Vec::new();
    if waits(session) {
        let whom = session.waits_for.iter().map(|pid| match pid {
            // By this number the server means that it has no session.
            0 => "a prepared transaction".to_owned(),
            pid => pid.to_string(),
        });
        notes.push(format!("waits for {}", whom.collect::<Vec<_>>().join(", ")));
    }
    if !session.prepared.is_empty() {
        notes.push(format!("prepared transaction {}", session.prepared));
    }
    if !session.protected_by.is_empty() {
        notes.push(format!("protected: {}", session.protected_by));
    }
    format::or_none(&notes.join("; "))
}

fn extent(list: &ListBlockersResponse) -> String {
    let waiting = list.sessions.iter().filter(|one| waits(one)).count() as u64;
    let roots = list.sessions.len() as u64 - waiting;
    let chain = match waiting {
        0 => "nobody waits".to_owned(),
        1 => format!("1 session waits, {} at the root", format::count(roots)),
        _ => {
            format!(
                "{} sessions wait, {} at the root",
                format::count(waiting),
                format::count(roots)
            )
        }
    };
    let deadlocks = format::plural(list.deadlocks, "deadlock");
    format!("{}: {chain}; the server has ended {deadlocks} by itself", list.database)
}

/// How to end whoever is at the root, where that may be.
fn advice(which: &Which, sessions: &[BlockingSession]) -> Option<String> {
    let free = |one: &&BlockingSession| {
        !waits(one) && one.holds_up > 0 && one.protected_by.is_empty() && one.prepared.is_empty()
    };
    let worst = sessions.iter().filter(free).max_by_key(|one| one.holds_up)?;
    let database = match which.database.as_str() {
        "" => String::new(),
        name => format!(" --database {name}"),
    };
    let pid = worst.pid;
    Some(format!("`genesisctl db kill {pid}{database} --reason TEXT` ends what it does"))
}

pub(super) async fn kill(session: &Session<'_>, pid: i32, which: &Which) -> Result<Exit, Halt> {
    let request = KillSessionRequest {
        database: which.database.clone(),
        pid,
        plan_hash: session.plan_hash(),
    };
    if session.global.plan {
        return plan::ask!(session, request, database, plan_kill_session);
    }
    // The same number is another session on each of them.
    session.one_node("db kill")?;
    reason(session, "db kill", "why must it be ended?")?;
    let what = format!("end session {pid} of {}", which.named());
    let consent = consent(session, SERVICE, "KillSession", &what)?;
    let request = &request;
    session
        .each(|client| async move {
            let mut request = request.clone();
            if consent == Consent::Ask {
                let unsent = KillSessionRequest { plan_hash: String::new(), ..request.clone() };
                let planned = client
                    .call(unsent, |c, r| async move { c.database().plan_kill_session(r).await })
                    .await?;
                let question = format!("End session {pid}?");
                request.plan_hash =
                    agreed(session, planned.plan.as_ref(), &question, "nobody was ended")?;
            }
            let response = client
                .call(request, |c, r| async move { c.database().kill_session(r).await })
                .await?;
            let json = session.json("KillSessionResponse", &response)?;
            let exit = if response.cleared { Exit::Ok } else { Exit::Findings };
            Ok(Answer::new(json, View::line(ended(&response))).exit(exit))
        })
        .await
}

fn ended(response: &KillSessionResponse) -> String {
    let KillSessionResponse { database, pid, by, cleared } = response;
    let how = match by.as_str() {
        "cancelled" => format!("what session {pid} of {database} did was cancelled"),
        "terminated" => format!("session {pid} of {database} was terminated"),
        by => format!("session {pid} of {database}: {}", format::or_none(by)),
    };
    match cleared {
        true => format!("{how}: nobody waits for it any more"),
        false => format!("{how}, but others still wait for it: see `genesisctl db blockers`"),
    }
}
