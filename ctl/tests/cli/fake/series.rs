//! What the fake agent knows of series.

use genesis_client::v1::series_service_server::SeriesService;
use genesis_client::v1::*;
use tonic::{Request, Status, Streaming};

use super::{Answer, Inner, Stream, streamed};

#[tonic::async_trait]
impl SeriesService for Inner {
    type PushSeriesStream = Stream<PushSeriesResponse>;

    async fn push_series(
        &self,
        _: Request<Streaming<PushSeriesRequest>>,
    ) -> Answer<Self::PushSeriesStream> {
        Err(Status::unimplemented("nobody pushes here"))
    }

    async fn list_series(&self, _: Request<ListSeriesRequest>) -> Answer<ListSeriesResponse> {
        Err(Status::unimplemented("nobody lists here"))
    }

    async fn list_series_gaps(
        &self,
        _: Request<ListSeriesGapsRequest>,
    ) -> Answer<ListSeriesGapsResponse> {
        Err(Status::unimplemented("nobody looks for gaps here"))
    }

    type ListSeriesBlocksStream = Stream<ListSeriesBlocksResponse>;

    async fn list_series_blocks(
        &self,
        request: Request<ListSeriesBlocksRequest>,
    ) -> Answer<Self::ListSeriesBlocksStream> {
        self.called("ListSeriesBlocks", "", &request).await?;
        streamed(self.script.matrices.blocks.iter().cloned().map(Ok).collect())
    }
}
