//! The stream and the pusher of trades against a fake agent on a unix socket. What they have in common with those of
//! observations is tested there.

use std::collections::{HashMap, HashSet};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use genesis_proto::v1::experiment_service_server::{ExperimentService, ExperimentServiceServer};
use genesis_proto::v1::*;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::{UnboundedReceiverStream, UnixListenerStream};
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_types::{ErrorDetails, StatusExt};

use super::*;
use crate::{Client, Node, Options};

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(20);

#[derive(Default)]
struct Agent {
    /// After so many batches a stream breaks, once one more is durable.
    breaks: Mutex<Vec<usize>>,
    durable: Mutex<HashMap<String, u64>>,
    /// All ids that count.
    ids: Mutex<HashSet<String>>,
    batches: Mutex<Vec<RecordTradesRequest>>,
}

impl Agent {
    fn keep(&self, batch: RecordTradesRequest) -> Result<RecordTradesResponse, Status> {
        let sequence = batch.sequence;
        if batch.columns.iter().any(|column| column.experiment == "invalid") {
            let details = ErrorDetails::with_error_info("BATCH_INVALID", "genesis", HashMap::new());
            return Err(Status::with_error_details(Code::InvalidArgument, "it is none", details));
        }
        self.batches.lock().unwrap().push(batch.clone());
        let mut durable = self.durable.lock().unwrap();
        let last = durable.entry(batch.producer).or_default();
        if sequence <= *last {
            return Ok(RecordTradesResponse {
                sequence,
                repeated_batch: true,
                ..Default::default()
            });
        }
        *last = sequence;
        let mut answer = RecordTradesResponse { sequence, ..Default::default() };
        for column in batch.columns {
            for id in column.trade_id {
                match column.experiment.as_str() {
                    "gone" => answer.unknown += 1,
                    "over" => answer.after_end += 1,
                    _ if self.ids.lock().unwrap().insert(id) => answer.counted += 1,
                    _ => answer.duplicate += 1,
                }
            }
        }
        Ok(answer)
    }
}

struct Server(Arc<Agent>);

type Answer<T> = Result<Response<T>, Status>;
type Answers =
    Pin<Box<dyn tokio_stream::Stream<Item = Result<RecordTradesResponse, Status>> + Send>>;

fn unused<T>() -> Answer<T> {
    Err(Status::unimplemented("not here"))
}

#[tonic::async_trait]
impl ExperimentService for Server {
    type RecordTradesStream = Answers;
    type WatchExperimentsStream = tokio_stream::Empty<Result<WatchExperimentsResponse, Status>>;

