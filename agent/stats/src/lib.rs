//! The pure kernel of GENESIS: numbers in, numbers out. No IO, no clock, no async.

mod cusum;
mod quantile;
mod ramp;

pub use cusum::{Cusum, LEAST_EXPECTED, Usual, exceedance_z, threshold};
pub use quantile::quantile;
pub use ramp::{Progress, Ramp, open_for};
