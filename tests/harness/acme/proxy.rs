//! A proxy before Pebble that goes wrong as a test wants, and adds what Pebble 2.4 lacks: renewal information (RFC 9773)
//! and profiles. Pebble derives every URL from the Host header, also those that it holds signed requests against, so
//! that nothing has to be rewritten on the way.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::answers::{Answer, NONCE, Page};
use super::faults::{Fault, Faults, Kind, RetryAfter, http_date};
use super::{Pebble, fetch};
use crate::clock::{Watch, now, wait_until};
use crate::private_ca::PrivateCa;
use crate::tls_server::server_config;

/// What is said of a certificate's renewal.
#[derive(Debug, Clone)]
pub enum RenewalInfo {
    /// It should be in this time.
    Window {
        /// From when on.
        start: Timestamp,
        /// Until when.
        end: Timestamp,
        /// A page that says why.
        explanation: Option<String>,
        /// When to ask again.
        retry_after: Option<RetryAfter>,
    },
    /// JSON that says no time.
    Malformed,
}

/// A request that came.
#[derive(Debug, Clone)]
pub struct Seen {
    /// What it was for.
    pub kind: Kind,
    /// Its path.
    pub path: String,
    /// Whose it was: the URL of the account that signed it, if it has one.
    pub account: Option<String>,
    /// What was signed, when it was more than the wish to read.
    pub payload: Option<Value>,
    /// What the client was answered; none as long as it was not, or not at all.
    pub status: Option<u16>,
    /// How long after the proxy's start it came.
    pub at: Duration,
}

#[derive(Default)]
struct State {
    faults: Faults,
    renewal: Option<RenewalInfo>,
    renewal_of: BTreeMap<String, RenewalInfo>,
    /// What the directory says of the server beside what Pebble says.
    meta: Map<String, Value>,
    skew: SignedDuration,
    seen: Vec<Seen>,
    /// By the last piece of an order's URL: what it was asked for and Pebble knows nothing of.
    orders: BTreeMap<String, Map<String, Value>>,
}

/// The proxy, until it is dropped.
pub struct FaultProxy {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    ca: Arc<PrivateCa>,
    _runtime: tokio::runtime::Runtime,
}

