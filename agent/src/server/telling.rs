//! What streams and lists of answers have in common: nobody holds one up by not reading, and no message is too large.

use std::pin::Pin;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::status::to_status;
use crate::error::{Error, Result as Outcome};

/// Who does not read for so long is cut off.
const PATIENCE: Duration = Duration::from_secs(30);
/// A list has at most so many bytes, of the 4 MiB that a client takes.
const MESSAGE: usize = 3 << 20;

/// Answers, one after the other.
pub type Telling<T> = Pin<Box<ReceiverStream<Result<T, Status>>>>;

/// Tells something; `false`: nobody hears any more, or somebody did not read for long, who is told so.
pub async fn tell<T>(sender: &mpsc::Sender<Result<T, Status>>, news: T) -> bool {
    match timeout(PATIENCE, sender.send(Ok(news))).await {
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

/// Passes on the parts that another one makes, as answers. Where nobody hears any more, or somebody takes nothing for
/// `patience`, who makes them is let go at once, and so gives back what is held for it.
pub fn passed_on<P, T>(
    mut parts: mpsc::Receiver<Outcome<P>>,
    patience: Duration,
    answer: impl Fn(P) -> T + Send + 'static,
) -> ReceiverStream<Result<T, Status>>
where
    P: Send + 'static,
    T: Send + 'static,
{
    let (sender, answers) = mpsc::channel(1);
    tokio::spawn(async move {
        loop {
            let part = tokio::select! {
                part = parts.recv() => part,
                () = sender.closed() => return,
            };
            let Some(part) = part else { return };
            let part = part.map(&answer).map_err(to_status);
            match timeout(patience, sender.send(part)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return,
                Err(_) => break,
            }
        }
        drop(parts);
        let message = format!("nothing was read for {} s; ask again", patience.as_secs());
        // It comes once what waits is read, or the caller has left.
        let _ = sender.send(Err(to_status(Error::unavailable("READER_SLOW", message)))).await;
    });
    ReceiverStream::new(answers)
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

#[cfg(test)]
mod tests {
    use tokio_stream::StreamExt as _;

    use super::*;

    #[tokio::test]
    async fn who_reads_nothing_holds_nobody() {
        const LONG: Duration = Duration::from_secs(3);
        let (to, parts) = mpsc::channel(1);
        let mut answers = passed_on(parts, LONG, |part: u32| part + 1);
        to.send(Ok(1)).await.unwrap();
        assert_eq!(answers.next().await.unwrap().unwrap(), 2);
        // Somebody who pauses misses nothing.
        let all = async {
            for part in 2..6 {
                to.send(Ok(part)).await.unwrap();
            }
        };
        let slowly = async {
            for answer in 3..7 {
                tokio::time::sleep(LONG / 6).await;
                assert_eq!(answers.next().await.unwrap().unwrap(), answer);
            }
        };
        tokio::join!(all, slowly);
        // Who stops for good is let go, and told why once it reads again.
        let ended = async { while to.send(Ok(7)).await.is_ok() {} };
        timeout(LONG * 20, ended).await.expect("what is made is let go");
        assert_eq!(answers.next().await.unwrap().unwrap(), 8);
        let told = answers.next().await.unwrap().unwrap_err();
        assert_eq!(told.code(), tonic::Code::Unavailable);
        assert!(answers.next().await.is_none());
    }

    #[tokio::test]
    async fn who_leaves_is_noticed_between_two_parts() {
        let (to, parts) = mpsc::channel::<Outcome<u32>>(1);
        drop(passed_on(parts, Duration::from_secs(300), |part| part));
        timeout(Duration::from_secs(20), to.closed()).await.expect("nobody hears");
    }
}
