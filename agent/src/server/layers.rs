//! The one layer every call passes, in this order: identity and role, load (shed or let in, with lanes of their
//! own for what is urgent), deadline, the message, and for what changes anything the request id and the oplog.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use genesis_proto::MethodPolicy;
use genesis_proto::v1::Role;
use genesis_storage::Intent;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};
use tracing::Instrument;

use super::MESSAGE_LIMIT;
use super::admission::{self, Admission, HEALTH, Manner, Places};
use super::caller::{Caller, Rules, reason_of};
use super::connection::{OpenCall, Peer};
use super::denials::Denials;
use super::requests::{self, Kept, Requests};
use super::status::{outcome, outcome_of, readable, to_status};
use super::{refused, traced};
use crate::error::{Error, Kind};
use crate::outside::Clock;
use crate::state::State;
use crate::trace;

/// A call without a deadline of its own has this one; streams are not bounded by it once they flow.
const DEADLINE: Duration = Duration::from_secs(60);
/// Calls that wait for tools, which ask an index over the network, and for queries that are measured.
const TAKES_LONG: [&str; 3] = [
    "/genesis.v1.DatabaseService/VerifyDatabase",
    "/genesis.v1.DependencyService/CheckDependencies",
    "/genesis.v1.DependencyService/PlanUpdateDependencies",
];
/// They take so long at most.
const LONG_DEADLINE: Duration = Duration::from_secs(600);
/// What is urgent says so in few words, in bytes.
const URGENT_MESSAGE: usize = 1 << 10;
/// So long a message may take to come in, and an urgent one.
const RECEIPT: Duration = Duration::from_secs(10);
/// See [`RECEIPT`].
const URGENT_RECEIPT: Duration = Duration::from_secs(2);
/// The header with the id of a request.
const REQUEST_ID: &str = "genesis-request-id";
/// Foreign services that everybody with a role may call: they read nothing of ours but names and health.
const OPEN_SERVICES: [&str; 3] =
    [HEALTH, "/grpc.reflection.v1.ServerReflection/", "/grpc.reflection.v1alpha.ServerReflection/"];

/// What the layer decides by.
pub struct Gate {
    policies: BTreeMap<String, MethodPolicy>,
    rules: Rules,
    state: State,
    clock: Arc<dyn Clock>,
    requests: Requests,
    admission: Admission,
    denials: Denials,
}

/// What an rpc demands, and whether the caller has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Allowed { mutating: bool },
    Denied { needs: Option<Role>, mutating: bool },
}

impl Gate {
    /// A gate with the policies of the contract.
    pub fn new(rules: Rules, state: State, clock: Arc<dyn Clock>) -> Self {
        Self {
            policies: genesis_proto::method_policies(),
            rules,
            requests: Requests::new(state.clone(), Arc::clone(&clock)),
            state,
            admission: Admission::new(Arc::clone(&clock)),
            denials: Denials::default(),
            clock,
        }
    }

    fn judge(&self, path: &str, role: Option<Role>) -> Verdict {
        judge(&self.policies, path, role)
    }
}

fn judge(policies: &BTreeMap<String, MethodPolicy>, path: &str, role: Option<Role>) -> Verdict {
    let (needs, mutating) = match policies.get(path) {
        Some(policy) => (policy.role, policy.mutating),
        None if OPEN_SERVICES.iter().any(|service| path.starts_with(service)) => {
            (Some(Role::Viewer), false)
        }
        // Not in the contract, so nobody may.
        None => (None, false),
    };
    match (needs, role) {
        (Some(needs), Some(role)) if role as i32 >= needs as i32 => Verdict::Allowed { mutating },
        _ => Verdict::Denied { needs, mutating },
    }
}

/// Puts a [`Gate`] before a service.
#[derive(Clone)]
pub struct GateLayer(pub Arc<Gate>);

impl<S> Layer<S> for GateLayer {
    type Service = Gated<S>;

    fn layer(&self, inner: S) -> Gated<S> {
        Gated { inner, gate: Arc::clone(&self.0) }
    }
}

