//! Tells the agent what each trade earned, by which A/B tests of strategies are decided.
//!
//! A [`TradePusher`] keeps what its [`TradeRecorder`]s report, and sends it in the background, in batches. Reporting
//! never waits and never fails. When more is reported than the agent takes, or while it is away for long, the newest
//! trades are dropped and counted; [`TradeStats`] says how many.
//!
//! A batch is kept until the agent says that it is durable. When the connection breaks, those that were not answered
//! are sent again, and the agent knows those it has. Beyond that each trade's id counts once, whoever sends it: what a
//! program is not sure to have reported it may report again.
//!
//! ```no_run
//! # async fn example(client: genesis_client::Client) -> Result<(), genesis_client::Error> {
//! use std::time::{Duration, SystemTime};
//! use genesis_client::trades::{Trade, TradePusher, options};
//!
//! let pusher = TradePusher::start(client, options())?;
//! let recorder = pusher.handle();
//! // The agent knows in which arm the account is.
//! let trade = Trade::of_unit("fill-8812", SystemTime::now(), 12.5, "account-7");
//! assert!(recorder.report("TEST_3", trade));
//! let stats = pusher.close(Duration::from_secs(5)).await;
//! assert_eq!(stats.dropped, 0);
//! # Ok(())
//! # }
//! ```
//!
//! [`TradeStream`] is the layer below, for programs that would rather wait than drop, such as `genesisctl trades push`.

#[cfg(test)]
mod tests;
mod wire;

use std::sync::Arc;

use genesis_proto::v1::{Arm, RecordTradesResponse};

pub use crate::observe::UnixNanos;
use crate::push::{self, Buffer, Column};
pub use crate::push::{DEFAULT_WINDOW, PusherOptions, is_name, random_producer};
use crate::{Error, Kind};
pub use wire::{Sums, Trades};

/// The most trades of a batch.
pub const BATCH_LIMIT: usize = 100_000;
/// The longest id of a trade, in bytes.
pub const TRADE_ID_LIMIT: usize = 128;
/// The longest name of a unit, in bytes.
pub const UNIT_LIMIT: usize = 256;

/// Batches of trades on their way to an agent.
pub type TradeStream = push::BatchStream<Trades>;

/// Sends trades in the background, as long as it lives. What is still kept when it is dropped is lost:
/// [`close`](push::Pusher::close) waits for it.
pub type TradePusher = push::Pusher<Trades>;

/// What reports, for a [`TradePusher`].
pub type TradeRecorder = push::Recorder<Trades>;

/// How a [`TradePusher`] works, unless it is told otherwise: as one of observations, but keeps at most 100,000 trades,
/// which take more room.
pub fn options() -> PusherOptions {
    PusherOptions { capacity: 100_000, ..PusherOptions::default() }
}

/// A trade that has ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Trade {
    /// 1 to 128 bytes, and one of a kind: it counts once.
    pub id: String,
    /// When it ended.
    pub at: UnixNanos,
    /// What it earned, in whatever unit, the same for all of the experiment.
    pub pnl: f64,
    /// Whose it was; where no arm is given, its assignment counts. Empty: nobody's.
    pub unit: String,
    /// In which arm it was. Unspecified: that of the unit.
    pub arm: Arm,
}

impl Trade {
    /// One of a unit (an account, a session, an order flow), whose assignment says in which arm it was.
    pub fn of_unit(
        id: impl Into<String>,
        at: impl Into<UnixNanos>,
        pnl: f64,
        unit: impl Into<String>,
    ) -> Self {
        let (id, at, unit) = (id.into(), at.into(), unit.into());
        Self { id, at, pnl, unit, arm: Arm::Unspecified }
    }

    /// One of an arm, for programs that assign by themselves.
    pub fn of_arm(id: impl Into<String>, at: impl Into<UnixNanos>, pnl: f64, arm: Arm) -> Self {
        Self { id: id.into(), at: at.into(), pnl, unit: String::new(), arm }
    }

