//! Tables of what is refused, and stories of experiments under a clock that the test moves.

mod fleet;
mod fleet_pure;
mod odd;
mod pure;
mod stories;
mod world;
