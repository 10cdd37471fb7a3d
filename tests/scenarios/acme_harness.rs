//! The servers that tests of certificates lean on do what those tests take for granted.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::process::Command;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use genesis_tests::acme::{Bind9, Fault, FaultProxy, Kind, Pebble, RenewalInfo, RetryAfter, fetch};
use genesis_tests::clock::now;
use genesis_tests::private_ca::PrivateCa;
use genesis_tests::tls_client::{TlsClient, certificates, fingerprint, handshake};
use genesis_tests::tls_server::{Reload, TlsServer};
use http_body_util::BodyExt;
use instant_acme::{
    Account, BodyWrapper, BytesResponse, CertificateIdentifier, ChallengeType, Error,
    ExternalAccountKey, HttpClient, Identifier, NewAccount, NewOrder, OrderStatus, RetryPolicy,
};
use jiff::SignedDuration;

/// The client library's way to the server.
struct Http(reqwest::Client);

impl HttpClient for Http {
    fn request(
        &self,
        request: http::Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let client = self.0.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let request = reqwest::Request::try_from(http::Request::from_parts(parts, body));
            let sent = client.execute(request.unwrap()).await;
            let answer = sent.map_err(|error| Error::Other(Box::new(error)))?;
            let (status, headers) = (answer.status(), answer.headers().clone());
            let body = answer.bytes().await.map_err(|error| Error::Other(Box::new(error)))?;
            let (mut parts, ()) = http::Response::new(()).into_parts();
            (parts.status, parts.headers) = (status, headers);
            Ok(BytesResponse { parts, body: Box::new(body) })
        })
    }
}

async fn account(
    directory: String,
    roots: &Path,
    external: Option<ExternalAccountKey>,
) -> Result<Account, Error> {
    let new = NewAccount {
        contact: &["mailto:ops@example.test"],
        terms_of_service_agreed: true,
        only_return_existing: false,
    };
    let builder = Account::builder_with_http(Box::new(Http(fetch::client(roots))));
    builder.create(&new, directory, external.as_ref()).await.map(|(account, _)| account)
}

/// Gets a certificate by dns-01; `set` puts the record.
async fn issue(account: &Account, order: &NewOrder<'_>, set: impl Fn(&str, &str)) -> String {
    let mut order = account.new_order(order).await.unwrap();
    let mut authorizations = order.authorizations();
    let mut names = Vec::new();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization.unwrap();
        let mut challenge = authorization.challenge(ChallengeType::Dns01).unwrap();
        let name = challenge.identifier().to_string();
        set(&format!("_acme-challenge.{name}"), &challenge.key_authorization().dns_value());
        challenge.set_ready().await.unwrap();
        names.push(name);
    }
    let retries = RetryPolicy::default();
    order.poll_ready(&retries).await.unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let request = rcgen::CertificateParams::new(names).unwrap().serialize_request(&key).unwrap();
    order.finalize_csr(request.der()).await.unwrap();
    order.poll_certificate(&retries).await.unwrap()
}

/// Whether there is no answer for a while.
fn times_out(url: &str, roots: &Path) -> bool {
    let client = fetch::client(roots);
    let sent = async { client.get(url).timeout(Duration::from_millis(200)).send().await };
    let sent = tokio::runtime::Runtime::new().unwrap().block_on(sent);
    sent.is_err_and(|error| error.is_timeout())
}

#[test]
fn acme_harness_pebble_serves_stops_and_comes_back() {
    let mut pebble = Pebble::start();
    let answer = fetch::get(&pebble.directory(), pebble.roots_file()).unwrap();
    let url = format!("https://{}/order-plz", pebble.address());
    assert_eq!((answer.status, answer.json()["newOrder"].as_str()), (200, Some(url.as_str())));
    assert_eq!((pebble.orders(), pebble.accounts(), pebble.issued().len()), (0, 0, 0));
    pebble.pause();
    assert!(times_out(&pebble.directory(), pebble.roots_file()));
    pebble.resume();
    fetch::get(&pebble.directory(), pebble.roots_file()).unwrap();
    let root = std::fs::read_to_string(pebble.issuer_roots_file()).unwrap();
    pebble.stop();
    fetch::get(&pebble.directory(), pebble.roots_file()).unwrap_err();
    pebble.start_again();
    fetch::get(&pebble.directory(), pebble.roots_file()).unwrap();
    assert_ne!(std::fs::read_to_string(pebble.issuer_roots_file()).unwrap(), root);
    assert!(pebble.issuer_chain().contains("BEGIN CERTIFICATE"));
}

