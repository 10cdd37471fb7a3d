//! What changes, as it changes: pages of JSON that a browser follows, by server-sent events.

use std::convert::Infallible;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::future::join_all;
use http::HeaderValue;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::connection::Peer;
use super::gateway::{Asked, Gateway};
use super::pages::{Failure, explain};
use super::routes::{Route, find};
use super::status::to_status;
use crate::error::{Error, Result};
use crate::trace::Trace;

/// So many pages one stream follows.
pub(super) const FOLLOWED: usize = 8;
/// So many streams there are at a time.
pub(super) const STREAMS: usize = 16;
/// How often what is followed is looked at.
const LOOK: Duration = Duration::from_secs(2);
/// A stream without news says that it is there.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// A reader who takes nothing for so long is left. What sockets hold for one makes it two heartbeats more.
const PATIENCE: Duration = Duration::from_secs(30);
/// What a page may take to be had; the others wait for it.
const LIMIT: Duration = Duration::from_secs(5);
/// A page of more bytes is not told: streams are held in memory.
const LARGEST: usize = 1 << 20;

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

/// Who looks, and by what.
pub(super) struct Looker {
    pub(super) gateway: Gateway,
    pub(super) peer: Peer,
}

/// A stream of what `wanted` shows: each page at once, and again whenever it has changed, until `stop`.
pub(super) fn stream(
    looker: Looker,
    wanted: &[String],
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
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        tokio::select! {
            () = look(looker, followed, &sender, place) => {}
            () = stop.cancelled() => {}
            () = sender.closed() => {}
        }
    });
    Sse::new(ReceiverStream::new(receiver)).into_response()
}

/// Looks until somebody does not read: then the place is another's.
async fn look(
    Looker { gateway, peer }: Looker,
    mut followed: Vec<Followed>,
    sender: &mpsc::Sender<Result<Event, Infallible>>,
    _place: OwnedSemaphorePermit,
) {
    // Somebody who looks on is not idle, whose connection may have to make room.
    let _open = peer.call();
    // All looks are one trace, of which no collector is told: it would hear of little else.
    let trace = HeaderValue::from_str(&Trace::begin().untold()).ok();
    let asked = Asked { peer, trace };
    let taken = async |event| matches!(timeout(PATIENCE, sender.send(Ok(event))).await, Ok(Ok(())));
    let mut silent = Duration::ZERO;
    loop {
        let looks = join_all(followed.iter().map(|page| seen(&gateway, page, &asked))).await;
        for (page, (name, text)) in followed.iter_mut().zip(looks) {
            let mut hasher = DefaultHasher::new();
            (&name, &text).hash(&mut hasher);
            let seen = hasher.finish();
            if page.told.replace(seen) == Some(seen) {
                continue;
            }
            // JSON has no line breaks of its own, so that it is one line of data.
            let event = Event::default().event(name).data(text);
            if !taken(event).await {
                return;
            }
            silent = Duration::ZERO;
        }
        // By the same way as what there is to tell: who does not take it does not read.
        if silent >= HEARTBEAT {
            if !taken(Event::default().comment("")).await {
                return;
            }
            silent = Duration::ZERO;
        }
        silent += LOOK;
        tokio::time::sleep(LOOK).await;
    }
}

/// The event of a page: what it says now, or why that can't be had.
async fn seen(gateway: &Gateway, page: &Followed, asked: &Asked) -> (String, String) {
    let late = || Status::deadline_exceeded(format!("not answered within {LIMIT:?}"));
    let answer = timeout(LIMIT, gateway.json(page.route, &page.query, asked)).await;
    let answer = answer.unwrap_or_else(|_| Err(late())).and_then(|answer| match answer.text.len() {
        0..=LARGEST => Ok(answer.text),
        _ => Err(to_status(Error::invalid(
            "ANSWER_TOO_LARGE",
            format!("a stream tells no more than {LARGEST} bytes at once; follow fewer, by its limit"),
        ))),
    });
    match answer {
        // It is made of texts.
        Ok(text) => (page.name.clone(), String::from_utf8_lossy(&text).into_owned()),
        Err(status) => {
            let mut said = explain(&status);
            said["follow"] = page.name.clone().into();
            // Another trace is no news.
            said["error"].as_object_mut().map(|it| it.remove("traceId"));
            ("error".to_owned(), said.to_string())
        }
    }
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
