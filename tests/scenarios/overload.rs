//! More calls than the agent works on at a time: the others are sent away with word of when to come back,
//! and what is urgent has a lane of its own.

use genesis_client::v1::{GetEmergencyRequest, GetStatusRequest, GetVersionRequest};
use genesis_proto::v1::agent_service_client::AgentServiceClient;
use genesis_proto::v1::recovery_service_client::RecoveryServiceClient;
use genesis_proto::v1::{
    ApproveReleaseRequest, CloseAllPositionsRequest, ReleaseEmergencyRequest,
    RenewTradingLeaseRequest,
};
use genesis_tests::TestAgent;
use genesis_tests::clock::wait_until;
use genesis_tests::paper::PaperVenue;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{Request, Response};
use tonic::Code;
use tonic::transport::Endpoint;
use tonic_types::StatusExt;

/// So many calls of one caller are worked on at a time.
const SHARE: usize = 64;

/// A call whose message does not come: the agent has its headers and waits.
struct Held {
    answer: ResponseFuture,
    /// Dropped, it would reset the stream.
    message: SendStream<bytes::Bytes>,
}

struct Slow(SendRequest<bytes::Bytes>);

impl Slow {
    async fn connect(agent: &TestAgent) -> Self {
        Self::over(tokio::net::TcpStream::connect(agent.plaintext()).await.unwrap()).await
    }

    /// As who may change something.
    async fn operator(agent: &TestAgent) -> Self {
        let socket = agent.node().trim_start_matches("unix:").to_owned();
        Self::over(tokio::net::UnixStream::connect(socket).await.unwrap()).await
    }

    async fn over(
        socket: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
    ) -> Self {
        let (requests, connection) = h2::client::handshake(socket).await.unwrap();
        tokio::spawn(connection);
        Self(requests.ready().await.unwrap())
    }

