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

use crate::find_call;

/// The metadata key of the caller's reason: UTF-8 as it is, without control characters.
pub const REASON_KEY: &str = "genesis-reason";

/// The metadata key of the request id, a ULID as text.
pub const REQUEST_ID_KEY: &str = "genesis-request-id";

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

/// The reason as it is sent: its UTF-8, with a space for each control character, which no header can hold.
pub(crate) fn reason_value(text: &str) -> Option<MetadataValue<Ascii>> {
    let text = text.replace(char::is_control, " ");
    MetadataValue::try_from(text.as_bytes()).ok()
}
