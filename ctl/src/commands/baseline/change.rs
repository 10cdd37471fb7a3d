//! `baseline recalculate`, `baseline accept`.

use genesis_client::v1::{AcceptBaselineRequest, RecalculateBaselinesRequest, StartedRun};
use jiff::Timestamp;

use super::super::{incomplete_answer, run};
use super::SERVICE;
use crate::confirm::{consent, reason};
use crate::connect::Session;
use crate::exit::{Exit, Halt};
use crate::format::{self, count};
use crate::plan;
use crate::render::{Answer, View};

pub(super) async fn recalculate(
    session: &Session<'_>,
    operation: &str,
    detach: bool,
) -> Result<Exit, Halt> {
    let request = RecalculateBaselinesRequest {
        operation: operation.to_owned(),
        plan_hash: session.plan_hash(),
    };
    if session.global.plan {
        return plan::ask!(session, request, baselines, plan_recalculate_baselines);
    }
    let what = match operation {
        "" => "calculate all baselines anew".to_owned(),
        one => format!("calculate the baseline of {one} anew"),
    };
    consent(session, SERVICE, "RecalculateBaselines", &what)?;
    let request = &request;
    session
        .each(|client| async move {
            let response = client
                .call(request.clone(), |c, r| async move {
                    c.baselines().recalculate_baselines(r).await
                })
                .await?;
            let json = session.json("RecalculateBaselinesResponse", &response)?;
            let run = StartedRun { run_id: response.run_id, attached: response.attached };
            run::started(session, &client, Some(&run), json, detach).await
        })
        .await
}

pub(super) async fn accept(
    session: &Session<'_>,
    operation: &str,
    since: Option<Timestamp>,
) -> Result<Exit, Halt> {
    let since = since.map(|at| prost_types::Timestamp {
        seconds: at.as_second() - i64::from(at.subsec_nanosecond() < 0),
        nanos: at.subsec_nanosecond().rem_euclid(1_000_000_000),
    });
    let request = AcceptBaselineRequest {
        operation: operation.to_owned(),
        since,
        plan_hash: session.plan_hash(),
    };
    if session.global.plan {
        return plan::ask!(session, request, baselines, plan_accept_baseline);
    }
    reason(session, "baseline accept", "why is that usual from now on?")?;
    let what = format!("take what is now for what is usual of {operation}");
    consent(session, SERVICE, "AcceptBaseline", &what)?;
    let request = &request;
    session
        .each(|client| async move {
            let response = client
                .call(request.clone(), |c, r| async move { c.baselines().accept_baseline(r).await })
                .await?;
            let json = session.json("AcceptBaselineResponse", &response)?;
            let baseline = response.baseline.ok_or_else(|| incomplete_answer("the baseline"))?;
            let quantile = |one: &genesis_client::v1::BaselineQuantile| {
                format!("{} {}", format::quantile(one.quantile), format::seconds(one.seconds))
            };
            let quantiles: Vec<_> = baseline.quantiles.iter().map(quantile).collect();
            let line = format!(
                "{} has generation {} of its baseline, of {} calls since {}: {}",
                baseline.operation,
                baseline.generation,
                count(baseline.count),
                format::time(baseline.from.as_ref()),
                format::or_none(&quantiles.join(", "))
            );
            Ok(Answer::new(json, View::line(line)))
        })
        .await
}
