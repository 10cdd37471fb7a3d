//! mTLS: who is let in, who is refused, and what is said about it.

use std::net::SocketAddr;
use std::sync::Arc;

use rcgen::ExtendedKeyUsagePurpose as Purpose;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, SupportedProtocolVersion, version};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};

use super::pki::{Ca, Issued};
use super::*;

/// An agent on a port of 127.0.0.1. `secured`: its certificate, and the CA of its clients.
async fn agent(secured: Option<(&Issued, &Ca)>) -> (SocketAddr, Arc<FakeRuns>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (address, serve_on(listener, secured))
}

fn serve_on(listener: TcpListener, secured: Option<(&Issued, &Ca)>) -> Arc<FakeRuns> {
    serve_with(Server::builder(), listener, secured)
}

fn serve_with(
    mut server: Server,
    listener: TcpListener,
    secured: Option<(&Issued, &Ca)>,
) -> Arc<FakeRuns> {
    let fake = Arc::new(FakeRuns::default());
    if let Some((own, clients)) = secured {
        let config = ServerTlsConfig::new()
            .identity(Identity::from_pem(&own.certificate, &own.key))
            .client_ca_root(Certificate::from_pem(clients.pem()));
        server = server.tls_config(config).unwrap();
    }
    let router = server.add_service(RunServiceServer::from_arc(fake.clone()));
    tokio::spawn(router.serve_with_incoming(TcpListenerStream::new(listener)));
    fake
}

fn node(address: SocketAddr) -> Node {
    address.to_string().parse().unwrap()
}

fn tls(ca: &Ca, client: Option<&Issued>) -> Tls {
    Tls::new(ca.pem().as_bytes(), client.map(Issued::pem)).unwrap()
}

async fn connect(node: &Node, tls: impl Into<Option<Tls>>) -> Result<Client, Error> {
    Client::connect(node, Options { tls: tls.into(), ..Options::default() }).await
}

