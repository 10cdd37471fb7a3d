//! HTTP, GET only: the page, its JSON and what changes in it, and metrics for Prometheus.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Extension, RawQuery, Request, State as Shared};
use axum::middleware::{Next, from_fn, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use genesis_storage::EmergencyRecord;
use http::{StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::server::Connected;
use tower::ServiceExt;

use super::agent_rpc::AgentView;
use super::gateway::Gateway;
use super::pages::{self, Failure};
use super::{events, exposition, openapi, page};
use crate::error::{Error, Kind, Result};
use crate::gauging::Gauging;
use crate::operations::baselines::{native, push};
use crate::operations::recovery;
use crate::server::caller::Rules;
use crate::server::connection::{Connection, Connections, GREETING, Peer, Slot, Stream, Who};
use crate::server::listen::shake;
use crate::server::tls::Tls;

/// What metrics are taken from.
#[derive(Clone)]
pub struct Gauged {
    /// Exported metrics.
    pub registry: Arc<Registry>,
    /// Gauges of the agent itself.
    pub gauges: AgentGauges,
    /// Held while gauges are set and read.
    pub gauging: Gauging,
    /// Whose they are.
    pub view: AgentView,
    /// Emergency and rollback.
    pub recovery: recovery::rpc::Service,
}

/// What the HTTP listener shows.
pub(super) struct Site {
    gauged: Gauged,
    pub(super) gateway: Gateway,
    /// Places of those who follow what changes.
    followers: Arc<Semaphore>,
    /// Held by whoever reads metrics.
    scraping: tokio::sync::Mutex<()>,
    stop: CancellationToken,
}

impl Site {
    pub(super) fn new(gauged: Gauged, gateway: Gateway, stop: CancellationToken) -> Arc<Self> {
        let followers = Arc::new(Semaphore::new(events::STREAMS));
        Arc::new(Self { gauged, gateway, followers, scraping: tokio::sync::Mutex::default(), stop })
    }
}

/// Gauges that are read when they are asked for.
#[derive(Clone, Default)]
pub struct AgentGauges {
    resident: prometheus_client::metrics::gauge::Gauge,
    runs: prometheus_client::metrics::gauge::Gauge,
    oplog: prometheus_client::metrics::gauge::Gauge,
    file: prometheus_client::metrics::gauge::Gauge,
    emergency: prometheus_client::metrics::gauge::Gauge,
}

impl AgentGauges {
    /// Gauges that `registry` exports.
    pub fn register(registry: &mut Registry) -> Self {
        use prometheus_client::registry::Unit;

        let gauges = Self::default();
        let registry = registry.sub_registry_with_prefix("genesis_agent");
        registry.register_with_unit(
            "resident",
            "Resident memory of the agent",
            Unit::Bytes,
            gauges.resident.clone(),
        );
        registry.register("runs_active", "Runs that go on", gauges.runs.clone());
        registry.register("oplog_entries", "Entries of the operation log", gauges.oplog.clone());
        registry.register_with_unit(
            "storage_file",
            "Size of the embedded database",
            Unit::Bytes,
            gauges.file.clone(),
        );
        registry.register(
            "emergency_active",
            "1 while an emergency is in force",
            gauges.emergency.clone(),
        );
        gauges
    }
}

/// So many connections are held at a time.
pub const CONNECTIONS: usize = 64;
/// So long the head of a request may take, and the pause before the next one.
const HEAD: Duration = Duration::from_secs(30);
/// Who takes nothing for so many milliseconds of what is sent is cut off.
const UNREAD: u32 = 45_000;
/// How long accepting pauses when the host has no file descriptors left.
const PAUSE: Duration = Duration::from_millis(100);

/// Who may read the pages over TLS: whoever has a role over gRPC.
#[derive(Clone)]
pub struct Secure {
    /// What secures the connections.
    pub tls: Arc<Tls>,
    /// What roles are given by.
    pub rules: Arc<Rules>,
}

/// Serves until `stop`, then lets requests in flight end; over TLS where `secure` is given.
pub(super) async fn serve(
    listener: TcpListener,
    site: Arc<Site>,
    secure: Option<Secure>,
    places: Arc<Connections>,
) {
    let stop = site.stop.clone();
    let router = match secure {
        Some(_) => router(site),
        None => router(site).layer(from_fn(from_here)),
    };
    let going = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, address)) = accepted else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let Some(slot) = places.admit() else { continue };
        // Of what it was sent it takes nothing any more: what the kernel holds for it would look as if it were read.
        let _ = rustix::net::sockopt::set_tcp_user_timeout(&stream, UNREAD);
        let greeting = Box::pin(tokio::time::sleep(GREETING));
        let (router, stop, secure) = (router.clone(), stop.clone(), secure.clone());
        going.spawn(async move {
            let connection = match secure {
                None => {
                    let who = Who::Plaintext(address);
                    Connection::new(Stream::Tcp(stream), who, slot, greeting)
                }
                Some(secure) => match secure.shake(stream, address, slot, greeting).await {
                    Some(connection) => connection,
                    None => return,
                },
            };
            let peer = connection.connect_info();
            let service = router.map_request(move |mut request: http::Request<_>| {
                request.extensions_mut().insert(peer.clone());
                request
            });
            let service = TowerToHyperService::new(service);
            let serving = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD)
                .serve_connection(TokioIo::new(connection), service);
            let mut serving = std::pin::pin!(serving);
            tokio::select! {
                // How a client's connection ends is the client's affair.
                _ = serving.as_mut() => return,
                () = stop.cancelled() => serving.as_mut().graceful_shutdown(),
            }
            let _ = serving.await;
        });
    }
    going.close();
    going.wait().await;
}

