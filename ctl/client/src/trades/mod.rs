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

use genesis_proto::v1::{Arm, RecordTradesResponse};

use crate::push;
pub use crate::push::{DEFAULT_WINDOW, PusherOptions, UnixNanos, is_name, random_producer};
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

/// An experiment whose trades are reported.
pub type ExperimentTrades = push::Named<Trades>;

/// What became of a batch.
pub type Settled = push::Settled<RecordTradesResponse>;

/// What became of the trades so far.
pub type TradeStats = push::Stats<Sums>;

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

impl TradeRecorder {
    /// An experiment, to be reported to without a look-up.
    ///
    /// # Errors
    /// `Invalid` when `id` is not 1 to 128 of a-z, A-Z, 0-9 and -_.:/ or the experiments are more than 10,000.
    pub fn experiment(&self, id: &str) -> Result<ExperimentTrades, Error> {
        self.named(id)
    }

    /// Reports a trade of the experiment `id`. `false`: it was dropped, because there is no room or it could not count;
    /// it is counted as such.
    pub fn report(&self, id: &str, trade: Trade) -> bool {
        match trade.check() {
            Ok(()) => self.take(id, trade),
            Err(error) => self.refuse(error),
        }
    }
}

impl ExperimentTrades {
    /// Reports a trade. `false`: it was dropped, because there is no room or it could not count; it is counted as such.
    pub fn report(&self, trade: Trade) -> bool {
        match trade.check() {
            Ok(()) => self.take(trade),
            Err(error) => self.refuse(error),
        }
    }
}