/// A service behind a [`Gate`].
#[derive(Clone)]
pub struct Gated<S> {
    inner: S,
    gate: Arc<Gate>,
}

type Answer<E> = Pin<Box<dyn Future<Output = Result<Response<Body>, E>> + Send>>;

impl<S, E> Service<Request<Body>> for Gated<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = E> + Clone + Send + 'static,
    S::Future: Send,
    E: Send + 'static,
{
    type Response = Response<Body>;
    type Error = E;
    type Future = Answer<E>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), E>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Answer<E> {
        // The ready one is used up, and a clone takes its place, as tower demands.
        let clone = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, clone);
        let gate = Arc::clone(&self.gate);
        let peer = request.extensions().get::<Peer>().cloned();
        let mut caller = gate.rules.identify(peer.as_ref());
        // Cut between the arrival of the call and now.
        if peer.as_ref().is_some_and(Peer::is_cut) {
            caller.role = None;
        }
        caller.reason = reason_of(request.headers());
        let trace = traced::of(request.headers());
        let path = request.uri().path().to_owned();
        if let Verdict::Denied { needs, mutating } = gate.judge(&path, caller.role) {
            let span = traced::span(&path, &caller, &trace);
            refused::hear_out(request.into_body());
            let denied = async move {
                let error = denial(&caller, needs);
                gate.denied(&path, &caller, &error, mutating).await;
                Ok(traced::answered(to_status(error).into_http(), &trace))
            };
            return Box::pin(trace.cover(denied.instrument(span)));
        }
        // Here and not in the task that is made of the answer, which may have to wait for a thread.
        let manner = Manner::of(&path, gate.policies.get(&path));
        let places = match gate.admission.enter(manner, caller.source(), admission::backlog()) {
            Ok(places) => places,
            Err(error) => {
                refused::hear_out(request.into_body());
                let response = traced::answered(to_status(error).into_http(), &trace);
                return Box::pin(std::future::ready(Ok(response)));
            }
        };
        let held = Held { places, _open: peer.as_ref().map(Peer::call) };
        request.extensions_mut().insert(caller.clone());
        let most = match TAKES_LONG.contains(&path.as_str()) {
            true => LONG_DEADLINE,
            false => DEADLINE,
        };
        let limit = deadline(request.headers()).unwrap_or(most).min(most);
        let late = tokio::time::sleep(limit);
        let span = traced::span(&path, &caller, &trace);
        let answer = async move {
            let answer = tokio::select! {
                biased;
                answer = handle(gate, inner, request, Call { path, caller, manner, held }) => answer?,
                () = late => {
                    let message = format!("not answered within {limit:?}; what it began goes on");
                    Status::deadline_exceeded(message).into_http()
                }
            };
            Ok(traced::answered(answer, &trace))
        };
        Box::pin(trace.cover(answer.instrument(span)))
    }
}

/// What is known of a call that was let in.
struct Call {
    path: String,
    caller: Caller,
    manner: Manner,
    held: Held,
}

/// What a call keeps until it has ended.
struct Held {
    places: Places,
    _open: Option<OpenCall>,
}

async fn handle<S, E>(
    gate: Arc<Gate>,
    mut inner: S,
    request: Request<Body>,
    call: Call,
) -> Result<Response<Body>, E>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = E> + Send + 'static,
    S::Future: Send,
    E: Send + 'static,
{
    let Call { path, caller, manner, mut held } = call;
    if !manner.one_message {
        let response = inner.call(request).await.map(readable)?;
        return Ok(flowing(response, held));
    }
    let (parts, body) = request.into_parts();
    let message = match gate.receive(body, manner, &mut held.places).await {
        Ok(message) => message,
        Err(status) => return Ok(status.into_http()),
    };
    if !manner.mutating {
        tracing::debug!(path, identity = caller.identity, "call");
        let request = Request::from_parts(parts, Body::new(Full::new(message)));
        let response = inner.call(request).await.map(readable)?;
        return Ok(match manner.streaming {
            true => flowing(response, held),
            false => response,
        });
    }
    tracing::info!(path, identity = caller.identity, reason = caller.reason, "call");
    // A task of its own: a caller who leaves can't cut a change off half-way.
    let change = async move {
        let _held = held;
        gate.change(inner, parts, message, &path, &caller).await
    };
    let task = tokio::spawn(trace::carry(change.in_current_span()));
    task.await.unwrap_or_else(|_| {
        let error =
            Error::internal("CALL_PANICKED", "the call hit a defect of the agent; see its log");
        Ok(to_status(error).into_http())
    })
}

