//! What [`crate::observe`], [`crate::trades`], [`crate::series`] and the outcomes of [`crate::matrices`] have in common:
//! batches of a producer on their way to an agent, and a pusher in the background that makes nobody wait.
//!
//! A batch is kept until the agent says that it is durable. When the connection breaks, those that were not answered
//! are sent again under the same producer and sequence, by which the agent knows those it has: each counts once, also
//! over restarts of the agent.

mod buffer;
mod stream;
mod task;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status, Streaming};

use crate::target::Target;
use crate::{Client, Error, Node, Options};
use buffer::{Buffer, Column};
pub use stream::{BatchStream, DEFAULT_WINDOW};
use task::Task;

/// How long taking leave of the agent may take.
const GOODBYE: Duration = Duration::from_secs(3);

/// An rpc that takes batches in and answers each once it is durable. Implemented by
/// [`Observations`](crate::observe::Observations), [`Trades`](crate::trades::Trades), [`Values`](crate::series::Values)
/// and [`Outcomes`](crate::matrices::Outcomes), and meant for no others.
pub trait Wire: fmt::Debug + Clone + Send + Sync + 'static {
    /// One of what is sent.
    type Item: fmt::Debug + Send + 'static;
    /// Those of one name, as they are sent.
    type Column: Send + 'static;
    /// A batch.
    type Request: Clone + Send + 'static;
    /// What the agent says of a batch.
    type Answer: fmt::Debug + Send + 'static;
    /// What the agent has said of all batches.
    type Sums: fmt::Debug + Clone + Default + Send;

    /// What the items are called, such as "observations".
    const WHAT: &'static str;
    /// The most items of a pusher's batch: as the agent takes them, and as fit into a message.
    const MOST: usize;

    /// A batch of these columns.
    fn request(producer: String, sequence: u64, columns: Vec<Self::Column>) -> Self::Request;
    /// Calls the rpc.
    fn open(
        client: Client,
        batches: ReceiverStream<Self::Request>,
    ) -> impl Future<Output = Result<Response<Streaming<Self::Answer>>, Status>> + Send;
    /// How many items a column has.
    fn rows(column: &Self::Column) -> u64;
    /// Which batch an answer is about.
    fn sequence(answer: &Self::Answer) -> u64;
    /// Whether the agent had the batch before.
    fn had_before(answer: &Self::Answer) -> bool;
    /// Makes a column of its items.
    fn column(name: &str, items: Vec<Self::Item>) -> Self::Column;
    /// Refuses what is no name of a column.
    ///
    /// # Errors
    /// `Invalid`, and why.
    fn check(name: &str) -> Result<(), Error>;
    /// Why there is no room for one more column beside so many.
    fn crowded(name: &str, most: usize) -> Error;
    /// Adds what the agent has said of a batch.
    fn add(sums: &mut Self::Sums, answer: &Self::Answer);
}

/// What became of a batch, of which the agent says an `A`. Its rows are what it had: observations, trades, values.
#[derive(Debug, Clone)]
pub enum Settled<A> {
    /// It is durable.
    Acknowledged {
        /// What the agent says of it.
        answer: A,
        /// How many rows it had.
        rows: u64,
        /// It was sent more than once, so that it is no wonder if the agent had it before.
        repeated: bool,
    },
    /// The agent takes nothing of it, whenever it is sent: it was dropped.
    Invalid {
        /// Its sequence.
        sequence: u64,
        /// How many rows it had.
        rows: u64,
        /// What the agent says of it.
        error: Error,
    },
}

/// What became so far of what a [`Pusher`] took: observations, trades, values.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Stats<S> {
    /// Those that are kept: not yet sent, or sent and not answered.
    pub buffered: u64,
    /// Those that were sent, each once, however often that was.
    pub sent: u64,
    /// Those of batches that are durable.
    pub acknowledged: u64,
    /// Of these, those of batches that the agent had before, of which it says no more.
    pub had_before: u64,
    /// What the agent says of the others.
    pub answered: S,
    /// Those of batches that the agent refuses whenever they are sent.
    pub invalid: u64,
    /// Those that were not kept: there was no room, or they could not count.
    pub dropped: u64,
    /// How often the stream was opened again.
    pub reconnects: u64,
    /// What went wrong last, even if it is over.
    pub last_error: Option<Error>,
}

