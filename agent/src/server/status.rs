//! The agent's errors as gRPC status with google.rpc details.

use std::time::Duration;

use genesis_proto::code_name;
use http::Response;
use tonic::body::Body;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, PreconditionViolation, StatusExt};

use crate::error::{Error, Kind};

/// The domain of all our ErrorInfo.
pub const DOMAIN: &str = "genesis.trading";

/// At most so many violations are sent, so that a status stays within the header limits.
const VIOLATIONS: usize = 20;
/// At most so many characters of a message are sent.
const MESSAGE_LIMIT: usize = 2_000;
/// What the library says, as a fault of the server, of a request that it can't read.
const UNREAD: [&str; 2] = ["failed to decode Protobuf message", "Missing request message"];

/// Turns an error into the status that a client gets: ErrorInfo.reason is the stable code, one
/// PreconditionFailure violation stands for each unmet condition, RetryInfo where a time is known.
#[allow(clippy::needless_pass_by_value)] // So that it fits `map_err`.
pub fn to_status(error: Error) -> Status {
    if error.kind == Kind::Internal {
        tracing::error!(code = error.code, error = error.chain(), "a call failed");
    }
    let code = match error.kind {
        Kind::Invalid => Code::InvalidArgument,
        Kind::Refused => Code::FailedPrecondition,
        Kind::NotFound => Code::NotFound,
        Kind::Conflict if error.code == "PLAN_CHANGED" => Code::Aborted,
        Kind::Conflict => Code::AlreadyExists,
        Kind::Unavailable if error.retry_after.is_some() => Code::ResourceExhausted,
        Kind::Unavailable => Code::Unavailable,
        Kind::NotAllowed => Code::PermissionDenied,
        Kind::Incomplete => Code::DataLoss,
        Kind::Cancelled => Code::Cancelled,
        Kind::Internal => Code::Internal,
    };
    let mut details = ErrorDetails::with_error_info(
        error.code,
        DOMAIN,
        [("kind".to_owned(), format!("{:?}", error.kind))],
    );
    if !error.unmet.is_empty() {
        let violations = error.unmet.iter().take(VIOLATIONS);
        details.set_precondition_failure(
            violations
                .map(|unmet| {
                    PreconditionViolation::new(unmet.code, cut(&unmet.subject), cut(&unmet.message))
                })
                .collect::<Vec<_>>(),
        );
    }
    if let Some(wait) = error.retry_after {
        details.set_retry_info(Some(wait.max(Duration::from_millis(1))));
    }
    Status::with_error_details(code, cut(&error.chain()), details)
}

fn cut(text: &str) -> String {
    if text.chars().count() <= MESSAGE_LIMIT {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(MESSAGE_LIMIT).collect();
    short.push('…');
    short
}

/// An answer as it is sent: that a request can't be read is no fault of the agent, but the caller's.
pub fn readable(answer: Response<Body>) -> Response<Body> {
    let bare = |status: &Status| status.code() == Code::Internal && status.details().is_empty();
    match Status::from_header_map(answer.headers()).filter(bare) {
        Some(status) if UNREAD.iter().any(|said| status.message().starts_with(said)) => {
            let message = format!("the request is no message of its rpc: {}", status.message());
            to_status(Error::invalid("MESSAGE_UNREADABLE", message)).into_http()
        }
        _ => answer,
    }
}

/// The outcome of a unary call: errors come as headers, without a body.
pub fn outcome(response: &http::Response<tonic::body::Body>) -> &'static str {
    let status = response.headers().get("grpc-status").and_then(|value| value.to_str().ok());
    let code = status.and_then(|code| code.parse::<i32>().ok()).map(Code::from_i32);
    outcome_of(code.unwrap_or(Code::Ok))
}

/// What became of a call, as the operation log has it: a code by its canonical name.
pub fn outcome_of(code: Code) -> &'static str {
    match code {
        Code::Ok => "ok",
        code => code_name(code),
    }
}
