//! Nodes, errors, retries and the resumed watch, against a fake agent on a unix socket.

mod context;
mod pki;
mod retry;
mod tls;

use std::collections::{HashMap, VecDeque};
use std::ops::ControlFlow;
use std::path::Path;
use std::pin::Pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use genesis_proto::v1::run_service_server::{RunService, RunServiceServer};
use genesis_proto::v1::*;
use proptest::prelude::*;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, PreconditionViolation, StatusExt};

use crate::calls::CALLS;
use crate::*;

#[test]
fn the_static_table_of_calls_is_the_contract() {
    let policies = genesis_proto::method_policies();
    assert_eq!(CALLS.len(), policies.len());
    for call in CALLS {
        let policy = policies[&format!("/{}/{}", call.service, call.method)];
        assert_eq!(call.mutating, policy.mutating, "{call:?}");
        assert_eq!(call.destructive, policy.destructive, "{call:?}");
        assert_eq!(call.urgent, policy.urgent, "{call:?}");
        let service = genesis_proto::pool().get_service_by_name(call.service).unwrap();
        let method = service.methods().find(|method| method.name() == call.method).unwrap();
        assert_eq!(call.streaming, method.is_server_streaming(), "{call:?}");
        assert!(
            !call.streaming || !call.mutating,
            "{call:?}: `Client::next` assumes that streams read"
        );
    }
}

#[test]
fn nodes_are_parsed_and_shown() {
    for (text, shown) in [
        ("unix:/run/genesis/agent.sock", "unix:/run/genesis/agent.sock"),
        ("unix:///run/genesis/agent.sock", "unix:/run/genesis/agent.sock"),
        ("/run/genesis/agent.sock", "unix:/run/genesis/agent.sock"),
        (" web-1:7443 ", "web-1:7443"),
        ("10.0.0.1:1", "10.0.0.1:1"),
        ("[::1]:7443", "[::1]:7443"),
    ] {
        let node: Node = text.parse().unwrap();
        assert_eq!(node.to_string(), shown);
        assert_eq!(shown.parse::<Node>().unwrap(), node);
    }
}

#[test]
fn what_is_no_node_is_refused_with_a_hint() {
    for (text, hint) in [
        ("", "empty"),
        ("web-1", "web-1:7443"),
        ("web-1:0", "1 to 65535"),
        ("web-1:+80", "1 to 65535"),
        ("web-1:99999", "1 to 65535"),
        (":7443", "host"),
        ("::1:7443", "[address]:port"),
        ("[::1]", "names no port"),
        ("[web]:1", "host"),
        ("we b:1", "host"),
        ("http://web:1", "host"),
        ("unix:agent.sock", "absolute"),
        ("./agent.sock", "absolute"),
    ] {
        let message = text.parse::<Node>().unwrap_err().to_string();
        assert!(message.contains(hint), "{text:?}: {message}");
    }
    let at_limit = format!("/{}", "s".repeat(SOCKET_PATH_LIMIT - 1));
    assert!(at_limit.parse::<Node>().is_ok());
    let message = format!("{at_limit}s").parse::<Node>().unwrap_err().to_string();
    assert!(message.contains("107") && message.contains("108") && message.contains("shorter"));
}

proptest! {
    #[test]
    fn no_text_panics_the_parser_and_a_shown_node_parses_again(text in "\\PC{0,40}|[a-z\\[\\]:/.0-9]{0,24}") {
        if let Ok(node) = text.parse::<Node>() {
            prop_assert_eq!(node.to_string().parse::<Node>().unwrap(), node);
        }
    }

    #[test]
    fn any_reason_can_be_sent_and_loses_only_control_characters(text in any::<String>()) {
        let sent = metadata::reason_value(&text).unwrap();
        let expected: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        prop_assert_eq!(sent.as_bytes(), expected.as_bytes());
    }
}

