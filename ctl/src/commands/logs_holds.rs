//! `logs hold`, `logs holds`, `logs release`.

use genesis_client::v1::{Hold, HoldLogsRequest, ListHoldsRequest, ReleaseLogsRequest};

use super::incomplete_answer;
use super::logs::SERVICE;
use crate::confirm::{consent, reason};
use crate::connect::Session;
use crate::exit::{Exit, Halt};
use crate::format;
use crate::plan;
use crate::render::{Answer, Cell, View};

const COLUMNS: &[&str] =
    &["HOLD", "TYPE", "FROM", "UNTIL", "SEGMENTS", "STORED", "SINCE", "BY", "REASON"];

pub(super) async fn hold(
    session: &Session<'_>,
    log_type: &str,
    date_range: &str,
) -> Result<Exit, Halt> {
    let request = HoldLogsRequest {
        log_type: log_type.to_owned(),
        date_range: date_range.to_owned(),
        plan_hash: session.plan_hash(),
    };
    if session.global.plan {
        return plan::ask!(session, request, logs, plan_hold_logs);
    }
    reason(session, "logs hold", "why must these logs stay?")?;
    consent(session, SERVICE, "HoldLogs", "hold logs")?;
    let request = &request;
    session
        .each(|client| async move {
            let response = client
                .call(request.clone(), |c, r| async move { c.logs().hold_logs(r).await })
                .await?;
            let json = session.json("HoldLogsResponse", &response)?;
            let hold = response.hold.ok_or_else(|| incomplete_answer("the hold"))?;
            let what = match response.was_held {
                true => "was in force already, nothing was changed",
                false => "is in force",
            };
            Ok(Answer::new(json, View::line(format!("hold {} {what}: {}", hold.id, kept(&hold)))))
        })
        .await
}

pub(super) async fn release(session: &Session<'_>, id: &str) -> Result<Exit, Halt> {
    let request = ReleaseLogsRequest { id: id.to_owned(), plan_hash: session.plan_hash() };
    if session.global.plan {
        return plan::ask!(session, request, logs, plan_release_logs);
    }
    reason(session, "logs release", "why may these logs go?")?;
    consent(session, SERVICE, "ReleaseLogs", "release a hold on logs")?;
    let request = &request;
    session
        .each(|client| async move {
            let response = client
                .call(request.clone(), |c, r| async move { c.logs().release_logs(r).await })
                .await?;
            let json = session.json("ReleaseLogsResponse", &response)?;
            let hold = response.hold.ok_or_else(|| incomplete_answer("the hold"))?;
            Ok(Answer::new(json, View::line(format!("hold {} is over: {}", hold.id, kept(&hold)))))
        })
        .await
}

pub(super) async fn list(session: &Session<'_>) -> Result<Exit, Halt> {
    session
        .each_in(COLUMNS, |client| async move {
            let list = client
                .call(ListHoldsRequest {}, |c, r| async move { c.logs().list_holds(r).await })
                .await?;
            let json = session.json("ListHoldsResponse", &list)?;
            let view = View {
                columns: COLUMNS,
                rows: list.holds.iter().map(row).collect(),
                empty: "nothing is held",
                ..View::default()
            };
            Ok(Answer::new(json, view))
        })
        .await
}

fn type_of(hold: &Hold) -> &str {
    if hold.log_type.is_empty() { "all types" } else { &hold.log_type }
}

fn kept(hold: &Hold) -> String {
    let segments = format::plural(hold.segments, "archived segment");
    let bytes = format::bytes(hold.compressed_bytes);
    let times = match (&hold.from, &hold.until) {
        (None, None) => "all times".to_owned(),
        (from, until) => {
            format!("{}..{}", format::time(from.as_ref()), format::time(until.as_ref()))
        }
    };
    format!("{}, {times}: {segments}, {bytes}", type_of(hold))
}

fn row(hold: &Hold) -> Vec<Cell> {
    vec![
        Cell::from(hold.id.as_str()),
        Cell::from(type_of(hold)),
        Cell::from(format::time(hold.from.as_ref())),
        Cell::from(format::time(hold.until.as_ref())),
        Cell::number(format::count(hold.segments)),
        Cell::number(format::bytes(hold.compressed_bytes)),
        Cell::from(format::time(hold.at.as_ref())),
        Cell::from(hold.by.as_str()),
        Cell::from(hold.reason.as_str()),
    ]
}
