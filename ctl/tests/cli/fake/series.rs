//! What the fake agent knows of series.

use std::collections::HashMap;
use std::sync::Mutex;

use genesis_client::v1::series_service_server::SeriesService;
use genesis_client::v1::*;
use tokio_stream::StreamExt;
use tonic::{Request, Response, Status, Streaming};

use super::{Answer, Fake, Inner, Stream, refusal, streamed};

/// What it answers about series.
#[derive(Default)]
pub(crate) struct KnownSeries {
    pub(crate) listed: ListSeriesResponse,
    /// By series.
    pub(crate) gaps: HashMap<String, ListSeriesGapsResponse>,
    /// What is left out of each batch.
    pub(crate) left_out: PushSeriesResponse,
    /// The first stream breaks after so many answers, once one more batch is durable.
    pub(crate) breaks_after: Option<usize>,
    pub(crate) pushed: Mutex<Pushed>,
}

/// What was pushed.
#[derive(Default)]
pub(crate) struct Pushed {
    streams: usize,
    /// The greatest sequence of each producer.
    durable: HashMap<String, u64>,
    /// All batches that came.
    pub(crate) batches: Vec<PushSeriesRequest>,
    /// What counts: series, nanoseconds, value.
    pub(crate) counted: Vec<(String, i64, f64)>,
}

impl Fake {
    /// The batches since the last time.
    pub(crate) fn series_batches(&self) -> Vec<PushSeriesRequest> {
        std::mem::take(&mut self.inner.script.series.pushed.lock().unwrap().batches)
    }

    pub(crate) fn values(&self) -> Vec<(String, i64, f64)> {
        self.inner.script.series.pushed.lock().unwrap().counted.clone()
    }
}

impl KnownSeries {
    fn keep(&self, batch: PushSeriesRequest) -> Result<PushSeriesResponse, Status> {
        let mut pushed = self.pushed.lock().unwrap();
        let sequence = batch.sequence;
        pushed.batches.push(batch.clone());
        let values: usize = batch.columns.iter().map(|column| column.value.len()).sum();
        if !(1..=100_000).contains(&values) {
            let why = format!("{values} values are none or too many");
            return Err(refusal(tonic::Code::InvalidArgument, "BATCH_INVALID", &why));
        }
        let last = pushed.durable.entry(batch.producer.clone()).or_default();
        if sequence <= *last {
            let repeated_batch = true;
            return Ok(PushSeriesResponse { sequence, repeated_batch, ..Default::default() });
        }
        *last = sequence;
        let mut counted = 0;
        for column in batch.columns {
            assert_eq!(column.unix_nanos.len(), column.value.len());
            for (nanos, value) in column.unix_nanos.iter().zip(&column.value) {
                pushed.counted.push((column.series.clone(), *nanos, *value));
                counted += 1;
            }
        }
        Ok(PushSeriesResponse { sequence, counted, ..self.left_out })
    }
}

#[tonic::async_trait]
impl SeriesService for Inner {
    type PushSeriesStream = Stream<PushSeriesResponse>;
    type ListSeriesBlocksStream = Stream<ListSeriesBlocksResponse>;

    async fn push_series(
        &self,
        request: Request<Streaming<PushSeriesRequest>>,
    ) -> Answer<Self::PushSeriesStream> {
        self.called("PushSeries", "", &request).await?;
        let inner = self.share();
        let first = {
            let mut pushed = inner.script.series.pushed.lock().unwrap();
            pushed.streams += 1;
            pushed.streams == 1
        };
        let mut left = inner.script.series.breaks_after.filter(|_| first);
        let (answers, received) = tokio::sync::mpsc::unbounded_channel();
        let mut batches = request.into_inner();
        tokio::spawn(async move {
            while let Some(Ok(batch)) = batches.next().await {
                let answer = inner.script.series.keep(batch);
                if left == Some(0) {
                    let _ = answers.send(Err(Status::unavailable("draining")));
                    return;
                }
                left = left.map(|left| left - 1);
                let failed = answer.is_err();
                if answers.send(answer).is_err() || failed {
                    return;
                }
            }
        });
        let answers = tokio_stream::wrappers::UnboundedReceiverStream::new(received);
        Ok(Response::new(Box::pin(answers)))
    }

    async fn list_series(&self, request: Request<ListSeriesRequest>) -> Answer<ListSeriesResponse> {
        let ListSeriesRequest { pattern, limit } = request.get_ref();
        let noted = format!("{pattern} {limit}");
        self.called("ListSeries", noted.trim(), &request).await?;
        let mut listed = self.script.series.listed.clone();
        let beginning = pattern.trim_end_matches('*');
        listed.series.retain(|one| one.name.starts_with(beginning));
        if *limit > 0 {
            listed.series.truncate(*limit as usize);
        }
        Ok(Response::new(listed))
    }

    async fn list_series_gaps(
        &self,
        request: Request<ListSeriesGapsRequest>,
    ) -> Answer<ListSeriesGapsResponse> {
        let ListSeriesGapsRequest { series, limit } = request.get_ref();
        self.called("ListSeriesGaps", &format!("{series} {limit}"), &request).await?;
        let absent = || refusal(tonic::Code::NotFound, "SERIES_NOT_FOUND", "no such series");
        let mut found = self.script.series.gaps.get(series).cloned().ok_or_else(absent)?;
        found.gaps.truncate(*limit as usize);
        Ok(Response::new(found))
    }

    async fn list_series_blocks(
        &self,
        request: Request<ListSeriesBlocksRequest>,
    ) -> Answer<Self::ListSeriesBlocksStream> {
        self.called("ListSeriesBlocks", "", &request).await?;
        streamed(self.script.matrices.blocks.iter().cloned().map(Ok).collect())
    }
}
