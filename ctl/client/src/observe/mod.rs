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

#[cfg(test)]
mod tests;
mod wire;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use genesis_proto::v1::ObserveResponse;

use crate::Error;
use crate::push::{self, Buffer, Column};
pub use crate::push::{DEFAULT_WINDOW, PusherOptions, is_name, random_producer};
pub use wire::{Observations, Sums};

/// The most observations of a batch.
pub const BATCH_LIMIT: usize = 100_000;

/// Batches of observations on their way to an agent.
pub type ObserveStream = push::BatchStream<Observations>;

/// Sends observations in the background, as long as it lives. What is still kept when it is dropped is lost:
/// [`close`](push::Pusher::close) waits for it.
pub type Pusher = push::Pusher<Observations>;

/// What observes, for a [`Pusher`].
pub type Recorder = push::Recorder<Observations>;

/// What became of a batch.
#[derive(Debug, Clone)]
pub enum Settled {
    /// It is durable.
    Acknowledged {
        /// What the agent says of it.
        answer: ObserveResponse,
        /// How many observations it had.
        observations: u64,
        /// It was sent more than once, so that it is no wonder if the agent had it before.
        repeated: bool,
    },
    /// The agent takes nothing of it, whenever it is sent: it was dropped.
    Invalid {
        /// Its sequence.
        sequence: u64,
        /// How many observations it had.
        observations: u64,
        /// What the agent says of it.
        error: Error,
    },
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
            Ok(column) => self.buffer.take(&column, (at.into().0, seconds)),
            Err(error) => {
                self.buffer.refuse(error);
                false
            }
        }
    }
}

/// An operation whose calls are observed.
#[derive(Debug, Clone)]
pub struct Operation {
    buffer: Arc<Buffer<Observations>>,
    column: Arc<Column<Observations>>,
}

impl Operation {
    /// Notes that a call ended `at` a time, and took so many `seconds`. `false`: it was dropped, because there is no
    /// room; it is counted.
    pub fn observe(&self, at: impl Into<UnixNanos>, seconds: f64) -> bool {
        self.buffer.take(&self.column, (at.into().0, seconds))
    }
}
