//! Parse, call, convert: baselines over gRPC.

mod convert;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use genesis_proto::v1;
use genesis_proto::v1::baseline_service_server::BaselineService;
use genesis_stats::column::nanos_of;
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::calls::{Asked, nanos_at};
use super::episodes::seconds;
use super::plan::{NANOS, QUANTILES};
use super::prepare::{Batch, Column};
use super::standing::Current;
use super::verbs::{Candidate, State, limited};
use super::{Answer, Baselines, export};
use crate::batches::Stream as OfStream;
use crate::error::{Error, Result};
use crate::server::batches::{self, Taker};
use crate::server::caller::caller;
use crate::server::convert::{maybe, planned, time};
use crate::server::status::to_status;
use convert::{baseline, episode, sketch, summary, window};

/// An export is sent in pieces of so many bytes.
const PIECE: usize = 1 << 20;
/// Who does not read for so long is cut off.
const PATIENCE: Duration = Duration::from_secs(30);

/// The service over the baselines.
pub struct Service(pub Arc<Baselines>);

impl Service {
    /// Between which times calls are asked for, in nanoseconds since 1970.
    fn range(&self, request: &v1::ListCallsRequest) -> Result<(i64, i64), Status> {
        let v1::ListCallsRequest { from, until, last, .. } = request;
        match last {
            Some(_) if from.is_some() || until.is_some() => {
                let message = "last goes together with neither from nor until";
                Err(to_status(Error::invalid("TIME_INVALID", message)))
            }
            Some(last) => {
                let nanos = last.seconds.saturating_mul(NANOS).saturating_add(last.nanos.into());
                Ok((nanos_at(self.0.now()).saturating_sub(nanos), i64::MAX))
            }
            None => {
                let from = instant(*from)?.map_or(i64::MIN, nanos_at);
                Ok((from, instant(*until)?.map_or(i64::MAX, nanos_at)))
            }
        }
    }
}

/// The answer of ListBaselines, also for HTTP.
///
/// # Errors
/// `OBSERVATIONS_UNAVAILABLE`, `STORAGE_FAILED`.
pub fn list_response(
    baselines: &Baselines,
    degraded_only: bool,
) -> Result<v1::ListBaselinesResponse> {
    let store = baselines.store()?;
    let views = baselines.list().into_iter();
    let views = views.filter(|view| !degraded_only || view.state == State::Degraded);
    let raw_bytes = store.read(|it| Ok::<_, Error>(it.raw_bytes()?))?;
    Ok(v1::ListBaselinesResponse {
        operations: views.map(|view| summary(&view)).collect(),
        next_recalculation_at: maybe(baselines.next_recalculation()),
        raw_bytes,
        file_bytes: store.file_bytes(),
        raw_quota_bytes: baselines.raw_quota(),
    })
}

/// The baselines in a line, for the agent's page; `None` where nobody observes any.
pub fn domain_status(baselines: &Baselines) -> Option<v1::DomainStatus> {
    let views = baselines.list();
    let unavailable = baselines.store().err();
    let trouble = baselines.trouble();
    if views.is_empty() && unavailable.is_none() && trouble.is_empty() {
        return None;
    }
    let degraded = views.iter().filter_map(|view| view.episode.as_ref());
    let mut findings: Vec<v1::Finding> = degraded
        .map(|it| v1::Finding {
            code: "LATENCY_DEGRADED".to_owned(),
            subject: it.operation.clone(),
            message: format!(
                "{} since {}; `genesisctl baseline show {}` has the details",
                super::episodes::left(it),
                it.since,
                it.operation
            ),
        })
        .collect();
    let mut condition = match findings.is_empty() {
        true => v1::Condition::Ok,
        false => v1::Condition::Warn,
    };
    if let Some(error) = unavailable {
        condition = v1::Condition::Critical;
        findings.push(v1::Finding {
            code: error.code.to_owned(),
            subject: "observations".to_owned(),
            message: error.message,
        });
    }
    for (_, message) in trouble {
        condition = v1::Condition::Critical;
        findings.push(v1::Finding {
            code: "OBSERVATIONS_FAILING".to_owned(),
            subject: "observations".to_owned(),
            message,
        });
    }
    let learning = views.iter().filter(|view| view.state == State::Learning).count();
    Some(v1::DomainStatus {
        domain: "baselines".into(),
        condition: condition.into(),
        summary: format!(
            "{} operation(s), {learning} without a baseline, {} degraded",
            views.len(),
            views.iter().filter(|view| view.state == State::Degraded).count()
        ),
        findings,
    })
}

