//! The one layer every call passes: who is it, may it, and if it changes anything, what came of it.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use genesis_proto::MethodPolicy;
use genesis_proto::v1::Role;
use genesis_storage::Intent;
use http::{Request, Response};
use tokio::sync::Semaphore;
use tonic::body::Body;
use tower::{Layer, Service};

use super::caller::{Caller, SocketRules, reason_of};
use super::status::to_status;
use crate::error::{Error, Kind};
use crate::outside::Clock;
use crate::state::State;

/// So many calls are worked on at a time; more are shed.
const IN_FLIGHT: usize = 256;
/// When a shed caller may try again.
const SHED_RETRY: Duration = Duration::from_millis(200);
/// Foreign services that everybody with a role may call: they read nothing of ours but names and health.
const OPEN_SERVICES: [&str; 3] = [
    "/grpc.health.v1.Health/",
    "/grpc.reflection.v1.ServerReflection/",
    "/grpc.reflection.v1alpha.ServerReflection/",
];

/// What the layer decides by.
pub struct Gate {
    policies: BTreeMap<String, MethodPolicy>,
    rules: SocketRules,
    state: State,
    clock: Arc<dyn Clock>,
    in_flight: Arc<Semaphore>,
}

/// What an rpc demands, and whether the caller has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Allowed { mutating: bool },
    Denied { needs: Option<Role>, mutating: bool },
}

impl Gate {
    /// A gate with the policies of the contract.
    pub fn new(rules: SocketRules, state: State, clock: Arc<dyn Clock>) -> Self {
        Self {
            policies: genesis_proto::method_policies(),
            rules,
            state,
            clock,
            in_flight: Arc::new(Semaphore::new(IN_FLIGHT)),
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
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let gate = Arc::clone(&self.gate);
        Box::pin(async move {
            // Health is asked most when there is much to do, and costs nothing, so it is never shed.
            let health = request.uri().path().starts_with(OPEN_SERVICES[0]);
            let permit = Arc::clone(&gate.in_flight).try_acquire_owned();
            if permit.is_err() && !health {
                let error = Error::unavailable(
                    "OVERLOADED",
                    format!("{IN_FLIGHT} calls are being worked on already"),
                );
                return Ok(to_status(error.retry_after(SHED_RETRY)).into_http());
            }
            let mut caller = gate.rules.identify(request.extensions());
            caller.reason = reason_of(request.headers());
            let path = request.uri().path().to_owned();
            match gate.judge(&path, caller.role) {
                Verdict::Denied { needs, mutating } => {
                    tracing::warn!(path, identity = caller.identity, "call denied");
                    let error = denial(&caller, needs);
                    if mutating {
                        gate.record(&path, &caller, error.code).await;
                    }
                    Ok(to_status(error).into_http())
                }
                Verdict::Allowed { mutating: false } => {
                    tracing::debug!(path, identity = caller.identity, "call");
                    request.extensions_mut().insert(caller);
                    inner.call(request).await
                }
                Verdict::Allowed { mutating: true } => {
                    tracing::info!(
                        path,
                        identity = caller.identity,
                        reason = caller.reason,
                        "call"
                    );
                    request.extensions_mut().insert(caller.clone());
                    // A task of its own: a caller who leaves can't cut a change off half-way.
                    let task = tokio::spawn(async move {
                        let answer = inner.call(request).await;
                        if let Ok(response) = &answer {
                            gate.record(&path, &caller, outcome(response)).await;
                        }
                        answer
                    });
                    match task.await {
                        Ok(answer) => answer,
                        Err(_) => {
                            let error = Error::internal(
                                "CALL_PANICKED",
                                "the call hit a defect of the agent; see its log",
                            );
                            Ok(to_status(error).into_http())
                        }
                    }
                }
            }
        })
    }
}

impl Gate {
    async fn record(&self, path: &str, caller: &Caller, outcome: &str) {
        let intent = Intent::new(self.clock.now(), caller.identity.clone(), format!("call {path}"))
            .reason(caller.reason.clone())
            .outcome(outcome);
        if let Err(error) = self.state.note(intent).await {
            tracing::error!(
                error = error.chain(),
                path,
                "a call could not be recorded in the oplog"
            );
        }
    }
}

fn denial(caller: &Caller, needs: Option<Role>) -> Error {
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

/// The outcome of a unary call: errors come as headers, without a body.
fn outcome(response: &Response<Body>) -> &'static str {
    let status = response.headers().get("grpc-status").and_then(|value| value.to_str().ok());
    match status.and_then(|code| code.parse::<i32>().ok()).map(tonic::Code::from_i32) {
        None | Some(tonic::Code::Ok) => "ok",
        Some(code) => code_name(code),
    }
}

/// A code by its canonical name.
fn code_name(code: tonic::Code) -> &'static str {
    use tonic::Code;

    match code {
        Code::Ok => "ok",
        Code::Cancelled => "CANCELLED",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
        Code::Unknown => "UNKNOWN",
    }
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
