//! Tables and small stories of health.

mod life;
