//! A trading system on paper: `genesis-agent paper-venue` serves `genesis.trading.v1.TradingControl` with real books of
//! orders and positions, for tests, for practice in staging and for the demo.
//!
//! It witnesses what an emergency has done: its book says what was traded, by which order. So it is strict (an order that
//! would do more than reduce is not taken, an id never trades twice) and keeps each change on disk before it answers.
//! Faults from a file make it as bad as venues can be. It knows nothing of the agent and never opens its state.

pub mod args;
mod book;
mod desk;
mod faults;
mod keep;
mod practice;
mod quantity;
mod rpc;
mod serve;
#[cfg(test)]
mod tests;
mod venue;

pub use practice::Practice;
pub use serve::run;
