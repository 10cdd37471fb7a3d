//! What goes wrong, and how that is told.

use super::*;
use crate::outside::Clock;

#[tokio::test]
async fn a_name_that_is_not_ours_is_told_by_name() {
    let (pebble, acme) = (Pebble::start(&[]), acme());
    let (ca, names) = (pebble.ca(), ["one.test", "two.test"]);
    let order = acme.order(&ca, &wanted(&names)).await.unwrap();
    let wrong = free();
    let answer = Answer::HttpListener(wrong);
    let finish = || acme.finish(&ca, &order.url, &answer, &[], PATIENCE);
    let trouble = finish().await.unwrap_err();
    assert_eq!(trouble.class, Class::Authorization, "{trouble:?}");
    assert_eq!(trouble.kind, "connection", "{trouble:?}");
    let mut identifiers = trouble.identifiers.clone();
    identifiers.sort();
    assert!(!identifiers.is_empty() && identifiers.iter().all(|it| names.contains(&it.as_str())));
    assert!(trouble.message.contains("refused"), "{trouble}");
    assert!(nobody_listens(wrong));
    assert_eq!(finish().await.unwrap_err().class, Class::Authorization, "it stays so");
}

#[tokio::test]
async fn what_can_t_be_is_told_before_the_ca_looks() {
    let (pebble, acme) = (Pebble::start(&[]), acme());
    let ca = pebble.ca();
    // A wildcard is for DNS alone.
    let order = acme.order(&ca, &wanted(&["*.one.test"])).await.unwrap();
    let answer = Answer::HttpListener(pebble.http);
    let finish = acme.finish(&ca, &order.url, &answer, &[], PATIENCE).await;
    let trouble = finish.unwrap_err();
    assert_eq!((trouble.class, trouble.kind.as_str()), (Class::Policy, "unsupported"), "{trouble}");
    assert_eq!(trouble.identifiers, ["*.one.test"]);
    // A port that somebody else has.
    let taken = std::net::TcpListener::bind(pebble.http).unwrap();
    let order = acme.order(&ca, &wanted(&["one.test"])).await.unwrap();
    let trouble = acme.finish(&ca, &order.url, &answer, &[], PATIENCE).await.unwrap_err();
    assert_eq!((trouble.class, trouble.identifiers.len()), (Class::Local, 1), "{trouble}");
    drop(taken);
    // And a request that is none, after all of it was authorized.
    let trouble = acme.finish(&ca, &order.url, &answer, b"no request", PATIENCE).await.unwrap_err();
    assert_eq!(trouble.class, Class::Policy, "{trouble}");
    // No patience at all.
    let late = acme.finish(&ca, &order.url, &answer, &[], Duration::ZERO).await.unwrap_err();
    assert_eq!(late.class, Class::Server, "{late}");
    // Neither profiles nor renewal information.
    let profile = Wanted { profile: Some("short".into()), ..wanted(&["one.test"]) };
    let trouble = acme.order(&ca, &profile).await.unwrap_err();
    assert_eq!((trouble.class, trouble.kind.as_str()), (Class::Policy, "invalidProfile"));
    let pem = issued(&acme, &ca, &["two.test"], &answer).await;
    let trouble = acme.renewal_info(&ca, &leaf(&pem)).await.unwrap_err();
    assert_eq!((trouble.class, trouble.kind.as_str()), (Class::Policy, "unsupported"));
    let replacing = Wanted { replaces: Some(leaf(&pem)), ..wanted(&["two.test"]) };
    assert!(!acme.order(&ca, &replacing).await.unwrap().replaces);
}

#[tokio::test]
async fn a_ca_that_is_gone_or_not_trusted_is_told_at_once() {
    let (mut pebble, acme, clock) = (Pebble::start(&[]), acme(), SystemClock::new());
    let ca = pebble.ca();
    let order = acme.order(&ca, &wanted(&["one.test"])).await.unwrap();
    let stranger = Authority { roots_file: None, ..ca.clone() };
    let trouble = acme.directory(&stranger).await.unwrap_err();
    assert_eq!(trouble.class, Class::Server, "{trouble}");
    assert!(trouble.message.contains("is not trusted"), "{trouble}");
    let elsewhere = Authority { directory: format!("{}/x", ca.directory), ..ca.clone() };
    let trouble = acme.directory(&elsewhere).await.unwrap_err();
    assert!(trouble.message.contains("HTTP 404"), "{trouble}");
    let plain = Authority { directory: ca.directory.replace("https", "http"), ..ca.clone() };
    assert!(acme.directory(&plain).await.is_err(), "https alone");

    pebble.pebble = None;
    let begun = clock.monotonic();
    let answer = Answer::HttpListener(pebble.http);
    for trouble in [
        acme.directory(&ca).await.unwrap_err(),
        acme.order(&ca, &wanted(&["one.test"])).await.unwrap_err(),
        acme.finish(&ca, &order.url, &answer, &[], PATIENCE).await.unwrap_err(),
        acme.revoke(&ca, b"x").await.unwrap_err(),
    ] {
        assert_eq!(trouble.class, Class::Server, "{trouble}");
        assert!(trouble.message.contains("refuses connections"), "{trouble}");
    }
    assert!(clock.monotonic() - begun < Duration::from_secs(2));
}

#[tokio::test]
async fn a_server_whose_certificate_is_out_of_its_time_is_told_apart() {
    use rustls_pki_types::pem::PemObject;
    use rustls_pki_types::{CertificateDer, PrivateKeyDer};

    for (years, expected) in
        [((2000, 2001), OUT_OF_TIME), ((3000, 3001), OUT_OF_TIME), ((2020, 3000), "")]
    {
        let folder = tempfile::tempdir().unwrap();
        server::certify_for(&folder, years);
        let file = |name: &str| folder.path().join(name);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from_pem_file(file("cert.pem")).unwrap()],
                PrivateKeyDer::from_pem_file(file("key.pem")).unwrap(),
            )
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        // Whoever trusts it hears nothing more.
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                drop(acceptor.accept(stream).await);
            }
        });
        let ca = Authority {
            name: "old".into(),
            directory: format!("https://{address}/dir"),
            contact: Vec::new(),
            external: None,
            roots_file: Some(file("ca.pem")),
            accounts: file("accounts"),
        };
        let trouble = acme().directory(&ca).await.unwrap_err();
        serving.abort();
        assert_eq!((trouble.class, trouble.kind.as_str()), (Class::Server, expected), "{trouble}");
        assert_eq!(
            trouble.message.contains("this host's clock"),
            !expected.is_empty(),
            "{trouble}"
        );
    }
}
