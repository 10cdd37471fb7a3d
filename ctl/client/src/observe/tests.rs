//! The stream and the pusher against a fake agent on a unix socket.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use genesis_proto::v1::baseline_service_server::{BaselineService, BaselineServiceServer};
use genesis_proto::v1::*;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::{UnboundedReceiverStream, UnixListenerStream};
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_types::{ErrorDetails, StatusExt};

use super::*;
use crate::{Client, Kind, Node, Options};

const SECOND: Duration = Duration::from_secs(1);
/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(20);

/// How one stream goes, other than well.
enum Act {
    /// It is refused at once.
    Refuse(Status),
    /// So many batches are answered, so many more are read of which some are durable, then it breaks.
    Break { answered: usize, unanswered: usize, durable: usize },
    /// Nothing is read or answered.
    Hang,
}

#[derive(Default)]
struct Agent {
    acts: Mutex<VecDeque<Act>>,
    streams: Mutex<u64>,
    /// For each batch that came: on which stream, its sequence, its observations.
    came: Mutex<Vec<(u64, u64, usize)>>,
    /// The greatest sequence of each producer.
    durable: Mutex<HashMap<String, u64>>,
    /// All that count, by operation.
    counted: Mutex<HashMap<String, Vec<(i64, f64)>>>,
    reasons: Mutex<Vec<String>>,
}

fn failure(code: Code, reason: &str) -> Status {
    let details = ErrorDetails::with_error_info(reason, "genesis", HashMap::new());
    Status::with_error_details(code, format!("it is {reason}"), details)
}

impl Agent {
    fn note(&self, stream: u64, batch: &ObserveRequest) {
        let observations = batch.columns.iter().map(|column| column.seconds.len()).sum();
        self.came.lock().unwrap().push((stream, batch.sequence, observations));
    }

    /// Makes a batch durable.
    fn keep(&self, batch: &ObserveRequest) -> Result<ObserveResponse, Status> {
        if batch.columns.iter().any(|column| column.operation == "invalid") {
            return Err(failure(Code::InvalidArgument, "BATCH_INVALID"));
        }
        let mut durable = self.durable.lock().unwrap();
        let last = durable.entry(batch.producer.clone()).or_default();
        if batch.sequence <= *last {
            let sequence = batch.sequence;
            return Ok(ObserveResponse { sequence, duplicate: true, ..Default::default() });
        }
        *last = batch.sequence;
        let mut counted = 0;
        for column in &batch.columns {
            assert_eq!(column.unix_nanos.len(), column.seconds.len());
            let all = column.unix_nanos.iter().copied().zip(column.seconds.iter().copied());
            counted += column.seconds.len() as u32;
            self.counted.lock().unwrap().entry(column.operation.clone()).or_default().extend(all);
        }
        Ok(ObserveResponse { sequence: batch.sequence, counted, ..Default::default() })
    }

    fn values(&self, operation: &str) -> Vec<f64> {
        let counted = self.counted.lock().unwrap();
        let mut values: Vec<_> = counted[operation].iter().map(|(_, value)| *value).collect();
        values.sort_by(f64::total_cmp);
        values
    }

    fn came_on(&self, stream: u64) -> Vec<u64> {
        let came = self.came.lock().unwrap();
        came.iter().filter(|one| one.0 == stream).map(|one| one.1).collect()
    }
}

/// What the trait wants of one.
struct Server(Arc<Agent>);

type Answers = Pin<Box<dyn tokio_stream::Stream<Item = Result<ObserveResponse, Status>> + Send>>;

type Answer<T> = Result<Response<T>, Status>;

fn unused<T>() -> Answer<T> {
    Err(Status::unimplemented("not here"))
}

#[tonic::async_trait]
impl BaselineService for Server {
    type ObserveStream = Answers;