impl Secure {
    /// The connection of somebody who has a role; `None`: it has none, which is in the log.
    async fn shake(
        &self,
        stream: TcpStream,
        address: SocketAddr,
        slot: Slot,
        greeting: Pin<Box<Sleep>>,
    ) -> Option<Connection> {
        let (deadline, cut) = (greeting.deadline(), slot.cut());
        let shaken = shake(stream, address, (&self.tls, true), slot, greeting);
        let outcome = tokio::select! {
            // Its place was given to another.
            () = cut.cancelled() => return None,
            outcome = tokio::time::timeout_at(deadline, shaken) => outcome.ok()?,
        };
        let connection = outcome
            .inspect_err(|error| tracing::info!(%address, %error, "an HTTPS client was refused"))
            .ok()?;
        let caller = self.rules.identify(Some(&connection.connect_info()));
        if caller.role.is_none() {
            let (identity, why) = (caller.identity, caller.granted_by);
            tracing::info!(%address, identity, why, "an HTTPS client has no role");
            return None;
        }
        Some(connection)
    }
}

/// The routes.
fn router(site: Arc<Site>) -> Router {
    Router::new()
        .route("/", get(page::page))
        .route("/overview", get(page::fragment))
        .route("/assets/{*name}", get(page::asset))
        .route("/metrics", get(metrics))
        .route("/api/openapi.json", get(described))
        .route("/api/events", get(follow))
        .route("/api/operations/{*page}", get(pages::page))
        .route("/v1/metrics", post(otlp).layer(DefaultBodyLimit::max(push::LIMIT)))
        .fallback(pages::unknown)
        .method_not_allowed_fallback(pages::only_get)
        .layer(from_fn(of_this_page))
        .layer(map_response(page::guard))
        .with_state(site)
}

/// Refuses what a page from elsewhere has its reader's browser ask for. It could not read the answer, but take places
/// and have work done. Whoever follows a link there is welcome.
async fn of_this_page(request: Request, next: Next) -> Response {
    if !is_foreign(request.headers()) {
        return next.run(request).await;
    }
    let message = "a page from elsewhere has asked for this";
    Failure::of(Error::new(Kind::NotAllowed, "ORIGIN_FOREIGN", message)).into_response()
}

/// Whether a browser says that another site's page asks, by itself.
fn is_foreign(headers: &http::HeaderMap) -> bool {
    let of = |name: &str| headers.get(name).map(http::HeaderValue::as_bytes);
    let elsewhere = matches!(of("sec-fetch-site"), Some(b"cross-site" | b"same-site"));
    elsewhere && of("sec-fetch-mode") != Some(b"navigate")
}

async fn described() -> Response {
    static DOCUMENT: OnceLock<Bytes> = OnceLock::new();
    let document = DOCUMENT.get_or_init(|| openapi::document().to_string().into());
    ([(header::CONTENT_TYPE, "application/json")], document.clone()).into_response()
}

/// Refuses whoever has come by another name: a page from elsewhere whose name was made to lead here may have its
/// reader's browser ask, and would read the answer.
async fn from_here(request: Request, next: Next) -> Response {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let first = hosts.next().map(|host| host.to_str().is_ok_and(is_here));
    // One that is left out is of a program that is older than names are.
    if first.unwrap_or(true) && hosts.next().is_none() {
        return next.run(request).await;
    }
    let message = "this listener is for this host: call it localhost, or by its loopback address";
    let mut response =
        Failure::of(Error::new(Kind::NotAllowed, "HOST_FOREIGN", message)).into_response();
    *response.status_mut() = StatusCode::MISDIRECTED_REQUEST;
    page::guard(response).await
}

