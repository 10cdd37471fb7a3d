//! What is sent again: calls that were shed, and changing calls whose connection broke.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, listen, socket};
use tokio::net::{UnixListener, UnixStream};

use super::*;

/// Stands between client and agent, and cuts their connection when the agent says so. Afterwards it hangs up on
/// the next `deaf` connections.
struct Cable {
    _folders: [tempfile::TempDir; 2],
    node: Node,
    fake: Arc<FakeRuns>,
    connections: Arc<AtomicUsize>,
}

async fn cable(script: Vec<Act>, deaf: usize) -> Cable {
    let script = Mutex::new(script.into());
    let (behind, upstream, fake) = serve(FakeRuns { script, ..FakeRuns::default() }).await;
    let Node::Unix(upstream) = upstream else { unreachable!() };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cable.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    tokio::spawn(carry(listener, upstream, fake.clone(), connections.clone(), deaf));
    let node = Node::unix(path).unwrap();
    Cable { _folders: [behind, folder], node, fake, connections }
}

async fn carry(
    listener: UnixListener,
    upstream: PathBuf,
    fake: Arc<FakeRuns>,
    connections: Arc<AtomicUsize>,
    deaf: usize,
) {
    loop {
        let (mut client, _) = listener.accept().await.unwrap();
        let earlier = connections.fetch_add(1, Ordering::SeqCst);
        if (1..=deaf).contains(&earlier) {
            continue;
        }
        let mut agent = UnixStream::connect(&upstream).await.unwrap();
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut client, &mut agent) => {}
            () = fake.cut.notified() => {}
        }
    }
}

fn answer(code: Code, reason: &str) -> Act {
    let details = ErrorDetails::with_error_info(reason, "genesis", HashMap::new());
    Act::Fail(Status::with_error_details(code, "as it was", details))
}

fn shed(pause: Duration) -> Act {
    let details = ErrorDetails::with_retry_info(Some(pause));
    Act::Fail(Status::with_error_details(Code::ResourceExhausted, "busy", details))
}

fn sent(fake: &FakeRuns) -> Vec<String> {
    fake.ids.lock().unwrap().iter().map(|(id, ..)| id.clone()).collect()
}

#[tokio::test]
async fn a_changing_call_whose_connection_broke_is_sent_again_under_its_id() {
    let cable = cable(vec![Act::Break], 0).await;
    let client = Client::connect(&cable.node, Options::default()).await.unwrap();
    cancel(&client).await.unwrap();
    let ids = sent(&cable.fake);
    assert_eq!(ids.len(), 2);
    assert_eq!(ids[0], ids[1], "the agent must be able to see the repeat in it");

    cancel(&client).await.unwrap();
    assert_ne!(sent(&cable.fake)[2], ids[0], "the next call is another one");
}

