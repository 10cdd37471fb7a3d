//! Tells the agent the values of series, such as prices, of which it calculates correlation matrices.
//!
//! A [`SeriesPusher`] keeps what its [`SeriesRecorder`]s report, and sends it in the background, in batches. Reporting
//! never waits and never fails. When more is reported than the agent takes, or while it is away for long, the newest
//! values are dropped and counted; [`SeriesStats`] says how many.
//!
//! A batch is kept until the agent says that it is durable. When the connection breaks, those that were not answered
//! are sent again, and the agent knows those it has. Of each series and bucket of time the last value counts, by the
//! time of the value, not by when it came.
//!
//! ```no_run
//! # async fn example(client: genesis_client::Client) -> Result<(), genesis_client::Error> {
//! use std::time::{Duration, SystemTime};
//! use genesis_client::series::{PusherOptions, SeriesPusher};
//!
//! let pusher = SeriesPusher::start(client, PusherOptions::default())?;
//! let btc = pusher.handle().series("BTC")?;
//! // With each tick.
//! btc.report(SystemTime::now(), 64_250.5);
//! let stats = pusher.close(Duration::from_secs(5)).await;
//! assert_eq!((stats.dropped, stats.answered.rejected), (0, 0));
//! # Ok(())
//! # }
//! ```
//!
//! [`SeriesStream`] is the layer below, for programs that would rather wait than drop, such as `genesisctl series push`.

#[cfg(test)]
mod tests;
mod wire;

use genesis_proto::v1::PushSeriesResponse;

use crate::Error;
use crate::push;
pub use crate::push::{DEFAULT_WINDOW, PusherOptions, UnixNanos, is_name, random_producer};
pub use wire::{Sums, Values};

/// The most values of a batch.
pub const BATCH_LIMIT: usize = 100_000;
/// The longest name of a series, in bytes.
pub const NAME_LIMIT: usize = 64;

/// Batches of values on their way to an agent.
pub type SeriesStream = push::BatchStream<Values>;

/// Sends values in the background, as long as it lives. What is still kept when it is dropped is lost:
/// [`close`](push::Pusher::close) waits for it.
pub type SeriesPusher = push::Pusher<Values>;

/// What reports, for a [`SeriesPusher`].
pub type SeriesRecorder = push::Recorder<Values>;

/// A series whose values are reported.
pub type SeriesValues = push::Named<Values>;

/// What became of a batch.
pub type Settled = push::Settled<PushSeriesResponse>;

/// What became of the values so far.
pub type SeriesStats = push::Stats<Sums>;

impl SeriesRecorder {
    /// A series, to be reported without a look-up.
    ///
    /// # Errors
    /// `Invalid` when `name` is not 1 to 64 of a-z, A-Z, 0-9 and -_.:/ or the series are more than 10,000.
    pub fn series(&self, name: &str) -> Result<SeriesValues, Error> {
        self.named(name)
    }

    /// Reports that the series `name` was at `value` `at` a time. What is no number says that the value is missing, which
    /// the agent counts. `false`: it was dropped, because there is no room or the name is none; it is counted.
    pub fn report(&self, name: &str, at: impl Into<UnixNanos>, value: f64) -> bool {
        self.take(name, (at.into().0, value))
    }
}

impl SeriesValues {
    /// Reports that the series was at `value` `at` a time. What is no number says that the value is missing, which the
    /// agent counts. `false`: it was dropped, because there is no room; it is counted.
    pub fn report(&self, at: impl Into<UnixNanos>, value: f64) -> bool {
        self.take((at.into().0, value))
    }
}
