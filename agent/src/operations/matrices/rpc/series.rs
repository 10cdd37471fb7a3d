//! Series over gRPC, and the streams of values and outcomes.

use std::sync::Arc;

use async_trait::async_trait;
use genesis_proto::v1;
use genesis_proto::v1::series_service_server::SeriesService;
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::super::prepare::{self, Batch, Column, Fared, Sent};
use super::super::verbs::SeriesView;
use super::super::{Answer, Matrices};
use crate::batches::Stream as OfStream;
use crate::error::{Error, Result};
use crate::server::batches::{self, Taker};
use crate::server::caller::caller;
use crate::server::convert::time;
use crate::server::status::to_status;
use crate::server::telling::{Telling, tell};

/// A block is sent in pieces of so many bytes.
const PIECE: usize = 1 << 20;

/// Takes values in.
pub(super) struct Values(pub(super) Arc<Matrices>);

/// Takes outcomes in.
pub(super) struct Outcomes(pub(super) Arc<Matrices>);

#[async_trait]
impl Taker for Values {
    type Request = v1::PushSeriesRequest;
    type Response = v1::PushSeriesResponse;
    type Batch = Batch;
    type Answer = Answer;

    fn batch(request: v1::PushSeriesRequest) -> Batch {
        let column = |it: v1::SeriesColumn| Column {
            series: it.series,
            times: it.unix_nanos,
            values: it.value,
        };
        Batch {
            producer: request.producer,
            sequence: request.sequence,
            sent: Sent::Values(request.columns.into_iter().map(column).collect()),
        }
    }

    fn sender(batch: &Batch) -> (&str, u64) {
        (&batch.producer, batch.sequence)
    }

    fn wrong(batch: &Batch) -> Option<String> {
        prepare::wrong(batch)
    }

    async fn begin(&self, producer: &str, who: (&str, &str)) -> Result<()> {
        self.0.begin("matrices.values", producer, who).await
    }

    async fn take(
        &self,
        batch: Batch,
        stream: &OfStream,
    ) -> Result<oneshot::Receiver<Result<Answer>>> {
        self.0.take(batch, stream).await
    }

    fn response(answer: Answer) -> v1::PushSeriesResponse {
        v1::PushSeriesResponse {
            sequence: answer.sequence,
            repeated_batch: answer.repeated,
            counted: answer.counted,
            superseded: answer.superseded,
            missing: answer.missing,
            late: answer.late,
            rejected: answer.rejected,
            unknown: answer.unknown,
        }
    }
}

#[async_trait]
impl Taker for Outcomes {
    type Request = v1::ReportMatrixOutcomesRequest;
    type Response = v1::ReportMatrixOutcomesResponse;
    type Batch = Batch;
    type Answer = Answer;

    fn batch(request: v1::ReportMatrixOutcomesRequest) -> Batch {
        let column = |it: v1::OutcomeColumn| Fared {
            version: it.version,
            times: it.unix_nanos,
            values: it.value,
        };
        Batch {
            producer: request.producer,
            sequence: request.sequence,
            sent: Sent::Outcomes(request.columns.into_iter().map(column).collect()),
        }
    }

    fn sender(batch: &Batch) -> (&str, u64) {
        (&batch.producer, batch.sequence)
    }

    fn wrong(batch: &Batch) -> Option<String> {
        prepare::wrong(batch)
    }

    async fn begin(&self, producer: &str, who: (&str, &str)) -> Result<()> {
        self.0.begin("matrices.outcomes", producer, who).await
    }

    async fn take(
        &self,
        batch: Batch,
        stream: &OfStream,
    ) -> Result<oneshot::Receiver<Result<Answer>>> {
        self.0.take(batch, stream).await
    }

    fn response(answer: Answer) -> v1::ReportMatrixOutcomesResponse {
        v1::ReportMatrixOutcomesResponse {
            sequence: answer.sequence,
            repeated_batch: answer.repeated,
            counted: answer.counted,
            late: answer.late,
            other_version: answer.other,
            rejected: answer.rejected,
        }
    }
}

/// The service over the series.
pub struct Series(pub Arc<Matrices>);

fn at(nanos: i64) -> Option<prost_types::Timestamp> {
    Timestamp::from_nanosecond(nanos.into()).ok().map(time)
}

