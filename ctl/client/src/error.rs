//! What went wrong, in terms of what the caller should do about it.

mod advice;

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use genesis_proto::code_name;
use tonic::{Code, ConnectError, Status, TimeoutExpired};
use tonic_types::{ErrorDetails, StatusExt};

use crate::dial::TooSlow;
use crate::metadata::TRACE_ID_KEY;
use crate::refusal::Refusal;
use crate::{Node, NodeError};

/// What kind of failure it is, by what the caller should do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Nobody answers. Nothing was changed.
    Unreachable,
    /// The two sides refuse each other: this side does not trust the server's certificate, or the agent does
    /// not know who is calling. Nothing was changed.
    Unauthenticated,
    /// The caller's role does not suffice, or the operating system denies the socket.
    NotAllowed,
    /// Preconditions are not met; [`Failure::violations`] says which. Nothing was changed.
    Refused,
    /// What was asked for does not exist.
    NotFound,
    /// Something else holds what is needed, or the state has moved on.
    Conflict,
    /// The request itself is wrong.
    Invalid,
    /// The agent, or what it needs for the answer, is busy or down for now.
    Unavailable,
    /// The call was sent, but what came of it is not known, or only a part of the answer came.
    Incomplete,
    /// A fault in the agent.
    Internal,
}

/// One thing that stands in the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// A stable UPPER_SNAKE code, or empty.
    pub code: String,
    /// What it concerns: a path, a field, a key.
    pub subject: String,
    /// What is wrong.
    pub message: String,
}

/// The parts of an [`Error`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Failure {
    /// What kind it is.
    pub kind: Kind,
    /// The name of the gRPC code, such as `FAILED_PRECONDITION`.
    pub code: &'static str,
    /// The stable UPPER_SNAKE reason, such as `LOG_TYPE_UNKNOWN`; empty when the agent gave none.
    pub reason: String,
    /// What was attempted and what is wrong with it.
    pub message: String,
    /// One for each unmet condition or wrong field.
    pub violations: Vec<Violation>,
    /// When it makes sense to try again, if the agent said so.
    pub retry_after: Option<Duration>,
    /// What to do next, in words.
    pub next: String,
    /// The id of a changing call whose outcome is not known. The agent keeps it for 24 hours: the same call sent
    /// again under this id ([`crate::Options::request_id`]) is answered with what came of it the first time.
    pub request_id: Option<String>,
    /// The trace that the agent says the call belongs to: its entries in the operation log and its log have it too.
    pub trace_id: Option<String>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

/// Why a call failed. Its parts are those of [`Failure`].
#[derive(Debug, Clone)]
pub struct Error(Box<Failure>);

impl Deref for Error {
    type Target = Failure;

