//! Tables of what is decided, and stories of series and matrices under a clock that the test moves.

mod pure;
mod sharing;
mod sharing_pure;
mod simulated;
mod stories;
mod trials;
mod world;