impl FaultProxy {
    /// One on a port of its own before this server. All goes well until it is told otherwise; while the server is down
    /// it answers 502.
    ///
    /// # Panics
    /// When it can't be started.
    pub fn start(pebble: &Pebble) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
        let address = listener.local_addr().expect("a bound port");
        let ca = Arc::clone(pebble.ca());
        let leaf = ca.issue(&format!("proxy-{}", address.port()), &["localhost", "127.0.0.1"]);
        let mut config = server_config(&leaf.fullchain, &leaf.key).expect("our own files");
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let state = Arc::new(Mutex::new(State::default()));
        let server = Server {
            state: Arc::clone(&state),
            upstream: pebble.address(),
            client: fetch::client(pebble.roots_file()),
            address,
            watch: Watch::start(),
        };
        runtime.spawn(server.serve(listener, TlsAcceptor::from(Arc::new(config))));
        Self { address, state, ca, _runtime: runtime }
    }

    /// The URL of the directory.
    pub fn directory(&self) -> String {
        format!("https://{}/dir", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The file (PEM) with the root of its own certificate: the same as Pebble's.
    pub fn roots_file(&self) -> &std::path::Path {
        self.ca.roots_file()
    }

    /// The next requests of a kind go wrong, so many of them. Of several faults the one that was said first comes first.
    pub fn fail(&self, kind: Kind, times: usize, fault: Fault) {
        self.lock().faults.add(kind, Some(times), fault);
    }

    /// All requests of a kind go wrong from now on.
    pub fn fail_always(&self, kind: Kind, fault: Fault) {
        self.lock().faults.add(kind, None, fault);
    }

    /// Nothing goes wrong from now on. What hangs already still does.
    pub fn heal(&self) {
        self.lock().faults.clear();
    }

    /// The Date of its answers is off by so much from now on.
    pub fn skew(&self, by: SignedDuration) {
        self.lock().skew = by;
    }

    /// The directory names a place for renewal information, and this is what it says of every certificate that nothing
    /// else was said of.
    pub fn set_renewal_info(&self, info: RenewalInfo) {
        self.lock().renewal = Some(info);
    }

    /// The same for one certificate, by its id: the key id of its issuer and its serial number, in base64url with a dot
    /// between them.
    pub fn set_renewal_info_of(&self, id: &str, info: RenewalInfo) {
        self.lock().renewal_of.insert(id.to_owned(), info);
    }

    /// There is no renewal information any more, nor a place for it in the directory.
    pub fn clear_renewal_info(&self) {
        let mut state = self.lock();
        state.renewal = None;
        state.renewal_of.clear();
    }

    /// The directory has these profiles, each with a text for people. Orders for them, and for others, are passed on.
    pub fn set_profiles(&self, profiles: &[(&str, &str)]) {
        let profiles = profiles.iter().map(|(name, text)| ((*name).to_owned(), json!(text)));
        self.lock().meta.insert("profiles".into(), Value::Object(profiles.collect()));
    }

    /// The directory says that these are the names by which CAA records allow this CA.
    pub fn set_caa_identities(&self, names: &[&str]) {
        self.lock().meta.insert("caaIdentities".into(), json!(names));
    }

    /// The requests so far, in the order in which they came.
    pub fn requests(&self) -> Vec<Seen> {
        self.lock().seen.clone()
    }

    /// The requests of one kind so far.
    pub fn requests_of(&self, kind: Kind) -> Vec<Seen> {
        self.requests().into_iter().filter(|seen| seen.kind == kind).collect()
    }

    /// Waits until so many requests of one kind came, answered or not; those are all there are by then.
    ///
    /// # Panics
    /// When they don't.
    #[track_caller]
    pub fn wait_requests(&self, kind: Kind, count: usize) -> Vec<Seen> {
        let what = format!("{count} requests of {kind:?}");
        wait_until(&what, || self.requests_of(kind).len() >= count);
        self.requests_of(kind)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().expect("never poisoned")
}

#[derive(Clone)]
struct Server {
    state: Arc<Mutex<State>>,
    upstream: SocketAddr,
    client: reqwest::Client,
    address: SocketAddr,
    watch: Watch,
}

impl Server {
    async fn serve(self, listener: TcpListener, acceptor: TlsAcceptor) {
        while let Ok((socket, _)) = listener.accept().await {
            let (server, acceptor) = (self.clone(), acceptor.clone());
            tokio::spawn(async move {
                // Whoever leaves in the middle, or does not trust this, is no concern of the server.
                let Ok(stream) = acceptor.accept(socket).await else { return };
                let service = hyper::service::service_fn(move |request| {
                    let server = server.clone();
                    async move { server.answer(request).await }
                });
                let connection = hyper::server::conn::http1::Builder::new();
                let _ = connection.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    }

    /// An error closes the connection.
    async fn answer(&self, request: Request<Incoming>) -> io::Result<Answer> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        let path = parts.uri.path().to_owned();
        let (account, payload) = signed(&body);
        let kind = Kind::of(&path);
        let (place, fault) = {
            let mut state = lock(&self.state);
            let (payload, at) = (payload.clone(), self.watch.elapsed());
            let fault = state.faults.take(kind, payload.as_ref());
            state.seen.push(Seen { kind, path: path.clone(), account, payload, status: None, at });
            (state.seen.len() - 1, fault)
        };
        let posted = parts.method == Method::POST;
        let request = Request::from_parts(parts, body);
        let answered = async |request| {
            let mut page = match kind {
                Kind::RenewalInfo => self.renewal_info(&path),
                _ => self.forward(request).await,
            };
            self.add(kind, &path, payload.as_ref(), &mut page);
            page
        };
        let (mut page, whole) = match fault {
            None => (answered(request).await, true),
            Some(Fault::Delay(delay)) => {
                tokio::time::sleep(delay).await;
                (answered(request).await, true)
            }
            Some(Fault::ComeAgain(at)) => {
                let mut page = answered(request).await;
                page.retry_after(Some(at));
                (page, true)
            }
            Some(Fault::Truncates) => (answered(request).await, false),
            Some(Fault::Status(status)) => (Page::html(status), true),
            Some(Fault::Garbage) => (self.with_nonce(Page::html(200), posted).await, true),
            Some(Fault::Problem { status, kind, detail, retry_after }) => {
                let mut page = Page::problem(status, kind, &detail);
                page.retry_after(retry_after);
                (self.with_nonce(page, posted).await, true)
            }
            Some(Fault::Drops) => return Err(io::ErrorKind::ConnectionAborted.into()),
            Some(Fault::Hangs) => never(std::future::pending().await),
            Some(Fault::LosesAnswer) => {
                answered(request).await;
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            Some(Fault::HoldsAnswer) => {
                answered(request).await;
                never(std::future::pending().await)
            }
        };
        let mut state = lock(&self.state);
        if !state.skew.is_zero() {
            page.set(header::DATE, &http_date(now() + state.skew));
        }
        state.seen[place].status = Some(page.status);
        drop(state);
        Ok(if whole { page.whole() } else { page.half() })
    }

    fn renewal_info(&self, path: &str) -> Page {
        let state = lock(&self.state);
        let info = state.renewal_of.get(last(path)).or(state.renewal.as_ref());
        Page::renewal_info(info)
    }

    /// What Pebble says, to whom the client seems to talk to it directly.
    async fn forward(&self, request: Request<Bytes>) -> Page {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let mut headers = parts.headers;
        for hop in [header::CONNECTION, header::TRANSFER_ENCODING, header::CONTENT_LENGTH] {
            headers.remove(hop);
        }
        let url = format!("https://{}{path}", self.upstream);
        let sent = self.client.request(parts.method, url).headers(headers).body(body).send().await;
        let Ok(answer) = sent else { return Page::html(502) };
        let (status, mut headers) = (answer.status().as_u16(), answer.headers().clone());
        for hop in [header::CONNECTION, header::TRANSFER_ENCODING, header::CONTENT_LENGTH] {
            headers.remove(hop);
        }
        let Ok(body) = answer.bytes().await else { return Page::html(502) };
        Page { status, headers, body }
    }

    /// Adds what Pebble does not say.
    fn add(&self, kind: Kind, path: &str, payload: Option<&Value>, page: &mut Page) {
        if !(200..300).contains(&page.status) {
            return;
        }
        let mut state = lock(&self.state);
        match kind {
            Kind::Directory => page.edit(|body| {
                if state.renewal.is_some() || !state.renewal_of.is_empty() {
                    body["renewalInfo"] = json!(format!("https://{}/renewal-info", self.address));
                }
                for (name, value) in &state.meta {
                    body["meta"][name] = value.clone();
                }
            }),
            Kind::NewOrder => {
                let asked = |name: &str| Some((name.to_owned(), payload?.get(name)?.clone()));
                let asked: Map<_, _> =
                    ["replaces", "profile"].into_iter().filter_map(asked).collect();
                let order = page.headers.get(header::LOCATION).and_then(|url| url.to_str().ok());
                if let Some(order) = order {
                    state.orders.insert(last(order).to_owned(), asked.clone());
                }
                page.edit(|body| merge(body, &asked));
            }
            Kind::Order | Kind::Finalize => {
                if let Some(asked) = state.orders.get(last(path)) {
                    page.edit(|body| merge(body, asked));
                }
            }
            _ => {}
        }
    }

    /// An answer to what was signed has the nonce for the next request, also when it is a problem.
    async fn with_nonce(&self, mut page: Page, posted: bool) -> Page {
        if posted {
            let url = format!("https://{}/nonce-plz", self.upstream);
            let answer = self.client.head(url).send().await.ok();
            if let Some(nonce) = answer.as_ref().and_then(|answer| answer.headers().get(NONCE)) {
                page.headers.insert(NONCE, nonce.clone());
            }
        }
        page
    }
}

fn never<T>(never: Infallible) -> T {
    match never {}
}

/// The last piece of a path or URL.
fn last(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

fn merge(body: &mut Value, more: &Map<String, Value>) {
    if let Some(body) = body.as_object_mut() {
        body.extend(more.clone());
    }
}

/// The account and the payload of a signed request (RFC 7515). Whether the signature is good is Pebble's to say.
fn signed(body: &[u8]) -> (Option<String>, Option<Value>) {
    let jws: Value = serde_json::from_slice(body).unwrap_or_default();
    let part = |name: &str| -> Option<Value> {
        let text = URL_SAFE_NO_PAD.decode(jws.get(name)?.as_str()?).ok()?;
        serde_json::from_slice(&text).ok()
    };
    let account = part("protected").and_then(|it| Some(it.get("kid")?.as_str()?.to_owned()));
    (account, part("payload"))
}