/// When something was, in nanoseconds since 1970, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnixNanos(pub i64);

impl From<i64> for UnixNanos {
    fn from(nanos: i64) -> Self {
        Self(nanos)
    }
}

impl From<SystemTime> for UnixNanos {
    fn from(at: SystemTime) -> Self {
        let whole = |length: Duration| i64::try_from(length.as_nanos()).unwrap_or(i64::MAX);
        match at.duration_since(UNIX_EPOCH) {
            Ok(since) => Self(whole(since)),
            Err(before) => Self(-whole(before.duration())),
        }
    }
}

/// How a [`Pusher`] works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PusherOptions {
    /// Who sends: 1 to 64 of a-z, A-Z, 0-9 and -_.:/ `None`: a new one by chance, which is right for almost all.
    ///
    /// The agent counts nothing of a producer whose sequence it has had, so that one of a fixed name must go on where
    /// it ended, see [`Self::first_sequence`].
    pub producer: Option<String>,
    /// The sequence of the first batch, above all that this producer has ever sent.
    pub first_sequence: u64,
    /// So many observations, trades or values are kept at most, those that were sent and not answered included. An
    /// observation, a value and an outcome take 16 bytes, a trade some 150 with its texts, and those that are on their way
    /// twice as much.
    pub capacity: usize,
    /// So many a batch has at most.
    pub batch: usize,
    /// How long one waits for others at most, before it is sent.
    pub linger: Duration,
    /// So many batches are on their way at most.
    pub in_flight: usize,
    /// Why, for the entry of the stream in the agent's operation log. Empty: as the client has it.
    pub reason: String,
}

impl Default for PusherOptions {
    fn default() -> Self {
        Self {
            producer: None,
            first_sequence: 1,
            capacity: 1_000_000,
            batch: 10_000,
            linger: Duration::from_millis(200),
            in_flight: DEFAULT_WINDOW,
            reason: String::new(),
        }
    }
}

/// Sends in the background, as long as it lives. What is still kept when it is dropped is lost: [`Pusher::close`]
/// waits for it.
#[derive(Debug)]
pub struct Pusher<W: Wire> {
    buffer: Arc<Buffer<W>>,
    producer: String,
    flushes: mpsc::UnboundedSender<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl<W: Wire> Pusher<W> {
    /// Sends over the connection of `client`. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// `Invalid` when the producer or the reason can't be sent.
    pub fn start(client: Client, options: PusherOptions) -> Result<Self, Error> {
        let client = match options.reason.as_str() {
            "" => client,
            reason => client.with_reason(reason)?,
        };
        Self::spawn(Target::Connected(Box::new(client)), options)
    }

    /// Sends to the agent at `node`, which need not be there yet. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// `Invalid` when the producer can't be sent.
    pub fn follow(node: Node, client: Options, options: PusherOptions) -> Result<Self, Error> {
        let reason = Some(options.reason.clone()).filter(|reason| !reason.is_empty());
        let client = Options { reason: reason.unwrap_or(client.reason.clone()), ..client };
        Self::spawn(Target::Node(node, Box::new(client)), options)
    }

    fn spawn(target: Target, options: PusherOptions) -> Result<Self, Error> {
        let PusherOptions { producer, first_sequence, capacity, batch, linger, in_flight, .. } =
            options;
        let producer = match producer {
            Some(producer) => named(producer)?,
            None => random_producer()?,
        };
        let buffer = Arc::new(Buffer::new(capacity, batch.clamp(1, W::MOST)));
        let (flushes, received) = mpsc::unbounded_channel();
        let task = Task {
            buffer: buffer.clone(),
            producer: producer.clone(),
            first_sequence,
            window: in_flight,
            linger,
            flushes: received,
        };
        Ok(Self { buffer, producer, flushes, task: tokio::spawn(task.run(target)) })
    }

    /// What takes in. Clones are cheap, and may outlive the pusher; then nothing is kept any more.
    pub fn handle(&self) -> Recorder<W> {
        Recorder { buffer: self.buffer.clone() }
    }

    /// Who sends.
    pub fn producer(&self) -> &str {
        &self.producer
    }

    /// What became of what was taken so far.
    pub fn stats(&self) -> Stats<W::Sums> {
        self.buffer.stats()
    }

    /// Waits until all that was taken before is acknowledged, or refused for good.
    ///
    /// # Errors
    /// `Incomplete` when that takes longer than `timeout`. All is kept.
    pub async fn flush(&self, timeout: Duration) -> Result<(), Error> {
        let (done, answered) = oneshot::channel();
        let asked = self.flushes.send(done).is_ok();
        match tokio::time::timeout(timeout, answered).await {
            Ok(Ok(())) if asked => Ok(()),
            _ => Err(task::unanswered(&self.buffer, timeout)),
        }
    }

    /// Takes no more, waits until what was taken is acknowledged, at most for `timeout`, and ends the stream. What is
    /// told as buffered then is lost.
    pub async fn close(mut self, timeout: Duration) -> Stats<W::Sums> {
        self.buffer.close();
        if let Err(error) = self.flush(timeout).await
            && self.buffer.stats().last_error.is_none()
        {
            self.buffer.failed(error);
        }
        let stats = self.buffer.stats();
        if stats.sent > 0 {
            // Without anybody to ask for a flush it takes its leave of the agent.
            (self.flushes, _) = mpsc::unbounded_channel();
            let _ = tokio::time::timeout(GOODBYE, &mut self.task).await;
        }
        stats
    }
}

impl<W: Wire> Drop for Pusher<W> {
    fn drop(&mut self) {
        self.buffer.close();
        self.task.abort();
    }
}

/// What takes in, for a [`Pusher`].
#[derive(Debug, Clone)]
pub struct Recorder<W: Wire> {
    buffer: Arc<Buffer<W>>,
}

impl<W: Wire> Recorder<W> {
    /// Whether the pusher is gone, so that nothing is kept any more.
    pub fn is_closed(&self) -> bool {
        self.buffer.is_closed()
    }

