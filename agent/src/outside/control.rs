//! The control of the trading system in an emergency: halt, cancel, close, look, resume. It is spoken to by gRPC, or by a
//! command that is given the same requests as JSON and prints the same answers.
//!
//! What an answer leaves open is an error: the one who asked for a venue hears of that venue, of every order that was
//! asked about, in decimal numbers, or hears nothing.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use genesis_storage::CloseOrderState;
use rust_decimal::Decimal;

use super::hooks::Hook;

mod answers;
mod ask;
mod grpc;
mod place;

pub use ask::RealDesk;
#[doc(hidden)]
pub use ask::{book_printed, orders_printed};
pub use place::same_place;

/// At most so many venues are taken care of.
pub const VENUES: usize = 64;
/// At most so many positions and orders are taken of one answer.
pub const LISTED: usize = 20_000;
/// So many orders go into one request.
pub const BATCH: usize = 1_000;

/// By what the trading system is controlled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Means {
    /// `genesis.trading.v1.TradingControl`.
    Grpc {
        /// "http://host:port", "https://host:port" or "unix:/path".
        target: String,
        /// PEM file of the authorities that may vouch for the server; `None` for those of the host.
        ca: Option<PathBuf>,
        /// How long an answer may take.
        timeout: Duration,
    },
    /// A command that reads `{"call": "Halt", "request": {...}}` and prints the response.
    Command(Hook),
}

/// A position that is not flat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// Where.
    pub venue: String,
    /// Of what.
    pub symbol: String,
    /// Negative: short.
    pub quantity: Decimal,
}

/// An order that is not terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenOrder {
    /// Where.
    pub venue: String,
    /// What it is known by; empty: it has no name that could be one of ours.
    pub id: String,
    /// It only protects a position.
    pub protective: bool,
}

/// What the venues have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Book {
    /// Those that are not flat.
    pub positions: Vec<Position>,
    /// Those that are out.
    pub orders: Vec<OpenOrder>,
    /// Venues that did not answer.
    pub unreachable: Vec<String>,
    /// Every venue that there is.
    pub venues: Vec<String>,
    /// Rows that were not understood: their venue, and why. What they say may be a position.
    pub odd: Vec<(String, String)>,
}

/// An order that takes a position down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// What it trades.
    pub symbol: String,
    /// What the venue knows it by.
    pub id: String,
    /// Negative sells.
    pub quantity: Decimal,
}

/// What became of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// What the venue knows it by.
    pub id: String,
    /// Never [`CloseOrderState::Intended`].
    pub state: CloseOrderState,
    /// What it has traded; negative: sold.
    pub filled: Decimal,
    /// What the venue said.
    pub why: String,
}

/// The trading system's control; tests put a fake here. Every call is idempotent, and takes no longer than its means
/// allow.
#[async_trait]
pub trait Desk: Send + Sync {
    /// Stops new orders; `Ok`: none leaves any more.
    ///
    /// # Errors
    /// Why that can't be told, in words.
    async fn halt(&self, by: &Means, epoch: u64, reason: &str) -> Result<(), String>;

    /// Cancels the orders at a venue; how many are left.
    ///
    /// # Errors
    /// As [`Desk::halt`].
    async fn cancel(
        &self,
        by: &Means,
        epoch: u64,
        venue: &str,
        protective_too: bool,
    ) -> Result<u64, String>;

    /// Sends at most [`BATCH`] orders that only reduce.
    ///
    /// # Errors
    /// As [`Desk::halt`]. Whether they were sent is not known then.
    async fn close(
        &self,
        by: &Means,
        epoch: u64,
        venue: &str,
        orders: &[Order],
    ) -> Result<Vec<Told>, String>;

    /// What became of at most [`BATCH`] orders.
    ///
    /// # Errors
    /// As [`Desk::halt`].
    async fn query(&self, by: &Means, venue: &str, ids: &[String]) -> Result<Vec<Told>, String>;

    /// What a venue has; with an empty name, what all have.
    ///
    /// # Errors
    /// As [`Desk::halt`]; also when the one venue that was asked for did not answer.
    async fn book(&self, by: &Means, venue: &str) -> Result<Book, String>;

    /// Lets new orders out again; `Ok`: it trades.
    ///
    /// # Errors
    /// As [`Desk::halt`].
    async fn resume(&self, by: &Means, epoch: u64, reason: &str) -> Result<(), String>;
}
