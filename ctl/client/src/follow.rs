//! What an agent tells again whenever it is another, kept ready for those who read it: heard of in the background, over a
//! connection that is made again while the agent was away.
//!
//! Reading never waits, and sees one value or the next, never a mixture.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tonic::{Response, Status, Streaming};

use crate::target::{Pauses, Target};
use crate::{Client, Error, Kind, clock};

/// What is followed: an rpc that answers with a stream of it.
pub(crate) trait Subject: fmt::Debug + Send + Sync + 'static {
    type Request: Clone + Send;
    type Response: Send + 'static;
    type Value: fmt::Debug + Send + Sync + 'static;

    /// What the stream is of, such as "parameters".
    const WHAT: &'static str;

    fn request(&self) -> Self::Request;
    /// Calls the rpc.
    fn open(
        client: Client,
        request: Self::Request,
    ) -> impl Future<Output = Result<Response<Streaming<Self::Response>>, Status>> + Send;
    /// What the agent says; `None`: there is none.
    ///
    /// # Errors
    /// Why it can't be used: then what was there before stays.
    fn read(response: Self::Response) -> Result<Option<Self::Value>, Error>;
    /// By which one value is told from another.
    fn number(value: &Self::Value) -> u64;
}

/// Follows a subject, until it is dropped.
#[derive(Debug)]
pub(crate) struct Follow<S: Subject> {
    inner: Arc<Inner<S>>,
    /// The work in the background.
    task: AbortHandle,
}

#[derive(Debug)]
struct Inner<S: Subject> {
    subject: S,
    latest: ArcSwapOption<S::Value>,
    link: Mutex<Link>,
    /// The number of the latest value, for those that wait for one. `None`: there is none.
    heard: watch::Sender<Option<u64>>,
}

/// What is looked at only by those who ask how following goes.
#[derive(Debug)]
struct Link {
    /// On the clock of [`clock::monotonic`].
    stale_since: Option<Duration>,
    opened: u64,
    last_error: Option<Error>,
}

/// How following goes.
pub(crate) struct Standing {
    /// Of the latest value. `None`: there is none.
    pub(crate) number: Option<u64>,
    /// For how long the latest value has been without an agent that says that it is the latest.
    pub(crate) stale_for: Option<Duration>,
    pub(crate) reconnects: u64,
    pub(crate) last_error: Option<Error>,
}

impl<S: Subject> Drop for Follow<S> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<S: Subject> Follow<S> {
    /// Must be called within a tokio runtime.
    pub(crate) fn spawn(target: Target, subject: S) -> Self {
        let link = Link { stale_since: Some(clock::monotonic()), opened: 0, last_error: None };
        let inner = Arc::new(Inner {
            subject,
            latest: ArcSwapOption::empty(),
            link: Mutex::new(link),
            heard: watch::Sender::new(None),
        });
        let task = tokio::spawn(run(Arc::downgrade(&inner), target)).abort_handle();
        Self { inner, task }
    }

    pub(crate) fn subject(&self) -> &S {
        &self.inner.subject
    }

    /// What `look` finds in the latest value, which is not kept for longer than that.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&S::Value) -> Option<T>) -> Option<T> {
        self.inner.latest.load().as_deref().and_then(look)
    }

    /// The latest value. `None`: there is none.
    pub(crate) fn latest(&self) -> Option<Arc<S::Value>> {
        self.inner.latest.load_full()
    }

    pub(crate) fn standing(&self) -> Standing {
        let number = *self.inner.heard.borrow();
        let link = self.inner.link();
        Standing {
            number,
            stale_for: link.stale_since.map(|since| clock::monotonic().saturating_sub(since)),
            reconnects: link.opened.saturating_sub(1),
            last_error: link.last_error.clone(),
        }
    }

    /// Waits for the first value. `false`: none has come within `timeout`.
    pub(crate) async fn ready(&self, timeout: Duration) -> bool {
        let mut heard = self.inner.heard.subscribe();
        // The sender lives as long as this.
        tokio::time::timeout(timeout, heard.wait_for(Option::is_some)).await.is_ok()
    }

    /// Waits for a value of another number than `seen`.
    pub(crate) async fn changed(&self, seen: u64) -> Arc<S::Value> {
        let mut heard = self.inner.heard.subscribe();
        loop {
            // The sender lives as long as this.
            let _ = heard.wait_for(|now| now.is_some_and(|now| now != seen)).await;
            // One that was there may be gone by now.
            if let Some(value) = self.latest().filter(|value| S::number(value) != seen) {
                return value;
            }
            let _ = heard.changed().await;
        }
    }
}

impl<S: Subject> Inner<S> {
    fn link(&self) -> MutexGuard<'_, Link> {
        // Each change of it is complete in itself, so a panic elsewhere does not spoil it.
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self, response: S::Response) {
        let value = match S::read(response) {
            Ok(value) => value,
            Err(error) => return self.lose(error),
        };
        let number = value.as_ref().map(S::number);
        // Before anybody is told of the number.
        self.latest.store(value.map(Arc::new));
        self.link().stale_since = None;
        self.heard.send_replace(number);
    }

    /// What is there need not be the latest from now on.
    fn lose(&self, error: Error) {
        let mut link = self.link();
        link.stale_since.get_or_insert_with(clock::monotonic);
        link.last_error = Some(error);
    }
}

async fn run<S: Subject>(inner: Weak<Inner<S>>, target: Target) {
    let mut pauses = Pauses::new();
    loop {
        let mut heard = false;
        let ended = match target.client().await {
            Ok(client) => follow(&inner, &client, &mut heard).await,
            Err(error) => error,
        };
        let Some(strong) = inner.upgrade() else { return };
        strong.lose(ended);
        drop(strong);
        if heard {
            pauses.reset();
        }
        pauses.rest().await;
    }
}

/// Until the agent has gone, and how it went. A host that is gone without a word is noticed by the keep-alive of the
/// connection.
async fn follow<S: Subject>(inner: &Weak<Inner<S>>, client: &Client, heard: &mut bool) -> Error {
    let gone = || {
        let message = format!("{} ended the stream of {}", client.node(), S::WHAT);
        let next = "nothing: it is opened again by itself";
        Error::new(Kind::Unreachable, "UNAVAILABLE", "CONNECTION_BROKEN", message, next)
    };
    let request = match inner.upgrade() {
        Some(inner) => {
            inner.link().opened += 1;
            inner.subject.request()
        }
        None => return gone(),
    };
    let mut stream = match client.call(request, S::open).await {
        Ok(stream) => stream,
        Err(error) => return error,
    };
    loop {
        let response = match client.next(&mut stream).await {
            Ok(Some(response)) => response,
            Ok(None) => return gone(),
            Err(error) => return error,
        };
        let Some(inner) = inner.upgrade() else { return gone() };
        inner.hear(response);
        *heard = true;
    }
}
