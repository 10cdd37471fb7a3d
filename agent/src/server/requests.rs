//! A mutating call is carried out once for each request id: a repeat gets the first one's answer.
//!
//! The id is journalled before the call begins and its answer after it ended, so that a repeat is told apart
//! also after a restart. A call that changed nothing (refused, invalid, shed) leaves no trace, and the same id
//! may be tried again.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use genesis_storage::{Intent, RequestRecord};
use http::{HeaderMap, HeaderValue, Response, header};
use http_body_util::{BodyExt, Full};
use jiff::SignedDuration;
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tonic::Code;
use tonic::body::Body;

use super::status::to_status;
use crate::error::{Error, Kind, Result};
use crate::outside::{Clock, failpoint};
use crate::state::State;

/// So long a request id is kept.
const KEPT_FOR: SignedDuration = SignedDuration::from_hours(24);
/// At most this many are kept; beyond, the oldest go first.
const KEPT: u64 = 100_000;

/// An answer that can be given more than once.
#[derive(Debug, Clone)]
pub struct Kept {
    headers: HeaderMap,
    data: Bytes,
    trailers: Option<HeaderMap>,
}

impl Kept {
    /// Takes a unary call's whole answer.
    pub async fn take(response: Response<Body>) -> Self {
        let (parts, body) = response.into_parts();
        match body.collect().await {
            Ok(collected) => {
                let trailers = collected.trailers().cloned();
                Self { headers: parts.headers, data: collected.to_bytes(), trailers }
            }
            Err(status) => Self::refusal(&status.into_http::<()>()),
        }
    }

    fn refusal(response: &Response<()>) -> Self {
        Self { headers: response.headers().clone(), data: Bytes::new(), trailers: None }
    }

    fn error(error: Error) -> Self {
        Self::refusal(&to_status(error).into_http())
    }

    /// A successful answer with this message, framing included.
    fn ok(data: Bytes) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        Self { headers, data, trailers: Some(trailers) }
    }

    /// How the call ended.
    pub fn code(&self) -> Code {
        let of = |headers: &HeaderMap| {
            headers.get("grpc-status").map(|value| Code::from_bytes(value.as_bytes()))
        };
        of(&self.headers).or_else(|| self.trailers.as_ref().and_then(of)).unwrap_or(Code::Unknown)
    }

    /// The answer as it is sent.
    pub fn response(self) -> Response<Body> {
        let body = match self.trailers {
            Some(trailers) => Body::new(
                Full::new(self.data).with_trailers(std::future::ready(Some(Ok(trailers)))),
            ),
            None => Body::empty(),
        };
        let mut response = Response::new(body);
        *response.headers_mut() = self.headers;
        response
    }
}

/// What tells a repeat from another call under the same id.
pub fn digest(path: &str, identity: &str, body: &[u8]) -> String {
    let mut digest = Sha256::new();
    for part in [path.as_bytes(), identity.as_bytes(), body] {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    }
    hex::encode(digest.finalize())
}

struct Going {
    digest: String,
    answer: watch::Receiver<Option<Kept>>,
}

/// So long an urgent call waits for a disk, before it and after it.
const URGENT: Duration = Duration::from_secs(2);

fn hung() -> Error {
    Error::unavailable("STORAGE_FAILED", "the disk does not answer")
}

/// The request ids of the last day.
pub struct Requests {
    state: State,
    clock: Arc<dyn Clock>,
    going: Mutex<HashMap<String, Going>>,
}

/// Takes an id out of the map however its call ends.
struct Leading<'a> {
    requests: &'a Requests,
    id: &'a str,
}

impl Drop for Leading<'_> {
    fn drop(&mut self) {
        self.requests.going().remove(self.id);
    }
}

enum Place {
    Lead(watch::Sender<Option<Kept>>),
    Follow(watch::Receiver<Option<Kept>>),
}

impl Requests {
    /// Over the ids in `state`.
    pub fn new(state: State, clock: Arc<dyn Clock>) -> Self {
        Self { state, clock, going: Mutex::default() }
    }

