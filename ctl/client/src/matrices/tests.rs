//! The follower and the pusher of outcomes against a fake agent on a unix socket.

use std::collections::HashMap;
use std::path::Path;
use std::pin::Pin;
use std::sync::Mutex;

use genesis_proto::v1;
use genesis_proto::v1::matrix_service_server::{MatrixService, MatrixServiceServer};
use genesis_proto::v1::*;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::{UnboundedReceiverStream, UnixListenerStream};
use tonic::{Request, Response, Status as Refusal, Streaming};

use super::*;
// Not the one of the contract.
use super::Matrix;

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(20);

type Answer<T> = Result<Response<T>, Refusal>;
type Told = Result<WatchMatrixResponse, Refusal>;
type Answers<T> = Pin<Box<dyn tokio_stream::Stream<Item = Result<T, Refusal>> + Send>>;

#[derive(Default)]
struct Agent {
    now: Mutex<WatchMatrixResponse>,
    streams: Mutex<Vec<mpsc::UnboundedSender<Told>>>,
    asked: Mutex<Vec<String>>,
    /// After so many batches a stream breaks, once one more is durable.
    breaks: Mutex<Vec<usize>>,
    durable: Mutex<HashMap<String, u64>>,
    /// Consumer, version, when, value.
    outcomes: Mutex<Vec<(String, u64, i64, f64)>>,
}

/// One of these series, whose pairs all have the same value.
fn matrix(version: u64, series: &[&str], value: f64) -> v1::Matrix {
    let upper = vec![value; series.len() * series.len().saturating_sub(1) / 2];
    let series = series.iter().map(|name| (*name).to_owned()).collect();
    v1::Matrix { version, series, upper, digest: format!("digest-{version}") }
}

impl Agent {
    /// Sets the matrix, and tells whoever watches.
    fn set(&self, matrix: Option<v1::Matrix>, canary: bool) {
        let now = WatchMatrixResponse { matrix, canary };
        *self.now.lock().unwrap() = now.clone();
        self.streams.lock().unwrap().retain(|stream| stream.send(Ok(now.clone())).is_ok());
    }

    fn keep(&self, batch: ReportMatrixOutcomesRequest) -> ReportMatrixOutcomesResponse {
        let ReportMatrixOutcomesRequest { producer, sequence, columns } = batch;
        let mut answer = ReportMatrixOutcomesResponse { sequence, ..Default::default() };
        let mut durable = self.durable.lock().unwrap();
        let last = durable.entry(producer.clone()).or_default();
        if sequence <= *last {
            return ReportMatrixOutcomesResponse { repeated_batch: true, ..answer };
        }
        *last = sequence;
        for column in columns {
            for (at, value) in column.unix_nanos.into_iter().zip(column.value) {
                let tried = column.version < 9;
                *(if tried { &mut answer.counted } else { &mut answer.other_version }) += 1;
                self.outcomes.lock().unwrap().push((producer.clone(), column.version, at, value));
            }
        }
        answer
    }
}

struct Server(Arc<Agent>);

fn unused<T>() -> Answer<T> {
    Err(Refusal::unimplemented("not here"))
}

#[tonic::async_trait]
impl MatrixService for Server {
    type WatchMatrixStream = Answers<WatchMatrixResponse>;
    type ReportMatrixOutcomesStream = Answers<ReportMatrixOutcomesResponse>;

