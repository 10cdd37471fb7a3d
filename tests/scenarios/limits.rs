//! Crowds, slow callers and swapped certificates: limits hold, and who belongs there is answered.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use genesis_agent::pki::{Issued, Role, Validity};
use genesis_proto::v1::GetVersionRequest;
use genesis_proto::v1::agent_service_client::AgentServiceClient;
use genesis_tests::TestAgent;
use genesis_tests::clock::wait_until;
use genesis_tests::pki::Authority;
use tonic::transport::{Channel, Endpoint};

/// No answer takes longer, unless something is broken.
const PATIENCE: Duration = Duration::from_secs(60);

async fn connect(agent: &TestAgent, authority: &Authority, identity: &Issued) -> Option<Channel> {
    let endpoint = Endpoint::from_shared(format!("https://{}", agent.grpc())).unwrap();
    let endpoint = endpoint.tls_config(authority.tls(Some(identity))).unwrap();
    endpoint.connect_timeout(Duration::from_secs(5)).connect().await.ok()
}

async fn answers(channel: Channel) -> bool {
    AgentServiceClient::new(channel).get_version(GetVersionRequest {}).await.is_ok()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

#[test]
fn ten_thousand_idle_connections_take_no_place_from_those_who_call() {
    let authority = Authority::new("prod");
    let agent = TestAgent::started(|_| authority.config("prod"));
    let identity = authority.client(Role::Operator);
    let runtime = runtime();
    let early = runtime.block_on(connect(&agent, &authority, &identity)).unwrap();
    let address = agent.grpc();
    let some = || -> Vec<TcpStream> {
        (0..1_250).filter_map(|_| TcpStream::connect_timeout(&address, PATIENCE).ok()).collect()
    };
    let crowd: Vec<TcpStream> = std::thread::scope(|scope| {
        let parts: Vec<_> = (0..8).map(|_| scope.spawn(some)).collect();
        parts.into_iter().flat_map(|part| part.join().unwrap()).collect()
    });
    assert!(crowd.len() > 9_000, "{}", crowd.len());
    // The socket has places of its own, and who was in stays in.
    agent.ctl(&["status"]).ok();
    assert!(runtime.block_on(answers(early)));
    wait_until("a client finds a place", || {
        let late = runtime.block_on(connect(&agent, &authority, &identity));
        late.is_some_and(|channel| runtime.block_on(answers(channel)))
    });
    let status = agent.ctl(&["status", "-o", "json"]).ok().response();
    let resident: u64 = status["residentBytes"].as_str().unwrap().parse().unwrap();
    assert!(resident < 200 << 20, "{resident} bytes");
    drop(crowd);
}

#[test]
fn who_says_nothing_keeps_nobody_waiting() {
    let authority = Authority::new("prod");
    let agent = TestAgent::started(|_| authority.config("prod"));
    let identity = authority.client(Role::Viewer);
    let runtime = runtime();
    for _ in 0..3 {
        let silent: Vec<TcpStream> =
            (0..200).map(|_| TcpStream::connect(agent.grpc()).unwrap()).collect();
        let watch = genesis_tests::clock::Watch::start();
        let channel = runtime.block_on(connect(&agent, &authority, &identity)).unwrap();
        assert!(runtime.block_on(answers(channel)));
        // Far less than who is silent is given.
        assert!(watch.elapsed() < std::time::Duration::from_secs(2), "{:?}", watch.elapsed());
        drop(silent);
    }
}

#[test]
fn a_crowd_at_the_http_port_takes_no_files_from_the_agent() {
    let agent = TestAgent::started(|_| String::new());
    let files = || std::fs::read_dir(format!("/proc/{}/fd", agent.pid())).unwrap().count();
    let before = files();
    let mut crowd: Vec<TcpStream> =
        (0..500).filter_map(|_| TcpStream::connect_timeout(&agent.http(), PATIENCE).ok()).collect();
    for stream in crowd.iter_mut().step_by(2) {
        // One that was turned away can't be written to.
        let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n");
    }
    wait_until("a page is served", || {
        let mut stream = TcpStream::connect(agent.http()).unwrap();
        let mut answer = String::new();
        let request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        let asked = stream.write_all(request).and_then(|()| stream.read_to_string(&mut answer));
        asked.is_ok() && answer.starts_with("HTTP/1.1 200")
    });
    assert!(files() < before + 64 + 32, "{} and {before}", files());
    agent.ctl(&["status"]).ok();
    drop(crowd);
}

#[test]
fn who_does_not_finish_the_greeting_is_sent_away() {
    let authority = Authority::new("prod");
    let agent = TestAgent::started(|_| {
        authority.config("prod").replace("[fleet]", "plaintext_grpc = \"127.0.0.1:0\"\n[fleet]")
    });
    let mut streams = Vec::new();
    for (address, said) in [
        (agent.grpc(), &b""[..]),
        // The beginning of a TLS handshake, and of an HTTP/2 preface.
        (agent.grpc(), &[0x16, 0x03, 0x01, 0x02, 0x00][..]),
        (agent.plaintext(), &b""[..]),
        (agent.plaintext(), &b"PRI * HTTP"[..]),
    ] {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(said).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        streams.push(stream);
    }
    for mut stream in streams {
        let mut answer = Vec::new();
        // Whatever it says first, it ends: a time-out would be an error of another kind.
        let ended = stream.read_to_end(&mut answer);
        let reset = |kind| kind == std::io::ErrorKind::ConnectionReset;
        assert!(ended.as_ref().map_or_else(|error| reset(error.kind()), |_| true), "{ended:?}");
    }
    agent.ctl(&["status"]).ok();
}

#[test]
fn a_thousand_certificate_swaps_under_load_fail_no_call() {
    let authority = Authority::new("prod");
    let agent = Arc::new(TestAgent::started(|_| authority.config("prod")));
    let authority = Arc::new(authority);
    let identity = Arc::new(authority.client(Role::Viewer));
    let servers: Vec<Issued> =
        (0..2).map(|_| authority.issue("host-1", Role::Agent, Validity::Days(90))).collect();
    let (stop, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let runtime = runtime();
    let load: Vec<_> = (0..4)
        .map(|number| {
            let (agent, authority) = (Arc::clone(&agent), Arc::clone(&authority));
            let (identity, stop) = (Arc::clone(&identity), Arc::clone(&stop));
            let calls = Arc::clone(&calls);
            runtime.spawn(async move {
                let kept = connect(&agent, &authority, &identity).await.unwrap();
                while !stop.load(Ordering::Relaxed) {
                    // Half of them connect anew for each call.
                    let channel = match number % 2 {
                        0 => kept.clone(),
                        _ => connect(&agent, &authority, &identity).await.expect("let in"),
                    };
                    let mut client = AgentServiceClient::new(channel);
                    client.get_version(GetVersionRequest {}).await.expect("answered");
                    calls.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    wait_until("the load is on", || calls.load(Ordering::Relaxed) > 10);
    for swap in 0..1_000 {
        let server = &servers[swap % 2];
        authority.put("server.key", &server.key_pem);
        authority.put("server.pem", &server.certificate_pem);
        agent.ctl(&["config", "reload"]).ok();
    }
    stop.store(true, Ordering::Relaxed);
    for task in load {
        runtime.block_on(task).expect("no call failed");
    }
    // A look between the two files of a swap is told for a moment.
    wait_until("the last pair is in force", || {
        agent
            .ctl(&["status"])
            .text()
            .lines()
            .any(|line| line.split_whitespace().take(2).eq(["pki", "OK"]))
    });
}
