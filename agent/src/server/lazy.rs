//! Services that are made when somebody calls them: what describes the contract is big, and seldom asked for.

use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use http::Request;
use tonic::body::Body;
use tonic::server::NamedService;
use tower::Service;

/// A service that `make` makes at its first call.
pub(super) struct Lazy<S, F> {
    made: Arc<OnceLock<S>>,
    make: F,
}

impl<S, F: Fn() -> S> Lazy<S, F> {
    /// One that is not made yet.
    pub(super) fn new(make: F) -> Self {
        Self { made: Arc::default(), make }
    }
}

impl<S, F: Clone> Clone for Lazy<S, F> {
    fn clone(&self) -> Self {
        Self { made: Arc::clone(&self.made), make: self.make.clone() }
    }
}

impl<S: NamedService, F> NamedService for Lazy<S, F> {
    const NAME: &'static str = S::NAME;
}

impl<S, F> Service<Request<Body>> for Lazy<S, F>
where
    S: Service<Request<Body>> + Clone,
    F: Fn() -> S,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    /// Those of tonic are always ready, and are asked again at the call.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> S::Future {
        self.made.get_or_init(&self.make).clone().call(request)
    }
}
