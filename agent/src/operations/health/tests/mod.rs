//! Tables and small stories of health.

mod config;
mod gates;
mod holds;
pub(crate) mod host;
mod judging;
mod life;
mod stories;
mod told;