fn series(view: SeriesView) -> v1::Series {
    let kind = if view.prices { v1::SeriesKind::Prices } else { v1::SeriesKind::Returns };
    let walk = &view.walk;
    let mut told = v1::Series {
        name: view.name,
        kind: kind.into(),
        used: view.used,
        points: walk.points,
        missing: walk.missing,
        gaps: walk.gaps,
        ..v1::Series::default()
    };
    if let Some((first, _, last, value)) = walk.ends {
        told.first_at = at(walk.begins(first));
        told.last_at = at(last);
        told.last_value = value;
    }
    told
}

/// Tells the sums of each day.
async fn tell_blocks(
    matrices: Arc<Matrices>,
    sender: mpsc::Sender<Result<v1::ListSeriesBlocksResponse, Status>>,
) {
    let config = matrices.config();
    let bucket_seconds = config.bucket;
    for day in matrices.days() {
        let (own, config) = (Arc::clone(&matrices), Arc::clone(&config));
        let of_day = match tokio::task::spawn_blocking(move || own.sums(day, &config)).await {
            Ok(Ok(Some(of_day))) => of_day,
            Ok(Ok(None)) => continue,
            Ok(Err(error)) => {
                // Whoever asked may have left.
                let _ = sender.send(Err(to_status(error))).await;
                return;
            }
            Err(_) => return,
        };
        let bytes = of_day.block.to_bytes();
        let pieces = bytes.chunks(PIECE).count();
        for (at, piece) in bytes.chunks(PIECE).enumerate() {
            let response = v1::ListSeriesBlocksResponse {
                day: of_day.day,
                series: if at == 0 { of_day.series.clone() } else { Vec::new() },
                block: piece.to_vec(),
                more: at + 1 < pieces,
                bucket_seconds,
                host: matrices.host().to_owned(),
            };
            if !tell(&sender, response).await {
                return;
            }
        }
    }
}

fn defect(error: tokio::task::JoinError) -> Status {
    to_status(Error::internal("CALL_PANICKED", "a look at series hit a defect").caused_by(error))
}

#[tonic::async_trait]
impl SeriesService for Series {
    type PushSeriesStream = Telling<v1::PushSeriesResponse>;
    type ListSeriesBlocksStream = Telling<v1::ListSeriesBlocksResponse>;

    async fn push_series(
        &self,
        request: Request<Streaming<v1::PushSeriesRequest>>,
    ) -> Result<Response<Self::PushSeriesStream>, Status> {
        let caller = caller(&request)?;
        self.0.store().map_err(to_status)?;
        let taker = Arc::new(Values(Arc::clone(&self.0)));
        Ok(Response::new(batches::serve(taker, request.into_inner(), caller)))
    }

    async fn list_series(
        &self,
        request: Request<v1::ListSeriesRequest>,
    ) -> Result<Response<v1::ListSeriesResponse>, Status> {
        let (own, request) = (Arc::clone(&self.0), request.into_inner());
        let listed =
            tokio::task::spawn_blocking(move || own.list_series(&request.pattern, request.limit));
        let views = listed.await.map_err(defect)?.map_err(to_status)?;
        let config = self.0.config();
        Ok(Response::new(v1::ListSeriesResponse {
            series: views.into_iter().map(series).collect(),
            bucket_seconds: config.bucket,
            window_seconds: config.window.as_secs(),
            file_bytes: self.0.store().map_err(to_status)?.file_bytes(),
        }))
    }

    async fn list_series_gaps(
        &self,
        request: Request<v1::ListSeriesGapsRequest>,
    ) -> Result<Response<v1::ListSeriesGapsResponse>, Status> {
        let (own, request) = (Arc::clone(&self.0), request.into_inner());
        let found =
            tokio::task::spawn_blocking(move || own.gaps(&request.series, request.limit)).await;
        let (view, gaps) = found.map_err(defect)?.map_err(to_status)?;
        let gap = |it: super::super::gaps::Gap| v1::SeriesGap {
            from: at(view.walk.begins(it.from)),
            until: at(view.walk.begins(it.until)),
            buckets: (it.until - it.from).max(0) as u64,
        };
        let gaps = gaps.into_iter().map(gap).collect();
        Ok(Response::new(v1::ListSeriesGapsResponse { gaps, total: view.walk.gaps }))
    }

    async fn list_series_blocks(
        &self,
        _: Request<v1::ListSeriesBlocksRequest>,
    ) -> Result<Response<Self::ListSeriesBlocksStream>, Status> {
        self.0.store().map_err(to_status)?;
        let (sender, receiver) = mpsc::channel(2);
        tokio::spawn(tell_blocks(Arc::clone(&self.0), sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}
