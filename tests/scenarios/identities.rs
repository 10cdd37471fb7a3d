//! Every rpc, called as everybody: the answer is what the rpc's options declare.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use genesis_agent::pki::{Issued, Role as Issue, Validity};
use genesis_proto::v1::oplog_service_client::OplogServiceClient;
use genesis_proto::v1::{GetVersionRequest, Role, TailEntriesRequest, TailEntriesResponse};
use genesis_tests::TestAgent;
use genesis_tests::clock::{now, wait_until};
use genesis_tests::pki::Authority;
use genesis_tests::wall_clock::WallClock;
use http::uri::PathAndQuery;
use jiff::SignedDuration;
use rustix::process::{Gid, Uid};
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Status, Streaming};
use tonic_types::StatusExt;

/// Calls an rpc with an empty message; what its first answer is.
async fn call(channel: Channel, path: &str) -> Result<(), Status> {
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    // An empty message is the same for every type, and what comes back is not looked into.
    let codec = tonic_prost::ProstCodec::<GetVersionRequest, GetVersionRequest>::default();
    let path = PathAndQuery::try_from(path).unwrap();
    let mut request = Request::new(GetVersionRequest {});
    request.set_timeout(Duration::from_secs(20));
    let mut stream = client.server_streaming(request, path, codec).await?.into_inner();
    // One that has nothing to say yet has let the caller in: a denial comes at once.
    let said = tokio::time::timeout(Duration::from_millis(500), stream.message()).await;
    said.map_or(Ok(()), |said| said.map(drop))
}

/// Calls every rpc of the contract, and health and reflection, and compares what is allowed.
async fn matrix(channel: &Channel, who: &str, role: Option<Role>) {
    let mut paths: Vec<(String, Role)> = genesis_proto::method_policies()
        .into_iter()
        .map(|(path, policy)| (path, policy.role.unwrap()))
        .collect();
    paths.push(("/grpc.health.v1.Health/Check".into(), Role::Viewer));
    assert!(paths.len() > 40);
    for (path, needs) in paths {
        let allowed = role.is_some_and(|role| role as i32 >= needs as i32);
        let answer = call(channel.clone(), &path).await;
        let denied = answer.as_ref().is_err_and(|status| status.code() == Code::PermissionDenied);
        assert_eq!(denied, !allowed, "{who} calls {path}: {answer:?}");
        if denied {
            let status = answer.unwrap_err();
            let details = status.get_error_details();
            assert_eq!(details.error_info().unwrap().reason, "ROLE_MISSING", "{who} {path}");
        } else if let Err(status) = answer {
            let transport = [Code::Unavailable, Code::Unknown, Code::Unauthenticated];
            assert!(!transport.contains(&status.code()), "{who} calls {path}: {status:?}");
        }
    }
}

async fn over_tls(
    agent: &TestAgent,
    tls: ClientTlsConfig,
) -> Result<Channel, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(format!("https://{}", agent.grpc())).unwrap();
    endpoint.tls_config(tls)?.connect_timeout(Duration::from_secs(10)).connect().await
}

/// Whether TLS lets the client in: with TLS 1.3 a refusal arrives only at the first answer.
async fn is_let_in(agent: &TestAgent, tls: ClientTlsConfig) -> bool {
    match over_tls(agent, tls).await {
        Ok(channel) => match call(channel, "/genesis.v1.AgentService/GetVersion").await {
            Ok(()) => true,
            Err(status) => {
                assert_ne!(status.code(), Code::PermissionDenied, "{status:?}");
                false
            }
        },
        Err(_) => false,
    }
}

/// A connection to the socket that another user has made.
fn connected_as(agent: &TestAgent, uid: u32, gid: u32) -> std::io::Result<UnixStream> {
    let socket = agent.state().join("agent.sock");
    let connected = std::thread::spawn(move || {
        let (user, group) = (Uid::from_raw(uid), Gid::from_raw(gid));
        // Of this thread alone, which ends here.
        rustix::thread::set_thread_groups(&[]).unwrap();
        rustix::thread::set_thread_res_gid(group, group, group).unwrap();
        rustix::thread::set_thread_res_uid(user, user, user).unwrap();
        UnixStream::connect(socket)
    });
    connected.join().unwrap()
}