    async fn watch_matrix(
        &self,
        request: Request<WatchMatrixRequest>,
    ) -> Answer<Self::WatchMatrixStream> {
        self.0.asked.lock().unwrap().push(request.into_inner().consumer);
        let (sender, receiver) = mpsc::unbounded_channel();
        sender.send(Ok(self.0.now.lock().unwrap().clone())).unwrap();
        self.0.streams.lock().unwrap().push(sender);
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(receiver))))
    }

    async fn report_matrix_outcomes(
        &self,
        request: Request<Streaming<ReportMatrixOutcomesRequest>>,
    ) -> Answer<Self::ReportMatrixOutcomesStream> {
        let agent = self.0.clone();
        let mut left = agent.breaks.lock().unwrap().pop();
        let (answers, received) = mpsc::unbounded_channel();
        let mut batches = request.into_inner();
        tokio::spawn(async move {
            while let Some(Ok(batch)) = batches.next().await {
                let answer = agent.keep(batch);
                if left == Some(0) {
                    let _ = answers.send(Err(Refusal::unavailable("draining")));
                    return;
                }
                left = left.map(|left| left - 1);
                if answers.send(Ok(answer)).is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(received))))
    }

    async fn update_matrix(&self, _: Request<UpdateMatrixRequest>) -> Answer<UpdateMatrixResponse> {
        unused()
    }

    async fn plan_update_matrix(&self, _: Request<UpdateMatrixRequest>) -> Answer<PlanResponse> {
        unused()
    }

    async fn get_matrix(&self, _: Request<GetMatrixRequest>) -> Answer<GetMatrixResponse> {
        unused()
    }

    async fn get_fleet_matrix(
        &self,
        _: Request<GetFleetMatrixRequest>,
    ) -> Answer<GetFleetMatrixResponse> {
        unused()
    }

    async fn list_matrices(&self, _: Request<ListMatricesRequest>) -> Answer<ListMatricesResponse> {
        unused()
    }

    async fn rollback_matrix(
        &self,
        _: Request<RollbackMatrixRequest>,
    ) -> Answer<RollbackMatrixResponse> {
        unused()
    }

    async fn plan_rollback_matrix(
        &self,
        _: Request<RollbackMatrixRequest>,
    ) -> Answer<PlanResponse> {
        unused()
    }

    async fn get_rollout(&self, _: Request<GetRolloutRequest>) -> Answer<GetRolloutResponse> {
        unused()
    }

    async fn advance_rollout(
        &self,
        _: Request<AdvanceRolloutRequest>,
    ) -> Answer<AdvanceRolloutResponse> {
        unused()
    }

    async fn plan_advance_rollout(
        &self,
        _: Request<AdvanceRolloutRequest>,
    ) -> Answer<PlanResponse> {
        unused()
    }

    async fn abort_rollout(&self, _: Request<AbortRolloutRequest>) -> Answer<AbortRolloutResponse> {
        unused()
    }

    async fn plan_abort_rollout(&self, _: Request<AbortRolloutRequest>) -> Answer<PlanResponse> {
        unused()
    }
}

fn serve_at(path: &Path, agent: &Arc<Agent>) -> AbortHandle {
    let listener = tokio::net::UnixListener::bind(path).unwrap();
    let service = MatrixServiceServer::new(Server(agent.clone()));
    let server = tonic::transport::Server::builder().add_service(service);
    tokio::spawn(server.serve_with_incoming(UnixListenerStream::new(listener))).abort_handle()
}

struct Served {
    _folder: tempfile::TempDir,
    node: Node,
    agent: Arc<Agent>,
}

fn serve(now: Option<v1::Matrix>) -> Served {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.sock");
    let agent = Arc::new(Agent::default());
    agent.set(now, false);
    serve_at(&path, &agent);
    Served { node: Node::unix(path).unwrap(), _folder: folder, agent }
}

impl Served {
    fn follower(&self) -> Follower {
        Follower::follow(self.node.clone(), Options::default(), "risk-1").unwrap()
    }

    async fn client(&self) -> Client {
        Client::connect(&self.node, Options::default()).await.unwrap()
    }
}

/// Until it holds: what happens in the background has no other sign.
async fn until(holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LONG, waiting).await.unwrap();
}

async fn changed(follower: &Follower, seen: u64) -> Arc<Matrix> {
    tokio::time::timeout(LONG, follower.changed(seen)).await.unwrap()
}

