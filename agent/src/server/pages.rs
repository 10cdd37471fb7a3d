//! Pages of JSON over HTTP, and how they fail.

use std::sync::Arc;

use axum::extract::{Extension, State as Shared};
use axum::response::{IntoResponse, Response};
use genesis_proto::code_name;
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use serde_json::{Value, json};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::connection::Peer;
use super::gateway::Asked;
use super::http::Site;
use super::routes::{ROUTES, find};
use super::status::to_status;
use super::traced::{TRACE_ID, TRACEPARENT};
use crate::error::{Error, Kind};

/// A failed request, as its reader gets it.
pub(super) struct Failure(Status);

impl Failure {
    pub(super) fn of(error: Error) -> Self {
        Self(to_status(error))
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self(status)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let kind = [(header::CONTENT_TYPE, "application/json")];
        let mut response =
            (http_code(self.0.code()), kind, format!("{}\n", explain(&self.0))).into_response();
        let trace = self.0.metadata().get(TRACE_ID.as_str()).and_then(|id| id.to_str().ok());
        if let Some(trace) = trace.and_then(|id| HeaderValue::from_str(id).ok()) {
            response.headers_mut().insert(TRACE_ID, trace);
        }
        if let Some(wait) = self.0.get_details_retry_info().and_then(|info| info.retry_delay) {
            let seconds = HeaderValue::from(wait.as_secs().max(1));
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        response
    }
}

/// What went wrong, in the form that `genesisctl -o json` has it in.
pub(super) fn explain(status: &Status) -> Value {
    let reason = status.get_details_error_info().map(|info| info.reason).unwrap_or_default();
    let (code, message) = (code_name(status.code()), status.message());
    let mut said = json!({ "error": { "code": code, "reason": reason, "message": message } });
    if let Some(trace) = status.metadata().get(TRACE_ID.as_str()).and_then(|id| id.to_str().ok()) {
        said["error"]["traceId"] = trace.into();
    }
    said
}

fn http_code(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::InvalidArgument | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::FailedPrecondition | Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::ResourceExhausted | Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Cancelled | Code::Unknown | Code::Internal | Code::DataLoss => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    }
}

/// The pairs of a query.
pub(super) fn pairs(query: Option<&str>) -> Vec<(String, String)> {
    form_urlencoded::parse(query.unwrap_or_default().as_bytes()).into_owned().collect()
}

/// `GET /api/operations/DOMAIN/WHAT`.
pub(super) async fn page(
    Shared(site): Shared<Arc<Site>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Failure> {
    // As it is written: no page has a name that has to be escaped.
    let path = uri.path().strip_prefix("/api/operations/").unwrap_or_default();
    let Some(route) = find(path) else {
        let all: Vec<_> = ROUTES.iter().map(|route| route.path).collect();
        return Err(missing(&format!("no page {path:?}; there are: {}", all.join(", "))));
    };
    let asked = Asked { peer, trace: headers.get(TRACEPARENT).cloned() };
    let mut answer = site.gateway.json(route, &pairs(uri.query()), &asked).await?;
    answer.text.push(b'\n');
    let kind = [(header::CONTENT_TYPE, "application/json")];
    let mut response = (kind, answer.text).into_response();
    if let Some(trace) = answer.trace {
        response.headers_mut().insert(TRACE_ID, trace);
    }
    Ok(response)
}

/// Whatever else is asked for.
pub(super) async fn unknown() -> Failure {
    missing("no such page; there are: /, /metrics, /api/openapi.json, which describes the others")
}

/// Another method than GET.
pub(super) async fn only_get() -> Response {
    let error = Error::invalid("METHOD_NOT_ALLOWED", "everything here is looked at by GET alone");
    let mut response = Failure::of(error).into_response();
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    response
}

pub(super) fn missing(message: &str) -> Failure {
    Failure::of(Error::new(Kind::NotFound, "PAGE_UNKNOWN", message))
}