impl Gate {
    /// Reads a call's one message, within its room and time.
    async fn receive(
        &self,
        body: Body,
        manner: Manner,
        places: &mut Places,
    ) -> Result<Bytes, Status> {
        // The message's five bytes of framing come on top.
        let limit = 5 + if manner.urgent { URGENT_MESSAGE } else { MESSAGE_LIMIT };
        let time = if manner.urgent { URGENT_RECEIPT } else { RECEIPT };
        let mut body = std::pin::pin!(body);
        let receipt = async {
            let mut message = BytesMut::new();
            while let Some(frame) = body.frame().await {
                let Some(data) = frame?.into_data().ok() else { continue };
                if message.len() + data.len() > limit {
                    let text = format!("the message has more than {} bytes", limit - 5);
                    return Err(Status::out_of_range(text));
                }
                self.admission.hold(places, message.len() + data.len()).map_err(to_status)?;
                message.extend_from_slice(&data);
            }
            Ok(message.freeze())
        };
        tokio::time::timeout(time, receipt).await.unwrap_or_else(|_| {
            Err(Status::deadline_exceeded(format!("the message did not come within {time:?}")))
        })
    }

    /// Journals a call that was denied, but no flood of them.
    async fn denied(&self, path: &str, caller: &Caller, error: &Error, mutating: bool) {
        let known = self.policies.contains_key(path);
        let path = if known { path } else { "(not in the contract)" };
        let key = format!("{} {path} {}", caller.source(), error.code);
        let Some(more) = self.denials.say(key, self.clock.monotonic()) else { return };
        tracing::warn!(path, identity = caller.identity, more, "call denied");
        if mutating {
            let mut intent =
                Intent::new(self.clock.now(), caller.identity.clone(), format!("call {path}"))
                    .outcome(error.code);
            if more > 0 {
                intent = intent.detail(format!("and {more} more since the last entry"));
            }
            self.note(path, intent).await;
        }
    }

    /// Carries out a call that changes something: once for each request id, and with its oplog entry.
    async fn change<S, E>(
        &self,
        mut inner: S,
        parts: http::request::Parts,
        message: Bytes,
        path: &str,
        caller: &Caller,
    ) -> Result<Response<Body>, E>
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = E>,
    {
        let id = match request_id(&parts.headers) {
            Ok(id) => id,
            Err(error) => return Ok(to_status(error).into_http()),
        };
        let body = message.clone();
        let request = Request::from_parts(parts, Body::new(Full::new(message)));
        let Some(id) = id else {
            let answer = inner.call(request).await.map(readable);
            if let Ok(response) = &answer {
                self.note(path, self.intent(path, caller, outcome(response))).await;
            }
            return answer;
        };
        let digest = requests::digest(path, &caller.identity, &body);
        let urgent = self.policies.get(path).is_some_and(|policy| policy.urgent);
        let mut failed = None;
        let call = async {
            match inner.call(request).await.map(readable) {
                Ok(response) => Kept::take(response).await,
                Err(error) => {
                    failed = Some(error);
                    Kept::take(Status::internal("the call failed").into_http()).await
                }
            }
        };
        let intent = |code| self.intent(path, caller, outcome_of(code)).correlation_id(id.clone());
        let kept = self.requests.once(&id, digest, urgent, call, intent).await;
        match failed {
            Some(error) => Err(error),
            None => Ok(kept.response()),
        }
    }