/// Whether a `Host` names this host only.
fn is_here(host: &str) -> bool {
    let Ok(authority) = host.parse::<http::uri::Authority>() else { return false };
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

async fn follow(
    Shared(site): Shared<Arc<Site>>,
    Extension(peer): Extension<Peer>,
    RawQuery(query): RawQuery,
) -> Response {
    let all = pages::pairs(query.as_deref());
    let wanted: Vec<_> =
        all.into_iter().filter(|(name, _)| name == "follow").map(|(_, value)| value).collect();
    let looker = events::Looker { gateway: site.gateway.clone(), peer };
    events::stream(looker, &wanted, &site.followers, site.stop.clone())
}

async fn metrics(
    Shared(site): Shared<Arc<Site>>,
    headers: http::HeaderMap,
) -> Result<Response, Failure> {
    // One at a time: others wait here and not on threads.
    let _turn = site.scraping.lock().await;
    let gauged = site.gauged.clone();
    let text = tokio::task::spawn_blocking(move || exposed(&gauged)).await.unwrap_or_else(|_| {
        Err(Error::internal("METRICS_FAILED", "metrics hit a defect; see the agent's log"))
    });
    let text = text.map_err(Failure::of)?;
    let accept = headers.get(header::ACCEPT).and_then(|it| it.to_str().ok()).unwrap_or_default();
    // Buckets that follow the values are had only as protobuf, from a Prometheus that asks for it.
    Ok(if native::negotiate(accept) == native::Format::Protobuf {
        let bytes = site.gauged.view.baselines.native(&text);
        ([(header::CONTENT_TYPE, native::CONTENT_TYPE)], bytes).into_response()
    } else if accept.contains("application/openmetrics-text") {
        let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        ([(header::CONTENT_TYPE, kind)], text).into_response()
    } else {
        let kind = "text/plain; version=0.0.4; charset=utf-8";
        ([(header::CONTENT_TYPE, kind)], exposition::plain(&text)).into_response()
    })
}

/// All metrics in the text format of OpenMetrics. Rather none, which Prometheus shows as such, than values that were
/// true once.
fn exposed(gauged: &Gauged) -> Result<String> {
    let _still = gauged.gauging.hold();
    let held = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    gauged.gauges.resident.set(held(gauged.view.outside.host.resident_bytes()));
    gauged.gauges.runs.set(held(gauged.view.runs.active_count() as u64));
    gauged.gauges.file.set(held(gauged.view.state.store().file_bytes()));
    let emergency = gauged.view.runs.emergency();
    gauged.gauges.emergency.set(emergency.active().into());
    let epoch = emergency.current().filter(EmergencyRecord::active);
    let recovery = &gauged.recovery.recovery;
    recovery.metrics.show(&recovery.course.live(), epoch.map(|record| record.epoch));
    let head = gauged.view.state.read(|reading| Ok(reading.oplog().head()?))?;
    gauged.gauges.oplog.set(held(head.sequence));
    gauged.view.health.gauge()?;
    gauged.view.alerts.gauge();
    gauged.view.backup.gauge()?;
    gauged.view.baselines.gauge();
    gauged.view.experiments.gauge();
    gauged.view.matrices.gauge();
    gauged.view.certificates.gauge()?;
    recovery.gauge()?;
    // The status sets the gauges of the sources.
    gauged.view.logs.status()?;
    let mut text = String::new();
    encode(&mut text, &gauged.registry).map_err(|error| {
        Error::internal("METRICS_FAILED", "metrics can't be written").caused_by(error)
    })?;
    Ok(text)
}

/// Takes metrics of OpenTelemetry's exporters, the only thing that changes anything here; off unless it is configured.
async fn otlp(Shared(site): Shared<Arc<Site>>, headers: http::HeaderMap, body: Bytes) -> Response {
    let of = |name| headers.get(name).and_then(|it| it.to_str().ok()).unwrap_or_default();
    let asked = push::Asked {
        authorization: of(header::AUTHORIZATION),
        kind: of(header::CONTENT_TYPE),
        encoding: of(header::CONTENT_ENCODING),
        body: &body,
    };
    match site.gauged.view.baselines.push(asked).await {
        Ok((kind, answer)) => ([(header::CONTENT_TYPE, kind)], answer).into_response(),
        Err(error) => {
            let status = match error.kind {
                Kind::NotFound => StatusCode::NOT_FOUND,
                Kind::NotAllowed => StatusCode::UNAUTHORIZED,
                Kind::Invalid => StatusCode::BAD_REQUEST,
                _ => StatusCode::SERVICE_UNAVAILABLE,
            };
            (status, format!("{error}\n")).into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_host_are_answered() {
        for host in ["localhost", "LOCALHOST:7480", "127.0.0.1:7480", "127.8.9.1", "[::1]:7480"] {
            assert!(is_here(host), "{host}");
        }
        for host in
            ["", "evil.example", "localhost.evil.example:7480", "10.0.0.1", "127.0.0.1.evil", "a b"]
        {
            assert!(!is_here(host), "{host:?}");
        }
    }
}
