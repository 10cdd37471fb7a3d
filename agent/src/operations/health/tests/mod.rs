//! Tables and small stories of health.

mod config;
mod gates;
mod host;
mod judging;
mod life;
mod stories;