#[test]
fn the_local_agent_is_found() {
    let none = |_: &str| None;
    assert_eq!(local_sockets(none).unwrap(), ["/run/genesis/agent.sock".parse().unwrap()]);
    let home = |name: &str| (name == "HOME").then(|| "/home/ada".to_owned());
    let user = "/home/ada/.local/state/genesis/agent.sock".parse::<Node>().unwrap();
    assert_eq!(local_sockets(home).unwrap()[1], user);

    let state = tempfile::tempdir().unwrap();
    let env = |name: &str| match name {
        "XDG_STATE_HOME" => Some(state.path().display().to_string()),
        _ => None,
    };
    let socket = state.path().join("genesis/agent.sock");
    std::fs::create_dir(state.path().join("genesis")).unwrap();
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    // A machine on which a system agent runs as well would answer first.
    if !Path::new("/run/genesis/agent.sock").exists() {
        assert_eq!(discover(env).unwrap(), [Node::Unix(socket)]);
    }
    let named = |name: &str| (name == "GENESISCTL_NODES").then(|| "a:1, /b.sock".to_owned());
    let nodes = discover(named).unwrap();
    assert_eq!(nodes.iter().map(ToString::to_string).collect::<Vec<_>>(), ["a:1", "unix:/b.sock"]);
    assert!(discover(|_| Some("a:1,,".to_owned())).is_err());
}

#[test]
fn a_status_becomes_an_error_that_says_what_to_do() {
    let node: Node = "web-1:7443".parse().unwrap();
    let mut details = ErrorDetails::new();
    details
        .set_error_info("RETENTION_NOT_REACHED", "genesis", HashMap::new())
        .set_precondition_failure(vec![PreconditionViolation::new(
            "RETENTION",
            "app",
            "30d < 365d",
        )]);
    let status = Status::with_error_details(Code::FailedPrecondition, "can't clean up", details);
    let error = Error::from_status(&node, true, status);
    assert_eq!(error.kind, Kind::Refused);
    assert_eq!(
        (error.code, error.reason.as_str()),
        ("FAILED_PRECONDITION", "RETENTION_NOT_REACHED")
    );
    assert_eq!(error.violations[0].message, "30d < 365d");
    assert!(error.next.contains("retention"));
    assert_eq!(error.to_string(), "can't clean up");

    let told = HashMap::from([("next".to_owned(), "free 3 GB on /var".to_owned())]);
    let details = ErrorDetails::with_error_info("ANY", "genesis", told);
    let status = Status::with_error_details(Code::Internal, "x", details);
    assert_eq!(Error::from_status(&node, false, status).next, "free 3 GB on /var");

    for (code, reading, changing) in [
        (Code::InvalidArgument, Kind::Invalid, Kind::Invalid),
        (Code::NotFound, Kind::NotFound, Kind::NotFound),
        (Code::Aborted, Kind::Conflict, Kind::Conflict),
        (Code::AlreadyExists, Kind::Conflict, Kind::Conflict),
        (Code::PermissionDenied, Kind::NotAllowed, Kind::NotAllowed),
        (Code::Unauthenticated, Kind::Unauthenticated, Kind::Unauthenticated),
        (Code::Unavailable, Kind::Unavailable, Kind::Unavailable),
        (Code::DataLoss, Kind::Incomplete, Kind::Incomplete),
        (Code::DeadlineExceeded, Kind::Unavailable, Kind::Incomplete),
        (Code::Internal, Kind::Internal, Kind::Internal),
        (Code::Unimplemented, Kind::Internal, Kind::Internal),
    ] {
        let error = |mutating| Error::from_status(&node, mutating, Status::new(code, "m"));
        assert_eq!((error(false).kind, error(true).kind), (reading, changing), "{code:?}");
        assert!(!error(false).next.is_empty());
    }
}

/// Answers as its script says; keeps what it was sent.
#[derive(Default)]
struct FakeRuns {
    sheds: AtomicU32,
    watches: AtomicU32,
    ids: Mutex<Vec<(String, Option<String>, bool)>>,
    hang: bool,
    /// What becomes of the calls, one after the other; then they are answered.
    script: Mutex<VecDeque<Act>>,
    /// Told when a connection has to break.
    cut: tokio::sync::Notify,
}

/// What becomes of a call.
enum Act {
    /// The connection breaks while the call is worked on.
    Break,
    /// It is not carried out.
    Fail(Status),
}

impl FakeRuns {
    fn keep<T>(&self, request: &Request<T>) {
        let text = |key: &str| {
            let value = request.metadata().get(key)?;
            Some(String::from_utf8(value.as_bytes().to_vec()).unwrap())
        };
        let deadline = request.metadata().contains_key("grpc-timeout");
        let id = text(REQUEST_ID_KEY).unwrap();
        self.ids.lock().unwrap().push((id, text(REASON_KEY), deadline));
    }

    async fn act(&self) -> Result<(), Status> {
        let act = self.script.lock().unwrap().pop_front();
        match act {
            Some(Act::Break) => {
                self.cut.notify_one();
                std::future::pending().await
            }
            Some(Act::Fail(status)) => Err(status),
            None => Ok(()),
        }
    }
}

