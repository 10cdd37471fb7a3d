//! Runs over gRPC.

use genesis_proto::v1::run_service_server::RunService;
use genesis_proto::v1::{
    CancelRunRequest, CancelRunResponse, GetRunRequest, GetRunResponse, ListRunsRequest,
    ListRunsResponse, PlanResponse, WatchRunRequest, WatchRunResponse,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{Progress, Runs, Snapshot};
use crate::plan::limited;
use crate::server::convert::{planned, run, stored_state};
use crate::server::status::to_status;

/// The service over runs.
pub struct Service(pub Runs);

#[tonic::async_trait]
impl RunService for Service {
    async fn list_runs(
        &self,
        request: Request<ListRunsRequest>,
    ) -> Result<Response<ListRunsResponse>, Status> {
        let request = request.into_inner();
        let limit = limited(request.limit, 50, 1_000).map_err(to_status)?;
        let kind = (!request.kind.is_empty()).then_some(request.kind.as_str());
        let records = self
            .0
            .state
            .read(|reading| Ok(reading.runs().list(kind, stored_state(request.state()), limit)?))
            .map_err(to_status)?;
        let runs = records
            .into_iter()
            .map(|record| {
                let live =
                    self.0.watch(&record.id).map(|receiver| receiver.borrow().progress.clone());
                run(Snapshot { record, steps: Vec::new(), progress: live.unwrap_or_default() })
            })
            .collect();
        Ok(Response::new(ListRunsResponse { runs }))
    }

    async fn get_run(
        &self,
        request: Request<GetRunRequest>,
    ) -> Result<Response<GetRunResponse>, Status> {
        let found = self.0.find(&request.get_ref().id).map_err(to_status)?;
        Ok(Response::new(GetRunResponse { run: Some(run(found)) }))
    }

    type WatchRunStream = ReceiverStream<Result<WatchRunResponse, Status>>;

    async fn watch_run(
        &self,
        request: Request<WatchRunRequest>,
    ) -> Result<Response<Self::WatchRunStream>, Status> {
        let found = self.0.find(&request.get_ref().id).map_err(to_status)?;
        let id = found.record.id;
        let (sender, stream) = mpsc::channel(1);
        let runs = self.0.clone();
        tokio::spawn(async move {
            let send = |snapshot: Snapshot| {
                let sender = sender.clone();
                async move {
                    sender.send(Ok(WatchRunResponse { run: Some(run(snapshot)) })).await.is_ok()
                }
            };
            let Some(mut receiver) = runs.watch(&id) else {
                // It ended between the two looks, or long ago: its last state is all there is.
                if let Ok(last) = runs.find(&id) {
                    send(last).await;
                }
                return;
            };
            loop {
                let snapshot = receiver.borrow_and_update().clone();
                let ended = snapshot.record.ended_at.is_some();
                if !send(snapshot).await || ended {
                    return;
                }
                tokio::select! {
                    changed = receiver.changed() => {
                        if changed.is_err() {
                            if let Ok(last) = runs.find(&id) {
                                send(Snapshot { progress: Progress::default(), ..last }).await;
                            }
                            return;
                        }
                    }
                    () = sender.closed() => return,
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn cancel_run(
        &self,
        request: Request<CancelRunRequest>,
    ) -> Result<Response<CancelRunResponse>, Status> {
        let snapshot = self
            .0
            .cancel(&request.get_ref().id, &request.get_ref().plan_hash)
            .await
            .map_err(to_status)?;
        Ok(Response::new(CancelRunResponse { run: Some(run(snapshot)) }))
    }

    async fn plan_cancel_run(
        &self,
        request: Request<CancelRunRequest>,
    ) -> Result<Response<PlanResponse>, Status> {
        planned(self.0.plan_cancel(&request.get_ref().id))
    }
}
