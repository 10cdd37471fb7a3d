//! What the proxy answers by itself, and in which shape.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame};
use serde_json::{Value, json};

use super::RenewalInfo;
use super::faults::RetryAfter;

/// What goes back to the client.
pub(super) type Answer = Response<BoxBody<Bytes, io::Error>>;

/// The name of the header with the next nonce.
pub(super) const NONCE: &str = "replay-nonce";

/// An answer in memory.
pub(super) struct Page {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Page {
    pub(super) fn new(status: u16, kind: &'static str, body: impl Into<Bytes>) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        Self { status, headers, body: body.into() }
    }

    /// What stands before a server says when there is none, or when it is ill.
    pub(super) fn html(status: u16) -> Self {
        Self::new(status, "text/html", format!("<html><h1>{status}: come again later</h1></html>"))
    }

    pub(super) fn problem(status: u16, kind: &str, detail: &str) -> Self {
        let kind = format!("urn:ietf:params:acme:error:{kind}");
        let body = json!({"type": kind, "detail": detail, "status": status});
        Self::new(status, "application/problem+json", body.to_string())
    }

    pub(super) fn renewal_info(info: Option<&RenewalInfo>) -> Self {
        let json = |body: &Value| Self::new(200, "application/json", body.to_string());
        match info {
            None => Self::problem(404, "malformed", "no such certificate"),
            Some(RenewalInfo::Malformed) => json(&json!({"suggestedWindow": {"start": "soon"}})),
            Some(RenewalInfo::Window { start, end, explanation, retry_after }) => {
                let mut body = json!({"suggestedWindow": {
                    "start": start.to_string(),
                    "end": end.to_string(),
                }});
                if let Some(url) = explanation {
                    body["explanationURL"] = json!(url);
                }
                let mut page = json(&body);
                page.retry_after(*retry_after);
                page
            }
        }
    }

    pub(super) fn retry_after(&mut self, at: Option<RetryAfter>) {
        if let Some(at) = at {
            self.set(header::RETRY_AFTER, &at.header());
        }
    }

    pub(super) fn set(&mut self, name: impl header::IntoHeaderName, value: &str) {
        self.headers.insert(name, HeaderValue::from_str(value).expect("letters and digits"));
    }

    /// Changes its body, when that is JSON.
    pub(super) fn edit(&mut self, edit: impl FnOnce(&mut Value)) {
        if let Ok(mut body) = serde_json::from_slice(&self.body) {
            edit(&mut body);
            self.body = serde_json::to_vec_pretty(&body).expect("JSON").into();
        }
    }

    /// The whole of it.
    pub(super) fn whole(self) -> Answer {
        let body = Full::new(self.body).map_err(|never| match never {});
        answer(self.status, self.headers, body.boxed())
    }

    /// The first half of it, said to be the whole.
    pub(super) fn half(mut self) -> Answer {
        let length = self.body.len();
        self.set(header::CONTENT_LENGTH, &length.to_string());
        let half = self.body.slice(..length / 2);
        answer(self.status, self.headers, Half { half: Some(half), sent: false }.boxed())
    }
}

fn answer(status: u16, headers: HeaderMap, body: BoxBody<Bytes, io::Error>) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status.try_into().expect("a status");
    *answer.headers_mut() = headers;
    answer
}

/// A body that ends too soon.
struct Half {
    half: Option<Bytes>,
    sent: bool,
}

impl Body for Half {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if let Some(half) = self.half.take() {
            return Poll::Ready(Some(Ok(Frame::data(half))));
        }
        if !std::mem::replace(&mut self.sent, true) {
            // hyper sends what it has only when there is nothing more at once; after an error it would throw it away.
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into())))
    }
}
