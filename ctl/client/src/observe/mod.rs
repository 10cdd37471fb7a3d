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

use genesis_proto::v1::ObserveResponse;

use crate::Error;
use crate::push;
pub use crate::push::{DEFAULT_WINDOW, PusherOptions, UnixNanos, is_name, random_producer};
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

/// An operation whose calls are observed.
pub type Operation = push::Named<Observations>;

/// What became of a batch.
pub type Settled = push::Settled<ObserveResponse>;

/// What became of the observations so far.
pub type Stats = push::Stats<Sums>;

impl Recorder {
    /// An operation, to be observed without a look-up.
    ///
    /// # Errors
    /// `Invalid` when `name` is not 1 to 128 of a-z, A-Z, 0-9 and -_.:/ or the operations are more than 10,000.
    pub fn operation(&self, name: &str) -> Result<Operation, Error> {
        self.named(name)
    }

    /// Notes that a call of the operation `name` ended `at` a time, and took so many `seconds`. `false`: it was
    /// dropped, because there is no room or the name is none; it is counted.
    pub fn observe(&self, name: &str, at: impl Into<UnixNanos>, seconds: f64) -> bool {
        self.take(name, (at.into().0, seconds))
    }
}

impl Operation {
    /// Notes that a call ended `at` a time, and took so many `seconds`. `false`: it was dropped, because there is no
    /// room; it is counted.
    pub fn observe(&self, at: impl Into<UnixNanos>, seconds: f64) -> bool {
        self.take((at.into().0, seconds))
    }
}