#[test]
fn acme_harness_names_are_what_a_test_says() {
    let pebble = Pebble::start();
    let ask = |kind: &str, name: &str| {
        let mut dig = Command::new("dig");
        let port = pebble.dns_server().port().to_string();
        dig.args(["-r", "@127.0.0.1", "-p", &port, kind, name, "+short"]);
        String::from_utf8(dig.output().unwrap().stdout).unwrap().trim().to_owned()
    };
    let names = pebble.names();
    assert_eq!((ask("A", "a.test"), ask("AAAA", "a.test")), ("127.0.0.1".into(), String::new()));
    names.set_a("a.test", [127, 0, 0, 9].into());
    names.set_caa("a.test", &[("issue", "other.test"), ("iodef", "mailto:a@a.test")]);
    names.set_txt("_acme-challenge.a.test", "one");
    assert_eq!(ask("A", "a.test"), "127.0.0.9");
    assert_eq!(ask("CAA", "a.test").lines().count(), 2);
    assert_eq!(ask("TXT", "_acme-challenge.a.test"), "\"one\"");
    names.clear_txt("_acme-challenge.a.test");
    names.set_caa("a.test", &[]);
    assert_eq!(ask("TXT", "_acme-challenge.a.test") + &ask("CAA", "a.test"), "");
    names.set_servfail("a.test");
    assert_eq!(ask("A", "a.test"), "");
    names.clear_servfail("a.test");
    assert_eq!(ask("A", "a.test"), "127.0.0.9");
}

#[test]
fn acme_harness_proxy_adds_what_pebble_lacks() {
    let pebble = Pebble::start();
    let proxy = FaultProxy::start(&pebble);
    let get = || fetch::get(&proxy.directory(), proxy.roots_file());
    let answer = get().unwrap();
    assert!(answer.json()["newOrder"].as_str().unwrap().contains(&proxy.address().to_string()));
    assert!(answer.json().get("renewalInfo").is_none());

    let (start, end) = (now(), now() + SignedDuration::from_hours(1));
    let explanation = Some("https://ca.test/why".to_owned());
    let retry_after = Some(RetryAfter::Seconds(21_600));
    proxy.set_renewal_info(RenewalInfo::Window { start, end, explanation, retry_after });
    proxy.set_renewal_info_of("other.id", RenewalInfo::Malformed);
    proxy.set_profiles(&[("shortlived", "six days")]);
    proxy.set_caa_identities(&["pebble.test"]);
    let directory = get().unwrap().json();
    let meta = &directory["meta"];
    assert_eq!(meta["profiles"]["shortlived"], "six days");
    assert_eq!(meta["caaIdentities"][0], "pebble.test");
    let url = directory["renewalInfo"].as_str().unwrap();
    let info = fetch::get(&format!("{url}/any.id"), proxy.roots_file()).unwrap();
    assert_eq!(info.json()["suggestedWindow"]["start"], start.to_string());
    assert_eq!(
        (info.json()["explanationURL"].as_str(), info.header("retry-after")),
        (Some("https://ca.test/why"), "21600")
    );
    let info = fetch::get(&format!("{url}/other.id"), proxy.roots_file()).unwrap();
    assert!(info.json()["suggestedWindow"].get("end").is_none());
}

#[test]
fn acme_harness_proxy_goes_wrong_and_passes_on() {
    let mut pebble = Pebble::start();
    let proxy = FaultProxy::start(&pebble);
    let get = || fetch::get(&proxy.directory(), proxy.roots_file());
    proxy.fail(Kind::Directory, 1, Fault::rate_limited(RetryAfter::Seconds(7)));
    let at = "2026-11-26T13:37:16Z".parse().unwrap();
    proxy.fail(Kind::Any, 1, Fault::rate_limited(RetryAfter::Date(at)));
    let refused = get().unwrap();
    assert_eq!((refused.status, refused.header("retry-after")), (429, "7"));
    assert_eq!(refused.json()["type"], "urn:ietf:params:acme:error:rateLimited");
    assert_eq!(get().unwrap().header("retry-after"), "Thu, 26 Nov 2026 13:37:16 GMT");
    assert_eq!(get().unwrap().status, 200);

    proxy.fail(Kind::Directory, 1, Fault::Status(503));
    proxy.fail(Kind::Directory, 1, Fault::Garbage);
    proxy.fail(Kind::Directory, 1, Fault::Truncates);
    proxy.fail(Kind::Directory, 1, Fault::Drops);
    proxy.fail(Kind::Directory, 1, Fault::LosesAnswer);
    proxy.fail(Kind::Directory, 1, Fault::Delay(Duration::from_millis(1)));
    proxy.fail(Kind::Directory, 1, Fault::ComeAgain(RetryAfter::Seconds(3)));
    assert_eq!(get().unwrap().status, 503);
    assert!(get().unwrap().json().is_null());
    // The head came, so that it is the body that ends too soon.
    assert!(get().unwrap_err().contains("Body"), "a truncated body");
    get().unwrap_err();
    get().unwrap_err();
    assert_eq!(get().unwrap().status, 200);
    let later = get().unwrap();
    assert_eq!((later.status, later.header("retry-after")), (200, "3"));

    proxy.skew(SignedDuration::from_hours(-24));
    let date = get().unwrap().header("date").to_owned();
    let date = jiff::fmt::rfc2822::parse(&date).unwrap().timestamp();
    assert!(
        (now() - SignedDuration::from_hours(24)).duration_since(date).abs()
            < SignedDuration::from_mins(1)
    );

    proxy.fail_always(Kind::Directory, Fault::Hangs);
    let before = proxy.requests_of(Kind::Directory).len();
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| times_out(&proxy.directory(), proxy.roots_file()));
        assert_eq!(proxy.wait_requests(Kind::Directory, before + 1)[before].status, None);
        assert!(thread.join().unwrap());
    });
    proxy.heal();
    pebble.stop();
    assert_eq!(get().unwrap().status, 502);
}

