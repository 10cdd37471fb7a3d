//! What a caller sends whose call was refused: it is taken in for a moment.
//!
//! HTTP/2 as it is implemented here (h2 0.4.16 to 0.4.20) counts small messages against a budget of the connection, and gives
//! back what somebody reads or has not read yet, but not what comes in for a call that nobody reads any more. After some
//! hundred calls that were refused before their message had come, the connection would be ended (`too_many_data_frames`), and
//! with it all other calls of that client.

use std::time::Duration;

use http_body_util::BodyExt;
use tonic::body::Body;

/// For so long a refused caller is listened to; the message comes right behind the call, or hardly ever.
const MOMENT: Duration = Duration::from_millis(250);
/// More bytes than this are not taken in.
const MOST: usize = 64 << 10;

/// Reads what is sent with a call that was refused, in the background: its answer does not wait for that. A connection has no
/// more of these than it may have calls.
pub(super) fn hear_out(body: Body) {
    tokio::spawn(tokio::time::timeout(MOMENT, async move {
        let mut body = std::pin::pin!(body);
        let mut left = MOST;
        while let Some(Ok(frame)) = body.frame().await {
            let length = frame.data_ref().map_or(0, bytes::Bytes::len);
            left = match left.checked_sub(length) {
                Some(left) => left,
                None => return,
            };
        }
    }));
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;

    use http_body_util::StreamBody;
    use hyper::body::{Bytes, Frame};
    use hyper::service::service_fn;
    use hyper::{Request, Response};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use tokio::sync::{Semaphore, mpsc};
    use tokio_stream::wrappers::UnboundedReceiverStream;

    use super::*;

    /// All that can go on has gone on: everything here is on one thread, and nothing waits for a clock.
    async fn settle() {
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_connection_outlives_any_number_of_calls_that_were_refused() {
        let (near, far) = tokio::io::duplex(1 << 16);
        let answered = Arc::new(Semaphore::new(0));
        let may = Arc::clone(&answered);
        // A call is refused when its head is there, and the answer is on its way while the message comes in.
        let refuse = service_fn(move |request: Request<hyper::body::Incoming>| {
            hear_out(Body::new(request.into_body()));
            let may = Arc::clone(&may);
            async move {
                may.acquire().await.unwrap().forget();
                Ok::<_, Infallible>(Response::new(Body::empty()))
            }
        });
        let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(far), refuse);
        tokio::spawn(serving);
        let handshake =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(near));
        let (mut calls, connection) = handshake.await.unwrap();
        tokio::spawn(connection);
        for number in 0..5_000 {
            let (message, body) = mpsc::unbounded_channel::<Result<Frame<Bytes>, Infallible>>();
            let request = Request::post("http://agent/");
            let request = request.body(StreamBody::new(UnboundedReceiverStream::new(body)));
            let answer = tokio::spawn(calls.send_request(request.unwrap()));
            settle().await;
            message.send(Ok(Frame::data(Bytes::from_static(&[0; 5])))).unwrap();
            settle().await;
            answered.add_permits(1);
            let answer = answer.await.unwrap();
            assert!(answer.is_ok(), "the {number}th call: {answer:?}");
            drop(message);
        }
    }
}
