//! Parse, call, convert: breakers over gRPC.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use genesis_proto::v1;
use genesis_proto::v1::breaker_service_server::BreakerService;
use genesis_storage::BreakerState;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::judge::{Report, SignalView};
use super::life::Ended;
use super::report::Outcome;
use super::{Breakers, LIMIT, View};
use crate::error::{Error, Result};
use crate::server::caller::caller;
use crate::server::convert::{duration, maybe, planned, time};
use crate::server::status::to_status;

/// So often a stream says that the agent lives.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Who does not read for so long is cut off.
const PATIENCE: Duration = Duration::from_secs(30);

/// The service over the breakers.
pub struct Service(pub Arc<Breakers>);

fn signal(signal: SignalView, needed: usize) -> v1::BreakerSignal {
    v1::BreakerSignal {
        known: signal.usual.is_some(),
        usual_share: signal.usual.map_or(0.0, |usual| usual.share),
        phi: signal.usual.map_or(0.0, |usual| usual.phi),
        sum: signal.sum,
        limit: signal.limit,
        learned: u32::try_from(signal.learned).unwrap_or(u32::MAX),
        needed: u32::try_from(needed).unwrap_or(u32::MAX),
    }
}

fn breaker(view: View) -> v1::Breaker {
    let (state, record) = (view.record.state, view.record);
    let until = record.lasts.filter(|_| state == BreakerState::Open).and_then(|lasts| {
        record.since.wall.checked_add(SignedDuration::try_from(lasts).ok()?).ok()
    });
    v1::Breaker {
        state: match state {
            BreakerState::Closed => v1::BreakerState::Closed,
            BreakerState::Open => v1::BreakerState::Open,
            BreakerState::HalfOpen => v1::BreakerState::HalfOpen,
        }
        .into(),
        since: Some(time(record.since.wall)),
        until: maybe(until),
        remaining: view.remaining.map(duration),
        name: record.name,
        by: record.by,
        reason: record.reason,
        opening: record.opening,
        failures: record.failures,
        round_size: view.round.0,
        round_passed: view.round.1,
        round_under_way: view.round.2,
        slow_after: view.slow_after.map(duration),
        latency: Some(signal(view.slow, view.needed)),
        errors: Some(signal(view.failed, view.needed)),
        reported_at: maybe(view.reported_at),
        calls: view.latest.calls,
        failed_calls: view.latest.failed,
        slow_calls: view.latest.slow,
    }
}

/// The answer of ListBreakers, also for HTTP.
pub fn list_response(breakers: &Breakers, open_only: bool) -> v1::ListBreakersResponse {
    let views = breakers.list().into_iter();
    let views = views.filter(|view| !open_only || view.record.state != BreakerState::Closed);
    v1::ListBreakersResponse { breakers: views.map(breaker).collect() }
}

/// The breakers in a line, for the agent's page; `None` where nobody uses any.
pub fn domain_status(breakers: &Breakers) -> Option<v1::DomainStatus> {
    let views = breakers.list();
    if views.is_empty() {
        return None;
    }
    let open = views.iter().filter(|view| view.record.state != BreakerState::Closed);
    let findings: Vec<v1::Finding> = open
        .map(|view| v1::Finding {
            code: "BREAKER_OPEN".to_owned(),
            subject: view.record.name.clone(),
            message: format!(
                "{} since {}, by {}: {}; `genesisctl breaker show {}` has the details",
                super::word(view.record.state),
                view.record.since.wall,
                view.record.by,
                view.record.reason,
                view.record.name
            ),
        })
        .collect();
    let condition = if findings.is_empty() { v1::Condition::Ok } else { v1::Condition::Warn };
    Some(v1::DomainStatus {
        domain: "breaker".into(),
        condition: condition.into(),
        summary: format!("{} breaker(s), {} not closed", views.len(), findings.len()),
        findings,
    })
}

fn invalid(report: &v1::OutcomeReport, why: &str) -> Error {
    let shown: String = report.operation.chars().take(64).collect();
    Error::invalid("REPORT_INVALID", format!("the report of {shown:?}: {why}"))
}

/// Negative ones are none; the conversion itself has no room for the least of them.
fn span(given: &prost_types::Duration) -> Option<Duration> {
    if given.seconds < 0 { None } else { Duration::try_from(*given).ok() }
}

pub(crate) fn outcome(report: &v1::OutcomeReport) -> Result<Outcome<'_>> {
    let start = report.window_start.as_ref();
    let start = start.and_then(|start| Timestamp::new(start.seconds, start.nanos).ok());
    let start = start.ok_or_else(|| invalid(report, "window_start is missing, or no time"))?;
    let length = report.window_length.as_ref().and_then(span);
    let length = length.ok_or_else(|| invalid(report, "window_length is missing, or no time"))?;
    let slow_after = match &report.slow_after {
        None => None,
        Some(given) => {
            let given = span(given).filter(|given| !given.is_zero());
            Some(given.ok_or_else(|| invalid(report, "slow_after is no time over 0"))?)
        }
    };
    let ended = |probe: &v1::ProbeResult| {
        let ended = match probe.outcome() {
            v1::ProbeOutcome::Unspecified => Ended::Unknown,
            v1::ProbeOutcome::Passed => Ended::Passed,
            v1::ProbeOutcome::Failed => Ended::Failed,
        };
        (probe.probe, ended)
    };
    Ok(Outcome {
        operation: &report.operation,
        report: Report {
            reporter: &report.reporter,
            sequence: report.sequence,
            start,
            calls: report.calls,
            failed: report.errors,
            slow: report.slow,
            slow_after,
        },
        length,
        rejected: report.rejected,
        probes: report.probes.iter().map(ended).collect(),
    })
}

