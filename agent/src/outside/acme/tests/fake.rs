//! What no CA of Debian's says: a server that answers as it is told.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::sync::Mutex;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};

use super::*;
use crate::outside::Clock;

/// An answer: status, headers, body.
type Told = (u16, Vec<(&'static str, String)>, String);

/// The header of an answer that breaks off.
const CUT: &str = "x-cut";

/// What is answered where, and what was asked.
#[derive(Default)]
struct Script {
    answers: Mutex<BTreeMap<String, Told>>,
    asked: Mutex<Vec<(String, Value)>>,
}

struct Fake {
    folder: tempfile::TempDir,
    base: String,
    script: Arc<Script>,
}

/// What was signed.
fn payload_of(body: &[u8]) -> Value {
    use base64::Engine as _;

    let signed: Value = serde_json::from_slice(body).unwrap_or_default();
    let payload = signed["payload"].as_str().unwrap_or_default();
    let bytes = base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(payload).unwrap();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

impl Fake {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        server::certify(&folder);
        let chain = CertificateDer::from_pem_file(folder.path().join("cert.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_file(folder.path().join("key.pem")).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![chain], key)
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("https://{}", listener.local_addr().unwrap());
        let script = Arc::<Script>::default();
        let shared = Arc::clone(&script);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, script) = (acceptor.clone(), Arc::clone(&shared));
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(|request: Request<Incoming>| {
                        let script = Arc::clone(&script);
                        async move {
                            let path = request.uri().path().to_owned();
                            let body = request.into_body().collect().await.unwrap().to_bytes();
                            Ok::<_, Infallible>(script.answer(&path, &body))
                        }
                    });
                    let http = hyper::server::conn::http1::Builder::new();
                    let _ = http.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        let fake = Self { folder, base, script };
        let at = |path: &str| format!("{}{path}", fake.base);
        fake.says(
            "/dir",
            200,
            &[],
            &json!({
                "newNonce": at("/nonce"), "newAccount": at("/account"), "newOrder": at("/order"),
                "revokeCert": at("/revoke"), "renewalInfo": at("/ari/"),
                "meta": { "profiles": { "short": "x" } },
            })
            .to_string(),
        );
        fake.says("/nonce", 200, &[], "");
        fake.says("/account", 201, &[("location", at("/account/1"))], "{}");
        fake
    }

    fn says(&self, path: &str, status: u16, headers: &[(&'static str, String)], body: &str) {
        let told = (status, headers.to_vec(), body.to_owned());
        self.script.answers.lock().unwrap().insert(path.to_owned(), told);
    }

    fn ca(&self) -> Authority {
        Authority {
            name: "fake".into(),
            directory: format!("{}/dir", self.base),
            contact: vec![],
            external: None,
            roots_file: Some(self.folder.path().join("ca.pem")),
            accounts: self.folder.path().join("accounts"),
        }
    }

    fn asked(&self, path: &str) -> Vec<Value> {
        let asked = self.script.asked.lock().unwrap();
        asked.iter().filter(|(at, _)| at.starts_with(path)).map(|(_, it)| it.clone()).collect()
    }
}

impl Script {
    fn answer(&self, path: &str, body: &[u8]) -> Response<UnsyncBoxBody<Bytes, io::Error>> {
        self.asked.lock().unwrap().push((path.to_owned(), payload_of(body)));
        let answers = self.answers.lock().unwrap();
        let found = answers.iter().rev().find(|(at, _)| path.starts_with(at.as_str()));
        let (status, headers, body) = found.map_or((404, vec![], String::new()), |it| it.1.clone());
        let mut response = Response::builder().status(status).header("replay-nonce", "bm9uY2U");
        let cut = headers.iter().any(|(name, _)| *name == CUT);
        for (name, value) in headers {
            response = response.header(name, value);
        }
        let body = Bytes::from(body);
        let frames = [Ok(Frame::data(body.clone())), Err(io::Error::other("cut off"))];
        let body = match cut {
            true => StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync(),
            false => Full::new(body).map_err(|never| match never {}).boxed_unsync(),
        };
        response.body(body).unwrap()
    }
}

/// A certificate that says who signed it.
fn signed() -> Vec<u8> {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = Issuer::new(params, KeyPair::generate().unwrap());
    let mut params = CertificateParams::new(vec!["one.test".to_owned()]).unwrap();
    params.use_authority_key_identifier_extension = true;
    params.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap().der().to_vec()
}

fn problem(kind: &str, detail: &str) -> String {
    json!({ "type": format!("urn:ietf:params:acme:error:{kind}"), "detail": detail }).to_string()
}

#[tokio::test]
async fn renewal_information_is_taken_with_and_without_a_time_to_ask_again() {
    let (fake, acme, leaf) = (Fake::start().await, acme(), signed());
    let ca = fake.ca();
    let directory = acme.directory(&ca).await.unwrap();
    assert!(directory.renewal_info && directory.date.is_some());
    assert_eq!(directory.profiles, ["short"]);
    let window = |start: &str, end: &str| {
        json!({ "suggestedWindow": { "start": start, "end": end } }).to_string()
    };
    let (start, end) = ("2026-01-02T04:00:00Z", "2026-01-03T04:00:00Z");
    fake.says("/ari/", 200, &[], &window(start, end));
    let info = acme.renewal_info(&ca, &leaf).await.unwrap();
    assert_eq!((info.start, info.ask_again), (start.parse().unwrap(), None));
    fake.says("/ari/", 200, &[("retry-after", "21600".into())], &window(start, end));
    let info = acme.renewal_info(&ca, &leaf).await.unwrap();
    assert_eq!(info.ask_again, Some(Duration::from_secs(21_600)));
    fake.says("/ari/", 200, &[("retry-after", "600".into())], &window(end, start));
    let trouble = acme.renewal_info(&ca, &leaf).await.unwrap_err();
    assert_eq!(trouble.class, Class::Server);
    assert_eq!(trouble.retry_after, Some(Duration::from_secs(600)));
    assert!(trouble.message.contains("before it starts") && trouble.date.is_some(), "{trouble}");
    // What is no certificate has no name there.
    assert_eq!(acme.renewal_info(&ca, b"x").await.unwrap_err().class, Class::Local);
    for (status, body, class) in [
        (404, problem("malformed", "no such certificate"), Class::Policy),
        (404, "<html>".to_owned(), Class::Server),
        (503, String::new(), Class::Server),
        (429, problem("rateLimited", "later"), Class::RateLimited),
        (302, String::new(), Class::Server),
        (200, "x".repeat(2 << 20), Class::Server),
    ] {
        fake.says("/ari/", status, &[("location", format!("{}/x", fake.base))], &body);
        let trouble = acme.renewal_info(&ca, &leaf).await.unwrap_err();
        assert_eq!(trouble.class, class, "{status}: {trouble}");
    }
    assert!(fake.asked("/x").is_empty(), "no redirection is followed");
}

#[tokio::test]
async fn an_order_says_what_it_replaces_and_is_never_placed_twice() {
    let (fake, acme, leaf) = (Fake::start().await, acme(), signed());
    let (ca, url) = (fake.ca(), format!("{}/o/1", fake.base));
    let name = super::super::ari::name_of(&leaf).unwrap().to_string();
    let wanted = Wanted {
        replaces: Some(leaf),
        profile: Some("short".into()),
        ..wanted(&["one.test", "127.0.0.1"])
    };
    let order = |more: Value| {
        let mut order = json!({
            "status": "pending", "authorizations": [], "finalize": format!("{url}/finalize"),
        });
        order.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        order.to_string()
    };
    let location = [("location", url.clone())];
    fake.says("/order", 201, &location, &order(json!({ "replaces": name })));
    let placed = acme.order(&ca, &wanted).await.unwrap();
    assert_eq!(placed, Ordered { url: url.clone(), replaces: true });
    let asked = fake.asked("/order");
    assert_eq!(asked[0]["replaces"], name.as_str());
    assert_eq!(asked[0]["profile"], "short");
    assert_eq!(asked[0]["identifiers"][1], json!({ "type": "ip", "value": "127.0.0.1" }));
    // One that does not say so has made the order all the same.
    for other in [json!({}), json!({ "replaces": "other.other" })] {
        fake.says("/order", 201, &location, &order(other));
        let placed = acme.order(&ca, &wanted).await.unwrap();
        assert_eq!(placed, Ordered { url: url.clone(), replaces: false });
    }
    assert_eq!(fake.asked("/order").len(), 3);
    for (status, kind, detail, class) in [
        (409, "alreadyReplaced", "x", Class::Replaces),
        (409, "conflict", "x", Class::Replaces),
        (
            403,
            "unauthorized",
            "account did not request the certificate being replaced",
            Class::Replaces,
        ),
        (403, "unauthorized", "account is deactivated", Class::Policy),
        (400, "rejectedIdentifier", "never", Class::Policy),
        (400, "badNonce", "x", Class::Server),
        (500, "serverInternal", "x", Class::Server),
    ] {
        fake.says("/order", status, &[], &problem(kind, detail));
        let trouble = acme.order(&ca, &wanted).await.unwrap_err();
        assert_eq!((trouble.class, trouble.kind.as_str()), (class, kind), "{trouble}");
        assert!(trouble.date.is_some());
    }
    let nonces = fake.asked("/order").len() - 3 - 6;
    assert_eq!(nonces, 18, "once and five times more, three attempts each");
}

#[tokio::test]
async fn how_long_to_wait_is_heard_with_every_refusal() {
    let (fake, acme, clock) = (Fake::start().await, acme(), SystemClock::new());
    let ca = fake.ca();
    let until = |seconds: i64| {
        let at = clock.now() + jiff::SignedDuration::from_secs(seconds);
        at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
    };
    for (status, wait, body, class) in [
        (429, "3600".to_owned(), problem("rateLimited", "too many"), Class::RateLimited),
        (429, until(3_600), problem("rateLimited", "too many"), Class::RateLimited),
        (429, "3600".to_owned(), "<html>".to_owned(), Class::RateLimited),
        (503, "3600".to_owned(), problem("serverInternal", "down"), Class::Server),
        (503, "3600".to_owned(), String::new(), Class::Server),
    ] {
        fake.says("/order", status, &[("retry-after", wait.clone())], &body);
        let trouble = acme.order(&ca, &wanted(&["one.test"])).await.unwrap_err();
        assert_eq!(trouble.class, class, "{trouble}");
        let heard = trouble.retry_after.unwrap().as_secs();
        assert!((3_595..=3_605).contains(&heard), "{wait}: {heard}");
    }
    // What makes no sense.
    let forbidden = "{\"message\":\"Forbidden\"}";
    for (status, body) in
        [(201, "{\"status\":"), (201, "[]"), (200, ""), (400, "no"), (403, forbidden)]
    {
        fake.says("/order", status, &[], body);
        let trouble = acme.order(&ca, &wanted(&["one.test"])).await.unwrap_err();
        assert_eq!(trouble.class, Class::Server, "{status} {body}: {trouble}");
    }
    fake.says("/order", 201, &[(CUT, String::new())], "{\"status\"");
    let trouble = acme.order(&ca, &wanted(&["one.test"])).await.unwrap_err();
    assert_eq!(trouble.class, Class::Server, "{trouble}");
    assert!(trouble.message.contains("cut off"), "{trouble}");
    // The CA has gone from nonces.
    fake.says("/nonce", 404, &[], "");
    let trouble = acme.order(&ca, &wanted(&["one.test"])).await.unwrap_err();
    assert_eq!(trouble.class, Class::Server, "{trouble}");
}

#[tokio::test]
async fn looks_that_fail_in_between_give_no_order_up_and_many_do() {
    let (fake, acme, clock) = (Fake::start().await, acme(), SystemClock::new());
    let (ca, url) = (fake.ca(), format!("{}/o/1", fake.base));
    let answer = Answer::HttpWebroot("/nowhere".into());
    let order = |status: &str, more: Value| {
        let mut order = json!({
            "status": status, "authorizations": [], "finalize": format!("{}/finalize", fake.base),
        });
        order.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        order.to_string()
    };
    fake.says("/o/1", 200, &[], &order("ready", json!({})));
    fake.says("/finalize", 200, &[], &order("processing", json!({})));
    let finish = acme.finish(&ca, &url, &answer, b"x", PATIENCE);
    let change = async {
        while fake.asked("/finalize").is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        fake.says("/o/1", 503, &[], "");
        tokio::time::sleep(Duration::from_millis(100)).await;
        let failed =
            json!({ "error": { "type": "urn:ietf:params:acme:error:caa", "detail": "no" } });
        fake.says("/o/1", 200, &[], &order("invalid", failed));
    };
    let trouble = tokio::join!(finish, change).0.unwrap_err();
    assert_eq!((trouble.class, trouble.kind.as_str()), (Class::Policy, "caa"), "{trouble}");
    // Asked again later, nobody knows whether that is still so: another order tells.
    let trouble = acme.finish(&ca, &url, &answer, b"x", PATIENCE).await.unwrap_err();
    assert_eq!(trouble.class, Class::OrderGone, "{trouble}");
    assert_eq!(fake.asked("/finalize").len(), 1);

    fake.says("/o/1", 200, &[], &order("processing", json!({})));
    let begun = clock.monotonic();
    let finish = acme.finish(&ca, &url, &answer, b"x", PATIENCE);
    let change = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        fake.says("/o/1", 503, &[], "");
    };
    let trouble = tokio::join!(finish, change).0.unwrap_err();
    assert_eq!(trouble.class, Class::Server, "{trouble}");
    assert!(clock.monotonic() - begun < Duration::from_secs(5));
    // As long as there is patience.
    fake.says("/o/1", 200, &[("retry-after", "9".into())], &order("processing", json!({})));
    let patience = Duration::from_millis(100);
    let trouble = acme.finish(&ca, &url, &answer, b"x", patience).await.unwrap_err();
    assert_eq!(trouble.class, Class::Server, "{trouble}");
    let stage = "the order, waiting for the certificate: not done within 0.1 s";
    assert!(trouble.message.contains(stage), "{trouble}");
    for (status, body) in
        [(404, problem("malformed", "no order")), (403, problem("unauthorized", "x"))]
    {
        fake.says("/o/1", status, &[], &body);
        let trouble = acme.finish(&ca, &url, &answer, b"x", PATIENCE).await.unwrap_err();
        assert_eq!(trouble.class, Class::OrderGone, "{trouble}");
    }
}
