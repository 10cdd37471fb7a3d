//! An error as JSON.

use genesis_client::{Error, Violation};
use serde::Serialize;

#[derive(Serialize)]
pub(super) struct JsonError<'a> {
    code: &'a str,
    reason: &'a str,
    message: &'a str,
    details: Vec<JsonDetail<'a>>,
    next: &'a str,
    #[serde(rename = "traceId", skip_serializing_if = "Option::is_none")]
    trace_id: Option<&'a str>,
}

#[derive(Serialize)]
struct JsonDetail<'a> {
    code: &'a str,
    subject: &'a str,
    message: &'a str,
}

impl<'a> From<&'a Error> for JsonError<'a> {
    fn from(error: &'a Error) -> Self {
        let detail = |violation: &'a Violation| JsonDetail {
            code: &violation.code,
            subject: &violation.subject,
            message: &violation.message,
        };
        Self {
            code: error.code,
            reason: &error.reason,
            message: &error.message,
            details: error.violations.iter().map(detail).collect(),
            next: &error.next,
            trace_id: error.trace_id.as_deref(),
        }
    }
}
