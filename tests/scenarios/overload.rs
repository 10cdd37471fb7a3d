//! More calls than the agent works on at a time: the others are sent away with word of when to come back,
//! and what is urgent has a lane of its own.

use genesis_client::v1::{GetStatusRequest, GetVersionRequest};
use genesis_proto::v1::agent_service_client::AgentServiceClient;
use genesis_tests::TestAgent;
use genesis_tests::clock::wait_until;
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
        let socket = tokio::net::TcpStream::connect(agent.plaintext()).await.unwrap();
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
