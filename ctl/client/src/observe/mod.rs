//! Tells the agent how long operations took, of which it makes performance baselines.
//!
//! A [`Pusher`] keeps what its [`Recorder`]s observe, and sends it in the background, in batches. Observing never waits
//! and never fails: some 30 ns where no other thread observes the same operation. It costs one addition and a lock of
//! the operation's own, which is held for two pushes; memory is made once for many observations. When more is observed
//! than the agent takes, or while it is away for long, the newest observations are dropped and counted; [`Stats`] says
//! how many.
//!
//! A batch is kept until the agent says that it is durable. When the connection breaks, those that were not answered
//! are sent again, and the agent knows those it has: each observation counts once, also over restarts of the agent.
//!
//! ```no_run
//! # async fn example(client: genesis_client::Client) -> Result<(), genesis_client::Error> {
//! use std::time::{Duration, Instant, SystemTime};
//! use genesis_client::observe::{Pusher, PusherOptions};
//!
//! let pusher = Pusher::start(client, PusherOptions::default())?;
//! let place = pusher.handle().operation("orders.place")?;
//! let began = Instant::now();
//! // An order is placed.
//! place.observe(SystemTime::now(), began.elapsed().as_secs_f64());
//! let stats = pusher.close(Duration::from_secs(5)).await;
//! assert_eq!(stats.dropped, 0);
//! # Ok(())
//! # }
//! ```
//!
//! [`ObserveStream`] is the layer below, for programs that would rather wait than drop, such as `genesisctl observe`.

mod buffer;
mod stream;
mod task;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::{Client, Error, Node, Options};
use buffer::{Buffer, Column};
pub use stream::{BATCH_LIMIT, DEFAULT_WINDOW, ObserveStream, Settled};
use task::{Target, Task};

/// How long taking leave of the agent may take.
const GOODBYE: Duration = Duration::from_secs(3);

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
    /// So many observations are kept at most, those that were sent and not answered included. Each takes 16 bytes, and
    /// those that are on their way twice as much.
    pub capacity: usize,
    /// So many observations a batch has at most.
    pub batch: usize,
    /// How long an observation waits for others at most, before it is sent.
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

/// What became of the observations so far.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Those that are kept: not yet sent, or sent and not answered.
    pub buffered: u64,
    /// Those that were sent, each once, however often that was.
    pub sent: u64,
    /// Those of batches that are durable.
    pub acknowledged: u64,
    /// Of these, those of batches that the agent had before.
    pub duplicate: u64,
    /// Those that count.
    pub counted: u64,
    /// Those whose value is none: negative, infinite, no number.
    pub rejected: u64,
    /// Those that were older than what the agent keeps.
    pub late: u64,
    /// Those that lay in the future, by the agent's clock.
    pub ahead: u64,
    /// Those of new operations for which the agent has no room.
    pub crowded_out: u64,
    /// Those of batches that the agent refuses whenever they are sent.
    pub invalid: u64,
    /// Those that were not kept: there was no room, or the operation's name is none.
    pub dropped: u64,
    /// How often the stream was opened again.
    pub reconnects: u64,
    /// What went wrong last, even if it is over.
    pub last_error: Option<Error>,
}

/// When something ended, in nanoseconds since 1970, UTC.
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

/// Sends observations in the background, as long as it lives. What is still kept when it is dropped is lost:
/// [`Pusher::close`] waits for it.
#[derive(Debug)]
pub struct Pusher {
    buffer: Arc<Buffer>,
    producer: String,
    flushes: mpsc::UnboundedSender<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Pusher {
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
        let buffer = Arc::new(Buffer::new(capacity, batch.clamp(1, BATCH_LIMIT)));
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

    /// What observes. Clones are cheap, and may outlive the pusher; then nothing is kept any more.
    pub fn handle(&self) -> Recorder {
        Recorder { buffer: self.buffer.clone() }
    }

    /// Who sends.
    pub fn producer(&self) -> &str {
        &self.producer
    }

    /// What became of the observations so far.
    pub fn stats(&self) -> Stats {
        self.buffer.stats()
    }

    /// Waits until all that was observed before is acknowledged, or refused for good.
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

    /// Takes no more, waits until what was observed is acknowledged, at most for `timeout`, and ends the stream. What
    /// is [`Stats::buffered`] then is lost.
    pub async fn close(mut self, timeout: Duration) -> Stats {
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

impl Drop for Pusher {
    fn drop(&mut self) {
        self.buffer.close();
        self.task.abort();
    }
}

/// What observes, for a [`Pusher`].
#[derive(Debug, Clone)]
pub struct Recorder {
    buffer: Arc<Buffer>,
}

impl Recorder {
    /// An operation, to be observed without a look-up.
    ///
    /// # Errors
    /// `Invalid` when `name` is not 1 to 128 of a-z, A-Z, 0-9 and -_.:/ or the operations are more than 10,000.
    pub fn operation(&self, name: &str) -> Result<Operation, Error> {
        Ok(Operation { buffer: self.buffer.clone(), column: self.buffer.column(name)? })
    }

    /// Notes that a call of the operation `name` ended `at` a time, and took so many `seconds`. `false`: it was
    /// dropped, because there is no room or the name is none; it is counted.
    pub fn observe(&self, name: &str, at: impl Into<UnixNanos>, seconds: f64) -> bool {
        match self.buffer.column(name) {
            Ok(column) => self.buffer.observe(&column, at.into().0, seconds),
            Err(error) => {
                self.buffer.refuse(error);
                false
            }
        }
    }

    /// Whether the pusher is gone, so that nothing is kept any more.
    pub fn is_closed(&self) -> bool {
        self.buffer.is_closed()
    }
}

/// An operation whose calls are observed.
#[derive(Debug, Clone)]
pub struct Operation {
    buffer: Arc<Buffer>,
    column: Arc<Column>,
}

impl Operation {
    /// Notes that a call ended `at` a time, and took so many `seconds`. `false`: it was dropped, because there is no
    /// room; it is counted.
    pub fn observe(&self, at: impl Into<UnixNanos>, seconds: f64) -> bool {
        self.buffer.observe(&self.column, at.into().0, seconds)
    }
}

/// Whether `text` can name an operation (at most 128 bytes) or a producer (at most 64).
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