    async fn observe(
        &self,
        request: Request<Streaming<ObserveRequest>>,
    ) -> Result<Response<Answers>, Status> {
        let agent = self.0.clone();
        let stream = {
            let mut streams = agent.streams.lock().unwrap();
            *streams += 1;
            *streams
        };
        let reason = request.metadata().get("genesis-reason");
        let reason = reason.map(|reason| reason.to_str().unwrap().to_owned()).unwrap_or_default();
        agent.reasons.lock().unwrap().push(reason);
        let act = agent.acts.lock().unwrap().pop_front();
        let (answers, received) = mpsc::unbounded_channel();
        let mut batches = request.into_inner();
        let (mut answered, mut unanswered, mut durable) = (usize::MAX, 0, 0);
        match act {
            Some(Act::Refuse(status)) => return Err(status),
            Some(Act::Hang) => {
                // Never dropped, so that the stream stays.
                std::mem::forget((answers, batches));
                return Ok(Response::new(Box::pin(UnboundedReceiverStream::new(received))));
            }
            Some(Act::Break { answered: a, unanswered: u, durable: d }) => {
                (answered, unanswered, durable) = (a, u, d);
            }
            None => {}
        }
        tokio::spawn(async move {
            while let Some(Ok(batch)) = batches.next().await {
                agent.note(stream, &batch);
                if answered > 0 {
                    answered -= 1;
                    let answer = agent.keep(&batch);
                    let failed = answer.is_err();
                    if answers.send(answer).is_err() || failed {
                        return;
                    }
                } else {
                    if durable > 0 {
                        durable -= 1;
                        agent.keep(&batch).unwrap();
                    }
                    unanswered -= 1;
                }
                if answered == 0 && unanswered == 0 {
                    let _ = answers.send(Err(Status::unavailable("draining")));
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(received))))
    }

    async fn list_baselines(
        &self,
        _: Request<ListBaselinesRequest>,
    ) -> Answer<ListBaselinesResponse> {
        unused()
    }

    async fn get_baseline(&self, _: Request<GetBaselineRequest>) -> Answer<GetBaselineResponse> {
        unused()
    }

    async fn recalculate_baselines(
        &self,
        _: Request<RecalculateBaselinesRequest>,
    ) -> Answer<RecalculateBaselinesResponse> {
        unused()
    }

    async fn plan_recalculate_baselines(
        &self,
        _: Request<RecalculateBaselinesRequest>,
    ) -> Answer<PlanResponse> {
        unused()
    }

    async fn accept_baseline(
        &self,
        _: Request<AcceptBaselineRequest>,
    ) -> Answer<AcceptBaselineResponse> {
        unused()
    }

    async fn plan_accept_baseline(
        &self,
        _: Request<AcceptBaselineRequest>,
    ) -> Answer<PlanResponse> {
        unused()
    }

    async fn list_baseline_history(
        &self,
        _: Request<ListBaselineHistoryRequest>,
    ) -> Answer<ListBaselineHistoryResponse> {
        unused()
    }

    async fn list_anomalies(
        &self,
        _: Request<ListAnomaliesRequest>,
    ) -> Answer<ListAnomaliesResponse> {
        unused()
    }

    async fn list_calls(&self, _: Request<ListCallsRequest>) -> Answer<ListCallsResponse> {
        unused()
    }

    type ExportBaselinesStream = tokio_stream::Empty<Result<ExportBaselinesResponse, Status>>;

    async fn export_baselines(
        &self,
        _: Request<ExportBaselinesRequest>,
    ) -> Answer<Self::ExportBaselinesStream> {
        unused()
    }
}

struct Served {
    _folder: tempfile::TempDir,
    node: Node,
    agent: Arc<Agent>,
}

fn serve_at(path: &std::path::Path, agent: &Arc<Agent>) {
    let listener = tokio::net::UnixListener::bind(path).unwrap();
    let service = BaselineServiceServer::new(Server(agent.clone()));
    let server = tonic::transport::Server::builder().add_service(service);
    tokio::spawn(server.serve_with_incoming(UnixListenerStream::new(listener)));
}

fn serve(acts: impl IntoIterator<Item = Act>) -> Served {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.sock");
    let acts = Mutex::new(acts.into_iter().collect());
    let agent = Arc::new(Agent { acts, ..Agent::default() });
    serve_at(&path, &agent);
    Served { node: Node::unix(path).unwrap(), _folder: folder, agent }
}

impl Served {
    async fn client(&self) -> Client {
        Client::connect(&self.node, Options::default()).await.unwrap()
    }