#[tokio::test]
async fn the_matrix_is_followed_and_kept_while_the_agent_is_away() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.sock");
    let node = Node::unix(&path).unwrap();
    let follower = Follower::follow(node, Options::default(), "risk-1").unwrap();
    let error = follower.ready(Duration::from_millis(50)).await.unwrap_err();
    assert_eq!((error.kind, error.reason.as_str()), (Kind::Unavailable, "MATRIX_MISSING"));
    assert!(error.next.contains("genesisctl status"), "{}", error.next);
    assert!(follower.current().is_none());
    let status = follower.status();
    assert!(status.version.is_none() && status.stale_for.is_some(), "{status:?}");

    let agent = Arc::new(Agent::default());
    agent.set(Some(matrix(3, &["BTC", "ETH", "SOL"], 0.5)), true);
    let server = serve_at(&path, &agent);
    follower.ready(LONG).await.unwrap();
    let first = follower.current().unwrap();
    assert_eq!((first.version(), first.is_canary(), first.digest()), (3, true, "digest-3"));
    assert_eq!(first.series(), ["BTC", "ETH", "SOL"]);
    assert_eq!((first.between("SOL", "BTC"), first.get(1, 1)), (Some(0.5), Some(1.0)));
    assert_eq!(first.between("BTC", "DOGE"), None);
    assert!(follower.status().stale_for.is_none());
    assert_eq!(*agent.asked.lock().unwrap(), ["risk-1"]);

    agent.set(Some(matrix(4, &["BTC", "ETH"], 0.25)), false);
    let second = changed(&follower, 3).await;
    assert_eq!((second.version(), second.is_canary()), (4, false));
    assert_eq!(second, follower.current().unwrap());
    // What was taken before stays as it was, all of it.
    assert_eq!((first.version(), first.between("SOL", "ETH")), (3, Some(0.5)));

    let gone = Refusal::unavailable("draining");
    let streams: Vec<_> = agent.streams.lock().unwrap().drain(..).collect();
    streams.iter().for_each(|stream| stream.send(Err(gone.clone())).unwrap());
    server.abort();
    std::fs::remove_file(&path).unwrap();
    until(|| follower.status().stale_for.is_some()).await;
    assert_eq!(follower.current().unwrap().version(), 4, "the last one");
    let before = follower.status().stale_for.unwrap();
    until(|| follower.status().stale_for.unwrap() > before).await;
    assert!(follower.status().last_error.is_some());

    agent.set(Some(matrix(5, &["BTC"], 0.0)), false);
    let _server = serve_at(&path, &agent);
    assert_eq!(changed(&follower, 4).await.version(), 5);
    let status = follower.status();
    assert!(status.stale_for.is_none() && status.reconnects >= 1, "{status:?}");
    assert_eq!(status.version, Some(5));
}

#[tokio::test]
async fn an_agent_without_a_matrix_says_so() {
    let served = serve(None);
    let follower = served.follower();
    until(|| follower.status().stale_for.is_none()).await;
    let error = follower.ready(Duration::from_millis(20)).await.unwrap_err();
    assert_eq!(error.reason, "MATRIX_MISSING");
    assert!(error.message.contains("has had no matrix"), "{error}");
    assert!(error.next.contains("genesisctl matrix update"), "{}", error.next);
    assert!(follower.current().is_none() && follower.status().version.is_none());

    served.agent.set(Some(matrix(1, &["BTC", "ETH"], 0.5)), false);
    assert_eq!(changed(&follower, 0).await.version(), 1);
    follower.ready(LONG).await.unwrap();
    // And one whose state is empty again has none to use.
    served.agent.set(None, false);
    until(|| follower.current().is_none()).await;
    served.agent.set(Some(matrix(2, &["BTC", "ETH"], 0.5)), false);
    assert_eq!(changed(&follower, 1).await.version(), 2);
}