    fn going(&self) -> MutexGuard<'_, HashMap<String, Going>> {
        // Never left half changed, so a panic elsewhere does not spoil it.
        self.going.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries `call` out unless a call of this id and digest was before or goes on; then its answer is given.
    /// `intent` makes the oplog entry of a call that was carried out. With `urgent`, a database that can't be
    /// written does not keep the call from being carried out.
    pub async fn once(
        &self,
        id: &str,
        digest: String,
        urgent: bool,
        call: impl Future<Output = Kept>,
        intent: impl Fn(Code) -> Intent,
    ) -> Kept {
        let sender = match self.place(id, &digest) {
            Ok(Place::Lead(sender)) => sender,
            Ok(Place::Follow(mut answer)) => {
                let kept =
                    answer.wait_for(Option::is_some).await.ok().and_then(|kept| kept.clone());
                return kept.unwrap_or_else(|| Kept::error(interrupted(id)));
            }
            Err(error) => return Kept::error(error),
        };
        let _leading = Leading { requests: self, id };
        let kept = self.lead(id, digest, urgent, call, intent).await;
        // Whatever it is, those who came meanwhile get the same.
        sender.send_replace(Some(kept.clone()));
        kept
    }

    async fn lead(
        &self,
        id: &str,
        digest: String,
        urgent: bool,
        call: impl Future<Output = Kept>,
        intent: impl Fn(Code) -> Intent,
    ) -> Kept {
        let begin = self.begin(id, &digest);
        // Nor does one that hangs.
        let begun = match urgent {
            true => tokio::time::timeout(URGENT, begin).await.unwrap_or_else(|_| Err(hung())),
            false => begin.await,
        };
        let begun = match begun {
            Ok(None) => true,
            Ok(Some(known)) => return known,
            // A full or broken disk keeps no emergency from being declared.
            Err(error) if urgent && error.code.starts_with("STORAGE_") => false,
            Err(error) => return Kept::error(error),
        };
        failpoint::hit("request.begun");
        let kept = call.await;
        failpoint::hit("request.carried-out");
        let end = self.end(id, digest, begun, &kept, intent(kept.code()));
        let ended = match urgent {
            true => tokio::time::timeout(URGENT, end).await.unwrap_or_else(|_| Err(hung())),
            false => end.await,
        };
        if let Err(error) = ended {
            tracing::error!(error = error.chain(), id, "the end of a call could not be recorded");
        }
        kept
    }

    fn place(&self, id: &str, digest: &str) -> Result<Place> {
        let mut going = self.going();
        if let Some(going) = going.get(id) {
            if going.digest != digest {
                return Err(reused(id));
            }
            return Ok(Place::Follow(going.answer.clone()));
        }
        let (sender, answer) = watch::channel(None);
        going.insert(id.to_owned(), Going { digest: digest.to_owned(), answer });
        Ok(Place::Lead(sender))
    }

    /// Journals that the call begins; the answer of an earlier one if there was.
    async fn begin(&self, id: &str, digest: &str) -> Result<Option<Kept>> {
        let now = self.clock.now();
        let since = now.saturating_sub(KEPT_FOR).unwrap_or(now);
        let known = self.state.read(|reading| Ok(reading.requests().get(id)?))?;
        if let Some(known) = known.filter(|known| known.at > since) {
            if known.digest != digest {
                return Err(reused(id));
            }
            let data = known.answer.and_then(|answer| hex::decode(answer).ok());
            return data.map(|data| Some(Kept::ok(data.into()))).ok_or_else(|| interrupted(id));
        }
        let (id, digest) = (id.to_owned(), digest.to_owned());
        self.state
            .bookkeep(move |books| {
                books.requests().prune(since, KEPT)?;
                Ok(books.requests().put(&id, &RequestRecord { digest, at: now, answer: None })?)
            })
            .await?;
        Ok(None)
    }