#[tokio::test]
async fn it_survives_that_nobody_answers_for_a_while() {
    let cable = cable(vec![Act::Break, shed(Duration::from_millis(5))], 2).await;
    let id = "01J00000000000000000000000";
    let options = Options { request_id: Some(id.into()), ..Options::default() };
    let client = Client::connect(&cable.node, options).await.unwrap();
    cancel(&client).await.unwrap();
    assert_eq!(sent(&cable.fake), [id, id, id]);
    assert_eq!(cable.connections.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn what_the_agent_kept_is_the_answer_also_when_it_is_an_error() {
    for (code, reason, kind) in [
        (Code::DataLoss, "REQUEST_INTERRUPTED", Kind::Incomplete),
        (Code::FailedPrecondition, "EMERGENCY", Kind::Refused),
    ] {
        let cable = cable(vec![Act::Break, answer(code, reason)], 0).await;
        let client = Client::connect(&cable.node, Options::default()).await.unwrap();
        let error = cancel(&client).await.unwrap_err();
        assert_eq!((error.kind, error.reason.as_str()), (kind, reason));
        assert_eq!(sent(&cable.fake).len(), 2);
    }
}

#[tokio::test]
async fn an_outcome_that_stays_unknown_names_the_id_to_ask_for() {
    // From the repeat on it is denied, shed or unheard; none of it says what came of the first.
    let denied = answer(Code::PermissionDenied, "ROLE_MISSING");
    let busy = shed(Duration::from_secs(60));
    for (then, deaf) in [(Some(denied), 0), (Some(busy), 0), (None, 99)] {
        let script = [Act::Break].into_iter().chain(then).collect();
        let cable = cable(script, deaf).await;
        let options = Options { timeout: Duration::from_millis(700), ..Options::default() };
        let client = Client::connect(&cable.node, options).await.unwrap();
        let error = cancel(&client).await.unwrap_err();
        assert_eq!((error.kind, error.reason.as_str()), (Kind::Incomplete, "OUTCOME_UNKNOWN"));
        assert!(cable.connections.load(Ordering::SeqCst) > 1, "it was tried again");
        let id = &sent(&cable.fake)[0];
        assert_eq!(error.request_id.as_ref(), Some(id));
        assert!(error.next.contains(&format!("--request-id {id}")), "{}", error.next);
    }
}

#[tokio::test]
async fn a_reading_call_is_not_sent_again() {
    let cable = cable(vec![Act::Break], 0).await;
    let client = Client::connect(&cable.node, Options::default()).await.unwrap();
    let error = list(&client).await.unwrap_err();
    assert_eq!((error.kind, error.reason.as_str()), (Kind::Unreachable, "CONNECTION_BROKEN"));
    assert_eq!(error.request_id, None);
    list(&client).await.unwrap();
    assert_eq!(sent(&cable.fake).len(), 2);
}

#[tokio::test]
async fn a_shed_change_that_has_no_time_left_was_not_carried_out() {
    let cable = cable(vec![shed(Duration::from_secs(60))], 0).await;
    let options = Options { timeout: Duration::from_millis(50), ..Options::default() };
    let client = Client::connect(&cable.node, options).await.unwrap();
    let error = cancel(&client).await.unwrap_err();
    assert_eq!((error.kind, error.code), (Kind::Unavailable, "RESOURCE_EXHAUSTED"));
}

#[test]
fn repeats_are_bounded_and_give_an_agent_time_to_restart() {
    let node: Node = "web-1:7443".parse().unwrap();
    let broken = || {
        let mut status = Status::unknown("broken pipe");
        status.set_source(Arc::new(std::io::Error::from(std::io::ErrorKind::BrokenPipe)));
        Error::from_status(&node, true, status)
    };
    assert_eq!(broken().reason, "OUTCOME_UNKNOWN");
    let pauses: Vec<_> =
        (1..100).map_while(|attempt| crate::client::pause(&broken(), true, attempt)).collect();
    assert!((4..10).contains(&pauses.len()), "{pauses:?}");
    assert!(pauses.iter().sum::<Duration>() >= Duration::from_secs(5), "{pauses:?}");
    let unreachable = Error::new(Kind::Unreachable, "UNAVAILABLE", "AGENT_UNREACHABLE", "m", "n");
    assert_eq!(crate::client::pause(&unreachable, false, 1), None, "nothing was sent: say so");
}

#[test]
fn each_refusal_of_a_request_says_what_to_do() {
    let node: Node = "web-1:7443".parse().unwrap();
    for (code, reason, kind, hint) in [
        (Code::AlreadyExists, "REQUEST_ID_REUSED", Kind::Conflict, "new request id"),
        (Code::DataLoss, "REQUEST_INTERRUPTED", Kind::Incomplete, "oplog"),
        (Code::ResourceExhausted, "OVERLOADED", Kind::Unavailable, "try again"),
        (Code::FailedPrecondition, "EMERGENCY", Kind::Refused, "emergency status"),
    ] {
        let Act::Fail(status) = answer(code, reason) else { unreachable!() };
        let error = Error::from_status(&node, true, status);
        assert_eq!((error.kind, error.reason.as_str()), (kind, reason));
        assert!(error.next.contains(hint), "{reason}: {}", error.next);
    }
}

#[tokio::test]
async fn a_full_queue_of_a_socket_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.sock");
    let listener = socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
    bind(&listener, &SocketAddrUnix::new(&path).unwrap()).unwrap();
    listen(&listener, 0).unwrap();
    let mut waiting = Vec::new();
    while let Ok(stream) = UnixStream::connect(&path).await {
        waiting.push(stream);
        assert!(waiting.len() < 100, "the queue is full at some time");
    }
    let node = Node::unix(path).unwrap();
    let connecting = tokio::spawn(async move { Client::connect(&node, Options::default()).await });
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert!(!connecting.is_finished(), "it waits");
    drop(waiting);
    let listener = std::os::unix::net::UnixListener::from(listener);
    listener.set_nonblocking(true).unwrap();
    let incoming = UnixListenerStream::new(UnixListener::from_std(listener).unwrap());
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(RunServiceServer::new(FakeRuns::default()))
            .serve_with_incoming(incoming),
    );
    list(&connecting.await.unwrap().unwrap()).await.unwrap();
}
