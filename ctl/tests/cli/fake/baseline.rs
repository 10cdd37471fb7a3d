//! What the fake agent knows of baselines.

use std::collections::HashMap;
use std::sync::Mutex;

use genesis_client::v1::baseline_service_server::BaselineService;
use genesis_client::v1::*;
use tokio_stream::StreamExt;
use tonic::{Request, Response, Status, Streaming};

use super::{Answer, Fake, Inner, Stream, refusal, started};

/// What it answers about baselines.
#[derive(Default)]
pub(crate) struct Baselines {
    pub(crate) listed: ListBaselinesResponse,
    /// By operation.
    pub(crate) known: HashMap<String, GetBaselineResponse>,
    pub(crate) history: Vec<Baseline>,
    pub(crate) anomalies: ListAnomaliesResponse,
    pub(crate) found: ListCallsResponse,
    pub(crate) text: String,
    /// What is left out of each batch.
    pub(crate) left_out: ObserveResponse,
    /// The first stream breaks after so many answers, once one more batch is durable.
    pub(crate) breaks_after: Option<usize>,
    pub(crate) observed: Mutex<Observed>,
}

/// What was observed.
#[derive(Default)]
pub(crate) struct Observed {
    streams: usize,
    /// The greatest sequence of each producer.
    durable: HashMap<String, u64>,
    /// All batches that came.
    pub(crate) batches: Vec<ObserveRequest>,
    /// What counts: operation, nanoseconds, seconds.
    pub(crate) counted: Vec<(String, i64, f64)>,
}

impl Fake {
    /// What was observed, since the last time.
    pub(crate) fn batches(&self) -> Vec<ObserveRequest> {
        std::mem::take(&mut self.inner.script.baselines.observed.lock().unwrap().batches)
    }

    pub(crate) fn counted(&self) -> Vec<(String, i64, f64)> {
        self.inner.script.baselines.observed.lock().unwrap().counted.clone()
    }
}

impl Baselines {
    fn keep(&self, batch: ObserveRequest) -> ObserveResponse {
        let mut observed = self.observed.lock().unwrap();
        let sequence = batch.sequence;
        observed.batches.push(batch.clone());
        let last = observed.durable.entry(batch.producer.clone()).or_default();
        if sequence <= *last {
            return ObserveResponse { sequence, duplicate: true, ..Default::default() };
        }
        *last = sequence;
        let mut counted = 0;
        for column in batch.columns {
            for (nanos, seconds) in column.unix_nanos.iter().zip(&column.seconds) {
                observed.counted.push((column.operation.clone(), *nanos, *seconds));
                counted += 1;
            }
        }
        ObserveResponse { sequence, counted, ..self.left_out }
    }
}

#[tonic::async_trait]
impl BaselineService for Inner {
    type ObserveStream = Stream<ObserveResponse>;

    async fn observe(
        &self,
        request: Request<Streaming<ObserveRequest>>,
    ) -> Answer<Self::ObserveStream> {
        self.called("Observe", "", &request).await?;
        let inner = self.share();
        let first = {
            let mut observed = inner.script.baselines.observed.lock().unwrap();
            observed.streams += 1;
            observed.streams == 1
        };
        let mut left = inner.script.baselines.breaks_after.filter(|_| first);
        let (answers, received) = tokio::sync::mpsc::unbounded_channel();
        let mut batches = request.into_inner();
        tokio::spawn(async move {
            while let Some(Ok(batch)) = batches.next().await {
                let answer = inner.script.baselines.keep(batch);
                if left == Some(0) {
                    let _ = answers.send(Err(Status::unavailable("draining")));
                    return;
                }
                left = left.map(|left| left - 1);
                let _ = answers.send(Ok(answer));
            }
        });
        let answers = tokio_stream::wrappers::UnboundedReceiverStream::new(received);
        Ok(Response::new(Box::pin(answers)))
    }

    async fn list_baselines(
        &self,
        request: Request<ListBaselinesRequest>,
    ) -> Answer<ListBaselinesResponse> {
        let degraded_only = request.get_ref().degraded_only;
        self.called("ListBaselines", &degraded_only.to_string(), &request).await?;
        let mut listed = self.script.baselines.listed.clone();
        listed.operations.retain(|one| !degraded_only || one.episode.is_some());
        Ok(Response::new(listed))
    }