    /// What makes it one that can't count.
    fn check(&self) -> Result<(), Error> {
        let id = (1..=TRADE_ID_LIMIT).contains(&self.id.len());
        let unit = self.unit.len() <= UNIT_LIMIT;
        let assigned = !self.unit.is_empty() || self.arm != Arm::Unspecified;
        let why = match (id, unit, assigned) {
            (false, ..) => "its id is not 1 to 128 bytes",
            (_, false, _) => "its unit is longer than 256 bytes",
            (.., false) => "it has neither a unit nor an arm",
            _ if !self.pnl.is_finite() => "what it earned is no number",
            _ => return Ok(()),
        };
        let next = "see the documentation of genesis_client::trades::Trade";
        Err(Error::new(Kind::Invalid, "INVALID_ARGUMENT", "TRADE_INVALID", why, next))
    }
}

/// What became of a batch.
#[derive(Debug, Clone)]
pub enum Settled {
    /// It is durable.
    Acknowledged {
        /// What the agent says of it.
        answer: RecordTradesResponse,
        /// How many trades it had.
        trades: u64,
        /// It was sent more than once, so that it is no wonder if the agent had it before.
        repeated: bool,
    },
    /// The agent takes nothing of it, whenever it is sent: it was dropped.
    Invalid {
        /// Its sequence.
        sequence: u64,
        /// How many trades it had.
        trades: u64,
        /// What the agent says of it.
        error: Error,
    },
}

/// What became of the trades so far.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct TradeStats {
    /// Those that are kept: not yet sent, or sent and not answered.
    pub buffered: u64,
    /// Those that were sent, each once, however often that was.
    pub sent: u64,
    /// Those of batches that are durable.
    pub acknowledged: u64,
    /// Of these, those of batches that the agent had before.
    pub had_before: u64,
    /// Those that count.
    pub counted: u64,
    /// Those whose id was there before.
    pub duplicate: u64,
    /// Those that are older than what ids are kept of, or than the experiment.
    pub late: u64,
    /// Those that are none for the agent.
    pub rejected: u64,
    /// Those of experiments that have ended.
    pub after_end: u64,
    /// Those of experiments that the agent does not know.
    pub unknown: u64,
    /// Those of batches that the agent refuses whenever they are sent.
    pub invalid: u64,
    /// Those that were not kept: there was no room, or they could not count.
    pub dropped: u64,
    /// How often the stream was opened again.
    pub reconnects: u64,
    /// What went wrong last, even if it is over.
    pub last_error: Option<Error>,
}

impl TradeRecorder {
    /// An experiment, to be reported to without a look-up.
    ///
    /// # Errors
    /// `Invalid` when `id` is not 1 to 128 of a-z, A-Z, 0-9 and -_.:/ or the experiments are more than 10,000.
    pub fn experiment(&self, id: &str) -> Result<ExperimentTrades, Error> {
        Ok(ExperimentTrades { buffer: self.buffer.clone(), column: self.buffer.column(id)? })
    }

    /// Reports a trade of the experiment `id`. `false`: it was dropped, because there is no room or it could not count;
    /// it is counted as such.
    pub fn report(&self, id: &str, trade: Trade) -> bool {
        match self.buffer.column(id) {
            Ok(column) => report(&self.buffer, &column, trade),
            Err(error) => {
                self.buffer.refuse(error);
                false
            }
        }
    }
}

/// An experiment whose trades are reported.
#[derive(Debug, Clone)]
pub struct ExperimentTrades {
    buffer: Arc<Buffer<Trades>>,
    column: Arc<Column<Trades>>,
}

impl ExperimentTrades {
    /// Reports a trade. `false`: it was dropped, because there is no room or it could not count; it is counted as such.
    pub fn report(&self, trade: Trade) -> bool {
        report(&self.buffer, &self.column, trade)
    }
}

fn report(buffer: &Buffer<Trades>, column: &Arc<Column<Trades>>, trade: Trade) -> bool {
    match trade.check() {
        Ok(()) => buffer.take(column, trade),
        Err(error) => {
            buffer.refuse(error);
            false
        }
    }
}