    async fn begin(&mut self, method: &str, timeout: &str) -> Held {
        let mut requests = self.0.clone().ready().await.unwrap();
        let request = Request::post(format!("http://agent/{method}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("grpc-timeout", timeout)
            .body(())
            .unwrap();
        let (answer, message) = requests.send_request(request, false).unwrap();
        Held { answer, message }
    }
}

impl Held {
    /// The status that the call ends with, before its message was ever sent.
    async fn ended(self) -> (Code, String) {
        let response: Response<RecvStream> = self.answer.await.unwrap();
        let header = |name: &str| {
            let value = response.headers().get(name);
            value.map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
        };
        (Code::from_i32(header("grpc-status").parse().unwrap()), header("grpc-message"))
    }
}

fn host() -> TestAgent {
    TestAgent::started(|_| {
        "[listen]\nhttp = \"127.0.0.1:0\"\nplaintext_grpc = \"127.0.0.1:0\"\n".to_owned()
    })
}

#[test]
fn a_full_agent_sheds_with_retry_info_and_serves_what_is_urgent() {
    let agent = host();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut held = Vec::new();
    for _ in 0..4 {
        let mut slow = runtime.block_on(Slow::connect(&agent));
        for _ in 0..SHARE / 4 {
            held.push(runtime.block_on(slow.begin("genesis.v1.AgentService/GetStatus", "40S")));
        }
    }
    // The last of them may still be on its way.
    let one = |method: &'static str| {
        runtime.block_on(async {
            let channel = Endpoint::from_shared(format!("http://{}", agent.plaintext())).unwrap();
            let mut client = tonic::client::Grpc::new(channel.connect().await.unwrap());
            client.ready().await.unwrap();
            let codec = tonic_prost::ProstCodec::<GetVersionRequest, GetVersionRequest>::default();
            let path = http::uri::PathAndQuery::from_static(method);
            client.unary(tonic::Request::new(GetVersionRequest {}), path, codec).await.map(drop)
        })
    };
    let ordinary = || one("/genesis.v1.AgentService/GetVersion");
    // On a busy machine some of them may have been shed themselves; others take their places.
    let mut more = runtime.block_on(Slow::connect(&agent));
    wait_until("it is full", || {
        let full = ordinary().is_err();
        if !full {
            held.push(runtime.block_on(more.begin("genesis.v1.AgentService/GetStatus", "40S")));
        }
        full
    });
    let shed = ordinary().unwrap_err();
    assert_eq!(shed.code(), Code::ResourceExhausted);
    let details = shed.get_error_details();
    assert_eq!(details.error_info().unwrap().reason, "OVERLOADED");
    assert!(details.retry_info().unwrap().retry_delay.is_some_and(|delay| !delay.is_zero()));
    one("/grpc.health.v1.Health/Check").unwrap();
    // Nobody else waits for it.
    agent.ctl(&["status"]).ok();
    let plaintext = Endpoint::from_shared(format!("http://{}", agent.plaintext())).unwrap();
    let patient = runtime.spawn(async move {
        let mut client = AgentServiceClient::new(plaintext.connect().await.unwrap());
        loop {
            match client.get_status(GetStatusRequest {}).await {
                Ok(_) => return,
                Err(status) => assert_eq!(status.code(), Code::ResourceExhausted),
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    });
    drop(held);
    runtime.block_on(patient).unwrap();
    agent.ctl(&["status"]).ok();
}

#[test]
fn who_is_shed_may_still_do_all_that_an_emergency_asks_for() {
    let folder = tempfile::tempdir().unwrap();
    let book = serde_json::json!({ "venues": { "alpha": { "positions": { "BTC": "3" } } } });
    let venue = PaperVenue::start(folder.path(), book);
    let agent = TestAgent::started(|_| {
        format!(
            "[trading]\ncontrol = {{ grpc = {:?} }}\nlease = \"1h\"\n[recovery]\nrelease_approvals = \"2\"\n",
            venue.target()
        )
    });
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let mut slow = Slow::operator(&agent).await;
        let socket = agent.node();
        let channel = Endpoint::try_from(socket).unwrap().connect().await.unwrap();
        let mut ordinary = AgentServiceClient::new(channel.clone());
        let mut urgent = RecoveryServiceClient::new(channel);
        let mut held = Vec::new();
        // All places that this caller has.
        while !is_shed(ordinary.get_status(GetStatusRequest {}).await) {
            assert!(held.len() < 4 * SHARE, "it is never full");
            held.push(slow.begin("genesis.v1.AgentService/GetStatus", "300S").await);
        }
        let renewed = urgent.renew_trading_lease(RenewTradingLeaseRequest::default()).await;
        renewed.unwrap();
        // And those that it has for what is urgent and only reads.
        while !is_shed(urgent.get_emergency(GetEmergencyRequest {}).await) {
            assert!(held.len() < 8 * SHARE, "it is never full");
            held.push(slow.begin("genesis.v1.RecoveryService/GetEmergency", "300S").await);
        }
        let mut close = tonic::Request::new(CloseAllPositionsRequest::default());
        close.metadata_mut().insert("genesis-reason", "it is drowning".parse().unwrap());
        urgent.close_all_positions(close).await.unwrap();
        let closed = async {
            while !venue.is_flat() {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(genesis_tests::clock::LIMIT, closed).await.unwrap();
        // Both are refused for what they are, and not for who called before.
        let missing = |status: tonic::Status| {
            let details = status.get_error_details();
            assert_eq!(details.error_info().unwrap().reason, "REASON_MISSING", "{status}");
        };
        let approved = urgent.approve_release(ApproveReleaseRequest::default()).await;
        missing(approved.unwrap_err());
        let released = urgent.release_emergency(ReleaseEmergencyRequest::default()).await;
        missing(released.unwrap_err());
        assert!(is_shed(ordinary.get_status(GetStatusRequest {}).await), "it is full still");
        drop(held);
    });
}

/// Whether a call was sent away since there is too much to do.
fn is_shed<T: std::fmt::Debug>(answer: Result<T, tonic::Status>) -> bool {
    answer.is_err_and(|status| status.code() == Code::ResourceExhausted)
}

#[test]
fn no_viewer_stands_in_the_way_of_an_emergency() {
    let agent = host();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut slow = runtime.block_on(Slow::connect(&agent));
        for method in ["GetEmergency", "PlanActivateEmergency"] {
            for _ in 0..50 {
                let method = format!("genesis.v1.RecoveryService/{method}");
                held.push(runtime.block_on(slow.begin(&method, "40S")));
            }
        }
    }
    agent.ctl(&["emergency", "activate", "--reason", "it is drowning"]).ok();
    agent.ctl(&["emergency", "release", "--reason", "it is not"]).ok();
    agent.ctl(&["emergency", "status"]).ok();
    drop(held);
}

#[test]
fn long_messages_that_do_not_end_have_a_bounded_room() {
    let agent = host();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let shed = runtime.block_on(async {
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..3 {
            let mut slow = Slow::connect(&agent).await;
            for _ in 0..4 {
                let mut held = slow.begin("genesis.v1.AgentService/CheckConfig", "40S").await;
                // Almost all of what a message may have.
                let part = bytes::Bytes::from(vec![0; (4 << 20) - 1_024]);
                held.message.send_data(part, false).unwrap();
                calls.spawn(held.ended());
            }
        }
        calls
            .join_all()
            .await
            .into_iter()
            .filter(|(code, _)| *code == Code::ResourceExhausted)
            .count()
    });
    // Four have room; the others are told at once, and need no deadline for it.
    assert!((8..12).contains(&shed), "{shed}");
    agent.ctl(&["status"]).ok();
}

#[test]
fn a_flood_of_denied_calls_is_one_entry() {
    let agent = host();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let endpoint = Endpoint::from_shared(format!("http://{}", agent.plaintext())).unwrap();
        let channel = endpoint.connect().await.unwrap();
        let mut client = genesis_proto::v1::oplog_service_client::OplogServiceClient::new(channel);
        for _ in 0..100 {
            let note = genesis_proto::v1::AddNoteRequest { text: "x".into(), ..Default::default() };
            assert_eq!(client.add_note(note).await.unwrap_err().code(), Code::PermissionDenied);
        }
    });
    let log = agent.ctl(&["oplog", "list", "--limit", "1000"]).ok().text();
    assert_eq!(log.matches("ROLE_MISSING").count(), 1, "{log}");
}

#[test]
fn a_call_has_the_time_that_its_caller_gives_it() {
    let agent = host();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let mut slow = Slow::connect(&agent).await;
        let held = slow.begin("genesis.v1.AgentService/GetStatus", "200m").await;
        let (code, message) = held.ended().await;
        assert_eq!(code, Code::DeadlineExceeded, "{message}");
        assert!(message.contains("200ms"), "{message}");
    });
    agent.ctl(&["status"]).ok();
}