#[allow(clippy::result_large_err)] // Status is what every rpc returns.
fn instant(given: Option<prost_types::Timestamp>) -> Result<Option<Timestamp>, Status> {
    let read = |given: prost_types::Timestamp| {
        Timestamp::new(given.seconds, given.nanos).map_err(|error| {
            to_status(Error::invalid("TIME_INVALID", format!("it is no time: {error}")))
        })
    };
    given.map(read).transpose()
}

#[async_trait]
impl Taker for Baselines {
    type Request = v1::ObserveRequest;
    type Response = v1::ObserveResponse;
    type Batch = Batch;
    type Answer = Answer;

    fn batch(request: v1::ObserveRequest) -> Batch {
        let column = |it: v1::ObservationColumn| Column {
            operation: it.operation,
            times: it.unix_nanos,
            seconds: it.seconds,
        };
        Batch {
            producer: request.producer,
            sequence: request.sequence,
            columns: request.columns.into_iter().map(column).collect(),
        }
    }

    fn sender(batch: &Batch) -> (&str, u64) {
        (&batch.producer, batch.sequence)
    }

    fn wrong(batch: &Batch) -> Option<String> {
        super::prepare::wrong(batch)
    }

    async fn begin(&self, producer: &str, who: (&str, &str)) -> Result<()> {
        Baselines::begin(self, producer, who).await
    }

    async fn take(
        &self,
        batch: Batch,
        stream: &OfStream,
    ) -> Result<oneshot::Receiver<Result<Answer>>> {
        Baselines::take(self, batch, stream).await
    }

    fn response(answer: Answer) -> v1::ObserveResponse {
        let Answer { sequence, duplicate, counted, rejected, late, ahead, crowded_out } = answer;
        v1::ObserveResponse { sequence, duplicate, counted, rejected, late, ahead, crowded_out }
    }
}

type Stream<T> = Pin<Box<ReceiverStream<Result<T, Status>>>>;

#[tonic::async_trait]
impl BaselineService for Service {
    type ObserveStream = Stream<v1::ObserveResponse>;

    async fn observe(
        &self,
        request: Request<Streaming<v1::ObserveRequest>>,
    ) -> Result<Response<Self::ObserveStream>, Status> {
        let caller = caller(&request)?;
        self.0.store().map_err(to_status)?;
        Ok(Response::new(batches::serve(Arc::clone(&self.0), request.into_inner(), caller)))
    }

    async fn list_baselines(
        &self,
        request: Request<v1::ListBaselinesRequest>,
    ) -> Result<Response<v1::ListBaselinesResponse>, Status> {
        let listed = list_response(&self.0, request.get_ref().degraded_only);
        listed.map(Response::new).map_err(to_status)
    }

    async fn get_baseline(
        &self,
        request: Request<v1::GetBaselineRequest>,
    ) -> Result<Response<v1::GetBaselineResponse>, Status> {
        let v1::GetBaselineRequest { operation, generation } = request.get_ref();
        self.0.store().map_err(to_status)?;
        let mut view = self.0.get(operation).map_err(to_status)?;
        if *generation > 0 {
            view.current = Some(self.0.generation(operation, *generation).map_err(to_status)?);
        }
        Ok(Response::new(v1::GetBaselineResponse {
            sketch: view.current.as_ref().map(|it| sketch(&it.sketch)),
            windows: view.windows.iter().map(window).collect(),
            operation: Some(summary(&view)),
        }))
    }

    async fn recalculate_baselines(
        &self,
        request: Request<v1::RecalculateBaselinesRequest>,
    ) -> Result<Response<v1::RecalculateBaselinesResponse>, Status> {
        let who = caller(&request)?;
        let who = (who.identity.clone(), who.reason.clone());
        let v1::RecalculateBaselinesRequest { operation, plan_hash } = request.get_ref();
        let started = self.0.recalculate(operation, plan_hash, who).await.map_err(to_status)?;
        let (run_id, attached) = (started.id, started.attached);
        Ok(Response::new(v1::RecalculateBaselinesResponse { run_id, attached }))
    }

    async fn plan_recalculate_baselines(
        &self,
        request: Request<v1::RecalculateBaselinesRequest>,
    ) -> Result<Response<v1::PlanResponse>, Status> {
        planned(self.0.plan_recalculate(&request.get_ref().operation))
    }