    fn intent(&self, path: &str, caller: &Caller, outcome: &str) -> Intent {
        Intent::new(self.clock.now(), caller.identity.clone(), format!("call {path}"))
            .reason(caller.reason.clone())
            .outcome(outcome)
    }

    async fn note(&self, path: &str, intent: Intent) {
        if let Err(error) = self.state.note(intent).await {
            tracing::error!(
                error = error.chain(),
                path,
                "a call could not be recorded in the oplog"
            );
        }
    }
}

/// A stream's body, which gives its places back when it ends.
struct Flowing {
    body: Body,
    _held: Held,
}

fn flowing(response: Response<Body>, mut held: Held) -> Response<Body> {
    held.places.flow();
    response.map(|body| Body::new(Flowing { body, _held: held }))
}

impl http_body::Body for Flowing {
    type Data = bytes::Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Self::Data>, Status>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

/// The deadline that a caller sends along, as gRPC writes it: up to eight digits and a unit.
fn deadline(headers: &http::HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if number.len() > 8 {
        return None;
    }
    let number: u64 = number.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3_600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

fn request_id(headers: &http::HeaderMap) -> Result<Option<String>, Error> {
    let Some(value) = headers.get(REQUEST_ID) else { return Ok(None) };
    let id = value.to_str().ok().and_then(|text| text.parse::<ulid::Ulid>().ok());
    id.map(|id| Some(id.to_string())).ok_or_else(|| {
        Error::invalid(
            "REQUEST_ID_INVALID",
            format!("{REQUEST_ID} must be a ULID: 26 characters of Crockford's base 32"),
        )
    })
}

fn denial(caller: &Caller, needs: Option<Role>) -> Error {
    if caller.other_fleet {
        let message = format!("{} has no role here: {}", caller.identity, caller.granted_by);
        return Error::new(Kind::NotAllowed, "FLEET_MISMATCH", message);
    }
    let message = match (needs, caller.role) {
        (None, _) => {
            "this rpc is not part of the contract, or declares no role; nobody may call it"
                .to_owned()
        }
        (Some(needs), None) => format!(
            "{} has no role here and the call needs {needs:?}; call as root, as the agent's user, or as a member of \
             [agent] operator_group",
            caller.identity
        ),
        (Some(needs), Some(role)) => {
            format!(
                "{} is {role:?} (by {}), the call needs {needs:?}",
                caller.identity, caller.granted_by
            )
        }
    };
    Error::new(Kind::NotAllowed, "ROLE_MISSING", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rpc_answers_what_its_option_declares() {
        let policies = genesis_proto::method_policies();
        let roles = [None, Some(Role::Viewer), Some(Role::Operator), Some(Role::Admin)];
        for (path, policy) in &policies {
            for role in roles {
                let enough = role.is_some_and(|role| role as i32 >= policy.role.unwrap() as i32);
                let allowed = matches!(judge(&policies, path, role), Verdict::Allowed { .. });
                assert_eq!(allowed, enough, "{path} as {role:?}");
            }
        }
    }

    #[test]
    fn what_declares_nothing_is_denied_to_everybody() {
        let mut policies = genesis_proto::method_policies();
        let path = "/genesis.v1.LogsService/GetStatus";
        policies.get_mut(path).unwrap().role = None;
        for path in [path, "/genesis.v1.LogsService/NoSuch", "/x.Y/Z"] {
            let verdict = judge(&policies, path, Some(Role::Admin));
            assert!(matches!(verdict, Verdict::Denied { needs: None, .. }), "{path}");
        }
    }

    #[test]
    fn health_and_reflection_need_a_role_too() {
        let policies = BTreeMap::new();
        let path = "/grpc.health.v1.Health/Check";
        assert!(matches!(judge(&policies, path, None), Verdict::Denied { .. }));
        assert!(matches!(
            judge(&policies, path, Some(Role::Viewer)),
            Verdict::Allowed { mutating: false }
        ));
    }
}
