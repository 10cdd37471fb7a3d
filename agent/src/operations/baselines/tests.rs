//! Tables of the decisions, and stories of observed operations under a clock that the test moves.

mod calls;
mod exposition;
mod native;
mod otlp;
mod pure;
mod source;
mod stories;
mod world;