/// How connecting and calling fails. Whether it is noticed while connecting depends on the version of TLS.
async fn refusal(node: &Node, tls: impl Into<Option<Tls>>) -> Error {
    let tls = tls.into();
    let read = match connect(node, tls.clone()).await {
        Ok(client) => list(&client).await.unwrap_err(),
        Err(error) => error,
    };
    let changed = match connect(node, tls).await {
        Ok(client) => cancel(&client).await.unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(read.reason, changed.reason, "{read:?} {changed:?}");
    assert_eq!(changed.kind, Kind::Unauthenticated, "nothing can have been changed: {changed:?}");
    assert!(read.message.contains(&node.to_string()), "{}", read.message);
    read
}

#[tokio::test]
async fn addresses_and_names_are_verified_and_one_configuration_serves_all() {
    let ca = Ca::new("fleet");
    let (client, by_address) = (ca.client(), ca.server(&["127.0.0.1"]));
    let tls = tls(&ca, Some(&client));
    let (address, fake) = agent(Some((&by_address, &ca))).await;
    list(&connect(&node(address), tls.clone()).await.unwrap()).await.unwrap();
    assert_eq!(fake.ids.lock().unwrap().len(), 1);

    let (address, _) = agent(Some((&ca.server(&["localhost"]), &ca))).await;
    let by_name = format!("localhost:{}", address.port()).parse().unwrap();
    list(&connect(&by_name, tls.clone()).await.unwrap()).await.unwrap();
    let error = connect(&node(address), tls.clone()).await.unwrap_err();
    assert_eq!(error.reason, "SERVER_NOT_TRUSTED", "the name does not prove the address");
    let localhost = tls.clone().with_server_name("localhost").unwrap();
    list(&connect(&node(address), localhost).await.unwrap()).await.unwrap();
    assert!(tls.clone().with_server_name("not a name").is_err());

    assert!(Arc::ptr_eq(&tls.config(), &tls.clone().config()), "a clone is only a reference");
}

#[tokio::test]
async fn a_server_that_is_not_to_be_trusted_is_told_nothing() {
    let ca = Ca::new("fleet");
    let client = ca.client();
    let server = |valid, purpose| ca.issue(&["127.0.0.1"], valid, purpose);
    for (certificate, words, hint) in [
        (Ca::new("other").server(&["127.0.0.1"]), "not issued by the context's CA", "`ca`"),
        // A CA that was made anew for the same fleet has the same name.
        (Ca::new("fleet").server(&["127.0.0.1"]), "not issued by the context's CA", "`ca`"),
        (server((-9, -1), Purpose::ServerAuth), "has expired", "issue a new one"),
        (server((1, 9), Purpose::ServerAuth), "not valid yet", "clocks"),
        (server((-1, 1), Purpose::ClientAuth), "no server certificate", "--server"),
        (ca.server(&["web-1", "10.1.2.3"]), "web-1, 10.1.2.3", "server_name"),
    ] {
        let (address, fake) = agent(Some((&certificate, &ca))).await;
        let error = refusal(&node(address), tls(&ca, Some(&client))).await;
        assert_eq!((error.kind, error.code), (Kind::Unauthenticated, "UNAUTHENTICATED"));
        assert_eq!(error.reason, "SERVER_NOT_TRUSTED");
        assert!(error.message.contains(words), "{}", error.message);
        assert!(error.next.contains(hint), "{}", error.next);
        assert!(fake.ids.lock().unwrap().is_empty());
    }
}

/// A server of one version of TLS that hangs up after the handshake, with a revocation list if given.
async fn doorkeeper(
    own: &Issued,
    clients: &Ca,
    revoked: Option<CertificateRevocationListDer<'static>>,
    version: &'static SupportedProtocolVersion,
    protocols: &[&str],
) -> SocketAddr {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(clients.pem().as_bytes()).unwrap()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .with_crls(revoked)
        .build()
        .unwrap();
    let chain = vec![CertificateDer::from_pem_slice(own.certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).unwrap();
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .unwrap();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = acceptor.accept(stream).await;
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_refuses_the_certificate_is_not_unreachable() {
    let (ca, other, again) = (Ca::new("fleet"), Ca::new("other"), Ca::new("fleet"));
    let own = ca.server(&["127.0.0.1"]);
    let expired = ca.issue(&[], (-9, -1), Purpose::ClientAuth);
    let server = ca.issue(&[], (-1, 1), Purpose::ServerAuth);
    let revocations = ca.revocation_list();
    for version in [&version::TLS13, &version::TLS12] {
        for (client, list, words, hint) in [
            (None, None, "wants a client certificate", "`certificate` and `key`"),
            (Some(other.client()), None, "does not trust the CA", "client_ca"),
            (Some(again.client()), None, "does not trust the CA", "client_ca"),
            (Some(expired.clone()), None, "has expired", "new one"),
            (Some(server.clone()), None, "not made for clients", "--role"),
            (Some(ca.client()), Some(&revocations), "has been revoked", "new one"),
        ] {
            let address = doorkeeper(&own, &ca, list.cloned(), version, &["h2"]).await;
            let error = refusal(&node(address), tls(&ca, client.as_ref())).await;
            let shown = format!("{version:?}: {error:?}");
            assert_eq!(error.reason, "CERTIFICATE_REFUSED", "{shown}");
            assert!(error.message.contains(words), "{shown}");
            assert!(error.next.contains(hint), "{shown}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_and_plaintext_that_meet_say_so() {
    let ca = Ca::new("fleet");
    let (own, client) = (ca.server(&["127.0.0.1"]), ca.client());
    let (secured, _) = agent(Some((&own, &ca))).await;
    let error = refusal(&node(secured), None).await;
    assert_eq!(error.reason, "TLS_REQUIRED");
    assert!(error.message.contains("TLS only") && error.next.contains("--context"));

    let (plain, fake) = agent(None).await;
    let error = refusal(&node(plain), tls(&ca, Some(&client))).await;
    assert_eq!(error.reason, "TLS_NOT_SERVED");
    assert!(error.message.contains("does not speak TLS") && error.next.contains("port"));
    assert!(fake.ids.lock().unwrap().is_empty());
    // Without TLS on either side it works.
    list(&connect(&node(plain), None).await.unwrap()).await.unwrap();
}

/// A far-away host: what a client sends after its first words arrives late.
async fn far_away(to: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (mut from_client, mut to_client) = client.into_split();
            let agent = TcpStream::connect(to).await.unwrap();
            let (mut from_agent, mut to_agent) = agent.into_split();
            tokio::spawn(async move { tokio::io::copy(&mut from_agent, &mut to_client).await });
            tokio::spawn(async move {
                let mut hello = [0; 4096];
                let length = from_client.read(&mut hello).await?;
                to_agent.write_all(&hello[..length]).await?;
                tokio::time::sleep(Duration::from_millis(700)).await;
                tokio::io::copy(&mut from_client, &mut to_agent).await
            });
        }
    });
    address
}

#[tokio::test]
async fn a_refusal_that_comes_only_after_the_call_is_still_a_refusal() {
    let (ca, other) = (Ca::new("fleet"), Ca::new("other"));
    let (agent, fake) = agent(Some((&ca.server(&["127.0.0.1"]), &ca))).await;
    let node = node(far_away(agent).await);
    let refused = connect(&node, tls(&ca, Some(&other.client()))).await.unwrap();
    let error = cancel(&refused).await.unwrap_err();
    assert_eq!((error.kind, error.reason.as_str()), (Kind::Unauthenticated, "CERTIFICATE_REFUSED"));
    assert!(fake.ids.lock().unwrap().is_empty());
    cancel(&connect(&node, tls(&ca, Some(&ca.client()))).await.unwrap()).await.unwrap();
}

#[tokio::test]
async fn what_speaks_tls_but_not_http2_is_no_agent() {
    let ca = Ca::new("fleet");
    let (own, client) = (ca.server(&["127.0.0.1"]), ca.client());
    for protocols in [&[][..], &["http/1.1"]] {
        let address = doorkeeper(&own, &ca, None, &version::TLS13, protocols).await;
        let error = refusal(&node(address), tls(&ca, Some(&client))).await;
        assert_eq!(error.reason, "TLS_FAILED", "{protocols:?}");
        assert!(error.message.contains("not HTTP/2"), "{}", error.message);
    }
}

#[tokio::test]
async fn a_server_that_lets_the_client_begin_is_not_waited_for_in_vain() {
    let ca = Ca::new("fleet");
    let (own, client) = (ca.server(&["127.0.0.1"]), ca.client());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let node = node(listener.local_addr().unwrap());
    // To tell HTTP/1 from HTTP/2, it must hear the client first.
    let _fake = serve_with(Server::builder().accept_http1(true), listener, Some((&own, &ca)));
    list(&connect(&node, tls(&ca, Some(&client))).await.unwrap()).await.unwrap();
}

#[tokio::test]
async fn a_handshake_that_is_hung_up_on_is_begun_anew() {
    let ca = Ca::new("fleet");
    let (own, client) = (ca.server(&["127.0.0.1"]), ca.client());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let node = node(listener.local_addr().unwrap());
    let (connecting, _fake) = tokio::join!(connect(&node, tls(&ca, Some(&client))), async {
        for _ in 0..2 {
            drop(listener.accept().await.unwrap());
        }
        serve_on(listener, Some((&own, &ca)))
    });
    list(&connecting.unwrap()).await.unwrap();
}

#[tokio::test]
async fn one_that_never_answers_is_unreachable_in_time() {
    let ca = Ca::new("fleet");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let tls = Some(tls(&ca, None));
    let connect_timeout = Duration::from_millis(50);
    let options = Options { tls, connect_timeout, ..Options::default() };
    let node = node(listener.local_addr().unwrap());
    let error = Client::connect(&node, options).await.unwrap_err();
    assert_eq!((error.kind, error.reason.as_str()), (Kind::Unreachable, "AGENT_UNREACHABLE"));
    assert!(error.message.contains("within 50ms"), "{}", error.message);
}

#[tokio::test]
async fn all_nodes_of_a_context_are_connected_to_and_each_has_its_result() {
    let ca = Ca::new("fleet");
    let (own, client) = (ca.server(&["127.0.0.1"]), ca.client());
    let (one, _) = agent(Some((&own, &ca))).await;
    let (two, _) = agent(Some((&own, &ca))).await;
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let material = TlsMaterial {
        ca: Pem::Text(ca.pem()),
        identity: Some((Pem::Text(client.certificate), Pem::Text(client.key))),
        server_name: None,
    };
    let nodes = vec![node(one), node(closed), node(two)];
    let context = Context::new("prod", nodes.clone(), Some(material)).unwrap();
    let results = Client::connect_all(&context, &Options::default()).await.unwrap();
    assert_eq!(results.iter().map(|(node, _)| node.clone()).collect::<Vec<_>>(), nodes);
    for (node, result) in &results {
        match result {
            Ok(client) => drop(list(client).await.unwrap()),
            Err(error) => assert_eq!((node, error.kind), (&nodes[1], Kind::Unreachable)),
        }
    }
    assert_eq!(results.iter().filter(|(_, result)| result.is_ok()).count(), 2);
    let client = Client::connect_context(&context, &nodes[0], Options::default()).await.unwrap();
    list(&client).await.unwrap();
    assert_eq!(context.tls().unwrap(), context.tls().unwrap(), "it is made once");
}
