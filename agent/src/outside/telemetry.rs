//! Spans for a collector of OpenTelemetry, by OTLP over gRPC. Nobody waits for it: what does not fit into a bounded
//! queue, or can't be told in time, is dropped and counted.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use opentelemetry::trace::{
    SpanContext, TraceContextExt, TraceFlags, TraceState, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue, SpanId, TraceId};
use opentelemetry_otlp::{SpanExporter as Otlp, WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, IdGenerator, RandomIdGenerator, Sampler, SdkTracer,
    SdkTracerProvider, Span, SpanData, SpanExporter, SpanProcessor,
};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tonic::metadata::{KeyAndValueRef, MetadataKey, MetadataMap, MetadataValue};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};
use tracing_opentelemetry::{OpenTelemetryLayer, OpenTelemetrySpanExt};
use tracing_subscriber::registry::LookupSpan;

use super::notify::read_secret;
use crate::config::telemetry::Telemetry;
use crate::error::{Error, Result};
use crate::trace::Trace;

/// So many spans wait for the collector.
const QUEUE: u64 = 4_096;
/// So many are told at a time.
const BATCH: usize = 512;
/// How long they may wait for others.
const DELAY: Duration = Duration::from_secs(1);
/// What the collector may take for a batch.
const TIMEOUT: Duration = Duration::from_secs(5);
/// What the last spans may take when the agent ends.
const GOODBYE: Duration = Duration::from_secs(2);
/// Of a span and of its attributes, so many are told.
const ATTRIBUTES: u32 = 32;

/// What has become of spans.
#[derive(Debug, Default)]
struct Counts {
    /// Ended, and neither told nor dropped yet.
    waiting: AtomicU64,
    told: AtomicU64,
    dropped: AtomicU64,
    /// It was said that spans are dropped.
    said: std::sync::atomic::AtomicBool,
}

impl Counts {
    fn dropped(&self, spans: u64, why: &str) {
        self.dropped.fetch_add(spans, Ordering::Relaxed);
        if !self.said.swap(true, Ordering::Relaxed) {
            tracing::warn!(why, "spans can't be told to the collector, and are dropped");
        }
    }
}

/// Tells spans until it is dropped.
#[derive(Debug)]
pub struct Exporter {
    provider: SdkTracerProvider,
    counts: Arc<Counts>,
}

impl Exporter {
    /// To the collector that is configured; `None`: there is none.
    ///
    /// # Errors
    /// `TRACING_INVALID`: a file that can't be used.
    pub fn begin(config: &Telemetry, hostname: &str) -> Result<Option<Self>> {
        if config.endpoint.is_empty() {
            return Ok(None);
        }
        let invalid = |why: String| Error::invalid("TRACING_INVALID", why);
        let headers = match &config.headers_file {
            Some(file) => headers(file).map_err(invalid)?,
            None => MetadataMap::new(),
        };
        let chained = |error: tonic::transport::Error| invalid(error.to_string());
        let mut endpoint = Endpoint::from_shared(config.endpoint.clone())
            .map_err(chained)?
            .connect_timeout(TIMEOUT)
            .timeout(TIMEOUT);
        if config.endpoint.starts_with("https:") {
            let tls = match &config.ca_file {
                Some(file) => ClientTlsConfig::new()
                    .ca_certificate(Certificate::from_pem(authorities(file).map_err(invalid)?)),
                None => ClientTlsConfig::new().with_native_roots(),
            };
            endpoint = endpoint.tls_config(tls).map_err(chained)?;
        }
        // Ours come last: what the environment says in OTEL_* goes before nothing that is configured.
        let configured = move |mut request: tonic::Request<()>| {
            for header in headers.iter() {
                if let KeyAndValueRef::Ascii(key, value) = header {
                    request.metadata_mut().insert(key.clone(), value.clone());
                }
            }
            Ok(request)
        };
        let otlp = Otlp::builder()
            .with_tonic()
            .with_channel(endpoint.connect_lazy())
            .with_interceptor(configured)
            .with_timeout(TIMEOUT)
            .build()
            .map_err(|error| invalid(error.to_string()))?;
        let counts = Arc::new(Counts::default());
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(usize::try_from(QUEUE).unwrap_or(BATCH))
            .with_max_export_batch_size(BATCH)
            .with_scheduled_delay(DELAY)
            .build();
        let told = Told { inner: otlp, counts: Arc::clone(&counts) };
        let inner = BatchSpanProcessor::builder(told).with_batch_config(batches).build();
        let resource = Resource::builder_empty()
            .with_service_name("genesis-agent")
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .with_attribute(KeyValue::new("host.name", hostname.to_owned()))
            .build();
        let provider = SdkTracerProvider::builder()
            .with_resource(resource)
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(config.sample))))
            .with_id_generator(Ids(RandomIdGenerator::default()))
            .with_max_attributes_per_span(ATTRIBUTES)
            .with_max_events_per_span(ATTRIBUTES)
            .with_span_processor(Bounded { inner, counts: Arc::clone(&counts) })
            .build();
        Ok(Some(Self { provider, counts }))
    }

    /// What takes spans from `tracing`.
    pub fn layer<S>(&self) -> OpenTelemetryLayer<S, SdkTracer>
    where
        S: tracing::Subscriber + for<'span> LookupSpan<'span>,
    {
        tracing_opentelemetry::layer()
            .with_tracer(self.provider.tracer("genesis-agent"))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
    }

    /// What is exported of it.
    pub fn counts(&self) -> impl Collector + use<> {
        Exported(Arc::clone(&self.counts))
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        // A collector that does not answer is not waited for.
        let _ = self.provider.shutdown_with_timeout(GOODBYE);
    }
}

