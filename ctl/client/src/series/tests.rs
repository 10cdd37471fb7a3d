//! The stream and the pusher of values against a fake agent on a unix socket. What they have in common with those of
//! observations is tested there.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use genesis_proto::v1::series_service_server::{SeriesService, SeriesServiceServer};
use genesis_proto::v1::*;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::{UnboundedReceiverStream, UnixListenerStream};
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_types::{ErrorDetails, StatusExt};

use super::*;
use crate::{Client, Kind, Node, Options};

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(20);

#[derive(Default)]
struct Agent {
    /// After so many batches a stream breaks, once one more is durable.
    breaks: Mutex<Vec<usize>>,
    durable: Mutex<HashMap<String, u64>>,
    /// All that came in batches that are durable, by series.
    values: Mutex<HashMap<String, Vec<(i64, f64)>>>,
}

impl Agent {
    fn keep(&self, batch: PushSeriesRequest) -> Result<PushSeriesResponse, Status> {
        let sequence = batch.sequence;
        if batch.columns.iter().any(|column| column.series == "invalid") {
            let details = ErrorDetails::with_error_info("BATCH_INVALID", "genesis", HashMap::new());
            return Err(Status::with_error_details(Code::InvalidArgument, "it is none", details));
        }
        let mut durable = self.durable.lock().unwrap();
        let last = durable.entry(batch.producer).or_default();
        let mut answer = PushSeriesResponse { sequence, ..Default::default() };
        if sequence <= *last {
            return Ok(PushSeriesResponse { repeated_batch: true, ..answer });
        }
        *last = sequence;
        for column in batch.columns {
            assert_eq!(column.unix_nanos.len(), column.value.len());
            let mut values = self.values.lock().unwrap();
            let known = values.entry(column.series.clone()).or_default();
            for (at, value) in column.unix_nanos.into_iter().zip(column.value) {
                match value {
                    _ if column.series == "crowded.out" => answer.unknown += 1,
                    _ if !value.is_finite() => answer.missing += 1,
                    _ if at < 0 => answer.late += 1,
                    _ if value <= 0.0 => answer.rejected += 1,
                    _ if known.last().is_some_and(|last| last.0 >= at) => answer.superseded += 1,
                    _ => answer.counted += 1,
                }
                known.push((at, value));
            }
        }
        Ok(answer)
    }
}

struct Server(Arc<Agent>);

type Answer<T> = Result<Response<T>, Status>;
type Answers = Pin<Box<dyn tokio_stream::Stream<Item = Result<PushSeriesResponse, Status>> + Send>>;

fn unused<T>() -> Answer<T> {
    Err(Status::unimplemented("not here"))
}

#[tonic::async_trait]
impl SeriesService for Server {
    type PushSeriesStream = Answers;
    type ListSeriesBlocksStream = tokio_stream::Empty<Result<ListSeriesBlocksResponse, Status>>;

    async fn push_series(&self, request: Request<Streaming<PushSeriesRequest>>) -> Answer<Answers> {
        let agent = self.0.clone();
        let mut left = agent.breaks.lock().unwrap().pop();
        let (answers, received) = mpsc::unbounded_channel();
        let mut batches = request.into_inner();
        tokio::spawn(async move {
            while let Some(Ok(batch)) = batches.next().await {
                let answer = agent.keep(batch);
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
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(received))))
    }

    async fn list_series(&self, _: Request<ListSeriesRequest>) -> Answer<ListSeriesResponse> {
        unused()
    }

    async fn list_series_gaps(
        &self,
        _: Request<ListSeriesGapsRequest>,
    ) -> Answer<ListSeriesGapsResponse> {
        unused()
    }

    async fn list_series_blocks(
        &self,
        _: Request<ListSeriesBlocksRequest>,
    ) -> Answer<Self::ListSeriesBlocksStream> {
        unused()
    }
}

struct Served {
    _folder: tempfile::TempDir,
    node: Node,
    agent: Arc<Agent>,
}

fn serve(breaks: &[usize]) -> Served {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.sock");
    let breaks = Mutex::new(breaks.to_vec());
    let agent = Arc::new(Agent { breaks, ..Agent::default() });
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let service = SeriesServiceServer::new(Server(agent.clone()));
    let server = tonic::transport::Server::builder().add_service(service);
    tokio::spawn(server.serve_with_incoming(UnixListenerStream::new(listener)));
    Served { node: Node::unix(path).unwrap(), _folder: folder, agent }
}

