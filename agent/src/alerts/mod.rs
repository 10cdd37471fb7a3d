//! Alerts: people hear of each condition once, by the channel that fits, until it is over.

pub mod message;