#[tokio::test]
async fn a_matrix_that_is_none_is_refused_and_the_old_one_stays() {
    let served = serve(Some(matrix(1, &["BTC", "ETH"], 0.5)));
    let follower = served.follower();
    follower.ready(LONG).await.unwrap();
    let mut short = matrix(2, &["BTC", "ETH", "SOL"], 0.5);
    short.upper.pop();
    for (number, bad, why) in [
        (3, short, "3 series have other than 2 pairs"),
        (4, matrix(2, &["BTC", "ETH"], 1.5), "the value 1.5 is not from -1 to 1"),
        (5, matrix(2, &["BTC", "ETH"], f64::NAN), "the value NaN is not from -1 to 1"),
    ] {
        let before = follower.current().unwrap();
        served.agent.set(Some(bad), false);
        until(|| follower.status().stale_for.is_some()).await;
        let status = follower.status();
        assert_eq!(status.version, Some(before.version()), "{status:?}");
        let error = status.last_error.unwrap();
        assert_eq!(error.reason, "MATRIX_UNUSABLE");
        assert!(error.message.contains(why), "{error}");
        assert_eq!(follower.current().unwrap(), before);
        served.agent.set(Some(matrix(number, &["BTC", "ETH"], 0.25)), false);
        assert_eq!(changed(&follower, before.version()).await.version(), number);
        assert!(follower.status().stale_for.is_none());
    }
    assert_eq!(follower.status().reconnects, 0, "the agent is there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_sees_a_mixture_of_two() {
    const LAST: u64 = 400;
    const NAMES: [&str; 5] = ["BTC", "DOGE", "ETH", "SOL", "XRP"];
    let made = |version: u64| {
        matrix(version, &NAMES[..2 + version as usize % 4], (version % 8) as f64 / 8.0)
    };
    let served = serve(Some(made(1)));
    let follower = served.follower();
    follower.ready(LONG).await.unwrap();
    let reader = follower.clone();
    let reading = std::thread::spawn(move || {
        let (mut last, mut seen) = (0, 0);
        while last < LAST {
            let now = reader.current().unwrap();
            assert!(now.version() >= last, "{} after {last}", now.version());
            seen += u32::from(now.version() > last);
            last = now.version();
            let size = 2 + last as usize % 4;
            assert_eq!(now.series(), &NAMES[..size]);
            for (i, j) in (0..size).flat_map(|i| (0..i).map(move |j| (i, j))) {
                assert_eq!(now.get(i, j), Some((last % 8) as f64 / 8.0), "{i} {j} of {last}");
            }
        }
        seen
    });
    for version in 2..=LAST {
        served.agent.set(Some(made(version)), false);
        if version % 50 == 0 {
            until(|| follower.status().version == Some(version)).await;
        }
    }
    until(|| reading.is_finished()).await;
    assert!(reading.join().unwrap() > 1);
}

#[tokio::test]
async fn outcomes_count_once_each_over_breaks_and_restarts() {
    let served = serve(Some(matrix(3, &["BTC", "ETH"], 0.5)));
    *served.agent.breaks.lock().unwrap() = vec![2, 0, 5];
    let mut wanted = Vec::new();
    // The second time it is the same program, started again.
    for run in 0..2 {
        let options = PusherOptions {
            batch: 10,
            linger: Duration::from_millis(20),
            in_flight: 4,
            ..options("risk-1").unwrap()
        };
        let pusher = OutcomePusher::start(served.client().await, options).unwrap();
        let recorder = pusher.handle();
        let fourth = recorder.version(4).unwrap();
        for number in 0..200 {
            assert!(recorder.report(3, 1_000 * run + number, number as f64));
            assert!(fourth.report(1_000 * run + number, -0.5));
            wanted.push(("risk-1".to_owned(), 3, 1_000 * run + number, number as f64));
            wanted.push(("risk-1".to_owned(), 4, 1_000 * run + number, -0.5));
        }
        pusher.flush(LONG).await.unwrap();
        let stats = pusher.close(LONG).await;
        assert_eq!((stats.sent, stats.acknowledged, stats.buffered), (400, 400, 0), "{stats:?}");
        assert_eq!(stats.answered.counted + stats.had_before, 400, "{stats:?}");
        assert_eq!(stats.reconnects >= 3, run == 0, "{stats:?}");
        assert_ne!(
            stats.last_error.map(|error| error.reason.clone()).as_deref(),
            Some("SEQUENCE_REPEATED")
        );
    }
    let order = |one: &(String, u64, i64, f64), other: &(String, u64, i64, f64)| {
        (one.1, one.2).cmp(&(other.1, other.2))
    };
    let mut came = served.agent.outcomes.lock().unwrap().clone();
    came.sort_by(order);
    wanted.sort_by(order);
    assert_eq!(came, wanted);
}

#[tokio::test]
async fn outcomes_without_room_or_sense_are_dropped_and_nobody_waits() {
    let served = serve(None);
    let options = PusherOptions { capacity: 5, ..options("risk-1").unwrap() };
    let pusher = OutcomePusher::start(served.client().await, options).unwrap();
    let recorder = pusher.handle();
    let third = recorder.version(3).unwrap();
    assert!(!recorder.report(0, 1, 1.0) && !recorder.report(3, 1, f64::NAN));
    assert!(!third.report(1, f64::INFINITY));
    assert_eq!(recorder.version(0).unwrap_err().reason, "OUTCOME_INVALID");
    let stats = pusher.stats();
    assert_eq!((stats.dropped, stats.buffered), (3, 0), "{stats:?}");
    assert_eq!(stats.last_error.unwrap().reason, "OUTCOME_INVALID");
    // The runtime does nothing meanwhile, so nothing is sent.
    let kept = (0..1_000).filter(|number| recorder.report(3, *number, 1.0)).count();
    assert_eq!(kept, 5);
    let stats = pusher.close(LONG).await;
    assert_eq!((stats.answered.counted, stats.dropped), (5, 3 + 995), "{stats:?}");
    assert!(recorder.is_closed() && !third.report(1, 1.0));
}

#[tokio::test]
async fn a_consumer_reports_by_the_matrix_that_it_used() {
    let served = serve(Some(matrix(3, &["BTC", "ETH"], 0.5)));
    let consumer = Consumer::follow(served.node.clone(), Options::default(), "risk-1").unwrap();
    consumer.follower().ready(LONG).await.unwrap();
    let used = consumer.current().unwrap();
    assert!(consumer.report(&used, 7, 12.5));
    served.agent.set(Some(matrix(9, &["BTC", "ETH"], 0.25)), true);
    let next = changed(consumer.follower(), 3).await;
    assert_eq!(consumer.current().as_ref(), Some(&next));
    // Of the one before, and of one that is not on trial any more.
    assert!(consumer.report(&used, 8, -1.0) && consumer.report(&next, 9, 1.0));
    assert_eq!(consumer.outcomes().producer(), "risk-1");
    consumer.outcomes().flush(LONG).await.unwrap();
    let stats = consumer.close(LONG).await;
    assert_eq!((stats.answered.counted, stats.answered.other_version), (2, 1), "{stats:?}");
    let mut came = served.agent.outcomes.lock().unwrap().clone();
    came.sort_by_key(|one| one.2);
    let of = |version, at, value| ("risk-1".to_owned(), version, at, value);
    assert_eq!(came, [of(3, 7, 12.5), of(3, 8, -1.0), of(9, 9, 1.0)]);
    assert_eq!(*served.agent.asked.lock().unwrap(), ["risk-1"]);
    let stream = served.agent.streams.lock().unwrap()[0].clone();
    tokio::time::timeout(LONG, stream.closed()).await.unwrap();
}

#[tokio::test]
async fn it_ends_with_its_last_clone_and_ids_are_looked_at() {
    let served = serve(Some(matrix(1, &["BTC", "ETH"], 0.5)));
    let client = served.client().await;
    for id in ["no id", &*"x".repeat(65), "é"] {
        let errors = [
            Follower::start(client.clone(), id).unwrap_err(),
            Consumer::start(client.clone(), id).unwrap_err(),
            options(id).unwrap_err(),
        ];
        for error in errors {
            assert_eq!((error.kind, error.reason.as_str()), (Kind::Invalid, "CONSUMER_INVALID"));
        }
    }
    assert!(Consumer::start(client.clone(), "").is_err(), "whose outcomes would they be");
    // Without an id it is the active one.
    let follower = Follower::start(client, "").unwrap();
    follower.ready(LONG).await.unwrap();
    assert_eq!(*served.agent.asked.lock().unwrap(), [""]);
    let (clone, stream) = (follower.clone(), served.agent.streams.lock().unwrap()[0].clone());
    drop(follower);
    assert_eq!(clone.current().unwrap().version(), 1);
    drop(clone);
    tokio::time::timeout(LONG, stream.closed()).await.unwrap();
}
