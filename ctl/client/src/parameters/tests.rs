//! The follower against a fake agent on a unix socket.

use std::path::Path;
use std::pin::Pin;
use std::sync::Mutex;

use genesis_proto::v1::parameter_service_server::{ParameterService, ParameterServiceServer};
use genesis_proto::v1::*;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio_stream::wrappers::{UnboundedReceiverStream, UnixListenerStream};
use tonic::{Request, Response, Status};

use super::*;

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(20);

type Answer<T> = Result<Response<T>, Status>;
type Answers =
    Pin<Box<dyn tokio_stream::Stream<Item = Result<GetParametersResponse, Status>> + Send>>;

#[derive(Default)]
struct Agent {
    now: Mutex<GetParametersResponse>,
    streams: Mutex<Vec<mpsc::UnboundedSender<Result<GetParametersResponse, Status>>>>,
    asked: Mutex<Vec<GetParametersRequest>>,
}

impl Agent {
    /// Sets the values, and tells whoever watches.
    fn set(&self, revision: u64, values: &[(&str, &str)]) {
        let value = |(name, value): &(&str, &str)| ParameterValue {
            name: (*name).into(),
            value: (*value).into(),
            version: revision,
            experiment: "TEST_1".into(),
            arm: "variant".into(),
        };
        let values = values.iter().map(value).collect();
        *self.now.lock().unwrap() = GetParametersResponse { values, revision };
        let now = self.now.lock().unwrap().clone();
        self.streams.lock().unwrap().retain(|stream| stream.send(Ok(now.clone())).is_ok());
    }
}

struct Server(Arc<Agent>);

fn unused<T>() -> Answer<T> {
    Err(Status::unimplemented("not here"))
}

#[tonic::async_trait]
impl ParameterService for Server {
    type WatchParametersStream = Answers;

    async fn watch_parameters(&self, request: Request<GetParametersRequest>) -> Answer<Answers> {
        self.0.asked.lock().unwrap().push(request.into_inner());
        let (sender, receiver) = mpsc::unbounded_channel();
        sender.send(Ok(self.0.now.lock().unwrap().clone())).unwrap();
        self.0.streams.lock().unwrap().push(sender);
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(receiver))))
    }

    async fn list_parameters(
        &self,
        _: Request<ListParametersRequest>,
    ) -> Answer<ListParametersResponse> {
        unused()
    }

    async fn get_parameters(
        &self,
        _: Request<GetParametersRequest>,
    ) -> Answer<GetParametersResponse> {
        unused()
    }

    async fn set_parameter(&self, _: Request<SetParameterRequest>) -> Answer<SetParameterResponse> {
        unused()
    }

    async fn plan_set_parameter(&self, _: Request<SetParameterRequest>) -> Answer<PlanResponse> {
        unused()
    }

    async fn list_parameter_history(
        &self,
        _: Request<ListParameterHistoryRequest>,
    ) -> Answer<ListParameterHistoryResponse> {
        unused()
    }

    async fn rollback_parameter(
        &self,
        _: Request<RollbackParameterRequest>,
    ) -> Answer<RollbackParameterResponse> {
        unused()
    }

    async fn plan_rollback_parameter(
        &self,
        _: Request<RollbackParameterRequest>,
    ) -> Answer<PlanResponse> {
        unused()
    }
}

fn serve_at(path: &Path, agent: &Arc<Agent>) -> AbortHandle {
    let listener = tokio::net::UnixListener::bind(path).unwrap();
    let service = ParameterServiceServer::new(Server(agent.clone()));
    let server = tonic::transport::Server::builder().add_service(service);
    tokio::spawn(server.serve_with_incoming(UnixListenerStream::new(listener))).abort_handle()
}