/// Sends the breakers as they are, then what has changed since. What changes while the client reads is sent as it is
/// by then, so that a slow one costs no memory.
async fn watch(
    breakers: Arc<Breakers>,
    names: BTreeSet<String>,
    sender: mpsc::Sender<Result<v1::WatchBreakersResponse, Status>>,
) {
    let _watching = breakers.metrics.watching();
    let mut changes = breakers.changes();
    let (mut version, mut first) = (0, true);
    loop {
        changes.borrow_and_update();
        let (latest, views) = breakers.since(version, &names);
        version = latest;
        if first || !views.is_empty() {
            let message = message(&breakers, views);
            if !sent(&sender, message).await {
                return;
            }
        }
        first = false;
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = sender.closed() => return,
            () = breakers.outside.clock.sleep(HEARTBEAT) => {
                if !sent(&sender, message(&breakers, Vec::new())).await {
                    return;
                }
            }
        }
    }
}

fn message(breakers: &Breakers, views: Vec<View>) -> v1::WatchBreakersResponse {
    v1::WatchBreakersResponse {
        breakers: views.into_iter().map(breaker).collect(),
        window: Some(duration(breakers.config.load().window())),
    }
}

async fn sent(
    sender: &mpsc::Sender<Result<v1::WatchBreakersResponse, Status>>,
    message: v1::WatchBreakersResponse,
) -> bool {
    matches!(tokio::time::timeout(PATIENCE, sender.send(Ok(message))).await, Ok(Ok(())))
}

type Stream<T> = Pin<Box<ReceiverStream<Result<T, Status>>>>;

#[tonic::async_trait]
impl BreakerService for Service {
    async fn report_outcomes(
        &self,
        request: Request<v1::ReportOutcomesRequest>,
    ) -> Result<Response<v1::ReportOutcomesResponse>, Status> {
        let reports = &request.get_ref().reports;
        let outcomes: Result<Vec<_>> = reports.iter().map(outcome).collect();
        let tally = self.0.report(&outcomes.map_err(to_status)?).await.map_err(to_status)?;
        let [counted, duplicate, late, ahead, dropped] = tally;
        let answer = v1::ReportOutcomesResponse { counted, duplicate, late, ahead, dropped };
        Ok(Response::new(answer))
    }

    async fn take_probes(
        &self,
        request: Request<v1::TakeProbesRequest>,
    ) -> Result<Response<v1::TakeProbesResponse>, Status> {
        let v1::TakeProbesRequest { operation, wanted } = request.get_ref();
        let (probes, valid_for) = self.0.take_probes(operation, *wanted).map_err(to_status)?;
        let valid_for = Some(duration(valid_for));
        Ok(Response::new(v1::TakeProbesResponse { probes, valid_for }))
    }

    async fn get_breaker(
        &self,
        request: Request<v1::GetBreakerRequest>,
    ) -> Result<Response<v1::GetBreakerResponse>, Status> {
        let view = self.0.get(&request.get_ref().name).map_err(to_status)?;
        Ok(Response::new(v1::GetBreakerResponse { breaker: Some(breaker(view)) }))
    }

    async fn list_breakers(
        &self,
        request: Request<v1::ListBreakersRequest>,
    ) -> Result<Response<v1::ListBreakersResponse>, Status> {
        Ok(Response::new(list_response(&self.0, request.get_ref().open_only)))
    }

    type WatchBreakersStream = Stream<v1::WatchBreakersResponse>;

    async fn watch_breakers(
        &self,
        request: Request<v1::WatchBreakersRequest>,
    ) -> Result<Response<Self::WatchBreakersStream>, Status> {
        let names = request.into_inner().names;
        if names.len() > LIMIT {
            let message = format!("{} names, {LIMIT} are allowed", names.len());
            return Err(to_status(Error::invalid("BREAKER_INVALID", message)));
        }
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(watch(Arc::clone(&self.0), names.into_iter().collect(), sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn trip_breaker(
        &self,
        request: Request<v1::TripBreakerRequest>,
    ) -> Result<Response<v1::TripBreakerResponse>, Status> {
        let who = caller(&request)?;
        let v1::TripBreakerRequest { name, lasts, plan_hash } = request.get_ref();
        let tripped = self.0.trip(name, lasts, plan_hash, (&who.identity, &who.reason)).await;
        let tripped = Some(breaker(tripped.map_err(to_status)?));
        Ok(Response::new(v1::TripBreakerResponse { breaker: tripped }))
    }

    async fn plan_trip_breaker(
        &self,
        request: Request<v1::TripBreakerRequest>,
    ) -> Result<Response<v1::PlanResponse>, Status> {
        let v1::TripBreakerRequest { name, lasts, .. } = request.get_ref();
        planned(self.0.plan_trip(name, lasts))
    }

    async fn reset_breaker(
        &self,
        request: Request<v1::ResetBreakerRequest>,
    ) -> Result<Response<v1::ResetBreakerResponse>, Status> {
        let who = caller(&request)?;
        let v1::ResetBreakerRequest { name, relearn, plan_hash } = request.get_ref();
        let reset = self.0.reset(name, *relearn, plan_hash, (&who.identity, &who.reason)).await;
        let (view, was_closed) = reset.map_err(to_status)?;
        let breaker = Some(breaker(view));
        Ok(Response::new(v1::ResetBreakerResponse { breaker, was_closed }))
    }

    async fn plan_reset_breaker(
        &self,
        request: Request<v1::ResetBreakerRequest>,
    ) -> Result<Response<v1::PlanResponse>, Status> {
        let v1::ResetBreakerRequest { name, relearn, .. } = request.get_ref();
        planned(self.0.plan_reset(name, *relearn))
    }
}