async fn over_socket(stream: UnixStream) -> Channel {
    stream.set_nonblocking(true).unwrap();
    let mut stream = Some(tokio::net::UnixStream::from_std(stream).unwrap());
    let connector = tower::service_fn(move |_| {
        let stream = stream.take().ok_or_else(|| std::io::Error::other("used up"));
        async move { stream.map(hyper_util::rt::TokioIo::new) }
    });
    Endpoint::from_static("http://localhost").connect_with_connector(connector).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_rpc_answers_every_certificate_as_its_options_declare() {
    let authority = Authority::new("prod");
    let agent = TestAgent::started(|_| authority.config("prod"));
    let year = Validity::Days(365);
    for (issue, role) in [
        (Issue::Viewer, Role::Viewer),
        (Issue::Operator, Role::Operator),
        (Issue::Admin, Role::Admin),
    ] {
        let identity = authority.client(issue);
        let channel = over_tls(&agent, authority.tls(Some(&identity))).await.unwrap();
        matrix(&channel, &format!("{issue}"), Some(role)).await;
    }
    // Refused by TLS, before any rpc.
    let refused = |who: &str, identity: Option<&Issued>| (who.to_owned(), authority.tls(identity));
    let foreign = Authority::new("prod");
    let stranger = foreign.client(Issue::Admin);
    let past = |days: i64| now() - SignedDuration::from_hours(24 * days);
    let expired = Validity::Between { not_before: past(3), not_after: past(1) };
    let expired = authority.issue("late", Issue::Admin, expired);
    let server = authority.issue("web-9", Issue::Agent, year);
    let revoked = authority.issue("gone", Issue::Admin, year);
    assert!(is_let_in(&agent, authority.tls(Some(&revoked))).await, "not revoked yet");
    authority.revoke("gone");
    for (who, tls) in [
        refused("no certificate", None),
        refused("wrong CA", Some(&stranger)),
        refused("expired", Some(&expired)),
        refused("server's key usage only", Some(&server)),
    ] {
        assert!(!is_let_in(&agent, tls).await, "{who}");
    }
    let mut gone = false;
    for _ in 0..100 {
        gone = !is_let_in(&agent, authority.tls(Some(&revoked))).await;
        if gone {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(gone, "revoked");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_fleet_has_no_role() {
    let authority = Authority::new("staging");
    let agent = TestAgent::started(|_| authority.config("prod"));
    let identity = authority.client(Issue::Admin);
    let channel = over_tls(&agent, authority.tls(Some(&identity))).await.unwrap();
    let status = call(channel, "/genesis.v1.AgentService/GetVersion").await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(status.message().contains("staging"), "{status:?}");
    let details = status.get_error_details();
    assert_eq!(details.error_info().unwrap().reason, "FLEET_MISMATCH");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_rpc_answers_every_socket_identity_as_its_options_declare() {
    // Group 1 is "daemon" on every Debian.
    let listen = "[listen]\nhttp = \"127.0.0.1:0\"\nplaintext_grpc = \"127.0.0.1:0\"\n";
    let agent = TestAgent::started(|_| format!("{listen}[agent]\noperator_group = \"daemon\"\n"));
    for folder in [agent.folder().to_owned(), agent.state()] {
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o711)).unwrap();
    }
    let root = over_socket(connected_as(&agent, 0, 0).unwrap()).await;
    matrix(&root, "root", Some(Role::Admin)).await;
    let operator = over_socket(connected_as(&agent, 54_321, 1).unwrap()).await;
    matrix(&operator, "a member of the group", Some(Role::Operator)).await;
    let denied = connected_as(&agent, 54_321, 54_321).unwrap_err();
    assert_eq!(denied.kind(), std::io::ErrorKind::PermissionDenied);
    // With the socket's mode out of the way, the agent itself denies.
    let socket = agent.state().join("agent.sock");
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o666)).unwrap();
    let nobody = over_socket(connected_as(&agent, 54_321, 54_321).unwrap()).await;
    matrix(&nobody, "nobody", None).await;
    let plaintext = format!("http://{}", agent.plaintext());
    let plaintext = Endpoint::from_shared(plaintext).unwrap().connect().await.unwrap();
    matrix(&plaintext, "plaintext", Some(Role::Viewer)).await;
}

/// Follows the operation log, as somebody whose certificate is good for so long.
async fn following(
    agent: &TestAgent,
    authority: &Authority,
    (name, validity): (&str, Validity),
) -> Streaming<TailEntriesResponse> {
    let identity = authority.issue(name, Issue::Viewer, validity);
    let channel = over_tls(agent, authority.tls(Some(&identity))).await.unwrap();
    let request = TailEntriesRequest { last: 1, follow: true };
    let mut stream =
        OplogServiceClient::new(channel).tail_entries(request).await.unwrap().into_inner();
    stream.message().await.unwrap().unwrap();
    stream
}

/// One is cut within five seconds, and the other goes on.
async fn one_is_cut(
    agent: &TestAgent,
    mut goes: Streaming<TailEntriesResponse>,
    mut stays: Streaming<TailEntriesResponse>,
) {
    let cut = tokio::time::timeout(Duration::from_secs(5), async {
        while let Ok(Some(_)) = goes.message().await {}
    });
    cut.await.expect("cut within five seconds");
    let note = std::thread::scope(|scope| {
        scope.spawn(|| agent.ctl(&["oplog", "note", "still here"]).ok()).join().unwrap()
    });
    drop(note);
    loop {
        let entry = stays.message().await.unwrap().unwrap().entry.unwrap();
        if entry.detail == "still here" {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_clients_stream_is_cut_and_the_others_go_on() {
    let authority = Authority::new("prod");
    let agent = TestAgent::started(|_| authority.config("prod"));
    let stays = following(&agent, &authority, ("stays", Validity::Days(30))).await;
    let goes = following(&agent, &authority, ("goes", Validity::Days(30))).await;
    authority.revoke("goes");
    one_is_cut(&agent, goes, stays).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_whose_certificate_ends_while_it_is_connected_is_cut() {
    let authority = Authority::new("prod");
    let mut agent = TestAgent::new(|_| authority.config("prod"));
    let clock = WallClock::of(&mut agent);
    agent.start();
    let stays = following(&agent, &authority, ("stays", Validity::Days(30))).await;
    let goes = following(&agent, &authority, ("goes", Validity::Days(1))).await;
    clock.ahead(SignedDuration::from_hours(25));
    one_is_cut(&agent, goes, stays).await;
}

#[test]
fn an_older_revocation_list_lets_nobody_back_in() {
    let authority = Authority::new("prod");
    let agent = TestAgent::started(|_| authority.config("prod"));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let identity = authority.issue("goes", Issue::Admin, Validity::Days(30));
    let works = || runtime.block_on(is_let_in(&agent, authority.tls(Some(&identity))));
    assert!(works());
    let older = std::fs::read(authority.revocation_list()).unwrap();
    authority.revoke("goes");
    genesis_tests::clock::wait_until("it is refused", || !works());
    std::fs::write(authority.revocation_list(), older).unwrap();
    genesis_tests::clock::wait_until("the older list is noticed", || {
        agent.ctl(&["pki", "list"]).text().contains("TLS_REVOCATION_LIST_OLDER")
    });
    assert!(!works());
    agent.ctl(&["pki", "list"]).exits(3);
    // The agent's own certificate is told, since clients look at no list.
    authority.revoke("host-1");
    genesis_tests::clock::wait_until("its own revocation is noticed", || {
        agent.ctl(&["pki", "list"]).text().contains("PKI_OWN_REVOKED")
    });
}

#[test]
fn bad_files_are_refused_and_the_old_ones_stay() {
    let authority = Authority::new("prod");
    let agent = TestAgent::started(|_| authority.config("prod"));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let identity = authority.client(Issue::Admin);
    let works = || runtime.block_on(is_let_in(&agent, authority.tls(Some(&identity))));
    let good = ["server.pem", "server.key"]
        .map(|name| std::fs::read_to_string(authority.path(name)).unwrap());
    let other = Authority::new("prod").issue("x", Issue::Agent, Validity::Days(9));
    let cases = [
        ("server.pem", "junk".to_owned(), "TLS_FILE_INVALID"),
        ("server.key", other.key_pem.clone(), "TLS_KEY_MISMATCH"),
        ("server.pem", other.certificate_pem, "TLS_KEY_MISMATCH"),
        ("server.key", String::new(), "TLS_FILE_INVALID"),
    ];
    for (file, text, code) in cases {
        authority.put(file, &text);
        agent.ctl(&["config", "reload"]).ok();
        agent.ctl(&["status"]).exits(3).says(&[code]);
        assert!(works(), "{file} {code}");
        agent.ctl(&["pki", "list"]).exits(3).says(&[code, "server certificate", "client CA"]);
        authority.put("server.pem", &good[0]);
        authority.put("server.key", &good[1]);
        agent.ctl(&["config", "reload"]).ok();
        agent.ctl(&["status"]).ok();
        agent.ctl(&["pki", "list"]).ok().says(&["fleet prod", "revokes 0"]);
    }
    // What fits together a moment later is nothing to call people for; what stays is.
    authority.put("server.key", &other.key_pem);
    agent.ctl(&["config", "reload"]).ok();
    agent.ctl(&["status"]).exits(3).says(&["TLS_KEY_MISMATCH"]);
    assert!(!agent.ctl(&["alerts", "list"]).text().contains("TLS_KEY_MISMATCH"));
    wait_until("people to hear of it", || {
        agent.ctl(&["alerts", "list", "-o", "json"]).text().contains("TLS_KEY_MISMATCH")
    });
    authority.put("server.key", &good[1]);
    agent.ctl(&["config", "reload"]).ok();
    let key = authority.path("server.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    wait_until("the open key is noticed", || {
        agent.ctl(&["status"]).text().contains("TLS_KEY_OPEN_TO_OTHERS")
    });
    agent.ctl(&["status"]).exits(3).says(&["TLS_KEY_OPEN_TO_OTHERS", "chmod 600"]);
    assert!(works());
}