impl Served {
    async fn client(&self) -> Client {
        Client::connect(&self.node, Options::default()).await.unwrap()
    }

    async fn pusher(&self, options: PusherOptions) -> SeriesPusher {
        SeriesPusher::start(self.client().await, options).unwrap()
    }
}

fn small() -> PusherOptions {
    PusherOptions {
        batch: 10,
        linger: Duration::from_millis(20),
        in_flight: 4,
        ..PusherOptions::default()
    }
}

#[tokio::test]
async fn values_arrive_once_and_in_order_over_breaks() {
    let served = serve(&[2, 0, 5]);
    let pusher = served.pusher(small()).await;
    let btc = pusher.handle().series("BTC").unwrap();
    for number in 0..500 {
        assert!(btc.report(number, 64_000.0 + number as f64));
    }
    pusher.flush(LONG).await.unwrap();
    let wanted: Vec<_> = (0..500).map(|number| (number, 64_000.0 + number as f64)).collect();
    assert_eq!(served.agent.values.lock().unwrap()["BTC"], wanted);
    let stats = pusher.close(LONG).await;
    assert_eq!((stats.sent, stats.acknowledged, stats.buffered), (500, 500, 0), "{stats:?}");
    // Of a batch that was durable when its stream broke, nothing but that is known.
    assert_eq!(stats.answered.counted + stats.had_before, 500, "{stats:?}");
    assert!(stats.had_before > 0 && stats.reconnects >= 3, "{stats:?}");
    assert!(!btc.report(500, 1.0), "nobody sends it any more");
}

#[tokio::test]
async fn what_the_agent_says_of_values_is_added_up() {
    let served = serve(&[]);
    let pusher = served.pusher(small()).await;
    let recorder = pusher.handle();
    let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
    assert!(recorder.report("BTC", at(1), 1.0) && recorder.report("BTC", at(2), 2.0));
    // Missing is said, not left out.
    assert!(recorder.report("BTC", at(3), f64::NAN));
    assert!(recorder.report("BTC", at(3), f64::NEG_INFINITY));
    assert!(recorder.report("BTC", -1, 1.0) && recorder.report("BTC", at(4), -1.0));
    assert!(recorder.report("ETH", at(5), 1.0) && recorder.report("ETH", at(1), 1.0));
    assert!(recorder.report("crowded.out", at(1), 1.0));
    let said = pusher.close(LONG).await.answered;
    assert_eq!((said.counted, said.superseded, said.missing), (3, 1, 2), "{said:?}");
    assert_eq!((said.late, said.rejected, said.unknown), (1, 1, 1), "{said:?}");
}

#[tokio::test]
async fn what_finds_no_room_is_dropped_and_nobody_waits() {
    let served = serve(&[]);
    let pusher = served.pusher(PusherOptions { capacity: 5, ..small() }).await;
    let recorder = pusher.handle();
    for name in ["", "no name", &"x".repeat(65)] {
        assert!(!recorder.report(name, 1, 1.0), "{name:?}");
        let error = recorder.series(name).unwrap_err();
        assert_eq!((error.kind, error.reason.as_str()), (Kind::Invalid, "SERIES_INVALID"));
    }
    // The runtime does nothing meanwhile, so nothing is sent.
    let kept = (0..1_000).filter(|number| recorder.report("BTC", *number, 1.0)).count();
    assert_eq!(kept, 5);
    let stats = pusher.close(LONG).await;
    assert_eq!((stats.answered.counted, stats.dropped), (5, 3 + 995), "{stats:?}");
}

#[tokio::test]
async fn an_invalid_batch_is_dropped_alone() {
    let served = serve(&[]);
    let mut stream = SeriesStream::new(served.client().await, "p", 4).unwrap();
    for (sequence, series) in [(1, "a"), (2, "invalid"), (3, "b")] {
        let column = SeriesColumn { series: series.into(), unix_nanos: vec![1], value: vec![0.5] };
        stream.push(sequence, vec![column]).unwrap();
    }
    let (mut kept, mut invalid) = (Vec::new(), Vec::new());
    while let Some(settled) = stream.next().await.unwrap() {
        match settled {
            Settled::Acknowledged { answer, rows, .. } => kept.push((answer.sequence, rows)),
            Settled::Invalid { sequence, rows, error } => {
                assert_eq!((rows, error.reason.as_str()), (1, "BATCH_INVALID"));
                invalid.push(sequence);
            }
        }
    }
    assert_eq!((kept, invalid), (vec![(1, 1), (3, 1)], vec![2]));
    stream.close().await;
}