/// Whose span is the parent of `span`, where somebody else has begun the trace.
pub fn follow(span: &tracing::Span, trace: &Trace) {
    if let Some((parent, sampled)) = trace.parent() {
        let flags = if sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
        let id = TraceId::from_bytes(trace.id_bytes());
        let parent =
            SpanContext::new(id, SpanId::from_bytes(parent), flags, true, TraceState::NONE);
        // Nobody is told of spans where there is no layer.
        let _ = span.set_parent(Context::new().with_remote_span_context(parent));
    }
}

/// The files that are of no use, as key and message.
pub fn check_host(config: &Telemetry) -> Vec<(String, String)> {
    let headers = config.headers_file.as_ref().and_then(|file| headers(file).err());
    let authorities = config.ca_file.as_ref().and_then(|file| authorities(file).err());
    [("otlp_headers_file", headers), ("otlp_ca_file", authorities)]
        .into_iter()
        .filter_map(|(key, why)| Some((format!("tracing.{key}"), why?)))
        .collect()
}

/// A file of CAs, which has at least one.
fn authorities(file: &Path) -> Result<Vec<u8>, String> {
    let shown = file.display();
    let pem = std::fs::read(file).map_err(|error| format!("can't read {shown}: {error}"))?;
    match CertificateDer::pem_slice_iter(&pem).next() {
        Some(Ok(_)) => Ok(pem),
        _ => Err(format!("{shown} has no certificate in PEM")),
    }
}

/// `name: value` lines; the words of an error hold no value.
fn headers(file: &Path) -> Result<MetadataMap, String> {
    let shown = file.display();
    let mut map = MetadataMap::new();
    for (number, line) in (1..).zip(read_secret(file)?.lines()) {
        if line.trim().is_empty() {
            continue;
        }
        let wrong = || format!("line {number} of {shown} is no \"name: value\"");
        let (name, value) = line.split_once(':').ok_or_else(wrong)?;
        let name = name.trim().to_ascii_lowercase();
        let key = MetadataKey::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
        let mut value = MetadataValue::try_from(value.trim()).map_err(|_| wrong())?;
        value.set_sensitive(true);
        map.insert(key, value);
    }
    Ok(map)
}

/// The trace of what is being done here; spans have random ids.
#[derive(Debug)]
struct Ids(RandomIdGenerator);

impl IdGenerator for Ids {
    fn new_trace_id(&self) -> TraceId {
        let current = crate::trace::current();
        current.map_or_else(|| self.0.new_trace_id(), |trace| TraceId::from_bytes(trace.id_bytes()))
    }

    fn new_span_id(&self) -> SpanId {
        self.0.new_span_id()
    }
}

/// Lets no more spans wait than there is room for, and counts the others.
#[derive(Debug)]
struct Bounded {
    inner: BatchSpanProcessor,
    counts: Arc<Counts>,
}

impl SpanProcessor for Bounded {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.inner.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if !span.span_context.is_sampled() {
            return;
        }
        if self.counts.waiting.fetch_add(1, Ordering::Relaxed) >= QUEUE {
            self.counts.waiting.fetch_sub(1, Ordering::Relaxed);
            self.counts.dropped(1, "it is behind");
            return;
        }
        self.inner.on_end(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

/// Counts what the collector took.
#[derive(Debug)]
struct Told {
    inner: Otlp,
    counts: Arc<Counts>,
}

impl SpanExporter for Told {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len() as u64;
        let outcome = self.inner.export(batch).await;
        self.counts.waiting.fetch_sub(spans, Ordering::Relaxed);
        match &outcome {
            Ok(()) => {
                self.counts.told.fetch_add(spans, Ordering::Relaxed);
                self.counts.said.store(false, Ordering::Relaxed);
            }
            Err(error) => self.counts.dropped(spans, &error.to_string()),
        }
        outcome
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

/// The counts as metrics.
#[derive(Debug)]
struct Exported(Arc<Counts>);

impl Collector for Exported {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let each = [
            ("genesis_tracing_spans_told", "Spans that the collector took", &self.0.told),
            (
                "genesis_tracing_spans_dropped",
                "Spans that were dropped, since the collector was behind or away",
                &self.0.dropped,
            ),
        ];
        for (name, help, count) in each {
            let counter = ConstCounter::new(count.load(Ordering::Relaxed));
            let metric = encoder.encode_descriptor(name, help, None, counter.metric_type())?;
            counter.encode(metric)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn headers_are_read_from_a_file_of_ones_own_and_errors_hold_none() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("headers");
        let read = |text: &str, mode| {
            std::fs::write(&file, text).unwrap();
            std::fs::set_permissions(&file, PermissionsExt::from_mode(mode)).unwrap();
            headers(&file)
        };
        let map = read("Authorization: Bearer s3cret\n\nx-tenant:  one\n", 0o600).unwrap();
        assert_eq!(map.get("authorization").unwrap(), "Bearer s3cret");
        assert_eq!(map.get("x-tenant").unwrap(), "one");
        assert!(!format!("{map:?}").contains("s3cret"), "{map:?}");
        for (text, mode) in [
            ("x: s3cret\n", 0o644),
            ("s3cret", 0o600),
            ("a b: s3cret", 0o600),
            ("x: s3cret\u{7}", 0o600),
        ] {
            let error = read(text, mode).unwrap_err();
            assert!(!error.contains("s3cret"), "{error}");
        }
    }
}
