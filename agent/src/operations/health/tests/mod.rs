//! Tables and small stories of health.

mod gates;
mod life;