    /// Journals how it ended, with its oplog entry.
    async fn end(
        &self,
        id: &str,
        digest: String,
        begun: bool,
        kept: &Kept,
        intent: Intent,
    ) -> Result<()> {
        let (id, code, data, at) =
            (id.to_owned(), kept.code(), kept.data.clone(), self.clock.now());
        self.state
            .write(intent, move |writing| {
                if code == Code::Ok {
                    let answer = Some(hex::encode(data));
                    writing.requests().put(&id, &RequestRecord { digest, at, answer })?;
                } else if begun && changed_nothing(code) {
                    writing.requests().remove(&id)?;
                }
                Ok(())
            })
            .await
    }
}

/// Whether a call that ended so may be tried again under the same id.
fn changed_nothing(code: Code) -> bool {
    matches!(
        code,
        Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::ResourceExhausted
            | Code::FailedPrecondition
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::Unavailable
            | Code::Unauthenticated
    )
}

fn reused(id: &str) -> Error {
    let message = format!(
        "request id {id} was used for another call, body or caller; nothing was done: use a new id"
    );
    Error::conflict("REQUEST_ID_REUSED", message)
}

fn interrupted(id: &str) -> Error {
    let message = format!(
        "request {id} was begun before, and what came of it is not known: look with `genesisctl oplog list`, for a rollback with \
         `genesisctl rollback points --component NAME`, for a run with `genesisctl run list`, then send it again under a new request id if it is still wanted"
    );
    Error::new(Kind::Incomplete, "REQUEST_INTERRUPTED", message)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use genesis_storage::{Options, Store};
    use jiff::Timestamp;
    use tokio::sync::Barrier;

    use super::*;
    use crate::outside::ManualClock;

    fn requests(folder: &std::path::Path) -> (Arc<Requests>, Arc<ManualClock>) {
        let store = Store::open(&folder.join("state.redb"), Options::default()).unwrap();
        let clock = Arc::new(ManualClock::new("2026-01-01T00:00:00Z".parse().unwrap()));
        let state = State::new(Arc::new(store), watch::channel(0).1);
        (Arc::new(Requests::new(state, Arc::clone(&clock) as Arc<dyn Clock>)), clock)
    }

    async fn send(requests: &Requests, digest: &str, calls: &AtomicU32) -> (Code, Bytes) {
        let call = async {
            calls.fetch_add(1, Ordering::SeqCst);
            Kept::ok(Bytes::from_static(b"answer"))
        };
        let intent = |_| Intent::new(Timestamp::UNIX_EPOCH, "somebody", "call");
        let kept = requests.once("ID", digest.to_owned(), false, call, intent).await;
        (kept.code(), kept.data)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn whoever_repeats_whenever_gets_the_one_answer() {
        let folder = tempfile::tempdir().unwrap();
        let (requests, _) = requests(folder.path());
        let (calls, barrier) = (Arc::new(AtomicU32::new(0)), Arc::new(Barrier::new(20)));
        let tasks: Vec<_> = (0..20)
            .map(|_| {
                let (requests, calls) = (Arc::clone(&requests), Arc::clone(&calls));
                let barrier = Arc::clone(&barrier);
                tokio::spawn(async move {
                    for _ in 0..50 {
                        barrier.wait().await;
                        let answer = send(&requests, "same", &calls).await;
                        assert_eq!(answer, (Code::Ok, Bytes::from_static(b"answer")));
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(calls.load(Ordering::SeqCst), 1);
        assert_eq!(send(&requests, "other", &calls).await.0, Code::AlreadyExists);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_id_is_free_again_after_a_day() {
        let folder = tempfile::tempdir().unwrap();
        let (requests, clock) = requests(folder.path());
        let calls = AtomicU32::new(0);
        send(&requests, "same", &calls).await;
        clock.set("2026-01-01T23:59:59Z".parse().unwrap());
        send(&requests, "same", &calls).await;
        assert_eq!(calls.load(Ordering::SeqCst), 1);
        clock.set("2026-01-02T00:00:01Z".parse().unwrap());
        assert_eq!(send(&requests, "other", &calls).await.0, Code::Ok);
        assert_eq!(calls.load(Ordering::SeqCst), 2);
    }
}
