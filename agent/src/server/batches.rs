//! Streams of batches in both directions: each batch is answered once it is durable, in order.

use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::caller::Caller;
use super::status::to_status;
use crate::batches::Stream;
use crate::error::{Error, Result};

/// So many batches of a stream wait for the disk; the next one is read when the first of them is durable.
const IN_FLIGHT: usize = 16;

/// Whoever takes batches in.
#[async_trait]
pub trait Taker: Send + Sync + 'static {
    /// What a client sends.
    type Request: Send + 'static;
    /// What it hears.
    type Response: Send + 'static;
    /// The same, parsed.
    type Batch: Send + 'static;
    /// What became of a batch.
    type Answer: Send + 'static;

    /// Parses a request.
    fn batch(request: Self::Request) -> Self::Batch;
    /// Who sends, and which of its batches.
    fn sender(batch: &Self::Batch) -> (&str, u64);
    /// What is wrong with it as a whole.
    fn wrong(batch: &Self::Batch) -> Option<String>;
    /// Begins a stream of a producer, for a caller with a reason.
    async fn begin(&self, producer: &str, who: (&str, &str)) -> Result<()>;
    /// Takes a batch in, in the order of the calls. Waits while the disk does.
    async fn take(
        &self,
        batch: Self::Batch,
        stream: &Stream,
    ) -> Result<oneshot::Receiver<Result<Self::Answer>>>;
    /// Tells what became of it.
    fn response(answer: Self::Answer) -> Self::Response;
}

type Waiting<T> = oneshot::Receiver<Result<<T as Taker>::Answer>>;

/// The answers to a stream of batches.
pub type Answers<T> = Pin<Box<ReceiverStream<Result<T, Status>>>>;

/// Serves a stream.
pub fn serve<T: Taker>(
    taker: Arc<T>,
    batches: Streaming<T::Request>,
    caller: Caller,
) -> Answers<T::Response> {
    let (waiting, answering) = mpsc::channel(IN_FLIGHT);
    let (answers, receiver) = mpsc::channel(IN_FLIGHT);
    tokio::spawn(take_all(taker, batches, caller, waiting));
    tokio::spawn(answer_all::<T>(answering, answers));
    Box::pin(ReceiverStream::new(receiver))
}

/// Takes the batches of a stream in, as fast as the disk takes them.
async fn take_all<T: Taker>(
    taker: Arc<T>,
    mut batches: Streaming<T::Request>,
    caller: Caller,
    waiting: mpsc::Sender<Result<Waiting<T>, Status>>,
) {
    let mut begun: Option<String> = None;
    let (stream, answered) = (Stream::default(), waiting.clone());
    loop {
        // Room first: what is not read waits with the sender.
        let Ok(place) = waiting.reserve().await else { return };
        let request = tokio::select! {
            request = batches.message() => request,
            // Nobody hears the answers any more.
            () = answered.closed() => return,
        };
        // How a client's stream breaks is the client's affair.
        let Ok(Some(request)) = request else { return };
        let batch = T::batch(request);
        let (producer, sequence) = T::sender(&batch);
        let invalid = |why: String| {
            to_status(Error::invalid("BATCH_INVALID", format!("batch {sequence}: {why}")))
        };
        if let Some(why) = T::wrong(&batch) {
            return place.send(Err(invalid(why)));
        }
        if let Some(begun) = begun.as_ref().filter(|begun| *begun != producer) {
            let why = format!("this stream is of the producer {begun}");
            return place.send(Err(invalid(why)));
        }
        if begun.is_none() {
            let who = (caller.identity.as_str(), caller.reason.as_str());
            if let Err(error) = taker.begin(producer, who).await {
                return place.send(Err(to_status(error)));
            }
            begun = Some(producer.to_owned());
        }
        match taker.take(batch, &stream).await {
            Ok(answer) => place.send(Ok(answer)),
            Err(error) => return place.send(Err(to_status(error))),
        }
    }
}

/// Answers the batches of a stream in their order.
async fn answer_all<T: Taker>(
    mut waiting: mpsc::Receiver<Result<Waiting<T>, Status>>,
    answers: mpsc::Sender<Result<T::Response, Status>>,
) {
    while let Some(next) = waiting.recv().await {
        let told = match next {
            Err(status) => Err(status),
            Ok(answer) => match answer.await {
                Ok(answer) => answer.map(T::response).map_err(to_status),
                Err(_) => Err(to_status(Error::unavailable(
                    "AGENT_STOPPING",
                    "the agent is stopping; what was not answered is to be sent again",
                ))),
            },
        };
        let over = told.is_err();
        if answers.send(told).await.is_err() || over {
            return;
        }
    }
}