#[test]
fn acme_harness_an_order_goes_through_all_of_it() {
    let bind = Bind9::start("example.test");
    let validity = Duration::from_secs(6 * 86_400);
    let pebble = Pebble::options().validity(validity).dns_server(bind.server()).start();
    let proxy = FaultProxy::start(&pebble);
    let window = |retry_after| RenewalInfo::Window {
        start: now(),
        end: now(),
        explanation: None,
        retry_after,
    };
    proxy.set_renewal_info(window(Some(RetryAfter::Seconds(60))));
    proxy.set_profiles(&[("shortlived", "six days")]);
    let replaces: CertificateIdentifier<'_> =
        serde_json::from_str("\"aYhba4dGQEHh.AIdlQyE\"").unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let chain = runtime.block_on(async {
        let account = account(proxy.directory(), proxy.roots_file(), None).await.unwrap();
        let names = [Identifier::Dns("a.example.test".into())];
        let order = NewOrder::new(&names).replaces(replaces).profile("shortlived");
        proxy.fail(Kind::NewOrderReplacing, 1, Fault::already_replaced());
        let refused = account.new_order(&order).await.err().unwrap().to_string();
        assert!(refused.contains("alreadyReplaced"), "{refused}");
        proxy.fail(Kind::NewOrder, 1, Fault::LosesAnswer);
        account.new_order(&order).await.err().unwrap();
        assert_eq!(pebble.orders(), 1, "the server has it, whatever the client knows");
        issue(&account, &order, |name, value| {
            let record = format!("update add {name}. 0 TXT \"{value}\"");
            bind.update_by_key(&record).unwrap();
        })
        .await
    });
    let file = pebble.issuer_roots_file().with_file_name("fullchain.pem");
    std::fs::write(&file, chain).unwrap();
    assert_eq!(certificates(&file).len(), 2);
    assert_eq!((pebble.orders(), pebble.accounts(), pebble.validations()), (2, 1, 1));
    let [serial] = &pebble.issued()[..] else { panic!("{:?}", pebble.issued()) };
    assert_eq!(pebble.status_of(serial), "Valid");
    let orders = proxy.requests_of(Kind::NewOrder);
    assert_eq!(
        orders.iter().map(|seen| seen.status).collect::<Vec<_>>(),
        [Some(409), None, Some(201)]
    );
    assert_eq!(orders[2].payload.as_ref().unwrap()["replaces"], "aYhba4dGQEHh.AIdlQyE");
    assert!(orders[2].account.as_ref().unwrap().contains("/my-account/"));
    assert!(proxy.requests_of(Kind::Order).iter().all(|seen| seen.payload.is_none()));
}

#[test]
fn acme_harness_a_challenge_is_looked_at_where_it_should_be() {
    let pebble = Pebble::options().answers_http01().start();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let account = account(pebble.directory(), pebble.roots_file(), None).await.unwrap();
        for (name, status) in [("a.test", Some(OrderStatus::Ready)), ("b.test", None)] {
            let names = [Identifier::Dns(name.into())];
            let mut order = account.new_order(&NewOrder::new(&names)).await.unwrap();
            let mut authorizations = order.authorizations();
            let mut authorization = authorizations.next().await.unwrap().unwrap();
            let mut challenge = authorization.challenge(ChallengeType::Http01).unwrap();
            if name == "a.test" {
                let answer = challenge.key_authorization();
                pebble.names().set_http01(&challenge.token, answer.as_str());
            }
            challenge.set_ready().await.unwrap();
            assert_eq!(order.poll_ready(&RetryPolicy::default()).await.ok(), status);
        }
    });
    assert_eq!((pebble.validations(), pebble.failed_validations()), (2, 1));
}

