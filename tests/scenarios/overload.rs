//! More calls than the agent works on at a time: the others are sent away with word of when to come back,
//! and what is urgent has a lane of its own.

use genesis_client::v1::{GetStatusRequest, GetVersionRequest};
use genesis_client::{Client, Options};
use genesis_tests::TestAgent;
use genesis_tests::clock::wait_until;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{Request, Response};
use tonic::Code;
use tonic::transport::Endpoint;
use tonic_types::StatusExt;

/// So many calls are worked on at a time.
const IN_FLIGHT: usize = 256;

/// A call whose message does not come: the agent has its headers and waits.
struct Held {
    answer: ResponseFuture,
    _message: SendStream<bytes::Bytes>,
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
        let (answer, _message) = requests.send_request(request, false).unwrap();
        Held { answer, _message }
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
    // One connection may not have that many.
    for _ in 0..4 {
        let mut slow = runtime.block_on(Slow::connect(&agent));
        for _ in 0..IN_FLIGHT / 4 {
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
    wait_until("it is full", || ordinary().is_err());
    let shed = ordinary().unwrap_err();
    assert_eq!(shed.code(), Code::ResourceExhausted);
    let details = shed.get_error_details();
    assert_eq!(details.error_info().unwrap().reason, "OVERLOADED");
    assert!(details.retry_info().unwrap().retry_delay.is_some_and(|delay| !delay.is_zero()));
    one("/grpc.health.v1.Health/Check").unwrap();
    // The operator's client tries again until its time is over, and gets through with what is urgent.
    agent.ctl(&["status", "--timeout", "1s"]).exits(7).says(&["OVERLOADED"]);
    agent.ctl(&["emergency", "status"]).ok();
    agent.ctl(&["emergency", "activate", "--reason", "it is drowning"]).ok();
    agent.ctl(&["emergency", "release", "--reason", "it is not"]).ok();
    // Whoever waits patiently is served as soon as there is room.
    let node = agent.node().parse().unwrap();
    let patient = runtime.spawn(async move {
        let client = Client::connect(&node, Options::default()).await?;
        client.call(GetStatusRequest {}, |c, r| async move { c.agent().get_status(r).await }).await
    });
    drop(held);
    runtime.block_on(patient).unwrap().unwrap();
    agent.ctl(&["status"]).ok();
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
