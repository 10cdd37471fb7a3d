//! The breaker as a tower layer.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tower::{Layer, Service};

use super::{Breaker, Entered, Rejected};

/// Why a call did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum BreakerError<E> {
    /// It was not made: the breaker is open.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// It was made, and this is how it failed.
    #[error("{0}")]
    Inner(E),
}

/// Says of a call's result whether it is a failure of the service.
pub trait Classify<T, E> {
    /// Whether it is.
    fn is_failure(&self, result: &Result<T, E>) -> bool;
}

/// Every `Err` is a failure.
#[derive(Debug, Clone, Copy, Default)]
pub struct IsError;

impl<T, E> Classify<T, E> for IsError {
    fn is_failure(&self, result: &Result<T, E>) -> bool {
        result.is_err()
    }
}

/// A rule of the program's own.
#[derive(Debug, Clone, Copy)]
pub struct If<F>(F);

impl<T, E, F: Fn(&Result<T, E>) -> bool> Classify<T, E> for If<F> {
    fn is_failure(&self, result: &Result<T, E>) -> bool {
        (self.0)(result)
    }
}

/// Puts a breaker before a service. All services of one layer share the breaker.
#[derive(Debug, Clone)]
pub struct BreakerLayer<C = IsError> {
    breaker: Breaker,
    classify: C,
}

impl BreakerLayer<IsError> {
    pub(super) fn new(breaker: Breaker) -> Self {
        Self { breaker, classify: IsError }
    }
}

impl<C> BreakerLayer<C> {
    /// The same, with a rule of its own for what is a failure: an answer of 500 and more, say. What is the caller's
    /// own fault should be none.
    pub fn failing_if<F>(self, is_failure: F) -> BreakerLayer<If<F>> {
        BreakerLayer { breaker: self.breaker, classify: If(is_failure) }
    }
}

impl<S, C: Clone> Layer<S> for BreakerLayer<C> {
    type Service = BreakerService<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        let (breaker, classify) = (self.breaker.clone(), self.classify.clone());
        BreakerService { inner, breaker, classify }
    }
}

/// A service behind a breaker.
#[derive(Debug, Clone)]
pub struct BreakerService<S, C = IsError> {
    inner: S,
    breaker: Breaker,
    classify: C,
}

impl<S, C, R> Service<R> for BreakerService<S, C>
where
    S: Service<R>,
    C: Classify<S::Response, S::Error> + Clone,
{
    type Response = S::Response;
    type Error = BreakerError<S::Error>;
    type Future = BreakerFuture<S::Future, C>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context).map_err(BreakerError::Inner)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let (state, rejected) = match self.breaker.enter() {
            Ok(entered) => (Some((self.inner.call(request), entered)), None),
            Err(rejected) => (None, Some(rejected)),
        };
        let (future, entered) = state.unzip();
        BreakerFuture { future, entered, rejected, classify: self.classify.clone() }
    }
}

pin_project! {
    /// A call behind a breaker. Dropped before its end, it was given up.
    #[derive(Debug)]
    pub struct BreakerFuture<F, C> {
        #[pin]
        future: Option<F>,
        entered: Option<Entered>,
        rejected: Option<Rejected>,
        classify: C,
    }
}

impl<F, C, T, E> Future for BreakerFuture<F, C>
where
    F: Future<Output = Result<T, E>>,
    C: Classify<T, E>,
{
    type Output = Result<T, BreakerError<E>>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Some(rejected) = this.rejected.take() {
            return Poll::Ready(Err(rejected.into()));
        }
        // Polled again after its end, it stays silent.
        let Some(future) = this.future.as_pin_mut() else { return Poll::Pending };
        let result = ready!(future.poll(context));
        if let Some(entered) = this.entered.take() {
            entered.finish(!this.classify.is_failure(&result));
        }
        Poll::Ready(result.map_err(BreakerError::Inner))
    }
}