    /// What takes in under one name, without a look-up.
    pub(crate) fn named(&self, name: &str) -> Result<Named<W>, Error> {
        Ok(Named { buffer: self.buffer.clone(), column: self.buffer.column(name)? })
    }

    /// Takes one of this name. `false`: it was dropped, and counted as such.
    pub(crate) fn take(&self, name: &str, item: W::Item) -> bool {
        match self.buffer.column(name) {
            Ok(column) => self.buffer.take(&column, item),
            Err(error) => self.buffer.refuse(error),
        }
    }

    /// Counts one that can't be taken; always `false`.
    pub(crate) fn refuse(&self, error: Error) -> bool {
        self.buffer.refuse(error)
    }
}

/// What takes in under one name, for a [`Pusher`].
#[derive(Debug, Clone)]
pub struct Named<W: Wire> {
    buffer: Arc<Buffer<W>>,
    column: Arc<Column<W>>,
}

impl<W: Wire> Named<W> {
    /// Takes one. `false`: it was dropped, and counted as such.
    pub(crate) fn take(&self, item: W::Item) -> bool {
        self.buffer.take(&self.column, item)
    }

    /// Counts one that can't be taken; always `false`.
    pub(crate) fn refuse(&self, error: Error) -> bool {
        self.buffer.refuse(error)
    }
}

/// Whether `text` can name an operation or an experiment (at most 128 bytes), a series or a producer (at most 64).
pub fn is_name(text: &str, most: usize) -> bool {
    (1..=most).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:/".contains(&byte))
}

fn named(producer: String) -> Result<String, Error> {
    if is_name(&producer, 64) {
        return Ok(producer);
    }
    let message = format!("the producer {producer:?} is not 1 to 64 of a-z, A-Z, 0-9 and -_.:/");
    Err(Error::invalid("PRODUCER_INVALID", message, "choose another name for it"))
}

/// A producer that nobody else is: 128 bits by chance, from the operating system.
///
/// # Errors
/// `Internal` when the operating system has none.
pub fn random_producer() -> Result<String, Error> {
    let mut bits = [0; 16];
    let got = rustix::rand::getrandom(&mut bits, rustix::rand::GetRandomFlags::empty());
    if got == Ok(bits.len()) {
        return Ok(format!("{:032x}", u128::from_be_bytes(bits)));
    }
    let message = "the operating system gives no random bits";
    let next = "name the producer yourself";
    Err(Error::new(crate::Kind::Internal, "INTERNAL", "NO_RANDOM_BITS", message, next))
}