fn run(state: RunState, done: u64) -> Run {
    Run {
        id: "01J0000000000000000000000A".into(),
        state: state.into(),
        progress: Some(Progress { done, ..Progress::default() }),
        ..Run::default()
    }
}

#[tonic::async_trait]
impl RunService for FakeRuns {
    async fn list_runs(
        &self,
        request: Request<ListRunsRequest>,
    ) -> Result<Response<ListRunsResponse>, Status> {
        self.keep(&request);
        self.act().await?;
        if self.hang {
            tokio::time::sleep(Duration::from_secs(3600)).await;
        }
        if self.sheds.load(Ordering::SeqCst) > 0 {
            self.sheds.fetch_sub(1, Ordering::SeqCst);
            let details = ErrorDetails::with_retry_info(Some(Duration::from_millis(5)));
            return Err(Status::with_error_details(Code::ResourceExhausted, "busy", details));
        }
        Ok(Response::new(ListRunsResponse::default()))
    }

    async fn get_run(&self, _: Request<GetRunRequest>) -> Result<Response<GetRunResponse>, Status> {
        Err(Status::resource_exhausted("too large, and it will stay so"))
    }

    type WatchRunStream =
        Pin<Box<dyn tokio_stream::Stream<Item = Result<WatchRunResponse, Status>> + Send>>;

    async fn watch_run(
        &self,
        request: Request<WatchRunRequest>,
    ) -> Result<Response<Self::WatchRunStream>, Status> {
        self.keep(&request);
        if request.get_ref().id == "absent" {
            return Err(Status::not_found("no run absent"));
        }
        let of = |run| Ok(WatchRunResponse { run: Some(run) });
        let script = match self.watches.fetch_add(1, Ordering::SeqCst) {
            // The agent goes down in the middle, comes back busy, closes early, then has the end.
            0 => vec![of(run(RunState::Running, 1)), Err(Status::unavailable("draining"))],
            1 => return Err(Status::unavailable("starting")),
            2 => vec![of(run(RunState::Running, 1)), of(run(RunState::Running, 2))],
            _ => vec![of(run(RunState::Running, 2)), of(run(RunState::Interrupted, 2))],
        };
        Ok(Response::new(Box::pin(tokio_stream::iter(script))))
    }

    async fn plan_cancel_run(
        &self,
        _: Request<CancelRunRequest>,
    ) -> Result<Response<PlanResponse>, Status> {
        Ok(Response::new(PlanResponse::default()))
    }

    async fn cancel_run(
        &self,
        request: Request<CancelRunRequest>,
    ) -> Result<Response<CancelRunResponse>, Status> {
        self.keep(&request);
        self.act().await?;
        if self.hang {
            tokio::time::sleep(Duration::from_secs(3600)).await;
        }
        Ok(Response::new(CancelRunResponse::default()))
    }
}

async fn serve(fake: FakeRuns) -> (tempfile::TempDir, Node, std::sync::Arc<FakeRuns>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let fake = std::sync::Arc::new(fake);
    let service = RunServiceServer::from_arc(fake.clone());
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(UnixListenerStream::new(listener)),
    );
    (folder, Node::unix(path).unwrap(), fake)
}

async fn list(client: &Client) -> Result<ListRunsResponse, Error> {
    client.call(ListRunsRequest::default(), |c, r| async move { c.runs().list_runs(r).await }).await
}

async fn cancel(client: &Client) -> Result<CancelRunResponse, Error> {
    client
        .call(CancelRunRequest::default(), |c, r| async move { c.runs().cancel_run(r).await })
        .await
}