    fn deref(&self) -> &Failure {
        &self.0
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

impl From<NodeError> for Error {
    fn from(error: NodeError) -> Self {
        Self::invalid("NODE_INVALID", error.to_string(), "correct the node's address")
    }
}

const START_OR_NAME: &str = "start it with `genesis-agent`, or name another node";
const LOOK_FIRST: &str = "look at the runs and the oplog before repeating it";

impl Error {
    /// An error of the client's own making, for programs that add checks of theirs.
    pub fn new(
        kind: Kind,
        code: &'static str,
        reason: impl Into<String>,
        message: impl Into<String>,
        next: impl Into<String>,
    ) -> Self {
        Self(Box::new(Failure {
            kind,
            code,
            reason: reason.into(),
            message: message.into(),
            violations: Vec::new(),
            retry_after: None,
            next: next.into(),
            request_id: None,
            trace_id: None,
            source: None,
        }))
    }

    /// The same error with another hint about what to do next.
    #[must_use]
    pub fn with_next(mut self, next: impl Into<String>) -> Self {
        self.0.next = next.into();
        self
    }

    fn with_source(mut self, source: Option<Arc<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = source;
        self
    }

    pub(crate) fn invalid(reason: &str, message: String, next: &str) -> Self {
        Self::new(Kind::Invalid, "INVALID_ARGUMENT", reason, message, next)
    }

    /// Nothing was sent yet: connecting failed.
    pub(crate) fn connecting(node: &Node, error: tonic::transport::Error) -> Self {
        Self::unconnected(node, &error).with_source(Some(Arc::new(error)))
    }

    /// A connection broke because one side refused the other, before the agent had read anything.
    pub(crate) fn or_refused(self, node: &Node, refusal: Option<&Refusal>) -> Self {
        match refusal {
            Some(refusal) if ["OUTCOME_UNKNOWN", "CONNECTION_BROKEN"].contains(&&*self.reason) => {
                refusal.explain(node).with_source(self.0.source)
            }
            _ => self,
        }
    }

    /// A changing call whose outcome is not known, with the id under which it can be asked for.
    pub(crate) fn under_id(mut self, id: Option<String>) -> Self {
        if self.reason == "OUTCOME_UNKNOWN"
            && let Some(id) = id
        {
            self.0.next = format!(
                "send it again under its request id (`--request-id {id}`) within 24 hours, then the agent \
                 answers what came of it; or {LOOK_FIRST}"
            );
            self.0.request_id = Some(id);
        }
        self
    }

    /// The same error with more about where it happened, in front of its message.
    pub(crate) fn within(mut self, place: &str) -> Self {
        self.0.message = format!("{place}: {}", self.0.message);
        self
    }

    pub(crate) fn timeout(node: &Node, mutating: bool, limit: Duration) -> Self {
        let message = format!("{node} took the call but did not answer within {limit:?}");
        if mutating {
            Self::new(Kind::Incomplete, "DEADLINE_EXCEEDED", "OUTCOME_UNKNOWN", message, LOOK_FIRST)
        } else {
            let next = "try again with a longer timeout, or look at the agent's log";
            Self::new(Kind::Unreachable, "DEADLINE_EXCEEDED", "AGENT_TIMEOUT", message, next)
        }
    }

    pub(crate) fn lost_run(node: &Node, id: &str, broken: Option<Self>) -> Self {
        let message = format!("lost run {id} on {node}: the connection could not be resumed");
        let next =
            "watch it again once the agent answers: the run does not depend on being watched";
        Self::new(Kind::Incomplete, "UNAVAILABLE", "RUN_LOST", message, next)
            .with_source(broken.map(|error| Arc::new(error) as _))
    }

    /// How long the agent asks to wait before sending the call again, if it shed the call.
    pub(crate) fn shed_pause(&self) -> Option<Duration> {
        self.retry_after.filter(|_| self.code == "RESOURCE_EXHAUSTED")
    }

    /// What a status says. `mutating`: whether the call would have changed something, so that a broken
    /// connection leaves its outcome open.
    pub fn from_status(node: &Node, mutating: bool, status: Status) -> Self {
        if is_transport(&status) {
            return Self::broken(node, mutating, status);
        }
        let details = status.get_error_details();
        let kind = kind(status.code(), mutating);
        let reason = details.error_info().map(|info| info.reason.clone()).unwrap_or_default();
        let next = advice::next(kind, &reason, status.code(), &details);
        let message = match status.message() {
            "" => format!("{node} answered {} without a word", code_name(status.code())),
            message => message.to_owned(),
        };
        let mut error = Self::new(kind, code_name(status.code()), reason, message, next);
        error.0.violations = violations(&details);
        error.0.retry_after =
            details.retry_info().map(|info| info.retry_delay.unwrap_or(Duration::from_millis(100)));
        let trace = status.metadata().get(TRACE_ID_KEY).and_then(|id| id.to_str().ok());
        error.0.trace_id = trace.map(str::to_owned);
        error.with_source(Some(Arc::new(status)))
    }

    /// The connection failed, before or in the middle of a call.
    fn broken(node: &Node, mutating: bool, status: Status) -> Self {
        let unsent = chain(&status).any(|error| error.is::<ConnectError>());
        let error = if unsent {
            Self::unconnected(node, &status)
        } else if mutating {
            let message = format!("the connection to {node} broke before the answer came");
            Self::new(
                Kind::Incomplete,
                code_name(status.code()),
                "OUTCOME_UNKNOWN",
                message,
                LOOK_FIRST,
            )
        } else {
            let message = format!("the connection to {node} broke: {}", status.message());
            let next = "try again; if it happens again, look at the agent's log";
            Self::new(
                Kind::Unreachable,
                code_name(status.code()),
                "CONNECTION_BROKEN",
                message,
                next,
            )
        };
        error.with_source(Some(Arc::new(status)))
    }

    fn unconnected(node: &Node, error: &(dyn StdError + 'static)) -> Self {
        if let Some(refusal) = Refusal::of_chain(chain(error)) {
            return refusal.explain(node);
        }
        let io = chain(error).find_map(|error| error.downcast_ref::<io::Error>());
        let unreachable = |message| {
            Self::new(Kind::Unreachable, "UNAVAILABLE", "AGENT_UNREACHABLE", message, START_OR_NAME)
        };
        if let Some(TooSlow(limit)) = chain(error).find_map(|error| error.downcast_ref()) {
            return unreachable(format!("no agent answers at {node} within {limit:?}"));
        }
        match io.map(io::Error::kind) {
            Some(io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                unreachable(format!("no agent answers at {node}"))
            }
            Some(io::ErrorKind::PermissionDenied) => {
                let message = format!("the operating system denies access to {node}");
                let next = "call as root, as the agent's user, or as a member of its group";
                Self::new(Kind::NotAllowed, "PERMISSION_DENIED", "SOCKET_DENIED", message, next)
            }
            _ => {
                let cause = chain(error).last().map(ToString::to_string).unwrap_or_default();
                unreachable(format!("no agent answers at {node}: {cause}"))
            }
        }
    }
}

fn chain<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    let mut next = Some(error);
    let links = std::iter::from_fn(move || {
        let link = next?;
        next = link.source();
        Some(link)
    });
    // A chain longer than this is a loop.
    links.take(32)
}

/// Whether the deadline that was sent along has passed, whichever side noticed first. tonic says "cancelled"
/// then, where gRPC has a code of its own.
pub(crate) fn is_deadline(status: &Status) -> bool {
    match status.code() {
        Code::DeadlineExceeded => status.get_details_error_info().is_none(),
        Code::Cancelled => status.message() == TimeoutExpired(()).to_string(),
        _ => false,
    }
}

/// Whether the status was made on this side, because the connection failed.
fn is_transport(status: &Status) -> bool {
    let cut = "protocol error: missing grpc-status trailer";
    status.source().is_some()
        || (status.code() == Code::Unknown && status.message().starts_with(cut))
}

fn kind(code: Code, mutating: bool) -> Kind {
    match code {
        Code::InvalidArgument | Code::OutOfRange => Kind::Invalid,
        Code::NotFound => Kind::NotFound,
        Code::AlreadyExists | Code::Aborted => Kind::Conflict,
        Code::FailedPrecondition => Kind::Refused,
        Code::PermissionDenied => Kind::NotAllowed,
        Code::Unauthenticated => Kind::Unauthenticated,
        Code::ResourceExhausted | Code::Unavailable => Kind::Unavailable,
        Code::DataLoss => Kind::Incomplete,
        Code::DeadlineExceeded | Code::Cancelled if mutating => Kind::Incomplete,
        Code::DeadlineExceeded | Code::Cancelled => Kind::Unavailable,
        Code::Ok | Code::Unknown | Code::Internal | Code::Unimplemented => Kind::Internal,
    }
}

fn violations(details: &ErrorDetails) -> Vec<Violation> {
    let unmet = details.precondition_failure().into_iter().flat_map(|failure| &failure.violations);
    let wrong = details.bad_request().into_iter().flat_map(|request| &request.field_violations);
    unmet
        .map(|violation| Violation {
            code: violation.r#type.clone(),
            subject: violation.subject.clone(),
            message: violation.description.clone(),
        })
        .chain(wrong.map(|violation| Violation {
            code: violation.reason.clone(),
            subject: violation.field.clone(),
            message: violation.description.clone(),
        }))
        .collect()
}