    async fn get_baseline(
        &self,
        request: Request<GetBaselineRequest>,
    ) -> Answer<GetBaselineResponse> {
        let GetBaselineRequest { operation, generation } = request.get_ref();
        self.called("GetBaseline", &format!("{operation} {generation}"), &request).await?;
        let absent = || refusal(tonic::Code::NotFound, "OPERATION_NOT_FOUND", "no such operation");
        let known = self.script.baselines.known.get(operation).cloned();
        known.map(Response::new).ok_or_else(absent)
    }

    async fn recalculate_baselines(
        &self,
        request: Request<RecalculateBaselinesRequest>,
    ) -> Answer<RecalculateBaselinesResponse> {
        let RecalculateBaselinesRequest { operation, plan_hash } = request.get_ref();
        self.change("RecalculateBaselines", &[operation, plan_hash], &request).await?;
        let run_id = started().map(|run| run.run_id).unwrap_or_default();
        Ok(Response::new(RecalculateBaselinesResponse { run_id, attached: false }))
    }

    async fn plan_recalculate_baselines(
        &self,
        request: Request<RecalculateBaselinesRequest>,
    ) -> Answer<PlanResponse> {
        self.planned("PlanRecalculateBaselines", &request).await
    }

    async fn accept_baseline(
        &self,
        request: Request<AcceptBaselineRequest>,
    ) -> Answer<AcceptBaselineResponse> {
        let AcceptBaselineRequest { operation, since, plan_hash } = request.get_ref();
        let since = since.map(|at| format!("{}.{:09}", at.seconds, at.nanos)).unwrap_or_default();
        self.change("AcceptBaseline", &[operation, &since, plan_hash], &request).await?;
        let quantile = BaselineQuantile { quantile: 0.99, seconds: 0.0125, ..Default::default() };
        let baseline = Baseline {
            operation: operation.clone(),
            generation: 4,
            count: 12_000,
            from: Some(prost_types::Timestamp { seconds: 60, nanos: 0 }),
            quantiles: vec![quantile],
            ..Default::default()
        };
        Ok(Response::new(AcceptBaselineResponse { baseline: Some(baseline) }))
    }

    async fn plan_accept_baseline(
        &self,
        request: Request<AcceptBaselineRequest>,
    ) -> Answer<PlanResponse> {
        self.planned("PlanAcceptBaseline", &request).await
    }

    async fn list_baseline_history(
        &self,
        request: Request<ListBaselineHistoryRequest>,
    ) -> Answer<ListBaselineHistoryResponse> {
        let ListBaselineHistoryRequest { operation, limit } = request.get_ref();
        let noted = format!("{operation} {limit}");
        self.called("ListBaselineHistory", noted.trim(), &request).await?;
        let baselines = self.script.baselines.history.clone();
        Ok(Response::new(ListBaselineHistoryResponse { baselines }))
    }

    async fn list_anomalies(
        &self,
        request: Request<ListAnomaliesRequest>,
    ) -> Answer<ListAnomaliesResponse> {
        let ListAnomaliesRequest { operation, limit, candidates } = request.get_ref();
        let noted = format!("{operation} {limit} {candidates}");
        self.called("ListAnomalies", noted.trim(), &request).await?;
        let mut anomalies = self.script.baselines.anomalies.clone();
        if !candidates {
            anomalies.candidates.clear();
        }
        Ok(Response::new(anomalies))
    }

    async fn list_calls(&self, request: Request<ListCallsRequest>) -> Answer<ListCallsResponse> {
        let asked = request.get_ref();
        let second = |at: Option<&prost_types::Timestamp>| at.map_or(-1, |at| at.seconds);
        let noted = format!(
            "{} {}..{} last {:?} above {} newest {} limit {}",
            asked.operation,
            second(asked.from.as_ref()),
            second(asked.until.as_ref()),
            asked.last.as_ref().map(|last| last.seconds),
            asked.above_seconds,
            asked.newest_first,
            asked.limit
        );
        self.called("ListCalls", &noted, &request).await?;
        Ok(Response::new(self.script.baselines.found.clone()))
    }

    type ExportBaselinesStream =
        tokio_stream::Iter<std::vec::IntoIter<Result<ExportBaselinesResponse, Status>>>;

    async fn export_baselines(
        &self,
        request: Request<ExportBaselinesRequest>,
    ) -> Answer<Self::ExportBaselinesStream> {
        self.called("ExportBaselines", &request.get_ref().operation, &request).await?;
        // In pieces, as an agent does.
        let text = &self.script.baselines.text;
        let pieces = text
            .split_inclusive('\n')
            .map(|text| Ok(ExportBaselinesResponse { text: text.to_owned() }));
        Ok(Response::new(tokio_stream::iter(pieces.collect::<Vec<_>>())))
    }
}
