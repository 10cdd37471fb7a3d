//! What streams and lists of answers have in common: nobody holds one up by not reading, and no message is too large.

use std::pin::Pin;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::status::to_status;
use crate::error::Error;

/// Who does not read for so long is cut off.
const PATIENCE: Duration = Duration::from_secs(30);
/// A list has at most so many bytes, of the 4 MiB that a client takes.
const MESSAGE: usize = 3 << 20;

/// Answers, one after the other.
pub type Telling<T> = Pin<Box<ReceiverStream<Result<T, Status>>>>;

/// Tells something; `false`: nobody hears any more, or somebody did not read for long, who is told so.
pub async fn tell<T>(sender: &mpsc::Sender<Result<T, Status>>, news: T) -> bool {
    match tokio::time::timeout(PATIENCE, sender.send(Ok(news))).await {
        Ok(heard) => heard.is_ok(),
        Err(_) => {
            let message = "what is told was not read for 30 s, so that changes were missed; begin the stream again";
            let slow = to_status(Error::unavailable("READER_SLOW", message));
            // It comes once what waits is read, or the caller has left.
            let _ = sender.send(Err(slow)).await;
            false
        }
    }
}

/// As many as a message holds; whether there are more.
pub fn fitting<T: prost::Message>(all: impl Iterator<Item = T>) -> (Vec<T>, bool) {
    let (mut fit, mut bytes) = (Vec::new(), 0);
    for one in all {
        bytes += one.encoded_len() + 8;
        if bytes > MESSAGE {
            return (fit, true);
        }
        fit.push(one);
    }
    (fit, false)
}