    async fn pusher(&self, options: PusherOptions) -> Pusher {
        Pusher::start(self.client().await, options).unwrap()
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

fn column(operation: &str, values: &[f64]) -> Vec<ObservationColumn> {
    let unix_nanos = vec![7; values.len()];
    vec![ObservationColumn { operation: operation.into(), unix_nanos, seconds: values.to_vec() }]
}

fn numbers(until: usize) -> Vec<f64> {
    (0..until).map(|number| number as f64).collect()
}

#[tokio::test]
async fn what_is_observed_arrives_and_is_acknowledged() {
    let served = serve([]);
    let options = PusherOptions { reason: "it is the web server".into(), ..small() };
    let pusher = served.pusher(options).await;
    assert_eq!(pusher.producer().len(), 32);
    let recorder = pusher.handle();
    let place = recorder.operation("orders.place").unwrap();
    for number in 0..95 {
        assert!(place.observe(number, number as f64));
    }
    let at = UNIX_EPOCH + Duration::from_nanos(1_700_000_000_123_456_789);
    assert!(recorder.observe("orders.cancel", at, 0.5));
    pusher.flush(LONG).await.unwrap();
    let stats = pusher.stats();
    assert_eq!((stats.sent, stats.acknowledged, stats.answered.counted), (96, 96, 96), "{stats:?}");
    assert_eq!((stats.buffered, stats.dropped, stats.reconnects), (0, 0, 0), "{stats:?}");
    assert!(stats.last_error.is_none());
    assert_eq!(served.agent.values("orders.place"), numbers(95));
    let cancelled = served.agent.counted.lock().unwrap()["orders.cancel"].clone();
    assert_eq!(cancelled, [(1_700_000_000_123_456_789, 0.5)]);
    assert!(served.agent.came.lock().unwrap().iter().all(|one| one.2 <= 10));
    assert_eq!(*served.agent.reasons.lock().unwrap(), ["it is the web server"]);

    // Without a flush it waits for others no longer than the linger.
    place.observe(1, 1.0);
    let sent = async {
        while served.agent.values("orders.place").len() < 96 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LONG, sent).await.unwrap();
    place.observe(2, 2.0);
    let stats = pusher.close(LONG).await;
    assert_eq!((stats.acknowledged, stats.buffered), (98, 0));
    assert!(recorder.is_closed() && !place.observe(3, 3.0), "nobody sends it any more");
}

#[tokio::test]
async fn a_break_sends_again_exactly_what_was_not_answered() {
    // Batches 1 and 2 are answered, 3 to 5 are read, and 3 is durable all the same.
    let served = serve([
        Act::Break { answered: 2, unanswered: 3, durable: 1 },
        Act::Refuse(Status::unavailable("starting")),
    ]);
    let mut stream = ObserveStream::new(served.client().await, "p", 5).unwrap();
    for sequence in 1..=5 {
        stream.push(sequence, column("a", &[sequence as f64])).unwrap();
    }
    assert!(!stream.has_room());
    assert_eq!(stream.push(6, Vec::new()).unwrap_err().reason, "WINDOW_FULL");
    let mut answers = Vec::new();
    let mut next = 6;
    while let Some(settled) = stream.next().await.unwrap() {
        let Settled::Acknowledged { answer, rows, repeated } = settled else {
            panic!("{settled:?}")
        };
        answers.push((answer.sequence, answer.duplicate, repeated, rows));
        if next <= 8 {
            stream.push(next, column("a", &[next as f64])).unwrap();
            next += 1;
        }
    }
    let first = [(1, false, false, 1), (2, false, false, 1)];
    let again = [(3, true, true, 1), (4, false, true, 1), (5, false, true, 1)];
    assert_eq!(answers[..2], first);
    assert_eq!(answers[2..5], again);
    assert_eq!(answers.len(), 8);
    assert_eq!(served.agent.came_on(1)[..5], [1, 2, 3, 4, 5]);
    assert_eq!(served.agent.came_on(3)[..3], [3, 4, 5], "and neither 1 nor 2");
    assert_eq!(served.agent.values("a"), (1..=8).map(f64::from).collect::<Vec<_>>());
    assert_eq!(stream.reconnects(), 2);
    assert_eq!(stream.push(8, Vec::new()).unwrap_err().reason, "SEQUENCE_INVALID");
    stream.close().await;
    assert!(ObserveStream::new(served.client().await, "no name", 1).is_err());
}

#[tokio::test]
async fn a_pusher_survives_breaks_without_counting_twice() {
    let breaks = |answered, durable| Act::Break { answered, unanswered: 3, durable };
    let served = serve([
        breaks(3, 3),
        Act::Refuse(Status::unavailable("starting")),
        breaks(1, 0),
        breaks(5, 2),
        Act::Refuse(failure(Code::PermissionDenied, "ROLE_TOO_LOW")),
    ]);
    let pusher = served.pusher(small()).await;
    let operation = pusher.handle().operation("a").unwrap();
    for number in 0..1_000 {
        operation.observe(number, number as f64);
    }
    pusher.flush(LONG).await.unwrap();
    let stats = pusher.stats();
    assert_eq!(served.agent.values("a"), numbers(1_000));
    assert_eq!((stats.acknowledged, stats.sent, stats.buffered), (1_000, 1_000, 0), "{stats:?}");
    assert_eq!(stats.answered.counted + stats.had_before, 1_000, "{stats:?}");
    assert!(stats.reconnects >= 5 && stats.had_before > 0, "{stats:?}");
    assert_eq!(stats.last_error.unwrap().reason, "ROLE_TOO_LOW", "kept and sent again");
}

#[tokio::test]
async fn a_full_buffer_drops_the_newest_and_makes_nobody_wait() {
    let served = serve([Act::Hang]);
    let options = PusherOptions { capacity: 100, ..small() };
    let pusher = served.pusher(options).await;
    let recorder = pusher.handle();
    let operation = recorder.operation("a").unwrap();
    // From a thread of its own, and while the runtime does nothing: nothing can wait for it.
    let kept = (0..100_000).filter(|number| operation.observe(*number, *number as f64)).count();
    assert_eq!(kept, 100);
    assert!(!recorder.observe("a b", 1, 1.0) && !recorder.observe("", 1, 1.0), "no names");
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!operation.observe(1, 1.0), "what was sent and not answered takes room, too");
    let stats = pusher.stats();
    assert_eq!((stats.buffered, stats.dropped), (100, 99_903), "{stats:?}");
    assert_eq!((stats.sent, stats.acknowledged), (40, 0), "the window is full: {stats:?}");
    assert_eq!(stats.last_error.unwrap().reason, "OPERATION_INVALID");
    let error = pusher.flush(Duration::from_millis(50)).await.unwrap_err();
    assert_eq!((error.kind, error.reason.as_str()), (Kind::Incomplete, "NOT_ACKNOWLEDGED"));
    assert!(error.message.contains("100 observations"), "{error}");
    let stats = pusher.close(Duration::from_millis(50)).await;
    assert_eq!(stats.buffered, 100, "lost, and it says so");
}

#[tokio::test]
async fn an_invalid_batch_is_dropped_alone() {
    let served = serve([]);
    let mut stream = ObserveStream::new(served.client().await, "p", 4).unwrap();
    for (sequence, operation) in [(1, "a"), (2, "invalid"), (3, "b"), (4, "invalid")] {
        stream.push(sequence, column(operation, &[0.1, 0.2])).unwrap();
    }
    let (mut kept, mut invalid) = (Vec::new(), Vec::new());
    while let Some(settled) = stream.next().await.unwrap() {
        match settled {
            Settled::Acknowledged { answer, .. } => kept.push(answer.sequence),
            Settled::Invalid { sequence, rows, error } => {
                assert_eq!((rows, error.reason.as_str()), (2, "BATCH_INVALID"));
                invalid.push(sequence);
            }
        }
    }
    assert_eq!((kept, invalid), (vec![1, 3], vec![2, 4]));

    let options = PusherOptions { producer: Some("q".into()), batch: 2, ..small() };
    let pusher = served.pusher(options).await;
    let recorder = pusher.handle();
    for operation in ["c", "invalid", "d"] {
        recorder.observe(operation, 1, 0.1);
        recorder.observe(operation, 1, 0.2);
    }
    pusher.flush(LONG).await.unwrap();
    let stats = pusher.stats();
    assert_eq!((stats.acknowledged, stats.invalid, stats.buffered), (4, 2, 0), "{stats:?}");
    assert_eq!(stats.last_error.unwrap().reason, "BATCH_INVALID");
}

#[tokio::test]
async fn a_producer_that_begins_again_is_told_so() {
    let served = serve([]);
    let options = PusherOptions { producer: Some("web".into()), ..small() };
    let first = served.pusher(options.clone()).await;
    first.handle().observe("a", 1, 0.1);
    assert_eq!(first.close(LONG).await.answered.counted, 1);
    let again = served.pusher(options.clone()).await;
    again.handle().observe("a", 2, 0.2);
    let stats = again.close(LONG).await;
    assert_eq!(
        (stats.acknowledged, stats.had_before, stats.answered.counted),
        (1, 1, 0),
        "{stats:?}"
    );
    assert_eq!(stats.last_error.unwrap().reason, "SEQUENCE_REPEATED");
    let on = served.pusher(PusherOptions { first_sequence: 2, ..options }).await;
    on.handle().observe("a", 3, 0.3);
    assert_eq!(on.close(LONG).await.answered.counted, 1);
    let options = PusherOptions { producer: Some("no name".into()), ..small() };
    assert_eq!(Pusher::start(served.client().await, options).unwrap_err().kind, Kind::Invalid);
}

#[tokio::test]
async fn a_refusal_that_lasts_is_told_to_those_who_wait() {
    let refuse = || Act::Refuse(failure(Code::PermissionDenied, "ROLE_TOO_LOW"));
    let served = serve([refuse(), refuse()]);
    let mut stream = ObserveStream::new(served.client().await, "p", 4).unwrap();
    stream.push(1, column("a", &[0.1])).unwrap();
    for _ in 0..2 {
        let error = stream.next().await.unwrap_err();
        assert_eq!((error.kind, error.reason.as_str()), (Kind::NotAllowed, "ROLE_TOO_LOW"));
    }
    assert!(stream.next().await.unwrap().is_some(), "all is kept");
}

#[tokio::test]
async fn an_agent_that_comes_late_gets_everything() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.sock");
    let node = Node::unix(&path).unwrap();
    let pusher = Pusher::follow(node, Options::default(), small()).unwrap();
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            let recorder = pusher.handle();
            std::thread::spawn(move || {
                let operation = recorder.operation("a").unwrap();
                for number in 0..250 {
                    assert!(operation.observe(number, (250 * thread + number) as f64));
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert!(pusher.flush(Duration::from_millis(150)).await.is_err());
    assert_eq!(pusher.stats().last_error.unwrap().kind, Kind::Unreachable);
    let agent = Arc::new(Agent::default());
    serve_at(&path, &agent);
    pusher.flush(LONG).await.unwrap();
    assert_eq!(agent.values("a"), numbers(1_000));
    pusher.close(SECOND).await;
}