#[tokio::test]
async fn values_are_followed_and_kept_while_the_agent_is_away() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.sock");
    let node = Node::unix(&path).unwrap();
    let follower = Follower::follow(node, Options::default(), "spread", "account-7").unwrap();
    let error = follower.ready(Duration::from_millis(50)).await.unwrap_err();
    assert_eq!((error.kind, error.reason.as_str()), (Kind::Unavailable, "PARAMETERS_MISSING"));
    assert!(follower.get("threshold").is_none());
    let status = follower.status();
    assert!(status.revision.is_none() && status.stale_for.is_some(), "{status:?}");

    let agent = Arc::new(Agent::default());
    agent.set(3, &[("threshold", "0.003"), ("window", "30s")]);
    let server = serve_at(&path, &agent);
    follower.ready(LONG).await.unwrap();
    assert_eq!(follower.get("threshold").as_deref(), Some("0.003"));
    assert!(follower.get("other").is_none());
    let values = follower.values();
    assert_eq!((values.revision(), values.iter().count()), (3, 2));
    let value = values.get("threshold").unwrap();
    assert_eq!((&*value.experiment, &*value.arm, value.version), ("TEST_1", "variant", 3));
    assert!(follower.status().stale_for.is_none());
    let asked = GetParametersRequest { strategy: "spread".into(), unit: "account-7".into() };
    assert_eq!(*agent.asked.lock().unwrap(), [asked]);

    let changed = follower.changed(3);
    agent.set(4, &[("threshold", "0.002")]);
    let changed = tokio::time::timeout(LONG, changed).await.unwrap();
    assert_eq!(changed.revision(), 4);
    assert_eq!(
        (follower.get("threshold").as_deref(), follower.get("window")),
        (Some("0.002"), None)
    );
    // What was taken before stays as it was, all of it.
    assert_eq!(values.iter().count(), 2);

    let gone = Status::unavailable("draining");
    agent
        .streams
        .lock()
        .unwrap()
        .drain(..)
        .for_each(|stream| stream.send(Err(gone.clone())).unwrap());
    server.abort();
    std::fs::remove_file(&path).unwrap();
    let stale = async {
        while follower.status().stale_for.is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LONG, stale).await.unwrap();
    assert_eq!(follower.get("threshold").as_deref(), Some("0.002"), "the last one");
    let before = follower.status().stale_for.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    let status = follower.status();
    assert!(status.stale_for.unwrap() >= before + Duration::from_millis(20), "{status:?}");
    assert!(status.last_error.is_some());

    agent.set(5, &[("threshold", "0.001")]);
    let _server = serve_at(&path, &agent);
    let changed = tokio::time::timeout(LONG, follower.changed(4)).await.unwrap();
    assert_eq!(changed.get("threshold").map(|value| &*value.text), Some("0.001"));
    let status = follower.status();
    assert!(status.stale_for.is_none() && status.reconnects >= 1, "{status:?}");
}

#[tokio::test]
async fn it_ends_with_its_last_clone_and_names_are_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.sock");
    let agent = Arc::new(Agent::default());
    agent.set(1, &[("a", "1")]);
    let _server = serve_at(&path, &agent);
    let node = Node::unix(&path).unwrap();
    let client = Client::connect(&node, Options::default()).await.unwrap();
    for (strategy, unit, reason) in [
        ("", "u", "PARAMETER_INVALID"),
        ("a.b", "u", "PARAMETER_INVALID"),
        (&*"x".repeat(65), "u", "PARAMETER_INVALID"),
        ("a", &*"x".repeat(257), "UNIT_INVALID"),
    ] {
        let error = Follower::start(client.clone(), strategy, unit).unwrap_err();
        assert_eq!((error.kind, error.reason.as_str()), (Kind::Invalid, reason));
    }
    let follower = Follower::start(client, "spread", "").unwrap();
    follower.ready(LONG).await.unwrap();
    let (clone, stream) = (follower.clone(), agent.streams.lock().unwrap()[0].clone());
    drop(follower);
    assert_eq!(clone.get("a").as_deref(), Some("1"));
    drop(clone);
    tokio::time::timeout(LONG, stream.closed()).await.unwrap();
}
