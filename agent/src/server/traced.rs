//! Calls and their traces: the one that a caller sends along, or a new one, in the span of the call and in its answer.

use http::{HeaderMap, HeaderName, HeaderValue, Response};
use tonic::body::Body;

use super::caller::Caller;
use super::status::outcome;
use crate::outside::telemetry;
use crate::trace::Trace;

/// What a caller sends, as W3C Trace Context has it.
pub(super) const TRACEPARENT: &str = "traceparent";
/// What every answer has, failed ones too.
pub(super) const TRACE_ID: HeaderName = HeaderName::from_static("genesis-trace-id");

/// The trace that a call belongs to.
pub(super) fn of(headers: &HeaderMap) -> Trace {
    let mut sent = headers.get_all(TRACEPARENT).iter();
    let one = sent.next().filter(|_| sent.next().is_none());
    let parsed = one.and_then(|header| header.to_str().ok()).and_then(Trace::parse);
    parsed.unwrap_or_else(Trace::begin)
}

/// The span of a call. Every line that is logged in it has its trace.
pub(super) fn span(path: &str, caller: &Caller, trace: &Trace) -> tracing::Span {
    // At the highest level, so that no `log_level` leaves it out.
    let span = tracing::error_span!(
        "call",
        otel.name = path.trim_start_matches('/'),
        otel.kind = "server",
        rpc.system = "grpc",
        identity = caller.identity,
        trace_id = trace.id(),
        outcome = tracing::field::Empty,
        otel.status_code = tracing::field::Empty,
    );
    telemetry::follow(&span, trace);
    span
}

/// Says in the answer which trace it belongs to, and in the span how the call went.
pub(super) fn answered(mut response: Response<Body>, trace: &Trace) -> Response<Body> {
    let (span, outcome) = (tracing::Span::current(), outcome(&response));
    span.record("outcome", outcome);
    if outcome != "ok" {
        span.record("otel.status_code", "ERROR");
    }
    // Hex digits are good for a header.
    if let Ok(id) = HeaderValue::from_str(&trace.id()) {
        response.headers_mut().insert(TRACE_ID, id);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_sends_two_traces_gets_a_third() {
        let one = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let mut headers = HeaderMap::new();
        let id = |headers: &HeaderMap| of(headers).id();
        assert_ne!(id(&headers), id(&headers), "a new one each time");
        headers.append(TRACEPARENT, HeaderValue::from_static(one));
        assert_eq!(id(&headers), "4bf92f3577b34da6a3ce929d0e0e4736");
        headers.append(TRACEPARENT, HeaderValue::from_static(one));
        assert_ne!(id(&headers), "4bf92f3577b34da6a3ce929d0e0e4736");
    }
}