#[tokio::test]
async fn shed_calls_are_repeated_under_one_id_until_their_time_is_over() {
    let (_folder, node, fake) = serve(FakeRuns { sheds: 3.into(), ..FakeRuns::default() }).await;
    let options =
        Options { reason: "why: 95% full,\nzu voll für heute".into(), ..Options::default() };
    let client = Client::connect(&node, options).await.unwrap();
    list(&client).await.unwrap();
    let sent = std::mem::take(&mut *fake.ids.lock().unwrap());
    assert_eq!(sent.len(), 4);
    assert!(sent.iter().all(|one| one == &sent[0]), "the attempts share id and reason: {sent:?}");
    assert_eq!(sent[0].0.len(), 26);
    assert_eq!(sent[0].1.as_deref(), Some("why: 95% full, zu voll für heute"));
    assert!(sent[0].2, "a unary call carries its deadline");

    fake.sheds.store(u32::MAX, Ordering::SeqCst);
    let hurried = Options { timeout: Duration::from_millis(300), ..Options::default() };
    let hurried = Client::connect(&node, hurried).await.unwrap();
    let error = list(&hurried).await.unwrap_err();
    assert_eq!((error.kind, error.code), (Kind::Unavailable, "RESOURCE_EXHAUSTED"));
    assert!(fake.ids.lock().unwrap().len() > 8, "as often as the agent lets it");

    // Without RetryInfo nothing is repeated.
    let get = client
        .call(GetRunRequest::default(), |c, r| async move { c.runs().get_run(r).await })
        .await;
    assert_eq!(get.unwrap_err().retry_after, None);
}

#[tokio::test]
async fn a_given_request_id_goes_with_the_mutating_call_only() {
    let (_folder, node, fake) = serve(FakeRuns::default()).await;
    let id = "01J00000000000000000000000";
    let options = Options { request_id: Some(id.into()), ..Options::default() };
    let client = Client::connect(&node, options).await.unwrap();
    list(&client).await.unwrap();
    cancel(&client).await.unwrap();
    let sent = std::mem::take(&mut *fake.ids.lock().unwrap());
    assert_ne!(sent[0].0, id);
    assert_eq!(sent[1].0, id);
    let options = Options { request_id: Some("not a ulid".into()), ..Options::default() };
    assert_eq!(Client::connect(&node, options).await.unwrap_err().kind, Kind::Invalid);
}

#[tokio::test]
async fn a_hanging_agent_is_unreachable_to_a_reader_and_leaves_a_change_open() {
    let (_folder, node, _fake) = serve(FakeRuns { hang: true, ..FakeRuns::default() }).await;
    let options = Options { timeout: Duration::from_millis(50), ..Options::default() };
    let client = Client::connect(&node, options).await.unwrap();
    let error = list(&client).await.unwrap_err();
    assert_eq!((error.kind, error.reason.as_str()), (Kind::Unreachable, "AGENT_TIMEOUT"));
    let error = cancel(&client).await.unwrap_err();
    assert_eq!((error.kind, error.reason.as_str()), (Kind::Incomplete, "OUTCOME_UNKNOWN"));
    // Another limit is that of the calls of that client alone.
    let error = list(&client.with_timeout(Duration::from_millis(70))).await.unwrap_err();
    assert!(error.message.ends_with("within 70ms"), "{error}");
    assert!(list(&client).await.unwrap_err().message.ends_with("within 50ms"));
}

#[tokio::test]
async fn an_absent_agent_is_unreachable() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::unix(folder.path().join("agent.sock")).unwrap();
    let error = Client::connect(&node, Options::default()).await.unwrap_err();
    assert_eq!((error.kind, error.reason.as_str()), (Kind::Unreachable, "AGENT_UNREACHABLE"));
    assert_eq!(error.to_string(), format!("no agent answers at {node}"));
    assert!(error.next.contains("genesis-agent"));
}

#[tokio::test]
async fn a_watched_run_is_followed_over_broken_streams_to_its_end() {
    let (_folder, node, fake) = serve(FakeRuns::default()).await;
    let client = Client::connect(&node, Options::default()).await.unwrap();
    let mut seen = Vec::new();
    let ended = client
        .watch_run("01J0000000000000000000000A", |run| {
            seen.push((run.state(), run.progress.as_ref().unwrap().done));
            ControlFlow::Continue(())
        })
        .await
        .unwrap();
    assert_eq!(ended.state(), RunState::Interrupted);
    let expected = [(RunState::Running, 1), (RunState::Running, 2), (RunState::Interrupted, 2)];
    assert_eq!(seen, expected, "each state once, in spite of the repeats after a resume");
    assert_eq!(fake.watches.load(Ordering::SeqCst), 4);
    assert!(fake.ids.lock().unwrap().iter().all(|sent| !sent.2), "a stream carries no deadline");

    let error = client.watch_run("absent", |_| ControlFlow::Continue(())).await.unwrap_err();
    assert_eq!(error.kind, Kind::NotFound);
    fake.watches.store(2, Ordering::SeqCst);
    let stopped = client.watch_run("x", |_| ControlFlow::Break(())).await.unwrap();
    assert_eq!(stopped.state(), RunState::Running);
}
