//! What every call carries beside its message.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{GrpcMethod, Request, Status};
use ulid::Ulid;

use crate::{Error, find_call};

/// The metadata key of the caller's reason: UTF-8 as it is, without control characters.
pub const REASON_KEY: &str = "genesis-reason";

/// The metadata key of the request id, a ULID as text.
pub const REQUEST_ID_KEY: &str = "genesis-request-id";

/// The metadata key of the trace that a call belongs to, as W3C Trace Context has it.
const TRACEPARENT_KEY: &str = "traceparent";

/// The metadata key of the trace that an answer belongs to.
pub(crate) const TRACE_ID_KEY: &str = "genesis-trace-id";

/// The longest reason, in bytes of UTF-8.
pub const REASON_LIMIT: usize = 1024;

/// The connection that the generated service clients use.
pub type Transport = InterceptedService<Channel, Metadata>;

/// Adds the reason, the request id and the deadline to each call.
#[derive(Debug, Clone)]
pub struct Metadata {
    pub(crate) reason: Option<MetadataValue<Ascii>>,
    /// For mutating calls only: reads before and after it must not look like repeats of it.
    pub(crate) request_id: Option<MetadataValue<Ascii>>,
    /// The id shared by the attempts of one call.
    pub(crate) attempt_id: Option<MetadataValue<Ascii>>,
    /// The trace of each call: 32 hex digits.
    pub(crate) trace_id: Option<String>,
    pub(crate) timeout: Duration,
    /// Set once a mutating call went through here.
    pub(crate) mutated: Arc<AtomicBool>,
}

impl Metadata {
    /// The id that a mutating call carries, where it is the same for all attempts.
    pub(crate) fn mutating_id(&self) -> Option<String> {
        let id = self.request_id.as_ref().or(self.attempt_id.as_ref())?;
        id.to_str().ok().map(str::to_owned)
    }
}

impl Interceptor for Metadata {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let call = request
            .extensions()
            .get::<GrpcMethod<'static>>()
            .and_then(|method| find_call(method.service(), method.method()));
        let mutating = call.is_none_or(|call| call.mutating);
        if mutating {
            self.mutated.store(true, Ordering::Relaxed);
        }
        if !call.is_some_and(|call| call.streaming) {
            request.set_timeout(self.timeout);
        }
        let id = match &self.request_id {
            Some(id) if mutating => id.clone(),
            _ => self.attempt_id.clone().unwrap_or_else(fresh_id),
        };
        request.metadata_mut().insert(REQUEST_ID_KEY, id);
        if let Some(parent) = self.trace_id.as_deref().and_then(traceparent) {
            request.metadata_mut().insert(TRACEPARENT_KEY, parent);
        }
        if let Some(reason) = &self.reason {
            request.metadata_mut().insert(REASON_KEY, reason.clone());
        }
        Ok(request)
    }
}

/// A new request id.
pub(crate) fn fresh_id() -> MetadataValue<Ascii> {
    // The alphabet of ULIDs is ASCII, so the fallback is never taken.
    MetadataValue::try_from(Ulid::generate().to_string())
        .unwrap_or_else(|_| MetadataValue::from_static("00000000000000000000000000"))
}

/// A new trace: 32 hex digits, for [`crate::Options::trace_id`].
pub fn new_trace() -> String {
    format!("{:032x}", Ulid::generate().0)
}

/// A trace that can be sent.
pub(crate) fn trace_id(text: &str) -> Result<String, Error> {
    let digits = text.len() == 32 && text.bytes().all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f'));
    if digits && text.bytes().any(|it| it != b'0') {
        return Ok(text.to_owned());
    }
    let message = format!("{text:?} is no trace: 32 hex digits in lower case, not all of them 0");
    Err(Error::invalid("TRACE_INVALID", message, "leave it out, or take one of a tracer"))
}

/// What is sent of it: each call has a span of its own, which the caller records.
fn traceparent(trace: &str) -> Option<MetadataValue<Ascii>> {
    // The random part of a ULID; never all zeros.
    let span = (Ulid::generate().0 as u64).max(1);
    MetadataValue::try_from(format!("00-{trace}-{span:016x}-01")).ok()
}

/// The reason as it is sent: its UTF-8, with a space for each control character, which no header can hold.
pub(crate) fn reason_value(text: &str) -> Option<MetadataValue<Ascii>> {
    let text = text.replace(char::is_control, " ");
    MetadataValue::try_from(text.as_bytes()).ok()
}
