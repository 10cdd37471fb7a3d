//! A collector of OpenTelemetry's spans: OTLP over gRPC, as the specification has it.

use std::net::{SocketAddr, TcpListener as Listening};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use genesis_agent::pki::{Role, Validity};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};

use crate::clock::wait_for;
use crate::pki::Authority;

/// A collector that keeps what it is told; it ends with this.
pub struct Collector {
    address: SocketAddr,
    secure: bool,
    told: Arc<Mutex<Told>>,
    _runtime: Runtime,
}

/// What was told, and by whom.
#[derive(Debug, Default, Clone)]
pub struct Told {
    /// Every span.
    pub spans: Vec<Span>,
    /// Attributes of whoever tells: `service.name` and so on.
    pub resource: Vec<(String, String)>,
    /// The header `authorization` of the last request.
    pub authorization: String,
}

struct Service(Arc<Mutex<Told>>);

fn locked(told: &Mutex<Told>) -> MutexGuard<'_, Told> {
    told.lock().unwrap_or_else(PoisonError::into_inner)
}

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let sent = request.metadata().get("authorization").and_then(|it| it.to_str().ok());
        let mut told = locked(&self.0);
        told.authorization = sent.unwrap_or_default().to_owned();
        for of in request.into_inner().resource_spans {
            let attributes = of.resource.unwrap_or_default().attributes;
            told.resource =
                attributes.into_iter().map(|it| (it.key.clone(), text(it.value))).collect();
            told.spans.extend(of.scope_spans.into_iter().flat_map(|it| it.spans));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn text(value: Option<opentelemetry_proto::tonic::common::v1::AnyValue>) -> String {
    match value.and_then(|it| it.value) {
        Some(Value::StringValue(text)) => text,
        other => format!("{other:?}"),
    }
}

/// An attribute of a span.
pub fn attribute(span: &Span, key: &str) -> Option<String> {
    span.attributes.iter().find(|it| it.key == key).map(|it| text(it.value.clone()))
}

impl Collector {
    /// One that listens on loopback, in plaintext.
    ///
    /// # Panics
    /// When it can't.
    pub fn start() -> Self {
        Self::serve(None)
    }

    /// One that listens on loopback, with a certificate of this CA.
    ///
    /// # Panics
    /// When it can't.
    pub fn secured(authority: &Authority) -> Self {
        let server = authority.issue("collector", Role::Agent, Validity::Days(1));
        Self::serve(Some(Identity::from_pem(server.certificate_pem, server.key_pem)))
    }

    fn serve(identity: Option<Identity>) -> Self {
        let listening = Listening::bind("127.0.0.1:0").expect("a port");
        listening.set_nonblocking(true).expect("a listener");
        let address = listening.local_addr().expect("its address");
        let told: Arc<Mutex<Told>> = Arc::default();
        let secure = identity.is_some();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let service = TraceServiceServer::new(Service(Arc::clone(&told)));
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listening).expect("a listener");
            let incoming = TcpListenerStream::new(listener);
            let server = Server::builder();
            let mut server = match identity {
                Some(identity) => server
                    .tls_config(ServerTlsConfig::new().identity(identity))
                    .expect("a certificate and its key"),
                None => server,
            };
            server.add_service(service).serve_with_incoming(incoming).await
        });
        Self { address, secure, told, _runtime: runtime }
    }

    /// What `[tracing] otlp_endpoint` names it by.
    pub fn endpoint(&self) -> String {
        let scheme = if self.secure { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// What it was told so far.
    pub fn told(&self) -> Told {
        locked(&self.told).clone()
    }

    /// The first span for which `wanted` holds, once there is one.
    ///
    /// # Panics
    /// When there is none in time.
    pub fn wait_span(&self, what: &str, wanted: impl Fn(&Span) -> bool) -> Span {
        wait_for(what, || self.told().spans.into_iter().find(|span| wanted(span)))
    }
}
