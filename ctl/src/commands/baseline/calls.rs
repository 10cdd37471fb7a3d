//! `baseline calls`.

use genesis_client::v1::{ListCallsRequest, ObservedCall};

use super::Calls;
use crate::connect::Session;
use crate::exit::{Exit, Halt};
use crate::format::{self, count, seconds};
use crate::render::{Answer, Cell, View};

const COLUMNS: &[&str] = &["ENDED", "LATENCY"];

pub(super) async fn calls(session: &Session<'_>, arguments: &Calls) -> Result<Exit, Halt> {
    let at = |at: jiff::Timestamp| prost_types::Timestamp {
        seconds: at.as_second(),
        nanos: at.subsec_nanosecond(),
    };
    let request = &ListCallsRequest {
        operation: arguments.operation.clone(),
        from: arguments.from.map(at),
        until: arguments.until.map(at),
        above_seconds: arguments.above.map_or(0.0, |above| above.as_secs_f64()),
        newest_first: arguments.newest,
        limit: arguments.limit.limit,
        last: arguments.last.map(|last| prost_types::Duration {
            // At most a week.
            seconds: last.as_secs() as i64,
            nanos: last.subsec_nanos() as i32,
        }),
    };
    session
        .each_in(COLUMNS, |client| async move {
            let found = client
                .call(request.clone(), |c, r| async move { c.baselines().list_calls(r).await })
                .await?;
            let json = session.json("ListCallsResponse", &found)?;
            let slower = match arguments.above {
                Some(above) => {
                    format!(", {} of them above {}", count(found.matched), format::duration(above))
                }
                None => String::new(),
            };
            let kept = match &found.kept_since {
                Some(since) => format!("; kept since {}", format::time(Some(since))),
                None => "; no single call of it is kept".to_owned(),
            };
            let view = View {
                columns: COLUMNS,
                rows: found.calls.iter().map(row).collect(),
                empty: "no such call",
                tail: vec![format!("{} calls{slower}{kept}", count(found.in_range))],
                ..View::default()
            };
            Ok(Answer::new(json, view))
        })
        .await
}

fn row(call: &ObservedCall) -> Vec<Cell> {
    vec![Cell::from(exact(call.at.as_ref())), Cell::number(seconds(call.seconds))]
}

/// To the microsecond, for the lines of a log are to be found by it.
fn exact(at: Option<&prost_types::Timestamp>) -> String {
    let at = at.and_then(|at| jiff::Timestamp::new(at.seconds, at.nanos).ok());
    at.map_or_else(|| format::or_none(""), |at| format!("{at:.6}"))
}
