//! The pure kernel of GENESIS: numbers in, numbers out. No IO, no clock, no async.

mod quantile;

pub use quantile::quantile;