#[test]
fn acme_harness_an_account_may_need_an_external_one() {
    const SECRET: &str = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    let accounts = vec![("kid-1".to_owned(), SECRET.to_owned())];
    let pebble = Pebble::options().external_accounts(accounts).start();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let new = |external: Option<ExternalAccountKey>| {
        let made = account(pebble.directory(), pebble.roots_file(), external);
        runtime.block_on(made).map(|account| account.id().to_owned())
    };
    let refused = new(None).unwrap_err().to_string();
    assert!(refused.contains("externalAccountRequired"), "{refused}");
    let wrong = ExternalAccountKey::new("kid-1".into(), b"not the key of this account, by far");
    new(Some(wrong)).unwrap_err();
    let secret = URL_SAFE_NO_PAD.decode(SECRET).unwrap();
    new(Some(ExternalAccountKey::new("kid-1".into(), &secret))).unwrap();
    assert_eq!(pebble.accounts(), 1);
}

#[test]
fn acme_harness_a_name_server_takes_signed_updates() {
    let mut bind = Bind9::start("example.test");
    let name = format!("_acme-challenge.a.{}", bind.zone());
    assert_eq!(bind.query("A", "a.example.test"), ["127.0.0.1"]);
    for value in ["two", "one"] {
        bind.update_by_key(&format!("update add {name}. 0 TXT \"{value}\"")).unwrap();
    }
    assert_eq!(bind.query_txt(&name), ["one", "two"]);
    // What is below a name takes it out of the wildcard.
    assert!(bind.query("A", "a.example.test").is_empty());
    bind.add_a("a.example.test", [127, 0, 0, 1].into());
    bind.add_caa("a.example.test", "issue", "other.test");
    bind.add_cname("_acme-challenge.b.example.test", &name);
    assert_eq!(bind.query("A", "a.example.test"), ["127.0.0.1"]);
    assert_eq!(bind.query("CAA", "a.example.test"), ["0 issue \"other.test\""]);
    assert_eq!(
        bind.query_txt("_acme-challenge.b.example.test").len(),
        3,
        "the name, and both texts"
    );
    // The key is for TXT only, and a wrong secret is good for nothing.
    bind.update_by_key("update add a.example.test. 0 A 127.0.0.2").unwrap_err();
    bind.update_by(bind.key_name(), "d3Jvbmc=", &format!("update delete {name}.")).unwrap_err();
    bind.start_again();
    assert_eq!(bind.query_txt(&name), ["one", "two"]);
    bind.remove(&name);
    assert!(bind.query_txt(&name).is_empty());
}

#[test]
fn acme_harness_a_server_reloads_when_it_is_told() {
    let ca = PrivateCa::new();
    let (roots, folder) = (ca.roots_file(), tempfile::tempdir().unwrap());
    let (fullchain, key) = (folder.path().join("fullchain.pem"), folder.path().join("key.pem"));
    let put = |file: &str| {
        let leaf = ca.issue(file, &["a.test", "127.0.0.1"]);
        std::fs::copy(&leaf.fullchain, &fullchain).unwrap();
        std::fs::copy(&leaf.key, &key).unwrap();
        certificates(&fullchain).remove(0)
    };
    let first = put("first");
    let server = TlsServer::start(&fullchain, &key);
    let hook = || {
        let command = server.hook_command();
        Command::new(&command[0]).args(&command[1..]).env_clear().status().unwrap().success()
    };
    let client =
        TlsClient::new(server.address(), "a.test").trusting(roots).asking("GET / HTTP/1.1\r\n\r\n");
    assert_eq!(client.handshake().unwrap(), first);
    let hammer = client.hammer(2);
    hammer.wait_more(5);

    let second = put("second");
    assert_eq!(handshake(server.address(), "a.test", Some(roots)), first, "nobody told it");
    server.ignore_reloads(true);
    assert!(hook());
    assert_eq!(handshake(server.address(), "a.test", Some(roots)), first, "it does not listen");
    server.ignore_reloads(false);
    server.next_reloads_are(1, Reload::Fails);
    assert!(!hook());
    assert_eq!(handshake(server.address(), "a.test", Some(roots)), first, "it could not");
    assert!(hook());
    assert_eq!(handshake(server.address(), "127.0.0.1", Some(roots)), second);
    hammer.wait_more(5);
    let seen = hammer.stop();
    assert!(seen.failures.is_empty(), "{:?}", seen.failures);
    assert_eq!(seen.leaves, [fingerprint(&first), fingerprint(&second)].into());

    // A key that is of another certificate is found out, and what was served still is.
    std::fs::copy(ca.issue("third", &["a.test"]).key, &key).unwrap();
    assert!(!hook());
    assert_eq!(client.handshake().unwrap(), second);
    assert_eq!(server.reloads(), 4);
    server.refuse(1);
    client.handshake().unwrap_err();
    client.handshake().unwrap();
    TlsClient::new(server.address(), "b.test").trusting(roots).handshake().unwrap_err();
    assert_eq!(handshake(server.address(), "b.test", None), second, "whatever it is");
}
