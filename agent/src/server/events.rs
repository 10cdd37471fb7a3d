//! What changes, as it changes: pages of JSON that a browser follows, by server-sent events.

use std::convert::Infallible;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::connection::Peer;
use super::gateway::Gateway;
use super::pages::{Failure, explain};
use super::routes::{Route, find};
use crate::error::{Error, Result};

/// So many pages one stream follows.
pub(super) const FOLLOWED: usize = 8;
/// So many streams there are at a time.
pub(super) const STREAMS: usize = 16;
/// How often what is followed is looked at.
const LOOK: Duration = Duration::from_secs(2);
/// A stream without news says that it is there.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// What waits for a reader who is slow; then the looks wait.
const WAITING: usize = FOLLOWED;

/// A page that is followed.
struct Followed {
    /// As it was asked for, which names its events.
    name: String,
    route: &'static Route,
    query: Vec<(String, String)>,
    /// Of what was told last.
    told: Option<u64>,
}

/// Reads what is to be followed: paths below `/api/operations/`, each with its query.
fn parse(wanted: &[String]) -> Result<Vec<Followed>> {
    let invalid = |message: String| Error::invalid("FOLLOW_INVALID", message);
    if wanted.is_empty() || wanted.len() > FOLLOWED {
        let message =
            format!("a stream follows 1 to {FOLLOWED} pages, such as ?follow=health/status");
        return Err(invalid(message));
    }
    let one = |name: &String| {
        let (path, query) = name.split_once('?').unwrap_or((name, ""));
        let route = find(path).ok_or_else(|| invalid(format!("no page {path:?} to follow")))?;
        let query = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        // It becomes a line of the stream.
        if name.chars().any(char::is_control) {
            return Err(invalid(format!("{name:?} has control characters")));
        }
        Ok(Followed { name: name.clone(), route, query, told: None })
    };
    wanted.iter().map(one).collect()
}

/// A stream of what `wanted` shows: each page at once, and again whenever it has changed, until `stop`.
pub(super) fn stream(
    gateway: Gateway,
    wanted: &[String],
    peer: Peer,
    places: &Arc<Semaphore>,
    stop: CancellationToken,
) -> Response {
    let followed = match parse(wanted) {
        Ok(followed) => followed,
        Err(error) => return Failure::of(error).into_response(),
    };
    let Ok(place) = Arc::clone(places).try_acquire_owned() else {
        let error = Error::unavailable("TOO_MANY_STREAMS", format!("{STREAMS} streams are open"))
            .retry_after(HEARTBEAT);
        return Failure::of(error).into_response();
    };
    let (sender, receiver) = mpsc::channel(WAITING);
    tokio::spawn(async move {
        tokio::select! {
            () = look(gateway, followed, peer, &sender, place) => {}
            () = stop.cancelled() => {}
            () = sender.closed() => {}
        }
    });
    let alive = KeepAlive::new().interval(HEARTBEAT);
    Sse::new(ReceiverStream::new(receiver)).keep_alive(alive).into_response()
}

async fn look(
    gateway: Gateway,
    mut followed: Vec<Followed>,
    peer: Peer,
    sender: &mpsc::Sender<Result<Event, Infallible>>,
    _place: OwnedSemaphorePermit,
) {
    // Somebody who looks on is not idle, whose place another may have.
    let _open = peer.call();
    loop {
        for page in &mut followed {
            let (name, text) = match gateway.json(page.route, &page.query, &peer).await {
                Ok(text) => (page.name.as_str(), text),
                Err(status) => ("error", failed(&page.name, &status).to_string().into_bytes()),
            };
            let mut hasher = DefaultHasher::new();
            (name, &text).hash(&mut hasher);
            let seen = hasher.finish();
            if page.told.replace(seen) == Some(seen) {
                continue;
            }
            // JSON has no line breaks of its own, so that it is one line of data, and it is UTF-8.
            let event = Event::default().event(name).data(String::from_utf8_lossy(&text));
            if sender.send(Ok(event)).await.is_err() {
                return;
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The event of a page that can't be had.
fn failed(name: &str, status: &Status) -> Value {
    let mut said = explain(status);
    said["follow"] = name.into();
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_followed() {
        let read = |wanted: &[&str]| {
            let wanted: Vec<_> = wanted.iter().map(|it| (*it).to_owned()).collect();
            parse(&wanted)
                .map(|all| all.into_iter().map(|it| (it.route.path, it.query)).collect::<Vec<_>>())
        };
        let limit = vec![("limit".to_owned(), "5".to_owned())];
        assert_eq!(
            read(&["health/status", "oplog/entries?limit=5"]).unwrap(),
            [("health/status", vec![]), ("oplog/entries", limit)]
        );
        for wanted in [&[][..], &["nope"], &["health/status?\n"], &["agent/status"; FOLLOWED + 1]] {
            assert_eq!(read(wanted).unwrap_err().code, "FOLLOW_INVALID", "{wanted:?}");
        }
    }
}