    async fn accept_baseline(
        &self,
        request: Request<v1::AcceptBaselineRequest>,
    ) -> Result<Response<v1::AcceptBaselineResponse>, Status> {
        let who = caller(&request)?;
        let v1::AcceptBaselineRequest { operation, since, plan_hash } = request.get_ref();
        let (since, by) = (instant(*since)?, (who.identity.as_str(), who.reason.as_str()));
        let accepted = self.0.accept(operation, since, plan_hash, by).await.map_err(to_status)?;
        let baseline = Some(baseline(&accepted));
        Ok(Response::new(v1::AcceptBaselineResponse { baseline }))
    }

    async fn plan_accept_baseline(
        &self,
        request: Request<v1::AcceptBaselineRequest>,
    ) -> Result<Response<v1::PlanResponse>, Status> {
        let v1::AcceptBaselineRequest { operation, since, .. } = request.get_ref();
        planned(self.0.plan_accept(operation, instant(*since)?))
    }

    async fn list_baseline_history(
        &self,
        request: Request<v1::ListBaselineHistoryRequest>,
    ) -> Result<Response<v1::ListBaselineHistoryResponse>, Status> {
        let v1::ListBaselineHistoryRequest { operation, limit } = request.get_ref();
        let (own, operation, limit) = (Arc::clone(&self.0), operation.clone(), *limit);
        let read = tokio::task::spawn_blocking(move || own.history(&operation, limit)).await;
        let read = read.map_err(|error| Status::internal(error.to_string()))?;
        let records = read.map_err(to_status)?.into_iter();
        let baselines = records.filter_map(super::current).map(|it| baseline(&it)).collect();
        Ok(Response::new(v1::ListBaselineHistoryResponse { baselines }))
    }

    async fn list_anomalies(
        &self,
        request: Request<v1::ListAnomaliesRequest>,
    ) -> Result<Response<v1::ListAnomaliesResponse>, Status> {
        let v1::ListAnomaliesRequest { operation, limit, candidates } = request.get_ref();
        let episodes = self.0.episodes(operation, *limit).map_err(to_status)?;
        let candidates = match candidates {
            true => self.0.candidates(operation, *limit).map_err(to_status)?,
            false => Vec::new(),
        };
        let candidate = |it: Candidate| v1::Candidate {
            operation: it.operation,
            start: Some(time(seconds(it.at))),
            quantile: QUANTILES[usize::from(it.quantile).min(2)],
            seconds: it.value,
            usual_seconds: it.usual,
            p: it.p,
        };
        Ok(Response::new(v1::ListAnomaliesResponse {
            episodes: episodes.into_iter().map(episode).collect(),
            candidates: candidates.into_iter().map(candidate).collect(),
        }))
    }

    async fn list_calls(
        &self,
        request: Request<v1::ListCallsRequest>,
    ) -> Result<Response<v1::ListCallsResponse>, Status> {
        let v1::ListCallsRequest { operation, above_seconds, newest_first, limit, .. } =
            request.get_ref();
        let (from, until) = self.range(request.get_ref())?;
        let asked = Asked {
            from,
            until,
            above: (*above_seconds > 0.0).then(|| nanos_of(*above_seconds)),
            newest_first: *newest_first,
            limit: limited(*limit).map_err(to_status)?,
        };
        let found = self.0.calls(operation, asked).await.map_err(to_status)?;
        Ok(Response::new(convert::found(found)))
    }

    type ExportBaselinesStream = Stream<v1::ExportBaselinesResponse>;

    async fn export_baselines(
        &self,
        request: Request<v1::ExportBaselinesRequest>,
    ) -> Result<Response<Self::ExportBaselinesStream>, Status> {
        let operation = &request.get_ref().operation;
        self.0.store().map_err(to_status)?;
        let views = match operation.as_str() {
            "" => self.0.list(),
            name => vec![self.0.get(name).map_err(to_status)?],
        };
        let current: Vec<Arc<Current>> =
            views.into_iter().filter_map(|view| view.current).collect();
        let text = tokio::task::spawn_blocking(move || export::text(&current)).await;
        let text = text.map_err(|error| Status::internal(error.to_string()))?;
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            let mut rest = text.as_str();
            while !rest.is_empty() {
                // At a line's end, and ASCII throughout.
                let most = rest.len().min(PIECE);
                let cut = rest[..most].rfind('\n').map_or(most, |at| at + 1);
                let piece = v1::ExportBaselinesResponse { text: rest[..cut].to_owned() };
                rest = &rest[cut..];
                let sent = tokio::time::timeout(PATIENCE, sender.send(Ok(piece))).await;
                if !matches!(sent, Ok(Ok(()))) {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}