    async fn record_trades(
        &self,
        request: Request<Streaming<RecordTradesRequest>>,
    ) -> Answer<Answers> {
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

    async fn list_experiments(
        &self,
        _: Request<ListExperimentsRequest>,
    ) -> Answer<ListExperimentsResponse> {
        unused()
    }

    async fn get_experiment(
        &self,
        _: Request<GetExperimentRequest>,
    ) -> Answer<GetExperimentResponse> {
        unused()
    }

    async fn create_experiment(
        &self,
        _: Request<CreateExperimentRequest>,
    ) -> Answer<CreateExperimentResponse> {
        unused()
    }

    async fn plan_create_experiment(
        &self,
        _: Request<CreateExperimentRequest>,
    ) -> Answer<PlanResponse> {
        unused()
    }

    async fn conclude_experiment(
        &self,
        _: Request<ConcludeExperimentRequest>,
    ) -> Answer<ConcludeExperimentResponse> {
        unused()
    }

    async fn plan_conclude_experiment(
        &self,
        _: Request<ConcludeExperimentRequest>,
    ) -> Answer<PlanResponse> {
        unused()
    }

    async fn assign(&self, _: Request<AssignRequest>) -> Answer<AssignResponse> {
        unused()
    }

    async fn watch_experiments(
        &self,
        _: Request<WatchExperimentsRequest>,
    ) -> Answer<Self::WatchExperimentsStream> {
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
    let service = ExperimentServiceServer::new(Server(agent.clone()));
    let server = tonic::transport::Server::builder().add_service(service);
    tokio::spawn(server.serve_with_incoming(UnixListenerStream::new(listener)));
    Served { node: Node::unix(path).unwrap(), _folder: folder, agent }
}

impl Served {
    async fn pusher(&self, options: PusherOptions) -> TradePusher {
        let client = Client::connect(&self.node, Options::default()).await.unwrap();
        TradePusher::start(client, options).unwrap()
    }
}

fn small() -> PusherOptions {
    PusherOptions { batch: 10, linger: Duration::from_millis(20), in_flight: 4, ..options() }
}

#[tokio::test]
async fn trades_arrive_once_over_breaks_and_ids_that_come_again_do_not_count() {
    let served = serve(&[2, 0, 5]);
    let pusher = served.pusher(small()).await;
    let recorder = pusher.handle();
    let test = recorder.experiment("TEST_1").unwrap();
    for number in 0..500 {
        assert!(test.report(Trade::of_unit(format!("t{number}"), number, 1.5, "account-7")));
    }
    for number in 0..20 {
        assert!(test.report(Trade::of_unit(format!("t{number}"), number, 1.5, "account-7")));
    }
    assert!(recorder.report("gone", Trade::of_arm("a", 1, 0.5, Arm::Variant)));
    assert!(recorder.report("over", Trade::of_arm("b", 1, 0.5, Arm::Control)));
    pusher.flush(LONG).await.unwrap();
    assert_eq!(served.agent.ids.lock().unwrap().len(), 500, "each counts once");
    let stats = pusher.close(LONG).await;
    assert_eq!((stats.sent, stats.acknowledged, stats.buffered), (522, 522, 0), "{stats:?}");
    // Of a batch that was durable when its stream broke, nothing but that is known.
    let said = stats.answered;
    let told = said.counted + said.duplicate + said.unknown + said.after_end;
    assert_eq!(told + stats.had_before, 522, "{stats:?}");
    assert!(stats.had_before > 0 && stats.reconnects >= 3, "{stats:?}");
    assert!(recorder.is_closed() && !test.report(Trade::of_arm("c", 1, 1.0, Arm::Control)));
}

#[tokio::test]
async fn what_no_trade_says_is_no_column() {
    let served = serve(&[]);
    let pusher = served.pusher(small()).await;
    let recorder = pusher.handle();
    let at = std::time::UNIX_EPOCH + Duration::from_nanos(7);
    recorder.report("units", Trade::of_unit("1", at, 0.5, "u"));
    recorder.report("arms", Trade::of_arm("2", 8, -0.5, Arm::Variant));
    recorder.report("both", Trade::of_unit("3", 9, 0.5, "u"));
    recorder.report("both", Trade::of_arm("4", 10, 0.5, Arm::Control));
    pusher.close(LONG).await;
    let batches = served.agent.batches.lock().unwrap();
    let mut columns: Vec<_> = batches.iter().flat_map(|batch| batch.columns.clone()).collect();
    columns.sort_by(|a, b| a.experiment.cmp(&b.experiment));
    assert_eq!(
        columns.iter().map(|column| &*column.experiment).collect::<Vec<_>>(),
        ["arms", "both", "units"]
    );
    let variant: i32 = Arm::Variant.into();
    assert_eq!((&columns[0].arm, columns[0].unit.len()), (&vec![variant], 0));
    assert_eq!(columns[1].unit, ["u", ""]);
    assert_eq!(columns[1].arm, [Arm::Unspecified as i32, Arm::Control as i32]);
    assert_eq!((&columns[2].unix_nanos, columns[2].arm.len()), (&vec![7], 0));
}

#[tokio::test]
async fn what_can_not_count_is_dropped_and_nobody_waits() {
    let served = serve(&[]);
    let pusher = served.pusher(PusherOptions { capacity: 5, ..small() }).await;
    let recorder = pusher.handle();
    let good = || Trade::of_unit("1", 1, 0.5, "u");
    for (experiment, trade) in [
        ("no name", good()),
        ("a", Trade { id: String::new(), ..good() }),
        ("a", Trade { id: "x".repeat(129), ..good() }),
        ("a", Trade { unit: "x".repeat(257), ..good() }),
        ("a", Trade { unit: String::new(), ..good() }),
        ("a", Trade { pnl: f64::NAN, ..good() }),
    ] {
        assert!(!recorder.report(experiment, trade.clone()), "{experiment} {trade:?}");
    }
    let stats = pusher.stats();
    assert_eq!((stats.dropped, stats.buffered), (6, 0));
    assert_eq!(stats.last_error.unwrap().reason, "TRADE_INVALID");
    // The runtime does nothing meanwhile, so nothing is sent.
    let kept = (0..1_000)
        .filter(|number| recorder.report("a", Trade { id: number.to_string(), ..good() }));
    assert_eq!(kept.count(), 5);
    let stats = pusher.close(LONG).await;
    assert_eq!((stats.answered.counted, stats.dropped), (5, 1_001), "{stats:?}");
}

#[tokio::test]
async fn an_invalid_batch_is_dropped_alone() {
    let served = serve(&[]);
    let client = Client::connect(&served.node, Options::default()).await.unwrap();
    let mut stream = TradeStream::new(client, "p", 4).unwrap();
    for (sequence, experiment) in [(1, "a"), (2, "invalid"), (3, "b")] {
        let column = TradeColumn {
            experiment: experiment.into(),
            trade_id: vec![sequence.to_string()],
            unix_nanos: vec![1],
            pnl: vec![0.5],
            unit: vec!["u".into()],
            arm: Vec::new(),
        };
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
