//! What the measurements share.

pub(crate) mod cpu;
pub(crate) mod trading_log;
